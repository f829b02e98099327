/* SPDX-License-Identifier: Apache-2.0 */
#include "server/words.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "server/monitor.h"
#include "wire/wire.h"

/* The version of the protocol that clients test for features. The date is in the form that it
 * had up to 3.5: go-zookeeper reads no other. */
#define ZOOKEEPER_VERSION "3.8.0"
#define BUILT_ON "01/01/2026 00:00 UTC"

#define MASK_BYTES 8 /* of a long, behind stmk */

/* ---- parts ---- */

const char *words_version(const struct server_facts *f, char text[VERSION_MAX])
{
    snprintf(text, VERSION_MAX, ZOOKEEPER_VERSION "-muster-%s, built on " BUILT_ON, f->version);
    return text;
}

const char *words_operation(const struct conn_stats *s)
{
    return s->last_op == 0 ? "NA" : wire_op_brief(s->last_op);
}

bool word_room_take(struct word_room *r, size_t bytes)
{
    if (!r->is_full && r->used + bytes > WORD_BYTES_MAX)
        r->is_full = true;
    r->used += bytes;
    return !r->is_full;
}

static void version_line(const struct words *w, struct buf *out)
{
    char text[VERSION_MAX];

    buf_printf(out, "Zookeeper version: %s\n", words_version(w->facts, text));
}

/* A list that is being written. */
struct listing {
    struct buf *out;
    struct word_room room;
    bool brief;
    int64_t session;  /* of the line before */
    char id[24];      /* and how it is written */
    struct buf *path; /* or its path */
};

static void say_if_cut(const struct listing *l)
{
    if (l->room.is_full)
        buf_printf(l->out, "... and more: WORD_BYTES_MAX (%u bytes)\n", WORD_BYTES_MAX);
}

static uint64_t average(const struct summary *s)
{
    return s->count > 0 ? s->sum / s->count : 0;
}

static void connection_line(void *visitor, const struct connection_facts *f)
{
    struct listing *l = visitor;
    const struct member_conn_facts *m = &f->member;
    const struct conn_stats *s = &m->stats;

    if (!word_room_take(&l->room, 300))
        return;
    buf_printf(l->out, " /%s[%x](queued=%u,recved=%" PRIu64 ",sent=%" PRIu64, f->address,
               f->interest, m->queued, s->received, s->sent);
    if (!l->brief && m->session != 0) {
        buf_printf(l->out, ",sid=0x%" PRIx64 ",lop=%s,est=%" PRId64 ",to=%" PRId32,
                   (uint64_t)m->session, words_operation(s), m->opened_wall_ms, m->timeout_ms);
        if (s->last_cxid >= 0)
            buf_printf(l->out, ",lcxid=0x%" PRIx32, (uint32_t)s->last_cxid);
        buf_printf(l->out,
                   ",lzxid=0x%" PRIx64 ",lresp=%" PRIu64 ",llat=%" PRIu64 ",minlat=%" PRIu64
                   ",avglat=%" PRIu64 ",maxlat=%" PRIu64,
                   (uint64_t)s->last_zxid, s->last_reply_ms, s->last_latency, s->latency.least,
                   average(&s->latency), s->latency.most);
    }
    buf_add_str(l->out, ")\n");
}

static void connection_lines(const struct words *w, bool brief, struct buf *out)
{
    struct listing l = {.out = out, .brief = brief};

    w->connections(w->ctx, connection_line, &l);
    say_if_cut(&l);
    buf_add_str(out, "\n");
}

/* ---- what ends when ---- */

static uint64_t tick_end(const struct words *w, uint64_t ms)
{
    uint64_t tick_ms = (uint64_t)w->settings->tick_ms;

    return (ms / tick_ms + 1) * tick_ms;
}

static struct ending *ending_new(struct endings *e)
{
    mem_grow(e->v, e->room, e->n + 1);
    e->v[e->n] = (struct ending){0};
    return &e->v[e->n++];
}

struct connection_endings {
    const struct words *w;
    struct endings *out;
};

static void connection_ending(void *visitor, const struct connection_facts *f)
{
    const struct connection_endings *v = visitor;
    struct ending *e = ending_new(v->out);
    int32_t timeout_ms =
        f->member.session != 0 ? f->member.timeout_ms : v->w->settings->no_session_ms;

    e->at_ms = tick_end(v->w, f->member.heard_ms + (uint64_t)timeout_ms);
    e->session = f->member.session;
    snprintf(e->address, sizeof e->address, "%s", f->address);
}

static int by_end(const void *a, const void *b)
{
    const struct ending *x = a, *y = b;

    if (x->at_ms != y->at_ms)
        return x->at_ms < y->at_ms ? -1 : 1;
    return x->session < y->session ? -1 : x->session > y->session;
}

void words_endings(const struct words *w, bool of_connections, struct endings *out)
{
    struct member_session_facts s = {.tree.id = INT64_MIN};
    struct connection_endings v = {w, out};

    *out = (struct endings){0};
    if (of_connections)
        w->connections(w->ctx, connection_ending, &v);
    while (!of_connections && member_session_next(w->member, s.tree.id, &s))
        if (s.is_timed) {
            struct ending *e = ending_new(out);
            e->at_ms = tick_end(w, s.until_ms);
            e->session = s.tree.id;
        }
    if (out->n > 0)
        qsort(out->v, out->n, sizeof *out->v, by_end);
    for (size_t i = 0; i < out->n; i++)
        out->ticks += i == 0 || out->v[i].at_ms != out->v[i - 1].at_ms;
}

void words_endings_free(struct endings *e) { mem_free(e->v); }

static void date(const struct words *w, uint64_t at_ms, struct buf *out)
{
    time_t s = (time_t)((w->facts->wall_ms + at_ms - w->facts->now_ms) / 1000);
    struct tm tm;
    char text[64];

    (void)localtime_r(&s, &tm);
    (void)strftime(text, sizeof text, "%a %b %d %H:%M:%S %Z %Y", &tm);
    buf_add_str(out, text);
}

static void endings_print(const struct words *w, const struct endings *e, bool of_connections,
                          struct listing *l)
{
    for (size_t i = 0, next; i < e->n && !l->room.is_full; i = next) {
        for (next = i; next < e->n && e->v[next].at_ms == e->v[i].at_ms;)
            next++;
        buf_printf(l->out, "%zu expire at ", next - i);
        date(w, e->v[i].at_ms, l->out);
        buf_add_str(l->out, ":\n");
        for (size_t k = i; k < next && word_room_take(&l->room, 100); k++)
            if (of_connections)
                buf_printf(l->out, "\tip: /%s sessionId: 0x%" PRIx64 "\n", e->v[k].address,
                           (uint64_t)e->v[k].session);
            else
                buf_printf(l->out, "\t0x%" PRIx64 "\n", (uint64_t)e->v[k].session);
    }
}

/* ---- dump ---- */

static void sessions_of_all(const struct words *w, struct listing *l)
{
    struct member_session_facts s = {.tree.id = INT64_MIN};

    buf_printf(l->out, "Global Sessions(%" PRIu64 "):\n", w->facts->tree.sessions);
    while (member_session_next(w->member, s.tree.id, &s) && word_room_take(&l->room, 50))
        buf_printf(l->out, "0x%" PRIx64 "\t%" PRId32 "ms\n", (uint64_t)s.tree.id,
                   s.tree.timeout_ms);
}

static bool tabbed_path(void *ctx, const char *path, size_t path_len)
{
    struct listing *l = ctx;

    if (!word_room_take(&l->room, path_len + 2))
        return false;
    buf_add_u8(l->out, '\t');
    buf_add(l->out, path, path_len);
    buf_add_u8(l->out, '\n');
    return true;
}

static void ephemerals(const struct words *w, struct listing *l)
{
    struct member_session_facts s = {.tree.id = INT64_MIN};
    uint64_t owners = 0;

    while (member_session_next(w->member, s.tree.id, &s))
        owners += s.tree.ephemerals > 0;
    buf_printf(l->out, "Sessions with Ephemerals (%" PRIu64 "):\n", owners);
    s.tree.id = INT64_MIN;
    while (!l->room.is_full && member_session_next(w->member, s.tree.id, &s))
        if (s.tree.ephemerals > 0 && word_room_take(&l->room, 30)) {
            buf_printf(l->out, "0x%" PRIx64 ":\n", (uint64_t)s.tree.id);
            tree_ephemerals(member_tree(w->member), s.tree.id, tabbed_path, l);
        }
}

static void dump(const struct words *w, struct buf *out)
{
    struct listing l = {.out = out};
    struct endings sessions, connections;

    words_endings(w, false, &sessions);
    words_endings(w, true, &connections);
    buf_add_str(out, "SessionTracker dump:\n");
    if (w->facts->is_leader) {
        buf_printf(out, "Session Sets (%zu)/(%zu):\n", sessions.ticks, sessions.n);
        endings_print(w, &sessions, false, &l);
    } else {
        sessions_of_all(w, &l);
    }
    buf_add_str(out, "ephemeral nodes dump:\n");
    ephemerals(w, &l);
    buf_printf(out, "Connections dump:\nConnections Sets (%zu)/(%zu):\n", connections.ticks,
               connections.n);
    endings_print(w, &connections, true, &l);
    say_if_cut(&l);
    words_endings_free(&sessions);
    words_endings_free(&connections);
}

/* ---- watches ---- */

static void wchs(const struct words *w, struct buf *out)
{
    uint64_t watchers, paths;

    watches_data_size(member_watches_raw(w->member), &watchers, &paths);
    buf_printf(
        out, "%" PRIu64 " connections watching %" PRIu64 " paths\nTotal watches:%" PRIu64 "\n",
        watchers, paths, w->facts->watches.data);
}

/* Once for many lines. */
static void write_id(struct listing *l, int64_t session)
{
    snprintf(l->id, sizeof l->id, "0x%" PRIx64 "\n", (uint64_t)session);
    l->session = session;
}

static bool watch_of_session(void *ctx, int64_t session, const char *path, size_t path_len)
{
    struct listing *l = ctx;

    if (session != l->session && word_room_take(&l->room, 20)) {
        write_id(l, session);
        buf_add_str(l->out, l->id);
    }
    return tabbed_path(ctx, path, path_len);
}

static void wchc(const struct words *w, struct buf *out)
{
    struct listing l = {.out = out};

    member_watches(w->member, false, watch_of_session, &l);
    say_if_cut(&l);
    buf_add_str(out, "\n");
}

static bool watch_of_path(void *ctx, int64_t session, const char *path, size_t path_len)
{
    struct listing *l = ctx;
    bool is_new = l->path->len != path_len || path_len == 0 || /* setWatches takes any text */
                  memcmp(l->path->data, path, path_len) != 0;

    if (!word_room_take(&l->room, (is_new ? path_len + 1 : 0) + 20))
        return false;
    if (is_new) {
        buf_clear(l->path);
        buf_add(l->path, path, path_len);
        buf_add(l->out, path, path_len);
        buf_add_u8(l->out, '\n');
    }
    if (session != l->session)
        write_id(l, session);
    buf_add_u8(l->out, '\t');
    buf_add_str(l->out, l->id);
    return true;
}

static void wchp(const struct words *w, struct buf *out)
{
    struct buf path = {0};
    struct listing l = {.out = out, .path = &path};

    member_watches(w->member, true, watch_of_path, &l);
    say_if_cut(&l);
    buf_add_str(out, "\n");
    buf_free(&path);
}

/* ---- the server ---- */

static void server_lines(const struct words *w, struct buf *out)
{
    const struct server_facts *f = w->facts;
    const struct summary *latency = &f->stats->latency;
    const struct sizes *p = &f->stats->proposals;

    buf_printf(out, "Latency min/avg/max: %" PRIu64 "/", latency->least);
    monitor_real(summary_average(latency), out);
    buf_printf(out,
               "/%" PRIu64 "\nReceived: %" PRIu64 "\nSent: %" PRIu64 "\nConnections: %" PRIu64
               "\nOutstanding: %" PRIu64 "\nZxid: 0x%" PRIx64 "\nMode: %s\nNode count: %" PRIu64
               "\n",
               latency->most, f->stats->received, f->stats->sent, f->member.connections,
               f->member.outstanding, (uint64_t)f->zxid, f->mode, f->tree.znodes);
    if (strcmp(f->mode, "leader") == 0)
        buf_printf(out, "Proposal sizes last/min/max: %" PRId64 "/%" PRId64 "/%" PRId64 "\n",
                   size_shown(p, p->last), size_shown(p, p->least), size_shown(p, p->most));
}

static void read_only_line(const struct words *w, struct buf *out)
{
    if (w->facts->is_read_only)
        buf_add_str(out, "READ-ONLY mode; serving only read-only clients\n");
}

static void srvr(const struct words *w, struct buf *out)
{
    version_line(w, out);
    read_only_line(w, out);
    server_lines(w, out);
}

static void stat_word(const struct words *w, struct buf *out)
{
    version_line(w, out);
    read_only_line(w, out);
    buf_add_str(out, "Clients:\n");
    connection_lines(w, true, out);
    server_lines(w, out);
}

static void cons(const struct words *w, struct buf *out) { connection_lines(w, false, out); }
static void mntr(const struct words *w, struct buf *out) { monitor_mntr(w, out); }

static void crst(const struct words *w, struct buf *out)
{
    w->reset(w->ctx, true);
    buf_add_str(out, "Connection stats reset.\n");
}

static void srst(const struct words *w, struct buf *out)
{
    w->reset(w->ctx, false);
    buf_add_str(out, "Server stats reset.\n");
}

/* As ZooKeeper has it in /zookeeper/config, when it is there. */
static void membership(const struct words *w, struct buf *out)
{
    const struct raft_members *all = w->facts->servers;
    const uint8_t *data;
    size_t len;

    buf_add_str(out, "membership: \n");
    if (tree_get(member_tree(w->member), "/zookeeper/config", &data, &len) && len > 0) {
        buf_add(out, data, len);
        return;
    }
    for (unsigned i = 0; i < all->n; i++) {
        const char *port = strrchr(all->v[i].address, ':');
        buf_printf(out, "server.%" PRIu64 "=%s%s:%s\n", all->v[i].id, all->v[i].address,
                   port != NULL ? port : "", all->v[i].voter ? "participant" : "observer");
    }
    buf_add_str(out, "version=0");
}

static bool is_observer(const struct server_facts *f)
{
    for (unsigned i = 0; i < f->servers->n; i++)
        if (f->servers->v[i].id == f->id)
            return !f->servers->v[i].voter;
    return true;
}

static void conf(const struct words *w, struct buf *out)
{
    const struct server_facts *f = w->facts;
    const struct settings *s = w->settings;
    uint64_t bytes = w->dir_bytes(w->ctx);

    buf_printf(out,
               "clientPort=%u\nsecureClientPort=-1\ndataDir=%s\ndataDirSize=%" PRIu64
               "\ndataLogDir=%s\ndataLogSize=%" PRIu64 "\ntickTime=%" PRId32
               "\nmaxClientCnxns=%" PRId32 "\nminSessionTimeout=%" PRId32
               "\nmaxSessionTimeout=%" PRId32 "\nclientPortListenBacklog=%" PRId32
               "\nserverId=%" PRIu64 "\n",
               f->client_port, f->data_dir, bytes, f->data_dir, bytes, s->tick_ms,
               s->clients_from_one_max, s->session_min_ms, s->session_max_ms, s->backlog,
               f->id);
    if (f->members <= 1)
        return;
    buf_printf(out,
               "initLimit=%" PRId32 "\nsyncLimit=%" PRId32
               "\nelectionAlg=3\nelectionPort=%u\nquorumPort=%u\npeerType=%d\n",
               s->init_limit, s->sync_limit, f->peer_port, f->peer_port, is_observer(f));
    membership(w, out);
}

static void dirs(const struct words *w, struct buf *out)
{
    uint64_t bytes = w->dir_bytes(w->ctx);

    buf_printf(out, "datadir_size: %" PRIu64 "\nlogdir_size: %" PRIu64 "\n", bytes, bytes);
}

static void pair(struct words_environment *e, size_t *n, const char *name, const char *value)
{
    char *at = e->text + e->len;
    size_t room = sizeof e->text - e->len;

    snprintf(at, room, "%s", value != NULL ? value : "");
    e->len += strlen(at) + 1 < room ? strlen(at) + 1 : room - 1;
    e->pairs[(*n)++] = (struct word_pair){name, at};
}

void words_environment(const struct words *w, struct words_environment *out)
{
    struct utsname u = {0};
    const struct passwd *user = getpwuid(geteuid());
    char version[VERSION_MAX], dir[512] = "";
    size_t n = 0;

    out->len = 0;
    (void)uname(&u);
    if (getcwd(dir, sizeof dir) == NULL)
        dir[0] = 0;
    pair(out, &n, "zookeeper.version", words_version(w->facts, version));
    pair(out, &n, "host.name", u.nodename);
    pair(out, &n, "os.name", u.sysname);
    pair(out, &n, "os.arch", strcmp(u.machine, "x86_64") == 0 ? "amd64" : u.machine);
    pair(out, &n, "os.version", u.release);
    pair(out, &n, "user.name", user != NULL ? user->pw_name : "");
    pair(out, &n, "user.home", user != NULL ? user->pw_dir : "");
    pair(out, &n, "user.dir", dir);
    out->pairs[n] = (struct word_pair){NULL, NULL};
}

static void envi(const struct words *w, struct buf *out)
{
    struct words_environment e;

    words_environment(w, &e);
    buf_add_str(out, "Environment:\n");
    for (const struct word_pair *p = e.pairs; p->name != NULL; p++)
        buf_printf(out, "%s=%s\n", p->name, p->value);
}

static void ruok(const struct words *w, struct buf *out)
{
    (void)w;
    buf_add_str(out, "imok");
}

static void isro(const struct words *w, struct buf *out)
{
    buf_add_str(out, w->facts->is_read_only ? "ro" : w->facts->is_serving ? "rw" : "null");
}

/* ZooKeeper's digests of its tree are computed in another way than ours: there is none to
 * show, as on a server that has not made one yet. */
static void hash(const struct words *w, struct buf *out)
{
    if (!facts_answers(w->facts))
        buf_add_str(out, WORD_NOT_SERVING);
}

static void gtmk(const struct words *w, struct buf *out)
{
    buf_printf(out, "%" PRId64, *w->trace_mask);
}

/* ---- which there are ---- */

struct word {
    char name[5];
    bool always; /* also while this server is part of no quorum */
    void (*print)(const struct words *w, struct buf *out);
    size_t more; /* bytes behind the name */
};

static const struct word table[] = {
    {"ruok", true, ruok, 0},  {"srvr", false, srvr, 0}, {"stat", false, stat_word, 0},
    {"mntr", false, mntr, 0}, {"conf", false, conf, 0}, {"cons", false, cons, 0},
    {"crst", false, crst, 0}, {"srst", false, srst, 0}, {"dump", false, dump, 0},
    {"envi", true, envi, 0},  {"wchs", false, wchs, 0}, {"wchc", false, wchc, 0},
    {"wchp", false, wchp, 0}, {"dirs", false, dirs, 0}, {"isro", true, isro, 0},
    {"hash", true, hash, 0},  {"gtmk", true, gtmk, 0},  {"stmk", true, gtmk, MASK_BYTES},
};

static const struct word *word_of(const uint8_t name[4])
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (memcmp(name, table[i].name, 4) == 0)
            return &table[i];
    return NULL;
}

/* The list is names between commas; * is all of them. */
static bool is_listed(const struct settings *s, const char *name)
{
    const char *at = s->words;

    if (strcmp(name, "srvr") == 0 || (s->read_only_mode && strcmp(name, "isro") == 0))
        return true;
    while (*at != 0) {
        at += strspn(at, ", \t");
        size_t len = strcspn(at, ", \t");
        if ((len == 1 && *at == '*') || (len == 4 && memcmp(at, name, 4) == 0))
            return true;
        at += len;
    }
    return false;
}

size_t word_len(const struct settings *settings, const uint8_t name[4])
{
    const struct word *word = word_of(name);

    if (word == NULL)
        return 0;
    return 4 + (is_listed(settings, word->name) ? word->more : 0);
}

void word_answer(const struct words *w, const uint8_t *data, struct buf *out)
{
    const struct word *word = word_of(data);

    CHECK(word != NULL);
    if (!is_listed(w->settings, word->name)) {
        buf_printf(out, "%s is not executed because it is not in the whitelist.\n", word->name);
        return;
    }
    if (word->more == MASK_BYTES)
        *w->trace_mask = (int64_t)be64_get(data + 4);
    if (!word->always && !facts_answers(w->facts))
        buf_add_str(out, WORD_NOT_SERVING "\n");
    else
        word->print(w, out);
}
