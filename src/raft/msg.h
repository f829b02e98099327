/* SPDX-License-Identifier: Apache-2.0 */
/* msg.h -- the messages between servers, and their bytes.
 *
 * One struct for all types; which of its fields a type carries stands once, in msg.c's
 * table, from which both directions are made. A field that a type does not carry is 0.
 *
 * On the wire: version, type, from, the fields in the table's order (big-endian, 8 bytes
 * each), then the tail: entries (count; then each term, type, length, payload) or a piece
 * of a snapshot (members' length, members, bytes). Nothing may follow.
 */
#ifndef MUSTER_RAFT_MSG_H
#define MUSTER_RAFT_MSG_H

#include "base/buf.h"
#include "raft/log.h"

#define RAFT_MSG_VERSION 3
#define RAFT_MSG_ENTRY_HEAD 13u /* bytes of an entry beside its payload */

enum raft_msg_type {
    RAFT_MSG_NONE,
    RAFT_MSG_PREVOTE,
    RAFT_MSG_PREVOTE_ANSWER,
    RAFT_MSG_VOTE,
    RAFT_MSG_VOTE_ANSWER,
    RAFT_MSG_APPEND, /* also the heartbeat: then it has no entries */
    RAFT_MSG_APPEND_ANSWER,
    RAFT_MSG_CHUNK, /* a piece of a snapshot */
    RAFT_MSG_CHUNK_ANSWER,
    RAFT_MSG_TIMEOUT_NOW,
    RAFT_MSGS_END
};

struct raft_msg {
    enum raft_msg_type type;
    uint64_t from;
    uint64_t term; /* the sender's; of a pre-vote and its grant, the term that would be */
    /* (pre-)vote: the sender's last entry; append: the entry before the first one; its
     * answer: the same, echoed; chunk and its answer: the last entry of the snapshot */
    uint64_t index, index_term;
    uint64_t commit;
    uint64_t round;  /* append: the heartbeat round; its answer: echoed ([D] 6.4) */
    uint64_t yes;    /* answers: 0 or 1 */
    uint64_t forced; /* vote: 1 after TimeoutNow, overrides stickiness ([D] 4.2.3) */
    uint64_t match;  /* append answer: agrees with the leader and is on the sender's disk */
    /* append answer: see follower.c; (pre-)vote: where the sender's configuration stands */
    uint64_t hint, hint_term;
    uint64_t birth;  /* (pre-)vote, its answer, append answer: the sender's */
    uint64_t size;   /* chunk: bytes of the whole snapshot */
    uint64_t offset; /* chunk: where it begins; its answer: echoed */
    uint64_t have;   /* chunk answer: bytes that the sender has by now */
    /* The tail; when decoded it points into the bytes. */
    uint64_t count;      /* append: entries index + 1 .. index + count */
    const uint8_t *data; /* append: entries; chunk: the piece */
    size_t len;
    const uint8_t *members; /* chunk: encoded, with the first piece only */
    size_t members_len;
};

/* Appends a message to out. Entries come from the log, which must have them. */
void raft_msg_encode(const struct raft_msg *m, const struct raft_log *log, struct buf *out);

/* ERR_MALFORMED unless every length, count and number is within its limits, the terms of
 * entries rise from index_term to at most term, and each configuration can be read. */
int raft_msg_decode(struct raft_msg *m, const uint8_t *data, size_t len);

/* Walks the entries of a decoded append: start with {m->data, m->index}. */
struct raft_msg_entries {
    const uint8_t *at;
    uint64_t index; /* of the entry last read */
    uint64_t term;
    enum raft_entry_type type;
    uint32_t len;
    const uint8_t *payload;
};
void raft_msg_entry_next(struct raft_msg_entries *e);

const char *raft_msg_name(enum raft_msg_type type);

#endif
