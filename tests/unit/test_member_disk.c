/* SPDX-License-Identifier: Apache-2.0 */
/* What a member makes of the room on its disk, and what it then refuses. Several servers, and
 * slow disks: the simulation's world disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "lone_member.h"
#include "server/member_disk.h"
#include "wire/wire.h"

#define RESERVE 1000u

static void rooms(void **state)
{
    static const struct {
        uint64_t free_bytes, reserve_bytes;
        bool is_waiting;
        enum room was, is;
    } rows[] = {
        {9000, RESERVE, false, ROOM_OK, ROOM_OK},
        {4000, RESERVE, false, ROOM_OK, ROOM_OK},
        {3999, RESERVE, false, ROOM_OK, ROOM_LOW},
        {4500, RESERVE, false, ROOM_LOW, ROOM_LOW},
        {5000, RESERVE, false, ROOM_LOW, ROOM_OK},
        {1000, RESERVE, false, ROOM_LOW, ROOM_LOW},
        {999, RESERVE, false, ROOM_LOW, ROOM_FULL},
        {1400, RESERVE, false, ROOM_FULL, ROOM_FULL},
        {1500, RESERVE, false, ROOM_FULL, ROOM_LOW},
        {0, RESERVE, false, ROOM_OK, ROOM_FULL},
        {0, 500, false, ROOM_FULL, ROOM_FULL},
        {0, 499, false, ROOM_FULL, ROOM_SPENT},
        {0, 249, false, ROOM_SPENT, ROOM_BARE},
        {9000, 0, false, ROOM_OK, ROOM_OK}, /* it is not built yet */
        {9000, RESERVE, true, ROOM_OK, ROOM_BARE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct member_room r = {rows[i].free_bytes, rows[i].reserve_bytes, RESERVE,
                                      rows[i].is_waiting};
        if (room_of(&r, rows[i].was) != rows[i].is)
            fail_msg("row %zu: %s", i, room_name(room_of(&r, rows[i].was)));
    }
    /* Nothing measured yet, or no reserve: nothing is believed to be full. */
    assert_int_equal(room_of(&(const struct member_room){0}, ROOM_OK), ROOM_OK);
}

static void add_anyone(struct buf *acl)
{
    const struct wire_acl one = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    wire_acl_encode(&one, acl);
}

static void create(struct lone *l, int32_t xid, const char *path, size_t len, int32_t flags)
{
    static const uint8_t data[8000];
    struct buf b = {0}, acl = {0};

    add_anyone(&acl);
    const struct wire_create_request q = {
        wire_bytes(path, strlen(path)), wire_bytes(data, len), {acl.data, acl.len, 1}, flags};
    wire_create_request_encode(&q, &b);
    lone_request(l, 1, xid, WIRE_OP_CREATE, &b);
    buf_free(&acl);
    buf_free(&b);
}

static void set(struct lone *l, int32_t xid, const char *path)
{
    const struct wire_set_data_request q = {wire_bytes(path, strlen(path)), wire_bytes("v", 1),
                                            -1};
    struct buf b = {0};

    wire_set_data_request_encode(&q, &b);
    lone_request(l, 1, xid, WIRE_OP_SET_DATA, &b);
    buf_free(&b);
}

static void delete (struct lone *l, int32_t xid, const char *path)
{
    const struct wire_path_version_request q = {wire_bytes(path, strlen(path)), -1};
    struct buf b = {0};

    wire_path_version_request_encode(&q, &b);
    lone_request(l, 1, xid, WIRE_OP_DELETE, &b);
    buf_free(&b);
}

/* A multi of a delete and, if so wanted, a create. */
static void multi(struct lone *l, int32_t xid, const char *path, bool also_creates)
{
    const struct wire_multi_header first = {WIRE_OP_DELETE, false, -1}, last = {-1, true, -1},
                                   second = {WIRE_OP_CREATE, false, -1};
    const struct wire_path_version_request q = {wire_bytes(path, strlen(path)), -1};
    struct buf b = {0}, acl = {0};

    wire_multi_header_encode(&first, &b);
    wire_path_version_request_encode(&q, &b);
    if (also_creates) {
        add_anyone(&acl);
        const struct wire_create_request c = {
            wire_bytes("/m", 2), wire_bytes("v", 1), {acl.data, acl.len, 1}, 0};
        wire_multi_header_encode(&second, &b);
        wire_create_request_encode(&c, &b);
    }
    wire_multi_header_encode(&last, &b);
    lone_request(l, 1, xid, WIRE_OP_MULTI, &b);
    buf_free(&acl);
    buf_free(&b);
}

static void expect(struct lone *l, int32_t xid, int err)
{
    struct wire_reply_header h = {0};
    size_t len;
    const uint8_t *f = lone_next(l, 1, &len);

    assert_non_null(f);
    struct wire_in in = wire_in(f, len);
    assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    if (h.xid != xid || h.err != err)
        fail_msg("reply to %d: %s, not %s to %d", h.xid, err_name(h.err), err_name(err), xid);
}

static void room(struct lone *l, uint64_t reserve_bytes, uint64_t free_bytes)
{
    const struct member_room r = {free_bytes, reserve_bytes, RESERVE, false};

    member_room(l->member, &r);
    lone_run(l, 10);
}

static size_t connect(struct lone *l, uint64_t conn)
{
    size_t len = 0;

    lone_connect(l, conn, 0, NULL, 10000);
    (void)lone_next(l, conn, &len);
    return len;
}

static void what_is_refused(void **state)
{
    struct lone l;

    (void)state;
    lone_start(&l, 1);
    assert_true(connect(&l, 1) > 0);
    create(&l, 1, "/a", 10, 0);
    create(&l, 2, "/b", 10, 0);
    create(&l, 3, "/c", 10, 0);
    create(&l, 4, "/muster", 0, 0);
    create(&l, 5, "/e", 10, WIRE_EPHEMERAL);
    for (int32_t i = 1; i <= 5; i++)
        expect(&l, i, 0);

    room(&l, RESERVE, 0); /* full */
    create(&l, 10, "/x", 10, 0);
    expect(&l, 10, ERR_NO_ROOM);
    set(&l, 11, "/a");
    expect(&l, 11, ERR_NO_ROOM);
    multi(&l, 12, "/a", true);
    expect(&l, 12, ERR_NO_ROOM);
    create(&l, 13, "/big", 5000, WIRE_EPHEMERAL);
    expect(&l, 13, ERR_NO_ROOM);
    set(&l, 14, "/e"); /* our own */
    expect(&l, 14, 0);
    create(&l, 15, "/f", 10, WIRE_EPHEMERAL_SEQUENTIAL);
    expect(&l, 15, 0);
    delete (&l, 16, "/a");
    expect(&l, 16, 0);
    multi(&l, 17, "/b", false);
    expect(&l, 17, 0);
    assert_true(connect(&l, 2) > 0);

    room(&l, 400, 0); /* spent: claims only */
    create(&l, 20, "/g", 10, WIRE_EPHEMERAL);
    expect(&l, 20, ERR_NO_ROOM);
    create(&l, 21, "/muster/x", 10, WIRE_EPHEMERAL);
    expect(&l, 21, 0);
    assert_true(connect(&l, 3) > 0);

    room(&l, 100, 0); /* bare */
    create(&l, 30, "/muster/y", 10, WIRE_EPHEMERAL);
    expect(&l, 30, ERR_NO_ROOM);
    assert_true(connect(&l, 4) == 0);
    delete (&l, 31, "/c");
    expect(&l, 31, 0);

    room(&l, RESERVE, 9000);
    create(&l, 40, "/x", 10, 0);
    expect(&l, 40, 0);
    assert_true(connect(&l, 5) > 0);
    lone_stop(&l);
}

/* A save that does not end: the time is measured, and counted once. */
static void a_slow_save(void **state)
{
    struct lone l;
    struct member_facts f;
    struct raft_save save;

    (void)state;
    lone_start(&l, 2);
    assert_true(connect(&l, 1) > 0);
    const struct wire_request_header h = {1, WIRE_OP_SET_DATA};
    const struct wire_set_data_request q = {wire_bytes("/", 1), wire_bytes("v", 1), -1};
    struct buf b = {0};
    wire_request_header_encode(&h, &b);
    wire_set_data_request_encode(&q, &b);
    member_client_frame(l.member, 1, b.data, b.len);
    buf_free(&b);
    member_flush(l.member);
    assert_true(member_save_take(l.member, &save));
    for (unsigned i = 0; i < 40; i++) {
        l.now_ms += 50;
        member_time(l.member, l.now_ms, 0);
        member_flush(l.member);
        member_facts(l.member, &f);
        assert_int_equal(f.disk.saving_ms, 50 * (i + 1));
        assert_int_equal(f.disk.is_slow, f.disk.saving_ms >= MEMBER_SLOW_MS);
    }
    member_saved(l.member);
    member_flush(l.member);
    member_facts(l.member, &f);
    assert_int_equal(f.disk.slow_total, 1);
    assert_int_equal(f.disk.saving_ms, 0);
    assert_true(f.disk.is_slow);
    lone_run(&l, MEMBER_SLOW_HOLD_MS + 100);
    member_facts(l.member, &f);
    assert_false(f.disk.is_slow);
    lone_stop(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rooms),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(a_slow_save),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
