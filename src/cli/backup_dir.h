/* SPDX-License-Identifier: Apache-2.0 */
/* backup_dir.h -- the directory of a backup: its manifest and its files.
 *
 * A file is written under another name, synced and renamed, and counts when the manifest names
 * it, which is replaced as a whole. So an interrupted backup leaves the last good one, and at
 * most files that nobody names, which the next one removes.
 */
#ifndef MUSTER_CLI_BACKUP_DIR_H
#define MUSTER_CLI_BACKUP_DIR_H

#include "backup/manifest.h"

#define BACKUP_MANIFEST "manifest"
#define BACKUP_NEW "new"
#define BACKUP_FILE_MAX (16ull << 30)

struct backup_dir {
    const char *path;
    int fd; /* locked, if it is to be written */
    bool has_manifest;
    struct manifest manifest;
};

/* Opens it and reads the manifest. For writing it is made (0700) and locked: ERR_BUSY, another
 * one writes to it. ERR_NOT_FOUND: no directory; or, for reading, no manifest. ERR_CORRUPT. */
int backup_dir_open(struct backup_dir *d, const char *path, bool for_writing, struct buf *why);
void backup_dir_close(struct backup_dir *d);

/* A file being written: bytes go into `out`, backup_file_flush() takes them when there are
 * many.
 */
struct backup_file {
    struct backup_dir *dir;
    int fd;
    struct buf out;
    uint64_t bytes;
    uint32_t crc;
};
int backup_file_new(struct backup_dir *d, struct backup_file *f, struct buf *why);
int backup_file_flush(struct backup_file *f, bool all, struct buf *why);
/* Names it, and makes the manifest say so, without the first `drop` files, which are removed
 * then. facts: all but bytes and crc. */
int backup_file_finish(struct backup_file *f, const struct manifest_file *facts, size_t drop,
                       struct buf *why);
void backup_file_drop(struct backup_file *f); /* it never was; harmless after finish */

/* Reads a file of the manifest, whole. ERR_NOT_FOUND, ERR_IO, ERR_CORRUPT (its length). */
int backup_dir_read(const struct backup_dir *d, const struct manifest_file *f, struct buf *out,
                    struct buf *why);

#endif
