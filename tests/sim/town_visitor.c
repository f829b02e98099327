/* SPDX-License-Identifier: Apache-2.0 */
/* A client that takes a server without a quorum, if it is told so: byte by byte, since the
 * client core never asks for it.
 *
 * What must be true: who has not asked is never served that way; every write is refused; the
 * zxid does not go back on a connection, and a version of /x has one value, however old; when
 * the server is in a quorum again, its connections of that mode have ended. */
#include <inttypes.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "town.h"
#include "wire/wire.h"

enum { TIMEOUT_MS = 400, WAITING_MAX = 8 };

struct town_visitor {
    struct town *town;
    unsigned host;
    struct link *link; /* NULL: none */
    struct buf in;
    bool has_asked;             /* for read-only mode, on this link */
    bool is_open, is_read_only; /* answered so */
    int32_t xid, answered;      /* odd numbers are writes */
    int64_t zxid;
    unsigned read_only_reads;
};

#define FAIL(v, ...) world_fail(&(v)->town->w, __VA_ARGS__)

static void leave(struct town_visitor *v)
{
    if (v->link != NULL && !v->link->is_gone)
        link_leave(v->link);
    v->link = NULL;
    buf_clear(&v->in);
    v->is_open = v->is_read_only = false;
}

static void send_frame(struct town_visitor *v, const struct buf *body)
{
    uint8_t len[4];

    be32_put(len, (uint32_t)body->len);
    link_send(v->link, len, 4);
    link_send(v->link, body->data, body->len);
}

static void ask(struct town_visitor *v, int32_t xid, int32_t op)
{
    const struct wire_request_header h = {xid, op};
    struct buf b = {0};

    wire_request_header_encode(&h, &b);
    if (op == WIRE_OP_GET_DATA) {
        const struct wire_path_watch_request q = {wire_bytes("/x", 2), true};
        wire_path_watch_request_encode(&q, &b);
    } else if (op == WIRE_OP_SET_DATA) {
        const struct wire_set_data_request q = {wire_bytes("/x", 2), wire_bytes("visitor", 7),
                                                -1};
        wire_set_data_request_encode(&q, &b);
    } else if (op == WIRE_OP_SYNC) {
        const struct wire_path_request q = {wire_bytes("/x", 2)};
        wire_path_request_encode(&q, &b);
    }
    send_frame(v, &b);
    buf_free(&b);
}

static void opened(void *ctx, struct link *l)
{
    struct town_visitor *v = ctx;
    static const uint8_t none[TREE_PASSWORD_LEN];
    const struct wire_connect_request q = {.timeout_ms = TIMEOUT_MS,
                                           .password = wire_bytes(none, sizeof none),
                                           .read_only = v->has_asked};
    struct buf b = {0};

    CHECK(v->link == l);
    wire_connect_request_encode(&q, &b);
    send_frame(v, &b);
    buf_free(&b);
}

static void connected(struct town_visitor *v, struct wire_in *in)
{
    struct wire_connect_response r;

    if (wire_connect_response_decode(&r, in) != 0)
        FAIL(v, "a visitor gets an answer to its connect that is none");
    if (r.read_only == 1 && !v->has_asked)
        FAIL(v, "server %u serves reads to a client that has not asked for it",
             v->link->server->n);
    v->is_open = true;
    v->is_read_only = r.read_only == 1;
    v->xid = v->answered = 0;
    v->zxid = 0;
    if (!v->is_read_only) /* then it wants nothing */
        ask(v, 1, WIRE_OP_CLOSE_SESSION);
    else
        world_note(&v->town->w, "a visitor reads at server %u", v->link->server->n);
}

static void replied(struct town_visitor *v, struct wire_in *in)
{
    struct wire_reply_header h;
    struct wire_data_response r;

    if (wire_reply_header_decode(&h, in) != 0)
        FAIL(v, "a visitor gets a reply that is none");
    if (!v->is_read_only || h.xid == WIRE_XID_NOTIFICATION)
        return;
    if (h.xid != ++v->answered)
        FAIL(v, "a visitor's request %d is answered before %d", h.xid, v->answered);
    if (h.zxid < v->zxid)
        FAIL(v, "a visitor sees zxid %" PRId64 " after %" PRId64, h.zxid, v->zxid);
    v->zxid = h.zxid;
    if (h.xid % 2 == 1 && h.err != ERR_NOT_READ_ONLY)
        FAIL(v, "server %u, which has no quorum, answers a write with %s", v->link->server->n,
             err_name(h.err));
    if (h.xid % 2 == 0 && h.err == 0 && wire_data_response_decode(&r, in) == 0) {
        v->read_only_reads++;
        town_client_saw_x(v->town, r.stat.version, r.data.len == 8 ? be64_get(r.data.data) : 0);
    }
}

static void received(void *ctx, struct link *l, const uint8_t *data, size_t len)
{
    struct town_visitor *v = ctx;

    if (v->link != l)
        return;
    buf_add(&v->in, data, len);
    while (v->link == l && v->in.len >= 4 && v->in.len - 4 >= be32_get(v->in.data)) {
        size_t n = be32_get(v->in.data);
        struct wire_in in = wire_in(v->in.data + 4, n);
        if (v->is_open)
            replied(v, &in);
        else
            connected(v, &in);
        buf_consume(&v->in, 4 + n);
    }
}

static void closed(void *ctx, struct link *l)
{
    struct town_visitor *v = ctx;

    if (v->link == l)
        leave(v);
}

static void due(void *ctx, uint64_t a, uint64_t b)
{
    struct town_visitor *v = ctx;
    struct world *w = &v->town->w;

    (void)a, (void)b;
    if (v->town->quiet) {
        leave(v);
        return;
    }
    world_at(w, w->now_us + world_between(w, 5000, 150000), due, v, 0, 0);
    if (v->link == NULL) {
        v->has_asked = world_chance(w, 800);
        v->link = link_dial(v->town, v->host, (unsigned)world_below(w, v->town->servers_n));
        v->link->ctx = v;
        v->link->opened = opened;
        v->link->received = received;
        v->link->closed = closed;
    } else if (world_chance(w, v->is_read_only ? 20 : 150)) {
        leave(v);
    } else if (v->is_read_only && v->xid - v->answered < WAITING_MAX) {
        static const int32_t writes[] = {WIRE_OP_SET_DATA, WIRE_OP_SYNC};
        int32_t write = writes[world_below(w, 2)];
        v->xid++;
        ask(v, v->xid, v->xid % 2 == 0 ? (int32_t)WIRE_OP_GET_DATA : write);
    }
}

void town_visitor_add(struct town *t)
{
    struct town_visitor *v = mem_new(struct town_visitor);

    v->town = t;
    v->host = world_add_host(&t->w, "v", 0);
    t->visitor = v;
    world_at(&t->w, t->w.now_us + 100000, due, v, 0, 0);
}

/* Called after each event of a server. */
void town_visitor_check(struct server *s)
{
    const struct town_visitor *v = s->town->visitor;

    if (v != NULL && v->link != NULL && v->is_read_only && v->link->server == s &&
        v->link->life == s->box.life && v->link->server_knows && member_is_serving(s->member))
        FAIL(v, "server %u is in a quorum, and has clients that only read", s->n);
}

void town_visitor_free(struct town *t)
{
    if (t->visitor == NULL)
        return;
    buf_free(&t->visitor->in);
    mem_free(t->visitor);
}
