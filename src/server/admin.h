/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h -- the pages of ZooKeeper's AdminServer: the words as JSON, by GET.
 *
 * As there, also those that change something (stat_reset, ...) are GETs and ask nobody who
 * he is: the HTTP port is for the site's machines and monitoring only.
 */
#ifndef MUSTER_ADMIN_H
#define MUSTER_ADMIN_H

#include "server/words.h"

/* Links to all commands, as HTML; url: below which they are. */
void admin_list(const char *url, struct buf *out);
/* One command by one of its names, as JSON; trace_mask: that argument, or NULL. What it cannot
 * do stands in "error"; the answer is a page all the same. */
void admin_command(const struct words *w, const char *name, const char *trace_mask,
                   struct buf *out);

#endif
