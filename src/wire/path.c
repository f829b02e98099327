/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/path.h"

#include <stdint.h>
#include <string.h>

#include "base/err.h"

/* Decodes one character at [p, end) and returns its length, or 0 if it is malformed or
 * beyond the basic plane (both are refused alike). */
static size_t decode(const uint8_t *p, const uint8_t *end, uint32_t *c)
{
    size_t left = (size_t)(end - p);

    if (p[0] < 0x80) {
        *c = p[0];
        return 1;
    }
    if (p[0] >= 0xc2 && p[0] <= 0xdf && left >= 2 && (p[1] & 0xc0) == 0x80) {
        *c = (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
        return 2;
    }
    if (p[0] >= 0xe0 && p[0] <= 0xef && left >= 3 && (p[1] & 0xc0) == 0x80 &&
        (p[2] & 0xc0) == 0x80) {
        *c = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
        return *c >= 0x800 ? 3 : 0;
    }
    return 0;
}

static bool is_allowed(uint32_t c)
{
    return !(c <= 0x1f || (c >= 0x7f && c <= 0x9f) || (c >= 0xd800 && c <= 0xf8ff) ||
             c >= 0xfff0);
}

static bool part_is_allowed(const uint8_t *part, size_t len)
{
    return !(len == 0 || (len == 1 && part[0] == '.') ||
             (len == 2 && part[0] == '.' && part[1] == '.'));
}

int path_validate(const char *path, size_t len)
{
    const uint8_t *p = (const uint8_t *)path, *end = p + len;

    if (len == 0 || *p != '/')
        return ERR_BAD_ARGUMENTS;
    if (len == 1)
        return 0;
    const uint8_t *part = ++p;
    while (p < end) {
        if (*p > 0x1f && *p < 0x7f &&
            *p != '/') { /* nearly all: as decode() says, and allowed */
            p++;
            continue;
        }
        uint32_t c = 0;
        size_t n = decode(p, end, &c);
        if (n == 0 || !is_allowed(c))
            return ERR_BAD_ARGUMENTS;
        if (c == '/') {
            if (!part_is_allowed(part, (size_t)(p - part)))
                return ERR_BAD_ARGUMENTS;
            part = p + 1;
        }
        p += n;
    }
    return part_is_allowed(part, (size_t)(end - part)) ? 0 : ERR_BAD_ARGUMENTS;
}

size_t path_name_at(const char *path, size_t len)
{
    const char *slash = len > 0 ? memrchr(path, '/', len) : NULL;

    return slash != NULL ? (size_t)(slash - path) + 1 : 0;
}

size_t path_parent_len(const char *path, size_t len)
{
    size_t at = path_name_at(path, len);

    return at > 1 ? at - 1 : 1;
}

bool path_is_within(const char *path, size_t len, const char *ancestor, size_t ancestor_len)
{
    if (ancestor_len == 1 && ancestor[0] == '/')
        return len > 0 && path[0] == '/';
    return len >= ancestor_len && memcmp(path, ancestor, ancestor_len) == 0 &&
           (len == ancestor_len || path[ancestor_len] == '/');
}
