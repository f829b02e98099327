/* SPDX-License-Identifier: Apache-2.0 */
/* writer.h -- the store, used from a thread of its own, one job at a time: not from libuv's
 * pool, where each job is another thread's, and a look-up of a name may be in front of it.
 *
 * While a save is on the disk the loop goes on, and what comes meanwhile is the next save:
 * that is the group commit.
 *
 * A follower's answer goes to the leader from here, as soon as the disk has what it is about:
 * the loop need not wake up for it. It is woken when somebody waits for the end of the save
 * (raft_save_is_awaited()); else it is told of it in its next turn.
 */
#ifndef MUSTER_WRITER_H
#define MUSTER_WRITER_H

#include <uv.h>

#include "base/summary.h"
#include "server/door.h"
#include "server/member.h"
#include "store/store.h"

#define WRITER_RETRY_MS 500 /* a full disk is tried again after this */
#define WRITER_LOOK_MS 1000 /* how often the room on the disk is measured */

struct writer_options {
    uv_loop_t *loop;
    struct store *store;
    struct member *member;
    void *ctx;
    void (*woken)(void *ctx); /* before each call into the member */
    /* The disk has reported an error; the process must end (what is on the disk is unknown
     * until it is read again). */
    void (*failed)(void *ctx, int err);
    /* Opens the door to a peer: see transport_lend(). */
    bool (*lend)(void *ctx, uint64_t to);
    struct door *door;
};

struct writer;
struct writer *writer_new(const struct writer_options *options);
void writer_look(struct writer *w); /* at the beginning of a turn: what has ended meanwhile */
/* At its end, when all is sent: starts the next job, if there is one and none runs. */
void writer_work(struct writer *w);
void writer_wait(struct writer *w);          /* the loop is woken at the end of what runs */
bool writer_is_full(const struct writer *w); /* the disk is full: a save waits */
void writer_stop(struct writer *w);          /* freed when its handles are closed */
bool writer_is_idle(const struct writer *w);

#define WRITER_SLOW_MS 1000 /* a save that takes longer is counted (ZooKeeper's threshold) */

struct writer_facts {
    struct summary save_ms, save_entries, snapshot_ms;
    uint64_t last_save_ms;
    uint64_t slow_total;
    uint64_t snapshot_wall_ms; /* when the newest was written; 0: none since the start */
    /* As of the last job that has ended: while one runs, the store is the thread's. */
    struct store_facts store;
};
void writer_facts(const struct writer *w, struct writer_facts *out);
void writer_facts_reset(struct writer *w); /* but snapshot_wall_ms, store */

#endif
