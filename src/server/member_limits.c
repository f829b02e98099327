/* SPDX-License-Identifier: Apache-2.0 */
/* Who is let in, and who waits. What refuses has a name, and is counted under it. */
#include "server/member_internal.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "wire/wire.h"

void limit_hit(struct member *m, enum member_limit limit, uint64_t value, uint64_t measured)
{
    m->facts.limited[limit]++;
    m->facts.limit_value[limit] = value;
    m->facts.limit_measured[limit] = measured;
}

/* ---- enforce.auth ---- */

static bool is_listed(const char *schemes, struct wire_bytes scheme)
{
    for (const char *at = schemes; *at != 0;) {
        size_t len = strcspn(at, ", ");
        if (scheme.len >= 0 && len == (size_t)scheme.len && memcmp(at, scheme.data, len) == 0)
            return true;
        at += len;
        at += strspn(at, ", ");
    }
    return false;
}

bool limits_know(struct member *m, const struct conn *c, int32_t op)
{
    struct wire_list ids = ids_list(c->ids);
    struct wire_id id;

    if (m->options.enforce_auth == NULL || op == WIRE_OP_AUTH || op == WIRE_OP_SASL)
        return true;
    while (wire_ids_next(&ids, &id))
        if (is_listed(m->options.enforce_auth, id.scheme))
            return true;
    limit_hit(m, MEMBER_LIMIT_ENFORCE_AUTH, 0, 0);
    return false;
}

/* ---- large requests ---- */

bool limits_too_large(const struct member *m, size_t len)
{
    return limits_is_large(m, len) && m->large_bytes + len > m->options.large_bytes_max;
}

/* ---- requests that wait to be let into work ----
 *
 * They wait in their connection's queue like any other, and block what is behind them; the
 * list `held` says in which order they are let in, over all connections. */

bool limits_must_hold(const struct member *m)
{
    return m->options.throttle_max > 0 &&
           (m->held_n > 0 || m->facts.outstanding >= m->options.throttle_max);
}

void limits_hold(struct member *m, struct request *r)
{
    CHECK(r->list == NULL);
    REACHED(member_held);
    if (m->held_n++ == 0)
        limit_hit(m, MEMBER_LIMIT_THROTTLE, m->options.throttle_max, m->facts.outstanding);
    r->held_ms = m->now_ms;
    r->list = &m->held;
    TAILQ_INSERT_TAIL(&m->held, r, in_list);
}

bool limits_forget(struct member *m, struct request *r)
{
    if (r->list != &m->held)
        return false;
    TAILQ_REMOVE(&m->held, r, in_list);
    r->list = NULL;
    m->held_n--;
    return true;
}

bool limits_admit(struct member *m)
{
    struct request *r;
    bool any = false;

    while ((r = TAILQ_FIRST(&m->held)) != NULL &&
           m->facts.outstanding - m->held_n < m->options.throttle_max) {
        uint64_t waited_ms = m->now_ms - r->held_ms;
        (void)limits_forget(m, r);
        if (m->options.throttled_op_wait_ms > 0 &&
            waited_ms > m->options.throttled_op_wait_ms && r->kind != REQ_LOCAL &&
            r->op != WIRE_OP_PING && r->op != WIRE_OP_CLOSE_SESSION) {
            r->kind = REQ_LOCAL;
            r->err = ERR_THROTTLED;
            limit_hit(m, MEMBER_LIMIT_THROTTLED_OP, m->options.throttled_op_wait_ms, waited_ms);
        }
        conn_advance(m, r->conn);
        any = true;
    }
    return any;
}

/* ---- the tree ---- */

_Static_assert(TREE_BYTES_MAX + MEMBER_SESSIONS_MAX * 48u < RAFT_SNAPSHOT_MAX,
               "there is no tree that a follower cannot be sent");

/* Counted by what is applied here: those on their way come on top, at most one for each
 * connection of each server. */
bool limits_one_more_session(struct member *m)
{
    struct tree_facts f;

    tree_facts(m->tree, &f);
    if (f.sessions < m->options.sessions_max)
        return true;
    m->facts.refused_total++;
    limit_hit(m, MEMBER_LIMIT_SESSIONS, m->options.sessions_max, f.sessions + 1);
    return false;
}

bool limits_may_send(struct member *m)
{
    uint64_t bytes = tree_bytes(m->tree);

    if (bytes <= RAFT_SNAPSHOT_MAX)
        return true;
    limit_hit(m, MEMBER_LIMIT_SNAPSHOT, RAFT_SNAPSHOT_MAX, bytes);
    return false;
}

/* ---- watches ---- */

/* The answer has gone out and the watch is set; then the connection ends, and all of its
 * watches with it. There is no error that says this in the protocol. */
void limits_watches(struct member *m, struct conn *c)
{
    uint64_t own = watches_count_of(m->watches, c->id), all = watches_count(m->watches);

    if (own > m->options.watches_max)
        limit_hit(m, MEMBER_LIMIT_WATCHES, m->options.watches_max, own);
    else if (all > m->options.all_watches_max)
        limit_hit(m, MEMBER_LIMIT_ALL_WATCHES, m->options.all_watches_max, all);
    else
        return;
    conn_close(m, c);
}

void limits_gone(struct member *m, uint64_t conn)
{
    if (MUTANT(watch_leak) || watches_forget_some(m->watches, conn, MEMBER_FORGET_MAX))
        return;
    mem_grow(m->gone, m->gone_cap, m->gone_n + 1);
    m->gone[m->gone_n++] = conn;
}

/* A million of them are some tenths of a second: long enough for the others to elect a new
 * leader. Nobody is told of what fires meanwhile, since the connection is gone. */
void limits_forget_watches(struct member *m)
{
    if (m->gone_n > 0 &&
        watches_forget_some(m->watches, m->gone[m->gone_n - 1], MEMBER_FORGET_MAX))
        m->gone_n--;
}
