/* SPDX-License-Identifier: Apache-2.0 */
/* status.h -- facts -> the verdict and the JSON of /status. A core.
 *
 * The first line is the verdict, made by status_verdict() from everything that is not good:
 *   OK                                      exit 0
 *   OK, but one more loss stops writing     exit 0
 *   DEGRADED: why; why                      exit 3
 *   DOWN: why; why                          exit 4: something of the site is not served
 */
#ifndef MUSTER_STATUS_H
#define MUSTER_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATUS_MEMBERS_MAX 15

/* What the server of this machine knows about the ensemble; filled by the shell. */
struct status_member {
    const char *name, *address;
    bool is_voter;
    bool is_reachable; /* heard within the election timeout; this server itself: true */
    uint64_t age_ms;   /* since it was last heard; UINT64_MAX: never */
};
struct status_server {
    const char *role;   /* "leader", "follower", "candidate", "learner" */
    const char *leader; /* its name; NULL: none known */
    uint64_t term, commit_index;
    bool has_quorum; /* a write would be answered now, as far as this server knows */
    struct status_member members[STATUS_MEMBERS_MAX];
    unsigned members_n;
};

#endif
