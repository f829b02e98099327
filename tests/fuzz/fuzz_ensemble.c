/* SPDX-License-Identifier: Apache-2.0 */
/* Three servers that talk to each other, whose messages (raft's, forwards, questions) are
 * changed, lost, doubled and held back on their way, with clients at each. The input is a
 * tape. A peer that lies may break what servers promise each other; it must not end one, nor
 * make it grow. So nothing is checked but that, and that what cannot be read is refused. */
#include "base/check.h"
#include "base/rng.h"
#include "lib/fake_digest.h"
#include "lib/shelf.h"
#include "server/member.h"
#include "tape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { SERVERS = 3, PACKETS_MAX = 64, STEPS_MAX = 400, CONNS = 3 };

struct packet {
    unsigned from, to;
    uint8_t *data;
    size_t len;
};

struct server {
    struct world *world;
    unsigned place;
    struct member *member;
    struct shelf shelf;
    uint64_t conns[CONNS], conns_made; /* 0: none */
};

struct world {
    struct tape tape;
    struct rng rng;
    uint64_t now_ms;
    struct server v[SERVERS];
    struct packet packets[PACKETS_MAX];
    unsigned packets_n;
    int32_t xid;
};

static void send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    struct server *s = ctx;
    struct world *w = s->world;

    if (to < 1 || to > SERVERS)
        return; /* a forged configuration names others */
    if (w->packets_n == PACKETS_MAX) {
        mem_free(w->packets[0].data);
        memmove(w->packets, w->packets + 1, --w->packets_n * sizeof w->packets[0]);
    }
    w->packets[w->packets_n++] =
        (struct packet){s->place, (unsigned)to - 1, mem_dup(data, len), len};
}

static void send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    (void)ctx, (void)conn, (void)data, (void)len;
}

static void close_client(void *ctx, uint64_t conn)
{
    struct server *s = ctx;

    for (unsigned i = 0; i < CONNS; i++)
        if (s->conns[i] == conn)
            s->conns[i] = 0;
}

static void random_bytes(void *ctx, void *data, size_t len)
{
    struct server *s = ctx;

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)rng_next(&s->world->rng);
}

static void turn(struct server *s)
{
    struct raft_save save;
    struct raft_job job;

    member_flush(s->member);
    while (member_save_take(s->member, &save)) {
        member_saved(s->member);
        member_flush(s->member);
    }
    while (member_job_take(s->member, &job)) {
        member_job_done(s->member, shelf_job(&s->shelf, &job));
        member_flush(s->member);
    }
}

static void give(struct world *w, unsigned to, unsigned from, const uint8_t *data, size_t len)
{
    struct server *s = &w->v[to];

    (void)member_peer(s->member, from + 1, data, len);
    turn(s);
}

static void deliver_all(struct world *w)
{
    for (unsigned n = 0; w->packets_n > 0 && n < 200; n++) {
        struct packet p = w->packets[0];
        memmove(w->packets, w->packets + 1, --w->packets_n * sizeof w->packets[0]);
        give(w, p.to, p.from, p.data, p.len);
        mem_free(p.data);
    }
}

static void pass(struct world *w, uint64_t ms, bool delivers)
{
    for (uint64_t end_ms = w->now_ms + ms; w->now_ms < end_ms;) {
        uint64_t step_ms = ms > 20 ? 20 : 1;
        w->now_ms += step_ms;
        for (unsigned i = 0; i < SERVERS; i++) {
            member_time(w->v[i].member, w->now_ms, 1700000000000 + (int64_t)w->now_ms);
            turn(&w->v[i]);
        }
        if (delivers)
            deliver_all(w);
    }
}

static void start(struct world *w)
{
    struct raft_members all = {.n = SERVERS};
    struct tree *t = tree_new(1);
    struct buf snapshot = {0};

    tree_save(t, &snapshot);
    for (unsigned i = 0; i < SERVERS; i++) {
        all.v[i] = (struct raft_member){.id = i + 1, .voter = true, .address = "10.0.0.1:2182"};
        all.v[i].name[0] = (char)('a' + i);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        struct server *s = &w->v[i];
        const struct member_io io = {
            s, send_peer, send_client, close_client, random_bytes, fake_digest};
        const struct member_options o = {.raft = {.id = i + 1, .seed = i + 1},
                                         .rules = 63,
                                         .snapshot_every = 20,
                                         .read_only_after_ms = 2000};
        *s = (struct server){.world = w, .place = i};
        s->member = member_new(&o, &io);
        member_load_state(s->member, 1, 0);
        CHECK(member_load_snapshot(s->member, 1, 1, &all, snapshot.data, snapshot.len) == 0);
        member_start(s->member, w->now_ms, 1700000000000);
    }
    buf_free(&snapshot);
    tree_free(t);
    pass(w, 1500, true);
}

static uint64_t odd_number(struct tape *t)
{
    static const uint64_t odd[] = {0,          1,      2, 255, UINT64_MAX, UINT64_MAX >> 8,
                                   UINT32_MAX, 1 << 26};
    uint8_t b = tape_byte(t);

    return b < 128 ? b : odd[b % 8] + b / 64;
}

static void spoil(struct tape *t, struct buf *b)
{
    size_t at = b->len > 0 ? (size_t)tape_byte(t) * (1 + b->len / 256) % b->len : 0;

    switch (tape_below(t, 7)) {
    case 0: b->data[at] ^= (uint8_t)(1 << tape_below(t, 8)); break;
    case 1: b->data[at] = tape_byte(t); break;
    case 2: /* a number of a raft message's head, or the like */
    case 3:
        at = 3 + 8 * (at % 8);
        if (at + 8 <= b->len)
            be64_put(b->data + at, odd_number(t));
        break;
    case 4:
        if (at + 4 <= b->len)
            be32_put(b->data + at, (uint32_t)odd_number(t));
        break;
    case 5: b->len = at; break;
    default: {
        struct wire_bytes more = tape_raw(t, tape_byte(t));
        if (more.len > 0)
            buf_add(b, more.data, (size_t)more.len);
    }
    }
}

/* One of the messages under way. */
static void message(struct world *w, unsigned what)
{
    struct tape *t = &w->tape;

    if (w->packets_n == 0)
        return;
    unsigned i = tape_byte(t) % w->packets_n;
    struct packet p = w->packets[i];
    struct buf b = {0};
    bool stays = what % 8 == 0;
    if (!stays)
        memmove(w->packets + i, w->packets + i + 1,
                (--w->packets_n - i) * sizeof w->packets[0]);
    buf_add(&b, p.data, p.len);
    for (unsigned n = what % 4; n > 0 && b.len > 0; n--)
        spoil(t, &b);
    unsigned from = p.from, to = what % 16 == 5 ? tape_below(t, SERVERS) : p.to;
    if (to != from && what % 16 != 7) /* 7: lost */
        give(w, to, from, b.data, b.len);
    if (!stays)
        mem_free(p.data);
    buf_free(&b);
}

static void client(struct world *w)
{
    struct tape *t = &w->tape;
    struct server *s = &w->v[tape_below(t, SERVERS)];
    unsigned i = tape_below(t, CONNS);
    struct buf b = {0};

    if (s->conns[i] == 0) {
        static const uint8_t none[TREE_PASSWORD_LEN];
        const struct wire_connect_request q = {
            .timeout_ms = 4000, .password = wire_bytes(none, sizeof none), .read_only = 1};
        s->conns[i] = ++s->conns_made;
        member_client_opened(s->member, s->conns[i], "10.0.0.9");
        wire_connect_request_encode(&q, &b);
    } else if (tape_below(t, 16) == 0) {
        member_client_closed(s->member, s->conns[i]);
        s->conns[i] = 0;
    } else {
        tape_request(t, ++w->xid, &b);
    }
    if (b.len > 0)
        member_client_frame(s->member, s->conns[i], b.data, b.len);
    turn(s);
    buf_free(&b);
}

static void members(struct world *w)
{
    struct tape *t = &w->tape;
    struct server *s = &w->v[tape_below(t, SERVERS)];
    struct raft_member m = {.id = 1 + tape_below(t, 5),
                            .auto_promote = tape_below(t, 2) == 0,
                            .address = "10.0.0.1:2182",
                            .name = "x"};

    if (tape_below(t, 2) == 0)
        (void)member_add(s->member, &m);
    else
        (void)member_remove(s->member, m.id);
    turn(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world *w = mem_new(struct world);

    w->tape = (struct tape){.at = data, .end = data + len};
    w->rng.state = 1;
    w->now_ms = 1000;
    start(w);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(&w->tape); i++) {
        unsigned what = tape_byte(&w->tape);
        if (what < 100)
            message(w, what);
        else if (what < 180)
            client(w);
        else if (what < 184)
            members(w);
        else if (what < 200)
            deliver_all(w);
        else
            pass(w, (uint64_t)1 << (what - 200) / 5, what % 3 != 0);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        member_free(w->v[i].member);
        shelf_free(&w->v[i].shelf);
    }
    while (w->packets_n > 0)
        mem_free(w->packets[--w->packets_n].data);
    tape_free(&w->tape);
    mem_free(w);
    return 0;
}
