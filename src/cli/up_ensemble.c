/* SPDX-License-Identifier: Apache-2.0 */
/* up --ensemble: this machine's part without a server: the agent on somebody else's. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/err.h"
#include "cli/auth.h"
#include "cli/confined.h"
#include "cli/machine.h"
#include "cli/run.h"
#include "client/client_uv_names.h"
#include "host/agent_uv.h"
#include "http/http.h"
#include "server/secret.h"

#define STATUS_SAVE_MS 5000 /* how old status.json may get */

struct up_ensemble {
    struct run run;
    char dir[PATH_MAX]; /* absolute: HAProxy is told paths in it */
    bool no_balancer;
    struct client_names names;
    struct auth auth;
    struct agent_uv *agent;
    struct http *http;
    uv_timer_t saving;
};

/* ---- pages ---- */

static unsigned page_status(void *ctx, struct buf *json)
{
    struct up_ensemble *u = ctx;

    if (u->agent == NULL)
        buf_add_str(json, "{\"verdict\": \"DOWN: starting or stopping\", \"exit\": 4}\n");
    else
        (void)agent_uv_status(u->agent, json);
    return 200; /* the answer is there; what it says is in it */
}

static unsigned page_metrics(void *ctx, struct buf *text)
{
    struct up_ensemble *u = ctx;

    if (u->agent != NULL)
        agent_uv_metrics(u->agent, text);
    return 200;
}

static unsigned page_healthz(void *ctx, struct buf *body)
{
    (void)ctx;
    buf_add_str(body, "ok\n");
    return 200;
}

static unsigned page_readyz(void *ctx, struct buf *body)
{
    struct up_ensemble *u = ctx;
    bool is_ready = u->agent != NULL && agent_uv_is_ready(u->agent);

    buf_add_str(body, is_ready ? "ready\n" : "not ready: the ensemble does not confirm us\n");
    return is_ready ? 200 : 503;
}

static const struct http_page pages[] = {
    {"/status", "application/json", page_status, NULL},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", page_metrics, NULL},
    {"/healthz", "text/plain; charset=utf-8", page_healthz, NULL},
    {"/readyz", "text/plain; charset=utf-8", page_readyz, NULL},
    {NULL, NULL, NULL, NULL},
};

static void save_status(uv_timer_t *timer)
{
    struct up_ensemble *u = timer->data;
    struct buf json = {0};

    (void)page_status(u, &json);
    run_save_status_take(&u->run, u->dir, &json);
}

/* ---- life ---- */

static int start(struct run *r)
{
    struct up_ensemble *u = r->more;
    const char *servers[CLIENT_SERVERS_MAX];
    struct buf why = {0};

    for (unsigned i = 0; i < u->names.n; i++)
        servers[i] = u->names.addresses[i];
    struct agent_uv_options o = {
        .machine = r->self.name,
        .address = r->self.address,
        .id = r->self.name,
        .version = MUSTER_VERSION,
        .dir = u->dir,
        .servers = servers,
        .servers_n = u->names.n,
        .has_haproxy = !u->no_balancer,
        .is_foreign = true,
        .chroot = u->names.chroot[0] != 0 ? u->names.chroot : NULL,
        .auth_scheme = u->auth.scheme,
        .auth = u->auth.auth,
        .ctx = u,
    };
    if (http_start(&u->http, r->loop, "0.0.0.0", SERVER_HTTP_PORT, pages, u, &why) != 0) {
        fprintf(stderr, "muster: %s.\nIf another process has the port: ss -ltnp\n",
                buf_text(&why));
        buf_free(&why);
        return EXIT_FAILED;
    }
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

static void stopped(void *ctx)
{
    struct up_ensemble *u = ctx;

    u->agent = NULL;
    http_stop(u->http);
    run_stop_server(&u->run);
}

static void stop(struct run *r)
{
    struct up_ensemble *u = r->more;

    uv_close((uv_handle_t *)&u->saving, NULL);
    agent_uv_stop(u->agent, stopped, u);
}

/* Both in one directory would be two machines with one name. */
static int check_dir(const char *dir)
{
    struct buf path = {0};
    struct stat st;

    buf_printf(&path, "%s/machine", dir);
    bool is_machine = stat(buf_text(&path), &st) == 0;
    buf_free(&path);
    if (!is_machine)
        return 0;
    return cmd_fail(EXIT_UNSAFE, dir, "it holds a machine with a server of its own", NULL,
                    "another directory for --ensemble, or muster up without it");
}

int up_ensemble(struct cmd_env *env, const struct machine_options *o)
{
    static struct up_ensemble u;
    struct buf why = {0};

    u = (struct up_ensemble){.run = {.loop = uv_default_loop(),
                                     .more = &u,
                                     .after_start = start,
                                     .before_stop = stop},
                             .no_balancer = o->no_balancer};
    int code = machine_identity(o, &u.run.self, "up --ensemble HOST:PORT,...");
    if (code == 0)
        code = auth_read(env, &u.auth);
    if (code == 0)
        code = check_dir(o->dir);
    if (code != 0)
        return code;
    int err = client_names_read(&u.names, o->ensemble, &why);
    if (err != 0) {
        code = cmd_fail(err == ERR_BAD_ARGUMENTS ? EXIT_USAGE : EXIT_FAILED, "--ensemble",
                        buf_text(&why), NULL,
                        "name the servers as HOST:PORT,HOST:PORT/CHROOT, for instance "
                        "10.0.0.1:2181,10.0.0.2:2181/muster");
        buf_free(&why);
        return code;
    }
    if ((code = confined(o, o->dir, CONFINED_AGENT, 0)) != 0 ||
        (code = run_lock_directory(o->dir)) != 0)
        return code;
    if (realpath(o->dir, u.dir) == NULL)
        snprintf(u.dir, sizeof u.dir, "%s", o->dir);
    return run_without_server(&u.run, u.dir);
}
