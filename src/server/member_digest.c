/* SPDX-License-Identifier: Apache-2.0 */
/* Do all replicas have the same tree? (decision 007)
 *
 * The leader puts a mark into the log, by entries and by time, when something has changed. Each
 * replica, when it applies the mark, notes its tree's digest, which is as of the same entry
 * everywhere, and tells it the leader. When a majority of the voters has told the same, the
 * leader puts that into the log, and each replica compares it with what it had noted itself:
 * who differs is condemned (member_condemned()), the leader like any other. So a wrong leader
 * cannot turn the others away, and there is always a majority that is left. Without a majority
 * that agrees nobody goes: it is counted and told.
 *
 * A snapshot for another server is taken at a mark and sent when its digest was agreed to, so
 * that a wrong tree does not spread. Only when nobody can say anything, since nothing commits
 * before that server has the snapshot (simulation, site 52), it goes as it is. */
#include "server/member_internal.h"

#include <inttypes.h>

#include "base/err.h"
#include "base/mutant.h"

#define FORM 1                /* of a digest: another one is never compared */
#define GIVE_UP_MS 3000       /* a mark that no majority has told about */
#define MARK_BYTES 1          /* form u8 */
#define AGREED_BYTES 17       /* form u8, index u64, digest u64 */
#define TOLD_BYTES 17         /* MSG_DIGEST: the same */
#define SNAPSHOT_AGAIN_MS 50  /* between marks for a snapshot */
#define SNAPSHOT_BLIND_MS 500 /* nothing commits before somebody has one: it goes unseen */
#define BUSY_MS 50            /* the log takes nothing now: when again */

static void encode(uint64_t index, uint64_t digest, struct buf *out)
{
    buf_add_u8(out, FORM);
    buf_add_be64(out, index);
    buf_add_be64(out, digest);
}

void digest_drop(struct member *m)
{
    if (!m->offer.is_agreed) /* else it goes unseen */
        snapshot_offer_drop(m);
    m->digests.mark = m->digests.open = m->digests.agreed_at = 0;
    m->digests.is_split = false;
}

/* ---- the leader ---- */

static void note_told(struct digests *d, uint64_t id, uint64_t digest)
{
    for (unsigned i = 0; i < d->told_n; i++)
        if (d->told[i].id == id)
            return;
    if (d->told_n < RAFT_MEMBERS_MAX) {
        d->told[d->told_n].id = id;
        d->told[d->told_n++].digest = digest;
    }
}

int digest_told(struct member *m, uint64_t from, const uint8_t *data, size_t len)
{
    struct digests *d = &m->digests;

    if (len != TOLD_BYTES)
        return ERR_MALFORMED;
    if (data[0] == FORM && d->open != 0 && be64_get(data + 1) == d->open)
        note_told(d, from, be64_get(data + 9));
    return 0;
}

/* What a majority of the voters has told. */
static bool is_agreed(const struct member *m, uint64_t *digest)
{
    const struct digests *d = &m->digests;
    const struct raft_members *all = raft_members(m->raft);
    unsigned voters = 0;

    for (unsigned i = 0; i < all->n; i++)
        voters += all->v[i].voter;
    for (unsigned i = 0; i < d->told_n; i++) {
        unsigned same = 0;
        for (unsigned k = 0; k < d->told_n; k++) {
            const struct raft_member *v = raft_member_find(all, d->told[k].id);
            same += v != NULL && v->voter && d->told[k].digest == d->told[i].digest;
        }
        *digest = d->told[i].digest;
        if (same > voters / 2 ||
            (MUTANT(digest_leader_right) && d->told[i].id == raft_id(m->raft)))
            return true;
    }
    return false;
}

static bool do_they_differ(const struct digests *d)
{
    for (unsigned i = 1; i < d->told_n; i++)
        if (d->told[i].digest != d->told[0].digest)
            return true;
    return false;
}

static bool propose(struct member *m, int32_t op, const struct buf *body)
{
    struct tree_txn t = {.op = op, .body = body->data, .len = body->len};

    if (member_propose(m, &t) == 0)
        return true;
    m->digests.busy_ms = m->now_ms + BUSY_MS;
    return false;
}

static void propose_mark(struct member *m)
{
    struct digests *d = &m->digests;
    struct buf body = {0};

    buf_add_u8(&body, FORM);
    if (propose(m, TREE_OP_DIGEST_MARK, &body)) {
        d->mark = d->open = raft_last_index(m->raft);
        d->agreed_at = 0;
        d->open_ms = m->now_ms;
        d->told_n = 0;
        d->changed = 0;
    }
    buf_free(&body);
}

/* Ours at this mark; NULL: it is too old, or not applied. */
static const uint64_t *own_at(const struct digests *d, uint64_t index)
{
    for (unsigned i = 0; i < DIGESTS_KEPT; i++)
        if (d->own[i].index == index)
            return &d->own[i].digest;
    return NULL;
}

static void look_at_open(struct member *m)
{
    struct digests *d = &m->digests;
    struct buf body = {0};
    uint64_t digest;

    if (is_agreed(m, &digest)) {
        encode(d->open, digest, &body);
        if (propose(m, TREE_OP_DIGEST_AGREED, &body)) {
            const uint64_t *own = own_at(d, d->open);
            d->agreed_at = own != NULL && *own == digest ? raft_last_index(m->raft) : 0;
            d->open = 0;
        }
        d->is_split = false;
        buf_free(&body);
    } else if (m->now_ms >= d->open_ms + GIVE_UP_MS) {
        d->is_split = do_they_differ(d);
        m->facts.digests_unresolved_total += d->is_split;
        if (m->offer.index == d->open)
            snapshot_offer_drop(m);
        d->open = 0;
    }
}

/* Others wait for a snapshot, and nobody can say anything to it: a mark does not commit, or
 * what was agreed on does not, because one of those that agreed has gone (simulation, site
 * 139365). */
static bool goes_unseen(const struct member *m)
{
    const struct digests *d = &m->digests;
    uint64_t committed = raft_committed(m->raft);

    return d->wanted_ms != 0 && !d->is_split &&
           (d->mark == 0 || committed < d->mark || committed < d->agreed_at);
}

/* Who needs a snapshot may be who is needed to commit a mark. */
static void send_blindly(struct member *m)
{
    struct digests *d = &m->digests;

    if (!raft_snapshot_wanted(m->raft) || m->offer.is_agreed)
        d->wanted_ms = 0;
    else if (d->wanted_ms == 0)
        d->wanted_ms = m->now_ms;
    else if (goes_unseen(m) && m->now_ms >= d->wanted_ms + SNAPSHOT_BLIND_MS) {
        d->wanted_ms = 0; /* if it is too large, again later */
        if (!limits_may_send(m))
            return;
        m->facts.snapshots_unseen_total++;
        if (snapshot_may_begin(m))
            snapshot_begin(m);
        if (m->own.is_active)
            snapshot_offer(m, true);
    }
}

/* For a snapshot, which is as of one mark; one at a time is taken. */
static bool wants_mark(const struct member *m)
{
    return raft_snapshot_wanted(m->raft) && m->offer.index == 0 && snapshot_may_begin(m);
}

void digest_work(struct member *m)
{
    struct digests *d = &m->digests;

    send_blindly(m); /* also before we can commit anything: perhaps that needs it */
    if (m->leading_term == 0 || raft_members(m->raft)->n < 2) {
        digest_drop(m);
        return;
    }
    if (m->now_ms < d->busy_ms)
        return;
    if (d->open != 0)
        look_at_open(m);
    bool is_due = d->changed >= m->options.digest_every ||
                  (d->changed > 0 && m->now_ms >= d->changed_ms + m->options.digest_ms);
    bool is_wanted = wants_mark(m) && m->now_ms >= d->open_ms + SNAPSHOT_AGAIN_MS;
    if (d->open == 0 && (is_due || is_wanted))
        propose_mark(m);
}

uint64_t digest_deadline(const struct member *m)
{
    const struct digests *d = &m->digests;
    uint64_t at = RAFT_NEVER;

    if (m->leading_term == 0 || raft_members(m->raft)->n < 2)
        at = RAFT_NEVER;
    else if (d->open != 0)
        at = d->open_ms + GIVE_UP_MS;
    else if (wants_mark(m))
        at = d->open_ms + SNAPSHOT_AGAIN_MS;
    else if (d->changed > 0)
        at = d->changed_ms + m->options.digest_ms;
    if (at < d->busy_ms)
        at = d->busy_ms;
    if (goes_unseen(m) && d->wanted_ms + SNAPSHOT_BLIND_MS < at)
        at = d->wanted_ms + SNAPSHOT_BLIND_MS;
    return at > m->now_ms ? at
                          : m->now_ms; /* one in the past would look as if we had stood still */
}

/* ---- every replica ---- */

static void apply_mark(struct member *m, uint64_t index)
{
    struct digests *d = &m->digests;
    uint64_t leader = raft_leader(m->raft), digest = tree_digest(m->tree);

    d->own[d->own_n % DIGESTS_KEPT].index = index;
    d->own[d->own_n++ % DIGESTS_KEPT].digest = digest;
    d->changed = 0;
    if (leader == raft_id(m->raft)) {
        if (index == d->open)
            note_told(d, leader, digest);
        if (index == d->mark && wants_mark(m) && limits_may_send(m)) {
            snapshot_begin(m);
            snapshot_offer(m, false);
        }
    } else if (leader != RAFT_NOBODY) {
        buf_clear(&m->scratch);
        encode(index, digest, &m->scratch);
        member_send(m, leader, &m->scratch, MSG_DIGEST);
    }
}

static void apply_agreed(struct member *m, uint64_t index, uint64_t digest)
{
    const uint64_t *own = own_at(&m->digests, index);

    if (own != NULL && *own == digest) {
        m->facts.digest_agreed_index = index;
        m->facts.digest_agreed = digest;
    } else if (own != NULL) {
        m->facts.digest_mismatches_total++;
        if (!MUTANT(digest_ignored))
            buf_printf(member_condemn(m),
                       "its tree differs from what a majority has: as of entry %" PRIu64
                       " the digest was %016" PRIx64 ", and here %016" PRIx64,
                       index, digest, *own);
    }
    if (m->condemned.len == 0)
        snapshot_agreed(m, index);
}

bool digest_applied(struct member *m, uint64_t index, const struct tree_txn *txn)
{
    struct digests *d = &m->digests;

    if (txn->op == TREE_OP_DIGEST_MARK) {
        if (txn->len == MARK_BYTES && txn->body[0] == FORM)
            apply_mark(m, index);
        return true;
    }
    if (txn->op == TREE_OP_DIGEST_AGREED) {
        if (txn->len == AGREED_BYTES && txn->body[0] == FORM)
            apply_agreed(m, be64_get(txn->body + 1), be64_get(txn->body + 9));
        return true;
    }
    if (d->changed++ == 0)
        d->changed_ms = m->now_ms;
    return false;
}
