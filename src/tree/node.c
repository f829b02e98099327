/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/node.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "wire/path.h"

static uint32_t path_hash(const struct nodes *n, const char *path, size_t len)
{
    uint64_t h = hash_bytes(n->key, path, len);

    return (uint32_t)(h ^ h >> 32);
}

static size_t data_size(int32_t data_len) { return data_len > 0 ? (size_t)data_len : 0; }

static inline struct node *at(const struct nodes *n, uint32_t id) { return nodes_slot(n, id); }

static size_t name_len_of(const struct nodes *n, uint32_t id)
{
    size_t len;

    (void)nodes_name(n, id, &len);
    return len;
}

static size_t body_size(const struct node *v, size_t name_len)
{
    return (v->is_changed ? sizeof(struct node_changes) : 0) + 1u +
           (name_len >= NODE_NAME_LONG ? 4u : 0u) + name_len + data_size(v->data_len);
}

/* A new one, where node.is_changed and data_len say what shall be in it; the changes stay to be
 * filled in. */
static void body_put(struct nodes *n, struct node *v, const char *name, size_t name_len,
                     const void *data)
{
    CHECK(name_len <= UINT32_MAX && v->data_len >= -1);
    v->body = slab_take(&n->slab, body_size(v, name_len));
    uint8_t *p = slab_at(&n->slab, v->body);
    if (v->is_changed)
        p += sizeof(struct node_changes);
    *p++ = (uint8_t)(name_len < NODE_NAME_LONG ? name_len : NODE_NAME_LONG);
    if (name_len >= NODE_NAME_LONG) {
        be32_put(p, (uint32_t)name_len);
        p += 4;
    }
    if (name_len > 0)
        memcpy(p, name, name_len);
    if (v->data_len > 0)
        memcpy(p + name_len, data, (size_t)v->data_len);
}

/* Its body in another place, with these changes (NULL: none) and data. */
static void body_move(struct nodes *n, uint32_t id, const struct node_changes *c,
                      const void *data, int32_t data_len)
{
    struct node *v = nodes_at(n, id);
    uint32_t was = v->body;
    size_t name_len;
    const char *name = nodes_name(n, id, &name_len);
    size_t was_size = body_size(v, name_len);

    v->is_changed = c != NULL;
    v->data_len = data_len;
    body_put(n, v, name, name_len, data);
    if (c != NULL)
        memcpy(slab_at(&n->slab, v->body), c, sizeof *c);
    slab_give(&n->slab, was, was_size);
}

/* ---- the look-up ---- */

static uint32_t *bucket_of(const struct nodes *n, uint32_t hash)
{
    uint32_t b = hash & n->buckets_mask;

    return &n->buckets[b < n->buckets_n ? b : b & n->buckets_mask >> 1];
}

static void bucket_add(struct nodes *n, uint32_t id)
{
    uint32_t *head = bucket_of(n, at(n, id)->hash);

    at(n, id)->chain = *head;
    *head = id;
}

static bool is_linked(const struct nodes *n, uint32_t id)
{
    uint32_t found = *bucket_of(n, at(n, id)->hash);

    while (found != NODE_NONE && found != id)
        found = at(n, found)->chain;
    return found == id;
}

/* One bucket more: what belongs there comes from one other. The table is our own because
 * base/hash.h links by pointers: 20 bytes more per znode. */
static void bucket_split(struct nodes *n)
{
    mem_grow(n->buckets, n->buckets_cap, n->buckets_n + 1);
    if (n->buckets_n > n->buckets_mask)
        n->buckets_mask = 2 * n->buckets_mask + 1;
    uint32_t *from = &n->buckets[n->buckets_n & n->buckets_mask >> 1], id = *from;
    n->buckets[n->buckets_n++] = NODE_NONE;
    CHECK(n->buckets_n <= UINT32_MAX / 2);
    *from = NODE_NONE;
    while (id != NODE_NONE) {
        uint32_t next = at(n, id)->chain;
        if (next != NODE_NONE || !MUTANT(tree_split_loses))
            bucket_add(n, id);
        id = next;
    }
}

static size_t path_size(const struct nodes *n, uint32_t id)
{
    size_t len = id == NODE_ROOT ? 1 : 0;

    for (; id != NODE_ROOT; id = at(n, id)->parent)
        len += name_len_of(n, id) + 1;
    return len;
}

static void count_in(struct nodes *n, uint32_t id, size_t path_len)
{
    n->data_bytes += data_size(at(n, id)->data_len);
    n->path_bytes += path_len;
    n->name_bytes += name_len_of(n, id);
}

/* node.hash says where. */
static void hash_in(struct nodes *n, uint32_t id)
{
    if (n->count >= n->buckets_n)
        bucket_split(n);
    bucket_add(n, id);
    n->count++;
}

static void hash_out(struct nodes *n, uint32_t id)
{
    uint32_t *link = bucket_of(n, at(n, id)->hash);

    while (*link != id) {
        CHECK(*link != NODE_NONE);
        link = &at(n, *link)->chain;
    }
    *link = at(n, id)->chain;
    n->count--;
    n->data_bytes -= data_size(at(n, id)->data_len);
    n->path_bytes -= path_size(n, id);
    n->name_bytes -= name_len_of(n, id);
}

static void row_add(struct nodes *n)
{
    mem_grow(n->rows, n->rows_cap, n->rows_n + 1);
    /* What is not used yet shall take no memory. */
    n->rows[n->rows_n++] = mem_resize(NULL, NODES_IN_ROW * sizeof **n->rows);
}

static uint32_t slot_take(struct nodes *n)
{
    uint32_t id = n->slots_free;

    if (id != NODE_NONE) {
        n->slots_free = at(n, id)->chain;
    } else {
        CHECK(n->slots_n < UINT32_MAX / 2);
        if (n->slots_n == n->rows_n * NODES_IN_ROW)
            row_add(n);
        id = n->slots_n++;
    }
    *at(n, id) = (struct node){0};
    return id;
}

void nodes_init(struct nodes *n, uint64_t hash_key)
{
    *n = (struct nodes){.key = hash_key, .slots_n = 1, .families_n = 1};
#ifdef __SANITIZE_ADDRESS__ /* it sees more when each piece is allocated alone */
    if (hash_key % 2 == 0)
#endif
        slab_init(&n->slab);
    n->buckets_n = n->buckets_cap = 16;
    n->buckets_mask = n->buckets_n - 1;
    n->buckets = mem_new_array(uint32_t, n->buckets_n);
    row_add(n);
    *at(n, 0) = (struct node){0};
    mem_grow(n->families, n->families_cap, 8u);
    n->families[0] = (struct family){0};
    uint32_t id = slot_take(n);
    CHECK(id == NODE_ROOT);
    at(n, id)->data_len = -1;
    body_put(n, at(n, id), NULL, 0, NULL);
    at(n, id)->hash = path_hash(n, "/", 1);
    count_in(n, id, 1);
    hash_in(n, id);
}

void nodes_free(struct nodes *n)
{
    for (uint32_t i = 0; i < n->rows_n; i++)
        mem_free(n->rows[i]);
    mem_free(n->rows);
    slab_free(&n->slab);
    mem_free(n->buckets);
    mem_free(n->families);
    *n = (struct nodes){0};
}

void nodes_reserve(struct nodes *n, uint32_t count)
{
    CHECK(count < UINT32_MAX / 4 - n->count);
    while (n->buckets_n < n->count + count)
        bucket_split(n);
}

/* Compares from the end, up the parents. */
static bool has_path(const struct nodes *n, uint32_t id, const char *path, size_t len)
{
    while (id != NODE_ROOT) {
        size_t name_len;
        const char *name = nodes_name(n, id, &name_len);
        if (len < name_len + 1 || memcmp(path + len - name_len, name, name_len) != 0)
            return false;
        len -= name_len;
        if (path[--len] != '/')
            return false;
        id = at(n, id)->parent;
    }
    return len == 0;
}

uint32_t nodes_find(const struct nodes *n, const char *path, size_t len)
{
    if (len == 0 || (len == 1 && path[0] == '/'))
        return NODE_ROOT;
    uint32_t hash = path_hash(n, path, len);
    uint32_t id = *bucket_of(n, hash);

    while (id != NODE_NONE &&
           (at(n, id)->hash != hash || id == NODE_ROOT || !has_path(n, id, path, len)))
        id = at(n, id)->chain;
    return id;
}

uint32_t nodes_ask(const struct nodes *n, const char *path, size_t len)
{
    uint32_t hash = path_hash(n, path, len);

    __builtin_prefetch(bucket_of(n, hash));
    return hash;
}

uint32_t nodes_ask_znode(const struct nodes *n, uint32_t hash)
{
    uint32_t id = *bucket_of(n, hash);

    if (id != NODE_NONE)
        __builtin_prefetch(at(n, id));
    return id;
}

void nodes_ask_body(const struct nodes *n, uint32_t id)
{
    if (nodes_is_used(n, id))
        __builtin_prefetch(slab_at(&n->slab, at(n, id)->body));
}

static void sibling_in(struct nodes *n, uint32_t id)
{
    struct node *v = nodes_at(n, id);
    struct family *f = nodes_family(n, v->parent);

    v->prev = NODE_NONE;
    v->next = f->first;
    if (f->first != NODE_NONE)
        nodes_at(n, f->first)->prev = id;
    f->first = id;
    f->children++;
}

static void sibling_out(struct nodes *n, uint32_t id)
{
    struct node *v = nodes_at(n, id);
    struct family *f = nodes_family(n, v->parent);

    CHECK(f->children > 0);
    if (v->next != NODE_NONE)
        nodes_at(n, v->next)->prev = v->prev;
    if (v->prev != NODE_NONE)
        nodes_at(n, v->prev)->next = v->next;
    else
        f->first = v->next;
    f->children--;
}

uint32_t nodes_add(struct nodes *n, uint32_t parent, const char *path, size_t len,
                   const void *data, int32_t data_len)
{
    size_t name_at = path_name_at(path, len);
    uint32_t id = slot_take(n);
    struct node *v = at(n, id);

    v->data_len = data_len;
    body_put(n, v, path + name_at, len - name_at, data);
    v->parent = parent;
    nodes_relink(n, id, path, len);
    return id;
}

uint32_t nodes_load(struct nodes *n, const struct node *like, const struct node_changes *c,
                    const char *path, size_t len, const void *data)
{
    const struct node_changes none = {like->czxid, like->ctime, 0, 0};
    size_t name_at = path_name_at(path, len);
    uint32_t id = slot_take(n);
    struct node *v = at(n, id);

    *v = *like;
    v->is_changed = memcmp(c, &none, sizeof none) != 0;
    v->hash = path_hash(n, path, len);
    body_put(n, v, path + name_at, len - name_at, data);
    if (v->is_changed)
        memcpy(slab_at(&n->slab, v->body), c, sizeof *c);
    sibling_in(n, id);
    count_in(n, id, len);
    return id;
}

static bool is_same_path(const struct nodes *n, uint32_t a, uint32_t b)
{
    size_t a_len, b_len;
    const char *a_name = nodes_name(n, a, &a_len), *b_name = nodes_name(n, b, &b_len);

    return at(n, a)->parent == at(n, b)->parent && a_len == b_len &&
           memcmp(a_name, b_name, a_len) == 0;
}

/* Whether there is one with this one's path. */
static bool is_taken(const struct nodes *n, uint32_t id)
{
    uint32_t other = *bucket_of(n, at(n, id)->hash);

    while (other != NODE_NONE &&
           (at(n, other)->hash != at(n, id)->hash || !is_same_path(n, other, id)))
        other = at(n, other)->chain;
    return other != NODE_NONE;
}

/* The heads, and the znodes there, lie all over the memory. Asked for so many ahead, they come
 * at the same time. */
#define LINK_AHEAD 16u

bool nodes_link(struct nodes *n, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count + 2 * LINK_AHEAD; i++) {
        if (i < count)
            __builtin_prefetch(bucket_of(n, at(n, ids[i])->hash));
        if (i >= LINK_AHEAD && i - LINK_AHEAD < count)
            __builtin_prefetch(at(n, *bucket_of(n, at(n, ids[i - LINK_AHEAD])->hash)));
        if (i < 2 * LINK_AHEAD)
            continue;
        uint32_t id = ids[i - 2 * LINK_AHEAD];
        if (is_taken(n, id) && !MUTANT(tree_loaded_twice))
            return false;
        hash_in(n, id);
    }
    return true;
}

void nodes_set(struct nodes *n, uint32_t id, const void *data, int32_t data_len,
               const struct node_changes *c)
{
    struct node *v = nodes_at(n, id);

    n->data_bytes += data_size(data_len) - data_size(v->data_len);
    if (data_size(data_len) != data_size(v->data_len) || (c != NULL && !v->is_changed)) {
        struct node_changes kept = nodes_changes(n, id);
        body_move(n, id, c != NULL ? c : v->is_changed ? &kept : NULL, data, data_len);
        return;
    }
    v->data_len = data_len;
    if (c != NULL)
        memcpy(slab_at(&n->slab, v->body), c, sizeof *c);
    if (data_len > 0)
        memcpy((uint8_t *)nodes_data(n, id), data, (size_t)data_len);
}

void nodes_set_data(struct nodes *n, uint32_t id, const void *data, int32_t data_len)
{
    nodes_set(n, id, data, data_len, NULL);
}

void nodes_set_changes(struct nodes *n, uint32_t id, const struct node_changes *c)
{
    struct node *v = nodes_at(n, id);

    if (v->is_changed)
        memcpy(slab_at(&n->slab, v->body), c, sizeof *c);
    else
        body_move(n, id, c, nodes_data(n, id), v->data_len);
}

void nodes_load_changes(struct nodes *n, uint32_t id, const struct node_changes *c)
{
    struct node_changes now = nodes_changes(n, id);

    if (memcmp(&now, c, sizeof now) != 0)
        nodes_set_changes(n, id, c);
}

#define TIDY_ABOVE (1u << 20) /* bytes held in vain: below it, nothing is done */
#define TIDY_STEPS 8u         /* znodes looked at in a call */

void nodes_tidy(struct nodes *n)
{
    if (n->slab.held_bytes < 2 * n->slab.used_bytes + TIDY_ABOVE)
        return;
    for (unsigned i = 0; i < TIDY_STEPS; i++) {
        n->tidied = n->tidied + 1 < n->slots_n ? n->tidied + 1 : NODE_ROOT;
        struct node *v = at(n, n->tidied);
        if (v->body == SLAB_NONE || !slab_is_sparse(&n->slab, v->body))
            continue;
        struct node_changes kept = nodes_changes(n, n->tidied);
        body_move(n, n->tidied, v->is_changed && !MUTANT(tree_move_forgets) ? &kept : NULL,
                  nodes_data(n, n->tidied), v->data_len);
    }
}

void nodes_unlink(struct nodes *n, uint32_t id)
{
    CHECK(id != NODE_ROOT && nodes_family_get(n, id).children == 0);
    sibling_out(n, id);
    hash_out(n, id);
}

void nodes_relink(struct nodes *n, uint32_t id, const char *path, size_t len)
{
    sibling_in(n, id);
    at(n, id)->hash = path_hash(n, path, len);
    count_in(n, id, len);
    hash_in(n, id);
}

void nodes_drop(struct nodes *n, uint32_t id)
{
    struct node *v = nodes_at(n, id);

    CHECK(!is_linked(n, id));
    if (v->family != 0) {
        n->families[v->family].first = n->families_free;
        n->families_free = v->family;
    }
    slab_give(&n->slab, v->body, body_size(v, name_len_of(n, id)));
    *v = (struct node){.chain = n->slots_free};
    n->slots_free = id;
}

struct family nodes_family_get(const struct nodes *n, uint32_t id)
{
    const struct node *v = nodes_at(n, id);

    if (v->family != 0)
        return n->families[v->family];
    return (struct family){.pzxid = v->czxid};
}

struct family *nodes_family(struct nodes *n, uint32_t id)
{
    struct node *v = nodes_at(n, id);

    if (v->family == 0) {
        uint32_t f = n->families_free;
        if (f != 0) {
            n->families_free = n->families[f].first;
        } else {
            mem_grow(n->families, n->families_cap, n->families_n + 1);
            f = n->families_n++;
        }
        n->families[f] = (struct family){.pzxid = v->czxid};
        v->family = f & 0x7fffffffu;
    }
    return &n->families[v->family];
}

uint32_t nodes_below_next(const struct nodes *n, uint32_t id, uint32_t from)
{
    uint32_t child = nodes_family_get(n, from).first;

    if (child != NODE_NONE)
        return child;
    while (from != id && nodes_at(n, from)->next == NODE_NONE)
        from = nodes_at(n, from)->parent;
    return from == id ? NODE_NONE : nodes_at(n, from)->next;
}

void nodes_path(const struct nodes *n, uint32_t id, struct buf *out)
{
    size_t len = id == NODE_ROOT ? 0 : path_size(n, id);

    buf_clear(out);
    if (len == 0) {
        buf_add_u8(out, '/');
        return;
    }
    char *to = (char *)buf_reserve(out, len);
    buf_added(out, len);
    for (uint32_t up = id; up != NODE_ROOT; up = nodes_at(n, up)->parent) {
        size_t name_len;
        const char *name = nodes_name(n, up, &name_len);
        len -= name_len;
        memcpy(to + len, name, name_len);
        to[--len] = '/';
    }
}
