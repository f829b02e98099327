/* SPDX-License-Identifier: Apache-2.0 */
/* http_get.h -- one page from muster's own HTTP port.
 *
 * A library for this would be loaded into every muster process, servers too, and cost more
 * memory than all the rest; what is asked here is one GET of a server of ours.
 */
#ifndef MUSTER_HTTP_GET_H
#define MUSTER_HTTP_GET_H

#include <stdint.h>

#include "base/buf.h"

#define HTTP_GET_BYTES_MAX (4u << 20)

/* address: "HOST:PORT". Adds the body to *body. 0 and *code the HTTP status; or an error, and
 * why says what was measured ("connection refused", "no answer in 2000 ms"). */
int http_get(const char *address, const char *path, uint32_t timeout_ms, int *code,
             struct buf *body, struct buf *why);
/* What came, to the end of the connection: "HTTP/1.1 200 OK", some lines, an empty one, the
 * body. ERR_MALFORMED: it is not that. */
int http_answer_parse(struct buf *in, int *code, struct buf *body);

#endif
