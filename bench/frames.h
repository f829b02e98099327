/* SPDX-License-Identifier: Apache-2.0 */
/* frames.h -- requests of the ZooKeeper protocol as whole frames, appended to a buffer.
 *
 * All have xid 0, so that a frame can be made once and sent many times: frame_number() puts the
 * right one into the frame that begins at `at`. What is created is anyone's.
 */
#ifndef MUSTER_BENCH_FRAMES_H
#define MUSTER_BENCH_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/wire.h"

void frame_number(struct buf *out, size_t at, int32_t xid);

void frame_create(struct buf *out, const char *path, const void *data, size_t len,
                  enum wire_create_mode mode);
void frame_delete(struct buf *out, const char *path);
void frame_set(struct buf *out, const char *path, const void *data, size_t len);
void frame_path(struct buf *out, enum wire_op op, const char *path); /* sync */
/* exists, getData, getChildren */
void frame_read(struct buf *out, enum wire_op op, const char *path, bool watch);
void frame_add_watch(struct buf *out, const char *path, int32_t mode);
void frame_multi_sets(struct buf *out, const char *const *paths, size_t n, const void *data,
                      size_t len);
void frame_close(struct buf *out);
void frame_ping(struct buf *out);                        /* it has its own xid */
void frame_connect(struct buf *out, int32_t timeout_ms); /* a new session; it has none */

#endif
