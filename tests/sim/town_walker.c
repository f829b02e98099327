/* SPDX-License-Identifier: Apache-2.0 */
/* Walkers: two clients in half of the worlds, for what town_client.c does not do.
 *
 *   /r/..    znodes that both create, set and delete, also by transactions, and watch in all
 *            ways (town_mirror.h)
 *   /t/..    containers and TTL znodes: they go when they are due, and not before, and never
 *            with children
 *   /p       of the first walker, who has a password: nobody else may set it
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "town.h"
#include "town_mirror.h"
#include "wire/wire.h"

enum { WALKERS = 2, OUTSTANDING_MAX = 6, THINK_US = 130000, LAPSING_MAX = 60 };
enum { TTL_MIN_MS = 100, TTL_MAX_MS = 2500 };

static const char *const names[MIRROR_PATHS] = {"/r",     "/r/a",   "/r/b", "/r/a/x",
                                                "/r/a/y", "/r/b/x", "/p",   "/t"};
enum { WALKED = 6, SECRET = 6, LAPSING = 7 }; /* the first ones change; then /p and /t */

enum asked { /* what a reply is about */
             ASKED_STATE,
             ASKED_DELETE,
             ASKED_WATCH,
             ASKED_CHANGE, /* of unknown effect on what is mirrored: transactions */
             ASKED_SECRET,
             ASKED_LAPSING,
             ASKED_SYNC,
};

struct question {
    struct question *next;
    struct walker *w;
    enum asked type;
    unsigned i; /* which path; or which lapsing znode */
    bool is_watched, is_child, is_exists, is_recursive;
    unsigned step;
};

/* A container (ttl_ms 0) or a TTL znode, with what happens to it. */
enum { STEP_CREATE, STEP_CHILD, STEP_LOOK, STEP_CHILD_LOOK, STEP_CHILD_DELETE };
struct lapsing {
    uint32_t ttl_ms;
    bool is_there;      /* its creation is acknowledged */
    bool has_child;     /* likewise, and nobody has asked to delete it */
    bool may_go;        /* it has lost its child, or nobody knows */
    bool is_unsure;     /* the creation's or the child's end is not known */
    int64_t touched_ms; /* wall clock: before the last acknowledged change was asked */
    bool is_over;
};

struct walker {
    struct town *town;
    unsigned n, host;
    struct shell shell;
    struct mirror mirror;
    struct question *questions;
    unsigned outstanding, ends_left;
    bool is_idle, has_roots;
    struct lapsing lapsing[LAPSING_MAX];
    unsigned lapsing_n;
};

#define FAIL(w, ...) world_fail(&(w)->town->w, __VA_ARGS__)

static uint64_t now_ms(const struct walker *w) { return world_host_ms(&w->town->w, w->host); }
static struct client *client(struct walker *w) { return w->shell.client; }

/* The true time, as an entry's time is if no wall clock was ever set. */
static int64_t wall_ms(const struct walker *w)
{
    return 1700000000000 + (int64_t)(w->town->w.now_us / 1000);
}

static bool clocks_are_right(const struct walker *w)
{
    for (unsigned i = 0; i < w->town->w.hosts_n; i++)
        if (w->town->w.hosts[i].wall_offset_ms != 0)
            return false;
    return true;
}

static struct question *question(struct walker *w, enum asked type, unsigned i)
{
    struct question *q = mem_new(struct question);

    q->next = w->questions;
    w->questions = q;
    q->w = w;
    q->type = type;
    q->i = i;
    w->outstanding++;
    return q;
}

/* ---- answers ---- */

static void mirrored(struct walker *w, unsigned i, const char *wrong)
{
    if (wrong != NULL)
        FAIL(w, "walker %u: %s %s", w->n, names[i], wrong);
}

static void state_done(struct walker *w, const struct question *q, const struct client_reply *r)
{
    struct mirror_stat s = {.exists = true,
                            .version = r->stat.version,
                            .cversion = r->stat.cversion,
                            .mzxid = r->stat.mzxid,
                            .pzxid = r->stat.pzxid};
    bool is_absent = r->err == ERR_NO_NODE && q->type == ASKED_STATE;

    if (r->err != 0 && !is_absent)
        return;
    if (is_absent || q->type == ASKED_DELETE)
        s = (struct mirror_stat){0};
    mirrored(w, q->i, mirror_read(&w->mirror, q->i, &s));
    if (q->is_watched && (r->err == 0 || q->is_exists)) /* else none was set */
        mirror_arm(&w->mirror, q->i, &s, q->is_child);
}

static void lapsing_path(const struct walker *w, unsigned i, bool is_child, char path[48])
{
    snprintf(path, 48, "/t/%u-%u%s", w->n, i, is_child ? "/c" : "");
}

static void look_done(struct walker *w, struct lapsing *l, unsigned i,
                      const struct client_reply *r)
{
    if (r->err != ERR_NO_NODE || !l->is_there || l->is_over)
        return;
    if (l->has_child)
        FAIL(w, "walker %u: %s %u is gone, and had a child", w->n,
             l->ttl_ms > 0 ? "TTL znode" : "container", i);
    if (l->ttl_ms == 0 && !l->may_go)
        FAIL(w, "walker %u: container %u is gone, and never had a child", w->n, i);
    if (l->ttl_ms > 0 && clocks_are_right(w) && wall_ms(w) <= l->touched_ms + l->ttl_ms)
        FAIL(w, "walker %u: TTL znode %u of %u ms is gone after %d ms", w->n, i, l->ttl_ms,
             (int)(wall_ms(w) - l->touched_ms));
    l->is_over = true;
}

static void lapsing_done(struct walker *w, const struct question *q,
                         const struct client_reply *r)
{
    struct lapsing *l = &w->lapsing[q->i];

    switch (q->step) {
    case STEP_CREATE:
        l->is_there = r->err == 0;
        l->is_over |= r->err != 0; /* nothing more is asked of it */
        break;
    case STEP_CHILD:
        l->has_child = r->err == 0;
        l->is_unsure |= r->err != 0; /* it may have had one */
        break;
    case STEP_LOOK: look_done(w, l, q->i, r); break;
    case STEP_CHILD_LOOK:
        if (r->err == ERR_NO_NODE && l->has_child)
            FAIL(w, "walker %u: the child of lapsing znode %u is gone", w->n, q->i);
        break;
    default: /* STEP_CHILD_DELETE */ break;
    }
}

static void secret_done(struct walker *w, const struct client_reply *r)
{
    if (w->n > 0 && r->err == 0)
        FAIL(w, "walker %u: sets a znode of which it may not", w->n);
    if (w->n == 0 && r->err == ERR_NO_AUTH)
        FAIL(w, "walker 0: may not set its own znode");
}

static void done(void *ctx, const struct client_reply *r)
{
    struct question *q = ctx;
    struct walker *w = q->w;

    w->outstanding--;
    switch (r->err) {
    case 0:
    case ERR_CONNECTION_LOST:
    case ERR_SESSION_EXPIRED:
    case ERR_NO_NODE:
    case ERR_NODE_EXISTS:
    case ERR_NOT_EMPTY:
    case ERR_NO_ROOM:
    case ERR_NO_AUTH:
    case ERR_BAD_VERSION: break;
    default:
        FAIL(w, "walker %u: question %u is answered with %s", w->n, q->type, err_name(r->err));
    }
    switch (q->type) {
    case ASKED_STATE:
    case ASKED_DELETE: state_done(w, q, r); break;
    case ASKED_WATCH:
        if (r->err == 0)
            mirror_watch(&w->mirror, q->i, q->is_recursive);
        break;
    case ASKED_SECRET: secret_done(w, r); break;
    case ASKED_LAPSING: lapsing_done(w, q, r); break;
    case ASKED_CHANGE: break; /* events tell */
    case ASKED_SYNC: break;
    }
}

static void end_done(void *ctx, const struct client_reply *r)
{
    struct walker *w = ((struct question *)ctx)->w;

    if (r->err != 0 && r->err != ERR_NO_NODE)
        FAIL(w, "walker %u: the last look fails with %s", w->n, err_name(r->err));
    w->ends_left--;
    done(ctx, r);
}

static void on_event(void *ctx, enum client_event ev)
{
    struct walker *w = ctx;

    if (ev == CLIENT_EV_DISCONNECTED || ev == CLIENT_EV_EXPIRED)
        mirror_disconnected(&w->mirror);
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct walker *w = ctx;
    const char *wrong = mirror_event(&w->mirror, type, path);

    if (wrong != NULL)
        FAIL(w, "walker %u: %s %s (event %d)", w->n, path, wrong, type);
}

/* ---- questions ---- */

static void ask_roots(struct walker *w)
{
    if (w->n == 0) { /* only here, so that others may not */
        client_create(client(w), now_ms(w), names[SECRET], NULL, 0, 0, done,
                      question(w, ASKED_CHANGE, 0));
        return;
    }
    client_create(client(w), now_ms(w), names[0], NULL, 0, 0, done,
                  question(w, ASKED_CHANGE, 0));
    client_create(client(w), now_ms(w), names[LAPSING], NULL, 0, 0, done,
                  question(w, ASKED_CHANGE, 0));
}

static void add_part(struct buf *b, int32_t op, const char *path)
{
    const struct wire_multi_header h = {op, false, -1};
    const struct wire_bytes p = wire_bytes(path, strlen(path));
    const struct wire_acl open = {WIRE_PERM_ALL, wire_bytes("world", 5),
                                  wire_bytes("anyone", 6)};
    struct buf acl = {0};

    wire_multi_header_encode(&h, b);
    wire_acl_encode(&open, &acl);
    const struct wire_create_request create = {
        .path = p, .data = wire_bytes(path, 2), .acl = {acl.data, acl.len, 1}};
    const struct wire_set_data_request set = {p, wire_bytes(path, 1), -1};
    const struct wire_path_version_request del = {p, -1};
    if (op == WIRE_OP_CREATE)
        wire_create_request_encode(&create, b);
    else if (op == WIRE_OP_SET_DATA)
        wire_set_data_request_encode(&set, b);
    else
        wire_path_version_request_encode(&del, b);
    buf_free(&acl);
}

/* Different znodes, so that each has at most one event of it. */
static void ask_multi(struct walker *w)
{
    static const int32_t ops[] = {WIRE_OP_CREATE, WIRE_OP_SET_DATA, WIRE_OP_SET_DATA,
                                  WIRE_OP_DELETE};
    const struct wire_multi_header end = {-1, true, -1};
    struct buf b = {0};

    for (unsigned i = 1; i < WALKED; i++)
        if (world_chance(&w->town->w, 350))
            add_part(&b, ops[world_below(&w->town->w, 4)], names[i]);
    wire_multi_header_encode(&end, &b);
    client_request(client(w), now_ms(w), WIRE_OP_MULTI, b.data, b.len, done,
                   question(w, ASKED_CHANGE, 0));
    buf_free(&b);
}

static void ask_lapsing_create(struct walker *w)
{
    const struct wire_acl open = {WIRE_PERM_ALL, wire_bytes("world", 5),
                                  wire_bytes("anyone", 6)};
    struct buf acl = {0}, b = {0};
    char path[48];

    if (w->lapsing_n == LAPSING_MAX)
        return;
    struct lapsing *l = &w->lapsing[w->lapsing_n];
    struct question *q = question(w, ASKED_LAPSING, w->lapsing_n);
    q->step = STEP_CREATE;
    lapsing_path(w, w->lapsing_n++, false, path);
    wire_acl_encode(&open, &acl);
    l->ttl_ms = world_chance(&w->town->w, 500)
                    ? TTL_MIN_MS + (uint32_t)world_below(&w->town->w, TTL_MAX_MS)
                    : 0;
    l->touched_ms = wall_ms(w);
    const struct wire_create_ttl_request ttl = {.path = wire_bytes(path, strlen(path)),
                                                .data = wire_bytes(NULL, 0),
                                                .acl = {acl.data, acl.len, 1},
                                                .flags = WIRE_TTL,
                                                .ttl_ms = l->ttl_ms};
    const struct wire_create_request container = {
        .path = ttl.path, .data = ttl.data, .acl = ttl.acl, .flags = WIRE_CONTAINER};
    if (l->ttl_ms > 0)
        wire_create_ttl_request_encode(&ttl, &b);
    else
        wire_create_request_encode(&container, &b);
    client_request(client(w), now_ms(w),
                   l->ttl_ms > 0 ? WIRE_OP_CREATE_TTL : WIRE_OP_CREATE_CONTAINER, b.data, b.len,
                   done, q);
    buf_free(&acl);
    buf_free(&b);
}

/* What comes next in the life of some container or TTL znode. */
static void ask_lapsing(struct walker *w)
{
    char path[48], child[48];

    if (w->lapsing_n == 0 || world_chance(&w->town->w, 250)) {
        ask_lapsing_create(w);
        return;
    }
    unsigned i = w->lapsing_n - 1 -
                 (unsigned)world_below(&w->town->w, w->lapsing_n < 4 ? w->lapsing_n : 4);
    struct lapsing *l = &w->lapsing[i];
    if (!l->is_there || l->is_over)
        return;
    struct question *q = question(w, ASKED_LAPSING, i);
    lapsing_path(w, i, false, path);
    lapsing_path(w, i, true, child);
    q->step = STEP_LOOK;
    if (world_chance(&w->town->w, 500)) {
        client_exists(client(w), now_ms(w), path, false, done, q);
    } else if (!l->has_child && !l->may_go) {
        q->step = STEP_CHILD;
        l->may_go = true; /* another one is not made */
        client_create(client(w), now_ms(w), child, NULL, 0, 0, done, q);
    } else if (l->has_child && world_chance(&w->town->w, 500)) {
        q->step = STEP_CHILD_LOOK;
        client_exists(client(w), now_ms(w), child, false, done, q);
    } else if (l->has_child) {
        q->step = STEP_CHILD_DELETE;
        l->has_child = false;
        l->may_go = true;
        client_delete(client(w), now_ms(w), child, -1, done, q);
    } else {
        client_exists(client(w), now_ms(w), path, false, done, q);
    }
}

static void ask_read(struct walker *w, unsigned i)
{
    struct world *world = &w->town->w;
    struct question *q = question(w, ASKED_STATE, i);
    uint64_t kind = world_below(world, 3);

    q->is_watched = world_chance(world, 600);
    q->is_exists = kind == 1;
    q->is_child = kind == 2;
    if (kind == 0)
        client_get(client(w), now_ms(w), names[i], q->is_watched, done, q);
    else if (kind == 1)
        client_exists(client(w), now_ms(w), names[i], q->is_watched, done, q);
    else
        client_children(client(w), now_ms(w), names[i], q->is_watched, done, q);
}

static void ask_watch(struct walker *w, unsigned i)
{
    struct question *q = question(w, ASKED_WATCH, i);

    q->is_recursive = world_chance(&w->town->w, 500);
    client_add_watch(client(w), now_ms(w), names[i], q->is_recursive, done, q);
}

static void ask(struct walker *w)
{
    unsigned i = (unsigned)world_below(&w->town->w, WALKED);
    unsigned below = 1 + (unsigned)world_below(&w->town->w, WALKED - 1);

    switch (world_below(&w->town->w, 20)) {
    case 0:
    case 1:
    case 2:
        client_create(client(w), now_ms(w), names[below], NULL, 0, 0, done,
                      question(w, ASKED_CHANGE, below));
        break;
    case 3:
    case 4:
        client_delete(client(w), now_ms(w), names[below], -1, done,
                      question(w, ASKED_DELETE, below));
        break;
    case 5:
    case 6:
    case 7:
        client_set(client(w), now_ms(w), names[i], names[i], 2, -1, done,
                   question(w, ASKED_STATE, i));
        break;
    case 8: ask_multi(w); break;
    case 9: ask_watch(w, i); break;
    case 10:
        client_set(client(w), now_ms(w), names[SECRET], NULL, 0, -1, done,
                   question(w, ASKED_SECRET, 0));
        break;
    case 11:
    case 12:
    case 13: ask_lapsing(w); break;
    default: ask_read(w, i); break;
    }
}

static void think(void *ctx, uint64_t a, uint64_t b)
{
    struct walker *w = ctx;
    struct world *world = &w->town->w;

    (void)a, (void)b;
    if (w->is_idle)
        return;
    uint64_t again_us = world->now_us + world_between(world, THINK_US / 4, THINK_US);
    if (world_is_frozen(world, w->host)) {
        again_us = world->hosts[w->host].frozen_until_us + world_below(world, 20000);
    } else if (w->outstanding < OUTSTANDING_MAX) {
        if (!w->has_roots && client_state(client(w)) == CLIENT_CONNECTED) {
            w->has_roots = true;
            ask_roots(w);
        }
        ask(w);
        shell_turn(&w->shell);
    }
    world_at(world, again_us, think, w, 0, 0);
}

/* ---- their life ---- */

static void walker_add(struct town *t, unsigned n)
{
    struct walker *w = mem_new(struct walker);
    char name[8];

    t->walkers[n] = w;
    w->town = t;
    w->n = n;
    w->mirror.names = names;
    snprintf(name, sizeof name, "w%u", n);
    w->host = world_add_host(&t->w, name, (int32_t)world_below(&t->w, 20001) - 10000);
    const struct client_options o = {
        .timeout_ms = 300 + (uint32_t)world_below(&t->w, 3000),
        .seed = rng_next(&t->w.rng),
        .servers = TOWN_SERVERS_MAX,
        .first = (unsigned)world_below(&t->w, t->servers_n),
        .auth_scheme = n == 0 ? "digest" : NULL,
        .auth = n == 0 ? "walker:secret" : NULL,
        .on_event = on_event,
        .on_watch = on_watch,
        .ctx = w,
    };
    shell_init(&w->shell, t, w->host, client_new(&o));
    world_at(&t->w, t->w.now_us + world_below(&t->w, THINK_US), think, w, 0, 0);
    shell_turn(&w->shell);
}

void town_walkers_add(struct town *t)
{
    for (unsigned i = 0; i < WALKERS; i++)
        walker_add(t, t->walkers_n++);
}

void town_walkers_quiet(struct town *t)
{
    for (unsigned i = 0; i < t->walkers_n; i++)
        t->walkers[i]->is_idle = true;
}

const char *town_walkers_not_live(struct town *t)
{
    for (unsigned i = 0; i < t->walkers_n; i++) {
        struct walker *w = t->walkers[i];
        if (!w->is_idle) /* where a server lets in one request at a time, it may find no room */
            continue;
        if (client_state(client(w)) != CLIENT_CONNECTED)
            return "a walker is not connected";
        if (w->outstanding > 0)
            return "a walker waits for an answer";
    }
    return NULL;
}

/* What is due has gone: by the leader's tree. */
const char *town_walkers_not_lapsed(struct town *t)
{
    const struct server *leader = server_leader(t);
    char path[48];
    const uint8_t *data;
    size_t len;

    for (unsigned i = 0; i < t->walkers_n; i++) {
        struct walker *w = t->walkers[i];
        for (unsigned k = 0; k < w->lapsing_n; k++) {
            const struct lapsing *l = &w->lapsing[k];
            lapsing_path(w, k, true, path);
            bool has_child = tree_get(member_tree(leader->member), path, &data, &len);
            lapsing_path(w, k, false, path);
            if (!tree_get(member_tree(leader->member), path, &data, &len) || has_child)
                continue;
            if (l->ttl_ms > 0 && clocks_are_right(w))
                return "a TTL znode is there, and due";
            if (l->ttl_ms == 0 && l->may_go && !l->is_unsure)
                return "a container is there, and due";
        }
    }
    return NULL;
}

/* Everybody is quiet: was a watch lost? */
void town_walkers_end(struct town *t)
{
    uint64_t end_us = t->w.now_us + 5000000;
    unsigned left = 1;

    for (unsigned i = 0; i < t->walkers_n; i++) {
        struct walker *w = t->walkers[i];
        client_sync(client(w), now_ms(w), "/", end_done, question(w, ASKED_SYNC, 0));
        for (unsigned k = 0; k < WALKED; k++)
            client_exists(client(w), now_ms(w), names[k], false, end_done,
                          question(w, ASKED_STATE, k));
        w->ends_left = 1 + WALKED;
        shell_turn(&w->shell);
    }
    while (left > 0 && t->w.now_us < end_us) {
        world_run_until(&t->w, t->w.now_us + 50000);
        left = 0;
        for (unsigned i = 0; i < t->walkers_n; i++)
            left += t->walkers[i]->ends_left;
    }
    if (left > 0)
        world_fail(&t->w, "the walkers' last look is not answered");
}

void town_walkers_free(struct town *t)
{
    for (unsigned i = 0; i < t->walkers_n; i++) {
        struct walker *w = t->walkers[i];
        client_free(client(w));
        while (w->questions != NULL) {
            struct question *q = w->questions;
            w->questions = q->next;
            mem_free(q);
        }
        mem_free(w);
    }
}
