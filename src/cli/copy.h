/* SPDX-License-Identifier: Apache-2.0 */
/* copy.h -- import --from: a running ensemble's tree is copied into another, or compared. */
#ifndef MUSTER_CLI_COPY_H
#define MUSTER_CLI_COPY_H

#include "cli/cmd.h"

/* from: "HOST:PORT[,HOST:PORT...][/PATH]". Returns the exit code. */
int copy_tree(struct cmd_env *env, const char *from);

#endif
