/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mutant.h"
#include "cli/cmd.h"
#include "host/clock.h"

#ifdef MUSTER_MUTANTS
#include <stdlib.h>
#include <string.h>

/* For ./dev chaos --mutant: the planted fault that MUTANT names. */
static void mutant_from_env(void)
{
    const char *name = getenv("MUTANT");

    for (int i = 0; name != NULL && i < MUTANTS_END; i++)
        if (strcmp(mutant_name((enum mutant)i), name) == 0)
            mutant_active = (enum mutant)i;
}
#else
static void mutant_from_env(void) {}
#endif

int main(int argc, char **argv)
{
    /* A peer that goes away is an error of the write, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    mutant_from_env();
    log_init(stderr, "-", LOG_WARNING, clock_wall_ms);
    return cli_main(argc, argv);
}
