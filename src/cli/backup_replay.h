/* SPDX-License-Identifier: Apache-2.0 */
/* backup_replay.h -- a backup's files applied to a tree, aside: what restore and --verify do.
 */
#ifndef MUSTER_CLI_BACKUP_REPLAY_H
#define MUSTER_CLI_BACKUP_REPLAY_H

#include "cli/backup_dir.h"
#include "tree/tree.h"

/* A point of a backup. All of it: {.index = UINT64_MAX, .time_ms = INT64_MAX}. */
struct backup_point {
    uint64_t index;  /* the last entry that counts */
    int64_t time_ms; /* none that the leader made later, nor any behind the first such */
};

struct replay {
    struct tree *tree;
    struct raft_members members;
    uint64_t index, term;
    int64_t time_ms; /* when the leader made the last entry that a client asked for; 0: none */
    uint64_t entries;
    bool is_at_point; /* there is nothing more to apply */
};
void replay_free(struct replay *r);

/* Applies file i to r: a full one to an empty r, and one that goes on to one that has all
 * before it. At its end, unless the point came before, the tree's digest is compared with the
 * one that the server had. ERR_CORRUPT: why names file, byte and reason. ERR_TIMED_OUT: Ctrl-C.
 */
int replay_file(struct replay *r, const struct backup_dir *d, size_t i,
                const struct backup_point *upto, struct buf *why);

/* The full one to begin with for a point; ERR_NOT_FOUND: it is before all of them, or behind
 * the last file; *first: of the files' points in time, ms since 1970, for a person. */
int replay_find(const struct backup_dir *d, const struct backup_point *p, size_t *full,
                struct buf *why);

/* "0x1a", "26" or "2026-11-20 15:04[:05][Z]" (local time, or UTC with a Z). */
bool replay_parse_point(const char *text, struct backup_point *out);
/* The same form, to the second: local time. */
void replay_print_time(char *out, size_t size, int64_t ms);

#endif
