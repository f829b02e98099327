/* SPDX-License-Identifier: Apache-2.0 */
#include "client/chroot.h"

#include <string.h>

#include "wire/path.h"

const char *chroot_full(const char *root, const char *path, struct buf *out)
{
    buf_clear(out);
    buf_add_str(out, root);
    if (*root == 0 || strcmp(path, "/") != 0)
        buf_add_str(out, path);
    return buf_text(out);
}

const char *chroot_strip(const char *root, const char *full)
{
    size_t len = strlen(root);

    if (strncmp(full, root, len) != 0)
        return NULL;
    if (len > 0 && full[len] == 0)
        return "/";
    return full[len] == '/' ? full + len : NULL;
}

bool chroot_is_valid(const char *root)
{
    size_t len = strlen(root);

    return len > 1 && path_validate(root, len) == 0;
}
