/* SPDX-License-Identifier: Apache-2.0 */
/* zkdata.h -- what Apache ZooKeeper has on its disk: bytes in, a tree out, and back.
 *
 * Pure: the shell reads and writes the files. Snapshots and transaction logs of 3.4 to 3.9,
 * plain ones (no compression). Every byte is checked: damage gives ERR_CORRUPT with the place
 * and the reason in words, never a guess.
 *
 *     d = zkdata_new(); zkdata_read_snapshot(); zkdata_replay()... in order of the logs;
 *     zkdata_finish(); zkdata_to_tree()
 *
 * Replay follows ZooKeeper's rules for fuzzy snapshots (DataTree.processTxn): a snapshot is
 * written while the tree changes, so the log from its zxid on meets a tree that has seen some
 * of it. Whatever was there already, or is there no more, is passed over.
 *
 * Sessions are not taken over and neither are their ephemerals: zkdata_finish() does what
 * closing all sessions, one zxid later, would do. Everything else keeps each field of its Stat.
 */
#ifndef MUSTER_ZKDATA_H
#define MUSTER_ZKDATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "tree/import.h"

#define ZKDATA_FILE_MAX (16ull << 30) /* bytes of one file that the shell should read */
#define ZKDATA_PATH_MAX (1u << 20)    /* bytes of one path */
#define ZKDATA_TAIL_LEN 5             /* of a snapshot: see zkdata_tail_is_whole() */
#define ZKDATA_NAMED_MAX 20           /* so many paths are named; all are counted */

struct zkdata;
struct zkdata *zkdata_new(uint64_t hash_key);
void zkdata_free(struct zkdata *d);

/* The number in "snapshot.1a" or "log.1a"; false: it is not such a name. */
bool zkdata_parse_name(const char *name, const char *prefix, int64_t *zxid);
/* Whether a snapshot that ends like this was written to its end. */
bool zkdata_tail_is_whole(const uint8_t tail[ZKDATA_TAIL_LEN]);

/* Into an empty d. zxid is that of the file's name. 0 or ERR_CORRUPT, and then d is good for
 * nothing but being freed. */
int zkdata_read_snapshot(struct zkdata *d, int64_t zxid, const uint8_t *data, size_t len,
                         struct buf *why);

/* What one log held. */
struct zkdata_log {
    uint64_t entries, applied; /* applied: above the zxid of what d held before */
    int64_t first, last;       /* zxids; 0: it has no entry */
    size_t torn_bytes;         /* behind the last whole entry; never acknowledged */
};
/* The whole of a log. ERR_CORRUPT; ERR_UNSAFE: entries are missing between what d holds and
 * what comes next (a log was deleted, or an older snapshot had to be taken), which
 * `gaps_allowed` passes over. */
int zkdata_replay(struct zkdata *d, const uint8_t *data, size_t len, bool gaps_allowed,
                  struct zkdata_log *out, struct buf *why);

enum zkdata_digest { ZKDATA_NO_DIGEST, ZKDATA_DIGEST_RIGHT, ZKDATA_DIGEST_WRONG };

struct zkdata_facts {
    int64_t zxid;    /* of the last change; finish adds one if it left ephemerals out */
    uint64_t znodes; /* without the ephemerals */
    uint64_t data_bytes;
    uint64_t sessions, ephemerals; /* left out */
    uint64_t containers, ttls;
    uint64_t foreign; /* znodes whose access list has an entry that no client can match */
    uint64_t orphans; /* znodes without a parent: left out, as ZooKeeper cannot reach them */
    uint64_t gaps;
    bool config_dropped;       /* /zookeeper/config had data: the old ensemble's servers */
    enum zkdata_digest digest; /* ZooKeeper's own sum over its tree, made again here */
};
/* Once, after the last log. 0, or ERR_CORRUPT: an access list is not known, or a znode is of a
 * kind that is not known. With 0, `foreign` (may be NULL) gets the paths of some of those
 * znodes, a line each. */
int zkdata_finish(struct zkdata *d, struct zkdata_facts *out, struct buf *foreign,
                  struct buf *why);

/* Into a new tree (tree_new()). 0, or ERR_UNSAFE: znodes that cannot be taken as they are; why
 * names them, a line each (some; and says how many). t is then good for nothing.
 * ERR_TOO_BIG: the zxid is above TREE_ZXID_MAX. Empties d. */
int zkdata_to_tree(struct zkdata *d, struct tree *t, struct buf *why);

/* ---- the other way ---- */
struct zkdata_written {
    int64_t zxid;                          /* of the snapshot's name */
    uint64_t znodes, sessions, ephemerals; /* the last two are left out */
    uint64_t containers, ttls;
};
/* Appends a snapshot that ZooKeeper 3.5 to 3.9 start from. last: the zxid of the last entry of
 * t's log; one more if ephemerals are left out. */
void zkdata_write(const struct tree *t, int64_t last, struct buf *out,
                  struct zkdata_written *facts);

#endif
