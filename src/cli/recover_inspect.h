/* SPDX-License-Identifier: Apache-2.0 */
/* recover_inspect.h -- what only the stores have that were set aside on this machine. */
#ifndef MUSTER_CLI_RECOVER_INSPECT_H
#define MUSTER_CLI_RECOVER_INSPECT_H

#include "cli/cmd.h"
#include "server/identity.h"

/* Lists each entry behind the point up to which the survivor has the same. */
int recover_inspect(struct cmd_env *env, const char *dir, const struct identity *self);

#endif
