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
    M(raft_commit_old_term, "an entry of an older term is committed by counting copies")    \
    M(raft_vote_not_saved, "a vote is answered before it is on disk")                       \
    M(raft_vote_twice, "two votes are given in one term")                                   \
    M(raft_ack_before_sync, "a follower acknowledges entries before they are on disk")      \
    M(raft_full_for_ever, "who starts with more log than fits into memory takes no entry")  \
    M(raft_told_too_much, "the answer given with a save tells of entries behind it")         \
    M(writer_told_early, "a save's answer goes out before it is synced")                     \
    M(writer_wait_unseen, "who begins to wait for a save that runs is not woken at its end") \
    M(transport_rest_behind, "the rest of another thread's message goes behind others")      \
    M(raft_leader_self_ack, "a leader counts itself before its entries are on disk")        \
    M(raft_no_log_check, "a vote is given to a server whose log is behind")                 \
    M(raft_no_truncate_rollback, "what was saved counts on after it was cut from the log")  \
    M(raft_read_no_quorum, "a read is answered without asking a quorum")                    \
    M(raft_read_old_round, "a heartbeat round from before the read confirms it")            \
    M(raft_no_prev_check, "entries are appended whatever the term before them")             \
    M(raft_two_changes, "members change while an earlier change is not committed")          \
    M(raft_stranger_votes, "a server that has lost its disk votes at once")                 \
    M(raft_read_by_clock, "a leader answers a read because of when it last heard a quorum") \
    M(raft_chunk_any_place, "a piece of a snapshot is appended wherever it belongs")        \
    M(raft_chunk_of_another, "pieces of two snapshots are put together")                    \
    M(raft_chunk_early, "a piece of a snapshot is answered before it is on disk")           \
    M(raft_chunk_failed_counts, "a piece that the disk did not take counts as written")     \
    M(raft_chunk_stale_read, "a piece that was read for an older snapshot is sent for a newer one") \
    M(raft_config_kept, "a configuration that was cut from the log goes on")                \
    M(raft_learner_counts, "a learner counts for what is committed")                        \
    M(raft_old_life_votes, "the disk of a server's earlier life votes when it comes back")  \
    M(raft_old_image_counts, "a voter that has lost what it acknowledged counts on")        \
    M(raft_deposed_birthless, "who tells an old leader of a later term does not say its birth") \
    M(raft_late_refusal_counts, "what a voter refused before it acknowledged counts as later") \
    M(raft_gone_unasked, "who loses its connection to the leader deposes it at once")       \
    M(digest_ignored, "a replica whose tree differs goes on")                               \
    M(digest_leader_right, "the leader's digest is the right one, whatever the others have") \
    M(digest_snapshot_blind, "a snapshot is sent that nobody has compared")                 \
    M(repair_old_birth, "a server whose store is damaged goes on in its old life")          \
    M(store_snapshot_believed, "a snapshot counts though its file's checksum is wrong")     \
    M(store_damage_cut, "a log that is damaged in the middle is cut there")                 \
    M(repair_lost_ignored, "a store that is gone counts as one that never was")             \
    M(reconfig_forgotten, "a new leader does not go on with a reconfig")                    \
    M(reconfig_text_kept, "whom /zookeeper/config names is not looked at again")            \
    M(reconfig_unlike_raft, "/zookeeper/config is not set when a server joins or leaves")   \
    M(raft_remove_blindly, "a voter is let go though those that answer are no majority without it") \
    M(address_lease_from_answer, "the lease counts from the answer, not from the question") \
    M(address_stale_grant, "a claim of an earlier session is good enough")                  \
    M(address_lease_on_wall, "the lease is counted on the wall clock")                      \
    M(address_release_before_removed, "the claim is deleted before the address is removed") \
    M(address_probe_ignored, "the address is taken though another machine answers for it")  \
    M(address_frozen_renew, "an address is renewed after its end has passed")               \
    M(address_promise_ignored, "an address is claimed though another was promised not to")  \
    M(address_ask_majority, "the answers of most machines are enough to keep an address")   \
    M(assign_own_view, "a machine claims what is assigned to another")                      \
    M(service_no_fall, "an instance that has once been healthy stays so")                   \
    M(balance_empty_rendered, "an empty answer of the registry empties the pool")           \
    M(member_ping_unconfirmed, "a ping is answered without asking the leader")              \
    M(member_no_grace, "a new leader counts sessions from their creation")                  \
    M(member_forward_again_at_once, "a forward is sent again before it is known to be lost") \
    M(member_sync_local, "sync is answered without asking the leader")                      \
    M(member_event_in_reply, "what setWatches tells of is written into its answer")         \
    M(member_spare_kept, "a connection begins with what another one was sent")              \
    M(transport_rest_lost, "of a large message only what the kernel takes at once is sent") \
    M(clients_rest_lost, "a frame that is cut by the network loses its beginning")          \
    M(clients_rest_twice, "the end of a frame that was cut is taken for the next one, too") \
    M(member_event_after_reply, "watch events are sent after the reply that shows the change")\
    M(member_read_only_write, "a server without a quorum acknowledges a write")             \
    M(member_read_only_for_all, "a server without a quorum serves reads to who has not asked") \
    M(member_read_only_stays, "clients of read-only mode stay when the quorum is back")     \
    M(member_removed_serves, "a server that was removed goes on serving")                   \
    M(member_snapshot_apart, "a snapshot's index is kept apart from its data")              \
    M(member_attach_elsewhere, "a session is not known on another server than its first")   \
    M(client_watches_forgotten, "watches are not set again on another server")              \
    M(client_lease_from_answer, "the session's life is counted from the answer")            \
    M(client_stale_answer, "an old answer counts as that to the newest question")           \
    M(client_blind_retry, "a write that may have happened is sent again")                   \
    M(client_read_counts, "an answer to a read counts as a leader's")                       \
    M(client_foreign_ping_counts, "a foreign server's answer to a ping is believed")        \
    M(address_sign_ignored, "a foreign session's end is believed without waiting")          \
    M(zkdata_sum_ignored, "the checksums of ZooKeeper's log entries are not looked at")    \
    M(store_no_sync, "a save returns before the disk has it")                               \
    M(store_vote_not_written, "a vote is only kept in memory")                              \
    M(store_torn_accepted, "checksums of log records are not looked at")                    \
    M(store_no_truncate, "entries that a new leader replaced stay in the log")              \
    M(store_tail_believed, "what a killed process wrote counts as synced")                  \
    M(store_dir_not_synced, "a new file's name is not synced")                              \
    M(store_header_late, "a log segment has its name before its header is on the disk")     \
    M(store_spare_early, "a segment is written over before its old name is surely gone")    \
    M(store_life_ignored, "what an earlier life of a segment left counts as its records")   \
    M(store_rest_kept, "what a torn write has left stays behind the log's end")             \
    M(store_half_kept, "a snapshot that is half there keeps room that the log needs")  \
    M(store_vote_believed, "opening writes over the only vote that the disk has")         \
    M(store_segment_untold, "the vote file does not know of a new segment")                \
    M(store_end_unmarked, "no zeros follow what is written over an earlier life's records") \
    M(store_snapshot_not_synced, "a snapshot gets its name before its bytes are synced")    \
    M(disk_reserve_kept, "the reserve is not given up on a full disk")                      \
    M(disk_pin_holds, "a snapshot for another server stays though the disk is full")        \
    M(disk_stuck_waits, "a leader whose disk is stuck waits for a majority that is well")   \
    M(disk_piece_uncounted, "a disk that does not take a piece of a snapshot is not slow")  \
    M(disk_data_taken, "new data is accepted while the disks of a quorum are full")         \
    M(disk_leader_stays, "a leader with a sick disk keeps leading")                         \
    M(disk_heartbeat_waits, "a heartbeat waits for the disk")                               \
    M(disk_lagging_serves, "a server whose disk has fallen behind keeps its clients")       \
    M(backup_checksum_ignored, "a record of a backup with a wrong checksum is taken")       \
    M(scan_cut_ignored, "what a new leader has replaced in the log gets into a backup")     \
    M(scan_reuse_unnoticed, "a segment that is used again while it is read counts as damaged") \
    M(epoch_ignored, "servers of different epochs speak with each other")                   \
    M(epoch_no_jump, "a recovered server's zxids go on where its log ended")                \
    M(epoch_tail_dropped, "a recovered server's last entries are not taken over")           \
    M(epoch_others_vote, "in a new epoch the lost servers still count")                     \
    M(epoch_sessions_kept, "sessions outlive a recovery that may have lost what they were told") \
    M(tree_ephemeral_kept, "closing a session leaves its last ephemeral")                   \
    M(tree_moved_ignored, "a write through a session's old connection is applied")          \
    M(tree_multi_partial, "a failed multi leaves its first operation")                      \
    M(tree_seq_reuse, "a sequence counter goes down when a child is deleted")               \
    M(tree_attach_any_password, "a session can be attached with any password")              \
    M(tree_full_ignored, "a tree grows beyond its limit")                                   \
    M(tree_quota_ignored, "a hard limit of a quota is not looked at")                       \
    M(tree_ttl_ignored, "a TTL znode goes before its time")                                 \
    M(tree_acl_ignored, "an access list does not keep anybody out")                         \
    M(watch_lost, "a one-shot watch is lost when data and child watch fire together")        \
    M(watch_leak, "a closed connection leaves its watches behind")                          \
    M(watch_acl_ignored, "an event is shown to who may not read the znode")                 \
    M(watch_persistent_once, "a persistent watch is gone after its first event")             \
    M(watch_missed_untold, "setting a watch again does not tell what was missed")           \
    M(watch_stays, "a one-shot watch stays after its event")                                \
    M(watch_recursive_shallow, "a recursive watch sees nothing below its children")         \
    M(client_recursive_forgotten, "a recursive watch is not set again on a new connection") \
    M(tree_saving_changed, "a snapshot has data that were set after its entry")             \
    M(tree_saving_deleted, "a snapshot lacks what was deleted while it was taken")          \
    M(tree_saving_family, "a snapshot counts children that were made after its entry")      \
    M(tree_saving_newcomer, "a snapshot has znodes that were made after its entry")         \
    M(tree_saving_attached, "a snapshot has sessions as they were after its entry")         \
    M(tree_move_forgets, "a znode that is moved in memory forgets what was changed")        \
    M(tree_loaded_twice, "a snapshot may hold a path twice")                                \
    M(tree_split_loses, "a znode is not found any more when the look-up has grown")         \
    M(watch_split_loses, "a watch is not found any more when the look-up has grown")        \
    M(tree_seq_not_saved, "sequence counters are not in the snapshot")                      \
    M(tree_version_ignored, "a set does not look at the version that it was asked for")     \
    M(tree_lapse_blindly, "a container goes though it has got a child meanwhile")           \
    M(tree_multi_told, "a transaction that failed tells its watches")                       \
    M(member_sessions_forgotten, "a new leader does not know the sessions that there are")  \
    M(member_forward_taken_twice, "a forward that comes twice is proposed twice")
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
