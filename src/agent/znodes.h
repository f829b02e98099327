/* SPDX-License-Identifier: Apache-2.0 */
/* znodes.h -- makes the tree say what this machine wants it to say. A core.
 *
 * At every step the caller names all znodes that should be there; this compares with the
 * mirror and creates, sets and deletes. An ephemeral belongs to the present session: one of
 * the same name that an earlier session left is waited for. What is no longer wanted is
 * deleted if it is our session's. Level-triggered: a lost answer is made good by the next look.
 */
#ifndef MUSTER_ZNODES_H
#define MUSTER_ZNODES_H

#include "base/buf.h"
#include "client/client.h"
#include "client/mirror.h"

#define ZNODES_NEVER UINT64_MAX
#define ZNODES_AGAIN_MS 200 /* when the mirror does not show what was written */

enum znodes_kind {
    ZNODES_PERSISTENT, /* created if it is not there; its data is left as it is */
    ZNODES_OWN,        /* persistent, and its data is ours */
    ZNODES_EPHEMERAL,
};

struct znodes;
struct znodes *znodes_new(struct client *c, void (*on_answer)(void *ctx), void *ctx);
/* The client must not be given events between this and client_free(). */
void znodes_free(struct znodes *z);

void znodes_begin(struct znodes *z);
void znodes_want(struct znodes *z, const char *path, const void *data, size_t len,
                 enum znodes_kind kind);
/* An ephemeral of our session that is there though nobody wants it any more. */
void znodes_adopt(struct znodes *z, const char *path);
/* The mirror is read, and requests are made, only when can_write. */
void znodes_end(struct znodes *z, const struct mirror *m, uint64_t now_ms, bool can_write);
uint64_t znodes_deadline(const struct znodes *z);
/* How many of our ephemerals are still there, as far as is known. */
unsigned znodes_ephemerals(const struct znodes *z, const struct mirror *m);

#endif
