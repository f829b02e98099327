/* SPDX-License-Identifier: Apache-2.0 */
/* turn.h -- to stand in line below a znode, and to wait for our turn.
 *
 * Each who stands in line makes an ephemeral, sequential znode below `dir`; it is the turn of
 * the lowest number, every other one waits for the one before it to go: who came first is
 * first, and one who goes wakes one.
 *
 * The znodes are named as kazoo's Lock and Election name theirs, HEX__lock__NUMBER; whatever
 * else ends with a number stands in line, too: Curator's, and those of older versions.
 *
 * The HEX is ours alone. After an answer that was lost, it tells whether a znode was made;
 * were two made, the lower is ours, and the other goes with us. */
#ifndef MUSTER_TURN_H
#define MUSTER_TURN_H

#include "cli/recipe.h"

#define TURN_SEQUENCE_LEN 10

struct turn {
    struct recipe *r;
    const char *name; /* for messages */
    bool is_patient;  /* waits on while the servers do not answer */
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
 * ERR_TIMED_OUT and recipe_is_late(): --wait is over. --wait ends with our turn. */
int turn_take(struct turn *t);
/* Gives our place back, for who wants to stand in line again. */
int turn_leave(struct turn *t);

/* The number at the end of a znode's name; NULL: it does not stand in line. */
const char *turn_sequence(const char *name);
/* Among these the lowest in line, or, with `below`, the highest under that number. */
const char *turn_first(char *const *names, size_t n);
const char *turn_before(char *const *names, size_t n, const char *below);

#endif
