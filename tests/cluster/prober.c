/* SPDX-License-Identifier: Apache-2.0 */
/* prober.c -- who answers for an address, and when: one line for each answer, on stdout.
 *
 *   tool_prober client ADDRESS PORT
 *       What a visitor sees. Every 5 ms a new TCP connection begins, whatever became of
 *       the others (open loop), each with a limit of its own of 300 ms:
 *         C BEGUN ENDED NAME       NAME is - when there was no answer in time
 *
 *   tool_prober watch DEVICE ADDRESS PORT NAME=MAC...
 *       What a visitor cannot see: does more than one machine answer? Every 5 ms each
 *       machine is asked for the address by its own MAC address, past every ARP cache, and
 *       every 10 ms a broadcast asks who has it:
 *         D SENT RECEIVED NAME     this machine answered a packet to the address
 *         A SENT RECEIVED NAME     this machine answered the ARP question
 *
 * Times are CLOCK_MONOTONIC in microseconds. The two must run in namespaces of their own:
 * the ARP answers that the watcher provokes would repair the client's ARP cache.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    INTERVAL_US = 5000,
    LIMIT_US = 300000,
    OPEN_MAX = 128,
    MACHINES_MAX = 16,
    NAME_MAX_ = 32
};

static volatile sig_atomic_t is_over;

static void stop(int signal_number)
{
    (void)signal_number;
    is_over = 1;
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void fail(const char *what)
{
    fprintf(stderr, "prober: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int ticker(void)
{
    struct itimerspec every = {.it_interval.tv_nsec = INTERVAL_US * 1000,
                               .it_value.tv_nsec = INTERVAL_US * 1000};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0 || timerfd_settime(fd, 0, &every, NULL) != 0)
        fail("timer");
    return fd;
}

static void add(int epoll, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event ev = {.events = events, .data.u64 = tag};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
        fail("epoll");
}

/* How many ticks are due. All of them are made up for, so that a busy machine thins out
 * no measurement. */
static uint64_t ticks_due(int timer)
{
    uint64_t n = 0;

    return read(timer, &n, sizeof n) == (ssize_t)sizeof n ? n : 0;
}

/* ---- client ---- */

struct attempt {
    int fd; /* -1: free */
    uint64_t begun_us;
};

static void end_attempt(struct attempt *a, const char *name)
{
    struct linger hard = {.l_onoff = 1};

    printf("C %llu %llu %s\n", (unsigned long long)a->begun_us, (unsigned long long)now_us(),
           name);
    /* A reset leaves no TIME_WAIT behind, on either side. */
    setsockopt(a->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(a->fd);
    a->fd = -1;
}

static void begin_attempt(int epoll, struct attempt *all, const struct sockaddr_in *to)
{
    unsigned i = 0;

    while (i < OPEN_MAX && all[i].fd >= 0)
        i++;
    if (i == OPEN_MAX)
        return;
    all[i].begun_us = now_us();
    all[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (all[i].fd < 0)
        fail("socket");
    if (connect(all[i].fd, (const struct sockaddr *)to, sizeof *to) != 0 &&
        errno != EINPROGRESS) {
        end_attempt(&all[i], "-");
        return;
    }
    add(epoll, all[i].fd, EPOLLIN, i);
}

static void heard(struct attempt *a)
{
    char name[NAME_MAX_];
    ssize_t n = recv(a->fd, name, sizeof name - 1, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    name[n > 0 ? n : 0] = '\0';
    end_attempt(a, n > 0 ? name : "-");
}

static int run_client(const struct sockaddr_in *to)
{
    struct attempt all[OPEN_MAX];
    int epoll = epoll_create1(EPOLL_CLOEXEC), timer = ticker();
    uint64_t flushed_us = 0;

    for (unsigned i = 0; i < OPEN_MAX; i++)
        all[i].fd = -1;
    add(epoll, timer, EPOLLIN, OPEN_MAX);
    while (!is_over) {
        struct epoll_event got[OPEN_MAX];
        int n = epoll_wait(epoll, got, OPEN_MAX, 100);
        for (int i = 0; i < n; i++) {
            if (got[i].data.u64 < OPEN_MAX && all[got[i].data.u64].fd >= 0)
                heard(&all[got[i].data.u64]);
        }
        uint64_t now = now_us();
        for (unsigned i = 0; i < OPEN_MAX; i++)
            if (all[i].fd >= 0 && now - all[i].begun_us >= LIMIT_US)
                end_attempt(&all[i], "-");
        for (uint64_t due = ticks_due(timer); due > 0; due--)
            begin_attempt(epoll, all, to);
        if (now - flushed_us > 50000) {
            fflush(stdout);
            flushed_us = now;
        }
    }
    return 0;
}

/* ---- watch ---- */

struct machine {
    char name[NAME_MAX_];
    uint8_t mac[ETH_ALEN];
};

struct watch {
    struct machine machines[MACHINES_MAX];
    unsigned machines_n;
    int raw, udp, arp;
    struct sockaddr_ll link;
    uint8_t own_mac[ETH_ALEN];
    uint32_t own_ip, address; /* network order */
    uint16_t port;
    uint64_t asked_us, asked_before_us;
};

struct question {
    struct ether_header ether;
    struct iphdr ip;
    struct udphdr udp;
    uint64_t sent_us;
} __attribute__((packed));

static uint16_t ip_sum(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t sum = 0;

    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static void ask(struct watch *w, const struct machine *m)
{
    struct question q = {.ether.ether_type = htons(ETHERTYPE_IP)};
    uint16_t len = (uint16_t)(sizeof q - sizeof q.ether);
    struct sockaddr_ll to = w->link;

    memcpy(q.ether.ether_dhost, m->mac, ETH_ALEN);
    memcpy(q.ether.ether_shost, w->own_mac, ETH_ALEN);
    q.ip.version = 4;
    q.ip.ihl = 5;
    q.ip.tot_len = htons(len);
    q.ip.ttl = 64;
    q.ip.protocol = IPPROTO_UDP;
    q.ip.saddr = w->own_ip;
    q.ip.daddr = w->address;
    q.ip.check = ip_sum(&q.ip, sizeof q.ip);
    q.udp.source = htons(w->port);
    q.udp.dest = htons(w->port);
    q.udp.len = htons((uint16_t)(len - sizeof q.ip));
    q.sent_us = now_us();
    (void)sendto(w->raw, &q, sizeof q, 0, (struct sockaddr *)&to, sizeof to);
}

static void ask_everybody(struct watch *w)
{
    struct {
        struct ether_header ether;
        struct ether_arp arp;
    } __attribute__((packed)) q = {.ether.ether_type = htons(ETHERTYPE_ARP)};
    struct sockaddr_ll to = w->link;

    memset(q.ether.ether_dhost, 0xff, ETH_ALEN);
    memcpy(q.ether.ether_shost, w->own_mac, ETH_ALEN);
    q.arp.ea_hdr.ar_hrd = htons(ARPHRD_ETHER);
    q.arp.ea_hdr.ar_pro = htons(ETHERTYPE_IP);
    q.arp.ea_hdr.ar_hln = ETH_ALEN;
    q.arp.ea_hdr.ar_pln = 4;
    q.arp.ea_hdr.ar_op = htons(ARPOP_REQUEST);
    memcpy(q.arp.arp_sha, w->own_mac, ETH_ALEN);
    memcpy(q.arp.arp_spa, &w->own_ip, 4);
    memcpy(q.arp.arp_tpa, &w->address, 4);
    w->asked_before_us = w->asked_us;
    w->asked_us = now_us();
    (void)sendto(w->raw, &q, sizeof q, 0, (struct sockaddr *)&to, sizeof to);
}

static void hear_answer(struct watch *w)
{
    char bytes[128];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    uint64_t sent_us;

    for (;;) {
        ssize_t n =
            recvfrom(w->udp, bytes, sizeof bytes - 1, 0, (struct sockaddr *)&from, &from_len);
        if (n < 0)
            return;
        if ((size_t)n <= sizeof sent_us || from.sin_addr.s_addr != w->address)
            continue;
        bytes[n] = '\0';
        memcpy(&sent_us, bytes, sizeof sent_us);
        printf("D %llu %llu %s\n", (unsigned long long)sent_us, (unsigned long long)now_us(),
               bytes + sizeof sent_us);
    }
}

static void hear_arp(struct watch *w)
{
    struct {
        struct ether_header ether;
        struct ether_arp arp;
    } __attribute__((packed)) a;

    for (;;) {
        ssize_t n = recv(w->arp, &a, sizeof a, 0);
        if (n < 0)
            return;
        if ((size_t)n < sizeof a || ntohs(a.arp.ea_hdr.ar_op) != ARPOP_REPLY ||
            memcmp(a.arp.arp_spa, &w->address, 4) != 0 ||
            memcmp(a.ether.ether_dhost, w->own_mac, ETH_ALEN) != 0)
            continue;
        const char *name = "?";
        for (unsigned i = 0; i < w->machines_n; i++)
            if (memcmp(a.arp.arp_sha, w->machines[i].mac, ETH_ALEN) == 0)
                name = w->machines[i].name;
        /* An ARP answer does not say to which question: take the one before the last, so
         * that a slow answer never seems younger than it is. */
        printf("A %llu %llu %s\n", (unsigned long long)w->asked_before_us,
               (unsigned long long)now_us(), name);
    }
}

static void open_watch(struct watch *w, const char *device)
{
    struct ifreq ifr = {0};

    w->raw = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    w->arp = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETHERTYPE_ARP));
    w->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->raw < 0 || w->udp < 0 || w->arp < 0)
        fail("socket");
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", device);
    if (ioctl(w->udp, SIOCGIFHWADDR, &ifr) != 0)
        fail("device");
    memcpy(w->own_mac, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
    if (ioctl(w->udp, SIOCGIFADDR, &ifr) != 0)
        fail("device address");
    w->own_ip = ((struct sockaddr_in *)(void *)&ifr.ifr_addr)->sin_addr.s_addr;
    w->link = (struct sockaddr_ll){.sll_family = AF_PACKET,
                                   .sll_ifindex = (int)if_nametoindex(device),
                                   .sll_halen = ETH_ALEN};
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_addr.s_addr = w->own_ip, .sin_port = htons(w->port)};
    if (bind(w->udp, (struct sockaddr *)&here, sizeof here) != 0)
        fail("bind");
}

static int run_watch(struct watch *w)
{
    enum { TIMER, UDP, ARP };
    int epoll = epoll_create1(EPOLL_CLOEXEC), timer = ticker();
    uint64_t flushed_us = 0, rounds = 0;

    add(epoll, timer, EPOLLIN, TIMER);
    add(epoll, w->udp, EPOLLIN, UDP);
    add(epoll, w->arp, EPOLLIN, ARP);
    while (!is_over) {
        struct epoll_event got[4];
        int n = epoll_wait(epoll, got, 4, 100);
        for (int i = 0; i < n; i++) {
            if (got[i].data.u64 == UDP)
                hear_answer(w);
            else if (got[i].data.u64 == ARP)
                hear_arp(w);
            else if (ticks_due(timer) > 0) {
                for (unsigned m = 0; m < w->machines_n; m++)
                    ask(w, &w->machines[m]);
                if (rounds++ % 2 == 0)
                    ask_everybody(w);
            }
        }
        if (now_us() - flushed_us > 50000) {
            fflush(stdout);
            flushed_us = now_us();
        }
    }
    return 0;
}

static void parse_machine(struct machine *m, const char *text)
{
    unsigned b[ETH_ALEN];

    if (sscanf(text, "%31[^=]=%x:%x:%x:%x:%x:%x", m->name, &b[0], &b[1], &b[2], &b[3], &b[4],
               &b[5]) != 7) {
        fprintf(stderr, "prober: not NAME=MAC: %s\n", text);
        exit(2);
    }
    for (unsigned i = 0; i < ETH_ALEN; i++)
        m->mac[i] = (uint8_t)b[i];
}

int main(int argc, char **argv)
{
    static struct watch w;
    struct sigaction sa = {.sa_handler = stop};
    struct sockaddr_in to = {.sin_family = AF_INET};

    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    if (argc == 4 && strcmp(argv[1], "client") == 0 &&
        inet_pton(AF_INET, argv[2], &to.sin_addr) == 1) {
        to.sin_port = htons((uint16_t)atoi(argv[3]));
        return run_client(&to);
    }
    if (argc > 5 && argc <= 5 + MACHINES_MAX && strcmp(argv[1], "watch") == 0 &&
        inet_pton(AF_INET, argv[3], &w.address) == 1) {
        w.port = (uint16_t)atoi(argv[4]);
        for (int i = 5; i < argc; i++)
            parse_machine(&w.machines[w.machines_n++], argv[i]);
        open_watch(&w, argv[2]);
        return run_watch(&w);
    }
    fprintf(stderr, "usage: tool_prober client ADDRESS PORT\n"
                    "       tool_prober watch DEVICE ADDRESS PORT NAME=MAC...\n");
    return 2;
}
