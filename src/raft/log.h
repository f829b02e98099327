/* SPDX-License-Identifier: Apache-2.0 */
/* log.h -- the log in memory: entries base + 1 .. last, in a ring that grows.
 *
 * Looking up an index is one mask and one load. The log owns one reference of each entry.
 * What is before is known by position and term only: (base, base_term), the last entry of
 * a snapshot, or 0, 0.
 */
#ifndef MUSTER_RAFT_LOG_H
#define MUSTER_RAFT_LOG_H

#include "raft/raft.h"

struct raft_piece;

struct raft_log {
    struct raft_entry **ring; /* entry i stands at ring[i & (size - 1)] */
    uint64_t size;            /* 0 or a power of two */
    uint64_t base, base_term;
    uint64_t last;
    uint64_t bytes;           /* of all entries, structs included */
    struct raft_piece *piece; /* where the next entry is made; or NULL */
};

void raft_log_free(struct raft_log *log);
void raft_log_reset(struct raft_log *log, uint64_t base, uint64_t base_term); /* empties */

/* As raft_entry_new, for an entry that comes into this log now: they come and go in the order
 * of the log, so they share pieces of memory. */
struct raft_entry *raft_log_entry_new(struct raft_log *log, uint64_t index, uint64_t term,
                                      enum raft_entry_type type, const void *payload,
                                      size_t len);
void raft_log_append_take(struct raft_log *log, struct raft_entry *e); /* index last + 1 */
void raft_log_truncate(struct raft_log *log, uint64_t from);           /* drops from .. last */
void raft_log_compact(struct raft_log *log, uint64_t upto); /* drops .. upto: the new base */

bool raft_log_has(const struct raft_log *log, uint64_t index);
struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index); /* must be there */
uint64_t raft_log_last_term(const struct raft_log *log);

/* The term of the entry at index, of the base too; 0: not known here (or index 0). */
uint64_t raft_log_term(const struct raft_log *log, uint64_t index);

/* The greatest index <= upto, but not below the base, whose term is <= term: where two logs
 * can agree at most, given what the other one has ([R] 5.3, last paragraphs). */
uint64_t raft_log_last_of_term(const struct raft_log *log, uint64_t upto, uint64_t term);

#endif
