/* SPDX-License-Identifier: Apache-2.0 */
/* http.h -- the HTTP port (2180): GET of a few pages, on the loop (libmicrohttpd). */
#ifndef MUSTER_HTTP_H
#define MUSTER_HTTP_H

#include <uv.h>

#include "base/buf.h"

#define HTTP_CONNECTIONS_MAX 100
#define HTTP_CONNECTIONS_FROM_ONE_MAX 25 /* of one address: who is slow must not take all */

/* What stands behind the '?': NULL, there is no such argument; "", it has no value. */
struct http_query;
const char *http_argument(const struct http_query *q, const char *name);

/* One page, or all below a path: fills body; returns the status code (200, 503, ...). */
struct http_page {
    const char *path;
    const char *type; /* Content-Type */
    unsigned (*make)(void *ctx, struct buf *body);
    /* If not NULL, instead: for all that begins with path; rest is what follows it. */
    unsigned (*make_below)(void *ctx, const char *rest, const struct http_query *q,
                           struct buf *body);
};

struct http;
/* pages: borrowed, ended by a NULL path; the first that fits answers. */
int http_start(struct http **out, uv_loop_t *loop, const char *address, uint16_t port,
               const struct http_page *pages, void *ctx, struct buf *why);
void http_stop(struct http *h);

#endif
