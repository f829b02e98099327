/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sees of a member's limits, and of what counts as a session: in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "lone_member.h"
#include "wire/wire.h"

static const uint8_t no_password[TREE_PASSWORD_LEN];

struct session {
    int64_t id;
    int32_t timeout_ms;
    uint8_t password[TREE_PASSWORD_LEN];
    size_t len; /* of the answer; 0: there was none */
};

static struct session connected(struct lone *l, uint64_t conn)
{
    struct session s = {0};
    const uint8_t *f = lone_next(l, conn, &s.len);

    if (f == NULL)
        return (struct session){0};
    struct wire_connect_response r;
    struct wire_in in = wire_in(f, s.len);
    assert_int_equal(wire_connect_response_decode(&r, &in), 0);
    s.id = r.session_id;
    s.timeout_ms = r.timeout_ms;
    assert_int_equal(r.password.len, TREE_PASSWORD_LEN);
    memcpy(s.password, r.password.data, TREE_PASSWORD_LEN);
    return s;
}

static struct session opened(struct lone *l, uint64_t conn)
{
    lone_connect(l, conn, 0, NULL, 10000);
    struct session s = connected(l, conn);
    assert_true(s.id != 0);
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

static bool is_silent(struct lone *l, uint64_t conn) { return l->out[conn].len == 0; }

static uint64_t limited(const struct lone *l, enum member_limit limit)
{
    struct member_facts f;

    member_facts(l->member, &f);
    return f.limited[limit];
}

/* A frame that is given to the member without a turn. */
static void give(struct lone *l, uint64_t conn, int32_t xid, int32_t op, const char *path)
{
    const struct wire_request_header h = {xid, op};
    struct buf b = {0};

    wire_request_header_encode(&h, &b);
    if (op == WIRE_OP_EXISTS) {
        const struct wire_path_watch_request q = {wire_bytes(path, strlen(path)), false};
        wire_path_watch_request_encode(&q, &b);
    } else if (op == WIRE_OP_SET_DATA) {
        const struct wire_set_data_request q = {wire_bytes(path, strlen(path)),
                                                wire_bytes("v", 1), -1};
        wire_set_data_request_encode(&q, &b);
    }
    member_client_frame(l->member, conn, b.data, b.len);
    buf_free(&b);
}

/* ---- sessions ---- */

struct reconnect {
    const char *what;
    int32_t id_off, password_len, wrong_at; /* wrong_at: -1 none */
    int64_t zxid_off;                       /* from the server's own */
    int32_t timeout_ms;
    bool expect_session, expect_close, expect_silence;
    int32_t expect_timeout_ms;
};

static void reconnecting(void **state)
{
    static const struct reconnect rows[] = {
        {"the right password", 0, 16, -1, 0, 8000, true, false, false, 8000},
        {"a shorter timeout than allowed", 0, 16, -1, 0, 1, true, false, false, 500},
        {"a longer one", 0, 16, -1, 0, 1000000, true, false, false, 60000},
        {"a negative one", 0, 16, -1, 0, -5, true, false, false, 500},
        {"a wrong password", 0, 16, 3, 0, 8000, false, true, false, 0},
        {"a password that is too short", 0, 15, -1, 0, 8000, false, true, false, 0},
        {"one that is too long", 0, 17, -1, 0, 8000, false, true, false, 0},
        {"none", 0, 0, -1, 0, 8000, false, true, false, 0},
        {"a null one", 0, -1, -1, 0, 8000, false, true, false, 0},
        {"a session that nobody has", 1000, 16, -1, 0, 8000, false, true, false, 0},
        {"has seen a little more than there is", 0, 16, -1, 5, 8000, false, true, true, 0},
        {"has seen much more", 0, 16, -1, 1ll << 50, 8000, false, true, true, 0},
        {"has seen more, its session is gone", 1000, 16, -1, 1ll << 50, 8000, false, true,
         false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct reconnect *r = &rows[i];
        uint8_t password[32] = {0};
        struct lone l;
        lone_start(&l, 100 + i);
        struct session s = opened(&l, 1);
        memcpy(password, s.password, TREE_PASSWORD_LEN);
        if (r->wrong_at >= 0)
            password[r->wrong_at] ^= 1;
        const struct wire_connect_request q = {
            .last_zxid_seen = tree_zxid(member_tree(l.member)) + r->zxid_off,
            .timeout_ms = r->timeout_ms,
            .session_id = s.id + r->id_off,
            .password = {password, r->password_len},
        };
        lone_connect_as(&l, 2, &q);
        struct session now = connected(&l, 2);
        print_message("  %s\n", r->what);
        assert_int_equal(now.id, r->expect_session ? s.id : 0);
        assert_int_equal(now.timeout_ms, r->expect_timeout_ms);
        assert_int_equal(now.len, r->expect_silence ? 0 : 37);
        assert_int_equal(l.closed[2], r->expect_close);
        /* The rightful connection ends when the session has moved, and only then. */
        assert_int_equal(l.closed[1], r->expect_session);
        lone_stop(&l);
    }
}

/* Nobody keeps a session alive by coming back to a cluster that has lost what he has seen; so
 * one day he is told that it has ended, and begins anew. */
static void who_has_seen_what_is_lost_is_told_in_the_end(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 130);
    lone_connect(&l, 1, 0, NULL, 1000);
    struct session s = connected(&l, 1), now = {0};
    const struct wire_connect_request q = {.last_zxid_seen = 1ll << 40,
                                           .timeout_ms = 1000,
                                           .session_id = s.id,
                                           .password = wire_bytes(s.password, 16)};
    member_client_closed(l.member, 1);
    unsigned tries = 0;
    for (uint64_t conn = 2; conn < LONE_CONNS && now.len == 0; conn++, tries++) {
        lone_connect_as(&l, conn, &q);
        now = connected(&l, conn);
        assert_true(l.closed[conn]);
        lone_run(&l, 200);
    }
    assert_int_equal(now.len, 37);
    assert_int_equal(now.id, 0);
    assert_in_range(tries, 5, 7);
    lone_stop(&l);
}

static void a_new_timeout_counts_from_the_reconnect(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 131);
    struct session s = opened(&l, 1); /* 10 s */
    lone_connect(&l, 2, s.id, s.password, 1000);
    assert_int_equal(connected(&l, 2).timeout_ms, 1000);
    struct tree_session t;
    lone_run(&l, 10900); /* what was promised under the old one holds */
    assert_false(tree_session_get(member_tree(l.member), s.id, &t));
    assert_true(l.closed[2]);
    lone_connect(&l, 3, s.id, s.password, 1000);
    assert_int_equal(connected(&l, 3).id, 0);
    lone_stop(&l);
}

/* A client from before 3.4: no last byte, and so none in any answer. */
static void old_clients_get_short_answers(void **state)
{
    struct lone l;
    (void)state;
    lone_start(&l, 132);
    struct wire_connect_request q = {
        .timeout_ms = 8000, .password = wire_bytes(no_password, 16), .read_only = WIRE_ABSENT};
    lone_connect_as(&l, 1, &q);
    struct session s = connected(&l, 1);
    assert_int_equal(s.len, 36);
    q.session_id = s.id;
    lone_connect_as(&l, 2, &q);
    assert_int_equal(connected(&l, 2).len, 36); /* refused */
    q.password = wire_bytes(s.password, 16);
    lone_connect_as(&l, 3, &q);
    struct session again = connected(&l, 3);
    assert_int_equal(again.len, 36);
    assert_int_equal(again.id, s.id);
    lone_stop(&l);
}

/* ---- limits ---- */

static void a_long_frame_ends_its_connection(void **state)
{
    static const uint32_t sets[] = {0, 2000, 1u << 30};
    static const uint32_t most[] = {MEMBER_FRAME_MAX, 2000, MEMBER_FRAME_LIMIT};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct lone l;
        uint8_t *frame = mem_alloc(most[i] + 1);
        frame[7] = WIRE_OP_SET_DATA; /* its body is no record: -5 */
        lone_start_with(&l, 140, &(struct member_options){.frame_max = sets[i]}, 1);
        (void)opened(&l, 1);
        lone_frame(&l, 1, frame, most[i]);
        assert_int_equal(replied(&l, 1).err, ERR_BAD_ARGUMENTS);
        assert_int_equal(limited(&l, MEMBER_LIMIT_FRAME), 0);
        lone_frame(&l, 1, frame, most[i] + 1);
        assert_true(l.closed[1]);
        assert_true(is_silent(&l, 1));
        assert_int_equal(limited(&l, MEMBER_LIMIT_FRAME), 1);
        mem_free(frame);
        lone_stop(&l);
    }
}

static void above_the_limit_who_waits_is_not_read(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 141, &(struct member_options){.outstanding_max = 10}, 1);
    (void)opened(&l, 1), (void)opened(&l, 2), (void)opened(&l, 3);
    for (int i = 0; i < 10; i++) {
        give(&l, 1, i + 1, WIRE_OP_SET_DATA, "/");
        assert_false(member_client_is_busy(l.member, 1));
    }
    assert_int_equal(limited(&l, MEMBER_LIMIT_OUTSTANDING), 0);
    give(&l, 1, 11, WIRE_OP_SET_DATA, "/");
    assert_int_equal(limited(&l, MEMBER_LIMIT_OUTSTANDING), 1);
    assert_true(member_client_is_busy(l.member, 1));
    assert_false(member_client_is_busy(l.member, 2)); /* it waits for nothing */
    give(&l, 2, -2, WIRE_OP_PING, NULL);
    assert_false(member_client_is_busy(l.member, 2)); /* pings are not counted */
    give(&l, 2, 1, WIRE_OP_SET_DATA, "/");
    assert_true(member_client_is_busy(l.member, 2));
    lone_run(&l, 10);
    assert_false(member_client_is_busy(l.member, 1));
    assert_false(member_client_is_busy(l.member, 2));
    for (int i = 0; i < 11; i++)
        assert_int_equal(replied(&l, 1).xid, i + 1);
    /* Also when the one that waited goes. */
    for (int i = 0; i < 11; i++)
        give(&l, 3, i + 1, WIRE_OP_SET_DATA, "/");
    assert_true(member_client_is_busy(l.member, 3));
    member_client_closed(l.member, 3);
    struct member_facts f;
    member_facts(l.member, &f);
    assert_int_equal(f.outstanding, 0);
    lone_stop(&l);
}

static void requests_wait_for_those_in_work(void **state)
{
    struct lone l;
    struct member_facts f;
    (void)state;
    lone_start_with(&l, 142, &(struct member_options){.throttle_max = 3}, 1);
    (void)opened(&l, 1), (void)opened(&l, 2), (void)opened(&l, 3);
    for (int i = 0; i < 3; i++)
        give(&l, 1, i + 1, WIRE_OP_SET_DATA, "/");
    assert_int_equal(limited(&l, MEMBER_LIMIT_THROTTLE), 0);
    give(&l, 1, 4, WIRE_OP_SET_DATA, "/");
    give(&l, 2, 1, WIRE_OP_EXISTS, "/"); /* also what would be answered at once */
    give(&l, 2, -2, WIRE_OP_PING, NULL);
    give(&l, 2, 2, WIRE_OP_EXISTS, "/no");
    assert_int_equal(limited(&l, MEMBER_LIMIT_THROTTLE), 1);
    assert_true(is_silent(&l, 1) && is_silent(&l, 2));
    /* What a client proves first of all does not wait. */
    give(&l, 3, -4, WIRE_OP_AUTH, NULL);
    give(&l, 3, 1, WIRE_OP_EXISTS, "/");
    member_flush(l.member); /* nothing is saved */
    assert_int_equal(replied(&l, 3).xid, -4);
    assert_true(is_silent(&l, 1) && is_silent(&l, 2) && is_silent(&l, 3));
    lone_run(&l, 10);
    for (int i = 0; i < 4; i++)
        assert_int_equal(replied(&l, 1).xid, i + 1);
    assert_int_equal(replied(&l, 2).xid, 1);
    assert_int_equal(replied(&l, 2).xid, -2);
    struct wire_reply_header h = replied(&l, 2);
    assert_int_equal(h.xid, 2);
    assert_int_equal(h.err, ERR_NO_NODE);
    assert_int_equal(limited(&l, MEMBER_LIMIT_THROTTLED_OP), 0);
    /* Who leaves while he waits takes what he wanted with him. */
    for (int i = 0; i < 3; i++)
        give(&l, 1, i + 5, WIRE_OP_SET_DATA, "/");
    for (int i = 0; i < 5; i++)
        give(&l, 2, i + 3, WIRE_OP_SET_DATA, "/");
    member_client_closed(l.member, 2);
    give(&l, 1, 8, WIRE_OP_SET_DATA, "/");
    int64_t zxid = tree_zxid(member_tree(l.member));
    lone_run(&l, 10);
    for (int i = 0; i < 4; i++)
        assert_int_equal(replied(&l, 1).xid, i + 5);
    assert_int_equal(tree_zxid(member_tree(l.member)), zxid + 4);
    member_facts(l.member, &f);
    assert_int_equal(f.outstanding, 0);
    lone_stop(&l);
}

/* The disk gives no word for a while: what is held meanwhile has waited too long. */
static void who_has_waited_too_long_is_refused(void **state)
{
    const struct member_options o = {.throttle_max = 1, .throttled_op_wait_ms = 50};
    struct lone l;
    (void)state;
    lone_start_with(&l, 143, &o, 1);
    (void)opened(&l, 1), (void)opened(&l, 2);
    give(&l, 1, 1, WIRE_OP_SET_DATA, "/");
    member_flush(l.member); /* proposed; nothing is saved */
    give(&l, 1, 2, WIRE_OP_SET_DATA, "/");
    give(&l, 1, 3, WIRE_OP_EXISTS, "/");
    give(&l, 1, -2, WIRE_OP_PING, NULL);
    give(&l, 2, 1, WIRE_OP_CLOSE_SESSION, NULL);
    l.now_ms += 60;
    lone_run(&l, 0);
    lone_run(&l, 5);
    assert_int_equal(replied(&l, 1).err, 0);
    struct wire_reply_header h = replied(&l, 1);
    assert_int_equal(h.xid, 2);
    assert_int_equal(h.err, ERR_THROTTLED);
    h = replied(&l, 1);
    assert_int_equal(h.xid, 3);
    assert_int_equal(h.err, ERR_THROTTLED);
    h = replied(&l, 1);
    assert_int_equal(h.xid, -2);
    assert_int_equal(h.err, 0);
    assert_int_equal(replied(&l, 2).err, 0);
    assert_true(l.closed[2]);
    assert_int_equal(limited(&l, MEMBER_LIMIT_THROTTLED_OP), 2);
    lone_stop(&l);
}

/* What stands behind one that waits, waits too: counted as in work, it would hold the first up.
 */
static void what_needs_no_work_waits_behind_what_waits(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 149, &(struct member_options){.throttle_max = 1}, 1);
    (void)opened(&l, 1);
    give(&l, 1, 1, WIRE_OP_SET_DATA, "/");
    give(&l, 1, 2, WIRE_OP_SET_DATA, "/");
    give(&l, 1, -4, WIRE_OP_SASL, NULL);
    give(&l, 1, 3, WIRE_OP_SET_DATA, "/");
    give(&l, 1, 4, 999, NULL);
    lone_run(&l, 10);
    assert_int_equal(replied(&l, 1).xid, 1);
    assert_int_equal(replied(&l, 1).xid, 2);
    assert_int_equal(replied(&l, 1).xid, -4);
    assert_int_equal(replied(&l, 1).xid, 3);
    assert_int_equal(replied(&l, 1).err, ERR_UNIMPLEMENTED);
    assert_true(l.closed[1]);
    lone_stop(&l);
}

static void large_requests_are_counted_together(void **state)
{
    const struct member_options o = {.large_from = 100, .large_bytes_max = 1000};
    struct lone l;
    uint8_t frame[600] = {[7] = WIRE_OP_SET_DATA};
    (void)state;
    lone_start_with(&l, 144, &o, 1);
    (void)opened(&l, 1), (void)opened(&l, 2);
    for (int i = 0; i < 20; i++)
        member_client_frame(l.member, 1, frame, 99); /* these are not */
    member_client_frame(l.member, 1, frame, 600);
    member_client_frame(l.member, 2, frame, 600);
    lone_run(&l, 5);
    assert_true(l.closed[2]);
    assert_false(l.closed[1]);
    assert_int_equal(limited(&l, MEMBER_LIMIT_LARGE), 1);
    for (int i = 0; i < 3; i++) { /* answered, they are not counted any more */
        lone_frame(&l, 1, frame, 600);
        assert_false(l.closed[1]);
    }
    lone_stop(&l);
}

/* ---- watches ---- */

static void watch_many(struct lone *l, uint64_t conn, unsigned from, unsigned n)
{
    struct buf paths = {0}, b = {0};
    char path[16];

    for (unsigned i = 0; i < n; i++) {
        int len = snprintf(path, sizeof path, "/%u", from + i);
        wire_text_encode(path, (size_t)len, &paths);
    }
    const struct wire_set_watches_request q = {.exist = {paths.data, paths.len, (int32_t)n}};
    wire_set_watches_request_encode(&q, &b);
    lone_request(l, conn, WIRE_XID_SET_WATCHES, WIRE_OP_SET_WATCHES, &b);
    buf_free(&b);
    buf_free(&paths);
}

static uint64_t watches(const struct lone *l)
{
    struct member_facts f;

    member_facts(l->member, &f);
    return f.watches;
}

static void watches_of_who_is_gone_are_forgotten_in_portions(void **state)
{
    struct lone l;
    unsigned turns = 0;
    (void)state;
    lone_start(&l, 147);
    (void)opened(&l, 1), (void)opened(&l, 2);
    for (unsigned i = 0; i < 3; i++)
        watch_many(&l, 1, i * 20000, 20000);
    watch_many(&l, 2, 0, 5);
    assert_int_equal(watches(&l), 60005);
    member_client_closed(l.member, 1);
    for (uint64_t before = 60005; watches(&l) > 5; turns++, before = watches(&l)) {
        assert_true(before - watches(&l) <= 10000);
        assert_true(member_deadline(l.member) <= l.now_ms);
        member_flush(l.member);
    }
    assert_in_range(turns, 4, 6);
    member_flush(l.member);
    assert_true(member_deadline(l.member) > l.now_ms);
    lone_stop(&l);
}

static void who_watches_too_much_loses_the_connection(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 148, &(struct member_options){.watches_max = 20000}, 1);
    (void)opened(&l, 1), (void)opened(&l, 2);
    watch_many(&l, 2, 0, 10);
    watch_many(&l, 1, 0, 20000);
    assert_int_equal(watches(&l), 20010);
    assert_false(l.closed[1]);
    buf_clear(&l.out[1]);
    watch_many(&l, 1, 20000, 1);
    assert_true(l.closed[1]);
    assert_int_equal(limited(&l, MEMBER_LIMIT_WATCHES), 1);
    for (unsigned i = 0; i < 4; i++)
        member_flush(l.member);
    assert_int_equal(watches(&l), 10);
    assert_false(l.closed[2]);
    lone_stop(&l);
}

/* None of them has too many; the one that sets one more than there may be in all goes. */
static void who_sets_the_watch_that_is_too_much_for_all_goes(void **state)
{
    const struct member_options o = {.watches_max = 20000, .all_watches_max = 30000};
    struct lone l;
    (void)state;
    lone_start_with(&l, 150, &o, 1);
    (void)opened(&l, 1), (void)opened(&l, 2);
    watch_many(&l, 1, 0, 15000);
    watch_many(&l, 2, 0, 15000);
    assert_int_equal(watches(&l), 30000);
    assert_int_equal(limited(&l, MEMBER_LIMIT_ALL_WATCHES), 0);
    watch_many(&l, 2, 15000, 1);
    assert_true(l.closed[2]);
    assert_false(l.closed[1]);
    assert_int_equal(limited(&l, MEMBER_LIMIT_ALL_WATCHES), 1);
    assert_int_equal(limited(&l, MEMBER_LIMIT_WATCHES), 0);
    lone_stop(&l);
}

/* Requests in work are in memory: above so many bytes nobody new is let in, and who waits is
 * not read, until they are answered. */
static void with_too_much_in_work_nobody_is_let_in(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 151, &(struct member_options){.all_requests_max = 1000}, 1);
    (void)opened(&l, 1), (void)opened(&l, 2);
    for (int i = 0; i < 10; i++)
        give(&l, 1, i + 1, WIRE_OP_SET_DATA, "/");
    assert_true(member_client_is_busy(l.member, 1));
    assert_false(member_client_is_busy(l.member, 2));
    lone_open(&l, 3);
    uint8_t q[45] = {[11] = 1}; /* a connect request for a new session */
    member_client_frame(l.member, 3, q, sizeof q);
    member_flush(l.member);
    assert_true(l.closed[3]);
    assert_int_equal(limited(&l, MEMBER_LIMIT_ALL_REQUESTS), 1);
    lone_run(&l, 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(replied(&l, 1).xid, i + 1);
    assert_false(member_client_is_busy(l.member, 1));
    (void)opened(&l, 4);
    assert_int_equal(limited(&l, MEMBER_LIMIT_ALL_REQUESTS), 1);
    lone_stop(&l);
}

/* ---- the tree and its sessions ---- */

static void measured(const struct lone *l, enum member_limit limit, uint64_t value,
                     uint64_t figure)
{
    struct member_facts f;

    member_facts(l->member, &f);
    assert_int_equal(f.limit_value[limit], value);
    assert_int_equal(f.limit_measured[limit], figure);
}

static void one_session_too_many_is_refused(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 149, &(struct member_options){.sessions_max = 3}, 1);
    struct session first = opened(&l, 1);
    (void)opened(&l, 2), (void)opened(&l, 3);
    assert_int_equal(limited(&l, MEMBER_LIMIT_SESSIONS), 0);
    lone_connect(&l, 4, 0, NULL, 10000);
    assert_true(l.closed[4] && is_silent(&l, 4));
    assert_int_equal(limited(&l, MEMBER_LIMIT_SESSIONS), 1);
    measured(&l, MEMBER_LIMIT_SESSIONS, 3, 4);
    /* Who has one comes back, and who leaves makes room. */
    lone_connect(&l, 5, first.id, first.password, 10000);
    assert_int_equal(connected(&l, 5).id, first.id);
    lone_request(&l, 2, 1, WIRE_OP_CLOSE_SESSION, NULL);
    (void)opened(&l, 6);
    assert_int_equal(limited(&l, MEMBER_LIMIT_SESSIONS), 1);
    lone_stop(&l);
}

static int create_with(struct lone *l, uint64_t conn, const char *path, size_t len)
{
    const struct wire_acl open = {WIRE_PERM_ALL, wire_bytes("world", 5),
                                  wire_bytes("anyone", 6)};
    uint8_t *data = mem_alloc(len + 1);
    struct buf acl = {0}, b = {0};

    memset(data, 'x', len);
    wire_acl_encode(&open, &acl);
    const struct wire_create_request q = {
        wire_bytes(path, strlen(path)), wire_bytes(data, len), {acl.data, acl.len, 1}, 0};
    wire_create_request_encode(&q, &b);
    lone_request(l, conn, 1, WIRE_OP_CREATE, &b);
    mem_free(data);
    buf_free(&acl);
    buf_free(&b);
    return replied(l, conn).err;
}

static void a_full_tree_is_said_by_name(void **state)
{
    const uint32_t most = 10000;
    struct lone l;
    (void)state;
    lone_start_with(&l, 150, &(struct member_options){.tree_bytes_max = most}, 1);
    (void)opened(&l, 1);
    assert_int_equal(create_with(&l, 1, "/a", 9000), 0);
    uint64_t bytes = tree_bytes(member_tree(l.member));
    assert_int_equal(create_with(&l, 1, "/b", 1000), ERR_QUOTA_EXCEEDED);
    assert_int_equal(limited(&l, MEMBER_LIMIT_TREE), 1);
    measured(&l, MEMBER_LIMIT_TREE, most, bytes);
    assert_int_equal(tree_bytes(member_tree(l.member)), bytes);
    assert_false(l.closed[1]);
    assert_int_equal(create_with(&l, 1, "/b", 1), 0);
    (void)opened(&l, 2);
    lone_stop(&l);

    /* Not set, or too high: what fits into a snapshot. */
    lone_start_with(&l, 151, &(struct member_options){.tree_bytes_max = UINT32_MAX}, 1);
    (void)opened(&l, 1);
    assert_int_equal(create_with(&l, 1, "/a", 100000), 0);
    lone_stop(&l);
}

/* ---- snapshots ---- */

static uint64_t snapshot_after(struct lone *l, const char *name, unsigned creates)
{
    char path[32];

    for (unsigned i = 0; i < creates; i++) {
        snprintf(path, sizeof path, "/%s%u", name, i);
        assert_int_equal(create_with(l, 1, path, 1), 0);
    }
    lone_run(l, 100);
    return l->shelf.kept.index;
}

/* snapshot_every is 100 here, and the tree becomes one of more than 64 MB. */
static void a_large_tree_is_not_written_for_few_entries(void **state)
{
    struct lone l;
    char path[16];
    (void)state;
    lone_start(&l, 152);
    (void)opened(&l, 1);
    uint64_t first = snapshot_after(&l, "a", 110), second = snapshot_after(&l, "b", 110);
    assert_true(first > 100 && second > first);
    for (unsigned i = 0; i < 66; i++) {
        snprintf(path, sizeof path, "/%u", i);
        assert_int_equal(create_with(&l, 1, path, 1040000), 0);
    }
    assert_true(tree_bytes(member_tree(l.member)) > 64u << 20);
    uint64_t large = snapshot_after(&l, "c", 300);
    assert_int_equal(snapshot_after(&l, "d", 300), large);
    lone_stop(&l);
}

/* ---- a tree that no cache holds ---- */

/* Deletes that come at once are applied at once, and in their order. */
static void many_writes_at_once_to_many_znodes(void **state)
{
    struct lone l;
    char path[32];
    int32_t xid = 0;
    (void)state;
    lone_start(&l, 153);
    (void)opened(&l, 1);
    for (unsigned i = 0; !tree_ahead_pays(member_tree(l.member)); i++) {
        snprintf(path, sizeof path, "/a%u", i);
        assert_int_equal(create_with(&l, 1, path, 20), 0);
    }
    for (int32_t i = 0; i < 200; i++) {
        struct buf b = {0};
        const struct wire_request_header h = {++xid, WIRE_OP_DELETE};
        wire_request_header_encode(&h, &b);
        snprintf(path, sizeof path, "/a%d", (int)(i / 2)); /* each twice */
        const struct wire_path_version_request q = {wire_bytes(path, strlen(path)), -1};
        wire_path_version_request_encode(&q, &b);
        member_client_frame(l.member, 1, b.data, b.len);
        buf_free(&b);
    }
    lone_run(&l, 10);
    for (int32_t i = 0; i < 200; i++)
        assert_int_equal(replied(&l, 1).err, i % 2 == 0 ? 0 : ERR_NO_NODE);
    assert_int_equal(tree_digest(member_tree(l.member)),
                     tree_digest_anew(member_tree(l.member)));
    lone_stop(&l);
}

/* ---- enforce.auth ---- */

static void auth(struct lone *l, uint64_t conn, const char *scheme, const char *what)
{
    const struct wire_auth_request q = {0, wire_bytes(scheme, strlen(scheme)),
                                        wire_bytes(what, strlen(what))};
    struct buf b = {0};

    wire_auth_request_encode(&q, &b);
    lone_request(l, conn, WIRE_XID_AUTH, WIRE_OP_AUTH, &b);
    buf_free(&b);
}

static void who_has_proven_nothing_is_refused(void **state)
{
    static const int32_t ops[] = {
        WIRE_OP_EXISTS, WIRE_OP_SET_DATA, WIRE_OP_PING, WIRE_OP_CLOSE_SESSION, 999,
        WIRE_OP_SYNC};
    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct lone l;
        lone_start_with(&l, 145, &(struct member_options){.enforce_auth = "x509,digest"}, 1);
        (void)opened(&l, 1), (void)opened(&l, 2);
        give(&l, 1, 7, ops[i], "/");
        lone_run(&l, 5);
        struct wire_reply_header h = replied(&l, 1);
        assert_int_equal(h.xid, 7);
        assert_int_equal(h.err, ERR_AUTH_REQUIRED);
        assert_int_equal(h.zxid, 0);
        assert_true(l.closed[1]);
        assert_int_equal(limited(&l, MEMBER_LIMIT_ENFORCE_AUTH), 1);
        auth(&l, 2, "digest", "a:b");
        assert_int_equal(replied(&l, 2).err, 0);
        give(&l, 2, 7, ops[i], "/");
        lone_run(&l, 5);
        assert_int_not_equal(replied(&l, 2).err, ERR_AUTH_REQUIRED);
        lone_stop(&l);
    }
}

static void the_address_is_proof_enough_where_it_is_listed(void **state)
{
    struct lone l;
    (void)state;
    lone_start_with(&l, 146, &(struct member_options){.enforce_auth = "digest, ip"}, 1);
    (void)opened(&l, 1);
    give(&l, 1, 1, WIRE_OP_EXISTS, "/");
    lone_run(&l, 5);
    assert_int_equal(replied(&l, 1).err, 0);
    lone_stop(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reconnecting),
        cmocka_unit_test(who_has_seen_what_is_lost_is_told_in_the_end),
        cmocka_unit_test(a_new_timeout_counts_from_the_reconnect),
        cmocka_unit_test(old_clients_get_short_answers),
        cmocka_unit_test(a_long_frame_ends_its_connection),
        cmocka_unit_test(above_the_limit_who_waits_is_not_read),
        cmocka_unit_test(requests_wait_for_those_in_work),
        cmocka_unit_test(who_has_waited_too_long_is_refused),
        cmocka_unit_test(what_needs_no_work_waits_behind_what_waits),
        cmocka_unit_test(large_requests_are_counted_together),
        cmocka_unit_test(watches_of_who_is_gone_are_forgotten_in_portions),
        cmocka_unit_test(who_watches_too_much_loses_the_connection),
        cmocka_unit_test(who_sets_the_watch_that_is_too_much_for_all_goes),
        cmocka_unit_test(with_too_much_in_work_nobody_is_let_in),
        cmocka_unit_test(one_session_too_many_is_refused),
        cmocka_unit_test(a_full_tree_is_said_by_name),
        cmocka_unit_test(a_large_tree_is_not_written_for_few_entries),
        cmocka_unit_test(many_writes_at_once_to_many_znodes),
        cmocka_unit_test(who_has_proven_nothing_is_refused),
        cmocka_unit_test(the_address_is_proof_enough_where_it_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
