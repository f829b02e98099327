/* SPDX-License-Identifier: Apache-2.0 */
/* client_uv_sync.h -- one question after the other, each waited for: for commands.
 *
 * A client on a loop of its own. A read that is cut off is asked again until the limit; a
 * write is not: ERR_CONNECTION_LOST and ERR_TIMED_OUT of a write mean that it may have
 * happened.
 */
#ifndef MUSTER_CLIENT_UV_SYNC_H
#define MUSTER_CLIENT_UV_SYNC_H

#include "client/client_uv.h"

#define CLIENT_SYNC_CLOSE_MS 1000 /* how long the end of a session is waited for */

struct client_sync_options {
    const char *servers; /* "HOST[:PORT][,HOST[:PORT]...][/CHROOT]", the first is tried first */
    const char *auth_scheme, *auth; /* client.h; NULL: none */
    uint32_t session_ms;            /* the timeout of the session */
    uint32_t limit_ms;              /* of each call below, client_sync_open too */
    uint64_t (*now_ms)(void);
    client_on_event *on_event; /* these may be NULL */
    client_on_watch *on_watch;
    void *ctx;
};

struct client_sync;
/* ERR_BAD_ARGUMENTS, ERR_NOT_FOUND: a name without an address; ERR_AUTH_FAILED: a server
 * refused the credentials; ERR_TIMED_OUT: no server answered. why: what was measured,
 * "10.0.0.1:2181: connection refused; ...". */
int client_sync_open(struct client_sync **out, const struct client_sync_options *options,
                     struct buf *why);
void client_sync_close(struct client_sync *s); /* ends the session; NULL is fine */

/* A copy; zero-initialised is valid, reused from call to call. */
struct client_sync_reply {
    int64_t zxid;
    struct client_stat stat;
    struct buf path; /* create: the name that was made, NUL-ended */
    struct buf data;
    bool has_data; /* false: null */
    char **children;
    size_t children_n;
};
void client_sync_reply_free(struct client_sync_reply *r);

int client_sync_create(struct client_sync *s, const char *path, const void *data, size_t len,
                       int flags, struct client_sync_reply *r);
int client_sync_delete(struct client_sync *s, const char *path, int32_t version);
int client_sync_set(struct client_sync *s, const char *path, const void *data, size_t len,
                    int32_t version, struct client_sync_reply *r);
int client_sync_get(struct client_sync *s, const char *path, struct client_sync_reply *r);
int client_sync_exists(struct client_sync *s, const char *path, struct client_sync_reply *r);
int client_sync_children(struct client_sync *s, const char *path, struct client_sync_reply *r);
int client_sync_add_watch(struct client_sync *s, const char *path, bool recursive);

/* Runs the loop, at most until then (now_ms's clock); false when that time has come. */
bool client_sync_turn(struct client_sync *s, uint64_t until_ms);

/* What was measured at each server that does not answer, added to why. */
void client_sync_why(const struct client_sync *s, struct buf *why);
struct client *client_sync_client(struct client_sync *s);
uv_loop_t *client_sync_loop(struct client_sync *s);
/* After submitting to client_sync_client() directly. */
void client_sync_kick(struct client_sync *s);

#endif
