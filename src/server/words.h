/* SPDX-License-Identifier: Apache-2.0 */
/* words.h -- the four-letter words, and the numbers for /metrics. */
#ifndef MUSTER_WORDS_H
#define MUSTER_WORDS_H

#include "server/member.h"
#include "server/transport.h"
#include "store/store.h"

struct server_facts {
    struct member_facts member;
    struct tree_facts tree;
    struct store_facts store;
    struct transport_facts transport;
    const char *version; /* of muster */
    const char *mode;    /* standalone, leader, follower */
    int64_t zxid;
    uint64_t term, committed, applied, members, voters, uptime_ms;
    bool is_serving, is_leader, disk_is_full;
    bool is_read_only; /* not serving; who asks for it may read */
};

/* ruok, srvr, stat, isro, mntr, envi; other known words get the refusal that ZooKeeper
 * gives. False: these four bytes are no word. */
bool word_answer(const struct server_facts *f, const char word[4], struct buf *out);

/* Prometheus text. */
void metrics_print(const struct server_facts *f, struct buf *out);

#endif
