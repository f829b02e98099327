/* SPDX-License-Identifier: Apache-2.0 */
/* raft_world.h -- raft and the store alone: see raft_world.c. */
#ifndef MUSTER_TESTS_RAFT_WORLD_H
#define MUSTER_TESTS_RAFT_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool raft_seed(uint64_t seed, bool verbose, char *failure, size_t room);

#endif
