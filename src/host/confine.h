/* SPDX-License-Identifier: Apache-2.0 */
/* confine.h -- what a process gives up before it listens to anybody: its user, capabilities,
 * privileges to come, core dumps, and calls of the kernel.
 *
 * All of it is for this thread and those that it starts: call it before there is another.
 */
#ifndef MUSTER_CONFINE_H
#define MUSTER_CONFINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

#define CONFINE_USER "muster"
#define CONFINE_NAME_MAX 64
#define CONFINE_GROUPS_MAX 256

struct confine_user {
    bool is_other; /* than we are now: then we are root */
    uid_t uid;
    gid_t gid;
    char name[CONFINE_NAME_MAX];
    gid_t groups[CONFINE_GROUPS_MAX]; /* if is_other: gid, and those that name him */
    int n_groups;
};

/* Who is to work on the directory `dir`: `user` (a name or a number), if it is not NULL. Else,
 * for root: the directory's owner; where there is none yet, the user CONFINE_USER if this
 * system has one, or else root as before. Whoever is not root stays who he is.
 * It is looked up in a child: no module of the resolver's stays in this process.
 * ERR_NOT_FOUND: no such user. ERR_PERMISSION: only root can become another. ERR_TOO_BIG: he is
 * in too many groups. */
int confine_user(const char *user, const char *dir, struct confine_user *out, struct buf *why);

/* Makes dir (0700) for that user, if there is none, and looks whether what lies in it is
 * his: ERR_UNSAFE when it is not. */
int confine_directory(const struct confine_user *u, const char *dir, struct buf *why);

/* Becomes that user and nothing else, for good. */
int confine_become(const struct confine_user *u, struct buf *why);

/* Becomes that user; of the capabilities (1 << CAP_...) what we have of `kept` stays, and
 * programs that are started get what is in `passed`. No program can give more
 * (no_new_privs), and nobody reads our memory: no core dump, no debugger but root's. */
int confine_privileges(const struct confine_user *u, uint64_t kept, uint64_t passed,
                       struct buf *why);

/* Refuses the calls of confine_calls.h to this process and to all that it starts. */
int confine_calls(bool starts_programs, struct buf *why);

#endif
