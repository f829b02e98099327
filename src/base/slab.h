/* SPDX-License-Identifier: Apache-2.0 */
/* slab.h -- memory for a great many small pieces: no header on each, rounded to 8 bytes, and
 * known by a number of 32 bits.
 *
 * Pieces of one size (class) share pages. Who gives a piece back says how large it was. A page
 * that has become empty is given back whole, so that pieces of other sizes can have its
 * memory. A page with few pieces left stays: who can move his pieces does (slab_is_sparse).
 * Pieces above a limit are allocated alone.
 */
#ifndef MUSTER_SLAB_H
#define MUSTER_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLAB_UNIT 8u
#define SLAB_PAGE_UNITS 4096u /* 32 KiB */
#define SLAB_PIECE_MAX 2048u  /* bytes; larger ones have a page of their own */
#define SLAB_CLASSES (SLAB_PIECE_MAX / SLAB_UNIT + 1)
#define SLAB_PAGES_MAX (1u << 20)
#define SLAB_NONE 0u

struct slab_page {
    uint8_t *base;       /* NULL: there is none of this number */
    uint32_t next, prev; /* with room, of the same class; of unused numbers: the next one */
    uint16_t class;      /* units of a piece; 0: one large piece */
    uint16_t used;       /* pieces */
    uint16_t fresh;      /* the first unit that was never used */
    uint16_t free;       /* a unit; 0xffff: none. The first two bytes there name the next */
};

struct slab {
    struct slab_page *pages; /* [0] is never used */
    uint32_t pages_n, pages_cap, pages_free;
    uint32_t room[SLAB_CLASSES]; /* the pages with room; new pieces come from the first */
    size_t piece_max;
    uint64_t used_bytes, held_bytes; /* by pieces; of pages and large ones */
};

/* Zero-initialised is empty, with every piece allocated alone; that, with the sanitizers, sees
 * who writes beyond its end. */
void slab_init(struct slab *s);
void slab_free(struct slab *s);

uint32_t slab_take(struct slab *s, size_t size); /* not zeroed */
void slab_give(struct slab *s, uint32_t piece, size_t size);
/* It would do no good to keep this piece where it is, when memory is short. */
bool slab_is_sparse(const struct slab *s, uint32_t piece);

/* Aligned to 8 bytes; where it is until it is given back. */
static inline void *slab_at(const struct slab *s, uint32_t piece)
{
    return s->pages[piece / SLAB_PAGE_UNITS].base +
           (size_t)(piece % SLAB_PAGE_UNITS) * SLAB_UNIT;
}

#endif
