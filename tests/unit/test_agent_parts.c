/* SPDX-License-Identifier: Apache-2.0 */
/* Health of instances, pools and HAProxy's configuration, records in the tree, the verdict. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/balance.h"
#include "agent/machine.h"
#include "agent/registry.h"
#include "agent/service.h"
#include "agent/status.h"
#include "base/mem.h"
#include "base/rng.h"

static struct site *parse(const char *text)
{
    struct site_errors e;
    struct site *s = site_parse((const uint8_t *)text, strlen(text), &e);

    if (s == NULL)
        fail_msg("%s", e.v[0].text);
    return s;
}

/* ---- health ---- */

static void never_stopped(void *ctx, uint64_t op)
{
    (void)ctx, (void)op;
    fail();
}

static void note_stopped(void *ctx, uint64_t op) { *(uint64_t *)ctx = op; }

/* One check of the only instance, with this outcome. */
static enum service_state check_once(struct services *s, uint64_t *now,
                                     enum service_outcome outcome, int number)
{
    struct service_result r = {.outcome = outcome, .number = number, .took_ms = 12};

    *now = services_deadline(s) > *now ? services_deadline(s) : *now;
    struct service_instance *i = services_due(s, *now, (int64_t)*now, *now);
    assert_non_null(i);
    assert_null(services_due(s, *now, (int64_t)*now, *now + 1));
    assert_true(services_result(s, *now, &r, (int64_t)*now));
    return s->v[0].state;
}

static void the_first_answer_decides_then_rise_and_fall(void **state)
{
    (void)state;
    struct site *site =
        parse("site: a\nservices:\n  web: { port: 5, check: { http: /up, rise: 2, "
              "fall: 3 } }\n");
    struct services s;
    uint64_t now = 1000;

    services_init(&s, 1);
    services_set_site(&s, site, "a", now, never_stopped, NULL);
    assert_int_equal(s.v[0].state, SERVICE_UNKNOWN);
    assert_int_equal(services_deadline(&s), now); /* at once */
    assert_int_equal(check_once(&s, &now, SERVICE_STATUS, 503), SERVICE_FAILING);
    assert_string_equal(s.v[0].reason, "HTTP 503 in 12 ms");
    assert_int_equal(s.v[0].since_wall_ms, 1000);
    assert_int_equal(check_once(&s, &now, SERVICE_OK, 200), SERVICE_FAILING);
    assert_int_equal(check_once(&s, &now, SERVICE_REFUSED, 0), SERVICE_FAILING);
    assert_int_equal(check_once(&s, &now, SERVICE_OK, 200), SERVICE_FAILING);
    assert_int_equal(check_once(&s, &now, SERVICE_OK, 200), SERVICE_HEALTHY);
    assert_int_equal(check_once(&s, &now, SERVICE_NO_ANSWER, 0), SERVICE_HEALTHY);
    assert_string_equal(s.v[0].reason, "no answer within 500 ms");
    assert_int_equal(check_once(&s, &now, SERVICE_NO_ANSWER, 0), SERVICE_HEALTHY);
    assert_int_equal(check_once(&s, &now, SERVICE_OK, 200), SERVICE_HEALTHY);
    for (int i = 0; i < 2; i++)
        assert_int_equal(check_once(&s, &now, SERVICE_REFUSED, 0), SERVICE_HEALTHY);
    assert_int_equal(check_once(&s, &now, SERVICE_REFUSED, 0), SERVICE_FAILING);
    services_free(&s);
    site_free(site);
}

static void a_check_without_an_answer_fails_by_itself(void **state)
{
    (void)state;
    struct site *site = parse("site: a\nservices:\n  web: { port: 5 }\n");
    struct services s;
    struct service_result ok = {.outcome = SERVICE_OK};

    services_init(&s, 1);
    services_set_site(&s, site, "a", 1000, never_stopped, NULL);
    assert_non_null(services_due(&s, 1000, 1, 77));
    assert_int_equal(services_deadline(&s), 1000 + 500 + SERVICE_LATE_MS);
    services_due(&s, 1700, 2, 78);
    assert_int_equal(s.v[0].state, SERVICE_FAILING);
    assert_false(services_result(&s, 77, &ok, 3)); /* too late */
    services_free(&s);
    site_free(site);
}

static void a_new_site_keeps_what_stays_and_stops_what_goes(void **state)
{
    (void)state;
    struct site *one = parse("site: a\nservices:\n  web: { port: 5, instances: 2 }\n");
    struct site *two =
        parse("site: a\nservices:\n  web: { port: 6 }\n  x: { port: 9, machines: "
              "[b] }\n");
    struct services s;
    struct service_result ok = {.outcome = SERVICE_OK};
    uint64_t stopped = 0;

    services_init(&s, 1);
    services_set_site(&s, one, "a", 1000, never_stopped, NULL);
    assert_non_null(services_due(&s, 1000, 1, 1));
    assert_non_null(services_due(&s, 1000, 1, 2));
    assert_true(services_result(&s, 2, &ok, 1));
    services_set_site(&s, two, "a", 1100, note_stopped, &stopped);
    assert_int_equal(stopped, 1);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.v[0].port, 6);
    assert_int_equal(s.v[0].state, SERVICE_HEALTHY);
    services_free(&s);
    site_free(one);
    site_free(two);
}

static void reasons_have_the_measured_value(void **state)
{
    (void)state;
    struct site_check http = {.type = SITE_CHECK_HTTP, .timeout_ms = 250}, tcp = {0},
                      run = {.type = SITE_CHECK_EXEC};
    static const struct {
        int check;
        struct service_result r;
        const char *text;
    } rows[] = {
        {0, {SERVICE_OK, 204, 3, NULL}, "HTTP 204 in 3 ms"},
        {1, {SERVICE_OK, 0, 3, NULL}, "connected in 3 ms"},
        {0, {SERVICE_NO_ANSWER, 0, 250, NULL}, "no answer within 250 ms"},
        {1, {SERVICE_REFUSED, 0, 0, NULL}, "connection refused"},
        {2, {SERVICE_EXIT, 1, 9, "disk 97 %\nmore"}, "exit 1: disk 97 %"},
        {2, {SERVICE_EXIT, 2, 9, ""}, "exit 2"},
        {2, {SERVICE_SIGNAL, 9, 9, NULL}, "ended by signal 9"},
        {2, {SERVICE_ERROR, 0, 0, "no such\x1b program"}, "no such? program"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[SERVICE_REASON_MAX];
        service_reason(rows[i].check == 0   ? &http
                       : rows[i].check == 1 ? &tcp
                                            : &run,
                       &rows[i].r, text, sizeof text);
        assert_string_equal(text, rows[i].text);
    }
}

/* ---- pools ---- */

static const char balanced[] =
    "site: shop\nservices:\n  web: { port: 3000 }\nbalance:\n  web: { "
    "listen: 80 }\n";
static const struct balance_member abc[] = {
    {"a-3000", "10.0.0.1", 3000}, {"b-3000", "10.0.0.2", 3000}, {"c-3000", "10.0.0.3", 3000}};

static void offer(struct balance *b, const struct balance_member *v, unsigned n,
                  unsigned saying_none)
{
    struct balance_offer o = {.members = v,
                              .members_n = n,
                              .expected = abc,
                              .expected_n = 3,
                              .machines_known = 3,
                              .machines_saying_none = saying_none};

    balance_offer(b, "web", &o);
}

static enum balance_want next(struct balance *b, uint64_t now)
{
    return balance_step(b, now, now, "shop", "/run/haproxy.sock");
}

static void settle(struct balance *b, uint64_t now)
{
    while (next(b, now) == BALANCE_SET)
        balance_done(b, now);
}

static void an_empty_registry_empties_no_pool(void **state)
{
    (void)state;
    struct site *site = parse(balanced);
    struct balance b = {.n = 0};

    balance_set_site(&b, site);
    assert_int_equal(next(&b, 1), BALANCE_NOTHING); /* nothing is known yet */
    offer(&b, NULL, 0, 0);
    assert_int_equal(b.pools[0].on_n, 3); /* what is expected is tried */
    assert_true(b.pools[0].is_guess);
    settle(&b, 1);
    offer(&b, abc, 2, 0);
    assert_false(b.pools[0].is_guess);
    assert_int_equal(b.pools[0].on_n, 2);
    offer(&b, NULL, 0, 0);
    assert_int_equal(b.pools[0].on_n, 2);
    assert_true(b.pools[0].is_refused);
    assert_false(b.pools[0].is_reported_down);
    offer(&b, NULL, 0, 2);
    assert_int_equal(b.pools[0].on_n, 2);
    assert_true(b.pools[0].is_reported_down);
    assert_string_equal(b.pools[0].why,
                        "no instance is healthy, say 2 of 3 machines; the last 2 are kept");
    assert_int_equal(b.refused_total, 1);
    offer(&b, abc + 2, 1, 0);
    assert_int_equal(b.pools[0].on_n, 1);
    assert_false(b.pools[0].is_refused);
    balance_free(&b);
    site_free(site);
}

static void changes_are_made_without_a_reload(void **state)
{
    (void)state;
    struct site *site = parse(balanced);
    struct balance b = {.n = 0};

    balance_set_site(&b, site);
    offer(&b, abc, 2, 0);
    assert_int_equal(next(&b, 1), BALANCE_SET);
    assert_true(b.reload);
    assert_int_equal(b.commands_n, 0);
    assert_int_equal(next(&b, 2), BALANCE_NOTHING); /* one at a time */
    balance_done(&b, 1);
    assert_int_equal(next(&b, 3), BALANCE_NOTHING);
    offer(&b, abc + 1, 2, 0); /* a goes, c comes */
    assert_int_equal(next(&b, 4), BALANCE_SET);
    assert_false(b.reload);
    assert_int_equal(b.commands_n, 3);
    assert_string_equal(b.commands[0], "set server web/s3 addr 10.0.0.3 port 3000");
    assert_string_equal(b.commands[1], "set server web/s3 state ready");
    assert_string_equal(b.commands[2], "set server web/s1 state maint");
    assert_non_null(
        strstr(buf_text(&b.config), "server s1 10.0.0.1:3000 check disabled # a-3000"));
    assert_non_null(strstr(buf_text(&b.config), "server s3 10.0.0.3:3000 check # c-3000"));
    balance_done(&b, 4);
    offer(&b, abc, 3, 0); /* a gets its slot back */
    assert_int_equal(next(&b, 5), BALANCE_SET);
    assert_int_equal(b.commands_n, 1);
    assert_string_equal(b.commands[0], "set server web/s1 state ready");
    balance_failed(&b, 5, 5, "the socket is gone");
    assert_int_equal(next(&b, 6), BALANCE_NOTHING); /* not at once */
    assert_int_equal(balance_deadline(&b), 5 + BALANCE_RETRY_MS);
    assert_int_equal(next(&b, 5 + BALANCE_RETRY_MS), BALANCE_SET);
    assert_true(b.reload);
    balance_done(&b, 5 + BALANCE_RETRY_MS);
    balance_lost(&b);
    assert_int_equal(next(&b, 3000), BALANCE_SET);
    assert_true(b.reload);
    balance_free(&b);
    site_free(site);
}

static unsigned count_ready(char mode[64][8])
{
    unsigned n = 0;

    for (unsigned i = 0; i < 64; i++)
        n += strcmp(mode[i], "ready") == 0;
    return n;
}

/* What HAProxy would have after the commands is always what the file says, and at no moment
 * between two of them nobody is left: also where the only instance is exchanged for another. */
static void commands_and_file_always_agree(void **state)
{
    (void)state;
    struct site *site = parse(balanced);
    struct rng r = {11};

    for (int round = 0; round < 200; round++) {
        struct balance b = {.n = 0};
        char addr[64][32] = {{0}}, mode[64][8] = {{0}};
        balance_set_site(&b, site);
        for (uint64_t now = 1; now < 40; now++) {
            struct balance_member v[12];
            unsigned n = 0, only = (unsigned)rng_below(&r, 12);
            for (unsigned i = 0; i < 12; i++)
                if (round % 2 == 0 ? rng_below(&r, 3) > 0 : i == only) {
                    v[n] = (struct balance_member){.port = (uint16_t)(80 + rng_below(&r, 2))};
                    (void)snprintf(v[n].name, sizeof v[n].name, "m%u-80", i);
                    (void)snprintf(v[n].address, sizeof v[n].address, "10.0.0.%u", i + 1);
                    n++;
                }
            offer(&b, v, n, 0);
            if (next(&b, now) != BALANCE_SET)
                continue;
            for (size_t c = 0; c < b.commands_n; c++) {
                unsigned slot, port;
                char text[16];
                if (sscanf(b.commands[c], "set server web/s%u addr %15s port %u", &slot, text,
                           &port) == 3)
                    (void)snprintf(addr[slot], sizeof addr[0], "%s:%u", text, port);
                else if (sscanf(b.commands[c], "set server web/s%u state %7s", &slot, text) ==
                         2)
                    (void)snprintf(mode[slot], sizeof mode[0], "%.7s", text);
                else
                    fail_msg("%s", b.commands[c]);
                assert_true(count_ready(mode) > 0);
            }
            const char *line = buf_text(&b.config);
            while ((line = strstr(line, "    server s")) != NULL) {
                unsigned slot;
                char where[32], rest[32] = "";
                assert_true(
                    sscanf(line, "    server s%u %31s check %31s", &slot, where, rest) >= 2);
                const char *want = strcmp(rest, "disabled") == 0 ? "maint" : "ready";
                if (b.reload) {
                    (void)snprintf(addr[slot], sizeof addr[0], "%.31s", where);
                    (void)snprintf(mode[slot], sizeof mode[0], "%s", want);
                }
                assert_string_equal(addr[slot], where);
                assert_string_equal(mode[slot], want);
                line++;
            }
            balance_done(&b, now);
        }
        balance_free(&b);
    }
    site_free(site);
}

static void listeners_need_a_reload_and_nothing_stops_it(void **state)
{
    (void)state;
    struct site *one = parse(balanced);
    struct site *other =
        parse("site: shop\nservices:\n  web: { port: 3000 }\nbalance:\n  web: { "
              "listen: 8080 }\n");
    struct site *none = parse("site: shop\n");
    struct balance b = {.n = 0};

    balance_set_site(&b, one);
    offer(&b, abc, 3, 0);
    settle(&b, 1);
    assert_true(b.has_run);
    balance_set_site(&b, other);
    assert_int_equal(next(&b, 2), BALANCE_SET);
    assert_true(b.reload);
    assert_non_null(strstr(buf_text(&b.config), "bind :8080\n"));
    assert_int_equal(b.pools[0].on_n, 3);
    balance_done(&b, 2);
    balance_set_site(&b, none);
    assert_int_equal(next(&b, 3), BALANCE_STOP);
    assert_int_equal(next(&b, 4), BALANCE_NOTHING);
    balance_free(&b);
    site_free(one);
    site_free(other);
    site_free(none);
}

/* ---- records ---- */

static void an_instance_is_curators_json(void **state)
{
    (void)state;
    struct buf b = {0};
    struct balance_member m;

    registry_encode(&b, "web", "a", "10.0.0.1", 3000, 1700000000123);
    assert_string_equal(buf_text(&b),
                        "{\"name\":\"web\",\"id\":\"a-3000\",\"address\":\"10.0.0.1\",\"port\":"
                        "3000,\"sslPort\":null,\"payload\":null,\"registrationTimeUTC\":"
                        "1700000000123,\"serviceType\":\"DYNAMIC\",\"uriSpec\":null}");
    assert_true(registry_decode(b.data, b.len, "a-3000", &m));
    assert_string_equal(m.address, "10.0.0.1");
    assert_int_equal(m.port, 3000);
    static const char *const no[] = {"",
                                     "{}",
                                     "null",
                                     "[1]",
                                     "{\"address\":\"x\",\"port\":1}",
                                     "{\"address\":\"1.2.3.4/8\",\"port\":1}",
                                     "{\"address\":\"1.2.3.4\",\"port\":65536}",
                                     "{\"address\":\"1.2.3.4\",\"port\":\"1\"}"};
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        assert_false(registry_decode((const uint8_t *)no[i], strlen(no[i]), "a-3000", &m));
    assert_false(registry_decode(b.data, b.len, "a # \n", &m)); /* into a file of ours */
    buf_free(&b);
}

static void health_survives_the_way_and_bad_bytes(void **state)
{
    (void)state;
    struct machine_health h = {.version = "1", .is_fit = true, .load_x100 = 12}, *back;
    struct machine_instance one = {"web", 3000, "failing", "exit 1: \xff\xfe", 5};
    struct buf b = {0};
    struct rng r = {3};

    h.instances = &one;
    h.instances_n = 1;
    h.addresses[h.addresses_n++] =
        (struct machine_address){"10.0.0.100", "idle", "another machine answers", true};
    machine_health_encode(&b, &h);
    assert_true(machine_health_decode(b.data, b.len, &back));
    assert_string_equal(back->instances[0].why, "exit 1: ??");
    assert_true(back->addresses[0].is_avoided);
    assert_true(back->is_fit);
    machine_health_free(back);
    for (int i = 0; i < 20000; i++) {
        struct buf bad = {0};
        buf_add(&bad, b.data, b.len);
        for (uint64_t n = 1 + rng_below(&r, 3); n > 0; n--)
            bad.data[rng_below(&r, bad.len)] = (uint8_t) "{}[]:,\"0a\\"[rng_below(&r, 10)];
        if (machine_health_decode(bad.data, bad.len, &back))
            machine_health_free(back);
        buf_free(&bad);
    }
    buf_free(&b);
}

/* ---- the verdict ---- */

static struct status_server server = {.role = "leader",
                                      .leader = "a",
                                      .has_quorum = true,
                                      .members_n = 3,
                                      .members = {{"a", "10.0.0.1", true, true, 0},
                                                  {"b", "10.0.0.2", true, true, 5},
                                                  {"c", "10.0.0.3", true, true, 5}}};

static void expect_verdict(const struct status_view *v, int code, const char *text)
{
    struct buf out = {0};

    assert_int_equal(status_verdict(v, &out), code);
    assert_string_equal(buf_text(&out), text);
    buf_clear(&out);
    assert_int_equal(status_json(v, &out), code);
    json_t *j = json_loadb((const char *)out.data, out.len, 0, NULL);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "verdict")), text);
    json_decref(j);
    buf_free(&out);
}

static void the_verdict_says_the_worst_first_and_why(void **state)
{
    (void)state;
    struct status_machine machines[] = {{"a", "10.0.0.1", "alive", "leader", 0, ""},
                                        {"b", "10.0.0.2", "alive", "follower", 0, ""}};
    struct status_address address = {
        .address = "10.0.0.100", .holder = "a", .state = "held", .why = ""};
    struct status_instance web[] = {{"web", "a-3000", "a", "healthy", "", 5},
                                    {"web", "b-3000", "b", "healthy", "", 5}};
    struct status_pool pool = {.service = "web", .why = "", .on = 2};
    struct status_view v = {.site = "shop",
                            .machine = "a",
                            .site_why = "",
                            .balance_why = "",
                            .reaches_tree = true,
                            .server = &server,
                            .machines = machines,
                            .machines_n = 2,
                            .addresses = &address,
                            .addresses_n = 1,
                            .instances = web,
                            .instances_n = 2,
                            .pools = &pool,
                            .pools_n = 1};

    expect_verdict(&v, 0, "OK");
    server.members[2].is_reachable = false;
    expect_verdict(&v, 0, "OK, but one more loss stops writing");
    web[1].state = "failing", web[1].why = "HTTP 503 in 12 ms";
    expect_verdict(
        &v, 3,
        "DEGRADED: service web: 1 of 2 instances fail (b-3000: HTTP 503 in 12 ms); one "
        "more loss stops writing");
    server.members[2].is_reachable = true;
    v.is_cut_short = true, web[1].state = "healthy";
    expect_verdict(&v, 3,
                   "DEGRADED: agents look only at 65536 znodes and 32 MiB below /muster and "
                   "/services, and there is more: delete what nobody needs");
    v.is_cut_short = false;
    machines[1].state = "gone", machines[1].age_ms = 12300;
    web[1].state = "gone", web[1].why = "its machine is gone";
    expect_verdict(&v, 3, "DEGRADED: machine b is gone, last seen 12.3 s ago");
    address.state = "unheld", address.holder = NULL;
    expect_verdict(
        &v, 4,
        "DOWN: address 10.0.0.100 has no holder; machine b is gone, last seen 12.3 s "
        "ago");
    address.state = "unknown";
    v.reaches_tree = false, v.as_of_ms_ago = 900;
    machines[1].state = "unknown";
    server.has_quorum = false;
    server.members[1].is_reachable = server.members[2].is_reachable = false;
    expect_verdict(
        &v, 3,
        "DEGRADED: no quorum: 1 of 3 servers reachable, nothing can be written; this "
        "machine does not reach the tree, its view is 900 ms old");
    web[0].state = "failing", web[0].why = "connection refused";
    v.server = NULL, v.as_of_ms_ago = UINT64_MAX;
    expect_verdict(
        &v, 4,
        "DOWN: service web has no healthy instance (a-3000: connection refused); this "
        "machine has not read the tree yet");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_answer_decides_then_rise_and_fall),
        cmocka_unit_test(a_check_without_an_answer_fails_by_itself),
        cmocka_unit_test(a_new_site_keeps_what_stays_and_stops_what_goes),
        cmocka_unit_test(reasons_have_the_measured_value),
        cmocka_unit_test(an_empty_registry_empties_no_pool),
        cmocka_unit_test(changes_are_made_without_a_reload),
        cmocka_unit_test(commands_and_file_always_agree),
        cmocka_unit_test(listeners_need_a_reload_and_nothing_stops_it),
        cmocka_unit_test(an_instance_is_curators_json),
        cmocka_unit_test(health_survives_the_way_and_bad_bytes),
        cmocka_unit_test(the_verdict_says_the_worst_first_and_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
