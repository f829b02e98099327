/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine says and hears by ARP, with another machine at the end of the wire. */
#include "host_world.h"

#include <uv.h>

#include "base/err.h"
#include "host/arp.h"

static uv_loop_t loop;
static struct arp *arp;
static struct {
    unsigned answers, conflicts;
    int err;
    bool is_taken;
    uint8_t mac[6];
} seen;

static void on_conflict(void *ctx, struct in_addr address, const uint8_t mac[6])
{
    (void)ctx;
    assert_int_equal(address.s_addr, ip("10.9.0.100").s_addr);
    seen.conflicts++;
    memcpy(seen.mac, mac, 6);
}

static void on_probed(void *ctx, int err, const uint8_t *mac)
{
    (void)ctx;
    seen.answers++;
    seen.err = err;
    seen.is_taken = mac != NULL;
    if (mac != NULL)
        memcpy(seen.mac, mac, 6);
}

static int set_up(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(arp_open(&arp, &loop, world.device, on_conflict, NULL), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arp_close(arp);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void on_tick(uv_timer_t *timer) { (void)timer; }

/* Runs the loop until *count is n, or the limit; returns the time it took. */
static uint64_t wait_for(const unsigned *count, unsigned n, unsigned limit_ms)
{
    uint64_t start_ms = clock_now_ms();
    uv_timer_t tick;

    uv_timer_init(&loop, &tick);
    uv_timer_start(&tick, on_tick, 1, 1);
    while (*count < n && clock_now_ms() - start_ms < limit_ms)
        uv_run(&loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    return clock_now_ms() - start_ms;
}

static int in_peer(const char *command)
{
    stand_in(world.peer);
    int code = run("%s", command);
    stand_in(world.machine);
    return code;
}

static int peer_socket(void)
{
    const struct sockaddr_ll to = {.sll_family = AF_PACKET,
                                   .sll_protocol = htons(ETH_P_ARP),
                                   .sll_ifindex = (int)world.peer_device};

    stand_in(world.peer);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&to, sizeof to), 0);
    stand_in(world.machine);
    return fd;
}

static void an_announcement_changes_the_neighbours_cache(void **state)
{
    char command[200];

    (void)state;
    /* The neighbour believes in a machine that is gone; it heard of it a moment ago. */
    assert_int_equal(in_peer("ip neigh replace 10.9.0.100 lladdr 02:00:00:00:00:99 dev eth0 "
                             "nud stale; sysctl -qw net.ipv4.neigh.eth0.locktime=0"),
                     0);
    assert_int_equal(arp_announce(arp, ip("10.9.0.100"), clock_now_ms() + 1000), 0);
    snprintf(command, sizeof command,
             "for i in $(seq 100); do ip neigh show 10.9.0.100 | grep -q "
             "%02x:%02x:%02x:%02x:%02x:%02x && exit 0; sleep 0.01; done; exit 1",
             world.mac[0], world.mac[1], world.mac[2], world.mac[3], world.mac[4],
             world.mac[5]);
    assert_int_equal(in_peer(command), 0);
}

static void an_announcement_has_both_forms_and_its_time(void **state)
{
    int fd = peer_socket();
    struct arp_frame f[3];
    unsigned n = 0;

    (void)state;
    assert_int_equal(arp_announce(arp, ip("10.9.0.100"), clock_now_ms()), ERR_UNSAFE);
    assert_int_equal(arp_announce(arp, ip("10.9.0.100"), clock_now_ms() + 1000), 0);
    uint64_t limit_ms = clock_now_ms() + 1000;
    while (n < 2 && clock_now_ms() < limit_ms) {
        if (recv(fd, &f[n], sizeof f[n], 0) == sizeof f[n] &&
            memcmp(f[n].arp.arp_spa, &(struct in_addr){ip("10.9.0.100").s_addr}, 4) == 0)
            n++;
    }
    assert_int_equal(n, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(f[i].arp.ea_hdr.ar_op, htons(i == 0 ? ARPOP_REQUEST : ARPOP_REPLY));
        assert_memory_equal(f[i].arp.arp_spa, f[i].arp.arp_tpa, 4);
        assert_memory_equal(f[i].arp.arp_sha, world.mac, 6);
        assert_memory_equal(f[i].ethernet.ether_shost, world.mac, 6);
        assert_memory_equal(f[i].ethernet.ether_dhost, "\xff\xff\xff\xff\xff\xff", 6);
    }
    close(fd);
}

static void a_probe_finds_a_foreign_holder(void **state)
{
    (void)state;
    assert_int_equal(in_peer("ip addr add 10.9.0.100/32 dev eth0"), 0);
    assert_int_equal(arp_probe(arp, ip("10.9.0.100"), on_probed, NULL), 0);
    assert_int_equal(seen.answers, 0);
    uint64_t took_ms = wait_for(&seen.answers, 1, 2000);
    assert_int_equal(seen.answers, 1);
    assert_int_equal(seen.err, 0);
    assert_true(seen.is_taken);
    assert_memory_equal(seen.mac, world.peer_mac, 6);
    assert_in_range(took_ms, 0, 100);
    assert_int_equal(in_peer("ip addr del 10.9.0.100/32 dev eth0"), 0);
}

static void a_probe_of_a_free_address_says_so_in_time(void **state)
{
    (void)state;
    assert_int_equal(arp_probe(arp, ip("10.9.0.100"), on_probed, NULL), 0);
    assert_int_equal(arp_probe(arp, ip("10.9.0.101"), on_probed, NULL), 0);
    uint64_t took_ms = wait_for(&seen.answers, 2, 2000);
    assert_int_equal(seen.answers, 2);
    assert_int_equal(seen.err, 0);
    assert_false(seen.is_taken);
    assert_in_range(took_ms, (ARP_PROBES - 1) * ARP_PROBE_GAP_MS, 400);
}

static void two_that_probe_the_same_address_see_each_other(void **state)
{
    int fd = peer_socket();
    const struct in_addr none = {0};

    (void)state;
    assert_int_equal(arp_probe(arp, ip("10.9.0.100"), on_probed, NULL), 0);
    uv_run(&loop, UV_RUN_ONCE);
    uv_run(&loop, UV_RUN_NOWAIT);
    send_arp(fd, ARPOP_REQUEST, world.peer_mac, none, ip("10.9.0.100"));
    wait_for(&seen.answers, 1, 2000);
    assert_true(seen.is_taken);
    assert_memory_equal(seen.mac, world.peer_mac, 6);
    close(fd);
}

static void questions_about_an_address_are_no_claim(void **state)
{
    int fd = peer_socket();

    (void)state;
    assert_int_equal(arp_watch(arp, ip("10.9.0.100")), 0);
    assert_int_equal(arp_probe(arp, ip("10.9.0.100"), on_probed, NULL), 0);
    uv_run(&loop, UV_RUN_ONCE);
    send_arp(fd, ARPOP_REQUEST, world.peer_mac, ip("10.9.0.2"), ip("10.9.0.100"));
    /* What comes back to us, from a bridge that mirrors, is none either. */
    send_arp(fd, ARPOP_REPLY, world.mac, ip("10.9.0.100"), ip("10.9.0.100"));
    wait_for(&seen.answers, 1, 2000);
    assert_int_equal(seen.answers, 1);
    assert_false(seen.is_taken);
    assert_int_equal(seen.conflicts, 0);
    close(fd);
}

static void a_stopped_probe_says_nothing(void **state)
{
    (void)state;
    assert_int_equal(arp_probe(arp, ip("10.9.0.100"), on_probed, NULL), 0);
    assert_int_equal(arp_probe(arp, ip("10.9.0.101"), on_probed, NULL), 0);
    arp_probe_stop(arp, ip("10.9.0.100"));
    wait_for(&seen.answers, 2, 300);
    assert_int_equal(seen.answers, 1);
}

static void a_claim_of_what_we_hold_is_reported(void **state)
{
    int fd = peer_socket();

    (void)state;
    assert_int_equal(arp_watch(arp, ip("10.9.0.100")), 0);
    for (unsigned i = 0; i < 5; i++)
        send_arp(fd, ARPOP_REPLY, world.peer_mac, ip("10.9.0.100"), ip("10.9.0.100"));
    wait_for(&seen.conflicts, 1, 2000);
    wait_for(&seen.conflicts, 2, 50);
    assert_int_equal(seen.conflicts, 1); /* once a second */
    assert_memory_equal(seen.mac, world.peer_mac, 6);
    arp_unwatch(arp, ip("10.9.0.100"));
    send_arp(fd, ARPOP_REPLY, world.peer_mac, ip("10.9.0.100"), ip("10.9.0.100"));
    wait_for(&seen.conflicts, 2, 50);
    assert_int_equal(seen.conflicts, 1);
    close(fd);
}

static void garbage_is_passed_over(void **state)
{
    int fd = peer_socket();
    uint8_t bytes[64];

    (void)state;
    assert_int_equal(arp_watch(arp, ip("10.9.0.100")), 0);
    assert_int_equal(arp_probe(arp, ip("10.9.0.100"), on_probed, NULL), 0);
    for (unsigned len = 14; len < sizeof bytes; len++) {
        memset(bytes, (int)len, sizeof bytes);
        memset(bytes, 0xff, 6);
        memcpy(bytes + 6, world.peer_mac, 6);
        bytes[12] = 0x08;
        bytes[13] = 0x06;
        assert_int_equal(send(fd, bytes, len, 0), len);
    }
    wait_for(&seen.answers, 1, 2000);
    assert_false(seen.is_taken);
    assert_int_equal(seen.conflicts, 0);
    close(fd);
}

static void a_device_that_goes_is_an_error(void **state)
{
    struct arp *other;

    (void)state;
    assert_int_equal(arp_open(&other, &loop, 9999, on_conflict, NULL), ERR_NOT_FOUND);
    assert_int_equal(arp_open(&other, &loop, if_nametoindex("lo"), on_conflict, NULL),
                     ERR_NOT_FOUND);
    assert_int_equal(run("ip link add d1 type veth peer name p1 && ip link set d1 up"), 0);
    assert_int_equal(arp_open(&other, &loop, if_nametoindex("d1"), on_conflict, NULL), 0);
    assert_int_equal(arp_probe(other, ip("10.9.0.100"), on_probed, NULL), 0);
    assert_int_equal(run("ip link del d1"), 0);
    wait_for(&seen.answers, 1, 2000);
    assert_int_equal(seen.answers, 1);
    assert_int_equal(seen.err, ERR_NOT_FOUND);
    assert_int_equal(arp_announce(other, ip("10.9.0.100"), clock_now_ms() + 1000),
                     ERR_NOT_FOUND);
    arp_close(other);
}

#define WIRE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE(an_announcement_changes_the_neighbours_cache),
        WIRE(an_announcement_has_both_forms_and_its_time),
        WIRE(a_probe_finds_a_foreign_holder),
        WIRE(a_probe_of_a_free_address_says_so_in_time),
        WIRE(two_that_probe_the_same_address_see_each_other),
        WIRE(questions_about_an_address_are_no_claim),
        WIRE(a_stopped_probe_says_nothing),
        WIRE(a_claim_of_what_we_hold_is_reported),
        WIRE(garbage_is_passed_over),
        WIRE(a_device_that_goes_is_an_error),
    };

    if (!world_make("test_host_arp"))
        return WORLD_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
