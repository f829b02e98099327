/* SPDX-License-Identifier: Apache-2.0 */
#include "server/admin.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "server/monitor.h"

/* What a command adds to its answer ("error" too); a text: the error that it has instead. */
typedef const char *command_fill(const struct words *w, const char *argument, json_t *to);

static void put(json_t *to, const char *key, json_t *v)
{
    (void)json_object_set_new(to, key, v);
}
static void put_int(json_t *to, const char *key, int64_t v) { put(to, key, json_integer(v)); }
static void put_bool(json_t *to, const char *key, bool v) { put(to, key, json_boolean(v)); }
static void put_text(json_t *to, const char *key, const char *v)
{
    put(to, key, json_string(v));
}

static json_t *path_json(const char *path, size_t len)
{
    json_t *v = json_stringn(path, len);

    return v != NULL ? v : json_string("(not UTF-8)"); /* writes of such are refused */
}

/* Session ids are keys here in decimal digits, with a sign. */
static json_t *list_at(json_t *object, const char *key)
{
    json_t *list = json_object_get(object, key);

    if (list == NULL) {
        list = json_array();
        put(object, key, list);
    }
    return list;
}

static json_t *list_of(json_t *object, int64_t number)
{
    char key[24];

    snprintf(key, sizeof key, "%" PRId64, number);
    return list_at(object, key);
}

/* A part of an answer that may be long. */
struct filling {
    json_t *to;
    struct word_room room;
    bool brief;
};

static void say_if_cut(const struct filling *l, json_t *answer)
{
    if (l->room.is_full)
        put_text(answer, "cut_by", "WORD_BYTES_MAX");
}

/* ---- connections ---- */

static void connection(void *visitor, const struct connection_facts *f)
{
    struct filling *l = visitor;
    const struct member_conn_facts *m = &f->member;
    const struct conn_stats *s = &m->stats;

    if (!word_room_take(&l->room, 600))
        return;
    json_t *c = json_object();
    json_array_append_new(l->to, c);
    put_text(c, "remote_socket_address", f->address);
    put_int(c, "interest_ops", f->interest);
    put_int(c, "outstanding_requests", m->queued);
    put_int(c, "packets_received", (int64_t)s->received);
    put_int(c, "packets_sent", (int64_t)s->sent);
    if (l->brief)
        return;
    put_int(c, "session_id", m->session);
    put_text(c, "last_operation", words_operation(s));
    put_int(c, "established", m->opened_wall_ms);
    put_int(c, "session_timeout", m->timeout_ms);
    put_int(c, "last_cxid", s->last_cxid);
    put_int(c, "last_zxid", s->last_zxid);
    put_int(c, "last_response_time", (int64_t)s->last_reply_ms);
    put_int(c, "last_latency", (int64_t)s->last_latency);
    put_int(c, "min_latency", (int64_t)s->latency.least);
    put_int(c, "avg_latency",
            s->latency.count > 0 ? (int64_t)(s->latency.sum / s->latency.count) : 0);
    put_int(c, "max_latency", (int64_t)s->latency.most);
}

static void put_connections(const struct words *w, bool brief, json_t *to)
{
    struct filling l = {.to = json_array(), .brief = brief};

    put(to, "connections", l.to);
    w->connections(w->ctx, connection, &l);
    say_if_cut(&l, to);
    put(to, "secure_connections", json_array());
}

static const char *connections(const struct words *w, const char *argument, json_t *to)
{
    (void)argument;
    put_connections(w, false, to);
    return NULL;
}

/* ---- the server ---- */

static json_t *sizes_json(const struct sizes *s)
{
    json_t *v = json_object();

    put_int(v, "last_buffer_size", size_shown(s, s->last));
    put_int(v, "min_buffer_size", size_shown(s, s->least));
    put_int(v, "max_buffer_size", size_shown(s, s->most));
    return v;
}

static void put_real(json_t *to, const char *key, double v)
{
    put(to, key, json_real((double)(int64_t)(v * 10000 + 0.5) / 10000));
}

static const char *server_stats(const struct words *w, const char *argument, json_t *to)
{
    const struct server_facts *f = w->facts;
    const struct member_stats *s = f->stats;
    char version[VERSION_MAX];
    int64_t bytes = (int64_t)w->dir_bytes(w->ctx);
    json_t *v = json_object();

    (void)argument;
    put_text(to, "version", words_version(f, version));
    put_bool(to, "read_only", f->is_read_only);
    put(to, "server_stats", v);
    put_int(v, "packets_sent", (int64_t)s->sent);
    put_int(v, "packets_received", (int64_t)s->received);
    put_int(v, "fsync_threshold_exceed_count", (int64_t)f->writer.slow_total);
    put(v, "client_response_stats", sizes_json(&s->replies));
    put_int(v, "data_dir_size", bytes);
    put_int(v, "log_dir_size", bytes);
    put_bool(v, "provider_null", false);
    put_text(v, "server_state", f->mode);
    put_int(v, "last_processed_zxid", f->zxid);
    put_int(v, "outstanding_requests", (int64_t)f->member.outstanding);
    put_real(v, "avg_latency", summary_average(&s->latency));
    put_int(v, "max_latency", (int64_t)s->latency.most);
    put_int(v, "min_latency", (int64_t)s->latency.least);
    put_int(v, "num_alive_client_connections", (int64_t)f->member.connections);
    put_int(v, "auth_failed_count", (int64_t)s->auth_failed);
    put_int(v, "uptime", (int64_t)f->uptime_ms);
    put(to, "client_response", sizes_json(&s->replies));
    if (strcmp(f->mode, "leader") == 0)
        put(to, "proposal_stats", sizes_json(&s->proposals));
    put_int(to, "node_count", (int64_t)f->tree.znodes);
    return NULL;
}

static const char *stats(const struct words *w, const char *argument, json_t *to)
{
    (void)server_stats(w, argument, to);
    put_connections(w, true, to);
    return NULL;
}

static const char *monitor(const struct words *w, const char *argument, json_t *to)
{
    (void)argument;
    monitor_json(w, to);
    return NULL;
}

static const char *configuration(const struct words *w, const char *argument, json_t *to)
{
    const struct server_facts *f = w->facts;
    const struct settings *s = w->settings;

    (void)argument;
    put_int(to, "client_port", f->client_port);
    put_text(to, "data_dir", f->data_dir);
    put_text(to, "data_log_dir", f->data_dir);
    put_int(to, "tick_time", s->tick_ms);
    put_int(to, "max_client_cnxns", s->clients_from_one_max);
    put_int(to, "min_session_timeout", s->session_min_ms);
    put_int(to, "max_session_timeout", s->session_max_ms);
    put_int(to, "server_id", (int64_t)f->id);
    put_int(to, "client_port_listen_backlog", s->backlog);
    return NULL;
}

static const char *initial_configuration(const struct words *w, const char *argument,
                                         json_t *to)
{
    (void)argument;
    put_text(to, "initial_configuration",
             w->facts->initial_config != NULL ? w->facts->initial_config : "");
    return NULL;
}

static const char *environment(const struct words *w, const char *argument, json_t *to)
{
    struct words_environment e;

    (void)argument;
    words_environment(w, &e);
    for (const struct word_pair *p = e.pairs; p->name != NULL; p++)
        put_text(to, p->name, p->value);
    return NULL;
}

/* ZooKeeper shows those of its Java machine; ours are the settings that are properties there,
 * but for what stands for a password. */
static const char *system_properties(const struct words *w, const char *argument, json_t *to)
{
    const struct settings *s = w->settings;

    (void)argument;
#define N(field, key, value, least, most, help) put_int(to, "zookeeper." key, s->field);
#define B(field, key, value, help) put_bool(to, "zookeeper." key, s->field);
#define T(field, key, value, help)           \
    if (strcmp(#field, "super_digest") != 0) \
        put_text(to, "zookeeper." key, s->field);
    SETTINGS(N, B, T)
#undef N
#undef B
#undef T
    return NULL;
}

static const char *dirs(const struct words *w, const char *argument, json_t *to)
{
    int64_t bytes = (int64_t)w->dir_bytes(w->ctx);

    (void)argument;
    put_int(to, "datadir_size", bytes);
    put_int(to, "logdir_size", bytes);
    return NULL;
}

static const char *last_snapshot(const struct words *w, const char *argument, json_t *to)
{
    char zxid[24];

    (void)argument;
    snprintf(zxid, sizeof zxid, "%" PRIx64, w->facts->store.snapshot_index);
    put_text(to, "zxid", zxid);
    put_int(to, "timestamp", (int64_t)(w->facts->snapshot_wall_ms / 1000));
    return NULL;
}

static const char *hash(const struct words *w, const char *argument, json_t *to)
{
    (void)w, (void)argument;
    put(to, "digests", json_array()); /* as the word */
    return NULL;
}

static const char *is_read_only(const struct words *w, const char *argument, json_t *to)
{
    (void)argument;
    put_bool(to, "read_only", w->facts->is_read_only);
    return NULL;
}

static const char *ruok(const struct words *w, const char *argument, json_t *to)
{
    (void)w, (void)argument, (void)to;
    return NULL;
}

/* ---- what changes something ---- */

static const char *connection_stat_reset(const struct words *w, const char *argument,
                                         json_t *to)
{
    (void)argument, (void)to;
    w->reset(w->ctx, true);
    return NULL;
}

static const char *stat_reset(const struct words *w, const char *argument, json_t *to)
{
    (void)argument, (void)to;
    w->reset(w->ctx, false);
    return NULL;
}

static const char *get_trace_mask(const struct words *w, const char *argument, json_t *to)
{
    (void)argument;
    put_int(to, "tracemask", *w->trace_mask);
    return NULL;
}

static const char *set_trace_mask(const struct words *w, const char *argument, json_t *to)
{
    char *end = NULL;

    if (argument == NULL)
        return "setTraceMask requires long traceMask argument";
    errno = 0;
    int64_t mask = strtoll(argument, &end, 10);
    if (end == argument || *end != 0 || errno != 0) {
        char text[160];
        snprintf(text, sizeof text, "setTraceMask requires long traceMask argument, got %s",
                 argument);
        put_text(to, "error", text);
        return NULL;
    }
    *w->trace_mask = mask;
    return get_trace_mask(w, NULL, to);
}

/* ---- sessions and watches ---- */

static bool add_path(void *ctx, const char *path, size_t path_len)
{
    struct filling *l = ctx;

    if (!word_room_take(&l->room, path_len + 20))
        return false;
    json_array_append_new(l->to, path_json(path, path_len));
    return true;
}

static const char *dump(const struct words *w, const char *argument, json_t *to)
{
    struct member_session_facts s = {.tree.id = INT64_MIN};
    struct filling l = {0};
    struct endings e;
    json_t *expiries = json_object(), *paths = json_object();

    (void)argument;
    words_endings(w, false, &e);
    for (size_t i = 0; i < e.n && word_room_take(&l.room, 40); i++)
        json_array_append_new(list_of(expiries, (int64_t)e.v[i].at_ms),
                              json_integer(e.v[i].session));
    words_endings_free(&e);
    put(to, "expiry_time_to_session_ids", expiries);
    put(to, "session_id_to_ephemeral_paths", paths);
    while (!l.room.is_full && member_session_next(w->member, s.tree.id, &s))
        if (s.tree.ephemerals > 0) {
            l.to = list_of(paths, s.tree.id);
            tree_ephemerals(member_tree(w->member), s.tree.id, add_path, &l);
        }
    say_if_cut(&l, to);
    return NULL;
}

static bool add_watch_of_session(void *ctx, int64_t session, const char *path, size_t path_len)
{
    struct filling *l = ctx;

    if (!word_room_take(&l->room, path_len + 20))
        return false;
    json_array_append_new(list_of(l->to, session), path_json(path, path_len));
    return true;
}

static bool add_watch_of_path(void *ctx, int64_t session, const char *path, size_t path_len)
{
    struct filling *l = ctx;
    json_t *name = path_json(path, path_len);
    bool fits = word_room_take(&l->room, path_len + 80); /* a list of its own costs time */

    if (fits)
        json_array_append_new(list_at(l->to, json_string_value(name)), json_integer(session));
    json_decref(name);
    return fits;
}

static const char *watches(const struct words *w, const char *argument, json_t *to)
{
    struct filling l = {.to = json_object()};

    (void)argument;
    put(to, "session_id_to_watched_paths", l.to);
    member_watches(w->member, false, add_watch_of_session, &l);
    say_if_cut(&l, to);
    return NULL;
}

static const char *watches_path(const struct words *w, const char *argument, json_t *to)
{
    struct filling l = {.to = json_object()};

    (void)argument;
    put(to, "path_to_session_ids", l.to);
    member_watches(w->member, true, add_watch_of_path, &l);
    say_if_cut(&l, to);
    return NULL;
}

static const char *watch_summary(const struct words *w, const char *argument, json_t *to)
{
    uint64_t watchers, paths;

    (void)argument;
    watches_data_size(member_watches_raw(w->member), &watchers, &paths);
    put_int(to, "num_connections", (int64_t)watchers);
    put_int(to, "num_paths", (int64_t)paths);
    put_int(to, "num_total_watches", (int64_t)w->facts->watches.data);
    return NULL;
}

/* ---- the ensemble ---- */

static const struct raft_member *server_of(const struct server_facts *f, uint64_t id)
{
    for (unsigned i = 0; i < f->servers->n; i++)
        if (f->servers->v[i].id == id)
            return &f->servers->v[i];
    return NULL;
}

static const char *leader(const struct words *w, const char *argument, json_t *to)
{
    const struct server_facts *f = w->facts;
    const struct raft_member *m = server_of(f, f->leader);
    char ip[RAFT_ADDRESS_MAX] = "";

    (void)argument;
    if (f->members <= 1)
        return "server is not initialized";
    if (m != NULL)
        snprintf(ip, sizeof ip, "%.*s", (int)strcspn(m->address, ":"), m->address);
    put_bool(to, "is_leader", f->is_leader);
    put_int(to, "leader_id", (int64_t)f->leader);
    put_text(to, "leader_ip", ip);
    return NULL;
}

static const char *observers(const struct words *w, const char *argument, json_t *to)
{
    (void)argument;
    put_int(to, "synced_observers", (int64_t)w->facts->synced_observers);
    put(to, "observers", json_array());
    return NULL;
}

static json_t *addresses(const char *one)
{
    json_t *v = json_array();

    json_array_append_new(v, json_string(one));
    return v;
}

static const char *voting_view(const struct words *w, const char *argument, json_t *to)
{
    const struct server_facts *f = w->facts;
    json_t *all = json_object();
    char id[24];

    (void)argument;
    put(to, "current_config", all);
    for (unsigned i = 0; f->members > 1 && i < f->servers->n; i++) {
        const struct raft_member *m = &f->servers->v[i];
        if (!m->voter)
            continue;
        json_t *v = json_object();
        snprintf(id, sizeof id, "%" PRIu64, m->id);
        put(all, id, v);
        put(v, "server_addresses", addresses(m->address));
        put(v, "election_addresses", addresses(m->address));
        put_text(v, "client_address", "");
        put_text(v, "learner_type", "participant");
    }
    return NULL;
}

static json_t *address_json(const char *address)
{
    json_t *v = json_object();

    put_bool(v, "empty", false);
    put(v, "all_addresses", addresses(address));
    put_text(v, "one", address);
    return v;
}

static const char *zabstate(const struct words *w, const char *argument, json_t *to)
{
    const struct server_facts *f = w->facts;
    const struct raft_member *self = server_of(f, f->id);
    char zxid[24];

    (void)argument;
    if (f->members <= 1) {
        put_bool(to, "voting", false);
        put_text(to, "zabstate", "");
        return NULL;
    }
    put_int(to, "myid", (int64_t)f->id);
    put_bool(to, "is_leader", f->is_leader);
    put(to, "quorum_address", address_json(self != NULL ? self->address : ""));
    put(to, "election_address", address_json(self != NULL ? self->address : ""));
    put_bool(to, "voting", self != NULL && self->voter);
    snprintf(zxid, sizeof zxid, "0x%" PRIx64, (uint64_t)f->zxid);
    put_text(to, "last_zxid", zxid);
    put_int(to, "zab_epoch", f->zxid >> 32);
    put_int(to, "zab_counter", f->zxid & 0xffffffff);
    put_text(to, "zabstate", f->is_serving ? "broadcast" : "election");
    return NULL;
}

/* ---- which there are ---- */

static const struct command {
    const char *name, *alias, *alias2;
    bool always; /* also while this server is part of no quorum */
    command_fill *fill;
} table[] = {
    {"configuration", "conf", "config", false, configuration},
    {"connection_stat_reset", "crst", NULL, false, connection_stat_reset},
    {"connections", "cons", NULL, false, connections},
    {"dirs", NULL, NULL, false, dirs},
    {"dump", NULL, NULL, false, dump},
    {"environment", "env", "envi", true, environment},
    {"get_trace_mask", "gtmk", NULL, true, get_trace_mask},
    {"hash", NULL, NULL, false, hash},
    {"initial_configuration", "icfg", NULL, false, initial_configuration},
    {"is_read_only", "isro", NULL, false, is_read_only},
    {"last_snapshot", "lsnp", NULL, false, last_snapshot},
    {"leader", "lead", NULL, false, leader},
    {"monitor", "mntr", NULL, false, monitor},
    {"observer_connection_stat_reset", "orst", NULL, false, ruok},
    {"observers", "obsr", NULL, false, observers},
    {"ruok", NULL, NULL, false, ruok},
    {"server_stats", "srvr", NULL, false, server_stats},
    {"set_trace_mask", "stmk", NULL, true, set_trace_mask},
    {"stat_reset", "srst", NULL, false, stat_reset},
    {"stats", "stat", NULL, false, stats},
    {"system_properties", "sysp", NULL, true, system_properties},
    {"voting_view", NULL, NULL, false, voting_view},
    {"watch_summary", "wchs", NULL, false, watch_summary},
    {"watches", "wchc", NULL, false, watches},
    {"watches_by_path", "wchp", NULL, false, watches_path},
    {"zabstate", NULL, NULL, true, zabstate},
};

static bool is_named(const struct command *c, const char *name)
{
    return strcmp(c->name, name) == 0 || (c->alias != NULL && strcmp(c->alias, name) == 0) ||
           (c->alias2 != NULL && strcmp(c->alias2, name) == 0);
}

void admin_list(const char *url, struct buf *out)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        buf_printf(out, "<a href=\"%s/%s\">%s</a>\n<br/>\n", url, table[i].name, table[i].name);
}

static int append(const char *data, size_t len, void *out)
{
    buf_add(out, data, len);
    return 0;
}

void admin_command(const struct words *w, const char *name, const char *trace_mask,
                   struct buf *out)
{
    const struct command *c = NULL;
    const char *error = NULL;
    json_t *answer = json_object(), *shown;
    char text[160];

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (is_named(&table[i], name))
            c = &table[i];
    if (c == NULL) {
        snprintf(text, sizeof text, "Unknown command: %s", name);
        error = text;
    } else if (!c->always && !facts_answers(w->facts)) {
        error = WORD_NOT_SERVING;
    } else {
        error = c->fill(w, trace_mask, answer);
    }
    put(answer, "command",
        (shown = json_string(c != NULL ? c->name : name)) != NULL ? shown : json_string("?"));
    if (error != NULL)
        put(answer, "error",
            (shown = json_string(error)) != NULL ? shown : json_string("Unknown command"));
    else if (json_object_get(answer, "error") == NULL)
        put(answer, "error", json_null());
    (void)json_dump_callback(answer, append, out,
                             JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
    buf_add_u8(out, '\n');
    json_decref(answer);
}
