/* SPDX-License-Identifier: Apache-2.0 */
#include "host/clock.h"

#include <time.h>

#include "base/check.h"

static uint64_t read_ms(clockid_t clock)
{
    struct timespec t;

    CHECK(clock_gettime(clock, &t) == 0);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_now_ms(void) { return read_ms(CLOCK_BOOTTIME); }

uint64_t clock_wall_ms(void) { return read_ms(CLOCK_REALTIME); }
