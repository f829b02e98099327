/* SPDX-License-Identifier: Apache-2.0 */
/* shelf.h -- snapshots of one server in memory, for tests without a store: what store_job()
 * does. */
#ifndef MUSTER_TESTS_SHELF_H
#define MUSTER_TESTS_SHELF_H

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "raft/raft.h"

struct shelf_snapshot {
    uint64_t index;
    struct buf bytes;
};

struct shelf {
    struct shelf_snapshot keeping, kept, received;
};

static inline int shelf_job(struct shelf *s, const struct raft_job *j)
{
    struct shelf_snapshot *v = j->kind == RAFT_JOB_RECEIVE ? &s->received : &s->keeping;

    if (j->kind == RAFT_JOB_READ) {
        v = s->kept.index == j->index ? &s->kept : &s->received;
        if (v->index != j->index)
            return ERR_NOT_FOUND;
        CHECK(v->bytes.len == j->size && j->len <= j->size - j->at);
        memcpy(j->data, v->bytes.data + j->at, j->len);
        return 0;
    }
    if (j->at == 0)
        buf_clear(&v->bytes);
    v->index = j->index;
    CHECK(v->bytes.len == j->at && j->len <= j->size - j->at);
    if (j->len > 0)
        buf_add(&v->bytes, j->data, j->len);
    if (j->kind == RAFT_JOB_KEEP && v->bytes.len == j->size) {
        struct shelf_snapshot old = s->kept;
        s->kept = s->keeping;
        s->keeping = old;
    }
    return 0;
}

static inline void shelf_free(struct shelf *s)
{
    buf_free(&s->keeping.bytes);
    buf_free(&s->kept.bytes);
    buf_free(&s->received.bytes);
}

#endif
