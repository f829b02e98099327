/* SPDX-License-Identifier: Apache-2.0 */
/* Data directories of a real Apache ZooKeeper: tests/peer/zkdata_files.py made them, and wrote
 * down (expected.txt) what that server said about every znode. */
#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "wire/wire.h"
#include "zkdata/sum.h"
#include "zkdata/zkdata.h"

#define DIR_MAX 8

static void read_file(const char *dir, const char *name, struct buf *out)
{
    char path[256];
    size_t n;

    snprintf(path, sizeof path, "tests/unit/zkdata/%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    buf_clear(out);
    do {
        n = fread(buf_reserve(out, 4096), 1, 4096, f);
        buf_added(out, n);
    } while (n > 0);
    fclose(f);
}

/* The snapshot, the logs, and what comes of them. */
static struct zkdata *read_dir(const char *dir, const char *snapshot, const char *const *logs,
                               uint64_t *applied)
{
    struct zkdata *d = zkdata_new(5);
    struct buf b = {0}, why = {0};
    struct zkdata_log log;
    int64_t zxid;

    read_file(dir, snapshot, &b);
    assert_true(zkdata_parse_name(snapshot, "snapshot.", &zxid));
    assert_true(zkdata_tail_is_whole(b.data + b.len - ZKDATA_TAIL_LEN));
    if (zkdata_read_snapshot(d, zxid, b.data, b.len, &why) != 0)
        fail_msg("%s", buf_text(&why));
    *applied = 0;
    for (; *logs != NULL; logs++) {
        read_file(dir, *logs, &b);
        if (zkdata_replay(d, b.data, b.len, false, &log, &why) != 0)
            fail_msg("%s", buf_text(&why));
        assert_int_equal(log.torn_bytes, 0);
        *applied += log.applied;
    }
    buf_free(&b);
    buf_free(&why);
    return d;
}

static void print_image(const struct tree_image *v, struct buf *out)
{
    buf_printf(out, "%.*s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %d", (int)v->path_len,
               v->path, v->czxid, v->mzxid, v->ctime, v->mtime, v->version);
    buf_printf(out, " %d %d", v->creates, v->aversion);
    buf_printf(out, " %" PRId64 " ", v->pzxid);
    if (v->data.len < 0)
        buf_add_str(out, "null");
    else
        buf_add_u8(out, '=');
    for (int32_t i = 0; i < v->data.len; i++)
        buf_printf(out, "%02x", v->data.data[i]);
    buf_printf(out, " %08x", (unsigned)v->acl.count);
    for (size_t i = 0; i < v->acl.len; i++)
        buf_printf(out, "%02x", v->acl.data[i]);
}

/* One line of expected.txt, brought to the form of print_image. */
struct expectation {
    char path[64];
    int64_t numbers[11];
    char data[128], acl[256];
    int gone; /* its children that are ephemerals */
};

static size_t read_expected(const char *dir, struct expectation *e, size_t max)
{
    struct buf b = {0};
    size_t n = 0;

    read_file(dir, "expected.txt", &b);
    for (char *line = strtok((char *)(uintptr_t)buf_text(&b), "\n"); line != NULL;
         line = strtok(NULL, "\n")) {
        assert_true(n < max);
        int64_t *v = e[n].numbers;
        int got =
            sscanf(line,
                   "%63s %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64
                   " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %127s %255s",
                   e[n].path, v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7, v + 8, v + 9,
                   v + 10, e[n].data, e[n].acl);
        assert_int_equal(got, 14);
        n++;
    }
    buf_free(&b);
    return n;
}

enum { CZXID, MZXID, CTIME, MTIME, VERSION, CVERSION, AVERSION, OWNER, LEN, CHILDREN, PZXID };

static struct expectation *find_expected(struct expectation *e, size_t n, const char *path,
                                         size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(e[i].path) == len && memcmp(e[i].path, path, len) == 0)
            return &e[i];
    return NULL;
}

static size_t parent_len(const char *path)
{
    size_t at = (size_t)(strrchr(path, '/') - path);

    return at > 0 ? at : 1;
}

/* Every znode but the ephemerals, each field of its Stat; the parents of ephemerals as if
 * their sessions had been closed at `zxid`. */
static void assert_as_expected(const char *dir, const struct tree *t, int64_t zxid,
                               const char *const *left_alone)
{
    struct expectation *e = mem_new_array(struct expectation, 64);
    size_t n = read_expected(dir, e, 64), seen = 0, ephemerals = 0;
    struct tree_walk walk = {0};
    struct tree_image v;

    for (size_t i = 0; i < n; i++) {
        if (e[i].numbers[OWNER] == 0)
            continue;
        ephemerals++;
        find_expected(e, n, e[i].path, parent_len(e[i].path))->gone++;
    }
    while (tree_walk_next(&walk, t, &v)) {
        struct expectation *x = find_expected(e, n, v.path, v.path_len);
        struct buf got = {0}, wanted = {0};
        if (x == NULL)
            fail_msg("%.*s is too many", (int)v.path_len, v.path);
        bool skip = false;
        for (const char *const *p = left_alone; p != NULL && *p != NULL; p++)
            skip = skip || strcmp(*p, x->path) == 0;
        seen++;
        const int64_t *k = x->numbers;
        print_image(&v, &got);
        buf_printf(&wanted,
                   "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
                   " %" PRId64 " %" PRId64 " %s %s",
                   x->path, k[CZXID], k[MZXID], k[CTIME], k[MTIME], k[VERSION],
                   (k[CVERSION] + k[CHILDREN]) / 2, k[AVERSION], x->gone > 0 ? zxid : k[PZXID],
                   x->data, x->acl);
        if (!skip)
            assert_string_equal(buf_text(&got), buf_text(&wanted));
        buf_free(&got);
        buf_free(&wanted);
    }
    assert_int_equal(seen, n - ephemerals);
    tree_walk_free(&walk);
    mem_free(e);
}

/* Ephemerals count in a quota as long as they are there. */
static const char *const stats_node[] = {"/zookeeper/quota/a/zookeeper_stats", NULL};

static struct tree *import(const char *dir, const char *snapshot, const char *const *logs,
                           uint64_t applied_wanted, struct zkdata_facts *f)
{
    struct buf why = {0};
    uint64_t applied;
    struct zkdata *d = read_dir(dir, snapshot, logs, &applied);

    assert_int_equal(applied, applied_wanted);
    if (zkdata_finish(d, f, &why) != 0)
        fail_msg("%s", buf_text(&why));
    struct tree *t = tree_new(9);
    if (zkdata_to_tree(d, t, &why) != 0)
        fail_msg("%s", buf_text(&why));
    assert_true(tree_zxid(t) == f->zxid);
    zkdata_free(d);
    buf_free(&why);
    return t;
}

static void assert_quota(const struct tree *t, const char *text)
{
    const uint8_t *data;
    size_t len;

    assert_true(tree_get(t, stats_node[0], &data, &len));
    assert_int_equal(len, strlen(text));
    assert_memory_equal(data, text, len);
}

static void assert_survives_saving(struct tree *t)
{
    struct buf b = {0};

    tree_save(t, &b);
    struct tree *back = tree_load(77, b.data, b.len);
    assert_non_null(back);
    assert_true(tree_digest(back) == tree_digest(t));
    tree_free(back);
    buf_free(&b);
}

static void a_log_is_replayed(void **state)
{
    static const char *const logs[] = {"log.1", NULL};
    struct zkdata_facts f;
    struct tree *t = import("all", "snapshot.0", logs, 34, &f);

    (void)state;
    assert_as_expected("all", t, f.zxid, stats_node);
    assert_quota(t, "count=8,bytes=27");
    assert_int_equal(f.digest, ZKDATA_DIGEST_RIGHT);
    assert_int_equal(f.ephemerals, 3);
    assert_int_equal(f.sessions, 2);
    assert_int_equal(f.containers, 1);
    assert_int_equal(f.ttls, 2);
    assert_int_equal(f.orphans, 0);
    assert_true(f.zxid == 35);
    assert_survives_saving(t);
    tree_free(t);
}

static void a_snapshot_is_read(void **state)
{
    static const char *const logs[] = {"log.1", "log.23", NULL};
    struct zkdata_facts f;
    struct tree *t = import("later", "snapshot.22", logs, 4, &f);

    (void)state;
    assert_as_expected("later", t, f.zxid, stats_node);
    assert_int_equal(f.digest, ZKDATA_DIGEST_RIGHT);
    assert_int_equal(f.ephemerals, 3);
    tree_free(t);
    /* From the first snapshot on it comes to the same. */
    t = import("later", "snapshot.0", logs, 38, &f);
    assert_as_expected("later", t, f.zxid, stats_node);
    assert_int_equal(f.digest, ZKDATA_DIGEST_RIGHT);
    tree_free(t);
}

static void files_without_digests_are_read(void **state)
{
    static const char *const logs[] = {"log.1", "log.21", NULL};
    struct zkdata_facts f;
    struct tree *t = import("plain", "snapshot.20", logs, 2, &f);

    (void)state;
    assert_as_expected("plain", t, f.zxid, stats_node);
    assert_int_equal(f.digest, ZKDATA_NO_DIGEST);
    tree_free(t);
    t = import("plain", "snapshot.0", logs, 34, &f);
    assert_as_expected("plain", t, f.zxid, stats_node);
    tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_is_replayed),
        cmocka_unit_test(a_snapshot_is_read),
        cmocka_unit_test(files_without_digests_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
