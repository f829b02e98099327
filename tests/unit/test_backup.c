/* SPDX-License-Identifier: Apache-2.0 */
/* A backup's files and manifest: what is written is read back, and any flipped bit is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "backup/file.h"
#include "backup/manifest.h"
#include "base/err.h"
#include "mutant_env.h"

static const uint8_t cluster[BACKUP_CLUSTER_LEN] = "sixteen bytes of";

static void add_entry(struct backup_writer *w, uint64_t index, uint64_t term, size_t len,
                      struct buf *out)
{
    uint8_t bytes[64];

    memset(bytes, (int)index, sizeof bytes);
    struct raft_entry *e = raft_entry_new(index, term, RAFT_ENTRY_DATA, bytes, len);
    backup_add_entry(w, e, out);
    raft_entry_unref(e);
}

/* A full one: a snapshot at 10, entries 11 to 14; or one that goes on behind 10. */
static void make(struct buf *out, bool is_full)
{
    struct raft_members m = {.n = 1, .v = {{.id = 1, .voter = true, .name = "a"}}};
    struct backup_writer w;

    backup_begin(&w, cluster, 10, 3, out);
    if (is_full)
        backup_add_snapshot(&w, &m, (const uint8_t *)"a tree", 6, out);
    for (uint64_t i = 11; i < 15; i++)
        add_entry(&w, i, i < 13 ? 3 : 5, (size_t)(i % 4) * 5, out);
    backup_end(&w, 0x1234, out);
}

/* Reads all of it; 0, or the error and *at where. */
static int read_all(const uint8_t *data, size_t len, struct backup_record *last, size_t *at)
{
    struct backup_reader r;
    struct raft_members m;
    int err = backup_read_begin(&r, data, len);

    last->type = 0;
    while (err == 0 && last->type != BACKUP_END)
        err = backup_read(&r, last, &m);
    if (err != 0)
        assert_non_null(r.why);
    *at = r.at;
    return err;
}

static void what_is_written_is_read_back(void **state)
{
    struct buf b = {0};
    struct backup_reader r;
    struct backup_record e;
    struct raft_members m = {0};
    (void)state;

    make(&b, true);
    assert_int_equal(backup_read_begin(&r, b.data, b.len), 0);
    assert_memory_equal(r.cluster, cluster, sizeof cluster);
    assert_int_equal(r.base_index, 10);
    assert_int_equal(r.base_term, 3);
    assert_int_equal(backup_read(&r, &e, &m), 0);
    assert_int_equal(e.type, BACKUP_SNAPSHOT);
    assert_int_equal(e.len, 6);
    assert_memory_equal(e.data, "a tree", 6);
    assert_int_equal(m.n, 1);
    for (uint64_t i = 11; i < 15; i++) {
        assert_int_equal(backup_read(&r, &e, &m), 0);
        assert_int_equal(e.type, RAFT_ENTRY_DATA);
        assert_int_equal(e.index, i);
        assert_int_equal(e.len, i % 4 * 5);
    }
    assert_int_equal(backup_read(&r, &e, &m), 0);
    assert_int_equal(e.type, BACKUP_END);
    assert_int_equal(e.entries, 4);
    assert_int_equal(e.digest, 0x1234);
    assert_true(r.has_end);
    buf_free(&b);
}

static void any_flipped_bit_is_found(void **state)
{
    (void)state;
    for (int full = 0; full < 2; full++) {
        struct buf b = {0};
        struct backup_record e;
        size_t at;
        make(&b, full);
        assert_int_equal(read_all(b.data, b.len, &e, &at), 0);
        for (size_t bit = 0; bit < 8 * b.len; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(read_all(b.data, b.len, &e, &at), ERR_CORRUPT);
            assert_true(at <= bit / 8); /* where it says, or behind: in that record */
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_int_equal(read_all(b.data, b.len, &e, &at), 0);
        buf_free(&b);
    }
}

static void a_file_that_was_cut_off_or_goes_on_is_found(void **state)
{
    struct buf b = {0};
    struct backup_record e;
    size_t at;
    (void)state;

    make(&b, true);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(read_all(b.data, len, &e, &at), ERR_CORRUPT);
    buf_add_u8(&b, 0);
    assert_int_equal(read_all(b.data, b.len, &e, &at), ERR_CORRUPT);
    assert_int_equal(at, b.len - 1);
    buf_free(&b);
}

/* A record's checksum covers the one before: none can be left out, doubled or moved. */
static void records_cannot_be_moved(void **state)
{
    struct buf b = {0}, other = {0};
    struct backup_reader r;
    struct backup_record e;
    size_t from, to, at;
    (void)state;

    make(&b, false);
    assert_int_equal(backup_read_begin(&r, b.data, b.len), 0);
    assert_int_equal(backup_read(&r, &e, NULL), 0);
    from = r.at;
    assert_int_equal(backup_read(&r, &e, NULL), 0);
    to = r.at;
    buf_add(&other, b.data, from); /* without the second entry */
    buf_add(&other, b.data + to, b.len - to);
    assert_int_equal(read_all(other.data, other.len, &e, &at), ERR_CORRUPT);
    assert_int_equal(at, from);
    buf_clear(&other);
    buf_add(&other, b.data, to); /* with it twice */
    buf_add(&other, b.data + from, b.len - from);
    assert_int_equal(read_all(other.data, other.len, &e, &at), ERR_CORRUPT);
    buf_free(&b);
    buf_free(&other);
}

/* ---- the manifest ---- */

static struct manifest_file file(bool is_full, uint64_t from, uint64_t to)
{
    return (struct manifest_file){.is_full = is_full,
                                  .from = from,
                                  .to = to,
                                  .to_term = 7,
                                  .entries = to - from,
                                  .bytes = 1000,
                                  .crc = 0xabcd,
                                  .digest = UINT64_MAX - 5,
                                  .time_ms = 1234567890123};
}

static void fill(struct manifest *m)
{
    const struct manifest_file v[] = {file(true, 1, 10),  file(false, 10, 20),
                                      file(true, 15, 30), file(false, 30, 30),
                                      file(true, 30, 40), file(false, 40, 41)};

    *m = (struct manifest){.site = "shop"};
    memcpy(m->cluster, cluster, sizeof cluster);
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        manifest_add(m, &v[i]);
}

static void a_manifest_is_read_back(void **state)
{
    struct manifest m, back;
    struct buf b = {0}, why = {0};
    char name[MANIFEST_NAME_MAX];
    (void)state;

    fill(&m);
    manifest_print(&m, &b);
    assert_int_equal(manifest_parse(&back, b.data, b.len, &why), 0);
    assert_int_equal(back.n, m.n);
    assert_string_equal(back.site, "shop");
    assert_memory_equal(back.cluster, cluster, sizeof cluster);
    for (size_t i = 0; i < m.n; i++) {
        assert_int_equal(back.v[i].from, m.v[i].from);
        assert_int_equal(back.v[i].digest, m.v[i].digest);
        assert_int_equal(back.v[i].time_ms, m.v[i].time_ms);
    }
    manifest_name(&m.v[2], name);
    assert_string_equal(name, "full-000000000000000f-000000000000001e");
    manifest_free(&m);
    manifest_free(&back);
    buf_free(&b);
}

static void any_flipped_bit_of_a_manifest_is_found(void **state)
{
    struct manifest m, back;
    struct buf b = {0}, why = {0};
    (void)state;

    fill(&m);
    manifest_print(&m, &b);
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        buf_clear(&why);
        assert_int_equal(manifest_parse(&back, b.data, b.len, &why), ERR_CORRUPT);
        assert_true(why.len > 0);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < b.len; len++) {
        buf_clear(&why);
        assert_int_equal(manifest_parse(&back, b.data, len, &why), ERR_CORRUPT);
    }
    manifest_free(&m);
    buf_free(&b);
    buf_free(&why);
}

static void so_many_full_ones_are_kept(void **state)
{
    struct manifest m;
    (void)state;

    fill(&m);
    assert_int_equal(manifest_keep(&m, 0), 6);
    assert_int_equal(manifest_keep(&m, 1), 4);
    assert_int_equal(manifest_keep(&m, 2), 2);
    assert_int_equal(manifest_keep(&m, 3), 0);
    assert_int_equal(manifest_keep(&m, 9), 0);
    manifest_drop(&m, 4);
    assert_int_equal(m.n, 2);
    assert_int_equal(m.v[0].from, 30);
    manifest_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(any_flipped_bit_is_found),
        cmocka_unit_test(a_file_that_was_cut_off_or_goes_on_is_found),
        cmocka_unit_test(records_cannot_be_moved),
        cmocka_unit_test(a_manifest_is_read_back),
        cmocka_unit_test(any_flipped_bit_of_a_manifest_is_found),
        cmocka_unit_test(so_many_full_ones_are_kept),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
