/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual addresses as a whole: added, renewed, removed in the safe order, what an earlier
 * life left, what others take away or claim. Seen from another machine.
 */
#include "host_world.h"

#include <sys/prctl.h>
#include <uv.h>

#include "base/err.h"
#include "base/mem.h"
#include "host/addresses.h"
#include "host/netlink.h"

#define VIP "10.9.0.100"

static uv_loop_t loop;
static struct addresses *addresses;
static struct prober prober;
static struct {
    unsigned probed, expired;
    uint64_t op;
    char who[32], why[200];
} seen;

static void on_probed(void *ctx, uint64_t op, const char *address, const char *who,
                      const char *why)
{
    (void)ctx;
    assert_string_equal(address, VIP);
    seen.probed++;
    seen.op = op;
    snprintf(seen.who, sizeof seen.who, "%s", who != NULL ? who : "?");
    snprintf(seen.why, sizeof seen.why, "%s", who != NULL ? "" : why);
}

static void on_expired(void *ctx, const char *address, const char *why)
{
    (void)ctx;
    assert_string_equal(address, VIP);
    seen.expired++;
    snprintf(seen.why, sizeof seen.why, "%s", why);
}

static void open_them(void)
{
    const struct addresses_options o = {
        .own = "10.9.0.1", .probed = on_probed, .expired = on_expired};
    struct buf why = {0};

    addresses = addresses_new(&loop, &o, &why);
    assert_string_equal(buf_text(&why), "");
    buf_free(&why);
}

static int set_up(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    assert_int_equal(uv_loop_init(&loop), 0);
    open_them();
    prober_open(&prober, ip(VIP));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    prober_close(&prober);
    addresses_close(addresses);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return run("nft list tables | grep -q muster") == 1 ? 0 : 1;
}

static void add(uint64_t until_ms)
{
    struct buf why = {0};

    int err = addresses_add(addresses, VIP, NULL, 32, until_ms, &why);
    assert_string_equal(buf_text(&why), "");
    assert_int_equal(err, 0);
    buf_free(&why);
}

static bool is_present(void) { return run("ip addr show | grep -q 'inet " VIP "/'") == 0; }

/* Does another machine get answers now? */
static void answers(bool arp, bool echo)
{
    prober_read(&prober);
    prober.arps = prober.echos = 0;
    prober_run(&prober, clock_now_ms() + 20);
    assert_int_equal(prober.arps > 0, arp);
    assert_int_equal(prober.echos > 0, echo);
}

/* The loop and the prober, until *count is n. */
static void wait_for(const unsigned *count, unsigned n, unsigned limit_ms)
{
    uint64_t limit = clock_now_ms() + limit_ms;

    while (*count < n && clock_now_ms() < limit) {
        uv_run(&loop, UV_RUN_NOWAIT);
        prober_turn(&prober);
    }
}

/* The same without the prober: there is no wire. */
static void wait_alone(const unsigned *count, unsigned n, unsigned limit_ms)
{
    uint64_t limit = clock_now_ms() + limit_ms;

    while (*count < n && clock_now_ms() < limit)
        uv_run(&loop, UV_RUN_ONCE);
}

static void an_address_comes_and_goes(void **state)
{
    struct buf why = {0};

    (void)state;
    answers(false, false);
    add(clock_now_ms() + 5000);
    assert_true(addresses_has(addresses, VIP));
    assert_true(is_present());
    answers(true, true);
    addresses_announce(addresses, VIP);
    assert_int_equal(addresses_counters(addresses).announcements_total, 1);
    addresses_renew(addresses, VIP, clock_now_ms() + 6000);
    assert_int_equal(addresses_remove(addresses, VIP, &why), 0);
    assert_false(addresses_has(addresses, VIP));
    assert_false(is_present());
    answers(false, false);
    addresses_announce(addresses, VIP);
    assert_int_equal(addresses_counters(addresses).announcements_total, 1);
    assert_int_equal(addresses_remove(addresses, VIP, &why), 0);
    assert_int_equal(seen.expired, 0);
    add(clock_now_ms() + 5000);
    answers(true, true);
    buf_free(&why);
}

static void at_its_end_it_is_gone_and_told(void **state)
{
    uint64_t until_ms = clock_now_ms() + 700;

    (void)state;
    add(until_ms);
    wait_for(&seen.expired, 1, 3000);
    assert_int_equal(seen.expired, 1);
    assert_in_range(clock_now_ms(), until_ms, until_ms + 100);
    assert_in_range(prober.last_arp_ms, until_ms - 50, until_ms + 50);
    assert_in_range(prober.last_echo_ms, until_ms - 50, until_ms + 50);
    assert_false(is_present());
    addresses_renew(addresses, VIP, clock_now_ms() + 1000);
    assert_int_equal(seen.expired, 2);
    assert_false(is_present());
}

/* A process takes the address for a minute and is killed; the next life finds all of it. */
static void a_new_life_removes_what_the_old_one_left(void **state)
{
    int ready[2];
    char byte;

    (void)state;
    addresses_close(addresses);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(pipe(ready), 0);
    pid_t old = fork();
    if (old == 0) {
        struct buf why = {0};
        uv_loop_t other;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const struct addresses_options o = {
            .own = "10.9.0.1", .probed = on_probed, .expired = on_expired};
        if (uv_loop_init(&other) != 0)
            _exit(1);
        struct addresses *mine = addresses_new(&other, &o, &why);
        if (addresses_add(mine, VIP, NULL, 32, clock_now_ms() + 60000, &why) != 0 ||
            write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    answers(true, true);
    assert_int_equal(kill(old, SIGKILL), 0);
    waitpid(old, NULL, 0);
    answers(true, true); /* until its minute is over, were it not for: */
    open_them();
    assert_int_equal(addresses_counters(addresses).leftovers_total, 1);
    assert_false(is_present());
    answers(false, false);
    add(clock_now_ms() + 5000);
    answers(true, true);
}

static void a_foreign_address_is_left_alone(void **state)
{
    struct buf why = {0};

    (void)state;
    assert_int_equal(run("ip addr add " VIP "/32 dev eth0"), 0);
    assert_int_equal(addresses_add(addresses, VIP, NULL, 32, clock_now_ms() + 5000, &why),
                     ERR_EXISTS);
    assert_non_null(strstr(buf_text(&why), "not from muster"));
    buf_clear(&why);
    assert_int_equal(addresses_remove(addresses, VIP, &why), 0);
    assert_true(is_present());
    assert_int_equal(run("ip addr del " VIP "/32 dev eth0"), 0);
    buf_free(&why);
}

static void what_cannot_be_added_leaves_nothing(void **state)
{
    static const struct {
        const char *address, *device;
        unsigned prefix;
        int64_t left_ms;
        int err;
        const char *why;
    } rows[] = {
        {VIP, NULL, 32, -1, ERR_UNSAFE, "over"},
        {VIP, NULL, 32, 5, ERR_UNSAFE, "over"},
        {VIP, "nowhere0", 32, 5000, ERR_NOT_FOUND, "nowhere0"},
        {VIP, NULL, 33, 5000, ERR_BAD_ARGUMENTS, "not an address"},
        {"10.9.0.300", NULL, 32, 5000, ERR_BAD_ARGUMENTS, "not an address"},
    };
    struct buf why = {0};

    (void)state;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buf_clear(&why);
        uint64_t until_ms = (uint64_t)((int64_t)clock_now_ms() + rows[i].left_ms);
        assert_int_equal(addresses_add(addresses, rows[i].address, rows[i].device,
                                       rows[i].prefix, until_ms, &why),
                         rows[i].err);
        assert_non_null(strstr(buf_text(&why), rows[i].why));
        assert_false(is_present());
        assert_false(addresses_has(addresses, VIP));
    }
    buf_free(&why);
}

static void flushed_tables_come_back(void **state)
{
    unsigned never = 0;

    (void)state;
    add(clock_now_ms() + 60000);
    assert_int_equal(run("nft flush ruleset"), 0);
    uint64_t limit_ms = clock_now_ms() + 3000;
    while (addresses_counters(addresses).gates_lost_total == 0 && clock_now_ms() < limit_ms)
        wait_for(&never, 1, 10);
    assert_int_equal(addresses_counters(addresses).gates_lost_total, 1);
    answers(true, true);
    assert_int_equal(run("nft list table inet muster >/dev/null"), 0);
    /* At once, when it is needed at once. */
    assert_int_equal(run("nft flush ruleset"), 0);
    addresses_renew(addresses, VIP, clock_now_ms() + 400);
    assert_int_equal(seen.expired, 0);
    assert_int_equal(addresses_counters(addresses).gates_lost_total, 2);
    answers(true, true);
    wait_for(&seen.expired, 1, 2000);
    assert_int_equal(seen.expired, 1);
    answers(false, false);
}

static void an_address_that_was_deleted_comes_back(void **state)
{
    (void)state;
    add(clock_now_ms() + 5000);
    assert_int_equal(run("ip addr del " VIP "/32 dev eth0"), 0);
    answers(false, false);
    addresses_renew(addresses, VIP, clock_now_ms() + 5000);
    answers(true, true);
}

static void probing_finds_who_has_it(void **state)
{
    char mac[32];

    (void)state;
    addresses_probe(addresses, 7, VIP, NULL);
    wait_for(&seen.probed, 1, 2000);
    assert_int_equal(seen.op, 7);
    assert_string_equal(seen.who, "");
    stand_in(world.peer);
    assert_int_equal(run("ip addr add " VIP "/32 dev eth0"), 0);
    stand_in(world.machine);
    addresses_probe(addresses, 8, VIP, "eth0");
    wait_for(&seen.probed, 2, 2000);
    stand_in(world.peer);
    assert_int_equal(run("ip addr del " VIP "/32 dev eth0"), 0);
    stand_in(world.machine);
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", world.peer_mac[0],
             world.peer_mac[1], world.peer_mac[2], world.peer_mac[3], world.peer_mac[4],
             world.peer_mac[5]);
    assert_int_equal(seen.op, 8);
    assert_string_equal(seen.who, mac);
    addresses_probe(addresses, 9, VIP, "nowhere0");
    assert_int_equal(seen.probed, 3);
    assert_string_equal(seen.who, "?");
    assert_non_null(strstr(seen.why, "nowhere0"));
}

/* The wire is there again; the kernel says so up to a second later. */
static void nobody_answers_soon(void)
{
    uint64_t limit = clock_now_ms() + 5000;

    do {
        unsigned before = seen.probed;
        addresses_probe(addresses, 100 + before, VIP, NULL);
        wait_for(&seen.probed, before + 1, 2000);
        assert_int_equal(seen.op, 100 + before);
    } while (seen.who[0] != 0 && clock_now_ms() < limit);
    assert_string_equal(seen.who, "");
}

static void a_probe_on_a_dead_wire_says_so_and_the_next_works(void **state)
{
    (void)state;
    addresses_probe(addresses, 1, VIP, NULL);
    wait_for(&seen.probed, 1, 2000);
    assert_int_equal(run("ip link set eth0 down"), 0);
    addresses_probe(addresses, 2, VIP, NULL);
    wait_for(&seen.probed, 2, 2000);
    assert_int_equal(seen.op, 2);
    assert_string_equal(seen.who, "?");
    assert_int_equal(run("ip link set eth0 up"), 0);
    nobody_answers_soon();
}

/* The peer's end goes down: no carrier here, where the interface itself is up. */
static void without_a_carrier_it_is_let_go_and_not_taken(void **state)
{
    (void)state;
    add(clock_now_ms() + 20000);
    answers(true, true);
    stand_in(world.peer);
    assert_int_equal(run("ip link set eth0 down"), 0);
    stand_in(world.machine);
    wait_alone(&seen.expired, 1, 5000);
    assert_int_equal(seen.expired, 1);
    assert_non_null(strstr(seen.why, "carrier"));
    assert_false(is_present());
    addresses_probe(addresses, 1, VIP, NULL);
    wait_alone(&seen.probed, 1, 2000);
    assert_string_equal(seen.who, "?");
    assert_non_null(strstr(seen.why, "carrier"));
    stand_in(world.peer);
    assert_int_equal(run("ip link set eth0 up"), 0);
    stand_in(world.machine);
    prober_read(&prober); /* its socket tells once that the interface was down */
    nobody_answers_soon();
}

static void another_that_claims_it_is_answered(void **state)
{
    unsigned never = 0;
    uint64_t limit_ms = clock_now_ms() + 2000;

    (void)state;
    add(clock_now_ms() + 5000);
    send_arp(prober.arp, ARPOP_REPLY, world.peer_mac, ip(VIP), ip(VIP));
    while (addresses_counters(addresses).conflicts_total == 0 && clock_now_ms() < limit_ms)
        wait_for(&never, 1, 10);
    assert_int_equal(addresses_counters(addresses).conflicts_total, 1);
    assert_int_equal(addresses_counters(addresses).announcements_total, 1);
}

#define WHOLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WHOLE(an_address_comes_and_goes),
        WHOLE(at_its_end_it_is_gone_and_told),
        WHOLE(a_new_life_removes_what_the_old_one_left),
        WHOLE(a_foreign_address_is_left_alone),
        WHOLE(what_cannot_be_added_leaves_nothing),
        WHOLE(flushed_tables_come_back),
        WHOLE(an_address_that_was_deleted_comes_back),
        WHOLE(probing_finds_who_has_it),
        WHOLE(a_probe_on_a_dead_wire_says_so_and_the_next_works),
        WHOLE(without_a_carrier_it_is_let_go_and_not_taken),
        WHOLE(another_that_claims_it_is_answered),
    };

    if (!world_make("test_host_addresses"))
        return WORLD_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
