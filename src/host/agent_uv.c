/* SPDX-License-Identifier: Apache-2.0 */
#include "host/agent_uv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client_uv.h"
#include "host/addresses.h"
#include "host/check.h"
#include "host/clock.h"
#include "host/haproxy.h"

enum { ROUNDS_MAX = 64, SOCKET_ROOM = 128, ADDRESS_ROOM = 80 };

struct balance_request {
    struct balance_request *next;
    struct agent_uv *agent;
    uint64_t op;
};

enum stage { RUNNING, LEAVING, CLOSING, GONE };

struct agent_uv {
    uv_loop_t *loop;
    struct agent_uv_options options; /* its text is not kept, but for these: */
    char *dir, *haproxy_program, *chroot;
    char (*servers)[ADDRESS_ROOM]; /* foreign: as they were given */
    char balance_socket[SOCKET_ROOM];
    enum stage stage;
    bool is_turning, has_news; /* news: a result came while actions were carried out */
    struct client_uv *client;
    struct agent *agent;
    struct addresses *addresses;
    struct checks *checks;
    struct haproxy *haproxy;          /* NULL: there is none */
    struct balance_request *requests; /* that HAProxy works on */
    uv_timer_t timer, facts_timer;
    unsigned handles;
    void (*done)(void *ctx);
    void *done_ctx;
};

static uint64_t now(void) { return clock_now_ms(); }

/* ---- what comes back ---- */

/* Before anything that the core is told: what time it is. */
static void tell_time(struct agent_uv *a)
{
    agent_time(a->agent, clock_now_ms(), (int64_t)clock_wall_ms());
}

static void tell_members(struct agent_uv *a)
{
    struct status_server server = {0};
    const char *names[STATUS_MEMBERS_MAX];

    if (a->options.server_facts == NULL || !a->options.server_facts(a->options.ctx, &server))
        return;
    for (unsigned i = 0; i < server.members_n; i++)
        names[i] = server.members[i].name;
    agent_members(a->agent, names, server.members_n);
}

static void tell(struct agent_uv *a, const struct agent_result *r)
{
    if (a->agent == NULL)
        return;
    tell_time(a);
    agent_result(a->agent, r);
    a->has_news = true;
    if (!a->is_turning)
        client_uv_kick(a->client); /* which comes to decide() */
}

static void tell_address(struct agent_uv *a, enum agent_result_type type, uint64_t op,
                         const char *address, const char *text)
{
    const struct agent_result r = {.type = type, .op = op, .address = address, .text = text};

    tell(a, &r);
}

static void on_probed(void *ctx, uint64_t op, const char *address, const char *who,
                      const char *why)
{
    if (who != NULL)
        tell_address(ctx, AGENT_PROBED, op, address, who);
    else
        tell_address(ctx, AGENT_PROBE_FAILED, op, address, why);
}

static void on_expired(void *ctx, const char *address, const char *why)
{
    log_event(LOG_WARNING, "address_expired", LOG_S("address", address), LOG_S("why", why));
    tell_address(ctx, AGENT_EXPIRED, 0, address, why);
}

static void on_checked(void *ctx, uint64_t op, const struct service_result *result)
{
    const struct agent_result r = {.type = AGENT_CHECKED, .op = op, .check = *result};

    tell(ctx, &r);
}

static void tell_balance(struct agent_uv *a, uint64_t op, int err, const char *why)
{
    const struct agent_result r = {
        .type = err == 0 ? AGENT_BALANCE_DONE : AGENT_BALANCE_FAILED, .op = op, .text = why};

    tell(a, &r);
}

static void forget_request(struct balance_request *q)
{
    struct balance_request **at = &q->agent->requests;

    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    mem_free(q);
}

static void on_balanced(void *ctx, int err, const char *why)
{
    struct balance_request *q = ctx;
    struct agent_uv *a = q->agent;
    uint64_t op = q->op;

    forget_request(q);
    tell_balance(a, op, err, why);
}

static void on_haproxy_lost(void *ctx)
{
    const struct agent_result r = {.type = AGENT_BALANCE_LOST, .text = "HAProxy has ended"};

    tell(ctx, &r);
}

/* ---- what the core wants ---- */

static void add_address(struct agent_uv *a, const struct agent_action *act)
{
    char address[SITE_ADDRESS_MAX];
    struct buf why = {0};
    uint64_t op = act->op;

    snprintf(address, sizeof address, "%s", act->address);
    int err = addresses_add(a->addresses, address, act->dev, act->prefix, act->until_ms, &why);
    tell_address(a, err == 0 ? AGENT_ADDED : AGENT_ADD_FAILED, op, address, buf_text(&why));
    buf_free(&why);
}

static void remove_address(struct agent_uv *a, const struct agent_action *act)
{
    char address[SITE_ADDRESS_MAX];
    struct buf why = {0};
    uint64_t op = act->op;

    snprintf(address, sizeof address, "%s", act->address);
    int err = addresses_remove(a->addresses, address, &why);
    if (err == 0)
        tell_address(a, AGENT_REMOVED, op, address, NULL);
    else /* it is asked for again */
        log_event(LOG_ERROR, "address_not_removed", LOG_S("address", address),
                  LOG_S("why", buf_text(&why)));
    buf_free(&why);
}

static void renew_address(struct agent_uv *a, const struct agent_action *act)
{
    char address[SITE_ADDRESS_MAX];

    snprintf(address, sizeof address, "%s", act->address);
    addresses_renew(a->addresses, address, act->until_ms);
}

static void probe_address(struct agent_uv *a, const struct agent_action *act)
{
    char address[SITE_ADDRESS_MAX], dev[SITE_DEV_MAX] = "";

    snprintf(address, sizeof address, "%s", act->address);
    if (act->dev != NULL)
        snprintf(dev, sizeof dev, "%s", act->dev);
    addresses_probe(a->addresses, act->op, address, dev);
}

static void run_check(struct agent_uv *a, const struct agent_action *act)
{
    const struct service_result too_many = {.outcome = SERVICE_ERROR,
                                            .text = "too many checks are under way"};
    uint64_t op = act->op;

    if (checks_run(a->checks, op, act->check) != 0)
        on_checked(a, op, &too_many);
}

/* HAProxy may be installed, or its directory made, after our start. */
static int open_haproxy(struct agent_uv *a, const char **why)
{
    const struct haproxy_options o = {.program = a->haproxy_program,
                                      .dir = a->dir,
                                      .socket = a->balance_socket,
                                      .on_lost = on_haproxy_lost,
                                      .ctx = a};

    if (a->haproxy != NULL)
        return 0;
    *why = "balancing is switched off on this machine";
    if (!a->options.has_haproxy)
        return ERR_REFUSED;
    int err = haproxy_open(&a->haproxy, a->loop, &o);
    if (err == ERR_NOT_FOUND)
        *why = "HAProxy is not installed: apt-get install haproxy";
    else if (err != 0)
        *why = "the data directory's name is too long for HAProxy's sockets in it";
    if (err != 0)
        a->haproxy = NULL;
    return err;
}

static void set_balance(struct agent_uv *a, const struct agent_action *act)
{
    const char *why = "too many changes wait for HAProxy";
    uint64_t op = act->op;
    int err = open_haproxy(a, &why);

    if (err == 0) {
        struct balance_request *q = mem_new(struct balance_request);
        *q = (struct balance_request){.next = a->requests, .agent = a, .op = op};
        a->requests = q;
        err = haproxy_set(a->haproxy, act->config, act->commands, act->commands_n, act->reload,
                          on_balanced, q);
        if (err != 0)
            forget_request(q);
    }
    if (err != 0)
        tell_balance(a, op, err, why);
}

static void stop_balance(struct agent_uv *a)
{
    const char *why;

    if (open_haproxy(a, &why) == 0)
        haproxy_stop(a->haproxy, NULL, NULL);
}

static void carry_out(struct agent_uv *a, const struct agent_action *act)
{
    switch (act->type) {
    case AGENT_ADDRESS_PROBE: probe_address(a, act); break;
    case AGENT_ADDRESS_ADD: add_address(a, act); break;
    case AGENT_ADDRESS_RENEW: renew_address(a, act); break;
    case AGENT_ADDRESS_REMOVE: remove_address(a, act); break;
    case AGENT_ADDRESS_ANNOUNCE: addresses_announce(a->addresses, act->address); break;
    case AGENT_CHECK_RUN: run_check(a, act); break;
    case AGENT_CHECK_STOP: checks_stop(a->checks, act->op); break;
    case AGENT_BALANCE_SET: set_balance(a, act); break;
    case AGENT_BALANCE_STOP: stop_balance(a); break;
    case AGENT_PEER_SEND:
        if (a->options.send_peer != NULL)
            a->options.send_peer(a->options.ctx, act->machine, act->data, act->len);
        break;
    case AGENT_NOTE:
        log_event(LOG_NOTICE, act->ev, LOG_S("thing", act->thing != NULL ? act->thing : ""),
                  LOG_S("why", act->why != NULL ? act->why : ""));
        break;
    }
}

static void on_time(uv_timer_t *timer)
{
    client_uv_kick(((struct agent_uv *)timer->data)->client);
}

static void arm(struct agent_uv *a)
{
    uint64_t at_ms = agent_deadline(a->agent), now_ms = clock_now_ms();

    if (at_ms == AGENT_NEVER) {
        uv_timer_stop(&a->timer);
        return;
    }
    uv_update_time(a->loop);
    /* Never 0: libuv runs a timer that its own callback arms for now before it looks at
     * anything else, again and again. */
    uv_timer_start(&a->timer, on_time, at_ms > now_ms ? at_ms - now_ms : 1, 0);
}

static void leave_step(struct agent_uv *a)
{
    if (a->stage != LEAVING || !agent_is_done(a->agent))
        return;
    a->stage = CLOSING;
    uv_timer_stop(&a->timer);
    client_close(client_uv_client(a->client), clock_now_ms());
}

/* After each batch of things that happened: decide, carry out, until there is no news. */
static void decide(void *ctx)
{
    struct agent_uv *a = ctx;
    struct agent_action act;

    /* A client that closes answers every question at once, with an error: an agent that went
     * on asking would keep the loop, and the server in this process with it, from ever
     * hearing the answer to the close. */
    if (a->agent == NULL || a->is_turning || a->stage == CLOSING || a->stage == GONE)
        return;
    a->is_turning = true;
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        a->has_news = false;
        tell_time(a);
        tell_members(a);
        agent_flush(a->agent);
        while (agent_action_take(a->agent, &act))
            carry_out(a, &act);
        if (!a->has_news)
            break;
    }
    leave_step(a);
    a->is_turning = false;
    if (a->stage == RUNNING || a->stage == LEAVING)
        arm(a);
}

/* ---- the client ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct agent_uv *a = handle->data;

    if (--a->handles > 0)
        return;
    mem_free(a->dir);
    mem_free(a->haproxy_program);
    mem_free(a->chroot);
    mem_free(a->servers);
    mem_free(a);
}

static void on_gone(uv_timer_t *timer)
{
    struct agent_uv *a = timer->data;
    void (*done)(void *ctx) = a->done;
    void *ctx = a->done_ctx;

    checks_close(a->checks);
    if (a->haproxy != NULL)
        haproxy_close(a->haproxy);
    while (a->requests != NULL)
        forget_request(a->requests);
    addresses_close(a->addresses);
    agent_free(a->agent);
    a->agent = NULL;
    client_uv_free(a->client);
    uv_close((uv_handle_t *)&a->timer, on_handle_closed);
    uv_close((uv_handle_t *)&a->facts_timer, on_handle_closed);
    if (done != NULL)
        done(ctx);
}

static void on_client_event(void *ctx, enum client_event ev)
{
    static const char *const words[] = {
        [CLIENT_EV_CONNECTED] = "session_connected",
        [CLIENT_EV_DISCONNECTED] = "session_disconnected",
        [CLIENT_EV_EXPIRED] = "session_expired",
        [CLIENT_EV_CLOSED] = "session_closed",
    };
    struct agent_uv *a = ctx;

    if (a->agent == NULL || a->stage == GONE)
        return;
    char session[24];
    snprintf(session, sizeof session, "0x%" PRIx64,
             (uint64_t)client_session(client_uv_client(a->client)));
    log_event(LOG_NOTICE, words[ev], LOG_S("session", session));
    tell_time(a);
    agent_client_event(a->agent, ev);
    if (ev == CLIENT_EV_CLOSED) { /* the client cannot be freed from within its own call */
        a->stage = GONE;
        uv_timer_start(&a->timer, on_gone, 0, 0);
    }
}

static void on_client_watch(void *ctx, int type, const char *path)
{
    struct agent_uv *a = ctx;

    if (a->agent == NULL || a->stage == GONE)
        return;
    tell_time(a);
    agent_client_watch(a->agent, type, path);
}

/* ---- start and end ---- */

static void on_facts(uv_timer_t *timer)
{
    struct agent_uv *a = timer->data;
    double load[3] = {0}, uptime_s = 0;

    uv_loadavg(load);
    uv_uptime(&uptime_s);
    if (a->agent == NULL || a->stage == GONE)
        return;
    tell_time(a);
    agent_facts(a->agent, (uint32_t)(load[0] * 100), (uint64_t)uptime_s);
}

static int start_client(struct agent_uv *a, const struct agent_uv_options *o)
{
    struct buf life = {0};

    agent_life_path(&life, o->machine);
    const struct client_uv_options options = {
        .loop = a->loop,
        .client = {.timeout_ms = SITE_LEASE_DEFAULT_MS,
                   .seed = o->seed,
                   .servers = (unsigned)o->servers_n,
                   .first = 0,
                   .on_event = on_client_event,
                   .on_watch = on_client_watch,
                   .ctx = a,
                   .chroot = o->chroot,
                   .makes_chroot = o->chroot != NULL,
                   .auth_scheme = o->auth_scheme,
                   .auth = o->auth,
                   .is_foreign = o->is_foreign,
                   .life_path = o->is_foreign ? buf_text(&life) : NULL},
        .addresses = o->servers,
        .now_ms = now,
        .after = decide,
        .ctx = a,
    };
    unsigned bad;

    int err = client_uv_new(&a->client, &options, &bad);
    buf_free(&life);
    return err;
}

static void keep_servers(struct agent_uv *a, const struct agent_uv_options *o)
{
    a->options.is_foreign = o->is_foreign;
    a->options.servers_n = o->servers_n;
    a->chroot = mem_dup_str(o->chroot != NULL ? o->chroot : "");
    a->servers = mem_alloc(o->servers_n * sizeof a->servers[0]);
    for (size_t i = 0; i < o->servers_n; i++)
        snprintf(a->servers[i], sizeof a->servers[i], "%s", o->servers[i]);
}

int agent_uv_start(struct agent_uv **out, uv_loop_t *loop, const struct agent_uv_options *o)
{
    if (o->servers_n == 0 || o->servers_n > CLIENT_SERVERS_MAX)
        return ERR_BAD_ARGUMENTS;
    struct agent_uv *a = mem_new(struct agent_uv);
    a->loop = loop;
    a->options = (struct agent_uv_options){.has_haproxy = o->has_haproxy,
                                           .send_peer = o->send_peer,
                                           .server_facts = o->server_facts,
                                           .ctx = o->ctx};
    int err = start_client(a, o);
    if (err != 0) {
        mem_free(a);
        return err;
    }
    a->dir = mem_dup_str(o->dir);
    if (o->is_foreign)
        keep_servers(a, o);
    a->haproxy_program = mem_dup_str(o->haproxy != NULL ? o->haproxy : AGENT_UV_HAPROXY);
    snprintf(a->balance_socket, sizeof a->balance_socket, "%s/haproxy.admin", o->dir);

    const struct addresses_options addresses = {
        .own = o->address, .probed = on_probed, .expired = on_expired, .ctx = a};
    struct buf why = {0};
    a->addresses = addresses_new(loop, &addresses, &why);
    if (why.len > 0)
        log_event(LOG_WARNING, "addresses_impossible", LOG_S("why", buf_text(&why)));
    buf_free(&why);
    a->checks = checks_new(loop, on_checked, a);
    const struct agent_options agent = {.machine = o->machine,
                                        .address = o->address,
                                        .id = o->id,
                                        .version = o->version,
                                        .seed = o->seed,
                                        .guard_ms = o->guard_ms,
                                        .balance_socket = a->balance_socket,
                                        .is_foreign = o->is_foreign};
    a->agent = agent_new(&agent, client_uv_client(a->client));
    a->handles = 2;
    uv_timer_init(loop, &a->timer);
    uv_timer_init(loop, &a->facts_timer);
    a->timer.data = a->facts_timer.data = a;
    uv_timer_start(&a->timer, on_time, 0, 0);
    uv_timer_start(&a->facts_timer, on_facts, 0, AGENT_UV_FACTS_MS);
    *out = a;
    return 0;
}

int agent_uv_add_server(struct agent_uv *a, const char *address)
{
    return a->stage == RUNNING ? client_uv_add_server(a->client, address) : 0;
}

void agent_uv_stop(struct agent_uv *a, void (*done)(void *ctx), void *ctx)
{
    if (a->stage != RUNNING)
        return;
    a->done = done;
    a->done_ctx = ctx;
    a->stage = LEAVING;
    tell_time(a);
    agent_leave(a->agent);
    client_uv_kick(a->client);
}

void agent_uv_peer(struct agent_uv *a, const char *machine, const uint8_t *data, size_t len)
{
    const struct agent_result r = {
        .type = AGENT_PEER, .text = machine, .data = data, .len = len};

    if (a->stage == GONE || a->agent == NULL)
        return;
    tell_members(a); /* a promise is given by whom the server knows now */
    tell(a, &r);
}

static int foreign_status(const struct agent_uv *a, struct buf *json)
{
    const struct client *c = client_uv_client(a->client);
    uint64_t until_ms = client_alive_until(c), now_ms = clock_now_ms();
    struct buf why = {0};

    for (unsigned i = 0; i < a->options.servers_n; i++)
        if (client_uv_why(a->client, i)[0] != 0)
            buf_printf(&why, "%s%s: %s", why.len > 0 ? ", " : "", a->servers[i],
                       client_uv_why(a->client, i));
    const struct status_ensemble e = {
        .server = a->servers[client_server(c)],
        .chroot = a->chroot,
        .why = buf_text(&why),
        .is_connected = client_state(c) == CLIENT_CONNECTED,
        .connected_ms = now_ms - client_up_since(c),
        .session = client_session(c),
        .zxid = client_zxid(c),
        .timeout_ms = client_timeout_ms(c),
        .trusted_ms_left = until_ms > now_ms ? until_ms - now_ms : 0,
    };
    int code = agent_status_foreign(a->agent, &e, json);
    buf_free(&why);
    return code;
}

bool agent_uv_is_ready(const struct agent_uv *a)
{
    const struct client *c = a->agent != NULL ? client_uv_client(a->client) : NULL;

    return c != NULL && client_state(c) == CLIENT_CONNECTED &&
           client_alive_until(c) > clock_now_ms();
}

int agent_uv_status(const struct agent_uv *a, struct buf *json)
{
    struct status_server server = {0};
    bool has_server =
        a->options.server_facts != NULL && a->options.server_facts(a->options.ctx, &server);

    if (a->agent == NULL)
        return 4;
    if (a->options.is_foreign)
        return foreign_status(a, json);
    return agent_status(a->agent, has_server ? &server : NULL, json);
}

/* clang-format off */
#define METRICS(M)                                                                            \
    M(c, counter, addresses_taken_total, "Virtual addresses that this machine took")          \
    M(c, counter, addresses_lost_total, "... and lost: at the end of a lease, or by a fault") \
    M(c, counter, addresses_handed_over_total, "... and gave to another machine in order")    \
    M(c, counter, probe_conflicts_total, "Addresses not taken because another answered")      \
    M(c, counter, failsafe_rounds_total, "Rounds of questions to all others without the tree") \
    M(c, counter, failsafe_kept_total, "Leases kept because all others agreed")               \
    M(c, counter, checks_total, "Health checks made")                                         \
    M(c, counter, checks_failed_total, "Health checks that failed")                           \
    M(c, counter, balance_sets_total, "Changes given to HAProxy")                             \
    M(c, counter, balance_reloads_total, "... of them with a reload")                         \
    M(c, counter, balance_refused_total, "Empty pools of the registry that were refused")     \
    M(c, counter, site_refused_total, "Sites in the tree that were not valid")                \
    M(c, counter, peer_malformed_total, "Messages of other agents that were not valid")       \
    M(c, gauge, addresses_held, "Virtual addresses that this machine answers for")            \
    M(c, gauge, instances_healthy, "Instances on this machine that are healthy")              \
    M(h, counter, announcements_total, "Gratuitous ARP announcements sent")                   \
    M(h, counter, conflicts_total, "Claims by others of an address that is held here")        \
    M(h, counter, gates_lost_total, "Times that another program removed the nftables tables") \
    M(h, counter, leftovers_total, "Addresses of an earlier life that were removed")
/* clang-format on */

void agent_uv_metrics(const struct agent_uv *a, struct buf *text)
{
    struct agent_counters c;

    if (a->agent == NULL)
        return;
    agent_counters(a->agent, &c);
    const struct addresses_counters h = addresses_counters(a->addresses);
#define M(from, kind, name, help)                                                             \
    buf_printf(text,                                                                          \
               "# HELP muster_agent_" #name " " help "\n# TYPE muster_agent_" #name " " #kind \
               "\nmuster_agent_" #name " %" PRIu64 "\n",                                      \
               from.name);
    METRICS(M)
#undef M
    buf_printf(text,
               "# HELP muster_agent_haproxy_running HAProxy of this machine runs\n"
               "# TYPE muster_agent_haproxy_running gauge\nmuster_agent_haproxy_running %d\n",
               a->haproxy != NULL && haproxy_is_running(a->haproxy));
}
