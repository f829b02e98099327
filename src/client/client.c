/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "client/chroot.h"
#include "client/client_internal.h"
#include "wire/wire.h"

#define BACKOFF_MIN_MS 50
/* A connection that lived shorter does not start the back-off anew: a server that accepts
 * and then drops us would be asked in a tight loop. */
#define STEADY_MS 1000

/* ---- requests ---- */

static bool is_write(int32_t op)
{
    switch (op) {
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL:
    case WIRE_OP_DELETE:
    case WIRE_OP_SET_DATA:
    case WIRE_OP_SET_ACL:
    case WIRE_OP_MULTI: return true;
    default: return false;
    }
}

/* Is the answer proof that a leader knew our session after we asked? A write that was
 * refused counts only with an error that is found when the log is applied; others (a bad
 * record, too much to do) may come from a follower alone. */
static bool leader_answered(int32_t op, int err)
{
    if (op == WIRE_OP_PING || op == WIRE_OP_SYNC)
        return err == 0;
    if (!is_write(op))
        return MUTANT(client_read_counts);
    switch (err) {
    case 0:
    case ERR_NO_NODE:
    case ERR_BAD_VERSION:
    case ERR_NO_CHILDREN_FOR_EPHEMERALS:
    case ERR_NODE_EXISTS:
    case ERR_NOT_EMPTY: return true;
    default: return false;
    }
}

/* A foreign server answers for itself, but for what is written: and of that only what the
 * others see counts, on a znode that goes with this very session. */
static bool counts(const struct client *c, const struct request *r,
                   const struct client_reply *reply)
{
    if (!c->options.is_foreign)
        return leader_answered(r->op, reply->err);
    if (r->op == WIRE_OP_SET_DATA && reply->stat.ephemeral_owner != c->session)
        return false;
    return r->is_question && reply->err == 0;
}

/* What our patience goes by: a server may not talk us into more than we asked for. */
static uint32_t timeout(const struct client *c)
{
    uint32_t asked = c->options.timeout_ms;

    return c->timeout_ms > 0 && c->timeout_ms < asked ? c->timeout_ms : asked;
}

static uint32_t ping_every(const struct client *c)
{
    uint32_t most = timeout(c) / 3, every = c->options.ping_ms;

    if (every == 0)
        every = timeout(c) / (c->options.is_foreign ? 8 : 6);
    if (every > most)
        every = most;
    return every > 0 ? every : 1;
}

static void send(struct client *c, struct request *r)
{
    struct wire_request_header header = {r->xid, r->op};
    size_t at = wire_frame_begin(&c->out);

    wire_request_header_encode(&header, &c->out);
    buf_add(&c->out, r->body.data, r->body.len);
    wire_frame_end(&c->out, at);
    if (!MUTANT(client_blind_retry))
        buf_free(&r->body);
    r->at_ms = c->now_ms;
    if (r->is_question)
        c->question_ms = c->now_ms;
    pending_add(&c->sent, r);
}

static void send_special(struct client *c, int32_t xid, int32_t op, const struct buf *body)
{
    struct request *r = mem_new(struct request);

    r->xid = xid;
    r->op = op;
    r->is_question = op == WIRE_OP_PING;
    if (body != NULL)
        buf_add(&r->body, body->data, body->len);
    send(c, r);
}

static int32_t next_xid(struct client *c)
{
    c->xid = c->xid == INT32_MAX ? 1 : c->xid + 1;
    return c->xid;
}

static void send_waiting(struct client *c)
{
    struct pending all = pending_take_all(&c->waiting);

    while (all.first != NULL) {
        struct request *r = all.first;
        all.first = r->next;
        r->xid = next_xid(c);
        send(c, r);
    }
}

/* ---- connections ---- */

static void tell(struct client *c, enum client_event ev)
{
    if (c->options.on_event != NULL)
        c->options.on_event(c->options.ctx, ev);
}

/* After a loss another server is asked at once, then slower and slower. */
static void plan_retry(struct client *c)
{
    uint32_t base = BACKOFF_MIN_MS;

    c->at = (c->at + 1) % c->options.servers;
    c->retry_ms = c->now_ms;
    if (c->failures > 0 || c->options.servers == 1) {
        for (unsigned i = 1; i < c->failures && base < CLIENT_BACKOFF_MAX_MS; i++)
            base *= 2;
        if (base > CLIENT_BACKOFF_MAX_MS)
            base = CLIENT_BACKOFF_MAX_MS;
        c->retry_ms += base / 2 + rng_below(&c->rng, base / 2 + 1);
    }
    c->failures++;
}

/* What was sent may have happened or not; only the caller can find out. */
static void end_sent(struct client *c)
{
    struct pending lost = pending_take_all(&c->sent);

    if (lost.first != NULL && is_write(lost.first->op))
        REACHED(client_lost_in_flight);
    while (MUTANT(client_blind_retry) && lost.first != NULL) {
        struct request *r = lost.first;
        lost.first = r->next;
        if (is_write(r->op))
            pending_add(&c->waiting, r);
        else
            pending_request_end(r, ERR_CONNECTION_LOST);
    }
    pending_end(lost, ERR_CONNECTION_LOST);
}

/* Leaves the connection; the caller has set when the next is tried. */
static void disconnect(struct client *c, bool shell_must_close)
{
    bool was_up = c->phase == UP;

    CHECK(c->phase != WAITING && c->phase != ENDED);
    c->phase = WAITING;
    c->connection++;
    c->must_close = shell_must_close;
    buf_clear(&c->in);
    buf_clear(&c->out);
    end_sent(c);
    if (was_up && !c->closing)
        tell(c, CLIENT_EV_DISCONNECTED);
}

static void lose(struct client *c, bool shell_must_close)
{
    if (c->phase == UP && c->now_ms - c->up_ms >= STEADY_MS)
        c->failures = 0;
    plan_retry(c);
    disconnect(c, shell_must_close);
}

/* The end of the client's life. */
static void finish(struct client *c)
{
    if (c->phase == ENDED)
        return;
    if (c->phase != WAITING)
        c->must_close = true;
    c->phase = ENDED;
    c->connection++;
    c->session = 0;
    c->alive_until_ms = 0;
    buf_clear(&c->in);
    buf_clear(&c->out);
    pending_end(pending_take_all(&c->sent), ERR_CONNECTION_LOST);
    pending_end(pending_take_all(&c->waiting), ERR_SESSION_EXPIRED);
    tell(c, CLIENT_EV_CLOSED);
}

/* The session is gone. The same server is asked for a new one at once. */
static void expire(struct client *c)
{
    if (!c->renewing && !c->closing)
        REACHED(client_expired);
    c->session = 0;
    c->timeout_ms = 0;
    c->renewing = false;
    c->alive_until_ms = 0;
    memset(c->password, 0, sizeof c->password);
    c->retry_ms = c->now_ms;
    disconnect(c, true);
    if (c->closing) {
        finish(c);
        return;
    }
    pending_end(pending_take_all(&c->waiting), ERR_SESSION_EXPIRED);
    if (c->phase != ENDED)
        tell(c, CLIENT_EV_EXPIRED);
}

static void emit_set_watches(void *ctx, int32_t op, const struct buf *body)
{
    send_special(ctx, WIRE_XID_SET_WATCHES, op, body);
}

static void send_close(struct client *c)
{
    send_special(c, next_xid(c), WIRE_OP_CLOSE_SESSION, NULL);
}

/* Each part of it; that it is there already is well. */
static void make_chroot(struct client *c)
{
    size_t len = strlen(c->chroot);

    for (size_t i = 1; i <= len; i++) {
        if (i < len && c->chroot[i] != '/')
            continue;
        char *part = mem_dup_strn(c->chroot, i);
        struct buf body = {0};
        client_encode_create(c, part, NULL, 0, WIRE_PERSISTENT, &body);
        send_special(c, next_xid(c), WIRE_OP_CREATE2, &body);
        buf_free(&body);
        mem_free(part);
    }
}

/* The session is there and the server knows who we are. */
static void arrive(struct client *c)
{
    c->phase = UP;
    c->is_refused = false;
    c->up_ms = c->now_ms;
    if (!MUTANT(client_watches_forgotten))
        watched_encode(&c->watched, c->zxid, CLIENT_SET_WATCHES_MAX, emit_set_watches, c);
    if (c->closing || c->renewing) {
        send_close(c);
        return;
    }
    if (c->options.makes_chroot)
        make_chroot(c);
    if (c->options.is_foreign)
        c->question_ms = c->now_ms - ping_every(c); /* the connection itself proves nothing */
    send_waiting(c);
    tell(c, CLIENT_EV_CONNECTED);
}

static void send_auth(struct client *c)
{
    struct wire_auth_request r = {0, wire_bytes(c->auth_scheme, strlen(c->auth_scheme)),
                                  wire_bytes(c->auth, strlen(c->auth))};
    struct buf body = {0};

    wire_auth_request_encode(&r, &body);
    send_special(c, WIRE_XID_AUTH, WIRE_OP_AUTH, &body);
    buf_free(&body);
}

static void believe_connect(struct client *c, uint32_t timeout_ms)
{
    uint64_t asked_ms = MUTANT(client_lease_from_answer) ? c->now_ms : c->question_ms;
    uint64_t until = asked_ms + timeout_ms;

    if (c->options.is_foreign)
        return;
    /* A shorter timeout replaced the longer one at some time after we asked. */
    if (!c->closing && (until > c->alive_until_ms || timeout_ms < c->timeout_ms))
        c->alive_until_ms = until;
}

static void come_up(struct client *c, const struct wire_connect_response *r)
{
    uint32_t timeout_ms = (uint32_t)r->timeout_ms;

    if (c->session == 0)
        c->made_timeout_ms = timeout_ms;
    else if (c->options.is_foreign && timeout_ms > c->made_timeout_ms)
        timeout_ms = c->made_timeout_ms;
    believe_connect(c, timeout_ms);
    c->session = r->session_id;
    c->timeout_ms = timeout_ms;
    memcpy(c->password, r->password.data, PASSWORD_LEN);
    c->heard_ms = c->now_ms;
    c->phase = GREETING;
    if (c->auth != NULL)
        send_auth(c);
    else
        arrive(c);
}

static void take_handshake(struct client *c, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_connect_response r;

    if (wire_connect_response_decode(&r, &in) != 0 || r.password.len != PASSWORD_LEN)
        lose(c, true);
    else if (c->session != 0 && (r.session_id == 0 || r.timeout_ms <= 0))
        expire(c);
    else if (r.session_id == 0 || r.timeout_ms <= 0 || r.read_only == 1 ||
             (c->session != 0 && r.session_id != c->session))
        lose(c, true);
    else
        come_up(c, &r);
}

/* ---- frames ---- */

static bool take_event(struct client *c, struct wire_in *in)
{
    struct wire_watcher_event ev;

    if (wire_watcher_event_decode(&ev, in) != 0 || ev.type < 1 || ev.type > 4)
        return false;
    const char *full = reply_path(ev.path.data, ev.path.len, &c->room);
    const char *path = full != NULL ? chroot_strip(c->chroot, full) : NULL;
    if (path == NULL)
        return false;
    watched_fired(&c->watched, ev.type, full);
    if (c->options.on_watch != NULL)
        c->options.on_watch(c->options.ctx, ev.type, path);
    return true;
}

/* Replies come in the order of the requests, pings and setWatches each in their own. */
static struct request **match(struct client *c, int32_t xid)
{
    struct request **at = &c->sent.first;

    while (*at != NULL && (xid > 0 ? (*at)->xid < 0 : (*at)->xid != xid))
        at = &(*at)->next;
    return *at != NULL && (*at)->xid == xid ? at : NULL;
}

static uint64_t asked_at(const struct client *c, const struct request *r)
{
    if (MUTANT(client_lease_from_answer))
        return c->now_ms;
    if (MUTANT(client_stale_answer))
        return c->question_ms;
    return r->at_ms;
}

/* What is created for the chroot itself stands above it, and nobody is told. */
static const char *own_path(const struct client *c, const struct request *r, const char *full)
{
    return r->done != NULL ? chroot_strip(c->chroot, full) : full;
}

/* The question of a foreign ensemble. */
static void send_question(struct client *c, int32_t op, const struct buf *body)
{
    struct request *r = mem_new(struct request);

    r->xid = next_xid(c);
    r->op = op;
    r->is_question = true;
    buf_add(&r->body, body->data, body->len);
    send(c, r);
}

static void print_trust(const struct client *c, struct buf *out)
{
    buf_printf(out, "%u", (unsigned)client_trust_ms(c));
}

static void make_life(struct client *c)
{
    struct buf body = {0}, data = {0};

    print_trust(c, &data);
    client_encode_create(c, client_full_path(c, c->life_path), data.data, data.len,
                         WIRE_EPHEMERAL, &body);
    send_question(c, WIRE_OP_CREATE2, &body);
    buf_free(&data);
    buf_free(&body);
}

static void set_life(struct client *c)
{
    struct buf body = {0}, data = {0};
    const char *full = client_full_path(c, c->life_path);

    print_trust(c, &data);
    struct wire_set_data_request r = {wire_bytes(full, strlen(full)),
                                      wire_bytes(data.data, data.len), -1};
    wire_set_data_request_encode(&r, &body);
    send_question(c, WIRE_OP_SET_DATA, &body);
    buf_free(&data);
    buf_free(&body);
}

static void write_nothing(struct client *c)
{
    struct wire_multi_header end = {-1, true, -1};
    struct buf body = {0};

    wire_multi_header_encode(&end, &body);
    send_question(c, WIRE_OP_MULTI, &body);
    buf_free(&body);
}

static void ask(struct client *c)
{
    if (!c->options.is_foreign || MUTANT(client_foreign_ping_counts))
        send_special(c, WIRE_XID_PING, WIRE_OP_PING, NULL);
    else if (c->life_path != NULL)
        set_life(c);
    else
        write_nothing(c);
}

static void remember_watch(struct client *c, const struct request *r, int err)
{
    if (r->op == WIRE_OP_EXISTS && err == ERR_NO_NODE)
        watched_add(&c->watched, r->path, WATCHED_EXIST);
    else if (err == 0)
        watched_add(&c->watched, r->path, r->watch);
}

static bool take_reply(struct client *c, const struct wire_reply_header *h,
                       const struct wire_in *in)
{
    struct request **at = match(c, h->xid);
    struct client_reply reply = {.err = h->err, .zxid = h->zxid};

    if (h->xid == WIRE_XID_AUTH && h->err != 0)
        c->is_refused = true;
    if (at == NULL || h->err > 0 || (h->xid < 0 && h->err != 0))
        return false;
    if (h->err == 0 &&
        reply_decode((*at)->op, in->at, (size_t)(in->end - in->at), &c->room, &reply) != 0)
        return false;
    if (reply.path != NULL && (reply.path = own_path(c, *at, reply.path)) == NULL)
        return false;

    struct request *r = pending_take(&c->sent, at);
    c->heard_ms = c->now_ms;
    if (h->zxid > c->zxid)
        c->zxid = h->zxid;
    if (!c->closing && !c->renewing && counts(c, r, &reply)) {
        uint64_t until = asked_at(c, r) + client_trust_ms(c);
        if (until > c->alive_until_ms)
            c->alive_until_ms = until;
    }
    if (r->watch != 0)
        remember_watch(c, r, h->err);
    if (r->done != NULL)
        r->done(r->ctx, &reply);
    int32_t op = r->op;
    bool must_make = r->is_question && r->op == WIRE_OP_SET_DATA && h->err == ERR_NO_NODE;
    pending_request_free(r);
    if (op == WIRE_OP_CLOSE_SESSION && c->renewing)
        expire(c);
    else if (op == WIRE_OP_CLOSE_SESSION)
        finish(c);
    else if (op == WIRE_OP_AUTH)
        arrive(c);
    else if (must_make && c->phase == UP)
        make_life(c);
    return true;
}

static bool take_frame(struct client *c, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_reply_header h;

    if (wire_reply_header_decode(&h, &in) != 0)
        return false;
    return h.xid == WIRE_XID_NOTIFICATION ? take_event(c, &in) : take_reply(c, &h, &in);
}

static void take_input(struct client *c)
{
    uint64_t connection = c->connection;

    while (c->connection == connection && c->in.len >= 4) {
        uint32_t len = be32_get(c->in.data);
        if (len > CLIENT_FRAME_MAX) {
            lose(c, true);
            return;
        }
        if (c->in.len - 4 < len)
            return;
        if (c->phase == HANDSHAKE)
            take_handshake(c, c->in.data + 4, len);
        else if (!take_frame(c, c->in.data + 4, len) && c->connection == connection)
            lose(c, true);
        /* A callback may have left the connection, and its input with it. */
        if (c->connection == connection)
            buf_consume(&c->in, 4 + (size_t)len);
    }
}

/* ---- time ---- */

/* When the present connection, or the attempt at one, is given up. */
static uint64_t patience_ends(const struct client *c)
{
    switch (c->phase) {
    case DIALING:
    case HANDSHAKE:
    case GREETING: return c->attempt_ms + timeout(c) / 3;
    case UP: {
        const struct request *oldest = c->sent.first;
        if (oldest == NULL)
            return CLIENT_NEVER;
        return (oldest->at_ms > c->heard_ms ? oldest->at_ms : c->heard_ms) + timeout(c) / 2;
    }
    case WAITING:
    case ENDED: break;
    }
    return CLIENT_NEVER;
}

static uint64_t waiting_ends(const struct client *c)
{
    const struct request *r = c->waiting.first;

    return r != NULL ? r->at_ms + c->options.timeout_ms : CLIENT_NEVER;
}

void client_observe(struct client *c, uint64_t now_ms)
{
    if (now_ms > c->now_ms)
        c->now_ms = now_ms;
}

static void end_impatient(struct client *c)
{
    struct pending late;

    pending_init(&late);
    if (waiting_ends(c) <= c->now_ms)
        REACHED(client_waited_out);
    while (waiting_ends(c) <= c->now_ms)
        pending_add(&late, pending_take(&c->waiting, &c->waiting.first));
    pending_end(late, ERR_CONNECTION_LOST);
}

void client_time(struct client *c, uint64_t now_ms)
{
    client_observe(c, now_ms);
    if (c->phase == ENDED)
        return;
    if (c->closing && c->now_ms >= c->closing_until_ms) {
        finish(c);
        return;
    }
    if (c->now_ms >= patience_ends(c))
        lose(c, true);
    else if (c->phase == UP && c->now_ms >= c->question_ms + ping_every(c))
        ask(c);
    end_impatient(c);
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t client_deadline(const struct client *c)
{
    uint64_t at = earlier(patience_ends(c), waiting_ends(c));

    if (c->must_close)
        return c->now_ms;
    if (c->phase == ENDED)
        return CLIENT_NEVER;
    if (c->closing)
        at = earlier(at, c->closing_until_ms);
    if (c->phase == WAITING)
        at = earlier(at, c->retry_ms);
    if (c->phase == UP)
        at = earlier(at, c->question_ms + ping_every(c));
    return at;
}

/* ---- between shell and core ---- */

enum client_want client_wants(struct client *c, uint64_t now_ms, unsigned *server)
{
    client_observe(c, now_ms);
    if (c->must_close) {
        c->must_close = false;
        return CLIENT_WANT_CLOSE;
    }
    if (c->phase != WAITING || c->now_ms < c->retry_ms)
        return CLIENT_WANT_NOTHING;
    c->phase = DIALING;
    c->attempt_ms = c->now_ms;
    *server = c->order[c->at];
    return CLIENT_WANT_CONNECTION;
}

void client_opened(struct client *c, uint64_t now_ms)
{
    client_observe(c, now_ms);
    if (c->phase != DIALING)
        return;
    c->phase = HANDSHAKE;
    c->question_ms = c->now_ms;
    buf_clear(&c->in);
    buf_clear(&c->out);

    struct wire_connect_request r = {
        .last_zxid_seen = c->zxid,
        .timeout_ms = (int32_t)c->options.timeout_ms,
        .session_id = c->session,
        .password = wire_bytes(c->password, PASSWORD_LEN),
        .read_only = 0,
    };
    size_t at = wire_frame_begin(&c->out);
    wire_connect_request_encode(&r, &c->out);
    wire_frame_end(&c->out, at);

    /* From now on the session may live by a shorter timeout, even if we never hear of it. */
    uint64_t until = c->now_ms + c->options.timeout_ms;
    if (c->options.timeout_ms < c->timeout_ms && until < c->alive_until_ms)
        c->alive_until_ms = until;
}

void client_closed(struct client *c, uint64_t now_ms)
{
    client_observe(c, now_ms);
    if (c->phase != WAITING && c->phase != ENDED)
        lose(c, false);
}

void client_received(struct client *c, uint64_t now_ms, const uint8_t *data, size_t len)
{
    client_observe(c, now_ms);
    if (len == 0 || (c->phase != HANDSHAKE && c->phase != GREETING && c->phase != UP))
        return;
    buf_add(&c->in, data, len);
    take_input(c);
}

struct buf *client_output(struct client *c) { return &c->out; }

/* ---- life ---- */

struct client *client_new(const struct client_options *options)
{
    struct client *c = mem_new(struct client);

    CHECK(options->servers > 0 && options->servers <= CLIENT_SERVERS_MAX);
    CHECK(options->first < options->servers);
    CHECK(options->timeout_ms > 0 && options->timeout_ms <= INT32_MAX);
    CHECK(options->chroot == NULL || chroot_is_valid(options->chroot));
    CHECK((options->auth == NULL) == (options->auth_scheme == NULL));
    c->options = *options;
    c->chroot = mem_dup_str(options->chroot != NULL ? options->chroot : "");
    c->auth_scheme = options->auth != NULL ? mem_dup_str(options->auth_scheme) : NULL;
    c->auth = options->auth != NULL ? mem_dup_str(options->auth) : NULL;
    c->life_path = options->life_path != NULL ? mem_dup_str(options->life_path) : NULL;
    c->rng.state = options->seed;
    c->watched.hash_key = rng_next(&c->rng);
    pending_init(&c->sent);
    pending_init(&c->waiting);
    c->order[0] = options->first;
    for (unsigned i = 1; i < options->servers; i++) {
        /* The clients of a server that dies should not all go to the same one. */
        unsigned j = 1 + (unsigned)rng_below(&c->rng, i);
        c->order[i] = c->order[j];
        c->order[j] = (options->first + i) % options->servers;
    }
    return c;
}

bool client_add_server(struct client *c)
{
    if (c->options.servers == CLIENT_SERVERS_MAX)
        return false;
    c->order[c->options.servers] = c->options.servers;
    c->options.servers++;
    return true;
}

void client_free(struct client *c)
{
    if (c == NULL)
        return;
    pending_free(&c->sent);
    pending_free(&c->waiting);
    watched_free(&c->watched);
    buf_free(&c->in);
    buf_free(&c->out);
    buf_free(&c->full);
    reply_room_free(&c->room);
    mem_free(c->chroot);
    mem_free(c->auth_scheme);
    mem_free(c->auth);
    mem_free(c->life_path);
    mem_free(c);
}

void client_close(struct client *c, uint64_t now_ms)
{
    client_observe(c, now_ms);
    if (c->phase == ENDED || c->closing)
        return;
    c->closing = true;
    c->alive_until_ms = 0;
    c->closing_until_ms = c->now_ms + timeout(c);
    if (c->session == 0)
        finish(c);
    else if (c->phase == UP)
        send_close(c);
}

void client_set_timeout(struct client *c, uint64_t now_ms, uint32_t timeout_ms)
{
    CHECK(timeout_ms > 0 && timeout_ms <= INT32_MAX);
    client_observe(c, now_ms);
    if (c->phase == ENDED || timeout_ms == c->options.timeout_ms)
        return;
    c->options.timeout_ms = timeout_ms;
    if (c->options.is_foreign && c->session != 0 && timeout_ms > c->made_timeout_ms) {
        c->renewing = true;
        c->alive_until_ms = 0;
        if (c->phase == UP)
            send_close(c);
        return;
    }
    if (c->phase == WAITING || c->phase == DIALING)
        return;
    c->retry_ms = c->now_ms;
    disconnect(c, true);
}

/* ---- what is asked for (client_request.c) ---- */

void client_submit(struct client *c, struct request *r)
{
    if (c->phase == ENDED || c->closing) {
        pending_request_end(r, ERR_SESSION_EXPIRED);
    } else if (r->body.len > CLIENT_REQUEST_MAX - 8) {
        pending_request_end(r, ERR_TOO_BIG);
    } else if (c->phase == UP && !c->renewing) {
        r->xid = next_xid(c);
        send(c, r);
    } else {
        r->at_ms = c->now_ms;
        pending_add(&c->waiting, r);
    }
}

/* ---- facts ---- */

enum client_state client_state(const struct client *c)
{
    if (c->phase == ENDED)
        return CLIENT_CLOSED;
    return c->phase == UP ? CLIENT_CONNECTED : CLIENT_CONNECTING;
}

int64_t client_session(const struct client *c) { return c->session; }
uint32_t client_timeout_ms(const struct client *c) { return c->timeout_ms; }
uint64_t client_alive_until(const struct client *c) { return c->alive_until_ms; }
uint32_t client_trust_ms(const struct client *c)
{
    return c->options.is_foreign ? c->timeout_ms / 2 : c->timeout_ms;
}
int64_t client_zxid(const struct client *c) { return c->zxid; }
unsigned client_server(const struct client *c) { return c->order[c->at]; }
uint64_t client_up_since(const struct client *c) { return c->up_ms; }
bool client_is_refused(const struct client *c) { return c->is_refused; }
uint64_t client_now(const struct client *c) { return c->now_ms; }
