/* SPDX-License-Identifier: Apache-2.0 */
/* clients.h -- the port that speaks the ZooKeeper protocol (2181): connections and frames.
 *
 * Cuts the bytes into frames for the member and sends what it gives; four-letter words are
 * answered by a callback. No opinion beyond its limits, each of which is logged by name.
 */
#ifndef MUSTER_CLIENTS_H
#define MUSTER_CLIENTS_H

#include <uv.h>

#include "server/member.h"
#include "server/settings.h"

#define CLIENTS_MAX 20000       /* connections; fewer if the process may open fewer files */
#define CLIENTS_FILES_KEPT 256  /* that many are left for the log, peers, agent */
#define CLIENTS_BACKLOG 511     /* not yet accepted, unless set */
#define CLIENT_CONNECT_MAX 1024 /* bytes of the first frame, a connect request */
#define CLIENT_UNSENT_PAUSE (1u << 20) /* bytes that a client has not read: nor do we */
#define CLIENT_UNSENT_MAX (64u << 20)  /* above it (events still come): closed */
#define CLIENT_IDLE_MS 15000           /* to take the last bytes; then closed */

struct clients_options {
    const char *listen_address;
    uint16_t port;
    struct member *member;
    void *ctx;
    void (*woken)(void *ctx); /* before each call into the member: tell it the time */
    /* The answer to a four-letter word; false: it is not one. */
    bool (*word)(void *ctx, const char word[4], struct buf *answer);
    /* Borrowed: jute.maxbuffer, maxCnxns, maxClientCnxns, clientPortListenBacklog,
     * nio.sessionlessCnxnTimeout. */
    const struct settings *settings;
};

struct clients;
int clients_start(struct clients **out, uv_loop_t *loop, const struct clients_options *options,
                  struct buf *why);
void clients_stop(struct clients *c);
/* For struct member_io. */
void clients_send(struct clients *c, uint64_t conn, const uint8_t *data, size_t len);
void clients_close(struct clients *c, uint64_t conn);
/* After the member has been flushed: reads again from those that are no longer busy. */
void clients_resume(struct clients *c);
uint64_t clients_refused_total(const struct clients *c); /* connections */
/* Somebody could be resumed now: another turn is due. */
bool clients_wait(const struct clients *c);

#endif
