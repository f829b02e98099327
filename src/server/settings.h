/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h -- what can be set about a server, one row each.
 *
 * The keys are those of ZooKeeper's own configuration (zoo.cfg), where ZooKeeper has the
 * setting; a key with a dot or not among its parsed ones is a property there, which zoo.cfg
 * may give with or without "zookeeper." in front. The reader of zoo.cfg, `conf`, the admin
 * pages and the documentation are made from these rows.
 */
#ifndef MUSTER_SETTINGS_H
#define MUSTER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define READ_ONLY_AFTER_MS 2000 /* or a tick, if that is longer */
#define SETTING_TEXT_MAX 256    /* with the NUL */

/* N(field, key, default, least, most, help)   a whole number
 * B(field, key, default, help)                true or false (yes, no)
 * T(field, key, default, help)                a text */
/* clang-format off */
#define SETTINGS(N, B, T)                                                                       \
    N(tick_ms, "tickTime", 2000, 10, 600000, "milliseconds of a tick")                          \
    N(session_min_ms, "minSessionTimeout", 500, 1, 86400000, "the shortest session; zoo.cfg: 2 ticks") \
    N(session_max_ms, "maxSessionTimeout", 60000, 1, 86400000, "the longest session; zoo.cfg: 20 ticks") \
    N(init_limit, "initLimit", 10, 1, 1000000, "ticks for a server to begin to follow; conf shows it, replication is Raft's")         \
    N(sync_limit, "syncLimit", 5, 1, 1000000, "ticks that a server may lag and still count as synced in mntr")                    \
    N(frame_max, "jute.maxbuffer", 1048575, 1024, 1073741824, "bytes of a client's request")     \
    N(clients_max, "maxCnxns", 0, 0, 1000000, "connections of clients; 0: as many as there are files for") \
    N(clients_from_one_max, "maxClientCnxns", 0, 0, 1000000, "connections from one address; 0: no limit; zoo.cfg: 60") \
    N(backlog, "clientPortListenBacklog", -1, -1, 65535, "connections not yet accepted; -1: 511") \
    N(outstanding_max, "globalOutstandingLimit", 1000, 1, 10000000, "requests in work before clients are read no further") \
    N(throttle_max, "requestThrottleLimit", 0, 0, 10000000, "requests let into work; 0: no limit") \
    N(throttled_op_wait_ms, "throttledOpWaitTime", 0, 0, 86400000, "waited longer, a request is refused; 0: never") \
    N(no_session_ms, "nio.sessionlessCnxnTimeout", 10000, 100, 86400000, "until a connection must have a session") \
    N(sessions_max, "muster.sessionsMax", 1000000, 1, 1000000, "sessions of the ensemble; a client that would make one more is closed") \
    N(tree_bytes_max, "muster.treeBytesMax", 1006632960, 65536, 1006632960, "bytes of the whole tree (of its snapshot); what would make it larger is refused") \
    N(snapshot_every, "snapCount", 50000, 2, 1000000000, "entries between snapshots; above 64 MB of tree as many bytes of them as it has, up to 256 MB") \
    N(snapshots_kept, "autopurge.snapRetainCount", 2, 1, 1000, "snapshots kept")                \
    N(container_check_ms, "znode.container.checkIntervalMs", 60000, 10, 86400000, "how often empty containers and old TTL znodes are looked for") \
    N(container_per_minute_max, "znode.container.maxPerMinute", 10000, 1, 1000000, "of them, deleted in a minute") \
    N(container_never_used_ms, "znode.container.maxNeverUsedIntervalMs", 0, 0, 2147483647, "a container that never had a child is deleted after; 0: never") \
    B(extended_types, "extendedTypesEnabled", false, "there are TTL znodes")                     \
    B(enforce_quota, "enforceQuota", false, "hard limits of quotas refuse")                      \
    B(skip_acl, "skipACL", false, "access lists are not looked at")                              \
    B(digest_enabled, "DigestAuthenticationProvider.enabled", true, "user and password prove who somebody is") \
    B(read_only_mode, "readonlymode.enabled", false, "without a quorum, reads for those who ask for it") \
    B(reconfig_enabled, "reconfigEnabled", false, "clients may change the ensemble")             \
    B(standalone_enabled, "standaloneEnabled", true, "an ensemble of one is none")               \
    B(admin_enabled, "admin.enableServer", true, "the HTTP port has the admin pages")            \
    N(admin_port, "admin.serverPort", 0, 0, 65535, "the HTTP port; 0: the one before the clients'; zoo.cfg: 8080") \
    T(admin_address, "admin.serverAddress", "", "where the HTTP port listens; zoo.cfg: 0.0.0.0") \
    T(admin_url, "admin.commandURL", "/commands", "below which the admin pages are")              \
    T(words, "4lw.commands.whitelist", "srvr,isro,ruok,stat,mntr,envi", "four-letter words that are answered; *: all; zoo.cfg: srvr") \
    T(super_digest, "DigestAuthenticationProvider.superDigest", "", "super:HASH, who may do everything") \
    T(digest_algorithm, "DigestAuthenticationProvider.digestAlg", "SHA1", "what a password's hash is made with") \
    B(enforce_auth, "enforce.auth.enabled", false, "only clients that have proven who they are")   \
    T(enforce_auth_schemes, "enforce.auth.schemes", "", "by one of these schemes")               \
    N(large_from, "largeRequestThreshold", -1, -1, 1073741824, "bytes from which a request is a large one; -1: none is") \
    N(large_bytes_max, "largeRequestMaxBytes", 104857600, 1024, 2147483647, "bytes of all large requests in work")
/* clang-format on */

struct settings {
#define N(field, key, value, least, most, help) int32_t field;
#define B(field, key, value, help) bool field;
#define T(field, key, value, help) char field[SETTING_TEXT_MAX];
    SETTINGS(N, B, T)
#undef N
#undef B
#undef T
};

struct settings settings_default(void);           /* muster's own, without a zoo.cfg */
uint8_t settings_rules(const struct settings *s); /* TREE_RULE_ of tree.h */
/* What does not go together, or cannot be had: ERR_BAD_ARGUMENTS, and why. */
int settings_check(const struct settings *s, struct buf *why);
/* Without a quorum for so long: read-only mode. */
uint32_t settings_read_only_after_ms(const struct settings *s);

#endif
