/* SPDX-License-Identifier: Apache-2.0 */
/* load_connect.c -- sessions that are opened and closed again, so many at a time. A latency is
 * from connecting to the server's telling the session's number. */
#include "load.h"

struct opening {
    struct load *load;
    struct buf close;
};

static void opened(void *ctx, struct link *l, uint64_t now_ns)
{
    struct opening *o = ctx;

    meter_count(&o->load->meter, l->opened_ns, now_ns);
    link_ask(l, &o->close);
}

static void take(void *ctx, struct link *l, const uint8_t *frame, size_t len, uint64_t now_ns)
{
    struct opening *o = ctx;
    struct wire_in in = wire_in(frame, len);

    (void)now_ns;
    link_reply(&o->load->links, l, &in, 0);
    links_close(&o->load->links, l);
    if (meter_is_over(&o->load->meter))
        o->load->in_flight--;
    else
        links_open(&o->load->links, l);
}

void connect_run(struct load *load)
{
    struct opening o = {.load = load};

    frame_close(&o.close);
    load->links.take = take;
    load->links.opened = opened;
    load->links.ctx = &o;
    load_meter(load, load->requests);
    load->in_flight = load->sessions;
    for (unsigned i = 0; i < load->sessions; i++)
        links_open(&load->links, &load->links.all[i]);
    load_run(load);
    load_print(load, load->op);
    buf_free(&o.close);
}
