/* SPDX-License-Identifier: Apache-2.0 */
/* door.h -- a socket of one thread, through which another one may put a message.
 *
 * The loop's thread owns the socket. It opens the door for it, and shuts it before it closes
 * the socket and whenever a part of a message waits in front of it. While the door is open,
 * both write only whole messages, each alone: door_enter() to door_leave(), and door_put().
 */
#ifndef MUSTER_DOOR_H
#define MUSTER_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct door;
struct door *door_new(void);
void door_free(struct door *d);

/* The loop's thread. */
void door_open(struct door *d, int fd);
void door_shut(struct door *d);
void door_enter(struct door *d);
/* is_clear: all that was written is out; else the door is shut. */
void door_leave(struct door *d, bool is_clear);
/* What the socket did not take of the last message is appended to out, and is to be written
 * before anything else. False: there is none. To be asked before each write. */
bool door_rest_take(struct door *d, struct buf *out);

/* Any thread; never waits for the socket. False: nothing went out, the message is to take the
 * ordinary way. *has_rest: a part of it did, and the loop is to be woken for the rest. */
bool door_put(struct door *d, const void *data, size_t len, bool *has_rest);

struct door_facts {
    uint64_t messages_total, bytes_total;
};
void door_facts(struct door *d, struct door_facts *out);

#endif
