/* SPDX-License-Identifier: Apache-2.0 */
#include "host/arp.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "host/arp_frame.h"
#include "host/clock.h"

enum { FRAMES_A_TURN = 64, CONFLICT_EVERY_MS = 1000 };

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t nobody[6];

struct probe {
    struct arp *owner;
    struct probe *next;
    struct in_addr address;
    uv_timer_t timer;
    unsigned sent;
    arp_done *done; /* NULL: it is over, and closing */
    void *ctx;
};

struct watched {
    struct in_addr address;
    uint64_t told_ms;
};

struct arp {
    int fd;
    unsigned device;
    uint8_t mac[6];
    uv_poll_t poll;
    struct probe *probes; /* under way */
    unsigned probes_n;
    struct watched watched[ARP_WATCHED_MAX];
    unsigned watched_n;
    unsigned handles; /* that are not closed yet */
    bool is_closing;
    arp_on_conflict *on_conflict;
    void *ctx;
};

static int error_of(int number)
{
    switch (number) {
    case EPERM:
    case EACCES: return ERR_PERMISSION;
    case ENODEV:
    case ENXIO:
    case ENETDOWN: return ERR_NOT_FOUND;
    case ENOBUFS:
    case EAGAIN: return ERR_BUSY;
    default: return ERR_SYSTEM;
    }
}

static int send_frame(struct arp *a, uint16_t op, struct in_addr sender, struct in_addr target,
                      const uint8_t target_mac[6])
{
    struct arp_frame f = {.ethernet.ether_type = htons(ETHERTYPE_ARP)};

    memcpy(f.ethernet.ether_dhost, everybody, 6);
    memcpy(f.ethernet.ether_shost, a->mac, 6);
    f.arp.ea_hdr = (struct arphdr){.ar_hrd = htons(ARPHRD_ETHER),
                                   .ar_pro = htons(ETHERTYPE_IP),
                                   .ar_hln = 6,
                                   .ar_pln = 4,
                                   .ar_op = htons(op)};
    memcpy(f.arp.arp_sha, a->mac, 6);
    memcpy(f.arp.arp_spa, &sender, 4);
    memcpy(f.arp.arp_tha, target_mac, 6);
    memcpy(f.arp.arp_tpa, &target, 4);
    ssize_t n = send(a->fd, &f, sizeof f, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n == (ssize_t)sizeof f ? 0 : error_of(n < 0 ? errno : EIO);
}

int arp_announce(struct arp *a, struct in_addr address, uint64_t until_ms)
{
    const struct {
        uint16_t op;
        const uint8_t *target_mac;
    } forms[] = {{ARPOP_REQUEST, nobody}, {ARPOP_REPLY, everybody}};
    int err = 0;

    for (unsigned i = 0; i < 2 && err == 0; i++) {
        if (clock_now_ms() >= until_ms)
            return ERR_UNSAFE;
        err = send_frame(a, forms[i].op, address, address, forms[i].target_mac);
    }
    return err;
}

/* ---- the end of things ---- */

static void on_handle_closed(struct arp *a)
{
    if (--a->handles == 0 && a->is_closing) {
        close(a->fd);
        mem_free(a);
    }
}

static void on_probe_closed(uv_handle_t *handle)
{
    struct probe *p = handle->data;
    struct arp *a = p->owner;

    mem_free(p);
    on_handle_closed(a);
}

static void end_probe(struct probe *p)
{
    struct probe **at = &p->owner->probes;

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->owner->probes_n--;
    p->done = NULL;
    uv_close((uv_handle_t *)&p->timer, on_probe_closed);
}

static void answer_probe(struct probe *p, int err, const uint8_t *mac)
{
    arp_done *done = p->done;
    void *ctx = p->ctx;

    end_probe(p);
    done(ctx, err, mac);
}

static void on_poll_closed(uv_handle_t *handle) { on_handle_closed(handle->data); }

void arp_close(struct arp *a)
{
    a->is_closing = true;
    while (a->probes != NULL)
        end_probe(a->probes);
    uv_close((uv_handle_t *)&a->poll, on_poll_closed);
}

/* ---- probing ---- */

static void on_probe_time(uv_timer_t *timer)
{
    struct probe *p = timer->data;
    const struct in_addr none = {0};

    if (p->sent == ARP_PROBES) {
        answer_probe(p, 0, NULL);
        return;
    }
    int err = send_frame(p->owner, ARPOP_REQUEST, none, p->address, nobody);
    if (err != 0 && err != ERR_BUSY) {
        answer_probe(p, err, NULL);
        return;
    }
    p->sent++;
    uv_timer_start(timer, on_probe_time, ARP_PROBE_GAP_MS, 0);
}

int arp_probe(struct arp *a, struct in_addr address, arp_done *done, void *ctx)
{
    if (a->probes_n == ARP_PROBES_AT_ONCE_MAX)
        return ERR_BUSY;
    struct probe *p = mem_new(struct probe);
    *p = (struct probe){
        .owner = a, .next = a->probes, .address = address, .done = done, .ctx = ctx};
    a->probes = p;
    a->probes_n++;
    a->handles++;
    uv_timer_init(a->poll.loop, &p->timer);
    p->timer.data = p;
    uv_timer_start(&p->timer, on_probe_time, 0, 0);
    return 0;
}

void arp_probe_stop(struct arp *a, struct in_addr address)
{
    for (struct probe *p = a->probes, *next; p != NULL; p = next) {
        next = p->next;
        if (p->address.s_addr == address.s_addr)
            end_probe(p);
    }
}

/* ---- what others say ---- */

static void see_claim(struct arp *a, struct in_addr address, const uint8_t mac[6])
{
    uint64_t now_ms = clock_now_ms();

    for (unsigned i = 0; i < a->watched_n; i++) {
        struct watched *w = &a->watched[i];
        if (w->address.s_addr != address.s_addr ||
            (w->told_ms != 0 && now_ms - w->told_ms < CONFLICT_EVERY_MS))
            continue;
        w->told_ms = now_ms;
        a->on_conflict(a->ctx, address, mac);
        return; /* the list may have changed */
    }
}

static void see_frame(struct arp *a, const struct arp_frame *f)
{
    struct arp_claim c;

    if (!arp_frame_read(f, a->mac, &c))
        return;
    for (struct probe *p = a->probes; p != NULL; p = p->next) {
        if (p->address.s_addr == c.address.s_addr && p->sent > 0) {
            answer_probe(p, 0, c.mac);
            break;
        }
    }
    if (!c.is_probe && !a->is_closing)
        see_claim(a, c.address, c.mac);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct arp *a = poll->data;

    (void)status, (void)events;
    for (unsigned i = 0; i < FRAMES_A_TURN && !a->is_closing; i++) {
        struct arp_frame f;
        struct sockaddr_ll from = {0};
        socklen_t from_len = sizeof from;
        ssize_t n =
            recvfrom(a->fd, &f, sizeof f, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
        if (n < 0)
            return; /* nothing more; a device that went down is told once, and stays quiet */
        if (n >= (ssize_t)sizeof f && from.sll_pkttype != PACKET_OUTGOING)
            see_frame(a, &f);
    }
}

int arp_watch(struct arp *a, struct in_addr address)
{
    for (unsigned i = 0; i < a->watched_n; i++)
        if (a->watched[i].address.s_addr == address.s_addr)
            return 0;
    if (a->watched_n == ARP_WATCHED_MAX)
        return ERR_BUSY;
    a->watched[a->watched_n++] = (struct watched){.address = address};
    return 0;
}

void arp_unwatch(struct arp *a, struct in_addr address)
{
    for (unsigned i = 0; i < a->watched_n; i++)
        if (a->watched[i].address.s_addr == address.s_addr)
            a->watched[i--] = a->watched[--a->watched_n];
}

/* ---- the start ---- */

/* The Ethernet address that the socket's device sends from. */
static int own_mac(int fd, uint8_t mac[6])
{
    struct sockaddr_ll self = {0};
    socklen_t len = sizeof self;

    if (getsockname(fd, (struct sockaddr *)&self, &len) != 0)
        return error_of(errno);
    if (self.sll_hatype != ARPHRD_ETHER || self.sll_halen != 6)
        return ERR_NOT_FOUND;
    memcpy(mac, self.sll_addr, 6);
    return 0;
}

int arp_open(struct arp **out, uv_loop_t *loop, unsigned device, arp_on_conflict *on_conflict,
             void *ctx)
{
    uint8_t mac[6];
    const struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP), .sll_ifindex = (int)device};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = fd < 0 ? error_of(errno) : 0;

    if (err == 0 && bind(fd, (const struct sockaddr *)&to, sizeof to) != 0)
        err = error_of(errno);
    if (err == 0)
        err = own_mac(fd, mac);
    if (err != 0) {
        if (fd >= 0)
            close(fd);
        return err;
    }

    struct arp *a = mem_new(struct arp);
    a->fd = fd;
    a->device = device;
    memcpy(a->mac, mac, 6);
    a->on_conflict = on_conflict;
    a->ctx = ctx;
    a->handles = 1;
    uv_poll_init(loop, &a->poll, fd);
    a->poll.data = a;
    uv_poll_start(&a->poll, UV_READABLE, on_readable);
    *out = a;
    return 0;
}

unsigned arp_device(const struct arp *a) { return a->device; }
