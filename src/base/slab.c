/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slab.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

#define NOTHING 0xffffu

static uint16_t class_of(const struct slab *s, size_t size)
{
    if (size > s->piece_max)
        return 0;
    return size > 0 ? (uint16_t)((size + SLAB_UNIT - 1) / SLAB_UNIT) : 1;
}

static bool is_full(const struct slab_page *p)
{
    return p->free == NOTHING && p->fresh + p->class > (int)SLAB_PAGE_UNITS;
}

static void room_in(struct slab *s, uint32_t at)
{
    struct slab_page *p = &s->pages[at];

    p->prev = 0;
    p->next = s->room[p->class];
    if (p->next != 0)
        s->pages[p->next].prev = at;
    s->room[p->class] = at;
}

static void room_out(struct slab *s, uint32_t at)
{
    struct slab_page *p = &s->pages[at];

    if (p->next != 0)
        s->pages[p->next].prev = p->prev;
    if (p->prev != 0)
        s->pages[p->prev].next = p->next;
    else
        s->room[p->class] = p->next;
}

static uint32_t page_new(struct slab *s, uint16_t class, size_t bytes)
{
    uint32_t at = s->pages_free;

    if (at != 0) {
        s->pages_free = s->pages[at].next;
    } else {
        if (s->pages_n == 0)
            s->pages_n = 1;
        CHECK(s->pages_n < SLAB_PAGES_MAX);
        mem_grow(s->pages, s->pages_cap, s->pages_n + 1);
        at = s->pages_n++;
    }
    /* Not zeroed: what is not used yet shall take no memory. */
    s->pages[at] =
        (struct slab_page){.base = mem_resize(NULL, bytes), .class = class, .free = NOTHING};
    s->held_bytes += bytes;
    return at;
}

static void page_free(struct slab *s, uint32_t at, size_t bytes)
{
    mem_free(s->pages[at].base);
    s->pages[at] = (struct slab_page){.next = s->pages_free};
    s->pages_free = at;
    s->held_bytes -= bytes;
}

void slab_init(struct slab *s) { *s = (struct slab){.piece_max = SLAB_PIECE_MAX}; }

void slab_free(struct slab *s)
{
    for (uint32_t at = 1; at < s->pages_n; at++)
        mem_free(s->pages[at].base);
    mem_free(s->pages);
    *s = (struct slab){0};
}

uint32_t slab_take(struct slab *s, size_t size)
{
    uint16_t class = class_of(s, size), unit;

    if (class == 0) {
        s->used_bytes += size;
        return page_new(s, 0, size) * SLAB_PAGE_UNITS;
    }
    uint32_t at = s->room[class];
    if (at == 0) {
        at = page_new(s, class, SLAB_PAGE_UNITS * SLAB_UNIT);
        room_in(s, at);
    }
    struct slab_page *p = &s->pages[at];
    if (p->free != NOTHING) {
        unit = p->free;
        memcpy(&p->free, p->base + (size_t)unit * SLAB_UNIT, sizeof p->free);
    } else {
        unit = p->fresh;
        p->fresh = (uint16_t)(p->fresh + class);
    }
    p->used++;
    if (is_full(p))
        room_out(s, at);
    s->used_bytes += (size_t) class * SLAB_UNIT;
    return at * SLAB_PAGE_UNITS + unit;
}

void slab_give(struct slab *s, uint32_t piece, size_t size)
{
    uint32_t at = piece / SLAB_PAGE_UNITS;
    uint16_t class = class_of(s, size), unit = (uint16_t)(piece % SLAB_PAGE_UNITS);
    struct slab_page *p = &s->pages[at];

    CHECK(at > 0 && at < s->pages_n && p->base != NULL && p->class == class);
    if (class == 0) {
        s->used_bytes -= size;
        page_free(s, at, size);
        return;
    }
    CHECK(p->used > 0 && unit < p->fresh);
    bool was_full = is_full(p);
    memcpy(p->base + (size_t)unit * SLAB_UNIT, &p->free, sizeof p->free);
    p->free = unit;
    p->used--;
    s->used_bytes -= (size_t) class * SLAB_UNIT;
    if (was_full)
        room_in(s, at);
    /* The last one with room stays: or who takes and gives one piece would pay for a page. */
    if (p->used == 0 && (p->next != 0 || p->prev != 0)) {
        room_out(s, at);
        page_free(s, at, SLAB_PAGE_UNITS * SLAB_UNIT);
    }
}

bool slab_is_sparse(const struct slab *s, uint32_t piece)
{
    const struct slab_page *p = &s->pages[piece / SLAB_PAGE_UNITS];

    return p->class != 0 && s->room[p->class] != piece / SLAB_PAGE_UNITS &&
           2u * p->used * p->class < SLAB_PAGE_UNITS;
}
