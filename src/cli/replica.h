/* SPDX-License-Identifier: Apache-2.0 */
/* replica.h -- what a server says about its copy of the tree: its page /replica. */
#ifndef MUSTER_CLI_REPLICA_H
#define MUSTER_CLI_REPLICA_H

#include "cli/cmd.h"
#include "server/identity.h"

struct replica {
    uint8_t cluster[CLUSTER_LEN];
    char site[64], machine[RAFT_NAME_MAX], leader[RAFT_NAME_MAX]; /* leader: "" none */
    uint64_t id, epoch, committed, applied, applied_term, last, last_term, digest, time_ms;
    bool is_serving;
    struct raft_members members;
    uint64_t silence_ms[RAFT_MEMBERS_MAX]; /* of members; UINT64_MAX: not heard */
};

/* address: HOST:PORT. ERR_CONNECTION_LOST, ERR_TIMED_OUT, ERR_MALFORMED; why says what was
 * measured. */
int replica_ask(const char *address, uint32_t timeout_ms, struct replica *out, struct buf *why);
/* Somebody listens at HOST:PORT: a muster whose HTTP port is another one, or switched off. */
bool replica_port_is_open(const char *address, uint32_t timeout_ms);
/* --http, MUSTER_HTTP or the default. */
const char *replica_address(const struct cmd_env *env);

#endif
