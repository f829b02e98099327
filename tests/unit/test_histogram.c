/* SPDX-License-Identifier: Apache-2.0 */
/* The load generator's buckets: none is wider than 1/128 of its values, and none is missed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "histogram.h"

static void test_each_value_is_near_its_bucket(void **state)
{
    (void)state;
    for (unsigned power = 0; power < 64; power++) {
        for (int around = -2; around <= 2; around++) {
            uint64_t v = (UINT64_C(1) << power) + (uint64_t)(int64_t)around;
            if (power < 2 && around < 0)
                continue;
            unsigned b = histogram_bucket(v);
            assert_true(b < HISTOGRAM_BUCKETS);
            uint64_t shown = histogram_value(b);
            assert_true((v > shown ? v - shown : shown - v) <= v / 128);
        }
    }
    assert_true(histogram_bucket(UINT64_MAX) == HISTOGRAM_BUCKETS - 1);
}

static void test_buckets_are_in_order(void **state)
{
    (void)state;
    for (unsigned b = 1; b < HISTOGRAM_BUCKETS; b++) {
        assert_true(histogram_value(b) > histogram_value(b - 1));
        assert_int_equal(histogram_bucket(histogram_value(b)), b);
    }
}

static void test_permilles(void **state)
{
    static struct histogram h;

    (void)state;
    assert_int_equal(histogram_permille(&h, 500), 0);
    for (uint64_t v = 1; v <= 200; v++) /* small values are exact */
        histogram_add(&h, v);
    assert_int_equal(histogram_permille(&h, 500), 100);
    assert_int_equal(histogram_permille(&h, 990), 198);
    assert_int_equal(histogram_permille(&h, 1000), 200);
    histogram_add(&h, 1000000);
    assert_int_equal(histogram_permille(&h, 1000), 1000000);
    assert_int_equal(h.most, 1000000);
    assert_int_equal(h.count, 201);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_value_is_near_its_bucket),
        cmocka_unit_test(test_buckets_are_in_order),
        cmocka_unit_test(test_permilles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
