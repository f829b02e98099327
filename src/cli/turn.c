/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/turn.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/print.h"
#include "wire/wire.h"

/* ---- who is where ---- */

const char *turn_sequence(const char *name)
{
    size_t len = strlen(name);

    if (len < TURN_SEQUENCE_LEN)
        return NULL;
    const char *number = name + len - TURN_SEQUENCE_LEN;
    return strspn(number, "0123456789") == TURN_SEQUENCE_LEN ? number : NULL;
}

const char *turn_first(char *const *names, size_t n)
{
    const char *best = NULL;

    for (size_t i = 0; i < n; i++) {
        const char *number = turn_sequence(names[i]);
        if (number != NULL && (best == NULL || strcmp(number, turn_sequence(best)) < 0))
            best = names[i];
    }
    return best;
}

const char *turn_before(char *const *names, size_t n, const char *below)
{
    const char *best = NULL;

    for (size_t i = 0; i < n; i++) {
        const char *number = turn_sequence(names[i]);
        if (number == NULL || strcmp(number, below) >= 0)
            continue;
        if (best == NULL || strcmp(number, turn_sequence(best)) > 0)
            best = names[i];
    }
    return best;
}

static bool is_own(const struct turn *t, const char *name)
{
    const char *own = strrchr(t->prefix, '/') + 1;

    return strncmp(name, own, strlen(own)) == 0 && turn_sequence(name) != NULL;
}

/* The lowest of ours; NULL: there is none. */
static const char *own_among(const struct turn *t, const struct client_sync_reply *r)
{
    const char *best = NULL;

    for (size_t i = 0; i < r->children_n; i++)
        if (is_own(t, r->children[i]) &&
            (best == NULL || strcmp(turn_sequence(r->children[i]), turn_sequence(best)) < 0))
            best = r->children[i];
    return best;
}

/* ---- our place ---- */

static void forget(struct turn *t)
{
    mem_free(t->path);
    t->path = NULL;
}

/* That znode is ours. It had its number when it was made, and its token with it. */
static int adopt(struct turn *t, const char *name)
{
    struct client_sync_reply r = {0};
    char *path = session_child(t->dir, name);
    int err = client_sync_exists(t->r->s, path, &r);

    if (err == 0) {
        forget(t);
        t->path = path;
        t->token = r.stat.czxid;
    } else {
        mem_free(path);
    }
    client_sync_reply_free(&r);
    return err;
}

static int find_own(struct turn *t)
{
    struct client_sync_reply r = {0};
    int err = client_sync_children(t->r->s, t->dir, &r);
    const char *own = err == 0 ? own_among(t, &r) : NULL;

    if (own != NULL)
        err = adopt(t, own);
    client_sync_reply_free(&r);
    return err;
}

/* After an answer that was lost the znode may be there or not: its name tells. */
static int take_place(struct turn *t)
{
    char text[RECIPE_HOLDER_MAX];
    struct client_sync_reply r = {0};
    int err;

    if (t->path != NULL)
        fputs("muster: our place in the queue is lost; once more\n", stderr);
    forget(t);
    t->r->expired = false;
    recipe_describe(t->r, text);
    err = recipe_make_dir(t->r->s, t->dir);
    while (err == 0 && t->path == NULL && t->r->interrupted == 0) {
        err = client_sync_create(t->r->s, t->prefix, text, strlen(text),
                                 WIRE_EPHEMERAL_SEQUENTIAL, &r);
        if (err == 0) {
            t->path = mem_dup_str((const char *)r.path.data);
            t->token = r.zxid;
        } else if (err == ERR_CONNECTION_LOST) {
            err = find_own(t);
        }
    }
    client_sync_reply_free(&r);
    return err;
}

/* Sets t->before to the one in front of us; NULL: nobody is. */
static int look(struct turn *t)
{
    struct client_sync_reply r = {0};

    t->r->fired = false;
    mem_free(t->before);
    t->before = NULL;
    int err = client_sync_children(t->r->s, t->dir, &r);
    const char *own = err == 0 ? own_among(t, &r) : NULL;
    if (err == ERR_NO_NODE || (err == 0 && own == NULL)) { /* somebody has deleted our znode */
        t->r->expired = true;
        err = 0;
    } else if (err == 0 && strcmp(own, strrchr(t->path, '/') + 1) != 0) {
        err = adopt(t, own);
    }
    if (err == 0 && own != NULL) {
        const char *before = turn_before(r.children, r.children_n, turn_sequence(own));
        t->before = before != NULL ? session_child(t->dir, before) : NULL;
    }
    client_sync_reply_free(&r);
    return err;
}

static void tell_holder(struct turn *t)
{
    struct client_sync_reply r = {0};

    if (t->told || client_sync_get(t->r->s, t->before, &r) != 0) {
        client_sync_reply_free(&r);
        return;
    }
    t->told = true;
    fprintf(stderr, "muster: waiting for the %s %s; before us: ", t->r->what, t->name);
    print_text(stderr, (const char *)r.data.data);
    fputc('\n', stderr);
    client_sync_reply_free(&r);
}

/* One step nearer; *is_ours: there is none left. */
static int step(struct turn *t, bool *is_ours)
{
    if (t->path == NULL || t->r->expired)
        return take_place(t);
    int err = look(t);
    if (err != 0 || t->r->expired)
        return err;
    *is_ours = t->before == NULL;
    if (*is_ours)
        return 0;
    if (recipe_is_late(t->r))
        return ERR_TIMED_OUT;
    tell_holder(t);
    return recipe_watch(t->r, t->before) == 0 ? recipe_wait(t->r) : 0;
}

int turn_take(struct turn *t)
{
    bool is_ours = false;
    int err = 0;

    while (!is_ours && t->r->interrupted == 0) {
        err = step(t, &is_ours);
        if (err == ERR_SESSION_EXPIRED)
            t->r->expired = true;
        else if (err != 0 && !(t->is_patient && recipe_again(t->r, err)))
            break;
    }
    if (is_ours)
        t->r->wait_until_ms = UINT64_MAX;
    return is_ours ? 0 : err;
}

int turn_leave(struct turn *t)
{
    struct client_sync_reply r = {0};
    int err;

    do {
        err = client_sync_children(t->r->s, t->dir, &r);
        for (size_t i = 0; err == 0 && i < r.children_n; i++) {
            if (!is_own(t, r.children[i]))
                continue;
            char *path = session_child(t->dir, r.children[i]);
            err = recipe_delete(t->r, path);
            mem_free(path);
        }
    } while (recipe_again(t->r, err));
    client_sync_reply_free(&r);
    forget(t);
    return err == ERR_SESSION_EXPIRED || err == ERR_NO_NODE ? 0 : err;
}

void turn_open(struct turn *t, struct recipe *r, char *dir, const char *name)
{
    struct buf b = {0};

    *t = (struct turn){.r = r, .name = name, .dir = dir};
    buf_printf(&b, "%s/%s__lock__", t->dir, r->id);
    t->prefix = mem_dup_str(buf_text(&b));
    buf_free(&b);
}

void turn_close(struct turn *t)
{
    mem_free(t->dir);
    mem_free(t->prefix);
    mem_free(t->path);
    mem_free(t->before);
}
