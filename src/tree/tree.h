/* SPDX-License-Identifier: Apache-2.0 */
/* tree.h -- the replicated state machine: znodes and sessions.
 *
 * A function of the log: every replica applies the same entries in the same order and
 * comes to the same tree, the same answers and the same errors. Pure: no clock, no chance,
 * no log call. The zxid of an entry is its index in the log.
 *
 * Semantics are ZooKeeper 3.8's with the corrections listed in docs (watch modes side by
 * side as in 3.9; createTTL with bad flags refused; lone check refused).
 */
#ifndef MUSTER_TREE_H
#define MUSTER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "tree/watch.h"
#include "wire/wire.h"

#define TREE_PASSWORD_LEN 16
/* Bytes of a tree, as tree_bytes() counts them, however it is set: what would make it larger
 * is ERR_QUOTA_EXCEEDED. (A snapshot that is sent to a follower has at most 1 GiB.) */
#define TREE_BYTES_MAX (960u << 20)
/* Of the answer to one multiRead: a request of a few kB could ask for gigabytes. Above it the
 * request is ERR_MALFORMED, which is what the protocol has for it. */
#define TREE_MULTI_READ_BYTES_MAX (64u << 20)

/* Operations that exist only in the log, beside ZooKeeper's own numbers (wire.h). */
enum {
    TREE_OP_CREATE_SESSION = -10,
    TREE_OP_CLOSE_SESSION = -11,
    TREE_OP_ATTACH_SESSION = -20, /* a client reconnects, here or to another server */
    TREE_OP_LAPSE = -21,          /* the leader deletes a container or a TTL znode */
    /* The leader says who the servers are: /zookeeper/config becomes the text and a line with
     * its version, the zxid. Or how a reconfig has ended. Body: see tree_config_encode(). */
    TREE_OP_SET_CONFIG = -30,
    /* Not the tree's: replicas compare what they have (server/member_digest.c). */
    TREE_OP_DIGEST_MARK = -40,   /* each notes its digest as of this entry, and tells it */
    TREE_OP_DIGEST_AGREED = -41, /* what a majority has had at a mark */
};

/* Where a session's client is connected: the server's incarnation and its connection.
 * A request through any other origin is refused with ERR_SESSION_MOVED. {0, 0} is the
 * ensemble itself (expiry). */
struct tree_origin {
    uint64_t server, conn;
};

/* How the ensemble is set: what a replica may not decide by its own settings, since all must
 * come to the same result. The leader's settings count; they stand in each entry. */
enum {
    TREE_RULE_SKIP_ACL = 1 << 0,       /* access lists are not looked at (skipACL) */
    TREE_RULE_ENFORCE_QUOTA = 1 << 1,  /* hard limits refuse (enforceQuota) */
    TREE_RULE_EXTENDED_TYPES = 1 << 2, /* there are TTL znodes (extendedTypesEnabled) */
    TREE_RULE_NO_DIGEST = 1 << 3,      /* DigestAuthenticationProvider.enabled=false */
    TREE_RULE_RECONFIG = 1 << 4,       /* clients may change the ensemble (reconfigEnabled) */
    TREE_RULE_STANDALONE = 1 << 5, /* an ensemble needs two participants (standaloneEnabled) */
    TREE_RULE_NO_ROOM = 1 << 6, /* the disks are full: this one is refused, its body left out */
    TREE_RULES_ALL = (1 << 7) - 1,
};

/* One entry of the log. */
struct tree_txn {
    int32_t op;
    int32_t cxid;    /* the client's xid; carried, never looked at */
    int64_t session; /* CREATE_SESSION: 0, the tree chooses; else whose */
    int64_t time_ms; /* wall clock of the leader */
    struct tree_origin origin;
    uint64_t seq;         /* numbers the requests of origin.server; carried for the server */
    uint8_t rules;        /* TREE_RULE_ */
    uint32_t bytes_max;   /* of the whole tree; 0, or more than that: TREE_BYTES_MAX */
    struct wire_list ids; /* struct wire_id: as whom the client has authenticated; borrowed */
    int32_t timeout_ms;   /* CREATE_, ATTACH_SESSION: negotiated */
    uint8_t password[TREE_PASSWORD_LEN]; /* CREATE_: to be set; ATTACH_: shown */
    /* The request's record as the client sent it; ATTACH_: the last zxid seen (i64), or nothing
     */
    const uint8_t *body;
    size_t len;
};
void tree_txn_encode(const struct tree_txn *t, struct buf *out);
/* body and ids are borrowed */
int tree_txn_decode(struct tree_txn *t, const uint8_t *data, size_t len);

/* What an entry did. `reply` is the caller's, to which the response record is appended
 * (nothing on error); NULL: not wanted. A multi that failed has err 0 and says so inside. */
struct tree_result {
    int err;         /* 0 or what the reply header carries */
    int64_t session; /* CREATE_SESSION: the new id */
    bool is_full;    /* it, or a part of it, was refused because of bytes_max */
    struct buf *reply;
};

struct tree;
struct tree *tree_new(uint64_t hash_key);
void tree_free(struct tree *t);

/* Applies one entry; zxids must ascend. Changes are shown to `watches` (may be NULL), which
 * calls its sink in order. Any bytes in txn->body are safe: what cannot be decoded is
 * ERR_MALFORMED. Other errors, beside ZooKeeper's own for the operation:
 *   ERR_SESSION_EXPIRED  the session is not known; ATTACH_: or the password is wrong
 *   ERR_SESSION_MOVED    it was attached from elsewhere; nothing was done
 *   ERR_AHEAD            ATTACH_: the client has seen a zxid that is not before this entry */
void tree_apply(struct tree *t, int64_t zxid, const struct tree_txn *txn,
                struct watches *watches, struct tree_result *out);

/* Who applies many asks the memory for what they will look up, before: in a large tree all of
 * it lies where no cache has it. Nothing is changed; any bytes are safe. Zero-initialised is
 * new. */
#define TREE_AHEAD 24u /* entries between the one that is shown and the one that is applied */
struct tree_ahead {
    uint64_t shown;
    struct {
        uint32_t hash, id; /* of the path; of a znode in its bucket */
        bool is_one;
    } of[TREE_AHEAD];
};
bool tree_ahead_pays(const struct tree *t); /* it is larger than caches are */
void tree_ahead(struct tree_ahead *a, const struct tree *t, const uint8_t *data, size_t len);

/* True if the operation goes through the log; else tree_read() serves it (sync, ping, auth
 * and closing are the server's own). ERR_UNIMPLEMENTED operations are neither. */
bool tree_op_is_write(int32_t op); /* of a client: not the TREE_OP_ ones */

/* What a write needs of disks that are nearly full, the least first; of a multi, the most of
 * its operations. It is estimated before the write: what it will find may be otherwise. */
enum tree_need {
    TREE_NEED_NOTHING, /* deletes, or ends a session: frees room */
    TREE_NEED_CLAIM,   /* TREE_NEED_LITTLE below /muster/: who has which address */
    TREE_NEED_LITTLE,  /* an ephemeral, or data of the session's own ones: goes with it */
    TREE_NEED_ROOM,    /* all else */
    TREE_NEEDS_N
};
#define TREE_LITTLE_MAX 4096u /* bytes of the request; above that it is TREE_NEED_ROOM */
enum tree_need tree_need(const struct tree *t, int64_t session, int32_t op, const uint8_t *body,
                         size_t len);
bool tree_op_is_read(int32_t op);

/* Who asks. */
struct tree_caller {
    uint64_t watcher; /* his connection */
    int64_t session;
    uint8_t rules;
    struct wire_list ids; /* as in an entry */
};

/* Serves a read: exists, getData, getChildren, getChildren2, getACL, getEphemerals,
 * getAllChildrenNumber, multiRead, whoAmI, addWatch, removeWatches, checkWatches, setWatches,
 * setWatches2. Registers the watch of the caller where asked. Returns 0 or the error for the
 * header; appends the response record to reply. Catch-up events of setWatches go to the
 * sink. */
int tree_read(struct tree *t, struct watches *watches, const struct tree_caller *caller,
              int32_t op, const uint8_t *body, size_t len, struct buf *reply);

/* Whether an access list (its elements) gives one of these permissions to one of these ids. */
bool tree_acl_lets(struct wire_list acl, struct wire_list ids, int32_t perms);

/* ---- the ensemble ---- */
/* A reconfig is two entries: the client's request, whose checks are made when it is applied;
 * what it wants then stands here, until the leader has made it so, or given up, and says so
 * by a TREE_OP_SET_CONFIG. That entry's result is the client's. At most one at a time.
 * Returns the zxid of the request, 0: there is none. The text (server lines) is borrowed. */
int64_t tree_reconfig(const struct tree *t, const char **text, size_t *len);
/* answers: the zxid of the reconfig that has ended so, with err; 0: none. With an err the text
 * is not looked at. */
void tree_config_encode(int64_t answers, int err, const char *text, size_t len,
                        struct buf *out);
int64_t tree_config_answers(const struct tree_txn *txn); /* of a SET_CONFIG; 0: none */

/* ---- sessions ---- */
int64_t tree_session_id(int64_t zxid); /* of the session that this entry creates */
struct tree_session {
    int64_t id;
    int32_t timeout_ms;
    struct tree_origin origin; /* where its client is connected, or was last */
    uint32_t ephemerals;
};
bool tree_session_get(const struct tree *t, int64_t id, struct tree_session *out);
/* Walks the sessions in order of id: the first with an id above `after`. */
bool tree_session_next(const struct tree *t, int64_t after, struct tree_session *out);
/* Shows a session's ephemerals, in the order of their creation, until visit returns false. */
typedef bool tree_path_visit(void *ctx, const char *path, size_t path_len);
void tree_ephemerals(const struct tree *t, int64_t session, tree_path_visit *visit, void *ctx);

/* ---- what the ensemble deletes by itself ---- */
/* Walks the containers and TTL znodes that may go at this time (wall clock): begin with *at
 * 0. A container that never had a child may go so long after it was last written to (0: it
 * may not). Fills path. */
bool tree_lapse_next(const struct tree *t, uint32_t *at, int64_t time_ms, int64_t never_used_ms,
                     struct buf *path);
/* The body of the TREE_OP_LAPSE that deletes it, if it still may go then. */
void tree_lapse_body(int64_t never_used_ms, const struct buf *path, struct buf *out);

/* ---- snapshots ---- */
/* One at a time is taken: as of now, in portions, while the tree goes on (tree/snapshot.h).
 * Returns how many bytes it will be. */
uint64_t tree_saving_begin(struct tree *t);
enum tree_saving {
    TREE_SAVING_MORE,
    TREE_SAVING_DONE,  /* this was the last portion */
    TREE_SAVING_WRONG, /* likewise, but it must not be used: see tree_saving_digests() */
};
/* Appends the next portion: about so many bytes, and what has changed since the last one. */
enum tree_saving tree_saving_next(struct tree *t, size_t budget, struct buf *out);
/* As of its beginning: by all changes until then; what is in it so far. At the end they are
 * equal, unless memory has changed by itself or an operation has forgotten something. */
void tree_saving_digests(const struct tree *t, uint64_t *counted, uint64_t *anew);
void tree_saving_end(struct tree *t); /* whether it is through or not */
/* In one go; none is being taken. */
void tree_save(struct tree *t, struct buf *out);

/* Loading, in portions of any size. size_bytes: of all of it; the caller has limited it. */
struct tree_loader;
struct tree_loader *tree_loader_new(uint64_t hash_key, uint64_t size_bytes);
/* ERR_CORRUPT: there is no use in going on. */
int tree_loader_add(struct tree_loader *l, const uint8_t *data, size_t len);
/* Frees the loader. 0; ERR_CORRUPT: it is not a whole, valid snapshot; ERR_OTHER_VERSION:
 * whole, but not ours to read. */
int tree_loader_end(struct tree_loader *l, struct tree **out);
void tree_loader_free(struct tree_loader *l);
/* All at once; NULL: not to be used, for whatever reason. */
struct tree *tree_load(uint64_t hash_key, const uint8_t *data, size_t len);

/* ---- facts ---- */
int64_t tree_zxid(const struct tree *t); /* of the last entry applied */
/* Equal trees have equal digests, whatever their hash keys; O(1). Over all znodes and
 * sessions, and the reconfig that is under way; without the zxid. */
uint64_t tree_digest(const struct tree *t);
/* The same, added up anew from all there is: differs when memory has changed by itself, or when
 * an operation has forgotten to count. */
uint64_t tree_digest_anew(const struct tree *t);
struct tree_facts {
    uint64_t znodes; /* the root and the built-in ones counted, each once: 4 at first */
    uint64_t ephemerals, sessions, data_bytes;
    uint64_t path_bytes; /* the lengths of all paths */
    uint64_t bytes;      /* tree_bytes() */
};
void tree_facts(const struct tree *t, struct tree_facts *out);
/* No less than what its snapshot takes; O(1). */
uint64_t tree_bytes(const struct tree *t);

/* Direct look-ups for the server itself (borrowed, until the next apply). */
bool tree_get(const struct tree *t, const char *path, const uint8_t **data, size_t *len);

#endif
