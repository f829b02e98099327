/* SPDX-License-Identifier: Apache-2.0 */
#include "server/member_repair.h"

#include "base/err.h"
#include "base/mutant.h"

/* Voters beside ourselves. */
static unsigned others(const struct repair_question *q)
{
    unsigned n = 0;

    for (unsigned i = 0; i < q->known->n; i++)
        n += q->known->v[i].voter && q->known->v[i].id != q->self;
    return n;
}

static bool is_voter(const struct repair_question *q)
{
    const struct raft_member *self = raft_member_find(q->known, q->self);

    return self == NULL || self->voter;
}

enum repair_verdict repair_decide(const struct repair_question *q)
{
    bool is_lost = q->err == 0 && q->was_new && q->has_begun && !MUTANT(repair_lost_ignored);

    /* An error of the disk is not damage, and another version's files are whole. */
    if (q->err != ERR_CORRUPT && !is_lost)
        return REPAIR_NOT_NEEDED;
    return others(q) > 0 ? REPAIR_NEW_LIFE : REPAIR_IMPOSSIBLE;
}

uint64_t repair_birth(uint64_t now, uint64_t random)
{
    uint64_t birth = random & RAFT_NUMBER_MAX;

    if (MUTANT(repair_old_birth))
        return now;
    while (birth == 0 || birth == now)
        birth++;
    return birth;
}

void repair_say(const struct repair_question *q, struct buf *out)
{
    unsigned voters = others(q) + is_voter(q);

    if (others(q) > voters / 2)
        buf_printf(out,
                   "this server does not vote until the leader has sent it everything; %u of "
                   "the other %u voters must run for that",
                   voters / 2 + 1, others(q));
    else
        buf_printf(out,
                   "this server does not vote, and without it the other %u of %u voters elect "
                   "no leader: on one that has its data, muster recover",
                   others(q), voters);
}
