/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/http_get.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "host/clock.h"

#define HEAD_BYTES_MAX 16384u

struct fetch {
    int fd;
    uint64_t until_ms;
    uint32_t timeout_ms;
    struct buf *why;
};

static int failed(struct fetch *f, int err, const char *what)
{
    buf_add_str(f->why, what);
    return err;
}

/* Until the socket is ready or the time is over. */
static int wait_ready(struct fetch *f, short events)
{
    for (;;) {
        uint64_t now = clock_now_ms();
        struct pollfd p = {.fd = f->fd, .events = events};
        int n = now < f->until_ms ? poll(&p, 1, (int)(f->until_ms - now)) : 0;
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return failed(f, ERR_SYSTEM, strerror(errno));
        if (clock_now_ms() >= f->until_ms) {
            buf_printf(f->why, "no answer in %u ms", f->timeout_ms);
            return ERR_TIMED_OUT;
        }
    }
}

static int open_one(struct fetch *f, const struct addrinfo *a)
{
    int number = 0;
    socklen_t len = sizeof number;

    f->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (f->fd < 0)
        return failed(f, ERR_SYSTEM, strerror(errno));
    if (connect(f->fd, a->ai_addr, a->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return failed(f, ERR_REFUSED, strerror(errno));
    int err = wait_ready(f, POLLOUT);
    if (err != 0)
        return err;
    if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &number, &len) != 0 || number != 0)
        return failed(f, ERR_REFUSED, strerror(number));
    return 0;
}

static int dial(struct fetch *f, const char *address)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;

    if (colon == NULL || colon == address || colon[1] == 0 ||
        (size_t)(colon - address) >= sizeof host)
        return failed(f, ERR_BAD_ARGUMENTS, "it is not HOST:PORT");
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    int number = getaddrinfo(host, colon + 1, &hints, &all);
    if (number != 0)
        return failed(f, ERR_NOT_FOUND, gai_strerror(number));
    int err = open_one(f, all);
    freeaddrinfo(all);
    return err;
}

static int send_all(struct fetch *f, const struct buf *out)
{
    size_t at = 0;

    while (at < out->len) {
        ssize_t n = send(f->fd, out->data + at, out->len - at, MSG_NOSIGNAL);
        int err = 0;
        if (n > 0)
            at += (size_t)n;
        else if (errno == EAGAIN)
            err = wait_ready(f, POLLOUT);
        else if (errno != EINTR)
            err = failed(f, ERR_CONNECTION_LOST, strerror(errno));
        if (err != 0)
            return err;
    }
    return 0;
}

/* To the end: the request says that the connection is closed after the answer. */
static int receive_all(struct fetch *f, struct buf *in)
{
    for (;;) {
        uint8_t *to = buf_reserve(in, 65536);
        ssize_t n = recv(f->fd, to, 65536, 0);
        int err = 0;
        if (n == 0)
            return 0;
        if (n > 0)
            buf_added(in, (size_t)n);
        else if (errno == EAGAIN)
            err = wait_ready(f, POLLIN);
        else if (errno != EINTR)
            err = failed(f, ERR_CONNECTION_LOST, strerror(errno));
        if (err == 0 && in->len > HEAD_BYTES_MAX + HTTP_GET_BYTES_MAX)
            err = failed(f, ERR_TOO_BIG, "the answer does not end");
        if (err != 0)
            return err;
    }
}

int http_answer_parse(struct buf *in, int *code, struct buf *body)
{
    const char *text = buf_text(in), *end = strstr(text, "\r\n\r\n");

    if (end == NULL || strncmp(text, "HTTP/1.", 7) != 0 || strlen(text) < 12 ||
        text[8] != ' ' || strspn(text + 9, "0123456789") != 3)
        return ERR_MALFORMED;
    *code = (text[9] - '0') * 100 + (text[10] - '0') * 10 + (text[11] - '0');
    size_t head = (size_t)(end - text) + 4;
    buf_add(body, in->data + head, in->len - head);
    return 0;
}

int http_get(const char *address, const char *path, uint32_t timeout_ms, int *code,
             struct buf *body, struct buf *why)
{
    struct fetch f = {.fd = -1,
                      .until_ms = clock_now_ms() + timeout_ms,
                      .timeout_ms = timeout_ms,
                      .why = why};
    struct buf out = {0}, in = {0};

    /* 1.0: so the body comes in one piece. */
    buf_printf(&out, "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n", path, address);
    int err = dial(&f, address);
    if (err == 0)
        err = send_all(&f, &out);
    if (err == 0)
        err = receive_all(&f, &in);
    if (err == 0 && http_answer_parse(&in, code, body) != 0)
        err = failed(&f, ERR_MALFORMED, "what answers there does not speak HTTP");
    if (f.fd >= 0)
        close(f.fd);
    buf_free(&out);
    buf_free(&in);
    buf_text(why);
    return err;
}
