/* SPDX-License-Identifier: Apache-2.0 */
/* world.h -- virtual time, chance, machines and their network, from one seed.
 *
 * Events run one after the other in the order of their time; everything that chance decides
 * is drawn from one generator, so a seed replays exactly. Time is in microseconds since the
 * world began; each host has a clock of its own that drifts and can stand, and can be frozen
 * (SIGSTOP, a paused virtual machine): what is due for it waits.
 *
 * A pipe is one direction of a connection: ordered, delayed, blocked while the network from
 * its one host to its other is cut, and empty when it breaks. Nothing here knows what is
 * sent.
 */
#ifndef MUSTER_TESTS_WORLD_H
#define MUSTER_TESTS_WORLD_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/rng.h"

#define WORLD_HOSTS_MAX 24
#define WORLD_NEVER UINT64_MAX

struct world;
typedef void world_run(void *ctx, uint64_t a, uint64_t b);

struct world_event {
    uint64_t due_us, order;
    world_run *run;
    void *ctx;
    uint64_t a, b;
};

struct world_host {
    char name[16];
    int32_t drift_ppm;
    uint64_t clock_base_us; /* its clock at since_us */
    uint64_t since_us;
    int64_t wall_offset_ms;
    uint64_t frozen_until_us; /* in the past: it runs */
    uint64_t asleep_until_us; /* its kernel as well: it answers nothing */
    uint64_t slept_ms;        /* so much of its clock its kernel's timers have not seen */
    /* When its clock, and its kernel's timers, last went on after they had stood; 0: never. */
    uint64_t stood_until_us, timers_stood_until_us;
    uint64_t stood_at_ms; /* what those timers' clock showed when they last stood */
};

/* How the network is, drawn for each seed anew; may change in the run. */
struct world_net {
    uint32_t delay_min_us, delay_max_us;
    uint32_t slow_permille, slow_max_us; /* some messages take much longer */
    uint32_t lose_permille;              /* datagrams; a pipe sends again: slow */
    uint32_t twice_permille;             /* datagrams */
};

struct world {
    uint64_t seed, now_us;
    struct rng rng;
    bool verbose;
    struct world_event *heap;
    size_t events_n, events_cap;
    uint64_t orders, events_total, events_max;
    struct world_host hosts[WORLD_HOSTS_MAX];
    unsigned hosts_n;
    struct world_net net;
    bool blocked[WORLD_HOSTS_MAX][WORLD_HOSTS_MAX]; /* from, to */
    bool calm;                                      /* no faults any more */
    jmp_buf stop;
    char failure[400]; /* "" while all is well */
};

void world_init(struct world *w, uint64_t seed, bool verbose);
void world_free(struct world *w);

/* ---- chance ---- */
uint64_t world_below(struct world *w, uint64_t n);
uint64_t world_between(struct world *w, uint64_t low, uint64_t high); /* both included */
bool world_chance(struct world *w, unsigned permille);
/* A number that the n-th option of a seed's world is taken from, always the same. Sixteen seeds
 * give themselves, so that options which are remainders of it go together or exclude each
 * other; the next sixteen draw each option by itself, and any two of them meet. */
uint64_t world_option(const struct world *w, unsigned n);

/* ---- time ---- */
void world_at(struct world *w, uint64_t due_us, world_run *run, void *ctx, uint64_t a,
              uint64_t b);
/* Runs all events up to then. world_fail() jumps to w->stop, which the caller has set. */
void world_run_until(struct world *w, uint64_t until_us);

unsigned world_add_host(struct world *w, const char *name, int32_t drift_ppm);
uint64_t world_host_ms(const struct world *w, unsigned host); /* its monotonic clock */
int64_t world_host_wall_ms(const struct world *w, unsigned host);
/* When the host's clock shows `ms`; not before now. */
uint64_t world_host_due(const struct world *w, unsigned host, uint64_t ms);
void world_set_drift(struct world *w, unsigned host, int32_t drift_ppm);
bool world_is_frozen(const struct world *w, unsigned host);
/* Its processes stand (SIGSTOP); its kernel and its clock go on. */
void world_freeze(struct world *w, unsigned host, uint64_t us);
/* Its clock stands, and all that waits for it; its processes run. */
void world_stop_clock(struct world *w, unsigned host, uint64_t us);
/* A virtual machine is paused: processes, kernel and clock stand, and none of them knows. */
void world_pause(struct world *w, unsigned host, uint64_t us);
/* It sleeps (suspend to memory): the clock shows it afterwards (CLOCK_BOOTTIME), but the time
 * is added to what its kernel's timers wait for. */
void world_suspend(struct world *w, unsigned host, uint64_t us);
bool world_is_asleep(const struct world *w, unsigned host); /* paused or suspended */
/* The clock stands, or did less than us ago. */
bool world_clock_stood(const struct world *w, unsigned host, uint64_t us);
bool world_timers_stood(const struct world *w, unsigned host, uint64_t us); /* likewise */

/* ---- network ---- */
uint64_t world_delay_us(struct world *w);
bool world_reaches(const struct world *w, unsigned from, unsigned to);

struct world_chunk {
    uint64_t due_us;
    uint8_t *data; /* NULL: the end of the stream */
    size_t len;
};

struct pipe {
    struct world *w;
    unsigned from, to;
    void (*deliver)(void *ctx, const uint8_t *data, size_t len); /* data NULL: the end */
    void *ctx;
    struct world_chunk *ring;
    size_t first, n, cap;
    uint64_t last_due_us, wake_us;
    uint64_t generation;
    const bool *cut; /* NULL, or: this one is blocked while it is true */
};
void pipe_init(struct pipe *p, struct world *w, unsigned from, unsigned to,
               void (*deliver)(void *ctx, const uint8_t *data, size_t len), void *ctx);
void pipe_send(struct pipe *p, const uint8_t *data, size_t len);
void pipe_end(struct pipe *p);   /* after what was sent, deliver(NULL) */
void pipe_break(struct pipe *p); /* what is in it is lost */

/* ---- what happened ---- */
void world_note(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void world_fail(struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
