/* SPDX-License-Identifier: Apache-2.0 */
#include "base/summary.h"

double summary_average(const struct summary *s)
{
    return s->count > 0 ? (double)s->sum / (double)s->count : 0;
}

static unsigned bucket_of(uint64_t v)
{
    if (v < DISTRIBUTION_EXACT)
        return (unsigned)v;
    if (v > UINT32_MAX)
        v = UINT32_MAX;
    unsigned power = 63 - (unsigned)__builtin_clzll(v); /* 5 or more */

    return DISTRIBUTION_EXACT + (power - 5) * DISTRIBUTION_PARTS +
           (unsigned)((v >> (power - 4)) & (DISTRIBUTION_PARTS - 1));
}

/* The greatest value that goes into it. */
static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < DISTRIBUTION_EXACT)
        return bucket;
    unsigned power = 5 + (bucket - DISTRIBUTION_EXACT) / DISTRIBUTION_PARTS;
    uint64_t part = (bucket - DISTRIBUTION_EXACT) % DISTRIBUTION_PARTS;

    return ((DISTRIBUTION_PARTS + part + 1) << (power - 4)) - 1;
}

void distribution_add(struct distribution *s, uint64_t v)
{
    summary_add(&s->all, v);
    s->counts[bucket_of(v)]++;
}

uint64_t distribution_at(const struct distribution *s, unsigned per_mille)
{
    uint64_t want = (s->all.count * per_mille + 999) / 1000, seen = 0;

    for (unsigned i = 0; i < DISTRIBUTION_BUCKETS; i++) {
        seen += s->counts[i];
        if (seen >= want && seen > 0) {
            uint64_t end = bucket_end(i);
            return end < s->all.most ? end : s->all.most;
        }
    }
    return 0;
}
