/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c -- a snapshot is taken: see snapshot.h. */
#include "tree/snapshot.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"

static void put_i32(struct buf *b, int32_t v) { buf_add_be32(b, (uint32_t)v); }

static void save_session(struct saving *sv, struct session *x)
{
    uint8_t *p = buf_reserve(&sv->out, SNAPSHOT_SESSION_LEN);

    be32_put(p, TAG_SESSION);
    be64_put(p + 4, (uint64_t)x->id);
    be32_put(p + 12, (uint32_t)x->timeout_ms);
    be64_put(p + 16, x->origin.server);
    be64_put(p + 24, x->origin.conn);
    memcpy(p + 32, x->password, sizeof x->password);
    buf_added(&sv->out, SNAPSHOT_SESSION_LEN);
    x->saved_in = sv->number;
    x->place = sv->in.sessions++;
    sv->sum += tree_digest_session(x);
}

static uint32_t place_of_session(struct saving *sv, struct session *x)
{
    if (x->saved_in != sv->number)
        save_session(sv, x);
    return x->place;
}

static uint32_t place_of_acl(struct saving *sv, struct acl *acl)
{
    if (acl->saved_in == sv->number)
        return acl->place;
    put_i32(&sv->out, TAG_ACL);
    buf_add_be32(&sv->out, acl->len);
    buf_add(&sv->out, acl->bytes, acl->len);
    acl->saved_in = sv->number;
    return acl->place = sv->in.acls++;
}

/* Its parent is in. */
static void save_node(struct tree *t, uint32_t id)
{
    struct saving *sv = t->saving;
    const struct node *v = nodes_at(&t->nodes, id);
    struct family f = nodes_family_get(&t->nodes, id);
    struct node_changes c = nodes_changes(&t->nodes, id);
    size_t name_len;
    const char *name = nodes_name(&t->nodes, id, &name_len);
    enum snapshot_tag tag = TAG_PERSISTENT;
    uint64_t more = 0;

    if ((v->owner & NODE_LAPSES) != 0) {
        more = (uint64_t)lapses_at(&t->lapses, v->owner)->ttl_ms;
        tag = more > 0 ? TAG_TTL : TAG_CONTAINER;
    } else if (v->owner != NODE_PERSISTENT) {
        const struct ephemeral *e = ephemerals_at(&t->ephemerals, v->owner);
        more = (uint64_t)place_of_session(sv, e->session) << 32 | e->part;
        tag = TAG_EPHEMERAL;
    }
    uint32_t acl = place_of_acl(sv, t->acls.rows[v->acl]);
    size_t data_len = v->data_len > 0 ? (size_t)v->data_len : 0;
    size_t head_len = SNAPSHOT_NODE_LEN + (tag == TAG_PERSISTENT ? 0 : SNAPSHOT_MORE_LEN);
    uint8_t *p = buf_reserve(&sv->out, head_len + name_len + data_len);

    buf_added(&sv->out, head_len + name_len + data_len);
    be32_put(p, tag);
    be32_put(p + 4, id == NODE_ROOT ? 0 : sv->places[v->parent] - 1);
    be64_put(p + 8, (uint64_t)v->czxid);
    be64_put(p + 16, (uint64_t)c.mzxid);
    be64_put(p + 24, (uint64_t)f.pzxid);
    be64_put(p + 32, (uint64_t)v->ctime);
    be64_put(p + 40, (uint64_t)c.mtime);
    be32_put(p + 48, (uint32_t)c.version);
    be32_put(p + 52, (uint32_t)c.aversion);
    be32_put(p + 56, MUTANT(tree_seq_not_saved) ? f.children : (uint32_t)f.creates);
    be32_put(p + 60, acl);
    if (tag != TAG_PERSISTENT)
        be64_put(p + 64, more);
    p += head_len;
    be32_put(p - 8, (uint32_t)name_len);
    be32_put(p - 4, (uint32_t)v->data_len);
    if (name_len > 0)
        memcpy(p, name, name_len);
    if (data_len > 0)
        memcpy(p + name_len, nodes_data(&t->nodes, id), data_len);
    sv->places[id] = ++sv->in.nodes;
    nodes_path(&t->nodes, id, &sv->path);
    sv->sum += tree_digest_node(t, id, (const char *)sv->path.data, sv->path.len);
}

/* Those above it that are not in yet go first: a parent may have a higher number. */
static void save_node_and_above(struct tree *t, uint32_t id)
{
    struct saving *sv = t->saving;

    buf_clear(&sv->above);
    for (;;) {
        uint32_t parent = nodes_at(&t->nodes, id)->parent;
        if (id == NODE_ROOT || sv->places[parent] != 0)
            break;
        buf_add(&sv->above, &id, sizeof id);
        id = parent;
    }
    save_node(t, id);
    while (sv->above.len > 0) {
        sv->above.len -= sizeof id;
        memcpy(&id, sv->above.data + sv->above.len, sizeof id);
        save_node(t, id);
    }
}

/* ---- while the tree goes on ---- */

void tree_saving_node(struct tree *t, uint32_t id)
{
    struct saving *sv = t->saving;

    if (sv == NULL || id >= sv->slots_n || sv->places[id] != 0)
        return;
    REACHED(tree_saved_before_change);
    save_node_and_above(t, id);
}

void tree_saving_new_node(struct tree *t, uint32_t id)
{
    struct saving *sv = t->saving;

    if (sv == NULL || id >= sv->slots_n || MUTANT(tree_saving_newcomer))
        return;
    REACHED(tree_saving_number_again);
    sv->places[id] = SAVING_LATER;
}

void tree_saving_session(struct tree *t, struct session *x)
{
    struct saving *sv = t->saving;

    if (sv != NULL && x->id <= SESSION_ID_BASE + sv->zxid && !MUTANT(tree_saving_attached))
        (void)place_of_session(sv, x);
}

/* ---- the walk ---- */

uint64_t tree_saving_begin(struct tree *t)
{
    struct saving *sv = mem_new(struct saving);

    CHECK(t->saving == NULL && !t->in_multi);
    CHECK(t->nodes.count <= INT32_MAX && t->sessions.count <= INT32_MAX);
    sv->number = ++t->savings;
    sv->slots_n = t->nodes.slots_n;
    sv->places = mem_new_array(uint32_t, sv->slots_n);
    sv->at_session = INT64_MIN;
    sv->zxid = t->zxid;
    sv->all.sessions = (uint32_t)t->sessions.count;
    sv->all.acls = (uint32_t)t->acls.table.count;
    sv->all.nodes = t->nodes.count;
    sv->digest = tree_digest(t);
    sv->digest_nodes = t->digest;
    sv->bytes_all = tree_bytes(t);
    if (t->reconfig != 0) {
        buf_add_be64(&sv->reconfig, (uint64_t)t->reconfig);
        buf_add_be32(&sv->reconfig, (uint32_t)t->reconfig_text.len);
        buf_add(&sv->reconfig, t->reconfig_text.data, t->reconfig_text.len);
    }
    buf_add(&sv->out, SNAPSHOT_MAGIC, 8);
    put_i32(&sv->out, SNAPSHOT_VERSION);
    buf_add_be64(&sv->out, sv->bytes_all);
    buf_add_be64(&sv->out, (uint64_t)sv->zxid);
    buf_add_be64(&sv->out, sv->digest);
    buf_add_be32(&sv->out, sv->all.sessions);
    buf_add_be32(&sv->out, sv->all.acls);
    buf_add_be32(&sv->out, sv->all.nodes);
    CHECK(sv->out.len == SNAPSHOT_HEAD_LEN);
    t->saving = sv;
    return sv->bytes_all;
}

void tree_saving_end(struct tree *t)
{
    struct saving *sv = t->saving;

    if (sv == NULL)
        return;
    mem_free(sv->places);
    buf_free(&sv->reconfig);
    buf_free(&sv->out);
    buf_free(&sv->path);
    buf_free(&sv->above);
    mem_free(sv);
    t->saving = NULL;
}

/* What a number costs that is looked at and has nothing to be written. */
#define LOOK_BYTES 8

/* False: all of them are in. */
static bool walk_sessions(struct tree *t, size_t budget)
{
    struct saving *sv = t->saving;
    struct session *x = NULL;

    for (size_t looked = 0; sv->out.len + looked < budget; looked += LOOK_BYTES) {
        x = sessions_above(&t->sessions, sv->at_session);
        if (x == NULL || x->id > SESSION_ID_BASE + sv->zxid)
            return false;
        sv->at_session = x->id;
        (void)place_of_session(sv, x);
    }
    return true;
}

static bool walk_nodes(struct tree *t, size_t budget)
{
    struct saving *sv = t->saving;

    for (size_t looked = 0; sv->out.len + looked < budget; looked += LOOK_BYTES) {
        if (++sv->at_node >= sv->slots_n)
            return false;
        if (sv->places[sv->at_node] == 0 && nodes_is_used(&t->nodes, sv->at_node))
            save_node_and_above(t, sv->at_node);
    }
    return true;
}

static void hand_out(struct saving *sv, struct buf *out)
{
    sv->crc = crc32c(sv->crc, sv->out.data, sv->out.len);
    sv->bytes += sv->out.len;
    if (out->len == 0) {
        struct buf taken = *out;
        *out = sv->out;
        sv->out = taken;
    } else {
        buf_add(out, sv->out.data, sv->out.len);
    }
    buf_clear(&sv->out);
}

/* All is in. Whether it is what it should be. */
static bool is_right(const struct saving *sv)
{
    return sv->in.nodes == sv->all.nodes && sv->in.sessions == sv->all.sessions &&
           sv->in.acls == sv->all.acls && sv->sum == sv->digest_nodes &&
           sv->bytes + SNAPSHOT_CRC_LEN == sv->bytes_all;
}

enum tree_saving tree_saving_next(struct tree *t, size_t budget, struct buf *out)
{
    struct saving *sv = t->saving;

    CHECK(sv != NULL && !t->in_multi);
    if (budget == 0)
        budget = 1;
    /* Something is always done: what changes alone may fill a portion each time. */
    budget += sv->out.len;
    if (!sv->are_sessions_in)
        sv->are_sessions_in = !walk_sessions(t, budget);
    if (!sv->are_sessions_in || walk_nodes(t, budget)) {
        hand_out(sv, out);
        return TREE_SAVING_MORE;
    }
    if (sv->reconfig.len > 0)
        buf_add(&sv->out, sv->reconfig.data, sv->reconfig.len);
    hand_out(sv, out);
    if (!is_right(sv))
        return TREE_SAVING_WRONG;
    buf_add_be32(out, sv->crc);
    return TREE_SAVING_DONE;
}

void tree_saving_digests(const struct tree *t, uint64_t *counted, uint64_t *anew)
{
    *counted = t->saving->digest_nodes;
    *anew = t->saving->sum;
}

void tree_save(struct tree *t, struct buf *out)
{
    (void)tree_saving_begin(t);
    CHECK(tree_saving_next(t, SIZE_MAX / 2, out) == TREE_SAVING_DONE);
    tree_saving_end(t);
}
