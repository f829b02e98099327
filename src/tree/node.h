/* SPDX-License-Identifier: Apache-2.0 */
/* node.h -- where znodes live: found by path, linked to parent and siblings.
 *
 * Inside src/tree only. A znode is known by a number, 32 bits instead of a pointer. What all
 * have is a struct node; its name, its data and what was changed since its creation are one
 * piece of a slab. A million znodes with 100 bytes each take about 175 MB in all, 24 more when
 * each was set.
 *
 * A pointer from nodes_at() is valid until nodes_drop(), one to a name or to data until the
 * next call that changes any znode; one from nodes_family() until the next nodes_family().
 */
#ifndef MUSTER_TREE_NODE_H
#define MUSTER_TREE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/slab.h"

#define NODE_NONE 0u
#define NODE_ROOT 1u

/* node.owner, when it is not the number of an ephemeral (session.h) */
#define NODE_PERSISTENT 0u
#define NODE_LAPSES 0x80000000u /* set: the number of a container or TTL znode (lapse.h) */

struct node {
    int64_t czxid, ctime;
    uint32_t parent;
    /* Of its children; 0: it never had one. */
    uint32_t family : 31;
    uint32_t is_changed : 1; /* since it was created: see node_changes */
    uint32_t next, prev;     /* siblings */
    uint32_t hash;           /* of the whole path */
    uint32_t chain;          /* in the bucket; in a free one: the next free one */
    uint32_t body;           /* in the slab; SLAB_NONE: this one is free */
    uint32_t acl;
    uint32_t owner;
    int32_t data_len; /* -1: null */
};

/* What differs from the creation: most znodes are never written to. */
struct node_changes {
    int64_t mzxid, mtime;
    int32_t version, aversion;
};

/* What only a znode needs that has, or had, children. */
struct family {
    int64_t pzxid;
    int32_t creates; /* ever made below it: the sequence counter; wraps */
    uint32_t children;
    uint32_t first; /* child; in a free one: the next free one */
};

#define NODES_IN_ROW 1024u

/* Rows and buckets are added one by one: no znode is moved when there are more of them. */
struct nodes {
    uint64_t key;
    struct node **rows; /* of NODES_IN_ROW each; number 0 is never used */
    uint32_t rows_n, rows_cap;
    uint32_t slots_n, slots_free; /* numbers that were ever used; the first free one */
    struct slab slab;
    uint32_t *buckets; /* linear hashing: buckets_mask + 1 is the power of two above */
    uint32_t buckets_n, buckets_cap, buckets_mask;
    uint32_t count;          /* linked ones */
    uint32_t tidied;         /* up to where nodes_tidy() has come */
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

static inline struct node *nodes_slot(const struct nodes *n, uint32_t id)
{
    return &n->rows[id / NODES_IN_ROW][id % NODES_IN_ROW];
}

static inline struct node *nodes_at(const struct nodes *n, uint32_t id)
{
    CHECK(id != NODE_NONE && id < n->slots_n);
    struct node *v = nodes_slot(n, id);
    CHECK(v->body != SLAB_NONE);
    return v;
}

/* Who will look for many asks the memory for what that needs, in steps: each reads what the one
 * before has asked for, so some time should lie between. They change nothing. */
uint32_t nodes_ask(const struct nodes *n, const char *path, size_t len); /* for the next */
uint32_t nodes_ask_znode(const struct nodes *n, uint32_t hash); /* NODE_NONE, or for the next */
void nodes_ask_body(const struct nodes *n, uint32_t id);

/* A new znode, linked; all its numbers are zero. The path must be valid and new, and the
 * parent be the one that it names. data_len -1: null. */
uint32_t nodes_add(struct nodes *n, uint32_t parent, const char *path, size_t len,
                   const void *data, int32_t data_len);
/* For who has many. nodes_load(): like nodes_add(), but it is not found by its path before
 * nodes_link(). like: parent, czxid, ctime, acl, data_len are given, all else is zero.
 * nodes_link(): false: two have the same path; the whole is of no use then. */
uint32_t nodes_load(struct nodes *n, const struct node *like, const struct node_changes *c,
                    const char *path, size_t len, const void *data);
bool nodes_link(struct nodes *n, const uint32_t *ids, size_t count);
void nodes_set_data(struct nodes *n, uint32_t id, const void *data, int32_t data_len);
void nodes_set_changes(struct nodes *n, uint32_t id, const struct node_changes *c);
/* Likewise, of a znode that is new and may have none. */
void nodes_load_changes(struct nodes *n, uint32_t id, const struct node_changes *c);
/* Data and changes in one. */
void nodes_set(struct nodes *n, uint32_t id, const void *data, int32_t data_len,
               const struct node_changes *c);

/* Whether this number, below slots_n, is a znode's. */
static inline bool nodes_is_used(const struct nodes *n, uint32_t id)
{
    return nodes_slot(n, id)->body != SLAB_NONE;
}
/* So many will be added: room for them at once. */
void nodes_reserve(struct nodes *n, uint32_t count);
/* Moves a few pieces, if many of the slab's pages are nearly empty. To be called now and then
 * after something was deleted or made shorter. */
void nodes_tidy(struct nodes *n);

/* Takes it out of its parent and of the look-up; it must have no children. Its number stays
 * taken: then either back with it, or free it. */
void nodes_unlink(struct nodes *n, uint32_t id);
void nodes_relink(struct nodes *n, uint32_t id, const char *path, size_t len);
void nodes_drop(struct nodes *n, uint32_t id);

struct family nodes_family_get(const struct nodes *n, uint32_t id); /* also if it has none */
struct family *nodes_family(struct nodes *n, uint32_t id);          /* made if need be */

/* The next one in a walk over id's descendants, parents first: begin with from = id. */
uint32_t nodes_below_next(const struct nodes *n, uint32_t id, uint32_t from);

static inline bool node_is_ephemeral(const struct node *v)
{
    return v->owner != NODE_PERSISTENT && (v->owner & NODE_LAPSES) == 0;
}

/* A body: what was changed if something was, the name's length (u8, or NODE_NAME_LONG and u32),
 * the name, the data. */
#define NODE_NAME_LONG 0xffu

static inline const char *nodes_name(const struct nodes *n, uint32_t id, size_t *len)
{
    const struct node *v = nodes_at(n, id);
    const uint8_t *p = slab_at(&n->slab, v->body);

    if (v->is_changed)
        p += sizeof(struct node_changes);
    *len = *p++;
    if (*len == NODE_NAME_LONG) {
        *len = be32_get(p);
        p += 4;
    }
    return (const char *)p;
}

static inline const uint8_t *nodes_data(const struct nodes *n, uint32_t id) /* data_len bytes */
{
    size_t len;
    const char *name = nodes_name(n, id, &len);

    return (const uint8_t *)name + len;
}

static inline struct node_changes nodes_changes(const struct nodes *n, uint32_t id)
{
    const struct node *v = nodes_at(n, id);

    if (v->is_changed)
        return *(const struct node_changes *)slab_at(&n->slab, v->body);
    return (struct node_changes){v->czxid, v->ctime, 0, 0};
}

void nodes_path(const struct nodes *n, uint32_t id, struct buf *out); /* overwrites out */

#endif
