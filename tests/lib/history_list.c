/* SPDX-License-Identifier: Apache-2.0 */
/* Lists that are appended to, and parents of sequential children. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "history_internal.h"

#define SHOW(op) history_show(h, op).text

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* ---- lists ---- */

/* An item of the longest list that was read, with who appended it. */
struct item {
    int64_t value;
    size_t at;
    const struct history_op *by;
};

static int item_by_value(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int item_by_place(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

static bool has_read(const struct history_op *op)
{
    bool is_read = op->f == HISTORY_READ || op->f == HISTORY_SYNC_READ;

    return (is_read && op->type == HISTORY_OK && op->has_list) ||
           (op->f == HISTORY_INIT && op->has_list);
}

static struct item *find_item(struct item *items, size_t n, int64_t value)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (items[middle].value < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && items[low].value == value ? &items[low] : NULL;
}

/* Each read is a prefix of the longest. */
static const struct history_op *longest_read(struct history *h, const struct history_set *set,
                                             struct history_report *r)
{
    const struct history_op *longest = NULL;

    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        if (has_read(op) && (longest == NULL || op->list_n > longest->list_n))
            longest = op;
    }
    for (size_t i = 0; i < set->n && longest != NULL; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        for (size_t k = 0; has_read(op) && k < op->list_n; k++)
            if (op->list[k] != longest->list[k]) {
                history_wrong(r, "two reads of a list differ at item %zu: %s; and %s", k,
                              SHOW(op), SHOW(longest));
                break;
            }
    }
    return longest;
}

/* Each item is there once, and somebody asked for it. */
static void look_at_items(struct history *h, const struct history_set *set, struct item *items,
                          size_t n, const struct history_op *longest, struct history_report *r)
{
    for (size_t i = 1; i < n; i++)
        if (items[i].value == items[i - 1].value)
            history_wrong(r, "item %lld is at %zu and at %zu of a list: %s",
                          (long long)items[i].value, items[i - 1].at, items[i].at,
                          SHOW(longest));
    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        for (size_t k = 0; op->f == HISTORY_INIT && k < op->list_n; k++) {
            struct item *it = find_item(items, n, op->list[k]);
            if (it != NULL)
                it->by = op;
        }
        struct item *it = op->f == HISTORY_APPEND ? find_item(items, n, op->value) : NULL;
        if (it == NULL)
            continue;
        if (op->type == HISTORY_FAIL)
            history_wrong(r, "an append that was refused is in the list: %s", SHOW(op));
        it->by = op;
    }
    for (size_t i = 0; i < n; i++)
        if (items[i].by == NULL)
            history_wrong(r, "item %lld of a list was appended by nobody: %s",
                          (long long)items[i].value, SHOW(longest));
}

/* At each place of the order: nothing that comes later had ended before it was asked. */
static void look_at_order(struct history *h, struct item *items, size_t n,
                          struct history_report *r)
{
    const struct history_op *latest = NULL; /* the start that is latest so far */

    qsort(items, n, sizeof *items, item_by_place);
    for (size_t i = 0; i < n; i++) {
        const struct history_op *op = items[i].by;
        if (op == NULL || op->f != HISTORY_APPEND)
            continue;
        if (latest != NULL && history_end(op) < latest->start_ns)
            history_wrong(r, "appends are not in the order of real time: %s; is after %s",
                          SHOW(op), SHOW(latest));
        if (latest == NULL || op->start_ns > latest->start_ns)
            latest = op;
    }
}

/* How long the list surely was before each operation: what had been read, or acknowledged. */
static void look_at_lengths(struct history *h, const struct history_set *set,
                            struct history_report *r, struct item *items, size_t n,
                            bool of_session)
{
    qsort(items, n, sizeof *items, item_by_value);
    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        if (!has_read(op) || op->f == HISTORY_INIT || (op->f == HISTORY_READ && !of_session))
            continue;
        for (size_t k = 0; k < set->n; k++) {
            const struct history_op *old = &h->ops[set->v[k]];
            bool is_before = of_session ? history_session(old) == history_session(op) &&
                                              old->process == op->process && old->id < op->id
                                        : history_end(old) < op->start_ns;
            if (!is_before || old->type != HISTORY_OK)
                continue;
            size_t least = has_read(old) ? old->list_n : 0;
            if (old->f == HISTORY_APPEND) {
                const struct item *it = find_item(items, n, old->value);
                least = it != NULL ? it->at + 1 : SIZE_MAX;
            }
            if (op->list_n < least) {
                history_wrong(r, "a read of a list misses what was there before: %s; after %s",
                              SHOW(op), SHOW(old));
                break;
            }
        }
    }
}

void history_check_list(struct history *h, const struct history_set *set,
                        struct history_report *r)
{
    const struct history_op *longest = longest_read(h, set, r);
    size_t n = longest != NULL ? longest->list_n : 0;
    struct item *items = mem_new_array(struct item, n + 1);

    r->lists++;
    for (size_t i = 0; i < n; i++)
        items[i] = (struct item){longest->list[i], i, NULL};
    qsort(items, n, sizeof *items, item_by_value);
    look_at_items(h, set, items, n, longest, r);
    look_at_order(h, items, n, r);
    look_at_lengths(h, set, r, items, n, false);
    look_at_lengths(h, set, r, items, n, true);
    mem_free(items);
}

/* ---- parents of sequential children ---- */

struct child {
    int64_t number;
    const struct history_op *by, *deleted; /* deleted: the first that asked for it */
    uint64_t deleted_ns;                   /* acknowledged; UINT64_MAX: not */
};

static int child_by_number(const void *a, const void *b)
{
    const struct child *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

static struct child *find_child(struct child *v, size_t n, int64_t number)
{
    struct child key = {.number = number};

    return n > 0 ? bsearch(&key, v, n, sizeof *v, child_by_number) : NULL;
}

static size_t number_children(struct history *h, const struct history_set *set, struct child *v,
                              struct history_report *r)
{
    size_t n = 0;

    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        if (op->f == HISTORY_SEQ_CREATE && op->type == HISTORY_OK)
            v[n++] = (struct child){op->value, op, NULL, UINT64_MAX};
    }
    qsort(v, n, sizeof *v, child_by_number);
    for (size_t i = 1; i < n; i++)
        if (v[i].number == v[i - 1].number)
            history_wrong(r, "a sequence number is given twice: %s; and %s", SHOW(v[i - 1].by),
                          SHOW(v[i].by));
    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        struct child *c = op->f == HISTORY_SEQ_DELETE ? find_child(v, n, op->value) : NULL;
        if (c == NULL || op->type == HISTORY_FAIL)
            continue;
        if (c->deleted == NULL)
            c->deleted = op;
        if (op->type == HISTORY_OK && op->end_ns < c->deleted_ns)
            c->deleted_ns = op->end_ns;
    }
    return n;
}

static bool in_session_before(const struct history_op *a, const struct history_op *b)
{
    return history_session(a) == history_session(b) && a->process == b->process &&
           a->id < b->id;
}

/* Numbers grow: in real time, and in each session. v is sorted by number. */
static void look_at_numbers(struct history *h, const struct child *v, size_t n,
                            struct history_report *r)
{
    const struct history_op *latest = NULL;

    for (size_t i = 0; i < n; i++) {
        if (latest != NULL && history_end(v[i].by) < latest->start_ns)
            history_wrong(r, "sequence numbers are not in the order of real time: %s; and %s",
                          SHOW(v[i].by), SHOW(latest));
        if (latest == NULL || v[i].by->start_ns > latest->start_ns)
            latest = v[i].by;
        if (i > 0 && in_session_before(v[i].by, v[i - 1].by))
            history_wrong(r, "a session's sequence numbers are not in its order: %s; and %s",
                          SHOW(v[i - 1].by), SHOW(v[i].by));
    }
}

static bool is_in(const struct history_op *op, int64_t number)
{
    return op->list_n > 0 &&
           bsearch(&number, op->list, op->list_n, sizeof number, by_value) != NULL;
}

static void look_at_children(struct history *h, struct history_op *op, struct child *v,
                             size_t n, bool all_known, struct history_report *r)
{
    if (op->list_n > 0)
        qsort(op->list, op->list_n, sizeof *op->list, by_value);
    for (size_t i = 0; i < n; i++) {
        const struct child *c = &v[i];
        bool is_synced = op->f == HISTORY_SYNC_CHILDREN;
        bool was_there =
            is_synced ? history_end(c->by) < op->start_ns : in_session_before(c->by, op);
        bool may_be_gone = c->deleted != NULL && c->deleted->start_ns <= op->end_ns;
        if (was_there && !may_be_gone && !is_in(op, c->number))
            history_wrong(r, "an acknowledged child is not there: %s; missing in %s",
                          SHOW(c->by), SHOW(op));
        if (is_synced && c->deleted_ns < op->start_ns && is_in(op, c->number))
            history_wrong(r, "a deleted child is there: %s; in %s", SHOW(c->deleted), SHOW(op));
        if (c->by->start_ns > op->end_ns && is_in(op, c->number))
            history_wrong(r, "a child is there before it was asked for: %s; in %s", SHOW(c->by),
                          SHOW(op));
    }
    for (size_t i = 0; i < op->list_n && all_known; i++)
        if (find_child(v, n, op->list[i]) == NULL)
            history_wrong(r, "child %lld was created by nobody: %s", (long long)op->list[i],
                          SHOW(op));
}

void history_check_parent(struct history *h, const struct history_set *set,
                          struct history_report *r)
{
    struct child *v = mem_new_array(struct child, set->n + 1);
    size_t n = number_children(h, set, v, r);
    bool all_known = true;

    r->parents++;
    look_at_numbers(h, v, n, r);
    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        all_known &= op->f != HISTORY_SEQ_CREATE || history_end(op) != UINT64_MAX;
        all_known &= op->f != HISTORY_INIT;
    }
    for (size_t i = 0; i < set->n; i++) {
        struct history_op *op = &h->ops[set->v[i]];
        bool is_list = op->f == HISTORY_CHILDREN || op->f == HISTORY_SYNC_CHILDREN;
        if (is_list && op->type == HISTORY_OK)
            look_at_children(h, op, v, n, all_known, r);
    }
    mem_free(v);
}
