/* SPDX-License-Identifier: Apache-2.0 */
/* sim_disk.h -- a struct disk in memory that loses what a real one may lose.
 *
 * Reads see what was written (the kernel's cache). A power loss keeps what was synced, and
 * of the rest a part that chance picks: each write whole, not at all, or torn between
 * sectors or bytes; each name change kept or not. A sync that fails has written a part and
 * forgets the rest, as Linux does: reads go on showing what no disk has.
 * Killing a process is nothing here: its cache stays.
 */
#ifndef MUSTER_TESTS_SIM_DISK_H
#define MUSTER_TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/disk.h"

struct sim_disk;
struct sim_disk *sim_disk_new(uint64_t seed);
void sim_disk_free(struct sim_disk *d);
struct disk *sim_disk_disk(struct sim_disk *d);
struct sim_disk *sim_disk_copy(const struct sim_disk *d, uint64_t seed);

void sim_disk_power_loss(struct sim_disk *d);
/* The process that used it is gone; ends a stop as well. */
void sim_disk_killed(struct sim_disk *d);

/* All files together may have so many bytes; UINT64_MAX at first. */
void sim_disk_set_capacity(struct sim_disk *d, uint64_t bytes);
uint64_t sim_disk_used(const struct sim_disk *d);
/* Allocation fails as on a full disk once, after n more that succeed. */
void sim_disk_full_after(struct sim_disk *d, uint64_t n);
/* After n more changes (writes, syncs, names) nothing reaches the disk: that call and all
 * following fail with ERR_IO, the first perhaps half done, until the next power loss. */
void sim_disk_stop_after(struct sim_disk *d, uint64_t n);
bool sim_disk_is_stopped(const struct sim_disk *d);
/* The n-th sync from now fails (1: the next); the disk works on. */
void sim_disk_fail_sync(struct sim_disk *d, uint64_t n);

/* Counters: changes (as for stop_after), syncs of files, changes of names. */
uint64_t sim_disk_changes(const struct sim_disk *d);
uint64_t sim_disk_syncs(const struct sim_disk *d);
uint64_t sim_disk_names(const struct sim_disk *d); /* made, changed, removed */

/* Behind the back of the store: the names and bytes, as reads see them. */
void sim_disk_put(struct sim_disk *d, const char *name, const void *data, size_t len);
bool sim_disk_get(const struct sim_disk *d, const char *name, const uint8_t **data,
                  size_t *len);
void sim_disk_flip(struct sim_disk *d, const char *name, uint64_t bit);
void sim_disk_remove(struct sim_disk *d, const char *name);
/* rm -rf while it is used: all names are gone; what is open stays open. */
void sim_disk_wipe(struct sim_disk *d);
const char *sim_disk_name(const struct sim_disk *d, size_t n); /* NULL: no more */

#endif
