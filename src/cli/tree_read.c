/* SPDX-License-Identifier: Apache-2.0 */
/* ls, get, stat */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/print.h"
#include "cli/session.h"

typedef int reader(struct client_sync *s, const char *path, struct client_sync_reply *r);
typedef void printer(const struct cmd_env *env, const char *path,
                     const struct client_sync_reply *r);

/* Connects, reads one znode, prints it. */
static int read_one(struct cmd_env *env, const char *path, reader *read, printer *print)
{
    struct client_sync *s;
    struct client_sync_reply r = {0};
    int code = session_check_path(path);

    if (code != 0)
        return code;
    code = session_open(env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &s);
    if (code != 0)
        return code;
    int err = read(s, path, &r);
    if (err == 0)
        print(env, path, &r);
    else
        code = session_failed(s, "read", path, err, false);
    client_sync_reply_free(&r);
    client_sync_close(s);
    return code;
}

static void print_children(const struct cmd_env *env, const char *path,
                           const struct client_sync_reply *r)
{
    json_t *all = env->json ? json_array() : NULL;

    (void)path;
    for (size_t i = 0; i < r->children_n; i++) {
        if (env->json) {
            json_array_append_new(all, json_string(r->children[i]));
        } else {
            print_text(stdout, r->children[i]);
            putchar('\n');
        }
    }
    if (env->json)
        print_json(all);
}

int cmd_ls(struct cmd_env *env, int argc, char **argv)
{
    return read_one(env, argc > 1 ? argv[1] : "/", client_sync_children, print_children);
}

static void print_node(const struct cmd_env *env, const char *path,
                       const struct client_sync_reply *r)
{
    if (env->json) {
        print_json(json_pack("{s:s, s:o, s:o}", "path", path, "data",
                             print_data(r->data.data, r->data.len, r->has_data), "stat",
                             print_stat(&r->stat)));
        return;
    }
    fwrite(r->data.data, 1, r->data.len, stdout);
    /* Bytes as they are; only a person gets a line's end that is not there. */
    if (r->data.len > 0 && r->data.data[r->data.len - 1] != '\n' && isatty(STDOUT_FILENO))
        putchar('\n');
}

int cmd_get(struct cmd_env *env, int argc, char **argv)
{
    (void)argc;
    return read_one(env, argv[1], client_sync_get, print_node);
}

static void print_time(const char *name, int64_t ms)
{
    char text[64] = "?";
    time_t s = (time_t)(ms / 1000);
    struct tm tm;

    if (gmtime_r(&s, &tm) != NULL)
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%-12s %s.%03d UTC\n", name, text, (int)((ms % 1000 + 1000) % 1000));
}

static void print_known(const struct cmd_env *env, const char *path,
                        const struct client_sync_reply *r)
{
    const struct client_stat *s = &r->stat;

    if (env->json) {
        print_json(json_pack("{s:s, s:o}", "path", path, "stat", print_stat(s)));
        return;
    }
    printf("%-12s %d (children %d, access list %d)\n", "version", s->version, s->cversion,
           s->aversion);
    printf("%-12s %d bytes\n", "data", s->data_len);
    printf("%-12s %d\n", "children", s->children);
    print_time("created", s->ctime);
    print_time("changed", s->mtime);
    printf("%-12s created %" PRId64 ", changed %" PRId64 ", children %" PRId64 "\n", "zxid",
           s->czxid, s->mzxid, s->pzxid);
    if (s->ephemeral_owner != 0)
        printf("%-12s of the session 0x%" PRIx64 "\n", "ephemeral",
               (uint64_t)s->ephemeral_owner);
}

int cmd_stat(struct cmd_env *env, int argc, char **argv)
{
    (void)argc;
    return read_one(env, argv[1], client_sync_exists, print_known);
}
