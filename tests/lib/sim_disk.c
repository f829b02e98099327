/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_disk.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

enum { SECTOR = 512, HANDLES_MAX = 16, INODES_MAX = 256 };
#define SIM_DISK_BYTES (1ull << 40)

/* A change of a file that is not synced. data NULL: the size becomes `at`. */
struct pending {
    uint64_t at;
    uint8_t *data;
    size_t len;
};

struct bytes {
    uint8_t *v;
    uint64_t len, cap;
};

struct inode {
    struct bytes cache, disk;
    struct pending *pending;
    size_t pending_n, pending_cap;
    unsigned refs; /* names and handles, in either state */
};

struct name {
    char *text;
    struct inode *inode;
};

struct names {
    struct name *v;
    size_t n, cap;
};

/* from NULL: created; to NULL: removed. */
struct name_change {
    char *from, *to;
    struct inode *inode;
};

struct sim_disk {
    struct disk disk; /* first */
    struct rng rng;
    struct names cache, durable;
    struct name_change *changes;
    size_t changes_n, changes_cap;
    struct inode *handles[HANDLES_MAX];
    uint64_t capacity;
    uint64_t full_after, stop_after, fail_sync; /* counting down; 0 and UINT64_MAX: off */
    bool stopped;
    uint64_t changes_total, syncs_total, names_total;
};

static struct sim_disk *sim_of(struct disk *d) { return (struct sim_disk *)(void *)d; }

/* ---- bytes ---- */

static void bytes_resize(struct bytes *b, uint64_t len)
{
    if (len > b->cap) {
        uint64_t cap = len > 2 * b->cap ? len : 2 * b->cap;
        b->v = mem_resize(b->v, cap);
        b->cap = cap;
    }
    if (len > b->len)
        memset(b->v + b->len, 0, len - b->len);
    b->len = len;
}

static void bytes_write(struct bytes *b, uint64_t at, const uint8_t *data, size_t len)
{
    if (at + len > b->len)
        bytes_resize(b, at + len);
    if (len > 0)
        memcpy(b->v + at, data, len);
}

static void inode_unref(struct inode *f)
{
    if (--f->refs > 0)
        return;
    for (size_t i = 0; i < f->pending_n; i++)
        mem_free(f->pending[i].data);
    mem_free(f->pending);
    mem_free(f->cache.v);
    mem_free(f->disk.v);
    mem_free(f);
}

static void pend(struct inode *f, uint64_t at, const void *data, size_t len)
{
    mem_grow(f->pending, f->pending_cap, f->pending_n + 1);
    f->pending[f->pending_n++] = (struct pending){
        .at = at, .data = data != NULL ? mem_dup(data, len) : NULL, .len = len};
}

static void settle(struct inode *f, const struct pending *p)
{
    if (p->data == NULL)
        bytes_resize(&f->disk, p->at);
    else
        bytes_write(&f->disk, p->at, p->data, p->len);
}

/* A part of a write: each sector by chance, and one of them only up to some byte. */
static void settle_torn(struct sim_disk *d, struct inode *f, const struct pending *p)
{
    if (p->data == NULL) {
        if (rng_below(&d->rng, 2) == 0)
            settle(f, p);
        return;
    }
    unsigned keep = (unsigned)rng_below(&d->rng, 101); /* percent */
    for (size_t done = 0; done < p->len;) {
        size_t n = SECTOR - (size_t)((p->at + done) % SECTOR);
        if (n > p->len - done)
            n = p->len - done;
        size_t some = rng_below(&d->rng, 100) < keep ? n : 0;
        if (rng_below(&d->rng, 8) == 0)
            some = (size_t)rng_below(&d->rng, n + 1);
        if (some > 0)
            bytes_write(&f->disk, p->at + done, p->data + done, some);
        done += n;
    }
}

static void settle_all(struct sim_disk *d, struct inode *f, bool whole)
{
    /* Often all or nothing: the crash just before and just after must be frequent. */
    unsigned mood = whole ? 0 : (unsigned)rng_below(&d->rng, 4);

    for (size_t i = 0; i < f->pending_n; i++) {
        unsigned one = mood == 3 ? (unsigned)rng_below(&d->rng, 3) : mood;
        if (one == 0)
            settle(f, &f->pending[i]);
        else if (one == 2)
            settle_torn(d, f, &f->pending[i]);
        mem_free(f->pending[i].data);
    }
    f->pending_n = 0;
}

/* ---- names ---- */

static struct name *name_find(const struct names *n, const char *text)
{
    for (size_t i = 0; i < n->n; i++)
        if (strcmp(n->v[i].text, text) == 0)
            return &n->v[i];
    return NULL;
}

static void name_remove(struct names *n, const char *text)
{
    struct name *at = name_find(n, text);

    if (at == NULL)
        return;
    inode_unref(at->inode);
    mem_free(at->text);
    *at = n->v[--n->n];
}

static void name_set(struct names *n, const char *text, struct inode *f)
{
    f->refs++; /* before the removal, which may be of the same */
    name_remove(n, text);
    mem_grow(n->v, n->cap, n->n + 1);
    n->v[n->n++] = (struct name){mem_dup_str(text), f};
}

static void names_clear(struct names *n)
{
    while (n->n > 0)
        name_remove(n, n->v[n->n - 1].text);
}

static void name_changed(struct sim_disk *d, const char *from, const char *to, struct inode *f)
{
    mem_grow(d->changes, d->changes_cap, d->changes_n + 1);
    d->names_total++;
    f->refs++;
    d->changes[d->changes_n++] =
        (struct name_change){.from = from != NULL ? mem_dup_str(from) : NULL,
                             .to = to != NULL ? mem_dup_str(to) : NULL,
                             .inode = f};
}

static void settle_names(struct sim_disk *d, bool whole)
{
    unsigned mood = whole ? 0 : (unsigned)rng_below(&d->rng, 3);

    for (size_t i = 0; i < d->changes_n; i++) {
        struct name_change *c = &d->changes[i];
        if (mood == 0 || (mood == 2 && rng_below(&d->rng, 2) == 0)) {
            struct name *old = c->from != NULL ? name_find(&d->durable, c->from) : NULL;
            if (old != NULL && old->inode == c->inode)
                name_remove(&d->durable, c->from);
            if (c->to != NULL)
                name_set(&d->durable, c->to, c->inode);
        }
        mem_free(c->from);
        mem_free(c->to);
        inode_unref(c->inode);
    }
    d->changes_n = 0;
}

/* ---- faults ---- */

/* Counts a change; true: the disk stops at this one. */
static bool change(struct sim_disk *d)
{
    d->changes_total++;
    if (d->stop_after == UINT64_MAX || d->stop_after-- > 0)
        return false;
    d->stop_after = UINT64_MAX;
    d->stopped = true;
    return true;
}

static bool is_full(struct sim_disk *d, const struct inode *f, uint64_t bytes)
{
    uint64_t now = f->cache.len;

    if (bytes <= now)
        return false;
    if (d->full_after != UINT64_MAX && d->full_after-- == 0) {
        d->full_after = UINT64_MAX;
        return true;
    }
    return d->capacity != UINT64_MAX && sim_disk_used(d) + (bytes - now) > d->capacity;
}

/* ---- struct disk ---- */

static int sim_open(struct disk *disk, const char *name, int create, int *file)
{
    struct sim_disk *d = sim_of(disk);
    struct name *at = name_find(&d->cache, name);
    int h = 0;

    if (d->stopped)
        return ERR_IO;
    if (at == NULL && !create)
        return ERR_NOT_FOUND;
    while (d->handles[h] != NULL)
        CHECK(++h < HANDLES_MAX);
    if (at == NULL) {
        if (change(d))
            return ERR_IO;
        struct inode *f = mem_new(struct inode);
        name_set(&d->cache, name, f);
        name_changed(d, NULL, name, f);
        at = name_find(&d->cache, name);
    }
    d->handles[h] = at->inode;
    at->inode->refs++;
    *file = h;
    return 0;
}

static struct inode *inode_of(struct sim_disk *d, int file)
{
    CHECK(file >= 0 && file < HANDLES_MAX && d->handles[file] != NULL);
    return d->handles[file];
}

static void sim_close(struct disk *disk, int file)
{
    struct sim_disk *d = sim_of(disk);

    inode_unref(inode_of(d, file));
    d->handles[file] = NULL;
}

static int sim_write(struct disk *disk, int file, uint64_t at, const void *data, size_t len)
{
    struct sim_disk *d = sim_of(disk);
    struct inode *f = inode_of(d, file);

    if (d->stopped)
        return ERR_IO;
    if (is_full(d, f, at + len)) {
        /* A real one has perhaps written what fitted. */
        uint64_t room = f->cache.len > at ? f->cache.len - at : 0;
        if (room > len)
            room = len;
        if (room > 0) {
            bytes_write(&f->cache, at, data, (size_t)room);
            pend(f, at, data, (size_t)room);
        }
        return ERR_DISK_FULL;
    }
    bytes_write(&f->cache, at, data, len);
    pend(f, at, data, len);
    return change(d) ? ERR_IO : 0;
}

static int sim_read(struct disk *disk, int file, uint64_t at, void *data, size_t len,
                    size_t *got)
{
    struct sim_disk *d = sim_of(disk);
    struct inode *f = inode_of(d, file);

    if (d->stopped)
        return ERR_IO;
    uint64_t left = at < f->cache.len ? f->cache.len - at : 0;
    *got = left < len ? (size_t)left : len;
    if (*got > 0)
        memcpy(data, f->cache.v + at, *got);
    return 0;
}

static int sim_size(struct disk *disk, int file, uint64_t *bytes)
{
    struct sim_disk *d = sim_of(disk);

    *bytes = inode_of(d, file)->cache.len;
    return d->stopped ? ERR_IO : 0;
}

static int resize(struct sim_disk *d, struct inode *f, uint64_t bytes)
{
    if (d->stopped)
        return ERR_IO;
    if (is_full(d, f, bytes))
        return ERR_DISK_FULL;
    bytes_resize(&f->cache, bytes);
    pend(f, bytes, NULL, 0);
    return change(d) ? ERR_IO : 0;
}

static int sim_truncate(struct disk *disk, int file, uint64_t bytes)
{
    struct sim_disk *d = sim_of(disk);

    return resize(d, inode_of(d, file), bytes);
}

static int sim_allocate(struct disk *disk, int file, uint64_t bytes)
{
    struct sim_disk *d = sim_of(disk);
    struct inode *f = inode_of(d, file);

    return bytes > f->cache.len ? resize(d, f, bytes) : d->stopped ? ERR_IO : 0;
}

static int sim_sync(struct disk *disk, int file)
{
    struct sim_disk *d = sim_of(disk);
    struct inode *f = inode_of(d, file);

    if (d->stopped)
        return ERR_IO;
    d->syncs_total++;
    bool fails = d->fail_sync > 0 && --d->fail_sync == 0;
    if (change(d)) /* what is lost of it shows at the power loss, if there is one */
        return ERR_IO;
    settle_all(d, f, !fails);
    return fails ? ERR_IO : 0;
}

static int sim_sync_dir(struct disk *disk)
{
    struct sim_disk *d = sim_of(disk);

    if (d->stopped)
        return ERR_IO;
    if (change(d))
        return ERR_IO;
    settle_names(d, true);
    return 0;
}

static int sim_rename(struct disk *disk, const char *from, const char *to)
{
    struct sim_disk *d = sim_of(disk);
    struct name *at = name_find(&d->cache, from);

    if (d->stopped)
        return ERR_IO;
    if (at == NULL)
        return ERR_NOT_FOUND;
    struct inode *f = at->inode;
    name_changed(d, from, to, f);
    name_set(&d->cache, to, f);
    name_remove(&d->cache, from);
    return change(d) ? ERR_IO : 0;
}

static int sim_remove(struct disk *disk, const char *name)
{
    struct sim_disk *d = sim_of(disk);
    struct name *at = name_find(&d->cache, name);

    if (d->stopped)
        return ERR_IO;
    if (at == NULL)
        return ERR_NOT_FOUND;
    name_changed(d, name, NULL, at->inode);
    name_remove(&d->cache, name);
    return change(d) ? ERR_IO : 0;
}

static int sim_list(struct disk *disk, struct buf *names)
{
    struct sim_disk *d = sim_of(disk);

    for (size_t i = 0; i < d->cache.n; i++)
        buf_add(names, d->cache.v[i].text, strlen(d->cache.v[i].text) + 1);
    return d->stopped ? ERR_IO : 0;
}

/* The whole is always large: how full it is changes, not how big it is. */
static int sim_room(struct disk *disk, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct sim_disk *d = sim_of(disk);
    uint64_t used = sim_disk_used(d), most = d->capacity;

    *total_bytes = SIM_DISK_BYTES;
    if (most > SIM_DISK_BYTES)
        most = SIM_DISK_BYTES;
    *free_bytes = used < most ? most - used : 0;
    return d->stopped ? ERR_IO : 0;
}

static const struct disk_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .write = sim_write,
    .read = sim_read,
    .size = sim_size,
    .truncate = sim_truncate,
    .allocate = sim_allocate,
    .fill = sim_allocate,
    .sync = sim_sync,
    .sync_dir = sim_sync_dir,
    .rename = sim_rename,
    .remove = sim_remove,
    .list = sim_list,
    .room = sim_room,
};

/* ---- life ---- */

struct sim_disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *d = mem_new(struct sim_disk);

    d->disk.ops = &sim_ops;
    d->rng.state = seed;
    d->capacity = d->full_after = d->stop_after = UINT64_MAX;
    return d;
}

void sim_disk_free(struct sim_disk *d)
{
    if (d == NULL)
        return;
    settle_names(d, true);
    names_clear(&d->cache);
    names_clear(&d->durable);
    for (int h = 0; h < HANDLES_MAX; h++)
        if (d->handles[h] != NULL)
            inode_unref(d->handles[h]);
    mem_free(d->cache.v);
    mem_free(d->durable.v);
    mem_free(d->changes);
    mem_free(d);
}

struct disk *sim_disk_disk(struct sim_disk *d) { return &d->disk; }

/* Of what reads see, all of it synced. */
struct sim_disk *sim_disk_copy(const struct sim_disk *d, uint64_t seed)
{
    struct sim_disk *c = sim_disk_new(seed);

    for (size_t i = 0; i < d->cache.n; i++)
        sim_disk_put(c, d->cache.v[i].text, d->cache.v[i].inode->cache.v,
                     (size_t)d->cache.v[i].inode->cache.len);
    return c;
}

void sim_disk_killed(struct sim_disk *d)
{
    for (int h = 0; h < HANDLES_MAX; h++)
        if (d->handles[h] != NULL)
            sim_close(&d->disk, h);
    d->stopped = false;
    d->stop_after = d->full_after = UINT64_MAX;
    d->fail_sync = 0;
}

void sim_disk_power_loss(struct sim_disk *d)
{
    sim_disk_killed(d);
    for (size_t i = 0; i < d->cache.n; i++)
        settle_all(d, d->cache.v[i].inode, false);
    for (size_t i = 0; i < d->changes_n; i++) /* removed, and perhaps back again */
        settle_all(d, d->changes[i].inode, false);
    settle_names(d, false);
    names_clear(&d->cache);
    for (size_t i = 0; i < d->durable.n; i++) {
        struct inode *f = d->durable.v[i].inode;
        settle_all(d, f, false);
        name_set(&d->cache, d->durable.v[i].text, f);
        bytes_resize(&f->cache, 0);
        bytes_write(&f->cache, 0, f->disk.v, (size_t)f->disk.len);
    }
}

void sim_disk_set_capacity(struct sim_disk *d, uint64_t bytes) { d->capacity = bytes; }

uint64_t sim_disk_used(const struct sim_disk *d)
{
    uint64_t used = 0;

    for (size_t i = 0; i < d->cache.n; i++)
        used += d->cache.v[i].inode->cache.len;
    return used;
}

void sim_disk_full_after(struct sim_disk *d, uint64_t n) { d->full_after = n; }
void sim_disk_stop_after(struct sim_disk *d, uint64_t n) { d->stop_after = n; }
bool sim_disk_is_stopped(const struct sim_disk *d) { return d->stopped; }
void sim_disk_fail_sync(struct sim_disk *d, uint64_t n) { d->fail_sync = n; }
uint64_t sim_disk_changes(const struct sim_disk *d) { return d->changes_total; }
uint64_t sim_disk_syncs(const struct sim_disk *d) { return d->syncs_total; }

uint64_t sim_disk_names(const struct sim_disk *d) { return d->names_total; }

void sim_disk_put(struct sim_disk *d, const char *name, const void *data, size_t len)
{
    struct inode *f = mem_new(struct inode);

    name_set(&d->cache, name, f);
    name_set(&d->durable, name, f);
    bytes_write(&f->cache, 0, data, len);
    bytes_write(&f->disk, 0, data, len);
}

bool sim_disk_get(const struct sim_disk *d, const char *name, const uint8_t **data, size_t *len)
{
    const struct name *at = name_find(&d->cache, name);

    if (at == NULL)
        return false;
    *data = at->inode->cache.v;
    *len = (size_t)at->inode->cache.len;
    return true;
}

void sim_disk_flip(struct sim_disk *d, const char *name, uint64_t bit)
{
    struct name *at = name_find(&d->cache, name);

    CHECK(at != NULL && bit / 8 < at->inode->cache.len);
    at->inode->cache.v[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (bit / 8 < at->inode->disk.len)
        at->inode->disk.v[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

void sim_disk_remove(struct sim_disk *d, const char *name)
{
    name_remove(&d->cache, name);
    name_remove(&d->durable, name);
}

void sim_disk_wipe(struct sim_disk *d)
{
    settle_names(d, true);
    names_clear(&d->cache);
    names_clear(&d->durable);
}

const char *sim_disk_name(const struct sim_disk *d, size_t n)
{
    return n < d->cache.n ? d->cache.v[n].text : NULL;
}
