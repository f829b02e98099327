/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/watch.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "wire/path.h"

/* A path that somebody watches. */
struct spot {
    struct hash_link link;
    uint32_t first, last; /* its entries: those with a recursive watch stand in front */
    uint32_t len;
    char path[];
};

/* A connection that watches something. */
struct watcher {
    struct hash_link link;
    uint64_t id;
    uint64_t told;  /* the change that it was last told of */
    uint64_t count; /* of its (path, kind) */
    uint32_t first; /* its entries */
};

/* All watches of one watcher on one path. Known by a number, from 1. */
struct entry {
    struct spot *spot;
    struct watcher *watcher;
    uint32_t chain; /* of the bucket; in a free one: the next free one */
    uint32_t spot_next, spot_prev;
    uint32_t watcher_next, watcher_prev;
    uint8_t kinds; /* BIT(enum watch_kind); 0: free */
};

struct watches {
    uint64_t key;
    watch_sink *sink;
    void *ctx;
    uint64_t change;    /* numbers the calls of watches_trigger */
    uint64_t count;     /* of (path, watcher, kind) */
    uint64_t recursive; /* of those that are recursive */
    uint64_t now_told;  /* of the present change */
    struct watches_facts facts;
    struct hash_table spots, watchers;
    struct entry **rows; /* of ENTRIES_IN_ROW each; number 0 is never used */
    uint32_t rows_n, rows_cap;
    uint32_t entries_n, entries_free, entries_used;
    uint32_t *buckets; /* of entries, by spot and watcher; linear hashing, as in base/hash.h */
    uint32_t buckets_n, buckets_cap, buckets_mask;
};

#define ENTRIES_IN_ROW 1024u

static inline struct entry *entry_at(const struct watches *w, uint32_t id)
{
    return &w->rows[id / ENTRIES_IN_ROW][id % ENTRIES_IN_ROW];
}

#define BIT(kind) ((uint8_t)(1u << (kind)))
#define ONCE (BIT(WATCH_DATA) | BIT(WATCH_CHILD))
#define RECURSIVE BIT(WATCH_RECURSIVE)
/* In ZooKeeper's two tables. */
#define IN_DATA (uint8_t)(BIT(WATCH_DATA) | BIT(WATCH_PERSISTENT) | RECURSIVE)
#define IN_CHILD (uint8_t)(BIT(WATCH_CHILD) | BIT(WATCH_PERSISTENT) | RECURSIVE)

/* Which kinds an event on their own path is for. */
static uint8_t kinds_for(enum watch_event event)
{
    switch (event) {
    case WATCH_CREATED:
    case WATCH_DATA_CHANGED: return BIT(WATCH_DATA) | BIT(WATCH_PERSISTENT) | RECURSIVE;
    case WATCH_DELETED: return ONCE | BIT(WATCH_PERSISTENT) | RECURSIVE;
    case WATCH_CHILDREN_CHANGED: return BIT(WATCH_CHILD) | BIT(WATCH_PERSISTENT);
    }
    return 0;
}

static void row_add(struct watches *w)
{
    mem_grow(w->rows, w->rows_cap, w->rows_n + 1);
    /* What is not used yet shall take no memory. */
    w->rows[w->rows_n++] = mem_resize(NULL, ENTRIES_IN_ROW * sizeof **w->rows);
}

struct watches *watches_new(uint64_t hash_key, watch_sink *sink, void *ctx)
{
    struct watches *w = mem_new(struct watches);

    w->key = hash_key;
    w->sink = sink;
    w->ctx = ctx;
    w->entries_n = 1;
    row_add(w);
    w->buckets_n = w->buckets_cap = 16;
    w->buckets_mask = w->buckets_n - 1;
    w->buckets = mem_new_array(uint32_t, w->buckets_n);
    return w;
}

void watches_free(struct watches *w)
{
    struct hash_walk walk;
    struct hash_link *l;

    if (w == NULL)
        return;
    for (l = hash_walk_first(&w->spots, &walk); l != NULL; l = hash_walk_next(&w->spots, &walk))
        mem_free(HASH_ENTRY(l, struct spot, link));
    for (l = hash_walk_first(&w->watchers, &walk); l != NULL;
         l = hash_walk_next(&w->watchers, &walk))
        mem_free(HASH_ENTRY(l, struct watcher, link));
    hash_free(&w->spots);
    hash_free(&w->watchers);
    for (uint32_t i = 0; i < w->rows_n; i++)
        mem_free(w->rows[i]);
    mem_free(w->rows);
    mem_free(w->buckets);
    mem_free(w);
}

static uint64_t spot_hash(const struct watches *w, const char *path, size_t len)
{
    return hash_bytes(w->key, path, len);
}

static struct spot *spot_find(const struct watches *w, const char *path, size_t len)
{
    struct hash_link *l = hash_first(&w->spots, spot_hash(w, path, len));

    for (; l != NULL; l = hash_next(l)) {
        struct spot *s = HASH_ENTRY(l, struct spot, link);
        if (s->len == len && memcmp(s->path, path, len) == 0)
            return s;
    }
    return NULL;
}

static struct watcher *watcher_find(const struct watches *w, uint64_t id)
{
    struct hash_link *l = hash_first(&w->watchers, hash_u64(id ^ w->key));

    for (; l != NULL; l = hash_next(l)) {
        struct watcher *x = HASH_ENTRY(l, struct watcher, link);
        if (x->id == id)
            return x;
    }
    return NULL;
}

static uint32_t *bucket_of(const struct watches *w, const struct spot *s,
                           const struct watcher *x)
{
    uint64_t h = hash_u64(s->link.hash + 0x9e3779b97f4a7c15 * x->link.hash);

    uint32_t b = (uint32_t)h & w->buckets_mask;

    return &w->buckets[b < w->buckets_n ? b : b & w->buckets_mask >> 1];
}

static uint32_t entry_find(const struct watches *w, const struct spot *s,
                           const struct watcher *x)
{
    if (s == NULL || x == NULL)
        return 0;
    uint32_t id = *bucket_of(w, s, x);
    while (id != 0 && (entry_at(w, id)->spot != s || entry_at(w, id)->watcher != x))
        id = entry_at(w, id)->chain;
    return id;
}

static void chain_in(struct watches *w, uint32_t id)
{
    uint32_t *head = bucket_of(w, entry_at(w, id)->spot, entry_at(w, id)->watcher);

    entry_at(w, id)->chain = *head;
    *head = id;
}

static void bucket_split(struct watches *w)
{
    mem_grow(w->buckets, w->buckets_cap, w->buckets_n + 1);
    if (w->buckets_n > w->buckets_mask)
        w->buckets_mask = 2 * w->buckets_mask + 1;
    uint32_t *from = &w->buckets[w->buckets_n & w->buckets_mask >> 1], id = *from;
    w->buckets[w->buckets_n++] = 0;
    CHECK(w->buckets_n <= UINT32_MAX / 2);
    *from = 0;
    while (id != 0) {
        uint32_t next = entry_at(w, id)->chain;
        chain_in(w, id);
        id = next;
    }
}

static void spot_in(struct watches *w, uint32_t id, bool in_front)
{
    struct entry *e = entry_at(w, id);
    struct spot *s = e->spot;

    e->spot_prev = in_front ? 0 : s->last;
    e->spot_next = in_front ? s->first : 0;
    if (e->spot_prev != 0)
        entry_at(w, e->spot_prev)->spot_next = id;
    else
        s->first = id;
    if (e->spot_next != 0)
        entry_at(w, e->spot_next)->spot_prev = id;
    else
        s->last = id;
}

static void spot_out(struct watches *w, uint32_t id)
{
    struct entry *e = entry_at(w, id);

    if (e->spot_prev != 0)
        entry_at(w, e->spot_prev)->spot_next = e->spot_next;
    else
        e->spot->first = e->spot_next;
    if (e->spot_next != 0)
        entry_at(w, e->spot_next)->spot_prev = e->spot_prev;
    else
        e->spot->last = e->spot_prev;
}

static uint32_t entry_new(struct watches *w, struct spot *s, struct watcher *x)
{
    uint32_t id = w->entries_free;

    if (w->entries_used >= w->buckets_n)
        bucket_split(w);
    if (id != 0) {
        w->entries_free = entry_at(w, id)->chain;
    } else {
        CHECK(w->entries_n < UINT32_MAX / 2);
        if (w->entries_n == w->rows_n * ENTRIES_IN_ROW)
            row_add(w);
        id = w->entries_n++;
    }
    *entry_at(w, id) = (struct entry){.spot = s, .watcher = x, .watcher_next = x->first};
    if (x->first != 0)
        entry_at(w, x->first)->watcher_prev = id;
    x->first = id;
    chain_in(w, id);
    spot_in(w, id, false);
    w->entries_used++;
    return id;
}

/* Frees an entry without watches, and its spot and watcher if it was their last. */
static void entry_free(struct watches *w, uint32_t id)
{
    struct entry *e = entry_at(w, id);
    struct spot *s = e->spot;
    struct watcher *x = e->watcher;
    uint32_t *at = bucket_of(w, s, x);

    while (*at != id) {
        CHECK(*at != 0);
        at = &entry_at(w, *at)->chain;
    }
    *at = e->chain;
    spot_out(w, id);
    if (e->watcher_prev != 0)
        entry_at(w, e->watcher_prev)->watcher_next = e->watcher_next;
    else
        x->first = e->watcher_next;
    if (e->watcher_next != 0)
        entry_at(w, e->watcher_next)->watcher_prev = e->watcher_prev;
    *e = (struct entry){.chain = w->entries_free};
    w->entries_free = id;
    w->entries_used--;
    if (s->first == 0) {
        hash_remove(&w->spots, &s->link);
        mem_free(s);
    }
    if (x->first == 0) {
        hash_remove(&w->watchers, &x->link);
        mem_free(x);
    }
}

static unsigned bits(uint8_t kinds) { return (unsigned)__builtin_popcount(kinds); }

/* Sets what an entry watches for; kinds 0 frees it. */
static void entry_set(struct watches *w, uint32_t id, uint8_t kinds)
{
    struct entry *e = entry_at(w, id);
    uint8_t was = e->kinds;

    w->count = w->count + bits(kinds) - bits(was);
    e->watcher->count = e->watcher->count + bits(kinds) - bits(was);
    w->recursive = w->recursive + ((kinds & RECURSIVE) != 0) - ((was & RECURSIVE) != 0);
    w->facts.data = w->facts.data + ((kinds & IN_DATA) != 0) - ((was & IN_DATA) != 0);
    w->facts.child = w->facts.child + ((kinds & IN_CHILD) != 0) - ((was & IN_CHILD) != 0);
    e->kinds = kinds;
    if (kinds == 0) {
        entry_free(w, id);
    } else if (((kinds ^ was) & RECURSIVE) != 0) {
        spot_out(w, id);
        spot_in(w, id, (kinds & RECURSIVE) != 0);
    }
}

void watches_add(struct watches *w, uint64_t watcher, enum watch_kind kind, const char *path,
                 size_t path_len)
{
    struct spot *s = spot_find(w, path, path_len);
    struct watcher *x = watcher_find(w, watcher);
    uint32_t id = entry_find(w, s, x);

    if (s == NULL) {
        CHECK(path_len <= UINT32_MAX);
        s = mem_alloc(sizeof *s + path_len);
        s->len = (uint32_t)path_len;
        if (path_len > 0)
            memcpy(s->path, path, path_len);
        hash_insert(&w->spots, &s->link, spot_hash(w, path, path_len));
    }
    if (x == NULL) {
        x = mem_new(struct watcher);
        x->id = watcher;
        hash_insert(&w->watchers, &x->link, hash_u64(watcher ^ w->key));
    }
    if (id == 0)
        id = entry_new(w, s, x);
    entry_set(w, id, entry_at(w, id)->kinds | BIT(kind));
}

bool watches_has(const struct watches *w, uint64_t watcher, enum watch_kind kind,
                 const char *path, size_t path_len)
{
    uint32_t id = entry_find(w, spot_find(w, path, path_len), watcher_find(w, watcher));

    return id != 0 && (entry_at(w, id)->kinds & BIT(kind)) != 0;
}

bool watches_remove(struct watches *w, uint64_t watcher, enum watch_kind kind, const char *path,
                    size_t path_len)
{
    uint32_t id = entry_find(w, spot_find(w, path, path_len), watcher_find(w, watcher));

    if (id == 0 || (entry_at(w, id)->kinds & BIT(kind)) == 0)
        return false;
    entry_set(w, id, entry_at(w, id)->kinds & (uint8_t)~BIT(kind));
    return true;
}

bool watches_forget_some(struct watches *w, uint64_t watcher, size_t most)
{
    struct watcher *x = watcher_find(w, watcher);
    uint32_t id = x != NULL ? x->first : 0;

    for (; id != 0 && most > 0; most--) {
        uint32_t next = entry_at(w, id)->watcher_next;
        entry_set(w, id, 0);
        id = next;
    }
    return id == 0;
}

void watches_forget(struct watches *w, uint64_t watcher)
{
    (void)watches_forget_some(w, watcher, SIZE_MAX);
}

uint64_t watches_count(const struct watches *w) { return w->count; }

uint64_t watches_count_of(const struct watches *w, uint64_t watcher)
{
    const struct watcher *x = watcher_find(w, watcher);

    return x != NULL ? x->count : 0;
}

/* Tells one entry's watcher, if it was not told of this change already, and uses up what
 * serves once. */
static void fire(struct watches *w, uint32_t id, uint8_t kinds, enum watch_event event,
                 const char *path, size_t len, const struct wire_list *acl)
{
    struct entry *e = entry_at(w, id);
    struct watcher *x = e->watcher;
    uint8_t hit = e->kinds & kinds, used = hit & ONCE;

    if (hit == 0)
        return;
    if (x->told != w->change && !(MUTANT(watch_lost) && used == ONCE)) {
        x->told = w->change;
        w->now_told++;
        w->sink(w->ctx, x->id, event, path, len, acl);
    }
    if (MUTANT(watch_persistent_once))
        used |= hit & BIT(WATCH_PERSISTENT);
    if (used != 0 && !MUTANT(watch_stays))
        entry_set(w, id, e->kinds & (uint8_t)~used);
}

static void trigger(struct watches *w, enum watch_event event, const char *path,
                    size_t path_len, const struct wire_list *acl)
{
    w->change++;
    struct spot *s = spot_find(w, path, path_len);
    for (uint32_t id = s != NULL ? s->first : 0; id != 0;) {
        uint32_t next = entry_at(w, id)->spot_next;
        fire(w, id, kinds_for(event), event, path, path_len, acl);
        id = next;
    }
    if (w->recursive == 0 || event == WATCH_CHILDREN_CHANGED)
        return;
    for (size_t len = path_len; len > 1 && path[0] == '/';) {
        if (MUTANT(watch_recursive_shallow) && len < path_len)
            break;
        len = path_parent_len(path, len);
        s = spot_find(w, path, len);
        uint32_t id = s != NULL ? s->first : 0;
        for (; id != 0 && (entry_at(w, id)->kinds & RECURSIVE) != 0;
             id = entry_at(w, id)->spot_next)
            fire(w, id, RECURSIVE, event, path, path_len, acl);
    }
}

void watches_trigger(struct watches *w, enum watch_event event, const char *path,
                     size_t path_len, const struct wire_list *acl)
{
    if (w->count == 0)
        return;
    w->now_told = 0;
    trigger(w, event, path, path_len, acl);
    if (w->now_told > 0)
        summary_add(&w->facts.told[event - WATCH_CREATED], w->now_told);
}

void watches_emit(struct watches *w, uint64_t watcher, enum watch_event event, const char *path,
                  size_t path_len)
{
    w->sink(w->ctx, watcher, event, path, path_len, NULL);
}

/* ---- for monitors ---- */

void watches_facts(const struct watches *w, struct watches_facts *out) { *out = w->facts; }

void watches_facts_reset(struct watches *w) { memset(w->facts.told, 0, sizeof w->facts.told); }

static bool has_data(const struct watches *w, uint32_t id)
{
    return (entry_at(w, id)->kinds & IN_DATA) != 0;
}

void watches_data_size(const struct watches *w, uint64_t *watchers, uint64_t *paths)
{
    struct hash_walk walk;
    struct hash_link *l;

    *watchers = *paths = 0;
    for (l = hash_walk_first(&w->spots, &walk); l != NULL;
         l = hash_walk_next(&w->spots, &walk)) {
        uint32_t id = HASH_ENTRY(l, struct spot, link)->first;
        while (id != 0 && !has_data(w, id))
            id = entry_at(w, id)->spot_next;
        *paths += id != 0;
    }
    for (l = hash_walk_first(&w->watchers, &walk); l != NULL;
         l = hash_walk_next(&w->watchers, &walk)) {
        uint32_t id = HASH_ENTRY(l, struct watcher, link)->first;
        while (id != 0 && !has_data(w, id))
            id = entry_at(w, id)->watcher_next;
        *watchers += id != 0;
    }
}

static bool show(const struct watches *w, uint32_t id, watches_visit *visit, void *ctx)
{
    const struct entry *e = entry_at(w, id);

    return !has_data(w, id) || visit(ctx, e->watcher->id, e->spot->path, e->spot->len);
}

void watches_by_watcher(const struct watches *w, watches_visit *visit, void *ctx)
{
    struct hash_walk walk;
    struct hash_link *l = hash_walk_first(&w->watchers, &walk);

    for (; l != NULL; l = hash_walk_next(&w->watchers, &walk))
        for (uint32_t id = HASH_ENTRY(l, struct watcher, link)->first; id != 0;
             id = entry_at(w, id)->watcher_next)
            if (!show(w, id, visit, ctx))
                return;
}

void watches_by_path(const struct watches *w, watches_visit *visit, void *ctx)
{
    struct hash_walk walk;
    struct hash_link *l = hash_walk_first(&w->spots, &walk);

    for (; l != NULL; l = hash_walk_next(&w->spots, &walk))
        for (uint32_t id = HASH_ENTRY(l, struct spot, link)->first; id != 0;
             id = entry_at(w, id)->spot_next)
            if (!show(w, id, visit, ctx))
                return;
}
