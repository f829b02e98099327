/* SPDX-License-Identifier: Apache-2.0 */
/* stopped.h -- Ctrl-C during work that leaves something behind if it just ends. */
#ifndef MUSTER_CLI_STOPPED_H
#define MUSTER_CLI_STOPPED_H

#include <stdbool.h>

/* From now on SIGINT and SIGTERM only say that the work should end. */
void stopped_watch(void);
bool stopped_is_asked(void);

#endif
