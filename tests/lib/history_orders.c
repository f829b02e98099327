/* SPDX-License-Identifier: Apache-2.0 */
/* What versions and zxids say about a history: the ways that need no search. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "history_internal.h"

#define SHOW(op) history_show(h, op).text

/* The place of a write in the one order of all, if it is known. */
static int64_t place(const struct history_op *op)
{
    if (op->type != HISTORY_OK || !history_is_write(op->f))
        return HISTORY_UNKNOWN;
    return op->zxid != HISTORY_UNKNOWN ? op->zxid : op->mzxid;
}

static bool is_read(const struct history_op *op)
{
    return op->type == HISTORY_OK && (op->f == HISTORY_READ || op->f == HISTORY_SYNC_READ);
}

/* ---- real time ---- */

static int by_end(const void *a, const void *b, void *ctx)
{
    const struct history *h = ctx;
    uint64_t x = history_end(&h->ops[*(const uint32_t *)a]);
    uint64_t y = history_end(&h->ops[*(const uint32_t *)b]);

    return x < y ? -1 : x > y;
}

static void real_time(struct history *h, const struct history_set *by_start,
                      struct history_report *r)
{
    uint32_t *ended = mem_dup(by_start->v, by_start->n * sizeof *by_start->v);
    const struct history_op *floor_of = NULL;
    int64_t floor = 0;
    size_t e = 0;

    qsort_r(ended, by_start->n, sizeof *ended, by_end, h);
    for (size_t i = 0; i < by_start->n; i++) {
        const struct history_op *op = &h->ops[by_start->v[i]];
        for (; e < by_start->n && history_end(&h->ops[ended[e]]) < op->start_ns; e++) {
            const struct history_op *old = &h->ops[ended[e]];
            int64_t z = old->zxid > place(old) ? old->zxid : place(old);
            if (old->type == HISTORY_OK && z > floor) {
                floor = z;
                floor_of = old;
            }
        }
        int64_t z = place(op);
        if (z != HISTORY_UNKNOWN && z <= floor)
            history_wrong(r,
                          "a write comes before what had ended when it was asked: %s; after %s",
                          SHOW(op), SHOW(floor_of));
        bool is_synced = op->f == HISTORY_SYNC_READ || op->f == HISTORY_SYNC_CHILDREN;
        if (op->type == HISTORY_OK && is_synced && op->zxid != HISTORY_UNKNOWN &&
            op->zxid < floor)
            history_wrong(r, "a read after sync is stale: %s; before it, %s", SHOW(op),
                          SHOW(floor_of));
    }
    mem_free(ended);
}

/* ---- what a zxid, and a version, stands for ---- */

static int by_place(const void *a, const void *b, void *ctx)
{
    const struct history *h = ctx;
    const struct history_op *x = &h->ops[*(const uint32_t *)a];
    const struct history_op *y = &h->ops[*(const uint32_t *)b];

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return place(x) < place(y) ? -1 : place(x) > place(y);
}

static int by_place_of_all(const void *a, const void *b, void *ctx)
{
    const struct history *h = ctx;
    int64_t x = place(&h->ops[*(const uint32_t *)a]);
    int64_t y = place(&h->ops[*(const uint32_t *)b]);

    return x < y ? -1 : x > y;
}

/* Writes with a place, by key and then by place. */
struct places {
    uint32_t *v;
    size_t n;
};

/* The last write of the key with a place of at most z: index + 1; 0: none. */
static size_t last_write(const struct history *h, const struct places *p, uint32_t key,
                         int64_t z)
{
    size_t low = 0, high = p->n;

    while (low < high) { /* the first that is behind it */
        size_t middle = (low + high) / 2;
        const struct history_op *op = &h->ops[p->v[middle]];
        if (op->key < key || (op->key == key && place(op) <= z))
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && h->ops[p->v[low - 1]].key == key ? low : 0;
}

/* Somebody asked for this value, and does not know what became of it; or it was there. */
static bool may_have_been_written(const struct history *h, const struct history_op *read)
{
    for (size_t i = 0; i < h->n; i++) {
        const struct history_op *op = &h->ops[i];
        if (op->key != read->key || op->value != read->value || op->start_ns > read->end_ns)
            continue;
        if (op->f == HISTORY_INIT || (history_is_write(op->f) && place(op) == HISTORY_UNKNOWN &&
                                      op->type != HISTORY_FAIL))
            return true;
    }
    return false;
}

static void look_at_read(struct history *h, const struct places *p, const struct history_op *op,
                         struct history_report *r)
{
    if (op->mzxid == HISTORY_UNKNOWN)
        return;
    if (op->zxid != HISTORY_UNKNOWN && op->mzxid > op->zxid)
        history_wrong(r, "a read shows what was written after its zxid: %s", SHOW(op));
    size_t by = last_write(h, p, op->key, op->mzxid);
    const struct history_op *w = by > 0 ? &h->ops[p->v[by - 1]] : NULL;
    if (w != NULL && place(w) == op->mzxid) {
        bool is_value = w->f != HISTORY_APPEND && w->value != op->value;
        bool is_version = w->version != HISTORY_UNKNOWN && op->version != HISTORY_UNKNOWN &&
                          w->version != op->version;
        if (is_value || is_version || w->f == HISTORY_DELETE)
            history_wrong(r, "a read shows something else than what was written: %s; but %s",
                          SHOW(op), SHOW(w));
    } else if (!op->has_list && !may_have_been_written(h, op)) {
        history_wrong(r, "a read shows what nobody wrote: %s", SHOW(op));
    }
    if (op->zxid == HISTORY_UNKNOWN)
        return;
    by = last_write(h, p, op->key, op->zxid);
    if (by > 0 && place(&h->ops[p->v[by - 1]]) > op->mzxid)
        history_wrong(r, "a read misses a write that its zxid is behind: %s; missed %s",
                      SHOW(op), SHOW(&h->ops[p->v[by - 1]]));
}

static void zxids(struct history *h, struct history_report *r)
{
    struct places p = {.v = mem_new_array(uint32_t, h->n + 1)};

    for (size_t i = 0; i < h->n; i++)
        if (place(&h->ops[i]) != HISTORY_UNKNOWN)
            p.v[p.n++] = (uint32_t)i;
    qsort_r(p.v, p.n, sizeof *p.v, by_place_of_all, h);
    for (size_t i = 1; i < p.n; i++)
        if (place(&h->ops[p.v[i]]) == place(&h->ops[p.v[i - 1]]))
            history_wrong(r, "two writes have one zxid: %s; and %s", SHOW(&h->ops[p.v[i - 1]]),
                          SHOW(&h->ops[p.v[i]]));
    qsort_r(p.v, p.n, sizeof *p.v, by_place, h);
    for (size_t i = 0; i < h->n; i++)
        if (is_read(&h->ops[i]))
            look_at_read(h, &p, &h->ops[i], r);
    mem_free(p.v);
}

static int by_version(const void *a, const void *b, void *ctx)
{
    const struct history *h = ctx;
    const struct history_op *x = &h->ops[*(const uint32_t *)a];
    const struct history_op *y = &h->ops[*(const uint32_t *)b];

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->version < y->version ? -1 : x->version > y->version;
}

/* Of keys that are never deleted: else a version comes again. */
static void versions(struct history *h, struct history_report *r)
{
    uint32_t *v = mem_new_array(uint32_t, h->n + 1);
    size_t n = 0;

    for (size_t i = 0; i < h->n; i++) {
        const struct history_op *op = &h->ops[i];
        bool is_told = op->f == HISTORY_INIT || is_read(op) || op->f == HISTORY_WRITE ||
                       op->f == HISTORY_CAS;
        if (op->type == HISTORY_OK && is_told && !op->has_list &&
            op->version != HISTORY_UNKNOWN && !h->names[op->key].has_deletes)
            v[n++] = (uint32_t)i;
    }
    qsort_r(v, n, sizeof *v, by_version, h);
    for (size_t i = 1; i < n; i++) {
        const struct history_op *x = &h->ops[v[i - 1]], *y = &h->ops[v[i]];
        if (x->key != y->key || x->version != y->version)
            continue;
        if (x->value != y->value)
            history_wrong(r, "one version has two values: %s; and %s", SHOW(x), SHOW(y));
        else if (history_is_write(x->f) && history_is_write(y->f))
            history_wrong(r, "two writes made one version: %s; and %s", SHOW(x), SHOW(y));
    }
    mem_free(v);
}

/* ---- sessions ---- */

static int by_session(const void *a, const void *b, void *ctx)
{
    const struct history *h = ctx;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct history_op *x = &h->ops[i], *y = &h->ops[k];
    int64_t s = history_session(x), t = history_session(y);

    if (s != t)
        return s < t ? -1 : 1;
    if (x->process != y->process)
        return x->process < y->process ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return i < k ? -1 : i > k;
}

static bool same_session(const struct history_op *x, const struct history_op *y)
{
    return history_session(x) == history_session(y) && x->process == y->process;
}

/* What a session has last seen of a key; of one key only, the others are at other places. */
struct last {
    const struct history_op *op;
    int64_t mzxid;
    int32_t version;
};

static void look_at_next(struct history *h, struct last *last, const struct history_op *op,
                         struct history_report *r)
{
    bool is_other = last->op == NULL || !same_session(last->op, op);
    int64_t mzxid = op->mzxid != HISTORY_UNKNOWN ? op->mzxid : place(op);

    if (is_other)
        *last = (struct last){op, HISTORY_UNKNOWN, HISTORY_UNKNOWN};
    if (mzxid != HISTORY_UNKNOWN && mzxid < last->mzxid)
        history_wrong(r, "a session reads what is older than what it has seen: %s; after %s",
                      SHOW(op), SHOW(last->op));
    else if (op->version != HISTORY_UNKNOWN && op->version < last->version &&
             !h->names[op->key].has_deletes)
        history_wrong(r, "a session sees an older version: %s; after %s", SHOW(op),
                      SHOW(last->op));
    last->op = op;
    if (mzxid > last->mzxid)
        last->mzxid = mzxid;
    if (op->version > last->version)
        last->version = op->version;
}

static void sessions(struct history *h, struct history_report *r)
{
    uint32_t *v = mem_new_array(uint32_t, h->n + 1);
    struct last *last = mem_new_array(struct last, h->names_n + 1);
    const struct history_op *before = NULL; /* in this session */
    int64_t zxid = 0;

    for (size_t i = 0; i < h->n; i++)
        v[i] = (uint32_t)i;
    qsort_r(v, h->n, sizeof *v, by_session, h);
    for (size_t i = 0; i < h->n; i++) {
        const struct history_op *op = &h->ops[v[i]];
        if (i == 0 || !same_session(&h->ops[v[i - 1]], op)) {
            r->sessions++;
            before = NULL;
            zxid = 0;
        }
        if (op->type != HISTORY_OK || op->f == HISTORY_INIT)
            continue;
        if (op->zxid != HISTORY_UNKNOWN) {
            if (op->zxid < zxid)
                history_wrong(r, "the zxid goes back in a session: %s; after %s", SHOW(op),
                              SHOW(before));
            zxid = op->zxid;
            before = op;
        }
        if (!h->names[op->key].is_parent)
            look_at_next(h, &last[op->key], op, r);
    }
    mem_free(last);
    mem_free(v);
}

void history_check_orders(struct history *h, const struct history_set *by_start,
                          struct history_report *r)
{
    if (h->n == 0)
        return;
    real_time(h, by_start, r);
    zxids(h, r);
    versions(h, r);
    sessions(h, r);
}
