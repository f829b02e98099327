/* SPDX-License-Identifier: Apache-2.0 */
#include "raft/raft.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "raft/internal.h"

/* After each event. What only a bug of ours can break; all of it O(members). */
static void check_invariants(const struct raft *r)
{
    CHECK(r->commit <= r->log.last && r->applied <= r->commit);
    CHECK(r->log.base <= r->commit);
    /* The state machine is behind the base only while a received snapshot is on its way. */
    CHECK(r->applied >= r->log.base || r->snapshot_unsaved != NULL ||
          r->flight.snapshot != NULL || r->install != NULL);
    CHECK(r->saved <= r->log.last || MUTANT(raft_no_truncate_rollback));
    CHECK(r->disk_good <= r->disk_last);
    CHECK(r->term >= r->given_term && r->given_term >= r->saved_term);
    CHECK(raft_log_last_term(&r->log) <= r->term);
    CHECK(r->members_index <= r->log.last);
    if (r->role == RAFT_LEADER) {
        CHECK(r->leader == r->opt.id && r->vote == r->opt.id);
        CHECK(r->saved_term == r->term && r->term_first <= r->log.last);
        for (unsigned i = 0; i < r->members.n; i++) {
            const struct peer *p = &r->peers[i];
            CHECK(p->id == r->members.v[i].id);
            CHECK(p->match < p->next && p->next <= r->log.last + 1);
            CHECK(p->flight_n <= RAFT_INFLIGHT_MAX && p->window >= 1);
        }
    } else {
        CHECK(r->leader != r->opt.id && r->snapshot_out == NULL && r->reads_n == 0);
    }
}

static void set_now(struct raft *r, uint64_t now_ms)
{
    CHECK(r->is_started);
    if (now_ms > r->now_ms)
        r->now_ms = now_ms;
}

/* ---- life ---- */

struct raft *raft_new(const struct raft_options *options)
{
    struct raft *r = mem_new(struct raft);

    CHECK(options->id != RAFT_NOBODY);
    r->opt = *options;
    if (r->opt.heartbeat_ms == 0)
        r->opt.heartbeat_ms = 60;
    if (r->opt.election_min_ms == 0)
        r->opt.election_min_ms = 300;
    if (r->opt.batch_max == 0 || r->opt.batch_max > RAFT_MESSAGE_ENTRIES_MAX)
        r->opt.batch_max = RAFT_MESSAGE_ENTRIES_MAX;
    if (r->opt.piece_max == 0 || r->opt.piece_max > RAFT_SNAPSHOT_CHUNK)
        r->opt.piece_max = RAFT_SNAPSHOT_CHUNK;
    if (r->opt.log_bytes_max == 0 || r->opt.log_bytes_max > RAFT_LOG_BYTES_MAX)
        r->opt.log_bytes_max = RAFT_LOG_BYTES_MAX;
    CHECK(r->opt.heartbeat_ms < r->opt.election_min_ms);
    /* The same seed for all servers must not make them draw the same timeouts. */
    r->rng.state = r->opt.seed ^ r->opt.id * 0x9e3779b97f4a7c15;
    return r;
}

void raft_free(struct raft *r)
{
    if (r == NULL)
        return;
    raft_save_free(r);
    raft_incoming_drop(r);
    raft_snapshot_free(r);
    raft_log_free(&r->log);
    mem_free(r->config_at);
    mem_free(r->reads);
    mem_free(r->answers);
    mem_free(r->queue);
    mem_free(r);
}

void raft_load_state(struct raft *r, uint64_t term, uint64_t vote)
{
    CHECK(!r->is_started);
    r->term = r->saved_term = r->given_term = term;
    r->vote = r->saved_vote = r->given_vote = vote;
}

void raft_load_snapshot(struct raft *r, uint64_t index, uint64_t term,
                        const struct raft_members *members)
{
    CHECK(!r->is_started && r->log.last == 0);
    raft_log_reset(&r->log, index, term);
    raft_config_reset(r, members);
    r->commit = r->applied = index;
    r->applied_term = term;
    r->members_applied = *members;
}

int raft_load_entry(struct raft *r, struct raft_entry *e)
{
    struct raft_members members;

    CHECK(!r->is_started);
    if (e->index <= r->log.base)
        return 0;
    if (e->index != r->log.last + 1 || e->term < raft_log_last_term(&r->log) ||
        e->term > RAFT_NUMBER_MAX || e->index > RAFT_NUMBER_MAX)
        return ERR_CORRUPT;
    if (e->type == RAFT_ENTRY_CONFIG && raft_members_decode(&members, e->payload, e->len) != 0)
        return ERR_CORRUPT;
    raft_log_append_take(&r->log, raft_entry_ref(e));
    if (e->type == RAFT_ENTRY_CONFIG)
        raft_config_appended(r, e);
    return 0;
}

void raft_start(struct raft *r, uint64_t now_ms)
{
    CHECK(!r->is_started);
    r->is_started = true;
    r->now_ms = now_ms;
    r->saved = r->disk_good = r->disk_last = r->log.last;
    /* A store that was begun with entries only has no term yet. */
    if (r->term < raft_log_last_term(&r->log)) {
        r->term = raft_log_last_term(&r->log);
        r->vote = RAFT_NOBODY;
    }
    raft_patience_draw(r);
    /* Who is alone has nobody to wait for. */
    if (r->members.n == 1 && raft_is_voter(r, r->opt.id))
        r->election_ms = now_ms;
    check_invariants(r);
}

/* ---- messages ---- */

void raft_send(struct raft *r, uint64_t to, const struct raft_msg *m)
{
    CHECK(to != r->opt.id && to != RAFT_NOBODY);
    if (r->queue_n == RAFT_QUEUE_MAX)
        return; /* as if lost on the way: nobody takes our messages out */
    if (r->queue_n == r->queue_room) {
        size_t room = r->queue_room > 0 ? 2 * r->queue_room : 64;
        struct queued *bigger = mem_new_array(struct queued, room);
        for (size_t i = 0; i < r->queue_n; i++)
            bigger[i] = r->queue[(r->queue_first + i) & (r->queue_room - 1)];
        mem_free(r->queue);
        r->queue = bigger;
        r->queue_room = room;
        r->queue_first = 0;
    }
    struct queued *q = &r->queue[(r->queue_first + r->queue_n++) & (r->queue_room - 1)];
    q->to = to;
    q->at_term = r->term;
    q->msg = *m;
    q->msg.from = r->opt.id;
}

/* False: what it was to say is no longer so, or no longer there. */
static bool encode(struct raft *r, struct queued *q, struct buf *out)
{
    struct raft_msg *m = &q->msg;
    struct buf members = {0};

    if (q->at_term != r->term)
        return false;
    if (m->type == RAFT_MSG_APPEND && m->count > 0 &&
        (m->index < r->log.base || m->index + m->count > r->log.last))
        return false;
    if (m->type == RAFT_MSG_CHUNK && !raft_chunk_fill(r, m, &members))
        return false;
    raft_msg_encode(m, &r->log, out);
    buf_free(&members);
    return true;
}

bool raft_message_take(struct raft *r, uint64_t *to, struct buf *out)
{
    buf_clear(out);
    for (;;) {
        if (r->queue_n == 0 && raft_reads_wait(r))
            raft_beat(r);
        if (r->queue_n == 0 && r->is_send_owed && r->role == RAFT_LEADER)
            raft_send_all(r);
        if (r->queue_n == 0)
            return false;
        struct queued *q = &r->queue[r->queue_first];
        r->queue_first = (r->queue_first + 1) & (r->queue_room - 1);
        r->queue_n--;
        if (encode(r, q, out)) {
            *to = q->to;
            return true;
        }
    }
}

/* What the leader gets back. From a server that is no member (any more) it means nothing,
 * its term included: a removed server does not disturb ([D] 4.2.3). */
static int on_answer(struct raft *r, const struct raft_msg *m)
{
    struct peer *p = raft_peer_find(r, m->from);

    if (p == NULL)
        return 0;
    if (m->term > r->term) {
        raft_follow(r, m->term, RAFT_NOBODY); /* [R] 5.1 */
        return 0;
    }
    if (m->term < r->term || r->role != RAFT_LEADER)
        return 0;
    if (m->type == RAFT_MSG_CHUNK_ANSWER)
        return raft_on_chunk_answer(r, p, m);
    return raft_on_append_answer(r, p, m);
}

static int dispatch(struct raft *r, const struct raft_msg *m)
{
    switch (m->type) {
    case RAFT_MSG_PREVOTE:
    case RAFT_MSG_VOTE: return raft_on_vote(r, m);
    case RAFT_MSG_PREVOTE_ANSWER:
    case RAFT_MSG_VOTE_ANSWER: return raft_on_vote_answer(r, m);
    case RAFT_MSG_APPEND: return raft_on_append(r, m);
    case RAFT_MSG_CHUNK: return raft_on_chunk(r, m);
    case RAFT_MSG_APPEND_ANSWER:
    case RAFT_MSG_CHUNK_ANSWER: return on_answer(r, m);
    case RAFT_MSG_TIMEOUT_NOW: raft_on_timeout_now(r, m); return 0;
    case RAFT_MSG_NONE:
    case RAFT_MSGS_END: break;
    }
    UNREACHABLE("raft_msg_decode lets no other type through");
}

int raft_step(struct raft *r, uint64_t now_ms, uint64_t from, const uint8_t *data, size_t len)
{
    struct raft_msg m;
    int err = raft_msg_decode(&m, data, len);

    if (err != 0)
        return err;
    if (m.from != from || from == RAFT_NOBODY || from == r->opt.id)
        return ERR_MALFORMED;
    set_now(r, now_ms);
    err = dispatch(r, &m);
    check_invariants(r);
    return err;
}

void raft_tick(struct raft *r, uint64_t now_ms)
{
    set_now(r, now_ms);
    if (r->role == RAFT_LEADER)
        raft_leader_due(r);
    else if (r->now_ms >= r->election_ms)
        raft_election_due(r);
    check_invariants(r);
}

uint64_t raft_deadline(const struct raft *r)
{
    return r->role == RAFT_LEADER ? raft_leader_deadline(r) : r->election_ms;
}

bool raft_log_is_full(const struct raft *r, size_t len)
{
    return r->log.bytes + len > r->opt.log_bytes_max && r->applied < r->log.last;
}

/* ---- the leader's log ---- */

int raft_propose(struct raft *r, const void *payload, size_t len, uint64_t *index)
{
    if (r->role != RAFT_LEADER)
        return ERR_NOT_LEADER;
    if (len > RAFT_ENTRY_MAX)
        return ERR_TOO_BIG;
    if (r->transfer_to != RAFT_NOBODY || raft_log_is_full(r, 0) ||
        r->log.last >= RAFT_NUMBER_MAX)
        return ERR_BUSY;
    *index = raft_append(r, RAFT_ENTRY_DATA, payload, len);
    return 0;
}

void raft_flush(struct raft *r, uint64_t now_ms)
{
    set_now(r, now_ms);
    if (r->role != RAFT_LEADER)
        return;
    if (raft_reads_wait(r))
        raft_beat(r);
    else
        raft_send_all(r);
    check_invariants(r);
}

/* Drops entries up to `upto` from memory, as far as that is possible. */
static void compact(struct raft *r, uint64_t upto)
{
    if (upto > r->applied)
        upto = r->applied;
    /* After its snapshot a follower needs the entries from there on. */
    if (r->snapshot_out != NULL && upto > r->snapshot_out->index) {
        if (r->log.bytes > r->opt.log_bytes_max * 3ull / 4)
            raft_snapshot_out_drop(r, true);
        else
            upto = r->snapshot_out->index;
    }
    if (r->held != 0 && upto > r->held && r->log.bytes <= r->opt.log_bytes_max * 3ull / 4)
        upto = r->held;
    if (upto <= r->log.base)
        return;
    raft_config_compacted(r, upto);
    raft_log_compact(&r->log, upto);
}

void raft_compact(struct raft *r, uint64_t index, uint64_t keep)
{
    if (index > keep)
        compact(r, index - keep);
    check_invariants(r);
}

/* Called before the next entry is given out: the last one is still borrowed until then. */
static void relieve_memory(struct raft *r)
{
    if (r->log.bytes <= r->opt.log_bytes_max / 2 || r->applied <= r->log.base)
        return;
    compact(r, r->log.base + 1 + (r->applied - r->log.base - 1) / 2);
}

const struct raft_entry *raft_apply_take(struct raft *r)
{
    uint64_t most = r->commit < r->saved ? r->commit : r->saved;

    if (r->applied < r->log.base || r->applied >= most)
        return NULL;
    relieve_memory(r);
    const struct raft_entry *e = raft_log_at(&r->log, r->applied + 1);
    r->applied++;
    r->applied_term = e->term;
    if (e->type == RAFT_ENTRY_CONFIG) {
        int err = raft_members_decode(&r->members_applied, e->payload, e->len);
        CHECK(err == 0); /* proven before it came into the log */
    }
    return e;
}

const struct raft_entry *raft_apply_ahead(const struct raft *r, uint64_t others)
{
    uint64_t most = r->commit < r->saved ? r->commit : r->saved;

    if (r->applied < r->log.base || others >= most - r->applied)
        return NULL;
    return raft_log_at(&r->log, r->applied + 1 + others);
}

/* ---- facts ---- */

enum raft_role raft_role(const struct raft *r) { return r->role; }

uint64_t raft_id(const struct raft *r) { return r->opt.id; }

uint64_t raft_term(const struct raft *r) { return r->term; }

uint64_t raft_leader(const struct raft *r) { return r->leader; }

bool raft_is_ready(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->commit >= r->term_first;
}

uint64_t raft_committed(const struct raft *r) { return r->commit; }

uint64_t raft_applied(const struct raft *r) { return r->applied; }

uint64_t raft_applied_term(const struct raft *r) { return r->applied_term; }

uint64_t raft_last_index(const struct raft *r) { return r->log.last; }

uint64_t raft_first_index(const struct raft *r) { return r->log.base + 1; }

uint64_t raft_entry_term(const struct raft *r, uint64_t index)
{
    return raft_log_has(&r->log, index) ? raft_log_term(&r->log, index) : 0;
}

const struct raft_members *raft_members(const struct raft *r) { return &r->members; }
uint64_t raft_members_index(const struct raft *r) { return r->members_index; }

const struct raft_members *raft_members_applied(const struct raft *r)
{
    return &r->members_applied;
}

uint64_t raft_log_bytes(const struct raft *r) { return r->log.bytes; }

uint64_t raft_saved_index(const struct raft *r) { return r->saved; }
uint64_t raft_saved_term(const struct raft *r) { return r->saved_term; }

bool raft_peer_facts(const struct raft *r, uint64_t id, struct raft_peer_facts *out)
{
    for (unsigned i = 0; i < r->members.n; i++) {
        const struct peer *p = &r->peers[i];
        if (p->id != id)
            continue;
        *out = (struct raft_peer_facts){0};
        if (r->role == RAFT_LEADER)
            *out = (struct raft_peer_facts){.heard_ms = p->heard_ms,
                                            .match = p->match,
                                            .snapshotting = p->state == PEER_SNAPSHOT};
        return true;
    }
    return false;
}
