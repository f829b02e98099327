/* SPDX-License-Identifier: Apache-2.0 */
/* child.h -- a command that runs for us, and does not outlive us. */
#ifndef MUSTER_CHILD_H
#define MUSTER_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

struct child {
    pid_t pid; /* 0: none */
    bool own_group;
    bool is_over;
    bool was_stopped; /* child_stop() */
    int status;       /* of waitpid() */
};

/* Starts argv[0], found as a shell would; its stdin is that file, or ours (-1). When this
 * process dies, however it does, the child
 * is killed with it. From a terminal it stays in our group, so that Ctrl-C and Ctrl-Z mean it
 * too; else it gets a group of its own, and signals reach what it has started as well. What
 * cannot be run ends with EXIT_NO_COMMAND, and has said why. False: there is no process for
 * it (errno). */
bool child_start(struct child *c, char **argv, int stdin_fd);
void child_signal(const struct child *c, int number);
/* Asks it to end, or (is_last) kills it. When it has ended, what it has started and left
 * behind in its group is killed. */
void child_stop(struct child *c, bool is_last);
/* Looks whether it has ended; its number stays its own until child_reap(). */
bool child_has_ended(const struct child *c);
bool child_reap(struct child *c); /* the same, and takes its status */
/* As a shell shows it: its exit code, or 128 + the signal that ended it. */
int child_exit_code(const struct child *c);

#endif
