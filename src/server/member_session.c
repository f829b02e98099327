/* SPDX-License-Identifier: Apache-2.0 */
/* Questions that only a leader can answer, and how long sessions live.
 *
 * A question (ping, sync) is answered when the leader has touched the session and then, by
 * a read index round that began after that, knows that it still led. A later leader was
 * elected after that moment and gives every session its full timeout; so whoever has an
 * answer knows that the session lives for its timeout from when the question was sent. */
#include "server/member_internal.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "wire/wire.h"

#define QUESTION_HEADER 20 /* incarnation, round, count */
#define ANSWER_HEADER 28   /* incarnation, round, index, count */

/* ---- the heap: by queued_ms; until_ms may be later, then it is queued again ---- */

static void heap_put(struct expiries *x, size_t at, struct expiry *e)
{
    x->heap[at] = e;
    e->at = at;
}

static void heap_up(struct expiries *x, size_t at)
{
    struct expiry *e = x->heap[at];

    while (at > 0 && x->heap[(at - 1) / 2]->queued_ms > e->queued_ms) {
        heap_put(x, at, x->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(x, at, e);
}

static void heap_down(struct expiries *x, size_t at)
{
    struct expiry *e = x->heap[at];

    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= x->n)
            break;
        if (child + 1 < x->n && x->heap[child + 1]->queued_ms < x->heap[child]->queued_ms)
            child++;
        if (x->heap[child]->queued_ms >= e->queued_ms)
            break;
        heap_put(x, at, x->heap[child]);
        at = child;
    }
    heap_put(x, at, e);
}

static void requeue(struct expiries *x, struct expiry *e, uint64_t ms)
{
    e->queued_ms = ms;
    heap_up(x, e->at);
    heap_down(x, e->at);
}

static struct expiry *expiry_find(const struct expiries *x, int64_t session)
{
    struct hash_link *l = hash_first(&x->by_session, hash_u64((uint64_t)session));

    for (; l != NULL; l = hash_next(l)) {
        struct expiry *e = HASH_ENTRY(l, struct expiry, by_session);
        if (e->session == session)
            return e;
    }
    return NULL;
}

static void expiry_add(struct member *m, int64_t session, int32_t timeout_ms)
{
    struct expiries *x = &m->expiries;
    struct expiry *e = mem_new(struct expiry);

    e->session = session;
    e->timeout_ms = timeout_ms;
    e->until_ms = e->queued_ms = m->now_ms + (uint64_t)timeout_ms;
    hash_insert(&x->by_session, &e->by_session, hash_u64((uint64_t)session));
    mem_grow(x->heap, x->cap, x->n + 1);
    x->heap[x->n] = e;
    e->at = x->n++;
    heap_up(x, e->at);
}

static void expiry_remove(struct expiries *x, struct expiry *e)
{
    struct expiry *last = x->heap[--x->n];
    size_t at = e->at;

    if (last != e) {
        heap_put(x, at, last);
        heap_up(x, at);
        heap_down(x, last->at);
    }
    hash_remove(&x->by_session, &e->by_session);
    mem_free(e);
}

/* ---- life of sessions, at the leader ---- */

void session_born(struct member *m, int64_t session, int32_t timeout_ms)
{
    struct expiry *e = m->leading_term != 0 ? expiry_find(&m->expiries, session) : NULL;

    if (m->leading_term == 0)
        return;
    if (e == NULL) {
        expiry_add(m, session, timeout_ms);
        return;
    }
    /* Attached again: the new timeout counts from now, but an answer that was given under
     * the old one still holds. */
    e->timeout_ms = timeout_ms;
    if (e->until_ms < m->now_ms + (uint64_t)timeout_ms)
        e->until_ms = m->now_ms + (uint64_t)timeout_ms;
}

void session_gone(struct member *m, int64_t session)
{
    struct expiry *e = m->leading_term != 0 ? expiry_find(&m->expiries, session) : NULL;

    if (e != NULL)
        expiry_remove(&m->expiries, e);
}

bool session_touch(struct member *m, int64_t session)
{
    struct expiry *e = m->leading_term != 0 ? expiry_find(&m->expiries, session) : NULL;

    /* A session that others have applied before us: it begins when we do, which is later. */
    if (m->leading_term != 0 && session >= tree_session_id((int64_t)raft_applied(m->raft) + 1))
        return true;
    if (e == NULL || e->closing)
        return false;
    if (e->until_ms < m->now_ms + (uint64_t)e->timeout_ms)
        e->until_ms = m->now_ms + (uint64_t)e->timeout_ms;
    return true;
}

bool session_until(const struct member *m, int64_t session, uint64_t *until_ms)
{
    const struct expiry *e = m->leading_term != 0 ? expiry_find(&m->expiries, session) : NULL;

    if (e == NULL || e->closing)
        return false;
    *until_ms = e->until_ms;
    return true;
}

/* Its password is looked at when the entry is applied; only then it lives longer. But until
 * then it must not be ended, or the client would be told that it lives by an entry that has
 * its end behind it. */
void session_attaching(struct member *m, int64_t session, uint64_t index)
{
    struct expiry *e = m->leading_term != 0 ? expiry_find(&m->expiries, session) : NULL;

    if (e != NULL)
        e->attached = index;
}

/* Only the time in which nobody could be heard is given back, and a little to read what came
 * in it. A full timeout each time would let a server that often stalls keep the dead. */
void session_grace(struct member *m, uint64_t late_ms)
{
    for (size_t i = 0; i < m->expiries.n; i++) {
        struct expiry *e = m->expiries.heap[i];
        e->until_ms += late_ms;
        REACHED(member_grace);
        if (e->until_ms < m->now_ms + MEMBER_GRACE_MS)
            e->until_ms = m->now_ms + MEMBER_GRACE_MS;
    }
}

void session_lead(struct member *m)
{
    struct tree_session s = {.id = INT64_MIN};

    CHECK(m->leading_term == 0);
    m->leading_term = raft_term(m->raft);
    while (tree_session_next(m->tree, s.id, &s)) {
        if (MUTANT(member_sessions_forgotten))
            continue;
        expiry_add(m, s.id, s.timeout_ms);
        if (MUTANT(member_no_grace)) {
            struct expiry *e = expiry_find(&m->expiries, s.id);
            e->until_ms = m->now_ms;
            requeue(&m->expiries, e, m->now_ms);
        }
    }
}

void session_unlead(struct member *m)
{
    struct asked *a;

    while (m->expiries.n > 0)
        expiry_remove(&m->expiries, m->expiries.heap[m->expiries.n - 1]);
    while ((a = TAILQ_FIRST(&m->asked)) != NULL) {
        TAILQ_REMOVE(&m->asked, a, next);
        buf_free(&a->refused);
        mem_free(a);
    }
    m->leading_term = 0;
}

void session_expire(struct member *m)
{
    struct expiries *x = &m->expiries;

    while (m->leading_term != 0 && x->n > 0 && x->heap[0]->queued_ms <= m->now_ms) {
        struct expiry *e = x->heap[0];
        struct tree_txn t = {.op = TREE_OP_CLOSE_SESSION, .session = e->session};

        if (e->until_ms > m->now_ms && !e->closing) {
            requeue(x, e, e->until_ms);
        } else if (e->attached > raft_applied(m->raft) && !e->closing) {
            REACHED(member_ended_attaching);
            requeue(x, e, m->now_ms + MEMBER_RETRY_MS);
        } else if (e->closing || member_propose(m, &t) == 0) {
            m->facts.sessions_expired_total += !e->closing;
            e->closing = true;
            requeue(x, e, RAFT_NEVER);
        } else {
            requeue(x, e, m->now_ms + MEMBER_RETRY_MS);
        }
    }
}

/* ---- our clients' questions ---- */

static void move(struct request *r, struct request_list *to)
{
    if (r->list != NULL)
        TAILQ_REMOVE(r->list, r, in_list);
    r->list = to;
    if (to != NULL)
        TAILQ_INSERT_TAIL(to, r, in_list);
}

void session_ask(struct member *m, struct request *r) { move(r, &m->unasked); }

void session_forget(struct member *m, struct request *r)
{
    (void)m;
    move(r, NULL);
}

static void done(struct member *m, struct request *r)
{
    move(r, NULL);
    conn_question_done(m, r);
}

static bool is_refused(const uint8_t *refused, uint32_t count, int64_t session)
{
    for (uint32_t i = 0; i < count; i++)
        if ((int64_t)be64_get(refused + 8 * i) == session)
            return true;
    return false;
}

static void answered(struct member *m, uint64_t round, uint64_t index, const uint8_t *refused,
                     uint32_t count)
{
    struct request *r, *next;

    if (m->round.id == 0 || round > m->round.id)
        return;
    TAILQ_FOREACH_SAFE(r, &m->round.asked, in_list, next)
    {
        if (r->round > round)
            break; /* asked since: an answer to that is on its way */
        r->index = index;
        if (is_refused(refused, count, r->session)) {
            REACHED(member_refused_dying);
            move(r, NULL);
            conn_close(m, r->conn); /* it is ending: no answer may say that it lives */
        } else if (r->op == WIRE_OP_PING || raft_applied(m->raft) >= index) {
            done(m, r);
        } else {
            REACHED(member_sync_waits);
            move(r, &m->syncing);
        }
    }
    if (TAILQ_EMPTY(&m->round.asked))
        m->round.id = 0;
}

bool session_synced(struct member *m)
{
    struct request *r, *next;
    bool any = false;

    TAILQ_FOREACH_SAFE(r, &m->syncing, in_list, next)
    if (r->index <= raft_applied(m->raft)) {
        done(m, r);
        any = true;
    }
    return any;
}

/* Touches the sessions of a question and has raft confirm; we lead. */
static void consider(struct member *m, uint64_t peer, uint64_t incarnation, uint64_t round,
                     const uint8_t *sessions, uint32_t count)
{
    struct asked *a = mem_new(struct asked);

    for (uint32_t i = 0; i < count; i++)
        if (!session_touch(m, (int64_t)be64_get(sessions + 8 * i)))
            buf_add(&a->refused, sessions + 8 * i, 8);
    a->ctx = ++m->asked_ids;
    a->peer = peer;
    a->incarnation = incarnation;
    a->round = round;
    if (round == 0 || raft_read(m->raft, m->now_ms, a->ctx) != 0) {
        buf_free(&a->refused); /* nobody waits, or the sender will ask again */
        mem_free(a);
    } else {
        TAILQ_INSERT_TAIL(&m->asked, a, next);
    }
}

bool session_reads(struct member *m)
{
    uint64_t ctx, index;
    bool any = false;

    while (raft_read_take(m->raft, &ctx, &index)) {
        struct asked *a;
        TAILQ_FOREACH (a, &m->asked, next)
            if (a->ctx == ctx)
                break;
        if (a == NULL)
            continue;
        TAILQ_REMOVE(&m->asked, a, next);
        uint32_t count = (uint32_t)(a->refused.len / 8);
        if (index != 0 && a->peer == raft_id(m->raft)) {
            if (a->incarnation == m->incarnation) {
                answered(m, a->round, index, a->refused.data, count);
                any = true;
            }
        } else if (index != 0) {
            buf_clear(&m->scratch);
            buf_add_be64(&m->scratch, a->incarnation);
            buf_add_be64(&m->scratch, a->round);
            buf_add_be64(&m->scratch, index);
            buf_add_be32(&m->scratch, count);
            buf_add(&m->scratch, a->refused.data, a->refused.len);
            member_send(m, a->peer, &m->scratch, MSG_ANSWER);
        }
        buf_free(&a->refused);
        mem_free(a);
    }
    return any;
}

int session_question(struct member *m, uint64_t from, const uint8_t *data, size_t len)
{
    if (len < QUESTION_HEADER || be32_get(data + 16) > MEMBER_TOUCHES_MAX ||
        len != QUESTION_HEADER + 8 * (size_t)be32_get(data + 16))
        return ERR_MALFORMED;
    if (m->leading_term != 0)
        consider(m, from, be64_get(data), be64_get(data + 8), data + QUESTION_HEADER,
                 be32_get(data + 16));
    return 0;
}

int session_answer(struct member *m, const uint8_t *data, size_t len)
{
    if (len < ANSWER_HEADER || be32_get(data + 24) > MEMBER_TOUCHES_MAX ||
        len != ANSWER_HEADER + 8 * (size_t)be32_get(data + 24))
        return ERR_MALFORMED;
    if (be64_get(data) == m->incarnation)
        answered(m, be64_get(data + 8), be64_get(data + 16), data + ANSWER_HEADER,
                 be32_get(data + 24));
    return 0;
}

/* The sessions of this round, and those that have been active, as the message's list. */
static uint32_t add_sessions(struct member *m, struct buf *out, bool with_round)
{
    struct request *r;
    struct conn *c;
    uint32_t count = 0;

    if (with_round)
        TAILQ_FOREACH (r, &m->round.asked, in_list) {
            buf_add_be64(out, (uint64_t)r->session);
            count++;
        }
    while ((c = TAILQ_FIRST(&m->touched)) != NULL && count < MEMBER_TOUCHES_MAX) {
        TAILQ_REMOVE(&m->touched, c, in_touched);
        c->touched = false;
        buf_add_be64(out, (uint64_t)c->session);
        count++;
    }
    return count;
}

static void send_question(struct member *m, uint64_t round)
{
    uint64_t leader = raft_leader(m->raft);
    struct buf q = {0};

    if (leader == RAFT_NOBODY)
        return;
    buf_add_be64(&q, m->incarnation);
    buf_add_be64(&q, round);
    buf_add_be32(&q, 0);
    uint32_t count = add_sessions(m, &q, round != 0);
    buf_put_be32(&q, 16, count);
    if (leader == raft_id(m->raft)) {
        if (m->leading_term != 0)
            consider(m, leader, m->incarnation, round, q.data + QUESTION_HEADER, count);
    } else {
        member_send(m, leader, &q, MSG_QUESTION);
    }
    buf_free(&q);
}

/* A planted fault's way: answered without the leader. */
static void answer_unasked(struct member *m)
{
    struct request *r, *next;

    TAILQ_FOREACH_SAFE(r, &m->unasked, in_list, next)
    if (r->op == WIRE_OP_PING ? MUTANT(member_ping_unconfirmed) : MUTANT(member_sync_local))
        done(m, r);
}

void session_send(struct member *m)
{
    struct request *r;
    bool repeat = m->round.id != 0 && m->now_ms >= m->round.retry_ms;

    answer_unasked(m);
    if (repeat)
        REACHED(member_question_again);
    if (repeat || (m->round.id == 0 && !TAILQ_EMPTY(&m->unasked))) {
        unsigned n = 0;
        m->round.id = ++m->round_ids;
        TAILQ_FOREACH (r, &m->round.asked, in_list)
            n++;
        while ((r = TAILQ_FIRST(&m->unasked)) != NULL && n++ < MEMBER_TOUCHES_MAX) {
            r->round = m->round.id;
            move(r, &m->round.asked);
        }
        if (TAILQ_EMPTY(&m->round.asked)) { /* all their clients are gone */
            m->round.id = 0;
        } else {
            m->round.retry_ms = m->now_ms + MEMBER_RETRY_MS;
            send_question(m, m->round.id);
        }
    }
    if (m->now_ms >= m->touch_ms && !TAILQ_EMPTY(&m->touched)) {
        send_question(m, 0);
        m->touch_ms = m->now_ms + MEMBER_TOUCH_MS;
    }
}

uint64_t session_deadline(const struct member *m)
{
    uint64_t at = RAFT_NEVER;

    if (m->round.id != 0)
        at = m->round.retry_ms;
    if (!TAILQ_EMPTY(&m->touched) && m->touch_ms < at)
        at = m->touch_ms;
    if (m->leading_term != 0 && m->expiries.n > 0 && m->expiries.heap[0]->queued_ms < at)
        at = m->expiries.heap[0]->queued_ms;
    return at;
}
