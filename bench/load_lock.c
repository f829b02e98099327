/* SPDX-License-Identifier: Apache-2.0 */
/* load_lock.c -- every session wants the same lock, has it, and lets it go at once.
 *
 * The recipe of ZooKeeper's documentation: an ephemeral sequential znode; whose is the lowest
 * has the lock; who has not watches the one before his. Whoever gets it must have waited
 * longest. A latency is from letting go to the next one's knowing that he has it.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "load.h"
#include "tree/watch.h"

#define NUMBER 10u /* digits of a sequential znode */

enum turn { CREATING, LISTING, WATCHING, WAITING, DELETING };

struct contender {
    enum turn turn;
    int64_t number;
    int64_t before; /* the one that is watched */
};

struct lock {
    struct load *load;
    char top[LOAD_PATH_ROOM]; /* of the contenders' znodes: /NAME/lock */
    struct contender *all;
    int64_t last;       /* who had it last */
    uint64_t let_go_ns; /* 0: nobody has yet */
    struct buf create, list;
};

static void node_path(const struct lock *k, int64_t number, char *out)
{
    snprintf(out, LOAD_PATH_ROOM, "%.64s/n-%010lld", k->top, (long long)number);
}

static void ask(struct lock *k, struct link *l, enum turn turn)
{
    struct contender *c = &k->all[l->number];
    struct buf frame = {0};
    char path[LOAD_PATH_ROOM];

    c->turn = turn;
    switch (turn) {
    case CREATING: link_ask(l, &k->create); break;
    case LISTING: link_ask(l, &k->list); break;
    case WATCHING:
        node_path(k, c->before, path);
        frame_read(&frame, WIRE_OP_GET_DATA, path, true);
        link_ask(l, &frame);
        break;
    case DELETING:
        node_path(k, c->number, path);
        frame_delete(&frame, path);
        link_ask(l, &frame);
        break;
    case WAITING: break;
    }
    buf_free(&frame);
}

static int64_t number_of(const struct lock *k, const struct link *l,
                         const struct wire_bytes *name)
{
    int64_t number = 0;

    if (name->len < (int32_t)NUMBER)
        load_die(&k->load->links, l, "a contender is called %.*s", (int)name->len,
                 (const char *)name->data);
    for (const uint8_t *p = name->data + name->len - NUMBER; p < name->data + name->len; p++)
        number = number * 10 + (*p - '0');
    return number;
}

static void have(struct lock *k, struct link *l, uint64_t now_ns)
{
    struct contender *c = &k->all[l->number];

    if (c->number <= k->last)
        load_die(&k->load->links, l, "number %lld has the lock after %lld",
                 (long long)c->number, (long long)k->last);
    k->last = c->number;
    if (k->let_go_ns > 0)
        meter_count(&k->load->meter, k->let_go_ns, now_ns);
    k->let_go_ns = now_ns;
    ask(k, l, DELETING);
}

static void look(struct lock *k, struct link *l, struct wire_in *in, uint64_t now_ns)
{
    struct contender *c = &k->all[l->number];
    struct wire_children_response r;
    struct wire_bytes name;
    bool has_own = false;

    wire_children_response_decode(&r, in);
    c->before = -1;
    while (wire_texts_next(&r.children, &name)) {
        int64_t number = number_of(k, l, &name);
        has_own = has_own || number == c->number;
        if (number < c->number && number > c->before)
            c->before = number;
    }
    if (!has_own)
        load_die(&k->load->links, l, "its own znode, number %lld, is not among the contenders",
                 (long long)c->number);
    if (c->before < 0)
        have(k, l, now_ns);
    else
        ask(k, l, WATCHING);
}

/* The one before may be gone by now: then the reply is an error. */
static void take_watched(struct lock *k, struct link *l, const uint8_t *frame, size_t len)
{
    struct wire_in in = wire_in(frame, len);
    bool is_gone = len >= 16 && (int32_t)be32_get(frame + 12) == ERR_NO_NODE;

    link_reply(&k->load->links, l, &in, is_gone ? ERR_NO_NODE : 0);
    k->all[l->number].turn = WAITING;
    if (is_gone)
        ask(k, l, LISTING);
}

static void take_event(struct lock *k, struct link *l, const uint8_t *frame, size_t len)
{
    struct contender *c = &k->all[l->number];
    char path[LOAD_PATH_ROOM];

    if (c->turn != WAITING)
        load_die(&k->load->links, l, "an event, but nothing is watched");
    node_path(k, c->before, path);
    link_event(&k->load->links, l, frame, len, WATCH_DELETED, wire_bytes(path, strlen(path)));
    ask(k, l, LISTING);
}

static void take(void *ctx, struct link *l, const uint8_t *frame, size_t len, uint64_t now_ns)
{
    struct lock *k = ctx;
    struct contender *c = &k->all[l->number];
    struct wire_in in = wire_in(frame, len);
    struct wire_path_response created;

    if (link_is_event(frame, len)) {
        take_event(k, l, frame, len);
        return;
    }
    if (c->turn == WATCHING) {
        take_watched(k, l, frame, len);
        return;
    }
    link_reply(&k->load->links, l, &in, 0);
    switch (c->turn) {
    case CREATING:
        wire_path_response_decode(&created, &in);
        c->number = number_of(k, l, &created.path);
        ask(k, l, LISTING);
        break;
    case LISTING: look(k, l, &in, now_ns); break;
    case DELETING:
        if (meter_is_over(&k->load->meter))
            k->load->in_flight--;
        else
            ask(k, l, CREATING);
        break;
    case WATCHING:
    case WAITING: break;
    }
    if (in.err != 0)
        load_die(&k->load->links, l, "a reply of %zu bytes cannot be read", len);
}

void lock_run(struct load *load)
{
    struct lock k = {.load = load, .last = -1};
    struct buf frame = {0};
    char path[LOAD_PATH_ROOM];

    k.all = mem_new_array(struct contender, load->sessions);
    snprintf(k.top, sizeof k.top, "/%s/lock", load->name);
    frame_create(&frame, k.top, "", 0, WIRE_PERSISTENT);
    load_ask(load, &load->links.all[0], &frame);
    load_settle(load);
    snprintf(path, sizeof path, "%.64s/n-", k.top);
    frame_create(&k.create, path, "", 0, WIRE_EPHEMERAL_SEQUENTIAL);
    frame_read(&k.list, WIRE_OP_GET_CHILDREN, k.top, false);
    load_meter(load, load->requests);
    load->links.take = take;
    load->links.ctx = &k;
    load->in_flight = load->sessions; /* who wants the lock, also while he waits */
    for (unsigned i = 0; i < load->sessions; i++) {
        ask(&k, &load->links.all[i], CREATING);
        links_send(&load->links, &load->links.all[i]);
    }
    load_run(load);
    load_print(load, load->op);
    buf_clear(&frame);
    frame_delete(&frame, k.top);
    load_ask(load, &load->links.all[0], &frame);
    load_settle(load);
    buf_free(&frame);
    buf_free(&k.create);
    buf_free(&k.list);
    mem_free(k.all);
}
