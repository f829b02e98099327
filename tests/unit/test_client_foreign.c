/* SPDX-License-Identifier: Apache-2.0 */
/* The client's core on a foreign ensemble: what counts as a sign of life; and below a chroot,
 * with credentials. The test plays the server by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "client/chroot.h"
#include "client/client.h"
#include "tree/watch.h"
#include "wire/wire.h"

#define SESSION 0x0100000000000007
#define TIMEOUT 8000

struct got {
    int32_t xid, op;
    char path[64], data[64];
    unsigned acls;
    int32_t perms[2];
    char scheme[2][16];
};

struct world {
    struct client *c;
    uint64_t now;
    struct buf sent;
    char log[512];
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
    char text[100];

    snprintf(text, sizeof text, "watch:%d:%s", type, path);
    note(ctx, text);
}

static void on_done(void *ctx, const struct client_reply *r)
{
    note(ctx, r->err != 0 ? err_name(r->err) : r->path != NULL ? r->path : "ok");
}

static struct world *world_new(const struct client_options *more)
{
    struct world *w = mem_new(struct world);
    struct client_options options = *more;

    options.timeout_ms = TIMEOUT;
    options.servers = 1;
    options.on_event = on_event;
    options.on_watch = on_watch;
    options.ctx = w;
    w->now = 100000;
    w->c = client_new(&options);
    return w;
}

static void world_free(struct world *w)
{
    client_free(w->c);
    buf_free(&w->sent);
    mem_free(w);
}

static void copy(char *to, size_t size, struct wire_bytes b)
{
    snprintf(to, size, "%.*s", (int)(b.len > 0 ? b.len : 0), (const char *)b.data);
}

static void take_create(struct got *g, struct wire_in *in)
{
    struct wire_create_request r;
    struct wire_acl acl;

    assert_int_equal(wire_create_request_decode(&r, in), 0);
    copy(g->path, sizeof g->path, r.path);
    copy(g->data, sizeof g->data, r.data);
    while (wire_acls_next(&r.acl, &acl)) {
        g->perms[g->acls] = acl.perms;
        copy(g->scheme[g->acls++], sizeof g->scheme[0], acl.scheme);
    }
}

static struct got next(struct world *w)
{
    struct got g = {.xid = 0};
    struct buf *out = client_output(w->c);
    struct wire_request_header h;

    buf_add(&w->sent, out->data, out->len);
    buf_consume(out, out->len);
    if (w->sent.len < 4)
        return g;
    size_t len = be32_get(w->sent.data);
    struct wire_in in = wire_in(w->sent.data + 4, len);
    assert_int_equal(wire_request_header_decode(&h, &in), 0);
    g.xid = h.xid;
    g.op = h.op;
    struct wire_set_data_request set;
    struct wire_path_watch_request read;
    struct wire_auth_request auth;
    if (h.op == WIRE_OP_CREATE2) {
        take_create(&g, &in);
    } else if (h.op == WIRE_OP_SET_DATA) {
        assert_int_equal(wire_set_data_request_decode(&set, &in), 0);
        copy(g.path, sizeof g.path, set.path);
        copy(g.data, sizeof g.data, set.data);
    } else if (h.op == WIRE_OP_GET_DATA) {
        assert_int_equal(wire_path_watch_request_decode(&read, &in), 0);
        copy(g.path, sizeof g.path, read.path);
    } else if (h.op == WIRE_OP_AUTH) {
        assert_int_equal(wire_auth_request_decode(&auth, &in), 0);
        copy(g.path, sizeof g.path, auth.scheme);
        copy(g.data, sizeof g.data, auth.auth);
    }
    buf_consume(&w->sent, 4 + len);
    return g;
}

static void answer(struct world *w, int32_t xid, int32_t err, const struct buf *body)
{
    struct buf b = {0};
    struct wire_reply_header h = {xid, 1, err};
    size_t at = wire_frame_begin(&b);

    wire_reply_header_encode(&h, &b);
    if (body != NULL)
        buf_add(&b, body->data, body->len);
    wire_frame_end(&b, at);
    client_received(w->c, w->now, b.data, b.len);
    buf_free(&b);
}

static void answer_set(struct world *w, int32_t xid, int64_t owner)
{
    struct wire_stat_response r = {{.ephemeral_owner = owner}};
    struct buf b = {0};

    wire_stat_response_encode(&r, &b);
    answer(w, xid, 0, &b);
    buf_free(&b);
}

static void answer_create(struct world *w, int32_t xid, const char *path)
{
    struct wire_create2_response r = {wire_bytes(path, strlen(path)), {.version = 0}};
    struct buf b = {0};

    wire_create2_response_encode(&r, &b);
    answer(w, xid, 0, &b);
    buf_free(&b);
}

static void give_event(struct world *w, const char *path)
{
    struct wire_watcher_event ev = {WATCH_CREATED, WIRE_STATE_CONNECTED,
                                    wire_bytes(path, strlen(path))};
    struct buf b = {0};

    wire_watcher_event_encode(&ev, &b);
    answer(w, WIRE_XID_NOTIFICATION, 0, &b);
    buf_free(&b);
}

static void dial(struct world *w, int64_t session, int32_t timeout_ms)
{
    struct wire_connect_response r = {0, timeout_ms, session,
                                      wire_bytes("0123456789abcdef", 16), 0};
    struct buf b = {0};
    unsigned server;
    enum client_want want = client_wants(w->c, w->now, &server);

    if (want == CLIENT_WANT_CLOSE)
        want = client_wants(w->c, w->now, &server);
    if (want == CLIENT_WANT_NOTHING) { /* one server: it waits before it tries again */
        w->now += CLIENT_BACKOFF_MAX_MS;
        want = client_wants(w->c, w->now, &server);
    }
    assert_int_equal(want, CLIENT_WANT_CONNECTION);
    client_opened(w->c, w->now);
    buf_clear(&w->sent);
    buf_clear(client_output(w->c));
    size_t at = wire_frame_begin(&b);
    wire_connect_response_encode(&r, &b);
    wire_frame_end(&b, at);
    client_received(w->c, w->now, b.data, b.len);
    buf_free(&b);
}

static struct got question(struct world *w)
{
    uint64_t at = client_deadline(w->c);

    w->now = at > w->now ? at : w->now;
    client_time(w->c, w->now);
    return next(w);
}

static struct world *foreign(const char *life_path)
{
    struct world *w =
        world_new(&(struct client_options){.is_foreign = true, .life_path = life_path});

    dial(w, SESSION, TIMEOUT);
    expect_log(w, "connected");
    return w;
}

/* ---- signs of life ---- */

static void only_a_seen_write_is_a_sign_of_life(void **state)
{
    struct world *w = foreign("/m/life");

    (void)state;
    assert_int_equal(client_trust_ms(w->c), TIMEOUT / 2);
    assert_int_equal(client_alive_until(w->c), 0); /* to have connected proves nothing */

    client_set(w->c, w->now, "/other", "x", 1, -1, on_done, w);
    answer_set(w, next(w).xid, 0);
    client_sync(w->c, w->now, "/", on_done, w);
    answer(w, next(w).xid, 0, NULL);
    assert_int_equal(client_alive_until(w->c), 0);

    struct got g = question(w);
    assert_int_equal(g.op, WIRE_OP_SET_DATA);
    assert_string_equal(g.path, "/m/life");
    assert_string_equal(g.data, "4000");
    answer(w, g.xid, ERR_NO_NODE, NULL);
    g = next(w);
    assert_int_equal(g.op, WIRE_OP_CREATE2);
    answer(w, g.xid, ERR_NO_NODE, NULL); /* nor is there a parent */
    assert_int_equal(client_alive_until(w->c), 0);

    g = question(w);
    answer(w, g.xid, ERR_NO_NODE, NULL);
    g = next(w);
    assert_string_equal(g.data, "4000");
    uint64_t asked = w->now;
    w->now += 70;
    answer_create(w, g.xid, "/m/life");
    assert_int_equal(client_alive_until(w->c), asked + TIMEOUT / 2);

    g = question(w);
    assert_int_equal(w->now, asked + TIMEOUT / 8);
    asked = w->now;
    w->now += 300;
    answer_set(w, g.xid, SESSION);
    assert_int_equal(client_alive_until(w->c), asked + TIMEOUT / 2);
    world_free(w);
}

/* The znode of an earlier session of the same machine stays when ours ends: nobody would hear
 * of that (test_agent_sim, seed 130). */
static void a_sign_on_the_znode_of_an_earlier_session_is_none(void **state)
{
    struct world *w = foreign("/m/life");

    (void)state;
    answer_set(w, question(w).xid, SESSION - 1);
    assert_int_equal(client_alive_until(w->c), 0);
    answer_set(w, question(w).xid, SESSION);
    assert_int_equal(client_alive_until(w->c), w->now + TIMEOUT / 2);
    world_free(w);
}

static void a_new_connection_is_no_sign(void **state)
{
    struct world *w = foreign("/m/life");

    (void)state;
    answer_set(w, question(w).xid, SESSION);
    uint64_t until = client_alive_until(w->c);
    client_closed(w->c, w->now);
    w->now += 500;
    dial(w, SESSION, TIMEOUT);
    assert_int_equal(client_alive_until(w->c), until);
    struct got g = question(w); /* asked at once */
    uint64_t asked = w->now;
    assert_int_equal(g.op, WIRE_OP_SET_DATA);
    w->now += 10;
    answer_set(w, g.xid, SESSION);
    assert_int_equal(client_alive_until(w->c), asked + TIMEOUT / 2);
    world_free(w);
}

static void without_a_znode_an_empty_transaction_asks(void **state)
{
    struct world *w = foreign(NULL);

    (void)state;
    struct got g = question(w);
    assert_int_equal(g.op, WIRE_OP_MULTI);
    uint64_t asked = w->now;
    w->now += 5;
    answer(w, g.xid, 0, NULL);
    assert_int_equal(client_alive_until(w->c), asked + TIMEOUT / 2);
    world_free(w);
}

/* A new leader gives a session the timeout that it was made with. */
static void a_longer_timeout_is_a_new_session(void **state)
{
    struct world *w = foreign("/m/life");

    (void)state;
    answer_set(w, question(w).xid, SESSION);
    client_set_timeout(w->c, w->now, 2 * TIMEOUT);
    assert_int_equal(client_alive_until(w->c), 0);
    struct got g = next(w);
    assert_int_equal(g.op, WIRE_OP_CLOSE_SESSION);
    client_get(w->c, w->now, "/a", false, on_done, w); /* it must not go into the old one */
    assert_int_equal(next(w).op, 0);
    answer(w, g.xid, 0, NULL);
    expect_log(w, "disconnected ERR_SESSION_EXPIRED expired");
    dial(w, SESSION + 1, 2 * TIMEOUT);
    expect_log(w, "connected");
    assert_int_equal(client_trust_ms(w->c), TIMEOUT);
    assert_int_equal(client_alive_until(w->c), 0);

    client_set_timeout(w->c, w->now, TIMEOUT / 2); /* a shorter one is not */
    expect_log(w, "disconnected");
    dial(w, SESSION + 1, TIMEOUT / 2);
    expect_log(w, "connected");
    assert_int_equal(client_trust_ms(w->c), TIMEOUT / 4);
    client_set_timeout(w->c, w->now, TIMEOUT);
    dial(w, SESSION + 1, 3 * TIMEOUT); /* another server with other limits */
    assert_int_equal(client_timeout_ms(w->c), 2 * TIMEOUT);
    world_free(w);
}

static void a_lost_close_for_a_longer_timeout_is_sent_again(void **state)
{
    struct world *w = foreign("/m/life");

    (void)state;
    client_set_timeout(w->c, w->now, 2 * TIMEOUT);
    client_closed(w->c, w->now);
    expect_log(w, "disconnected");
    dial(w, SESSION, TIMEOUT);
    expect_log(w, "");
    struct got g = next(w);
    assert_int_equal(g.op, WIRE_OP_CLOSE_SESSION);
    answer(w, g.xid, 0, NULL);
    expect_log(w, "disconnected expired");
    world_free(w);
}

/* ---- chroot ---- */

static void paths_are_below_the_chroot(void **state)
{
    struct buf out = {0};

    (void)state;
    assert_string_equal(chroot_full("", "/", &out), "/");
    assert_string_equal(chroot_full("", "/a", &out), "/a");
    assert_string_equal(chroot_full("/x/y", "/", &out), "/x/y");
    assert_string_equal(chroot_full("/x/y", "/a", &out), "/x/y/a");
    assert_string_equal(chroot_strip("", "/a"), "/a");
    assert_string_equal(chroot_strip("/x", "/x"), "/");
    assert_string_equal(chroot_strip("/x", "/x/a"), "/a");
    assert_null(chroot_strip("/x", "/xa"));
    assert_null(chroot_strip("/x", "/y/a"));
    assert_true(chroot_is_valid("/x/y"));
    assert_false(chroot_is_valid(""));
    assert_false(chroot_is_valid("/"));
    assert_false(chroot_is_valid("/x/"));
    assert_false(chroot_is_valid("x"));
    assert_false(chroot_is_valid("/x//y"));
    buf_free(&out);
}

static void a_chroot_is_in_requests_replies_and_events(void **state)
{
    struct world *w =
        world_new(&(struct client_options){.chroot = "/x/y", .makes_chroot = true});

    (void)state;
    dial(w, SESSION, TIMEOUT);
    expect_log(w, "connected");
    struct got g = next(w);
    assert_string_equal(g.path, "/x");
    answer_create(w, g.xid, "/x");
    g = next(w);
    assert_string_equal(g.path, "/x/y");
    answer(w, g.xid, ERR_NODE_EXISTS, NULL);
    expect_log(w, "");

    client_create(w->c, w->now, "/a", "1", 1, WIRE_SEQUENTIAL, on_done, w);
    g = next(w);
    assert_string_equal(g.path, "/x/y/a");
    answer_create(w, g.xid, "/x/y/a1");
    client_get(w->c, w->now, "/", false, on_done, w);
    g = next(w);
    assert_string_equal(g.path, "/x/y");
    answer(w, g.xid, ERR_NO_NODE, NULL);
    expect_log(w, "/a1 ERR_NO_NODE");

    client_add_watch(w->c, w->now, "/", true, on_done, w);
    g = next(w);
    answer(w, g.xid, 0, NULL);
    give_event(w, "/x/y/b");
    give_event(w, "/x/y");
    expect_log(w, "ok watch:1:/b watch:1:/");
    client_closed(w->c, w->now);
    dial(w, SESSION, TIMEOUT);
    assert_int_equal(next(w).op, WIRE_OP_SET_WATCHES2);
    expect_log(w, "disconnected connected");
    give_event(w, "/z"); /* no server of ours says that */
    expect_log(w, "disconnected");
    world_free(w);
}

/* ---- credentials ---- */

static void credentials_come_before_everything(void **state)
{
    struct world *w =
        world_new(&(struct client_options){.auth_scheme = "digest", .auth = "me:word"});

    (void)state;
    client_create(w->c, w->now, "/a", "1", 1, 0, on_done, w);
    dial(w, SESSION, TIMEOUT);
    expect_log(w, "");
    struct got g = next(w);
    assert_int_equal(g.op, WIRE_OP_AUTH);
    assert_int_equal(g.xid, WIRE_XID_AUTH);
    assert_string_equal(g.path, "digest");
    assert_string_equal(g.data, "me:word");
    assert_int_equal(next(w).op, 0);
    assert_int_equal(client_state(w->c), CLIENT_CONNECTING);
    answer(w, WIRE_XID_AUTH, 0, NULL);
    expect_log(w, "connected");
    g = next(w); /* all to its creator, reading to all */
    assert_int_equal(g.acls, 2);
    assert_string_equal(g.scheme[0], "auth");
    assert_int_equal(g.perms[0], WIRE_PERM_ALL);
    assert_string_equal(g.scheme[1], "world");
    assert_int_equal(g.perms[1], WIRE_PERM_READ);

    client_closed(w->c, w->now);
    dial(w, SESSION, TIMEOUT);
    assert_int_equal(next(w).op, WIRE_OP_AUTH); /* on every connection */
    world_free(w);
}

static void refused_credentials_are_known(void **state)
{
    struct world *w =
        world_new(&(struct client_options){.auth_scheme = "what", .auth = "me:word"});
    unsigned server;

    (void)state;
    dial(w, SESSION, TIMEOUT);
    assert_int_equal(next(w).op, WIRE_OP_AUTH);
    assert_false(client_is_refused(w->c));
    answer(w, WIRE_XID_AUTH, ERR_AUTH_FAILED, NULL);
    assert_true(client_is_refused(w->c));
    assert_int_equal(client_wants(w->c, w->now, &server), CLIENT_WANT_CLOSE);
    expect_log(w, ""); /* never was it connected */
    dial(w, SESSION, TIMEOUT);
    answer(w, WIRE_XID_AUTH, 0, NULL);
    assert_false(client_is_refused(w->c));
    expect_log(w, "connected");
    world_free(w);
}

/* A server that takes us in and then says nothing of our credentials is left. */
static void silence_after_credentials_is_not_waited_for(void **state)
{
    struct world *w =
        world_new(&(struct client_options){.auth_scheme = "digest", .auth = "me:word"});
    unsigned server;

    (void)state;
    dial(w, SESSION, TIMEOUT);
    w->now += TIMEOUT / 3;
    client_time(w->c, w->now);
    assert_int_equal(client_wants(w->c, w->now, &server), CLIENT_WANT_CLOSE);
    expect_log(w, "");
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_seen_write_is_a_sign_of_life),
        cmocka_unit_test(a_sign_on_the_znode_of_an_earlier_session_is_none),
        cmocka_unit_test(a_new_connection_is_no_sign),
        cmocka_unit_test(without_a_znode_an_empty_transaction_asks),
        cmocka_unit_test(a_longer_timeout_is_a_new_session),
        cmocka_unit_test(a_lost_close_for_a_longer_timeout_is_sent_again),
        cmocka_unit_test(paths_are_below_the_chroot),
        cmocka_unit_test(a_chroot_is_in_requests_replies_and_events),
        cmocka_unit_test(credentials_come_before_everything),
        cmocka_unit_test(refused_credentials_are_known),
        cmocka_unit_test(silence_after_credentials_is_not_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
