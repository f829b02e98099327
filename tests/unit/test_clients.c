/* SPDX-License-Identifier: Apache-2.0 */
/* The clients' port over a libuv without a kernel: frames however the network cuts them, who
 * does not read his answers, and events among answers. What comes out is compared byte by byte
 * with what comes out when everything arrives in one piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "fuzz/fake_uv.h"
#include "lib/fake_digest.h"
#include "mutant_env.h"
#include "server/clients.h"
#include "shelf.h"
#include "wire/wire.h"

enum { WALL_MS = 1700000000, REQUESTS = 300, LARGE = 100000 };

struct port {
    struct shelf shelf;
    struct member *member;
    struct clients *clients;
    struct settings settings;
    uint64_t random;
};

static void send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    (void)ctx, (void)to, (void)data, (void)len;
}

static void send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    clients_send(((struct port *)ctx)->clients, conn, data, len);
}

static void close_client(void *ctx, uint64_t conn)
{
    clients_close(((struct port *)ctx)->clients, conn);
}

static void random_bytes(void *ctx, void *data, size_t len)
{
    struct port *p = ctx;

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)(p->random = p->random * 25214903917 + 11);
}

static void woken(void *ctx)
{
    member_time(((struct port *)ctx)->member, fake.now_ms, (int64_t)WALL_MS * 1000);
}

static enum word_result word(void *ctx, uint64_t conn, const uint8_t *data, size_t len,
                             struct buf *answer)
{
    (void)ctx, (void)conn;
    if (memcmp(data, "long", 4) != 0)
        return WORD_NONE;
    if (len < 12)
        return WORD_MORE;
    buf_add(answer, data + 4, 8);
    return WORD_DONE;
}

static void turn(struct port *p)
{
    struct raft_save save;
    struct raft_job job;

    do {
        woken(p);
        member_flush(p->member);
        while (member_save_take(p->member, &save)) {
            member_saved(p->member);
            member_flush(p->member);
        }
        while (member_job_take(p->member, &job))
            member_job_done(p->member, shelf_job(&p->shelf, &job));
        if (clients_resume(p->clients))
            member_flush(p->member);
        fake_closes();
    } while (clients_wait(p->clients));
}

static void port_open(struct port *p)
{
    const struct member_io io = {p,          send_peer, send_client, close_client, random_bytes,
                                 fake_digest};
    const struct member_options options = {.raft = {.id = 1, .seed = 1}};
    struct raft_members all = {.n = 1, .v = {{.id = 1, .voter = true, .name = "a"}}};
    struct tree *t = tree_new(1);
    struct buf snapshot = {0};

    log_init(stderr, "", LOG_CRIT, NULL);
    fake_reset();
    fake.keeps = true;
    *p = (struct port){.settings = settings_default(), .random = 1};
    tree_save(t, &snapshot);
    strcpy(all.v[0].address, "10.0.0.1:2182");
    p->member = member_new(&options, &io);
    member_load_state(p->member, 1, 1);
    assert_int_equal(member_load_snapshot(p->member, 1, 1, &all, snapshot.data, snapshot.len),
                     0);
    buf_free(&snapshot);
    tree_free(t);
    member_start(p->member, fake.now_ms, (int64_t)WALL_MS * 1000);
    const struct clients_options c = {.listen_address = "127.0.0.1",
                                      .port = 2181,
                                      .member = p->member,
                                      .ctx = p,
                                      .woken = woken,
                                      .word = word,
                                      .settings = &p->settings};
    assert_int_equal(clients_start(&p->clients, NULL, &c, NULL), 0);
    for (int i = 0; i < 100 && !member_is_serving(p->member); i++) {
        fake_time(100);
        turn(p);
    }
    assert_true(member_is_serving(p->member));
}

static void port_close(struct port *p)
{
    clients_stop(p->clients);
    while (fake_handles() > 0)
        fake_closes();
    member_free(p->member);
    shelf_free(&p->shelf);
}

static struct fake_handle *client(void)
{
    size_t place = fake_connect_in(htonl(0x0a000001), 0);

    assert_true(place < FAKE_HANDLES_MAX);
    return &fake.v[place];
}

/* ---- what is sent ---- */

static void put_connect(struct buf *out)
{
    static const uint8_t none[TREE_PASSWORD_LEN];
    const struct wire_connect_request q = {.timeout_ms = 30000,
                                           .password = wire_bytes(none, sizeof none)};
    size_t at = wire_frame_begin(out);

    wire_connect_request_encode(&q, out);
    wire_frame_end(out, at);
}

static size_t begin(struct buf *out, int32_t xid, int32_t op)
{
    const struct wire_request_header h = {xid, op};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    return at;
}

static void put_create(struct buf *out, int32_t xid, const char *path, size_t len)
{
    static const uint8_t data[LARGE];
    struct buf acl = {0};
    const struct wire_acl one = {WIRE_PERM_ALL, wire_bytes("world", 5),
                                 wire_bytes("anyone", 6)};

    wire_acl_encode(&one, &acl);
    const struct wire_create_request q = {
        wire_bytes(path, strlen(path)), wire_bytes(data, len), {acl.data, acl.len, 1}, 0};
    size_t at = begin(out, xid, WIRE_OP_CREATE);
    wire_create_request_encode(&q, out);
    wire_frame_end(out, at);
    buf_free(&acl);
}

static void put_read(struct buf *out, int32_t xid, int32_t op, const char *path, bool watch)
{
    const struct wire_path_watch_request q = {wire_bytes(path, strlen(path)), watch};
    size_t at = begin(out, xid, op);

    wire_path_watch_request_encode(&q, out);
    wire_frame_end(out, at);
}

/* A session, and requests of many lengths: reads, and writes between them. */
static void put_all(struct buf *out)
{
    char path[80];

    put_connect(out);
    for (int32_t xid = 1; xid <= REQUESTS; xid++) {
        snprintf(path, sizeof path, "/%0*d", 1 + xid % 60, (int)xid);
        if (xid % 7 == 0)
            put_create(out, xid, path, (size_t)(xid % 50));
        else
            put_read(out, xid, xid % 2 == 0 ? WIRE_OP_GET_DATA : WIRE_OP_EXISTS,
                     xid % 3 == 0 ? "/" : path, xid % 5 == 0);
    }
}

/* ---- what comes back ---- */

/* Takes the answers in their order and returns how many there were; events, how many of those
 * stood between them. Behind the greeting, which is as long as it is. */
static int32_t answers(const struct buf *out, unsigned *events)
{
    size_t at = 4 + (size_t)be32_get(out->data);
    int32_t xid = 0;

    *events = 0;
    while (at < out->len) {
        assert_true(out->len - at >= 20);
        uint32_t len = be32_get(out->data + at);
        int32_t got = (int32_t)be32_get(out->data + at + 4);
        assert_true(len >= 16 && out->len - at - 4 >= len);
        if (got == WIRE_XID_NOTIFICATION)
            ++*events;
        else
            assert_int_equal(got, ++xid);
        at += 4 + len;
    }
    assert_int_equal(at, out->len);
    return xid;
}

static void feed(struct port *p, size_t piece, size_t pieces_a_turn, struct buf *out)
{
    struct buf in = {0};

    port_open(p);
    struct fake_handle *k = client();
    put_all(&in);
    for (size_t at = 0, n = 0; at < in.len; n++) {
        size_t some = in.len - at < piece ? in.len - at : piece;
        fake_bytes(k, in.data + at, some, 0);
        at += some;
        if (n % pieces_a_turn == 0)
            turn(p);
    }
    turn(p);
    buf_add(out, k->out.data, k->out.len);
    buf_free(&in);
    port_close(p);
}

static void test_pieces(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 7, 19, 64, 333, 4096};
    struct port p;
    struct buf whole = {0};
    unsigned events;

    (void)state;
    feed(&p, 65536, 1, &whole);
    assert_int_equal(answers(&whole, &events), REQUESTS);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct buf out = {0};
        feed(&p, sizes[i], 1 + i % 3 * 50, &out);
        assert_int_equal(answers(&out, &events), REQUESTS);
        buf_free(&out);
    }
    buf_free(&whole);
}

/* The rest of what was read stays when its client is not read any more, and is taken when he
 * has read his answers. */
static void test_pause(void **state)
{
    struct port p;
    struct buf in = {0};
    unsigned events;

    (void)state;
    port_open(&p);
    struct fake_handle *k = client();
    put_connect(&in);
    put_create(&in, 1, "/large", LARGE);
    fake_bytes(k, in.data, in.len, 0);
    turn(&p);
    buf_clear(&in);
    k->room = 1000;
    for (int32_t xid = 2; xid <= REQUESTS; xid++)
        put_read(&in, xid, WIRE_OP_GET_DATA, "/large", false);
    fake_bytes(k, in.data, in.len - 3, 0);
    turn(&p);
    assert_true(k->out.len < 30 * LARGE); /* not all of it, for somebody who takes nothing */
    assert_false(k->is_reading);
    k->room = SIZE_MAX;
    for (int i = 0; i < 1000 && answers(&k->out, &events) < REQUESTS - 1; i++) {
        fake_written(k, 0);
        turn(&p);
    }
    assert_int_equal(answers(&k->out, &events), REQUESTS - 1);
    assert_true(k->is_reading);
    fake_bytes(k, in.data + in.len - 3, 3, 0);
    turn(&p);
    assert_int_equal(answers(&k->out, &events), REQUESTS);
    buf_free(&in);
    port_close(&p);
}

/* Each has his own answers, whoever was sent what before, and events stand whole among them. */
static void test_others(void **state)
{
    struct port p;
    struct fake_handle *k[20];
    struct buf in = {0};
    unsigned events;

    (void)state;
    port_open(&p);
    for (int i = 0; i < 20; i++) {
        k[i] = client();
        buf_clear(&in);
        put_connect(&in);
        put_read(&in, 1, WIRE_OP_EXISTS, "/it", true);
        fake_bytes(k[i], in.data, in.len, 0);
        turn(&p);
    }
    buf_clear(&in);
    put_create(&in, 2, "/it", 10);
    fake_bytes(k[7], in.data, in.len, 0);
    buf_clear(&in);
    put_read(&in, 2, WIRE_OP_GET_DATA, "/", false);
    for (int i = 0; i < 20; i++)
        if (i != 7)
            fake_bytes(k[i], in.data, in.len, 0);
    turn(&p);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(answers(&k[i]->out, &events), 2);
        assert_int_equal(events, 1);
    }
    buf_free(&in);
    port_close(&p);
}

/* setWatches tells what was missed, and only then answers. */
static void test_missed(void **state)
{
    struct port p;
    struct buf in = {0}, list = {0};
    unsigned events;

    (void)state;
    port_open(&p);
    struct fake_handle *k = client();
    put_connect(&in);
    put_create(&in, 1, "/a", 1);
    put_create(&in, 2, "/b", 1);
    wire_text_encode("/a", 2, &list);
    wire_text_encode("/b", 2, &list);
    const struct wire_set_watches_request q = {.relative_zxid = 1,
                                               .data = {list.data, list.len, 2}};
    size_t at = begin(&in, 3, WIRE_OP_SET_WATCHES);
    wire_set_watches_request_encode(&q, &in);
    wire_frame_end(&in, at);
    fake_bytes(k, in.data, in.len, 0);
    turn(&p);
    assert_int_equal(answers(&k->out, &events), 3);
    assert_int_equal(events, 2);
    assert_int_equal(be32_get(k->out.data + k->out.len - 16), 3); /* the answer is the last */
    buf_free(&in);
    buf_free(&list);
    port_close(&p);
}

/* A word with an argument, in pieces; what stands behind it is nobody's request. */
static void test_word(void **state)
{
    static const char text[] = "longargument";
    struct port p;

    (void)state;
    for (size_t piece = 1; piece <= 12; piece++) {
        port_open(&p);
        struct fake_handle *k = client();
        for (size_t at = 0; at < 12; at += piece)
            fake_bytes(k, (const uint8_t *)text + at, 12 - at < piece ? 12 - at : piece, 0);
        fake_bytes(k, (const uint8_t *)"\r\n", 2, 0);
        turn(&p);
        assert_int_equal(k->out.len, 8);
        assert_memory_equal(k->out.data, "argument", 8);
        port_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_pause),
        cmocka_unit_test(test_others), cmocka_unit_test(test_missed),
        cmocka_unit_test(test_word),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
