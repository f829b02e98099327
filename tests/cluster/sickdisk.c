/* SPDX-License-Identifier: Apache-2.0 */
/* sickdisk.c -- a library to be preloaded (LD_PRELOAD): files below SICKDISK_DIR fail, are slow
 * or stick, as the file SICKDISK_CONTROL says at that moment. disk.py makes and uses it.
 *
 * The control file is struct sick, mapped by both sides. What is not below the directory is
 * never touched; a failing call has not been made.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct sick {
    volatile int32_t write_errno; /* of pwrite, write, fallocate; 0: none */
    volatile int32_t sync_errno;  /* of fsync, fdatasync */
    volatile int32_t sync_ms;     /* each sync takes so long */
    volatile int32_t sync_stuck;  /* no sync returns while this is not 0 */
    volatile int32_t write_stuck; /* no write returns */
    volatile int32_t hits;        /* calls that were made to suffer */
};

static struct sick *control;
static char directory[PATH_MAX];

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("SICKDISK_DIR"), *file = getenv("SICKDISK_CONTROL");
    int fd = dir != NULL && file != NULL ? open(file, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return;
    snprintf(directory, sizeof directory, "%s/", dir);
    control = p;
}

static int is_ours(int fd)
{
    char link[64], path[PATH_MAX];

    if (control == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return 0;
    path[n] = 0;
    return strncmp(path, directory, strlen(directory)) == 0;
}

static void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

static int hit(int error)
{
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_RELAXED);
    errno = error;
    return error;
}

/* Not 0: it fails, and errno says how. */
static int on_write(int fd)
{
    if (!is_ours(fd))
        return 0;
    for (int first = 1; control->write_stuck != 0; first = 0) {
        if (first)
            hit(0);
        wait_ms(5);
    }
    return control->write_errno != 0 ? hit(control->write_errno) : 0;
}

static int on_sync(int fd)
{
    if (!is_ours(fd))
        return 0;
    for (int first = 1; control->sync_stuck != 0; first = 0) {
        if (first)
            hit(0);
        wait_ms(5);
    }
    if (control->sync_ms > 0) {
        hit(0);
        wait_ms(control->sync_ms);
    }
    return control->sync_errno != 0 ? hit(control->sync_errno) : 0;
}

/* The call itself, of libc. */
#define REAL(result, name, ...)         \
    static result (*real)(__VA_ARGS__); \
    if (real == NULL)                   \
    *(void **)(&real) = dlsym(RTLD_NEXT, name)

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return on_write(fd) != 0 ? -1 : real(fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return on_write(fd) != 0 ? -1 : real(fd, data, len, at);
}

ssize_t write(int fd, const void *data, size_t len)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return on_write(fd) != 0 ? -1 : real(fd, data, len);
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
    REAL(int, "fallocate", int, int, off_t, off_t);
    return on_write(fd) != 0 ? -1 : real(fd, mode, at, len);
}

int fallocate64(int fd, int mode, off64_t at, off64_t len)
{
    REAL(int, "fallocate64", int, int, off64_t, off64_t);
    return on_write(fd) != 0 ? -1 : real(fd, mode, at, len);
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return on_sync(fd) != 0 ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(int, "fdatasync", int);
    return on_sync(fd) != 0 ? -1 : real(fd);
}
