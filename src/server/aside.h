/* SPDX-License-Identifier: Apache-2.0 */
/* aside.h -- a machine's store is set aside, and it goes on with another.
 *
 * The old store stays where it is, as a directory of another name than the one that the file
 * `machine` says; nothing of it is changed but for the file `aside` in it, which says why.
 * Writing `machine` is the moment: before it the machine is the old one, after it the new one.
 */
#ifndef MUSTER_ASIDE_H
#define MUSTER_ASIDE_H

#include "server/identity.h"

#define ASIDE_NAME "aside" /* the file in the old store */

/* What there is in a store, whole or as far as it can be read. */
struct store_ends {
    uint64_t snapshot, first, last, last_term; /* indices; first > last: no entries */
};

/* The server has stopped: its machine joins `newer` with an empty store and another birth.
 * *self becomes what it is then; *common is up to where the old store agrees with the newer
 * epoch (0: not known), *ends what it has. The old store need not be readable; the rest must
 * succeed. */
int aside_for_epoch(const char *dir, struct identity *self, const struct epoch *newer,
                    struct store_ends *ends, uint64_t *common, struct buf *why);
/* Of the store that is now the live one, said in a file there: before another takes its place.
 */
int aside_note(const char *dir, const struct identity *self, const struct epoch *newer,
               uint64_t common, struct buf *why);
/* What such a file says; ERR_NOT_FOUND, ERR_SYNTAX. path: of the store. */
int aside_read(const char *path, struct epoch *newer, uint64_t *common);

#endif
