/* SPDX-License-Identifier: Apache-2.0 */
/* lock, elect: a command that runs while a lock of the site is held, or while this candidate
 * leads. Both stand in line (turn.h), and both stop the command in time (recipe.h).
 *
 * They differ in what is expected of them: who wants a lock wants it for one piece of work,
 * and hears of it when the servers are away; a candidate stands as long as it takes. */
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/print.h"
#include "cli/turn.h"

#define LOCKS "/locks"
#define ELECTIONS "/elections"

/* ---- what both do ---- */

static int not_taken(const struct turn *t, int err)
{
    struct buf fact = {0}, next = {0}, verb = {0};
    int code;

    if (t->r->interrupted != 0)
        return 128 + t->r->interrupted;
    if (err == ERR_TIMED_OUT && t->before != NULL) {
        buf_printf(&fact, "the %s was not free in time", t->r->what);
        buf_printf(&next, "muster get, on the lowest of muster ls %s, says who has it", t->dir);
        code = cmd_fail(EXIT_TIMED_OUT, "the command was not run", buf_text(&fact), NULL,
                        buf_text(&next));
    } else {
        buf_printf(&verb, "take the %s", t->r->what);
        code = session_failed(t->r->s, buf_text(&verb), t->dir, err, false);
    }
    buf_free(&fact);
    buf_free(&next);
    buf_free(&verb);
    return code;
}

static int run(const struct turn *t, const char *word)
{
    recipe_setenv(word, "", t->name);
    recipe_setenv(word, "PATH", t->path);
    recipe_setenv_token(t->token);
    return recipe_run(t->r, -1);
}

/* ---- lock ---- */

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
    if (err != 0 || r.interrupted != 0) {
        code = not_taken(&t, err);
    } else {
        char text[32]; /* the name that the token had first */
        snprintf(text, sizeof text, "%" PRId64, t.token);
        recipe_setenv("LOCK", "TOKEN", text);
        code = run(&t, "LOCK");
    }
    recipe_close(&r);
    turn_close(&t);
    return code;
}

/* ---- elect ---- */

static void print_leader(const struct cmd_env *env, const char *path, size_t candidates,
                         const struct client_sync_reply *r)
{
    if (env->json) {
        print_json(json_pack("{s:o, s:s, s:I, s:I}", "leader",
                             print_data(r->data.data, r->data.len, r->has_data), "path", path,
                             "token", (json_int_t)r->stat.czxid, "candidates",
                             (json_int_t)candidates));
        return;
    }
    print_text(stdout, (const char *)r->data.data);
    putchar('\n');
}

/* The first in line, who may go while we look: then the next. */
static int who_leads(const struct cmd_env *env, struct client_sync *s, const char *dir)
{
    struct client_sync_reply all = {0}, one = {0};
    int err, code = 0;

    do {
        size_t candidates = 0;
        err = client_sync_children(s, dir, &all);
        const char *first = err == 0 ? turn_first(all.children, all.children_n) : NULL;
        if (first == NULL)
            break;
        for (size_t i = 0; i < all.children_n; i++)
            candidates += turn_sequence(all.children[i]) != NULL;
        char *path = session_child(dir, first);
        err = client_sync_get(s, path, &one);
        if (err == 0)
            print_leader(env, path, candidates, &one);
        mem_free(path);
    } while (err == ERR_NO_NODE);
    if (err == ERR_NO_NODE || (err == 0 && turn_first(all.children, all.children_n) == NULL))
        code = cmd_fail(EXIT_NOT_FOUND, dir, "nobody stands for this election", NULL,
                        "muster elect NAME -- COMMAND... stands for it");
    else if (err != 0)
        code = session_failed(s, "read", dir, err, false);
    client_sync_reply_free(&all);
    client_sync_reply_free(&one);
    return code;
}

static int show_leader(struct cmd_env *env, const char *dir)
{
    struct client_sync *s;
    int code = session_open(env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &s);

    if (code != 0)
        return code;
    code = who_leads(env, s, dir);
    client_sync_close(s);
    return code;
}

/* Until the command has ended by itself or somebody wants us to end; with --keep also beyond
 * a leadership that was lost. */
static int stand(struct turn *t, bool keeps)
{
    int code;

    for (;;) {
        int err = turn_take(t);
        if (err != 0 || t->r->interrupted != 0)
            return not_taken(t, err);
        fprintf(stderr, "muster: leading %s, token %" PRId64 "\n", t->name, t->token);
        code = run(t, "ELECTION");
        if (!t->r->asked_to_end || !keeps || t->r->told_to_end != 0)
            return code;
        /* Whoever can reach the servers better is to lead: to the end of the line. */
        fprintf(stderr, "muster: standing for %s again\n", t->name);
        err = turn_leave(t);
        if (err != 0)
            return not_taken(t, err);
    }
}

int cmd_elect(struct cmd_env *env, int argc, char **argv)
{
    struct recipe r;
    struct turn t;
    bool who = cmd_option(env, "who") != NULL;

    (void)argc;
    if (who == (env->tail != NULL))
        return cmd_fail(EXIT_USAGE, "elect", "either --who, or a command line behind \"--\"",
                        NULL, "muster elect --help");
    char *dir = recipe_path(env, ELECTIONS, argv[1]);
    if (dir == NULL)
        return EXIT_USAGE;
    int code = who ? show_leader(env, dir) : recipe_open(&r, env, "leadership");
    if (who || code != 0) {
        mem_free(dir);
        return code;
    }
    turn_open(&t, &r, dir, argv[1]);
    t.is_patient = true;
    code = stand(&t, cmd_option(env, "keep") != NULL);
    recipe_close(&r);
    turn_close(&t);
    return code;
}
