/* SPDX-License-Identifier: Apache-2.0 */
#include "server/writer.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/clock.h"

#define WRITER_KEEP                                                          \
    10000 /* entries below a snapshot, for followers that are not far behind \
           */

struct writer {
    struct store *store;
    struct member *member;
    void (*woken)(void *ctx);
    void (*failed)(void *ctx, int err);
    void *ctx;
    uv_thread_t thread; /* between go and done the job below is its own, else the loop's */
    uv_sem_t go;
    uv_async_t done;
    uv_timer_t retry, look;
    bool busy, saving, full, stopping, failing;
    bool ending;                /* the thread's next job is to end */
    bool looking;               /* this job only measures */
    struct raft_save save;      /* while saving, or waiting for room */
    struct raft_blob *snapshot; /* else */
    int err;
    uint64_t took_ms;
    uint64_t look_ms; /* when the room is to be measured again */
    bool has_looked;  /* this job did */
    struct store_room room;
    struct writer_facts facts;
};

/* On the writer's thread. */
static void run(struct writer *w)
{
    uint64_t began_ms = clock_now_ms();

    w->err = 0;
    if (!w->looking)
        w->err = w->saving ? store_save(w->store, &w->save)
                           : store_snapshot(w->store, w->snapshot, WRITER_KEEP);
    w->took_ms = clock_now_ms() - began_ms;
    /* A snapshot, or a disk that was full, has changed much. */
    w->has_looked = (began_ms >= w->look_ms || w->err == ERR_DISK_FULL || w->full ||
                     (!w->looking && !w->saving)) &&
                    store_room(w->store, &w->room) == 0;
    if (w->has_looked)
        w->look_ms = began_ms + WRITER_LOOK_MS;
}

static void run_all(void *writer)
{
    struct writer *w = writer;

    for (;;) {
        uv_sem_wait(&w->go);
        if (w->ending)
            return;
        run(w);
        CHECK(uv_async_send(&w->done) == 0);
    }
}

static void count(struct writer *w)
{
    struct writer_facts *f = &w->facts;

    if (!w->saving) {
        summary_add(&f->snapshot_ms, w->took_ms);
        f->snapshot_wall_ms = clock_wall_ms();
        return;
    }
    f->last_save_ms = w->took_ms;
    if (w->save.n > 0) { /* else it is a vote */
        summary_add(&f->save_ms, w->took_ms);
        summary_add(&f->save_entries, w->save.n);
    }
    f->slow_total += w->took_ms > WRITER_SLOW_MS;
}

static void try_again(uv_timer_t *timer) { writer_work(timer->data); }

static void tell_room(struct writer *w)
{
    const struct member_room room = {.free_bytes = w->room.free_bytes,
                                     .reserve_bytes = w->room.reserve_bytes,
                                     .wanted_bytes = w->room.wanted_bytes,
                                     .is_waiting = w->full};

    member_room(w->member, &room);
}

static void finished(uv_async_t *done)
{
    struct writer *w = done->data;

    w->busy = false;
    w->woken(w->ctx);
    if (w->err == 0 && !w->looking)
        count(w);
    if (w->looking) {
        w->looking = false;
    } else if (!w->saving) {
        uint64_t index = w->snapshot->index;
        raft_blob_unref(w->snapshot);
        w->snapshot = NULL;
        if (w->err != 0)
            log_event(LOG_WARNING, "snapshot_failed", LOG_U("index", index),
                      LOG_S("why", err_text(w->err)));
        member_snapshot_saved(w->member, index, w->err);
    } else if (w->err == 0) {
        if (w->full)
            log_event(LOG_NOTICE, "disk_has_room", LOG_U("first_index", w->save.first_index));
        w->full = w->saving = false;
        member_saved(w->member);
    } else if (w->err == ERR_DISK_FULL) {
        if (!w->full)
            log_event(LOG_ERROR, "disk_full", LOG_U("free_bytes", w->room.free_bytes),
                      LOG_U("reserve_bytes", w->room.reserve_bytes),
                      LOG_S("effect", "this server takes no writes"),
                      LOG_S("next", "free some room: it goes on by itself"));
        w->full = true;
        tell_room(w);
        uv_timer_start(&w->retry, try_again, WRITER_RETRY_MS, 0);
        return;
    } else {
        w->failing = true;
        w->failed(w->ctx, w->err);
        return;
    }
    if (w->has_looked)
        tell_room(w);
    writer_work(w);
}

static void start(struct writer *w)
{
    w->busy = true;
    uv_sem_post(&w->go);
}

/* While nothing is saved for a while the room is measured all the same. */
static void look(uv_timer_t *timer)
{
    struct writer *w = timer->data;

    if (w->busy || w->stopping || w->failing || w->full || clock_now_ms() < w->look_ms)
        return;
    w->looking = true;
    start(w);
}

void writer_work(struct writer *w)
{
    if (w->busy || w->stopping || w->failing ||
        (w->full && uv_is_active((uv_handle_t *)&w->retry)))
        return;
    if (!w->full) {
        w->saving = member_save_take(w->member, &w->save);
        if (!w->saving && (w->snapshot = member_snapshot_take(w->member)) == NULL)
            return;
    }
    start(w);
}

struct writer *writer_new(uv_loop_t *loop, struct store *store, struct member *member,
                          void (*woken)(void *ctx), void (*failed)(void *ctx, int err),
                          void *ctx)
{
    struct writer *w = mem_new(struct writer);

    w->store = store;
    w->member = member;
    w->woken = woken;
    w->failed = failed;
    w->ctx = ctx;
    CHECK(uv_timer_init(loop, &w->retry) == 0);
    CHECK(uv_timer_init(loop, &w->look) == 0);
    CHECK(uv_async_init(loop, &w->done, finished) == 0);
    w->retry.data = w->look.data = w->done.data = w;
    CHECK(uv_sem_init(&w->go, 0) == 0);
    CHECK(uv_thread_create(&w->thread, run_all, w) == 0);
    uv_timer_start(&w->look, look, 0, WRITER_LOOK_MS);
    return w;
}

bool writer_is_full(const struct writer *w) { return w->full; }
bool writer_is_idle(const struct writer *w) { return !w->busy; }

void writer_facts(const struct writer *w, struct writer_facts *out) { *out = w->facts; }

void writer_facts_reset(struct writer *w)
{
    w->facts = (struct writer_facts){.snapshot_wall_ms = w->facts.snapshot_wall_ms};
}

static void closed(uv_handle_t *h) { mem_free(h->data); }

static void retry_closed(uv_handle_t *h)
{
    struct writer *w = h->data;

    uv_close((uv_handle_t *)&w->done, closed);
}

static void look_closed(uv_handle_t *h)
{
    struct writer *w = h->data;

    uv_close((uv_handle_t *)&w->retry, retry_closed);
}

void writer_stop(struct writer *w)
{
    CHECK(!w->busy);
    w->stopping = w->ending = true;
    uv_sem_post(&w->go);
    CHECK(uv_thread_join(&w->thread) == 0);
    uv_sem_destroy(&w->go);
    if (w->snapshot != NULL)
        raft_blob_unref(w->snapshot);
    uv_close((uv_handle_t *)&w->look, look_closed);
}
