/* SPDX-License-Identifier: Apache-2.0 */
/* member_ensemble.h -- raft's members and ZooKeeper's server lines: the same, said twice.
 *
 * A voter, or a learner that is to become one, is a participant; any other learner is an
 * observer. The address is HOST:QUORUM_PORT; raft_member.more holds what raft does not need:
 * ELECTION_PORT[;CLIENT_HOST:CLIENT_PORT].
 */
#ifndef MUSTER_MEMBER_ENSEMBLE_H
#define MUSTER_MEMBER_ENSEMBLE_H

#include "raft/raft.h"
#include "tree/ensemble.h"

struct raft_member member_of_line(const struct server_line *line);
/* Members of clusters made with init and join have no election port: the one above the quorum
 * port stands in its place, since parsers insist on two; their clients' port is 2181. */
struct server_line line_of_member(const struct raft_member *m);
/* The lines of all, as /zookeeper/config has them; "" for a server alone. */
void members_text(const struct raft_members *all, struct buf *out);

#endif
