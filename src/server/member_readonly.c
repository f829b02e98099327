/* SPDX-License-Identifier: Apache-2.0 */
/* Read-only mode: a server that has been without a quorum for a while serves reads, of what it
 * applied last, to clients that have said that this will do.
 *
 * Their sessions are this server's alone: no other knows them, nothing of them is in the log,
 * and they end with the mode. A session of the ensemble is not served here: it goes on when
 * the quorum is back, and its client must find it as it was. (ZooKeeper 3.8 does the same, but
 * opens such sessions only if localSessionsEnabled is set, too.)
 *
 * The state may be as old as the last contact with a leader; after a restart, as the last
 * snapshot, since nothing above it is known to be committed. */
#include "server/member_internal.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "wire/wire.h"

/* Ids: this, 32 bits of the server's incarnation, 24 bits that count. Those of the ensemble
 * are SESSION_ID_BASE and a zxid, and never get here. */
#define LOCAL_ID_BASE 0x7f00000000000000
#define LOCAL_COUNT_MASK 0xffffffu

static struct local *local_find(const struct member *m, int64_t id)
{
    struct hash_link *l = hash_first(&m->locals, hash_u64((uint64_t)id));

    for (; l != NULL; l = hash_next(l)) {
        struct local *x = HASH_ENTRY(l, struct local, by_id);
        if (x->id == id)
            return x;
    }
    return NULL;
}

static struct local *local_new(struct member *m)
{
    struct local *x = mem_new(struct local);

    do
        x->id = (int64_t)(LOCAL_ID_BASE | (m->incarnation & 0xffffffff) << 24 |
                          (++m->local_ids & LOCAL_COUNT_MASK));
    while (local_find(m, x->id) != NULL);
    m->io.random(m->io.ctx, x->password, sizeof x->password);
    hash_insert(&m->locals, &x->by_id, hash_u64((uint64_t)x->id));
    return x;
}

static void local_free(struct member *m, struct local *x)
{
    if (x->conn != NULL)
        x->conn->local = NULL;
    hash_remove(&m->locals, &x->by_id);
    mem_free(x);
}

static void attach(struct member *m, struct conn *c, struct local *x, int32_t timeout_ms)
{
    if (x->conn != NULL) { /* the newer connection wins */
        x->conn->local = NULL;
        conn_close(m, x->conn);
    }
    x->conn = c;
    x->timeout_ms = timeout_ms;
    x->until_ms = m->now_ms + (uint64_t)timeout_ms;
    if (x->until_ms < m->locals_due_ms)
        m->locals_due_ms = x->until_ms;
    c->local = x;
    conn_open_local(m, c, x->id, timeout_ms, x->password);
}

static bool password_is(const struct local *x, struct wire_bytes password)
{
    uint8_t diff = 0;

    if (password.len != TREE_PASSWORD_LEN)
        return false;
    for (int i = 0; i < TREE_PASSWORD_LEN; i++)
        diff |= (uint8_t)(x->password[i] ^ password.data[i]);
    return diff == 0;
}

/* It lives in the ensemble, or may: what we have applied does not say. */
static bool may_be_global(const struct member *m, int64_t id)
{
    struct tree_session s;

    return tree_session_get(m->tree, id, &s) ||
           (id > tree_session_id(tree_zxid(m->tree)) && id < LOCAL_ID_BASE);
}

void readonly_connect(struct member *m, struct conn *c, const struct wire_connect_request *q,
                      int32_t timeout_ms)
{
    struct local *x = local_find(m, q->session_id);

    if (q->session_id == 0) {
        if (m->locals.count >= MEMBER_LOCALS_MAX) {
            limit_hit(m, MEMBER_LIMIT_LOCALS, MEMBER_LOCALS_MAX, m->locals.count + 1ull);
            conn_close(m, c);
            return;
        }
        attach(m, c, local_new(m), timeout_ms);
    } else if (x != NULL && password_is(x, q->password) && !x->is_closing) {
        attach(m, c, x, timeout_ms);
    } else if (may_be_global(m, q->session_id)) {
        conn_close(m, c); /* the client tries on until somebody can say */
    } else {
        conn_open_local(m, c, 0, 0, NULL);
    }
}

int readonly_answer(struct member *m, struct conn *c, int32_t op)
{
    (void)m;
    if (op == WIRE_OP_PING)
        return 0;
    if (op == WIRE_OP_CLOSE_SESSION) {
        c->local->is_closing = true;
        return 0;
    }
    if (op == WIRE_OP_SYNC || op == WIRE_OP_CHECK || op == WIRE_OP_RECONFIG ||
        op == WIRE_OP_DELETE_CONTAINER || tree_op_is_write(op))
        return MUTANT(member_read_only_write) ? 0 : ERR_NOT_READ_ONLY;
    return 1;
}

void readonly_gone(struct member *m, struct conn *c)
{
    struct local *x = c->local;

    c->local = NULL;
    x->conn = NULL;
    if (x->is_closing)
        local_free(m, x);
}

void readonly_drop(struct member *m)
{
    struct hash_walk w;
    struct hash_link *l;

    while ((l = hash_walk_first(&m->locals, &w)) != NULL)
        local_free(m, HASH_ENTRY(l, struct local, by_id));
}

static void expire(struct member *m)
{
    struct hash_walk w;
    uint64_t next_ms = RAFT_NEVER;

    for (struct hash_link *l = hash_walk_first(&m->locals, &w); l != NULL;
         l = hash_walk_next(&m->locals, &w)) {
        struct local *x = HASH_ENTRY(l, struct local, by_id);
        if (x->until_ms <= m->now_ms) {
            if (x->conn != NULL)
                conn_close(m, x->conn);
            local_free(m, x);
        } else if (x->until_ms < next_ms) {
            next_ms = x->until_ms;
        }
    }
    if (next_ms < m->now_ms + MEMBER_LOCALS_LOOK_MS) /* many that end one by one */
        next_ms = m->now_ms + MEMBER_LOCALS_LOOK_MS;
    m->locals_due_ms = next_ms;
}

void readonly_turn(struct member *m)
{
    uint32_t after_ms = m->options.read_only_after_ms;

    if (m->serving) {
        m->lost_ms = m->now_ms;
        if (m->read_only && !MUTANT(member_read_only_stays)) {
            m->read_only = false;
            conn_close_all(m);
            readonly_drop(m);
        }
    } else if (after_ms > 0 && !m->read_only && m->now_ms >= m->lost_ms + after_ms) {
        m->read_only = true;
        m->locals_due_ms = RAFT_NEVER;
        m->facts.read_only_total++;
    }
    if (m->read_only && m->now_ms >= m->locals_due_ms)
        expire(m);
}

uint64_t readonly_deadline(const struct member *m)
{
    if (m->read_only)
        return m->locals_due_ms;
    return m->options.read_only_after_ms > 0 && !m->serving
               ? m->lost_ms + m->options.read_only_after_ms
               : RAFT_NEVER;
}
