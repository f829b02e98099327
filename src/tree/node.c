/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/node.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "wire/path.h"

static uint32_t path_hash(const struct nodes *n, const char *path, size_t len)
{
    uint64_t h = hash_bytes(n->key, path, len);

    return (uint32_t)(h ^ h >> 32);
}

static size_t data_size(int32_t data_len) { return data_len > 0 ? (size_t)data_len : 0; }

static void bucket_add(struct nodes *n, uint32_t id)
{
    uint32_t *head = &n->buckets[n->slots[id].hash & (n->buckets_n - 1)];

    n->slots[id].next = *head;
    *head = id;
}

static bool is_linked(const struct nodes *n, uint32_t id)
{
    uint32_t at = n->buckets[n->slots[id].hash & (n->buckets_n - 1)];

    while (at != NODE_NONE && at != id)
        at = n->slots[at].next;
    return at == id;
}

/* The table is our own because base/hash.h links by pointers: 32 bytes more per znode. */
static void buckets_grow(struct nodes *n, uint32_t size)
{
    uint32_t *old = n->buckets;

    CHECK(size > n->buckets_n);
    n->buckets = mem_new_array(uint32_t, size);
    uint32_t old_n = n->buckets_n;
    n->buckets_n = size;
    for (uint32_t b = 0; b < old_n; b++) {
        uint32_t id = old[b];
        while (id != NODE_NONE) {
            uint32_t next = n->slots[id].next;
            bucket_add(n, id);
            id = next;
        }
    }
    mem_free(old);
}

static size_t path_size(const struct nodes *n, uint32_t id)
{
    size_t len = id == NODE_ROOT ? 1 : 0;

    for (; id != NODE_ROOT; id = n->slots[id].node->parent)
        len += n->slots[id].node->name_len + (size_t)1;
    return len;
}

static void hash_in(struct nodes *n, uint32_t id, uint32_t hash)
{
    if (n->count >= n->buckets_n)
        buckets_grow(n, 2 * n->buckets_n);
    n->slots[id].hash = hash;
    bucket_add(n, id);
    n->count++;
    n->data_bytes += data_size(n->slots[id].node->data_len);
    n->path_bytes += path_size(n, id);
    n->name_bytes += n->slots[id].node->name_len;
}

static void hash_out(struct nodes *n, uint32_t id)
{
    uint32_t *at = &n->buckets[n->slots[id].hash & (n->buckets_n - 1)];

    while (*at != id) {
        CHECK(*at != NODE_NONE);
        at = &n->slots[*at].next;
    }
    *at = n->slots[id].next;
    n->count--;
    n->data_bytes -= data_size(n->slots[id].node->data_len);
    n->path_bytes -= path_size(n, id);
    n->name_bytes -= n->slots[id].node->name_len;
}

static uint32_t slot_take(struct nodes *n, struct node *v)
{
    uint32_t id = n->slots_free;

    if (id != NODE_NONE) {
        n->slots_free = n->slots[id].next;
    } else {
        CHECK(n->slots_n < UINT32_MAX / 2);
        mem_grow(n->slots, n->slots_cap, n->slots_n + 1);
        id = n->slots_n++;
    }
    n->slots[id] = (struct node_slot){.node = v};
    return id;
}

static struct node *node_new(const char *name, size_t name_len, const void *data,
                             int32_t data_len)
{
    struct node *v = mem_alloc(sizeof *v + name_len + data_size(data_len));

    CHECK(name_len <= UINT32_MAX && data_len >= -1);
    v->name_len = (uint32_t)name_len;
    v->data_len = data_len;
    if (name_len > 0)
        memcpy(v->tail, name, name_len);
    if (data_len > 0)
        memcpy(v->tail + name_len, data, (size_t)data_len);
    return v;
}

void nodes_init(struct nodes *n, uint64_t hash_key)
{
    *n = (struct nodes){.key = hash_key, .buckets_n = 16, .slots_n = 1, .families_n = 1};
    n->buckets = mem_new_array(uint32_t, n->buckets_n);
    mem_grow(n->slots, n->slots_cap, 8u);
    mem_grow(n->families, n->families_cap, 8u);
    n->slots[0] = (struct node_slot){0};
    n->families[0] = (struct family){0};
    uint32_t id = slot_take(n, node_new(NULL, 0, NULL, -1));
    CHECK(id == NODE_ROOT);
    hash_in(n, id, path_hash(n, "/", 1));
}

void nodes_free(struct nodes *n)
{
    for (uint32_t id = 1; id < n->slots_n; id++)
        mem_free(n->slots[id].node);
    mem_free(n->slots);
    mem_free(n->buckets);
    mem_free(n->families);
    *n = (struct nodes){0};
}

struct node *nodes_at(const struct nodes *n, uint32_t id)
{
    CHECK(id != NODE_NONE && id < n->slots_n && n->slots[id].node != NULL);
    return n->slots[id].node;
}

/* Compares from the end, up the parents. */
static bool has_path(const struct nodes *n, uint32_t id, const char *path, size_t len)
{
    while (id != NODE_ROOT) {
        const struct node *v = n->slots[id].node;
        if (len < (size_t)v->name_len + 1 ||
            memcmp(path + len - v->name_len, v->tail, v->name_len) != 0)
            return false;
        len -= v->name_len;
        if (path[--len] != '/')
            return false;
        id = v->parent;
    }
    return len == 0;
}

uint32_t nodes_find(const struct nodes *n, const char *path, size_t len)
{
    if (len == 0 || (len == 1 && path[0] == '/'))
        return NODE_ROOT;
    uint32_t hash = path_hash(n, path, len);
    uint32_t id = n->buckets[hash & (n->buckets_n - 1)];

    while (id != NODE_NONE &&
           (n->slots[id].hash != hash || id == NODE_ROOT || !has_path(n, id, path, len)))
        id = n->slots[id].next;
    return id;
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
    struct node *v = node_new(path + name_at, len - name_at, data, data_len);
    uint32_t id = slot_take(n, v);

    v->parent = parent;
    nodes_relink(n, id, path, len);
    return id;
}

bool nodes_is_used(const struct nodes *n, uint32_t id) { return n->slots[id].node != NULL; }

void nodes_reserve(struct nodes *n, uint32_t count)
{
    uint32_t size = n->buckets_n;

    CHECK(count < UINT32_MAX / 2 - n->slots_n);
    while (size < n->count + count)
        size *= 2;
    if (size > n->buckets_n)
        buckets_grow(n, size);
    mem_grow(n->slots, n->slots_cap, n->slots_n + count);
}

void nodes_set_data(struct nodes *n, uint32_t id, const void *data, int32_t data_len)
{
    struct node *v = nodes_at(n, id);

    n->data_bytes += data_size(data_len) - data_size(v->data_len);
    if (data_size(data_len) != data_size(v->data_len)) {
        v = mem_resize(v, sizeof *v + v->name_len + data_size(data_len));
        n->slots[id].node = v;
    }
    v->data_len = data_len;
    if (data_len > 0)
        memcpy(v->tail + v->name_len, data, (size_t)data_len);
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
    hash_in(n, id, path_hash(n, path, len));
}

void nodes_drop(struct nodes *n, uint32_t id)
{
    struct node *v = nodes_at(n, id);

    CHECK(!is_linked(n, id));
    if (v->family != 0) {
        n->families[v->family].first = n->families_free;
        n->families_free = v->family;
    }
    mem_free(v);
    n->slots[id] = (struct node_slot){.next = n->slots_free};
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
        uint32_t at = n->families_free;
        if (at != 0) {
            n->families_free = n->families[at].first;
        } else {
            mem_grow(n->families, n->families_cap, n->families_n + 1);
            at = n->families_n++;
        }
        n->families[at] = (struct family){.pzxid = v->czxid};
        v->family = at;
    }
    return &n->families[v->family];
}

uint32_t nodes_below_next(const struct nodes *n, uint32_t id, uint32_t at)
{
    uint32_t child = nodes_family_get(n, at).first;

    if (child != NODE_NONE)
        return child;
    while (at != id && nodes_at(n, at)->next == NODE_NONE)
        at = nodes_at(n, at)->parent;
    return at == id ? NODE_NONE : nodes_at(n, at)->next;
}

void nodes_path(const struct nodes *n, uint32_t id, struct buf *out)
{
    size_t len = 0;

    for (uint32_t up = id; up != NODE_ROOT; up = nodes_at(n, up)->parent)
        len += nodes_at(n, up)->name_len + (size_t)1;
    buf_clear(out);
    if (len == 0) {
        buf_add_u8(out, '/');
        return;
    }
    char *to = (char *)buf_reserve(out, len);
    buf_added(out, len);
    for (uint32_t up = id; up != NODE_ROOT; up = nodes_at(n, up)->parent) {
        const struct node *v = nodes_at(n, up);
        len -= v->name_len;
        memcpy(to + len, v->tail, v->name_len);
        to[--len] = '/';
    }
}
