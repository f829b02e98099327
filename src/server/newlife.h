/* SPDX-License-Identifier: Apache-2.0 */
/* newlife.h -- a server's new life, on its disk: the store is set aside, never deleted (but for
 * the ones before the last NEW_LIFE_KEPT), and the machine gets another birth. A shell around
 * member_repair.h, which says when.
 *
 * A store that was set aside is DIR/store.aside.N, with why in its file `why`. (Where an epoch
 * ends, a store that is good stays under its name: see aside.h.)
 */
#ifndef MUSTER_NEWLIFE_H
#define MUSTER_NEWLIFE_H

#include "server/identity.h"

#define NEW_LIFE_KEPT 2

/* self gets another birth. reason: what is wrong with the store, for the file; NULL: it holds
 * nothing, and stays where it is. *aside is the directory's name, without DIR; "" if none. On
 * error the store is as it was. */
int new_life_begin(const char *dir, struct identity *self, const char *reason,
                   struct buf *aside, struct buf *why);

/* The newest of the stores set aside. */
struct set_aside {
    unsigned kept; /* how many there are; 0: none, and the rest is "" */
    char name[32]; /* "store.aside.3" */
    char why[240];
};
void set_aside_find(const char *dir, struct set_aside *out);

#endif
