/* SPDX-License-Identifier: Apache-2.0 */
#include "client/watched.h"

#include <string.h>

#include "base/mem.h"
#include "base/mutant.h"
#include "tree/watch.h"
#include "wire/wire.h"

struct entry {
    struct hash_link link;
    unsigned kinds;
    size_t len;
    char path[];
};

static struct entry *find(const struct watched *w, const char *path, size_t len, uint64_t hash)
{
    for (struct hash_link *l = hash_first(&w->table, hash); l != NULL; l = hash_next(l)) {
        struct entry *e = HASH_ENTRY(l, struct entry, link);
        if (e->len == len && memcmp(e->path, path, len) == 0)
            return e;
    }
    return NULL;
}

void watched_free(struct watched *w)
{
    struct hash_walk walk;

    for (struct hash_link *l = hash_walk_first(&w->table, &walk); l != NULL;
         l = hash_walk_next(&w->table, &walk))
        mem_free(HASH_ENTRY(l, struct entry, link));
    hash_free(&w->table);
}

void watched_add(struct watched *w, const char *path, unsigned kinds)
{
    size_t len = strlen(path);
    uint64_t hash = hash_bytes(w->hash_key, path, len);
    struct entry *e = find(w, path, len, hash);

    if (e == NULL) {
        e = mem_alloc(sizeof *e + len + 1);
        memcpy(e->path, path, len + 1);
        e->len = len;
        hash_insert(&w->table, &e->link, hash);
    }
    e->kinds |= kinds;
}

void watched_fired(struct watched *w, int type, const char *path)
{
    size_t len = strlen(path);
    struct entry *e = find(w, path, len, hash_bytes(w->hash_key, path, len));

    if (e == NULL)
        return;
    if (type == WATCH_CHILDREN_CHANGED)
        e->kinds &= ~(unsigned)WATCHED_CHILD;
    else
        e->kinds &= ~(unsigned)(WATCHED_DATA | WATCHED_EXIST);
    if (type == WATCH_DELETED)
        e->kinds &= ~(unsigned)WATCHED_CHILD;
    if (e->kinds == 0) {
        hash_remove(&w->table, &e->link);
        mem_free(e);
    }
}

struct batch {
    struct buf paths[WATCHED_KINDS];
    int32_t count[WATCHED_KINDS];
    size_t bytes;
};

static struct wire_list list(const struct batch *b, unsigned kind)
{
    return (struct wire_list){b->paths[kind].data, b->paths[kind].len, b->count[kind]};
}

/* A server before 3.6 knows setWatches only: so the newer one is sent only when needed. */
static void flush(struct batch *b, int64_t zxid, watched_emit *emit, void *ctx)
{
    struct buf body = {0};

    if (b->bytes == 0)
        return;
    if (b->count[3] > 0 || b->count[4] > 0) {
        struct wire_set_watches2_request r = {zxid,       list(b, 0), list(b, 1),
                                              list(b, 2), list(b, 3), list(b, 4)};
        wire_set_watches2_request_encode(&r, &body);
        emit(ctx, WIRE_OP_SET_WATCHES2, &body);
    } else {
        struct wire_set_watches_request r = {zxid, list(b, 0), list(b, 1), list(b, 2)};
        wire_set_watches_request_encode(&r, &body);
        emit(ctx, WIRE_OP_SET_WATCHES, &body);
    }
    buf_free(&body);
    for (unsigned kind = 0; kind < WATCHED_KINDS; kind++) {
        buf_clear(&b->paths[kind]);
        b->count[kind] = 0;
    }
    b->bytes = 0;
}

void watched_encode(const struct watched *w, int64_t zxid, size_t max_bytes, watched_emit *emit,
                    void *ctx)
{
    struct batch b = {0};
    struct hash_walk walk;

    for (struct hash_link *l = hash_walk_first(&w->table, &walk); l != NULL;
         l = hash_walk_next(&w->table, &walk)) {
        const struct entry *e = HASH_ENTRY(l, struct entry, link);
        for (unsigned kind = 0; kind < WATCHED_KINDS; kind++) {
            if ((e->kinds & 1u << kind) == 0 ||
                (MUTANT(client_recursive_forgotten) && 1u << kind == WATCHED_RECURSIVE))
                continue;
            if (b.bytes > 0 && b.bytes + e->len + 4 > max_bytes)
                flush(&b, zxid, emit, ctx);
            wire_text_encode(e->path, e->len, &b.paths[kind]);
            b.count[kind]++;
            b.bytes += e->len + 4;
        }
    }
    flush(&b, zxid, emit, ctx);
    for (unsigned kind = 0; kind < WATCHED_KINDS; kind++)
        buf_free(&b.paths[kind]);
}
