/* SPDX-License-Identifier: Apache-2.0 */
/* server: a server alone; and what it shares with up: in the foreground, until SIGTERM or
 * SIGINT. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/confined.h"
#include "cli/machine.h"
#include "cli/run.h"
#include "host/clock.h"
#include "host/files.h"
#include "host/notify.h"
#include "server/aside.h"
#include "server/clients.h"
#include "server/secret.h"

#define EXIT_DISK 10 /* as ZooKeeper's servers say it */

/* Each client is a file, and 1024, as many systems have it, are few. */
static void may_open_files(void)
{
    const rlim_t wanted = CLIENTS_MAX + 4 * CLIENTS_FILES_KEPT;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= wanted)
        return;
    files.rlim_cur = files.rlim_max < wanted ? files.rlim_max : wanted;
    (void)setrlimit(RLIMIT_NOFILE, &files); /* clients.c goes by what there is */
}

/* Two processes on one directory would each believe that it is the machine. The lock goes
 * with the process, however it ends. */
int run_lock_directory(const char *dir)
{
    struct buf path = {0};

    (void)mkdir(dir, 0700); /* if that fails, the next step says why */
    buf_printf(&path, "%s/lock", dir);
    int fd = open(buf_text(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int err = fd < 0 ? errno : flock(fd, LOCK_EX | LOCK_NB) != 0 ? errno : 0;
    if (err == EWOULDBLOCK)
        fprintf(stderr, "muster: another muster process runs on %s.\nLook: muster status\n",
                dir);
    else if (err != 0)
        fprintf(stderr, "muster: %s: %s.\n", buf_text(&path), strerror(err));
    buf_free(&path);
    return err == 0 ? 0 : EXIT_FAILED;
}

void run_disk_failed(void *ctx, int err)
{
    (void)ctx, (void)err;
    /* What was promised is on the disk; everything else must not be believed any more. Not
     * exit(), which waits for the threads: they may be waiting for this disk. */
    _exit(EXIT_DISK);
}

static void server_stopped(void *ctx)
{
    struct run *r = ctx;

    uv_close((uv_handle_t *)&r->watchdog, NULL);
    uv_close((uv_handle_t *)&r->term, NULL);
    uv_close((uv_handle_t *)&r->interrupt, NULL);
}

void run_stop_server(struct run *r)
{
    if (r->server != NULL)
        server_stop(r->server, server_stopped, r);
    else
        server_stopped(r);
}

static void condemned_stopped(void *ctx)
{
    struct run *r = ctx;
    struct buf why = {0};

    r->server = NULL;
    int err = server_begin_again(r->options->dir, &r->self, buf_text(&r->condemned), &why);
    if (err == 0)
        err = server_start(&r->server, r->loop, r->options, &why);
    if (err == 0) {
        log_event(LOG_NOTICE, "started", LOG_S("dir", r->options->dir),
                  LOG_S("version", MUSTER_VERSION));
        buf_free(&why);
        return;
    }
    log_event(LOG_CRIT, "not_started", LOG_S("why", buf_text(&why)));
    exit(EXIT_FAILED);
}

void run_begin_again(struct run *r, const char *why)
{
    buf_clear(&r->condemned);
    buf_add_str(&r->condemned, why);
    server_stop(r->server, condemned_stopped, r);
}

static void save_status(uv_work_t *work)
{
    struct run *r = work->data;

    (void)file_replace(buf_text(&r->status_path), r->status.data, r->status.len, 0600);
}

static void status_saved(uv_work_t *work, int status)
{
    struct run *r = work->data;

    (void)status;
    buf_free(&r->status);
    buf_free(&r->status_path);
    r->is_saving = false;
}

/* A disk that is stuck must not stop the loop, and with it the heartbeats. */
void run_save_status_take(struct run *r, const char *dir, struct buf *json)
{
    if (r->is_saving) {
        buf_free(json);
        return;
    }
    r->status = *json;
    *json = (struct buf){0};
    buf_printf(&r->status_path, "%s/status.json", dir);
    r->saving.data = r;
    r->is_saving = true;
    CHECK(uv_queue_work(r->loop, &r->saving, save_status, status_saved) == 0);
}

static void stop_all(struct run *r)
{
    r->stopping = true;
    if (r->before_stop != NULL)
        r->before_stop(r);
    else
        run_stop_server(r);
}

static void outdated(void *ctx, const struct epoch *newer)
{
    struct run *r = ctx;

    if (r->is_outdated)
        return;
    r->is_outdated = true;
    r->newer = *newer;
    if (!r->stopping)
        stop_all(r);
}

/* The program that we are, with the arguments that it was given, from its beginning. Who has
 * become another user would lose his capabilities by that, and a server may not start programs
 * (confine.h): there it ends, and who has started it does so again (systemd: Restart=always).
 */
static int begin_anew(void)
{
    struct buf line = {0};
    char *argv[64];
    unsigned n = 0;

    errno = EPERM;

    if (file_read("/proc/self/cmdline", 65536, &line) == 0)
        for (size_t at = 0; at < line.len && n + 1 < sizeof argv / sizeof argv[0];
             at += strlen((char *)line.data + at) + 1)
            argv[n++] = (char *)line.data + at;
    argv[n] = NULL;
    if (n > 0 && geteuid() == 0)
        (void)execv("/proc/self/exe", argv);
    log_event(LOG_NOTICE, "ends_to_begin_anew", LOG_S("why", strerror(errno)),
              LOG_S("next", "start it again, as before (a service manager does)"));
    buf_free(&line);
    return EXIT_FAILED;
}

/* All of it has stopped. Its store is of an epoch that is over. */
static int join_newer_epoch(struct run *r, const char *dir)
{
    struct store_ends ends;
    uint64_t common;
    struct buf why = {0}, path = {0};

    identity_store_path(&r->self, dir, &path);
    int err = aside_for_epoch(dir, &r->self, &r->newer, &ends, &common, &why);
    if (err != 0) {
        log_event(LOG_ERROR, "not_set_aside", LOG_S("why", buf_text(&why)),
                  LOG_S("effect", "this machine takes no part until it can be"),
                  LOG_S("next", "mend that, and start muster again"));
        buf_free(&why);
        buf_free(&path);
        return EXIT_FAILED;
    }
    log_event(LOG_WARNING, "set_aside", LOG_S("store", buf_text(&path)),
              LOG_U("common", common), LOG_U("last", ends.last),
              LOG_U("only_here", ends.last > common ? ends.last - common : 0),
              LOG_S("next", "muster recover --inspect shows what only it has"));
    buf_free(&path);
    return begin_anew();
}

static void stop(uv_signal_t *signal, int number)
{
    struct run *r = signal->data;

    if (r->stopping) { /* asked twice: at once; leases end by themselves */
        log_event(LOG_WARNING, "stopped_at_once", LOG_U("signal", number));
        _exit(128 + number); /* see run_disk_failed() */
    }
    log_event(LOG_NOTICE, "stopping", LOG_U("signal", number));
    (void)notify_send("STOPPING=1");
    r->is_told = true;
    stop_all(r);
}

/* From the loop: when that hangs, this stays away. */
static void watched(uv_timer_t *timer)
{
    (void)timer;
    (void)notify_send("WATCHDOG=1");
}

/* Ready is: the ports are open. Not: there is a quorum, for which the other machines are
 * needed, and a machine's start would then wait for theirs. */
static void say_ready(struct run *r)
{
    uint64_t every_ms = notify_watchdog_ms() / 3;
    int err = notify_send("READY=1\nSTATUS=started; muster status says how the site is");

    if (err != 0 && err != ERR_NOT_FOUND)
        log_event(LOG_WARNING, "not_notified", LOG_S("why", err_text(err)),
                  LOG_S("effect", "systemd takes the start for unfinished"));
    if (every_ms > 0)
        uv_timer_start(&r->watchdog, watched, every_ms, every_ms);
}

/* Until it is stopped. */
static int go_on(struct run *r, const char *dir)
{
    CHECK(uv_signal_init(r->loop, &r->term) == 0 &&
          uv_signal_init(r->loop, &r->interrupt) == 0);
    CHECK(uv_timer_init(r->loop, &r->watchdog) == 0);
    r->term.data = r->interrupt.data = r;
    uv_signal_start(&r->term, stop, SIGTERM);
    uv_signal_start(&r->interrupt, stop, SIGINT);
    if (r->after_start != NULL && (r->exit_code = r->after_start(r)) != 0)
        return r->exit_code;
    confined_log();
    log_event(LOG_NOTICE, "started", LOG_S("dir", dir), LOG_S("version", MUSTER_VERSION));
    say_ready(r);
    uv_run(r->loop, UV_RUN_DEFAULT);
    log_event(LOG_NOTICE, "stopped", LOG_S("dir", dir));
    return r->exit_code;
}

int run_until_stopped(struct run *r, const struct server_options *options)
{
    struct server_options o = *options;
    struct buf why = {0};

    o.outdated = outdated;
    o.outdated_ctx = r;
    r->options = &o;
    log_init(stderr, r->self.name, LOG_NOTICE, clock_wall_ms);
    may_open_files();
    int err = server_start(&r->server, r->loop, &o, &why);
    if (err == ERR_CORRUPT) {
        struct buf what = {0};
        buf_printf(&what, "%s: the store is damaged", options->dir);
        (void)cmd_fail(EXIT_UNSAFE, buf_text(&what), buf_text(&why),
                       "the disk has lost or changed bytes; no other server votes, so nobody "
                       "has them to fetch them from. Nothing was changed here",
                       "muster restore, from a backup; without one, muster recover");
        buf_free(&what);
        buf_free(&why);
        return EXIT_UNSAFE;
    }
    if (err != 0) {
        fprintf(stderr,
                "muster: the server cannot start: %s.\nIf another process has the port: ss "
                "-ltnp; if it is a file: nothing of it was changed.\n",
                buf_text(&why));
        buf_free(&why);
        return EXIT_FAILED;
    }
    int code = go_on(r, options->dir);
    return r->is_outdated && !r->is_told ? join_newer_epoch(r, options->dir) : code;
}

int run_without_server(struct run *r, const char *dir)
{
    log_init(stderr, r->self.name, LOG_NOTICE, clock_wall_ms);
    return go_on(r, dir);
}

/* "IP:PORT" */
static int split(const char *text, char ip[64], uint16_t *port)
{
    unsigned n;
    char rest;

    if (sscanf(text, "%63[0-9.]:%u%c", ip, &n, &rest) != 2 || n == 0 || n > 65535 ||
        !identity_address_is_valid(ip)) {
        fprintf(stderr, "muster: %s is not IP:PORT, as 127.0.0.1:2181.\n", text);
        return EXIT_USAGE;
    }
    *port = (uint16_t)n;
    return 0;
}

/* A directory that holds nothing yet becomes a cluster of one. */
static int make_alone(struct identity *self, const char *dir)
{
    struct buf why = {0};
    int err = identity_load(self, dir, &why);

    if (err == ERR_NOT_FOUND) {
        buf_clear(&why);
        *self = (struct identity){.id = 1, .name = "server", .address = "127.0.0.1"};
        secret_random(self->cluster, CLUSTER_LEN);
        secret_random(self->secret, SECRET_LEN);
        self->peers.n = 1;
        self->peers.v[0] = (struct raft_member){
            .id = 1, .voter = true, .name = "server", .address = "127.0.0.1:2182"};
        err = server_create(dir, self, &why);
    }
    if (err == 0 && self->peers.n > 1) {
        buf_printf(&why,
                   "%s is a machine of a cluster of %u; start it with muster up --data %s", dir,
                   self->peers.n, dir);
        err = ERR_UNSAFE;
    }
    if (err != 0)
        fprintf(stderr, "muster: the server cannot start: %s.\n", buf_text(&why));
    buf_free(&why);
    return err == 0 ? 0 : err == ERR_UNSAFE ? EXIT_UNSAFE : EXIT_FAILED;
}

static void condemned(void *ctx, const char *why) { run_begin_again(ctx, why); }

int cmd_server(struct cmd_env *env, int argc, char **argv)
{
    struct machine_options o;
    struct run r = {.loop = uv_default_loop()};
    char client_ip[64] = "127.0.0.1", http_ip[64];
    uint16_t client_port = SERVER_CLIENT_PORT, http_port;
    int err = machine_options(argc, argv, &o);

    (void)env;
    if (err == 0 && o.rest_n > 1)
        return cmd_fail(EXIT_USAGE, "server", "one FILE at most", NULL, "muster server --help");
    if (err == 0 && o.rest_n == 1 && (o.has_dir || o.listen != NULL || o.http != NULL))
        return cmd_fail(EXIT_USAGE, "server", "beside FILE there is --check only",
                        "directory and ports stand in the file: dataDir, clientPort, "
                        "admin.serverPort",
                        "muster server --help");
    if (err == 0 && o.rest_n == 1)
        return run_zoo_config(&o);
    if (err == 0 && o.check)
        return cmd_fail(EXIT_USAGE, "server", "--check needs a FILE", NULL,
                        "muster server zoo.cfg --check");
    if (err != 0 || (o.listen != NULL && (err = split(o.listen, client_ip, &client_port)) != 0))
        return err;
    /* The HTTP port is the one below, unless it is named. */
    snprintf(http_ip, sizeof http_ip, "%s", client_ip);
    http_port = (uint16_t)(client_port - 1);
    if (o.http != NULL && (err = split(o.http, http_ip, &http_port)) != 0)
        return err;
    unsigned least_port = client_port < http_port ? client_port : http_port;
    /* The lock before the machine: two that found none would each make one there. */
    if ((err = confined(&o, o.dir, CONFINED_SERVER, least_port)) != 0 ||
        (err = run_lock_directory(o.dir)) != 0 || (err = make_alone(&r.self, o.dir)) != 0)
        return err;
    const struct server_options s = {
        .dir = o.dir,
        .settings = settings_default(),
        .self = &r.self,
        .client_address = client_ip,
        .client_port = client_port,
        .http_address = http_ip,
        .http_port = http_port,
        .version = MUSTER_VERSION,
        .ctx = &r,
        .failed = run_disk_failed,
        .condemned = condemned,
    };
    return run_until_stopped(&r, &s);
}
