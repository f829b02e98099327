/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c -- the whole tree as bytes, and back.
 *
 *   magic "muster-t", version i32, length of all i64, zxid i64, digest u64 (of version 2: no)
 *   sessions:    count i32; each id i64, timeout i32, origin 2 x i64, password
 *   ACLs:        count i32; each entries i32, bytes
 *   znodes:      count i32, the root first, parents before children; each
 *                parent i32, name bytes, data bytes, czxid mzxid pzxid ctime mtime i64,
 *                version aversion creates acl i32, kind i32 (enum kind); of a TTL znode
 *                also the ttl i64
 *   ephemerals:  for each session in the order above: count i32, each znode i32, part i32
 *   a reconfig, if one is under way: zxid i64, server lines bytes
 *   crc32c of everything before, i32
 *
 * The digest is the tree's own of when it was saved (tree_digest()); what is loaded must come
 * to the same.
 *
 * Znodes and ACLs are named by their place in the list. Loading trusts nothing: the
 * checksum is looked at first, yet every field is checked as well.
 */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "tree/ensemble.h"
#include "tree/state.h"
#include "wire/path.h"

#define MAGIC "muster-t"
#define VERSION 3
#define LENGTH_AT 12
#define CRC_LEN 4

enum kind { KIND_PERSISTENT, KIND_EPHEMERAL, KIND_CONTAINER, KIND_TTL };

static void put_i32(struct buf *b, int32_t v) { buf_add_be32(b, (uint32_t)v); }
static void put_i64(struct buf *b, int64_t v) { buf_add_be64(b, (uint64_t)v); }

static void put_bytes(struct buf *b, const void *data, int32_t len)
{
    put_i32(b, len);
    if (len > 0)
        buf_add(b, data, (size_t)len);
}

static void save_sessions(const struct tree *t, struct buf *out)
{
    const struct session *x = sessions_above(&t->sessions, INT64_MIN);

    put_i32(out, (int32_t)t->sessions.count);
    for (; x != NULL; x = sessions_above(&t->sessions, x->id)) {
        put_i64(out, x->id);
        put_i32(out, x->timeout_ms);
        buf_add_be64(out, x->origin.server);
        buf_add_be64(out, x->origin.conn);
        buf_add(out, x->password, sizeof x->password);
    }
}

/* Fills places[number of the list] with its place. */
static void save_acls(const struct tree *t, struct buf *out, uint32_t *places)
{
    uint32_t n = 0;

    put_i32(out, (int32_t)t->acls.table.count);
    for (uint32_t i = 1; i < t->acls.n; i++) {
        const struct acl *acl = t->acls.rows[i];
        if (acl == NULL)
            continue;
        places[i] = n++;
        put_i32(out, acl->count);
        put_bytes(out, acl->bytes, (int32_t)acl->len);
    }
}

static void save_node(const struct tree *t, struct buf *out, uint32_t id,
                      const uint32_t *acl_places, const uint32_t *places)
{
    const struct node *v = nodes_at(&t->nodes, id);
    struct family f = nodes_family_get(&t->nodes, id);
    struct node_changes c = nodes_changes(&t->nodes, id);
    int64_t ttl_ms = 0;
    size_t name_len;
    const char *name = nodes_name(&t->nodes, id, &name_len);
    enum kind kind = v->owner == NODE_PERSISTENT ? KIND_PERSISTENT : KIND_EPHEMERAL;

    if ((v->owner & NODE_LAPSES) != 0) {
        ttl_ms = lapses_at(&t->lapses, v->owner)->ttl_ms;
        kind = ttl_ms > 0 ? KIND_TTL : KIND_CONTAINER;
    }

    put_i32(out, id == NODE_ROOT ? 0 : (int32_t)places[v->parent]);
    put_bytes(out, name, (int32_t)name_len);
    put_bytes(out, nodes_data(&t->nodes, id), v->data_len);
    put_i64(out, v->czxid);
    put_i64(out, c.mzxid);
    put_i64(out, f.pzxid);
    put_i64(out, v->ctime);
    put_i64(out, c.mtime);
    put_i32(out, c.version);
    put_i32(out, c.aversion);
    put_i32(out, MUTANT(tree_seq_not_saved) ? (int32_t)f.children : f.creates);
    put_i32(out, (int32_t)acl_places[v->acl]);
    put_i32(out, (int32_t)kind);
    if (kind == KIND_TTL)
        put_i64(out, ttl_ms);
}

static void save_ephemerals(const struct tree *t, struct buf *out, const uint32_t *places)
{
    const struct session *x = sessions_above(&t->sessions, INT64_MIN);

    for (; x != NULL; x = sessions_above(&t->sessions, x->id)) {
        put_i32(out, (int32_t)x->count);
        for (uint32_t e = x->first; e != 0; e = t->ephemerals.rows[e].next) {
            put_i32(out, (int32_t)places[t->ephemerals.rows[e].node]);
            put_i32(out, (int32_t)t->ephemerals.rows[e].part);
        }
    }
}

void tree_save(const struct tree *t, struct buf *out)
{
    uint32_t *acl_places = mem_new_array(uint32_t, t->acls.n);
    uint32_t *places = mem_new_array(uint32_t, t->nodes.slots_n);
    size_t start = out->len;
    uint32_t n = 0;

    CHECK(t->nodes.count <= INT32_MAX && t->sessions.count <= INT32_MAX);
    buf_add(out, MAGIC, 8);
    put_i32(out, VERSION);
    put_i64(out, 0);
    put_i64(out, t->zxid);
    buf_add_be64(out, tree_digest(t));
    save_sessions(t, out);
    save_acls(t, out, acl_places);
    put_i32(out, (int32_t)t->nodes.count);
    for (uint32_t id = NODE_ROOT; id != NODE_NONE;
         id = nodes_below_next(&t->nodes, NODE_ROOT, id)) {
        places[id] = n++;
        save_node(t, out, id, acl_places, places);
    }
    save_ephemerals(t, out, places);
    if (t->reconfig != 0) {
        put_i64(out, t->reconfig);
        put_bytes(out, t->reconfig_text.data, (int32_t)t->reconfig_text.len);
    }
    be64_put(out->data + start + LENGTH_AT, out->len - start + CRC_LEN);
    buf_add_be32(out, crc32c(0, out->data + start, out->len - start));
    mem_free(acl_places);
    mem_free(places);
}

/* ---- loading ---- */

/* The least that one of each takes: what bounds the counts. */
#define SESSION_LEN_MIN (8 + 4 + 16 + TREE_PASSWORD_LEN)
#define ACL_LEN_MIN 8
#define NODE_LEN_MIN (12 + 5 * 8 + 5 * 4)

struct loader {
    struct tree *t;
    struct wire_in in;
    uint32_t acls_n, nodes_n;
    uint32_t *acls;  /* by place: the number, with a reference of the loader's */
    uint32_t *nodes; /* by place: the number */
    int32_t version;
    uint64_t digest;   /* as saved */
    size_t ephemerals; /* znodes that wait for their session */
};

static int refuse(struct loader *l)
{
    l->in.err = ERR_CORRUPT;
    return ERR_CORRUPT;
}

/* A count of things of which each takes at least `least` bytes. */
static uint32_t get_count(struct loader *l, size_t least)
{
    int32_t n = wire_get_i32(&l->in);

    if (n < 0 || (size_t)n > (size_t)(l->in.end - l->in.at) / least)
        refuse(l);
    return l->in.err == 0 ? (uint32_t)n : 0;
}

static int load_sessions(struct loader *l)
{
    uint32_t n = get_count(l, SESSION_LEN_MIN);
    int64_t last = SESSION_ID_BASE;

    for (uint32_t i = 0; i < n; i++) {
        int64_t id = wire_get_i64(&l->in);
        if (id <= last || id > SESSION_ID_BASE + l->t->zxid)
            return refuse(l);
        struct session *x = sessions_add(&l->t->sessions, id);
        last = id;
        x->timeout_ms = wire_get_i32(&l->in);
        x->origin.server = (uint64_t)wire_get_i64(&l->in);
        x->origin.conn = (uint64_t)wire_get_i64(&l->in);
        const uint8_t *password = wire_get_raw(&l->in, sizeof x->password);
        if (password == NULL)
            return refuse(l);
        memcpy(x->password, password, sizeof x->password);
        l->t->digest += tree_digest_session(x);
    }
    return l->in.err;
}

static int load_acls(struct loader *l)
{
    uint32_t n = get_count(l, ACL_LEN_MIN);

    l->acls = mem_new_array(uint32_t, n);
    while (l->acls_n < n && l->in.err == 0) {
        int32_t count = wire_get_i32(&l->in);
        struct wire_bytes b = wire_get_bytes(&l->in);
        struct wire_in in = wire_in(b.data, b.len > 0 ? (size_t)b.len : 0);
        struct wire_acl a;
        for (int32_t i = 0; i < count && in.err == 0; i++)
            (void)wire_acl_decode(&a, &in);
        if (count <= 0 || in.err != 0 || in.at != in.end || b.len <= 0) {
            refuse(l);
            break;
        }
        /* What it says was looked at when it came in, under the rules of then. */
        l->acls[l->acls_n++] = acls_take(&l->t->acls, b.data, (size_t)b.len, count);
    }
    return l->in.err;
}

/* Finds or makes the znode that comes next; NODE_NONE: it may not be. */
static uint32_t load_place(struct loader *l, uint32_t parent, struct wire_bytes name,
                           struct wire_bytes data)
{
    struct tree *t = l->t;

    if (l->nodes_n == 0) {
        nodes_set_data(&t->nodes, NODE_ROOT, data.data, data.len);
        buf_clear(&t->path);
        buf_add_u8(&t->path, '/');
        return parent == 0 && name.len == 0 ? NODE_ROOT : NODE_NONE;
    }
    if (parent >= l->nodes_n || name.len <= 0 ||
        memchr(name.data, '/', (size_t)name.len) != NULL)
        return NODE_NONE;
    parent = l->nodes[parent];
    if (node_is_ephemeral(nodes_at(&t->nodes, parent)))
        return NODE_NONE;
    nodes_path(&t->nodes, parent, &t->path);
    if (t->path.len > 1)
        buf_add_u8(&t->path, '/');
    buf_add(&t->path, name.data, (size_t)name.len);
    const char *path = (const char *)t->path.data;
    if (path_validate(path, t->path.len) != 0 ||
        nodes_find(&t->nodes, path, t->path.len) != NODE_NONE)
        return NODE_NONE;
    return nodes_add(&t->nodes, parent, path, t->path.len, data.data, data.len);
}

/* Stands in node.owner of an ephemeral until load_ephemerals: no number is as high. */
#define OWNER_TO_COME (NODE_LAPSES - 1)

static int load_node(struct loader *l)
{
    struct tree *t = l->t;
    uint32_t parent = (uint32_t)wire_get_i32(&l->in);
    struct wire_bytes name = wire_get_bytes(&l->in), data = wire_get_bytes(&l->in);
    struct wire_in numbers = l->in;

    if (wire_get_raw(&l->in, NODE_LEN_MIN - 12) == NULL)
        return refuse(l);
    uint32_t id = load_place(l, parent, name, data);
    if (id == NODE_NONE)
        return refuse(l);
    struct node *v = nodes_at(&t->nodes, id);
    l->nodes[l->nodes_n++] = id;
    v->czxid = wire_get_i64(&numbers);
    struct node_changes c = {.mzxid = wire_get_i64(&numbers)};
    int64_t pzxid = wire_get_i64(&numbers);
    v->ctime = wire_get_i64(&numbers);
    c.mtime = wire_get_i64(&numbers);
    c.version = wire_get_i32(&numbers);
    c.aversion = wire_get_i32(&numbers);
    nodes_load_changes(&t->nodes, id, &c);
    int32_t creates = wire_get_i32(&numbers);
    uint32_t acl = (uint32_t)wire_get_i32(&numbers);
    int32_t kind = wire_get_i32(&numbers);
    int64_t ttl_ms = kind == KIND_TTL ? wire_get_i64(&l->in) : 0;
    if (acl >= l->acls_n || kind < KIND_PERSISTENT || kind > KIND_TTL ||
        (kind == KIND_TTL && ttl_ms <= 0) || l->in.err != 0)
        return refuse(l);
    const struct acl *list = acls_at(&t->acls, l->acls[acl]);
    v->acl = acls_take(&t->acls, list->bytes, list->len, list->count);
    if (pzxid != v->czxid || creates != 0) {
        struct family *f = nodes_family(&t->nodes, id);
        f->pzxid = pzxid;
        f->creates = creates;
    }
    t->digest += tree_digest_family(t, id, (const char *)t->path.data, t->path.len);
    if (kind == KIND_EPHEMERAL) {
        v->owner = OWNER_TO_COME;
        l->ephemerals++;
        return id == NODE_ROOT ? refuse(l) : 0;
    }
    if (kind == KIND_CONTAINER || kind == KIND_TTL) {
        if (id == NODE_ROOT)
            return refuse(l);
        v->owner = lapses_add(&t->lapses, id, ttl_ms);
    }
    t->digest += tree_digest_self(t, id, (const char *)t->path.data, t->path.len);
    return 0;
}

static bool find_built_ins(struct tree *t)
{
    static const char *const paths[] = {"/zookeeper", "/zookeeper/quota", "/zookeeper/config"};

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (nodes_find(&t->nodes, paths[i], strlen(paths[i])) == NODE_NONE)
            return false;
    t->quotas = nodes_find(&t->nodes, paths[1], strlen(paths[1]));
    return true;
}

static int load_nodes(struct loader *l)
{
    uint32_t n = get_count(l, NODE_LEN_MIN);

    l->nodes = mem_new_array(uint32_t, n);
    nodes_reserve(&l->t->nodes, n);
    while (l->nodes_n < n)
        if (load_node(l) != 0)
            return refuse(l);
    return n > 0 && find_built_ins(l->t) ? l->in.err : refuse(l);
}

/* One session's: in the order of their creation, by zxid and place in the multi. */
static int load_owned(struct loader *l, struct session *x)
{
    struct tree *t = l->t;
    uint32_t n = get_count(l, 8), last_part = 0;
    int64_t last = -1;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = (uint32_t)wire_get_i32(&l->in);
        uint32_t part = (uint32_t)wire_get_i32(&l->in);
        if (place >= l->nodes_n)
            return refuse(l);
        uint32_t id = l->nodes[place];
        struct node *v = nodes_at(&t->nodes, id);
        if (v->owner != OWNER_TO_COME || v->czxid < last ||
            (v->czxid == last && part <= last_part))
            return refuse(l);
        last = v->czxid;
        last_part = part;
        v->owner = ephemerals_add(&t->ephemerals, x, id, part);
        l->ephemerals--;
        nodes_path(&t->nodes, id, &t->path);
        t->digest += tree_digest_self(t, id, (const char *)t->path.data, t->path.len);
    }
    return l->in.err;
}

static int load_ephemerals(struct loader *l)
{
    struct session *x = sessions_above(&l->t->sessions, INT64_MIN);

    for (; x != NULL; x = sessions_above(&l->t->sessions, x->id))
        if (load_owned(l, x) != 0)
            return refuse(l);
    return l->ephemerals == 0 ? 0 : refuse(l);
}

static int load_reconfig(struct loader *l)
{
    struct tree *t = l->t;
    struct ensemble e;

    if (l->in.at == l->in.end)
        return 0;
    t->reconfig = wire_get_i64(&l->in);
    struct wire_bytes b = wire_get_bytes(&l->in);
    if (l->in.err != 0 || t->reconfig <= 0 || t->reconfig > t->zxid || b.len <= 0 ||
        ensemble_parse(&e, (const char *)b.data, (size_t)b.len) != 0)
        return refuse(l);
    buf_add(&t->reconfig_text, b.data, (size_t)b.len);
    return 0;
}

#define WITHOUT_DIGEST 2 /* the version before */

static bool can_read(int32_t version)
{
    return version == VERSION || version == WITHOUT_DIGEST;
}

static int load_head(struct loader *l, size_t len)
{
    const uint8_t *magic = wire_get_raw(&l->in, 8);

    if (magic == NULL || memcmp(magic, MAGIC, 8) != 0)
        return refuse(l);
    l->version = wire_get_i32(&l->in);
    if (!can_read(l->version) || (uint64_t)wire_get_i64(&l->in) != len)
        return refuse(l);
    l->t->zxid = wire_get_i64(&l->in);
    if (l->version != WITHOUT_DIGEST)
        l->digest = (uint64_t)wire_get_i64(&l->in);
    return l->t->zxid >= 0 && l->t->zxid < SESSION_ID_BASE ? l->in.err : refuse(l);
}

static int load_all(struct loader *l, size_t len)
{
    int err = load_head(l, len);

    if (err == 0)
        err = load_sessions(l);
    if (err == 0)
        err = load_acls(l);
    if (err == 0)
        err = load_nodes(l);
    if (err == 0)
        err = load_ephemerals(l);
    if (err == 0)
        err = load_reconfig(l);
    if (err == 0 && l->in.at != l->in.end)
        err = ERR_CORRUPT;
    if (err == 0 && l->version != WITHOUT_DIGEST && tree_digest(l->t) != l->digest)
        err = ERR_CORRUPT;
    return err;
}

struct tree *tree_load(uint64_t hash_key, const uint8_t *data, size_t len)
{
    if (len < CRC_LEN || crc32c(0, data, len - CRC_LEN) != be32_get(data + len - CRC_LEN))
        return NULL;
    struct loader l = {.t = tree_new_bare(hash_key), .in = wire_in(data, len - CRC_LEN)};
    int err = load_all(&l, len);

    for (uint32_t i = 0; i < l.acls_n; i++)
        acls_give(&l.t->acls, l.acls[i]);
    mem_free(l.acls);
    mem_free(l.nodes);
    if (err != 0) {
        tree_free(l.t);
        return NULL;
    }
    return l.t;
}

bool tree_is_of_other_version(const uint8_t *data, size_t len)
{
    return len > LENGTH_AT + CRC_LEN && memcmp(data, MAGIC, 8) == 0 &&
           !can_read((int32_t)be32_get(data + 8)) &&
           crc32c(0, data, len - CRC_LEN) == be32_get(data + len - CRC_LEN);
}
