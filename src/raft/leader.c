/* SPDX-License-Identifier: Apache-2.0 */
/* The leader: what it sends to whom, how far each peer is, what is committed ([R] 5.3, 5.4,
 * 8), when it must step down ([D] 6.2, 4.2.2), and handing over ([D] 3.10).
 *
 * Nothing here waits for our own disk: entries go to the followers at once, and we count
 * ourselves, like any other voter, when ours has them ([D] 10.2.1).
 */
#include "base/check.h"
#include "base/err.h"
#include "base/reached.h"
#include "raft/internal.h"

/* ---- quorums ---- */

uint64_t raft_quorum_value(const struct raft *r, uint64_t (*value)(const struct peer *p),
                           uint64_t ours)
{
    uint64_t sorted[RAFT_MEMBERS_MAX]; /* descending */
    unsigned n = 0, learners = 0;      /* among those n: none, unless planted */

    for (unsigned i = 0; i < r->members.n; i++) {
        bool is_learner = !r->members.v[i].voter;
        if (is_learner && !MUTANT(raft_learner_counts))
            continue;
        learners += is_learner;
        uint64_t v = r->peers[i].id == r->opt.id ? ours : value(&r->peers[i]);
        unsigned at = n++;
        for (; at > 0 && sorted[at - 1] < v; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = v;
    }
    return n > learners ? sorted[(n - learners) / 2] : 0;
}

static uint64_t match_of(const struct peer *p) { return p->match; }

static uint64_t heard_of(const struct peer *p) { return p->heard_ms; }

uint64_t raft_quorum_contact_ms(const struct raft *r)
{
    uint64_t heard = raft_quorum_value(r, heard_of, r->now_ms);

    return heard > r->leader_since_ms ? heard : r->leader_since_ms;
}

/* ---- peers ---- */

static void flight_clear(struct peer *p)
{
    p->flight_first = p->flight_n = 0;
    p->flight_bytes = 0;
}

static bool flight_has_room(const struct peer *p)
{
    return p->flight_n < p->window && p->flight_bytes < RAFT_INFLIGHT_BYTES_MAX;
}

/* While an append is out, a few entries wait for its answer: they would wait for the same disk
 * there. So they go in one message, and into one save. But not for long: the answer may be far
 * away, or lost. */
static bool has_gathered(const struct raft *r, const struct peer *p)
{
    return p->flight_n == 0 || r->log.last - (p->next - 1) >= RAFT_GATHER_ENTRIES ||
           r->now_ms >= p->flight_ms + RAFT_GATHER_MS;
}

static void flight_add(struct peer *p, uint64_t last, uint64_t bytes, uint64_t now_ms)
{
    unsigned at = (p->flight_first + p->flight_n++) % RAFT_INFLIGHT_MAX;

    p->flight[at].last = last;
    p->flight[at].bytes = bytes;
    p->flight_bytes += bytes;
    p->flight_ms = now_ms;
}

static void flight_answered(struct peer *p)
{
    while (p->flight_n > 0 && p->flight[p->flight_first].last <= p->match) {
        p->flight_bytes -= p->flight[p->flight_first].bytes;
        p->flight_first = (p->flight_first + 1) % RAFT_INFLIGHT_MAX;
        p->flight_n--;
    }
}

void raft_peer_probe(struct raft *r, struct peer *p, uint64_t next)
{
    p->state = PEER_PROBE;
    p->next = next;
    p->is_probing = false;
    p->is_chunk_out = false;
    flight_clear(p);
    r->is_send_owed = true;
}

void raft_peer_reset(struct raft *r, struct peer *p)
{
    uint64_t id = p->id;

    *p = (struct peer){.id = id, .window = RAFT_INFLIGHT_MAX};
    p->catch_up_index = r->log.last;
    p->catch_up_ms = r->now_ms;
    raft_peer_probe(r, p, r->log.last + 1);
}

bool raft_peer_is_heard(const struct raft *r, const struct peer *p)
{
    return p->heard_ms != 0 && r->now_ms - p->heard_ms < r->opt.election_min_ms;
}

/* ---- sending ---- */

/* One append from p->next on; its entries stop at the limits. Returns how many. */
static uint64_t send_append(struct raft *r, struct peer *p, bool is_with_entries)
{
    struct raft_msg m = {.type = RAFT_MSG_APPEND,
                         .term = r->term,
                         .index = p->next - 1,
                         .index_term = raft_log_term(&r->log, p->next - 1),
                         .commit = r->commit,
                         .round = r->round};
    uint64_t bytes = 0;

    if (is_with_entries) {
        while (m.index + m.count < r->log.last && m.count < r->opt.batch_max &&
               bytes < RAFT_MESSAGE_BYTES_MAX)
            bytes += RAFT_MSG_ENTRY_HEAD + raft_log_at(&r->log, m.index + ++m.count)->len;
    }
    uint64_t known = m.index + m.count;
    p->commit_sent = r->commit < known ? r->commit : known;
    raft_send(r, p->id, &m);
    if (p->state == PEER_REPLICATE && m.count > 0) {
        p->next += m.count;
        flight_add(p, known, bytes, r->now_ms);
    }
    return m.count;
}

/* For who is so far behind that no position of ours means anything to it: agrees with every
 * log, commits nothing. */
static void send_bare_heartbeat(struct raft *r, const struct peer *p)
{
    raft_send(r, p->id,
              &(struct raft_msg){.type = RAFT_MSG_APPEND, .term = r->term, .round = r->round});
}

static void send_probe(struct raft *r, struct peer *p, bool is_beat)
{
    if (p->next - 1 < r->log.base) {
        /* The entries are gone. Nobody serialises the state for a peer that is away. */
        if (raft_peer_is_heard(r, p)) {
            p->state = PEER_SNAPSHOT;
            p->offset = 0;
            p->is_chunk_out = false;
            raft_snapshot_send(r, p);
        }
        if (is_beat)
            send_bare_heartbeat(r, p);
    } else if (is_beat || !p->is_probing) {
        send_append(r, p, raft_peer_is_heard(r, p));
        p->is_probing = true;
    }
}

/* Sends what p can take now; with is_beat at least one message. */
static void send_to(struct raft *r, struct peer *p, bool is_beat)
{
    bool is_sent = false;

    if (MUTANT(disk_heartbeat_waits) && r->flight.is_active)
        return;
    switch (p->state) {
    case PEER_PROBE: send_probe(r, p, is_beat); break;
    case PEER_SNAPSHOT:
        raft_snapshot_send(r, p);
        if (is_beat)
            send_bare_heartbeat(r, p);
        break;
    case PEER_REPLICATE:
        if (p->next - 1 < r->log.base) {
            raft_peer_probe(r, p, p->next);
            send_probe(r, p, is_beat);
            break;
        }
        while (p->next <= r->log.last && flight_has_room(p) && has_gathered(r, p))
            is_sent = send_append(r, p, true) > 0;
        /* What has committed is told at once, not with the next heartbeat: a follower's
         * clients wait for it. */
        if (!is_sent &&
            (is_beat || p->commit_sent < (r->commit < p->next ? r->commit : p->next - 1)))
            send_append(r, p, false);
        break;
    }
}

void raft_send_all(struct raft *r)
{
    r->is_send_owed = false;
    for (unsigned i = 0; i < r->members.n; i++)
        if (r->peers[i].id != r->opt.id)
            send_to(r, &r->peers[i], false);
}

/* [R] 5.2; each heartbeat is a round that confirms reads ([D] 6.4). */
void raft_beat(struct raft *r)
{
    r->round++;
    r->is_send_owed = false;
    r->heartbeat_ms_next = r->now_ms + r->opt.heartbeat_ms;
    for (unsigned i = 0; i < r->members.n; i++)
        if (r->peers[i].id != r->opt.id)
            send_to(r, &r->peers[i], true);
    raft_reads_confirm(r);
}

/* ---- leadership ---- */

uint64_t raft_append(struct raft *r, enum raft_entry_type type, const void *payload, size_t len)
{
    struct raft_entry *e =
        raft_log_entry_new(&r->log, r->log.last + 1, r->term, type, payload, len);

    raft_log_append_take(&r->log, e);
    if (type == RAFT_ENTRY_CONFIG)
        raft_config_appended(r, e);
    return e->index;
}

void raft_lead(struct raft *r)
{
    CHECK(r->role == RAFT_CANDIDATE && r->has_asked);
    if (r->members_index > r->commit)
        REACHED(raft_led_in_change);
    r->role = RAFT_LEADER;
    r->terms_lost = 0;
    r->leader = r->opt.id;
    r->election_ms = RAFT_NEVER;
    r->leader_since_ms = r->now_ms;
    r->round = 0;
    r->transfer_to = RAFT_NOBODY;
    for (unsigned i = 0; i < r->members.n; i++) {
        bool granted = r->peers[i].granted;
        raft_peer_reset(r, &r->peers[i]);
        if (granted)
            r->peers[i].heard_ms = r->now_ms;
    }
    /* [R] 8: entries of earlier terms commit only below one of this term (5.4.2), so there
     * must be one, or they would wait for the next proposal. */
    r->term_first = raft_append(r, RAFT_ENTRY_EMPTY, NULL, 0);
    raft_beat(r);
}

/* Whatever was promised to the leader alone is void. */
void raft_lead_end(struct raft *r)
{
    CHECK(r->role == RAFT_LEADER);
    if (r->members_index > r->commit)
        REACHED(raft_fell_in_change);
    raft_reads_drop(r);
    raft_snapshot_out_drop(r, true);
    r->held = 0;
    r->transfer_to = RAFT_NOBODY;
    r->is_send_owed = false;
}

static void timeout_now(struct raft *r, uint64_t to)
{
    raft_send(r, to, &(struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .term = r->term});
}

/* [D] 4.2.2: a leader that is no member leads on until its removal has committed. The one
 * that is furthest need not wait for its patience to run out. */
static void leave_when_removed(struct raft *r)
{
    if (r->members_index > r->commit || raft_is_voter(r, r->opt.id))
        return;
    const struct peer *best = NULL;
    REACHED(raft_removed_leader);
    for (unsigned i = 0; i < r->members.n; i++) {
        if (r->members.v[i].voter && (best == NULL || r->peers[i].match > best->match))
            best = &r->peers[i];
    }
    raft_send_all(r); /* the others learn of the commit */
    if (best != NULL)
        timeout_now(r, best->id);
    raft_follow(r, r->term, RAFT_NOBODY);
}

/* [R] 5.3, 5.4.2 and figure 8: what a majority has is committed only up to an entry of the
 * present term; older ones commit with it, never by being counted themselves. */
void raft_commit_advance(struct raft *r)
{
    uint64_t ours = MUTANT(raft_leader_self_ack) ? r->log.last : r->saved;
    uint64_t index = raft_quorum_value(r, match_of, ours);

    if (index <= r->commit || index > r->log.last)
        return;
    if (raft_log_term(&r->log, index) != r->term && !MUTANT(raft_commit_old_term)) {
        REACHED(raft_old_term_waits);
        return;
    }
    raft_commit_to(r, index);
    r->is_send_owed = true;
    raft_promote_ready(r);
    leave_when_removed(r);
}

static void transfer_step(struct raft *r, const struct peer *p)
{
    if (p->id == r->transfer_to && p->match == r->log.last && !r->is_transfer_sent) {
        timeout_now(r, p->id);
        r->is_transfer_sent = true;
    }
}

int raft_transfer(struct raft *r, uint64_t now_ms, uint64_t to)
{
    r->now_ms = now_ms > r->now_ms ? now_ms : r->now_ms;
    if (r->role != RAFT_LEADER)
        return ERR_NOT_LEADER;
    if (!raft_is_voter(r, to))
        return ERR_NOT_FOUND;
    if (to == r->opt.id)
        return 0;
    r->transfer_to = to;
    r->transfer_until_ms = r->now_ms + r->opt.election_min_ms;
    r->is_transfer_sent = false;
    transfer_step(r, raft_peer_find(r, to));
    raft_send_all(r);
    return 0;
}

/* [D] 4.2.1: a learner has caught up when it took less than an election timeout to get what
 * the log held at the beginning of that time: what is missing then is quickly sent. */
static void catch_up(struct raft *r, struct peer *p)
{
    if (p->match < p->catch_up_index)
        return;
    p->is_caught_up = r->now_ms - p->catch_up_ms <= r->opt.election_min_ms;
    p->catch_up_index = r->log.last;
    p->catch_up_ms = r->now_ms;
}

bool raft_went_back_take(struct raft *r, struct raft_went_back *out)
{
    *out = r->went_back;
    r->went_back.id = RAFT_NOBODY;
    return out->id != RAFT_NOBODY && r->role == RAFT_LEADER;
}

void raft_leader_due(struct raft *r)
{
    /* [D] 6.2: who cannot reach a quorum must not let clients wait for it. */
    if (r->now_ms - raft_quorum_contact_ms(r) >= r->opt.election_min_ms) {
        REACHED(raft_alone);
        raft_follow(r, r->term, RAFT_NOBODY);
        return;
    }
    if (r->transfer_to != RAFT_NOBODY && r->now_ms >= r->transfer_until_ms)
        r->transfer_to = RAFT_NOBODY;
    if (r->now_ms >= r->heartbeat_ms_next) {
        for (unsigned i = 0; i < r->members.n; i++) {
            struct peer *p = &r->peers[i];
            if (p->state == PEER_SNAPSHOT && !raft_peer_is_heard(r, p))
                raft_peer_probe(r, p, r->log.last + 1);
        }
        raft_snapshot_out_drop(r, false);
        raft_beat(r);
        raft_promote_ready(r);
    }
}

uint64_t raft_leader_deadline(const struct raft *r)
{
    uint64_t due = raft_quorum_contact_ms(r) + r->opt.election_min_ms;

    if (r->heartbeat_ms_next < due)
        due = r->heartbeat_ms_next;
    if (r->transfer_to != RAFT_NOBODY && r->transfer_until_ms < due)
        due = r->transfer_until_ms;
    for (unsigned i = 0; i < r->members.n; i++) {
        const struct peer *p = &r->peers[i];
        if (p->state == PEER_REPLICATE && p->next <= r->log.last && p->flight_n > 0 &&
            flight_has_room(p) && p->flight_ms + RAFT_GATHER_MS < due)
            due = p->flight_ms + RAFT_GATHER_MS;
    }
    return due;
}

/* ---- answers ---- */

static void on_agreed(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    if (m->match > p->match) {
        p->match = m->match;
        p->match_round = MUTANT(raft_late_refusal_counts) ? m->round : r->round;
        p->window = p->window < RAFT_INFLIGHT_MAX / 2 ? 2 * p->window : RAFT_INFLIGHT_MAX;
    }
    if (p->next <= m->hint)
        p->next = m->hint + 1;
    if (p->next <= p->match)
        p->next = p->match + 1;
    flight_answered(p);
    /* Unless it is older than the probe: then it says nothing about where that one stands. */
    if (p->state == PEER_PROBE && m->hint == p->next - 1 && m->hint >= r->log.base)
        p->state = PEER_REPLICATE;
    if (p->state == PEER_SNAPSHOT && p->next - 1 >= r->log.base)
        raft_peer_probe(r, p, p->next); /* it got there without our snapshot */
    r->is_send_owed = true;
    transfer_step(r, p);
    raft_commit_advance(r);
    if (r->role == RAFT_LEADER)
        raft_promote_ready(r);
}

/* What is told in a round that began after we knew its match was said later than that, also on
 * a network that reorders. The rounds of two answers do not say which came first: who forgets
 * its leader and finds it again may hear an older round than before. Who has on its disk what
 * it acknowledged refuses nothing up to there, and names nothing below it. */
static bool has_gone_back(const struct peer *p, const struct raft_msg *m)
{
    return m->round > p->match_round && (m->hint < p->match || m->index <= p->match) &&
           !MUTANT(raft_old_image_counts);
}

static void went_back(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    r->went_back = (struct raft_went_back){p->id, p->birth, p->match, m->hint};
    p->went_back = raft_can_spare(r, p->id);
    if (!p->went_back)
        r->went_back.id = RAFT_NOBODY;
    p->match = p->match_round = 0;
    raft_peer_probe(r, p, r->log.last + 1);
}

/* [R] 5.3: the logs differ at m->index. The follower names the last entry that can be ours
 * too, by its own knowledge; ours tells how much further back that must be. Each refusal
 * skips all entries of at least one term. */
static void on_refused(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    if (has_gone_back(p, m)) {
        went_back(r, p, m);
        return;
    }
    bool is_stale = p->state == PEER_PROBE ? m->index != p->next - 1 : m->index <= p->match;

    if (is_stale || p->state == PEER_SNAPSHOT || m->index == 0)
        return;
    uint64_t agree = m->hint;
    if (agree > r->log.base)
        agree = raft_log_last_of_term(&r->log, m->hint, m->hint_term);
    if (agree >= m->index)
        agree = m->index - 1;
    if (agree < p->match)
        agree = p->match;
    raft_peer_probe(r, p, agree + 1);
    /* On a network that reorders, every overtaken append is refused. If each refusal let
     * out a full window, messages would multiply without end. */
    p->window = 1;
}

int raft_on_append_answer(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    if (m->index > r->log.last || m->hint > r->log.last || m->round > r->round)
        return ERR_MALFORMED;
    if (m->match > m->hint || (!m->yes && m->hint > m->index))
        return ERR_MALFORMED;
    p->birth = m->birth;
    p->has_told = true;
    if (raft_is_another_birth(r, p)) { /* nothing that it says counts before it is renewed */
        raft_promote_ready(r);
        return 0;
    }
    if (p->went_back) {
        r->went_back.id = p->id;
        r->went_back.birth = p->birth;
        return 0;
    }
    p->heard_ms = r->now_ms;
    if (m->round > p->round) {
        p->round = m->round;
        raft_reads_confirm(r);
    }
    if (m->yes)
        on_agreed(r, p, m);
    else
        on_refused(r, p, m);
    if (r->role == RAFT_LEADER && raft_peer_find(r, m->from) == p)
        catch_up(r, p);
    return 0;
}
