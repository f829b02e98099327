/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot that is taken while the tree goes on: it is the tree as of its beginning, whatever
 * happens between its portions and however large they are, and however it is loaded.
 *
 *   test_tree_saving [SEEDS]      default 400 */
#include <stdio.h>

#include "base/hash.h"
#include "mutant_env.h"
#include "tree/snapshot.h"
#include "unit/tree_world.h"

static unsigned seeds = 400;

/* Few names, so that what goes comes again, and finds its number taken by another. */
static const char *some_path(struct rng *rng)
{
    static char path[64];
    size_t at = 0, depth = 1 + rng_below(rng, 3);

    for (size_t i = 0; i < depth; i++) {
        path[at++] = '/';
        path[at++] = (char)('a' + (char)rng_below(rng, i == 0 ? 3 : 6));
    }
    path[at] = 0;
    return path;
}

static const char *some_data(struct rng *rng)
{
    static char data[400];
    size_t n = rng_below(rng, rng_below(rng, 8) == 0 ? sizeof data : 20);

    if (rng_below(rng, 10) == 0)
        return NULL;
    memset(data, (int)('0' + rng_below(rng, 10)), n);
    data[n] = 0;
    return data;
}

static void some_acl(struct world *w, struct rng *rng)
{
    static const char *const who[] = {"joe:x", "jim:y", "jack:z", "jill:t"};
    size_t n = rng_below(rng, 6);

    acl_set(w, WIRE_PERM_ALL, "world", "anyone");
    if (n < 4)
        acl_more(w, WIRE_PERM_READ, "digest", who[n]);
}

static bool some_session(struct world *w, struct rng *rng)
{
    struct tree_session s;
    uint64_t n = rng_below(rng, 8);
    int64_t after = 0;

    for (;; n--) {
        if (!tree_session_next(w->tree, after, &s))
            return false;
        after = s.id;
        if (n == 0)
            break;
    }
    w->session = s.id;
    w->origin = s.origin;
    return true;
}

static void attach(struct world *w, struct rng *rng)
{
    struct tree_txn txn = {.op = TREE_OP_ATTACH_SESSION,
                           .session = w->session,
                           .origin = {1 + rng_below(rng, 3), 1 + rng_below(rng, 1000)},
                           .timeout_ms = (int32_t)(1000 + rng_below(rng, 1000)),
                           .password = "0123456789abcde"};

    assert_int_equal(apply_txn(w, &txn, NULL), 0);
}

static void header(struct world *w, int32_t op, bool is_end)
{
    struct wire_multi_header h = {op, is_end, -1};

    wire_multi_header_encode(&h, &w->body);
}

/* Half of them fail at their end, and are taken back. */
static void multi(struct world *w, struct rng *rng)
{
    buf_clear(&w->body);
    for (uint64_t n = 1 + rng_below(rng, 4); n > 0; n--) {
        struct wire_bytes path = text_of(some_path(rng));
        struct wire_set_data_request set = {path, text_of("in a multi"), -1};
        struct wire_create_request make = {path, text_of("made in a multi"), acl_of(w),
                                           rng_below(rng, 2) == 0 ? WIRE_EPHEMERAL : 0};
        struct wire_path_version_request gone = {path, -1};
        switch (exists(w, (const char *)path.data, 0) == 0 ? rng_below(rng, 2) : 2) {
        case 0:
            header(w, WIRE_OP_SET_DATA, false);
            wire_set_data_request_encode(&set, &w->body);
            break;
        case 1:
            header(w, WIRE_OP_DELETE, false);
            wire_path_version_request_encode(&gone, &w->body);
            break;
        default:
            header(w, WIRE_OP_CREATE, false);
            wire_create_request_encode(&make, &w->body);
            break;
        }
    }
    if (rng_below(rng, 2) == 0) {
        struct wire_path_version_request none = {text_of("/nowhere"), -1};
        header(w, WIRE_OP_CHECK, false);
        wire_path_version_request_encode(&none, &w->body);
    }
    header(w, -1, true);
    (void)apply(w, WIRE_OP_MULTI);
}

static void config(struct world *w, struct rng *rng)
{
    char text[64];

    snprintf(text, sizeof text, "server.1=10.0.0.%u:2182:2183:participant;2181",
             (unsigned)rng_below(rng, 200));
    buf_clear(&w->body);
    tree_config_encode(0, 0, text, strlen(text), &w->body);
    (void)apply(w, TREE_OP_SET_CONFIG);
}

/* Many of them are refused, as it happens. */
static void change(struct world *w, struct rng *rng)
{
    static const int32_t flags[] = {WIRE_PERSISTENT, WIRE_PERSISTENT, WIRE_EPHEMERAL,
                                    WIRE_SEQUENTIAL, WIRE_EPHEMERAL_SEQUENTIAL};

    if (!some_session(w, rng) || rng_below(rng, 20) == 0)
        w->session = session_new(w, w->origin.conn = 1 + rng_below(rng, 1000)),
        w->origin.server = 1;
    some_acl(w, rng);
    switch (rng_below(rng, 16)) {
    case 0:
    case 1:
    case 2:
    case 3: (void)create(w, some_path(rng), some_data(rng), flags[rng_below(rng, 5)]); break;
    case 4:
        (void)create_bytes(w, WIRE_OP_CREATE_CONTAINER, text_of(some_path(rng)), "", 4);
        break;
    case 5:
    case 6: (void)set_data(w, some_path(rng), some_data(rng), -1); break;
    case 7: (void)set_acl(w, some_path(rng), -1); break;
    case 8:
    case 9:
    case 10:
    case 11: (void)remove_node(w, some_path(rng), -1); break;
    case 12: attach(w, rng); break;
    case 13: multi(w, rng); break;
    case 14:
        if (rng_below(rng, 3) == 0)
            (void)close_session(w, w->session, (struct tree_origin){0, 0});
        break;
    default: config(w, rng); break;
    }
}

static bool add_path(void *ctx, const char *path, size_t len)
{
    buf_printf(ctx, "%.*s ", (int)len, path);
    return true;
}

/* What the digest does not say: in which order a session's ephemerals go. */
static void assert_same(const struct tree *a, const struct tree *b)
{
    struct buf of_a = {0}, of_b = {0};
    struct tree_session s = {0};

    assert_true(tree_digest(a) == tree_digest(b));
    assert_true(tree_digest_anew(b) == tree_digest(b));
    assert_true(tree_zxid(a) == tree_zxid(b));
    assert_int_equal(tree_bytes(a), tree_bytes(b));
    while (tree_session_next(a, s.id, &s)) {
        tree_ephemerals(a, s.id, add_path, &of_a);
        tree_ephemerals(b, s.id, add_path, &of_b);
    }
    assert_string_equal(buf_text(&of_a), buf_text(&of_b));
    buf_free(&of_a);
    buf_free(&of_b);
}

static struct tree *load_in_portions(const struct buf *b, struct rng *rng)
{
    struct tree_loader *l = tree_loader_new(5, b->len);
    struct tree *t;

    for (size_t at = 0; at < b->len;) {
        size_t n = 1 + rng_below(rng, rng_below(rng, 3) == 0 ? 2000 : 40);
        if (n > b->len - at)
            n = b->len - at;
        uint8_t *copy = malloc(n); /* so that a byte too far is seen */
        memcpy(copy, b->data + at, n);
        assert_int_equal(tree_loader_add(l, copy, n), 0);
        free(copy);
        at += n;
    }
    assert_int_equal(tree_loader_end(l, &t), 0);
    return t;
}

static void one_run(uint64_t seed)
{
    struct rng rng = {seed};
    struct world *w = world_new();
    struct buf whole = {0}, portions = {0};
    enum tree_saving is = TREE_SAVING_MORE;
    uint64_t n = 10 + rng_below(&rng, 300), per_portion = rng_below(&rng, 4);
    size_t budget = 1 + rng_below(&rng, rng_below(&rng, 2) == 0 ? 60 : 1000);

    while (n-- > 0)
        change(w, &rng);
    if (rng_below(&rng, 4) == 0) { /* one that does not come to its end */
        (void)tree_saving_begin(w->tree);
        for (n = rng_below(&rng, 20); n > 0; n--) {
            change(w, &rng);
            (void)tree_saving_next(w->tree, budget, &portions);
        }
        tree_saving_end(w->tree);
        buf_clear(&portions);
    }
    tree_save(w->tree, &whole);
    struct tree *then = tree_load(9, whole.data, whole.len);
    assert_non_null(then);
    assert_same(w->tree, then);

    assert_int_equal(tree_saving_begin(w->tree), whole.len);
    while (is == TREE_SAVING_MORE) {
        for (n = rng_below(&rng, per_portion + 1); n > 0; n--)
            change(w, &rng);
        is = tree_saving_next(w->tree, budget, &portions);
    }
    if (is != TREE_SAVING_DONE)
        fail_msg("seed %u: the snapshot is not the tree as of its beginning", (unsigned)seed);
    tree_saving_end(w->tree);
    assert_int_equal(portions.len, whole.len);
    struct tree *loaded = load_in_portions(&portions, &rng);
    if (loaded == NULL || tree_digest(loaded) != tree_digest(then))
        fail_msg("seed %u: what is loaded is not the tree as of then", (unsigned)seed);
    assert_same(then, loaded);
    assert_true(tree_digest_anew(w->tree) == tree_digest(w->tree));
    tree_free(loaded);
    tree_free(then);
    buf_free(&whole);
    buf_free(&portions);
    world_free(w);
}

static void it_is_the_tree_as_of_its_beginning(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        one_run(seed);
}

/* Memory that changes by itself is in no digest that was counted. */
static void what_changes_by_itself_is_found(void **state)
{
    struct world *w = world_new();
    struct buf b = {0};
    uint64_t counted, anew;

    (void)state;
    assert_int_equal(create(w, "/a", "data", 0), 0);
    (void)tree_saving_begin(w->tree);
    uint32_t id = nodes_find(&w->tree->nodes, "/a", 2);
    nodes_at(&w->tree->nodes, id)->ctime ^= 4;
    assert_int_equal(tree_saving_next(w->tree, 1000000, &b), TREE_SAVING_WRONG);
    tree_saving_digests(w->tree, &counted, &anew);
    assert_true(counted != anew);
    buf_free(&b);
    world_free(w);
}

/* What takes the portions away waits: only what changes is added meanwhile. */
static void a_portion_is_about_as_large_as_it_may_be(void **state)
{
    struct world *w = world_new();
    struct buf b = {0};
    char path[32];

    (void)state;
    for (int i = 0; i < 500; i++) {
        snprintf(path, sizeof path, "/n%d", i);
        assert_int_equal(create(w, path, "0123456789", 0), 0);
    }
    (void)tree_saving_begin(w->tree);
    while (tree_saving_next(w->tree, 1000, &b) == TREE_SAVING_MORE) {
        assert_in_range(b.len, 1, 1000 + 200);
        buf_clear(&b);
    }
    tree_saving_end(w->tree);
    buf_free(&b);
    world_free(w);
}

/* A later version of us wrote it: whole, and not ours to read. */
static void another_version_is_not_damage(void **state)
{
    struct world *w = world_new();
    struct buf b = {0};
    struct rng rng = {1};

    (void)state;
    tree_save(w->tree, &b);
    be32_put(b.data + 8, SNAPSHOT_VERSION + 1);
    be32_put(b.data + b.len - 4, crc32c(0, b.data, b.len - 4));
    for (int damaged = 0; damaged < 2; damaged++) {
        struct tree_loader *l = tree_loader_new(5, b.len);
        struct tree *t;
        for (size_t at = 0; at < b.len;) {
            size_t n = 1 + rng_below(&rng, 90);
            n = n > b.len - at ? b.len - at : n;
            assert_int_equal(tree_loader_add(l, b.data + at, n), 0);
            at += n;
        }
        assert_int_equal(tree_loader_end(l, &t), damaged ? ERR_CORRUPT : ERR_OTHER_VERSION);
        assert_null(t);
        b.data[b.len / 2] ^= 1;
    }
    buf_free(&b);
    world_free(w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_tree_as_of_its_beginning),
        cmocka_unit_test(what_changes_by_itself_is_found),
        cmocka_unit_test(a_portion_is_about_as_large_as_it_may_be),
        cmocka_unit_test(another_version_is_not_damage),
    };

    mutant_from_env();
    if (argc > 1)
        seeds = (unsigned)strtoul(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
