/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/registry.h"
#include "agent/text.h"
#include "base/check.h"
#include "base/mem.h"

/* ---- for the other files ---- */

uint64_t agent_op(struct agent *a) { return ++a->op_last; }

void agent_due(struct agent *a, uint64_t at_ms)
{
    if (at_ms < a->due_ms)
        a->due_ms = at_ms;
}

/* What the session really lives by; before there is one, what the site wants. */
uint32_t agent_lease_ms(const struct agent *a)
{
    uint32_t ms = client_timeout_ms(a->client);

    if (ms == 0 && a->view.site != NULL)
        ms = a->view.site->lease_ms;
    return ms != 0 ? ms : SITE_LEASE_DEFAULT_MS;
}

/* Questions go out every sixth of the timeout: two in a row without an answer count as not
 * reaching the tree, long before the lease ends and in time to ask the others. */
bool agent_reaches_tree(const struct agent *a)
{
    uint32_t patience_ms = agent_lease_ms(a) * 3 / 8;

    return client_state(a->client) == CLIENT_CONNECTED &&
           client_alive_until(a->client) + patience_ms >=
               a->now_ms + client_trust_ms(a->client);
}

/* Is an address any use on this machine? Nobody answers behind it without HAProxy. */
bool agent_is_fit(const struct agent *a, char why[MACHINE_REASON_MAX])
{
    bool is_fit = a->balance.n == 0 || a->balance.has_run;

    why[0] = 0;
    if (!is_fit)
        (void)snprintf(why, MACHINE_REASON_MAX, "HAProxy does not run yet%s%.120s",
                       a->balance.failed[0] != 0 ? ": " : "", a->balance.failed);
    return is_fit;
}

struct queued *agent_push(struct agent *a, enum agent_action_type type)
{
    struct queued *q = mem_new(struct queued);

    q->act.type = type;
    *a->last = q;
    a->last = &q->next;
    return q;
}

void agent_note(struct agent *a, const char *ev, const char *thing, const char *why)
{
    struct queued *q = agent_push(a, AGENT_NOTE);

    text_copy(q->ev, sizeof q->ev, ev);
    text_copy(q->thing, sizeof q->thing, thing);
    text_copy(q->why, sizeof q->why, why);
    q->act.ev = q->ev;
    q->act.thing = q->thing;
    q->act.why = q->why;
}

/* ---- life ---- */

static void on_mirror(void *ctx)
{
    struct agent *a = ctx;

    a->view.must_read = true;
    agent_due(a, a->now_ms);
}

static void on_znode(void *ctx)
{
    struct agent *a = ctx;

    agent_due(a, a->now_ms);
}

struct agent *agent_new(const struct agent_options *options, struct client *client)
{
    static const char *const roots[] = {"/muster", REGISTRY_ROOT, NULL};
    struct agent *a = mem_new(struct agent);

    CHECK(site_is_name(options->machine, strlen(options->machine)));
    a->options = *options;
    a->options.version = mem_dup_str(options->version);
    a->options.balance_socket = mem_dup_str(options->balance_socket);
    text_copy(a->self.name, sizeof a->self.name, options->machine);
    text_copy(a->self.address, sizeof a->self.address, options->address);
    text_copy(a->self.id, sizeof a->self.id, options->id);
    a->client = client;
    a->last = &a->first;
    a->mirror = mirror_new(client, roots, on_mirror, a);
    a->znodes = znodes_new(client, on_znode, a);
    a->view.machines = mem_new(struct seen_machine);
    a->view.machines[0].id = a->self;
    a->view.machines_n = 1;
    failsafe_init(&a->failsafe, options->seed);
    services_init(&a->services, options->seed);
    return a;
}

static void queued_free(struct queued *q)
{
    if (q == NULL)
        return;
    buf_free(&q->data);
    mem_free(q);
}

void agent_free(struct agent *a)
{
    if (a == NULL)
        return;
    holder_free(a);
    services_free(&a->services);
    balance_free(&a->balance);
    znodes_free(a->znodes);
    mirror_free(a->mirror);
    view_free(&a->view);
    buf_free(&a->health);
    buf_free(&a->health_states);
    while (a->first != NULL) {
        struct queued *q = a->first;
        a->first = q->next;
        queued_free(q);
    }
    queued_free(a->taken);
    mem_free((void *)(uintptr_t)a->options.version);
    mem_free((void *)(uintptr_t)a->options.balance_socket);
    mem_free(a);
}

/* ---- events in ---- */

void agent_time(struct agent *a, uint64_t now_ms, int64_t wall_ms)
{
    CHECK(now_ms >= a->now_ms);
    if (a->start_ms == 0) {
        a->start_ms = now_ms;
        a->start_wall_ms = wall_ms;
    }
    a->now_ms = now_ms;
    a->wall_ms = wall_ms;
}

void agent_client_event(struct agent *a, enum client_event ev)
{
    if (ev == CLIENT_EV_CONNECTED)
        a->timeout_is_pending = false;
    else
        a->view.is_fresh = false;
    mirror_client_event(a->mirror, a->now_ms, ev);
    agent_due(a, a->now_ms);
}

void agent_client_watch(struct agent *a, int type, const char *path)
{
    signs_event(a, type, path); /* before the mirror forgets what stood there */
    mirror_client_watch(a->mirror, a->now_ms, type, path);
}

static void address_result(struct agent *a, const struct agent_result *r,
                           enum address_event_type type)
{
    struct address_event ev = {.type = type, .op = r->op, .text = r->text};

    if (r->address != NULL)
        holder_event(a, r->address, &ev);
}

static void checked(struct agent *a, const struct agent_result *r)
{
    unsigned healthy = services_count_healthy(&a->services);

    (void)services_result(&a->services, r->op, &r->check, a->wall_ms);
    if (services_count_healthy(&a->services) != healthy)
        for (unsigned i = 0; i < a->services.n; i++)
            if (a->services.v[i].op == r->op && a->services.v[i].late_ms == 0)
                agent_note(a,
                           a->services.v[i].state == SERVICE_HEALTHY ? "instance_healthy"
                                                                     : "instance_failing",
                           a->services.v[i].service, a->services.v[i].reason);
}

void agent_result(struct agent *a, const struct agent_result *r)
{
    const char *text = r->text != NULL ? r->text : "";

    switch (r->type) {
    case AGENT_PROBED: address_result(a, r, ADDRESS_EV_PROBED); break;
    case AGENT_PROBE_FAILED: address_result(a, r, ADDRESS_EV_PROBE_FAILED); break;
    case AGENT_ADDED: address_result(a, r, ADDRESS_EV_ADDED); break;
    case AGENT_ADD_FAILED: address_result(a, r, ADDRESS_EV_ADD_FAILED); break;
    case AGENT_REMOVED: address_result(a, r, ADDRESS_EV_REMOVED); break;
    case AGENT_EXPIRED: address_result(a, r, ADDRESS_EV_EXPIRED); break;
    case AGENT_CHECKED: checked(a, r); break;
    case AGENT_BALANCE_DONE: balance_done(&a->balance, r->op); break;
    case AGENT_BALANCE_FAILED:
        balance_failed(&a->balance, r->op, a->now_ms, text);
        agent_note(a, "balance_failed", "", text);
        break;
    case AGENT_BALANCE_LOST:
        balance_lost(&a->balance);
        agent_note(a, "balance_lost", "", text);
        break;
    case AGENT_PEER: peers_message(a, text, r->data, r->len); break;
    }
    agent_due(a, a->now_ms);
}

void agent_facts(struct agent *a, uint32_t load_x100, uint64_t uptime_s)
{
    (void)uptime_s;
    a->load_x100 = load_x100;
}

void agent_leave(struct agent *a)
{
    if (a->is_leaving)
        return;
    a->is_leaving = true;
    a->leave_until_ms = a->now_ms + agent_lease_ms(a);
    agent_due(a, a->now_ms);
}

/* On a foreign ensemble others take what was given back without waiting only as long as our
 * session is there (signs.c). */
static uint64_t stays_until(const struct agent *a)
{
    if (!a->options.is_foreign || a->given_ms == 0)
        return 0;
    return a->given_ms + client_trust_ms(a->client);
}

bool agent_is_done(const struct agent *a)
{
    return a->is_leaving &&
           ((holder_is_idle(a) && znodes_ephemerals(a->znodes, a->mirror) == 0 &&
             a->now_ms >= stays_until(a)) ||
            a->now_ms >= a->leave_until_ms);
}

/* ---- a flush ---- */

static void check_stopped(void *ctx, uint64_t op)
{
    agent_push(ctx, AGENT_CHECK_STOP)->act.op = op;
}

static void site_changed(struct agent *a)
{
    services_set_site(&a->services, a->view.site, a->self.name, a->now_ms, check_stopped, a);
    balance_set_site(&a->balance, a->view.site);
    holder_set_site(a);
}

/* A longer lease is asked for at once, a shorter one when no address is held for longer
 * than it allows: till then holder.c caps what the kernel is given. */
static void match_lease(struct agent *a)
{
    uint32_t want_ms = a->view.site != NULL ? a->view.site->lease_ms : 0;

    if (want_ms == 0 || want_ms == a->timeout_asked_ms)
        return;
    for (unsigned i = 0; i < a->slots_n; i++) {
        const struct address *core = &a->slots[i]->core;
        uint64_t free_ms = core->until_ms + address_margin_ms(want_ms, a->options.guard_ms);
        if (core->state == ADDRESS_HOLDING && free_ms > a->now_ms + want_ms &&
            want_ms < agent_lease_ms(a)) {
            agent_due(a, free_ms - want_ms);
            return;
        }
    }
    a->timeout_asked_ms = want_ms;
    client_set_timeout(a->client, a->now_ms, want_ms);
    a->timeout_is_pending = client_state(a->client) != CLIENT_CONNECTED;
}

static void run_checks(struct agent *a)
{
    for (;;) {
        struct service_instance *i =
            services_due(&a->services, a->now_ms, a->wall_ms, a->op_last + 1);
        if (i == NULL)
            break;
        struct queued *q = agent_push(a, AGENT_CHECK_RUN);
        q->act.op = agent_op(a);
        text_copy(q->service, sizeof q->service, i->service);
        text_copy(q->path, sizeof q->path, i->check.path);
        q->check = (struct service_check){
            .type = i->check.type,
            .service = q->service,
            .address = a->self.address,
            .port = i->port,
            .path = q->path,
            .timeout_ms = i->check.timeout_ms,
        };
        q->act.check = &q->check;
    }
    agent_due(a, services_deadline(&a->services));
}

/* ---- pools ---- */

static unsigned gather_members(const struct agent *a, const char *service,
                               struct balance_member **out)
{
    unsigned n = 0, cap = 0;

    *out = NULL;
    for (unsigned i = 0; i < a->view.instances_n; i++) {
        if (strcmp(a->view.instances[i].service, service) != 0)
            continue;
        mem_grow(*out, cap, n + 1);
        (*out)[n++] = a->view.instances[i].m;
    }
    return n;
}

static unsigned gather_expected(const struct agent *a, const struct site_service *service,
                                struct balance_member **out)
{
    unsigned n = 0, cap = 0;

    *out = NULL;
    for (unsigned m = 0; m < a->view.machines_n; m++) {
        const struct machine_identity *id = &a->view.machines[m].id;
        if (id->address[0] == 0 || !site_service_is_on(service, id->name))
            continue;
        for (uint32_t k = 0; k < service->instances; k++) {
            mem_grow(*out, cap, n + 1);
            (*out)[n] = (struct balance_member){.port = (uint16_t)(service->port + k)};
            (void)snprintf((*out)[n].name, sizeof(*out)[n].name, "%s-%u", id->name,
                           service->port + k);
            memcpy((*out)[n].address, id->address, sizeof id->address);
            n++;
        }
    }
    return n;
}

static unsigned saying_none(const struct agent *a, const char *service)
{
    unsigned n = 0;

    for (unsigned m = 0; m < a->view.machines_n; m++) {
        const struct seen_machine *seen = &a->view.machines[m];
        bool has_healthy = false;
        if (!seen->is_alive || seen->health == NULL)
            continue;
        for (unsigned i = 0; i < seen->health->instances_n; i++)
            has_healthy =
                has_healthy || (strcmp(seen->health->instances[i].service, service) == 0 &&
                                strcmp(seen->health->instances[i].state,
                                       service_state_name(SERVICE_HEALTHY)) == 0);
        n += !has_healthy;
    }
    return n;
}

static void offer_pools(struct agent *a)
{
    if (!a->balance_stale || a->view.site == NULL)
        return;
    a->balance_stale = false;
    for (unsigned i = 0; i < a->view.site->balance_n; i++) {
        const struct site_service *service =
            site_service_find(a->view.site, a->view.site->balance[i].service);
        struct balance_member *members, *expected;
        struct balance_offer o = {.machines_known = a->view.machines_n};
        CHECK(service != NULL); /* the site is valid */
        o.members_n = gather_members(a, service->name, &members);
        o.expected_n = gather_expected(a, service, &expected);
        o.members = members;
        o.expected = expected;
        o.machines_saying_none = saying_none(a, service->name);
        balance_offer(&a->balance, service->name, &o);
        mem_free(members);
        mem_free(expected);
    }
}

static void set_balance(struct agent *a)
{
    struct balance *b = &a->balance;
    uint64_t op = a->op_last + 1;

    offer_pools(a);
    if (a->view.site == NULL)
        return;
    enum balance_want want =
        balance_step(b, a->now_ms, op, a->view.site->name, a->options.balance_socket);
    if (want == BALANCE_STOP) {
        agent_push(a, AGENT_BALANCE_STOP)->act.op = agent_op(a);
    } else if (want == BALANCE_SET) {
        struct queued *q = agent_push(a, AGENT_BALANCE_SET);
        q->act.op = agent_op(a);
        /* These stay until the answer: nothing is rendered while one is under way. */
        q->act.config = buf_text(&b->config);
        q->act.commands = b->commands;
        q->act.commands_n = b->commands_n;
        q->act.reload = b->reload;
    }
    agent_due(a, balance_deadline(b));
}

void agent_members(struct agent *a, const char *const *names, size_t n)
{
    view_members(a, names, n);
}

void agent_flush(struct agent *a)
{
    a->due_ms = AGENT_NEVER;
    if (view_read(a))
        site_changed(a);
    match_lease(a);
    run_checks(a);
    set_balance(a);
    holder_step(a);
    peers_step(a);
    writer_step(a);
    if (a->is_leaving)
        agent_due(a, a->leave_until_ms);
    if (a->is_leaving && a->now_ms < stays_until(a))
        agent_due(a, stays_until(a));
}

uint64_t agent_deadline(const struct agent *a) { return a->due_ms; }

bool agent_action_take(struct agent *a, struct agent_action *out)
{
    queued_free(a->taken);
    a->taken = a->first;
    if (a->first == NULL)
        return false;
    a->first = a->first->next;
    if (a->first == NULL)
        a->last = &a->first;
    *out = a->taken->act;
    return true;
}

/* ---- facts ---- */

bool agent_has_address(const struct agent *a, const char *address)
{
    const struct slot *s = holder_find(a, address);

    return s != NULL && s->core.state == ADDRESS_HOLDING && s->core.is_added &&
           a->now_ms < s->core.until_ms;
}

void agent_counters(const struct agent *a, struct agent_counters *out)
{
    *out = a->counters;
    out->checks_total = a->services.checks_total;
    out->checks_failed_total = a->services.failed_total;
    out->balance_sets_total = a->balance.sets_total;
    out->balance_reloads_total = a->balance.reloads_total;
    out->balance_refused_total = a->balance.refused_total;
    out->site_refused_total = a->view.site_refused_total;
    out->peer_malformed_total += a->failsafe.malformed_total;
    out->instances_healthy = services_count_healthy(&a->services);
    for (unsigned i = 0; i < a->slots_n; i++)
        out->addresses_held += agent_has_address(a, a->slots[i]->site.address);
}
