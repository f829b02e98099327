/* SPDX-License-Identifier: Apache-2.0 */
#include "server/monitor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/limits.h"

/* When a number is shown. */
enum when { ALWAYS, ENSEMBLE, LEADER };

/* G a gauge, C a counter, D a gauge with a fraction, S a summary, P one with percentiles:
 * (when, ZooKeeper's name, where it is from, what it is). Inside, f are the facts and s the
 * member's statistics. */
/* clang-format off */
#define MONITOR_TABLE(G, C, D, S, P)                                                            \
    G(ALWAYS, ephemerals_count, f->tree.ephemerals, "Ephemeral znodes")                         \
    G(ALWAYS, num_alive_connections, f->member.connections, "Clients connected here")           \
    D(ALWAYS, avg_latency, summary_average(&s->latency), "Milliseconds from a request to its answer, on average") \
    G(ALWAYS, min_latency, s->latency.least, "The least of them")                               \
    G(ALWAYS, max_latency, s->latency.most, "The most")                                         \
    G(ALWAYS, outstanding_requests, f->member.outstanding, "Requests not yet answered")         \
    G(ALWAYS, znode_count, f->tree.znodes, "Znodes; ZooKeeper counts the root twice")           \
    G(ALWAYS, watch_count, f->watches.data + f->watches.child, "Watches, data and child ones")  \
    G(ALWAYS, approximate_data_size, f->tree.data_bytes + f->tree.path_bytes, "Bytes of data and paths") \
    G(ALWAYS, global_sessions, f->tree.sessions, "Sessions")                                    \
    G(ALWAYS, packets_received, s->received, "Frames and words from clients")                   \
    G(ALWAYS, packets_sent, s->sent, "Replies and events to clients")                           \
    G(ALWAYS, open_file_descriptor_count, w->files(w->ctx, false), "Open files")                \
    G(ALWAYS, max_file_descriptor_count, w->files(w->ctx, true), "How many may be")             \
    G(ALWAYS, uptime, f->uptime_ms, "Milliseconds since the start")                             \
    G(ALWAYS, last_client_response_size, size_shown(&s->replies, s->replies.last), "Bytes of the last reply or event") \
    G(ALWAYS, min_client_response_size, size_shown(&s->replies, s->replies.least), "The least of them") \
    G(ALWAYS, max_client_response_size, size_shown(&s->replies, s->replies.most), "The most")      \
    G(ALWAYS, auth_failed_count, s->auth_failed, "Proofs of identity that were none")           \
    G(ENSEMBLE, quorum_size, f->voters, "Servers that vote")                                    \
    G(LEADER, learners, f->learners, "Servers that follow this leader")                         \
    G(LEADER, followers, f->synced_voters, "Those that vote (the name of ZooKeeper up to 3.5)") \
    G(LEADER, synced_followers, f->synced_voters, "Those that vote and keep up")                \
    G(LEADER, synced_non_voting_followers, f->synced_joining, "Those that will vote, and keep up") \
    G(LEADER, synced_observers, f->synced_observers, "Those that do not vote, and keep up")     \
    G(LEADER, pending_syncs, member_pending_syncs(w->member), "Questions, of any server, that wait for a quorum") \
    G(LEADER, leader_uptime, member_leader_ms(w->member), "Milliseconds since this server leads") \
    G(LEADER, last_proposal_size, size_shown(&s->proposals, s->proposals.last), "Bytes of the last proposal") \
    G(LEADER, min_proposal_size, size_shown(&s->proposals, s->proposals.least), "The least of them") \
    G(LEADER, max_proposal_size, size_shown(&s->proposals, s->proposals.most), "The most")         \
    C(ALWAYS, proposal_count, s->proposed, "Proposals of this server as leader")                \
    C(ALWAYS, commit_count, s->committed_lead, "Entries committed while it led")                \
    C(ALWAYS, learner_commit_received_count, s->committed_follow, "Entries committed while it followed") \
    C(ALWAYS, bytes_received_count, s->received_bytes, "Bytes of requests")                     \
    C(ALWAYS, response_bytes, s->reply_bytes, "Bytes of replies")                               \
    C(ALWAYS, watch_bytes, s->event_bytes, "Bytes of watch events")                             \
    C(ALWAYS, connection_request_count, s->connects, "Connect requests")                        \
    C(ALWAYS, connection_revalidate_count, s->reconnects, "Those of a session that there was")  \
    C(ALWAYS, connection_rejected, f->clients.refused_total, "Connections refused by a limit")  \
    C(ALWAYS, connection_drop_count, f->clients.dropped_total, "Connections that ended without us") \
    C(ALWAYS, sessionless_connections_expired, f->clients.no_session_total, "Connections that said nothing") \
    C(ALWAYS, cnxn_closed_without_zk_server_running, s->closed_not_serving, "Connects without a quorum") \
    C(ALWAYS, stale_sessions_expired, f->member.sessions_expired_total, "Sessions that this leader let expire") \
    C(ALWAYS, looking_count, s->leaderless, "Times that no leader was known")                   \
    C(ALWAYS, digest_mismatches_count, f->mismatches, "Times that the tree was another than a majority's") \
    C(ALWAYS, ensemble_auth_fail, f->transport.refused_total, "Servers that did not show the secret") \
    S(ALWAYS, election_time, &s->election, "Milliseconds without a known leader")               \
    S(ALWAYS, unavailable_time, &s->unavailable, "Milliseconds without a quorum")               \
    S(ALWAYS, fsynctime, &f->writer.save_ms, "Milliseconds to write and sync a batch of the log") \
    S(ALWAYS, sync_processor_batch_size, &f->writer.save_entries, "Entries in a batch")         \
    S(ALWAYS, snapshottime, &f->writer.snapshot_ms, "Milliseconds to write a snapshot")         \
    S(ALWAYS, dbinittime, &f->load_ms, "Milliseconds to read snapshot and log at the start")    \
    S(ALWAYS, startup_snap_load_time, &f->load_snapshot_ms, "Of these, for the snapshot")       \
    S(ALWAYS, startup_txns_loaded, &f->load_entries, "Entries read at the start")               \
    S(ALWAYS, node_created_watch_count, &f->watches.told[0], "Watchers told of a created znode") \
    S(ALWAYS, node_deleted_watch_count, &f->watches.told[1], "Of a deleted one")                \
    S(ALWAYS, node_changed_watch_count, &f->watches.told[2], "Of changed data")                 \
    S(ALWAYS, node_children_watch_count, &f->watches.told[3], "Of changed children")            \
    P(ALWAYS, readlatency, &s->read, "Milliseconds from a read to its answer")                  \
    P(ALWAYS, updatelatency, &s->update, "Milliseconds from a write to its answer")             \
    P(ALWAYS, jvm_pause_time_ms, &s->pause, "Milliseconds that the process did not run (from 300 on)")
/* clang-format on */

static bool is_shown(const struct words *w, enum when when)
{
    switch (when) {
    case ALWAYS: return true;
    case ENSEMBLE: return w->facts->members > 1;
    case LEADER: return strcmp(w->facts->mode, "leader") == 0;
    }
    return false;
}

static double rounded(double v) { return (double)(uint64_t)(v * 10000 + 0.5) / 10000; }

void monitor_real(double v, struct buf *out)
{
    char text[32];

    int n = snprintf(text, sizeof text, "%.4f", rounded(v));
    while (n > 2 && text[n - 1] == '0' && text[n - 2] != '.')
        text[--n] = 0;
    buf_add_str(out, text);
}

/* ---- mntr and its JSON: key by key ---- */

struct sink {
    void (*number)(void *to, const char *key, int64_t v);
    void (*real)(void *to, const char *key, double v);
    void (*text)(void *to, const char *key, const char *v);
    void *to;
};

static const char *key_of(char *text, size_t room, const char *prefix, const char *name)
{
    snprintf(text, room, "%s_%s", prefix, name);
    return text;
}

static void put_summary(const struct sink *k, const char *name, const struct summary *v)
{
    char key[96];

    k->real(k->to, key_of(key, sizeof key, "avg", name), summary_average(v));
    k->number(k->to, key_of(key, sizeof key, "min", name), (int64_t)v->least);
    k->number(k->to, key_of(key, sizeof key, "max", name), (int64_t)v->most);
    k->number(k->to, key_of(key, sizeof key, "cnt", name), (int64_t)v->count);
    k->number(k->to, key_of(key, sizeof key, "sum", name), (int64_t)v->sum);
}

static void put_spread(const struct sink *k, const char *name, const struct distribution *v)
{
    static const struct {
        const char *prefix;
        unsigned per_mille;
    } points[] = {{"p50", 500}, {"p95", 950}, {"p99", 990}, {"p999", 999}};
    char key[96];

    put_summary(k, name, &v->all);
    for (size_t i = 0; i < 4; i++)
        k->number(k->to, key_of(key, sizeof key, points[i].prefix, name),
                  (int64_t)distribution_at(v, points[i].per_mille));
}

static void put_all(const struct words *w, const struct sink *k)
{
    const struct server_facts *f = w->facts;
    const struct member_stats *s = f->stats;
    char version[VERSION_MAX];

    k->text(k->to, "version", words_version(f, version));
    k->text(k->to, "server_state", f->mode);
    if (f->members > 1) /* a server without a quorum does not come here */
        k->text(k->to, "peer_state",
                f->is_leader ? "leading - broadcast" : "following - broadcast");
#define G(when, name, v, help) \
    if (is_shown(w, when))     \
        k->number(k->to, #name, (int64_t)(v));
#define D(when, name, v, help) \
    if (is_shown(w, when))     \
        k->real(k->to, #name, v);
#define S(when, name, v, help) \
    if (is_shown(w, when))     \
        put_summary(k, #name, v);
#define P(when, name, v, help) \
    if (is_shown(w, when))     \
        put_spread(k, #name, v);
    MONITOR_TABLE(G, G, D, S, P)
#undef G
#undef D
#undef S
#undef P
}

static void line_number(void *to, const char *key, int64_t v)
{
    buf_printf(to, "zk_%s\t%" PRId64 "\n", key, v);
}

static void line_real(void *to, const char *key, double v)
{
    buf_printf(to, "zk_%s\t", key);
    monitor_real(v, to);
    buf_add_u8(to, '\n');
}

static void line_text(void *to, const char *key, const char *v)
{
    buf_printf(to, "zk_%s\t%s\n", key, v);
}

void monitor_mntr(const struct words *w, struct buf *out)
{
    const struct sink lines = {line_number, line_real, line_text, out};

    put_all(w, &lines);
}

static void member_number(void *to, const char *key, int64_t v)
{
    (void)json_object_set_new(to, key, json_integer(v));
}

static void member_real(void *to, const char *key, double v)
{
    (void)json_object_set_new(to, key, json_real(rounded(v)));
}

static void member_text(void *to, const char *key, const char *v)
{
    (void)json_object_set_new(to, key, json_string(v));
}

void monitor_json(const struct words *w, json_t *to)
{
    const struct sink members = {member_number, member_real, member_text, to};

    put_all(w, &members);
}

/* ---- Prometheus ---- */

static void head(struct buf *out, const char *name, const char *kind, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void one(struct buf *out, const char *name, const char *kind, const char *help,
                int64_t v)
{
    head(out, name, kind, help);
    buf_printf(out, "%s %" PRId64 "\n", name, v);
}

static void one_real(struct buf *out, const char *name, const char *help, double v)
{
    head(out, name, "gauge", help);
    buf_printf(out, "%s ", name);
    monitor_real(v, out);
    buf_add_u8(out, '\n');
}

static void one_summary(struct buf *out, const char *name, const char *help,
                        const struct summary *v)
{
    head(out, name, "summary", help);
    buf_printf(out, "%s_count %" PRIu64 "\n%s_sum %" PRIu64 "\n", name, v->count, name, v->sum);
}

static void one_spread(struct buf *out, const char *name, const char *help,
                       const struct distribution *v)
{
    head(out, name, "summary", help);
    buf_printf(out,
               "%s{quantile=\"0.5\"} %" PRIu64 "\n%s{quantile=\"0.9\"} %" PRIu64
               "\n%s{quantile=\"0.99\"} %" PRIu64 "\n",
               name, distribution_at(v, 500), name, distribution_at(v, 900), name,
               distribution_at(v, 990));
    buf_printf(out, "%s_count %" PRIu64 "\n%s_sum %" PRIu64 "\n", name, v->all.count, name,
               v->all.sum);
}

static void zookeeper_metrics(const struct words *w, struct buf *out)
{
    const struct server_facts *f = w->facts;
    const struct member_stats *s = f->stats;

#define G(when, name, v, help) \
    if (is_shown(w, when))     \
        one(out, #name, "gauge", help, (int64_t)(v));
#define C(when, name, v, help) \
    if (is_shown(w, when))     \
        one(out, #name, "counter", help, (int64_t)(v));
#define D(when, name, v, help) \
    if (is_shown(w, when))     \
        one_real(out, #name, help, v);
#define S(when, name, v, help) \
    if (is_shown(w, when))     \
        one_summary(out, #name, help, v);
#define P(when, name, v, help) \
    if (is_shown(w, when))     \
        one_spread(out, #name, help, v);
    MONITOR_TABLE(G, C, D, S, P)
#undef G
#undef C
#undef D
#undef S
#undef P
}

/* clang-format off */
#define OWN_METRICS(M)                                                                              \
    M(gauge, muster_server_serving, is_serving, "1 while this server takes part in a quorum")   \
    M(gauge, muster_server_leader, is_leader, "1 while this server leads")                      \
    M(gauge, muster_server_disk_full, disk_is_full, "1 while saves wait for room on the disk")  \
    M(gauge, muster_disk_room, member.disk.own, "How much room: 0 ok, 1 low, 2 full, 3 spent, 4 bare") \
    M(gauge, muster_disk_free_bytes, member.disk.room.free_bytes, "Free bytes on the disk, beside the reserve") \
    M(gauge, muster_disk_reserve_bytes, member.disk.room.reserve_bytes, "Bytes set aside for a full disk") \
    M(gauge, muster_disk_reserve_wanted_bytes, member.disk.room.wanted_bytes, "As many as there should be") \
    M(gauge, muster_ensemble_room, member.disk.ensemble, "Likewise of a quorum; from 2 on new data is refused") \
    M(counter, muster_disk_refused_total, member.disk.refused_total, "Requests refused because a quorum's disks are full") \
    M(gauge, muster_disk_sync_last_ms, writer.last_save_ms, "Milliseconds that the last save took") \
    M(gauge, muster_disk_sync_max_ms, writer.save_ms.most, "The longest since the start")     \
    M(gauge, muster_disk_sync_running_ms, member.disk.saving_ms, "Since when the present save is at the disk") \
    M(gauge, muster_disk_slow, member.disk.is_slow, "1 while a save takes too long, and for a while after it") \
    M(counter, muster_disk_slow_total, member.disk.slow_total, "Saves that took too long")    \
    M(gauge, muster_disk_behind, member.disk.is_lagging, "1 while a quorum goes on without this disk: no clients") \
    M(counter, muster_disk_behind_total, member.disk.lagging_total, "Times that it was so")    \
    M(counter, muster_disk_hand_overs_total, member.disk.hand_overs_total, "Leadership offered because of this disk") \
    M(gauge, muster_server_repairing, is_stranger, "1 while this server does not vote because its store was lost") \
    M(counter, muster_server_new_lives_total, new_lives, "Times that it began again, its store set aside") \
    M(gauge, muster_store_set_aside, set_aside, "Stores set aside in the data directory")       \
    M(gauge, muster_tree_digest_index, member.digest_agreed_index, "The last entry at which a majority had this tree") \
    M(gauge, muster_tree_digest, digest, "The digest of then, its low 48 bits")                 \
    M(counter, muster_tree_digests_unresolved_total, member.digests_unresolved_total, "As leader: trees differ and no majority agrees") \
    M(counter, muster_snapshots_unseen_total, member.snapshots_unseen_total, "As leader: snapshots sent before their digest was agreed on") \
    M(gauge, muster_server_term, term, "Raft's term")                                           \
    M(gauge, muster_server_committed_index, committed, "The last entry known to be on a quorum") \
    M(gauge, muster_server_applied_index, applied, "The last entry applied to the tree")        \
    M(gauge, muster_cluster_members, members, "Servers in the configuration")                   \
    M(gauge, muster_cluster_voters, voters, "Servers that vote")                                \
    M(counter, muster_server_leader_changes_total, member.leader_changes_total, "Leaders seen since the start") \
    M(gauge, muster_server_connections, member.connections, "Clients connected here")           \
    M(gauge, muster_server_outstanding_requests, member.outstanding, "Requests not yet answered") \
    M(gauge, muster_server_watches, member.watches, "Watches of this server's clients")         \
    M(counter, muster_server_requests_total, member.requests_total, "Frames received from clients") \
    M(counter, muster_server_replies_total, member.replies_total, "Replies sent to clients")    \
    M(counter, muster_server_sessions_expired_total, member.sessions_expired_total, "Sessions that this leader let expire") \
    M(counter, muster_server_lapsed_total, member.lapsed_total, "Containers and TTL znodes that this leader found due") \
    M(counter, muster_server_forwards_again_total, member.forwards_again_total, "Times writes were given to a new leader") \
    M(counter, muster_server_malformed_total, member.malformed_total, "Client frames that were no request") \
    M(counter, muster_server_refused_total, member.refused_total, "Connects refused: too much in flight") \
    M(gauge, muster_tree_znodes, tree.znodes, "Znodes in the tree")                             \
    M(gauge, muster_tree_ephemerals, tree.ephemerals, "Ephemeral znodes")                       \
    M(gauge, muster_tree_sessions, tree.sessions, "Sessions")                                   \
    M(gauge, muster_tree_data_bytes, tree.data_bytes, "Bytes of data in the znodes")            \
    M(gauge, muster_tree_bytes, tree.bytes, "Bytes of the whole tree, as its snapshot takes them") \
    M(gauge, muster_store_log_bytes, store.log_bytes, "Bytes of the log on the disk")           \
    M(gauge, muster_store_spare_bytes, store.spare_bytes, "Bytes of segments of the log kept to be used again") \
    M(gauge, muster_store_snapshot_index, store.snapshot_index, "The last entry in the newest snapshot") \
    M(counter, muster_store_syncs_total, store.syncs_total, "Times the disk was synced")        \
    M(counter, muster_store_entries_total, store.entries_total, "Entries written to the log")   \
    M(counter, muster_store_bytes_total, store.bytes_total, "Bytes written to the log")         \
    M(counter, muster_peer_frames_in_total, transport.frames_in_total, "Messages from other machines") \
    M(counter, muster_peer_frames_out_total, transport.frames_out_total, "Messages to other machines") \
    M(counter, muster_peer_bytes_in_total, transport.bytes_in_total, "Bytes from other machines") \
    M(counter, muster_peer_bytes_out_total, transport.bytes_out_total, "Bytes to other machines") \
    M(counter, muster_peer_dropped_total, transport.dropped_total, "Messages not sent: no connection, or its queue is full") \
    M(counter, muster_peer_refused_total, transport.refused_total, "Connections of machines that did not show the secret") \
    M(counter, muster_peer_malformed_total, transport.malformed_total, "Connections ended by bytes that were no message")
/* clang-format on */

static void own_metrics(const struct words *w, struct buf *out)
{
    const struct server_facts *f = w->facts;

#define M(kind, name, field, help)                                                             \
    buf_printf(                                                                                \
        out, "# HELP " #name " " help "\n# TYPE " #name " " #kind "\n" #name " %" PRIu64 "\n", \
        (uint64_t)f->field);
    OWN_METRICS(M)
#undef M
    one(out, "muster_tree_bytes_max", "gauge",
        "How many there may be (muster.treeBytesMax here)", w->settings->tree_bytes_max);
    buf_add_str(out, "# HELP muster_limit_hits_total Times a limit has refused, or let wait\n"
                     "# TYPE muster_limit_hits_total counter\n");
    for (unsigned i = 0; i < MEMBER_LIMITS_N; i++)
        buf_printf(out, "muster_limit_hits_total{limit=\"%s\"} %" PRIu64 "\n",
                   limits_name((enum member_limit)i), f->member.limited[i]);
}

void monitor_prometheus(const struct words *w, struct buf *out)
{
    own_metrics(w, out);
    zookeeper_metrics(w, out);
}
