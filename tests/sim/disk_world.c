/* SPDX-License-Identifier: Apache-2.0 */
/* disk_world.c -- full, slow and stuck disks, and what must go on with them.
 *
 * The servers and clients of the whole site (town.h), a network that works, and one kind of
 * trouble in each seed:
 *   FEW    disks of a minority are full, or stuck for seconds: nobody may notice for long
 *   ALL    the disks of all are full, later there is room: data is refused, the rest is not
 *   SLOW   all disks are slow, none is sick: the leader stays
 *   OWN    it is our data that fills the disks: deleting it is enough
 * One prober asks for the same few things again and again; each has to be done within a bound.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "disk_world.h"
#include "town.h"
#include "wire/wire.h"

enum { KIND_FEW, KIND_ALL, KIND_SLOW, KIND_OWN, KINDS };
enum { NAMES_MAX = 3000, DATA_BYTES = 300, OWN_BYTES = 1500, KEPT = 150 };
enum { RESERVE = 256 * 1024, TICK_US = 20000 };
#define SECOND 1000000ull
#define BOUND_US (8 * SECOND)         /* for anything that is asked */
#define REFUSED_AFTER_US (5 * SECOND) /* the disks of all being full */
#define SICK_US (6 * SECOND)          /* a leader may have a sick disk for so long */
#define OWN_BOUND_US (60 * SECOND)    /* deleted data is off the disk */
#define WELL_US (MEMBER_SLOW_HOLD_MS * 1000ull + 3 * SECOND)
#define NOTICED_US (3 * SECOND) /* servers measure once a second, and tell the leader */
#define RUN_US (45 * SECOND)
#define SESSION_MS 30000 /* so that no client goes away by itself */

enum what { DATA, DELETE, CLAIM, SESSION, WHATS };
static const char *const what_names[] = {"a write", "a delete", "a claim", "a session"};

struct probe {
    struct world *w;
    struct disk_town *d;
    enum what what;
    bool is_asked, is_flying;
    uint64_t asked_us, next_us;
    unsigned done_n, refused_n;
    bool is_done; /* since it was last looked at */
};

struct disk_town {
    struct town *t;
    unsigned kind;
    struct shell prober, visitor;
    struct probe probes[WHATS];
    char names[NAMES_MAX][16]; /* data that is there */
    unsigned names_n;
    char deleting[16];
    bool is_set_up, claim_is_there, is_closing;
    uint64_t quiet_us; /* nothing has changed since, or will have from then on */
    uint64_t full_us;  /* the disks of all are full since then; 0: they are not */
    uint64_t sick_us[TOWN_SERVERS_MAX]; /* since when each disk is; 0: it is not */
    uint64_t healed_us[TOWN_SERVERS_MAX];
    bool is_draining; /* OWN: deleting all */
    uint64_t drained_us;
    uint64_t leader_term, leaders;
};

static uint64_t now_ms(const struct shell *h) { return shell_now_ms(h); }

/* ---- asking ---- */

static void ask(struct probe *p);

static void probe_done(struct probe *p)
{
    p->is_asked = false;
    p->done_n++;
    p->is_done = true;
    p->next_us = p->w->now_us;
    if (p->d->kind != KIND_OWN || p->what > DELETE)
        p->next_us += 50000 + world_below(p->w, 150000);
}

/* Since when a leader whose disk is full has somebody to hand over to: a disk that was sick
 * counts as sick for a while. */
static uint64_t calm_us(const struct disk_town *d)
{
    uint64_t at_us = d->quiet_us;

    for (unsigned i = 0; i < d->t->servers_n; i++) {
        uint64_t ill_us = d->t->servers[i].box.stuck_until_us;
        if (ill_us < d->healed_us[i])
            ill_us = d->healed_us[i];
        if (ill_us > 0 && ill_us + WELL_US > at_us)
            at_us = ill_us + WELL_US;
    }
    return at_us;
}

static void answered(void *ctx, const struct client_reply *r)
{
    struct probe *p = ctx;
    struct disk_town *d = p->d;
    struct world *w = p->w;
    bool is_full = d->full_us != 0 && p->asked_us > d->full_us + REFUSED_AFTER_US;

    p->is_flying = false;
    if (r->err == ERR_CONNECTION_LOST || r->err == ERR_SESSION_EXPIRED)
        return; /* asked again; the time goes on */
    if (r->err == ERR_NO_ROOM) {
        bool may = d->kind == KIND_OWN ||
                   (d->kind != KIND_SLOW && w->now_us < calm_us(d) + NOTICED_US) ||
                   d->full_us != 0;
        if (p->what != DATA || !may)
            world_fail(w, "%s is refused: no room", what_names[p->what]);
        p->refused_n++;
        p->is_asked = false;
        p->next_us = w->now_us + 200000;
        if (d->kind == KIND_OWN && !d->is_draining) {
            world_note(w, "our data has filled the disks: %u znodes", d->names_n);
            d->is_draining = true;
        }
        return;
    }
    if (p->what == DATA && r->err == 0 && is_full)
        world_fail(w, "data is accepted with full disks");
    if (p->what == DATA && r->err == 0) {
        CHECK(d->names_n < NAMES_MAX);
        snprintf(d->names[d->names_n++], sizeof d->names[0], "%s", r->path + 3);
    } else if (p->what == DELETE && (r->err == 0 || r->err == ERR_NO_NODE)) {
        d->deleting[0] = 0;
    } else if (p->what == CLAIM &&
               (r->err == 0 || r->err == ERR_NODE_EXISTS || r->err == ERR_NO_NODE)) {
        d->claim_is_there = !d->claim_is_there;
    } else {
        world_fail(w, "%s is answered with %s", what_names[p->what], err_name(r->err));
    }
    probe_done(p);
}

static void ask_data(struct disk_town *d, struct probe *p)
{
    static const uint8_t data[OWN_BYTES];
    size_t len = d->kind == KIND_OWN ? OWN_BYTES : DATA_BYTES;

    client_create(d->prober.client, now_ms(&d->prober), "/d/n", data, len, WIRE_SEQUENTIAL,
                  answered, p);
}

static bool ask_delete(struct disk_town *d, struct probe *p)
{
    char path[32];

    if (d->deleting[0] == 0 && d->names_n == 0)
        return false;
    if (d->deleting[0] == 0)
        memcpy(d->deleting, d->names[--d->names_n], sizeof d->deleting);
    snprintf(path, sizeof path, "/d/%s", d->deleting);
    client_delete(d->prober.client, now_ms(&d->prober), path, -1, answered, p);
    return true;
}

static void ask_claim(struct disk_town *d, struct probe *p)
{
    static const char path[] = "/muster/addresses/10.0.0.1";
    uint8_t data[60] = {0};

    if (d->claim_is_there)
        client_delete(d->prober.client, now_ms(&d->prober), path, -1, answered, p);
    else
        client_create(d->prober.client, now_ms(&d->prober), path, data, sizeof data,
                      WIRE_EPHEMERAL, answered, p);
}

static bool wants(const struct disk_town *d, enum what what)
{
    switch (what) {
    case DATA: return !d->is_draining || (d->names_n == 0 && d->deleting[0] == 0);
    case DELETE:
        return d->is_draining || (d->kind != KIND_OWN && d->names_n > KEPT) || d->full_us != 0;
    case CLAIM:
    case SESSION: return true;
    case WHATS: break;
    }
    UNREACHABLE("a probe of no kind");
}

static void visitor_event(void *ctx, enum client_event ev)
{
    struct disk_town *d = ctx;

    if (ev == CLIENT_EV_CONNECTED && !d->is_closing) {
        d->is_closing = true;
        client_close(d->visitor.client, now_ms(&d->visitor));
    }
    if (ev == CLIENT_EV_CLOSED) {
        d->is_closing = false;
        d->probes[SESSION].is_flying = false;
        probe_done(&d->probes[SESSION]);
    }
}

static struct client *client_of(struct disk_town *d, client_on_event *on_event)
{
    const struct client_options o = {
        .timeout_ms = SESSION_MS,
        .seed = rng_next(&d->t->w.rng),
        .servers = d->t->servers_n,
        .first = (unsigned)world_below(&d->t->w, d->t->servers_n),
        .on_event = on_event,
        .ctx = d,
    };

    return client_new(&o);
}

static void visitor_begin(struct disk_town *d)
{
    if (d->visitor.client != NULL)
        shell_stop(&d->visitor);
    shell_init(&d->visitor, d->t, d->prober.host, client_of(d, visitor_event));
    shell_turn(&d->visitor);
}

static void ask(struct probe *p)
{
    struct disk_town *d = p->d;

    if (!p->is_asked) {
        p->is_asked = true;
        p->asked_us = p->w->now_us;
    }
    p->is_flying = true;
    switch (p->what) {
    case DATA: ask_data(d, p); break;
    case DELETE:
        if (!ask_delete(d, p))
            p->is_asked = p->is_flying = false;
        break;
    case CLAIM: ask_claim(d, p); break;
    case SESSION: visitor_begin(d); break;
    case WHATS: UNREACHABLE("a probe of no kind");
    }
}

/* ---- what must be ---- */

static void check_bounds(struct disk_town *d)
{
    struct world *w = &d->t->w;

    for (unsigned i = 0; i < WHATS; i++) {
        const struct probe *p = &d->probes[i];
        uint64_t from_us = p->asked_us > d->quiet_us ? p->asked_us : d->quiet_us;
        if (p->is_asked && w->now_us > from_us + BOUND_US)
            world_fail(w, "%s has had no answer for %u ms", what_names[i],
                       (unsigned)((w->now_us - p->asked_us) / 1000));
    }
    if (d->drained_us != 0 && w->now_us > d->drained_us + OWN_BOUND_US)
        world_fail(w, "our data is deleted, and the disks are still full");
}

/* A majority of the others has been well for long. */
static bool has_heirs(const struct disk_town *d, unsigned n)
{
    unsigned well = 0;

    for (unsigned i = 0; i < d->t->servers_n; i++)
        well += i != n && d->sick_us[i] == 0 &&
                d->t->w.now_us > d->t->servers[i].box.stuck_until_us + WELL_US &&
                d->t->w.now_us > d->healed_us[i] + WELL_US;
    return well > d->t->servers_n / 2;
}

static void check_leader(struct disk_town *d)
{
    struct world *w = &d->t->w;
    const struct server *s = server_leader(d->t);

    if (s == NULL)
        return;
    if (raft_term(member_raft(s->member)) != d->leader_term) {
        d->leader_term = raft_term(member_raft(s->member));
        d->leaders++;
        if (d->kind == KIND_SLOW && d->leaders > 1)
            world_fail(w, "slow disks have cost a leader its office");
    }
    if (d->kind == KIND_FEW && d->sick_us[s->n] != 0 &&
        w->now_us > d->sick_us[s->n] + SICK_US && has_heirs(d, s->n))
        world_fail(w, "server %u leads with a sick disk", s->n);
}

/* ---- faults ---- */

static void heal_all(struct disk_town *d)
{
    for (unsigned i = 0; i < d->t->servers_n; i++) {
        if (d->sick_us[i] != 0)
            d->healed_us[i] = d->t->w.now_us;
        /* A save that hangs already hangs on; and one that ended lately has been noticed. */
        if (d->t->servers[i].box.stuck_until_us > d->healed_us[i])
            d->healed_us[i] = d->t->servers[i].box.stuck_until_us;
        box_heal(&d->t->servers[i].box);
        d->sick_us[i] = 0;
    }
    d->full_us = 0;
}

static void few(struct disk_town *d)
{
    struct town *t = d->t;
    struct world *w = &t->w;
    unsigned n = 1 + (unsigned)world_below(w, (t->servers_n - 1) / 2);

    heal_all(d);
    for (unsigned i = 0; i < n; i++) {
        struct server *s = &t->servers[world_below(w, t->servers_n)];
        struct server *leader = server_leader(t);
        if (i == 0 && leader != NULL && world_chance(w, 600))
            s = leader;
        d->sick_us[s->n] = w->now_us;
        if (world_chance(w, 500)) {
            s->box.stuck_until_us = w->now_us + (1 + world_below(w, 20)) * SECOND;
            world_note(w, "server %u: its disk is stuck for %u s", s->n,
                       (unsigned)((s->box.stuck_until_us - w->now_us) / SECOND));
            /* Shorter than it takes to notice: not sick. What is stuck is nothing, at first. */
            if (s->box.stuck_until_us < w->now_us + 16 * SECOND)
                d->sick_us[s->n] = 0;
        } else {
            box_leave_room(&s->box, world_below(w, 2) * world_below(w, RESERVE / 2));
            world_note(w, "server %u: its disk is full", s->n);
        }
    }
}

static void all(struct disk_town *d)
{
    struct town *t = d->t;
    struct world *w = &t->w;

    if (d->full_us != 0) {
        world_note(w, "there is room");
        heal_all(d);
        return;
    }
    world_note(w, "all disks are full");
    for (unsigned i = 0; i < t->servers_n; i++)
        box_leave_room(&t->servers[i].box, world_below(w, RESERVE / 4));
    d->full_us = w->now_us;
}

static void fault_due(void *ctx, uint64_t a, uint64_t b)
{
    struct disk_town *d = ctx;
    struct world *w = &d->t->w;

    (void)a, (void)b;
    d->quiet_us = w->now_us;
    if (d->kind == KIND_FEW)
        few(d);
    else
        all(d);
    for (unsigned i = 0; i < d->t->servers_n; i++)
        if (d->healed_us[i] > d->quiet_us)
            d->quiet_us = d->healed_us[i];
    world_at(w, w->now_us + (15 + world_below(w, 15)) * SECOND, fault_due, d, 0, 0);
}

/* ---- the run ---- */

static void set_up_done(void *ctx, const struct client_reply *r)
{
    struct disk_town *d = ctx;

    d->is_set_up = r->err == 0 || r->err == ERR_NODE_EXISTS;
}

static void ignored(void *ctx, const struct client_reply *r) { (void)ctx, (void)r; }

static void set_up(struct disk_town *d)
{
    struct client *c = d->prober.client;

    client_create(c, now_ms(&d->prober), "/d", NULL, 0, 0, ignored, d);
    client_create(c, now_ms(&d->prober), "/muster", NULL, 0, 0, ignored, d);
    client_create(c, now_ms(&d->prober), "/muster/addresses", NULL, 0, 0, set_up_done, d);
}

static void begin_faults(struct disk_town *d)
{
    struct town *t = d->t;
    struct world *w = &t->w;

    d->quiet_us = w->now_us;
    if (d->kind == KIND_FEW || d->kind == KIND_ALL)
        world_at(w, w->now_us + 5 * SECOND, fault_due, d, 0, 0);
    for (unsigned i = 0; i < t->servers_n && d->kind == KIND_OWN; i++)
        box_leave_room(&t->servers[i].box, 3 * RESERVE + world_below(w, 2 * RESERVE));
}

static void tick(void *ctx, uint64_t a, uint64_t b)
{
    struct disk_town *d = ctx;
    struct world *w = &d->t->w;

    (void)a, (void)b;
    for (unsigned i = 0; i < WHATS; i++) {
        struct probe *p = &d->probes[i];
        if (!p->is_flying && w->now_us >= p->next_us && (p->is_asked || wants(d, p->what)))
            ask(p);
    }
    if (d->is_draining && d->names_n == 0 && d->deleting[0] == 0 && d->drained_us == 0) {
        world_note(w, "all of it is deleted");
        d->drained_us = w->now_us;
        d->probes[DATA].is_done = false;
    }
    if (d->drained_us != 0 && d->probes[DATA].is_done) {
        d->is_draining = false;
        d->drained_us = 0;
    }
    shell_turn(&d->prober);
    check_bounds(d);
    check_leader(d);
    world_at(w, w->now_us + TICK_US, tick, d, 0, 0);
}

static void found(struct disk_town *d)
{
    struct town *t = d->t;
    struct world *w = &t->w;
    struct raft_members members = {.n = world_chance(w, 700) ? 3 : 5};
    char name[8];

    for (unsigned i = 0; i < members.n; i++) {
        struct raft_member *m = &members.v[i];
        *m = (struct raft_member){.id = i + 1, .voter = true};
        snprintf(name, sizeof name, "s%u", i);
        snprintf(m->name, sizeof m->name, "%s", name);
        snprintf(m->address, sizeof m->address, "10.0.0.%u:2182", i + 1);
        server_add(t, name);
    }
    for (unsigned i = 0; i < members.n; i++)
        server_found(&t->servers[i], &members);
    for (unsigned i = 0; i < members.n; i++)
        server_start(&t->servers[i]);
}

static void run_all(struct disk_town *d)
{
    struct town *t = d->t;
    struct world *w = &t->w;

    unsigned host = world_add_host(w, "prober", 0);
    world_run_until(w, 2 * SECOND);
    shell_init(&d->prober, t, host, client_of(d, NULL));
    d->visitor.host = host;
    set_up(d);
    shell_turn(&d->prober);
    while (!d->is_set_up) {
        world_run_until(w, w->now_us + SECOND);
        if (w->now_us > BOUND_US * 8)
            world_fail(w, "no beginning");
    }
    for (unsigned i = 0; i < WHATS; i++)
        d->probes[i] = (struct probe){.w = w, .d = d, .what = (enum what)i};
    begin_faults(d);
    tick(d, 0, 0);
    world_run_until(w, w->now_us + RUN_US * (d->kind == KIND_OWN ? 2 : 1));
    for (unsigned i = 0; i < WHATS; i++)
        if (d->probes[i].done_n == 0 && !(i == DELETE && d->kind != KIND_OWN))
            world_fail(w, "%s was never done", what_names[i]);
    if (d->kind == KIND_OWN && !d->is_draining && d->probes[DATA].refused_n == 0)
        world_fail(w, "the disks were never full");
    world_note(w, "%u writes, %u refused, %u deletes, %u claims, %u sessions, %u leaders",
               d->probes[DATA].done_n, d->probes[DATA].refused_n, d->probes[DELETE].done_n,
               d->probes[CLAIM].done_n, d->probes[SESSION].done_n, (unsigned)d->leaders);
    town_check_end(t);
}

static void draw(struct disk_town *d)
{
    struct town *t = d->t;
    struct world *w = &t->w;

    d->kind = (unsigned)(w->seed % KINDS);
    w->net.delay_min_us = 100;
    w->net.delay_max_us = 300 + (uint32_t)world_below(w, 5000);
    t->save_min_us = (uint32_t)world_below(w, 2000);
    t->save_max_us = t->save_min_us + (uint32_t)world_below(w, 10000);
    if (d->kind == KIND_SLOW) { /* longer than elections take, shorter than MEMBER_SLOW_MS */
        t->save_min_us = 200000;
        t->save_max_us = 200000 + (uint32_t)world_below(w, 1000000);
    }
    t->snapshot_every = 200 + world_below(w, 600);
    t->keep = world_below(w, 100);
    t->reserve_bytes = RESERVE;
}

bool disk_seed(uint64_t seed, bool verbose, char *failure, size_t room)
{
    struct town *t = mem_new(struct town);
    struct disk_town *d = mem_new(struct disk_town);

    d->t = t;
    world_init(&t->w, seed, verbose);
    runner_guard(&t->w);
    if (setjmp(t->w.stop) == 0) {
        town_check_new(t);
        draw(d);
        found(d);
        run_all(d);
    }
    runner_guard(NULL);
    bool ok = t->w.failure[0] == 0;
    snprintf(failure, room, "%s", t->w.failure);
    if (ok) { /* after a failure nothing is safe to touch: it stays */
        if (d->visitor.client != NULL)
            client_free(d->visitor.client);
        client_free(d->prober.client);
        for (unsigned i = 0; i < t->servers_n; i++)
            server_free(&t->servers[i]);
        links_free(t);
        town_check_free(t);
        world_free(&t->w);
        mem_free(t);
        mem_free(d);
    }
    return ok;
}
