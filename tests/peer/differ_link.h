/* SPDX-License-Identifier: Apache-2.0 */
/* differ_link.h -- a connection to one server: frames over a socket, waited for. */
#ifndef MUSTER_DIFFER_LINK_H
#define MUSTER_DIFFER_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define LINK_WAIT_MS 30000 /* no answer for so long is an answer, too */

struct link {
    int fd; /* -1: not connected */
    struct buf in;
};

enum link_read { LINK_FRAME, LINK_CLOSED, LINK_SILENT };

/* "ADDRESS:PORT", IPv4. Ends the process when nobody listens. */
void link_open(struct link *l, const char *address);
void link_close(struct link *l);
void link_shut(struct link *l); /* nothing more is sent, but what comes is read */
/* False: the other end has closed. */
bool link_send(struct link *l, const void *data, size_t len);
/* The next frame; it is the caller's until the next call. */
enum link_read link_frame(struct link *l, int wait_ms, const uint8_t **data, size_t *len);
/* Whatever comes next, up to the end or until it has been quiet for wait_ms. */
enum link_read link_rest(struct link *l, int wait_ms);

#endif
