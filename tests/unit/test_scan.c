/* SPDX-License-Identifier: Apache-2.0 */
/* A store's files read beside the server that writes them (store/scan.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "mutant_env.h"
#include "sim_disk.h"
#include "store/scan.h"
#include "store/store.h"

enum { ENTRIES_MAX = 4000 };

/* What the log is, as raft would have it. */
struct world {
    struct sim_disk *disk;
    struct store *store;
    uint64_t last, term, snapshot;
    uint64_t terms[ENTRIES_MAX];
};

static const struct store_options small = {.segment_bytes = 2048, .salt = 5};

static void open_world(struct world *w)
{
    *w = (struct world){.disk = sim_disk_new(1), .term = 1};
    assert_int_equal(
        store_open(&w->store, sim_disk_disk(w->disk), &small, &(struct store_load){0}, NULL),
        0);
}

static void close_world(struct world *w)
{
    store_close(w->store);
    sim_disk_free(w->disk);
}

/* n entries of the present term behind `after`; what was there goes. */
static void append(struct world *w, uint64_t after, unsigned n, bool new_term)
{
    struct raft_entry *v[64];
    uint8_t bytes[40];
    struct raft_save s = {.first_index = after + 1, .entries = v, .truncate = after < w->last};

    w->term += new_term;
    s.hard = new_term || w->last == 0;
    s.term = w->term;
    for (unsigned i = 0; i < n; i++) {
        uint64_t index = after + 1 + i;
        memset(bytes, (int)(index * 3 + w->term), sizeof bytes);
        v[s.n++] = raft_entry_new(index, w->term, RAFT_ENTRY_DATA, bytes, index % sizeof bytes);
        w->terms[index] = w->term;
    }
    assert_int_equal(store_save(w->store, &s), 0);
    for (size_t i = 0; i < s.n; i++)
        raft_entry_unref(v[i]);
    w->last = after + n;
}

static void snapshot(struct world *w, uint64_t index, uint64_t keep)
{
    struct raft_members m = {.n = 1, .v = {{.id = 1, .voter = true, .name = "a"}}};
    struct raft_blob *b = raft_blob_new_take(index, w->terms[index], &m, mem_dup("tree", 4), 4);

    assert_int_equal(store_snapshot(w->store, b, keep), 0);
    raft_blob_unref(b);
    w->snapshot = index;
}

/* ---- reading ---- */

struct seen {
    const struct world *w;
    uint64_t next;
};

static int entry(void *ctx, const struct raft_entry *e)
{
    struct seen *s = ctx;
    uint8_t bytes[40];

    assert_int_equal(e->index, s->next);
    assert_int_equal(e->term, s->w->terms[e->index]);
    assert_int_equal(e->len, e->index % sizeof bytes);
    memset(bytes, (int)(e->index * 3 + e->term), sizeof bytes);
    assert_memory_equal(e->payload, bytes, e->len);
    s->next++;
    return 0;
}

static int scan_by(struct disk *d, const struct world *w, uint64_t from, bool is_strict,
                   uint64_t to)
{
    struct seen s = {w, from + 1};
    const struct store_scan how = {&s, entry};
    struct buf why = {0};
    int err = store_scan(d, (struct store_place){from, w->terms[from]}, is_strict,
                         (struct store_place){to, w->terms[to]}, &how, &why);

    if (err == 0)
        assert_int_equal(s.next, to + 1);
    else
        assert_true(why.len > 0);
    buf_free(&why);
    return err;
}

static int scan(const struct world *w, uint64_t from, bool is_strict, uint64_t to)
{
    return scan_by(sim_disk_disk(w->disk), w, from, is_strict, to);
}

static void each_part_of_a_log_is_read(void **state)
{
    struct world w;
    (void)state;
    open_world(&w);
    for (unsigned i = 0; i < 20; i++)
        append(&w, w.last, 1 + i % 7, i % 5 == 0);
    for (uint64_t from = 1; from < w.last; from += 3)
        for (uint64_t to = from; to <= w.last; to += 5)
            assert_int_equal(scan(&w, from, true, to), 0);
    assert_int_equal(scan(&w, 0, false, w.last), 0);
    close_world(&w);
}

/* A follower's log: entries of a leader that fell are replaced, and come again. */
static void what_was_replaced_is_not_shown(void **state)
{
    struct rng rng;
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world w;
        uint64_t committed = 0;
        open_world(&w);
        rng = (struct rng){seed};
        append(&w, 0, 5, false);
        for (unsigned i = 0; i < 40; i++) {
            uint64_t back =
                rng_below(&rng, 4) == 0 ? rng_below(&rng, w.last - committed + 1) : 0;
            append(&w, w.last - back, 1 + (unsigned)rng_below(&rng, 9), back > 0);
            committed += rng_below(&rng, w.last - committed + 1);
            uint64_t from = rng_below(&rng, committed + 1);
            if (committed > from && from > 0)
                assert_int_equal(scan(&w, from, true, committed), 0);
        }
        close_world(&w);
    }
}

static void a_log_that_does_not_reach_back_is_told_so(void **state)
{
    struct world w;
    (void)state;
    open_world(&w);
    for (unsigned i = 0; i < 60; i++)
        append(&w, w.last, 6, false);
    snapshot(&w, 100, 0);
    snapshot(&w, 200, 0);
    snapshot(&w, 300, 0);
    assert_int_equal(scan(&w, 10, true, w.last), ERR_NOT_FOUND);
    assert_int_equal(scan(&w, 300, false, w.last), 0);
    assert_int_equal(scan(&w, 250, true, w.last), 0);
    close_world(&w);
}

/* A reader's disk: at its `at`-th look at a file the server goes on, so far that the segments
 * that were there are used again. What is read at once is from before and after that. */
struct reading {
    struct disk disk; /* first */
    struct world *w;
    unsigned at;
};

static void go_on(struct reading *r)
{
    struct world *w = r->w;

    if (r->at == 0 || --r->at > 0)
        return;
    for (unsigned i = 0; i < 120; i++) {
        append(w, w->last, 6, false);
        if (i % 10 == 9)
            snapshot(w, w->last, 0);
    }
}

static struct disk *inner(struct disk *d)
{
    return sim_disk_disk(((struct reading *)(void *)d)->w->disk);
}

static int reading_open(struct disk *d, const char *name, int create, int *file)
{
    go_on((struct reading *)(void *)d);
    assert_false(create);
    return inner(d)->ops->open(inner(d), name, 0, file);
}

static void reading_close(struct disk *d, int file) { inner(d)->ops->close(inner(d), file); }

static int reading_read(struct disk *d, int file, uint64_t at, void *data, size_t len,
                        size_t *got)
{
    struct reading *r = (struct reading *)(void *)d;
    size_t half = len / 2 / 512 * 512, more = 0;

    *got = 0;
    int err = inner(d)->ops->read(inner(d), file, at, data, half, got);
    go_on(r);
    if (err == 0 && *got == half)
        err = inner(d)->ops->read(inner(d), file, at + half, (uint8_t *)data + half, len - half,
                                  &more);
    *got += more;
    return err;
}

static int reading_size(struct disk *d, int file, uint64_t *bytes)
{
    go_on((struct reading *)(void *)d);
    return inner(d)->ops->size(inner(d), file, bytes);
}

static int reading_list(struct disk *d, struct buf *names)
{
    go_on((struct reading *)(void *)d);
    return inner(d)->ops->list(inner(d), names);
}

static void a_segment_is_used_again_while_it_is_read(void **state)
{
    static const struct disk_ops ops = {.open = reading_open,
                                        .close = reading_close,
                                        .read = reading_read,
                                        .size = reading_size,
                                        .list = reading_list};
    unsigned gone = 0, read = 0;

    (void)state;
    for (unsigned at = 1; read < 3; at++) {
        struct world w;
        open_world(&w);
        struct reading r = {.disk = {&ops}, .w = &w};
        for (unsigned i = 0; i < 60; i++) {
            append(&w, w.last, 6, false);
            if (i % 10 == 9 && i < 40)
                snapshot(&w, w.last, 0);
        }
        uint64_t from = w.snapshot, to = w.last;
        r.at = at;
        int err = scan_by(&r.disk, &w, from, false, to); /* each entry is looked at */
        if (err != 0)
            assert_int_equal(err, ERR_NOT_FOUND);
        gone += err != 0;
        read += err == 0;
        if (err == 0 && at < 4)
            fail_msg("the server has not gone on");
        close_world(&w);
    }
    assert_true(gone > 20);
}

static void another_log_is_told_so(void **state)
{
    struct world w;
    (void)state;
    open_world(&w);
    append(&w, 0, 30, false);
    w.terms[20] = 9;
    assert_int_equal(scan(&w, 20, true, 30), ERR_UNSAFE);
    close_world(&w);
}

static void damage_is_found_and_nothing_wrong_is_shown(void **state)
{
    struct world w;
    const uint8_t *data;
    size_t len;
    (void)state;
    open_world(&w);
    for (unsigned i = 0; i < 10; i++)
        append(&w, w.last, 4, false);
    const char *name = NULL;
    for (size_t i = 0; (name = sim_disk_name(w.disk, i)) != NULL; i++)
        if (strncmp(name, "log.", 4) == 0)
            break;
    assert_non_null(name);
    assert_true(sim_disk_get(w.disk, name, &data, &len));
    char copy[40];
    snprintf(copy, sizeof copy, "%s", name);
    unsigned found = 0;
    for (uint64_t bit = 0; bit < 8 * 1200; bit += 7) {
        sim_disk_flip(w.disk, copy, bit);
        int err = scan(&w, 0, false, 20); /* asserts on each entry that it is right */
        found += err != 0;
        assert_true(err == 0 || err == ERR_CORRUPT || err == ERR_NOT_FOUND);
        sim_disk_flip(w.disk, copy, bit);
    }
    assert_true(found > 900);
    close_world(&w);
}

static void the_newest_whole_snapshot_is_taken(void **state)
{
    struct world w;
    struct store_snapshot s;
    struct buf why = {0};
    (void)state;
    open_world(&w);
    assert_int_equal(store_snapshot_newest(sim_disk_disk(w.disk), 100, &s, &why),
                     ERR_NOT_FOUND);
    for (unsigned i = 0; i < 10; i++)
        append(&w, w.last, 10, false);
    snapshot(&w, 40, 100);
    snapshot(&w, 80, 100);
    buf_clear(&why);
    assert_int_equal(store_snapshot_newest(sim_disk_disk(w.disk), 100, &s, &why), 0);
    assert_int_equal(s.place.index, 80);
    assert_memory_equal(s.data, "tree", 4);
    store_snapshot_free(&s);
    assert_int_equal(store_snapshot_newest(sim_disk_disk(w.disk), 79, &s, &why), 0);
    assert_int_equal(s.place.index, 40);
    store_snapshot_free(&s);
    sim_disk_flip(w.disk, "snapshot.0000000000000050", 300);
    assert_int_equal(store_snapshot_newest(sim_disk_disk(w.disk), 100, &s, &why), 0);
    assert_int_equal(s.place.index, 40);
    store_snapshot_free(&s);
    buf_free(&why);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_of_a_log_is_read),
        cmocka_unit_test(what_was_replaced_is_not_shown),
        cmocka_unit_test(a_log_that_does_not_reach_back_is_told_so),
        cmocka_unit_test(a_segment_is_used_again_while_it_is_read),
        cmocka_unit_test(another_log_is_told_so),
        cmocka_unit_test(damage_is_found_and_nothing_wrong_is_shown),
        cmocka_unit_test(the_newest_whole_snapshot_is_taken),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
