/* SPDX-License-Identifier: Apache-2.0 */
/* Three whole agents with the real client and mirror on a real server of one, in virtual
 * time; the test is their host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/agent.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/client.h"
#include "lone_member.h"

enum { N = 3 };
#define VIP "10.0.0.100"

struct machine {
    struct agent *agent;
    struct client *client;
    uint64_t conn; /* 0: none */
    bool fails_checks;
    uint64_t probe_op, probe_due_ms, kernel_until_ms;
    char config[4096];
    unsigned sets, reloads, removed, announced;
    bool is_off;
    unsigned left_out; /* notes that machines were */
};

static struct lone l;
static struct machine m[N];
static uint64_t conns;

static void on_event(void *ctx, enum client_event ev)
{
    struct machine *x = ctx;

    if (x->agent != NULL)
        agent_client_event(x->agent, ev);
}

static void on_watch(void *ctx, int type, const char *path)
{
    agent_client_watch(((struct machine *)ctx)->agent, type, path);
}

static void result(struct machine *x, enum agent_result_type type, uint64_t op)
{
    struct agent_result r = {.type = type, .op = op, .address = VIP};

    r.check.outcome = x->fails_checks ? SERVICE_STATUS : SERVICE_OK;
    r.check.number = x->fails_checks ? 503 : 200;
    r.check.took_ms = 4;
    agent_result(x->agent, &r);
}

static void carry_out(struct machine *x, const struct agent_action *act)
{
    switch (act->type) {
    case AGENT_ADDRESS_PROBE:
        x->probe_op = act->op;
        x->probe_due_ms = l.now_ms + 30;
        break;
    case AGENT_ADDRESS_ADD:
        assert_null(act->dev);
        assert_int_equal(act->prefix, 32);
        assert_true(act->until_ms > l.now_ms);
        x->kernel_until_ms = act->until_ms;
        result(x, AGENT_ADDED, act->op);
        break;
    case AGENT_ADDRESS_RENEW: x->kernel_until_ms = act->until_ms; break;
    case AGENT_ADDRESS_REMOVE:
        x->kernel_until_ms = 0;
        x->removed++;
        result(x, AGENT_REMOVED, act->op);
        break;
    case AGENT_ADDRESS_ANNOUNCE: x->announced++; break;
    case AGENT_CHECK_RUN:
        assert_string_equal(act->check->path, "/up");
        result(x, AGENT_CHECKED, act->op);
        break;
    case AGENT_BALANCE_SET:
        (void)snprintf(x->config, sizeof x->config, "%s", act->config);
        x->sets++;
        x->reloads += act->reload;
        result(x, AGENT_BALANCE_DONE, act->op);
        break;
    case AGENT_CHECK_STOP:
    case AGENT_BALANCE_STOP:
    case AGENT_PEER_SEND: break;
    case AGENT_NOTE: x->left_out += strcmp(act->ev, "machines_left_out") == 0; break;
    }
}

static void move_bytes(struct machine *x)
{
    struct buf *out = client_output(x->client);
    unsigned server;

    switch (client_wants(x->client, l.now_ms, &server)) {
    case CLIENT_WANT_CONNECTION:
        x->conn = ++conns;
        lone_open(&l, x->conn);
        client_opened(x->client, l.now_ms);
        break;
    case CLIENT_WANT_CLOSE:
        if (x->conn != 0 && !l.closed[x->conn])
            member_client_closed(l.member, x->conn);
        x->conn = 0;
        break;
    case CLIENT_WANT_NOTHING: break;
    }
    while (x->conn != 0 && out->len >= 4 && out->len >= 4 + be32_get(out->data)) {
        uint32_t len = be32_get(out->data);
        lone_frame(&l, x->conn, out->data + 4, len);
        buf_consume(out, 4 + len);
    }
    if (x->conn != 0 && l.out[x->conn].len > 0) {
        struct buf got = l.out[x->conn];
        l.out[x->conn] = (struct buf){0};
        client_received(x->client, l.now_ms, got.data, got.len);
        buf_free(&got);
    }
    if (x->conn != 0 && l.closed[x->conn]) {
        x->conn = 0;
        client_closed(x->client, l.now_ms);
    }
}

static void turn(struct machine *x)
{
    struct agent_action act;

    agent_time(x->agent, l.now_ms, 1700000000000 + (int64_t)l.now_ms);
    client_time(x->client, l.now_ms);
    for (int i = 0; i < 4; i++)
        move_bytes(x);
    if (x->probe_op != 0 && l.now_ms >= x->probe_due_ms) {
        uint64_t op = x->probe_op;
        x->probe_op = 0;
        result(x, AGENT_PROBED, op);
    }
    agent_flush(x->agent);
    while (agent_action_take(x->agent, &act))
        carry_out(x, &act);
    for (int i = 0; i < 4; i++)
        move_bytes(x);
}

static unsigned holders(void)
{
    unsigned n = 0;

    for (int i = 0; i < N; i++)
        n += m[i].kernel_until_ms > l.now_ms;
    return n;
}

static void run(uint64_t ms)
{
    for (uint64_t end = l.now_ms + ms; l.now_ms < end;) {
        lone_run(&l, 1);
        for (int i = 0; i < N; i++)
            if (!m[i].is_off)
                turn(&m[i]);
        assert_true(holders() <= 1);
    }
}

static int holder(void)
{
    for (int i = 0; i < N; i++)
        if (m[i].kernel_until_ms > l.now_ms)
            return i;
    return -1;
}

static void done(void *ctx, const struct client_reply *r) { *(int *)ctx = r->err; }

static int apply(const char *text)
{
    int err = 1;

    client_set(m[0].client, l.now_ms, "/muster/site", text, strlen(text), -1, done, &err);
    run(20);
    if (err == ERR_NO_NODE) {
        client_create(m[0].client, l.now_ms, "/muster/site", text, strlen(text), 0, done, &err);
        run(20);
    }
    return err;
}

static bool is_there(const char *path)
{
    return tree_get(member_tree(l.member), path, &(const uint8_t *){NULL}, &(size_t){0});
}

static const char site_text[] =
    "site: shop\nlease: 2s\naddresses: [" VIP "]\nservices:\n  web: { "
    "port: 3000, check: { http: /up, interval: 500ms } }\nbalance:\n  "
    "web: { listen: 80 }\n";

static void start(int i)
{
    static const char *const names[] = {"a", "b", "c"};
    static const char *const addresses[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3"};
    struct client_options c = {.timeout_ms = 2000,
                               .seed = 7 + (uint64_t)i,
                               .servers = 1,
                               .on_event = on_event,
                               .on_watch = on_watch,
                               .ctx = &m[i]};
    struct agent_options o = {.machine = names[i],
                              .address = addresses[i],
                              .id = names[i],
                              .version = "0.1",
                              .seed = 70 + (uint64_t)i,
                              .balance_socket = "/run/x.sock"};

    m[i] = (struct machine){.client = client_new(&c)};
    m[i].agent = agent_new(&o, m[i].client);
}

static void stop(int i)
{
    agent_free(m[i].agent);
    client_free(m[i].client);
    if (m[i].conn != 0 && !l.closed[m[i].conn])
        member_client_closed(l.member, m[i].conn);
}

static int setup(void **state)
{
    (void)state;
    lone_start(&l, 5);
    memset(m, 0, sizeof m);
    conns = 0;
    for (int i = 0; i < N; i++)
        start(i);
    run(500);
    assert_int_equal(apply(site_text), 0);
    run(1500);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++)
        stop(i);
    lone_stop(&l);
    return 0;
}

static void expect_status(int i, int code, const char *verdict)
{
    struct buf json = {0};

    int got = agent_status(m[i].agent, NULL, &json);
    if (got != code || strstr(buf_text(&json), verdict) == NULL)
        fail_msg("%d %s", got, buf_text(&json));
    buf_free(&json);
}

static void a_site_comes_up(void **state)
{
    (void)state;
    assert_int_equal(holders(), 1);
    assert_true(m[holder()].announced >= 4);
    assert_true(is_there("/muster/machines/b/alive"));
    assert_true(is_there("/muster/addresses/" VIP));
    for (int i = 0; i < N; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/services/web/%c-3000", 'a' + i);
        assert_true(is_there(path));
        assert_non_null(strstr(m[i].config, "10.0.0.1:3000 check # a-3000"));
        assert_non_null(strstr(m[i].config, "10.0.0.3:3000 check # c-3000"));
        assert_int_equal(m[i].reloads, 1);
        expect_status(i, 0, "{\"verdict\":\"OK\",");
    }
}

static void a_dead_holder_is_followed_within_the_lease(void **state)
{
    (void)state;
    int was = holder();
    uint64_t from = l.now_ms;

    m[was].is_off = true;
    while (holder() == was)
        run(1);
    assert_true(l.now_ms - from < 2000); /* the kernel alone took it away, before the lease */
    while (holder() < 0 && l.now_ms < from + 4000)
        run(1);
    assert_true(holder() >= 0);
    assert_true(l.now_ms - from < 2000 + 200);
    run(1100);
    expect_status(holder(), 3, "is gone, last seen");
}

static void leaving_hands_over_at_once(void **state)
{
    (void)state;
    int was = holder();
    char path[64];

    agent_leave(m[was].agent);
    uint64_t from = l.now_ms;
    while ((holder() == was || holder() < 0) && l.now_ms < from + 3000)
        run(1);
    assert_true(l.now_ms - from < 100);
    run(50);
    assert_true(agent_is_done(m[was].agent));
    (void)snprintf(path, sizeof path, "/muster/machines/%c/alive", 'a' + was);
    assert_false(is_there(path));
    (void)snprintf(path, sizeof path, "/services/web/%c-3000", 'a' + was);
    assert_false(is_there(path));
}

static void a_failing_instance_leaves_the_pool_and_comes_back(void **state)
{
    (void)state;
    m[1].fails_checks = true;
    run(1500);
    assert_false(is_there("/services/web/b-3000"));
    assert_non_null(strstr(m[0].config, "10.0.0.2:3000 check disabled"));
    run(1000);
    expect_status(2, 3, "service web: 1 of 3 instances fail (b-3000: HTTP 503 in 4 ms)");
    m[1].fails_checks = false;
    run(1500);
    assert_non_null(strstr(m[0].config, "10.0.0.2:3000 check # b-3000"));
    assert_int_equal(m[0].reloads, 1);
}

static void the_last_pool_stays_when_all_fail(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++)
        m[i].fails_checks = true;
    run(4000);
    assert_false(is_there("/services/web/a-3000"));
    assert_non_null(strstr(m[0].config, ":3000 check #"));
    expect_status(0, 4, "DOWN: service web has no healthy instance (a-3000: HTTP 503 in 4 ms)");
}

static void a_broken_site_changes_nothing_but_the_status(void **state)
{
    (void)state;
    int was = holder();

    assert_int_equal(apply("site: shop\nadresses: []\n"), 0);
    run(500);
    assert_int_equal(holder(), was);
    expect_status(0, 3, "the applied site is refused: line 2: unknown key");
    assert_int_equal(apply(site_text), 0);
    expect_status(0, 0, "\"OK\"");
}

static void an_address_that_leaves_the_site_is_removed(void **state)
{
    (void)state;
    assert_int_equal(apply("site: shop\n"), 0);
    run(200);
    assert_int_equal(holders(), 0);
    assert_false(is_there("/muster/addresses/" VIP));
}

static void the_lease_can_change_without_a_gap(void **state)
{
    (void)state;
    static const char *const leases[] = {"8s", "600ms", "2s"};
    static const uint32_t ms[] = {8000, 600, 2000};

    for (int i = 0; i < 3; i++) {
        struct buf text = {0};
        int was = holder();
        buf_printf(&text, "site: shop\nlease: %s\naddresses: [" VIP "]\n", leases[i]);
        assert_int_equal(apply(buf_text(&text)), 0);
        for (int k = 0; k < 9000; k += 100) {
            run(100);
            assert_int_equal(holder(), was);
        }
        assert_int_equal(client_timeout_ms(m[was].client), ms[i]);
        if (m[was].kernel_until_ms > l.now_ms + ms[i])
            fail_msg("%d: %d", i, (int)(m[was].kernel_until_ms - l.now_ms));
        buf_free(&text);
    }
}

static void a_lost_session_lets_go_and_registers_again(void **state)
{
    (void)state;
    int was = holder();
    unsigned removed = m[was].removed;

    m[was].is_off = true; /* frozen: longer than the lease */
    run(5000);
    int now = holder();
    assert_true(now >= 0 && now != was);
    m[was].is_off = false;
    run(3000);
    assert_true(m[was].removed > removed);
    assert_int_equal(holder(), now);
    char path[64];
    (void)snprintf(path, sizeof path, "/services/web/%c-3000", 'a' + was);
    assert_true(is_there(path));
    expect_status(was, 0, "\"OK\"");
}

/* It may have promised before, and those who are gone may live by that. */
static void a_restarted_agent_waits_a_lease_if_others_are_gone(void **state)
{
    (void)state;
    int was = holder(), next = (was + 1) % N;

    for (int i = 0; i < N; i++)
        m[i].is_off = true;
    run(1900);
    stop(next);
    start(next);
    uint64_t from = l.now_ms;
    while (holder() != next && l.now_ms < from + 4000)
        run(1);
    assert_true(l.now_ms - from > 2000);
    assert_true(l.now_ms - from < 2300);
}

static void ignored(void *ctx, const struct client_reply *r) { (void)ctx, (void)r; }

/* Whoever may write below /muster/machines can make as many as the mirror holds: looking at
 * them all took seconds, at each change, and the server's heartbeats waited. */
static void more_machines_than_can_be_are_left_out(void **state)
{
    static const char text[] = "{\"address\":\"10.0.0.9\",\"id\":\"x\"}";
    struct buf json = {0};
    unsigned shown = 0;

    (void)state;
    for (unsigned i = 0; i < AGENT_MACHINES_MAX + 100; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/muster/machines/0-%05u", i); /* before a, b, c */
        client_create(m[0].client, l.now_ms, path, text, sizeof text - 1, 0, ignored, NULL);
        if (i % 100 == 0)
            run(10);
    }
    run(100);
    assert_true(holder() >= 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(m[i].left_out, 1);
        assert_non_null(strstr(m[i].config, "10.0.0.3:3000 check # c-3000"));
    }
    (void)agent_status(m[1].agent, NULL, &json);
    for (const char *at = buf_text(&json);
         (at = strstr(at, "\"address\":\"10.0.0.9\"")) != NULL; at++)
        shown++;
    assert_int_equal(shown, AGENT_MACHINES_MAX);
    assert_non_null(strstr(buf_text(&json), "\"name\":\"b\""));
    buf_free(&json);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_site_comes_up),
        T(a_dead_holder_is_followed_within_the_lease),
        T(leaving_hands_over_at_once),
        T(a_failing_instance_leaves_the_pool_and_comes_back),
        T(the_last_pool_stays_when_all_fail),
        T(a_broken_site_changes_nothing_but_the_status),
        T(an_address_that_leaves_the_site_is_removed),
        T(the_lease_can_change_without_a_gap),
        T(a_lost_session_lets_go_and_registers_again),
        T(a_restarted_agent_waits_a_lease_if_others_are_gone),
        T(more_machines_than_can_be_are_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
