/* SPDX-License-Identifier: Apache-2.0 */
/* crowd.c -- very many clients that do nothing but keep their sessions, in one process.
 *
 *   tool_crowd COUNT TIMEOUT_MS AT_ONCE ADDRESS...
 *
 * Opens COUNT sessions, spread over the servers (IPv4, port 2181), AT_ONCE connections in the
 * making at a time; keeps each alive with pings every third of its timeout, and gives a server
 * up after two thirds without a word. A session whose connection is lost goes to another server
 * at once, as all the others do. On stdin, a line each; the answer is a line of JSON:
 *   wait SECONDS   until all sessions are connected, or so long
 *   report         what there is now
 *   end            each session is closed in good order, at most so long as it takes
 *
 *   {"sessions": opened, "connected": now, "expired": ended by the servers, "lost":
 * connections, "moved": sessions that came back, "pings": answered, "worst_ms": the slowest of
 * them since the last answer, "seconds": since the last connection was lost, or since the
 * start, until all were connected}
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SERVERS_MAX = 16,
    PASSWORD = 16,
    CONNECT_BYTES = 49, /* with its length in front, as what answers it */
    ANSWER_BYTES = 41,
    PING_BYTES = 12,
    ROOM = 64, /* what comes: the connect's answer, then replies to pings (20 bytes) */
    EVENTS = 512,
    ROUND_MS = 50,
    RETRY_MS = 100,
    FILES_MORE = 64,
    OP_PING = 11,
    XID_PING = -2,
    OP_CLOSE = -11,
    FROM_EACH = 1000 /* connections of one source address */
};

enum state { IDLE, CONNECTING, ASKED, LIVE, GONE };

struct session {
    int fd;
    enum state state;
    uint8_t server;
    bool is_known, is_pinged;
    int64_t id;
    uint8_t password[PASSWORD];
    uint64_t heard_ms, pinged_ms, retry_ms;
    uint8_t got[ROOM];
    uint8_t got_n;
};

static struct {
    struct session *all;
    uint32_t count, at_once, making, live, opened, expired, lost, moved;
    uint32_t next;  /* where the next round of connects goes on */
    uint32_t turns; /* to which of the other servers the next lost one goes */
    uint64_t timeout_ms, pings, worst_ms, begun_ms, whole_ms, broken_ms;
    struct sockaddr_in servers[SERVERS_MAX];
    unsigned servers_n;
    int epoll;
} me;

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void fail(const char *what)
{
    fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint8_t *put32(uint8_t *at, int32_t v)
{
    uint32_t n = htobe32((uint32_t)v);

    memcpy(at, &n, sizeof n);
    return at + sizeof n;
}

static uint8_t *put64(uint8_t *at, int64_t v)
{
    uint64_t n = htobe64((uint64_t)v);

    memcpy(at, &n, sizeof n);
    return at + sizeof n;
}

static int32_t get32(const uint8_t *at)
{
    uint32_t n;

    memcpy(&n, at, sizeof n);
    return (int32_t)be32toh(n);
}

static int64_t get64(const uint8_t *at)
{
    uint64_t n;

    memcpy(&n, at, sizeof n);
    return (int64_t)be64toh(n);
}

/* ---- one session ---- */

/* Any of the others, as with the shuffled lists of real clients: if all went to the same one,
 * it would have twice as many as the rest. */
static void go_elsewhere(struct session *s)
{
    if (me.servers_n > 1)
        s->server = (uint8_t)((s->server + 1 + me.turns++ % (me.servers_n - 1)) % me.servers_n);
}

static void drop(struct session *s, uint64_t now)
{
    struct linger hard = {.l_onoff = 1};

    if (s->state == LIVE) {
        me.live--;
        me.lost++;
        me.broken_ms = now;
        me.whole_ms = 0;
    } else if (s->state == CONNECTING || s->state == ASKED) {
        me.making--;
    }
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard); /* no TIME_WAIT */
    close(s->fd);
    s->fd = -1;
    s->retry_ms = now + (s->state == LIVE ? 0 : RETRY_MS);
    s->state = IDLE;
    go_elsewhere(s);
}

static void begin(struct session *s, uint32_t number, uint64_t now)
{
    int on = 1;
    /* There are 28,000 ports from one address to another, and the kernel looks for a free one
     * long before none is left. Loopback has many addresses: each process uses its own. */
    uint32_t mine = 0x7f010000u + (uint32_t)getpid() % 0xfe00u * 256u;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(mine + 1 + number / FROM_EACH)};

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        fail("socket");
    if ((ntohl(me.servers[0].sin_addr.s_addr) >> 24) == 127 &&
        (setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
         bind(s->fd, (struct sockaddr *)&from, sizeof from) != 0))
        fail("bind");
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.u32 = number};
    if (epoll_ctl(me.epoll, EPOLL_CTL_ADD, s->fd, &ev) != 0)
        fail("epoll");
    s->state = CONNECTING;
    s->got_n = 0;
    s->is_pinged = false;
    s->heard_ms = now;
    me.making++;
    if (connect(s->fd, (struct sockaddr *)&me.servers[s->server], sizeof *me.servers) != 0 &&
        errno != EINPROGRESS)
        drop(s, now);
}

static void ask(struct session *s, uint32_t number, uint64_t now)
{
    uint8_t bytes[CONNECT_BYTES], *at = bytes;
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = number};

    at = put32(at, CONNECT_BYTES - 4);
    at = put32(at, 0);
    at = put64(at, 0);
    at = put32(at, (int32_t)me.timeout_ms);
    at = put64(at, s->is_known ? s->id : 0);
    at = put32(at, PASSWORD);
    memcpy(at, s->password, PASSWORD);
    at[PASSWORD] = 0;
    s->state = ASKED;
    if (epoll_ctl(me.epoll, EPOLL_CTL_MOD, s->fd, &ev) != 0)
        fail("epoll");
    if (send(s->fd, bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes)
        drop(s, now);
}

static void answered(struct session *s, uint64_t now)
{
    int64_t id = get64(s->got + 12);

    if (get32(s->got) != ANSWER_BYTES - 4) {
        fprintf(stderr, "crowd: a connect is answered with %d bytes\n", get32(s->got));
        exit(1);
    }
    me.making--;
    if (id == 0) { /* the servers know it no more */
        s->state = GONE;
        me.expired++;
        close(s->fd);
        s->fd = -1;
        return;
    }
    if (s->is_known && id != s->id) {
        fprintf(stderr, "crowd: another session was given back\n");
        exit(1);
    }
    me.moved += s->is_known;
    me.opened += !s->is_known;
    s->id = id;
    memcpy(s->password, s->got + 24, PASSWORD);
    s->is_known = true;
    s->state = LIVE;
    s->pinged_ms = now;
    me.live++;
    if (me.live + me.expired == me.count)
        me.whole_ms = now;
}

/* Replies to pings: 20 bytes, length first. Nothing else was asked for. */
static void heard(struct session *s, uint64_t now)
{
    ssize_t n = recv(s->fd, s->got + s->got_n, sizeof s->got - s->got_n, 0);

    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(s, now);
        return;
    }
    s->got_n = (uint8_t)(s->got_n + n);
    s->heard_ms = now;
    for (;;) {
        size_t len = s->got_n >= 4 ? (size_t)get32(s->got) + 4 : ROOM;
        if (s->got_n < len)
            return;
        if (len > ROOM) {
            fprintf(stderr, "crowd: an answer of %zu bytes\n", len);
            exit(1);
        }
        if (s->state == ASKED) {
            answered(s, now);
        } else if (get32(s->got + 4) == XID_PING) {
            me.pings++;
            s->is_pinged = false;
            if (now - s->pinged_ms > me.worst_ms)
                me.worst_ms = now - s->pinged_ms;
        }
        s->got_n = (uint8_t)(s->got_n - len);
        memmove(s->got, s->got + len, s->got_n);
        if (s->fd < 0)
            return;
    }
}

static void ping(struct session *s, uint64_t now)
{
    uint8_t bytes[PING_BYTES];

    put32(put32(put32(bytes, 8), XID_PING), OP_PING);
    s->is_pinged = true;
    s->pinged_ms = now;
    if (send(s->fd, bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes)
        drop(s, now);
}

/* ---- all of them ---- */

static void round_of_all(uint64_t now)
{
    for (uint32_t i = 0; i < me.count; i++) {
        struct session *s = &me.all[i];
        if (s->fd >= 0 && now - s->heard_ms > me.timeout_ms * 2 / 3)
            drop(s, now);
        else if (s->state == LIVE && !s->is_pinged && now - s->pinged_ms >= me.timeout_ms / 3)
            ping(s, now);
    }
}

static void connect_more(uint64_t now)
{
    for (uint32_t i = 0; i < me.count && me.making < me.at_once; i++) {
        struct session *s = &me.all[me.next];
        if (s->state == IDLE && now >= s->retry_ms)
            begin(s, me.next, now);
        me.next = (me.next + 1) % me.count;
    }
}

static void turn(uint64_t *round_ms)
{
    struct epoll_event got[EVENTS];
    int n = epoll_wait(me.epoll, got, EVENTS, 10);
    uint64_t now = now_ms();

    for (int i = 0; i < n; i++) {
        uint32_t number = got[i].data.u32;
        struct session *s = &me.all[number];
        if (s->fd < 0)
            continue;
        if (s->state == CONNECTING && (got[i].events & (EPOLLERR | EPOLLHUP)) != 0)
            drop(s, now);
        else if (s->state == CONNECTING && (got[i].events & EPOLLOUT) != 0)
            ask(s, number, now);
        else if (got[i].events != 0)
            heard(s, now);
    }
    if (now - *round_ms >= ROUND_MS) {
        *round_ms = now;
        round_of_all(now);
    }
    connect_more(now);
}

static void report(void)
{
    uint64_t from = me.broken_ms != 0 ? me.broken_ms : me.begun_ms;

    printf("{\"sessions\":%u,\"connected\":%u,\"expired\":%u,\"lost\":%u,\"moved\":%u,"
           "\"pings\":%llu,\"worst_ms\":%llu,\"seconds\":%.2f}\n",
           me.opened, me.live, me.expired, me.lost, me.moved, (unsigned long long)me.pings,
           (unsigned long long)me.worst_ms,
           me.whole_ms != 0 ? (double)(me.whole_ms - from) / 1000.0 : -1.0);
    fflush(stdout);
    me.worst_ms = 0;
}

static void close_all(void)
{
    uint8_t bytes[PING_BYTES];

    put32(put32(put32(bytes, 8), 1), OP_CLOSE);
    for (uint32_t i = 0; i < me.count; i++)
        if (me.all[i].state == LIVE)
            (void)send(me.all[i].fd, bytes, sizeof bytes, MSG_NOSIGNAL);
}

static void parse(int argc, char **argv)
{
    me.count = (uint32_t)strtoul(argv[1], NULL, 10);
    me.timeout_ms = strtoul(argv[2], NULL, 10);
    me.at_once = (uint32_t)strtoul(argv[3], NULL, 10);
    struct rlimit files = {me.count + FILES_MORE, me.count + FILES_MORE};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        fail("setrlimit (as root, and below fs.nr_open)");
    for (int i = 4; i < argc; i++) {
        struct sockaddr_in *a = &me.servers[me.servers_n++];
        a->sin_family = AF_INET;
        a->sin_port = htons(2181);
        if (inet_pton(AF_INET, argv[i], &a->sin_addr) != 1)
            fail(argv[i]);
    }
    me.all = calloc(me.count, sizeof *me.all);
    me.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (me.count == 0 || me.all == NULL || me.epoll < 0)
        fail("start");
    for (uint32_t i = 0; i < me.count; i++) {
        me.all[i].fd = -1;
        me.all[i].server = (uint8_t)(i % me.servers_n);
    }
}

int main(int argc, char **argv)
{
    uint64_t round_ms = 0, until_ms = 0;
    char line[64];
    size_t len = 0;

    if (argc < 5 || argc > 4 + SERVERS_MAX) {
        fprintf(stderr, "usage: tool_crowd COUNT TIMEOUT_MS AT_ONCE ADDRESS...\n");
        return 2;
    }
    parse(argc, argv);
    me.begun_ms = now_ms();
    fcntl(0, F_SETFL, O_NONBLOCK);
    for (;;) {
        turn(&round_ms);
        if (until_ms != 0 && (me.whole_ms != 0 || now_ms() >= until_ms)) {
            until_ms = 0;
            report();
        }
        ssize_t n = read(0, line + len, sizeof line - 1 - len);
        if (n == 0)
            return 0;
        len += n > 0 ? (size_t)n : 0;
        line[len] = 0;
        if (len == 0 || line[len - 1] != '\n')
            continue;
        len = 0;
        if (strncmp(line, "wait ", 5) == 0)
            until_ms = now_ms() + strtoul(line + 5, NULL, 10) * 1000;
        else if (strcmp(line, "report\n") == 0)
            report();
        else if (strcmp(line, "end\n") == 0)
            close_all(), report();
    }
}
