/* SPDX-License-Identifier: Apache-2.0 */
/* opening.h -- a store is opened by a thread of its own, while the caller's takes the snapshot.
 *
 * What the disk holds is read, checked, repaired and synced there, the log as well; the tree is
 * made here, from the pieces of the snapshot, a few of which may wait. With two processors a
 * start takes as long as the longer one of both.
 */
#ifndef MUSTER_OPENING_H
#define MUSTER_OPENING_H

#include "store/store.h"

/* As store_open(). load->begin and ->piece are called on the caller's thread; the others on the
 * other one, when these are done: never two at the same time. */
int opening_run(struct store **out, struct disk *disk, const struct store_options *options,
                const struct store_load *load, struct buf *why);

#endif
