/* SPDX-License-Identifier: Apache-2.0 */
/* faults.h -- what both worlds break alike: shapes of cut networks, links that come and go, the
 * pace of faults, and the moments in a server's life at which a fault hurts most.
 */
#ifndef MUSTER_TESTS_FAULTS_H
#define MUSTER_TESTS_FAULTS_H

#include "box.h"
#include "raft/raft.h"
#include "world.h"

/* ---- the network ---- */

enum shape {
    SHAPE_RING,   /* each sees its two neighbours only */
    SHAPE_CIRCLE, /* each hears the one before it only */
    SHAPE_BRIDGE, /* two halves, and one that both see */
    SHAPE_LINK,   /* two do not see each other, all else is whole */
    SHAPE_DEAF,   /* one hears nobody, all hear it */
    SHAPE_MUTE,   /* one is heard by nobody, and hears all */
    SHAPES
};

/* Cuts what the shape does not have, among these n hosts; a bridge's halves take in all hosts
 * of the world. What was cut before stays so. */
void shape_cut(struct world *w, const unsigned *hosts, unsigned n, enum shape shape);
/* The way from a to b comes and goes, until then or until the world is calm. */
void flap_begin(struct world *w, unsigned a, unsigned b, uint64_t until_us);

/* ---- when ---- */

/* Steady, or in bursts with quiet between them. Drawn once, then asked for each next fault. */
struct pace {
    bool is_bursts;
    unsigned left;      /* of this burst */
    uint32_t steady_us; /* at most */
};
void pace_draw(struct world *w, struct pace *p, uint32_t steady_us);
uint64_t pace_next_us(struct world *w, struct pace *p); /* from now */

/* What a world may have at all: each kind of fault is in it or not, and more or less often. How
 * many kinds there are is drawn first: few of them, with nothing else in the way, find what
 * many do not, and the other way round. */
void weights_draw(struct world *w, unsigned *weights, unsigned n);

enum moment {
    MOMENT_LEADS = 1,     /* it has been elected */
    MOMENT_MEMBERS = 2,   /* a configuration has come into its log, or gone */
    MOMENT_SNAPSHOT = 4,  /* it writes one */
    MOMENT_INSTALL = 8,   /* it writes one that the leader sent */
    MOMENT_TRUNCATE = 16, /* it cuts its log */
    MOMENT_VOTE = 32,     /* it writes a term and perhaps a vote */
    MOMENT_FILES = 64,    /* it has begun a file, or removed one */
    MOMENT_STARTS = 128,
    MOMENT_HOLDS = 256, /* its machine has got an address: told by the world */
    MOMENTS = 9
};

struct moments {
    uint64_t life, led_term, members, names, saves;
};
/* Which have come since the last look. */
unsigned moments_look(struct moments *m, const struct raft *r, const struct box *b);

#endif
