/* SPDX-License-Identifier: Apache-2.0 */
/* lock: the fair lock recipe, and a command that runs while it is held.
 *
 * Each who wants the lock makes an ephemeral, sequential znode below /locks/NAME; the lowest
 * number holds it, every other one waits for the one before it to go.
 *
 * The command must not run longer than the lock is ours. So it is stopped in good time
 * before the session can have ended (client_alive_until), whether or not we hear of it:
 * first asked, with SIGTERM, then killed. What that cannot cover (this process is stopped, or
 * paused with its machine) MUSTER_LOCK_TOKEN does: it grows from holder to holder, so that
 * what the command writes to can refuse an older one. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/child.h"
#include "cli/print.h"
#include "cli/session.h"
#include "host/clock.h"
#include "wire/path.h"
#include "wire/wire.h"

#define LOCKS "/locks"
#define KILL_BEFORE_MS 150 /* how long before the end of the session the command is killed */
#define SEQUENCE_LEN 10
#define HOLDER_MAX 200
#define SESSION_MAX_S 60

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD};
#define SIGNALS (sizeof forwarded / sizeof forwarded[0])

struct lock {
    struct cmd_env *env;
    struct client_sync *s;
    char *dir, *prefix;     /* "/locks/deploy"; the beginning of our znode's name */
    char *path;             /* our znode; NULL: none yet */
    char *before;           /* the one that we wait for */
    int64_t token;          /* the zxid that made our znode */
    uint64_t wait_until_ms; /* UINT64_MAX: for ever */
    bool expired, fired, told;
    int interrupted; /* a signal that ends the waiting; 0: none */
    uv_signal_t signals[SIGNALS];
    struct child child;
    bool asked_to_end, killed;
};

/* ---- what happens ---- */

static void on_event(void *ctx, enum client_event ev)
{
    if (ev == CLIENT_EV_EXPIRED)
        ((struct lock *)ctx)->expired = true;
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct lock *l = ctx;

    (void)type;
    if (l->before != NULL && strcmp(path, l->before) == 0)
        l->fired = true;
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct lock *l = signal->data;

    if (number == SIGCHLD)
        return; /* it has woken the loop; that is all */
    if (l->child.pid == 0)
        l->interrupted = number;
    else if (number != SIGINT || l->child.own_group) /* a terminal sends it to both */
        child_signal(&l->child, number);
}

static void listen_to_signals(struct lock *l)
{
    for (size_t i = 0; i < SIGNALS; i++) {
        CHECK(uv_signal_init(client_sync_loop(l->s), &l->signals[i]) == 0);
        l->signals[i].data = l;
        uv_signal_start(&l->signals[i], on_signal, forwarded[i]);
    }
}

/* ---- our place in the queue ---- */

static int make_dir(struct lock *l)
{
    int err = client_sync_create(l->s, LOCKS, "", 0, WIRE_PERSISTENT, NULL);

    if (err == 0 || err == ERR_NODE_EXISTS)
        err = client_sync_create(l->s, l->dir, "", 0, WIRE_PERSISTENT, NULL);
    return err == ERR_NODE_EXISTS ? 0 : err;
}

static void describe(struct lock *l, char out[HOLDER_MAX])
{
    char host[64] = "?";

    (void)gethostname(host, sizeof host - 1);
    snprintf(out, HOLDER_MAX, "%s, process %d: %s", host, (int)getpid(), l->env->tail[0]);
}

static const char *sequence_of(const char *name)
{
    size_t len = strlen(name);

    return len >= SEQUENCE_LEN ? name + len - SEQUENCE_LEN : name;
}

static int find_own(struct lock *l)
{
    struct client_sync_reply r = {0};
    int err = client_sync_children(l->s, l->dir, &r);
    const char *name = strrchr(l->prefix, '/') + 1;

    for (size_t i = 0; err == 0 && i < r.children_n; i++)
        if (strncmp(r.children[i], name, strlen(name)) == 0)
            l->path = session_child(l->dir, r.children[i]);
    client_sync_reply_free(&r);
    if (err == 0 && l->path != NULL && (err = client_sync_exists(l->s, l->path, &r)) == 0)
        l->token = r.stat.czxid;
    client_sync_reply_free(&r);
    return err;
}

/* After an answer that was lost the znode may be there or not: its name tells. */
static int take_place(struct lock *l)
{
    char text[HOLDER_MAX];
    struct client_sync_reply r = {0};
    int err;

    mem_free(l->path);
    l->path = NULL;
    describe(l, text);
    for (;;) {
        err = client_sync_create(l->s, l->prefix, text, strlen(text), WIRE_EPHEMERAL_SEQUENTIAL,
                                 &r);
        if (err == 0) {
            l->path = mem_dup_str((const char *)r.path.data);
            l->token = r.zxid;
        } else if (err == ERR_CONNECTION_LOST) {
            err = find_own(l);
        }
        if (err != 0 || l->path != NULL || l->interrupted != 0)
            break;
    }
    client_sync_reply_free(&r);
    return err;
}

/* Sets l->before to the one in front of us; NULL: nobody is. */
static int look(struct lock *l)
{
    struct client_sync_reply r = {0};
    const char *own = strrchr(l->path, '/') + 1, *best = NULL;
    bool found = false;
    int err = client_sync_children(l->s, l->dir, &r);

    for (size_t i = 0; err == 0 && i < r.children_n; i++) {
        const char *name = r.children[i];
        found |= strcmp(name, own) == 0;
        if (strcmp(sequence_of(name), sequence_of(own)) < 0 &&
            (best == NULL || strcmp(sequence_of(name), sequence_of(best)) > 0))
            best = name;
    }
    mem_free(l->before);
    l->before = best != NULL ? session_child(l->dir, best) : NULL;
    l->fired = false;
    client_sync_reply_free(&r);
    if (err == 0 && !found) /* somebody has deleted our znode */
        l->expired = true;
    return err;
}

struct answer {
    bool is_done;
    int err;
};

static void on_exists(void *ctx, const struct client_reply *r)
{
    *(struct answer *)ctx = (struct answer){true, r->err};
}

static void tell_holder(struct lock *l)
{
    struct client_sync_reply r = {0};

    if (l->told || client_sync_get(l->s, l->before, &r) != 0) {
        client_sync_reply_free(&r);
        return;
    }
    l->told = true;
    fprintf(stderr, "muster: waiting for the lock %s; before us: ", l->dir + strlen(LOCKS "/"));
    print_text(stderr, (const char *)r.data.data);
    fputc('\n', stderr);
    client_sync_reply_free(&r);
}

static bool is_waiting(const struct lock *l)
{
    return !l->fired && !l->expired && l->interrupted == 0;
}

/* Until the one before us goes, or something else happens. ERR_TIMED_OUT: --wait is over. */
static int wait_for_change(struct lock *l)
{
    struct answer a = {0};

    tell_holder(l);
    client_exists(client_sync_client(l->s), clock_now_ms(), l->before, true, on_exists, &a);
    client_sync_kick(l->s);
    /* The answer is written to `a`: it has to come, and does, at the latest as an error. */
    while (!a.is_done)
        client_sync_turn(l->s, clock_now_ms() + 1000);
    if (a.err == ERR_NO_NODE)
        l->fired = true;
    while (a.err == 0 && is_waiting(l)) {
        uint64_t until = clock_now_ms() + 60000;
        if (clock_now_ms() >= l->wait_until_ms)
            return ERR_TIMED_OUT;
        client_sync_turn(l->s, until < l->wait_until_ms ? until : l->wait_until_ms);
    }
    return 0;
}

static int acquire(struct lock *l)
{
    int err = make_dir(l);

    if (err == 0)
        err = take_place(l);
    while (err == 0 && l->interrupted == 0) {
        if (l->expired) {
            fputs("muster: our place in the queue is lost; once more\n", stderr);
            l->expired = false;
            err = take_place(l);
            continue;
        }
        err = look(l);
        if (err != 0 || l->expired)
            continue;
        if (l->before == NULL)
            return 0;
        if (clock_now_ms() >= l->wait_until_ms)
            return ERR_TIMED_OUT;
        err = wait_for_change(l);
    }
    return err;
}

/* ---- the command ---- */

static uint64_t ends_ms(struct lock *l)
{
    return l->expired ? 0 : client_alive_until(client_sync_client(l->s));
}

/* When the command is asked to end, if nothing is heard from the servers until then. */
static uint64_t ask_at_ms(struct lock *l)
{
    uint64_t ends = ends_ms(l), before = client_timeout_ms(client_sync_client(l->s)) / 3;

    return ends > before ? ends - before : 0;
}

static void stop_in_time(struct lock *l)
{
    uint64_t now = clock_now_ms();

    if (!l->asked_to_end && now >= ask_at_ms(l)) {
        l->asked_to_end = true;
        fputs("muster: the lock is being lost: no server confirms it; the command is stopped\n",
              stderr);
        child_signal(&l->child, SIGTERM);
    }
    if (l->asked_to_end && !l->killed && now + KILL_BEFORE_MS >= ends_ms(l)) {
        l->killed = true;
        child_signal(&l->child, SIGKILL);
    }
}

static int run(struct lock *l)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, l->token);
    setenv("MUSTER_LOCK_TOKEN", text, 1);
    setenv("MUSTER_LOCK_PATH", l->path, 1);
    if (!child_start(&l->child, l->env->tail))
        return cmd_fail(EXIT_FAILED, "cannot start the command", strerror(errno), NULL, NULL);
    while (!child_reap(&l->child)) {
        uint64_t until = clock_now_ms() + 1000;
        uint64_t next = l->asked_to_end ? ends_ms(l) - KILL_BEFORE_MS : ask_at_ms(l);
        stop_in_time(l);
        if (l->killed)
            until = clock_now_ms() + 20;
        else if (next < until)
            until = next;
        client_sync_turn(l->s, until);
    }
    if (l->asked_to_end)
        return cmd_fail(EXIT_LOCK_LOST, "the command was stopped",
                        "its lock could not be confirmed in time",
                        "the servers have lost their quorum, or this machine its network",
                        "muster status");
    return child_exit_code(&l->child);
}

/* ---- the whole ---- */

static int not_acquired(struct lock *l, int err)
{
    if (l->interrupted != 0)
        return 128 + l->interrupted;
    if (err == ERR_TIMED_OUT && l->before != NULL)
        return cmd_fail(EXIT_TIMED_OUT, "the command was not run",
                        "the lock was not free in time", NULL,
                        "muster get, on the lowest of muster ls /locks/NAME, says who has it");
    return session_failed(l->s, "take the lock", l->dir, err, false);
}

static int options(struct lock *l, const char *name, uint32_t *session_ms)
{
    const char *wait = cmd_option(l->env, "wait"), *session = cmd_option(l->env, "session");
    long n = 0;

    if (strchr(name, '/') != NULL || strlen(name) > 200)
        return cmd_fail(EXIT_USAGE, name, "a lock's name has no \"/\" and at most 200 bytes",
                        NULL, "muster lock --help");
    l->wait_until_ms = UINT64_MAX;
    if (wait != NULL && !cmd_number(wait, 0, 10000000, &n))
        return cmd_fail(EXIT_USAGE, "--wait", "whole seconds are wanted", NULL,
                        "muster lock --help");
    if (wait != NULL)
        l->wait_until_ms = clock_now_ms() + (uint64_t)n * 1000;
    *session_ms = SESSION_TIMEOUT_MS;
    if (session != NULL && !cmd_number(session, 1, SESSION_MAX_S, &n))
        return cmd_fail(EXIT_USAGE, "--session", "whole seconds are wanted, 1 to 60", NULL,
                        "muster lock --help");
    if (session != NULL)
        *session_ms = (uint32_t)n * 1000;
    return 0;
}

static void names(struct lock *l, const char *name)
{
    struct buf b = {0};
    uint64_t id = 0;

    CHECK(uv_random(NULL, NULL, &id, sizeof id, 0, NULL) == 0);
    l->dir = session_child(LOCKS, name);
    buf_printf(&b, "%s/lock-%016" PRIx64 "-", l->dir, id);
    l->prefix = mem_dup_str(buf_text(&b));
    buf_free(&b);
}

int cmd_lock(struct cmd_env *env, int argc, char **argv)
{
    struct lock l = {.env = env};
    uint32_t session_ms = SESSION_TIMEOUT_MS;
    int code = options(&l, argv[1], &session_ms);

    (void)argc;
    if (code != 0)
        return code;
    names(&l, argv[1]);
    code = session_check_path(l.dir);
    if (code == 0)
        code = session_open(env, session_ms, on_event, on_watch, &l, &l.s);
    if (code == 0) {
        listen_to_signals(&l);
        int err = acquire(&l);
        code = err != 0 || l.interrupted != 0 ? not_acquired(&l, err) : run(&l);
        for (size_t i = 0; i < SIGNALS; i++)
            uv_close((uv_handle_t *)&l.signals[i], NULL);
        client_sync_close(l.s);
    }
    mem_free(l.dir);
    mem_free(l.prefix);
    mem_free(l.path);
    mem_free(l.before);
    return code;
}
