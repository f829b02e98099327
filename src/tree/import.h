/* SPDX-License-Identifier: Apache-2.0 */
/* import.h -- a tree put together from the outside, and taken apart: for moving from and to
 * Apache ZooKeeper. Not for replicas at work: what an entry of the log does is tree_apply's.
 */
#ifndef MUSTER_TREE_IMPORT_H
#define MUSTER_TREE_IMPORT_H

#include "tree/tree.h"
#include "wire/wire.h"

enum tree_kind { TREE_PERSISTENT, TREE_CONTAINER, TREE_TTL, TREE_EPHEMERAL };

/* One znode with all that is known of it. */
struct tree_image {
    const char *path; /* not ended by a NUL */
    size_t path_len;
    struct wire_bytes data; /* len -1: null */
    struct wire_list acl;   /* kept as it is */
    uint32_t acl_number;    /* of a walk: equal lists have the same; below tree_acl_numbers() */
    enum tree_kind kind;
    int64_t ttl_ms; /* TREE_TTL */
    int64_t czxid, mzxid, pzxid, ctime, mtime;
    int32_t version, aversion, creates; /* creates: ever made below it */
};

/* Puts a znode into a tree from tree_new() that nothing was applied to; parents first. Those
 * that every tree has are overwritten. Its Stat becomes what the image says. Errors, nothing is
 * changed then:
 *   ERR_BAD_ARGUMENTS  the path, an ephemeral, or a TTL below 1
 *   ERR_NO_NODE        its parent is not there
 *   ERR_NODE_EXISTS    it is
 *   ERR_INVALID_ACL    the access list is empty */
int tree_import(struct tree *t, const struct tree_image *image);
/* The zxid of the whole, at least 1. ERR_TOO_BIG: session ids could not grow with it. */
int tree_import_end(struct tree *t, int64_t zxid);
#define TREE_ZXID_MAX ((INT64_C(1) << 56) - (INT64_C(1) << 40)) /* that an import may have */

/* Walks all znodes, parents before children. Begin with zeroes, end with tree_walk_free().
 * Image and path are borrowed until the next call. */
struct tree_walk {
    uint32_t at;
    struct buf path;
};
bool tree_walk_next(struct tree_walk *w, const struct tree *t, struct tree_image *out);
void tree_walk_free(struct tree_walk *w);
uint32_t tree_acl_numbers(const struct tree *t);

#endif
