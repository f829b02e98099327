/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: the same tree comes back, and nothing else is let in. */
#include "unit/tree_world.h"

#include "base/hash.h"
#include "tree/snapshot.h"
#include "unit/snapshot_v3.h"

static struct world *furnished(void)
{
    struct world *w = world_new();
    int64_t other = session_new(w, 8);

    id_more(w, "digest", "joe:hash");
    assert_int_equal(create(w, "/a", "data of a", 0), 0);
    acl_set(w, 95, "digest", "joe:hash");
    assert_int_equal(create(w, "/a/b", NULL, WIRE_CONTAINER), 0);
    assert_int_equal(create_bytes(w, WIRE_OP_CREATE_CONTAINER, text_of("/a/c"), "", 4), 0);
    assert_int_equal(create(w, "/a/c/e", "1", WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/a/c/s", "2", WIRE_EPHEMERAL_SEQUENTIAL), 0);
    w->session = other;
    w->origin.conn = 8;
    assert_int_equal(create(w, "/a/b/mine", "3", WIRE_EPHEMERAL), 0);
    assert_int_equal(set_data(w, "/a", "other data", -1), 0);
    assert_int_equal(set_acl(w, "/a/b", -1), 0);
    assert_int_equal(remove_node(w, "/a/c/e", -1), 0);
    return w;
}

static void the_same_tree_comes_back(void **state)
{
    struct world *w = furnished();
    struct tree_facts before, after;

    (void)state;
    tree_facts(w->tree, &before);
    for (int i = 0; i < 3; i++) {
        reload(w);
        tree_facts(w->tree, &after);
        assert_memory_equal(&before, &after, sizeof before);
    }
    assert_int_equal(get_data(w, "/a", 0), 0);
    assert_int_equal(w->stat.version, 1);
    assert_int_equal(get_data(w, "/a/b/mine", 0), 0);
    assert_true(w->stat.ephemeral_owner == w->session);
    assert_int_equal(close_session(w, w->session, w->origin), 0);
    assert_int_equal(get_data(w, "/a/b/mine", 0), ERR_NO_NODE);
    reload(w);
    world_free(w);
}

/* From its own allocation, so that a byte too far is seen. */
static struct tree *load_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    memcpy(copy, data, len);
    struct tree *t = tree_load(7, copy, len);
    free(copy);
    return t;
}

static void every_truncation_is_refused(void **state)
{
    struct world *w = furnished();
    struct buf b = {0};

    (void)state;
    tree_save(w->tree, &b);
    for (size_t len = 0; len < b.len; len++)
        assert_null(load_copy(b.data, len));
    buf_add_u8(&b, 0);
    assert_null(load_copy(b.data, b.len));
    buf_free(&b);
    world_free(w);
}

static void every_flipped_bit_is_refused(void **state)
{
    struct world *w = furnished();
    struct buf b = {0};

    (void)state;
    tree_save(w->tree, &b);
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_null(load_copy(b.data, b.len));
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_free(&b);
    world_free(w);
}

static struct tree *load_blindly(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len);
    struct tree_loader *l = tree_loader_new(7, len);
    struct tree *t;

    memcpy(copy, data, len);
    tree_loader_blind(l);
    (void)tree_loader_add(l, copy, len);
    free(copy);
    (void)tree_loader_end(l, &t);
    return t;
}

/* A tree that was wrong in memory is saved with a right checksum; its digest is another. */
static void a_wrong_byte_under_a_right_checksum_is_found_by_the_digest(void **state)
{
    struct world *w = furnished();
    struct buf b = {0};
    size_t loaded_blindly = 0;

    (void)state;
    tree_save(w->tree, &b);
    assert_true(tree_digest_anew(w->tree) == tree_digest(w->tree));
    for (size_t at = 28; at + 4 < b.len; at++) {
        b.data[at] ^= 1;
        be32_put(b.data + b.len - 4, crc32c(0, b.data, b.len - 4));
        assert_null(load_copy(b.data, b.len));
        struct tree *t = load_blindly(b.data, b.len);
        loaded_blindly += t != NULL;
        tree_free(t);
        b.data[at] ^= 1;
    }
    assert_true(loaded_blindly > 100);
    buf_free(&b);
    world_free(w);
}

/* With the right checksum over wrong bytes: refused, or loaded as another valid tree, which
 * must then work; never a crash. */
static void wrong_fields_are_refused_or_harmless(void **state)
{
    struct world *w = furnished();
    struct buf b = {0};
    size_t refused = 0, loaded = 0;

    (void)state;
    tree_save(w->tree, &b);
    for (uint64_t seed = 1; seed < 30000; seed++) {
        struct buf bad = {0};
        struct rng rng = {seed};
        buf_add(&bad, b.data, b.len - 4);
        if (seed < 8 * bad.len)
            bad.data[seed / 8] ^= (uint8_t)(1u << seed % 8);
        else
            for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--)
                be32_put(bad.data + rng_below(&rng, bad.len - 4),
                         rng_below(&rng, 2) == 0 ? (uint32_t)rng_below(&rng, 8)
                                                 : (uint32_t)rng_next(&rng));
        buf_add_be32(&bad, crc32c(0, bad.data, bad.len));
        struct tree *t = load_blindly(bad.data, bad.len);
        if (t != NULL) {
            struct tree_session s = {0};
            struct tree_result r = {0};
            while (tree_session_next(t, s.id, &s)) {
                struct tree_txn txn = {.op = TREE_OP_CLOSE_SESSION, .session = s.id};
                tree_apply(t, tree_zxid(t) + 1, &txn, NULL, &r);
                assert_int_equal(r.err, 0);
            }
            struct tree_facts f;
            tree_facts(t, &f);
            assert_int_equal(f.ephemerals, 0);
            loaded++;
        } else {
            refused++;
        }
        tree_free(t);
        buf_free(&bad);
    }
    assert_true(refused > 1000 && loaded > 1000);
    buf_free(&b);
    world_free(w);
}

static void another_version_or_magic_is_refused(void **state)
{
    struct world *w = furnished();
    struct buf b = {0};

    (void)state;
    tree_save(w->tree, &b);
    for (size_t at = 0; at < 20; at++) {
        b.data[at]++;
        be32_put(b.data + b.len - 4, crc32c(0, b.data, b.len - 4));
        assert_null(load_copy(b.data, b.len));
        b.data[at]--;
    }
    buf_free(&b);
    world_free(w);
}

/* What a server wrote before it was upgraded. Of version 2 (no digest) alike. */
static void the_versions_before_are_read(void **state)
{
    struct world *w = furnished();
    struct buf b = {0};

    (void)state;
    for (int version = 3; version >= 2; version--) {
        buf_clear(&b);
        buf_add(&b, version_3, sizeof version_3);
        if (version == 2) {
            memmove(b.data + 28, b.data + 36, b.len - 36);
            b.len -= 8;
            be32_put(b.data + 8, 2);
            be64_put(b.data + 12, b.len);
            be32_put(b.data + b.len - 4, crc32c(0, b.data, b.len - 4));
        }
        struct tree *t = load_copy(b.data, b.len);
        assert_non_null(t);
        assert_true(tree_digest(t) == VERSION_3_DIGEST);
        assert_true(tree_digest(t) == tree_digest(w->tree));
        assert_true(tree_zxid(t) == VERSION_3_ZXID);
        tree_free(t);
        for (size_t bit = 0; bit < 8 * b.len; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_null(load_copy(b.data, b.len));
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t len = 0; len < b.len; len += 7)
            assert_null(load_copy(b.data, len));
    }
    buf_free(&b);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_tree_comes_back),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(a_wrong_byte_under_a_right_checksum_is_found_by_the_digest),
        cmocka_unit_test(wrong_fields_are_refused_or_harmless),
        cmocka_unit_test(another_version_or_magic_is_refused),
        cmocka_unit_test(the_versions_before_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
