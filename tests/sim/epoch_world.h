/* SPDX-License-Identifier: Apache-2.0 */
/* epoch_world.h -- a quorum that is lost for good, and a survivor: see epoch_world.c. */
#ifndef MUSTER_TESTS_EPOCH_WORLD_H
#define MUSTER_TESTS_EPOCH_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool epoch_seed(uint64_t seed, bool verbose, char *failure, size_t room);

#endif
