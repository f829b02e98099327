/* SPDX-License-Identifier: Apache-2.0 */
/* finish.c -- what was read becomes a whole tree, and muster's. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "wire/path.h"
#include "zkdata/state.h"

#define CONFIG "/zookeeper/config"
#define QUOTA "/zookeeper/quota"
#define LIMITS "/zookeeper_limits"
#define STATS "/zookeeper_stats"

static int compare_paths(const void *a, const void *b)
{
    const struct zk_node *x = *(struct zk_node *const *)a, *y = *(struct zk_node *const *)b;
    size_t len = x->path_len < y->path_len ? x->path_len : y->path_len;
    int c = len > 0 ? memcmp(x->path, y->path, len) : 0;

    if (c != 0)
        return c;
    return (x->path_len > y->path_len) - (x->path_len < y->path_len);
}

/* By path: a parent's is the beginning of its children's, so it stands before them. */
static void put_in_order(struct zkdata *d)
{
    struct hash_walk w;

    d->order = mem_new_array(struct zk_node *, d->nodes.count);
    for (struct hash_link *l = hash_walk_first(&d->nodes, &w); l != NULL;
         l = hash_walk_next(&d->nodes, &w))
        d->order[d->order_n++] = HASH_ENTRY(l, struct zk_node, link);
    if (d->order_n > 1)
        qsort(d->order, d->order_n, sizeof(struct zk_node *), compare_paths);
}

static bool is_extended(int64_t owner)
{
    return (uint64_t)owner >> OWNER_EXTENDED_SHIFT == 0xff;
}

/* An owner of 0xff... is a TTL, unless it is the session of a server number 255, which
 * ZooKeeper allows when it knows no TTLs. */
static bool is_ephemeral(struct zkdata *d, const struct zk_node *v)
{
    int64_t owner = v->stat.owner;

    if (owner == 0 || owner == OWNER_CONTAINER)
        return false;
    return !is_extended(owner) || zk_session(d, owner)->is_open;
}

static int64_t ttl_of(int64_t owner)
{
    return (int64_t)((uint64_t)owner & ((UINT64_C(1) << OWNER_TYPE_SHIFT) - 1));
}

static struct zk_node *parent_of(const struct zkdata *d, const struct zk_node *v)
{
    size_t len = v->path_len;

    while (v->path[len - 1] != '/')
        len--;
    return zk_find(d, v->path, len - 1);
}

static void drop(struct zkdata *d, size_t i)
{
    zk_remove(d, d->order[i]);
    d->order[i] = NULL;
}

static void close_ranks(struct zkdata *d)
{
    size_t n = 0;

    for (size_t i = 0; i < d->order_n; i++)
        if (d->order[i] != NULL)
            d->order[n++] = d->order[i];
    d->order_n = n;
}

/* A znode whose parent is not there: what a delete has left in a fuzzy snapshot. */
static void drop_orphans(struct zkdata *d, struct zkdata_facts *f)
{
    for (size_t i = 0; i < d->order_n; i++) {
        struct zk_node *v = d->order[i];
        struct zk_node *parent = v->path_len > 0 ? parent_of(d, v) : NULL;
        v->has_parent = v->path_len == 0 || (parent != NULL && parent->has_parent);
    }
    for (size_t i = 0; i < d->order_n; i++)
        if (!d->order[i]->has_parent) {
            drop(d, i);
            f->orphans++;
        }
    close_ranks(d);
}

static void check_digest(const struct zkdata *d, struct zkdata_facts *f)
{
    uint64_t sum = 0;

    if (!d->has_digest)
        return;
    for (size_t i = 0; i < d->order_n; i++) {
        const struct zk_node *v = d->order[i];
        sum += zk_node_digest(v->path, v->path_len, v->data, v->data_len, &v->stat);
    }
    f->digest = sum == (uint64_t)d->digest ? ZKDATA_DIGEST_RIGHT : ZKDATA_DIGEST_WRONG;
}

static int check_kinds(struct zkdata *d, struct buf *why)
{
    for (size_t i = 0; i < d->order_n; i++) {
        const struct zk_node *v = d->order[i];
        int64_t owner = v->stat.owner;
        const char *fact = NULL;
        if (v->acl == ACL_UNKNOWN)
            fact = "has an access list that is nowhere defined";
        else if (is_extended(owner) && !is_ephemeral(d, v) &&
                 ((uint64_t)owner >> OWNER_TYPE_SHIFT != 0xff0000 || ttl_of(owner) == 0))
            fact = "is of a kind that is not known";
        else if (v->path_len == 0 && owner != 0)
            fact = "(the root) belongs to a session";
        if (fact != NULL) {
            buf_printf(why, "%.*s %s", (int)v->path_len, v->path, fact);
            return ERR_CORRUPT;
        }
    }
    return 0;
}

static void drop_ephemerals(struct zkdata *d, struct zkdata_facts *f)
{
    struct hash_walk w;

    for (struct hash_link *l = hash_walk_first(&d->sessions, &w); l != NULL;
         l = hash_walk_next(&d->sessions, &w))
        f->sessions += HASH_ENTRY(l, struct zk_session, link)->is_open;
    for (size_t i = 0; i < d->order_n; i++) {
        struct zk_node *v = d->order[i];
        struct zk_node *parent = v->path_len > 0 ? parent_of(d, v) : NULL;
        if (v->path_len > 0 && parent == NULL) { /* an ephemeral's, which has no children */
            drop(d, i);
            f->orphans++;
        } else if (parent != NULL && is_ephemeral(d, v)) {
            parent->stat.pzxid = d->zxid + 1;
            drop(d, i);
            f->ephemerals++;
        }
    }
    if (f->ephemerals > 0)
        d->zxid++;
    close_ranks(d);
}

static bool begins_with(const struct zk_node *v, const char *text, size_t len)
{
    return v->path_len >= len && memcmp(v->path, text, len) == 0;
}

/* The first znode at or behind this path. */
static size_t place(const struct zkdata *d, const char *path, size_t len)
{
    size_t low = 0, high = d->order_n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct zk_node *v = d->order[mid];
        size_t n = v->path_len < len ? v->path_len : len;
        int c = n > 0 ? memcmp(v->path, path, n) : 0;
        if (c < 0 || (c == 0 && v->path_len < len))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* ZooKeeper keeps what a quota's subtree holds outside of its log, and counts again when it
 * starts (DataTree.setupQuota). */
static void count_quota(struct zkdata *d, const struct zk_node *limits)
{
    size_t prefix = strlen(QUOTA), end = limits->path_len - strlen(LIMITS);
    const char *subject = limits->path + prefix;
    size_t len = end - prefix;
    uint64_t count = 0, bytes = 0;
    char text[64];
    struct buf path = {0};

    const struct zk_node *top = zk_find(d, subject, len);
    if (top != NULL) {
        count = 1;
        bytes = top->data_len > 0 ? (uint64_t)top->data_len : 0;
    }
    buf_add(&path, subject, len);
    buf_add_u8(&path, '/');
    for (size_t i = place(d, (const char *)path.data, path.len);
         i < d->order_n && begins_with(d->order[i], (const char *)path.data, path.len); i++) {
        count++;
        bytes += d->order[i]->data_len > 0 ? (uint64_t)d->order[i]->data_len : 0;
    }
    buf_clear(&path);
    buf_add(&path, limits->path, end);
    buf_add_str(&path, STATS);
    struct zk_node *stats = zk_find(d, (const char *)path.data, path.len);
    int n = snprintf(text, sizeof text, "count=%" PRIu64 ",bytes=%" PRIu64, count, bytes);
    if (stats != NULL)
        zk_set_data(stats, wire_bytes(text, (size_t)n));
    buf_free(&path);
}

static void count_quotas(struct zkdata *d)
{
    size_t tail = strlen(LIMITS), head = strlen(QUOTA);

    for (size_t i = place(d, QUOTA "/", head + 1);
         i < d->order_n && begins_with(d->order[i], QUOTA "/", head + 1); i++) {
        const struct zk_node *v = d->order[i];
        if (v->path_len > head + tail &&
            memcmp(v->path + v->path_len - tail, LIMITS, tail) == 0)
            count_quota(d, v);
    }
}

/* What a muster knows to match with a client: the rest is kept, and lets nobody in. */
static bool is_foreign(const struct zk_acl *acl)
{
    static const char *const known[] = {"world", "digest", "ip"};
    struct wire_list rest = {acl->bytes, acl->len, acl->count};
    struct wire_acl a;

    while (wire_acls_next(&rest, &a)) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is_known = is_known || (a.scheme.len == (int32_t)strlen(known[i]) &&
                                    memcmp(a.scheme.data, known[i], strlen(known[i])) == 0);
        if (!is_known)
            return true;
    }
    return false;
}

static void note_foreign(const struct zkdata *d, struct zkdata_facts *f, struct buf *names)
{
    bool *foreign = mem_new_array(bool, d->acls_n);

    for (uint32_t i = 0; i < d->acls_n; i++)
        foreign[i] = is_foreign(d->acls[i]);
    for (size_t i = 0; i < d->order_n; i++) {
        const struct zk_node *v = d->order[i];
        if (!foreign[v->acl])
            continue;
        if (f->foreign++ < ZKDATA_NAMED_MAX && names != NULL)
            buf_printf(names, "%.*s\n", (int)v->path_len, v->path);
    }
    mem_free(foreign);
}

int zkdata_finish(struct zkdata *d, struct zkdata_facts *out, struct buf *foreign,
                  struct buf *why)
{
    CHECK(!d->is_finished);
    *out = (struct zkdata_facts){.gaps = d->gaps};
    d->is_finished = true;
    put_in_order(d);
    drop_orphans(d, out);
    check_digest(d, out);
    int err = check_kinds(d, why);
    if (err != 0)
        return err;
    drop_ephemerals(d, out);
    /* Clients that read it would go to the servers that this tree has left. */
    struct zk_node *config = zk_find(d, CONFIG, strlen(CONFIG));
    if (config != NULL && config->data_len > 0) {
        zk_set_data(config, wire_bytes("", 0));
        out->config_dropped = true;
    }
    count_quotas(d);
    note_foreign(d, out, foreign);
    for (size_t i = 0; i < d->order_n; i++) {
        const struct zk_node *v = d->order[i];
        out->data_bytes += v->data_len > 0 ? (uint64_t)v->data_len : 0;
        out->containers += v->stat.owner == OWNER_CONTAINER;
        out->ttls += v->stat.owner != 0 && v->stat.owner != OWNER_CONTAINER;
    }
    out->znodes = d->order_n;
    out->zxid = d->zxid;
    return 0;
}

/* ---- into muster's tree ---- */

static const char *import_fact(int err)
{
    switch (err) {
    case ERR_BAD_ARGUMENTS: return "its path has characters that a path may not have";
    default: return err_text(err);
    }
}

static struct tree_image image_of(const struct zkdata *d, const struct zk_node *v)
{
    const struct zk_acl *acl = d->acls[v->acl];
    struct tree_image image = {
        .path = v->path_len > 0 ? v->path : "/",
        .path_len = v->path_len > 0 ? v->path_len : 1,
        .data = wire_bytes(v->data, 0),
        .acl = {acl->bytes, acl->len, acl->count},
        .czxid = v->stat.czxid,
        .mzxid = v->stat.mzxid,
        .pzxid = v->stat.pzxid,
        .ctime = v->stat.ctime,
        .mtime = v->stat.mtime,
        .version = v->stat.version,
        .aversion = v->stat.aversion,
        .creates = v->stat.creates,
    };

    image.data.len = v->data_len;
    if (v->stat.owner == OWNER_CONTAINER) {
        image.kind = TREE_CONTAINER;
    } else if (v->stat.owner != 0) {
        image.kind = TREE_TTL;
        image.ttl_ms = ttl_of(v->stat.owner);
    }
    return image;
}

int zkdata_to_tree(struct zkdata *d, struct tree *t, struct buf *why)
{
    uint64_t refused = 0;

    CHECK(d->is_finished);
    for (size_t i = 0; i < d->order_n; i++) {
        struct zk_node *v = d->order[i];
        struct tree_image image = image_of(d, v);
        int err = tree_import(t, &image);
        if (err != 0 && refused++ < ZKDATA_NAMED_MAX)
            buf_printf(why, "%.*s: %s\n", (int)image.path_len, image.path, import_fact(err));
        /* What is in the tree is not needed twice. Children look their parent up there. */
        zk_remove(d, v);
    }
    d->order_n = 0;
    if (refused > ZKDATA_NAMED_MAX)
        buf_printf(why, "and %" PRIu64 " more\n", refused - ZKDATA_NAMED_MAX);
    if (refused > 0)
        return ERR_UNSAFE;
    return tree_import_end(t, d->zxid);
}
