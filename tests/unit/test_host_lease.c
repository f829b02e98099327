/* SPDX-License-Identifier: Apache-2.0 */
/* The gate that the kernel closes: seen from another machine, which asks every millisecond
 * (ARP and ICMP), while the holder is killed, stopped, or renews.
 */
#include "host_world.h"

#include <sys/prctl.h>

#include "base/err.h"
#include "base/mem.h"
#include "host/lease.h"
#include "host/netlink.h"

/* Answers may end this much before their time (a tick of the kernel's clock and what a busy
 * machine adds to the questions), and seem to end this much after it (the answer is in
 * flight, its reader waits for a processor). Never by the kernel's doing. */
enum { EARLY_MS = 50, LATE_MS = 50 };

static struct lease *lease;
static struct netlink *netlink;
static struct prober prober;

static struct in_addr vip(void) { return ip("10.9.0.100"); }

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(lease_open(&lease), 0);
    assert_int_equal(netlink_open(&netlink), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lease_cleanup(lease);
    lease_close(lease);
    netlink_address_remove(netlink, world.device, vip(), 32);
    netlink_close(netlink);
    return 0;
}

static void hold(uint64_t until_ms)
{
    struct in_addr managed = vip();

    assert_int_equal(lease_setup(lease, &managed, 1), 0);
    assert_int_equal(
        netlink_address_put(netlink, world.device, vip(), 32, until_ms - clock_now_ms()), 0);
    assert_int_equal(lease_grant(lease, vip(), until_ms), 0);
}

static bool is_present(struct in_addr address)
{
    struct netlink_address *v;
    size_t n;
    bool found = false;

    assert_int_equal(netlink_addresses(netlink, &v, &n), 0);
    for (size_t i = 0; i < n; i++)
        found = found || v[i].address.s_addr == address.s_addr;
    mem_free(v);
    return found;
}

/* A process of its own takes the address until until_ms, and then gets the signal. */
static void ends_in_time_after(int number)
{
    int ready[2];
    char byte;

    assert_int_equal(pipe(ready), 0);
    prober_open(&prober, vip());
    uint64_t until_ms = clock_now_ms() + 900;
    pid_t holder = fork();
    if (holder == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct in_addr managed = vip();
        if (lease_open(&lease) != 0 || netlink_open(&netlink) != 0 ||
            lease_setup(lease, &managed, 1) != 0 ||
            netlink_address_put(netlink, world.device, vip(), 32, 900) != 0 ||
            lease_grant(lease, vip(), until_ms) != 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    prober_run(&prober, clock_now_ms() + 50);
    assert_int_equal(kill(holder, number), 0);
    prober_run(&prober, until_ms + 400);

    printf("  %s: last ARP answer %+d ms, last echo %+d ms from the end of the lease\n",
           strsignal(number), (int)((int64_t)prober.last_arp_ms - (int64_t)until_ms),
           (int)((int64_t)prober.last_echo_ms - (int64_t)until_ms));
    assert_true(prober.arps > 20 && prober.echos > 20);
    assert_in_range(prober.last_arp_ms, until_ms - EARLY_MS, until_ms + LATE_MS);
    assert_in_range(prober.last_echo_ms, until_ms - EARLY_MS, until_ms + LATE_MS);

    /* And the kernel takes the address away: it looks once in a second or two. */
    uint64_t limit_ms = clock_now_ms() + 4000;
    while (is_present(vip()) && clock_now_ms() < limit_ms)
        prober_turn(&prober);
    assert_false(is_present(vip()));
    assert_in_range(prober.last_arp_ms, 0, until_ms + LATE_MS);
    assert_in_range(prober.last_echo_ms, 0, until_ms + LATE_MS);

    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    prober_close(&prober);
    close(ready[0]);
    close(ready[1]);
}

static void a_killed_holder_stops_answering_at_its_time(void **state)
{
    (void)state;
    ends_in_time_after(SIGKILL);
}

static void a_stopped_holder_stops_answering_at_its_time(void **state)
{
    (void)state;
    ends_in_time_after(SIGSTOP);
}

static void renewing_leaves_no_gap(void **state)
{
    uint64_t end_ms = clock_now_ms() + 1500;
    unsigned lost = 0, renewals = 0;

    (void)state;
    hold(clock_now_ms() + 300);
    prober_open(&prober, vip());
    while (clock_now_ms() < end_ms) {
        assert_int_equal(lease_renew(lease, vip(), clock_now_ms() + 300), 0);
        assert_int_equal(netlink_address_put(netlink, world.device, vip(), 32, 300), 0);
        renewals++;
        prober_turn(&prober);
    }
    usleep(2000);
    prober_read(&prober);
    for (unsigned i = 0; i < prober.seq; i++)
        lost += !prober.answered[i];
    printf("  %u renewals, %u questions, %u lost\n", renewals, prober.seq, lost);
    assert_true(prober.seq > 100);
    assert_int_equal(lost, 0);
    assert_int_equal(prober.arps, prober.seq);
    prober_close(&prober);
}

/* The questions come from another process, so that they meet the renewal in its middle. */
static void renewing_under_fire_leaves_no_gap(void **state)
{
    int result[2];
    unsigned counts[2];

    (void)state;
    hold(clock_now_ms() + 2000);
    assert_int_equal(pipe(result), 0);
    pid_t asker = fork();
    if (asker == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prober_open(&prober, vip());
        uint64_t end_ms = clock_now_ms() + 1000;
        while (clock_now_ms() < end_ms)
            prober_turn(&prober);
        usleep(20000);
        prober_read(&prober);
        counts[0] = prober.seq;
        counts[1] = prober.echos;
        _exit(write(result[1], counts, sizeof counts) == sizeof counts ? 0 : 1);
    }
    unsigned renewals = 0;
    int status;
    while (waitpid(asker, &status, WNOHANG) == 0) {
        assert_int_equal(lease_renew(lease, vip(), clock_now_ms() + 2000), 0);
        if (++renewals % 16 == 0)
            usleep(100);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(read(result[0], counts, sizeof counts), sizeof counts);
    printf("  %u renewals during %u questions, %u answered\n", renewals, counts[0], counts[1]);
    assert_true(counts[0] > 100 && renewals > 100);
    /* Kernels before 6.18 may lose one of a lookup that a commit overtakes. */
    assert_in_range(counts[1], counts[0] - counts[0] / 100, counts[0]);
    close(result[0]);
    close(result[1]);
}

static void what_has_closed_is_not_renewed(void **state)
{
    bool granted;

    (void)state;
    hold(clock_now_ms() + 60);
    assert_int_equal(lease_is_granted(lease, vip(), &granted), 0);
    assert_true(granted);
    uint64_t limit_ms = clock_now_ms() + 2000;
    while (granted && clock_now_ms() < limit_ms)
        assert_int_equal(lease_is_granted(lease, vip(), &granted), 0);
    assert_false(granted);
    assert_int_equal(lease_renew(lease, vip(), clock_now_ms() + 1000), ERR_NOT_FOUND);
    assert_int_equal(lease_is_granted(lease, vip(), &granted), 0);
    assert_false(granted);

    assert_int_equal(lease_grant(lease, vip(), clock_now_ms() + 5000), 0);
    assert_int_equal(lease_revoke(lease, vip()), 0);
    assert_int_equal(lease_renew(lease, vip(), clock_now_ms() + 1000), ERR_NOT_FOUND);
    assert_int_equal(lease_revoke(lease, vip()), 0);
}

/* A timeout under a tick of the kernel would be none at all: for ever. */
static void too_late_is_refused(void **state)
{
    bool granted;

    (void)state;
    hold(clock_now_ms() + 1000);
    assert_int_equal(lease_revoke(lease, vip()), 0);
    for (unsigned left = 0; left < LEASE_LEFT_MIN_MS; left++)
        assert_int_equal(lease_grant(lease, vip(), clock_now_ms() + left), ERR_UNSAFE);
    assert_int_equal(lease_grant(lease, vip(), 1), ERR_UNSAFE);
    assert_int_equal(lease_is_granted(lease, vip(), &granted), 0);
    assert_false(granted);
    /* A shorter lease shortens. */
    assert_int_equal(lease_grant(lease, vip(), clock_now_ms() + 60000), 0);
    uint64_t until_ms = clock_now_ms() + 100;
    assert_int_equal(lease_renew(lease, vip(), until_ms), 0);
    do
        assert_int_equal(lease_is_granted(lease, vip(), &granted), 0);
    while (granted && clock_now_ms() < until_ms + 1000);
    assert_in_range(clock_now_ms(), until_ms - 20, until_ms + LATE_MS);
}

/* The address of an earlier life is on the machine; the new life sets up, several times. */
static void a_restart_opens_no_window(void **state)
{
    struct in_addr other = ip("10.9.0.101"), v[4];
    size_t n;

    (void)state;
    hold(clock_now_ms() + 60000);
    assert_int_equal(lease_revoke(lease, vip()), 0);
    lease_close(lease);
    assert_int_equal(lease_open(&lease), 0);
    prober_open(&prober, vip());
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(lease_setup(lease, &other, 1), 0);
        prober_turn(&prober);
    }
    prober_run(&prober, clock_now_ms() + 50);
    assert_int_equal(prober.arps, 0);
    assert_int_equal(prober.echos, 0);
    assert_int_equal(lease_managed(lease, v, 4, &n), 0);
    assert_int_equal(n, 2);

    /* The probe can see: when the address is no longer managed, it answers. */
    assert_int_equal(lease_unmanage(lease, vip()), 0);
    prober_run(&prober, clock_now_ms() + 20);
    assert_true(prober.arps > 0 && prober.echos > 0);
    prober_close(&prober);
}

static int connect_to(struct in_addr address, uint16_t port, int wait_ms)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr = address, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = 0;
    socklen_t len = sizeof error;

    if (connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        struct pollfd p = {fd, POLLOUT, 0};
        error = poll(&p, 1, wait_ms) == 1 ? 0 : ETIMEDOUT;
        if (error == 0)
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    }
    close(fd);
    return error;
}

static void local_processes_reach_what_is_held(void **state)
{
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(7777)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(bind(listener, (const struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(listener, 16), 0);
    hold(clock_now_ms() + 5000);
    assert_int_equal(connect_to(vip(), 7777, 1000), 0);
    assert_int_equal(connect_to(ip("10.9.0.1"), 7777, 1000), 0);
    assert_int_equal(lease_revoke(lease, vip()), 0);
    assert_int_equal(connect_to(vip(), 7777, 100), ETIMEDOUT);
    assert_int_equal(connect_to(ip("10.9.0.1"), 7777, 1000), 0);
    close(listener);
}

/* A machine that does not hold the address reaches the holder, and learns from a gratuitous
 * ARP where it went, although it manages it. */
static void others_are_reached_through_a_closed_gate(void **state)
{
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(7778)};
    struct in_addr managed = vip();
    struct prober p;

    (void)state;
    assert_int_equal(lease_setup(lease, &managed, 1), 0);
    stand_in(world.peer);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(run("ip addr add 10.9.0.100/32 dev eth0"), 0);
    stand_in(world.machine);
    assert_int_equal(run("ip neigh replace 10.9.0.100 lladdr 02:00:00:00:00:99 dev eth0 "
                         "nud reachable"),
                     0);
    prober_open(&p, ip("10.9.0.77"));
    /* 1.1 s: the kernel believes no change of a fresh entry within locktime (1 s). */
    assert_int_equal(run("sysctl -qw net.ipv4.neigh.eth0.locktime=0"), 0);
    send_arp(p.arp, ARPOP_REQUEST, world.peer_mac, vip(), vip());
    prober_close(&p);
    assert_int_equal(connect_to(vip(), 7778, 1000), 0);
    stand_in(world.peer);
    assert_int_equal(run("ip addr del 10.9.0.100/32 dev eth0"), 0);
    stand_in(world.machine);
    close(listener);
}

static void a_flushed_ruleset_is_noticed(void **state)
{
    (void)state;
    hold(clock_now_ms() + 60000);
    assert_int_equal(lease_verify(lease), 0);
    assert_int_equal(run("nft flush table inet muster"), 0);
    assert_int_equal(lease_verify(lease), ERR_NOT_FOUND);
    hold(clock_now_ms() + 60000);
    assert_int_equal(lease_verify(lease), 0);
    assert_int_equal(run("nft flush ruleset"), 0);
    assert_int_equal(lease_verify(lease), ERR_NOT_FOUND);
    assert_int_equal(lease_renew(lease, vip(), clock_now_ms() + 1000), ERR_NOT_FOUND);
}

static void too_many_addresses_are_refused(void **state)
{
    struct in_addr v[LEASE_ADDRESSES_MAX + 1], back[LEASE_ADDRESSES_MAX];
    size_t n;

    (void)state;
    for (unsigned i = 0; i < LEASE_ADDRESSES_MAX + 1; i++)
        v[i].s_addr = htonl(0x0a0a0000 + i);
    assert_int_equal(lease_setup(lease, v, LEASE_ADDRESSES_MAX), 0);
    assert_int_equal(lease_managed(lease, back, LEASE_ADDRESSES_MAX, &n), 0);
    assert_int_equal(n, LEASE_ADDRESSES_MAX);
    assert_int_equal(lease_setup(lease, v, LEASE_ADDRESSES_MAX + 1), ERR_TOO_BIG);
    assert_int_equal(lease_verify(lease), 0);
}

#define GATE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATE(a_killed_holder_stops_answering_at_its_time),
        GATE(a_stopped_holder_stops_answering_at_its_time),
        GATE(renewing_leaves_no_gap),
        GATE(renewing_under_fire_leaves_no_gap),
        GATE(what_has_closed_is_not_renewed),
        GATE(too_late_is_refused),
        GATE(a_restart_opens_no_window),
        GATE(local_processes_reach_what_is_held),
        GATE(others_are_reached_through_a_closed_gate),
        GATE(a_flushed_ruleset_is_noticed),
        GATE(too_many_addresses_are_refused),
    };

    if (!world_make("test_host_lease"))
        return WORLD_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
