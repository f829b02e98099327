/* SPDX-License-Identifier: Apache-2.0 */
/* Who may begin an ensemble. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "server/member_found.h"

static struct raft_members servers(unsigned voters, unsigned observers)
{
    struct raft_members m = {.n = voters + observers};

    for (unsigned i = 0; i < m.n; i++) {
        m.v[i] = (struct raft_member){.id = i + 1, .voter = i < voters};
        snprintf(m.v[i].address, sizeof m.v[i].address, "h%u:2888", i + 1);
    }
    return m;
}

static void hear(struct founding *f, uint64_t from, bool has_data, uint64_t now_ms)
{
    const struct found_message m = {.has_data = has_data,
                                    .config = has_data ? 7 : found_config(&f->config),
                                    .from = {.id = from}};

    founding_heard(f, &m, now_ms);
}

static void all_are_empty_and_they_begin(void **state)
{
    struct raft_members three = servers(3, 1), one = servers(1, 0);
    struct founding f;
    (void)state;
    founding_begin(&f, 1, &three, 1000);
    assert_int_equal(founding_verdict(&f, 1000), FOUND_WAIT);
    hear(&f, 4, false, 1000); /* an observer counts for nothing */
    hear(&f, 3, false, 1000);
    assert_int_equal(founding_verdict(&f, 1000), FOUND_WAIT);
    hear(&f, 3, false, 1001); /* the same one again */
    assert_int_equal(founding_verdict(&f, 1001), FOUND_WAIT);
    hear(&f, 2, false, 1001);
    assert_int_equal(founding_verdict(&f, 1001), FOUND_BEGIN);

    founding_begin(&f, 1, &one, 1000);
    assert_int_equal(founding_verdict(&f, 1000), FOUND_BEGIN);
}

/* The one that is not heard may have data: 1 has lost its disk, 2 was never there. */
static void a_majority_of_empty_ones_waits_for_the_others_first(void **state)
{
    const uint64_t end_ms = 1000 + FOUND_SHORT_MS;
    struct raft_members three = servers(3, 0), five = servers(5, 0);
    struct founding f;
    (void)state;
    founding_begin(&f, 1, &three, 1000);
    hear(&f, 2, false, end_ms - 1);
    assert_int_equal(founding_verdict(&f, end_ms - 1), FOUND_WAIT);
    assert_int_equal(founding_verdict(&f, end_ms), FOUND_BEGIN);
    hear(&f, 3, true, end_ms);
    assert_int_equal(founding_verdict(&f, end_ms), FOUND_LATE);

    founding_begin(&f, 5, &five, 1000);
    hear(&f, 1, false, end_ms);
    assert_int_equal(founding_verdict(&f, end_ms), FOUND_WAIT);
    hear(&f, 2, false, end_ms);
    assert_int_equal(founding_verdict(&f, end_ms), FOUND_BEGIN);
}

static void an_observer_never_begins(void **state)
{
    struct raft_members all = servers(3, 1);
    struct founding f;
    (void)state;
    founding_begin(&f, 4, &all, 1000);
    for (uint64_t id = 1; id <= 3; id++)
        hear(&f, id, false, 1000);
    assert_int_equal(founding_verdict(&f, 1000), FOUND_WAIT);
}

static void who_has_data_makes_all_others_late(void **state)
{
    struct raft_members all = servers(5, 0);
    struct founding f;
    (void)state;
    founding_begin(&f, 1, &all, 1000);
    for (uint64_t id = 2; id <= 4; id++)
        hear(&f, id, false, 1100);
    hear(&f, 5, true, 1100);
    assert_int_equal(founding_verdict(&f, 1100), FOUND_WAIT);
    assert_int_equal(founding_verdict(&f, 1000 + FOUND_LATE_MS - 1), FOUND_WAIT);
    assert_int_equal(founding_verdict(&f, 1000 + FOUND_LATE_MS), FOUND_LATE);
    hear(&f, 5, false, 2100); /* it does not take it back */
    assert_int_equal(founding_verdict(&f, 2100), FOUND_LATE);
}

/* It may have begun with others since, and have data now. */
static void what_was_heard_long_ago_does_not_count(void **state)
{
    struct raft_members all = servers(3, 0);
    struct founding f;
    (void)state;
    founding_begin(&f, 1, &all, 1000);
    hear(&f, 2, false, 1000);
    hear(&f, 3, false, 1000);
    assert_int_equal(founding_verdict(&f, 1000 + FOUND_FRESH_MS - 1), FOUND_BEGIN);
    assert_int_equal(founding_verdict(&f, 1000 + FOUND_FRESH_MS), FOUND_WAIT);
}

static void all_must_mean_the_same_servers(void **state)
{
    struct raft_members three = servers(3, 0), four = servers(4, 0);
    struct founding f;
    struct found_message m = {.config = found_config(&four), .from = {.id = 2}};
    (void)state;
    founding_begin(&f, 1, &three, 1000);
    founding_heard(&f, &m, 1000);
    assert_int_equal(founding_verdict(&f, 1000), FOUND_WAIT);
    assert_int_equal(f.differs, 2);
    hear(&f, 3, false, 1000);
    assert_int_equal(f.differs, 0);
    assert_int_equal(founding_verdict(&f, 1000), FOUND_WAIT);
    hear(&f, 2, false, 1000);
    assert_int_equal(founding_verdict(&f, 1000), FOUND_BEGIN);
}

static void messages_survive_and_rubbish_does_not(void **state)
{
    struct found_message m = {
        .is_question = true,
        .has_data = true,
        .config = 0x0123456789abcdef,
        .from = {.id = 4, .name = "server-4", .address = "h:1", .more = "2;h:3", .birth = 99}};
    struct found_message out;
    struct buf b = {0};
    (void)state;
    found_message_encode(&m, &b);
    assert_int_equal(found_message_decode(&out, b.data, b.len), 0);
    assert_true(out.is_question && out.has_data && out.config == m.config);
    assert_int_equal(out.from.id, 4);
    assert_int_equal(out.from.birth, 99);
    assert_string_equal(out.from.more, "2;h:3");
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(found_message_decode(&out, b.data, len), ERR_MALFORMED);
    b.data[0] = 9;
    assert_int_equal(found_message_decode(&out, b.data, b.len), ERR_MALFORMED);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_empty_and_they_begin),
        cmocka_unit_test(a_majority_of_empty_ones_waits_for_the_others_first),
        cmocka_unit_test(an_observer_never_begins),
        cmocka_unit_test(who_has_data_makes_all_others_late),
        cmocka_unit_test(what_was_heard_long_ago_does_not_count),
        cmocka_unit_test(all_must_mean_the_same_servers),
        cmocka_unit_test(messages_survive_and_rubbish_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
