/* SPDX-License-Identifier: Apache-2.0 */
/* open.c -- what a disk holds: read, checked, repaired where a crash explains it.
 *
 * Nothing is changed before everything has been checked. What is handed over has then been
 * synced: after a kill or a failed sync, the kernel may show bytes that no disk has, so the
 * last batch and the vote are written again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "store/state.h"

#define WINDOW_BYTES (1u << 20)
#define SEARCH_BYTES 4096u /* looked through at once */

/* A file seen through a window that moves along. */
struct reader {
    struct disk *disk;
    int file, err;
    uint64_t size, at; /* at: where `more` reads */
    uint64_t window_at;
    size_t window_len;
    struct buf window;
};

struct opening {
    struct store *s;
    struct disk *disk;
    struct buf *why;
    uint64_t *seqs; /* of the segments found; those before `oldest` are left-overs */
    size_t seqs_n, seqs_cap, oldest;
    uint64_t unborn; /* a segment that a crash kept from coming to be; 0: none */
    bool has_snapshot, snapshot_damaged;
    struct snapshot_file snapshot;
    char damaged_name[FORMAT_NAME_MAX];
    const char *damaged_why;
    struct raft_entry **entries; /* above the snapshot */
    size_t entries_n, entries_cap;
    uint64_t batch_at; /* where the last batch of the last segment begins */
    uint64_t end;      /* of what is good in the last segment */
    bool torn;
};

static int why(struct opening *o, int err, const char *name, uint64_t at, const char *what)
{
    if (o->why != NULL) {
        buf_printf(o->why, "%s", name);
        if (at != UINT64_MAX)
            buf_printf(o->why, " at byte %" PRIu64, at);
        buf_printf(o->why, " %s", what);
        if (err != ERR_CORRUPT)
            buf_printf(o->why, ": %s", err_text(err));
    }
    return err;
}

/* ---- reading ---- */

static const uint8_t *reader_get(struct reader *r, uint64_t at, size_t n)
{
    if (at > r->size || n > r->size - at)
        return NULL;
    if (at < r->window_at || at + n > r->window_at + r->window_len) {
        size_t want = n > WINDOW_BYTES ? n : WINDOW_BYTES, got = 0;
        if (want > r->size - at)
            want = (size_t)(r->size - at);
        buf_clear(&r->window);
        int err =
            r->disk->ops->read(r->disk, r->file, at, buf_reserve(&r->window, want), want, &got);
        if (err == 0 && got < n)
            err = ERR_IO;
        if (err != 0) {
            r->err = err;
            r->window_len = 0;
            return NULL;
        }
        buf_added(&r->window, got);
        r->window_at = at;
        r->window_len = got;
    }
    return r->window.data + (at - r->window_at);
}

static const uint8_t *reader_more(void *ctx, size_t n)
{
    struct reader *r = ctx;

    return reader_get(r, r->at, n);
}

static bool read_record(struct reader *r, const struct segment_header *h, uint64_t at,
                        struct record *rec)
{
    r->at = at;
    return at <= r->size && record_decode(rec, h, r->size - at, reader_more, r);
}

/* ---- the names ---- */

static void sort(uint64_t *v, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && v[k - 1] > v[k]; k--) {
            uint64_t x = v[k];
            v[k] = v[k - 1];
            v[k - 1] = x;
        }
}

static int read_names(struct opening *o)
{
    struct store *s = o->s;
    struct buf names = {0};
    uint64_t number;
    int err = o->disk->ops->list(o->disk, &names);

    for (size_t i = 0; err == 0 && i < names.len;) {
        const char *name = (const char *)names.data + i;
        i += strlen(name) + 1;
        if (name_parse(name, SEGMENT_PREFIX, &number)) {
            mem_grow(o->seqs, o->seqs_cap, o->seqs_n + 1);
            o->seqs[o->seqs_n++] = number;
        } else if (name_parse(name, SNAPSHOT_PREFIX, &number)) {
            mem_grow(s->snapshots, s->snapshots_cap, s->snapshots_n + 1);
            s->snapshots[s->snapshots_n++] = number;
        }
    }
    buf_free(&names);
    sort(o->seqs, o->seqs_n);
    sort(s->snapshots, s->snapshots_n);
    /* Old segments are removed from the front on; a crash can undo some of that, and leave a
     * hole. What is in front of it is not needed if the snapshot covers it: looked at below. */
    for (size_t i = 1; i < o->seqs_n; i++)
        if (o->seqs[i] != o->seqs[i - 1] + 1)
            o->oldest = i;
    return err == 0 ? 0 : why(o, err, "the data directory", UINT64_MAX, "cannot be listed");
}

/* ---- the vote ---- */

static int read_vote(struct opening *o)
{
    struct store *s = o->s;
    uint8_t slot[VOTE_SLOT_BYTES];
    struct vote_slot v;
    uint64_t bytes = 0;
    bool found = false;

    int err = o->disk->ops->open(o->disk, VOTE_NAME, 0, &s->vote_file);
    if (err == 0)
        err = o->disk->ops->size(o->disk, s->vote_file, &bytes);
    if (err != 0 && err != ERR_NOT_FOUND)
        return why(o, err, VOTE_NAME, UINT64_MAX, "cannot be opened");
    /* It is made in its full length. What is left of a shorter one may be the older vote. */
    bool is_whole = bytes >= (uint64_t)VOTE_SLOTS * VOTE_SLOT_BYTES;
    for (unsigned i = 0; is_whole && i < VOTE_SLOTS; i++) {
        size_t got = 0;
        err = o->disk->ops->read(o->disk, s->vote_file, i * VOTE_SLOT_BYTES, slot, sizeof slot,
                                 &got);
        if (err != 0)
            return why(o, err, VOTE_NAME, i * VOTE_SLOT_BYTES, "cannot be read");
        if (got < sizeof slot || !vote_slot_decode(&v, slot))
            continue;
        if (v.version != FORMAT_VERSION) /* not damage: see replay_segment() */
            return why(o, ERR_OTHER_VERSION, VOTE_NAME, i * VOTE_SLOT_BYTES,
                       "cannot be read by this one");
        if (!found || v.counter > s->vote.counter) {
            s->vote = v;
            found = true;
        }
    }
    /* Also with a vote file: one that opening has made, before a crash, says nothing. */
    s->was_new = s->vote.term == 0 && o->seqs_n == 0 && s->snapshots_n == 0;
    /* The vote is the first that a store writes: without one, there is nothing else. */
    if (!found && (o->seqs_n > 0 || s->snapshots_n > 0))
        return why(o, ERR_CORRUPT, VOTE_NAME, UINT64_MAX,
                   err == ERR_NOT_FOUND ? "is missing, but there is a log or a snapshot"
                   : !is_whole          ? "is damaged: it is shorter than it was made"
                                        : "is damaged: no slot has a right checksum");
    return 0;
}

static int create_vote(struct opening *o)
{
    struct store *s = o->s;
    int err = 0;

    if (s->vote_file < 0)
        err = o->disk->ops->open(o->disk, VOTE_NAME, 1, &s->vote_file);
    if (err == 0 && s->vote.counter == 0) /* nothing in it was believed, nor shall be */
        err = o->disk->ops->truncate(o->disk, s->vote_file, 0);
    if (err == 0)
        err = o->disk->ops->allocate(o->disk, s->vote_file,
                                     (uint64_t)VOTE_SLOTS * VOTE_SLOT_BYTES);
    return err == 0 ? 0 : why(o, err, VOTE_NAME, UINT64_MAX, "cannot be made");
}

/* ---- snapshots ---- */

/* The newest that is whole. One that is damaged stays where it is, for a person to look at,
 * until a newer one pushes it out. */
static int read_snapshots(struct opening *o, const struct store_load *load)
{
    struct store *s = o->s;

    while (s->snapshots_n > 0) {
        const char *reason;
        uint64_t index = s->snapshots[s->snapshots_n - 1];
        int err = snapshot_file_check(o->disk, index, &o->snapshot, &reason, load);
        if (err == 0) {
            o->has_snapshot = true;
            s->snapshot_bytes = o->snapshot.bytes;
            return 0;
        }
        o->snapshot = (struct snapshot_file){0};
        name_make(o->damaged_name, SNAPSHOT_PREFIX, index);
        if (err != ERR_CORRUPT)
            return why(o, err, o->damaged_name, UINT64_MAX, "cannot be read");
        if (!o->snapshot_damaged)
            o->damaged_why = reason;
        o->snapshot_damaged = true;
        REACHED(store_snapshot_older);
        s->snapshots_n--;
    }
    return 0;
}

/* ---- the log ---- */

static void drop_entries(struct opening *o, uint64_t from)
{
    while (o->entries_n > 0 && o->entries[o->entries_n - 1]->index >= from)
        raft_entry_unref(o->entries[--o->entries_n]);
}

static const char *replay_record(struct opening *o, const struct record *r)
{
    struct store *s = o->s;

    switch (r->type) {
    case RECORD_ENTRY + RAFT_ENTRY_EMPTY:
    case RECORD_ENTRY + RAFT_ENTRY_DATA:
    case RECORD_ENTRY + RAFT_ENTRY_CONFIG:
        if (r->index != s->next || r->index == 0)
            return "has an entry out of its order";
        if (r->term > s->vote.term)
            return "has an entry of a term that the vote file does not know: the vote is old";
        log_entry_added(s, r->index, r->term);
        if (r->index > o->snapshot.index) {
            mem_grow(o->entries, o->entries_cap, o->entries_n + 1);
            o->entries[o->entries_n++] = raft_entry_new(
                r->index, r->term, (enum raft_entry_type)(r->type - RECORD_ENTRY), r->payload,
                r->len);
        }
        return NULL;
    case RECORD_CUT:
        if (r->index > s->next || r->index == 0)
            return "drops entries that are not there";
        log_cut(s, r->index);
        drop_entries(o, r->index);
        return NULL;
    case RECORD_RESTART:
        if (r->index == 0)
            return "has a record that makes no sense";
        log_restart(s, r->index);
        drop_entries(o, 0);
        return NULL;
    default: return "has a record of an unknown kind";
    }
}

/* Is there a good record behind `at` which proves that what is at `at` had been synced? Behind
 * the end may be all that an earlier life of the file has left, so its records are many; theirs
 * are other checksums. *found: there is a good record of this life, of whatever batch. */
static bool later_batch_follows(struct reader *r, const struct segment_header *h, uint64_t at,
                                bool *found)
{
    struct record rec;

    for (uint64_t to = at; to + RECORD_HEADER_BYTES <= r->size;) {
        size_t n = r->size - to < SEARCH_BYTES ? (size_t)(r->size - to) : SEARCH_BYTES;
        const uint8_t *p = reader_get(r, to, n);
        size_t skip = p != NULL ? record_search(p, n) : n;
        to += skip;
        if (skip == n)
            continue;
        if (read_record(r, h, to, &rec)) {
            *found = true;
            if (rec.batch_at > at && rec.batch_at <= to)
                return true;
        }
        to += 8;
    }
    return false;
}

static bool only_zeros(struct reader *r, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to;) {
        uint64_t n = to - at < 4096 ? to - at : 4096;
        const uint8_t *p = reader_get(r, at, (size_t)n);
        for (uint64_t i = 0; p != NULL && i < n; i++)
            if (p[i] != 0)
                return false;
        at += n;
    }
    return true;
}

static int replay_records(struct opening *o, struct reader *r, const char *name, bool is_last)
{
    struct store *s = o->s;
    struct segment *g = &s->segments[s->segments_n - 1];
    uint64_t at = SEGMENT_HEADER_BYTES;
    struct record rec;

    o->batch_at = 0;
    while (read_record(r, &s->header, at, &rec) &&
           (rec.chain == s->chain || MUTANT(store_torn_accepted))) {
        const char *wrong = replay_record(o, &rec);
        if (wrong != NULL)
            return why(o, ERR_CORRUPT, name, at, wrong);
        o->batch_at = rec.batch_at;
        s->chain = rec.crc;
        at += record_bytes(rec.len);
    }
    g->bytes = at;
    o->end = at;
    /* In a segment that is not the last, an early end shows in the next one's header. */
    if (r->err == 0 && is_last) {
        bool found = false;
        if (later_batch_follows(r, &s->header, at, &found) && !MUTANT(store_damage_cut))
            return why(o, ERR_CORRUPT, name, at,
                       "has a damaged record, with good ones of later writes behind it");
        uint64_t left = r->size - at;
        o->torn = found || !only_zeros(r, at, at + (left < END_ZEROS ? left : END_ZEROS));
        if (o->torn)
            REACHED(store_torn);
    }
    return r->err == 0 ? 0 : why(o, r->err, name, r->at, "cannot be read");
}

static int replay_segment(struct opening *o, struct reader *r, uint64_t seq, bool is_last)
{
    struct store *s = o->s;
    struct segment_header h = {0};
    char name[FORMAT_NAME_MAX];
    bool is_first = s->segments_n == 0;

    name_make(name, SEGMENT_PREFIX, seq);
    const uint8_t *p = reader_get(r, 0, SEGMENT_HEADER_BYTES);
    if (r->err != 0)
        return why(o, r->err, name, 0, "cannot be read");
    if (p == NULL || !segment_header_decode(&h, p))
        return why(o, ERR_CORRUPT, name, 0, "has a damaged header");
    if (h.version != FORMAT_VERSION) /* not damage: nobody may set it aside for that */
        return why(o, ERR_OTHER_VERSION, name, 0, "cannot be read by this one");
    if (h.seq != seq)
        return why(o, ERR_CORRUPT, name, 0, "is of another number than its name says");
    if (!is_first && (h.chain != s->chain || h.next != s->next))
        return why(o, ERR_CORRUPT, name, 0,
                   "does not follow the segment before it, whose end is missing or damaged");
    s->header = h;
    s->chain = h.crc;
    if (is_first)
        s->next = h.next;
    mem_grow(s->segments, s->segments_cap, s->segments_n + 1);
    s->segments[s->segments_n++] = (struct segment){.seq = seq, .first = 1, .last = 0};
    return replay_records(o, r, name, is_last);
}

static int open_segment(struct opening *o, uint64_t seq, struct reader *r)
{
    char name[FORMAT_NAME_MAX];

    *r = (struct reader){.disk = o->disk, .file = -1};
    name_make(name, SEGMENT_PREFIX, seq);
    int err = o->disk->ops->open(o->disk, name, 0, &r->file);
    if (err == 0)
        err = o->disk->ops->size(o->disk, r->file, &r->size);
    if (err != 0)
        return why(o, err, name, UINT64_MAX, "cannot be opened");
    if (r->size > SEGMENT_BYTES_MAX)
        return why(o, ERR_CORRUPT, name, UINT64_MAX, "is longer than any segment");
    return 0;
}

static void close_segment(struct reader *r)
{
    if (r->file >= 0)
        r->disk->ops->close(r->disk, r->file);
    buf_free(&r->window);
}

/* A last segment without a header and without anything behind it: a crash came while it was
 * made, by a version that gave it its name before its header was there. Nothing was
 * acknowledged from it, since the header is synced before that; were it damage, the vote file
 * would often know (check_end), and records would be there. */
static int find_unborn(struct opening *o)
{
    struct reader r;
    struct segment_header h;

    if (o->seqs_n == 0)
        return 0;
    int err = open_segment(o, o->seqs[o->seqs_n - 1], &r);
    if (err == 0) {
        const uint8_t *p = reader_get(&r, 0, SEGMENT_HEADER_BYTES);
        bool whole = p != NULL && segment_header_decode(&h, p);
        if (!whole && only_zeros(&r, SEGMENT_HEADER_BYTES, r.size) && r.err == 0)
            o->unborn = o->seqs[--o->seqs_n];
    }
    close_segment(&r);
    if (o->oldest >= o->seqs_n)
        o->oldest = 0;
    return err;
}

static int replay(struct opening *o)
{
    struct store *s = o->s;

    for (size_t i = o->oldest; i < o->seqs_n; i++) {
        struct reader r;
        bool is_last = i + 1 == o->seqs_n;
        int err = open_segment(o, o->seqs[i], &r);
        if (err == 0)
            err = replay_segment(o, &r, o->seqs[i], is_last);
        if (err == 0 && is_last) {
            s->file = r.file;
            s->end = o->end;
            s->room = r.size;
            r.file = -1;
        }
        close_segment(&r);
        if (err != 0)
            return err;
    }
    s->disk_next = s->next;
    return 0;
}

/* ---- do they fit together? ---- */

static int check_end(struct opening *o)
{
    struct store *s = o->s;
    char name[FORMAT_NAME_MAX];
    const struct segment *g = s->segments_n > 0 ? &s->segments[s->segments_n - 1] : NULL;

    if (MUTANT(store_damage_cut))
        return 0;
    if (g == NULL ? s->vote.seq == 0
                  : g->seq > s->vote.seq || (g->seq == s->vote.seq && g->bytes >= s->vote.end))
        return 0;
    name_make(name, SEGMENT_PREFIX, s->vote.seq);
    return why(o, ERR_CORRUPT, name, g != NULL && g->seq == s->vote.seq ? g->bytes : UINT64_MAX,
               "is missing or damaged: the vote file says that more had been synced");
}

static int check_fit(struct opening *o)
{
    struct store *s = o->s;
    uint64_t index = o->snapshot.index, first = log_first(s);

    if (s->segments_n == 0 && !o->snapshot_damaged) {
        s->next = index + 1;
        s->restart = index > 0;
        return 0;
    }
    if (s->segments_n == 0 || first > index + 1) {
        if (o->snapshot_damaged)
            return why(o, ERR_CORRUPT, o->damaged_name, UINT64_MAX, o->damaged_why);
        return why(o, ERR_CORRUPT, "the log", UINT64_MAX,
                   "does not reach back to the newest snapshot: a file is missing");
    }
    /* The rule of store_save(), for a crash between snapshot and log. The snapshot stands for
     * index itself when the log begins right above. */
    if (index > 0 && first <= index && log_term(s, index) != o->snapshot.term) {
        drop_entries(o, 0);
        log_restart(s, index + 1);
        s->restart = true;
    }
    return 0;
}

static int check_terms(struct opening *o)
{
    if (o->snapshot.term > o->s->vote.term)
        return why(o, ERR_CORRUPT, VOTE_NAME, UINT64_MAX,
                   "is older than the newest snapshot: a vote is missing");
    return 0;
}

/* ---- repairs ---- */

static int rewrite_last_batch(struct opening *o)
{
    struct store *s = o->s;
    uint64_t from = o->batch_at;
    size_t got = 0;

    if (from > s->end) /* not possible with a right checksum */
        from = 0;
    size_t len = (size_t)(s->end - from);
    buf_clear(&s->out);
    int err = o->disk->ops->read(o->disk, s->file, from, buf_reserve(&s->out, len), len, &got);
    if (err == 0 && got < len)
        err = ERR_IO;
    if (err == 0)
        err = o->disk->ops->write(o->disk, s->file, from, s->out.data, len);
    return err;
}

static int repair_log(struct opening *o)
{
    struct store *s = o->s;
    int err = 0;

    if (s->file < 0)
        return 0;
    if (s->room > s->end && !MUTANT(store_rest_kept)) {
        /* What a torn write has left goes, and with it what was there before: it never comes
         * back, not even when the same bytes are written in front of it again. */
        err = o->disk->ops->truncate(o->disk, s->file, s->end);
        s->room = s->end;
    }
    s->torn_tails_total += o->torn;
    if (err == 0 && !MUTANT(store_tail_believed)) {
        err = rewrite_last_batch(o);
        if (err == 0)
            err = store_sync_file(s, s->file);
    }
    return err;
}

static int repair(struct opening *o)
{
    struct store *s = o->s;
    char name[FORMAT_NAME_MAX];

    int err = o->disk->ops->remove(o->disk, SNAPSHOT_NEW);
    if (err == ERR_NOT_FOUND)
        err = 0;
    if (err == 0)
        err = o->disk->ops->remove(o->disk, SNAPSHOT_RECEIVED);
    if (err == ERR_NOT_FOUND)
        err = 0;
    if (err == 0)
        err = spare_remove_found(o->disk);
    if (err == 0)
        err = repair_log(o);
    for (size_t i = 0; err == 0 && i < o->oldest; i++) {
        name_make(name, SEGMENT_PREFIX, o->seqs[i]);
        err = o->disk->ops->remove(o->disk, name);
    }
    if (err == 0 && o->unborn != 0) {
        name_make(name, SEGMENT_PREFIX, o->unborn);
        err = o->disk->ops->remove(o->disk, name);
    }
    if (err == 0)
        err = create_vote(o);
    if (err == 0)
        err = o->disk->ops->sync_dir(o->disk); /* also what a killed process had renamed */
    if (err == 0)
        err = store_rewrite_vote(s);
    if (err == 0)
        err = store_write_vote(s, s->vote.term, s->vote.vote);
    return err == 0 ? 0 : why(o, err, "the data directory", UINT64_MAX, "cannot be written");
}

/* ---- */

static void add_piece(void *ctx, const uint8_t *data, size_t len) { buf_add(ctx, data, len); }

/* Its pieces, if it is wanted so, have been handed over when it was checked. */
static int hand_over_snapshot(struct opening *o, const struct store_load *load)
{
    struct snapshot_file *f = &o->snapshot;
    char name[FORMAT_NAME_MAX];
    int err = 0;

    if (load->piece == NULL)
        err = snapshot_file_pieces(o->disk, f, f->len > 0 ? f->len : 1, add_piece, &f->buf);
    name_make(name, SNAPSHOT_PREFIX, f->index);
    if (err != 0)
        return why(o, err, name, UINT64_MAX, "cannot be read");
    load->snapshot(load->ctx, f->index, f->term, &f->members, f->buf.data, f->len);
    return 0;
}

static int hand_over(struct opening *o, const struct store_load *load)
{
    if (load->state != NULL)
        load->state(load->ctx, o->s->vote.term, o->s->vote.vote);
    if (load->snapshot != NULL && o->has_snapshot) {
        int err = hand_over_snapshot(o, load);
        if (err != 0)
            return err;
    }
    for (size_t i = 0; load->entry != NULL && i < o->entries_n; i++)
        load->entry(load->ctx, o->entries[i]);
    return 0;
}

int store_open(struct store **out, struct disk *disk, const struct store_options *options,
               const struct store_load *load, struct buf *why_out)
{
    struct store *s = mem_new(struct store);
    struct opening o = {.s = s, .disk = disk, .why = why_out};

    s->disk = disk;
    s->options = *options;
    if (s->options.segment_bytes == 0)
        s->options.segment_bytes = 16u << 20;
    if (s->options.segment_bytes > SEGMENT_BYTES_MAX / 2)
        s->options.segment_bytes = SEGMENT_BYTES_MAX / 2;
    if (s->options.snapshots_kept == 0)
        s->options.snapshots_kept = 2;
    s->file = s->vote_file = s->reserve_file = -1;
    s->next = s->disk_next = 1;
    pieces_init(s);

    int err = read_names(&o);
    if (err == 0)
        err = reserve_open(s);
    if (err == 0)
        err = read_vote(&o);
    if (err == 0)
        err = read_snapshots(&o, load);
    if (err == 0)
        err = find_unborn(&o);
    if (err == 0)
        err = replay(&o);
    if (err == 0)
        err = check_end(&o);
    if (err == 0)
        err = check_fit(&o);
    if (err == 0)
        err = check_terms(&o);
    if (err == 0)
        err = repair(&o);
    if (err == 0)
        err = hand_over(&o, load);

    drop_entries(&o, 0);
    mem_free(o.entries);
    mem_free(o.seqs);
    buf_free(&o.snapshot.buf);
    if (err != 0)
        store_free(s);
    *out = err == 0 ? s : NULL;
    return err;
}
