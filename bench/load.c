/* SPDX-License-Identifier: Apache-2.0 */
/* A load of one kind for a server that speaks the ZooKeeper protocol; checks every reply.
 *
 *   load PORT OP SESSIONS WINDOW REQUESTS SIZE NAME
 *
 * OP: get, set, create. Each of SESSIONS connections to 127.0.0.1:PORT has WINDOW requests
 * in flight, until REQUESTS are answered in all. NAME is new in each run: the znodes are
 * made below /NAME. Prints one line: requests a second, and the latencies' p50 and p99 in us.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "wire/wire.h"

#define SESSIONS_MAX 1000
#define WINDOW_MAX 1024
#define TIMEOUT_MS 30000
#define CHUNK 65536

enum op { OP_GET, OP_SET, OP_CREATE };

struct session {
    int fd;
    int32_t asked, answered; /* xids */
    struct buf in, out;
    char path[64];
    uint64_t sent_ns[WINDOW_MAX]; /* by xid */
};

static struct session sessions[SESSIONS_MAX];
static struct pollfd polls[SESSIONS_MAX];
static unsigned sessions_n, window;
static uint32_t *latency_us;
static size_t requests, done, begun, size;
static enum op op;
static struct buf acl;
static char data[1 << 16];
static const char *name;

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct wire_bytes text(const char *s) { return wire_bytes(s, strlen(s)); }

static void send_all(struct session *s)
{
    while (s->out.len > 0) {
        ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            die("send");
        buf_consume(&s->out, (size_t)n);
    }
}

static void put_create(struct buf *out, int32_t xid, const char *path)
{
    const struct wire_request_header h = {xid, WIRE_OP_CREATE};
    const struct wire_create_request q = {
        text(path), wire_bytes(data, size), {acl.data, acl.len, 1}, WIRE_PERSISTENT};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    wire_create_request_encode(&q, out);
    wire_frame_end(out, at);
}

static void put_get(struct buf *out, int32_t xid, const char *path)
{
    const struct wire_request_header h = {xid, WIRE_OP_GET_DATA};
    const struct wire_path_watch_request q = {text(path), false};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    wire_path_watch_request_encode(&q, out);
    wire_frame_end(out, at);
}

static void put_set(struct buf *out, int32_t xid, const char *path)
{
    const struct wire_request_header h = {xid, WIRE_OP_SET_DATA};
    const struct wire_set_data_request q = {text(path), wire_bytes(data, size), -1};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    wire_set_data_request_encode(&q, out);
    wire_frame_end(out, at);
}

static void ask(struct session *s)
{
    char path[96];

    s->asked++;
    begun++;
    s->sent_ns[s->asked % WINDOW_MAX] = now_ns();
    switch (op) {
    case OP_GET: put_get(&s->out, s->asked, s->path); break;
    case OP_SET: put_set(&s->out, s->asked, s->path); break;
    case OP_CREATE:
        snprintf(path, sizeof path, "%s-%d", s->path, (int)s->asked);
        put_create(&s->out, s->asked, path);
        break;
    }
}

static void take_reply(struct session *s, const uint8_t *frame, size_t len)
{
    struct wire_reply_header h;
    struct wire_in in = wire_in(frame, len);

    if (wire_reply_header_decode(&h, &in) != 0 || h.xid != s->answered + 1 || h.err != 0) {
        fprintf(stderr, "load: reply %d, error %d, expected reply %d\n", (int)h.xid, (int)h.err,
                (int)s->answered + 1);
        exit(1);
    }
    s->answered++;
    latency_us[done++] = (uint32_t)((now_ns() - s->sent_ns[h.xid % WINDOW_MAX]) / 1000);
}

static void receive(struct session *s)
{
    ssize_t n = recv(s->fd, buf_reserve(&s->in, CHUNK), CHUNK, 0);

    if (n <= 0)
        die("receive");
    buf_added(&s->in, (size_t)n);
    while (s->in.len >= 4 && s->in.len - 4 >= be32_get(s->in.data)) {
        uint32_t len = be32_get(s->in.data);
        take_reply(s, s->in.data + 4, len);
        buf_consume(&s->in, 4 + (size_t)len);
        if (begun < requests)
            ask(s);
    }
    send_all(s);
}

/* One frame, waited for. */
static void receive_frame(struct session *s)
{
    while (s->in.len < 4 || s->in.len - 4 < be32_get(s->in.data)) {
        ssize_t n = recv(s->fd, buf_reserve(&s->in, CHUNK), CHUNK, 0);
        if (n <= 0)
            die("connect");
        buf_added(&s->in, (size_t)n);
    }
    buf_consume(&s->in, 4 + (size_t)be32_get(s->in.data));
}

static void open_session(struct session *s, unsigned number, uint16_t port)
{
    static const uint8_t none[16];
    const struct wire_connect_request q = {.timeout_ms = TIMEOUT_MS,
                                           .password = wire_bytes(none, sizeof none)};
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (const struct sockaddr *)&a, sizeof a) != 0)
        die("connect");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    size_t at = wire_frame_begin(&s->out);
    wire_connect_request_encode(&q, &s->out);
    wire_frame_end(&s->out, at);
    send_all(s);
    receive_frame(s);
    snprintf(s->path, sizeof s->path, "/%s/s%u", name, number);
}

static void prepare(void)
{
    char top[40];

    snprintf(top, sizeof top, "/%s", name);
    put_create(&sessions[0].out, 1, top);
    send_all(&sessions[0]);
    receive_frame(&sessions[0]);
    for (unsigned i = 0; i < sessions_n; i++) {
        put_create(&sessions[i].out, 1, sessions[i].path);
        send_all(&sessions[i]);
        receive_frame(&sessions[i]);
        CHECK(fcntl(sessions[i].fd, F_SETFL, O_NONBLOCK) == 0);
        polls[i] = (struct pollfd){sessions[i].fd, POLLIN, 0};
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fputs("usage: load PORT get|set|create SESSIONS WINDOW REQUESTS SIZE NAME\n", stderr);
        return 2;
    }
    op = strcmp(argv[2], "get") == 0   ? OP_GET
         : strcmp(argv[2], "set") == 0 ? OP_SET
                                       : OP_CREATE;
    sessions_n = (unsigned)atoi(argv[3]);
    window = (unsigned)atoi(argv[4]);
    requests = (size_t)atol(argv[5]);
    size = (size_t)atol(argv[6]);
    name = argv[7];
    CHECK(sessions_n > 0 && sessions_n <= SESSIONS_MAX && window > 0 && window < WINDOW_MAX &&
          size <= sizeof data && strlen(name) < 20);
    latency_us = mem_new_array(uint32_t, requests + (size_t)sessions_n * window);
    const struct wire_acl all = {WIRE_PERM_ALL, text("world"), text("anyone")};
    wire_acl_encode(&all, &acl);
    for (unsigned i = 0; i < sessions_n; i++)
        open_session(&sessions[i], i, (uint16_t)atoi(argv[1]));
    prepare();
    uint64_t start = now_ns();
    for (unsigned i = 0; i < sessions_n; i++) {
        for (unsigned k = 0; k < window && begun < requests; k++)
            ask(&sessions[i]);
        send_all(&sessions[i]);
    }
    while (done < requests) {
        for (unsigned i = 0; i < sessions_n; i++)
            polls[i].events = (short)(POLLIN | (sessions[i].out.len > 0 ? POLLOUT : 0));
        if (poll(polls, sessions_n, TIMEOUT_MS) <= 0)
            die("no reply");
        for (unsigned i = 0; i < sessions_n; i++) {
            if ((polls[i].revents & POLLOUT) != 0)
                send_all(&sessions[i]);
            if ((polls[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
                receive(&sessions[i]);
        }
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    qsort(latency_us, done, sizeof *latency_us, compare);
    printf("%.0f %u %u\n", (double)done / seconds, latency_us[done / 2],
           latency_us[done * 99 / 100]);
    return 0;
}
