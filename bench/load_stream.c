/* SPDX-License-Identifier: Apache-2.0 */
/* load_stream.c -- each session has `window` requests of one kind, or two, in flight.
 *
 * A session has a znode of its own, whose value begins with the number of the sets before: so
 * each read is checked against what its own session wrote before it.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "load.h"

#define NUMBER 10u /* digits at the end of a created znode's path, as in sequential ones */
#define STAMP 8u   /* bytes of the number at the beginning of a value */
#define MULTI 10   /* sets in a multi */
#define BODY_AT                                                                   \
    12u /* of a frame: after length, xid, operation; the path's length comes next \
         */
#define PATH_AT (BODY_AT + 4u)

enum kind { CREATE, ESEQ, SET, GET, EXISTS, MULTI_SET, DELETE, KINDS };

/* Each `one_in`th request is of the second kind. */
static const struct op {
    const char *name;
    const char *shown, *then; /* how the lines call it; then: the deletes of what was made */
    enum kind kind, second;
    unsigned one_in;
} ops[] = {
    {"create", "create", NULL, CREATE, CREATE, 0},
    {"create+delete", "create", "delete", CREATE, CREATE, 0},
    {"eseq", "eseq", NULL, ESEQ, ESEQ, 0},
    {"eseq+delete", "eseq", "eseq-delete", ESEQ, ESEQ, 0},
    {"set", "set", NULL, SET, SET, 0},
    {"get", "get", NULL, GET, GET, 0},
    {"exists", "exists", NULL, EXISTS, EXISTS, 0},
    {"multi", "multi", NULL, MULTI_SET, MULTI_SET, 0},
    {"mix90", "mix90", NULL, GET, SET, 10},
    {"mix50", "mix50", NULL, GET, SET, 2},
};

struct asked {
    uint64_t at_ns;
    int32_t expected; /* the version, or the number of the path */
    enum kind kind;
};

struct worker { /* a session's */
    char path[LOAD_PATH_ROOM];
    size_t path_len;
    struct buf frames[KINDS];
    struct asked *asked; /* by xid */
    int32_t version;     /* sets asked for so far */
    int32_t multis;      /* likewise */
    int32_t next;        /* number of a znode to create */
    unsigned turn;
    int32_t *made; /* numbers of those there are */
    size_t made_n, made_cap, gone;
};

struct stream {
    struct load *load;
    const struct op *op;
    enum kind kind, second;
    struct worker *workers;
    uint32_t mask; /* of the ring `asked` */
};

static const struct op *op_of(const char *name)
{
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (strcmp(ops[i].name, name) == 0)
            return &ops[i];
    }
    return NULL;
}

bool stream_knows(const char *op) { return op_of(op) != NULL; }

/* ---- asking ---- */

static void put_number(uint8_t *end, int32_t number)
{
    for (unsigned i = 0; i < NUMBER; i++, number /= 10)
        *--end = (uint8_t)('0' + number % 10);
}

static void stamp(const struct stream *s, uint8_t *value, int32_t version)
{
    if (s->load->size >= STAMP)
        be64_put(value, (uint64_t)version);
}

/* Fills in what differs from request to request; returns what the reply will be held to. */
static int32_t put_changes(struct stream *s, struct worker *w, enum kind kind,
                           struct buf *frame)
{
    uint8_t *path_end = frame->data + PATH_AT + w->path_len + 1 + NUMBER;
    int32_t number;

    switch (kind) {
    case CREATE:
        number = w->next++;
        put_number(path_end, number);
        return number;
    case DELETE:
        number = w->made[w->gone++];
        put_number(path_end, number);
        return number;
    case SET:
        w->version++;
        stamp(s, frame->data + frame->len - 4 - s->load->size, w->version);
        return w->version;
    case MULTI_SET: return ++w->multis;
    case GET:
    case EXISTS: return w->version;
    case ESEQ:
    case KINDS: break;
    }
    return 0;
}

/* False: there is nothing left to delete. */
static bool ask(struct stream *s, struct link *l, uint64_t now_ns)
{
    struct worker *w = &s->workers[l->number];
    bool is_second = s->op->one_in > 0 && w->turn++ % s->op->one_in == 0;
    enum kind kind = is_second ? s->second : s->kind;

    if (kind == DELETE && w->gone == w->made_n)
        return false;
    int32_t expected = put_changes(s, w, kind, &w->frames[kind]);
    int32_t xid = link_ask(l, &w->frames[kind]);
    w->asked[(uint32_t)xid & s->mask] = (struct asked){now_ns, expected, kind};
    s->load->in_flight++;
    return true;
}

/* ---- checking ---- */

static void check_stat(const struct stream *s, const struct link *l,
                       const struct wire_stat *stat, int32_t version)
{
    if (stat->version != version || stat->data_len != (int32_t)s->load->size)
        load_die(&s->load->links, l, "version %d of %d bytes, expected is version %d of %zu",
                 (int)stat->version, (int)stat->data_len, (int)version, s->load->size);
}

static void check_data(const struct stream *s, const struct link *l,
                       const struct wire_bytes *data, int32_t version)
{
    const struct load *load = s->load;
    size_t skip = load->size >= STAMP ? STAMP : 0;

    if (data->len != (int32_t)load->size ||
        (skip > 0 && be64_get(data->data) != (uint64_t)version) ||
        memcmp(data->data + skip, load->data + skip, load->size - skip) != 0)
        load_die(&load->links, l, "other data than was written (%d bytes, expected are %zu)",
                 (int)data->len, load->size);
}

/* Returns the number at the end of the path. */
static int32_t check_path(const struct stream *s, const struct link *l,
                          const struct wire_bytes *path, const struct worker *w)
{
    int32_t number = 0;
    bool is_right = (size_t)path->len == w->path_len + 1 + NUMBER &&
                    memcmp(path->data, w->path, w->path_len) == 0 &&
                    path->data[w->path_len] == '-';

    for (size_t i = w->path_len + 1; is_right && i < (size_t)path->len; i++) {
        is_right = path->data[i] >= '0' && path->data[i] <= '9';
        number = number * 10 + (path->data[i] - '0');
    }
    if (!is_right)
        load_die(&s->load->links, l, "created is %.*s, expected was %s-N", (int)path->len,
                 (const char *)path->data, w->path);
    return number;
}

static void check_created(struct stream *s, struct link *l, struct wire_in *in,
                          const struct asked *a, struct worker *w)
{
    struct wire_path_response r;

    wire_path_response_decode(&r, in);
    if (in->err != 0)
        return;
    int32_t number = check_path(s, l, &r.path, w);
    if (a->kind == CREATE && number != a->expected)
        load_die(&s->load->links, l, "created is number %d, expected was %d", (int)number,
                 (int)a->expected);
    if (a->kind == ESEQ && w->made_n > 0 && number <= w->made[w->made_n - 1])
        load_die(&s->load->links, l, "sequence number %d after %d", (int)number,
                 (int)w->made[w->made_n - 1]);
    mem_grow(w->made, w->made_cap, w->made_n + 1);
    w->made[w->made_n++] = number;
}

static void check_multi(const struct stream *s, const struct link *l, struct wire_in *in,
                        int32_t version)
{
    struct wire_multi_header h;
    struct wire_stat_response r;

    for (int i = 0; i < MULTI; i++) {
        wire_multi_header_decode(&h, in);
        wire_stat_response_decode(&r, in);
        if (in->err != 0)
            return;
        if (h.op != WIRE_OP_SET_DATA || h.done)
            load_die(&s->load->links, l, "part %d of a multi is of operation %d, error %d", i,
                     (int)h.op, (int)h.err);
        check_stat(s, l, &r.stat, version);
    }
    wire_multi_header_decode(&h, in);
    if (in->err == 0 && !h.done)
        load_die(&s->load->links, l, "a multi of %d has more than %d answers", MULTI, MULTI);
}

static void check(struct stream *s, struct link *l, struct wire_in *in, const struct asked *a)
{
    struct worker *w = &s->workers[l->number];
    struct wire_data_response data;
    struct wire_stat_response stat;

    switch (a->kind) {
    case CREATE:
    case ESEQ: check_created(s, l, in, a, w); break;
    case GET:
        if (wire_data_response_decode(&data, in) == 0) {
            check_stat(s, l, &data.stat, a->expected);
            check_data(s, l, &data.data, a->expected);
        }
        break;
    case SET:
    case EXISTS:
        if (wire_stat_response_decode(&stat, in) == 0)
            check_stat(s, l, &stat.stat, a->expected);
        break;
    case MULTI_SET: check_multi(s, l, in, a->expected); break;
    case DELETE:
    case KINDS: break;
    }
    if (in->err != 0 || in->at != in->end)
        load_die(&s->load->links, l, "the reply to request %d cannot be read, or is too long",
                 (int)l->answered);
}

static void take(void *ctx, struct link *l, const uint8_t *frame, size_t len, uint64_t now_ns)
{
    struct stream *s = ctx;
    struct wire_in in = wire_in(frame, len);
    struct wire_reply_header h = link_reply(&s->load->links, l, &in, 0);
    const struct asked a = s->workers[l->number].asked[(uint32_t)h.xid & s->mask];

    check(s, l, &in, &a);
    meter_count(&s->load->meter, a.at_ns, now_ns);
    s->load->in_flight--;
    if (!meter_is_over(&s->load->meter))
        ask(s, l, now_ns);
}

/* ---- the run ---- */

static void part_path(const struct worker *w, int i, char *out)
{
    snprintf(out, LOAD_PATH_ROOM, "%.64s-m%d", w->path, i);
}

static void open_worker(struct stream *s, unsigned i)
{
    struct load *load = s->load;
    struct worker *w = &s->workers[i];
    struct link *l = &load->links.all[i];
    char numbered[LOAD_PATH_ROOM + NUMBER + 2], parts[MULTI][LOAD_PATH_ROOM];
    const char *paths[MULTI];
    struct buf node = {0};

    w->turn = i;
    w->asked = mem_new_array(struct asked, s->mask + 1);
    w->path_len = (size_t)snprintf(w->path, sizeof w->path, "/%s/s%u", load->name, i);
    frame_create(&node, w->path, load->data, load->size, WIRE_PERSISTENT);
    load_ask(load, l, &node);
    for (int k = 0; k < MULTI; k++) {
        part_path(w, k, parts[k]);
        paths[k] = parts[k];
        buf_clear(&node);
        frame_create(&node, parts[k], load->data, load->size, WIRE_PERSISTENT);
        if (s->kind == MULTI_SET)
            load_ask(load, l, &node);
    }
    buf_free(&node);
    snprintf(numbered, sizeof numbered, "%s-%010d", w->path, 0);
    frame_create(&w->frames[CREATE], numbered, load->data, load->size, WIRE_PERSISTENT);
    frame_delete(&w->frames[DELETE], numbered);
    numbered[w->path_len + 1] = 0;
    frame_create(&w->frames[ESEQ], numbered, load->data, load->size, WIRE_EPHEMERAL_SEQUENTIAL);
    frame_set(&w->frames[SET], w->path, load->data, load->size);
    frame_read(&w->frames[GET], WIRE_OP_GET_DATA, w->path, false);
    frame_read(&w->frames[EXISTS], WIRE_OP_EXISTS, w->path, false);
    frame_multi_sets(&w->frames[MULTI_SET], paths, MULTI, load->data, load->size);
}

static void fill(struct stream *s)
{
    struct load *load = s->load;
    uint64_t now = meter_now_ns();

    load->links.take = take;
    load->links.ctx = s;
    for (unsigned i = 0; i < load->sessions; i++) {
        for (unsigned k = 0; k < load->window && ask(s, &load->links.all[i], now); k++)
            ;
        links_send(&load->links, &load->links.all[i]);
    }
}

/* What the run has created, with as many in flight as it had. */
static void delete_made(struct stream *s)
{
    struct load *load = s->load;
    uint64_t made = 0;

    for (unsigned i = 0; i < load->sessions; i++)
        made += s->workers[i].made_n;
    if (made == 0)
        return;
    meter_begin(&load->meter, 0, 1e6, made, &load->servers);
    s->kind = DELETE;
    fill(s);
    load_run(load);
    if (s->op->then != NULL)
        load_print(load, s->op->then);
}

static void close_workers(struct stream *s, bool deletes)
{
    struct load *load = s->load;
    struct buf frame = {0};
    char part[LOAD_PATH_ROOM];

    for (unsigned i = 0; i < load->sessions; i++) {
        struct worker *w = &s->workers[i];
        for (int k = 0; k < MULTI && s->op->kind == MULTI_SET && deletes; k++) {
            part_path(w, k, part);
            buf_clear(&frame);
            frame_delete(&frame, part);
            load_ask(load, &load->links.all[i], &frame);
        }
        buf_clear(&frame);
        frame_delete(&frame, w->path);
        if (deletes)
            load_ask(load, &load->links.all[i], &frame);
        for (int k = 0; k < KINDS; k++)
            buf_free(&w->frames[k]);
        mem_free(w->asked);
        mem_free(w->made);
    }
    buf_free(&frame);
    load_settle(load);
}

void stream_run(struct load *load)
{
    const struct op *op = op_of(load->op);
    struct stream s = {
        .load = load, .op = op, .kind = op->kind, .second = op->second, .mask = 1};

    while (s.mask < load->window)
        s.mask = s.mask * 2 + 1;
    s.workers = mem_new_array(struct worker, load->sessions);
    for (unsigned i = 0; i < load->sessions; i++)
        open_worker(&s, i);
    load_settle(load);
    bool creates = op->kind == CREATE || op->kind == ESEQ;
    load_meter(load, load->requests > 0 || !creates ? load->requests : LOAD_NODES_MAX);
    fill(&s);
    load_run(load);
    load_print(load, op->shown);
    if (!load->keeps)
        delete_made(&s);
    close_workers(&s, !load->keeps);
    mem_free(s.workers);
}
