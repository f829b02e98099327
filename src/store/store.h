/* SPDX-License-Identifier: Apache-2.0 */
/* store.h -- the log, the vote and the snapshots of one server, on a disk.
 *
 * Blocking, no thread of its own: the server calls it on its disk thread, the simulation
 * when a virtual disk operation is due. No clock, no log call; what went wrong is in the
 * return value and in store_facts().
 *
 * Promises: after store_save() has returned 0, a crash loses nothing of it. Entries of
 * any length survive. A torn tail (a crash during a write) is cut off at load; damage
 * in front of good records is ERR_CORRUPT and nothing is cut (what then: member_repair.h). Term
 * and vote live in two checksummed slots written in turn, each twice. A snapshot is complete or
 * not there; when the newest is damaged, an older one serves if the log still reaches back to
 * it.
 *
 * Full disk: room for a save is reserved first, and what was set aside for that (reserve.c)
 * is given up for it; ERR_DISK_FULL changes nothing and the same save may be tried again. Any
 * other error of store_save(): what the disk holds is not known (after a failed sync the kernel
 * forgets what it could not write), so the store refuses all further saves with ERR_IO until it
 * is opened again; opening writes the last batch anew and syncs it before it is believed. The
 * server fails stop.
 *
 * What no log can tell: bytes of the last batch that rot after a crash look like a torn
 * write and are cut (counted in torn_tails_total). After store_close(), or once a later
 * batch or vote was written, the same rot is ERR_CORRUPT.
 *
 * Files: format.h.
 */
#ifndef MUSTER_STORE_H
#define MUSTER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/raft.h"
#include "store/disk.h"

struct store;

struct store_options {
    uint64_t segment_bytes;  /* a new segment begins above this; default 16 MiB */
    unsigned snapshots_kept; /* default 2; while the disk is nearly full: 1 */
    uint64_t reserve_bytes;  /* at most a sixteenth of the disk; 0: none */
    /* Drawn at random by the shell, known to no client: records are checksummed with it, so
     * that no payload can pass for a record. */
    uint64_t salt;
};

/* What was found, handed over in this order: state, snapshot (newest valid one), entries
 * above it. The callbacks may be NULL. Snapshot bytes and entries are borrowed. With `piece`,
 * snapshot is told data NULL, and its bytes follow in pieces, in order. */
struct store_load {
    void *ctx;
    void (*state)(void *ctx, uint64_t term, uint64_t vote);
    void (*snapshot)(void *ctx, uint64_t index, uint64_t term,
                     const struct raft_members *members, const uint8_t *data, size_t len);
    void (*entry)(void *ctx, struct raft_entry *e); /* reference it to keep it */
    void (*piece)(void *ctx, const uint8_t *data, size_t len);
};

/* Opens the store on disk (an empty directory is a valid, empty store) and loads it. On
 * error *out is NULL and why (may be NULL) tells file, offset and reason in words. */
int store_open(struct store **out, struct disk *disk, const struct store_options *options,
               const struct store_load *load, struct buf *why);
void store_close(struct store *s);

/* Exactly what raft_save_take() asks for; all or, after a crash, a beginning of it in the
 * order term and vote, snapshot, log. One write and one sync for the log; one more of each
 * when `hard`. */
int store_save(struct store *s, const struct raft_save *save);

/* Snapshots piece by piece (raft_job_take()); each call takes about as long as its piece.
 * KEEP, the last piece: all is synced and has its name, then old snapshots go, and the segments
 * that lie wholly below index - keep and below the oldest snapshot kept. One that is older than
 * what is there is ignored; one beyond the log (a founder's first state) makes the log go on
 * behind it. RECEIVE: it counts from the store_save() that names it, without bytes, on. A
 * snapshot whose piece has failed is gone: ERR_DISK_FULL, ERR_IO, ERR_NOT_FOUND (of a READ,
 * too, and then ERR_CORRUPT); saving goes on. */
int store_job(struct store *s, const struct raft_job *job, uint64_t keep);
/* This snapshot stays, though there are newer ones, unless room is short: a READ of it then
 * fails. 0: none has to. */
void store_pin(struct store *s, uint64_t index);
/* All at once. One that is not newer than what is there is ignored. */
int store_snapshot(struct store *s, const struct raft_blob *b, uint64_t keep);

/* How much room there is; blocks like a save. Grows the reserve again when there is enough, and
 * makes the store keep less when there is little. */
struct store_room {
    uint64_t free_bytes; /* beside the reserve; segments kept to be used again count as free */
    uint64_t reserve_bytes, wanted_bytes; /* of the reserve, now and when it is whole */
};
int store_room(struct store *s, struct store_room *out);
#define STORE_RESERVE_BYTES (64ull << 20) /* what a server sets aside */
/* With less room than so many reserves, it included, as little as possible is kept. */
#define STORE_TIGHT_RESERVES 2

struct store_facts {
    uint64_t log_bytes, first_index, last_index; /* first > last: no entries */
    uint64_t spare_bytes; /* of segments that are kept to be used again */
    uint64_t snapshot_index, snapshot_bytes;
    uint64_t syncs_total, entries_total, bytes_total, torn_tails_total;
    char last_error[160]; /* "" when none */
    bool was_new;         /* opened: it held no vote, no entry, no snapshot */
};
void store_facts(const struct store *s, struct store_facts *out);

#endif
