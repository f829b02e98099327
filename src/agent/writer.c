/* SPDX-License-Identifier: Apache-2.0 */
/* writer.c -- what this machine writes into the tree: who it is, how it is, and which of its
 * instances take traffic.
 */
#include <stdio.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/registry.h"
#include "agent/text.h"
#include "base/mem.h"

static void fill_instances(const struct agent *a, struct machine_health *h)
{
    h->instances = mem_new_array(struct machine_instance, a->services.n);
    for (unsigned i = 0; i < a->services.n && i < MACHINE_INSTANCES_MAX; i++) {
        const struct service_instance *s = &a->services.v[i];
        struct machine_instance *o = &h->instances[h->instances_n++];
        text_copy(o->service, sizeof o->service, s->service);
        o->port = s->port;
        text_copy(o->state, sizeof o->state, service_state_name(s->state));
        text_copy(o->why, sizeof o->why, s->reason);
        o->since_wall_ms = s->since_wall_ms;
    }
}

static void fill_health(const struct agent *a, struct machine_health *h)
{
    text_copy(h->version, sizeof h->version, a->options.version);
    h->started_wall_ms = a->start_wall_ms;
    h->load_x100 = a->load_x100;
    h->is_fit = agent_is_fit(a, h->unfit_why);
    text_copy(h->balance_failed, sizeof h->balance_failed, a->balance.failed);
    for (unsigned i = 0; i < a->slots_n && h->addresses_n < SITE_ADDRESSES_MAX; i++) {
        const struct address *core = &a->slots[i]->core;
        struct machine_address *o = &h->addresses[h->addresses_n++];
        text_copy(o->address, sizeof o->address, a->slots[i]->site.address);
        text_copy(o->state, sizeof o->state, address_state_name(core->state));
        text_copy(o->why, sizeof o->why, core->why);
        o->is_avoided = a->now_ms < core->avoid_until_ms;
    }
    fill_instances(a, h);
    for (unsigned i = 0; i < a->balance.n; i++) {
        const struct balance_pool *p = &a->balance.pools[i];
        struct machine_pool *o = &h->pools[h->pools_n++];
        text_copy(o->service, sizeof o->service, p->service);
        o->on = p->on_n;
        o->slots = p->slots_n;
        o->is_kept = p->is_refused || p->is_guess;
        text_copy(o->why, sizeof o->why, p->why);
    }
}

/* What is worth a write soon; the rest are measured values that differ every second. */
static void print_states(struct buf *out, const struct machine_health *h)
{
    buf_printf(out, "%d %d;", h->is_fit, h->balance_failed[0] != 0);
    for (unsigned i = 0; i < h->addresses_n; i++)
        buf_printf(out, "%s %s %d %d;", h->addresses[i].address, h->addresses[i].state,
                   h->addresses[i].is_avoided, h->addresses[i].why[0] != 0);
    for (unsigned i = 0; i < h->instances_n; i++)
        buf_printf(out, "%s %u %s;", h->instances[i].service, h->instances[i].port,
                   h->instances[i].state);
    for (unsigned i = 0; i < h->pools_n; i++)
        buf_printf(out, "%s %u %u %d;", h->pools[i].service, h->pools[i].on, h->pools[i].slots,
                   h->pools[i].is_kept);
}

static bool buf_equals(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* a->health is what the tree should say now: it follows the truth at most once a second. */
static void refresh_health(struct agent *a)
{
    struct machine_health *h = mem_new(struct machine_health);
    struct buf text = {0}, states = {0};

    fill_health(a, h);
    print_states(&states, h);
    machine_health_encode(&text, h);
    bool is_same = buf_equals(&states, &a->health_states);
    uint64_t due_ms =
        a->health_ms + (is_same ? MACHINE_REASON_EVERY_MS : MACHINE_WRITE_EVERY_MS);
    if (a->health.len == 0 || (a->now_ms >= due_ms && !buf_equals(&text, &a->health))) {
        buf_free(&a->health);
        buf_free(&a->health_states);
        a->health = text;
        a->health_states = states;
        a->health_ms = a->now_ms;
    } else {
        if (!is_same)
            agent_due(a, due_ms);
        buf_free(&text);
        buf_free(&states);
    }
    machine_health_free(h);
}

static void want(struct agent *a, const char *path, const struct buf *data,
                 enum znodes_kind kind)
{
    znodes_want(a->znodes, path, data != NULL ? data->data : NULL, data != NULL ? data->len : 0,
                kind);
}

static void want_machine(struct agent *a)
{
    struct buf path = {0}, data = {0};

    buf_printf(&path, "%s/%s", MACHINE_ROOT, a->self.name);
    /* When it joined stands there already, unless it joins now. */
    struct machine_identity self = a->self;
    self.joined_wall_ms = a->wall_ms;
    if (a->view.machines[a->view.me].id.joined_wall_ms != 0)
        self.joined_wall_ms = a->view.machines[a->view.me].id.joined_wall_ms;
    a->view.machines[a->view.me].id.joined_wall_ms = self.joined_wall_ms;
    machine_identity_encode(&data, &self);
    want(a, buf_text(&path), &data, ZNODES_OWN);
    buf_add_str(&path, "/alive");
    if (!a->is_leaving || !holder_is_idle(a))
        want(a, buf_text(&path), &a->health, ZNODES_EPHEMERAL);
    buf_free(&path);
    buf_free(&data);
}

static void want_instances(struct agent *a)
{
    struct buf path = {0}, data = {0};

    for (unsigned i = 0; a->view.site != NULL && i < a->view.site->services_n; i++) {
        buf_clear(&path);
        buf_printf(&path, "%s/%s", REGISTRY_ROOT, a->view.site->services[i].name);
        want(a, buf_text(&path), NULL, ZNODES_PERSISTENT);
    }
    for (unsigned i = 0; i < a->services.n; i++) {
        const struct service_instance *s = &a->services.v[i];
        buf_clear(&path);
        buf_clear(&data);
        registry_path(&path, s->service, a->self.name, s->port);
        /* The time of the registration is that of becoming healthy: it must not make the
         * data differ at every look. */
        registry_encode(&data, s->service, a->self.name, a->self.address, s->port,
                        s->since_wall_ms);
        if (s->state == SERVICE_HEALTHY && !a->is_leaving)
            want(a, buf_text(&path), &data, ZNODES_EPHEMERAL);
    }
    buf_free(&path);
    buf_free(&data);
}

/* What our session owns in the registry, wanted or not: a create whose answer was lost may
 * have left it there. */
static void adopt_instances(struct agent *a)
{
    struct buf path = {0};

    for (unsigned i = 0; i < a->view.instances_n; i++) {
        const struct seen_instance *s = &a->view.instances[i];
        if (s->session == 0 || s->session != client_session(a->client))
            continue;
        buf_clear(&path);
        buf_printf(&path, "%s/%s/%s", REGISTRY_ROOT, s->service, s->m.name);
        znodes_adopt(a->znodes, buf_text(&path));
    }
    buf_free(&path);
}

void writer_step(struct agent *a)
{
    bool can_write = a->view.is_fresh && client_state(a->client) == CLIENT_CONNECTED;

    refresh_health(a);
    znodes_begin(a->znodes);
    adopt_instances(a);
    want(a, "/muster", NULL, ZNODES_PERSISTENT);
    want(a, MACHINE_ROOT, NULL, ZNODES_PERSISTENT);
    want(a, ADDRESS_ROOT, NULL, ZNODES_PERSISTENT);
    want(a, REGISTRY_ROOT, NULL, ZNODES_PERSISTENT);
    want_machine(a);
    want_instances(a);
    znodes_end(a->znodes, a->mirror, a->now_ms, can_write);
    agent_due(a, znodes_deadline(a->znodes));
}
