/* SPDX-License-Identifier: Apache-2.0 */
/* reply.h -- the body of a server's reply as a struct client_reply. */
#ifndef MUSTER_REPLY_H
#define MUSTER_REPLY_H

#include "client/client.h"

/* What the decoded texts live in; zero-initialised is valid, reused from reply to reply. */
struct reply_room {
    struct buf text;
    const char **names;
    size_t names_cap;
};
void reply_room_free(struct reply_room *room);

/* Fills *out from the body of a reply to `op` that carried no error. ERR_MALFORMED: no server
 * sends that. What out points to lives as long as room and body. */
int reply_decode(int32_t op, const uint8_t *body, size_t len, struct reply_room *room,
                 struct client_reply *out);

/* A path that a server sent, NUL-ended in room; NULL when it cannot be one. */
const char *reply_path(const void *data, int32_t len, struct reply_room *room);

#endif
