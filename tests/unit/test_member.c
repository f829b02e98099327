/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sees of one member: connecting, the order of replies, pings, expiry,
 * moved sessions, refused input. (Several members and their faults: the simulation.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "lone_member.h"
#include "wire/wire.h"

struct session {
    int64_t id;
    int32_t timeout_ms;
    uint8_t password[TREE_PASSWORD_LEN];
    size_t frame_len;
};

static struct session connected(struct lone *l, uint64_t conn)
{
    struct session s = {0};
    const uint8_t *f = lone_next(l, conn, &s.frame_len);

    assert_non_null(f);
    struct wire_connect_response r;
    struct wire_in in = wire_in(f, s.frame_len);
    assert_int_equal(wire_connect_response_decode(&r, &in), 0);
    s.id = r.session_id;
    s.timeout_ms = r.timeout_ms;
    assert_int_equal(r.password.len, TREE_PASSWORD_LEN);
    memcpy(s.password, r.password.data, TREE_PASSWORD_LEN);
    return s;
}

static struct wire_reply_header replied(struct lone *l, uint64_t conn)
{
    struct wire_reply_header h = {0};
    size_t len;
    const uint8_t *f = lone_next(l, conn, &len);

    assert_non_null(f);
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    return h;
}

static void create(struct lone *l, uint64_t conn, int32_t xid, const char *path, int32_t flags)
{
    struct buf acl = {0}, b = {0};
    const struct wire_acl all = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    wire_acl_encode(&all, &acl);
    const struct wire_create_request q = {
        wire_bytes(path, strlen(path)), wire_bytes("v", 1), {acl.data, acl.len, 1}, flags};
    wire_create_request_encode(&q, &b);
    lone_request(l, conn, xid, WIRE_OP_CREATE, &b);
    buf_free(&b);
    buf_free(&acl);
}

static void exists(struct lone *l, uint64_t conn, int32_t xid, const char *path, bool watch)
{
    struct buf b = {0};
    const struct wire_path_watch_request q = {wire_bytes(path, strlen(path)), watch};

    wire_path_watch_request_encode(&q, &b);
    lone_request(l, conn, xid, WIRE_OP_EXISTS, &b);
    buf_free(&b);
}

static void connect_negotiates_and_answers_with_the_clients_length(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 1);
    lone_connect(&l, 1, 0, NULL, 1);
    struct session s = connected(&l, 1);
    assert_int_equal(s.timeout_ms, 500); /* session_min_ms */
    assert_int_equal(s.frame_len, 37);   /* the read-only byte was sent, so it comes back */
    lone_connect(&l, 2, 0, NULL, 99999999);
    assert_int_equal(connected(&l, 2).timeout_ms, 60000);
    /* A client from before 3.4 stops before the last byte. */
    const uint8_t old[44] = {[14] = 0x27, [15] = 0x10, [27] = 16};
    lone_open(&l, 3);
    lone_frame(&l, 3, old, sizeof old);
    assert_int_equal(connected(&l, 3).frame_len, 36);
    lone_stop(&l);
}

static void a_wrong_password_and_an_unknown_session_get_session_zero(void **state)
{
    struct lone l;
    const uint8_t wrong[TREE_PASSWORD_LEN] = {1};
    (void)state;
    lone_start(&l, 2);
    lone_connect(&l, 1, 0, NULL, 4000);
    struct session s = connected(&l, 1);
    lone_connect(&l, 2, s.id, wrong, 4000);
    assert_int_equal(connected(&l, 2).id, 0);
    assert_true(l.closed[2]);
    lone_connect(&l, 3, 4711, wrong, 4000);
    assert_int_equal(connected(&l, 3).id, 0);
    assert_true(l.closed[3]);
    assert_false(l.closed[1]); /* a try with a wrong password ends nobody's connection */
    lone_stop(&l);
}

static void the_newer_connection_of_a_session_wins(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 3);
    lone_connect(&l, 1, 0, NULL, 4000);
    struct session s = connected(&l, 1);
    lone_connect(&l, 2, s.id, s.password, 4000);
    assert_int_equal(connected(&l, 2).id, s.id);
    assert_true(l.closed[1]);
    create(&l, 2, 1, "/x", 0);
    assert_int_equal(replied(&l, 2).err, 0);
    lone_stop(&l);
}

static void replies_come_in_order_and_reads_see_the_writes_before_them(void **state)
{
    struct lone l;
    struct buf all = {0};
    (void)state;
    lone_start(&l, 4);
    lone_connect(&l, 1, 0, NULL, 4000);
    (void)connected(&l, 1);
    /* All in one batch, without a turn in between: exists must see the create. */
    const struct wire_request_header ping = {-2, WIRE_OP_PING};
    wire_request_header_encode(&ping, &all);
    create(&l, 1, 1, "/a", 0);
    exists(&l, 1, 2, "/a", false);
    member_client_frame(l.member, 1, all.data, all.len);
    exists(&l, 1, 3, "/b", false);
    lone_run(&l, 10);
    struct wire_reply_header h = replied(&l, 1);
    assert_int_equal(h.xid, 1);
    int64_t zxid = h.zxid;
    h = replied(&l, 1);
    assert_int_equal(h.xid, 2);
    assert_int_equal(h.err, 0);
    assert_true(h.zxid >= zxid);
    assert_int_equal(replied(&l, 1).xid, -2);
    h = replied(&l, 1);
    assert_int_equal(h.xid, 3);
    assert_int_equal(h.err, ERR_NO_NODE);
    buf_free(&all);
    lone_stop(&l);
}

static void a_watch_event_comes_before_the_reply_that_shows_it(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 5);
    lone_connect(&l, 1, 0, NULL, 4000);
    (void)connected(&l, 1);
    exists(&l, 1, 1, "/w", true);
    assert_int_equal(replied(&l, 1).err, ERR_NO_NODE);
    create(&l, 1, 2, "/w", 0);
    assert_int_equal(replied(&l, 1).xid, WIRE_XID_NOTIFICATION);
    assert_int_equal(replied(&l, 1).xid, 2);
    lone_stop(&l);
}

static void a_silent_session_ends_and_its_ephemerals_with_it(void **state)
{
    struct lone l;
    const uint8_t *data;
    size_t len;
    (void)state;
    lone_start(&l, 6);
    lone_connect(&l, 1, 0, NULL, 1000);
    (void)connected(&l, 1);
    create(&l, 1, 1, "/e", 1);
    assert_int_equal(replied(&l, 1).err, 0);
    lone_run(&l, 990);
    assert_true(tree_get(member_tree(l.member), "/e", &data, &len));
    lone_run(&l, 100);
    assert_false(tree_get(member_tree(l.member), "/e", &data, &len));
    assert_true(l.closed[1]);
    lone_stop(&l);
}

static void others_who_are_busy_keep_no_silent_session(void **state)
{
    struct lone l;
    const uint8_t *data;
    size_t len;
    (void)state;
    lone_start(&l, 14);
    lone_connect(&l, 1, 0, NULL, 1000);
    lone_connect(&l, 2, 0, NULL, 1000);
    (void)connected(&l, 1), (void)connected(&l, 2);
    create(&l, 1, 1, "/e", 1);
    lone_run(&l, 600);
    /* Several events in one turn, long after the last: we are not late for anything. */
    for (int i = 0; i < 4; i++) {
        const uint8_t frame[13] = {[7] = WIRE_OP_EXISTS, [11] = 1, [12] = '/'};
        member_client_frame(l.member, 2, frame, sizeof frame);
        member_time(l.member, l.now_ms, 0);
        lone_run(&l, 600);
    }
    assert_false(tree_get(member_tree(l.member), "/e", &data, &len));
    assert_false(l.closed[2]);
    lone_stop(&l);
}

static void pings_keep_a_session(void **state)
{
    struct lone l;
    const uint8_t *data;
    size_t len;
    (void)state;
    lone_start(&l, 7);
    lone_connect(&l, 1, 0, NULL, 1000);
    (void)connected(&l, 1);
    create(&l, 1, 1, "/e", 1);
    assert_int_equal(replied(&l, 1).err, 0);
    for (int i = 0; i < 20; i++) {
        lone_run(&l, 500);
        lone_request(&l, 1, -2, WIRE_OP_PING, NULL);
        lone_run(&l, 1);
        assert_int_equal(replied(&l, 1).xid, -2);
    }
    assert_true(tree_get(member_tree(l.member), "/e", &data, &len));
    lone_stop(&l);
}

static void reads_keep_a_session_too(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 8);
    lone_connect(&l, 1, 0, NULL, 1000);
    (void)connected(&l, 1);
    for (int i = 0; i < 10; i++) {
        lone_run(&l, 600);
        exists(&l, 1, i + 1, "/", false);
        assert_int_equal(replied(&l, 1).xid, i + 1);
    }
    assert_false(l.closed[1]);
    lone_stop(&l);
}

static void closing_a_session_is_answered_and_then_the_connection_ends(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 9);
    lone_connect(&l, 1, 0, NULL, 4000);
    (void)connected(&l, 1);
    lone_request(&l, 1, 5, WIRE_OP_CLOSE_SESSION, NULL);
    lone_run(&l, 1);
    assert_int_equal(replied(&l, 1).xid, 5);
    assert_true(l.closed[1]);
    lone_stop(&l);
}

static void unknown_operations_are_refused_as_zookeeper_does(void **state)
{
    static const int32_t ops[] = {0, 10, 55, 999, -10, 20, 13};
    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct lone l;
        lone_start(&l, 10 + i);
        lone_connect(&l, 1, 0, NULL, 4000);
        (void)connected(&l, 1);
        lone_request(&l, 1, 7, ops[i], NULL);
        struct wire_reply_header h = replied(&l, 1);
        assert_int_equal(h.xid, 7);
        assert_int_equal(h.err, ERR_UNIMPLEMENTED);
        assert_int_equal(h.zxid, -1);
        assert_true(l.closed[1]);
        lone_stop(&l);
    }
}

static void a_body_that_is_no_record_gets_an_error_and_the_connection_stays(void **state)
{
    static const int32_t ops[] = {WIRE_OP_CREATE, WIRE_OP_EXISTS,   WIRE_OP_SYNC,
                                  WIRE_OP_MULTI,  WIRE_OP_GET_DATA, WIRE_OP_SET_WATCHES};
    struct lone l;
    (void)state;
    lone_start(&l, 11);
    lone_connect(&l, 1, 0, NULL, 4000);
    (void)connected(&l, 1);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        lone_request(&l, 1, (int32_t)i + 1, ops[i], NULL);
        lone_run(&l, 1);
        struct wire_reply_header h = replied(&l, 1);
        assert_int_equal(h.xid, i + 1);
        assert_int_equal(h.err, ERR_MALFORMED);
    }
    assert_false(l.closed[1]);
    /* Shorter than a header: there is nothing to answer. */
    lone_frame(&l, 1, "abc", 3);
    assert_true(l.closed[1]);
    lone_stop(&l);
}

static void a_client_that_has_seen_the_future_is_sent_away(void **state)
{
    struct lone l;
    struct buf b = {0};
    const struct wire_connect_request q = {.last_zxid_seen = INT64_MAX, .timeout_ms = 4000};
    (void)state;
    lone_start(&l, 12);
    lone_open(&l, 1);
    wire_connect_request_encode(&q, &b);
    lone_frame(&l, 1, b.data, b.len);
    assert_true(l.closed[1]);
    assert_int_equal(l.out[1].len, 0);
    buf_free(&b);
    lone_stop(&l);
}

static void a_busy_connection_says_so(void **state)
{
    struct lone l;
    struct buf ping = {0};
    const struct wire_request_header h = {-2, WIRE_OP_PING};
    (void)state;
    lone_start(&l, 13);
    lone_connect(&l, 1, 0, NULL, 4000);
    (void)connected(&l, 1);
    wire_request_header_encode(&h, &ping);
    for (int i = 0; i < 1000; i++) {
        assert_false(member_client_is_busy(l.member, 1));
        member_client_frame(l.member, 1, ping.data, ping.len);
    }
    assert_true(member_client_is_busy(l.member, 1));
    lone_run(&l, 10);
    assert_false(member_client_is_busy(l.member, 1));
    buf_free(&ping);
    lone_stop(&l);
}

/* Everything that is due now, without time passing. */
static void settle(struct lone *l)
{
    for (int i = 0; i < 100; i++) {
        lone_run(l, 0);
        if (member_deadline(l->member) > l->now_ms)
            return;
    }
    fail_msg("it is never done");
}

static void many_pings_need_no_time(void **state)
{
    struct lone l;
    const uint8_t ping[8] = {255, 255, 255, 254, [7] = WIRE_OP_PING};
    (void)state;
    lone_start(&l, 15);
    lone_connect(&l, 1, 0, NULL, 4000);
    (void)connected(&l, 1);
    for (int i = 0; i < 20; i++)
        member_client_frame(l.member, 1, ping, sizeof ping);
    create(&l, 1, 1, "/x", 0);
    settle(&l);
    for (int i = 0; i < 20; i++)
        assert_int_equal(replied(&l, 1).xid, -2);
    assert_int_equal(replied(&l, 1).xid, 1);
    lone_stop(&l);
}

/* 60,000 bytes of requests may ask for gigabytes. */
static void what_reads_ask_for_is_made_in_portions(void **state)
{
    struct lone l;
    struct buf b = {0}, big = {0};
    const struct wire_path_watch_request q = {wire_bytes("/big", 4), 0};
    const struct wire_request_header ping = {-2, WIRE_OP_PING};
    size_t most = 0, total = 0;
    (void)state;
    lone_start(&l, 16);
    lone_connect(&l, 1, 0, NULL, 4000);
    (void)connected(&l, 1);
    create(&l, 1, 1, "/big", 0);
    const struct wire_set_data_request set = {
        wire_bytes("/big", 4), wire_bytes(buf_reserve(&big, 500000), 500000), -1};
    memset(big.data, 'x', 500000);
    wire_set_data_request_encode(&set, &b);
    lone_request(&l, 1, 2, WIRE_OP_SET_DATA, &b);
    settle(&l);
    buf_clear(&l.out[1]);
    /* At once, and behind something that must be answered first. */
    for (int behind = 0; behind < 2; behind++) {
        for (int i = 0; i < 50; i++) {
            const struct wire_request_header h = {10 + i, WIRE_OP_GET_DATA};
            buf_clear(&b);
            wire_request_header_encode(i == 0 && behind ? &ping : &h, &b);
            if (i > 0 || !behind)
                wire_path_watch_request_encode(&q, &b);
            member_client_frame(l.member, 1, b.data, b.len);
        }
        assert_true(behind || member_client_is_busy(l.member, 1));
        for (int i = 0; i < 200 && total < (behind ? 100u : 50u); i++) {
            assert_true(i == 0 || member_deadline(l.member) <= l.now_ms);
            member_flush(l.member);
            most = l.out[1].len > most ? l.out[1].len : most;
            size_t len;
            for (; lone_next(&l, 1, &len) != NULL; total++)
                ;
        }
        assert_int_equal(total, behind ? 100 : 50);
        assert_false(member_client_is_busy(l.member, 1));
    }
    assert_true(most < 2000000);
    assert_false(l.closed[1]);
    buf_free(&b);
    buf_free(&big);
    lone_stop(&l);
}

/* A server that again and again does not run for a while must not keep the dead. */
/* A write that has passed them may be applied while they wait for room: they must not see it,
 * nor be in its way. */
static void reads_that_wait_for_room_do_not_see_the_write_behind_them(void **state)
{
    static const int counts[] = {20, 200, 20, 200}; /* a write passes some, but not as many */
    static char big[900000];
    static const uint8_t root[] = {0, 0, 0, 1, '/'};
    struct lone l;
    struct buf b = {0}, acl = {0};
    const struct wire_acl all = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};
    (void)state;
    for (int round = 0; round < 4; round++) {
        bool with_write = round >= 2;
        int reads = counts[round];
        lone_start(&l, 22);
        lone_connect(&l, 1, 0, NULL, 40000);
        (void)connected(&l, 1);
        buf_clear(&acl);
        wire_acl_encode(&all, &acl);
        const struct wire_create_request c = {
            wire_bytes("/b", 2), wire_bytes(big, sizeof big), {acl.data, acl.len, 1}, 0};
        buf_clear(&b);
        wire_create_request_encode(&c, &b);
        lone_request(&l, 1, 1, WIRE_OP_CREATE, &b);
        assert_int_equal(replied(&l, 1).err, 0);
        /* In front of the reads a sync, or a write. */
        const struct wire_request_header first = {2, with_write ? (int)WIRE_OP_SET_DATA
                                                                : (int)WIRE_OP_SYNC};
        const struct wire_set_data_request set = {wire_bytes("/b", 2), wire_bytes("x", 1), -1};
        buf_clear(&b);
        wire_request_header_encode(&first, &b);
        if (with_write) {
            const struct wire_set_data_request same = {wire_bytes("/b", 2),
                                                       wire_bytes(big, sizeof big), -1};
            wire_set_data_request_encode(&same, &b);
        } else {
            buf_add(&b, root, sizeof root);
        }
        member_client_frame(l.member, 1, b.data, b.len);
        for (int i = 0; i < reads; i++) {
            const struct wire_request_header h = {3 + i, WIRE_OP_GET_DATA};
            const struct wire_path_watch_request q = {wire_bytes("/b", 2), false};
            buf_clear(&b);
            wire_request_header_encode(&h, &b);
            wire_path_watch_request_encode(&q, &b);
            member_client_frame(l.member, 1, b.data, b.len);
        }
        const struct wire_request_header last = {3 + reads, WIRE_OP_SET_DATA};
        buf_clear(&b);
        wire_request_header_encode(&last, &b);
        wire_set_data_request_encode(&set, &b);
        member_client_frame(l.member, 1, b.data, b.len);
        lone_run(&l, 1);
        assert_int_equal(replied(&l, 1).xid, 2);
        for (int i = 0; i < reads; i++) {
            struct wire_reply_header h;
            struct wire_data_response d;
            size_t len;
            const uint8_t *f = lone_next(&l, 1, &len);
            for (int n = 0; n < 1000 && f == NULL; n++) {
                lone_run(&l, 1);
                f = lone_next(&l, 1, &len);
            }
            assert_non_null(f);
            struct wire_in in = wire_in(f, len);
            assert_int_equal(wire_reply_header_decode(&h, &in), 0);
            assert_int_equal(h.xid, 3 + i);
            assert_int_equal(wire_data_response_decode(&d, &in), 0);
            assert_int_equal(d.data.len, sizeof big);
        }
        lone_run(&l, 10);
        assert_int_equal(replied(&l, 1).xid, 3 + reads);
        lone_stop(&l);
    }
    buf_free(&b);
    buf_free(&acl);
}

static void a_server_that_stalls_often_still_ends_the_silent(void **state)
{
    struct lone l;
    const uint8_t *data;
    size_t len;
    (void)state;
    lone_start(&l, 17);
    lone_connect(&l, 1, 0, NULL, 1000);
    (void)connected(&l, 1);
    create(&l, 1, 1, "/e", 1);
    for (int i = 0; i < 6; i++) {
        lone_run(&l, 400);
        l.now_ms += 500; /* not running */
    }
    lone_run(&l, 400);
    assert_false(tree_get(member_tree(l.member), "/e", &data, &len));
    lone_stop(&l);
}

/* But for what came while we did not run nobody is punished. */
static void what_came_during_a_stall_counts(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 18);
    lone_connect(&l, 1, 0, NULL, 1000);
    (void)connected(&l, 1);
    lone_run(&l, 900);
    l.now_ms += 5000;
    lone_run(&l, 100); /* the sockets are read a little later than the clock */
    assert_false(l.closed[1]);
    lone_request(&l, 1, -2, WIRE_OP_PING, NULL);
    lone_run(&l, 900);
    assert_int_equal(replied(&l, 1).err, 0);
    assert_false(l.closed[1]);
    lone_stop(&l);
}

static void a_name_or_an_address_joins_once(void **state)
{
    struct lone l;
    const struct raft_member b = {.id = 2, .name = "b", .address = "10.0.0.2:2182"},
                             same_name = {.id = 3, .name = "b", .address = "10.0.0.3:2182"},
                             same_address = {.id = 3, .name = "c", .address = "10.0.0.1:2182"};
    (void)state;
    lone_start(&l, 19);
    assert_int_equal(member_add(l.member, &same_address), ERR_EXISTS);
    assert_int_equal(member_add(l.member, &b), 0);
    assert_int_equal(member_add(l.member, &same_name), ERR_EXISTS); /* b is not applied yet */
    lone_run(&l, 100);
    assert_int_equal(member_add(l.member, &same_name), ERR_EXISTS);
    assert_int_equal(member_members(l.member)->n, 2);
    lone_stop(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_negotiates_and_answers_with_the_clients_length),
        cmocka_unit_test(a_wrong_password_and_an_unknown_session_get_session_zero),
        cmocka_unit_test(the_newer_connection_of_a_session_wins),
        cmocka_unit_test(replies_come_in_order_and_reads_see_the_writes_before_them),
        cmocka_unit_test(a_watch_event_comes_before_the_reply_that_shows_it),
        cmocka_unit_test(a_silent_session_ends_and_its_ephemerals_with_it),
        cmocka_unit_test(others_who_are_busy_keep_no_silent_session),
        cmocka_unit_test(pings_keep_a_session),
        cmocka_unit_test(reads_keep_a_session_too),
        cmocka_unit_test(closing_a_session_is_answered_and_then_the_connection_ends),
        cmocka_unit_test(unknown_operations_are_refused_as_zookeeper_does),
        cmocka_unit_test(a_body_that_is_no_record_gets_an_error_and_the_connection_stays),
        cmocka_unit_test(a_client_that_has_seen_the_future_is_sent_away),
        cmocka_unit_test(a_busy_connection_says_so),
        cmocka_unit_test(many_pings_need_no_time),
        cmocka_unit_test(what_reads_ask_for_is_made_in_portions),
        cmocka_unit_test(reads_that_wait_for_room_do_not_see_the_write_behind_them),
        cmocka_unit_test(a_server_that_stalls_often_still_ends_the_silent),
        cmocka_unit_test(what_came_during_a_stall_counts),
        cmocka_unit_test(a_name_or_an_address_joins_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
