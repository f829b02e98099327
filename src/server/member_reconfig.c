/* SPDX-License-Identifier: Apache-2.0 */
/* Who the servers are. /zookeeper/config says what should be, raft's members are what is.
 *
 * Level-triggered, on the leader: while no client asks for a change, the znode is made to say
 * what raft's members are (they change by init, join and a server's new birth). While one does
 * (the tree has it, so every leader knows of it), raft's members are led to what is asked for,
 * one server at a time ([D] 4.1): first the new ones come in, as learners, and those that shall
 * vote become voters when they have caught up; then others lose their vote. Then the znode
 * changes, which is the client's answer, and only after that those who leave go: so they get
 * the answer, too. When the new ones do not catch up, all goes back. */
#include "server/member_internal.h"

#include <string.h>

#include "base/err.h"
#include "base/mutant.h"
#include "server/member_ensemble.h"

#define RECONFIG_SILENT_MS 2500      /* a new voter that is not heard for so long: given up */
#define RECONFIG_LIMIT_MS 30000      /* and in any case after so long */
#define RECONFIG_HAND_OVER_MS 600    /* an offer of the leadership that was not taken */
#define RECONFIG_LEAVE_MS 500        /* who leaves may read the answer */
#define RECONFIG_LEAVE_LIMIT_MS 3000 /* also when it is slow; not longer */

enum step { STEP_TAKEN, STEP_WAIT, STEP_NOTHING };

void reconfig_lead(struct member *m)
{
    m->config_proposed = 0;
    m->config_set_ms = m->now_ms;
    m->reconfig_zxid = 0;
    m->config_text_index = m->config_told_at = 0;
}

bool reconfig_begun(struct member *m, struct request *r, int64_t zxid, int err)
{
    const char *text;
    size_t len;

    if (r->kind != REQ_RECONFIG || err != 0 || r->conn == NULL || r->conn->doomed ||
        tree_reconfig(m->tree, &text, &len) != zxid)
        return false;
    r->index = (uint64_t)zxid;
    m->reconfig = r;
    return true;
}

void reconfig_ended(struct member *m, const struct tree_txn *txn, int64_t zxid,
                    const struct tree_result *result)
{
    struct request *r = m->reconfig;
    int64_t answers = tree_config_answers(txn);

    m->config_set_ms = m->now_ms;
    if (r == NULL || answers == 0 || r->index != (uint64_t)answers)
        return;
    m->reconfig = NULL;
    conn_write_done(m, r, zxid, result);
}

/* ---- from what is to what is wanted ---- */

/* Who is leaving: neither votes nor will, and the znode does not name it. */
static bool is_leaving(const struct raft_member *v, const struct ensemble *config)
{
    return !v->voter && !v->auto_promote && config->n > 0 &&
           ensemble_find(config, (int64_t)v->id) == NULL;
}

static enum step taken(int err) { return err == 0 ? STEP_TAKEN : STEP_WAIT; }

/* Somebody else of those who shall vote leads from now on, and goes on with this. */
static enum step hand_over(struct member *m, const struct ensemble *to)
{
    const struct raft_members *now = raft_members(m->raft);
    uint64_t best = RAFT_NOBODY, best_match = 0;

    if (m->now_ms < m->hand_over_ms)
        return STEP_WAIT;
    m->hand_over_ms = m->now_ms + RECONFIG_HAND_OVER_MS;
    for (unsigned i = 0; i < now->n; i++) {
        const struct raft_member *v = &now->v[i];
        const struct server_line *line = ensemble_find(to, (int64_t)v->id);
        struct raft_peer_facts f;
        if (v->voter && v->id != raft_id(m->raft) && line != NULL && !line->is_observer &&
            raft_peer_facts(m->raft, v->id, &f) && f.match >= best_match) {
            best = v->id;
            best_match = f.match;
        }
    }
    if (best != RAFT_NOBODY)
        (void)raft_transfer(m->raft, m->now_ms, best);
    return STEP_WAIT;
}

/* One server that is not yet known, or not as it is wanted, but for its vote. */
static enum step bring_in(struct member *m, const struct ensemble *to)
{
    const struct raft_members *now = raft_members(m->raft);

    for (unsigned i = 0; i < to->n; i++) {
        const struct server_line *line = &to->v[i];
        const struct raft_member *was = raft_member_find(now, (uint64_t)line->id);
        struct raft_member v = member_of_line(line);
        v.voter = false;
        v.auto_promote = !line->is_observer;
        if (was == NULL)
            return taken(raft_add_learner(m->raft, m->now_ms, &v));
        /* Compared as lines: a member that never was one keeps what it has. */
        struct server_line is = line_of_member(was);
        bool is_elsewhere =
            strcmp(is.host, line->host) != 0 || is.quorum_port != line->quorum_port ||
            is.election_port != line->election_port || is.client_port != line->client_port ||
            strcmp(is.client_host, line->client_host) != 0;
        bool begins_to_vote = is.is_observer && !line->is_observer;
        if (!is_elsewhere && !begins_to_vote)
            continue;
        if (!is_elsewhere) {
            memcpy(v.address, was->address, sizeof v.address);
            memcpy(v.more, was->more, sizeof v.more);
        }
        memcpy(v.name, was->name, sizeof v.name);
        v.birth = was->birth;
        v.voter = was->voter;
        v.auto_promote = !was->voter && !line->is_observer;
        return taken(raft_renew(m->raft, m->now_ms, &v));
    }
    return STEP_NOTHING;
}

static enum step wait_for_votes(const struct member *m, const struct ensemble *to)
{
    const struct raft_members *now = raft_members(m->raft);

    for (unsigned i = 0; i < to->n; i++) {
        const struct raft_member *v = raft_member_find(now, (uint64_t)to->v[i].id);
        if (!to->v[i].is_observer && !v->voter)
            return STEP_WAIT;
    }
    return STEP_NOTHING;
}

/* One that shall not vote any more. */
static enum step take_vote(struct member *m, const struct ensemble *to)
{
    const struct raft_members *now = raft_members(m->raft);

    for (unsigned i = 0; i < now->n; i++) {
        struct raft_member v = now->v[i];
        const struct server_line *line = ensemble_find(to, (int64_t)v.id);
        if ((line != NULL && !line->is_observer) || (!v.voter && !v.auto_promote))
            continue;
        if (v.id == raft_id(m->raft))
            return hand_over(m, to);
        v.voter = v.auto_promote = false;
        return taken(raft_renew(m->raft, m->now_ms, &v));
    }
    return STEP_NOTHING;
}

static enum step go_towards(struct member *m, const struct ensemble *to)
{
    enum step step = bring_in(m, to);

    if (step == STEP_NOTHING)
        step = wait_for_votes(m, to);
    if (step == STEP_NOTHING)
        step = take_vote(m, to);
    return step;
}

/* ---- the znode ---- */

static void propose(struct member *m, int64_t answers, int err, const struct buf *text)
{
    struct buf body = {0};
    struct tree_txn t = {.op = TREE_OP_SET_CONFIG};

    tree_config_encode(answers, err, (const char *)text->data, text->len, &body);
    t.body = body.data;
    t.len = body.len;
    if (member_propose(m, &t) == 0)
        m->config_proposed = raft_last_index(m->raft);
    buf_free(&body);
}

/* What the znode says: its text, and how much of it stands before the line of the version. */
static size_t config_text(const struct member *m, const char **text, size_t *all)
{
    const uint8_t *data = NULL;
    size_t len = 0;

    (void)tree_get(m->tree, "/zookeeper/config", &data, &len);
    *text = (const char *)data;
    *all = len;
    while (len > 0 && data[len - 1] != '\n')
        len--;
    return len > 0 ? len - 1 : 0;
}

/* The same, and as lines. */
static size_t config_now(const struct member *m, const char **text, struct ensemble *lines)
{
    size_t all, len = config_text(m, text, &all);

    if (ensemble_parse(lines, *text, all) != 0)
        lines->n = 0;
    return len;
}

/* The znode says just what raft's members are, so nobody is leaving, either. In nearly each
 * turn it is so: their text is kept until they are others, and what was found until something
 * is applied. */
static bool is_told(struct member *m)
{
    uint64_t index = raft_members_index(m->raft), applied = raft_applied(m->raft);
    bool is_known = m->config_text_index == index + 1 ||
                    (MUTANT(reconfig_text_kept) && m->config_text_index != 0);
    const char *was;
    size_t all;

    if (is_known && m->config_told_at == applied + 1)
        return true;
    size_t len = config_text(m, &was, &all);
    if (!is_known) {
        m->config_text_index = index + 1;
        buf_clear(&m->config_text);
        members_text(raft_members(m->raft), &m->config_text);
    }
    bool is_so =
        len == m->config_text.len && (len == 0 || memcmp(was, m->config_text.data, len) == 0);
    m->config_told_at = is_so ? applied + 1 : 0;
    return is_so;
}

/* Removes one whose leaving the znode has told, when it may have read that. */
static enum step let_go(struct member *m, const struct ensemble *config)
{
    const struct raft_members *now = raft_members(m->raft);
    struct raft_peer_facts f;

    for (unsigned i = 0; i < now->n; i++) {
        const struct raft_member *v = &now->v[i];
        uint64_t since_ms = m->now_ms - m->config_set_ms;
        if (!is_leaving(v, config))
            continue;
        bool has_all = raft_peer_facts(m->raft, v->id, &f) &&
                       f.match >= raft_committed(m->raft) && since_ms >= RECONFIG_LEAVE_MS;
        if (!has_all && since_ms < RECONFIG_LEAVE_LIMIT_MS)
            continue;
        return taken(raft_remove(m->raft, m->now_ms, v->id));
    }
    return STEP_NOTHING;
}

static void tell(struct member *m)
{
    struct raft_members all = *raft_members(m->raft);
    struct ensemble config;
    struct buf text = {0};
    const char *was;
    size_t was_len = config_now(m, &was, &config);
    unsigned kept = 0;

    if (let_go(m, &config) != STEP_NOTHING)
        return;
    for (unsigned i = 0; i < all.n; i++)
        if (!is_leaving(&all.v[i], &config))
            all.v[kept++] = all.v[i];
    all.n = kept;
    members_text(&all, &text);
    if (text.len != was_len || (was_len > 0 && memcmp(text.data, was, was_len) != 0))
        propose(m, 0, 0, &text);
    buf_free(&text);
}

/* ---- a change that a client wants ---- */

/* Somebody who shall vote is not there, or this takes too long. */
static bool is_hopeless(const struct member *m, const struct ensemble *to)
{
    const struct raft_members *now = raft_members(m->raft);
    struct raft_peer_facts f;

    if (m->now_ms >= m->reconfig_ms + RECONFIG_LIMIT_MS)
        return true;
    for (unsigned i = 0; i < to->n; i++) {
        const struct raft_member *v = raft_member_find(now, (uint64_t)to->v[i].id);
        if (v == NULL || v->voter || to->v[i].is_observer ||
            !raft_peer_facts(m->raft, v->id, &f))
            continue;
        uint64_t heard_ms = f.heard_ms > m->reconfig_ms ? f.heard_ms : m->reconfig_ms;
        if (m->now_ms >= heard_ms + RECONFIG_SILENT_MS)
            return true;
    }
    return false;
}

static void change(struct member *m, int64_t zxid, const char *text, size_t len)
{
    struct ensemble to;
    struct buf answer = {0};
    const char *was;

    if (m->reconfig_zxid != zxid) {
        m->reconfig_zxid = zxid;
        m->reconfig_ms = m->now_ms;
        m->reconfig_gives_up = false;
    }
    if (m->reconfig_gives_up)
        (void)config_now(m, &was, &to);
    else
        (void)ensemble_parse(&to, text, len); /* it was checked when it came in */
    enum step step = go_towards(m, &to);
    if (step == STEP_NOTHING) {
        if (!m->reconfig_gives_up)
            buf_add(&answer, text, len);
        propose(m, zxid, m->reconfig_gives_up ? ERR_NEW_CONFIG_NO_QUORUM : 0, &answer);
        buf_free(&answer);
    } else if (step == STEP_WAIT && !m->reconfig_gives_up && is_hopeless(m, &to)) {
        m->reconfig_gives_up = true;
    }
}

void reconfig_drive(struct member *m)
{
    const char *text;
    size_t len;

    if (m->leading_term == 0 || m->config_proposed > raft_applied(m->raft) ||
        !raft_may_change(m->raft))
        return;
    int64_t zxid = tree_reconfig(m->tree, &text, &len);
    if (zxid != 0 && MUTANT(reconfig_forgotten) &&
        raft_entry_term(m->raft, (uint64_t)zxid) != m->leading_term)
        return;
    if (zxid == 0 && MUTANT(reconfig_unlike_raft))
        return;
    if (zxid != 0)
        change(m, zxid, text, len);
    else if (!is_told(m))
        tell(m);
}
