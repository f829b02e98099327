/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "cli/cmd.h"
#include "host/clock.h"

int main(int argc, char **argv)
{
    /* A peer that goes away is an error of the write, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    log_init(stderr, "-", LOG_WARNING, clock_wall_ms);
    return cli_main(argc, argv);
}
