/* SPDX-License-Identifier: Apache-2.0 */
/* state.h -- what an open store knows. Internal to src/store.
 *
 * open.c builds it from the disk, store.c goes on from there.
 */
#ifndef MUSTER_STORE_STATE_H
#define MUSTER_STORE_STATE_H

#include "store/format.h"
#include "store/store.h"

#define SEGMENT_STEP (1u << 20) /* room is made in pieces of this size */

struct segment {
    uint64_t seq;
    uint64_t bytes;       /* used */
    uint64_t first, last; /* of its entries that still count; first > last: none */
};

/* Entries from index on have this term, up to the next run. */
struct term_run {
    uint64_t index, term;
};

struct store {
    struct disk *disk;
    struct store_options options;

    int vote_file;
    struct vote_slot vote;

    struct segment *segments; /* ascending; the last is written to */
    size_t segments_n, segments_cap;
    int file; /* of the last segment; -1: there is none */
    struct segment_header header;
    uint64_t end;       /* where the next record goes */
    uint64_t room;      /* bytes of the file */
    uint32_t chain;     /* checksum of the last record */
    uint64_t disk_next; /* the index that a next entry's record would have */

    /* The log as raft sees it: entries [next - n, next). `restart`: the disk has others yet,
     * and the next write has to say that they are gone. */
    uint64_t next;
    bool restart;
    struct term_run *runs;
    size_t runs_n, runs_cap;

    uint64_t *snapshots; /* indexes, ascending */
    size_t snapshots_n, snapshots_cap;
    uint64_t snapshot_bytes;

    int reserve_file;        /* -1: there is none */
    uint64_t reserve;        /* bytes of it */
    uint64_t reserve_wanted; /* 0: not measured yet */
    bool is_tight;           /* as little as possible is kept */

    bool was_new; /* when it was opened */
    bool rest;    /* a failed write may have left bytes behind end */
    int broken;
    struct buf out;
    uint64_t syncs_total, entries_total, bytes_total, torn_tails_total;
    char last_error[160];
};

/* The log in memory: used by both. */
void log_entry_added(struct store *s, uint64_t index, uint64_t term);
void log_cut(struct store *s, uint64_t index);            /* RECORD_CUT */
void log_restart(struct store *s, uint64_t index);        /* RECORD_RESTART */
uint64_t log_term(const struct store *s, uint64_t index); /* 0: not there */
uint64_t log_first(const struct store *s);                /* next when empty */

void store_free(struct store *s);
int store_sync_file(struct store *s, int file);
/* Writes the present term, vote and log position into the older pair of slots. */
int store_write_vote(struct store *s, uint64_t term, uint64_t vote);
/* Removes the snapshots and segments that nothing needs. */
int store_clean(struct store *s, uint64_t floor);

/* ---- reserve.c ---- */
int reserve_open(struct store *s); /* finds it */
/* There is no room: gives up something, false: there is nothing more to give up. */
bool reserve_relieve(struct store *s, bool is_log);

#endif
