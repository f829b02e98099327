/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that come back: of an earlier life, or older ones of the same. */
#include "mutant_env.h"
#include "test_raft_lone.h"

/* 3 is in its life 77, by a configuration at entry 5 of term 2. */
static struct lone with_a_second_life(void)
{
    struct raft_options o = {.id = 1, .seed = 7};
    struct lone s = {.r = raft_new(&o), .now_ms = 10000};
    struct raft_members m = lone_members(3);

    m.v[2].birth = 77;
    raft_load_snapshot(s.r, 5, 2, &m);
    raft_start(s.r, s.now_ms);
    return s;
}

static void asked_by(struct lone *s, uint64_t birth, uint64_t config, uint64_t config_term)
{
    assert_int_equal(lone_give(s, 3,
                               (struct raft_msg){.type = RAFT_MSG_VOTE,
                                                 .term = 9,
                                                 .index = 50,
                                                 .index_term = 8,
                                                 .hint = config,
                                                 .hint_term = config_term,
                                                 .birth = birth}),
                     0);
    lone_save(s);
}

static void the_disk_of_an_earlier_life_gets_no_vote(void **state)
{
    (void)state;
    static const struct {
        uint64_t birth, config, config_term;
        bool is_given;
    } rows[] = {
        {77, 5, 2, true}, /* the life that counts */
        {0, 0, 0, false}, /* the one before */
        {0, 9, 1, false}, /* it has changes that nobody else has */
        {0, 5, 2, false}, /* what we know is not older */
        {78, 8, 2, true}, /* one that began after what we know */
        {78, 1, 3, true},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct lone s = with_a_second_life();
        asked_by(&s, rows[i].birth, rows[i].config, rows[i].config_term);
        if (rows[i].is_given) {
            lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 3);
            assert_true(s.m.yes);
        } else {
            assert_int_equal(lone_silence(&s), 0);
            assert_int_equal(raft_term(s.r), 2); /* nor does it disturb */
        }
        lone_free(&s);
    }
}

static void a_vote_of_an_earlier_life_is_not_counted(void **state)
{
    (void)state;
    for (uint64_t birth = 0; birth < 78; birth += 77) {
        struct lone s = with_a_second_life();
        lone_patience_ends(&s);
        assert_int_equal(raft_role(s.r), RAFT_PRE_CANDIDATE);
        lone_give(&s, 3,
                  (struct raft_msg){
                      .type = RAFT_MSG_PREVOTE_ANSWER, .term = 3, .yes = 1, .birth = birth});
        assert_int_equal(raft_role(s.r), birth == 77 ? RAFT_CANDIDATE : RAFT_PRE_CANDIDATE);
        lone_free(&s);
    }
}

/* Whom it corrects may lead our term when it hears that, and would begin another life of ours
 * for another birth. */
static void a_deposed_leader_is_told_the_birth(void **state)
{
    struct raft_options o = {.id = 1, .seed = 7, .birth = 55};
    struct lone s = {.r = raft_new(&o), .now_ms = 10000};
    struct raft_members m = lone_members(3);

    (void)state;
    m.v[0].birth = 55;
    raft_load_snapshot(s.r, 5, 2, &m);
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_give(&s, 3, (struct raft_msg){.type = RAFT_MSG_APPEND, .term = 1}),
                     0);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 3);
    assert_int_equal(s.m.birth, 55);
    lone_free(&s);
}

static void no_from(struct lone *s, uint64_t from, uint64_t index, uint64_t hint,
                    uint64_t round)
{
    assert_int_equal(lone_give(s, from,
                               (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                                 .term = raft_term(s->r),
                                                 .index = index,
                                                 .hint = hint,
                                                 .hint_term = raft_term(s->r),
                                                 .round = round}),
                     0);
}

/* A leader of three with some entries that 2 and 3 have acknowledged in its round 2. */
static struct lone leading(uint64_t *last)
{
    struct lone s = lone_make(3);

    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    for (int i = 0; i < 5; i++)
        *last = lone_propose(&s);
    lone_save(&s);
    lone_pass(&s, 60); /* rounds 2 and 3 */
    assert_int_equal(lone_ack(&s, 2, *last, 2), 0);
    assert_int_equal(lone_ack(&s, 3, *last, 2), 0);
    lone_pass(&s, 60);
    (void)lone_silence(&s);
    return s;
}

static void who_has_forgotten_what_it_acknowledged_is_told_so(void **state)
{
    struct raft_went_back w;
    uint64_t last;
    struct lone s = leading(&last);

    (void)state;
    assert_int_equal(lone_ack(&s, 2, last, 3), 0);
    no_from(&s, 3, last, 2, 3);
    assert_true(raft_went_back_take(s.r, &w));
    assert_int_equal(w.id, 3);
    assert_int_equal(w.had, last);
    assert_int_equal(w.has, 2);
    assert_false(raft_went_back_take(s.r, &w)); /* until it answers again */
    /* And what it says does not count: 2 is silent from here on. */
    uint64_t more = lone_propose(&s);
    lone_save(&s);
    assert_int_equal(lone_ack(&s, 3, more, 3), 0);
    assert_int_equal(raft_committed(s.r), last);
    assert_true(raft_went_back_take(s.r, &w));
    lone_free(&s);
}

/* On a network that reorders, what was said before comes after. */
static void an_old_refusal_says_nothing(void **state)
{
    struct raft_went_back w;
    uint64_t last;
    struct lone s = leading(&last);

    (void)state;
    no_from(&s, 3, last, 2, 2);
    assert_false(raft_went_back_take(s.r, &w));
    lone_free(&s);
}

/* Nor does it when 3 acknowledged in an older round: it had forgotten its leader, and what it
 * heard then first had been on its way for long. */
static void a_refusal_of_a_round_from_before_says_nothing(void **state)
{
    struct raft_went_back w;
    uint64_t last;
    struct lone s = leading(&last);

    (void)state;
    uint64_t more = lone_propose(&s);
    lone_save(&s);
    assert_int_equal(lone_ack(&s, 2, more, 3), 0);
    assert_int_equal(lone_ack(&s, 3, more, 2), 0);
    no_from(&s, 3, more, last, 3);
    assert_false(raft_went_back_take(s.r, &w));
    lone_pass(&s, 60);
    no_from(&s, 3, more, last, 4); /* this was said later */
    assert_true(raft_went_back_take(s.r, &w));
    lone_free(&s);
}

/* With 2 away the leader needs it, whatever it has forgotten. */
static void who_is_needed_is_not_sent_away(void **state)
{
    struct raft_went_back w;
    uint64_t last;
    struct lone s = leading(&last);

    (void)state;
    for (int i = 0; i < 6; i++) {
        lone_pass(&s, 60);
        assert_int_equal(lone_ack(&s, 3, last, 3), 0);
    }
    no_from(&s, 3, last, 2, 5);
    assert_false(raft_went_back_take(s.r, &w));
    uint64_t more = lone_propose(&s);
    lone_save(&s);
    assert_int_equal(lone_ack(&s, 3, more, 5), 0);
    assert_int_equal(raft_committed(s.r), more);
    lone_free(&s);
}

/* All are started with more behind the snapshot than the memory's limit, and nothing is
 * committed before an entry of the new term. */
static void more_than_fits_is_loaded_and_leaves_when_it_is_applied(void **state)
{
    const size_t size = 1u << 20;
    const uint64_t n = RAFT_LOG_BYTES_MAX / size + 4;
    struct lone s = lone_make(3);
    uint8_t *big = mem_alloc(size);

    (void)state;
    raft_load_state(s.r, 1, RAFT_NOBODY);
    for (uint64_t i = 1; i <= n; i++) {
        struct raft_entry *e = raft_entry_new(i, 1, RAFT_ENTRY_DATA, big, size);
        assert_int_equal(raft_load_entry(s.r, e), 0);
        raft_entry_unref(e);
    }
    raft_start(s.r, s.now_ms);
    assert_true(raft_log_bytes(s.r) > RAFT_LOG_BYTES_MAX);
    const struct raft_msg first = {.term = 2, .index = n, .index_term = 1};
    assert_int_equal(lone_append(&s, 2, first, TERMS(2)), 0);
    assert_int_equal(raft_last_index(s.r), n + 1);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.match, n + 1);
    /* From there on it is bounded again. */
    const struct raft_msg next = {.term = 2, .index = n + 1, .index_term = 2};
    assert_int_equal(lone_append(&s, 2, next, TERMS(2)), 0);
    assert_int_equal(raft_last_index(s.r), n + 1);
    const struct raft_msg commit = {
        .term = 2, .index = n + 1, .index_term = 2, .commit = n + 1};
    assert_int_equal(lone_append(&s, 2, commit, NO_ENTRIES), 0);
    while (raft_apply_take(s.r) != NULL)
        ;
    assert_true(raft_log_bytes(s.r) <= RAFT_LOG_BYTES_MAX / 2 + 2 * size);
    assert_int_equal(lone_append(&s, 2, next, TERMS(2)), 0);
    assert_int_equal(raft_last_index(s.r), n + 2);
    mem_free(big);
    lone_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LONE_TEST(the_disk_of_an_earlier_life_gets_no_vote),
        LONE_TEST(a_vote_of_an_earlier_life_is_not_counted),
        LONE_TEST(a_deposed_leader_is_told_the_birth),
        LONE_TEST(who_has_forgotten_what_it_acknowledged_is_told_so),
        LONE_TEST(an_old_refusal_says_nothing),
        LONE_TEST(a_refusal_of_a_round_from_before_says_nothing),
        LONE_TEST(who_is_needed_is_not_sent_away),
        LONE_TEST(more_than_fits_is_loaded_and_leaves_when_it_is_applied),
    };

    lone_used();
    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
