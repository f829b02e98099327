/* SPDX-License-Identifier: Apache-2.0 */
/* runner.h -- the command line of a simulation: one seed, many, or all planted faults.
 *
 * A core that breaks one of its CHECKs, crashes or hangs is a failure of the seed like any
 * other.
 */
#ifndef MUSTER_TESTS_RUNNER_H
#define MUSTER_TESTS_RUNNER_H

#include "world.h"

/* True: the seed is right. */
typedef bool runner_run(uint64_t seed, bool verbose, char *failure, size_t room);

int runner_main(int argc, char **argv, const char *name, runner_run *run);
/* While w is set, a failed CHECK ends up in world_fail(w). */
void runner_guard(struct world *w);

#endif
