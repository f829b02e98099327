/* SPDX-License-Identifier: Apache-2.0 */
/* Segments that are used again: what an earlier life of the file has left behind the log's end
 * is well-formed records, at the very places where the next ones go. */
#include <setjmp.h>
#include <stdarg.h>
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
#include "store/format.h"
#include "store/store.h"
#include "store_model.h"

/* Records of one size, so that those of each life begin where those of the last one did. */
enum { PAYLOAD = 152, RECORD = 192, BATCH = 4, SEGMENT = 18000, SEGMENT_ENTRIES = 93 };

static const struct store_options options = {.segment_bytes = SEGMENT, .salt = 7};

struct world {
    struct sim_disk *disk;
    struct store *store;
    struct store_model model; /* the last MODEL_ENTRIES_MAX indexes are enough */
    uint64_t next;
};

static struct store *opened(struct sim_disk *d, struct store_model *loaded, int *err)
{
    struct store_load load = model_load(loaded);
    struct buf why = {0};
    struct store *s;

    *err = store_open(&s, sim_disk_disk(d), &options, &load, &why);
    assert_int_equal(*err == 0, why.len == 0);
    buf_free(&why);
    return s;
}

static int save(struct world *w, unsigned n)
{
    struct raft_entry *v[16];
    struct raft_save r = {.hard = w->next == 1,
                          .term = 1,
                          .vote = 1,
                          .first_index = w->next,
                          .entries = v,
                          .n = n};
    uint8_t payload[PAYLOAD];

    for (unsigned i = 0; i < n; i++) {
        memset(payload, (int)(w->next + i), sizeof payload);
        v[i] = raft_entry_new(w->next + i, 1, RAFT_ENTRY_DATA, payload, sizeof payload);
    }
    int err = store_save(w->store, &r);
    if (err == 0) {
        model_save(&w->model, &r, UINT32_MAX);
        w->next += n;
    }
    for (unsigned i = 0; i < n; i++)
        raft_entry_unref(v[i]);
    return err;
}

static void snapshot(struct world *w)
{
    const struct raft_members members = {.n = 1, .v = {{.id = 1, .voter = true}}};
    struct raft_blob *b = raft_blob_new_take(w->next - 1, 1, &members, mem_dup("tree", 4), 4);

    assert_int_equal(store_snapshot(w->store, b, 0), 0);
    model_snapshot(&w->model, b);
    raft_blob_unref(b);
}

static unsigned count(const struct sim_disk *d, const char *prefix)
{
    unsigned n = 0;

    for (size_t i = 0; sim_disk_name(d, i) != NULL; i++)
        n += strncmp(sim_disk_name(d, i), prefix, strlen(prefix)) == 0;
    return n;
}

/* The segment that is written to. */
static const char *last_segment(const struct sim_disk *d)
{
    const char *last = NULL;
    uint64_t seq, most = 0;

    for (size_t i = 0; sim_disk_name(d, i) != NULL; i++)
        if (name_parse(sim_disk_name(d, i), SEGMENT_PREFIX, &seq) && seq >= most) {
            last = sim_disk_name(d, i);
            most = seq;
        }
    assert_non_null(last);
    return last;
}

static void done(struct world *w)
{
    store_close(w->store);
    model_clear(&w->model);
    sim_disk_free(w->disk);
}

/* Where the last segment's records end, found without the store's help. */
static size_t end_of(const uint8_t *data, size_t len)
{
    size_t at = SEGMENT_HEADER_BYTES;

    while (at + RECORD <= len && be32_get(data + at) != 0)
        at += RECORD;
    return at;
}

/* Where a record of the earlier life begins, behind the zeros that follow the last one of this.
 */
static size_t stale_of(size_t end)
{
    size_t zeros_end = end + END_ZEROS + SEGMENT_PAGE_BYTES;

    return (zeros_end - SEGMENT_HEADER_BYTES + RECORD) / RECORD * RECORD + SEGMENT_HEADER_BYTES;
}

/* Opens, and writes until the log is in the middle of a segment that has been one before. */
static void used_again(struct world *w)
{
    struct store_facts f;
    const uint8_t *data;
    size_t len, end = 0;
    int err;

    *w = (struct world){.disk = sim_disk_new(1), .model = {.next = 1}, .next = 1};
    w->store = opened(w->disk, &(struct store_model){0}, &err);
    assert_int_equal(err, 0);
    do {
        assert_int_equal(save(w, BATCH), 0);
        if (w->next % 60 == 1)
            snapshot(w);
        assert_true(sim_disk_get(w->disk, last_segment(w->disk), &data, &len));
        end = end_of(data, len);
        assert_true(w->next < MODEL_ENTRIES_MAX - 100);
        store_facts(w->store, &f);
    } while (f.spare_bytes == 0 || end < len / 4 || end > len / 2 ||
             be32_get(data + stale_of(end)) == 0);
}

static void files_are_used_again(void **state)
{
    struct world w;
    struct store_facts f;
    const uint8_t *data;
    size_t len;

    (void)state;
    used_again(&w);
    assert_true(sim_disk_get(w.disk, last_segment(w.disk), &data, &len));
    size_t end = end_of(data, len), old = 0;
    for (size_t at = end; at < end + END_ZEROS; at++)
        assert_int_equal(data[at], 0);
    for (size_t at = end; at + RECORD <= len; at += RECORD)
        old += be32_get(data + at) != 0;
    assert_true(old > 5); /* whole records of the life before */
    for (unsigned i = 0; i < 20; i++) {
        for (unsigned k = 0; k < 30 && w.next + BATCH < MODEL_ENTRIES_MAX; k++)
            assert_int_equal(save(&w, BATCH), 0);
        store_facts(w.store, &f);
        assert_true(f.spare_bytes <= 4 * SEGMENT);
        assert_true(count(w.disk, SPARE_PREFIX) <= 4);
    }
    store_close(w.store);
    assert_true(sim_disk_get(w.disk, last_segment(w.disk), &data, &len));
    assert_true(end_of(data, len) == len); /* nothing is left to be looked through */
    struct store_model loaded = {0};
    int err;
    w.store = opened(w.disk, &loaded, &err);
    assert_int_equal(err, 0);
    assert_null(model_difference(&w.model, &loaded));
    assert_int_equal(count(w.disk, SPARE_PREFIX), 0);
    assert_int_equal(save(&w, 1), 0);
    model_clear(&loaded);
    done(&w);
}

/* What is loaded of a changed disk: ERR_CORRUPT, or how many entries of the model's are missing
 * at the end. */
static int missing(const struct world *w, struct sim_disk *d)
{
    struct store_model loaded = {0};
    int err;
    struct store *s = opened(d, &loaded, &err);

    if (err != 0) {
        assert_int_equal(err, ERR_CORRUPT);
        return err;
    }
    assert_true(loaded.next <= w->model.next);
    for (uint64_t i = model_snapshot_index(&w->model) + 1; i < loaded.next; i++) {
        assert_non_null(loaded.entries[i]);
        assert_int_equal(loaded.entries[i]->term, 1);
        assert_memory_equal(loaded.entries[i]->payload, w->model.entries[i]->payload, PAYLOAD);
    }
    int n = (int)(w->model.next - loaded.next);
    store_close(s);
    model_clear(&loaded);
    return n;
}

/* Each bit of the segment, with stale records behind its end: in the last batch it is a torn
 * write, in front of that it is damage, behind the end it is nothing. */
static void each_bit(bool vote_knows)
{
    struct world w;
    const uint8_t *data;
    size_t len;

    used_again(&w);
    if (vote_knows) {
        const struct raft_save vote = {.hard = true, .term = 1, .vote = 1};
        assert_int_equal(store_save(w.store, &vote), 0);
    }
    const char *name = last_segment(w.disk);
    assert_true(sim_disk_get(w.disk, name, &data, &len));
    size_t end = end_of(data, len), batch = end - (size_t)BATCH * RECORD;
    for (uint64_t bit = 0; bit < 8 * len; bit += bit < 8 * (end + 200) ? 3 : 97) {
        struct sim_disk *c = sim_disk_copy(w.disk, bit);
        sim_disk_flip(c, name, bit);
        int n = missing(&w, c);
        if (bit >= 8 * end)
            assert_int_equal(n, 0);
        else if (bit < 8 * batch || vote_knows)
            assert_int_equal(n, ERR_CORRUPT);
        else
            assert_true(n > 0 && n <= BATCH);
        sim_disk_free(c);
    }
    done(&w);
}

static void bits_change(void **state)
{
    (void)state;
    each_bit(false);
}

static void bits_change_that_the_vote_knows_of(void **state)
{
    (void)state;
    each_bit(true);
}

static void mix(uint8_t *out, const uint8_t *old, const uint8_t *new, size_t from, size_t to,
                unsigned long pattern)
{
    enum { UNIT = 96 };

    for (size_t at = from; at < to; at++)
        out[at] = (pattern >> ((at - from) / UNIT) & 1) != 0 ? new[at] : old[at];
}

/* A write of four records is torn in every way, over what an earlier life has left. Worse than
 * a real disk can: with `is_bare`, the zeros that the write before has put there are gone too.
 * A beginning of the batch is loaded; then another batch is written, and only that is there. */
static void torn(bool is_bare)
{
    struct world w;
    const uint8_t *data;
    size_t len;

    used_again(&w);
    char name[FORMAT_NAME_MAX];
    memcpy(name, last_segment(w.disk), sizeof name);
    assert_true(sim_disk_get(w.disk, name, &data, &len));
    uint8_t *old = mem_dup(data, len), *mixed = mem_dup(data, len);
    size_t end = end_of(data, len);
    if (is_bare)
        memmove(old + end, old + stale_of(end), len - stale_of(end));
    assert_int_equal(be32_get(old + end) != 0, is_bare);
    assert_int_equal(save(&w, BATCH), 0);
    assert_true(sim_disk_get(w.disk, name, &data, &len));
    unsigned seen[BATCH + 1] = {0};
    for (unsigned long pattern = 0; pattern < 512; pattern++) {
        struct sim_disk *c = sim_disk_copy(w.disk, pattern);
        memcpy(mixed, old, len);
        mix(mixed, old, data, end, end + (size_t)BATCH * RECORD + 96, pattern);
        sim_disk_put(c, name, mixed, len);
        int n = missing(&w, c);
        assert_true(n >= 0 && n <= BATCH);
        seen[n]++;
        assert_int_equal(missing(&w, c), n); /* and again: opening has changed nothing */
        sim_disk_free(c);
    }
    for (unsigned i = 0; i <= BATCH; i++)
        assert_true(seen[i] > 0);
    mem_free(old);
    mem_free(mixed);
    done(&w);
}

static void a_write_is_torn(void **state)
{
    (void)state;
    torn(false);
}

static void a_write_is_torn_among_old_records(void **state)
{
    (void)state;
    torn(true);
}

/* What a torn write has left is gone for good, also when the same is written in front of it. */
static void a_torn_rest_does_not_come_back(void **state)
{
    struct world w;
    const uint8_t *data;
    size_t len;
    struct store_model loaded = {0};
    int err;

    (void)state;
    used_again(&w);
    char name[FORMAT_NAME_MAX];
    memcpy(name, last_segment(w.disk), sizeof name);
    assert_true(sim_disk_get(w.disk, name, &data, &len));
    size_t end = end_of(data, len);
    struct store_model before = {.next = 1};
    model_copy(&before, &w.model);
    uint64_t next = w.next;
    assert_int_equal(save(&w, BATCH), 0);
    sim_disk_flip(w.disk, name, 8 * end); /* its first record does not reach the disk */
    sim_disk_stop_after(w.disk, 0);
    store_close(w.store);
    sim_disk_killed(w.disk);
    w.store = opened(w.disk, &loaded, &err);
    assert_int_equal(err, 0);
    assert_null(model_difference(&before, &loaded));
    model_copy(&w.model, &before);
    w.next = next;
    /* The very same first record; and of this write, no more than that reaches the disk. */
    assert_true(sim_disk_get(w.disk, name, &data, &len));
    size_t had = len;
    uint8_t *rest = mem_dup(data, len);
    assert_int_equal(save(&w, 1), 0);
    assert_true(sim_disk_get(w.disk, name, &data, &len));
    uint8_t *mixed = mem_dup(data, len);
    memset(mixed + end + RECORD, 0, len - end - RECORD);
    if (had > end + RECORD)
        memcpy(mixed + end + RECORD, rest + end + RECORD, had - end - RECORD);
    struct sim_disk *c = sim_disk_copy(w.disk, 1);
    sim_disk_put(c, name, mixed, len);
    struct store *s = opened(c, &loaded, &err);
    assert_int_equal(err, 0);
    assert_null(model_difference(&w.model, &loaded));
    store_close(s);
    sim_disk_free(c);
    mem_free(rest);
    mem_free(mixed);
    model_clear(&before);
    model_clear(&loaded);
    done(&w);
}

/* Its header is on the disk before it has its name: without one, it is no torn write. */
static void a_header_is_never_torn(void **state)
{
    struct world w;

    (void)state;
    used_again(&w);
    for (uint64_t bit = 0; bit < 8ull * SEGMENT_HEADER_BYTES; bit++) {
        struct sim_disk *c = sim_disk_copy(w.disk, bit);
        sim_disk_flip(c, last_segment(c), bit);
        assert_int_equal(missing(&w, c), ERR_CORRUPT);
        sim_disk_free(c);
    }
    done(&w);
}

/* A version before this one gave a segment its name first: zeros, or a torn header, and zeros.
 */
static void a_segment_that_did_not_come_to_be(void **state)
{
    struct world w;
    uint8_t bytes[300] = {0};

    (void)state;
    used_again(&w);
    uint64_t seq;
    assert_true(name_parse(last_segment(w.disk), SEGMENT_PREFIX, &seq));
    for (unsigned torn_bytes = 0; torn_bytes < 40; torn_bytes++) {
        struct sim_disk *c = sim_disk_copy(w.disk, torn_bytes);
        char name[FORMAT_NAME_MAX];
        name_make(name, SEGMENT_PREFIX, seq + 1);
        memset(bytes, 'x', torn_bytes);
        sim_disk_put(c, name, bytes, sizeof bytes);
        assert_int_equal(missing(&w, c), 0);
        sim_disk_free(c);
    }
    done(&w);
}

/* ---- room ---- */

static void a_save_takes_the_room_of_spares(void **state)
{
    struct world w;
    struct store_room room;
    struct store_facts f;

    (void)state;
    used_again(&w);
    store_facts(w.store, &f);
    uint64_t spare = f.spare_bytes;
    sim_disk_set_capacity(w.disk, sim_disk_used(w.disk));
    assert_int_equal(store_room(w.store, &room), 0);
    assert_int_equal(room.free_bytes, spare);
    snapshot(&w); /* needs room: the spares' */
    store_facts(w.store, &f);
    assert_true(f.spare_bytes < spare);
    assert_int_equal(store_room(w.store, &room), 0);
    assert_true(room.free_bytes > 0 && room.free_bytes <= spare);
    done(&w);
}

static void somebody_removes_them(void **state)
{
    struct world w;

    (void)state;
    used_again(&w);
    for (size_t i = 0; sim_disk_name(w.disk, i) != NULL; i++)
        if (strncmp(sim_disk_name(w.disk, i), SPARE_PREFIX, strlen(SPARE_PREFIX)) == 0) {
            sim_disk_remove(w.disk, sim_disk_name(w.disk, i));
            i = 0;
        }
    while (w.next + BATCH < MODEL_ENTRIES_MAX)
        assert_int_equal(save(&w, BATCH), 0);
    assert_int_equal(missing(&w, w.disk), 0);
    done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_used_again),
        cmocka_unit_test(bits_change),
        cmocka_unit_test(bits_change_that_the_vote_knows_of),
        cmocka_unit_test(a_write_is_torn),
        cmocka_unit_test(a_write_is_torn_among_old_records),
        cmocka_unit_test(a_torn_rest_does_not_come_back),
        cmocka_unit_test(a_header_is_never_torn),
        cmocka_unit_test(a_segment_that_did_not_come_to_be),
        cmocka_unit_test(a_save_takes_the_room_of_spares),
        cmocka_unit_test(somebody_removes_them),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
