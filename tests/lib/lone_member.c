/* SPDX-License-Identifier: Apache-2.0 */
#include "lone_member.h"
#include "lib/fake_digest.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "wire/wire.h"

#define WALL_MS 1700000000000

static void send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    (void)to, (void)data, (void)len;
    ((struct lone *)ctx)->peer_messages++;
}

static void send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    struct lone *l = ctx;

    CHECK(conn < LONE_CONNS && !l->closed[conn]);
    buf_add(&l->out[conn], data, len);
}

static void close_client(void *ctx, uint64_t conn)
{
    struct lone *l = ctx;

    CHECK(conn < LONE_CONNS && !l->closed[conn]);
    l->closed[conn] = true;
}

static void random_bytes(void *ctx, void *data, size_t len)
{
    struct lone *l = ctx;

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)rng_next(&l->rng);
}

static void turn(struct lone *l)
{
    struct raft_save save;
    struct raft_job job;

    member_flush(l->member);
    while (member_save_take(l->member, &save)) {
        member_saved(l->member);
        member_flush(l->member);
    }
    while (member_job_take(l->member, &job)) {
        member_job_done(l->member, shelf_job(&l->shelf, &job));
        member_flush(l->member);
    }
}

void lone_start_with(struct lone *l, uint64_t seed, const struct member_options *more,
                     unsigned voters)
{
    const struct member_io io = {l,          send_peer, send_client, close_client, random_bytes,
                                 fake_digest};
    struct member_options options = *more;
    struct raft_members all = {.n = voters};
    struct tree *t = tree_new(seed);
    struct buf snapshot = {0};

    options.raft = (struct raft_options){.id = 1, .seed = seed};
    options.snapshot_every = 100;
    for (unsigned i = 0; i < voters; i++) {
        all.v[i] = (struct raft_member){.id = i + 1, .voter = true};
        snprintf(all.v[i].name, sizeof all.v[i].name, "%c", 'a' + (char)i);
        snprintf(all.v[i].address, sizeof all.v[i].address, "10.0.0.%u:2182", i + 1);
    }

    memset(l, 0, sizeof *l);
    l->rng.state = seed;
    l->now_ms = 1000;
    l->member = member_new(&options, &io);
    tree_save(t, &snapshot);
    member_load_state(l->member, 1, 1);
    CHECK(member_load_snapshot(l->member, 1, 1, &all, snapshot.data, snapshot.len) == 0);
    buf_free(&snapshot);
    tree_free(t);
    member_start(l->member, l->now_ms, WALL_MS);
    lone_run(l, voters == 1 ? 2000 : 0);
    CHECK(member_is_serving(l->member) == (voters == 1));
}

void lone_start(struct lone *l, uint64_t seed)
{
    lone_start_with(l, seed, &(const struct member_options){0}, 1);
}

void lone_stop(struct lone *l)
{
    member_free(l->member);
    shelf_free(&l->shelf);
    for (int i = 0; i < LONE_CONNS; i++)
        buf_free(&l->out[i]);
}

void lone_run(struct lone *l, uint64_t ms)
{
    uint64_t end_ms = l->now_ms + ms;

    for (;;) {
        member_time(l->member, l->now_ms, WALL_MS + (int64_t)l->now_ms);
        turn(l);
        if (l->now_ms == end_ms)
            return;
        uint64_t due_ms = member_deadline(l->member);
        l->now_ms = due_ms <= l->now_ms ? l->now_ms + 1 : due_ms > end_ms ? end_ms : due_ms;
    }
}

void lone_open(struct lone *l, uint64_t conn)
{
    CHECK(conn > 0 && conn < LONE_CONNS);
    member_client_opened(l->member, conn, "10.0.0.9");
}

void lone_frame(struct lone *l, uint64_t conn, const void *data, size_t len)
{
    member_client_frame(l->member, conn, data, len);
    turn(l);
}

void lone_connect_as(struct lone *l, uint64_t conn, const struct wire_connect_request *q)
{
    struct buf b = {0};

    lone_open(l, conn);
    wire_connect_request_encode(q, &b);
    lone_frame(l, conn, b.data, b.len);
    buf_free(&b);
}

void lone_connect(struct lone *l, uint64_t conn, int64_t session, const uint8_t *password,
                  int32_t timeout_ms)
{
    static const uint8_t none[TREE_PASSWORD_LEN];
    const struct wire_connect_request q = {
        .timeout_ms = timeout_ms,
        .session_id = session,
        .password = wire_bytes(password != NULL ? password : none, TREE_PASSWORD_LEN),
    };

    lone_connect_as(l, conn, &q);
}

void lone_request(struct lone *l, uint64_t conn, int32_t xid, int32_t op,
                  const struct buf *body)
{
    const struct wire_request_header h = {xid, op};
    struct buf b = {0};

    wire_request_header_encode(&h, &b);
    if (body != NULL)
        buf_add(&b, body->data, body->len);
    lone_frame(l, conn, b.data, b.len);
    buf_free(&b);
}

const uint8_t *lone_next(struct lone *l, uint64_t conn, size_t *len)
{
    static struct buf frame;
    struct buf *out = &l->out[conn];

    if (out->len < 4)
        return NULL;
    *len = be32_get(out->data);
    CHECK(out->len >= 4 + *len);
    buf_clear(&frame);
    buf_add(&frame, out->data + 4, *len);
    buf_consume(out, 4 + *len);
    return frame.data;
}
