/* SPDX-License-Identifier: Apache-2.0 */
/* Writers that survive a server's death, and know when writes were acknowledged again.
 *
 *   tool_ensemble zookeeper|etcd SESSIONS PORT...
 *
 * Each session writes a znode (a key) of its own, one write in flight, the values counting up;
 * they are spread over the servers (127.0.0.1). A session whose connection is lost goes to the
 * next server at once and, when it has been to all, after RETRY_MS; a write that was not
 * answered is written again, as the next value. etcd is spoken to over its HTTP gateway; a
 * write that it does not answer within ETCD_PATIENCE_MS is given up, with the connection.
 *
 * On stdin, a line each; the answer is a line of JSON:
 *   mark     forget the times so far
 *   kill     likewise; from now on the longest time must have begun within DRAIN_MS: what has
 *            been committed before is still acknowledged for a moment, and what else holds up
 *            a busy machine later is not what is measured
 *   report   {"acks": since the mark, "gap_begin_ns", "gap_end_ns": the longest time without an
 *            acknowledged write, "all_ns": when each session had one after that (0: not yet),
 *            "errors": answers that were none, "lost": sessions that had expired}
 *   check    reads all znodes back: {"acknowledged": writes, "missing": sessions whose value is
 *            older than the last that was acknowledged}, and ends
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "frames.h"
#include "meter.h"

#define SESSIONS_MAX 1000
#define SERVERS_MAX 16
#define TIMEOUT_MS 10000
#define PING_MS 2000
#define RETRY_MS 10
#define DRAIN_MS 30
#define ETCD_PATIENCE_MS 1000
#define CHECK_PATIENCE_MS 30000
#define ANSWER_MAX 4096
#define VALUE 100 /* bytes: a number, and filled up */
#define PASSWORD 16

enum state { AWAY, CONNECTING, ASKED, LIVE };
enum wants { WRITES, CREATES, READS, RESTS };

struct session {
    int fd;
    enum state state;
    enum wants wants;
    bool is_waiting; /* for an answer to what it wants */
    unsigned server, tried;
    int32_t xid;
    int64_t id, zxid_seen;
    uint8_t password[PASSWORD];
    uint64_t written, acknowledged, read; /* values */
    uint64_t retry_ms, sent_ms, pinged_ms, resumed_ns;
    struct buf in, out;
    char path[32];
};

static struct {
    struct session all[SESSIONS_MAX];
    unsigned count, servers;
    uint16_t ports[SERVERS_MAX];
    bool is_etcd;
    uint64_t acks, writes, errors, lost;
    uint64_t last_ack_ns, gap_begin_ns, gap_end_ns;
    uint64_t drained_ns; /* a later gap does not count */
} me;

static void die(const char *what)
{
    fprintf(stderr, "ensemble: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ms(void) { return meter_now_ns() / 1000000; }

static void fill_value(char out[VALUE], uint64_t value)
{
    memset(out, '.', VALUE);
    int n = snprintf(out, VALUE, "%llu", (unsigned long long)value);
    out[n] = ' ';
}

/* ---- when ---- */

static void note_ack(struct session *s)
{
    uint64_t now = meter_now_ns();

    if (me.last_ack_ns != 0 && me.last_ack_ns <= me.drained_ns &&
        now - me.last_ack_ns > me.gap_end_ns - me.gap_begin_ns) {
        me.gap_begin_ns = me.last_ack_ns;
        me.gap_end_ns = now;
        for (unsigned i = 0; i < me.count; i++)
            me.all[i].resumed_ns = 0;
    }
    if (s->resumed_ns == 0)
        s->resumed_ns = now;
    me.last_ack_ns = now;
    me.acks++;
    me.writes++;
    s->acknowledged = s->written;
}

static void mark(bool is_kill)
{
    me.drained_ns = is_kill ? meter_now_ns() + DRAIN_MS * 1000000ull : UINT64_MAX;
    me.acks = me.errors = me.lost = 0;
    me.gap_begin_ns = me.gap_end_ns = 0;
}

static void report(void)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < me.count; i++) {
        if (me.all[i].resumed_ns == 0) {
            all = 0;
            break;
        }
        if (me.all[i].resumed_ns > all)
            all = me.all[i].resumed_ns;
    }
    printf("{\"acks\": %llu, \"gap_begin_ns\": %llu, \"gap_end_ns\": %llu, \"all_ns\": %llu, "
           "\"errors\": %llu, \"lost\": %llu}\n",
           (unsigned long long)me.acks, (unsigned long long)me.gap_begin_ns,
           (unsigned long long)me.gap_end_ns, (unsigned long long)all,
           (unsigned long long)me.errors, (unsigned long long)me.lost);
    fflush(stdout);
}

/* ---- ZooKeeper's protocol ---- */

static void zk_connect(struct session *s)
{
    const struct wire_connect_request q = {.last_zxid_seen = s->zxid_seen,
                                           .timeout_ms = TIMEOUT_MS,
                                           .session_id = s->id,
                                           .password = wire_bytes(s->password, PASSWORD)};
    size_t at = wire_frame_begin(&s->out);

    wire_connect_request_encode(&q, &s->out);
    wire_frame_end(&s->out, at);
}

static void zk_ask(struct session *s)
{
    char value[VALUE];
    size_t at = s->out.len;

    fill_value(value, s->written);
    if (s->wants == WRITES)
        frame_set(&s->out, s->path, value, VALUE);
    else if (s->wants == CREATES)
        frame_create(&s->out, s->path, value, VALUE, WIRE_PERSISTENT);
    else
        frame_read(&s->out, WIRE_OP_GET_DATA, s->path, false);
    frame_number(&s->out, at, ++s->xid);
}

/* What came of what was asked. */
static void answered(struct session *s, bool is_good, const char *data)
{
    s->is_waiting = false;
    if (!is_good) {
        me.errors++;
    } else if (s->wants == WRITES) {
        note_ack(s);
    } else if (s->wants == CREATES) {
        s->wants = WRITES;
    } else {
        s->read = strtoull(data, NULL, 10);
        s->wants = RESTS;
    }
}

static void zk_session(struct session *s, const uint8_t *frame, size_t len)
{
    struct wire_connect_response r;
    struct wire_in in = wire_in(frame, len);

    if (wire_connect_response_decode(&r, &in) != 0 || r.password.len != PASSWORD)
        die("no answer to a connect");
    if (r.session_id == 0) {
        me.lost++;
        s->id = 0; /* and it is closed */
        memset(s->password, 0, PASSWORD);
        return;
    }
    s->id = r.session_id;
    memcpy(s->password, r.password.data, PASSWORD);
    s->state = LIVE;
    s->tried = 0;
    s->xid = 0;
}

static void zk_frame(struct session *s, const uint8_t *frame, size_t len)
{
    struct wire_reply_header h;
    struct wire_data_response r = {0};
    struct wire_in in = wire_in(frame, len);
    char data[VALUE + 1] = "";

    if (s->state == ASKED) {
        zk_session(s, frame, len);
        return;
    }
    if (wire_reply_header_decode(&h, &in) != 0)
        die("no reply");
    if (h.xid == WIRE_XID_PING)
        return;
    if (h.xid != s->xid)
        die("a reply to another request");
    if (h.zxid > s->zxid_seen)
        s->zxid_seen = h.zxid;
    if (s->wants == READS && h.err == 0 && wire_data_response_decode(&r, &in) == 0 &&
        r.data.len == VALUE)
        memcpy(data, r.data.data, VALUE);
    /* Created before, by a request whose answer was lost. */
    answered(s, h.err == 0 || (s->wants == CREATES && h.err == -110), data);
}

static size_t zk_take(struct session *s)
{
    if (s->in.len < 4 || s->in.len - 4 < be32_get(s->in.data))
        return 0;
    size_t len = be32_get(s->in.data);
    zk_frame(s, s->in.data + 4, len);
    return 4 + len;
}

/* ---- etcd's HTTP gateway: JSON, byte strings in base64 ---- */

static void base64(const char *in, size_t len, char *out)
{
    static const char *const digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)(uint8_t)in[i] << 16;
        if (i + 1 < len)
            v |= (uint32_t)(uint8_t)in[i + 1] << 8;
        if (i + 2 < len)
            v |= (uint8_t)in[i + 2];
        *out++ = digits[v >> 18];
        *out++ = digits[v >> 12 & 63];
        *out++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
        *out++ = i + 2 < len ? digits[v & 63] : '=';
    }
    *out = 0;
}

static void etcd_ask(struct session *s)
{
    char value[VALUE], key64[64], value64[2 * VALUE], body[512];

    fill_value(value, s->written);
    base64(s->path, strlen(s->path), key64);
    base64(value, VALUE, value64);
    if (s->wants == READS)
        snprintf(body, sizeof body, "{\"key\":\"%s\"}", key64);
    else
        snprintf(body, sizeof body, "{\"key\":\"%s\",\"value\":\"%s\"}", key64, value64);
    buf_printf(
        &s->out,
        "POST /v3/kv/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        s->wants == READS ? "range" : "put", strlen(body), body);
}

/* "MTIz...": the number that the value begins with. */
static void unbase64_number(const char *at, char *out, size_t room)
{
    static const char *const digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;

    for (uint32_t v = 0, bits = 0; n + 1 < room; at++) {
        const char *d = *at != 0 ? strchr(digits, *at) : NULL;
        if (d == NULL)
            break;
        v = v << 6 | (uint32_t)(d - digits);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (char)(v >> bits & 255);
        }
    }
    out[n] = 0;
}

static size_t etcd_take(struct session *s)
{
    char data[VALUE + 1] = "";
    const char *got = buf_text(&s->in), *body = strstr(got, "\r\n\r\n");
    const char *length = strcasestr(got, "\r\nContent-Length:");

    if (body == NULL)
        return 0;
    if (length == NULL || length > body)
        die("an answer without a length");
    body += 4;
    size_t len = strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
    if (len > ANSWER_MAX)
        die("a long answer");
    if (s->in.len - (size_t)(body - got) < len)
        return 0;
    const char *value = strstr(body, "\"value\":\"");
    if (value != NULL)
        unbase64_number(value + strlen("\"value\":\""), data, sizeof data);
    answered(s, strncmp(got, "HTTP/1.1 200", 12) == 0, data);
    return (size_t)(body - got) + len;
}

/* ---- connections ---- */

static void go_away(struct session *s)
{
    close(s->fd);
    s->fd = -1;
    s->state = AWAY;
    s->is_waiting = false;
    buf_clear(&s->in);
    buf_clear(&s->out);
    s->server = (s->server + 1) % me.servers;
    s->retry_ms = now_ms() + (++s->tried % me.servers == 0 ? RETRY_MS : 0);
}

static void begin(struct session *s)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(me.ports[s->server]),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        die("socket");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    s->state = CONNECTING;
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        go_away(s);
}

static void ask_next(struct session *s)
{
    if (s->state != LIVE || s->is_waiting || s->wants == RESTS)
        return;
    if (s->wants == WRITES)
        s->written++;
    s->is_waiting = true;
    s->sent_ms = now_ms();
    if (me.is_etcd)
        etcd_ask(s);
    else
        zk_ask(s);
}

static void flush(struct session *s)
{
    while (s->state >= ASKED && s->out.len > 0) {
        ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            go_away(s);
            return;
        }
        buf_consume(&s->out, (size_t)n);
    }
}

static void receive(struct session *s)
{
    ssize_t n = recv(s->fd, buf_reserve(&s->in, ANSWER_MAX), ANSWER_MAX, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        go_away(s);
        return;
    }
    buf_added(&s->in, (size_t)n);
    for (size_t used = 1; used > 0 && s->in.len > 0;) {
        used = me.is_etcd ? etcd_take(s) : zk_take(s);
        buf_consume(&s->in, used);
    }
}

static void connected(struct session *s)
{
    int err = 0;
    socklen_t len = sizeof err;

    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err != 0) {
        go_away(s);
        return;
    }
    s->state = me.is_etcd ? LIVE : ASKED;
    if (me.is_etcd)
        s->tried = 0;
    else
        zk_connect(s);
}

static void look_at_time(struct session *s, uint64_t now)
{
    if (s->state == AWAY && now >= s->retry_ms)
        begin(s);
    if (me.is_etcd && s->is_waiting && now > s->sent_ms + ETCD_PATIENCE_MS)
        go_away(s);
    if (!me.is_etcd && s->state == LIVE && now > s->pinged_ms + PING_MS) {
        s->pinged_ms = now;
        frame_ping(&s->out);
    }
}

/* True: there is a line on stdin. */
static bool turn(void)
{
    static struct pollfd fds[SESSIONS_MAX + 1];

    for (unsigned i = 0; i < me.count; i++) {
        struct session *s = &me.all[i];
        look_at_time(s, now_ms());
        ask_next(s);
        flush(s);
        fds[i] = (struct pollfd){s->fd, POLLIN, 0};
        if (s->state == CONNECTING || s->out.len > 0)
            fds[i].events = POLLOUT;
    }
    fds[me.count] = (struct pollfd){0, POLLIN, 0};
    if (poll(fds, me.count + 1, RETRY_MS) < 0)
        die("poll");
    for (unsigned i = 0; i < me.count; i++) {
        struct session *s = &me.all[i];
        if (fds[i].revents == 0 || s->fd != fds[i].fd || s->fd < 0)
            continue;
        if (s->state == CONNECTING)
            connected(s);
        else if ((fds[i].revents & ~POLLOUT) != 0)
            receive(s);
    }
    return fds[me.count].revents != 0;
}

static bool all_want(enum wants wants)
{
    for (unsigned i = 0; i < me.count; i++)
        if (me.all[i].wants != wants)
            return false;
    return true;
}

static void until_all(enum wants wants)
{
    uint64_t until = now_ms() + CHECK_PATIENCE_MS;

    while (!all_want(wants)) {
        if (now_ms() > until) {
            errno = ETIMEDOUT;
            die("not all sessions are answered");
        }
        turn();
    }
}

static int check(void)
{
    unsigned missing = 0;

    /* A write that is under way ends first: its session reads when it has been answered. */
    for (unsigned i = 0; i < me.count; i++)
        while (me.all[i].is_waiting)
            turn();
    for (unsigned i = 0; i < me.count; i++) {
        while (me.all[i].is_waiting)
            turn();
        me.all[i].wants = READS;
    }
    until_all(RESTS);
    for (unsigned i = 0; i < me.count; i++) {
        const struct session *s = &me.all[i];
        bool is_there = s->read >= s->acknowledged && s->read <= s->written;
        missing += !is_there;
        if (!is_there)
            fprintf(stderr, "ensemble: %s has %llu, acknowledged %llu, written %llu\n", s->path,
                    (unsigned long long)s->read, (unsigned long long)s->acknowledged,
                    (unsigned long long)s->written);
    }
    printf("{\"acknowledged\": %llu, \"missing\": %u}\n", (unsigned long long)me.writes,
           missing);
    return missing > 0;
}

int main(int argc, char **argv)
{
    char line[64];

    if (argc < 4 || argc > 3 + SERVERS_MAX) {
        fputs("usage: tool_ensemble zookeeper|etcd SESSIONS PORT...\n", stderr);
        return 2;
    }
    me.is_etcd = strcmp(argv[1], "etcd") == 0;
    me.count = (unsigned)atoi(argv[2]);
    CHECK(me.count > 0 && me.count <= SESSIONS_MAX);
    for (int i = 3; i < argc; i++)
        me.ports[me.servers++] = (uint16_t)atoi(argv[i]);
    mark(false);
    for (unsigned i = 0; i < me.count; i++) {
        struct session *s = &me.all[i];
        s->fd = -1;
        s->server = i % me.servers;
        s->wants = me.is_etcd ? WRITES : CREATES;
        snprintf(s->path, sizeof s->path, "/session%u", i);
    }
    for (;;) {
        if (!turn())
            continue;
        ssize_t n = read(0, line, sizeof line - 1);
        if (n <= 0)
            return 0;
        line[n] = 0;
        if (strcmp(line, "mark\n") == 0)
            mark(false);
        else if (strcmp(line, "kill\n") == 0)
            mark(true);
        else if (strcmp(line, "report\n") == 0)
            report();
        else if (strcmp(line, "check\n") == 0)
            return check();
    }
}
