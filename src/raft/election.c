/* SPDX-License-Identifier: Apache-2.0 */
/* Roles, terms and votes: [R] 5.1, 5.2, 5.4.1; [D] 4.2.3 (stickiness), 9.6 (pre-vote). */
#include "base/check.h"
#include "base/err.h"
#include "base/reached.h"
#include "raft/internal.h"

#define TERMS_SHORT 2   /* terms without a leader that have the usual patience */
#define GONE_MS 15      /* from when the leader is gone until the first one asks */
#define GONE_STEP_MS 60 /* and then until the next one does */
#define PATIENCE_MAX 3  /* in further ones it is doubled, so many times at most */

void raft_patience_draw(struct raft *r)
{
    uint64_t min = r->opt.election_min_ms, ms = min + rng_below(&r->rng, min);

    /* The disks may be slower than our patience: then every campaign is ended by the next one
     * just before it is won (disk 2, 70). */
    if (r->leader == RAFT_NOBODY && r->terms_lost > TERMS_SHORT) {
        unsigned more = r->terms_lost - TERMS_SHORT;
        ms <<= more < PATIENCE_MAX ? more : PATIENCE_MAX;
    }
    /* Only a voter campaigns. To the others the timeout says that the leader is lost. */
    r->election_ms = r->now_ms + ms + (r->is_reluctant ? 2 * min : 0);
}

void raft_reluctant(struct raft *r, bool is_reluctant) { r->is_reluctant = is_reluctant; }

/* Becomes, or stays, a follower in `term`, which is not below ours ([R] 5.1). */
void raft_follow(struct raft *r, uint64_t term, uint64_t leader)
{
    CHECK(term >= r->term);
    enum raft_role was = r->role;

    if (was == RAFT_LEADER)
        raft_lead_end(r);
    /* Also while the new term has no leader yet: a refusal sent meanwhile (to the old one)
     * must not carry a round of the old term, which the new leader may come to count as one
     * of its own and confirm a read by it. */
    if (leader != RAFT_NOBODY)
        r->terms_lost = 0;
    else if (term > r->term)
        r->terms_lost++;
    if (term > r->term || leader != r->leader) {
        r->leader = leader;
        r->matched = r->answered_match = 0;
        r->round = r->answered_round = 0;
        r->is_answer_owed = false;
        raft_incoming_drop(r);
    }
    if (term > r->term) {
        r->term = term;
        r->vote = RAFT_NOBODY;
        r->vote_owed_to = RAFT_NOBODY;
    }
    r->role = RAFT_FOLLOWER;
    if (was != RAFT_FOLLOWER)
        raft_patience_draw(r);
}

/* [D] 4.2.3: who has a leader helps nobody to disturb it. A leader that has no quorum
 * steps down by itself ([D] 6.2), so while it leads, it has one. */
bool raft_is_sticky(const struct raft *r)
{
    if (r->role == RAFT_LEADER)
        return true;
    return r->leader != RAFT_NOBODY && r->now_ms - r->leader_heard_ms < r->opt.election_min_ms;
}

/* The first one not at once: the others have to see as well that the leader is gone, and would
 * not answer before. Each further one later, so that they do not campaign against each other.
 */
static uint64_t turn_after_ms(const struct raft *r, uint64_t gone)
{
    uint64_t ms = GONE_MS;

    for (unsigned i = 0; i < r->members.n && r->members.v[i].id != r->opt.id; i++)
        if (r->members.v[i].voter && r->members.v[i].id != gone)
            ms += GONE_STEP_MS;
    return ms;
}

void raft_gone(struct raft *r, uint64_t now_ms, uint64_t id)
{
    r->now_ms = now_ms > r->now_ms ? now_ms : r->now_ms;
    if (r->role != RAFT_FOLLOWER || r->leader != id)
        return;
    REACHED(raft_leader_gone);
    raft_follow(r, r->term, RAFT_NOBODY);
    uint64_t turn_ms = r->now_ms + turn_after_ms(r, id);
    if (!r->is_reluctant && turn_ms < r->election_ms)
        r->election_ms = turn_ms;
    if (MUTANT(raft_gone_unasked) && raft_may_campaign(r))
        raft_campaign(r, true);
}

static bool has_quorum_of_votes(const struct raft *r)
{
    unsigned voters = 0, granted = 0;

    for (unsigned i = 0; i < r->members.n; i++) {
        voters += r->members.v[i].voter;
        granted += r->members.v[i].voter && r->peers[i].granted;
    }
    return granted > voters / 2;
}

/* [D] 4.2.2: our own vote counts if we are in the configuration. */
static void grant_own(struct raft *r)
{
    struct peer *self = raft_peer_find(r, r->opt.id);

    if (self != NULL)
        self->granted = true;
}

static void ask_voters(struct raft *r, enum raft_msg_type type, uint64_t term)
{
    struct raft_msg m = {.type = type,
                         .term = term,
                         .index = r->log.last,
                         .index_term = raft_log_last_term(&r->log),
                         .forced = r->is_forced,
                         .birth = r->opt.birth};

    raft_config_position(r, &m.hint, &m.hint_term);

    for (unsigned i = 0; i < r->members.n; i++)
        if (r->members.v[i].voter && r->members.v[i].id != r->opt.id)
            raft_send(r, r->members.v[i].id, &m);
}

static void votes_begin(struct raft *r, enum raft_role role)
{
    r->role = role;
    r->leader = RAFT_NOBODY;
    r->has_asked = false;
    r->vote_owed_to = RAFT_NOBODY;
    for (unsigned i = 0; i < r->members.n; i++)
        r->peers[i].granted = false;
    raft_incoming_drop(r);
    raft_patience_draw(r);
}

/* [R] 5.2. The others are asked, and our own vote counts, once term and vote are on disk:
 * see raft_election_saved(). Asking earlier would be unsafe: after a crash that loses the
 * term we could campaign in it again, with a shorter log, and be elected by the answers
 * to the first time. */
void raft_campaign(struct raft *r, bool is_forced)
{
    if (r->term >= RAFT_NUMBER_MAX)
        return;
    r->term++;
    r->vote = r->opt.id;
    r->terms_lost++;
    r->matched = r->answered_match = 0;
    r->round = r->answered_round = 0;
    r->is_answer_owed = false;
    r->is_forced = is_forced;
    votes_begin(r, RAFT_CANDIDATE);
}

/* [D] 9.6: ask first whether an election could be won; no term changes for it, so a server
 * that was cut off does not depose the leader when it comes back. */
static void campaign_if_welcome(struct raft *r)
{
    if (r->term >= RAFT_NUMBER_MAX)
        return;
    r->is_forced = false;
    votes_begin(r, RAFT_PRE_CANDIDATE);
    grant_own(r);
    if (has_quorum_of_votes(r))
        raft_campaign(r, false);
    else
        ask_voters(r, RAFT_MSG_PREVOTE, r->term + 1);
}

void raft_election_due(struct raft *r)
{
    CHECK(r->role != RAFT_LEADER);
    if (!raft_may_campaign(r)) {
        /* Not ours to campaign: a learner, removed, or not yet told of any members. */
        raft_follow(r, r->term, RAFT_NOBODY);
        r->election_ms = RAFT_NEVER;
    } else if (r->role == RAFT_CANDIDATE && !r->has_asked) {
        /* The disk is slower than our patience. Beginning anew would only begin the wait
         * anew, for ever. */
        REACHED(raft_slow_candidate);
        raft_patience_draw(r);
    } else {
        campaign_if_welcome(r);
    }
}

static void answer_vote(struct raft *r, uint64_t to, bool yes)
{
    raft_send(
        r, to,
        &(struct raft_msg){
            .type = RAFT_MSG_VOTE_ANSWER, .term = r->term, .yes = yes, .birth = r->opt.birth});
}

void raft_election_saved(struct raft *r)
{
    if (r->saved_term != r->term || r->saved_vote != r->vote)
        return;
    if (r->vote_owed_to != RAFT_NOBODY) {
        CHECK(r->vote_owed_to == r->vote);
        answer_vote(r, r->vote, true);
        r->vote_owed_to = RAFT_NOBODY;
    }
    if (r->role == RAFT_CANDIDATE && !r->has_asked) {
        r->has_asked = true;
        raft_patience_draw(r); /* the others get their full time, however slow our disk */
        grant_own(r);
        if (has_quorum_of_votes(r))
            raft_lead(r);
        else
            ask_voters(r, RAFT_MSG_VOTE, r->term);
    }
}

/* [R] 5.4.1: the later last term wins; with the same last term the longer log. */
static bool is_up_to_date(const struct raft *r, const struct raft_msg *m)
{
    uint64_t term = raft_log_last_term(&r->log);

    return m->index_term > term || (m->index_term == term && m->index >= r->log.last) ||
           MUTANT(raft_no_log_check);
}

static void on_prevote(struct raft *r, const struct raft_msg *m)
{
    bool yes = m->term > r->term && is_up_to_date(r, m);

    if (m->term > r->term && !yes)
        REACHED(raft_prevote_refused);
    /* A refusal carries our term: who is behind catches up with it and asks again. */
    raft_send(r, m->from,
              &(struct raft_msg){.type = RAFT_MSG_PREVOTE_ANSWER,
                                 .term = yes ? m->term : r->term,
                                 .yes = yes,
                                 .birth = r->opt.birth});
}

/* It comes from the disk of an earlier life, which has been replaced since: that disk knows
 * nothing of what was promised meanwhile. When it is we who are behind, it may be the other way
 * round: a life that began after our configuration. Who knows the later configuration is
 * right. Those that do not know of the new life are too few for the old one to be elected:
 * the configuration that began it is on a majority of the others. */
static bool is_of_earlier_life(const struct raft *r, const struct raft_msg *m)
{
    const struct raft_member *v = raft_member_find(&r->members, m->from);
    uint64_t index, term;

    if (v == NULL || v->birth == m->birth || MUTANT(raft_old_life_votes))
        return false;
    raft_config_position(r, &index, &term);
    return term > m->hint_term || (term == m->hint_term && index >= m->hint);
}

/* A vote is asked of us. Also by who is no member, as far as we know: our configuration may
 * be the older one ([D] 4.1). */
int raft_on_vote(struct raft *r, const struct raft_msg *m)
{
    if ((raft_is_sticky(r) && !m->forced) || raft_is_stranger(r) || is_of_earlier_life(r, m))
        return 0;
    if (m->type == RAFT_MSG_PREVOTE) {
        on_prevote(r, m);
        return 0;
    }
    if (m->term > r->term)
        raft_follow(r, m->term, RAFT_NOBODY);
    bool is_free = (r->role == RAFT_FOLLOWER || r->role == RAFT_PRE_CANDIDATE) &&
                   (r->vote == RAFT_NOBODY || r->vote == m->from || MUTANT(raft_vote_twice));
    if (m->term < r->term || !is_free || !is_up_to_date(r, m)) {
        REACHED(raft_vote_refused);
        answer_vote(r, m->from, false);
        return 0;
    }
    r->role = RAFT_FOLLOWER; /* a pre-candidate was one but for its question */
    r->vote = m->from;
    r->vote_owed_to = m->from;
    raft_patience_draw(r);
    if (MUTANT(raft_vote_not_saved)) {
        answer_vote(r, m->from, true);
        r->vote_owed_to = RAFT_NOBODY;
    }
    /* The same vote may be on disk already: the first answer was lost. */
    raft_election_saved(r);
    return 0;
}

int raft_on_vote_answer(struct raft *r, const struct raft_msg *m)
{
    bool is_pre = m->type == RAFT_MSG_PREVOTE_ANSWER;
    struct peer *p = raft_peer_find(r, m->from);

    if (p == NULL)
        return 0;
    /* The term in a granted pre-vote is the one that we asked about, not the voter's. */
    if (m->term > r->term && !(is_pre && m->yes)) {
        raft_follow(r, m->term, RAFT_NOBODY);
        return 0;
    }
    /* A vote of another life than the one that votes is none. */
    if (!m->yes || (raft_member_find(&r->members, m->from)->birth != m->birth &&
                    !MUTANT(raft_old_life_votes)))
        return 0;
    if (is_pre && r->role == RAFT_PRE_CANDIDATE && m->term == r->term + 1) {
        p->granted = true;
        if (has_quorum_of_votes(r))
            raft_campaign(r, false);
    } else if (!is_pre && r->role == RAFT_CANDIDATE && r->has_asked && m->term == r->term) {
        p->granted = true;
        if (has_quorum_of_votes(r))
            raft_lead(r);
    }
    return 0;
}

void raft_on_timeout_now(struct raft *r, const struct raft_msg *m)
{
    if (m->term == r->term && m->from == r->leader && r->role == RAFT_FOLLOWER &&
        raft_is_voter(r, r->opt.id) && !raft_is_stranger(r)) {
        REACHED(raft_timeout_now);
        raft_campaign(r, true);
    }
}
