/* SPDX-License-Identifier: Apache-2.0 */
/* sockets.c -- the limit of a server with a connection for each session: it speaks as much of
 * the ZooKeeper protocol as bench/load.c's gets, sets, exists, watches and connects need, and
 * does nothing for it. No tree, no log, no other servers, no sessions that outlive their
 * connection: what it takes is what the kernel's sockets take, and the loop around them.
 *
 *   sockets PORT
 *
 * One thread. As in a server, one read brings all that a connection has sent, one write takes
 * all that there is for it. There are as many znodes as a connection can do with: the one that
 * it created last, and, by any other name, the one that anybody did. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "tree/watch.h"
#include "wire/wire.h"

#define EVENTS 256
#define BACKLOG 1024
#define ROOM (4u << 20) /* of one recv(), with the beginning of a frame before it */
#define FRAME_MAX (ROOM / 2)
#define REPLY_ERR_AT 12 /* of a reply's header */

struct node {
    struct buf path, data;
    int32_t version;
};

struct conn {
    int fd;
    bool has_session;
    struct node *own; /* NULL: it has created none */
    enum { NO_WATCH, ONE_EVENT, EACH_EVENT } watch;
    struct buf out, rest;     /* not yet sent; the beginning of a frame */
    struct conn *prev, *next; /* of all */
};

static int epoll_fd, listen_fd;
static struct conn *all;
static struct node *shared; /* the last that was created; it outlives its connection */
static int64_t zxid;
static uint8_t *room;

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "sockets: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- connections ---- */

static void close_conn(struct conn *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        all = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    close(c->fd);
    if (c->own != NULL && c->own != shared) {
        buf_free(&c->own->path);
        buf_free(&c->own->data);
        mem_free(c->own);
    }
    buf_free(&c->out);
    buf_free(&c->rest);
    mem_free(c);
}

static void accept_all(void)
{
    int fd, on = 1;

    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = mem_new(struct conn);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

        *c = (struct conn){.fd = fd, .next = all};
        if (all != NULL)
            all->prev = c;
        all = c;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0)
            die("epoll_ctl");
    }
}

/* What the kernel does not take at once goes with the next answer, and epoll tells when. */
static bool flush(struct conn *c)
{
    while (c->out.len > 0) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
            return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e) == 0;
        }
        if (n <= 0)
            return false;
        buf_consume(&c->out, (size_t)n);
    }
    buf_clear(&c->out);
    return true;
}

/* ---- requests ---- */

static struct wire_stat stat_of(const struct node *n)
{
    return (struct wire_stat){
        .mzxid = zxid, .version = n->version, .data_len = (int32_t)n->data.len};
}

static int create(struct conn *c, struct wire_in *in)
{
    struct wire_create_request q;

    if (wire_create_request_decode(&q, in) != 0)
        return ERR_MALFORMED;
    if (c->own == NULL)
        c->own = mem_new(struct node);
    shared = c->own;
    buf_clear(&shared->path);
    buf_clear(&shared->data);
    buf_add(&shared->path, q.path.data, (size_t)q.path.len);
    buf_add(&shared->data, q.data.data, (size_t)(q.data.len > 0 ? q.data.len : 0));
    shared->version = 0;
    const struct wire_path_response r = {q.path};
    wire_path_response_encode(&r, &c->out);
    return 0;
}

static void tell_watchers(const struct node *n)
{
    const struct wire_reply_header h = {WIRE_XID_NOTIFICATION, -1, 0};
    const struct wire_watcher_event e = {WATCH_DATA_CHANGED, WIRE_STATE_CONNECTED,
                                         wire_bytes(n->path.data, n->path.len)};

    for (struct conn *c = all; c != NULL; c = c->next) {
        if (c->watch == NO_WATCH)
            continue;
        if (c->watch == ONE_EVENT)
            c->watch = NO_WATCH;
        size_t at = wire_frame_begin(&c->out);
        wire_reply_header_encode(&h, &c->out);
        wire_watcher_event_encode(&e, &c->out);
        wire_frame_end(&c->out, at);
        flush(c); /* a connection that is gone is closed when it is read */
    }
}

static struct node *find(const struct conn *c, struct wire_bytes path)
{
    const struct node *own = c->own;

    return own != NULL && own->path.len == (size_t)path.len &&
                   memcmp(own->path.data, path.data, own->path.len) == 0
               ? c->own
               : shared;
}

static int set(struct conn *c, struct wire_in *in)
{
    struct wire_set_data_request q;

    if (wire_set_data_request_decode(&q, in) != 0)
        return ERR_MALFORMED;
    struct node *n = find(c, q.path);
    if (n == NULL)
        return ERR_NO_NODE;
    buf_clear(&n->data);
    buf_add(&n->data, q.data.data, (size_t)(q.data.len > 0 ? q.data.len : 0));
    n->version++;
    zxid++;
    const struct wire_stat_response r = {stat_of(n)};
    wire_stat_response_encode(&r, &c->out);
    return 0;
}

static int get(struct conn *c, bool with_data, struct wire_in *in)
{
    struct wire_path_watch_request q;

    if (wire_path_watch_request_decode(&q, in) != 0)
        return ERR_MALFORMED;
    const struct node *n = find(c, q.path);
    if (n == NULL)
        return ERR_NO_NODE;
    if (q.watch)
        c->watch = ONE_EVENT;
    if (with_data) {
        const struct wire_data_response r = {wire_bytes(n->data.data, n->data.len), stat_of(n)};
        wire_data_response_encode(&r, &c->out);
    } else {
        const struct wire_stat_response r = {stat_of(n)};
        wire_stat_response_encode(&r, &c->out);
    }
    return 0;
}

static int add_watch(struct conn *c)
{
    const struct wire_error_response r = {0};

    c->watch = EACH_EVENT;
    wire_error_response_encode(&r, &c->out);
    return 0;
}

static int sync_path(struct conn *c, struct wire_in *in)
{
    struct wire_path_request q;

    if (wire_path_request_decode(&q, in) != 0)
        return ERR_MALFORMED;
    const struct wire_path_response r = {q.path};
    wire_path_response_encode(&r, &c->out);
    return 0;
}

/* Appends the body of the reply; ERR_UNIMPLEMENTED for what it does not speak. */
static int answer(struct conn *c, int32_t op, struct wire_in *in)
{
    switch (op) {
    case WIRE_OP_PING:
    case WIRE_OP_DELETE:
    case WIRE_OP_CLOSE_SESSION: return 0;
    case WIRE_OP_CREATE: return create(c, in);
    case WIRE_OP_SET_DATA: return set(c, in);
    case WIRE_OP_GET_DATA: return get(c, true, in);
    case WIRE_OP_EXISTS: return get(c, false, in);
    case WIRE_OP_SYNC: return sync_path(c, in);
    case WIRE_OP_ADD_WATCH: return add_watch(c);
    default: return ERR_UNIMPLEMENTED;
    }
}

static bool connect_session(struct conn *c, struct wire_in *in)
{
    static const uint8_t password[16];
    static int64_t sessions;
    struct wire_connect_request q;

    if (wire_connect_request_decode(&q, in) != 0)
        return false;
    const struct wire_connect_response r = {.timeout_ms = q.timeout_ms,
                                            .session_id = ++sessions,
                                            .password = wire_bytes(password, sizeof password),
                                            .read_only =
                                                q.read_only == WIRE_ABSENT ? q.read_only : 0};
    size_t at = wire_frame_begin(&c->out);
    wire_connect_response_encode(&r, &c->out);
    wire_frame_end(&c->out, at);
    c->has_session = true;
    return true;
}

static bool take_frame(struct conn *c, const uint8_t *frame, size_t len)
{
    struct wire_in in = wire_in(frame, len);
    struct wire_request_header q;

    if (!c->has_session)
        return connect_session(c, &in);
    if (wire_request_header_decode(&q, &in) != 0)
        return false;
    struct wire_reply_header h = {q.xid, zxid, 0};
    size_t at = wire_frame_begin(&c->out), header_at = c->out.len;
    wire_reply_header_encode(&h, &c->out);
    h.err = answer(c, q.op, &in);
    if (h.err != 0)
        buf_put_be32(&c->out, header_at + REPLY_ERR_AT, (uint32_t)h.err);
    wire_frame_end(&c->out, at);
    if (q.op == WIRE_OP_SET_DATA && h.err == 0 && shared != NULL)
        tell_watchers(shared);
    return true;
}

/* False: it is over. */
static bool receive(struct conn *c)
{
    size_t had = c->rest.len;

    if (had > 0)
        memcpy(room, c->rest.data, had);
    buf_clear(&c->rest);
    ssize_t n = recv(c->fd, room + had, ROOM - had, 0);
    if (n < 0 && errno == EAGAIN)
        n = 0;
    else if (n <= 0)
        return false;
    const uint8_t *at = room, *end = room + had + n;
    while (end - at >= 4) {
        size_t len = be32_get(at);
        if (len > FRAME_MAX)
            return false;
        if ((size_t)(end - at) - 4 < len)
            break;
        if (!take_frame(c, at + 4, len))
            return false;
        at += 4 + len;
    }
    if (end > at)
        buf_add(&c->rest, at, (size_t)(end - at));
    return flush(c);
}

/* ---- the loop ---- */

static void begin(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    struct rlimit files;
    int on = 1;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(listen_fd, BACKLOG) != 0)
        die("listen");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &e) != 0)
        die("epoll");
    room = mem_alloc(ROOM);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    long port = argc == 2 ? strtol(argv[1], NULL, 10) : 0;

    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: sockets PORT\n");
        return 2;
    }
    begin((uint16_t)port);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == NULL)
                accept_all();
            else if (!receive(c))
                close_conn(c);
        }
    }
}
