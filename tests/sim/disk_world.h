/* SPDX-License-Identifier: Apache-2.0 */
/* disk_world.h -- servers whose disks are full, slow and stuck, and nothing else is wrong. */
#ifndef MUSTER_TESTS_DISK_WORLD_H
#define MUSTER_TESTS_DISK_WORLD_H

#include "runner.h"

bool disk_seed(uint64_t seed, bool verbose, char *failure, size_t room);

#endif
