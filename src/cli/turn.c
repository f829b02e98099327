/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/turn.h"

#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/print.h"
#include "host/clock.h"
#include "wire/wire.h"

#define SEQUENCE_LEN 10

static const char *sequence_of(const char *name)
{
    size_t len = strlen(name);

    return len >= SEQUENCE_LEN ? name + len - SEQUENCE_LEN : name;
}

static int find_own(struct turn *t)
{
    struct client_sync_reply r = {0};
    int err = client_sync_children(t->r->s, t->dir, &r);
    const char *name = strrchr(t->prefix, '/') + 1;

    for (size_t i = 0; err == 0 && i < r.children_n; i++)
        if (strncmp(r.children[i], name, strlen(name)) == 0)
            t->path = session_child(t->dir, r.children[i]);
    client_sync_reply_free(&r);
    if (err == 0 && t->path != NULL && (err = client_sync_exists(t->r->s, t->path, &r)) == 0)
        t->token = r.stat.czxid;
    client_sync_reply_free(&r);
    return err;
}

/* After an answer that was lost the znode may be there or not: its name tells. */
static int take_place(struct turn *t)
{
    char text[RECIPE_HOLDER_MAX];
    struct client_sync_reply r = {0};
    int err;

    mem_free(t->path);
    t->path = NULL;
    recipe_describe(t->r, text);
    for (;;) {
        err = client_sync_create(t->r->s, t->prefix, text, strlen(text),
                                 WIRE_EPHEMERAL_SEQUENTIAL, &r);
        if (err == 0) {
            t->path = mem_dup_str((const char *)r.path.data);
            t->token = r.zxid;
        } else if (err == ERR_CONNECTION_LOST) {
            err = find_own(t);
        }
        if (err != 0 || t->path != NULL || t->r->interrupted != 0)
            break;
    }
    client_sync_reply_free(&r);
    return err;
}

/* Sets t->before to the one in front of us; NULL: nobody is. */
static int look(struct turn *t)
{
    struct client_sync_reply r = {0};
    const char *own = strrchr(t->path, '/') + 1, *best = NULL;
    bool found = false;
    int err = client_sync_children(t->r->s, t->dir, &r);

    for (size_t i = 0; err == 0 && i < r.children_n; i++) {
        const char *name = r.children[i];
        found |= strcmp(name, own) == 0;
        if (strcmp(sequence_of(name), sequence_of(own)) < 0 &&
            (best == NULL || strcmp(sequence_of(name), sequence_of(best)) > 0))
            best = name;
    }
    mem_free(t->before);
    t->before = best != NULL ? session_child(t->dir, best) : NULL;
    t->r->fired = false;
    client_sync_reply_free(&r);
    if (err == 0 && !found) /* somebody has deleted our znode */
        t->r->expired = true;
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

/* Until the one before us goes, or something else happens. ERR_TIMED_OUT: --wait is over. */
static int wait_for_change(struct turn *t)
{
    tell_holder(t);
    return recipe_watch(t->r, t->before) == 0 ? recipe_wait(t->r) : 0;
}

int turn_take(struct turn *t)
{
    int err = recipe_make_dir(t->r, t->dir);

    if (err == 0)
        err = take_place(t);
    while (err == 0 && t->r->interrupted == 0) {
        if (t->r->expired) {
            fputs("muster: our place in the queue is lost; once more\n", stderr);
            t->r->expired = false;
            err = take_place(t);
            continue;
        }
        err = look(t);
        if (err != 0 || t->r->expired)
            continue;
        if (t->before == NULL)
            return 0;
        if (clock_now_ms() >= t->r->wait_until_ms)
            return ERR_TIMED_OUT;
        err = wait_for_change(t);
    }
    return err;
}

void turn_open(struct turn *t, struct recipe *r, char *dir, const char *name)
{
    struct buf b = {0};
    uint64_t id = 0;

    *t = (struct turn){.r = r, .name = name, .dir = dir};
    CHECK(uv_random(NULL, NULL, &id, sizeof id, 0, NULL) == 0);
    buf_printf(&b, "%s/lock-%016" PRIx64 "-", t->dir, id);
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
