/* SPDX-License-Identifier: Apache-2.0 */
/* client_internal.h -- what the two parts of a client's core share. Not for others.
 *
 *   client.c           the session: connections, frames, time
 *   client_request.c   the requests that callers make
 */
#ifndef MUSTER_CLIENT_INTERNAL_H
#define MUSTER_CLIENT_INTERNAL_H

#include "base/rng.h"
#include "client/client.h"
#include "client/pending.h"
#include "client/reply.h"
#include "client/watched.h"

#define PASSWORD_LEN 16

enum phase {
    WAITING, /* until retry_ms, then the shell is asked for a connection */
    DIALING, /* the shell is opening one */
    HANDSHAKE,
    GREETING, /* the session is there, our credentials are not accepted yet */
    UP,
    ENDED,
};

struct client {
    struct client_options options;
    struct rng rng;
    uint64_t now_ms;

    enum phase phase;
    bool must_close;     /* the shell has to be told */
    uint64_t connection; /* counts: code that calls back looks whether it moved */
    unsigned order[CLIENT_SERVERS_MAX]; /* in which servers are tried */
    unsigned at, failures;              /* index into order; attempts since it was steady */
    uint64_t retry_ms, attempt_ms, up_ms;

    int64_t session;
    uint8_t password[PASSWORD_LEN];
    uint32_t timeout_ms; /* negotiated; 0: never yet */
    int64_t zxid;
    uint64_t alive_until_ms;
    bool closing;
    uint64_t closing_until_ms;

    int32_t xid;
    struct pending sent, waiting;
    uint64_t heard_ms;    /* the last reply */
    uint64_t question_ms; /* when the last question (client.h) or connect was sent */

    struct watched watched;
    struct buf in, out;
    struct reply_room room;

    char *chroot, *auth_scheme, *auth, *life_path; /* "" and NULL: none */
    struct buf full;
    uint32_t made_timeout_ms; /* foreign: what the session was made with */
    bool is_refused;          /* our credentials, by the last server */
    bool renewing;            /* foreign: the session is being closed for a longer one */
};

/* ---- client.c ---- */
void client_observe(struct client *c, uint64_t now_ms);
void client_submit(struct client *c,
                   struct request *r); /* sends it, or keeps it until it can be */

/* ---- client_request.c ---- */
const char *client_full_path(struct client *c, const char *path); /* until the next one */
void client_encode_create(struct client *c, const char *full, const void *data, size_t len,
                          int flags, struct buf *out);

#endif
