/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <stdbool.h>
#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "base/check.h"
#include "base/mem.h"

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define SIP_ROUND(v0, v1, v2, v3)                                 \
    do {                                                          \
        v0 += v1, v1 = ROTL(v1, 13), v1 ^= v0, v0 = ROTL(v0, 32); \
        v2 += v3, v3 = ROTL(v3, 16), v3 ^= v2;                    \
        v0 += v3, v3 = ROTL(v3, 21), v3 ^= v0;                    \
        v2 += v1, v1 = ROTL(v1, 17), v1 ^= v2, v2 = ROTL(v2, 32); \
    } while (0)

/* SipHash-1-3 (Aumasson and Bernstein 2012), the second key word derived from the first. */
uint64_t hash_bytes(uint64_t key, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t k1 = hash_u64(key);
    uint64_t v0 = key ^ 0x736f6d6570736575, v1 = k1 ^ 0x646f72616e646f6d;
    uint64_t v2 = key ^ 0x6c7967656e657261, v3 = k1 ^ 0x7465646279746573;
    uint64_t last = (uint64_t)len << 56;

    for (size_t left = len / 8; left > 0; left--, p += 8) {
        uint64_t m;
        memcpy(&m, p, 8);
        v3 ^= m;
        SIP_ROUND(v0, v1, v2, v3);
        v0 ^= m;
    }
    for (size_t i = 0; i < len % 8; i++)
        last |= (uint64_t)p[i] << 8 * i;
    v3 ^= last;
    SIP_ROUND(v0, v1, v2, v3);
    v0 ^= last;
    v2 ^= 0xff;
    for (int i = 0; i < 3; i++)
        SIP_ROUND(v0, v1, v2, v3);
    return v0 ^ v1 ^ v2 ^ v3;
}

uint64_t hash_u64(uint64_t v)
{
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
    v = (v ^ v >> 27) * 0x94d049bb133111eb;
    return v ^ v >> 31;
}

/* Castagnoli, reflected polynomial 0x82f63b78 (RFC 3720, appendix B.4). */
static uint32_t crc_row(uint32_t c)
{
    for (int bit = 0; bit < 8; bit++)
        c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    return c;
}

static uint32_t crc_by_table(uint32_t c, const uint8_t *p, size_t len)
{
    /* Filled on first use; the same values whoever fills it. */
    static uint32_t table[8][256];
    static int ready;

    if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {
        for (uint32_t i = 0; i < 256; i++)
            table[0][i] = crc_row(i);
        for (int k = 1; k < 8; k++)
            for (uint32_t i = 0; i < 256; i++)
                table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
        __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    }
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t lo = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                           (uint32_t)p[3] << 24);
        c = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^
            table[4][lo >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^
            table[0][p[7]];
    }
    for (; len > 0; len--, p++)
        c = c >> 8 ^ table[0][(c ^ *p) & 0xff];
    return c;
}

/* Most processors have an instruction for it: 8 bytes at a time. */
#if defined(__x86_64__)
static bool has_crc(void) { return __builtin_cpu_supports("sse4.2") != 0; }

__attribute__((target("sse4.2"))) static uint32_t
crc_by_instruction(uint32_t c, const uint8_t *p, size_t len)
{
    uint64_t c8 = c, v;

    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&v, p, 8);
        c8 = __builtin_ia32_crc32di(c8, v);
    }
    c = (uint32_t)c8;
    for (; len > 0; len--, p++)
        c = __builtin_ia32_crc32qi(c, *p);
    return c;
}
#elif defined(__aarch64__) && defined(__GNUC__) && !defined(__clang__)
static bool has_crc(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }

__attribute__((target("+crc"))) static uint32_t crc_by_instruction(uint32_t c, const uint8_t *p,
                                                                   size_t len)
{
    uint64_t v;

    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&v, p, 8);
        c = __builtin_aarch64_crc32cx(c, v);
    }
    for (; len > 0; len--, p++)
        c = __builtin_aarch64_crc32cb(c, *p);
    return c;
}
#else
static bool has_crc(void) { return false; }
#define crc_by_instruction crc_by_table
#endif

uint32_t crc32c(uint32_t start, const void *data, size_t len)
{
    return has_crc() ? ~crc_by_instruction(~start, data, len) : crc32c_plain(start, data, len);
}

uint32_t crc32c_plain(uint32_t start, const void *data, size_t len)
{
    return ~crc_by_table(~start, data, len);
}

void hash_free(struct hash_table *t)
{
    mem_free(t->buckets);
    *t = (struct hash_table){0};
}

#define SIZE_MIN 8

static struct hash_link **bucket_of(const struct hash_table *t, uint64_t hash)
{
    size_t b = (size_t)hash & t->mask;

    return &t->buckets[b < t->size ? b : b & t->mask >> 1];
}

static void put(struct hash_table *t, struct hash_link *link)
{
    struct hash_link **at = bucket_of(t, link->hash);

    link->next = *at;
    *at = link;
}

/* One bucket more: what belongs there comes from one other. */
static void split(struct hash_table *t)
{
    mem_grow(t->buckets, t->cap, t->size + 1);
    if (t->size > t->mask)
        t->mask = 2 * t->mask + 1;
    struct hash_link **from = &t->buckets[t->size & t->mask >> 1], *link = *from;
    t->buckets[t->size++] = NULL;
    *from = NULL;
    while (link != NULL) {
        struct hash_link *next = link->next;
        put(t, link);
        link = next;
    }
}

void hash_insert(struct hash_table *t, struct hash_link *link, uint64_t hash)
{
    if (t->size == 0) {
        t->size = t->cap = SIZE_MIN;
        t->mask = SIZE_MIN - 1;
        t->buckets = mem_new_array(struct hash_link *, SIZE_MIN);
    }
    if (t->count >= t->size)
        split(t);
    link->hash = hash;
    put(t, link);
    t->count++;
}

void hash_remove(struct hash_table *t, struct hash_link *link)
{
    CHECK(t->size > 0);
    struct hash_link **at = bucket_of(t, link->hash);

    while (*at != link) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = link->next;
    t->count--;
}

struct hash_link *hash_first(const struct hash_table *t, uint64_t hash)
{
    if (t->size == 0)
        return NULL;
    struct hash_link *link = *bucket_of(t, hash);
    while (link != NULL && link->hash != hash)
        link = link->next;
    return link;
}

struct hash_link *hash_next(const struct hash_link *link)
{
    struct hash_link *next = link->next;

    while (next != NULL && next->hash != link->hash)
        next = next->next;
    return next;
}

struct hash_link *hash_walk_first(const struct hash_table *t, struct hash_walk *w)
{
    *w = (struct hash_walk){0};
    return hash_walk_next(t, w);
}

struct hash_link *hash_walk_next(const struct hash_table *t, struct hash_walk *w)
{
    struct hash_link *link = w->next;

    while (link == NULL && w->bucket < t->size)
        link = t->buckets[w->bucket++];
    w->next = link != NULL ? link->next : NULL;
    return link;
}
