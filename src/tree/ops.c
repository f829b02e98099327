/* SPDX-License-Identifier: Apache-2.0 */
/* ops.c -- the operations that change znodes. Each makes all its checks first, in the order
 * in which ZooKeeper makes them, and changes something only when none of them failed. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "tree/quota.h"
#include "tree/state.h"
#include "wire/path.h"

static bool is(const char *path, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(path, text, len) == 0;
}

static bool has_nul(struct wire_bytes b)
{
    return b.len > 0 && memchr(b.data, 0, (size_t)b.len) != NULL;
}

static bool has_slash(struct wire_bytes b)
{
    return b.len > 0 && memchr(b.data, '/', (size_t)b.len) != NULL;
}

static const char *text(struct wire_bytes b) { return (const char *)b.data; }

/* id: the znode whose access list says who may be told. */
static void note(const struct step *s, enum watch_event event, uint32_t id, const char *path,
                 size_t len)
{
    struct buf *out = &s->t->changes;

    if (!s->t->want_changes)
        return;
    const struct acl *acl = acls_at(&s->t->acls, nodes_at(&s->t->nodes, id)->acl);
    bool is_open = (acl->everyone & WIRE_PERM_READ) != 0;
    if (!is_open)
        acls_ref(&s->t->acls, acl->id);
    buf_add_u8(out, (uint8_t)event);
    buf_add_be32(out, (uint32_t)len);
    buf_add_be32(out, is_open ? 0 : acl->id);
    buf_add(out, path, len);
}

static struct undo *undo_add(const struct step *s, enum undo_kind kind, uint32_t id)
{
    struct tree *t = s->t;

    mem_grow(t->undo, t->undo_cap, t->undo_n + 1);
    struct undo *u = &t->undo[t->undo_n++];
    *u = (struct undo){.kind = kind, .node = id};
    return u;
}

/* One creation (creates 1) or deletion (0) below a znode. */
static void parent_changed(const struct step *s, uint32_t id, const char *path, size_t len,
                           int creates)
{
    struct tree *t = s->t;
    uint64_t at = tree_digest_path(path, len);

    t->digest -= tree_digest_family_at(t, id, at);
    struct family *f = nodes_family(&t->nodes, id);
    f->pzxid = s->zxid;
    f->creates = (int32_t)((uint32_t)f->creates + (uint32_t)creates);
    t->digest += tree_digest_family_at(t, id, at);
    note(s, WATCH_CHILDREN_CHANGED, id, path, len);
}

#define TTL_MAX_MS 0xffffffffffLL /* five bytes, as ZooKeeper stores it */

int tree_create_mode(int32_t op, int32_t flags, int64_t ttl_ms, uint8_t rules,
                     struct create *out)
{
    bool is_ttl = flags == WIRE_TTL || flags == WIRE_TTL_SEQUENTIAL;

    if (flags < WIRE_PERSISTENT || flags > WIRE_TTL_SEQUENTIAL)
        return ERR_BAD_ARGUMENTS;
    /* An extension that is off by default, as in ZooKeeper. */
    if (is_ttl && (rules & TREE_RULE_EXTENDED_TYPES) == 0)
        return ERR_UNIMPLEMENTED;
    if (is_ttl && (op != WIRE_OP_CREATE_TTL || ttl_ms < 1 || ttl_ms > TTL_MAX_MS))
        return ERR_BAD_ARGUMENTS;
    /* ZooKeeper lets createTTL pass with other flags and a ttl of -1, and dies of it. */
    if (op == WIRE_OP_CREATE_TTL && !is_ttl)
        return ERR_BAD_ARGUMENTS;
    out->ttl_ms = is_ttl ? ttl_ms : 0;
    out->container = op == WIRE_OP_CREATE_CONTAINER;
    out->ephemeral =
        !out->container && (flags == WIRE_EPHEMERAL || flags == WIRE_EPHEMERAL_SEQUENTIAL);
    out->sequential = flags == WIRE_SEQUENTIAL || flags == WIRE_EPHEMERAL_SEQUENTIAL ||
                      flags == WIRE_TTL_SEQUENTIAL;
    return 0;
}

/* %010d, into text; returns its length. */
static size_t print_sequence(int32_t number, char text_out[12])
{
    uint32_t v = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
    size_t width = number < 0 && v > 999999999 ? 11 : 10;

    for (size_t i = width; i > 0; i--, v /= 10)
        text_out[i - 1] = (char)('0' + v % 10);
    if (number < 0)
        text_out[0] = '-';
    return width;
}

static void create_now(const struct step *s, const struct create *c, uint32_t parent,
                       const char *path, size_t len, int32_t acl_count, uint32_t *id)
{
    struct tree *t = s->t;
    size_t parent_len = path_parent_len(path, len);

    if (t->in_multi) {
        struct family f = nodes_family_get(&t->nodes, parent);
        struct undo *u = undo_add(s, UNDO_CREATE, NODE_NONE);
        u->parent_pzxid = f.pzxid;
        u->parent_creates = f.creates;
    }
    *id = nodes_add(&t->nodes, parent, path, len, c->data.data, c->data.len);
    if (t->in_multi)
        t->undo[t->undo_n - 1].node = *id;
    struct node *v = nodes_at(&t->nodes, *id);
    v->czxid = s->zxid;
    v->ctime = s->time_ms;
    v->acl = acls_take(&t->acls, t->acl.data, t->acl.len, acl_count);
    if (c->container || c->ttl_ms > 0)
        v->owner = lapses_add(&t->lapses, *id, c->ttl_ms);
    else if (c->ephemeral)
        v->owner = ephemerals_add(&t->ephemerals, s->session, *id, s->part);
    uint64_t at = tree_digest_path(path, len);
    t->digest += tree_digest_self_at(t, *id, at) + tree_digest_family_at(t, *id, at);
    note(s, WATCH_CREATED, *id, path, len);
    parent_changed(s, parent, path, parent_len, 1);
    quota_created(s, path, len);
    quota_changed(s, path, len, 1, c->data.len > 0 ? c->data.len : 0);
}

int tree_create(const struct step *s, const struct create *c, uint32_t *id)
{
    struct tree *t = s->t;
    int32_t acl_count;
    int err;

    if (!has_slash(c->path) || has_nul(c->path))
        return ERR_BAD_ARGUMENTS;
    buf_clear(&t->acl);
    err = acl_fix(c->acl, s->ids, s->rules, &t->acl, &acl_count);
    if (err != 0)
        return err;
    size_t len = (size_t)c->path.len;
    uint32_t parent = nodes_find(&t->nodes, text(c->path), path_parent_len(text(c->path), len));
    if (parent == NODE_NONE)
        return ERR_NO_NODE;
    if (!tree_may(t, parent, s->ids, s->rules, WIRE_PERM_CREATE))
        return ERR_NO_AUTH;
    buf_clear(&t->path);
    buf_add(&t->path, c->path.data, len);
    if (c->sequential) {
        char number[12];
        size_t n = print_sequence(nodes_family_get(&t->nodes, parent).creates, number);
        buf_add(&t->path, number, n);
    }
    const char *path = (const char *)t->path.data;
    err = path_validate(path, t->path.len);
    if (err != 0)
        return err;
    if (nodes_find(&t->nodes, path, t->path.len) != NODE_NONE)
        return ERR_NODE_EXISTS;
    if (node_is_ephemeral(nodes_at(&t->nodes, parent)))
        return ERR_NO_CHILDREN_FOR_EPHEMERALS;
    err = quota_check(s, path, t->path.len, 1, c->data.len > 0 ? c->data.len : 0);
    if (err == 0) {
        size_t name_len = t->path.len - path_name_at(path, t->path.len);
        err = tree_room_for(s, tree_bytes_of_create(c, name_len, t->acl.len));
    }
    if (err != 0)
        return err;
    create_now(s, c, parent, path, t->path.len, acl_count, id);
    return 0;
}

/* A znode that has been unlinked, and that no undo will want back. */
static void node_drop(struct tree *t, uint32_t id)
{
    struct node *v = nodes_at(&t->nodes, id);

    acls_give(&t->acls, v->acl);
    if (node_is_ephemeral(v))
        ephemerals_drop(&t->ephemerals, v->owner);
    else if (v->owner != NODE_PERSISTENT)
        lapses_drop(&t->lapses, v->owner);
    nodes_drop(&t->nodes, id);
}

static void delete_now(const struct step *s, uint32_t id, const char *path, size_t len)
{
    struct tree *t = s->t;
    struct node *v = nodes_at(&t->nodes, id);
    uint32_t parent = v->parent;

    if (t->in_multi) {
        struct family f = nodes_family_get(&t->nodes, parent);
        struct undo *u = undo_add(s, UNDO_DELETE, id);
        u->parent_pzxid = f.pzxid;
        u->parent_creates = f.creates;
    }
    uint64_t at = tree_digest_path(path, len);
    t->digest -= tree_digest_self_at(t, id, at) + tree_digest_family_at(t, id, at);
    nodes_unlink(&t->nodes, id);
    if (node_is_ephemeral(v))
        ephemerals_unlink(&t->ephemerals, v->owner);
    note(s, WATCH_DELETED, id, path, len);
    parent_changed(s, parent, path, path_parent_len(path, len),
                   MUTANT(tree_seq_reuse) ? -1 : 0);
    quota_changed(s, path, len, -1, v->data_len > 0 ? -(int64_t)v->data_len : 0);
    if (!t->in_multi)
        node_drop(t, id);
}

static bool is_reserved(const char *path, size_t len)
{
    return is(path, len, "/") || is(path, len, "/zookeeper") ||
           is(path, len, "/zookeeper/quota") || is(path, len, "/zookeeper/config");
}

int tree_delete(const struct step *s, struct wire_bytes path, int32_t version)
{
    struct tree *t = s->t;
    size_t len = (size_t)path.len;

    if (!has_slash(path) || has_nul(path) || is_reserved(text(path), len))
        return ERR_BAD_ARGUMENTS;
    uint32_t parent = nodes_find(&t->nodes, text(path), path_parent_len(text(path), len));
    if (parent == NODE_NONE)
        return ERR_NO_NODE;
    if (!tree_may(t, parent, s->ids, s->rules, WIRE_PERM_DELETE))
        return ERR_NO_AUTH;
    uint32_t id = nodes_find(&t->nodes, text(path), len);
    if (id == NODE_NONE)
        return ERR_NO_NODE;
    if (version != -1 && version != nodes_changes(&t->nodes, id).version)
        return ERR_BAD_VERSION;
    if (nodes_family_get(&t->nodes, id).children > 0)
        return ERR_NOT_EMPTY;
    delete_now(s, id, text(path), len);
    return 0;
}

void tree_remove_znode(const struct step *s, uint32_t id)
{
    nodes_path(&s->t->nodes, id, &s->t->path);
    delete_now(s, id, (const char *)s->t->path.data, s->t->path.len);
}

/* What setData, setACL and check have in common. */
static int find_valid(const struct step *s, struct wire_bytes path, int32_t perms, uint32_t *id)
{
    int err = path_validate(text(path), (size_t)path.len);

    if (err != 0)
        return err;
    *id = nodes_find(&s->t->nodes, text(path), (size_t)path.len);
    if (*id == NODE_NONE)
        return ERR_NO_NODE;
    return tree_may(s->t, *id, s->ids, s->rules, perms) ? 0 : ERR_NO_AUTH;
}

static int32_t next_version(int32_t version) { return (int32_t)((uint32_t)version + 1); }

static void undo_set_add(const struct step *s, uint32_t id)
{
    const struct node *v = nodes_at(&s->t->nodes, id);

    if (!s->t->in_multi)
        return;
    struct undo *u = undo_add(s, UNDO_SET, id);
    u->changes = nodes_changes(&s->t->nodes, id);
    u->data_len = v->data_len;
    u->data =
        v->data_len > 0 ? mem_dup(nodes_data(&s->t->nodes, id), (size_t)v->data_len) : NULL;
}

int tree_set_data(const struct step *s, const struct wire_set_data_request *r, uint32_t *id)
{
    struct tree *t = s->t;
    int err = find_valid(s, r->path, WIRE_PERM_WRITE, id);

    if (err != 0)
        return err;
    const struct node *v = nodes_at(&t->nodes, *id);
    const char *path = text(r->path);
    size_t len = (size_t)r->path.len;
    int64_t more = (r->data.len > 0 ? r->data.len : 0) - (v->data_len > 0 ? v->data_len : 0);
    err = quota_check(s, path, len, 0, more);
    if (err != 0)
        return err;
    struct node_changes c = nodes_changes(&t->nodes, *id);
    if (r->version != -1 && r->version != c.version && !MUTANT(tree_version_ignored))
        return ERR_BAD_VERSION;
    err = tree_room_for(s, more > 0 ? (uint64_t)more : 0);
    if (err != 0)
        return err;
    undo_set_add(s, *id);
    uint64_t at = tree_digest_path(path, len);
    t->digest -= tree_digest_self_at(t, *id, at);
    c.version = next_version(c.version);
    c.mzxid = s->zxid;
    c.mtime = s->time_ms;
    nodes_set(&t->nodes, *id, r->data.data, r->data.len, &c);
    t->digest += tree_digest_self_at(t, *id, at);
    note(s, WATCH_DATA_CHANGED, *id, path, len);
    quota_changed(s, path, len, 0, more);
    return 0;
}

void tree_set_quietly(const struct step *s, uint32_t id, const char *path, size_t len,
                      const char *data, size_t data_len)
{
    struct tree *t = s->t;

    undo_set_add(s, id);
    t->digest -= tree_digest_self(t, id, path, len);
    nodes_set_data(&t->nodes, id, data, (int32_t)data_len);
    t->digest += tree_digest_self(t, id, path, len);
}

uint32_t tree_write_config(const struct step *s, const struct buf *content)
{
    static const char path[] = "/zookeeper/config";
    struct tree *t = s->t;
    size_t len = sizeof path - 1;
    uint32_t id = nodes_find(&t->nodes, path, len);

    CHECK(id != NODE_NONE); /* it is built in, and reserved */
    t->digest -= tree_digest_self(t, id, path, len);
    struct node_changes c = nodes_changes(&t->nodes, id);
    c.version = -1; /* as ZooKeeper has it */
    c.mzxid = s->zxid;
    c.mtime = s->time_ms;
    nodes_set(&t->nodes, id, content->data, (int32_t)content->len, &c);
    t->digest += tree_digest_self(t, id, path, len);
    note(s, WATCH_DATA_CHANGED, id, path, len);
    return id;
}

int tree_set_acl(const struct step *s, const struct wire_set_acl_request *r, uint32_t *id)
{
    struct tree *t = s->t;
    const char *path = text(r->path);
    size_t len = (size_t)r->path.len;
    int32_t count;
    int err = path_validate(path, len);

    CHECK(!t->in_multi); /* so there is no undo for it */
    if (err != 0)
        return err;
    buf_clear(&t->acl);
    err = acl_fix(r->acl, s->ids, s->rules, &t->acl, &count);
    if (err != 0)
        return err;
    err = find_valid(s, r->path, WIRE_PERM_ADMIN, id);
    if (err != 0)
        return err;
    struct node *v = nodes_at(&t->nodes, *id);
    struct node_changes c = nodes_changes(&t->nodes, *id);
    if (r->version != -1 && r->version != c.aversion)
        return ERR_BAD_VERSION;
    err = tree_room_for(
        s, acls_has(&t->acls, t->acl.data, t->acl.len) ? 0 : tree_bytes_of_acl(t->acl.len));
    if (err != 0)
        return err;
    t->digest -= tree_digest_self(t, *id, path, len);
    uint32_t was = v->acl;
    v->acl = acls_take(&t->acls, t->acl.data, t->acl.len, count);
    acls_give(&t->acls, was);
    c.aversion = next_version(c.aversion);
    nodes_set_changes(&t->nodes, *id, &c);
    t->digest += tree_digest_self(t, *id, path, len);
    return 0;
}

int tree_check(const struct step *s, struct wire_bytes path, int32_t version)
{
    uint32_t id;
    int err = find_valid(s, path, WIRE_PERM_READ, &id);

    if (err == 0 && version != -1 && version != nodes_changes(&s->t->nodes, id).version)
        err = ERR_BAD_VERSION;
    return err;
}

static void parent_back(struct tree *t, const struct undo *u)
{
    struct family *f = nodes_family(&t->nodes, nodes_at(&t->nodes, u->node)->parent);

    f->pzxid = u->parent_pzxid;
    f->creates = u->parent_creates;
}

static void undo_create(struct tree *t, const struct undo *u)
{
    struct node *v = nodes_at(&t->nodes, u->node);

    nodes_unlink(&t->nodes, u->node);
    parent_back(t, u);
    if (node_is_ephemeral(v))
        ephemerals_unlink(&t->ephemerals, v->owner);
    node_drop(t, u->node);
}

static void undo_delete(struct tree *t, const struct undo *u)
{
    struct node *v = nodes_at(&t->nodes, u->node);

    nodes_path(&t->nodes, u->node, &t->path);
    nodes_relink(&t->nodes, u->node, (const char *)t->path.data, t->path.len);
    parent_back(t, u);
    if (node_is_ephemeral(v))
        ephemerals_relink(&t->ephemerals, v->owner);
}

static void undo_set(struct tree *t, const struct undo *u)
{
    nodes_set(&t->nodes, u->node, u->data, u->data_len, &u->changes);
}

void tree_multi_begin(struct tree *t)
{
    CHECK(!t->in_multi && t->undo_n == 0);
    t->in_multi = true;
}

void tree_multi_commit(struct tree *t)
{
    for (size_t i = 0; i < t->undo_n; i++) {
        if (t->undo[i].kind == UNDO_DELETE)
            node_drop(t, t->undo[i].node);
        mem_free(t->undo[i].data);
    }
    t->undo_n = 0;
    t->in_multi = false;
}

void tree_multi_abort(struct tree *t, uint64_t digest)
{
    if (t->undo_n > 0)
        REACHED(tree_multi_undone);
    while (t->undo_n > 0) {
        struct undo *u = &t->undo[--t->undo_n];
        if (MUTANT(tree_multi_partial) && t->undo_n == 0) {
            t->undo_n = 1;
            tree_multi_commit(t);
            return;
        }
        switch (u->kind) {
        case UNDO_CREATE: undo_create(t, u); break;
        case UNDO_DELETE: undo_delete(t, u); break;
        case UNDO_SET: undo_set(t, u); break;
        }
        mem_free(u->data);
    }
    t->digest = digest;
    t->in_multi = false;
}
