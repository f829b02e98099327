/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "client/mirror.h"

/* ---- the verdict ---- */

struct reasons {
    struct buf text;
    unsigned n;
};

/* Where the next reason is written. */
static struct buf *reason(struct reasons *r)
{
    if (r->n++ > 0)
        buf_add_str(&r->text, "; ");
    return &r->text;
}

/* "840 ms", "12.3 s", "5 min", "3 h" */
static void print_age(struct buf *out, uint64_t ms)
{
    if (ms < 1000)
        buf_printf(out, "%u ms", (unsigned)ms);
    else if (ms < 60000)
        buf_printf(out, "%u.%u s", (unsigned)(ms / 1000), (unsigned)(ms / 100 % 10));
    else if (ms < 7200000)
        buf_printf(out, "%u min", (unsigned)(ms / 60000));
    else
        buf_printf(out, "%llu h", (unsigned long long)(ms / 3600000));
}

static void count_voters(const struct status_server *s, unsigned *voters, unsigned *reachable)
{
    *voters = *reachable = 0;
    for (unsigned i = 0; i < s->members_n && i < STATUS_MEMBERS_MAX; i++) {
        *voters += s->members[i].is_voter;
        *reachable += s->members[i].is_voter && s->members[i].is_reachable;
    }
}

static void judge_tree(const struct status_view *v, struct reasons *degraded)
{
    unsigned voters, reachable;

    if (v->server != NULL && !v->server->has_quorum) {
        count_voters(v->server, &voters, &reachable);
        buf_printf(reason(degraded),
                   "no quorum: %u of %u servers reachable, nothing can be "
                   "written",
                   reachable, voters);
    }
    if (v->server != NULL && v->server->ails != NULL)
        buf_add_str(reason(degraded), v->server->ails);
    if (v->reaches_tree)
        return;
    if (v->ensemble != NULL && !v->ensemble->is_connected)
        buf_printf(reason(degraded), "no server of the ensemble answers%s%s",
                   v->ensemble->why[0] != 0 ? ": " : "", v->ensemble->why);
    if (v->as_of_ms_ago == UINT64_MAX) {
        buf_add_str(reason(degraded), "this machine has not read the tree yet");
    } else {
        struct buf *out = reason(degraded);
        buf_add_str(out, "this machine does not reach the tree, its view is ");
        print_age(out, v->as_of_ms_ago);
        buf_add_str(out, " old");
    }
}

static void print_bytes(struct buf *out, uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB"};
    unsigned unit = 0;

    while (unit < 2 && bytes >= 1024 * 1024) {
        bytes /= 1024;
        unit++;
    }
    buf_printf(out, "%llu.%llu %s", (unsigned long long)(bytes / 1024),
               (unsigned long long)(bytes % 1024 * 10 / 1024), units[unit]);
}

static void print_room(struct buf *out, const struct status_disk *d)
{
    print_bytes(out, d->free_bytes);
    buf_add_str(out, " free, ");
    print_bytes(out, d->reserve_bytes);
    buf_add_str(out, " in reserve");
}

static void judge_disk(const struct status_view *v, struct reasons *degraded)
{
    const struct status_disk *d = v->server != NULL ? &v->server->disk : NULL;

    if (d == NULL || d->room == NULL)
        return;
    if (d->refuses || d->is_full) {
        struct buf *out = reason(degraded);
        buf_add_str(out, d->refuses
                             ? "the disks of a majority are full, new data is refused (here: "
                             : "the disk of this server is full (");
        print_room(out, d);
        buf_add_str(out, ")");
    }
    if (d->is_slow || d->is_behind) {
        struct buf *out = reason(degraded);
        buf_add_str(out, "the disk of this server is too slow (");
        if (d->running_ms > 0) {
            buf_add_str(out, "a sync has been running for ");
            print_age(out, d->running_ms);
        } else {
            buf_add_str(out, "the longest sync took ");
            print_age(out, d->most_ms);
        }
        buf_add_str(out, d->is_behind ? "), its clients are sent to others" : ")");
    }
}

static void judge_machines(const struct status_view *v, struct reasons *degraded)
{
    for (unsigned i = 0; i < v->machines_n; i++) {
        const struct status_machine *m = &v->machines[i];
        if (strcmp(m->state, "gone") == 0) {
            struct buf *out = reason(degraded);
            buf_printf(out, "machine %s is gone", m->name);
            if (m->age_ms != UINT64_MAX) {
                buf_add_str(out, ", last seen ");
                print_age(out, m->age_ms);
                buf_add_str(out, " ago");
            }
        } else if (m->why[0] != 0) {
            buf_printf(reason(degraded), "machine %s: %s", m->name, m->why);
        }
    }
}

static void judge_addresses(const struct status_view *v, struct reasons *down,
                            struct reasons *degraded)
{
    for (unsigned i = 0; i < v->addresses_n; i++) {
        const struct status_address *a = &v->addresses[i];
        const char *colon = a->why[0] != 0 ? ": " : "";
        if (strcmp(a->state, "unheld") == 0)
            buf_printf(reason(down), "address %s has no holder%s%s", a->address, colon, a->why);
        else if (strcmp(a->state, "unknown") == 0 && v->reaches_tree)
            buf_printf(reason(degraded), "address %s: its holder is not known", a->address);
        else if (a->why[0] != 0)
            buf_printf(reason(degraded), "address %s: %s", a->address, a->why);
    }
}

static void judge_service(const struct status_view *v, unsigned from, unsigned to,
                          struct reasons *down, struct reasons *degraded)
{
    const struct status_instance *first_bad = NULL;
    unsigned healthy = 0, failing = 0, checking = 0;

    for (unsigned i = from; i < to; i++) {
        const struct status_instance *s = &v->instances[i];
        healthy += strcmp(s->state, "healthy") == 0;
        checking += strcmp(s->state, "checking") == 0;
        if (strcmp(s->state, "failing") == 0) {
            failing++;
            if (first_bad == NULL)
                first_bad = s;
        }
    }
    if (healthy > 0 && failing == 0)
        return;
    struct buf *out = healthy == 0 && checking == 0 ? reason(down)
                      : failing > 0 || healthy == 0 ? reason(degraded)
                                                    : NULL;
    if (out == NULL)
        return;
    if (healthy == 0 && failing == 0 && checking > 0)
        buf_printf(out, "service %s: %u instances are being checked",
                   v->instances[from].service, checking);
    else if (healthy == 0)
        buf_printf(out, "service %s has no healthy instance", v->instances[from].service);
    else
        buf_printf(out, "service %s: %u of %u instances fail", v->instances[from].service,
                   failing, to - from);
    if (first_bad != NULL)
        buf_printf(out, " (%s: %s)", first_bad->name, first_bad->why);
}

static void judge_services(const struct status_view *v, struct reasons *down,
                           struct reasons *degraded)
{
    for (unsigned from = 0, to; from < v->instances_n; from = to) {
        to = from;
        while (to < v->instances_n &&
               strcmp(v->instances[to].service, v->instances[from].service) == 0)
            to++;
        judge_service(v, from, to, down, degraded);
    }
    for (unsigned i = 0; i < v->pools_n; i++)
        if (v->pools[i].is_kept)
            buf_printf(reason(degraded), "pool %s: %s", v->pools[i].service, v->pools[i].why);
    if (v->balance_why[0] != 0)
        buf_printf(reason(degraded), "HAProxy on %s: %s", v->machine, v->balance_why);
    if (v->site_why[0] != 0)
        buf_printf(reason(degraded), "the applied site is refused: %s", v->site_why);
    if (v->is_cut_short)
        buf_printf(reason(degraded),
                   "agents look only at %u znodes and %u MiB below /muster and /services, and "
                   "there is more: delete what nobody needs",
                   MIRROR_NODES_MAX, MIRROR_BYTES_MAX >> 20);
}

static bool has_no_margin(const struct status_view *v)
{
    unsigned voters, reachable;

    if (v->server == NULL || !v->server->has_quorum)
        return false;
    count_voters(v->server, &voters, &reachable);
    return voters > 0 && reachable <= voters / 2 + 1;
}

int status_verdict(const struct status_view *v, struct buf *out)
{
    static const char margin[] = "one more loss stops writing";
    struct reasons down = {.n = 0}, degraded = {.n = 0};
    int exit_code = STATUS_OK;

    judge_tree(v, &degraded);
    judge_addresses(v, &down, &degraded);
    judge_services(v, &down, &degraded);
    judge_machines(v, &degraded);
    judge_disk(v, &degraded);
    if (down.n + degraded.n > 0) {
        exit_code = down.n > 0 ? STATUS_DOWN : STATUS_DEGRADED;
        buf_add_str(out, down.n > 0 ? "DOWN: " : "DEGRADED: ");
        buf_add(out, down.text.data, down.text.len);
        if (down.n > 0 && degraded.n > 0)
            buf_add_str(out, "; ");
        buf_add(out, degraded.text.data, degraded.text.len);
        if (has_no_margin(v))
            buf_printf(out, "; %s", margin);
    } else if (has_no_margin(v)) {
        buf_printf(out, "OK, but %s", margin);
    } else if (v->server != NULL && v->server->disk.is_low) {
        buf_add_str(out, "OK, but the disk of this server is nearly full: ");
        print_room(out, &v->server->disk);
    } else if (v->site == NULL) {
        buf_add_str(out, "OK, but no site is applied yet");
    } else {
        buf_add_str(out, "OK");
    }
    buf_free(&down.text);
    buf_free(&degraded.text);
    return exit_code;
}

/* ---- JSON ---- */

/* What is not UTF-8 came through our own checks as text of others: shown as "?". */
static json_t *text(const char *s)
{
    if (s == NULL)
        return json_null();
    json_t *j = json_string(s);
    if (j != NULL)
        return j;
    struct buf ascii = {0};
    for (; *s != 0; s++)
        buf_add_u8(&ascii, (unsigned char)*s < 0x80 ? (uint8_t)*s : '?');
    j = json_string(buf_text(&ascii));
    buf_free(&ascii);
    CHECK(j != NULL);
    return j;
}

static json_t *number(uint64_t v)
{
    return v > INT64_MAX ? json_null() : json_integer((json_int_t)v);
}

static json_t *quorum_json(const struct status_server *s)
{
    unsigned voters, reachable;

    if (s == NULL)
        return json_null();
    count_voters(s, &voters, &reachable);
    json_t *members = json_array();
    for (unsigned i = 0; i < s->members_n && i < STATUS_MEMBERS_MAX; i++) {
        const struct status_member *m = &s->members[i];
        json_array_append_new(
            members, json_pack("{s:o, s:o, s:b, s:b, s:o}", "name", text(m->name), "address",
                               text(m->address), "voter", (int)m->is_voter, "reachable",
                               (int)m->is_reachable, "age_ms", number(m->age_ms)));
    }
    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:i, s:i, s:o}", "has_quorum",
                     (int)s->has_quorum, "role", text(s->role), "leader", text(s->leader),
                     "term", number(s->term), "commit_index", number(s->commit_index), "voters",
                     (int)voters, "reachable", (int)reachable, "members", members);
}

static json_t *disk_json(const struct status_server *s)
{
    const struct status_disk *d = s != NULL ? &s->disk : NULL;

    if (d == NULL || d->room == NULL)
        return json_null();
    return json_pack("{s:o, s:o, s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:f, s:o, s:o}", "room",
                     text(d->room), "ensemble_room", text(d->ensemble_room), "refuses",
                     (int)d->refuses, "slow", (int)d->is_slow, "behind", (int)d->is_behind,
                     "free_bytes", number(d->free_bytes), "reserve_bytes",
                     number(d->reserve_bytes), "of_reserve_bytes", number(d->of_reserve_bytes),
                     "sync_last_ms", number(d->last_ms), "sync_average_ms",
                     (double)d->average_us / 1000, "sync_most_ms", number(d->most_ms),
                     "sync_running_ms", number(d->running_ms));
}

static json_t *ensemble_json(const struct status_ensemble *e)
{
    char session[24];

    if (e == NULL)
        return json_null();
    (void)snprintf(session, sizeof session, "0x%llx", (unsigned long long)e->session);
    return json_pack("{s:b, s:o, s:o, s:o, s:s, s:I, s:i, s:o, s:o}", "connected",
                     (int)e->is_connected, "server", text(e->server), "chroot", text(e->chroot),
                     "connected_ms", e->is_connected ? number(e->connected_ms) : json_null(),
                     "session", session, "zxid", (json_int_t)e->zxid, "timeout_ms",
                     (int)e->timeout_ms, "trusted_ms_left", number(e->trusted_ms_left), "why",
                     text(e->why));
}

static json_t *machines_json(const struct status_view *v)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < v->machines_n; i++) {
        const struct status_machine *m = &v->machines[i];
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "name", text(m->name), "address",
                            text(m->address), "state", text(m->state), "role", text(m->role),
                            "age_ms", number(m->age_ms), "why", text(m->why)));
    }
    return list;
}

static json_t *addresses_json(const struct status_view *v)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < v->addresses_n; i++) {
        const struct status_address *a = &v->addresses[i];
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o, s:o, s:o}", "address",
                                        text(a->address), "holder", text(a->holder), "state",
                                        text(a->state), "why", text(a->why), "lease_ms_left",
                                        a->is_here ? number(a->lease_ms_left) : json_null()));
    }
    return list;
}

static json_t *services_json(const struct status_view *v)
{
    json_t *list = json_array();

    for (unsigned from = 0, to; from < v->instances_n; from = to) {
        json_t *instances = json_array();
        unsigned healthy = 0;
        for (to = from; to < v->instances_n &&
                        strcmp(v->instances[to].service, v->instances[from].service) == 0;
             to++) {
            const struct status_instance *s = &v->instances[to];
            healthy += strcmp(s->state, "healthy") == 0;
            json_array_append_new(
                instances,
                json_pack("{s:o, s:o, s:o, s:o, s:o}", "name", text(s->name), "machine",
                          text(s->machine), "state", text(s->state), "why", text(s->why),
                          "since_s", s->since_s < 0 ? json_null() : json_integer(s->since_s)));
        }
        struct buf pool = {0};
        buf_printf(&pool, "%u of %u healthy", healthy, to - from);
        json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name",
                                              text(v->instances[from].service), "pool",
                                              buf_text(&pool), "instances", instances));
        buf_free(&pool);
    }
    return list;
}

static json_t *pools_json(const struct status_view *v)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < v->pools_n; i++) {
        const struct status_pool *p = &v->pools[i];
        json_array_append_new(list, json_pack("{s:o, s:i, s:i, s:i, s:b, s:o}", "service",
                                              text(p->service), "listen", (int)p->listen, "on",
                                              (int)p->on, "slots", (int)p->slots, "kept",
                                              (int)p->is_kept, "why", text(p->why)));
    }
    return list;
}

int status_json(const struct status_view *v, struct buf *out)
{
    struct buf verdict = {0};
    int exit_code = status_verdict(v, &verdict);

    json_t *j = json_pack(
        "{s:o, s:i, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}}",
        "verdict", text(buf_text(&verdict)), "exit", exit_code, "site", text(v->site),
        "machine", text(v->machine), "as_of_ms_ago", number(v->as_of_ms_ago), "lease_ms",
        (int)v->lease_ms, "quorum", quorum_json(v->server), "ensemble",
        ensemble_json(v->ensemble), "disk", disk_json(v->server), "machines", machines_json(v),
        "addresses", addresses_json(v), "services", services_json(v), "balance", pools_json(v),
        "refused", "sites", number(v->site_refused_total), "pools",
        number(v->pools_refused_total), "address_conflicts", number(v->conflicts_total));
    CHECK(j != NULL);
    char *dump = json_dumps(j, JSON_COMPACT);
    CHECK(dump != NULL);
    buf_add_str(out, dump);
    mem_free(dump);
    json_decref(j);
    buf_free(&verdict);
    return exit_code;
}
