/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/acl.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "tree/tree.h"

#define DIGEST_KEY 0x61636c2064696765 /* any constant: the same on every replica */

void acls_init(struct acls *a, uint64_t hash_key)
{
    *a = (struct acls){.key = hash_key, .n = 1};
    mem_grow(a->rows, a->cap, 8u);
    a->rows[0] = NULL;
}

void acls_free(struct acls *a)
{
    for (uint32_t i = 1; i < a->n; i++)
        mem_free(a->rows[i]);
    mem_free(a->rows);
    mem_free(a->free);
    hash_free(&a->table);
    *a = (struct acls){0};
}

static struct acl *find(const struct acls *a, uint64_t hash, const void *elements, size_t len)
{
    struct hash_link *l = hash_first(&a->table, hash);

    for (; l != NULL; l = hash_next(l)) {
        struct acl *acl = HASH_ENTRY(l, struct acl, link);
        if (acl->len == len && memcmp(acl->bytes, elements, len) == 0)
            return acl;
    }
    return NULL;
}

static bool is_text(struct wire_bytes b, const char *text)
{
    size_t len = strlen(text);

    return b.len >= 0 && (size_t)b.len == len && memcmp(b.data, text, len) == 0;
}

static bool same(struct wire_bytes a, struct wire_bytes b)
{
    return a.len == b.len && (a.len <= 0 || memcmp(a.data, b.data, (size_t)a.len) == 0);
}

static bool is_everyone(const struct wire_acl *a)
{
    return is_text(a->scheme, "world") && is_text(a->id, "anyone");
}

static int32_t perms_of_everyone(struct wire_list list)
{
    struct wire_acl a = {0};
    int32_t perms = 0;

    while (wire_acls_next(&list, &a))
        if (is_everyone(&a))
            perms |= a.perms;
    return perms;
}

uint32_t acls_take(struct acls *a, const void *elements, size_t len, int32_t count)
{
    CHECK(count > 0 && len > 0 && len <= UINT32_MAX);
    uint64_t hash = hash_bytes(a->key, elements, len);
    struct acl *acl = find(a, hash, elements, len);

    if (acl != NULL) {
        acl->refs++;
        return acl->id;
    }
    acl = mem_alloc(sizeof *acl + len);
    memcpy(acl->bytes, elements, len);
    acl->len = (uint32_t)len;
    acl->count = count;
    acl->everyone = perms_of_everyone((struct wire_list){acl->bytes, len, count});
    acl->refs = 1;
    acl->digest = hash_bytes(DIGEST_KEY, elements, len);
    if (a->free_n > 0) {
        acl->id = a->free[--a->free_n];
    } else {
        mem_grow(a->rows, a->cap, a->n + 1);
        acl->id = a->n++;
    }
    a->rows[acl->id] = acl;
    hash_insert(&a->table, &acl->link, hash);
    a->bytes += len;
    return acl->id;
}

bool acls_has(const struct acls *a, const void *elements, size_t len)
{
    return find(a, hash_bytes(a->key, elements, len), elements, len) != NULL;
}

void acls_ref(struct acls *a, uint32_t id) { a->rows[id]->refs++; }

void acls_give(struct acls *a, uint32_t id)
{
    struct acl *acl = a->rows[id];

    CHECK(acl != NULL);
    CHECK(acl->refs > 0);
    if (--acl->refs > 0)
        return;
    hash_remove(&a->table, &acl->link);
    a->bytes -= acl->len;
    a->rows[id] = NULL;
    mem_grow(a->free, a->free_cap, a->free_n + 1);
    a->free[a->free_n++] = id;
    mem_free(acl);
}

const struct acl *acls_at(const struct acls *a, uint32_t id)
{
    CHECK(id > 0 && id < a->n && a->rows[id] != NULL);
    return a->rows[id];
}

/* user:hash. Two parts; empty ones at the end do not count. */
static bool is_digest_id(struct wire_bytes id)
{
    int32_t len = id.len, colons = 0;

    while (len > 0 && id.data[len - 1] == ':')
        len--;
    for (int32_t i = 0; i < len; i++)
        colons += id.data[i] == ':';
    return colons == 1;
}

/* A decimal number up to `most` at *at; moves *at behind it. */
static bool take_number(const uint8_t **at, const uint8_t *end, uint32_t most, uint32_t *out)
{
    const uint8_t *p = *at;
    uint32_t v = 0;

    while (p < end && *p >= '0' && *p <= '9') {
        v = v * 10 + (uint32_t)(*p++ - '0');
        if (v > most)
            return false;
    }
    bool any = p > *at;
    *at = p;
    *out = v;
    return any;
}

/* a.b.c.d or, if bits are wanted, a.b.c.d/bits (32 without them). */
static bool parse_ip(struct wire_bytes id, uint32_t *address, uint32_t *bits)
{
    const uint8_t *p = id.data, *end = id.data + (id.len > 0 ? id.len : 0);
    uint32_t n;

    *address = 0;
    for (int i = 0; i < 4; i++) {
        if (i > 0 && (p == end || *p++ != '.'))
            return false;
        if (!take_number(&p, end, 255, &n))
            return false;
        *address = *address << 8 | n;
    }
    if (bits != NULL)
        *bits = 32;
    if (p == end)
        return true;
    return bits != NULL && *p++ == '/' && take_number(&p, end, 32, bits) && p == end;
}

static bool ip_matches(struct wire_bytes listed, struct wire_bytes own)
{
    uint32_t net, address, bits;

    if (!parse_ip(listed, &net, &bits) || !parse_ip(own, &address, NULL))
        return false;
    return bits == 0 || (net ^ address) >> (32 - bits) == 0;
}

static bool has_id(struct wire_list ids, const char *scheme)
{
    struct wire_id id;

    while (wire_ids_next(&ids, &id))
        if (is_text(id.scheme, scheme))
            return true;
    return false;
}

static bool matches(const struct wire_acl *a, struct wire_list ids)
{
    bool is_ip = is_text(a->scheme, "ip");
    struct wire_id id;

    while (wire_ids_next(&ids, &id))
        if (same(a->scheme, id.scheme) &&
            (is_ip ? ip_matches(a->id, id.id) : same(a->id, id.id)))
            return true;
    return false;
}

bool tree_acl_lets(struct wire_list acl, struct wire_list ids, int32_t perms)
{
    struct wire_acl a = {0};

    if (has_id(ids, "super"))
        return true;
    while (wire_acls_next(&acl, &a))
        if ((a.perms & perms) != 0 && (is_everyone(&a) || matches(&a, ids)))
            return true;
    return false;
}

static bool is_valid(const struct wire_acl *a, uint8_t rules)
{
    uint32_t address, bits;

    if (a->scheme.len < 0 || a->id.len < 0)
        return false;
    if (is_text(a->scheme, "world"))
        return is_text(a->id, "anyone");
    if (is_text(a->scheme, "digest"))
        return (rules & TREE_RULE_NO_DIGEST) == 0 && is_digest_id(a->id);
    return is_text(a->scheme, "ip") && parse_ip(a->id, &address, &bits);
}

static bool stands_before(struct wire_list list, int32_t before, const struct wire_acl *a)
{
    struct wire_acl other = {0};

    for (int32_t i = 0; i < before && wire_acls_next(&list, &other); i++)
        if (other.perms == a->perms && same(other.scheme, a->scheme) && same(other.id, a->id))
            return true;
    return false;
}

/* One entry for each id that was proven: digest's. */
static int32_t add_proven(struct wire_list ids, int32_t perms, uint8_t rules, struct buf *out)
{
    struct wire_id id;
    int32_t n = 0;

    while (wire_ids_next(&ids, &id)) {
        if (!is_text(id.scheme, "digest") || (rules & TREE_RULE_NO_DIGEST) != 0)
            continue;
        const struct wire_acl a = {perms, id.scheme, id.id};
        wire_acl_encode(&a, out);
        n++;
    }
    return n;
}

/* Each entry is compared with each id of whoever asks, in every part of a multi; and an entry
 * `auth` stands for all the ids of a connection. Both count what will be stored. */
#define ACL_ENTRIES_MAX 128
#define ACL_BYTES_MAX (16u << 10)

int acl_fix(struct wire_list list, struct wire_list ids, uint8_t rules, struct buf *out,
            int32_t *count)
{
    struct wire_list rest = list;
    struct wire_acl a = {0};

    *count = 0;
    if (list.count > ACL_ENTRIES_MAX)
        return ERR_INVALID_ACL;
    for (int32_t i = 0; wire_acls_next(&rest, &a); i++) {
        bool is_auth = is_text(a.scheme, "auth");
        if (!is_auth && !is_valid(&a, rules))
            return ERR_INVALID_ACL;
        if (stands_before(list, i, &a))
            continue;
        if (!is_auth) {
            wire_acl_encode(&a, out);
            (*count)++;
        } else {
            int32_t n = add_proven(ids, a.perms, rules, out);
            if (n == 0)
                return ERR_INVALID_ACL;
            *count += n;
        }
        if (out->len > ACL_BYTES_MAX || *count > ACL_ENTRIES_MAX)
            return ERR_INVALID_ACL;
    }
    return *count > 0 ? 0 : ERR_INVALID_ACL;
}

void acl_mask(struct wire_list list, struct buf *out)
{
    struct wire_acl a = {0};

    while (wire_acls_next(&list, &a)) {
        const uint8_t *colon = is_text(a.scheme, "digest") && a.id.len > 0
                                   ? memchr(a.id.data, ':', (size_t)a.id.len)
                                   : NULL;
        if (colon == NULL) {
            wire_acl_encode(&a, out);
            continue;
        }
        size_t user_len = (size_t)(colon + 1 - a.id.data);
        buf_add_be32(out, (uint32_t)a.perms);
        wire_text_encode(a.scheme.data, (size_t)a.scheme.len, out);
        buf_add_be32(out, (uint32_t)user_len + 1);
        buf_add(out, a.id.data, user_len);
        buf_add_u8(out, 'x');
    }
}
