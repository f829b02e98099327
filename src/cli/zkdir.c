/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/zkdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "host/clock.h"
#include "server/secret.h"

#define PROGRESS_MS 2000
#define SNAPSHOT "snapshot."
#define LOG "log."

struct file {
    int64_t zxid;
    char *name;
};

struct files {
    struct file *v; /* by zxid */
    size_t n, cap;
};

static int compare_files(const void *a, const void *b)
{
    int64_t x = ((const struct file *)a)->zxid, y = ((const struct file *)b)->zxid;

    return (x > y) - (x < y);
}

static void free_files(struct files *f)
{
    for (size_t i = 0; i < f->n; i++)
        mem_free(f->v[i].name);
    mem_free(f->v);
    *f = (struct files){0};
}

static int system_error(int number)
{
    return number == ENOENT || number == ENOTDIR ? ERR_NOT_FOUND
           : number == EACCES                    ? ERR_PERMISSION
                                                 : ERR_IO;
}

/* Fills the lists that are not NULL. compressed: a snapshot that we cannot read, or "". */
static int list_dir(const char *dir, struct files *snapshots, struct files *logs,
                    struct buf *compressed, struct buf *why)
{
    DIR *d = opendir(dir);
    const struct dirent *e;

    if (d == NULL) {
        int err = system_error(errno);
        buf_printf(why, "%s: %s", dir, strerror(errno));
        return err;
    }
    while ((e = readdir(d)) != NULL) {
        int64_t zxid;
        struct files *to = zkdata_parse_name(e->d_name, SNAPSHOT, &zxid) ? snapshots
                           : zkdata_parse_name(e->d_name, LOG, &zxid)    ? logs
                                                                         : NULL;
        if (to == NULL) {
            const char *end = strrchr(e->d_name, '.');
            if (strncmp(e->d_name, SNAPSHOT, strlen(SNAPSHOT)) == 0 &&
                (strcmp(end, ".gz") == 0 || strcmp(end, ".snappy") == 0)) {
                buf_clear(compressed);
                buf_add_str(compressed, e->d_name);
            }
            continue;
        }
        mem_grow(to->v, to->cap, to->n + 1);
        to->v[to->n++] = (struct file){zxid, mem_dup_str(e->d_name)};
    }
    closedir(d);
    if (snapshots->n > 1)
        qsort(snapshots->v, snapshots->n, sizeof *snapshots->v, compare_files);
    if (logs->n > 1)
        qsort(logs->v, logs->n, sizeof *logs->v, compare_files);
    return 0;
}

/* ---- files ---- */

static int read_whole(const char *path, uint8_t **data, size_t *len, struct buf *why)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    *data = NULL;
    *len = 0;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int err = system_error(errno);
        buf_printf(why, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return err;
    }
    if ((uint64_t)st.st_size > ZKDATA_FILE_MAX) {
        buf_printf(why, "%s: it is over %llu bytes", path, ZKDATA_FILE_MAX);
        close(fd);
        return ERR_TOO_BIG;
    }
    *data = mem_alloc((size_t)st.st_size + 1);
    while (*len < (size_t)st.st_size) {
        ssize_t n = read(fd, *data + *len, (size_t)st.st_size - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            buf_printf(why, "%s: %s", path, strerror(errno));
            mem_free(*data);
            *data = NULL;
            close(fd);
            return ERR_IO;
        }
        if (n == 0)
            break;
        *len += (size_t)n;
    }
    close(fd);
    return 0;
}

static void progress(uint64_t *said_ms, const char *what, size_t at, size_t of)
{
    uint64_t now_ms = clock_now_ms();

    if (*said_ms == 0)
        *said_ms = now_ms;
    if (now_ms < *said_ms + PROGRESS_MS)
        return;
    *said_ms = now_ms;
    fprintf(stderr, "reading %s (%zu of %zu) ...\n", what, at, of);
}

/* ---- the snapshot ---- */

static int try_snapshot(struct zkdir *z, const char *path, int64_t zxid, struct buf *why)
{
    uint8_t *data;
    size_t len;
    uint64_t key;
    struct buf fact = {0};
    int err = read_whole(path, &data, &len, why);

    if (err != 0)
        return err;
    secret_random(&key, sizeof key);
    z->data = zkdata_new(key);
    if (len < ZKDATA_TAIL_LEN || !zkdata_tail_is_whole(data + len - ZKDATA_TAIL_LEN)) {
        buf_add_str(&fact, "it was not written to its end");
        err = ERR_CORRUPT;
    } else {
        err = zkdata_read_snapshot(z->data, zxid, data, len, &fact);
    }
    mem_free(data);
    if (err != 0) {
        buf_printf(why, "%s: %s", path, buf_text(&fact));
        zkdata_free(z->data);
        z->data = NULL;
    }
    buf_free(&fact);
    return err;
}

/* The newest that is whole. */
static int take_snapshot(struct zkdir *z, const char *dir, const struct files *snapshots,
                         struct buf *why)
{
    int err = ERR_NOT_FOUND;

    for (size_t i = snapshots->n, tried = 0; i > 0 && tried < ZKDIR_SNAPSHOTS_TRIED; tried++) {
        const struct file *f = &snapshots->v[--i];
        buf_clear(why);
        buf_clear(&z->snapshot);
        buf_printf(&z->snapshot, "%s/%s", dir, f->name);
        z->snapshot_zxid = f->zxid;
        err = try_snapshot(z, buf_text(&z->snapshot), f->zxid, why);
        if (err != ERR_CORRUPT)
            return err;
        buf_printf(&z->odd, "%s; an older snapshot and more of the logs were taken\n",
                   buf_text(why));
    }
    return err;
}

/* ---- the logs ---- */

static int replay_log(struct zkdir *z, const char *path, bool is_last, bool gaps_allowed,
                      struct buf *why)
{
    uint8_t *data;
    size_t len;
    struct zkdata_log log = {0};
    struct buf fact = {0};
    int err = read_whole(path, &data, &len, why);

    if (err != 0)
        return err;
    err = zkdata_replay(z->data, data, len, gaps_allowed, &log, &fact);
    mem_free(data);
    z->logs++;
    z->entries += log.entries;
    z->applied += log.applied;
    if (err != 0)
        buf_printf(why, "%s: %s", path, buf_text(&fact));
    else if (log.torn_bytes > 0 && is_last)
        buf_printf(&z->odd,
                   "%s: %zu bytes at its end are of an entry that was being written when the "
                   "server died; nobody was told that it was done\n",
                   path, log.torn_bytes);
    buf_free(&fact);
    return err;
}

/* From the one that reaches below the snapshot. */
static int replay_logs(struct zkdir *z, const char *dir, const struct files *logs,
                       bool gaps_allowed, struct buf *why)
{
    struct buf path = {0};
    uint64_t said_ms = 0;
    size_t first = 0;
    int err = 0;

    for (size_t i = 0; i < logs->n; i++)
        if (logs->v[i].zxid <= z->snapshot_zxid)
            first = i;
    for (size_t i = first; i < logs->n && err == 0; i++) {
        buf_clear(&path);
        buf_printf(&path, "%s/%s", dir, logs->v[i].name);
        progress(&said_ms, logs->v[i].name, i + 1 - first, logs->n - first);
        err = replay_log(z, buf_text(&path), i + 1 == logs->n, gaps_allowed, why);
    }
    buf_free(&path);
    return err;
}

/* ---- all of it ---- */

/* dir, or version-2 in it. */
static void enter(const char *dir, struct buf *out)
{
    struct stat st;

    buf_printf(out, "%s/version-2", dir);
    if (stat(buf_text(out), &st) != 0 || !S_ISDIR(st.st_mode)) {
        buf_clear(out);
        buf_add_str(out, dir);
    }
    buf_text(out);
}

static int nothing_there(const char *dir, const struct files *logs,
                         const struct buf *compressed, struct buf *why)
{
    buf_clear(why);
    if (compressed->len > 0)
        buf_printf(why, "%s: its snapshots are compressed (%.*s)", dir, (int)compressed->len,
                   (const char *)compressed->data);
    else if (logs->n > 0)
        buf_printf(why, "%s: there are logs, but no snapshot", dir);
    else
        buf_printf(why, "%s: there is no snapshot of ZooKeeper in it", dir);
    return ERR_NOT_FOUND;
}

static void note_odd(struct zkdir *z)
{
    const struct zkdata_facts *f = &z->facts;

    if (f->gaps > 0)
        buf_printf(&z->odd, "entries are missing in %" PRIu64 " places\n", f->gaps);
    if (f->orphans > 0)
        buf_printf(&z->odd,
                   "%" PRIu64 " znodes had no parent and were left out (ZooKeeper cannot reach "
                   "them either)\n",
                   f->orphans);
    if (f->digest == ZKDATA_DIGEST_WRONG)
        buf_add_str(&z->odd, "the sum over the tree is not the one that ZooKeeper wrote with "
                             "its last entry: what was read differs from what it had\n");
    if (f->config_dropped)
        buf_add_str(&z->odd, "/zookeeper/config named the servers of the old ensemble; it was "
                             "emptied, so that no client goes back to them\n");
    if (f->foreign > 0)
        buf_printf(&z->odd,
                   "%" PRIu64 " znodes have entries in their access lists for schemes that "
                   "muster does not know: they are kept, but nobody matches them\n",
                   f->foreign);
}

int zkdir_read(struct zkdir *out, const char *dir, const char *log_dir, bool gaps_allowed,
               struct buf *why)
{
    struct files snapshots = {0}, logs = {0}, others = {0}, more = {0};
    struct buf in = {0}, log_in = {0}, compressed = {0};

    *out = (struct zkdir){0};
    enter(dir, &in);
    enter(log_dir != NULL ? log_dir : dir, &log_in);
    bool is_one = log_dir == NULL || strcmp(buf_text(&in), buf_text(&log_in)) == 0;
    int err = list_dir(buf_text(&in), &snapshots, &logs, &compressed, why);
    if (err == 0 && !is_one)
        err = list_dir(buf_text(&log_in), &others, &more, &compressed, why);
    const struct files *all = is_one ? &logs : &more;
    if (err == 0 && snapshots.n == 0)
        err = nothing_there(buf_text(&in), all, &compressed, why);
    else if (err == 0)
        err = take_snapshot(out, buf_text(&in), &snapshots, why);
    if (err == 0 && compressed.len > 0)
        buf_printf(&out->odd, "%.*s and others like it are compressed and were not looked at\n",
                   (int)compressed.len, (const char *)compressed.data);
    if (err == 0)
        err = replay_logs(out, buf_text(&log_in), all, gaps_allowed, why);
    if (err == 0)
        err = zkdata_finish(out->data, &out->facts, &out->foreign, why);
    if (err == 0)
        note_odd(out);
    free_files(&snapshots);
    free_files(&logs);
    free_files(&others);
    free_files(&more);
    buf_free(&in);
    buf_free(&log_in);
    buf_free(&compressed);
    buf_text(why);
    return err;
}

void zkdir_free(struct zkdir *z)
{
    zkdata_free(z->data);
    buf_free(&z->snapshot);
    buf_free(&z->odd);
    buf_free(&z->foreign);
    *z = (struct zkdir){0};
}
