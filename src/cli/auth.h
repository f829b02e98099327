/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h -- the credentials of --auth-file: one line, "digest:NAME:PASSWORD". */
#ifndef MUSTER_CLI_AUTH_H
#define MUSTER_CLI_AUTH_H

#include "cli/cmd.h"

#define AUTH_BYTES_MAX 1024 /* of the file */

struct auth {
    char text[AUTH_BYTES_MAX + 1];
    const char *scheme, *auth; /* within text; NULL: no file is named */
};
/* 0, or the exit code when it has been said what is wrong. */
int auth_read(const struct cmd_env *env, struct auth *out);

#endif
