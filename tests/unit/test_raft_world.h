/* SPDX-License-Identifier: Apache-2.0 */
/* test_raft_world.h -- some raft servers, their disks and the network between them, in one
 * process and under the test's hand. For the tests of raft alone.
 *
 * Checked after each event, whatever the test does ([R] figure 3):
 *   election safety         one leader a term at most
 *   log matching            the same index and term: the same entry, the same one before it
 *   leader completeness     a new leader has all that was ever committed
 *   state machine safety    all servers apply the same entry at an index
 * and: a read's index covers what anybody had applied when it was asked; between servers
 * that work no message is refused.
 *
 * A crash loses what is in memory and the save under way, of which a prefix may survive.
 */
#ifndef MUSTER_TEST_RAFT_WORLD_H
#define MUSTER_TEST_RAFT_WORLD_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/rng.h"
#include "raft/raft.h"
#include "shelf.h"

#define WORLD_SERVERS 8
#define WORLD_READS 4096
#define WORLD_PACKETS 5000 /* under way at once; more is a storm */

struct world_disk {
    uint64_t term, vote;
    bool has_snapshot;
    uint64_t snapshot_index, snapshot_term, snapshot_sum;
    struct raft_members snapshot_members;
    struct raft_entry **v; /* v[i] has index first + i */
    size_t n, room;
    uint64_t first;
};

struct world_server {
    uint64_t id;
    bool is_up, has_save, holds_disk;
    struct raft *raft;
    uint64_t now_ms;
    uint64_t sum; /* the state machine: a hash over all that was applied */
    uint64_t save_due_ms;
    uint64_t
        frozen_until_ms; /* stopped, as by SIGSTOP: nothing happens to it, no time passes */
    struct raft_save save;
    struct world_disk disk;
    struct shelf shelf;
    uint64_t seen_commit, seen_term; /* seen_term: in which it was last seen to lead */
    uint64_t starts;
};

struct world_packet {
    struct world_packet *next;
    uint64_t from, to, due_ms;
    size_t len;
    uint8_t data[];
};

/* What stands at an index with a term, anywhere, ever. */
struct world_entry {
    struct hash_link link;
    uint64_t index, term, before, sum;
};

/* What was committed, and what the state machine was after it. */
struct world_commit {
    uint64_t term, sum;
    uint64_t in_term; /* of who first knew it to be committed */
};

struct world_read {
    uint64_t ctx;
    uint64_t floor;
    unsigned state; /* 0 free, 1 asked, 2 answered, 3 dropped */
    uint64_t index;
};

struct world {
    struct rng rng;
    struct raft_options options;
    uint64_t now_ms;
    struct world_server v[WORLD_SERVERS];
    unsigned n;
    bool cut[WORLD_SERVERS + 1][WORLD_SERVERS + 1]; /* from, to */
    struct world_packet *packets, **packets_end;
    size_t packets_n;
    bool holds_net;
    unsigned lose_percent, double_percent, delay_ms, save_ms;
    uint64_t state_bytes; /* of a snapshot */

    struct hash_table entries;
    struct world_commit *commits;
    uint64_t committed, commits_room; /* commits[1 .. committed] */
    uint64_t applied;                 /* by anybody */
    uint64_t leader_of[4096];         /* by term */
    struct world_read reads[WORLD_READS];
    uint64_t elections, messages, snapshots_installed, restarts, truncations;
    bool is_hostile; /* messages are forged: nothing is checked but that nobody dies */
    char failure[256];
};

__attribute__((format(printf, 2, 3))) static void world_fail(struct world *w,
                                                             const char *format, ...)
{
    va_list args;

    if (w->failure[0] != 0)
        return;
    va_start(args, format);
    (void)vsnprintf(w->failure, sizeof w->failure, format, args);
    va_end(args);
}

static struct world_server *world_server(struct world *w, uint64_t id)
{
    CHECK(id >= 1 && id <= w->n);
    return &w->v[id - 1];
}

/* ---- checks ---- */

static uint64_t world_sum(uint64_t before, const struct raft_entry *e)
{
    return hash_u64(before ^ hash_u64(e->index) ^
                    hash_bytes(e->term + e->type, e->payload, e->len));
}

static void world_check_entry(struct world *w, uint64_t before, const struct raft_entry *e)
{
    uint64_t key = hash_u64(e->index * 1000003 + e->term), sum = world_sum(0, e);

    for (struct hash_link *l = hash_first(&w->entries, key); l != NULL; l = hash_next(l)) {
        const struct world_entry *known = HASH_ENTRY(l, struct world_entry, link);
        if (known->index != e->index || known->term != e->term)
            continue;
        if (known->sum != sum || known->before != before)
            world_fail(w, "log matching: index %llu term %llu", (unsigned long long)e->index,
                       (unsigned long long)e->term);
        return;
    }
    struct world_entry *new = mem_new(struct world_entry);
    new->index = e->index;
    new->term = e->term;
    new->before = before;
    new->sum = sum;
    hash_insert(&w->entries, &new->link, key);
}

static void world_check_leader(struct world *w, struct world_server *s)
{
    uint64_t term = raft_term(s->raft);

    if (raft_role(s->raft) != RAFT_LEADER || s->seen_term == term)
        return;
    s->seen_term = term;
    w->elections++;
    CHECK(term < 4096);
    if (w->leader_of[term] != 0 && w->leader_of[term] != s->id)
        world_fail(w, "election safety: %llu and %llu in term %llu",
                   (unsigned long long)w->leader_of[term], (unsigned long long)s->id,
                   (unsigned long long)term);
    w->leader_of[term] = s->id;
    for (uint64_t i = raft_first_index(s->raft); i <= w->committed; i++)
        if (w->commits[i].in_term < term && raft_entry_term(s->raft, i) != w->commits[i].term) {
            world_fail(w, "leader completeness: %llu in term %llu at index %llu",
                       (unsigned long long)s->id, (unsigned long long)term,
                       (unsigned long long)i);
            return;
        }
}

static void world_check_commit(struct world *w, struct world_server *s)
{
    uint64_t commit = raft_committed(s->raft);

    if (s->seen_commit < raft_first_index(s->raft) - 1)
        s->seen_commit = raft_first_index(s->raft) - 1;
    for (uint64_t i = s->seen_commit + 1; i <= commit; i++) {
        uint64_t term = raft_entry_term(s->raft, i);
        mem_grow(w->commits, w->commits_room, i + 1);
        if (i > w->committed) {
            w->commits[i] = (struct world_commit){.term = term, .in_term = raft_term(s->raft)};
            w->committed = i;
        } else if (w->commits[i].term != term) {
            world_fail(w, "state machine safety: index %llu committed in terms %llu and %llu",
                       (unsigned long long)i, (unsigned long long)w->commits[i].term,
                       (unsigned long long)term);
        }
    }
    s->seen_commit = commit;
}

static void world_check_applied(struct world *w, const struct world_server *s, uint64_t index)
{
    if (index > w->applied)
        w->applied = index;
    if (index > w->committed)
        world_fail(w, "applied %llu, not committed", (unsigned long long)index);
    else if (w->commits[index].sum == 0)
        w->commits[index].sum = s->sum;
    else if (w->commits[index].sum != s->sum)
        world_fail(w, "state machine safety: %llu differs after index %llu",
                   (unsigned long long)s->id, (unsigned long long)index);
}

/* After each event; what it leads to may be taken out later. */
static void world_look(struct world *w, struct world_server *s)
{
    if (w->is_hostile)
        return;
    world_check_leader(w, s);
    world_check_commit(w, s);
}

/* ---- the disk ---- */

static void disk_drop_all(struct world_disk *d)
{
    for (size_t i = 0; i < d->n; i++)
        raft_entry_unref(d->v[i]);
    d->n = 0;
}

static void disk_cut(struct world_disk *d, uint64_t from)
{
    while (d->n > 0 && d->first + d->n > from)
        raft_entry_unref(d->v[--d->n]);
}

static void disk_append(struct world *w, struct world_disk *d, struct raft_entry *e)
{
    if (d->n == 0)
        d->first = e->index;
    if (e->index != d->first + d->n) {
        world_fail(w, "a gap on disk at %llu", (unsigned long long)e->index);
        return;
    }
    mem_grow(d->v, d->room, d->n + 1);
    d->v[d->n++] = raft_entry_ref(e);
}

static uint64_t received_sum(const struct world_server *s)
{
    const struct buf *b = &s->shelf.received.bytes;

    return b->len >= 8 ? be64_get(b->data) : 0;
}

/* Writes the first `n` entries of a save; term and vote come last, so only with all. */
static void disk_write(struct world *w, struct world_server *s, const struct raft_save *save,
                       size_t n)
{
    struct world_disk *d = &s->disk;

    if (save->snapshot != NULL) {
        const struct raft_blob *b = save->snapshot;
        bool keeps = false; /* the core takes no snapshot of what it has */
        for (size_t i = 0; i < d->n; i++)
            keeps |= d->v[i]->index == b->index && d->v[i]->term == b->term;
        if (keeps)
            world_fail(w, "a snapshot that was not needed, at %llu",
                       (unsigned long long)b->index);
        disk_drop_all(d);
        d->has_snapshot = true;
        d->snapshot_index = b->index;
        d->snapshot_term = b->term;
        d->snapshot_members = b->members;
        CHECK(s->shelf.received.index == b->index && s->shelf.received.bytes.len == b->len);
        d->snapshot_sum = received_sum(s);
    } else if (save->truncate) {
        w->truncations++;
        disk_cut(d, save->first_index);
    } else if (save->n > 0 && d->n > 0 && d->first + d->n > save->first_index) {
        world_fail(w, "entries written over others at %llu",
                   (unsigned long long)save->first_index);
    }
    for (size_t i = 0; i < n; i++)
        disk_append(w, d, save->entries[i]);
    if (save->hard && n == save->n) {
        d->term = save->term;
        d->vote = save->vote;
    }
}

static void world_save_finish(struct world *w, struct world_server *s)
{
    CHECK(s->has_save);
    s->has_save = false;
    disk_write(w, s, &s->save, s->save.n);
    raft_saved(s->raft, s->now_ms);
    world_look(w, s);
}

/* A snapshot of its own, as of now: the log on disk begins behind it, the one in memory
 * `keep` entries before. Between two saves. */
static void world_store_snapshot(struct world_server *s, uint64_t keep)
{
    struct world_disk *d = &s->disk;
    uint64_t index = raft_applied(s->raft);
    size_t gone = 0;

    CHECK(!s->has_save);
    if (index <= d->snapshot_index)
        return;
    d->has_snapshot = true;
    d->snapshot_index = index;
    d->snapshot_term = raft_applied_term(s->raft);
    d->snapshot_members = *raft_members_applied(s->raft);
    d->snapshot_sum = s->sum;
    while (gone < d->n && d->v[gone]->index <= index)
        raft_entry_unref(d->v[gone++]);
    d->n -= gone;
    memmove(d->v, d->v + gone, d->n * sizeof *d->v);
    d->first = index + 1;
    raft_compact(s->raft, index, keep);
}

/* ---- taking out what a server wants ---- */

static void world_send(struct world *w, uint64_t from, uint64_t to, const struct buf *bytes)
{
    if (to > w->n || w->cut[from][to])
        return;
    if (rng_below(&w->rng, 100) < w->lose_percent)
        return;
    unsigned copies = 1 + (rng_below(&w->rng, 100) < w->double_percent);
    for (; copies > 0; copies--) {
        struct world_packet *p = mem_alloc(sizeof *p + bytes->len);
        p->from = from;
        p->to = to;
        p->due_ms = w->now_ms + (w->delay_ms > 0 ? rng_below(&w->rng, w->delay_ms) : 0);
        p->len = bytes->len;
        memcpy(p->data, bytes->data, bytes->len);
        *w->packets_end = p;
        w->packets_end = &p->next;
        w->packets_n++;
        w->messages++;
    }
    if (w->packets_n > WORLD_PACKETS)
        world_fail(w, "messages multiply");
}

/* A snapshot as of now, on the shelf, for others. */
static struct raft_blob *world_blob(const struct world *w, struct world_server *s)
{
    struct shelf_snapshot *v = &s->shelf.kept;
    size_t len = 8 + (size_t)w->state_bytes;

    v->index = raft_applied(s->raft);
    buf_clear(&v->bytes);
    buf_add_be64(&v->bytes, s->sum);
    for (size_t i = 8; i < len; i++)
        buf_add_u8(&v->bytes, (uint8_t)(i * 31));
    return raft_blob_new_take(v->index, raft_applied_term(s->raft),
                              raft_members_applied(s->raft), NULL, len);
}

static void world_jobs(struct world_server *s)
{
    struct raft_job job;

    while (raft_job_take(s->raft, &job))
        raft_job_done(s->raft, s->now_ms, shelf_job(&s->shelf, &job));
    raft_flush(s->raft, s->now_ms);
}

static void world_apply(struct world *w, struct world_server *s)
{
    struct raft_blob *b = raft_install_take(s->raft);
    const struct raft_entry *e;

    if (b != NULL && w->is_hostile) {
        raft_blob_unref(b);
    } else if (b != NULL) {
        const struct buf *bytes = &s->shelf.received.bytes;
        CHECK(s->shelf.received.index == b->index && bytes->len == 8 + w->state_bytes);
        for (size_t i = 8; i < b->len; i++)
            CHECK(bytes->data[i] == (uint8_t)(i * 31));
        s->sum = received_sum(s);
        w->snapshots_installed++;
        world_check_applied(w, s, b->index);
        raft_blob_unref(b);
    }
    while ((e = raft_apply_take(s->raft)) != NULL) {
        s->sum = world_sum(s->sum, e);
        if (!w->is_hostile)
            world_check_applied(w, s, e->index);
    }
}

static void world_reads(struct world *w, struct world_server *s)
{
    uint64_t ctx, index;

    while (raft_read_take(s->raft, &ctx, &index)) {
        struct world_read *read = &w->reads[ctx % WORLD_READS];
        if (read->ctx != ctx)
            continue; /* a newer read has taken the place */
        read->state = index == 0 ? 3 : 2;
        read->index = index;
        if (index != 0 && index < read->floor)
            world_fail(w, "a read at %llu, but %llu was applied when it was asked",
                       (unsigned long long)index, (unsigned long long)read->floor);
    }
}

static void world_read(struct world *w, struct world_server *s, uint64_t ctx, int *err)
{
    struct world_read *read = &w->reads[ctx % WORLD_READS];

    *read = (struct world_read){.ctx = ctx, .floor = w->applied, .state = 1};
    *err = raft_read(s->raft, s->now_ms, ctx);
    if (*err != 0)
        read->state = 0;
}

static void world_pump(struct world *w, struct world_server *s)
{
    struct buf out = {0};
    uint64_t to;

    if (!s->is_up)
        return;
    world_look(w, s);
    world_apply(w, s);
    world_reads(w, s);
    if (raft_snapshot_wanted(s->raft) && raft_applied(s->raft) > 0)
        raft_snapshot_give(s->raft, s->now_ms, world_blob(w, s));
    world_jobs(s);
    while (raft_message_take(s->raft, &to, &out))
        world_send(w, s->id, to, &out);
    buf_free(&out);
    world_reads(w, s);
    if (!s->has_save && raft_save_take(s->raft, &s->save)) {
        s->has_save = true;
        s->save_due_ms = w->now_ms + (w->save_ms > 0 ? rng_below(&w->rng, w->save_ms) : 0);
        uint64_t before = s->save.n > 0 ? raft_entry_term(s->raft, s->save.first_index - 1) : 0;
        for (size_t i = 0; i < s->save.n; i++) {
            /* Just below the base the term before is not known: pass over that one. */
            if (before != 0 || s->save.entries[i]->index == 1)
                world_check_entry(w, before, s->save.entries[i]);
            before = s->save.entries[i]->term;
        }
    }
}

/* ---- life ---- */

static void world_start(struct world *w, struct world_server *s)
{
    struct raft_options options = w->options;
    const struct world_disk *d = &s->disk;

    CHECK(!s->is_up);
    options.id = s->id;
    options.seed = rng_next(&w->rng);
    s->raft = raft_new(&options);
    raft_load_state(s->raft, d->term, d->vote);
    if (d->has_snapshot)
        raft_load_snapshot(s->raft, d->snapshot_index, d->snapshot_term, &d->snapshot_members);
    s->sum = d->snapshot_sum;
    for (size_t i = 0; i < d->n; i++)
        if (raft_load_entry(s->raft, d->v[i]) != 0)
            world_fail(w, "an entry on disk cannot be loaded");
    raft_start(s->raft, s->now_ms);
    s->is_up = true;
    s->has_save = false;
    s->seen_commit = 0;
    s->seen_term = 0;
    s->starts++;
}

static void world_crash(struct world *w, struct world_server *s)
{
    if (!s->is_up)
        return;
    if (s->has_save)
        switch (rng_below(&w->rng, 3)) {
        case 0: disk_write(w, s, &s->save, s->save.n); break;
        case 1: disk_write(w, s, &s->save, (size_t)rng_below(&w->rng, s->save.n + 1)); break;
        default: break;
        }
    s->has_save = false;
    raft_free(s->raft);
    s->raft = NULL;
    s->is_up = false;
    w->restarts++;
}

static void world_members(const struct world *w, struct raft_members *m, unsigned n)
{
    memset(m, 0, sizeof *m);
    CHECK(n <= w->n);
    for (unsigned i = 0; i < n; i++) {
        m->v[i].id = i + 1;
        m->v[i].voter = true;
        (void)snprintf(m->v[i].name, sizeof m->v[i].name, "%c", 'a' + (char)i);
        (void)snprintf(m->v[i].address, sizeof m->v[i].address, "10.0.0.%u:2182", i + 1);
    }
    m->n = n;
}

/* n servers, of which the first `founders` begin with the configuration that they are the
 * voters; nobody is started. */
static struct world *world_new(uint64_t seed, unsigned n, unsigned founders)
{
    struct world *w = mem_new(struct world);

    w->rng.state = seed;
    w->packets_end = &w->packets;
    w->n = n;
    w->now_ms = 1000;
    w->options = (struct raft_options){.heartbeat_ms = 60, .election_min_ms = 300};
    mem_grow(w->commits, w->commits_room, 8);
    for (unsigned i = 0; i < n; i++) {
        w->v[i].id = i + 1;
        w->v[i].now_ms = w->now_ms;
        if (i < founders) {
            w->v[i].disk.has_snapshot = true;
            world_members(w, &w->v[i].disk.snapshot_members, founders);
        }
    }
    return w;
}

static void world_free(struct world *w)
{
    struct hash_walk walk;

    for (unsigned i = 0; i < w->n; i++) {
        raft_free(w->v[i].raft);
        shelf_free(&w->v[i].shelf);
        disk_drop_all(&w->v[i].disk);
        mem_free(w->v[i].disk.v);
    }
    while (w->packets != NULL) {
        struct world_packet *p = w->packets;
        w->packets = p->next;
        mem_free(p);
    }
    for (struct hash_link *l = hash_walk_first(&w->entries, &walk); l != NULL;
         l = hash_walk_next(&w->entries, &walk))
        mem_free(HASH_ENTRY(l, struct world_entry, link));
    hash_free(&w->entries);
    mem_free(w->commits);
    mem_free(w);
}

/* ---- the network ---- */

static struct world_packet *world_unlink(struct world *w, struct world_packet **at)
{
    struct world_packet *p = *at;

    *at = p->next;
    if (p->next == NULL)
        w->packets_end = at;
    p->next = NULL;
    w->packets_n--;
    return p;
}

/* Delivers and frees. */
static void world_deliver(struct world *w, struct world_packet *p)
{
    struct world_server *s = world_server(w, p->to);

    if (s->is_up && !w->cut[p->from][p->to]) {
        int err = raft_step(s->raft, s->now_ms, p->from, p->data, p->len);
        if (err != 0)
            world_fail(w, "%llu refuses a message of %llu: %s", (unsigned long long)p->to,
                       (unsigned long long)p->from, err_name(err));
        world_look(w, s);
    }
    mem_free(p);
}

/* In stories: delivers and saves until nothing moves. */
static void world_settle(struct world *w)
{
    for (unsigned round = 0; round < 10000; round++) {
        bool moved = false;
        for (unsigned i = 0; i < w->n; i++) {
            struct world_server *s = &w->v[i];
            world_pump(w, s);
            if (s->is_up && s->has_save && !s->holds_disk) {
                world_save_finish(w, s);
                world_pump(w, s);
                moved = true;
            }
        }
        if (!w->holds_net && w->packets != NULL) {
            struct world_packet *p = world_unlink(w, &w->packets);
            struct world_server *s = world_server(w, p->to);
            world_deliver(w, p);
            world_pump(w, s);
            moved = true;
        }
        if (!moved)
            return;
    }
    world_fail(w, "the servers do not come to rest");
}

/* Lets an unused function of this header pass. */
#define WORLD_USED(f) (void)(f)

#endif
