/* SPDX-License-Identifier: Apache-2.0 */
/* differ_rules.h -- what muster does differently from ZooKeeper 3.8.0 on purpose.
 *
 * Each row has its paragraph with the reason in docs/zookeeper-differences.md (differ.py checks
 * that). Most are kept out by not drawing such requests; EXPLAINED ones are drawn, and the
 * two answers that the row is about are let pass, and counted.
 */
#ifndef MUSTER_DIFFER_RULES_H
#define MUSTER_DIFFER_RULES_H

/* clang-format off */
#define DIFFER_RULES(NOT_DRAWN, EXPLAINED)                                                  \
    EXPLAINED(exists_unreadable, "exists needs READ, as in 3.9")                            \
    EXPLAINED(multi_create2, "create2 in a multi answers with its Stat")                    \
    EXPLAINED(multi_read_body, "no body with an error")                                     \
    NOT_DRAWN(watch_modes, "watches of several modes on one path, as in 3.9")               \
    NOT_DRAWN(check_watches_of_others, "checkWatches sees its own connection only")         \
    NOT_DRAWN(create_ttl_kills, "createTTL with another mode and ttl -1")                   \
    NOT_DRAWN(check_alone, "check outside of a multi")                                      \
    NOT_DRAWN(op_create_session, "createSession sent by a client")                          \
    NOT_DRAWN(delete_container, "deleteContainer sent by a client")                         \
    NOT_DRAWN(container_ephemeral, "createContainer with an ephemeral mode: a race there")  \
    NOT_DRAWN(set_acl_pending, "what follows setACL at once sees the old list there")       \
    NOT_DRAWN(multi_half_done, "what follows some refused multis sees half of them there")  \
    NOT_DRAWN(unknown_overtakes, "an unknown operation is answered first there")            \
    NOT_DRAWN(auth_overtakes, "auth is answered first there")                               \
    NOT_DRAWN(auth_malformed, "auth that cannot be decoded: -5, as everywhere; closed there") \
    NOT_DRAWN(reconfig_malformed, "reconfig that cannot be decoded takes no zxid there")    \
    NOT_DRAWN(utf8_repaired, "malformed UTF-8 becomes U+FFFD there")                        \
    NOT_DRAWN(negative_counts, "vectors of -2 and less are empty there")                    \
    NOT_DRAWN(acl_null, "an entry without scheme or id is an internal error there")         \
    NOT_DRAWN(set_watches_null, "a list that is null is an internal error there")           \
    NOT_DRAWN(sync_null, "sync without a path is answered there")                           \
    NOT_DRAWN(set_null, "create, setData, setACL of no path: -5, as elsewhere; -8 there")    \
    NOT_DRAWN(count_of_empty, "getAllChildrenNumber of \"\" counts the root twice there")   \
    NOT_DRAWN(quota_pending, "hard limits are compared with what is applied there")         \
    NOT_DRAWN(quota_stats_stat, "create2 of zookeeper_stats tells the length that is stored")   \
    NOT_DRAWN(quota_stats_text, "hard limits of -1 that a client writes into zookeeper_stats") \
    NOT_DRAWN(quota_garbage, "limits and stats that are no numbers end it there")
/* clang-format on */

#define NAME(name, text) RULE_##name,
enum differ_rule { DIFFER_RULES(NAME, NAME) RULES_N };
#undef NAME

#endif
