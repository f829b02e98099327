/* SPDX-License-Identifier: Apache-2.0 */
/* lock: a command that runs while a lock of the site is held; see turn.h, recipe.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/turn.h"

#define LOCKS "/locks"

static int not_acquired(const struct turn *t, int err)
{
    if (t->r->interrupted != 0)
        return 128 + t->r->interrupted;
    if (err == ERR_TIMED_OUT && t->before != NULL)
        return cmd_fail(EXIT_TIMED_OUT, "the command was not run",
                        "the lock was not free in time", NULL,
                        "muster get, on the lowest of muster ls /locks/NAME, says who has it");
    return session_failed(t->r->s, "take the lock", t->dir, err, false);
}

static int run(const struct turn *t)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, t->token);
    setenv("MUSTER_LOCK_TOKEN", text, 1);
    setenv("MUSTER_LOCK_PATH", t->path, 1);
    return recipe_run(t->r);
}

int cmd_lock(struct cmd_env *env, int argc, char **argv)
{
    struct recipe r;
    struct turn t;
    char *dir = recipe_path(env, LOCKS, argv[1]);

    (void)argc;
    if (dir == NULL)
        return EXIT_USAGE;
    int code = recipe_open(&r, env, "lock");
    if (code != 0) {
        mem_free(dir);
        return code;
    }
    turn_open(&t, &r, dir, argv[1]);
    int err = turn_take(&t);
    code = err != 0 || r.interrupted != 0 ? not_acquired(&t, err) : run(&t);
    recipe_close(&r);
    turn_close(&t);
    return code;
}
