/* SPDX-License-Identifier: Apache-2.0 */
#include "store/scan.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "store/format.h"

#define ENTRIES_MAX (1u << 28) /* of one scan; more than any log keeps */

/* ---- names ---- */

struct numbers {
    uint64_t *v; /* ascending */
    size_t n, cap;
};

static int list_numbers(struct disk *d, const char *prefix, struct numbers *out,
                        struct buf *why)
{
    struct buf names = {0};
    uint64_t number;
    int err = d->ops->list(d, &names);

    for (size_t i = 0; err == 0 && i < names.len;) {
        const char *name = (const char *)names.data + i;
        i += strlen(name) + 1;
        if (!name_parse(name, prefix, &number))
            continue;
        mem_grow(out->v, out->cap, out->n + 1);
        size_t at = out->n++;
        for (; at > 0 && out->v[at - 1] > number; at--)
            out->v[at] = out->v[at - 1];
        out->v[at] = number;
    }
    buf_free(&names);
    if (err != 0)
        buf_printf(why, "the store cannot be listed: %s", err_text(err));
    return err;
}

/* ---- a segment ---- */

struct segment {
    char name[FORMAT_NAME_MAX];
    struct segment_header header;
    struct buf bytes;
    uint64_t at;
};

static int say(struct buf *why, int err, const char *name, uint64_t at, const char *what)
{
    buf_printf(why, "%s at byte %" PRIu64 " %s", name, at, what);
    return err;
}

/* A segment that is not needed any more gets another name, and only then other bytes: what was
 * read is of this one if it has its name yet. */
static int still_there(struct disk *d, const char *name)
{
    int file;
    int err = MUTANT(scan_reuse_unnoticed) ? 0 : d->ops->open(d, name, 0, &file);

    if (err == 0 && !MUTANT(scan_reuse_unnoticed))
        d->ops->close(d, file);
    return err;
}

/* All of it, or its header alone. */
static int read_segment(struct disk *d, uint64_t seq, bool header_only, struct segment *g,
                        struct buf *why)
{
    uint64_t size = SEGMENT_HEADER_BYTES;
    size_t got = 0;
    int file;

    name_make(g->name, SEGMENT_PREFIX, seq);
    buf_clear(&g->bytes);
    g->at = SEGMENT_HEADER_BYTES;
    int err = d->ops->open(d, g->name, 0, &file);
    if (err != 0) {
        buf_printf(why, "%s: %s", g->name, err_text(err));
        return err;
    }
    if (!header_only)
        err = d->ops->size(d, file, &size);
    if (err == 0 && size > SEGMENT_BYTES_MAX)
        err = ERR_CORRUPT;
    if (err == 0)
        err = d->ops->read(d, file, 0, buf_reserve(&g->bytes, (size_t)size + 1), (size_t)size,
                           &got);
    d->ops->close(d, file);
    if (err == 0 && (err = still_there(d, g->name)) == ERR_NOT_FOUND)
        return say(why, err, g->name, 0, "has gone while it was read");
    if (err != 0)
        return say(why, err, g->name, 0, "cannot be read");
    buf_added(&g->bytes, got);
    if (got < SEGMENT_HEADER_BYTES || !segment_header_decode(&g->header, g->bytes.data))
        return say(why, ERR_CORRUPT, g->name, 0, "has a damaged header");
    if (g->header.version != FORMAT_VERSION || g->header.seq != seq)
        return say(why, ERR_CORRUPT, g->name, 0, "is of another version, or another file");
    return 0;
}

static const uint8_t *more(void *ctx, size_t n)
{
    const struct segment *g = ctx;

    return n <= g->bytes.len - g->at ? g->bytes.data + g->at : NULL;
}

/* The next record; false at the end of what is good. */
static bool next_record(struct segment *g, uint32_t *chain, struct record *r)
{
    if (g->at > g->bytes.len || !record_decode(r, &g->header, g->bytes.len - g->at, more, g) ||
        r->chain != *chain)
        return false;
    *chain = r->crc;
    g->at += record_bytes(r->len);
    return true;
}

/* ---- the walk ---- */

struct walk {
    struct disk *disk;
    struct store_place from, to;
    uint64_t *terms; /* of [from.index, to.index], as the log has them in the end; 0: not */
    const struct store_scan *scan; /* NULL: the terms are only collected */
    uint64_t next;                 /* to be shown */
    bool is_done;
};

static void forget(struct walk *w, uint64_t from)
{
    for (uint64_t i = from > w->from.index ? from : w->from.index; i <= w->to.index; i++)
        w->terms[i - w->from.index] = 0;
}

static void collect(struct walk *w, const struct record *r)
{
    if (MUTANT(scan_cut_ignored) && r->type >= RECORD_CUT)
        return;
    if (r->type == RECORD_RESTART)
        forget(w, 0);
    else if (r->type == RECORD_CUT)
        forget(w, r->index);
    else if (r->index >= w->from.index && r->index <= w->to.index)
        w->terms[r->index - w->from.index] =
            MUTANT(scan_cut_ignored) && w->terms[r->index - w->from.index] != 0
                ? w->terms[r->index - w->from.index]
                : r->term;
    w->is_done = r->type < RECORD_CUT && r->index == w->to.index && r->term == w->to.term;
}

/* Index and term say which entry it is, so one that was cut and came again is the same. */
static int show(struct walk *w, const struct record *r)
{
    if (r->type >= RECORD_CUT || r->index != w->next ||
        r->term != w->terms[r->index - w->from.index])
        return 0;
    struct raft_entry *e =
        raft_entry_new(r->index, r->term, (enum raft_entry_type)r->type, r->payload, r->len);
    int err = w->scan->entry(w->scan->ctx, e);
    raft_entry_unref(e);
    w->next++;
    w->is_done = w->next > w->to.index;
    return err;
}

static int walk(struct walk *w, const struct numbers *seqs, size_t first, struct buf *why)
{
    struct segment g = {0};
    struct record r;
    uint32_t chain = 0;
    int err = 0;

    w->is_done = false;
    for (size_t i = first; err == 0 && !w->is_done && i < seqs->n; i++) {
        err = read_segment(w->disk, seqs->v[i], false, &g, why);
        if (err == 0 && i > first && g.header.chain != chain)
            err = say(why, ERR_CORRUPT, g.name, 0,
                      "does not follow the segment before it, whose end is missing or damaged");
        if (err != 0)
            break;
        chain = g.header.crc;
        while (err == 0 && !w->is_done && next_record(&g, &chain, &r)) {
            if (w->scan != NULL)
                err = show(w, &r);
            else
                collect(w, &r);
        }
    }
    if (err == 0 && !w->is_done)
        err = say(why, ERR_CORRUPT, g.name, g.at,
                  "has no good record, and the log should go on there");
    buf_free(&g.bytes);
    return err;
}

/* The last segment that begins at or before index. */
static int find_first(struct disk *d, const struct numbers *seqs, uint64_t index, size_t *first,
                      struct buf *why)
{
    struct segment g = {0};
    int err = ERR_NOT_FOUND;

    for (size_t i = seqs->n; i > 0; i--) {
        struct buf what = {0};
        int one = read_segment(d, seqs->v[i - 1], true, &g, &what);
        buf_free(&what);
        /* The last may be one that is just being made. */
        if (one == ERR_CORRUPT && i == seqs->n)
            continue;
        if (one != 0) {
            err = one;
            break;
        }
        if (g.header.next <= index) {
            *first = i - 1;
            err = 0;
            break;
        }
    }
    buf_free(&g.bytes);
    if (err != 0)
        buf_printf(why, "the log does not reach back to index %" PRIu64, index);
    return err;
}

static int check_base(const struct walk *w, bool is_strict, struct buf *why)
{
    for (uint64_t i = w->from.index + 1; i <= w->to.index; i++)
        if (w->terms[i - w->from.index] == 0) {
            buf_printf(why, "the log does not reach back to index %" PRIu64, i);
            return ERR_NOT_FOUND;
        }
    if (w->terms[0] == 0 && is_strict) {
        buf_printf(why, "the log does not reach back to index %" PRIu64, w->from.index);
        return ERR_NOT_FOUND;
    }
    if (w->terms[0] != 0 && w->terms[0] != w->from.term) {
        buf_printf(
            why, "the entry %" PRIu64 " is of term %" PRIu64 " here, and of %" PRIu64 " there",
            w->from.index, w->terms[0], w->from.term);
        return ERR_UNSAFE;
    }
    return 0;
}

int store_scan(struct disk *d, struct store_place from, bool is_strict, struct store_place to,
               const struct store_scan *scan, struct buf *why)
{
    struct walk w = {.disk = d, .from = from, .to = to, .next = from.index + 1};
    struct numbers seqs = {0};
    size_t first = 0;

    if (to.index <= from.index)
        return 0;
    if (to.index - from.index > ENTRIES_MAX) {
        buf_printf(why, "%" PRIu64 " entries are more than any log keeps",
                   to.index - from.index);
        return ERR_NOT_FOUND;
    }
    int err = list_numbers(d, SEGMENT_PREFIX, &seqs, why);
    if (err == 0)
        err = find_first(d, &seqs, is_strict ? from.index : from.index + 1, &first, why);
    if (err == 0) {
        w.terms = mem_new_array(uint64_t, (size_t)(to.index - from.index) + 1);
        err = walk(&w, &seqs, first, why);
    }
    if (err == 0)
        err = check_base(&w, is_strict, why);
    if (err == 0) {
        w.scan = scan;
        err = walk(&w, &seqs, first, why);
    }
    mem_free(w.terms);
    mem_free(seqs.v);
    return err;
}

/* ---- snapshots ---- */

int store_snapshot_newest(struct disk *d, uint64_t upto, struct store_snapshot *out,
                          struct buf *why)
{
    struct numbers all = {0};
    struct snapshot_file s;
    const char *reason = NULL;
    char name[FORMAT_NAME_MAX];

    *out = (struct store_snapshot){0};
    int err = list_numbers(d, SNAPSHOT_PREFIX, &all, why);
    bool is_found = false;
    for (size_t i = all.n; err == 0 && !is_found && i > 0; i--) {
        if (all.v[i - 1] > upto)
            continue;
        int one = snapshot_file_read(d, all.v[i - 1], &s, &reason);
        if (one == 0) {
            *out = (struct store_snapshot){.place = {s.index, s.term},
                                           .members = s.members,
                                           .data = s.data,
                                           .len = s.len,
                                           .bytes = s.buf};
            is_found = true;
            break;
        }
        buf_free(&s.buf);
        name_make(name, SNAPSHOT_PREFIX, all.v[i - 1]);
        buf_printf(why, "%s %s; ", name, reason != NULL ? reason : err_text(one));
        if (one != ERR_CORRUPT && one != ERR_NOT_FOUND)
            err = one;
    }
    mem_free(all.v);
    if (err != 0 || is_found)
        return err;
    if (why->len > 0)
        return ERR_CORRUPT;
    buf_printf(why, "there is no snapshot");
    return ERR_NOT_FOUND;
}

void store_snapshot_free(struct store_snapshot *s)
{
    buf_free(&s->bytes);
    *s = (struct store_snapshot){0};
}
