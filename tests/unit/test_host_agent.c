/* SPDX-License-Identifier: Apache-2.0 */
/* One machine whole: a server, the agent on its loop, HAProxy, a web server, one virtual
 * address; and from another machine's side what of it answers, while the process that holds
 * it is started, stopped in order, frozen and killed.
 */
#include "host_world.h"

#include <sys/prctl.h>
#include <uv.h>

#include "base/buf.h"
#include "base/log.h"
#include "client/client_uv.h"
#include "host/agent_uv.h"
#include "server/secret.h"
#include "server/server.h"

#define VIP "10.9.0.100"
#define VERSION "test"
enum { LEASE_MS = 1000, WEB = 3000, FRONT = 80 };

static char dir[64];
static struct prober prober;
static pid_t web, machine, guard;
static int guard_pipe[2];

/* ---- the machine: a process of its own ---- */

static struct {
    struct server *server;
    struct agent_uv *agent;
    uv_signal_t term;
} child;

static void on_server_stopped(void *ctx)
{
    (void)ctx;
    uv_close((uv_handle_t *)&child.term, NULL);
}

static void on_agent_stopped(void *ctx)
{
    (void)ctx;
    server_stop(child.server, on_server_stopped, NULL);
}

static void on_term(uv_signal_t *signal, int number)
{
    (void)signal, (void)number;
    agent_uv_stop(child.agent, on_agent_stopped, NULL);
}

static unsigned on_status(void *ctx, struct buf *json)
{
    (void)ctx;
    (void)agent_uv_status(child.agent, json);
    return 200;
}

static void on_metrics(void *ctx, struct buf *text)
{
    (void)ctx;
    agent_uv_metrics(child.agent, text);
}

static void on_disk_failed(void *ctx, int err)
{
    (void)ctx, (void)err;
    _exit(10);
}

static int machine_main(void)
{
    static const char *const servers[] = {"127.0.0.1:2181"};
    uv_loop_t *loop = uv_default_loop();
    struct identity self;
    struct buf why = {0};
    char data[96];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    log_init(getenv("TEST_LOG") != NULL ? stderr : NULL, "a", LOG_DEBUG, clock_wall_ms);
    snprintf(data, sizeof data, "%s/data", dir);
    if (identity_load(&self, data, &why) != 0) {
        buf_clear(&why);
        self = (struct identity){.id = 1, .name = "a", .address = "127.0.0.1"};
        secret_random(self.cluster, CLUSTER_LEN);
        secret_random(self.secret, SECRET_LEN);
        self.peers.n = 1;
        self.peers.v[0] = (struct raft_member){
            .id = 1, .voter = true, .name = "a", .address = "127.0.0.1:2182"};
        if (server_create(data, &self, &why) != 0)
            return 2;
    }
    const struct server_options server = {.dir = data,
                                          .settings = settings_default(),
                                          .self = &self,
                                          .client_address = "127.0.0.1",
                                          .client_port = 2181,
                                          .http_address = "127.0.0.1",
                                          .http_port = 2180,
                                          .version = VERSION,
                                          .status = on_status,
                                          .metrics = on_metrics,
                                          .failed = on_disk_failed};
    if (server_start(&child.server, loop, &server, &why) != 0) {
        fprintf(stderr, "%s\n", buf_text(&why));
        return 3;
    }
    buf_free(&why);
    const struct agent_uv_options agent = {.machine = "a",
                                           .address = "10.9.0.1",
                                           .id = "0000000000000001",
                                           .version = VERSION,
                                           .dir = dir,
                                           .servers = servers,
                                           .servers_n = 1,
                                           .seed = clock_wall_ms(),
                                           .has_haproxy = true};
    if (agent_uv_start(&child.agent, loop, &agent) != 0)
        return 4;
    uv_signal_init(loop, &child.term);
    uv_signal_start(&child.term, on_term, SIGTERM);
    uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop) == 0 ? 0 : 5;
}

static void start_machine(void)
{
    machine = fork();
    if (machine == 0)
        exit(machine_main()); /* not _exit: the sanitizer looks for leaks */
}

/* ---- the web server, and who asks for its page ---- */

static void start_web(void)
{
    web = fork();
    if (web != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(WEB)};
    static const char answer[] = "HTTP/1.0 200 OK\r\n\r\nhello";
    char request[1024];
    const int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (const struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 64) != 0)
        _exit(1);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (read(fd, request, sizeof request) > 0)
            (void)!write(fd, answer, sizeof answer - 1);
        close(fd);
    }
}

/* GET from the address; in *out what came. True when that contains `text`. */
static bool page_has(const char *address, uint16_t port, const char *path, const char *text)
{
    static char page[65536];
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = ip(address)};
    const struct timeval limit = {.tv_usec = 300000};
    char request[128];
    size_t len = 0;
    ssize_t n;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int request_len = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 &&
        write(fd, request, (size_t)request_len) == request_len)
        while ((n = read(fd, page + len, sizeof page - 1 - len)) > 0)
            len += (size_t)n;
    close(fd);
    page[len] = 0;
    return strstr(page, text) != NULL;
}

static bool peer_gets_the_page(void)
{
    stand_in(world.peer);
    bool ok = page_has(VIP, FRONT, "/", "hello");
    stand_in(world.machine);
    return ok;
}

/* ---- a client of the tree ---- */

static struct {
    uv_loop_t loop;
    struct client_uv *uv;
    bool is_done;
    int err;
    char data[256];
} tree;

static void on_event(void *ctx, enum client_event ev) { (void)ctx, (void)ev; }

static void on_watch(void *ctx, int type, const char *path)
{
    (void)ctx, (void)type, (void)path;
}

static void on_reply(void *ctx, const struct client_reply *r)
{
    (void)ctx;
    tree.is_done = true;
    tree.err = r->err;
    snprintf(tree.data, sizeof tree.data, "%.*s", r->len > 0 ? (int)r->len : 0,
             r->data != NULL ? (const char *)r->data : "");
}

static uint64_t now(void) { return clock_now_ms(); }

static int answer(void)
{
    uint64_t limit_ms = clock_now_ms() + 10000;

    tree.is_done = false;
    client_uv_kick(tree.uv);
    while (!tree.is_done && clock_now_ms() < limit_ms) {
        uv_run(&tree.loop, UV_RUN_NOWAIT);
        usleep(500);
    }
    return tree.is_done ? tree.err : -1;
}

static void open_tree(void)
{
    static const char *const servers[] = {"127.0.0.1:2181"};
    const struct client_uv_options o = {.loop = &tree.loop,
                                        .client = {.timeout_ms = 10000,
                                                   .servers = 1,
                                                   .on_event = on_event,
                                                   .on_watch = on_watch},
                                        .addresses = servers,
                                        .now_ms = now};
    unsigned bad;

    assert_int_equal(uv_loop_init(&tree.loop), 0);
    assert_int_equal(client_uv_new(&tree.uv, &o, &bad), 0);
}

static void close_tree(void)
{
    client_uv_free(tree.uv);
    uv_run(&tree.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&tree.loop), 0);
}

static int tree_has(const char *path)
{
    client_exists(client_uv_client(tree.uv), now(), path, false, on_reply, NULL);
    return answer();
}

static void apply_site(void)
{
    char site[512];
    int n = snprintf(site, sizeof site,
                     "site: shop\nlease: %dms\naddresses:\n  - " VIP "\nservices:\n  web:\n"
                     "    port: %d\n    check: { http: / }\nbalance:\n  web: { listen: %d }\n",
                     LEASE_MS, WEB, FRONT);

    client_create(client_uv_client(tree.uv), now(), "/muster", NULL, 0, 0, on_reply, NULL);
    (void)answer(); /* it may be there */
    client_create(client_uv_client(tree.uv), now(), "/muster/site", site, (size_t)n, 0,
                  on_reply, NULL);
    assert_int_equal(answer(), 0);
}

/* ---- ---- */

static bool is_present(void) { return run("ip addr show | grep -q 'inet " VIP "/'") == 0; }

/* Asks until another machine gets answers, or gets none for 100 ms. */
static bool wait_for_answers(bool wanted, unsigned limit_ms)
{
    uint64_t limit = clock_now_ms() + limit_ms;

    prober_read(&prober);
    prober.arps = prober.echos = 0;
    while (clock_now_ms() < limit) {
        prober_run(&prober, clock_now_ms() + (wanted ? 10 : 100));
        if ((prober.arps > 0 && prober.echos > 0) == wanted &&
            (wanted || prober.arps + prober.echos == 0))
            return true;
        prober.arps = prober.echos = 0;
    }
    return false;
}

static void it_serves(void)
{
    if (!wait_for_answers(true, 10000)) {
        run("curl -s --max-time 2 http://127.0.0.1:2180/status"); /* why */
        fail_msg("%s", "the address does not answer");
    }
    uint64_t limit_ms = clock_now_ms() + 10000;
    bool ok = false;
    while (!ok && clock_now_ms() < limit_ms)
        ok = peer_gets_the_page();
    assert_true(ok);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/muster-agent-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pipe(guard_pipe), 0);
    guard = fork();
    if (guard == 0) {
        char byte;
        setsid();
        close(guard_pipe[1]);
        while (read(guard_pipe[0], &byte, 1) > 0) {
        }
        _exit(
            run("for p in /proc/[0-9]*; do test \"$(readlink $p/exe)\" = /usr/sbin/haproxy && "
                "grep -qs %s $p/cmdline && kill ${p#/proc/}; done; rm -rf %s",
                dir, dir));
    }
    close(guard_pipe[0]);
    fcntl(guard_pipe[1], F_SETFD, FD_CLOEXEC);
    prober_open(&prober, ip(VIP));
    start_web();
    start_machine();
    open_tree();
    apply_site();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_tree();
    kill(web, SIGKILL);
    waitpid(web, NULL, 0);
    if (machine > 0) {
        kill(machine, SIGKILL);
        waitpid(machine, NULL, 0);
    }
    prober_close(&prober);
    close(guard_pipe[1]);
    waitpid(guard, NULL, 0);
    run("ip addr del " VIP "/32 dev eth0 2>/dev/null; nft flush ruleset");
    return 0;
}

static unsigned resident_kb(pid_t pid)
{
    char path[64], line[128];
    unsigned kb = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        sscanf(line, "VmRSS: %u", &kb);
    if (f != NULL)
        fclose(f);
    return kb;
}

static void a_machine_serves_and_leaves_in_order(void **state)
{
    int status;

    (void)state;
    it_serves();
    printf("  resident: %u kB\n", resident_kb(machine));
    assert_int_equal(tree_has("/muster/addresses/" VIP), 0);
    assert_int_equal(tree_has("/services/web/a-3000"), 0);
    assert_true(page_has("127.0.0.1", 2180, "/status", "\"verdict\""));
    assert_true(page_has("127.0.0.1", 2180, "/metrics", "muster_agent_addresses_held 1"));
    assert_true(page_has("127.0.0.1", 2180, "/metrics", "muster_agent_haproxy_running 1"));

    assert_int_equal(kill(machine, SIGTERM), 0);
    uint64_t limit_ms = clock_now_ms() + 10000;
    while (waitpid(machine, &status, WNOHANG) == 0 && clock_now_ms() < limit_ms)
        usleep(1000);
    machine = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_false(is_present());
    assert_int_equal(run("nft list tables | grep -q muster"), 1);
    /* What is stateless goes on, and holds nothing of ours. */
    assert_int_equal(run("ss -ltn | grep -q ':218[012] '"), 1);
    assert_true(page_has("10.9.0.1", FRONT, "/", "hello"));

    /* The session was closed, not left to expire: the next life need not wait for it. */
    start_machine();
    uint64_t started_ms = clock_now_ms();
    it_serves();
    printf("  serves again %d ms after the start\n", (int)(clock_now_ms() - started_ms));
}

static void ends_with_its_lease_after(int number)
{
    it_serves();
    assert_int_equal(kill(machine, number), 0);
    uint64_t at_ms = clock_now_ms();
    assert_true(wait_for_answers(false, 5000));
    printf("  %s: last ARP answer after %d ms, last echo after %d ms\n", strsignal(number),
           (int)(prober.last_arp_ms - at_ms), (int)(prober.last_echo_ms - at_ms));
    assert_true(prober.last_arp_ms <= at_ms + LEASE_MS);
    assert_true(prober.last_echo_ms <= at_ms + LEASE_MS);
}

static void a_killed_agent_loses_the_address_with_its_lease(void **state)
{
    (void)state;
    ends_with_its_lease_after(SIGKILL);
    waitpid(machine, NULL, 0);
    assert_true(page_has("10.9.0.1", FRONT, "/", "hello"));
    start_machine();
    it_serves();
}

static void a_frozen_agent_loses_it_and_thaws_without_it(void **state)
{
    (void)state;
    ends_with_its_lease_after(SIGSTOP);
    /* Long enough for the session to expire, had the server not been frozen with it. */
    usleep(300000);
    assert_int_equal(kill(machine, SIGCONT), 0);
    it_serves();
}

static void a_failing_service_is_seen_and_told(void **state)
{
    (void)state;
    it_serves();
    kill(web, SIGKILL);
    waitpid(web, NULL, 0);
    uint64_t limit_ms = clock_now_ms() + 10000;
    while (tree_has("/services/web/a-3000") == 0 && clock_now_ms() < limit_ms)
        usleep(10000);
    assert_int_not_equal(tree_has("/services/web/a-3000"), 0);
    assert_true(page_has("127.0.0.1", 2180, "/status", "connection refused"));
    start_web();
    limit_ms = clock_now_ms() + 10000;
    while (tree_has("/services/web/a-3000") != 0 && clock_now_ms() < limit_ms)
        usleep(10000);
    it_serves();
}

#define WHOLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WHOLE(a_machine_serves_and_leaves_in_order),
        WHOLE(a_killed_agent_loses_the_address_with_its_lease),
        WHOLE(a_frozen_agent_loses_it_and_thaws_without_it),
        WHOLE(a_failing_service_is_seen_and_told),
    };

    if (access(AGENT_UV_HAPROXY, X_OK) != 0) {
        printf("test_host_agent: SKIPPED: there is no " AGENT_UV_HAPROXY "\n");
        return WORLD_SKIPPED;
    }
    if (!world_make("test_host_agent"))
        return WORLD_SKIPPED;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
