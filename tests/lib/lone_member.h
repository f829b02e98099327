/* SPDX-License-Identifier: Apache-2.0 */
/* lone_member.h -- a cluster of one, its disk always quick, for tests of what a client sees. */
#ifndef LONE_MEMBER_H
#define LONE_MEMBER_H

#include "base/rng.h"
#include "server/member.h"
#include "shelf.h"
#include "wire/wire.h"

#define LONE_CONNS 16 /* numbers 1 to 15 */

struct lone {
    struct member *member;
    struct rng rng;
    uint64_t now_ms;
    struct buf out[LONE_CONNS]; /* what each connection has been sent */
    bool closed[LONE_CONNS];
    uint64_t peer_messages;
    struct shelf shelf;
};

void lone_start(struct lone *l, uint64_t seed);
/* Set otherwise (raft's part and snapshot_every are the test's), and one of so many voters, of
 * which the others are never heard. */
void lone_start_with(struct lone *l, uint64_t seed, const struct member_options *more,
                     unsigned voters);
void lone_stop(struct lone *l);
/* Time goes on by ms, in steps; all that is due happens. */
void lone_run(struct lone *l, uint64_t ms);
void lone_open(struct lone *l, uint64_t conn);
/* A frame's content, without its length; then a turn. */
void lone_frame(struct lone *l, uint64_t conn, const void *data, size_t len);
/* A connect request; session 0: a new one. */
void lone_connect(struct lone *l, uint64_t conn, int64_t session, const uint8_t *password,
                  int32_t timeout_ms);
void lone_connect_as(struct lone *l, uint64_t conn, const struct wire_connect_request *q);
/* A request with a header; body may be NULL. */
void lone_request(struct lone *l, uint64_t conn, int32_t xid, int32_t op,
                  const struct buf *body);
/* The next frame that the connection was sent: its content, or NULL. Borrowed until the next
 * call for this connection. */
const uint8_t *lone_next(struct lone *l, uint64_t conn, size_t *len);

#endif
