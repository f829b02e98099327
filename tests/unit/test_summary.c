/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/summary.h"

static void of_none_all_is_zero(void **state)
{
    static struct distribution s;
    (void)state;
    assert_int_equal(distribution_at(&s, 500), 0);
    assert_true(summary_average(&s.all) == 0);
}

static void least_and_most_are_those_of_what_was_added(void **state)
{
    struct summary s = {0};
    (void)state;
    summary_add(&s, 7);
    assert_int_equal(s.least, 7);
    summary_add(&s, 3);
    summary_add(&s, 5);
    assert_int_equal(s.least, 3);
    assert_int_equal(s.most, 7);
    assert_int_equal(s.count, 3);
    assert_true(summary_average(&s) == 5);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Against all values, sorted: never too low, and at most 1/16 too high. */
static void percentiles(void **state)
{
    enum { N = 5000 };
    static struct distribution s;
    static uint64_t v[N];
    static const unsigned shares[] = {1, 500, 950, 990, 999, 1000};
    struct rng rng = {1};
    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        memset(&s, 0, sizeof s);
        uint64_t most = round < 4 ? 40 : 1ULL << (round % 33);
        for (size_t i = 0; i < N; i++) {
            v[i] = rng_below(&rng, most);
            distribution_add(&s, v[i]);
        }
        qsort(v, N, sizeof v[0], by_size);
        for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
            uint64_t right = v[(N * shares[i] + 999) / 1000 - 1],
                     got = distribution_at(&s, shares[i]);
            assert_true(got >= right && got <= right + right / 16);
            assert_true(right >= 32 || got == right);
        }
    }
}

static void what_is_beyond_the_last_bucket_counts_in_it(void **state)
{
    static struct distribution s;
    (void)state;
    distribution_add(&s, UINT64_MAX);
    distribution_add(&s, 1);
    assert_int_equal(s.all.most, UINT64_MAX);
    assert_int_equal(distribution_at(&s, 500), 1);
    assert_true(distribution_at(&s, 1000) >= UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_none_all_is_zero),
        cmocka_unit_test(least_and_most_are_those_of_what_was_added),
        cmocka_unit_test(percentiles),
        cmocka_unit_test(what_is_beyond_the_last_bucket_counts_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
