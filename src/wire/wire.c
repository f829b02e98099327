/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/wire.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"

/* The n next bytes, or NULL once anything has gone wrong. */
static const uint8_t *take(struct wire_in *in, size_t n)
{
    CHECK(in->at <= in->end);
    if (in->err == 0 && (size_t)(in->end - in->at) < n)
        in->err = ERR_MALFORMED;
    if (in->err != 0)
        return NULL;
    in->at += n;
    return in->at - n;
}

/* For each type: how it is read, how many bytes it takes, and how it is written into room that
 * is there (put returns where it ends). Range rules live here and only here. */

static int32_t get_i32(struct wire_in *in)
{
    const uint8_t *p = take(in, 4);

    return p != NULL ? (int32_t)be32_get(p) : 0;
}

static int64_t get_i64(struct wire_in *in)
{
    const uint8_t *p = take(in, 8);

    return p != NULL ? (int64_t)be64_get(p) : 0;
}

static size_t size_i32(int32_t v) { return (void)v, 4; }
static size_t size_i64(int64_t v) { return (void)v, 8; }

static uint8_t *put_i32(uint8_t *at, int32_t v)
{
    be32_put(at, (uint32_t)v);
    return at + 4;
}

static uint8_t *put_i64(uint8_t *at, int64_t v)
{
    be64_put(at, (uint64_t)v);
    return at + 8;
}

static bool get_flag(struct wire_in *in)
{
    const uint8_t *p = take(in, 1);

    return p != NULL && *p != 0;
}

static size_t size_flag(bool v) { return (void)v, 1; }

static uint8_t *put_flag(uint8_t *at, bool v)
{
    *at = v ? 1 : 0;
    return at + 1;
}

static int8_t get_flag_or_end(struct wire_in *in)
{
    if (in->err != 0 || in->at == in->end)
        return WIRE_ABSENT;
    return get_flag(in) ? 1 : 0;
}

static size_t size_flag_or_end(int8_t v) { return v != WIRE_ABSENT; }

static uint8_t *put_flag_or_end(uint8_t *at, int8_t v)
{
    return v != WIRE_ABSENT ? put_flag(at, v != 0) : at;
}

static struct wire_bytes get_bytes(struct wire_in *in)
{
    struct wire_bytes b = {NULL, get_i32(in)};

    if (b.len < -1)
        in->err = ERR_MALFORMED;
    if (b.len >= 0)
        b.data = take(in, (size_t)b.len);
    if (in->err != 0)
        b.len = 0;
    return b;
}

static size_t size_bytes(struct wire_bytes b)
{
    CHECK(b.len >= -1);
    return b.len > 0 ? 4 + (size_t)b.len : 4;
}

static uint8_t *put_bytes(uint8_t *at, struct wire_bytes b)
{
    at = put_i32(at, b.len);
    if (b.len <= 0)
        return at;
    memcpy(at, b.data, (size_t)b.len);
    return at + b.len;
}

static struct wire_bytes get_text_or_null(struct wire_in *in) { return get_bytes(in); }
static size_t size_text_or_null(struct wire_bytes b) { return size_bytes(b); }
static uint8_t *put_text_or_null(uint8_t *at, struct wire_bytes b) { return put_bytes(at, b); }

static struct wire_bytes get_text(struct wire_in *in)
{
    struct wire_bytes b = get_bytes(in);

    if (b.len < 0)
        in->err = ERR_MALFORMED;
    return b;
}

static size_t size_text(struct wire_bytes b)
{
    CHECK(b.len >= 0);
    return size_bytes(b);
}

static uint8_t *put_text(uint8_t *at, struct wire_bytes b) { return put_bytes(at, b); }

static void skip_text(struct wire_in *in) { (void)get_bytes(in); }

static void skip_acl(struct wire_in *in)
{
    (void)get_i32(in);
    skip_text(in);
    skip_text(in);
}

static void skip_id(struct wire_in *in)
{
    skip_text(in);
    skip_text(in);
}

/* Each element takes bytes, so a count that lies runs out of them soon. */
static struct wire_list get_list(struct wire_in *in, void (*skip)(struct wire_in *))
{
    struct wire_list l = {.count = get_i32(in)};

    if (l.count < -1)
        in->err = ERR_MALFORMED;
    l.data = in->at;
    for (int32_t i = 0; i < l.count && in->err == 0; i++)
        skip(in);
    l.len = (size_t)(in->at - l.data);
    return l;
}

static size_t size_list(struct wire_list l)
{
    CHECK(l.count >= -1 && (l.count > 0 || l.len == 0));
    return 4 + l.len;
}

static uint8_t *put_list(uint8_t *at, struct wire_list l)
{
    at = put_i32(at, l.count);
    if (l.len > 0)
        memcpy(at, l.data, l.len);
    return at + l.len;
}

static struct wire_list get_texts(struct wire_in *in) { return get_list(in, skip_text); }
static struct wire_list get_acls(struct wire_in *in) { return get_list(in, skip_acl); }
static struct wire_list get_ids(struct wire_in *in) { return get_list(in, skip_id); }
static size_t size_texts(struct wire_list l) { return size_list(l); }
static uint8_t *put_texts(uint8_t *at, struct wire_list l) { return put_list(at, l); }
static size_t size_acls(struct wire_list l) { return size_list(l); }
static uint8_t *put_acls(uint8_t *at, struct wire_list l) { return put_list(at, l); }
static size_t size_ids(struct wire_list l) { return size_list(l); }
static uint8_t *put_ids(uint8_t *at, struct wire_list l) { return put_list(at, l); }

static struct wire_stat get_stat(struct wire_in *in)
{
    struct wire_stat s;

    (void)wire_stat_decode(&s, in);
    return s;
}

#define SIZE(type, name) +size_##type(s.name)
static size_t size_stat(struct wire_stat s) { return 0 WIRE_STAT(SIZE); }
#undef SIZE

#define PUT(type, name) at = put_##type(at, s.name);
static uint8_t *put_stat(uint8_t *at, struct wire_stat s)
{
    WIRE_STAT(PUT)
    return at;
}
#undef PUT

/* A record is written in one piece: first how long it is, then its fields. */
#define GET(type, name) r->name = get_##type(in);
#define SIZE(type, name) +size_##type(r->name)
#define PUT(type, name) at = put_##type(at, r->name);
#define RECORD(rec, FIELDS)                                               \
    int wire_##rec##_decode(struct wire_##rec *r, struct wire_in *in)     \
    {                                                                     \
        FIELDS(GET)                                                       \
        if (in->err != 0)                                                 \
            *r = (struct wire_##rec){0};                                  \
        return in->err;                                                   \
    }                                                                     \
    void wire_##rec##_encode(const struct wire_##rec *r, struct buf *out) \
    {                                                                     \
        size_t size = 0 FIELDS(SIZE);                                     \
        uint8_t *at = buf_reserve(out, size);                             \
        FIELDS(PUT)                                                       \
        (void)at;                                                         \
        out->len += size;                                                 \
    }
/* cppcheck-suppress ctuuninitvar ; a decoder writes *r, whatever it held */
WIRE_RECORDS(RECORD)
#undef RECORD
#undef PUT
#undef SIZE
#undef GET

int32_t wire_get_i32(struct wire_in *in) { return get_i32(in); }
int64_t wire_get_i64(struct wire_in *in) { return get_i64(in); }
struct wire_bytes wire_get_bytes(struct wire_in *in) { return get_bytes(in); }
const uint8_t *wire_get_raw(struct wire_in *in, size_t n) { return take(in, n); }

/* Takes the elements of a list through `in`; what get_list accepted cannot fail here. */
static bool next_begin(struct wire_list *rest, struct wire_in *in)
{
    if (rest->count <= 0)
        return false;
    *in = wire_in(rest->data, rest->len);
    return true;
}

static void next_end(struct wire_list *rest, const struct wire_in *in)
{
    CHECK(in->err == 0);
    rest->data = in->at;
    rest->len = (size_t)(in->end - in->at);
    rest->count--;
}

bool wire_texts_next(struct wire_list *rest, struct wire_bytes *out)
{
    struct wire_in in;

    if (!next_begin(rest, &in))
        return false;
    *out = get_bytes(&in);
    next_end(rest, &in);
    return true;
}

bool wire_acls_next(struct wire_list *rest, struct wire_acl *out)
{
    struct wire_in in;

    if (!next_begin(rest, &in))
        return false;
    (void)wire_acl_decode(out, &in);
    next_end(rest, &in);
    return true;
}

bool wire_ids_next(struct wire_list *rest, struct wire_id *out)
{
    struct wire_in in;

    if (!next_begin(rest, &in))
        return false;
    (void)wire_id_decode(out, &in);
    next_end(rest, &in);
    return true;
}

int wire_ids_decode(struct wire_list *out, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);

    *out = (struct wire_list){.data = data, .len = len};
    while (in.err == 0 && in.at < in.end) {
        skip_id(&in);
        out->count++;
    }
    if (in.err != 0)
        *out = (struct wire_list){0};
    return in.err;
}

void wire_text_encode(const void *data, size_t len, struct buf *out)
{
    CHECK(len <= INT32_MAX);
    const struct wire_bytes b = wire_bytes(data, len);
    (void)put_text(buf_reserve(out, 4 + len), b);
    out->len += 4 + len;
}

size_t wire_frame_begin(struct buf *out)
{
    buf_add_be32(out, 0);
    return out->len;
}

void wire_frame_end(struct buf *out, size_t at)
{
    CHECK(at >= 4 && at <= out->len && out->len - at <= INT32_MAX);
    buf_put_be32(out, at - 4, (uint32_t)(out->len - at));
}

const char *wire_op_name(int32_t op)
{
    switch (op) {
#define O(sym, number, text, brief) \
    case number: return text;
        WIRE_OPS(O)
#undef O
    default: return "unknown";
    }
}

const char *wire_op_brief(int32_t op)
{
    switch (op) {
#define O(sym, number, text, brief) \
    case number: return brief;
        WIRE_OPS(O)
#undef O
    default: return "NA";
    }
}
