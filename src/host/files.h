/* SPDX-License-Identifier: Apache-2.0 */
/* files.h -- small files, written whole or not at all.
 *
 * For configuration that other programs read. What must survive with the cluster's data
 * goes through store/disk.h instead.
 */
#ifndef MUSTER_HOST_FILES_H
#define MUSTER_HOST_FILES_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"

/* A reader sees the old content or the new one, also after a power loss: the bytes go to
 * PATH.new, are synced, and take the name; then the directory is synced.
 * ERR_DISK_FULL, ERR_PERMISSION, ERR_NOT_FOUND (no such directory), ERR_IO. */
int file_write(const char *path, const void *data, size_t len, mode_t mode);

/* The same without waiting for the disk: after a power loss it may be the old content, or
 * none. For what is only of use while it is new. */
int file_replace(const char *path, const void *data, size_t len, mode_t mode);

/* Adds the content to *out. ERR_NOT_FOUND, ERR_TOO_BIG (more than max_bytes; nothing is
 * added), ERR_PERMISSION, ERR_IO. */
int file_read(const char *path, size_t max_bytes, struct buf *out);

/* What errno says, in our numbers. */
int file_error(int number);

#endif
