/* SPDX-License-Identifier: Apache-2.0 */
/* A slab against a plain list of pieces: none overlaps another, none loses its bytes, and what
 * is given back comes to be of use again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/slab.h"

#define PIECES 3000

struct piece {
    uint32_t at;
    size_t size;
    uint8_t mark;
};

static void fill(const struct slab *s, const struct piece *p)
{
    memset(slab_at(s, p->at), p->mark, p->size);
}

static void check(const struct slab *s, const struct piece *p)
{
    const uint8_t *bytes = slab_at(s, p->at);

    assert_int_equal((uintptr_t)bytes % SLAB_UNIT, 0);
    for (size_t i = 0; i < p->size; i++)
        assert_int_equal(bytes[i], p->mark);
}

static size_t some_size(struct rng *r)
{
    switch (rng_below(r, 4)) {
    case 0: return (size_t)rng_below(r, 20);
    case 1: return 100;
    case 2: return (size_t)rng_below(r, 300);
    default: return SLAB_PIECE_MAX - 10 + (size_t)rng_below(r, 20);
    }
}

static void random_pieces(struct slab *s, uint64_t seed)
{
    static struct piece pieces[PIECES];
    struct rng r = {seed};
    size_t n = 0;

    for (unsigned step = 0; step < 20000; step++) {
        /* It grows and shrinks in turns. */
        bool takes = n == 0 || (n < PIECES && rng_below(&r, 10) < (step / 4000 % 2 ? 3u : 7u));
        if (takes) {
            struct piece *p = &pieces[n++];
            p->size = some_size(&r);
            p->mark = (uint8_t)rng_next(&r);
            p->at = slab_take(s, p->size);
            assert_int_not_equal(p->at, SLAB_NONE);
            fill(s, p);
        } else {
            size_t i = (size_t)rng_below(&r, n);
            check(s, &pieces[i]);
            slab_give(s, pieces[i].at, pieces[i].size);
            pieces[i] = pieces[--n];
        }
        assert_true(s->held_bytes >= s->used_bytes);
    }
    while (n > 0) {
        check(s, &pieces[--n]);
        slab_give(s, pieces[n].at, pieces[n].size);
    }
    assert_int_equal(s->used_bytes, 0);
    assert_true(s->held_bytes <= SLAB_CLASSES * SLAB_PAGE_UNITS * SLAB_UNIT);
}

static void pieces_keep_their_bytes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct slab s = {0};
        if (seed % 2 == 0)
            slab_init(&s);
        random_pieces(&s, seed);
        random_pieces(&s, seed + 100); /* with what the first has left behind */
        slab_free(&s);
    }
}

static void empty_pages_serve_other_sizes(void **state)
{
    enum { N = 100000 };
    uint32_t *at = mem_new_array(uint32_t, N);
    struct slab s;
    (void)state;

    slab_init(&s);
    for (size_t size = 8; size <= 1024; size *= 2) {
        for (size_t i = 0; i < N; i++)
            at[i] = slab_take(&s, size);
        assert_true(s.held_bytes <= N * size * 11 / 10 + (1u << 19));
        for (size_t i = 0; i < N; i++)
            slab_give(&s, at[i], size);
        assert_true(s.held_bytes <= 8 * SLAB_PAGE_UNITS * SLAB_UNIT);
    }
    slab_free(&s);
    mem_free(at);
}

static void who_moves_makes_pages_empty(void **state)
{
    enum { N = 100000, KEPT = 20, SIZE = 112 };
    uint32_t *at = mem_new_array(uint32_t, N / KEPT);
    struct slab s;
    size_t n = 0;
    (void)state;

    slab_init(&s);
    uint32_t *all = mem_new_array(uint32_t, N);
    for (size_t i = 0; i < N; i++)
        all[i] = slab_take(&s, SIZE);
    for (size_t i = 0; i < N; i++) {
        if (i % KEPT != 0) {
            slab_give(&s, all[i], SIZE);
            continue;
        }
        at[n] = all[i];
        memset(slab_at(&s, at[n]), (uint8_t)n, SIZE);
        n++;
    }
    assert_true(s.held_bytes > 10 * s.used_bytes);
    for (size_t i = 0; i < n; i++) {
        if (!slab_is_sparse(&s, at[i]))
            continue;
        uint32_t to = slab_take(&s, SIZE);
        memcpy(slab_at(&s, to), slab_at(&s, at[i]), SIZE);
        slab_give(&s, at[i], SIZE);
        at[i] = to;
    }
    assert_true(s.held_bytes < 2 * s.used_bytes + 2 * SLAB_PAGE_UNITS * SLAB_UNIT);
    for (size_t i = 0; i < n; i++)
        check(&s, &(struct piece){at[i], SIZE, (uint8_t)i});
    slab_free(&s);
    mem_free(all);
    mem_free(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_keep_their_bytes),
        cmocka_unit_test(empty_pages_serve_other_sizes),
        cmocka_unit_test(who_moves_makes_pages_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
