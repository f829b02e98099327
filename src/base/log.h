/* SPDX-License-Identifier: Apache-2.0 */
/* log.h -- one event, one line: key=value, the same keys everywhere.
 *
 *   log_event(LOG_NOTICE, "address_taken", LOG_S("address", addr), LOG_U("lease_ms", ms));
 *
 *   at=1700000000.123 level=notice machine=a ev=address_taken address=10.0.0.5 lease_ms=2000
 *
 * `ev` is a fixed word that can be searched for, never a sentence. Log what
 * changed, once, where it is decided; an error is logged by the code that stops
 * passing it up. No secrets: keys and passwords have no LOG_ macro.
 * Shells and main only: cores do not log.
 */
#ifndef MUSTER_LOG_H
#define MUSTER_LOG_H

#include <stdint.h>
#include <stdio.h>

enum log_level { LOG_CRIT, LOG_ERROR, LOG_WARNING, LOG_NOTICE, LOG_DEBUG };

struct log_pair {
    const char *key;
    const char *text; /* NULL: a number */
    uint64_t number;
};

#define LOG_S(k, v) ((struct log_pair){.key = (k), .text = (v)})
#define LOG_U(k, v) ((struct log_pair){.key = (k), .number = (uint64_t)(v)})

#define log_event(level, ev, ...) \
    log_pairs(level, ev, (const struct log_pair[]){__VA_ARGS__, {.key = NULL}})

/* Where lines go, who we are, and what time it is (wall clock, ms since 1970): main()
 * passes the real ones, a test its own. Lines above `most` are dropped. */
void log_init(FILE *to, const char *machine, enum log_level most, uint64_t (*now_ms)(void));
void log_pairs(enum log_level level, const char *ev, const struct log_pair *pairs);

#endif
