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
/* Segments that are kept for what comes: as many as snapshots let go at once. The server takes
 * one when the entries since the last fill 64 MiB (MEMBER_SNAPSHOT_BYTES); of a large tree
 * later. */
#define SPARES_MAX 4u

struct segment {
    uint64_t seq;
    uint64_t bytes;       /* used */
    uint64_t first, last; /* of its entries that still count; first > last: none */
};

/* Entries from index on have this term, up to the next run. */
struct term_run {
    uint64_t index, term;
};

/* A snapshot that is being written piece by piece. */
struct pieces {
    int file; /* -1: there is none */
    bool is_whole;
    uint64_t index, head_len, bytes;
    uint64_t next; /* where the next piece belongs */
    uint64_t unsynced;
    uint32_t crc;
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

    struct spare {
        uint64_t seq, bytes;
    } spares[SPARES_MAX];
    size_t spares_n;
    bool spares_unsure; /* whether their old names are gone: the directory is not synced */

    uint64_t *snapshots; /* indexes, ascending */
    size_t snapshots_n, snapshots_cap;
    uint64_t snapshot_bytes;
    uint64_t pinned; /* is not removed: it is being sent; 0: none */
    struct pieces own, received;

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

static inline uint64_t newest_snapshot(const struct store *s)
{
    return s->snapshots_n > 0 ? s->snapshots[s->snapshots_n - 1] : 0;
}

int store_fail(struct store *s, int err, const char *what);
/* A snapshot of our own is there: what it makes superfluous goes. */
int store_snapshot_kept(struct store *s, uint64_t index, uint64_t bytes, uint64_t keep);

/* ---- pieces.c ---- */
void pieces_init(struct store *s);
void pieces_free(struct store *s);
bool pieces_has_received(const struct store *s, uint64_t index); /* whole, and synced */
/* Gives the room of one that is not whole back; false: there is none. */
bool pieces_drop_received(struct store *s);
void pieces_drop_own(struct store *s, uint64_t index); /* one that is older than this */
int pieces_commit_received(struct store *s, uint64_t *bytes);

void store_free(struct store *s);
int store_sync_file(struct store *s, int file);
/* Writes the present term, vote and log position into the older pair of slots. */
int store_write_vote(struct store *s, uint64_t term, uint64_t vote);
/* What was read, in its place: after a failed sync the kernel may show what the disk has not,
 * and then the older pair is the only one. */
int store_rewrite_vote(struct store *s);
/* Removes the snapshots and segments that nothing needs. A crash may bring some of them back.
 */
int store_clean(struct store *s, uint64_t floor);

/* ---- spare.c ---- */
int spare_keep(struct store *s, uint64_t seq); /* the segment is not needed any more */
/* A file that may become a segment: one that is there, or a new one. *room: bytes of it. */
int spare_take(struct store *s, char name[FORMAT_NAME_MAX], int *file, uint64_t *room);
uint64_t spare_bytes(const struct store *s);
/* Gives their room back; false: there was none. */
bool spare_drop(struct store *s);
/* What an earlier process has left. */
int spare_remove_found(struct disk *d);

/* ---- reserve.c ---- */
int reserve_open(struct store *s); /* finds it */
/* There is no room: gives up something, false: there is nothing more to give up. */
bool reserve_relieve(struct store *s, bool is_log);

#endif
