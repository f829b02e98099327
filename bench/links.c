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

static struct wire_bytes text(const char *s) { return wire_bytes(s, strlen(s)); }

/* ---- frames ---- */

static size_t begin(struct buf *out, enum wire_op op)
{
    const struct wire_request_header h = {0, op};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    return at;
}

void frame_create(struct buf *out, const char *path, const void *data, size_t len,
                  enum wire_create_mode mode)
{
    const struct wire_acl all = {WIRE_PERM_ALL, text("world"), text("anyone")};
    struct buf acl = {0};

    wire_acl_encode(&all, &acl);
    const struct wire_create_request q = {
        text(path), wire_bytes(data, len), {acl.data, acl.len, 1}, (int32_t)mode};
    size_t at = begin(out, WIRE_OP_CREATE);
    wire_create_request_encode(&q, out);
    wire_frame_end(out, at);
    buf_free(&acl);
}

void frame_delete(struct buf *out, const char *path)
{
    const struct wire_path_version_request q = {text(path), -1};
    size_t at = begin(out, WIRE_OP_DELETE);

    wire_path_version_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_set(struct buf *out, const char *path, const void *data, size_t len)
{
    const struct wire_set_data_request q = {text(path), wire_bytes(data, len), -1};
    size_t at = begin(out, WIRE_OP_SET_DATA);

    wire_set_data_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_path(struct buf *out, enum wire_op op, const char *path)
{
    const struct wire_path_request q = {text(path)};
    size_t at = begin(out, op);

    wire_path_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_read(struct buf *out, enum wire_op op, const char *path, bool watch)
{
    const struct wire_path_watch_request q = {text(path), watch};
    size_t at = begin(out, op);

    wire_path_watch_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_add_watch(struct buf *out, const char *path, int32_t mode)
{
    const struct wire_add_watch_request q = {text(path), mode};
    size_t at = begin(out, WIRE_OP_ADD_WATCH);

    wire_add_watch_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_multi_sets(struct buf *out, const char *const *paths, size_t n, const void *data,
                      size_t len)
{
    const struct wire_multi_header one = {WIRE_OP_SET_DATA, false, -1}, last = {-1, true, -1};
    size_t at = begin(out, WIRE_OP_MULTI);

    for (size_t i = 0; i < n; i++) {
        const struct wire_set_data_request q = {text(paths[i]), wire_bytes(data, len), -1};
        wire_multi_header_encode(&one, out);
        wire_set_data_request_encode(&q, out);
    }
    wire_multi_header_encode(&last, out);
    wire_frame_end(out, at);
}

void frame_close(struct buf *out)
{
    size_t at = begin(out, WIRE_OP_CLOSE_SESSION);

    wire_frame_end(out, at);
}

/* ---- replies ---- */

int32_t link_ask(struct link *l, const struct buf *frame)
{
    size_t at = l->out.len;

    buf_add(&l->out, frame->data, frame->len);
    buf_put_be32(&l->out, at + LINK_XID_AT, (uint32_t)++l->asked);
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
    static const uint8_t none[16];
    const struct wire_connect_request q = {.timeout_ms = ls->timeout_ms,
                                           .password = wire_bytes(none, sizeof none),
                                           .read_only = 0};
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
    size_t at = wire_frame_begin(&l->out);
    wire_connect_request_encode(&q, &l->out);
    wire_frame_end(&l->out, at);
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
        const struct wire_request_header h = {WIRE_XID_PING, WIRE_OP_PING};
        size_t at = wire_frame_begin(&l->out);
        wire_request_header_encode(&h, &l->out);
        wire_frame_end(&l->out, at);
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
