/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, a piece at a time (decision 011): taken of the tree while it goes on, sent from
 * the store, received into it and loaded from it. The shell asks for one job of the disk after
 * another, beside the saves, and each costs the loop about as much as a piece is long.
 *
 * What is sent to another server is a snapshot that this one keeps as its own: it is begun at
 * a mark, and offered to raft when the store has it and its digest was agreed on (decision
 * 007), whichever comes last. */
#include "server/member_internal.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"

/* ---- one of our own ---- */

bool snapshot_may_begin(const struct member *m)
{
    return !m->own.is_active && !m->own.is_out && raft_install_wanted(m->raft) == NULL;
}

void snapshot_begin(struct member *m)
{
    struct own_snapshot *o = &m->own;
    uint64_t applied = raft_applied(m->raft);

    CHECK(snapshot_may_begin(m));
    o->index = applied - (MUTANT(member_snapshot_apart) ? 1 : 0);
    o->term = raft_applied_term(m->raft);
    o->members = *raft_members_applied(m->raft);
    o->at = 0;
    o->size = tree_saving_begin(m->tree);
    o->is_active = true;
    m->snapshot_index = applied;
    m->snapshot_bytes = 0;
}

void snapshot_offer(struct member *m, bool is_agreed)
{
    m->offer = (struct offer){
        .index = m->own.index, .term = raft_term(m->raft), .is_agreed = is_agreed};
    raft_hold(m->raft, m->offer.index);
}

void snapshot_offer_drop(struct member *m)
{
    if (m->offer.index != 0)
        raft_hold(m->raft, 0);
    m->offer = (struct offer){0};
}

static void offer_look(struct member *m)
{
    const struct own_snapshot *o = &m->own;

    if (!m->offer.is_agreed || !m->offer.is_saved || m->condemned.len > 0)
        return;
    raft_snapshot_give(m->raft, m->now_ms,
                       raft_blob_new_take(o->index, o->term, &o->members, NULL, o->size));
    snapshot_offer_drop(m);
}

void snapshot_agreed(struct member *m, uint64_t index)
{
    if (m->offer.index == 0 || m->offer.index != index)
        return;
    m->offer.is_agreed = true;
    offer_look(m);
}

static void own_end(struct member *m, int err)
{
    tree_saving_end(m->tree);
    m->own.is_active = false;
    disk_snapshot_ended(m, err);
    if (err != 0)
        snapshot_offer_drop(m);
}

/* Memory has changed by itself, or an operation forgets to count: nobody shall have it. */
static void own_is_wrong(struct member *m)
{
    uint64_t counted, anew;

    tree_saving_digests(m->tree, &counted, &anew);
    buf_printf(member_condemn(m),
               "its tree has changed by itself: the digest of all that is in it is "
               "%016" PRIx64 ", that of all changes %016" PRIx64,
               anew, counted);
    own_end(m, ERR_CORRUPT);
}

static bool own_take(struct member *m, struct raft_job *out)
{
    struct own_snapshot *o = &m->own;

    if (!o->is_active)
        return false;
    buf_clear(&o->piece);
    if (tree_saving_next(m->tree, m->options.snapshot_piece, &o->piece) == TREE_SAVING_WRONG) {
        own_is_wrong(m);
        return false;
    }
    *out = (struct raft_job){.kind = RAFT_JOB_KEEP,
                             .index = o->index,
                             .term = o->term,
                             .members = &o->members,
                             .size = o->size,
                             .at = o->at,
                             .len = o->piece.len,
                             .data = o->piece.data};
    o->is_out = true;
    return true;
}

static void own_done(struct member *m, int err)
{
    struct own_snapshot *o = &m->own;

    o->is_out = false;
    if (!o->is_active)
        return; /* a tree that the leader sent has taken the place of ours */
    o->at += o->piece.len;
    if (err == 0 && o->at < o->size) {
        if (o->at > o->piece.len && raft_applied(m->raft) > m->snapshot_index)
            REACHED(member_snapshot_overtaken);
        return;
    }
    own_end(m, err);
    buf_free(&o->piece);
    if (err != 0)
        return;
    raft_compact(m->raft, o->index, m->options.snapshot_every / 5);
    if (m->offer.index == o->index) {
        m->offer.is_saved = true;
        offer_look(m);
    }
}

/* That of a large tree waits for as many bytes of entries as it has itself: else a snapshot
 * would be most of what is written. */
static bool is_due(const struct member *m, uint64_t applied)
{
    uint64_t size = tree_bytes(m->tree);

    if (size > MEMBER_SNAPSHOT_BYTES)
        return m->snapshot_bytes >=
               (size < MEMBER_SNAPSHOT_BYTES_MAX ? size : MEMBER_SNAPSHOT_BYTES_MAX);
    return applied - m->snapshot_index >= m->options.snapshot_every ||
           m->snapshot_bytes >= MEMBER_SNAPSHOT_BYTES;
}

void snapshot_work(struct member *m)
{
    uint64_t applied = raft_applied(m->raft);

    if (m->offer.index != 0 &&
        (raft_role(m->raft) != RAFT_LEADER || raft_term(m->raft) != m->offer.term))
        snapshot_offer_drop(m);
    if (!snapshot_may_begin(m))
        return;
    if (applied > m->snapshot_index && (is_due(m, applied) || disk_wants_snapshot(m))) {
        snapshot_begin(m);
    } else if (MUTANT(digest_snapshot_blind) && raft_snapshot_wanted(m->raft) &&
               m->offer.index == 0) {
        snapshot_begin(m);
        snapshot_offer(m, true);
    }
}

/* ---- the leader has sent one: it is loaded ---- */

void snapshot_load_drop(struct member *m)
{
    tree_loader_free(m->loading.loader);
    m->loading.loader = NULL;
    m->loading.index = 0;
}

void snapshot_load_begin(struct member *m, uint64_t index, uint64_t size)
{
    snapshot_load_drop(m);
    m->loading.index = index;
    m->loading.at = 0;
    m->loading.size = size;
    m->loading.loader = tree_loader_new(m->hash_key, size);
}

/* At the last piece *out is the tree; NULL before. */
static int load_piece(struct member *m, const uint8_t *data, size_t len, struct tree **out)
{
    struct loading *l = &m->loading;
    int err = tree_loader_add(l->loader, data, len);

    *out = NULL;
    l->at += len;
    if (err != 0 || l->at < l->size)
        return err;
    err = tree_loader_end(l->loader, out);
    l->loader = NULL;
    return err;
}

void member_load_begin(void *member, uint64_t index, uint64_t size)
{
    snapshot_load_begin(member, index, size);
}

void member_load_piece(void *member, const uint8_t *data, size_t len)
{
    struct member *m = member;

    if (m->loading.loader != NULL)
        (void)tree_loader_add(m->loading.loader, data, len); /* it remembers */
}

int snapshot_load_end(struct member *m, uint64_t index)
{
    struct tree *t = NULL;
    int err = ERR_CORRUPT;

    if (m->loading.loader != NULL && (m->loading.index == index))
        err = tree_loader_end(m->loading.loader, &t);
    else
        tree_loader_free(m->loading.loader);
    m->loading.loader = NULL;
    m->loading.index = 0;
    if (t != NULL) {
        tree_free(m->tree);
        m->tree = t;
        m->snapshot_index = index;
        m->snapshot_bytes = 0;
    }
    return err;
}

/* Our clients' watches have missed what lies between, and so may our stream: they connect
 * again, here or elsewhere, and catch up by setWatches. */
static void install(struct member *m, struct tree *t)
{
    REACHED(member_installed);
    conn_close_all(m);
    stream_drop(m);
    m->own.is_active = false;
    snapshot_offer_drop(m);
    tree_free(m->tree); /* and with it what was being taken of it */
    m->tree = t;
    m->snapshot_index = m->loading.index;
    m->snapshot_bytes = 0;
    raft_blob_unref(raft_install_take(m->raft));
}

static bool load_take(struct member *m, struct raft_job *out)
{
    const struct raft_blob *b = raft_install_wanted(m->raft);
    struct loading *l = &m->loading;

    if (b == NULL)
        return false;
    if (l->index != b->index) {
        if (l->index != 0)
            REACHED(member_install_upon_install);
        snapshot_load_begin(m, b->index, b->len);
    }
    uint64_t left = b->len - l->at, most = m->options.load_piece;
    size_t len = (size_t)(left < most ? left : most);
    buf_clear(&l->piece);
    *out = (struct raft_job){
        .kind = RAFT_JOB_READ, .index = b->index, .size = b->len, .at = l->at, .len = len};
    out->data = buf_reserve(&l->piece, len);
    buf_added(&l->piece, len);
    l->job_index = b->index;
    l->is_out = true;
    return true;
}

static void load_failed(struct member *m, int err)
{
    if (m->condemned.len == 0)
        buf_printf(member_condemn(m),
                   "the tree that the leader sent, as of entry %" PRIu64
                   ", cannot be loaded from the store: %s",
                   m->loading.index, err_text(err));
    snapshot_load_drop(m);
}

static void load_done(struct member *m, int err)
{
    const struct raft_blob *b = raft_install_wanted(m->raft);
    struct loading *l = &m->loading;
    struct tree *t = NULL;

    l->is_out = false;
    if (b == NULL || b->index != l->job_index)
        return; /* a newer one has come meanwhile: it begins with the next job */
    if (err == 0)
        err = load_piece(m, l->piece.data, l->piece.len, &t);
    if (err != 0)
        load_failed(m, err);
    else if (t != NULL)
        install(m, t);
    if (l->loader == NULL) {
        buf_free(&l->piece);
        l->index = 0;
    }
}

/* ---- the disk's jobs ---- */

/* What others wait for comes first; a piece of theirs needs a message there and back. */
bool member_job_take(struct member *m, struct raft_job *out)
{
    if (m->condemned.len > 0)
        return false;
    m->is_raft_job = raft_job_take(m->raft, out);
    if (!m->is_raft_job && !load_take(m, out) && !own_take(m, out))
        return false;
    if (!MUTANT(disk_piece_uncounted))
        disk_job_begins(m);
    return true;
}

void member_job_done(struct member *m, int err)
{
    disk_job_ends(m);
    if (m->is_raft_job)
        raft_job_done(m->raft, m->now_ms, err);
    else if (m->loading.is_out)
        load_done(m, err);
    else
        own_done(m, err);
    m->is_raft_job = false;
}

uint64_t member_sent_snapshot(const struct member *m) { return raft_snapshot_sent(m->raft); }

void snapshot_free(struct member *m)
{
    tree_loader_free(m->loading.loader);
    buf_free(&m->loading.piece);
    buf_free(&m->own.piece);
}
