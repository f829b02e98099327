/* SPDX-License-Identifier: Apache-2.0 */
/* node.h -- where znodes live: found by path, linked to parent and siblings.
 *
 * Inside src/tree only. A znode is known by a number (its slot), 32 bits instead of a
 * pointer: a node's memory holds its name and its data too, so that it moves when its data
 * grows. A million znodes with 100 bytes each take about 215 MB in all.
 *
 * A pointer from nodes_at() is valid until the next call that changes the same node's data;
 * one from nodes_family() until the next nodes_family().
 */
#ifndef MUSTER_TREE_NODE_H
#define MUSTER_TREE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define NODE_NONE 0u
#define NODE_ROOT 1u

/* node.owner, when it is not the number of an ephemeral (session.h) */
#define NODE_PERSISTENT 0u
#define NODE_LAPSES 0x80000000u /* set: the number of a container or TTL znode (lapse.h) */

struct node {
    uint32_t parent;
    uint32_t family;     /* of its children; 0: it never had one */
    uint32_t next, prev; /* siblings */
    int64_t czxid, mzxid, ctime, mtime;
    int32_t version, aversion;
    uint32_t acl;
    uint32_t owner;
    uint32_t name_len;
    int32_t data_len; /* -1: null */
    char tail[];      /* the name, then the data */
};

/* What only a znode needs that has, or had, children. */
struct family {
    int64_t pzxid;
    int32_t creates; /* ever made below it: the sequence counter; wraps */
    uint32_t children;
    uint32_t first; /* child; in a free one: the next free one */
};

struct node_slot {
    struct node *node; /* NULL: free */
    uint32_t hash;     /* of the whole path */
    uint32_t next;     /* in the bucket; in a free one: the next free one */
};

struct nodes {
    uint64_t key;
    struct node_slot *slots; /* [0] is never used */
    uint32_t slots_n, slots_cap, slots_free;
    uint32_t *buckets;
    uint32_t buckets_n;      /* a power of two */
    uint32_t count;          /* linked ones */
    struct family *families; /* [0] is never used */
    uint32_t families_n, families_cap, families_free;
    uint64_t data_bytes; /* of linked ones */
    uint64_t path_bytes; /* likewise: the lengths of their paths */
    uint64_t name_bytes; /* likewise: of the last parts alone */
};

/* Begins with the root alone. */
void nodes_init(struct nodes *n, uint64_t hash_key);
void nodes_free(struct nodes *n);

/* "" and "/" are the root. NODE_NONE: there is none. */
uint32_t nodes_find(const struct nodes *n, const char *path, size_t len);
struct node *nodes_at(const struct nodes *n, uint32_t id);

/* A new znode, linked; all its numbers are zero. The path must be valid and new, and the
 * parent be the one that it names. data_len -1: null. */
uint32_t nodes_add(struct nodes *n, uint32_t parent, const char *path, size_t len,
                   const void *data, int32_t data_len);
void nodes_set_data(struct nodes *n, uint32_t id, const void *data, int32_t data_len);

/* Whether this number, below slots_n, is a znode's. */
bool nodes_is_used(const struct nodes *n, uint32_t id);
/* So many will be added: room for them at once. */
void nodes_reserve(struct nodes *n, uint32_t count);

/* Takes it out of its parent and of the look-up; it must have no children. Its number stays
 * taken: then either back with it, or free it. */
void nodes_unlink(struct nodes *n, uint32_t id);
void nodes_relink(struct nodes *n, uint32_t id, const char *path, size_t len);
void nodes_drop(struct nodes *n, uint32_t id);

struct family nodes_family_get(const struct nodes *n, uint32_t id); /* also if it has none */
struct family *nodes_family(struct nodes *n, uint32_t id);          /* made if need be */

/* The next one in a walk over id's descendants, parents first: begin with at = id. */
uint32_t nodes_below_next(const struct nodes *n, uint32_t id, uint32_t at);

static inline bool node_is_ephemeral(const struct node *v)
{
    return v->owner != NODE_PERSISTENT && (v->owner & NODE_LAPSES) == 0;
}

static inline const char *node_name(const struct node *v) { return v->tail; }
static inline const uint8_t *node_data(const struct node *v)
{
    return (const uint8_t *)v->tail + v->name_len;
}

void nodes_path(const struct nodes *n, uint32_t id, struct buf *out); /* overwrites out */

#endif
