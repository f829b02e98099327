/* SPDX-License-Identifier: Apache-2.0 */
/* founding.h -- the first start of a server of a zoo.cfg: the conversation before there is
 * data. A shell around member_found.h.
 */
#ifndef MUSTER_FOUNDING_H
#define MUSTER_FOUNDING_H

#include <uv.h>

#include "server/identity.h"
#include "server/member_found.h"

struct founding_options {
    const struct identity *self; /* peers: all servers of the file, as they begin */
    const char *listen_address;
    uint16_t port;
};

/* Blocks, running the loop, until it is clear whether this server begins the ensemble with the
 * others or comes late (*epoch is then that of the others); a signal ends the process as usual.
 * Leaves nothing on the loop. ERR_SYSTEM, and why: the port cannot be listened on. */
int founding_run(uv_loop_t *loop, const struct founding_options *options,
                 enum found_verdict *out, struct epoch *epoch, struct buf *why);

#endif
