/* SPDX-License-Identifier: Apache-2.0 */
/* member_epoch.h -- epochs: what a site goes on with when its quorum is lost for good. A core.
 *
 * Each recovery of a lost quorum begins a new epoch: its only voter is the server that was
 * recovered, with all that is on its disk. Servers of different epochs never speak Raft with
 * each other: each shows its epoch in the handshake, and whoever meets a newer one stops at
 * once, sets its store aside and joins the new epoch with an empty one, as another birth (see
 * raft_options.birth). Within an epoch everything is Raft's.
 *
 * The number grows with each recovery. Two with one number and different tags were begun apart,
 * on two survivors: neither gives way, both refuse (docs/decisions/008-epochs.md).
 */
#ifndef MUSTER_MEMBER_EPOCH_H
#define MUSTER_MEMBER_EPOCH_H

#include "base/buf.h"
#include "raft/raft.h"
#include "tree/tree.h"

#define EPOCH_RUNS_MAX 8 /* of the survivor's last terms */
#define EPOCH_BYTES_MAX (8 * 3 + 1 + 16 * EPOCH_RUNS_MAX)
/* zxids of a new epoch begin at a multiple of this, at least so far above all that were seen:
 * clients that know what the lost servers acknowledged are not refused. */
#define EPOCH_ZXID_JUMP (UINT64_C(1) << 40)
#define EPOCH_ZXID_MAX ((UINT64_C(1) << 56) - 2 * EPOCH_ZXID_JUMP)

struct epoch {
    uint64_t number; /* 0: the first one; then nothing else is set */
    uint64_t tag;    /* drawn */
    uint64_t last;   /* the index of the survivor's last entry */
    unsigned runs_n; /* its last terms, the oldest first */
    struct {
        uint64_t index, term; /* entries from index on, up to the next run or to `last` */
    } runs[EPOCH_RUNS_MAX];
};

void epoch_encode(const struct epoch *e, struct buf *out);
int epoch_decode(struct epoch *e, const uint8_t *data, size_t len); /* ERR_MALFORMED */

enum epoch_order { EPOCH_SAME, EPOCH_NEWER, EPOCH_OLDER, EPOCH_RIVAL };
/* What theirs is to ours. */
enum epoch_order epoch_order(const struct epoch *ours, const struct epoch *theirs);

/* An entry of the survivor's log, in ascending order; or its snapshot's place. */
void epoch_note(struct epoch *e, uint64_t index, uint64_t term);

/* How far a log agrees with the survivor's: its greatest index with the same term there.
 * term(ctx, i) is 0 for what the log does not have. 0: not within what the epoch remembers. */
uint64_t epoch_common(const struct epoch *e, uint64_t first, uint64_t last,
                      uint64_t (*term)(void *ctx, uint64_t index), void *ctx);

/* ---- beginning one ---- */
/* What a survivor's store holds, all of it: an entry that is on its disk may have been
 * acknowledged, whatever this server knew of that. Begin with zeroes; the three are struct
 * store_load's. */
struct survivor {
    struct tree *tree; /* NULL: there is none */
    struct raft_members members;
    struct epoch log; /* its last terms, and its end */
    uint64_t term;    /* the latest that it knows of */
    uint64_t snapshot, entries;
    int64_t time_ms; /* when the leader made the last change; 0: not known */
    int err;         /* ERR_CORRUPT: it does not fit together */
};
void survivor_state(void *survivor, uint64_t term, uint64_t vote);
void survivor_snapshot(void *survivor, uint64_t index, uint64_t term,
                       const struct raft_members *members, const uint8_t *data, size_t len);
void survivor_entry(void *survivor, struct raft_entry *e);
/* The epoch after `now` begins on server `self`: *epoch, its members, and the index of its
 * first snapshot, which is of s->tree as it is then. ERR_NOT_FOUND: self is no member;
 * ERR_TOO_BIG: there are no zxids left. */
int survivor_begin(struct survivor *s, const struct epoch *now, uint64_t tag, uint64_t self,
                   struct epoch *epoch, struct raft_members *members, uint64_t *index);

/* The first zxid of the epoch that follows a log which ended with `last`; 0: there is no room
 * (above EPOCH_ZXID_MAX). */
uint64_t epoch_zxid(uint64_t last);
/* Ends all sessions, with their ephemerals, one zxid each from `zxid` on: what a session was
 * told may be lost, so none may go on as if it were there. Returns the index of the snapshot
 * that the epoch begins with: no zxid of the tree is above it. */
uint64_t epoch_end_sessions(struct tree *t, uint64_t zxid);
/* The new configuration: `self` votes, all others are learners until they have come back with
 * another birth and everything; those that voted then vote again. ERR_NOT_FOUND: self is not
 * among them. */
int epoch_members(const struct raft_members *was, uint64_t self, struct raft_members *out);

#endif
