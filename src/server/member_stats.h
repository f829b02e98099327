/* SPDX-License-Identifier: Apache-2.0 */
/* member_stats.h -- what a member counts for those who watch over it: the four-letter words,
 * the admin pages and /metrics. Names and meanings are ZooKeeper's, where it has them.
 *
 * Times are milliseconds, as ZooKeeper's are. A read that is served in the turn in which it
 * came has taken 0.
 */
#ifndef MUSTER_MEMBER_STATS_H
#define MUSTER_MEMBER_STATS_H

#include "base/summary.h"
#include "server/member.h"

/* The sizes of messages: the last, and the extremes since the last reset. */
struct sizes {
    bool any;
    uint32_t last, least, most;
};
static inline int64_t size_shown(const struct sizes *s, uint32_t size)
{
    return s->any ? (int64_t)size : -1;
}

/* Of one server, since its start or the last member_stats_reset(). */
struct member_stats {
    struct summary latency;           /* of all requests, from frame to reply */
    struct distribution read, update; /* of those that do not, and do, go through the log */
    uint64_t received, sent; /* frames of clients, their words counted; replies and events */
    uint64_t received_bytes; /* of these frames, with their lengths */
    uint64_t reply_bytes, event_bytes; /* without */
    struct sizes replies, proposals;   /* of replies and events; of what this leader proposed */
    uint64_t connects, reconnects;     /* connect requests; those of a session that was there */
    uint64_t closed_not_serving;       /* connects while there is no quorum */
    uint64_t auth_failed;
    uint64_t proposed;                         /* by this leader */
    uint64_t committed_lead, committed_follow; /* applied while leading, while not */
    uint64_t leaderless;                       /* times that no leader was known */
    struct summary election, unavailable;
    struct distribution pause; /* that the process did not run when it should have */
};
const struct member_stats *member_stats(const struct member *m);
void member_stats_reset(struct member *m);
uint64_t member_leader_ms(const struct member *m); /* for how long we lead; 0: we do not */
uint64_t
member_pending_syncs(const struct member *m); /* questions that raft has not answered */

/* A word came instead of a frame, so many bytes; it was answered. */
void member_client_word(struct member *m, uint64_t conn, size_t bytes);
void member_client_word_done(struct member *m);

/* Of one connection, since its beginning or the last member_conns_reset(). */
struct conn_stats {
    uint64_t received, sent; /* frames */
    int32_t last_op;         /* WIRE_OP_ or TREE_OP_CREATE_SESSION; 0: none */
    int32_t last_cxid;       /* of a real request; -1: none */
    int64_t last_zxid;       /* that a reply carried; -1: none */
    uint64_t last_reply_ms;  /* when (monotonic); 0: none */
    uint64_t last_latency;
    struct summary latency;
};

struct member_conn_facts {
    int64_t session;        /* 0: none yet */
    int32_t timeout_ms;     /* of the session */
    int64_t opened_wall_ms; /* since 1970 */
    uint64_t heard_ms;      /* a frame came, or it was opened (monotonic) */
    unsigned queued;        /* requests not yet answered */
    struct conn_stats stats;
};
bool member_conn_facts(const struct member *m, uint64_t conn, struct member_conn_facts *out);
void member_conns_reset(struct member *m);

/* Sessions in order of id, the first above `after`. */
struct member_session_facts {
    struct tree_session tree;
    bool is_timed;     /* we lead: it is we who let it expire */
    uint64_t until_ms; /* then (monotonic), if nothing is heard */
};
bool member_session_next(const struct member *m, int64_t after,
                         struct member_session_facts *out);

/* The watches of our clients, as watches_by_watcher() and _by_path() show them. */
typedef bool member_watch_visit(void *ctx, int64_t session, const char *path, size_t path_len);
void member_watches(const struct member *m, bool by_path, member_watch_visit *visit, void *ctx);
const struct watches *member_watches_raw(const struct member *m);

#endif
