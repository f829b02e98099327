/* SPDX-License-Identifier: Apache-2.0 */
/* unix_ask.h -- one question to a program's unix socket: connect, write a line, read to the
 * end. What HAProxy's sockets speak.
 */
#ifndef MUSTER_HOST_UNIX_ASK_H
#define MUSTER_HOST_UNIX_ASK_H

#include <stdint.h>
#include <uv.h>

#define UNIX_ASK_ANSWER_MAX 65536 /* more is ERR_TOO_BIG */

struct unix_ask;
/* err: 0, ERR_REFUSED (nobody listens), ERR_TIMED_OUT, ERR_CONNECTION_LOST, ERR_TOO_BIG,
 * ERR_SYSTEM. The answer is NUL-ended and borrowed; it may hold anything. */
typedef void unix_ask_done(void *ctx, int err, char *answer);

/* The callback comes from the loop, never from within. */
struct unix_ask *unix_ask(uv_loop_t *loop, const char *path, const char *line,
                          uint32_t timeout_ms, unix_ask_done *done, void *ctx);
void unix_ask_stop(struct unix_ask *q); /* no callback; not after it */

#endif
