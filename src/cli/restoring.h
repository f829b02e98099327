/* SPDX-License-Identifier: Apache-2.0 */
/* restoring.h -- a replayed tree becomes a machine's data directory. */
#ifndef MUSTER_CLI_RESTORING_H
#define MUSTER_CLI_RESTORING_H

#include "cli/backup_replay.h"
#include "server/identity.h"

struct restored {
    uint64_t sessions, ephemerals; /* that have ended */
    uint64_t index;                /* the log begins behind it */
    uint64_t znodes, digest;
};

/* Ends all sessions in r->tree, takes it over and writes it into dir as the machine self, whose
 * zxids begin far above `seen`. ERR_TOO_BIG: there are no such; else as server_create_take. */
int restore_into(const char *dir, const struct identity *self, struct replay *r, uint64_t seen,
                 struct restored *out, struct buf *why);
/* Opens what is there as a server would, and compares. ERR_CORRUPT: it is not that. */
int restore_check(const char *dir, const struct restored *should, struct buf *why);
/* Removes a machine's directory that restore_into has made. */
void restore_remove(const char *dir);

#endif
