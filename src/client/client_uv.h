/* SPDX-License-Identifier: Apache-2.0 */
/* client_uv.h -- a client (client.h) on a libuv loop: the shell of the session core.
 *
 * It opens and closes TCP connections, moves bytes, and passes time. Everything happens on
 * the loop's thread. After submitting requests from outside of a callback, call
 * client_uv_kick(), so that they are sent and the timer is right.
 */
#ifndef MUSTER_CLIENT_UV_H
#define MUSTER_CLIENT_UV_H

#include <uv.h>

#include "client/client.h"

#define CLIENT_UV_WHY_MAX 120

struct client_uv_options {
    uv_loop_t *loop;
    /* `servers` of it are the addresses below. */
    struct client_options client;
    /* "10.77.0.11:2181" or "[::1]:2181": numbers only, nothing here waits for a resolver. */
    const char *const *addresses;
    /* Monotonic; the clock of every time that the client is given. */
    uint64_t (*now_ms)(void);
    /* After each batch of things that happened, before what they caused is sent: the place to
     * decide something and to submit. May be NULL. */
    void (*after)(void *ctx);
    void *ctx;
};

struct client_uv;
/* ERR_BAD_ARGUMENTS: one of the addresses is none (*bad says which). */
int client_uv_new(struct client_uv **out, const struct client_uv_options *options,
                  unsigned *bad);
/* Cuts the connection without closing the session (client_close() does that, before). The
 * client is freed at once, the rest in later turns of the loop. */
void client_uv_free(struct client_uv *u);

/* One more server, if it is not known yet. ERR_BAD_ARGUMENTS: it is no address; ERR_TOO_BIG:
 * there are CLIENT_SERVERS_MAX. */
int client_uv_add_server(struct client_uv *u, const char *address);

struct client *client_uv_client(struct client_uv *u);
void client_uv_kick(struct client_uv *u);
/* Why the last attempt at this server failed: "connection refused"; "": it has not. */
const char *client_uv_why(const struct client_uv *u, unsigned server);

#endif
