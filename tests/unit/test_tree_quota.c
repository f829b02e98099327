/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas, containers and TTL znodes: what the tree does by itself. */
#include "mutant_env.h"
#include "unit/tree_world.h"

#include <stdio.h>

static int setup(void **state)
{
    *state = world_new();
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

/* ---- quotas ---- */

static void assert_data(struct world *w, const char *path, const char *expected)
{
    struct wire_data_response r;

    assert_int_equal(get_data(w, path, 0), 0);
    struct wire_in in = answer(w);
    assert_int_equal(wire_data_response_decode(&r, &in), 0);
    assert_int_equal(r.data.len, (int)strlen(expected));
    assert_memory_equal(r.data.data, expected, strlen(expected));
}

#define STATS "/zookeeper/quota/a/zookeeper_stats"
#define LIMITS "/zookeeper/quota/a/zookeeper_limits"

static void quota(struct world *w, const char *limits)
{
    assert_int_equal(create(w, "/zookeeper/quota/a", "", 0), 0);
    assert_int_equal(create(w, LIMITS, limits, 0), 0);
    assert_int_equal(create(w, STATS, "count=7,bytes=7", 0), 0);
}

static void what_is_used_is_counted(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/a", "123", 0), 0);
    assert_int_equal(create(w, "/a/b", "12", 0), 0);
    assert_int_equal(create(w, "/ab", "not below", 0), 0);
    quota(w, "count=2,bytes=-1");
    assert_data(w, STATS, "count=2,bytes=5");
    struct wire_stat before = w->stat;
    assert_int_equal(read_path(w, WIRE_OP_GET_DATA, text_of(STATS), 5), 0);
    assert_int_equal(create(w, "/a/c", "1234", 0), 0); /* a soft limit does not refuse */
    assert_int_equal(create(w, "/a/c/d", NULL, 0), 0);
    assert_int_equal(set_data(w, "/a", "1", -1), 0);
    assert_data(w, STATS, "count=4,bytes=7");
    assert_int_equal(w->stat.mzxid, before.mzxid);
    assert_int_equal(w->stat.version, before.version);
    assert_int_equal(w->stat.mtime, before.mtime);
    assert_events(w, "");
    reload(w);
    assert_int_equal(remove_node(w, "/a/c/d", -1), 0);
    assert_int_equal(remove_node(w, "/a/c", -1), 0);
    assert_data(w, STATS, "count=2,bytes=3");
    int64_t session = w->session;
    w->session = session_new(w, 9);
    w->origin.conn = 9;
    assert_int_equal(create(w, "/a/e", "12345", WIRE_EPHEMERAL), 0);
    assert_data(w, STATS, "count=3,bytes=8");
    buf_clear(&w->body);
    assert_int_equal(apply(w, TREE_OP_CLOSE_SESSION), 0);
    w->session = session;
    w->origin.conn = 7;
    assert_data(w, STATS, "count=2,bytes=3");
    /* Without its limits it is none any more. */
    assert_int_equal(remove_node(w, LIMITS, -1), 0);
    assert_int_equal(create(w, "/a/f", "", 0), 0);
    assert_data(w, STATS, "count=2,bytes=3");
}

static void the_deepest_quota_counts(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/a", "", 0), 0);
    assert_int_equal(create(w, "/a/b", "", 0), 0);
    quota(w, "count=9,bytes=9");
    assert_int_equal(create(w, "/zookeeper/quota/a/b", "", 0), 0);
    assert_int_equal(create(w, "/zookeeper/quota/a/b/zookeeper_limits", "count=1", 0), 0);
    assert_int_equal(create(w, "/zookeeper/quota/a/b/zookeeper_stats", "", 0), 0);
    assert_int_equal(create(w, "/a/b/c", "1", 0), 0);
    assert_data(w, "/zookeeper/quota/a/b/zookeeper_stats", "count=2,bytes=1");
    assert_data(w, STATS, "count=2,bytes=0");
}

static void hard_limits_refuse_when_they_are_enforced(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/a", "12", 0), 0);
    quota(w, "count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=3");
    w->rules = TREE_RULE_ENFORCE_QUOTA;
    assert_int_equal(create(w, "/a/b", "1234", 0), ERR_QUOTA_EXCEEDED);
    assert_int_equal(create(w, "/a/b", "123", 0), 0);
    assert_int_equal(set_data(w, "/a", "123", 9), ERR_QUOTA_EXCEEDED); /* before the version */
    assert_int_equal(set_data(w, "/a", "21", 0), 0);
    assert_int_equal(create(w, "/a/c", NULL, 0), 0);
    assert_int_equal(create(w, "/a/d", NULL, 0), ERR_QUOTA_EXCEEDED);
    assert_int_equal(create(w, "/a/c", NULL, 0), ERR_NODE_EXISTS); /* looked at before */
    assert_int_equal(set_data(w, "/a/b", "", -1), 0);
    assert_data(w, STATS, "count=3,bytes=2");
    w->rules = 0;
    assert_int_equal(create(w, "/a/d", "12345678", 0), 0);
    assert_data(w, STATS, "count=4,bytes=10");
    assert_int_equal(set_data(w, STATS, "count=1,bytes=1", -1), 0);
    w->rules = TREE_RULE_ENFORCE_QUOTA;
    assert_int_equal(create(w, "/a/e", "1", 0), 0);
    assert_data(w, STATS, "count=2,bytes=2");
}

static void what_is_no_quota_is_not_taken_for_one(void **state)
{
    static const char *const limits[] = {"",
                                         "nonsense",
                                         "count=",
                                         "count=x",
                                         "=,;=",
                                         "count=-",
                                         "count=99999999999999999999",
                                         "byteHardLimit=="};
    struct world *w = *state;

    assert_int_equal(create(w, "/a", "12", 0), 0);
    quota(w, "");
    w->rules = TREE_RULE_ENFORCE_QUOTA;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        assert_int_equal(set_data(w, LIMITS, limits[i], -1), 0);
        assert_int_equal(set_data(w, STATS, limits[i], -1), 0);
        assert_int_equal(create(w, "/a/b", "1", 0), 0);
        assert_int_equal(remove_node(w, "/a/b", -1), 0);
        assert_data(w, STATS, "count=-1,bytes=-1");
    }
    /* The root can have none; nor what only begins like the quotas' path. */
    assert_int_equal(create(w, "/zookeeper/quota/zookeeper_limits", "countHardLimit=0", 0), 0);
    assert_int_equal(create(w, "/zookeeper/quota/zookeeper_stats", "x", 0), 0);
    assert_int_equal(create(w, "/zookeeper/quotas", "", 0), 0);
    assert_int_equal(create(w, "/zookeeper/quotas/zookeeper_stats", "x", 0), 0);
    assert_data(w, "/zookeeper/quotas/zookeeper_stats", "x");
    assert_int_equal(create(w, "/z", "", 0), 0);
}

static void a_multi_that_fails_gives_back_what_it_counted(void **state)
{
    static const struct wire_multi_header end = {-1, true, -1};
    struct world *w = *state;
    const struct wire_multi_header create_h = {WIRE_OP_CREATE, false, -1};
    const struct wire_multi_header check_h = {WIRE_OP_CHECK, false, -1};

    assert_int_equal(create(w, "/a", "12", 0), 0);
    quota(w, "count=9");
    uint64_t digest = tree_digest(w->tree);
    for (int32_t version = 0; version < 2; version++) {
        const struct wire_create_request c = {text_of("/a/m"), text_of("1"), acl_of(w), 0};
        const struct wire_path_version_request v = {text_of("/a"), 1 - version};
        buf_clear(&w->body);
        wire_multi_header_encode(&create_h, &w->body);
        wire_create_request_encode(&c, &w->body);
        wire_multi_header_encode(&check_h, &w->body);
        wire_path_version_request_encode(&v, &w->body);
        wire_multi_header_encode(&end, &w->body);
        assert_int_equal(apply(w, WIRE_OP_MULTI), 0);
        if (version == 0)
            assert_true(tree_digest(w->tree) == digest);
        assert_data(w, STATS, version == 0 ? "count=1,bytes=2" : "count=2,bytes=3");
    }
    reload(w);
}

/* ---- containers and TTL ---- */

static int create_ttl(struct world *w, const char *path, int32_t flags, int64_t ttl_ms)
{
    struct wire_create_ttl_request r = {text_of(path), text_of("x"), acl_of(w), flags, ttl_ms};

    buf_clear(&w->body);
    wire_create_ttl_request_encode(&r, &w->body);
    int err = apply(w, WIRE_OP_CREATE_TTL);
    if (err == 0) {
        struct wire_in in = answer(w);
        struct wire_create2_response a;
        assert_int_equal(wire_create2_response_decode(&a, &in), 0);
        keep_path(w, a.path);
        w->stat = a.stat;
    }
    return err;
}

static void ttl_modes(void **state)
{
    static const struct {
        int32_t flags;
        int64_t ttl_ms;
        int err;
    } rows[] = {
        {WIRE_TTL, 1, 0},
        {WIRE_TTL, 0xffffffffff, 0},
        {WIRE_TTL_SEQUENTIAL, 1000, 0},
        {WIRE_TTL, 0, ERR_BAD_ARGUMENTS},
        {WIRE_TTL, -1, ERR_BAD_ARGUMENTS},
        {WIRE_TTL, 0x10000000000, ERR_BAD_ARGUMENTS},
        {WIRE_PERSISTENT, 1000, ERR_BAD_ARGUMENTS},
        {WIRE_PERSISTENT, -1, ERR_BAD_ARGUMENTS},
        {WIRE_EPHEMERAL, 1000, ERR_BAD_ARGUMENTS},
        {WIRE_CONTAINER, -1, ERR_BAD_ARGUMENTS},
        {7, 1000, ERR_BAD_ARGUMENTS},
    };
    struct world *w = *state;

    assert_int_equal(create_ttl(w, "/no", WIRE_TTL, 1000), ERR_UNIMPLEMENTED);
    w->rules = TREE_RULE_EXTENDED_TYPES;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[16];
        snprintf(path, sizeof path, "/t%zu-", i);
        if (create_ttl(w, path, rows[i].flags, rows[i].ttl_ms) != rows[i].err)
            fail_msg("flags %d, ttl %lld", (int)rows[i].flags, (long long)rows[i].ttl_ms);
        if (rows[i].err == 0)
            assert_int_equal(w->stat.ephemeral_owner, 0); /* nobody's: clients see no kind */
    }
    assert_string_equal(w->path, "/t2-0000000002");
    assert_int_equal(create(w, "/two", "", WIRE_TTL), ERR_BAD_ARGUMENTS);
}

/* Everything that is due now, as the leader has it deleted. */
static unsigned sweep(struct world *w, int64_t never_used_ms)
{
    struct buf path = {0}, body = {0};
    uint32_t at = 0;
    unsigned n = 0;

    while (tree_lapse_next(w->tree, &at, w->time_ms, never_used_ms, &path)) {
        tree_lapse_body(never_used_ms, &path, &body);
        struct tree_txn txn = {
            .op = TREE_OP_LAPSE, .time_ms = w->time_ms, .body = body.data, .len = body.len};
        assert_int_equal(apply_txn(w, &txn, NULL), 0);
        n++;
    }
    buf_free(&path);
    buf_free(&body);
    return n;
}

static void a_container_goes_when_it_has_become_empty(void **state)
{
    struct world *w = *state;

    assert_int_equal(create_bytes(w, WIRE_OP_CREATE_CONTAINER, text_of("/c"), "", 4), 0);
    assert_int_equal(sweep(w, 0), 0);                           /* it has not been used yet */
    assert_int_equal(create(w, "/c/e", "", WIRE_EPHEMERAL), 0); /* it may have children */
    assert_int_equal(sweep(w, 0), 0);
    reload(w);
    assert_int_equal(remove_node(w, "/c/e", -1), 0);
    assert_int_equal(exists(w, "/c", 5), 0);
    assert_int_equal(sweep(w, 0), 1);
    assert_int_equal(exists(w, "/c", 0), ERR_NO_NODE);
    assert_events(w, "5 deleted /c\n");
    assert_int_equal(create_bytes(w, WIRE_OP_CREATE_CONTAINER, text_of("/c"), "", 4), 0);
    w->time_ms += 999;
    assert_int_equal(sweep(w, 1000), 0);
    w->time_ms += 2;
    assert_int_equal(sweep(w, 0), 0);
    assert_int_equal(sweep(w, 1000), 1);
}

static void a_ttl_znode_goes_when_nobody_has_written_to_it(void **state)
{
    struct world *w = *state;

    w->rules = TREE_RULE_EXTENDED_TYPES;
    assert_int_equal(create_ttl(w, "/t", WIRE_TTL, 1000), 0);
    w->time_ms += 1000;
    assert_int_equal(sweep(w, 0), 0);
    assert_int_equal(set_data(w, "/t", "again", -1), 0);
    w->time_ms += 1000;
    reload(w);
    assert_int_equal(sweep(w, 0), 0);
    assert_int_equal(create(w, "/t/child", "", 0), 0);
    w->time_ms += 1;
    assert_int_equal(sweep(w, 0), 0); /* never with children */
    assert_int_equal(remove_node(w, "/t/child", -1), 0);
    w->rules = 0; /* what is there stays what it is */
    assert_int_equal(sweep(w, 0), 1);
    assert_int_equal(exists(w, "/t", 0), ERR_NO_NODE);
}

static void what_changed_after_the_leader_looked_stays(void **state)
{
    struct world *w = *state;
    struct buf path = {0}, body = {0};
    uint32_t at = 0;

    w->rules = TREE_RULE_EXTENDED_TYPES;
    assert_int_equal(create_ttl(w, "/t", WIRE_TTL, 1000), 0);
    w->time_ms += 1001;
    assert_true(tree_lapse_next(w->tree, &at, w->time_ms, 0, &path));
    tree_lapse_body(0, &path, &body);
    struct tree_txn txn = {
        .op = TREE_OP_LAPSE, .time_ms = w->time_ms, .body = body.data, .len = body.len};
    assert_int_equal(set_data(w, "/t", "just in time", -1), 0);
    assert_int_equal(apply_txn(w, &txn, NULL), ERR_BAD_VERSION);
    w->time_ms += 1001;
    txn.time_ms = w->time_ms;
    assert_int_equal(create(w, "/t/child", "", 0), 0);
    assert_int_equal(apply_txn(w, &txn, NULL), ERR_NOT_EMPTY);
    assert_int_equal(remove_node(w, "/t/child", -1), 0);
    assert_int_equal(remove_node(w, "/t", -1), 0);
    assert_int_equal(apply_txn(w, &txn, NULL), ERR_NO_NODE);
    assert_int_equal(create(w, "/t", "persistent", 0), 0);
    assert_int_equal(apply_txn(w, &txn, NULL), ERR_BAD_VERSION);
    txn.len = 7;
    assert_int_equal(apply_txn(w, &txn, NULL), ERR_MALFORMED);
    assert_int_equal(exists(w, "/t", 0), 0);
    buf_free(&path);
    buf_free(&body);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
/* ---- how much a tree may hold ---- */

static size_t saved(const struct world *w)
{
    struct buf b = {0};

    tree_save(w->tree, &b);
    size_t len = b.len;
    buf_free(&b);
    return len;
}

/* After each kind of change. */
static void what_is_counted_is_what_a_snapshot_takes(void **state)
{
    struct world *w = *state;

    assert_int_equal(tree_bytes(w->tree), saved(w));
    w->rules = TREE_RULE_EXTENDED_TYPES;
    assert_int_equal(create(w, "/a", "123", 0), 0);
    assert_int_equal(create(w, "/a/b", NULL, WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/a/s-", "", WIRE_SEQUENTIAL), 0);
    assert_int_equal(create_ttl(w, "/t", WIRE_TTL, 1000), 0);
    assert_int_equal(tree_bytes(w->tree), saved(w));
    acl_set(w, WIRE_PERM_ALL, "digest", "somebody:else");
    assert_int_equal(create(w, "/a/d", "1", 0), 0);
    acl_set(w, WIRE_PERM_ALL, "world", "anyone");
    assert_int_equal(set_acl(w, "/t", -1), 0);
    assert_int_equal(set_data(w, "/a", "longer than it was", -1), 0);
    assert_int_equal(set_data(w, "/t", NULL, -1), 0);
    int64_t other = session_new(w, 9);
    assert_int_equal(tree_bytes(w->tree), saved(w));
    reload(w);
    assert_int_equal(remove_node(w, "/a/d", -1), 0);
    assert_int_equal(close_session(w, other, (struct tree_origin){0, 0}), 0);
    assert_int_equal(close_session(w, w->session, (struct tree_origin){0, 0}), 0);
    assert_int_equal(tree_bytes(w->tree), saved(w));
    w->session = session_new(w, 7);
    assert_int_equal(create_bytes(w, WIRE_OP_CREATE_CONTAINER, text_of("/c"), "", 4), 0);
    assert_int_equal(tree_bytes(w->tree), saved(w));
    assert_int_equal(remove_node(w, "/c", -1), 0);
    assert_int_equal(tree_bytes(w->tree), saved(w));
}

/* What one more znode with this name and data may take, were its access list a new one. */
static uint32_t bytes_of(const struct world *w, const char *name, const char *data)
{
    return (uint32_t)(72 + strlen(name) + strlen(data) + 8 + w->acl.len);
}

static void a_full_tree_refuses_what_makes_it_larger(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/a", "1234", 0), 0);
    assert_int_equal(create(w, "/go", "1234", 0), 0);
    uint32_t now = (uint32_t)tree_bytes(w->tree);
    w->bytes_max = now + bytes_of(w, "b", "12") - 1;
    assert_int_equal(create(w, "/b", "12", 0), ERR_QUOTA_EXCEEDED);
    assert_true(w->was_full);
    assert_int_equal(create(w, "/no/b", "12", 0),
                     ERR_NO_NODE); /* what is wrong is said first */
    assert_false(w->was_full);
    assert_int_equal(create(w, "/b", "12", WIRE_EPHEMERAL), ERR_QUOTA_EXCEEDED);
    assert_int_equal(create(w, "/b", "1", 0), 0);
    assert_int_equal(tree_bytes(w->tree), saved(w));

    w->bytes_max = (uint32_t)tree_bytes(w->tree) + 1;
    assert_int_equal(set_data(w, "/a", "123456", -1), ERR_QUOTA_EXCEEDED);
    assert_int_equal(set_data(w, "/a", "12345", 7), ERR_BAD_VERSION);
    assert_int_equal(set_data(w, "/a", "12345", 0), 0);
    assert_int_equal(set_data(w, "/a", "123456", -1), ERR_QUOTA_EXCEEDED);
    assert_int_equal(set_data(w, "/a", "54321", -1), 0); /* no larger */
    acl_set(w, WIRE_PERM_ALL, "digest", "somebody:else");
    assert_int_equal(set_acl(w, "/a", -1), ERR_QUOTA_EXCEEDED);
    acl_set(w, WIRE_PERM_ALL, "world", "anyone"); /* this list is there */
    assert_int_equal(set_acl(w, "/a", -1), 0);

    w->bytes_max = 1;                  /* lowered below what there is */
    int64_t other = session_new(w, 9); /* or nobody could come and delete */
    assert_int_equal(close_session(w, other, (struct tree_origin){0, 0}), 0);
    assert_int_equal(set_data(w, "/a", "", -1), 0);
    assert_int_equal(remove_node(w, "/go", -1), 0);
    assert_int_equal(create(w, "/go", "", 0), ERR_QUOTA_EXCEEDED);
    w->bytes_max = (uint32_t)tree_bytes(w->tree) + bytes_of(w, "go", "");
    assert_int_equal(create(w, "/go", "", 0), 0);
    w->bytes_max = UINT32_MAX; /* not above the program's own */
    assert_int_equal(create(w, "/more", "", 0), 0);
    assert_int_equal(tree_bytes(w->tree), saved(w));
}

/* Deleting and creating in one; and all or nothing when it is too much. */
static void a_multi_in_a_full_tree(void **state)
{
    static const struct wire_multi_header end = {-1, true, -1};
    struct world *w = *state;
    const struct wire_multi_header delete_h = {WIRE_OP_DELETE, false, -1};
    const struct wire_multi_header create_h = {WIRE_OP_CREATE, false, -1};

    assert_int_equal(create(w, "/a", "1234", 0), 0);
    /* When the one is gone there is room for another as large, and not for a byte more. */
    w->bytes_max = (uint32_t)tree_bytes(w->tree) - (72 + 1 + 4) + bytes_of(w, "b", "4321");
    for (uint32_t i = 0; i < 2; i++) {
        const struct wire_path_version_request d = {text_of(i == 0 ? "/a" : "/b"), -1};
        const struct wire_create_request c = {text_of(i == 0 ? "/b" : "/c"),
                                              text_of(i == 0 ? "4321" : "54321"), acl_of(w), 0};
        uint64_t digest = tree_digest(w->tree);
        buf_clear(&w->body);
        wire_multi_header_encode(&delete_h, &w->body);
        wire_path_version_request_encode(&d, &w->body);
        wire_multi_header_encode(&create_h, &w->body);
        wire_create_request_encode(&c, &w->body);
        wire_multi_header_encode(&end, &w->body);
        assert_int_equal(apply(w, WIRE_OP_MULTI), 0);
        assert_int_equal(w->was_full, i == 1);
        if (i == 1)
            assert_true(tree_digest(w->tree) == digest);
        assert_int_equal(exists(w, "/b", 0), 0);
        assert_int_equal(tree_bytes(w->tree), saved(w));
    }
    reload(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_is_used_is_counted),
        T(the_deepest_quota_counts),
        T(hard_limits_refuse_when_they_are_enforced),
        T(what_is_no_quota_is_not_taken_for_one),
        T(a_multi_that_fails_gives_back_what_it_counted),
        T(ttl_modes),
        T(a_container_goes_when_it_has_become_empty),
        T(a_ttl_znode_goes_when_nobody_has_written_to_it),
        T(what_changed_after_the_leader_looked_stays),
        T(what_is_counted_is_what_a_snapshot_takes),
        T(a_full_tree_refuses_what_makes_it_larger),
        T(a_multi_in_a_full_tree),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
