/* SPDX-License-Identifier: Apache-2.0 */
/* state.h -- what struct tree is made of. Inside src/tree only.
 *
 * The digest is a sum over all znodes and sessions of hashes that are the same on every
 * replica. Each znode counts in two parts: what it is itself (data, Stat, ACL, owner) and
 * what it knows of its children (pzxid, creates), so that a change below it does not read
 * its data. Whoever changes a part takes it out before and puts it in after.
 */
#ifndef MUSTER_TREE_STATE_H
#define MUSTER_TREE_STATE_H

#include "tree/acl.h"
#include "tree/lapse.h"
#include "tree/node.h"
#include "tree/session.h"
#include "tree/tree.h"
#include "wire/wire.h"

enum undo_kind { UNDO_CREATE, UNDO_DELETE, UNDO_SET };

/* How to take back one operation of a multi. */
struct undo {
    enum undo_kind kind;
    uint32_t node;
    /* CREATE, DELETE: of the parent, before */
    int64_t parent_pzxid;
    int32_t parent_creates;
    /* SET: of the node, before */
    struct node_changes changes;
    int32_t data_len;
    uint8_t *data; /* owned */
};

struct tree {
    int64_t zxid;
    uint64_t digest;
    struct nodes nodes;
    struct acls acls;
    struct sessions sessions;
    struct ephemerals ephemerals;
    struct lapses lapses;
    uint32_t quotas;  /* the znode /zookeeper/quota */
    int64_t reconfig; /* zxid of the one that is under way; 0: none */
    struct buf reconfig_text;

    /* During an apply: */
    bool in_multi;
    bool want_changes; /* somebody watches */
    bool is_full;      /* something was refused for want of room */
    struct undo *undo;
    size_t undo_n, undo_cap;
    /* Shown to the watches at the end: event u8, path's length be32, number of the access
     * list be32 (a reference; 0: everybody may read it), path. */
    struct buf changes;
    struct buf path;        /* of the znode that was made */
    struct buf quota_path;  /* of the limits or stats last looked for (quota.c) */
    struct buf acl, answer; /* scratch */
};

/* One entry, as the operations see it. */
struct step {
    struct tree *t;
    int64_t zxid, time_ms;
    struct session *session;
    uint32_t part; /* number of the operation in its multi */
    uint8_t rules;
    uint32_t bytes_max;
    struct wire_list ids;
};

/* A tree with nothing but a root that has no ACL yet: for the loader to fill. */
struct tree *tree_new_bare(uint64_t hash_key);
/* A znode's two parts; whoever needs several of one path hashes it once. */
uint64_t tree_digest_path(const char *path, size_t len);
uint64_t tree_digest_self_at(const struct tree *t, uint32_t id, uint64_t path);
uint64_t tree_digest_family_at(const struct tree *t, uint32_t id, uint64_t path);
static inline uint64_t tree_digest_self(const struct tree *t, uint32_t id, const char *path,
                                        size_t len)
{
    return tree_digest_self_at(t, id, tree_digest_path(path, len));
}
static inline uint64_t tree_digest_family(const struct tree *t, uint32_t id, const char *path,
                                          size_t len)
{
    return tree_digest_family_at(t, id, tree_digest_path(path, len));
}
uint64_t tree_digest_session(const struct session *x);
/* Whether a znode's access list gives one of these permissions to one of these ids. */
bool tree_may(const struct tree *t, uint32_t id, struct wire_list ids, uint8_t rules,
              int32_t perms);
struct wire_stat tree_stat(const struct tree *t, uint32_t id);

/* Forgets the changes behind the first `len` bytes, shown or taken back. */
void tree_changes_cut(struct tree *t, size_t len);
/* At the end of each call: gives back scratch that one large request has blown up. */
void tree_scratch_trim(struct tree *t);

/* ---- operations: ops.c; the checks of each in ZooKeeper's order ---- */
struct create {
    struct wire_bytes path, data;
    struct wire_list acl;
    bool ephemeral, sequential, container;
    int64_t ttl_ms; /* 0: not a TTL znode */
};
/* Reads the mode of a create-like operation: 0, ERR_BAD_ARGUMENTS or ERR_UNIMPLEMENTED. */
int tree_create_mode(int32_t op, int32_t flags, int64_t ttl_ms, uint8_t rules,
                     struct create *out);
int tree_create(const struct step *s, const struct create *c, uint32_t *id); /* path: t->path */
int tree_delete(const struct step *s, struct wire_bytes path, int32_t version);
int tree_set_data(const struct step *s, const struct wire_set_data_request *r, uint32_t *id);
int tree_set_acl(const struct step *s, const struct wire_set_acl_request *r, uint32_t *id);
int tree_check(const struct step *s, struct wire_bytes path, int32_t version);
/* Removes one whose time has come; no client asks, so nothing is checked. */
void tree_remove_znode(const struct step *s, uint32_t id);
/* New data without a trace in the Stat, and without an event. */
void tree_set_quietly(const struct step *s, uint32_t id, const char *path, size_t len,
                      const char *data, size_t data_len);
/* Whether the tree may grow by so much: 0 or ERR_QUOTA_EXCEEDED. room.c */
int tree_room_for(const struct step *s, uint64_t more);
uint64_t tree_bytes_of_create(const struct create *c, size_t name_len, size_t acl_len);
uint64_t tree_bytes_of_acl(size_t len);
/* TREE_OP_LAPSE: lapse.c */
int tree_lapse(const struct step *s, const uint8_t *body, size_t len);
/* What /zookeeper/config holds, without any check. Returns the znode. */
uint32_t tree_write_config(const struct step *s, const struct buf *text);
/* Between begin and one of the others everything can be taken back; abort is told the
 * digest of the beginning. */
void tree_multi_begin(struct tree *t);
void tree_multi_commit(struct tree *t);
void tree_multi_abort(struct tree *t, uint64_t digest);

/* ---- reconfig.c ---- */
int tree_reconfig_begin(const struct step *s, const uint8_t *body, size_t len);
int tree_set_config(const struct step *s, const uint8_t *body, size_t len);

/* ---- multi.c ---- */
/* Appends the results to t->answer. 0, or ERR_MALFORMED with nothing done. */
int tree_multi(const struct step *s, const uint8_t *body, size_t len);

#endif
