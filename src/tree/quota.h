/* SPDX-License-Identifier: Apache-2.0 */
/* quota.h -- how many znodes and bytes may be below a path.
 *
 * Inside src/tree only. As in ZooKeeper a quota on /a/b is made of ordinary znodes:
 * /zookeeper/quota/a/b/zookeeper_limits says what is allowed, and what is used stands in
 * .../zookeeper_stats, which the tree itself keeps up to date: its data alone changes, not
 * its Stat, and no watch fires. There is no state beside these znodes.
 */
#ifndef MUSTER_QUOTA_H
#define MUSTER_QUOTA_H

#include "tree/state.h"

/* ERR_QUOTA_EXCEEDED: by so much more a hard limit of the deepest quota would be passed, and
 * the rules enforce it. */
int quota_check(const struct step *s, const char *path, size_t len, int64_t nodes,
                int64_t bytes);
/* To be called after each change of a znode: what has come or gone with it. */
void quota_changed(const struct step *s, const char *path, size_t len, int64_t nodes,
                   int64_t bytes);
/* A znode has been made: if it is a quota's zookeeper_stats, it begins with what there is. */
void quota_created(const struct step *s, const char *path, size_t len);

#endif
