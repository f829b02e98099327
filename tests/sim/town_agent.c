/* SPDX-License-Identifier: Apache-2.0 */
/* Machines' agents: the production agent, mirror and client; and of the machine what they
 * touch: a kernel that holds addresses until their lifetime ends, checks, HAProxy's file.
 *
 * Checked: at most one machine answers for an address, at each moment that one begins to or
 * goes on; none is taken while a foreign machine has it; a pool that had servers is never
 * without. At the end each address has a holder, evenly, and each pool what is healthy.
 */
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/reached.h"
#include "town.h"

enum { ADDRESSES_MAX = 4, SESSION_MS = 2000 /* of an agent */ };
enum { KERNEL_LATE_US = 30000, WORK_US = 20000, PROBE_OLD_US = 3000000 };

struct work;
struct kernel_address {
    bool is_there;
    uint64_t until_ms;   /* the kernel's clock */
    uint64_t generation; /* counts changes: an end that was put off is void */
};

struct town_agent {
    struct town *town;
    struct server *server; /* of the same machine; one process */
    unsigned n;
    char name[16], address[20];
    struct shell shell;
    struct agent *agent; /* NULL: down */
    uint64_t life, timer_us;
    struct kernel_address kernel[ADDRESSES_MAX];
    uint64_t busy_until_us[ADDRESSES_MAX]; /* the host works on an address in order */
    struct work *adding[ADDRESSES_MAX];    /* under way */
    uint64_t probed_us[ADDRESSES_MAX];     /* it was looked for last, */
    uint64_t probed_ms[ADDRESSES_MAX];     /* ... by the machine's own clock */
    struct pipe peers[TOWN_SERVERS_MAX];
    bool is_failing;                 /* its instance */
    bool pool[TOWN_SERVERS_MAX + 1]; /* HAProxy sends to these machines */
    bool had_pool, has_news;
};

/* A thing that the host does, until it is done. */
struct work {
    struct town_agent *a;
    uint64_t life;
    enum agent_action_type type;
    uint64_t op, until_ms;
    unsigned address;
    bool failing;
};

struct foreign {
    uint64_t until_us[ADDRESSES_MAX], since_us[ADDRESSES_MAX];
};
static struct foreign foreign; /* of the one world that runs; reset by the first agent */

static void address_text(unsigned i, char out[20]) { snprintf(out, 20, "10.0.1.%u", 100 + i); }

static unsigned address_number(struct town_agent *a, const char *text)
{
    char name[20];

    for (unsigned i = 0; i < a->town->addresses_n; i++) {
        address_text(i, name);
        if (strcmp(name, text) == 0)
            return i;
    }
    world_fail(&a->town->w, "%s: an address that is not in the site: %s", a->name, text);
}

static uint64_t now_ms(const struct town_agent *a)
{
    return world_host_ms(&a->town->w, a->server->host);
}

/* ---- the kernel ---- */

static bool has(const struct town_agent *a, unsigned address)
{
    return a->kernel[address].is_there;
}

/* What no lease covers (promise 3): where a kernel's timers have stood, it goes on answering
 * for up to what was left of the lease. It is not answering while it stands. What was asked for
 * after that is a lease like any other. */
static bool may_answer_late(const struct town_agent *a, unsigned address)
{
    const struct world *w = &a->town->w;
    const struct world_host *h = &w->hosts[a->server->host];
    uint32_t ms = a->town->lease_ms > SESSION_MS ? a->town->lease_ms : SESSION_MS;

    return world_timers_stood(w, a->server->host, (uint64_t)ms * 1010 + KERNEL_LATE_US) &&
           a->kernel[address].until_ms <= h->stood_at_ms + ms;
}

static bool excused(const struct town_agent *a, const struct town_agent *b, unsigned address)
{
    if (!may_answer_late(a, address) && !may_answer_late(b, address))
        return false;
    REACHED(sim_answers_late);
    world_note(&a->town->w, "%s and %s: one of them answers late", a->name, b->name);
    return true;
}

static void look_alone(struct town_agent *a, unsigned address)
{
    struct town *t = a->town;

    for (unsigned i = 0; i < t->agents_n; i++)
        if (t->agents[i] != a && has(t->agents[i], address) &&
            !world_is_asleep(&t->w, t->agents[i]->server->host) &&
            !excused(a, t->agents[i], address))
            world_fail(&t->w, "%s and %s both answer for address %u", a->name,
                       t->agents[i]->name, address);
}

/* As the shell of a machine does it: from the server beside the agent. */
static void tell_members(struct town_agent *a)
{
    const char *names[RAFT_MEMBERS_MAX];

    if (a->server->member == NULL)
        return;
    const struct raft_members *all = raft_members(member_raft(a->server->member));
    for (unsigned i = 0; i < all->n; i++)
        names[i] = all->v[i].name;
    agent_members(a->agent, names, all->n);
}

static void tell(struct town_agent *a, const struct agent_result *r)
{
    if (a->agent == NULL)
        return;
    agent_time(a->agent, now_ms(a), world_host_wall_ms(&a->town->w, a->server->host));
    agent_result(a->agent, r);
    a->has_news = true;
    shell_turn(&a->shell);
}

/* Its timers' clock: what it slept is missing. */
static uint64_t kernel_ms(const struct town_agent *a)
{
    return now_ms(a) - a->town->w.hosts[a->server->host].slept_ms;
}

/* What the kernel has told while the process stood is there when it goes on. */
static void expired_due(void *ctx, uint64_t address, uint64_t life)
{
    struct town_agent *a = ctx;
    struct world *w = &a->town->w;
    char text[20];

    if (life != a->life)
        return;
    if (world_is_frozen(w, a->server->host)) {
        world_at(w, w->hosts[a->server->host].frozen_until_us, expired_due, a, address, life);
        return;
    }
    address_text((unsigned)address, text);
    tell(a, &(struct agent_result){.type = AGENT_EXPIRED, .address = text});
}

static void gone_due(void *ctx, uint64_t address, uint64_t generation)
{
    struct town_agent *a = ctx;
    struct kernel_address *k = &a->kernel[address];
    struct world *w = &a->town->w;
    unsigned host = a->server->host;

    if (!k->is_there || k->generation != generation)
        return;
    if (world_is_asleep(w, host)) {
        world_at(w, w->hosts[host].asleep_until_us, gone_due, a, address, generation);
        return;
    }
    if (kernel_ms(a) < k->until_ms) { /* its clock has stood, or become slow */
        world_at(w,
                 world_host_due(w, host, k->until_ms + w->hosts[host].slept_ms) +
                     world_below(w, KERNEL_LATE_US),
                 gone_due, a, address, generation);
        return;
    }
    world_note(&a->town->w, "%s: address %u is over", a->name, (unsigned)address);
    k->is_there = false;
    k->generation++;
    expired_due(a, address, a->life);
}

/* The end of its lifetime is by the machine's clock, and a kernel is a little late. */
static void hold(struct town_agent *a, unsigned address, uint64_t until_ms)
{
    struct world *w = &a->town->w;
    struct kernel_address *k = &a->kernel[address];

    k->is_there = true;
    k->until_ms = until_ms - w->hosts[a->server->host].slept_ms;
    world_at(w, world_host_due(w, a->server->host, until_ms) + world_below(w, KERNEL_LATE_US),
             gone_due, a, address, ++k->generation);
    look_alone(a, address);
}

void town_agent_wakes(void *town, uint64_t host, uint64_t unused)
{
    struct town *t = town;

    (void)unused;
    for (unsigned k = 0; k < t->agents_n; k++)
        for (unsigned i = 0; i < t->addresses_n && t->agents[k]->server->host == host; i++)
            if (has(t->agents[k], i))
                look_alone(t->agents[k], i);
}

static void drop(struct town_agent *a, unsigned address)
{
    a->kernel[address].is_there = false;
    a->kernel[address].generation++;
}

/* ---- what the host does ---- */

static bool is_taken(const struct town_agent *a, unsigned address)
{
    const struct town *t = a->town;

    if (foreign.until_us[address] > t->w.now_us && foreign.since_us[address] <= t->w.now_us)
        return true;
    for (unsigned i = 0; i < t->agents_n; i++)
        if (t->agents[i] != a && has(t->agents[i], address) &&
            !world_is_asleep(&t->w, t->agents[i]->server->host) &&
            world_reaches(&t->w, t->agents[i]->server->host, a->server->host) &&
            world_reaches(&t->w, a->server->host, t->agents[i]->server->host))
            return true;
    return false;
}

/* Another machine has had it for long, and this one has seen it, or has not looked for long: by
 * its own clock, since nobody notices a pause in which the clock stands (docs/trust.md). */
static bool is_known_taken(const struct town_agent *a, unsigned address)
{
    uint64_t now_us = a->town->w.now_us;

    return foreign.until_us[address] > now_us &&
           foreign.since_us[address] + PROBE_OLD_US < now_us &&
           (a->probed_us[address] >= foreign.since_us[address] ||
            now_ms(a) - a->probed_ms[address] > PROBE_OLD_US / 1000);
}

static void work_address(struct work *k, struct agent_result *r)
{
    struct town_agent *a = k->a;

    if (k->type == AGENT_ADDRESS_PROBE) {
        r->type = AGENT_PROBED;
        a->probed_us[k->address] = a->town->w.now_us;
        a->probed_ms[k->address] = now_ms(a);
        r->text = is_taken(a, k->address) ? "02:00:00:00:00:01" : "";
    } else if (k->type == AGENT_ADDRESS_REMOVE) {
        if (has(a, k->address))
            world_note(&a->town->w, "%s: address %u is removed", a->name, k->address);
        drop(a, k->address);
        r->type = AGENT_REMOVED;
    } else if (k->until_ms <= now_ms(a)) {
        r->type = AGENT_ADD_FAILED;
        r->text = "too late";
    } else {
        if (is_known_taken(a, k->address))
            world_fail(&a->town->w,
                       "%s takes address %u, which another machine has had for long", a->name,
                       k->address);
        world_note(&a->town->w, "%s has address %u for %u ms", a->name, k->address,
                   (unsigned)(k->until_ms - now_ms(a)));
        hold(a, k->address, k->until_ms);
        town_faults_holds(a->server);
        r->type = AGENT_ADDED;
    }
}

static void work_due(void *ctx, uint64_t unused, uint64_t b)
{
    struct work *k = ctx;
    struct town_agent *a = k->a;
    struct world *w = &a->town->w;
    char text[20];

    (void)unused, (void)b;
    if (a->agent == NULL || k->life != a->life) {
        mem_free(k);
        return;
    }
    if (world_is_frozen(w, a->server->host)) {
        world_at(w, w->hosts[a->server->host].frozen_until_us, work_due, k, 0, 0);
        return;
    }
    struct agent_result r = {.op = k->op};
    if (k->type == AGENT_ADDRESS_ADD && a->adding[k->address] == k)
        a->adding[k->address] = NULL;
    if (k->type == AGENT_CHECK_RUN) {
        r.type = AGENT_CHECKED;
        r.check.outcome = k->failing ? SERVICE_REFUSED : SERVICE_OK;
        r.check.took_ms = 1;
    } else if (k->type == AGENT_BALANCE_SET) {
        r.type = AGENT_BALANCE_DONE;
    } else {
        address_text(k->address, text);
        r.address = text;
        work_address(k, &r);
    }
    mem_free(k);
    tell(a, &r);
}

static void begin_work(struct town_agent *a, const struct agent_action *act)
{
    struct world *w = &a->town->w;
    struct work *k = mem_new(struct work);
    uint64_t us = world_between(w, 100, WORK_US);

    *k = (struct work){.a = a,
                       .life = a->life,
                       .type = act->type,
                       .op = act->op,
                       .until_ms = act->until_ms,
                       .failing = a->is_failing};
    if (act->type == AGENT_ADDRESS_PROBE)
        us = world_between(w, 1000, a->town->probe_us);
    if (act->type == AGENT_ADDRESS_REMOVE)
        us = world_between(w, 100, a->town->remove_us);
    if (act->address != NULL) {
        k->address = address_number(a, act->address);
        if (a->busy_until_us[k->address] > w->now_us)
            us += a->busy_until_us[k->address] - w->now_us;
        a->busy_until_us[k->address] = w->now_us + us;
        if (act->type == AGENT_ADDRESS_ADD)
            a->adding[k->address] = k;
    }
    world_at(w, w->now_us + us, work_due, k, 0, 0);
}

static void renew(struct town_agent *a, const struct agent_action *act)
{
    unsigned address = address_number(a, act->address);

    if (a->adding[address] != NULL) /* in order: it comes after that */
        a->adding[address]->until_ms = act->until_ms;
    else if (has(a, address) && act->until_ms > now_ms(a))
        hold(a, address, act->until_ms);
    else
        tell(a, &(struct agent_result){.type = AGENT_EXPIRED, .address = act->address});
}

/* HAProxy's file says where it sends to: "server s1 10.0.0.2:3000 ... [disabled]". */
static void balance(struct town_agent *a, const struct agent_action *act)
{
    bool any = false;

    memset(a->pool, 0, sizeof a->pool);
    for (const char *p = act->config; (p = strstr(p, "    server ")) != NULL; p += 8) {
        unsigned host = 0;
        char line[200];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(p, "\n"), p);
        if (strstr(line, "disabled") == NULL &&
            sscanf(line, "    server %*s 10.0.0.%u:", &host) == 1 && host > 0 &&
            host <= TOWN_SERVERS_MAX)
            a->pool[host - 1] = any = true;
    }
    if (a->had_pool && !any)
        world_fail(&a->town->w, "%s: its pool is empty", a->name);
    a->had_pool = a->had_pool || any;
    begin_work(a, act);
}

static void from_agent(void *ctx, const uint8_t *data, size_t len)
{
    struct pipe *p = ctx;
    struct town *t = (struct town *)(void *)p->w;
    struct town_agent *to = NULL, *from = NULL;

    for (unsigned i = 0; i < t->agents_n; i++) {
        if (t->agents[i]->server->host == p->to)
            to = t->agents[i];
        if (t->agents[i]->server->host == p->from)
            from = t->agents[i];
    }
    if (to == NULL || to->agent == NULL || from == NULL || data == NULL)
        return;
    tell_members(to);
    tell(to, &(struct agent_result){
                 .type = AGENT_PEER, .text = from->name, .data = data, .len = len});
}

static void carry_out(struct town_agent *a, const struct agent_action *act)
{
    switch (act->type) {
    case AGENT_ADDRESS_PROBE:
    case AGENT_ADDRESS_ADD:
    case AGENT_ADDRESS_REMOVE:
    case AGENT_CHECK_RUN: begin_work(a, act); break;
    case AGENT_ADDRESS_RENEW: renew(a, act); break;
    case AGENT_BALANCE_SET: balance(a, act); break;
    case AGENT_PEER_SEND:
        for (unsigned i = 0; i < a->town->agents_n; i++)
            if (strcmp(a->town->agents[i]->name, act->machine) == 0 &&
                !world_chance(&a->town->w, a->town->w.net.lose_permille))
                pipe_send(&a->peers[i], act->data, act->len);
        break;
    case AGENT_NOTE:
        world_note(&a->town->w, "%s: %s %s: %s", a->name, act->ev,
                   act->thing != NULL ? act->thing : "", act->why != NULL ? act->why : "");
        break;
    case AGENT_ADDRESS_ANNOUNCE:
    case AGENT_CHECK_STOP:
    case AGENT_BALANCE_STOP: break;
    }
}

/* ---- the loop ---- */

static void before(void *ctx)
{
    struct town_agent *a = ctx;

    agent_time(a->agent, now_ms(a), world_host_wall_ms(&a->town->w, a->server->host));
}

static void timer_due(void *ctx, uint64_t life, uint64_t due_us)
{
    struct town_agent *a = ctx;
    struct world *w = &a->town->w;

    if (a->agent == NULL || life != a->life || due_us != a->timer_us)
        return;
    if (world_is_frozen(w, a->server->host)) {
        a->timer_us = w->hosts[a->server->host].frozen_until_us + world_below(w, 20000);
        world_at(w, a->timer_us, timer_due, a, life, a->timer_us);
        return;
    }
    a->timer_us = WORLD_NEVER;
    shell_turn(&a->shell);
}

static void after(void *ctx)
{
    struct town_agent *a = ctx;
    struct world *w = &a->town->w;
    struct agent_action act;

    for (unsigned i = 0; i < 8; i++) {
        a->has_news = false;
        tell_members(a);
        agent_flush(a->agent);
        while (agent_action_take(a->agent, &act))
            carry_out(a, &act);
        if (!a->has_news)
            break;
    }
    uint64_t due_us = world_host_due(w, a->server->host, agent_deadline(a->agent));
    if (due_us < a->timer_us) {
        a->timer_us = due_us;
        world_at(w, due_us, timer_due, a, a->life, due_us);
    }
}

static void on_event(void *ctx, enum client_event ev)
{
    struct town_agent *a = ctx;

    agent_client_event(a->agent, ev);
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct town_agent *a = ctx;

    agent_client_watch(a->agent, type, path);
}

/* ---- life ---- */

void town_agent_start(struct town *t, unsigned n)
{
    struct town_agent *a = t->agents[n];
    struct world *w = &t->w;
    char id[16];

    if (a->agent != NULL)
        return;
    snprintf(id, sizeof id, "id-%u", n);
    for (unsigned i = 0; i < ADDRESSES_MAX; i++)
        drop(a, i), a->adding[i] = NULL; /* what an earlier process left */
    const struct client_options c = {.timeout_ms = SESSION_MS,
                                     .seed = rng_next(&w->rng),
                                     .servers = TOWN_SERVERS_MAX,
                                     .first = a->server->n,
                                     .on_event = on_event,
                                     .on_watch = on_watch,
                                     .ctx = a};
    const struct agent_options o = {.machine = a->name,
                                    .address = a->address,
                                    .id = id,
                                    .version = "1",
                                    .seed = rng_next(&w->rng),
                                    .balance_socket = "/run/haproxy"};
    a->life++;
    a->timer_us = WORLD_NEVER;
    a->had_pool = false;
    shell_init(&a->shell, t, a->server->host, client_new(&c));
    a->agent = agent_new(&o, a->shell.client);
    a->shell.before = before;
    a->shell.after = after;
    a->shell.ctx = a;
    shell_turn(&a->shell);
}

void town_agent_stop(struct town *t, unsigned n, bool power_loss)
{
    struct town_agent *a = t->agents[n];

    if (power_loss) /* what the kernel holds goes too; after a kill it stays until its end */
        for (unsigned i = 0; i < ADDRESSES_MAX; i++)
            drop(a, i);
    for (unsigned i = 0; i < TOWN_SERVERS_MAX; i++)
        if (a->peers[i].w != NULL)
            pipe_break(&a->peers[i]);
    if (a->agent == NULL)
        return;
    if (power_loss && a->shell.link != NULL)
        link_break(a->shell.link, false);
    agent_free(a->agent);
    a->agent = NULL;
    shell_stop(&a->shell);
}

void town_agent_add(struct town *t, struct server *s)
{
    struct town_agent *a = mem_new(struct town_agent);

    if (t->agents_n == 0)
        foreign = (struct foreign){.until_us = {0}};
    CHECK(t->agents_n == s->n);
    a->town = t;
    a->server = s;
    a->n = t->agents_n;
    t->agents[t->agents_n++] = a;
    snprintf(a->name, sizeof a->name, "s%u", s->n);
    snprintf(a->address, sizeof a->address, "10.0.0.%u", s->n + 1);
    for (unsigned i = 0; i < t->agents_n; i++) {
        struct town_agent *o = t->agents[i];
        pipe_init(&o->peers[a->n], &t->w, o->server->host, s->host, from_agent,
                  &o->peers[a->n]);
        pipe_init(&a->peers[i], &t->w, s->host, o->server->host, from_agent, &a->peers[i]);
    }
}

void town_agent_site(struct town *t, struct buf *out)
{
    char text[20];

    buf_printf(out, "site: s\nlease: %ums\naddresses:\n", t->lease_ms);
    for (unsigned i = 0; i < t->addresses_n; i++) {
        address_text(i, text);
        buf_printf(out, "  - %s\n", text);
    }
    if (t->has_balance)
        buf_printf(out, "services:\n  web:\n    port: 3000\n    check: { tcp: true }\n"
                        "balance:\n  web: { listen: 80 }\n");
}

void town_agent_foreign(struct town *t)
{
    struct world *w = &t->w;

    if (t->addresses_n == 0)
        return;
    unsigned i = (unsigned)world_below(w, t->addresses_n);
    for (unsigned k = 0; k < t->agents_n; k++)
        if (has(t->agents[k], i))
            return;
    if (foreign.until_us[i] > w->now_us)
        return;
    foreign.since_us[i] = w->now_us;
    foreign.until_us[i] = w->now_us + world_between(w, 500000, 6000000);
    world_note(w, "a foreign machine has address %u", i);
}

void town_agent_quiet(struct town *t)
{
    for (unsigned i = 0; i < ADDRESSES_MAX; i++)
        foreign.until_us[i] = 0;
    if (t->agents_n > 1 && t->has_balance && world_chance(&t->w, 500))
        t->agents[world_below(&t->w, t->agents_n)]->is_failing = true;
}

const char *town_agent_not_live(struct town *t)
{
    static char text[100];
    unsigned held[TOWN_SERVERS_MAX] = {0}, most = 0, least = ADDRESSES_MAX;

    for (unsigned k = 0; k < t->agents_n; k++)
        if (t->agents[k]->agent == NULL ||
            client_state(t->agents[k]->shell.client) != CLIENT_CONNECTED)
            return "an agent is not connected";
    for (unsigned i = 0; i < t->addresses_n; i++) {
        unsigned holders = 0;
        for (unsigned k = 0; k < t->agents_n; k++)
            if (has(t->agents[k], i)) {
                holders++;
                held[k]++;
            }
        if (holders != 1) {
            snprintf(text, sizeof text, "address %u has no holder", i);
            return text;
        }
    }
    for (unsigned k = 0; k < t->agents_n; k++) {
        most = held[k] > most ? held[k] : most;
        least = held[k] < least ? held[k] : least;
    }
    if (t->agents_n > 0 && most > least + 1)
        return "the addresses are not spread evenly";
    for (unsigned k = 0; t->has_balance && k < t->agents_n; k++)
        for (unsigned i = 0; i < t->agents_n; i++)
            if (t->agents[k]->pool[i] != !t->agents[i]->is_failing) {
                snprintf(text, sizeof text, "s%u %s the instance on s%u", k,
                         t->agents[k]->pool[i] ? "balances to" : "does not balance to", i);
                return text;
            }
    return NULL;
}

void town_agent_free(struct town *t)
{
    for (unsigned k = 0; k < t->agents_n; k++)
        if (t->agents[k]->agent != NULL) {
            struct agent_counters n;
            agent_counters(t->agents[k]->agent, &n);
            world_note(&t->w, "%s: failsafe rounds %u, kept %u; addresses taken %u",
                       t->agents[k]->name, (unsigned)n.failsafe_rounds_total,
                       (unsigned)n.failsafe_kept_total, (unsigned)n.addresses_taken_total);
        }
    for (size_t i = 0; i < t->w.events_n; i++)
        if (t->w.heap[i].run == work_due)
            mem_free(t->w.heap[i].ctx);
    for (unsigned k = 0; k < t->agents_n; k++) {
        struct town_agent *a = t->agents[k];
        if (a->agent != NULL) {
            agent_free(a->agent);
            shell_stop(&a->shell);
        }
        for (unsigned i = 0; i < TOWN_SERVERS_MAX; i++)
            if (a->peers[i].w != NULL)
                pipe_break(&a->peers[i]);
        mem_free(a);
    }
}
