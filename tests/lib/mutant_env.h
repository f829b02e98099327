/* SPDX-License-Identifier: Apache-2.0 */
/* mutant_env.h -- for a test that is to find planted faults: the one that MUTANT in the
 * environment names is switched on (tests/sim/mutants.sh). Nothing in an ordinary build. */
#ifndef MUTANT_ENV_H
#define MUTANT_ENV_H

#include <stdlib.h>
#include <string.h>

#include "base/mutant.h"

static inline void mutant_from_env(void)
{
#ifdef MUSTER_MUTANTS
    const char *name = getenv("MUTANT");

    for (int i = 0; name != NULL && i < MUTANTS_END; i++)
        if (strcmp(mutant_name((enum mutant)i), name) == 0)
            mutant_active = (enum mutant)i;
#endif
}

#endif
