/* SPDX-License-Identifier: Apache-2.0 */
/* confined.h -- as whom a command runs, and what it gives up first. */
#ifndef MUSTER_CLI_CONFINED_H
#define MUSTER_CLI_CONFINED_H

#include "cli/machine.h"

enum confined_part { CONFINED_SERVER, CONFINED_AGENT };

/* For a command that makes or changes a data directory and then ends: it works as the user
 * whose directory it is (host/confine.h), so that a server that runs as him can read it. If it
 * is there already, or `makes` it. 0, or an exit code: it has been said why. */
int confined_to_owner(const struct machine_options *o, bool makes);

/* For what goes on running: the user, his directory, files that nobody else can read; then no
 * privilege but those that a server (none; least_port: of those that it opens) or an agent
 * needs. Before anything in the directory is opened, and before any thread. Likewise. */
int confined(const struct machine_options *o, const char *dir, enum confined_part part,
             unsigned least_port);

/* One line of the log: what it has come to. */
void confined_log(void);

#endif
