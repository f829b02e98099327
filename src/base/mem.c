/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define SMALL 1024u

/* Small ones by malloc(): unlike calloc(), it takes first what this thread has given back last.
 */
void *mem_alloc(size_t size)
{
    void *p = size <= SMALL ? malloc(size > 0 ? size : 1) : calloc(1, size);

    CHECK(p != NULL);
    if (size <= SMALL)
        memset(p, 0, size);
    return p;
}

void *mem_resize(void *old, size_t size)
{
    void *p = realloc(old, size > 0 ? size : 1);

    CHECK(p != NULL);
    return p;
}

void *mem_dup(const void *data, size_t size)
{
    void *p = mem_alloc(size);

    if (size > 0)
        memcpy(p, data, size);
    return p;
}

char *mem_dup_strn(const char *s, size_t len)
{
    char *p = mem_alloc(len + 1);

    if (len > 0)
        memcpy(p, s, len);
    return p;
}

char *mem_dup_str(const char *s) { return mem_dup_strn(s, strlen(s)); }

void mem_free(void *p) { free(p); }
