/* SPDX-License-Identifier: Apache-2.0 */
/* The client's core against a server that the test plays by hand, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "client/client.h"
#include "tree/watch.h"
#include "wire/wire.h"

#define SESSION 0x0100000000000007
#define TIMEOUT 6000

/* One request as the server got it. */
struct got {
    int32_t xid, op;
    uint8_t body[1024];
    size_t len;
};

struct world {
    struct client *c;
    uint64_t now;
    struct buf sent; /* by the client, not yet looked at */
    unsigned server; /* the last one it wanted */
    char log[2048];  /* what the client told us, in order */
};

static void note(struct world *w, const char *what)
{
    size_t at = strlen(w->log);

    snprintf(w->log + at, sizeof w->log - at, "%s%s", at > 0 ? " " : "", what);
}

static void expect_log(struct world *w, const char *want)
{
    assert_string_equal(w->log, want);
    w->log[0] = 0;
}

static void on_event(void *ctx, enum client_event ev)
{
    static const char *const names[] = {"connected", "disconnected", "expired", "closed"};

    note(ctx, names[ev]);
}

static void on_watch(void *ctx, int type, const char *path)
{
    char text[300];

    snprintf(text, sizeof text, "watch:%d:%s", type, path);
    note(ctx, text);
}

static void on_done(void *ctx, const struct client_reply *r)
{
    char text[300];

    if (r->err != 0)
        snprintf(text, sizeof text, "%s", err_name(r->err));
    else if (r->path != NULL)
        snprintf(text, sizeof text, "path:%s", r->path);
    else if (r->children != NULL)
        snprintf(text, sizeof text, "children:%zu:%s", r->children_n, r->children[0]);
    else if (r->data != NULL)
        snprintf(text, sizeof text, "data:%.*s:v%d", (int)r->len, (const char *)r->data,
                 r->stat.version);
    else
        snprintf(text, sizeof text, "ok");
    note(ctx, text);
}

static struct world *world_new(unsigned servers)
{
    struct world *w = mem_new(struct world);
    struct client_options options = {
        .timeout_ms = TIMEOUT,
        .seed = 7,
        .servers = servers,
        .first = servers > 1 ? 1 : 0,
        .on_event = on_event,
        .on_watch = on_watch,
        .ctx = w,
    };

    w->now = 1000;
    w->c = client_new(&options);
    return w;
}

static void world_free(struct world *w)
{
    client_free(w->c);
    buf_free(&w->sent);
    mem_free(w);
}

static enum client_want wants(struct world *w)
{
    return client_wants(w->c, w->now, &w->server);
}

/* Passes time; what is due happens at its own moment. */
static void pass(struct world *w, uint64_t ms)
{
    uint64_t end = w->now + ms;

    while (client_deadline(w->c) <= end) {
        uint64_t at = client_deadline(w->c);
        w->now = at > w->now ? at : w->now + 1;
        client_time(w->c, w->now);
        if (client_deadline(w->c) <= w->now)
            break; /* a connection is wanted: the test decides */
    }
    w->now = end > w->now ? end : w->now;
}

static bool next_frame(struct world *w, const uint8_t **data, size_t *len)
{
    struct buf *out = client_output(w->c);

    buf_add(&w->sent, out->data, out->len);
    buf_consume(out, out->len);
    if (w->sent.len < 4)
        return false;
    *len = be32_get(w->sent.data);
    assert_true(w->sent.len >= 4 + *len);
    *data = w->sent.data + 4;
    return true;
}

static struct got next(struct world *w)
{
    struct got g = {0};
    const uint8_t *data;
    size_t len;
    struct wire_request_header h;

    if (!next_frame(w, &data, &len))
        return g;
    struct wire_in in = wire_in(data, len);
    assert_int_equal(wire_request_header_decode(&h, &in), 0);
    g.xid = h.xid;
    g.op = h.op;
    g.len = (size_t)(in.end - in.at);
    if (g.len <= sizeof g.body && g.len > 0)
        memcpy(g.body, in.at, g.len);
    buf_consume(&w->sent, 4 + len);
    return g;
}

static void give_frame(struct world *w, const struct buf *frame)
{
    client_received(w->c, w->now, frame->data, frame->len);
}

static void answer(struct world *w, int32_t xid, int64_t zxid, int32_t err,
                   const struct buf *body)
{
    struct buf b = {0};
    struct wire_reply_header h = {xid, zxid, err};
    size_t at = wire_frame_begin(&b);

    wire_reply_header_encode(&h, &b);
    if (body != NULL)
        buf_add(&b, body->data, body->len);
    wire_frame_end(&b, at);
    give_frame(w, &b);
    buf_free(&b);
}

static void answer_data(struct world *w, int32_t xid, int64_t zxid, const char *data,
                        int32_t version)
{
    struct wire_data_response r = {wire_bytes(data, strlen(data)), {.version = version}};
    struct buf b = {0};

    wire_data_response_encode(&r, &b);
    answer(w, xid, zxid, 0, &b);
    buf_free(&b);
}

static void answer_stat(struct world *w, int32_t xid, int64_t zxid)
{
    struct wire_stat_response r = {{.version = 1}};
    struct buf b = {0};

    wire_stat_response_encode(&r, &b);
    answer(w, xid, zxid, 0, &b);
    buf_free(&b);
}

static void give_event(struct world *w, int type, const char *path)
{
    struct wire_watcher_event ev = {type, WIRE_STATE_CONNECTED, wire_bytes(path, strlen(path))};
    struct buf b = {0};

    wire_watcher_event_encode(&ev, &b);
    answer(w, WIRE_XID_NOTIFICATION, -1, 0, &b);
    buf_free(&b);
}

static struct wire_connect_request take_connect(struct world *w)
{
    const uint8_t *data;
    size_t len;
    struct wire_connect_request r;

    assert_true(next_frame(w, &data, &len));
    struct wire_in in = wire_in(data, len);
    assert_int_equal(wire_connect_request_decode(&r, &in), 0);
    assert_int_equal(len, 45);
    buf_consume(&w->sent, 4 + len);
    return r;
}

static void answer_connect(struct world *w, int64_t session, int32_t timeout_ms)
{
    static const uint8_t secret[16] = "0123456789abcdef", none[16];
    struct wire_connect_response r = {0, timeout_ms, session,
                                      wire_bytes(session != 0 ? secret : none, 16), 0};
    struct buf b = {0};
    size_t at = wire_frame_begin(&b);

    wire_connect_response_encode(&r, &b);
    wire_frame_end(&b, at);
    give_frame(w, &b);
    buf_free(&b);
}

/* To the point where the client has asked for its session. */
static struct wire_connect_request dial(struct world *w)
{
    enum client_want want = wants(w);

    if (want == CLIENT_WANT_CLOSE)
        want = wants(w);
    assert_int_equal(want, CLIENT_WANT_CONNECTION);
    buf_clear(&w->sent);
    client_opened(w->c, w->now);
    return take_connect(w);
}

static struct world *connected(unsigned servers)
{
    struct world *w = world_new(servers);

    dial(w);
    answer_connect(w, SESSION, TIMEOUT);
    expect_log(w, "connected");
    return w;
}

static void a_session_is_made(void **state)
{
    struct world *w = world_new(3);
    struct wire_connect_request r;

    (void)state;
    assert_int_equal(wants(w), CLIENT_WANT_CONNECTION);
    assert_int_equal(w->server, 1);
    assert_int_equal(wants(w), CLIENT_WANT_NOTHING);
    w->now += 30;
    client_opened(w->c, w->now);
    r = take_connect(w);
    assert_int_equal(r.session_id, 0);
    assert_int_equal(r.timeout_ms, TIMEOUT);
    assert_int_equal(r.last_zxid_seen, 0);
    assert_int_equal(client_alive_until(w->c), 0);
    w->now += 200;
    answer_connect(w, SESSION, 4000);
    expect_log(w, "connected");
    assert_int_equal(client_session(w->c), SESSION);
    assert_int_equal(client_timeout_ms(w->c), 4000);
    assert_int_equal(client_alive_until(w->c), 1030 + 4000);
    assert_int_equal(client_state(w->c), CLIENT_CONNECTED);
    world_free(w);
}

static void requests_wait_for_the_connection_and_keep_their_order(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    client_create(w->c, w->now, "/a", "x", 1, 0, on_done, w);
    client_get(w->c, w->now, "/a", false, on_done, w);
    dial(w);
    answer_connect(w, SESSION, TIMEOUT);
    struct got create = next(w), get = next(w);
    assert_int_equal(create.op, WIRE_OP_CREATE2);
    assert_int_equal(get.op, WIRE_OP_GET_DATA);
    assert_int_equal(get.xid, create.xid + 1);

    struct wire_create2_response r = {wire_bytes("/a", 2), {.version = 0}};
    struct buf b = {0};
    wire_create2_response_encode(&r, &b);
    answer(w, create.xid, 5, 0, &b);
    buf_free(&b);
    answer_data(w, get.xid, 5, "x", 3);
    expect_log(w, "connected path:/a data:x:v3");
    assert_int_equal(client_zxid(w->c), 5);
    world_free(w);
}

static void a_wait_without_a_connection_ends(void **state)
{
    struct world *w = world_new(1);

    (void)state;
    client_set(w->c, w->now, "/a", "x", 1, -1, on_done, w);
    for (int i = 0; i < 20; i++) {
        if (wants(w) == CLIENT_WANT_CONNECTION)
            client_closed(w->c, w->now);
        pass(w, 1000);
    }
    expect_log(w, "ERR_CONNECTION_LOST");
    world_free(w);
}

static void what_is_in_flight_is_lost_and_not_sent_again(void **state)
{
    struct world *w = connected(2);

    (void)state;
    client_set(w->c, w->now, "/a", "x", 1, -1, on_done, w);
    assert_int_equal(next(w).op, WIRE_OP_SET_DATA);
    client_closed(w->c, w->now);
    expect_log(w, "ERR_CONNECTION_LOST disconnected");
    assert_int_equal(client_state(w->c), CLIENT_CONNECTING);
    struct wire_connect_request r = dial(w);
    assert_int_equal(w->server, 0);
    assert_int_equal(r.session_id, SESSION);
    assert_memory_equal(r.password.data, "0123456789abcdef", 16);
    answer_connect(w, SESSION, TIMEOUT);
    expect_log(w, "connected");
    assert_int_equal(next(w).op, 0);
    world_free(w);
}

static void the_last_zxid_goes_along(void **state)
{
    struct world *w = connected(2);

    (void)state;
    client_sync(w->c, w->now, "/", on_done, w);
    answer(w, next(w).xid, 77, 0, NULL);
    client_get(w->c, w->now, "/a", false, on_done, w);
    answer(w, next(w).xid, 76, ERR_NO_NODE, NULL);
    client_closed(w->c, w->now);
    assert_int_equal(dial(w).last_zxid_seen, 77);
    world_free(w);
}

static void servers_are_tried_in_turn_with_pauses(void **state)
{
    struct world *w = world_new(3);
    unsigned seen = 0;
    uint64_t start = w->now, pause, last = 0;

    (void)state;
    for (int i = 0; i < 12; i++) {
        uint64_t asked = w->now;
        while (wants(w) != CLIENT_WANT_CONNECTION) {
            assert_true(client_deadline(w->c) > w->now);
            w->now = client_deadline(w->c);
            client_time(w->c, w->now);
        }
        pause = w->now - asked;
        assert_true(pause <= CLIENT_BACKOFF_MAX_MS);
        if (i == 0 || i == 1)
            assert_int_equal(pause, 0);
        if (i == 2)
            assert_in_range(pause, 25, 50);
        last = pause;
        if (i < 3)
            seen |= 1u << w->server;
        client_closed(w->c, w->now);
    }
    assert_int_equal(seen, 7);
    assert_in_range(last, CLIENT_BACKOFF_MAX_MS / 2, CLIENT_BACKOFF_MAX_MS);
    assert_true(w->now - start < 10000);
    world_free(w);
}

static void an_attempt_that_hangs_is_given_up(void **state)
{
    struct world *w = world_new(2);

    (void)state;
    assert_int_equal(wants(w), CLIENT_WANT_CONNECTION);
    pass(w, TIMEOUT / 3 - 1);
    assert_int_equal(wants(w), CLIENT_WANT_NOTHING);
    w->now++;
    client_time(w->c, w->now);
    assert_int_equal(wants(w), CLIENT_WANT_CLOSE);
    assert_int_equal(wants(w), CLIENT_WANT_CONNECTION);
    assert_int_equal(w->server, 0);

    client_opened(w->c, w->now); /* and now the handshake hangs */
    w->now += TIMEOUT / 3;
    client_time(w->c, w->now);
    assert_int_equal(wants(w), CLIENT_WANT_CLOSE);
    world_free(w);
}

static void a_short_connection_does_not_reset_the_pauses(void **state)
{
    struct world *w = world_new(1);
    uint64_t start = w->now;

    (void)state;
    for (int i = 0; i < 10; i++) {
        while (wants(w) != CLIENT_WANT_CONNECTION) {
            w->now = client_deadline(w->c);
            client_time(w->c, w->now);
        }
        client_opened(w->c, w->now);
        take_connect(w);
        answer_connect(w, SESSION, TIMEOUT);
        client_closed(w->c, w->now);
    }
    assert_true(w->now - start > 2000);
    world_free(w);
}

static void silence_is_pinged_then_given_up(void **state)
{
    struct world *w = connected(2);

    (void)state;
    pass(w, TIMEOUT / 6 - 1);
    assert_int_equal(next(w).op, 0);
    pass(w, 1);
    struct got ping = next(w);
    assert_int_equal(ping.op, WIRE_OP_PING);
    assert_int_equal(ping.xid, WIRE_XID_PING);
    pass(w, TIMEOUT / 2 - 1);
    expect_log(w, "");
    pass(w, 1);
    expect_log(w, "disconnected");
    assert_int_equal(wants(w), CLIENT_WANT_CLOSE);
    assert_int_equal(wants(w), CLIENT_WANT_CONNECTION);
    world_free(w);
}

static void events_are_no_answer(void **state)
{
    struct world *w = connected(2);

    (void)state;
    for (int i = 0; i < 41; i++) {
        pass(w, 100);
        if (i < 39)
            give_event(w, WATCH_CREATED, "/a");
    }
    assert_non_null(strstr(w->log, "disconnected"));
    world_free(w);
}

static void life_counts_from_the_question(void **state)
{
    struct world *w = connected(1);
    uint64_t first = w->now;

    (void)state;
    assert_int_equal(client_alive_until(w->c), first + TIMEOUT);
    pass(w, TIMEOUT / 6);
    uint64_t ping_sent = w->now;
    assert_int_equal(next(w).op, WIRE_OP_PING);
    pass(w, 100);
    assert_int_equal(client_alive_until(w->c), first + TIMEOUT);
    answer(w, WIRE_XID_PING, 1, 0, NULL);
    assert_int_equal(client_alive_until(w->c), ping_sent + TIMEOUT);

    w->now += 50;
    uint64_t set_sent = w->now;
    client_set(w->c, w->now, "/a", "x", 1, -1, on_done, w);
    w->now += 50;
    answer_stat(w, next(w).xid, 2);
    assert_int_equal(client_alive_until(w->c), set_sent + TIMEOUT);

    w->now += 50;
    uint64_t sync_sent = w->now;
    client_sync(w->c, w->now, "/", on_done, w);
    w->now += 50;
    answer(w, next(w).xid, 2, 0, NULL);
    assert_int_equal(client_alive_until(w->c), sync_sent + TIMEOUT);
    world_free(w);
}

static void a_read_says_nothing_of_the_session(void **state)
{
    struct world *w = connected(1);
    uint64_t until = client_alive_until(w->c);

    (void)state;
    pass(w, 500);
    client_get(w->c, w->now, "/a", false, on_done, w);
    answer_data(w, next(w).xid, 2, "x", 0);
    client_exists(w->c, w->now, "/a", false, on_done, w);
    answer_stat(w, next(w).xid, 2);
    client_children(w->c, w->now, "/b", false, on_done, w);
    answer(w, next(w).xid, 2, ERR_NO_NODE, NULL);
    assert_int_equal(client_alive_until(w->c), until);
    world_free(w);
}

static void a_write_counts_if_the_log_refused_it(void **state)
{
    static const struct {
        int err;
        bool counts;
    } rows[] = {{ERR_NO_NODE, true},        {ERR_NODE_EXISTS, true}, {ERR_BAD_VERSION, true},
                {ERR_NOT_EMPTY, true},      {ERR_MALFORMED, false},  {ERR_THROTTLED, false},
                {ERR_NOT_READ_ONLY, false}, {ERR_NO_AUTH, false}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = connected(1);
        uint64_t until = client_alive_until(w->c);
        w->now += 10;
        client_delete(w->c, w->now, "/a", -1, on_done, w);
        answer(w, next(w).xid, 9, rows[i].err, NULL);
        assert_int_equal(client_alive_until(w->c), until + (rows[i].counts ? 10 : 0));
        world_free(w);
    }
}

/* Several questions under way: each answer counts for its own, the oldest first. */
static void answers_belong_to_the_oldest_question(void **state)
{
    struct world *w = connected(1);

    (void)state;
    pass(w, TIMEOUT / 6);
    uint64_t first = w->now;
    pass(w, TIMEOUT / 6);
    uint64_t second = w->now;
    assert_int_equal(next(w).op, WIRE_OP_PING);
    assert_int_equal(next(w).op, WIRE_OP_PING);
    answer(w, WIRE_XID_PING, 1, 0, NULL);
    assert_int_equal(client_alive_until(w->c), first + TIMEOUT);
    answer(w, WIRE_XID_PING, 1, 0, NULL);
    assert_int_equal(client_alive_until(w->c), second + TIMEOUT);
    world_free(w);
}

static void an_answer_to_an_earlier_connection_is_none(void **state)
{
    struct world *w = connected(2);
    uint64_t until = client_alive_until(w->c);

    (void)state;
    pass(w, TIMEOUT / 6);
    assert_int_equal(next(w).op, WIRE_OP_PING);
    client_closed(w->c, w->now);
    answer(w, WIRE_XID_PING, 1, 0, NULL); /* too late */
    assert_int_equal(client_alive_until(w->c), until);
    dial(w);
    uint64_t asked = w->now;
    w->now += 20;
    assert_int_equal(client_alive_until(w->c), until);
    answer_connect(w, SESSION, TIMEOUT);
    assert_int_equal(client_alive_until(w->c), asked + TIMEOUT);
    answer(w, WIRE_XID_PING, 1, 0, NULL); /* of nothing that was asked here */
    expect_log(w, "disconnected connected disconnected");
    world_free(w);
}

static void the_session_expires(void **state)
{
    struct world *w = connected(2);

    (void)state;
    pass(w, 2000);
    client_closed(w->c, w->now);
    client_set(w->c, w->now, "/a", "x", 1, -1, on_done, w);
    dial(w);
    answer_connect(w, 0, 0);
    expect_log(w, "disconnected ERR_SESSION_EXPIRED expired");
    assert_int_equal(client_alive_until(w->c), 0);
    assert_int_equal(client_session(w->c), 0);
    struct wire_connect_request r = dial(w);
    assert_int_equal(r.session_id, 0);
    answer_connect(w, SESSION + 1, TIMEOUT);
    expect_log(w, "connected");
    assert_int_equal(client_session(w->c), SESSION + 1);
    world_free(w);
}

static void a_new_timeout_keeps_the_session(void **state)
{
    struct world *w = connected(2);
    unsigned server = w->server;

    (void)state;
    pass(w, 500);
    uint64_t until = client_alive_until(w->c);
    client_set_timeout(w->c, w->now, 2000);
    expect_log(w, "disconnected");
    assert_int_equal(client_alive_until(w->c), until);
    struct wire_connect_request r = dial(w);
    assert_int_equal(w->server, server);
    assert_int_equal(r.session_id, SESSION);
    assert_int_equal(r.timeout_ms, 2000);
    /* The server may live by the shorter one from now on, although we have not heard it. */
    assert_int_equal(client_alive_until(w->c), w->now + 2000);
    uint64_t asked = w->now;
    w->now += 10;
    answer_connect(w, SESSION, 2000);
    assert_int_equal(client_alive_until(w->c), asked + 2000);
    world_free(w);
}

/* Finds the texts of one list of a setWatches2. */
static void expect_texts(struct wire_list list, const char *want)
{
    char have[400] = "";
    struct wire_bytes t;

    while (wire_texts_next(&list, &t)) {
        size_t at = strlen(have);
        snprintf(have + at, sizeof have - at, "%.*s ", (int)t.len, (const char *)t.data);
    }
    assert_string_equal(have, want);
}

static void watch_everything(struct world *w)
{
    client_get(w->c, w->now, "/data", true, on_done, w);
    answer_data(w, next(w).xid, 40, "x", 0);
    client_exists(w->c, w->now, "/none", true, on_done, w);
    answer(w, next(w).xid, 40, ERR_NO_NODE, NULL);
    client_get(w->c, w->now, "/gone", true, on_done, w);
    answer(w, next(w).xid, 40, ERR_NO_NODE, NULL);
    client_get(w->c, w->now, "/fired", true, on_done, w);
    answer_data(w, next(w).xid, 41, "x", 0);
    give_event(w, WATCH_DATA_CHANGED, "/fired");
    struct wire_children2_response kids = {{NULL, 0, 0}, {.version = 1}};
    struct buf b = {0};
    wire_children2_response_encode(&kids, &b);
    client_children(w->c, w->now, "/child", true, on_done, w);
    answer(w, next(w).xid, 42, 0, &b);
    buf_free(&b);
}

static void add_watch(struct world *w, const char *path, bool recursive)
{
    struct wire_error_response ok = {0};
    struct buf b = {0};

    wire_error_response_encode(&ok, &b);
    client_add_watch(w->c, w->now, path, recursive, on_done, w);
    answer(w, next(w).xid, 43, 0, &b);
    buf_free(&b);
}

static void watches_are_set_again(void **state)
{
    struct world *w = connected(2);
    struct wire_set_watches_request one;
    struct wire_set_watches2_request two;

    (void)state;
    watch_everything(w);
    client_closed(w->c, w->now);
    dial(w);
    answer_connect(w, SESSION, TIMEOUT);
    struct got g = next(w);
    assert_int_equal(g.xid, WIRE_XID_SET_WATCHES);
    assert_int_equal(g.op, WIRE_OP_SET_WATCHES);
    struct wire_in in = wire_in(g.body, g.len);
    assert_int_equal(wire_set_watches_request_decode(&one, &in), 0);
    assert_int_equal(one.relative_zxid, 42);
    expect_texts(one.data, "/data ");
    expect_texts(one.exist, "/none ");
    expect_texts(one.child, "/child ");
    w->log[0] = 0;
    give_event(w, WATCH_CREATED, "/none");
    answer(w, WIRE_XID_SET_WATCHES, 50, 0, NULL);
    expect_log(w, "watch:1:/none");

    add_watch(w, "/all", true);
    add_watch(w, "/one", false);
    give_event(w, WATCH_DELETED, "/child");
    give_event(w, WATCH_DATA_CHANGED, "/all");
    client_closed(w->c, w->now);
    pass(w, 100);
    dial(w);
    answer_connect(w, SESSION, TIMEOUT);
    g = next(w);
    assert_int_equal(g.op, WIRE_OP_SET_WATCHES2);
    in = wire_in(g.body, g.len);
    assert_int_equal(wire_set_watches2_request_decode(&two, &in), 0);
    assert_int_equal(two.relative_zxid, 50);
    expect_texts(two.data, "/data ");
    expect_texts(two.exist, "");
    expect_texts(two.child, "");
    expect_texts(two.persistent, "/one ");
    expect_texts(two.recursive, "/all ");
    world_free(w);
}

static void many_watches_are_split(void **state)
{
    struct world *w = connected(1);
    char path[1100];
    size_t frames = 0, paths = 0, len;
    const uint8_t *data;

    (void)state;
    for (int i = 0; i < 300; i++) {
        snprintf(path, sizeof path, "/%04d%01000d", i, 0);
        add_watch(w, path, true);
    }
    client_closed(w->c, w->now);
    pass(w, 100);
    dial(w);
    answer_connect(w, SESSION, TIMEOUT);
    while (next_frame(w, &data, &len)) {
        struct wire_request_header h;
        struct wire_set_watches2_request r;
        struct wire_in in = wire_in(data, len);
        assert_int_equal(wire_request_header_decode(&h, &in), 0);
        assert_int_equal(wire_set_watches2_request_decode(&r, &in), 0);
        assert_true(len < CLIENT_SET_WATCHES_MAX + 100);
        paths += (size_t)r.recursive.count;
        frames++;
        buf_consume(&w->sent, 4 + len);
    }
    assert_int_equal(paths, 300);
    assert_int_equal(frames, 3);
    for (size_t i = 0; i < frames; i++)
        answer(w, WIRE_XID_SET_WATCHES, 60, 0, NULL);
    assert_int_equal(client_state(w->c), CLIENT_CONNECTED);
    world_free(w);
}

static void it_closes(void **state)
{
    struct world *w = connected(1);

    (void)state;
    client_close(w->c, w->now);
    assert_int_equal(client_alive_until(w->c), 0);
    client_get(w->c, w->now, "/a", false, on_done, w);
    expect_log(w, "ERR_SESSION_EXPIRED");
    struct got g = next(w);
    assert_int_equal(g.op, WIRE_OP_CLOSE_SESSION);
    answer(w, g.xid, 9, 0, NULL);
    expect_log(w, "closed");
    assert_int_equal(client_state(w->c), CLIENT_CLOSED);
    assert_int_equal(wants(w), CLIENT_WANT_CLOSE);
    assert_int_equal(wants(w), CLIENT_WANT_NOTHING);
    assert_int_equal(client_deadline(w->c), CLIENT_NEVER);
    world_free(w);
}

static void it_closes_also_when_nobody_answers(void **state)
{
    struct world *w = connected(1);

    (void)state;
    client_closed(w->c, w->now);
    client_close(w->c, w->now);
    expect_log(w, "disconnected");
    pass(w, 100);
    dial(w);
    answer_connect(w, SESSION, TIMEOUT);
    assert_int_equal(next(w).op, WIRE_OP_CLOSE_SESSION);
    client_closed(w->c, w->now);
    expect_log(w, "");
    for (int i = 0; i < 80 && client_state(w->c) != CLIENT_CLOSED; i++) {
        if (wants(w) == CLIENT_WANT_CONNECTION)
            client_closed(w->c, w->now);
        pass(w, 100);
    }
    expect_log(w, "closed");
    world_free(w);

    w = world_new(1);
    client_close(w->c, w->now);
    expect_log(w, "closed");
    world_free(w);
}

static void nothing_too_big_is_sent(void **state)
{
    struct world *w = connected(1);
    char *big = mem_alloc(CLIENT_REQUEST_MAX + 1);

    (void)state;
    client_set(w->c, w->now, "/a", big, CLIENT_REQUEST_MAX + 1, -1, on_done, w);
    client_set(w->c, w->now, "/a", big, CLIENT_REQUEST_MAX - 20, -1, on_done, w);
    expect_log(w, "ERR_TOO_BIG ERR_TOO_BIG");
    assert_int_equal(next(w).op, 0);
    mem_free(big);
    world_free(w);
}

/* Each row is a frame that no server sends; the connection is left, nothing else happens. */
static void nonsense_ends_the_connection(void **state)
{
    static const struct {
        const char *what;
        size_t len;
        uint8_t bytes[40];
    } rows[] = {
        {"too long", 4, {0x7f, 0xff, 0xff, 0xff}},
        {"negative", 4, {0xff, 0xff, 0xff, 0xff}},
        {"empty", 4, {0, 0, 0, 0}},
        {"half a header", 8, {0, 0, 0, 4, 0, 0, 0, 1}},
        {"never asked", 20, {[3] = 16, [7] = 99, [15] = 1}},
        {"no ping was sent", 20, {0, 0, 0, 16, 0xff, 0xff, 0xff, 0xfe}},
        {"an error above zero", 20, {[3] = 16, [7] = 1, [19] = 5}},
        {"body missing", 20, {[3] = 16, [7] = 1}},
        {"event without body", 20, {0, 0, 0, 16, 0xff, 0xff, 0xff, 0xff}},
        {"event of type 9",
         34,
         {0, 0, 0, 30, 0xff, 0xff, 0xff,
          0xff, [23] = 9, [27] = 3, [31] = 2, [32] = '/', [33] = 'a'}},
        {"event path relative",
         34,
         {0, 0, 0, 30, 0xff, 0xff, 0xff,
          0xff, [23] = 1, [27] = 3, [31] = 2, [32] = 'a', [33] = 'a'}},
        {"event path with NUL",
         34,
         {0, 0, 0, 30, 0xff, 0xff, 0xff, 0xff, [23] = 1, [27] = 3, [31] = 2, [32] = '/'}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = connected(2);
        client_get(w->c, w->now, "/a", false, on_done, w);
        assert_int_equal(next(w).xid, 1);
        client_received(w->c, w->now, rows[i].bytes, rows[i].len);
        if (strcmp(w->log, "ERR_CONNECTION_LOST disconnected") != 0)
            fail_msg("%s: %s", rows[i].what, w->log);
        assert_int_equal(wants(w), CLIENT_WANT_CLOSE);
        world_free(w);
    }
}

static void a_wrong_handshake_ends_the_connection(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct world *w = connected(2);
        client_closed(w->c, w->now);
        dial(w);
        w->log[0] = 0;
        if (i == 0)
            answer_connect(w, SESSION + 1, TIMEOUT); /* another's session */
        if (i == 1)
            client_received(w->c, w->now, (const uint8_t *)"\0\0\0\4abcd", 8);
        if (i == 2) /* a password of 2 bytes */
            client_received(w->c, w->now,
                            (const uint8_t *)"\0\0\0\26\0\0\0\0\0\0\x10\0"
                                             "\1\0\0\0\0\0\0\7\0\0\0\2ab",
                            26);
        if (i == 3)
            client_closed(w->c, w->now); /* no reply: it is behind us */
        expect_log(w, "");
        assert_int_equal(client_session(w->c), SESSION);
        assert_true(client_alive_until(w->c) > 0);
        assert_int_equal(client_state(w->c), CLIENT_CONNECTING);
        world_free(w);
    }
}

static void a_new_session_must_have_a_number(void **state)
{
    struct world *w = world_new(2);

    (void)state;
    dial(w);
    answer_connect(w, 0, 0);
    expect_log(w, "");
    assert_int_equal(wants(w), CLIENT_WANT_CLOSE);
    world_free(w);
}

/* The same bytes in pieces of any size mean the same. */
static void pieces_do_not_matter(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct world *w = connected(1);
        struct rng rng = {seed};
        struct buf all = {0};
        struct wire_data_response data = {wire_bytes("hello", 5), {.version = 2}};
        struct wire_watcher_event ev = {WATCH_DELETED, 3, wire_bytes("/b", 2)};
        client_get(w->c, w->now, "/a", true, on_done, w);
        int32_t xid = next(w).xid;

        struct wire_reply_header h = {xid, 3, 0};
        size_t at = wire_frame_begin(&all);
        wire_reply_header_encode(&h, &all);
        wire_data_response_encode(&data, &all);
        wire_frame_end(&all, at);
        h = (struct wire_reply_header){-1, -1, 0};
        at = wire_frame_begin(&all);
        wire_reply_header_encode(&h, &all);
        wire_watcher_event_encode(&ev, &all);
        wire_frame_end(&all, at);
        for (size_t i = 0; i < all.len;) {
            size_t n = 1 + rng_below(&rng, 1 + rng_below(&rng, 40));
            n = n < all.len - i ? n : all.len - i;
            client_received(w->c, w->now, all.data + i, n);
            i += n;
        }
        expect_log(w, "data:hello:v2 watch:2:/b");
        buf_free(&all);
        world_free(w);
    }
}

static void children_have_names(void **state)
{
    struct world *w = connected(1);
    static const char *const bad[] = {"", "a/b"};

    (void)state;
    for (int i = -1; i < 2; i++) {
        struct buf names = {0}, b = {0};
        wire_text_encode("kid", 3, &names);
        wire_text_encode(i < 0 ? "boy" : bad[i], i < 0 ? 3 : strlen(bad[i]), &names);
        struct wire_children2_response r = {{names.data, names.len, 2}, {.version = 1}};
        wire_children2_response_encode(&r, &b);
        client_children(w->c, w->now, "/", false, on_done, w);
        answer(w, next(w).xid, 3, 0, &b);
        expect_log(w, i < 0 ? "children:2:kid" : "ERR_CONNECTION_LOST disconnected");
        buf_free(&names);
        buf_free(&b);
        if (i >= 0) {
            pass(w, 1000);
            dial(w);
            answer_connect(w, SESSION, TIMEOUT);
            w->log[0] = 0;
        }
    }
    world_free(w);
}

static void again(void *ctx, const struct client_reply *r)
{
    struct world *w = ctx;

    (void)r;
    note(w, "again");
    client_set(w->c, w->now, "/a", "x", 1, -1, on_done, w);
}

static void a_callback_may_ask_again(void **state)
{
    struct world *w = connected(2);

    (void)state;
    client_set(w->c, w->now, "/a", "x", 1, -1, again, w);
    client_closed(w->c, w->now);
    expect_log(w, "again disconnected");
    dial(w);
    answer_connect(w, SESSION, TIMEOUT);
    struct got g = next(w);
    assert_int_equal(g.op, WIRE_OP_SET_DATA);
    answer_stat(w, g.xid, 4);
    expect_log(w, "connected ok");
    world_free(w);
}

static void change_timeout(void *ctx, const struct client_reply *r)
{
    struct world *w = ctx;

    note(w, r->err == 0 ? "change" : "lost");
    client_set_timeout(w->c, w->now, 3000);
}

static void a_callback_may_leave_the_connection(void **state)
{
    struct world *w = connected(2);
    struct buf b = {0};
    struct wire_reply_header h[2] = {{1, 3, ERR_NO_NODE}, {2, 3, ERR_NO_NODE}};

    (void)state;
    client_delete(w->c, w->now, "/a", -1, change_timeout, w);
    client_delete(w->c, w->now, "/b", -1, on_done, w);
    for (int i = 0; i < 2; i++) {
        size_t at = wire_frame_begin(&b);
        wire_reply_header_encode(&h[i], &b);
        wire_frame_end(&b, at);
    }
    give_frame(w, &b);
    expect_log(w, "lost ERR_CONNECTION_LOST disconnected");
    assert_int_equal(dial(w).timeout_ms, 3000);
    buf_free(&b);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_made),
        cmocka_unit_test(requests_wait_for_the_connection_and_keep_their_order),
        cmocka_unit_test(a_wait_without_a_connection_ends),
        cmocka_unit_test(what_is_in_flight_is_lost_and_not_sent_again),
        cmocka_unit_test(the_last_zxid_goes_along),
        cmocka_unit_test(servers_are_tried_in_turn_with_pauses),
        cmocka_unit_test(an_attempt_that_hangs_is_given_up),
        cmocka_unit_test(a_short_connection_does_not_reset_the_pauses),
        cmocka_unit_test(silence_is_pinged_then_given_up),
        cmocka_unit_test(events_are_no_answer),
        cmocka_unit_test(life_counts_from_the_question),
        cmocka_unit_test(a_read_says_nothing_of_the_session),
        cmocka_unit_test(a_write_counts_if_the_log_refused_it),
        cmocka_unit_test(answers_belong_to_the_oldest_question),
        cmocka_unit_test(an_answer_to_an_earlier_connection_is_none),
        cmocka_unit_test(the_session_expires),
        cmocka_unit_test(a_new_timeout_keeps_the_session),
        cmocka_unit_test(watches_are_set_again),
        cmocka_unit_test(many_watches_are_split),
        cmocka_unit_test(it_closes),
        cmocka_unit_test(it_closes_also_when_nobody_answers),
        cmocka_unit_test(nothing_too_big_is_sent),
        cmocka_unit_test(nonsense_ends_the_connection),
        cmocka_unit_test(a_wrong_handshake_ends_the_connection),
        cmocka_unit_test(a_new_session_must_have_a_number),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(children_have_names),
        cmocka_unit_test(a_callback_may_ask_again),
        cmocka_unit_test(a_callback_may_leave_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
