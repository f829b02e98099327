/* SPDX-License-Identifier: Apache-2.0 */
/* barrier: wait until so many have come; in the layouts of kazoo's DoubleBarrier and Barrier,
 * so that Python and shell can meet at one:
 *
 *   /barriers/NAME/HEX     ephemeral: one who has come
 *   /barriers/NAME/ready   all have come; made for kazoo, and gone when they leave
 *   /gates/NAME            there: closed (--hold, --release, --pass)
 *
 * A `ready` that a crash left behind, or that is gone again before everybody has looked, says
 * nothing. So who sees that all have come writes that into the data of /barriers/NAME, if
 * nobody has done so since it looked. Then all have come exactly for those whose znode is
 * older than that write; who is younger waits for the next time. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/recipe.h"
#include "host/clock.h"
#include "tree/watch.h"
#include "wire/wire.h"

#define BARRIERS "/barriers"
#define GATES "/gates"
#define READY "ready"
#define COUNT_MAX 1000

struct barrier {
    struct recipe r;
    char *dir, *own, *ready;
    size_t count;             /* so many are waited for */
    size_t here;              /* so many were there when we looked last */
    bool is_there, saw_ready; /* our znode; that `ready` was made since */
    int64_t czxid;            /* of our znode */
    bool is_complete;
    struct client_sync_reply others;
};

/* ---- coming ---- */

static void on_watch(void *ctx, int type, const char *path)
{
    struct barrier *b = ctx;

    if (type == WATCH_CREATED && strcmp(path, b->ready) == 0)
        b->saw_ready = true;
}

struct answer {
    struct barrier *b;
    bool is_done;
    int err;
};

/* Called in its place between the watches: a `ready` that was made before does not count. */
static void on_created(void *ctx, const struct client_reply *reply)
{
    struct answer *a = ctx;

    a->is_done = true;
    a->err = reply->err;
    if (a->err == 0) {
        a->b->is_there = true;
        a->b->saw_ready = false;
        a->b->czxid = reply->zxid;
    }
}

static int find_own(struct barrier *b)
{
    struct client_sync_reply r = {0};
    int err = client_sync_exists(b->r.s, b->own, &r);

    if (err == 0) {
        b->is_there = true;
        b->saw_ready = false; /* when, is not known; the next look finds it if it is new */
        b->czxid = r.stat.czxid;
    }
    client_sync_reply_free(&r);
    return err;
}

static int come(struct barrier *b)
{
    struct answer a = {.b = b};
    char text[RECIPE_HOLDER_MAX];

    if (b->is_there)
        fputs("muster: our place at the barrier is lost; once more\n", stderr);
    b->is_there = b->r.expired = false;
    recipe_describe(&b->r, text);
    int err = recipe_make_dir(b->r.s, b->dir);
    if (err == 0)
        err = client_sync_add_watch(b->r.s, b->dir, true);
    if (err != 0)
        return err;
    client_create(client_sync_client(b->r.s), clock_now_ms(), b->own, text, strlen(text),
                  WIRE_EPHEMERAL, on_created, &a);
    client_sync_kick(b->r.s);
    while (!a.is_done) /* it comes, at the latest as an error */
        client_sync_turn(b->r.s, clock_now_ms() + 1000);
    return a.err == ERR_NODE_EXISTS ? find_own(b) : a.err;
}

/* How many of b->others have come since the barrier was complete last. */
static int count_here(struct barrier *b, int64_t since)
{
    struct client_sync_reply r = {0};
    int err = 0;

    b->here = 0;
    for (size_t i = 0; err == 0 && i < b->others.children_n; i++) {
        if (strcmp(b->others.children[i], READY) == 0)
            continue;
        char *path = session_child(b->dir, b->others.children[i]);
        err = client_sync_exists(b->r.s, path, &r);
        if (err == 0 && r.stat.czxid > since)
            b->here++;
        if (err == ERR_NO_NODE)
            err = 0;
        mem_free(path);
    }
    client_sync_reply_free(&r);
    return err;
}

/* Others wait for this; ours is what is written into the data. */
static void make_ready(struct barrier *b)
{
    if (client_sync_create(b->r.s, b->ready, "", 0, WIRE_PERSISTENT, NULL) != ERR_NODE_EXISTS)
        return;
    /* Left behind; who waits for it to be made has not heard of it. */
    (void)recipe_delete(&b->r, b->ready);
    (void)client_sync_create(b->r.s, b->ready, "", 0, WIRE_PERSISTENT, NULL);
}

/* All are here: says so, if nobody has since `version` was looked at. */
static int complete(struct barrier *b, int32_t version)
{
    char text[32];

    snprintf(text, sizeof text, "%zu have come", b->here);
    int err = client_sync_set(b->r.s, b->dir, text, strlen(text), version, NULL);
    if (err == 0) {
        b->is_complete = true;
        make_ready(b);
    }
    return err == ERR_BAD_VERSION ? 0 : err; /* then the next look tells */
}

static int look(struct barrier *b)
{
    struct client_sync_reply dir = {0}, ready = {0};

    b->r.fired = false;
    int err = client_sync_exists(b->r.s, b->dir, &dir);
    if (err == 0)
        err = client_sync_children(b->r.s, b->dir, &b->others);
    if (err == 0 && client_sync_exists(b->r.s, b->ready, &ready) == 0)
        b->saw_ready |= ready.stat.czxid > b->czxid;
    bool own = false;
    for (size_t i = 0; err == 0 && i < b->others.children_n; i++)
        own |= strcmp(b->others.children[i], strrchr(b->own, '/') + 1) == 0;
    if (err == ERR_NO_NODE || (err == 0 && !own)) {
        b->r.expired = true; /* somebody has deleted our znode, or all of it */
        err = 0;
    } else if (err == 0 && (b->saw_ready || dir.stat.mzxid > b->czxid)) {
        b->is_complete = true;
    } else if (err == 0 && (err = count_here(b, dir.stat.mzxid)) == 0 && b->here >= b->count) {
        b->r.fired = true; /* if somebody else is first, there is something to look at */
        err = complete(b, dir.stat.version);
    }
    client_sync_reply_free(&dir);
    client_sync_reply_free(&ready);
    return err;
}

static int enter(struct barrier *b)
{
    int err = 0;

    while (!b->is_complete && b->r.interrupted == 0) {
        err = !b->is_there || b->r.expired ? come(b) : look(b);
        if (err == ERR_SESSION_EXPIRED)
            b->r.expired = true;
        else if (err != 0 && !recipe_again(&b->r, err))
            return err;
        if (err == 0 && b->is_there && !b->is_complete && !b->r.fired && !b->r.expired)
            err = recipe_wait(&b->r);
        if (err == ERR_TIMED_OUT && recipe_is_late(&b->r))
            return err;
    }
    b->r.wait_until_ms = UINT64_MAX;
    return 0;
}

/* ---- leaving ---- */

/* Until that one is not there. */
static int wait_gone(struct recipe *r, const char *path)
{
    int err;

    for (;;) {
        r->fired = false;
        err = recipe_watch(r, path);
        if (err == 0)
            err = recipe_wait(r);
        else if (!recipe_again(r, err))
            return err == ERR_NO_NODE ? 0 : err;
        if (err == ERR_TIMED_OUT && recipe_is_late(r))
            return err;
        if (r->interrupted != 0)
            return 0;
        r->expired = false; /* the next look is made by another session: as good */
    }
}

/* Those who came with us are there until they leave, and who comes for the next time can do
 * so only after us. */
static int leave(struct barrier *b)
{
    int err;

    (void)recipe_delete(&b->r, b->ready);
    do {
        err = client_sync_children(b->r.s, b->dir, &b->others);
    } while (recipe_again(&b->r, err));
    if (err == 0)
        err = recipe_delete(&b->r, b->own);
    for (size_t i = 0; err == 0 && i < b->others.children_n; i++) {
        if (strcmp(b->others.children[i], READY) == 0 || b->r.interrupted != 0)
            continue;
        char *path = session_child(b->dir, b->others.children[i]);
        if (strcmp(path, b->own) != 0)
            err = wait_gone(&b->r, path);
        mem_free(path);
    }
    return err;
}

/* ---- the double barrier ---- */

static int not_entered(struct barrier *b, int err)
{
    struct buf fact = {0};

    if (b->r.interrupted != 0)
        return 128 + b->r.interrupted;
    if (err != ERR_TIMED_OUT || !recipe_is_late(&b->r))
        return session_failed(b->r.s, "come to", b->dir, err, false);
    buf_printf(&fact, "%zu of %zu had come in time", b->here, b->count);
    int code = cmd_fail(EXIT_TIMED_OUT, b->dir, buf_text(&fact), NULL,
                        "muster ls, on that path, shows who is there");
    buf_free(&fact);
    return code;
}

static int meet(struct barrier *b, const char *name)
{
    int err = enter(b);

    if (err != 0 || b->r.interrupted != 0)
        return not_entered(b, err);
    if (b->r.env->tail == NULL) {
        (void)recipe_delete(&b->r, b->ready);
        return EXIT_OK;
    }
    recipe_setenv("BARRIER", "", name);
    int code = recipe_run(&b->r, -1);
    if (b->r.asked_to_end || b->r.told_to_end != 0)
        return code; /* our place goes with the session */
    err = leave(b);
    if (err != 0)
        return session_failed(b->r.s, "leave", b->dir, err, false);
    return b->r.interrupted != 0 ? 128 + b->r.interrupted : code;
}

static int double_barrier(struct cmd_env *env, const char *name, long count)
{
    struct barrier b = {.count = (size_t)count, .dir = recipe_path(env, BARRIERS, name)};

    if (b.dir == NULL)
        return EXIT_USAGE;
    int code = recipe_open(&b.r, env, "place at the barrier");
    if (code == 0) {
        b.r.on_watch = on_watch;
        b.r.ctx = &b;
        b.own = session_child(b.dir, b.r.id);
        b.ready = session_child(b.dir, READY);
        code = meet(&b, name);
        recipe_close(&b.r);
    }
    mem_free(b.dir);
    mem_free(b.own);
    mem_free(b.ready);
    client_sync_reply_free(&b.others);
    return code;
}

/* ---- the simple one ---- */

static int gate(struct cmd_env *env, const char *name)
{
    struct recipe r;
    char *path = recipe_path(env, GATES, name);
    const char *verb = "hold";
    int err;

    if (path == NULL)
        return EXIT_USAGE;
    int code = recipe_open(&r, env, "gate");
    if (code != 0) {
        mem_free(path);
        return code;
    }
    if (cmd_option(env, "hold") != NULL) {
        err = recipe_make_dir(r.s, path);
    } else if (cmd_option(env, "release") != NULL) {
        verb = "release";
        err = recipe_delete(&r, path);
    } else {
        verb = "pass";
        err = wait_gone(&r, path);
    }
    if (r.interrupted != 0)
        code = 128 + r.interrupted;
    else if (err == ERR_TIMED_OUT && recipe_is_late(&r))
        code = cmd_fail(EXIT_TIMED_OUT, path, "it was not released in time", NULL,
                        "muster stat, on that path, shows since when it is held");
    else if (err != 0)
        code = session_failed(r.s, verb, path, err, true);
    recipe_close(&r);
    mem_free(path);
    return code;
}

int cmd_barrier(struct cmd_env *env, int argc, char **argv)
{
    static const char *const ways[] = {"count", "hold", "release", "pass"};
    const char *count = cmd_option(env, "count");
    int given = 0;
    long n = 0;

    (void)argc;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        given += cmd_option(env, ways[i]) != NULL;
    if (given != 1)
        return cmd_fail(EXIT_USAGE, "barrier",
                        "one of --count, --hold, --release and --pass is wanted", NULL,
                        "muster barrier --help");
    if (count != NULL && !cmd_number(count, 1, COUNT_MAX, &n))
        return cmd_fail(EXIT_USAGE, "--count", "a number from 1 to 1000 is wanted", NULL,
                        "muster barrier --help");
    if (count == NULL && env->tail != NULL)
        return cmd_fail(EXIT_USAGE, "barrier", "a command goes with --count only", NULL,
                        "muster barrier --help");
    return count != NULL ? double_barrier(env, argv[1], n) : gate(env, argv[1]);
}
