/* SPDX-License-Identifier: Apache-2.0 */
/* server.h -- one server on a libuv loop: the member with its disk, its clients' port, its
 * peers' port and its HTTP port. A shell.
 */
#ifndef MUSTER_SERVER_H
#define MUSTER_SERVER_H

#include <uv.h>

#include "http/http.h"
#include "server/identity.h"
#include "server/member.h"
#include "server/settings.h"
#include "server/transport.h"

#define SERVER_CLIENT_PORT 2181
#define SERVER_PEER_PORT 2182
#define SERVER_HTTP_PORT 2180

struct server_options {
    const char *dir;
    struct identity *self;      /* borrowed; gets another birth when the store is damaged */
    struct settings settings;   /* copied: server_start() does not need them to last */
    const char *client_address; /* IPv4; "0.0.0.0" for all */
    uint16_t client_port;
    const char *peer_address; /* NULL: alone, no port for peers */
    uint16_t peer_port;       /* 0: SERVER_PEER_PORT */
    const char *http_address; /* NULL: none */
    uint16_t http_port;
    bool http_may_fail; /* its port is taken: the server starts without it, as ZooKeeper's does
                         */
    const char *version;
    void *ctx;
    /* A message from another machine's agent; NULL: not wanted. */
    void (*agent_received)(void *ctx, const char *machine, const uint8_t *data, size_t len);
    /* More for /status (NULL: the server's own short one) and at the end of /metrics. */
    unsigned (*status)(void *ctx, struct buf *json);
    void (*metrics)(void *ctx, struct buf *text);
    /* The members have changed: there may be other servers to go to. */
    void (*members)(void *ctx, const struct raft_members *members);
    /* The disk failed: end the process. */
    void (*failed)(void *ctx, int err);
    /* Another machine is of a newer epoch: this server serves and votes no more. Stop it, then
     * aside_for_epoch() and start anew. With a context of its own. */
    void (*outdated)(void *ctx, const struct epoch *newer);
    void *outdated_ctx;
    /* This server may not go on (member_condemned()): stop it, server_begin_again(), start it.
     * Told once. */
    void (*condemned)(void *ctx, const char *why);
};

struct server;
/* Opens the store, loads it, listens. A store that is damaged is set aside, if there are others
 * to fetch from (member_repair.h). On error nothing is left and why says what; ERR_CORRUPT:
 * there are none. The process should then end: handles close in the background. */
int server_start(struct server **out, uv_loop_t *loop, const struct server_options *options,
                 struct buf *why);
/* Hands leadership over if it can, closes everything; done is called when nothing of it is
 * left on the loop. */
void server_stop(struct server *s, void (*done)(void *ctx), void *ctx);

/* After it has stopped: sets the store in dir aside; self gets another birth. */
int server_begin_again(const char *dir, struct identity *self, const char *reason,
                       struct buf *why);

const struct member *server_member(const struct server *s);
/* How long saves take: the last, the longest and the average since the start. */
struct server_saves {
    uint64_t last_ms, most_ms, average_us;
};
void server_saves(const struct server *s, struct server_saves *out);
/* Not whole: what is wrong with this server, and what it does about it, for a person: it does
 * not vote because its store was damaged, or the servers' trees differ. False: nothing. */
bool server_ails(const struct server *s, struct buf *out);
void server_send_agent(struct server *s, const char *machine, const uint8_t *data, size_t len);
/* Since another machine was last heard; UINT64_MAX: never. */
uint64_t server_silence_ms(const struct server *s, uint64_t id);
bool server_is_gone(const struct server *s, uint64_t id); /* see transport_is_gone() */

/* Makes a new cluster of this one machine in dir: a store with one voter and an empty tree,
 * then the machine. ERR_EXISTS: dir holds a machine already. */
int server_create(const char *dir, const struct identity *self, struct buf *why);
/* Likewise with this tree, which it frees; the log goes on behind its zxid. ERR_TOO_BIG: the
 * tree does not fit into a snapshot. */
int server_create_take(const char *dir, const struct identity *self, struct tree *t,
                       struct buf *why);
/* Likewise from a backup: the log goes on behind `index`, which no zxid of the tree is above.
 */
int server_restore_take(const char *dir, const struct identity *self, struct tree *t,
                        uint64_t index, struct buf *why);
/* The machine in dir goes on with this tree, which is freed, in an epoch of its own: self has
 * the new epoch, store and members. The old store stays where it is. Until the last step, which
 * writes the machine, nothing has changed but for files that nobody looks at. */
int server_recover_take(const char *dir, const struct identity *self, struct tree *t,
                        uint64_t index, uint64_t term, struct buf *why);
/* Likewise for a machine that a cluster has taken in: its store is empty. */
int server_create_joined(const char *dir, const struct identity *self, struct buf *why);

#endif
