/* SPDX-License-Identifier: Apache-2.0 */
#include "host/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

int file_error(int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR: return ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_PERMISSION;
    case ENOSPC:
    case EDQUOT: return ERR_DISK_FULL;
    case EEXIST: return ERR_EXISTS;
    default: return ERR_IO;
    }
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? file_error(errno) : ERR_IO;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* The new name is on disk only when the directory is. */
static int sync_directory_of(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);

    memcpy(dir, slash == NULL ? "." : path, len);
    dir[len] = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_error(errno);
    int err = fsync(fd) == 0 ? 0 : file_error(errno);
    close(fd);
    return err;
}

static int replace(const char *path, const void *data, size_t len, mode_t mode, bool is_sure)
{
    char temp[PATH_MAX];

    if ((size_t)snprintf(temp, sizeof temp, "%s.new", path) >= sizeof temp)
        return ERR_TOO_BIG;
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return file_error(errno);

    int err = write_all(fd, data, len);
    if (err == 0 && (fchmod(fd, mode) != 0 || (is_sure && fsync(fd) != 0)))
        err = file_error(errno);
    if (close(fd) != 0 && err == 0)
        err = file_error(errno);
    if (err == 0 && rename(temp, path) != 0)
        err = file_error(errno);
    if (err != 0) {
        unlink(temp);
        return err;
    }
    return is_sure ? sync_directory_of(path) : 0;
}

int file_write(const char *path, const void *data, size_t len, mode_t mode)
{
    return replace(path, data, len, mode, true);
}

int file_replace(const char *path, const void *data, size_t len, mode_t mode)
{
    return replace(path, data, len, mode, false);
}

int file_read(const char *path, size_t max_bytes, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return file_error(errno);
    size_t before = out->len;
    int err = 0;
    for (;;) {
        uint8_t *to = buf_reserve(out, 4096);
        ssize_t n = read(fd, to, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = file_error(errno);
        if (n <= 0)
            break;
        buf_added(out, (size_t)n);
        if (out->len - before > max_bytes) {
            err = ERR_TOO_BIG;
            break;
        }
    }
    close(fd);
    if (err != 0)
        out->len = before;
    return err;
}
