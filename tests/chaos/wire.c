/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c -- a bad wire between machines: late, lost, doubled and overtaken frames.
 *
 *   tool_wire SEED DEVICE PORT=MAC...
 *
 * What comes in at DEVICE goes out at the PORT behind which its receiver (MAC) is, as the
 * settings want it. Settings are lines on stdin, numbers:
 *   DELAY_MS JITTER_MS LOSS DOUBLE OVERTAKE        the last three of 1000 frames
 * It ends with its stdin, and says how many frames it had. Not every kernel has netem, and only
 * frames from machine to machine are to suffer: nftables forwards just these to DEVICE
 * (bed.py).
 *
 * Frames keep what the kernel has put off (checksums, segmentation): PACKET_VNET_HDR.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PORTS_MAX = 16,
    FRAMES_MAX = 8192, /* that wait; more are lost, as in any queue */
    BYTES_MAX = 64 << 20,
    FRAME_MAX = 1 << 17,
    LINE_ROOM = 128
};

struct port {
    uint8_t mac[ETH_ALEN];
    struct sockaddr_ll to;
    uint64_t last_us; /* when the last frame to it is due: others wait behind it */
};

struct frame {
    uint64_t due_us, number;
    struct port *port;
    size_t len;
    uint8_t *bytes;
};

struct wire {
    struct port ports[PORTS_MAX];
    unsigned ports_n;
    int fd;
    uint64_t chance, number;
    unsigned delay_ms, jitter_ms, loss, doubled, overtake;
    struct frame *heap[FRAMES_MAX]; /* the one that is due first on top */
    size_t heap_n, bytes;
    uint64_t heard_n, lost_n, doubled_n, full_n; /* frames */
};

static void fail(const char *what)
{
    fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static uint64_t draw(struct wire *w, uint64_t below)
{
    w->chance ^= w->chance << 13;
    w->chance ^= w->chance >> 7;
    w->chance ^= w->chance << 17;
    return below > 0 ? w->chance % below : 0;
}

/* ---- what waits ---- */

static bool is_before(const struct frame *a, const struct frame *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->number < b->number;
}

static void swap(struct wire *w, size_t i, size_t k)
{
    struct frame *f = w->heap[i];

    w->heap[i] = w->heap[k];
    w->heap[k] = f;
}

static void put(struct wire *w, struct frame *f)
{
    size_t i = w->heap_n++;

    w->heap[i] = f;
    for (; i > 0 && is_before(w->heap[i], w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(w, i, (i - 1) / 2);
}

static struct frame *take(struct wire *w)
{
    struct frame *first = w->heap[0];

    w->heap[0] = w->heap[--w->heap_n];
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t k = 2 * i + 1; k <= 2 * i + 2; k++)
            if (k < w->heap_n && is_before(w->heap[k], w->heap[least]))
                least = k;
        if (least == i)
            return first;
        swap(w, i, least);
        i = least;
    }
}

static void wait_in_line(struct wire *w, struct port *p, const uint8_t *bytes, size_t len,
                         uint64_t now)
{
    if (w->heap_n == FRAMES_MAX || w->bytes + len > BYTES_MAX) {
        w->full_n++;
        return;
    }
    struct frame *f = malloc(sizeof *f);
    uint8_t *copy = malloc(len);
    if (f == NULL || copy == NULL)
        fail("memory");
    memcpy(copy, bytes, len);
    *f = (struct frame){.due_us = now + 1000 * (w->delay_ms + draw(w, w->jitter_ms + 1)),
                        .number = w->number++,
                        .port = p,
                        .len = len,
                        .bytes = copy};
    if (draw(w, 1000) >= w->overtake) {
        if (f->due_us < p->last_us)
            f->due_us = p->last_us;
        p->last_us = f->due_us;
    }
    w->bytes += len;
    put(w, f);
}

/* ---- in and out ---- */

static void hear(struct wire *w, uint64_t now)
{
    static uint8_t bytes[FRAME_MAX];
    const size_t head = sizeof(struct virtio_net_hdr);

    for (;;) {
        ssize_t n = recv(w->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == ENETDOWN))
            return;
        if (n < 0)
            fail("recv");
        if ((size_t)n < head + sizeof(struct ether_header))
            continue;
        for (unsigned i = 0; i < w->ports_n; i++) {
            if (memcmp(bytes + head, w->ports[i].mac, ETH_ALEN) != 0)
                continue;
            bool is_lost = draw(w, 1000) < w->loss, is_doubled = draw(w, 1000) < w->doubled;
            for (int copies = 1 - is_lost + is_doubled; copies > 0; copies--)
                wait_in_line(w, &w->ports[i], bytes, (size_t)n, now);
            w->heard_n++;
            w->lost_n += is_lost;
            w->doubled_n += is_doubled;
        }
    }
}

static void let_out(struct wire *w, uint64_t now)
{
    while (w->heap_n > 0 && w->heap[0]->due_us <= now) {
        struct frame *f = take(w);
        /* A port that is down takes nothing: lost. */
        (void)sendto(w->fd, f->bytes, f->len, MSG_DONTWAIT, (struct sockaddr *)&f->port->to,
                     sizeof f->port->to);
        w->bytes -= f->len;
        free(f->bytes);
        free(f);
    }
}

static int patience_ms(const struct wire *w, uint64_t now)
{
    if (w->heap_n == 0)
        return -1;
    return w->heap[0]->due_us <= now ? 0 : (int)((w->heap[0]->due_us - now + 999) / 1000);
}

static void parse_port(struct wire *w, const char *text)
{
    struct port *p = &w->ports[w->ports_n++];
    char name[IF_NAMESIZE];
    unsigned b[ETH_ALEN];

    if (sscanf(text, "%15[^=]=%x:%x:%x:%x:%x:%x", name, &b[0], &b[1], &b[2], &b[3], &b[4],
               &b[5]) != 7) {
        fprintf(stderr, "wire: not PORT=MAC: %s\n", text);
        exit(2);
    }
    for (unsigned i = 0; i < ETH_ALEN; i++)
        p->mac[i] = (uint8_t)b[i];
    p->to = (struct sockaddr_ll){.sll_family = AF_PACKET,
                                 .sll_ifindex = (int)if_nametoindex(name),
                                 .sll_halen = ETH_ALEN};
    memcpy(p->to.sll_addr, p->mac, ETH_ALEN);
    if (p->to.sll_ifindex == 0)
        fail(name);
}

static void open_wire(struct wire *w, const char *device)
{
    struct sockaddr_ll here = {.sll_family = AF_PACKET,
                               .sll_protocol = htons(ETH_P_ALL),
                               .sll_ifindex = (int)if_nametoindex(device)};
    int on = 1, room = 8 << 20;

    w->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (w->fd < 0 || setsockopt(w->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        setsockopt(w->fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0 ||
        here.sll_ifindex == 0 || bind(w->fd, (struct sockaddr *)&here, sizeof here) != 0)
        fail(device);
}

/* False: stdin has ended. */
static bool take_settings(struct wire *w)
{
    char line[LINE_ROOM];

    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    if (sscanf(line, "%u %u %u %u %u", &w->delay_ms, &w->jitter_ms, &w->loss, &w->doubled,
               &w->overtake) != 5)
        fprintf(stderr, "wire: not five numbers: %s", line);
    return true;
}

int main(int argc, char **argv)
{
    static struct wire w;

    if (argc < 4 || argc > 3 + PORTS_MAX) {
        fprintf(stderr, "usage: tool_wire SEED DEVICE PORT=MAC...\n");
        return 2;
    }
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() must see what there is */
    w.chance = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
    for (int i = 3; i < argc; i++)
        parse_port(&w, argv[i]);
    open_wire(&w, argv[2]);
    for (;;) {
        struct pollfd fds[2] = {{.fd = w.fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        if (poll(fds, 2, patience_ms(&w, now_us())) < 0 && errno != EINTR)
            fail("poll");
        if (fds[1].revents != 0 && !take_settings(&w)) {
            printf("frames on bad wires %llu, of these lost %llu, doubled %llu, too many at "
                   "once %llu\n",
                   (unsigned long long)w.heard_n, (unsigned long long)w.lost_n,
                   (unsigned long long)w.doubled_n, (unsigned long long)w.full_n);
            return 0;
        }
        hear(&w, now_us());
        let_out(&w, now_us());
    }
}
