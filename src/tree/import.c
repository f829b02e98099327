/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/import.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "tree/state.h"
#include "wire/path.h"

/* Finds or makes it; *is_new: it counts in no digest yet. */
static int find_or_add(struct tree *t, const struct tree_image *image, uint32_t *id,
                       bool *is_new)
{
    const char *path = image->path;
    size_t len = image->path_len;

    if (path_validate(path, len) != 0 || image->kind == TREE_EPHEMERAL ||
        (image->kind == TREE_TTL && image->ttl_ms <= 0))
        return ERR_BAD_ARGUMENTS;
    *id = nodes_find(&t->nodes, path, len);
    *is_new = *id == NODE_NONE;
    if (!*is_new) { /* one that every tree has, or here twice */
        const struct node *v = nodes_at(&t->nodes, *id);
        bool is_plain = v->owner == NODE_PERSISTENT && image->kind == TREE_PERSISTENT;
        return v->czxid == 0 && is_plain ? 0 : ERR_NODE_EXISTS;
    }
    uint32_t parent = nodes_find(&t->nodes, path, path_parent_len(path, len));
    if (parent == NODE_NONE)
        return ERR_NO_NODE;
    *id = nodes_add(&t->nodes, parent, path, len, image->data.data, image->data.len);
    return 0;
}

int tree_import(struct tree *t, const struct tree_image *image)
{
    const char *path = image->path;
    size_t len = image->path_len;
    uint32_t id = NODE_NONE;
    bool is_new = false;

    CHECK(t->zxid == 0);
    int err = image->acl.count > 0 ? 0 : ERR_INVALID_ACL;
    if (err == 0)
        err = find_or_add(t, image, &id, &is_new);
    if (err != 0)
        return err;
    uint32_t acl = acls_take(&t->acls, image->acl.data, image->acl.len, image->acl.count);
    if (!is_new) {
        t->digest -= tree_digest_self(t, id, path, len) + tree_digest_family(t, id, path, len);
        acls_give(&t->acls, nodes_at(&t->nodes, id)->acl);
        nodes_set_data(&t->nodes, id, image->data.data, image->data.len);
    }
    struct node *v = nodes_at(&t->nodes, id);
    v->czxid = image->czxid;
    v->ctime = image->ctime;
    nodes_load_changes(
        &t->nodes, id,
        &(struct node_changes){image->mzxid, image->mtime, image->version, image->aversion});
    v->acl = acl;
    v->owner = image->kind == TREE_PERSISTENT
                   ? NODE_PERSISTENT
                   : lapses_add(&t->lapses, id, image->kind == TREE_TTL ? image->ttl_ms : 0);
    if (v->family != 0 || image->pzxid != image->czxid || image->creates != 0) {
        struct family *f = nodes_family(&t->nodes, id);
        f->pzxid = image->pzxid;
        f->creates = image->creates;
    }
    t->digest += tree_digest_self(t, id, path, len) + tree_digest_family(t, id, path, len);
    return 0;
}

int tree_import_end(struct tree *t, int64_t zxid)
{
    CHECK(t->zxid == 0);
    if (zxid < 0 || zxid > TREE_ZXID_MAX)
        return ERR_TOO_BIG;
    t->zxid = zxid > 0 ? zxid : 1;
    tree_scratch_trim(t);
    return 0;
}

uint32_t tree_acl_numbers(const struct tree *t) { return t->acls.n; }

static enum tree_kind kind_of(const struct tree *t, const struct node *v, int64_t *ttl_ms)
{
    *ttl_ms = 0;
    if (v->owner == NODE_PERSISTENT)
        return TREE_PERSISTENT;
    if (node_is_ephemeral(v))
        return TREE_EPHEMERAL;
    *ttl_ms = lapses_at(&t->lapses, v->owner)->ttl_ms;
    return *ttl_ms > 0 ? TREE_TTL : TREE_CONTAINER;
}

bool tree_walk_next(struct tree_walk *w, const struct tree *t, struct tree_image *out)
{
    w->at = w->at == NODE_NONE ? NODE_ROOT : nodes_below_next(&t->nodes, NODE_ROOT, w->at);
    if (w->at == NODE_NONE)
        return false;
    const struct node *v = nodes_at(&t->nodes, w->at);
    const struct acl *acl = acls_at(&t->acls, v->acl);
    struct family f = nodes_family_get(&t->nodes, w->at);
    struct node_changes c = nodes_changes(&t->nodes, w->at);
    int64_t ttl_ms;
    nodes_path(&t->nodes, w->at, &w->path);
    *out = (struct tree_image){
        .path = (const char *)w->path.data,
        .path_len = w->path.len,
        .data = {nodes_data(&t->nodes, w->at), v->data_len},
        .acl = {acl->bytes, acl->len, acl->count},
        .acl_number = v->acl,
        .kind = kind_of(t, v, &ttl_ms),
        .ttl_ms = ttl_ms,
        .czxid = v->czxid,
        .mzxid = c.mzxid,
        .pzxid = f.pzxid,
        .ctime = v->ctime,
        .mtime = c.mtime,
        .version = c.version,
        .aversion = c.aversion,
        .creates = f.creates,
    };
    return true;
}

void tree_walk_free(struct tree_walk *w) { buf_free(&w->path); }
