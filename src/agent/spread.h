/* SPDX-License-Identifier: Apache-2.0 */
/* spread.h -- which machine each virtual address belongs on. A core.
 *
 * Every machine computes the same from the same view; where views differ for a moment the
 * tree still lets only one claim be made. Rules:
 * - even: the shares of the machines that can differ by one at most;
 * - few moves: a holder within its share keeps what it has;
 * - what nobody holds is claimed at once by the machine it belongs on, and after a while
 *   (by rank) by anybody;
 * - moving an address that is held is done by its holder: one at a time in the whole site,
 *   when nothing has changed for a lease, and to a machine that has been here for a lease.
 */
#ifndef MUSTER_SPREAD_H
#define MUSTER_SPREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/address.h"

#define SPREAD_MACHINES_MAX 32
#define SPREAD_ADDRESSES_MAX SITE_ADDRESSES_MAX
#define SPREAD_NOBODY (-1)
#define SPREAD_SOMEBODY (-2) /* claimed by a session that belongs to no machine we know */

struct spread_view {
    unsigned machines;  /* that live, in order of name */
    unsigned addresses; /* of the site, in its order */
    unsigned me;        /* this machine: always among them */
    uint64_t name_hash[SPREAD_MACHINES_MAX];
    uint64_t can[SPREAD_MACHINES_MAX]; /* bit i: it can take address i */
    int holder[SPREAD_ADDRESSES_MAX];  /* a machine, NOBODY or SOMEBODY */
};

/* target[i]: the machine address i belongs on. Pure; `me` is not looked at. An address that
 * nobody can take is given out as if all could: better tried than left. */
void spread_assign(const struct spread_view *v, int target[SPREAD_ADDRESSES_MAX]);

/* What one machine remembers between steps. Zero-initialised is valid; set it to zero when
 * the site's addresses change. */
struct spread {
    uint64_t unheld_since_ms[SPREAD_ADDRESSES_MAX]; /* 0: it is held */
    struct {
        uint64_t name_hash, since_ms;
    } here[SPREAD_MACHINES_MAX];
    unsigned here_n;
    struct spread_view last;
    bool has_last;
    uint64_t changed_ms; /* when the view last changed */
    uint64_t due_ms;     /* when time alone changes a wish; SPREAD_NEVER */
};
#define SPREAD_NEVER UINT64_MAX

/* Takes the view at this time and gives this machine's wishes. now_ms > 0. */
void spread_step(struct spread *s, const struct spread_view *v, uint64_t now_ms,
                 uint32_t lease_ms, enum address_wish wish[SPREAD_ADDRESSES_MAX]);

#endif
