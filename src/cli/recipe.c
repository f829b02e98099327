/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/recipe.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/guard.h"
#include "host/clock.h"
#include "wire/wire.h"

#define KILL_BEFORE_MS 150 /* how long before the end of the session the command is killed */
#define SESSION_MAX_S 60
#define NAME_MAX_BYTES 200
#define CREATE_TRIES 3

static const int forwarded[RECIPE_SIGNALS] = {SIGINT,  SIGTERM, SIGHUP, SIGQUIT,
                                              SIGUSR1, SIGUSR2, SIGCHLD};

/* ---- what happens ---- */

static void on_event(void *ctx, enum client_event ev)
{
    struct recipe *r = ctx;

    if (ev == CLIENT_EV_EXPIRED)
        r->expired = true;
    else if (ev == CLIENT_EV_CONNECTED)
        r->fired = true;
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct recipe *r = ctx;

    if (r->on_watch != NULL)
        r->on_watch(r->ctx, type, path);
    r->fired = true;
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct recipe *r = signal->data;

    if (number == SIGCHLD)
        return; /* it has woken the loop; that is all */
    if (number != SIGUSR1 && number != SIGUSR2)
        r->told_to_end = number;
    if (r->child.pid == 0 || r->child.is_over)
        r->interrupted = number;
    else if (number != SIGINT || r->child.own_group) /* a terminal sends it to both */
        child_signal(&r->child, number);
}

static void listen_to_signals(struct recipe *r)
{
    for (size_t i = 0; i < RECIPE_SIGNALS; i++) {
        CHECK(uv_signal_init(client_sync_loop(r->s), &r->signals[i]) == 0);
        r->signals[i].data = r;
        uv_signal_start(&r->signals[i], on_signal, forwarded[i]);
    }
}

/* ---- opening and closing ---- */

static int options(struct recipe *r, uint32_t *session_ms)
{
    const char *wait = cmd_option(r->env, "wait"), *session = cmd_option(r->env, "session");
    struct buf next = {0};
    int code = 0;
    long n = 0;

    buf_printf(&next, "muster %s --help", r->env->cmd->name);
    r->wait_until_ms = UINT64_MAX;
    *session_ms = SESSION_TIMEOUT_MS;
    if (wait != NULL && !cmd_number(wait, 0, 10000000, &n))
        code =
            cmd_fail(EXIT_USAGE, "--wait", "whole seconds are wanted", NULL, buf_text(&next));
    else if (wait != NULL)
        r->wait_until_ms = clock_now_ms() + (uint64_t)n * 1000;
    if (code == 0 && session != NULL && !cmd_number(session, 1, SESSION_MAX_S, &n))
        code = cmd_fail(EXIT_USAGE, "--session", "whole seconds are wanted, 1 to 60", NULL,
                        buf_text(&next));
    else if (code == 0 && session != NULL)
        *session_ms = (uint32_t)n * 1000;
    buf_free(&next);
    return code;
}

int recipe_open(struct recipe *r, struct cmd_env *env, const char *what)
{
    uint32_t session_ms;

    uint64_t id[2];

    *r = (struct recipe){.env = env, .what = what};
    CHECK(uv_random(NULL, NULL, id, sizeof id, 0, NULL) == 0);
    snprintf(r->id, sizeof r->id, "%016" PRIx64 "%016" PRIx64, id[0], id[1]);
    int code = options(r, &session_ms);
    if (code == 0)
        code = session_open(env, session_ms, on_event, on_watch, r, &r->s);
    if (code == 0)
        listen_to_signals(r);
    return code;
}

void recipe_close(struct recipe *r)
{
    for (size_t i = 0; i < RECIPE_SIGNALS; i++)
        uv_close((uv_handle_t *)&r->signals[i], NULL);
    client_sync_close(r->s);
}

/* ---- znodes ---- */

char *recipe_path(const struct cmd_env *env, const char *parent, const char *name)
{
    struct buf next = {0};
    char *path = NULL;

    if (strchr(name, '/') != NULL || strlen(name) > NAME_MAX_BYTES) {
        buf_printf(&next, "muster %s --help", env->cmd->name);
        cmd_fail(EXIT_USAGE, name, "a name has no \"/\" and at most 200 bytes", NULL,
                 buf_text(&next));
        buf_free(&next);
        return NULL;
    }
    path = session_child(parent, name);
    if (session_check_path(path) != 0) {
        mem_free(path);
        return NULL;
    }
    return path;
}

int recipe_make_dir(struct client_sync *s, const char *path)
{
    size_t len = strlen(path);
    int err = 0;

    for (size_t i = 1; i <= len && err == 0; i++) {
        if (i < len && path[i] != '/')
            continue;
        char *part = mem_dup_strn(path, i);
        /* Whether it was there before does not matter: so it may be asked for twice. */
        for (int tries = 0; tries < CREATE_TRIES; tries++) {
            err = client_sync_create(s, part, "", 0, WIRE_PERSISTENT, NULL);
            if (err != ERR_CONNECTION_LOST)
                break;
        }
        if (err == ERR_NODE_EXISTS)
            err = 0;
        mem_free(part);
    }
    return err;
}

void recipe_describe(const struct recipe *r, char out[RECIPE_HOLDER_MAX])
{
    char host[64] = "?";

    (void)gethostname(host, sizeof host - 1);
    snprintf(out, RECIPE_HOLDER_MAX, "%s, process %d%s%s", host, (int)getpid(),
             r->env->tail != NULL ? ": " : "", r->env->tail != NULL ? r->env->tail[0] : "");
}

int recipe_delete(struct recipe *r, const char *path)
{
    int err;

    do {
        err = client_sync_delete(r->s, path, -1);
    } while (recipe_again(r, err));
    return err == ERR_NO_NODE ? 0 : err;
}

/* ---- waiting ---- */

struct answer {
    bool is_done;
    int err;
};

static void on_exists(void *ctx, const struct client_reply *reply)
{
    *(struct answer *)ctx = (struct answer){true, reply->err};
}

int recipe_watch(struct recipe *r, const char *path)
{
    struct answer a = {0};

    client_exists(client_sync_client(r->s), clock_now_ms(), path, true, on_exists, &a);
    client_sync_kick(r->s);
    /* The answer is written to `a`: it has to come, and does, at the latest as an error. */
    while (!a.is_done)
        client_sync_turn(r->s, clock_now_ms() + 1000);
    return a.err;
}

bool recipe_is_late(const struct recipe *r) { return clock_now_ms() >= r->wait_until_ms; }

bool recipe_again(struct recipe *r, int err)
{
    if ((err != ERR_CONNECTION_LOST && err != ERR_TIMED_OUT) || r->interrupted != 0 ||
        recipe_is_late(r))
        return false;
    if (!r->said)
        fputs("muster: the servers do not answer; asking on\n", stderr);
    r->said = true;
    return true;
}

int recipe_wait(struct recipe *r)
{
    while (!r->fired && !r->expired && r->interrupted == 0) {
        uint64_t until = clock_now_ms() + 60000;
        if (recipe_is_late(r))
            return ERR_TIMED_OUT;
        client_sync_turn(r->s, until < r->wait_until_ms ? until : r->wait_until_ms);
    }
    return 0;
}

/* ---- the command ---- */

static uint64_t ends_ms(struct recipe *r)
{
    return r->expired ? 0 : client_alive_until(client_sync_client(r->s));
}

/* When the command is asked to end, if nothing is heard from the servers until then. */
static uint64_t ask_at_ms(struct recipe *r)
{
    uint64_t ends = ends_ms(r), before = client_timeout_ms(client_sync_client(r->s)) / 3;

    return ends > before ? ends - before : 0;
}

/* When the guard kills it, because we have not. */
static uint64_t guard_at_ms(struct recipe *r)
{
    uint64_t ends = ends_ms(r);

    return ends > KILL_BEFORE_MS / 2 ? ends - KILL_BEFORE_MS / 2 : 0;
}

static void stop_in_time(struct recipe *r)
{
    uint64_t now = clock_now_ms();

    if (!r->asked_to_end && now >= ask_at_ms(r)) {
        r->asked_to_end = true;
        fprintf(stderr,
                "muster: the %s is being lost: no server confirms it; the command is stopped\n",
                r->what);
        child_stop(&r->child, false);
    }
    if (r->asked_to_end && !r->killed && now + KILL_BEFORE_MS >= ends_ms(r)) {
        r->killed = true;
        child_stop(&r->child, true);
    }
}

void recipe_setenv(const char *word, const char *rest, const char *value)
{
    struct buf name = {0};

    buf_printf(&name, "MUSTER_%s%s%s", word, *rest != 0 ? "_" : "", rest);
    setenv(buf_text(&name), value, 1);
    buf_free(&name);
}

void recipe_setenv_token(int64_t token)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, token);
    recipe_setenv("FENCING", "TOKEN", text);
}

int recipe_stdin(const void *data, size_t len)
{
    const uint8_t *from = data;
    int fd = memfd_create("stdin", MFD_CLOEXEC);

    while (fd >= 0 && len > 0) {
        ssize_t n = write(fd, from, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        from += n;
        len -= (size_t)n;
    }
    if (fd >= 0)
        (void)lseek(fd, 0, SEEK_SET);
    return fd;
}

static int lost(struct recipe *r)
{
    struct buf fact = {0};

    buf_printf(&fact, "its %s could not be confirmed in time", r->what);
    cmd_fail(EXIT_LOST, "the command was stopped", buf_text(&fact),
             "the servers have lost their quorum, or this machine its network",
             "muster status");
    buf_free(&fact);
    return EXIT_LOST;
}

int recipe_run(struct recipe *r, int stdin_fd)
{
    struct guard guard;

    r->child = (struct child){0};
    r->asked_to_end = clock_now_ms() >= ask_at_ms(r);
    r->killed = false;
    if (r->asked_to_end)
        return lost(r);
    if (!child_start(&r->child, r->env->tail, stdin_fd))
        return cmd_fail(EXIT_FAILED, "cannot start the command", strerror(errno), NULL, NULL);
    bool is_guarded = guard_start(&guard, &r->child, guard_at_ms(r));
    if (!is_guarded) {
        cmd_fail(EXIT_FAILED, "cannot guard the command", strerror(errno), NULL, NULL);
        child_stop(&r->child, true);
    }
    while (!child_has_ended(&r->child)) {
        uint64_t until = clock_now_ms() + 1000;
        uint64_t next = r->asked_to_end ? ends_ms(r) - KILL_BEFORE_MS : ask_at_ms(r);
        if (is_guarded)
            guard_move(&guard, guard_at_ms(r));
        stop_in_time(r);
        if (r->killed)
            until = clock_now_ms() + 20;
        else if (next < until)
            until = next;
        client_sync_turn(r->s, until);
    }
    if (is_guarded && guard_end(&guard))
        r->asked_to_end = true;
    child_reap(&r->child);
    if (!is_guarded)
        return EXIT_FAILED;
    return r->asked_to_end ? lost(r) : child_exit_code(&r->child);
}
