/* SPDX-License-Identifier: Apache-2.0 */
/* Appends received: [R] 5.3, figure 2 (AppendEntries RPC).
 *
 * How they are answered. "Yes" has two positions: `match`, up to which our log agrees with
 * the leader's and is on our disk (what counts for commit), and `hint`, up to which it
 * agrees in memory (from where the leader may go on sending). A yes goes out when a
 * heartbeat round is new, at once, so that heartbeats never wait for the disk; and when
 * the disk has more, once a batch. "No" is sent at once; there `hint` is the last entry
 * of ours, not above the refused position, that can agree with the leader's log.
 */
#include "base/check.h"
#include "base/err.h"
#include "base/reached.h"
#include "raft/internal.h"

void raft_commit_to(struct raft *r, uint64_t index)
{
    CHECK(index <= r->log.last);
    if (index > r->commit)
        r->commit = index;
}

/* [R] 5.3: what conflicts with the leader's log goes, and all that follows. */
void raft_truncate(struct raft *r, uint64_t from)
{
    CHECK(from > r->commit);
    REACHED(raft_truncated);
    raft_log_truncate(&r->log, from);
    raft_config_truncated(r, from);
    raft_saved_rollback(r, from);
}

/* ---- answers ---- */

static struct raft_msg yes(const struct raft *r, uint64_t saved)
{
    return (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                             .from = r->opt.id,
                             .term = r->term,
                             .yes = 1,
                             .match = saved < r->matched ? saved : r->matched,
                             .hint = r->matched,
                             .hint_term = raft_log_term(&r->log, r->matched),
                             .round = r->round,
                             .birth = r->opt.birth};
}

static void answer_yes(struct raft *r)
{
    uint64_t saved = MUTANT(raft_ack_before_sync) ? r->log.last : r->saved;
    struct raft_msg m = yes(r, saved);

    /* [R] figure 2: the term is on stable storage before anything is answered in it.
     * Otherwise, after a crash, an older leader could take back what was agreed to. */
    if (r->saved_term != r->term) {
        r->is_answer_owed = true;
        return;
    }
    r->is_answer_owed = false;
    r->answered_match = m.match;
    r->answered_round = m.round;
    raft_send(r, r->leader, &m);
}

/* When it goes out we may have moved on to a later term. That is as if it had been long on its
 * way, since no vote of ours in that term can have gone out before: votes are saved behind this
 * batch. So whoever is elected with our vote has what we say here ([R] 5.4.3). */
bool raft_answer_prepare(struct raft *r, uint64_t saved)
{
    if (r->role != RAFT_FOLLOWER || r->leader == RAFT_NOBODY || r->saved_term != r->term)
        return false;
    struct raft_msg m = yes(r, MUTANT(raft_told_too_much) ? r->log.last : saved);
    if (m.match <= r->answered_match)
        return false;
    buf_clear(&r->flight.answer);
    raft_msg_encode(&m, &r->log, &r->flight.answer);
    r->flight.answer_term = m.term;
    r->flight.answer_match = m.match;
    r->flight.answer_round = m.round;
    return true;
}

void raft_told(struct raft *r)
{
    CHECK(r->flight.is_active && r->flight.answer.len > 0);
    /* Since then the leader was lost, and perhaps found again: then all is said anew. */
    if (r->term != r->flight.answer_term || r->matched < r->flight.answer_match ||
        r->round < r->flight.answer_round)
        return;
    if (r->flight.answer_match > r->answered_match)
        r->answered_match = r->flight.answer_match;
    if (r->flight.answer_round > r->answered_round)
        r->answered_round = r->flight.answer_round;
}

void raft_answer_saved(struct raft *r)
{
    uint64_t match = r->saved < r->matched ? r->saved : r->matched;

    if (r->role != RAFT_FOLLOWER || r->leader == RAFT_NOBODY)
        return;
    if (r->is_answer_owed || match > r->answered_match)
        answer_yes(r);
}

/* [R] 5.1: a deposed leader learns of the later term, and nothing of our log: if it leads that
 * one by now, its log may not even reach to where it had asked. But then it learns from this
 * which life we are in. */
void raft_answer_deposed(struct raft *r, uint64_t leader)
{
    raft_send(r, leader,
              &(struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                 .term = r->term,
                                 .birth = MUTANT(raft_deposed_birthless) ? 0 : r->opt.birth});
}

static void answer_no(struct raft *r, const struct raft_msg *m)
{
    uint64_t hint = raft_log_last_of_term(&r->log, m->index, m->index_term);

    /* The leader's log agrees with all that is committed: no need to go below that. */
    if (hint < r->commit)
        hint = r->commit;
    if (hint > m->index)
        hint = m->index;
    raft_send(r, m->from,
              &(struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                 .term = r->term,
                                 .index = m->index,
                                 .hint = hint,
                                 .hint_term = raft_log_term(&r->log, hint),
                                 .round = r->round,
                                 .birth = r->opt.birth});
}

/* ---- appends ---- */

/* The first entry of the message that our log has not, or has otherwise: *walk is left
 * standing before it. False: our log has them all. */
static bool find_new(const struct raft *r, const struct raft_msg *m,
                     struct raft_msg_entries *walk)
{
    *walk = (struct raft_msg_entries){.at = m->data, .index = m->index};
    for (uint64_t i = 0; i < m->count; i++) {
        struct raft_msg_entries next = *walk;
        raft_msg_entry_next(&next);
        if (next.index > r->log.last)
            return true;
        if (next.index > r->log.base && raft_log_term(&r->log, next.index) != next.term)
            return true;
        *walk = next;
    }
    return false;
}

static bool agrees_before(const struct raft *r, const struct raft_msg *m)
{
    /* What is below the base is committed, and so the same in every leader's log
     * ([R] 5.4.3). */
    if (m->index < r->log.base)
        return true;
    if (m->index > r->log.last)
        return false;
    return raft_log_term(&r->log, m->index) == m->index_term || MUTANT(raft_no_prev_check);
}

/* What no leader elected by the rules could send: it contradicts a committed entry. */
static bool is_impossible(const struct raft *r, const struct raft_msg *m, bool agrees,
                          bool has_new, const struct raft_msg_entries *walk)
{
    if (!agrees)
        return m->index <= r->commit;
    if (m->index > r->log.base && m->index <= r->commit &&
        raft_log_term(&r->log, m->index) != m->index_term)
        return true;
    return has_new && walk->index < r->commit;
}

static void append_new(struct raft *r, struct raft_msg_entries *walk, uint64_t last)
{
    if (walk->index < r->log.last)
        raft_truncate(r, walk->index + 1);
    while (walk->index < last) {
        raft_msg_entry_next(walk);
        struct raft_entry *e = raft_log_entry_new(&r->log, walk->index, walk->term, walk->type,
                                                  walk->payload, walk->len);
        raft_log_append_take(&r->log, e);
        if (e->type == RAFT_ENTRY_CONFIG)
            raft_config_appended(r, e);
    }
}

int raft_on_append(struct raft *r, const struct raft_msg *m)
{
    if (m->term < r->term) {
        raft_answer_deposed(r, m->from);
        return 0;
    }
    /* [R] 5.2, election safety: no two leaders in one term. */
    if (m->term == r->term &&
        (r->role == RAFT_LEADER || (r->leader != RAFT_NOBODY && r->leader != m->from)))
        return ERR_MALFORMED;
    if (m->index > RAFT_NUMBER_MAX - m->count)
        return ERR_MALFORMED;
    struct raft_msg_entries walk = {0};
    bool agrees = agrees_before(r, m), has_new = agrees && find_new(r, m, &walk);
    if (is_impossible(r, m, agrees, has_new, &walk))
        return ERR_MALFORMED;

    raft_follow(r, m->term, m->from);
    r->leader_heard_ms = r->now_ms;
    raft_patience_draw(r);
    if (m->round > r->round)
        r->round = m->round;
    if (!agrees) {
        answer_no(r, m);
        return 0;
    }

    uint64_t last = m->index + m->count;
    /* The log in memory is full: as if the entries were lost on the way. But after a start it
     * may be larger than that at once, and nothing leaves it before something is applied, which
     * takes an entry of the leader's term: so up to the first of these it takes what the
     * leader has. */
    if (has_new && raft_log_is_full(r, m->len)) {
        if (raft_log_last_term(&r->log) == m->term || MUTANT(raft_full_for_ever)) {
            REACHED(raft_log_full);
            has_new = false;
            last = walk.index;
        } else {
            REACHED(raft_log_overfull);
        }
    }
    if (has_new)
        append_new(r, &walk, last);
    if (last > r->log.last)
        last = r->log.last; /* the message ends below our base */
    raft_commit_to(r, m->commit < last ? m->commit : last);
    if (last > r->matched)
        r->matched = last;
    if (r->commit > r->matched)
        r->matched = r->commit; /* [R] 5.4.3: the leader has what is committed */
    uint64_t match = r->saved < r->matched ? r->saved : r->matched;
    if (r->round > r->answered_round || match > r->answered_match || (m->count > 0 && !has_new))
        answer_yes(r);
    else if (MUTANT(raft_ack_before_sync))
        answer_yes(r);
    return 0;
}
