/* SPDX-License-Identifier: Apache-2.0 */
/* The client's core on a model of Apache ZooKeeper, in virtual time from one seed.
 *
 *   test_client_sim                seeds 1..SEEDS
 *   test_client_sim FIRST COUNT    those
 *
 * The model keeps what makes ZooKeeper different from our servers: a follower answers pings by
 * itself, also when it is cut off from the leader; it tells the leader of the sessions that
 * it has heard of every half tick; a leader that hears nothing ends the session. Writes go
 * through the leader, in one order.
 *
 * What must hold (decision 005): the client never believes in its session for longer than its
 * trust after the last write of its own that was committed. Whoever would take over hears of
 * each of these in order, so that is all it needs to know.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/rng.h"
#include "client/client.h"
#include "mutant_env.h"
#include "wire/wire.h"

enum { SEEDS = 200, SERVERS = 3, FAULTS_MS = 30000, QUIET_MS = 10000, REPLIES_MAX = 256 };
enum { TICK_MS = 500, TIMEOUT_MS = 2000, GIVE_UP_MS = 2000 };

struct reply {
    uint64_t due_ms, connection;
    struct buf bytes;
};

static struct world {
    struct client *c;
    struct rng rng;
    uint64_t seed, now_ms;
    bool is_quiet;
    const char *failed;
    uint64_t away_until_ms; /* the client: nothing it sends arrives */
    /* the network of the servers */
    unsigned leader;
    uint64_t cut_since_ms[SERVERS]; /* from the leader; 0: it is not */
    /* the one connection */
    uint64_t connection; /* counts; what is under way to an earlier one is lost */
    bool is_open, is_attached;
    unsigned at;
    struct buf in;
    struct reply replies[REPLIES_MAX];
    unsigned replies_n;
    uint64_t last_due_ms;
    /* the session */
    int64_t session, sessions;
    uint64_t expires_ms;          /* as the leader has it */
    bool is_touched;              /* heard by the follower, the leader does not know */
    bool has_life;                /* its znode is there */
    uint64_t committed_ms, trust; /* of the last sign of life of this session */
} w;

static uint64_t rnd(uint64_t below) { return rng_below(&w.rng, below); }

static bool reaches_leader(unsigned server)
{
    return server == w.leader || w.cut_since_ms[server] == 0;
}

/* ---- the server ---- */

static void touch_at_leader(void)
{
    uint64_t at = w.now_ms + TIMEOUT_MS;

    w.expires_ms = (at / TICK_MS + 1) * TICK_MS;
}

static void send_reply(const struct buf *body)
{
    CHECK(w.replies_n < REPLIES_MAX);
    struct reply *r = &w.replies[w.replies_n++];
    uint64_t due = w.now_ms + 1 + rnd(!w.is_quiet && rnd(10) == 0 ? 600 : 8);

    *r = (struct reply){.connection = w.connection};
    r->due_ms = due > w.last_due_ms ? due : w.last_due_ms;
    w.last_due_ms = r->due_ms;
    buf_add(&r->bytes, body->data, body->len);
}

static void reply(int32_t xid, int32_t err, const struct buf *body)
{
    struct wire_reply_header h = {xid, 1, err};
    struct buf b = {0};
    size_t at = wire_frame_begin(&b);

    wire_reply_header_encode(&h, &b);
    if (body != NULL && err == 0)
        buf_add(&b, body->data, body->len);
    wire_frame_end(&b, at);
    send_reply(&b);
    buf_free(&b);
}

static void connect_session(const struct wire_connect_request *q)
{
    static const uint8_t password[16] = "0123456789abcdef";
    struct wire_connect_response r = {0, TIMEOUT_MS, 0, wire_bytes(password, 16), 0};
    struct buf b = {0};

    if (!reaches_leader(w.at))
        return; /* the follower waits for the leader, and the client for it */
    if (q->session_id == 0) {
        w.session = ++w.sessions;
        w.has_life = false;
        w.committed_ms = w.trust = 0;
    }
    w.is_attached = w.session != 0 && (q->session_id == 0 || q->session_id == w.session);
    r.session_id = w.is_attached ? w.session : 0;
    r.timeout_ms = w.is_attached ? TIMEOUT_MS : 0;
    if (w.is_attached)
        touch_at_leader();
    size_t at = wire_frame_begin(&b);
    wire_connect_response_encode(&r, &b);
    wire_frame_end(&b, at);
    send_reply(&b);
    buf_free(&b);
}

static void commit_sign(struct wire_bytes trust)
{
    char text[16];

    snprintf(text, sizeof text, "%.*s", (int)trust.len, (const char *)trust.data);
    w.committed_ms = w.now_ms;
    w.trust = strtoul(text, NULL, 10);
    w.has_life = true;
}

static void serve_write(const struct wire_request_header *h, struct wire_in *in)
{
    struct buf b = {0};

    if (h->op == WIRE_OP_SET_DATA) {
        struct wire_set_data_request q;
        struct wire_stat_response r = {{.ephemeral_owner = w.session}};
        CHECK(wire_set_data_request_decode(&q, in) == 0);
        wire_stat_response_encode(&r, &b);
        reply(h->xid, w.has_life ? 0 : ERR_NO_NODE, &b);
        if (w.has_life)
            commit_sign(q.data);
    } else {
        struct wire_create_request q;
        CHECK(wire_create_request_decode(&q, in) == 0);
        struct wire_create2_response r = {q.path, {.ephemeral_owner = w.session}};
        wire_create2_response_encode(&r, &b);
        reply(h->xid, w.has_life ? ERR_NODE_EXISTS : 0, &b);
        if (!w.has_life)
            commit_sign(q.data);
    }
    buf_free(&b);
}

static void serve(const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_connect_request connect;
    struct wire_request_header h;

    if (!w.is_attached) {
        CHECK(wire_connect_request_decode(&connect, &in) == 0);
        connect_session(&connect);
        return;
    }
    CHECK(wire_request_header_decode(&h, &in) == 0);
    if (w.at == w.leader)
        touch_at_leader();
    else
        w.is_touched = true;
    if (h.op == WIRE_OP_PING)
        reply(h.xid, 0, NULL); /* whatever has become of the leader */
    else if (reaches_leader(w.at))
        serve_write(&h, &in);
}

static void take_output(void)
{
    struct buf *out = client_output(w.c);

    if (w.is_open)
        buf_add(&w.in, out->data, out->len);
    buf_consume(out, out->len);
    while (w.is_open && w.in.len >= 4 && w.in.len >= 4 + (size_t)be32_get(w.in.data)) {
        size_t len = be32_get(w.in.data);
        serve(w.in.data + 4, len);
        buf_consume(&w.in, 4 + len);
    }
}

static void close_connection(bool tell)
{
    bool was_open = w.is_open;

    w.is_open = w.is_attached = w.is_touched = false;
    w.connection++;
    buf_clear(&w.in);
    if (was_open && tell)
        client_closed(w.c, w.now_ms);
}

static void expire(void)
{
    w.session = 0;
    w.has_life = false;
    w.expires_ms = 0;
    if (w.is_open && reaches_leader(w.at))
        close_connection(true); /* a follower that is cut off does not hear of it */
}

/* ---- time ---- */

static void break_something(void)
{
    unsigned server = (unsigned)rnd(SERVERS);

    if (rnd(6) == 0) {
        w.away_until_ms = w.now_ms + rnd(3 * TIMEOUT_MS);
        close_connection(false);
        return;
    }
    if (rnd(4) == 0) { /* another leader: each session has its full timeout again */
        w.leader = server;
        memset(w.cut_since_ms, 0, sizeof w.cut_since_ms);
        close_connection(true);
        if (w.session != 0)
            touch_at_leader();
    } else if (server != w.leader) {
        w.cut_since_ms[server] = w.cut_since_ms[server] == 0 ? w.now_ms : 0;
    }
}

static void servers_turn(void)
{
    if (!w.is_quiet && rnd(900) == 0)
        break_something();
    if (w.now_ms % (TICK_MS / 2) == 0 && w.is_touched && reaches_leader(w.at)) {
        w.is_touched = false;
        touch_at_leader();
    }
    if (w.session != 0 && w.now_ms >= w.expires_ms)
        expire();
    if (w.is_open && w.cut_since_ms[w.at] != 0 &&
        w.now_ms - w.cut_since_ms[w.at] > GIVE_UP_MS && !reaches_leader(w.at))
        close_connection(true);
}

static void deliver(void)
{
    unsigned kept = 0, n = w.replies_n;
    struct reply due[REPLIES_MAX];
    unsigned due_n = 0;

    for (unsigned i = 0; i < n; i++) {
        if (w.replies[i].due_ms > w.now_ms)
            w.replies[kept++] = w.replies[i];
        else
            due[due_n++] = w.replies[i];
    }
    w.replies_n = kept;
    for (unsigned i = 0; i < due_n; i++) {
        if (due[i].connection == w.connection && w.is_open)
            client_received(w.c, w.now_ms, due[i].bytes.data, due[i].bytes.len);
        buf_free(&due[i].bytes);
    }
}

static void client_turn(void)
{
    unsigned server;

    if (client_deadline(w.c) <= w.now_ms)
        client_time(w.c, w.now_ms);
    for (enum client_want want; (want = client_wants(w.c, w.now_ms, &server)) != 0;) {
        close_connection(false);
        if (want == CLIENT_WANT_CONNECTION && w.now_ms >= w.away_until_ms) {
            w.is_open = true;
            w.at = server;
            client_opened(w.c, w.now_ms);
        }
        take_output();
    }
    take_output();
}

static void look(void)
{
    uint64_t until = client_alive_until(w.c);

    if (until > w.now_ms && client_session(w.c) == w.sessions &&
        until > w.committed_ms + w.trust && w.failed == NULL) {
        w.failed = "the client believes in its session longer than others can know";
        printf("seed %llu at %llu ms: %s\n", (unsigned long long)w.seed,
               (unsigned long long)w.now_ms, w.failed);
    }
}

static bool run(uint64_t seed)
{
    w = (struct world){.seed = seed, .rng = {.state = seed}, .now_ms = 1000};
    w.c = client_new(&(struct client_options){.timeout_ms = TIMEOUT_MS,
                                              .seed = rng_next(&w.rng),
                                              .servers = SERVERS,
                                              .is_foreign = true,
                                              .life_path = "/life"});
    for (; w.failed == NULL && w.now_ms < FAULTS_MS + QUIET_MS; w.now_ms++) {
        if (w.now_ms == FAULTS_MS) {
            w.is_quiet = true;
            w.away_until_ms = 0;
            memset(w.cut_since_ms, 0, sizeof w.cut_since_ms);
        }
        servers_turn();
        deliver();
        client_turn();
        look();
    }
    if (w.failed == NULL && client_alive_until(w.c) <= w.now_ms) {
        w.failed = "";
        printf("seed %llu: all is well again, and the client does not know\n",
               (unsigned long long)seed);
    }
    client_free(w.c);
    buf_free(&w.in);
    for (unsigned i = 0; i < w.replies_n; i++)
        buf_free(&w.replies[i].bytes);
    return w.failed == NULL;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? 1 : SEEDS, bad = 0;

    mutant_from_env();
    bool one_is_enough = getenv("MUTANT") != NULL;
    for (uint64_t seed = first; seed < first + count && !(one_is_enough && bad > 0); seed++)
        bad += !run(seed);
    printf("%llu seeds, %llu failed\n", (unsigned long long)count, (unsigned long long)bad);
    return bad == 0 ? 0 : 1;
}
