/* SPDX-License-Identifier: Apache-2.0 */
/* run.h -- what server and up share: a server in the foreground, until it is told to stop. */
#ifndef MUSTER_CLI_RUN_H
#define MUSTER_CLI_RUN_H

#include <uv.h>

#include "cli/machine.h"
#include "server/server.h"

struct run {
    uv_loop_t *loop;
    struct identity self;
    struct server *server;
    uv_signal_t term, interrupt;
    uv_timer_t watchdog; /* systemd's */
    bool stopping;
    const struct server_options *options; /* of the server; set by run_until_stopped() */
    struct buf condemned;                 /* why it had to end; empty: it had not */
    int exit_code;
    bool is_told;     /* by a signal to stop */
    bool is_outdated; /* a newer epoch was met: when all has stopped, it begins anew */
    struct epoch newer;
    void *more;       /* of the caller */
    uv_work_t saving; /* the status */
    bool is_saving;
    struct buf status, status_path;
    /* When the server has started; not 0: an exit code, it has been said why. May be NULL. */
    int (*after_start)(struct run *r);
    /* Asked to stop: does its part and then calls run_stop_server(). NULL: there is none. */
    void (*before_stop)(struct run *r);
};

/* Two processes on one directory would each believe that it is the machine. The lock goes
 * with the process, however it ends. 0, or an exit code: it has been said why. */
int run_lock_directory(const char *dir);
/* Starts the server, and returns the exit code when everything has ended. */
int run_until_stopped(struct run *r, const struct server_options *options);
/* Without a server: after_start starts what there is, before_stop is needed. */
int run_without_server(struct run *r, const char *dir);
void run_stop_server(struct run *r); /* if there is one */
/* For when nothing answers any more: DIR/status.json, by a thread that may wait for the disk.
 * Takes json's bytes. Until it is done, nothing newer is written. */
void run_save_status_take(struct run *r, const char *dir, struct buf *json);
/* server FILE: as ZooKeeper's own configuration file says (server_zoo.c). */
int run_zoo_config(const struct machine_options *o);
/* For server_options.failed: ends the process. */
void run_disk_failed(void *ctx, int err);
/* What becomes of a server that may not go on: another one, with another birth, in its place.
 */
void run_begin_again(struct run *r, const char *why);

#endif
