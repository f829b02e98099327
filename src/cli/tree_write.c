/* SPDX-License-Identifier: Apache-2.0 */
/* create, set, delete */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/print.h"
#include "cli/session.h"
#include "host/clock.h"
#include "wire/path.h"
#include "wire/wire.h"

/* ---- create ---- */

/* What stays until the session is closed: libuv needs a handle for longer than its closing
 * takes to be asked for. */
struct holding {
    bool expired;
    int number; /* the signal that ends it; 0: none yet */
    uv_signal_t signals[2];
};

static void on_signal(uv_signal_t *signal, int number) { *(int *)signal->data = number; }

static void on_event(void *ctx, enum client_event ev)
{
    if (ev == CLIENT_EV_EXPIRED)
        ((struct holding *)ctx)->expired = true;
}

/* An ephemeral znode goes with its session, which is ours. */
static int hold(struct client_sync *s, const char *path, struct holding *h)
{
    int code;

    for (int i = 0; i < 2; i++) {
        CHECK(uv_signal_init(client_sync_loop(s), &h->signals[i]) == 0);
        h->signals[i].data = &h->number;
        uv_signal_start(&h->signals[i], on_signal, i == 0 ? SIGINT : SIGTERM);
    }
    fprintf(stderr, "%s is there until Ctrl-C.\n", path);
    while (h->number == 0 && !h->expired)
        client_sync_turn(s, clock_now_ms() + 60000);
    if (h->expired)
        code = cmd_fail(EXIT_FAILED, path, "the session has expired, and it with it",
                        "the servers were away for longer than 10 s", "muster status");
    else
        code = 128 + h->number;
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&h->signals[i], NULL);
    return code;
}

static int create_parents(struct client_sync *s, const char *path)
{
    size_t len = strlen(path);
    int err = 0;

    for (size_t i = 1; i < len && err == 0; i++) {
        if (path[i] != '/')
            continue;
        char *parent = mem_dup_strn(path, i);
        err = client_sync_create(s, parent, "", 0, WIRE_PERSISTENT, NULL);
        if (err == ERR_NODE_EXISTS)
            err = 0;
        if (err != 0)
            session_failed(s, "create", parent, err, true);
        mem_free(parent);
    }
    return err;
}

static void print_created(const struct cmd_env *env, const char *path, int64_t zxid)
{
    if (env->json)
        print_json(json_pack("{s:s, s:I}", "path", path, "zxid", (json_int_t)zxid));
    else
        puts(path);
    fflush(stdout);
}

static int create(const struct cmd_env *env, struct client_sync *s, const char *path,
                  const struct buf *data, struct holding *holding)
{
    struct client_sync_reply r = {0};
    bool ephemeral = cmd_option(env, "ephemeral") != NULL;
    bool parents = cmd_option(env, "parents") != NULL;
    int flags = (ephemeral ? WIRE_EPHEMERAL : 0) |
                (cmd_option(env, "sequential") != NULL ? WIRE_SEQUENTIAL : 0);
    int code = 0;

    if (parents && create_parents(s, path) != 0)
        return EXIT_FAILED;
    int err = client_sync_create(s, path, data->data, data->len, flags, &r);
    if (err == 0) {
        print_created(env, (const char *)r.path.data, r.zxid);
        if (ephemeral)
            code = hold(s, (const char *)r.path.data, holding);
    } else if (err != ERR_NODE_EXISTS || !parents || ephemeral) {
        code = session_failed(s, "create", path, err, true);
    }
    client_sync_reply_free(&r);
    return code;
}

/* With -s a path may end with "/": then the number is the whole name. */
static int check_new_path(const char *path, bool sequential)
{
    size_t len = strlen(path);

    if (!sequential || len < 2 || path[len - 1] != '/')
        return session_check_path(path);
    char *parent = mem_dup_strn(path, len - 1);
    int code = session_check_path(parent);
    mem_free(parent);
    return code;
}

int cmd_create(struct cmd_env *env, int argc, char **argv)
{
    struct client_sync *s;
    struct buf data = {0};
    struct holding holding = {.expired = false};
    int code = check_new_path(argv[1], cmd_option(env, "sequential") != NULL);

    if (code == 0 && argc > 2)
        code = session_data(argv[2], &data);
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, on_event, NULL, &holding, &s);
    if (code == 0) {
        code = create(env, s, argv[1], &data, &holding);
        client_sync_close(s);
    }
    buf_free(&data);
    return code;
}

/* ---- set ---- */

/* --if-version; -1 is "whatever it is". */
static int version_option(const struct cmd_env *env, int32_t *version)
{
    const char *text = cmd_option(env, "if-version");
    long n = -1;

    if (text != NULL && !cmd_number(text, 0, INT32_MAX, &n))
        return cmd_fail(EXIT_USAGE, "--if-version", "a number is wanted", NULL,
                        "muster stat PATH shows the version");
    *version = (int32_t)n;
    return 0;
}

int cmd_set(struct cmd_env *env, int argc, char **argv)
{
    struct client_sync *s;
    struct client_sync_reply r = {0};
    struct buf data = {0};
    int32_t version = -1;
    int code = session_check_path(argv[1]);

    (void)argc;
    if (code == 0)
        code = version_option(env, &version);
    if (code == 0)
        code = session_data(argv[2], &data);
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &s);
    if (code == 0) {
        int err = client_sync_set(s, argv[1], data.data, data.len, version, &r);
        if (err != 0)
            code = session_failed(s, "set", argv[1], err, true);
        else if (env->json)
            print_json(json_pack("{s:s, s:o}", "path", argv[1], "stat", print_stat(&r.stat)));
        client_sync_reply_free(&r);
        client_sync_close(s);
    }
    buf_free(&data);
    return code;
}

/* ---- delete ---- */

/* Deletes what is below path, the deepest first; what others add meanwhile, too. */
static int delete_tree(struct client_sync *s, const char *path, unsigned depth)
{
    struct client_sync_reply r = {0};
    int err = depth < 1000 ? client_sync_children(s, path, &r) : ERR_TOO_BIG;

    for (size_t i = 0; err == 0 && i < r.children_n; i++) {
        char *child = session_child(path, r.children[i]);
        err = delete_tree(s, child, depth + 1);
        mem_free(child);
    }
    client_sync_reply_free(&r);
    if (err == 0)
        err = client_sync_delete(s, path, -1);
    return err == ERR_NO_NODE && depth > 0 ? 0 : err;
}

static bool is_sure(const char *path, int32_t children)
{
    char line[16];

    fprintf(stderr, "Delete %s and all below it (%d children)? [y/N] ", path, children);
    return fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
}

static int delete_recursive(const struct cmd_env *env, struct client_sync *s, const char *path)
{
    struct client_sync_reply r = {0};
    int code = 0;

    int err = client_sync_exists(s, path, &r);
    if (err == 0 && r.stat.children > 0 && cmd_option(env, "yes") == NULL) {
        if (!isatty(STDIN_FILENO))
            code = cmd_fail(EXIT_UNSAFE, "nothing deleted", "-r deletes more than one znode",
                            NULL, "add --yes if that is meant");
        else if (!is_sure(path, r.stat.children))
            code = cmd_fail(EXIT_UNSAFE, "nothing deleted", "you did not say yes", NULL, NULL);
    }
    client_sync_reply_free(&r);
    for (int i = 0; i < 10 && err == 0 && code == 0; i++) {
        err = delete_tree(s, path, 0);
        if (err != ERR_NOT_EMPTY)
            break;
        err = i < 9 ? 0 : err; /* somebody has added something: again */
    }
    return err != 0 ? session_failed(s, "delete", path, err, true) : code;
}

int cmd_delete(struct cmd_env *env, int argc, char **argv)
{
    struct client_sync *s;
    const char *path = argv[1];
    int32_t version = -1;
    int code = session_check_path(path);

    (void)argc;
    if (code == 0)
        code = version_option(env, &version);
    bool recursive = cmd_option(env, "recursive") != NULL;
    if (code == 0 && recursive && version != -1)
        code = cmd_fail(EXIT_USAGE, "delete", "-r and --if-version do not go together", NULL,
                        "muster delete --help");
    if (code == 0 &&
        (strcmp(path, "/") == 0 || path_is_within(path, strlen(path), "/zookeeper", 10)))
        code = cmd_fail(EXIT_UNSAFE, "nothing deleted", "this part of the tree is the servers'",
                        NULL, NULL);
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &s);
    if (code != 0)
        return code;
    if (recursive) {
        code = delete_recursive(env, s, path);
    } else {
        int err = client_sync_delete(s, path, version);
        if (err != 0)
            code = session_failed(s, "delete", path, err, true);
    }
    client_sync_close(s);
    return code;
}
