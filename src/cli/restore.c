/* SPDX-License-Identifier: Apache-2.0 */
/* restore: a point of a backup becomes a machine of its own, in a new data directory. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "cli/cmd.h"
#include "cli/confined.h"
#include "cli/machine.h"
#include "cli/print.h"
#include "cli/restoring.h"
#include "cli/stopped.h"

#define ALONE_NAME "server" /* as muster server makes it */
#define ALONE_ADDRESS "127.0.0.1"
#define TIME_TEXT 32

struct restoring {
    struct cmd_env *env;
    const char *from, *to;
    struct backup_point point;
    struct identity self;
    struct backup_dir dir;
    struct replay replay;
    uint64_t above; /* no client has seen more */
    struct buf why;
};

static int failed(struct restoring *r, int err)
{
    const char *fact = r->why.len > 0 ? buf_text(&r->why) : err_text(err);

    if (err == ERR_TIMED_OUT || stopped_is_asked()) {
        fputs("Interrupted: nothing was restored.\n", stderr);
        return EXIT_INTERRUPTED;
    }
    if (err == ERR_CORRUPT)
        return cmd_fail(EXIT_DAMAGED, "nothing was restored", fact,
                        "the backup is damaged there",
                        "muster backup --verify DIR says what can be restored; then --at");
    if (err == ERR_NOT_FOUND)
        return cmd_fail(EXIT_NOT_FOUND, "nothing was restored", fact,
                        "that point is not in this backup",
                        "muster backup --list DIR shows what is");
    return cmd_fail(err == ERR_EXISTS || err == ERR_TOO_BIG ? EXIT_UNSAFE : EXIT_FAILED,
                    "nothing was restored", fact, NULL, "muster restore --help");
}

static int options(struct restoring *r)
{
    struct cmd_env *env = r->env;
    const char *at = cmd_option(env, "at"), *above = cmd_option(env, "above");
    struct machine_options o = {.dir = cmd_option(env, "data"),
                                .name = cmd_option(env, "name"),
                                .address = cmd_option(env, "address")};
    struct backup_point p;
    struct buf ignored = {0};

    r->to = o.dir;
    r->point = (struct backup_point){UINT64_MAX, INT64_MAX};
    if (at != NULL && !replay_parse_point(at, &r->point))
        return cmd_fail(EXIT_USAGE, "--at", "neither a zxid nor a time",
                        "as 0x1a2b, 6699, \"2026-11-20 15:04:05\" (local) or "
                        "2026-11-20T14:04:05Z",
                        "muster backup --list DIR");
    if (above != NULL && (strchr(above, ':') != NULL || !replay_parse_point(above, &p)))
        return cmd_fail(EXIT_USAGE, "--above", "a zxid is wanted", NULL,
                        "muster restore --help");
    r->above = above != NULL ? p.index : 0;
    if (cmd_option(env, "dry-run") != NULL)
        return 0;
    if (o.dir == NULL)
        return cmd_fail(EXIT_USAGE, "restore", "--data DIR is needed: where the new machine is",
                        NULL, "muster restore --help; or look first: --dry-run");
    if (o.name == NULL && o.address == NULL) {
        o.name = ALONE_NAME;
        o.address = ALONE_ADDRESS;
    }
    int code = machine_alone(&o, &r->self, "restore DIR");
    if (code != 0)
        return code;
    struct identity old;
    int err = identity_load(&old, o.dir, &ignored);
    buf_free(&ignored);
    if (err != ERR_NOT_FOUND)
        return cmd_fail(EXIT_UNSAFE, o.dir, "it holds a machine already; nothing was changed",
                        "a restore never writes over data",
                        "name another directory, or move this one away first");
    return 0;
}

static int replay(struct restoring *r)
{
    const struct manifest *m = &r->dir.manifest;
    size_t i;
    int err = replay_find(&r->dir, &r->point, &i, &r->why);

    for (bool is_first = true; err == 0 && i < m->n && !r->replay.is_at_point; i++) {
        if (!is_first && m->v[i].is_full)
            break;
        is_first = false;
        fprintf(stderr, "zxid 0x%" PRIx64 " ...\n", m->v[i].to);
        err = replay_file(&r->replay, &r->dir, i, &r->point, &r->why);
        if (r->replay.index == r->point.index)
            break;
    }
    if (err == 0 && r->point.index != UINT64_MAX && r->replay.index != r->point.index) {
        buf_printf(&r->why, "there is no zxid 0x%" PRIx64 " in it: an epoch ended before",
                   r->point.index);
        err = ERR_NOT_FOUND;
    }
    return err;
}

static void print_done(const struct restoring *r, uint64_t index, int64_t time_ms,
                       const struct restored *d)
{
    char time[TIME_TEXT];

    replay_print_time(time, sizeof time, time_ms);
    if (r->env->json) {
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "zxid", (json_int_t)index,
                             "time_ms", (json_int_t)time_ms, "znodes", (json_int_t)d->znodes,
                             "sessions_ended", (json_int_t)d->sessions, "ephemerals_ended",
                             (json_int_t)d->ephemerals, "next_zxid", (json_int_t)d->index + 1));
        return;
    }
    printf("point       zxid 0x%" PRIx64 ", last change %s\n", index, time);
    printf("znodes      %" PRIu64 "\n", d->znodes);
    printf("left out    %" PRIu64 " sessions and their %" PRIu64
           " ephemerals: they have ended\n",
           d->sessions, d->ephemerals);
    if (d->index > 0)
        printf("zxids       go on at 0x%" PRIx64 ": far above what clients have seen\n",
               d->index + 1);
}

static int make_machine(struct restoring *r)
{
    const struct manifest *m = &r->dir.manifest;
    uint64_t index = r->replay.index, seen = r->above;
    int64_t time_ms = r->replay.time_ms;
    struct restored d = {0};
    struct tree_facts f;
    int err = 0;

    for (size_t i = 0; i < m->n; i++)
        seen = m->v[i].to > seen ? m->v[i].to : seen;
    bool is_dry = cmd_option(r->env, "dry-run") != NULL;
    const struct machine_options o = {.dir = r->to};
    int code = is_dry ? 0 : confined_to_owner(&o, true); /* the backup has been read */
    if (code != 0)
        return code;
    if (is_dry) {
        tree_facts(r->replay.tree, &f);
        d = (struct restored){.sessions = f.sessions,
                              .ephemerals = f.ephemerals,
                              .znodes = f.znodes - f.ephemerals};
    } else {
        err = restore_into(r->to, &r->self, &r->replay, seen, &d, &r->why);
        if (err == 0)
            err = restore_check(r->to, &d, &r->why);
    }
    if (err != 0)
        return failed(r, err);
    print_done(r, index, time_ms, &d);
    if (r->to != NULL && cmd_option(r->env, "dry-run") == NULL)
        fprintf(stderr,
                "A machine with this tree, %s, is in %s: a cluster of its own, with a new "
                "secret. The old\nmachines' data does not fit it any more: each joins anew. "
                "Start it:\n  muster %s --data %s\n%s",
                r->self.name, r->to,
                strcmp(r->self.address, ALONE_ADDRESS) == 0 ? "server" : "up", r->to,
                strcmp(r->self.address, ALONE_ADDRESS) == 0
                    ? ""
                    : "then, for each further machine: muster token\n");
    else
        fputs(
            "Nothing was written. Without --dry-run, and with --data DIR, a machine with this "
            "tree is made.\n",
            stderr);
    return 0;
}

int cmd_restore(struct cmd_env *env, int argc, char **argv)
{
    struct restoring r = {.env = env, .from = argv[1]};
    int code = options(&r);

    (void)argc;
    if (code != 0)
        return code;
    r.dir.fd = -1;
    stopped_watch();
    int err = backup_dir_open(&r.dir, r.from, false, &r.why);
    if (err == 0)
        err = replay(&r);
    if (err == 0 && stopped_is_asked())
        err = ERR_TIMED_OUT;
    code = err == 0 ? make_machine(&r) : failed(&r, err);
    replay_free(&r.replay);
    backup_dir_close(&r.dir);
    buf_free(&r.why);
    return code;
}
