/* SPDX-License-Identifier: Apache-2.0 */
/* differ_draw.h -- which requests the differ sends: a grammar, drawn from a seed.
 *
 * A window is what one session sends until it is some other session's turn. Window `index`
 * of a seed is always the same, whatever came before it and whatever was answered: so
 * windows and single requests can be left out to find the few that matter.
 *
 * What the two servers treat differently on purpose is not drawn, or is explained by a row
 * of differ_rules.h; each such place names its row.
 */
#ifndef MUSTER_DIFFER_DRAW_H
#define MUSTER_DIFFER_DRAW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Parts of the protocol that can be left out (--without): name, what it draws. */
#define DRAW_GROUPS(G)                                     \
    G(acl, "identities, and access lists that refuse")     \
    G(quota, "nodes under /zookeeper/quota, hard limits")  \
    G(ttl, "createTTL, and the modes with a time to live") \
    G(multiread, "multiRead")                              \
    G(whoami, "whoAmI")                                    \
    G(reconfig, "reconfig, which a server alone refuses")
#define G(name, text) DRAW_##name,
enum draw_group { DRAW_GROUPS(G) DRAW_GROUPS_N };
#undef G

enum { DRAW_SLOTS = 5, DRAW_PARTS_MAX = 8, DRAW_REQUESTS_MAX = 120 };

struct draw_request {
    int32_t xid, op;
    uint32_t at, len;  /* its body, in the window's bytes */
    int32_t zxid_back; /* >= 0: the body's first 8 bytes are the zxid that was the last
                          one so many before this window, as its server counts */
    bool alone;        /* what came before is answered first, and it before what follows */
    bool ends;         /* the server closes the connection after its answer */
    uint8_t parts_n;   /* of a multi */
    int32_t parts[DRAW_PARTS_MAX];
};

enum draw_begin {
    DRAW_GO_ON,       /* with the connection that there is; else a new one */
    DRAW_TAKE_OVER,   /* the session connects again while its connection is open */
    DRAW_BAD_PASSWORD /* where there is no connection: first one with a wrong password */
};

enum draw_end {
    DRAW_STAY,
    DRAW_CLOSE, /* the last request closes the session */
    DRAW_LEAVE, /* the connection is closed, the session lives on */
};

struct draw_window {
    unsigned slot;
    bool is_sweep; /* no requests: the whole tree is read, and perhaps deleted */
    bool deletes;
    bool old_client; /* a new connection is one of a client before 3.4 */
    enum draw_begin begin;
    enum draw_end end;
    struct draw_request requests[DRAW_REQUESTS_MAX];
    unsigned n;
    struct buf bytes;
};

/* `groups`: a bit for each draw_group. The window's buffer is used again. */
void draw_window(struct draw_window *w, uint64_t seed, uint64_t index, unsigned groups);

#endif
