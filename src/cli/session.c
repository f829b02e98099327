/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/session.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/auth.h"
#include "cli/http_get.h"
#include "host/clock.h"
#include "wire/path.h"

#define HTTP_LIMIT_MS 1000

int session_open(const struct cmd_env *env, uint32_t session_ms, client_on_event *on_event,
                 client_on_watch *on_watch, void *ctx, struct client_sync **out)
{
    struct client_sync_options options = {
        .servers = env->servers,
        .session_ms = session_ms,
        .limit_ms = env->timeout_ms,
        .now_ms = clock_now_ms,
        .on_event = on_event,
        .on_watch = on_watch,
        .ctx = ctx,
    };
    struct buf why = {0};
    struct auth auth;

    int code = auth_read(env, &auth);
    if (code != 0)
        return code;
    options.auth_scheme = auth.scheme;
    options.auth = auth.auth;
    int err = client_sync_open(out, &options, &why);
    if (err == ERR_BAD_ARGUMENTS)
        cmd_fail(err, "--server", buf_text(&why), NULL,
                 "name servers as HOST:PORT,HOST:PORT, for instance 10.0.0.11:2181");
    else if (err == ERR_AUTH_FAILED)
        cmd_fail(err, "no session", buf_text(&why),
                 "the scheme in the file of credentials is not one of the servers'",
                 "--auth-file: a line digest:NAME:PASSWORD");
    else if (err == ERR_NOT_FOUND)
        cmd_fail(err, "--server", buf_text(&why), "a typing error, or no name service now",
                 "use the machine's IP address");
    else if (err != 0)
        cmd_fail(err, "no server answers", buf_text(&why),
                 "muster does not run there, or its servers have no quorum",
                 "muster status, on one of the machines");
    buf_free(&why);
    if (err == ERR_BAD_ARGUMENTS)
        return EXIT_USAGE;
    if (err == ERR_AUTH_FAILED)
        return EXIT_UNSAFE;
    return err == 0 ? 0 : EXIT_DOWN;
}

struct advice {
    int err, code;
    const char *likely, *next;
};

static const struct advice table[] = {
    {ERR_NO_NODE, EXIT_NOT_FOUND, "a typing error, or it has been deleted",
     "muster ls, on its parent"},
    {ERR_NODE_EXISTS, EXIT_FAILED, "somebody else has made it", "muster get, or muster set"},
    {ERR_BAD_VERSION, EXIT_UNSAFE, "somebody else has changed it since",
     "muster stat shows its version now"},
    {ERR_NOT_EMPTY, EXIT_UNSAFE, NULL, "muster delete -r deletes what is below it, too"},
    {ERR_NO_CHILDREN_FOR_EPHEMERALS, EXIT_FAILED, "its parent belongs to a session", NULL},
    {ERR_NO_AUTH, EXIT_UNSAFE, "it was made with credentials that are not ours",
     "--auth-file FILE gives credentials"},
    {ERR_TOO_BIG, EXIT_FAILED, "a znode holds at most 1 MiB",
     "keep large things elsewhere, and their place here"},
    {ERR_NO_ROOM, EXIT_UNSAFE, "deletes are accepted, as are locks and other ephemerals",
     "muster status, on each machine, says how much is free; it heals when there is room"},
    {ERR_SESSION_EXPIRED, EXIT_DOWN, "the servers were away for longer than the session lasts",
     "muster status"},
    {ERR_CONNECTION_LOST, EXIT_DOWN, "the server went away", "the same command again"},
    {ERR_TIMED_OUT, EXIT_TIMED_OUT, "the servers have no quorum, or are very busy",
     "muster status"},
};

/* What the muster of this machine says of itself, its disk among it. */
static void add_verdict(struct buf *fact)
{
    const char *address = getenv("MUSTER_HTTP");
    struct buf body = {0}, why = {0};
    int code = 0;

    if (address == NULL || *address == 0)
        address = CMD_HTTP_DEFAULT;
    if (http_get(address, "/status", HTTP_LIMIT_MS, &code, &body, &why) == 0) {
        json_t *status = json_loadb((const char *)body.data, body.len, 0, NULL);
        const char *verdict = json_string_value(json_object_get(status, "verdict"));
        if (verdict != NULL)
            buf_printf(fact, "; here: %s", verdict);
        json_decref(status);
    }
    buf_free(&body);
    buf_free(&why);
}

int session_failed(const struct client_sync *s, const char *verb, const char *path, int err,
                   bool is_write)
{
    struct buf what = {0}, fact = {0};
    struct advice a = {err, EXIT_FAILED, NULL, NULL};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].err == err)
            a = table[i];
    buf_printf(&what, "cannot %s %s", verb, path);
    buf_add_str(&fact, err_text(err));
    if (err == ERR_NO_ROOM)
        add_verdict(&fact);
    if (err == ERR_CONNECTION_LOST || err == ERR_TIMED_OUT) {
        struct buf why = {0};
        client_sync_why(s, &why);
        if (why.len > 0)
            buf_printf(&fact, " (%s)", buf_text(&why));
        buf_free(&why);
        if (is_write) {
            a.code = EXIT_TIMED_OUT;
            buf_add_str(&fact, "; it may have happened");
            a.next = "muster get or muster ls show whether it has";
        }
    }
    int code = cmd_fail(a.code, buf_text(&what), buf_text(&fact), a.likely, a.next);
    buf_free(&what);
    buf_free(&fact);
    return code;
}

int session_check_path(const char *path)
{
    size_t len = strlen(path);

    if (path_validate(path, len) == 0)
        return 0;
    const char *fact = "a part of it is empty, \".\" or \"..\", or has a character that "
                       "paths may not have";
    if (path[0] != '/')
        fact = "a path begins with \"/\"";
    else if (path[len - 1] == '/')
        fact = "a path does not end with \"/\"";
    return cmd_fail(EXIT_USAGE, path, fact, NULL, "muster ls / shows what there is");
}

int session_data(const char *word, struct buf *out)
{
    if (strcmp(word, "-") != 0) {
        if (*word != 0)
            buf_add_str(out, word);
        return 0;
    }
    for (;;) {
        uint8_t *to = buf_reserve(out, 65536);
        ssize_t n = read(STDIN_FILENO, to, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cmd_fail(EXIT_FAILED, "cannot read stdin", strerror(errno), NULL, NULL);
        if (n == 0)
            return 0;
        buf_added(out, (size_t)n);
        if (out->len > CLIENT_REQUEST_MAX)
            return cmd_fail(EXIT_FAILED, "too much on stdin", "a znode holds at most 1 MiB",
                            NULL, "keep large things elsewhere, and their place here");
    }
}

char *session_child(const char *parent, const char *name)
{
    struct buf b = {0};

    buf_printf(&b, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name);
    char *path = mem_dup_str(buf_text(&b));
    buf_free(&b);
    return path;
}
