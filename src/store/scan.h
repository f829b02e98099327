/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h -- a store's files read beside the server that writes them. Nothing is changed.
 *
 * What is asked for must be committed, and on this disk before the question: the caller has
 * that from the server. Then nothing that the server does meanwhile (append, cut what was
 * never committed, begin segments, in old ones' files as well) changes what is read here, but
 * that an old file may go, also while it is read: ERR_NOT_FOUND.
 */
#ifndef MUSTER_STORE_SCAN_H
#define MUSTER_STORE_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/raft.h"
#include "store/disk.h"

/* An entry by its index and term: two logs that have it are equal up to it ([R] 5.3). */
struct store_place {
    uint64_t index, term;
};

struct store_scan {
    void *ctx;
    /* Each entry behind `from` up to `to`, in order. Not 0 ends it with that. */
    int (*entry)(void *ctx, const struct raft_entry *e);
};

/* ERR_NOT_FOUND: the log does not reach back so far (any more); also when `from` itself is not
 * in it and is_strict. ERR_UNSAFE: it has another entry at `from`, so it is another log.
 * ERR_CORRUPT, ERR_IO: why names the file, the byte and the reason. */
int store_scan(struct disk *d, struct store_place from, bool is_strict, struct store_place to,
               const struct store_scan *scan, struct buf *why);

/* The newest snapshot up to index `upto` that is whole, as bytes and members. Free with
 * store_snapshot_free. ERR_NOT_FOUND, ERR_CORRUPT (there are only damaged ones), ERR_IO. */
struct store_snapshot {
    struct store_place place;
    struct raft_members members;
    const uint8_t *data; /* into bytes */
    size_t len;
    struct buf bytes;
};
int store_snapshot_newest(struct disk *d, uint64_t upto, struct store_snapshot *out,
                          struct buf *why);
void store_snapshot_free(struct store_snapshot *s);

#endif
