/* SPDX-License-Identifier: Apache-2.0 */
/* Who stands where in a line: by the number alone, whoever made the znode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/turn.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char kazoo[] = "ff3b250c91a6ccbe2ae64ed33066836f__lock__0000000007";
static char ours[] = "003b250c91a6ccbe2ae64ed33066836f__lock__0000000012";
static char curator[] = "_c_0f4bfb6f-4b57-4c9c-8a5a-1c1d5a1b7f4e-lock-0000000009";
static char old[] = "lock-aa3b250c91a6ccbe-0000000010";
static char alone[] = "0000000003";
static char reader[] = "aa3b250c91a6ccbe2ae64ed33066836f__rlock__2147483647";
static char *const line[] = {ours, kazoo, reader, old, curator};

static void numbers_are_what_stands_at_the_end(void **state)
{
    (void)state;
    assert_string_equal(turn_sequence(kazoo), "0000000007");
    assert_string_equal(turn_sequence(alone), "0000000003");
    assert_null(turn_sequence(""));
    assert_null(turn_sequence("ready"));
    assert_null(turn_sequence("000000003"));       /* nine digits */
    assert_null(turn_sequence("lock-000000001x")); /* not at the end */
    assert_null(turn_sequence("lock--000000001")); /* after the numbers have run over */
    assert_null(turn_sequence("a-long-name-without-one"));
}

static void the_lowest_number_is_first(void **state)
{
    char none[] = "config", *const others[] = {none};

    (void)state;
    assert_ptr_equal(turn_first(line, COUNT(line)), kazoo);
    assert_ptr_equal(turn_first(line, 1), ours);
    assert_null(turn_first(line, 0));
    assert_null(turn_first(others, 1));
}

static void each_waits_for_the_next_lower_one(void **state)
{
    (void)state;
    assert_ptr_equal(turn_before(line, COUNT(line), turn_sequence(reader)), ours);
    assert_ptr_equal(turn_before(line, COUNT(line), turn_sequence(ours)), old);
    assert_ptr_equal(turn_before(line, COUNT(line), turn_sequence(old)), curator);
    assert_ptr_equal(turn_before(line, COUNT(line), turn_sequence(curator)), kazoo);
    assert_null(turn_before(line, COUNT(line), turn_sequence(kazoo)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_what_stands_at_the_end),
        cmocka_unit_test(the_lowest_number_is_first),
        cmocka_unit_test(each_waits_for_the_next_lower_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
