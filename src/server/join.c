/* SPDX-License-Identifier: Apache-2.0 */
/* The joiner's side of transport.h: a blocking conversation of four frames. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "server/handshake.h"
#include "server/transport.h"

static int wait_for(int fd, short events, unsigned timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, (int)timeout_ms) == 1 ? 0 : ERR_TIMED_OUT;
}

static int send_frame(int fd, const void *data, size_t len)
{
    struct buf frame = {0};

    buf_add_be32(&frame, (uint32_t)len);
    buf_add(&frame, data, len);
    bool sent = send(fd, frame.data, frame.len, MSG_NOSIGNAL) == (ssize_t)frame.len;
    buf_free(&frame);
    return sent ? 0 : ERR_CONNECTION_LOST;
}

static int read_exactly(int fd, uint8_t *to, size_t len, unsigned timeout_ms)
{
    for (size_t got = 0; got < len;) {
        int err = wait_for(fd, POLLIN, timeout_ms);
        if (err != 0)
            return err;
        ssize_t n = recv(fd, to + got, len - got, 0);
        if (n <= 0)
            return ERR_CONNECTION_LOST;
        got += (size_t)n;
    }
    return 0;
}

static int read_frame(int fd, struct buf *out, unsigned timeout_ms)
{
    uint8_t head[4];
    int err = read_exactly(fd, head, sizeof head, timeout_ms);

    if (err != 0)
        return err;
    uint32_t len = be32_get(head);
    if (len > 64 * TRANSPORT_STRANGER_MAX)
        return ERR_MALFORMED;
    buf_clear(out);
    err = read_exactly(fd, buf_reserve(out, len), len, timeout_ms);
    if (err == 0)
        buf_added(out, len);
    return err;
}

static int dial(const char *address, unsigned timeout_ms, int *out, struct buf *why)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    char ip[INET_ADDRSTRLEN] = "";
    unsigned port = 2182;
    int error = 0;
    socklen_t size = sizeof error;

    if (sscanf(address, "%15[0-9.]:%u", ip, &port) < 1 || port > 65535 ||
        inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
        buf_printf(why, "%s is not an address: IP or IP:PORT", address);
        return ERR_SYNTAX;
    }
    a.sin_port = htons((uint16_t)port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        buf_printf(why, "no socket: %s", strerror(errno));
        return ERR_SYSTEM;
    }
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0 && errno != EINPROGRESS)
        error = errno;
    else if (wait_for(fd, POLLOUT, timeout_ms) != 0)
        error = ETIMEDOUT;
    else
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        buf_printf(why, "%s:%u: %s", ip, port, strerror(error));
        close(fd);
        return ERR_CONNECTION_LOST;
    }
    *out = fd;
    return 0;
}

static int converse(int fd, struct identity *out, const struct token *token,
                    unsigned timeout_ms)
{
    struct handshake h = {.hello = {.kind = HANDSHAKE_JOIN, .from = token->id},
                          .key_len = TOKEN_KEY_LEN};
    struct raft_members one = {.n = 1};
    struct buf frame = {0};
    uint8_t proof[PROOF_LEN];

    h.hello.expires_s = token->expires_s;
    memcpy(h.key, token->key, TOKEN_KEY_LEN);
    secret_random(h.hello.nonce, NONCE_LEN);
    hello_encode(&h.hello, &frame);
    int err = send_frame(fd, frame.data, frame.len);
    if (err == 0)
        err = read_frame(fd, &frame, timeout_ms);
    if (err == 0)
        err = challenge_decode(&h, frame.data, frame.len, proof);
    if (err == 0)
        err = handshake_check(&h, "acceptor", proof) ? 0 : ERR_REFUSED;
    if (err == 0) {
        one.v[0].id = token->id;
        snprintf(one.v[0].name, RAFT_NAME_MAX, "%s", out->name);
        snprintf(one.v[0].address, RAFT_ADDRESS_MAX, "%.40s:2182", out->address);
        handshake_prove(&h, "opener", proof);
        buf_clear(&frame);
        buf_add(&frame, proof, sizeof proof);
        raft_members_encode(&one, &frame);
        err = send_frame(fd, frame.data, frame.len);
    }
    if (err == 0)
        err = read_frame(fd, &frame, timeout_ms);
    if (err == 0)
        err = welcome_decode(&h, out, frame.data, frame.len);
    out->id = token->id;
    out->epoch = h.epoch;
    buf_free(&frame);
    return err;
}

int transport_join(struct identity *out, const char *address, const struct token *token,
                   unsigned timeout_ms, struct buf *why)
{
    int fd;
    int err = dial(address, timeout_ms, &fd, why);

    if (err != 0)
        return err;
    err = converse(fd, out, token, timeout_ms);
    if (err != 0)
        buf_printf(why, "%s: %s", address, err_text(err));
    close(fd);
    return err;
}
