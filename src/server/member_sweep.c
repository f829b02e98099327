/* SPDX-License-Identifier: Apache-2.0 */
/* The leader's round for what the ensemble deletes by itself: containers that are empty, TTL
 * znodes that are old. It only proposes; the entry looks again when it is applied. */
#include "server/member_internal.h"
#include "tree/tree.h"

#define MINUTE_MS 60000

void sweep_work(struct member *m)
{
    const struct member_options *o = &m->options;
    uint64_t budget = (uint64_t)o->lapse_per_minute_max * o->lapse_check_ms / MINUTE_MS;
    struct buf path = {0}, body = {0};
    uint32_t at = 0;

    if (m->leading_term == 0) {
        m->sweep_ms = RAFT_NEVER;
        return;
    }
    if (m->sweep_ms == RAFT_NEVER)
        m->sweep_ms = m->now_ms + o->lapse_check_ms;
    if (m->now_ms < m->sweep_ms)
        return;
    m->sweep_ms = m->now_ms + o->lapse_check_ms;
    for (budget = budget > 0 ? budget : 1; budget > 0; budget--) {
        if (!tree_lapse_next(m->tree, &at, m->wall_ms, o->container_never_used_ms, &path))
            break;
        tree_lapse_body(o->container_never_used_ms, &path, &body);
        struct tree_txn t = {.op = TREE_OP_LAPSE, .body = body.data, .len = body.len};
        if (member_propose(m, &t) != 0)
            break; /* the next round finds it again */
        m->facts.lapsed_total++;
    }
    buf_free(&path);
    buf_free(&body);
}
