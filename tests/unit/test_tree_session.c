/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: who may write, what goes with them, and how they are walked. */
#include "unit/tree_world.h"

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

static int attach(struct world *w, int64_t id, const char *password, uint64_t conn, int32_t ms)
{
    struct tree_txn txn = {
        .op = TREE_OP_ATTACH_SESSION, .session = id, .origin = {2, conn}, .timeout_ms = ms};

    memcpy(txn.password, password, TREE_PASSWORD_LEN);
    return apply_txn(w, &txn, NULL);
}

static void ids_come_from_the_zxid(void **state)
{
    struct world *w = *state;
    struct tree_session s;

    assert_true(w->session == BASE + 1);
    w->zxid += 5; /* entries that are not for the tree */
    int64_t id = session_new(w, 9);
    assert_true(id == BASE + w->zxid);
    assert_true(tree_session_get(w->tree, id, &s));
    assert_true(s.id == id);
    assert_int_equal(s.timeout_ms, 4000);
    assert_int_equal(s.origin.server, 1);
    assert_int_equal(s.origin.conn, 9);
    assert_int_equal(s.ephemerals, 0);
    assert_false(tree_session_get(w->tree, id + 1, &s));
}

static void attach_needs_the_password(void **state)
{
    struct world *w = *state;
    struct tree_session s;

    assert_int_equal(attach(w, w->session, "0123456789abcdX", 3, 5000), ERR_SESSION_EXPIRED);
    assert_int_equal(attach(w, w->session + 1, "0123456789abcde", 3, 5000),
                     ERR_SESSION_EXPIRED);
    assert_true(tree_session_get(w->tree, w->session, &s));
    assert_int_equal(s.timeout_ms, 4000);
    assert_int_equal(s.origin.conn, 7);
    uint64_t digest = tree_digest(w->tree);
    assert_int_equal(attach(w, w->session, "0123456789abcde", 3, 5000), 0);
    assert_true(tree_digest(w->tree) != digest);
    reload(w);
    assert_true(tree_session_get(w->tree, w->session, &s));
    assert_int_equal(s.timeout_ms, 5000);
    assert_int_equal(s.origin.server, 2);
    assert_int_equal(s.origin.conn, 3);
    assert_int_equal(attach(w, w->session, "0123456789abcde", 4, 5000), 0);
}

static void writes_of_an_unknown_session_are_refused(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/a", "", 0), 0);
    uint64_t digest = tree_digest(w->tree);
    w->session++;
    assert_int_equal(create(w, "/b", "", 0), ERR_SESSION_EXPIRED);
    assert_int_equal(create(w, "/b", "", 7), ERR_BAD_ARGUMENTS); /* the mode before it */
    assert_int_equal(remove_node(w, "", -1), ERR_SESSION_EXPIRED);
    assert_int_equal(set_data(w, "", "", -1), ERR_SESSION_EXPIRED);
    assert_int_equal(set_acl(w, "", -1), ERR_SESSION_EXPIRED);
    assert_int_equal(close_session(w, w->session, w->origin), ERR_SESSION_EXPIRED);
    assert_int_equal(close_session(w, w->session, (struct tree_origin){0, 0}),
                     ERR_SESSION_EXPIRED);
    buf_clear(&w->body);
    buf_add(&w->body, "\377\377\377\377\1\377\377\377\377", 9);
    assert_int_equal(apply(w, WIRE_OP_MULTI), ERR_SESSION_EXPIRED);
    assert_true(tree_digest(w->tree) == digest);
}

static void writes_through_an_old_connection_are_refused(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/a", "", 0), 0);
    assert_int_equal(attach(w, w->session, "0123456789abcde", 3, 4000), 0);
    uint64_t digest = tree_digest(w->tree);
    assert_int_equal(create(w, "/b", "", 0), ERR_SESSION_MOVED);
    assert_int_equal(remove_node(w, "/a", -1), ERR_SESSION_MOVED);
    assert_int_equal(set_data(w, "/a", "", -1), ERR_SESSION_MOVED);
    assert_int_equal(set_acl(w, "/a", -1), ERR_SESSION_MOVED);
    assert_int_equal(close_session(w, w->session, w->origin), ERR_SESSION_MOVED);
    w->origin = (struct tree_origin){2, 7}; /* the right server, another connection */
    assert_int_equal(create(w, "/b", "", 0), ERR_SESSION_MOVED);
    w->origin = (struct tree_origin){0, 0};
    assert_int_equal(create(w, "/b", "", 0), ERR_SESSION_MOVED);
    assert_true(tree_digest(w->tree) == digest);
    w->origin = (struct tree_origin){2, 3};
    assert_int_equal(create(w, "/b", "", 0), 0);
    assert_int_equal(close_session(w, w->session, (struct tree_origin){0, 0}), 0); /* expiry */
}

static void closing_takes_the_ephemerals_along(void **state)
{
    struct world *w = *state;
    struct tree_session s;
    struct tree_facts f;
    int64_t other = session_new(w, 8), first = w->session;

    assert_int_equal(create(w, "/p", "", 0), 0);
    assert_int_equal(create(w, "/p/z", "", WIRE_EPHEMERAL), 0);
    w->session = other;
    w->origin.conn = 8;
    assert_int_equal(create(w, "/p/y", "", WIRE_EPHEMERAL), 0);
    w->session = first;
    w->origin.conn = 7;
    assert_int_equal(create(w, "/a", "", WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/p/m", "", WIRE_EPHEMERAL), 0);
    assert_true(tree_session_get(w->tree, first, &s));
    assert_int_equal(s.ephemerals, 3);
    assert_int_equal(add_watch(w, "/", WIRE_WATCH_RECURSIVE, 1), 0);
    assert_int_equal(get_children(w, "/p", 2), 0);
    assert_int_equal(close_session(w, first, w->origin), 0);
    assert_events(w, "1 deleted /p/z\n2 children /p\n1 deleted /a\n1 deleted /p/m\n");
    assert_int_equal(w->reply.len, 0);
    assert_false(tree_session_get(w->tree, first, &s));
    assert_int_equal(exists(w, "/p", 0), 0);
    assert_int_equal(w->stat.children, 1);
    assert_int_equal(w->stat.cversion, 3 * 2 - 1);
    assert_int_equal(w->stat.pzxid, w->zxid);
    assert_int_equal(exists(w, "/p/y", 0), 0);
    tree_facts(w->tree, &f);
    assert_int_equal(f.ephemerals, 1);
    assert_int_equal(f.sessions, 1);
    assert_int_equal(close_session(w, first, w->origin), ERR_SESSION_EXPIRED);
}

static void an_ephemeral_that_was_deleted_is_forgotten(void **state)
{
    struct world *w = *state;
    int64_t other = session_new(w, 8);

    assert_int_equal(create(w, "/e", "", WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/f", "", WIRE_EPHEMERAL), 0);
    assert_int_equal(remove_node(w, "/e", -1), 0);
    assert_int_equal(create(w, "/e", "", 0), 0); /* of the same name, but it stays */
    int64_t mine = w->session;
    w->session = other;
    w->origin.conn = 8;
    assert_int_equal(remove_node(w, "/f", -1), 0); /* anybody may */
    assert_int_equal(create(w, "/f", "", WIRE_EPHEMERAL), 0);
    assert_int_equal(close_session(w, mine, (struct tree_origin){1, 7}), 0);
    assert_int_equal(exists(w, "/e", 0), 0);
    assert_int_equal(exists(w, "/f", 0), 0);
    assert_true(w->stat.ephemeral_owner == other);
}

static void they_are_walked_in_order(void **state)
{
    struct world *w = *state;
    struct tree_session s;
    int64_t ids[100];
    struct rng rng = {1};

    for (size_t i = 0; i < 100; i++)
        ids[i] = session_new(w, i);
    for (size_t i = 0; i < 70; i++) { /* many gone, from all places */
        size_t at = rng_below(&rng, 100);
        while (ids[at] == 0)
            at = (at + 1) % 100;
        assert_int_equal(close_session(w, ids[at], (struct tree_origin){0, 0}), 0);
        ids[at] = 0;
    }
    assert_true(tree_session_next(w->tree, 0, &s));
    assert_true(s.id == w->session);
    for (size_t i = 0; i < 100; i++) {
        if (ids[i] == 0)
            continue;
        assert_true(tree_session_next(w->tree, s.id, &s));
        assert_true(s.id == ids[i]);
        assert_true(tree_session_get(w->tree, ids[i], &s));
    }
    assert_false(tree_session_next(w->tree, s.id, &s));
    assert_false(tree_session_next(w->tree, INT64_MAX, &s));
    reload(w);
    assert_true(tree_session_next(w->tree, INT64_MIN, &s));
    assert_true(s.id == w->session);
}

static void the_form_in_the_log(void **state)
{
    struct buf b = {0};
    struct tree_txn back;
    struct tree_txn txn = {.op = TREE_OP_CREATE_SESSION,
                           .cxid = -5,
                           .session = INT64_MIN,
                           .time_ms = -1,
                           .origin = {UINT64_MAX, 3},
                           .seq = 1ull << 63,
                           .timeout_ms = -7,
                           .password = "passwordpasswor",
                           .body = (const uint8_t *)"body",
                           .len = 4};

    (void)state;
    tree_txn_encode(&txn, &b);
    assert_int_equal(tree_txn_decode(&back, b.data, b.len), 0);
    assert_int_equal(back.op, txn.op);
    assert_int_equal(back.cxid, -5);
    assert_true(back.session == INT64_MIN && back.time_ms == -1);
    assert_true(back.origin.server == UINT64_MAX && back.origin.conn == 3);
    assert_true(back.seq == 1ull << 63);
    assert_int_equal(back.timeout_ms, -7);
    assert_memory_equal(back.password, txn.password, TREE_PASSWORD_LEN);
    assert_int_equal(back.len, 4);
    assert_memory_equal(back.body, "body", 4);
    for (size_t len = b.len - 4; len-- > 0;)
        assert_int_equal(tree_txn_decode(&back, b.data, len), ERR_MALFORMED);

    /* Without a limit it is the form that had none. */
    size_t without = b.len;
    assert_int_equal(without, 53 + 4 + TREE_PASSWORD_LEN + 4);
    assert_int_equal(back.bytes_max, 0);
    txn.bytes_max = 0xfedcba98;
    txn.rules = TREE_RULES_ALL;
    buf_clear(&b);
    tree_txn_encode(&txn, &b);
    assert_int_equal(b.len, without + 4);
    assert_int_equal(tree_txn_decode(&back, b.data, b.len), 0);
    assert_true(back.bytes_max == 0xfedcba98 && back.rules == TREE_RULES_ALL);
    assert_true(back.timeout_ms == -7 && back.len == 4);
    for (size_t len = b.len - 4; len-- > 0;)
        assert_int_equal(tree_txn_decode(&back, b.data, len), ERR_MALFORMED);
    buf_free(&b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(ids_come_from_the_zxid),
        T(attach_needs_the_password),
        T(writes_of_an_unknown_session_are_refused),
        T(writes_through_an_old_connection_are_refused),
        T(closing_takes_the_ephemerals_along),
        T(an_ephemeral_that_was_deleted_is_forgotten),
        T(they_are_walked_in_order),
        T(the_form_in_the_log),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
