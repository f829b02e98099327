/* SPDX-License-Identifier: Apache-2.0 */
#include "server/member_disk.h"

#include "base/err.h"
#include "base/mutant.h"
#include "server/member_internal.h"

#define DISK_MESSAGE 19 /* term, whose, room, slow, free bytes */
enum { OF_SENDER = 0, OF_ENSEMBLE = 1 };

/* ---- how much room ---- */

static const struct {
    const char *name;
    unsigned refused;
    bool refuses_sessions;
} rooms[ROOMS_N] = {
#define R(sym, name, refused, sessions) {name, refused, sessions},
    ROOM_TABLE(R)
#undef R
};

const char *room_name(enum room r) { return rooms[r].name; }

bool room_refuses(enum room r, enum tree_need need) { return need >= rooms[r].refused; }

bool room_refuses_sessions(enum room r) { return rooms[r].refuses_sessions; }

enum room room_of(const struct member_room *r, enum room was)
{
    uint64_t one = r->wanted_bytes, has = r->free_bytes + r->reserve_bytes;
    uint64_t low = ROOM_LOW_RESERVES * one, full = ROOM_FULL_RESERVES * one;

    if (r->is_waiting || has < one / 4)
        return ROOM_BARE;
    if (has < one / 2)
        return ROOM_SPENT;
    if (has < full || (was >= ROOM_FULL && has < full + one / 2))
        return ROOM_FULL;
    if (has < low || (was >= ROOM_LOW && has < low + one))
        return ROOM_LOW;
    return ROOM_OK;
}

void member_room(struct member *m, const struct member_room *room)
{
    struct member_disk_facts *f = &m->disk.facts;

    f->room = *room;
    f->own = room_of(room, f->own);
}

/* ---- our own disk ---- */

void disk_job_begins(struct member *m)
{
    m->disk.saving_since_ms = m->now_ms;
    m->disk.is_slow_counted = false;
}

static void look_at_save(struct member *m)
{
    struct member_disk *d = &m->disk;
    uint64_t since_ms = d->saving_since_ms;

    d->facts.saving_ms = since_ms != 0 ? m->now_ms - since_ms : 0;
    /* What waits for room is not slow. */
    if (d->facts.saving_ms >= MEMBER_SLOW_MS && !d->facts.room.is_waiting) {
        d->slow_until_ms = m->now_ms + MEMBER_SLOW_HOLD_MS;
        d->facts.slow_total += !d->is_slow_counted;
        d->is_slow_counted = true;
    }
    d->facts.is_slow = m->now_ms < d->slow_until_ms;
}

void disk_job_ends(struct member *m)
{
    look_at_save(m);
    m->disk.saving_since_ms = 0;
    m->disk.facts.saving_ms = 0;
}

/* A quorum goes on, and our disk has not taken a step since long: what our clients ask will
 * not be answered here. */
static void look_at_lag(struct member *m)
{
    struct member_disk *d = &m->disk;
    uint64_t saved = raft_saved_index(m->raft), commit = raft_committed(m->raft);

    if (d->facts.is_lagging && saved >= d->lag_goal && raft_applied(m->raft) >= d->lag_goal)
        d->facts.is_lagging = false;
    if (saved >= commit || saved != d->lag_saved) {
        d->lag_saved = saved;
        d->lag_since_ms = saved >= commit ? 0 : m->now_ms;
    } else if (d->lag_since_ms == 0) {
        d->lag_since_ms = m->now_ms;
    } else if (m->now_ms - d->lag_since_ms >= MEMBER_LAG_MS) {
        d->facts.lagging_total += !d->facts.is_lagging;
        d->facts.is_lagging = true;
        d->lag_goal = commit;
    }
}

/* ---- what the servers tell each other ---- */

static struct disk_fact *fact_of(struct member *m, uint64_t id, bool is_new)
{
    struct disk_fact *free_one = NULL;

    for (unsigned i = 0; i < RAFT_MEMBERS_MAX; i++) {
        struct disk_fact *o = &m->disk.others[i];
        if (o->id == id)
            return o;
        if (is_new &&
            (o->id == RAFT_NOBODY || raft_member_find(raft_members(m->raft), o->id) == NULL))
            free_one = o;
    }
    if (free_one != NULL)
        *free_one = (struct disk_fact){.id = id};
    return free_one;
}

int disk_told(struct member *m, uint64_t from, const uint8_t *data, size_t len)
{
    struct member_disk *d = &m->disk;

    if (len != DISK_MESSAGE || data[8] > OF_ENSEMBLE || data[9] >= ROOMS_N || data[10] > 1)
        return ERR_MALFORMED;
    if (be64_get(data) != raft_term(m->raft))
        return 0;
    if (data[8] == OF_ENSEMBLE) {
        if (from != raft_leader(m->raft))
            return 0;
        d->facts.ensemble = (enum room)data[9];
        d->facts.ensemble_free_bytes = be64_get(data + 11);
        d->ensemble_until_ms = m->now_ms + MEMBER_TOLD_MS;
        return 0;
    }
    struct disk_fact *o =
        raft_member_find(raft_members(m->raft), from) != NULL ? fact_of(m, from, true) : NULL;
    if (o != NULL) {
        o->room = (enum room)data[9];
        o->is_slow = data[10];
        o->free_bytes = be64_get(data + 11);
        o->told_ms = m->now_ms;
    }
    return 0;
}

static void tell(struct member *m, uint64_t to, unsigned whose, enum room room, bool is_slow,
                 uint64_t free_bytes)
{
    struct buf *b = &m->scratch;

    buf_clear(b);
    buf_add_be64(b, raft_term(m->raft));
    buf_add_u8(b, (uint8_t)whose);
    buf_add_u8(b, (uint8_t)room);
    buf_add_u8(b, is_slow);
    buf_add_be64(b, free_bytes);
    member_send(m, to, b, MSG_DISK);
}

static void tell_all(struct member *m)
{
    struct member_disk *d = &m->disk;
    const struct raft_members *all = raft_members(m->raft);
    uint64_t leader = raft_leader(m->raft), self = raft_id(m->raft);
    bool is_leader = leader == self;
    enum room room = is_leader ? d->facts.ensemble : d->facts.own;
    bool is_new = d->told_term != raft_term(m->raft) || room != d->told_room ||
                  d->facts.is_slow != d->told_slow;

    if (leader == RAFT_NOBODY || (m->now_ms < d->tell_ms && !is_new))
        return;
    d->tell_ms = m->now_ms + MEMBER_TELL_MS;
    d->told_term = raft_term(m->raft);
    d->told_room = room;
    d->told_slow = d->facts.is_slow;
    if (!is_leader) {
        tell(m, leader, OF_SENDER, room, d->facts.is_slow, d->facts.room.free_bytes);
        return;
    }
    for (unsigned i = 0; i < all->n; i++)
        if (all->v[i].id != self)
            tell(m, all->v[i].id, OF_ENSEMBLE, room, false, d->facts.ensemble_free_bytes);
}

/* ---- the leader ---- */

static bool is_heard(const struct member *m, uint64_t id)
{
    struct raft_peer_facts f;

    return raft_peer_facts(m->raft, id, &f) && f.heard_ms != 0 &&
           f.heard_ms + MEMBER_TELL_MS >= m->now_ms;
}

/* How it looks on the best quorum there is. Who is not heard writes nothing down; of whom
 * nothing is known, nothing bad is believed. */
static void look_at_ensemble(struct member *m)
{
    const struct raft_members *all = raft_members(m->raft);
    struct {
        enum room room;
        uint64_t free_bytes;
    } sorted[RAFT_MEMBERS_MAX], one; /* the best first */
    unsigned n = 0;

    for (unsigned i = 0; i < all->n; i++) {
        uint64_t id = all->v[i].id;
        const struct disk_fact *o = fact_of(m, id, false);
        if (!all->v[i].voter)
            continue;
        one.room = ROOM_OK;
        one.free_bytes = UINT64_MAX;
        if (id == raft_id(m->raft)) {
            one.room = m->disk.facts.own;
            one.free_bytes = m->disk.facts.room.free_bytes;
        } else if (!is_heard(m, id)) {
            one.room = ROOM_BARE;
            one.free_bytes = 0;
        } else if (o != NULL) {
            one.room = o->room;
            one.free_bytes = o->free_bytes;
        }
        unsigned at = n++;
        for (; at > 0 && sorted[at - 1].room > one.room; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = one;
    }
    if (n == 0)
        return;
    /* A leader without a quorum knows nothing of how it is elsewhere. */
    m->disk.facts.ensemble = sorted[n / 2].room;
    m->disk.facts.ensemble_free_bytes = sorted[n / 2].free_bytes;
}

static bool is_healthy(struct member *m, uint64_t id)
{
    const struct disk_fact *o = fact_of(m, id, false);

    return is_heard(m, id) && o != NULL && m->now_ms - o->told_ms <= MEMBER_TOLD_MS &&
           o->room < ROOM_FULL && !o->is_slow;
}

uint64_t disk_heir(struct member *m, bool must_be_healthy)
{
    const struct raft_members *all = raft_members(m->raft);
    struct raft_peer_facts f;
    uint64_t best = RAFT_NOBODY, best_match = 0;
    bool is_best_healthy = false;

    for (unsigned i = 0; i < all->n; i++) {
        uint64_t id = all->v[i].id;
        if (!all->v[i].voter || id == raft_id(m->raft) || !raft_peer_facts(m->raft, id, &f))
            continue;
        bool healthy = is_healthy(m, id);
        if ((must_be_healthy && !healthy) || healthy < is_best_healthy)
            continue;
        if (best != RAFT_NOBODY && healthy == is_best_healthy && f.match < best_match)
            continue;
        best = id;
        best_match = f.match;
        is_best_healthy = healthy;
    }
    return best;
}

/* Somebody else leads better if there is a quorum without us that is well. */
static void hand_over(struct member *m)
{
    struct member_disk *d = &m->disk;
    const struct raft_members *all = raft_members(m->raft);
    unsigned voters = 0, healthy = 0;

    if (!raft_is_ready(m->raft) || (!d->facts.is_slow && d->facts.own < ROOM_FULL) ||
        m->now_ms < d->offer_ms || MUTANT(disk_leader_stays))
        return;
    for (unsigned i = 0; i < all->n; i++) {
        voters += all->v[i].voter;
        healthy +=
            all->v[i].voter && all->v[i].id != raft_id(m->raft) && is_healthy(m, all->v[i].id);
    }
    /* With a job at the disk since long we write nothing down and read nothing, not even a
     * snapshot for others: then one who is well is enough. */
    if (d->facts.saving_ms >= MEMBER_SLOW_MS && healthy > 0 && !MUTANT(disk_stuck_waits))
        healthy = voters;
    if (healthy <= voters / 2 || raft_transfer(m->raft, m->now_ms, disk_heir(m, true)) != 0)
        return;
    d->offer_ms = m->now_ms + MEMBER_OFFER_MS;
    d->facts.hand_overs_total++;
    if (m->now_ms > d->behind_until_ms + d->back_off_ms)
        d->back_off_ms = 0; /* it has been well for long */
    d->back_off_ms = d->back_off_ms == 0 ? MEMBER_BACK_OFF_MS : 2 * d->back_off_ms;
    if (d->back_off_ms > MEMBER_BACK_OFF_MAX_MS)
        d->back_off_ms = MEMBER_BACK_OFF_MAX_MS;
    d->behind_until_ms = m->now_ms + d->back_off_ms;
}

/* ---- the turn ---- */

void disk_work(struct member *m)
{
    struct member_disk *d = &m->disk;

    look_at_save(m);
    look_at_lag(m);
    if (raft_role(m->raft) == RAFT_LEADER)
        look_at_ensemble(m);
    else if (m->now_ms >= d->ensemble_until_ms)
        d->facts.ensemble = ROOM_OK; /* nothing is heard: the leader says what it takes */
    tell_all(m);
    d->facts.behind_ms = m->now_ms < d->behind_until_ms ? d->behind_until_ms - m->now_ms : 0;
    raft_reluctant(m->raft,
                   d->facts.behind_ms > 0 || d->facts.is_slow || d->facts.own >= ROOM_FULL);
    if (raft_role(m->raft) == RAFT_LEADER)
        hand_over(m);
}

uint64_t disk_deadline(const struct member *m)
{
    const struct member_disk *d = &m->disk;
    uint64_t at = raft_leader(m->raft) != RAFT_NOBODY ? d->tell_ms : RAFT_NEVER;

    if (d->saving_since_ms != 0 && !d->is_slow_counted && !d->facts.room.is_waiting &&
        d->saving_since_ms + MEMBER_SLOW_MS < at)
        at = d->saving_since_ms + MEMBER_SLOW_MS;
    if (d->lag_since_ms != 0 && !d->facts.is_lagging && d->lag_since_ms + MEMBER_LAG_MS < at)
        at = d->lag_since_ms + MEMBER_LAG_MS;
    return at;
}

/* A snapshot lets the log go that stands before it, and that is how deletions free room. */
bool disk_wants_snapshot(struct member *m)
{
    struct member_disk *d = &m->disk;

    if (d->facts.own < ROOM_FULL) {
        d->has_relieved = false;
        d->relieve_wait_ms = MEMBER_RELIEVE_MS;
        d->relieve_ms = 0;
        return false;
    }
    if (m->now_ms < d->relieve_ms ||
        (d->has_relieved && m->snapshot_bytes < d->facts.room.wanted_bytes / 8))
        return false;
    d->has_relieved = true;
    d->relieve_ms = m->now_ms + d->relieve_wait_ms;
    return true;
}

void disk_snapshot_ended(struct member *m, int err)
{
    struct member_disk *d = &m->disk;

    if (err == 0) {
        d->relieve_wait_ms = MEMBER_RELIEVE_MS;
    } else if (d->facts.own >= ROOM_FULL) {
        d->has_relieved = false; /* tried again, less and less often */
        d->relieve_ms = m->now_ms + d->relieve_wait_ms;
        if (d->relieve_wait_ms < 16ull * MEMBER_RELIEVE_MS)
            d->relieve_wait_ms *= 2;
    }
}

/* ---- what is refused ---- */

bool disk_refuses(struct member *m, int64_t session, int32_t op, const uint8_t *body,
                  size_t len)
{
    enum room room = m->disk.facts.ensemble;

    if (room < ROOM_FULL || MUTANT(disk_data_taken))
        return false;
    if (op == TREE_OP_CREATE_SESSION)
        return room_refuses_sessions(room);
    return room_refuses(room, tree_need(m->tree, session, op, body, len));
}
