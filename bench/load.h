/* SPDX-License-Identifier: Apache-2.0 */
/* load.h -- what the kinds of load share (load.c): the options, and requests that are only
 * waited for. */
#ifndef MUSTER_BENCH_LOAD_H
#define MUSTER_BENCH_LOAD_H

#include "links.h"
#include "meter.h"

#define LOAD_PATH_ROOM 96u
#define LOAD_SIZE_MAX (1u << 20)
#define LOAD_NODES_MAX 1000000u /* that a run creates before its time is up */

struct load {
    struct links links;
    struct meter meter;
    size_t in_flight; /* requests, on all links */
    uint8_t *data;    /* LOAD_SIZE_MAX bytes: what values are cut from */
    /* options */
    const char *op, *name;
    unsigned sessions, window;
    size_t size;
    double warm_s, seconds;
    uint64_t requests; /* 0: by time */
    bool keeps;
    struct meter_servers servers;
};

/* Asks; the reply must be without error and is not looked at further. */
void load_ask(struct load *l, struct link *k, const struct buf *frame);
void load_settle(struct load *l); /* waits for all of these */
void load_close_all(struct load *l);

/* A meter as the options say. */
void load_meter(struct load *l, uint64_t requests_most);
/* Turns until the meter is over and nothing is in flight. */
void load_run(struct load *l);
void load_print(const struct load *l, const char *op);

/* The kinds of load; each prepares, measures, prints and cleans up. */
bool stream_knows(const char *op);
void stream_run(struct load *l);
void watch_run(struct load *l);
void lock_run(struct load *l);
void connect_run(struct load *l);

#endif
