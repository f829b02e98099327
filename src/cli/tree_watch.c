/* SPDX-License-Identifier: Apache-2.0 */
/* watch */
#include <signal.h>
#include <time.h>
#include <uv.h>

#include "base/check.h"
#include "base/err.h"
#include "cli/print.h"
#include "cli/session.h"
#include "host/clock.h"
#include "tree/watch.h"

struct watching {
    bool json, is_set, stop;
};

static void print_event(void *ctx, int type, const char *path)
{
    static const char *const names[] = {
        [WATCH_CREATED] = "created",
        [WATCH_DELETED] = "deleted",
        [WATCH_DATA_CHANGED] = "changed",
        [WATCH_CHILDREN_CHANGED] = "children",
    };
    const struct watching *w = ctx;
    uint64_t wall_ms = clock_wall_ms();

    if (w->json) {
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

static void on_event(void *ctx, enum client_event ev)
{
    const struct watching *w = ctx;

    if (!w->is_set)
        return;
    if (ev == CLIENT_EV_DISCONNECTED)
        fputs("muster: the connection is lost; changes are not seen until it is back\n",
              stderr);
    else if (ev == CLIENT_EV_CONNECTED)
        fputs("muster: connected again; look with muster get or muster ls what has changed\n",
              stderr);
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    ((struct watching *)signal->data)->stop = true;
}

int cmd_watch(struct cmd_env *env, int argc, char **argv)
{
    struct watching w = {.json = env->json};
    struct client_sync *s;
    uv_signal_t interrupt;
    int code = session_check_path(argv[1]);

    (void)argc;
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, on_event, print_event, &w, &s);
    if (code != 0)
        return code;
    int err = client_sync_add_watch(s, argv[1], cmd_option(env, "recursive") != NULL);
    if (err != 0) {
        code = session_failed(s, "watch", argv[1], err, false);
        client_sync_close(s);
        return code;
    }
    w.is_set = true;
    CHECK(uv_signal_init(client_sync_loop(s), &interrupt) == 0);
    interrupt.data = &w;
    uv_signal_start(&interrupt, on_signal, SIGINT);
    fprintf(stderr, "Watching %s; Ctrl-C ends it.\n", argv[1]);
    while (!w.stop && !ferror(stdout))
        client_sync_turn(s, clock_now_ms() + 60000);
    uv_close((uv_handle_t *)&interrupt, NULL);
    w.is_set = false;
    client_sync_close(s);
    return EXIT_INTERRUPTED;
}
