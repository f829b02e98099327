/* SPDX-License-Identifier: Apache-2.0 */
/* history_internal.h -- what the parts of history.h's checker share. */
#ifndef MUSTER_TESTS_HISTORY_INTERNAL_H
#define MUSTER_TESTS_HISTORY_INTERNAL_H

#include "history.h"

struct history_name {
    char *name;
    bool is_list, is_parent, has_deletes;
};

struct history {
    struct history_op *ops;
    size_t n, cap;
    struct history_name *names;
    size_t names_n, names_cap;
};

/* Numbers of operations. */
struct history_set {
    uint32_t *v;
    size_t n, cap;
};

/* How one is shown in a report. */
struct history_shown {
    char text[200];
};
struct history_shown history_show(const struct history *h, const struct history_op *op);
const char *history_f_name(enum history_f f);
void history_wrong(struct history_report *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline bool history_is_write(enum history_f f)
{
    return f == HISTORY_WRITE || f == HISTORY_CAS || f == HISTORY_CREATE ||
           f == HISTORY_DELETE || f == HISTORY_APPEND || f == HISTORY_SEQ_CREATE ||
           f == HISTORY_SEQ_DELETE;
}

static inline int64_t history_session(const struct history_op *op)
{
    return op->session != 0 ? op->session : -1 - (int64_t)op->process;
}

/* UINT64_MAX: nobody knows when, or whether. */
static inline uint64_t history_end(const struct history_op *op)
{
    return op->type == HISTORY_OK || op->type == HISTORY_FAIL ? op->end_ns : UINT64_MAX;
}

/* set: of one key, in the order of start. */
void history_check_register(struct history *h, const struct history_set *set,
                            struct history_report *r);
void history_check_list(struct history *h, const struct history_set *set,
                        struct history_report *r);
void history_check_parent(struct history *h, const struct history_set *set,
                          struct history_report *r);
void history_check_orders(struct history *h, const struct history_set *by_start,
                          struct history_report *r);

#endif
