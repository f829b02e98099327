/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h -- the options that init, join, token, up and server share. */
#ifndef MUSTER_CLI_MACHINE_H
#define MUSTER_CLI_MACHINE_H

#include <stdbool.h>

#include "cli/cmd.h"
#include "server/identity.h"

struct machine_options {
    const char *dir, *name, *address; /* NULL: not given; dir has a default */
    const char *listen, *http;        /* IP:PORT */
    const char *ensemble;             /* HOST:PORT,... */
    const char *user;                 /* as whom to run; NULL: see host/confine.h */
    bool has_dir;                     /* dir was given */
    bool no_balancer, check, no_seccomp;
    char **rest;
    int rest_n;
};

/* 0, or EXIT_USAGE when it has been said what is wrong. */
int machine_options(int argc, char **argv, struct machine_options *out);
/* Name and address of a machine; the name may be the host's. command: for what is said when
 * something is missing; then not 0, an exit code. */
int machine_identity(const struct machine_options *o, struct identity *id, const char *command);

/* up_ensemble.c: up, when o->ensemble is given. */
int up_ensemble(struct cmd_env *env, const struct machine_options *o);

struct identity;
/* The machine of a new cluster of one, from name and address. Likewise. */
int machine_alone(const struct machine_options *o, struct identity *id, const char *command);

#endif
