/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stopped.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t is_asked; /* a signal handler can reach nothing else */

static void asked(int number)
{
    (void)number;
    is_asked = 1;
}

void stopped_watch(void)
{
    struct sigaction on = {.sa_handler = asked}; /* waiting ends with EINTR */

    sigemptyset(&on.sa_mask);
    sigaction(SIGINT, &on, NULL);
    sigaction(SIGTERM, &on, NULL);
}

bool stopped_is_asked(void) { return is_asked; }
