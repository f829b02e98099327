/* SPDX-License-Identifier: Apache-2.0 */
/* store_model.h -- what a store should hold, to be compared with what one loads.
 *
 * Entries are kept from index 1 on, also below the snapshot: a model never forgets.
 */
#ifndef MUSTER_TESTS_STORE_MODEL_H
#define MUSTER_TESTS_STORE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

enum { MODEL_ENTRIES_MAX = 512 };

struct store_model {
    uint64_t term, vote;
    struct raft_blob *snapshot; /* or NULL */
    uint64_t next;
    struct raft_entry *entries[MODEL_ENTRIES_MAX]; /* by index; NULL: not in the log */
    uint64_t begun;                                /* of a snapshot that is being loaded */
    struct buf pieces;                             /* likewise */
};

void model_clear(struct store_model *m);
void model_copy(struct store_model *to, const struct store_model *from);
uint64_t model_snapshot_index(const struct store_model *m);

/* Applies a save as raft.h describes it, up to the first `parts` of its parts (in the order
 * of store.h: snapshot, or vote; then the cut; then each entry). UINT_MAX: all of it. */
void model_save(struct store_model *m, const struct raft_save *v, unsigned parts);
unsigned model_parts(const struct raft_save *v);
void model_snapshot(struct store_model *m, struct raft_blob *b);

/* Callbacks that fill a model (ctx) with what a store loads. */
struct store_load model_load(struct store_model *m);
/* NULL when equal in what counts: term, vote, snapshot, entries above it. */
const char *model_difference(const struct store_model *a, const struct store_model *b);

#endif
