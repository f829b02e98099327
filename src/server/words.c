/* SPDX-License-Identifier: Apache-2.0 */
#include "server/words.h"

#include <inttypes.h>
#include <string.h>

/* The version of the protocol that clients test for features. */
#define ZOOKEEPER_VERSION "3.8.0"

static const char *const other_words[] = {"conf", "cons", "crst", "srst", "dump", "wchs",
                                          "wchc", "wchp", "dirs", "hash", "gtmk", "stmk"};

static void version_line(const struct server_facts *f, struct buf *out)
{
    buf_printf(out,
               "Zookeeper version: " ZOOKEEPER_VERSION
               "-muster-%s, built on 2026-01-01 00:00 UTC\n",
               f->version);
}

static void srvr(const struct server_facts *f, struct buf *out)
{
    buf_printf(out,
               "Latency min/avg/max: 0/0.0/0\nReceived: %" PRIu64 "\nSent: %" PRIu64
               "\nConnections: %" PRIu64 "\nOutstanding: %" PRIu64 "\nZxid: 0x%" PRIx64
               "\nMode: %s\nNode count: %" PRIu64 "\n",
               f->member.requests_total, f->member.replies_total, f->member.connections,
               f->member.outstanding, (uint64_t)f->zxid, f->mode, f->tree.znodes);
}

static void mntr(const struct server_facts *f, struct buf *out)
{
    buf_printf(out,
               "zk_version\t" ZOOKEEPER_VERSION "-muster-%s\nzk_server_state\t%s\n"
               "zk_packets_received\t%" PRIu64 "\nzk_packets_sent\t%" PRIu64
               "\nzk_num_alive_connections\t%" PRIu64 "\nzk_outstanding_requests\t%" PRIu64
               "\nzk_znode_count\t%" PRIu64 "\nzk_watch_count\t%" PRIu64
               "\nzk_ephemerals_count\t%" PRIu64 "\nzk_approximate_data_size\t%" PRIu64
               "\nzk_global_sessions\t%" PRIu64 "\nzk_uptime\t%" PRIu64 "\n",
               f->version, f->mode, f->member.requests_total, f->member.replies_total,
               f->member.connections, f->member.outstanding, f->tree.znodes, f->member.watches,
               f->tree.ephemerals, f->tree.data_bytes, f->tree.sessions, f->uptime_ms);
}

bool word_answer(const struct server_facts *f, const char word[4], struct buf *out)
{
    static const char down[] = "This ZooKeeper instance is not currently serving requests\n";
    bool is_srvr = memcmp(word, "srvr", 4) == 0, is_stat = memcmp(word, "stat", 4) == 0;

    if (memcmp(word, "ruok", 4) == 0) {
        buf_add_str(out, "imok");
    } else if (memcmp(word, "isro", 4) == 0) {
        buf_add_str(out, f->is_serving ? "rw" : "null");
    } else if (memcmp(word, "envi", 4) == 0) {
        buf_printf(out, "Environment:\nzookeeper.version=" ZOOKEEPER_VERSION "-muster-%s\n",
                   f->version);
    } else if (is_srvr || is_stat || memcmp(word, "mntr", 4) == 0) {
        if (!f->is_serving) {
            buf_add_str(out, down);
        } else if (is_srvr || is_stat) {
            version_line(f, out);
            if (is_stat)
                buf_add_str(out, "Clients:\n\n");
            srvr(f, out);
        } else {
            mntr(f, out);
        }
    } else {
        for (size_t i = 0; i < sizeof other_words / sizeof other_words[0]; i++)
            if (memcmp(word, other_words[i], 4) == 0) {
                buf_printf(out, "%s is not executed because it is not in the whitelist.\n",
                           other_words[i]);
                return true;
            }
        return false;
    }
    return true;
}

/* clang-format off */
#define METRICS(M)                                                                              \
    M(gauge, muster_server_serving, is_serving, "1 while this server takes part in a quorum")   \
    M(gauge, muster_server_leader, is_leader, "1 while this server leads")                      \
    M(gauge, muster_server_disk_full, disk_is_full, "1 while saves wait for room on the disk")  \
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
    M(gauge, muster_store_log_bytes, store.log_bytes, "Bytes of the log on the disk")           \
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

void metrics_print(const struct server_facts *f, struct buf *out)
{
#define M(kind, name, field, help)                                                             \
    buf_printf(                                                                                \
        out, "# HELP " #name " " help "\n# TYPE " #name " " #kind "\n" #name " %" PRIu64 "\n", \
        (uint64_t)f->field);
    METRICS(M)
#undef M
}
