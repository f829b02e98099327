/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

void buf_free(struct buf *b)
{
    if (b->data != NULL)
        mem_free(b->data - b->gone);
    *b = (struct buf){0};
}

void buf_wipe(struct buf *b)
{
    if (b->data != NULL)
        explicit_bzero(b->data - b->gone, b->gone + b->room);
    buf_free(b);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data != NULL) {
        b->data -= b->gone;
        b->room += b->gone;
        b->gone = 0;
    }
}

uint8_t *buf_grow(struct buf *b, size_t n)
{
    CHECK(n < SIZE_MAX / 4);
    /* Take back what was consumed when that is most of it; else a larger one. */
    if (b->data != NULL && b->gone > 0 && b->gone >= b->len &&
        b->gone + b->room - b->len >= n) {
        memmove(b->data - b->gone, b->data, b->len);
        b->data -= b->gone;
        b->room += b->gone;
    } else {
        size_t cap = b->len + n < 64 ? 64 : (b->len + n) + (b->len + n) / 2;
        uint8_t *bigger = mem_alloc(cap);
        if (b->data != NULL && b->len > 0)
            memcpy(bigger, b->data, b->len);
        if (b->data != NULL)
            mem_free(b->data - b->gone);
        b->data = bigger;
        b->room = cap;
    }
    b->gone = 0;
    return b->data + b->len;
}

void buf_added(struct buf *b, size_t n)
{
    CHECK(n <= b->room - b->len);
    b->len += n;
}

void buf_add(struct buf *b, const void *data, size_t n)
{
    if (n == 0)
        return; /* and nothing is allocated for it */
    memcpy(buf_reserve(b, n), data, n);
    b->len += n;
}

void buf_add_str(struct buf *b, const char *s) { buf_add(b, s, strlen(s)); }

void buf_put_be32(struct buf *b, size_t at, uint32_t v)
{
    CHECK(at <= b->len && b->len - at >= 4);
    be32_put(b->data + at, v);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(n >= 0);
    uint8_t *to = buf_reserve(b, (size_t)n + 1);
    (void)vsnprintf((char *)to, (size_t)n + 1, format, again);
    va_end(again);
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
    CHECK(n <= b->len);
    b->len -= n;
    if (b->len == 0) {
        buf_clear(b);
        return;
    }
    b->data += n;
    b->room -= n;
    b->gone += n;
}

const char *buf_text(struct buf *b)
{
    *buf_reserve(b, 1) = 0;
    return (const char *)b->data;
}
