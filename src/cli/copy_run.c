/* SPDX-License-Identifier: Apache-2.0 */
/* The two sessions of import --from, the walk over the tree, and the command. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/auth.h"
#include "cli/copy_internal.h"
#include "cli/print.h"
#include "cli/session.h"
#include "host/clock.h"
#include "server/secret.h"
#include "wire/wire.h"

/* ---- two sessions, one wait ---- */

static bool is_up(const struct side *s)
{
    return client_state(client_sync_client(s->sync)) == CLIENT_CONNECTED;
}

static void pump(struct copy *c)
{
    if (!is_up(&c->from) || !is_up(&c->to)) {
        if (c->away_since_ms == 0)
            c->away_since_ms = clock_now_ms();
        return;
    }
    c->away_since_ms = 0;
    if (c->walk_again) {
        c->walk_again = false;
        fputs("muster: connected to the source again; all of it is looked at once more\n",
              stderr);
        copy_look_at(c, "", true);
    }
    while (c->stack != NULL && c->running < RUNNING_MAX) {
        struct item *it = c->stack;
        c->stack = it->next;
        copy_start(c, it);
    }
}

static void on_other(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events; /* the source's loop runs next */
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    ((struct copy *)signal->data)->stop = true;
}

/* The source's loop has its own file to wait on, which the other loop waits on, too. */
static void turn(struct copy *c)
{
    uv_loop_t *other = client_sync_loop(c->from.sync);
    uint64_t before = c->happened;

    pump(c);
    client_sync_kick(c->from.sync);
    client_sync_kick(c->to.sync);
    uv_run(other, UV_RUN_NOWAIT);
    copy_progress(c);
    if (c->happened != before) /* there may be more to ask, or nothing to wait for */
        return;
    int wait_ms = uv_backend_timeout(other);
    if (wait_ms < 0 || wait_ms > TURN_MS)
        wait_ms = TURN_MS;
    if (wait_ms == 0)
        wait_ms = 1;
    client_sync_turn(c->to.sync, clock_now_ms() + (uint64_t)wait_ms);
}

static bool is_walking(const struct copy *c) { return c->items.count > 0 || c->walk_again; }

/* 0, or an exit code. */
static int walk(struct copy *c)
{
    copy_look_at(c, "", true);
    while (is_walking(c) && !c->stop) {
        turn(c);
        if (!c->follow && c->away_since_ms != 0 &&
            clock_now_ms() > c->away_since_ms + c->env->timeout_ms)
            return cmd_fail(EXIT_TIMED_OUT, "the copy is not whole",
                            is_up(&c->from) ? "the servers of --server do not answer"
                                            : "the source does not answer",
                            NULL, "the same command again: it goes on where the trees differ");
    }
    return c->stop ? EXIT_INTERRUPTED : 0;
}

/* ---- the command ---- */

static void print_counts(const struct copy *c)
{
    const struct counts *n = &c->n;

    if (c->env->json) {
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "looked_at",
                             (json_int_t)n->looked, "created", (json_int_t)n->created, "set",
                             (json_int_t)n->set, "access_lists", (json_int_t)n->acls, "deleted",
                             (json_int_t)n->deleted, "ephemerals_left_out",
                             (json_int_t)n->ephemerals, "kept", (json_int_t)n->kept, "refused",
                             (json_int_t)n->refused, "different", (json_int_t)n->different));
        return;
    }
    if (!c->compare)
        printf("copied      %" PRIu64 " created, %" PRIu64 " set, %" PRIu64
               " access lists, %" PRIu64 " deleted\n",
               n->created, n->set, n->acls, n->deleted);
    printf("left out    %" PRIu64 " ephemerals%s\n", n->ephemerals,
           c->keep ? "; what only the copy has" : "");
    if (n->refused > 0)
        printf("refused     %" PRIu64 " znodes could not be copied or compared\n", n->refused);
}

/* Says what still differs: what changed meanwhile, or could not be copied. */
static int compare_all(struct copy *c)
{
    struct counts before = c->n;

    bool was_compare = c->compare;
    c->n = (struct counts){0};
    c->compare = true;
    int code = walk(c);
    c->compare = was_compare;
    uint64_t different = c->n.different, refused = c->n.refused, looked = c->n.looked;
    if (code != 0)
        return code;
    if (!c->env->json)
        printf("compared    %" PRIu64 " znodes, %" PRIu64 " differences\n", looked, different);
    if (!was_compare)
        c->n = before;
    c->n.different = different;
    if (refused > before.refused)
        c->n.refused = refused;
    return different > 0 ? EXIT_DIFFERENT : c->n.refused > 0 ? EXIT_FAILED : 0;
}

static int follow(struct copy *c)
{
    c->is_following = true;
    fprintf(stderr,
            "The copy is in step (%" PRIu64 " znodes looked at). Following; Ctrl-C "
            "ends it.\n",
            c->n.looked);
    while (!c->stop && !ferror(stdout))
        turn(c);
    return EXIT_INTERRUPTED;
}

static int run(struct copy *c)
{
    uv_loop_t *loop = client_sync_loop(c->to.sync);
    uv_poll_t other;
    uv_signal_t interrupt, term;
    int code;

    CHECK(uv_poll_init(loop, &other, uv_backend_fd(client_sync_loop(c->from.sync))) == 0);
    uv_poll_start(&other, UV_READABLE, on_other);
    CHECK(uv_signal_init(loop, &interrupt) == 0 && uv_signal_init(loop, &term) == 0);
    interrupt.data = term.data = c;
    uv_signal_start(&interrupt, on_signal, SIGINT);
    uv_signal_start(&term, on_signal, SIGTERM);
    if (c->compare) {
        code = compare_all(c);
    } else {
        code = walk(c);
        if (code == 0 && c->follow)
            code = follow(c);
        else if (code == 0)
            code = compare_all(c);
    }
    if (code != EXIT_TIMED_OUT)
        print_counts(c);
    c->stop = true;
    uv_close((uv_handle_t *)&other, NULL);
    uv_close((uv_handle_t *)&interrupt, NULL);
    uv_close((uv_handle_t *)&term, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    return code;
}

static int open_source(struct copy *c, const char *servers)
{
    struct auth auth;
    int code = auth_read(c->env, &auth); /* the same for both sides */

    if (code != 0)
        return code;
    const struct client_sync_options options = {
        .servers = servers,
        .auth_scheme = auth.scheme,
        .auth = auth.auth,
        .session_ms = SESSION_TIMEOUT_MS,
        .limit_ms = c->env->timeout_ms,
        .now_ms = clock_now_ms,
        .on_event = copy_on_event,
        .on_watch = copy_on_watch,
        .ctx = c,
    };
    struct buf why = {0};
    int err = client_sync_open(&c->from.sync, &options, &why);

    if (err == ERR_AUTH_FAILED)
        code = cmd_fail(EXIT_FAILED, "--from", "the source refused the credentials", NULL,
                        "look at --auth-file: a line digest:NAME:PASSWORD");
    else if (err != 0)
        code = cmd_fail(err == ERR_BAD_ARGUMENTS ? EXIT_USAGE : EXIT_DOWN, "--from",
                        buf_text(&why), "no ZooKeeper runs there, or it has no quorum",
                        "name the servers of the ensemble: --from HOST:PORT,HOST:PORT");
    buf_free(&why);
    return code;
}

static int check_source(struct copy *c)
{
    struct client_sync_reply r = {0};
    const char *root = *c->from.root != 0 ? c->from.root : "/";
    int err = client_sync_exists(c->from.sync, root, &r);

    if (err == 0 && c->follow)
        err = client_sync_add_watch(c->from.sync, root, true);
    client_sync_reply_free(&r);
    if (err == ERR_UNIMPLEMENTED)
        return cmd_fail(EXIT_FAILED, "--follow",
                        "the source has no watches that last (they came with ZooKeeper 3.6)",
                        NULL,
                        "without --follow: copy again and again, the last time when its "
                        "clients are stopped");
    return err == 0 ? 0 : session_failed(c->from.sync, "read", root, err, false);
}

/* The znodes above the copy. */
static int make_parents(struct copy *c)
{
    char *path = mem_dup_str(c->to.root);
    int err = 0;

    for (char *p = path; *path != 0 && err == 0 && (p = strchr(p + 1, '/')) != NULL; *p = '/') {
        *p = 0;
        err = client_sync_create(c->to.sync, path, NULL, 0, WIRE_PERSISTENT, NULL);
        if (err == ERR_NODE_EXISTS)
            err = 0;
    }
    int code = err == 0 ? 0 : session_failed(c->to.sync, "create", path, err, true);
    mem_free(path);
    return code;
}

static void free_items(struct copy *c)
{
    struct hash_walk w;

    for (struct hash_link *l = hash_walk_first(&c->items, &w); l != NULL;
         l = hash_walk_next(&c->items, &w)) {
        struct item *it = HASH_ENTRY(l, struct item, link);
        hash_remove(&c->items, l);
        copy_seen_clear(&it->src);
        copy_seen_clear(&it->dst);
        buf_free(&it->names);
        mem_free(it);
    }
    hash_free(&c->items);
}

/* "HOST:PORT/app" -> the servers, and "/app" or "". */
static int split(char *servers, const char **root)
{
    char *slash = strchr(servers, '/');

    *root = "";
    if (slash == NULL || slash[1] == 0) {
        if (slash != NULL)
            *slash = 0;
        return 0;
    }
    *root = mem_dup_str(slash);
    *slash = 0;
    return session_check_path(*root);
}

int copy_tree(struct cmd_env *env, const char *from)
{
    const char *to = cmd_option(env, "to");
    struct copy c = {.env = env,
                     .compare = cmd_option(env, "compare") != NULL ||
                                cmd_option(env, "dry-run") != NULL,
                     .keep = cmd_option(env, "keep") != NULL,
                     .follow = cmd_option(env, "follow") != NULL,
                     .said_ms = clock_now_ms()};
    char *servers = mem_dup_str(from);
    int code = split(servers, &c.from.root);

    c.to.root = to == NULL || strcmp(to, "/") == 0 ? "" : to;
    if (code == 0 && *c.to.root != 0)
        code = session_check_path(c.to.root);
    if (code == 0 && strchr(env->servers, '/') != NULL)
        code = cmd_fail(EXIT_USAGE, "--server", "a path behind the servers is not for import",
                        NULL, "say where the copy goes with --to PATH");
    if (code == 0 && c.compare && c.follow)
        code = cmd_fail(EXIT_USAGE, "import", "--follow changes the copy, --compare does not",
                        NULL, "muster import --help");
    secret_random(&c.key, sizeof c.key);
    if (code == 0)
        code = open_source(&c, servers);
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &c.to.sync);
    if (code == 0)
        code = check_source(&c);
    if (code == 0 && !c.compare)
        code = make_parents(&c);
    if (code == 0)
        code = run(&c);
    c.stop = true;
    client_sync_close(c.to.sync);
    client_sync_close(c.from.sync);
    free_items(&c);
    buf_free(&c.path);
    if (*c.from.root != 0)
        mem_free((void *)(uintptr_t)c.from.root);
    mem_free(servers);
    return code;
}
