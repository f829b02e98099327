/* SPDX-License-Identifier: Apache-2.0 */
/* watch: a line, or a command, for each change.
 *
 * The commands run one after the other. What changes meanwhile waits, once for each path: the
 * last event of a path stands for those before it, for the command sees what is true when it
 * starts. "missed" stands for what nobody has seen: while the connection was lost, and when
 * more than WAITING_MAX paths wait. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/print.h"
#include "cli/recipe.h"
#include "host/clock.h"
#include "tree/watch.h"

#define WAITING_MAX 10000
#define MISSED 0 /* where the others have a number of enum watch_event */
#define SIGNALS 5

static const char *const names[] = {
    [MISSED] = "missed",
    [WATCH_CREATED] = "created",
    [WATCH_DELETED] = "deleted",
    [WATCH_DATA_CHANGED] = "changed",
    [WATCH_CHILDREN_CHANGED] = "children",
};

struct change {
    STAILQ_ENTRY(change) next;
    int type;
    char *path;
};

struct watching {
    struct cmd_env *env;
    struct client_sync *s;
    const char *path;
    bool is_set, is_once, is_seen; /* is_seen: a change, with --once */
    int interrupted;               /* the last signal that ends it; 0: none */
    STAILQ_HEAD(, change) waiting; /* for the command */
    unsigned waiting_n;
    struct child child;
    uv_signal_t signals[SIGNALS];
};

/* ---- a line ---- */

static void print_event(const struct watching *w, int type, const char *path)
{
    uint64_t wall_ms = clock_wall_ms();

    if (w->env->json) {
        print_json(json_pack("{s:I, s:s, s:s}", "at_ms", (json_int_t)wall_ms, "event",
                             names[type], "path", path));
    } else {
        time_t s = (time_t)(wall_ms / 1000);
        struct tm tm;
        char text[32] = "";
        if (localtime_r(&s, &tm) != NULL)
            strftime(text, sizeof text, "%H:%M:%S", &tm);
        printf("%s.%03u %-8s ", text, (unsigned)(wall_ms % 1000), names[type]);
        print_text(stdout, path);
        putchar('\n');
    }
    fflush(stdout); /* somebody is looking, or a pipe is waiting */
}

/* ---- what happens ---- */

static void free_change(struct change *c)
{
    mem_free(c->path);
    mem_free(c);
}

static void take_out(struct watching *w, struct change *c)
{
    STAILQ_REMOVE(&w->waiting, c, change, next);
    w->waiting_n--;
}

static void drop_changes(struct watching *w)
{
    struct change *c;

    while ((c = STAILQ_FIRST(&w->waiting)) != NULL) {
        take_out(w, c);
        free_change(c);
    }
}

static void add_change(struct watching *w, int type, const char *path)
{
    struct change *c, *same = NULL;

    if (type == MISSED) /* it is about everything */
        drop_changes(w);
    STAILQ_FOREACH(c, &w->waiting, next)
    if (c->type != MISSED && strcmp(c->path, path) == 0)
        same = c;
    if (same != NULL) {
        take_out(w, same);
        free_change(same);
    }
    c = mem_new(struct change);
    c->type = type;
    c->path = mem_dup_str(path);
    STAILQ_INSERT_TAIL(&w->waiting, c, next);
    w->waiting_n++;
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct watching *w = ctx;

    if (!w->is_set || (w->is_once && w->is_seen))
        return;
    w->is_seen = true;
    if (w->env->tail == NULL)
        print_event(w, type, path);
    else if (w->waiting_n < WAITING_MAX)
        add_change(w, type, path);
    else
        add_change(w, MISSED, w->path);
}

static void on_event(void *ctx, enum client_event ev)
{
    struct watching *w = ctx;

    if (!w->is_set)
        return;
    if (ev == CLIENT_EV_DISCONNECTED) {
        fputs("muster: the connection is lost; changes are not seen until it is back\n",
              stderr);
    } else if (ev == CLIENT_EV_CONNECTED && w->env->tail == NULL) {
        fputs("muster: connected again; look with muster get or muster ls what has changed\n",
              stderr);
    } else if (ev == CLIENT_EV_CONNECTED) {
        fputs("muster: connected again\n", stderr);
        if (!w->is_once || !w->is_seen)
            add_change(w, MISSED, w->path);
        w->is_seen = true;
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct watching *w = signal->data;

    if (number == SIGCHLD)
        return; /* it has woken the loop; that is all */
    w->interrupted = number;
    if (number != SIGINT || w->child.own_group) /* a terminal sends it to both */
        child_signal(&w->child, number);
}

static void listen_to_signals(struct watching *w)
{
    static const int numbers[SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD};

    /* For lines only Ctrl-C matters: the others end us as they end any program. */
    for (int i = 0; i < SIGNALS; i++) {
        CHECK(uv_signal_init(client_sync_loop(w->s), &w->signals[i]) == 0);
        w->signals[i].data = w;
        if (i == 0 || w->env->tail != NULL)
            uv_signal_start(&w->signals[i], on_signal, numbers[i]);
    }
}

/* ---- a command ---- */

/* What the znode holds now is the command's stdin; nothing when it is gone. */
static int data_now(struct watching *w, const struct change *c)
{
    struct client_sync_reply r = {0};
    char zxid[32];

    unsetenv("MUSTER_ZXID");
    int err = c->type != WATCH_DELETED ? client_sync_get(w->s, c->path, &r) : ERR_NO_NODE;
    if (err == 0) {
        snprintf(zxid, sizeof zxid, "%" PRId64, r.stat.mzxid);
        setenv("MUSTER_ZXID", zxid, 1);
    }
    int fd = recipe_stdin(r.data.data, err == 0 ? r.data.len : 0);
    client_sync_reply_free(&r);
    return fd;
}

/* Runs it for the first that waits; its exit code. */
static int run_one(struct watching *w)
{
    struct change *c = STAILQ_FIRST(&w->waiting);

    take_out(w, c); /* before we wait for the data: then more can come */
    int fd = data_now(w, c);
    setenv("MUSTER_EVENT", names[c->type], 1);
    setenv("MUSTER_PATH", c->path, 1);
    free_change(c);
    if (fd < 0 || !child_start(&w->child, w->env->tail, fd)) {
        if (fd >= 0)
            close(fd);
        return cmd_fail(EXIT_FAILED, "cannot start the command", strerror(errno), NULL, NULL);
    }
    close(fd);
    while (!child_reap(&w->child))
        client_sync_turn(w->s, clock_now_ms() + 1000);
    int code = child_exit_code(&w->child);
    w->child = (struct child){0};
    if (code != 0 && w->interrupted == 0 && !w->is_once)
        fprintf(stderr, "muster: the command has ended with %d\n", code);
    return code;
}

/* ---- the whole ---- */

static int watch(struct watching *w)
{
    int code = 0;

    fprintf(stderr, "Watching %s; Ctrl-C ends it.\n", w->path);
    while (w->interrupted == 0 && !ferror(stdout)) {
        if (w->waiting_n > 0)
            code = run_one(w);
        if (code == EXIT_NO_COMMAND || (w->is_once && w->is_seen && w->waiting_n == 0))
            return code;
        if (w->waiting_n == 0)
            client_sync_turn(w->s, clock_now_ms() + 60000);
    }
    return w->interrupted != 0 ? 128 + w->interrupted : EXIT_INTERRUPTED;
}

int cmd_watch(struct cmd_env *env, int argc, char **argv)
{
    struct watching w = {.env = env, .path = argv[1]};
    int code = session_check_path(argv[1]);

    (void)argc;
    STAILQ_INIT(&w.waiting);
    w.is_once = cmd_option(env, "once") != NULL;
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, on_event, on_watch, &w, &w.s);
    if (code != 0)
        return code;
    int err = client_sync_add_watch(w.s, argv[1], cmd_option(env, "recursive") != NULL);
    if (err != 0) {
        code = session_failed(w.s, "watch", argv[1], err, false);
        client_sync_close(w.s);
        return code;
    }
    w.is_set = true;
    listen_to_signals(&w);
    code = watch(&w);
    for (int i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&w.signals[i], NULL);
    w.is_set = false;
    client_sync_close(w.s);
    drop_changes(&w);
    return code;
}
