/* SPDX-License-Identifier: Apache-2.0 */
/* reserve.c -- what a store does when the disk is nearly full.
 *
 * A file beside the log holds room that nobody else can take. It is made smaller, step by
 * step, when a save finds no room, and grown again when there is some. Before that goes what
 * can be spared: the segments kept to be used again (which count as room everywhere here), all
 * snapshots but the newest, and the log that only they need. Last goes a snapshot of which
 * the leader has sent a part: it begins anew, if it is still wanted. One of our own stays: when
 * it is whole, the log behind it goes.
 */
#include "base/err.h"
#include "base/mutant.h"
#include "store/state.h"

#define RESERVE_STEPS 8u      /* it is spent in so many pieces */
#define RESERVE_DISK_PART 16u /* it takes at most this part of the disk */

int reserve_open(struct store *s)
{
    int err = s->disk->ops->open(s->disk, RESERVE_NAME, 0, &s->reserve_file);

    if (err == ERR_NOT_FOUND)
        return 0;
    return err == 0 ? s->disk->ops->size(s->disk, s->reserve_file, &s->reserve) : err;
}

static uint64_t step_of(const struct store *s)
{
    uint64_t whole = s->reserve_wanted > s->reserve ? s->reserve_wanted : s->reserve;

    return whole / RESERVE_STEPS + 1;
}

static bool spend(struct store *s, uint64_t floor)
{
    uint64_t step = step_of(s), left = s->reserve > step ? s->reserve - step : 0;

    if (s->reserve <= floor || s->reserve_file < 0 || MUTANT(disk_reserve_kept))
        return false;
    if (left < floor)
        left = floor;
    if (s->disk->ops->truncate(s->disk, s->reserve_file, left) != 0)
        return false;
    s->reserve = left;
    s->is_tight = true;
    return true;
}

/* All but the newest snapshot, once that has been read back whole. */
static bool spare_snapshots(struct store *s)
{
    struct snapshot_file newest = {0};
    const char *why;
    size_t had = s->snapshots_n;

    if (had < 2)
        return false;
    if (snapshot_file_check(s->disk, s->snapshots[had - 1], &newest, &why, NULL) != 0)
        return false;
    s->is_tight = true;
    return store_clean(s, s->snapshots[had - 1]) == 0 && s->snapshots_n < had;
}

bool reserve_relieve(struct store *s, bool is_log)
{
    /* What is no log may come again, and is often large: half is kept for deletions. */
    return spare_drop(s) || spare_snapshots(s) ||
           spend(s, is_log ? 0 : s->reserve_wanted / 2) || (is_log && pieces_drop_received(s));
}

static void rebuild(struct store *s, uint64_t *free_bytes)
{
    uint64_t keep = s->reserve_wanted / 2, bytes; /* the log goes on meanwhile */

    if (s->reserve >= s->reserve_wanted || *free_bytes <= keep)
        return;
    bytes = s->reserve_wanted - s->reserve;
    if (bytes > *free_bytes - keep)
        bytes = *free_bytes - keep;
    if (bytes < step_of(s) && s->reserve + bytes < s->reserve_wanted)
        return;
    if (s->reserve_file < 0 &&
        s->disk->ops->open(s->disk, RESERVE_NAME, 1, &s->reserve_file) != 0)
        return;
    int err = s->disk->ops->allocate(s->disk, s->reserve_file, s->reserve + bytes);
    if (err == ERR_DISK_FULL && spare_drop(s))
        err = s->disk->ops->allocate(s->disk, s->reserve_file, s->reserve + bytes);
    if (err != 0)
        return; /* somebody else was quicker: another time */
    s->reserve += bytes;
    *free_bytes -= bytes;
}

int store_room(struct store *s, struct store_room *out)
{
    uint64_t total;
    int err = s->disk->ops->room(s->disk, &out->free_bytes, &total);

    if (err != 0)
        return err;
    out->free_bytes += spare_bytes(s);
    if (s->reserve_wanted == 0) {
        s->reserve_wanted = total / RESERVE_DISK_PART;
        if (s->reserve_wanted > s->options.reserve_bytes)
            s->reserve_wanted = s->options.reserve_bytes;
    }
    rebuild(s, &out->free_bytes);
    s->is_tight = s->reserve + out->free_bytes < STORE_TIGHT_RESERVES * s->reserve_wanted;
    if (s->is_tight) /* the room is for everybody: what else wants to write finds it free */
        (void)spare_drop(s);
    out->reserve_bytes = s->reserve;
    out->wanted_bytes = s->reserve_wanted;
    return 0;
}
