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

struct runner_world {
    const char *name;    /* NULL ends the list; the first is the one that is meant */
    const char *mutants; /* prefixes of planted faults looked for here; "": all */
    runner_run *run;
};
int runner_main(int argc, char **argv, const struct runner_world *worlds);
/* While w is set, a failed CHECK ends up in world_fail(w). */
void runner_guard(struct world *w);

#endif
