/* SPDX-License-Identifier: Apache-2.0 */
/* A real HAProxy: started, found again, reloaded, changed while it runs, lost, refused; in a
 * network namespace of the test's own, so that no port is in anybody's way.
 */
#include "host_world.h"

#include <sys/prctl.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "host/files.h"
#include "host/haproxy.h"

#define PROGRAM "/usr/sbin/haproxy"
enum { FRONT = 8000, A = 8001, B = 8002, TAKEN = 8003 };

static uv_loop_t loop;
static struct haproxy *haproxy;
static char dir[64], admin[96];
static unsigned lost;
static pid_t guard_pid;
static int guard[2]; /* its other end's process kills HAProxy when this one is gone */

static struct seen {
    unsigned n;
    int err;
    char why[HAPROXY_REASON_MAX];
} seen;

static void on_lost(void *ctx)
{
    (void)ctx;
    lost++;
}

static void on_done(void *ctx, int err, const char *why)
{
    (void)ctx;
    seen.n++;
    seen.err = err;
    snprintf(seen.why, sizeof seen.why, "%s", why);
}

static void on_tick(uv_timer_t *timer) { (void)timer; }

static void wait_for(const unsigned *count, unsigned n, unsigned limit_ms)
{
    uint64_t start_ms = clock_now_ms();
    uv_timer_t tick;

    uv_timer_init(&loop, &tick);
    uv_timer_start(&tick, on_tick, 5, 5);
    while (*count < n && clock_now_ms() - start_ms < limit_ms)
        uv_run(&loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

/* ---- the servers behind it: what they say is their name ---- */

static pid_t servers[2];

static void serve(unsigned i, uint16_t port, char name)
{
    servers[i] = fork();
    if (servers[i] != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    char answer[] = "HTTP/1.0 200 OK\r\n\r\n?", request[1024];
    answer[strlen(answer) - 1] = name;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (const struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 64) != 0)
        _exit(1);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (read(fd, request, sizeof request) > 0)
            (void)!write(fd, answer, strlen(answer));
        close(fd);
    }
}

/* Which server answers on this port; 0: none. */
static char ask(uint16_t port)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval limit = {.tv_sec = 2};
    char answer[1024] = "";
    size_t len = 0;
    ssize_t n;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 &&
        write(fd, "GET / HTTP/1.0\r\n\r\n", 18) == 18)
        while ((n = read(fd, answer + len, sizeof answer - 1 - len)) > 0)
            len += (size_t)n;
    close(fd);
    return strncmp(answer, "HTTP/1.", 7) == 0 && strstr(answer, " 200 ") != NULL
               ? answer[len - 1]
               : 0;
}

static const char *config(uint16_t front, const char *server_lines)
{
    static char text[2048];

    snprintf(text, sizeof text,
             "global\n  stats socket %s level admin\ndefaults\n  mode http\n"
             "  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n"
             "frontend f\n  bind 127.0.0.1:%u\n  default_backend web\n"
             "backend web\n  balance roundrobin\n%s\n",
             admin, front, server_lines);
    return text;
}

static void set_with(const char *text, const char *const *commands, size_t n, bool reload)
{
    seen.n = 0;
    assert_int_equal(haproxy_set(haproxy, text, commands, n, reload, on_done, NULL), 0);
    assert_int_equal(seen.n, 0);
    wait_for(&seen.n, 1, 15000);
    assert_int_equal(seen.n, 1);
}

static void set(const char *text) { set_with(text, NULL, 0, true); }

static int master_pid(void)
{
    char path[128];
    struct buf text = {0};

    snprintf(path, sizeof path, "%s/haproxy.pid", dir);
    int pid = file_read(path, 32, &text) == 0 ? atoi(buf_text(&text)) : 0;
    buf_free(&text);
    return pid;
}

static void open_it(void)
{
    const struct haproxy_options o = {
        .program = PROGRAM, .dir = dir, .socket = admin, .on_lost = on_lost};

    assert_int_equal(haproxy_open(&haproxy, &loop, &o), 0);
}

static void close_it(void)
{
    haproxy_close(haproxy);
    uv_run(&loop, UV_RUN_DEFAULT);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/muster-haproxy-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(admin, sizeof admin, "%s/admin", dir);
    assert_int_equal(pipe(guard), 0);
    guard_pid = fork();
    if (guard_pid == 0) {
        char byte;
        setsid(); /* who stops the test's whole group does not stop this */
        close(guard[1]);
        while (read(guard[0], &byte, 1) > 0) {
        }
        _exit(
            run("for p in /proc/[0-9]*; do test \"$(readlink $p/exe)\" = /usr/sbin/haproxy && "
                "grep -qs %s $p/cmdline && kill ${p#/proc/}; done; rm -rf %s",
                dir, dir));
    }
    close(guard[0]);
    fcntl(guard[1], F_SETFD, FD_CLOEXEC);
    lost = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    open_it();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    seen.n = 0;
    assert_int_equal(haproxy_stop(haproxy, on_done, NULL), 0);
    wait_for(&seen.n, 1, 15000);
    assert_false(haproxy_is_running(haproxy));
    close_it();
    assert_int_equal(uv_loop_close(&loop), 0);
    close(guard[1]);
    waitpid(guard_pid, NULL, 0);
    return 0;
}

static void it_starts_and_balances(void **state)
{
    bool has_a = false, has_b = false;

    (void)state;
    assert_false(haproxy_is_running(haproxy));
    set(config(FRONT, "  server a 127.0.0.1:8001\n  server b 127.0.0.1:8002"));
    assert_string_equal(seen.why, "");
    assert_int_equal(seen.err, 0);
    assert_true(haproxy_is_running(haproxy));
    for (unsigned i = 0; i < 4; i++) {
        char name = ask(FRONT);
        has_a = has_a || name == 'a';
        has_b = has_b || name == 'b';
    }
    assert_true(has_a && has_b);
    /* It stands on its own: its session is not ours. */
    assert_int_not_equal(getsid(master_pid()), getsid(0));
    assert_int_equal(getsid(master_pid()), master_pid());
}

static void a_later_life_finds_it(void **state)
{
    char path[128];

    (void)state;
    set(config(FRONT, "  server a 127.0.0.1:8001"));
    int pid = master_pid();
    close_it();
    assert_int_equal(ask(FRONT), 'a');
    open_it();
    assert_true(haproxy_is_running(haproxy));
    set(config(FRONT, "  server b 127.0.0.1:8002"));
    assert_int_equal(seen.err, 0);
    assert_int_equal(master_pid(), pid);
    assert_int_equal(ask(FRONT), 'b');

    /* Also without the pid file. */
    close_it();
    snprintf(path, sizeof path, "%s/haproxy.pid", dir);
    assert_int_equal(unlink(path), 0);
    open_it();
    assert_true(haproxy_is_running(haproxy));
    char text[16];
    int n = snprintf(text, sizeof text, "%d\n", pid);
    assert_int_equal(file_write(path, text, (size_t)n, 0600), 0);

    /* Its end is noticed, though it is no child of this life. */
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_for(&lost, 1, 5000);
    assert_int_equal(lost, 1);
    assert_false(haproxy_is_running(haproxy));
}

static void a_reload_takes_the_new_file_or_keeps_the_old(void **state)
{
    struct buf before = {0}, after = {0};
    char path[128];

    (void)state;
    set(config(FRONT, "  server a 127.0.0.1:8001"));
    for (unsigned i = 0; i < 3; i++) {
        set(config(FRONT,
                   i % 2 == 0 ? "  server b 127.0.0.1:8002" : "  server a 127.0.0.1:8001"));
        assert_string_equal(seen.why, "");
        assert_int_equal(ask(FRONT), i % 2 == 0 ? 'b' : 'a');
    }
    snprintf(path, sizeof path, "%s/haproxy.cfg", dir);
    assert_int_equal(file_read(path, 1 << 16, &before), 0);

    /* Refused before it is tried. */
    set(config(FRONT, "  server a 127.0.0.1:8001 nonsense"));
    assert_int_equal(seen.err, ERR_REFUSED);
    assert_non_null(strstr(seen.why, "nonsense"));
    assert_int_equal(ask(FRONT), 'b');

    /* Valid, but it cannot be had: the port is taken. */
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(TAKEN)};
    int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(taken, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(taken, 1), 0);
    set(config(TAKEN, "  server a 127.0.0.1:8001"));
    assert_int_equal(seen.err, ERR_REFUSED);
    assert_non_null(strstr(seen.why, "did not take"));
    assert_non_null(strstr(seen.why, "8003"));
    assert_int_equal(ask(FRONT), 'b');
    assert_int_equal(file_read(path, 1 << 16, &after), 0);
    assert_string_equal(buf_text(&before), buf_text(&after));
    close(taken);

    /* And it is not stuck after that. */
    set(config(FRONT, "  server a 127.0.0.1:8001"));
    assert_string_equal(seen.why, "");
    assert_int_equal(ask(FRONT), 'a');
    assert_int_equal(lost, 0);
    buf_free(&before);
    buf_free(&after);
}

static void a_start_that_fails_says_why(void **state)
{
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(TAKEN)};
    int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(bind(taken, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(taken, 1), 0);
    set(config(TAKEN, "  server a 127.0.0.1:8001"));
    assert_int_equal(seen.err, ERR_REFUSED);
    assert_non_null(strstr(seen.why, "8003"));
    assert_false(haproxy_is_running(haproxy));
    assert_string_equal(haproxy_failure(haproxy), seen.why);
    close(taken);
    set(config(FRONT, "  server a 127.0.0.1:8001"));
    assert_int_equal(seen.err, 0);
    assert_string_equal(haproxy_failure(haproxy), "");
}

static void commands_change_it_while_it_runs(void **state)
{
    static const char *const add[] = {"add server web/b 127.0.0.1:8002",
                                      "set server web/b state ready",
                                      "set server web/a state maint"};
    static const char *const move[] = {"set server web/b addr 127.0.0.1 port 8001"};
    static const char *const wrong[] = {"set server web/x state ready",
                                        "set server web/b state maint"};

    (void)state;
    set(config(FRONT, "  server a 127.0.0.1:8001"));
    int pid = master_pid();
    set_with(config(FRONT, "  server b 127.0.0.1:8002"), add, 3, false);
    assert_string_equal(seen.why, "");
    assert_int_equal(ask(FRONT), 'b');
    set_with(config(FRONT, "  server b 127.0.0.1:8001"), move, 1, false);
    assert_string_equal(seen.why, "");
    assert_int_equal(ask(FRONT), 'a');
    set_with(config(FRONT, "  server b 127.0.0.1:8001"), wrong, 2, false);
    assert_int_equal(seen.err, ERR_REFUSED);
    assert_non_null(strstr(seen.why, "No such server"));
    assert_non_null(strstr(seen.why, "web/x"));
    assert_int_equal(ask(FRONT), 'a'); /* the second was not given any more */
    assert_int_equal(master_pid(), pid);
}

static void what_is_lost_is_told_and_starts_again(void **state)
{
    (void)state;
    set(config(FRONT, "  server a 127.0.0.1:8001"));
    assert_int_equal(kill(master_pid(), SIGKILL), 0);
    wait_for(&lost, 1, 5000);
    assert_int_equal(lost, 1);
    set(config(FRONT, "  server b 127.0.0.1:8002"));
    assert_string_equal(seen.why, "");
    assert_int_equal(ask(FRONT), 'b');
    assert_int_equal(lost, 1);
}

static void requests_wait_for_each_other(void **state)
{
    (void)state;
    seen.n = 0;
    for (unsigned i = 0; i < HAPROXY_QUEUE_MAX; i++)
        assert_int_equal(haproxy_set(haproxy,
                                     config(FRONT, i % 2 == 0 ? "  server a 127.0.0.1:8001"
                                                              : "  server b 127.0.0.1:8002"),
                                     NULL, 0, true, on_done, NULL),
                         0);
    assert_int_equal(haproxy_set(haproxy, "", NULL, 0, true, on_done, NULL), ERR_BUSY);
    wait_for(&seen.n, HAPROXY_QUEUE_MAX, 20000);
    assert_int_equal(seen.n, HAPROXY_QUEUE_MAX);
    assert_int_equal(seen.err, 0);
    assert_int_equal(ask(FRONT), 'b');
}

/* A pid file may name anybody after a reboot. */
static void no_other_process_is_touched(void **state)
{
    char path[160], text[16];
    pid_t stranger = fork();

    (void)state;
    if (stranger == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    snprintf(path, sizeof path, "%s/haproxy.pid", dir);
    int n = snprintf(text, sizeof text, "%d\n", (int)stranger);
    assert_int_equal(file_write(path, text, (size_t)n, 0600), 0);
    close_it();
    open_it();
    assert_false(haproxy_is_running(haproxy));
    seen.n = 0;
    assert_int_equal(haproxy_stop(haproxy, on_done, NULL), 0);
    wait_for(&seen.n, 1, 5000);
    set(config(FRONT, "  server a 127.0.0.1:8001"));
    assert_int_equal(seen.err, 0);
    assert_int_equal(waitpid(stranger, NULL, WNOHANG), 0);
    assert_int_equal(kill(stranger, SIGKILL), 0);
    assert_int_equal(waitpid(stranger, NULL, 0), stranger);

    static const char *const rubbish[] = {"",    "-1\n", "0\n",
                                          "1\n", "x",    "99999999999999999999"};
    for (unsigned i = 0; i < sizeof rubbish / sizeof rubbish[0]; i++) {
        struct haproxy *other;
        char elsewhere[128];
        snprintf(elsewhere, sizeof elsewhere, "%s/other%u", dir, i);
        assert_int_equal(run("mkdir %s", elsewhere), 0);
        snprintf(path, sizeof path, "%s/haproxy.pid", elsewhere);
        assert_int_equal(file_write(path, rubbish[i], strlen(rubbish[i]), 0600), 0);
        const struct haproxy_options o = {
            .program = PROGRAM, .dir = elsewhere, .socket = admin, .on_lost = on_lost};
        assert_int_equal(haproxy_open(&other, &loop, &o), 0);
        assert_false(haproxy_is_running(other));
        haproxy_close(other);
    }
}

static void paths_have_limits(void **state)
{
    char longest[200];
    struct haproxy *other;
    struct haproxy_options o = {.program = "/nowhere", .dir = dir, .socket = admin};

    (void)state;
    assert_int_equal(haproxy_open(&other, &loop, &o), ERR_NOT_FOUND);
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    o = (struct haproxy_options){.program = PROGRAM, .dir = longest, .socket = admin};
    assert_int_equal(haproxy_open(&other, &loop, &o), ERR_TOO_BIG);
    o = (struct haproxy_options){.program = PROGRAM, .dir = dir, .socket = longest};
    assert_int_equal(haproxy_open(&other, &loop, &o), ERR_TOO_BIG);
}

static void answers_are_believed_only_when_known(void **state)
{
    struct haproxy_processes p;

    (void)state;
    assert_true(haproxy_is_confirmed(""));
    assert_true(haproxy_is_confirmed("\n\n"));
    assert_true(haproxy_is_confirmed("New server registered.\n\n"));
    assert_true(haproxy_is_confirmed("Server deleted.\n"));
    assert_true(haproxy_is_confirmed("IP changed from '1.1.1.1' to '1.1.1.2', no need ...\n"));
    assert_false(haproxy_is_confirmed("No such server.\n"));
    assert_false(haproxy_is_confirmed("Unknown command, but maybe ...\n"));
    assert_false(haproxy_is_confirmed("\xff\xfe"));

    assert_true(haproxy_parse_processes(
        "#<PID>          <type>          <reloads>       <uptime>        <version>\n"
        "11700           master          4 [failed: 1]   0d00h00m01s     2.6.12\n"
        "# workers\n"
        "11737           worker          2               0d00h00m00s     2.6.12\n"
        "# old workers\n"
        "11706           worker          3               0d00h00m01s     2.6.12\n"
        "# programs\n\n",
        &p));
    assert_int_equal(p.master, 11700);
    assert_int_equal(p.reloads, 4);
    assert_int_equal(p.failed, 1);
    assert_int_equal(p.worker, 11737);
    assert_int_equal(p.worker_reloads, 2);
    assert_false(haproxy_parse_processes("", &p));
    assert_false(haproxy_parse_processes("1 master 0 [failed: 0]\n# workers\n", &p));
    assert_false(haproxy_parse_processes("1 worker 0\n", &p));
    assert_false(haproxy_parse_processes("-1 master 0 [failed: 0]\n2 worker 0\n", &p));
    assert_false(haproxy_parse_processes("\xff 99999999999 master\n\n\n", &p));
}

#define RUNNING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_believed_only_when_known),
        RUNNING(it_starts_and_balances),
        RUNNING(a_later_life_finds_it),
        RUNNING(a_reload_takes_the_new_file_or_keeps_the_old),
        RUNNING(a_start_that_fails_says_why),
        RUNNING(commands_change_it_while_it_runs),
        RUNNING(what_is_lost_is_told_and_starts_again),
        RUNNING(requests_wait_for_each_other),
        RUNNING(no_other_process_is_touched),
        RUNNING(paths_have_limits),
    };

    if (access(PROGRAM, X_OK) != 0) {
        printf("test_host_haproxy: SKIPPED: there is no " PROGRAM "\n");
        return WORLD_SKIPPED;
    }
    if (!world_make("test_host_haproxy"))
        return WORLD_SKIPPED;
    signal(SIGPIPE, SIG_IGN);
    serve(0, A, 'a');
    serve(1, B, 'b');
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (unsigned i = 0; i < 2; i++) {
        kill(servers[i], SIGKILL);
        waitpid(servers[i], NULL, 0);
    }
    return failed;
}
