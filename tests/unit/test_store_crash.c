/* SPDX-License-Identifier: Apache-2.0 */
/* What a crash leaves of a store, at each of its writes, syncs and names, compared with a
 * model: nothing acknowledged is lost, nothing is there that was not asked for.
 *
 * A run is a seed (which operations, with which entries) and the number of the change of the
 * disk at which it stops.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "mutant_env.h"
#include "sim_disk.h"
#include "store/store.h"
#include "store_model.h"

enum { STEPS = 25, ENTRIES_MAX = 6 };

struct run {
    uint64_t seed, stop;
    struct rng rng;
    struct sim_disk *disk;
    struct store_options options;
    struct store *store;
    struct store_model sure, loaded;
    uint64_t opened_torn;
};

_Noreturn static void stop_with(const struct run *r, const char *what)
{
    fail_msg("seed %llu stop %llu: %s", (unsigned long long)r->seed,
             (unsigned long long)r->stop, what);
    abort();
}

static int try_open(struct run *r, struct buf *why)
{
    struct store_load load = model_load(&r->loaded);

    return store_open(&r->store, sim_disk_disk(r->disk), &r->options, &load, why);
}

/* Opens, perhaps with a crash while opening, until it is open. */
static void open_store(struct run *r)
{
    struct buf why = {0};

    for (unsigned i = 0;; i++) {
        if (i < 3 && rng_below(&r->rng, 4) == 0)
            sim_disk_stop_after(r->disk, rng_below(&r->rng, 12));
        else
            sim_disk_stop_after(r->disk, UINT64_MAX);
        int err = try_open(r, &why);
        bool stopped = sim_disk_is_stopped(r->disk);
        if (err == 0 && !stopped)
            break;
        if (err == 0)
            store_close(r->store);
        else if (!stopped)
            stop_with(r, buf_text(&why));
        sim_disk_power_loss(r->disk);
        buf_clear(&why);
    }
    uint64_t changes = sim_disk_changes(r->disk);
    sim_disk_stop_after(r->disk, r->stop > changes ? r->stop - changes : UINT64_MAX);
    buf_free(&why);
}

static struct raft_entry *make_entry(struct run *r, uint64_t index, uint64_t term)
{
    uint8_t bytes[900];
    /* In every other run as in life: of one index and term there is one entry, and so the same
     * bytes may come again at the same place. */
    struct rng own = {hash_u64(1000 * index + term)}, *rng = r->seed % 2 == 0 ? &own : &r->rng;
    size_t len =
        (size_t)(rng_below(rng, 4) == 0 ? rng_below(rng, sizeof bytes) : rng_below(rng, 40));

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)rng_next(rng);
    return raft_entry_new(index, term, (enum raft_entry_type)rng_below(rng, 3), bytes, len);
}

static struct raft_blob *make_blob(struct run *r, uint64_t index, uint64_t term)
{
    size_t len = (size_t)rng_below(&r->rng, 3000);
    uint8_t *data = mem_alloc(len);
    struct raft_members members = {.n = 1};

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)rng_next(&r->rng);
    members.v[0] = (struct raft_member){.id = index, .voter = true};
    return raft_blob_new_take(index, term, &members, data, len);
}

/* After a crash in the middle of `v`: some beginning of it. */
static void adopt(struct run *r, const struct raft_save *v)
{
    struct store_model m = {.next = 1};
    const char *difference = NULL;

    for (unsigned parts = 0; parts <= model_parts(v); parts++) {
        model_copy(&m, &r->sure);
        model_save(&m, v, parts);
        difference = model_difference(&m, &r->loaded);
        if (difference == NULL)
            break;
    }
    if (difference != NULL)
        stop_with(r, difference);
    model_copy(&r->sure, &m);
    model_clear(&m);
}

static void recover(struct run *r, const struct raft_save *v)
{
    store_close(r->store);
    if (sim_disk_is_stopped(r->disk) || rng_below(&r->rng, 2) == 0)
        sim_disk_power_loss(r->disk);
    open_store(r);
    adopt(r, v);
    /* What was loaded counts as saved: it must survive the next power loss. */
    if (rng_below(&r->rng, 2) == 0) {
        store_close(r->store);
        sim_disk_power_loss(r->disk);
        open_store(r);
        const char *difference = model_difference(&r->sure, &r->loaded);
        if (difference != NULL)
            stop_with(r, difference);
    }
}

static void fill_save(struct run *r, struct raft_save *v, struct raft_entry **entries)
{
    const struct store_model *m = &r->sure;
    uint64_t first = m->next, kind = rng_below(&r->rng, 10);

    *v = (struct raft_save){.term = m->term, .vote = m->vote, .entries = entries};
    if (kind < 3 || m->term == 0) {
        v->hard = true;
        v->term += 1 + rng_below(&r->rng, 2);
        v->vote = rng_below(&r->rng, 4);
    }
    if (kind == 2 || kind == 3) {
        uint64_t low = model_snapshot_index(m) + 1;
        v->truncate = true;
        first = low + rng_below(&r->rng, m->next - low + 1);
    }
    if (kind == 4 && m->next < MODEL_ENTRIES_MAX - 100) {
        uint64_t index = model_snapshot_index(m) + 1 + rng_below(&r->rng, 20);
        uint64_t term = v->term;
        if (m->entries[index] != NULL && rng_below(&r->rng, 2) == 0)
            term = m->entries[index]->term;
        v->snapshot = make_blob(r, index, term);
        first =
            m->entries[index] != NULL && m->entries[index]->term == term ? m->next : index + 1;
    }
    v->first_index = first;
    if (kind != 0 && first + ENTRIES_MAX < MODEL_ENTRIES_MAX)
        v->n = (size_t)rng_below(&r->rng, ENTRIES_MAX);
    for (size_t i = 0; i < v->n; i++)
        entries[i] = make_entry(r, first + i, v->term);
}

static void step_save(struct run *r)
{
    struct raft_entry *entries[ENTRIES_MAX];
    struct raft_save v;
    unsigned fault = (unsigned)rng_below(&r->rng, 12);

    fill_save(r, &v, entries);
    if (fault == 0)
        sim_disk_fail_sync(r->disk, 1 + rng_below(&r->rng, 2));
    if (fault == 1)
        sim_disk_full_after(r->disk, rng_below(&r->rng, 3));
    int err = store_save(r->store, &v);
    for (unsigned i = 0; err == ERR_DISK_FULL && i < 3; i++) {
        /* Nothing happened; perhaps a crash now, perhaps it has room again. */
        if (rng_below(&r->rng, 3) == 0) {
            recover(r, &v);
            break;
        }
        err = store_save(r->store, &v);
    }
    sim_disk_full_after(r->disk, UINT64_MAX);
    if (err == 0)
        model_save(&r->sure, &v, UINT32_MAX);
    else if (err != ERR_DISK_FULL)
        recover(r, &v);
    sim_disk_fail_sync(r->disk, 0);
    for (size_t i = 0; i < v.n; i++)
        raft_entry_unref(entries[i]);
    if (v.snapshot != NULL)
        raft_blob_unref(v.snapshot);
}

static void step_snapshot(struct run *r)
{
    const struct store_model *m = &r->sure;
    uint64_t low = model_snapshot_index(m) + 1;

    if (low >= m->next)
        return;
    uint64_t index = low + rng_below(&r->rng, m->next - low);
    struct raft_blob *b = make_blob(r, index, m->entries[index]->term);
    if (rng_below(&r->rng, 6) == 0)
        sim_disk_full_after(r->disk, 0);
    int err = store_snapshot(r->store, b, rng_below(&r->rng, 10));
    sim_disk_full_after(r->disk, UINT64_MAX);
    if (err == 0) {
        model_snapshot(&r->sure, b);
    } else if (err == ERR_DISK_FULL) {
        struct raft_save none = {.term = m->term};
        if (rng_below(&r->rng, 2) == 0)
            recover(r, &none);
    } else { /* there or not: which, is seen now; the rest is as it was */
        struct raft_save none = {.term = m->term};
        store_close(r->store);
        if (sim_disk_is_stopped(r->disk))
            sim_disk_power_loss(r->disk);
        open_store(r);
        if (model_snapshot_index(&r->loaded) == index)
            model_snapshot(&r->sure, b);
        adopt(r, &none);
    }
    raft_blob_unref(b);
}

/* With nothing under way: closed or killed, with or without power. */
static void step_reopen(struct run *r)
{
    if (rng_below(&r->rng, 2) == 0) {
        store_close(r->store);
        if (rng_below(&r->rng, 2) == 0)
            sim_disk_power_loss(r->disk);
    } else { /* the vote that closing writes does not reach the disk */
        sim_disk_stop_after(r->disk, 0);
        store_close(r->store);
        sim_disk_power_loss(r->disk);
    }
    open_store(r);
    const char *difference = model_difference(&r->sure, &r->loaded);
    if (difference != NULL)
        stop_with(r, difference);
}

/* Returns the number of changes of the disk; stop UINT64_MAX: no crash but those drawn. */
static uint64_t run(uint64_t seed, uint64_t stop)
{
    struct run r = {.seed = seed, .stop = stop, .rng = {seed}};

    r.disk = sim_disk_new(hash_u64(seed) + stop);
    r.options = (struct store_options){.segment_bytes = 600 + rng_below(&r.rng, 3000),
                                       .snapshots_kept = 1 + (unsigned)rng_below(&r.rng, 2),
                                       .salt = seed};
    r.sure.next = 1;
    struct buf why = {0};
    if (try_open(&r, &why) != 0)
        stop_with(&r, buf_text(&why));
    sim_disk_stop_after(r.disk, stop);
    for (unsigned i = 0; i < STEPS; i++) {
        switch (rng_below(&r.rng, 10)) {
        case 0: step_reopen(&r); break;
        case 1:
        case 2: step_snapshot(&r); break;
        default: step_save(&r); break;
        }
    }
    sim_disk_stop_after(r.disk, UINT64_MAX);
    if (sim_disk_is_stopped(r.disk)) {
        struct raft_save none = {.term = r.sure.term};
        recover(&r, &none);
    }
    step_reopen(&r);
    uint64_t changes = sim_disk_changes(r.disk);
    store_close(r.store);
    model_clear(&r.sure);
    model_clear(&r.loaded);
    sim_disk_free(r.disk);
    buf_free(&why);
    return changes;
}

static void test_every_crash_point(void **state)
{
    uint64_t seeds = 60, runs = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t changes = run(seed, UINT64_MAX);
        for (uint64_t stop = 0; stop < changes; stop++, runs++)
            (void)run(seed, stop);
    }
    assert_true(runs > 3000);
}

static void test_random_crashes(void **state)
{
    const char *text = getenv("MUSTER_TEST_SEEDS");
    uint64_t seeds = text != NULL ? strtoull(text, NULL, 10) : 5000;

    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        (void)run(seed + 1000000, hash_u64(seed) % 120);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_crash_point),
        cmocka_unit_test(test_random_crashes),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
