/* SPDX-License-Identifier: Apache-2.0 */
/* A server's writes on their way into the log: in order, each exactly once.
 *
 * All writes of all connections form one stream, numbered by seq. In each term they are
 * given to that term's leader, numbered again by n from 1; the leader takes n only after
 * n - 1, and in its own term only. What was given in an earlier term and has not been
 * applied when the first entry of a later term is applied never will be: entries of the
 * earlier term stand before it or nowhere. Then, and only then, it is given again.
 * (A blind retry would write twice; giving up would make the client guess.) */
#include "server/member_internal.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "wire/wire.h"

#define FORWARD_HEADER 28 /* term, incarnation, n, count */

static struct tree_txn txn_of(const struct member *m, const struct request *r)
{
    struct tree_txn t = {
        .op = r->op,
        .cxid = r->xid,
        .session = r->op == TREE_OP_CREATE_SESSION ? 0 : r->session,
        .origin = {m->incarnation, r->conn_id},
        .seq = r->seq,
        .rules = m->options.rules,
        .ids = ids_list(r->ids),
        .timeout_ms = r->timeout_ms,
        .body = r->body,
        .len = r->len,
    };
    memcpy(t.password, r->password, sizeof t.password);
    return t;
}

void stream_add(struct member *m, struct request *r)
{
    r->seq = ++m->last_seq;
    TAILQ_INSERT_TAIL(&m->stream, r, in_stream);
    if (m->next_send == NULL)
        m->next_send = r;
}

static void number(struct member *m, struct request *r)
{
    if (r->sent_term != m->stream_term) {
        r->sent_term = m->stream_term;
        r->sent_n = ++m->stream_n;
    }
}

/* Accepted here or elsewhere before it was known that there is no room: it stands in the log
 * as refused, and takes next to nothing there. */
static void refuse_if_full(struct member *m, struct tree_txn *t)
{
    t->rules &= (uint8_t)~TREE_RULE_NO_ROOM;
    if (t->op == TREE_OP_CREATE_SESSION || !disk_refuses(m, t->session, t->op, t->body, t->len))
        return;
    t->rules |= TREE_RULE_NO_ROOM;
    t->body = NULL;
    t->len = 0;
    t->ids = (struct wire_list){0};
}

static void propose_all(struct member *m)
{
    for (struct request *r = m->next_send; r != NULL; r = TAILQ_NEXT(r, in_stream)) {
        struct tree_txn t = txn_of(m, r);
        if (r->sent_term != m->stream_term) { /* each once: here nothing gets lost */
            refuse_if_full(m, &t);
            if (member_propose(m, &t) != 0)
                break; /* the log in memory is full: the timer tries again */
            if (r->kind == REQ_WRITE)
                (void)session_touch(m, r->session);
            number(m, r);
        }
        m->next_send = TAILQ_NEXT(r, in_stream);
    }
}

static void forward_header(struct member *m, struct buf *out, uint64_t n, uint32_t count)
{
    buf_clear(out);
    buf_add_be64(out, m->stream_term);
    buf_add_be64(out, m->incarnation);
    buf_add_be64(out, n);
    buf_add_be32(out, count);
}

static void forward_all(struct member *m, uint64_t leader)
{
    struct buf *out = &m->scratch;

    while (m->next_send != NULL) {
        uint32_t count = 0;
        number(m, m->next_send);
        forward_header(m, out, m->next_send->sent_n, 0);
        for (struct request *r = m->next_send; r != NULL; r = TAILQ_NEXT(r, in_stream)) {
            if (count > 0 &&
                out->len + r->len + ids_list(r->ids).len > MEMBER_FORWARD_BYTES_MAX)
                break;
            struct tree_txn t = txn_of(m, r);
            number(m, r);
            size_t at = out->len;
            buf_add_be32(out, 0);
            tree_txn_encode(&t, out);
            buf_put_be32(out, at, (uint32_t)(out->len - at - 4));
            m->next_send = TAILQ_NEXT(r, in_stream);
            count++;
        }
        buf_put_be32(out, FORWARD_HEADER - 4, count);
        member_send(m, leader, out, MSG_FORWARD);
    }
}

/* Nothing has come back for a while: ask whether the leader has all of it. */
static void probe(struct member *m, uint64_t leader)
{
    if (leader == raft_id(m->raft))
        return;
    forward_header(m, &m->scratch, m->stream_n + 1, 0);
    member_send(m, leader, &m->scratch, MSG_FORWARD);
}

/* Before the leader's first entry is applied here, older forwards may still arrive. */
static bool may_send(const struct member *m)
{
    return !TAILQ_EMPTY(&m->stream) && raft_leader(m->raft) != RAFT_NOBODY &&
           (raft_applied_term(m->raft) == raft_term(m->raft) ||
            MUTANT(member_forward_again_at_once));
}

void stream_send(struct member *m)
{
    uint64_t term = raft_term(m->raft), leader = raft_leader(m->raft);

    if (!may_send(m))
        return;
    if (m->stream_term != term) {
        struct request *first = TAILQ_FIRST(&m->stream);
        if (first->sent_term != 0) {
            REACHED(member_forward_again);
            m->facts.forwards_again_total++;
        }
        m->stream_term = term;
        m->stream_n = 0;
        m->next_send = first;
    }
    if (m->next_send != NULL) {
        if (leader == raft_id(m->raft))
            propose_all(m);
        else
            forward_all(m, leader);
        m->stream_retry_ms = m->now_ms + MEMBER_RETRY_MS;
    } else if (m->now_ms >= m->stream_retry_ms) {
        probe(m, leader);
        m->stream_retry_ms = m->now_ms + MEMBER_RETRY_MS;
    }
}

void stream_applied(struct member *m, int64_t zxid, const struct tree_txn *txn,
                    const struct tree_result *result)
{
    struct request *r = TAILQ_FIRST(&m->stream);

    if (r == NULL || r->seq != txn->seq)
        return; /* of a client that is long gone (see stream_drop) */
    if (m->next_send == r)
        m->next_send = TAILQ_NEXT(r, in_stream);
    TAILQ_REMOVE(&m->stream, r, in_stream);
    m->stream_retry_ms = m->now_ms + MEMBER_RETRY_MS;
    if (!reconfig_begun(m, r, zxid, result->err))
        conn_write_done(m, r, zxid, result);
}

void stream_drop(struct member *m)
{
    struct request *r;

    while ((r = TAILQ_FIRST(&m->stream)) != NULL) {
        CHECK(r->conn == NULL);
        TAILQ_REMOVE(&m->stream, r, in_stream);
        request_free(m, r);
    }
    m->next_send = NULL;
    m->stream_term = 0;
    do
        m->io.random(m->io.ctx, &m->incarnation, sizeof m->incarnation);
    while (m->incarnation == 0);
}

uint64_t stream_deadline(const struct member *m)
{
    /* What lets us send again is an event of raft's: no need to wake up for it. */
    return may_send(m) ? m->stream_retry_ms : RAFT_NEVER;
}

/* ---- as a leader ---- */

static struct origin *origin_of(struct member *m, uint64_t peer, uint64_t incarnation)
{
    unsigned old = 0;

    if (m->origins_term != raft_term(m->raft)) {
        m->origins_term = raft_term(m->raft);
        m->origins_n = 0;
    }
    for (unsigned i = 0; i < m->origins_n; i++)
        if (m->origins[i].peer == peer && m->origins[i].incarnation == incarnation)
            return &m->origins[i];
    if (m->origins_n == MEMBER_ORIGINS_MAX) {
        /* The oldest of the same server: it has been started again many times since. */
        while (old + 1 < m->origins_n && m->origins[old].peer != peer)
            old++;
        memmove(&m->origins[old], &m->origins[old + 1],
                (m->origins_n - old - 1) * sizeof m->origins[0]);
        m->origins_n--;
    }
    m->origins[m->origins_n] = (struct origin){peer, incarnation, 0};
    return &m->origins[m->origins_n++];
}

static void ask_again(struct member *m, uint64_t to, const struct origin *o)
{
    buf_clear(&m->scratch);
    buf_add_be64(&m->scratch, raft_term(m->raft));
    buf_add_be64(&m->scratch, o->incarnation);
    buf_add_be64(&m->scratch, o->taken_n + 1);
    member_send(m, to, &m->scratch, MSG_RESEND);
}

static bool may_forward(const struct tree_txn *t)
{
    return t->op == TREE_OP_CREATE_SESSION || t->op == TREE_OP_ATTACH_SESSION ||
           t->op == TREE_OP_CLOSE_SESSION || t->op == WIRE_OP_RECONFIG ||
           tree_op_is_write(t->op);
}

/* 0: taken, or taken before; else why nothing behind it can be taken either. */
static int take(struct member *m, struct origin *o, uint64_t n, const uint8_t *data, size_t len)
{
    struct tree_txn t;

    if (n <= o->taken_n && !MUTANT(member_forward_taken_twice)) {
        REACHED(member_forward_twice);
        return 0;
    }
    if (n != o->taken_n + 1 && !MUTANT(member_forward_taken_twice))
        return ERR_BUSY;
    if (tree_txn_decode(&t, data, len) != 0 || t.origin.server != o->incarnation ||
        !may_forward(&t))
        return ERR_MALFORMED;
    refuse_if_full(m, &t);
    int err = member_propose(m, &t);
    if (err != 0)
        return err;
    o->taken_n = n;
    if (t.op != TREE_OP_CREATE_SESSION && t.op != TREE_OP_ATTACH_SESSION)
        (void)session_touch(m, t.session);
    return 0;
}

int stream_forwarded(struct member *m, uint64_t from, const uint8_t *data, size_t len)
{
    if (len < FORWARD_HEADER)
        return ERR_MALFORMED;
    uint64_t term = be64_get(data), n = be64_get(data + 16);
    uint32_t count = be32_get(data + 24);
    const uint8_t *at = data + FORWARD_HEADER, *end = data + len;

    if (term != raft_term(m->raft) || raft_role(m->raft) != RAFT_LEADER)
        return 0;
    struct origin *o = origin_of(m, from, be64_get(data + 8));
    if (n > o->taken_n + 1) {
        REACHED(member_forward_gap);
        ask_again(m, from, o);
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (end - at < 4 || (size_t)(end - at - 4) < be32_get(at))
            return ERR_MALFORMED;
        uint32_t size = be32_get(at);
        int err = take(m, o, n + i, at + 4, size);
        if (err != 0)
            return err == ERR_MALFORMED ? err : 0; /* the sender's probe brings it again */
        at += 4 + size;
    }
    return 0;
}

int stream_resend(struct member *m, const uint8_t *data, size_t len)
{
    if (len != 24)
        return ERR_MALFORMED;
    if (be64_get(data) != m->stream_term || be64_get(data + 8) != m->incarnation)
        return 0;
    for (struct request *r = TAILQ_FIRST(&m->stream); r != NULL; r = TAILQ_NEXT(r, in_stream))
        if (r->sent_term == m->stream_term && r->sent_n == be64_get(data + 16)) {
            m->next_send = r;
            break;
        }
    return 0;
}
