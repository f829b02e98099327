/* SPDX-License-Identifier: Apache-2.0 */
/* Elections, rule by rule: [R] 5.1, 5.2, 5.4.1, figure 2; [D] 3.10, 4.2.2, 4.2.3, 6.2, 9.6. */
#include "mutant_env.h"
#include "test_raft_lone.h"

#define MIN 300u /* the default election_min_ms */

static struct raft_msg vote(enum raft_msg_type type, uint64_t term, uint64_t index,
                            uint64_t index_term)
{
    return (struct raft_msg){
        .type = type, .term = term, .index = index, .index_term = index_term};
}

/* [R] 5.2: timeouts are random, so that split votes are rare and end soon. */
static void timeouts_are_drawn_from_min_to_twice_min(void **state)
{
    uint64_t least = UINT64_MAX, most = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct raft_options o = {.id = 1 + seed % 5, .seed = seed / 5};
        struct raft_members m = lone_members(5);
        struct raft *r = raft_new(&o);
        raft_load_snapshot(r, 0, 0, &m);
        raft_start(r, 1000);
        uint64_t patience = raft_deadline(r) - 1000;
        least = patience < least ? patience : least;
        most = patience > most ? patience : most;
        raft_free(r);
    }
    assert_in_range(least, MIN, MIN + 20);
    assert_in_range(most, 2 * MIN - 20, 2 * MIN - 1);
}

/* [D] 9.6 */
static void a_pre_vote_changes_no_term(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    for (int i = 0; i < 5; i++) {
        lone_patience_ends(&s);
        assert_int_equal(raft_role(s.r), RAFT_PRE_CANDIDATE);
        assert_int_equal(raft_term(s.r), 0);
        lone_expect(&s, RAFT_MSG_PREVOTE, 3);
        assert_int_equal(s.m.term, 1);
        assert_false(raft_save_take(s.r, &s.save));
    }
    assert_int_equal(
        lone_give(&s, 3,
                  (struct raft_msg){.type = RAFT_MSG_PREVOTE_ANSWER, .term = 1, .yes = 1}),
        0);
    assert_int_equal(raft_role(s.r), RAFT_CANDIDATE);
    assert_int_equal(raft_term(s.r), 1);
    lone_free(&s);
}

/* [D] 9.6: refused to a server whose log is behind; the refusal carries our term, so that
 * who is behind in terms does not ask for a past one for ever. */
static void a_pre_vote_is_refused_to_who_is_behind(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 4, RAFT_NOBODY);
    lone_load(&s, 1, 3);
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_give(&s, 2, vote(RAFT_MSG_PREVOTE, 9, 5, 2)), 0);
    lone_expect(&s, RAFT_MSG_PREVOTE_ANSWER, 2);
    assert_int_equal(s.m.yes, 0);
    assert_int_equal(s.m.term, 4);
    assert_int_equal(lone_give(&s, 2, vote(RAFT_MSG_PREVOTE, 4, 5, 3)), 0);
    lone_expect(&s, RAFT_MSG_PREVOTE_ANSWER, 2);
    assert_int_equal(s.m.yes, 0);
    assert_int_equal(lone_give(&s, 2, vote(RAFT_MSG_PREVOTE, 5, 1, 3)), 0);
    lone_expect(&s, RAFT_MSG_PREVOTE_ANSWER, 2);
    assert_int_equal(s.m.yes, 1);
    assert_int_equal(s.m.term, 5);
    assert_int_equal(raft_term(s.r), 4);
    lone_free(&s);
}

/* [D] 4.2.3: within election_min of hearing the leader no vote is given, and no term taken
 * over; after it both are; a vote that the leader itself ordered passes at any time. */
static void who_hears_a_leader_disturbs_nobody(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        struct lone s = lone_make(3);
        raft_start(s.r, s.now_ms);
        assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
        lone_save(&s);
        (void)lone_silence(&s);
        s.now_ms += MIN - 1;
        assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_PREVOTE, 2, 9, 1)), 0);
        assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_VOTE, 2, 9, 1)), 0);
        assert_int_equal(lone_silence(&s), 0);
        assert_int_equal(raft_term(s.r), 1);
        struct raft_msg m = vote(RAFT_MSG_VOTE, 2, 9, 1);
        m.forced = (uint64_t)ordered;
        s.now_ms += ordered ? 0 : 1;
        assert_int_equal(lone_give(&s, 3, m), 0);
        assert_int_equal(raft_term(s.r), 2);
        lone_save(&s);
        lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 3);
        assert_int_equal(s.m.yes, 1);
        lone_free(&s);
    }
}

static void a_leader_with_its_quorum_is_not_deposed_by_a_candidate(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_VOTE, 99, 50, 2)), 0);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    assert_int_equal(raft_term(s.r), 1);
    lone_free(&s);
}

/* [R] figure 2: votedFor is on stable storage before the answer. */
static void a_vote_is_answered_once_it_is_saved(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_give(&s, 2, vote(RAFT_MSG_VOTE, 1, 0, 0)), 0);
    assert_int_equal(lone_silence(&s), 0);
    assert_true(raft_save_take(s.r, &s.save));
    assert_true(s.save.hard);
    assert_int_equal(s.save.term, 1);
    assert_int_equal(s.save.vote, 2);
    assert_int_equal(lone_silence(&s), 0);
    raft_saved(s.r, s.now_ms);
    lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 2);
    assert_int_equal(s.m.yes, 1);
    /* The answer may be lost: the same question has the same answer, at once. */
    assert_int_equal(lone_give(&s, 2, vote(RAFT_MSG_VOTE, 1, 0, 0)), 0);
    lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 2);
    assert_int_equal(s.m.yes, 1);
    lone_free(&s);
}

/* A save that was under way when the vote was given does not count for it. */
static void a_vote_waits_for_its_own_save(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 1}, TERMS(1)), 0);
    assert_true(raft_save_take(s.r, &s.save));
    s.now_ms += 2 * MIN;
    assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_VOTE, 2, 1, 1)), 0);
    raft_saved(s.r, s.now_ms);
    while (lone_take(&s))
        assert_int_not_equal(s.m.type, RAFT_MSG_VOTE_ANSWER);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 3);
    lone_free(&s);
}

/* [R] 5.2 */
static void one_vote_a_term(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 3, 2);
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_VOTE, 3, 9, 2)), 0);
    lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 3);
    assert_int_equal(s.m.yes, 0);
    assert_int_equal(lone_give(&s, 2, vote(RAFT_MSG_VOTE, 3, 9, 2)), 0);
    lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 2);
    assert_int_equal(s.m.yes, 1);
    assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_VOTE, 4, 9, 2)), 0);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 3);
    assert_int_equal(s.m.yes, 1);
    lone_free(&s);
}

/* [R] 5.4.1: the later last term wins, then the longer log. */
static void the_log_must_be_as_up_to_date(void **state)
{
    static const struct {
        uint64_t index, term, yes;
    } rows[] = {{2, 3, 1}, {3, 3, 1}, {1, 3, 0}, {9, 2, 0}, {1, 4, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct lone s = lone_make(3);
        raft_load_state(s.r, 3, RAFT_NOBODY);
        lone_load(&s, 1, 1);
        lone_load(&s, 2, 3);
        raft_start(s.r, s.now_ms);
        assert_int_equal(lone_give(&s, 2, vote(RAFT_MSG_VOTE, 5, rows[i].index, rows[i].term)),
                         0);
        lone_save(&s);
        lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 2);
        assert_int_equal(s.m.yes, rows[i].yes);
        assert_int_equal(s.m.term, 5); /* [R] 5.1: the term is taken over all the same */
        lone_free(&s);
    }
}

/* [R] figure 2, for the candidate itself: see raft_campaign. */
static void a_candidate_asks_once_its_own_vote_is_saved(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_patience_ends(&s);
    (void)lone_silence(&s);
    assert_int_equal(
        lone_give(&s, 2,
                  (struct raft_msg){.type = RAFT_MSG_PREVOTE_ANSWER, .term = 1, .yes = 1}),
        0);
    assert_int_equal(lone_silence(&s), 0);
    /* An answer to a question that it has not asked elects nobody. */
    assert_int_equal(
        lone_give(&s, 2, (struct raft_msg){.type = RAFT_MSG_VOTE_ANSWER, .term = 1, .yes = 1}),
        0);
    assert_int_equal(raft_role(s.r), RAFT_CANDIDATE);
    /* However slow the disk: it does not give up and begin anew. */
    for (int i = 0; i < 5; i++)
        lone_patience_ends(&s);
    assert_int_equal(raft_role(s.r), RAFT_CANDIDATE);
    assert_int_equal(raft_term(s.r), 1);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_VOTE, 2);
    lone_expect(&s, RAFT_MSG_VOTE, 3);
    lone_free(&s);
}

/* Not two votes of one server, nor one of a learner, make a majority. */
static void only_different_voters_elect(void **state)
{
    struct raft_members m = lone_members(4);
    struct raft_options o = {.id = 1, .seed = 1};
    struct lone s = {.r = raft_new(&o), .now_ms = 1};
    struct raft_msg yes = {.type = RAFT_MSG_VOTE_ANSWER, .term = 1, .yes = 1};

    (void)state;
    m.v[3].voter = false; /* 1, 2, 3 vote */
    m.v[4].id = 5, m.v[4].voter = true, m.v[5].id = 6, m.v[5].voter = true;
    m.n = 6; /* and 5, 6: three of five are needed */
    raft_load_snapshot(s.r, 0, 0, &m);
    raft_start(s.r, s.now_ms);
    lone_patience_ends(&s);
    for (uint64_t from = 2; from <= 3; from++)
        assert_int_equal(
            lone_give(&s, from,
                      (struct raft_msg){.type = RAFT_MSG_PREVOTE_ANSWER, .term = 1, .yes = 1}),
            0);
    lone_save(&s);
    assert_int_equal(lone_give(&s, 2, yes), 0);
    assert_int_equal(lone_give(&s, 2, yes), 0);
    assert_int_equal(lone_give(&s, 4, yes), 0);  /* a learner */
    assert_int_equal(lone_give(&s, 77, yes), 0); /* nobody */
    assert_int_equal(raft_role(s.r), RAFT_CANDIDATE);
    assert_int_equal(lone_give(&s, 6, yes), 0);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    lone_free(&s);
}

/* [R] 5.2: a candidate that hears the term's leader follows it. */
static void a_candidate_follows_the_leader_of_its_term(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_patience_ends(&s);
    assert_int_equal(
        lone_give(&s, 2,
                  (struct raft_msg){.type = RAFT_MSG_PREVOTE_ANSWER, .term = 1, .yes = 1}),
        0);
    lone_save(&s);
    assert_int_equal(lone_append(&s, 3, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_int_equal(raft_leader(s.r), 3);
    lone_free(&s);
}

/* [R] 8 */
static void a_new_leader_proposes_an_empty_entry(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 2, RAFT_NOBODY);
    lone_load(&s, 1, 2);
    raft_start(s.r, s.now_ms);
    lone_lead(&s);
    assert_int_equal(raft_last_index(s.r), 2);
    assert_int_equal(raft_entry_term(s.r, 2), 3);
    assert_false(raft_is_ready(s.r));
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    assert_int_equal(s.m.count, 1);
    assert_int_equal(s.m.index, 1);
    lone_free(&s);
}

/* [D] 6.2 */
static void a_leader_without_a_quorum_steps_down(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    for (int i = 0; i < 20; i++) {
        lone_pass(&s, 60);
        assert_int_equal(lone_ack(&s, 2, 1, 0), 0);
    }
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    lone_pass(&s, MIN - 1);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    lone_pass(&s, 1);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_int_equal(raft_leader(s.r), RAFT_NOBODY);
    assert_int_equal(raft_term(s.r), 1);
    lone_free(&s);
}

/* [R] 5.1 */
static void a_later_term_deposes(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(
        lone_give(&s, 3, (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER, .term = 9}), 0);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_int_equal(raft_term(s.r), 9);
    lone_free(&s);
}

/* [R] 5.1: a deposed leader learns of it from the refusal; which must not carry a heartbeat
 * round, since the one refused may lead the later term by the time it arrives. */
static void a_deposed_leader_is_refused(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 4, .round = 33}, NO_ENTRIES),
                     0);
    s.now_ms += 2 * MIN;
    assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_VOTE, 5, 0, 0)), 0);
    lone_save(&s);
    (void)lone_silence(&s);
    assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 4, .round = 34}, NO_ENTRIES),
                     0);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.yes, 0);
    assert_int_equal(s.m.term, 5);
    assert_int_equal(s.m.round, 0);
    lone_free(&s);
}

/* [D] 4.2.2, 4.2.3: who is in no configuration does not campaign, but hears a leader. */
static void who_is_no_voter_never_campaigns(void **state)
{
    struct lone s = lone_make(0);

    (void)state;
    raft_start(s.r, s.now_ms);
    for (int i = 0; i < 10; i++) {
        lone_pass(&s, 1000);
        assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    }
    assert_true(raft_deadline(s.r) == RAFT_NEVER);
    assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 3, .commit = 1}, TERMS(3)),
                     0);
    assert_int_equal(raft_leader(s.r), 2);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.match, 1);
    lone_pass(&s, 5000);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_int_equal(raft_leader(s.r), RAFT_NOBODY);
    assert_int_equal(lone_silence(&s), 0);
    lone_free(&s);
}

static void a_single_voter_leads_and_commits_alone(void **state)
{
    struct lone s = lone_make(1);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(raft_deadline(s.r), s.now_ms); /* it has nobody to wait for */
    raft_tick(s.r, s.now_ms);
    assert_int_equal(raft_role(s.r), RAFT_CANDIDATE);
    lone_save(&s);
    assert_true(raft_is_ready(s.r));
    uint64_t index = lone_propose(&s);
    raft_flush(s.r, s.now_ms);
    assert_int_equal(raft_committed(s.r), 1);
    lone_save(&s);
    assert_int_equal(raft_committed(s.r), index);
    lone_pass(&s, 10000);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    lone_free(&s);
}

/* [D] 3.10 */
static void timeout_now_campaigns_at_once(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg now = {.type = RAFT_MSG_TIMEOUT_NOW, .term = 1};

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
    assert_int_equal(lone_give(&s, 3, now), 0); /* not from the leader */
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_int_equal(lone_give(&s, 2, now), 0);
    assert_int_equal(raft_role(s.r), RAFT_CANDIDATE);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_VOTE, 3);
    assert_int_equal(s.m.forced, 1);
    lone_free(&s);
}

/* The leader's process has ended: the one that comes first asks soon, and the next one later;
 * nobody's term changes for it ([D] 9.6). */
static void who_loses_the_leader_asks_in_turn(void **state)
{
    const uint64_t after_ms[] = {15, 75, 0, 135, 195}; /* of server 1, 2, 4, 5; 3 led */

    (void)state;
    for (uint64_t id = 1; id <= 5; id++) {
        struct raft_options o = {.id = id, .seed = 3};
        struct raft_members five = lone_members(5);
        struct lone s = {.r = raft_new(&o), .now_ms = 10000};
        if (id == 3)
            continue;
        raft_load_snapshot(s.r, 0, 0, &five);
        raft_start(s.r, s.now_ms);
        assert_int_equal(lone_append(&s, 3, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
        lone_save(&s);
        (void)lone_silence(&s);
        raft_gone(s.r, s.now_ms, id == 1 ? 2 : 1); /* who does not lead */
        assert_int_equal(raft_leader(s.r), 3);
        assert_true(raft_deadline(s.r) >= s.now_ms + MIN);
        raft_gone(s.r, s.now_ms, 3);
        assert_int_equal(raft_leader(s.r), RAFT_NOBODY);
        assert_int_equal(raft_deadline(s.r), s.now_ms + after_ms[id - 1]);
        lone_pass(&s, after_ms[id - 1]);
        assert_int_equal(raft_role(s.r), RAFT_PRE_CANDIDATE);
        assert_int_equal(raft_term(s.r), 1);
        lone_expect(&s, RAFT_MSG_PREVOTE, id == 4 ? 5 : 4);
        lone_free(&s);
    }
}

/* It was only the connection: the leader's next word, and all is as it was. */
static void a_leader_that_is_heard_again_is_followed(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    for (int asked = 0; asked < 2; asked++) {
        assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
        lone_save(&s);
        raft_gone(s.r, s.now_ms, 2);
        lone_pass(&s, asked ? 15 : 14);
        assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
        assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
        assert_int_equal(raft_leader(s.r), 2);
        assert_int_equal(raft_term(s.r), 1);
        assert_true(raft_deadline(s.r) >= s.now_ms + MIN);
    }
    lone_free(&s);
}

/* Who asks is answered by who has lost the leader, and by nobody else. */
static void who_has_lost_the_leader_answers(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct lone s = lone_make(3);
        raft_start(s.r, s.now_ms);
        assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
        lone_save(&s);
        (void)lone_silence(&s);
        if (gone)
            raft_gone(s.r, s.now_ms, 2);
        assert_int_equal(lone_give(&s, 3, vote(RAFT_MSG_PREVOTE, 2, 9, 1)), 0);
        if (gone) {
            lone_expect(&s, RAFT_MSG_PREVOTE_ANSWER, 3);
            assert_int_equal(s.m.yes, 1);
        } else {
            assert_int_equal(lone_silence(&s), 0);
        }
        lone_free(&s);
    }
}

/* What comes for who leads, asks, or only learns, changes nothing. */
static void who_does_not_follow_is_not_told(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    raft_gone(s.r, s.now_ms, 2);
    assert_true(raft_deadline(s.r) >= s.now_ms + MIN);
    lone_lead_ready(&s);
    raft_gone(s.r, s.now_ms, 2);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    lone_free(&s);
}

static void a_transfer_waits_until_the_other_has_all(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    uint64_t index = lone_propose(&s), other;
    lone_save(&s);
    assert_int_equal(raft_transfer(s.r, s.now_ms, 9), ERR_NOT_FOUND);
    assert_int_equal(raft_transfer(s.r, s.now_ms, 2), 0);
    assert_int_equal(raft_propose(s.r, "x", 1, &other), ERR_BUSY);
    while (lone_take(&s))
        assert_int_not_equal(s.m.type, RAFT_MSG_TIMEOUT_NOW);
    assert_int_equal(lone_ack(&s, 2, index, 1), 0);
    lone_expect(&s, RAFT_MSG_TIMEOUT_NOW, 2);
    /* It did not come to it: after an election timeout the leader goes on. */
    for (int i = 0; i < 6; i++) {
        lone_pass(&s, 60);
        assert_int_equal(lone_ack(&s, 3, 0, 0), 0);
    }
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    assert_int_equal(raft_propose(s.r, "x", 1, &other), 0);
    lone_free(&s);
}

static void two_leaders_in_a_term_are_refused(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, (struct raft_msg){.term = 1}, NO_ENTRIES), 0);
    assert_int_equal(lone_append(&s, 3, (struct raft_msg){.term = 1}, NO_ENTRIES),
                     ERR_MALFORMED);
    assert_int_equal(raft_leader(s.r), 2);
    lone_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LONE_TEST(timeouts_are_drawn_from_min_to_twice_min),
        LONE_TEST(a_pre_vote_changes_no_term),
        LONE_TEST(a_pre_vote_is_refused_to_who_is_behind),
        LONE_TEST(who_hears_a_leader_disturbs_nobody),
        LONE_TEST(a_leader_with_its_quorum_is_not_deposed_by_a_candidate),
        LONE_TEST(a_vote_is_answered_once_it_is_saved),
        LONE_TEST(a_vote_waits_for_its_own_save),
        LONE_TEST(one_vote_a_term),
        LONE_TEST(the_log_must_be_as_up_to_date),
        LONE_TEST(a_candidate_asks_once_its_own_vote_is_saved),
        LONE_TEST(only_different_voters_elect),
        LONE_TEST(a_candidate_follows_the_leader_of_its_term),
        LONE_TEST(a_new_leader_proposes_an_empty_entry),
        LONE_TEST(a_leader_without_a_quorum_steps_down),
        LONE_TEST(a_later_term_deposes),
        LONE_TEST(a_deposed_leader_is_refused),
        LONE_TEST(who_is_no_voter_never_campaigns),
        LONE_TEST(a_single_voter_leads_and_commits_alone),
        LONE_TEST(timeout_now_campaigns_at_once),
        LONE_TEST(who_loses_the_leader_asks_in_turn),
        LONE_TEST(a_leader_that_is_heard_again_is_followed),
        LONE_TEST(who_has_lost_the_leader_answers),
        LONE_TEST(who_does_not_follow_is_not_told),
        LONE_TEST(a_transfer_waits_until_the_other_has_all),
        LONE_TEST(two_leaders_in_a_term_are_refused),
    };

    mutant_from_env();
    lone_used();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
