/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h -- says by name which of the member's limits has refused or let wait. */
#ifndef MUSTER_LIMITS_H
#define MUSTER_LIMITS_H

#include "server/member.h"

/* Zero-initialised is valid. */
struct limits_told {
    uint64_t times[MEMBER_LIMITS_N]; /* of each, when it was last told */
    uint64_t again_ms[MEMBER_LIMITS_N];
};

const char *limits_name(enum member_limit limit);
/* Logs what has been hit since; each at most once in LIMITS_AGAIN_MS. */
void limits_tell(struct limits_told *told, const struct member *m, uint64_t now_ms);

#define LIMITS_AGAIN_MS 1000

#endif
