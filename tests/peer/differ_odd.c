/* SPDX-License-Identifier: Apache-2.0 */
/* differ_odd.c -- connections that go wrong: the same odd bytes to muster and to ZooKeeper.
 *
 *   tool_differ_odd ZOOKEEPER MUSTER [--seed N] [--rounds N] [--verbose]
 *
 * Each scenario is played to each server by itself, on connections of its own, and leaves a
 * text: what came back and whether the connection was closed. The two texts must be equal.
 * What differs on purpose is not played: docs/zookeeper-differences.md.
 *
 * Exit code: 0 the same, 1 different, 2 usage, 3 a server is not there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "differ_link.h"
#include "wire/wire.h"

#define OPEN_WAIT_MS 400 /* who has not closed until then keeps the connection */
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* One scenario with one server. */
struct play {
    const char *address;
    struct rng r; /* the same for both */
    struct buf text;
    struct link link;
    int64_t session;
    uint8_t password[16];
};

static unsigned below(struct play *p, size_t n) { return (unsigned)rng_below(&p->r, n); }

/* ---- what is sent ---- */

struct hello {
    int32_t version, timeout_ms;
    int64_t zxid, session;
    struct wire_bytes password;
    int8_t read_only;
};

static void hello_frame(const struct hello *h, struct buf *out)
{
    const struct wire_connect_request r = {h->version, h->zxid,     h->timeout_ms,
                                           h->session, h->password, h->read_only};
    size_t at = wire_frame_begin(out);

    wire_connect_request_encode(&r, out);
    wire_frame_end(out, at);
}

static const struct hello PLAIN = {0, 10000, 0, 0, {(const uint8_t *)"", 0}, 0};

static void send_bytes(struct play *p, const struct buf *b)
{
    (void)link_send(&p->link, b->data, b->len);
}

static void request_frame(struct buf *out, int32_t xid, int32_t op, const void *body,
                          size_t len)
{
    const struct wire_request_header h = {xid, op};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    if (len > 0)
        buf_add(out, body, len);
    wire_frame_end(out, at);
}

static void ping_frame(struct buf *out) { request_frame(out, -2, WIRE_OP_PING, NULL, 0); }

/* ---- what comes back ---- */

static void note_end(struct play *p, enum link_read r)
{
    buf_add_str(&p->text, r == LINK_CLOSED ? "closed; " : "open; ");
}

static void read_hello(struct play *p)
{
    static const uint8_t zeros[16];
    struct wire_connect_response r = {0};
    const uint8_t *data;
    size_t len;

    if (link_frame(&p->link, LINK_WAIT_MS, &data, &len) != LINK_FRAME) {
        buf_add_str(&p->text, "no hello; ");
        return;
    }
    struct wire_in in = wire_in(data, len);
    int err = wire_connect_response_decode(&r, &in);
    buf_printf(&p->text,
               "hello %zu bytes %d version %d timeout %d session %s password %d %s ro %d; ",
               len, err, r.protocol_version, r.timeout_ms, r.session_id != 0 ? "yes" : "no",
               r.password.len,
               r.password.len == 16 && memcmp(r.password.data, zeros, 16) == 0 ? "zero" : "set",
               r.read_only);
    p->session = r.session_id;
    if (r.password.len == 16)
        memcpy(p->password, r.password.data, 16);
}

/* n replies: their headers; zxids only by their sign. */
static void read_replies(struct play *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct wire_reply_header h = {0};
        const uint8_t *data;
        size_t len;
        enum link_read r = link_frame(&p->link, LINK_WAIT_MS, &data, &len);
        if (r != LINK_FRAME) {
            note_end(p, r);
            return;
        }
        struct wire_in in = wire_in(data, len);
        (void)wire_reply_header_decode(&h, &in);
        buf_printf(&p->text, "reply xid %d zxid %s err %d, %zu bytes; ", h.xid,
                   h.zxid > 0    ? "+"
                   : h.zxid == 0 ? "0"
                                 : "-",
                   h.err, len);
    }
}

static void read_end(struct play *p) { note_end(p, link_rest(&p->link, OPEN_WAIT_MS)); }

static void connect_plain(struct play *p)
{
    struct buf b = {0};

    link_open(&p->link, p->address);
    hello_frame(&PLAIN, &b);
    send_bytes(p, &b);
    read_hello(p);
    buf_free(&b);
}

static void ping(struct play *p)
{
    struct buf b = {0};

    ping_frame(&b);
    send_bytes(p, &b);
    read_replies(p, 1);
    buf_free(&b);
}

/* ---- the scenarios ---- */

static void timeouts(struct play *p)
{
    static const int32_t ms[] = {0,     -1,    1,     499,    500,       501,      4000,
                                 59999, 60000, 60001, 999999, INT32_MAX, INT32_MIN};
    struct hello h = PLAIN;
    struct buf b = {0};

    h.timeout_ms = ms[below(p, COUNT(ms))];
    link_open(&p->link, p->address);
    hello_frame(&h, &b);
    send_bytes(p, &b);
    read_hello(p);
    ping(p);
    buf_free(&b);
}

static void hello_forms(struct play *p)
{
    static const uint8_t some[40] = {1, 2, 3};
    static const int8_t read_only[] = {WIRE_ABSENT, 0, 1};
    static const int32_t lens[] = {-1, 0, 1, 15, 16, 17, 40};
    struct hello h = PLAIN;
    struct buf b = {0};

    h.version = (int32_t)below(p, 3) - 1;
    h.read_only = read_only[below(p, COUNT(read_only))];
    h.password = (struct wire_bytes){some, lens[below(p, COUNT(lens))]};
    link_open(&p->link, p->address);
    hello_frame(&h, &b);
    if (below(p, 3) == 0) { /* what comes behind it waits */
        ping_frame(&b);
        send_bytes(p, &b);
        read_hello(p);
        read_replies(p, 1);
    } else {
        send_bytes(p, &b);
        read_hello(p);
        ping(p);
    }
    buf_free(&b);
}

static void hello_from_the_future(struct play *p)
{
    static const int64_t zxids[] = {1000000000000, INT64_MAX, 1, 0, -1, INT64_MIN};
    struct hello h = PLAIN;
    struct buf b = {0};

    h.zxid = zxids[below(p, COUNT(zxids))];
    link_open(&p->link, p->address);
    hello_frame(&h, &b);
    send_bytes(p, &b);
    read_hello(p);
    read_end(p);
    buf_free(&b);
}

static void no_such_session(struct play *p)
{
    static const int64_t ids[] = {1, -1, INT64_MAX, INT64_MIN, 0x123456789abcdef};
    static const uint8_t some[16] = {9};
    struct hello h = PLAIN;
    struct buf b = {0};

    h.session = ids[below(p, COUNT(ids))];
    h.password = wire_bytes(some, 16);
    h.read_only = below(p, 2) ? 0 : WIRE_ABSENT;
    link_open(&p->link, p->address);
    hello_frame(&h, &b);
    send_bytes(p, &b);
    read_hello(p);
    read_end(p);
    buf_free(&b);
}

/* The session connects again: what is asked of the time counts anew. */
static void again(struct play *p)
{
    static const int32_t lens[] = {-1, 0, 8, 15, 16, 16, 16, 16};
    struct hello h = PLAIN;
    struct buf b = {0};
    struct link first;

    connect_plain(p);
    first = p->link;
    link_shut(&first);
    note_end(p, link_rest(&first, LINK_WAIT_MS));
    link_close(&first);
    buf_free(&first.in);
    p->link = (struct link){.fd = -1};
    h.session = p->session;
    h.timeout_ms = 20000 + (int32_t)below(p, 3);
    h.password = (struct wire_bytes){p->password, lens[below(p, COUNT(lens))]};
    link_open(&p->link, p->address);
    hello_frame(&h, &b);
    send_bytes(p, &b);
    read_hello(p);
    read_end(p);
    buf_free(&b);
}

static void closed_session_again(struct play *p)
{
    struct hello h = PLAIN;
    struct buf b = {0};

    connect_plain(p);
    request_frame(&b, 1, WIRE_OP_CLOSE_SESSION, NULL, 0);
    send_bytes(p, &b);
    read_replies(p, 1);
    read_end(p);
    link_close(&p->link);
    buf_clear(&b);
    h.session = p->session;
    h.password = wire_bytes(p->password, 16);
    link_open(&p->link, p->address);
    hello_frame(&h, &b);
    send_bytes(p, &b);
    read_hello(p);
    read_end(p);
    buf_free(&b);
}

/* The first frame is no connect request, or none that is whole. */
static void bad_hello(struct play *p)
{
    struct buf b = {0}, good = {0};
    unsigned cut;

    hello_frame(&PLAIN, &good);
    cut = 1 + below(p, good.len - 5); /* of what is behind the length */
    buf_add_be32(&b, cut);
    buf_add(&b, good.data + 4, cut);
    if (cut < 28) { /* up to the password's length; then it can be read */
        link_open(&p->link, p->address);
        send_bytes(p, &b);
        read_end(p);
    }
    buf_free(&b);
    buf_free(&good);
}

static void bad_lengths(struct play *p)
{
    static const uint32_t lens[] = {0, 0xffffffff, 0x80000000, 1048576, 0x7fffffff, 0xfffffffe};
    bool with_session = below(p, 2);
    struct buf b = {0};

    if (with_session)
        connect_plain(p);
    else
        link_open(&p->link, p->address);
    buf_add_be32(&b, lens[below(p, COUNT(lens))]);
    send_bytes(p, &b);
    read_end(p);
    buf_free(&b);
}

static void short_packets(struct play *p)
{
    struct buf b = {0};
    unsigned len = 1 + below(p, 7);

    connect_plain(p);
    buf_add_be32(&b, len);
    for (unsigned i = 0; i < len; i++)
        buf_add_u8(&b, (uint8_t)below(p, 256));
    send_bytes(p, &b);
    read_end(p);
    buf_free(&b);
}

/* The longest frame that is taken, and one byte more. */
static void longest_frame(struct play *p)
{
    const unsigned longest = 1048575, more = below(p, 2);
    struct buf b = {0};

    connect_plain(p);
    buf_add_be32(&b, longest + more);
    buf_add_be32(&b, 1);
    buf_add_be32(&b, WIRE_OP_GET_DATA);
    wire_text_encode("/no", 3, &b);
    buf_add_u8(&b, 0);
    while (b.len < 4 + longest + more)
        buf_add_u8(&b, 'x');
    send_bytes(p, &b);
    if (!more)
        read_replies(p, 1);
    read_end(p);
    buf_free(&b);
}

/* Behind what ends the connection nothing is answered. */
static void end_in_the_middle(struct play *p)
{
    static const int32_t ops[] = {0, 10, 99, 1000, WIRE_OP_CLOSE_SESSION};
    struct buf b = {0};
    int32_t op = ops[below(p, COUNT(ops))];

    connect_plain(p);
    ping(p);
    request_frame(&b, 7, op, NULL, 0);
    send_bytes(p, &b);
    read_replies(p, 1);
    read_end(p);
    buf_free(&b);
}

static void auth_that_fails(struct play *p)
{
    static const char *const schemes[] = {"none", "", "world", "auth", "super", "digest", "ip"};
    const char *scheme = schemes[below(p, COUNT(schemes))];
    struct buf body = {0}, b = {0};

    connect_plain(p);
    buf_add_be32(&body, 0);
    wire_text_encode(scheme, strlen(scheme), &body);
    wire_text_encode("a:b", 3, &body);
    request_frame(&b, -4, WIRE_OP_AUTH, body.data, body.len); /* rule auth_malformed */
    send_bytes(p, &b);
    read_replies(p, 1);
    read_end(p);
    buf_free(&b);
    buf_free(&body);
}

/* A frame in pieces, and two frames in one. */
static void pieces(struct play *p)
{
    struct buf b = {0};

    link_open(&p->link, p->address);
    hello_frame(&PLAIN, &b);
    for (size_t at = 0; at < b.len;) {
        size_t n = 1 + below(p, 9);
        n = n < b.len - at ? n : b.len - at;
        (void)link_send(&p->link, b.data + at, n);
        at += n;
    }
    read_hello(p);
    buf_clear(&b);
    ping_frame(&b);
    ping_frame(&b);
    request_frame(&b, 5, WIRE_OP_GET_DATA, "\0\0\0\1/\0", 6);
    for (size_t at = 0; at < b.len;) {
        size_t n = 1 + below(p, 30);
        n = n < b.len - at ? n : b.len - at;
        (void)link_send(&p->link, b.data + at, n);
        at += n;
    }
    read_replies(p, 3);
    read_end(p);
    buf_free(&b);
}

/* ---- four-letter words ---- */

/* Lines with every number as N: the shape of an answer. */
static void shape(struct play *p, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t c = data[i];
        if (c >= '0' && c <= '9') {
            if (i == 0 || data[i - 1] < '0' || data[i - 1] > '9')
                buf_add_u8(&p->text, 'N');
        } else {
            buf_add_u8(&p->text, c);
        }
    }
}

/* Only those whose shape does not depend on what else there is, or on the version. */
static void words(struct play *p)
{
    static const char *const texts[] = {"ruok", "isro",   "gtmk",     "crst", "srst", "dirs",
                                        "wchs", "ruok\n", "isro\r\n", "zzzz", "RUOK", "ruo"};
    const char *w = texts[below(p, COUNT(texts))];

    link_open(&p->link, p->address);
    (void)link_send(&p->link, w, strlen(w));
    if (below(p, 2) || strlen(w) < 4)
        link_shut(&p->link);
    enum link_read r = link_rest(&p->link, 2000);
    buf_printf(&p->text, "%s: ", w);
    shape(p, p->link.in.data, p->link.in.len);
    note_end(p, r);
}

/* The names that stand before the colon of each line. */
static void srvr(struct play *p)
{
    link_open(&p->link, p->address);
    (void)link_send(&p->link, "srvr", 4);
    enum link_read r = link_rest(&p->link, 2000);
    for (size_t at = 0; at < p->link.in.len;) {
        const uint8_t *line = p->link.in.data + at;
        const uint8_t *end = memchr(line, '\n', p->link.in.len - at);
        size_t len = end != NULL ? (size_t)(end - line) : p->link.in.len - at;
        const uint8_t *colon = memchr(line, ':', len);
        buf_add(&p->text, line, colon != NULL ? (size_t)(colon - line) : len);
        buf_add_str(&p->text, "; ");
        at += len + 1;
    }
    note_end(p, r);
}

#define SCENARIOS(S)         \
    S(timeouts)              \
    S(hello_forms)           \
    S(hello_from_the_future) \
    S(no_such_session)       \
    S(again)                 \
    S(closed_session_again)  \
    S(bad_hello)             \
    S(bad_lengths)           \
    S(short_packets)         \
    S(longest_frame)         \
    S(end_in_the_middle)     \
    S(auth_that_fails)       \
    S(pieces)                \
    S(words)                 \
    S(srvr)

static const struct scenario {
    const char *name;
    void (*run)(struct play *);
} SCENARIO_ROWS[] = {
#define S(name) {#name, name},
    SCENARIOS(S)
#undef S
};

static bool same(struct play both[2])
{
    return both[0].text.len == both[1].text.len &&
           memcmp(both[0].text.data, both[1].text.data, both[0].text.len) == 0;
}

/* One scenario with both; 1: they differ. */
static int run_one(const char *const addresses[2], uint64_t seed, uint64_t round, size_t which,
                   bool verbose)
{
    static const char *const names[] = {"ZooKeeper", "muster"};
    struct play both[2];
    int different = 0;

    for (int i = 0; i < 2; i++) {
        both[i] = (struct play){.address = addresses[i], .link.fd = -1};
        both[i].r.state = hash_u64(seed) ^ hash_u64(round * COUNT(SCENARIO_ROWS) + which);
        SCENARIO_ROWS[which].run(&both[i]);
        buf_add_u8(&both[i].text, ' ');
        link_close(&both[i].link);
        buf_free(&both[i].link.in);
    }
    if (!same(both)) {
        different = 1;
        printf("DIFFERENT seed %" PRIu64 " round %" PRIu64 " %s\n", seed, round,
               SCENARIO_ROWS[which].name);
    } else if (verbose) {
        printf("%s\n", SCENARIO_ROWS[which].name);
    }
    for (int i = 0; i < 2; i++) {
        if (different || (verbose && i == 0))
            printf("  %-10s %s\n", names[i], buf_text(&both[i].text));
        buf_free(&both[i].text);
    }
    return different;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, rounds = 4, different = 0;
    bool verbose = false;

    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0)
            rounds = strtoull(argv[++i], NULL, 10);
        else
            argc = 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: tool_differ_odd ZOOKEEPER MUSTER [--seed N] [--rounds N] "
                        "[--verbose]\n");
        return 2;
    }
    const char *const addresses[2] = {argv[1], argv[2]};
    for (uint64_t round = 0; round < rounds; round++)
        for (size_t i = 0; i < COUNT(SCENARIO_ROWS); i++)
            different += (uint64_t)run_one(addresses, seed, round, i, verbose);
    printf("%" PRIu64 " odd connections from seed %" PRIu64 ", %" PRIu64 " differences\n",
           rounds * COUNT(SCENARIO_ROWS), seed, different);
    return different > 0;
}
