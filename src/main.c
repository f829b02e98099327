/* SPDX-License-Identifier: Apache-2.0 */
#include <malloc.h>
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

/* glibc raises the size from which it maps memory by itself each time that such a piece is
 * freed, up to 32 MB: then what a snapshot or the sets of a busy second took stays between the
 * rest, for good.
 */
#define MAPPED_FROM (1 << 20)
#define KEPT_FREE (4 << 20)

static void memory_init(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_FREE);
#endif
}

int main(int argc, char **argv)
{
    memory_init();
    /* A peer that goes away is an error of the write, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    mutant_from_env();
    log_init(stderr, "-", LOG_WARNING, clock_wall_ms);
    return cli_main(argc, argv);
}
