/* SPDX-License-Identifier: Apache-2.0 */
/* Three members whose network and disks are slow in exact ways: what a client at a follower
 * may then expect. (Chance and faults: the simulation.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "lib/fake_digest.h"
#include "server/member.h"
#include "wire/wire.h"

#define SERVERS 3
#define WALL_MS 1700000000000

struct message {
    TAILQ_ENTRY(message) next;
    unsigned from, to;
    uint64_t due_ms;
    struct buf bytes;
};

struct server {
    struct world *world;
    unsigned n;
    struct member *member;
    uint64_t disk_ms, save_due_ms; /* RAFT_NEVER: none is under way */
    struct buf out;                /* of the only client */
    bool closed;
    bool is_frozen;
};

struct world {
    struct server servers[SERVERS];
    TAILQ_HEAD(, message) wire;
    uint64_t now_ms, way_ms;
    struct rng rng;
};

static void send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    struct server *s = ctx;
    struct message *x = mem_new(struct message);

    x->from = s->n;
    x->to = (unsigned)to - 1;
    x->due_ms = s->world->now_ms + s->world->way_ms;
    buf_add(&x->bytes, data, len);
    TAILQ_INSERT_TAIL(&s->world->wire, x, next);
}

static void send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    struct server *s = ctx;

    assert_false(s->closed || conn != 1);
    buf_add(&s->out, data, len);
}

static void close_client(void *ctx, uint64_t conn)
{
    assert_int_equal(conn, 1);
    ((struct server *)ctx)->closed = true;
}

static void random_bytes(void *ctx, void *data, size_t len)
{
    struct server *s = ctx;

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)rng_next(&s->world->rng);
}

static void start(struct world *w, uint64_t way_ms)
{
    struct raft_members all = {.n = SERVERS};
    struct buf empty = {0};
    struct tree *t = tree_new(1);

    *w = (struct world){.now_ms = 1000, .way_ms = way_ms, .rng = {7}};
    TAILQ_INIT(&w->wire);
    tree_save(t, &empty);
    for (unsigned i = 0; i < SERVERS; i++)
        all.v[i] = (struct raft_member){.id = i + 1, .voter = true};
    for (unsigned i = 0; i < SERVERS; i++) {
        struct server *s = &w->servers[i];
        const struct member_io io = {
            s, send_peer, send_client, close_client, random_bytes, fake_digest};
        const struct member_options o = {.raft = {.id = i + 1, .seed = i + 1},
                                         .read_only_after_ms = 2000};
        s->world = w;
        s->n = i;
        s->save_due_ms = RAFT_NEVER;
        s->member = member_new(&o, &io);
        assert_int_equal(member_load_snapshot(s->member, 1, 1, &all, empty.data, empty.len), 0);
        member_start(s->member, w->now_ms, WALL_MS);
    }
    buf_free(&empty);
    tree_free(t);
}

static void stop(struct world *w)
{
    struct message *x;

    for (unsigned i = 0; i < SERVERS; i++) {
        member_free(w->servers[i].member);
        buf_free(&w->servers[i].out);
    }
    while ((x = TAILQ_FIRST(&w->wire)) != NULL) {
        TAILQ_REMOVE(&w->wire, x, next);
        buf_free(&x->bytes);
        mem_free(x);
    }
}

static void work(struct server *s)
{
    struct raft_save save;
    uint64_t now_ms = s->world->now_ms;

    member_time(s->member, now_ms, WALL_MS);
    member_flush(s->member);
    if (now_ms >= s->save_due_ms) {
        s->save_due_ms = RAFT_NEVER;
        member_saved(s->member);
        member_flush(s->member);
    }
    if (s->save_due_ms == RAFT_NEVER && member_save_take(s->member, &save))
        s->save_due_ms = now_ms + s->disk_ms;
}

static void run(struct world *w, uint64_t ms)
{
    struct message *x, *next;

    for (uint64_t end_ms = w->now_ms + ms; w->now_ms < end_ms; w->now_ms++) {
        TAILQ_FOREACH_SAFE(x, &w->wire, next, next)
        {
            struct member *m = w->servers[x->to].member;
            if (x->due_ms > w->now_ms || w->servers[x->to].is_frozen)
                continue;
            member_time(m, w->now_ms, WALL_MS);
            assert_int_equal(member_peer(m, x->from + 1, x->bytes.data, x->bytes.len), 0);
            TAILQ_REMOVE(&w->wire, x, next);
            buf_free(&x->bytes);
            mem_free(x);
        }
        for (unsigned i = 0; i < SERVERS; i++)
            if (!w->servers[i].is_frozen)
                work(&w->servers[i]);
    }
}

static struct server *leader(struct world *w)
{
    for (unsigned i = 0; i < SERVERS; i++)
        if (raft_is_ready(member_raft(w->servers[i].member)))
            return &w->servers[i];
    fail_msg("nobody leads");
    return NULL;
}

static void connect_client(struct server *s)
{
    static const uint8_t none[TREE_PASSWORD_LEN];
    const struct wire_connect_request q = {.timeout_ms = 10000,
                                           .password = wire_bytes(none, sizeof none)};
    struct buf b = {0};

    member_client_opened(s->member, 1, "10.0.0.9");
    wire_connect_request_encode(&q, &b);
    member_client_frame(s->member, 1, b.data, b.len);
    buf_free(&b);
}

static void ask(struct server *s, const struct wire_request_header *h)
{
    struct buf b = {0};

    wire_request_header_encode(h, &b);
    member_client_frame(s->member, 1, b.data, b.len);
    buf_free(&b);
}

/* Frames that the client has been sent since the last time. */
static unsigned frames(struct server *s)
{
    unsigned n = 0;

    for (; s->out.len >= 4; n++)
        buf_consume(&s->out, 4 + be32_get(s->out.data));
    return n;
}

static const struct wire_request_header ping = {WIRE_XID_PING, WIRE_OP_PING};

/* To the leader, from there to a quorum and all the way back: longer than a question is
 * waited for before it is asked again. */
static void a_ping_over_a_long_way_is_answered(void **state)
{
    struct world w;
    (void)state;
    start(&w, 45);
    run(&w, 4000);
    struct server *f = &w.servers[(leader(&w)->n + 1) % SERVERS];
    connect_client(f);
    run(&w, 1000);
    assert_int_equal(frames(f), 1);
    for (int i = 0; i < 5; i++) {
        ask(f, &ping);
        run(&w, 60); /* the next one is asked while the first is still on its way */
    }
    run(&w, 1500);
    assert_int_equal(frames(f), 5);
    assert_false(f->closed);
    stop(&w);
}

/* A quorum without the leader's disk commits; the follower applies before the leader does. */
static void a_session_that_the_leader_has_not_applied_yet_is_not_refused(void **state)
{
    struct world w;
    (void)state;
    start(&w, 1);
    run(&w, 4000);
    struct server *l = leader(&w), *f = &w.servers[(l->n + 1) % SERVERS];
    l->disk_ms = 400;
    connect_client(f);
    run(&w, 200);
    assert_int_equal(frames(f), 1);
    ask(f, &ping);
    run(&w, 50);
    assert_int_equal(frames(f), 1);
    run(&w, 1000);
    ask(f, &ping);
    run(&w, 50);
    assert_int_equal(frames(f), 1);
    assert_false(f->closed);
    stop(&w);
}

/* The answer to a connect request, waited for; session_id -1: closed without one. */
static struct wire_connect_response comes_back(struct world *w, struct server *s,
                                               const struct wire_connect_response *old,
                                               int8_t read_only)
{
    static uint8_t password[TREE_PASSWORD_LEN];
    struct wire_connect_response r = {.session_id = -1};
    const struct wire_connect_request q = {
        .timeout_ms = 20000,
        .session_id = old != NULL ? old->session_id : 0,
        .password = old != NULL ? old->password : wire_bytes(password, sizeof password),
        .read_only = read_only,
    };
    struct buf b = {0};

    member_client_closed(s->member, 1); /* an older one, if there is any */
    s->closed = false;
    buf_clear(&s->out);
    member_client_opened(s->member, 1, "10.0.0.9");
    wire_connect_request_encode(&q, &b);
    member_client_frame(s->member, 1, b.data, b.len);
    buf_free(&b);
    run(w, 100);
    if (s->out.len >= 4) {
        struct wire_in in = wire_in(s->out.data + 4, s->out.len - 4);
        assert_int_equal(wire_connect_response_decode(&r, &in), 0);
        r.password = wire_bytes(memcpy(password, r.password.data, sizeof password), 16);
    }
    return r;
}

static void without_a_quorum_some_may_read_until_there_is_one(void **state)
{
    struct world w;
    (void)state;
    start(&w, 1);
    run(&w, 4000);
    struct server *f = &w.servers[(leader(&w)->n + 1) % SERVERS];
    struct wire_connect_response mine = comes_back(&w, f, NULL, 1), r;
    uint8_t password[TREE_PASSWORD_LEN];
    assert_int_equal(mine.read_only, 0);
    mine.password = wire_bytes(memcpy(password, mine.password.data, 16), 16);
    for (unsigned i = 0; i < SERVERS; i++)
        w.servers[i].is_frozen = &w.servers[i] != f;
    run(&w, 1500);
    assert_true(f->closed);
    assert_false(member_is_read_only(f->member));
    run(&w, 2000);
    assert_true(member_is_read_only(f->member));
    /* The session of the ensemble waits for it. */
    r = comes_back(&w, f, &mine, 1);
    assert_int_equal(r.session_id, -1);
    assert_true(f->closed);
    r = comes_back(&w, f, NULL, 1);
    assert_int_equal(r.read_only, 1);
    assert_false(f->closed);
    struct wire_connect_response local = r;
    uint8_t local_password[TREE_PASSWORD_LEN];
    local.password = wire_bytes(memcpy(local_password, r.password.data, 16), 16);
    for (unsigned i = 0; i < SERVERS; i++)
        w.servers[i].is_frozen = false;
    run(&w, 3000);
    assert_true(f->closed);
    assert_false(member_is_read_only(f->member));
    assert_true(member_is_serving(f->member));
    r = comes_back(&w, f, &local, 1);
    assert_int_equal(r.session_id, 0);
    assert_int_equal(r.read_only, 0);
    r = comes_back(&w, f, &mine, 1);
    assert_int_equal(r.session_id, mine.session_id);
    assert_int_equal(r.read_only, 0);
    stop(&w);
}

/* The time in which a server did not run does not count as time without a leader: its clients
 * stay, though its clock is looked at before what it was sent meanwhile. */
static void who_has_stood_still_keeps_its_clients(void **state)
{
    struct world w;
    (void)state;
    start(&w, 1);
    run(&w, 4000);
    for (unsigned which = 0; which < SERVERS; which++) {
        struct server *s = &w.servers[which];
        (void)comes_back(&w, s, NULL, WIRE_ABSENT);
        (void)frames(s);
    }
    for (unsigned i = 0; i < SERVERS; i++)
        w.servers[i].is_frozen = true;
    run(&w, 5000);
    for (unsigned i = 0; i < SERVERS; i++) {
        w.servers[i].is_frozen = false;
        work(&w.servers[i]);
    }
    run(&w, 900);
    for (unsigned i = 0; i < SERVERS; i++) {
        struct server *s = &w.servers[i];
        assert_false(s->closed);
        ask(s, &ping);
    }
    run(&w, 100);
    for (unsigned i = 0; i < SERVERS; i++)
        assert_int_equal(frames(&w.servers[i]), 1);
    /* But then it does. */
    struct server *f = &w.servers[(leader(&w)->n + 1) % SERVERS];
    for (unsigned i = 0; i < SERVERS; i++)
        w.servers[i].is_frozen = &w.servers[i] != f;
    run(&w, 1700);
    assert_true(f->closed);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ping_over_a_long_way_is_answered),
        cmocka_unit_test(a_session_that_the_leader_has_not_applied_yet_is_not_refused),
        cmocka_unit_test(without_a_quorum_some_may_read_until_there_is_one),
        cmocka_unit_test(who_has_stood_still_keeps_its_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
