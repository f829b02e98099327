/* SPDX-License-Identifier: Apache-2.0 */
/* session.h -- sessions in order of their id, and the ephemerals that each owns.
 *
 * Inside src/tree only. A session's ephemerals are kept in the order of their creation,
 * which is the order in which they go when it is closed.
 */
#ifndef MUSTER_TREE_SESSION_H
#define MUSTER_TREE_SESSION_H

#include "tree/tree.h"

/* The ids of sessions: this and the zxid of their creation. */
#define SESSION_ID_BASE 0x0100000000000000

struct session {
    int64_t id;
    int32_t timeout_ms;
    struct tree_origin origin;
    uint8_t password[TREE_PASSWORD_LEN];
    uint32_t first, last, count; /* its ephemerals */
    uint32_t saved_in, place;    /* snapshot.h */
};

struct session_row {
    int64_t id;
    struct session *session; /* NULL: closed; the row stays until there are many such */
};

struct sessions {
    struct session_row *rows; /* ids ascend */
    size_t n, cap, count;
};

void sessions_free(struct sessions *s);
struct session *sessions_find(const struct sessions *s, int64_t id);
struct session *sessions_above(const struct sessions *s, int64_t id); /* the next one */
/* The id must be above all that ever were. */
struct session *sessions_add(struct sessions *s, int64_t id);
void sessions_add_take(struct sessions *s, struct session *x); /* likewise */
void sessions_remove(struct sessions *s, struct session *x);

/* One znode's being ephemeral; known by a number, from 1 (node.owner). */
struct ephemeral {
    struct session *session;
    uint32_t node;
    uint32_t part; /* which operation of its multi made it */
    uint32_t next, prev;
};

struct ephemerals {
    struct ephemeral *rows; /* [0] is never used */
    uint32_t n, cap, free, count;
};

void ephemerals_free(struct ephemerals *e);
uint32_t ephemerals_add(struct ephemerals *e, struct session *x, uint32_t node, uint32_t part);
/* Takes it from its session; put back in the reverse order, it stands where it stood. */
void ephemerals_unlink(struct ephemerals *e, uint32_t id);
void ephemerals_relink(struct ephemerals *e, uint32_t id);
void ephemerals_drop(struct ephemerals *e, uint32_t id);
struct ephemeral *ephemerals_at(const struct ephemerals *e, uint32_t id);

#endif
