/* SPDX-License-Identifier: Apache-2.0 */
/* Read index: [R] 8, [D] 6.4. A read is answered with the commit index of when it was asked,
 * once a quorum has answered a heartbeat round that began after it was asked: then nobody
 * else was leader at that moment, and nothing later had been committed. All reads that are
 * asked while a round is out share the next one.
 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/reached.h"
#include "raft/internal.h"

static uint64_t round_of(const struct peer *p) { return p->round; }

uint64_t raft_round_confirmed(const struct raft *r)
{
    return raft_quorum_value(r, round_of, r->round);
}

static void push(struct pending_read **v, size_t *first, size_t *n, size_t *room,
                 struct pending_read one)
{
    /* Take back what was consumed when that is at least half: each element moves once. */
    if (*first > 0 && *first >= *n) {
        memmove(*v, *v + *first, *n * sizeof **v);
        *first = 0;
    }
    mem_grow(*v, *room, *first + *n + 1);
    (*v)[*first + (*n)++] = one;
}

static void answer(struct raft *r, const struct pending_read *read, uint64_t index)
{
    push(&r->answers, &r->answers_first, &r->answers_n, &r->answers_room,
         (struct pending_read){.ctx = read->ctx, .index = index});
}

int raft_read(struct raft *r, uint64_t now_ms, uint64_t ctx)
{
    r->now_ms = now_ms > r->now_ms ? now_ms : r->now_ms;
    if (r->role != RAFT_LEADER)
        return ERR_NOT_LEADER;
    /* Before its first commit a leader does not know what is committed ([R] 8). */
    if (!raft_is_ready(r) || r->reads_n + r->answers_n >= RAFT_READS_MAX)
        return ERR_BUSY;
    struct pending_read read = {.ctx = ctx, .index = r->commit, .round = r->round + 1};
    if (MUTANT(raft_read_old_round))
        read.round = r->round;
    if (MUTANT(raft_read_no_quorum))
        read.round = 0;
    if (MUTANT(raft_read_by_clock) &&
        now_ms - raft_quorum_contact_ms(r) < r->opt.election_min_ms)
        read.round = 0;
    push(&r->reads, &r->reads_first, &r->reads_n, &r->reads_room, read);
    if (MUTANT(raft_read_no_quorum) || MUTANT(raft_read_old_round) ||
        MUTANT(raft_read_by_clock))
        raft_reads_confirm(r);
    return 0;
}

bool raft_reads_wait(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->reads_n > 0 &&
           r->reads[r->reads_first + r->reads_n - 1].round > r->round &&
           raft_round_confirmed(r) == r->round;
}

void raft_reads_confirm(struct raft *r)
{
    uint64_t confirmed = raft_round_confirmed(r);

    while (r->reads_n > 0 && r->reads[r->reads_first].round <= confirmed) {
        answer(r, &r->reads[r->reads_first], r->reads[r->reads_first].index);
        r->reads_first++;
        r->reads_n--;
    }
}

void raft_reads_drop(struct raft *r)
{
    if (r->reads_n > 0)
        REACHED(raft_reads_dropped);
    for (; r->reads_n > 0; r->reads_first++, r->reads_n--)
        answer(r, &r->reads[r->reads_first], 0);
}

bool raft_read_take(struct raft *r, uint64_t *ctx, uint64_t *index)
{
    if (r->answers_n == 0 && raft_reads_wait(r))
        raft_beat(r);
    if (r->answers_n == 0)
        return false;
    *ctx = r->answers[r->answers_first].ctx;
    *index = r->answers[r->answers_first].index;
    r->answers_first++;
    r->answers_n--;
    return true;
}
