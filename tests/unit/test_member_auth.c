/* SPDX-License-Identifier: Apache-2.0 */
/* As whom a client counts, and from when: proofs of who one is, on a connection with other
 * requests in flight. Digests are the passwords themselves here (fake_digest.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "lone_member.h"
#include "wire/wire.h"

static struct wire_bytes text(const char *s) { return wire_bytes(s, strlen(s)); }

static void start(struct lone *l, uint64_t seed)
{
    size_t len;

    lone_start(l, seed);
    lone_connect(l, 1, 0, NULL, 4000);
    assert_non_null(lone_next(l, 1, &len));
}

/* Puts a request's frame content together, for batches without a turn in between. */
static void put(struct buf *out, int32_t xid, int32_t op)
{
    const struct wire_request_header h = {xid, op};

    buf_clear(out);
    wire_request_header_encode(&h, out);
}

static void give(struct lone *l, struct buf *b)
{
    member_client_frame(l->member, 1, b->data, b->len);
}

static void give_create(struct lone *l, int32_t xid, const char *path, const char *scheme,
                        const char *id)
{
    const struct wire_acl one = {31, text(scheme), text(id)};
    struct buf b = {0}, acl = {0};

    wire_acl_encode(&one, &acl);
    const struct wire_create_request q = {text(path), text("v"), {acl.data, acl.len, 1}, 0};
    put(&b, xid, WIRE_OP_CREATE);
    wire_create_request_encode(&q, &b);
    give(l, &b);
    buf_free(&b);
    buf_free(&acl);
}

static void give_set(struct lone *l, int32_t xid, const char *path)
{
    const struct wire_set_data_request q = {text(path), text("w"), -1};
    struct buf b = {0};

    put(&b, xid, WIRE_OP_SET_DATA);
    wire_set_data_request_encode(&q, &b);
    give(l, &b);
    buf_free(&b);
}

static void give_get(struct lone *l, int32_t xid, const char *path, bool watch)
{
    const struct wire_path_watch_request q = {text(path), watch};
    struct buf b = {0};

    put(&b, xid, WIRE_OP_GET_DATA);
    wire_path_watch_request_encode(&q, &b);
    give(l, &b);
    buf_free(&b);
}

static void give_auth(struct lone *l, const char *scheme, const char *auth)
{
    const struct wire_auth_request q = {0, text(scheme), text(auth)};
    struct buf b = {0};

    put(&b, WIRE_XID_AUTH, WIRE_OP_AUTH);
    wire_auth_request_encode(&q, &b);
    give(l, &b);
    buf_free(&b);
}

static void assert_reply(struct lone *l, int32_t xid, int err)
{
    struct wire_reply_header h;
    size_t len;
    const uint8_t *f = lone_next(l, 1, &len);

    assert_non_null(f);
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    assert_int_equal(h.xid, xid);
    assert_int_equal(h.err, err);
    if (xid == WIRE_XID_AUTH)
        assert_int_equal(h.zxid, 0);
}

static void a_proof_counts_for_what_is_asked_after_it(void **state)
{
    struct lone l;
    (void)state;
    start(&l, 1);
    give_create(&l, 1, "/a", "digest", "joe:joe-pw");
    give_get(&l, 2, "/a", false); /* waits for the create */
    give_set(&l, 3, "/a");
    give_auth(&l, "digest", "joe:pw");
    give_set(&l, 4, "/a");
    give_get(&l, 5, "/a", false);
    lone_run(&l, 1);
    assert_reply(&l, 1, 0);
    assert_reply(&l, 2, ERR_NO_AUTH);
    assert_reply(&l, 3, ERR_NO_AUTH);
    assert_reply(&l, WIRE_XID_AUTH, 0);
    assert_reply(&l, 4, 0);
    assert_reply(&l, 5, 0);
    lone_stop(&l);
}

static void several_proofs_add_up(void **state)
{
    struct lone l;
    (void)state;
    start(&l, 2);
    give_auth(&l, "digest", "joe:pw");
    give_auth(&l, "digest", "ann:pw");
    give_auth(&l, "digest", "joe:pw");
    give_create(&l, 1, "/a", "auth", "");
    give_get(&l, 2, "/a", false);
    lone_run(&l, 1);
    for (int i = 0; i < 3; i++)
        assert_reply(&l, WIRE_XID_AUTH, 0);
    assert_reply(&l, 1, 0);
    assert_reply(&l, 2, 0);
    struct wire_who_am_i_response r;
    struct wire_reply_header h;
    size_t len;
    lone_request(&l, 1, 3, WIRE_OP_WHO_AM_I, NULL);
    const uint8_t *f = lone_next(&l, 1, &len);
    assert_non_null(f);
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    assert_int_equal(wire_who_am_i_response_decode(&r, &in), 0);
    assert_int_equal(r.ids.count, 3); /* its address, joe, ann: each once */
    lone_stop(&l);
}

static void what_cannot_be_proven_ends_the_connection(void **state)
{
    struct lone l;
    (void)state;
    start(&l, 3);
    give_auth(&l, "ip", "10.0.0.1"); /* proves nothing, and harms nobody */
    give_auth(&l, "kerberos", "joe");
    give_get(&l, 1, "/", false);
    lone_run(&l, 1);
    assert_reply(&l, WIRE_XID_AUTH, 0);
    assert_reply(&l, WIRE_XID_AUTH, ERR_AUTH_FAILED);
    size_t len;
    assert_null(lone_next(&l, 1, &len));
    assert_true(l.closed[1]);
    lone_stop(&l);
}

static void a_connection_cannot_prove_without_end(void **state)
{
    struct lone l;
    char name[1001];
    bool refused = false;
    (void)state;
    start(&l, 4);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (int i = 0; i < 100 && !refused; i++) {
        name[0] = (char)('A' + i % 50);
        name[1] = (char)('A' + i / 50);
        give_auth(&l, "digest", name);
        lone_run(&l, 1);
        refused = l.closed[1];
    }
    assert_true(refused);
    lone_stop(&l);
}

static void a_connection_has_so_many_identities(void **state)
{
    struct lone l;
    char name[16];
    (void)state;
    start(&l, 9);
    for (int i = 0; i < 31; i++) { /* and its address */
        snprintf(name, sizeof name, "u%d:p", i);
        give_auth(&l, "digest", name);
    }
    give_auth(&l, "digest", "u7:p"); /* known already */
    lone_run(&l, 1);
    for (int i = 0; i < 32; i++)
        assert_reply(&l, WIRE_XID_AUTH, 0);
    /* What it stands for is stored: four times 31 entries fit, five do not. */
    for (int n = 4; n <= 5; n++) {
        struct buf b = {0}, acl = {0};
        for (int i = 1; i <= n; i++) {
            const struct wire_acl one = {i, text("auth"), text("")};
            wire_acl_encode(&one, &acl);
        }
        const struct wire_create_request q = {
            text(n == 4 ? "/a" : "/b"), text("v"), {acl.data, acl.len, n}, 0};
        put(&b, n, WIRE_OP_CREATE);
        wire_create_request_encode(&q, &b);
        give(&l, &b);
        lone_run(&l, 1);
        assert_reply(&l, n, n == 4 ? 0 : ERR_INVALID_ACL);
        buf_free(&b);
        buf_free(&acl);
    }
    give_auth(&l, "digest", "one:more");
    lone_run(&l, 1);
    assert_reply(&l, WIRE_XID_AUTH, ERR_AUTH_FAILED);
    assert_true(l.closed[1]);
    lone_stop(&l);
}

static void who_may_not_read_hears_nothing_of_it(void **state)
{
    struct lone l;
    size_t len;
    (void)state;
    start(&l, 5);
    lone_connect(&l, 2, 0, NULL, 4000);
    assert_non_null(lone_next(&l, 2, &len));
    give_auth(&l, "digest", "joe:pw");
    give_create(&l, 1, "/a", "auth", "");
    struct buf b = {0};
    const struct wire_add_watch_request q = {text("/"), WIRE_WATCH_RECURSIVE};
    wire_add_watch_request_encode(&q, &b);
    lone_request(&l, 2, 1, WIRE_OP_ADD_WATCH, &b);
    assert_non_null(lone_next(&l, 2, &len));
    give_get(&l, 2, "/a", true);
    give_set(&l, 3, "/a");
    give_create(&l, 4, "/open", "world", "anyone");
    lone_run(&l, 1);
    assert_reply(&l, WIRE_XID_AUTH, 0);
    assert_reply(&l, 1, 0);
    assert_reply(&l, 2, 0);
    assert_reply(&l, WIRE_XID_NOTIFICATION, 0);
    assert_reply(&l, 3, 0);
    struct wire_reply_header h;
    struct wire_watcher_event e;
    const uint8_t *f = lone_next(&l, 2, &len);
    assert_non_null(f);
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    assert_int_equal(wire_watcher_event_decode(&e, &in), 0);
    assert_int_equal(e.path.len, 5); /* the first that it hears is of /open */
    assert_memory_equal(e.path.data, "/open", 5);
    buf_free(&b);
    lone_stop(&l);
}

static void there_is_no_sasl_and_it_says_so_as_zookeeper_does(void **state)
{
    struct lone l;
    struct wire_reply_header h;
    struct wire_sasl_response r;
    struct buf b = {0};
    const struct wire_sasl_request q = {text("token")};
    size_t len;
    (void)state;
    start(&l, 6);
    wire_sasl_request_encode(&q, &b);
    lone_request(&l, 1, 9, WIRE_OP_SASL, &b);
    const uint8_t *f = lone_next(&l, 1, &len);
    assert_non_null(f);
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    assert_int_equal(h.err, 0);
    assert_int_equal(wire_sasl_response_decode(&r, &in), 0);
    assert_int_equal(r.token.len, -1);
    assert_false(l.closed[1]);
    buf_free(&b);
    lone_stop(&l);
}

static void nobody_asks_for_what_only_the_leader_may(void **state)
{
    static const int32_t ops[] = {TREE_OP_CREATE_SESSION, TREE_OP_ATTACH_SESSION, TREE_OP_LAPSE,
                                  WIRE_OP_DELETE_CONTAINER, WIRE_OP_CHECK};
    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        struct lone l;
        struct buf b = {0};
        start(&l, 7);
        buf_add_be64(&b, 0);
        buf_add_str(&b, "/a");
        lone_request(&l, 1, 1, ops[i], &b);
        assert_reply(&l, 1, ERR_UNIMPLEMENTED);
        assert_true(l.closed[1]);
        buf_free(&b);
        lone_stop(&l);
    }
}

static void an_emptied_container_is_deleted_in_the_leaders_round(void **state)
{
    struct lone l;
    struct buf b = {0}, acl = {0};
    const struct wire_acl all = {31, text("world"), text("anyone")};
    struct tree_facts before, after;
    size_t len;
    (void)state;
    start(&l, 8);
    tree_facts(member_tree(l.member), &before);
    wire_acl_encode(&all, &acl);
    const struct wire_create_request q = {text("/c"), text(""), {acl.data, acl.len, 1}, 4};
    wire_create_request_encode(&q, &b);
    lone_request(&l, 1, 1, WIRE_OP_CREATE_CONTAINER, &b);
    assert_reply(&l, 1, 0);
    give_create(&l, 2, "/c/x", "world", "anyone");
    const struct wire_path_version_request d = {text("/c/x"), -1};
    buf_clear(&b);
    wire_path_version_request_encode(&d, &b);
    lone_request(&l, 1, 3, WIRE_OP_DELETE, &b);
    tree_facts(member_tree(l.member), &after);
    assert_int_equal(after.znodes, before.znodes + 1);
    for (int s = 0; s < 61; s++) {
        lone_request(&l, 1, -2, WIRE_OP_PING, NULL);
        lone_run(&l, 1000);
    }
    tree_facts(member_tree(l.member), &after);
    assert_int_equal(after.znodes, before.znodes);
    while (lone_next(&l, 1, &len) != NULL)
        ;
    buf_free(&b);
    buf_free(&acl);
    lone_stop(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_proof_counts_for_what_is_asked_after_it),
        cmocka_unit_test(several_proofs_add_up),
        cmocka_unit_test(what_cannot_be_proven_ends_the_connection),
        cmocka_unit_test(a_connection_cannot_prove_without_end),
        cmocka_unit_test(a_connection_has_so_many_identities),
        cmocka_unit_test(who_may_not_read_hears_nothing_of_it),
        cmocka_unit_test(there_is_no_sasl_and_it_says_so_as_zookeeper_does),
        cmocka_unit_test(nobody_asks_for_what_only_the_leader_may),
        cmocka_unit_test(an_emptied_container_is_deleted_in_the_leaders_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
