/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.h -- the form of a snapshot, and one that is being taken. Inside src/tree only.
 *
 *   magic "muster-t", version i32, length of all i64, zxid i64, digest u64
 *   how many sessions, access lists, znodes there are: 3 x i32
 *   so many records, in any order but that what is named comes before who names it:
 *     a session       tag i32; id i64, timeout i32, origin 2 x i64, password
 *     an access list  tag i32; length i32, its elements
 *     a znode         tag i32; parent i32, czxid mzxid pzxid ctime mtime i64,
 *                     version aversion creates i32, access list i32,
 *                     an ephemeral: session i32, part i32; a container or a TTL znode: ttl i64,
 *                     length of name i32, of data i32 (-1: null), name, data
 *   a reconfig, if one is under way: zxid i64, length i32, server lines
 *   crc32c of everything before, i32
 *
 * Sessions, lists and znodes are named by their place among their like; the root's is 0. The
 * length is what tree_bytes() says, so it is known before anything is written. The digest is
 * the tree's own (tree_digest()); what is loaded must come to the same.
 *
 * Taking one: a walk over the sessions and the znodes by their numbers, a bounded portion at a
 * time, while the tree goes on. What is about to change, or to go, and is not in it yet is
 * written before that, as it is (tree_saving_node(), tree_saving_session()); what is new is
 * left out (tree_saving_new_node(); of a session its id says it). So it is the tree as of one
 * entry of the log, and what it costs in memory is a number for each znode and what nobody has
 * taken out yet. The digest is added up anew from what is written: memory that changed by
 * itself, an operation that forgot to count, a change that was not told: all of them show.
 */
#ifndef MUSTER_TREE_SNAPSHOT_H
#define MUSTER_TREE_SNAPSHOT_H

#include "tree/state.h"

#define SNAPSHOT_MAGIC "muster-t"
#define SNAPSHOT_VERSION 4
#define SNAPSHOT_LENGTH_AT 12
#define SNAPSHOT_HEAD_LEN 48
#define SNAPSHOT_CRC_LEN 4

enum snapshot_tag {
    TAG_PERSISTENT,
    TAG_EPHEMERAL,
    TAG_CONTAINER,
    TAG_TTL,
    TAG_ACL,
    TAG_SESSION,
};

/* Of a record: all of it, or up to where the lengths end. */
#define SNAPSHOT_SESSION_LEN (4u + 8 + 4 + 16 + TREE_PASSWORD_LEN)
#define SNAPSHOT_ACL_LEN (4u + 4)
#define SNAPSHOT_NODE_LEN (2u * 4 + 5 * 8 + 4 * 4 + 2 * 4)
#define SNAPSHOT_MORE_LEN 8u /* of a znode that is not persistent */

struct saving {
    uint32_t number;      /* what carries it, session or access list, is in it */
    uint32_t slots_n;     /* znodes with this number or a higher one came later */
    uint32_t at_node;     /* the walk: the last one looked at */
    int64_t at_session;   /* likewise */
    bool are_sessions_in; /* the walk is through with them */
    bool is_head_in;
    int64_t zxid;
    uint32_t *places; /* of a znode: its place + 1; 0: it is not in yet; SAVING_LATER */
    struct {
        uint32_t sessions, acls, nodes;
    } all, in;                     /* how many there were then; how many are in it */
    uint64_t digest, digest_nodes; /* as of then; without the reconfig */
    uint64_t sum;                  /* of what is in it */
    uint64_t bytes_all, bytes;     /* the latter: taken out */
    uint32_t crc;                  /* of what was taken out */
    bool is_wrong;
    struct buf reconfig; /* as it goes to the end */
    struct buf out;      /* not taken out yet */
    struct buf path, above;
};
#define SAVING_LATER UINT32_MAX

/* ---- load_old.c ---- */
bool tree_is_old_version(int32_t version);
struct tree *tree_load_old(uint64_t hash_key, const uint8_t *data, size_t len);

/* ---- load.c ---- */
/* Takes the tree whatever its digest says: for tests of all that stands before it. */
void tree_loader_blind(struct tree_loader *l);
bool tree_find_built_ins(struct tree *t); /* false: one is missing */
/* len 0: there is none. 0 or ERR_CORRUPT. */
int tree_load_reconfig(struct tree *t, const uint8_t *data, size_t len);

#endif
