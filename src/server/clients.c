/* SPDX-License-Identifier: Apache-2.0 */
#include "server/clients.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mutant.h"

#define READ_CHUNK 65536
#define KEEPALIVE_S 30    /* a client whose machine is gone is noticed */
#define SAY_AGAIN_MS 1000 /* what may happen a thousand times a second is logged once */

/* An address that connections come from. */
struct client_address {
    struct hash_link by_address;
    uint32_t address; /* IPv4, in the network's order */
    unsigned n;
};

/* What a connection is given a time for. */
enum waits { WAITS_CONNECT, WAITS_IDLE, WAITS_LINGER, WAITS_N, WAITS_NOT = WAITS_N };

struct client_conn {
    struct hash_link by_id;
    struct client_address *from; /* NULL: not counted */
    TAILQ_ENTRY(client_conn) in_paused;
    TAILQ_ENTRY(client_conn) in_waiting; /* unless WAITS_NOT */
    uint64_t due_ms;
    struct clients *clients;
    uint64_t id;
    uv_tcp_t tcp;
    enum waits waits; /* until the first frame; until the last bytes are taken */
    bool any_frame;   /* so a four-letter word is no longer possible */
    bool known;       /* the member has been told of it, and has not closed it */
    bool ending;      /* closes when everything is sent */
    bool lingers;     /* and then waits for the client to close */
    bool closing, paused;
    struct buf in;
    size_t unsent;
};

struct clients {
    struct clients_options options;
    uv_loop_t *loop;
    uv_tcp_t listener;
    struct hash_table conns, addresses;
    TAILQ_HEAD(, client_conn) paused;
    TAILQ_HEAD(client_queue, client_conn) waiting[WAITS_N]; /* who is due first, first */
    uv_timer_t timer;                                       /* one for all of them */
    uint64_t wake_ms;                                       /* when it fires; UINT64_MAX: not */
    uint64_t last_id;
    uint32_t frame_max;       /* bytes */
    size_t max;               /* connections */
    const char *max_name;     /* the limit that it is */
    uint64_t refused, say_ms; /* connections since it was said; when it may be said again */
    char chunk[READ_CHUNK];   /* of who reads now: the idle hold no memory */
    bool stopping;
    unsigned handles; /* of its own that are not closed */
    struct clients_facts facts;
};

struct client_write {
    uv_write_t req;
    struct client_conn *conn;
    uv_buf_t bytes;
};

static void free_if_done(struct clients *c)
{
    if (c->stopping && c->handles == 0 && c->conns.count == 0) {
        hash_free(&c->conns);
        hash_free(&c->addresses);
        mem_free(c);
    }
}

/* ---- connections of one address ---- */

static struct client_address *address_find(const struct clients *c, uint32_t address)
{
    struct hash_link *l = hash_first(&c->addresses, hash_u64(address));

    for (; l != NULL; l = hash_next(l)) {
        struct client_address *a = HASH_ENTRY(l, struct client_address, by_address);
        if (a->address == address)
            return a;
    }
    return NULL;
}

static void address_join(struct client_conn *k, uint32_t address)
{
    struct client_address *a = address_find(k->clients, address);

    if (a == NULL) {
        a = mem_new(struct client_address);
        a->address = address;
        hash_insert(&k->clients->addresses, &a->by_address, hash_u64(address));
    }
    a->n++;
    k->from = a;
}

static void address_leave(struct client_conn *k)
{
    struct client_address *a = k->from;

    k->from = NULL;
    if (a == NULL || --a->n > 0)
        return;
    hash_remove(&k->clients->addresses, &a->by_address);
    mem_free(a);
}

/* ---- time ---- */

static void too_late(uv_timer_t *timer);

static uint64_t wait_ms(const struct clients *c, enum waits waits)
{
    switch (waits) {
    case WAITS_CONNECT: return (uint64_t)c->options.settings->no_session_ms;
    case WAITS_IDLE: return CLIENT_IDLE_MS;
    case WAITS_LINGER: return CLIENT_LINGER_MS;
    case WAITS_N: break;
    }
    return 0;
}

static void wait_not(struct client_conn *k)
{
    if (k->waits != WAITS_NOT)
        TAILQ_REMOVE(&k->clients->waiting[k->waits], k, in_waiting);
    k->waits = WAITS_NOT;
}

/* The timer may be early: it looks again. */
static void wait_for(struct client_conn *k, enum waits waits)
{
    struct clients *c = k->clients;
    uint64_t ms = wait_ms(c, waits);

    wait_not(k);
    k->waits = waits;
    k->due_ms = uv_now(c->loop) + ms;
    TAILQ_INSERT_TAIL(&c->waiting[waits], k, in_waiting);
    if (k->due_ms < c->wake_ms) {
        c->wake_ms = k->due_ms;
        uv_timer_start(&c->timer, too_late, ms, 0);
    }
}

/* ---- the end of a connection ---- */

static void handle_closed(uv_handle_t *h)
{
    struct client_conn *k = h->data;
    struct clients *c = k->clients;

    /* Here and not in conn_close_now(): that may run inside the member's own turn. */
    if (k->known && !c->stopping) {
        c->options.woken(c->options.ctx);
        member_client_closed(c->options.member, k->id);
    }
    hash_remove(&c->conns, &k->by_id);
    buf_free(&k->in);
    mem_free(k);
    free_if_done(c);
}

static void conn_close_now(struct client_conn *k)
{
    if (k->closing)
        return;
    k->closing = true;
    wait_not(k);
    address_leave(k);
    if (k->paused)
        TAILQ_REMOVE(&k->clients->paused, k, in_paused);
    k->paused = false;
    uv_close((uv_handle_t *)&k->tcp, handle_closed);
}

static struct client_conn *find(const struct clients *c, uint64_t id)
{
    struct hash_link *l = hash_first(&c->conns, hash_u64(id));

    for (; l != NULL; l = hash_next(l)) {
        struct client_conn *k = HASH_ENTRY(l, struct client_conn, by_id);
        if (k->id == id)
            return k;
    }
    return NULL;
}

/* ---- out ---- */

static void too_late(uv_timer_t *timer)
{
    struct clients *c = timer->data;
    uint64_t now = uv_now(c->loop), next = UINT64_MAX;

    for (enum waits w = 0; w < WAITS_N; w++) {
        struct client_conn *k;
        while ((k = TAILQ_FIRST(&c->waiting[w])) != NULL && k->due_ms <= now) {
            c->facts.no_session_total += w == WAITS_CONNECT;
            conn_close_now(k);
        }
        if (k != NULL && k->due_ms < next)
            next = k->due_ms;
    }
    c->wake_ms = next;
    if (next != UINT64_MAX)
        uv_timer_start(&c->timer, too_late, next - now, 0);
}

/* Everything is sent. Who was answered a word may still send a line end, or more; closed at
 * once, that would make the kernel throw away what the client has not taken yet. */
static void sent_all(struct client_conn *k)
{
    uv_os_fd_t fd;

    if (!k->lingers || uv_fileno((uv_handle_t *)&k->tcp, &fd) != 0 ||
        shutdown(fd, SHUT_WR) != 0) {
        conn_close_now(k);
        return;
    }
    wait_for(k, WAITS_LINGER);
}

static void written(uv_write_t *req, int status)
{
    struct client_write *w = req->data;
    struct client_conn *k = w->conn;

    k->unsent -= w->bytes.len;
    mem_free(w->bytes.base);
    mem_free(w);
    if (status != 0)
        conn_close_now(k);
    else if (k->ending && k->unsent == 0)
        sent_all(k);
}

static void queue(struct client_conn *k, const uint8_t *data, size_t len)
{
    struct client_write *w = mem_new(struct client_write);

    w->conn = k;
    w->req.data = w;
    w->bytes = uv_buf_init(mem_dup(data, len), (unsigned)len);
    k->unsent += len;
    if (uv_write(&w->req, (uv_stream_t *)&k->tcp, &w->bytes, 1, written) != 0) {
        k->unsent -= len;
        mem_free(w->bytes.base);
        mem_free(w);
        conn_close_now(k);
    }
}

static void send_bytes(struct client_conn *k, const uint8_t *data, size_t len)
{
    if (k->unsent == 0) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
        int n = uv_try_write((uv_stream_t *)&k->tcp, &b, 1);
        if (n < 0 && n != UV_EAGAIN) {
            conn_close_now(k);
            return;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    if (len > 0 && k->unsent + len > CLIENT_UNSENT_MAX) {
        log_event(LOG_WARNING, "client_closed", LOG_U("conn", k->id),
                  LOG_S("limit", "CLIENT_UNSENT_MAX"));
        conn_close_now(k);
    } else if (len > 0) {
        queue(k, data, len);
    }
}

void clients_send(struct clients *c, uint64_t conn, const uint8_t *data, size_t len)
{
    struct client_conn *k = find(c, conn);

    if (k != NULL && !k->closing)
        send_bytes(k, data, len);
}

static void end(struct client_conn *k)
{
    k->ending = true;
    if (!k->lingers)
        uv_read_stop((uv_stream_t *)&k->tcp);
    if (k->unsent == 0)
        sent_all(k);
    else
        wait_for(k, WAITS_IDLE);
}

void clients_close(struct clients *c, uint64_t conn)
{
    struct client_conn *k = find(c, conn);

    if (k == NULL || k->closing)
        return;
    k->known = false;
    end(k);
}

/* ---- in ---- */

static void conn_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct client_conn *k = h->data;

    (void)suggested;
    *out = uv_buf_init(k->clients->chunk, READ_CHUNK);
}

/* It has asked for more than it has taken, or than has been answered. */
static bool is_blocked(const struct client_conn *k)
{
    return k->known && (k->unsent >= CLIENT_UNSENT_PAUSE ||
                        member_client_is_busy(k->clients->options.member, k->id));
}

static void pause_reading(struct client_conn *k)
{
    uv_read_stop((uv_stream_t *)&k->tcp);
    k->paused = true;
    TAILQ_INSERT_TAIL(&k->clients->paused, k, in_paused);
}

static bool take_word(struct client_conn *k, const uint8_t *data, size_t len)
{
    struct buf answer = {0};
    k->lingers = true;
    enum word_result result =
        k->clients->options.word(k->clients->options.ctx, k->id, data, len, &answer);

    k->lingers = result == WORD_DONE;
    if (k->lingers) {
        send_bytes(k, answer.data, answer.len);
        if (k->known) /* it counts for nothing while it lingers */
            member_client_closed(k->clients->options.member, k->id);
        k->known = false;
        if (!k->closing)
            end(k);
    }
    buf_free(&answer);
    return result != WORD_NONE;
}

static bool may_take(const struct client_conn *k)
{
    return !k->closing && !k->ending && !k->paused;
}

/* Gives the member the whole frames that data begins with, and returns how many bytes they
 * were. */
static size_t take_frames(struct client_conn *k, const uint8_t *data, size_t n)
{
    struct member *m = k->clients->options.member;
    size_t at = 0;

    while (may_take(k) && n - at >= 4) {
        uint32_t len = be32_get(data + at);
        if (!k->any_frame && take_word(k, data + at, n - at))
            break;
        if (len == 0 || len > (k->any_frame ? k->clients->frame_max : CLIENT_CONNECT_MAX)) {
            log_event(LOG_WARNING, "client_closed", LOG_U("conn", k->id),
                      LOG_S("limit", !k->any_frame              ? "CLIENT_CONNECT_MAX"
                                     : len > MEMBER_FRAME_LIMIT ? "MEMBER_FRAME_LIMIT"
                                                                : "jute.maxbuffer"),
                      LOG_U("frame", len));
            conn_close_now(k);
            break;
        }
        if (n - at - 4 < len)
            break;
        if (!k->any_frame) {
            k->any_frame = true;
            wait_not(k);
        }
        if (k->known)
            member_client_frame(m, k->id, data + at + 4, len);
        at += 4 + (size_t)len;
        if (is_blocked(k))
            pause_reading(k);
    }
    return at;
}

/* What is kept of earlier reads: the beginning of a frame, or, while it was paused, more. */
static void take_kept(struct client_conn *k)
{
    buf_consume(&k->in, take_frames(k, k->in.data, k->in.len));
    if (k->in.len == 0 || k->ending)
        buf_free(&k->in);
}

/* Frames are taken from where they were read; only a beginning that is kept is completed first,
 * by as many bytes as it lacks. */
static void conn_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct client_conn *k = s->data;

    if (n < 0 && k->lingers && k->unsent > 0) {
        uv_read_stop(s); /* it will say no more, but may still listen */
        return;
    }
    if (n < 0) {
        k->clients->facts.dropped_total += !k->ending;
        conn_close_now(k);
        return;
    }
    if (k->ending) /* what stands behind a word is of no interest */
        return;
    const uint8_t *at = (const uint8_t *)b->base, *end = at + n;
    k->clients->options.woken(k->clients->options.ctx);
    while (may_take(k) && k->in.len > 0 && at < end) {
        size_t whole = k->in.len < 4 ? 4 : 4 + (size_t)be32_get(k->in.data);
        size_t lacks = whole - k->in.len;
        size_t some = lacks < (size_t)(end - at) ? lacks : (size_t)(end - at);
        buf_add(&k->in, at, some);
        if (!MUTANT(clients_rest_twice))
            at += some;
        take_kept(k);
    }
    if (may_take(k))
        at += take_frames(k, at, (size_t)(end - at));
    if (at < end && !k->closing && !k->ending && !MUTANT(clients_rest_lost))
        buf_add(&k->in, at, (size_t)(end - at));
}

bool clients_wait(const struct clients *c)
{
    struct client_conn *k;

    TAILQ_FOREACH (k, &c->paused, in_paused)
        if (!is_blocked(k))
            return true;
    return false;
}

bool clients_resume(struct clients *c)
{
    struct client_conn *k, *next;
    bool any = false;

    TAILQ_FOREACH_SAFE(k, &c->paused, in_paused, next)
    {
        if (is_blocked(k))
            continue;
        TAILQ_REMOVE(&c->paused, k, in_paused);
        k->paused = false;
        any = true;
        take_kept(k);
        if (may_take(k))
            (void)uv_read_start((uv_stream_t *)&k->tcp, conn_alloc, conn_read);
    }
    return any;
}

/* Somebody who tries again at once must not fill the log. */
static void refused(struct clients *c, const char *limit, const char *address)
{
    c->refused++;
    c->facts.refused_total++;
    if (uv_now(c->loop) < c->say_ms)
        return;
    c->say_ms = uv_now(c->loop) + SAY_AGAIN_MS;
    log_event(LOG_WARNING, "client_refused", LOG_S("limit", limit), LOG_S("address", address),
              LOG_U("connections", c->conns.count), LOG_U("times", c->refused));
    c->refused = 0;
}

static void accepted(uv_stream_t *listener, int status)
{
    struct clients *c = listener->data;
    struct client_conn *k;
    struct sockaddr_in a = {0};
    int size = sizeof a;
    char text[INET_ADDRSTRLEN] = "?";

    if (status != 0) {
        refused(c, uv_strerror(status), "?");
        return;
    }
    k = mem_new(struct client_conn);
    k->clients = c;
    k->id = ++c->last_id;
    k->waits = WAITS_NOT;
    CHECK(uv_tcp_init(c->loop, &k->tcp) == 0);
    k->tcp.data = k;
    hash_insert(&c->conns, &k->by_id, hash_u64(k->id));
    if (uv_accept(listener, (uv_stream_t *)&k->tcp) != 0) {
        conn_close_now(k);
        return;
    }
    if (uv_tcp_getpeername(&k->tcp, (struct sockaddr *)&a, &size) == 0)
        inet_ntop(AF_INET, &a.sin_addr, text, sizeof text);
    address_join(k, a.sin_addr.s_addr);
    unsigned from_one_max = (unsigned)c->options.settings->clients_from_one_max;
    bool too_many = from_one_max > 0 && k->from->n > from_one_max;
    if (too_many || c->conns.count > c->max) {
        refused(c, too_many ? "maxClientCnxns" : c->max_name, text);
        conn_close_now(k);
        return;
    }
    c->options.woken(c->options.ctx);
    member_client_opened(c->options.member, k->id, text);
    k->known = true;
    wait_for(k, WAITS_CONNECT);
    if (uv_read_start((uv_stream_t *)&k->tcp, conn_alloc, conn_read) != 0)
        conn_close_now(k);
}

/* ---- for monitors ---- */

void clients_facts(const struct clients *c, struct clients_facts *out) { *out = c->facts; }

void clients_facts_reset(struct clients *c) { c->facts = (struct clients_facts){0}; }

static void address_of(const struct client_conn *k, char text[CLIENT_ADDRESS_MAX])
{
    struct sockaddr_in a = {0};
    int size = sizeof a;
    char host[INET_ADDRSTRLEN] = "?";

    if (uv_tcp_getpeername(&k->tcp, (struct sockaddr *)&a, &size) == 0)
        inet_ntop(AF_INET, &a.sin_addr, host, sizeof host);
    snprintf(text, CLIENT_ADDRESS_MAX, "%s:%u", host, ntohs(a.sin_port));
}

void clients_each(const struct clients *c, clients_visit *visit, void *ctx)
{
    struct hash_walk w;
    struct hash_link *l = hash_walk_first(&c->conns, &w);

    for (; l != NULL; l = hash_walk_next(&c->conns, &w)) {
        const struct client_conn *k = HASH_ENTRY(l, struct client_conn, by_id);
        char address[CLIENT_ADDRESS_MAX];
        if (k->closing || k->ending || !k->known)
            continue;
        address_of(k, address);
        bool reads = !k->paused && !k->lingers && uv_is_active((const uv_handle_t *)&k->tcp);
        visit(ctx, k->id, address, (reads ? 1u : 0u) | (k->unsent > 0 ? 4u : 0u));
    }
}

/* ---- life ---- */

static void own_closed(uv_handle_t *h)
{
    struct clients *c = h->data;

    c->handles--;
    free_if_done(c);
}

/* Without a file to spare the store could not open its next one, and the server would end. */
static void connections_max(struct clients *c, int32_t wanted)
{
    struct rlimit files;

    c->max = CLIENTS_MAX;
    c->max_name = "CLIENTS_MAX";
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 &&
        files.rlim_cur < CLIENTS_MAX + CLIENTS_FILES_KEPT) {
        c->max = files.rlim_cur > 2 * CLIENTS_FILES_KEPT ? files.rlim_cur - CLIENTS_FILES_KEPT
                                                         : files.rlim_cur / 2;
        c->max_name = "CLIENTS_FILES_KEPT";
    }
    if (wanted > 0 && (size_t)wanted < c->max) {
        c->max = (size_t)wanted;
        c->max_name = "maxCnxns";
    }
}

int clients_start(struct clients **out, uv_loop_t *loop, const struct clients_options *options,
                  struct buf *why)
{
    struct clients *c = mem_new(struct clients);
    struct sockaddr_in a;

    c->options = *options;
    c->loop = loop;
    connections_max(c, options->settings->clients_max);
    c->frame_max = (uint32_t)options->settings->frame_max;
    if (c->frame_max > MEMBER_FRAME_LIMIT)
        c->frame_max = MEMBER_FRAME_LIMIT;
    TAILQ_INIT(&c->paused);
    for (enum waits w = 0; w < WAITS_N; w++)
        TAILQ_INIT(&c->waiting[w]);
    CHECK(uv_tcp_init(loop, &c->listener) == 0 && uv_timer_init(loop, &c->timer) == 0);
    c->listener.data = c->timer.data = c;
    c->handles = 2;
    c->wake_ms = UINT64_MAX;
    int err = uv_ip4_addr(options->listen_address, options->port, &a);
    if (err == 0)
        err = uv_tcp_bind(&c->listener, (const struct sockaddr *)&a, 0);
    if (err ==
        0) { /* inherited by all that are accepted: five calls of the kernel less for each */
        uv_tcp_nodelay(&c->listener, 1);
        uv_tcp_keepalive(&c->listener, 1, KEEPALIVE_S);
    }
    if (err == 0)
        err = uv_listen((uv_stream_t *)&c->listener,
                        options->settings->backlog < 0 ? CLIENTS_BACKLOG
                                                       : options->settings->backlog,
                        accepted);
    if (err != 0) {
        buf_printf(why, "cannot listen on %s:%u: %s", options->listen_address, options->port,
                   uv_strerror(err));
        clients_stop(c);
        return ERR_SYSTEM;
    }
    *out = c;
    return 0;
}

void clients_stop(struct clients *c)
{
    struct hash_walk w;

    c->stopping = true;
    for (struct hash_link *l = hash_walk_first(&c->conns, &w); l != NULL;
         l = hash_walk_next(&c->conns, &w)) {
        struct client_conn *k = HASH_ENTRY(l, struct client_conn, by_id);
        conn_close_now(k);
    }
    uv_close((uv_handle_t *)&c->listener, own_closed);
    uv_close((uv_handle_t *)&c->timer, own_closed);
}
