/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h -- the options that init, join, token, up and server share. */
#ifndef MUSTER_CLI_MACHINE_H
#define MUSTER_CLI_MACHINE_H

#include <stdbool.h>

struct machine_options {
    const char *dir, *name, *address; /* NULL: not given; dir has a default */
    const char *listen, *http;        /* IP:PORT */
    bool has_dir;                     /* dir was given */
    bool no_balancer, check;
    char **rest;
    int rest_n;
};

/* 0, or EXIT_USAGE when it has been said what is wrong. */
int machine_options(int argc, char **argv, struct machine_options *out);

#endif
