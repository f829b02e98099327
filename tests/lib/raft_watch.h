/* SPDX-License-Identifier: Apache-2.0 */
/* raft_watch.h -- raft's safety properties over all servers ([R] figure 3), looked at after
 * each event of a server.
 *
 *   election safety        one leader in a term
 *   leader append-only     a leader changes nothing in its log
 *   log matching           an index and a term have one predecessor, in every log
 *   leader completeness    a leader has what was committed in earlier terms
 *   state machine safety   an index is committed with one term only
 *
 * What entries contain is compared by the simulations themselves, when they are applied.
 */
#ifndef MUSTER_TESTS_RAFT_WATCH_H
#define MUSTER_TESTS_RAFT_WATCH_H

#include "raft/raft.h"
#include "world.h"

struct raft_watch;
struct raft_watch *raft_watch_new(struct world *w, unsigned servers);
void raft_watch_free(struct raft_watch *rw);
/* world_fail() when something is broken. */
void raft_watch_look(struct raft_watch *rw, unsigned server, const struct raft *r);
/* What it knows comes from its disk now. */
void raft_watch_restarted(struct raft_watch *rw, unsigned server);
uint64_t raft_watch_committed(const struct raft_watch *rw); /* the highest seen */
unsigned raft_watch_leaders(const struct raft_watch *rw);   /* how many there have been */

#endif
