/* SPDX-License-Identifier: Apache-2.0 */
/* up: this machine's part, server and agent in one process. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/confined.h"
#include "cli/machine.h"
#include "cli/run.h"
#include "host/agent_uv.h"
#include "server/secret.h"

#define STATUS_SAVE_MS 5000 /* how old status.json may get */
#define REACHABLE_MS 1000   /* silent for longer: not reachable */
#define ADDRESS_TEXT 80

struct up {
    struct run run;
    char dir[PATH_MAX]; /* absolute: HAProxy is told paths in it */
    bool no_balancer;
    struct agent_uv *agent;
    uv_timer_t saving;
    char addresses[RAFT_MEMBERS_MAX][ADDRESS_TEXT]; /* of the servers, our own first */
    const char *servers[RAFT_MEMBERS_MAX];
    size_t servers_n;
    struct buf ails;
    struct raft_members members; /* what status_server points to */
};

/* ---- between the server and the agent ---- */

static void agent_received(void *ctx, const char *machine, const uint8_t *data, size_t len)
{
    struct up *u = ctx;

    if (u->agent != NULL)
        agent_uv_peer(u->agent, machine, data, len);
}

static void send_peer(void *ctx, const char *machine, const uint8_t *data, size_t len)
{
    server_send_agent(((struct up *)ctx)->run.server, machine, data, len);
}

static const struct raft_member *member_of(const struct raft_members *m, uint64_t id)
{
    for (unsigned i = 0; i < m->n; i++)
        if (m->v[i].id == id)
            return &m->v[i];
    return NULL;
}

static const char *role_of(const struct raft *r, const struct raft_member *self)
{
    switch (raft_role(r)) {
    case RAFT_LEADER: return "leader";
    case RAFT_PRE_CANDIDATE:
    case RAFT_CANDIDATE: return "candidate";
    case RAFT_FOLLOWER: break;
    }
    return self == NULL || self->voter ? "follower" : "learner";
}

static struct status_disk disk_facts(const struct server *s)
{
    struct member_facts f;
    struct server_saves saves;

    member_facts(server_member(s), &f);
    server_saves(s, &saves);
    return (struct status_disk){
        .room = f.disk.room.wanted_bytes > 0 ? room_name(f.disk.own) : NULL,
        .ensemble_room = room_name(f.disk.ensemble),
        .is_low = f.disk.own == ROOM_LOW,
        .is_full = f.disk.own >= ROOM_FULL,
        .refuses = f.disk.ensemble >= ROOM_FULL,
        .is_slow = f.disk.is_slow,
        .is_behind = f.disk.is_lagging,
        .free_bytes = f.disk.room.free_bytes,
        .reserve_bytes = f.disk.room.reserve_bytes,
        .of_reserve_bytes = f.disk.room.wanted_bytes,
        .last_ms = saves.last_ms,
        .most_ms = saves.most_ms,
        .average_us = saves.average_us,
        .running_ms = f.disk.saving_ms,
    };
}

static bool server_facts(void *ctx, struct status_server *out)
{
    struct up *u = ctx;
    const struct member *m = server_member(u->run.server);
    const struct raft *r = member_raft(m);
    const struct raft_member *leader;

    u->members = *raft_members(r); /* what is applied may be older than the others */
    if (u->members.n == 0)
        u->members = u->run.self.peers; /* joined, and not yet told anything */
    leader = member_of(&u->members, raft_leader(r));
    *out = (struct status_server){
        .disk = disk_facts(u->run.server),
        .role = role_of(r, member_of(&u->members, u->run.self.id)),
        .leader = leader != NULL ? leader->name : NULL,
        .term = raft_term(r),
        .commit_index = raft_committed(r),
        .has_quorum = member_is_serving(m) && leader != NULL,
        .members_n = u->members.n,
    };
    buf_clear(&u->ails);
    if (server_ails(u->run.server, &u->ails))
        out->ails = buf_text(&u->ails);
    for (unsigned i = 0; i < u->members.n; i++) {
        const struct raft_member *k = &u->members.v[i];
        uint64_t silence_ms = server_silence_ms(u->run.server, k->id);
        out->members[i] = (struct status_member){
            .name = k->name,
            .address = k->address,
            .is_voter = k->voter,
            .is_reachable = silence_ms < REACHABLE_MS && !server_is_gone(u->run.server, k->id),
            .age_ms = silence_ms,
        };
    }
    return true;
}

static void condemned(void *ctx, const char *why)
{
    run_begin_again(&((struct up *)ctx)->run, why);
}

static unsigned page_status(void *ctx, struct buf *json)
{
    struct up *u = ctx;

    if (u->agent == NULL) {
        buf_add_str(json, "{\"verdict\": \"DOWN: starting or stopping\", \"exit\": 4}\n");
        return 200;
    }
    (void)agent_uv_status(u->agent, json);
    return 200; /* the answer is there; what it says is in it */
}

static void more_metrics(void *ctx, struct buf *text)
{
    struct up *u = ctx;

    if (u->agent != NULL)
        agent_uv_metrics(u->agent, text);
}

/* ---- what is known, for when nothing answers any more ---- */

static void save_status(uv_timer_t *timer)
{
    struct up *u = timer->data;
    struct buf json = {0};

    (void)page_status(u, &json);
    run_save_status_take(&u->run, u->dir, &json);
}

/* ---- life ---- */

/* Our own server first: it is the nearest, and where it is not, neither are we. */
static void list_servers(struct up *u)
{
    const struct raft_members *all = &u->run.self.peers;

    u->servers_n = 0;
    snprintf(u->addresses[u->servers_n++], ADDRESS_TEXT, "127.0.0.1:%u", SERVER_CLIENT_PORT);
    for (unsigned i = 0; i < all->n && u->servers_n < RAFT_MEMBERS_MAX; i++)
        if (all->v[i].id != u->run.self.id)
            snprintf(u->addresses[u->servers_n++], ADDRESS_TEXT, "%.*s:%u",
                     (int)strcspn(all->v[i].address, ":"), all->v[i].address,
                     SERVER_CLIENT_PORT);
    for (size_t i = 0; i < u->servers_n; i++)
        u->servers[i] = u->addresses[i];
}

static void members_changed(void *ctx, const struct raft_members *members)
{
    struct up *u = ctx;

    u->run.self.peers = *members;
    list_servers(u);
    for (size_t i = 0; u->agent != NULL && i < u->servers_n; i++)
        if (agent_uv_add_server(u->agent, u->servers[i]) != 0)
            log_event(LOG_WARNING, "server_not_added", LOG_S("address", u->servers[i]));
}

static int start_agent(struct run *r)
{
    struct up *u = r->more;
    char id[32];
    struct agent_uv_options o = {
        .machine = r->self.name,
        .address = r->self.address,
        .id = id,
        .version = MUSTER_VERSION,
        .dir = u->dir,
        .servers = u->servers,
        .servers_n = u->servers_n,
        .has_haproxy = !u->no_balancer,
        .send_peer = send_peer,
        .server_facts = server_facts,
        .ctx = u,
    };

    snprintf(id, sizeof id, "%llx", (unsigned long long)r->self.id);
    secret_random(&o.seed, sizeof o.seed);
    int err = agent_uv_start(&u->agent, r->loop, &o);
    if (err != 0) {
        fprintf(stderr, "muster: the agent cannot start: %s.\n", err_text(err));
        return EXIT_FAILED;
    }
    CHECK(uv_timer_init(r->loop, &u->saving) == 0);
    u->saving.data = u;
    uv_timer_start(&u->saving, save_status, STATUS_SAVE_MS / 5, STATUS_SAVE_MS);
    return 0;
}

static void agent_stopped(void *ctx)
{
    struct up *u = ctx;

    u->agent = NULL;
    run_stop_server(&u->run);
}

static void stop_agent(struct run *r)
{
    struct up *u = r->more;

    uv_close((uv_handle_t *)&u->saving, NULL);
    agent_uv_stop(u->agent, agent_stopped, u);
}

int cmd_up(struct cmd_env *env, int argc, char **argv)
{
    struct machine_options o;
    static struct up u;
    struct buf why = {0};
    int err = machine_options(argc, argv, &o);

    if (err != 0)
        return err;
    if (o.ensemble != NULL)
        return up_ensemble(env, &o);
    if (o.name != NULL || o.address != NULL || env->auth_file != NULL)
        return cmd_fail(EXIT_USAGE, "up",
                        "--name, --address and credentials go with --ensemble: a machine with "
                        "a server of its own has what init or join gave it",
                        NULL, "muster up --help");
    u = (struct up){.run = {.loop = uv_default_loop(),
                            .more = &u,
                            .after_start = start_agent,
                            .before_stop = stop_agent},
                    .no_balancer = o.no_balancer};
    struct stat st;
    bool is_there = stat(o.dir, &st) == 0; /* if not: a machine is not made by starting it */
    if (is_there && (err = confined(&o, o.dir, CONFINED_AGENT, 0)) != 0)
        return err;
    if (realpath(o.dir, u.dir) == NULL)
        snprintf(u.dir, sizeof u.dir, "%s", o.dir); /* the next step says what is wrong */
    if (identity_load(&u.run.self, o.dir, &why) != 0) {
        fprintf(stderr,
                "muster: there is no machine to start: %s.\nThe first of a cluster: muster "
                "init; a further one: muster join (muster token, on the first, prints the "
                "command).\n",
                buf_text(&why));
        buf_free(&why);
        return EXIT_FAILED;
    }
    if ((err = run_lock_directory(o.dir)) != 0)
        return err;
    list_servers(&u);
    const struct server_options s = {
        .dir = o.dir,
        .settings = settings_default(),
        .self = &u.run.self,
        .client_address = "0.0.0.0",
        .client_port = SERVER_CLIENT_PORT,
        .peer_address = u.run.self.address,
        .http_address = "0.0.0.0",
        .http_port = SERVER_HTTP_PORT,
        .version = MUSTER_VERSION,
        .ctx = &u,
        .agent_received = agent_received,
        .status = page_status,
        .metrics = more_metrics,
        .members = members_changed,
        .failed = run_disk_failed,
        .condemned = condemned,
    };
    return run_until_stopped(&u.run, &s);
}
