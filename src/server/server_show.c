/* SPDX-License-Identifier: Apache-2.0 */
/* What a server shows: four-letter words, pages, metrics. */
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/check.h"
#include "host/clock.h"
#include "server/admin.h"
#include "server/monitor.h"
#include "server/server_internal.h"
#include "server/words.h"

#define SITE_NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
/* A number that JSON and Prometheus hold exactly. */
#define DIGEST_SHOWN ((UINT64_C(1) << 48) - 1)

static const char *mode_of(const struct server *s, bool is_leader)
{
    const struct raft_member *self = raft_member_find(&s->members, s->options.self->id);

    /* A lone server of a zoo.cfg that wants an ensemble (standaloneEnabled=false) leads. */
    if (s->members.n == 0 || (s->members.n == 1 && s->members.v[0].more[0] == 0))
        return "standalone";
    if (is_leader)
        return "leader";
    return self != NULL && !self->voter && !self->auto_promote ? "observer" : "follower";
}

/* Of the others: who is heard, and who of them keeps up. */
static void followers(const struct server *s, struct server_facts *f)
{
    const struct settings *set = &s->options.settings;
    uint64_t lag_ms = (uint64_t)set->sync_limit * (uint64_t)set->tick_ms;
    struct raft_peer_facts p;

    for (unsigned i = 0; i < s->members.n; i++) {
        const struct raft_member *m = &s->members.v[i];
        if (m->id == f->id || !raft_peer_facts(member_raft(s->member), m->id, &p) ||
            p.heard_ms == 0 || p.heard_ms + lag_ms < f->now_ms)
            continue;
        f->learners++;
        if (p.match == 0 || p.snapshotting)
            continue;
        f->synced_voters += m->voter;
        f->synced_joining += !m->voter && m->auto_promote;
        f->synced_observers += !m->voter && !m->auto_promote;
    }
}

static void facts(const struct server *s, struct server_facts *f)
{
    const struct raft *r = member_raft(s->member);
    const struct tree *t = member_tree(s->member);

    *f = (struct server_facts){
        .version = s->options.version,
        .stats = member_stats(s->member),
        .data_dir = s->store_dir,
        .servers = &s->members,
        .id = raft_id(r),
        .leader = raft_leader(r),
        .client_port = s->options.client_port,
        .peer_port = SERVER_PEER_PORT,
        .now_ms = clock_now_ms(),
        .wall_ms = clock_wall_ms(),
        .load_ms = s->load_ms,
        .load_snapshot_ms = s->load_snapshot_ms,
        .load_entries = s->load_entries,
    };
    member_facts(s->member, &f->member);
    watches_facts(member_watches_raw(s->member), &f->watches);
    clients_facts(s->clients, &f->clients);
    writer_facts(s->writer, &f->writer);
    f->snapshot_wall_ms =
        f->writer.snapshot_wall_ms != 0 ? f->writer.snapshot_wall_ms : s->snapshot_wall_ms;
    tree_facts(t, &f->tree);
    f->store = f->writer.store;
    if (s->transport != NULL)
        transport_facts(s->transport, &f->transport);
    f->is_leader = raft_role(r) == RAFT_LEADER;
    f->mode = member_is_read_only(s->member) ? "read-only" : mode_of(s, f->is_leader);
    f->zxid = tree_zxid(t);
    f->term = raft_term(r);
    f->committed = raft_committed(r);
    f->applied = raft_applied(r);
    f->members = s->members.n;
    for (unsigned i = 0; i < s->members.n; i++)
        f->voters += s->members.v[i].voter;
    f->uptime_ms = clock_now_ms() - s->started_ms;
    f->is_serving = member_is_serving(s->member);
    f->is_read_only = member_is_read_only(s->member);
    f->disk_is_full = writer_is_full(s->writer);
    f->new_lives = s->options.self->new_lives;
    f->mismatches = s->options.self->mismatches + f->member.digest_mismatches_total;
    f->set_aside = s->aside.kept;
    f->is_stranger = raft_is_stranger(r);
    f->digest = f->member.digest_agreed & DIGEST_SHOWN;
    if (f->is_leader)
        followers(s, f);
}

static uint64_t dir_bytes(void *ctx)
{
    const struct server *s = ctx;
    struct stat st;
    struct dirent *e;
    uint64_t bytes = 0;
    DIR *d = opendir(s->store_dir);

    while (d != NULL && (e = readdir(d)) != NULL)
        if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    if (d != NULL)
        closedir(d);
    return bytes;
}

/* Where a snapshot was written by an earlier process, its file says when. */
uint64_t server_newest_snapshot_ms(const char *dir)
{
    struct stat st;
    struct dirent *e;
    uint64_t newest_ms = 0;
    DIR *d = opendir(dir);

    while (d != NULL && (e = readdir(d)) != NULL)
        if (strncmp(e->d_name, "snapshot.", 9) == 0 &&
            fstatat(dirfd(d), e->d_name, &st, 0) == 0) {
            uint64_t ms =
                (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000;
            newest_ms = ms > newest_ms ? ms : newest_ms;
        }
    if (d != NULL)
        closedir(d);
    return newest_ms;
}

static uint64_t files(void *ctx, bool at_most)
{
    struct rlimit limit;
    uint64_t n = 0;
    DIR *d;

    (void)ctx;
    if (at_most)
        return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
    if ((d = opendir("/proc/self/fd")) == NULL)
        return 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", ".." and this one */
}

static void reset(void *ctx, bool connections)
{
    struct server *s = ctx;

    if (connections) {
        member_conns_reset(s->member);
        return;
    }
    member_stats_reset(s->member);
    clients_facts_reset(s->clients);
    writer_facts_reset(s->writer);
}

struct connection_walk {
    const struct server *s;
    connection_visit *visit;
    void *visitor;
};

static void one_connection(void *ctx, uint64_t conn, const char *address, unsigned interest)
{
    const struct connection_walk *w = ctx;
    struct connection_facts f = {.address = address, .interest = interest};

    if (member_conn_facts(w->s->member, conn, &f.member))
        w->visit(w->visitor, &f);
}

static void connections(void *ctx, connection_visit *visit, void *visitor)
{
    struct connection_walk w = {ctx, visit, visitor};

    clients_each(w.s->clients, one_connection, &w);
}

/* What the words, the admin pages and the metrics are made of. */
static struct words words_of(struct server *s, struct server_facts *f)
{
    facts(s, f);
    return (struct words){
        .facts = f,
        .settings = &s->options.settings,
        .member = s->member,
        .trace_mask = &s->trace_mask,
        .ctx = s,
        .connections = connections,
        .dir_bytes = dir_bytes,
        .files = files,
        .reset = reset,
    };
}

enum word_result server_word(void *ctx, uint64_t conn, const uint8_t *data, size_t len,
                             struct buf *answer)
{
    struct server *s = ctx;
    struct server_facts f;

    size_t wanted = word_len(&s->options.settings, data);

    if (wanted == 0 || len < wanted)
        return wanted == 0 ? WORD_NONE : WORD_MORE;
    member_client_word(s->member, conn, wanted);
    struct words w = words_of(s, &f);
    word_answer(&w, data, answer);
    member_client_word_done(s->member);
    return WORD_DONE;
}

static unsigned page_metrics(void *ctx, struct buf *body)
{
    struct server *s = ctx;
    struct server_facts f;

    struct words w = words_of(s, &f);
    monitor_prometheus(&w, body);
    if (s->options.metrics != NULL)
        s->options.metrics(s->options.ctx, body);
    return 200;
}

static void json_text(struct buf *out, const char *text)
{
    buf_add_u8(out, '"');
    for (const char *p = text; *p != 0; p++) {
        if (*p == '"' || *p == '\\')
            buf_add_u8(out, '\\');
        buf_add_u8(out, (uint8_t)*p < ' ' ? ' ' : (uint8_t)*p);
    }
    buf_add_u8(out, '"');
}

static unsigned page_status(void *ctx, struct buf *body)
{
    struct server *s = ctx;
    struct server_facts f;

    if (s->options.status != NULL)
        return s->options.status(s->options.ctx, body);
    facts(s, &f);
    struct buf ails = {0}, verdict = {0};
    bool is_whole = !server_ails(s, &ails);
    buf_printf(&verdict, "%s%s%s",
               !f.is_serving ? "DOWN: this server has no quorum"
               : is_whole    ? "OK"
                             : "DEGRADED",
               is_whole       ? ""
               : f.is_serving ? ": "
                              : "; ",
               buf_text(&ails));
    buf_add_str(body, "{\"verdict\": ");
    json_text(body, buf_text(&verdict));
    buf_printf(body,
               ", \"exit\": %d, \"machine\": \"%s\", \"mode\": \"%s\", \"term\": %" PRIu64
               ", \"znodes\": %" PRIu64 ", \"set_aside\": ",
               !f.is_serving ? 4
               : is_whole    ? 0
                             : 3,
               s->options.self->name, f.mode, f.term, f.tree.znodes);
    json_text(body, s->aside.name);
    buf_add_str(body, "}\n");
    buf_free(&ails);
    buf_free(&verdict);
    return 200;
}

/* The name in the site file, "" without one: the line "site: NAME". */
static void site_name(const struct server *s, char *out, size_t size)
{
    const uint8_t *data;
    size_t len;

    out[0] = 0;
    if (!tree_get(member_tree(s->member), "/muster/site", &data, &len))
        return;
    for (size_t at = 0; at < len;) {
        const uint8_t *end = memchr(data + at, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - data) - at : len - at;
        const char *line = (const char *)data + at;
        if (n > 5 && memcmp(line, "site:", 5) == 0) {
            size_t from = 5;
            while (from < n && line[from] == ' ')
                from++;
            size_t upto = from;
            while (upto < n && strchr(SITE_NAME_LETTERS, line[upto]) != NULL && line[upto] != 0)
                upto++;
            snprintf(out, size, "%.*s", (int)(upto - from), line + from);
            return;
        }
        at += n + 1;
    }
}

static json_t *members_json(const struct server *s)
{
    json_t *all = json_array();

    for (unsigned i = 0; i < s->members.n; i++) {
        const struct raft_member *m = &s->members.v[i];
        uint64_t silence_ms = server_silence_ms(s, m->id);
        json_array_append_new(
            all, json_pack("{s:I, s:s, s:s, s:b, s:o}", "id", (json_int_t)m->id, "name",
                           m->name, "address", m->address, "voter", (int)m->voter, "silence_ms",
                           silence_ms != UINT64_MAX ? json_integer((json_int_t)silence_ms)
                                                    : json_null()));
    }
    return all;
}

/* What this server's copy of the tree is: for backup and recover. No secret is in it. */
static unsigned page_replica(void *ctx, struct buf *body)
{
    const struct server *s = ctx;
    const struct identity *self = s->options.self;
    const struct raft *r = member_raft(s->member);
    const struct raft_member *leader = raft_member_find(&s->members, raft_leader(r));
    uint64_t last_term = raft_last_index(r) == raft_applied(r)
                             ? raft_applied_term(r)
                             : raft_entry_term(r, raft_last_index(r));
    char cluster[2 * CLUSTER_LEN + 1], digest[17], site[64];

    for (size_t i = 0; i < CLUSTER_LEN; i++)
        snprintf(cluster + 2 * i, 3, "%02x", self->cluster[i]);
    snprintf(digest, sizeof digest, "%016" PRIx64, tree_digest(member_tree(s->member)));
    site_name(s, site, sizeof site);
    json_t *v =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:s, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:o}",
                  "cluster", cluster, "site", site, "machine", self->name, "id",
                  (json_int_t)self->id, "epoch", (json_int_t)self->epoch.number, "serving",
                  (int)(member_is_serving(s->member) && !s->is_outdated), "leader",
                  leader != NULL ? leader->name : "", "committed",
                  (json_int_t)raft_committed(r), "applied", (json_int_t)raft_applied(r),
                  "applied_term", (json_int_t)raft_applied_term(r), "digest", digest, "last",
                  (json_int_t)raft_last_index(r), "last_term", (json_int_t)last_term, "time_ms",
                  (json_int_t)clock_wall_ms(), "members", members_json(s));
    char *text = v != NULL ? json_dumps(v, JSON_COMPACT) : NULL;
    buf_printf(body, "%s\n", text != NULL ? text : "{}");
    free(text);
    json_decref(v);
    return 200;
}

static unsigned page_healthz(void *ctx, struct buf *body)
{
    (void)ctx;
    buf_add_str(body, "ok\n");
    return 200;
}

static unsigned page_readyz(void *ctx, struct buf *body)
{
    struct server *s = ctx;
    struct buf ails = {0};
    bool ready = member_is_serving(s->member);

    if (raft_is_stranger(member_raft(s->member)) && server_ails(s, &ails)) {
        ready = false;
        buf_printf(body, "not ready: %s\n", buf_text(&ails));
    } else {
        buf_add_str(body, ready ? "ready\n" : "not ready: no leader is heard\n");
    }
    buf_free(&ails);
    return ready ? 200 : 503;
}

static unsigned page_admin_list(void *ctx, struct buf *body)
{
    const struct server *s = ctx;

    admin_list(s->options.settings.admin_url, body);
    return 200;
}

static unsigned page_admin(void *ctx, const char *name, const struct http_query *q,
                           struct buf *body)
{
    struct server_facts f;
    struct words w = words_of(ctx, &f);

    admin_command(&w, name, http_argument(q, "traceMask"), body);
    return 200;
}

void server_pages(struct server *s)
{
    static const struct http_page always[] = {
        {"/status", "application/json", page_status, NULL},
        {"/replica", "application/json", page_replica, NULL},
        {"/metrics", "text/plain; version=0.0.4; charset=utf-8", page_metrics, NULL},
        {"/healthz", "text/plain; charset=utf-8", page_healthz, NULL},
        {"/readyz", "text/plain; charset=utf-8", page_readyz, NULL},
    };
    const struct settings *set = &s->options.settings;
    struct http_page *p = s->pages + sizeof always / sizeof always[0];

    memcpy(s->pages, always, sizeof always);
    if (set->admin_enabled) {
        snprintf(s->admin_below, sizeof s->admin_below, "%s/", set->admin_url);
        *p++ = (struct http_page){set->admin_url, "text/html", page_admin_list, NULL};
        *p++ = (struct http_page){s->admin_below, "text/html", page_admin_list, NULL};
        *p++ = (struct http_page){s->admin_below, "application/json", NULL, page_admin};
    }
    *p = (struct http_page){NULL, NULL, NULL, NULL};
    CHECK(p < s->pages + sizeof s->pages / sizeof s->pages[0]);
}
