/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/lapse.h"

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "tree/state.h"

void lapses_free(struct lapses *l)
{
    mem_free(l->rows);
    *l = (struct lapses){0};
}

uint32_t lapses_add(struct lapses *l, uint32_t node, int64_t ttl_ms)
{
    uint32_t id = l->free;

    if (id != 0) {
        l->free = l->rows[id].next;
    } else {
        if (l->n == 0)
            l->n = 1;
        mem_grow(l->rows, l->cap, l->n + 1);
        id = l->n++;
        CHECK(id < NODE_LAPSES);
    }
    l->rows[id] = (struct lapse){.node = node, .ttl_ms = ttl_ms};
    l->count++;
    return NODE_LAPSES | id;
}

const struct lapse *lapses_at(const struct lapses *l, uint32_t owner)
{
    uint32_t id = owner & ~NODE_LAPSES;

    CHECK((owner & NODE_LAPSES) != 0 && id > 0 && id < l->n && l->rows[id].node != NODE_NONE);
    return &l->rows[id];
}

void lapses_drop(struct lapses *l, uint32_t owner)
{
    uint32_t id = owner & ~NODE_LAPSES;

    (void)lapses_at(l, owner);
    l->rows[id] = (struct lapse){.next = l->free};
    l->free = id;
    l->count--;
}

/* Whether it may go at this time. A container that never had a child may when it was made or
 * written to that long ago (0: never). */
static bool is_due(const struct tree *t, const struct lapse *l, int64_t time_ms,
                   int64_t never_used_ms)
{
    struct family f = nodes_family_get(&t->nodes, l->node);

    if (f.children > 0 && !MUTANT(tree_lapse_blindly))
        return false;
    int64_t mtime = nodes_changes(&t->nodes, l->node).mtime;
    if (l->ttl_ms > 0)
        return time_ms - mtime > l->ttl_ms || MUTANT(tree_ttl_ignored);
    return f.creates > 0 || (never_used_ms > 0 && time_ms - mtime > never_used_ms);
}

bool tree_lapse_next(const struct tree *t, uint32_t *at, int64_t time_ms, int64_t never_used_ms,
                     struct buf *path)
{
    while (++*at < t->lapses.n) {
        const struct lapse *l = &t->lapses.rows[*at];
        if (l->node == NODE_NONE || !is_due(t, l, time_ms, never_used_ms))
            continue;
        nodes_path(&t->nodes, l->node, path);
        return true;
    }
    return false;
}

void tree_lapse_body(int64_t never_used_ms, const struct buf *path, struct buf *out)
{
    buf_clear(out);
    buf_add_be64(out, (uint64_t)never_used_ms);
    buf_add(out, path->data, path->len);
}

/* The leader has found it due; in the meantime it may have been written to, got a child, or
 * been made anew. */
int tree_lapse(const struct step *s, const uint8_t *body, size_t len)
{
    struct tree *t = s->t;

    if (len < 8)
        return ERR_MALFORMED;
    uint32_t id = nodes_find(&t->nodes, (const char *)body + 8, len - 8);
    if (id == NODE_NONE)
        return ERR_NO_NODE;
    uint32_t owner = nodes_at(&t->nodes, id)->owner;
    if ((owner & NODE_LAPSES) == 0)
        return ERR_BAD_VERSION; /* as ZooKeeper says it */
    if (nodes_family_get(&t->nodes, id).children > 0 && !MUTANT(tree_lapse_blindly))
        return ERR_NOT_EMPTY;
    if (!is_due(t, lapses_at(&t->lapses, owner), s->time_ms, (int64_t)be64_get(body)))
        return ERR_BAD_VERSION;
    tree_remove_znode(s, id);
    return 0;
}
