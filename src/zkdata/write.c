/* SPDX-License-Identifier: Apache-2.0 */
/* write.c -- muster's tree as a snapshot of Apache ZooKeeper; the form is in snapshot.c. */
#include <string.h>

#include "base/mem.h"
#include "wire/path.h"
#include "zkdata/state.h"
#include "zkdata/sum.h"

#define MAGIC 0x5a4b534e
#define VERSION 2
#define DIGEST_VERSION 2
#define CONFIG "/zookeeper/config"
#define INDEX_OPEN (-1) /* the open list has no row */

struct writer {
    const struct tree *tree;
    struct buf *out;
    size_t summed; /* places in out */
    uint32_t sum;
    uint64_t digest;
    int64_t *indexes; /* of access lists, by their number in the tree; 0: none yet */
    struct zkdata_written *facts;
    struct hash_table bereaved; /* parents of ephemerals */
};

struct bereaved {
    struct hash_link link;
    size_t len;
    char path[];
};

static void seal(struct writer *w)
{
    w->sum = adler32(w->sum, w->out->data + w->summed, w->out->len - w->summed);
    w->summed = w->out->len;
    buf_add_be64(w->out, w->sum);
    wire_text_encode("/", 1, w->out);
}

static bool is_open_list(const struct wire_list *list)
{
    struct wire_list rest = *list;
    struct wire_acl a;

    return list->count == 1 && wire_acls_next(&rest, &a) && a.perms == WIRE_PERM_ALL &&
           a.scheme.len == 5 && memcmp(a.scheme.data, "world", 5) == 0 && a.id.len == 6 &&
           memcmp(a.id.data, "anyone", 6) == 0;
}

static bool is_bereaved(const struct writer *w, const char *path, size_t len)
{
    struct hash_link *l = hash_first(&w->bereaved, hash_bytes(0, path, len));

    for (; l != NULL; l = hash_next(l)) {
        const struct bereaved *b = HASH_ENTRY(l, struct bereaved, link);
        if (b->len == len && memcmp(b->path, path, len) == 0)
            return true;
    }
    return false;
}

static void note_ephemeral(struct writer *w, const struct tree_image *image)
{
    size_t len = path_parent_len(image->path, image->path_len);

    w->facts->ephemerals++;
    if (is_bereaved(w, image->path, len))
        return;
    struct bereaved *b = mem_alloc(sizeof *b + len);
    b->len = len;
    memcpy(b->path, image->path, len);
    hash_insert(&w->bereaved, &b->link, hash_bytes(0, image->path, len));
}

/* The access lists, each once; and what there is. */
static void write_lists(struct writer *w)
{
    struct tree_walk walk = {0};
    struct tree_image image;
    size_t count_at = w->out->len;
    uint32_t n = 0;

    buf_add_be32(w->out, 0);
    while (tree_walk_next(&walk, w->tree, &image)) {
        if (image.kind == TREE_EPHEMERAL) {
            note_ephemeral(w, &image);
            continue;
        }
        w->facts->znodes++;
        w->facts->containers += image.kind == TREE_CONTAINER;
        w->facts->ttls += image.kind == TREE_TTL;
        int64_t *index = &w->indexes[image.acl_number];
        if (*index != 0)
            continue;
        *index = INDEX_OPEN;
        if (is_open_list(&image.acl))
            continue;
        *index = ++n;
        buf_add_be64(w->out, n);
        buf_add_be32(w->out, (uint32_t)image.acl.count);
        buf_add(w->out, image.acl.data, image.acl.len);
    }
    buf_put_be32(w->out, count_at, n);
    tree_walk_free(&walk);
}

static int64_t owner_of(const struct tree_image *image)
{
    switch (image->kind) {
    case TREE_CONTAINER: return OWNER_CONTAINER;
    case TREE_TTL:
        return (int64_t)(UINT64_C(0xff) << OWNER_EXTENDED_SHIFT | (uint64_t)image->ttl_ms);
    case TREE_PERSISTENT:
    case TREE_EPHEMERAL: break;
    }
    return 0;
}

static void write_node(struct writer *w, const struct tree_image *image)
{
    bool is_root = image->path_len == 1;
    size_t len = is_root ? 0 : image->path_len;
    struct zk_stat stat = {
        .czxid = image->czxid,
        .mzxid = image->mzxid,
        .pzxid = image->pzxid,
        .ctime = image->ctime,
        .mtime = image->mtime,
        .version = image->version,
        .creates = image->creates,
        .aversion = image->aversion,
        .owner = owner_of(image),
    };

    if (is_bereaved(w, image->path, image->path_len))
        stat.pzxid = w->facts->zxid;
    /* Clients that read it would come back to the servers that this tree leaves. */
    struct wire_bytes data = image->data;
    if (len == strlen(CONFIG) && memcmp(image->path, CONFIG, len) == 0)
        data.len = 0;
    wire_text_encode(image->path, len, w->out);
    buf_add_be32(w->out, (uint32_t)data.len);
    if (data.len > 0)
        buf_add(w->out, data.data, (size_t)data.len);
    buf_add_be64(w->out, (uint64_t)w->indexes[image->acl_number]);
    zk_put_stat(&stat, w->out);
    w->digest += zk_node_digest(image->path, len, data.data, data.len, &stat);
}

static void write_nodes(struct writer *w)
{
    struct tree_walk walk = {0};
    struct tree_image image;

    while (tree_walk_next(&walk, w->tree, &image))
        if (image.kind != TREE_EPHEMERAL)
            write_node(w, &image);
    wire_text_encode("/", 1, w->out);
    tree_walk_free(&walk);
}

static void free_bereaved(struct hash_table *t)
{
    struct hash_walk walk;

    for (struct hash_link *l = hash_walk_first(t, &walk); l != NULL;
         l = hash_walk_next(t, &walk)) {
        hash_remove(t, l);
        mem_free(HASH_ENTRY(l, struct bereaved, link));
    }
    hash_free(t);
}

void zkdata_write(const struct tree *t, int64_t last, struct buf *out,
                  struct zkdata_written *facts)
{
    struct writer w = {
        .tree = t, .out = out, .summed = out->len, .sum = ADLER32_START, .facts = facts};
    struct tree_facts f;

    tree_facts(t, &f);
    *facts = (struct zkdata_written){.sessions = f.sessions,
                                     .zxid = last + (f.ephemerals > 0 ? 1 : 0)};
    w.indexes = mem_new_array(int64_t, tree_acl_numbers(t));
    buf_add_be32(out, MAGIC);
    buf_add_be32(out, VERSION);
    buf_add_be64(out, UINT64_MAX); /* dbid -1 */
    buf_add_be32(out, 0);          /* sessions */
    write_lists(&w);
    write_nodes(&w);
    seal(&w);
    buf_add_be64(out, (uint64_t)facts->zxid);
    buf_add_be32(out, DIGEST_VERSION);
    buf_add_be64(out, w.digest);
    seal(&w);
    free_bereaved(&w.bereaved);
    mem_free(w.indexes);
}
