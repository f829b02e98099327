/* SPDX-License-Identifier: Apache-2.0 */
#include "store/format.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mutant.h"

enum {
    VOTE_MAGIC = 0x6d75566f,    /* "muVo" */
    SEGMENT_MAGIC = 0x6d754c6f, /* "muLo" */
    RECORD_MAGIC = 0x6d755265,  /* "muRe" */
};
enum { RECORD_HEADER_CRC_AT = 32, RECORD_CRC_AT = 36 };

void vote_slot_encode(const struct vote_slot *v, uint8_t out[VOTE_SLOT_BYTES])
{
    memset(out, 0, VOTE_SLOT_BYTES);
    be32_put(out, VOTE_MAGIC);
    be32_put(out + 4, FORMAT_VERSION);
    be64_put(out + 8, v->counter);
    be64_put(out + 16, v->term);
    be64_put(out + 24, v->vote);
    be64_put(out + 32, v->seq);
    be64_put(out + 40, v->end);
    be32_put(out + 48, crc32c(0, out, 48));
}

bool vote_slot_decode(struct vote_slot *v, const uint8_t in[VOTE_SLOT_BYTES])
{
    if (be32_get(in) != VOTE_MAGIC || be32_get(in + 48) != crc32c(0, in, 48))
        return false;
    *v = (struct vote_slot){.version = be32_get(in + 4),
                            .counter = be64_get(in + 8),
                            .term = be64_get(in + 16),
                            .vote = be64_get(in + 24),
                            .seq = be64_get(in + 32),
                            .end = be64_get(in + 40)};
    return true;
}

void segment_header_encode(struct segment_header *h, uint8_t out[SEGMENT_HEADER_BYTES])
{
    memset(out, 0, SEGMENT_HEADER_BYTES);
    be32_put(out, SEGMENT_MAGIC);
    be32_put(out + 4, h->version);
    be64_put(out + 8, h->seq);
    be64_put(out + 16, h->salt);
    be64_put(out + 24, h->next);
    be32_put(out + 32, h->chain);
    h->crc = crc32c(0, out, SEGMENT_HEADER_BYTES - 4);
    be32_put(out + SEGMENT_HEADER_BYTES - 4, h->crc);
}

bool segment_header_decode(struct segment_header *h, const uint8_t in[SEGMENT_HEADER_BYTES])
{
    *h = (struct segment_header){.version = be32_get(in + 4),
                                 .seq = be64_get(in + 8),
                                 .salt = be64_get(in + 16),
                                 .next = be64_get(in + 24),
                                 .chain = be32_get(in + 32),
                                 .crc = be32_get(in + SEGMENT_HEADER_BYTES - 4)};
    return be32_get(in) == SEGMENT_MAGIC && h->crc == crc32c(0, in, SEGMENT_HEADER_BYTES - 4);
}

uint64_t record_bytes(uint32_t len)
{
    return RECORD_HEADER_BYTES + (((uint64_t)len + 7) & ~(uint64_t)7);
}

/* The header has a checksum of its own too: a search for records must not compute those of
 * megabytes because a payload is full of what looks like headers. */
static uint32_t record_header_crc(const struct segment_header *h, const uint8_t *bytes)
{
    uint8_t salt[8];

    if (MUTANT(store_life_ignored))
        return crc32c(0, bytes, RECORD_HEADER_CRC_AT);
    be64_put(salt, h->salt);
    return crc32c(crc32c(h->crc, salt, sizeof salt), bytes, RECORD_HEADER_CRC_AT);
}

static uint32_t record_crc(const uint8_t *bytes, size_t n)
{
    uint32_t c = crc32c(0, bytes, RECORD_CRC_AT);

    return crc32c(c, bytes + RECORD_HEADER_BYTES, n - RECORD_HEADER_BYTES);
}

void record_encode(struct record *r, const struct segment_header *h, struct buf *out)
{
    size_t n = (size_t)record_bytes(r->len);
    uint8_t *p = buf_reserve(out, n);

    be32_put(p, RECORD_MAGIC);
    be32_put(p + 4, r->len);
    be64_put(p + 8, (uint64_t)r->type << 56 | r->index);
    be64_put(p + 16, r->term);
    be32_put(p + 24, r->batch_at);
    be32_put(p + 28, r->chain);
    be32_put(p + RECORD_HEADER_CRC_AT, record_header_crc(h, p));
    if (r->len > 0)
        memcpy(p + RECORD_HEADER_BYTES, r->payload, r->len);
    memset(p + RECORD_HEADER_BYTES + r->len, 0, n - RECORD_HEADER_BYTES - r->len);
    r->crc = record_crc(p, n);
    be32_put(p + RECORD_CRC_AT, r->crc);
    buf_added(out, n);
}

bool record_decode(struct record *r, const struct segment_header *h, uint64_t left,
                   const uint8_t *(*more)(void *ctx, size_t n), void *ctx)
{
    if (left < RECORD_HEADER_BYTES)
        return false;
    const uint8_t *p = more(ctx, RECORD_HEADER_BYTES);
    if (p == NULL || be32_get(p) != RECORD_MAGIC)
        return false;
    uint32_t len = be32_get(p + 4);
    if (len > RAFT_ENTRY_MAX || record_bytes(len) > left ||
        be32_get(p + RECORD_HEADER_CRC_AT) != record_header_crc(h, p))
        return false;
    size_t n = (size_t)record_bytes(len);
    p = more(ctx, n);
    if (p == NULL)
        return false;
    *r = (struct record){.type = p[8],
                         .index = be64_get(p + 8) & (UINT64_MAX >> 8),
                         .term = be64_get(p + 16),
                         .len = len,
                         .batch_at = be32_get(p + 24),
                         .chain = be32_get(p + 28),
                         .crc = be32_get(p + RECORD_CRC_AT),
                         .payload = p + RECORD_HEADER_BYTES};
    return r->crc == record_crc(p, n) || MUTANT(store_torn_accepted);
}

size_t record_search(const uint8_t *bytes, size_t n)
{
    for (size_t at = 0; at + 8 <= n; at += 8)
        if (be32_get(bytes + at) == RECORD_MAGIC)
            return at;
    return n;
}

/* A whole page is written without being read first, when it is not in memory. */
void segment_pad(uint64_t end, uint64_t room, struct buf *out)
{
    uint64_t to =
        (end + END_ZEROS + SEGMENT_PAGE_BYTES - 1) / SEGMENT_PAGE_BYTES * SEGMENT_PAGE_BYTES;

    if (to > room)
        to = room;
    if (to <= end || MUTANT(store_end_unmarked))
        return;
    memset(buf_reserve(out, (size_t)(to - end)), 0, (size_t)(to - end));
    buf_added(out, (size_t)(to - end));
}

static const char digits[] = "0123456789abcdef";

void name_make(char out[FORMAT_NAME_MAX], const char *prefix, uint64_t number)
{
    size_t n = strlen(prefix);

    CHECK(n + 17 <= FORMAT_NAME_MAX);
    memcpy(out, prefix, n);
    for (unsigned i = 0; i < 16; i++)
        out[n + i] = digits[number >> (60 - 4 * i) & 15];
    out[n + 16] = 0;
}

bool name_parse(const char *name, const char *prefix, uint64_t *number)
{
    size_t n = strlen(prefix);

    if (strncmp(name, prefix, n) != 0 || strlen(name) != n + 16)
        return false;
    *number = 0;
    for (const char *p = name + n; *p != 0; p++) {
        const char *digit = strchr(digits, *p);
        if (digit == NULL)
            return false;
        *number = *number << 4 | (uint64_t)(digit - digits);
    }
    return true;
}
