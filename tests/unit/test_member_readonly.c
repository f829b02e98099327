/* SPDX-License-Identifier: Apache-2.0 */
/* A server that hears nobody: who may read there, and what. (How it ends when the
 * quorum is back: test_member_far, and the simulation.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "lone_member.h"
#include "wire/wire.h"

#define AFTER_MS 2000
#define LOCAL_ID_MIN 0x7f00000000000000

static const struct member_options on = {.read_only_after_ms = AFTER_MS};

struct session {
    int64_t id;
    int32_t timeout_ms;
    int8_t read_only;
    uint8_t password[TREE_PASSWORD_LEN];
    bool is_answered;
};

static struct session try(struct lone *l, uint64_t conn, const struct session *old,
                          int8_t read_only, int64_t zxid)
{
    struct session s = {0};
    const struct wire_connect_request q = {
        .last_zxid_seen = zxid,
        .timeout_ms = 4000,
        .session_id = old != NULL ? old->id : 0,
        .password = wire_bytes(old != NULL ? old->password : s.password, TREE_PASSWORD_LEN),
        .read_only = read_only,
    };
    struct wire_connect_response r;
    size_t len;

    lone_connect_as(l, conn, &q);
    const uint8_t *f = lone_next(l, conn, &len);
    if (f == NULL)
        return s;
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_connect_response_decode(&r, &in), 0);
    s.is_answered = true;
    s.id = r.session_id;
    s.timeout_ms = r.timeout_ms;
    s.read_only = r.read_only;
    memcpy(s.password, r.password.data, TREE_PASSWORD_LEN);
    return s;
}

static struct wire_reply_header asked(struct lone *l, uint64_t conn, int32_t xid, int32_t op,
                                      bool has_path)
{
    struct wire_reply_header h = {0};
    const struct wire_path_watch_request q = {wire_bytes("/", 1), true};
    struct buf b = {0};
    size_t len;

    if (has_path)
        wire_path_watch_request_encode(&q, &b);
    lone_request(l, conn, xid, op, &b);
    buf_free(&b);
    const uint8_t *f = lone_next(l, conn, &len);
    if (f == NULL)
        fail_msg("operation %d is not answered", op);
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    return h;
}

static void it_begins_after_a_while_and_for_those_who_ask(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 1, &on, 3);
    lone_run(&l, AFTER_MS - 1);
    assert_false(member_is_read_only(l.member));
    assert_false(try(&l, 1, NULL, 1, 0).is_answered);
    assert_true(l.closed[1]);
    lone_run(&l, 1);
    assert_true(member_is_read_only(l.member));
    assert_false(member_is_serving(l.member));
    struct session s = try(&l, 2, NULL, 1, 0);
    assert_int_equal(s.read_only, 1);
    assert_int_equal(s.timeout_ms, 4000);
    assert_true(s.id >= LOCAL_ID_MIN);
    assert_false(try(&l, 3, NULL, 0, 0).is_answered);
    assert_true(l.closed[3]);
    assert_false(try(&l, 4, NULL, WIRE_ABSENT, 0).is_answered);
    assert_true(l.closed[4]);
    assert_false(try(&l, 5, NULL, 1, 1000).is_answered); /* has seen more */
    assert_true(l.closed[5]);
    lone_stop(&l);
}

static void it_does_not_begin_unless_it_is_set(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 2, &(struct member_options){0}, 3);
    lone_run(&l, 60000);
    assert_false(member_is_read_only(l.member));
    assert_false(try(&l, 1, NULL, 1, 0).is_answered);
    lone_stop(&l);
    /* And with a quorum the byte means nothing. */
    lone_start_with(&l, 3, &on, 1);
    lone_run(&l, 60000);
    struct session s = try(&l, 1, NULL, 1, 0);
    assert_int_equal(s.read_only, 0);
    assert_true(s.id > 0 && s.id < LOCAL_ID_MIN);
    lone_stop(&l);
}

static void reads_are_served_and_nothing_else(void **state)
{
    static const struct {
        int32_t op;
        bool has_path;
        int err;
    } rows[] = {
        {WIRE_OP_PING, false, 0},
        {WIRE_OP_EXISTS, true, 0},
        {WIRE_OP_GET_DATA, true, 0},
        {WIRE_OP_GET_CHILDREN, true, 0},
        {WIRE_OP_GET_CHILDREN2, true, 0},
        {WIRE_OP_GET_ACL, true, 0},
        {WIRE_OP_GET_ALL_CHILDREN_NUMBER, true, 0},
        {WIRE_OP_GET_EPHEMERALS, true, 0},
        {WIRE_OP_WHO_AM_I, false, 0},
        {WIRE_OP_SYNC, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_CHECK, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_CREATE, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_CREATE2, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_CREATE_CONTAINER, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_CREATE_TTL, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_DELETE, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_DELETE_CONTAINER, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_SET_DATA, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_SET_ACL, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_MULTI, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_RECONFIG, true, ERR_NOT_READ_ONLY},
        {WIRE_OP_MULTI_READ, false, ERR_MALFORMED},
    };
    struct lone l;
    (void)state;
    lone_start_with(&l, 4, &on, 3);
    lone_run(&l, AFTER_MS);
    (void)try(&l, 1, NULL, 1, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wire_reply_header h = asked(&l, 1, (int32_t)i + 1, rows[i].op, rows[i].has_path);
        if (h.err != rows[i].err)
            fail_msg("%s: %d", wire_op_name(rows[i].op), h.err);
        assert_int_equal(h.xid, rows[i].op == WIRE_OP_PING ? -2 : (int32_t)i + 1);
        assert_int_equal(h.zxid, tree_zxid(member_tree(l.member)));
    }
    assert_false(l.closed[1]);
    struct wire_reply_header h = asked(&l, 1, 99, 999, false);
    assert_int_equal(h.err, ERR_UNIMPLEMENTED);
    assert_true(l.closed[1]);
    /* Nothing of it waits for the leader that will be. */
    struct member_facts f;
    member_facts(l.member, &f);
    assert_int_equal(f.outstanding, 0);
    lone_stop(&l);
}

static void a_session_of_the_mode_lives_by_what_it_asks(void **state)
{
    struct lone l;
    struct member_facts f;
    (void)state;
    lone_start_with(&l, 5, &on, 3);
    lone_run(&l, AFTER_MS);
    struct session s = try(&l, 1, NULL, 1, 0);
    for (int i = 0; i < 5; i++) {
        lone_run(&l, 3000);
        assert_int_equal(asked(&l, 1, -2, WIRE_OP_PING, false).err, 0);
    }
    /* On another connection: the older one ends. */
    struct session again = try(&l, 2, &s, 1, 0);
    assert_int_equal(again.id, s.id);
    assert_memory_equal(again.password, s.password, TREE_PASSWORD_LEN);
    assert_true(l.closed[1]);
    /* Its client goes away and comes back in time. */
    member_client_closed(l.member, 2);
    lone_run(&l, 3900);
    assert_int_equal(try(&l, 3, &s, 1, 0).id, s.id);
    /* And too late. */
    lone_run(&l, 4200);
    assert_true(l.closed[3]);
    again = try(&l, 4, &s, 1, 0);
    assert_true(again.is_answered);
    assert_int_equal(again.id, 0);
    assert_int_equal(again.read_only, 1);
    member_facts(l.member, &f);
    assert_int_equal(f.local_sessions, 0);
    /* Closed by its client. */
    s = try(&l, 5, NULL, 1, 0);
    assert_int_equal(asked(&l, 5, 8, WIRE_OP_CLOSE_SESSION, false).err, 0);
    assert_true(l.closed[5]);
    assert_int_equal(try(&l, 6, &s, 1, 0).id, 0);
    /* A wrong password ends nobody's. */
    s = try(&l, 7, NULL, 1, 0);
    struct session wrong = s;
    wrong.password[0] ^= 1;
    assert_int_equal(try(&l, 8, &wrong, 1, 0).id, 0);
    assert_false(l.closed[7]);
    lone_stop(&l);
}

static void sessions_of_the_ensemble_are_not_served_and_not_denied(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 6, &on, 3);
    lone_run(&l, AFTER_MS);
    int64_t last = tree_session_id(tree_zxid(member_tree(l.member)));
    /* Made after what we know: it may well live. */
    assert_false(try(&l, 1, &(struct session){.id = last + 3}, 1, 0).is_answered);
    assert_true(l.closed[1]);
    /* Made before, and gone. */
    struct session s = try(&l, 2, &(struct session){.id = last - 1}, 1, 0);
    assert_true(s.is_answered);
    assert_int_equal(s.id, 0);
    assert_true(l.closed[2]);
    lone_stop(&l);
}

static void there_are_not_too_many_of_them(void **state)
{
    struct lone l;
    struct member_facts f;
    (void)state;
    lone_start_with(&l, 7, &on, 3);
    lone_run(&l, AFTER_MS);
    for (int i = 0; i < 20000; i++) {
        assert_true(try(&l, 1, NULL, 1, 0).is_answered);
        member_client_closed(l.member, 1);
    }
    assert_false(try(&l, 1, NULL, 1, 0).is_answered);
    assert_true(l.closed[1]);
    member_facts(l.member, &f);
    assert_int_equal(f.local_sessions, 20000);
    assert_int_equal(f.limited[MEMBER_LIMIT_LOCALS], 1);
    lone_run(&l, 4200);
    member_facts(l.member, &f);
    assert_int_equal(f.local_sessions, 0);
    lone_stop(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_begins_after_a_while_and_for_those_who_ask),
        cmocka_unit_test(it_does_not_begin_unless_it_is_set),
        cmocka_unit_test(reads_are_served_and_nothing_else),
        cmocka_unit_test(a_session_of_the_mode_lives_by_what_it_asks),
        cmocka_unit_test(sessions_of_the_ensemble_are_not_served_and_not_denied),
        cmocka_unit_test(there_are_not_too_many_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
