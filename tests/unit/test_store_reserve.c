/* SPDX-License-Identifier: Apache-2.0 */
/* The room that a store sets aside: given up when there is no other, and taken again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "sim_disk.h"
#include "store/store.h"

#define RESERVE 80000u

static const struct store_options options = {
    .segment_bytes = 8192, .salt = 5, .reserve_bytes = RESERVE};

static struct store *opened(struct sim_disk *d)
{
    struct store *s;
    struct buf why = {0};

    if (store_open(&s, sim_disk_disk(d), &options, &(const struct store_load){0}, &why) != 0)
        fail_msg("%s", buf_text(&why));
    buf_free(&why);
    return s;
}

static int save(struct store *s, uint64_t index)
{
    static const uint8_t payload[400];
    struct raft_entry *e = raft_entry_new(index, 1, RAFT_ENTRY_DATA, payload, sizeof payload);
    const struct raft_save v = {
        .hard = index == 1, .term = 1, .first_index = index, .entries = &e, .n = 1};
    int err = store_save(s, &v);

    raft_entry_unref(e);
    return err;
}

static int snapshot(struct store *s, uint64_t index, size_t len)
{
    const struct raft_members members = {.n = 1, .v = {{.id = 1, .voter = true}}};
    uint8_t *data = mem_alloc(len);

    memset(data, 7, len);
    struct raft_blob *b = raft_blob_new_take(index, 1, &members, data, len);
    int err = store_snapshot(s, b, 0);
    raft_blob_unref(b);
    return err;
}

static struct store_room room(struct store *s)
{
    struct store_room r;

    assert_int_equal(store_room(s, &r), 0);
    return r;
}

static void given_up_and_taken_again(void **state)
{
    struct sim_disk *d = sim_disk_new(1);
    struct store *s = opened(d);
    uint64_t index = 0;

    (void)state;
    assert_int_equal(room(s).reserve_bytes, RESERVE);
    assert_int_equal(save(s, ++index), 0);
    sim_disk_set_capacity(d, sim_disk_used(d));
    assert_int_equal(room(s).free_bytes, 0);
    /* About 190 entries of 440 bytes, in segments of 8 KiB. */
    while (save(s, index + 1) == 0)
        index++;
    assert_true(index > 150);
    assert_int_equal(room(s).reserve_bytes, 0);
    assert_int_equal(save(s, index + 1), ERR_DISK_FULL); /* and nothing has changed */
    store_close(s);
    s = opened(d);
    struct store_facts f;
    store_facts(s, &f);
    assert_int_equal(f.last_index, index);
    assert_int_equal(save(s, index + 1), ERR_DISK_FULL);
    sim_disk_set_capacity(d, UINT64_MAX);
    assert_int_equal(save(s, ++index), 0);
    assert_int_equal(room(s).reserve_bytes, RESERVE);
    store_close(s);
    sim_disk_free(d);
}

/* Only what is spare is taken: half of it stays free for the log. */
static void grows_with_the_room(void **state)
{
    struct sim_disk *d = sim_disk_new(2);
    struct store *s = opened(d);

    (void)state;
    sim_disk_set_capacity(d, sim_disk_used(d) + RESERVE / 2);
    assert_int_equal(room(s).reserve_bytes, 0);
    sim_disk_set_capacity(d, sim_disk_used(d) + RESERVE);
    assert_int_equal(room(s).reserve_bytes, RESERVE / 2);
    sim_disk_set_capacity(d, sim_disk_used(d) + 2 * RESERVE);
    assert_int_equal(room(s).reserve_bytes, RESERVE);
    store_close(s);
    s = opened(d); /* it is found again */
    assert_int_equal(room(s).reserve_bytes, RESERVE);
    store_close(s);
    sim_disk_free(d);
}

/* In need a snapshot may take half of the reserve, and then the log that it stands for goes. */
static void a_snapshot_frees_the_log(void **state)
{
    struct sim_disk *d = sim_disk_new(3);
    struct store *s = opened(d);
    struct store_facts f;
    uint64_t index = 0;

    (void)state;
    (void)room(s);
    while (index < 100)
        assert_int_equal(save(s, ++index), 0);
    assert_int_equal(snapshot(s, 50, 5000), 0);
    assert_int_equal(snapshot(s, 60, 5000), 0); /* two are kept */
    sim_disk_set_capacity(d, sim_disk_used(d));
    (void)room(s);
    assert_int_equal(snapshot(s, 100, RESERVE), ERR_DISK_FULL);
    assert_true(room(s).reserve_bytes >= RESERVE / 2);
    assert_int_equal(snapshot(s, 100, 20000), 0);
    store_facts(s, &f);
    assert_int_equal(f.snapshot_index, 100);
    assert_true(f.log_bytes < 8192);
    unsigned snapshots = 0;
    for (size_t i = 0; sim_disk_name(d, i) != NULL; i++)
        snapshots += strncmp(sim_disk_name(d, i), "snapshot.", 9) == 0;
    assert_int_equal(snapshots, 1);
    assert_int_equal(save(s, ++index), 0);
    store_close(s);
    s = opened(d);
    store_facts(s, &f);
    assert_int_equal(f.last_index, 101);
    assert_int_equal(f.snapshot_index, 100);
    store_close(s);
    sim_disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(given_up_and_taken_again),
        cmocka_unit_test(grows_with_the_room),
        cmocka_unit_test(a_snapshot_frees_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
