/* SPDX-License-Identifier: Apache-2.0 */
/* One target for all records: the first byte picks one. What decodes must encode, to no
 * more bytes than it took, and decode to the same again. Number 255: a path. */
#include "base/buf.h"
#include "base/check.h"
#include "wire/path.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void drained(const struct wire_list *rest) { CHECK(rest->count <= 0 && rest->len == 0); }

static void drain_texts(struct wire_list rest)
{
    struct wire_bytes text;

    while (wire_texts_next(&rest, &text))
        ;
    drained(&rest);
}

static void drain_acls(struct wire_list rest)
{
    struct wire_acl acl;

    while (wire_acls_next(&rest, &acl))
        ;
    drained(&rest);
}

static void drain_ids(struct wire_list rest)
{
    struct wire_list whole;
    struct wire_id id;

    if (rest.count >= 0) {
        CHECK(wire_ids_decode(&whole, rest.data, rest.len) == 0);
        CHECK(whole.count == rest.count);
    }
    while (wire_ids_next(&rest, &id))
        ;
    drained(&rest);
}

#define DRAIN_i32(v)
#define DRAIN_i64(v)
#define DRAIN_flag(v)
#define DRAIN_flag_or_end(v)
#define DRAIN_text(v)
#define DRAIN_text_or_null(v)
#define DRAIN_bytes(v)
#define DRAIN_stat(v)
#define DRAIN_texts(v) drain_texts(v);
#define DRAIN_acls(v) drain_acls(v);
#define DRAIN_ids(v) drain_ids(v);
#define FIELD(type, name) DRAIN_##type(r.name)

static void round_trip(unsigned pick, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len), again;
    struct buf out = {0};
    unsigned which = 0;

#define RECORD(rec, FIELDS)                                 \
    if (pick == which++) {                                  \
        struct wire_##rec r, back;                          \
        if (wire_##rec##_decode(&r, &in) == 0) {            \
            FIELDS(FIELD)                                   \
            wire_##rec##_encode(&r, &out);                  \
            CHECK(out.len == (size_t)(in.at - data));       \
            again = wire_in(out.data, out.len);             \
            CHECK(wire_##rec##_decode(&back, &again) == 0); \
            CHECK(again.at == again.end);                   \
        }                                                   \
    }
    WIRE_RECORDS(RECORD)
#undef RECORD
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    if (data[0] == 255) {
        const char *path = (const char *)data + 1;
        if (path_validate(path, len - 1) == 0)
            CHECK(path_validate(path, path_parent_len(path, len - 1)) == 0);
    } else {
        round_trip(data[0], data + 1, len - 1);
    }
    return 0;
}
