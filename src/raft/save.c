/* SPDX-License-Identifier: Apache-2.0 */
/* What the disk must hold next, and what may happen once it does.
 *
 * One batch is at the disk at a time. Meanwhile the log may go on: be appended to, cut, or
 * replaced. So two things are told apart: what the disk will hold (disk_good, disk_last)
 * and what of our present log it surely holds (saved). When the log is cut, both fall
 * back, and so does what the batch in flight will count for: its entries may land, but
 * they are no longer ours.
 */
#include "base/check.h"
#include "base/mem.h"
#include "raft/internal.h"

/* Entries from `from` on were cut from the log: the disk must drop them too. */
void raft_saved_rollback(struct raft *r, uint64_t from)
{
    if (r->disk_good >= from)
        r->disk_good = from - 1;
    if (!MUTANT(raft_no_truncate_rollback))
        raft_saved_forget(r, from);
}

/* What the disk has from `from` on no longer counts as saved. */
void raft_saved_forget(struct raft *r, uint64_t from)
{
    if (r->saved >= from)
        r->saved = from - 1;
    if (r->flight.good >= from)
        r->flight.good = from - 1;
}

static bool has_hard(const struct raft *r)
{
    return r->term != r->given_term || r->vote != r->given_vote;
}

static void give_entries(struct raft *r, struct raft_save *out)
{
    uint64_t bytes = 0, last = r->disk_good;

    out->first_index = r->disk_good + 1;
    out->truncate = r->disk_good < r->disk_last;
    while (last < r->log.last && bytes < RAFT_SAVE_BYTES_MAX &&
           last - r->disk_good < r->opt.batch_max)
        bytes += raft_log_at(&r->log, ++last)->len + sizeof(struct raft_entry);
    size_t n = (size_t)(last - r->disk_good);
    mem_grow(r->flight.entries, r->flight.room, n);
    for (size_t i = 0; i < n; i++)
        r->flight.entries[i] = raft_entry_ref(raft_log_at(&r->log, out->first_index + i));
    r->flight.n = n;
    r->flight.good = n > 0 ? last : 0;
    r->disk_good = r->disk_last = last;
}

/* A received snapshot replaces what the disk has. If that has entries which were cut from
 * our log before, they go first, in a batch of their own: the store keeps entries above a
 * snapshot when the one at its index has its term, and must not keep those. */
static void give_snapshot(struct raft *r, struct raft_save *out)
{
    if (r->disk_good < r->disk_last) {
        out->truncate = true;
        out->first_index = r->disk_good + 1;
        r->disk_last = r->disk_good;
        r->flight.good = 0;
        return;
    }
    CHECK(r->snapshot_unsaved->index == r->log.base);
    out->snapshot = r->flight.snapshot = r->snapshot_unsaved;
    r->snapshot_unsaved = NULL;
    r->disk_good = r->disk_last = r->log.base;
    give_entries(r, out);
    if (r->flight.good < r->log.base)
        r->flight.good = r->log.base;
}

bool raft_save_take(struct raft *r, struct raft_save *out)
{
    *out = (struct raft_save){0};
    CHECK(r->is_started);
    if (r->flight.is_active)
        return false;
    bool hard = has_hard(r);
    if (!hard && r->snapshot_unsaved == NULL && r->disk_good == r->disk_last &&
        r->disk_good == r->log.last)
        return false;

    r->flight.n = 0;
    if (r->snapshot_unsaved != NULL)
        give_snapshot(r, out);
    else
        give_entries(r, out);
    out->hard = r->flight.hard = hard;
    out->term = r->given_term = r->term;
    out->vote = r->given_vote = r->vote;
    out->entries = r->flight.entries;
    out->n = r->flight.n;
    r->flight.is_active = true;
    buf_clear(&r->flight.answer);
    /* With a snapshot much more follows than an answer; a new term has to be saved before we
     * say anything in it. */
    if (!hard && r->flight.snapshot == NULL && raft_answer_prepare(r, r->flight.good)) {
        out->answer = &r->flight.answer;
        out->answer_to = r->leader;
    }
    return true;
}

static uint64_t match_of(const struct peer *p) { return p->match; }

bool raft_save_is_awaited(const struct raft *r)
{
    if (!r->flight.is_active)
        return false;
    if (has_hard(r) || r->flight.hard || r->snapshot_unsaved != NULL ||
        r->flight.snapshot != NULL || r->disk_good != r->disk_last ||
        r->disk_good != r->log.last)
        return true;
    if (r->commit > r->saved) /* committed by others, and not yet applied by us */
        return true;
    return r->role == RAFT_LEADER ? raft_quorum_value(r, match_of, r->flight.good) > r->commit
                                  : r->flight.answer.len == 0;
}

static void flight_end(struct raft *r)
{
    for (size_t i = 0; i < r->flight.n; i++)
        raft_entry_unref(r->flight.entries[i]);
    r->flight.n = 0;
    r->flight.is_active = false;
}

void raft_saved(struct raft *r, uint64_t now_ms)
{
    CHECK(r->flight.is_active);
    r->now_ms = now_ms > r->now_ms ? now_ms : r->now_ms;
    flight_end(r);
    if (r->flight.hard) {
        r->saved_term = r->given_term;
        r->saved_vote = r->given_vote;
    }
    if (r->flight.good > r->saved)
        r->saved = r->flight.good;
    r->flight.good = 0;
    if (r->flight.snapshot != NULL) {
        raft_blob_unref(r->install);
        r->install = r->flight.snapshot;
        r->flight.snapshot = NULL;
    }
    raft_election_saved(r);
    if (r->role == RAFT_LEADER)
        raft_commit_advance(r);
    raft_answer_saved(r);
}

void raft_save_free(struct raft *r)
{
    flight_end(r);
    mem_free(r->flight.entries);
    buf_free(&r->flight.answer);
    raft_blob_unref(r->flight.snapshot);
    raft_blob_unref(r->snapshot_unsaved);
    raft_blob_unref(r->install);
}
