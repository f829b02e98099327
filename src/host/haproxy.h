/* SPDX-License-Identifier: Apache-2.0 */
/* haproxy.h -- the HAProxy of this machine: its file, its process, its sockets.
 *
 * A master-worker HAProxy of its own, apart from any that the distribution starts:
 *   haproxy -W -S DIR/haproxy.master -f DIR/haproxy.cfg -p DIR/haproxy.pid
 * Its output goes to DIR/haproxy.out. It has a session of its own and survives us (what is
 * stateless freezes as it was); a later life finds it through the pid file or the master
 * socket. A process is ours when it runs the same program with that very file on its command
 * line; no other is ever signalled.
 *
 * One request is carried out at a time, in order.
 */
#ifndef MUSTER_HOST_HAPROXY_H
#define MUSTER_HOST_HAPROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define HAPROXY_REASON_MAX 300
#define HAPROXY_QUEUE_MAX 8
#define HAPROXY_START_LIMIT_MS 10000 /* start, or reload: a port in use is tried for 1 s */
#define HAPROXY_CHECK_LIMIT_MS 10000
#define HAPROXY_ANSWER_LIMIT_MS 1000
#define HAPROXY_OUTPUT_MAX (1 << 20) /* of haproxy.out; then it is emptied */

struct haproxy;

struct haproxy_options {
    const char *program;        /* "/usr/sbin/haproxy" */
    const char *dir;            /* absolute, exists, ours alone */
    const char *socket;         /* the admin socket that the configuration names */
    void (*on_lost)(void *ctx); /* the process that ran is gone */
    void *ctx;
};

/* err 0, or why: a text for people; borrowed. */
typedef void haproxy_done(void *ctx, int err, const char *why);

/* Finds one that runs. ERR_NOT_FOUND: there is no such program; ERR_TOO_BIG: the directory's
 * name is too long for the sockets in it. */
int haproxy_open(struct haproxy **out, uv_loop_t *loop, const struct haproxy_options *o);
/* HAProxy goes on. No callbacks any more; frees in later turns of the loop. */
void haproxy_close(struct haproxy *h);

/* Checks the configuration and makes it the file. Then, in a HAProxy that runs: with reload,
 * loads it without losing a connection; without, gives the commands to its admin socket in
 * order, and each must be confirmed. When none runs, starts one. If it fails, what ran goes
 * on; after a failed reload the earlier file is there again. Everything is copied.
 * ERR_BUSY: too many wait. */
int haproxy_set(struct haproxy *h, const char *config, const char *const *commands,
                size_t commands_n, bool reload, haproxy_done *done, void *ctx);
/* Ends it; a later haproxy_set() starts it again. */
int haproxy_stop(struct haproxy *h, haproxy_done *done, void *ctx);

bool haproxy_is_running(const struct haproxy *h);
const char *haproxy_failure(const struct haproxy *h); /* of the last request; "": it worked */

/* What HAProxy answered to a runtime command: was it done? Known good words only. */
bool haproxy_is_confirmed(const char *answer);
/* "show proc" of the master: false when it is not that, or no worker is there yet. */
struct haproxy_processes {
    int master;
    unsigned reloads, failed;
    int worker;              /* the newest */
    unsigned worker_reloads; /* that it has outlived: 0, it runs with the present file */
};
bool haproxy_parse_processes(const char *text, struct haproxy_processes *out);
/* The first line that says what is wrong, without HAProxy's decoration:
 * "[ALERT]    (123) : config : parsing [...]" -> "parsing [...]" */
void haproxy_alert(const char *text, char *out, size_t size);

#endif
