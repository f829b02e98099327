/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of a server, by well-formed requests with odd contents: sessions that are made,
 * moved, lost and closed, requests in a row on several connections, watches, transactions,
 * time that goes by. The input is a tape of choices (tape.h).
 *
 * Checked: every reply is a reply, they come in the order of the requests, and the tree is the
 * same after a snapshot. */
#include "base/check.h"
#include "lib/lone_member.h"
#include "tape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { WAITING_MAX = 4096, STEPS_MAX = 400 };

struct side {                         /* of one connection */
    bool is_open, is_greeted, is_raw; /* is_raw: it has sent what was not a request, perhaps */
    int32_t xid;
    unsigned first, n;
    int32_t waiting[WAITING_MAX]; /* xids without a reply, from first on */
};

struct world {
    struct lone l;
    struct tape tape;
    struct side sides[LONE_CONNS];
    uint64_t conns;
    int64_t session;
    uint8_t password[TREE_PASSWORD_LEN];
};

static void look_at_greeting(struct world *w, struct side *s, struct wire_in *in)
{
    struct wire_connect_response r;

    CHECK(wire_connect_response_decode(&r, in) == 0);
    CHECK(in->at == in->end);
    s->is_greeted = true;
    if (r.session_id != 0 && r.password.len == TREE_PASSWORD_LEN) {
        w->session = r.session_id;
        memcpy(w->password, r.password.data, TREE_PASSWORD_LEN);
    }
}

static void look_at_reply(struct side *s, struct wire_in *in)
{
    struct wire_reply_header h;
    struct wire_watcher_event e;

    CHECK(wire_reply_header_decode(&h, in) == 0);
    if (h.xid == WIRE_XID_NOTIFICATION) {
        /* An event, or the reply to who has chosen that xid; of setWatches: any path. */
        CHECK(wire_watcher_event_decode(&e, in) == 0 || s->is_raw);
    } else if (!s->is_raw && h.xid > 0) {
        CHECK(s->n > 0 && s->waiting[s->first % WAITING_MAX] == h.xid);
        s->first++;
        s->n--;
    }
}

static void look(struct world *w)
{
    for (uint64_t conn = 1; conn < LONE_CONNS; conn++) {
        struct side *s = &w->sides[conn];
        const uint8_t *frame;
        size_t len;
        while ((frame = lone_next(&w->l, conn, &len)) != NULL) {
            struct wire_in in = wire_in(frame, len);
            if (!s->is_greeted)
                look_at_greeting(w, s, &in);
            else
                look_at_reply(s, &in);
        }
        if (w->l.closed[conn])
            s->is_open = false;
    }
}

/* Connections that are open; 0: none. */
static uint64_t pick_conn(struct world *w)
{
    uint64_t want = 1 + tape_below(&w->tape, LONE_CONNS - 1);

    for (uint64_t i = 0; i < LONE_CONNS; i++) {
        uint64_t conn = (want + i) % LONE_CONNS;
        if (w->sides[conn].is_open)
            return conn;
    }
    return 0;
}

static void connect(struct world *w, bool again)
{
    struct tape *t = &w->tape;

    if (w->conns + 1 == LONE_CONNS)
        return;
    uint64_t conn = ++w->conns;
    struct wire_connect_request q = {
        .timeout_ms = (int32_t)tape_number(t),
        .session_id = again ? w->session : 0,
        .password = wire_bytes(w->password, TREE_PASSWORD_LEN),
        .read_only = (int8_t)((int)tape_below(t, 3) - 1),
    };
    if (again && tape_below(t, 8) == 0) {
        q.password = tape_data(t);
        q.session_id = tape_number(t);
        q.last_zxid_seen = tape_number(t);
    }
    w->sides[conn].is_open = true;
    lone_connect_as(&w->l, conn, &q);
}

static void frame(struct world *w, uint64_t conn, const struct buf *b, bool at_once)
{
    if (at_once)
        lone_frame(&w->l, conn, b->data, b->len);
    else /* its turn comes with that of others */
        member_client_frame(w->l.member, conn, b->data, b->len);
}

static void request(struct world *w, uint64_t conn, bool at_once)
{
    struct side *s = &w->sides[conn];
    struct buf b = {0};

    tape_request(&w->tape, ++s->xid, &b);
    if (s->n < WAITING_MAX)
        s->waiting[(s->first + s->n++) % WAITING_MAX] = s->xid;
    int32_t op = (int32_t)be32_get(b.data + 4);
    if (op == WIRE_OP_PING || !s->is_greeted) { /* answered under its own xid; not at all */
        s->is_raw = true;
        if (tape_below(&w->tape, 2) == 0)
            be32_put(b.data, (uint32_t)WIRE_XID_PING);
    }
    frame(w, conn, &b, at_once);
    buf_free(&b);
}

static void raw(struct world *w, uint64_t conn)
{
    struct wire_bytes bytes = tape_raw(&w->tape, tape_byte(&w->tape));

    w->sides[conn].is_raw = true;
    member_client_frame(w->l.member, conn, bytes.data, (size_t)bytes.len);
}

static void hang_up(struct world *w, uint64_t conn)
{
    member_client_closed(w->l.member, conn);
    w->sides[conn].is_open = false;
    w->l.closed[conn] = true; /* nothing may be sent to it any more */
}

static void step(struct world *w)
{
    unsigned what = tape_byte(&w->tape);
    uint64_t conn = what < 8 ? 0 : pick_conn(w);

    if (what < 5 || (what >= 8 && conn == 0))
        connect(w, false);
    else if (what < 8)
        connect(w, w->session != 0);
    else if (what < 180)
        request(w, conn, what % 4 == 0);
    else if (what < 190)
        raw(w, conn);
    else if (what < 200)
        hang_up(w, conn);
    else if (what < 240)
        lone_run(&w->l, 0);
    else
        lone_run(&w->l, (uint64_t)1 << (what - 240));
    look(w);
}

static void check_same(const struct tree *t) { CHECK(tree_digest_anew(t) == tree_digest(t)); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world *w = mem_new(struct world);

    w->tape = (struct tape){.at = data, .end = data + len};
    unsigned how = tape_byte(&w->tape);
    const struct member_options options = {
        .rules = tape_byte(&w->tape) & 63,
        .super_digest = "super:super-p",
        .outstanding_max = (how & 1) != 0 ? 3 : 0,
        .throttle_max = (how & 2) != 0 ? 2 : 0,
        .throttled_op_wait_ms = (how & 4) != 0 ? 5 : 0,
        .large_from = (how & 8) != 0 ? 500 : 0,
        .large_bytes_max = 2000,
        .enforce_auth = (how & 16) != 0 ? "digest" : NULL,
        .watches_max = (how & 32) != 0 ? 3 : 0,
        .read_only_after_ms = 50,
        .lapse_check_ms = 100,
        .container_never_used_ms = (how & 64) != 0 ? 300 : 0,
    };
    lone_start_with(&w->l, 1, &options, (how & 128) != 0 ? 3 : 1);
    if ((how & 128) != 0) /* nobody else is there: read-only, soon */
        lone_run(&w->l, 1000);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(&w->tape); i++)
        step(w);
    lone_run(&w->l, 2000);
    look(w);
    check_same(member_tree(w->l.member));
    lone_stop(&w->l);
    tape_free(&w->tape);
    mem_free(w);
    return 0;
}
