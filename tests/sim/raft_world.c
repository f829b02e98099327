/* SPDX-License-Identifier: Apache-2.0 */
/* raft_world.c -- raft and the store alone: servers that agree on a list of numbers.
 *
 * Harsher than the whole site (site.c): datagrams that are lost, doubled and reordered, and
 * entries compared one by one. See docs/simulation.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "box.h"
#include "faults.h"
#include "raft_watch.h"
#include "raft_world.h"
#include "runner.h"
#include "world.h"

enum { BACKLOG_MAX = 500 }; /* proposed and not committed, of one leader */
enum { SERVERS_MAX = 7, READS_MAX = 20000, FAULTS_US = 12000000, QUIET_US = 12000000 };
enum { ACKS_MAX = 4096, HEADER = 16 /* of a datagram: the world, the sender's disk */ };
enum { STAND_MAX_US = 3000000, ABSENT_MIN_US = 2000000, ABSENT_MAX_US = 8000000 };
enum { BREAK_NEAR = 8, BREAK_FAR = 150 }; /* changes of a disk */
enum { STRIKE_GAP_US = 30000 };           /* or a start is struck for ever */
enum { OPTION_ENDS_TOLD, OPTION_CHUNK };  /* world_option() */

enum fault {
    FAULT_KILL,
    FAULT_POWER,
    FAULT_POWER_ALL,
    FAULT_CUT,
    FAULT_CUT_ONE_WAY,
    FAULT_HEAL,
    FAULT_FREEZE,
    FAULT_SLOW_DISK,
    FAULT_DISK,
    FAULT_MEMBERS,
    FAULT_SHAPE,
    FAULT_FLAP,
    FAULT_STAND,
    FAULT_BREAK,
    FAULT_ABSENT,
    FAULT_LOST_DISK,
    FAULTS
};

struct sim;

struct server {
    struct sim *sim;
    unsigned n, host; /* id: n + 1 */
    struct box box;
    struct raft *raft; /* NULL: down */
    uint64_t timer_us;
    uint64_t state, state_index; /* the state machine: a hash of all entries */
    bool joined;                 /* has data: may be started */
    uint64_t birth, disks;       /* raft_options.birth; how many disks it has had */
    uint64_t absent_until_us;    /* it is not started before */
    bool is_lost;                /* its disk was, and it does not vote again yet */
    struct moments moments;
    struct raft_blob *snapshot; /* being written, a piece at a time */
    uint64_t snapshot_at;
    bool is_given;       /* it is for others, too */
    uint8_t *state_read; /* of a received one */
    uint64_t state_read_index;
    enum { OF_RAFT, OF_STATE, OF_SNAPSHOT } job;
    uint64_t snapshot_index;
};

struct entry_fact {
    uint64_t term, state; /* state: after it */
};

struct ack {
    uint64_t index, term, value;
};

struct sim {
    struct world w;
    struct server servers[SERVERS_MAX];
    unsigned founders, n;
    struct raft_watch *watch;
    struct entry_fact *facts; /* by index, as first applied */
    size_t facts_cap;
    uint64_t facts_n;
    uint64_t values;
    struct ack waiting[ACKS_MAX]; /* proposed, not yet applied */
    unsigned waiting_n;
    uint64_t acked_index, acked_n;
    uint64_t read_floor[READS_MAX]; /* what a read, by its ctx, must see at least */
    uint64_t reads, reads_done;
    unsigned weights[FAULTS];
    struct pace pace;
    unsigned again_permille, strike_moments, strike_kinds, strike_permille;
    uint64_t strike_from_us;         /* none before */
    bool loses_disks, loses_members; /* one of the two in a world: see town.h */
    uint32_t proposals_us, faults_us, restart_us, save_min_us, save_max_us;
    uint64_t snapshot_every;
    bool quiet, is_shrinking; /* is_shrinking: down to one server */
    bool is_hasty;            /* leaders fall soon after they rise */
    unsigned leaders_seen;
    uint32_t batch_max;
};

static void turn(struct server *s);

static void forget_jobs(struct server *s)
{
    raft_blob_unref(s->snapshot);
    s->snapshot = NULL;
    mem_free(s->state_read);
    s->state_read = NULL;
}

/* ---- a server ---- */

static uint64_t now_ms(const struct server *s) { return world_host_ms(&s->sim->w, s->host); }

static uint64_t mix(uint64_t state, const struct raft_entry *e)
{
    return hash_u64(state * 31 + e->term) ^
           hash_bytes(e->index + 7 * (uint64_t)e->type, e->payload, e->len);
}

static void load_state(void *ctx, uint64_t term, uint64_t vote)
{
    raft_load_state(((struct server *)ctx)->raft, term, vote);
}

static void take_state(struct server *s, uint64_t index, const uint8_t *data, size_t len)
{
    struct sim *sim = s->sim;

    if (len < 8)
        world_fail(&sim->w, "server %u: a snapshot of %u bytes", s->n, (unsigned)len);
    s->state = be64_get(data);
    s->state_index = index;
    if (index > 1 && index < sim->facts_n && sim->facts[index].state != s->state)
        world_fail(&sim->w, "server %u: the snapshot at %u has another state", s->n,
                   (unsigned)index);
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct server *s = ctx;

    raft_load_snapshot(s->raft, index, term, members);
    take_state(s, index, data, len);
    s->snapshot_index = index;
}

static void load_entry(void *ctx, struct raft_entry *e)
{
    struct server *s = ctx;
    int err = raft_load_entry(s->raft, e);

    if (err != 0)
        world_fail(&s->sim->w, "server %u: raft does not take entry %u from its disk", s->n,
                   (unsigned)e->index);
}

static void start(struct server *s)
{
    struct sim *sim = s->sim;
    const struct raft_options o = {
        .id = s->n + 1,
        .seed = rng_next(&sim->w.rng),
        .batch_max = sim->batch_max,
        .birth = s->birth,
        .piece_max = sim->w.seed % 3 == 1 ? 50 + (uint32_t)(sim->w.seed % 1000) : 0,
        .log_bytes_max = sim->w.seed % 5 == 2 ? 3000 + (uint32_t)(sim->w.seed % 30000) : 0};
    const struct store_load load = {s, load_state, load_snapshot, load_entry, NULL, NULL};

    CHECK(s->raft == NULL);
    s->raft = raft_new(&o);
    s->state = s->state_index = s->snapshot_index = 0;
    box_start(&s->box, &load);
    raft_watch_restarted(sim->watch, s->n);
    raft_start(s->raft, now_ms(s));
    s->timer_us = WORLD_NEVER;
    world_note(&sim->w, "server %u starts: term %u, log %u to %u", s->n,
               (unsigned)raft_term(s->raft), (unsigned)raft_first_index(s->raft),
               (unsigned)raft_last_index(s->raft));
    turn(s);
}

static void gone_due(void *ctx, uint64_t n, uint64_t who)
{
    struct sim *sim = ctx;
    struct server *s = &sim->servers[n];

    if (s->raft == NULL || world_is_frozen(&sim->w, s->host) ||
        !world_reaches(&sim->w, sim->servers[who].host, s->host))
        return;
    raft_gone(s->raft, now_ms(s), who + 1);
    turn(s);
}

/* Connections that s spoke on have ended, of some or of all: its kernel says so, or something
 * between them is broken. It may come as late as anything else. */
static void tell_gone(struct server *s, unsigned permille)
{
    struct sim *sim = s->sim;

    for (unsigned i = 0; i < sim->n; i++)
        if (i != s->n && world_chance(&sim->w, permille))
            world_at(&sim->w, sim->w.now_us + world_delay_us(&sim->w), gone_due, sim, i, s->n);
}

static bool are_ends_told(const struct sim *sim)
{
    return world_option(&sim->w, OPTION_ENDS_TOLD) % 4 == 0;
}

static void crash(struct server *s, bool power_loss)
{
    if (s->raft == NULL)
        return;
    if (are_ends_told(s->sim) && !power_loss)
        tell_gone(s, 900);
    world_note(&s->sim->w, "server %u: %s", s->n, power_loss ? "power off" : "kill -9");
    box_crash(&s->box, power_loss);
    raft_free(s->raft);
    s->raft = NULL;
    forget_jobs(s);
}

static void restart_due(void *ctx, uint64_t n, uint64_t unused)
{
    struct server *s = &((struct sim *)ctx)->servers[n];

    (void)unused;
    if (s->raft == NULL && s->joined && s->sim->w.now_us >= s->absent_until_us)
        start(s);
}

/* ---- what it does ---- */

static void datagram_due(void *ctx, uint64_t n, uint64_t from)
{
    struct buf *data = ctx;
    struct sim *sim = (struct sim *)(void *)be64_get(data->data);
    struct server *s = &sim->servers[n];

    if (s->raft != NULL && world_is_frozen(&sim->w, s->host)) {
        world_at(&sim->w,
                 sim->w.hosts[s->host].frozen_until_us + 1 + world_below(&sim->w, 20000),
                 datagram_due, data, n, from);
        return;
    }
    /* Connections do not outlive a disk: what an earlier life has said is gone with it. */
    bool is_of_this_life = be64_get(data->data + 8) == sim->servers[from].disks;
    if (s->raft != NULL && is_of_this_life &&
        world_reaches(&sim->w, sim->servers[from].host, s->host)) {
        int err =
            raft_step(s->raft, now_ms(s), from + 1, data->data + HEADER, data->len - HEADER);
        if (err != 0)
            world_fail(&sim->w, "server %u: a message from %u is %s", s->n, (unsigned)from,
                       err_name(err));
        turn(s);
    }
    buf_free(data);
    mem_free(data);
}

static void send(struct server *s, uint64_t to, const struct buf *message)
{
    struct sim *sim = s->sim;
    struct world *w = &sim->w;
    unsigned copies = world_chance(w, w->net.twice_permille) ? 2 : 1;

    if (to == 0 || to > sim->n)
        return;
    for (unsigned i = 0; i < copies; i++) {
        if (world_chance(w, w->net.lose_permille))
            continue;
        struct buf *data = mem_new(struct buf);
        buf_add_be64(data, (uint64_t)(uintptr_t)sim);
        buf_add_be64(data, s->disks);
        buf_add(data, message->data, message->len);
        world_at(w, w->now_us + world_delay_us(w), datagram_due, data, to - 1, s->n);
    }
}

static void acknowledge(struct server *s, const struct raft_entry *e)
{
    struct sim *sim = s->sim;

    for (unsigned i = 0; i < sim->waiting_n;) {
        struct ack *a = &sim->waiting[i];
        if (a->index != e->index) {
            i++;
            continue;
        }
        if (a->term == e->term) {
            if (e->len < 8 || be64_get(e->payload) != a->value)
                world_fail(&sim->w, "entry %u is not what was proposed there",
                           (unsigned)a->index);
            if (e->index > sim->acked_index)
                sim->acked_index = e->index;
            sim->acked_n++;
        } /* else another leader's entry has its place: it is lost */
        *a = sim->waiting[--sim->waiting_n];
    }
}

static void apply(struct server *s, const struct raft_entry *e)
{
    struct sim *sim = s->sim;

    if (e->index != s->state_index + 1)
        world_fail(&sim->w, "server %u applies entry %u after %u", s->n, (unsigned)e->index,
                   (unsigned)s->state_index);
    s->state = mix(s->state, e);
    s->state_index = e->index;
    mem_grow(sim->facts, sim->facts_cap, e->index + 1);
    if (e->index >= sim->facts_n) {
        sim->facts[e->index] = (struct entry_fact){e->term, s->state};
        sim->facts_n = e->index + 1;
    } else if (sim->facts[e->index].state != s->state) {
        world_fail(&sim->w, "state machine safety: server %u applies another entry %u", s->n,
                   (unsigned)e->index);
    }
    acknowledge(s, e);
}

static struct raft_blob *make_snapshot(struct server *s)
{
    size_t len = 8 + s->state % 3000; /* the same state has the same bytes */
    uint8_t *data = mem_alloc(len);

    be64_put(data, s->state);
    return raft_blob_new_take(s->state_index, raft_applied_term(s->raft),
                              raft_members_applied(s->raft), data, len);
}

static void take_out(struct server *s)
{
    struct sim *sim = s->sim;
    const struct raft_entry *e;
    uint64_t to, ctx, index;
    struct buf message = {0};

    while ((e = raft_apply_take(s->raft)) != NULL)
        apply(s, e);
    while (raft_read_take(s->raft, &ctx, &index)) {
        if (index != 0 && index < sim->read_floor[ctx])
            world_fail(&sim->w, "a read at %u does not see entry %u, acknowledged before it",
                       (unsigned)index, (unsigned)sim->read_floor[ctx]);
        sim->reads_done += index != 0;
    }
    bool is_wanted = raft_snapshot_wanted(s->raft) && s->state_index > 0 &&
                     raft_install_wanted(s->raft) == NULL;
    if (s->snapshot == NULL &&
        (is_wanted || s->state_index >= s->snapshot_index + sim->snapshot_every)) {
        s->snapshot = make_snapshot(s);
        s->snapshot_at = 0;
        s->is_given = is_wanted;
        if (is_wanted)
            raft_hold(s->raft, s->state_index);
    }
    while (raft_message_take(s->raft, &to, &message))
        send(s, to, &message);
    buf_free(&message);
}

static void timer_due(void *ctx, uint64_t life, uint64_t due_us)
{
    struct server *s = ctx;
    struct world *w = &s->sim->w;

    if (s->raft == NULL || life != s->box.life || due_us != s->timer_us)
        return;
    s->timer_us = WORLD_NEVER;
    if (world_is_frozen(w, s->host)) {
        /* What came for it meanwhile may be looked at before the clock. */
        s->timer_us = w->hosts[s->host].frozen_until_us + world_below(w, 20000);
        world_at(w, s->timer_us, timer_due, s, life, s->timer_us);
        return;
    }
    if (raft_deadline(s->raft) <= now_ms(s))
        raft_tick(s->raft, now_ms(s));
    turn(s);
}

static void crash_all(struct sim *sim)
{
    for (unsigned i = 0; i < sim->n; i++) {
        crash(&sim->servers[i], true);
        world_at(&sim->w, sim->w.now_us + world_below(&sim->w, 1000000), restart_due, sim, i,
                 0);
    }
}

static void fall_due(void *ctx, uint64_t n, uint64_t all)
{
    struct sim *sim = ctx;

    if (sim->quiet)
        return;
    if (all) {
        crash_all(sim);
    } else {
        crash(&sim->servers[n], true);
        world_at(&sim->w, sim->w.now_us + world_below(&sim->w, 2 * sim->restart_us),
                 restart_due, sim, n, 0);
    }
}

/* [R] figure 8: while what a new leader has just done is on some disks and not on others. */
static void look_for_new_leader(struct server *s)
{
    struct sim *sim = s->sim;
    unsigned leaders = raft_watch_leaders(sim->watch);

    if (leaders == sim->leaders_seen)
        return;
    sim->leaders_seen = leaders;
    if (sim->is_hasty && world_chance(&sim->w, 700))
        world_at(&sim->w, sim->w.now_us + world_below(&sim->w, 2 * sim->save_max_us), fall_due,
                 sim, s->n, world_chance(&sim->w, 400));
}

static void strike_due(void *ctx, uint64_t what, uint64_t n);

static void look_for_moments(struct server *s)
{
    struct sim *sim = s->sim;
    struct world *w = &sim->w;
    unsigned what;

    if (sim->strike_permille == 0 ||
        (moments_look(&s->moments, s->raft, &s->box) & sim->strike_moments) == 0 ||
        sim->quiet || w->now_us < sim->strike_from_us || !world_chance(w, sim->strike_permille))
        return;
    sim->strike_from_us = w->now_us + STRIKE_GAP_US;
    do
        what = (unsigned)world_below(w, FAULTS);
    while ((sim->strike_kinds >> what & 1) == 0);
    uint64_t us = world_chance(w, 300) ? 0 : world_below(w, 2 * sim->save_max_us);
    world_at(w, w->now_us + us, strike_due, sim, what, s->n);
}

static void turn(struct server *s)
{
    struct world *w = &s->sim->w;

    raft_flush(s->raft, now_ms(s));
    take_out(s);
    box_work(&s->box);
    raft_watch_look(s->sim->watch, s->n, s->raft);
    look_for_new_leader(s);
    look_for_moments(s);
    uint64_t due_us = world_host_due(w, s->host, raft_deadline(s->raft));
    if (due_us < s->timer_us) {
        s->timer_us = due_us;
        world_at(w, due_us, timer_due, s, s->box.life, due_us);
    }
}

static bool core_save_take(void *ctx, struct raft_save *out)
{
    return raft_save_take(((struct server *)ctx)->raft, out);
}

static void core_saved(void *ctx)
{
    struct server *s = ctx;

    raft_saved(s->raft, now_ms(s));
}

static void core_tell(void *ctx, uint64_t to, struct buf *answer) { send(ctx, to, answer); }

static void core_told(void *ctx) { raft_told(((struct server *)ctx)->raft); }

static bool core_is_awaited(void *ctx)
{
    return raft_save_is_awaited(((struct server *)ctx)->raft);
}

static bool core_job_take(void *ctx, struct raft_job *out)
{
    struct server *s = ctx;
    struct raft_blob *b = s->snapshot;
    const struct raft_blob *wanted = raft_install_wanted(s->raft);

    s->job = OF_RAFT;
    if (raft_job_take(s->raft, out))
        return true;
    if (wanted != NULL) {
        s->job = OF_STATE;
        mem_free(s->state_read);
        s->state_read = mem_alloc(wanted->len);
        s->state_read_index = wanted->index;
        *out = (struct raft_job){.kind = RAFT_JOB_READ,
                                 .index = wanted->index,
                                 .size = wanted->len,
                                 .len = wanted->len,
                                 .data = s->state_read};
        return true;
    }
    if (b == NULL)
        return false;
    s->job = OF_SNAPSHOT;
    size_t left = b->len - (size_t)s->snapshot_at;
    size_t len = world_option(&s->sim->w, OPTION_CHUNK) % 2 == 0
                     ? left
                     : 1 + (size_t)world_below(&s->sim->w, left);
    *out = (struct raft_job){.kind = RAFT_JOB_KEEP,
                             .index = b->index,
                             .term = b->term,
                             .members = &b->members,
                             .size = b->len,
                             .at = s->snapshot_at,
                             .len = len,
                             .data = b->data + s->snapshot_at};
    return true;
}

static void state_is_read(struct server *s, int err)
{
    const struct raft_blob *b = raft_install_wanted(s->raft);

    if (b == NULL || b->index != s->state_read_index)
        return; /* a newer one has come */
    if (err != 0)
        world_fail(&s->sim->w, "server %u: what it received cannot be read: %s", s->n,
                   err_text(err));
    take_state(s, b->index, s->state_read, b->len);
    raft_blob_unref(raft_install_take(s->raft));
}

static void snapshot_is_written(struct server *s, int err)
{
    struct raft_blob *b = s->snapshot;

    s->snapshot_at += s->box.job.len;
    if (err == 0 && s->snapshot_at < b->len)
        return;
    if (err == 0) {
        if (s->snapshot_index < b->index)
            s->snapshot_index = b->index;
        raft_compact(s->raft, b->index, s->box.keep);
    }
    if (err == 0 && s->is_given)
        raft_snapshot_give(s->raft, now_ms(s),
                           raft_blob_new_take(b->index, b->term, &b->members, NULL, b->len));
    else if (s->is_given)
        raft_hold(s->raft, 0);
    raft_blob_unref(b);
    s->snapshot = NULL;
}

static void core_job_done(void *ctx, int err)
{
    struct server *s = ctx;

    switch (s->job) {
    case OF_RAFT: raft_job_done(s->raft, now_ms(s), err); break;
    case OF_STATE: state_is_read(s, err); break;
    case OF_SNAPSHOT: snapshot_is_written(s, err); break;
    }
}

static uint64_t core_sent(void *ctx)
{
    return raft_snapshot_sent(((struct server *)ctx)->raft);
}

static void core_turn(void *ctx) { turn(ctx); }

static void core_died(void *ctx)
{
    struct server *s = ctx;
    struct world *w = &s->sim->w;
    bool power_loss = s->box.dies_of_power;

    crash(s, power_loss);
    world_at(w, w->now_us + (power_loss ? world_below(w, s->sim->restart_us) : 100000),
             restart_due, s->sim, s->n, 0);
}

static void add_server(struct sim *sim)
{
    struct server *s = &sim->servers[sim->n];
    const struct box_core core = {.ctx = s,
                                  .save_take = core_save_take,
                                  .saved = core_saved,
                                  .tell = core_tell,
                                  .told = core_told,
                                  .is_awaited = core_is_awaited,
                                  .job_take = core_job_take,
                                  .job_done = core_job_done,
                                  .sent = core_sent,
                                  .turn = core_turn,
                                  .died = core_died};
    char name[8];

    snprintf(name, sizeof name, "%u", sim->n);
    s->sim = sim;
    s->n = sim->n++;
    s->host = world_add_host(&sim->w, name, (int32_t)world_below(&sim->w, 20001) - 10000);
    box_init(&s->box, &sim->w, s->host, &core);
    s->box.min_us = sim->save_min_us;
    s->box.max_us = sim->save_max_us;
    s->box.again_permille = sim->again_permille;
    s->box.keep = world_below(&sim->w, 30);
    s->box.options.segment_bytes = 1000 + world_below(&sim->w, 20000);
}

/* ---- clients ---- */

static struct server *find_leader(struct sim *sim)
{
    struct server *best = NULL;

    for (unsigned i = 0; i < sim->n; i++) {
        struct server *s = &sim->servers[i];
        if (s->raft != NULL && raft_role(s->raft) == RAFT_LEADER &&
            !world_is_frozen(&sim->w, s->host) &&
            (best == NULL || raft_term(s->raft) > raft_term(best->raft)))
            best = s;
    }
    return best;
}

static void propose_at(struct server *s)
{
    struct sim *sim = s->sim;
    uint8_t payload[300];
    unsigned count = 1 + (unsigned)world_below(&sim->w, 4);

    /* As clients do, who wait for answers: where every append has one entry and overtakes
     * others, a backlog of thousands takes longer than the quiet phase. */
    if (raft_last_index(s->raft) - raft_committed(s->raft) >= BACKLOG_MAX)
        count = 0;
    for (unsigned i = 0; i < count && sim->waiting_n < ACKS_MAX; i++) {
        size_t len = 8 + (size_t)world_below(&sim->w, world_chance(&sim->w, 100) ? 290 : 20);
        struct ack *a = &sim->waiting[sim->waiting_n];
        memset(payload, (int)(sim->values & 255), sizeof payload);
        be64_put(payload, ++sim->values);
        a->value = sim->values;
        if (raft_propose(s->raft, payload, len, &a->index) == 0) {
            a->term = raft_term(s->raft);
            sim->waiting_n++;
        }
    }
    if (sim->reads < READS_MAX && world_chance(&sim->w, 500)) {
        sim->read_floor[sim->reads] = sim->acked_index;
        if (raft_read(s->raft, now_ms(s), sim->reads) == 0)
            sim->reads++;
    }
    turn(s);
}

/* To whoever believes to lead, also when another one does. */
static void propose_due(void *ctx, uint64_t a, uint64_t b)
{
    struct sim *sim = ctx;
    unsigned first = (unsigned)world_below(&sim->w, sim->n);

    (void)a, (void)b;
    for (unsigned i = 0; i < sim->n; i++) {
        struct server *s = &sim->servers[(first + i) % sim->n];
        if (s->raft == NULL || raft_role(s->raft) != RAFT_LEADER ||
            world_is_frozen(&sim->w, s->host))
            continue;
        propose_at(s);
        break;
    }
    world_at(&sim->w,
             sim->w.now_us + sim->proposals_us / 2 + world_below(&sim->w, sim->proposals_us),
             propose_due, sim, 0, 0);
}

/* What its clients had sent meanwhile is the first that it sees when it goes on. */
static void thawed(void *ctx, uint64_t life, uint64_t unused)
{
    struct server *s = ctx;

    (void)unused;
    if (s->raft != NULL && life == s->box.life && !world_is_frozen(&s->sim->w, s->host) &&
        raft_role(s->raft) == RAFT_LEADER)
        propose_at(s);
}

/* ---- membership ---- */

static void change_members(struct sim *sim)
{
    struct server *s = find_leader(sim);

    if (s == NULL)
        return;
    unsigned what = (unsigned)world_below(&sim->w, 5);
    const struct server *away = &sim->servers[world_below(&sim->w, sim->n)];
    if (what == 0 && raft_member_find(raft_members(s->raft), away->n + 1) == NULL) {
        /* It was a member, and comes with all that it had then. */
        struct raft_member m = {.id = away->n + 1,
                                .auto_promote = world_chance(&sim->w, 700),
                                .birth = world_chance(&sim->w, 500) ? away->birth : 0};
        snprintf(m.name, sizeof m.name, "%u", away->n);
        if (raft_add_learner(s->raft, now_ms(s), &m) == 0)
            world_note(&sim->w, "server %u is added again", away->n);
    } else if (what == 0 && sim->n < SERVERS_MAX) {
        struct raft_member m = {.id = sim->n + 1, .auto_promote = world_chance(&sim->w, 700)};
        snprintf(m.name, sizeof m.name, "%u", sim->n);
        int err = raft_add_learner(s->raft, now_ms(s), &m);
        if (err == 0) {
            add_server(sim);
            sim->servers[sim->n - 1].joined = true;
            world_note(&sim->w, "server %u is added", sim->n - 1);
            start(&sim->servers[sim->n - 1]);
        }
    } else if (what == 1) {
        (void)raft_promote(s->raft, now_ms(s), 1 + world_below(&sim->w, sim->n));
    } else if (what == 2 && !sim->loses_disks &&
               raft_members(s->raft)->n > (sim->is_shrinking ? 1 : 3)) {
        sim->loses_members = true;
        uint64_t id = 1 + world_below(&sim->w, sim->n);
        if (raft_remove(s->raft, now_ms(s), id) == 0)
            world_note(&sim->w, "server %u is removed", (unsigned)id - 1);
    } else {
        (void)raft_transfer(s->raft, now_ms(s), 1 + world_below(&sim->w, sim->n));
    }
    turn(s);
}

/* ---- faults ---- */

static void cut(struct sim *sim, bool both)
{
    struct world *w = &sim->w;
    unsigned side = (unsigned)world_below(w, 1u << sim->n);

    world_note(w, "cut %s between the servers of %x and the others",
               both ? "both ways" : "one way", side);
    for (unsigned i = 0; i < sim->n; i++)
        for (unsigned k = 0; k < sim->n; k++)
            if ((side >> i & 1) && !(side >> k & 1)) {
                w->blocked[sim->servers[i].host][sim->servers[k].host] = true;
                w->blocked[sim->servers[k].host][sim->servers[i].host] |= both;
            }
}

static void freeze(struct server *s)
{
    struct world *w = &s->sim->w;

    world_freeze(w, s->host, world_below(w, STAND_MAX_US));
    world_at(w, w->hosts[s->host].frozen_until_us, thawed, s, s->box.life, 0);
    world_note(w, "server %u is frozen", s->n);
}

static void stand(struct server *s)
{
    struct world *w = &s->sim->w;
    uint64_t us = world_below(w, STAND_MAX_US);
    bool all = world_chance(w, 500);

    world_note(w, "server %u: %s for %u ms", s->n, all ? "is paused" : "its clock stands",
               (unsigned)(us / 1000));
    if (all) {
        world_pause(w, s->host, us);
        world_at(w, w->hosts[s->host].frozen_until_us, thawed, s, s->box.life, 0);
    } else {
        world_stop_clock(w, s->host, us);
    }
}

static void absent(struct server *s)
{
    struct world *w = &s->sim->w;
    uint64_t us = world_between(w, ABSENT_MIN_US, ABSENT_MAX_US);

    crash(s, world_chance(w, 500));
    world_note(w, "server %u: away for %u ms", s->n, (unsigned)(us / 1000));
    if (s->absent_until_us < w->now_us + us)
        s->absent_until_us = w->now_us + us;
    world_at(w, s->absent_until_us, restart_due, s->sim, s->n, 0);
}

/* Its disk is another one, empty; only where that loses nothing: when all others vote, and no
 * member is let go in this world. Or it is no member: then nothing can be lost. */
static void lose_disk(struct server *s)
{
    struct sim *sim = s->sim;
    struct world *w = &sim->w;
    const struct server *leader = find_leader(sim);
    unsigned voters = 0;

    if (leader == NULL || !raft_may_change(leader->raft) || !s->joined)
        return;
    const struct raft_members *m = raft_members(leader->raft);
    for (unsigned i = 0; i < sim->n; i++) {
        struct server *o = &sim->servers[i];
        o->is_lost = o->is_lost && raft_member_find(m, o->n + 1) != NULL &&
                     (o->raft == NULL || raft_is_stranger(o->raft));
        if (o->is_lost)
            return;
    }
    for (unsigned i = 0; i < m->n; i++) {
        if (m->v[i].auto_promote)
            return;
        voters += m->v[i].voter;
    }
    if (sim->loses_members || voters < 3)
        return;
    sim->loses_disks = true;
    crash(s, true);
    world_note(w, "server %u: its disk is lost", s->n);
    box_replace(&s->box);
    s->is_lost = true;
    s->disks++;
    s->birth = 1 + (rng_next(&w->rng) >> 3);
    world_at(w, w->now_us + world_below(w, sim->restart_us), restart_due, sim, s->n, 0);
}

static void one_fault(struct sim *sim, struct server *s, enum fault which)
{
    struct world *w = &sim->w;

    switch (which) {
    case FAULT_KILL:
    case FAULT_POWER:
        crash(s, which == FAULT_POWER);
        world_at(w, w->now_us + world_below(w, sim->restart_us), restart_due, sim, s->n, 0);
        break;
    case FAULT_POWER_ALL: crash_all(sim); break;
    case FAULT_CUT: cut(sim, true); break;
    case FAULT_CUT_ONE_WAY: cut(sim, false); break;
    case FAULT_HEAL:
        world_note(w, "the network is whole");
        memset(w->blocked, 0, sizeof w->blocked);
        break;
    case FAULT_FREEZE: freeze(s); break;
    case FAULT_SLOW_DISK: s->box.slow_until_us = w->now_us + world_below(w, 2000000); break;
    case FAULT_DISK:
        if (world_chance(w, 500))
            box_fail_sync(&s->box);
        else
            box_fill(&s->box, world_chance(w, 500));
        break;
    case FAULT_MEMBERS:
        for (unsigned i = 1 + (unsigned)world_below(w, 3); i > 0; i--)
            change_members(sim);
        break;
    case FAULT_SHAPE: {
        unsigned hosts[SERVERS_MAX];
        for (unsigned i = 0; i < sim->n; i++)
            hosts[i] = sim->servers[i].host;
        shape_cut(w, hosts, sim->n, (enum shape)world_below(w, SHAPES));
        break;
    }
    case FAULT_FLAP:
        flap_begin(w, s->host, sim->servers[world_below(w, sim->n)].host,
                   w->now_us + world_below(w, STAND_MAX_US));
        break;
    case FAULT_STAND: stand(s); break;
    case FAULT_BREAK:
        world_note(w, "server %u: dies at some change of its disk", s->n);
        box_break_at(&s->box, world_below(w, world_chance(w, 500) ? BREAK_NEAR : BREAK_FAR),
                     world_chance(w, 600));
        break;
    case FAULT_ABSENT: absent(s); break;
    case FAULT_LOST_DISK: lose_disk(s); break;
    case FAULTS: UNREACHABLE("drawn below FAULTS");
    }
}

static void fault_due(void *ctx, uint64_t a, uint64_t b)
{
    struct sim *sim = ctx;
    struct world *w = &sim->w;
    unsigned total = 0, which = 0;

    (void)a, (void)b;
    if (sim->quiet)
        return;
    for (unsigned i = 0; i < FAULTS; i++)
        total += sim->weights[i];
    uint64_t pick = world_below(w, total);
    while (pick >= sim->weights[which])
        pick -= sim->weights[which++];
    struct server *s = &sim->servers[world_below(w, sim->n)];
    if (are_ends_told(sim) && world_chance(w, 200))
        tell_gone(s, 500); /* and it lives */
    if ((which == FAULT_FREEZE || which == FAULT_STAND) && world_chance(w, 500) &&
        find_leader(sim) != NULL)
        s = find_leader(sim);
    one_fault(sim, s, (enum fault)which);
    world_at(w, w->now_us + pace_next_us(w, &sim->pace), fault_due, sim, 0, 0);
}

static void strike_due(void *ctx, uint64_t what, uint64_t n)
{
    struct sim *sim = ctx;
    struct server *s = &sim->servers[n];

    if (sim->quiet || s->raft == NULL)
        return;
    world_note(&sim->w, "server %u is struck at its moment", s->n);
    one_fault(sim, s, (enum fault)what);
}

static void end_faults(struct sim *sim)
{
    struct world *w = &sim->w;

    world_note(w, "the faults end");
    sim->quiet = w->calm = true;
    if (sim->proposals_us < 100000)
        sim->proposals_us = 100000;
    memset(w->blocked, 0, sizeof w->blocked);
    w->net.lose_permille = w->net.slow_permille = 0;
    if (w->net.delay_max_us > 20000)
        w->net.delay_max_us = 20000 + w->net.delay_min_us;
    for (unsigned i = 0; i < sim->n; i++) {
        struct server *s = &sim->servers[i];
        box_heal(&s->box);
        s->box.min_us =
            50; /* what has piled up, perhaps entry by entry, must be done in time */
        s->box.max_us = 500;
        s->absent_until_us = 0;
        if (s->raft == NULL && s->joined)
            start(s);
    }
}

/* ---- the end: one leader, everybody has everything ---- */

static const char *not_live(struct sim *sim)
{
    struct server *leader = find_leader(sim);

    if (leader == NULL || !raft_is_ready(leader->raft))
        return "there is no leader";
    const struct raft_members *m = raft_members(leader->raft);
    for (unsigned i = 0; i < m->n; i++) {
        const struct server *s = &sim->servers[m->v[i].id - 1];
        if (s->raft == NULL)
            return "a member is down";
        if (raft_leader(s->raft) != leader->n + 1u)
            return "a member does not know the leader";
        if (raft_applied(s->raft) + 200 < raft_applied(leader->raft))
            return "a member is far behind";
    }
    if (sim->acked_n == 0)
        return "nothing was ever acknowledged";
    return NULL;
}

static void run_all(struct sim *sim)
{
    struct world *w = &sim->w;

    world_run_until(w, w->now_us + FAULTS_US);
    end_faults(sim);
    for (unsigned i = 0; i < sim->n; i++)
        for (const struct world_host *h = &w->hosts[sim->servers[i].host];
             h->frozen_until_us > w->now_us || h->stood_until_us > w->now_us;)
            world_run_until(w, h->frozen_until_us > w->now_us ? h->frozen_until_us
                                                              : h->stood_until_us);
    uint64_t end_us = w->now_us + QUIET_US, acked_n = sim->acked_n;
    const char *wrong = "not looked";
    while (wrong != NULL && w->now_us < end_us) {
        world_run_until(w, w->now_us + 500000);
        wrong = not_live(sim);
        if (wrong == NULL && sim->acked_n == acked_n)
            wrong = "nothing is acknowledged any more";
    }
    if (wrong != NULL)
        world_fail(w, "liveness: %s", wrong);
}

static void draw_world(struct sim *sim)
{
    struct world *w = &sim->w;
    struct raft_members members = {0};

    w->net.delay_min_us = 100;
    w->net.delay_max_us =
        (uint32_t)(world_chance(w, 300) ? 100000 : 200 + world_below(w, 10000));
    w->net.slow_permille = (uint32_t)world_below(w, 50);
    w->net.slow_max_us = w->net.delay_max_us + 100000 + (uint32_t)world_below(w, 1000000);
    w->net.lose_permille = world_chance(w, 500) ? (uint32_t)world_below(w, 200) : 0;
    w->net.twice_permille = world_chance(w, 500) ? (uint32_t)world_below(w, 100) : 0;
    weights_draw(w, sim->weights, FAULTS);
    sim->weights[FAULT_HEAL] += 3;
    sim->again_permille = world_chance(w, 500) ? (unsigned)world_below(w, 300) : 0;
    if (world_chance(w, 400)) {
        sim->strike_moments = 1u << world_below(w, MOMENTS);
        if (world_chance(w, 300))
            sim->strike_moments |= (unsigned)world_below(w, 1u << MOMENTS);
        sim->strike_kinds = 1u << world_below(w, FAULTS);
        if (world_chance(w, 600))
            sim->strike_kinds |= (unsigned)world_below(w, 1u << FAULTS);
        sim->strike_permille = 50 + (unsigned)world_below(w, 800);
    }
    unsigned kind = (unsigned)world_below(w, 6);
    if (kind == 0) { /* leaders come and go before anything has settled ([R] figure 8) */
        memset(sim->weights, 0, sizeof sim->weights);
        sim->weights[FAULT_KILL] = sim->weights[FAULT_POWER] = 6;
        sim->weights[FAULT_CUT] = 4;
        sim->weights[FAULT_HEAL] = 6;
        sim->is_hasty = true;
    } else if (kind == 1) { /* members come and go */
        sim->weights[FAULT_MEMBERS] += 20;
        sim->is_shrinking = true;
    }
    sim->proposals_us = 2000 + (uint32_t)world_below(w, 300000);
    sim->faults_us = world_chance(w, 500) ? 700000 : 50000 + (uint32_t)world_below(w, 300000);
    sim->restart_us = world_chance(w, 500) ? 2000000 : 1000 + (uint32_t)world_below(w, 300000);
    sim->save_min_us = (uint32_t)world_below(w, world_chance(w, 300) ? 20000 : 1000);
    sim->save_max_us =
        sim->save_min_us + (uint32_t)world_below(w, world_chance(w, 300) ? 150000 : 5000);
    if (kind == 0) {
        sim->faults_us = 100000 + (uint32_t)world_below(w, 400000);
        sim->restart_us = 1000 + (uint32_t)world_below(w, 300000);
        sim->save_min_us = 10000;
        sim->save_max_us = 20000 + (uint32_t)world_below(w, 200000);
        sim->proposals_us = 5000 + (uint32_t)world_below(w, 50000);
    }
    pace_draw(w, &sim->pace, sim->faults_us);
    sim->batch_max =
        sim->is_hasty || world_chance(w, 200) ? 1 + (uint32_t)world_below(w, 3) : 0;
    sim->snapshot_every = 5 + world_below(w, 200);
    sim->founders =
        kind == 0 ? 3 + 2 * (unsigned)world_below(w, 2) : 1 + (unsigned)world_below(w, 5);
    members.n = sim->founders;
    for (unsigned i = 0; i < sim->founders; i++) {
        members.v[i] = (struct raft_member){.id = i + 1, .voter = true};
        snprintf(members.v[i].name, sizeof members.v[i].name, "%u", i);
    }
    sim->watch = raft_watch_new(w, SERVERS_MAX);
    for (unsigned i = 0; i < sim->founders; i++) {
        struct raft_save vote = {.hard = true, .term = 1};
        struct raft_blob *b = raft_blob_new_take(1, 1, &members, mem_alloc(8), 8);
        add_server(sim);
        struct server *s = &sim->servers[i];
        s->joined = true;
        box_start(&s->box, &(struct store_load){0});
        CHECK(store_save(s->box.store, &vote) == 0);
        CHECK(store_snapshot(s->box.store, b, 0) == 0);
        store_close(s->box.store);
        s->box.store = NULL;
        raft_blob_unref(b);
        start(s);
    }
    world_at(w, w->now_us, propose_due, sim, 0, 0);
    world_at(w, w->now_us, fault_due, sim, 0, 0);
}

bool raft_seed(uint64_t seed, bool verbose, char *failure, size_t room)
{
    struct sim *sim = mem_new(struct sim);

    world_init(&sim->w, seed, verbose);
    runner_guard(&sim->w);
    if (setjmp(sim->w.stop) == 0) {
        draw_world(sim);
        run_all(sim);
    }
    runner_guard(NULL);
    bool ok = sim->w.failure[0] == 0;
    snprintf(failure, room, "%s", sim->w.failure);
    world_note(
        &sim->w, "%u leaders, %u entries committed, %u acknowledged, %u reads, %u events",
        raft_watch_leaders(sim->watch), (unsigned)raft_watch_committed(sim->watch),
        (unsigned)sim->acked_n, (unsigned)sim->reads_done, (unsigned)sim->w.events_total);
    if (ok) { /* after a failure nothing is safe to touch: it stays */
        for (size_t i = 0; i < sim->w.events_n; i++)
            if (sim->w.heap[i].run == datagram_due) {
                buf_free(sim->w.heap[i].ctx);
                mem_free(sim->w.heap[i].ctx);
            }
        for (unsigned i = 0; i < sim->n; i++) {
            struct server *s = &sim->servers[i];
            forget_jobs(s);
            box_free(&s->box);
            if (s->raft != NULL)
                raft_free(s->raft);
        }
        raft_watch_free(sim->watch);
        mem_free(sim->facts);
        world_free(&sim->w);
        mem_free(sim);
    }
    return ok;
}
