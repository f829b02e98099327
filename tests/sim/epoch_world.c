/* SPDX-License-Identifier: Apache-2.0 */
/* A majority is lost for ever; an operator recovers a survivor; the lost ones come back.
 *
 * The members, their stores and what begins an epoch (server/member_epoch.h) are the production
 * code's. The transport is modelled: each message carries its sender's epoch, as each
 * connection begins with it, and what an older one sends is answered with the newer epoch
 * alone.
 *
 * Checked: no acknowledged write is lost that was on the survivor's disk, or that was made in
 * the new epoch; no client sees a zxid below one that it has seen; while a session lives, the
 * ephemeral that it was told of is there; no two servers lead in one epoch and term. At the end
 * all are in one epoch, vote, and have equal trees.
 */
#include "epoch_world.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "box.h"
#include "lib/fake_digest.h"
#include "runner.h"
#include "server/member.h"
#include "server/member_epoch.h"
#include "server/member_repair.h"
#include "wire/wire.h"

enum {
    NODES_MAX = 5,
    CLIENTS = 3,
    EPOCHS_MAX = 4,
    TIMEOUT_MS = 1500,
    ANSWER_US = 2000000, /* a client waits no longer */
    QUIET_US = 40000000,
    EPHEMERALS_MAX = 64, /* of one session */
    EPOCH_HEAD = 16,     /* in front of each message between servers */
};

struct isle;

struct node {
    struct isle *t;
    unsigned n, host; /* id: n + 1 */
    struct box box;
    struct member *member; /* NULL: down */
    uint64_t birth, epoch; /* epoch: into isle.epochs */
    bool is_gone;          /* for good, as everybody thinks */
    uint64_t timer_us, conns;
    struct pipe peers[NODES_MAX];
};

/* An acknowledged write. */
struct write {
    unsigned client, n;
    int64_t zxid;
    bool is_excused; /* it was on no survivor */
};

struct line { /* a client's connection; never freed before the world ends */
    struct line *next;
    struct client *client;
    struct node *node;
    uint64_t life, conn;
    struct pipe up, down;
    bool is_over, server_knows;
};

struct client {
    struct isle *t;
    unsigned n, host;
    struct line *line;
    struct buf in;
    bool has_session;      /* on this connection */
    int64_t session, zxid; /* zxid: the highest seen */
    uint8_t password[TREE_PASSWORD_LEN];
    unsigned next, asked_n, ephemerals;
    bool is_asking, asks_ephemeral;
    uint64_t asked_us;
    unsigned held[EPHEMERALS_MAX]; /* of this session, acknowledged */
    unsigned held_n;
};

struct isle {
    struct world w; /* the first: pipes point to it */
    struct node nodes[NODES_MAX];
    unsigned nodes_n;
    struct client clients[CLIENTS];
    struct line *lines;
    struct write *writes;
    size_t writes_n, writes_cap;
    struct epoch epochs[EPOCHS_MAX];
    uint64_t epochs_n;
    int64_t base; /* the newest epoch's first zxid */
    bool is_quiet;
};

/* ---- nodes ---- */

static void node_turn(struct node *s);
static void node_start(struct node *s);

static uint64_t now_ms(const struct node *s) { return world_host_ms(&s->t->w, s->host); }

static void tell_time(struct node *s)
{
    member_time(s->member, now_ms(s), world_host_wall_ms(&s->t->w, s->host));
}

static void send_with_epoch(struct node *s, unsigned to, const uint8_t *data, size_t len)
{
    struct buf b = {0};

    buf_add_be64(&b, s->epoch);
    buf_add_be64(&b, s->t->epochs[s->epoch].tag);
    buf_add(&b, data, len);
    pipe_send(&s->peers[to], b.data, b.len);
    buf_free(&b);
}

static void io_send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    struct node *s = ctx;

    if (to > 0 && to <= s->t->nodes_n)
        send_with_epoch(s, (unsigned)to - 1, data, len);
}

static struct line *line_of(struct node *s, uint64_t conn)
{
    for (struct line *l = s->t->lines; l != NULL; l = l->next)
        if (l->node == s && l->life == s->box.life && l->conn == conn)
            return l;
    return NULL;
}

static void io_send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    struct line *l = line_of(ctx, conn);

    if (l != NULL && !l->is_over)
        pipe_send(&l->down, data, len);
}

static void io_close_client(void *ctx, uint64_t conn)
{
    struct line *l = line_of(ctx, conn);

    CHECK(l != NULL);
    l->server_knows = false;
    if (!l->is_over)
        pipe_end(&l->down);
}

static void io_random(void *ctx, void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)rng_next(&((struct node *)ctx)->t->w.rng);
}

static bool core_save_take(void *ctx, struct raft_save *out)
{
    return member_save_take(((struct node *)ctx)->member, out);
}

static void core_saved(void *ctx)
{
    tell_time(ctx);
    member_saved(((struct node *)ctx)->member);
}

static void core_tell(void *ctx, uint64_t to, struct buf *answer)
{
    io_send_peer(ctx, to, answer->data, answer->len);
}

static void core_told(void *ctx) { member_told(((struct node *)ctx)->member); }

static bool core_is_awaited(void *ctx)
{
    return member_save_is_awaited(((struct node *)ctx)->member);
}

static bool core_job_take(void *ctx, struct raft_job *out)
{
    return member_job_take(((struct node *)ctx)->member, out);
}

static uint64_t core_sent(void *ctx)
{
    return member_sent_snapshot(((struct node *)ctx)->member);
}

static void core_job_done(void *ctx, int err)
{
    tell_time(ctx);
    member_job_done(((struct node *)ctx)->member, err);
}

static void core_turn(void *ctx) { node_turn(ctx); }
static void core_died(void *ctx)
{
    world_fail(&((struct node *)ctx)->t->w, "a disk failed, and none was to");
}

static void load_state(void *ctx, uint64_t term, uint64_t vote)
{
    member_load_state(((struct node *)ctx)->member, term, vote);
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    CHECK(member_load_snapshot(((struct node *)ctx)->member, index, term, members, data, len) ==
          0);
}

static void load_begin(void *ctx, uint64_t index, uint64_t size)
{
    member_load_begin(((struct node *)ctx)->member, index, size);
}

static void load_piece(void *ctx, const uint8_t *data, size_t len)
{
    member_load_piece(((struct node *)ctx)->member, data, len);
}

static void load_entry(void *ctx, struct raft_entry *e)
{
    CHECK(member_load_entry(((struct node *)ctx)->member, e) == 0);
}

static void node_crash(struct node *s, bool power_loss)
{
    if (s->member == NULL)
        return;
    world_note(&s->t->w, "server %u: %s", s->n, power_loss ? "power off" : "kill -9");
    for (struct line *l = s->t->lines; l != NULL; l = l->next)
        if (l->node == s && l->life == s->box.life && !l->is_over) {
            l->server_knows = false;
            pipe_break(&l->up);
            pipe_end(&l->down);
        }
    for (unsigned i = 0; i < s->t->nodes_n; i++) {
        pipe_break(&s->peers[i]);
        pipe_break(&s->t->nodes[i].peers[s->n]);
    }
    box_crash(&s->box, power_loss);
    member_free(s->member);
    s->member = NULL;
}

static void start_due(void *ctx, uint64_t must, uint64_t b)
{
    struct node *s = ctx;

    (void)b;
    if (must)
        s->is_gone = false;
    if (s->member == NULL && !s->is_gone)
        node_start(s);
}

static void start_later(struct node *s, uint64_t in_us, bool is_back)
{
    world_at(&s->t->w, s->t->w.now_us + in_us, start_due, s, is_back, 0);
}

static void node_start(struct node *s)
{
    const struct member_io io = {s,         io_send_peer, io_send_client, io_close_client,
                                 io_random, fake_digest};
    const struct member_options o = {
        .raft = {.id = s->n + 1, .seed = rng_next(&s->t->w.rng), .birth = s->birth},
        .session_min_ms = 200,
        .snapshot_every = 60,
    };
    const struct store_load load = {s,          load_state, load_snapshot,
                                    load_entry, load_begin, load_piece};

    s->member = member_new(&o, &io);
    box_start(&s->box, &load);
    s->timer_us = WORLD_NEVER;
    member_start(s->member, now_ms(s), world_host_wall_ms(&s->t->w, s->host));
    world_note(&s->t->w, "server %u starts in epoch %u", s->n, (unsigned)s->epoch);
    node_turn(s);
}

/* What run.c does: it stops, its store is set aside, it joins. */
static void join_epoch(struct node *s, uint64_t epoch)
{
    world_note(&s->t->w, "server %u: epoch %u is over", s->n, (unsigned)s->epoch);
    node_crash(s, false);
    box_replace(&s->box);
    s->birth = repair_birth(s->birth, rng_next(&s->t->w.rng));
    s->epoch = epoch;
    start_later(s, 1000 + world_below(&s->t->w, 300000), false);
}

static void from_peer(void *ctx, const uint8_t *data, size_t len)
{
    struct pipe *p = ctx;
    struct isle *t = (struct isle *)(void *)p->w;
    struct node *s = &t->nodes[p->to], *from = &t->nodes[p->from];

    if (s->member == NULL || data == NULL)
        return;
    const struct epoch theirs = {.number = be64_get(data), .tag = be64_get(data + 8)};
    switch (epoch_order(&t->epochs[s->epoch], &theirs)) {
    case EPOCH_SAME: break;
    case EPOCH_NEWER: join_epoch(s, theirs.number); return;
    case EPOCH_OLDER: send_with_epoch(s, from->n, NULL, 0); return;
    case EPOCH_RIVAL: world_fail(&t->w, "two epochs of one number");
    }
    if (len == EPOCH_HEAD)
        return;
    tell_time(s);
    int err = member_peer(s->member, from->n + 1, data + EPOCH_HEAD, len - EPOCH_HEAD);
    if (err != 0)
        world_fail(&t->w, "server %u: a message from server %u is %s", s->n, from->n,
                   err_name(err));
    node_turn(s);
}

static void node_timer(void *ctx, uint64_t life, uint64_t due_us)
{
    struct node *s = ctx;

    if (s->member == NULL || life != s->box.life || due_us != s->timer_us)
        return;
    s->timer_us = WORLD_NEVER;
    tell_time(s);
    node_turn(s);
}

static void check_leaders(struct isle *t, const struct node *s)
{
    const struct raft *r = member_raft(s->member);

    for (unsigned i = 0; i < t->nodes_n && raft_role(r) == RAFT_LEADER; i++) {
        const struct node *o = &t->nodes[i];
        if (o != s && o->member != NULL && o->epoch == s->epoch &&
            raft_role(member_raft(o->member)) == RAFT_LEADER &&
            raft_term(member_raft(o->member)) == raft_term(r))
            world_fail(&t->w, "servers %u and %u both lead in epoch %u, term %u", s->n, o->n,
                       (unsigned)s->epoch, (unsigned)raft_term(r));
    }
}

static void node_turn(struct node *s)
{
    struct world *w = &s->t->w;

    member_flush(s->member);
    box_work(&s->box);
    check_leaders(s->t, s);
    uint64_t due_us = world_host_due(w, s->host, member_deadline(s->member));
    if (due_us < s->timer_us) {
        s->timer_us = due_us;
        world_at(w, due_us, node_timer, s, s->box.life, due_us);
    }
}

/* ---- clients ---- */

static void client_dial(struct client *c);

static void dial_due(void *ctx, uint64_t a, uint64_t b)
{
    struct client *c = ctx;

    (void)a, (void)b;
    if (c->line == NULL)
        client_dial(c);
}

static void client_leave(struct client *c)
{
    struct line *l = c->line;

    if (l != NULL) {
        l->is_over = true;
        pipe_break(&l->down);
        pipe_end(&l->up);
    }
    c->line = NULL;
    c->has_session = c->is_asking = false;
    buf_clear(&c->in);
    world_at(&c->t->w, c->t->w.now_us + 20000 + world_below(&c->t->w, 200000), dial_due, c, 0,
             0);
}

static void send_frame(struct client *c, const struct buf *frame)
{
    pipe_send(&c->line->up, frame->data, frame->len);
}

static void ask_create(struct client *c, const char *path, int32_t mode)
{
    const struct wire_acl anyone = {WIRE_PERM_ALL, wire_bytes("world", 5),
                                    wire_bytes("anyone", 6)};
    const struct wire_request_header h = {(int32_t)++c->asked_n, WIRE_OP_CREATE};
    struct buf acl = {0}, b = {0};

    wire_acl_encode(&anyone, &acl);
    const struct wire_create_request q = {.path = wire_bytes(path, strlen(path)),
                                          .data = wire_bytes("x", 1),
                                          .acl = {acl.data, acl.len, 1},
                                          .flags = mode};
    size_t at = wire_frame_begin(&b);
    wire_request_header_encode(&h, &b);
    wire_create_request_encode(&q, &b);
    wire_frame_end(&b, at);
    c->is_asking = true;
    c->asked_us = c->t->w.now_us;
    send_frame(c, &b);
    buf_free(&acl);
    buf_free(&b);
}

static void client_ask(struct client *c)
{
    char path[32];

    c->asks_ephemeral =
        c->held_n == 0 || (c->held_n < EPHEMERALS_MAX && world_chance(&c->t->w, 300));
    if (c->asks_ephemeral) {
        snprintf(path, sizeof path, "/e%u-%u", c->n, ++c->ephemerals);
    } else {
        snprintf(path, sizeof path, "/w%u-%u", c->n, ++c->next);
    }
    ask_create(c, path, c->asks_ephemeral ? WIRE_EPHEMERAL : WIRE_PERSISTENT);
}

static void client_tick(void *ctx, uint64_t a, uint64_t b)
{
    struct client *c = ctx;
    struct world *w = &c->t->w;

    (void)a, (void)b;
    if (c->line != NULL && c->is_asking && w->now_us > c->asked_us + ANSWER_US)
        client_leave(c);
    else if (c->line != NULL && c->has_session && !c->is_asking)
        client_ask(c);
    world_at(w, w->now_us + 10000 + world_below(w, 60000), client_tick, c, 0, 0);
}

static void saw_zxid(struct client *c, int64_t zxid)
{
    if (zxid <= 0)
        return;
    if (zxid < c->zxid)
        world_fail(&c->t->w, "client %u sees zxid %llx after %llx", c->n,
                   (unsigned long long)zxid, (unsigned long long)c->zxid);
    c->zxid = zxid;
}

static void connect_answered(struct client *c, struct wire_in *in)
{
    struct wire_connect_response r;

    CHECK(wire_connect_response_decode(&r, in) == 0);
    if (r.session_id == 0) {
        world_note(&c->t->w, "client %u: its session has expired", c->n);
        c->session = 0;
        c->held_n = 0;
        client_leave(c);
        return;
    }
    c->session = r.session_id;
    memcpy(c->password, r.password.data, sizeof c->password);
    c->has_session = true;
    c->is_asking = false;
}

static void answered(struct client *c, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_reply_header h;
    struct isle *t = c->t;

    if (!c->has_session) {
        connect_answered(c, &in);
        return;
    }
    if (wire_reply_header_decode(&h, &in) != 0 || h.xid != (int32_t)c->asked_n)
        return;
    c->is_asking = false;
    saw_zxid(c, h.zxid);
    if (h.err == ERR_SESSION_EXPIRED || h.err == ERR_SESSION_MOVED) {
        client_leave(c);
    } else if (h.err == 0 && c->asks_ephemeral) {
        c->held[c->held_n++] = c->ephemerals;
    } else if (h.err == 0) {
        mem_grow(t->writes, t->writes_cap, t->writes_n + 1);
        t->writes[t->writes_n++] = (struct write){
            c->n, c->next, h.zxid, h.zxid < t->base}; /* of an epoch that is over */
    }
}

static void to_client(void *ctx, const uint8_t *data, size_t len)
{
    struct line *l = ctx;
    struct client *c = l->client;

    if (l->is_over || c->line != l)
        return;
    if (data == NULL) {
        l->is_over = true;
        c->line = NULL;
        client_leave(c);
        return;
    }
    buf_add(&c->in, data, len);
    while (c->line == l && c->in.len >= 4 && c->in.len - 4 >= be32_get(c->in.data)) {
        size_t n = be32_get(c->in.data);
        struct buf frame = {0};
        buf_add(&frame, c->in.data + 4, n);
        buf_consume(&c->in, 4 + n);
        answered(c, frame.data, frame.len);
        buf_free(&frame);
    }
}

static void to_server(void *ctx, const uint8_t *data, size_t len)
{
    struct line *l = ctx;
    struct node *s = l->node;

    if (s->member == NULL || l->life != s->box.life || !l->server_knows)
        return;
    tell_time(s);
    if (data == NULL) {
        l->server_knows = false;
        member_client_closed(s->member, l->conn);
    } else {
        member_client_frame(s->member, l->conn, data + 4, len - 4); /* sent one by one */
    }
    node_turn(s);
}

static void accept_due(void *ctx, uint64_t a, uint64_t b)
{
    struct line *l = ctx;
    struct client *c = l->client;
    struct node *s = l->node;
    struct world *w = &c->t->w;
    struct buf frame = {0};

    (void)a, (void)b;
    if (l->is_over || c->line != l)
        return;
    if (s->member == NULL || !world_reaches(w, c->host, s->host) ||
        !world_reaches(w, s->host, c->host)) {
        l->is_over = true;
        c->line = NULL;
        client_leave(c);
        return;
    }
    l->life = s->box.life;
    l->conn = ++s->conns;
    l->server_knows = true;
    tell_time(s);
    member_client_opened(s->member, l->conn, "10.0.0.1:1");
    const struct wire_connect_request q = {.last_zxid_seen = c->zxid,
                                           .timeout_ms = TIMEOUT_MS,
                                           .session_id = c->session,
                                           .password =
                                               wire_bytes(c->password, sizeof c->password)};
    size_t at = wire_frame_begin(&frame);
    wire_connect_request_encode(&q, &frame);
    wire_frame_end(&frame, at);
    c->is_asking = true;
    c->asked_us = w->now_us;
    send_frame(c, &frame);
    buf_free(&frame);
    node_turn(s);
}

static void client_dial(struct client *c)
{
    struct line *l = mem_new(struct line);
    struct world *w = &c->t->w;

    l->next = c->t->lines;
    c->t->lines = l;
    l->client = c;
    l->node = &c->t->nodes[world_below(w, c->t->nodes_n)];
    pipe_init(&l->up, w, c->host, l->node->host, to_server, l);
    pipe_init(&l->down, w, l->node->host, c->host, to_client, l);
    c->line = l;
    c->is_asking = c->has_session = false;
    world_at(w, w->now_us + world_delay_us(w), accept_due, l, 0, 0);
}

/* ---- the operator ---- */

/* What the survivor's disk holds, read in another way than the recovery does. */
struct holds {
    struct tree *tree;
    struct buf paths; /* of creates behind the snapshot, each ended by a NUL */
};

static void holds_snapshot(void *ctx, uint64_t index, uint64_t term,
                           const struct raft_members *members, const uint8_t *data, size_t len)
{
    (void)index, (void)term, (void)members;
    ((struct holds *)ctx)->tree = tree_load(3, data, len);
}

static void holds_entry(void *ctx, struct raft_entry *e)
{
    struct holds *h = ctx;
    struct tree_txn txn;
    struct wire_create_request q;

    if (e->type != RAFT_ENTRY_DATA || tree_txn_decode(&txn, e->payload, e->len) != 0 ||
        txn.op != WIRE_OP_CREATE)
        return;
    struct wire_in in = wire_in(txn.body, txn.len);
    if (wire_create_request_decode(&q, &in) != 0)
        return;
    buf_add(&h->paths, q.path.data, (size_t)q.path.len);
    buf_add_u8(&h->paths, 0);
}

static bool holds(const struct holds *h, const char *path)
{
    const uint8_t *data;
    size_t len;

    if (tree_get(h->tree, path, &data, &len))
        return true;
    for (size_t at = 0; at < h->paths.len; at += strlen((const char *)h->paths.data + at) + 1)
        if (strcmp((const char *)h->paths.data + at, path) == 0)
            return true;
    return false;
}

static void excuse(struct isle *t, const struct holds *h)
{
    char path[32];

    for (size_t i = 0; i < t->writes_n; i++) {
        struct write *v = &t->writes[i];
        snprintf(path, sizeof path, "/w%u-%u", v->client, v->n);
        v->is_excused = v->is_excused || !holds(h, path);
    }
}

/* A store with this as its first state, on an empty disk. */
static void fill_store(struct node *s, struct tree *tree, uint64_t index, uint64_t term,
                       const struct raft_members *members)
{
    struct raft_save vote = {.hard = true, .term = term};
    struct buf bytes = {0};

    tree_save(tree, &bytes);
    struct raft_blob *b =
        raft_blob_new_take(index, term, members, mem_dup(bytes.data, bytes.len), bytes.len);
    box_start(&s->box, &(struct store_load){0});
    CHECK(store_save(s->box.store, &vote) == 0);
    CHECK(store_snapshot(s->box.store, b, 0) == 0);
    store_close(s->box.store);
    s->box.store = NULL;
    raft_blob_unref(b);
    buf_free(&bytes);
}

static void recover(struct isle *t, struct node *s)
{
    struct survivor copy = {0};
    struct holds h = {0};
    struct raft_members members;
    struct epoch next;
    uint64_t index;

    node_crash(s, false);
    const struct store_load first = {
        .ctx = &h, .snapshot = holds_snapshot, .entry = holds_entry};
    box_start(&s->box, &first);
    store_close(s->box.store);
    s->box.store = NULL;
    const struct store_load load = {&copy,          survivor_state, survivor_snapshot,
                                    survivor_entry, NULL,           NULL};
    box_start(&s->box, &load);
    store_close(s->box.store);
    s->box.store = NULL;
    CHECK(copy.err == 0 && copy.tree != NULL && h.tree != NULL);
    excuse(t, &h);
    CHECK(survivor_begin(&copy, &t->epochs[s->epoch], rng_next(&t->w.rng), s->n + 1, &next,
                         &members, &index) == 0);
    CHECK(next.number == t->epochs_n && t->epochs_n < EPOCHS_MAX);
    t->epochs[t->epochs_n++] = next;
    t->base = (int64_t)index;
    world_note(&t->w, "server %u is recovered: its log ended at %u, epoch %u begins", s->n,
               (unsigned)copy.log.last, (unsigned)next.number);
    box_replace(&s->box);
    fill_store(s, copy.tree, index, copy.term + 1, &members);
    s->epoch = next.number;
    tree_free(copy.tree);
    tree_free(h.tree);
    buf_free(&h.paths);
    node_start(s);
}

/* ---- faults ---- */

static void heal(struct isle *t) { memset(t->w.blocked, 0, sizeof t->w.blocked); }

static void cut_off(struct isle *t, uint32_t side)
{
    for (unsigned i = 0; i < t->w.hosts_n; i++)
        for (unsigned k = 0; k < t->w.hosts_n; k++)
            if ((side >> i & 1) != (side >> k & 1))
                t->w.blocked[i][k] = true;
}

static void fault_due(void *ctx, uint64_t until_us, uint64_t b)
{
    struct isle *t = ctx;
    struct world *w = &t->w;
    struct node *s = &t->nodes[world_below(w, t->nodes_n)];

    (void)b;
    if (w->now_us >= until_us)
        return;
    switch (world_below(w, 4)) {
    case 0:
        if (s->member != NULL) {
            node_crash(s, world_chance(w, 500));
            start_later(s, world_below(w, 600000), false);
        }
        break;
    case 1: cut_off(t, (uint32_t)world_below(w, 1u << w->hosts_n)); break;
    default: heal(t); break;
    }
    world_at(w, w->now_us + world_below(w, 700000), fault_due, t, until_us, 0);
}

static void heal_due(void *ctx, uint64_t a, uint64_t b)
{
    (void)a, (void)b;
    heal(ctx);
}

/* One time a majority is lost, and comes back. */
static void lose_and_recover(struct isle *t)
{
    struct world *w = &t->w;
    struct node *survivor = &t->nodes[world_below(w, t->nodes_n)];
    unsigned lost = t->nodes_n / 2 + 1 + (unsigned)world_below(w, t->nodes_n / 2);
    uint64_t until_us = w->now_us + 1000000 + world_below(w, 3000000);

    world_at(w, w->now_us, fault_due, t, until_us, 0);
    world_run_until(w, until_us + 100000);
    heal(t);
    if (world_chance(w, 500)) { /* it misses the last of it */
        cut_off(t, 1u << survivor->host);
        world_run_until(w, w->now_us + world_below(w, 1500000));
    }
    for (unsigned i = 1; i <= t->nodes_n && lost > 0; i++, lost--) {
        struct node *s = &t->nodes[(survivor->n + i) % t->nodes_n];
        if (s == survivor)
            break;
        s->is_gone = true;
        node_crash(s, world_chance(w, 500));
        if (world_chance(w, 300))
            world_run_until(w, w->now_us + world_below(w, 300000));
    }
    heal(t);
    world_run_until(w, w->now_us + world_below(w, 2000000));
    recover(t, survivor);
    if (world_chance(w, 400)) { /* the others find each other first */
        cut_off(t, 1u << survivor->host | (1u << t->clients[0].host));
        world_at(w, w->now_us + 500000 + world_below(w, 4000000), heal_due, t, 0, 0);
    }
    for (unsigned i = 0; i < t->nodes_n; i++)
        if (t->nodes[i].is_gone)
            start_later(&t->nodes[i], world_below(w, 4000000), true);
    world_run_until(w, w->now_us + 5000000);
    heal(t);
}

/* ---- the end ---- */

static struct node *leader_of(struct isle *t)
{
    for (unsigned i = 0; i < t->nodes_n; i++)
        if (t->nodes[i].member != NULL && raft_is_ready(member_raft(t->nodes[i].member)) &&
            t->nodes[i].epoch + 1 == t->epochs_n)
            return &t->nodes[i];
    return NULL;
}

static const char *wrong(struct isle *t)
{
    struct node *leader = leader_of(t);

    if (leader == NULL)
        return "there is no leader in the newest epoch";
    const struct raft *r = member_raft(leader->member);
    for (unsigned i = 0; i < t->nodes_n; i++) {
        const struct node *s = &t->nodes[i];
        const struct raft_member *m = raft_member_find(raft_members(r), i + 1);
        if (s->member == NULL)
            return "a server is down";
        if (s->epoch != leader->epoch)
            return "a server is in another epoch";
        if (m == NULL || !m->voter)
            return "a server does not vote";
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        if (!t->clients[i].has_session || t->clients[i].held_n == 0)
            return "a client has no session";
    return NULL;
}

static void wait_until_right(struct isle *t)
{
    uint64_t end_us = t->w.now_us + QUIET_US;
    const char *what = wrong(t);

    while (what != NULL && t->w.now_us < end_us) {
        world_run_until(&t->w, t->w.now_us + 100000);
        what = wrong(t);
    }
    if (what != NULL)
        world_fail(&t->w, "liveness: %s", what);
}

/* A leader whose disk is behind those of the others has not applied yet what they have
 * committed, and their clients know. */
static struct node *leader_with_all(struct isle *t)
{
    uint64_t end_us = t->w.now_us + QUIET_US;

    for (;;) {
        struct node *n = leader_of(t);
        if (n != NULL &&
            raft_applied(member_raft(n->member)) == raft_committed(member_raft(n->member)))
            return n;
        if (t->w.now_us >= end_us)
            world_fail(&t->w, "liveness: no leader has applied what is committed");
        world_run_until(&t->w, t->w.now_us + 100);
    }
}

static void check_end(struct isle *t)
{
    struct node *leader = leader_with_all(t);
    const struct tree *tree = member_tree(leader->member);
    struct tree_session session;
    const uint8_t *data;
    size_t len;
    char path[32];

    for (size_t i = 0; i < t->writes_n; i++) {
        const struct write *v = &t->writes[i];
        snprintf(path, sizeof path, "/w%u-%u", v->client, v->n);
        if (!v->is_excused && !tree_get(tree, path, &data, &len))
            world_fail(&t->w, "%s was acknowledged with zxid %llx and is lost", path,
                       (unsigned long long)v->zxid);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        const struct client *c = &t->clients[i];
        if (!c->has_session || !tree_session_get(tree, c->session, &session))
            continue;
        for (unsigned k = 0; k < c->held_n; k++) {
            snprintf(path, sizeof path, "/e%u-%u", i, c->held[k]);
            if (!tree_get(tree, path, &data, &len))
                world_fail(&t->w, "client %u's session lives, and its ephemeral %s is gone", i,
                           path);
        }
    }
    for (unsigned i = 0; i < t->nodes_n; i++) {
        const struct member *m = t->nodes[i].member;
        if (raft_applied(member_raft(m)) == raft_applied(member_raft(leader->member)) &&
            tree_digest(member_tree(m)) != tree_digest(tree))
            world_fail(&t->w, "server %u has another tree than the leader", i);
    }
}

/* ---- the beginning ---- */

static void begin(struct isle *t)
{
    struct world *w = &t->w;
    struct raft_members members = {.n = world_chance(w, 600) ? 3 : 5};
    struct tree *empty = tree_new(1);
    char name[8];

    w->net.delay_min_us = 100;
    w->net.delay_max_us = 300 + (uint32_t)world_below(w, 20000);
    t->nodes_n = members.n;
    t->epochs_n = 1;
    for (unsigned i = 0; i < members.n; i++) {
        struct node *s = &t->nodes[i];
        const struct box_core core = {.ctx = s,
                                      .save_take = core_save_take,
                                      .saved = core_saved,
                                      .tell = core_tell,
                                      .told = core_told,
                                      .is_awaited = core_is_awaited,
                                      .job_take = core_job_take,
                                      .job_done = core_job_done,
                                      .sent = core_sent,
                                      .turn = core_turn,
                                      .died = core_died};
        struct raft_member *m = &members.v[i];
        snprintf(name, sizeof name, "s%u", i);
        *m = (struct raft_member){.id = i + 1, .voter = true};
        snprintf(m->name, sizeof m->name, "%s", name);
        snprintf(m->address, sizeof m->address, "10.0.0.%u:2182", i + 1);
        s->t = t;
        s->n = i;
        s->host = world_add_host(w, name, (int32_t)world_below(w, 20001) - 10000);
        CHECK(s->host == i);
        box_init(&s->box, w, s->host, &core);
        s->box.keep = world_below(w, 100);
        s->box.options.segment_bytes = 4000 + world_below(w, 60000);
    }
    for (unsigned i = 0; i < members.n; i++)
        for (unsigned k = 0; k < members.n; k++)
            pipe_init(&t->nodes[i].peers[k], w, i, k, from_peer, &t->nodes[i].peers[k]);
    for (unsigned i = 0; i < members.n; i++) {
        fill_store(&t->nodes[i], empty, 1, 1, &members);
        node_start(&t->nodes[i]);
    }
    tree_free(empty);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *c = &t->clients[i];
        snprintf(name, sizeof name, "c%u", i);
        *c = (struct client){.t = t, .n = i, .host = world_add_host(w, name, 0)};
        client_dial(c);
        world_at(w, w->now_us + 1000, client_tick, c, 0, 0);
    }
}

static void free_all(struct isle *t)
{
    for (unsigned i = 0; i < t->nodes_n; i++) {
        struct node *s = &t->nodes[i];
        box_free(&s->box);
        if (s->member != NULL)
            member_free(s->member);
        for (unsigned k = 0; k < t->nodes_n; k++)
            pipe_break(&s->peers[k]);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        buf_free(&t->clients[i].in);
    while (t->lines != NULL) {
        struct line *l = t->lines;
        t->lines = l->next;
        pipe_break(&l->up);
        pipe_break(&l->down);
        mem_free(l);
    }
    mem_free(t->writes);
    world_free(&t->w);
    mem_free(t);
}

bool epoch_seed(uint64_t seed, bool verbose, char *failure, size_t room)
{
    struct isle *t = mem_new(struct isle);

    world_init(&t->w, seed, verbose);
    runner_guard(&t->w);
    if (setjmp(t->w.stop) == 0) {
        begin(t);
        lose_and_recover(t);
        wait_until_right(t);
        if (world_chance(&t->w, 300)) { /* and once more */
            lose_and_recover(t);
            wait_until_right(t);
        }
        check_end(t);
    }
    runner_guard(NULL);
    bool ok = t->w.failure[0] == 0;
    snprintf(failure, room, "%s", t->w.failure);
    world_note(&t->w, "%u acknowledged writes, %u epochs", (unsigned)t->writes_n,
               (unsigned)t->epochs_n);
    if (ok)
        free_all(t);
    return ok;
}
