/* SPDX-License-Identifier: Apache-2.0 */
/* copy_internal.h -- what the two parts of import --from share. Not for others.
 *
 *   copy.c       one path after the other: look, compare, change
 *   copy_run.c   the two sessions, the walk, --compare and --follow
 */
#ifndef MUSTER_COPY_INTERNAL_H
#define MUSTER_COPY_INTERNAL_H

#include "base/hash.h"
#include "cli/copy.h"
#include "client/client_uv_sync.h"

#define RUNNING_MAX 256
#define SAID_MAX 20 /* lines about one kind of trouble */
#define PROGRESS_MS 2000
#define TURN_MS 1000

enum what {
    SRC_DATA,
    DST_DATA,
    SRC_ACL,
    DST_ACL,
    SRC_NAMES,
    DST_NAMES,
    OP_DATA,
    OP_ACL,
    WHATS
};

struct item;
struct ask {
    struct item *item;
    enum what what;
};

/* One side's znode. */
struct seen {
    bool is_there;
    struct client_stat stat;
    struct buf data;
    int32_t data_len;
    struct buf acl; /* the vector's elements */
    int32_t acl_count;
    bool acl_is_gone; /* it was deleted between the two answers */
};

enum step { LOOKING, CHANGING, DELETING, EMPTYING, LISTING };

struct item {
    struct copy *copy;
    struct hash_link link;
    struct item *next;  /* in the stack */
    struct item *above; /* waits until this one is gone */
    unsigned below;     /* how many of them this one waits for */
    enum step step;
    bool is_running, is_deep, again, again_deep;
    bool is_lost;  /* a connection went while it was asked */
    bool was_full; /* not empty, though its children are gone */
    unsigned waits;
    int op_err;
    struct seen src, dst;
    struct ask asks[WHATS];
    struct buf names; /* of children on either side, NUL-ended */
    size_t path_len;
    char path[]; /* below both roots; "" is the root itself */
};

struct side {
    struct client_sync *sync;
    const char *root; /* "" or "/app" */
    bool was_up;
};

struct counts {
    uint64_t looked, created, set, acls, deleted, different, ephemerals, refused, kept, masked;
};

struct copy {
    struct cmd_env *env;
    struct side from, to;
    bool compare, keep, follow, is_following, stop;
    uint64_t key;
    struct hash_table items;
    struct item *stack;
    unsigned running;
    bool walk_again; /* the source was away: what changed meanwhile was not announced */
    struct counts n;
    uint64_t said_ms, away_since_ms;
    uint64_t happened; /* answers and events so far */
    struct buf path;   /* scratch */
};

struct item *copy_look_at(struct copy *c, const char *path, bool is_deep);
void copy_on_event(void *ctx, enum client_event ev);
void copy_on_watch(void *ctx, int type, const char *path);
void copy_progress(struct copy *c);
void copy_start(struct copy *c, struct item *it);
void copy_seen_clear(struct seen *s);

#endif
