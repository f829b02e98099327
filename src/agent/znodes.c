/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/znodes.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

/* The flags of a create (CreateMode). */
enum { FLAG_PERSISTENT = 0, FLAG_EPHEMERAL = 1 };

enum ask { NOTHING, CREATE, DELETE, SET };

struct entry {
    struct znodes *z;
    struct entry *next;
    char *path;
    struct buf data;
    enum znodes_kind kind;
    bool is_wanted, in_flight;
    /* The last request. The same again: not before again_ms, since the mirror may need a
     * moment to show what it did. */
    enum ask asked;
    uint64_t asked_hash; /* of the data */
    uint64_t again_ms;
};

struct znodes {
    struct client *c;
    void (*on_answer)(void *ctx);
    void *ctx;
    struct entry *first, **last; /* in the order in which they were first wanted */
    uint64_t due_ms;
};

struct znodes *znodes_new(struct client *c, void (*on_answer)(void *ctx), void *ctx)
{
    struct znodes *z = mem_new(struct znodes);

    *z = (struct znodes){.c = c, .on_answer = on_answer, .ctx = ctx, .due_ms = ZNODES_NEVER};
    z->last = &z->first;
    return z;
}

static void entry_free(struct entry *e)
{
    buf_free(&e->data);
    mem_free(e->path);
    mem_free(e);
}

void znodes_free(struct znodes *z)
{
    if (z == NULL)
        return;
    while (z->first != NULL) {
        struct entry *e = z->first;
        z->first = e->next;
        entry_free(e);
    }
    mem_free(z);
}

void znodes_begin(struct znodes *z)
{
    for (struct entry *e = z->first; e != NULL; e = e->next)
        e->is_wanted = false;
}

static struct entry *entry_for(struct znodes *z, const char *path)
{
    struct entry *e = z->first;

    while (e != NULL && strcmp(e->path, path) != 0)
        e = e->next;
    if (e != NULL)
        return e;
    e = mem_new(struct entry);
    *e = (struct entry){.z = z, .path = mem_dup_str(path), .kind = ZNODES_EPHEMERAL};
    *z->last = e;
    z->last = &e->next;
    return e;
}

void znodes_adopt(struct znodes *z, const char *path) { (void)entry_for(z, path); }

void znodes_want(struct znodes *z, const char *path, const void *data, size_t len,
                 enum znodes_kind kind)
{
    struct entry *e = entry_for(z, path);

    e->is_wanted = true;
    e->kind = kind;
    buf_clear(&e->data);
    buf_add(&e->data, data, len);
}

static void answered(void *ctx, const struct client_reply *r)
{
    struct entry *e = ctx;

    e->in_flight = false;
    /* Nothing follows from the answer: the mirror will show what is. But it may need a
     * moment; and an error is not tried again at once. */
    if (r->err == ERR_SESSION_EXPIRED)
        e->again_ms = 0;
    e->z->on_answer(e->z->ctx);
}

static void make_so(struct znodes *z, struct entry *e, const struct mirror *m, uint64_t now_ms)
{
    struct mirror_node n;
    bool is_there = mirror_get(m, e->path, &n);
    bool is_ours = is_there && n.stat.ephemeral_owner == client_session(z->c);
    bool is_same = is_there && (size_t)(n.len < 0 ? 0 : n.len) == e->data.len &&
                   (e->data.len == 0 || memcmp(n.data, e->data.data, e->data.len) == 0);
    int flags = e->kind == ZNODES_EPHEMERAL ? FLAG_EPHEMERAL : FLAG_PERSISTENT;
    bool must_create = e->is_wanted && !is_there;
    bool must_delete = !e->is_wanted && e->kind == ZNODES_EPHEMERAL && is_ours;
    bool must_set = e->is_wanted && is_there && !is_same &&
                    (e->kind == ZNODES_OWN || (e->kind == ZNODES_EPHEMERAL && is_ours));

    if (!must_create && !must_delete && !must_set)
        return;
    uint64_t hash = hash_bytes(0, e->data.data, e->data.len);
    enum ask ask = must_create ? CREATE : must_delete ? DELETE : SET;
    if (now_ms < e->again_ms && e->asked == ask && e->asked_hash == hash) {
        if (e->again_ms < z->due_ms)
            z->due_ms = e->again_ms;
        return;
    }
    e->in_flight = true;
    e->asked = ask;
    e->asked_hash = hash;
    e->again_ms = now_ms + ZNODES_AGAIN_MS;
    if (must_create)
        client_create(z->c, now_ms, e->path, e->data.data, e->data.len, flags, answered, e);
    else if (must_delete)
        client_delete(z->c, now_ms, e->path, -1, answered, e);
    else
        client_set(z->c, now_ms, e->path, e->data.data, e->data.len, -1, answered, e);
}

static bool is_over(const struct entry *e, const struct mirror *m, const struct client *c)
{
    struct mirror_node n;

    if (e->is_wanted || e->in_flight)
        return false;
    return e->kind != ZNODES_EPHEMERAL || !mirror_get(m, e->path, &n) ||
           n.stat.ephemeral_owner != client_session(c);
}

void znodes_end(struct znodes *z, const struct mirror *m, uint64_t now_ms, bool can_write)
{
    z->due_ms = ZNODES_NEVER;
    if (!can_write)
        return;
    for (struct entry **at = &z->first; *at != NULL;) {
        struct entry *e = *at;
        /* A create whose answer was lost may show up later: wait for the mirror to say. */
        if (is_over(e, m, z->c) && now_ms >= e->again_ms) {
            *at = e->next;
            entry_free(e);
            continue;
        }
        if (!e->in_flight)
            make_so(z, e, m, now_ms);
        at = &e->next;
    }
    z->last = &z->first;
    while (*z->last != NULL)
        z->last = &(*z->last)->next;
}

uint64_t znodes_deadline(const struct znodes *z) { return z->due_ms; }

unsigned znodes_ephemerals(const struct znodes *z, const struct mirror *m)
{
    struct mirror_node n;
    unsigned count = 0;

    for (const struct entry *e = z->first; e != NULL; e = e->next)
        if (e->kind == ZNODES_EPHEMERAL &&
            (e->in_flight ||
             (mirror_get(m, e->path, &n) && n.stat.ephemeral_owner == client_session(z->c))))
            count++;
    return count;
}
