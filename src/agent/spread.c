/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spread.h"

#include <string.h>

#include "base/check.h"
#include "base/mutant.h"

static bool can_take(const struct spread_view *v, unsigned machine, unsigned address)
{
    return (v->can[machine] >> address & 1) != 0;
}

/* The shares: an even one each, and one more for those that hold most now (so that fewest
 * addresses move), then by name. */
static void shares(const struct spread_view *v, const unsigned *held, unsigned *share)
{
    unsigned fit = 0, extra;
    bool has_extra[SPREAD_MACHINES_MAX] = {false};

    for (unsigned m = 0; m < v->machines; m++)
        fit += v->can[m] != 0;
    for (unsigned m = 0; m < v->machines; m++)
        share[m] = fit == 0 ? v->addresses : v->can[m] != 0 ? v->addresses / fit : 0;
    for (extra = fit == 0 ? 0 : v->addresses % fit; extra > 0; extra--) {
        unsigned most = v->machines;
        for (unsigned m = 0; m < v->machines; m++)
            if (v->can[m] != 0 && !has_extra[m] &&
                (most == v->machines || held[m] > held[most]))
                most = m;
        if (most == v->machines)
            break; /* cannot be: there are fewer extras than fit machines */
        has_extra[most] = true;
        share[most]++;
    }
}

/* The machine with the fewest that can take address i and has room; or without those
 * conditions, one after the other. */
static int fewest(const struct spread_view *v, unsigned i, const unsigned *count,
                  const unsigned *share)
{
    for (int pass = 0; pass < 3; pass++) {
        int best = SPREAD_NOBODY;
        for (unsigned m = 0; m < v->machines; m++) {
            bool is_allowed =
                pass == 2 || (can_take(v, m, i) && (pass == 1 || count[m] < share[m]));
            if (is_allowed && (best < 0 || count[m] < count[best]))
                best = (int)m;
        }
        if (best >= 0)
            return best;
    }
    return SPREAD_NOBODY;
}

void spread_assign(const struct spread_view *v, int target[SPREAD_ADDRESSES_MAX])
{
    unsigned held[SPREAD_MACHINES_MAX] = {0}, count[SPREAD_MACHINES_MAX] = {0};
    unsigned share[SPREAD_MACHINES_MAX] = {0};

    CHECK(v->machines <= SPREAD_MACHINES_MAX && v->addresses <= SPREAD_ADDRESSES_MAX);
    for (unsigned i = 0; i < v->addresses; i++)
        if (v->holder[i] >= 0 && can_take(v, (unsigned)v->holder[i], i))
            held[v->holder[i]]++;
    shares(v, held, share);
    for (unsigned i = 0; i < v->addresses; i++) {
        int h = v->holder[i];
        target[i] = SPREAD_NOBODY;
        if (h >= 0 && can_take(v, (unsigned)h, i) && count[h] < share[h]) {
            target[i] = h;
            count[h]++;
        }
    }
    for (unsigned i = 0; i < v->addresses; i++) {
        if (target[i] != SPREAD_NOBODY)
            continue;
        int h = v->holder[i], to = fewest(v, i, count, share);
        /* Moving it to where nobody can take it better is no use. */
        if (h >= 0 && to >= 0 && !can_take(v, (unsigned)to, i))
            to = h;
        target[i] = to;
        if (to >= 0)
            count[to]++;
    }
}

static bool views_equal(const struct spread_view *a, const struct spread_view *b)
{
    return a->machines == b->machines && a->addresses == b->addresses &&
           memcmp(a->name_hash, b->name_hash, a->machines * sizeof a->name_hash[0]) == 0 &&
           memcmp(a->can, b->can, a->machines * sizeof a->can[0]) == 0 &&
           memcmp(a->holder, b->holder, a->addresses * sizeof a->holder[0]) == 0;
}

static uint64_t here_since(const struct spread *s, uint64_t name_hash)
{
    for (unsigned i = 0; i < s->here_n; i++)
        if (s->here[i].name_hash == name_hash)
            return s->here[i].since_ms;
    return 0;
}

static void remember(struct spread *s, const struct spread_view *v, uint64_t now_ms)
{
    struct spread next = *s;

    if (s->has_last && views_equal(&s->last, v))
        return;
    for (unsigned m = 0; m < v->machines; m++) {
        uint64_t since = here_since(s, v->name_hash[m]);
        next.here[m].name_hash = v->name_hash[m];
        next.here[m].since_ms = since > 0 ? since : now_ms;
    }
    next.here_n = v->machines;
    for (unsigned i = 0; i < v->addresses; i++) {
        if (v->holder[i] != SPREAD_NOBODY)
            next.unheld_since_ms[i] = 0;
        else if (s->unheld_since_ms[i] == 0)
            next.unheld_since_ms[i] = now_ms;
    }
    next.last = *v;
    next.has_last = true;
    next.changed_ms = now_ms;
    *s = next;
}

static bool is_due(struct spread *s, uint64_t at_ms, uint64_t now_ms)
{
    if (now_ms >= at_ms)
        return true;
    if (at_ms < s->due_ms)
        s->due_ms = at_ms;
    return false;
}

/* The one address of the site that should move next, if it is this machine's to move. */
static void hand_over(struct spread *s, const struct spread_view *v, const int *target,
                      uint64_t now_ms, uint32_t lease_ms, enum address_wish *wish)
{
    unsigned i = 0;

    for (unsigned k = 0; k < v->addresses; k++)
        if (v->holder[k] < 0)
            return; /* something moves already, or waits for a machine */
    while (i < v->addresses && target[i] == v->holder[i])
        i++;
    if (i == v->addresses || v->holder[i] != (int)v->me)
        return;
    uint64_t ready_ms = here_since(s, v->name_hash[target[i]]) + lease_ms;
    if (s->changed_ms + lease_ms > ready_ms)
        ready_ms = s->changed_ms + lease_ms;
    if (is_due(s, ready_ms, now_ms))
        wish[i] = ADDRESS_AWAY;
}

void spread_step(struct spread *s, const struct spread_view *v, uint64_t now_ms,
                 uint32_t lease_ms, enum address_wish wish[SPREAD_ADDRESSES_MAX])
{
    int target[SPREAD_ADDRESSES_MAX];
    uint64_t patience_ms = lease_ms / 8 + (uint64_t)v->me * (lease_ms / 16);

    CHECK(v->me < v->machines);
    s->due_ms = SPREAD_NEVER;
    remember(s, v, now_ms);
    spread_assign(v, target);
    for (unsigned i = 0; i < v->addresses; i++) {
        bool is_mine = target[i] == (int)v->me;
        wish[i] = ADDRESS_STAY;
        if (is_mine || MUTANT(assign_own_view))
            wish[i] = ADDRESS_TAKE;
        else if (v->holder[i] == (int)v->me && !can_take(v, v->me, i))
            wish[i] = ADDRESS_AWAY; /* another can: do not wait for the others' turn */
        else if (v->holder[i] == SPREAD_NOBODY && can_take(v, v->me, i) &&
                 is_due(s, s->unheld_since_ms[i] + patience_ms, now_ms))
            wish[i] = ADDRESS_TAKE;
    }
    hand_over(s, v, target, now_ms, lease_ms, wish);
}
