/* SPDX-License-Identifier: Apache-2.0 */
/* buf.h -- a byte buffer that grows at its end and is consumed at its front.
 *
 * Zero-initialised is empty and valid. The owner calls buf_free().
 */
#ifndef MUSTER_BUF_H
#define MUSTER_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data; /* the first byte not yet consumed */
    size_t len;    /* bytes from data on */
    size_t room;   /* bytes that fit from data on without moving */
    size_t gone;   /* bytes consumed in front of data */
};

void buf_free(struct buf *b);
void buf_wipe(struct buf *b);  /* likewise, of a secret: nothing of it is left in memory */
void buf_clear(struct buf *b); /* keeps the memory */

uint8_t *buf_grow(struct buf *b, size_t n); /* buf_reserve() when it does not fit */

/* Makes room for n more bytes and returns where they go; buf_added() counts them in. */
static inline uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (b->data != NULL && b->room - b->len >= n)
        return b->data + b->len;
    return buf_grow(b, n); /* also of an empty one: never NULL + 0 */
}
void buf_added(struct buf *b, size_t n);

void buf_add(struct buf *b, const void *data, size_t n);
void buf_add_str(struct buf *b, const char *s);
void buf_put_be32(struct buf *b, size_t at, uint32_t v); /* overwrites; at + 4 <= len */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void buf_printf(struct buf *b, const char *format, ...);

void buf_consume(struct buf *b, size_t n); /* n <= len */

/* The text so far, ended by a NUL that is not counted; valid until the next change. */
const char *buf_text(struct buf *b);

/* Big endian, wherever they lie. */
static inline uint32_t be32_get(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t be64_get(const uint8_t *p)
{
    return (uint64_t)be32_get(p) << 32 | be32_get(p + 4);
}

static inline void be32_put(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static inline void be64_put(uint8_t *p, uint64_t v)
{
    be32_put(p, (uint32_t)(v >> 32));
    be32_put(p + 4, (uint32_t)v);
}

static inline void buf_add_u8(struct buf *b, uint8_t v)
{
    *buf_reserve(b, 1) = v;
    b->len++;
}

static inline void buf_add_be32(struct buf *b, uint32_t v)
{
    be32_put(buf_reserve(b, 4), v);
    b->len += 4;
}

static inline void buf_add_be64(struct buf *b, uint64_t v)
{
    be64_put(buf_reserve(b, 8), v);
    b->len += 8;
}

#endif
