/* SPDX-License-Identifier: Apache-2.0 */
/* mutant.h -- planted faults, which prove the tests (./dev sim --mutants).
 *
 * In an ordinary build MUTANT(x) is the constant 0 and nothing of this is left. Built
 * with -DMUSTER_MUTANTS, one fault at a time can be switched on. To plant one, add a
 * row and put `MUTANT(name)` where the code would be wrong in that way.
 */
#ifndef MUSTER_MUTANT_H
#define MUSTER_MUTANT_H

/* clang-format off */
#define MUTANT_TABLE(M)                                                                     \
    M(member_ping_unconfirmed, "a ping is answered without asking the leader")              \
    M(member_no_grace, "a new leader counts sessions from their creation")                  \
    M(member_forward_again_at_once, "a forward is sent again before it is known to be lost") \
    M(member_sync_local, "sync is answered without asking the leader")                      \
    M(member_event_after_reply, "watch events are sent after the reply that shows the change")\
    M(client_lease_from_answer, "the session's life is counted from the answer")            \
    M(client_stale_answer, "an old answer counts as that to the newest question")           \
    M(client_blind_retry, "a write that may have happened is sent again")                   \
    M(client_read_counts, "an answer to a read counts as a leader's")
/* clang-format on */

#ifdef MUSTER_MUTANTS

enum mutant {
    MUTANT_none,
#define M(name, text) MUTANT_##name,
    MUTANT_TABLE(M)
#undef M
    MUTANTS_END
};
extern enum mutant mutant_active; /* base/mutant.c; set by the simulation's main only */
const char *mutant_name(enum mutant m);
const char *mutant_text(enum mutant m);
#define MUTANT(name) (mutant_active == MUTANT_##name)

#else

#define MUTANT(name) 0

#endif

#endif
