/* SPDX-License-Identifier: Apache-2.0 */
#include "server/opening.h"

#include <stdbool.h>
#include <uv.h>

#include "base/check.h"

/* The reader is faster than the tree: so many let it be done, and read the log, before the tree
 * is. Of 1 MiB each (open.c); what waits is less than what the tree will take beside. */
#define PIECES_AHEAD 64u

struct waiting {
    bool is_begin;
    uint64_t index, size; /* of a begin */
    struct buf piece;
};

struct opening_thread {
    struct store **out;
    struct disk *disk;
    const struct store_options *options;
    const struct store_load *load;
    struct buf *why;
    int err;

    uv_mutex_t lock;
    uv_cond_t changed;
    bool is_done, is_full; /* is_full: the reader waits for room */
    unsigned first, n;     /* of those that wait; the first may be worked on */
    struct waiting ring[PIECES_AHEAD];
};

/* ---- on the thread ---- */

static struct waiting *claim(struct opening_thread *o)
{
    uv_mutex_lock(&o->lock);
    while (o->n == PIECES_AHEAD) {
        o->is_full = true;
        uv_cond_wait(&o->changed, &o->lock);
    }
    o->is_full = false;
    struct waiting *w = &o->ring[(o->first + o->n) % PIECES_AHEAD];
    uv_mutex_unlock(&o->lock);
    return w;
}

static void hand_over(struct opening_thread *o)
{
    uv_mutex_lock(&o->lock);
    o->n++;
    uv_cond_signal(&o->changed);
    uv_mutex_unlock(&o->lock);
}

static void wait_for_pieces(struct opening_thread *o)
{
    uv_mutex_lock(&o->lock);
    while (o->n > 0)
        uv_cond_wait(&o->changed, &o->lock);
    uv_mutex_unlock(&o->lock);
}

static void put_begin(void *ctx, uint64_t index, uint64_t size)
{
    struct waiting *w = claim(ctx);

    w->is_begin = true;
    w->index = index;
    w->size = size;
    hand_over(ctx);
}

static void put_piece(void *ctx, const uint8_t *data, size_t len)
{
    struct waiting *w = claim(ctx);

    w->is_begin = false;
    buf_clear(&w->piece);
    buf_add(&w->piece, data, len);
    hand_over(ctx);
}

/* The first that is told of what was found: nothing follows that would have to wait. */
static void tell_state(void *ctx, uint64_t term, uint64_t vote)
{
    struct opening_thread *o = ctx;

    wait_for_pieces(o);
    o->load->state(o->load->ctx, term, vote);
}

static void tell_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    const struct store_load *load = ((struct opening_thread *)ctx)->load;

    load->snapshot(load->ctx, index, term, members, data, len);
}

static void tell_entry(void *ctx, struct raft_entry *e)
{
    const struct store_load *load = ((struct opening_thread *)ctx)->load;

    load->entry(load->ctx, e);
}

static void run(void *ctx)
{
    struct opening_thread *o = ctx;
    const struct store_load load = {o,          tell_state, tell_snapshot,
                                    tell_entry, put_begin,  put_piece};

    o->err = store_open(o->out, o->disk, o->options, &load, o->why);
    uv_mutex_lock(&o->lock);
    o->is_done = true;
    uv_cond_signal(&o->changed);
    uv_mutex_unlock(&o->lock);
}

/* ---- on the caller's ---- */

/* NULL: no more will come. */
static const struct waiting *next(struct opening_thread *o)
{
    uv_mutex_lock(&o->lock);
    while (o->n == 0 && !o->is_done)
        uv_cond_wait(&o->changed, &o->lock);
    const struct waiting *w = o->n > 0 ? &o->ring[o->first] : NULL;
    uv_mutex_unlock(&o->lock);
    return w;
}

static void is_done_with(struct opening_thread *o)
{
    uv_mutex_lock(&o->lock);
    if (!o->is_full) /* else it is filled again at once */
        buf_free(&o->ring[o->first].piece);
    o->first = (o->first + 1) % PIECES_AHEAD;
    o->n--;
    uv_cond_signal(&o->changed);
    uv_mutex_unlock(&o->lock);
}

int opening_run(struct store **out, struct disk *disk, const struct store_options *options,
                const struct store_load *load, struct buf *why)
{
    struct opening_thread o = {
        .out = out, .disk = disk, .options = options, .load = load, .why = why};
    uv_thread_t thread;

    CHECK(uv_mutex_init(&o.lock) == 0 && uv_cond_init(&o.changed) == 0);
    CHECK(uv_thread_create(&thread, run, &o) == 0);
    for (const struct waiting *w; (w = next(&o)) != NULL; is_done_with(&o)) {
        if (w->is_begin)
            load->begin(load->ctx, w->index, w->size);
        else
            load->piece(load->ctx, w->piece.data, w->piece.len);
    }
    CHECK(uv_thread_join(&thread) == 0);
    for (unsigned i = 0; i < PIECES_AHEAD; i++)
        buf_free(&o.ring[i].piece);
    uv_cond_destroy(&o.changed);
    uv_mutex_destroy(&o.lock);
    return o.err;
}
