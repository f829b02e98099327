/* SPDX-License-Identifier: Apache-2.0 */
/* What bench/sizes.py needs of clients: a large tree, many sessions, many watches, and one
 * client that looks how long it waits. Every reply is checked.
 *
 *   tool_sizes PORT fill SESSIONS WINDOW DIRS EACH SIZE           creates /n and all below
 *   tool_sizes PORT refill ...                                    what there is not yet
 *   tool_sizes PORT load get|set SESSIONS WINDOW DIRS EACH SIZE REQUESTS
 *   tool_sizes PORT pace PATH INTERVAL_US                         one get after the other
 *   tool_sizes PORT idle SESSIONS TIMEOUT_MS                      they ping, and no more
 *   tool_sizes PORT watch SESSIONS WATCHES DIRS EACH SIZE         data watches, one a znode
 *   tool_sizes PORT first PATH                                    until it is answered
 *
 * The tree is /n/dNNNN/nNNNN: DIRS directories of EACH znodes with SIZE bytes. The server is on
 * 127.0.0.1. A line of JSON says what came of it. idle and watch then go on until stdin ends;
 * pace, and load with 0 REQUESTS, say it when stdin ends. A line on watch's stdin: each watched
 * znode is set once, and a line of JSON says how long the events took.
 *
 * pace counts from when a get was due, not from when it could be sent at last.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "frames.h"
#include "meter.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define TIMEOUT_MS 40000
#define SILENCE_MS 240000 /* a server that says nothing for so long is given up */
#define ROUND_MS 50
#define CHUNK 65536
#define EVENTS 256
#define MAKING_MAX 30    /* connections in the making: a backlog is 50 with ZooKeeper */
#define FROM_EACH 10000u /* connections from one address: there are 28,000 ports */
#define FIRST_RETRY_US 1000
#define NODE_EXISTS (-110)
#define STDIN_MARK UINT32_MAX

enum state { IDLE, CONNECTING, ASKED, LIVE };

struct session {
    int fd;
    enum state state;
    bool is_writing; /* epoll looks for room to send */
    int32_t asked, answered;
    uint64_t pinged_ms;
    struct buf in, out;
    uint64_t *sent_ns; /* by xid, `window` of them; NULL: no latencies */
};

static struct {
    struct session *all;
    unsigned count, window, making, live;
    int poll;
    uint16_t port;
    int32_t timeout_ms;
    uint64_t heard_ms, round_ms, begun_ns;
    bool is_ended, has_line; /* stdin */
    bool is_refill;          /* what is to be created may be there */
    size_t begun, done, requests, events;
    /* Appends the next request to s->out; false: there is none now. */
    bool (*next)(struct session *s);
    size_t dirs, each, size;
    uint32_t *latency_us;
    size_t latency_n, latency_room;
    char data[CHUNK];
} me;

static void die(const char *what)
{
    fprintf(stderr, "sizes: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void note_latency(uint64_t ns)
{
    if (me.latency_n == me.latency_room) {
        size_t room = me.latency_room > 0 ? 2 * me.latency_room : 1 << 16;
        uint32_t *more = mem_new_array(uint32_t, room);
        if (me.latency_n > 0)
            memcpy(more, me.latency_us, me.latency_n * sizeof *more);
        mem_free(me.latency_us);
        me.latency_us = more;
        me.latency_room = room;
    }
    me.latency_us[me.latency_n++] = (uint32_t)(ns / 1000);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void print_result(size_t done, double seconds)
{
    printf("{\"done\": %zu, \"seconds\": %.4f", done, seconds);
    if (me.latency_n > 0) {
        qsort(me.latency_us, me.latency_n, sizeof *me.latency_us, compare);
        printf(", \"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u, \"max_us\": %u",
               me.latency_us[me.latency_n / 2], me.latency_us[me.latency_n * 99 / 100],
               me.latency_us[me.latency_n * 999 / 1000], me.latency_us[me.latency_n - 1]);
    }
    printf("}\n");
    fflush(stdout);
    me.latency_n = 0;
}

/* ---- requests ---- */

/* The frame at `at` of what goes out. */
static void asked(struct session *s, size_t at)
{
    frame_number(&s->out, at, ++s->asked);
    me.begun++;
    if (s->sent_ns != NULL)
        s->sent_ns[(unsigned)s->asked % me.window] = meter_now_ns();
}

static void put_get(struct session *s, const char *path, bool watch)
{
    size_t at = s->out.len;

    frame_read(&s->out, WIRE_OP_GET_DATA, path, watch);
    asked(s, at);
}

static void put_set(struct session *s, const char *path)
{
    size_t at = s->out.len;

    frame_set(&s->out, path, me.data, me.size);
    asked(s, at);
}

static void put_create(struct session *s, const char *path, size_t size)
{
    size_t at = s->out.len;

    frame_create(&s->out, path, me.data, size, WIRE_PERSISTENT);
    asked(s, at);
}

static void leaf(char *out, size_t room, size_t number)
{
    snprintf(out, room, "/n/d%04zu/n%04zu", number / me.each, number % me.each);
}

/* ---- one session ---- */

static void watch_fd(struct session *s, int how, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u32 = (uint32_t)(s - me.all)};

    if (epoll_ctl(me.poll, how, s->fd, &e) != 0)
        die("epoll_ctl");
}

static void flush(struct session *s)
{
    while (s->out.len > 0) {
        ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            die("send");
        buf_consume(&s->out, (size_t)n);
    }
    if (s->out.len == 0)
        buf_free(&s->out); /* there may be very many of us */
    if (s->is_writing != (s->out.len > 0)) {
        s->is_writing = !s->is_writing;
        watch_fd(s, EPOLL_CTL_MOD, EPOLLIN | (s->is_writing ? EPOLLOUT : 0));
    }
}

static void ask_more(struct session *s)
{
    while (s->state == LIVE && (unsigned)(s->asked - s->answered) < me.window && me.next(s))
        ;
    flush(s);
}

static void begin(struct session *s)
{
    unsigned number = (unsigned)(s - me.all);
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / FROM_EACH)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(me.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        die("socket");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(s->fd, (struct sockaddr *)&from, sizeof from) != 0)
        die("bind");
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        die("connect");
    s->state = CONNECTING;
    me.making++;
    watch_fd(s, EPOLL_CTL_ADD, EPOLLOUT);
}

static void connected(struct session *s)
{
    int err = 0;
    socklen_t len = sizeof err;

    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    errno = err;
    if (err != 0)
        die("connect");
    s->state = ASKED;
    s->is_writing = true; /* so that flush() looks at epoll */
    frame_connect(&s->out, me.timeout_ms);
    flush(s);
}

static void take_connected(struct session *s, const uint8_t *frame, size_t len)
{
    struct wire_connect_response r;
    struct wire_in in = wire_in(frame, len);

    if (wire_connect_response_decode(&r, &in) != 0 || r.session_id == 0 ||
        r.timeout_ms != me.timeout_ms) {
        fprintf(stderr, "sizes: no session, or one of another timeout (%d ms)\n",
                (int)r.timeout_ms);
        exit(1);
    }
    s->state = LIVE;
    s->pinged_ms = me.heard_ms;
    me.making--;
    me.live++;
}

static void take_reply(struct session *s, const uint8_t *frame, size_t len)
{
    struct wire_reply_header h;
    struct wire_in in = wire_in(frame, len);
    int err = wire_reply_header_decode(&h, &in);

    if (err == 0 && h.xid == WIRE_XID_NOTIFICATION) {
        me.events++;
        return;
    }
    if (err == 0 && h.xid == WIRE_XID_PING)
        return;
    bool is_there = me.is_refill && h.err == NODE_EXISTS;
    if (err != 0 || h.xid != s->answered + 1 || (h.err != 0 && !is_there)) {
        fprintf(stderr, "sizes: reply %d, error %d, where reply %d was expected\n", (int)h.xid,
                (int)h.err, (int)s->answered + 1);
        exit(1);
    }
    s->answered++;
    me.done++;
    if (s->sent_ns != NULL)
        note_latency(meter_now_ns() - s->sent_ns[(unsigned)h.xid % me.window]);
}

static size_t take_frames(struct session *s, const uint8_t *data, size_t len)
{
    size_t at = 0;

    while (len - at >= 4 && len - at - 4 >= be32_get(data + at)) {
        uint32_t n = be32_get(data + at);
        if (s->state == ASKED)
            take_connected(s, data + at + 4, n);
        else
            take_reply(s, data + at + 4, n);
        at += 4 + (size_t)n;
    }
    return at;
}

/* Most frames come whole, so most sessions need no buffer. */
static void receive(struct session *s)
{
    static uint8_t chunk[CHUNK];
    ssize_t n = recv(s->fd, chunk, sizeof chunk, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        die("the server closed a connection");
    me.heard_ms = meter_now_ns() / 1000000;
    if (s->in.len == 0) {
        size_t used = take_frames(s, chunk, (size_t)n);
        buf_add(&s->in, chunk + used, (size_t)n - used);
    } else {
        buf_add(&s->in, chunk, (size_t)n);
        buf_consume(&s->in, take_frames(s, s->in.data, s->in.len));
    }
    if (s->in.len == 0)
        buf_free(&s->in);
    ask_more(s);
}

/* ---- all of them ---- */

static void hear_stdin(void)
{
    char line[64];
    ssize_t n = read(0, line, sizeof line);

    if (n <= 0) {
        me.is_ended = true;
        epoll_ctl(me.poll, EPOLL_CTL_DEL, 0, NULL);
    } else {
        me.has_line = true;
    }
}

static void round_of_all(uint64_t now_ms)
{
    if (now_ms > me.heard_ms + SILENCE_MS) {
        errno = ETIMEDOUT;
        die("no answer");
    }
    for (unsigned i = 0; i < me.count; i++) {
        struct session *s = &me.all[i];
        if (s->state != LIVE || now_ms - s->pinged_ms < (uint64_t)me.timeout_ms / 4)
            continue;
        s->pinged_ms = now_ms;
        frame_ping(&s->out);
        flush(s);
    }
}

static void turn(int wait_ms)
{
    struct epoll_event got[EVENTS];
    int n = epoll_wait(me.poll, got, EVENTS, wait_ms);

    for (int i = 0; i < n; i++) {
        if (got[i].data.u32 == STDIN_MARK) {
            hear_stdin();
            continue;
        }
        struct session *s = &me.all[got[i].data.u32];
        if (s->state == CONNECTING)
            connected(s);
        else if ((got[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
            receive(s);
        else
            flush(s);
    }
    uint64_t now_ms = meter_now_ns() / 1000000;
    if (now_ms - me.round_ms >= ROUND_MS) {
        me.round_ms = now_ms;
        round_of_all(now_ms);
    }
}

static bool nothing(struct session *s)
{
    (void)s;
    return false;
}

static void open_all(unsigned count, unsigned window, bool is_timed)
{
    me.count = count;
    me.window = window;
    me.all = mem_new_array(struct session, count);
    me.next = nothing;
    CHECK(count > 0 && window > 0);
    for (unsigned i = 0; i < count; i++)
        if (is_timed)
            me.all[i].sent_ns = mem_new_array(uint64_t, window);
    me.begun_ns = meter_now_ns();
    for (unsigned i = 0; me.live < count;) {
        while (i < count && me.making < MAKING_MAX)
            begin(&me.all[i++]);
        turn(ROUND_MS);
    }
}

/* All requests that `next` has, and their answers. */
static void run(bool (*next)(struct session *s))
{
    me.next = next;
    me.begun = me.done = 0;
    me.begun_ns = meter_now_ns();
    for (unsigned i = 0; i < me.count; i++)
        ask_more(&me.all[i]);
    while (me.done < me.begun || (me.requests == 0 && !me.is_ended) || me.begun < me.requests)
        turn(ROUND_MS);
    me.next = nothing;
}

static double since_begun(void) { return (double)(meter_now_ns() - me.begun_ns) / 1e9; }

static void until_ended(void)
{
    while (!me.is_ended)
        turn(ROUND_MS);
}

/* ---- what is asked for ---- */

static bool next_dir(struct session *s)
{
    char path[64] = "/n";

    if (me.begun >= me.requests)
        return false;
    if (me.begun > 0)
        snprintf(path, sizeof path, "/n/d%04zu", me.begun - 1);
    put_create(s, path, 0);
    return true;
}

static bool next_leaf(struct session *s)
{
    char path[64];

    if (me.begun >= me.requests)
        return false;
    leaf(path, sizeof path, me.begun);
    put_create(s, path, me.size);
    return true;
}

/* /n and its directories one after the other, since the one must be there for the other. */
static void fill(unsigned sessions, unsigned window)
{
    open_all(sessions, window, false);
    unsigned all = me.count;
    me.count = me.window = 1;
    me.requests = me.dirs + 1;
    run(next_dir);
    me.count = all;
    me.window = window;
    me.requests = me.dirs * me.each;
    run(next_leaf);
    print_result(me.done, since_begun());
}

static size_t any_leaf(void)
{
    static uint64_t chance = 88172645463325252u;

    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (size_t)(chance % (me.dirs * me.each));
}

static bool is_enough(void) { return me.requests > 0 ? me.begun >= me.requests : me.is_ended; }

static bool next_get(struct session *s)
{
    char path[64];

    if (is_enough())
        return false;
    leaf(path, sizeof path, any_leaf());
    put_get(s, path, false);
    return true;
}

static bool next_set(struct session *s)
{
    char path[64];

    if (is_enough())
        return false;
    leaf(path, sizeof path, any_leaf());
    put_set(s, path);
    return true;
}

static void load(bool is_set, unsigned sessions, unsigned window, size_t requests)
{
    me.requests = requests;
    open_all(sessions, window, true);
    run(is_set ? next_set : next_get);
    print_result(me.done, since_begun());
}

static void pace(const char *path, uint64_t interval_us)
{
    open_all(1, 1, false);
    struct session *s = &me.all[0];
    uint64_t due_ns = me.begun_ns = meter_now_ns();
    while (!me.is_ended) {
        uint64_t now = meter_now_ns();
        if (now < due_ns) {
            struct timespec t = {.tv_nsec = (long)((due_ns - now) % 1000000000u)};
            nanosleep(&t, NULL);
            turn(0);
            continue;
        }
        put_get(s, path, false);
        flush(s);
        while (s->answered < s->asked)
            turn(ROUND_MS);
        note_latency(meter_now_ns() - due_ns);
        due_ns += interval_us * 1000;
    }
    print_result(me.done, since_begun());
}

static void idle(unsigned sessions)
{
    open_all(sessions, 1, false);
    print_result(me.live, since_begun());
    until_ended();
}

/* The sessions take the znodes in turn, and begin anew when all are watched. */
static bool next_watch(struct session *s)
{
    char path[64];

    if (me.begun >= me.requests)
        return false;
    leaf(path, sizeof path, me.begun % (me.dirs * me.each));
    put_get(s, path, true);
    return true;
}

static bool next_fire(struct session *s)
{
    char path[64];

    if (me.begun >= me.requests)
        return false;
    leaf(path, sizeof path, me.begun);
    put_set(s, path);
    return true;
}

static void watch(unsigned sessions, size_t watches)
{
    open_all(sessions, 100, false);
    me.requests = watches;
    run(next_watch);
    print_result(me.done, since_begun());
    while (!me.is_ended) {
        turn(ROUND_MS);
        if (!me.has_line)
            continue;
        me.has_line = false;
        me.requests = watches < me.dirs * me.each ? watches : me.dirs * me.each;
        me.events = 0;
        run(next_fire);
        while (me.events < watches)
            turn(ROUND_MS);
        print_result(me.events, since_begun());
    }
}

/* One frame's worth of answer, without its length; 0: it did not come. */
static size_t ask_plainly(struct session *s, uint8_t *got, size_t room)
{
    size_t have = 0;

    if (send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL) != (ssize_t)s->out.len)
        return 0;
    buf_clear(&s->out);
    while (have < 4 || have - 4 < be32_get(got)) {
        ssize_t n = recv(s->fd, got + have, room - have, 0);
        if (n <= 0)
            return 0;
        have += (size_t)n;
    }
    return have - 4;
}

/* By a server that starts: it may refuse, accept and close, or be silent at first. */
static bool is_answered(const char *path)
{
    struct session s = {0};
    uint8_t got[4096];
    const struct timeval patience = {.tv_sec = 1};
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons(me.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool is_data = false;

    s.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s.fd < 0)
        die("socket");
    setsockopt(s.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    frame_connect(&s.out, me.timeout_ms);
    if (connect(s.fd, (const struct sockaddr *)&to, sizeof to) == 0 &&
        ask_plainly(&s, got, sizeof got) > 0) {
        put_get(&s, path, false);
        size_t len = ask_plainly(&s, got, sizeof got);
        struct wire_reply_header h = {.err = -1};
        struct wire_in in = wire_in(got + 4, len);
        is_data = wire_reply_header_decode(&h, &in) == 0 && h.err == 0;
    }
    close(s.fd);
    buf_free(&s.out);
    return is_data;
}

static void first(const char *path)
{
    uint64_t begun = meter_now_ns(), until = begun + SILENCE_MS * 1000000ull;

    me.window = 1;
    while (!is_answered(path)) {
        const struct timespec t = {.tv_nsec = FIRST_RETRY_US * 1000};
        if (meter_now_ns() > until) {
            errno = ETIMEDOUT;
            die("first answer");
        }
        nanosleep(&t, NULL);
    }
    printf("{\"at_ns\": %llu}\n", (unsigned long long)meter_now_ns());
}

static size_t number(char **argv, int at) { return strtoul(argv[at], NULL, 10); }

static void shape(char **argv, int at)
{
    me.dirs = number(argv, at);
    me.each = number(argv, at + 1);
    me.size = number(argv, at + 2);
    CHECK(me.dirs > 0 && me.each > 0 && me.size <= sizeof me.data);
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "";
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = STDIN_MARK};

    me.port = argc > 1 ? (uint16_t)number(argv, 1) : 0;
    me.timeout_ms = TIMEOUT_MS;
    me.heard_ms = meter_now_ns() / 1000000;
    me.poll = epoll_create1(EPOLL_CLOEXEC);
    memset(me.data, 'd', sizeof me.data);
    if (epoll_ctl(me.poll, EPOLL_CTL_ADD, 0, &e) != 0)
        me.is_ended = true; /* a file, /dev/null: it has ended, as it were */
    if ((strcmp(what, "fill") == 0 || strcmp(what, "refill") == 0) && argc == 8) {
        me.is_refill = what[0] == 'r';
        shape(argv, 5);
        fill((unsigned)number(argv, 3), (unsigned)number(argv, 4));
    } else if (strcmp(what, "load") == 0 && argc == 10) {
        shape(argv, 6);
        load(strcmp(argv[3], "set") == 0, (unsigned)number(argv, 4), (unsigned)number(argv, 5),
             number(argv, 9));
    } else if (strcmp(what, "pace") == 0 && argc == 5) {
        pace(argv[3], number(argv, 4));
    } else if (strcmp(what, "idle") == 0 && argc == 5) {
        me.timeout_ms = (int32_t)number(argv, 4);
        idle((unsigned)number(argv, 3));
    } else if (strcmp(what, "watch") == 0 && argc == 8) {
        shape(argv, 5);
        watch((unsigned)number(argv, 3), number(argv, 4));
    } else if (strcmp(what, "first") == 0 && argc == 4) {
        first(argv[3]);
    } else {
        fputs("usage: tool_sizes PORT fill|load|pace|idle|watch|first ...; see the source\n",
              stderr);
        return 2;
    }
    return 0;
}
