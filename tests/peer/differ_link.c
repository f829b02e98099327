/* SPDX-License-Identifier: Apache-2.0 */
#include "differ_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536
#define FRAME_MAX (64 << 20)

static void fail(const char *what, const char *address)
{
    fprintf(stderr, "differ: %s: %s: %s\n", address, what, strerror(errno));
    exit(3);
}

void link_open(struct link *l, const char *address)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(address, ':');
    int on = 1;

    if (colon == NULL || (size_t)(colon - address) >= sizeof host) {
        fprintf(stderr, "differ: %s is no ADDRESS:PORT\n", address);
        exit(2);
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    a.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
        fail("this is no IPv4 address", address);
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || connect(l->fd, (struct sockaddr *)&a, sizeof a) != 0)
        fail("cannot connect", address);
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    buf_clear(&l->in);
}

void link_close(struct link *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    buf_clear(&l->in);
}

void link_shut(struct link *l) { (void)shutdown(l->fd, SHUT_WR); }

bool link_send(struct link *l, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = send(l->fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static enum link_read more(struct link *l, int wait_ms)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    ssize_t n = recv(l->fd, buf_reserve(&l->in, CHUNK), CHUNK, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        int ready = poll(&p, 1, wait_ms);
        if (ready == 0)
            return LINK_SILENT;
        n = recv(l->fd, buf_reserve(&l->in, CHUNK), CHUNK, 0);
    }
    if (n <= 0)
        return LINK_CLOSED;
    buf_added(&l->in, (size_t)n);
    return LINK_FRAME;
}

enum link_read link_frame(struct link *l, int wait_ms, const uint8_t **data, size_t *len)
{
    /* The one before is only now taken away: it was the caller's. */
    for (;;) {
        if (l->in.len >= 4) {
            size_t n = be32_get(l->in.data);
            if (n > FRAME_MAX) {
                fprintf(stderr, "differ: a frame of %zu bytes\n", n);
                exit(3);
            }
            if (l->in.len >= 4 + n) {
                *data = l->in.data + 4;
                *len = n;
                buf_consume(&l->in, 4 + n);
                return LINK_FRAME;
            }
        }
        enum link_read r = more(l, wait_ms);
        if (r != LINK_FRAME)
            return r;
    }
}

enum link_read link_rest(struct link *l, int wait_ms)
{
    enum link_read r;

    do
        r = more(l, wait_ms);
    while (r == LINK_FRAME);
    return r;
}
