/* SPDX-License-Identifier: Apache-2.0 */
/* What a member counts, and how it is shown. */
#include "server/member_stats.h"

#include <string.h>

#include "server/member_internal.h"

/* ---- counting: a few stores a request ---- */

static void size_add(struct sizes *s, size_t bytes)
{
    uint32_t size = (uint32_t)bytes;

    if (!s->any || size < s->least)
        s->least = size;
    if (size > s->most)
        s->most = size;
    s->last = size;
    s->any = true;
}

/* ZooKeeper counts the size of a connect response nowhere, and the bytes of pings not. */
void stats_sent(struct member *m, struct conn *c, enum sent what, size_t bytes)
{
    m->stats.sent++;
    c->stats.sent++;
    if (what == SENT_EVENT)
        m->stats.event_bytes += bytes;
    if (what == SENT_REPLY)
        m->stats.reply_bytes += bytes;
    if (what != SENT_CONNECT)
        size_add(&m->stats.replies, bytes);
}

void stats_answered(struct member *m, struct conn *c, int32_t op, int32_t xid, int64_t zxid,
                    uint64_t came_ms, bool is_update)
{
    struct conn_stats *s = &c->stats;
    uint64_t ms = m->now_ms - came_ms;

    if (xid >= 0) /* a ping has none of its own */
        s->last_cxid = xid;
    s->last_op = op;
    s->last_zxid = zxid;
    s->last_reply_ms = m->now_ms;
    s->last_latency = ms;
    summary_add(&s->latency, ms);
    summary_add(&m->stats.latency, ms);
    distribution_add(is_update ? &m->stats.update : &m->stats.read, ms);
}

void stats_conn_clear(struct conn_stats *s)
{
    *s = (struct conn_stats){.last_cxid = -1, .last_zxid = -1};
}

void stats_proposed(struct member *m, size_t bytes)
{
    m->stats.proposed++;
    size_add(&m->stats.proposals, bytes);
}

void stats_committed(struct member *m)
{
    if (raft_role(m->raft) == RAFT_LEADER)
        m->stats.committed_lead++;
    else
        m->stats.committed_follow++;
}

/* Since when a thing is not as it should be; when it is again, how long that took. */
static void measure(uint64_t now_ms, bool is_bad, uint64_t *since_ms, struct summary *took)
{
    if (is_bad && *since_ms == 0) {
        *since_ms = now_ms;
    } else if (!is_bad && *since_ms != 0) {
        summary_add(took, now_ms - *since_ms);
        *since_ms = 0;
    }
}

void stats_leader(struct member *m)
{
    bool is_leaderless = raft_leader(m->raft) == RAFT_NOBODY;

    m->stats.leaderless += is_leaderless && m->leaderless_ms == 0;
    measure(m->now_ms, is_leaderless, &m->leaderless_ms, &m->stats.election);
    measure(m->now_ms, !m->serving, &m->unavailable_ms, &m->stats.unavailable);
    if (m->leading_term == 0)
        m->lead_ms = 0;
    else if (m->lead_ms == 0)
        m->lead_ms = m->now_ms;
}

/* ---- showing ---- */

const struct member_stats *member_stats(const struct member *m) { return &m->stats; }

void member_stats_reset(struct member *m)
{
    memset(&m->stats, 0, sizeof m->stats);
    watches_facts_reset(m->watches);
}

uint64_t member_leader_ms(const struct member *m)
{
    return m->lead_ms != 0 ? m->now_ms - m->lead_ms : 0;
}

uint64_t member_pending_syncs(const struct member *m)
{
    const struct asked *a;
    uint64_t n = 0;

    TAILQ_FOREACH (a, &m->asked, next)
        n++;
    return n;
}

void member_client_word(struct member *m, uint64_t conn, size_t bytes)
{
    struct conn *c = conn_find(m, conn);

    m->stats.received++;
    m->stats.received_bytes += bytes;
    if (c != NULL)
        c->stats.received++;
}

void member_client_word_done(struct member *m) { m->stats.sent++; }

bool member_conn_facts(const struct member *m, uint64_t conn, struct member_conn_facts *out)
{
    const struct conn *c = conn_find(m, conn);

    if (c == NULL)
        return false;
    *out = (struct member_conn_facts){
        .session = c->session,
        .timeout_ms = c->timeout_ms,
        .opened_wall_ms = c->opened_wall_ms,
        .heard_ms = c->heard_ms,
        .queued = c->requests_n,
        .stats = c->stats,
    };
    return true;
}

void member_conns_reset(struct member *m)
{
    struct hash_walk w;
    struct hash_link *l = hash_walk_first(&m->conns, &w);

    for (; l != NULL; l = hash_walk_next(&m->conns, &w))
        stats_conn_clear(&HASH_ENTRY(l, struct conn, by_id)->stats);
}

bool member_session_next(const struct member *m, int64_t after,
                         struct member_session_facts *out)
{
    *out = (struct member_session_facts){.is_timed = false};
    if (!tree_session_next(m->tree, after, &out->tree))
        return false;
    out->is_timed = session_until(m, out->tree.id, &out->until_ms);
    return true;
}

struct watch_showing {
    const struct member *m;
    member_watch_visit *visit;
    void *ctx;
    uint64_t watcher; /* the last one, and its session */
    int64_t session;
};

static bool show_watch(void *ctx, uint64_t watcher, const char *path, size_t path_len)
{
    struct watch_showing *s = ctx;

    if (watcher != s->watcher) {
        const struct conn *c = conn_find(s->m, watcher);
        s->watcher = watcher;
        s->session = c != NULL ? c->session : 0;
    }
    return s->visit(s->ctx, s->session, path, path_len);
}

void member_watches(const struct member *m, bool by_path, member_watch_visit *visit, void *ctx)
{
    struct watch_showing s = {.m = m, .visit = visit, .ctx = ctx};

    if (by_path)
        watches_by_path(m->watches, show_watch, &s);
    else
        watches_by_watcher(m->watches, show_watch, &s);
}

const struct watches *member_watches_raw(const struct member *m) { return m->watches; }
