/* SPDX-License-Identifier: Apache-2.0 */
/* view.c -- what the tree says, as last seen whole. What cannot be understood is left out or
 * stays as it was: a broken site file in the tree changes nothing but the status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/registry.h"
#include "agent/text.h"
#include "base/mem.h"

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* ---- the site ---- */

static bool read_site(struct agent *a)
{
    struct view *v = &a->view;
    struct mirror_node n;
    struct site_errors errors;

    if (!mirror_get(a->mirror, SITE_PATH, &n) || n.len < 0) {
        /* Gone again is refused like an empty registry: the last good one stays. */
        if (v->site != NULL)
            (void)snprintf(v->site_why, sizeof v->site_why, "%s is gone; the last stays",
                           SITE_PATH);
        v->site_mzxid = 0;
        return false;
    }
    if (n.stat.mzxid == v->site_mzxid)
        return false;
    v->site_mzxid = n.stat.mzxid;
    struct site *site = site_parse(n.data, (size_t)n.len, &errors);
    if (site == NULL) {
        v->site_refused_total++;
        (void)snprintf(v->site_why, sizeof v->site_why, "line %u: %.180s", errors.v[0].line,
                       errors.v[0].text);
        agent_note(a, "site_refused", SITE_PATH, v->site_why);
        return false;
    }
    v->site_why[0] = 0;
    site_free(v->site);
    v->site = site;
    agent_note(a, "site_applied", site->name, "");
    return true;
}

/* ---- machines ---- */

static int compare_machines(const void *a, const void *b)
{
    return strcmp(((const struct seen_machine *)a)->id.name,
                  ((const struct seen_machine *)b)->id.name);
}

static int compare_name(const void *name, const void *machine)
{
    return strcmp(name, ((const struct seen_machine *)machine)->id.name);
}

/* v is in the order of names, as the mirror is. */
static struct seen_machine *machine_find(struct seen_machine *v, unsigned n, const char *name)
{
    return n > 0 ? bsearch(name, v, n, sizeof v[0], compare_name) : NULL;
}

static void read_alive(struct agent *a, struct seen_machine *m, struct seen_machine *was)
{
    struct buf path = {0};
    struct mirror_node n;
    struct machine_health *health = NULL;

    if (was != NULL) {
        m->health = was->health;
        m->health_mzxid = was->health_mzxid;
        m->alive_ms = was->alive_ms;
        was->health = NULL;
    }
    buf_printf(&path, "%s/%s/alive", MACHINE_ROOT, m->id.name);
    if (mirror_get(a->mirror, buf_text(&path), &n) && n.stat.ephemeral_owner != 0) {
        m->is_alive = true;
        m->session = n.stat.ephemeral_owner;
        m->alive_ms = a->now_ms;
        if (n.stat.mzxid != m->health_mzxid && n.len >= 0 &&
            machine_health_decode(n.data, (size_t)n.len, &health)) {
            machine_health_free(m->health);
            m->health = health;
        }
        m->health_mzxid = n.stat.mzxid;
    }
    buf_free(&path);
}

static void read_machines(struct agent *a)
{
    struct view *v = &a->view;
    struct seen_machine *machines = NULL;
    unsigned n = 0, cap = 0;
    const char *after = "";
    struct mirror_node node;
    bool was_full = v->machines_full;

    v->machines_full = false;
    while (mirror_child_next(a->mirror, MACHINE_ROOT, after, &node)) {
        const char *name = name_of(node.path);
        if (n == AGENT_MACHINES_MAX) { /* others may write there what they like */
            v->machines_full = true;
            break;
        }
        struct seen_machine m = {.is_alive = false};
        after = name; /* stays where it is until the mirror hears the next event */
        (void)machine_identity_decode(node.data, node.len < 0 ? 0 : (size_t)node.len, name,
                                      &m.id);
        if (m.id.name[0] == 0)
            continue;
        read_alive(a, &m, machine_find(v->machines, v->machines_n, name));
        mem_grow(machines, cap, n + 1);
        machines[n++] = m;
    }
    if (machine_find(machines, n, a->self.name) == NULL) {
        mem_grow(machines, cap, n + 1);
        machines[n++] = (struct seen_machine){.id = a->self};
        qsort(machines, n, sizeof machines[0], compare_machines);
    }
    for (unsigned i = 0; i < v->machines_n; i++)
        machine_health_free(v->machines[i].health);
    mem_free(v->machines);
    v->machines = machines;
    v->machines_n = n;
    v->me = (unsigned)(machine_find(machines, n, a->self.name) - machines);
    if (v->machines_full && !was_full)
        agent_note(a, "machines_left_out", MACHINE_ROOT, "AGENT_MACHINES_MAX");
}

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

/* False: there are too many. */
static bool know(struct failsafe_machines *k, const char *name)
{
    for (unsigned i = 0; i < k->n; i++)
        if (strcmp(k->name[i], name) == 0)
            return true;
    if (k->n == FAILSAFE_MACHINES_MAX)
        return false;
    memset(k->name[k->n], 0, SITE_NAME_MAX);
    memcpy(k->name[k->n++], name, strlen(name) + 1);
    return true;
}

/* Whom the failsafe asks: everybody who was ever here, alive or not, and every member of the
 * ensemble. A machine whose server has a vote may help to end a session before its agent has
 * written itself into the tree, and then take what that session held. */
static void read_known(struct agent *a)
{
    bool fits = true;

    a->known.n = 0;
    for (unsigned i = 0; i < a->view.machines_n; i++)
        fits = know(&a->known, a->view.machines[i].id.name) && fits;
    for (unsigned i = 0; i < a->members.n; i++)
        fits = know(&a->known, a->members.name[i]) && fits;
    if (!fits)
        a->known.n = 0; /* nobody is asked then, and addresses go at the end of their lease */
    qsort(a->known.name, a->known.n, sizeof a->known.name[0], by_text);
    for (unsigned i = 0; i < a->known.n; i++)
        if (strcmp(a->known.name[i], a->self.name) == 0)
            a->known.me = i;
}

void view_members(struct agent *a, const char *const *names, size_t n)
{
    struct failsafe_machines now = {.n = 0};

    for (size_t i = 0; i < n; i++)
        if (site_is_name(names[i], strlen(names[i])))
            (void)know(&now, names[i]);
    qsort(now.name, now.n, sizeof now.name[0], by_text);
    if (now.n == a->members.n && memcmp(now.name, a->members.name, sizeof now.name) == 0)
        return;
    a->members = now;
    if (a->view.is_known)
        read_known(a);
}

/* ---- instances ---- */

static void read_service(struct agent *a, const char *service)
{
    struct view *v = &a->view;
    struct buf path = {0};
    const char *after = "";
    struct mirror_node node;

    buf_printf(&path, "%s/%s", REGISTRY_ROOT, service);
    const char *parent = buf_text(&path);
    while (mirror_child_next(a->mirror, parent, after, &node)) {
        const char *name = name_of(node.path);
        struct seen_instance one = {.session = node.stat.ephemeral_owner};
        after = name;
        if (!registry_decode(node.data, node.len < 0 ? 0 : (size_t)node.len, name, &one.m))
            continue;
        text_copy(one.service, sizeof one.service, service);
        mem_grow(v->instances, v->instances_cap, v->instances_n + 1);
        v->instances[v->instances_n++] = one;
    }
    buf_free(&path);
}

/* All services, also those that are not in the site: what this machine left there must go. */
static void read_instances(struct agent *a)
{
    const char *after = "";
    struct mirror_node node;

    a->view.instances_n = 0;
    while (mirror_child_next(a->mirror, REGISTRY_ROOT, after, &node)) {
        const char *name = name_of(node.path);
        after = name;
        if (site_is_name(after, strlen(after)))
            read_service(a, after);
    }
}

bool view_read(struct agent *a)
{
    struct view *v = &a->view;

    bool is_new = !v->is_fresh && mirror_is_complete(a->mirror);
    if (is_new)
        v->is_fresh = v->is_known = v->must_read = true;
    for (unsigned i = 0; i < v->machines_n; i++)
        if (v->machines[i].is_alive && agent_reaches_tree(a))
            v->machines[i].alive_ms = a->now_ms;
    if (!v->is_fresh || !v->must_read)
        return false;
    v->must_read = false;
    if (mirror_is_full(a->mirror) && !v->is_cut_short)
        agent_note(a, "znodes_left_out", "/muster /services",
                   "MIRROR_NODES_MAX, MIRROR_BYTES_MAX");
    v->is_cut_short = mirror_is_full(a->mirror);
    read_machines(a);
    if (is_new)
        signs_connected(a);
    read_known(a);
    read_instances(a);
    a->balance_stale = true;
    return read_site(a);
}

void view_free(struct view *v)
{
    for (unsigned i = 0; i < v->machines_n; i++)
        machine_health_free(v->machines[i].health);
    mem_free(v->machines);
    mem_free(v->instances);
    site_free(v->site);
    *v = (struct view){.is_known = false};
}
