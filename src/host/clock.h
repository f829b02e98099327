/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h -- the two clocks of a machine.
 *
 * Leases and timeouts use clock_now_ms(): it never goes back and goes on while the machine
 * is suspended, so that a lease that ended in the meantime is seen to have ended. The wall
 * clock is for people to read, never for a decision.
 */
#ifndef MUSTER_HOST_CLOCK_H
#define MUSTER_HOST_CLOCK_H

#include <stdint.h>

uint64_t clock_now_ms(void);  /* CLOCK_BOOTTIME */
uint64_t clock_wall_ms(void); /* since 1970 */

#endif
