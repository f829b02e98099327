/* SPDX-License-Identifier: Apache-2.0 */
#include "server/writer.h"

#include <stdatomic.h>

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "host/clock.h"
#include "server/transport.h"

#define WRITER_KEEP                                                          \
    10000 /* entries below a snapshot, for followers that are not far behind \
           */

/* Of the thread's job. It ends in JOB_DONE, and wakes the loop if that has said to wait. */
enum job_state { JOB_NONE, JOB_UNAWAITED, JOB_AWAITED, JOB_DONE };

struct writer {
    struct writer_options options;
    uv_thread_t thread; /* until the job is done what is below is its own, else the loop's */
    uv_sem_t go;
    uv_async_t done;
    uv_timer_t retry, look;
    atomic_int state; /* enum job_state */
    bool saving, full, stopping, failing;
    bool ending;           /* the thread's next job is to end */
    bool looking;          /* this job only measures */
    bool may_tell;         /* the door is open for the save's answer */
    bool is_told;          /* it has gone out */
    struct raft_save save; /* while saving, or waiting for room */
    struct raft_job job;   /* else */
    bool has_saved;        /* what was done last: a piece of a snapshot has its turn */
    uint64_t snapshot_ms;  /* that its pieces have taken */
    int err;
    uint64_t took_ms;
    uint64_t look_ms; /* when the room is to be measured again */
    bool has_looked;  /* this job did */
    struct store_room room;
    struct store_facts store;  /* as of the end of the thread's job */
    struct writer_facts facts; /* the loop's */
};

static int state_of(const struct writer *w)
{
    return atomic_load_explicit(&w->state, memory_order_acquire);
}

static bool is_last_piece(const struct writer *w)
{
    return w->job.kind == RAFT_JOB_KEEP && w->job.at + w->job.len == w->job.size;
}

/* On the writer's thread. True: the loop has something to do because of it. */
static bool tell(struct writer *w)
{
    const struct buf *answer = w->save.answer;
    bool has_rest = false;

    if (!w->saving || w->err != 0 || answer == NULL)
        return false;
    w->is_told = w->may_tell && transport_put(w->options.door, CHANNEL_MEMBER, answer->data,
                                              answer->len, &has_rest);
    return !w->is_told || has_rest;
}

static bool run(struct writer *w)
{
    struct store *store = w->options.store;
    uint64_t began_ms = clock_now_ms();

    w->err = 0;
    w->is_told = false;
    bool has_work = MUTANT(writer_told_early) && tell(w);
    if (!w->looking)
        w->err =
            w->saving ? store_save(store, &w->save) : store_job(store, &w->job, WRITER_KEEP);
    if (!MUTANT(writer_told_early))
        has_work = tell(w);
    w->took_ms = clock_now_ms() - began_ms;
    /* A snapshot, or a disk that was full, has changed much. */
    w->has_looked = (began_ms >= w->look_ms || w->err == ERR_DISK_FULL || w->full ||
                     (!w->looking && !w->saving && is_last_piece(w))) &&
                    store_room(store, &w->room) == 0;
    if (w->has_looked)
        w->look_ms = began_ms + WRITER_LOOK_MS;
    store_facts(store, &w->store);
    return has_work || w->err != 0 || w->has_looked;
}

static void run_all(void *writer)
{
    struct writer *w = writer;

    for (;;) {
        uv_sem_wait(&w->go);
        if (w->ending)
            return;
        bool has_work = run(w);
        if (atomic_exchange(&w->state, JOB_DONE) == JOB_AWAITED || has_work)
            CHECK(uv_async_send(&w->done) == 0);
    }
}

static void count(struct writer *w)
{
    struct writer_facts *f = &w->facts;

    if (!w->saving) {
        if (w->job.kind != RAFT_JOB_KEEP)
            return;
        w->snapshot_ms = w->job.at == 0 ? w->took_ms : w->snapshot_ms + w->took_ms;
        if (is_last_piece(w)) {
            summary_add(&f->snapshot_ms, w->snapshot_ms);
            f->snapshot_wall_ms = clock_wall_ms();
        }
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

    member_room(w->options.member, &room);
}

static void woken(uv_async_t *done) { (void)done; } /* the turn follows */

void writer_look(struct writer *w)
{
    struct member *member = w->options.member;

    if (state_of(w) != JOB_DONE)
        return;
    atomic_store(&w->state, JOB_NONE);
    w->facts.store = w->store;
    w->options.woken(w->options.ctx);
    if (w->err == 0 && !w->looking)
        count(w);
    if (w->looking) {
        w->looking = false;
    } else if (!w->saving) {
        static const char *const what[] = {"written", "received", "read"};
        if (w->err != 0)
            log_event(LOG_WARNING, "snapshot_failed", LOG_U("index", w->job.index),
                      LOG_S("while", what[w->job.kind]), LOG_S("why", err_text(w->err)));
        w->has_saved = false;
        member_job_done(member, w->err);
    } else if (w->err == 0) {
        if (w->full)
            log_event(LOG_NOTICE, "disk_has_room", LOG_U("first_index", w->save.first_index));
        w->full = w->saving = false;
        w->has_saved = true;
        if (w->is_told)
            member_told(member);
        member_saved(member);
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
        w->options.failed(w->options.ctx, w->err);
        return;
    }
    if (w->has_looked)
        tell_room(w);
}

static void start(struct writer *w, enum job_state state)
{
    atomic_store(&w->state, (int)state);
    uv_sem_post(&w->go);
}

/* While nothing is saved for a while the room is measured all the same. */
static void look(uv_timer_t *timer)
{
    struct writer *w = timer->data;

    if (state_of(w) != JOB_NONE || w->stopping || w->failing || w->full ||
        clock_now_ms() < w->look_ms)
        return;
    w->looking = true;
    start(w, JOB_AWAITED);
}

/* Saves and pieces in turn, when there are both. */
static bool take(struct writer *w)
{
    struct member *member = w->options.member;

    store_pin(w->options.store, member_sent_snapshot(member));
    if (w->has_saved && member_job_take(member, &w->job))
        return true;
    w->saving = member_save_take(member, &w->save);
    w->may_tell = w->saving && w->save.answer != NULL &&
                  w->options.lend(w->options.ctx, w->save.answer_to);
    return w->saving || (!w->has_saved && member_job_take(member, &w->job));
}

/* If it has just ended, nobody has been woken. */
void writer_wait(struct writer *w)
{
    int unawaited = JOB_UNAWAITED;

    if (!atomic_compare_exchange_strong(&w->state, &unawaited, JOB_AWAITED) &&
        unawaited == JOB_DONE)
        CHECK(uv_async_send(&w->done) == 0);
}

void writer_work(struct writer *w)
{
    if (w->stopping || w->failing || (w->full && uv_is_active((uv_handle_t *)&w->retry)))
        return;
    if (state_of(w) != JOB_NONE) {
        /* Somebody may have begun to wait for the save that runs. */
        if (member_save_is_awaited(w->options.member) && !MUTANT(writer_wait_unseen))
            writer_wait(w);
        return;
    }
    if (!w->full && !take(w))
        return;
    start(w, w->saving && !member_save_is_awaited(w->options.member) ? JOB_UNAWAITED
                                                                     : JOB_AWAITED);
}

struct writer *writer_new(const struct writer_options *options)
{
    struct writer *w = mem_new(struct writer);

    w->options = *options;
    store_facts(options->store, &w->facts.store);
    CHECK(uv_timer_init(options->loop, &w->retry) == 0);
    CHECK(uv_timer_init(options->loop, &w->look) == 0);
    CHECK(uv_async_init(options->loop, &w->done, woken) == 0);
    w->retry.data = w->look.data = w->done.data = w;
    CHECK(uv_sem_init(&w->go, 0) == 0);
    CHECK(uv_thread_create(&w->thread, run_all, w) == 0);
    uv_timer_start(&w->look, look, 0, WRITER_LOOK_MS);
    return w;
}

bool writer_is_full(const struct writer *w) { return w->full; }
bool writer_is_idle(const struct writer *w) { return state_of(w) == JOB_NONE; }

void writer_facts(const struct writer *w, struct writer_facts *out) { *out = w->facts; }

void writer_facts_reset(struct writer *w)
{
    w->facts = (struct writer_facts){.snapshot_wall_ms = w->facts.snapshot_wall_ms,
                                     .store = w->facts.store};
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
    CHECK(writer_is_idle(w));
    w->stopping = w->ending = true;
    uv_sem_post(&w->go);
    CHECK(uv_thread_join(&w->thread) == 0);
    uv_sem_destroy(&w->go);
    uv_close((uv_handle_t *)&w->look, look_closed);
}
