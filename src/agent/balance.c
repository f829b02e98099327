/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/balance.h"

#include <stdio.h>
#include <string.h>

#include "agent/text.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"

/* Where a slot points that was never used: a port on which nothing listens. It is disabled,
 * so nothing is ever sent there. */
#define NOWHERE_ADDRESS "127.0.0.1"
#define NOWHERE_PORT 9

static void pool_free(struct balance_pool *p)
{
    mem_free(p->slots);
    mem_free(p->running);
}

void balance_free(struct balance *b)
{
    for (unsigned i = 0; i < b->n; i++)
        pool_free(&b->pools[i]);
    mem_free(b->pools);
    mem_free(b->commands);
    buf_free(&b->config);
    buf_free(&b->command_text);
    *b = (struct balance){.n = 0};
}

static struct balance_pool *find(const struct balance *b, const char *service)
{
    for (unsigned i = 0; i < b->n; i++)
        if (strcmp(b->pools[i].service, service) == 0)
            return &b->pools[i];
    return NULL;
}

const struct balance_pool *balance_find(const struct balance *b, const char *service)
{
    return find(b, service);
}

void balance_set_site(struct balance *b, const struct site *site)
{
    struct balance_pool *pools = mem_new_array(struct balance_pool, site->balance_n + 1);

    for (unsigned i = 0; i < site->balance_n; i++) {
        struct balance_pool *was = find(b, site->balance[i].service);
        if (was != NULL) {
            pools[i] = *was;
            *was = (struct balance_pool){.listen = 0};
        }
        memcpy(pools[i].service, site->balance[i].service, sizeof pools[i].service);
        pools[i].listen = site->balance[i].listen;
    }
    for (unsigned i = 0; i < b->n; i++) {
        b->has_removed = b->has_removed || b->pools[i].running_n > 0;
        pool_free(&b->pools[i]);
    }
    mem_free(b->pools);
    b->pools = pools;
    b->n = site->balance_n;
}

/* ---- slots ---- */

static bool is_member(const struct balance_member *v, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(v[i].name, name) == 0)
            return true;
    return false;
}

static void grow_slots(struct balance_pool *p, unsigned need)
{
    unsigned n = (need + BALANCE_SPARE + 3) / 4 * 4;

    if (n > BALANCE_SLOTS_MAX)
        n = BALANCE_SLOTS_MAX;
    if (n <= p->slots_n)
        return;
    p->slots = mem_resize(p->slots, n * sizeof p->slots[0]);
    memset(p->slots + p->slots_n, 0, (n - p->slots_n) * sizeof p->slots[0]);
    p->slots_n = n;
}

/* The slot it has; else the one it had; else one that was never used; else any free one. */
static struct balance_slot *slot_for(struct balance_pool *p, const char *name)
{
    struct balance_slot *unused = NULL, *freed = NULL;

    for (unsigned i = 0; i < p->slots_n; i++) {
        struct balance_slot *s = &p->slots[i];
        if (strcmp(s->m.name, name) == 0)
            return s;
        if (s->m.name[0] == 0 && unused == NULL)
            unused = s;
        if (s->m.name[0] != 0 && !s->is_on && freed == NULL)
            freed = s;
    }
    return unused != NULL ? unused : freed;
}

static void set_members(struct balance_pool *p, const struct balance_member *v, unsigned n,
                        unsigned expected_n)
{
    /* Room for what is expected is made with the first configuration: later it would cost
     * a reload each. */
    if (p->slots_n == 0 || n > p->slots_n)
        grow_slots(p, n > expected_n ? n : expected_n);
    for (unsigned i = 0; i < p->slots_n; i++)
        if (p->slots[i].is_on && !is_member(v, n, p->slots[i].m.name))
            p->slots[i].is_on = false;
    p->left_out = 0;
    p->on_n = 0;
    for (unsigned i = 0; i < n; i++) {
        struct balance_slot *s = slot_for(p, v[i].name);
        if (s == NULL) {
            p->left_out++;
            continue;
        }
        s->m = v[i];
        s->is_on = true;
        p->on_n++;
    }
}

/* The registry says that there is none. */
static void refuse(struct balance *b, struct balance_pool *p, const struct balance_offer *o)
{
    bool is_reported = 2 * o->machines_saying_none > o->machines_known;

    if (p->is_guess || p->on_n == 0) {
        p->is_guess = o->expected_n > 0;
        set_members(p, o->expected, o->expected_n, o->expected_n);
    }
    if (!p->is_refused && !p->is_guess)
        b->refused_total++;
    p->is_refused = !p->is_guess;
    p->is_reported_down = is_reported;
    if (is_reported)
        (void)snprintf(p->why, sizeof p->why,
                       "no instance is healthy, say %u of %u machines; the last %u are kept",
                       o->machines_saying_none, o->machines_known, p->on_n);
    else if (p->is_guess)
        (void)snprintf(p->why, sizeof p->why,
                       "no instance is registered yet; the %u expected ones are tried",
                       p->on_n);
    else
        (void)snprintf(p->why, sizeof p->why,
                       "the registry names no instance; refused, the last %u are kept",
                       p->on_n);
}

void balance_offer(struct balance *b, const char *service, const struct balance_offer *o)
{
    struct balance_pool *p = find(b, service);

    if (p == NULL)
        return;
    if (o->members_n == 0 && !MUTANT(balance_empty_rendered)) {
        REACHED(balance_refused);
        refuse(b, p, o);
        return;
    }
    set_members(p, o->members, o->members_n, o->expected_n);
    p->is_guess = p->is_refused = p->is_reported_down = false;
    p->why[0] = 0;
    if (p->left_out > 0)
        (void)snprintf(p->why, sizeof p->why, "%u instances are left out; the limit is %d",
                       p->left_out, BALANCE_SLOTS_MAX);
}

/* ---- rendering ---- */

static const char *slot_address(const struct balance_slot *s)
{
    return s->m.name[0] != 0 ? s->m.address : NOWHERE_ADDRESS;
}

static unsigned slot_port(const struct balance_slot *s)
{
    return s->m.name[0] != 0 ? s->m.port : NOWHERE_PORT;
}

static void render_pool(struct buf *out, const struct balance_pool *p)
{
    buf_printf(out, "\nfrontend %s\n    bind :%u\n    default_backend %s\n", p->service,
               p->listen, p->service);
    buf_printf(out, "\nbackend %s\n    balance roundrobin\n", p->service);
    for (unsigned i = 0; i < p->slots_n; i++) {
        const struct balance_slot *s = &p->slots[i];
        buf_printf(out, "    server s%u %s:%u check%s", i + 1, slot_address(s), slot_port(s),
                   s->is_on ? "" : " disabled");
        if (s->m.name[0] != 0)
            buf_printf(out, " # %s", s->m.name);
        buf_add_str(out, "\n");
    }
}

/* The times are those with which no connection was lost when a server was killed, and none
 * took longer than 200 ms when its machine was: a check every 200 ms, a real request that
 * cannot connect marks its server down at once, and goes to another. */
static void render(struct balance *b, const char *site_name, const char *socket)
{
    struct buf *out = &b->config;

    buf_clear(out);
    buf_printf(out,
               "# Written by muster from the site file (site %s) and the registry.\n"
               "# Do not edit: it is written anew when they change.\n"
               "global\n"
               "    stats socket %s mode 600 level admin expose-fd listeners\n"
               "    hard-stop-after 60s\n"
               "    maxconn 4096\n"
               "\n"
               "defaults\n"
               "    mode http\n"
               "    timeout connect 200ms\n"
               "    timeout check 500ms\n"
               "    timeout queue 5s\n"
               "    timeout client 60s\n"
               "    timeout server 60s\n"
               "    timeout http-request 10s\n"
               "    timeout http-keep-alive 10s\n"
               "    option forwardfor\n"
               "    option redispatch 1\n"
               "    retries 2\n"
               "    default-server inter 200ms rise 2 fall 2 observe layer4 error-limit 1 "
               "on-error mark-down\n",
               site_name, socket);
    for (unsigned i = 0; i < b->n; i++)
        render_pool(out, &b->pools[i]);
}

static bool needs_reload(const struct balance *b)
{
    if (!b->is_running || b->has_removed)
        return true;
    for (unsigned i = 0; i < b->n; i++)
        if (b->pools[i].running_listen != b->pools[i].listen ||
            b->pools[i].running_n != b->pools[i].slots_n)
            return true;
    return false;
}

static void command(struct balance *b)
{
    buf_add_u8(&b->command_text, 0);
    b->commands_n++;
}

/* They are carried out one after the other, and visitors come in between: what comes comes
 * first. When the last instance was exchanged for one in a later slot there was none for some
 * milliseconds, and a visitor was told 503. */
static void pool_commands(struct balance *b, const struct balance_pool *p)
{
    struct buf *out = &b->command_text;

    for (unsigned i = 0; i < p->slots_n; i++) {
        const struct balance_slot *s = &p->slots[i], *was = &p->running[i];
        if (strcmp(slot_address(s), slot_address(was)) != 0 || slot_port(s) != slot_port(was)) {
            buf_printf(out, "set server %s/s%u addr %s port %u", p->service, i + 1,
                       slot_address(s), slot_port(s));
            command(b);
        }
        if (s->is_on && !was->is_on) {
            buf_printf(out, "set server %s/s%u state ready", p->service, i + 1);
            command(b);
        }
    }
    for (unsigned i = 0; i < p->slots_n; i++)
        if (!p->slots[i].is_on && p->running[i].is_on) {
            buf_printf(out, "set server %s/s%u state maint", p->service, i + 1);
            command(b);
        }
}

static void make_commands(struct balance *b)
{
    buf_clear(&b->command_text);
    b->commands_n = 0;
    for (unsigned i = 0; i < b->n && !b->reload; i++)
        pool_commands(b, &b->pools[i]);
    mem_grow(b->commands, b->commands_cap, b->commands_n);
    const char *at = (const char *)b->command_text.data;
    for (size_t i = 0; i < b->commands_n; i++) {
        b->commands[i] = at;
        at += strlen(at) + 1;
    }
}

/* What was handed out is what will run, if it succeeds; the wanted slots may change
 * before that is known. */
static void note_running(struct balance_pool *p)
{
    p->running_listen = p->listen;
    p->running_n = p->slots_n;
    mem_free(p->running);
    p->running = mem_dup(p->slots, p->slots_n * sizeof p->slots[0]);
}

enum balance_want balance_step(struct balance *b, uint64_t now_ms, uint64_t op,
                               const char *site_name, const char *socket)
{
    if (b->is_under_way || now_ms < b->retry_ms)
        return BALANCE_NOTHING;
    if (b->n == 0) {
        if (!b->is_running && !b->has_removed)
            return BALANCE_NOTHING;
        b->is_running = b->has_removed = b->has_run = false;
        return BALANCE_STOP;
    }
    for (unsigned i = 0; i < b->n; i++)
        if (b->pools[i].slots_n == 0)
            return BALANCE_NOTHING; /* not offered anything yet */
    b->reload = needs_reload(b);
    make_commands(b);
    if (!b->reload && b->commands_n == 0)
        return BALANCE_NOTHING;
    render(b, site_name, socket);
    for (unsigned i = 0; i < b->n; i++)
        note_running(&b->pools[i]);
    b->is_under_way = true;
    b->has_removed = false;
    b->op = op;
    b->sets_total++;
    b->reloads_total += b->reload;
    return BALANCE_SET;
}

void balance_done(struct balance *b, uint64_t op)
{
    if (!b->is_under_way || b->op != op)
        return;
    b->is_under_way = false;
    b->is_running = b->has_run = true;
    b->failed[0] = 0;
    b->retry_wait_ms = 0;
}

void balance_failed(struct balance *b, uint64_t op, uint64_t now_ms, const char *why)
{
    if (!b->is_under_way || b->op != op)
        return;
    b->is_under_way = false;
    b->is_running = false; /* not known any more: the next one is a reload */
    b->failed_total++;
    text_copy(b->failed, sizeof b->failed, why[0] != 0 ? why : "HAProxy refused it");
    b->retry_wait_ms = b->retry_wait_ms == 0 ? BALANCE_RETRY_MS : 2 * b->retry_wait_ms;
    if (b->retry_wait_ms > BALANCE_RETRY_MAX_MS)
        b->retry_wait_ms = BALANCE_RETRY_MAX_MS;
    b->retry_ms = now_ms + b->retry_wait_ms;
}

void balance_lost(struct balance *b)
{
    b->is_running = b->has_run = false;
    (void)snprintf(b->failed, sizeof b->failed, "HAProxy ended; it is started again");
}

uint64_t balance_deadline(const struct balance *b)
{
    return b->is_under_way || b->is_running || b->n == 0 ? BALANCE_NEVER : b->retry_ms;
}
