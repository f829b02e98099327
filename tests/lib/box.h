/* SPDX-License-Identifier: Apache-2.0 */
/* box.h -- a machine's disk with the real store on it, in virtual time.
 *
 * What the server's writer does, and a power switch: one save or snapshot at a time, each
 * taking as long as the disk takes; a crash before it, in the middle or after. A save's answer
 * goes out when it is synced, and the core is told of its end then, a little later, or, if it
 * does not wait for it, in its next turn.
 */
#ifndef MUSTER_TESTS_BOX_H
#define MUSTER_TESTS_BOX_H

#include "sim_disk.h"
#include "store/store.h"
#include "world.h"

/* The core that saves: raft, or a member. */
struct box_core {
    void *ctx;
    bool (*save_take)(void *ctx, struct raft_save *out);
    void (*saved)(void *ctx);
    /* The save's answer, to whom it is for; then told() comes before saved(). NULL: it is not
     * sent, and the core always waits. */
    void (*tell)(void *ctx, uint64_t to, struct buf *answer);
    void (*told)(void *ctx);
    bool (*is_awaited)(void *ctx);
    bool (*job_take)(void *ctx, struct raft_job *out);
    void (*job_done)(void *ctx, int err);
    uint64_t (*sent)(void *ctx); /* the snapshot to be pinned; NULL: none ever */
    void (*turn)(void *ctx);     /* after each of them */
    void (*died)(void *ctx);     /* the disk failed: the process ends */
    /* How much room there is; is_waiting: a save waits for it. NULL: not wanted. */
    void (*room)(void *ctx, const struct store_room *room, bool is_waiting);
};

struct box {
    struct world *w;
    unsigned host;
    struct sim_disk *disk, *aside; /* aside: the one before, or NULL */
    struct store_options options;
    struct box_core core;
    uint64_t keep;           /* entries below a snapshot */
    uint32_t min_us, max_us; /* of a save */
    uint64_t slow_until_us;  /* each takes 50 times that */
    unsigned again_permille; /* that it dies while it starts, and starts again */
    bool dies_of_power;      /* box_break_at: then, not of a kill */
    uint64_t stuck_until_us; /* none ends before it */
    bool is_waiting;         /* a save waits for room */
    uint64_t look_us;        /* when the room is measured again */
    struct store *store;     /* NULL: not running */
    uint64_t life;           /* counts starts */
    bool is_clean;           /* it was stopped, not killed: the store says where it ends */
    bool busy, saving;
    bool has_run; /* what is under way is done, with run_err; nobody knows yet */
    int run_err;
    bool is_ended, is_told; /* a save: has_run, without an error; its answer is out */
    struct raft_save save;
    struct raft_job job; /* not saving */
    bool has_saved;      /* the last one: a job has its turn */
    uint64_t saves_total;
};

void box_init(struct box *b, struct world *w, unsigned host, const struct box_core *core);
void box_free(struct box *b);
/* What the store says when it opens; why as there. */
int box_open(struct box *b, const struct store_load *load, struct buf *why);
/* Likewise; world_fail() when the store refuses what a crash has left. */
void box_start(struct box *b, const struct store_load *load);
/* Something may be there to save. */
void box_work(struct box *b);
/* kill -9, or power loss; before the core is freed. */
void box_crash(struct box *b, bool power_loss);
/* It dies at the n-th change of its disk from now, in the middle of whatever that is. */
void box_break_at(struct box *b, uint64_t n, bool power_loss);
void box_fail_sync(struct box *b);
void box_fill(struct box *b, bool full); /* no room for more, or room again */
void box_replace(struct box *b);         /* another, empty disk; it is not running */
bool box_put_back(struct box *b);        /* the one before; false: there is none */
void box_stop(struct box *b);            /* as a process that is asked to end */
/* One bit changes at rest, somewhere in its files; it is not running. False: not in this one,
 * since what it does cannot be told from a torn write (store.h). world_fail() when what is
 * loaded then is something else than before, and not ERR_CORRUPT. */
bool box_rot(struct box *b);
/* Room for so many bytes more, and no further. */
void box_leave_room(struct box *b, uint64_t bytes);
void box_heal(struct box *b); /* no faults are waiting any more */

#endif
