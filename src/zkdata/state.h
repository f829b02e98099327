/* SPDX-License-Identifier: Apache-2.0 */
/* state.h -- what struct zkdata is made of. Inside src/zkdata only.
 *
 * Flat, as ZooKeeper has it: znodes by path. Whose child is whose is looked at in the end
 * only, since replay may leave a znode without a parent for a while.
 */
#ifndef MUSTER_ZKDATA_STATE_H
#define MUSTER_ZKDATA_STATE_H

#include "base/hash.h"
#include "wire/wire.h"
#include "zkdata/zkdata.h"

/* ephemeralOwner on the disk (ZooKeeper's EphemeralType) */
#define OWNER_CONTAINER INT64_MIN
#define OWNER_EXTENDED_SHIFT 56 /* the top byte 0xff: an extended type */
#define OWNER_TYPE_SHIFT 40     /* then 16 bits of type (0: TTL), 40 bits of value */

#define ACL_OPEN 0u            /* world:anyone, everything; aclIndex -1 */
#define ACL_UNKNOWN UINT32_MAX /* a fuzzy snapshot's: the log has it */

struct zk_stat { /* StatPersisted, in the order of the file */
    int64_t czxid, mzxid, ctime, mtime;
    int32_t version, creates, aversion;
    int64_t owner, pzxid;
};

struct zk_session {
    struct hash_link link;
    int64_t id;
    bool is_open;
    struct zk_node *first; /* its ephemerals */
};

struct zk_node {
    struct hash_link link;
    struct zk_stat stat;
    struct zk_node *next, *prev; /* of the same owner */
    uint8_t *data;
    int32_t data_len; /* -1: null */
    uint32_t acl;
    uint32_t path_len; /* "" is the root */
    bool has_parent;
    char path[];
};

struct zk_acl {
    struct hash_link link;
    uint32_t id;
    int32_t count;
    size_t len;
    uint8_t bytes[];
};

struct zkdata {
    uint64_t key;
    int64_t zxid;
    struct hash_table nodes, sessions, acl_table;
    struct zk_acl **acls; /* by id; [ACL_OPEN] is the open one */
    uint32_t acls_n, acls_cap;
    uint64_t gaps;
    bool has_digest; /* of the tree after the entry `zxid` */
    int64_t digest;
    bool is_finished;
    struct zk_node **order; /* after finish: by path, parents before children */
    size_t order_n;
};

static inline struct wire_bytes zk_path(const struct zk_node *v)
{
    return wire_bytes(v->path, v->path_len);
}

struct zk_node *zk_find(const struct zkdata *d, const char *path, size_t len);
/* Takes no notice of parents. The path must be new. */
struct zk_node *zk_add(struct zkdata *d, const char *path, size_t len, struct wire_bytes data,
                       uint32_t acl, const struct zk_stat *stat);
void zk_remove(struct zkdata *d, struct zk_node *v);
void zk_set_data(struct zk_node *v, struct wire_bytes data);
struct zk_session *zk_session(struct zkdata *d, int64_t id); /* made if need be */
uint32_t zk_acl_take(struct zkdata *d, struct wire_list list);

/* A path of a file: "/" is "", and the others begin with '/', do not end with it and have no
 * NUL; else false. */
bool zk_path_take(struct wire_bytes *path);
/* A vector of ACLs; its elements are checked. */
struct wire_list zk_get_acls(struct wire_in *in);
void zk_put_stat(const struct zk_stat *s, struct buf *out);
/* ZooKeeper's DigestCalculator: the sum of this over all znodes is a tree's digest. */
uint64_t zk_node_digest(const char *path, size_t len, const uint8_t *data, int32_t data_len,
                        const struct zk_stat *s);

#endif
