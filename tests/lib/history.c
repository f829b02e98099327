/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "history_internal.h"

enum { WRONG_MAX = 50 };

/* ---- what is recorded ---- */

struct history *history_new(void) { return mem_new(struct history); }

void history_free(struct history *h)
{
    for (size_t i = 0; i < h->n; i++)
        mem_free(h->ops[i].list);
    for (size_t i = 0; i < h->names_n; i++)
        mem_free(h->names[i].name);
    mem_free(h->ops);
    mem_free(h->names);
    mem_free(h);
}

uint32_t history_key(struct history *h, const char *name)
{
    for (size_t i = h->names_n; i-- > 0;)
        if (strcmp(h->names[i].name, name) == 0)
            return (uint32_t)i;
    mem_grow(h->names, h->names_cap, h->names_n + 1);
    h->names[h->names_n] = (struct history_name){.name = mem_dup_str(name)};
    return (uint32_t)h->names_n++;
}

struct history_op *history_begin(struct history *h, enum history_f f, uint32_t key,
                                 size_t *number)
{
    mem_grow(h->ops, h->cap, h->n + 1);
    *number = h->n;
    h->ops[h->n] = (struct history_op){.type = HISTORY_INVOKE,
                                       .f = f,
                                       .key = key,
                                       .value = HISTORY_UNKNOWN,
                                       .version = HISTORY_UNKNOWN,
                                       .expect = HISTORY_UNKNOWN,
                                       .zxid = HISTORY_UNKNOWN,
                                       .mzxid = HISTORY_UNKNOWN};
    return &h->ops[h->n++];
}

struct history_op *history_at(struct history *h, size_t number) { return &h->ops[number]; }
size_t history_count(const struct history *h) { return h->n; }

void history_list(struct history_op *op, const int64_t *items, size_t n)
{
    mem_free(op->list);
    op->list = n > 0 ? mem_dup(items, n * sizeof *items) : NULL;
    op->list_n = n;
    op->has_list = true;
}

/* ---- what is told ---- */

const char *history_f_name(enum history_f f)
{
#define F(sym, name) name,
    static const char *const names[] = {HISTORY_TABLE(F)};
#undef F

    return f < HISTORY_FS ? names[f] : "?";
}

static void show_number(char *text, size_t room, size_t *at, const char *name, int64_t v)
{
    if (v != HISTORY_UNKNOWN && *at < room)
        *at += (size_t)snprintf(text + *at, room - *at, " %s %lld", name, (long long)v);
}

struct history_shown history_show(const struct history *h, const struct history_op *op)
{
    static const char *const types[] = {"not ended", "ok", "fail", "unknown"};
    struct history_shown s;
    size_t room = sizeof s.text;
    size_t at = (size_t)snprintf(s.text, room, "process %llu id %llu %s %s",
                                 (unsigned long long)op->process, (unsigned long long)op->id,
                                 history_f_name(op->f), h->names[op->key].name);

    show_number(s.text, room, &at, "value", op->value);
    if (op->has_list && at < room)
        at += (size_t)snprintf(s.text + at, room - at, " (%zu items)", op->list_n);
    show_number(s.text, room, &at, "expect", op->expect);
    show_number(s.text, room, &at, "version", op->version);
    show_number(s.text, room, &at, "mzxid", op->mzxid);
    show_number(s.text, room, &at, "zxid", op->zxid);
    if (at < room)
        snprintf(s.text + at, room - at, " %s%s%s [%llu, %llu]", types[op->type],
                 op->err != 0 ? " " : "", op->err != 0 ? err_name(op->err) : "",
                 (unsigned long long)op->start_ns, (unsigned long long)op->end_ns);
    return s;
}

void history_wrong(struct history_report *r, const char *format, ...)
{
    char line[700];
    va_list args;

    if (r->wrong++ >= WRONG_MAX)
        return;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    buf_add_str(&r->text, line);
    buf_add_str(&r->text, "\n");
}

void history_report_free(struct history_report *r) { buf_free(&r->text); }

/* ---- the check ---- */

static int by_start(const void *a, const void *b, void *ctx)
{
    const struct history *h = ctx;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct history_op *x = &h->ops[i], *y = &h->ops[k];

    if (x->start_ns != y->start_ns)
        return x->start_ns < y->start_ns ? -1 : 1;
    if (x->process == y->process && x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return i < k ? -1 : i > k;
}

static void set_add(struct history_set *set, uint32_t op)
{
    mem_grow(set->v, set->cap, set->n + 1);
    set->v[set->n++] = op;
}

static void know_keys(struct history *h)
{
    for (size_t i = 0; i < h->names_n; i++) {
        struct history_name *n = &h->names[i];
        n->is_list = n->is_parent = n->has_deletes = false;
    }
    for (size_t i = 0; i < h->n; i++) {
        const struct history_op *op = &h->ops[i];
        struct history_name *n = &h->names[op->key];
        bool is_parent = op->f == HISTORY_SEQ_CREATE || op->f == HISTORY_SEQ_DELETE ||
                         op->f == HISTORY_CHILDREN || op->f == HISTORY_SYNC_CHILDREN;
        n->is_parent |= is_parent;
        n->is_list |= !is_parent && (op->f == HISTORY_APPEND || op->has_list);
        n->has_deletes |= op->f == HISTORY_DELETE;
    }
}

static int by_id(const void *a, const void *b)
{
    const struct history_op *x = a, *y = b;

    if (x->process != y->process)
        return x->process < y->process ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (int)x->type - (int)y->type;
}

/* The lines of one operation become one: how it ended counts. */
static void join(struct history *h, struct history_report *r)
{
    size_t kept = 0;

    if (h->n == 0)
        return;
    qsort(h->ops, h->n, sizeof *h->ops, by_id);
    for (size_t i = 0; i < h->n; i++) {
        const struct history_op *x = &h->ops[i], *y = &h->ops[i + 1];
        bool is_same = i + 1 < h->n && x->f != HISTORY_INIT && y->f != HISTORY_INIT &&
                       x->process == y->process && x->id == y->id;
        if (is_same && (x->type != HISTORY_INVOKE || y->type == HISTORY_INVOKE))
            history_wrong(r, "an operation is there twice: %s; and %s", history_show(h, x).text,
                          history_show(h, y).text);
        if (is_same && x->type == HISTORY_INVOKE)
            mem_free(x->list);
        else
            h->ops[kept++] = *x;
    }
    h->n = kept;
}

bool history_check(struct history *h, struct history_report *r)
{
    struct history_set all = {0};
    struct history_set *by_key = mem_new_array(struct history_set, h->names_n + 1);
    size_t before = r->wrong;

    join(h, r);
    know_keys(h);
    for (size_t i = 0; i < h->n; i++) {
        const struct history_op *op = &h->ops[i];
        set_add(&all, (uint32_t)i);
        r->unknown += history_end(op) == UINT64_MAX;
        if (history_end(op) < op->start_ns)
            history_wrong(r, "it ends before it begins: %s", history_show(h, op).text);
    }
    if (all.n > 0)
        qsort_r(all.v, all.n, sizeof *all.v, by_start, h);
    for (size_t i = 0; i < all.n; i++)
        set_add(&by_key[h->ops[all.v[i]].key], all.v[i]);
    r->operations += all.n;
    history_check_orders(h, &all, r);
    for (size_t i = 0; i < h->names_n; i++) {
        if (h->names[i].is_parent)
            history_check_parent(h, &by_key[i], r);
        else if (h->names[i].is_list)
            history_check_list(h, &by_key[i], r);
        else if (by_key[i].n > 0)
            history_check_register(h, &by_key[i], r);
        mem_free(by_key[i].v);
    }
    mem_free(by_key);
    mem_free(all.v);
    return r->wrong == before;
}
