/* SPDX-License-Identifier: Apache-2.0 */
/* The mirror over a real tree, through the client's core: bytes in random pieces, changes
 * at any time, connections lost at any time. When it comes to rest it equals the tree. */
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
#include "client/mirror.h"
#include "tree/tree.h"
#include "wire/wire.h"

#define SESSION 0x77
#define PATHS_MAX 128

struct world {
    struct rng rng;
    uint64_t now;
    struct client *c;
    struct mirror *m;
    unsigned changes;
    /* the server */
    struct tree *tree;
    struct watches *watches;
    int64_t zxid, writer;
    uint64_t conn; /* 0: none */
    struct buf to_client, to_server;
    struct buf held; /* replies that are made but not sent: events overtake them */
    bool holds;
    int fail_next; /* the next read is answered with this */
};

static const char *const roots[] = {"/r", "/s/t", NULL};

static void on_change(void *ctx) { ((struct world *)ctx)->changes++; }

static void on_event(void *ctx, enum client_event ev)
{
    struct world *w = ctx;

    mirror_client_event(w->m, w->now, ev);
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct world *w = ctx;

    mirror_client_watch(w->m, w->now, type, path);
}

static void put(struct buf *out, int32_t xid, int64_t zxid, int err, const struct buf *body)
{
    struct wire_reply_header h = {xid, zxid, err};
    size_t at = wire_frame_begin(out);

    wire_reply_header_encode(&h, out);
    if (body != NULL && err == 0 && body->len > 0)
        buf_add(out, body->data, body->len);
    wire_frame_end(out, at);
}

static void let_go(struct world *w)
{
    if (w->held.len > 0)
        buf_add(&w->to_client, w->held.data, w->held.len);
    buf_clear(&w->held);
    w->holds = false;
}

static void sink(void *ctx, uint64_t watcher, enum watch_event event, const char *path,
                 size_t path_len, const struct wire_list *acl)
{
    struct world *w = ctx;

    assert_null(acl);
    struct wire_watcher_event ev = {(int32_t)event, 3, wire_bytes(path, path_len)};
    struct buf b = {0};

    if (watcher != w->conn)
        return;
    wire_watcher_event_encode(&ev, &b);
    put(&w->to_client, WIRE_XID_NOTIFICATION, -1, 0, &b);
    buf_free(&b);
}

static int write_txn(struct world *w, int32_t op, const struct buf *body)
{
    struct buf reply = {0};
    struct tree_result result = {.reply = &reply};
    struct tree_txn txn = {.op = op,
                           .session = op == TREE_OP_CREATE_SESSION ? 0 : w->writer,
                           .time_ms = 1,
                           .origin = {1, 1},
                           .timeout_ms = 5000,
                           .body = body != NULL ? body->data : NULL,
                           .len = body != NULL ? body->len : 0};

    tree_apply(w->tree, ++w->zxid, &txn, w->watches, &result);
    if (op == TREE_OP_CREATE_SESSION)
        w->writer = result.session;
    buf_free(&reply);
    return result.err;
}

static int create(struct world *w, const char *path, const char *data)
{
    struct wire_acl everyone = {WIRE_PERM_ALL, wire_bytes("world", 5), wire_bytes("anyone", 6)};
    struct buf acl = {0}, b = {0};

    wire_acl_encode(&everyone, &acl);
    struct wire_create_request r = {wire_bytes(path, strlen(path)),
                                    wire_bytes(data, strlen(data)),
                                    {acl.data, acl.len, 1},
                                    0};
    wire_create_request_encode(&r, &b);
    int err = write_txn(w, WIRE_OP_CREATE, &b);
    buf_free(&acl);
    buf_free(&b);
    return err;
}

static int set(struct world *w, const char *path, const char *data)
{
    struct wire_set_data_request r = {wire_bytes(path, strlen(path)),
                                      wire_bytes(data, strlen(data)), -1};
    struct buf b = {0};

    wire_set_data_request_encode(&r, &b);
    int err = write_txn(w, WIRE_OP_SET_DATA, &b);
    buf_free(&b);
    return err;
}

static int delete (struct world *w, const char *path)
{
    struct wire_path_version_request r = {wire_bytes(path, strlen(path)), -1};
    struct buf b = {0};

    wire_path_version_request_encode(&r, &b);
    int err = write_txn(w, WIRE_OP_DELETE, &b);
    buf_free(&b);
    return err;
}

/* One frame that the client sent. */
static void serve(struct world *w, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_request_header h;
    struct buf reply = {0};

    assert_int_equal(wire_request_header_decode(&h, &in), 0);
    if (h.xid == 0) { /* a connect request: protocol 0 */
        struct wire_connect_response r = {0, 5000, SESSION, wire_bytes("0123456789abcdef", 16),
                                          0};
        size_t at = wire_frame_begin(&w->to_client);
        wire_connect_response_encode(&r, &w->to_client);
        wire_frame_end(&w->to_client, at);
        return;
    }
    int err = 0;
    if (h.op != WIRE_OP_PING && w->fail_next != 0) {
        err = w->fail_next;
        w->fail_next = 0;
    } else if (h.op != WIRE_OP_PING) {
        const struct tree_caller caller = {.watcher = w->conn, .session = SESSION};
        err = tree_read(w->tree, w->watches, &caller, h.op, in.at, (size_t)(in.end - in.at),
                        &reply);
    }
    put(w->holds ? &w->held : &w->to_client, h.xid, w->zxid, err, &reply);
    buf_free(&reply);
}

static void cut(struct world *w)
{
    watches_forget(w->watches, w->conn);
    buf_clear(&w->to_client);
    buf_clear(&w->to_server);
    buf_clear(&w->held);
    w->holds = false;
    client_closed(w->c, w->now);
}

static void serve_some(struct world *w, size_t most)
{
    buf_add(&w->to_server, client_output(w->c)->data, client_output(w->c)->len);
    buf_consume(client_output(w->c), client_output(w->c)->len);
    while (most-- > 0 && w->to_server.len >= 4) {
        size_t len = be32_get(w->to_server.data);
        serve(w, w->to_server.data + 4, len);
        buf_consume(&w->to_server, 4 + len);
    }
}

static void deliver(struct world *w, size_t n)
{
    n = n < w->to_client.len ? n : w->to_client.len;
    client_received(w->c, w->now, w->to_client.data, n);
    if (w->to_client.len >= n)
        buf_consume(&w->to_client, n);
}

static void move(struct world *w)
{
    unsigned server;

    client_time(w->c, w->now);
    for (;;) {
        switch (client_wants(w->c, w->now, &server)) {
        case CLIENT_WANT_NOTHING: return;
        case CLIENT_WANT_CLOSE: cut(w); break;
        case CLIENT_WANT_CONNECTION: w->conn++; client_opened(w->c, w->now);
        }
    }
}

static void rest(struct world *w)
{
    for (int i = 0; i < 3000; i++) {
        let_go(w);
        move(w);
        serve_some(w, 1000);
        deliver(w, SIZE_MAX);
        w->now += 10;
        if (mirror_is_complete(w->m) && w->to_client.len == 0 && client_output(w->c)->len == 0)
            return;
    }
    fail_msg("the mirror does not become complete");
}

static struct world *world_new(uint64_t seed)
{
    struct world *w = mem_new(struct world);
    struct client_options options = {.timeout_ms = 5000,
                                     .seed = seed,
                                     .servers = 1,
                                     .on_event = on_event,
                                     .on_watch = on_watch,
                                     .ctx = w};

    w->rng.state = seed;
    w->now = 1000;
    w->tree = tree_new(seed);
    w->watches = watches_new(seed, sink, w);
    write_txn(w, TREE_OP_CREATE_SESSION, NULL);
    w->c = client_new(&options);
    w->m = mirror_new(w->c, roots, on_change, w);
    return w;
}

static void world_free(struct world *w)
{
    mirror_free(w->m);
    client_free(w->c);
    watches_free(w->watches);
    tree_free(w->tree);
    buf_free(&w->to_client);
    buf_free(&w->to_server);
    buf_free(&w->held);
    mem_free(w);
}

static unsigned count_below(const struct mirror *m, const char *path)
{
    struct mirror_node n;
    char after[64] = "";
    unsigned found = 0;

    while (mirror_child_next(m, path, after, &n)) {
        const char *name = strrchr(n.path, '/') + 1;
        assert_true(strcmp(name, after) > 0);
        snprintf(after, sizeof after, "%s", name);
        found += 1 + count_below(m, n.path);
    }
    return found;
}

static unsigned all_paths(char paths[PATHS_MAX][32])
{
    static const char *const tops[] = {"/r", "/s", "/s/t", "/x"};
    unsigned n = 0;

    for (unsigned i = 0; i < 4; i++) {
        snprintf(paths[n++], 32, "%s", tops[i]);
        for (unsigned k = 0; k < 12; k++) {
            snprintf(paths[n++], 32, "%s/%c", tops[i], 'a' + k % 4);
            if (k >= 4)
                snprintf(paths[n - 1] + strlen(paths[n - 1]), 8, "/%u", k);
        }
    }
    return n;
}

static bool is_mirrored(const char *path)
{
    return strncmp(path, "/r", 2) == 0 || strcmp(path, "/s/t") == 0 ||
           strncmp(path, "/s/t/", 5) == 0;
}

static void expect_equal(struct world *w, uint64_t seed)
{
    char paths[PATHS_MAX][32];
    unsigned n = all_paths(paths), have = 0, got = 0;
    struct mirror_node node;

    for (unsigned i = 0; i < n; i++) {
        const uint8_t *data;
        size_t len;
        bool is_there = tree_get(w->tree, paths[i], &data, &len) && is_mirrored(paths[i]);
        bool is_here = mirror_get(w->m, paths[i], &node);
        if (is_there != is_here ||
            (is_here &&
             ((size_t)node.len != len || (len > 0 && memcmp(node.data, data, len) != 0))))
            fail_msg("seed %u: %s: in the tree %d, in the mirror %d", (unsigned)seed, paths[i],
                     is_there, is_here);
        have += is_there;
    }
    for (unsigned i = 0; roots[i] != NULL; i++)
        got += count_below(w->m, roots[i]) + mirror_get(w->m, roots[i], &node);
    assert_int_equal(got, have);
}

static void change_something(struct world *w)
{
    char paths[PATHS_MAX][32], text[16];
    unsigned n = all_paths(paths);
    const char *path = paths[rng_below(&w->rng, n)];

    snprintf(text, sizeof text, "%u", (unsigned)rng_below(&w->rng, 1000));
    switch (rng_below(&w->rng, 4)) {
    case 0:
    case 1: (void)create(w, path, text); break;
    case 2: (void)set(w, path, text); break;
    default: (void)delete (w, path); break;
    }
}

static void it_comes_to_equal_the_tree(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct world *w = world_new(seed);
        unsigned steps = 50 + (unsigned)rng_below(&w->rng, 400);
        unsigned cuts = (unsigned)rng_below(&w->rng, 4) == 0 ? 0 : 30;
        for (unsigned i = 0; i < steps; i++) {
            uint64_t dice = rng_below(&w->rng, 1000);
            if (dice < 300)
                change_something(w);
            else if (dice < 600)
                serve_some(w, rng_below(&w->rng, 6));
            else if (dice < 900)
                deliver(w, 1 + rng_below(&w->rng, 300));
            else if (dice < 900 + cuts)
                cut(w);
            else if (dice < 950)
                w->holds = true;
            else if (dice < 970)
                let_go(w);
            else if (dice < 980)
                w->fail_next = ERR_THROTTLED;
            else
                w->now += rng_below(&w->rng, 100);
            move(w);
        }
        rest(w);
        expect_equal(w, seed);
        world_free(w);
    }
}

static void roots_may_come_and_go(void **state)
{
    struct world *w = world_new(1);
    struct mirror_node n;

    (void)state;
    assert_false(mirror_is_complete(w->m));
    assert_int_equal(mirror_as_of(w->m), 0);
    rest(w);
    assert_false(mirror_get(w->m, "/r", &n));
    assert_true(mirror_as_of(w->m) >= 1000);
    unsigned before = w->changes;
    create(w, "/r", "one");
    create(w, "/r/a", "two");
    deliver(w, SIZE_MAX);
    assert_false(mirror_is_complete(w->m));
    rest(w);
    assert_true(w->changes > before);
    assert_true(mirror_get(w->m, "/r/a", &n));
    assert_int_equal(n.len, 3);
    assert_memory_equal(n.data, "two", 3);
    delete (w, "/r/a");
    delete (w, "/r");
    rest(w);
    assert_false(mirror_get(w->m, "/r", &n));
    assert_false(mirror_get(w->m, "/r/a", &n));
    world_free(w);
}

static void without_a_connection_the_last_state_stays(void **state)
{
    struct world *w = world_new(2);
    struct mirror_node n;

    (void)state;
    create(w, "/r", "one");
    rest(w);
    /* An idle mirror is confirmed by pings. */
    for (int i = 0; i < 400; i++) {
        move(w);
        serve_some(w, 100);
        deliver(w, SIZE_MAX);
        w->now += 10;
    }
    uint64_t as_of = mirror_as_of(w->m);
    assert_in_range(as_of, w->now - 1100, w->now);
    cut(w);
    set(w, "/r", "two");
    w->now += 30000;
    assert_false(mirror_is_complete(w->m));
    assert_int_equal(mirror_as_of(w->m), as_of);
    assert_true(mirror_get(w->m, "/r", &n));
    assert_memory_equal(n.data, "one", 3);
    rest(w);
    assert_true(mirror_get(w->m, "/r", &n));
    assert_memory_equal(n.data, "two", 3);
    assert_true(mirror_as_of(w->m) > as_of);
    world_free(w);
}

/* The connection changes, the tree does not: nobody has to look. */
static void a_new_connection_alone_changes_little(void **state)
{
    struct world *w = world_new(3);

    (void)state;
    create(w, "/r", "one");
    for (int i = 0; i < 20; i++) {
        char path[32];
        snprintf(path, sizeof path, "/r/%d", i);
        create(w, path, "x");
    }
    rest(w);
    unsigned before = w->changes;
    cut(w);
    rest(w);
    assert_int_equal(w->changes, before + 1); /* it is complete again */
    world_free(w);
}

static void what_is_too_much_is_left_out(void **state)
{
    struct world *w = world_new(4);
    char *big = mem_alloc(1000 * 1024 + 1), path[32];
    unsigned made = MIRROR_BYTES_MAX / (1000 * 1024) + 2;

    (void)state;
    memset(big, 'x', 1000 * 1024);
    create(w, "/r", "");
    for (unsigned i = 0; i < made; i++) {
        snprintf(path, sizeof path, "/r/%u", i);
        assert_int_equal(create(w, path, big), 0);
    }
    for (int i = 0; i < 200; i++) {
        move(w);
        serve_some(w, 100);
        deliver(w, SIZE_MAX);
        w->now += 10;
    }
    assert_true(mirror_is_full(w->m));
    assert_true(mirror_is_complete(w->m)); /* as far as it goes: its reader is not blind */
    for (unsigned i = 0; i < made * 2 / 3; i++) {
        snprintf(path, sizeof path, "/r/%u", i);
        assert_int_equal(delete (w, path), 0);
    }
    rest(w);
    assert_false(mirror_is_full(w->m));
    assert_int_equal(count_below(w->m, "/r"), made - made * 2 / 3);
    mem_free(big);
    world_free(w);
}

/* Others fill the second root: the first goes on, and not all is read again for each change. */
static void the_first_root_is_not_crowded_out(void **state)
{
    struct world *w = world_new(5);
    struct mirror_node n;
    char path[32];

    (void)state;
    create(w, "/r", "");
    create(w, "/s", "");
    create(w, "/s/t", "");
    for (unsigned i = 0; i < MIRROR_NODES_MAX + 4000; i++) {
        snprintf(path, sizeof path, "/s/t/%u", i);
        assert_int_equal(create(w, path, ""), 0);
    }
    rest(w);
    assert_true(mirror_is_full(w->m));
    create(w, "/r/late", "seen");
    rest(w);
    assert_true(mirror_get(w->m, "/r/late", &n));
    cut(w);
    rest(w);
    assert_true(mirror_get(w->m, "/r/late", &n));
    for (unsigned i = 0; i < 20; i++) {
        snprintf(path, sizeof path, "/s/t/%u", i);
        assert_int_equal(delete (w, path), 0);
        for (unsigned k = 0; k < 10; k++) {
            move(w);
            serve_some(w, 1000);
            deliver(w, SIZE_MAX);
        }
        assert_true(mirror_is_complete(w->m));
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_to_equal_the_tree),
        cmocka_unit_test(roots_may_come_and_go),
        cmocka_unit_test(without_a_connection_the_last_state_stays),
        cmocka_unit_test(a_new_connection_alone_changes_little),
        cmocka_unit_test(what_is_too_much_is_left_out),
        cmocka_unit_test(the_first_root_is_not_crowded_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
