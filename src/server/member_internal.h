/* SPDX-License-Identifier: Apache-2.0 */
/* member_internal.h -- what the parts of a member share. Not for others.
 *
 *   member.c          life; raft's events in and out; applying; snapshots
 *   member_conn.c     one client's connection: its queue of requests, in order
 *   member_stream.c   writes on their way to the leader, each once, in order
 *   member_reconfig.c who the servers are: /zookeeper/config, and changes that clients ask for
 *   member_disk.c     full and slow disks
 *   member_limits.c   who is let in, and who waits
 *   member_readonly.c clients that may read without a quorum
 *   member_session.c  questions to the leader (ping, sync) and the expiry of sessions
 *   member_sweep.c    containers and TTL znodes whose time has come
 *   member_digest.c   do all replicas have the same tree
 *   member_snapshot.c snapshots: taken, sent, received, loaded, a piece at a time
 *   member_stats.c    what is counted, for those who watch over it
 */
#ifndef MUSTER_MEMBER_INTERNAL_H
#define MUSTER_MEMBER_INTERNAL_H

#include "base/hash.h"
#include "base/list.h"
#include "server/member.h"
#include "server/member_disk.h"
#include "server/member_stats.h"

#define MEMBER_REQUESTS_MAX 1000            /* of one connection, before it is not read */
#define MEMBER_REQUEST_BYTES_MAX (8u << 20) /* likewise */
/* Of all connections, and of those that are gone but whose writes are on their way. Above it
 * nobody may add to what he has asked already, and no session is opened. */
#define MEMBER_ALL_REQUESTS_MAX (256u << 20)
#define MEMBER_REPLY_BYTES_MAX (1u << 20)   /* of one connection and turn; one may pass it */
#define MEMBER_SPARES_MAX 1024              /* buffers that wait to be filled again */
#define MEMBER_SPARE_BYTES_MAX (16u << 10)  /* each of them; larger ones are given back */
#define MEMBER_ORIGINS_MAX 256              /* servers' incarnations remembered in one term */
#define MEMBER_FORWARD_BYTES_MAX (1u << 20) /* of one message; a single write may pass it */
#define MEMBER_RETRY_MS 100                 /* an unanswered forward or question is repeated */
#define MEMBER_TOUCH_MS 100                 /* how often activity is told to the leader */
#define MEMBER_LEADERLESS_MS 1000           /* then the clients are sent to other servers */
#define MEMBER_SNAPSHOT_BYTES (64u << 20)   /* of entries: a snapshot before snapshot_every */
#define MEMBER_SNAPSHOT_BYTES_MAX (256u << 20) /* likewise, however large the tree is */
#define MEMBER_SNAPSHOT_PIECE (256u << 10)     /* of it, taken from the tree at once */
#define MEMBER_LOAD_PIECE (256u << 10)         /* of one received, read and loaded at once */
#define MEMBER_TOUCHES_MAX 10000               /* sessions named in one question */
#define MEMBER_GRACE_MS 200                    /* to read what came while we did not run */
#define MEMBER_IDS_BYTES_MAX (8u << 10)        /* of what one connection has proven */
#define MEMBER_IDS_MAX 32                      /* and how many ids: each write carries them */
#define MEMBER_PASSED_MAX 32                   /* reads of a connection that its writes pass */
#define MEMBER_WATCHES_MAX 4000000             /* (path, kind), of one connection */
#define MEMBER_ALL_WATCHES_MAX 16000000        /* about 150 bytes each, and the path */
#define MEMBER_FORGET_MAX 10000   /* watches of clients that are gone, in one turn */
#define DIGESTS_KEPT 4            /* of our own, by mark */
#define MEMBER_LOCALS_MAX 20000   /* sessions of read-only mode */
#define MEMBER_LOCALS_LOOK_MS 100 /* how late their end may be */

/* The last byte of a message between members (so that raft's own bytes need no copy). */
enum message_type {
    MSG_RAFT = 1, /* what is before it is raft's */
    MSG_FORWARD,  /* u64 term, incarnation, n of the first, u32 count, count * (u32 len, txn) */
    MSG_RESEND,   /* u64 term, incarnation, n that is expected next */
    MSG_QUESTION, /* u64 incarnation, round (0: no answer wanted), u32 count, count * i64 */
    MSG_ANSWER,   /* u64 incarnation, round, index, u32 count, count * i64 sessions refused */
    MSG_ADD,      /* encoded raft_members with one member */
    MSG_REMOVE,   /* u64 id */
    MSG_DISK,     /* u64 term, u8 whose, u8 room, u8 slow, u64 free bytes (member_disk.c) */
    MSG_DIGEST,   /* u8 form, u64 index, digest: see member_digest.c */
    MSG_CONDEMN,  /* u64 birth, had, has: the leader knows that this disk is an older one */
};

enum request_kind {
    REQ_CONNECT,  /* the session is created or attached: goes through the log, blocks */
    REQ_WRITE,    /* goes through the log */
    REQ_READ,     /* served here, when it has become the first */
    REQ_QUESTION, /* ping, sync: asked of the leader when it has become the first; blocks */
    REQ_RECONFIG, /* goes through the log when it has become the first, and waits; blocks */
    REQ_LOCAL,    /* answered here without the tree: auth, errors */
};

/* As whom a connection is known, at some moment: shared by the connection and by the requests
 * that came at that time. A new proof makes a new list. */
struct ids {
    unsigned refs;
    int32_t count;
    uint32_t len;
    uint8_t bytes[]; /* elements: struct wire_id */
};

TAILQ_HEAD(request_list, request);
struct request {
    TAILQ_ENTRY(request) in_conn;   /* while conn != NULL */
    TAILQ_ENTRY(request) in_stream; /* REQ_WRITE, REQ_CONNECT once numbered */
    TAILQ_ENTRY(request) in_list;   /* in *list */
    /* REQ_QUESTION: unasked, round.asked or syncing; any: held, not let into work; or NULL */
    struct request_list *list;
    struct conn *conn; /* NULL: the client is gone, the write goes on */
    struct ids *ids;   /* a reference; NULL: asked before any were known */
    enum request_kind kind;
    int32_t xid, op;
    int err;                             /* REQ_LOCAL: the answer */
    bool close_after;                    /* REQ_LOCAL: and then the connection ends */
    int64_t session;                     /* of the write, kept when the client is gone */
    uint64_t came_ms;                    /* when its frame came */
    int32_t timeout_ms;                  /* REQ_CONNECT */
    uint8_t password[TREE_PASSWORD_LEN]; /* REQ_CONNECT */
    uint64_t conn_id;
    uint64_t seq;       /* in the stream, from 1 */
    uint64_t sent_term; /* 0: not yet given to a leader */
    uint64_t sent_n;    /* its number among those given in that term */
    uint64_t index;     /* REQ_QUESTION: sync waits until this is applied */
    uint64_t round;     /* REQ_QUESTION: the first round that asks it; all later ones do too */
    uint64_t held_ms;   /* in member.held: since when */
    uint32_t len;
    uint8_t body[];
};

enum conn_state { CONN_NEW, CONN_CONNECTING, CONN_OPEN };

struct conn {
    struct hash_link by_id;
    struct hash_link by_session; /* CONN_OPEN only */
    uint64_t id;
    enum conn_state state;
    struct ids *ids;
    int64_t session;
    bool has_read_only_byte;      /* the client knows read-only mode: so the reply has it too */
    struct request_list requests; /* unanswered, oldest first */
    struct request *unsent;       /* the first that was not yet looked at for the stream */
    unsigned passed;              /* reads before it that are not served yet */
    unsigned requests_n;
    unsigned counted_n; /* of them, for globalOutstandingLimit: those with an xid above 0 */
    size_t requests_bytes;
    struct local *local; /* CONN_OPEN, in read-only mode: its session; or NULL */
    struct buf out;      /* what this batch of events has for the client; mostly none */
    struct buf *late;    /* only for a planted fault */
    TAILQ_ENTRY(conn) in_dirty;
    TAILQ_ENTRY(conn) in_touched;
    bool dirty, touched;
    bool doomed;        /* close when out has been handed over */
    int32_t timeout_ms; /* of the session */
    int64_t opened_wall_ms;
    uint64_t heard_ms;
    struct conn_stats stats;
};
TAILQ_HEAD(conn_list, conn);

/* A question on its way: all pings and syncs of one batch. While it is not answered it is
 * asked again with a new id, and with what has been added; an answer to any of them counts. */
struct round {
    uint64_t id; /* the last; 0: none is out */
    uint64_t retry_ms;
    struct request_list asked;
};

/* Leader: the time until which a session lives. */
struct expiry {
    struct hash_link by_session;
    int64_t session;
    int32_t timeout_ms;
    uint64_t until_ms;
    uint64_t queued_ms; /* its place in the heap; until_ms may have moved on since */
    uint64_t attached;  /* the last index at which a client's coming back was proposed */
    size_t at;          /* in the heap */
    bool closing;       /* its end has been proposed */
};

struct expiries {
    struct hash_table by_session;
    struct expiry **heap; /* by queued_ms */
    size_t n, cap;
};

/* Leader: how far a server's stream has been taken in this term. */
struct origin {
    uint64_t peer, incarnation;
    uint64_t taken_n;
};

/* Leader: a question of somebody, while raft confirms it. */
struct asked {
    TAILQ_ENTRY(asked) next;
    uint64_t ctx;  /* raft_read's */
    uint64_t peer; /* who asks; our own id: ourselves */
    uint64_t incarnation, round;
    struct buf refused; /* sessions (i64 each) that are closing or unknown */
};

/* A session of read-only mode: known to this server only. */
struct local {
    struct hash_link by_id;
    int64_t id;
    int32_t timeout_ms;
    uint64_t until_ms;
    struct conn *conn; /* NULL: its client is away */
    bool is_closing;   /* ends with its connection */
    uint8_t password[TREE_PASSWORD_LEN];
};

/* What is known of the trees' digests. */
struct digests {
    struct {
        uint64_t index, digest;
    } own[DIGESTS_KEPT]; /* ours at the marks applied last */
    unsigned own_n;
    uint64_t changed, changed_ms; /* entries since the last mark; when the first was applied */
    /* As a leader. */
    uint64_t mark;          /* the last that we have proposed */
    uint64_t open, open_ms; /* the same, while it is being asked about; 0: none is */
    uint64_t agreed_at;     /* where the log says what they agreed on, if ours is that; or 0 */
    uint64_t busy_ms;       /* the log takes nothing: not again before */
    struct {
        uint64_t id, digest;
    } told[RAFT_MEMBERS_MAX];
    unsigned told_n;
    bool is_split;      /* the last mark's have differed, and no majority has agreed */
    uint64_t wanted_ms; /* since when others wait for one; 0: none does */
};

/* A snapshot that is being taken, or was last. */
struct own_snapshot {
    bool is_active; /* the tree is walked */
    bool is_out;    /* the disk has a piece */
    uint64_t index, term, size;
    struct raft_members members;
    uint64_t at; /* so much of it is written */
    struct buf piece;
};

/* It is for others as well. */
struct offer {
    uint64_t index; /* 0: it is not */
    uint64_t term;  /* in which we lead */
    bool is_agreed, is_saved;
};

/* A snapshot that the leader has sent, on its way into memory. */
struct loading {
    uint64_t index; /* 0: none */
    uint64_t at, size;
    struct tree_loader *loader;
    bool is_out; /* the disk reads a piece */
    uint64_t job_index;
    struct buf piece;
};

struct member {
    struct member_options options;
    struct member_io io;
    struct raft *raft;
    struct tree *tree;
    struct watches *watches;
    uint64_t hash_key;
    uint64_t now_ms;
    int64_t wall_ms;
    uint64_t due_ms; /* member_deadline() at the end of the last turn: when we are woken */
    uint64_t incarnation;

    struct hash_table conns, conns_by_session;
    struct conn *heard; /* whose frame was the last: mostly the next is, too; or NULL */
    struct buf spares[MEMBER_SPARES_MAX]; /* empty: for conn.out */
    unsigned spares_n;
    struct ids *ids_last;     /* of the connection that was opened last: a reference; or NULL */
    size_t requests_bytes;    /* all requests that there are, with their structs */
    size_t large_bytes;       /* of the large ones among them */
    struct request_list held; /* not let into work yet, the oldest first */
    uint64_t held_n;
    struct conn_list dirty, touched;
    uint64_t *gone; /* connections that have left more watches than are forgotten at once */
    size_t gone_n, gone_cap;

    /* Our stream of writes. */
    struct request_list stream; /* numbered, unresolved, by seq */
    struct request *next_send;  /* the first that the present leader has not got */
    uint64_t last_seq;
    uint64_t stream_term; /* the term that sent_n counts in */
    uint64_t stream_n;    /* given to that term's leader */
    uint64_t stream_retry_ms;

    /* Our questions. */
    struct request_list unasked; /* at the head of their connections, in no round yet */
    struct request_list syncing; /* answered; waiting to be applied up to their index */
    struct round round;
    uint64_t round_ids;
    uint64_t touch_ms; /* when activity is told next */

    /* As a leader. */
    uint64_t leading_term; /* 0: not leading */
    struct expiries expiries;
    uint64_t origins_term;
    struct origin origins[MEMBER_ORIGINS_MAX]; /* the oldest first */
    unsigned origins_n;
    uint64_t sweep_ms; /* when the next round is due */
    TAILQ_HEAD(, asked) asked;
    uint64_t asked_ids;

    /* Who the servers are. */
    struct request
        *reconfig; /* of a client here: its first entry is applied; index: its zxid */
    uint64_t config_proposed; /* leader: index of the last SET_CONFIG in this term */
    uint64_t config_set_ms;   /* leader: when one was applied last, or when it began to lead */
    struct buf config_text;   /* leader: the znode's, if it says what raft's members are */
    uint64_t config_text_index; /* where in the log these stand, + 1; 0: not known yet */
    uint64_t config_told_at;    /* leader: the znode says it at this applied index, + 1 */
    int64_t reconfig_zxid;      /* leader: which reconfig the two below are about */
    uint64_t reconfig_ms;       /* when we began with it */
    bool reconfig_gives_up;
    uint64_t hand_over_ms; /* when leadership may be offered again */

    struct member_disk disk;

    uint64_t leader_seen; /* for the count of changes */
    uint64_t serving_ms;  /* when we last were part of a quorum */
    bool serving;

    /* Read-only mode. */
    bool read_only;
    uint64_t lost_ms; /* since when there has been no quorum */
    struct hash_table locals;
    uint64_t locals_due_ms; /* before it, none of them ends */
    uint32_t local_ids;

    struct digests digests;
    struct buf condemned; /* why this server may not go on; empty: it may */

    struct own_snapshot own;
    struct offer offer;
    struct loading loading;
    bool is_raft_job; /* the job that is out */
    uint64_t snapshot_index;
    uint64_t snapshot_bytes; /* of entries applied since */
    struct buf scratch, reply, entry;
    struct member_facts facts;
    struct member_stats stats;
    uint64_t leaderless_ms, unavailable_ms; /* since when; 0: it is not so */
    uint64_t lead_ms;                       /* since when we lead */
};

/* ---- member_conn.c ---- */
struct wire_list ids_list(const struct ids *ids);
void conn_free(struct member *m, struct conn *c);    /* its writes go on without it */
void conn_close(struct member *m, struct conn *c);   /* and tells the shell */
void conn_advance(struct member *m, struct conn *c); /* what can be done now, is */
void conn_write_done(struct member *m, struct request *r, int64_t zxid,
                     const struct tree_result *result);
void conn_question_done(struct member *m, struct request *r);
void request_free(struct member *m, struct request *r);
void conn_watch_event(void *member, uint64_t watcher, enum watch_event event, const char *path,
                      size_t path_len, const struct wire_list *acl);
void conn_flush(struct member *m);
void conn_close_all(struct member *m);
void conn_ids_drop(struct member *m);
struct conn *conn_of_session(struct member *m, int64_t session);
struct conn *conn_find(const struct member *m, uint64_t id);
/* Answers a connect request of a client that may only read; session 0: there is none. */
void conn_open_local(struct member *m, struct conn *c, int64_t session, int32_t timeout_ms,
                     const uint8_t *password);

/* ---- member_limits.c ---- */
/* value: what it is set to; measured: what was above it. 0, 0: it is no number. */
void limit_hit(struct member *m, enum member_limit limit, uint64_t value, uint64_t measured);
/* A client may have a new session. */
bool limits_one_more_session(struct member *m);
/* The tree is not too large for a follower that needs all of it. (It is when it was made by
 * something else than its clients.) */
bool limits_may_send(struct member *m);
/* What this connection has proven is enough for this operation. */
bool limits_know(struct member *m, const struct conn *c, int32_t op);
/* It is one of the large requests, and too much for those that are in flight. */
bool limits_too_large(const struct member *m, size_t len);
static inline bool limits_is_large(const struct member *m, size_t len)
{
    return m->options.large_from > 0 && len >= (size_t)m->options.large_from;
}
/* The next request has to wait: limits_hold() it. */
bool limits_must_hold(const struct member *m);
void limits_hold(struct member *m, struct request *r);
bool limits_admit(struct member *m);                     /* true if somebody was let in */
bool limits_forget(struct member *m, struct request *r); /* true: it was held */
void limits_watches(struct member *m, struct conn *c);   /* it has set one, perhaps */
void limits_gone(struct member *m, uint64_t conn); /* its watches are forgotten, in portions */
void limits_forget_watches(struct member *m);      /* the next portion */

/* ---- member_readonly.c ---- */
void readonly_connect(struct member *m, struct conn *c, const struct wire_connect_request *q,
                      int32_t timeout_ms);
/* How an operation of a client in this mode is answered: 0 done, an error, or 1: as ever. */
int readonly_answer(struct member *m, struct conn *c, int32_t op);
void readonly_gone(struct member *m, struct conn *c); /* the connection is */
void readonly_turn(struct member *m);                 /* begins, ends, lets sessions end */
void readonly_drop(struct member *m);                 /* all its sessions */
uint64_t readonly_deadline(const struct member *m);

/* ---- member_stream.c ---- */
void stream_add(struct member *m, struct request *r);
void stream_send(struct member *m); /* gives the leader what it has not got yet */
void stream_applied(struct member *m, int64_t zxid, const struct tree_txn *txn,
                    const struct tree_result *result);
void stream_drop(struct member *m); /* all of it; a new incarnation begins */
int stream_forwarded(struct member *m, uint64_t from, const uint8_t *data, size_t len);
int stream_resend(struct member *m, const uint8_t *data, size_t len);
uint64_t stream_deadline(const struct member *m);

/* ---- member_session.c ---- */
void session_ask(struct member *m, struct request *r);
void session_send(struct member *m); /* the questions of this batch, as a round */
int session_question(struct member *m, uint64_t from, const uint8_t *data, size_t len);
int session_answer(struct member *m, const uint8_t *data, size_t len);
/* Both: true if something was answered, behind which more may stand. */
bool session_reads(struct member *m);  /* what raft has confirmed */
bool session_synced(struct member *m); /* applying went on: syncs that wait for it */
void session_lead(struct member *m);   /* we lead now: everybody's full timeout */
void session_unlead(struct member *m);
void session_born(struct member *m, int64_t session, int32_t timeout_ms);
void session_gone(struct member *m, int64_t session);
void session_attaching(struct member *m, int64_t session, uint64_t index);
bool session_touch(struct member *m, int64_t session); /* false: unknown, or ending */
/* Until when it lives if nothing is heard of it; false: we do not lead, or it is ending. */
bool session_until(const struct member *m, int64_t session, uint64_t *until_ms);
void session_grace(struct member *m, uint64_t late_ms); /* so long we did not run */
void session_expire(struct member *m);
uint64_t session_deadline(const struct member *m);
void session_forget(struct member *m, struct request *r); /* a question's client is gone */

/* ---- member_disk.c ---- */
void disk_work(struct member *m); /* once a turn */
uint64_t disk_deadline(const struct member *m);
int disk_told(struct member *m, uint64_t from, const uint8_t *data, size_t len);
void disk_job_begins(struct member *m);
void disk_job_ends(struct member *m);
/* Who should lead instead of us: of the healthy, who has most. RAFT_NOBODY: there is none. */
uint64_t disk_heir(struct member *m, bool must_be_healthy);
bool disk_wants_snapshot(struct member *m); /* asked for once: it is made now */
void disk_snapshot_ended(struct member *m, int err);
/* As far as this server knows; of a new session (TREE_OP_CREATE_SESSION) or a write. */
bool disk_refuses(struct member *m, int64_t session, int32_t op, const uint8_t *body,
                  size_t len);

/* ---- member_sweep.c ---- */
void sweep_work(struct member *m);

/* ---- member_stats.c ---- */
enum sent { SENT_CONNECT, SENT_PING, SENT_REPLY, SENT_EVENT };
void stats_sent(struct member *m, struct conn *c, enum sent what, size_t bytes);
/* A request was answered; its reply may still be in c->out. */
void stats_answered(struct member *m, struct conn *c, int32_t op, int32_t xid, int64_t zxid,
                    uint64_t came_ms, bool is_update);
void stats_conn_clear(struct conn_stats *s);
void stats_proposed(struct member *m, size_t bytes);
void stats_committed(struct member *m);
void stats_leader(struct member *m); /* after each turn: who leads, and whether we serve */

/* ---- member_reconfig.c ---- */
void reconfig_lead(struct member *m);
void reconfig_drive(struct member *m); /* the next step towards the servers that are wanted */
/* The result of a client's request, applied; true: it waits for what comes of it. */
bool reconfig_begun(struct member *m, struct request *r, int64_t zxid, int err);
void reconfig_ended(struct member *m, const struct tree_txn *txn, int64_t zxid,
                    const struct tree_result *result);

/* ---- member_digest.c ---- */
void digest_work(struct member *m);
void digest_drop(struct member *m);
uint64_t digest_deadline(const struct member *m);
/* Of each entry: true, it was none of the tree's. */
bool digest_applied(struct member *m, uint64_t index, const struct tree_txn *txn);
int digest_told(struct member *m, uint64_t from, const uint8_t *data, size_t len);

/* ---- member.c ---- */

/* ---- member_snapshot.c ---- */
bool snapshot_may_begin(const struct member *m); /* none is under way, in either direction */
void snapshot_begin(struct member *m);           /* as of now */
/* The one just begun is for others, too: it is given to raft when the store has it and its
 * digest is agreed on. */
void snapshot_offer(struct member *m, bool is_agreed);
void snapshot_agreed(struct member *m, uint64_t index);
void snapshot_offer_drop(struct member *m);
void snapshot_work(struct member *m);                    /* begins one when it is time */
int snapshot_load_end(struct member *m, uint64_t index); /* 0: it is our tree now */
void snapshot_load_drop(struct member *m);
void snapshot_load_begin(struct member *m, uint64_t index, uint64_t size);
void snapshot_free(struct member *m);
/* From here on nothing of this server counts any more: see member_condemned(). The caller
 * writes why. */
struct buf *member_condemn(struct member *m);
/* Puts a txn into the log; we lead. 0 or raft_propose's errors. */
int member_propose(struct member *m, struct tree_txn *txn);
void member_send(struct member *m, uint64_t to, struct buf *message, enum message_type type);

#endif
