/* SPDX-License-Identifier: Apache-2.0 */
/* Membership, rule by rule: [D] 4.1, 4.2.1, 4.2.2. */
#include "mutant_env.h"
#include "test_raft_lone.h"

static const struct raft_member joiner = {
    .id = 9, .name = "i", .address = "10.0.0.9:2182", .auto_promote = true};

static bool is_member(const struct lone *s, uint64_t id, bool voter)
{
    const struct raft_members *m = raft_members(s->r);

    for (unsigned i = 0; i < m->n; i++)
        if (m->v[i].id == id)
            return m->v[i].voter == voter;
    return false;
}

static void members_survive_their_coding(void **state)
{
    struct raft_members m = lone_members(RAFT_MEMBERS_MAX), back;
    struct buf b = {0};

    (void)state;
    m.v[3].voter = false;
    m.v[3].auto_promote = true;
    m.v[4].id = m.v[5].id - 1;
    memset(m.v[6].name, 'x', RAFT_NAME_MAX - 1);
    memset(m.v[6].address, 'y', RAFT_ADDRESS_MAX - 1);
    memset(m.v[7].more, 'z', RAFT_MORE_MAX - 1);
    m.v[7].birth = RAFT_NUMBER_MAX;
    m.v[8].birth = 1;
    raft_members_encode(&m, &b);
    assert_int_equal(raft_members_decode(&back, b.data, b.len), 0);
    assert_memory_equal(&m.v, &back.v, sizeof m.v);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(raft_members_decode(&back, b.data, len), ERR_MALFORMED);
    buf_add_u8(&b, 0);
    assert_int_equal(raft_members_decode(&back, b.data, b.len), ERR_MALFORMED);
    b.data[1]++;
    assert_int_equal(raft_members_decode(&back, b.data, b.len), ERR_MALFORMED);
    buf_free(&b);
}

/* [D] 4.2.1 */
static void a_server_is_added_as_a_learner(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), ERR_NOT_LEADER);
    lone_lead_ready(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), 0);
    assert_true(is_member(&s, 9, false)); /* [D] 4.1: from when it is in the log */
    lone_expect(&s, RAFT_MSG_APPEND, 9);
    lone_agree(&s); /* 1 and 2 are still a majority of the three voters */
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), ERR_EXISTS);
    assert_int_equal(raft_promote(s.r, s.now_ms, 9), ERR_BUSY); /* it has nothing yet */
    assert_int_equal(raft_promote(s.r, s.now_ms, 5), ERR_NOT_FOUND);
    assert_int_equal(raft_promote(s.r, s.now_ms, 2), ERR_EXISTS);
    lone_free(&s);
}

static int lone_ack_born(struct lone *s, uint64_t from, uint64_t match, uint64_t birth)
{
    return lone_give(s, from,
                     (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                       .term = raft_term(s->r),
                                       .yes = 1,
                                       .match = match,
                                       .hint = match,
                                       .hint_term = match > 0 ? raft_term(s->r) : 0,
                                       .birth = birth});
}

/* A voter that has lost its disk: what it acknowledges counts for nothing; it becomes a
 * learner, and a voter again when it has caught up. */
static void a_voter_of_another_birth_is_renewed(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    uint64_t index = lone_propose(&s), committed = raft_committed(s.r);
    lone_save(&s);
    (void)lone_silence(&s);
    assert_int_equal(lone_ack_born(&s, 3, index, 77), 0);
    assert_int_equal(raft_committed(s.r), committed); /* not 1 and 3 */
    assert_true(is_member(&s, 3, false));
    assert_int_equal(raft_member_find(raft_members(s.r), 3)->birth, 77);
    assert_true(raft_member_find(raft_members(s.r), 3)->auto_promote);
    assert_int_equal(lone_ack_born(&s, 3, 0, 77), 0);
    lone_save(&s);
    assert_int_equal(lone_ack_born(&s, 3, raft_last_index(s.r), 77), 0);
    assert_int_equal(raft_committed(s.r), committed); /* a learner's neither */
    assert_true(is_member(&s, 3, false));
    (void)lone_silence(&s);
    uint64_t renewed = raft_last_index(s.r);
    assert_int_equal(lone_ack(&s, 2, renewed, 0), 0);
    assert_int_equal(raft_committed(s.r), renewed); /* 1 and 2 */
    assert_true(is_member(&s, 3, true));            /* it has all of it */
    /* And in that life no more. */
    lone_agree(&s);
    assert_int_equal(lone_ack_born(&s, 3, raft_last_index(s.r), 77), 0);
    assert_true(is_member(&s, 3, true));
    /* The disk of its first life, which had no birth, is another one, too. */
    committed = raft_committed(s.r);
    index = lone_propose(&s);
    lone_save(&s);
    assert_int_equal(lone_ack_born(&s, 3, index, 0), 0);
    assert_int_equal(raft_committed(s.r), committed);
    assert_true(is_member(&s, 3, false));
    lone_free(&s);
}

/* What another birth has forgotten, it must not promise again. */
static void a_server_of_another_birth_neither_votes_nor_campaigns(void **state)
{
    static const struct raft_msg asks = {
        .type = RAFT_MSG_VOTE, .term = 5, .index = 9, .index_term = 4};
    (void)state;
    for (uint64_t configured = 0; configured < 2; configured++) {
        struct raft_options o = {.id = 1, .seed = 7, .birth = 77};
        struct lone s = {.r = raft_new(&o), .now_ms = 10000};
        struct raft_members m = lone_members(3);
        m.v[0].birth = configured * 77;
        raft_load_snapshot(s.r, 0, 0, &m);
        raft_start(s.r, s.now_ms);
        assert_int_equal(raft_is_stranger(s.r), configured == 0);
        assert_int_equal(lone_give(&s, 2, asks), 0);
        lone_save(&s);
        if (configured == 0) {
            (void)lone_silence(&s);
            assert_int_equal(raft_term(s.r), 0);
            lone_patience_ends(&s);
            assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
            (void)lone_silence(&s);
        } else {
            lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 2);
            assert_true(s.m.yes);
        }
        lone_free(&s);
    }
}

static void a_member_is_renewed_without_getting_a_vote(void **state)
{
    struct lone s = lone_make(3);
    struct raft_member m;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    m = *raft_member_find(raft_members(s.r), 3);
    strcpy(m.address, "elsewhere:2888");
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), 0);
    assert_true(is_member(&s, 3, true));
    assert_string_equal(raft_member_find(raft_members(s.r), 3)->address, "elsewhere:2888");
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_BUSY);
    lone_agree(&s);
    m.birth = 5; /* its promises would be gone */
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_BAD_ARGUMENTS);
    m.birth = 0;
    m.voter = false;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), 0);
    assert_true(is_member(&s, 3, false));
    lone_agree(&s);
    m.voter = true;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_BAD_ARGUMENTS);
    m = *raft_member_find(raft_members(s.r), 1);
    m.voter = false;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_UNSAFE); /* ourselves */
    m.id = 8;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_NOT_FOUND);
    lone_free(&s);
}

/* [D] 4.1 */
static void one_change_at_a_time(void **state)
{
    struct lone s = lone_make(3);
    struct raft_member other = {.id = 8};

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), 0);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &other), ERR_BUSY);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), ERR_BUSY);
    lone_agree(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &other), 0);
    lone_free(&s);
}

/* Ongaro, raft-dev, July 2015: bug in single-server membership changes. */
static void no_change_before_the_first_commit_of_the_term(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), ERR_BUSY);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), ERR_BUSY);
    lone_agree(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), 0);
    lone_free(&s);
}

/* [D] 4.2.1: one that has what was there a short while ago becomes a voter by itself. */
static void a_learner_that_has_caught_up_is_promoted(void **state)
{
    (void)state;
    for (int asked = 0; asked < 2; asked++) {
        struct lone s = lone_make(3);
        struct raft_member m = joiner;
        m.auto_promote = asked;
        raft_start(s.r, s.now_ms);
        lone_lead_ready(&s);
        assert_int_equal(raft_add_learner(s.r, s.now_ms, &m), 0);
        lone_agree(&s);
        /* It took longer than an election timeout: another round is needed. */
        for (int i = 0; i < 6; i++) {
            lone_pass(&s, 60);
            assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
        }
        assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
        lone_pass(&s, 60);
        assert_true(is_member(&s, 9, false));
        assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
        assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
        lone_pass(&s, 60);
        assert_true(is_member(&s, 9, asked));
        if (!asked) {
            /* Away again: a voter that does not answer would be a burden. */
            for (int i = 0; i < 5; i++) {
                lone_pass(&s, 60);
                assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
            }
            assert_int_equal(raft_promote(s.r, s.now_ms, 9), ERR_BUSY);
            assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
            lone_pass(&s, 60);
            assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
            assert_int_equal(raft_promote(s.r, s.now_ms, 9), 0);
        }
        assert_true(is_member(&s, 9, true));
        lone_free(&s);
    }
}

/* [D] 4.1: with the entry goes the configuration. */
static void a_configuration_is_rolled_back_with_its_entry(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), 0);
    assert_false(is_member(&s, 3, true));
    lone_save(&s);
    lone_pass(&s, 400); /* steps down */
    assert_int_equal(
        lone_append(&s, 3, (struct raft_msg){.term = 2, .index = 1, .index_term = 1}, TERMS(2)),
        0);
    assert_true(is_member(&s, 3, true));
    lone_free(&s);
}

/* [D] 4.2.2 */
static void a_removed_leader_leads_until_its_removal_is_committed(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(lone_ack(&s, 3, 1, 0), 0);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), 0);
    lone_save(&s);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    assert_int_equal(lone_ack(&s, 2, 2, 0), 0);
    assert_int_equal(raft_committed(s.r), 1); /* it does not count itself any more */
    assert_int_equal(lone_ack(&s, 3, 2, 0), 0);
    assert_int_equal(raft_committed(s.r), 2);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    lone_expect(&s, RAFT_MSG_TIMEOUT_NOW, 2);
    for (int i = 0; i < 5; i++)
        lone_pass(&s, 1000);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_int_equal(raft_term(s.r), 1);
    lone_free(&s);
}

/* Without 2 it would take 3, of which nobody knows how it is, to commit anything. */
static void no_voter_goes_whom_those_that_answer_need(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s); /* with 2 */
    assert_int_equal(raft_remove(s.r, s.now_ms, 2), ERR_BUSY);
    struct raft_member learner = raft_members(s.r)->v[1];
    learner.voter = false;
    assert_int_equal(raft_renew(s.r, s.now_ms, &learner), ERR_BUSY);
    assert_int_equal(lone_ack(&s, 3, 1, 0), 0);
    assert_int_equal(raft_remove(s.r, s.now_ms, 2), 0);
    lone_free(&s);
}

/* [D] 4.2.2: it may be the only one that can be elected. */
static void a_removed_voter_campaigns_until_its_removal_is_committed(void **state)
{
    struct lone s = lone_make(2);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), 0);
    lone_save(&s);
    lone_pass(&s, 400);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    lone_patience_ends(&s);
    assert_int_equal(raft_role(s.r), RAFT_PRE_CANDIDATE);
    lone_expect(&s, RAFT_MSG_PREVOTE, 2);
    lone_free(&s);
}

static void the_last_voter_stays(void **state)
{
    struct lone s = lone_make(1);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_patience_ends(&s);
    lone_save(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), ERR_UNSAFE);
    assert_int_equal(raft_remove(s.r, s.now_ms, 2), ERR_NOT_FOUND);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &(struct raft_member){.id = 0}),
                     ERR_BAD_ARGUMENTS);
    for (uint64_t id = 2; id <= RAFT_MEMBERS_MAX; id++) {
        assert_int_equal(raft_add_learner(s.r, s.now_ms, &(struct raft_member){.id = id}), 0);
        lone_save(&s);
    }
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &(struct raft_member){.id = 99}),
                     ERR_TOO_BIG);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), ERR_UNSAFE); /* learners do not vote */
    lone_free(&s);
}

static void a_server_that_was_removed_does_not_depose(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), 0);
    lone_agree(&s);
    assert_int_equal(
        lone_give(&s, 3, (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER, .term = 50}), 0);
    assert_int_equal(
        lone_give(&s, 3, (struct raft_msg){.type = RAFT_MSG_VOTE, .term = 50, .index = 9}), 0);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    lone_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LONE_TEST(members_survive_their_coding),
        LONE_TEST(a_server_is_added_as_a_learner),
        LONE_TEST(one_change_at_a_time),
        LONE_TEST(a_voter_of_another_birth_is_renewed),
        LONE_TEST(a_server_of_another_birth_neither_votes_nor_campaigns),
        LONE_TEST(a_member_is_renewed_without_getting_a_vote),
        LONE_TEST(no_change_before_the_first_commit_of_the_term),
        LONE_TEST(a_learner_that_has_caught_up_is_promoted),
        LONE_TEST(a_configuration_is_rolled_back_with_its_entry),
        LONE_TEST(a_removed_leader_leads_until_its_removal_is_committed),
        LONE_TEST(no_voter_goes_whom_those_that_answer_need),
        LONE_TEST(a_removed_voter_campaigns_until_its_removal_is_committed),
        LONE_TEST(the_last_voter_stays),
        LONE_TEST(a_server_that_was_removed_does_not_depose),
    };

    lone_used();
    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
