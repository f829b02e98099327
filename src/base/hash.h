/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h -- hashing of bytes, and an intrusive hash table.
 *
 * hash_bytes is keyed: what clients choose as names must not choose buckets.
 * The order of a table's elements is never visible in results (replicas have
 * different keys).
 */
#ifndef MUSTER_HASH_H
#define MUSTER_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(uint64_t key, const void *data, size_t len);
uint64_t hash_u64(uint64_t v);
uint32_t crc32c(uint32_t start, const void *data, size_t len); /* start 0; chainable */
/* The same without the processor's help: only tests ask for it. */
uint32_t crc32c_plain(uint32_t start, const void *data, size_t len);

/* Embedded in the element; get back with HASH_ENTRY(link, type, member). */
struct hash_link {
    struct hash_link *next;
    uint64_t hash;
};

/* Zero-initialised is empty and valid. The table never owns its elements. It grows by one
 * bucket an insert (linear hashing), so that none takes long. */
struct hash_table {
    struct hash_link **buckets;
    size_t size, cap;
    size_t mask; /* size <= mask + 1, a power of two, < 2 * size */
    size_t count;
};

#define HASH_ENTRY(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

void hash_free(struct hash_table *t); /* the buckets only */
void hash_insert(struct hash_table *t, struct hash_link *link, uint64_t hash);
void hash_remove(struct hash_table *t, struct hash_link *link); /* CHECKs that it is there */

/* The first link with this hash, then the next with the same hash: compare and go on. */
struct hash_link *hash_first(const struct hash_table *t, uint64_t hash);
struct hash_link *hash_next(const struct hash_link *link);

/* Walks all: start with NULL. The element just returned may be removed. */
struct hash_walk {
    size_t bucket;
    struct hash_link *next;
};
struct hash_link *hash_walk_first(const struct hash_table *t, struct hash_walk *w);
struct hash_link *hash_walk_next(const struct hash_table *t, struct hash_walk *w);

#endif
