/* SPDX-License-Identifier: Apache-2.0 */
/* room.c -- how much a tree may hold.
 *
 * What counts is what its snapshot takes, to the byte, so that there is no tree that a follower
 * cannot be sent. What grows it is refused before it does; deletes, sessions and what the
 * ensemble itself writes (statistics of quotas, the list of servers) never are: for them there
 * is room between TREE_BYTES_MAX and the snapshot's own limit. */
#include "base/err.h"
#include "base/mutant.h"
#include "tree/snapshot.h"

/* As snapshot.h has them. */
#define HEAD_BYTES (SNAPSHOT_HEAD_LEN + SNAPSHOT_CRC_LEN)
#define SESSION_BYTES SNAPSHOT_SESSION_LEN
#define ACL_BYTES SNAPSHOT_ACL_LEN
#define NODE_BYTES SNAPSHOT_NODE_LEN
#define LAPSE_BYTES SNAPSHOT_MORE_LEN
#define EPHEMERAL_BYTES SNAPSHOT_MORE_LEN
#define RECONFIG_BYTES (8u + 4)

uint64_t tree_bytes(const struct tree *t)
{
    uint64_t bytes = HEAD_BYTES;

    bytes += (uint64_t)t->sessions.count * SESSION_BYTES;
    bytes += (uint64_t)t->acls.table.count * ACL_BYTES + t->acls.bytes;
    bytes += (uint64_t)t->nodes.count * NODE_BYTES + t->nodes.name_bytes + t->nodes.data_bytes;
    bytes += (uint64_t)t->lapses.count * LAPSE_BYTES;
    bytes += (uint64_t)t->ephemerals.count * EPHEMERAL_BYTES;
    return t->reconfig == 0 ? bytes : bytes + RECONFIG_BYTES + t->reconfig_text.len;
}

int tree_room_for(const struct step *s, uint64_t more)
{
    if (more == 0 || tree_bytes(s->t) + more <= s->bytes_max || MUTANT(tree_full_ignored))
        return 0;
    s->t->is_full = true;
    return ERR_QUOTA_EXCEEDED;
}

uint64_t tree_bytes_of_acl(size_t len) { return ACL_BYTES + len; }

uint64_t tree_bytes_of_create(const struct create *c, size_t name_len, size_t acl_len)
{
    uint64_t bytes = NODE_BYTES + name_len + (c->data.len > 0 ? (uint64_t)c->data.len : 0);

    bytes += c->container || c->ttl_ms > 0 ? LAPSE_BYTES : 0;
    bytes += c->ephemeral ? EPHEMERAL_BYTES : 0;
    return bytes + tree_bytes_of_acl(acl_len);
}
