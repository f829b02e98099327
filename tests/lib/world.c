/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"

enum { RETRY_US = 30000, EVENTS_MAX = 2000000 };

void world_init(struct world *w, uint64_t seed, bool verbose)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->rng.state = hash_u64(hash_u64(seed) + 0x9e3779b97f4a7c15);
    w->verbose = verbose;
    w->events_max = EVENTS_MAX;
    w->now_us = 1000000; /* so that times before now can be said */
    w->net = (struct world_net){.delay_min_us = 100, .delay_max_us = 1000};
}

void world_free(struct world *w) { mem_free(w->heap); }

/* ---- chance ---- */

uint64_t world_below(struct world *w, uint64_t n) { return rng_below(&w->rng, n); }

uint64_t world_between(struct world *w, uint64_t low, uint64_t high)
{
    return low + rng_below(&w->rng, high - low + 1);
}

bool world_chance(struct world *w, unsigned permille)
{
    return permille > 0 && rng_below(&w->rng, 1000) < permille;
}

uint64_t world_option(const struct world *w, unsigned n)
{
    struct rng r = {w->seed};

    if (w->seed / 16 % 2 == 0)
        return w->seed;
    r.state = rng_next(&r) ^ n;
    return rng_next(&r);
}

/* ---- events: a binary heap by time, then by order of asking ---- */

static bool is_before(const struct world_event *a, const struct world_event *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

void world_at(struct world *w, uint64_t due_us, world_run *run, void *ctx, uint64_t a,
              uint64_t b)
{
    struct world_event e = {
        due_us > w->now_us ? due_us : w->now_us, w->orders++, run, ctx, a, b};

    mem_grow(w->heap, w->events_cap, w->events_n + 1);
    size_t i = w->events_n++;
    while (i > 0 && is_before(&e, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
}

static struct world_event take(struct world *w)
{
    struct world_event top = w->heap[0], last = w->heap[--w->events_n];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->events_n)
            break;
        if (child + 1 < w->events_n && is_before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!is_before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

void world_run_until(struct world *w, uint64_t until_us)
{
    while (w->events_n > 0 && w->heap[0].due_us <= until_us) {
        struct world_event e = take(w);
        w->now_us = e.due_us;
        if (++w->events_total > w->events_max)
            world_fail(w, "more than %u events: something runs in circles",
                       (unsigned)w->events_max);
        e.run(e.ctx, e.a, e.b);
    }
    w->now_us = until_us;
}

/* ---- clocks ---- */

unsigned world_add_host(struct world *w, const char *name, int32_t drift_ppm)
{
    CHECK(w->hosts_n < WORLD_HOSTS_MAX);
    struct world_host *h = &w->hosts[w->hosts_n];

    snprintf(h->name, sizeof h->name, "%s", name);
    h->drift_ppm = drift_ppm;
    h->since_us = w->now_us;
    h->clock_base_us = 1000000 + world_below(w, 1000000000); /* each began another time */
    return w->hosts_n++;
}

static uint64_t host_us(const struct world *w, const struct world_host *h)
{
    int64_t passed = w->now_us > h->since_us ? (int64_t)(w->now_us - h->since_us) : 0;

    return h->clock_base_us + (uint64_t)(passed + passed * h->drift_ppm / 1000000);
}

uint64_t world_host_ms(const struct world *w, unsigned host)
{
    return host_us(w, &w->hosts[host]) / 1000;
}

int64_t world_host_wall_ms(const struct world *w, unsigned host)
{
    return 1700000000000 + (int64_t)(w->now_us / 1000) + w->hosts[host].wall_offset_ms;
}

uint64_t world_host_due(const struct world *w, unsigned host, uint64_t ms)
{
    const struct world_host *h = &w->hosts[host];
    uint64_t now = host_us(w, h);

    if (ms >= UINT64_MAX / 2000)
        return WORLD_NEVER;
    if (ms * 1000 <= now)
        return w->now_us;
    /* A little late rather than early: the clock must show it. */
    uint64_t left = ms * 1000 - now;
    return (w->now_us > h->since_us ? w->now_us : h->since_us) +
           (uint64_t)((int64_t)left - (int64_t)left * h->drift_ppm / 1000000) + left / 5000 + 2;
}

void world_set_drift(struct world *w, unsigned host, int32_t drift_ppm)
{
    struct world_host *h = &w->hosts[host];

    h->clock_base_us = host_us(w, h);
    if (h->since_us < w->now_us) /* else it stands */
        h->since_us = w->now_us;
    h->drift_ppm = drift_ppm;
}

bool world_is_frozen(const struct world *w, unsigned host)
{
    return w->hosts[host].frozen_until_us > w->now_us;
}

static void put_off(uint64_t *until, uint64_t to)
{
    if (*until < to)
        *until = to;
}

void world_freeze(struct world *w, unsigned host, uint64_t us)
{
    put_off(&w->hosts[host].frozen_until_us, w->now_us + us);
}

void world_stop_clock(struct world *w, unsigned host, uint64_t us)
{
    struct world_host *h = &w->hosts[host];

    h->clock_base_us = host_us(w, h);
    put_off(&h->stood_at_ms, h->clock_base_us / 1000 - h->slept_ms);
    put_off(&h->since_us, w->now_us + us);
    put_off(&h->stood_until_us, h->since_us);
    put_off(&h->timers_stood_until_us, h->since_us);
}

void world_pause(struct world *w, unsigned host, uint64_t us)
{
    world_stop_clock(w, host, us);
    world_freeze(w, host, us);
    put_off(&w->hosts[host].asleep_until_us, w->now_us + us);
}

void world_suspend(struct world *w, unsigned host, uint64_t us)
{
    struct world_host *h = &w->hosts[host];

    if (world_is_asleep(w, host))
        return;
    world_freeze(w, host, us);
    put_off(&h->stood_at_ms, world_host_ms(w, host) - h->slept_ms);
    put_off(&h->asleep_until_us, w->now_us + us);
    put_off(&h->timers_stood_until_us, w->now_us + us);
    h->slept_ms += us / 1000;
}

bool world_is_asleep(const struct world *w, unsigned host)
{
    return w->hosts[host].asleep_until_us > w->now_us;
}

bool world_clock_stood(const struct world *w, unsigned host, uint64_t us)
{
    return w->hosts[host].stood_until_us + us > w->now_us && w->hosts[host].stood_until_us != 0;
}

bool world_timers_stood(const struct world *w, unsigned host, uint64_t us)
{
    return w->hosts[host].timers_stood_until_us + us > w->now_us &&
           w->hosts[host].timers_stood_until_us != 0;
}

/* ---- network ---- */

uint64_t world_delay_us(struct world *w)
{
    if (world_chance(w, w->net.slow_permille))
        return world_between(w, w->net.delay_max_us, w->net.slow_max_us);
    return world_between(w, w->net.delay_min_us, w->net.delay_max_us);
}

bool world_reaches(const struct world *w, unsigned from, unsigned to)
{
    return !w->blocked[from][to];
}

void pipe_init(struct pipe *p, struct world *w, unsigned from, unsigned to,
               void (*deliver)(void *ctx, const uint8_t *data, size_t len), void *ctx)
{
    *p = (struct pipe){
        .w = w, .from = from, .to = to, .deliver = deliver, .ctx = ctx, .wake_us = WORLD_NEVER};
}

static void pipe_due(void *ctx, uint64_t generation, uint64_t due_us);

static void pipe_wake(struct pipe *p, uint64_t due_us)
{
    if (due_us >= p->wake_us)
        return;
    p->wake_us = due_us;
    world_at(p->w, due_us, pipe_due, p, p->generation, due_us);
}

static void pipe_due(void *ctx, uint64_t generation, uint64_t due_us)
{
    struct pipe *p = ctx;
    struct world *w = p->w;

    if (generation != p->generation || due_us != p->wake_us)
        return;
    p->wake_us = WORLD_NEVER;
    while (p->n > 0 && p->generation == generation) {
        struct world_chunk *c = &p->ring[p->first & (p->cap - 1)];
        if (c->due_us > w->now_us) {
            pipe_wake(p, c->due_us);
            return;
        }
        if (world_is_frozen(w, p->to)) {
            pipe_wake(p, w->hosts[p->to].frozen_until_us);
            return;
        }
        if (!world_reaches(w, p->from, p->to) || (p->cut != NULL && *p->cut)) {
            pipe_wake(p, w->now_us + RETRY_US + world_below(w, RETRY_US));
            return;
        }
        uint8_t *data = c->data;
        size_t len = c->len;
        p->first++;
        p->n--;
        p->deliver(p->ctx, data, len);
        mem_free(data);
    }
}

static void pipe_put(struct pipe *p, uint8_t *data, size_t len)
{
    struct world *w = p->w;

    if (p->n == p->cap) {
        size_t cap = p->cap > 0 ? 2 * p->cap : 8;
        struct world_chunk *ring = mem_new_array(struct world_chunk, cap);
        for (size_t i = 0; i < p->n; i++)
            ring[i] = p->ring[(p->first + i) & (p->cap - 1)];
        mem_free(p->ring);
        p->ring = ring;
        p->first = 0;
        p->cap = cap;
    }
    uint64_t due_us = w->now_us + world_delay_us(w);
    if (world_chance(w, w->net.lose_permille))
        due_us += world_between(w, 200000, 400000); /* sent again by TCP */
    if (due_us < p->last_due_us)
        due_us = p->last_due_us;
    p->last_due_us = due_us;
    p->ring[(p->first + p->n++) & (p->cap - 1)] = (struct world_chunk){due_us, data, len};
    pipe_wake(p, due_us);
}

void pipe_send(struct pipe *p, const uint8_t *data, size_t len)
{
    pipe_put(p, mem_dup(data, len), len);
}

void pipe_end(struct pipe *p) { pipe_put(p, NULL, 0); }

void pipe_break(struct pipe *p)
{
    for (size_t i = 0; i < p->n; i++)
        mem_free(p->ring[(p->first + i) & (p->cap - 1)].data);
    mem_free(p->ring);
    p->ring = NULL;
    p->first = p->n = p->cap = 0;
    p->generation++;
    p->wake_us = WORLD_NEVER;
    p->last_due_us = 0;
}

/* ---- what happened ---- */

void world_note(struct world *w, const char *format, ...)
{
    va_list args;

    if (!w->verbose)
        return;
    printf("%10.4f  ", (double)w->now_us / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

_Noreturn void world_fail(struct world *w, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = snprintf(w->failure, sizeof w->failure, "at %.4f s: ", (double)w->now_us / 1e6);
    (void)vsnprintf(w->failure + n, sizeof w->failure - (size_t)n, format, args);
    va_end(args);
    if (w->verbose)
        printf("%10.4f  FAILED %s\n", (double)w->now_us / 1e6, w->failure);
    longjmp(w->stop, 1);
}
