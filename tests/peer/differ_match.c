/* SPDX-License-Identifier: Apache-2.0 */
#include "differ_match.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

const char *const side_names[SIDES] = {"ZooKeeper", "muster"};

#define TIMES_APART_MS 60000 /* how long a busy machine may take from one to the other */

/* From here on the two count in step. */
struct segment {
    int64_t from[SIDES];
};

struct match {
    struct segment *segments;
    uint32_t segments_n, segments_cap;
    int64_t last[SIDES];
    int64_t shifts; /* zxids that muster may have taken alone since the last one */
    int64_t (*sessions)[SIDES];
    uint32_t sessions_n, sessions_cap;
    struct buf times[SIDES];
    struct wire_bytes *texts; /* to be sorted */
    uint32_t texts_cap;
};

struct match *match_new(void) { return mem_new(struct match); }

void match_free(struct match *m)
{
    mem_free(m->segments);
    mem_free(m->sessions);
    mem_free(m->texts);
    buf_free(&m->times[ZOOKEEPER]);
    buf_free(&m->times[MUSTER]);
    mem_free(m);
}

void match_session(struct match *m, const int64_t ids[SIDES])
{
    mem_grow(m->sessions, m->sessions_cap, m->sessions_n + 1);
    memcpy(m->sessions[m->sessions_n++], ids, sizeof *m->sessions);
}

void match_may_shift(struct match *m) { m->shifts++; }

/* ---- zxids ---- */

static void segment_add(struct match *m, const int64_t from[SIDES])
{
    mem_grow(m->segments, m->segments_cap, m->segments_n + 1);
    memcpy(m->segments[m->segments_n++].from, from, sizeof m->segments->from);
}

/* The segment that a zxid of one side lies in; NULL: before all. */
static const struct segment *segment_of(const struct match *m, enum side side, int64_t zxid)
{
    uint32_t lo = 0, hi = m->segments_n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->segments[mid].from[side] <= zxid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 ? &m->segments[lo - 1] : NULL;
}

static int64_t translate(const struct match *m, enum side from, enum side to, int64_t zxid)
{
    const struct segment *s = segment_of(m, from, zxid);

    return s != NULL ? zxid - s->from[from] + s->from[to] : 0;
}

bool match_headers(struct match *m, const int64_t zxids[SIDES])
{
    int64_t zk = zxids[ZOOKEEPER], mu = zxids[MUSTER];

    if (zk <= 0 || mu <= 0)
        return zk == mu;
    if (m->segments_n == 0) {
        segment_add(m, zxids);
        memcpy(m->last, zxids, sizeof m->last);
        return true;
    }
    int64_t new_zk = zk - m->last[ZOOKEEPER], new_mu = mu - m->last[MUSTER];
    int64_t shift = new_mu - new_zk;
    if (new_zk < 0 || shift < 0 || shift > m->shifts)
        return false;
    /* Those that ZooKeeper has not stand directly behind the last one that both had. */
    if (shift > 0 && new_zk > 0) {
        int64_t from[SIDES] = {m->last[ZOOKEEPER] + 1, m->last[MUSTER] + shift + 1};
        segment_add(m, from);
    }
    if (new_zk > 0) {
        m->shifts = 0;
        memcpy(m->last, zxids, sizeof m->last);
    }
    return true;
}

int64_t match_zxid(const struct match *m, enum side side, int32_t back)
{
    int64_t zk = m->last[ZOOKEEPER] - back;

    if (m->segments_n == 0 || zk < m->segments[0].from[ZOOKEEPER])
        return 0;
    return translate(m, ZOOKEEPER, side, zk);
}

/* ---- texts ---- */

static void number(struct buf *out, int64_t v)
{
    char digits[24];
    size_t at = sizeof digits;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do
        digits[--at] = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (v < 0)
        digits[--at] = '-';
    buf_add(out, digits + at, sizeof digits - at);
}

static void named(struct buf *out, const char *name, int64_t v)
{
    buf_add_str(out, name);
    number(out, v);
}

/* Quoted; long ones by their hash. */
static void quoted(struct buf *out, struct wire_bytes b)
{
    static const char hex[] = "0123456789abcdef";

    if (b.len < 0) {
        buf_add_str(out, "null");
        return;
    }
    buf_add_u8(out, '"');
    for (int32_t i = 0; i < b.len && i < 120; i++) {
        uint8_t c = b.data[i];
        if (c >= ' ' && c < 0x7f && c != '"' && c != '\\') {
            buf_add_u8(out, c);
        } else {
            buf_add_str(out, "\\x");
            buf_add_u8(out, (uint8_t)hex[c >> 4]);
            buf_add_u8(out, (uint8_t)hex[c & 15]);
        }
    }
    buf_add_u8(out, '"');
    if (b.len > 120) {
        named(out, "...", b.len);
        buf_printf(out, " bytes, hash %llx",
                   (unsigned long long)hash_bytes(1, b.data, (size_t)b.len));
    }
}

static void zxid(const struct match *m, enum side side, const char *name, int64_t v,
                 struct buf *out)
{
    if (side == MUSTER && v > 0) {
        const struct segment *s = segment_of(m, MUSTER, v);
        int64_t zk = translate(m, MUSTER, ZOOKEEPER, v);
        /* One that only muster has is nobody's. */
        if (s == NULL ||
            (s + 1 < m->segments + m->segments_n && zk >= (s + 1)->from[ZOOKEEPER])) {
            named(out, name, v);
            buf_add_str(out, "(unknown)");
            return;
        }
        v = zk;
    }
    named(out, name, v);
}

static void session(const struct match *m, enum side side, int64_t id, struct buf *out)
{
    if (id == 0) {
        buf_add_str(out, " owner 0");
        return;
    }
    for (uint32_t i = m->sessions_n; i > 0; i--)
        if (m->sessions[i - 1][side] == id) {
            named(out, " owner #", i);
            return;
        }
    buf_printf(out, " owner 0x%llx(unknown)", (unsigned long long)id);
}

static void stat_text(struct match *m, enum side side, const struct wire_stat *s,
                      struct buf *out)
{
    zxid(m, side, " stat{cz ", s->czxid, out);
    zxid(m, side, " mz ", s->mzxid, out);
    zxid(m, side, " pz ", s->pzxid, out);
    named(out, " v ", s->version);
    named(out, " cv ", s->cversion);
    named(out, " av ", s->aversion);
    session(m, side, s->ephemeral_owner, out);
    named(out, " len ", s->data_len);
    named(out, " children ", s->children);
    if ((s->ctime == 0) != (s->czxid == 0))
        buf_add_str(out, " ctime-without-czxid");
    if ((s->czxid == s->mzxid && s->ctime != s->mtime) || s->mtime < s->ctime)
        buf_add_str(out, " mtime-before-ctime");
    buf_add_u8(out, '}');
    buf_add_be64(&m->times[side], (uint64_t)s->ctime);
    buf_add_be64(&m->times[side], (uint64_t)s->mtime);
}

static int by_bytes(const void *a, const void *b)
{
    const struct wire_bytes *x = a, *y = b;
    int32_t n = x->len < y->len ? x->len : y->len;
    int order = n > 0 ? memcmp(x->data, y->data, (size_t)n) : 0;

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static void texts(struct match *m, struct wire_list list, struct buf *out)
{
    uint32_t n = 0;
    struct wire_bytes b;

    named(out, " ", list.count);
    while (wire_texts_next(&list, &b)) {
        mem_grow(m->texts, m->texts_cap, n + 1);
        m->texts[n++] = b;
    }
    if (n > 1)
        qsort(m->texts, n, sizeof *m->texts, by_bytes);
    for (uint32_t i = 0; i < n; i++) {
        buf_add_u8(out, ' ');
        quoted(out, m->texts[i]);
    }
}

/* Sorted by their bytes: what `auth` becomes has no order. */
static void acls(struct match *m, struct wire_list list, struct buf *out)
{
    uint32_t n = 0;
    struct wire_acl a;
    const uint8_t *at = list.data;

    named(out, " acl ", list.count);
    while (wire_acls_next(&list, &a)) {
        mem_grow(m->texts, m->texts_cap, n + 1);
        m->texts[n++] = wire_bytes(at, (size_t)(list.data - at));
        at = list.data;
    }
    if (n > 1)
        qsort(m->texts, n, sizeof *m->texts, by_bytes);
    for (uint32_t i = 0; i < n; i++) {
        struct wire_in in = wire_in(m->texts[i].data, (size_t)m->texts[i].len);
        (void)wire_acl_decode(&a, &in);
        named(out, " ", a.perms);
        buf_add_u8(out, ':');
        quoted(out, a.scheme);
        buf_add_u8(out, ':');
        quoted(out, a.id);
    }
}

/* ---- replies ---- */

static void path_text(struct wire_in *in, struct buf *out)
{
    struct wire_path_response r;

    if (wire_path_response_decode(&r, in) == 0)
        buf_add_u8(out, ' '), quoted(out, r.path);
}

static void stat_reply(struct match *m, enum side side, struct wire_in *in, struct buf *out)
{
    struct wire_stat_response r;

    if (wire_stat_response_decode(&r, in) == 0)
        stat_text(m, side, &r.stat, out);
}

static void result_text(struct match *m, enum side side, int32_t op, struct wire_in *in,
                        struct buf *out)
{
    switch (op) {
    case WIRE_OP_CREATE:
    case WIRE_OP_SYNC: path_text(in, out); break;
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL:
        path_text(in, out);
        stat_reply(m, side, in, out);
        break;
    case WIRE_OP_EXISTS:
    case WIRE_OP_SET_DATA:
    case WIRE_OP_SET_ACL: stat_reply(m, side, in, out); break;
    case WIRE_OP_RECONFIG:
    case WIRE_OP_GET_DATA: {
        struct wire_data_response r;
        if (wire_data_response_decode(&r, in) == 0) {
            buf_add_u8(out, ' ');
            quoted(out, r.data);
            stat_text(m, side, &r.stat, out);
        }
        break;
    }
    case WIRE_OP_GET_ACL: {
        struct wire_acl_response r;
        if (wire_acl_response_decode(&r, in) == 0) {
            acls(m, r.acl, out);
            stat_text(m, side, &r.stat, out);
        }
        break;
    }
    case WIRE_OP_GET_CHILDREN:
    case WIRE_OP_GET_EPHEMERALS:
    case WIRE_OP_GET_CHILDREN2: {
        struct wire_children_response r;
        if (wire_children_response_decode(&r, in) == 0)
            texts(m, r.children, out);
        if (op == WIRE_OP_GET_CHILDREN2)
            stat_reply(m, side, in, out);
        break;
    }
    case WIRE_OP_WHO_AM_I: { /* pairs of texts */
        int32_t n = wire_get_i32(in);
        named(out, " ", n);
        uint32_t at = 0;
        for (int32_t i = 0; i < n && in->err == 0; i++) {
            const uint8_t *from = in->at;
            (void)wire_get_bytes(in), (void)wire_get_bytes(in);
            mem_grow(m->texts, m->texts_cap, at + 1);
            m->texts[at++] = wire_bytes(from, (size_t)(in->at - from));
        }
        if (at > 1)
            qsort(m->texts, at, sizeof *m->texts, by_bytes);
        for (uint32_t i = 0; i < at; i++)
            buf_add_u8(out, ' '), quoted(out, m->texts[i]);
        break;
    }
    case WIRE_OP_SASL:
        buf_add_u8(out, ' ');
        quoted(out, wire_get_bytes(in));
        break;
    case WIRE_OP_GET_ALL_CHILDREN_NUMBER:
    case WIRE_OP_ADD_WATCH:
    case WIRE_OP_ERROR: named(out, " ", wire_get_i32(in)); break;
    default: break;
    }
}

/* What a multi has done. ZooKeeper 3.8.0 takes a create2 in it for a create (rule
 * multi-create2): there the Stat is not compared. */
static void multi_text(struct match *m, enum side side, const struct draw_request *q,
                       struct wire_in *in, struct buf *out)
{
    for (unsigned i = 0; in->err == 0; i++) {
        struct wire_multi_header h;
        if (wire_multi_header_decode(&h, in) != 0)
            return;
        buf_add_str(out, "\n    ");
        if (h.done) {
            named(out, "end ", h.op);
            named(out, " ", h.err);
            return;
        }
        if (h.op == WIRE_OP_CREATE2 && i < q->parts_n && q->parts[i] == WIRE_OP_CREATE2) {
            struct wire_create2_response r;
            if (wire_create2_response_decode(&r, in) == 0) {
                named(out, "op ", WIRE_OP_CREATE);
                named(out, " err ", h.err);
                buf_add_u8(out, ' ');
                quoted(out, r.path);
            }
            continue;
        }
        named(out, "op ", h.op);
        named(out, " err ", h.err);
        result_text(m, side, h.op, in, out);
    }
}

void match_reply(struct match *m, enum side side, const struct draw_request *q, int32_t err,
                 const uint8_t *body, size_t len, struct buf *out)
{
    struct wire_in in = wire_in(body, len);

    named(out, "err ", err);
    if (err == 0 && (q->op == WIRE_OP_MULTI || q->op == WIRE_OP_MULTI_READ))
        multi_text(m, side, q, &in, out);
    else if (err == 0)
        result_text(m, side, q->op, &in, out);
    if (in.err != 0)
        buf_add_str(out, " MALFORMED");
    else if (in.at != in.end) {
        buf_add_str(out, " MORE ");
        quoted(out, wire_bytes(in.at, (size_t)(in.end - in.at)));
    }
}

void match_event(const uint8_t *body, size_t len, struct buf *out)
{
    struct wire_in in = wire_in(body, len);
    struct wire_watcher_event e;

    if (wire_watcher_event_decode(&e, &in) != 0 || in.at != in.end) {
        buf_add_str(out, "MALFORMED ");
        quoted(out, wire_bytes(body, len));
        return;
    }
    named(out, "event ", e.type);
    named(out, " state ", e.state);
    buf_add_u8(out, ' ');
    quoted(out, e.path);
}

bool match_times(const struct match *m)
{
    const struct buf *a = &m->times[ZOOKEEPER], *b = &m->times[MUSTER];
    bool near = a->len == b->len;

    for (size_t i = 0; near && i < a->len; i += 8) {
        int64_t x = (int64_t)be64_get(a->data + i), y = (int64_t)be64_get(b->data + i);
        if ((x == 0) != (y == 0) || llabs(x - y) > TIMES_APART_MS)
            near = false;
    }
    return near;
}

void match_times_clear(struct match *m)
{
    buf_clear(&m->times[ZOOKEEPER]);
    buf_clear(&m->times[MUSTER]);
}
