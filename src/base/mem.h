/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h -- allocation that ends the process when it fails.
 *
 * For sizes that we choose, or that a limit has already bounded. What a peer
 * chooses is limited first, by name, before it comes here.
 */
#ifndef MUSTER_MEM_H
#define MUSTER_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size); /* zeroed */
void *mem_resize(void *old, size_t size);
void *mem_dup(const void *data, size_t size);
char *mem_dup_str(const char *s);
char *mem_dup_strn(const char *s, size_t len);
void mem_free(void *p);

#define mem_new(type) ((type *)mem_alloc(sizeof(type)))
#define mem_new_array(type, n) ((type *)mem_alloc((n) * sizeof(type)))

/* Grows v (an array of *cap elements) so that `need` fit: doubling. */
#define mem_grow(v, cap, need)                                                \
    do {                                                                      \
        if ((need) > (cap)) {                                                 \
            (cap) = (need) > 2 * (cap) ? (need) < 8 ? 8 : (need) : 2 * (cap); \
            (v) = mem_resize((v), (size_t)(cap) * sizeof *(v));               \
        }                                                                     \
    } while (0)

#endif
