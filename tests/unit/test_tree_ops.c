/* SPDX-License-Identifier: Apache-2.0 */
/* The single operations: every error, in the order in which it wins; the Stat that each
 * leaves; sequence numbers; access lists.
 */
#include "unit/tree_world.h"

#include "base/hash.h"
#include "tree/snapshot.h"

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

/* /t with a child, an ephemeral, a node of version 2 */
static void furnish(struct world *w)
{
    assert_int_equal(create(w, "/t", "", WIRE_PERSISTENT), 0);
    assert_int_equal(create(w, "/t/c", "", WIRE_PERSISTENT), 0);
    assert_int_equal(create(w, "/t/c/d", "", WIRE_PERSISTENT), 0);
    assert_int_equal(create(w, "/t/e", "", WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/t/v", "", WIRE_PERSISTENT), 0);
    assert_int_equal(set_data(w, "/t/v", "1", -1), 0);
    assert_int_equal(set_data(w, "/t/v", "2", -1), 0);
}

#define P(text)                                \
    {                                          \
        (const uint8_t *)text, sizeof text - 1 \
    }

static void create_errors(void **state)
{
    static const struct {
        struct wire_bytes path;
        int32_t op, flags;
        int err;
    } rows[] = {
        {P("/n"), WIRE_OP_CREATE, 7, ERR_BAD_ARGUMENTS},
        {P("/n"), WIRE_OP_CREATE, -1, ERR_BAD_ARGUMENTS},
        {P("bad"), WIRE_OP_CREATE, 5, ERR_UNIMPLEMENTED}, /* the mode before the path */
        {P("/n"), WIRE_OP_CREATE2, 6, ERR_UNIMPLEMENTED},
        {P("/n"), WIRE_OP_CREATE_TTL, 5, ERR_UNIMPLEMENTED},
        {P("/n"), WIRE_OP_CREATE_TTL, 0, ERR_BAD_ARGUMENTS}, /* what ends a ZooKeeper */
        {P("/n"), WIRE_OP_CREATE_TTL, 9, ERR_BAD_ARGUMENTS},
        {P(""), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS},
        {P("x"), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS},
        {P("/no/x\0y"), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS}, /* NUL before the parent */
        {P("x/y"), WIRE_OP_CREATE, 0, ERR_NO_NODE},
        {P("/no/x"), WIRE_OP_CREATE, 0, ERR_NO_NODE},
        {P("/no/."), WIRE_OP_CREATE, 0, ERR_NO_NODE}, /* the parent before the name */
        {P("/t//b"), WIRE_OP_CREATE, 0, ERR_NO_NODE},
        {P("/t/"), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS},
        {P("//"), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS},
        {P("/t/."), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS},
        {P("/t/\xff"), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS},
        {P("/t/e/\x01"), WIRE_OP_CREATE, 0, ERR_BAD_ARGUMENTS}, /* before the ephemeral */
        {P("/"), WIRE_OP_CREATE, 0, ERR_NODE_EXISTS},
        {P("/t"), WIRE_OP_CREATE, 0, ERR_NODE_EXISTS},
        {P("/zookeeper/config"), WIRE_OP_CREATE, 1, ERR_NODE_EXISTS},
        {P("/t/e/x"), WIRE_OP_CREATE, 0, ERR_NO_CHILDREN_FOR_EPHEMERALS},
        {P("/t/e/x"), WIRE_OP_CREATE, 3, ERR_NO_CHILDREN_FOR_EPHEMERALS},
        {P("/t/ok"), WIRE_OP_CREATE, 4, 0},
    };
    struct world *w = *state;

    furnish(w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t before = tree_digest(w->tree);
        int err = create_bytes(w, rows[i].op, rows[i].path, "", rows[i].flags);
        if (err != rows[i].err)
            fail_msg("row %zu %s: %s", i, (const char *)rows[i].path.data, err_name(err));
        if (err != 0)
            assert_true(tree_digest(w->tree) == before);
    }
}

static void acl_errors(void **state)
{
    static const struct {
        const char *scheme, *id;
        int err;
    } rows[] = {
        {"world", "anyone", 0},
        {"world", "all", ERR_INVALID_ACL},
        {"digest", "user:hash", 0},
        {"digest", ":hash", 0},
        {"digest", "a:b:", 0}, /* empty parts at the end do not count */
        {"digest", "user", ERR_INVALID_ACL},
        {"digest", "a:", ERR_INVALID_ACL},
        {"digest", "a:b:c", ERR_INVALID_ACL},
        {"digest", "", ERR_INVALID_ACL},
        {"ip", "10.0.0.1", 0},
        {"ip", "255.255.255.255/32", 0},
        {"ip", "10.0.0.0/0", 0},
        {"ip", "10.0.0.0/33", ERR_INVALID_ACL},
        {"ip", "10.0.0.0/", ERR_INVALID_ACL},
        {"ip", "10.0.0.0/8x", ERR_INVALID_ACL},
        {"ip", "10.0.0.0x", ERR_INVALID_ACL},
        {"ip", "10.0.0", ERR_INVALID_ACL},
        {"ip", "10.0.0.256", ERR_INVALID_ACL},
        {"ip", "10..0.1", ERR_INVALID_ACL},
        {"ip", "99999999999.0.0.1", ERR_INVALID_ACL},
        {"ip", "::1", ERR_INVALID_ACL},
        {"ip", "", ERR_INVALID_ACL},
        {"auth", "", ERR_INVALID_ACL}, /* no identity is known */
        {"super", "", ERR_INVALID_ACL},
        {"sasl", "joe", ERR_INVALID_ACL},
        {"x509", "CN=joe", ERR_INVALID_ACL},
        {"", "", ERR_INVALID_ACL},
    };
    struct world *w = *state;

    id_more(w, "super", ""); /* whom no list keeps out */
    assert_int_equal(create(w, "/t", "", 0), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        acl_set(w, 127, rows[i].scheme, rows[i].id);
        if (set_acl(w, "/t", -1) != rows[i].err)
            fail_msg("%s:%s", rows[i].scheme, rows[i].id);
        /* Before whether there is such a znode. */
        assert_int_equal(set_acl(w, "/no", -1), rows[i].err != 0 ? rows[i].err : ERR_NO_NODE);
    }
    w->acl_n = 0;
    assert_int_equal(create(w, "/no/x", "", 0), ERR_INVALID_ACL);
    w->acl_n = -1;
    assert_int_equal(create(w, "/no/x", "", 0), ERR_INVALID_ACL);
    acl_set(w, 31, "world", "anyone");
    struct wire_acl null_id = {31, text_of("world"), {NULL, -1}};
    wire_acl_encode(&null_id, &w->acl);
    w->acl_n = 2;
    assert_int_equal(create(w, "/x", "", 0), ERR_INVALID_ACL);
    /* The first part of the check order: a path without a slash, then the list. */
    assert_int_equal(create(w, "x", "", 0), ERR_BAD_ARGUMENTS);
}

static void acl_is_stored_without_duplicates(void **state)
{
    struct world *w = *state;
    struct wire_path_request q = {text_of("/t")};
    struct wire_acl_response r;
    struct wire_acl a;

    id_more(w, "super", "");
    acl_set(w, 1, "world", "anyone");
    acl_more(w, 2, "digest", "u:h");
    acl_more(w, 1, "world", "anyone");
    acl_more(w, 3, "digest", "u:h");
    assert_int_equal(create(w, "/t", "", 0), 0);
    buf_clear(&w->body);
    wire_path_request_encode(&q, &w->body);
    assert_int_equal(read_body(w, 0, WIRE_OP_GET_ACL), 0);
    struct wire_in in = answer(w);
    assert_int_equal(wire_acl_response_decode(&r, &in), 0);
    assert_int_equal(r.acl.count, 3);
    assert_true(wire_acls_next(&r.acl, &a));
    assert_int_equal(a.perms, 1);
    assert_true(wire_acls_next(&r.acl, &a));
    assert_int_equal(a.perms, 2);
    assert_memory_equal(a.id.data, "u:h", 3);
    assert_true(wire_acls_next(&r.acl, &a));
    assert_int_equal(a.perms, 3);
    reload(w);
    assert_int_equal(read_body(w, 0, WIRE_OP_GET_ACL), 0);
}

static void what_an_acl_does_not_give_is_refused(void **state)
{
    struct world *w = *state;

    acl_set(w, WIRE_PERM_READ, "world", "anyone");
    assert_int_equal(create(w, "/r", "", 0), 0);
    acl_set(w, WIRE_PERM_ALL & ~WIRE_PERM_READ, "world", "anyone");
    assert_int_equal(create(w, "/w", "", 0), 0);
    assert_int_equal(create(w, "/w/c", "", 0), 0);
    acl_set(w, WIRE_PERM_ALL, "world", "anyone");
    assert_int_equal(create(w, "/r/c", "", 0), ERR_NO_AUTH);
    assert_int_equal(create(w, "/r/.", "", 0), ERR_NO_AUTH); /* before the name */
    assert_int_equal(remove_node(w, "/r/no", -1), ERR_NO_AUTH);
    assert_int_equal(set_data(w, "/r", "", 9), ERR_NO_AUTH);
    assert_int_equal(set_acl(w, "/r", 9), ERR_NO_AUTH);
    assert_int_equal(get_data(w, "/r", 0), 0);
    assert_int_equal(get_data(w, "/w", 1), ERR_NO_AUTH);
    assert_int_equal(get_children(w, "/w", 1), ERR_NO_AUTH);
    assert_int_equal(watches_count(w->watches), 0);
    assert_int_equal(exists(w, "/w", 1), ERR_NO_AUTH);
    assert_int_equal(watches_count(w->watches), 0);
    assert_int_equal(remove_node(w, "/r", -1), 0); /* the parent's list decides */
    assert_int_equal(set_data(w, "/zookeeper/config", "", -1), ERR_NO_AUTH);
    assert_int_equal(set_acl(w, "/zookeeper/config", -1), ERR_NO_AUTH);
}

static void delete_errors(void **state)
{
    static const struct {
        struct wire_bytes path;
        int32_t version;
        int err;
    } rows[] = {
        {P("/"), -1, ERR_BAD_ARGUMENTS},
        {P("/zookeeper"), -1, ERR_BAD_ARGUMENTS},
        {P("/zookeeper/quota"), -1, ERR_BAD_ARGUMENTS},
        {P("/zookeeper/config"), -1, ERR_BAD_ARGUMENTS},
        {P("x"), -1, ERR_BAD_ARGUMENTS},
        {P(""), -1, ERR_BAD_ARGUMENTS},
        {P("/t/c\0"), -1, ERR_BAD_ARGUMENTS},
        {P("/no/x"), -1, ERR_NO_NODE},
        {P("/t/no"), -1, ERR_NO_NODE},
        {P("/t/c/"), -1, ERR_NO_NODE},
        {P("/t/v"), 1, ERR_BAD_VERSION},
        {P("/t/v"), -2, ERR_BAD_VERSION},
        {P("/t/c"), 5, ERR_BAD_VERSION}, /* before its children */
        {P("/t/c"), 0, ERR_NOT_EMPTY},
        {P("/t/c"), -1, ERR_NOT_EMPTY},
        {P("/t/v"), 2, 0},
        {P("/t/e"), -1, 0},
    };
    struct world *w = *state;

    furnish(w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (delete_bytes(w, rows[i].path, rows[i].version) != rows[i].err)
            fail_msg("row %zu %s", i, (const char *)rows[i].path.data);
}

static void set_data_and_set_acl_errors(void **state)
{
    static const struct {
        const char *path;
        int32_t version;
        int err;
    } rows[] = {
        {"", -1, ERR_BAD_ARGUMENTS},
        {"x", -1, ERR_BAD_ARGUMENTS},
        {"/t/", -1, ERR_BAD_ARGUMENTS},
        {"/t//v", -1, ERR_BAD_ARGUMENTS},
        {"/no/..", 7, ERR_BAD_ARGUMENTS},
        {"/no", 7, ERR_NO_NODE},
        {"/t/c", 1, ERR_BAD_VERSION},
        {"/t/c", -2, ERR_BAD_VERSION},
        {"/t/c", 0, 0},
        {"/t/c", 1, 0},
        {"/", -1, 0},
        {"/zookeeper", -1, 0},
    };
    struct world *w = *state;

    furnish(w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (set_data(w, rows[i].path, "x", rows[i].version) != rows[i].err)
            fail_msg("setData row %zu %s", i, rows[i].path);
        if (set_acl(w, rows[i].path, rows[i].version) != rows[i].err)
            fail_msg("setACL row %zu %s", i, rows[i].path);
    }
    w->acl_n = 0;
    assert_int_equal(set_acl(w, "/t/", -1), ERR_BAD_ARGUMENTS); /* the path before the list */
}

static void bodies_that_cannot_be_decoded(void **state)
{
    static const int32_t ops[] = {WIRE_OP_CREATE,           WIRE_OP_CREATE2,  WIRE_OP_DELETE,
                                  WIRE_OP_CREATE_CONTAINER, WIRE_OP_SET_DATA, WIRE_OP_SET_ACL,
                                  WIRE_OP_CREATE_TTL,       WIRE_OP_MULTI};
    struct world *w = *state;
    uint64_t before = tree_digest(w->tree);

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        assert_true(tree_op_is_write(ops[i]));
        assert_false(tree_op_is_read(ops[i]));
        for (size_t n = 0; n < 8; n++) {
            buf_clear(&w->body);
            if (n > 0)
                buf_add(&w->body, "\377\377\377\377\377\377\377\377", n); /* null path */
            assert_int_equal(apply(w, ops[i]), ERR_MALFORMED);
        }
    }
    assert_int_equal(apply(w, WIRE_OP_CHECK), ERR_UNIMPLEMENTED);
    assert_int_equal(apply(w, 10), ERR_UNIMPLEMENTED);
    assert_int_equal(apply(w, WIRE_OP_DELETE_CONTAINER), ERR_UNIMPLEMENTED);
    assert_false(tree_op_is_write(WIRE_OP_CHECK));
    assert_false(tree_op_is_write(WIRE_OP_CREATE_SESSION));
    assert_true(tree_digest(w->tree) == before);
    assert_true(tree_zxid(w->tree) == w->zxid); /* a failed write takes a zxid, too */
}

static void assert_stat(const struct wire_stat *s, const struct wire_stat *e)
{
#define FIELD(type, name)   \
    if (s->name != e->name) \
        fail_msg(#name " is %lld, not %lld", (long long)s->name, (long long)e->name);
    WIRE_STAT(FIELD)
#undef FIELD
}

static void stat_follows_the_table(void **state)
{
    struct world *w = *state;

    w->time_ms = 5000;
    assert_int_equal(create(w, "/p", "abc", 0), 0);
    int64_t z = w->zxid;
    struct wire_stat p = {
        .czxid = z, .mzxid = z, .pzxid = z, .ctime = 5000, .mtime = 5000, .data_len = 3};
    assert_stat(&w->stat, &p);

    w->time_ms = 6000;
    assert_int_equal(create(w, "/p/e", NULL, WIRE_EPHEMERAL), 0);
    z = w->zxid;
    struct wire_stat e = {.czxid = z,
                          .mzxid = z,
                          .pzxid = z,
                          .ctime = 6000,
                          .mtime = 6000,
                          .ephemeral_owner = w->session};
    assert_stat(&w->stat, &e);
    p.pzxid = z;
    p.cversion = 1;
    p.children = 1;
    assert_int_equal(exists(w, "/p", 0), 0);
    assert_stat(&w->stat, &p);

    w->time_ms = 7000;
    assert_int_equal(set_data(w, "/p", "defgh", 0), 0);
    p.mzxid = w->zxid;
    p.mtime = 7000;
    p.version = 1;
    p.data_len = 5;
    assert_stat(&w->stat, &p);

    w->time_ms = 8000;
    assert_int_equal(set_acl(w, "/p", 0), 0);
    p.aversion = 1;
    assert_stat(&w->stat, &p);

    assert_int_equal(remove_node(w, "/p/e", 0), 0);
    p.pzxid = w->zxid;
    p.cversion = 2;
    p.children = 0;
    assert_int_equal(exists(w, "/p", 0), 0);
    assert_stat(&w->stat, &p);

    /* A failed create moves nothing. */
    assert_int_equal(create(w, "/p/.", "", 0), ERR_BAD_ARGUMENTS);
    assert_int_equal(exists(w, "/p", 0), 0);
    assert_stat(&w->stat, &p);
    reload(w);
    assert_int_equal(exists(w, "/p", 0), 0);
    assert_stat(&w->stat, &p);
}

static void a_fresh_tree_is_as_zookeepers(void **state)
{
    struct world *w = *state;
    struct wire_stat root = {.cversion = -1, .children = 1};
    struct wire_stat zookeeper = {.cversion = -2, .children = 2};
    struct wire_stat config = {.aversion = -1};
    struct tree_facts facts;

    assert_int_equal(exists(w, "/", 0), 0);
    assert_stat(&w->stat, &root);
    assert_int_equal(exists(w, "", 0), 0); /* for reads "" is the root, too */
    assert_stat(&w->stat, &root);
    assert_int_equal(exists(w, "/zookeeper", 0), 0);
    assert_stat(&w->stat, &zookeeper);
    assert_int_equal(exists(w, "/zookeeper/config", 0), 0);
    assert_stat(&w->stat, &config);
    assert_int_equal(exists(w, "/zookeeper/quota", 0), 0);
    tree_facts(w->tree, &facts);
    assert_int_equal(facts.znodes, 4);
    assert_int_equal(facts.sessions, 1);
    assert_int_equal(create(w, "/a", "", 0), 0);
    assert_int_equal(exists(w, "/", 0), 0);
    assert_int_equal(w->stat.cversion, 0);
    assert_int_equal(w->stat.children, 2);
}

static void create_answers_path_or_path_and_stat(void **state)
{
    struct world *w = *state;

    assert_int_equal(create_bytes(w, WIRE_OP_CREATE, text_of("/a"), "", 0), 0);
    assert_int_equal(w->reply.len, 4 + 2);
    assert_int_equal(create_bytes(w, WIRE_OP_CREATE2, text_of("/b"), "", 0), 0);
    assert_int_equal(w->reply.len, 4 + 2 + 68);
    assert_int_equal(create_bytes(w, WIRE_OP_CREATE_CONTAINER, text_of("/c"), "", 4), 0);
    assert_int_equal(w->reply.len, 4 + 2 + 68);
    assert_int_equal(w->stat.ephemeral_owner, 0);
    assert_int_equal(create(w, "/c/e", "", WIRE_EPHEMERAL), 0); /* may have children */
    reload(w);
    assert_int_equal(exists(w, "/c", 0), 0);
    assert_int_equal(w->stat.ephemeral_owner, 0);
}

static void null_and_empty_data_differ(void **state)
{
    struct world *w = *state;
    struct wire_data_response r;

    assert_int_equal(create(w, "/null", NULL, 0), 0);
    assert_int_equal(create(w, "/empty", "", 0), 0);
    reload(w);
    assert_int_equal(get_data(w, "/null", 0), 0);
    struct wire_in in = answer(w);
    assert_int_equal(wire_data_response_decode(&r, &in), 0);
    assert_int_equal(r.data.len, -1);
    assert_int_equal(r.stat.data_len, 0);
    assert_int_equal(get_data(w, "/empty", 0), 0);
    in = answer(w);
    assert_int_equal(wire_data_response_decode(&r, &in), 0);
    assert_int_equal(r.data.len, 0);
    assert_int_equal(set_data(w, "/empty", NULL, 0), 0);
    assert_int_equal(get_data(w, "/empty", 0), 0);
    in = answer(w);
    assert_int_equal(wire_data_response_decode(&r, &in), 0);
    assert_int_equal(r.data.len, -1);
}

static void data_of_all_sizes_is_kept(void **state)
{
    struct world *w = *state;
    static char text[70001];
    const uint8_t *data;
    size_t len;

    assert_int_equal(create(w, "/d", "", 0), 0);
    assert_int_equal(create(w, "/d/below", "x", 0), 0);
    for (size_t n = 0; n < sizeof text; n = n * 3 + 1) {
        memset(text, 'a' + (int)(n % 26), n);
        text[n] = 0;
        assert_int_equal(set_data(w, "/d", text, -1), 0);
        assert_true(tree_get(w->tree, "/d", &data, &len));
        assert_int_equal(len, n);
        assert_memory_equal(data, text, n);
        assert_true(tree_get(w->tree, "/d/below", &data, &len));
    }
    assert_int_equal(set_data(w, "/d", "s", -1), 0);
    assert_true(tree_get(w->tree, "/d", &data, &len));
    assert_int_equal(len, 1);
    assert_false(tree_get(w->tree, "/no", &data, &len));
    struct tree_facts facts;
    tree_facts(w->tree, &facts);
    assert_int_equal(facts.data_bytes, 2);
}

static void sequence_numbers(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/t", "", 0), 0);
    assert_int_equal(create(w, "/t/a-", "", WIRE_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/t/a-0000000000");
    assert_int_equal(create(w, "/t/plain", "", 0), 0); /* counts as well */
    assert_int_equal(create(w, "/t/b-", "", WIRE_EPHEMERAL_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/t/b-0000000002");
    assert_int_equal(remove_node(w, "/t/b-0000000002", -1), 0); /* does not count back */
    assert_int_equal(create(w, "/t/", "", WIRE_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/t/0000000003");
    assert_int_equal(create(w, "/t/0000000003/x", "", 0), 0);
    assert_int_equal(create(w, "/t/0000000003/x", "", 0), ERR_NODE_EXISTS);
    assert_int_equal(create(w, "/t/0000000003/", "", WIRE_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/t/0000000003/0000000001"); /* the failed one did not count */
    assert_int_equal(create(w, "/t", "", WIRE_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/t0000000001");
    assert_int_equal(create(w, "/", "", WIRE_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/0000000002");
    assert_int_equal(create(w, "/t/.", "", WIRE_SEQUENTIAL), 0); /* whole, it is no "." */
    assert_string_equal(w->path, "/t/.0000000004");
    reload(w);
    assert_int_equal(create(w, "/t/a-", "", WIRE_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/t/a-0000000005");
}

/* 2^31 creations take too long: the counter is set in a snapshot. */
static void sequence_number_overflows_to_negative(void **state)
{
    struct world *w = *state;
    struct buf b = {0};

    assert_int_equal(create(w, "/qqqq", "", 0), 0);
    tree_save(w->tree, &b);
    uint8_t *at = memmem(b.data, b.len, "\0\0\0\4\0\0\0\0qqqq", 12);
    assert_non_null(at);
    be32_put(at - 8, INT32_MAX - 1); /* in front of the lengths and the access list */
    uint32_t crc_at = (uint32_t)b.len - 4;
    be32_put(b.data + crc_at, crc32c(0, b.data, crc_at));
    tree_free(w->tree);
    struct tree_loader *l = tree_loader_new(1, b.len);
    tree_loader_blind(l); /* the digest does not fit any more */
    assert_int_equal(tree_loader_add(l, b.data, b.len), 0);
    assert_int_equal(tree_loader_end(l, &w->tree), 0);
    assert_non_null(w->tree);
    buf_free(&b);
    static const char *const names[] = {"/qqqq/2147483646", "/qqqq/2147483647",
                                        "/qqqq/-2147483648", "/qqqq/-2147483647"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(create(w, "/qqqq/", "", WIRE_SEQUENTIAL), 0);
        assert_string_equal(w->path, names[i]);
    }
    assert_int_equal(exists(w, "/qqqq", 0), 0);
    reload(w);
}

static void reconfig_is_decoded_before_it_is_refused(void **state)
{
    struct world *w = *state;
    const struct wire_bytes none = {NULL, -1};
    const struct wire_reconfig_request r = {none, none, none, -1};

    buf_clear(&w->body);
    wire_reconfig_request_encode(&r, &w->body);
    w->rules = 0;
    assert_int_equal(apply(w, WIRE_OP_RECONFIG), ERR_RECONFIG_DISABLED);
    w->rules = TREE_RULE_RECONFIG;
    assert_int_equal(apply(w, WIRE_OP_RECONFIG), ERR_UNIMPLEMENTED); /* a server alone */
    w->body.len--;
    for (w->rules = 0; w->rules <= TREE_RULE_RECONFIG; w->rules += TREE_RULE_RECONFIG)
        assert_int_equal(apply(w, WIRE_OP_RECONFIG), ERR_MALFORMED);
}

/* One entry, ahead: whole, and cut off anywhere; each has its memory's end behind it. */
static void show_ahead(struct world *w, struct tree_ahead *a, int32_t op, const char *path)
{
    const struct wire_path_version_request r = {text_of(path), -1};
    struct buf body = {0}, form = {0};

    id_more(w, "ip", "127.0.0.1");
    wire_path_version_request_encode(&r, &body);
    const struct tree_txn txn = {.op = op,
                                 .session = w->session,
                                 .bytes_max = body.len % 2 == 0 ? 1000 : 0,
                                 .ids = ids_of(w),
                                 .body = body.data,
                                 .len = body.len};
    tree_txn_encode(&txn, &form);
    for (size_t len = 0; len <= form.len; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        memcpy(exact, form.data, len);
        tree_ahead(a, w->tree, exact, len);
        free(exact);
    }
    id_none(w);
    buf_free(&body);
    buf_free(&form);
}

static void what_is_shown_ahead_changes_nothing(void **state)
{
    static const char *const paths[] = {"/t", "/t/c/d", "/no", "/", "", "x", "/t/v"};
    static const int32_t ops[] = {WIRE_OP_SET_DATA, WIRE_OP_DELETE, WIRE_OP_MULTI,
                                  WIRE_OP_CREATE,   WIRE_OP_PING,   TREE_OP_CLOSE_SESSION};
    struct world *w = *state;
    struct tree_ahead ahead = {0};

    furnish(w);
    assert_false(tree_ahead_pays(w->tree));
    uint64_t digest = tree_digest(w->tree);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
            show_ahead(w, &ahead, ops[k], paths[i]);
    assert_int_equal(tree_digest(w->tree), digest);
    assert_int_equal(tree_digest_anew(w->tree), digest);
    /* What was shown may be gone when it is looked at again. */
    show_ahead(w, &ahead, WIRE_OP_SET_DATA, "/t/v");
    assert_int_equal(remove_node(w, "/t/v", -1), 0);
    for (unsigned i = 0; i < TREE_AHEAD; i++)
        tree_ahead(&ahead, w->tree, NULL, 0);
    assert_int_equal(create(w, "/t/v", "", WIRE_PERSISTENT), 0);
    assert_int_equal(exists(w, "/t/v", 0), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(create_errors),
        T(acl_errors),
        T(acl_is_stored_without_duplicates),
        T(what_an_acl_does_not_give_is_refused),
        T(delete_errors),
        T(set_data_and_set_acl_errors),
        T(bodies_that_cannot_be_decoded),
        T(stat_follows_the_table),
        T(a_fresh_tree_is_as_zookeepers),
        T(create_answers_path_or_path_and_stat),
        T(null_and_empty_data_differ),
        T(data_of_all_sizes_is_kept),
        T(sequence_numbers),
        T(sequence_number_overflows_to_negative),
        T(reconfig_is_decoded_before_it_is_refused),
        T(what_is_shown_ahead_changes_nothing),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
