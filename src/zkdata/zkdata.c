/* SPDX-License-Identifier: Apache-2.0 */
#include "zkdata/zkdata.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "zkdata/state.h"
#include "zkdata/sum.h"

/* ---- znodes, sessions, access lists ---- */

struct zk_node *zk_find(const struct zkdata *d, const char *path, size_t len)
{
    struct hash_link *l = hash_first(&d->nodes, hash_bytes(d->key, path, len));

    for (; l != NULL; l = hash_next(l)) {
        struct zk_node *v = HASH_ENTRY(l, struct zk_node, link);
        if (v->path_len == len && (len == 0 || memcmp(v->path, path, len) == 0))
            return v;
    }
    return NULL;
}

struct zk_session *zk_session(struct zkdata *d, int64_t id)
{
    uint64_t hash = hash_bytes(d->key, &id, sizeof id);
    struct hash_link *l = hash_first(&d->sessions, hash);

    for (; l != NULL; l = hash_next(l))
        if (HASH_ENTRY(l, struct zk_session, link)->id == id)
            return HASH_ENTRY(l, struct zk_session, link);
    struct zk_session *x = mem_new(struct zk_session);
    x->id = id;
    hash_insert(&d->sessions, &x->link, hash);
    return x;
}

static bool is_owned(const struct zk_node *v)
{
    return v->stat.owner != 0 && v->stat.owner != OWNER_CONTAINER;
}

void zk_set_data(struct zk_node *v, struct wire_bytes data)
{
    mem_free(v->data);
    v->data = data.len > 0 ? mem_dup(data.data, (size_t)data.len) : NULL;
    v->data_len = data.len;
}

struct zk_node *zk_add(struct zkdata *d, const char *path, size_t len, struct wire_bytes data,
                       uint32_t acl, const struct zk_stat *stat)
{
    struct zk_node *v = mem_alloc(sizeof *v + len);

    CHECK(len <= ZKDATA_PATH_MAX);
    v->stat = *stat;
    v->acl = acl;
    v->path_len = (uint32_t)len;
    if (len > 0)
        memcpy(v->path, path, len);
    zk_set_data(v, data);
    hash_insert(&d->nodes, &v->link, hash_bytes(d->key, path, len));
    if (is_owned(v)) {
        struct zk_session *x = zk_session(d, stat->owner);
        v->next = x->first;
        if (v->next != NULL)
            v->next->prev = v;
        x->first = v;
    }
    return v;
}

void zk_remove(struct zkdata *d, struct zk_node *v)
{
    if (is_owned(v)) {
        if (v->next != NULL)
            v->next->prev = v->prev;
        if (v->prev != NULL)
            v->prev->next = v->next;
        else
            zk_session(d, v->stat.owner)->first = v->next;
    }
    hash_remove(&d->nodes, &v->link);
    mem_free(v->data);
    mem_free(v);
}

uint32_t zk_acl_take(struct zkdata *d, struct wire_list list)
{
    if (list.count <= 0) /* ZooKeeper lets everybody pass where there is no list */
        return ACL_OPEN;
    uint64_t hash = hash_bytes(d->key, list.data, list.len);
    struct hash_link *l = hash_first(&d->acl_table, hash);

    for (; l != NULL; l = hash_next(l)) {
        struct zk_acl *a = HASH_ENTRY(l, struct zk_acl, link);
        if (a->len == list.len && memcmp(a->bytes, list.data, list.len) == 0)
            return a->id;
    }
    struct zk_acl *a = mem_alloc(sizeof *a + list.len);
    CHECK(d->acls_n < ACL_UNKNOWN);
    *a = (struct zk_acl){.id = d->acls_n, .count = list.count, .len = list.len};
    memcpy(a->bytes, list.data, list.len);
    mem_grow(d->acls, d->acls_cap, d->acls_n + 1);
    d->acls[d->acls_n++] = a;
    hash_insert(&d->acl_table, &a->link, hash);
    return a->id;
}

/* ---- parts of the formats ---- */

bool zk_path_take(struct wire_bytes *path)
{
    if (path->len < 0 || (uint32_t)path->len > ZKDATA_PATH_MAX)
        return false;
    if (path->len == 1 && path->data[0] == '/')
        path->len = 0;
    return path->len == 0 || (path->data[0] == '/' && path->data[path->len - 1] != '/' &&
                              memchr(path->data, 0, (size_t)path->len) == NULL);
}

struct wire_list zk_get_acls(struct wire_in *in)
{
    struct wire_list list = {.count = wire_get_i32(in)};
    struct wire_acl a;

    list.data = in->at;
    if (list.count < -1)
        in->err = ERR_MALFORMED;
    for (int32_t i = 0; i < list.count && in->err == 0; i++)
        (void)wire_acl_decode(&a, in);
    list.len = (size_t)(in->at - list.data);
    return list;
}

void zk_put_stat(const struct zk_stat *s, struct buf *out)
{
    buf_add_be64(out, (uint64_t)s->czxid);
    buf_add_be64(out, (uint64_t)s->mzxid);
    buf_add_be64(out, (uint64_t)s->ctime);
    buf_add_be64(out, (uint64_t)s->mtime);
    buf_add_be32(out, (uint32_t)s->version);
    buf_add_be32(out, (uint32_t)s->creates);
    buf_add_be32(out, (uint32_t)s->aversion);
    buf_add_be64(out, (uint64_t)s->owner);
    buf_add_be64(out, (uint64_t)s->pzxid);
}

uint64_t zk_node_digest(const char *path, size_t len, const uint8_t *data, int32_t data_len,
                        const struct zk_stat *s)
{
    static const char left_out[] = "/zookeeper/";
    uint8_t b[60];

    if (len >= sizeof left_out - 1 && memcmp(path, left_out, sizeof left_out - 1) == 0)
        return 0;
    be64_put(b, (uint64_t)s->czxid);
    be64_put(b + 8, (uint64_t)s->mzxid);
    be64_put(b + 16, (uint64_t)s->pzxid);
    be64_put(b + 24, (uint64_t)s->ctime);
    be64_put(b + 32, (uint64_t)s->mtime);
    be32_put(b + 40, (uint32_t)s->version);
    be32_put(b + 44, (uint32_t)s->creates);
    be32_put(b + 48, (uint32_t)s->aversion);
    be64_put(b + 52, (uint64_t)s->owner);
    uint32_t crc = crc32_ieee(0, path, len);
    if (data_len > 0)
        crc = crc32_ieee(crc, data, (size_t)data_len);
    return crc32_ieee(crc, b, sizeof b);
}

bool zkdata_parse_name(const char *name, const char *prefix, int64_t *zxid)
{
    size_t n = strlen(prefix);
    uint64_t v = 0;

    if (strncmp(name, prefix, n) != 0 || name[n] == 0 || strlen(name + n) > 16)
        return false;
    for (const char *p = name + n; *p != 0; p++) {
        unsigned digit = *p >= '0' && *p <= '9'   ? (unsigned)(*p - '0')
                         : *p >= 'a' && *p <= 'f' ? (unsigned)(*p - 'a') + 10
                                                  : 16;
        if (digit == 16)
            return false;
        v = v << 4 | digit;
    }
    *zxid = (int64_t)v;
    return v <= INT64_MAX;
}

bool zkdata_tail_is_whole(const uint8_t tail[ZKDATA_TAIL_LEN])
{
    return memcmp(tail, "\0\0\0\1/", ZKDATA_TAIL_LEN) == 0;
}

/* ---- life ---- */

struct zkdata *zkdata_new(uint64_t hash_key)
{
    struct zkdata *d = mem_new(struct zkdata);
    struct wire_acl open = {WIRE_PERM_ALL, wire_bytes("world", 5), wire_bytes("anyone", 6)};
    struct buf b = {0};

    d->key = hash_key;
    wire_acl_encode(&open, &b);
    CHECK(zk_acl_take(d, (struct wire_list){b.data, b.len, 1}) == ACL_OPEN);
    buf_free(&b);
    return d;
}

void zkdata_free(struct zkdata *d)
{
    struct hash_walk w;

    if (d == NULL)
        return;
    for (struct hash_link *l = hash_walk_first(&d->nodes, &w); l != NULL;
         l = hash_walk_next(&d->nodes, &w)) {
        struct zk_node *v = HASH_ENTRY(l, struct zk_node, link);
        hash_remove(&d->nodes, l);
        mem_free(v->data);
        mem_free(v);
    }
    for (struct hash_link *l = hash_walk_first(&d->sessions, &w); l != NULL;
         l = hash_walk_next(&d->sessions, &w)) {
        struct zk_session *x = HASH_ENTRY(l, struct zk_session, link);
        hash_remove(&d->sessions, l);
        mem_free(x);
    }
    for (uint32_t i = 0; i < d->acls_n; i++)
        mem_free(d->acls[i]);
    mem_free(d->acls);
    mem_free(d->order);
    hash_free(&d->nodes);
    hash_free(&d->sessions);
    hash_free(&d->acl_table);
    mem_free(d);
}
