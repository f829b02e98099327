/* SPDX-License-Identifier: Apache-2.0 */
/* Faults that are more than one line: shapes of cuts, clocks that stand, a disk that dies at
 * some write, machines that are away for long; and strikes, which wait for the moment at which
 * they hurt most. */
#include "base/check.h"
#include "lib/faults.h"
#include "town.h"

enum { FLAP_MAX_US = 3000000, STAND_MAX_US = 7000000, STAND_SHORT_US = 1200000 };
enum { ABSENT_MIN_US = 2000000, ABSENT_MAX_US = 8000000 };
enum { BREAK_NEAR = 8, BREAK_FAR = 150 }; /* changes of a disk */
enum { STRIKE_LATE_US = 60000, STRIKE_GAP_US = 30000 /* or a start is struck for ever */ };

enum strike {
    STRIKE_KILL,
    STRIKE_POWER,
    STRIKE_POWER_ALL,
    STRIKE_FREEZE,
    STRIKE_STAND,
    STRIKE_SHAPE,
    STRIKE_ALONE, /* cut off from all */
    STRIKE_SLOW,
    STRIKE_BREAK,
    STRIKE_SYNC,
    STRIKE_RESET,
    STRIKE_BLIND,
    STRIKES
};

static struct server *any_server(struct town *t)
{
    return &t->servers[world_below(&t->w, t->servers_n)];
}

void town_faults_draw(struct town *t)
{
    struct world *w = &t->w;

    pace_draw(w, &t->pace, t->faults_us);
    t->again_permille = world_chance(w, 500) ? (unsigned)world_below(w, 300) : 0;
    if (!world_chance(w, 400))
        return;
    t->strike_moments = 1u << world_below(w, MOMENTS);
    if (world_chance(w, 300))
        t->strike_moments |= (unsigned)world_below(w, 1u << MOMENTS);
    t->strike_kinds = 1u << world_below(w, STRIKES);
    if (world_chance(w, 600))
        t->strike_kinds |= (unsigned)world_below(w, 1u << STRIKES);
    t->strike_permille = 50 + (unsigned)world_below(w, 800);
}

void town_faults_shape(struct town *t)
{
    unsigned hosts[TOWN_SERVERS_MAX];

    for (unsigned i = 0; i < t->servers_n; i++)
        hosts[i] = t->servers[i].host;
    shape_cut(&t->w, hosts, t->servers_n, (enum shape)world_below(&t->w, SHAPES));
    if (world_chance(&t->w, 300))
        server_break_peers(t, 300);
}

void town_faults_flap(struct town *t)
{
    struct world *w = &t->w;
    unsigned a = any_server(t)->host, b = (unsigned)world_below(w, w->hosts_n);
    uint64_t until_us = w->now_us + world_below(w, FLAP_MAX_US);

    flap_begin(w, a, b, until_us);
    if (world_chance(w, 500))
        flap_begin(w, b, a, until_us);
}

static void stand_host(struct town *t, unsigned host)
{
    struct world *w = &t->w;
    uint64_t us = world_below(w, world_chance(w, 300) ? STAND_MAX_US : STAND_SHORT_US);
    unsigned how = (unsigned)world_below(w, 3);

    world_note(w, "%s: %s for %u ms", w->hosts[host].name,
               how == 0   ? "is paused, its clock with it"
               : how == 1 ? "sleeps"
                          : "its clock stands",
               (unsigned)(us / 1000));
    if (how < 2) /* it answers again the moment that it goes on */
        world_at(w, w->now_us + us, town_agent_wakes, t, host, 0);
    if (how == 0)
        world_pause(w, host, us);
    else if (how == 1)
        world_suspend(w, host, us);
    else
        world_stop_clock(w, host, us);
}

void town_faults_stand(struct town *t)
{
    struct world *w = &t->w;

    stand_host(t, world_chance(w, 700) ? any_server(t)->host
                                       : (unsigned)world_below(w, w->hosts_n));
}

void town_faults_break(struct server *s)
{
    struct world *w = &s->town->w;
    uint64_t n = world_below(w, world_chance(w, 500) ? BREAK_NEAR : BREAK_FAR);
    bool power_loss = world_chance(w, 600);

    if (s->member == NULL)
        return;
    world_note(w, "server %u: %s at change %u of its disk from now", s->n,
               power_loss ? "no power" : "killed", (unsigned)n);
    box_break_at(&s->box, n, power_loss);
}

void town_faults_absent(struct server *s)
{
    struct world *w = &s->town->w;
    uint64_t us = world_between(w, ABSENT_MIN_US, ABSENT_MAX_US);

    if (s->member == NULL)
        return;
    server_crash(s, world_chance(w, 500));
    world_note(w, "server %u: away for %u ms", s->n, (unsigned)(us / 1000));
    if (s->absent_until_us < w->now_us + us)
        s->absent_until_us = w->now_us + us;
    server_restart_later(s, us);
}

void town_faults_power_off_all(struct town *t)
{
    for (unsigned i = 0; i < t->servers_n; i++) {
        server_crash(&t->servers[i], true);
        server_restart_later(&t->servers[i], world_below(&t->w, t->restart_us));
    }
}

static void cut_off(struct town *t, unsigned host)
{
    struct world *w = &t->w;
    bool in = world_chance(w, 700), out = !in || world_chance(w, 600);

    for (unsigned i = 0; i < w->hosts_n; i++)
        if (i != host) {
            w->blocked[i][host] |= in;
            w->blocked[host][i] |= out;
        }
}

/* ---- strikes ---- */

static void strike(struct server *s, enum strike what)
{
    struct town *t = s->town;
    struct world *w = &t->w;

    switch (what) {
    case STRIKE_KILL:
    case STRIKE_POWER:
        server_crash(s, what == STRIKE_POWER);
        server_restart_later(s, world_below(w, t->restart_us));
        break;
    case STRIKE_POWER_ALL: town_faults_power_off_all(t); break;
    case STRIKE_FREEZE: world_freeze(w, s->host, world_below(w, STAND_SHORT_US)); break;
    case STRIKE_STAND: stand_host(t, s->host); break;
    case STRIKE_SHAPE: town_faults_shape(t); break;
    case STRIKE_ALONE: cut_off(t, s->host); break;
    case STRIKE_SLOW: s->box.slow_until_us = w->now_us + world_below(w, 2000000); break;
    case STRIKE_BREAK: town_faults_break(s); break;
    case STRIKE_SYNC: box_fail_sync(&s->box); break;
    case STRIKE_RESET:
        for (struct link *l = t->links; l != NULL; l = l->next)
            if (l->server == s && !l->is_gone && world_chance(w, 500))
                link_break(l, world_chance(w, 500));
        server_break_peers(t, 300);
        break;
    case STRIKE_BLIND: town_faults_blind(t, s->n); break;
    case STRIKES: UNREACHABLE("drawn below STRIKES");
    }
}

static void strike_due(void *ctx, uint64_t what, uint64_t moments)
{
    struct server *s = ctx;

    if (s->town->quiet || s->member == NULL)
        return;
    world_note(&s->town->w, "server %u is struck (%u) at its moment (%x)", s->n, (unsigned)what,
               (unsigned)moments);
    strike(s, (enum strike)what);
}

static void moments_come(struct server *s, unsigned moments)
{
    struct town *t = s->town;
    struct world *w = &t->w;
    unsigned what;

    moments &= t->strike_moments;
    if (moments == 0 || t->quiet || w->now_us < t->strike_from_us ||
        !world_chance(w, t->strike_permille))
        return;
    t->strike_from_us = w->now_us + STRIKE_GAP_US;
    do
        what = (unsigned)world_below(w, STRIKES);
    while ((t->strike_kinds >> what & 1) == 0);
    /* At once (after this event), or while what has begun goes on. */
    uint64_t us = world_chance(w, 300) ? 0 : world_below(w, STRIKE_LATE_US);
    world_at(w, w->now_us + us, strike_due, s, what, moments);
}

void town_faults_look(struct server *s)
{
    if (s->town->strike_permille > 0)
        moments_come(s, moments_look(&s->moments, member_raft(s->member), &s->box));
}

void town_faults_holds(struct server *s)
{
    if (s->town->strike_permille > 0)
        moments_come(s, MOMENT_HOLDS);
}
