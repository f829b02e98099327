/* SPDX-License-Identifier: Apache-2.0 */
/* backup_verify.h -- backup --list and --verify: what a backup has, and whether it is so. */
#ifndef MUSTER_CLI_BACKUP_VERIFY_H
#define MUSTER_CLI_BACKUP_VERIFY_H

#include "cli/cmd.h"

int backup_list(struct cmd_env *env, const char *dir);
/* Replays all of it, and restores the end aside, into a temporary directory. */
int backup_verify(struct cmd_env *env, const char *dir);

#endif
