/* SPDX-License-Identifier: Apache-2.0 */
/* meter.h -- what is measured, from when to when, and what it cost.
 *
 * A meter warms up first; what is counted then is forgotten. The costs of the servers are read
 * from /proc at the same two moments.
 *
 * Bytes on the disk are the exception: they are those of the warm-up, too, and of what was in
 * flight at the end, for each request of all that time; and what waits in memory to be written
 * is written before the first and before the last look (syncfs). So what a server leaves for
 * later counts, and what was left before does not. They are the device's, of whatever ran.
 */
#ifndef MUSTER_BENCH_METER_H
#define MUSTER_BENCH_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "histogram.h"

#define METER_SERVERS_MAX 32u

struct meter_servers {
    pid_t pids[METER_SERVERS_MAX];
    size_t n;
    const char *dir; /* what they write lies on the same device; NULL: it is not looked at */
};

struct meter_cost { /* since the process began; sums over the servers */
    double load_cpu_s, servers_cpu_s;
    uint64_t servers_switches;
};

enum meter_state { METER_WARMS, METER_RUNS, METER_OVER };

struct meter {
    enum meter_state state;
    uint64_t warm_until_ns, until_ns;
    uint64_t requests_most; /* that are measured; 0: only time ends it */
    uint64_t seen;          /* also while it warms up */
    uint64_t warm_seen;
    uint64_t begun_ns, ended_ns;
    struct meter_cost before, after;
    int64_t disk_before; /* bytes; -1: not known */
    const struct meter_servers *servers;
    struct histogram latency;
};

uint64_t meter_now_ns(void);
void meter_begin(struct meter *m, double warm_s, double seconds, uint64_t requests_most,
                 const struct meter_servers *servers);
void meter_look(struct meter *m, uint64_t now_ns); /* often: each round of the loop */

static inline bool meter_is_over(const struct meter *m) { return m->state == METER_OVER; }

static inline void meter_count(struct meter *m, uint64_t begun_ns, uint64_t now_ns)
{
    m->seen++;
    if (m->state == METER_RUNS)
        histogram_add(&m->latency, now_ns - begun_ns);
}

/* "requests": ..., "seconds": ..., ... without braces. When nothing is in flight any more. */
void meter_print(const struct meter *m, FILE *to);

#endif
