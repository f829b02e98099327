/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer against a plain model: appended at the end, consumed at the front. Hashing: known
 * answers; the table against a list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"

static void an_empty_buffer_takes_nothing(void **state)
{
    struct buf b = {0};
    (void)state;
    assert_non_null(buf_reserve(&b, 0));
    buf_add(&b, "", 0);
    buf_consume(&b, 0);
    assert_string_equal(buf_text(&b), "");
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void a_buffer_is_a_queue_of_bytes(void **state)
{
    static uint8_t model[1 << 20];
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rng r = {seed};
        struct buf b = {0};
        size_t begin = 0, end = 0;
        for (int step = 0; step < 300; step++) {
            uint8_t bytes[300];
            size_t n = rng_below(&r, sizeof bytes);
            switch (rng_below(&r, 4)) {
            case 0:
            case 1:
                for (size_t i = 0; i < n; i++)
                    bytes[i] = model[end++] = (uint8_t)rng_next(&r);
                buf_add(&b, bytes, n);
                break;
            case 2:
                n = n < end - begin ? n : end - begin;
                buf_consume(&b, n);
                begin += n;
                break;
            case 3:
                if (rng_below(&r, 20) == 0) {
                    buf_clear(&b);
                    begin = end;
                }
                buf_add_be64(&b, 0x0102030405060708);
                for (uint8_t i = 1; i <= 8; i++)
                    model[end++] = i;
                break;
            }
            assert_int_equal(b.len, end - begin);
            if (b.len > 0)
                assert_memory_equal(b.data, model + begin, b.len);
        }
        buf_free(&b);
    }
}

static void crc32c_gives_the_known_answers(void **state)
{
    uint8_t bytes[32];
    (void)state;
    /* RFC 3720, appendix B.4 */
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++) /* in two pieces it is the same */
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, 32 - cut), 0x46dd794e);
}

/* With the processor's instruction, and without: of every length and at every place. */
static void crc32c_is_the_same_either_way(void **state)
{
    uint8_t bytes[300];
    uint32_t start = 0;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(hash_u64(i) >> 7);
    for (size_t at = 0; at < 9; at++)
        for (size_t len = 0; at + len <= sizeof bytes; len++) {
            uint32_t crc = crc32c(start, bytes + at, len);
            assert_int_equal(crc, crc32c_plain(start, bytes + at, len));
            start = crc;
        }
}

struct item {
    struct hash_link link;
    uint64_t number;
    bool is_in;
};

static void a_table_holds_what_was_put_in(void **state)
{
    static struct item items[500];
    struct hash_table t = {0};
    struct rng r = {7};
    size_t count = 0;
    (void)state;
    for (int step = 0; step < 20000; step++) {
        struct item *i = &items[rng_below(&r, 500)];
        i->number = (uint64_t)(i - items);
        uint64_t hash = i->number / 3; /* some share a hash */
        if (i->is_in)
            hash_remove(&t, &i->link);
        else
            hash_insert(&t, &i->link, hash);
        i->is_in = !i->is_in;
        count = i->is_in ? count + 1 : count - 1;
        assert_int_equal(t.count, count);
        bool found = false;
        for (struct hash_link *l = hash_first(&t, hash); l != NULL; l = hash_next(l))
            found |= HASH_ENTRY(l, struct item, link) == i;
        assert_int_equal(found, i->is_in);
    }
    struct hash_walk w;
    size_t walked = 0;
    for (struct hash_link *l = hash_walk_first(&t, &w); l != NULL; l = hash_walk_next(&t, &w)) {
        hash_remove(&t, l); /* as the header allows */
        walked++;
    }
    assert_int_equal(walked, count);
    assert_int_equal(t.count, 0);
    hash_free(&t);
}

/* At each size, half way between two powers of two as well: all are found, and a walk that
 * takes some out sees each once. */
static void a_table_that_grows_loses_nothing(void **state)
{
    enum { N = 600 };
    static struct item items[N];
    struct hash_table t = {0};
    struct hash_walk w;
    (void)state;
    for (size_t n = 0; n < N; n++) {
        size_t seen = 0;
        items[n].number = n;
        hash_insert(&t, &items[n].link, hash_u64(n));
        for (struct hash_link *l = hash_walk_first(&t, &w); l != NULL;
             l = hash_walk_next(&t, &w)) {
            seen += ++HASH_ENTRY(l, struct item, link)->number;
            if (n % 7 == 0) {
                hash_remove(&t, l);
                HASH_ENTRY(l, struct item, link)->is_in = true; /* to be put in again */
            }
        }
        for (size_t i = 0; i <= n; i++) {
            if (items[i].is_in)
                hash_insert(&t, &items[i].link, hash_u64(i));
            items[i].is_in = false;
            seen -= i + 1;
            items[i].number = i;
            assert_ptr_equal(hash_first(&t, hash_u64(i)), &items[i].link);
        }
        assert_int_equal(seen, 0);
        assert_int_equal(t.count, n + 1);
        assert_true(t.size <= t.mask + 1 && t.mask < 2 * t.size);
    }
    hash_free(&t);
}

static void what_is_wiped_is_gone(void **state)
{
    struct buf b = {0};

    (void)state;
    buf_wipe(&b); /* of nothing */
    buf_add_str(&b, "a secret");
    buf_wipe(&b);
    assert_null(b.data);
    assert_int_equal(b.len + b.room + b.gone, 0);
    buf_add_str(&b, "again");
    assert_string_equal(buf_text(&b), "again");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wiped_is_gone),
        cmocka_unit_test(an_empty_buffer_takes_nothing),
        cmocka_unit_test(a_buffer_is_a_queue_of_bytes),
        cmocka_unit_test(crc32c_gives_the_known_answers),
        cmocka_unit_test(crc32c_is_the_same_either_way),
        cmocka_unit_test(a_table_holds_what_was_put_in),
        cmocka_unit_test(a_table_that_grows_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
