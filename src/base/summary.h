/* SPDX-License-Identifier: Apache-2.0 */
/* summary.h -- what becomes of many numbers that are not all kept: how many there were, their
 * sum, the least and the greatest; and, with a distribution, below which value a share of them
 * is.
 *
 * Zero-initialised is empty and valid. No memory, no clock.
 */
#ifndef MUSTER_SUMMARY_H
#define MUSTER_SUMMARY_H

#include <stdint.h>

struct summary {
    uint64_t count, sum;
    uint64_t least, most; /* 0 while count is 0 */
};

static inline void summary_add(struct summary *s, uint64_t v)
{
    if (s->count++ == 0 || v < s->least)
        s->least = v;
    if (v > s->most)
        s->most = v;
    s->sum += v;
}

double summary_average(const struct summary *s); /* 0 of none */

/* Values below 32 each have a bucket of their own, then each power of two has 16. */
#define DISTRIBUTION_EXACT 32u
#define DISTRIBUTION_PARTS 16u
#define DISTRIBUTION_BUCKETS (DISTRIBUTION_EXACT + (32u - 5u) * DISTRIBUTION_PARTS)

struct distribution {
    struct summary all;
    uint64_t counts[DISTRIBUTION_BUCKETS];
};

void distribution_add(struct distribution *s, uint64_t v);
/* The value that so many of a thousand do not exceed, at most 1/16 too high; 0 of none. */
uint64_t distribution_at(const struct distribution *s, unsigned per_mille);

#endif
