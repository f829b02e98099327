/* SPDX-License-Identifier: Apache-2.0 */
#include "server/aside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "host/files.h"
#include "server/member_repair.h"
#include "server/secret.h"
#include "store/store.h"

#define ASIDE_BYTES_MAX 4096

/* ---- the file ---- */

int aside_note(const char *dir, const struct identity *self, const struct epoch *newer,
               uint64_t common, struct buf *why)
{
    struct buf path = {0}, text = {0}, bytes = {0};

    identity_store_path(self, dir, &path);
    buf_add_str(&path, "/" ASIDE_NAME);
    epoch_encode(newer, &bytes);
    buf_printf(&text,
               "# This store is not in use: muster recover was run on another machine, or on\n"
               "# this one, and an epoch of its own began. What only this store has:\n"
               "#   muster recover --inspect --data %s\n"
               "common=%" PRIu64 "\nepoch=",
               dir, common);
    for (size_t i = 0; i < bytes.len; i++)
        buf_printf(&text, "%02x", bytes.data[i]);
    buf_add_str(&text, "\n");
    int err = file_write(buf_text(&path), text.data, text.len, 0600);
    if (err != 0)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    buf_free(&path);
    buf_free(&text);
    buf_free(&bytes);
    return err;
}

int aside_read(const char *path, struct epoch *newer, uint64_t *common)
{
    struct buf name = {0}, text = {0}, bytes = {0};

    buf_printf(&name, "%s/" ASIDE_NAME, path);
    int err = file_read(buf_text(&name), ASIDE_BYTES_MAX, &text);
    if (err == 0) {
        const char *at = strstr(buf_text(&text), "\ncommon="),
                   *e = strstr(buf_text(&text), "\nepoch=");
        unsigned byte;
        *common = at != NULL ? strtoull(at + 8, NULL, 10) : 0;
        for (const char *p = e != NULL ? e + 7 : ""; sscanf(p, "%2x", &byte) == 1 && *p != '\n';
             p += 2)
            buf_add_u8(&bytes, (uint8_t)byte);
        if (at == NULL || epoch_decode(newer, bytes.data, bytes.len) != 0)
            err = ERR_SYNTAX;
    }
    buf_free(&name);
    buf_free(&text);
    buf_free(&bytes);
    return err;
}

/* ---- where two logs part ---- */

struct terms {
    struct store_ends ends;
    uint64_t *v; /* of the snapshot's entry and those behind it */
    size_t n, cap;
};

static void note_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct terms *t = ctx;

    (void)members, (void)data, (void)len;
    t->ends = (struct store_ends){
        .snapshot = index, .first = index + 1, .last = index, .last_term = term};
    mem_grow(t->v, t->cap, 1);
    t->v[0] = term;
    t->n = 1;
}

static void note_entry(void *ctx, struct raft_entry *e)
{
    struct terms *t = ctx;

    if (t->n == 0)
        t->ends.first = e->index;
    mem_grow(t->v, t->cap, t->n + 1);
    t->v[t->n++] = e->term;
    t->ends.last = e->index;
    t->ends.last_term = e->term;
}

static uint64_t term_of(void *ctx, uint64_t index)
{
    const struct terms *t = ctx;
    uint64_t from = t->ends.last + 1 - t->n;

    return index >= from && index <= t->ends.last ? t->v[index - from] : 0;
}

static int read_store(const char *dir, const struct identity *self, struct terms *t)
{
    const struct store_load load = {.ctx = t, .snapshot = note_snapshot, .entry = note_entry};
    struct store_options options = {0};
    struct store *store;
    struct disk *disk;
    struct buf path = {0};

    secret_random(&options.salt, sizeof options.salt);
    identity_store_path(self, dir, &path);
    int err = disk_posix_new(&disk, buf_text(&path));
    if (err == 0) {
        err = store_open(&store, disk, &options, &load, NULL);
        if (err == 0)
            store_close(store);
        disk_posix_free(disk);
    }
    buf_free(&path);
    return err;
}

/* ---- the change ---- */

int aside_for_epoch(const char *dir, struct identity *self, const struct epoch *newer,
                    struct store_ends *ends, uint64_t *common, struct buf *why)
{
    struct identity next = *self;
    struct terms t = {0};

    *common = 0;
    if (read_store(dir, self, &t) == 0 && t.n > 0)
        *common = epoch_common(newer, t.ends.last + 1 - t.n, t.ends.last, term_of, &t);
    *ends = t.ends;
    mem_free(t.v);
    int err = aside_note(dir, self, newer, *common, why);
    if (err != 0)
        return err;
    uint64_t random;
    secret_random(&random, sizeof random);
    next.birth = repair_birth(self->birth, random);
    next.has_begun = false;
    next.epoch = *newer;
    identity_next_store(&next, dir);
    err = identity_save(&next, dir, why);
    if (err == 0)
        *self = next;
    return err;
}
