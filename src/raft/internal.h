/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h -- struct raft and what its files use of each other. Nobody else includes it.
 *
 *   raft.c      life, dispatch of messages and time, facts, invariants
 *   election.c  roles and terms, votes ([R] 5.2, 5.4.1; [D] 4.2.3, 9.6)
 *   leader.c    sending, progress of peers, commit, check-quorum, transfer
 *   follower.c  appends received and answered ([R] 5.3)
 *   snapshot.c  snapshots sent in pieces and received ([R] 7)
 *   save.c      what the disk must hold, and what follows when it does
 *   read.c      read index ([D] 6.4)
 *   members.c   configurations: coding, history, changes ([D] 4)
 *   log.c, msg.c  the log in memory; messages as bytes
 */
#ifndef MUSTER_RAFT_INTERNAL_H
#define MUSTER_RAFT_INTERNAL_H

#include "base/mutant.h"
#include "base/rng.h"
#include "raft/log.h"
#include "raft/msg.h"
#include "raft/raft.h"

enum peer_state {
    PEER_PROBE,     /* where its log agrees with ours is not known: one append at a time */
    PEER_REPLICATE, /* appends go out without waiting for answers */
    PEER_SNAPSHOT,  /* it needs entries that we no longer have */
};

/* What we know of one member; peers.v[i] is about members.v[i]. */
struct peer {
    uint64_t id;
    bool granted; /* its (pre-)vote in the running election */

    /* The rest is the leader's, and starts anew with each leadership. */
    enum peer_state state;
    uint64_t match_round; /* the last one that had begun when match was told */
    bool went_back;       /* it has forgotten some of what it had acknowledged */
    uint64_t match;       /* its log agrees with ours up to here and is on its disk */
    uint64_t next;        /* the next entry to send */
    bool is_probing;      /* PROBE: one append is out */
    uint64_t commit_sent; /* the commit index that it has been told */
    uint64_t heard_ms;    /* 0: not in this leadership */
    uint64_t round;       /* the last heartbeat round that it answered */

    /* Appends not yet covered by match: the last index and the bytes of each. */
    struct {
        uint64_t last;
        uint64_t bytes;
    } flight[RAFT_INFLIGHT_MAX];
    unsigned flight_first, flight_n;
    unsigned window; /* so many at once: 1 after a refusal, doubled with each progress */
    uint64_t flight_bytes;
    uint64_t flight_ms; /* when the last of them went out */

    uint64_t offset;   /* SNAPSHOT: the piece to send, or that is out */
    bool is_chunk_out; /* one piece in flight at most */
    uint64_t chunk_ms; /* when it went out */

    bool has_told;           /* its birth, in this term; and what it is. Another than the */
    uint64_t birth;          /* configuration's: see members.c */
    bool is_caught_up;       /* a learner: see catch_up() in leader.c */
    uint64_t catch_up_index; /* the end of the present catch-up round */
    uint64_t catch_up_ms;    /* when that round began */
};

/* A message waiting to be taken; dropped if the term has moved on by then. */
struct queued {
    uint64_t to;
    uint64_t at_term;
    struct raft_msg msg;
};

struct pending_read {
    uint64_t ctx;
    uint64_t index;
    uint64_t round; /* confirmed when a quorum has answered this round or a later one */
};

struct raft {
    struct raft_options opt;
    struct rng rng;
    uint64_t now_ms;
    bool is_started;

    /* [R] figure 2, persistent state */
    uint64_t term;
    uint64_t vote;
    struct raft_log log;

    enum raft_role role;
    uint64_t leader;          /* of this term, as far as we know */
    uint64_t leader_heard_ms; /* valid while leader is somebody else */
    uint64_t election_ms;     /* when we lose patience; RAFT_NEVER: not a voter, or leading */
    uint64_t commit;
    uint64_t applied, applied_term;

    /* members.c: the configuration in use is the latest in the log ([D] 4.1) */
    struct raft_members members;
    struct raft_members members_base;    /* as of log.base */
    struct raft_members members_applied; /* as of applied */
    uint64_t members_index;              /* where `members` stands */
    uint64_t *config_at;                 /* indices of the log's configurations, ascending */
    size_t config_n, config_room;
    struct peer peers[RAFT_MEMBERS_MAX];

    /* save.c. Disk: entries up to disk_good agree with the log, the disk's log ends with
     * disk_last; both as of when the batch in flight has landed. */
    uint64_t saved; /* entries up to here are on disk now */
    uint64_t saved_term, saved_vote;
    uint64_t given_term, given_vote; /* what the batch in flight makes of these two */
    uint64_t disk_good, disk_last;
    struct raft_blob *snapshot_unsaved; /* received, not yet given to the disk */
    struct raft_blob *install;          /* received and saved: for the state machine */
    struct {
        bool is_active, hard;
        struct raft_blob *snapshot;
        struct raft_entry **entries;
        size_t n, room;
        uint64_t good;     /* its entries up to here are still in our log */
        struct buf answer; /* that whoever saves may give; empty: none. What it says: */
        uint64_t answer_term, answer_match, answer_round;
    } flight;

    /* election.c */
    bool has_asked;        /* candidate: our own vote is saved and the others are asked */
    unsigned terms_lost;   /* that have begun since a leader was last known */
    bool is_reluctant;     /* others shall come first */
    bool is_forced;        /* this campaign was ordered by the leader ([D] 3.10) */
    uint64_t vote_owed_to; /* granted, not yet saved, so not yet answered */

    /* follower.c */
    uint64_t matched;        /* our log agrees with the leader's up to here, in this term */
    uint64_t answered_match; /* what we last told the leader */
    uint64_t round, answered_round; /* the leader's last round; the last one we answered */
    bool is_answer_owed;            /* until the term is saved */
    struct {
        struct raft_blob *blob; /* the disk has `have` of its bytes */
        uint64_t term, have;
        bool is_waiting; /* a piece, for the disk */
    } incoming;
    struct buf piece; /* it, also while the disk writes it; the message that brought it: */
    uint64_t piece_from, piece_at;

    /* leader.c; `round` above is then the last round that we started */
    uint64_t leader_since_ms;
    uint64_t term_first; /* our empty entry ([R] 8) */
    uint64_t heartbeat_ms_next;
    uint64_t transfer_to, transfer_until_ms;
    bool is_transfer_sent;
    bool is_send_owed; /* peers may have something to be sent */
    struct raft_blob *snapshot_out;
    uint64_t held; /* see raft_hold() */
    struct {
        bool is_there, is_wanted;
        uint64_t at, wanted_at;
        struct buf data;
    } sending; /* the piece of snapshot_out that was read last */

    /* The job that is out; is_stale: nobody wants its result any more. */
    struct {
        bool is_out, is_stale;
        enum raft_job_kind kind;
        struct raft_members members;
        uint64_t at;
        struct buf data; /* READ */
    } job;
    struct raft_went_back went_back; /* id RAFT_NOBODY: nothing to be told */

    /* read.c: both are arrays used from `first` on */
    struct pending_read *reads;
    size_t reads_first, reads_n, reads_room;
    struct pending_read *answers;
    size_t answers_first, answers_n, answers_room;

    struct queued *queue; /* a ring of queue_room, a power of two */
    size_t queue_first, queue_n, queue_room;
};

/* raft.c */
void raft_send(struct raft *r, uint64_t to, const struct raft_msg *m);
/* No room for len bytes more, but there is an entry whose applying makes some. */
bool raft_log_is_full(const struct raft *r, size_t len);

/* election.c */
void raft_patience_draw(struct raft *r);
void raft_follow(struct raft *r, uint64_t term, uint64_t leader);
void raft_election_due(struct raft *r);
void raft_election_saved(struct raft *r);
void raft_campaign(struct raft *r, bool is_forced);
bool raft_is_sticky(const struct raft *r);
int raft_on_vote(struct raft *r, const struct raft_msg *m);
int raft_on_vote_answer(struct raft *r, const struct raft_msg *m);
void raft_on_timeout_now(struct raft *r, const struct raft_msg *m);

/* leader.c */
void raft_lead(struct raft *r);
void raft_lead_end(struct raft *r);
void raft_peer_reset(struct raft *r, struct peer *p);
void raft_peer_probe(struct raft *r, struct peer *p, uint64_t next);
bool raft_peer_is_heard(const struct raft *r, const struct peer *p); /* lately */
uint64_t raft_append(struct raft *r, enum raft_entry_type type, const void *payload,
                     size_t len);
void raft_send_all(struct raft *r);
void raft_beat(struct raft *r); /* a new heartbeat round to everybody */
void raft_commit_advance(struct raft *r);
void raft_leader_due(struct raft *r);
uint64_t raft_leader_deadline(const struct raft *r);
uint64_t raft_quorum_contact_ms(const struct raft *r);
int raft_on_append_answer(struct raft *r, struct peer *p, const struct raft_msg *m);

/* The greatest value that a majority of voters has reached; of us, ours. 0: no voters. */
uint64_t raft_quorum_value(const struct raft *r, uint64_t (*value)(const struct peer *p),
                           uint64_t ours);

/* follower.c */
int raft_on_append(struct raft *r, const struct raft_msg *m);
void raft_answer_saved(struct raft *r);
/* Puts the answer together that is true when the entries up to `saved` are on disk. */
bool raft_answer_prepare(struct raft *r, uint64_t saved);
void raft_answer_deposed(struct raft *r, uint64_t leader);
void raft_truncate(struct raft *r, uint64_t from);
void raft_commit_to(struct raft *r, uint64_t index);

/* snapshot.c */
void raft_snapshot_send(struct raft *r, struct peer *p);
void raft_snapshot_out_drop(struct raft *r, bool even_if_used);
int raft_on_chunk(struct raft *r, const struct raft_msg *m);
int raft_on_chunk_answer(struct raft *r, struct peer *p, const struct raft_msg *m);
void raft_incoming_drop(struct raft *r);
void raft_snapshot_free(struct raft *r);
bool raft_chunk_fill(const struct raft *r, struct raft_msg *m, struct buf *members);

/* save.c */
void raft_saved_rollback(struct raft *r, uint64_t from);
void raft_saved_forget(struct raft *r, uint64_t from);
void raft_save_free(struct raft *r);

/* read.c */
void raft_reads_confirm(struct raft *r);
void raft_reads_drop(struct raft *r);
bool raft_reads_wait(const struct raft *r); /* for a round that has not begun */
uint64_t raft_round_confirmed(const struct raft *r);

/* members.c */
bool raft_is_voter(const struct raft *r, uint64_t id);
bool raft_may_campaign(const struct raft *r);
/* Where the configuration in use stands; what is known of it when that left the log. */
void raft_config_position(const struct raft *r, uint64_t *index, uint64_t *term);
bool raft_can_spare(const struct raft *r, uint64_t id); /* those heard are a majority without */
bool raft_is_another_birth(const struct raft *r, const struct peer *p);
struct peer *raft_peer_find(struct raft *r, uint64_t id);
void raft_config_appended(struct raft *r, const struct raft_entry *e);
void raft_config_truncated(struct raft *r, uint64_t from);
void raft_config_compacted(struct raft *r, uint64_t upto);
void raft_config_reset(struct raft *r, const struct raft_members *base);
void raft_promote_ready(struct raft *r);

#endif
