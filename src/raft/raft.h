/* SPDX-License-Identifier: Apache-2.0 */
/* raft.h -- consensus: elections, the replicated log, membership, read index.
 *
 * Pure: no clock, file, socket, thread, log call; chance comes from a seed. One
 * struct raft is one server. The shell (or the simulation) feeds it messages,
 * time and the results of the disk, and takes out what has to be sent, saved and
 * applied. Nothing leaves this core before what it stands on is on disk: a vote is
 * answered after raft_saved() of the vote, an append after raft_saved() of the
 * entries, and a leader counts itself only then. So whatever raft_message_take()
 * gives may be sent at once, and the order of sending and saving is free.
 *
 * Sources, cited at each rule: [R] Ongaro & Ousterhout, "In Search of an
 * Understandable Consensus Algorithm (extended version)", by section and figure;
 * [D] Ongaro's dissertation, by section.
 *
 * Life: raft_new, raft_load* (from the store), raft_start; then any order of
 * raft_step, raft_tick, raft_propose, raft_read, ..., each followed by taking out
 * everything there is. Time is monotonic milliseconds, never going back.
 */
#ifndef MUSTER_RAFT_H
#define MUSTER_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define RAFT_NEVER UINT64_MAX
#define RAFT_NOBODY 0                     /* no server has the id 0 */
#define RAFT_MEMBERS_MAX 15               /* voters and learners together */
#define RAFT_ADDRESS_MAX 128              /* with the NUL; "10.77.0.11:2182" */
#define RAFT_MORE_MAX 128                 /* with the NUL */
#define RAFT_NAME_MAX 64                  /* with the NUL */
#define RAFT_ENTRY_MAX (8u << 20)         /* bytes of one payload */
#define RAFT_MESSAGE_BYTES_MAX (1u << 20) /* entries of one append stop above this */
#define RAFT_SNAPSHOT_CHUNK (256u << 10)
#define RAFT_INFLIGHT_MAX 64 /* append messages to one follower not yet answered */
#define RAFT_INFLIGHT_BYTES_MAX (8u << 20) /* and their bytes: no further one above this */
#define RAFT_GATHER_ENTRIES 128        /* so many go out though an append is not yet answered */
#define RAFT_GATHER_MS 2               /* and fewer after this */
#define RAFT_MESSAGE_ENTRIES_MAX 16384 /* entries of one append */
#define RAFT_MESSAGE_MAX (10u << 20)   /* bytes of any message, however encoded */
#define RAFT_LOG_BYTES_MAX (128u << 20)  /* the log in memory, structs included */
#define RAFT_SAVE_BYTES_MAX (16u << 20)  /* entries of one save batch stop above this */
#define RAFT_SNAPSHOT_MAX (1u << 30)     /* bytes of a snapshot that a leader may send us */
#define RAFT_READS_MAX 65536             /* reads waiting for their round */
#define RAFT_QUEUE_MAX 4096              /* messages waiting to be taken; more are dropped */
#define RAFT_NUMBER_MAX (UINT64_MAX / 4) /* of terms and indices: sums cannot overflow */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

enum raft_entry_type {
    RAFT_ENTRY_EMPTY, /* a new leader's first ([R] 8): lets older terms' entries commit */
    RAFT_ENTRY_DATA,
    RAFT_ENTRY_CONFIG, /* payload: an encoded struct raft_members */
};

struct raft_member {
    uint64_t id;
    bool voter;        /* false: a learner ([D] 4.2.1): receives the log, counts for nothing */
    bool auto_promote; /* of a learner: the leader makes it a voter once it has caught up */
    /* Which of its lives counts: a server that has lost its disk, and with it its votes and
     * what it has acknowledged, begins another. See raft_options.birth. */
    uint64_t birth;
    char name[RAFT_NAME_MAX];
    char address[RAFT_ADDRESS_MAX]; /* where its peers reach it */
    char more[RAFT_MORE_MAX];       /* what its owner keeps with it; raft never looks at it */
};

struct raft_members {
    unsigned n;
    struct raft_member v[RAFT_MEMBERS_MAX]; /* sorted by id */
};

/* An entry is immutable and counted; the log, messages and the saving thread share it. */
struct raft_entry {
    uint64_t index; /* from 1 */
    uint64_t term;
    enum raft_entry_type type;
    unsigned refs; /* touched by the loop thread only */
    uint32_t len;
    uint32_t at; /* in the piece of memory that it shares with others (log.h); 0: in none */
    uint8_t payload[];
};

struct raft_entry *raft_entry_new(uint64_t index, uint64_t term, enum raft_entry_type type,
                                  const void *payload, size_t len);
struct raft_entry *raft_entry_ref(struct raft_entry *e);
void raft_entry_unref(struct raft_entry *e);

/* A snapshot, counted likewise. */
struct raft_blob {
    unsigned refs;
    uint64_t index, term; /* the last entry that it contains */
    struct raft_members members;
    size_t len;
    uint8_t *data; /* NULL: only the store has it */
};
struct raft_blob *raft_blob_new_take(uint64_t index, uint64_t term,
                                     const struct raft_members *members, uint8_t *data,
                                     size_t len); /* takes over data (mem_alloc) */
struct raft_blob *raft_blob_ref(struct raft_blob *b);
void raft_blob_unref(struct raft_blob *b);

/* What the disk is asked for beside saves: a piece of a snapshot, one at a time. */
enum raft_job_kind {
    RAFT_JOB_KEEP,    /* write one of our own; with its last piece it is there */
    RAFT_JOB_RECEIVE, /* write one that the leader sends; the save with it makes it count */
    RAFT_JOB_READ,    /* read one that is there */
};
struct raft_job {
    enum raft_job_kind kind;
    uint64_t index, term;
    const struct raft_members *members; /* borrowed until it is done; READ: NULL */
    uint64_t size;                      /* of all of it */
    uint64_t at; /* where the piece belongs; writing goes upwards from 0 */
    size_t len;
    uint8_t *data; /* borrowed until it is done */
};

struct raft_options {
    uint64_t id;
    uint64_t seed;
    uint32_t heartbeat_ms;    /* default 60 */
    uint32_t election_min_ms; /* default 300; a timeout is drawn from [min, 2 * min) */
    /* Not 0: this server has begun without its disk while the others had data. It does not
     * vote nor campaign before a configuration has it as a voter with this birth: a leader
     * that hears of it makes it a learner first, and counts nothing that it says until then.
     * At most RAFT_NUMBER_MAX. */
    uint64_t birth;
    /* Entries of one append and of one save; default (and at most) RAFT_MESSAGE_ENTRIES_MAX.
     * Tests make it small: more can happen between two messages. */
    uint32_t batch_max;
    /* Bytes of one piece of a snapshot; default (and at most) RAFT_SNAPSHOT_CHUNK. Likewise. */
    uint32_t piece_max;
    /* Of the log in memory; default (and at most) RAFT_LOG_BYTES_MAX. Likewise. */
    uint32_t log_bytes_max;
};

/* ---- life ---- */
struct raft *raft_new(const struct raft_options *options);
void raft_free(struct raft *r);
/* From the store, before raft_start: at most one snapshot position, then entries upwards.
 * A founding server may be given the first configuration as a snapshot at index 0, term 0,
 * or as its entry 1; all founders the same. */
void raft_load_state(struct raft *r, uint64_t term, uint64_t vote);
void raft_load_snapshot(struct raft *r, uint64_t index, uint64_t term,
                        const struct raft_members *members);
/* Takes a reference of its own. Entries up to the snapshot are passed over. ERR_CORRUPT: a
 * gap, terms that go back, or a configuration that cannot be read; not taken. */
int raft_load_entry(struct raft *r, struct raft_entry *e);
void raft_start(struct raft *r, uint64_t now_ms);

/* ---- events in ---- */
/* A message from another server, as bytes. ERR_MALFORMED: nothing changed; it cannot be
 * read, or no correct server could have sent it (two leaders in a term, a committed entry
 * contradicted). `from` is whom the transport has authenticated; a message that says
 * otherwise is malformed. Between servers that work, raft_step always returns 0. */
int raft_step(struct raft *r, uint64_t now_ms, uint64_t from, const uint8_t *data, size_t len);
/* The connection on which `id` spoke to us was ended from its side, after the messages that
 * came on it: its process has ended, or something between us is broken. If it leads, we do not
 * wait until it has been silent for long, but ask the others soon whether they have lost it,
 * too ([D] 9.6). Who still hears it does not answer; so a leader that lives is not deposed by
 * a lost connection. */
void raft_gone(struct raft *r, uint64_t now_ms, uint64_t id);
void raft_tick(struct raft *r,
               uint64_t now_ms); /* raft_deadline() has passed; early is harmless */
uint64_t raft_deadline(const struct raft *r);

/* Appends one entry: ERR_NOT_LEADER, ERR_TOO_BIG, ERR_BUSY (the log in memory is at its
 * limit, or leadership is being transferred). *index is where it will stand if it commits
 * in this term. Sending is batched: call raft_flush() when the batch of proposals, and of
 * reads, is complete. */
int raft_propose(struct raft *r, const void *payload, size_t len, uint64_t *index);
void raft_flush(struct raft *r, uint64_t now_ms);

/* Read index ([R] 8, [D] 6.4): once a quorum has confirmed this leader after now, ctx comes
 * out of raft_read_take() with the index to wait for. ERR_NOT_LEADER; ERR_BUSY before the
 * first entry of this term has committed, or with RAFT_READS_MAX waiting (ask again).
 * Dropped when leadership is lost: raft_read_take() then gives it with index 0. */
int raft_read(struct raft *r, uint64_t now_ms, uint64_t ctx);

/* Membership ([D] 4): one change at a time; ERR_NOT_LEADER, ERR_BUSY while another or a
 * transfer is under way, before this term's first commit, or (promote) while the learner has
 * not caught up; also ERR_BUSY while those that are heard would be no majority without a
 * voter that is to go; ERR_EXISTS, ERR_NOT_FOUND, ERR_UNSAFE (the last voter), ERR_TOO_BIG
 * (RAFT_MEMBERS_MAX), ERR_BAD_ARGUMENTS. A learner with auto_promote set is made a voter by
 * the leader itself once it has caught up, whichever leader that is by then. */
int raft_add_learner(struct raft *r, uint64_t now_ms, const struct raft_member *m);
int raft_promote(struct raft *r, uint64_t now_ms, uint64_t id);
/* What is known of the member becomes *m: all but its vote, except that a voter becomes a
 * learner if !m->voter. With another birth it begins from nothing. ERR_BAD_ARGUMENTS: a
 * learner would become a voter. ERR_UNSAFE: no voter would be left, or it is ourselves. */
int raft_renew(struct raft *r, uint64_t now_ms, const struct raft_member *m);
int raft_remove(struct raft *r, uint64_t now_ms, uint64_t id);
/* [D] 3.10: `to` catches up and campaigns at once; proposals are ERR_BUSY until then, or
 * for an election timeout. ERR_NOT_LEADER, ERR_NOT_FOUND (no voter of this id). */
int raft_transfer(struct raft *r, uint64_t now_ms, uint64_t to);

/* Others shall come first: while nobody leads, this server waits two timeouts longer before it
 * campaigns. When none of the others can be elected, it is. */
void raft_reluctant(struct raft *r, bool is_reluctant);

/* ---- actions out ---- */
/* Encodes the next message to be sent into out (cleared first) and says to whom. */
bool raft_message_take(struct raft *r, uint64_t *to, struct buf *out);

/* What the disk must hold next; one batch at a time: after a take, nothing more until
 * raft_saved(). In order: if `snapshot`, the log is replaced by it (received from the
 * leader: store it, drop all entries up to its index, and all above unless the entry there
 * has its term); else if `truncate`, entries from first_index on are dropped; then
 * entries[] are appended, term and vote are written if `hard`, all synced. The entries are
 * referenced until raft_saved(). A snapshot and a truncation are never in one batch. */
struct raft_save {
    bool hard;
    uint64_t term, vote;
    struct raft_blob *snapshot; /* or NULL */
    bool truncate;
    uint64_t first_index; /* of entries[], also when n is 0 and truncate is set */
    struct raft_entry **entries;
    size_t n;
    /* A follower's: what the leader may be told as soon as all of this is synced, by who has
     * synced it; NULL: nothing. Then raft_told() comes before raft_saved(), and that may come
     * much later. Borrowed until then. Not told, raft says it itself after raft_saved(). */
    struct buf *answer;
    uint64_t answer_to;
};
bool raft_save_take(struct raft *r, struct raft_save *out);
/* False: of the batch that was taken, nothing but its answer follows before something else
 * comes from outside, so that raft_saved() may wait until then. To be asked again after each
 * event. */
bool raft_save_is_awaited(const struct raft *r);
void raft_told(struct raft *r);
void raft_saved(struct raft *r, uint64_t now_ms);

/* The next committed entry to apply, in order, each once (borrowed, until the next event);
 * NULL: none now. Only what is on this server's disk too is given out, so that a snapshot
 * of the state machine never runs ahead of the log on disk. */
const struct raft_entry *raft_apply_take(struct raft *r);
/* The one that it will give after so many others; NULL: not so many are ready. */
const struct raft_entry *raft_apply_ahead(const struct raft *r, uint64_t others);
/* A received snapshot that the state machine must load before applying goes on (the store has
 * it). NULL: none. It may be replaced by a newer one. When it is loaded, it is taken; the
 * caller owns the reference. */
const struct raft_blob *raft_install_wanted(const struct raft *r);
struct raft_blob *raft_install_take(struct raft *r);

bool raft_read_take(struct raft *r, uint64_t *ctx, uint64_t *index);

/* Some follower needs a snapshot and there is none at hand: take one (as of raft_applied, with
 * raft_members_applied), let the store have it, and give it: the caller's reference passes
 * over. It is read and sent in RAFT_SNAPSHOT_CHUNKs, then dropped. Until it is given,
 * raft_hold(index) keeps the entries behind it, unless they are too many; 0: no longer. */
bool raft_snapshot_wanted(const struct raft *r);
void raft_snapshot_give(struct raft *r, uint64_t now_ms, struct raft_blob *b);
void raft_hold(struct raft *r, uint64_t index);
uint64_t raft_snapshot_sent(const struct raft *r); /* its index; 0: none is being sent */

/* Received pieces to be written, and those to be read that are to be sent. */
bool raft_job_take(struct raft *r, struct raft_job *out);
void raft_job_done(struct raft *r, uint64_t now_ms, int err);

/* The store has a snapshot up to index: entries up to it, less `keep`, leave the memory.
 * Above half of log_bytes_max applied entries leave it without being told. */
void raft_compact(struct raft *r, uint64_t index, uint64_t keep);

/* ---- facts ---- */
enum raft_role raft_role(const struct raft *r);
uint64_t raft_id(const struct raft *r);
uint64_t raft_term(const struct raft *r);
uint64_t raft_leader(const struct raft *r); /* RAFT_NOBODY: unknown */
/* Leading, and the first entry of this term has committed. */
bool raft_is_ready(const struct raft *r);
uint64_t raft_committed(const struct raft *r);
uint64_t raft_applied(const struct raft *r); /* the last entry given out by raft_apply_take */
uint64_t raft_applied_term(const struct raft *r);
uint64_t raft_last_index(const struct raft *r);
uint64_t raft_first_index(const struct raft *r); /* the oldest entry still in memory */
uint64_t raft_entry_term(const struct raft *r, uint64_t index); /* 0: not in memory */
const struct raft_members *raft_members(const struct raft *r);  /* the latest in the log */
uint64_t raft_members_index(const struct raft *r); /* where they stand in the log */
/* Leader: a change of the members would be taken now. */
bool raft_may_change(const struct raft *r);
/* As of raft_applied(): what belongs into a snapshot taken now. */
const struct raft_members *raft_members_applied(const struct raft *r);
const struct raft_member *raft_member_find(const struct raft_members *m, uint64_t id);
bool raft_is_stranger(const struct raft *r);     /* see raft_options.birth: it does not vote */
uint64_t raft_log_bytes(const struct raft *r);   /* the log in memory, structs included */
uint64_t raft_saved_index(const struct raft *r); /* up to here the log is on disk */
uint64_t raft_saved_term(const struct raft *r);  /* that the disk has; 0: none yet */
/* Leader: when the peer was last heard (0: not in this term) and how far it is. False: not a
 * member. */
struct raft_peer_facts {
    uint64_t heard_ms;
    uint64_t match;
    bool snapshotting;
};
bool raft_peer_facts(const struct raft *r, uint64_t id, struct raft_peer_facts *out);

/* Leader: a member has answered that its log ends before what it had acknowledged to us: its
 * disk is an older one (a restored image), or has lied. Nothing that it says counts any more:
 * tell it to begin another life (raft_options.birth). Given again with each of its answers.
 * If those that are heard would be no majority without it, it is not given, and what it has
 * is counted anew. An older disk that comes back under another leader is not noticed. */
struct raft_went_back {
    uint64_t id, birth;
    uint64_t had, has; /* the last entry that it had acknowledged; that it says to have */
};
bool raft_went_back_take(struct raft *r, struct raft_went_back *out);

void raft_members_encode(const struct raft_members *m, struct buf *out);
int raft_members_decode(struct raft_members *m, const uint8_t *data, size_t len);

#endif
