/* SPDX-License-Identifier: Apache-2.0 */
#include "box.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/reached.h"

enum { FULL_RETRY_US = 500000, SLOW_MAX_US = 1000000, LOOK_US = 1000000, LATE_MAX_US = 2000 };
enum { AGAIN_MAX = 3, AGAIN_CHANGES = 12 };

void box_init(struct box *b, struct world *w, unsigned host, const struct box_core *core)
{
    *b = (struct box){.w = w, .host = host, .core = *core, .min_us = 100, .max_us = 3000};
    b->disk = sim_disk_new(rng_next(&w->rng));
    b->options = (struct store_options){.segment_bytes = 16384, .salt = w->seed};
}

static void stop(struct box *b)
{
    b->busy = b->saving = b->is_waiting = b->has_run = b->dies_of_power = false;
    b->is_ended = b->is_told = false;
    store_close(b->store);
    b->store = NULL;
    b->life++;
}

void box_free(struct box *b)
{
    if (b->store != NULL)
        stop(b);
    sim_disk_free(b->disk);
    sim_disk_free(b->aside);
}

void box_replace(struct box *b)
{
    CHECK(b->store == NULL);
    sim_disk_free(b->aside);
    b->aside = b->disk;
    b->disk = sim_disk_new(rng_next(&b->w->rng));
}

static void skip_state(void *ctx, uint64_t term, uint64_t vote)
{
    (void)ctx, (void)term, (void)vote;
}

static void skip_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    (void)ctx, (void)index, (void)term, (void)members, (void)data, (void)len;
}

static void skip_entry(void *ctx, struct raft_entry *e) { (void)ctx, (void)e; }

/* It dies while it makes good what it finds, or just after; nothing has gone out yet. */
static void die_again(struct box *b)
{
    static const struct store_load nothing = {NULL,       skip_state, skip_snapshot,
                                              skip_entry, NULL,       NULL};
    struct buf why = {0};
    struct store *s = NULL;

    sim_disk_stop_after(b->disk, world_below(b->w, AGAIN_CHANGES));
    int err = store_open(&s, sim_disk_disk(b->disk), &b->options, &nothing, &why);
    b->is_clean = false;
    buf_free(&why);
    if (err != 0 && !sim_disk_is_stopped(b->disk))
        return; /* it will not open the next time either */
    if (err == 0) {
        sim_disk_stop_after(b->disk, 0);
        store_close(s);
    }
    if (world_chance(b->w, 700))
        sim_disk_power_loss(b->disk);
    else
        sim_disk_killed(b->disk);
}

bool box_put_back(struct box *b)
{
    struct sim_disk *disk = b->aside;

    CHECK(b->store == NULL);
    if (disk == NULL)
        return false;
    b->aside = b->disk;
    b->disk = disk;
    return true;
}

static void look(struct box *b)
{
    struct store_room room;

    if (b->core.room == NULL || b->w->now_us < b->look_us || store_room(b->store, &room) != 0)
        return;
    b->look_us = b->w->now_us + LOOK_US;
    b->core.room(b->core.ctx, &room, b->is_waiting);
}

static void look_due(void *ctx, uint64_t life, uint64_t unused)
{
    struct box *b = ctx;

    (void)unused;
    if (life != b->life || b->store == NULL)
        return;
    if (!b->busy && !world_is_frozen(b->w, b->host)) {
        look(b);
        b->core.turn(b->core.ctx);
    }
    if (life == b->life)
        world_at(b->w, b->w->now_us + LOOK_US, look_due, b, life, 0);
}

int box_open(struct box *b, const struct store_load *load, struct buf *why)
{
    CHECK(b->store == NULL);
    for (unsigned i = 0; i < AGAIN_MAX && world_chance(b->w, b->again_permille); i++)
        die_again(b);
    int err = store_open(&b->store, sim_disk_disk(b->disk), &b->options, load, why);
    if (err == 0) {
        b->life++;
        b->is_clean = false;
        b->look_us = 0;
        if (b->core.room != NULL)
            world_at(b->w, b->w->now_us, look_due, b, b->life, 0);
    }
    return err;
}

void box_start(struct box *b, const struct store_load *load)
{
    struct buf why = {0};
    int err = box_open(b, load, &why);

    if (err != 0)
        world_fail(b->w, "%s: the store does not open: %s", b->w->hosts[b->host].name,
                   buf_text(&why));
    buf_free(&why);
}

/* ---- rot ---- */

/* What of a store counts. A damaged snapshot may leave its place to an older one, with more
 * of the log behind it: the same. */
struct content {
    uint64_t term, vote, last, last_term;
    uint64_t snapshot, snapshot_hash;
    uint64_t *hashes; /* of the entries behind it */
    size_t cap;
};

static void content_state(void *ctx, uint64_t term, uint64_t vote)
{
    struct content *c = ctx;

    c->term = term;
    c->vote = vote;
}

static void content_snapshot(void *ctx, uint64_t index, uint64_t term,
                             const struct raft_members *members, const uint8_t *data,
                             size_t len)
{
    struct content *c = ctx;

    (void)members;
    c->last = c->snapshot = index;
    c->last_term = term;
    c->snapshot_hash = hash_bytes(term, data, len);
}

static void content_entry(void *ctx, struct raft_entry *e)
{
    struct content *c = ctx;

    c->last = e->index;
    c->last_term = e->term;
    if (e->index <= c->snapshot)
        return;
    mem_grow(c->hashes, c->cap, e->index - c->snapshot);
    c->hashes[e->index - c->snapshot - 1] =
        hash_bytes(e->term << 8 | e->type, e->payload, e->len);
}

/* Entries that both have behind their snapshots, and the snapshots, if they are at one place.
 */
static bool is_same_data(const struct content *a, const struct content *b)
{
    uint64_t from = a->snapshot > b->snapshot ? a->snapshot : b->snapshot;

    if (a->snapshot == b->snapshot && a->snapshot_hash != b->snapshot_hash)
        return false;
    for (uint64_t i = from + 1; i <= a->last && i <= b->last; i++)
        if (a->hashes[i - a->snapshot - 1] != b->hashes[i - b->snapshot - 1])
            return false;
    return true;
}

/* Of a copy: opening repairs. */
static int look_into(const struct sim_disk *disk, const struct store_options *options,
                     struct content *c)
{
    const struct store_load load = {c,    content_state, content_snapshot, content_entry,
                                    NULL, NULL};
    struct sim_disk *copy = sim_disk_copy(disk, 1);
    struct store *s = NULL;

    *c = (struct content){0};
    int err = store_open(&s, sim_disk_disk(copy), options, &load, NULL);
    store_close(s);
    sim_disk_free(copy);
    return err;
}

bool box_rot(struct box *b)
{
    struct content was, is;
    struct sim_disk *disk = sim_disk_copy(b->disk, rng_next(&b->w->rng));
    const uint8_t *data;
    const char *name;
    unsigned files = 0;
    size_t len;

    CHECK(b->store == NULL);
    while (sim_disk_name(disk, files) != NULL)
        files++;
    name = files > 0 ? sim_disk_name(disk, (unsigned)world_below(b->w, files)) : NULL;
    if (name == NULL || !sim_disk_get(disk, name, &data, &len) || len == 0) {
        sim_disk_free(disk);
        return false;
    }
    uint64_t bit = world_below(b->w, 8 * len);
    int before = look_into(disk, &b->options, &was);
    sim_disk_flip(disk, name, bit);
    int err = look_into(disk, &b->options, &is);
    bool is_true =
        err == 0 && was.term == is.term && was.vote == is.vote && is_same_data(&was, &is);
    bool is_same = is_true && was.last == is.last && was.last_term == is.last_term;
    bool is_cut = is_true && was.last > is.last;
    mem_free(was.hashes);
    mem_free(is.hashes);
    if (before != 0 || (is_cut && !b->is_clean)) {
        sim_disk_free(disk);
        return false;
    }
    world_note(b->w, "%s: bit %u of %s changes: %s", b->w->hosts[b->host].name, (unsigned)bit,
               name, is_same ? "nothing is missing" : err_text(err));
    if (is_same)
        REACHED(sim_bit_harmless);
    else
        REACHED(sim_bit_missed);
    if (!is_same && err != ERR_CORRUPT)
        world_fail(b->w, "%s: with bit %u of %s changed the store loads something else: %s",
                   b->w->hosts[b->host].name, (unsigned)bit, name, err_text(err));
    sim_disk_free(b->disk);
    b->disk = disk;
    return true;
}

void box_stop(struct box *b)
{
    bool is_dead = sim_disk_is_stopped(b->disk);

    sim_disk_fail_sync(b->disk, 0);
    if (!is_dead)
        sim_disk_stop_after(b->disk, UINT64_MAX);
    stop(b);
    b->is_clean = !is_dead;
    sim_disk_killed(b->disk); /* what it has is as if synced: see sim_disk_copy() */
}

static int run(struct box *b)
{
    b->saves_total++;
    return b->saving ? store_save(b->store, &b->save) : store_job(b->store, &b->job, b->keep);
}

static void saved(struct box *b)
{
    b->busy = b->saving = b->has_run = b->is_ended = false;
    if (b->is_told)
        b->core.told(b->core.ctx);
    b->is_told = false;
    b->core.saved(b->core.ctx);
    b->core.turn(b->core.ctx);
}

static void late(void *ctx, uint64_t life, uint64_t saves)
{
    struct box *b = ctx;

    if (life != b->life || !b->is_ended || saves != b->saves_total)
        return;
    if (world_is_frozen(b->w, b->host))
        world_at(b->w, b->w->hosts[b->host].frozen_until_us, late, b, life, saves);
    else
        saved(b);
}

/* All is synced. */
static void ended(struct box *b)
{
    const struct box_core *c = &b->core;

    b->has_run = b->is_ended = true;
    b->run_err = 0;
    if (c->tell != NULL && b->save.answer != NULL && !world_chance(b->w, 100)) {
        c->tell(c->ctx, b->save.answer_to, b->save.answer);
        b->is_told = true;
    }
    bool has_work = c->tell == NULL || (b->save.answer != NULL && !b->is_told);
    if (has_work || !world_chance(b->w, 200)) {
        if (has_work || c->is_awaited(c->ctx))
            saved(b);
        return;
    }
    world_at(b->w, b->w->now_us + world_below(b->w, LATE_MAX_US), late, b, b->life,
             b->saves_total);
}

static void done(void *ctx, uint64_t life, uint64_t unused)
{
    struct box *b = ctx;

    (void)unused;
    if (life != b->life || !b->busy || b->is_ended)
        return;
    if (world_is_frozen(b->w, b->host)) {
        /* The kernel may do what it was asked to; the process does not know yet. */
        if (!b->has_run && !world_is_asleep(b->w, b->host) &&
            b->w->now_us >= b->stuck_until_us && world_chance(b->w, 500)) {
            b->run_err = run(b);
            b->has_run = true;
        }
        world_at(b->w, b->w->hosts[b->host].frozen_until_us, done, b, life, 0);
        return;
    }
    if (!b->has_run && b->w->now_us < b->stuck_until_us) {
        world_at(b->w, b->stuck_until_us, done, b, life, 0);
        return;
    }
    int err = b->has_run ? b->run_err : run(b);
    b->has_run = false;
    if (sim_disk_is_stopped(b->disk)) {
        b->core.died(b->core.ctx);
        return;
    }
    b->is_waiting = err == ERR_DISK_FULL && b->saving;
    if (b->is_waiting || !b->saving)
        b->look_us = 0;
    look(b);
    if (b->is_waiting) {
        b->core.turn(b->core.ctx);
        world_at(b->w, b->w->now_us + FULL_RETRY_US, done, b, life, 0);
        return;
    }
    if (b->saving && err != 0) { /* it stays busy: there is no way on */
        b->core.died(b->core.ctx);
    } else if (b->saving) {
        ended(b);
    } else {
        b->busy = false;
        b->core.job_done(b->core.ctx, err);
        b->core.turn(b->core.ctx);
    }
}

void box_work(struct box *b)
{
    if (b->is_ended) { /* the turn that has come finds it */
        saved(b);
        return;
    }
    if (b->busy || b->store == NULL)
        return;
    if (b->core.sent != NULL)
        store_pin(b->store, b->core.sent(b->core.ctx));
    bool is_job = b->has_saved && b->core.job_take(b->core.ctx, &b->job);
    b->saving = !is_job && b->core.save_take(b->core.ctx, &b->save);
    if (!is_job && !b->saving && (b->has_saved || !b->core.job_take(b->core.ctx, &b->job)))
        return;
    b->has_saved = b->saving;
    b->busy = true;
    uint64_t us = world_between(b->w, b->min_us, b->max_us);
    if (b->w->now_us < b->slow_until_us)
        us = us * 50 < SLOW_MAX_US ? us * 50 : SLOW_MAX_US;
    world_at(b->w, b->w->now_us + us, done, b, b->life, 0);
}

void box_crash(struct box *b, bool power_loss)
{
    /* What was under way may have got anywhere. */
    if (b->busy && !b->has_run && !sim_disk_is_stopped(b->disk) && world_chance(b->w, 600)) {
        sim_disk_stop_after(b->disk, world_below(b->w, 6));
        (void)run(b);
    }
    sim_disk_stop_after(b->disk, 0); /* closing is not what a killed process does */
    stop(b);
    if (power_loss)
        sim_disk_power_loss(b->disk);
    else
        sim_disk_killed(b->disk);
    sim_disk_set_capacity(b->disk, UINT64_MAX);
}

void box_break_at(struct box *b, uint64_t n, bool power_loss)
{
    if (b->store == NULL || sim_disk_is_stopped(b->disk))
        return;
    b->dies_of_power = power_loss;
    sim_disk_stop_after(b->disk, n);
}

void box_fail_sync(struct box *b)
{
    if (b->store != NULL)
        sim_disk_fail_sync(b->disk, 1);
}

void box_fill(struct box *b, bool full)
{
    full = full && b->store != NULL;
    sim_disk_set_capacity(b->disk, full ? sim_disk_used(b->disk) : UINT64_MAX);
}

void box_leave_room(struct box *b, uint64_t bytes)
{
    sim_disk_set_capacity(b->disk, sim_disk_used(b->disk) + bytes);
}

void box_heal(struct box *b)
{
    b->slow_until_us = b->stuck_until_us = 0;
    if (!sim_disk_is_stopped(b->disk))
        sim_disk_stop_after(b->disk, UINT64_MAX);
    sim_disk_fail_sync(b->disk, 0);
    box_fill(b, false);
}
