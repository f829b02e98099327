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
#include "mutant_env.h"
#include "wire/wire.h"
#include "zkdata/sum.h"
#include "zkdata/zkdata.h"

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
    if (zkdata_finish(d, f, NULL, &why) != 0)
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

static struct tree_image find(const struct tree *t, const char *path)
{
    struct tree_walk w = {0};
    struct tree_image v = {0};

    while (tree_walk_next(&w, t, &v))
        if (v.path_len == strlen(path) && memcmp(v.path, path, v.path_len) == 0)
            break;
    tree_walk_free(&w);
    return v;
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
    assert_int_equal(find(t, "/box").kind, TREE_CONTAINER);
    assert_int_equal(find(t, "/ttl").kind, TREE_TTL);
    assert_int_equal(find(t, "/ttl").ttl_ms, 86400000);
    assert_int_equal(find(t, "/ttl/s-0000000000").ttl_ms, 1099511627775);
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

/* ---- the other way ---- */

static struct tree *read_back(const struct buf *snapshot, int64_t zxid, struct zkdata_facts *f)
{
    struct zkdata *d = zkdata_new(6);
    struct tree *t = tree_new(8);
    struct buf why = {0};

    assert_true(zkdata_tail_is_whole(snapshot->data + snapshot->len - ZKDATA_TAIL_LEN));
    if (zkdata_read_snapshot(d, zxid, snapshot->data, snapshot->len, &why) != 0 ||
        zkdata_finish(d, f, NULL, &why) != 0 || zkdata_to_tree(d, t, &why) != 0)
        fail_msg("%s", buf_text(&why));
    zkdata_free(d);
    buf_free(&why);
    return t;
}

static void what_is_written_reads_the_same(void **state)
{
    static const char *const logs[] = {"log.1", NULL};
    struct zkdata_facts f;
    struct zkdata_written w;
    struct buf b = {0};
    struct tree *t = import("all", "snapshot.0", logs, 34, &f);

    (void)state;
    zkdata_write(t, 100, &b, &w);
    assert_true(w.zxid == 100);
    assert_int_equal(w.znodes, f.znodes);
    assert_int_equal(w.containers, 1);
    assert_int_equal(w.ttls, 2);
    assert_int_equal(w.ephemerals, 0);
    struct tree *back = read_back(&b, w.zxid, &f);
    assert_int_equal(f.digest, ZKDATA_DIGEST_RIGHT);
    assert_true(tree_digest(back) == tree_digest(t));
    tree_free(back);
    tree_free(t);
    buf_free(&b);
}

static int64_t apply(struct tree *t, int64_t zxid, int64_t session, int32_t op,
                     const struct buf *body)
{
    struct tree_txn txn = {.op = op, .session = session, .origin = {1, 1}};
    struct tree_result r = {0};

    txn.body = body != NULL ? body->data : NULL;
    txn.len = body != NULL ? body->len : 0;
    txn.time_ms = 1000 + zxid;
    tree_apply(t, zxid, &txn, NULL, &r);
    assert_int_equal(r.err, 0);
    return r.session;
}

static void create_in(struct tree *t, int64_t zxid, int64_t session, const char *path,
                      int32_t flags)
{
    struct buf body = {0}, acl = {0};
    struct wire_acl open = {WIRE_PERM_ALL, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    wire_acl_encode(&open, &acl);
    struct wire_create_request r = {
        wire_bytes(path, strlen(path)), wire_bytes("d", 1), {acl.data, acl.len, 1}, flags};
    wire_create_request_encode(&r, &body);
    apply(t, zxid, session, WIRE_OP_CREATE, &body);
    buf_free(&body);
    buf_free(&acl);
}

/* As if its session were closed one zxid later. */
static void ephemerals_are_left_out(void **state)
{
    struct tree *t = tree_new(3);
    struct zkdata_facts f;
    struct zkdata_written w;
    struct buf b = {0};

    (void)state;
    int64_t session = apply(t, 1, 0, TREE_OP_CREATE_SESSION, NULL);
    create_in(t, 2, session, "/a", WIRE_PERSISTENT);
    create_in(t, 3, session, "/a/e", WIRE_EPHEMERAL);
    create_in(t, 4, session, "/b", WIRE_PERSISTENT);
    zkdata_write(t, 4, &b, &w);
    assert_true(w.zxid == 5);
    assert_int_equal(w.ephemerals, 1);
    assert_int_equal(w.sessions, 1);
    struct tree *back = read_back(&b, w.zxid, &f);
    /* What the tree itself makes of closing the session. */
    apply(t, 5, session, TREE_OP_CLOSE_SESSION, NULL);
    assert_true(tree_digest(back) == tree_digest(t));
    tree_free(back);
    tree_free(t);
    buf_free(&b);
}

/* An entry that is not world:anyone must not come out as if it were. */
static void an_odd_open_list_does_not_open(void **state)
{
    struct wire_acl odd = {WIRE_PERM_ALL, wire_bytes("world", 5), wire_bytes("nobody", 6)};
    struct tree *t = tree_new(3);
    struct zkdata_facts f;
    struct zkdata_written w;
    struct buf b = {0}, acl = {0};

    (void)state;
    wire_acl_encode(&odd, &acl);
    struct tree_image v = {
        .path = "/a", .path_len = 2, .data = {NULL, -1}, .acl = {acl.data, acl.len, 1}};
    v.czxid = v.mzxid = v.pzxid = 1;
    assert_int_equal(tree_import(t, &v), 0);
    assert_int_equal(tree_import_end(t, 1), 0);
    zkdata_write(t, 1, &b, &w);
    struct tree *back = read_back(&b, w.zxid, &f);
    assert_true(tree_digest(back) == tree_digest(t));
    tree_free(back);
    tree_free(t);
    buf_free(&b);
    buf_free(&acl);
}

/* ---- logs made by hand: what a 3.8 writes only now and then ---- */

static void put_head(struct buf *b, int64_t session, int64_t zxid, int32_t type)
{
    buf_add_be64(b, (uint64_t)session);
    buf_add_be32(b, 0);
    buf_add_be64(b, (uint64_t)zxid);
    buf_add_be64(b, (uint64_t)(7000 + zxid));
    buf_add_be32(b, (uint32_t)type);
}

static void put_text(struct buf *b, const char *s) { wire_text_encode(s, strlen(s), b); }

static void put_open(struct buf *b)
{
    struct wire_acl open = {WIRE_PERM_ALL, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    buf_add_be32(b, 1);
    wire_acl_encode(&open, b);
}

static void put_create(struct buf *b, int64_t zxid, const char *path, int32_t creates)
{
    put_head(b, 77, zxid, WIRE_OP_CREATE);
    put_text(b, path);
    put_text(b, "new");
    put_open(b);
    buf_add_u8(b, 0);
    if (creates >= 0)
        buf_add_be32(b, (uint32_t)creates);
}

static void put_delete(struct buf *b, int64_t zxid, const char *path)
{
    put_head(b, 77, zxid, WIRE_OP_DELETE);
    put_text(b, path);
}

static void log_begin(struct buf *log)
{
    buf_clear(log);
    buf_add_be32(log, 0x5a4b4c47);
    buf_add_be32(log, 2);
    buf_add_be64(log, 0);
}

static void log_entry(struct buf *log, struct buf *entry)
{
    buf_add_be64(log, adler32(ADLER32_START, entry->data, entry->len));
    buf_add_be32(log, (uint32_t)entry->len);
    buf_add(log, entry->data, entry->len);
    buf_add_u8(log, 'B');
    buf_clear(entry);
}

/* A data directory as it is at zxid 35: "later" without its last log. */
static struct zkdata *base(void)
{
    static const char *const none[] = {NULL};
    uint64_t applied;

    return read_dir("later", "snapshot.22", none, &applied);
}

static int replay(struct zkdata *d, const struct buf *log, struct zkdata_log *out)
{
    struct buf why = {0};
    int err = zkdata_replay(d, log->data, log->len, false, out, &why);

    assert_true((err == 0) == (why.len == 0));
    buf_free(&why);
    return err;
}

static struct tree *finish(struct zkdata *d, struct zkdata_facts *f)
{
    struct tree *t = tree_new(4);
    struct buf why = {0};

    if (zkdata_finish(d, f, NULL, &why) != 0 || zkdata_to_tree(d, t, &why) != 0)
        fail_msg("%s", buf_text(&why));
    zkdata_free(d);
    buf_free(&why);
    return t;
}

/* Of 3.3: a create without the parent's counter, and a session closed without a list. */
static void old_transactions_are_understood(void **state)
{
    struct buf log = {0}, e = {0};
    struct zkdata_log facts;
    struct zkdata_facts f;
    struct zkdata *d = base();

    (void)state;
    log_begin(&log);
    put_create(&e, 0x23, "/a/old", -1);
    log_entry(&log, &e);
    put_head(&e, 77, 0x24, WIRE_OP_CREATE_SESSION);
    buf_add_be32(&e, 30000);
    log_entry(&log, &e);
    put_head(&e, 77, 0x25, WIRE_OP_CREATE);
    put_text(&e, "/a/e");
    put_text(&e, "");
    put_open(&e);
    buf_add_u8(&e, 1);
    buf_add_be32(&e, 13);
    log_entry(&log, &e);
    put_head(&e, 77, 0x26, WIRE_OP_CLOSE_SESSION);
    log_entry(&log, &e);
    put_head(&e, 77, 0x27, 16); /* reconfig */
    put_text(&e, "/zookeeper/config");
    put_text(&e, "server.1=x:1:2");
    buf_add_be32(&e, 3);
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), 0);
    assert_int_equal(facts.applied, 5);
    struct tree *t = finish(d, &f);
    assert_int_equal(find(t, "/a").creates, 13);
    assert_true(find(t, "/a/old").czxid == 0x23);
    assert_true(find(t, "/a/e").path == NULL || find(t, "/a/e").czxid != 0x25);
    assert_int_equal(find(t, "/zookeeper/config").version, 3);
    assert_int_equal(find(t, "/zookeeper/config").data.len, 0);
    assert_true(f.config_dropped);
    assert_int_equal(f.sessions, 2);
    tree_free(t);
    buf_free(&log);
    buf_free(&e);
}

/* The snapshot has seen changes that come in the log again; and others undo them. */
static void a_fuzzy_snapshot_is_made_whole(void **state)
{
    struct buf log = {0}, e = {0};
    struct zkdata_log facts;
    struct zkdata_facts f;
    struct zkdata *d = base();

    (void)state;
    log_begin(&log);
    put_create(&e, 0x23, "/box/in", 9); /* there: only the parent's counter is raised */
    log_entry(&log, &e);
    put_create(&e, 0x24, "/box/in", 3); /* which never goes back */
    log_entry(&log, &e);
    put_delete(&e, 0x25, "/nowhere/x");
    log_entry(&log, &e);
    put_delete(&e, 0x26, "/m/2"); /* gone, but its parent has seen it go */
    log_entry(&log, &e);
    put_delete(&e, 0x27, "/ttl"); /* its child came with the snapshot */
    log_entry(&log, &e);
    put_head(&e, 77, 0x28, WIRE_OP_SET_DATA);
    put_text(&e, "/nowhere");
    put_text(&e, "x");
    buf_add_be32(&e, 3);
    log_entry(&log, &e);
    put_create(&e, 0x29, "/nowhere/x", 3);
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), 0);
    struct tree *t = finish(d, &f);
    struct tree_image box = find(t, "/box"), in = find(t, "/box/in"), m = find(t, "/m");
    assert_int_equal(box.creates, 9);
    assert_true(box.pzxid == 0x23);
    assert_int_equal(in.data.len, 1);
    assert_true(in.czxid == 14);
    assert_true(m.pzxid == 0x26);
    assert_int_equal(f.orphans, 1);
    tree_free(t);
    buf_free(&log);
    buf_free(&e);
}

static void missing_entries_are_noticed(void **state)
{
    struct buf log = {0}, e = {0}, why = {0};
    struct zkdata_log facts;
    struct zkdata *d = base();

    (void)state;
    log_begin(&log);
    put_create(&e, 0x25, "/gap", 9);
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), ERR_UNSAFE);
    zkdata_free(d);
    d = base();
    assert_int_equal(zkdata_replay(d, log.data, log.len, true, &facts, &why), 0);
    assert_int_equal(facts.applied, 1);
    zkdata_free(d);
    /* A new epoch begins at 1, whatever the last one ended with. */
    d = base();
    log_begin(&log);
    put_create(&e, INT64_C(0x500000001), "/epoch", 9);
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), 0);
    zkdata_free(d);
    d = base();
    log_begin(&log);
    put_create(&e, INT64_C(0x500000002), "/epoch", 9);
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), ERR_UNSAFE);
    zkdata_free(d);
    buf_free(&log);
    buf_free(&e);
    buf_free(&why);
}

/* A path that old servers let in, and no client can use now. */
static void a_path_that_is_not_valid_is_named(void **state)
{
    struct buf log = {0}, e = {0}, why = {0};
    struct zkdata_log facts;
    struct zkdata_facts f;
    struct zkdata *d = base();
    struct tree *t = tree_new(1);

    (void)state;
    log_begin(&log);
    put_create(&e, 0x23, "/a/\033[2J", 13);
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), 0);
    assert_int_equal(zkdata_finish(d, &f, NULL, &why), 0);
    assert_int_equal(zkdata_to_tree(d, t, &why), ERR_UNSAFE);
    assert_non_null(strstr(buf_text(&why), "/a/\033[2J: "));
    zkdata_free(d);
    tree_free(t);
    buf_free(&log);
    buf_free(&e);
    buf_free(&why);
}

static void a_zxid_that_does_not_fit_is_refused(void **state)
{
    struct buf log = {0}, e = {0}, why = {0};
    struct zkdata_log facts;
    struct zkdata_facts f;
    struct zkdata *d = base();
    struct tree *t = tree_new(1);

    (void)state;
    log_begin(&log);
    put_create(&e, INT64_C(0x100000000000001), "/far", 9); /* epoch 2^24 */
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), 0);
    assert_int_equal(zkdata_finish(d, &f, NULL, &why), 0);
    assert_int_equal(zkdata_to_tree(d, t, &why), ERR_TOO_BIG);
    zkdata_free(d);
    tree_free(t);
    buf_free(&log);
    buf_free(&e);
    buf_free(&why);
}

/* One entry of this type and body on top of base(). */
static int replay_one(int32_t type, const void *body, size_t len)
{
    struct buf log = {0}, e = {0};
    struct zkdata_log facts;
    struct zkdata *d = base();

    log_begin(&log);
    put_head(&e, 77, 0x23, type);
    if (len > 0)
        buf_add(&e, body, len);
    log_entry(&log, &e);
    int err = replay(d, &log, &facts);
    zkdata_free(d);
    buf_free(&log);
    buf_free(&e);
    return err;
}

static void what_is_not_known_is_refused(void **state)
{
    static const uint8_t deep[] = {0, 0, 0, 1, 0, 0, 0, 14, 0, 0, 0, 0};
    static const uint8_t many[] = {0x7f, 0xff, 0xff, 0xff};

    (void)state;
    assert_int_equal(replay_one(99, NULL, 0), ERR_CORRUPT);
    assert_int_equal(replay_one(WIRE_OP_DELETE, NULL, 0), ERR_CORRUPT);
    assert_int_equal(replay_one(WIRE_OP_DELETE, "\0\0\0\2/a123", 9), ERR_CORRUPT);
    assert_int_equal(replay_one(WIRE_OP_DELETE, "\0\0\0\2a/", 6), ERR_CORRUPT);
    assert_int_equal(replay_one(WIRE_OP_MULTI, deep, sizeof deep), ERR_CORRUPT);
    assert_int_equal(replay_one(WIRE_OP_MULTI, many, sizeof many), ERR_CORRUPT);
    assert_int_equal(replay_one(WIRE_OP_ERROR, "\377\377\377\233", 4), 0);
}

static void a_foreign_access_list_is_kept_and_named(void **state)
{
    struct buf log = {0}, e = {0}, names = {0}, why = {0};
    struct zkdata_log facts;
    struct zkdata_facts f;
    struct wire_acl acl = {WIRE_PERM_ALL, wire_bytes("nobodys", 7), wire_bytes("x", 1)};
    struct zkdata *d = base();
    struct tree *t = tree_new(1);

    (void)state;
    log_begin(&log);
    put_head(&e, 77, 0x23, WIRE_OP_SET_ACL);
    put_text(&e, "/a/s-0000000005");
    buf_add_be32(&e, 1);
    wire_acl_encode(&acl, &e);
    buf_add_be32(&e, 2);
    log_entry(&log, &e);
    assert_int_equal(replay(d, &log, &facts), 0);
    assert_int_equal(zkdata_finish(d, &f, &names, &why), 0);
    assert_int_equal(f.foreign, 1);
    assert_string_equal(buf_text(&names), "/a/s-0000000005\n");
    assert_int_equal(zkdata_to_tree(d, t, &why), 0);
    struct tree_image v = find(t, "/a/s-0000000005");
    assert_int_equal(v.acl.count, 1);
    assert_non_null(memmem(v.acl.data, v.acl.len, "nobodys", 7));
    assert_survives_saving(t);
    zkdata_free(d);
    tree_free(t);
    buf_free(&log);
    buf_free(&e);
    buf_free(&names);
    buf_free(&why);
}

/* ---- damage ---- */

static uint8_t *copy_of(const struct buf *b, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1); /* so that a byte too far is seen */

    memcpy(copy, b->data, len);
    return copy;
}

static int read_snapshot(const uint8_t *data, size_t len)
{
    struct zkdata *d = zkdata_new(1);
    struct buf why = {0};
    int err = zkdata_read_snapshot(d, 0x22, data, len, &why);

    assert_true(err == 0 || err == ERR_CORRUPT);
    assert_true((err == 0) == (why.len == 0));
    zkdata_free(d);
    buf_free(&why);
    return err;
}

/* Where a file of another version ends. */
#define SEAL 13
#define DIGEST_PART 20

static void damaged_snapshots_are_refused(void **state)
{
    struct buf b = {0};

    (void)state;
    read_file("later", "snapshot.22", &b);
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *data = copy_of(&b, len);
        int err = read_snapshot(data, len);
        free(data);
        if (len == b.len - SEAL - DIGEST_PART)
            assert_int_equal(err, 0); /* before 3.6 they end so */
        else
            assert_int_equal(err, ERR_CORRUPT);
    }
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(read_snapshot(b.data, b.len), ERR_CORRUPT);
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(read_snapshot(b.data, b.len), 0);
    /* 3.9 may add the zxid and one more seal. */
    buf_add_be64(&b, 0x22);
    buf_add_be64(&b, adler32(ADLER32_START, b.data, b.len));
    put_text(&b, "/");
    assert_int_equal(read_snapshot(b.data, b.len), 0);
    buf_add_u8(&b, 0);
    assert_int_equal(read_snapshot(b.data, b.len), ERR_CORRUPT);
    buf_free(&b);
}

static void torn_logs_end_where_they_are_torn(void **state)
{
    struct buf b = {0};
    uint64_t last = 0;

    (void)state;
    read_file("all", "log.1", &b);
    for (size_t len = 0; len <= b.len; len++) {
        struct zkdata *d = zkdata_new(1);
        struct buf why = {0}, snapshot = {0};
        struct zkdata_log log;
        read_file("all", "snapshot.0", &snapshot);
        assert_int_equal(zkdata_read_snapshot(d, 0, snapshot.data, snapshot.len, &why), 0);
        uint8_t *data = copy_of(&b, len);
        assert_int_equal(zkdata_replay(d, data, len, false, &log, &why), 0);
        assert_true(log.applied == last || log.applied == last + 1);
        last = log.applied;
        zkdata_free(d);
        free(data);
        buf_free(&snapshot);
    }
    assert_int_equal(last, 34);
    buf_free(&b);
}

/* A changed bit is an error, or makes the log end there; never another tree. */
static void damaged_logs_are_refused(void **state)
{
    struct buf b = {0}, snapshot = {0};
    size_t used;

    (void)state;
    read_file("all", "log.1", &b);
    read_file("all", "snapshot.0", &snapshot);
    used = b.len - 64;
    for (size_t bit = 0; bit < 8 * used; bit++) {
        struct zkdata *d = zkdata_new(1);
        struct buf why = {0};
        struct zkdata_log log;
        assert_int_equal(zkdata_read_snapshot(d, 0, snapshot.data, snapshot.len, &why), 0);
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int err = zkdata_replay(d, b.data, b.len, false, &log, &why);
        if (err == 0 && bit >= 128) { /* dbid is not looked at */
            assert_true(log.torn_bytes > 0);
            assert_true(log.applied < 34);
        } else if (bit < 64 || bit >= 128) {
            assert_int_equal(err, ERR_CORRUPT);
        }
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        zkdata_free(d);
        buf_free(&why);
    }
    buf_free(&b);
    buf_free(&snapshot);
}

static void names_are_parsed(void **state)
{
    int64_t zxid;

    (void)state;
    assert_true(zkdata_parse_name("snapshot.0", "snapshot.", &zxid) && zxid == 0);
    assert_true(zkdata_parse_name("log.500000001", "log.", &zxid) &&
                zxid == INT64_C(0x500000001));
    assert_false(zkdata_parse_name("snapshot.", "snapshot.", &zxid));
    assert_false(zkdata_parse_name("snapshot.1a.gz", "snapshot.", &zxid));
    assert_false(zkdata_parse_name("snapshot.1A", "snapshot.", &zxid));
    assert_false(zkdata_parse_name("log.ffffffffffffffff", "log.", &zxid));
    assert_false(zkdata_parse_name("log.10000000000000000", "log.", &zxid));
}

static void the_sums_are_the_known_ones(void **state)
{
    (void)state;
    assert_int_equal(adler32(ADLER32_START, "Wikipedia", 9), 0x11e60398);
    assert_int_equal(crc32_ieee(0, "123456789", 9), 0xcbf43926);
}

int main(void)
{
    mutant_from_env();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_is_replayed),
        cmocka_unit_test(a_snapshot_is_read),
        cmocka_unit_test(files_without_digests_are_read),
        cmocka_unit_test(what_is_written_reads_the_same),
        cmocka_unit_test(ephemerals_are_left_out),
        cmocka_unit_test(an_odd_open_list_does_not_open),
        cmocka_unit_test(old_transactions_are_understood),
        cmocka_unit_test(a_fuzzy_snapshot_is_made_whole),
        cmocka_unit_test(missing_entries_are_noticed),
        cmocka_unit_test(a_path_that_is_not_valid_is_named),
        cmocka_unit_test(a_zxid_that_does_not_fit_is_refused),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(a_foreign_access_list_is_kept_and_named),
        cmocka_unit_test(damaged_snapshots_are_refused),
        cmocka_unit_test(torn_logs_end_where_they_are_torn),
        cmocka_unit_test(damaged_logs_are_refused),
        cmocka_unit_test(names_are_parsed),
        cmocka_unit_test(the_sums_are_the_known_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
