/* SPDX-License-Identifier: Apache-2.0 */
/* agent_uv.h -- the agent (agent/agent.h) on a libuv loop: the shell that gives it a client,
 * time and hands. It carries out what the core says, in order, and reports what came of it.
 *
 * Needs the rights of root (CAP_NET_ADMIN, CAP_NET_RAW) for addresses; without them it runs,
 * and every address that it should take says why it cannot. The process must ignore SIGPIPE.
 */
#ifndef MUSTER_HOST_AGENT_UV_H
#define MUSTER_HOST_AGENT_UV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "agent/status.h"
#include "base/buf.h"

#define AGENT_UV_HAPROXY "/usr/sbin/haproxy"
#define AGENT_UV_FACTS_MS 5000

struct agent_uv;

struct agent_uv_options {
    const char *machine; /* its name */
    const char *address; /* its own IPv4 address, dotted */
    const char *id;      /* of the machine, from its data directory */
    const char *version;
    const char *dir; /* exists, absolute; HAProxy's files go there (haproxy.h: its length) */
    const char *const *servers; /* "ip:port", the nearest first */
    size_t servers_n;
    uint64_t seed;
    uint32_t guard_ms;   /* 0: agent.h's default */
    bool has_haproxy;    /* false: balancing is refused with a reason */
    const char *haproxy; /* the program; NULL: AGENT_UV_HAPROXY */
    /* To the agent of another machine, by name; may be lost. */
    void (*send_peer)(void *ctx, const char *machine, const uint8_t *data, size_t len);
    /* What the server of this machine knows now; false: there is none. What it points to
     * lives until the next turn of the loop. NULL: there is none. */
    bool (*server_facts)(void *ctx, struct status_server *out);
    void *ctx;
    /* `servers` are a foreign ensemble (decision 005). The others, of client_options, may be
     * NULL. */
    bool is_foreign;
    const char *chroot, *auth_scheme, *auth;
};

/* Text is copied. What an earlier life left (addresses) is removed here. ERR_BAD_ARGUMENTS:
 * one of the servers is no address, or there are too many. */
int agent_uv_start(struct agent_uv **out, uv_loop_t *loop, const struct agent_uv_options *o);

/* One more server, if it is not known yet: the ensemble has grown. ERR_BAD_ARGUMENTS: it is
 * no address; ERR_TOO_BIG. */
int agent_uv_add_server(struct agent_uv *a, const char *address);

/* In good order: addresses leave the kernel, then claims and registrations the tree, then
 * the session ends; after one lease at most without that. HAProxy goes on as it is, for the
 * next life to adopt. done is called when nothing of it is left but closing handles. */
void agent_uv_stop(struct agent_uv *a, void (*done)(void *ctx), void *ctx);

/* From the agent of `machine`, as the transport knows it. */
void agent_uv_peer(struct agent_uv *a, const char *machine, const uint8_t *data, size_t len);

/* It has read the tree and is heard there now. */
bool agent_uv_is_ready(const struct agent_uv *a);
/* The JSON of /status; the exit code of `muster status` (0, 3, 4). */
int agent_uv_status(const struct agent_uv *a, struct buf *json);
void agent_uv_metrics(const struct agent_uv *a, struct buf *text); /* Prometheus */

#endif
