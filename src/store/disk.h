/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h -- the few things the store wants of a disk, so that tests can break it.
 *
 * One directory, flat names. All calls block; each returns 0 (or a count) or an error:
 * ERR_IO, ERR_DISK_FULL, ERR_NOT_FOUND, ERR_PERMISSION. What is written but not synced
 * may be lost, in part or whole, by a crash; a name (create, rename, remove) is sure
 * after sync_dir.
 */
#ifndef MUSTER_DISK_H
#define MUSTER_DISK_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct disk; /* an instance: disk_posix.c, or the simulation's */

struct disk_ops {
    /* Opens for reading and writing; creates when `create`. *file is a handle. */
    int (*open)(struct disk *d, const char *name, int create, int *file);
    void (*close)(struct disk *d, int file);
    int (*write)(struct disk *d, int file, uint64_t at, const void *data, size_t len);
    /* Reads up to len bytes; *got is less only at the end of the file. */
    int (*read)(struct disk *d, int file, uint64_t at, void *data, size_t len, size_t *got);
    int (*size)(struct disk *d, int file, uint64_t *bytes);
    int (*truncate)(struct disk *d, int file, uint64_t bytes); /* shrinks, or extends with 0 */
    int (*allocate)(struct disk *d, int file, uint64_t bytes); /* reserves room; reads as 0 */
    /* The same, and later writes there need nothing but the data to be synced. */
    int (*fill)(struct disk *d, int file, uint64_t bytes);
    int (*sync)(struct disk *d, int file); /* data, and what is needed to read it back */
    int (*sync_dir)(struct disk *d);
    int (*rename)(struct disk *d, const char *from, const char *to);
    int (*remove)(struct disk *d, const char *name);
    /* All names, each ended by a NUL, one after the other. */
    int (*list)(struct disk *d, struct buf *names);
    /* What we may still write, and the size of the whole. */
    int (*room)(struct disk *d, uint64_t *free_bytes, uint64_t *total_bytes);
};

struct disk {
    const struct disk_ops *ops;
};

/* A directory of the machine; made if missing (mode 0700), and locked against other
 * processes: ERR_BUSY when one has it, ERR_PERMISSION, ERR_NOT_FOUND (its parent),
 * ERR_DISK_FULL, ERR_IO. Freed by disk_posix_free. */
int disk_posix_new(struct disk **out, const char *dir);
/* A directory that is there, for reading alone: not locked, so a server may write it at the
 * same time. What would change something is ERR_PERMISSION. */
int disk_posix_reading(struct disk **out, const char *dir);
void disk_posix_free(struct disk *d);

#endif
