/* SPDX-License-Identifier: Apache-2.0 */
/* reached.h -- states that the simulation must come to (./dev sim --coverage).
 *
 * In an ordinary build REACHED(x) is nothing. Built with -DMUSTER_REACHED, the simulation
 * counts the seeds in which it was passed: a row that no seed passes is a promise that
 * nobody tests. To add one, add a row and put `REACHED(name)` where it happens.
 *
 * A row is OFTEN (some of 1,000 seeds pass it, or the run fails) or RARE (it takes more).
 */
#ifndef MUSTER_REACHED_H
#define MUSTER_REACHED_H

/* clang-format off */
#define REACHED_TABLE(R)                                                                       \
    R(raft_vote_refused, OFTEN, "a vote is refused: another has it, or the log is behind")     \
    R(raft_prevote_refused, OFTEN, "a pre-vote is refused: the log is behind")                 \
    R(raft_slow_candidate, OFTEN, "a candidate's disk is slower than its patience")            \
    R(raft_truncated, OFTEN, "entries that a new leader does not have are cut off")            \
    R(raft_old_term_waits, OFTEN, "a majority has entries of an older term, and they wait")    \
    R(raft_alone, OFTEN, "a leader steps down: it hears no quorum")                            \
    R(raft_fell_in_change, OFTEN, "a leader falls while a change of members is not committed") \
    R(raft_led_in_change, OFTEN, "one begins to lead while a change is not committed")         \
    R(raft_change_undone, RARE, "a change of members is cut off with its entry")               \
    R(raft_removed_leader, OFTEN, "a leader that was removed leaves")                          \
    R(raft_removed_may_lead, RARE, "one that is removed campaigns: its removal may not hold")  \
    R(raft_renewed, OFTEN, "a server that has lost its disk becomes a learner")                \
    R(raft_reads_dropped, OFTEN, "reads wait for a quorum when the leader falls")              \
    R(raft_snapshot_to_two, OFTEN, "a snapshot is sent to two at once")                        \
    R(raft_snapshot_piece_waits, OFTEN, "a piece comes while the disk has the one before")     \
    R(raft_snapshot_pieces, OFTEN, "a snapshot comes in several pieces")                       \
    R(raft_snapshot_piece_twice, RARE, "a piece comes that is there, or too early")            \
    R(raft_snapshot_middle, OFTEN, "a piece comes of a snapshot whose begin is not there")     \
    R(raft_snapshot_begun_anew, OFTEN, "another snapshot begins before one is whole")          \
    R(raft_snapshot_not_needed, OFTEN, "a snapshot is offered that is not needed any more")    \
    R(raft_log_full, OFTEN, "a follower takes no entry: its log in memory is full")            \
    R(raft_log_overfull, OFTEN, "it takes some of a new leader's though it is full")           \
    R(raft_leader_gone, OFTEN, "a follower hears that the leader's process has ended")         \
    R(raft_timeout_now, OFTEN, "a leader has another one stand for election at once")          \
    R(member_snapshot_overtaken, OFTEN, "entries are applied while a snapshot is written")     \
    R(member_install_upon_install, RARE, "a newer tree comes while one is being loaded")       \
    R(store_pieces_anew, OFTEN, "a snapshot is begun anew while one is half written")          \
    R(store_pieces_dropped, RARE, "a snapshot that is half there makes room for the log")      \
    R(store_snapshot_older, RARE, "the newest snapshot is damaged, and an older one is taken") \
    R(store_torn, OFTEN, "the log ends in what is no record")                                  \
    R(store_segment_again, OFTEN, "a segment is made of one that is not needed any more")      \
    R(store_sync_failed, OFTEN, "a save fails, and with it the store")                         \
    R(member_forward_again, OFTEN, "requests are forwarded again, after a change of term")     \
    R(member_forward_gap, OFTEN, "a leader misses a forward and asks for it")                  \
    R(member_forward_twice, OFTEN, "a leader gets a forward that it has taken already")        \
    R(member_question_again, OFTEN, "a question to the leader is asked again")                 \
    R(member_refused_dying, RARE, "a ping comes for a session that is being ended")           \
    R(member_ended_attaching, OFTEN, "a session is due while its client is attaching")         \
    R(member_grace, OFTEN, "a leader that stood still gives the time back")                    \
    R(member_installed, OFTEN, "a whole tree comes, and the clients connect again")            \
    R(member_held, OFTEN, "a request waits to be let in")                                      \
    R(member_behind, OFTEN, "a client comes that has seen more than the server")               \
    R(member_sync_waits, OFTEN, "a sync waits for entries to be applied")                      \
    R(tree_attached_elsewhere, OFTEN, "a session moves to another server")                     \
    R(tree_attach_ahead, RARE, "a client has seen what is lost: it is refused")                \
    R(tree_moved_refused, OFTEN, "a write comes through a session's old connection")           \
    R(tree_multi_undone, OFTEN, "a transaction is undone")                                     \
    R(tree_expired, OFTEN, "the ensemble ends a session")                                      \
    R(tree_expired_ephemerals, OFTEN, "its ephemerals go with it")                             \
    R(tree_saved_before_change, OFTEN, "what changes is not yet in the snapshot under way")    \
    R(tree_saving_number_again, OFTEN, "a new znode gets a number that the snapshot looks at") \
    R(tree_watch_missed, OFTEN, "an event that was missed is told when the watch is set again") \
    R(tree_watch_again, OFTEN, "a watch that missed nothing is set again")                     \
    R(tree_watch_persistent_again, OFTEN, "a persistent watch is set again")                   \
    R(client_lost_in_flight, OFTEN, "a connection is lost with writes in flight")              \
    R(client_expired, OFTEN, "a client learns that its session is over")                       \
    R(client_waited_out, OFTEN, "a request finds no connection in time")                       \
    R(address_probe_met, OFTEN, "another machine answers for an address")                      \
    R(address_grant_stale, RARE, "a claim is granted to a session that is over")              \
    R(address_lease_over, OFTEN, "a holder's lease ends: the tree was not reached")            \
    R(address_session_over, RARE, "a holder's session ends")                                  \
    R(address_kernel_took, OFTEN, "the kernel takes an address away at its end")               \
    R(address_claim_deleted, RARE, "a holder's claim is deleted by somebody")                  \
    R(failsafe_kept, OFTEN, "an address is kept by the promises of all others")                \
    R(failsafe_promised_other, RARE, "a promise is refused: another has it")                   \
    R(balance_refused, OFTEN, "an empty answer of the registry is refused")                    \
    R(sim_bit_missed, OFTEN, "simulation: a bit has changed, and the store is refused")        \
    R(sim_bit_harmless, OFTEN, "simulation: a bit has changed, and nothing is missing")        \
    R(sim_tree_spoiled, OFTEN, "simulation: a server's tree is another, unseen")               \
    R(sim_tree_well, OFTEN, "simulation: a spoiled tree is what the others have again")        \
    R(sim_tree_tainted, RARE, "simulation: a spoiled tree was given on; none is compared")     \
    R(sim_disk_lost, OFTEN, "simulation: a disk is lost")                                      \
    R(sim_store_lost, OFTEN, "simulation: a store is lost, and the machine knows")             \
    R(sim_wiped, OFTEN, "simulation: a directory is wiped under its server")                   \
    R(sim_put_back, OFTEN, "simulation: the disk of an earlier life is put back")              \
    R(sim_too_much, OFTEN, "simulation: a disk is not harmed, since another one is not well")  \
    R(sim_answers_late, RARE, "simulation: two answer, and one had stood: nobody can help it") \
    R(sim_ends_early, RARE, "simulation: a session ends early, where a clock had stood")
/* clang-format on */

#ifdef MUSTER_REACHED

enum reached_state {
#define R(name, often, text) REACHED_##name,
    REACHED_TABLE(R)
#undef R
        REACHED_END
};
extern unsigned char reached_now[]; /* base/reached.c; cleared and read by tests only */
const char *reached_name(unsigned state);
const char *reached_text(unsigned state);
int reached_is_rare(unsigned state);
#define REACHED(name) ((void)(reached_now[REACHED_##name] = 1))

#else

#define REACHED(name) ((void)0)

#endif

#endif
