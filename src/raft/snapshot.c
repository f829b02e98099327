/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots for followers that need entries which are gone ([R] 7, [D] 5).
 *
 * The leader cuts one snapshot into pieces, for each follower one in flight: the next goes out
 * when the last was answered, or the same again when an election timeout has passed. The
 * answer says how much the follower has, so both a lost piece and a follower that has
 * begun anew need no further rule. Each piece is read from the store when it is wanted; the
 * follower's store writes it, and then it is answered: neither has more than a piece in memory.
 */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/reached.h"
#include "raft/internal.h"

struct raft_blob *raft_blob_new_take(uint64_t index, uint64_t term,
                                     const struct raft_members *members, uint8_t *data,
                                     size_t len)
{
    struct raft_blob *b = mem_new(struct raft_blob);

    b->refs = 1;
    b->index = index;
    b->term = term;
    b->members = *members;
    b->len = len;
    b->data = data;
    return b;
}

struct raft_blob *raft_blob_ref(struct raft_blob *b)
{
    b->refs++;
    return b;
}

void raft_blob_unref(struct raft_blob *b)
{
    if (b == NULL)
        return;
    CHECK(b->refs > 0);
    if (--b->refs == 0) {
        mem_free(b->data);
        mem_free(b);
    }
}

/* ---- the leader ---- */

static size_t piece_len(const struct raft *r, const struct raft_blob *b, uint64_t offset)
{
    size_t left = b->len - (size_t)offset;

    return left < r->opt.piece_max ? left : r->opt.piece_max;
}

/* What p needs next has been read; or is asked for. */
static bool has_piece(struct raft *r, const struct peer *p)
{
    if (r->snapshot_out->data != NULL || (r->sending.is_there && r->sending.at == p->offset))
        return true;
    r->sending.is_wanted = true;
    r->sending.wanted_at = p->offset;
    return false;
}

void raft_snapshot_send(struct raft *r, struct peer *p)
{
    const struct raft_blob *b = r->snapshot_out;

    CHECK(p->state == PEER_SNAPSHOT);
    if (b == NULL || (p->is_chunk_out && r->now_ms - p->chunk_ms < r->opt.election_min_ms) ||
        !has_piece(r, p))
        return;
    for (unsigned i = 0; i < r->members.n; i++)
        if (&r->peers[i] != p && r->peers[i].is_chunk_out)
            REACHED(raft_snapshot_to_two);
    p->is_chunk_out = true;
    p->chunk_ms = r->now_ms;
    raft_send(r, p->id,
              &(struct raft_msg){.type = RAFT_MSG_CHUNK,
                                 .term = r->term,
                                 .index = b->index,
                                 .index_term = b->term,
                                 .size = b->len,
                                 .offset = p->offset});
}

/* The bytes of a piece are looked up when it is encoded. False: that snapshot is gone. */
bool raft_chunk_fill(const struct raft *r, struct raft_msg *m, struct buf *members)
{
    const struct raft_blob *b = r->snapshot_out;

    if (b == NULL || b->index != m->index || b->term != m->index_term || b->len != m->size)
        return false;
    if (b->data == NULL && (!r->sending.is_there || r->sending.at != m->offset))
        return false; /* another one has been read meanwhile: it is sent again */
    if (m->offset == 0) {
        raft_members_encode(&b->members, members);
        m->members = members->data;
        m->members_len = members->len;
    }
    m->data = b->data != NULL ? b->data + m->offset : r->sending.data.data;
    m->len = piece_len(r, b, m->offset);
    return true;
}

bool raft_snapshot_wanted(const struct raft *r)
{
    if (r->role != RAFT_LEADER || r->snapshot_out != NULL)
        return false;
    for (unsigned i = 0; i < r->members.n; i++)
        if (r->peers[i].id != r->opt.id && r->peers[i].state == PEER_SNAPSHOT)
            return true;
    return false;
}

void raft_snapshot_give(struct raft *r, uint64_t now_ms, struct raft_blob *b)
{
    CHECK(b->index <= r->applied && b->len <= RAFT_SNAPSHOT_MAX);
    r->now_ms = now_ms > r->now_ms ? now_ms : r->now_ms;
    r->held = 0;
    if (!raft_snapshot_wanted(r) || b->index < r->log.base) {
        raft_blob_unref(b);
        return;
    }
    r->snapshot_out = b;
    r->is_send_owed = true;
}

void raft_hold(struct raft *r, uint64_t index) { r->held = index; }

uint64_t raft_snapshot_sent(const struct raft *r)
{
    return r->snapshot_out != NULL ? r->snapshot_out->index : 0;
}

/* Lets go of the snapshot when nobody is being sent it; or takes it away from them. */
void raft_snapshot_out_drop(struct raft *r, bool even_if_used)
{
    for (unsigned i = 0; i < r->members.n; i++) {
        struct peer *p = &r->peers[i];
        if (p->state != PEER_SNAPSHOT || r->snapshot_out == NULL)
            continue;
        if (!even_if_used)
            return;
        raft_peer_probe(r, p, r->log.last + 1);
    }
    raft_blob_unref(r->snapshot_out);
    r->snapshot_out = NULL;
    r->sending.is_there = r->sending.is_wanted = false;
    if (r->job.is_out && r->job.kind == RAFT_JOB_READ)
        r->job.is_stale = true;
}

void raft_snapshot_free(struct raft *r)
{
    raft_blob_unref(r->snapshot_out);
    buf_free(&r->sending.data);
    buf_free(&r->piece);
    buf_free(&r->job.data);
}

int raft_on_chunk_answer(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    const struct raft_blob *b = r->snapshot_out;

    /* Only the answer to the piece that is out counts, so that a doubled one does not make
     * two streams. */
    bool is_ours = p->state == PEER_SNAPSHOT && b != NULL && m->index == b->index &&
                   p->is_chunk_out && m->offset == p->offset;
    if (is_ours && m->have > b->len)
        return ERR_MALFORMED;
    if (!raft_is_another_birth(r, p))
        p->heard_ms = r->now_ms;
    if (!is_ours)
        return 0;
    p->is_chunk_out = false;
    p->offset = m->have;
    if (m->have < b->len) {
        raft_snapshot_send(r, p);
        return 0;
    }
    /* All of it is there; what it is worth is said by appends. */
    raft_peer_probe(r, p, b->index + 1);
    raft_snapshot_out_drop(r, false);
    return 0;
}

/* ---- the follower ---- */

void raft_incoming_drop(struct raft *r)
{
    raft_blob_unref(r->incoming.blob);
    memset(&r->incoming, 0, sizeof r->incoming);
    if (r->job.is_out && r->job.kind == RAFT_JOB_RECEIVE)
        r->job.is_stale = true;
}

static bool is_incoming(const struct raft *r, const struct raft_msg *m)
{
    const struct raft_blob *b = r->incoming.blob;

    return b != NULL && (MUTANT(raft_chunk_of_another) ||
                         (r->incoming.term == m->term && b->index == m->index &&
                          b->term == m->index_term && b->len == m->size));
}

static void incoming_begin(struct raft *r, const struct raft_msg *m)
{
    struct raft_members members;
    int err = raft_members_decode(&members, m->members, m->members_len);

    CHECK(err == 0); /* proven by raft_msg_decode */
    if (r->incoming.blob != NULL)
        REACHED(raft_snapshot_begun_anew);
    raft_incoming_drop(r);
    r->incoming.blob = raft_blob_new_take(m->index, m->index_term, &members, NULL, m->size);
    r->incoming.term = m->term;
}

/* The disk writes one at a time, and one snapshot at a time until it is all there and named. */
static bool is_disk_busy(const struct raft *r)
{
    return (r->job.is_out && r->job.kind == RAFT_JOB_RECEIVE) || r->incoming.is_waiting ||
           r->snapshot_unsaved != NULL || r->flight.snapshot != NULL;
}

static void incoming_add(struct raft *r, const struct raft_msg *m)
{
    buf_clear(&r->piece);
    if (m->len > 0)
        buf_add(&r->piece, m->data, m->len);
    r->piece_from = m->from;
    r->piece_at = m->offset;
    r->incoming.is_waiting = true;
}

/* [R] 7, figure 13. Takes over the blob, which is ahead of all that we know as committed:
 * it replaces the log. It counts as saved, and goes to the state machine, when it is. */
static void install_take(struct raft *r, struct raft_blob *b)
{
    CHECK(b->index > r->commit);
    /* The disk keeps its entries until it has the snapshot: of those that we cannot tell to
     * be committed, some are, and have been acknowledged. */
    raft_saved_forget(r, r->commit + 1);
    raft_log_reset(&r->log, b->index, b->term);
    raft_config_reset(r, &b->members);
    r->commit = b->index;
    CHECK(r->snapshot_unsaved == NULL); /* see is_disk_busy() */
    r->snapshot_unsaved = b;
}

static void answer_chunk(struct raft *r, uint64_t to, uint64_t index, uint64_t offset,
                         uint64_t have)
{
    raft_send(r, to,
              &(struct raft_msg){.type = RAFT_MSG_CHUNK_ANSWER,
                                 .term = r->term,
                                 .index = index,
                                 .offset = offset,
                                 .have = have});
}

int raft_on_chunk(struct raft *r, const struct raft_msg *m)
{
    if (m->term < r->term) {
        raft_answer_deposed(r, m->from);
        return 0;
    }
    if (m->term == r->term &&
        (r->role == RAFT_LEADER || (r->leader != RAFT_NOBODY && r->leader != m->from)))
        return ERR_MALFORMED;
    raft_follow(r, m->term, m->from);
    r->leader_heard_ms = r->now_ms;
    raft_patience_draw(r);

    /* What we have anyway need not come: an entry with the same index and term stands for
     * the same log before it ([R] 5.3), and a snapshot holds what is committed. */
    if (m->index > r->commit && m->index <= r->log.last &&
        raft_log_term(&r->log, m->index) == m->index_term)
        raft_commit_to(r, m->index);
    if (m->index <= r->commit) {
        REACHED(raft_snapshot_not_needed);
        if (r->matched < r->commit)
            r->matched = r->commit;
        answer_chunk(r, m->from, m->index, m->offset, m->size);
        return 0;
    }
    /* What comes twice, or too early, comes again. */
    if (is_disk_busy(r)) {
        REACHED(raft_snapshot_piece_waits);
        return 0;
    }
    if (!is_incoming(r, m)) {
        if (m->offset != 0) {
            REACHED(raft_snapshot_middle);
            answer_chunk(r, m->from, m->index, m->offset, 0);
            return 0;
        }
        incoming_begin(r, m);
    }
    if (m->offset > 0)
        REACHED(raft_snapshot_pieces);
    if (m->offset == r->incoming.have || MUTANT(raft_chunk_any_place)) {
        incoming_add(r, m);
        if (MUTANT(raft_chunk_early))
            answer_chunk(r, m->from, m->index, m->offset, m->offset + m->len);
    } else {
        REACHED(raft_snapshot_piece_twice);
        answer_chunk(r, m->from, m->index, m->offset, r->incoming.have);
    }
    return 0;
}

static void piece_written(struct raft *r)
{
    struct raft_blob *b = r->incoming.blob;

    r->incoming.have += r->piece.len;
    answer_chunk(r, r->piece_from, b->index, r->piece_at, r->incoming.have);
    if (r->incoming.have < b->len)
        return;
    r->incoming.blob = NULL;
    raft_incoming_drop(r);
    /* An append may have come in between. */
    if (b->index > r->commit && b->index <= r->log.last &&
        raft_log_term(&r->log, b->index) == b->term)
        raft_commit_to(r, b->index);
    if (b->index <= r->commit) {
        raft_blob_unref(b);
        return;
    }
    install_take(r, b);
    r->matched = b->index;
}

/* ---- both: what the disk does for them ---- */

static bool take_received(struct raft *r, struct raft_job *out)
{
    const struct raft_blob *b = r->incoming.blob;

    if (!r->incoming.is_waiting)
        return false;
    r->incoming.is_waiting = false;
    r->job.members = b->members;
    *out = (struct raft_job){.kind = RAFT_JOB_RECEIVE,
                             .index = b->index,
                             .term = b->term,
                             .members = &r->job.members,
                             .size = b->len,
                             .at = r->incoming.have,
                             .len = r->piece.len,
                             .data = r->piece.data};
    return true;
}

static bool take_read(struct raft *r, struct raft_job *out)
{
    const struct raft_blob *b = r->snapshot_out;

    if (b == NULL || !r->sending.is_wanted)
        return false;
    r->sending.is_wanted = false;
    r->job.at = r->sending.wanted_at;
    buf_clear(&r->job.data);
    *out = (struct raft_job){.kind = RAFT_JOB_READ,
                             .index = b->index,
                             .term = b->term,
                             .size = b->len,
                             .at = r->job.at,
                             .len = piece_len(r, b, r->job.at)};
    out->data = buf_reserve(&r->job.data, out->len);
    buf_added(&r->job.data, out->len);
    return true;
}

bool raft_job_take(struct raft *r, struct raft_job *out)
{
    CHECK(!r->job.is_out);
    if (!take_received(r, out) && !take_read(r, out))
        return false;
    r->job.is_out = true;
    r->job.is_stale = false;
    r->job.kind = out->kind;
    return true;
}

static void piece_read(struct raft *r)
{
    struct buf last = r->sending.data;

    r->sending.data = r->job.data;
    r->job.data = last;
    r->sending.at = r->job.at;
    r->sending.is_there = true;
    r->is_send_owed = true;
}

void raft_job_done(struct raft *r, uint64_t now_ms, int err)
{
    CHECK(r->job.is_out);
    r->now_ms = now_ms > r->now_ms ? now_ms : r->now_ms;
    r->job.is_out = false;
    if (r->job.is_stale && !(r->job.kind == RAFT_JOB_READ && MUTANT(raft_chunk_stale_read)))
        return;
    if (r->job.kind == RAFT_JOB_RECEIVE && (err == 0 || MUTANT(raft_chunk_failed_counts)))
        piece_written(r);
    else if (r->job.kind == RAFT_JOB_RECEIVE)
        raft_incoming_drop(r); /* its leader begins anew */
    else if (err == 0)
        piece_read(r);
    else
        raft_snapshot_out_drop(r, true); /* whoever needs one finds that out again */
}

const struct raft_blob *raft_install_wanted(const struct raft *r) { return r->install; }

struct raft_blob *raft_install_take(struct raft *r)
{
    struct raft_blob *b = r->install;

    if (b == NULL)
        return NULL;
    CHECK(b->index > r->applied);
    r->install = NULL;
    r->applied = b->index;
    r->applied_term = b->term;
    r->members_applied = b->members;
    return b;
}
