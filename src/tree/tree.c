/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/tree.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "tree/state.h"

/* Keys of the digest: any constants, but the same on every replica. */
#define DIGEST_PATH 0x6d75737465722070
#define DIGEST_DATA 0x6d75737465722064
#define DIGEST_SELF 0x73656c6620202020
#define DIGEST_FAMILY 0x66616d696c792020
#define DIGEST_SESSION 0x73657373696f6e20
#define DIGEST_LAPSE 0x6c61707365202020

static uint64_t mix(uint64_t h, uint64_t v)
{
    return hash_u64((h ^ v) * 0x9e3779b97f4a7c15 + 0x632be59bd9b4e019);
}

static uint64_t mix_i64(uint64_t h, int64_t v) { return mix(h, (uint64_t)v); }
static uint64_t mix_i32(uint64_t h, int32_t v) { return mix(h, (uint32_t)v); }

uint64_t tree_digest_path(const char *path, size_t len)
{
    return hash_bytes(DIGEST_PATH, path, len);
}

uint64_t tree_digest_self_at(const struct tree *t, uint32_t id, uint64_t path)
{
    const struct node *v = nodes_at(&t->nodes, id);
    struct node_changes c = nodes_changes(&t->nodes, id);
    uint64_t h = mix(DIGEST_SELF, path);

    h = mix_i32(h, v->data_len);
    if (v->data_len > 0)
        h = mix(h, hash_bytes(DIGEST_DATA, nodes_data(&t->nodes, id), (size_t)v->data_len));
    h = mix_i64(h, v->czxid);
    h = mix_i64(h, c.mzxid);
    h = mix_i64(h, v->ctime);
    h = mix_i64(h, c.mtime);
    h = mix_i32(h, c.version);
    h = mix_i32(h, c.aversion);
    h = mix(h, acls_at(&t->acls, v->acl)->digest);
    if (v->owner == NODE_PERSISTENT)
        return mix(h, 0);
    if (!node_is_ephemeral(v))
        return mix(h, DIGEST_LAPSE + (uint64_t)lapses_at(&t->lapses, v->owner)->ttl_ms);
    const struct ephemeral *e = ephemerals_at(&t->ephemerals, v->owner);
    h = mix_i64(h, e->session->id);
    return mix(h, e->part);
}

uint64_t tree_digest_family_at(const struct tree *t, uint32_t id, uint64_t path)
{
    struct family f = nodes_family_get(&t->nodes, id);
    uint64_t h = mix(DIGEST_FAMILY, path);

    return mix_i32(mix_i64(h, f.pzxid), f.creates);
}

uint64_t tree_digest_session(const struct session *x)
{
    uint64_t h = mix_i64(DIGEST_SESSION, x->id);

    h = mix_i32(h, x->timeout_ms);
    h = mix(mix(h, x->origin.server), x->origin.conn);
    return mix(h, hash_bytes(DIGEST_SESSION, x->password, sizeof x->password));
}

bool tree_may(const struct tree *t, uint32_t id, struct wire_list ids, uint8_t rules,
              int32_t perms)
{
    const struct acl *acl = acls_at(&t->acls, nodes_at(&t->nodes, id)->acl);

    if ((acl->everyone & perms) != 0 || (rules & TREE_RULE_SKIP_ACL) != 0 ||
        MUTANT(tree_acl_ignored))
        return true;
    return tree_acl_lets((struct wire_list){acl->bytes, acl->len, acl->count}, ids, perms);
}

struct wire_stat tree_stat(const struct tree *t, uint32_t id)
{
    const struct node *v = nodes_at(&t->nodes, id);
    struct family f = nodes_family_get(&t->nodes, id);
    struct node_changes c = nodes_changes(&t->nodes, id);
    struct wire_stat s = {
        .czxid = v->czxid,
        .mzxid = c.mzxid,
        .ctime = v->ctime,
        .mtime = c.mtime,
        .version = c.version,
        /* Creates and deletes so far; in 32 bits that wrap. */
        .cversion = (int32_t)(2 * (uint32_t)f.creates - f.children),
        .aversion = c.aversion,
        .data_len = v->data_len > 0 ? v->data_len : 0,
        .children = (int32_t)f.children,
        .pzxid = f.pzxid,
    };

    if (node_is_ephemeral(v))
        s.ephemeral_owner = ephemerals_at(&t->ephemerals, v->owner)->session->id;
    return s;
}

struct tree *tree_new_bare(uint64_t hash_key)
{
    struct tree *t = mem_new(struct tree);

    nodes_init(&t->nodes, hash_key);
    acls_init(&t->acls, hash_key);
    return t;
}

static uint32_t open_list(struct tree *t, int32_t perms)
{
    struct wire_acl a = {perms, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    buf_clear(&t->acl);
    wire_acl_encode(&a, &t->acl);
    return acls_take(&t->acls, t->acl.data, t->acl.len, 1);
}

static uint32_t built_in(struct tree *t, uint32_t id, const char *path)
{
    nodes_at(&t->nodes, id)->acl = open_list(t, WIRE_PERM_ALL);
    t->digest += tree_digest_self(t, id, path, strlen(path));
    t->digest += tree_digest_family(t, id, path, strlen(path));
    return id;
}

static uint32_t built_in_below(struct tree *t, uint32_t parent, const char *path)
{
    return built_in(t, nodes_add(&t->nodes, parent, path, strlen(path), NULL, 0), path);
}

/* As in a fresh ZooKeeper: nothing of this was "created" (no counter moves). */
struct tree *tree_new(uint64_t hash_key)
{
    static const char config[] = "/zookeeper/config";
    struct tree *t = tree_new_bare(hash_key);

    nodes_set_data(&t->nodes, NODE_ROOT, NULL, 0);
    built_in(t, NODE_ROOT, "/");
    uint32_t zookeeper = built_in_below(t, NODE_ROOT, "/zookeeper");
    t->quotas = built_in_below(t, zookeeper, "/zookeeper/quota");
    uint32_t id = built_in_below(t, zookeeper, config);

    t->digest -= tree_digest_self(t, id, config, strlen(config));
    struct node *v = nodes_at(&t->nodes, id);
    acls_give(&t->acls, v->acl);
    v->acl = open_list(t, WIRE_PERM_READ);
    nodes_set_changes(&t->nodes, id, &(struct node_changes){.aversion = -1});
    t->digest += tree_digest_self(t, id, config, strlen(config));
    return t;
}

#define SCRATCH_KEPT (256 * 1024)

static void trim(struct buf *b)
{
    if (b->room + b->gone > SCRATCH_KEPT)
        buf_free(b);
}

void tree_scratch_trim(struct tree *t)
{
    trim(&t->changes);
    trim(&t->path);
    trim(&t->quota_path);
    trim(&t->acl);
    trim(&t->answer);
    if (t->undo_cap > SCRATCH_KEPT / sizeof *t->undo) {
        mem_free(t->undo);
        t->undo = NULL;
        t->undo_cap = 0;
    }
}

void tree_free(struct tree *t)
{
    if (t == NULL)
        return;
    nodes_free(&t->nodes);
    acls_free(&t->acls);
    sessions_free(&t->sessions);
    ephemerals_free(&t->ephemerals);
    lapses_free(&t->lapses);
    mem_free(t->undo);
    buf_free(&t->changes);
    buf_free(&t->path);
    buf_free(&t->quota_path);
    buf_free(&t->acl);
    buf_free(&t->answer);
    buf_free(&t->reconfig_text);
    mem_free(t);
}

static void show_session(const struct session *x, struct tree_session *out)
{
    *out = (struct tree_session){x->id, x->timeout_ms, x->origin, x->count};
}

bool tree_session_get(const struct tree *t, int64_t id, struct tree_session *out)
{
    const struct session *x = sessions_find(&t->sessions, id);

    if (x != NULL)
        show_session(x, out);
    return x != NULL;
}

bool tree_session_next(const struct tree *t, int64_t after, struct tree_session *out)
{
    const struct session *x = sessions_above(&t->sessions, after);

    if (x != NULL)
        show_session(x, out);
    return x != NULL;
}

void tree_ephemerals(const struct tree *t, int64_t session, tree_path_visit *visit, void *ctx)
{
    const struct session *x = sessions_find(&t->sessions, session);
    struct buf path = {0};

    for (uint32_t e = x != NULL ? x->first : 0; e != 0; e = t->ephemerals.rows[e].next) {
        nodes_path(&t->nodes, t->ephemerals.rows[e].node, &path);
        if (!visit(ctx, (const char *)path.data, path.len))
            break;
    }
    buf_free(&path);
}

int64_t tree_zxid(const struct tree *t) { return t->zxid; }

static uint64_t with_reconfig(const struct tree *t, uint64_t digest)
{
    if (t->reconfig == 0)
        return digest;
    return mix(mix_i64(digest, t->reconfig),
               hash_bytes(DIGEST_DATA, t->reconfig_text.data, t->reconfig_text.len));
}

uint64_t tree_digest(const struct tree *t) { return with_reconfig(t, t->digest); }

uint64_t tree_digest_anew(const struct tree *t)
{
    struct buf path = {0};
    uint64_t digest = 0;

    for (uint32_t id = NODE_ROOT; id != NODE_NONE;
         id = nodes_below_next(&t->nodes, NODE_ROOT, id)) {
        nodes_path(&t->nodes, id, &path);
        const char *text = (const char *)path.data;
        digest +=
            tree_digest_self(t, id, text, path.len) + tree_digest_family(t, id, text, path.len);
    }
    for (const struct session *x = sessions_above(&t->sessions, INT64_MIN); x != NULL;
         x = sessions_above(&t->sessions, x->id))
        digest += tree_digest_session(x);
    buf_free(&path);
    return with_reconfig(t, digest);
}

void tree_facts(const struct tree *t, struct tree_facts *out)
{
    *out = (struct tree_facts){
        .znodes = t->nodes.count,
        .ephemerals = t->ephemerals.count,
        .sessions = t->sessions.count,
        .data_bytes = t->nodes.data_bytes,
        .path_bytes = t->nodes.path_bytes,
        .bytes = tree_bytes(t),
    };
}

bool tree_get(const struct tree *t, const char *path, const uint8_t **data, size_t *len)
{
    uint32_t id = nodes_find(&t->nodes, path, strlen(path));

    if (id == NODE_NONE)
        return false;
    const struct node *v = nodes_at(&t->nodes, id);
    *data = nodes_data(&t->nodes, id);
    *len = v->data_len > 0 ? (size_t)v->data_len : 0;
    return true;
}
