/* SPDX-License-Identifier: Apache-2.0 */
/* tape.h -- an input read as a tape of choices, and records of the protocol made from it.
 *
 * Raw bytes rarely get past the first length of the first record. Here each record is made
 * field by field from the table of wire.h, its numbers and texts chosen by the tape: so the
 * bytes decode, and what they ask for is odd. A tape that has ended says 0 for ever.
 *
 * What is made lives until tape_free().
 */
#ifndef MUSTER_FUZZ_TAPE_H
#define MUSTER_FUZZ_TAPE_H

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "wire/wire.h"

#define TAPE_MADE_MAX 4096

struct tape {
    const uint8_t *at, *end;
    void *made[TAPE_MADE_MAX];
    size_t made_n;
};

static inline void tape_free(struct tape *t)
{
    while (t->made_n > 0)
        mem_free(t->made[--t->made_n]);
}

static inline bool tape_is_over(const struct tape *t)
{
    return t->at == t->end || t->made_n > TAPE_MADE_MAX / 2;
}

static inline uint8_t tape_byte(struct tape *t) { return t->at < t->end ? *t->at++ : 0; }

static inline unsigned tape_below(struct tape *t, unsigned n) { return tape_byte(t) % n; }

/* So many bytes of the tape itself, or what is left of it. */
static inline struct wire_bytes tape_raw(struct tape *t, size_t n)
{
    const uint8_t *at = t->at;

    if (n > (size_t)(t->end - t->at))
        n = (size_t)(t->end - t->at);
    t->at += n;
    return (struct wire_bytes){at, (int32_t)n};
}

static inline int64_t tape_number(struct tape *t)
{
    static const int64_t odd[] = {-1,        -2,        -4,        -8,         -101,  INT32_MIN,
                                  INT32_MAX, INT64_MIN, INT64_MAX, UINT32_MAX, 65535, 4000,
                                  60000,     1 << 20,   31,        1000000};
    uint8_t b = tape_byte(t);

    if (b < 200)
        return b < 100 ? b % 10 : b;
    if (b < 250)
        return odd[b % (sizeof odd / sizeof odd[0])];
    return (int64_t)((uint64_t)tape_byte(t) << 56 | (uint64_t)tape_byte(t) << 16 |
                     tape_byte(t));
}

/* Mostly one of a few paths that belong together. */
static inline struct wire_bytes tape_text(struct tape *t)
{
    static const char *const texts[] = {"/",
                                        "/a",
                                        "/a/b",
                                        "/a/b/c",
                                        "/b",
                                        "/a/s-",
                                        "/b/s-",
                                        "/zookeeper",
                                        "/zookeeper/config",
                                        "/zookeeper/quota/a",
                                        "/zookeeper/quota/a/zookeeper_limits",
                                        "/zookeeper/quota/a/zookeeper_stats",
                                        "",
                                        "a",
                                        "/a/",
                                        "/a//b",
                                        "/a/../b",
                                        "/a/s-0000000000",
                                        "digest",
                                        "u:h",
                                        "u:h-p",
                                        "world",
                                        "anyone",
                                        "auth",
                                        "ip",
                                        "10.0.0.9",
                                        "10.0.0.0/8",
                                        "super",
                                        "server.2=10.0.0.2:2888:3888:participant;2181",
                                        "server.1=h:1:2",
                                        "2,3",
                                        "count=5,bytes=100",
                                        "count=1,bytes=-1=;byteHardLimit=9;countHardLimit=2"};
    uint8_t b = tape_byte(t);

    if (b >= 250)
        return (struct wire_bytes){NULL, -1};
    if (b >= 240)
        return tape_raw(t, tape_below(t, 40));
    const char *text = texts[b % (sizeof texts / sizeof texts[0])];
    return wire_bytes(text, strlen(text));
}

static inline struct wire_bytes tape_data(struct tape *t)
{
    uint8_t b = tape_byte(t);

    if (b == 0)
        return (struct wire_bytes){NULL, -1};
    if (b < 100)
        return tape_raw(t, b % 32);
    if (b < 220)
        return tape_text(t);
    size_t n = (size_t)1 << (b - 220) / 2; /* up to 128 kB */
    uint8_t *p = mem_alloc(n);
    t->made[t->made_n++] = p;
    memset(p, b, n);
    return wire_bytes(p, n);
}

static inline struct wire_list tape_keep(struct tape *t, struct buf *b, int32_t count)
{
    struct wire_list l = {NULL, b->len, count};

    if (b->len > 0)
        l.data = t->made[t->made_n++] = mem_dup(b->data, b->len);
    buf_free(b);
    return l;
}

static inline struct wire_list tape_texts(struct tape *t)
{
    struct buf b = {0};
    int32_t n = (int32_t)tape_below(t, 6);

    for (int32_t i = 0; i < n; i++) {
        struct wire_bytes text = tape_text(t);
        wire_text_encode(text.len > 0 ? text.data : (const uint8_t *)"",
                         text.len > 0 ? (size_t)text.len : 0, &b);
    }
    return tape_keep(t, &b, n);
}

static inline struct wire_list tape_acls(struct tape *t)
{
    struct buf b = {0};
    int32_t n = (int32_t)tape_below(t, 5);

    if (n == 0) { /* the common one */
        const struct wire_acl all = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};
        wire_acl_encode(&all, &b);
        return tape_keep(t, &b, 1);
    }
    for (int32_t i = 1; i < n; i++) {
        const struct wire_acl a = {(int32_t)tape_number(t), tape_text(t), tape_text(t)};
        wire_acl_encode(&a, &b);
    }
    return tape_keep(t, &b, n - 1);
}

static inline struct wire_list tape_ids(struct tape *t)
{
    struct buf b = {0};
    int32_t n = (int32_t)tape_below(t, 4);

    for (int32_t i = 0; i < n; i++) {
        const struct wire_id id = {tape_text(t), tape_text(t)};
        wire_id_encode(&id, &b);
    }
    return tape_keep(t, &b, n);
}

static inline struct wire_stat tape_stat_made(struct tape *t)
{
    return (struct wire_stat){.czxid = tape_number(t),
                              .mzxid = tape_number(t),
                              .version = (int32_t)tape_number(t),
                              .aversion = (int32_t)tape_number(t),
                              .ephemeral_owner = tape_number(t),
                              .data_len = (int32_t)tape_number(t),
                              .children = (int32_t)tape_number(t),
                              .pzxid = tape_number(t)};
}

static inline struct wire_bytes tape_text_there(struct tape *t)
{
    struct wire_bytes text = tape_text(t);

    return text.len < 0 ? wire_bytes("/a", 2) : text;
}

#define TAPE_i32(t) (int32_t) tape_number(t)
#define TAPE_i64(t) tape_number(t)
#define TAPE_flag(t) (tape_below(t, 2) == 1)
#define TAPE_flag_or_end(t) (int8_t)((int)tape_below(t, 3) - 1)
#define TAPE_text(t) tape_text_there(t)
#define TAPE_text_or_null(t) tape_text(t)
#define TAPE_bytes(t) tape_data(t)
#define TAPE_texts(t) tape_texts(t)
#define TAPE_acls(t) tape_acls(t)
#define TAPE_ids(t) tape_ids(t)
#define TAPE_stat(t) tape_stat_made(t)
#define TAPE_FIELD(type, name) r.name = TAPE_##type(t);
#define TAPE_RECORD(rec, FIELDS)                                   \
    static inline void tape_##rec(struct tape *t, struct buf *out) \
    {                                                              \
        struct wire_##rec r;                                       \
        FIELDS(TAPE_FIELD)                                         \
        wire_##rec##_encode(&r, out);                              \
    }
WIRE_RECORDS(TAPE_RECORD)
#undef TAPE_RECORD
#undef TAPE_FIELD

/* What follows the header of each operation. */
/* clang-format off */
#define TAPE_REQUESTS(Q)                                                                       \
    Q(CREATE, create_request) Q(CREATE2, create_request) Q(CREATE_CONTAINER, create_request)   \
    Q(CREATE_TTL, create_ttl_request) Q(DELETE, path_version_request)                          \
    Q(CHECK, path_version_request) Q(EXISTS, path_watch_request)                               \
    Q(GET_DATA, path_watch_request) Q(SET_DATA, set_data_request) Q(GET_ACL, path_request)     \
    Q(SET_ACL, set_acl_request) Q(GET_CHILDREN, path_watch_request)                            \
    Q(GET_CHILDREN2, path_watch_request) Q(SYNC, path_request) Q(RECONFIG, reconfig_request)   \
    Q(CHECK_WATCHES, watch_type_request) Q(REMOVE_WATCHES, watch_type_request)                 \
    Q(AUTH, auth_request) Q(SET_WATCHES, set_watches_request)                                  \
    Q(SET_WATCHES2, set_watches2_request) Q(SASL, sasl_request)                                \
    Q(GET_EPHEMERALS, get_ephemerals_request) Q(GET_ALL_CHILDREN_NUMBER, path_request)         \
    Q(ADD_WATCH, add_watch_request) Q(DELETE_CONTAINER, path_request)
/* clang-format on */

#define TAPE_OP(sym, rec) WIRE_OP_##sym,
static const int32_t tape_ops[] = {TAPE_REQUESTS(TAPE_OP) WIRE_OP_PING, WIRE_OP_WHO_AM_I,
                                   WIRE_OP_CLOSE_SESSION};
#undef TAPE_OP
#define TAPE_OPS_N (sizeof tape_ops / sizeof tape_ops[0])

static inline void tape_body(struct tape *t, int32_t op, struct buf *out)
{
    switch (op) {
#define TAPE_CASE(sym, rec) \
    case WIRE_OP_##sym: tape_##rec(t, out); break;
        TAPE_REQUESTS(TAPE_CASE)
#undef TAPE_CASE
    default: break;
    }
}

static inline void tape_multi(struct tape *t, struct buf *out)
{
    static const int32_t parts[] = {
        WIRE_OP_CREATE,   WIRE_OP_CREATE2,      WIRE_OP_DELETE,
        WIRE_OP_SET_DATA, WIRE_OP_CHECK,        WIRE_OP_CREATE_TTL,
        WIRE_OP_GET_DATA, WIRE_OP_GET_CHILDREN, WIRE_OP_CREATE_CONTAINER,
        WIRE_OP_EXISTS};
    unsigned n = tape_below(t, 6);

    for (unsigned i = 0; i < n; i++) {
        struct wire_multi_header h = {.op = parts[tape_below(t, sizeof parts / 4)], .err = -1};
        wire_multi_header_encode(&h, out);
        if (h.op == WIRE_OP_GET_DATA || h.op == WIRE_OP_GET_CHILDREN) /* no flag in a multi */
            tape_path_request(t, out);
        else
            tape_body(t, h.op, out);
    }
    const struct wire_multi_header end = {.op = -1, .done = true, .err = -1};
    wire_multi_header_encode(&end, out);
}

/* A request with its header. */
static inline void tape_request(struct tape *t, int32_t xid, struct buf *out)
{
    unsigned pick = tape_below(t, TAPE_OPS_N + 2);
    int32_t op = pick < TAPE_OPS_N    ? tape_ops[pick]
                 : pick == TAPE_OPS_N ? WIRE_OP_MULTI
                                      : WIRE_OP_MULTI_READ;
    const struct wire_request_header h = {xid, op};

    wire_request_header_encode(&h, out);
    if (pick < TAPE_OPS_N)
        tape_body(t, op, out);
    else
        tape_multi(t, out);
}

#endif
