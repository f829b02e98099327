/* SPDX-License-Identifier: Apache-2.0 */
#include "links.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "meter.h"

#define EVENTS 256
#define CHUNK (1u << 18) /* of one recv() */
#define SILENCE_MS 30000 /* nothing from any server for so long: it is over */
#define OPENING_MAX 32u  /* at once; a listening queue may be short */
#define FILES_MORE 64u
#define PINGS_IN_TIMEOUT 3

void load_die(const struct links *ls, const struct link *l, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "load: ");
    if (l != NULL)
        fprintf(stderr, "session %u on %s: ", l->number, ls->names[l->server]);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

/* ---- replies ---- */

int32_t link_ask(struct link *l, const struct buf *frame)
{
    size_t at = l->out.len;

    buf_add(&l->out, frame->data, frame->len);
    frame_number(&l->out, at, ++l->asked);
    return l->asked;
}

struct wire_reply_header link_reply(const struct links *ls, struct link *l, struct wire_in *in,
                                    int32_t err)
{
    struct wire_reply_header h;

    if (wire_reply_header_decode(&h, in) != 0)
        load_die(ls, l, "a reply of %zu bytes has no header", (size_t)(in->end - in->at));
    if (h.xid != l->answered + 1 || h.xid > l->asked)
        load_die(ls, l, "a reply to request %d, expected is one to %d (asked: %d)", (int)h.xid,
                 (int)l->answered + 1, (int)l->asked);
    if (h.err != err)
        load_die(ls, l, "the reply to request %d has error %d (%s), expected is %d", (int)h.xid,
                 (int)h.err, h.err == 0 ? "none" : err_text(h.err), (int)err);
    l->answered++;
    return h;
}

bool link_is_event(const uint8_t *frame, size_t len)
{
    return len >= 4 && (int32_t)be32_get(frame) == WIRE_XID_NOTIFICATION;
}

void link_event(const struct links *ls, const struct link *l, const uint8_t *frame, size_t len,
                int32_t type, struct wire_bytes path)
{
    struct wire_in in = wire_in(frame, len);
    struct wire_reply_header h;
    struct wire_watcher_event e;

    wire_reply_header_decode(&h, &in);
    if (wire_watcher_event_decode(&e, &in) != 0 || in.at != in.end)
        load_die(ls, l, "an event of %zu bytes cannot be read", len);
    if (e.type != type || e.state != WIRE_STATE_CONNECTED || e.path.len != path.len ||
        memcmp(e.path.data, path.data, (size_t)path.len) != 0)
        load_die(ls, l, "event %d, state %d, of %.*s, expected is event %d of %.*s",
                 (int)e.type, (int)e.state, (int)e.path.len, (const char *)e.path.data,
                 (int)type, (int)path.len, (const char *)path.data);
}

/* ---- connections ---- */

static void watch_room(struct links *ls, struct link *l, int how)
{
    struct epoll_event e = {.events = EPOLLIN | (l->is_full ? (uint32_t)EPOLLOUT : 0),
                            .data.ptr = l};

    if (epoll_ctl(ls->epoll, how, l->fd, &e) != 0)
        load_die(ls, l, "epoll_ctl: %s", strerror(errno));
}

void links_send(struct links *ls, struct link *l)
{
    bool was_full = l->is_full;

    while (l->out.len > 0) {
        ssize_t n = send(l->fd, l->out.data, l->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            load_die(ls, l, "send: %s", strerror(errno));
        buf_consume(&l->out, (size_t)n);
    }
    l->is_full = l->out.len > 0;
    if (!l->is_full)
        buf_clear(&l->out);
    if (l->is_full != was_full)
        watch_room(ls, l, EPOLL_CTL_MOD);
}

void links_open(struct links *ls, struct link *l)
{
    int on = 1;

    CHECK(l->state == LINK_CLOSED);
    l->state = LINK_ASKED;
    l->asked = l->answered = 0;
    l->opened_ns = l->spoke_ns = meter_now_ns();
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* On one machine this waits for nobody, as long as the listening queue has room. */
    if (l->fd < 0 || connect(l->fd, (const struct sockaddr *)&ls->servers[l->server],
                             sizeof ls->servers[0]) != 0)
        load_die(ls, l, "connect: %s", strerror(errno));
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    CHECK(fcntl(l->fd, F_SETFL, O_NONBLOCK) == 0);
    watch_room(ls, l, EPOLL_CTL_ADD);
    frame_connect(&l->out, ls->timeout_ms);
    links_send(ls, l);
}

/* With a reset, so that the port is free again at once. */
void links_close(struct links *ls, struct link *l)
{
    const struct linger now = {1, 0};

    if (l->state == LINK_CLOSED)
        return;
    ls->live -= l->state == LINK_LIVE;
    l->state = LINK_CLOSED;
    l->is_full = false;
    setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(l->fd);
    buf_clear(&l->out);
    buf_clear(&l->rest);
}

static void take_connected(struct links *ls, struct link *l, const uint8_t *frame, size_t len,
                           uint64_t now_ns)
{
    struct wire_in in = wire_in(frame, len);
    struct wire_connect_response r;

    if (wire_connect_response_decode(&r, &in) != 0 || r.session_id == 0 || r.timeout_ms <= 0)
        load_die(ls, l, "no session: the server refused it, or has no quorum");
    l->state = LINK_LIVE;
    ls->live++;
    if (ls->opened != NULL)
        ls->opened(ls->ctx, l, now_ns);
}

static void take_frame(struct links *ls, struct link *l, const uint8_t *frame, size_t len,
                       uint64_t now_ns)
{
    if (l->state == LINK_ASKED)
        take_connected(ls, l, frame, len, now_ns);
    else if (len < 4 || (int32_t)be32_get(frame) != WIRE_XID_PING)
        ls->take(ls->ctx, l, frame, len, now_ns);
}

static void receive(struct links *ls, struct link *l)
{
    size_t had = l->rest.len;

    if (had > 0)
        memcpy(ls->room, l->rest.data, had);
    buf_clear(&l->rest);
    ssize_t n = recv(l->fd, ls->room + had, CHUNK, 0);
    if (n < 0 && errno == EAGAIN)
        n = 0;
    else if (n <= 0)
        load_die(ls, l, "the server ended the connection: %s",
                 n == 0 ? "end of stream" : strerror(errno));
    const uint8_t *at = ls->room, *end = at + had + n;
    uint64_t now = meter_now_ns();
    while (end - at >= 4 && l->state != LINK_CLOSED) {
        size_t len = be32_get(at);
        if (len > LINKS_ROOM)
            load_die(ls, l, "a frame of %zu bytes is more than %u", len, LINKS_ROOM);
        if ((size_t)(end - at) - 4 < len)
            break;
        take_frame(ls, l, at + 4, len, now);
        at += 4 + len;
    }
    if (l->state == LINK_CLOSED)
        return;
    if (end > at)
        buf_add(&l->rest, at, (size_t)(end - at));
    if (l->out.len > 0) {
        l->spoke_ns = now;
        if (!l->is_full)
            links_send(ls, l);
    }
}

static void ping_silent(struct links *ls, uint64_t now_ns)
{
    const uint64_t after_ns = (uint64_t)ls->timeout_ms / PINGS_IN_TIMEOUT * 1000000u;

    if (now_ns - ls->swept_ns < after_ns / 2)
        return;
    ls->swept_ns = now_ns;
    for (unsigned i = 0; i < ls->n; i++) {
        struct link *l = &ls->all[i];
        if (l->state != LINK_LIVE || now_ns - l->spoke_ns < after_ns)
            continue;
        frame_ping(&l->out);
        l->spoke_ns = now_ns;
        links_send(ls, l);
    }
}

void links_turn(struct links *ls)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(ls->epoll, events, EVENTS, SILENCE_MS);

    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0)
        load_die(ls, NULL, "no server has answered anything for %d s", SILENCE_MS / 1000);
    for (int i = 0; i < n; i++) {
        struct link *l = events[i].data.ptr;
        if ((events[i].events & EPOLLOUT) != 0)
            links_send(ls, l);
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
            receive(ls, l);
    }
    ping_silent(ls, meter_now_ns());
}

void links_open_all(struct links *ls)
{
    unsigned next = 0;

    while (ls->live < ls->n) {
        while (next < ls->n && next - ls->live < OPENING_MAX)
            links_open(ls, &ls->all[next++]);
        links_turn(ls);
    }
}

/* ---- the servers' names ---- */

static void add_server(struct links *ls, const char *name)
{
    struct sockaddr_in *a = &ls->servers[ls->servers_n];
    char host[32];
    const char *colon = strrchr(name, ':');
    long port = colon != NULL ? strtol(colon + 1, NULL, 10) : 0;

    if (ls->servers_n == LINKS_SERVERS_MAX)
        load_die(ls, NULL, "more than %u servers", LINKS_SERVERS_MAX);
    if (colon == NULL || (size_t)(colon - name) >= sizeof host || port < 1 || port > 65535)
        load_die(ls, NULL, "%s is no IPv4 address with a port, such as 127.0.0.1:2181", name);
    memcpy(host, name, (size_t)(colon - name));
    host[colon - name] = 0;
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &a->sin_addr) != 1)
        load_die(ls, NULL, "%s is no IPv4 address with a port, such as 127.0.0.1:2181", name);
    snprintf(ls->names[ls->servers_n++], sizeof ls->names[0], "%s:%ld", host, port);
}

void links_init(struct links *ls, const char *servers, unsigned n, int timeout_ms)
{
    struct rlimit files;
    char *names = mem_dup_str(servers), *rest = names;

    *ls = (struct links){.n = n, .timeout_ms = timeout_ms, .swept_ns = meter_now_ns()};
    for (char *name; (name = strsep(&rest, ",")) != NULL;)
        add_server(ls, name);
    mem_free(names);
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < n + FILES_MORE) {
        files.rlim_cur = n + FILES_MORE;
        if (files.rlim_max < files.rlim_cur)
            files.rlim_max = files.rlim_cur;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0)
            load_die(ls, NULL, "%u open files are not allowed: %s; try ulimit -n",
                     n + FILES_MORE, strerror(errno));
    }
    ls->epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(ls->epoll >= 0);
    ls->all = mem_new_array(struct link, n);
    ls->room = mem_alloc(LINKS_ROOM + CHUNK);
    for (unsigned i = 0; i < n; i++) {
        ls->all[i].number = i;
        ls->all[i].server = i % ls->servers_n;
    }
}

void links_free(struct links *ls)
{
    for (unsigned i = 0; i < ls->n; i++) {
        links_close(ls, &ls->all[i]);
        buf_free(&ls->all[i].out);
        buf_free(&ls->all[i].rest);
    }
    close(ls->epoll);
    mem_free(ls->all);
    mem_free(ls->room);
}
