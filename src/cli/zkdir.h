/* SPDX-License-Identifier: Apache-2.0 */
/* zkdir.h -- a data directory of Apache ZooKeeper: which of its files count, read through
 * src/zkdata. Changes nothing there. */
#ifndef MUSTER_CLI_ZKDIR_H
#define MUSTER_CLI_ZKDIR_H

#include "zkdata/zkdata.h"

#define ZKDIR_SNAPSHOTS_TRIED 100 /* as many as ZooKeeper tries */

struct zkdir {
    struct zkdata *data; /* after zkdata_finish() */
    struct zkdata_facts facts;
    struct buf snapshot; /* the path of the one that was used */
    int64_t snapshot_zxid;
    uint64_t logs, entries, applied;
    struct buf foreign; /* paths, a line each: zkdata_finish() */
    struct buf odd;     /* lines for a person; empty: nothing is odd */
};
/* dir: ZooKeeper's dataDir, or its version-2; log_dir: its dataLogDir, or NULL. Says on stderr
 * how far it is when it takes long. 0; else why says what is wrong, with
 *   ERR_NOT_FOUND  there is no such directory, or nothing of ZooKeeper's in it
 *   ERR_CORRUPT    a file is damaged
 *   ERR_UNSAFE     entries are missing (see zkdata_replay)
 *   ERR_IO, ERR_PERMISSION, ERR_TOO_BIG */
int zkdir_read(struct zkdir *out, const char *dir, const char *log_dir, bool gaps_allowed,
               struct buf *why);
void zkdir_free(struct zkdir *z);

#endif
