/* SPDX-License-Identifier: Apache-2.0 */
/* turn.h -- to stand in line below a znode, and to wait for our turn.
 *
 * Each who stands in line makes an ephemeral, sequential znode below `dir`; it is the turn of
 * the lowest number, every other one waits for the one before it to go: who came first is
 * first, and one who goes wakes one. */
#ifndef MUSTER_TURN_H
#define MUSTER_TURN_H

#include "cli/recipe.h"

struct turn {
    struct recipe *r;
    const char *name; /* for messages */
    char *dir;        /* "/locks/deploy" */
    char *prefix;     /* the beginning of our znode's path: nobody else has it */
    char *path;       /* our znode; NULL: none yet */
    char *before;     /* the one that we wait for; NULL: nobody */
    int64_t token;    /* the zxid that made our znode: it grows with each turn */
    bool told;        /* whom we wait for */
};

/* Takes over dir. */
void turn_open(struct turn *t, struct recipe *r, char *dir, const char *name);
void turn_close(struct turn *t); /* what stands in the tree goes with the session */

/* Stands in line until it is our turn (0), or something else happens: r->interrupted;
 * ERR_TIMED_OUT with `before`: --wait is over. */
int turn_take(struct turn *t);

#endif
