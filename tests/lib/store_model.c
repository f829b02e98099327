/* SPDX-License-Identifier: Apache-2.0 */
#include "store_model.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

uint64_t model_snapshot_index(const struct store_model *m)
{
    return m->snapshot != NULL ? m->snapshot->index : 0;
}

static void drop(struct store_model *m, uint64_t from)
{
    for (uint64_t i = from; i < MODEL_ENTRIES_MAX; i++) {
        if (m->entries[i] != NULL)
            raft_entry_unref(m->entries[i]);
        m->entries[i] = NULL;
    }
}

void model_clear(struct store_model *m)
{
    drop(m, 0);
    if (m->snapshot != NULL)
        raft_blob_unref(m->snapshot);
    buf_free(&m->pieces);
    *m = (struct store_model){.next = 1};
}

void model_copy(struct store_model *to, const struct store_model *from)
{
    model_clear(to);
    *to = *from;
    to->pieces = (struct buf){0};
    if (to->snapshot != NULL)
        raft_blob_ref(to->snapshot);
    for (size_t i = 0; i < MODEL_ENTRIES_MAX; i++)
        if (to->entries[i] != NULL)
            raft_entry_ref(to->entries[i]);
}

void model_snapshot(struct store_model *m, struct raft_blob *b)
{
    if (b->index <= model_snapshot_index(m))
        return;
    if (m->snapshot != NULL)
        raft_blob_unref(m->snapshot);
    m->snapshot = raft_blob_ref(b);
}

unsigned model_parts(const struct raft_save *v)
{
    return (v->hard ? 1u : 0) + (v->snapshot != NULL ? 1u : 0) + (v->truncate ? 1u : 0) +
           (unsigned)v->n;
}

void model_save(struct store_model *m, const struct raft_save *v, unsigned parts)
{
    if (v->hard && parts > 0) {
        m->term = v->term;
        m->vote = v->vote;
        parts--;
    }
    if (v->snapshot != NULL && parts > 0) {
        uint64_t index = v->snapshot->index;
        model_snapshot(m, v->snapshot);
        if (m->entries[index] == NULL || m->entries[index]->term != v->snapshot->term) {
            drop(m, 0);
            m->next = index + 1;
        }
        parts--;
    }
    if (v->truncate && parts > 0) {
        if (v->snapshot == NULL) {
            drop(m, v->first_index);
            m->next = v->first_index;
        }
        parts--;
    }
    for (size_t i = 0; i < v->n && parts > 0; i++, parts--) {
        CHECK(v->entries[i]->index == m->next && m->next < MODEL_ENTRIES_MAX);
        m->entries[m->next++] = raft_entry_ref(v->entries[i]);
    }
}

static void load_state(void *ctx, uint64_t term, uint64_t vote)
{
    struct store_model *m = ctx;

    m->term = term;
    m->vote = vote;
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct store_model *m = ctx;

    CHECK(data == NULL && m->begun == index && m->pieces.len == len);
    uint8_t *copy = mem_dup(m->pieces.data, len);
    m->snapshot = raft_blob_new_take(index, term, members, copy, len);
    m->next = index + 1;
    buf_free(&m->pieces);
}

static void load_begin(void *ctx, uint64_t index, uint64_t size)
{
    struct store_model *m = ctx;

    (void)size;
    m->begun = index;
    buf_clear(&m->pieces);
}

static void load_piece(void *ctx, const uint8_t *data, size_t len)
{
    buf_add(&((struct store_model *)ctx)->pieces, data, len);
}

static void load_entry(void *ctx, struct raft_entry *e)
{
    struct store_model *m = ctx;

    CHECK(e->index == m->next && e->index < MODEL_ENTRIES_MAX);
    m->entries[m->next++] = raft_entry_ref(e);
}

struct store_load model_load(struct store_model *m)
{
    model_clear(m);
    return (struct store_load){.ctx = m,
                               .state = load_state,
                               .snapshot = load_snapshot,
                               .entry = load_entry,
                               .begin = load_begin,
                               .piece = load_piece};
}

const char *model_difference(const struct store_model *a, const struct store_model *b)
{
    static char text[96]; /* tests have one thread */

    if (a->term != b->term || a->vote != b->vote)
        return "another term or vote";
    if ((a->snapshot == NULL) != (b->snapshot == NULL))
        return "a snapshot in only one of them";
    if (a->snapshot != NULL &&
        (a->snapshot->index != b->snapshot->index || a->snapshot->term != b->snapshot->term ||
         a->snapshot->len != b->snapshot->len ||
         memcmp(a->snapshot->data, b->snapshot->data, a->snapshot->len) != 0 ||
         memcmp(&a->snapshot->members, &b->snapshot->members, sizeof a->snapshot->members) !=
             0))
        return "another snapshot";
    for (uint64_t i = model_snapshot_index(a) + 1; i < MODEL_ENTRIES_MAX; i++) {
        const struct raft_entry *x = a->entries[i], *y = b->entries[i];
        bool same = x == NULL || y == NULL
                        ? x == y
                        : x->term == y->term && x->type == y->type && x->len == y->len &&
                              memcmp(x->payload, y->payload, x->len) == 0;
        if (!same) {
            (void)snprintf(text, sizeof text, "entry %u: %s", (unsigned)i,
                           x == NULL   ? "only in the second"
                           : y == NULL ? "only in the first"
                                       : "different");
            return text;
        }
    }
    return NULL;
}
