/* SPDX-License-Identifier: Apache-2.0 */
/* A store's directory after something has been at its files. The first byte picks one of a few
 * stores with a history (segments, cuts, snapshots, votes); then changes of its files:
 * what (1 byte), which file (1), where (2), a value (1), how much (1).
 *
 * What opens all the same must be what was once written: entries, snapshot, term and vote. Who
 * changed one file of the log gets all of it or an error. And an opened store works: what it
 * saves then survives a power loss.
 *
 * One of the changes makes the checksums of a file right. That no disk does by itself, and what
 * is loaded then may be anything in order; but nobody may die of it. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "lib/sim_disk.h"
#include "store/format.h"
#include "store/scan.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { STORES = 4, STEPS = 40, ENTRIES_MAX = 5, FILES_MAX = 32, CHANGE_BYTES = 6 };

/* What was ever written to a store. */
struct history {
    struct sim_disk *disk;
    struct store_options options;
    struct raft_entry **entries;
    size_t entries_n, entries_cap;
    struct raft_blob *blobs[STEPS];
    size_t blobs_n;
    struct {
        uint64_t term, vote;
    } votes[STEPS + 1]; /* the first: none */
    size_t votes_n;
    uint64_t next; /* at its end */
};

static struct history histories[STORES];

/* ---- a store with a history ---- */

static struct raft_entry *make_entry(struct history *h, struct rng *rng, uint64_t index,
                                     uint64_t term)
{
    uint8_t bytes[300];
    size_t len = rng_below(rng, rng_below(rng, 4) == 0 ? sizeof bytes : 24);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)rng_next(rng);
    struct raft_entry *e =
        raft_entry_new(index, term, (enum raft_entry_type)rng_below(rng, 3), bytes, len);
    mem_grow(h->entries, h->entries_cap, h->entries_n + 1);
    return h->entries[h->entries_n++] = e;
}

static struct raft_blob *make_blob(struct history *h, struct rng *rng, uint64_t index,
                                   uint64_t term)
{
    const struct raft_members members = {.n = 1, .v = {{.id = index, .voter = true}}};
    size_t len = rng_below(rng, 400);
    uint8_t *data = mem_alloc(len + 1);

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)rng_next(rng);
    return h->blobs[h->blobs_n++] = raft_blob_new_take(index, term, &members, data, len);
}

/* terms[i]: of the entry at index i, while there is one. */
static void one_step(struct history *h, struct store *s, struct rng *rng, uint64_t terms[])
{
    struct raft_save v = {.term = h->votes[h->votes_n - 1].term,
                          .vote = h->votes[h->votes_n - 1].vote};
    struct raft_entry *entries[ENTRIES_MAX];
    struct store_facts f;
    uint64_t kind = rng_below(rng, 10);

    store_facts(s, &f);
    if (kind == 0 && h->next > f.snapshot_index + 2) {
        uint64_t index = f.snapshot_index + 1 + rng_below(rng, h->next - f.snapshot_index - 1);
        struct raft_blob *b = make_blob(h, rng, index, terms[index]);
        CHECK(store_snapshot(s, b, rng_below(rng, 4)) == 0);
        return;
    }
    if (kind < 3 || v.term == 0) {
        v.hard = true;
        v.term += 1 + rng_below(rng, 2);
        v.vote = rng_below(rng, 4);
        h->votes[h->votes_n].term = v.term;
        h->votes[h->votes_n++].vote = v.vote;
    }
    if (kind == 3 && h->next > f.snapshot_index + 1) {
        v.truncate = true;
        h->next = f.snapshot_index + 1 + rng_below(rng, h->next - f.snapshot_index);
    }
    if (kind == 4) {
        v.snapshot = make_blob(h, rng, h->next + rng_below(rng, 3), v.term);
        h->next = v.snapshot->index + 1;
    }
    v.first_index = h->next;
    v.entries = entries;
    for (v.n = 0; v.n < 1 + rng_below(rng, ENTRIES_MAX - 1); v.n++) {
        terms[h->next] = v.term;
        entries[v.n] = make_entry(h, rng, h->next++, v.term);
    }
    CHECK(store_save(s, &v) == 0);
}

static void make_history(struct history *h, uint64_t seed)
{
    struct rng rng = {seed};
    uint64_t terms[STEPS * (ENTRIES_MAX + 4)] = {0};
    const struct store_load nothing = {0};
    struct store *s;

    h->disk = sim_disk_new(seed);
    h->options = (struct store_options){
        .segment_bytes = 600 + 400 * seed, .snapshots_kept = 1 + seed % 2, .salt = seed};
    h->next = h->votes_n = 1;
    CHECK(store_open(&s, sim_disk_disk(h->disk), &h->options, &nothing, NULL) == 0);
    for (unsigned i = 0; i < STEPS; i++)
        one_step(h, s, &rng, terms);
    if (seed % 2 == 0) { /* as a kill leaves it: with an earlier life behind the log's end */
        const struct raft_save vote = {.hard = true,
                                       .term = h->votes[h->votes_n - 1].term,
                                       .vote = h->votes[h->votes_n - 1].vote};
        struct sim_disk *closed = h->disk;
        CHECK(store_save(s, &vote) == 0); /* which says how far the log goes */
        h->disk = sim_disk_copy(closed, seed);
        store_close(s);
        sim_disk_free(closed);
    } else {
        store_close(s);
    }
}

/* ---- what is loaded ---- */

struct loaded {
    const struct history *h;
    bool is_forged, is_saved_too; /* with an entry more, that we have saved ourselves */
    uint64_t term, vote, snapshot, next, sum;
};

static void load_state(void *ctx, uint64_t term, uint64_t vote)
{
    struct loaded *l = ctx;
    bool is_known = l->is_forged;

    for (size_t i = 0; i < l->h->votes_n; i++)
        is_known |= l->h->votes[i].term == term && l->h->votes[i].vote == vote;
    CHECK(is_known);
    l->term = term;
    l->vote = vote;
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct loaded *l = ctx;
    bool is_known = l->is_forged;

    for (size_t i = 0; i < l->h->blobs_n; i++) {
        const struct raft_blob *b = l->h->blobs[i];
        is_known |= b->index == index && b->term == term && b->len == len &&
                    memcmp(b->data, data, len) == 0 && b->members.n == members->n &&
                    b->members.v[0].id == members->v[0].id;
    }
    CHECK(is_known);
    l->snapshot = index;
    l->next = index + 1;
    l->sum = hash_bytes(l->sum + term, data, len);
}

static void load_entry(void *ctx, struct raft_entry *e)
{
    struct loaded *l = ctx;
    bool is_known = l->is_forged || l->is_saved_too;

    for (size_t i = 0; i < l->h->entries_n; i++) {
        const struct raft_entry *k = l->h->entries[i];
        is_known |= k->index == e->index && k->term == e->term && k->type == e->type &&
                    k->len == e->len && memcmp(k->payload, e->payload, e->len) == 0;
    }
    CHECK(is_known);
    CHECK(e->index == l->next);
    l->next = e->index + 1;
    l->sum = hash_bytes(l->sum + e->term, e->payload, e->len);
}

static int open_it(struct loaded *l, struct sim_disk *d, struct store **s)
{
    const struct store_load load = {l, load_state, load_snapshot, load_entry, NULL};
    struct buf why = {0};

    l->next = 1;
    l->term = l->vote = l->snapshot = l->sum = 0;
    int err = store_open(s, sim_disk_disk(d), &l->h->options, &load, &why);
    CHECK((err == 0) == (why.len == 0));
    buf_free(&why);
    return err;
}

static int scan_entry(void *ctx, const struct raft_entry *e)
{
    struct loaded *l = ctx;
    struct raft_entry *copy = raft_entry_new(e->index, e->term, e->type, e->payload, e->len);

    if (l->next == 0)
        l->next = e->index;
    load_entry(l, copy);
    raft_entry_unref(copy);
    return 0;
}

/* Read as a backup reads it, beside a server: only what was once written, too. */
static void scan(const struct history *h, struct sim_disk *d, bool is_forged)
{
    struct loaded l = {.h = h, .is_forged = is_forged};
    const struct store_scan each = {&l, scan_entry};
    const struct store_place from = {0, 0}, to = {h->next - 1, h->votes[h->votes_n - 1].term};
    struct store_snapshot newest = {.len = 0};
    struct buf why = {0};

    (void)store_scan(sim_disk_disk(d), from, false, to, &each, &why);
    if (store_snapshot_newest(sim_disk_disk(d), UINT64_MAX, &newest, &why) == 0) {
        load_snapshot(&l, newest.place.index, newest.place.term, &newest.members, newest.data,
                      newest.len);
        store_snapshot_free(&newest);
    }
    buf_free(&why);
}

/* It goes on: an entry more, a power loss, and all is there again. */
static void check_works(struct loaded *l, struct sim_disk *d, struct store *s)
{
    struct raft_entry *e = raft_entry_new(l->next, l->term, RAFT_ENTRY_DATA, "more", 4);
    const struct raft_save v = {
        .term = l->term, .vote = l->vote, .first_index = l->next, .entries = &e, .n = 1};
    uint64_t sum = hash_bytes(l->sum + l->term, e->payload, e->len), next = l->next + 1;

    if (store_save(s, &v) == 0) {
        sim_disk_stop_after(d, 0); /* what closing writes is not needed */
        store_close(s);
        sim_disk_power_loss(d);
        l->is_saved_too = true;
        CHECK(open_it(l, d, &s) == 0);
        CHECK(l->sum == sum && l->next == next);
    } else {
        CHECK(l->is_forged); /* an index at its end, a segment that is too long */
    }
    store_close(s);
    raft_entry_unref(e);
}

/* ---- what happens to the files ---- */

struct changes {
    struct sim_disk *disk;
    bool is_forged;
    unsigned log_files, others; /* that were changed */
    const char *changed;
};

static void forge_segment(uint8_t *p, size_t n)
{
    struct segment_header h;
    uint32_t chain;

    if (n < SEGMENT_HEADER_BYTES)
        return;
    (void)segment_header_decode(&h, p);
    segment_header_encode(&h, p);
    chain = h.crc;
    for (size_t at = SEGMENT_HEADER_BYTES; at + RECORD_HEADER_BYTES <= n;) {
        uint8_t *q = p + at;
        struct record r = {.type = q[8],
                           .index = be64_get(q + 8) << 8 >> 8,
                           .term = be64_get(q + 16),
                           .len = be32_get(q + 4),
                           .batch_at = be32_get(q + 24),
                           .chain = chain,
                           .payload = q + RECORD_HEADER_BYTES};
        struct buf out = {0};
        if (be32_get(q) == 0 || record_bytes(r.len) > n - at)
            return;
        record_encode(&r, &h, &out);
        memcpy(q, out.data, out.len);
        at += out.len;
        chain = r.crc;
        buf_free(&out);
    }
}

static void forge(const char *name, uint8_t *p, size_t n)
{
    if (strncmp(name, SEGMENT_PREFIX, strlen(SEGMENT_PREFIX)) == 0)
        forge_segment(p, n);
    else if (strcmp(name, VOTE_NAME) == 0)
        for (size_t at = 0; at + VOTE_SLOT_BYTES <= n; at += VOTE_SLOT_BYTES)
            be32_put(p + at + 48, crc32c(0, p + at, 48));
    else if (n >= 4)
        be32_put(p + n - 4, crc32c(0, p, n - 4));
}

static const char *file_of(const struct sim_disk *d, unsigned pick)
{
    unsigned n = 0;

    while (n < FILES_MAX && sim_disk_name(d, n) != NULL)
        n++;
    return n > 0 ? sim_disk_name(d, pick % n) : NULL;
}

static void fill(uint8_t *p, size_t n, uint8_t value) { memset(p, value, n); }

static void change(struct changes *c, const uint8_t *in)
{
    char name[FORMAT_NAME_MAX];
    const char *picked = file_of(c->disk, in[1]), *other = file_of(c->disk, in[4]);
    const uint8_t *old;
    size_t n;

    if (picked == NULL)
        return;
    memcpy(name, picked, strlen(picked) + 1);
    CHECK(sim_disk_get(c->disk, name, &old, &n));
    uint8_t *p = mem_alloc(n + 256);
    if (n > 0)
        memcpy(p, old, n);
    size_t at = n > 0 ? (size_t)(in[2] << 8 | in[3]) % n : 0;
    size_t some = in[5] < n - at ? in[5] : n - at;
    switch (in[0] % 10) {
    case 0: p[at] ^= (uint8_t)(1u << in[4] % 8); break;
    case 1: p[at] = in[4]; break;
    case 2: fill(p + at, some, in[4]); break;
    case 3: n = at; break;
    case 4: /* from elsewhere in it */
        memmove(p + at, p + (size_t)in[4] * 8 % (n - some + 1), some);
        break;
    case 5: /* more behind it */
        fill(p + n, in[5], in[4]);
        n += in[5];
        break;
    case 6: n = SIZE_MAX; break; /* gone */
    case 7:                      /* the bytes of another file */
        mem_free(p);
        CHECK(sim_disk_get(c->disk, other, &old, &n));
        p = n > 0 ? mem_dup(old, n) : NULL;
        break;
    case 8: /* a number */
        if (at + 8 <= n)
            be64_put(p + at, in[5] % 2 == 0 ? in[4] : UINT64_MAX - in[4]);
        break;
    default: forge(name, p, n); c->is_forged = true;
    }
    if (n == SIZE_MAX)
        sim_disk_remove(c->disk, name);
    else
        sim_disk_put(c->disk, name, p, n);
    mem_free(p);
    if (strncmp(name, SEGMENT_PREFIX, strlen(SEGMENT_PREFIX)) == 0)
        c->log_files++;
    else
        c->others++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct history *h = &histories[data[0] % STORES];
    if (h->disk == NULL)
        make_history(h, data[0] % STORES + 1);
    struct changes c = {.disk = sim_disk_copy(h->disk, 1)};
    struct loaded l = {.h = h};
    struct store *s = NULL;

    for (size_t at = 1; at + CHANGE_BYTES <= len && at < 30 * CHANGE_BYTES; at += CHANGE_BYTES)
        change(&c, data + at);
    l.is_forged = c.is_forged;
    scan(h, c.disk, c.is_forged);
    int err = open_it(&l, c.disk, &s);
    CHECK(err == 0 || err == ERR_CORRUPT || (err == ERR_OTHER_VERSION && c.is_forged));
    if (err == 0 && !c.is_forged && c.others == 0)
        CHECK(l.next == h->next && l.term == h->votes[h->votes_n - 1].term);
    if (err == 0)
        check_works(&l, c.disk, s);
    sim_disk_free(c.disk);
    return 0;
}
