/* SPDX-License-Identifier: Apache-2.0 */
/* transport.h -- frames between machines, on one port (2182).
 *
 * To each other machine one connection is opened here and only sent on; what the others
 * open to us is only received on. So the messages of one direction keep their order while
 * a connection lives, and a broken connection loses what was on it: what travels here must
 * bear loss.
 *
 * A connection begins with a proof of both sides: fresh random bytes of each, and a keyed
 * code over them under the cluster's secret (peers) or the token's key (join). Before that
 * nothing is believed and little is read. (TLS will come between the socket and the
 * frames: link_read and link_write in transport.c are its place.)
 */
#ifndef MUSTER_TRANSPORT_H
#define MUSTER_TRANSPORT_H

#include <uv.h>

#include "server/door.h"
#include "server/identity.h"
#include "server/secret.h"

#define TRANSPORT_FRAME_MAX (12u << 20) /* of a peer that has proved itself */
#define TRANSPORT_STRANGER_MAX 1024u    /* of anybody else */
#define TRANSPORT_QUEUE_MAX (32u << 20) /* unsent to one peer; above it is dropped */
#define TRANSPORT_STRANGERS_MAX 64      /* unproved connections; then the oldest goes */
#define TRANSPORT_GUESTS_MAX 15         /* servers with the secret that are not our peers */
#define TRANSPORT_PROOF_MS 5000         /* how long they may take */

enum transport_channel { CHANNEL_MEMBER = 0, CHANNEL_AGENT = 1, CHANNEL_FOUND = 2, CHANNELS };

struct transport_facts {
    uint64_t frames_in_total, frames_out_total, bytes_in_total, bytes_out_total;
    uint64_t dropped_total, refused_total, malformed_total;
};

struct transport_options {
    const struct identity *self; /* borrowed for the life of the transport */
    const char *listen_address;  /* IPv4 */
    uint16_t port;
    void *ctx;
    void (*received)(void *ctx, uint64_t from, enum transport_channel channel,
                     const uint8_t *data, size_t len);
    /* Somebody shows a valid token: make it a member. Answer later by
     * transport_join_answer() with the ticket; 0 and the members, or an error. */
    void (*join)(void *ctx, uint64_t ticket, const struct raft_member *joiner);
    /* Somebody with the secret is of a newer epoch: ours is over. May be NULL. */
    void (*outdated)(void *ctx, const struct epoch *newer);
    /* Its end of the connection on which it spoke to us is closed: by it, or by its kernel when
     * it was killed; after all that came on it. May be NULL. */
    void (*gone)(void *ctx, uint64_t from);
    /* For messages of another thread; must outlive the transport. NULL: there are none. */
    struct door *door;
};

struct transport;
/* ERR_SYSTEM and why: the port cannot be listened on. */
int transport_start(struct transport **out, uv_loop_t *loop,
                    const struct transport_options *options, struct buf *why);
void transport_stop(struct transport *t); /* freed when the loop has closed its handles */
/* To whom connections are kept open. Beside them, while it is heard, to who has proved itself
 * and is not among them: it may know of a change of which we have not been told, and can tell
 * us only if it gets an answer. */
void transport_set_peers(struct transport *t, const struct raft_members *peers);
/* Somebody who has proved itself and says where it can be reached: answers go there, also
 * when it is not among the peers. */
void transport_guest(struct transport *t, const struct raft_member *m);
void transport_send(struct transport *t, uint64_t to, enum transport_channel channel,
                    const uint8_t *data, size_t len);
/* From now on another thread may put messages for one peer through the door; at most one peer
 * at a time. False: not now, it is not connected or bytes for it wait. */
bool transport_lend(struct transport *t, uint64_t to);
#define TRANSPORT_PUT_MAX 256u /* bytes of such a message */
/* Any thread: see door_put(). */
bool transport_put(struct door *d, enum transport_channel channel, const uint8_t *data,
                   size_t len, bool *has_rest);
/* Hands over what was collected since the last time: once in each turn of the loop. */
void transport_flush(struct transport *t);
bool transport_is_connected(const struct transport *t, uint64_t to);
/* Since it was last heard (it says something every 200 ms); UINT64_MAX: never. */
uint64_t transport_silence_ms(const struct transport *t, uint64_t id);
/* Its kernel has closed its connection, and nothing was heard since: its process has ended. */
bool transport_is_gone(const struct transport *t, uint64_t id);
void transport_join_answer(struct transport *t, uint64_t ticket, int err,
                           const struct raft_members *members);
void transport_facts(const struct transport *t, struct transport_facts *out);

/* The other side of join, blocking: asks the machine at address (IP or IP:PORT). On success
 * *out is complete but for name and address, which the caller has set. */
int transport_join(struct identity *out, const char *address, const struct token *token,
                   unsigned timeout_ms, struct buf *why);

#endif
