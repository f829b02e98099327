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

#define CLIENT_LINGER_MS 2000 /* for who was answered a word to take it, and to close */

enum word_result { WORD_NONE, WORD_MORE, WORD_DONE };

struct clients_options {
    const char *listen_address;
    uint16_t port;
    struct member *member;
    void *ctx;
    void (*woken)(void *ctx); /* before each call into the member: tell it the time */
    /* The answer to a four-letter word, which the first four or more bytes of a connection
     * may be. WORD_MORE: it needs more of them. */
    enum word_result (*word)(void *ctx, uint64_t conn, const uint8_t *data, size_t len,
                             struct buf *answer);
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
/* After the member has been flushed: reads again from those that are no longer busy. True: from
 * somebody; what he had sent already may be for the next flush. */
bool clients_resume(struct clients *c);
/* Somebody could be resumed now: another turn is due. */
bool clients_wait(const struct clients *c);

/* ---- for monitors ---- */
struct clients_facts {
    uint64_t refused_total;    /* connections, because of a limit */
    uint64_t dropped_total;    /* ended by the client, or by the network */
    uint64_t no_session_total; /* closed because they said nothing */
};
void clients_facts(const struct clients *c, struct clients_facts *out);
void clients_facts_reset(struct clients *c);
#define CLIENT_ADDRESS_MAX 64 /* with the NUL: "10.0.0.1:40204" */
/* interest: 1 if we read from it, 4 if it has not taken what was sent. */
typedef void clients_visit(void *ctx, uint64_t conn, const char *address, unsigned interest);
void clients_each(const struct clients *c, clients_visit *visit, void *ctx);

#endif
