/* SPDX-License-Identifier: Apache-2.0 */
/* lapse.h -- the znodes that the ensemble itself deletes: containers, when their last child
 * is gone, and TTL znodes, when nobody has written to them for so long.
 *
 * Inside src/tree only. Each has a row; node.owner is its number with NODE_LAPSES set.
 */
#ifndef MUSTER_LAPSE_H
#define MUSTER_LAPSE_H

#include <stdint.h>

struct lapse {
    uint32_t node;  /* NODE_NONE: the row is free */
    uint32_t next;  /* in a free row: the next free one */
    int64_t ttl_ms; /* 0: a container */
};

struct lapses {
    struct lapse *rows; /* [0] is never used */
    uint32_t n, cap, free, count;
};

void lapses_free(struct lapses *l);
uint32_t lapses_add(struct lapses *l, uint32_t node, int64_t ttl_ms); /* what the owner is */
void lapses_drop(struct lapses *l, uint32_t owner);
const struct lapse *lapses_at(const struct lapses *l, uint32_t owner);

#endif
