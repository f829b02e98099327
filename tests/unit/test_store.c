/* SPDX-License-Identifier: Apache-2.0 */
/* What a store keeps and refuses, on a whole disk. What a crash leaves: test_store_crash.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "mutant_env.h"
#include "sim_disk.h"
#include "store/format.h"
#include "store/store.h"
#include "store_model.h"

static const struct store_options small = {.segment_bytes = 4096, .salt = 77};

static struct raft_entry *entry(uint64_t index, uint64_t term, size_t len)
{
    uint8_t *bytes = mem_alloc(len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(index * 7 + i);
    struct raft_entry *e = raft_entry_new(index, term, RAFT_ENTRY_DATA, bytes, len);
    mem_free(bytes);
    return e;
}

static struct raft_blob *blob(uint64_t index, uint64_t term, size_t len)
{
    struct raft_members members = {.n = 2};

    members.v[0] = (struct raft_member){.id = 1, .voter = true, .name = "a", .address = "x:1"};
    members.v[1] = (struct raft_member){.id = 2, .voter = false, .name = "b", .address = "y:2"};
    uint8_t *bytes = mem_alloc(len);
    memset(bytes, (int)(index & 255), len);
    return raft_blob_new_take(index, term, &members, bytes, len);
}

/* Saves and tells the model; entries from..to with `len` bytes each. */
static int save(struct store *s, struct store_model *m, uint64_t term, bool hard, bool truncate,
                uint64_t from, uint64_t to, size_t len)
{
    struct raft_entry *v[MODEL_ENTRIES_MAX];
    struct raft_save r = {.hard = hard,
                          .term = term,
                          .vote = term % 3,
                          .truncate = truncate,
                          .first_index = from,
                          .entries = v};

    for (uint64_t i = from; i <= to; i++)
        v[r.n++] = entry(i, term, len + i % 3);
    int err = store_save(s, &r);
    if (err == 0)
        model_save(m, &r, UINT32_MAX);
    for (size_t i = 0; i < r.n; i++)
        raft_entry_unref(v[i]);
    return err;
}

static int reopen(struct store **s, struct disk *d, const struct store_options *o,
                  struct store_model *loaded, struct buf *why)
{
    struct store_load load = model_load(loaded);

    return store_open(s, d, o, &load, why);
}

static void assert_holds(struct disk *d, const struct store_options *o,
                         const struct store_model *m)
{
    struct store_model loaded = {0};
    struct store *s;
    struct buf why = {0};
    int err = reopen(&s, d, o, &loaded, &why);

    if (err != 0)
        fail_msg("%s: %s", err_name(err), buf_text(&why));
    const char *difference = model_difference(m, &loaded);
    if (difference != NULL)
        fail_msg("%s", difference);
    store_close(s);
    model_clear(&loaded);
}

static void test_empty(void **state)
{
    struct sim_disk *d = sim_disk_new(1);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;
    struct store_facts f;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_null(model_difference(&m, &loaded));
    store_facts(s, &f);
    assert_int_equal(f.first_index, 1);
    assert_int_equal(f.last_index, 0);
    store_close(s);
    assert_holds(sim_disk_disk(d), &small, &m);
    sim_disk_free(d);
}

static void test_lengths(void **state)
{
    static const size_t lengths[] = {
        0, 1, 7, 8, 9, 99, 100, 4095, 4096, 70000, RAFT_ENTRY_MAX - 2};
    struct sim_disk *d = sim_disk_new(2);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 0, 0), 0);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        assert_int_equal(save(s, &m, 1, false, false, 1 + 3 * i, 3 + 3 * i, lengths[i]), 0);
    store_close(s);
    sim_disk_power_loss(d);
    assert_holds(sim_disk_disk(d), &small, &m);
    model_clear(&m);
    sim_disk_free(d);
}

static void test_cut_over_segments(void **state)
{
    struct sim_disk *d = sim_disk_new(3);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(save(s, &m, 1, i == 0, false, 1 + 10 * i, 10 + 10 * i, 90), 0);
    assert_int_equal(save(s, &m, 2, true, true, 35, 60, 90), 0);
    assert_int_equal(save(s, &m, 3, true, true, 61, 60, 0), 0); /* nothing to cut */
    assert_int_equal(save(s, &m, 4, true, true, 1, 0, 0), 0);   /* all of it */
    assert_int_equal(save(s, &m, 4, false, false, 1, 5, 10), 0);
    store_close(s);
    assert_holds(sim_disk_disk(d), &small, &m);
    model_clear(&m);
    sim_disk_free(d);
}

/* One write and one sync for a batch; the vote only when it changes. */
static void test_syncs(void **state)
{
    struct sim_disk *d = sim_disk_new(4);
    struct store_options o = {.segment_bytes = 1 << 20};
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &o, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 10, 100), 0);
    uint64_t syncs = sim_disk_syncs(d), changes = sim_disk_changes(d);
    assert_int_equal(save(s, &m, 1, false, false, 11, 60, 100), 0);
    assert_int_equal(sim_disk_syncs(d) - syncs, 1);
    assert_int_equal(sim_disk_changes(d) - changes, 2);
    assert_int_equal(save(s, &m, 2, true, false, 61, 60, 0), 0);
    assert_int_equal(sim_disk_syncs(d) - syncs, 2);
    assert_int_equal(save(s, &m, 2, false, false, 61, 60, 0), 0); /* nothing to do */
    assert_int_equal(sim_disk_syncs(d) - syncs, 2);
    store_close(s);
    model_clear(&m);
    sim_disk_free(d);
}

static unsigned count_names(const struct sim_disk *d, const char *prefix)
{
    unsigned n = 0;

    for (size_t i = 0; sim_disk_name(d, i) != NULL; i++)
        n += strncmp(sim_disk_name(d, i), prefix, strlen(prefix)) == 0;
    return n;
}

static void test_snapshots(void **state)
{
    struct sim_disk *d = sim_disk_new(5);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;
    struct store_facts f;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(save(s, &m, 1, i == 0, false, 1 + 10 * i, 10 + 10 * i, 90), 0);
    unsigned segments = count_names(d, SEGMENT_PREFIX);
    assert_true(segments > 10);
    for (uint64_t index = 100; index <= 300; index += 100) {
        struct raft_blob *b = blob(index, 1, 5000);
        assert_int_equal(store_snapshot(s, b, 20), 0);
        model_snapshot(&m, b);
        raft_blob_unref(b);
    }
    assert_int_equal(count_names(d, SNAPSHOT_PREFIX), 2);
    assert_true(count_names(d, SEGMENT_PREFIX) < segments);
    store_facts(s, &f);
    assert_int_equal(f.snapshot_index, 300);
    assert_int_equal(f.last_index, 400);
    assert_in_range(f.first_index, 150, 201); /* back to the older snapshot */
    store_close(s);
    assert_holds(sim_disk_disk(d), &small, &m);

    /* The newest rots: the older one and the log give the same. */
    struct sim_disk *rotten = sim_disk_copy(d, 1);
    sim_disk_flip(rotten, "snapshot.000000000000012c", 8 * 2000);
    assert_int_equal(reopen(&s, sim_disk_disk(rotten), &small, &loaded, NULL), 0);
    assert_int_equal(model_snapshot_index(&loaded), 200);
    assert_int_equal(loaded.next, 401);
    for (uint64_t i = 201; i <= 400; i++)
        assert_int_equal(loaded.entries[i]->len, m.entries[i]->len);
    store_close(s);
    /* Both rot: the log does not reach back to the beginning. */
    sim_disk_flip(rotten, "snapshot.00000000000000c8", 8 * 2000);
    struct buf why = {0};
    assert_int_equal(reopen(&s, sim_disk_disk(rotten), &small, &loaded, &why), ERR_CORRUPT);
    assert_non_null(strstr(buf_text(&why), "snapshot."));
    buf_free(&why);
    sim_disk_free(rotten);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

static void install(struct store *s, struct store_model *m, uint64_t index, uint64_t term)
{
    struct raft_save r = {.snapshot = blob(index, term, 3000), .hard = true, .term = 9};

    assert_int_equal(store_save(s, &r), 0);
    model_save(m, &r, UINT32_MAX);
    raft_blob_unref(r.snapshot);
}

static void test_install(void **state)
{
    struct sim_disk *d = sim_disk_new(6);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 50, 10), 0);
    install(s, &m, 30, 1); /* our own entry: what follows stays */
    assert_int_equal(m.next, 51);
    assert_int_equal(save(s, &m, 9, false, false, 51, 60, 10), 0);
    install(s, &m, 40, 2); /* another one: all goes */
    assert_int_equal(m.next, 41);
    assert_int_equal(save(s, &m, 9, false, false, 41, 45, 10), 0);
    install(s, &m, 100, 3); /* far ahead */
    store_close(s);
    assert_holds(sim_disk_disk(d), &small, &m);
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 9, false, false, 101, 110, 10), 0);
    store_close(s);
    assert_holds(sim_disk_disk(d), &small, &m);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

/* A store with a bit of everything: three segments, a cut, two snapshots, two votes. */
static void fill(struct sim_disk *d, struct store_model *m, bool close)
{
    struct store_model loaded = {0};
    struct store_options o = {.segment_bytes = 1200, .salt = 5};
    struct store *s;

    assert_int_equal(reopen(&s, sim_disk_disk(d), &o, &loaded, NULL), 0);
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(save(s, m, 1, i == 0, false, 1 + 4 * i, 4 + 4 * i, 60), 0);
    for (uint64_t index = 10; index <= 15; index += 5) {
        struct raft_blob *b = blob(index, 1, 100);
        assert_int_equal(store_snapshot(s, b, 0), 0);
        model_snapshot(m, b);
        raft_blob_unref(b);
    }
    assert_int_equal(save(s, m, 2, true, true, 20, 22, 61), 0);
    assert_int_equal(save(s, m, 2, false, false, 23, 25, 0), 0);
    if (close) {
        store_close(s);
    } else {
        struct sim_disk *copy = sim_disk_copy(d, 1); /* what a kill would leave */
        store_close(s);
        for (size_t i = 0; sim_disk_name(copy, i) != NULL; i++) {
            const uint8_t *data;
            size_t len;
            assert_true(sim_disk_get(copy, sim_disk_name(copy, i), &data, &len));
            sim_disk_put(d, sim_disk_name(copy, i), data, len);
        }
        sim_disk_free(copy);
    }
    model_clear(&loaded);
}

/* Every bit of every file: what is loaded is right, or refused with words; only the last
 * batch of a store that was not closed may be taken for torn. */
static void flip_all(bool close)
{
    struct sim_disk *d = sim_disk_new(7);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store_options o = {.segment_bytes = 1200, .salt = 5};
    unsigned refused = 0, torn = 0, right = 0, fallback = 0;

    fill(d, &m, close);
    for (size_t i = 0; sim_disk_name(d, i) != NULL; i++) {
        const uint8_t *data;
        size_t len;
        assert_true(sim_disk_get(d, sim_disk_name(d, i), &data, &len));
        for (uint64_t bit = 0; bit < 8 * len; bit++) {
            if (bit % (8 * VOTE_SLOT_BYTES) == 8 * 64 &&
                strcmp(sim_disk_name(d, i), "vote") == 0)
                bit += 8 * (VOTE_SLOT_BYTES - 64) - 1; /* nothing there */
            struct sim_disk *rotten = sim_disk_copy(d, bit);
            struct buf why = {0};
            struct store *s;
            struct store_facts f = {0};
            sim_disk_flip(rotten, sim_disk_name(d, i), bit);
            int err = reopen(&s, sim_disk_disk(rotten), &o, &loaded, &why);
            if (err == 0)
                store_facts(s, &f);
            if (err != 0) {
                assert_int_equal(err, ERR_CORRUPT);
                assert_true(why.len > 10);
                refused++;
            } else if (model_difference(&m, &loaded) == NULL) {
                right++;
            } else if (f.torn_tails_total == 1 && !close && loaded.next >= 23) {
                torn++;
            } else if (model_snapshot_index(&loaded) == 10 && loaded.next == 26) {
                fallback++;
            } else {
                fail_msg("bit %u of %s", (unsigned)bit, sim_disk_name(d, i));
            }
            if (err == 0)
                store_close(s);
            buf_free(&why);
            sim_disk_free(rotten);
        }
    }
    assert_true(refused > 5000 && right > 0 && fallback > 1000);
    assert_true(close ? torn == 0 : torn > 100);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

static void test_flips_closed(void **state)
{
    (void)state;
    flip_all(true);
}

static void test_flips_killed(void **state)
{
    (void)state;
    flip_all(false);
}

/* Any file missing, cut short, or full of garbage. */
static void test_broken_files(void **state)
{
    struct sim_disk *d = sim_disk_new(8);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store_options o = {.segment_bytes = 1200, .salt = 5};
    struct rng rng = {8};
    unsigned refused = 0;

    (void)state;
    fill(d, &m, true);
    for (size_t i = 0; sim_disk_name(d, i) != NULL; i++) {
        const char *name = sim_disk_name(d, i);
        for (unsigned way = 0; way < 40; way++) {
            struct sim_disk *broken = sim_disk_copy(d, way);
            struct buf why = {0};
            uint8_t garbage[6000];
            struct store *s;
            for (size_t k = 0; k < sizeof garbage; k++)
                garbage[k] = (uint8_t)rng_next(&rng);
            const uint8_t *data;
            size_t len;
            assert_true(sim_disk_get(d, name, &data, &len));
            if (way == 0)
                sim_disk_remove(broken, name);
            else if (way < 20)
                sim_disk_put(broken, name, data, (size_t)rng_below(&rng, len));
            else
                sim_disk_put(broken, name, garbage, (size_t)rng_below(&rng, sizeof garbage));
            int err = reopen(&s, sim_disk_disk(broken), &o, &loaded, &why);
            if (err == 0) {
                /* The older snapshot, or one that is not needed, or a vote's second copy. */
                assert_true(loaded.next == 26 && loaded.term == 2);
                store_close(s);
            } else {
                assert_int_equal(err, ERR_CORRUPT);
                assert_true(why.len > 10);
                refused++;
            }
            buf_free(&why);
            sim_disk_free(broken);
        }
    }
    assert_true(refused > 80);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

/* It is not damage, for which a store is set aside: a later version's stays for that one. */
static void test_vote_of_another_version(void **state)
{
    struct sim_disk *d = sim_disk_new(13);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;
    const uint8_t *data;
    size_t len;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 5, 10), 0);
    store_close(s);
    assert_true(sim_disk_get(d, "vote", &data, &len));
    uint8_t *later = mem_dup(data, len);
    for (size_t at = 0; at + VOTE_SLOT_BYTES <= len; at += VOTE_SLOT_BYTES) {
        be32_put(later + at + 4, FORMAT_VERSION + 1);
        be32_put(later + at + 48, crc32c(0, later + at, 48));
    }
    sim_disk_put(d, "vote", later, len);
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), ERR_OTHER_VERSION);
    mem_free(later);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

static const struct disk_ops *full_real;
static int full_log = -1; /* its file, and how often it is still full */
static unsigned full_times;

static int full_open(struct disk *d, const char *name, int create, int *file)
{
    int err = full_real->open(d, name, create, file);

    if (err == 0 && strncmp(name, "log.", 4) == 0)
        full_log = *file;
    return err;
}

/* All of it is there, and it has failed: the worst that it may leave. */
static int full_write(struct disk *d, int file, uint64_t at, const void *data, size_t len)
{
    if (file == full_log && full_times > 0) {
        full_times--;
        assert_int_equal(full_real->write(d, file, at, data, len), 0);
        return ERR_DISK_FULL;
    }
    return full_real->write(d, file, at, data, len);
}

/* Where overwriting needs room, too: the snapshot has its name already when the log has none.
 */
static void test_room_after_a_received_snapshot(void **state)
{
    struct sim_disk *d = sim_disk_new(14);
    struct disk *disk = sim_disk_disk(d);
    struct store_model m = {.next = 1}, loaded = {0};
    struct disk_ops ops = *disk->ops;
    struct store_facts f;
    struct store *s;
    uint8_t bytes[64] = {1};

    (void)state;
    full_real = disk->ops;
    ops.open = full_open;
    ops.write = full_write;
    disk->ops = &ops;
    assert_int_equal(reopen(&s, disk, &small, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 5, 10), 0);
    struct raft_blob *b = blob(50, 1, sizeof bytes);
    struct raft_job job = {.kind = RAFT_JOB_RECEIVE,
                           .index = 50,
                           .term = 1,
                           .members = &b->members,
                           .size = sizeof bytes,
                           .len = sizeof bytes,
                           .data = bytes};
    assert_int_equal(store_job(s, &job, 0), 0);
    struct raft_save r = {.snapshot =
                              raft_blob_new_take(50, 1, &b->members, NULL, sizeof bytes),
                          .first_index = 51};
    full_times = 1;
    assert_int_equal(store_save(s, &r), ERR_DISK_FULL);
    assert_int_equal(full_times, 0);
    assert_int_equal(store_save(s, &r), 0);
    store_facts(s, &f);
    assert_int_equal(f.snapshot_index, 50);
    store_close(s);
    assert_int_equal(reopen(&s, disk, &small, &loaded, NULL), 0);
    assert_int_equal(loaded.next, 51);
    store_close(s);
    disk->ops = full_real;
    raft_blob_unref(r.snapshot);
    raft_blob_unref(b);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

/* A snapshot whose leader went away in the middle does not keep the room that the log needs. */
static void test_half_a_snapshot_gives_way(void **state)
{
    struct sim_disk *d = sim_disk_new(19);
    struct store_model m = {.next = 1};
    struct store *s;
    uint8_t bytes[64] = {1};

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &(struct store_model){0}, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 5, 10), 0);
    struct raft_blob *b = blob(50, 1, sizeof bytes);
    struct raft_job job = {.kind = RAFT_JOB_RECEIVE,
                           .index = 50,
                           .term = 1,
                           .members = &b->members,
                           .size = 20000,
                           .len = sizeof bytes,
                           .data = bytes};
    assert_int_equal(store_job(s, &job, 0), 0);
    sim_disk_set_capacity(d, sim_disk_used(d));
    assert_int_equal(save(s, &m, 1, false, false, 6, 25, 300), 0);
    job.at = sizeof bytes; /* its leader begins anew */
    assert_int_equal(store_job(s, &job, 0), ERR_NOT_FOUND);
    store_close(s);
    assert_holds(sim_disk_disk(d), &small, &m);
    raft_blob_unref(b);
    model_clear(&m);
    sim_disk_free(d);
}

/* Nor does one of our own that a leader's has overtaken. */
static void test_an_overtaken_snapshot_gives_way(void **state)
{
    struct sim_disk *d = sim_disk_new(20);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;
    uint8_t bytes[64] = {1};

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 5, 10), 0);
    struct raft_blob *b = blob(50, 1, sizeof bytes);
    struct raft_job job = {.kind = RAFT_JOB_KEEP,
                           .index = 4,
                           .term = 1,
                           .members = &b->members,
                           .size = 90000,
                           .len = sizeof bytes,
                           .data = bytes};
    assert_int_equal(store_job(s, &job, 0), 0);
    assert_true(sim_disk_used(d) > 90000);
    job.kind = RAFT_JOB_RECEIVE;
    job.index = 50;
    job.size = sizeof bytes;
    assert_int_equal(store_job(s, &job, 0), 0);
    struct raft_save r = {.snapshot =
                              raft_blob_new_take(50, 1, &b->members, NULL, sizeof bytes),
                          .first_index = 51};
    assert_int_equal(store_save(s, &r), 0);
    assert_true(sim_disk_used(d) < 90000);
    store_close(s);
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_int_equal(loaded.next, 51);
    store_close(s);
    raft_blob_unref(r.snapshot);
    raft_blob_unref(b);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

/* The rest of a failed write is in no later segment's way. */
static void test_rest_and_another_segment(void **state)
{
    struct sim_disk *d = sim_disk_new(15);
    struct disk *disk = sim_disk_disk(d);
    const struct store_options tiny = {.segment_bytes = 600, .salt = 77};
    struct store_model m = {.next = 1}, loaded = {0};
    struct disk_ops ops = *disk->ops;
    struct store_facts f;
    struct store *s;

    (void)state;
    full_real = disk->ops;
    ops.open = full_open;
    ops.write = full_write;
    disk->ops = &ops;
    assert_int_equal(reopen(&s, disk, &tiny, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 5, 10), 0);
    full_times = 1;
    assert_int_equal(save(s, &m, 1, false, false, 6, 7, 10), ERR_DISK_FULL);
    assert_int_equal(save(s, &m, 1, false, false, 6, 9, 100), 0);
    store_facts(s, &f);
    assert_true(f.log_bytes > tiny.segment_bytes);
    for (uint64_t seed = 18; seed < 30; seed++) {
        struct sim_disk *copy = sim_disk_copy(d, seed);
        sim_disk_power_loss(copy);
        assert_holds(sim_disk_disk(copy), &tiny, &m);
        sim_disk_free(copy);
    }
    store_close(s);
    disk->ops = full_real;
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

static int vote_file = -1;
static uint64_t vote_calls[8]; /* where it is written; UINT64_MAX: it is synced */
static unsigned vote_calls_n;

static int vote_open(struct disk *d, const char *name, int create, int *file)
{
    int err = full_real->open(d, name, create, file);

    if (err == 0 && strcmp(name, VOTE_NAME) == 0)
        vote_file = *file;
    return err;
}

static int vote_write(struct disk *d, int file, uint64_t at, const void *data, size_t len)
{
    if (file == vote_file && vote_calls_n < 8)
        vote_calls[vote_calls_n++] = at;
    return full_real->write(d, file, at, data, len);
}

static int vote_sync(struct disk *d, int file)
{
    if (file == vote_file && vote_calls_n < 8)
        vote_calls[vote_calls_n++] = UINT64_MAX;
    return full_real->sync(d, file);
}

/* When the sync of a vote has failed, the kernel shows what the disk has not. So opening makes
 * good what it believes, in its place, before it writes over the older pair, which may be the
 * only one that the disk has (site seed 126444). */
static void test_vote_is_made_good_in_its_place(void **state)
{
    struct sim_disk *d = sim_disk_new(21);
    struct disk *disk = sim_disk_disk(d);
    struct store_model m = {.next = 1}, loaded = {0};
    struct disk_ops ops = *disk->ops;
    struct vote_slot v;
    struct store *s;
    const uint8_t *data;
    size_t len;

    (void)state;
    full_real = disk->ops;
    ops.open = vote_open;
    ops.write = vote_write;
    ops.sync = vote_sync;
    for (uint64_t term = 1; term <= 4; term++) {
        assert_int_equal(reopen(&s, disk, &small, &loaded, NULL), 0);
        assert_int_equal(save(s, &m, term, true, false, term, term, 10), 0);
        sim_disk_fail_sync(d, 1);
        assert_int_equal(save(s, &m, term + 1, true, false, term + 1, term + 1, 10), ERR_IO);
        store_close(s);
        assert_true(sim_disk_get(d, VOTE_NAME, &data, &len));
        assert_int_equal(len, VOTE_SLOTS * VOTE_SLOT_BYTES);
        uint64_t newest = 0, counter = 0;
        for (uint64_t at = 0; at < len; at += 2 * VOTE_SLOT_BYTES)
            if (vote_slot_decode(&v, data + at) && v.counter > counter)
                counter = v.counter, newest = at;
        vote_calls_n = 0;
        disk->ops = &ops;
        assert_int_equal(reopen(&s, disk, &small, &loaded, NULL), 0);
        disk->ops = full_real;
        assert_int_equal(vote_calls_n, 4);
        assert_int_equal(vote_calls[0], newest);
        assert_int_equal(vote_calls[1], UINT64_MAX);
        assert_int_not_equal(vote_calls[2], newest);
        assert_int_equal(vote_calls[3], UINT64_MAX);
        assert_int_equal(loaded.term, term + 1);
        store_close(s);
    }
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

/* The last segment is removed, or emptied: all of it is missed, though the vote has not changed
 * since long. */
static void test_last_segment_gone(void **state)
{
    struct sim_disk *d = sim_disk_new(16);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;
    struct buf why = {0};
    char name[FORMAT_NAME_MAX];
    const struct store_options tiny = {.segment_bytes = 600, .salt = 77};
    struct store *killed;
    unsigned segments = 0;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &tiny, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 1, 100), 0);
    for (uint64_t i = 2; i <= 20; i++)
        assert_int_equal(save(s, &m, 1, false, false, i, i, 100), 0);
    for (size_t i = 0; sim_disk_name(d, i) != NULL; i++) {
        uint64_t number;
        if (name_parse(sim_disk_name(d, i), SEGMENT_PREFIX, &number) && ++segments > 0)
            snprintf(name, sizeof name, "%s", sim_disk_name(d, i));
    }
    assert_true(segments > 2);
    for (int way = 0; way < 2; way++) {
        struct sim_disk *copy = sim_disk_copy(d, 17);
        sim_disk_killed(copy);
        if (way == 0)
            sim_disk_remove(copy, name);
        else
            sim_disk_put(copy, name, "", 0);
        buf_clear(&why);
        assert_int_equal(reopen(&killed, sim_disk_disk(copy), &tiny, &loaded, &why),
                         ERR_CORRUPT);
        assert_non_null(strstr(buf_text(&why), name));
        sim_disk_free(copy);
    }
    store_close(s);
    buf_free(&why);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

/* The rest of a vote file may be the vote before: with a log, it is refused; alone, it is
 * nothing, and does not come to life when the file grows again. Found by fuzz_store. */
static void test_short_vote(void **state)
{
    struct sim_disk *d = sim_disk_new(11);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;
    const uint8_t *data;
    size_t len;

    (void)state;
    for (uint64_t term = 1; term <= 4; term++) { /* the newest in one pair, then the other */
        assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
        assert_int_equal(save(s, &m, term, true, false, term, term, 10), 0);
        store_close(s);
        assert_true(sim_disk_get(d, "vote", &data, &len));
        for (size_t cut = 0; cut < len; cut += 1000) {
            struct sim_disk *c = sim_disk_copy(d, cut);
            sim_disk_put(c, "vote", data, cut);
            assert_int_equal(reopen(&s, sim_disk_disk(c), &small, &loaded, NULL), ERR_CORRUPT);
            sim_disk_free(c);
        }
    }
    struct sim_disk *lone = sim_disk_new(12);
    struct store_model one = {.next = 1};
    sim_disk_put(lone, "vote", data, 3000);
    assert_int_equal(reopen(&s, sim_disk_disk(lone), &small, &loaded, NULL), 0);
    assert_int_equal(loaded.term, 0);
    assert_int_equal(save(s, &one, 1, true, false, 1, 1, 10), 0);
    store_close(s);
    assert_holds(sim_disk_disk(lone), &small, &one);
    model_clear(&one);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(lone);
    sim_disk_free(d);
}

static void test_only_garbage(void **state)
{
    struct rng rng = {9};
    struct store_model loaded = {0};

    (void)state;
    for (unsigned seed = 0; seed < 2000; seed++) {
        static const char *const names[] = {"vote", "log.0000000000000001",
                                            "log.0000000000000002", "snapshot.0000000000000005",
                                            "other"};
        struct sim_disk *d = sim_disk_new(seed);
        struct buf why = {0};
        struct store *s;
        for (unsigned i = 0; i < 5; i++) {
            uint8_t garbage[3000];
            for (size_t k = 0; k < sizeof garbage; k++)
                garbage[k] = (uint8_t)rng_next(&rng);
            if (rng_below(&rng, 3) > 0)
                sim_disk_put(d, names[i], garbage, (size_t)rng_below(&rng, sizeof garbage));
        }
        if (reopen(&s, sim_disk_disk(d), &small, &loaded, &why) == 0) {
            assert_int_equal(loaded.next, 1); /* only a vote that never came to be */
            store_close(s);
        } else {
            assert_true(why.len > 10);
        }
        buf_free(&why);
        sim_disk_free(d);
    }
    model_clear(&loaded);
}

/* What a client writes cannot pass for a record: also not the bytes of a whole log. */
static void test_forged_payload(void **state)
{
    struct sim_disk *d = sim_disk_new(10);
    struct store_model m = {.next = 1}, loaded = {0};
    struct store *s;
    const uint8_t *data;
    size_t len;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    assert_int_equal(save(s, &m, 1, true, false, 1, 5, 100), 0);
    assert_true(sim_disk_get(d, "log.0000000000000001", &data, &len));
    struct raft_entry *e = raft_entry_new(6, 1, RAFT_ENTRY_DATA, data, 1000);
    struct raft_save r = {.entries = &e, .n = 1, .first_index = 6};
    sim_disk_stop_after(d, 1); /* written, not synced */
    assert_int_equal(store_save(s, &r), ERR_IO);
    assert_int_equal(store_save(s, &r), ERR_IO);
    store_close(s);
    raft_entry_unref(e);
    for (unsigned i = 0; i < 50; i++) {
        struct sim_disk *c = sim_disk_copy(d, i);
        sim_disk_flip(c, "log.0000000000000001", 8 * (48 + 5 * 152) + i);
        assert_int_equal(reopen(&s, sim_disk_disk(c), &small, &loaded, NULL), 0);
        assert_true(loaded.next >= 6);
        store_close(s);
        sim_disk_free(c);
    }
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

/* ---- a real directory ---- */

static void remove_dir(const char *dir)
{
    char command[300];

    (void)snprintf(command, sizeof command, "chmod -R u+rwx %s && rm -rf %s", dir, dir);
    assert_int_equal(system(command), 0);
}

static void test_directory(void **state)
{
    char dir[] = "/tmp/muster-test-store-XXXXXX", sub[64];
    struct store_model m = {.next = 1}, loaded = {0};
    struct disk *d, *second;
    struct store *s;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(sub, sizeof sub, "%s/data", dir);
    assert_int_equal(disk_posix_new(&d, sub), 0);
    assert_int_equal(disk_posix_new(&second, sub), ERR_BUSY);
    assert_int_equal(reopen(&s, d, &small, &loaded, NULL), 0);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(save(s, &m, 1, i == 0, i == 10, 1 + 10 * i, 10 + 10 * i, 90), 0);
    struct raft_blob *b = blob(100, 1, 100000);
    assert_int_equal(store_snapshot(s, b, 10), 0);
    model_snapshot(&m, b);
    raft_blob_unref(b);
    install(s, &m, 300, 5);
    store_close(s);
    disk_posix_free(d);
    assert_int_equal(disk_posix_new(&d, sub), 0);
    assert_holds(d, &small, &m);
    disk_posix_free(d);
    model_clear(&m);
    model_clear(&loaded);
    (void)snprintf(sub, sizeof sub, "%s/not/there", dir);
    assert_int_equal(disk_posix_new(&d, sub), ERR_NOT_FOUND);
    assert_int_equal(disk_posix_new(&d, "/dev/null"), ERR_IO);
    remove_dir(dir);
}

/* Files that cannot be read: words that say which. As root nothing is unreadable, so a
 * directory stands in the file's place. */
static void test_unreadable(void **state)
{
    char dir[] = "/tmp/muster-test-store-XXXXXX", sub[64];
    struct buf why = {0};
    struct disk *d;
    struct store *s;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(sub, sizeof sub, "%s/vote", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    assert_int_equal(disk_posix_new(&d, dir), 0);
    assert_int_not_equal(store_open(&s, d, &small, &(struct store_load){0}, &why), 0);
    assert_non_null(strstr(buf_text(&why), "vote cannot be opened"));
    disk_posix_free(d);
    if (geteuid() != 0) {
        assert_int_equal(chmod(dir, 0), 0);
        assert_int_equal(disk_posix_new(&d, dir), ERR_PERMISSION);
    }
    buf_free(&why);
    remove_dir(dir);
}

/* ---- snapshots piece by piece ---- */

static struct raft_job piece(enum raft_job_kind kind, const struct raft_blob *b, uint64_t at,
                             size_t len)
{
    return (struct raft_job){.kind = kind,
                             .index = b->index,
                             .term = b->term,
                             .members = &b->members,
                             .size = b->len,
                             .at = at,
                             .len = len,
                             .data = b->data + at};
}

static int pieces(struct store *s, enum raft_job_kind kind, const struct raft_blob *b,
                  uint64_t from, uint64_t to)
{
    int err = 0;

    for (uint64_t at = from; at < to && err == 0; at += 1000) {
        struct raft_job j = piece(kind, b, at, to - at < 1000 ? (size_t)(to - at) : 1000);
        err = store_job(s, &j, 20);
    }
    return err;
}

static void assert_copy_holds(const struct sim_disk *d, const struct store_model *m)
{
    struct sim_disk *copy = sim_disk_copy(d, 1);

    assert_holds(sim_disk_disk(copy), &small, m);
    sim_disk_free(copy);
}

/* Beside saves; half of one is nothing, and another may be begun at any time. */
static void test_pieces(void **state)
{
    struct sim_disk *d = sim_disk_new(5);
    struct store_model m = {.next = 1}, loaded = {0};
    struct raft_blob *a = blob(50, 1, 4500), *b = blob(60, 1, 2000), *c = blob(70, 1, 1);
    uint8_t read[1200];
    struct store *s;

    (void)state;
    assert_int_equal(reopen(&s, sim_disk_disk(d), &small, &loaded, NULL), 0);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(save(s, &m, 1, i == 0, false, 1 + 10 * i, 10 + 10 * i, 90), 0);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, a, 0, 3000), 0);
    assert_int_equal(save(s, &m, 1, false, false, 101, 110, 90), 0);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, b, 0, 1000), 0); /* instead */
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, a, 3000, 4500), ERR_NOT_FOUND);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, b, 1000, 2000), ERR_NOT_FOUND);
    assert_copy_holds(d, &m);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, a, 0, 4500), 0);
    model_snapshot(&m, a);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, b, 0, 2000), 0);
    model_snapshot(&m, b);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, a, 0, 4500), 0); /* older: passed over */

    /* What is sent stays, though there are newer ones. */
    store_pin(s, 50);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, c, 0, 1), 0);
    model_snapshot(&m, c);
    struct raft_job j = piece(RAFT_JOB_READ, a, 3300, 1200);
    j.data = read;
    assert_int_equal(store_job(s, &j, 0), 0);
    assert_memory_equal(read, a->data + 3300, 1200);
    j.size++;
    assert_int_equal(store_job(s, &j, 0), ERR_CORRUPT); /* it is another than was meant */
    store_pin(s, 0);
    struct raft_blob *e = blob(80, 1, 10);
    assert_int_equal(pieces(s, RAFT_JOB_KEEP, e, 0, 10), 0);
    model_snapshot(&m, e);
    j.size--;
    assert_int_equal(store_job(s, &j, 0), ERR_NOT_FOUND);

    /* One that the leader sends counts from the save on that names it. */
    struct raft_blob *got = blob(300, 1, 2500), *name = blob(300, 1, 2500);
    mem_free(name->data);
    name->data = NULL;
    assert_int_equal(pieces(s, RAFT_JOB_RECEIVE, got, 0, 2500), 0);
    assert_copy_holds(d, &m);
    struct raft_save v = {.snapshot = name, .first_index = 301};
    assert_int_equal(store_save(s, &v), 0);
    v.snapshot = got;
    model_save(&m, &v, UINT32_MAX);
    store_close(s);
    assert_holds(sim_disk_disk(d), &small, &m);
    for (struct raft_blob *const *x = (struct raft_blob *[]){a, b, c, e, got, name, NULL};
         *x != NULL; x++)
        raft_blob_unref(*x);
    model_clear(&m);
    model_clear(&loaded);
    sim_disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_cut_over_segments),
        cmocka_unit_test(test_syncs),
        cmocka_unit_test(test_snapshots),
        cmocka_unit_test(test_install),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_flips_closed),
        cmocka_unit_test(test_flips_killed),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_short_vote),
        cmocka_unit_test(test_vote_of_another_version),
        cmocka_unit_test(test_room_after_a_received_snapshot),
        cmocka_unit_test(test_rest_and_another_segment),
        cmocka_unit_test(test_half_a_snapshot_gives_way),
        cmocka_unit_test(test_an_overtaken_snapshot_gives_way),
        cmocka_unit_test(test_vote_is_made_good_in_its_place),
        cmocka_unit_test(test_last_segment_gone),
        cmocka_unit_test(test_only_garbage),
        cmocka_unit_test(test_forged_payload),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_unreadable),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
