/* SPDX-License-Identifier: Apache-2.0 */
/* acl.h -- access lists: checked, and each different one stored once.
 *
 * Inside src/tree only. A list is kept as the elements of its wire vector. Znodes hold a
 * number; the numbers are local to one process (replicas may number differently).
 */
#ifndef MUSTER_TREE_ACL_H
#define MUSTER_TREE_ACL_H

#include "base/hash.h"
#include "wire/wire.h"

struct acl {
    struct hash_link link;
    uint64_t digest; /* of the content; the same on every replica */
    uint32_t id, refs;
    uint32_t len;
    int32_t count;
    int32_t everyone;         /* what world:anyone may */
    uint32_t saved_in, place; /* snapshot.h */
    uint8_t bytes[];
};

struct acls {
    uint64_t key;
    struct hash_table table;
    struct acl **rows; /* by number; NULL: free. [0] is never used */
    uint32_t n, cap;
    uint32_t *free;
    uint32_t free_n, free_cap;
    uint64_t bytes; /* of all lists */
};

void acls_init(struct acls *a, uint64_t hash_key);
void acls_free(struct acls *a);

/* The number of this list, with one reference more. */
uint32_t acls_take(struct acls *a, const void *elements, size_t len, int32_t count);
bool acls_has(const struct acls *a, const void *elements, size_t len);
void acls_ref(struct acls *a, uint32_t id);  /* one more reference */
void acls_give(struct acls *a, uint32_t id); /* gives one reference back */
const struct acl *acls_at(const struct acls *a, uint32_t id);

/* Checks a list as create and setACL do (ZooKeeper's fix-up) and appends to `out` the
 * elements to be stored, without duplicates. `auth` stands for those of the ids that a client
 * has proven (not for where it is connected from). 0 or ERR_INVALID_ACL. */
int acl_fix(struct wire_list list, struct wire_list ids, uint8_t rules, struct buf *out,
            int32_t *count);
/* Appends a list as somebody sees it who may not change it: without the digests' hashes. */
void acl_mask(struct wire_list list, struct buf *out);

#endif
