/* SPDX-License-Identifier: Apache-2.0 */
/* apply: the site file becomes /muster/site, after it has been shown what that changes. */
#include <string.h>

#include "base/err.h"
#include "cli/print.h"
#include "cli/session.h"
#include "host/files.h"
#include "site/site.h"
#include "wire/wire.h"

#define SITE_ROOT "/muster"
#define SITE_PATH "/muster/site"

struct apply {
    struct cmd_env *env;
    const char *file;
    struct buf text; /* of the file */
    struct site *site;
    struct client_sync *s;
    struct client_sync_reply old;
    bool is_first; /* nothing has been applied yet */
    struct buf plan;
    unsigned changes;
};

static int read_file(struct apply *a)
{
    struct site_errors errors = {0};
    int err = file_read(a->file, SITE_BYTES_MAX, &a->text);

    if (err == ERR_TOO_BIG)
        return cmd_fail(EXIT_FAILED, a->file, "it is larger than 256 KiB", "it is no site file",
                        "muster apply --help");
    if (err != 0)
        return cmd_fail(err == ERR_NOT_FOUND ? EXIT_NOT_FOUND : EXIT_FAILED, a->file,
                        err_text(err), NULL, "name the site file: muster apply site.yml");
    a->site = site_parse(a->text.data, a->text.len, &errors);
    if (a->site != NULL)
        return 0;
    struct buf out = {0};
    site_errors_print(&errors, a->file, &out);
    fputs(buf_text(&out), stderr);
    buf_free(&out);
    char fact[64];
    snprintf(fact, sizeof fact, "%u error%s; nothing was changed", errors.total,
             errors.total == 1 ? "" : "s");
    return cmd_fail(EXIT_FAILED, a->file, fact, NULL, "correct the lines above, and try again");
}

static int read_applied(struct apply *a)
{
    struct site_errors errors = {0};
    int err = client_sync_get(a->s, SITE_PATH, &a->old);

    a->is_first = err == ERR_NO_NODE;
    if (err != 0 && !a->is_first)
        return session_failed(a->s, "read", SITE_PATH, err, false);
    struct site *old =
        a->is_first ? NULL : site_parse(a->old.data.data, a->old.data.len, &errors);
    if (old == NULL && !a->is_first && a->old.data.len > 0)
        fprintf(stderr,
                "muster: what is applied now (version %d) is no valid site; the plan "
                "begins from nothing\n",
                a->old.stat.version);
    a->changes = site_plan(old, a->site, &a->plan);
    site_free(old);
    return 0;
}

static bool is_same_text(const struct apply *a)
{
    return !a->is_first && a->old.data.len == a->text.len &&
           memcmp(a->old.data.data, a->text.data, a->text.len) == 0;
}

/* The answer was lost: has it happened? */
static int look_again(struct apply *a, struct client_sync_reply *r)
{
    int err = client_sync_get(a->s, SITE_PATH, r);

    if (err != 0)
        return err;
    if (r->data.len == a->text.len && memcmp(r->data.data, a->text.data, a->text.len) == 0)
        return 0;
    return ERR_CONNECTION_LOST;
}

static int write_site(struct apply *a, struct client_sync_reply *r)
{
    int err = 0;

    if (a->is_first) {
        err = client_sync_create(a->s, SITE_ROOT, "", 0, WIRE_PERSISTENT, NULL);
        if (err == 0 || err == ERR_NODE_EXISTS)
            err = client_sync_create(a->s, SITE_PATH, a->text.data, a->text.len,
                                     WIRE_PERSISTENT, r);
    } else {
        err =
            client_sync_set(a->s, SITE_PATH, a->text.data, a->text.len, a->old.stat.version, r);
    }
    if (err == ERR_CONNECTION_LOST)
        err = look_again(a, r);
    if (err == ERR_BAD_VERSION || err == ERR_NODE_EXISTS || err == ERR_NO_NODE)
        return cmd_fail(EXIT_UNSAFE, "nothing was changed",
                        "somebody else has applied a site since the plan was made", NULL,
                        "muster apply, again: it shows what would change now");
    return err == 0 ? 0 : session_failed(a->s, "set", SITE_PATH, err, true);
}

static json_t *plan_json(struct apply *a)
{
    json_t *list = json_array();
    const char *at = buf_text(&a->plan);

    while (*at != 0) {
        size_t len = strcspn(at, "\n");
        json_array_append_new(list, json_stringn(at, len));
        at += len + (at[len] == '\n');
    }
    return list;
}

static void report(struct apply *a, bool is_done, int32_t version)
{
    if (a->env->json) {
        print_json(json_pack("{s:o, s:b, s:o}", "changes", plan_json(a), "applied",
                             (int)is_done, "version",
                             version >= 0 ? json_integer(version) : json_null()));
        return;
    }
    fputs(buf_text(&a->plan), stdout);
    if (is_done)
        printf("Applied: version %d of the site.\n", version);
    else if (is_same_text(a))
        printf("Nothing to do: version %d of the site is this file.\n", version);
    else if (version >= 0)
        printf("Not applied. Now: version %d of the site.\n", version);
    else
        puts("Not applied. No site has been applied yet.");
}

static int apply(struct apply *a)
{
    struct client_sync_reply r = {0};
    int32_t now = -1;
    int code = read_applied(a);

    if (code != 0)
        return code;
    if (!a->is_first)
        now = a->old.stat.version;
    if (cmd_option(a->env, "dry-run") != NULL || is_same_text(a)) {
        report(a, false, now);
        return EXIT_OK;
    }
    code = write_site(a, &r);
    if (code == 0) {
        report(a, true, r.stat.version);
        if (a->changes > 0)
            fputs("The machines make it so now; see: muster status\n", stderr);
    }
    client_sync_reply_free(&r);
    return code;
}

int cmd_apply(struct cmd_env *env, int argc, char **argv)
{
    struct apply a = {.env = env, .file = argv[1]};
    int code = read_file(&a);

    (void)argc;
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &a.s);
    if (code == 0) {
        code = apply(&a);
        client_sync_close(a.s);
    }
    site_free(a.site);
    client_sync_reply_free(&a.old);
    buf_free(&a.text);
    buf_free(&a.plan);
    return code;
}
