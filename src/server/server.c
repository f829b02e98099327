/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/clock.h"
#include "server/member_found.h"
#include "server/member_repair.h"
#include "server/newlife.h"
#include "server/secret.h"
#include "server/server_internal.h"
#include "server/words.h"

static void woken(void *ctx)
{
    struct server *s = ctx;

    member_time(s->member, clock_now_ms(), (int64_t)clock_wall_ms());
}

/* ---- member_io ---- */

static void send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    struct server *s = ctx;

    if (s->transport != NULL)
        transport_send(s->transport, to, CHANNEL_MEMBER, data, len);
}

static void send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    clients_send(((struct server *)ctx)->clients, conn, data, len);
}

/* For the answer to whoever leads. */
static bool lend(void *ctx, uint64_t to)
{
    struct server *s = ctx;

    return s->transport != NULL && transport_lend(s->transport, to);
}

static void close_client(void *ctx, uint64_t conn)
{
    clients_close(((struct server *)ctx)->clients, conn);
}

static void random_bytes(void *ctx, void *data, size_t len)
{
    (void)ctx;
    secret_random(data, len);
}

static void password_digest(void *ctx, const void *data, size_t len, struct buf *out)
{
    const struct server *s = ctx;

    CHECK(secret_digest(s->options.settings.digest_algorithm, data, len, out) == 0);
}

/* ---- loading ---- */

static void load_state(void *ctx, uint64_t term, uint64_t vote)
{
    member_load_state(((struct server *)ctx)->member, term, vote);
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct server *s = ctx;

    s->load_began_ms = clock_now_ms();
    s->load_left = len;
    s->load_err = member_load_snapshot(s->member, index, term, members, data, len);
}

static void load_piece(void *ctx, const uint8_t *data, size_t len)
{
    struct server *s = ctx;

    if (s->load_err != 0)
        return;
    s->load_err = member_load_piece(s->member, data, len);
    s->load_left -= len;
    if (s->load_left == 0)
        summary_add(&s->load_snapshot_ms, clock_now_ms() - s->load_began_ms);
}

static void load_entry(void *ctx, struct raft_entry *e)
{
    struct server *s = ctx;

    s->entries_loaded++;
    if (s->load_err == 0)
        s->load_err = member_load_entry(s->member, e);
}

/* ---- a newer epoch ---- */

/* What this server may still say must not be heard: so the links go first, at once. */
static void newer_epoch(void *ctx, const struct epoch *newer)
{
    struct server *s = ctx;

    if (s->is_outdated)
        return;
    s->is_outdated = true;
    s->newer = *newer;
    log_event(LOG_ERROR, "epoch_over", LOG_U("epoch", s->options.self->epoch.number),
              LOG_U("newer", newer->number),
              LOG_S("why", "this machine was away when the quorum was given up for lost, and "
                           "another one was recovered (muster recover)"),
              LOG_S("effect", "this server serves and votes no more; its store is set aside, "
                              "and it joins the others anew"));
}

static void leave_epoch(struct server *s)
{
    if (!s->is_outdated || s->stopping)
        return;
    if (s->transport != NULL)
        transport_stop(s->transport);
    s->transport = NULL;
    if (s->options.outdated != NULL)
        s->options.outdated(s->options.outdated_ctx, &s->newer);
    else
        s->options.failed(s->options.ctx, ERR_UNSAFE);
}

/* ---- the turn ---- */

/* Member by member: bytes between the fields may differ. */
static bool are_same(const struct raft_members *a, const struct raft_members *b)
{
    bool is_same = a->n == b->n;

    for (unsigned i = 0; is_same && i < a->n; i++)
        is_same = a->v[i].id == b->v[i].id && a->v[i].voter == b->v[i].voter &&
                  a->v[i].auto_promote == b->v[i].auto_promote &&
                  a->v[i].birth == b->v[i].birth && strcmp(a->v[i].more, b->v[i].more) == 0 &&
                  strcmp(a->v[i].name, b->v[i].name) == 0 &&
                  strcmp(a->v[i].address, b->v[i].address) == 0;
    return is_same;
}

static void note_changes(struct server *s)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    const struct raft *r = member_raft(s->member);
    /* The latest in the log, not what is applied: after a restart nothing above the snapshot
     * is applied until a leader says how far the log is committed, and without links to the
     * others none ever would. */
    const struct raft_members *now = raft_members(r);

    if (raft_role(r) != s->role_seen) {
        s->role_seen = raft_role(r);
        log_event(LOG_NOTICE, "raft_role", LOG_S("role", roles[s->role_seen]),
                  LOG_U("term", raft_term(r)));
    }
    if (member_is_serving(s->member) != s->serving_seen) {
        s->serving_seen = !s->serving_seen;
        log_event(s->serving_seen ? LOG_NOTICE : LOG_WARNING,
                  s->serving_seen ? "serving" : "not_serving", LOG_U("term", raft_term(r)),
                  LOG_S("why", s->serving_seen ? "there is a quorum" : "no leader is heard"));
    }
    if (member_is_read_only(s->member) != s->read_only_seen) {
        s->read_only_seen = !s->read_only_seen;
        log_event(LOG_NOTICE, s->read_only_seen ? "read_only" : "not_read_only",
                  LOG_S("why", s->read_only_seen ? "there has been no quorum for a while"
                                                 : "there is a quorum"));
    }
    if (now->n > 0 && !are_same(now, &s->members)) {
        s->members = *now;
        s->save_again = true;
        if (s->transport != NULL)
            transport_set_peers(s->transport, now);
        log_event(LOG_NOTICE, "members", LOG_U("count", now->n));
        if (s->options.members != NULL)
            s->options.members(s->options.ctx, now);
    }
}

_Static_assert(STORE_TIGHT_RESERVES == ROOM_FULL_RESERVES, "one of them is about the other");

/* Each change of what the member makes of the disks is a line. */
static void note_disk(struct server *s)
{
    struct member_disk_facts was = s->disk_seen;
    struct member_facts f;

    member_facts(s->member, &f);
    const struct member_disk_facts *d = &s->disk_seen;
    s->disk_seen = f.disk;
    if (d->own != was.own)
        log_event(d->own > was.own ? LOG_WARNING : LOG_NOTICE, "disk_room",
                  LOG_S("room", room_name(d->own)), LOG_U("free_bytes", d->room.free_bytes),
                  LOG_U("reserve_bytes", d->room.reserve_bytes),
                  LOG_U("of_reserve_bytes", d->room.wanted_bytes),
                  LOG_S("next", d->own >= ROOM_LOW ? "free some room, or give the disk more"
                                                   : "nothing: it has healed"));
    if (d->ensemble != was.ensemble && (d->ensemble >= ROOM_FULL || was.ensemble >= ROOM_FULL))
        log_event(d->ensemble >= ROOM_FULL ? LOG_ERROR : LOG_NOTICE, "ensemble_room",
                  LOG_S("room", room_name(d->ensemble)),
                  LOG_U("free_bytes", d->ensemble_free_bytes),
                  LOG_S("effect", d->ensemble >= ROOM_FULL
                                      ? "new data is refused; deletes and claims are not"
                                      : "new data is accepted again"));
    if (d->is_slow != was.is_slow)
        log_event(d->is_slow ? LOG_WARNING : LOG_NOTICE,
                  d->is_slow ? "disk_slow" : "disk_quick", LOG_U("save_ms", d->saving_ms),
                  LOG_U("limit_ms", MEMBER_SLOW_MS));
    if (d->is_lagging != was.is_lagging)
        log_event(d->is_lagging ? LOG_WARNING : LOG_NOTICE,
                  d->is_lagging ? "disk_behind" : "disk_caught_up",
                  LOG_U("saved", raft_saved_index(member_raft(s->member))),
                  LOG_U("committed", raft_committed(member_raft(s->member))),
                  LOG_S("effect", d->is_lagging ? "clients are sent to other servers"
                                                : "clients are served again"));
    if (d->hand_overs_total != was.hand_overs_total)
        log_event(LOG_WARNING, "leadership_offered", LOG_S("room", room_name(d->own)),
                  LOG_U("save_ms", d->saving_ms), LOG_U("others_first_ms", d->behind_ms),
                  LOG_S("why", d->is_slow ? "the disk is slow" : "the disk is full"));
}

bool server_ails(const struct server *s, struct buf *out)
{
    const struct raft *r = member_raft(s->member);
    const struct raft_member *self = raft_member_find(raft_members(r), s->options.self->id);
    struct member_facts f;

    member_facts(s->member, &f);
    if (s->options.self->birth != 0 &&
        (raft_is_stranger(r) || (self != NULL && !self->voter && self->auto_promote))) {
        buf_add_str(out,
                    "this server does not vote yet: it fetches everything from the others");
        if (s->aside.kept > 0)
            buf_printf(out, ", since its store was set aside as %s: %s", s->aside.name,
                       s->aside.why);
        if (raft_leader(r) == RAFT_NOBODY)
            buf_add_str(out,
                        "; no leader is heard: if too many of the others are lost as well, "
                        "muster recover on the one that has the most");
        return true;
    }
    if (f.digests_are_split)
        buf_add_str(out, "the servers' trees differ, and no majority agrees: see "
                         "docs/operations.md, \"The trees differ\"");
    return f.digests_are_split;
}

static void end_condemned(struct server *s)
{
    const char *why = member_condemned(s->member);

    if (why == NULL || s->condemned || s->stopping)
        return;
    struct member_facts f;
    member_facts(s->member, &f);
    s->options.self->mismatches += f.digest_mismatches_total;
    s->condemned = true;
    if (s->members.n > 0)
        s->options.self->peers = s->members; /* whom it will find the others by */
    log_event(LOG_ERROR, "condemned", LOG_S("why", why),
              LOG_S("effect", "this server is silent from now on; its store is set aside, and "
                              "it fetches everything from the others"));
    s->options.condemned(s->options.ctx, why);
}

/* The store holds something: from now on an empty one is a lost one. Once in a life, and before
 * anything that this turn promises goes out: so it may wait for the disk. */
static void note_begun(struct server *s)
{
    struct identity *self = s->options.self;
    struct buf why = {0};

    if (self->has_begun || raft_saved_term(member_raft(s->member)) == 0)
        return;
    self->has_begun = true;
    if (identity_save(self, s->options.dir, &why) != 0) {
        self->has_begun = false; /* the next turn tries again */
        log_event(LOG_ERROR, "machine_not_saved", LOG_S("why", buf_text(&why)));
    }
    buf_free(&why);
}

static void timer_due(uv_timer_t *timer) { (void)timer; } /* the turn follows */

static void close_all(struct server *s);

static void turn(uv_prepare_t *prepare)
{
    struct server *s = prepare->data;
    uint64_t now_ms = clock_now_ms();

    leave_epoch(s);
    writer_look(s->writer);
    note_begun(s);
    woken(s);
    server_joins_go_on(s);
    member_flush(s->member);
    if (clients_resume(s->clients))
        member_flush(s->member);
    note_changes(s);
    limits_tell(&s->told, s->member, now_ms);
    server_save_peers(s);
    note_disk(s);
    end_condemned(s);
    /* The others first: their way to the disk is longer than ours. */
    if (s->transport != NULL)
        transport_flush(s->transport);
    writer_work(s->writer);
    if (s->stopping) /* for its end; a turn for each moment until then would be in its way */
        writer_wait(s->writer);
    uint64_t at_ms = clients_wait(s->clients) ? now_ms : member_deadline(s->member);
    for (unsigned i = 0; i < JOINS_MAX; i++)
        if (s->joins[i].ticket != 0 && s->joins[i].again_ms < at_ms)
            at_ms = s->joins[i].again_ms;
    if (s->stopping && now_ms < s->stop_until_ms && s->stop_until_ms < at_ms)
        at_ms = s->stop_until_ms;
    uv_timer_start(&s->timer, timer_due, at_ms > now_ms ? at_ms - now_ms : 0, 0);
    if (s->stopping && writer_is_idle(s->writer) && !s->is_saving &&
        (raft_role(member_raft(s->member)) != RAFT_LEADER || now_ms >= s->stop_until_ms))
        close_all(s);
}

/* Another one has no data, and asks whether we have. */
static void founding_asked(struct server *s, uint64_t from, const uint8_t *data, size_t len)
{
    struct found_message q, a = {.has_data = member_has_data(s->member)};
    const struct raft_members *all = raft_members(member_raft(s->member));
    const struct raft_member *self = raft_member_find(all, s->options.self->id);
    struct buf b = {0};

    if (found_message_decode(&q, data, len) != 0 || q.from.id != from || !q.is_question)
        return;
    a.config = found_config(all);
    a.from.id = s->options.self->id;
    if (self != NULL)
        a.from = *self;
    transport_guest(s->transport, &q.from);
    found_message_encode(&a, &b);
    transport_send(s->transport, from, CHANNEL_FOUND, b.data, b.len);
    buf_free(&b);
}

static void peer_received(void *ctx, uint64_t from, enum transport_channel channel,
                          const uint8_t *data, size_t len)
{
    struct server *s = ctx;

    if (s->is_outdated)
        return;
    if (channel == CHANNEL_FOUND) {
        founding_asked(s, from, data, len);
        return;
    }
    if (channel == CHANNEL_MEMBER) {
        woken(s);
        if (member_peer(s->member, from, data, len) != 0)
            log_event(LOG_WARNING, "peer_message_malformed", LOG_U("from", from));
        return;
    }
    for (unsigned i = 0; i < s->members.n; i++)
        if (s->members.v[i].id == from && s->options.agent_received != NULL)
            s->options.agent_received(s->options.ctx, s->members.v[i].name, data, len);
}

static void peer_gone(void *ctx, uint64_t from)
{
    struct server *s = ctx;

    if (s->is_outdated)
        return;
    woken(s);
    member_peer_gone(s->member, from);
}

/* ---- life ---- */

static int open_store(struct disk **disk, struct store **store, const char *dir,
                      const struct identity *self, const struct settings *set,
                      const struct store_load *load, struct buf *why)
{
    struct buf path = {0};
    struct store_options options = {.snapshots_kept = (unsigned)set->snapshots_kept,
                                    .reserve_bytes = STORE_RESERVE_BYTES};

    identity_store_path(self, dir, &path);
    secret_random(&options.salt, sizeof options.salt);
    int err = disk_posix_new(disk, buf_text(&path));
    if (err != 0)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    else if ((err = store_open(store, *disk, &options, load, why)) != 0)
        disk_posix_free(*disk);
    buf_free(&path);
    return err;
}

/* A directory without a machine may hold what an attempt has left: torn, and nobody's. */
static int clear_store(const char *dir, const struct identity *self, struct buf *why)
{
    struct buf path = {0}, names = {0};
    struct disk *disk;

    identity_store_path(self, dir, &path);
    int err = disk_posix_new(&disk, buf_text(&path));
    if (err == 0) {
        err = disk->ops->list(disk, &names);
        for (size_t at = 0; err == 0 && at < names.len;
             at += strlen((const char *)names.data + at) + 1)
            err = disk->ops->remove(disk, (const char *)names.data + at);
        if (err == 0)
            err = disk->ops->sync_dir(disk);
        disk_posix_free(disk);
    }
    if (err != 0)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    buf_free(&path);
    buf_free(&names);
    return err;
}

/* Takes over t, whose state becomes the snapshot that the log begins behind. */
static int create_store(const char *dir, const struct identity *self, struct tree *t,
                        uint64_t index, uint64_t term, struct buf *why)
{
    struct raft_save vote = {.hard = true, .term = term, .vote = self->id};
    struct disk *disk;
    struct store *store;
    struct buf snapshot = {0};

    tree_save(t, &snapshot);
    tree_free(t);
    if (snapshot.len > RAFT_SNAPSHOT_MAX) {
        buf_printf(why,
                   "the tree takes %zu bytes, and muster holds at most %u: it would not fit "
                   "into a snapshot",
                   snapshot.len, RAFT_SNAPSHOT_MAX);
        buf_free(&snapshot);
        return ERR_TOO_BIG;
    }
    const struct settings set = settings_default();
    int err = open_store(&disk, &store, dir, self, &set, &(const struct store_load){0}, why);
    if (err == 0) {
        CHECK(snapshot.gone == 0); /* so it begins where it was allocated */
        struct raft_blob *b =
            raft_blob_new_take(index, term, &self->peers, snapshot.data, snapshot.len);
        snapshot = (struct buf){0};
        err = store_save(store, &vote);
        if (err == 0)
            err = store_snapshot(store, b, 0);
        if (err != 0)
            buf_printf(why, "%s: the store: %s", dir, err_text(err));
        raft_blob_unref(b);
        store_close(store);
        disk_posix_free(disk);
    }
    buf_free(&snapshot);
    return err;
}

int server_restore_take(const char *dir, const struct identity *self, struct tree *t,
                        uint64_t index, struct buf *why)
{
    struct identity begun = *self;
    int err = identity_prepare(self, dir, why);

    if (err == 0)
        err = clear_store(dir, self, why);
    if (err == 0)
        err = create_store(dir, self, t, index, 1, why);
    else
        tree_free(t);
    begun.has_begun = true;
    if (err == 0)
        err = identity_finish(&begun, dir, why);
    return err;
}

int server_recover_take(const char *dir, const struct identity *self, struct tree *t,
                        uint64_t index, uint64_t term, struct buf *why)
{
    struct identity begun = *self;
    int err = create_store(dir, self, t, index, term, why);

    begun.has_begun = true;
    if (err == 0)
        err = identity_save(&begun, dir, why);
    if (err == 0 && (err = identity_save_peers(dir, &self->peers)) != 0)
        buf_printf(why, "%s/peers: %s", dir, err_text(err));
    return err;
}

int server_create_take(const char *dir, const struct identity *self, struct tree *t,
                       struct buf *why)
{
    uint64_t index = tree_zxid(t) > 0 ? (uint64_t)tree_zxid(t) : 1;

    return server_restore_take(dir, self, t, index, why);
}

int server_create(const char *dir, const struct identity *self, struct buf *why)
{
    return server_create_take(dir, self, tree_new(1), why);
}

int server_create_joined(const char *dir, const struct identity *self, struct buf *why)
{
    int err = identity_prepare(self, dir, why);

    if (err == 0)
        err = clear_store(dir, self, why);
    if (err == 0)
        err = identity_finish(self, dir, why);
    return err;
}

static void disk_failed(void *ctx, int err)
{
    struct server *s = ctx;
    struct store_facts f;

    store_facts(s->store, &f);
    log_event(
        LOG_CRIT, "disk_failed", LOG_S("why", f.last_error[0] ? f.last_error : err_text(err)),
        LOG_S("dir", s->store_dir),
        LOG_S("effect", "this server ends; what the disk holds is read at the next start"),
        LOG_S("next", "it is started again (systemd, or muster up); if it ends again: dmesg, "
                      "another disk"));
    s->options.failed(s->options.ctx, err);
}

static int listen_all(struct server *s, struct buf *why)
{
    const struct server_options *o = &s->options;
    const struct clients_options c = {o->client_address, o->client_port, s->member, s, woken,
                                      server_word,       &o->settings};
    const struct transport_options t = {
        o->self,
        o->peer_address,
        o->peer_port != 0 ? o->peer_port : (uint16_t)SERVER_PEER_PORT,
        s,
        peer_received,
        server_join_asked,
        newer_epoch,
        peer_gone,
        s->door};
    int err = clients_start(&s->clients, s->loop, &c, why);

    if (err == 0 && o->peer_address != NULL)
        err = transport_start(&s->transport, s->loop, &t, why);
    if (err != 0 || o->http_address == NULL)
        return err;
    err = http_start(&s->http, s->loop, o->http_address, o->http_port, s->pages, s, why);
    if (err != 0 && o->http_may_fail) {
        log_event(
            LOG_WARNING, "http_not_started", LOG_S("why", buf_text(why)),
            LOG_S("effect", "no metrics, no admin pages: choose another admin.serverPort"));
        buf_clear(why);
        err = 0;
    }
    return err;
}

#define GONE "it is empty, and was not when this server ran last"

static void unload(struct server *s)
{
    store_close(s->store);
    if (s->disk != NULL)
        disk_posix_free(s->disk);
    member_free(s->member);
    s->store = NULL;
    s->disk = NULL;
    s->member = NULL;
}

/* A member with what the store holds; *was_new as in store_facts. On error nothing is open. */
static int load(struct server *s, const struct member_options *m, const struct member_io *io,
                bool *was_new, struct buf *why)
{
    const struct store_load into = {s, load_state, load_snapshot, load_entry, load_piece};
    struct store_facts f;

    s->load_err = 0;
    s->entries_loaded = 0;
    s->member = member_new(m, io);
    int err = open_store(&s->disk, &s->store, s->options.dir, s->options.self,
                         &s->options.settings, &into, why);
    if (err != 0) {
        s->disk = NULL;
        s->store = NULL;
    } else if (s->load_err != 0) {
        err = s->load_err;
        buf_printf(why, "%s: what it holds %s", s->store_dir,
                   err == ERR_CORRUPT ? "does not fit together"
                                      : "was written by another version of muster");
    } else {
        store_facts(s->store, &f);
        *was_new = f.was_new;
    }
    if (err != 0)
        unload(s);
    return err;
}

/* The store is damaged, or gone, or what it leads to is wrong: see member_repair.h. reason
 * NULL: it is gone. */
static int begin_again(const char *dir, struct identity *self, const char *reason,
                       struct buf *why)
{
    const struct repair_question q = {.self = self->id, .known = &self->peers};
    struct buf aside = {0}, effect = {0};
    int err = new_life_begin(dir, self, reason, &aside, why);

    if (err == 0) {
        repair_say(&q, &effect);
        log_event(LOG_ERROR, "new_life", LOG_S("why", reason != NULL ? reason : GONE),
                  LOG_S("set_aside", aside.len > 0 ? buf_text(&aside) : "nothing was left"),
                  LOG_S("effect", buf_text(&effect)));
    }
    buf_free(&aside);
    buf_free(&effect);
    return err;
}

int server_begin_again(const char *dir, struct identity *self, const char *reason,
                       struct buf *why)
{
    return begin_again(dir, self, reason, why);
}

static int load_or_repair(struct server *s, struct member_options *m,
                          const struct member_io *io, struct buf *why)
{
    struct identity *self = s->options.self;
    struct repair_question q = {
        .has_begun = self->has_begun, .self = self->id, .known = &self->peers};

    struct buf reason = {0};

    q.err = load(s, m, io, &q.was_new, why);
    int err = q.err;
    switch (repair_decide(&q)) {
    case REPAIR_NOT_NEEDED: break;
    case REPAIR_IMPOSSIBLE:
        if (q.err == 0) {
            unload(s);
            buf_printf(why, "%s is empty, and was not when this server ran last", s->store_dir);
        }
        return ERR_CORRUPT;
    case REPAIR_NEW_LIFE:
        if (q.err == 0)
            unload(s);
        buf_add(&reason, why->data, why->len);
        buf_clear(why);
        err = begin_again(s->options.dir, self, q.err != 0 ? buf_text(&reason) : NULL, why);
        buf_free(&reason);
        m->raft.birth = self->birth;
        if (err == 0)
            err = load(s, m, io, &q.was_new, why);
        break;
    }
    return err;
}

int server_start(struct server **out, uv_loop_t *loop, const struct server_options *options,
                 struct buf *why)
{
    struct server *s = mem_new(struct server);
    const struct member_io io = {
        s, send_peer, send_client, close_client, random_bytes, password_digest};
    const struct settings *set = &options->settings;
    struct member_options m = {
        .raft = {.id = options->self->id, .birth = options->self->birth},
        .session_min_ms = set->session_min_ms,
        .session_max_ms = set->session_max_ms,
        .snapshot_every = (uint64_t)set->snapshot_every,
        .lapse_check_ms = (uint32_t)set->container_check_ms,
        .lapse_per_minute_max = (uint32_t)set->container_per_minute_max,
        .container_never_used_ms = set->container_never_used_ms,
        .rules = settings_rules(set),
        .sessions_max = (uint32_t)set->sessions_max,
        .tree_bytes_max = (uint32_t)set->tree_bytes_max,
        .super_digest = set->super_digest[0] != 0 ? set->super_digest : NULL,
        .frame_max = (uint32_t)set->frame_max,
        .outstanding_max = (uint32_t)set->outstanding_max,
        .throttle_max = (uint32_t)set->throttle_max,
        .throttled_op_wait_ms = (uint32_t)set->throttled_op_wait_ms,
        .large_from = set->large_from,
        .large_bytes_max = (uint32_t)set->large_bytes_max,
        .enforce_auth = set->enforce_auth ? set->enforce_auth_schemes : NULL,
        .read_only_after_ms = settings_read_only_after_ms(set),
    };

    if (settings_check(set, why) != 0) {
        mem_free(s);
        return ERR_BAD_ARGUMENTS;
    }
    s->options = *options;
    s->loop = loop;
    secret_random(&m.raft.seed, sizeof m.raft.seed);
    s->started_ms = clock_now_ms();
    s->trace_mask = TRACE_MASK_DEFAULT;
    struct buf store_dir = {0};
    identity_store_path(options->self, options->dir, &store_dir);
    snprintf(s->store_dir, sizeof s->store_dir, "%s", buf_text(&store_dir));
    buf_free(&store_dir);
    server_pages(s);
    int err = load_or_repair(s, &m, &io, why);
    summary_add(&s->load_ms, clock_now_ms() - s->started_ms);
    summary_add(&s->load_entries, s->entries_loaded);
    s->snapshot_wall_ms = server_newest_snapshot_ms(s->store_dir);
    set_aside_find(options->dir, &s->aside);
    if (err != 0) { /* nothing is open */
        mem_free(s);
        return err;
    }
    s->door = door_new();
    err = listen_all(s, why);
    if (err != 0)
        return err; /* the process ends */
    s->writer = writer_new(&(struct writer_options){.loop = loop,
                                                    .store = s->store,
                                                    .member = s->member,
                                                    .ctx = s,
                                                    .woken = woken,
                                                    .failed = disk_failed,
                                                    .lend = lend,
                                                    .door = s->door});
    /* A machine that has joined and not yet heard of the leader knows the others by file. */
    if (s->transport != NULL)
        transport_set_peers(s->transport, &options->self->peers);
    member_start(s->member, clock_now_ms(), (int64_t)clock_wall_ms());
    CHECK(uv_prepare_init(loop, &s->turn) == 0 && uv_timer_init(loop, &s->timer) == 0);
    s->turn.data = s->timer.data = s;
    s->handles = 2;
    uv_prepare_start(&s->turn, turn);
    uv_timer_start(&s->timer, timer_due, 0, 0);
    *out = s;
    return 0;
}

static void handle_closed(uv_handle_t *h)
{
    struct server *s = h->data;

    if (--s->handles > 0)
        return;
    door_free(s->door);
    member_free(s->member);
    store_close(s->store);
    disk_posix_free(s->disk);
    s->stopped(s->stopped_ctx);
    mem_free(s);
}

static void close_all(struct server *s)
{
    if (s->closed)
        return;
    s->closed = true;
    uv_prepare_stop(&s->turn);
    clients_stop(s->clients);
    if (s->transport != NULL)
        transport_stop(s->transport);
    s->transport = NULL;
    if (s->http != NULL)
        http_stop(s->http);
    writer_stop(s->writer);
    uv_close((uv_handle_t *)&s->turn, handle_closed);
    uv_close((uv_handle_t *)&s->timer, handle_closed);
}

void server_stop(struct server *s, void (*done)(void *ctx), void *ctx)
{
    const struct raft *r = member_raft(s->member);

    s->stopped = done;
    s->stopped_ctx = ctx;
    s->stopping = true;
    s->stop_until_ms = clock_now_ms();
    if (raft_role(r) == RAFT_LEADER && s->members.n > 1 && !s->is_outdated && !s->condemned) {
        member_step_down(s->member);
        s->stop_until_ms += STOP_MS;
    }
}

const struct member *server_member(const struct server *s) { return s->member; }

void server_saves(const struct server *s, struct server_saves *out)
{
    struct writer_facts f;

    writer_facts(s->writer, &f);
    *out = (struct server_saves){.last_ms = f.last_save_ms,
                                 .most_ms = f.save_ms.most,
                                 .average_us = (uint64_t)(summary_average(&f.save_ms) * 1000)};
}

uint64_t server_silence_ms(const struct server *s, uint64_t id)
{
    if (id == s->options.self->id)
        return 0;
    return s->transport != NULL ? transport_silence_ms(s->transport, id) : UINT64_MAX;
}

bool server_is_gone(const struct server *s, uint64_t id)
{
    return s->transport != NULL && transport_is_gone(s->transport, id);
}

void server_send_agent(struct server *s, const char *machine, const uint8_t *data, size_t len)
{
    for (unsigned i = 0; i < s->members.n; i++)
        if (s->transport != NULL && strcmp(s->members.v[i].name, machine) == 0)
            transport_send(s->transport, s->members.v[i].id, CHANNEL_AGENT, data, len);
}
