/* SPDX-License-Identifier: Apache-2.0 */
/* process.h -- run a program to its end, for a limited time, and keep what it says.
 *
 * The program gets a session of its own, nothing on standard input, and this process's
 * environment with a few variables more. At its time limit its whole process group is
 * killed. Of its output the first PROCESS_OUTPUT_MAX bytes of each stream are kept.
 */
#ifndef MUSTER_HOST_PROCESS_H
#define MUSTER_HOST_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define PROCESS_OUTPUT_MAX 4096
#define PROCESS_VARIABLES_MAX 8
#define PROCESS_LAST_WORDS_MS 50 /* after its end, for output that is still on its way */

struct process_spec {
    const char *const *argv;      /* argv[0]: the program, looked up in PATH; NULL at the end */
    const char *const *variables; /* "NAME=value", NULL at the end; NULL: none */
    uint32_t timeout_ms;
};

struct process_result {
    int err;        /* 0, or the uv error with which it could not be started */
    bool timed_out; /* killed by us */
    int exit_code;  /* when signal is 0 */
    int signal;     /* which ended it; 0: it exited */
    uint32_t took_ms;
    const char *line;   /* the first line with text: of stderr, else of stdout; or "" */
    const char *errors; /* stderr as it is, NUL-ended */
};

struct process;
typedef void process_done(void *ctx, const struct process_result *r);

/* The callback comes from the loop, never from within; what r points to is borrowed. */
struct process *process_run(uv_loop_t *loop, const struct process_spec *spec,
                            process_done *done, void *ctx);
/* Kills it; no callback. Not after the callback. */
void process_stop(struct process *p);

#endif
