/* SPDX-License-Identifier: Apache-2.0 */
/* check.h -- makes health checks (agent/service.h says what each type means).
 *
 * Named host/check.h; base/check.h is another thing. HTTP: the request is
 * "GET path HTTP/1.1" to the address itself, and the status line of the first final answer
 * decides; redirects are not followed. What a server sends is limited and never trusted.
 * There is no HTTP library in it: one line of an answer is read, and libcurl would make the
 * process 7 MB larger.
 */
#ifndef MUSTER_HOST_CHECK_H
#define MUSTER_HOST_CHECK_H

#include <stdint.h>
#include <uv.h>

#include "agent/service.h"

#define CHECKS_MAX 512             /* under way at once; more are ERR_BUSY */
#define CHECKS_PROGRAMS_MAX 16     /* of them running programs; others wait, in their time */
#define CHECK_HEAD_BYTES_MAX 16384 /* of an HTTP answer until its status is known */
#define CHECK_REST_BYTES_MAX                                         \
    65536 /* that are read after it, so that the server can end well \
           */

struct checks;
/* The result is borrowed for the call. It comes from the loop, never from within. */
typedef void check_done(void *ctx, uint64_t op, const struct service_result *r);

struct checks *checks_new(uv_loop_t *loop, check_done *done, void *ctx);
/* Ends all that are under way without a result; frees in later turns of the loop. */
void checks_close(struct checks *c);

/* A result comes within timeout_ms. op: the caller's name for it. */
int checks_run(struct checks *c, uint64_t op, const struct service_check *spec);
void checks_stop(struct checks *c, uint64_t op); /* no result; unknown ops are fine */

#endif
