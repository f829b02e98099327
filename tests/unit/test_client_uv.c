/* SPDX-License-Identifier: Apache-2.0 */
/* The client's shell over real sockets on the loopback, against a server that answers on the
 * same loop: it knows one znode, "/a". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "client/client_uv.h"
#include "client/client_uv_sync.h"
#include "wire/wire.h"

#define LIMIT_MS 10000

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- the server ---- */

struct server {
    uv_tcp_t listener;
    uv_tcp_t *conn; /* one at a time */
    struct buf in;
    char address[32];
    bool mute; /* it accepts, and says nothing */
    unsigned connections, frames;
    size_t data_len; /* of what was set last */
};

static void conn_closed(uv_handle_t *h) { mem_free(h); }

static void hang_up(struct server *s)
{
    if (s->conn != NULL)
        uv_close((uv_handle_t *)s->conn, conn_closed);
    s->conn = NULL;
    buf_clear(&s->in);
}

static void send_all(struct server *s, const struct buf *b)
{
    size_t at = 0;

    while (at < b->len) {
        uv_buf_t part = uv_buf_init((char *)b->data + at, (unsigned)(b->len - at));
        int n = uv_try_write((uv_stream_t *)s->conn, &part, 1);
        assert_true(n > 0 || n == UV_EAGAIN);
        at += n > 0 ? (size_t)n : 0;
    }
}

static void answer_request(struct server *s, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_request_header h;
    struct wire_set_data_request set;
    struct buf out = {0};
    size_t at = wire_frame_begin(&out);

    assert_int_equal(wire_request_header_decode(&h, &in), 0);
    if (h.xid == 0 && s->frames == 1) { /* a connect request begins with protocol 0 */
        struct wire_connect_response r = {0, 4000, 99, wire_bytes("0123456789abcdef", 16), 0};
        wire_connect_response_encode(&r, &out);
    } else {
        struct wire_reply_header reply = {h.xid, 1, 0};
        wire_reply_header_encode(&reply, &out);
        if (h.op == WIRE_OP_GET_DATA) {
            struct wire_data_response r = {wire_bytes("hello", 5), {.version = 4}};
            wire_data_response_encode(&r, &out);
        } else if (h.op == WIRE_OP_SET_DATA) {
            assert_int_equal(wire_set_data_request_decode(&set, &in), 0);
            s->data_len = (size_t)set.data.len;
            struct wire_stat_response r = {{.version = 5}};
            wire_stat_response_encode(&r, &out);
        }
    }
    wire_frame_end(&out, at);
    send_all(s, &out);
    buf_free(&out);
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *out)
{
    struct server *s = h->data;

    (void)size;
    *out = uv_buf_init((char *)buf_reserve(&s->in, 4096), 4096);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct server *s = stream->data;

    (void)b;
    if (n < 0) {
        if (s->conn == (uv_tcp_t *)stream)
            hang_up(s);
        return;
    }
    buf_added(&s->in, (size_t)n);
    while (s->in.len >= 4 && s->in.len - 4 >= be32_get(s->in.data)) {
        size_t len = be32_get(s->in.data);
        s->frames++;
        if (!s->mute)
            answer_request(s, s->in.data + 4, len);
        buf_consume(&s->in, 4 + len);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct server *s = listener->data;

    assert_int_equal(status, 0);
    hang_up(s);
    s->conn = mem_new(uv_tcp_t);
    s->conn->data = s;
    s->frames = 0;
    s->connections++;
    uv_tcp_init(listener->loop, s->conn);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)s->conn), 0);
    uv_read_start((uv_stream_t *)s->conn, on_alloc, on_read);
}

static void server_open(struct server *s, uv_loop_t *loop)
{
    struct sockaddr_in any, got;
    int len = sizeof got;

    *s = (struct server){0};
    uv_ip4_addr("127.0.0.1", 0, &any);
    uv_tcp_init(loop, &s->listener);
    s->listener.data = s;
    assert_int_equal(uv_tcp_bind(&s->listener, (struct sockaddr *)&any, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&s->listener, 8, on_connection), 0);
    uv_tcp_getsockname(&s->listener, (struct sockaddr *)&got, &len);
    snprintf(s->address, sizeof s->address, "127.0.0.1:%u", ntohs(got.sin_port));
}

static void server_close(struct server *s)
{
    hang_up(s);
    uv_close((uv_handle_t *)&s->listener, NULL);
    buf_free(&s->in);
}

/* ---- the client ---- */

struct world {
    uv_loop_t loop;
    uv_timer_t wake; /* a turn of the loop is never longer than this */
    struct server server[2];
    struct client_uv *u;
    char log[400];
    unsigned batches;
    bool free_after;
};

static void note(struct world *w, const char *what)
{
    size_t at = strlen(w->log);

    snprintf(w->log + at, sizeof w->log - at, "%s%s", at > 0 ? " " : "", what);
}

static void on_event(void *ctx, enum client_event ev)
{
    static const char *const names[] = {"connected", "disconnected", "expired", "closed"};

    note(ctx, names[ev]);
}

static void on_done(void *ctx, const struct client_reply *r)
{
    note(ctx, r->err == 0 ? "ok" : err_name(r->err));
}

static void after(void *ctx)
{
    struct world *w = ctx;

    w->batches++;
    if (w->free_after && client_state(client_uv_client(w->u)) == CLIENT_CONNECTED) {
        client_uv_free(w->u);
        w->u = NULL;
        w->free_after = false;
    }
}

static void on_wake(uv_timer_t *t) { (void)t; }

/* A port where nobody listens: it was ours a moment ago. */
static void nobodys_address(struct world *w, char out[32])
{
    struct server s;

    server_open(&s, &w->loop);
    snprintf(out, 32, "%s", s.address);
    server_close(&s);
    uv_run(&w->loop, UV_RUN_NOWAIT);
}

static struct world *world_new(const char *const *addresses, unsigned n, uint32_t timeout_ms)
{
    struct world *w = mem_new(struct world);
    const char *real[2];
    unsigned bad = 9;

    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->wake);
    uv_timer_start(&w->wake, on_wake, 20, 20);
    char nobody[32];
    for (unsigned i = 0; i < 2; i++)
        server_open(&w->server[i], &w->loop);
    nobodys_address(w, nobody);
    for (unsigned i = 0; i < n; i++) {
        real[i] = addresses[i];
        if (strcmp(addresses[i], "server 0") == 0)
            real[i] = w->server[0].address;
        if (strcmp(addresses[i], "server 1") == 0)
            real[i] = w->server[1].address;
        if (strcmp(addresses[i], "nobody") == 0)
            real[i] = nobody;
    }
    struct client_uv_options options = {
        .loop = &w->loop,
        .client =
            {.timeout_ms = timeout_ms, .seed = 1, .servers = n, .on_event = on_event, .ctx = w},
        .addresses = real,
        .now_ms = now_ms,
        .after = after,
        .ctx = w,
    };
    assert_int_equal(client_uv_new(&w->u, &options, &bad), 0);
    return w;
}

static void world_free(struct world *w)
{
    client_uv_free(w->u);
    server_close(&w->server[0]);
    server_close(&w->server[1]);
    uv_close((uv_handle_t *)&w->wake, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    mem_free(w);
}

/* Turns the loop until the log is that. */
static void expect(struct world *w, const char *want)
{
    uint64_t until = now_ms() + LIMIT_MS;

    while (strcmp(w->log, want) != 0 && now_ms() < until)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_string_equal(w->log, want);
    w->log[0] = 0;
}

static void it_asks_and_is_answered(void **state)
{
    static const char *const one[] = {"server 0"};
    struct world *w = world_new(one, 1, 4000);

    (void)state;
    expect(w, "connected");
    assert_int_equal(client_session(client_uv_client(w->u)), 99);
    client_get(client_uv_client(w->u), now_ms(), "/a", false, on_done, w);
    client_uv_kick(w->u);
    expect(w, "ok");
    assert_true(w->batches > 0);
    assert_string_equal(client_uv_why(w->u, 0), "");
    client_close(client_uv_client(w->u), now_ms());
    client_uv_kick(w->u);
    expect(w, "closed");
    world_free(w);
}

static void who_is_not_there_is_passed_over(void **state)
{
    static const char *const two[] = {"nobody", "server 1"};
    struct world *w = world_new(two, 2, 4000);

    (void)state;
    expect(w, "connected");
    assert_string_equal(client_uv_why(w->u, 0), "connection refused");
    assert_int_equal(w->server[1].connections, 1);
    world_free(w);
}

static void when_a_server_goes_the_other_is_asked(void **state)
{
    static const char *const two[] = {"server 0", "server 1"};
    struct world *w = world_new(two, 2, 4000);

    (void)state;
    expect(w, "connected");
    uint64_t start = now_ms();
    hang_up(&w->server[0]);
    expect(w, "disconnected connected");
    assert_true(now_ms() - start < 1000);
    assert_int_equal(w->server[1].connections, 1);
    world_free(w);
}

static void a_mute_server_is_left(void **state)
{
    static const char *const two[] = {"server 0", "server 1"};
    struct world *w = world_new(two, 2, 600);

    (void)state;
    w->server[0].mute = true;
    expect(w, "connected");
    assert_int_equal(w->server[0].connections, 1);
    assert_int_equal(w->server[1].connections, 1);
    assert_string_equal(client_uv_why(w->u, 0), "it does not answer");
    world_free(w);
}

/* More than a socket takes at once, and more behind it. */
static void large_requests_go_out_in_order(void **state)
{
    static const char *const one[] = {"server 0"};
    struct world *w = world_new(one, 1, 30000);
    char *big = mem_alloc(1000000);
    char want[200] = "";

    (void)state;
    expect(w, "connected");
    for (size_t i = 0; i < 20; i++) {
        client_set(client_uv_client(w->u), now_ms(), "/a", big, 1000000 - i, -1, on_done, w);
        client_uv_kick(w->u);
        strcat(want, i > 0 ? " ok" : "ok");
    }
    expect(w, want);
    assert_int_equal(w->server[0].data_len, 1000000 - 19);
    assert_int_equal(w->server[0].connections, 1);
    mem_free(big);
    world_free(w);
}

static void it_may_be_freed_from_its_own_batch(void **state)
{
    static const char *const one[] = {"server 0"};
    struct world *w = world_new(one, 1, 4000);

    (void)state;
    w->free_after = true;
    expect(w, "connected");
    assert_null(w->u);
    world_free(w);
}

static void addresses_are_numbers(void **state)
{
    static const char *const bad[] = {"",           "127.0.0.1",       "127.0.0.1:",
                                      "host:2181",  "127.0.0.1:0",     "127.0.0.1:65536",
                                      "1.2.3:2181", "127.0.0.1:21 81", "[::1:2181",
                                      "::1:2181"};
    static const char *const good[] = {"127.0.0.1:2181", "[::1]:2181"};
    uv_loop_t loop;

    (void)state;
    uv_loop_init(&loop);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0] + 2; i++) {
        size_t bads = sizeof bad / sizeof bad[0];
        const char *one[] = {i < bads ? bad[i] : good[i - bads]};
        struct client_uv *u;
        unsigned which = 7;
        struct client_uv_options options = {.loop = &loop,
                                            .client = {.timeout_ms = 1000, .servers = 1},
                                            .addresses = one,
                                            .now_ms = now_ms};
        int err = client_uv_new(&u, &options, &which);
        if (i < bads) {
            assert_int_equal(err, ERR_BAD_ARGUMENTS);
            assert_int_equal(which, 0);
        } else {
            assert_int_equal(err, 0);
            client_uv_free(u);
        }
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- one question after the other ---- */

/* Its server needs a loop that runs beside: a thread. */
struct beside {
    uv_loop_t loop;
    uv_async_t stop;
    struct server server;
    uv_thread_t thread;
};

static void on_stop(uv_async_t *a)
{
    struct beside *b = a->data;

    server_close(&b->server);
    uv_close((uv_handle_t *)&b->stop, NULL);
}

static void turn_beside(void *arg) { uv_run(&((struct beside *)arg)->loop, UV_RUN_DEFAULT); }

static void beside_start(struct beside *b)
{
    uv_loop_init(&b->loop);
    uv_async_init(&b->loop, &b->stop, on_stop);
    b->stop.data = b;
    server_open(&b->server, &b->loop);
    assert_int_equal(uv_thread_create(&b->thread, turn_beside, b), 0);
}

static void beside_stop(struct beside *b)
{
    uv_async_send(&b->stop);
    uv_thread_join(&b->thread);
    assert_int_equal(uv_loop_close(&b->loop), 0);
}

static void one_question_at_a_time(void **state)
{
    struct beside b;
    struct client_sync *s;
    struct client_sync_reply r = {0};
    struct buf why = {0};

    (void)state;
    beside_start(&b);
    struct client_sync_options options = {
        .servers = b.server.address, .session_ms = 4000, .limit_ms = 5000, .now_ms = now_ms};
    assert_int_equal(client_sync_open(&s, &options, &why), 0);
    assert_int_equal(client_sync_get(s, "/a", &r), 0);
    assert_string_equal((const char *)r.data.data, "hello");
    assert_int_equal(r.stat.version, 4);
    assert_int_equal(client_sync_set(s, "/a", "x", 1, 4, &r), 0);
    assert_int_equal(r.stat.version, 5);
    client_sync_reply_free(&r);
    client_sync_close(s);
    buf_free(&why);
    beside_stop(&b);
}

static void what_nobody_answers_ends_in_time(void **state)
{
    struct beside b;
    struct client_sync *s;
    struct buf why = {0};
    uint64_t start;

    (void)state;
    beside_start(&b);
    b.server.mute = true;
    struct client_sync_options options = {
        .servers = b.server.address, .session_ms = 900, .limit_ms = 400, .now_ms = now_ms};
    start = now_ms();
    assert_int_equal(client_sync_open(&s, &options, &why), ERR_TIMED_OUT);
    assert_in_range(now_ms() - start, 400, 3000);
    assert_non_null(strstr(buf_text(&why), "it does not answer"));
    buf_free(&why);
    beside_stop(&b);
}

static void wrong_servers_are_named(void **state)
{
    static const struct {
        const char *servers;
        int err;
        const char *why;
    } rows[] = {
        {"127.0.0.1:port", ERR_BAD_ARGUMENTS, "\"port\" is no port"},
        {"127.0.0.1:99999", ERR_BAD_ARGUMENTS, "\"99999\" is no port"},
        {",127.0.0.1", ERR_BAD_ARGUMENTS, "a server without a name"},
        {"[::1", ERR_BAD_ARGUMENTS, "\"[::1\" is no address"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client_sync *s;
        struct buf why = {0};
        struct client_sync_options options = {
            .servers = rows[i].servers, .session_ms = 900, .limit_ms = 400, .now_ms = now_ms};
        assert_int_equal(client_sync_open(&s, &options, &why), rows[i].err);
        assert_string_equal(buf_text(&why), rows[i].why);
        buf_free(&why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_asks_and_is_answered),
        cmocka_unit_test(who_is_not_there_is_passed_over),
        cmocka_unit_test(when_a_server_goes_the_other_is_asked),
        cmocka_unit_test(a_mute_server_is_left),
        cmocka_unit_test(large_requests_go_out_in_order),
        cmocka_unit_test(it_may_be_freed_from_its_own_batch),
        cmocka_unit_test(addresses_are_numbers),
        cmocka_unit_test(one_question_at_a_time),
        cmocka_unit_test(what_nobody_answers_ends_in_time),
        cmocka_unit_test(wrong_servers_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
