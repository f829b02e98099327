/* SPDX-License-Identifier: Apache-2.0 */
/* A store that is opened beside the making of the tree gives what store_open() gives, in its
 * order; a damaged snapshot, too. On the simulation's disk, which is a disk for any thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "base/err.h"
#include "base/mem.h"
#include "mutant_env.h"
#include "server/opening.h"
#include "sim_disk.h"
#include "store/format.h"
#include "store_model.h"

#define SNAPSHOT_BYTES ((3u << 20) + 12345) /* some pieces */

static const struct store_options options = {.segment_bytes = 4096, .salt = 77};

/* What is told, by whom, in which order. */
struct seen {
    struct store_model model;
    struct store_load into;
    uv_thread_t caller;
    unsigned begins, pieces;
    bool is_told; /* of what was found: no piece may follow */
};

static void see_state(void *ctx, uint64_t term, uint64_t vote)
{
    struct seen *s = ctx;
    uv_thread_t self = uv_thread_self();

    assert_false(uv_thread_equal(&self, &s->caller));
    s->is_told = true;
    s->into.state(&s->model, term, vote);
}

static void see_snapshot(void *ctx, uint64_t index, uint64_t term,
                         const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct seen *s = ctx;

    assert_true(s->is_told);
    s->into.snapshot(&s->model, index, term, members, data, len);
}

static void see_entry(void *ctx, struct raft_entry *e)
{
    struct seen *s = ctx;

    s->into.entry(&s->model, e);
}

static void see_begin(void *ctx, uint64_t index, uint64_t size)
{
    struct seen *s = ctx;
    uv_thread_t self = uv_thread_self();

    assert_true(uv_thread_equal(&self, &s->caller));
    assert_false(s->is_told);
    s->begins++;
    s->into.begin(&s->model, index, size);
}

static void see_piece(void *ctx, const uint8_t *data, size_t len)
{
    struct seen *s = ctx;

    assert_false(s->is_told);
    s->pieces++;
    s->into.piece(&s->model, data, len);
}

static void save(struct store *s, struct store_model *m, uint64_t from, uint64_t to)
{
    struct raft_entry *v[MODEL_ENTRIES_MAX];
    struct raft_save r = {
        .hard = true, .term = 3, .vote = 1, .first_index = from, .entries = v};

    for (uint64_t i = from; i <= to; i++)
        v[r.n++] = raft_entry_new(i, 3, RAFT_ENTRY_DATA, (const uint8_t *)"entry", 5);
    assert_int_equal(store_save(s, &r), 0);
    model_save(m, &r, UINT32_MAX);
    for (size_t i = 0; i < r.n; i++)
        raft_entry_unref(v[i]);
}

static void snapshot(struct store *s, struct store_model *m, uint64_t index)
{
    struct raft_members members = {.n = 1};

    members.v[0] = (struct raft_member){.id = 1, .voter = true, .name = "a", .address = "x:1"};
    uint8_t *bytes = mem_alloc(SNAPSHOT_BYTES);
    for (size_t i = 0; i < SNAPSHOT_BYTES; i++)
        bytes[i] = (uint8_t)(i * index >> 7);
    struct raft_blob *b = raft_blob_new_take(index, 3, &members, bytes, SNAPSHOT_BYTES);
    assert_int_equal(store_snapshot(s, b, 1000), 0);
    model_snapshot(m, b);
    raft_blob_unref(b);
}

static int open_beside(struct sim_disk *d, struct seen *seen, struct store **s, struct buf *why)
{
    const struct store_load load = {seen,      see_state, see_snapshot,
                                    see_entry, see_begin, see_piece};

    *seen = (struct seen){.caller = uv_thread_self()};
    seen->into = model_load(&seen->model);
    return opening_run(s, sim_disk_disk(d), &options, &load, why);
}

static void test_beside(void **state)
{
    struct sim_disk *d = sim_disk_new(1);
    struct store_model m = {.next = 1}, older = {.next = 1};
    struct seen seen;
    struct buf why = {0};
    struct store *s;
    char name[FORMAT_NAME_MAX];
    int file;

    (void)state;
    assert_int_equal(open_beside(d, &seen, &s, &why), 0); /* nothing in it */
    assert_int_equal(seen.begins, 0);
    save(s, &m, 1, 100);
    snapshot(s, &m, 50);
    model_copy(&older, &m);
    snapshot(s, &m, 90);
    store_close(s);

    assert_int_equal(open_beside(d, &seen, &s, &why), 0);
    assert_null(model_difference(&m, &seen.model));
    assert_int_equal(seen.begins, 1);
    assert_in_range(seen.pieces, 3, 5);
    store_close(s);
    model_clear(&seen.model);

    /* The last byte but one: all of it has been handed over when that shows. */
    name_make(name, SNAPSHOT_PREFIX, 90);
    struct disk *disk = sim_disk_disk(d);
    uint64_t bytes;
    assert_int_equal(disk->ops->open(disk, name, 0, &file), 0);
    assert_int_equal(disk->ops->size(disk, file, &bytes), 0);
    assert_int_equal(disk->ops->write(disk, file, bytes - 2, "??", 2), 0);
    disk->ops->close(disk, file);
    assert_int_equal(open_beside(d, &seen, &s, &why), 0);
    assert_null(model_difference(&older, &seen.model));
    assert_int_equal(seen.begins, 2);
    store_close(s);
    model_clear(&seen.model);

    /* An error comes back as it is, with its words. */
    assert_int_equal(disk->ops->remove(disk, VOTE_NAME), 0);
    assert_int_equal(open_beside(d, &seen, &s, &why), ERR_CORRUPT);
    assert_non_null(strstr(buf_text(&why), "vote is missing"));
    assert_null(s);
    model_clear(&seen.model);
    model_clear(&m);
    model_clear(&older);
    buf_free(&why);
    sim_disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_beside)};

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
