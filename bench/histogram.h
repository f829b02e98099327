/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.h -- latencies: counts in buckets that are at most 1/128 of their value wide.
 *
 * Zero-initialised is empty and valid. Adding is a few instructions; base/summary.h, which
 * servers use, has coarser buckets and is smaller.
 */
#ifndef MUSTER_BENCH_HISTOGRAM_H
#define MUSTER_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_PARTS_BITS 7u /* each power of two has so many buckets (as a logarithm) */
#define HISTOGRAM_PARTS (1u << HISTOGRAM_PARTS_BITS)
#define HISTOGRAM_BUCKETS ((64u - HISTOGRAM_PARTS_BITS + 1u) * HISTOGRAM_PARTS)

struct histogram {
    uint64_t count, most;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

/* Values below 256 have a bucket each; above, the 8 highest bits choose. */
static inline unsigned histogram_bucket(uint64_t v)
{
    unsigned shift =
        v < 2 * HISTOGRAM_PARTS ? 0 : 63u - HISTOGRAM_PARTS_BITS - (unsigned)__builtin_clzll(v);

    return shift * HISTOGRAM_PARTS + (unsigned)(v >> shift);
}

/* The middle of a bucket. */
static inline uint64_t histogram_value(unsigned bucket)
{
    unsigned shift = bucket < 2 * HISTOGRAM_PARTS ? 0 : bucket / HISTOGRAM_PARTS - 1;
    uint64_t least = (uint64_t)(bucket - shift * HISTOGRAM_PARTS) << shift;

    return least + ((1ull << shift) - 1) / 2;
}

static inline void histogram_add(struct histogram *h, uint64_t v)
{
    h->counts[histogram_bucket(v)]++;
    h->count++;
    if (v > h->most)
        h->most = v;
}

/* The value that so many of a thousand do not exceed; 0 of none. */
static inline uint64_t histogram_permille(const struct histogram *h, unsigned permille)
{
    uint64_t wanted = (h->count * permille + 999) / 1000, seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && h->count > 0; i++) {
        seen += h->counts[i];
        if (seen >= wanted)
            return histogram_value(i) < h->most ? histogram_value(i) : h->most;
    }
    return h->most;
}

#endif
