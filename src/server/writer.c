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
    uv_loop_t *loop;
    struct store *store;
    struct member *member;
    void (*woken)(void *ctx);
    void (*failed)(void *ctx, int err);
    void *ctx;
    uv_work_t work;
    uv_timer_t retry;
    uint64_t since_ms; /* of the present save */
    bool busy, saving, full, stopping, failing;
    struct raft_save save;      /* while saving, or waiting for room */
    struct raft_blob *snapshot; /* else */
    int err;
    uint64_t took_ms;
    struct writer_facts facts;
};

/* On the pool's thread. */
static void run(uv_work_t *work)
{
    struct writer *w = work->data;
    uint64_t began_ms = clock_now_ms();

    w->err = w->saving ? store_save(w->store, &w->save)
                       : store_snapshot(w->store, w->snapshot, WRITER_KEEP);
    w->took_ms = clock_now_ms() - began_ms;
}

static void count(struct writer *w)
{
    struct writer_facts *f = &w->facts;

    if (!w->saving) {
        summary_add(&f->snapshot_ms, w->took_ms);
        f->snapshot_wall_ms = clock_wall_ms();
        return;
    }
    if (w->save.n > 0) { /* else it is a vote */
        summary_add(&f->save_ms, w->took_ms);
        summary_add(&f->save_entries, w->save.n);
    }
    f->slow_total += w->took_ms > WRITER_SLOW_MS;
}

static void try_again(uv_timer_t *timer) { writer_work(timer->data); }

static void finished(uv_work_t *work, int status)
{
    struct writer *w = work->data;

    w->busy = false;
    if (status != 0 || w->stopping)
        return;
    w->woken(w->ctx);
    if (w->err == 0)
        count(w);
    if (!w->saving) {
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
        w->since_ms = 0;
        member_saved(w->member);
    } else if (w->err == ERR_DISK_FULL) {
        if (!w->full)
            log_event(LOG_ERROR, "disk_full", LOG_S("effect", "this server takes no writes"),
                      LOG_S("next", "free some room: it goes on by itself"));
        w->full = true;
        uv_timer_start(&w->retry, try_again, WRITER_RETRY_MS, 0);
        return;
    } else {
        w->failing = true;
        w->failed(w->ctx, w->err);
        return;
    }
    writer_work(w);
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
        w->since_ms = w->saving ? uv_now(w->loop) : 0;
    }
    w->busy = true;
    CHECK(uv_queue_work(w->loop, &w->work, run, finished) == 0);
}

struct writer *writer_new(uv_loop_t *loop, struct store *store, struct member *member,
                          void (*woken)(void *ctx), void (*failed)(void *ctx, int err),
                          void *ctx)
{
    struct writer *w = mem_new(struct writer);

    w->loop = loop;
    w->store = store;
    w->member = member;
    w->woken = woken;
    w->failed = failed;
    w->ctx = ctx;
    w->work.data = w;
    CHECK(uv_timer_init(loop, &w->retry) == 0);
    w->retry.data = w;
    return w;
}

uint64_t writer_since_ms(const struct writer *w) { return w->since_ms; }
bool writer_is_full(const struct writer *w) { return w->full; }
bool writer_is_idle(const struct writer *w) { return !w->busy; }

void writer_facts(const struct writer *w, struct writer_facts *out) { *out = w->facts; }

void writer_facts_reset(struct writer *w)
{
    w->facts = (struct writer_facts){.snapshot_wall_ms = w->facts.snapshot_wall_ms};
}

static void closed(uv_handle_t *h) { mem_free(h->data); }

void writer_stop(struct writer *w)
{
    CHECK(!w->busy);
    w->stopping = true;
    if (w->snapshot != NULL)
        raft_blob_unref(w->snapshot);
    uv_close((uv_handle_t *)&w->retry, closed);
}
