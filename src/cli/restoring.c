/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/restoring.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "server/member_epoch.h"
#include "server/secret.h"
#include "server/server.h"
#include "store/store.h"

int restore_into(const char *dir, const struct identity *self, struct replay *r, uint64_t seen,
                 struct restored *out, struct buf *why)
{
    struct tree_facts f;
    struct tree *t = r->tree;
    uint64_t begin = epoch_zxid(seen > r->index ? seen : r->index);

    if (begin == 0) {
        buf_printf(why, "there are no zxids far enough above 0x%" PRIx64, seen);
        return ERR_TOO_BIG;
    }
    tree_facts(t, &f);
    out->sessions = f.sessions;
    out->ephemerals = f.ephemerals;
    out->index = epoch_end_sessions(t, begin);
    tree_facts(t, &f);
    out->znodes = f.znodes;
    out->digest = tree_digest(t);
    r->tree = NULL;
    return server_restore_take(dir, self, t, out->index, why);
}

/* ---- checked ---- */

struct found {
    struct restored r;
    bool is_tree;
};

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct found *f = ctx;
    struct tree *t = tree_load(1, data, len);
    struct tree_facts facts;

    (void)term, (void)members;
    if (t == NULL)
        return;
    tree_facts(t, &facts);
    f->is_tree = facts.sessions == 0 && facts.ephemerals == 0;
    f->r = (struct restored){.index = index, .znodes = facts.znodes, .digest = tree_digest(t)};
    tree_free(t);
}

int restore_check(const char *dir, const struct restored *should, struct buf *why)
{
    struct found f = {0};
    const struct store_load load = {.ctx = &f, .snapshot = load_snapshot};
    struct store_options options = {0};
    struct identity self;
    struct store *store;
    struct disk *disk;
    struct buf path = {0};
    int err = identity_load(&self, dir, why);

    if (err != 0)
        return err;
    secret_random(&options.salt, sizeof options.salt);
    identity_store_path(&self, dir, &path);
    err = disk_posix_new(&disk, buf_text(&path));
    if (err == 0) {
        err = store_open(&store, disk, &options, &load, why);
        if (err == 0)
            store_close(store);
        disk_posix_free(disk);
    }
    buf_free(&path);
    if (err == 0 && (!f.is_tree || f.r.index != should->index || f.r.znodes != should->znodes ||
                     f.r.digest != should->digest)) {
        buf_printf(why, "%s: what was restored is not what was replayed", dir);
        err = ERR_CORRUPT;
    }
    return err;
}

static void remove_all_of(const char *dir)
{
    struct buf names = {0};
    struct disk *disk;

    if (disk_posix_new(&disk, dir) != 0)
        return;
    if (disk->ops->list(disk, &names) == 0)
        for (size_t at = 0; at < names.len; at += strlen((const char *)names.data + at) + 1)
            (void)disk->ops->remove(disk, (const char *)names.data + at);
    disk_posix_free(disk);
    (void)rmdir(dir);
    buf_free(&names);
}

void restore_remove(const char *dir)
{
    static const char *const files[] = {"machine", "secret", "peers", "lock"};
    struct identity first = {0};
    struct buf path = {0};

    identity_store_path(&first, dir, &path);
    if (access(buf_text(&path), F_OK) == 0)
        remove_all_of(buf_text(&path));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        buf_clear(&path);
        buf_printf(&path, "%s/%s", dir, files[i]);
        (void)unlink(buf_text(&path));
    }
    (void)rmdir(dir);
    buf_free(&path);
}
