/* SPDX-License-Identifier: Apache-2.0 */
/* load.c -- a tree from a snapshot (snapshot.h), record by record, as its bytes come.
 *
 * Loading trusts nothing: every field is checked as if there were no checksum. What is made
 * before the checksum was seen is thrown away if that is wrong. The work for a znode does not
 * depend on how many there are: its parent is a number, and the tables have their size from the
 * beginning (their counts are bounded by the length, which the caller has bounded).
 */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "tree/ensemble.h"
#include "tree/snapshot.h"
#include "wire/path.h"

struct tree_loader {
    struct tree *t;
    uint64_t hash_key;
    uint64_t size, got;
    uint32_t crc; /* of what came, but for the last four bytes */
    int err;      /* 0, ERR_CORRUPT, ERR_OTHER_VERSION: only the checksum counts then */
    bool has_head, is_old;
    bool is_blind;
    struct buf rest; /* of the record that is not whole yet; of an old version all there is */
    struct {
        uint32_t sessions, acls, nodes;
    } all, in;
    uint64_t digest;
    struct session **sessions; /* by place */
    uint32_t *acls;            /* by place: the number, with a reference of the loader's */
    uint32_t *nodes;           /* by place: the number */
    uint32_t linked;           /* so many of them are found by their paths */
    uint32_t parent;           /* whose path, and a slash, stand at the beginning of t->path */
    size_t parent_len;
};

static int refuse(struct tree_loader *l)
{
    l->err = ERR_CORRUPT;
    return ERR_CORRUPT;
}

/* ---- the order of things ---- */

struct ranked {
    uint64_t key;
    uint32_t part, at;
};

static bool is_before(const struct ranked *a, const struct ranked *b)
{
    return a->key != b->key ? a->key < b->key : a->part < b->part;
}

static void sift(struct ranked *v, size_t at, size_t n)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_before(&v[child], &v[child + 1]))
            child++;
        if (!is_before(&v[at], &v[child]))
            return;
        struct ranked swapped = v[at];
        v[at] = v[child];
        v[child] = swapped;
    }
}

/* In place, n log n whatever stands there. */
static void sort(struct ranked *v, size_t n)
{
    for (size_t at = n / 2; at-- > 0;)
        sift(v, at, n);
    while (n-- > 1) {
        struct ranked last = v[n];
        v[n] = v[0];
        v[0] = last;
        sift(v, 0, n);
    }
}

/* ---- records: p holds all of it ---- */

static int load_session(struct tree_loader *l, const uint8_t *p)
{
    int64_t id = (int64_t)be64_get(p + 4);

    if (l->in.sessions == l->all.sessions || id <= SESSION_ID_BASE ||
        id > SESSION_ID_BASE + l->t->zxid)
        return refuse(l);
    struct session *x = mem_new(struct session);
    x->id = id;
    x->timeout_ms = (int32_t)be32_get(p + 12);
    x->origin = (struct tree_origin){be64_get(p + 16), be64_get(p + 24)};
    memcpy(x->password, p + 32, sizeof x->password);
    l->sessions[l->in.sessions++] = x;
    l->t->digest += tree_digest_session(x);
    return 0;
}

static int load_acl(struct tree_loader *l, const uint8_t *p, size_t len)
{
    struct wire_in in = wire_in(p + SNAPSHOT_ACL_LEN, len - SNAPSHOT_ACL_LEN);
    struct wire_acl a;
    int32_t count = 0;

    while (in.err == 0 && in.at != in.end) {
        (void)wire_acl_decode(&a, &in);
        count++;
    }
    if (l->in.acls == l->all.acls || in.err != 0 || count == 0)
        return refuse(l);
    /* What it says was looked at when it came in, under the rules of then. */
    l->acls[l->in.acls++] =
        acls_take(&l->t->acls, p + SNAPSHOT_ACL_LEN, len - SNAPSHOT_ACL_LEN, count);
    return 0;
}

/* t->path becomes the path of the znode of that name; false: there may be none. */
static bool load_path(struct tree_loader *l, uint32_t parent, const char *name,
                      uint32_t name_len)
{
    struct tree *t = l->t;

    if (parent >= l->in.nodes || name_len == 0 || memchr(name, '/', name_len) != NULL)
        return false;
    parent = l->nodes[parent];
    if (parent != l->parent) {
        if (node_is_ephemeral(nodes_at(&t->nodes, parent)))
            return false;
        nodes_path(&t->nodes, parent, &t->path);
        if (t->path.len > 1)
            buf_add_u8(&t->path, '/');
        l->parent = parent;
        l->parent_len = t->path.len;
    }
    t->path.len = l->parent_len;
    buf_add(&t->path, name, name_len);
    /* Of what stands before the last slash it has been asked already. */
    return path_validate((const char *)t->path.data + l->parent_len - 1,
                         name_len + (size_t)1) == 0;
}

/* Makes the znode that comes next; NODE_NONE: it may not be. t->path: its path. */
static uint32_t load_place(struct tree_loader *l, struct node *like,
                           const struct node_changes *c, uint32_t parent, const char *name,
                           uint32_t name_len, const uint8_t *data)
{
    struct tree *t = l->t;

    if (l->in.nodes == 0) {
        struct node *root = nodes_at(&t->nodes, NODE_ROOT);
        root->czxid = like->czxid;
        root->ctime = like->ctime;
        root->acl = like->acl;
        nodes_set_data(&t->nodes, NODE_ROOT, data, like->data_len);
        nodes_load_changes(&t->nodes, NODE_ROOT, c);
        buf_clear(&t->path);
        buf_add_u8(&t->path, '/');
        return parent == 0 && name_len == 0 ? NODE_ROOT : NODE_NONE;
    }
    if (!load_path(l, parent, name, name_len))
        return NODE_NONE;
    like->parent = l->parent;
    return nodes_load(&t->nodes, like, c, (const char *)t->path.data, t->path.len, data);
}

/* What it is beside persistent. */
static int load_kind(struct tree_loader *l, uint32_t id, enum snapshot_tag tag, uint64_t more)
{
    struct tree *t = l->t;
    struct node *v = nodes_at(&t->nodes, id);

    if (id == NODE_ROOT)
        return refuse(l);
    if (tag == TAG_EPHEMERAL) {
        if (more >> 32 >= l->in.sessions)
            return refuse(l);
        v->owner = ephemerals_add(&t->ephemerals, l->sessions[more >> 32], id, (uint32_t)more);
        return 0;
    }
    if ((tag == TAG_TTL) != (more > 0) || more > INT64_MAX)
        return refuse(l);
    v->owner = lapses_add(&t->lapses, id, (int64_t)more);
    return 0;
}

static int load_node(struct tree_loader *l, enum snapshot_tag tag, const uint8_t *p)
{
    struct tree *t = l->t;
    size_t head_len = SNAPSHOT_NODE_LEN + (tag == TAG_PERSISTENT ? 0 : SNAPSHOT_MORE_LEN);
    uint32_t name_len = be32_get(p + head_len - 8), acl = be32_get(p + 60);
    int32_t data_len = (int32_t)be32_get(p + head_len - 4);
    const uint8_t *name = p + head_len;

    if (l->in.nodes == l->all.nodes || acl >= l->in.acls)
        return refuse(l);
    struct node like = {.czxid = (int64_t)be64_get(p + 8),
                        .ctime = (int64_t)be64_get(p + 32),
                        .acl = l->acls[acl],
                        .data_len = data_len};
    const struct node_changes c = {.mzxid = (int64_t)be64_get(p + 16),
                                   .mtime = (int64_t)be64_get(p + 40),
                                   .version = (int32_t)be32_get(p + 48),
                                   .aversion = (int32_t)be32_get(p + 52)};
    int64_t pzxid = (int64_t)be64_get(p + 24);
    int32_t creates = (int32_t)be32_get(p + 56);
    uint32_t id = load_place(l, &like, &c, be32_get(p + 4), (const char *)name, name_len,
                             name + name_len);
    if (id == NODE_NONE)
        return refuse(l);
    l->nodes[l->in.nodes++] = id;
    if (id == NODE_ROOT)
        l->linked = 1; /* it has been from the beginning */
    acls_ref(&t->acls, like.acl);
    if (pzxid != like.czxid || creates != 0) {
        struct family *f = nodes_family(&t->nodes, id);
        f->pzxid = pzxid;
        f->creates = creates;
    }
    if (tag != TAG_PERSISTENT && load_kind(l, id, tag, be64_get(p + 64)) != 0)
        return ERR_CORRUPT;
    t->digest += tree_digest_node(t, id, (const char *)t->path.data, t->path.len);
    return 0;
}

/* How long the record is that begins here; 0: there is too little to say that. SIZE_MAX: it is
 * none. */
static size_t record_len(const uint8_t *p, size_t left)
{
    uint32_t tag = left >= 4 ? be32_get(p) : TAG_PERSISTENT;

    if (tag > TAG_SESSION)
        return SIZE_MAX;
    if (tag == TAG_SESSION)
        return SNAPSHOT_SESSION_LEN;
    if (tag == TAG_ACL)
        return left < SNAPSHOT_ACL_LEN ? 0 : SNAPSHOT_ACL_LEN + (size_t)be32_get(p + 4);
    size_t head_len = SNAPSHOT_NODE_LEN + (tag == TAG_PERSISTENT ? 0 : SNAPSHOT_MORE_LEN);
    if (left < head_len)
        return 0;
    int32_t data_len = (int32_t)be32_get(p + head_len - 4);
    if (data_len < -1)
        return SIZE_MAX;
    return head_len + be32_get(p + head_len - 8) + (data_len > 0 ? (size_t)data_len : 0);
}

static int load_record(struct tree_loader *l, const uint8_t *p, size_t len)
{
    enum snapshot_tag tag = be32_get(p);

    switch (tag) {
    case TAG_SESSION: return load_session(l, p);
    case TAG_ACL: return load_acl(l, p, len);
    case TAG_PERSISTENT:
    case TAG_EPHEMERAL:
    case TAG_CONTAINER:
    case TAG_TTL: return load_node(l, tag, p);
    }
    return refuse(l);
}

static bool has_all(const struct tree_loader *l)
{
    return l->in.sessions == l->all.sessions && l->in.acls == l->all.acls &&
           l->in.nodes == l->all.nodes;
}

/* Returns how many bytes of these are done with. */
static size_t load_records(struct tree_loader *l, const uint8_t *p, size_t len)
{
    size_t at = 0;

    while (!has_all(l) && l->err == 0) {
        size_t n = record_len(p + at, len - at);
        if (n == SIZE_MAX || n > l->size)
            refuse(l);
        if (n == 0 || n > len - at || l->err != 0)
            break;
        (void)load_record(l, p + at, n);
        at += n;
    }
    if (l->err == 0 && l->in.nodes > l->linked &&
        !nodes_link(&l->t->nodes, l->nodes + l->linked, l->in.nodes - l->linked))
        refuse(l);
    l->linked = l->in.nodes;
    return at;
}

/* ---- the whole ---- */

struct tree_loader *tree_loader_new(uint64_t hash_key, uint64_t size_bytes)
{
    struct tree_loader *l = mem_new(struct tree_loader);

    l->hash_key = hash_key;
    l->size = size_bytes;
    if (size_bytes < SNAPSHOT_HEAD_LEN + SNAPSHOT_CRC_LEN)
        refuse(l);
    return l;
}

void tree_loader_blind(struct tree_loader *l) { l->is_blind = true; }

void tree_loader_free(struct tree_loader *l)
{
    if (l == NULL)
        return;
    for (uint32_t i = 0; l->sessions != NULL && i < l->in.sessions; i++)
        mem_free(l->sessions[i]);
    for (uint32_t i = 0; i < l->in.acls; i++)
        acls_give(&l->t->acls, l->acls[i]);
    tree_free(l->t);
    mem_free(l->sessions);
    mem_free(l->acls);
    mem_free(l->nodes);
    buf_free(&l->rest);
    mem_free(l);
}

static void load_head(struct tree_loader *l, const uint8_t *p)
{
    int32_t version = (int32_t)be32_get(p + 8);

    l->has_head = true;
    if (memcmp(p, SNAPSHOT_MAGIC, 8) != 0) {
        refuse(l);
        return;
    }
    l->is_old = tree_is_old_version(version);
    if (l->is_old)
        return;
    if (version != SNAPSHOT_VERSION) {
        l->err = ERR_OTHER_VERSION;
        return;
    }
    int64_t zxid = (int64_t)be64_get(p + 20);
    l->digest = be64_get(p + 28);
    l->all.sessions = be32_get(p + 36);
    l->all.acls = be32_get(p + 40);
    l->all.nodes = be32_get(p + 44);
    if (be64_get(p + SNAPSHOT_LENGTH_AT) != l->size || zxid < 0 || zxid >= SESSION_ID_BASE ||
        l->all.nodes == 0 || l->all.sessions > l->size / SNAPSHOT_SESSION_LEN ||
        l->all.acls > l->size / SNAPSHOT_ACL_LEN ||
        l->all.nodes > l->size / SNAPSHOT_NODE_LEN) {
        refuse(l);
        return;
    }
    l->t = tree_new_bare(l->hash_key);
    l->t->zxid = zxid;
    l->sessions = mem_new_array(struct session *, l->all.sessions);
    l->acls = mem_new_array(uint32_t, l->all.acls);
    l->nodes = mem_new_array(uint32_t, l->all.nodes);
    nodes_reserve(&l->t->nodes, l->all.nodes);
}

static size_t load_some(struct tree_loader *l, const uint8_t *data, size_t len)
{
    size_t at = 0;

    if (!l->has_head) {
        if (len < SNAPSHOT_HEAD_LEN)
            return 0;
        load_head(l, data);
        at = l->is_old ? 0 : SNAPSHOT_HEAD_LEN;
    }
    if (l->is_old)
        return 0;
    if (l->err != 0)
        return len < SNAPSHOT_CRC_LEN ? 0 : len - SNAPSHOT_CRC_LEN;
    return at + load_records(l, data + at, len - at);
}

int tree_loader_add(struct tree_loader *l, const uint8_t *data, size_t len)
{
    if (l->err == ERR_CORRUPT || len > l->size - l->got)
        return refuse(l);
    uint64_t body = l->size - SNAPSHOT_CRC_LEN;
    if (l->got < body)
        l->crc = crc32c(l->crc, data, len < body - l->got ? len : (size_t)(body - l->got));
    l->got += len;
    size_t done = 0;
    if (l->rest.len == 0)
        done = load_some(l, data, len);
    if (done < len)
        buf_add(&l->rest, data + done, len - done);
    if (done == 0 && l->rest.len > 0)
        buf_consume(&l->rest, load_some(l, l->rest.data, l->rest.len));
    return l->err == ERR_CORRUPT ? ERR_CORRUPT : 0;
}

bool tree_find_built_ins(struct tree *t)
{
    static const char *const paths[] = {"/zookeeper", "/zookeeper/quota", "/zookeeper/config"};

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (nodes_find(&t->nodes, paths[i], strlen(paths[i])) == NODE_NONE)
            return false;
    t->quotas = nodes_find(&t->nodes, paths[1], strlen(paths[1]));
    return true;
}

int tree_load_reconfig(struct tree *t, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct ensemble e;

    if (len == 0)
        return 0;
    t->reconfig = wire_get_i64(&in);
    struct wire_bytes b = wire_get_bytes(&in);
    if (in.err != 0 || in.at != in.end || t->reconfig <= 0 || t->reconfig > t->zxid ||
        b.len <= 0 || ensemble_parse(&e, (const char *)b.data, (size_t)b.len) != 0)
        return ERR_CORRUPT;
    buf_add(&t->reconfig_text, b.data, (size_t)b.len);
    return 0;
}

/* The sessions' places go by their ids. */
static int hand_over_sessions(struct tree_loader *l)
{
    uint32_t n = l->in.sessions;
    struct ranked *v = mem_new_array(struct ranked, n);
    bool is_once = true;

    for (uint32_t i = 0; i < n; i++)
        v[i] = (struct ranked){(uint64_t)l->sessions[i]->id, 0, i};
    sort(v, n);
    for (uint32_t i = 1; i < n; i++)
        is_once = is_once && v[i - 1].key < v[i].key;
    for (uint32_t i = 0; is_once && i < n; i++)
        sessions_add_take(&l->t->sessions, l->sessions[v[i].at]);
    mem_free(v);
    if (!is_once)
        return refuse(l);
    l->in.sessions = 0; /* they are the tree's now */
    return 0;
}

static struct ranked rank_of(const struct tree *t, uint32_t e)
{
    const struct ephemeral *x = &t->ephemerals.rows[e];

    return (struct ranked){(uint64_t)nodes_at(&t->nodes, x->node)->czxid, x->part, e};
}

/* A session's ephemerals stand in the order of their creation: by zxid and place in the
 * multi. */
static int order_ephemerals(struct tree *t, struct session *x)
{
    struct ranked *v = mem_new_array(struct ranked, x->count);
    uint32_t n = 0;
    bool is_ordered = true, is_once = true;

    for (uint32_t e = x->first; e != 0; e = t->ephemerals.rows[e].next) {
        v[n++] = rank_of(t, e);
        is_ordered = n == 1 || (is_ordered && is_before(&v[n - 2], &v[n - 1]));
    }
    if (!is_ordered) {
        sort(v, n);
        for (uint32_t i = 1; i < n; i++)
            is_once = is_once && is_before(&v[i - 1], &v[i]);
        for (uint32_t i = 0; i < n; i++) {
            struct ephemeral *e = ephemerals_at(&t->ephemerals, v[i].at);
            e->prev = i > 0 ? v[i - 1].at : 0;
            e->next = i + 1 < n ? v[i + 1].at : 0;
        }
        x->first = v[0].at;
        x->last = v[n - 1].at;
    }
    mem_free(v);
    return is_once ? 0 : ERR_CORRUPT;
}

static int finish(struct tree_loader *l)
{
    struct tree *t = l->t;

    if (l->got != l->size || !l->has_head || !has_all(l) || l->rest.len < SNAPSHOT_CRC_LEN)
        return refuse(l);
    if (tree_load_reconfig(t, l->rest.data, l->rest.len - SNAPSHOT_CRC_LEN) != 0 ||
        !tree_find_built_ins(t) || hand_over_sessions(l) != 0)
        return refuse(l);
    for (size_t i = 0; i < t->sessions.n; i++)
        if (order_ephemerals(t, t->sessions.rows[i].session) != 0)
            return refuse(l);
    return tree_digest(t) == l->digest || l->is_blind ? 0 : refuse(l);
}

static bool is_whole(const struct tree_loader *l)
{
    const struct buf *b = &l->rest;

    return l->got == l->size && b->len >= SNAPSHOT_CRC_LEN &&
           be32_get(b->data + b->len - SNAPSHOT_CRC_LEN) == l->crc;
}

int tree_loader_end(struct tree_loader *l, struct tree **out)
{
    int err = l->err;

    *out = NULL;
    if (err != ERR_CORRUPT && !is_whole(l)) {
        err = ERR_CORRUPT;
    } else if (err == 0 && l->is_old) {
        *out = tree_load_old(l->hash_key, l->rest.data, l->rest.len);
        err = *out != NULL ? 0 : ERR_CORRUPT;
    } else if (err == 0) {
        err = finish(l);
    }
    if (err == 0 && *out == NULL) {
        for (uint32_t i = 0; i < l->in.acls; i++)
            acls_give(&l->t->acls, l->acls[i]);
        l->in.acls = 0;
        tree_scratch_trim(l->t);
        *out = l->t;
        l->t = NULL;
    }
    tree_loader_free(l);
    return err;
}

struct tree *tree_load(uint64_t hash_key, const uint8_t *data, size_t len)
{
    struct tree_loader *l = tree_loader_new(hash_key, len);
    struct tree *t;

    (void)tree_loader_add(l, data, len);
    (void)tree_loader_end(l, &t);
    return t;
}
