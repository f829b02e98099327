/* SPDX-License-Identifier: Apache-2.0 */
#include "faults.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"

enum { FLAP_MIN_US = 5000, FLAP_MAX_US = 250000 };
enum { BURST_MAX = 6, BURST_GAP_US = 15000, QUIET_MIN_US = 700000, QUIET_MAX_US = 4000000 };

/* ---- the network ---- */

static void cut_way(struct world *w, unsigned from, unsigned to)
{
    w->blocked[from][to] = true;
}

static void cut_both(struct world *w, unsigned a, unsigned b)
{
    cut_way(w, a, b);
    cut_way(w, b, a);
}

/* In a circle of any order. */
static void cut_ring(struct world *w, const unsigned *hosts, unsigned n, bool one_way)
{
    unsigned at[WORLD_HOSTS_MAX];

    for (unsigned i = 0; i < n; i++) {
        unsigned k = (unsigned)world_below(w, i + 1);
        at[i] = at[k];
        at[k] = hosts[i];
    }
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++) {
            bool is_next = k == (i + 1) % n, is_before = i == (k + 1) % n;
            if (i != k && !is_next && (one_way || !is_before))
                cut_way(w, at[i], at[k]);
        }
}

static void cut_bridge(struct world *w, unsigned bridge)
{
    uint32_t side = (uint32_t)world_below(w, 1u << w->hosts_n);

    for (unsigned i = 0; i < w->hosts_n; i++)
        for (unsigned k = 0; k < i; k++)
            if (i != bridge && k != bridge && (side >> i & 1) != (side >> k & 1))
                cut_both(w, i, k);
}

void shape_cut(struct world *w, const unsigned *hosts, unsigned n, enum shape shape)
{
    static const char *const names[SHAPES] = {
        [SHAPE_RING] = "a ring",        [SHAPE_CIRCLE] = "a ring of one direction",
        [SHAPE_BRIDGE] = "a bridge",    [SHAPE_LINK] = "two that do not see each other",
        [SHAPE_DEAF] = "a deaf one at", [SHAPE_MUTE] = "a mute one at"};
    CHECK(n > 0 && n <= WORLD_HOSTS_MAX);
    unsigned first = (unsigned)world_below(w, n), one = hosts[first];
    unsigned other = hosts[n > 1 ? (first + 1 + world_below(w, n - 1)) % n : first];

    world_note(w, "the network: %s %s", names[shape], w->hosts[one].name);
    switch (shape) {
    case SHAPE_RING:
    case SHAPE_CIRCLE: cut_ring(w, hosts, n, shape == SHAPE_CIRCLE); break;
    case SHAPE_BRIDGE: cut_bridge(w, one); break;
    case SHAPE_LINK:
        if (other != one)
            cut_both(w, one, other);
        break;
    case SHAPE_DEAF:
    case SHAPE_MUTE:
        for (unsigned i = 0; i < n; i++)
            if (hosts[i] != one)
                cut_way(w, shape == SHAPE_MUTE ? one : hosts[i],
                        shape == SHAPE_MUTE ? hosts[i] : one);
        break;
    case SHAPES: UNREACHABLE("no shape");
    }
}

static void flap_due(void *ctx, uint64_t way, uint64_t until_us)
{
    struct world *w = ctx;
    bool *blocked = &w->blocked[way >> 8][way & 255];

    if (w->calm || w->now_us >= until_us) {
        *blocked = false;
        return;
    }
    *blocked = !*blocked;
    world_at(w, w->now_us + world_between(w, FLAP_MIN_US, FLAP_MAX_US), flap_due, w, way,
             until_us);
}

void flap_begin(struct world *w, unsigned a, unsigned b, uint64_t until_us)
{
    world_note(w, "%s to %s: comes and goes", w->hosts[a].name, w->hosts[b].name);
    flap_due(w, a << 8 | b, until_us);
}

/* ---- when ---- */

void pace_draw(struct world *w, struct pace *p, uint32_t steady_us)
{
    *p = (struct pace){.is_bursts = world_chance(w, 250), .steady_us = steady_us};
}

uint64_t pace_next_us(struct world *w, struct pace *p)
{
    if (!p->is_bursts)
        return world_below(w, p->steady_us);
    if (p->left > 0) {
        p->left--;
        return world_below(w, BURST_GAP_US);
    }
    p->left = (unsigned)world_below(w, BURST_MAX);
    return world_between(w, QUIET_MIN_US, QUIET_MAX_US);
}

void weights_draw(struct world *w, unsigned *weights, unsigned n)
{
    static const unsigned permille[] = {80, 200, 400, 400, 700};
    unsigned kinds = permille[world_below(w, sizeof permille / sizeof *permille)];

    for (unsigned i = 0; i < n; i++)
        weights[i] = world_chance(w, kinds) ? (unsigned)world_below(w, 10) : 0;
}

/* Cheap, and different for what differs in who votes. */
static uint64_t members_mark(const struct raft *r)
{
    const struct raft_members *m = raft_members(r);
    uint64_t mark = m->n;

    for (unsigned i = 0; i < m->n; i++)
        mark = mark * 1000003 + m->v[i].id * 4 + m->v[i].voter * 2 + m->v[i].auto_promote +
               m->v[i].birth;
    return mark;
}

unsigned moments_look(struct moments *m, const struct raft *r, const struct box *b)
{
    uint64_t members = members_mark(r), names = sim_disk_names(b->disk);
    unsigned come = 0;

    if (m->life != b->life) {
        *m = (struct moments){.life = b->life, .members = members, .names = names};
        come |= MOMENT_STARTS;
    }
    if (raft_role(r) == RAFT_LEADER && m->led_term != raft_term(r)) {
        m->led_term = raft_term(r);
        come |= MOMENT_LEADS;
    }
    if (m->members != members)
        come |= MOMENT_MEMBERS;
    if (m->names != names)
        come |= MOMENT_FILES;
    m->members = members;
    m->names = names;
    if (b->busy && !b->has_run && m->saves != b->saves_total + 1) {
        m->saves = b->saves_total + 1; /* each once */
        if (!b->saving)
            come |= MOMENT_SNAPSHOT;
        else if (b->save.snapshot != NULL)
            come |= MOMENT_INSTALL;
        else if (b->save.truncate)
            come |= MOMENT_TRUNCATE;
        else if (b->save.hard)
            come |= MOMENT_VOTE;
    }
    return come;
}
