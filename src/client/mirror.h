/* SPDX-License-Identifier: Apache-2.0 */
/* mirror.h -- a local copy of some subtrees, kept up by recursive watches. A core.
 *
 * Level-triggered: after each reconnect everything is read again; an event makes its path
 * be read again. What is here may be old: mirror_as_of() says how old. While there is no
 * connection the last state stays.
 *
 * It never holds more than MIRROR_NODES_MAX znodes and MIRROR_BYTES_MAX bytes of paths and
 * data, of which all roots but the first have three quarters. When there is more it leaves some
 * out and says so: mirror_is_full(). Everything is read again when half of the room is free.
 */
#ifndef MUSTER_MIRROR_H
#define MUSTER_MIRROR_H

#include "client/client.h"

#define MIRROR_ROOTS_MAX 8
#define MIRROR_NODES_MAX 65536u
#define MIRROR_BYTES_MAX (32u << 20)
#define MIRROR_READS_MAX 128u /* under way at a time */

struct mirror;
/* roots: paths, NULL at the end; they need not exist yet. on_change is called when
 * something in the copy has changed, or it has become complete (at most once for each thing
 * that the client tells). It must not free the mirror. */
struct mirror *mirror_new(struct client *c, const char *const *roots,
                          void (*on_change)(void *ctx), void *ctx);
/* The client must not be given events between mirror_free() and client_free(). */
void mirror_free(struct mirror *m);

/* The owner of the client passes these on from its own callbacks. */
void mirror_client_event(struct mirror *m, uint64_t now_ms, enum client_event ev);
void mirror_client_watch(struct mirror *m, uint64_t now_ms, int type, const char *path);

/* stat.children, cversion and pzxid are those of when the node itself was last read: a change
 * among its children does not make it be read again. */
struct mirror_node {
    const char *path; /* NUL-ended */
    const uint8_t *data;
    int32_t len;
    struct client_stat stat;
};
/* Borrowed until the next event. False: not there, as far as we know. */
bool mirror_get(const struct mirror *m, const char *path, struct mirror_node *out);
/* Walks the children of path in order of name: the first whose path sorts after `after`
 * ("": the first). */
bool mirror_child_next(const struct mirror *m, const char *path, const char *after,
                       struct mirror_node *out);
/* Everything (that there is room for) has been read at least once since the last (re)connect,
 * and nothing is being read again now. */
bool mirror_is_complete(const struct mirror *m);
/* When the copy was last known to be whole (complete, or confirmed by a ping after). 0: never.
 */
uint64_t mirror_as_of(const struct mirror *m);
bool mirror_is_full(const struct mirror *m); /* something was left out: a limit above */

#endif
