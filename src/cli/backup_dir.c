/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/backup_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "host/files.h"

#define FLUSH_BYTES (1u << 20)

static int say(struct buf *why, const char *dir, const char *name)
{
    int number = errno;

    buf_printf(why, "%s%s%s: %s", dir, name[0] != 0 ? "/" : "", name, strerror(number));
    return file_error(number);
}

static int read_manifest(struct backup_dir *d, struct buf *why)
{
    struct buf path = {0}, text = {0}, what = {0};

    buf_printf(&path, "%s/" BACKUP_MANIFEST, d->path);
    int err = file_read(buf_text(&path), MANIFEST_BYTES_MAX, &text);
    if (err == 0 && (err = manifest_parse(&d->manifest, text.data, text.len, &what)) != 0)
        buf_printf(why, "%s: %s", buf_text(&path), buf_text(&what));
    else if (err != 0)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    d->has_manifest = err == 0;
    buf_free(&path);
    buf_free(&text);
    buf_free(&what);
    return err;
}

static bool is_named(const struct manifest *m, const char *name)
{
    char one[MANIFEST_NAME_MAX];

    for (size_t i = 0; i < m->n; i++) {
        manifest_name(&m->v[i], one);
        if (strcmp(one, name) == 0)
            return true;
    }
    return false;
}

/* What an interrupted backup, or an interrupted removal, has left. Returns how many files look
 * like a backup's and are not named; with is_dry they stay. */
static unsigned remove_left_overs(struct backup_dir *d, bool is_dry)
{
    DIR *all = opendir(d->path);
    unsigned n = 0;

    for (struct dirent *e; all != NULL && (e = readdir(all)) != NULL;) {
        bool is_ours =
            strcmp(e->d_name, BACKUP_NEW) == 0 ||
            ((strncmp(e->d_name, "full-", 5) == 0 || strncmp(e->d_name, "more-", 5) == 0) &&
             strlen(e->d_name) == 38);
        if (!is_ours || is_named(&d->manifest, e->d_name))
            continue;
        n += strcmp(e->d_name, BACKUP_NEW) != 0;
        if (!is_dry)
            (void)unlinkat(d->fd, e->d_name, 0);
    }
    if (all != NULL)
        closedir(all);
    return n;
}

int backup_dir_open(struct backup_dir *d, const char *path, bool for_writing, struct buf *why)
{
    *d = (struct backup_dir){.path = path, .fd = -1};
    if (for_writing && mkdir(path, 0700) != 0 && errno != EEXIST)
        return say(why, path, "");
    d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->fd < 0)
        return say(why, path, "");
    if (for_writing && flock(d->fd, LOCK_EX | LOCK_NB) != 0) {
        buf_printf(why, "%s: another muster backup writes to it", path);
        return ERR_BUSY;
    }
    int err = read_manifest(d, why);
    if (err == ERR_NOT_FOUND && for_writing) {
        buf_clear(why);
        err = 0;
        if (remove_left_overs(d, true) > 0) { /* not ours to throw away */
            buf_printf(why, "%s has files of a backup, but no " BACKUP_MANIFEST, path);
            err = ERR_UNSAFE;
        }
    }
    if (err == 0 && for_writing)
        (void)remove_left_overs(d, false);
    return err;
}

void backup_dir_close(struct backup_dir *d)
{
    manifest_free(&d->manifest);
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}

/* ---- writing ---- */

int backup_file_new(struct backup_dir *d, struct backup_file *f, struct buf *why)
{
    *f = (struct backup_file){.dir = d};
    f->fd =
        openat(d->fd, BACKUP_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return f->fd >= 0 ? 0 : say(why, d->path, BACKUP_NEW);
}

int backup_file_flush(struct backup_file *f, bool all, struct buf *why)
{
    if (!all && f->out.len < FLUSH_BYTES)
        return 0;
    f->crc = crc32c(f->crc, f->out.data, f->out.len);
    while (f->out.len > 0) {
        ssize_t n = write(f->fd, f->out.data, f->out.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return say(why, f->dir->path, BACKUP_NEW);
        f->bytes += (uint64_t)n;
        buf_consume(&f->out, (size_t)n);
    }
    buf_clear(&f->out);
    return 0;
}

static int write_manifest(const struct backup_dir *d, const struct manifest *m, struct buf *why)
{
    struct buf path = {0}, text = {0};

    manifest_print(m, &text);
    buf_printf(&path, "%s/" BACKUP_MANIFEST, d->path);
    int err = file_write(buf_text(&path), text.data, text.len, 0600);
    if (err != 0)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    buf_free(&path);
    buf_free(&text);
    return err;
}

int backup_file_finish(struct backup_file *f, const struct manifest_file *facts, size_t drop,
                       struct buf *why)
{
    struct backup_dir *d = f->dir;
    struct manifest_file m = *facts;
    char name[MANIFEST_NAME_MAX];
    int err = backup_file_flush(f, true, why);

    if (err != 0)
        return err;
    m.bytes = f->bytes;
    m.crc = f->crc;
    manifest_name(&m, name);
    if (fsync(f->fd) != 0 || renameat(d->fd, BACKUP_NEW, d->fd, name) != 0 || fsync(d->fd) != 0)
        return say(why, d->path, name);
    manifest_add(&d->manifest, &m);
    struct manifest rest = d->manifest;
    rest.v += drop;
    rest.n -= drop;
    err = write_manifest(d, &rest, why);
    if (err != 0)
        return err; /* the old manifest stands; the new file is a left-over */
    manifest_drop(&d->manifest, drop);
    d->has_manifest = true;
    (void)remove_left_overs(d, false);
    close(f->fd);
    f->fd = -1;
    buf_free(&f->out);
    return 0;
}

void backup_file_drop(struct backup_file *f)
{
    if (f->fd >= 0) {
        close(f->fd);
        (void)unlinkat(f->dir->fd, BACKUP_NEW, 0);
        f->fd = -1;
    }
    buf_free(&f->out);
}

/* ---- reading ---- */

int backup_dir_read(const struct backup_dir *d, const struct manifest_file *f, struct buf *out,
                    struct buf *why)
{
    char name[MANIFEST_NAME_MAX];
    struct buf path = {0};
    struct stat st;

    manifest_name(f, name);
    buf_printf(&path, "%s/%s", d->path, name);
    int err = stat(buf_text(&path), &st) != 0 ? say(why, d->path, name) : 0;
    if (err == 0 && (uint64_t)st.st_size != f->bytes) {
        buf_printf(why, "%s: has %" PRIu64 " bytes, and the manifest says %" PRIu64,
                   buf_text(&path), (uint64_t)st.st_size, f->bytes);
        err = ERR_CORRUPT;
    }
    if (err == 0 && (err = file_read(buf_text(&path), (size_t)f->bytes, out)) != 0)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    buf_free(&path);
    return err;
}
