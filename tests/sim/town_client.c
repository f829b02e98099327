/* SPDX-License-Identifier: Apache-2.0 */
/* Clients: what they do, and what must be true of every answer.
 *
 *   /c<n>    a client's own number, set without a version: 1, 2, 3, ... in order, each once
 *   /q/..    sequential znodes: an acknowledged one is there, none is there twice
 *   /log     appended to with the version: acknowledged appends are there, each once
 *   /x       a register of all: its versions must be in the order of real time for writes and
 *            for reads after sync; a watch fires before a newer version is seen
 *   /e/..    an ephemeral of each session: there as long as the session
 *   /s/..    sequential znodes that are deleted again: their numbers only grow
 *   /w<n>    two watches on it, then it is deleted: told before the answer
 *   /multi   part of transactions that fail: it never changes
 * A persistent watch on its own znode tells a client of each of its sets before the answer.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "town.h"
#include "tree/watch.h"
#include "wire/wire.h"

enum { OUTSTANDING_MAX = 6, QUEUE_MAX = 400, VERSIONS_MAX = 20000, SEEN_MAX = 400 };
enum { DRIFT_PERMILLE = 21, TICK_MS = 3 };

enum op_type {
    OP_SETUP,
    OP_OWN_CREATE,
    OP_OWN_SET,
    OP_OWN_GET,
    OP_QUEUE,
    OP_LOG_GET,
    OP_LOG_SET,
    OP_X_SET,
    OP_X_SYNC,
    OP_X_GET, /* after a sync */
    OP_X_WATCH,
    OP_EPHEMERAL,
    OP_SEQUENCE,
    OP_SEQUENCE_DELETE,
    OP_DOOMED_CREATE,
    OP_DOOMED_WATCH,
    OP_DOOMED_DELETE,
    OP_MULTI,
    OP_MULTI_GET,
    OP_PERSISTENT,
    OP_END_QUEUE,
    OP_END_LOG,
    OP_END_X,
    OP_END_OWN,
    OP_END_EPHEMERALS,
};

struct op {
    struct op *next; /* all of a client's; freed with it */
    struct town_client *c;
    enum op_type type;
    bool is_done;
    uint64_t value, floor;
    int64_t session;
    struct op *pair; /* of a sync: the read that follows it */
    size_t record;   /* town_history.c; 0: none */
};

/* A name or an item of which a client knows whether it is there. */
enum fate { FATE_FLYING, FATE_THERE, FATE_UNSURE, FATE_NOT };
struct thing {
    enum fate fate;
    char name[48];
};

struct session_seen { /* sessions of this client, as the servers' trees showed them */
    int64_t id;
    uint64_t first_index; /* a tree that had it had applied so much */
    uint64_t ephemeral_zxid;
    bool is_ephemeral_sure, is_ended_by_us;
};

struct town_client {
    struct town *town;
    unsigned n, host;
    struct shell shell;
    struct op *ops;
    unsigned outstanding;
    uint64_t life;
    bool is_set_up, is_idle, has_own;
    bool is_reader;          /* only reads, which any server answers */
    bool is_reader_for_good; /* once it is set up */
    uint32_t think_us, timeout_ms;
    int64_t zxid, zxid_session;
    uint64_t own_issued, own_acked, own_unsure; /* own_unsure: lost since the last ack */
    int64_t own_session;                        /* in which own_acked was acknowledged */
    int32_t own_version;
    struct thing queue[QUEUE_MAX], log[QUEUE_MAX];
    unsigned queue_n, log_n;
    bool is_logging;
    uint64_t x_values;
    bool is_armed;
    int32_t armed_version;
    int64_t armed_session;
    int64_t ephemeral_session; /* asked for, for this one */
    struct session_seen seen[SEEN_MAX];
    unsigned seen_n;
    int64_t persistent_session; /* asked for in this one */
    bool is_persistent;         /* and set */
    uint64_t own_events;
    uint64_t sequence_last;
    int64_t sequence_session;
    bool is_dooming;
    unsigned doomed_watches; /* set; told: 0 again */
    uint64_t replies, events;
};

struct town_shared {
    uint64_t values[VERSIONS_MAX]; /* of /x, by version; 0: unknown */
    int32_t floor;                 /* what was written or read, and answered */
    struct town_client *checker;
    unsigned checks_left;
    int32_t end_version;
};

static struct town_shared *shared(struct town_client *c) { return c->town->shared; }

static uint64_t now_ms(const struct town_client *c)
{
    return world_host_ms(&c->town->w, c->host);
}

#define FAIL(c, ...) world_fail(&(c)->town->w, __VA_ARGS__)

/* ---- what the replies say ---- */

static void own_set_done(struct town_client *c, struct op *op, const struct client_reply *r)
{
    if (r->err == ERR_CONNECTION_LOST) {
        c->own_unsure++;
        return;
    }
    if (r->err == ERR_SESSION_EXPIRED || r->err == ERR_NO_NODE || r->err == ERR_NO_ROOM)
        return;
    if (r->err != 0)
        FAIL(c, "client %u: its set fails with %s", c->n, err_name(r->err));
    int32_t low = c->own_version + 1, high = low + (int32_t)c->own_unsure;
    if (r->stat.version < low || r->stat.version > high)
        FAIL(c,
             "client %u: its set of %u made version %d, not %d to %d: a write was lost, or "
             "applied twice",
             c->n, (unsigned)op->value, r->stat.version, low, high);
    if (op->value <= c->own_acked)
        FAIL(c, "client %u: its sets are answered out of order", c->n);
    if (c->is_persistent && c->persistent_session == client_session(c->shell.client)) {
        if (c->own_events == 0)
            FAIL(c, "client %u: its set is answered, and its persistent watch was silent",
                 c->n);
        c->own_events--;
    }
    c->own_acked = op->value;
    c->own_session = client_session(c->shell.client);
    c->own_version = r->stat.version;
    c->own_unsure = 0;
}

static uint64_t number(const struct client_reply *r)
{
    return r->len == 8 ? be64_get(r->data) : 0;
}

static void own_get_done(struct town_client *c, struct op *op, const struct client_reply *r)
{
    bool is_same = c->own_session == client_session(c->shell.client);

    if (r->err == ERR_NO_NODE && c->own_acked > 0 && is_same)
        FAIL(c, "client %u: its own znode is gone", c->n);
    if (r->err != 0)
        return;
    uint64_t v = number(r);
    /* op->value: what had been issued before the question. Answers come in order, so what
     * is acknowledged now was asked before it. Another session may see an older state. */
    if (v > op->value)
        FAIL(c, "client %u: reads %u, which it wrote only after asking (%u)", c->n, (unsigned)v,
             (unsigned)op->value);
    if (v < c->own_acked && is_same)
        FAIL(c, "client %u: reads %u after %u was acknowledged", c->n, (unsigned)v,
             (unsigned)c->own_acked);
}

static void x_known(struct town_client *c, int32_t version, uint64_t value)
{
    struct town_shared *sh = shared(c);

    CHECK(version >= 0 && version < VERSIONS_MAX);
    if (sh->values[version] == 0)
        sh->values[version] = value + 1;
    else if (sh->values[version] != value + 1)
        FAIL(c, "client %u: version %d of /x has two values", c->n, version);
}

void town_client_saw_x(struct town *t, int32_t version, uint64_t value)
{
    x_known(t->clients[0], version, value);
}

static void x_linear(struct town_client *c, const struct op *op, int32_t version, bool write)
{
    struct town_shared *sh = shared(c);

    if (version < (int32_t)op->floor + (write ? 1 : 0))
        FAIL(c, "client %u: %s /x at version %d, but %u was there before it asked", c->n,
             write ? "writes" : "reads after sync", version, (unsigned)op->floor);
    if (version > sh->floor)
        sh->floor = version;
}

static void x_seen(struct town_client *c, const struct client_reply *r)
{
    x_known(c, r->stat.version, number(r));
    if (c->is_armed && c->armed_session == client_session(c->shell.client) &&
        r->stat.version > c->armed_version)
        FAIL(c, "client %u: sees version %d of /x, and its watch on version %d was silent",
             c->n, r->stat.version, c->armed_version);
}

static void append(struct town_client *c, const struct client_reply *r);

static void thing_done(struct thing *t, int err)
{
    t->fate = err == 0 ? FATE_THERE : err == ERR_CONNECTION_LOST ? FATE_UNSURE : FATE_NOT;
}

static struct session_seen *seen(struct town_client *c, int64_t id)
{
    for (unsigned i = c->seen_n; i-- > 0;)
        if (c->seen[i].id == id)
            return &c->seen[i];
    return NULL;
}

static void end_done(struct town_client *c, struct op *op, const struct client_reply *r);
static void sequence_delete(struct town_client *c, const char *path);

static void sequence_done(struct town_client *c, const struct client_reply *r)
{
    int64_t session = client_session(c->shell.client);

    if (r->err != 0)
        return;
    uint64_t n = 0;
    for (const char *p = r->path + strlen(r->path) - 10; *p != 0; p++)
        n = 10 * n + (uint64_t)(*p - '0');
    if (c->sequence_session == session && n <= c->sequence_last)
        FAIL(c, "client %u: sequence number %u after %u", c->n, (unsigned)n,
             (unsigned)c->sequence_last);
    c->sequence_session = session;
    c->sequence_last = n;
    sequence_delete(c, r->path);
}

static void dispatch(struct town_client *c, struct op *op, const struct client_reply *r)
{
    switch (op->type) {
    case OP_SETUP:
        if (r->err == 0 || r->err == ERR_NODE_EXISTS)
            c->is_set_up = op->value == 5 || c->is_set_up;
        break;
    case OP_OWN_CREATE:
        if (r->err == 0 || r->err == ERR_NODE_EXISTS)
            c->has_own = true;
        break;
    case OP_OWN_SET: own_set_done(c, op, r); break;
    case OP_OWN_GET: own_get_done(c, op, r); break;
    case OP_QUEUE: {
        struct thing *t = &c->queue[op->value];
        thing_done(t, r->err);
        if (r->err == 0)
            snprintf(t->name, sizeof t->name, "%s", r->path + 3);
        break;
    }
    case OP_LOG_GET:
        if (r->err == 0)
            append(c, r);
        else
            c->is_logging = false;
        break;
    case OP_LOG_SET:
        thing_done(&c->log[op->value], r->err);
        c->is_logging = false;
        break;
    case OP_X_SET:
        if (r->err == 0) {
            x_known(c, r->stat.version, op->value);
            x_linear(c, op, r->stat.version, true);
        }
        break;
    case OP_X_SYNC:
        if (r->err != 0 && op->pair != NULL) {
            op->pair->floor = 0;
            town_history_plain(c->town, op->pair->record);
        }
        break;
    case OP_X_GET:
        if (r->err == 0) {
            x_seen(c, r);
            x_linear(c, op, r->stat.version, false);
        }
        break;
    case OP_X_WATCH:
        if (r->err == 0) {
            x_seen(c, r);
            c->is_armed = true;
            c->armed_version = r->stat.version;
            c->armed_session = client_session(c->shell.client);
        }
        break;
    case OP_EPHEMERAL:
        if (r->err == 0) {
            struct session_seen *s = seen(c, op->session);
            if (s != NULL) {
                s->is_ephemeral_sure = true;
                s->ephemeral_zxid = (uint64_t)r->zxid;
            }
        } else if (op->session == client_session(c->shell.client)) {
            c->ephemeral_session = 0; /* tried again */
        }
        break;
    case OP_SEQUENCE: sequence_done(c, r); break;
    case OP_SEQUENCE_DELETE:
    case OP_DOOMED_CREATE: break;
    case OP_DOOMED_WATCH: c->doomed_watches += r->err == 0; break;
    case OP_DOOMED_DELETE:
        if (r->err == 0 && c->doomed_watches > 0)
            FAIL(c, "client %u: its znode is deleted, and its watches were silent", c->n);
        c->doomed_watches = 0;
        c->is_dooming = false;
        break;
    case OP_MULTI: break; /* its parts say what became of them */
    case OP_MULTI_GET:
        if (r->err == 0 && r->stat.version != 0)
            FAIL(c, "client %u: a part of a failed transaction was carried out", c->n);
        break;
    case OP_PERSISTENT:
        c->is_persistent = r->err == 0;
        c->own_events = 0;
        if (r->err != 0)
            c->persistent_session = 0;
        break;
    case OP_END_QUEUE:
    case OP_END_LOG:
    case OP_END_X:
    case OP_END_OWN:
    case OP_END_EPHEMERALS: end_done(c, op, r); break;
    }
}

static void done(void *ctx, const struct client_reply *r)
{
    struct op *op = ctx;
    struct town_client *c = op->c;
    int64_t session = client_session(c->shell.client);

    CHECK(!op->is_done);
    op->is_done = true;
    c->outstanding--;
    c->replies++;
    if (r->err == 0 && r->zxid > 0) {
        if (c->zxid_session == session && r->zxid < c->zxid)
            FAIL(c, "client %u: the zxid went back from %" PRId64 " to %" PRId64, c->n, c->zxid,
                 r->zxid);
        c->zxid = r->zxid;
        c->zxid_session = session;
    }
    switch (r->err) {
    case 0:
    case ERR_CONNECTION_LOST:
    case ERR_SESSION_EXPIRED:
    case ERR_NO_NODE:
    case ERR_NODE_EXISTS:
    case ERR_NO_ROOM:
    case ERR_BAD_VERSION: break;
    default:
        FAIL(c, "client %u: operation %u is answered with %s", c->n, op->type,
             err_name(r->err));
    }
    if (op->record > 0)
        town_history_end(c->town, op->record, session,
                         op->type == OP_LOG_GET || op->type == OP_END_LOG, r);
    dispatch(c, op, r);
}

/* ---- what they ask ---- */

static struct op *op_new(struct town_client *c, enum op_type type, uint64_t value)
{
    struct op *op = mem_new(struct op);

    op->next = c->ops;
    c->ops = op;
    op->c = c;
    op->type = type;
    op->value = value;
    op->floor = (uint64_t)shared(c)->floor;
    op->session = client_session(c->shell.client);
    c->outstanding++;
    return op;
}

/* What is asked is written down, too. */
static struct op *op_noted(struct town_client *c, enum op_type type, uint64_t value,
                           enum history_f f, const char *path, int64_t number)
{
    struct op *op = op_new(c, type, value);

    op->record =
        town_history_begin(c->town, f, path, c->n + TOWN_CLIENTS_MAX * c->life, number);
    return op;
}

static void append(struct town_client *c, const struct client_reply *r)
{
    uint8_t data[8192];

    if (c->log_n == QUEUE_MAX || r->len < 0 || (size_t)r->len + 4 > sizeof data) {
        c->is_logging = false;
        return;
    }
    memcpy(data, r->data, (size_t)r->len);
    be32_put(data + r->len, (uint32_t)(c->n << 24 | c->log_n));
    c->log[c->log_n].fate = FATE_FLYING;
    client_set(
        c->shell.client, now_ms(c), "/log", data, (size_t)r->len + 4, r->stat.version, done,
        op_noted(c, OP_LOG_SET, c->log_n, HISTORY_APPEND, "/log", c->n << 24 | c->log_n));
    c->log_n++;
}

/* Another one for each life of the process: what a killed one had sent may be written after
 * what the next one does, since that is another session. */
static void own_path(const struct town_client *c, char path[48])
{
    snprintf(path, 48, "/c%u-%u", c->n, (unsigned)c->life);
}

static void sequence_delete(struct town_client *c, const char *path)
{
    client_delete(c->shell.client, now_ms(c), path, -1, done,
                  op_noted(c, OP_SEQUENCE_DELETE, 0, HISTORY_SEQ_DELETE, "/s",
                           town_history_number(path)));
}

static void add_string(struct buf *b, const char *text)
{
    buf_add_be32(b, (uint32_t)strlen(text));
    buf_add_str(b, text);
}

static void multi_header(struct buf *b, int32_t type, bool is_end)
{
    buf_add_be32(b, (uint32_t)type);
    buf_add_u8(b, is_end);
    buf_add_be32(b, UINT32_MAX);
}

/* A set that would do, and a check that cannot. */
static void ask_multi(struct town_client *c)
{
    struct buf b = {0};

    multi_header(&b, WIRE_OP_SET_DATA, false);
    add_string(&b, "/multi");
    add_string(&b, "no");
    buf_add_be32(&b, UINT32_MAX);
    multi_header(&b, WIRE_OP_CHECK, false);
    add_string(&b, "/x");
    buf_add_be32(&b, 1u << 30);
    multi_header(&b, -1, true);
    client_request(c->shell.client, now_ms(c), WIRE_OP_MULTI, b.data, b.len, done,
                   op_new(c, OP_MULTI, 0));
    buf_free(&b);
    client_get(c->shell.client, now_ms(c), "/multi", false, done, op_new(c, OP_MULTI_GET, 0));
}

static void ask_doomed(struct town_client *c)
{
    struct client *k = c->shell.client;
    char path[48];

    if (c->is_dooming)
        return;
    c->is_dooming = true;
    snprintf(path, sizeof path, "/w%u-%u", c->n, (unsigned)c->life);
    client_create(k, now_ms(c), path, NULL, 0, 0, done, op_new(c, OP_DOOMED_CREATE, 0));
    client_get(k, now_ms(c), path, true, done, op_new(c, OP_DOOMED_WATCH, 0));
    client_children(k, now_ms(c), path, true, done, op_new(c, OP_DOOMED_WATCH, 0));
    client_delete(k, now_ms(c), path, -1, done, op_new(c, OP_DOOMED_DELETE, 0));
}

static void set_up(struct town_client *c)
{
    static const char *const paths[] = {"/q", "/e", "/log", "/x", "/s", "/multi"};
    char own[48];
    uint8_t zero[8] = {0};
    struct client *k = c->shell.client;

    for (unsigned i = 0; i < 6; i++)
        client_create(k, now_ms(c), paths[i], zero, i == 3 ? 8 : 0, 0, done,
                      i == 3 ? op_noted(c, OP_SETUP, i, HISTORY_CREATE, paths[i], 0)
                             : op_new(c, OP_SETUP, i));
    if (c->town->agents_n > 0) {
        struct buf site = {0};
        town_agent_site(c->town, &site);
        client_create(k, now_ms(c), "/muster", NULL, 0, 0, done, op_new(c, OP_SETUP, 6));
        client_create(k, now_ms(c), "/muster/site", site.data, site.len, 0, done,
                      op_new(c, OP_SETUP, 7));
        buf_free(&site);
    }
    own_path(c, own);
    client_create(k, now_ms(c), own, zero, 8, 0, done,
                  op_noted(c, OP_OWN_CREATE, 0, HISTORY_CREATE, own, 0));
}

static void make_ephemeral(struct town_client *c)
{
    char path[48];
    struct client *k = c->shell.client;
    int64_t session = client_session(k);

    if (client_state(k) != CLIENT_CONNECTED || session == c->ephemeral_session)
        return;
    if (seen(c, session) == NULL && c->seen_n < SEEN_MAX)
        c->seen[c->seen_n++] = (struct session_seen){.id = session, .first_index = UINT64_MAX};
    c->ephemeral_session = session;
    snprintf(path, sizeof path, "/e/%u-%" PRIx64, c->n, (uint64_t)session);
    client_create(k, now_ms(c), path, NULL, 0, WIRE_EPHEMERAL, done,
                  op_new(c, OP_EPHEMERAL, 0));
}

/* Once in each session. */
static void watch_own(struct town_client *c)
{
    char path[48];
    struct client *k = c->shell.client;

    if (!c->has_own || client_state(k) != CLIENT_CONNECTED ||
        c->persistent_session == client_session(k))
        return;
    c->persistent_session = client_session(k);
    c->is_persistent = false;
    own_path(c, path);
    client_add_watch(k, now_ms(c), path, false, done, op_new(c, OP_PERSISTENT, 0));
}

static void ask_own_set(struct town_client *c)
{
    char path[48];
    uint8_t data[8];

    own_path(c, path);
    be64_put(data, ++c->own_issued);
    client_set(
        c->shell.client, now_ms(c), path, data, 8, -1, done,
        op_noted(c, OP_OWN_SET, c->own_issued, HISTORY_WRITE, path, (int64_t)c->own_issued));
}

static void ask(struct town_client *c)
{
    struct client *k = c->shell.client;
    char path[48];
    uint8_t data[8];

    own_path(c, path);
    if (c->is_reader || c->is_reader_for_good) {
        client_get(k, now_ms(c), path, false, done,
                   op_noted(c, OP_OWN_GET, c->own_issued, HISTORY_READ, path, -1));
        return;
    }
    switch (world_below(&c->town->w, 12)) {
    case 9:
        client_create(k, now_ms(c), "/s/x-", NULL, 0, WIRE_SEQUENTIAL, done,
                      op_noted(c, OP_SEQUENCE, 0, HISTORY_SEQ_CREATE, "/s", -1));
        break;
    case 10: ask_doomed(c); break;
    case 11: ask_multi(c); break;
    case 0:
    case 1: ask_own_set(c); break;
    case 2:
        client_get(k, now_ms(c), path, false, done,
                   op_noted(c, OP_OWN_GET, c->own_issued, HISTORY_READ, path, -1));
        break;
    case 3:
        if (c->queue_n == QUEUE_MAX)
            break;
        snprintf(path, sizeof path, "/q/%u-%u-", c->n, c->queue_n);
        c->queue[c->queue_n].fate = FATE_FLYING;
        client_create(k, now_ms(c), path, NULL, 0, WIRE_SEQUENTIAL, done,
                      op_noted(c, OP_QUEUE, c->queue_n, HISTORY_SEQ_CREATE, "/q", -1));
        c->queue_n++;
        break;
    case 4:
        if (c->is_logging)
            break;
        c->is_logging = true;
        client_get(k, now_ms(c), "/log", false, done,
                   op_noted(c, OP_LOG_GET, 0, HISTORY_READ, "/log", -1));
        break;
    case 5:
        c->x_values++;
        be64_put(data, (uint64_t)(c->n + 1) << 32 | c->x_values);
        client_set(k, now_ms(c), "/x", data, 8, -1, done,
                   op_noted(c, OP_X_SET, be64_get(data), HISTORY_WRITE, "/x",
                            (int64_t)be64_get(data)));
        break;
    case 6:
    case 7: {
        struct op *sync = op_new(c, OP_X_SYNC, 0);
        struct op *get = op_noted(c, OP_X_GET, 0, HISTORY_SYNC_READ, "/x", -1);
        sync->pair = get;
        client_sync(k, now_ms(c), "/x", done, sync);
        client_get(k, now_ms(c), "/x", false, done, get);
        break;
    }
    default:
        client_get(k, now_ms(c), "/x", true, done,
                   op_noted(c, OP_X_WATCH, 0, HISTORY_READ, "/x", -1));
        break;
    }
}

static void think(void *ctx, uint64_t life, uint64_t unused)
{
    struct town_client *c = ctx;
    struct world *w = &c->town->w;

    (void)unused;
    if (life != c->life || c->is_idle)
        return;
    uint64_t again_us = w->now_us + world_between(w, c->think_us / 4, c->think_us);
    if (world_is_frozen(w, c->host)) {
        again_us = w->hosts[c->host].frozen_until_us + world_below(w, 20000);
    } else if (c->outstanding < OUTSTANDING_MAX) {
        if (!c->is_set_up) {
            if (c->outstanding == 0)
                set_up(c);
        } else {
            make_ephemeral(c);
            watch_own(c);
            if (world_chance(w, 10))
                c->is_reader = !c->is_reader && world_chance(w, 300);
            for (unsigned i = 1 + (unsigned)world_below(w, 3); i > 0; i--)
                ask(c);
        }
        shell_turn(&c->shell);
    }
    world_at(w, again_us, think, c, life, 0);
}

/* ---- what happens to them ---- */

/* The server that says that a session has ended has applied its end. */
static void look_ended(struct town_client *c)
{
    const struct link *l = c->shell.link;
    struct tree_session found;

    if (l == NULL || c->seen_n == 0 || l->server->member == NULL ||
        l->life != l->server->box.life)
        return;
    int64_t id = c->seen[c->seen_n - 1].id;
    if (tree_session_get(member_tree(l->server->member), id, &found))
        FAIL(c, "client %u: server %u says that its session has ended, and has it", c->n,
             l->server->n);
}

static void on_event(void *ctx, enum client_event ev)
{
    static const char *const names[] = {"connected", "disconnected", "expired", "closed"};
    struct town_client *c = ctx;

    world_note(&c->town->w, "client %u: %s, session %" PRIx64, c->n, names[ev],
               (uint64_t)client_session(c->shell.client));
    c->events++;
    if (ev == CLIENT_EV_EXPIRED || ev == CLIENT_EV_DISCONNECTED)
        c->own_events = 0; /* what it was told of has ended unanswered */
    if (ev == CLIENT_EV_EXPIRED) {
        look_ended(c);
        c->is_armed = c->is_persistent = false;
        c->doomed_watches = 0;
    }
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct town_client *c = ctx;

    if (strcmp(path, "/x") == 0 && type == WATCH_DATA_CHANGED)
        c->is_armed = false;
    if (strncmp(path, "/w", 2) == 0 && type == WATCH_DELETED)
        c->doomed_watches = 0;
    if (strncmp(path, "/c", 2) == 0 && type == WATCH_DATA_CHANGED)
        c->own_events++;
}

static void client_begin(struct town_client *c)
{
    struct world *w = &c->town->w;
    const struct client_options o = {
        .timeout_ms = c->timeout_ms,
        .seed = rng_next(&w->rng),
        .servers = TOWN_SERVERS_MAX,
        .first = (unsigned)world_below(w, c->town->servers_n),
        .on_event = on_event,
        .on_watch = on_watch,
        .ctx = c,
    };

    shell_init(&c->shell, c->town, c->host, client_new(&o));
    c->life++;
    world_at(w, w->now_us + world_below(w, c->think_us), think, c, c->life, 0);
    shell_turn(&c->shell);
}

void town_client_add(struct town *t)
{
    struct town_client *c = mem_new(struct town_client);
    char name[8];

    if (t->shared == NULL)
        t->shared = mem_new(struct town_shared);
    c->town = t;
    c->n = t->clients_n;
    t->clients[t->clients_n++] = c;
    snprintf(name, sizeof name, "c%u", c->n);
    c->host = world_add_host(&t->w, name, (int32_t)world_below(&t->w, 20001) - 10000);
    c->think_us =
        5000 + (uint32_t)world_below(&t->w, world_chance(&t->w, 300) ? 20000 : 300000);
    c->is_reader_for_good = c->n > 0 && world_chance(&t->w, 250);
    c->timeout_ms = 300 + (uint32_t)world_below(&t->w, 3000);
    client_begin(c);
}

/* The process is killed: its session lives on for a while, and nobody knows what became of
 * what was in flight. */
void town_client_kill(struct town *t, unsigned n)
{
    struct town_client *c = t->clients[n];

    world_note(&t->w, "client %u: kill -9", n);
    shell_stop(&c->shell);
    for (struct op *op = c->ops; op != NULL; op = op->next) {
        if (op->is_done)
            continue;
        op->is_done = true;
        if (op->type == OP_QUEUE)
            c->queue[op->value].fate = FATE_UNSURE;
        if (op->type == OP_LOG_SET)
            c->log[op->value].fate = FATE_UNSURE;
    }
    c->outstanding = 0;
    c->own_issued = c->own_acked = c->own_unsure = 0;
    c->own_version = 0;
    c->is_set_up = c->has_own = false;
    c->is_armed = c->is_logging = c->is_persistent = c->is_dooming = c->is_reader = false;
    c->own_events = c->doomed_watches = 0;
    c->persistent_session = c->sequence_session = 0;
    c->zxid_session = c->ephemeral_session = 0;
    client_begin(c);
}

/* ---- somebody who does not know a session's password ---- */

static void intruder_opened(void *ctx, struct link *l)
{
    struct town_client *c = ctx;
    struct buf b = {0};

    if (client_session(c->shell.client) == 0) { /* expired meanwhile */
        link_leave(l);
        return;
    }
    buf_add_be32(&b, 44);
    buf_add_be32(&b, 0); /* the protocol's version */
    buf_add_be64(&b, 0); /* the last zxid seen */
    buf_add_be32(&b, 30000);
    buf_add_be64(&b, (uint64_t)client_session(c->shell.client));
    buf_add_be32(&b, 16);
    for (unsigned i = 0; i < 16; i++)
        buf_add_u8(&b, (uint8_t)i);
    link_send(l, b.data, b.len);
    buf_free(&b);
}

static void intruder_received(void *ctx, struct link *l, const uint8_t *data, size_t len)
{
    struct town_client *c = ctx;

    if (len >= 20 && be64_get(data + 12) != 0)
        FAIL(c, "client %u: its session was taken over without its password", c->n);
    link_leave(l);
}

static void intruder_closed(void *ctx, struct link *l) { (void)ctx, (void)l; }

void town_client_intrude(struct town *t)
{
    struct town_client *c = t->clients[world_below(&t->w, t->clients_n)];
    struct link *l;

    if (client_session(c->shell.client) == 0)
        return;
    l = link_dial(t, c->host, (unsigned)world_below(&t->w, t->servers_n));
    l->ctx = c;
    l->opened = intruder_opened;
    l->received = intruder_received;
    l->closed = intruder_closed;
}

/* Called when a server has applied something: are the sessions there that must be? */
void town_client_sessions(struct town *t, struct server *s)
{
    const struct tree *tree = member_tree(s->member);
    uint64_t applied = raft_applied(member_raft(s->member));
    char path[48];
    const uint8_t *data;
    size_t len;

    for (unsigned i = 0; i < t->clients_n; i++) {
        struct town_client *c = t->clients[i];
        if (c->seen_n == 0 || c->shell.client == NULL)
            continue;
        struct session_seen *x = &c->seen[c->seen_n - 1];
        struct tree_session found;
        bool is_there = tree_session_get(tree, x->id, &found);
        if (is_there && applied < x->first_index)
            x->first_index = applied;
        snprintf(path, sizeof path, "/e/%u-%" PRIx64, c->n, (uint64_t)x->id);
        bool has_ephemeral = tree_get(tree, path, &data, &len);
        if (is_there && x->is_ephemeral_sure && applied >= x->ephemeral_zxid && !has_ephemeral)
            FAIL(c, "client %u: its ephemeral is gone, but not its session", c->n);
        if (!is_there && has_ephemeral)
            FAIL(c, "client %u: its session is gone, but not its ephemeral", c->n);
        if (is_there || applied < x->first_index || x->id != client_session(c->shell.client))
            continue;
        /* Where the clock has stood, nothing can know. */
        if (world_clock_stood(&t->w, c->host, client_timeout_ms(c->shell.client) * 1010ull)) {
            REACHED(sim_ends_early);
            continue;
        }
        /* The clocks of client and leader drift apart: what leases add a guard for. */
        uint64_t slack = client_timeout_ms(c->shell.client) * DRIFT_PERMILLE / 1000 + TICK_MS;
        if (client_alive_until(c->shell.client) > now_ms(c) + slack)
            FAIL(c, "client %u: its session has ended, %u ms before it may (server %u)", c->n,
                 (unsigned)(client_alive_until(c->shell.client) - now_ms(c)), s->n);
    }
}

/* ---- the end ---- */

/* Nothing new is asked; what is on its way comes in. A tree that was spoiled behind the last
 * write is compared with the others after the next one: so there has to be one. */
void town_client_quiet(struct town *t)
{
    bool any_spoiled = false;

    for (unsigned i = 0; i < t->servers_n; i++)
        any_spoiled = any_spoiled || t->servers[i].is_spoiled;
    if (any_spoiled) {
        ask_own_set(t->clients[0]);
        shell_turn(&t->clients[0]->shell);
    }
    town_walkers_quiet(t);
    for (unsigned i = 0; i < t->clients_n; i++)
        t->clients[i]->is_idle = true;
}

const char *town_client_not_live(struct town *t)
{
    static char text[100];
    const char *walkers = town_walkers_not_live(t);

    if (walkers != NULL)
        return walkers;
    for (unsigned i = 0; i < t->clients_n; i++) {
        const struct town_client *c = t->clients[i];
        const char *wrong = client_state(c->shell.client) != CLIENT_CONNECTED
                                ? "is not connected"
                            : !c->is_set_up                    ? "could do nothing"
                            : c->is_idle && c->outstanding > 0 ? "waits for an answer"
                                                               : NULL;
        if (wrong != NULL) {
            snprintf(text, sizeof text, "client %u %s", c->n, wrong);
            return text;
        }
    }
    return NULL;
}

static unsigned count_names(const struct client_reply *r, const char *prefix)
{
    unsigned n = 0;

    for (size_t i = 0; i < r->children_n; i++)
        n += strncmp(r->children[i], prefix, strlen(prefix)) == 0;
    return n;
}

static void end_queue(struct town *t, const struct client_reply *r)
{
    char prefix[48];

    for (unsigned i = 0; i < t->clients_n; i++)
        for (unsigned k = 0; k < t->clients[i]->queue_n; k++) {
            const struct thing *q = &t->clients[i]->queue[k];
            snprintf(prefix, sizeof prefix, "%u-%u-", i, k);
            unsigned n = count_names(r, prefix);
            if (n > 1)
                world_fail(&t->w, "client %u: its sequential znode %u is there twice", i, k);
            if (q->fate == FATE_THERE && count_names(r, q->name) != 1)
                world_fail(&t->w, "client %u: its acknowledged znode %s is lost", i, q->name);
            if (q->fate == FATE_NOT && n != 0)
                world_fail(&t->w, "client %u: its refused znode %u is there", i, k);
        }
}

static void end_log(struct town *t, const struct client_reply *r)
{
    for (unsigned i = 0; i < t->clients_n; i++) {
        uint32_t last = 0;
        for (unsigned k = 0; k < t->clients[i]->log_n; k++) {
            unsigned n = 0;
            for (int32_t at = 0; at + 4 <= r->len; at += 4)
                n += be32_get(r->data + at) == (i << 24 | k);
            enum fate fate = t->clients[i]->log[k].fate;
            if (n > 1 || (fate == FATE_THERE && n == 0) || (fate == FATE_NOT && n > 0))
                world_fail(&t->w, "client %u: its append %u is there %u times (fate %u)", i, k,
                           n, fate);
        }
        for (int32_t at = 0; at + 4 <= r->len; at += 4) {
            uint32_t item = be32_get(r->data + at);
            if (item >> 24 != i)
                continue;
            if (item < last)
                world_fail(&t->w, "client %u: its appends are not in their order", i);
            last = item;
        }
    }
}

static void end_ephemerals(struct town *t, const struct client_reply *r)
{
    char name[48];

    for (unsigned i = 0; i < t->clients_n; i++) {
        const struct town_client *c = t->clients[i];
        snprintf(name, sizeof name, "%u-%" PRIx64, i,
                 (uint64_t)client_session(c->shell.client));
        unsigned mine = 0;
        char prefix[8];
        snprintf(prefix, sizeof prefix, "%u-", i);
        for (size_t k = 0; k < r->children_n; k++)
            mine += strcmp(r->children[k], name) == 0;
        if (count_names(r, prefix) > mine)
            world_fail(&t->w, "client %u: an ephemeral has outlived its session", i);
        if (c->seen_n > 0 && c->seen[c->seen_n - 1].id == client_session(c->shell.client) &&
            c->seen[c->seen_n - 1].is_ephemeral_sure && mine != 1)
            world_fail(&t->w, "client %u: its ephemeral is lost", i);
    }
}

static void end_done(struct town_client *c, struct op *op, const struct client_reply *r)
{
    struct town *t = c->town;

    shared(c)->checks_left--;
    if (r->err != 0)
        FAIL(c, "the last look fails with %s", err_name(r->err));
    if (op->type == OP_END_QUEUE)
        end_queue(t, r);
    if (op->type == OP_END_LOG)
        end_log(t, r);
    if (op->type == OP_END_EPHEMERALS)
        end_ephemerals(t, r);
    if (op->type == OP_END_X) {
        shared(c)->end_version = r->stat.version;
        x_known(c, r->stat.version, number(r));
        if (r->stat.version < shared(c)->floor)
            FAIL(c, "at the end /x is at version %d, after %d", r->stat.version,
                 shared(c)->floor);
    }
    if (op->type == OP_END_OWN) {
        struct town_client *of = t->clients[op->value];
        uint64_t v = number(r);
        if (v < of->own_acked || v > of->own_issued || r->stat.version < of->own_version ||
            r->stat.version > of->own_version + (int32_t)of->own_unsure)
            FAIL(c,
                 "client %u: at the end its znode has %u, version %d; acknowledged was %u, %d",
                 of->n, (unsigned)v, r->stat.version, (unsigned)of->own_acked, of->own_version);
    }
}

/* All are quiet and connected: one of them looks at everything. */
void town_client_end(struct town *t)
{
    struct town_client *c = t->clients[0];
    struct client *k = c->shell.client;
    struct town_shared *sh = t->shared;
    char path[48];

    sh->checks_left = 4 + t->clients_n;
    client_sync(k, now_ms(c), "/", done, op_new(c, OP_X_SYNC, 0));
    client_children(k, now_ms(c), "/q", false, done,
                    op_noted(c, OP_END_QUEUE, 0, HISTORY_SYNC_CHILDREN, "/q", -1));
    client_children(k, now_ms(c), "/e", false, done, op_new(c, OP_END_EPHEMERALS, 0));
    client_get(k, now_ms(c), "/log", false, done,
               op_noted(c, OP_END_LOG, 0, HISTORY_SYNC_READ, "/log", -1));
    client_get(k, now_ms(c), "/x", false, done,
               op_noted(c, OP_END_X, 0, HISTORY_SYNC_READ, "/x", -1));
    for (unsigned i = 0; i < t->clients_n; i++) {
        if (!t->clients[i]->has_own) {
            sh->checks_left--;
            continue;
        }
        own_path(t->clients[i], path);
        client_get(k, now_ms(c), path, false, done,
                   op_noted(c, OP_END_OWN, i, HISTORY_SYNC_READ, path, -1));
    }
    shell_turn(&c->shell);
    uint64_t end_us = t->w.now_us + 5000000;
    while (sh->checks_left > 0 && t->w.now_us < end_us)
        world_run_until(&t->w, t->w.now_us + 50000);
    if (sh->checks_left > 0)
        world_fail(&t->w, "the last look is not answered");
    for (unsigned i = 0; i < t->clients_n; i++) {
        struct town_client *o = t->clients[i];
        if (o->is_armed && o->armed_session == client_session(o->shell.client) &&
            o->armed_version < sh->end_version)
            world_fail(&t->w, "client %u: its watch on version %d of /x was lost (now %d)", i,
                       o->armed_version, sh->end_version);
    }
    town_history_check(t);
}

void town_client_free(struct town *t)
{
    for (unsigned i = 0; i < t->clients_n; i++) {
        struct town_client *c = t->clients[i];
        client_free(c->shell.client);
        while (c->ops != NULL) {
            struct op *op = c->ops;
            c->ops = op->next;
            mem_free(op);
        }
        mem_free(c);
    }
    mem_free(t->shared);
    town_history_free(t);
}
