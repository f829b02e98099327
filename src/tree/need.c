/* SPDX-License-Identifier: Apache-2.0 */
/* need.c -- whether a request needs room, for when there is none (server/member_disk.h). */
#include <string.h>

#include "base/err.h"
#include "tree/state.h"

static bool is_ephemeral(int32_t op, int32_t flags)
{
    return (op == WIRE_OP_CREATE || op == WIRE_OP_CREATE2) &&
           (flags == WIRE_EPHEMERAL || flags == WIRE_EPHEMERAL_SEQUENTIAL);
}

static bool is_muster(struct wire_bytes path)
{
    static const char prefix[] = "/muster/";

    return path.len > (int32_t)sizeof prefix - 1 &&
           memcmp(path.data, prefix, sizeof prefix - 1) == 0;
}

static enum tree_need of_little(struct wire_bytes path)
{
    return is_muster(path) ? TREE_NEED_CLAIM : TREE_NEED_LITTLE;
}

static bool is_own(const struct tree *t, int64_t session, struct wire_bytes path)
{
    if (path.len <= 0)
        return false;
    uint32_t id = nodes_find(&t->nodes, (const char *)path.data, (size_t)path.len);
    return id != NODE_NONE && tree_stat(t, id).ephemeral_owner == session;
}

/* Of one operation, which is read from in; what cannot be read changes nothing. */
static enum tree_need need_of(const struct tree *t, int64_t session, int32_t op,
                              struct wire_in *in)
{
    struct wire_create_ttl_request ttl;
    struct wire_create_request create;
    struct wire_set_data_request set;
    struct wire_path_version_request other;

    switch (op) {
    case WIRE_OP_DELETE:
    case WIRE_OP_CHECK:
        (void)wire_path_version_request_decode(&other, in);
        return TREE_NEED_NOTHING;
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
        if (wire_create_request_decode(&create, in) != 0)
            return TREE_NEED_NOTHING;
        return is_ephemeral(op, create.flags) ? of_little(create.path) : TREE_NEED_ROOM;
    case WIRE_OP_CREATE_TTL:
        (void)wire_create_ttl_request_decode(&ttl, in);
        return TREE_NEED_ROOM;
    case WIRE_OP_SET_DATA:
        if (wire_set_data_request_decode(&set, in) != 0)
            return TREE_NEED_NOTHING;
        return is_own(t, session, set.path) ? of_little(set.path) : TREE_NEED_ROOM;
    default: return TREE_NEED_ROOM;
    }
}

enum tree_need tree_need(const struct tree *t, int64_t session, int32_t op, const uint8_t *body,
                         size_t len)
{
    struct wire_in in = wire_in(body, len);
    enum tree_need most = TREE_NEED_NOTHING, one;

    if (op < 0 || op == WIRE_OP_CLOSE_SESSION || op == WIRE_OP_RECONFIG)
        return TREE_NEED_NOTHING; /* sessions; what the ensemble does by itself */
    if (op != WIRE_OP_MULTI) {
        most = need_of(t, session, op, &in);
    } else {
        struct wire_multi_header h;
        while (wire_multi_header_decode(&h, &in) == 0 && !h.done) {
            one = need_of(t, session, h.op, &in);
            most = one > most ? one : most;
            if (most == TREE_NEED_ROOM)
                break;
        }
    }
    return most != TREE_NEED_NOTHING && len > TREE_LITTLE_MAX ? TREE_NEED_ROOM : most;
}
