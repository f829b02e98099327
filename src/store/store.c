/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "store/state.h"

/* ---- the log in memory ---- */

uint64_t log_first(const struct store *s)
{
    for (size_t i = 0; i < s->segments_n; i++)
        if (s->segments[i].first <= s->segments[i].last)
            return s->segments[i].first;
    return s->next;
}

uint64_t log_term(const struct store *s, uint64_t index)
{
    if (index >= s->next || index < log_first(s))
        return 0;
    for (size_t i = s->runs_n; i-- > 0;)
        if (s->runs[i].index <= index)
            return s->runs[i].term;
    return 0;
}

void log_entry_added(struct store *s, uint64_t index, uint64_t term)
{
    struct segment *g = &s->segments[s->segments_n - 1];

    CHECK(index == s->next);
    if (g->first > g->last)
        g->first = index;
    g->last = index;
    s->next = index + 1;
    if (s->runs_n == 0 || s->runs[s->runs_n - 1].term != term) {
        mem_grow(s->runs, s->runs_cap, s->runs_n + 1);
        s->runs[s->runs_n++] = (struct term_run){index, term};
    }
}

void log_cut(struct store *s, uint64_t index)
{
    for (size_t i = 0; i < s->segments_n; i++) {
        struct segment *g = &s->segments[i];
        if (g->first >= index)
            g->first = 1, g->last = 0;
        else if (g->last >= index)
            g->last = index - 1;
    }
    while (s->runs_n > 0 && s->runs[s->runs_n - 1].index >= index)
        s->runs_n--;
    s->next = index;
}

void log_restart(struct store *s, uint64_t index)
{
    log_cut(s, 0);
    s->next = index;
}

/* ---- writing ---- */

int store_fail(struct store *s, int err, const char *what)
{
    (void)snprintf(s->last_error, sizeof s->last_error, "%s: %s", what, err_text(err));
    return err;
}

/* What is on the disk is not known any more: fail stop. */
static int fail_for_good(struct store *s, int err, const char *what)
{
    REACHED(store_sync_failed);
    s->broken = ERR_IO;
    return store_fail(s, err == ERR_DISK_FULL ? ERR_IO : err, what);
}

int store_sync_file(struct store *s, int file)
{
    s->syncs_total++;
    if (MUTANT(store_no_sync))
        return 0;
    return s->disk->ops->sync(s->disk, file);
}

/* Into the pair of slots that its counter says; the other one still stands. */
static int write_slots(struct store *s, const struct vote_slot *v)
{
    uint8_t bytes[2 * VOTE_SLOT_BYTES];

    if (MUTANT(store_vote_not_written))
        return 0;
    vote_slot_encode(v, bytes);
    memcpy(bytes + VOTE_SLOT_BYTES, bytes, VOTE_SLOT_BYTES);
    int err = s->disk->ops->write(s->disk, s->vote_file, (v->counter & 1) * sizeof bytes, bytes,
                                  sizeof bytes);
    if (err != 0)
        return err == ERR_DISK_FULL ? store_fail(s, err, "writing the vote")
                                    : fail_for_good(s, err, "writing the vote");
    err = store_sync_file(s, s->vote_file);
    return err == 0 ? 0 : fail_for_good(s, err, "syncing the vote");
}

int store_rewrite_vote(struct store *s)
{
    if (s->vote.counter == 0 || MUTANT(store_vote_believed))
        return 0;
    return write_slots(s, &s->vote);
}

int store_write_vote(struct store *s, uint64_t term, uint64_t vote)
{
    struct vote_slot v = {.counter = s->vote.counter + 1, .term = term, .vote = vote};

    if (s->segments_n > 0) {
        v.seq = s->segments[s->segments_n - 1].seq;
        v.end = s->end;
    }
    int err = write_slots(s, &v);
    if (err == 0)
        s->vote = v;
    return err;
}

/* Reserves up to `bytes` of the present segment, a step ahead when the disk has that. */
static int reserve_bytes(struct store *s, int file, uint64_t bytes, uint64_t *room)
{
    uint64_t step =
        SEGMENT_STEP < s->options.segment_bytes ? SEGMENT_STEP : s->options.segment_bytes;

    if (bytes <= *room)
        return 0;
    uint64_t ahead = (bytes + step - 1) / step * step;
    int err = s->disk->ops->fill(s->disk, file, ahead);
    if (err == ERR_DISK_FULL && bytes < ahead) {
        ahead = bytes;
        err = s->disk->ops->fill(s->disk, file, ahead);
    }
    if (err == 0)
        *room = ahead;
    return err;
}

/* Under another name: a file of the log has a whole header, or none at all does. */
static int write_header(struct store *s, int file, struct segment_header *h, uint64_t room)
{
    buf_clear(&s->out);
    segment_header_encode(h, buf_reserve(&s->out, SEGMENT_HEADER_BYTES));
    buf_added(&s->out, SEGMENT_HEADER_BYTES);
    segment_pad(s->out.len, room, &s->out);
    return s->disk->ops->write(s->disk, file, 0, s->out.data, s->out.len);
}

static int name_segment(struct store *s, int file, const char *from, uint64_t seq)
{
    char name[FORMAT_NAME_MAX];
    int err = MUTANT(store_header_late) ? 0 : store_sync_file(s, file);

    name_make(name, SEGMENT_PREFIX, seq);
    if (err == 0)
        err = s->disk->ops->rename(s->disk, from, name);
    if (err == 0 && !MUTANT(store_dir_not_synced))
        err = s->disk->ops->sync_dir(s->disk);
    return err;
}

/* What a failed write may have left behind the end. Synced: in a segment that is not the last
 * it would count as damage if it came back. */
static int cut_rest(struct store *s)
{
    if (!s->rest)
        return 0;
    int err = s->disk->ops->truncate(s->disk, s->file, s->end);
    if (err == ERR_DISK_FULL) /* also that may need some room: another time */
        return store_fail(s, err, "cutting a failed write");
    if (err == 0)
        err = store_sync_file(s, s->file);
    if (err != 0)
        return fail_for_good(s, err, "cutting a failed write");
    s->room = s->end;
    s->rest = false;
    return 0;
}

/* Begins a new segment. All of the old one is synced: its last checksum goes into the new
 * header, so that nothing of it can be missing unnoticed. */
static int new_segment(struct store *s)
{
    struct disk *d = s->disk;
    char from[FORMAT_NAME_MAX];
    int file = -1;
    uint64_t seq = s->segments_n > 0 ? s->segments[s->segments_n - 1].seq + 1 : s->vote.seq + 1;
    struct segment_header h = {.version = FORMAT_VERSION,
                               .seq = seq,
                               .salt = s->options.salt,
                               .next = s->disk_next,
                               .chain = s->chain};
    uint64_t room = 0;

    int err = cut_rest(s);
    if (err != 0)
        return err;
    err = spare_take(s, from, &file, &room);
    if (err == 0)
        err = reserve_bytes(s, file, SEGMENT_HEADER_BYTES, &room);
    if (err == 0)
        err = write_header(s, file, &h, room);
    if (err != 0) {
        if (file >= 0)
            d->ops->close(d, file);
        (void)d->ops->remove(d, from);
        return err == ERR_DISK_FULL ? store_fail(s, err, "beginning a log segment")
                                    : fail_for_good(s, err, "beginning a log segment");
    }
    err = name_segment(s, file, from, seq);
    if (err != 0) {
        d->ops->close(d, file);
        return fail_for_good(s, err, "syncing a new log segment");
    }
    if (s->file >= 0) {
        if (s->is_tight) /* else it is written again, all of it, when its turn comes */
            (void)d->ops->truncate(d, s->file, s->end);
        d->ops->close(d, s->file);
    }
    mem_grow(s->segments, s->segments_cap, s->segments_n + 1);
    s->segments[s->segments_n++] =
        (struct segment){.seq = seq, .bytes = SEGMENT_HEADER_BYTES, .first = 1, .last = 0};
    s->file = file;
    s->header = h;
    s->end = SEGMENT_HEADER_BYTES;
    s->room = room;
    s->chain = h.crc;
    return 0;
}

/* Makes sure that `bytes` more fit behind the end of the log. */
static int reserve(struct store *s, uint64_t bytes)
{
    bool full = s->end > SEGMENT_HEADER_BYTES && s->end + bytes > s->options.segment_bytes;

    int err = s->file < 0 || full ? new_segment(s) : cut_rest(s);
    if (err != 0)
        return err;
    err = reserve_bytes(s, s->file, s->end + bytes, &s->room);
    if (err != 0)
        return err == ERR_DISK_FULL ? store_fail(s, err, "reserving room for the log")
                                    : fail_for_good(s, err, "reserving room for the log");
    return 0;
}

/* Before its first record the vote file knows of the segment: one that is emptied or removed
 * later, all of it, would not be missed otherwise. */
static bool is_segment_untold(const struct store *s)
{
    return !MUTANT(store_segment_untold) && s->vote.seq != s->segments[s->segments_n - 1].seq;
}

/* What one save does to the log. */
struct plan {
    bool cut, restart;
    uint64_t next; /* the log's next index after the cut or restart */
};

static struct plan make_plan(const struct store *s, const struct raft_save *v)
{
    struct plan p = {.next = s->next, .restart = s->restart};

    if (v->snapshot != NULL) {
        /* [R] figure 13, step 6: what follows an entry with the snapshot's index and term
         * is kept; else the whole log goes. */
        if (log_term(s, v->snapshot->index) != v->snapshot->term) {
            p.restart = true;
            p.next = v->snapshot->index + 1;
        }
    } else if (v->truncate && v->first_index < s->next) {
        p.cut = true;
        p.next = v->first_index;
    }
    CHECK(v->n == 0 || v->entries[0]->index == p.next);
    return p;
}

static void add_record(struct store *s, struct record *r, uint64_t batch_at, uint32_t *chain)
{
    r->batch_at = (uint32_t)batch_at;
    r->chain = *chain;
    record_encode(r, &s->header, &s->out);
    *chain = r->crc;
}

static uint64_t plan_bytes(const struct plan *p, const struct raft_save *v)
{
    uint64_t bytes = p->cut || p->restart ? RECORD_HEADER_BYTES : 0;

    for (size_t i = 0; i < v->n; i++)
        bytes += record_bytes(v->entries[i]->len);
    return bytes;
}

/* One write, one sync; room is reserved. */
static int write_log(struct store *s, const struct plan *p, const struct raft_save *v)
{
    uint32_t chain = s->chain;

    buf_clear(&s->out);
    if ((p->cut || p->restart) && !MUTANT(store_no_truncate)) {
        struct record r = {.type = p->restart ? RECORD_RESTART : RECORD_CUT, .index = p->next};
        add_record(s, &r, s->end, &chain);
    }
    for (size_t i = 0; i < v->n; i++) {
        const struct raft_entry *e = v->entries[i];
        CHECK(e->index == p->next + i && e->len <= RAFT_ENTRY_MAX);
        if (MUTANT(store_no_truncate) && e->index < s->disk_next)
            continue;
        struct record r = {.type = RECORD_ENTRY + (unsigned)e->type,
                           .index = e->index,
                           .term = e->term,
                           .len = e->len,
                           .payload = e->payload};
        add_record(s, &r, s->end, &chain);
    }
    size_t len = s->out.len;
    segment_pad(s->end + len, s->room, &s->out);
    int err = s->disk->ops->write(s->disk, s->file, s->end, s->out.data, s->out.len);
    if (err != 0) {
        s->rest = true;
        return err == ERR_DISK_FULL ? store_fail(s, err, "writing the log")
                                    : fail_for_good(s, err, "writing the log");
    }
    err = store_sync_file(s, s->file);
    if (err != 0)
        return fail_for_good(s, err, "syncing the log");
    s->end += len;
    s->bytes_total += len;
    s->segments[s->segments_n - 1].bytes = s->end;
    s->chain = chain;
    return 0;
}

static void apply_plan(struct store *s, const struct plan *p, const struct raft_save *v)
{
    if (p->restart)
        log_restart(s, p->next);
    else if (p->cut)
        log_cut(s, p->next);
    for (size_t i = 0; i < v->n; i++)
        log_entry_added(s, v->entries[i]->index, v->entries[i]->term);
    s->entries_total += v->n;
    if (!MUTANT(store_no_truncate) || s->next > s->disk_next)
        s->disk_next = s->next;
    s->restart = false;
}

static void snapshot_added(struct store *s, uint64_t index, uint64_t bytes)
{
    mem_grow(s->snapshots, s->snapshots_cap, s->snapshots_n + 1);
    s->snapshots[s->snapshots_n++] = index;
    s->snapshot_bytes = bytes;
}

/* The order is what a crash in between may show: first the term, since no entry may stand
 * in the log with a term that the vote file does not know; then the snapshot, which alone
 * already means that the log before it is gone (open.c applies the same rule); then the
 * log. */
static int save_once(struct store *s, const struct raft_save *v)
{
    struct plan p = make_plan(s, v);
    uint64_t bytes = plan_bytes(&p, v), snapshot_bytes = 0;
    int err = 0;

    if (s->broken != 0)
        return s->broken;
    for (size_t i = 0; i < v->n; i++)
        CHECK(v->entries[i]->term <= (v->hard ? v->term : s->vote.term));
    bool is_received = v->snapshot != NULL && v->snapshot->data == NULL;
    /* By a try before this one, after which there was no room for the log. */
    bool is_named = is_received && v->snapshot->index == newest_snapshot(s);
    if (is_received) {
        pieces_drop_own(s, v->snapshot->index); /* nobody needs it any more, but its room */
        CHECK(is_named || pieces_has_received(s, v->snapshot->index));
    } else if (v->snapshot != NULL) {
        err = snapshot_file_write(s->disk, v->snapshot, &snapshot_bytes);
        if (err != 0)
            return err == ERR_DISK_FULL ? store_fail(s, err, "writing a snapshot")
                                        : fail_for_good(s, err, "writing a snapshot");
    }
    if (bytes > 0)
        err = reserve(s, bytes);
    if (err == 0 && v->hard)
        err = store_write_vote(s, v->term, v->vote);
    else if (err == 0 && bytes > 0 && is_segment_untold(s))
        err = store_write_vote(s, s->vote.term, s->vote.vote);
    if (err == 0 && v->snapshot != NULL && !is_named) {
        err = is_received
                  ? pieces_commit_received(s, &snapshot_bytes)
                  : snapshot_file_commit(s->disk, SNAPSHOT_RECEIVED, v->snapshot->index);
        if (err != 0)
            return fail_for_good(s, err, "naming a snapshot");
        if (v->snapshot->index > newest_snapshot(s))
            snapshot_added(s, v->snapshot->index, snapshot_bytes);
    }
    if (err == 0 && bytes > 0)
        err = write_log(s, &p, v);
    if (err != 0) {
        if (v->snapshot != NULL && !is_received)
            (void)s->disk->ops->remove(s->disk, SNAPSHOT_RECEIVED); /* gives its room back */
        return err;
    }
    apply_plan(s, &p, v);
    /* The save is done: what cannot be removed now is removed another time. */
    if (v->snapshot != NULL)
        (void)store_clean(s, v->snapshot->index);
    s->last_error[0] = 0;
    return 0;
}

int store_save(struct store *s, const struct raft_save *v)
{
    int err = save_once(s, v);

    while (err == ERR_DISK_FULL && reserve_relieve(s, v->snapshot == NULL))
        err = save_once(s, v);
    return err;
}

int store_snapshot_kept(struct store *s, uint64_t index, uint64_t bytes, uint64_t keep)
{
    if (index > newest_snapshot(s))
        snapshot_added(s, index, bytes);
    if (index >= s->next) {
        log_restart(s, index + 1);
        s->restart = true;
    }
    if (!s->is_tight)
        return store_clean(s, index > keep ? index - keep : 0);
    /* The segment that is written to cannot go: in need another one is begun early. */
    if (s->file >= 0 && s->end > s->options.segment_bytes / 16)
        (void)new_segment(s);
    return store_clean(s, index);
}

int store_clean(struct store *s, uint64_t floor)
{
    char name[FORMAT_NAME_MAX];
    int err = 0;

    while (s->snapshots_n > (s->is_tight ? 1 : s->options.snapshots_kept) && err == 0 &&
           (s->snapshots[0] != s->pinned || (s->is_tight && !MUTANT(disk_pin_holds)))) {
        name_make(name, SNAPSHOT_PREFIX, s->snapshots[0]);
        err = s->disk->ops->remove(s->disk, name);
        if (err == ERR_NOT_FOUND)
            err = 0;
        if (err == 0)
            memmove(s->snapshots, s->snapshots + 1, --s->snapshots_n * sizeof *s->snapshots);
    }
    /* An older snapshot is of use only with the log from there on. */
    if (s->snapshots_n > 0 && s->snapshots[0] < floor)
        floor = s->snapshots[0];
    while (s->segments_n > 1 && s->segments[0].last <= floor && err == 0) {
        err = spare_keep(s, s->segments[0].seq);
        if (err == 0)
            memmove(s->segments, s->segments + 1, --s->segments_n * sizeof *s->segments);
    }
    return err == 0 ? 0 : store_fail(s, err, "removing old files");
}

/* ---- the end, and facts ---- */

void store_free(struct store *s)
{
    pieces_free(s);
    if (s->file >= 0)
        s->disk->ops->close(s->disk, s->file);
    if (s->vote_file >= 0)
        s->disk->ops->close(s->disk, s->vote_file);
    if (s->reserve_file >= 0)
        s->disk->ops->close(s->disk, s->reserve_file);
    mem_free(s->segments);
    mem_free(s->runs);
    mem_free(s->snapshots);
    buf_free(&s->out);
    mem_free(s);
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    /* Says how far the log goes, so that rot in its last batch cannot pass for a torn write. */
    bool moved = s->segments_n > 0 &&
                 (s->vote.end != s->end || s->vote.seq != s->segments[s->segments_n - 1].seq);
    if (s->broken == 0 && s->file >= 0) /* what is behind need not be looked at again */
        (void)s->disk->ops->truncate(s->disk, s->file, s->end);
    if (s->broken == 0 && moved)
        (void)store_write_vote(s, s->vote.term, s->vote.vote);
    store_free(s);
}

void store_facts(const struct store *s, struct store_facts *out)
{
    *out = (struct store_facts){.first_index = log_first(s),
                                .last_index = s->next - 1,
                                .snapshot_index = newest_snapshot(s),
                                .snapshot_bytes = s->snapshot_bytes,
                                .syncs_total = s->syncs_total,
                                .entries_total = s->entries_total,
                                .bytes_total = s->bytes_total,
                                .torn_tails_total = s->torn_tails_total,
                                .spare_bytes = spare_bytes(s),
                                .was_new = s->was_new};
    for (size_t i = 0; i < s->segments_n; i++)
        out->log_bytes += s->segments[i].bytes;
    memcpy(out->last_error, s->last_error, sizeof out->last_error);
}
