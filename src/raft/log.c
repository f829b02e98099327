/* SPDX-License-Identifier: Apache-2.0 */
#include "raft/log.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

#define PIECE_BYTES (64u << 10)
#define PIECE_ENTRY_MAX (PIECE_BYTES / 8) /* a larger entry has memory of its own */

struct raft_piece {
    uint32_t refs; /* the entries in it, and the log while it makes more there */
    uint32_t used;
};

static void piece_unref(struct raft_piece *p)
{
    CHECK(p->refs > 0);
    if (--p->refs == 0)
        mem_free(p);
}

static struct raft_entry *fill(struct raft_entry *e, uint64_t index, uint64_t term,
                               enum raft_entry_type type, const void *payload, size_t len)
{
    e->index = index;
    e->term = term;
    e->type = type;
    e->refs = 1;
    e->len = (uint32_t)len;
    if (len > 0)
        memcpy(e->payload, payload, len);
    return e;
}

struct raft_entry *raft_entry_new(uint64_t index, uint64_t term, enum raft_entry_type type,
                                  const void *payload, size_t len)
{
    CHECK(len <= RAFT_ENTRY_MAX);
    struct raft_entry *e = mem_resize(NULL, sizeof *e + len);

    e->at = 0;
    return fill(e, index, term, type, payload, len);
}

struct raft_entry *raft_log_entry_new(struct raft_log *log, uint64_t index, uint64_t term,
                                      enum raft_entry_type type, const void *payload,
                                      size_t len)
{
    size_t size = (sizeof(struct raft_entry) + len + 7) & ~(size_t)7;
    struct raft_piece *p = log->piece;

    if (size > PIECE_ENTRY_MAX)
        return raft_entry_new(index, term, type, payload, len);
    if (p == NULL || PIECE_BYTES - p->used < size) {
        if (p != NULL)
            piece_unref(p);
        p = log->piece = mem_resize(NULL, PIECE_BYTES);
        *p = (struct raft_piece){.refs = 1, .used = sizeof *p};
    }
    struct raft_entry *e = (struct raft_entry *)(void *)((uint8_t *)p + p->used);
    e->at = p->used;
    p->used += (uint32_t)size;
    p->refs++;
    return fill(e, index, term, type, payload, len);
}

struct raft_entry *raft_entry_ref(struct raft_entry *e)
{
    e->refs++;
    return e;
}

void raft_entry_unref(struct raft_entry *e)
{
    if (e == NULL)
        return;
    CHECK(e->refs > 0);
    if (--e->refs > 0)
        return;
    if (e->at == 0)
        mem_free(e);
    else
        piece_unref((struct raft_piece *)(void *)((uint8_t *)e - e->at));
}

/* What an entry costs in memory: its struct, its bytes, its place in the ring, and what an
 * allocator adds. */
static uint64_t cost(const struct raft_entry *e) { return sizeof *e + e->len + 24; }

static struct raft_entry **slot(const struct raft_log *log, uint64_t index)
{
    return &log->ring[index & (log->size - 1)];
}

static void drop(struct raft_log *log, uint64_t index)
{
    struct raft_entry **at = slot(log, index);

    log->bytes -= cost(*at);
    raft_entry_unref(*at);
    *at = NULL;
}

void raft_log_free(struct raft_log *log)
{
    raft_log_reset(log, 0, 0);
    if (log->piece != NULL)
        piece_unref(log->piece);
    mem_free(log->ring);
    *log = (struct raft_log){0};
}

void raft_log_reset(struct raft_log *log, uint64_t base, uint64_t base_term)
{
    for (uint64_t i = log->base + 1; i <= log->last; i++)
        drop(log, i);
    CHECK(log->bytes == 0);
    log->base = log->last = base;
    log->base_term = base_term;
}

static void grow(struct raft_log *log)
{
    struct raft_log bigger = *log;

    bigger.size = log->size > 0 ? 2 * log->size : 64;
    bigger.ring = mem_new_array(struct raft_entry *, bigger.size);
    for (uint64_t i = log->base + 1; i <= log->last; i++)
        *slot(&bigger, i) = *slot(log, i);
    mem_free(log->ring);
    *log = bigger;
}

void raft_log_append_take(struct raft_log *log, struct raft_entry *e)
{
    CHECK(e->index == log->last + 1);
    CHECK(e->term >= raft_log_last_term(log));
    if (log->last - log->base >= log->size)
        grow(log);
    *slot(log, e->index) = e;
    log->last = e->index;
    log->bytes += cost(e);
}

void raft_log_truncate(struct raft_log *log, uint64_t from)
{
    CHECK(from > log->base);
    for (; log->last >= from; log->last--)
        drop(log, log->last);
}

void raft_log_compact(struct raft_log *log, uint64_t upto)
{
    if (upto <= log->base)
        return;
    CHECK(upto <= log->last);
    log->base_term = raft_log_term(log, upto);
    for (uint64_t i = log->base + 1; i <= upto; i++)
        drop(log, i);
    log->base = upto;
}

bool raft_log_has(const struct raft_log *log, uint64_t index)
{
    return index > log->base && index <= log->last;
}

struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index)
{
    CHECK(raft_log_has(log, index));
    return *slot(log, index);
}

uint64_t raft_log_term(const struct raft_log *log, uint64_t index)
{
    if (index == log->base)
        return log->base_term;
    return raft_log_has(log, index) ? (*slot(log, index))->term : 0;
}

uint64_t raft_log_last_term(const struct raft_log *log)
{
    return raft_log_term(log, log->last);
}

uint64_t raft_log_last_of_term(const struct raft_log *log, uint64_t upto, uint64_t term)
{
    uint64_t low = log->base, high = upto < log->last ? upto : log->last;

    /* Terms never fall along the log: halve what is between. */
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (raft_log_term(log, middle) <= term)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}
