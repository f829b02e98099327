/* SPDX-License-Identifier: Apache-2.0 */
/* disk_posix.c -- struct disk on a directory of the machine. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/disk.h"

#define FILL_BYTES 65536u

struct disk_posix {
    struct disk disk; /* first, so that the two pointers are one */
    int dir;
};

static int dir_of(struct disk *d) { return ((struct disk_posix *)(void *)d)->dir; }

/* One place says which errno means what; everything that is not listed is ERR_IO. */
static int err_of(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT: return ERR_DISK_FULL;
    case ENOENT: return ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_PERMISSION;
    default: return ERR_IO;
    }
}

static int posix_open(struct disk *d, const char *name, int create, int *file)
{
    CHECK(strchr(name, '/') == NULL);
    int fd =
        openat(dir_of(d), name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);

    if (fd < 0)
        return err_of(errno);
    *file = fd;
    return 0;
}

static void posix_close(struct disk *d, int file)
{
    (void)d;
    (void)close(file); /* nothing unsynced depends on it */
}

static int posix_write(struct disk *d, int file, uint64_t at, const void *data, size_t len)
{
    const char *p = data;

    (void)d;
    while (len > 0) {
        ssize_t n = pwrite(file, p, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_of(errno) : ERR_IO;
        p += n, at += (uint64_t)n, len -= (size_t)n;
    }
    return 0;
}

static int posix_read(struct disk *d, int file, uint64_t at, void *data, size_t len,
                      size_t *got)
{
    char *p = data;

    (void)d;
    *got = 0;
    while (*got < len) {
        ssize_t n = pread(file, p + *got, len - *got, (off_t)(at + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_of(errno);
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

static int posix_size(struct disk *d, int file, uint64_t *bytes)
{
    struct stat st;

    (void)d;
    if (fstat(file, &st) != 0)
        return err_of(errno);
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int posix_truncate(struct disk *d, int file, uint64_t bytes)
{
    (void)d;
    return ftruncate(file, (off_t)bytes) == 0 ? 0 : err_of(errno);
}

static int posix_allocate(struct disk *d, int file, uint64_t bytes)
{
    uint64_t now = 0;
    int err = posix_size(d, file, &now);

    if (err != 0 || now >= bytes)
        return err;
    int rc;
    do
        rc = fallocate(file, 0, (off_t)now, (off_t)(bytes - now));
    while (rc != 0 && errno == EINTR);
    /* Not every file system can reserve; there a full disk shows at the write, which the
     * store takes as well. */
    if (rc != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        return posix_truncate(d, file, bytes);
    return rc == 0 ? 0 : err_of(errno);
}

/* What is only reserved is made into written blocks by the first write to them, and that is a
 * change which fdatasync() has to bring to the disk as well, for each batch. */
static int posix_fill(struct disk *d, int file, uint64_t bytes)
{
    static const uint8_t zeros[FILL_BYTES];
    uint64_t at = 0;
    int err = posix_size(d, file, &at);

    if (err == 0)
        err = posix_allocate(d, file, bytes);
    while (err == 0 && at < bytes) {
        size_t n = bytes - at < sizeof zeros ? (size_t)(bytes - at) : sizeof zeros;
        err = posix_write(d, file, at, zeros, n);
        at += n;
    }
    return err;
}

static int posix_sync(struct disk *d, int file)
{
    (void)d;
    return fdatasync(file) == 0 ? 0 : err_of(errno);
}

static int posix_sync_dir(struct disk *d) { return fsync(dir_of(d)) == 0 ? 0 : err_of(errno); }

static int posix_rename(struct disk *d, const char *from, const char *to)
{
    return renameat(dir_of(d), from, dir_of(d), to) == 0 ? 0 : err_of(errno);
}

static int posix_remove(struct disk *d, const char *name)
{
    return unlinkat(dir_of(d), name, 0) == 0 ? 0 : err_of(errno);
}

static int posix_list(struct disk *d, struct buf *names)
{
    int fd = openat(dir_of(d), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir == NULL) {
        int err = err_of(errno);
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    errno = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            buf_add(names, e->d_name, strlen(e->d_name) + 1);
    int err = errno != 0 ? err_of(errno) : 0;
    (void)closedir(dir);
    return err;
}

static int posix_room(struct disk *d, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct statvfs st;

    if (fstatvfs(dir_of(d), &st) != 0)
        return err_of(errno);
    *free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    *total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
    return 0;
}

static const struct disk_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .write = posix_write,
    .read = posix_read,
    .size = posix_size,
    .truncate = posix_truncate,
    .allocate = posix_allocate,
    .fill = posix_fill,
    .sync = posix_sync,
    .sync_dir = posix_sync_dir,
    .rename = posix_rename,
    .remove = posix_remove,
    .list = posix_list,
    .room = posix_room,
};

/* ---- reading alone ---- */

static int reading_open(struct disk *d, const char *name, int create, int *file)
{
    CHECK(strchr(name, '/') == NULL);
    if (create)
        return ERR_PERMISSION;
    int fd = openat(dir_of(d), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_of(errno);
    *file = fd;
    return 0;
}

static int reading_write(struct disk *d, int file, uint64_t at, const void *data, size_t len)
{
    (void)d, (void)file, (void)at, (void)data, (void)len;
    return ERR_PERMISSION;
}

static int reading_resize(struct disk *d, int file, uint64_t bytes)
{
    (void)d, (void)file, (void)bytes;
    return ERR_PERMISSION;
}

static int reading_sync(struct disk *d, int file)
{
    (void)d, (void)file;
    return ERR_PERMISSION;
}

static int reading_sync_dir(struct disk *d)
{
    (void)d;
    return ERR_PERMISSION;
}

static int reading_rename(struct disk *d, const char *from, const char *to)
{
    (void)d, (void)from, (void)to;
    return ERR_PERMISSION;
}

static int reading_remove(struct disk *d, const char *name)
{
    (void)d, (void)name;
    return ERR_PERMISSION;
}

static const struct disk_ops reading_ops = {
    .open = reading_open,
    .close = posix_close,
    .write = reading_write,
    .read = posix_read,
    .size = posix_size,
    .truncate = reading_resize,
    .allocate = reading_resize,
    .fill = reading_resize,
    .sync = reading_sync,
    .sync_dir = reading_sync_dir,
    .rename = reading_rename,
    .remove = reading_remove,
    .list = posix_list,
    .room = posix_room,
};

int disk_posix_reading(struct disk **out, const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *out = NULL;
    if (fd < 0)
        return err_of(errno);
    struct disk_posix *p = mem_new(struct disk_posix);
    p->disk.ops = &reading_ops;
    p->dir = fd;
    *out = &p->disk;
    return 0;
}

/* ---- */

/* A new directory's own name must outlive a crash as well. */
static int sync_parent(const char *dir)
{
    char *copy = mem_dup_str(dir);
    size_t len = strlen(copy);

    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = 0;
    char *slash = strrchr(copy, '/');
    if (slash != NULL)
        slash[slash == copy] = 0;
    int fd = open(slash != NULL ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mem_free(copy);
    if (fd < 0)
        return err_of(errno);
    int err = fsync(fd) == 0 ? 0 : err_of(errno);
    (void)close(fd);
    return err;
}

int disk_posix_new(struct disk **out, const char *dir)
{
    *out = NULL;
    if (mkdir(dir, 0700) == 0) {
        int err = sync_parent(dir);
        if (err != 0)
            return err;
    } else if (errno != EEXIST) {
        return err_of(errno);
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_of(errno);
    /* Two processes on one log would each overwrite what the other acknowledged. */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int err = errno == EWOULDBLOCK ? ERR_BUSY : err_of(errno);
        (void)close(fd);
        return err;
    }
    struct disk_posix *p = mem_new(struct disk_posix);
    p->disk.ops = &posix_ops;
    p->dir = fd;
    *out = &p->disk;
    return 0;
}

void disk_posix_free(struct disk *d)
{
    if (d == NULL)
        return;
    (void)close(dir_of(d));
    mem_free(d);
}
