/* SPDX-License-Identifier: Apache-2.0 */
/* client.h -- one session with an ensemble, as a core: ours or Apache ZooKeeper's.
 *
 * The shell (client_uv.c, or the simulation) opens the connection that client_wants()
 * names, moves bytes, and passes time. The core connects again and again, moves from
 * server to server, keeps the session, sends pings, matches replies, sets watches again.
 *
 * client_alive_until(): until when the session surely lives. It counts from when the last
 * question that has been answered was *sent* (only questions that a leader answers count:
 * connect, ping, sync and writes; a read is answered by any server). What leases stand on.
 * It holds for our servers, and as long as all of them negotiate timeouts within the same
 * limits. It grows, but for two cases: 0 when the session has expired or is being closed,
 * and an earlier end when a shorter timeout is asked for.
 *
 * Apache ZooKeeper's servers answer pings by themselves, and a leader may end a session long
 * before its timeout has passed since the last answer. With is_foreign the question is a
 * write, and its answer is believed for half the timeout. That alone is no proof either: it
 * becomes one where everybody who would take over sees these writes and waits (decision 005).
 * A longer timeout then needs a new session, since a new leader knows only the one that a
 * session was made with.
 *
 * A request has one of these ends: its reply; ERR_CONNECTION_LOST (it may have happened);
 * ERR_SESSION_EXPIRED; ERR_TOO_BIG (never sent). It is never sent twice. What is asked while
 * there is no connection waits for one, timeout_ms at most, then ERR_CONNECTION_LOST.
 * Callbacks run inside the call that caused them; they may submit, and must not free the
 * client nor give it events (client_received and the like).
 *
 * Watches are remembered until they fire, and set again on every new connection, also in
 * the session that follows an expired one. What a one-shot watch missed meanwhile is
 * announced then; a persistent one announces nothing: read again on CLIENT_EV_CONNECTED.
 */
#ifndef MUSTER_CLIENT_H
#define MUSTER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define CLIENT_NEVER UINT64_MAX
#define CLIENT_SERVERS_MAX 16
#define CLIENT_FRAME_MAX (16u << 20)        /* bytes of one frame from a server */
#define CLIENT_REQUEST_MAX 1048575u         /* of one to it: its jute.maxbuffer */
#define CLIENT_SET_WATCHES_MAX (128u << 10) /* bytes of paths in one setWatches */
#define CLIENT_BACKOFF_MAX_MS 1000u

enum client_state {
    CLIENT_CONNECTING, /* no server answers now; the session may still live */
    CLIENT_CONNECTED,
    CLIENT_CLOSED, /* client_close() is done */
};

enum client_event {
    CLIENT_EV_CONNECTED,    /* the same session as before, or the first */
    CLIENT_EV_DISCONNECTED, /* all requests in flight have ended ERR_CONNECTION_LOST */
    CLIENT_EV_EXPIRED, /* the server said so: its ephemerals are gone. A new session follows */
    CLIENT_EV_CLOSED,
};

struct client_stat { /* ZooKeeper's Stat */
    int64_t czxid, mzxid, ctime, mtime;
    int32_t version, cversion, aversion;
    int64_t ephemeral_owner;
    int32_t data_len, children;
    int64_t pzxid;
};

/* A reply. Fields that the operation does not give are zero. Borrowed for the call. */
struct client_reply {
    int err;
    int64_t zxid;
    const char *path; /* create: the name that was made; NUL-ended */
    const uint8_t *data;
    int32_t len; /* -1: null */
    struct client_stat stat;
    const char *const *children; /* NUL-ended names */
    size_t children_n;
    const uint8_t *body; /* the raw response record */
    size_t body_len;
};

typedef void client_done(void *ctx, const struct client_reply *r);
typedef void client_on_event(void *ctx, enum client_event ev);
/* type: enum watch_event of tree/watch.h; path NUL-ended. */
typedef void client_on_watch(void *ctx, int type, const char *path);

struct client_options {
    uint32_t timeout_ms; /* asked of the server; > 0 */
    uint32_t ping_ms;    /* a question at least so often; 0: timeout_ms / 6 */
    uint64_t seed;
    unsigned servers; /* how many there are; the shell knows their addresses */
    unsigned first;   /* tried first, and preferred */
    client_on_event *on_event;
    client_on_watch *on_watch;
    void *ctx;
    /* The rest may be NULL (or false). Text is copied. */
    const char *chroot; /* chroot_is_valid(): all paths are below it, but client_request()'s */
    bool makes_chroot;  /* creates it at each connection, if it is not there */
    const char *auth_scheme; /* sent first on each connection; the server must accept it */
    const char *auth;
    bool is_foreign; /* the servers are not muster's */
    /* is_foreign: the znode whose setting is the question, an ephemeral that the client makes
     * when it is missing (and its parent is there); its data is client_trust_ms(), in decimal.
     * NULL: an empty transaction. */
    const char *life_path;
};

struct client;
struct client *client_new(const struct client_options *options);
void client_free(struct client *c); /* what is in flight ends without a callback */

/* ---- between shell and core ---- */
enum client_want { CLIENT_WANT_NOTHING, CLIENT_WANT_CONNECTION, CLIENT_WANT_CLOSE };
/* CONNECTION: open one to server number *server, then client_opened() or client_closed().
 * CLOSE: close the present one (client_closed() need not be called), or stop opening it.
 * Ask after each event, and again until NOTHING. Events of a connection that was closed on
 * demand must not be passed on after it. A connection counts as lost when it is not opened
 * and answered within timeout_ms / 3, or when a question has no answer for timeout_ms / 2. */
enum client_want client_wants(struct client *c, uint64_t now_ms, unsigned *server);
void client_opened(struct client *c, uint64_t now_ms);
void client_closed(struct client *c, uint64_t now_ms);
void client_received(struct client *c, uint64_t now_ms, const uint8_t *data, size_t len);
void client_time(struct client *c, uint64_t now_ms);
uint64_t client_deadline(const struct client *c);
struct buf *client_output(struct client *c); /* to be sent; the shell consumes it */

/* ---- requests ---- */
void client_create(struct client *c, uint64_t now_ms, const char *path, const void *data,
                   size_t len, int flags, client_done *done, void *ctx);
void client_delete(struct client *c, uint64_t now_ms, const char *path, int32_t version,
                   client_done *done, void *ctx);
void client_set(struct client *c, uint64_t now_ms, const char *path, const void *data,
                size_t len, int32_t version, client_done *done, void *ctx);
void client_get(struct client *c, uint64_t now_ms, const char *path, bool watch,
                client_done *done, void *ctx);
void client_exists(struct client *c, uint64_t now_ms, const char *path, bool watch,
                   client_done *done, void *ctx);
void client_children(struct client *c, uint64_t now_ms, const char *path, bool watch,
                     client_done *done, void *ctx); /* getChildren2 */
void client_sync(struct client *c, uint64_t now_ms, const char *path, client_done *done,
                 void *ctx);
void client_add_watch(struct client *c, uint64_t now_ms, const char *path, bool recursive,
                      client_done *done, void *ctx);
/* Any other operation: an encoded request record; the reply has body only. */
void client_request(struct client *c, uint64_t now_ms, int32_t op, const void *body, size_t len,
                    client_done *done, void *ctx);
void client_close(struct client *c,
                  uint64_t now_ms); /* ends the session; only EV_CLOSED follows */
/* One more server, with the number client_options.servers had; for when it is needed. False:
 * there are CLIENT_SERVERS_MAX. */
bool client_add_server(struct client *c);
/* Asks for another session timeout: connects anew with the same session. */
void client_set_timeout(struct client *c, uint64_t now_ms, uint32_t timeout_ms);

/* ---- facts ---- */
enum client_state client_state(const struct client *c);
int64_t client_session(const struct client *c);     /* 0: none yet */
uint32_t client_timeout_ms(const struct client *c); /* negotiated */
/* 0: there is no session, or it surely is none any more. */
uint64_t client_alive_until(const struct client *c);
/* How long an answer is believed, from when its question was sent: the timeout, or less. */
uint32_t client_trust_ms(const struct client *c);
int64_t client_zxid(const struct client *c); /* the newest seen */
/* The server of the present connection, or that of the next attempt; since when it is up. */
unsigned client_server(const struct client *c);
uint64_t client_up_since(const struct client *c);
/* The last server that was asked has refused our credentials. */
bool client_is_refused(const struct client *c);
uint64_t client_now(const struct client *c); /* the latest time that it was told */

#endif
