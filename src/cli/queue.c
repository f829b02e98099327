/* SPDX-License-Identifier: Apache-2.0 */
/* queue: items that each go to one taker; in the layout of kazoo's LockingQueue, so that
 * Python and shell can share one:
 *
 *   /queues/NAME/entries/entry-PPP-NNNNNNNNNN    an item; the lowest name comes first
 *   /queues/NAME/taken/entry-PPP-NNNNNNNNNN      ephemeral: who has taken that item
 *
 * Only who has taken an item deletes it. So after an answer that was lost it can be found out
 * what happened, as long as the session lives: the item is gone, and nobody else was allowed
 * to. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/print.h"
#include "cli/recipe.h"
#include "wire/wire.h"

#define QUEUES "/queues"
#define PRIORITY_DEFAULT 100
#define PRIORITY_MAX 999 /* three digits: what kazoo's names have room for */

struct queue {
    struct cmd_env *env;
    char *dir, *entries, *taken;
};

static void queue_close(struct queue *q)
{
    mem_free(q->dir);
    mem_free(q->entries);
    mem_free(q->taken);
}

static int make_dirs(const struct queue *q, struct client_sync *s)
{
    int err = recipe_make_dir(s, q->entries);

    return err == 0 ? recipe_make_dir(s, q->taken) : err;
}

/* ---- put ---- */

static int put_one(const struct queue *q, struct client_sync *s, const char *prefix,
                   const void *data, size_t len)
{
    struct client_sync_reply r = {0};
    int err = client_sync_create(s, prefix, data, len, WIRE_SEQUENTIAL, &r);

    if (err == ERR_NO_NODE && (err = make_dirs(q, s)) == 0)
        err = client_sync_create(s, prefix, data, len, WIRE_SEQUENTIAL, &r);
    if (err == 0 && q->env->json)
        print_json(json_pack("{s:s, s:I}", "path", (const char *)r.path.data, "zxid",
                             (json_int_t)r.zxid));
    else if (err == 0)
        puts((const char *)r.path.data);
    client_sync_reply_free(&r);
    return err;
}

static int put_lines(const struct queue *q, struct client_sync *s, const char *prefix)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    int err = 0;

    while (err == 0 && (len = getline(&line, &size, stdin)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            len--;
        err = put_one(q, s, prefix, line, (size_t)len);
    }
    free(line); /* getline() has allocated it */
    return err;
}

static int put(struct queue *q, const char *word)
{
    const char *priority = cmd_option(q->env, "priority");
    bool by_line = cmd_option(q->env, "lines") != NULL;
    long n = PRIORITY_DEFAULT;
    struct buf data = {0}, prefix = {0};
    struct client_sync *s;
    int code = 0;

    if (priority != NULL && !cmd_number(priority, 0, PRIORITY_MAX, &n))
        return cmd_fail(EXIT_USAGE, "--priority", "a number from 0 to 999 is wanted", NULL,
                        "muster queue --help");
    if (by_line && word != NULL)
        return cmd_fail(EXIT_USAGE, "--lines", "the items come from stdin", NULL,
                        "muster queue --help");
    if (word != NULL)
        code = session_data(word, &data);
    if (code == 0)
        code = session_open(q->env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &s);
    if (code == 0) {
        buf_printf(&prefix, "%s/entry-%03ld-", q->entries, n);
        int err = by_line ? put_lines(q, s, buf_text(&prefix))
                          : put_one(q, s, buf_text(&prefix), data.data, data.len);
        if (err != 0)
            code = session_failed(s, "put into", q->dir, err, true);
        client_sync_close(s);
    }
    buf_free(&data);
    buf_free(&prefix);
    return code;
}

/* ---- take: one item ---- */

struct taking {
    struct queue *q;
    struct recipe r;
    char mark[RECIPE_ID_LEN + 1 + RECIPE_HOLDER_MAX]; /* the data of our znode in taken/ */
    char *name, *item, *lock; /* "entry-100-0000000000", and its two paths */
    int64_t token;
    struct client_sync_reply data;
};

static void taking_forget(struct taking *t)
{
    mem_free(t->name);
    mem_free(t->item);
    mem_free(t->lock);
    t->name = t->item = t->lock = NULL;
}

/* Whether the lock that is there is ours; ERR_NODE_EXISTS: it is not. */
static int whose_lock(struct taking *t)
{
    struct client_sync_reply r = {0};
    int err = client_sync_get(t->r.s, t->lock, &r);

    if (err == 0 && strcmp((const char *)r.data.data, t->mark) != 0)
        err = ERR_NODE_EXISTS;
    if (err == 0)
        t->token = r.stat.czxid;
    client_sync_reply_free(&r);
    return err;
}

/* ERR_NODE_EXISTS: somebody else has it. */
static int lock_item(struct taking *t)
{
    struct client_sync_reply r = {0};
    bool may_be_ours = false, again;
    int err;

    do {
        err = client_sync_create(t->r.s, t->lock, t->mark, strlen(t->mark), WIRE_EPHEMERAL, &r);
        t->token = r.zxid;
        again = recipe_again(&t->r, err);
        may_be_ours |= again;
        if (err == ERR_NODE_EXISTS && may_be_ours) {
            err = whose_lock(t);
            again = err == ERR_NO_NODE || recipe_again(&t->r, err);
        }
    } while (again);
    client_sync_reply_free(&r);
    return err;
}

/* Takes this one and reads it. ERR_NODE_EXISTS, ERR_NO_NODE: others were faster. */
static int take_this(struct taking *t, const char *name)
{
    taking_forget(t);
    t->name = mem_dup_str(name);
    t->item = session_child(t->q->entries, name);
    t->lock = session_child(t->q->taken, name);
    t->r.expired = false;
    int err = lock_item(t);
    if (err != 0)
        return err;
    do {
        err = client_sync_get(t->r.s, t->item, &t->data);
    } while (recipe_again(&t->r, err));
    if (err == ERR_NO_NODE && recipe_delete(&t->r, t->lock) != 0)
        err = ERR_SESSION_EXPIRED; /* with it goes the lock */
    return err == 0 && t->r.expired ? ERR_SESSION_EXPIRED : err;
}

static bool has_name(const struct client_sync_reply *r, const char *name)
{
    for (size_t i = 0; i < r->children_n; i++)
        if (strcmp(r->children[i], name) == 0)
            return true;
    return false;
}

/* ERR_NO_NODE: there is none that could be taken. */
static int take_first(struct taking *t)
{
    struct client_sync_reply all = {0}, taken = {0};
    int err = client_sync_children(t->r.s, t->q->entries, &all);

    if (err == 0)
        err = client_sync_children(t->r.s, t->q->taken, &taken);
    if (err == ERR_NO_NODE && (err = make_dirs(t->q, t->r.s)) == 0)
        err = ERR_NO_NODE;
    else if (err == 0)
        err = ERR_NO_NODE;
    for (size_t i = 0; err == ERR_NO_NODE && i < all.children_n; i++) {
        if (has_name(&taken, all.children[i]))
            continue;
        err = take_this(t, all.children[i]);
        if (err == ERR_NODE_EXISTS || err == ERR_SESSION_EXPIRED)
            err = ERR_NO_NODE;
    }
    client_sync_reply_free(&all);
    client_sync_reply_free(&taken);
    return err;
}

static int wait_for_item(struct taking *t)
{
    bool is_watching = false;

    for (;;) {
        t->r.fired = false;
        int err = take_first(t);
        if (t->r.interrupted != 0)
            return ERR_NO_NODE;
        if (err != ERR_NO_NODE && !recipe_again(&t->r, err))
            return err;
        if (err == ERR_NO_NODE && recipe_is_late(&t->r))
            return err;
        if (err == ERR_NO_NODE && is_watching) {
            t->r.expired = false;
            (void)recipe_wait(&t->r);
        } else if (err == ERR_NO_NODE) { /* from now on; so look once more */
            is_watching = client_sync_add_watch(t->r.s, t->q->dir, true) == 0;
        }
    }
}

/* ---- take: what becomes of it ---- */

/* 0: the item is gone, and nobody else has had it. ERR_SESSION_EXPIRED: not known, or it comes
 * back. */
static int remove_item(struct taking *t)
{
    bool may_have_happened = false;

    for (;;) {
        if (t->r.expired)
            return ERR_SESSION_EXPIRED;
        int err = client_sync_delete(t->r.s, t->item, -1);
        if (err == ERR_NO_NODE && may_have_happened)
            return 0;
        if (err != ERR_CONNECTION_LOST && err != ERR_TIMED_OUT)
            return err;
        may_have_happened = true;
        if (t->r.interrupted != 0)
            return err;
    }
}

static void print_item(const struct taking *t)
{
    const struct client_sync_reply *r = &t->data;

    if (t->q->env->json) {
        print_json(json_pack("{s:s, s:o, s:o}", "item", t->name, "data",
                             print_data(r->data.data, r->data.len, r->has_data), "stat",
                             print_stat(&r->stat)));
        return;
    }
    fwrite(r->data.data, 1, r->data.len, stdout);
    /* As with get: the bytes as they are, and a line's end only for a person. */
    if (r->data.len > 0 && r->data.data[r->data.len - 1] != '\n' && isatty(STDOUT_FILENO))
        putchar('\n');
}

/* The item is ours, and then it is printed. ERR_NO_NODE: it was not; the next, please. */
static int hand_out(struct taking *t, int *code)
{
    struct client_sync_reply r = {0};
    int err = remove_item(t);

    *code = 0;
    if (err == ERR_SESSION_EXPIRED && client_sync_exists(t->r.s, t->item, &r) == 0)
        err = ERR_NO_NODE; /* nothing was removed, and nothing will be: it belongs to others */
    client_sync_reply_free(&r);
    if (err == ERR_NO_NODE)
        return err;
    print_item(t);
    if (err != 0)
        *code = cmd_fail(EXIT_TIMED_OUT, t->name, "it is not known whether we have removed it",
                         "the servers were lost at that moment",
                         "it is printed; another taker may have got it, too");
    return 0;
}

static int work_on(struct taking *t, const char *queue)
{
    int fd = recipe_stdin(t->data.data.data, t->data.data.len);

    if (fd < 0)
        return cmd_fail(EXIT_FAILED, "cannot give the item to the command", strerror(errno),
                        NULL, NULL);
    recipe_setenv("QUEUE", "", queue);
    recipe_setenv("QUEUE", "ITEM", t->name);
    recipe_setenv_token(t->token);
    int code = recipe_run(&t->r, fd);
    close(fd);
    if (t->r.asked_to_end || code != 0)
        return code; /* the item comes back with the end of the session */
    int err = remove_item(t);
    if (err == 0 || err == ERR_NO_NODE)
        return 0;
    return cmd_fail(EXIT_TIMED_OUT, t->name,
                    "the command has succeeded, but it is not known "
                    "whether its item was removed",
                    "the servers were lost at that moment",
                    "muster queue ls shows it, if another command gets it again");
}

static int take(struct queue *q, const char *name)
{
    struct taking t = {.q = q};
    int err, code = recipe_open(&t.r, q->env, "item");

    if (code != 0)
        return code;
    char who[RECIPE_HOLDER_MAX];
    recipe_describe(&t.r, who);
    snprintf(t.mark, sizeof t.mark, "%s %s", t.r.id, who);
    do {
        err = wait_for_item(&t);
        if (err == 0 && q->env->tail != NULL)
            code = work_on(&t, name);
        else if (err == 0)
            err = hand_out(&t, &code);
        else if (t.r.interrupted != 0)
            code = 128 + t.r.interrupted;
        else if (err == ERR_NO_NODE)
            code = cmd_fail(EXIT_EMPTY, q->dir, "there is nothing to take", NULL,
                            "muster queue ls shows what others have taken");
        else
            code = session_failed(t.r.s, "take from", q->dir, err, false);
    } while (err == ERR_NO_NODE && code == 0);
    recipe_close(&t.r);
    taking_forget(&t);
    client_sync_reply_free(&t.data);
    return code;
}

/* ---- ls, len ---- */

static void print_entry(const struct cmd_env *env, json_t *all, const char *name,
                        const struct client_sync_reply *holder)
{
    /* After our mark's digits, or all of what others have written. */
    const char *who = holder != NULL ? (const char *)holder->data.data : NULL;

    if (who != NULL && strlen(who) > RECIPE_ID_LEN && who[RECIPE_ID_LEN] == ' ')
        who += RECIPE_ID_LEN + 1;
    if (env->json) {
        json_array_append_new(
            all, json_pack("{s:s, s:o}", "item", name, "taken_by",
                           who != NULL ? print_data((const uint8_t *)who, strlen(who), true)
                                       : json_null()));
        return;
    }
    print_text(stdout, name);
    if (who != NULL) {
        fputs("  taken by ", stdout);
        print_text(stdout, who);
    }
    putchar('\n');
}

static int list(const struct queue *q, struct client_sync *s)
{
    struct client_sync_reply all = {0}, taken = {0}, one = {0};
    json_t *array = q->env->json ? json_array() : NULL;
    int err = client_sync_children(s, q->entries, &all);

    if (err == 0)
        err = client_sync_children(s, q->taken, &taken);
    for (size_t i = 0; err == 0 && i < all.children_n; i++) {
        char *lock = session_child(q->taken, all.children[i]);
        bool is_taken =
            has_name(&taken, all.children[i]) && client_sync_get(s, lock, &one) == 0;
        print_entry(q->env, array, all.children[i], is_taken ? &one : NULL);
        mem_free(lock);
    }
    if (q->env->json && err == 0)
        print_json(array);
    else
        json_decref(array);
    client_sync_reply_free(&all);
    client_sync_reply_free(&taken);
    client_sync_reply_free(&one);
    return err;
}

static int count(const struct queue *q, struct client_sync *s)
{
    struct client_sync_reply r = {0};
    int err = client_sync_exists(s, q->entries, &r);

    if (err == 0)
        printf("%d\n", r.stat.children);
    client_sync_reply_free(&r);
    return err;
}

static int show(const struct queue *q, bool only_count)
{
    struct client_sync *s;
    int code = session_open(q->env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &s);

    if (code != 0)
        return code;
    int err = only_count ? count(q, s) : list(q, s);
    if (err != 0)
        code = session_failed(s, "read", q->dir, err, false);
    client_sync_close(s);
    return code;
}

/* ---- the command ---- */

enum verb { VERB_PUT, VERB_TAKE, VERB_LS, VERB_LEN, VERBS };
static const char *const verbs[VERBS] = {"put", "take", "ls", "len"};

static int unknown_verb(const char *typed)
{
    const char *near = cmd_nearest(typed, verbs, VERBS);
    struct buf fact = {0};

    buf_add_str(&fact, "put, take, ls or len is wanted");
    if (near != NULL)
        buf_printf(&fact, "; did you mean \"%s\"?", near);
    int code = cmd_fail(EXIT_USAGE, typed, buf_text(&fact), NULL, "muster queue --help");
    buf_free(&fact);
    return code;
}

/* Options that the verb would only ignore are refused. */
static int check_options(const struct cmd_env *env, enum verb verb, int argc)
{
    static const struct {
        const char *option;
        enum verb verb;
    } rows[] = {
        {"priority", VERB_PUT},
        {"lines", VERB_PUT},
        {"wait", VERB_TAKE},
        {"session", VERB_TAKE},
    };
    const char *wrong = NULL;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (cmd_option(env, rows[i].option) != NULL && rows[i].verb != verb)
            wrong = rows[i].option;
    if (env->tail != NULL && verb != VERB_TAKE)
        wrong = "COMMAND";
    if (argc > 3 && verb != VERB_PUT)
        wrong = "DATA";
    return wrong == NULL ? 0
                         : cmd_fail(EXIT_USAGE, verbs[verb], "this goes with another verb",
                                    wrong, "muster queue --help");
}

int cmd_queue(struct cmd_env *env, int argc, char **argv)
{
    unsigned verb = 0;

    while (verb < VERBS && strcmp(argv[1], verbs[verb]) != 0)
        verb++;
    if (verb == VERBS)
        return unknown_verb(argv[1]);
    int code = check_options(env, verb, argc);
    if (code != 0)
        return code;
    struct queue q = {.env = env, .dir = recipe_path(env, QUEUES, argv[2])};
    if (q.dir == NULL)
        return EXIT_USAGE;
    q.entries = session_child(q.dir, "entries");
    q.taken = session_child(q.dir, "taken");
    if (verb == VERB_PUT)
        code = put(&q, argc > 3 ? argv[3] : NULL);
    else if (verb == VERB_TAKE)
        code = take(&q, argv[2]);
    else
        code = show(&q, verb == VERB_LEN);
    queue_close(&q);
    return code;
}
