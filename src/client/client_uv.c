/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client_uv.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/mem.h"

#define READ_BYTES 65536
#define ADDRESS_MAX 64

/* One connection, or the attempt at one. It outlives its use until libuv has closed it;
 * `u` is NULL from the moment that nothing of it counts any more. */
struct conn {
    uv_tcp_t tcp;
    uv_connect_t connecting;
    struct client_uv *u;
    unsigned server;
    bool is_open, is_answered;
};

struct write {
    uv_write_t request;
    struct conn *conn;
    size_t len;
    uint8_t data[];
};

struct client_uv {
    struct client_uv_options options;
    struct client *client;
    struct sockaddr_storage addresses[CLIENT_SERVERS_MAX];
    char why[CLIENT_SERVERS_MAX][CLIENT_UV_WHY_MAX];
    uv_timer_t *timer;
    struct conn *conn; /* the present one; NULL: none */
    bool is_writing;   /* libuv has bytes of it that the kernel did not take */
    bool is_turning, is_freed;
    uint8_t input[READ_BYTES];
};

static void turn(struct client_uv *u);

static uint64_t now(const struct client_uv *u) { return u->options.now_ms(); }

static void conn_closed(uv_handle_t *h) { mem_free(h->data); }

static void leave(struct client_uv *u)
{
    struct conn *conn = u->conn;

    u->conn = NULL;
    u->is_writing = false;
    conn->u = NULL;
    uv_close((uv_handle_t *)&conn->tcp, conn_closed);
}

static void note(struct client_uv *u, unsigned server, const char *why)
{
    snprintf(u->why[server], sizeof u->why[server], "%s", why);
}

/* The other side, or the network, has ended it. */
static void lost(struct client_uv *u, int err)
{
    if (!u->conn->is_answered)
        note(u, u->conn->server,
             err == UV_EOF ? "it closed the connection without an answer" : uv_strerror(err));
    leave(u);
    client_closed(u->client, now(u));
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *out)
{
    struct conn *conn = h->data;

    (void)size;
    /* Never read into, once the connection does not count: uv_close stops reading. */
    *out = conn->u != NULL ? uv_buf_init((char *)conn->u->input, READ_BYTES)
                           : uv_buf_init(NULL, 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    struct client_uv *u = conn->u;

    if (u == NULL || n == 0)
        return;
    if (n < 0) {
        lost(u, (int)n);
    } else {
        conn->is_answered = true;
        note(u, conn->server, "");
        client_received(u->client, now(u), (const uint8_t *)buf->base, (size_t)n);
    }
    turn(u);
}

/* Without this, bytes that nobody acknowledges are sent again for a quarter of an hour. */
static void set_options(struct conn *conn)
{
    uv_os_fd_t fd;
    unsigned ms = conn->u->options.client.timeout_ms;

    (void)uv_tcp_nodelay(&conn->tcp, 1);
    if (uv_fileno((uv_handle_t *)&conn->tcp, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct conn *conn = request->data;
    struct client_uv *u = conn->u;

    if (u == NULL)
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read);
    if (status == 0) {
        conn->is_open = true;
        set_options(conn);
        client_opened(u->client, now(u));
    } else {
        lost(u, status);
    }
    turn(u);
}

static void dial(struct client_uv *u, unsigned server)
{
    struct conn *conn = mem_new(struct conn);

    conn->u = u;
    conn->server = server;
    conn->connecting.data = conn;
    int err = uv_tcp_init(u->options.loop, &conn->tcp);
    conn->tcp.data = conn;
    if (err != 0) { /* only for want of memory: nothing to close */
        note(u, server, uv_strerror(err));
        mem_free(conn);
        client_closed(u->client, now(u));
        return;
    }
    u->conn = conn;
    if (u->why[server][0] == 0)
        note(u, server, "it has not answered yet");
    err = uv_tcp_connect(&conn->connecting, &conn->tcp,
                         (const struct sockaddr *)&u->addresses[server], on_connect);
    if (err != 0)
        lost(u, err);
}

static void on_written(uv_write_t *request, int status)
{
    struct write *w = request->data;
    struct client_uv *u = w->conn->u;

    mem_free(w);
    if (u == NULL)
        return;
    u->is_writing = false;
    if (status != 0)
        lost(u, status);
    turn(u);
}

/* What the kernel does not take at once goes to libuv in one piece; what comes meanwhile
 * stays in the core's buffer. */
static void send_output(struct client_uv *u)
{
    struct buf *out = client_output(u->client);

    if (u->conn == NULL || !u->conn->is_open || u->is_writing || out->len == 0)
        return;
    uv_buf_t b = uv_buf_init((char *)out->data, (unsigned)out->len);
    int n = uv_try_write((uv_stream_t *)&u->conn->tcp, &b, 1);
    if (n > 0)
        buf_consume(out, (size_t)n);
    if (n < 0 && n != UV_EAGAIN) {
        lost(u, n);
        return;
    }
    if (out->len == 0)
        return;
    struct write *w = mem_alloc(sizeof *w + out->len);
    w->conn = u->conn;
    w->request.data = w;
    memcpy(w->data, out->data, out->len);
    b = uv_buf_init((char *)w->data, (unsigned)out->len);
    buf_consume(out, out->len);
    int err = uv_write(&w->request, (uv_stream_t *)&u->conn->tcp, &b, 1, on_written);
    if (err != 0) {
        mem_free(w);
        lost(u, err);
        return;
    }
    u->is_writing = true;
}

static void on_timer(uv_timer_t *timer)
{
    struct client_uv *u = timer->data;

    client_time(u->client, now(u));
    turn(u);
}

static void arm(struct client_uv *u)
{
    uint64_t at = client_deadline(u->client), t = now(u);

    if (at == CLIENT_NEVER) {
        uv_timer_stop(u->timer);
        return;
    }
    uv_update_time(u->options.loop);
    /* Never 0: libuv would run it before it looks at anything else, again and again. */
    uv_timer_start(u->timer, on_timer, at > t ? at - t : 1, 0);
}

/* Carries out what the core wants. True if that gave it something new to think about. */
static bool carry_out(struct client_uv *u)
{
    unsigned server;

    switch (client_wants(u->client, now(u), &server)) {
    case CLIENT_WANT_NOTHING: break;
    case CLIENT_WANT_CLOSE:
        if (u->conn != NULL) {
            if (client_is_refused(u->client))
                note(u, u->conn->server, "it refuses our credentials");
            else if (!u->conn->is_answered)
                note(u, u->conn->server,
                     u->conn->is_open ? "it does not answer" : "no connection in time");
            leave(u);
        }
        return true;
    case CLIENT_WANT_CONNECTION: dial(u, server); return true;
    }
    send_output(u);
    return client_deadline(u->client) <= now(u) && u->conn == NULL &&
           client_state(u->client) == CLIENT_CONNECTING;
}

/* After anything that happened. */
static void turn(struct client_uv *u)
{
    if (u->is_turning || u->is_freed)
        return;
    u->is_turning = true;
    do {
        /* Else what only waits for the clock would keep this going until the timer's turn. */
        if (client_deadline(u->client) <= now(u))
            client_time(u->client, now(u));
        if (!u->is_freed && u->options.after != NULL)
            u->options.after(u->options.ctx);
    } while (!u->is_freed && carry_out(u));
    u->is_turning = false;
    if (!u->is_freed)
        arm(u);
}

/* Whole text, or nothing: "host:port" with a port of 1..65535. */
static int parse_address(const char *text, struct sockaddr_storage *out)
{
    const char *colon = strrchr(text, ':');
    char host[ADDRESS_MAX], *end;

    if (colon == NULL || (size_t)(colon - text) >= sizeof host || colon[1] < '0' ||
        colon[1] > '9')
        return ERR_BAD_ARGUMENTS;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end != 0 || port == 0 || port > 65535)
        return ERR_BAD_ARGUMENTS;
    size_t len = (size_t)(colon - text);
    memcpy(host, text, len);
    host[len] = 0;
    if (uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out) == 0)
        return 0;
    if (len < 2 || host[0] != '[' || host[len - 1] != ']')
        return ERR_BAD_ARGUMENTS;
    host[len - 1] = 0;
    return uv_ip6_addr(host + 1, (int)port, (struct sockaddr_in6 *)out) == 0
               ? 0
               : ERR_BAD_ARGUMENTS;
}

int client_uv_new(struct client_uv **out, const struct client_uv_options *options,
                  unsigned *bad)
{
    struct client_uv *u = mem_new(struct client_uv);

    u->options = *options;
    for (unsigned i = 0; i < options->client.servers && i < CLIENT_SERVERS_MAX; i++) {
        if (parse_address(options->addresses[i], &u->addresses[i]) != 0) {
            *bad = i;
            mem_free(u);
            return ERR_BAD_ARGUMENTS;
        }
    }
    u->options.addresses = NULL; /* the caller's, not kept */
    u->client = client_new(&options->client);
    u->timer = mem_new(uv_timer_t);
    (void)uv_timer_init(options->loop, u->timer);
    u->timer->data = u;
    uv_timer_start(u->timer, on_timer, 0, 0);
    *out = u;
    return 0;
}

int client_uv_add_server(struct client_uv *u, const char *address)
{
    struct sockaddr_storage a = {0};

    if (parse_address(address, &a) != 0)
        return ERR_BAD_ARGUMENTS;
    for (unsigned i = 0; i < u->options.client.servers; i++)
        if (memcmp(&u->addresses[i], &a, sizeof a) == 0)
            return 0;
    if (!client_add_server(u->client))
        return ERR_TOO_BIG;
    u->addresses[u->options.client.servers++] = a;
    return 0;
}

static void timer_closed(uv_handle_t *h)
{
    mem_free(h->data);
    mem_free(h);
}

void client_uv_free(struct client_uv *u)
{
    if (u == NULL || u->is_freed)
        return;
    u->is_freed = true;
    if (u->conn != NULL)
        leave(u);
    client_free(u->client);
    u->client = NULL;
    uv_close((uv_handle_t *)u->timer, timer_closed);
}

struct client *client_uv_client(struct client_uv *u) { return u->client; }
void client_uv_kick(struct client_uv *u) { turn(u); }
const char *client_uv_why(const struct client_uv *u, unsigned server) { return u->why[server]; }
