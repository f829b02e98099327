/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of Apache ZooKeeper's own client and server (tests/fixtures/zookeeper-3.8, made by
 * tests/peer/capture.py): each record is decoded, its fields are what ZooKeeper's own classes
 * say, and encoded again it is the same bytes. There is one at least of each kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "wire/wire.h"

#define RECORDS "tests/fixtures/zookeeper-3.8/records.txt"

/* ---- the fields as jute prints them ---- */

static void show_i32(int32_t v, struct buf *out) { buf_printf(out, "%d", v); }
static void show_i64(int64_t v, struct buf *out) { buf_printf(out, "%lld", (long long)v); }
static void show_flag(bool v, struct buf *out) { buf_add_str(out, v ? "T" : "F"); }

static void show_flag_or_end(int8_t v, struct buf *out)
{
    assert_int_not_equal(v, WIRE_ABSENT); /* all clients of today send it */
    show_flag(v != 0, out);
}

static void show_text(struct wire_bytes v, struct buf *out)
{
    if (v.len < 0)
        return;
    buf_add_u8(out, '\'');
    for (int32_t i = 0; i < v.len; i++)
        if (strchr("\n\r,}%", v.data[i]) != NULL)
            buf_printf(out, "%%%02X", v.data[i]);
        else if (v.data[i] == ' ')
            buf_add_str(out, "\\20"); /* Capture.java's: blanks stand between the columns */
        else
            buf_add_u8(out, v.data[i]);
}

static void show_text_or_null(struct wire_bytes v, struct buf *out) { show_text(v, out); }

/* As Java prints a byte in hex: as an int, without zeros in front. */
static void show_bytes(struct wire_bytes v, struct buf *out)
{
    if (v.len <= 0)
        return;
    buf_add_u8(out, '#');
    for (int32_t i = 0; i < v.len; i++)
        buf_printf(out, "%x", (unsigned)(int8_t)v.data[i]);
}

#define SHOW(type, name)      \
    if (at++ > 0)             \
        buf_add_u8(out, ','); \
    show_##type(r->name, out);

static void show_acl(const struct wire_acl *r, struct buf *out)
{
    show_i32(r->perms, out);
    buf_add_str(out, ",s{");
    show_text(r->scheme, out);
    buf_add_u8(out, ',');
    show_text(r->id, out);
    buf_add_u8(out, '}');
}

static void show_acls(struct wire_list v, struct buf *out)
{
    struct wire_acl a;

    buf_add_str(out, "v{");
    for (int at = 0; wire_acls_next(&v, &a); at++) {
        buf_add_str(out, at > 0 ? ",s{" : "s{");
        show_acl(&a, out);
        buf_add_u8(out, '}');
    }
    buf_add_u8(out, '}');
}

static void show_texts(struct wire_list v, struct buf *out)
{
    struct wire_bytes b;

    buf_add_str(out, "v{");
    for (int at = 0; wire_texts_next(&v, &b); at++) {
        if (at > 0)
            buf_add_u8(out, ',');
        show_text(b, out);
    }
    buf_add_u8(out, '}');
}

static void show_ids(struct wire_list v, struct buf *out)
{
    struct wire_in in = wire_in(v.data, v.len);

    buf_add_str(out, "v{");
    for (int32_t at = 0; at < v.count; at++) {
        struct wire_id id;
        assert_int_equal(wire_id_decode(&id, &in), 0);
        buf_add_str(out, at > 0 ? ",s{" : "s{");
        show_text(id.scheme, out);
        buf_add_u8(out, ',');
        show_text(id.id, out);
        buf_add_u8(out, '}');
    }
    buf_add_u8(out, '}');
}

static void show_stat(struct wire_stat v, struct buf *out)
{
    const struct wire_stat *r = &v;
    int at = 0;

    buf_add_str(out, "s{");
    WIRE_STAT(SHOW)
    buf_add_u8(out, '}');
}

/* Of each kind: decodes, shows, encodes; returns how many bytes it took. */
#define RECORD(rec, FIELDS)                                                        \
    static size_t rec##_captured(const uint8_t *data, size_t len, struct buf *out, \
                                 struct buf *again)                                \
    {                                                                              \
        struct wire_in in = wire_in(data, len);                                    \
        struct wire_##rec record, *r = &record;                                    \
        int at = 0;                                                                \
        assert_int_equal(wire_##rec##_decode(r, &in), 0);                          \
        FIELDS(SHOW)                                                               \
        wire_##rec##_encode(r, again);                                             \
        return (size_t)(in.at - data);                                             \
    }
WIRE_RECORDS(RECORD)
#undef RECORD

#define NAME(type, name) " " #name

static struct kind {
    const char *name;
    const char *fields;
    size_t (*captured)(const uint8_t *data, size_t len, struct buf *out, struct buf *again);
    unsigned seen;
} kinds[] = {
#define ROW(rec, FIELDS) {#rec, "" FIELDS(NAME), rec##_captured, 0},
    WIRE_RECORDS(ROW)
#undef ROW
};
#define KINDS_N (sizeof kinds / sizeof *kinds)

static struct kind *kind_of(const char *name)
{
    for (size_t i = 0; i < KINDS_N; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    fail_msg("%s is no record of wire.h", name);
    return NULL;
}

static unsigned digit(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

/* In an allocation of its own, so that the sanitizers see the end. */
static uint8_t *from_hex(const char *hex, size_t *len)
{
    *len = strlen(hex) / 2;
    uint8_t *data = malloc(*len > 0 ? *len : 1);

    assert_non_null(data);
    for (size_t i = 0; i < *len; i++)
        data[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
    return data;
}

/* An ACL alone is shown with its id as a record of its own. */
static void fields_of(const char *name, struct buf *shown, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_acl acl;

    if (strcmp(name, "acl") != 0)
        return;
    buf_clear(shown);
    assert_int_equal(wire_acl_decode(&acl, &in), 0);
    show_acl(&acl, shown);
}

/* What ZooKeeper calls a field otherwise than by our name without its underscores. */
static const struct {
    const char *record, *ours, *theirs;
} other_names[] = {
    {NULL, "timeout_ms", "timeOut"},
    {NULL, "password", "passwd"},
    {"request_header", "op", "type"},
    {"multi_header", "op", "type"},
    {NULL, "ttl_ms", "ttl"},
    {"stat", "data_len", "dataLength"},
    {"stat", "children", "numChildren"},
    {"get_ephemerals_request", "prefix", "prefixPath"},
    {"count_response", "count", "totalNumber"},
    {"who_am_i_response", "ids", "clientInfo"},
    {"id", "scheme", "authScheme"},
    {"id", "id", "user"},
    {"reconfig_request", "joining", "joiningServers"},
    {"reconfig_request", "leaving", "leavingServers"},
    {"reconfig_request", "members", "newMembers"},
    {"reconfig_request", "version", "curConfigId"},
    {NULL, "exist", "existWatches"},
    {NULL, "child", "childWatches"},
    {"set_watches_request", "data", "dataWatches"},
    {"set_watches2_request", "data", "dataWatches"},
    {NULL, "persistent", "persistentWatches"},
    {NULL, "recursive", "persistentRecursiveWatches"},
};

/* Underscores out, the letter behind them big. */
static void their_name(const char *record, const char *ours, struct buf *out)
{
    for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++)
        if (strcmp(ours, other_names[i].ours) == 0 &&
            (other_names[i].record == NULL || strcmp(record, other_names[i].record) == 0)) {
            buf_add_str(out, other_names[i].theirs);
            return;
        }
    for (; *ours != 0; ours++)
        if (ours[0] == '_' && ours[1] >= 'a' && ours[1] <= 'z')
            buf_add_u8(out, (uint8_t)(*++ours - 'a' + 'A'));
        else
            buf_add_u8(out, (uint8_t)*ours);
}

/* fields NAME FIELD...: the same names, in the same order. */
static void check_fields(char *rest)
{
    const char *record = strtok_r(NULL, " \n", &rest);
    struct kind *k = kind_of(record);
    char names[256], *more = NULL;
    struct buf ours = {0};

    if (strcmp(record, "acl") == 0)
        return; /* its scheme and id are a record of their own there */
    assert_true(strlen(k->fields) < sizeof names);
    memcpy(names, k->fields, strlen(k->fields) + 1);
    for (char *n = strtok_r(names, " ", &more); n != NULL; n = strtok_r(NULL, " ", &more)) {
        if (strcmp(n, "read_only") == 0)
            continue; /* not of their record: it is sent behind it */
        if (ours.len > 0)
            buf_add_u8(&ours, ' ');
        their_name(record, n, &ours);
    }
    rest[strcspn(rest, "\n")] = 0;
    assert_string_equal(buf_text(&ours), rest);
    buf_free(&ours);
}

static void check_line(char *line)
{
    char *rest = NULL;
    const char *name = strtok_r(line, " \n", &rest);

    if (strcmp(name, "fields") == 0) {
        check_fields(rest);
        return;
    }
    const char *by = strtok_r(NULL, " \n", &rest);
    const char *hex = strtok_r(NULL, " \n", &rest);
    const char *fields = strtok_r(NULL, " \n", &rest);
    struct buf shown = {0}, again = {0};
    size_t len;

    assert_non_null(by);
    assert_non_null(hex);
    struct kind *k = kind_of(name);
    uint8_t *data = from_hex(hex, &len);
    assert_int_equal(k->captured(data, len, &shown, &again), len);
    assert_int_equal(again.len, len);
    assert_memory_equal(again.data, data, len);
    fields_of(name, &shown, data, len);
    assert_string_equal(buf_text(&shown), fields != NULL ? fields : "");
    k->seen++;
    free(data);
    buf_free(&shown);
    buf_free(&again);
}

static void captured_records_are_what_zookeeper_says(void **state)
{
    static char line[65536];
    FILE *f = fopen(RECORDS, "r");

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (line[0] != '#')
            check_line(line);
    fclose(f);
    for (size_t i = 0; i < KINDS_N; i++)
        if (kinds[i].seen == 0)
            fail_msg("no %s was captured", kinds[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captured_records_are_what_zookeeper_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
