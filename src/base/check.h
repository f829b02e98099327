/* SPDX-License-Identifier: Apache-2.0 */
/* check.h -- invariants, always on, also in production.
 *
 * CHECK() is for what only a bug of ours can break. What a peer, an operator,
 * the disk or the clock can bring about is an error and gets a return code.
 */
#ifndef MUSTER_CHECK_H
#define MUSTER_CHECK_H

_Noreturn void check_failed(const char *file, int line, const char *what);

#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))
#define UNREACHABLE(why) check_failed(__FILE__, __LINE__, why)

#endif
