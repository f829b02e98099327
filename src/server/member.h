/* SPDX-License-Identifier: Apache-2.0 */
/* member.h -- one server of the ensemble: raft, tree, sessions and its clients' requests.
 *
 * A core: everything that a server decides is here, so that the simulation runs it whole.
 * The shell (server.c, or the simulation) gives it frames, time and the disk's results,
 * and carries out what it asks for through struct member_io.
 *
 * What it keeps, beside raft's and the tree's own promises:
 * - Replies on a connection come in the order of its requests; a watch event comes before
 *   every reply that shows the change.
 * - Writes of one connection enter the log in their order, each once, also over a change
 *   of the leader: a forward carries the leader's term, and is sent again only when an
 *   entry of a later term shows that it was not taken.
 * - A ping, a connect and a sync are answered only after the leader has touched the
 *   session and a quorum has confirmed, after that, that it leads. So a session lives at
 *   least its timeout from when an answered question was sent (what leases stand on).
 * - Sessions are expired by the leader alone; a new leader gives each its full timeout.
 */
#ifndef MUSTER_MEMBER_H
#define MUSTER_MEMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "raft/raft.h"
#include "server/member_disk.h"
#include "tree/tree.h"

#define MEMBER_FRAME_MAX 1048575u /* bytes of a client's frame, unless set (frame_max) */
/* However it is set: what a write becomes must fit into an entry of the log. */
#define MEMBER_FRAME_LIMIT (RAFT_ENTRY_MAX - (256u << 10))

/* Of the ensemble, unless set (sessions_max). At most: each is 48 bytes of a snapshot, which
 * stand between TREE_BYTES_MAX and RAFT_SNAPSHOT_MAX. */
#define MEMBER_SESSIONS_MAX 1000000u

/* What refuses, or lets wait: sym, the setting or constant that it is, what one sees of it.
 * facts.limited counts them; the shell logs them by name. */
/* clang-format off */
#define MEMBER_LIMITS(L)                                                                        \
    L(FRAME, "jute.maxbuffer", "a longer request ended its connection")                         \
    L(ALL_REQUESTS, "MEMBER_ALL_REQUESTS_MAX", "a connect was refused: too much is in flight")  \
    L(OUTSTANDING, "globalOutstandingLimit", "clients that wait for answers are not read")      \
    L(THROTTLE, "requestThrottleLimit", "requests wait until others are answered")              \
    L(THROTTLED_OP, "throttledOpWaitTime", "a request that waited longer was answered with -127") \
    L(LARGE, "largeRequestMaxBytes", "a large request ended its connection")                    \
    L(WATCHES, "MEMBER_WATCHES_MAX", "a client with more watches lost its connection")          \
    L(ALL_WATCHES, "MEMBER_ALL_WATCHES_MAX", "a client that set one more lost its connection")  \
    L(ENFORCE_AUTH, "enforce.auth.schemes", "a client that has proven nothing got -124")        \
    L(ROOM, "STORE_RESERVE_BYTES", "a connect was refused: a quorum's disks are full") \
    L(LOCALS, "MEMBER_LOCALS_MAX", "a read-only client was refused: there are too many")        \
    L(SESSIONS, "muster.sessionsMax", "a client without a session lost its connection")         \
    L(TREE, "muster.treeBytesMax", "a write that would have made the tree larger got -125")     \
    L(SNAPSHOT, "RAFT_SNAPSHOT_MAX", "the tree is too large to be sent to a server that needs all of it")
/* clang-format on */
#define L(sym, name, text) MEMBER_LIMIT_##sym,
enum member_limit { MEMBER_LIMITS(L) MEMBER_LIMITS_N };
#undef L

/* What a member asks of its shell, at once and in this order. The shell must not call the
 * member from inside. */
struct member_io {
    void *ctx;
    void (*send_peer)(void *ctx, uint64_t to, const uint8_t *data, size_t len);
    void (*send_client)(void *ctx, uint64_t conn, const uint8_t *data, size_t len);
    /* Nothing more comes for this connection, in either direction. What was sent before is
     * still delivered. The shell does not call member_client_closed for it. */
    void (*close_client)(void *ctx, uint64_t conn);
    /* Fills with bytes that nobody can guess: sessions' passwords, incarnations. */
    void (*random)(void *ctx, void *data, size_t len);
    /* What stands for a password: appends the base64 of its hash (DigestAuthenticationProvider:
     * of SHA1, unless set otherwise). */
    void (*digest)(void *ctx, const void *data, size_t len, struct buf *out);
};

struct member_options {
    struct raft_options raft;
    int32_t session_min_ms, session_max_ms; /* default 500, 60000 */
    uint64_t snapshot_every;                /* entries between snapshots; default 50000 */
    uint32_t snapshot_piece;                /* bytes; default MEMBER_SNAPSHOT_PIECE */
    uint32_t load_piece;                    /* likewise; default MEMBER_LOAD_PIECE */
    uint32_t lapse_check_ms;                /* between the leader's rounds; default 60000 */
    uint32_t lapse_per_minute_max;          /* znodes that it deletes; default 10000 */
    int64_t container_never_used_ms;        /* 0: one that never had a child stays */
    uint8_t rules;                          /* TREE_RULE_; count while this server leads */
    const char *super_digest;               /* "super:" and its digest; NULL: nobody is */
    uint32_t frame_max;                     /* default MEMBER_FRAME_MAX */
    uint32_t outstanding_max;               /* default 1000; above it, who waits is not read */
    uint32_t throttle_max;                  /* requests let into work; 0: no limit */
    uint32_t throttled_op_wait_ms;          /* waited longer: refused; 0: never */
    int32_t large_from;                     /* bytes of a large request; 0 or less: none is */
    uint32_t large_bytes_max;               /* of all large ones in flight */
    const char
        *enforce_auth;    /* schemes, with commas: who has proven none is refused; or NULL */
    uint64_t watches_max; /* of one connection; default MEMBER_WATCHES_MAX */
    /* Of all connections; default MEMBER_ALL_WATCHES_MAX, MEMBER_ALL_REQUESTS_MAX. */
    uint64_t all_watches_max, all_requests_max;
    uint32_t sessions_max;   /* default MEMBER_SESSIONS_MAX */
    uint32_t tree_bytes_max; /* TREE_BYTES_MAX, unless set; counts while this server leads */
    uint64_t digest_every;   /* entries after which the replicas compare; default 1000 */
    uint32_t digest_ms;      /* and after a change, at the latest; default 10000 */
    uint32_t read_only_after_ms; /* without a quorum: member_is_read_only(); 0: never */
};

struct member;
struct member *member_new(const struct member_options *options, const struct member_io *io);
void member_free(struct member *m);
/* Before member_start: what store_open found (struct store_load's callbacks, ctx: member).
 * member_load_snapshot: ERR_CORRUPT when it is no valid tree; ERR_OTHER_VERSION. */
void member_load_state(void *m, uint64_t term, uint64_t vote);
int member_load_snapshot(void *m, uint64_t index, uint64_t term,
                         const struct raft_members *members, const uint8_t *data, size_t len);
/* data NULL: they come in pieces, and what they are is said with the last one. */
int member_load_piece(void *m, const uint8_t *data, size_t len);
int member_load_entry(void *m, struct raft_entry *e); /* ERR_CORRUPT: it does not follow */
void member_start(struct member *m, uint64_t now_ms, int64_t wall_ms);

/* ---- events in; now_ms is monotonic, wall_ms since 1970 ---- */
/* Each event may be followed by others; when a batch of them is done, member_flush(). */
void member_time(struct member *m, uint64_t now_ms, int64_t wall_ms);
int member_peer(struct member *m, uint64_t from, const uint8_t *data, size_t len);
void member_peer_gone(struct member *m, uint64_t from); /* see raft_gone */
/* conn is a number that the shell never uses twice in one incarnation; never 0. */
void member_client_opened(struct member *m, uint64_t conn, const char *address);
void member_client_frame(struct member *m, uint64_t conn, const uint8_t *data, size_t len);
void member_client_closed(struct member *m, uint64_t conn);
/* Too much of this connection's is in flight: the shell stops reading it until false. */
bool member_client_is_busy(const struct member *m, uint64_t conn);
void member_flush(struct member *m);
uint64_t member_deadline(const struct member *m);

/* ---- the disk: see raft_save_take ---- */
bool member_save_take(struct member *m,
                      struct raft_save *out); /* the answer: for member_peer() */
bool member_save_is_awaited(const struct member *m);
void member_told(struct member *m);
void member_saved(struct member *m);
/* What the store should do next with snapshots: store_job(). One at a time, beside the saves,
 * and in turn with them; member_job_done() with what came of it. */
bool member_job_take(struct member *m, struct raft_job *out);
void member_job_done(struct member *m, int err);
uint64_t member_sent_snapshot(const struct member *m); /* for store_pin() */
/* How much room there is: whenever it has been measured, at least each second or two. */
void member_room(struct member *m, const struct member_room *room);

/* ---- membership, asked on any server; done by the leader, found in member_raft() ---- */
int member_add(struct member *m, const struct raft_member *joiner);
int member_remove(struct member *m, uint64_t id);
/* Beyond the first snapshot of an ensemble: there may be something to lose. */
bool member_has_data(const struct member *m);
/* NULL, or why this server may not go on: its tree is wrong, or its disk an older one. It is
 * silent by then, for clients and servers. The shell stops it, sets its store aside, and starts
 * it with another birth (member_repair.h). */
const char *member_condemned(const struct member *m);
/* This server is going to stop: if it leads, the voter that is furthest takes over. */
void member_step_down(struct member *m);

/* ---- facts ---- */
const struct raft *member_raft(const struct member *m);
const struct tree *member_tree(const struct member *m);
const struct raft_members *member_members(const struct member *m); /* as of what is applied */
/* This server takes part in a quorum: it leads with one, or follows a leader heard lately. */
bool member_is_serving(const struct member *m);
/* It does not, and has not for read_only_after_ms: clients that ask for it may read what it
 * applied last. (See member_readonly.c.) */
bool member_is_read_only(const struct member *m);
struct member_facts {
    uint64_t connections, watches, outstanding, requests_total, replies_total;
    uint64_t sessions_expired_total, forwards_again_total, malformed_total;
    uint64_t refused_total; /* connects, because of all that is in flight */
    uint64_t lapsed_total;  /* containers and TTL znodes found due, by this leader */
    uint64_t leader_changes_total, heard_leader_ms; /* when the leader was last heard */
    uint64_t read_only_total, local_sessions;       /* times it became read-only; now */
    /* The last entry at which a majority had the same tree as we, and its digest. */
    uint64_t digest_agreed_index, digest_agreed;
    uint64_t digest_mismatches_total;  /* our tree was another: 0, or we end */
    bool digests_are_split;            /* ... the last time that it looked */
    uint64_t snapshots_unseen_total;   /* as a leader: sent though nobody could compare */
    uint64_t digests_unresolved_total; /* as a leader: trees differ, and no majority agrees */
    uint64_t limited[MEMBER_LIMITS_N]; /* times; and of the last time: */
    uint64_t limit_value[MEMBER_LIMITS_N], limit_measured[MEMBER_LIMITS_N];
    struct member_disk_facts disk;
};
void member_facts(const struct member *m, struct member_facts *out);

#endif
