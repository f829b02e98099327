/* SPDX-License-Identifier: Apache-2.0 */
/* site.c -- the simulation of a whole site: one seed's world, its faults, its end.
 *
 * First faults, drawn from the seed as are their kinds and rates; then none, and everything
 * must come right by itself. See docs/simulation.md.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "disk_world.h"
#include "epoch_world.h"
#include "raft_world.h"
#include "runner.h"
#include "town.h"

enum { FAULTS_US = 10000000, LONG_US = 60000000, QUIET_US = 30000000, SETTLE_US = 1000000 };

enum fault {
    FAULT_KILL,
    FAULT_POWER,
    FAULT_POWER_ALL,
    FAULT_CUT,
    FAULT_CUT_ONE_WAY,
    FAULT_HEAL,
    FAULT_FREEZE,
    FAULT_SLOW_DISK,
    FAULT_DISK,
    FAULT_MEMBERS,
    FAULT_RESET,
    FAULT_CLOCK,
    FAULT_OUTAGE,
    FAULT_BLIND,
    FAULT_LOST_DISK,
    FAULT_RECONFIG,
    FAULT_SHAPE,
    FAULT_FLAP,
    FAULT_STAND,
    FAULT_BREAK,
    FAULT_ABSENT,
    FAULT_WIPE,
    FAULTS_DRAWN, /* the rest are added by the seed's number */
    FAULT_ROT = FAULTS_DRAWN,
    FAULT_OLD_DISK,
    FAULT_SPOIL,
    FAULTS
};

/* ---- faults ---- */

static struct server *any_server(struct town *t)
{
    return &t->servers[world_below(&t->w, t->servers_n)];
}

static void cut(struct town *t, bool both)
{
    struct world *w = &t->w;
    uint32_t side = (uint32_t)world_below(w, 1u << w->hosts_n);

    if (world_chance(w, 300)) /* one machine alone */
        side = 1u << any_server(t)->host;
    world_note(w, "cut %s: %x", both ? "both ways" : "one way", side);
    for (unsigned i = 0; i < w->hosts_n; i++)
        for (unsigned k = 0; k < w->hosts_n; k++)
            if ((side >> i & 1) && !(side >> k & 1)) {
                w->blocked[i][k] = true;
                w->blocked[k][i] |= both;
            }
    if (world_chance(w, 500))
        server_break_peers(t, 300);
}

static void change_members(struct town *t)
{
    struct server *s = any_server(t);
    struct world *w = &t->w;
    char name[8];

    if (s->member == NULL || world_is_frozen(w, s->host))
        return;
    if (t->servers_n < TOWN_SERVERS_MAX && world_chance(w, 400)) {
        struct raft_member m = {.id = t->servers_n + 1, .auto_promote = true};
        snprintf(name, sizeof name, "s%u", t->servers_n);
        snprintf(m.name, sizeof m.name, "%s", name);
        snprintf(m.address, sizeof m.address, "10.0.0.%u:2182", t->servers_n + 1);
        if (member_add(s->member, &m) != 0)
            return;
        world_note(w, "server %u joins", t->servers_n);
        server_add(t, name);
        server_turn(s);
        server_start(&t->servers[t->servers_n - 1]);
        return;
    }
    if (world_chance(w, 700)) {
        world_note(w, "server %u is asked to step down", s->n);
        member_step_down(s->member);
    } else if (member_members(s->member)->n > 3 && !t->loses_disks) {
        uint64_t id = 1 + world_below(w, t->servers_n);
        t->loses_members = true;
        world_note(w, "server %u is to be removed", (unsigned)id - 1);
        (void)member_remove(s->member, id);
    }
    server_turn(s);
}

static void disk_fault(struct server *s)
{
    if (world_chance(&s->town->w, 400)) {
        world_note(&s->town->w, "server %u: its next sync fails", s->n);
        box_fail_sync(&s->box);
    } else {
        bool full = world_chance(&s->town->w, 600);
        world_note(&s->town->w, "server %u: its disk %s", s->n, full ? "is full" : "has room");
        box_fill(&s->box, full);
    }
}

static void reset(struct town *t)
{
    unsigned n = 0;

    server_break_peers(t, (unsigned)world_below(&t->w, 400));
    for (struct link *l = t->links; l != NULL && n < 20; l = l->next, n++)
        if (!l->is_gone && world_chance(&t->w, 200))
            link_break(l, world_chance(&t->w, 500));
}

static void change_clock(struct town *t)
{
    struct world *w = &t->w;
    unsigned host = (unsigned)world_below(w, w->hosts_n);

    if (world_chance(w, 500))
        world_set_drift(w, host, (int32_t)world_below(w, 20001) - 10000);
    else
        w->hosts[host].wall_offset_ms = (int64_t)world_below(w, 4000000000) - 2000000000;
    if (t->agents_n > 0 && world_chance(w, 500))
        town_agent_foreign(t);
    if (world_chance(w, 500))
        town_client_intrude(t);
    if (world_chance(w, 300))
        town_client_kill(t, (unsigned)world_below(w, t->clients_n));
}

static void freeze(struct town *t)
{
    struct world *w = &t->w;
    unsigned host =
        world_chance(w, 700) ? any_server(t)->host : (unsigned)world_below(w, w->hosts_n);
    uint64_t us = world_below(w, world_chance(w, 300) ? 4000000 : 1500000);

    world_note(w, "%s freezes for %u ms", w->hosts[host].name, (unsigned)(us / 1000));
    world_freeze(w, host, us);
}

/* No leader can be elected for a while, though the machines reach each other. */
static void outage(struct town *t)
{
    struct world *w = &t->w;
    uint64_t until_us = w->now_us + world_between(w, 1000000, 5000000);
    struct server *leader = server_leader(t);

    world_note(w, "all disks are slow for %u ms", (unsigned)((until_us - w->now_us) / 1000));
    for (unsigned i = 0; i < t->servers_n; i++)
        t->servers[i].box.slow_until_us = until_us;
    if (leader == NULL)
        return;
    if (world_chance(w, 500)) {
        server_crash(leader, false);
        server_restart_later(leader, world_below(w, t->restart_us));
    } else {
        world_freeze(w, leader->host, world_between(w, 600000, 2000000));
    }
}

static void sighted(void *ctx, uint64_t host, uint64_t b)
{
    (void)b;
    ((struct town *)ctx)->is_blind[host] = false;
}

void town_faults_blind(struct town *t, unsigned n)
{
    struct world *w = &t->w;
    unsigned host = t->servers[n].host;
    uint64_t least_us = (uint64_t)t->lease_ms * 1000;

    if (t->is_blind[host])
        return;
    world_note(w, "s%u is blind", n);
    t->is_blind[host] = true;
    world_at(w, w->now_us + world_between(w, least_us, 4 * least_us), sighted, t, host, 0);
}

/* Most machines do not reach the tree for a while, but each other: the time of failsafe.h. */
static void blind(struct town *t)
{
    unsigned spared = world_chance(&t->w, 500) ? any_server(t)->n : t->servers_n;

    for (unsigned i = 0; i < t->servers_n; i++)
        if (i != spared)
            town_faults_blind(t, i);
}

static void one_fault(struct town *t, enum fault which)
{
    struct world *w = &t->w;
    struct server *s = any_server(t);

    switch (which) {
    case FAULT_KILL:
    case FAULT_POWER:
        server_crash(s, which == FAULT_POWER);
        server_restart_later(s, world_below(w, t->restart_us));
        break;
    case FAULT_POWER_ALL: town_faults_power_off_all(t); break;
    case FAULT_CUT: cut(t, true); break;
    case FAULT_CUT_ONE_WAY: cut(t, false); break;
    case FAULT_HEAL:
        world_note(w, "the network is whole");
        memset(w->blocked, 0, sizeof w->blocked);
        break;
    case FAULT_FREEZE: freeze(t); break;
    case FAULT_SLOW_DISK:
        s->box.slow_until_us = w->now_us + world_below(w, 2000000);
        if (world_option(w, OPTION_STUCK) % 3 ==
            1) /* it does not answer at all, and for longer */
            s->box.stuck_until_us = w->now_us + 3 * (s->box.slow_until_us - w->now_us);
        break;
    case FAULT_DISK: disk_fault(s); break;
    case FAULT_MEMBERS: change_members(t); break;
    case FAULT_RESET: reset(t); break;
    case FAULT_CLOCK: change_clock(t); break;
    case FAULT_OUTAGE: outage(t); break;
    case FAULT_BLIND: blind(t); break;
    case FAULT_LOST_DISK: server_lose_disk(s); break;
    case FAULT_RECONFIG: town_operator_reconfig(t); break;
    case FAULT_SHAPE: town_faults_shape(t); break;
    case FAULT_FLAP: town_faults_flap(t); break;
    case FAULT_STAND: town_faults_stand(t); break;
    case FAULT_BREAK: town_faults_break(s); break;
    case FAULT_ABSENT: town_faults_absent(s); break;
    case FAULT_WIPE: server_wipe(s); break;
    case FAULT_ROT: server_rot(s); break;
    case FAULT_SPOIL: server_spoil(s); break;
    case FAULT_OLD_DISK: server_put_back(s); break;
    case FAULTS: UNREACHABLE("drawn below FAULTS");
    }
}

static void fault_due(void *ctx, uint64_t a, uint64_t b)
{
    struct town *t = ctx;
    unsigned total = 0, which = 0;

    (void)a, (void)b;
    if (t->quiet)
        return;
    for (unsigned i = 0; i < FAULTS; i++)
        total += t->weights[i];
    uint64_t pick = world_below(&t->w, total);
    while (pick >= t->weights[which])
        pick -= t->weights[which++];
    one_fault(t, (enum fault)which);
    world_at(&t->w, t->w.now_us + pace_next_us(&t->w, &t->pace), fault_due, t, 0, 0);
}

/* ---- the end ---- */

/* As many requests as are let into work at a time are done with each save. With few of them and
 * slow disks more wait than any client has patience for, whatever the servers do. */
static void end_slow_disks(struct town *t)
{
    if (t->throttle_max == 0 || t->save_max_us <= t->save_min_us + 10000)
        return;
    t->save_max_us = t->save_min_us + 10000;
    for (unsigned i = 0; i < t->servers_n; i++)
        t->servers[i].box.max_us = t->save_max_us;
}

static void end_faults(struct town *t)
{
    struct world *w = &t->w;
    uint64_t thawed_us = w->now_us;

    world_note(w, "the faults end");
    t->quiet = w->calm = true;
    town_agent_quiet(t);
    memset(w->blocked, 0, sizeof w->blocked);
    memset(t->is_blind, 0, sizeof t->is_blind);
    w->net.lose_permille = w->net.slow_permille = 0;
    if (w->net.delay_max_us > 10000)
        w->net.delay_max_us = w->net.delay_min_us + 10000;
    end_slow_disks(t);
    for (unsigned i = 0; i < t->servers_n; i++) {
        box_heal(&t->servers[i].box);
        if (t->servers[i].member == NULL && t->servers[i].exists)
            server_start(&t->servers[i]);
    }
    for (unsigned i = 0; i < w->hosts_n; i++) {
        if (w->hosts[i].frozen_until_us > thawed_us)
            thawed_us = w->hosts[i].frozen_until_us;
        if (w->hosts[i].stood_until_us > thawed_us)
            thawed_us = w->hosts[i].stood_until_us;
    }
    world_run_until(w, thawed_us);
}

static const char *servers_not_live(struct town *t)
{
    struct server *leader = server_leader(t);
    struct tree_facts f;

    if (leader == NULL || !raft_is_ready(member_raft(leader->member)))
        return "there is no leader";
    const struct raft_members *m = raft_members(member_raft(leader->member));
    for (unsigned i = 0; i < m->n; i++) {
        const struct server *s = &t->servers[m->v[i].id - 1];
        if (s->member == NULL)
            return "a server is down";
        if (!member_is_serving(s->member))
            return "a server does not serve";
        if (t->is_tainted ? tree_digest(member_tree(s->member)) !=
                                    tree_digest(member_tree(leader->member)) &&
                                raft_applied(member_raft(s->member)) ==
                                    raft_applied(member_raft(leader->member))
                          : s->is_spoiled)
            return "a server has another tree than the others";
        if (!m->v[i].voter && m->v[i].auto_promote)
            return "a server that has joined does not vote";
        if (raft_applied(member_raft(s->member)) != raft_applied(member_raft(leader->member)))
            return "the servers have not applied the same entries";
    }
    for (unsigned i = 0; i < t->servers_n; i++)
        if (raft_member_find(m, i + 1) == NULL && t->servers[i].member != NULL &&
            member_is_serving(t->servers[i].member))
            return "a server that was removed serves";
    tree_facts(member_tree(leader->member), &f);
    const char *wrong = town_operator_not_live(t);
    if (wrong != NULL)
        return wrong;
    wrong = town_agent_not_live(t);
    if (wrong != NULL)
        return wrong;
    if (f.sessions != t->clients_n + t->agents_n + t->walkers_n)
        return "sessions are left over, or missing";
    return town_walkers_not_lapsed(t);
}

/* What one looks for first when nobody leads. */
static void show_server(struct town *t, const struct server *s)
{
    if (s->member == NULL) {
        world_note(&t->w, "server %u is off", s->n);
        return;
    }
    const struct raft *r = member_raft(s->member);
    const struct raft_members *m = raft_members(r);
    char text[256];
    size_t at = 0;
    for (unsigned i = 0; i < m->n && at + 8 < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, " %u%s", (unsigned)m->v[i].id - 1,
                               m->v[i].voter          ? ""
                               : m->v[i].auto_promote ? "+"
                                                      : "o");
    world_note(&t->w, "server %u: role %d, term %llu, log %llu, committed %llu%s; members%s",
               s->n, (int)raft_role(r), (unsigned long long)raft_term(r),
               (unsigned long long)raft_last_index(r), (unsigned long long)raft_committed(r),
               raft_is_stranger(r) ? ", lost its disk" : "", text);
}

static void wait_for(struct town *t, const char *(*wrong)(struct town *t))
{
    uint64_t end_us = t->w.now_us + QUIET_US;
    const char *what = "not looked";

    while (what != NULL && t->w.now_us < end_us) {
        world_run_until(&t->w, t->w.now_us + 100000);
        what = wrong(t);
    }
    if (what == NULL)
        return;
    for (unsigned i = 0; i < t->servers_n; i++)
        show_server(t, &t->servers[i]);
    world_fail(&t->w, "liveness: %s", what);
}

static void run_all(struct town *t)
{
    struct world *w = &t->w;

    world_run_until(w, w->now_us + t->length_us);
    end_faults(t);
    wait_for(t, town_client_not_live);
    world_run_until(w, w->now_us + SETTLE_US); /* they all go on for a while */
    town_client_quiet(t);
    wait_for(t, town_client_not_live);
    wait_for(t, servers_not_live);
    wait_for(t, town_client_not_live); /* whose server may have been removed */
    town_client_end(t);
    town_walkers_end(t);
    town_check_end(t);
}

/* ---- the beginning ---- */

static void draw_options(struct town *t)
{
    const struct world *w = &t->w;
    uint64_t read_only = world_option(w, OPTION_READ_ONLY), rot = world_option(w, OPTION_ROT),
             spoil = world_option(w, OPTION_SPOIL), old_disk = world_option(w, OPTION_OLD_DISK),
             throttle = world_option(w, OPTION_THROTTLE);

    if (read_only % 3 == 0)
        t->read_only_after_ms = 300 + (uint32_t)(read_only % 1000);
    if (rot % 4 == 1)
        t->weights[FAULT_ROT] = 1 + (unsigned)(rot / 4 % 6);
    if (spoil % 4 == 3)
        t->weights[FAULT_SPOIL] = 1 + (unsigned)(spoil / 4 % 6);
    if (old_disk % 8 == 1)
        t->weights[FAULT_OLD_DISK] = 1 + (unsigned)(old_disk / 8 % 12);
    if (throttle % 5 == 2)
        t->throttle_max = 1 + (uint32_t)(throttle % 4);
}

static void draw(struct town *t)
{
    struct world *w = &t->w;

    w->net.delay_min_us = 100;
    w->net.delay_max_us = 300 + (uint32_t)world_below(w, world_chance(w, 200) ? 60000 : 5000);
    w->net.slow_permille = world_chance(w, 500) ? (uint32_t)world_below(w, 30) : 0;
    if (world_chance(w, 150))
        w->net.slow_permille = 100 + (uint32_t)world_below(w, 200);
    w->net.slow_max_us = w->net.delay_max_us + 50000 + (uint32_t)world_below(w, 500000);
    w->net.lose_permille = world_chance(w, 500) ? (uint32_t)world_below(w, 60) : 0;
    weights_draw(w, t->weights, FAULTS_DRAWN);
    t->weights[FAULT_HEAL] += 3;
    t->faults_us = 100000 + (uint32_t)world_below(w, world_chance(w, 500) ? 1500000 : 400000);
    t->restart_us = world_chance(w, 500) ? 2000000 : 1000 + (uint32_t)world_below(w, 300000);
    t->save_min_us = (uint32_t)world_below(w, world_chance(w, 200) ? 10000 : 500);
    t->save_max_us =
        t->save_min_us + (uint32_t)world_below(w, world_chance(w, 200) ? 80000 : 4000);
    t->snapshot_every = 20 + world_below(w, 400);
    t->keep = world_below(w, 100);
    t->addresses_n = world_chance(w, 600) ? 1 + (unsigned)world_below(w, 4) : 0;
    t->lease_ms = 800 + (uint32_t)world_below(w, 2000);
    if (t->addresses_n > 0 && world_chance(w, 300)) {
        memset(t->weights, 0, sizeof t->weights);
        t->weights[FAULT_BLIND] = 6;
        t->weights[FAULT_HEAL] = 3;
        t->weights[FAULT_CUT] = (unsigned)world_below(w, 4);
        t->weights[FAULT_CUT_ONE_WAY] = (unsigned)world_below(w, 4);
        t->faults_us = 2000000;
    } else if (t->addresses_n > 0 && world_chance(w, 150)) { /* who holds one stands */
        memset(t->weights, 0, sizeof t->weights);
        t->weights[FAULT_STAND] = 6;
        t->weights[FAULT_HEAL] = 2;
        t->weights[FAULT_KILL] = (unsigned)world_below(w, 3);
        t->faults_us = 4000000;
    } else if (world_chance(w, 100)) { /* one kind, now and then: nothing hides what it does */
        memset(t->weights, 0, sizeof t->weights);
        t->weights[world_below(w, FAULT_ROT)] = 6;
        t->weights[FAULT_HEAL] += 3;
        t->faults_us = 4000000;
    }
    draw_options(t);
    t->has_balance = world_chance(w, 500);
    t->probe_us = 2000 + (uint32_t)world_below(w, world_chance(w, 500) ? 10000 : 500000);
    t->length_us = FAULTS_US;
    if (world_chance(w, 15)) { /* long, with time between the faults */
        t->length_us = LONG_US;
        t->faults_us = 12000000;
    }
    town_faults_draw(t);
    t->remove_us = 2000 + (uint32_t)world_below(w, world_chance(w, 500) ? 400000 : 20000);
}

static void found(struct town *t)
{
    static const unsigned counts[] = {3, 3, 3, 3, 5, 5, 1, 2, 4};
    struct raft_members members = {.n = counts[world_below(&t->w, 9)]};
    unsigned clients = 2 + (unsigned)world_below(&t->w, 3);
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
    for (unsigned i = 0; i < members.n && t->addresses_n > 0; i++)
        town_agent_add(t, &t->servers[i]);
    for (unsigned i = 0; i < members.n; i++)
        server_start(&t->servers[i]);
    for (unsigned i = 0; i < clients; i++)
        town_client_add(t);
    if (world_option(&t->w, OPTION_WALKERS) % 2 == 0)
        town_walkers_add(t);
    if (t->read_only_after_ms > 0)
        town_visitor_add(t);
    world_at(&t->w, t->w.now_us + 500000, fault_due, t, 0, 0);
}

static void free_all(struct town *t)
{
    town_agent_free(t);
    town_client_free(t);
    town_walkers_free(t);
    town_visitor_free(t);
    town_operator_free(t);
    for (unsigned i = 0; i < t->servers_n; i++)
        server_free(&t->servers[i]);
    links_free(t);
    town_check_free(t);
    world_free(&t->w);
    mem_free(t);
}

static bool site_seed(uint64_t seed, bool verbose, char *failure, size_t room)
{
    struct town *t = mem_new(struct town);

    world_init(&t->w, seed, verbose);
    runner_guard(&t->w);
    if (setjmp(t->w.stop) == 0) {
        town_check_new(t);
        draw(t);
        found(t);
        run_all(t);
    }
    runner_guard(NULL);
    bool ok = t->w.failure[0] == 0;
    snprintf(failure, room, "%s", t->w.failure);
    world_note(&t->w, "%u leaders, %u entries, %u connections, %u events",
               raft_watch_leaders(t->watch), (unsigned)raft_watch_committed(t->watch),
               (unsigned)t->connections_total, (unsigned)t->w.events_total);
    if (ok) /* after a failure nothing is safe to touch: it stays */
        free_all(t);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct runner_world worlds[] = {
        {"site", "", site_seed},      {"raft", "raft_ store_", raft_seed},
        {"disk", "disk_", disk_seed}, {"epoch", "epoch_", epoch_seed},
        {NULL, NULL, NULL},
    };

    return runner_main(argc, argv, worlds);
}
