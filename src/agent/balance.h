/* SPDX-License-Identifier: Apache-2.0 */
/* balance.h -- HAProxy on this machine: which instances each balanced service has. A core.
 *
 * Desired: the healthy instances in the registry. Rendered: the whole HAProxy 2.6
 * configuration, always, and beside it the runtime commands that make the running process
 * equal to it without a reload, when listeners and slots allow that.
 *
 * Each backend has numbered slots ("s1", "s2", ...): an instance keeps its slot while it is
 * there and gets it back when it returns; spare slots are disabled servers. HAProxy's own fast
 * checks take an instance out in milliseconds; the registry follows within its check.
 *
 * Promise 6: an empty answer of the registry is refused. The last good pool stays (HAProxy's
 * checks know best which of it still answers), and before there was one, all instances
 * that the site file expects are tried.
 */
#ifndef MUSTER_BALANCE_H
#define MUSTER_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "site/site.h"

#define BALANCE_SLOTS_MAX 256 /* of one service; more instances are left out and counted */
#define BALANCE_SPARE 2
#define BALANCE_NAME_MAX (SITE_NAME_MAX + 8) /* with the NUL: "machine-65535" */
#define BALANCE_REASON_MAX 200
#define BALANCE_RETRY_MS 1000 /* after a failure; doubles up to: */
#define BALANCE_RETRY_MAX_MS 30000
#define BALANCE_NEVER UINT64_MAX

struct balance_member {
    char name[BALANCE_NAME_MAX]; /* "a-3000": the instance's name in the registry */
    char address[SITE_ADDRESS_MAX];
    uint16_t port;
};

struct balance_slot {
    struct balance_member m; /* name "": never used */
    bool is_on;
};

struct balance_pool {
    char service[SITE_NAME_MAX];
    uint16_t listen;
    struct balance_slot *slots;
    unsigned slots_n, on_n;
    bool is_guess;         /* nothing was ever registered: all that is expected is tried */
    bool is_refused;       /* the registry is empty now, and the last good pool is kept */
    bool is_reported_down; /* ... and most machines say themselves that none is healthy */
    unsigned left_out;     /* instances beyond BALANCE_SLOTS_MAX */
    char why[BALANCE_REASON_MAX];
    /* What HAProxy runs with, as far as we know. */
    uint16_t running_listen;
    struct balance_slot *running;
    unsigned running_n;
};

struct balance {
    struct balance_pool *pools;
    unsigned n;
    bool is_running;   /* HAProxy runs with `running` of the pools, and no others */
    bool has_run;      /* it was set once, and has not been lost since */
    bool has_removed;  /* a pool that runs is no longer wanted */
    bool is_under_way; /* a SET */
    uint64_t op;
    uint64_t retry_ms; /* not before, after a failure */
    uint32_t retry_wait_ms;
    char failed[BALANCE_REASON_MAX]; /* why the last SET failed; "": it did not */
    uint64_t sets_total, reloads_total, refused_total, failed_total;
    struct buf config;
    struct buf command_text;
    const char **commands;
    size_t commands_n, commands_cap;
    bool reload;
};
void balance_free(struct balance *b); /* zero-initialised is valid */

void balance_set_site(struct balance *b, const struct site *site);

/* The registry's instances of a service (sorted by name), those that the site expects (for
 * the first time), and how many of the known machines say themselves that none is healthy. */
struct balance_offer {
    const struct balance_member *members, *expected;
    unsigned members_n, expected_n;
    unsigned machines_known, machines_saying_none;
};
void balance_offer(struct balance *b, const char *service, const struct balance_offer *o);

/* Is there something to be set now? SET: config, commands and reload are in *b, until the next
 * call. STOP: nothing is balanced. One at a time: then balance_done() or balance_failed(). */
enum balance_want { BALANCE_NOTHING, BALANCE_SET, BALANCE_STOP };
enum balance_want balance_step(struct balance *b, uint64_t now_ms, uint64_t op,
                               const char *site_name, const char *socket);
void balance_done(struct balance *b, uint64_t op);
void balance_failed(struct balance *b, uint64_t op, uint64_t now_ms, const char *why);
void balance_lost(struct balance *b); /* HAProxy is gone */
uint64_t balance_deadline(const struct balance *b);

const struct balance_pool *balance_find(const struct balance *b, const char *service);

#endif
