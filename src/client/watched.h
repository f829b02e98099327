/* SPDX-License-Identifier: Apache-2.0 */
/* watched.h -- the watches that a client has, to set them again on a new connection. */
#ifndef MUSTER_WATCHED_H
#define MUSTER_WATCHED_H

#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"

/* Bits; in the order of the lists of setWatches2. */
enum watched_kind {
    WATCHED_DATA = 1 << 0,  /* getData, exists of what is there */
    WATCHED_EXIST = 1 << 1, /* exists of what is not there */
    WATCHED_CHILD = 1 << 2,
    WATCHED_PERSISTENT = 1 << 3,
    WATCHED_RECURSIVE = 1 << 4,
};
#define WATCHED_KINDS 5

struct watched {
    uint64_t hash_key;
    struct hash_table table;
};
void watched_free(struct watched *w);
void watched_add(struct watched *w, const char *path, unsigned kinds);
/* An event (enum watch_event of tree/watch.h) uses up what it fires. */
void watched_fired(struct watched *w, int type, const char *path);

/* Calls emit for each setWatches (or, if persistent ones are among them, setWatches2)
 * request that is needed: the bodies of op, split at max_bytes of paths. */
typedef void watched_emit(void *ctx, int32_t op, const struct buf *body);
void watched_encode(const struct watched *w, int64_t zxid, size_t max_bytes, watched_emit *emit,
                    void *ctx);

#endif
