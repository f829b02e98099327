/* SPDX-License-Identifier: Apache-2.0 */
/* service.h -- the health of the instances on this machine. A core.
 *
 * Each instance is checked every interval. It becomes healthy after `rise` good answers in
 * a row and failing after `fall` bad ones; the very first answer decides at once, so that a
 * site is up one check after its start. The reason of a failure is kept with the measured
 * value. A check that is late counts as failed when its time is over, whatever the shell
 * does.
 */
#ifndef MUSTER_SERVICE_H
#define MUSTER_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/rng.h"
#include "site/site.h"

#define SERVICE_NEVER UINT64_MAX
#define SERVICE_REASON_MAX 160    /* with the NUL */
#define SERVICE_LATE_MS 200       /* what a result may come after its timeout */
#define SERVICE_INSTANCES_MAX 256 /* on one machine */

/* One check to be made. */
struct service_check {
    enum site_check_type type; /* SITE_CHECK_TCP, _HTTP, _EXEC */
    const char *service;       /* its name; EXEC: in $MUSTER_SERVICE */
    const char *address;       /* where: this machine's own address; EXEC: $MUSTER_ADDRESS */
    uint16_t port;             /* EXEC: in $MUSTER_PORT */
    const char *path;          /* HTTP: the path of the request; EXEC: the program */
    uint32_t timeout_ms;       /* after which the shell ends it: SERVICE_NO_ANSWER */
};

/* HTTP: 200..399 is OK. EXEC: exit code 0 is OK. TCP: a connection is OK. */
enum service_outcome {
    SERVICE_OK,
    SERVICE_REFUSED,   /* connection refused */
    SERVICE_NO_ANSWER, /* not within timeout_ms */
    SERVICE_STATUS,    /* HTTP: .number is the status */
    SERVICE_EXIT,      /* EXEC: .number is the exit code, .text the first line it wrote */
    SERVICE_SIGNAL,    /* EXEC: .number is the signal */
    SERVICE_ERROR,     /* .text: what the operating system or the library said */
};

struct service_result {
    enum service_outcome outcome;
    int number;
    uint32_t took_ms;
    const char *text; /* NULL: "" */
};

enum service_state { SERVICE_UNKNOWN, SERVICE_HEALTHY, SERVICE_FAILING };
const char *service_state_name(enum service_state s); /* "checking", "healthy", "failing" */

/* Read freely; only service_*() writes. */
struct service_instance {
    char service[SITE_NAME_MAX];
    uint16_t port;
    struct site_check check;
    enum service_state state;
    unsigned in_a_row;               /* answers that contradict `state` */
    char reason[SERVICE_REASON_MAX]; /* of the last answer, good or bad */
    int64_t since_wall_ms;           /* when `state` was reached; 0: never checked */
    uint64_t next_ms;                /* when the next check starts */
    uint64_t late_ms;                /* when the one under way is over; 0: none is */
    uint64_t op;                     /* of the one under way */
};

struct services {
    struct service_instance *v; /* in order of the site file, then port */
    unsigned n, cap;
    struct rng rng;
    uint64_t checks_total, failed_total;
};
void services_init(struct services *s, uint64_t seed);
void services_free(struct services *s);

/* The instances that the site wants on this machine; those that stay keep their state. Ops
 * of checks that are under way and no longer wanted are passed to stopped(). */
void services_set_site(struct services *s, const struct site *site, const char *machine,
                       uint64_t now_ms, void (*stopped)(void *ctx, uint64_t op), void *ctx);

/* The first instance whose check is due: it is marked as under way with this op. NULL: none.
 * Call until NULL. Checks that are over are failed on the way. */
struct service_instance *services_due(struct services *s, uint64_t now_ms, int64_t wall_ms,
                                      uint64_t op);
/* The result of a check; false: of none that is under way. */
bool services_result(struct services *s, uint64_t op, const struct service_result *r,
                     int64_t wall_ms);
uint64_t services_deadline(const struct services *s);
unsigned services_count_healthy(const struct services *s);

/* "HTTP 503 in 12 ms", "connection refused", "no answer within 500 ms", "exit 1: ..." */
void service_reason(const struct site_check *check, const struct service_result *r, char *out,
                    size_t size);

#endif
