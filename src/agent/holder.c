/* SPDX-License-Identifier: Apache-2.0 */
/* holder.c -- this machine's part in every virtual address: gathers the facts for address.c,
 * asks the tree and the other machines for it, and passes on what it decides.
 */
#include <stdio.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/text.h"
#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"

#define FLAG_EPHEMERAL 1
#define CLAIM_BYTES_MAX 160

static struct slot *find(const struct agent *a, const char *address)
{
    for (unsigned i = 0; i < a->slots_n; i++)
        if (strcmp(a->slots[i]->site.address, address) == 0)
            return a->slots[i];
    return NULL;
}

const struct slot *holder_find(const struct agent *a, const char *address)
{
    return find(a, address);
}

/* ---- which addresses there are ---- */

static void slot_add(struct agent *a, const struct site_address *address)
{
    if (a->slots_n == AGENT_SLOTS_MAX)
        return; /* as many are still being given up: it comes with a later step */
    struct slot *s = mem_new(struct slot);
    s->site = *address;
    s->is_wanted = true;
    address_init(&s->core, ++a->generations << 32);
    a->slots[a->slots_n++] = s;
}

static bool is_same(const struct site_address *a, const struct site_address *b)
{
    return a->prefix == b->prefix && strcmp(a->dev, b->dev) == 0;
}

/* An address that moves to another interface is given up here first, like one that is gone. */
static void slots_match_site(struct agent *a)
{
    const struct site *site = a->view.site;

    for (unsigned i = 0; i < a->slots_n; i++) {
        struct slot *s = a->slots[i];
        const struct site_address *want = site_address_find(site, s->site.address);
        bool is_at_rest = s->core.state == ADDRESS_IDLE && !s->core.is_unsure;
        if (want != NULL && is_at_rest)
            s->site = *want;
        s->is_wanted = want != NULL && is_same(want, &s->site);
        if (want == NULL && is_at_rest) {
            mem_free(s);
            a->slots[i--] = a->slots[--a->slots_n];
        }
    }
    for (unsigned i = 0; site != NULL && i < site->addresses_n; i++)
        if (find(a, site->addresses[i].address) == NULL)
            slot_add(a, &site->addresses[i]);
}

void holder_set_site(struct agent *a)
{
    a->spread = (struct spread){.has_last = false};
    slots_match_site(a);
}

void holder_free(struct agent *a)
{
    for (unsigned i = 0; i < a->slots_n; i++)
        mem_free(a->slots[i]);
    a->slots_n = 0;
    mem_free(a->events);
    while (a->requests != NULL) {
        struct claim_request *r = a->requests;
        a->requests = r->next;
        mem_free(r);
    }
}

bool holder_is_idle(const struct agent *a)
{
    for (unsigned i = 0; i < a->slots_n; i++)
        if (a->slots[i]->core.state != ADDRESS_IDLE)
            return false;
    return true;
}

/* ---- requests to the tree ---- */

static void claim_path(struct buf *out, const char *address)
{
    buf_printf(out, "%s/%s", ADDRESS_ROOT, address);
}

void holder_event(struct agent *a, const char *address, const struct address_event *ev)
{
    mem_grow(a->events, a->events_cap, a->events_n + 1);
    struct slot_event *e = &a->events[a->events_n++];
    *e = (struct slot_event){.ev = *ev};
    text_copy(e->address, sizeof e->address, address);
    text_copy(e->text, sizeof e->text, ev->text != NULL ? ev->text : "");
}

static void claim_synced(void *ctx, const struct client_reply *reply)
{
    struct claim_request *r = ctx;

    r->sync_err = reply->err;
}

static void claim_done(void *ctx, const struct client_reply *reply)
{
    struct claim_request *r = ctx;
    struct agent *a = r->agent;
    struct address_event ev = {
        .type = r->type,
        .op = r->op,
        .session = r->session,
        .err = r->sync_err != 0 ? r->sync_err : reply->err,
        .owner = reply->err == 0 ? reply->stat.ephemeral_owner : 0,
    };

    holder_event(a, r->address, &ev);
    struct claim_request **at = &a->requests;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    mem_free(r);
    agent_due(a, a->now_ms);
}

static struct claim_request *claim_request(struct agent *a, const struct slot *s,
                                           enum address_event_type type, uint64_t op)
{
    struct claim_request *r = mem_new(struct claim_request);

    *r = (struct claim_request){.agent = a,
                                .next = a->requests,
                                .type = type,
                                .op = op,
                                .session = client_session(a->client)};
    memcpy(r->address, s->site.address, sizeof r->address);
    a->requests = r;
    return r;
}

static void ask_tree(struct agent *a, const struct slot *s, const struct address_action *act)
{
    struct buf path = {0}, data = {0};
    struct client *c = a->client;

    claim_path(&path, s->site.address);
    if (act->type == ADDRESS_ACT_CREATE) {
        buf_printf(&data, "{\"machine\":\"%s\",\"since\":%lld}", a->self.name,
                   (long long)a->wall_ms);
        client_create(c, a->now_ms, buf_text(&path), data.data, data.len, FLAG_EPHEMERAL,
                      claim_done, claim_request(a, s, ADDRESS_EV_CREATED, act->op));
    } else if (act->type == ADDRESS_ACT_DELETE) {
        client_delete(c, a->now_ms, buf_text(&path), -1, claim_done,
                      claim_request(a, s, ADDRESS_EV_DELETED, act->op));
    } else {
        /* A read alone is answered by a server that may be behind. */
        struct claim_request *r = claim_request(a, s, ADDRESS_EV_READ, act->op);
        client_sync(c, a->now_ms, buf_text(&path), claim_synced, r);
        client_get(c, a->now_ms, buf_text(&path), false, claim_done, r);
    }
    buf_free(&path);
    buf_free(&data);
}

/* ---- the facts ---- */

static int64_t seen_owner(const struct agent *a, const char *address)
{
    struct mirror_node n;
    struct buf path = {0};

    if (!a->view.is_fresh)
        return ADDRESS_OWNER_UNKNOWN;
    claim_path(&path, address);
    /* A persistent znode in this place (somebody's mistake) is no session's: it keeps
     * everybody out, and status names it. */
    int64_t owner = !mirror_get(a->mirror, buf_text(&path), &n) ? 0
                    : n.stat.ephemeral_owner != 0               ? n.stat.ephemeral_owner
                                                                : INT64_MIN;
    buf_free(&path);
    return owner;
}

static uint64_t can_take(const struct agent *a, const struct seen_machine *m)
{
    const struct site *site = a->view.site;
    uint64_t can = 0;

    if (m->health == NULL)
        return UINT64_MAX; /* it lives, and has not complained yet */
    if (!m->health->is_fit)
        return 0;
    for (unsigned i = 0; i < site->addresses_n; i++) {
        bool is_avoided = false;
        for (unsigned k = 0; k < m->health->addresses_n; k++)
            is_avoided = is_avoided || (m->health->addresses[k].is_avoided &&
                                        strcmp(m->health->addresses[k].address,
                                               site->addresses[i].address) == 0);
        can |= (uint64_t)!is_avoided << i;
    }
    return can;
}

/* This machine knows about itself what it has not written yet. */
static uint64_t can_take_myself(const struct agent *a)
{
    const struct site *site = a->view.site;
    char why[MACHINE_REASON_MAX];
    uint64_t can = 0;

    if (!agent_is_fit(a, why))
        return 0;
    for (unsigned i = 0; i < site->addresses_n; i++) {
        const struct slot *s = find(a, site->addresses[i].address);
        if (s == NULL || a->now_ms >= s->core.avoid_until_ms)
            can |= UINT64_C(1) << i;
    }
    return can;
}

static void spread_view_fill(const struct agent *a, struct spread_view *v)
{
    const struct view *seen = &a->view;
    int64_t sessions[SPREAD_MACHINES_MAX] = {0};

    *v = (struct spread_view){.addresses = seen->site->addresses_n};
    for (unsigned i = 0; i < seen->machines_n; i++) {
        const struct seen_machine *m = &seen->machines[i];
        bool is_me = i == seen->me;
        /* Room is always left for this one. */
        unsigned room = is_me ? SPREAD_MACHINES_MAX : SPREAD_MACHINES_MAX - 1;
        if ((!m->is_alive && !is_me) || v->machines >= room)
            continue;
        if (is_me)
            v->me = v->machines;
        sessions[v->machines] = is_me ? client_session(a->client) : m->session;
        v->name_hash[v->machines] = hash_bytes(0, m->id.name, strlen(m->id.name));
        v->can[v->machines] = is_me ? can_take_myself(a) : can_take(a, m);
        v->machines++;
    }
    for (unsigned i = 0; i < v->addresses; i++) {
        int64_t owner = seen_owner(a, seen->site->addresses[i].address);
        v->holder[i] = owner == 0 ? SPREAD_NOBODY : SPREAD_SOMEBODY;
        for (unsigned m = 0; m < v->machines && owner != 0; m++)
            if (sessions[m] == owner)
                v->holder[i] = (int)m;
    }
}

/* An agent that was just started may have promised before, and does not know. While a known
 * machine is not alive, that one may still hold something by that promise. */
static bool may_have_promised(const struct agent *a)
{
    uint32_t lease_ms = agent_lease_ms(a);

    if (a->options.is_foreign || a->now_ms >= a->start_ms + lease_ms + ADDRESS_DRIFT(lease_ms))
        return false;
    if (!mirror_is_complete(a->mirror)) /* its end may be what is being read */
        return true;
    for (unsigned i = 0; i < a->view.machines_n; i++)
        if (i != a->view.me && !a->view.machines[i].is_alive)
            return true;
    return false;
}

static void wishes(struct agent *a, enum address_wish wish[SITE_ADDRESSES_MAX])
{
    uint32_t lease_ms = agent_lease_ms(a);
    struct spread_view v;
    bool must_wait = may_have_promised(a);

    for (unsigned i = 0; i < SITE_ADDRESSES_MAX; i++)
        wish[i] = a->is_leaving ? ADDRESS_AWAY : ADDRESS_STAY;
    if (a->is_leaving || a->view.site == NULL || !a->view.is_fresh || a->now_ms == 0)
        return;
    spread_view_fill(a, &v);
    spread_step(&a->spread, &v, a->now_ms, lease_ms, wish);
    agent_due(a, a->spread.due_ms);
    if (must_wait)
        agent_due(a, a->start_ms + lease_ms + ADDRESS_DRIFT(lease_ms));
    for (unsigned i = 0; i < v.addresses && must_wait; i++)
        if (wish[i] == ADDRESS_TAKE)
            wish[i] = ADDRESS_STAY;
}

static void facts(const struct agent *a, const struct slot *s, enum address_wish wish,
                  struct address_facts *f)
{
    uint32_t lease_ms = agent_lease_ms(a), guard_ms = a->options.guard_ms;
    uint32_t margin_ms = address_margin_ms(lease_ms, guard_ms);
    uint32_t coming_ms = a->view.site != NULL ? a->view.site->lease_ms : lease_ms;

    *f = (struct address_facts){
        .now_ms = a->now_ms,
        .lease_ms = lease_ms,
        .guard_ms = guard_ms,
        .session = client_session(a->client),
        .alive_until_ms = client_alive_until(a->client),
        .is_connected = client_state(a->client) == CLIENT_CONNECTED,
        .wish = wish,
        .seen_owner = seen_owner(a, s->site.address),
        .promised_until_ms = failsafe_promised_until(&a->failsafe, s->site.address),
        .over_ms = a->over_ms,
        .kept_until_ms = failsafe_kept_until(&a->failsafe, s->site.address, margin_ms),
    };
    if (MUTANT(address_lease_on_wall) && f->alive_until_ms != 0)
        f->alive_until_ms -=
            (uint64_t)(a->wall_ms - a->start_wall_ms) - (a->now_ms - a->start_ms);
    /* Until a server has answered to the shorter timeout, the longer one's end is believed by
     * us alone. */
    if (coming_ms < lease_ms && (coming_ms != a->timeout_asked_ms || a->timeout_is_pending))
        f->cap_ms = coming_ms - address_margin_ms(coming_ms, guard_ms);
}

static enum address_wish wish_of(const struct agent *a, const struct slot *s,
                                 const enum address_wish wish[SITE_ADDRESSES_MAX])
{
    const struct site_address *in_site = site_address_find(a->view.site, s->site.address);

    if (!s->is_wanted || in_site == NULL)
        return ADDRESS_AWAY;
    return wish[in_site - a->view.site->addresses];
}

/* ---- steps ---- */

static void tell_host(struct agent *a, const struct slot *s, enum agent_action_type type,
                      const struct address_action *act)
{
    struct queued *q = agent_push(a, type);

    q->act.op = act->op;
    q->act.until_ms = act->until_ms;
    q->act.prefix = s->site.prefix;
    memcpy(q->address, s->site.address, sizeof q->address);
    q->act.address = q->address;
    if (s->site.dev[0] != 0) {
        memcpy(q->dev, s->site.dev, sizeof q->dev);
        q->act.dev = q->dev;
    }
}

static void carry_out(struct agent *a, const struct slot *s, const struct address_action *act)
{
    switch (act->type) {
    case ADDRESS_ACT_CREATE:
    case ADDRESS_ACT_READ:
    case ADDRESS_ACT_DELETE: ask_tree(a, s, act); break;
    case ADDRESS_ACT_PROBE: tell_host(a, s, AGENT_ADDRESS_PROBE, act); break;
    case ADDRESS_ACT_ADD: tell_host(a, s, AGENT_ADDRESS_ADD, act); break;
    case ADDRESS_ACT_RENEW: tell_host(a, s, AGENT_ADDRESS_RENEW, act); break;
    case ADDRESS_ACT_REMOVE: tell_host(a, s, AGENT_ADDRESS_REMOVE, act); break;
    case ADDRESS_ACT_ANNOUNCE: tell_host(a, s, AGENT_ADDRESS_ANNOUNCE, act); break;
    }
}

static bool is_here(const struct slot *s)
{
    return s->core.state == ADDRESS_HOLDING && s->core.is_added;
}

static void note_change(struct agent *a, const struct slot *s, enum address_state was,
                        bool was_added, const struct address_event *ev)
{
    const char *address = s->site.address;

    if (is_here(s) && !was_added) {
        a->counters.addresses_taken_total++;
        agent_note(a, "address_taken", address, "");
    }
    if (ev != NULL && ev->type == ADDRESS_EV_PROBED && ev->text[0] != 0) {
        a->counters.probe_conflicts_total++;
        agent_note(a, "address_conflict", address, s->core.why);
    }
    if (was == ADDRESS_HOLDING && s->core.state != ADDRESS_HOLDING) {
        bool is_given = s->core.must_release && s->core.why[0] == 0;
        a->counters.addresses_handed_over_total += is_given;
        if (is_given)
            a->given_ms = a->now_ms;
        a->counters.addresses_lost_total += !is_given;
        agent_note(a, is_given ? "address_given_back" : "address_lost", address, s->core.why);
    }
}

static void step(struct agent *a, struct slot *s, enum address_wish wish,
                 const struct address_event *ev)
{
    struct address_actions out;
    struct address_facts f;
    enum address_state was = s->core.state;
    bool was_added = is_here(s);

    facts(a, s, wish, &f);
    address_step(&s->core, &f, ev, &out);
    note_change(a, s, was, was_added, ev);
    for (unsigned i = 0; i < out.n; i++)
        carry_out(a, s, &out.v[i]);
    peers_let_go(a, s);
}

void holder_step(struct agent *a)
{
    enum address_wish wish[SITE_ADDRESSES_MAX];
    struct address_facts f;

    if (a->view.site != NULL)
        slots_match_site(a);
    wishes(a, wish);
    /* What a step asks may be answered at once, with an error: the list grows meanwhile. */
    for (unsigned i = 0; i < a->events_n; i++) {
        struct slot_event e = a->events[i];
        struct slot *s = find(a, e.address);
        e.ev.text = e.text;
        if (s != NULL)
            step(a, s, wish_of(a, s, wish), &e.ev);
    }
    a->events_n = 0;
    for (unsigned i = 0; i < a->slots_n; i++) {
        step(a, a->slots[i], wish_of(a, a->slots[i], wish), NULL);
        facts(a, a->slots[i], wish_of(a, a->slots[i], wish), &f);
        agent_due(a, address_deadline(&a->slots[i]->core, &f));
    }
    if (a->events_n > 0)
        agent_due(a, a->now_ms);
}
