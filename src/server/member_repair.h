/* SPDX-License-Identifier: Apache-2.0 */
/* member_repair.h -- what becomes of a server whose store cannot be believed. A core.
 *
 * Damage in the middle of a log, a vote that is gone, a snapshot that nothing replaces, or a
 * store that is gone though the machine has had one: what this server has promised is not known
 * any more. So it may not go on with what is left, and may not vote. If others have what it
 * had, it begins a new life (raft_options.birth): the store is set aside, a new and empty one
 * takes its place, the leader makes the server a learner, sends it everything and then makes it
 * a voter again. If nobody else has it, nothing is touched: a person decides.
 *
 * Order, for a crash in between: first the new birth is written down, then the store is set
 * aside. The other way round an empty store would stand under the old birth for a moment, and
 * vote.
 */
#ifndef MUSTER_MEMBER_REPAIR_H
#define MUSTER_MEMBER_REPAIR_H

#include "base/buf.h"
#include "raft/raft.h"

enum repair_verdict {
    REPAIR_NOT_NEEDED, /* go on; or err is none that a new life would help */
    REPAIR_NEW_LIFE,
    REPAIR_IMPOSSIBLE, /* there is nobody to fetch from */
};

struct repair_question {
    int err;        /* of opening the store, or of loading what it holds */
    bool was_new;   /* it opened, but holds no vote, no entry, no snapshot */
    bool has_begun; /* something was, once: written down beside the store */
    uint64_t self;
    const struct raft_members *known; /* the last known, from beside the store */
};
enum repair_verdict repair_decide(const struct repair_question *q);

/* The next birth after this one: another, not 0. */
uint64_t repair_birth(uint64_t now, uint64_t random);

/* What a person has to know beside the damage itself, for the log: whether the others can make
 * it good alone. */
void repair_say(const struct repair_question *q, struct buf *out);

#endif
