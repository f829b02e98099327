/* SPDX-License-Identifier: Apache-2.0 */
#include "server/founding.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "host/clock.h"
#include "server/transport.h"

#define SAY_AGAIN_MS 10000 /* that it waits, and for whom */

struct talk {
    const struct founding_options *options;
    struct founding core;
    struct transport *transport;
    uv_timer_t timer;
    uint64_t say_ms;
    struct epoch epoch; /* the newest that was shown */
    enum found_verdict verdict;
};

static void say(struct talk *t, uint64_t to, bool is_question)
{
    const struct raft_members *all = &t->core.config;
    struct found_message m = {.is_question = is_question, .config = found_config(all)};
    struct buf b = {0};

    for (unsigned i = 0; i < all->n; i++)
        if (all->v[i].id == t->core.self)
            m.from = all->v[i];
    found_message_encode(&m, &b);
    transport_send(t->transport, to, CHANNEL_FOUND, b.data, b.len);
    buf_free(&b);
}

static void received(void *ctx, uint64_t from, enum transport_channel channel,
                     const uint8_t *data, size_t len)
{
    struct talk *t = ctx;
    struct found_message m;
    char id[32];

    if (channel != CHANNEL_FOUND || found_message_decode(&m, data, len) != 0 ||
        m.from.id != from)
        return; /* a leader that knows us already: it will say it again */
    founding_heard(&t->core, &m, clock_now_ms());
    if (t->core.differs != 0 && clock_now_ms() >= t->say_ms) {
        t->say_ms = clock_now_ms() + SAY_AGAIN_MS;
        snprintf(id, sizeof id, "%" PRIu64, t->core.differs);
        log_event(LOG_WARNING, "ensemble_differs", LOG_S("server", id),
                  LOG_S("why", "it is new as well, but its zoo.cfg has other server lines: all "
                               "must begin with the same"));
    }
    if (m.is_question) {
        transport_guest(t->transport, &m.from);
        say(t, from, false);
        transport_flush(t->transport);
    }
}

static void no_join(void *ctx, uint64_t ticket, const struct raft_member *joiner)
{
    struct talk *t = ctx;

    (void)joiner;
    transport_join_answer(t->transport, ticket, ERR_REFUSED, NULL);
}

/* Who has a newer epoch has data; and we have none that could be of an older one. */
static void newer_epoch(void *ctx, const struct epoch *newer)
{
    struct talk *t = ctx;

    if (newer->number > t->epoch.number)
        t->epoch = *newer;
    t->core.has_data = true;
}

static void say_that_it_waits(struct talk *t, uint64_t now_ms)
{
    unsigned reached = 0;

    if (now_ms < t->say_ms)
        return;
    for (unsigned i = 0; i < t->core.config.n; i++)
        reached += transport_is_connected(t->transport, t->core.config.v[i].id);
    if (t->say_ms != 0)
        log_event(LOG_NOTICE, "ensemble_waits", LOG_U("servers", t->core.config.n),
                  LOG_U("connected", reached),
                  LOG_S("why",
                        "this server is new; it begins with a majority, or with what the "
                        "others have"));
    t->say_ms = now_ms + (t->say_ms != 0 ? SAY_AGAIN_MS : SAY_AGAIN_MS / 5);
}

static void tick(uv_timer_t *timer)
{
    struct talk *t = timer->data;
    uint64_t now_ms = clock_now_ms();

    t->verdict = founding_verdict(&t->core, now_ms);
    for (unsigned i = 0; i < t->core.config.n; i++)
        if (t->core.config.v[i].id != t->core.self)
            say(t, t->core.config.v[i].id, t->verdict == FOUND_WAIT);
    transport_flush(t->transport);
    say_that_it_waits(t, now_ms);
    if (t->verdict == FOUND_WAIT)
        return;
    transport_stop(t->transport);
    uv_close((uv_handle_t *)&t->timer, NULL);
}

int founding_run(uv_loop_t *loop, const struct founding_options *options,
                 enum found_verdict *out, struct epoch *epoch, struct buf *why)
{
    struct talk t = {.options = options};
    const struct transport_options to = {options->self, options->listen_address,
                                         options->port, &t,
                                         received,      no_join,
                                         newer_epoch,   NULL,
                                         NULL};

    int err = transport_start(&t.transport, loop, &to, why);
    if (err != 0)
        return err;
    founding_begin(&t.core, options->self->id, &options->self->peers, clock_now_ms());
    transport_set_peers(t.transport, &options->self->peers);
    CHECK(uv_timer_init(loop, &t.timer) == 0);
    t.timer.data = &t;
    uv_timer_start(&t.timer, tick, FOUND_ASK_MS / 4, FOUND_ASK_MS / 4);
    uv_run(loop, UV_RUN_DEFAULT);
    *out = t.verdict;
    *epoch = t.epoch;
    return 0;
}
