/* SPDX-License-Identifier: Apache-2.0 */
/* Every record of the table: what was encoded decodes to the same bytes again, every shorter
 * input is refused or is a legal short form, and nothing reads past its end (run under ASan:
 * each input is its own allocation). Beside that, bytes written down by hand from the
 * protocol, which would show a mistake that both directions share.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/rng.h"
#include "wire/wire.h"

static struct rng rng;
static struct buf lists; /* where the elements of any_texts and any_acls live */

static int32_t any_i32(void) { return (int32_t)rng_next(&rng); }
static int64_t any_i64(void) { return (int64_t)rng_next(&rng); }
static bool any_flag(void) { return rng_below(&rng, 2) == 1; }
static int8_t any_flag_or_end(void) { return (int8_t)((int)rng_below(&rng, 3) - 1); }

static struct wire_bytes any_text(void)
{
    return wire_bytes("0123456789abcdef", rng_below(&rng, 17));
}

static struct wire_bytes any_bytes(void)
{
    return rng_below(&rng, 8) == 0 ? (struct wire_bytes){NULL, -1} : any_text();
}

static struct wire_bytes any_text_or_null(void) { return any_bytes(); }

enum of { OF_TEXTS, OF_ACLS, OF_IDS };

static struct wire_list any_list(enum of of)
{
    struct wire_list l = {.count = (int32_t)rng_below(&rng, 5) - 1};
    size_t start = lists.len;

    for (int32_t i = 0; i < l.count; i++) {
        struct wire_bytes b = any_text();
        struct wire_acl a = {any_i32(), any_bytes(), any_bytes()};
        struct wire_id id = {a.scheme, a.id};
        if (of == OF_ACLS)
            wire_acl_encode(&a, &lists);
        else if (of == OF_IDS)
            wire_id_encode(&id, &lists);
        else
            wire_text_encode(b.data, (size_t)b.len, &lists);
    }
    l.data = lists.data + start;
    l.len = lists.len - start;
    return l;
}

static struct wire_list any_texts(void) { return any_list(OF_TEXTS); }
static struct wire_list any_acls(void) { return any_list(OF_ACLS); }
static struct wire_list any_ids(void) { return any_list(OF_IDS); }

static struct wire_stat any_stat(void)
{
#define FIELD(type, name) .name = any_##type(),
    return (struct wire_stat){WIRE_STAT(FIELD)};
#undef FIELD
}

#define ANY(type, name) r.name = any_##type();
#define RECORD(rec, FIELDS)                                       \
    static void rec##_round_trip(void **state)                    \
    {                                                             \
        (void)state;                                              \
        for (uint64_t seed = 0; seed < 300; seed++) {             \
            struct buf a = {0}, b = {0}, z = {0};                 \
            struct wire_##rec r, back, zero = {0};                \
            rng.state = seed;                                     \
            buf_clear(&lists);                                    \
            (void)buf_reserve(&lists, 4096);                      \
            FIELDS(ANY)                                           \
            wire_##rec##_encode(&r, &a);                          \
            wire_##rec##_encode(&zero, &z);                       \
            struct wire_in in = wire_in(a.data, a.len);           \
            assert_int_equal(wire_##rec##_decode(&back, &in), 0); \
            assert_ptr_equal(in.at, a.data + a.len);              \
            wire_##rec##_encode(&back, &b);                       \
            assert_int_equal(a.len, b.len);                       \
            assert_memory_equal(a.data, b.data, a.len);           \
            for (size_t cut = 0; cut < a.len; cut++) {            \
                uint8_t *part = malloc(cut > 0 ? cut : 1);        \
                memcpy(part, a.data, cut);                        \
                in = wire_in(part, cut);                          \
                int err = wire_##rec##_decode(&back, &in);        \
                buf_clear(&b);                                    \
                wire_##rec##_encode(&back, &b);                   \
                if (err == 0) {                                   \
                    assert_ptr_equal(in.at, in.end);              \
                    assert_int_equal(b.len, cut);                 \
                    assert_non_null(strstr(#rec, "connect"));     \
                    assert_int_equal(cut, a.len - 1);             \
                } else {                                          \
                    assert_int_equal(err, ERR_MALFORMED);         \
                    assert_int_equal(b.len, z.len);               \
                    assert_memory_equal(b.data, z.data, z.len);   \
                }                                                 \
                free(part);                                       \
            }                                                     \
            buf_free(&a), buf_free(&b), buf_free(&z);             \
        }                                                         \
    }
WIRE_RECORDS(RECORD)
#undef RECORD
#undef ANY

static void assert_bytes(const struct buf *b, const char *hex)
{
    struct buf expected = {0};

    for (; *hex != 0; hex++) {
        if (*hex == ' ')
            continue;
        char two[3] = {hex[0], hex[1], 0};
        buf_add_u8(&expected, (uint8_t)strtoul(two, NULL, 16));
        hex++;
    }
    assert_int_equal(b->len, expected.len);
    assert_memory_equal(b->data, expected.data, b->len);
    buf_free(&expected);
}

static void connect_request_as_clients_send_it(void **state)
{
    struct buf b = {0};
    uint8_t none[16] = {0};
    struct wire_connect_request r = {0, 5, 10000, 0, wire_bytes(none, 16), 0};

    (void)state;
    size_t at = wire_frame_begin(&b);
    wire_connect_request_encode(&r, &b);
    wire_frame_end(&b, at);
    assert_bytes(&b, "0000002d 00000000 0000000000000005 00002710 0000000000000000"
                     "00000010 0000000000000000 0000000000000000 00");
    /* A client of before 3.4 leaves the last byte out. */
    struct wire_in in = wire_in(b.data + 4, 44);
    assert_int_equal(wire_connect_request_decode(&r, &in), 0);
    assert_int_equal(r.read_only, WIRE_ABSENT);
    buf_free(&b);
}

static void connect_response_is_as_long_as_the_request(void **state)
{
    struct buf b = {0};
    struct wire_connect_response r = {0, 4000, 0x0100000000000001,
                                      wire_bytes("PPPPPPPPPPPPPPPP", 16), 0};

    (void)state;
    wire_connect_response_encode(&r, &b);
    assert_int_equal(b.len, 37);
    assert_bytes(&b, "00000000 00000fa0 0100000000000001 00000010"
                     "5050505050505050 5050505050505050 00");
    r.read_only = WIRE_ABSENT;
    buf_clear(&b);
    wire_connect_response_encode(&r, &b);
    assert_int_equal(b.len, 36);
    buf_free(&b);
}

static void create_request_by_hand(void **state)
{
    struct buf acl = {0}, b = {0};
    struct wire_acl a = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    (void)state;
    wire_acl_encode(&a, &acl);
    struct wire_create_request r = {
        wire_bytes("/a", 2), {NULL, -1}, {acl.data, acl.len, 1}, WIRE_EPHEMERAL_SEQUENTIAL};
    wire_create_request_encode(&r, &b);
    assert_bytes(&b, "00000002 2f61 ffffffff 00000001 0000001f 00000005 776f726c64"
                     "00000006 616e796f6e65 00000003");
    buf_free(&acl), buf_free(&b);
}

static void stat_has_68_bytes_in_order(void **state)
{
    struct buf b = {0};
    struct wire_stat s = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

    (void)state;
    wire_stat_encode(&s, &b);
    assert_int_equal(b.len, 68);
    assert_bytes(&b, "0000000000000001 0000000000000002 0000000000000003 0000000000000004"
                     "00000005 00000006 00000007 0000000000000008 00000009 0000000a"
                     "000000000000000b");
    buf_free(&b);
}

static void watcher_event_by_hand(void **state)
{
    struct buf b = {0};
    struct wire_reply_header h = {WIRE_XID_NOTIFICATION, -1, 0};
    struct wire_watcher_event e = {1, WIRE_STATE_CONNECTED, wire_bytes("/x", 2)};

    (void)state;
    wire_reply_header_encode(&h, &b);
    wire_watcher_event_encode(&e, &b);
    assert_bytes(&b, "ffffffff ffffffffffffffff 00000000 00000001 00000003 00000002 2f78");
    buf_free(&b);
}

static void a_flag_is_true_for_any_byte_but_zero(void **state)
{
    const uint8_t raw[] = {0, 0, 0, 1, '/', 0x80};
    struct wire_in in = wire_in(raw, sizeof raw);
    struct wire_path_watch_request r;
    struct buf b = {0};

    (void)state;
    assert_int_equal(wire_path_watch_request_decode(&r, &in), 0);
    assert_true(r.watch);
    wire_path_watch_request_encode(&r, &b);
    assert_bytes(&b, "00000001 2f 01");
    buf_free(&b);
}

static void bad_lengths_are_malformed(void **state)
{
    static const struct {
        uint8_t bytes[8];
        const char *what;
    } cases[] = {
        {{0xff, 0xff, 0xff, 0xfe}, "length -2"},
        {{0x80, 0, 0, 0}, "the least length"},
        {{0x7f, 0xff, 0xff, 0xff}, "a length beyond the end"},
        {{0xff, 0xff, 0xff, 0xff}, "a null path"},
        {{0, 0, 0, 5}, "one more than there is"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wire_in in = wire_in(cases[i].bytes, 8);
        struct wire_path_request r;
        if (wire_path_request_decode(&r, &in) != ERR_MALFORMED)
            fail_msg("accepted: %s", cases[i].what);
        assert_null(r.path.data);
    }
}

static void list_counts_that_lie_are_malformed(void **state)
{
    const uint8_t counts[][4] = {{0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xfe}};
    struct wire_children_response r;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint8_t raw[12] = {0};
        memcpy(raw, counts[i], 4);
        struct wire_in in = wire_in(raw, sizeof raw);
        assert_int_equal(wire_children_response_decode(&r, &in), ERR_MALFORMED);
        assert_int_equal(r.children.count, 0);
    }
}

static void errors_are_sticky(void **state)
{
    const uint8_t raw[16] = {0xff, 0xff, 0xff, 0xf0};
    struct wire_in in = wire_in(raw, sizeof raw);
    struct wire_path_request p;
    struct wire_request_header h = {1, 1};

    (void)state;
    assert_int_equal(wire_path_request_decode(&p, &in), ERR_MALFORMED);
    assert_int_equal(wire_request_header_decode(&h, &in), ERR_MALFORMED);
    assert_int_equal(h.xid, 0);
}

static void lists_give_their_elements_in_order(void **state)
{
    struct buf b = {0};
    struct wire_bytes s;
    struct wire_acl a = {3, {NULL, -1}, wire_bytes("id", 2)};

    (void)state;
    wire_text_encode("one", 3, &b);
    buf_add_be32(&b, UINT32_MAX); /* a null string */
    struct wire_list l = {b.data, b.len, 2};
    assert_true(wire_texts_next(&l, &s));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.data, "one", 3);
    assert_true(wire_texts_next(&l, &s));
    assert_int_equal(s.len, -1);
    assert_false(wire_texts_next(&l, &s));
    l.count = -1;
    assert_false(wire_texts_next(&l, &s));
    buf_clear(&b);
    wire_acl_encode(&a, &b);
    l = (struct wire_list){b.data, b.len, 1};
    a = (struct wire_acl){0};
    assert_true(wire_acls_next(&l, &a));
    assert_int_equal(a.perms, 3);
    assert_int_equal(a.scheme.len, -1);
    assert_false(wire_acls_next(&l, &a));
    buf_free(&b);
}

static void operations_have_names(void **state)
{
    (void)state;
    assert_string_equal(wire_op_name(12), "getChildren2");
    assert_string_equal(wire_op_brief(-11), "CLOS");
    assert_string_equal(wire_op_name(10), "unknown");
    assert_string_equal(wire_op_brief(99), "NA");
}

static int lists_free(void **state)
{
    (void)state;
    buf_free(&lists);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RECORD(rec, FIELDS) cmocka_unit_test(rec##_round_trip),
        WIRE_RECORDS(RECORD)
#undef RECORD
            cmocka_unit_test(connect_request_as_clients_send_it),
        cmocka_unit_test(connect_response_is_as_long_as_the_request),
        cmocka_unit_test(create_request_by_hand),
        cmocka_unit_test(stat_has_68_bytes_in_order),
        cmocka_unit_test(watcher_event_by_hand),
        cmocka_unit_test(a_flag_is_true_for_any_byte_but_zero),
        cmocka_unit_test(bad_lengths_are_malformed),
        cmocka_unit_test(list_counts_that_lie_are_malformed),
        cmocka_unit_test(errors_are_sticky),
        cmocka_unit_test(lists_give_their_elements_in_order),
        cmocka_unit_test(operations_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, lists_free);
}
