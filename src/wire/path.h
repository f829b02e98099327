/* SPDX-License-Identifier: Apache-2.0 */
/* path.h -- the rules for paths of znodes. */
#ifndef MUSTER_PATH_H
#define MUSTER_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* 0 if a znode may have this path, else ERR_BAD_ARGUMENTS: it must begin with '/', not end
 * with one (but for the root), have no empty, "." or ".." part, be well-formed UTF-8, and
 * have none of U+0000-001F, U+007F-009F, U+D800-F8FF, U+FFF0 and above (which leaves out
 * everything beyond the basic plane, as ZooKeeper counts in UTF-16). */
int path_validate(const char *path, size_t len);

/* Where the last part begins: just behind the last '/'; 0 if there is none. */
size_t path_name_at(const char *path, size_t len);

/* The length of the parent's path: "/" for "/a" and for "/" itself, "/a" for "/a/b".
 * The path must contain a '/'. */
size_t path_parent_len(const char *path, size_t len);

/* True if `path` is `ancestor` or below it. */
bool path_is_within(const char *path, size_t len, const char *ancestor, size_t ancestor_len);

#endif
