/* SPDX-License-Identifier: Apache-2.0 */
/* Where addresses belong, checked by properties; and the promises of the failsafe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/failsafe.h"
#include "agent/spread.h"
#include "base/rng.h"

static struct spread_view random_view(struct rng *r, bool all_can)
{
    struct spread_view v = {.machines = 1 + (unsigned)rng_below(r, 5),
                            .addresses = (unsigned)rng_below(r, 9)};

    for (unsigned m = 0; m < v.machines; m++) {
        v.can[m] = all_can || rng_below(r, 3) > 0 ? UINT64_MAX : rng_below(r, 512);
        v.name_hash[m] = 100 + m;
    }
    for (unsigned i = 0; i < v.addresses; i++)
        v.holder[i] = (int)rng_below(r, v.machines + 2) - 2;
    return v;
}

static unsigned moves(const struct spread_view *v, const int *target)
{
    unsigned n = 0;

    for (unsigned i = 0; i < v->addresses; i++)
        n += v->holder[i] >= 0 && target[i] != v->holder[i];
    return n;
}

static void shares_are_even_and_moves_are_few(void **state)
{
    (void)state;
    struct rng r = {1};

    for (int round = 0; round < 20000; round++) {
        struct spread_view v = random_view(&r, true);
        int target[SPREAD_ADDRESSES_MAX], again[SPREAD_ADDRESSES_MAX];
        unsigned count[SPREAD_MACHINES_MAX] = {0}, held[SPREAD_MACHINES_MAX] = {0}, kept = 0;
        spread_assign(&v, target);
        for (unsigned i = 0; i < v.addresses; i++) {
            assert_true(target[i] >= 0);
            count[target[i]]++;
            if (v.holder[i] >= 0)
                held[v.holder[i]]++;
        }
        unsigned base = v.addresses / v.machines, extra = v.addresses % v.machines;
        for (unsigned m = 0; m < v.machines; m++)
            assert_true(count[m] == base || count[m] == base + 1);
        /* The least that must move in any even spread: all above the base, but for one more
         * on as many machines as may have it. */
        for (unsigned m = 0; m < v.machines; m++) {
            kept += held[m] < base ? held[m] : base;
            if (held[m] > base && extra > 0)
                kept++, extra--;
        }
        unsigned all = 0;
        for (unsigned m = 0; m < v.machines; m++)
            all += held[m];
        assert_int_equal(moves(&v, target), all - kept);
        v.me = v.machines - 1; /* who asks makes no difference */
        spread_assign(&v, again);
        assert_memory_equal(target, again, v.addresses * sizeof target[0]);
    }
}

static void nothing_goes_where_it_cannot_be_if_another_can(void **state)
{
    (void)state;
    struct rng r = {2};

    for (int round = 0; round < 20000; round++) {
        struct spread_view v = random_view(&r, false);
        int target[SPREAD_ADDRESSES_MAX];
        spread_assign(&v, target);
        for (unsigned i = 0; i < v.addresses; i++) {
            bool somebody = false;
            for (unsigned m = 0; m < v.machines; m++)
                somebody = somebody || (v.can[m] >> i & 1) != 0;
            assert_true(target[i] >= 0 && target[i] < (int)v.machines);
            if (somebody)
                assert_true((v.can[target[i]] >> i & 1) != 0);
            else if (v.holder[i] >= 0)
                assert_int_equal(target[i], v.holder[i]);
        }
    }
}

/* All machines follow their wishes, one step at a time: it comes to rest, evenly, with no
 * address moved twice. */
static void handing_over_comes_to_rest(void **state)
{
    (void)state;
    struct rng r = {3};

    for (int round = 0; round < 500; round++) {
        struct spread_view v = random_view(&r, true);
        struct spread memory[SPREAD_MACHINES_MAX] = {0};
        unsigned moved[SPREAD_ADDRESSES_MAX] = {0};
        int was[SPREAD_ADDRESSES_MAX];
        for (unsigned i = 0; i < v.addresses; i++)
            if (v.holder[i] < 0)
                v.holder[i] = SPREAD_NOBODY;
        memcpy(was, v.holder, sizeof was);
        for (uint64_t now = 1; now < 60000; now += 100) {
            unsigned leaving = 0;
            for (unsigned m = 0; m < v.machines; m++) {
                enum address_wish wish[SPREAD_ADDRESSES_MAX];
                v.me = m;
                spread_step(&memory[m], &v, now, 1000, wish);
                for (unsigned i = 0; i < v.addresses; i++) {
                    if (v.holder[i] == SPREAD_NOBODY && wish[i] == ADDRESS_TAKE) {
                        moved[i] += was[i] >= 0 && was[i] != (int)m;
                        v.holder[i] = (int)m;
                    } else if (v.holder[i] == (int)m && wish[i] == ADDRESS_AWAY) {
                        v.holder[i] = SPREAD_NOBODY;
                        leaving++;
                    }
                }
            }
            assert_true(leaving <= 1); /* one at a time */
        }
        unsigned count[SPREAD_MACHINES_MAX] = {0};
        for (unsigned i = 0; i < v.addresses; i++) {
            assert_true(v.holder[i] >= 0 && moved[i] <= 1);
            count[v.holder[i]]++;
        }
        for (unsigned m = 0; m < v.machines; m++)
            assert_true(count[m] >= v.addresses / v.machines &&
                        count[m] <= v.addresses / v.machines + 1);
    }
}

static void only_the_assigned_machine_claims_at_once(void **state)
{
    (void)state;
    struct rng r = {4};

    for (int round = 0; round < 2000; round++) {
        struct spread_view v = random_view(&r, true);
        int target[SPREAD_ADDRESSES_MAX];
        spread_assign(&v, target);
        for (unsigned m = 0; m < v.machines; m++) {
            struct spread memory = {.has_last = false};
            enum address_wish wish[SPREAD_ADDRESSES_MAX];
            v.me = m;
            spread_step(&memory, &v, 5000, 1000, wish);
            for (unsigned i = 0; i < v.addresses; i++)
                if (v.holder[i] == SPREAD_NOBODY)
                    assert_int_equal(wish[i] == ADDRESS_TAKE, target[i] == (int)m);
            /* ... and anybody, after a while. */
            spread_step(&memory, &v, 5000 + 1000, 1000, wish);
            for (unsigned i = 0; i < v.addresses; i++)
                if (v.holder[i] == SPREAD_NOBODY)
                    assert_int_equal(wish[i], ADDRESS_TAKE);
        }
    }
}

static void a_newcomer_covers_but_is_given_nothing_for_a_lease(void **state)
{
    (void)state;
    struct spread_view v = {.machines = 2,
                            .addresses = 2,
                            .me = 0,
                            .name_hash = {1, 2},
                            .can = {UINT64_MAX, UINT64_MAX},
                            .holder = {0, 0}};
    struct spread a = {.has_last = false}, b = {.has_last = false};
    enum address_wish wish[SPREAD_ADDRESSES_MAX];

    spread_step(&a, &v, 1000, 2000, wish);
    assert_int_equal(wish[1], ADDRESS_STAY);
    assert_int_equal(a.due_ms, 3000);
    spread_step(&a, &v, 2999, 2000, wish);
    assert_int_equal(wish[1], ADDRESS_STAY);
    spread_step(&a, &v, 3000, 2000, wish);
    assert_int_equal(wish[0], ADDRESS_TAKE);
    assert_int_equal(wish[1], ADDRESS_AWAY);
    v.holder[0] = SPREAD_NOBODY;
    v.me = 1;
    spread_step(&b, &v, 1000, 2000, wish);
    assert_int_equal(wish[0], ADDRESS_TAKE);
}

/* ---- failsafe ---- */

static const char one[][SITE_ADDRESS_MAX] = {"10.0.0.100"};
static const char two[][SITE_ADDRESS_MAX] = {"10.0.0.100", "10.0.0.101"};
static const struct failsafe_machines abc = {.n = 3, .me = 0, .name = {"a", "b", "c"}};

static bool yes(void *ctx, const char *address)
{
    return ctx == NULL || strcmp(ctx, address) != 0; /* ctx: the one that it holds */
}

static struct buf ask(struct failsafe *f, uint64_t now,
                      const char (*addresses)[SITE_ADDRESS_MAX], unsigned n)
{
    struct buf b = {0};

    failsafe_ask(f, now, 2000, &abc, addresses, n, &b);
    return b;
}

/* `who` hears the message of a; its answer goes back to a at `back`. */
static void hear(struct failsafe *who, const char *name, struct failsafe *a, uint64_t now,
                 uint64_t back, const struct buf *message, bool reaches_tree, void *holds)
{
    struct buf answer = {0};
    struct failsafe_machines known = abc;

    known.me = name[0] == 'b' ? 1 : 2;
    failsafe_message(who, now, "a", message->data, message->len, &known, reaches_tree, yes,
                     holds, &answer);
    if (answer.len > 0 && back > 0)
        failsafe_message(a, back, name, answer.data, answer.len, &abc, false, yes, NULL,
                         &answer);
    buf_free(&answer);
}

static uint64_t kept(const struct failsafe *f, const char *address)
{
    return failsafe_kept_until(f, address, 240);
}

static void all_must_promise_and_it_counts_from_the_question(void **state)
{
    (void)state;
    struct failsafe a, b, c;

    failsafe_init(&a, 1);
    failsafe_init(&b, 2);
    failsafe_init(&c, 3);
    struct buf q = ask(&a, 10000, two, 2);
    assert_int_equal(kept(&a, "10.0.0.100"), 0);
    hear(&b, "b", &a, 10300, 10600, &q, false, NULL);
    assert_int_equal(kept(&a, "10.0.0.100"), 0);
    hear(&c, "c", &a, 10400, 10900, &q, false, (void *)(uintptr_t)two[1]);
    assert_int_equal(kept(&a, "10.0.0.100"), 10000 + 2000 - 240);
    assert_int_equal(kept(&a, "10.0.0.101"), 0); /* c has that one */
    assert_true(failsafe_promised_until(&b, "10.0.0.100") >= 10300 + 2000);
    assert_int_equal(failsafe_promised_until(&c, "10.0.0.101"), 0);
    buf_free(&q);
}

static void answers_of_different_questions_are_not_added_up(void **state)
{
    (void)state;
    struct failsafe a, b, c;

    failsafe_init(&a, 1);
    failsafe_init(&b, 2);
    failsafe_init(&c, 3);
    struct buf q1 = ask(&a, 10000, one, 1);
    hear(&b, "b", &a, 10001, 10002, &q1, false, NULL);
    struct buf q2 = ask(&a, 10100, one, 1);
    hear(&c, "c", &a, 10101, 10102, &q2, false, NULL);
    assert_int_equal(kept(&a, one[0]), 0);
    hear(&b, "b", &a, 10103, 10104, &q2, false, NULL);
    assert_int_equal(kept(&a, one[0]), 10100 + 2000 - 240);
    buf_free(&q1);
    buf_free(&q2);
}

static void whoever_reaches_the_tree_or_knows_others_says_no(void **state)
{
    (void)state;
    struct failsafe a, b;
    struct failsafe_machines four = {.n = 4, .me = 1, .name = {"a", "b", "c", "d"}};
    struct buf answer = {0};

    failsafe_init(&a, 1);
    failsafe_init(&b, 2);
    struct buf q = ask(&a, 10000, one, 1);
    hear(&b, "b", &a, 10001, 10002, &q, true, NULL);
    assert_int_equal(failsafe_promised_until(&b, one[0]), 0);
    failsafe_message(&b, 10001, "a", q.data, q.len, &four, false, yes, NULL, &answer);
    assert_int_equal(failsafe_promised_until(&b, one[0]), 0);
    assert_true(answer.len > 0); /* it says no: silence could be loss */
    buf_free(&answer);
    buf_free(&q);
}

static void nobody_to_ask_is_not_everybody_agrees(void **state)
{
    (void)state;
    struct failsafe a;
    struct failsafe_machines alone = {.n = 1, .name = {"a"}};
    struct buf q = {0};

    failsafe_init(&a, 1);
    failsafe_ask(&a, 10000, 2000, &alone, one, 1, &q);
    assert_int_equal(q.len, 0);
    assert_int_equal(kept(&a, one[0]), 0);
}

static void a_return_ends_the_promise_but_a_late_one_does_not(void **state)
{
    (void)state;
    struct failsafe a, b;
    struct buf back = {0};

    failsafe_init(&a, 1);
    failsafe_init(&b, 2);
    struct buf q1 = ask(&a, 10000, one, 1);
    hear(&b, "b", &a, 10001, 10002, &q1, false, NULL);
    failsafe_return(&a, one, 1, &back);
    assert_int_equal(kept(&a, one[0]), 0);
    struct buf q2 = ask(&a, 10100, one, 1);
    hear(&b, "b", &a, 10101, 10102, &q2, false, NULL);
    hear(&b, "b", &a, 10103, 0, &back, false, NULL); /* overtaken by the second question */
    assert_true(failsafe_promised_until(&b, one[0]) > 12000);
    failsafe_return(&a, one, 1, &back);
    buf_consume(&back, back.len / 2);
    hear(&b, "b", &a, 10104, 0, &back, false, NULL);
    assert_int_equal(failsafe_promised_until(&b, one[0]), 0);
    buf_free(&back);
    buf_free(&q1);
    buf_free(&q2);
}

static void what_an_earlier_agent_asked_is_not_answered_to_the_next(void **state)
{
    (void)state;
    struct failsafe a, b, c;

    failsafe_init(&a, 1);
    failsafe_init(&b, 2);
    failsafe_init(&c, 3);
    struct buf q = ask(&a, 10000, one, 1);
    failsafe_init(&a, 9);
    struct buf q2 = ask(&a, 10900, one, 1);
    hear(&b, "b", &a, 10901, 10902, &q, false, NULL);
    hear(&c, "c", &a, 10901, 10902, &q, false, NULL);
    assert_int_equal(kept(&a, one[0]), 0);
    buf_free(&q);
    buf_free(&q2);
}

static void any_bytes_between_agents_are_safe(void **state)
{
    (void)state;
    struct rng r = {5};
    struct failsafe a, b;
    struct buf answer = {0};

    failsafe_init(&a, 1);
    failsafe_init(&b, 2);
    for (int round = 0; round < 50000; round++) {
        struct buf q = {0};
        failsafe_ask(&a, 10000, 2000, &abc, two, 2, &q);
        for (uint64_t n = rng_below(&r, 4); n > 0; n--)
            q.data[rng_below(&r, q.len)] = (uint8_t)rng_next(&r);
        buf_clear(&answer);
        failsafe_message(&b, 10001 + (uint64_t)round * 5, "a", q.data,
                         rng_below(&r, 3) == 0 ? rng_below(&r, q.len) : q.len, &abc, false, yes,
                         NULL, &answer);
        assert_true(b.promises_n <= SITE_ADDRESSES_MAX);
        buf_free(&q);
    }
    assert_true(b.malformed_total > 0);
    buf_free(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_even_and_moves_are_few),
        cmocka_unit_test(nothing_goes_where_it_cannot_be_if_another_can),
        cmocka_unit_test(handing_over_comes_to_rest),
        cmocka_unit_test(only_the_assigned_machine_claims_at_once),
        cmocka_unit_test(a_newcomer_covers_but_is_given_nothing_for_a_lease),
        cmocka_unit_test(all_must_promise_and_it_counts_from_the_question),
        cmocka_unit_test(answers_of_different_questions_are_not_added_up),
        cmocka_unit_test(whoever_reaches_the_tree_or_knows_others_says_no),
        cmocka_unit_test(nobody_to_ask_is_not_everybody_agrees),
        cmocka_unit_test(a_return_ends_the_promise_but_a_late_one_does_not),
        cmocka_unit_test(what_an_earlier_agent_asked_is_not_answered_to_the_next),
        cmocka_unit_test(any_bytes_between_agents_are_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
