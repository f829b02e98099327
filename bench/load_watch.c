/* SPDX-License-Identifier: Apache-2.0 */
/* load_watch.c -- many sessions watch one znode; one more sets it, again when all were told.
 *
 * watch: the watches are getData's, and each is set anew after its event; the data that comes
 * with that must be what the event was about. pwatch: persistent ones (addWatch), set once. A
 * latency is from the set to the event.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "load.h"
#include "tree/watch.h"

struct fan {
    struct load *load;
    struct link *writer;
    bool is_persistent;
    char path[LOAD_PATH_ROOM];
    struct buf set, get;
    int32_t round;     /* sets so far */
    int32_t *told;     /* by link: the round of its last event */
    uint64_t begun_ns; /* the round */
};

static void begin_round(struct fan *f, uint64_t now_ns)
{
    f->round++;
    f->begun_ns = now_ns;
    link_ask(f->writer, &f->set);
    f->load->in_flight += f->load->sessions + 1; /* the events, and the reply */
    links_send(&f->load->links, f->writer);
}

static void take_event(struct fan *f, struct link *l, const uint8_t *frame, size_t len,
                       uint64_t now_ns)
{
    struct load *load = f->load;

    link_event(&load->links, l, frame, len, WATCH_DATA_CHANGED,
               wire_bytes(f->path, strlen(f->path)));
    if (l == f->writer || f->told[l->number] == f->round)
        load_die(&load->links, l, "an event too many after set %d", (int)f->round);
    f->told[l->number] = f->round;
    load->in_flight--;
    meter_count(&load->meter, f->begun_ns, now_ns);
    if (!f->is_persistent) {
        link_ask(l, &f->get);
        load->in_flight++;
    }
}

static void take_reply(struct fan *f, struct link *l, const uint8_t *frame, size_t len)
{
    struct load *load = f->load;
    struct wire_in in = wire_in(frame, len);
    struct wire_data_response data = {0};
    struct wire_stat_response set = {0};

    link_reply(&load->links, l, &in, 0);
    if (l == f->writer)
        wire_stat_response_decode(&set, &in);
    else
        wire_data_response_decode(&data, &in);
    int32_t version = l == f->writer ? set.stat.version : data.stat.version;
    if (in.err != 0 || version != f->round)
        load_die(&load->links, l, "version %d, expected is %d", (int)version, (int)f->round);
    load->in_flight--;
}

static void take(void *ctx, struct link *l, const uint8_t *frame, size_t len, uint64_t now_ns)
{
    struct fan *f = ctx;

    if (link_is_event(frame, len))
        take_event(f, l, frame, len, now_ns);
    else
        take_reply(f, l, frame, len);
    if (f->load->in_flight == 0 && !meter_is_over(&f->load->meter))
        begin_round(f, now_ns);
}

/* Who sets a watch on another server than the znode was made on syncs first. */
static void set_watches(struct fan *f)
{
    struct load *load = f->load;
    struct buf sync = {0}, watch = {0};

    frame_path(&sync, WIRE_OP_SYNC, f->path);
    if (f->is_persistent)
        frame_add_watch(&watch, f->path, WIRE_WATCH_PERSISTENT);
    for (unsigned i = 0; i < load->sessions; i++) {
        load_ask(load, &load->links.all[i], &sync);
        load_ask(load, &load->links.all[i], f->is_persistent ? &watch : &f->get);
    }
    load_settle(load);
    buf_free(&sync);
    buf_free(&watch);
}

void watch_run(struct load *load)
{
    struct fan f = {.load = load, .is_persistent = strcmp(load->op, "pwatch") == 0};
    struct buf frame = {0};

    f.writer = &load->links.all[load->sessions]; /* the last one */
    f.told = mem_new_array(int32_t, load->sessions + 1);
    snprintf(f.path, sizeof f.path, "/%s/w", load->name);
    frame_create(&frame, f.path, load->data, load->size, WIRE_PERSISTENT);
    load_ask(load, f.writer, &frame);
    load_settle(load);
    frame_set(&f.set, f.path, load->data, load->size);
    frame_read(&f.get, WIRE_OP_GET_DATA, f.path, true);
    set_watches(&f);
    load_meter(load, load->requests);
    load->links.take = take;
    load->links.ctx = &f;
    begin_round(&f, meter_now_ns());
    load_run(load);
    load_print(load, load->op);
    buf_clear(&frame);
    frame_delete(&frame, f.path);
    load_ask(load, f.writer, &frame);
    load_settle(load);
    buf_free(&frame);
    buf_free(&f.set);
    buf_free(&f.get);
    mem_free(f.told);
}
