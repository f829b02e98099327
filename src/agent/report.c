/* SPDX-License-Identifier: Apache-2.0 */
/* report.c -- gathers what this machine knows into the view that status judges. */
#include <stdio.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/registry.h"
#include "base/mem.h"

/* Text that the view borrows, for as long as the report is made. */
struct texts {
    char **v;
    unsigned n, cap;
};

static const char *keep(struct texts *t, const char *text)
{
    mem_grow(t->v, t->cap, t->n + 1);
    t->v[t->n] = mem_dup_str(text);
    return t->v[t->n++];
}

static void texts_free(struct texts *t)
{
    for (unsigned i = 0; i < t->n; i++)
        mem_free(t->v[i]);
    mem_free(t->v);
}

/* ---- machines ---- */

static const char *role_of(const struct status_server *server, const char *machine,
                           const char *self)
{
    if (server == NULL)
        return "";
    if (server->leader != NULL && strcmp(server->leader, machine) == 0)
        return "leader";
    if (strcmp(machine, self) == 0 && server->role != NULL)
        return server->role;
    for (unsigned i = 0; i < server->members_n && i < STATUS_MEMBERS_MAX; i++)
        if (server->members[i].name != NULL && strcmp(server->members[i].name, machine) == 0)
            return server->members[i].is_voter ? "follower" : "learner";
    return "";
}

static const char *machine_why(const struct agent *a, const struct seen_machine *m,
                               struct texts *t)
{
    if (m == &a->view.machines[a->view.me]) {
        char why[MACHINE_REASON_MAX];
        return agent_is_fit(a, why) ? "" : keep(t, why);
    }
    if (!m->is_alive || m->health == NULL)
        return "";
    return m->health->is_fit ? "" : m->health->unfit_why;
}

static void fill_machines(const struct agent *a, struct status_view *v,
                          struct status_machine *out, struct texts *t)
{
    for (unsigned i = 0; i < a->view.machines_n; i++) {
        const struct seen_machine *m = &a->view.machines[i];
        bool is_me = i == a->view.me;
        bool is_alive = is_me ? agent_reaches_tree(a) : m->is_alive;
        const char *state = !v->reaches_tree  ? "unknown"
                            : is_alive        ? "alive"
                            : m->alive_ms > 0 ? "gone"
                                              : "joined";
        out[v->machines_n++] = (struct status_machine){
            .name = m->id.name,
            .address = m->id.address,
            /* A machine that was gone before this agent first looked is gone as well. */
            .state = strcmp(state, "joined") == 0 && !is_me ? "gone"
                     : is_me && v->reaches_tree             ? "alive"
                                                            : state,
            .role = role_of(v->server, m->id.name, a->self.name),
            .age_ms = m->alive_ms > 0 ? a->now_ms - m->alive_ms : UINT64_MAX,
            .why = machine_why(a, m, t),
        };
    }
    v->machines = out;
}

/* ---- addresses ---- */

static const char *holder_name(const struct agent *a, int64_t session, struct texts *t,
                               const char *address)
{
    struct buf path = {0};
    struct mirror_node n;
    char name[SITE_NAME_MAX] = "";

    if (session == client_session(a->client))
        return a->self.name;
    for (unsigned i = 0; i < a->view.machines_n; i++)
        if (a->view.machines[i].session == session && a->view.machines[i].is_alive)
            return a->view.machines[i].id.name;
    /* No machine lives by this session: what the claim says of itself. */
    buf_printf(&path, "%s/%s", ADDRESS_ROOT, address);
    if (mirror_get(a->mirror, buf_text(&path), &n) && n.len > 0) {
        static const char key[] = "{\"machine\":\"";
        size_t at = sizeof key - 1, len = (size_t)n.len, k = 0;
        if (len > at && memcmp(n.data, key, at) == 0)
            while (at + k < len && k + 1 < sizeof name && n.data[at + k] != '"')
                name[k] = (char)n.data[at + k], k++;
        if (!site_is_name(name, k))
            name[0] = 0;
    }
    buf_free(&path);
    return keep(t, name[0] != 0 ? name : "?");
}

static int64_t claim_owner(const struct agent *a, const char *address)
{
    struct buf path = {0};
    struct mirror_node n;

    buf_printf(&path, "%s/%s", ADDRESS_ROOT, address);
    int64_t owner = mirror_get(a->mirror, buf_text(&path), &n) ? n.stat.ephemeral_owner : 0;
    buf_free(&path);
    return owner;
}

/* Why nobody has it: what some machine says of it. */
static const char *unheld_why(const struct agent *a, const char *address, struct texts *t)
{
    char text[MACHINE_REASON_MAX + SITE_NAME_MAX + 4];

    for (unsigned i = 0; i < a->view.machines_n; i++) {
        const struct machine_health *h = a->view.machines[i].health;
        for (unsigned k = 0; a->view.machines[i].is_alive && h != NULL && k < h->addresses_n;
             k++)
            if (strcmp(h->addresses[k].address, address) == 0 && h->addresses[k].why[0] != 0) {
                (void)snprintf(text, sizeof text, "%s: %s", a->view.machines[i].id.name,
                               h->addresses[k].why);
                return keep(t, text);
            }
    }
    return "";
}

static void fill_addresses(const struct agent *a, struct status_view *v,
                           struct status_address *out, struct texts *t)
{
    for (unsigned i = 0; a->view.site != NULL && i < a->view.site->addresses_n; i++) {
        const char *address = a->view.site->addresses[i].address;
        const struct slot *s = holder_find(a, address);
        int64_t owner = claim_owner(a, address);
        bool is_here = s != NULL && s->core.state == ADDRESS_HOLDING && s->core.is_added;
        struct status_address o = {.address = address, .state = "unknown", .why = ""};

        if (is_here) {
            o.holder = a->self.name;
            o.state = "held";
            o.is_here = true;
            o.lease_ms_left = s->core.until_ms > a->now_ms ? s->core.until_ms - a->now_ms : 0;
            if (!v->reaches_tree)
                o.why = "kept by the promise of all other machines, or until its lease ends";
        } else if (owner != 0) {
            o.holder = holder_name(a, owner, t, address);
            o.state = !v->reaches_tree                     ? "unknown"
                      : owner == client_session(a->client) ? "moving"
                                                           : "held";
        } else if (v->reaches_tree && a->view.is_fresh) {
            o.state = "unheld";
            o.why = s != NULL && s->core.why[0] != 0 ? s->core.why : unheld_why(a, address, t);
        }
        out[v->addresses_n++] = o;
    }
    v->addresses = out;
}

/* ---- services ---- */

static void fill_service(const struct agent *a, const struct site_service *service,
                         const struct seen_machine *m, struct status_view *v,
                         struct status_instance *out, struct texts *t)
{
    bool is_me = m == &a->view.machines[a->view.me];

    for (uint32_t k = 0; k < service->instances; k++) {
        uint16_t port = (uint16_t)(service->port + k);
        char name[BALANCE_NAME_MAX];
        (void)snprintf(name, sizeof name, "%s-%u", m->id.name, port);
        struct status_instance o = {.service = service->name,
                                    .name = keep(t, name),
                                    .machine = m->id.name,
                                    .state = "checking",
                                    .why = "",
                                    .since_s = -1};
        int64_t since_ms = 0;
        for (unsigned i = 0; is_me && i < a->services.n; i++) {
            const struct service_instance *s = &a->services.v[i];
            if (s->port == port && strcmp(s->service, service->name) == 0) {
                o.state = service_state_name(s->state);
                o.why = s->reason;
                since_ms = s->since_wall_ms;
            }
        }
        for (unsigned i = 0; !is_me && m->health != NULL && i < m->health->instances_n; i++) {
            const struct machine_instance *s = &m->health->instances[i];
            if (s->port == port && strcmp(s->service, service->name) == 0) {
                o.state = s->state;
                o.why = s->why;
                since_ms = s->since_wall_ms;
            }
        }
        if (!is_me && !m->is_alive) {
            o.state = "gone";
            o.why = "its machine is gone";
        }
        if (since_ms > 0 && a->wall_ms >= since_ms)
            o.since_s = (a->wall_ms - since_ms) / 1000;
        out[v->instances_n++] = o;
    }
}

static unsigned instances_most(const struct agent *a)
{
    unsigned n = 0;

    for (unsigned i = 0; a->view.site != NULL && i < a->view.site->services_n; i++)
        n += a->view.site->services[i].instances * a->view.machines_n;
    return n;
}

static void fill_services(const struct agent *a, struct status_view *v,
                          struct status_instance *out, struct texts *t)
{
    for (unsigned i = 0; a->view.site != NULL && i < a->view.site->services_n; i++)
        for (unsigned m = 0; m < a->view.machines_n; m++)
            if (site_service_is_on(&a->view.site->services[i], a->view.machines[m].id.name))
                fill_service(a, &a->view.site->services[i], &a->view.machines[m], v, out, t);
    v->instances = out;
}

static void fill_pools(const struct agent *a, struct status_view *v, struct status_pool *out)
{
    for (unsigned i = 0; i < a->balance.n; i++) {
        const struct balance_pool *p = &a->balance.pools[i];
        out[v->pools_n++] = (struct status_pool){.service = p->service,
                                                 .why = p->why,
                                                 .listen = p->listen,
                                                 .on = p->on_n,
                                                 .slots = p->slots_n,
                                                 .is_kept = p->is_refused || p->is_guess};
    }
    v->pools = out;
}

static int report(const struct agent *a, const struct status_server *server,
                  const struct status_ensemble *ensemble, struct buf *json)
{
    struct status_machine *machines = mem_new_array(struct status_machine, a->view.machines_n);
    struct status_address *addresses = mem_new_array(struct status_address, SITE_ADDRESSES_MAX);
    struct status_instance *instances =
        mem_new_array(struct status_instance, instances_most(a));
    struct status_pool *pools = mem_new_array(struct status_pool, a->balance.n);
    struct texts texts = {.n = 0};
    uint64_t as_of_ms = mirror_as_of(a->mirror);
    struct status_view v = {
        .site = a->view.site != NULL ? a->view.site->name : NULL,
        .machine = a->self.name,
        .site_why = a->view.site_why,
        .balance_why = a->balance.failed,
        .reaches_tree = agent_reaches_tree(a) && a->view.is_fresh,
        .is_cut_short = a->view.is_cut_short,
        .as_of_ms_ago = as_of_ms == 0          ? UINT64_MAX
                        : as_of_ms > a->now_ms ? 0
                                               : a->now_ms - as_of_ms,
        .lease_ms = agent_lease_ms(a),
        .server = server,
        .ensemble = ensemble,
        .site_refused_total = a->view.site_refused_total,
        .pools_refused_total = a->balance.refused_total,
        .conflicts_total = a->counters.probe_conflicts_total,
    };

    fill_machines(a, &v, machines, &texts);
    fill_addresses(a, &v, addresses, &texts);
    fill_services(a, &v, instances, &texts);
    fill_pools(a, &v, pools);
    int exit_code = status_json(&v, json);
    texts_free(&texts);
    mem_free(machines);
    mem_free(addresses);
    mem_free(instances);
    mem_free(pools);
    return exit_code;
}

int agent_status(const struct agent *a, const struct status_server *server, struct buf *json)
{
    return report(a, server, NULL, json);
}

int agent_status_foreign(const struct agent *a, const struct status_ensemble *ensemble,
                         struct buf *json)
{
    return report(a, NULL, ensemble, json);
}
