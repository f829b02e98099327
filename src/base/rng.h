/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h -- chance from a seed (splitmix64): for cores and the simulation.
 * Not for secrets: those come from the shell (the kernel).
 */
#ifndef MUSTER_RNG_H
#define MUSTER_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* 0 <= result < n; n > 0. The bias of the remainder does not matter here. */
static inline uint64_t rng_below(struct rng *r, uint64_t n) { return rng_next(r) % n; }

#endif
