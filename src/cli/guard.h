/* SPDX-License-Identifier: Apache-2.0 */
/* guard.h -- a process that kills a child in time when we cannot.
 *
 * We may be stopped (SIGSTOP, Ctrl-Z, a debugger) while the child runs on, and then what it
 * was started for is not ours any more. And we may die: the kernel then kills the child, but
 * not what that has started. The guard is a process of its own that sleeps until the time that
 * it was given last, or until we die, and then kills. It does not help when the whole machine
 * is paused. */
#ifndef MUSTER_GUARD_H
#define MUSTER_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/child.h"

struct guard {
    pid_t pid; /* 0: none */
    struct guard_shared *shared;
};

/* Kills the child, and its group if it has one, when clock_now_ms() reaches kill_at_ms. The
 * child must not be reaped before guard_end(): its number is what is killed. False: errno. */
bool guard_start(struct guard *g, const struct child *c, uint64_t kill_at_ms);
void guard_move(struct guard *g, uint64_t kill_at_ms);
/* Ends the guard; true: it has killed. */
bool guard_end(struct guard *g);

#endif
