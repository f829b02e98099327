/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/session.h"

#include "base/check.h"
#include "base/mem.h"

int64_t tree_session_id(int64_t zxid) { return SESSION_ID_BASE + zxid; }

void sessions_free(struct sessions *s)
{
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->rows[i].session);
    mem_free(s->rows);
    *s = (struct sessions){0};
}

/* The first row with an id of at least this. */
static size_t row_from(const struct sessions *s, int64_t id)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->rows[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct session *sessions_find(const struct sessions *s, int64_t id)
{
    size_t at = row_from(s, id);

    return at < s->n && s->rows[at].id == id ? s->rows[at].session : NULL;
}

struct session *sessions_above(const struct sessions *s, int64_t id)
{
    if (id == INT64_MAX)
        return NULL;
    for (size_t at = row_from(s, id + 1); at < s->n; at++)
        if (s->rows[at].session != NULL)
            return s->rows[at].session;
    return NULL;
}

void sessions_add_take(struct sessions *s, struct session *x)
{
    CHECK(s->n == 0 || s->rows[s->n - 1].id < x->id);
    mem_grow(s->rows, s->cap, s->n + 1);
    s->rows[s->n++] = (struct session_row){x->id, x};
    s->count++;
}

struct session *sessions_add(struct sessions *s, int64_t id)
{
    struct session *x = mem_new(struct session);

    x->id = id;
    sessions_add_take(s, x);
    return x;
}

static void compact(struct sessions *s)
{
    size_t to = 0;

    for (size_t i = 0; i < s->n; i++)
        if (s->rows[i].session != NULL)
            s->rows[to++] = s->rows[i];
    s->n = to;
}

void sessions_remove(struct sessions *s, struct session *x)
{
    size_t at = row_from(s, x->id);

    CHECK(at < s->n && s->rows[at].session == x && x->count == 0);
    s->rows[at].session = NULL;
    mem_free(x);
    s->count--;
    if (s->n > 16 && s->count < s->n / 2)
        compact(s);
}

void ephemerals_free(struct ephemerals *e)
{
    mem_free(e->rows);
    *e = (struct ephemerals){0};
}

struct ephemeral *ephemerals_at(const struct ephemerals *e, uint32_t id)
{
    CHECK(id > 0 && id < e->n && e->rows[id].session != NULL);
    return &e->rows[id];
}

void ephemerals_relink(struct ephemerals *e, uint32_t id)
{
    struct ephemeral *x = ephemerals_at(e, id);

    if (x->prev != 0)
        e->rows[x->prev].next = id;
    else
        x->session->first = id;
    if (x->next != 0)
        e->rows[x->next].prev = id;
    else
        x->session->last = id;
    x->session->count++;
    e->count++;
}

uint32_t ephemerals_add(struct ephemerals *e, struct session *s, uint32_t node, uint32_t part)
{
    uint32_t id = e->free;

    if (id != 0) {
        e->free = e->rows[id].next;
    } else {
        if (e->n == 0)
            e->n = 1;
        mem_grow(e->rows, e->cap, e->n + 1);
        id = e->n++;
    }
    e->rows[id] = (struct ephemeral){s, node, part, 0, s->last};
    ephemerals_relink(e, id);
    return id;
}

void ephemerals_unlink(struct ephemerals *e, uint32_t id)
{
    struct ephemeral *x = ephemerals_at(e, id);

    if (x->prev != 0)
        e->rows[x->prev].next = x->next;
    else
        x->session->first = x->next;
    if (x->next != 0)
        e->rows[x->next].prev = x->prev;
    else
        x->session->last = x->prev;
    x->session->count--;
    e->count--;
}

void ephemerals_drop(struct ephemerals *e, uint32_t id)
{
    (void)ephemerals_at(e, id);
    e->rows[id] = (struct ephemeral){.next = e->free};
    e->free = id;
}
