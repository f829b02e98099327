/* SPDX-License-Identifier: Apache-2.0 */
/* A member's life: raft's events in and out, applying, snapshots, membership. */
#include "server/member_internal.h"

#include <string.h>

#include <inttypes.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"

#define MEMBER_ENTRY_KEPT 65536 /* bytes of the buffer that entries are put together in */
#define STALL_MS 300            /* this late for our own deadline: we were not running */

void member_send(struct member *m, uint64_t to, struct buf *message, enum message_type type)
{
    buf_add_u8(message, (uint8_t)type);
    m->io.send_peer(m->io.ctx, to, message->data, message->len);
}

int member_propose(struct member *m, struct tree_txn *txn)
{
    struct buf *entry = &m->entry;
    uint64_t index;

    txn->time_ms = m->wall_ms;
    txn->rules = m->options.rules | (txn->rules & TREE_RULE_NO_ROOM);
    txn->bytes_max = m->options.tree_bytes_max;
    buf_clear(entry);
    tree_txn_encode(txn, entry);
    int err = raft_propose(m->raft, entry->data, entry->len, &index);
    if (err == 0)
        stats_proposed(m, entry->len);
    if (entry->len > MEMBER_ENTRY_KEPT)
        buf_free(entry);
    if (err == 0 && txn->op == TREE_OP_ATTACH_SESSION)
        session_attaching(m, txn->session, index);
    return err;
}

/* ---- life ---- */

struct member *member_new(const struct member_options *options, const struct member_io *io)
{
    struct member *m = mem_new(struct member);

    m->options = *options;
    if (m->options.session_min_ms == 0)
        m->options.session_min_ms = 500;
    if (m->options.session_max_ms == 0)
        m->options.session_max_ms = 60000;
    if (m->options.snapshot_every == 0)
        m->options.snapshot_every = 50000;
    if (m->options.lapse_check_ms == 0)
        m->options.lapse_check_ms = 60000;
    if (m->options.lapse_per_minute_max == 0)
        m->options.lapse_per_minute_max = 10000;
    if (m->options.digest_every == 0)
        m->options.digest_every = 1000;
    if (m->options.digest_ms == 0)
        m->options.digest_ms = 10000;
    m->sweep_ms = RAFT_NEVER;
    if (m->options.frame_max == 0)
        m->options.frame_max = MEMBER_FRAME_MAX;
    if (m->options.frame_max > MEMBER_FRAME_LIMIT)
        m->options.frame_max = MEMBER_FRAME_LIMIT;
    if (m->options.outstanding_max == 0)
        m->options.outstanding_max = 1000;
    if (m->options.sessions_max == 0 || m->options.sessions_max > MEMBER_SESSIONS_MAX)
        m->options.sessions_max = MEMBER_SESSIONS_MAX;
    if (m->options.tree_bytes_max == 0 || m->options.tree_bytes_max > TREE_BYTES_MAX)
        m->options.tree_bytes_max = TREE_BYTES_MAX;
    if (m->options.watches_max == 0)
        m->options.watches_max = MEMBER_WATCHES_MAX;
    if (m->options.all_watches_max == 0)
        m->options.all_watches_max = MEMBER_ALL_WATCHES_MAX;
    if (m->options.all_requests_max == 0)
        m->options.all_requests_max = MEMBER_ALL_REQUESTS_MAX;
    if (m->options.snapshot_piece == 0)
        m->options.snapshot_piece = MEMBER_SNAPSHOT_PIECE;
    if (m->options.load_piece == 0)
        m->options.load_piece = MEMBER_LOAD_PIECE;
    m->io = *io;
    TAILQ_INIT(&m->dirty);
    TAILQ_INIT(&m->touched);
    TAILQ_INIT(&m->stream);
    TAILQ_INIT(&m->unasked);
    TAILQ_INIT(&m->syncing);
    TAILQ_INIT(&m->round.asked);
    TAILQ_INIT(&m->asked);
    TAILQ_INIT(&m->held);
    m->io.random(m->io.ctx, &m->hash_key, sizeof m->hash_key);
    stream_drop(m); /* draws the incarnation */
    m->raft = raft_new(&m->options.raft);
    m->tree = tree_new(m->hash_key);
    m->watches = watches_new(m->hash_key, conn_watch_event, m);
    return m;
}

void member_free(struct member *m)
{
    struct hash_walk w;
    struct hash_link *l;

    while ((l = hash_walk_first(&m->conns, &w)) != NULL)
        conn_free(m, HASH_ENTRY(l, struct conn, by_id));
    conn_ids_drop(m);
    readonly_drop(m);
    hash_free(&m->locals);
    mem_free(m->gone);
    stream_drop(m);
    session_unlead(m);
    mem_free(m->expiries.heap);
    hash_free(&m->expiries.by_session);
    hash_free(&m->conns);
    hash_free(&m->conns_by_session);
    snapshot_free(m);
    digest_drop(m);
    while (m->spares_n > 0)
        buf_free(&m->spares[--m->spares_n]);
    buf_free(&m->condemned);
    buf_free(&m->config_text);
    buf_free(&m->scratch);
    buf_free(&m->entry);
    buf_free(&m->reply);
    watches_free(m->watches);
    tree_free(m->tree);
    raft_free(m->raft);
    mem_free(m);
}

void member_load_state(void *member, uint64_t term, uint64_t vote)
{
    raft_load_state(((struct member *)member)->raft, term, vote);
}

int member_load_snapshot(void *member, uint64_t index, uint64_t term,
                         const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct member *m = member;

    if (data != NULL) {
        snapshot_load_begin(m, index, len);
        member_load_piece(m, data, len);
    }
    raft_load_snapshot(m->raft, index, term, members);
    return snapshot_load_end(m, index);
}

int member_load_entry(void *member, struct raft_entry *e)
{
    return raft_load_entry(((struct member *)member)->raft, e);
}

void member_start(struct member *m, uint64_t now_ms, int64_t wall_ms)
{
    m->now_ms = now_ms;
    m->wall_ms = wall_ms;
    m->due_ms = RAFT_NEVER;
    m->lost_ms = now_ms;
    snapshot_load_drop(m); /* of one that was not whole */
    raft_start(m->raft, now_ms);
}

/* ---- applying ---- */

static void apply_data(struct member *m, const struct raft_entry *e)
{
    struct tree_txn txn;
    struct tree_result result = {.reply = &m->reply};

    buf_clear(&m->reply);
    if (tree_txn_decode(&txn, e->payload, e->len) != 0)
        return; /* every replica comes to the same conclusion */
    if (digest_applied(m, e->index, &txn))
        return;
    tree_apply(m->tree, (int64_t)e->index, &txn, m->watches, &result);
    if (result.is_full)
        limit_hit(m, MEMBER_LIMIT_TREE, txn.bytes_max, tree_bytes(m->tree));
    if (txn.op == TREE_OP_CREATE_SESSION && result.err == 0)
        session_born(m, result.session, txn.timeout_ms);
    if (txn.op == TREE_OP_ATTACH_SESSION && result.err == 0) {
        struct conn *old = conn_of_session(m, txn.session);
        session_born(m, txn.session, txn.timeout_ms);
        if (old != NULL && (txn.origin.server != m->incarnation || txn.origin.conn != old->id))
            conn_close(m, old);
    }
    if (txn.op == TREE_OP_CLOSE_SESSION && result.err == 0)
        session_gone(m, txn.session);
    if (txn.op == TREE_OP_SET_CONFIG)
        reconfig_ended(m, &txn, (int64_t)e->index, &result);
    if (txn.origin.server == m->incarnation)
        stream_applied(m, (int64_t)e->index, &txn, &result);
    /* Closed by somebody else: expired, or through another connection. */
    if (txn.op == TREE_OP_CLOSE_SESSION && result.err == 0) {
        struct conn *c = conn_of_session(m, txn.session);
        if (c != NULL)
            conn_close(m, c);
    }
}

static void apply(struct member *m, const struct raft_entry *e)
{
    switch (e->type) {
    case RAFT_ENTRY_EMPTY: break;
    case RAFT_ENTRY_DATA:
        apply_data(m, e);
        stats_committed(m);
        break;
    case RAFT_ENTRY_CONFIG: break; /* raft's own */
    }
    m->snapshot_bytes += e->len;
}

/* ---- the end ---- */

struct buf *member_condemn(struct member *m)
{
    buf_clear(&m->condemned);
    return &m->condemned;
}

const char *member_condemned(const struct member *m)
{
    return m->condemned.len > 0 ? buf_text((struct buf *)&m->condemned) : NULL;
}

/* The leader says that our disk is an older one than it was. */
static int condemned_by(struct member *m, uint64_t from, const uint8_t *data, size_t len)
{
    if (len != 24)
        return ERR_MALFORMED;
    if (from == raft_leader(m->raft) && be64_get(data) == m->options.raft.birth)
        buf_printf(member_condemn(m),
                   "its disk is an older one: it had acknowledged entry %" PRIu64
                   ", and now its log agrees with the leader's up to %" PRIu64 " at the most",
                   be64_get(data + 8), be64_get(data + 16));
    return 0;
}

static void condemn_others(struct member *m)
{
    struct raft_went_back w;

    if (!raft_went_back_take(m->raft, &w))
        return;
    buf_clear(&m->scratch);
    buf_add_be64(&m->scratch, w.birth);
    buf_add_be64(&m->scratch, w.had);
    buf_add_be64(&m->scratch, w.has);
    member_send(m, w.id, &m->scratch, MSG_CONDEMN);
}

/* Whatever is on its way is not said. */
static void be_silent(struct member *m)
{
    uint64_t to;

    if (m->serving)
        conn_close_all(m);
    m->serving = m->read_only = false;
    while (raft_message_take(m->raft, &to, &m->scratch))
        ;
    m->due_ms = RAFT_NEVER;
}

/* ---- the turn: everything that follows from the events so far ---- */

static void lead_or_not(struct member *m)
{
    bool leads = raft_is_ready(m->raft) && raft_applied_term(m->raft) == raft_term(m->raft);

    if (m->leading_term != 0 && (!leads || m->leading_term != raft_term(m->raft)))
        session_unlead(m);
    if (leads && m->leading_term == 0) {
        session_lead(m);
        reconfig_lead(m);
    }
    if (raft_leader(m->raft) != RAFT_NOBODY && raft_leader(m->raft) != m->leader_seen) {
        m->leader_seen = raft_leader(m->raft);
        m->facts.leader_changes_total++;
        if (m->round.id != 0)
            m->round.retry_ms = m->now_ms; /* the old one will not answer */
    }
}

static void serve_or_not(struct member *m)
{
    if (m->disk.facts.is_lagging && !MUTANT(disk_lagging_serves)) {
        if (m->serving)
            conn_close_all(m);
        m->serving = false;
    } else if (raft_leader(m->raft) != RAFT_NOBODY &&
               raft_applied_term(m->raft) == raft_term(m->raft)) {
        m->serving_ms = m->now_ms;
        m->serving = true;
    } else if (m->serving && m->now_ms >= m->serving_ms + MEMBER_LEADERLESS_MS &&
               !MUTANT(member_removed_serves)) {
        m->serving = false;
        conn_close_all(m);
    }
    readonly_turn(m);
    if (raft_leader(m->raft) == raft_id(m->raft))
        m->facts.heard_leader_ms = m->now_ms;
}

#define MANY_AT_ONCE 8 /* entries; for fewer, asking ahead would come too late */

/* Like apply_all(), but what the next ones need is asked of the memory before. */
static void apply_many(struct member *m)
{
    struct tree_ahead ahead = {0};
    const struct raft_entry *e;
    uint64_t asked = 0; /* of how many that wait */

    while (raft_apply_ahead(m->raft, 0) != NULL) {
        for (; asked < TREE_AHEAD && (e = raft_apply_ahead(m->raft, asked)) != NULL; asked++)
            tree_ahead(&ahead, m->tree, e->payload, e->len);
        apply(m, raft_apply_take(m->raft));
        asked--;
    }
}

static bool apply_all(struct member *m)
{
    const struct raft_entry *e;
    bool any = tree_ahead_pays(m->tree) && raft_apply_ahead(m->raft, MANY_AT_ONCE) != NULL;

    if (any)
        apply_many(m);
    while ((e = raft_apply_take(m->raft)) != NULL) {
        apply(m, e);
        any = true;
    }
    return any;
}

void member_flush(struct member *m)
{
    uint64_t to;
    bool any;

    if (m->condemned.len > 0) {
        be_silent(m);
        return;
    }
    disk_work(m);
    do {
        lead_or_not(m);
        session_expire(m);
        sweep_work(m);
        reconfig_drive(m);
        digest_work(m);
        any = limits_admit(m);
        stream_send(m);
        session_send(m);
        raft_flush(m->raft, m->now_ms);
        any = session_reads(m) || any;
        any = session_synced(m) || any; /* what stands behind them goes now, too */
    } while (apply_all(m) || any);
    serve_or_not(m);
    stats_leader(m);
    snapshot_work(m);
    limits_forget_watches(m);
    condemn_others(m);
    if (m->condemned.len > 0) {
        be_silent(m);
        return;
    }
    /* Sending is last: the messages are ordered by when raft made them, and nothing that
     * the clients get depends on them. */
    while (raft_message_take(m->raft, &to, &m->scratch))
        member_send(m, to, &m->scratch, MSG_RAFT);
    conn_flush(m);
    m->due_ms = member_deadline(m);
}

uint64_t member_deadline(const struct member *m)
{
    uint64_t at = raft_deadline(m->raft), other;

    if (!TAILQ_EMPTY(&m->dirty) || m->gone_n > 0) /* too much for one turn */
        return m->now_ms;
    if (m->condemned.len > 0)
        return RAFT_NEVER;
    if ((other = stream_deadline(m)) < at)
        at = other;
    if ((other = digest_deadline(m)) < at)
        at = other;
    if ((other = session_deadline(m)) < at)
        at = other;
    if (m->sweep_ms < at)
        at = m->sweep_ms;
    if (m->serving && m->serving_ms + MEMBER_LEADERLESS_MS < at &&
        raft_leader(m->raft) == RAFT_NOBODY)
        at = m->serving_ms + MEMBER_LEADERLESS_MS;
    if ((other = readonly_deadline(m)) < at)
        at = other;
    if ((other = disk_deadline(m)) < at)
        at = other;
    return at;
}

/* ---- events in ---- */

void member_time(struct member *m, uint64_t now_ms, int64_t wall_ms)
{
    CHECK(now_ms >= m->now_ms);
    uint64_t late_ms = now_ms > m->due_ms ? now_ms - m->due_ms : 0;

    m->now_ms = now_ms;
    m->wall_ms = wall_ms;
    /* What our clients sent meanwhile has not been read yet: they are not to blame. */
    if (late_ms > STALL_MS) {
        m->due_ms = now_ms;
        distribution_add(&m->stats.pause, late_ms);
        session_grace(m, late_ms);
        /* Nor was there nobody who leads: what was said meanwhile is yet to be read. With all
         * clients sent away at once, on all servers of a machine that had stood still, 100,000
         * came back at the same time. */
        m->serving_ms += late_ms;
    }
    if (now_ms >= raft_deadline(m->raft) && m->condemned.len == 0)
        raft_tick(m->raft, now_ms);
}

/* A name and an address are one machine's, also of one that joins at this moment. */
static int add(struct member *m, const struct raft_member *joiner)
{
    const struct raft_members *all = raft_members(m->raft);

    for (unsigned i = 0; i < all->n; i++)
        if (strcmp(all->v[i].name, joiner->name) == 0 ||
            strcmp(all->v[i].address, joiner->address) == 0)
            return ERR_EXISTS;
    return raft_add_learner(m->raft, m->now_ms, joiner);
}

static int add_from(struct member *m, const uint8_t *data, size_t len)
{
    struct raft_members one;

    if (raft_members_decode(&one, data, len) != 0 || one.n != 1)
        return ERR_MALFORMED;
    (void)add(m, &one.v[0]); /* who asked looks at the result */
    return 0;
}

void member_peer_gone(struct member *m, uint64_t from)
{
    if (m->condemned.len == 0)
        raft_gone(m->raft, m->now_ms, from);
}

int member_peer(struct member *m, uint64_t from, const uint8_t *data, size_t len)
{
    if (len == 0)
        return ERR_MALFORMED;
    if (m->condemned.len > 0)
        return 0;
    switch (data[--len]) {
    case MSG_RAFT:
        if (from == raft_leader(m->raft))
            m->facts.heard_leader_ms = m->now_ms;
        return raft_step(m->raft, m->now_ms, from, data, len);
    case MSG_FORWARD: return stream_forwarded(m, from, data, len);
    case MSG_RESEND: return stream_resend(m, data, len);
    case MSG_QUESTION: return session_question(m, from, data, len);
    case MSG_ANSWER: return session_answer(m, data, len);
    case MSG_ADD: return add_from(m, data, len);
    case MSG_REMOVE:
        if (len != 8)
            return ERR_MALFORMED;
        (void)raft_remove(m->raft, m->now_ms, be64_get(data));
        return 0;
    case MSG_DISK: return disk_told(m, from, data, len);
    case MSG_DIGEST: return digest_told(m, from, data, len);
    case MSG_CONDEMN: return condemned_by(m, from, data, len);
    default: return ERR_MALFORMED;
    }
}

bool member_save_take(struct member *m, struct raft_save *out)
{
    if (m->condemned.len > 0 || !raft_save_take(m->raft, out))
        return false;
    if (out->answer != NULL)
        buf_add_u8(out->answer, MSG_RAFT);
    disk_job_begins(m);
    return true;
}

bool member_save_is_awaited(const struct member *m)
{
    return m->condemned.len > 0 || raft_save_is_awaited(m->raft);
}

void member_told(struct member *m) { raft_told(m->raft); }

void member_saved(struct member *m)
{
    disk_job_ends(m);
    if (m->condemned.len == 0)
        raft_saved(m->raft, m->now_ms);
}

/* ---- membership ---- */

int member_add(struct member *m, const struct raft_member *joiner)
{
    const struct raft_members one = {.n = 1, .v = {*joiner}};
    uint64_t leader = raft_leader(m->raft);

    if (leader == raft_id(m->raft))
        return add(m, joiner);
    if (leader == RAFT_NOBODY)
        return ERR_NOT_LEADER;
    buf_clear(&m->scratch);
    raft_members_encode(&one, &m->scratch);
    member_send(m, leader, &m->scratch, MSG_ADD);
    return 0;
}

int member_remove(struct member *m, uint64_t id)
{
    uint64_t leader = raft_leader(m->raft);

    if (leader == raft_id(m->raft))
        return raft_remove(m->raft, m->now_ms, id);
    if (leader == RAFT_NOBODY)
        return ERR_NOT_LEADER;
    buf_clear(&m->scratch);
    buf_add_be64(&m->scratch, id);
    member_send(m, leader, &m->scratch, MSG_REMOVE);
    return 0;
}

void member_step_down(struct member *m)
{
    uint64_t heir = disk_heir(m, false);

    if (heir != RAFT_NOBODY)
        (void)raft_transfer(m->raft, m->now_ms, heir);
}

/* ---- facts ---- */

const struct raft *member_raft(const struct member *m) { return m->raft; }
const struct tree *member_tree(const struct member *m) { return m->tree; }
const struct raft_members *member_members(const struct member *m)
{
    return raft_members_applied(m->raft);
}
bool member_is_serving(const struct member *m) { return m->serving; }
bool member_is_read_only(const struct member *m) { return m->read_only; }

bool member_has_data(const struct member *m)
{
    return raft_is_stranger(m->raft) || raft_last_index(m->raft) > 1;
}

void member_facts(const struct member *m, struct member_facts *out)
{
    *out = m->facts;
    out->disk = m->disk.facts;
    out->watches = watches_count(m->watches);
    out->local_sessions = m->locals.count;
    out->digests_are_split = m->digests.is_split;
}
