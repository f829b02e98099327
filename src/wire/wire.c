/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/wire.h"

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

/* One get and one put for each type. Range rules live here and only here. */

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

static void put_i32(struct buf *out, int32_t v) { buf_add_be32(out, (uint32_t)v); }
static void put_i64(struct buf *out, int64_t v) { buf_add_be64(out, (uint64_t)v); }

static bool get_flag(struct wire_in *in)
{
    const uint8_t *p = take(in, 1);

    return p != NULL && *p != 0;
}

static void put_flag(struct buf *out, bool v) { buf_add_u8(out, v ? 1 : 0); }

static int8_t get_flag_or_end(struct wire_in *in)
{
    if (in->err != 0 || in->at == in->end)
        return WIRE_ABSENT;
    return get_flag(in) ? 1 : 0;
}

static void put_flag_or_end(struct buf *out, int8_t v)
{
    if (v != WIRE_ABSENT)
        put_flag(out, v != 0);
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

static void put_bytes(struct buf *out, struct wire_bytes b)
{
    CHECK(b.len >= -1);
    put_i32(out, b.len);
    if (b.len > 0)
        buf_add(out, b.data, (size_t)b.len);
}

static struct wire_bytes get_text_or_null(struct wire_in *in) { return get_bytes(in); }
static void put_text_or_null(struct buf *out, struct wire_bytes b) { put_bytes(out, b); }

static struct wire_bytes get_text(struct wire_in *in)
{
    struct wire_bytes b = get_bytes(in);

    if (b.len < 0)
        in->err = ERR_MALFORMED;
    return b;
}

static void put_text(struct buf *out, struct wire_bytes b)
{
    CHECK(b.len >= 0);
    put_bytes(out, b);
}

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

static void put_list(struct buf *out, struct wire_list l)
{
    CHECK(l.count >= -1 && (l.count > 0 || l.len == 0));
    put_i32(out, l.count);
    if (l.len > 0)
        buf_add(out, l.data, l.len);
}

static struct wire_list get_texts(struct wire_in *in) { return get_list(in, skip_text); }
static struct wire_list get_acls(struct wire_in *in) { return get_list(in, skip_acl); }
static struct wire_list get_ids(struct wire_in *in) { return get_list(in, skip_id); }
static void put_texts(struct buf *out, struct wire_list l) { put_list(out, l); }
static void put_acls(struct buf *out, struct wire_list l) { put_list(out, l); }
static void put_ids(struct buf *out, struct wire_list l) { put_list(out, l); }

static struct wire_stat get_stat(struct wire_in *in)
{
    struct wire_stat s;

    (void)wire_stat_decode(&s, in);
    return s;
}

static void put_stat(struct buf *out, struct wire_stat s) { wire_stat_encode(&s, out); }

#define GET(type, name) r->name = get_##type(in);
#define PUT(type, name) put_##type(out, r->name);
#define RECORD(rec, FIELDS)                                           \
    int wire_##rec##_decode(struct wire_##rec *r, struct wire_in *in) \
    {                                                                 \
        FIELDS(GET)                                                   \
        if (in->err != 0)                                             \
            *r = (struct wire_##rec){0};                              \
        return in->err;                                               \
    }                                                                 \
    void wire_##rec##_encode(const struct wire_##rec *r, struct buf *out) { FIELDS(PUT) }
/* cppcheck-suppress ctuuninitvar ; a decoder writes *r, whatever it held */
WIRE_RECORDS(RECORD)
#undef RECORD
#undef PUT
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
    put_text(out, wire_bytes(data, len));
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
