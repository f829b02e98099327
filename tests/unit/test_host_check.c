/* SPDX-License-Identifier: Apache-2.0 */
/* Health checks against servers and programs that behave, and that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/err.h"
#include "host/check.h"
#include "host/clock.h"
#include "host/files.h"

static uv_loop_t loop;
static struct checks *checks;
static char dir[64];

static struct seen {
    unsigned n;
    uint64_t op;
    struct service_result r;
    char text[512];
} seen;

static void on_result(void *ctx, uint64_t op, const struct service_result *r)
{
    (void)ctx;
    seen.n++;
    seen.op = op;
    seen.r = *r;
    snprintf(seen.text, sizeof seen.text, "%s", r->text != NULL ? r->text : "");
}

/* ---- a server that says one thing, whatever it is asked ---- */

static struct server {
    uv_tcp_t *listener;
    uint16_t port;
    const char *says; /* NULL: nothing */
    bool hangs_up;    /* after that */
    char heard[1024];
    unsigned connections;
} server;

struct client {
    uv_tcp_t tcp;
    uv_write_t write;
};

static void on_client_closed(uv_handle_t *handle) { free(handle->data); }

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    (void)handle, (void)suggested;
    *room = uv_buf_init(server.heard, sizeof server.heard - 1);
}

static void on_said(uv_write_t *write, int status)
{
    struct client *c = write->data;

    (void)status;
    if (server.hangs_up && !uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_client_closed);
}

static void on_heard(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct client *c = stream->data;

    (void)room;
    if (n > 0 && server.says != NULL) {
        uv_buf_t data =
            uv_buf_init((char *)(uintptr_t)server.says, (unsigned)strlen(server.says));
        server.heard[n] = 0;
        c->write.data = c;
        uv_write(&c->write, stream, &data, 1, on_said);
    } else if (n < 0 && !uv_is_closing((uv_handle_t *)stream)) {
        uv_close((uv_handle_t *)stream, on_client_closed);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct client *c = calloc(1, sizeof *c);

    assert_int_equal(status, 0);
    server.connections++;
    uv_tcp_init(listener->loop, &c->tcp);
    c->tcp.data = c;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&c->tcp), 0);
    uv_read_start((uv_stream_t *)&c->tcp, give_room, on_heard);
}

static void serve(const char *says, bool hangs_up)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int len = sizeof at;

    server = (struct server){.says = says, .hangs_up = hangs_up};
    server.listener = calloc(1, sizeof *server.listener);
    uv_tcp_init(&loop, server.listener);
    assert_int_equal(uv_tcp_bind(server.listener, (struct sockaddr *)&at, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)server.listener, 16, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(server.listener, (struct sockaddr *)&at, &len), 0);
    server.port = ntohs(at.sin_port);
}

static void on_listener_closed(uv_handle_t *handle) { free(handle); }

static void stop_serving(void)
{
    uv_close((uv_handle_t *)server.listener, on_listener_closed);
    server.listener = NULL;
}

/* ---- ---- */

static int set_up(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    snprintf(dir, sizeof dir, "/tmp/muster-check-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(uv_loop_init(&loop), 0);
    checks = checks_new(&loop, on_result, NULL);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    if (server.listener != NULL) /* the test failed */
        stop_serving();
    checks_close(checks);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void on_tick(uv_timer_t *timer) { (void)timer; }

static void wait_for(unsigned n, unsigned limit_ms)
{
    uint64_t start_ms = clock_now_ms();
    uv_timer_t tick;

    uv_timer_init(&loop, &tick);
    uv_timer_start(&tick, on_tick, 1, 1);
    while (seen.n < n && clock_now_ms() - start_ms < limit_ms)
        uv_run(&loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void check(enum site_check_type type, uint16_t port, const char *path)
{
    static uint64_t op;
    const struct service_check spec = {.type = type,
                                       .service = "web",
                                       .address = "127.0.0.1",
                                       .port = port,
                                       .path = path,
                                       .timeout_ms = 300};

    seen.n = 0;
    assert_int_equal(checks_run(checks, ++op, &spec), 0);
    assert_int_equal(seen.n, 0); /* never from within */
    wait_for(1, 3000);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.op, op);
}

static uint16_t closed_port(void)
{
    serve(NULL, false);
    stop_serving();
    uv_run(&loop, UV_RUN_NOWAIT);
    return server.port;
}

static void tcp_says_who_listens(void **state)
{
    (void)state;
    serve(NULL, false);
    check(SITE_CHECK_TCP, server.port, NULL);
    assert_int_equal(seen.r.outcome, SERVICE_OK);
    assert_in_range(seen.r.took_ms, 0, 100);
    stop_serving();
    check(SITE_CHECK_TCP, closed_port(), NULL);
    assert_int_equal(seen.r.outcome, SERVICE_REFUSED);
}

static void tcp_to_nowhere_has_its_time(void **state)
{
    const struct service_check spec = {
        .type = SITE_CHECK_TCP, .service = "web", .address = "127.0.0.1", .timeout_ms = 100};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), waiting[8];
    struct service_check to = spec;

    /* A listener whose queue is full does not answer at all. */
    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    for (unsigned i = 0; i < 8; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(waiting[i], (struct sockaddr *)&at, sizeof at);
    }
    to.port = ntohs(at.sin_port);
    assert_int_equal(checks_run(checks, 7, &to), 0);
    wait_for(1, 3000);
    assert_int_equal(seen.r.outcome, SERVICE_NO_ANSWER);
    assert_in_range(seen.r.took_ms, 95, 300);
    for (unsigned i = 0; i < 8; i++)
        close(waiting[i]);
    close(listener);
}

static void http_says_what_the_server_says(void **state)
{
    static const struct {
        const char *says;
        enum service_outcome outcome;
        int number;
        const char *text;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", SERVICE_OK, 200, ""},
        {"HTTP/1.0 204\r\n\r\n", SERVICE_OK, 204, ""},
        {"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", SERVICE_OK, 302, ""},
        {"HTTP/1.1 399 ?\n\n", SERVICE_OK, 399, ""},
        {"HTTP/1.1 400 Bad\r\n\r\n", SERVICE_STATUS, 400, ""},
        {"HTTP/1.1 404 Not Found\r\n\r\n", SERVICE_STATUS, 404, ""},
        {"HTTP/1.1 503 Service Unavailable\r\n\r\n", SERVICE_STATUS, 503, ""},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 500 No\r\n"
         "\r\n",
         SERVICE_STATUS, 500, ""},
        {"HTTP/1.1 600 Odd\r\n\r\n", SERVICE_ERROR, 0, "the answer is not HTTP/1"},
        {"HTTP/1.1 20 OK\r\n\r\n", SERVICE_ERROR, 0, "the answer is not HTTP/1"},
        {"HTTP/1.1 2000 OK\r\n\r\n", SERVICE_ERROR, 0, "the answer is not HTTP/1"},
        {"HTTP/2 200 OK\r\n\r\n", SERVICE_ERROR, 0, "the answer is not HTTP/1"},
        {"SSH-2.0-OpenSSH_9.2\r\n", SERVICE_ERROR, 0, "the answer is not HTTP/1"},
        {"\r\n", SERVICE_ERROR, 0, "the answer is not HTTP/1"},
        {"\x01\xff\x80\n", SERVICE_ERROR, 0, "the answer is not HTTP/1"},
        {"HTTP/1.1 200 OK", SERVICE_ERROR, 0, "the connection was closed without an answer"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        serve(rows[i].says, true);
        check(SITE_CHECK_HTTP, server.port, "/up?a=b");
        assert_int_equal(seen.r.outcome, rows[i].outcome);
        assert_int_equal(seen.r.number, rows[i].number);
        assert_string_equal(seen.text, rows[i].text);
        stop_serving();
    }
    assert_non_null(strstr(server.heard, "GET /up?a=b HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert_non_null(strstr(server.heard, "\r\nConnection: close\r\n"));
}

static void http_without_an_answer_has_its_time(void **state)
{
    (void)state;
    serve(NULL, false);
    check(SITE_CHECK_HTTP, server.port, "/");
    assert_int_equal(seen.r.outcome, SERVICE_NO_ANSWER);
    assert_in_range(seen.r.took_ms, 290, 1000);
    stop_serving();
    check(SITE_CHECK_HTTP, closed_port(), "/");
    assert_int_equal(seen.r.outcome, SERVICE_REFUSED);
}

static void http_with_an_endless_head_is_cut(void **state)
{
    static char head[40000];

    (void)state;
    memset(head, 'x', sizeof head - 1);
    memcpy(head, "HTTP/1.1 100 Continue\r\n", 23);
    serve(head, false);
    check(SITE_CHECK_HTTP, server.port, "/");
    assert_int_equal(seen.r.outcome, SERVICE_ERROR);
    assert_string_equal(seen.text, "the answer's head is too long");
    stop_serving();
}

static void http_paths_cannot_write_headers(void **state)
{
    (void)state;
    serve("HTTP/1.1 200 OK\r\n\r\n", true);
    check(SITE_CHECK_HTTP, server.port, "/a HTTP/1.1\r\nX: y");
    assert_int_equal(seen.r.outcome, SERVICE_ERROR);
    check(SITE_CHECK_HTTP, server.port, "up");
    assert_int_equal(seen.r.outcome, SERVICE_ERROR);
    assert_int_equal(server.connections, 0);
    stop_serving();
}

static const char *program(const char *text)
{
    static char path[128];
    char whole[1024];

    snprintf(path, sizeof path, "%s/program", dir);
    int n = snprintf(whole, sizeof whole, "#!/bin/sh\n%s\n", text);
    assert_int_equal(file_write(path, whole, (size_t)n, 0700), 0);
    return path;
}

static void programs_tell_by_their_end(void **state)
{
    (void)state;
    check(SITE_CHECK_EXEC, 3000, program("exit 0"));
    assert_int_equal(seen.r.outcome, SERVICE_OK);
    check(SITE_CHECK_EXEC, 3000,
          program("echo out; echo >&2; echo '  it is broken' >&2; echo more >&2; exit 3"));
    assert_int_equal(seen.r.outcome, SERVICE_EXIT);
    assert_int_equal(seen.r.number, 3);
    assert_string_equal(seen.text, "it is broken");
    check(SITE_CHECK_EXEC, 3000, program("echo only out; exit 1"));
    assert_string_equal(seen.text, "only out");
    check(SITE_CHECK_EXEC, 3000, program("kill -TERM $$"));
    assert_int_equal(seen.r.outcome, SERVICE_SIGNAL);
    assert_int_equal(seen.r.number, SIGTERM);
    check(SITE_CHECK_EXEC, 3000,
          program("echo $MUSTER_SERVICE $MUSTER_ADDRESS $MUSTER_PORT; exit 1"));
    assert_string_equal(seen.text, "web 127.0.0.1 3000");
    check(SITE_CHECK_EXEC, 3000, "/nowhere/at/all");
    assert_int_equal(seen.r.outcome, SERVICE_ERROR);
    assert_string_equal(seen.text, "no such file or directory");
}

static void programs_that_hang_are_killed_with_their_children(void **state)
{
    char path[128];
    struct buf pid = {0};

    (void)state;
    check(SITE_CHECK_EXEC, 3000,
          program("cd $(dirname $0); sleep 60 & echo $! > pid; echo waiting; wait"));
    assert_int_equal(seen.r.outcome, SERVICE_NO_ANSWER);
    assert_string_equal(seen.text, "waiting");
    assert_in_range(seen.r.took_ms, 290, 1500);
    snprintf(path, sizeof path, "%s/pid", dir);
    assert_int_equal(file_read(path, 32, &pid), 0);
    int child = atoi(buf_text(&pid));
    buf_free(&pid);
    assert_true(child > 1);
    uint64_t limit_ms = clock_now_ms() + 2000;
    /* Its new parent may be slow to reap it: a zombie is as dead. */
    char state_of = 'R';
    while (state_of != 'Z' && clock_now_ms() < limit_ms) {
        char file[64], line[256] = "";
        snprintf(file, sizeof file, "/proc/%d/stat", child);
        FILE *f = fopen(file, "r");
        if (f == NULL)
            break;
        if (fgets(line, sizeof line, f) != NULL && strrchr(line, ')') != NULL)
            state_of = strrchr(line, ')')[2];
        fclose(f);
    }
    assert_true(kill(child, 0) != 0 || state_of == 'Z');
}

static void programs_that_leave_a_child_behind_end_all_the_same(void **state)
{
    (void)state;
    check(SITE_CHECK_EXEC, 3000, program("sleep 0.6 & echo left one; exit 1"));
    assert_int_equal(seen.r.outcome, SERVICE_EXIT);
    assert_string_equal(seen.text, "left one");
    assert_in_range(seen.r.took_ms, 0, 290);
}

static void programs_that_talk_without_end_are_heard_a_little(void **state)
{
    (void)state;
    check(SITE_CHECK_EXEC, 3000, program("yes"));
    assert_int_equal(seen.r.outcome, SERVICE_NO_ANSWER);
    assert_string_equal(seen.text, "y");
}

static void only_so_many_programs_run_at_once(void **state)
{
    char path[128], counted[256];
    const unsigned n = CHECKS_PROGRAMS_MAX * 2 + 3;

    (void)state;
    snprintf(path, sizeof path, "%s",
             program("cd $(dirname $0); touch run.$$; ls | grep -c run >> counts; sleep 0.05; "
                     "rm run.$$"));
    const struct service_check spec = {.type = SITE_CHECK_EXEC,
                                       .service = "web",
                                       .address = "127.0.0.1",
                                       .path = path,
                                       .timeout_ms = 5000};
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(checks_run(checks, i + 1, &spec), 0);
    wait_for(n, 8000);
    assert_int_equal(seen.n, n);
    assert_int_equal(seen.r.outcome, SERVICE_OK);
    snprintf(counted, sizeof counted, "test $(sort -n %s/counts | tail -1) -le %d", dir,
             CHECKS_PROGRAMS_MAX);
    assert_int_equal(system(counted), 0);
}

static void what_is_stopped_is_not_told(void **state)
{
    const struct service_check tcp = {.type = SITE_CHECK_HTTP,
                                      .service = "web",
                                      .address = "127.0.0.1",
                                      .path = "/",
                                      .timeout_ms = 100};
    struct service_check http = tcp, exec = tcp;

    (void)state;
    serve(NULL, false);
    http.port = server.port;
    exec.type = SITE_CHECK_EXEC;
    exec.path = program("sleep 60");
    assert_int_equal(checks_run(checks, 1, &http), 0);
    assert_int_equal(checks_run(checks, 2, &exec), 0);
    checks_stop(checks, 1);
    checks_stop(checks, 2);
    checks_stop(checks, 3);
    wait_for(1, 300);
    assert_int_equal(seen.n, 0);

    for (uint64_t i = 0; i < CHECKS_MAX; i++)
        assert_int_equal(checks_run(checks, 100 + i, &http), 0);
    assert_int_equal(checks_run(checks, 99, &http), ERR_BUSY);
    stop_serving();
}

static void files_are_whole_or_not_at_all(void **state)
{
    char path[128], temp[160];
    struct buf text = {0};

    (void)state;
    snprintf(path, sizeof path, "%s/f", dir);
    snprintf(temp, sizeof temp, "%s.new", path);
    assert_int_equal(file_read(path, 100, &text), ERR_NOT_FOUND);
    assert_int_equal(file_write(path, "one", 3, 0640), 0);
    assert_int_equal(file_write(path, "second", 6, 0640), 0);
    assert_int_equal(access(temp, F_OK), -1);
    assert_int_equal(file_read(path, 6, &text), 0);
    assert_string_equal(buf_text(&text), "second");
    assert_int_equal(file_read(path, 5, &text), ERR_TOO_BIG);
    assert_string_equal(buf_text(&text), "second");
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0640);
    /* What cannot be written leaves the old file as it is. */
    assert_int_equal(mkdir(temp, 0700), 0);
    assert_true(file_write(path, "third", 5, 0640) < 0);
    buf_clear(&text);
    assert_int_equal(file_read(path, 100, &text), 0);
    assert_string_equal(buf_text(&text), "second");
    assert_int_equal(file_write("/nowhere/f", "x", 1, 0600), ERR_NOT_FOUND);
    buf_free(&text);
}

#define CHECKED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECKED(tcp_says_who_listens),
        CHECKED(tcp_to_nowhere_has_its_time),
        CHECKED(http_says_what_the_server_says),
        CHECKED(http_without_an_answer_has_its_time),
        CHECKED(http_with_an_endless_head_is_cut),
        CHECKED(http_paths_cannot_write_headers),
        CHECKED(programs_tell_by_their_end),
        CHECKED(programs_that_hang_are_killed_with_their_children),
        CHECKED(programs_that_leave_a_child_behind_end_all_the_same),
        CHECKED(programs_that_talk_without_end_are_heard_a_little),
        CHECKED(only_so_many_programs_run_at_once),
        CHECKED(what_is_stopped_is_not_told),
        CHECKED(files_are_whole_or_not_at_all),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
