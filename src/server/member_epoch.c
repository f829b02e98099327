/* SPDX-License-Identifier: Apache-2.0 */
#include "server/member_epoch.h"

#include <string.h>

#include "base/err.h"
#include "base/mutant.h"

void epoch_encode(const struct epoch *e, struct buf *out)
{
    buf_add_be64(out, e->number);
    buf_add_be64(out, e->tag);
    buf_add_be64(out, e->last);
    buf_add_u8(out, (uint8_t)e->runs_n);
    for (unsigned i = 0; i < e->runs_n; i++) {
        buf_add_be64(out, e->runs[i].index);
        buf_add_be64(out, e->runs[i].term);
    }
}

int epoch_decode(struct epoch *e, const uint8_t *data, size_t len)
{
    *e = (struct epoch){0};
    if (len < 25 || data[24] > EPOCH_RUNS_MAX || len != 25 + 16 * (size_t)data[24])
        return ERR_MALFORMED;
    e->number = be64_get(data);
    e->tag = be64_get(data + 8);
    e->last = be64_get(data + 16);
    e->runs_n = data[24];
    if (e->number >= RAFT_NUMBER_MAX || e->last >= RAFT_NUMBER_MAX ||
        (e->number == 0 && (e->tag != 0 || e->last != 0 || e->runs_n != 0)))
        return ERR_MALFORMED;
    for (unsigned i = 0; i < e->runs_n; i++) {
        e->runs[i].index = be64_get(data + 25 + 16 * i);
        e->runs[i].term = be64_get(data + 33 + 16 * i);
        if (e->runs[i].index > e->last || (i > 0 && (e->runs[i].index <= e->runs[i - 1].index ||
                                                     e->runs[i].term <= e->runs[i - 1].term)))
            return ERR_MALFORMED;
    }
    return 0;
}

enum epoch_order epoch_order(const struct epoch *ours, const struct epoch *theirs)
{
    if (MUTANT(epoch_ignored))
        return EPOCH_SAME;
    if (theirs->number != ours->number)
        return theirs->number > ours->number ? EPOCH_NEWER : EPOCH_OLDER;
    return theirs->tag == ours->tag ? EPOCH_SAME : EPOCH_RIVAL;
}

void epoch_note(struct epoch *e, uint64_t index, uint64_t term)
{
    e->last = index;
    if (e->runs_n > 0 && e->runs[e->runs_n - 1].term == term)
        return;
    if (e->runs_n == EPOCH_RUNS_MAX)
        memmove(e->runs, e->runs + 1, --e->runs_n * sizeof e->runs[0]);
    e->runs[e->runs_n].index = index;
    e->runs[e->runs_n++].term = term;
}

uint64_t epoch_common(const struct epoch *e, uint64_t first, uint64_t last,
                      uint64_t (*term)(void *ctx, uint64_t index), void *ctx)
{
    uint64_t at = last < e->last ? last : e->last;

    for (unsigned i = e->runs_n; i > 0; i--)
        for (; at >= e->runs[i - 1].index && at >= first && at > 0; at--)
            if (term(ctx, at) == e->runs[i - 1].term)
                return at;
    return 0;
}

uint64_t epoch_zxid(uint64_t last)
{
    if (MUTANT(epoch_no_jump))
        return last + 1;
    if (last > EPOCH_ZXID_MAX - 2 * EPOCH_ZXID_JUMP)
        return 0;
    return (last / EPOCH_ZXID_JUMP + 2) * EPOCH_ZXID_JUMP;
}

uint64_t epoch_end_sessions(struct tree *t, uint64_t zxid)
{
    struct tree_session s = {.id = INT64_MIN};
    uint64_t next = zxid;

    if (MUTANT(epoch_sessions_kept))
        return next;
    while (tree_session_next(t, s.id, &s)) {
        struct tree_txn txn = {.op = TREE_OP_CLOSE_SESSION, .session = s.id};
        struct tree_result result = {0};
        tree_apply(t, (int64_t)next++, &txn, NULL, &result);
    }
    return next;
}

int epoch_members(const struct raft_members *was, uint64_t self, struct raft_members *out)
{
    if (raft_member_find(was, self) == NULL)
        return ERR_NOT_FOUND;
    *out = *was;
    for (unsigned i = 0; i < out->n; i++) {
        struct raft_member *m = &out->v[i];
        m->auto_promote = m->id != self && (m->voter || m->auto_promote);
        m->voter = m->id == self || (m->voter && MUTANT(epoch_others_vote));
    }
    return 0;
}

/* ---- a survivor ---- */

void survivor_state(void *survivor, uint64_t term, uint64_t vote)
{
    (void)vote;
    ((struct survivor *)survivor)->term = term;
}

void survivor_snapshot(void *survivor, uint64_t index, uint64_t term,
                       const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct survivor *s = survivor;

    s->tree = tree_load(1, data, len);
    s->members = *members;
    s->snapshot = index;
    epoch_note(&s->log, index, term);
    if (s->tree == NULL)
        s->err = ERR_CORRUPT;
}

void survivor_entry(void *survivor, struct raft_entry *e)
{
    struct survivor *s = survivor;
    struct tree_txn txn;
    struct tree_result result = {0};

    if (s->tree == NULL || e->index != s->log.last + 1) {
        s->err = ERR_CORRUPT;
        return;
    }
    epoch_note(&s->log, e->index, e->term);
    s->entries++;
    if (e->type == RAFT_ENTRY_CONFIG &&
        raft_members_decode(&s->members, e->payload, e->len) != 0)
        s->err = ERR_CORRUPT;
    if (e->type != RAFT_ENTRY_DATA || tree_txn_decode(&txn, e->payload, e->len) != 0 ||
        MUTANT(epoch_tail_dropped))
        return; /* as a server passes over it */
    tree_apply(s->tree, (int64_t)e->index, &txn, NULL, &result);
    s->time_ms = txn.time_ms;
}

int survivor_begin(struct survivor *s, const struct epoch *now, uint64_t tag, uint64_t self,
                   struct epoch *epoch, struct raft_members *members, uint64_t *index)
{
    uint64_t zxid = epoch_zxid(s->log.last);
    int err = epoch_members(&s->members, self, members);

    if (err != 0)
        return err;
    if (zxid == 0)
        return ERR_TOO_BIG;
    *epoch = s->log;
    epoch->number = now->number + 1;
    epoch->tag = tag;
    *index = epoch_end_sessions(s->tree, zxid);
    return 0;
}
