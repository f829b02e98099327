/* SPDX-License-Identifier: Apache-2.0 */
/* Servers: what src/server's shell does, in virtual time. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/reached.h"
#include "lib/fake_digest.h"
#include "server/member_found.h"
#include "server/member_repair.h"
#include "town.h"
#include "tree/state.h"

enum { ROT_TRIES = 4 }; /* bits, until one does harm */

uint64_t server_now_ms(const struct server *s) { return world_host_ms(&s->town->w, s->host); }

static void tell_time(struct server *s)
{
    member_time(s->member, server_now_ms(s), world_host_wall_ms(&s->town->w, s->host));
}

/* ---- member_io ---- */

static void io_send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    struct server *s = ctx;
    struct world *w = &s->town->w;

    /* A full queue drops: what travels between machines must bear loss. */
    if (to == 0 || to > s->town->servers_n || world_chance(w, w->net.lose_permille / 4))
        return;
    pipe_send(&s->peers[to - 1], data, len);
}

static void io_send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    struct link *l = link_of(ctx, conn);

    CHECK(l != NULL && l->server_knows);
    link_reply(l, data, len);
}

static void io_close_client(void *ctx, uint64_t conn)
{
    struct link *l = link_of(ctx, conn);

    CHECK(l != NULL && l->server_knows);
    l->server_knows = false;
    link_reply(l, NULL, 0);
}

static void io_random(void *ctx, void *data, size_t len)
{
    struct server *s = ctx;

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)rng_next(&s->town->w.rng);
}

/* ---- the disk ---- */

static bool core_save_take(void *ctx, struct raft_save *out)
{
    return member_save_take(((struct server *)ctx)->member, out);
}

static void core_saved(void *ctx)
{
    struct server *s = ctx;

    tell_time(s);
    member_saved(s->member);
}

static void core_tell(void *ctx, uint64_t to, struct buf *answer)
{
    io_send_peer(ctx, to, answer->data, answer->len);
}

static void core_told(void *ctx) { member_told(((struct server *)ctx)->member); }

static bool core_is_awaited(void *ctx)
{
    return member_save_is_awaited(((struct server *)ctx)->member);
}

static bool core_job_take(void *ctx, struct raft_job *out)
{
    return member_job_take(((struct server *)ctx)->member, out);
}

static uint64_t core_sent(void *ctx)
{
    return member_sent_snapshot(((struct server *)ctx)->member);
}

static void core_job_done(void *ctx, int err)
{
    struct server *s = ctx;

    tell_time(s);
    member_job_done(s->member, err);
}

static void core_room(void *ctx, const struct store_room *room, bool is_waiting)
{
    struct server *s = ctx;
    const struct member_room r = {room->free_bytes, room->reserve_bytes, room->wanted_bytes,
                                  is_waiting};

    if (s->member == NULL) /* it is just opened */
        return;
    tell_time(s);
    member_room(s->member, &r);
}

static void core_turn(void *ctx) { server_turn(ctx); }

static void core_died(void *ctx)
{
    struct server *s = ctx;
    bool power_loss = s->box.dies_of_power;

    server_crash(s, power_loss);
    server_restart_later(s,
                         power_loss ? world_below(&s->town->w, s->town->restart_us) : 200000);
}

static void load_state(void *ctx, uint64_t term, uint64_t vote)
{
    member_load_state(((struct server *)ctx)->member, term, vote);
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct server *s = ctx;

    s->load_err = member_load_snapshot(s->member, index, term, members, data, len);
}

static void load_begin(void *ctx, uint64_t index, uint64_t size)
{
    member_load_begin(((struct server *)ctx)->member, index, size);
}

static void load_piece(void *ctx, const uint8_t *data, size_t len)
{
    member_load_piece(((struct server *)ctx)->member, data, len);
}

static void load_entry(void *ctx, struct raft_entry *e)
{
    struct server *s = ctx;

    if (s->load_err == 0)
        s->load_err = member_load_entry(s->member, e);
}

/* ---- peers ---- */

static void from_peer(void *ctx, const uint8_t *data, size_t len)
{
    /* ctx is the sender's pipe: its two ends say who. */
    struct pipe *p = ctx;
    struct town *t = (struct town *)(void *)p->w; /* the world is its first field */
    struct server *s = NULL;
    unsigned from = 0;

    for (unsigned i = 0; i < t->servers_n; i++) {
        if (t->servers[i].host == p->to)
            s = &t->servers[i];
        if (t->servers[i].host == p->from)
            from = i;
    }
    if (s == NULL || s->member == NULL || data == NULL)
        return;
    tell_time(s);
    int err = member_peer(s->member, from + 1, data, len);
    if (err != 0)
        world_fail(&t->w, "server %u: a message from server %u is %s", s->n, from,
                   err_name(err));
    server_turn(s);
}

static bool are_ends_told(const struct town *t)
{
    return world_option(&t->w, OPTION_ENDS_TOLD) % 5 == 0;
}

static void gone_due(void *ctx, uint64_t who, uint64_t unused)
{
    struct server *s = ctx;
    struct world *w = &s->town->w;

    (void)unused;
    if (s->member == NULL || world_is_frozen(w, s->host) ||
        !world_reaches(w, s->town->servers[who].host, s->host))
        return;
    tell_time(s);
    member_peer_gone(s->member, who + 1);
    server_turn(s);
}

/* The connection on which `from` spoke to s has ended. Told as late as anything else. */
static void tell_gone(struct server *s, unsigned from)
{
    struct world *w = &s->town->w;

    if (are_ends_told(s->town))
        world_at(w, w->now_us + world_delay_us(w), gone_due, s, from, 0);
}

void server_break_peers(struct town *t, unsigned permille)
{
    for (unsigned i = 0; i < t->servers_n; i++)
        for (unsigned k = 0; k < t->servers_n; k++)
            if (i != k && world_chance(&t->w, permille)) {
                pipe_break(&t->servers[i].peers[k]);
                tell_gone(&t->servers[k], i);
            }
}

/* ---- life ---- */

void server_add(struct town *t, const char *name)
{
    CHECK(t->servers_n < TOWN_SERVERS_MAX);
    struct server *s = &t->servers[t->servers_n];
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
                                  .died = core_died,
                                  .room = core_room};

    s->town = t;
    s->n = t->servers_n++;
    if (s->n > 0)
        s->known = t->servers[0].known; /* who joins is told who there is */
    s->host = world_add_host(&t->w, name, (int32_t)world_below(&t->w, 20001) - 10000);
    box_init(&s->box, &t->w, s->host, &core);
    s->box.min_us = t->save_min_us;
    s->box.max_us = t->save_max_us;
    s->box.keep = t->keep;
    s->box.again_permille = t->again_permille;
    s->box.options.segment_bytes = 4000 + world_below(&t->w, 60000);
    s->box.options.reserve_bytes =
        t->reserve_bytes > 0 ? t->reserve_bytes
                             : 20000 + world_option(&t->w, OPTION_RESERVE) % 7 * 30000;
    for (unsigned i = 0; i < t->servers_n; i++) {
        struct server *o = &t->servers[i];
        pipe_init(&o->peers[s->n], &t->w, o->host, s->host, from_peer, &o->peers[s->n]);
        pipe_init(&s->peers[i], &t->w, s->host, o->host, from_peer, &s->peers[i]);
    }
}

void server_found(struct server *s, const struct raft_members *members)
{
    struct raft_save vote = {.hard = true, .term = 1};
    struct tree *tree = tree_new(1);
    struct buf bytes = {0};

    tree_save(tree, &bytes);
    struct raft_blob *b =
        raft_blob_new_take(1, 1, members, mem_dup(bytes.data, bytes.len), bytes.len);
    box_start(&s->box, &(struct store_load){0});
    CHECK(store_save(s->box.store, &vote) == 0);
    CHECK(store_snapshot(s->box.store, b, 0) == 0);
    store_close(s->box.store);
    s->box.store = NULL;
    s->exists = s->has_begun = true;
    s->known = *members;
    raft_blob_unref(b);
    buf_free(&bytes);
    tree_free(tree);
}

/* What src/server/newlife.c does. */
static void begin_new_life(struct server *s, const char *why)
{
    struct world *w = &s->town->w;

    world_note(w, "server %u: its store is set aside: %s", s->n, why);
    s->aside_birth = s->birth;
    s->birth = repair_birth(s->birth, rng_next(&w->rng));
    s->has_begun = false;
    if (world_chance(w, 100))
        return; /* a crash before it is set aside */
    box_replace(&s->box);
    s->is_spoiled = false;
}

/* A member with what the disk holds; a store that is damaged or gone makes way for a new one.
 */
static void open_store(struct server *s, struct member_options *o, const struct member_io *io)
{
    const struct store_load load = {s,          load_state, load_snapshot,
                                    load_entry, load_begin, load_piece};
    struct store_facts f;
    struct buf why = {0};
    bool has_begun_again = false;

    for (;;) {
        struct repair_question q = {
            .has_begun = s->has_begun, .self = s->n + 1, .known = &s->known};
        o->raft.birth = s->birth;
        s->load_err = 0;
        s->member = member_new(o, io);
        buf_clear(&why);
        q.err = box_open(&s->box, &load, &why);
        if (q.err == 0) {
            store_facts(s->box.store, &f);
            q.was_new = f.was_new;
            q.err = s->load_err;
        }
        enum repair_verdict verdict = repair_decide(&q);
        if (verdict == REPAIR_NOT_NEEDED && q.err == 0)
            break;
        if (verdict != REPAIR_NEW_LIFE)
            world_fail(&s->town->w,
                       "server %u: the store does not open, and is not repaired: "
                       "%s %s",
                       s->n, err_text(q.err), buf_text(&why));
        if (s->box.store != NULL)
            box_stop(&s->box);
        member_free(s->member);
        /* What a crash leaves must never be taken for damage. */
        if (!s->is_lost)
            world_fail(&s->town->w, "server %u: nothing has damaged its store: %s", s->n,
                       q.err == 0 ? "it is gone" : buf_text(&why));
        s->is_lost = has_begun_again = true;
        begin_new_life(s, q.err == 0 ? "it is gone" : buf_text(&why));
    }
    buf_free(&why);
    if (has_begun_again && !raft_is_stranger(member_raft(s->member)))
        world_fail(&s->town->w, "server %u has lost what it promised, and votes", s->n);
}

void server_start(struct server *s)
{
    struct town *t = s->town;
    const struct member_io io = {s,         io_send_peer, io_send_client, io_close_client,
                                 io_random, fake_digest};
    const uint64_t piece = world_option(&t->w, OPTION_PIECE),
                   log_bytes = world_option(&t->w, OPTION_LOG_BYTES),
                   snapshot_piece = world_option(&t->w, OPTION_SNAPSHOT_PIECE),
                   load_piece = world_option(&t->w, OPTION_LOAD_PIECE);
    struct member_options o = {
        .raft = {.id = s->n + 1,
                 .seed = rng_next(&t->w.rng),
                 .piece_max = piece % 3 == 1 ? 200 + (uint32_t)(piece % 2000) : 0,
                 .log_bytes_max =
                     log_bytes % 7 == 3 ? 8000 + (uint32_t)(log_bytes % 60000) : 0},
        .session_min_ms = 200,
        .read_only_after_ms = t->read_only_after_ms,
        .throttle_max = t->throttle_max,
        .snapshot_every = t->snapshot_every,
        /* A record at a time, some, or (as it is) nearly always all at once. */
        .snapshot_piece = snapshot_piece % 4 == 0   ? 1
                          : snapshot_piece % 4 == 2 ? 1000 + (uint32_t)(snapshot_piece % 5000)
                                                    : 0,
        .load_piece = load_piece % 5 == 0 ? 100 + (uint32_t)(load_piece % 1000) : 0,
        .lapse_check_ms = 500,
        .rules = TREE_RULE_RECONFIG | TREE_RULE_EXTENDED_TYPES | TREE_RULE_ENFORCE_QUOTA,
        .digest_every = 20 + world_option(&t->w, OPTION_DIGEST_EVERY) % 200,
        .digest_ms = 200 + (uint32_t)(world_option(&t->w, OPTION_DIGEST_MS) % 1500),
        .super_digest = TOWN_SUPER_DIGEST,
    };

    CHECK(s->member == NULL);
    s->exists = true;
    if (t->w.now_us < s->absent_until_us) {
        server_restart_later(s, s->absent_until_us - t->w.now_us);
        return;
    }
    open_store(s, &o, &io);
    s->timer_us = WORLD_NEVER;
    s->checked_index = 0;
    raft_watch_restarted(t->watch, s->n);
    member_start(s->member, server_now_ms(s), world_host_wall_ms(&t->w, s->host));
    const struct raft *r = member_raft(s->member);
    world_note(&t->w, "server %u starts: term %u, log %u to %u", s->n, (unsigned)raft_term(r),
               (unsigned)raft_first_index(r), (unsigned)raft_last_index(r));
    server_turn(s);
    if (s->n < t->agents_n && s->member != NULL)
        town_agent_start(t, s->n);
}

enum ending { ENDING_KILL, ENDING_POWER, ENDING_STOP };

static void end(struct server *s, enum ending how)
{
    static const char *const names[] = {"kill -9", "power off", "stopped"};
    bool power_loss = how == ENDING_POWER;

    if (s->member == NULL)
        return;
    world_note(&s->town->w, "server %u: %s", s->n, names[how]);
    if (s->n < s->town->agents_n) /* one process */
        town_agent_stop(s->town, s->n, power_loss);
    links_of_server_end(s, !power_loss);
    for (unsigned i = 0; i < s->town->servers_n; i++) {
        pipe_break(&s->peers[i]);
        pipe_break(&s->town->servers[i].peers[s->n]);
        if (!power_loss && i != s->n)
            tell_gone(&s->town->servers[i], s->n);
    }
    if (how == ENDING_STOP)
        box_stop(&s->box);
    else
        box_crash(&s->box, power_loss);
    s->is_lost = s->is_lost || s->is_wiped;
    s->is_wiped = false;
    member_free(s->member);
    s->member = NULL;
}

void server_crash(struct server *s, bool power_loss)
{
    end(s, power_loss ? ENDING_POWER : ENDING_KILL);
}

static void restart_due(void *ctx, uint64_t a, uint64_t b)
{
    struct server *s = ctx;

    (void)a, (void)b;
    if (s->member == NULL && s->exists)
        server_start(s);
}

void server_restart_later(struct server *s, uint64_t in_us)
{
    world_at(&s->town->w, s->town->w.now_us + in_us, restart_due, s, 0, 0);
}

void server_free(struct server *s)
{
    box_free(&s->box);
    if (s->member != NULL)
        member_free(s->member);
    for (unsigned i = 0; i < TOWN_SERVERS_MAX; i++)
        pipe_break(&s->peers[i]);
}

/* ---- the loop ---- */

static void timer_due(void *ctx, uint64_t life, uint64_t due_us)
{
    struct server *s = ctx;
    struct world *w = &s->town->w;

    if (s->member == NULL || life != s->box.life || due_us != s->timer_us)
        return;
    if (world_is_frozen(w, s->host)) {
        /* What came for it meanwhile may be looked at before the clock. */
        s->timer_us = w->hosts[s->host].frozen_until_us + world_below(w, 20000);
        world_at(w, s->timer_us, timer_due, s, life, s->timer_us);
        return;
    }
    s->timer_us = WORLD_NEVER;
    tell_time(s);
    server_turn(s);
}

/* What the process does with a server that may not go on. */
static void condemned_due(void *ctx, uint64_t life, uint64_t unused)
{
    struct server *s = ctx;

    (void)unused;
    if (s->member == NULL || s->box.life != life)
        return;
    /* What it was to load may have been wiped away under it. */
    if (!s->is_spoiled && !s->is_wiped && !s->town->is_tainted)
        world_fail(&s->town->w, "server %u is right and was condemned: %s", s->n,
                   member_condemned(s->member));
    end(s, ENDING_STOP);
    begin_new_life(s, "condemned");
    s->is_lost = true;
    server_start(s);
}

/* ---- the person whom a split of the trees needs ----
 *
 * No majority can say which tree is right (decision 007), and the leader's status says so.
 * Somebody looks, when it has been so for a while, and sets one store aside, if enough others
 * are left. */

enum { PERSON_MS = 3000 };

/* Which one is wrong, for somebody who looks into all of them. A spoiled tree that was given
 * away has no mark: then it is who differs from most. */
static bool is_wrong(struct server *s)
{
    struct town *t = s->town;
    unsigned same = 1, others = 0;

    if (s->is_spoiled || !t->is_tainted)
        return s->is_spoiled;
    for (unsigned i = 0; i < t->servers_n; i++) {
        struct server *o = &t->servers[i];
        if (o == s || o->member == NULL ||
            raft_applied(member_raft(o->member)) != raft_applied(member_raft(s->member)))
            continue;
        if (tree_digest(member_tree(o->member)) == tree_digest(member_tree(s->member)))
            same++;
        else
            others++;
    }
    return others > same || (others == same && server_leader(t) != s);
}

static bool may_be_set_aside(struct server *s)
{
    const struct raft_members *m = raft_members(member_raft(s->member));
    unsigned voters = 0, left = 0;

    for (unsigned i = 0; i < m->n; i++) {
        struct server *o = &s->town->servers[m->v[i].id - 1];
        voters += m->v[i].voter;
        left += m->v[i].voter && o != s && o->member != NULL && !o->is_lost;
    }
    return left > voters / 2;
}

static void person_due(void *ctx, uint64_t life, uint64_t unused)
{
    struct server *s = ctx;
    struct server *leader = server_leader(s->town);
    struct member_facts f;

    (void)unused;
    s->is_looked_at = false;
    if (s->member == NULL || s->box.life != life || leader == NULL)
        return;
    member_facts(leader->member, &f);
    if (!f.digests_are_split || !is_wrong(s) || !may_be_set_aside(s))
        return;
    world_note(&s->town->w, "server %u: somebody sets its store aside", s->n);
    end(s, ENDING_STOP);
    begin_new_life(s, "the trees differ");
    s->is_lost = true;
    server_start(s);
}

static void look_for_split(struct server *s)
{
    struct town *t = s->town;
    struct member_facts f;

    member_facts(s->member, &f);
    for (unsigned i = 0; t->quiet && f.digests_are_split && i < t->servers_n; i++) {
        struct server *o = &t->servers[i];
        if (o->member == NULL || o->is_looked_at || !is_wrong(o))
            continue;
        o->is_looked_at = true;
        world_at(&t->w, t->w.now_us + PERSON_MS * 1000, person_due, o, o->box.life, 0);
    }
}

void server_turn(struct server *s)
{
    struct world *w = &s->town->w;

    member_flush(s->member);
    box_work(&s->box);
    if (raft_saved_term(member_raft(s->member)) > 0)
        s->has_begun = true;
    if (member_condemned(s->member) != NULL) {
        world_note(w, "server %u: %s", s->n, member_condemned(s->member));
        world_at(w, w->now_us, condemned_due, s, s->box.life, 0);
    }
    if (raft_members(member_raft(s->member))->n > 0)
        s->known = *raft_members(member_raft(s->member));
    town_check_server(s);
    town_faults_look(s);
    look_for_split(s);
    uint64_t due_us = world_host_due(w, s->host, member_deadline(s->member));
    if (due_us < s->timer_us) {
        s->timer_us = due_us;
        world_at(w, due_us, timer_due, s, s->box.life, due_us);
    }
}

/* What a disk holds may be lost only if no other one is being made good, and never of two
 * voters. */
static bool may_lose_disk(struct town *t)
{
    struct server *leader = server_leader(t);
    const struct raft_members *m;
    unsigned voters = 0;

    if (leader == NULL || leader->member == NULL || t->loses_members ||
        !raft_may_change(member_raft(leader->member)))
        return false;
    m = raft_members(member_raft(leader->member));
    for (unsigned i = 0; i < t->servers_n; i++) {
        struct server *o = &t->servers[i];
        if (o->is_spoiled)
            return false;
        const struct raft_member *v = raft_member_find(m, o->n + 1);
        /* One whose earlier disk is back does not know that it is a stranger. */
        o->is_lost = o->is_lost && v != NULL &&
                     (o->member == NULL || v->birth != o->birth ||
                      raft_is_stranger(member_raft(o->member)));
        if (o->is_lost || o->is_wiped) {
            REACHED(sim_too_much);
            return false;
        }
    }
    for (unsigned i = 0; i < m->n; i++) {
        if (m->v[i].auto_promote)
            return false; /* one of fewer voters is too many */
        voters += m->v[i].voter;
    }
    return voters >= 3;
}

void server_lose_disk(struct server *s)
{
    struct town *t = s->town;

    if (!may_lose_disk(t))
        return;
    t->loses_disks = true;
    server_crash(s, true);
    box_replace(&s->box);
    s->is_lost = true;
    s->aside_birth = s->birth;
    if (world_option(&t->w, OPTION_STORE_LOST) % 2 == 0 && s->known.n > 0) {
        REACHED(sim_store_lost);
        world_note(&t->w, "server %u: its store is lost", s->n);
        server_restart_later(s, world_below(&t->w, t->restart_us));
        return;
    }
    REACHED(sim_disk_lost);
    world_note(&t->w, "server %u: its disk is lost", s->n);
    s->birth = 1 + (rng_next(&t->w.rng) >> 3);
    s->has_begun = false; /* this was on the disk, too */
    s->absent_until_us = t->w.now_us + 1000 * (uint64_t)FOUND_LATE_MS;
    server_restart_later(s, 1000 * (uint64_t)FOUND_LATE_MS + world_below(&t->w, t->restart_us));
}

void server_wipe(struct server *s)
{
    struct town *t = s->town;

    if (!may_lose_disk(t) || s->member == NULL || s->known.n == 0)
        return;
    t->loses_disks = true;
    world_note(&t->w, "server %u: its directory is wiped", s->n);
    REACHED(sim_wiped);
    sim_disk_wipe(s->box.disk);
    s->is_wiped = true;
}

void server_spoil(struct server *s)
{
    struct town *t = s->town;

    if (!may_lose_disk(t) || s->member == NULL || member_condemned(s->member) != NULL)
        return;
    if (t->is_tainted)
        return; /* with a second wrong tree beside one that was given on, nobody can tell */
    struct tree *tree = (struct tree *)member_tree(s->member);
    const char *path = "/zookeeper/quota";
    size_t len = strlen(path);
    uint32_t id = nodes_find(&tree->nodes, path, len);
    t->loses_disks = true;
    s->is_spoiled = true;
    tree->digest -= tree_digest_self(tree, id, path, len);
    struct node_changes c = nodes_changes(&tree->nodes, id);
    uint64_t field = world_option(&t->w, OPTION_SPOILED) / 4 % 4;
    c.mtime += field == 0;
    c.mzxid += field == 1;
    c.version += field == 2;
    c.aversion += field == 3;
    nodes_set_changes(&tree->nodes, id, &c); /* which no client looks at */
    tree->digest += tree_digest_self(tree, id, path, len);
    REACHED(sim_tree_spoiled);
    world_note(&t->w, "server %u: its tree is spoiled", s->n);
}

void server_put_back(struct server *s)
{
    struct town *t = s->town;
    uint64_t birth = s->birth;

    if (!may_lose_disk(t) || s->member == NULL || s->box.aside == NULL)
        return;
    server_crash(s, true);
    CHECK(box_put_back(&s->box));
    REACHED(sim_put_back);
    world_note(&t->w, "server %u: the disk of its earlier life is put back", s->n);
    s->is_lost = true;
    s->birth = s->aside_birth;
    s->aside_birth = birth;
    server_restart_later(s, world_below(&t->w, t->restart_us));
}

void server_rot(struct server *s)
{
    struct town *t = s->town;

    if (!may_lose_disk(t) || s->member == NULL || s->known.n == 0)
        return;
    t->loses_disks = true;
    end(s, (enum ending)world_below(&t->w, 3));
    for (unsigned i = 0; i < ROT_TRIES; i++)
        if (box_rot(&s->box))
            s->is_lost = true; /* perhaps: the next start says */
    server_restart_later(s, world_below(&t->w, t->restart_us));
}

struct server *server_leader(struct town *t)
{
    struct server *best = NULL;

    for (unsigned i = 0; i < t->servers_n; i++) {
        struct server *s = &t->servers[i];
        if (s->member != NULL && raft_role(member_raft(s->member)) == RAFT_LEADER &&
            (best == NULL ||
             raft_term(member_raft(s->member)) > raft_term(member_raft(best->member))))
            best = s;
    }
    return best;
}
