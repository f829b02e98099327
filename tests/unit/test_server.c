/* SPDX-License-Identifier: Apache-2.0 */
/* A whole server alone, on a directory of its own and free ports, with
 * clients over loopback that behave badly. Its limits are those of production. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/err.h"
#include "server/clients.h"
#include "server/server.h"
#include "wire/wire.h"

#include "port.h"

#define LIMIT_MS 8000 /* for what must happen; it takes some milliseconds */

struct bench {
    char dir[64];
    uv_loop_t loop;
    uv_timer_t tick;
    struct identity self;
    struct server_options options;
    struct server *server;
    bool is_stopped;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void wake(uv_timer_t *t) { (void)t; }
static void stopped(void *ctx) { ((struct bench *)ctx)->is_stopped = true; }
static uint64_t now_ms(void) { return uv_hrtime() / 1000000; }

static void failed(void *ctx, int err)
{
    (void)ctx;
    fail_msg("the disk: %s", err_text(err));
}

static void start(struct bench *b)
{
    struct buf why = {0};

    b->is_stopped = false;
    assert_int_equal(server_start(&b->server, &b->loop, &b->options, &why), 0);
    for (uint64_t end = now_ms() + LIMIT_MS; !member_is_serving(server_member(b->server));) {
        assert_true(now_ms() < end);
        uv_run(&b->loop, UV_RUN_ONCE);
    }
}

static void stop(struct bench *b)
{
    server_stop(b->server, stopped, b);
    for (uint64_t end = now_ms() + LIMIT_MS; !b->is_stopped;) {
        assert_true(now_ms() < end);
        uv_run(&b->loop, UV_RUN_ONCE);
    }
}

static void open_bench(struct bench *b)
{
    struct buf why = {0};

    memset(b, 0, sizeof *b);
    strcpy(b->dir, "/tmp/muster-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->self = (struct identity){.id = 1, .name = "a", .address = "127.0.0.1"};
    b->self.peers = (struct raft_members){
        .n = 1, .v = {{.id = 1, .voter = true, .name = "a", .address = "127.0.0.1:2182"}}};
    assert_int_equal(server_create(b->dir, &b->self, &why), 0);
    assert_int_equal(uv_loop_init(&b->loop), 0);
    uv_timer_init(&b->loop, &b->tick);
    uv_timer_start(&b->tick, wake, 5, 5);
    b->options = (struct server_options){.dir = b->dir,
                                         .settings = settings_default(),
                                         .self = &b->self,
                                         .client_address = "127.0.0.1",
                                         .client_port = port_free(),
                                         .http_address = "127.0.0.1",
                                         .http_port = port_free(),
                                         .version = "test",
                                         .failed = failed};
    start(b);
}

static void close_bench(struct bench *b)
{
    stop(b);
    uv_close((uv_handle_t *)&b->tick, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    nftw(b->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- a client ---- */

static int dial_port(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int dial(const struct bench *b) { return dial_port(b->options.client_port); }

static void turns(struct bench *b, unsigned n)
{
    while (n-- > 0)
        uv_run(&b->loop, UV_RUN_NOWAIT);
}

static void put(struct bench *b, int fd, const void *data, size_t len)
{
    const uint8_t *at = data;

    for (uint64_t end = now_ms() + LIMIT_MS; len > 0;) {
        ssize_t n = send(fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        assert_true(now_ms() < end && (n > 0 || errno == EAGAIN));
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
        turns(b, 1);
    }
}

/* Exactly len bytes; false: the connection has ended. */
static bool get(struct bench *b, int fd, void *to, size_t len)
{
    uint8_t *at = to;

    for (uint64_t end = now_ms() + LIMIT_MS; len > 0;) {
        ssize_t n = recv(fd, at, len, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n < 0)
            uv_run(&b->loop, UV_RUN_ONCE);
        assert_true(now_ms() < end);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static bool get_frame(struct bench *b, int fd, struct buf *out)
{
    uint8_t head[4];

    buf_clear(out);
    if (!get(b, fd, head, 4))
        return false;
    uint32_t len = be32_get(head);
    if (!get(b, fd, buf_reserve(out, len), len))
        return false;
    buf_added(out, len);
    return true;
}

static bool is_closed(struct bench *b, int fd)
{
    uint8_t rest[4096];

    while (get(b, fd, rest, 1))
        ;
    return true; /* or get() has failed the test */
}

static bool connected(struct bench *b, int fd)
{
    static const uint8_t none[16];
    const struct wire_connect_request q = {.timeout_ms = 30000,
                                           .password = wire_bytes(none, sizeof none)};
    struct buf f = {0}, answer = {0};
    size_t at = wire_frame_begin(&f);

    wire_connect_request_encode(&q, &f);
    wire_frame_end(&f, at);
    put(b, fd, f.data, f.len);
    bool ok = get_frame(b, fd, &answer) && answer.len >= 36;
    buf_free(&f);
    buf_free(&answer);
    return ok;
}

static void add_request(struct buf *f, int32_t xid, int32_t op, const struct buf *body)
{
    const struct wire_request_header h = {xid, op};
    size_t at = wire_frame_begin(f);

    wire_request_header_encode(&h, f);
    if (body != NULL)
        buf_add(f, body->data, body->len);
    wire_frame_end(f, at);
}

static int32_t create(struct bench *b, int fd, const char *path, size_t size)
{
    struct buf acl = {0}, body = {0}, f = {0}, data = {0};
    const struct wire_acl all = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    wire_acl_encode(&all, &acl);
    memset(buf_reserve(&data, size + 1), 'x', size + 1);
    const struct wire_create_request q = {
        wire_bytes(path, strlen(path)), wire_bytes(data.data, size), {acl.data, acl.len, 1}, 0};
    wire_create_request_encode(&q, &body);
    add_request(&f, 1, WIRE_OP_CREATE, &body);
    put(b, fd, f.data, f.len);
    struct wire_reply_header h = {.err = -1};
    if (get_frame(b, fd, &f)) {
        struct wire_in in = wire_in(f.data, f.len);
        assert_int_equal(wire_reply_header_decode(&h, &in), 0);
    }
    buf_free(&acl);
    buf_free(&body);
    buf_free(&data);
    buf_free(&f);
    return h.err;
}

/* ---- tests ---- */

static void what_was_acknowledged_is_there_after_a_restart(void **state)
{
    struct bench b;
    const uint8_t *data;
    size_t len;
    (void)state;
    open_bench(&b);
    int fd = dial(&b);
    assert_true(connected(&b, fd));
    assert_int_equal(create(&b, fd, "/kept", 10), 0);
    stop(&b);
    close(fd);
    start(&b);
    assert_true(tree_get(member_tree(server_member(b.server)), "/kept", &data, &len));
    assert_int_equal(len, 10);
    close_bench(&b);
}

static void a_stop_with_everything_under_way(void **state)
{
    struct bench b;
    struct buf f = {0};
    (void)state;
    open_bench(&b);
    int idle = dial(&b), half = dial(&b), busy = dial(&b),
        http = dial_port(b.options.http_port);
    put(&b, half, "\0\0\0\55\0\0", 6);
    put(&b, http, "GET /metr", 9);
    assert_true(connected(&b, busy));
    for (int i = 0; i < 300; i++)
        add_request(&f, i, i % 2 ? WIRE_OP_PING : WIRE_OP_CLOSE_SESSION + 100, NULL);
    put(&b, busy, f.data, f.len < 2000 ? f.len : 2000);
    close_bench(&b);
    close(idle), close(half), close(busy), close(http);
    buf_free(&f);
}

static void a_stop_in_the_first_turn(void **state)
{
    struct bench b;
    (void)state;
    open_bench(&b);
    stop(&b);
    struct buf why = {0};
    b.is_stopped = false;
    assert_int_equal(server_start(&b.server, &b.loop, &b.options, &why), 0);
    close_bench(&b);
}

static void a_first_frame_is_no_larger_than_a_connect_request(void **state)
{
    struct bench b;
    (void)state;
    open_bench(&b);
    int fd = dial(&b);
    put(&b, fd, "\0\17\0\0", 4); /* 983,040 bytes will come: nobody has said who he is */
    assert_true(is_closed(&b, fd));
    close(fd);
    close_bench(&b);
}

static void garbage_after_a_valid_connect_ends_the_connection_only(void **state)
{
    static const uint8_t bad[][12] = {{0, 0, 0, 3, 1, 2, 3},
                                      {0xff, 0xff, 0xff, 0xff},
                                      {0, 0, 0, 8, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff}};
    struct bench b;
    (void)state;
    open_bench(&b);
    int good = dial(&b);
    assert_true(connected(&b, good));
    for (size_t i = 0; i < 3; i++) {
        int fd = dial(&b);
        assert_true(connected(&b, fd));
        put(&b, fd, bad[i], i == 0 ? 7 : i == 1 ? 4 : 12);
        assert_true(is_closed(&b, fd));
        close(fd);
    }
    assert_int_equal(create(&b, good, "/x", 1), 0);
    close(good);
    close_bench(&b);
}

static void a_frame_may_come_byte_by_byte_and_many_at_once(void **state)
{
    struct bench b;
    struct buf f = {0};
    (void)state;
    open_bench(&b);
    int fd = dial(&b);
    assert_true(connected(&b, fd));
    for (int i = 0; i < 3000; i++) /* more than may be unanswered */
        add_request(&f, -2, WIRE_OP_PING, NULL);
    for (size_t i = 0; i < 50; i++)
        put(&b, fd, f.data + i, 1);
    put(&b, fd, f.data + 50, f.len - 50);
    uint64_t began = now_ms();
    for (int i = 0; i < 3000; i++)
        assert_true(get_frame(&b, fd, &f));
    assert_true(now_ms() - began < LIMIT_MS);
    buf_free(&f);
    close(fd);
    close_bench(&b);
}

static size_t resident_bytes(void)
{
    unsigned long all, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    assert_int_equal(fscanf(f, "%lu %lu", &all, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Sixty kilobytes of requests, three gigabytes of replies, and nobody who reads them. */
static void who_does_not_read_is_not_read_from(void **state)
{
    struct bench b;
    struct buf f = {0}, body = {0};
    const struct wire_path_watch_request q = {wire_bytes("/big", 4), 0};
    (void)state;
    open_bench(&b);
    int fd = dial(&b);
    assert_true(connected(&b, fd));
    assert_int_equal(create(&b, fd, "/big", 900000), 0);
    wire_path_watch_request_encode(&q, &body);
    for (int i = 0; i < 3000; i++)
        add_request(&f, i, WIRE_OP_GET_DATA, &body);
    size_t before = resident_bytes();
    put(&b, fd, f.data, f.len);
    turns(&b, 200);
    assert_true(resident_bytes() < before + (100u << 20));
    for (int i = 0; i < 100; i++) { /* then it goes on where it stood */
        assert_true(get_frame(&b, fd, &body));
        assert_int_equal(be32_get(body.data), i);
    }
    int other = dial(&b);
    assert_true(connected(&b, other));
    assert_int_equal(create(&b, other, "/y", 1), 0);
    buf_free(&f);
    buf_free(&body);
    close(fd), close(other);
    close_bench(&b);
}

/* As many connections as there are files must not take the log its files. */
static void clients_leave_files_for_the_log(void **state)
{
    struct bench b;
    struct rlimit files, few = {.rlim_cur = 300};
    int fds[200];
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    few.rlim_max = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    open_bench(&b);
    int good = dial(&b);
    assert_true(connected(&b, good));
    /* Each is two files here: this process has both ends. */
    few.rlim_cur = 600;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (size_t i = 0; i < 200; i++) {
        fds[i] = dial(&b);
        turns(&b, 2);
    }
    struct member_facts facts;
    member_facts(server_member(b.server), &facts);
    assert_true(facts.connections <= 150);
    assert_int_equal(create(&b, good, "/x", 1), 0);
    for (size_t i = 0; i < 200; i++)
        close(fds[i]);
    turns(&b, 20);
    int again = dial(&b);
    assert_true(connected(&b, again));
    close(again), close(good);
    close_bench(&b);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
}

static void four_letter_words(void **state)
{
    struct bench b;
    char text[4];
    (void)state;
    open_bench(&b);
    int fd = dial(&b);
    put(&b, fd, "ru", 2);
    turns(&b, 5);
    put(&b, fd, "ok\n", 3);
    assert_true(get(&b, fd, text, 4));
    assert_memory_equal(text, "imok", 4);
    assert_true(is_closed(&b, fd));
    close(fd);
    close_bench(&b);
}

/* All that comes until the other side closes. */
static const char *get_all(struct bench *b, int fd, struct buf *out)
{
    uint8_t c;

    buf_clear(out);
    while (get(b, fd, &c, 1))
        buf_add_u8(out, c);
    return buf_text(out);
}

static const char *ask_word(struct bench *b, const void *word, size_t len, struct buf *out)
{
    int fd = dial(b);

    put(b, fd, word, len);
    const char *said = get_all(b, fd, out);
    close(fd);
    return said;
}

static void words_and_what_is_none(void **state)
{
    struct bench b;
    struct buf out = {0};
    struct member_facts f;
    (void)state;
    open_bench(&b);
    assert_string_equal(ask_word(&b, "ruok\n", 5, &out), "imok");
    assert_string_equal(ask_word(&b, "ruok and more", 13, &out), "imok");
    assert_string_equal(ask_word(&b, "wchp", 4, &out),
                        "wchp is not executed because it is not in the whitelist.\n");
    assert_string_equal(ask_word(&b, "stmk", 4, &out),
                        "stmk is not executed because it is not in the whitelist.\n");
    assert_string_equal(ask_word(&b, "helo", 4, &out), "");
    assert_string_equal(ask_word(&b, "\r\nruok", 6, &out), "");
    int fd = dial(&b); /* its client will say no more, but listens */
    put(&b, fd, "srvr", 4);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_non_null(strstr(get_all(&b, fd, &out), "Mode: standalone\n"));
    close(fd);
    fd = dial(&b); /* after a connect request it is a frame, and too long */
    assert_true(connected(&b, fd));
    put(&b, fd, "ruok", 4);
    assert_string_equal(get_all(&b, fd, &out), "");
    close(fd);
    turns(&b, 20);
    member_facts(server_member(b.server), &f);
    assert_int_equal(f.connections, 0);
    buf_free(&out);
    close_bench(&b);
}

static void a_word_with_a_number(void **state)
{
    struct bench b;
    struct buf out = {0};
    (void)state;
    open_bench(&b);
    stop(&b);
    strcpy(b.options.settings.words, "stmk,gtmk");
    start(&b);
    int fd = dial(&b);
    put(&b, fd, "stmk\0\0\0", 7);
    turns(&b, 20);
    put(&b, fd, "\0\0\0\1\2", 5);
    assert_string_equal(get_all(&b, fd, &out), "258");
    close(fd);
    assert_string_equal(ask_word(&b, "gtmk", 4, &out), "258");
    fd = dial(&b);
    put(&b, fd, "stmk\0\0", 6);
    close(fd);
    turns(&b, 20);
    assert_string_equal(ask_word(&b, "gtmk", 4, &out), "258");
    buf_free(&out);
    close_bench(&b);
}

/* More than the sockets hold, to somebody who reads it slowly and sends a line end only when
 * all of it is on its way: were the connection closed then, the kernel would throw away what
 * he has not read. */
static void a_long_answer_arrives_whatever_is_sent_behind_the_word(void **state)
{
    struct bench b;
    struct buf f = {0}, body = {0}, out = {0};
    char path[200];
    enum { WATCHES = 20000 };
    (void)state;
    open_bench(&b);
    stop(&b);
    strcpy(b.options.settings.words, "*");
    start(&b);
    int watcher = dial(&b);
    assert_true(connected(&b, watcher));
    memset(path, 'x', sizeof path);
    for (int i = 0; i < WATCHES; i++) {
        path[snprintf(path, sizeof path, "/%05d", i)] = 'x';
        const struct wire_path_watch_request q = {wire_bytes(path, 150), 1};
        buf_clear(&body);
        wire_path_watch_request_encode(&q, &body);
        buf_clear(&f);
        add_request(&f, i, WIRE_OP_EXISTS, &body);
        put(&b, watcher, f.data, f.len);
    }
    for (int i = 0; i < WATCHES; i++)
        assert_true(get_frame(&b, watcher, &f));
    for (int way = 0; way < 2; way++) {
        int fd = dial(&b);
        put(&b, fd, "wchc", 4);
        if (way == 1) /* its client is done, but listens */
            assert_int_equal(shutdown(fd, SHUT_WR), 0);
        turns(&b, 50);
        if (way == 0)
            put(&b, fd, "\r", 1);
        turns(&b, 50);
        if (way == 0)
            put(&b, fd, "\n", 1);
        const char *said = get_all(&b, fd, &out);
        unsigned lines = 0;
        for (const char *at = said; *at != 0; at++)
            lines += *at == '\n';
        assert_int_equal(lines, WATCHES + 2);
        close(fd);
    }
    close(watcher);
    buf_free(&f);
    buf_free(&body);
    buf_free(&out);
    close_bench(&b);
}

static const char *get_page(struct bench *b, const char *path, struct buf *out)
{
    char request[200];
    int fd = dial_port(b->options.http_port);

    put(b, fd, request,
        (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path));
    const char *said = get_all(b, fd, out);
    close(fd);
    return said;
}

static void admin_pages(void **state)
{
    struct bench b;
    struct buf out = {0};
    (void)state;
    open_bench(&b);
    assert_non_null(strstr(get_page(&b, "/commands", &out), "<a href=\"/commands/stats\">"));
    assert_non_null(strstr(get_page(&b, "/commands/", &out), "<a href=\"/commands/stats\">"));
    assert_non_null(strstr(get_page(&b, "/commands/srvr", &out), "\"server_stats\""));
    assert_non_null(strstr(buf_text(&out), "application/json"));
    assert_non_null(
        strstr(get_page(&b, "/commands/stmk?traceMask=258", &out), "\"tracemask\": 258"));
    assert_non_null(strstr(get_page(&b, "/commands/stmk?traceMask", &out),
                           "requires long traceMask argument"));
    assert_non_null(strstr(get_page(&b, "/commands/a/b", &out), "Unknown command: a/b"));
    assert_non_null(strstr(get_page(&b, "/commandsx", &out), " 404 "));
    stop(&b);
    strcpy(b.options.settings.admin_url, "/zk");
    start(&b);
    assert_non_null(strstr(get_page(&b, "/zk/ruok", &out), "\"command\": \"ruok\""));
    assert_non_null(strstr(get_page(&b, "/commands/ruok", &out), " 404 "));
    stop(&b);
    b.options.settings.admin_enabled = false;
    start(&b);
    assert_non_null(strstr(get_page(&b, "/zk/ruok", &out), " 404 "));
    assert_non_null(strstr(get_page(&b, "/metrics", &out), "\nznode_count "));
    buf_free(&out);
    close_bench(&b);
}

static void slow_and_long_http(void **state)
{
    struct bench b;
    int slow[HTTP_CONNECTIONS_FROM_ONE_MAX - 1];
    char line[16];
    (void)state;
    open_bench(&b);
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++) {
        slow[i] = dial_port(b.options.http_port);
        put(&b, slow[i], "GET /st", 7);
    }
    turns(&b, 50);
    int fd = dial_port(b.options.http_port);
    put(&b, fd, "GET /readyz HTTP/1.0\r\n\r\n", 24);
    assert_true(get(&b, fd, line, 12));
    assert_memory_equal(line + 9, "200", 3);
    close(fd);
    turns(&b, 50);
    fd = dial_port(b.options.http_port);
    static char header[60000] = "GET /status HTTP/1.0\r\nX: ";
    memset(header + 25, 'x', sizeof header - 25);
    (void)send(fd, header, sizeof header, MSG_DONTWAIT | MSG_NOSIGNAL);
    assert_true(is_closed(&b, fd));
    close(fd);
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++)
        close(slow[i]);
    close_bench(&b);
}

/* What an earlier machine left must not become part of another cluster's log. */
static void a_joined_machine_begins_with_an_empty_store(void **state)
{
    struct bench b;
    struct buf why = {0};
    char path[128];
    (void)state;
    open_bench(&b);
    int fd = dial(&b);
    assert_true(connected(&b, fd));
    assert_int_equal(create(&b, fd, "/old", 10), 0);
    close(fd);
    stop(&b);
    assert_int_equal(server_create_joined(b.dir, &b.self, &why), ERR_EXISTS);
    buf_free(&why);
    snprintf(path, sizeof path, "%s/machine", b.dir);
    assert_int_equal(unlink(path), 0);
    b.self.id = 77;
    assert_int_equal(server_create_joined(b.dir, &b.self, &why), 0);
    b.is_stopped = false;
    assert_int_equal(server_start(&b.server, &b.loop, &b.options, &why), 0);
    assert_int_equal(raft_last_index(member_raft(server_member(b.server))), 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_is_there_after_a_restart),
        cmocka_unit_test(a_stop_with_everything_under_way),
        cmocka_unit_test(a_stop_in_the_first_turn),
        cmocka_unit_test(a_first_frame_is_no_larger_than_a_connect_request),
        cmocka_unit_test(garbage_after_a_valid_connect_ends_the_connection_only),
        cmocka_unit_test(a_frame_may_come_byte_by_byte_and_many_at_once),
        cmocka_unit_test(who_does_not_read_is_not_read_from),
        cmocka_unit_test(clients_leave_files_for_the_log),
        cmocka_unit_test(four_letter_words),
        cmocka_unit_test(words_and_what_is_none),
        cmocka_unit_test(a_word_with_a_number),
        cmocka_unit_test(a_long_answer_arrives_whatever_is_sent_behind_the_word),
        cmocka_unit_test(admin_pages),
        cmocka_unit_test(slow_and_long_http),
        cmocka_unit_test(a_joined_machine_begins_with_an_empty_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
