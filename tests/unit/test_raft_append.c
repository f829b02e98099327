/* SPDX-License-Identifier: Apache-2.0 */
/* The log, rule by rule: [R] 5.3, 5.4.2, figure 2; [D] 6.4, 10.2.1; limits. */
#include "test_raft_lone.h"

static struct raft_msg before(uint64_t term, uint64_t index, uint64_t index_term)
{
    return (struct raft_msg){.term = term, .index = index, .index_term = index_term};
}

/* ---- the follower ---- */

/* [R] 5.3: without the entry before, with its term, nothing is appended. */
static void the_entry_before_must_agree(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 2, RAFT_NOBODY);
    lone_load(&s, 1, 1);
    lone_load(&s, 2, 2);
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(5, 3, 2), TERMS(5)), 0);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.yes, 0);
    assert_int_equal(s.m.hint, 2);
    assert_int_equal(lone_append(&s, 2, before(5, 2, 1), TERMS(5)), 0);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.yes, 0);
    assert_int_equal(s.m.hint, 1); /* the term 2 cannot be in the leader's log here */
    assert_int_equal(raft_last_index(s.r), 2);
    lone_free(&s);
}

/* [R] figure 2, AppendEntries 3 and 4. */
static void a_conflicting_entry_goes_and_all_after_it(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 2, RAFT_NOBODY);
    lone_load(&s, 1, 1);
    lone_load(&s, 2, 2);
    lone_load(&s, 3, 2);
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(5, 1, 1), TERMS(3)), 0);
    assert_int_equal(raft_last_index(s.r), 2);
    assert_int_equal(raft_entry_term(s.r, 2), 3);
    assert_true(raft_save_take(s.r, &s.save));
    assert_true(s.save.truncate);
    assert_int_equal(s.save.first_index, 2);
    assert_int_equal(s.save.n, 1);
    lone_free(&s);
}

/* [R] 5.3: only a conflict removes: a late, shorter append must not take back entries. */
static void a_late_append_removes_nothing(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1, 1, 1)), 0);
    lone_save(&s);
    (void)lone_silence(&s);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1)), 0);
    assert_int_equal(raft_last_index(s.r), 3);
    assert_false(raft_save_take(s.r, &s.save));
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2); /* the first answer may be lost */
    assert_int_equal(s.m.match, 3);
    lone_free(&s);
}

/* [R] figure 2: on stable storage before the answer. Several appends are acknowledged by one
 * save, and the ones that come during it by the next. */
static void entries_are_acknowledged_once_saved(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1)), 0);
    assert_int_equal(lone_append(&s, 2, before(1, 1, 1), TERMS(1)), 0);
    assert_int_equal(lone_silence(&s), 0);
    assert_true(raft_save_take(s.r, &s.save));
    assert_int_equal(s.save.n, 2);
    assert_int_equal(lone_append(&s, 2, before(1, 2, 1), TERMS(1)), 0);
    assert_int_equal(lone_silence(&s), 0);
    raft_saved(s.r, s.now_ms);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.match, 2);
    assert_int_equal(s.m.hint, 3);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.match, 3);
    lone_free(&s);
}

/* Whoever saves may give the answer, and then raft does not say it again. It is about what is
 * saved and nothing behind it, and there is none in a term that is not saved yet. */
static void a_save_has_its_answer(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg beat = before(1, 4, 1), m;

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1)), 0);
    assert_true(raft_save_take(s.r, &s.save));
    assert_true(s.save.hard && s.save.answer == NULL);
    assert_true(raft_save_is_awaited(s.r));
    raft_saved(s.r, s.now_ms);
    (void)lone_silence(&s);

    assert_int_equal(lone_append(&s, 2, before(1, 1, 1), TERMS(1)), 0);
    assert_true(raft_save_take(s.r, &s.save));
    assert_true(s.save.answer != NULL && s.save.answer_to == 2);
    assert_int_equal(raft_msg_decode(&m, s.save.answer->data, s.save.answer->len), 0);
    assert_int_equal(m.type, RAFT_MSG_APPEND_ANSWER);
    assert_true(m.yes && m.match == 2 && m.hint == 2);
    assert_false(raft_save_is_awaited(s.r));
    assert_int_equal(lone_append(&s, 2, before(1, 2, 1), TERMS(1)), 0);
    assert_true(raft_save_is_awaited(s.r)); /* the next one waits for the disk */
    raft_told(s.r);
    raft_saved(s.r, s.now_ms);
    assert_int_equal(lone_silence(&s), 0);

    assert_true(raft_save_take(s.r, &s.save));
    assert_int_equal(lone_append(&s, 2, before(1, 3, 1), TERMS(1)), 0);
    assert_int_equal(raft_msg_decode(&m, s.save.answer->data, s.save.answer->len), 0);
    assert_int_equal(m.match, 3);
    raft_saved(s.r, s.now_ms); /* it was not given */
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.match, 3);

    assert_true(raft_save_take(s.r, &s.save));
    beat.commit = 3;
    assert_int_equal(lone_append(&s, 2, beat, NO_ENTRIES), 0);
    assert_false(raft_save_is_awaited(s.r));
    beat.commit = 4;
    assert_int_equal(lone_append(&s, 2, beat, NO_ENTRIES), 0);
    assert_true(raft_save_is_awaited(s.r)); /* it will be applied */
    lone_free(&s);
}

/* The leader was lost in the meantime and found again: it is told all anew. */
static void an_answer_of_before_does_not_silence(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg beat = before(1, 2, 1);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1)), 0);
    lone_save(&s);
    assert_int_equal(lone_append(&s, 2, before(1, 1, 1), TERMS(1)), 0);
    assert_true(raft_save_take(s.r, &s.save));
    raft_gone(s.r, s.now_ms, 2);
    lone_pass(&s, 1000);
    (void)lone_silence(&s);
    raft_told(s.r);
    raft_saved(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, beat, NO_ENTRIES), 0);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.match, 2);
    lone_free(&s);
}

/* Then the entry commits when it is saved, and not before. */
static void a_leader_waits_for_its_disk_when_others_have_answered(void **state)
{
    struct lone s = lone_make(3);
    uint64_t index;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_propose(s.r, "x", 1, &index), 0);
    raft_flush(s.r, s.now_ms);
    assert_true(raft_save_take(s.r, &s.save));
    assert_true(s.save.answer == NULL);
    assert_false(raft_save_is_awaited(s.r));
    assert_int_equal(lone_give(&s, 2,
                               (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                                 .term = raft_term(s.r),
                                                 .yes = 1,
                                                 .match = index,
                                                 .hint = index}),
                     0);
    assert_true(raft_save_is_awaited(s.r));
    raft_saved(s.r, s.now_ms);
    assert_int_equal(raft_committed(s.r), index);
    lone_free(&s);
}

/* A heartbeat is answered at once, whatever the disk does. */
static void a_heartbeat_does_not_wait_for_the_disk(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg beat = before(1, 1, 1);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1)), 0);
    lone_save(&s);
    (void)lone_silence(&s);
    assert_int_equal(lone_append(&s, 2, before(1, 1, 1), TERMS(1)), 0);
    assert_true(raft_save_take(s.r, &s.save));
    beat.index = 2;
    beat.round = 5;
    assert_int_equal(lone_append(&s, 2, beat, NO_ENTRIES), 0);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.round, 5);
    assert_int_equal(s.m.yes, 1);
    assert_int_equal(s.m.match, 1);
    lone_free(&s);
}

/* [R] figure 2: but nothing is agreed to in a term that is not on disk yet. */
static void the_first_answer_in_a_term_waits_for_the_term(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg beat = before(7, 0, 0);

    (void)state;
    raft_start(s.r, s.now_ms);
    beat.round = 1;
    assert_int_equal(lone_append(&s, 2, beat, NO_ENTRIES), 0);
    assert_int_equal(lone_silence(&s), 0);
    lone_save(&s);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.round, 1);
    lone_free(&s);
}

/* The log is cut while its entries are at the disk: what lands does not count. */
static void a_save_under_way_does_not_count_for_what_was_cut(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1, 1, 1)), 0);
    assert_true(raft_save_take(s.r, &s.save));
    assert_int_equal(s.save.n, 3);
    s.now_ms += 1000;
    assert_int_equal(lone_append(&s, 3, before(2, 1, 1), TERMS(2, 2, 2)), 0);
    raft_saved(s.r, s.now_ms);
    assert_int_equal(raft_saved_index(s.r), 1);
    while (lone_take(&s))
        assert_true(s.m.type != RAFT_MSG_APPEND_ANSWER || s.m.match <= 1);
    assert_true(raft_save_take(s.r, &s.save));
    assert_true(s.save.truncate);
    assert_int_equal(s.save.first_index, 2);
    assert_int_equal(s.save.n, 3);
    raft_saved(s.r, s.now_ms);
    assert_int_equal(raft_saved_index(s.r), 4);
    lone_free(&s);
}

/* The same with entries that have been saved before. */
static void what_is_cut_is_no_longer_saved(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(lone_append(&s, 2, before(1, 0, 0), TERMS(1, 1, 1)), 0);
    lone_save(&s);
    assert_int_equal(raft_saved_index(s.r), 3);
    s.now_ms += 1000;
    assert_int_equal(lone_append(&s, 3, before(2, 1, 1), TERMS(2)), 0);
    assert_int_equal(raft_saved_index(s.r), 1);
    lone_free(&s);
}

/* [R] figure 2, AppendEntries 5: not beyond the last entry that is known to agree. */
static void commit_follows_only_what_agrees(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg m = before(2, 1, 1);

    (void)state;
    raft_load_state(s.r, 2, RAFT_NOBODY);
    lone_load(&s, 1, 1);
    lone_load(&s, 2, 1);
    raft_start(s.r, s.now_ms);
    m.commit = 9;
    assert_int_equal(lone_append(&s, 2, m, NO_ENTRIES), 0);
    assert_int_equal(raft_committed(s.r), 1);
    lone_free(&s);
}

static void a_committed_entry_is_never_replaced(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg m = before(1, 0, 0);

    (void)state;
    raft_start(s.r, s.now_ms);
    m.commit = 2;
    assert_int_equal(lone_append(&s, 2, m, TERMS(1, 1)), 0);
    s.now_ms += 1000;
    assert_int_equal(lone_append(&s, 3, before(2, 1, 1), TERMS(2)), ERR_MALFORMED);
    assert_int_equal(lone_append(&s, 3, before(2, 2, 2), NO_ENTRIES), ERR_MALFORMED);
    assert_int_equal(raft_term(s.r), 1); /* nothing changed */
    assert_int_equal(raft_last_index(s.r), 2);
    lone_free(&s);
}

static void what_is_applied_is_committed_and_on_this_disk(void **state)
{
    struct lone s = lone_make(3);
    struct raft_msg m = before(1, 0, 0);

    (void)state;
    raft_start(s.r, s.now_ms);
    m.commit = 1;
    assert_int_equal(lone_append(&s, 2, m, TERMS(1, 1)), 0);
    assert_null(raft_apply_take(s.r));
    lone_save(&s);
    const struct raft_entry *e = raft_apply_take(s.r);
    assert_non_null(e);
    assert_int_equal(e->index, 1);
    assert_null(raft_apply_take(s.r));
    assert_int_equal(raft_applied_term(s.r), 1);
    lone_free(&s);
}

/* ---- the leader ---- */

/* [R] 5.4.2, figure 8: an entry of an earlier term is not committed by counting. */
static void only_entries_of_the_present_term_are_counted(void **state)
{
    struct lone s = lone_make(5);

    (void)state;
    raft_load_state(s.r, 2, RAFT_NOBODY);
    lone_load(&s, 1, 1);
    lone_load(&s, 2, 2);
    raft_start(s.r, s.now_ms);
    lone_patience_ends(&s);
    for (uint64_t from = 2; from <= 3; from++)
        assert_int_equal(
            lone_give(&s, from,
                      (struct raft_msg){.type = RAFT_MSG_PREVOTE_ANSWER, .term = 3, .yes = 1}),
            0);
    lone_save(&s);
    for (uint64_t from = 2; from <= 3; from++)
        assert_int_equal(
            lone_give(&s, from,
                      (struct raft_msg){.type = RAFT_MSG_VOTE_ANSWER, .term = 3, .yes = 1}),
            0);
    lone_save(&s);
    for (uint64_t from = 2; from <= 5; from++)
        assert_int_equal(lone_ack(&s, from, 2, 1), 0);
    assert_int_equal(raft_committed(s.r), 0);
    assert_int_equal(lone_ack(&s, 2, 3, 1), 0);
    assert_int_equal(raft_committed(s.r), 0);
    assert_int_equal(lone_ack(&s, 3, 3, 1), 0);
    assert_int_equal(raft_committed(s.r), 3);
    lone_free(&s);
}

/* [D] 10.2.1: sent before it is on our own disk, and counted for us when it is. */
static void a_leader_sends_at_once_and_counts_itself_when_saved(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    uint64_t index = lone_propose(&s);
    raft_flush(s.r, s.now_ms);
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    assert_int_equal(s.m.count, 1);
    assert_int_equal(lone_ack(&s, 2, index, 1), 0);
    assert_int_equal(raft_committed(s.r), index - 1);
    lone_save(&s);
    assert_int_equal(raft_committed(s.r), index);
    lone_free(&s);
}

/* A leader with a stuck disk still commits by the others, and still beats. */
static void a_slow_disk_does_not_stop_the_others(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    uint64_t index = lone_propose(&s);
    assert_true(raft_save_take(s.r, &s.save));
    raft_flush(s.r, s.now_ms);
    assert_int_equal(lone_ack(&s, 2, index, 1), 0);
    assert_int_equal(lone_ack(&s, 3, index, 1), 0);
    assert_int_equal(raft_committed(s.r), index);
    (void)lone_silence(&s);
    lone_pass(&s, 60);
    lone_expect(&s, RAFT_MSG_APPEND, 3);
    lone_free(&s);
}

/* A batch of proposals is one message to each follower. */
static void proposals_are_sent_in_batches(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(lone_ack(&s, 3, 1, 1), 0);
    (void)lone_silence(&s);
    for (int i = 0; i < 1000; i++)
        (void)lone_propose(&s);
    assert_int_equal(lone_silence(&s), 0);
    raft_flush(s.r, s.now_ms);
    assert_int_equal(lone_silence(&s), 2);
    lone_free(&s);
}

/* [R] 5.3, the optimisation at its end: one refusal a term, not one an entry. */
static void disagreement_is_found_in_a_step_a_term(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 6, RAFT_NOBODY);
    for (uint64_t i = 1; i <= 1000; i++)
        lone_load(&s, i, i <= 10 ? 1 : 6);
    raft_start(s.r, s.now_ms);
    lone_lead(&s);
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    assert_int_equal(s.m.index, 1000);
    /* 2 has 1 x 10, then 4 x 490. */
    assert_int_equal(lone_give(&s, 2,
                               (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                                 .term = 7,
                                                 .index = 1000,
                                                 .hint = 500,
                                                 .hint_term = 4}),
                     0);
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    assert_int_equal(s.m.index, 10);
    assert_int_equal(s.m.index_term, 1);
    /* The same refusal again, late: already known. */
    assert_int_equal(lone_give(&s, 2,
                               (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                                 .term = 7,
                                                 .index = 1000,
                                                 .hint = 500,
                                                 .hint_term = 4}),
                     0);
    assert_int_equal(lone_silence(&s), 0);
    lone_free(&s);
}

/* What is committed is told at once, not with the next heartbeat. */
static void commits_are_announced(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    uint64_t index = lone_propose(&s);
    raft_flush(s.r, s.now_ms);
    lone_save(&s);
    (void)lone_silence(&s);
    assert_int_equal(lone_ack(&s, 2, index, 1), 0);
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    assert_int_equal(s.m.commit, index);
    assert_int_equal(s.m.count, 0);
    lone_free(&s);
}

/* A message that was lost is sent again: the next heartbeat is refused, and tells. */
static void a_lost_append_is_sent_again(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    uint64_t index = lone_propose(&s);
    raft_flush(s.r, s.now_ms);
    (void)lone_silence(&s);
    lone_pass(&s, 60);
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    assert_int_equal(s.m.index, index);
    assert_int_equal(lone_give(&s, 2,
                               (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                                 .term = 1,
                                                 .index = index,
                                                 .hint = index - 1,
                                                 .hint_term = 1,
                                                 .round = s.m.round}),
                     0);
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    assert_int_equal(s.m.index, index - 1);
    assert_int_equal(s.m.count, 1);
    lone_free(&s);
}

/* ---- limits ---- */

static unsigned propose(struct lone *s, unsigned n)
{
    uint64_t index;
    unsigned sent = 0;

    while (n-- > 0)
        assert_int_equal(raft_propose(s->r, "x", 1, &index), 0);
    raft_flush(s->r, s->now_ms);
    while (lone_take(s))
        sent += s->m.type == RAFT_MSG_APPEND ? (unsigned)s->m.count : 0;
    return sent;
}

/* Behind an append that is out, few entries go when it is answered or after a while, many at
 * once. */
static void entries_gather_behind_an_append(void **state)
{
    struct lone s = lone_make(2);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(propose(&s, 1), 1);
    assert_int_equal(propose(&s, 1), 0);
    assert_int_equal(propose(&s, 1), 0);
    assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r) - 2, 0), 0);
    assert_int_equal(propose(&s, 0), 2);
    assert_int_equal(propose(&s, 1), 0);
    assert_int_equal(raft_deadline(s.r), s.now_ms + RAFT_GATHER_MS);
    lone_pass(&s, RAFT_GATHER_MS);
    assert_int_equal(propose(&s, 0), 1);
    assert_true(raft_deadline(s.r) > s.now_ms + RAFT_GATHER_MS); /* nothing waits */
    assert_int_equal(propose(&s, RAFT_GATHER_ENTRIES - 1), 0);
    assert_int_equal(propose(&s, 1), RAFT_GATHER_ENTRIES);
    lone_free(&s);
}

static void appends_in_flight_are_bounded(void **state)
{
    struct lone s = lone_make(2);
    static uint8_t big[1 << 20];
    uint64_t index;
    unsigned n = 0;
    size_t bytes = 0;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(raft_propose(s.r, "x", 1, &index), 0);
        s.now_ms += RAFT_GATHER_MS;
        raft_flush(s.r, s.now_ms);
    }
    while (lone_take(&s))
        n += s.m.count > 0;
    assert_int_equal(n, RAFT_INFLIGHT_MAX);
    assert_int_equal(lone_ack(&s, 2, index - 50, 0), 0);
    (void)lone_silence(&s);
    assert_int_equal(lone_ack(&s, 2, index, 0), 0);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(raft_propose(s.r, big, sizeof big, &index), 0);
        s.now_ms += RAFT_GATHER_MS;
        raft_flush(s.r, s.now_ms);
    }
    while (lone_take(&s)) {
        assert_true(s.bytes.len <= RAFT_MESSAGE_MAX);
        bytes += s.m.len;
    }
    assert_in_range(bytes, RAFT_INFLIGHT_BYTES_MAX, RAFT_INFLIGHT_BYTES_MAX + RAFT_MESSAGE_MAX);
    lone_free(&s);
}

static void the_log_in_memory_is_bounded(void **state)
{
    struct lone s = lone_make(3);
    uint8_t *big = mem_alloc(RAFT_ENTRY_MAX + 1);
    uint64_t index;
    unsigned n = 0;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_propose(s.r, big, RAFT_ENTRY_MAX + 1, &index), ERR_TOO_BIG);
    while (raft_propose(s.r, big, RAFT_ENTRY_MAX, &index) == 0)
        n++;
    assert_in_range(n, RAFT_LOG_BYTES_MAX / RAFT_ENTRY_MAX - 4,
                    RAFT_LOG_BYTES_MAX / RAFT_ENTRY_MAX + 6);
    assert_int_equal(raft_propose(s.r, "x", 1, &index), ERR_BUSY);
    /* Once they are applied there is room again, with no snapshot in the store. */
    lone_save(&s);
    assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 1), 0);
    while (raft_apply_take(s.r) != NULL)
        ;
    assert_true(raft_log_bytes(s.r) <= RAFT_LOG_BYTES_MAX / 2 + 2 * RAFT_ENTRY_MAX);
    assert_int_equal(raft_propose(s.r, "x", 1, &index), 0);
    mem_free(big);
    lone_free(&s);
}

static void a_queue_that_nobody_empties_is_bounded(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    for (unsigned i = 0; i < 3 * RAFT_QUEUE_MAX; i++)
        assert_int_equal(
            lone_give(&s, 2, (struct raft_msg){.type = RAFT_MSG_PREVOTE, .term = 1}), 0);
    assert_int_equal(lone_silence(&s), RAFT_QUEUE_MAX);
    lone_free(&s);
}

/* ---- read index: [R] 8, [D] 6.4 ---- */

static void a_read_waits_for_a_round_that_began_after_it(void **state)
{
    struct lone s = lone_make(3);
    uint64_t ctx, index;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead(&s);
    assert_int_equal(raft_read(s.r, s.now_ms, 1), ERR_BUSY); /* before the first commit */
    assert_int_equal(lone_ack(&s, 2, 1, 1), 0);
    (void)lone_silence(&s);
    lone_pass(&s, 60); /* a round begins */
    lone_expect(&s, RAFT_MSG_APPEND, 2);
    uint64_t old = s.m.round;
    (void)lone_silence(&s);
    assert_int_equal(raft_read(s.r, s.now_ms, 7), 0);
    assert_int_equal(raft_read(s.r, s.now_ms, 8), 0);
    assert_int_equal(lone_ack(&s, 2, 1, old), 0);
    assert_false(raft_read_take(s.r, &ctx, &index));
    lone_expect(&s, RAFT_MSG_APPEND, 2); /* one round for both */
    uint64_t new = s.m.round;
    assert_true(new > old);
    (void)lone_silence(&s);
    assert_false(raft_read_take(s.r, &ctx, &index));
    assert_int_equal(lone_ack(&s, 2, 1, new), 0);
    assert_true(raft_read_take(s.r, &ctx, &index));
    assert_int_equal(ctx, 7);
    assert_int_equal(index, 1);
    assert_true(raft_read_take(s.r, &ctx, &index));
    assert_int_equal(ctx, 8);
    assert_false(raft_read_take(s.r, &ctx, &index));
    lone_free(&s);
}

static void reads_are_dropped_with_the_leadership(void **state)
{
    struct lone s = lone_make(3);
    uint64_t ctx, index;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_read(s.r, s.now_ms, 7), 0);
    lone_pass(&s, 300);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_true(raft_read_take(s.r, &ctx, &index));
    assert_int_equal(ctx, 7);
    assert_int_equal(index, 0);
    assert_int_equal(raft_read(s.r, s.now_ms, 9), ERR_NOT_LEADER);
    lone_free(&s);
}

static void a_single_voter_reads_alone(void **state)
{
    struct lone s = lone_make(1);
    uint64_t ctx, index;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_patience_ends(&s);
    lone_save(&s);
    assert_int_equal(raft_read(s.r, s.now_ms, 3), 0);
    assert_true(raft_read_take(s.r, &ctx, &index));
    assert_int_equal(index, 1);
    lone_free(&s);
}

static void waiting_reads_are_bounded(void **state)
{
    struct lone s = lone_make(3);
    unsigned n = 0;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    while (raft_read(s.r, s.now_ms, n) == 0)
        n++;
    assert_int_equal(n, RAFT_READS_MAX);
    assert_int_equal(raft_read(s.r, s.now_ms, n), ERR_BUSY);
    lone_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LONE_TEST(the_entry_before_must_agree),
        LONE_TEST(a_conflicting_entry_goes_and_all_after_it),
        LONE_TEST(a_late_append_removes_nothing),
        LONE_TEST(entries_are_acknowledged_once_saved),
        LONE_TEST(a_save_has_its_answer),
        LONE_TEST(an_answer_of_before_does_not_silence),
        LONE_TEST(a_leader_waits_for_its_disk_when_others_have_answered),
        LONE_TEST(a_heartbeat_does_not_wait_for_the_disk),
        LONE_TEST(the_first_answer_in_a_term_waits_for_the_term),
        LONE_TEST(a_save_under_way_does_not_count_for_what_was_cut),
        LONE_TEST(what_is_cut_is_no_longer_saved),
        LONE_TEST(commit_follows_only_what_agrees),
        LONE_TEST(a_committed_entry_is_never_replaced),
        LONE_TEST(what_is_applied_is_committed_and_on_this_disk),
        LONE_TEST(only_entries_of_the_present_term_are_counted),
        LONE_TEST(a_leader_sends_at_once_and_counts_itself_when_saved),
        LONE_TEST(a_slow_disk_does_not_stop_the_others),
        LONE_TEST(proposals_are_sent_in_batches),
        LONE_TEST(disagreement_is_found_in_a_step_a_term),
        LONE_TEST(commits_are_announced),
        LONE_TEST(a_lost_append_is_sent_again),
        LONE_TEST(entries_gather_behind_an_append),
        LONE_TEST(appends_in_flight_are_bounded),
        LONE_TEST(the_log_in_memory_is_bounded),
        LONE_TEST(a_queue_that_nobody_empties_is_bounded),
        LONE_TEST(a_read_waits_for_a_round_that_began_after_it),
        LONE_TEST(reads_are_dropped_with_the_leadership),
        LONE_TEST(a_single_voter_reads_alone),
        LONE_TEST(waiting_reads_are_bounded),
    };

    lone_used();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
