/* SPDX-License-Identifier: Apache-2.0 */
/* chroot.h -- a client's own root: "/a" of the caller is "/root/a" of the server. */
#ifndef MUSTER_CHROOT_H
#define MUSTER_CHROOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* root: "" (then nothing changes), or a path without a "/" at its end, NUL-ended. */

/* The server's path, NUL-ended, in *out, which is overwritten. */
const char *chroot_full(const char *root, const char *path, struct buf *out);
/* The caller's path, within full or constant; NULL: it is not below the root. */
const char *chroot_strip(const char *root, const char *full);
/* "" and "/" are no root; else what path_validate() allows. */
bool chroot_is_valid(const char *root);

#endif
