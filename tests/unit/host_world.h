/* SPDX-License-Identifier: Apache-2.0 */
/* host_world.h -- two machines for the tests of src/host: network namespaces without a name,
 * joined by a veth pair. They go when the last process in them goes, so that nothing is ever
 * left behind, and tests can run side by side.
 *
 *   machine  eth0  10.9.0.1/24     the one under test; the test stands here
 *   peer     eth0  10.9.0.2/24     everybody else
 */
#ifndef MUSTER_TESTS_HOST_WORLD_H
#define MUSTER_TESTS_HOST_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/clock.h"

enum { WORLD_SKIPPED = 77 /* what meson calls skipped */ };

static struct world {
    int machine, peer;            /* namespaces */
    unsigned device, peer_device; /* the index of eth0 in each */
    uint8_t mac[6], peer_mac[6];
} world;

__attribute__((unused)) static struct in_addr ip(const char *text)
{
    struct in_addr a;
    assert_int_equal(inet_pton(AF_INET, text, &a), 1);
    return a;
}

/* Runs a command line in the namespace that the test stands in; returns its exit code. */
__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void stand_in(int namespace) { assert_int_equal(setns(namespace, CLONE_NEWNET), 0); }

static int own_namespace(void) { return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC); }

static void read_mac(uint8_t mac[6], unsigned *device)
{
    char text[32] = "";
    FILE *f;
    unsigned v[6];

    *device = if_nametoindex("eth0");
    assert_true(*device > 0);
    /* /sys shows the namespace in which it was mounted; the kernel tells by netlink. */
    f = popen("ip -o link show eth0 | sed 's/.*ether //; s/ .*//'", "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    pclose(f);
    assert_int_equal(
        sscanf(text, "%x:%x:%x:%x:%x:%x", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]), 6);
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (uint8_t)v[i];
}

/* False, with a line that says so: this test cannot run here. */
static bool world_make(const char *test)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) {
        printf("%s: SKIPPED: it makes network namespaces, which needs root\n", test);
        return false;
    }
    world.peer = own_namespace();
    assert_int_equal(run("ip link set lo up"), 0);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    world.machine = own_namespace();
    assert_true(world.peer >= 0 && world.machine >= 0);
    assert_int_equal(run("ip link set lo up && ip link add eth0 type veth peer name eth1 && "
                         "ip addr add 10.9.0.1/24 dev eth0 && ip link set eth0 up"),
                     0);
    char other[64];
    snprintf(other, sizeof other, "/proc/%d/fd/%d", (int)getpid(), world.peer);
    assert_int_equal(run("ip link set eth1 netns %s", other), 0);
    stand_in(world.peer);
    assert_int_equal(run("ip link set eth1 name eth0 && ip addr add 10.9.0.2/24 dev eth0 && "
                         "ip link set eth0 up"),
                     0);
    read_mac(world.peer_mac, &world.peer_device);
    stand_in(world.machine);
    read_mac(world.mac, &world.device);
    return true;
}

/* ---- the peer asks: ARP and ICMP echo, again and again ---- */

struct prober {
    int arp, icmp; /* sockets in the peer's namespace */
    struct in_addr target;
    uint16_t seq;
    bool answered[1 << 16];
    uint64_t first_arp_ms, last_arp_ms, first_echo_ms, last_echo_ms;
    unsigned arps, echos;
    uint8_t mac[6]; /* of the last ARP answer */
};

__attribute__((unused)) static void prober_open(struct prober *p, struct in_addr target)
{
    const struct sockaddr_ll to = {.sll_family = AF_PACKET,
                                   .sll_protocol = htons(ETH_P_ARP),
                                   .sll_ifindex = (int)world.peer_device};

    memset(p, 0, sizeof *p);
    p->target = target;
    stand_in(world.peer);
    /* ICMP is to test the gate for IP, and must not depend on that for ARP. */
    assert_int_equal(run("ip neigh replace %s lladdr %02x:%02x:%02x:%02x:%02x:%02x dev eth0 "
                         "nud permanent",
                         inet_ntoa(target), world.mac[0], world.mac[1], world.mac[2],
                         world.mac[3], world.mac[4], world.mac[5]),
                     0);
    p->arp = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    p->icmp = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP);
    assert_true(p->arp >= 0 && p->icmp >= 0);
    assert_int_equal(bind(p->arp, (const struct sockaddr *)&to, sizeof to), 0);
    stand_in(world.machine);
}

__attribute__((unused)) static void prober_close(struct prober *p)
{
    close(p->arp);
    close(p->icmp);
}

struct arp_frame {
    struct ether_header ethernet;
    struct ether_arp arp;
};

/* An ARP packet from the peer's namespace. */
__attribute__((unused)) static void send_arp(int fd, uint16_t op, const uint8_t mac[6],
                                             struct in_addr sender, struct in_addr target)
{
    struct arp_frame f = {.ethernet.ether_type = htons(ETHERTYPE_ARP)};

    memset(f.ethernet.ether_dhost, 0xff, 6);
    memcpy(f.ethernet.ether_shost, mac, 6);
    f.arp.ea_hdr = (struct arphdr){.ar_hrd = htons(ARPHRD_ETHER),
                                   .ar_pro = htons(ETHERTYPE_IP),
                                   .ar_hln = 6,
                                   .ar_pln = 4,
                                   .ar_op = htons(op)};
    memcpy(f.arp.arp_sha, mac, 6);
    memcpy(f.arp.arp_spa, &sender, 4);
    memcpy(f.arp.arp_tpa, &target, 4);
    assert_int_equal(send(fd, &f, sizeof f, 0), sizeof f);
}

static void prober_read(struct prober *p)
{
    struct arp_frame f;
    uint8_t packet[256];
    ssize_t n;

    while ((n = recv(p->arp, &f, sizeof f, 0)) > 0) {
        if (n < (ssize_t)sizeof f || f.arp.ea_hdr.ar_op != htons(ARPOP_REPLY) ||
            memcmp(f.arp.arp_spa, &p->target, 4) != 0)
            continue;
        memcpy(p->mac, f.arp.arp_sha, 6);
        p->last_arp_ms = clock_now_ms();
        if (p->arps++ == 0)
            p->first_arp_ms = p->last_arp_ms;
    }
    while ((n = recv(p->icmp, packet, sizeof packet, 0)) > 0) {
        struct iphdr h;
        struct icmphdr echo;
        if (n < (ssize_t)(sizeof h + sizeof echo))
            continue;
        memcpy(&h, packet, sizeof h);
        memcpy(&echo, packet + h.ihl * 4u, sizeof echo);
        if (h.saddr != p->target.s_addr || echo.type != ICMP_ECHOREPLY ||
            echo.un.echo.id != htons((uint16_t)p->icmp))
            continue;
        p->answered[ntohs(echo.un.echo.sequence)] = true;
        p->last_echo_ms = clock_now_ms();
        if (p->echos++ == 0)
            p->first_echo_ms = p->last_echo_ms;
    }
}

/* One question of each kind, then up to a millisecond for what comes. */
__attribute__((unused)) static void prober_turn(struct prober *p)
{
    struct icmphdr echo = {.type = ICMP_ECHO};
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = p->target};
    struct pollfd fds[2] = {{p->arp, POLLIN, 0}, {p->icmp, POLLIN, 0}};

    send_arp(p->arp, ARPOP_REQUEST, world.peer_mac, ip("10.9.0.2"), p->target);
    echo.un.echo.id = htons((uint16_t)p->icmp);
    echo.un.echo.sequence = htons(p->seq++);
    uint32_t sum = (uint32_t)ICMP_ECHO + echo.un.echo.id + echo.un.echo.sequence;
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    echo.checksum = (uint16_t)~sum;
    (void)!sendto(p->icmp, &echo, sizeof echo, 0, (const struct sockaddr *)&to, sizeof to);
    poll(fds, 2, 1);
    prober_read(p);
    usleep(200); /* 16 bits of numbers are for some seconds */
}

__attribute__((unused)) static void prober_run(struct prober *p, uint64_t until_ms)
{
    while (clock_now_ms() < until_ms)
        prober_turn(p);
    usleep(2000);
    prober_read(p);
}

#endif
