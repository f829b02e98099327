/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of clients to servers: TCP as far as it matters here. */
#include "base/check.h"
#include "base/mem.h"
#include "server/member_stats.h"
#include "town.h"
#include "tree/watch.h"

enum { REFUSED_US = 2000, FRAME_MAX = MEMBER_FRAME_MAX };

static bool server_is_there(const struct link *l)
{
    return l->server->member != NULL && l->life == l->server->box.life;
}

/* ---- the server's end ---- */

static void to_server(void *ctx, const uint8_t *data, size_t len)
{
    struct link *l = ctx;

    if (!server_is_there(l) || !l->server_knows)
        return;
    struct member *m = l->server->member;
    member_time(m, server_now_ms(l->server), world_host_wall_ms(&l->town->w, l->server->host));
    if (data == NULL) {
        l->server_knows = false;
        member_client_closed(m, l->conn);
        server_turn(l->server);
        return;
    }
    buf_add(&l->in, data, len);
    while (l->in.len >= 4 && l->server_knows) {
        uint32_t n = be32_get(l->in.data);
        if (n > FRAME_MAX)
            world_fail(&l->town->w, "a client sends a frame of %u bytes", n);
        if (l->in.len - 4 < n)
            break;
        member_client_frame(m, l->conn, l->in.data + 4, n);
        buf_consume(&l->in, 4 + (size_t)n);
    }
    server_turn(l->server);
}

/* ---- the client's end ---- */

static void to_client(void *ctx, const uint8_t *data, size_t len)
{
    struct link *l = ctx;

    if (l->is_gone)
        return;
    if (data == NULL) {
        l->is_gone = true;
        l->closed(l->ctx, l);
    } else {
        l->received(l->ctx, l, data, len);
    }
}

static void refused_due(void *ctx, uint64_t a, uint64_t b)
{
    struct link *l = ctx;

    (void)a, (void)b;
    if (l->is_gone)
        return;
    l->is_gone = true;
    l->closed(l->ctx, l);
}

static void open_due(void *ctx, uint64_t a, uint64_t b)
{
    struct link *l = ctx;
    struct world *w = &l->town->w;

    (void)a, (void)b;
    if (l->is_gone)
        return;
    if (world_is_frozen(w, l->host)) {
        world_at(w, w->hosts[l->host].frozen_until_us, open_due, l, 0, 0);
        return;
    }
    l->is_open = true;
    l->opened(l->ctx, l);
}

/* The question for a connection arrives. A kernel accepts also for a frozen process. */
static void accept_due(void *ctx, uint64_t tries, uint64_t b)
{
    struct link *l = ctx;
    struct world *w = &l->town->w;
    struct server *s = l->server;

    (void)b;
    if (l->is_gone)
        return;
    if (!world_reaches(w, l->host, s->host) || !world_reaches(w, s->host, l->host) ||
        l->town->is_blind[l->host]) {
        if (tries < 4) /* asked again, as TCP does */
            world_at(w, w->now_us + (200000u << tries), accept_due, l, tries + 1, 0);
        return;
    }
    if (world_is_frozen(w, s->host) && s->member != NULL) {
        world_at(w, w->hosts[s->host].frozen_until_us, accept_due, l, tries, 0);
        return;
    }
    if (s->member == NULL) {
        if (s->exists) /* a machine without power says nothing; one without process does */
            world_at(w, w->now_us + REFUSED_US, refused_due, l, 0, 0);
        return;
    }
    l->life = s->box.life;
    l->conn = ++s->conns;
    l->server_knows = true;
    member_time(s->member, server_now_ms(s), world_host_wall_ms(w, s->host));
    member_client_opened(s->member, l->conn, "10.0.0.1:1");
    world_at(w, w->now_us + world_delay_us(w), open_due, l, 0, 0);
    server_turn(s);
}

struct link *link_dial(struct town *t, unsigned host, unsigned server)
{
    struct link *l = mem_new(struct link);
    struct world *w = &t->w;

    CHECK(server < TOWN_SERVERS_MAX);
    l->next = t->links;
    t->links = l;
    t->connections_total++;
    l->town = t;
    l->host = host;
    l->server = &t->servers[server];
    if (server >= t->servers_n) { /* not there yet */
        world_at(w, w->now_us + REFUSED_US, refused_due, l, 0, 0);
        return l;
    }
    pipe_init(&l->up, w, host, l->server->host, to_server, l);
    pipe_init(&l->down, w, l->server->host, host, to_client, l);
    l->up.cut = l->down.cut = &t->is_blind[host];
    world_at(w, w->now_us + world_delay_us(w), accept_due, l, 0, 0);
    return l;
}

void link_send(struct link *l, const uint8_t *data, size_t len)
{
    CHECK(l->is_open && !l->is_gone);
    if (!l->is_dead)
        pipe_send(&l->up, data, len);
}

void link_reply(struct link *l, const uint8_t *data, size_t len)
{
    if (l->is_gone || l->is_dead)
        return;
    if (data != NULL)
        pipe_send(&l->down, data, len);
    else
        pipe_end(&l->down);
}

void link_leave(struct link *l)
{
    l->is_gone = true;
    if (l->up.w == NULL)
        return;
    pipe_break(&l->down);
    if (!l->is_dead)
        pipe_end(&l->up);
}

void link_break(struct link *l, bool told)
{
    if (l->up.w == NULL || l->is_dead)
        return;
    l->is_dead = true;
    pipe_break(&l->up);
    pipe_break(&l->down);
    if (told) {
        if (!l->is_gone)
            pipe_end(&l->down);
        if (server_is_there(l) && l->server_knows)
            pipe_end(&l->up);
    }
}

struct link *link_of(struct server *s, uint64_t conn)
{
    for (struct link *l = s->town->links; l != NULL; l = l->next)
        if (l->server == s && l->life == s->box.life && l->conn == conn)
            return l;
    return NULL;
}

/* The server's process is gone: its kernel resets what is open, unless that is gone too. */
void links_of_server_end(struct server *s, bool told)
{
    for (struct link *l = s->town->links; l != NULL; l = l->next) {
        if (l->server != s || l->conn == 0 || l->life != s->box.life)
            continue;
        l->server_knows = false;
        l->is_dead = true;
        pipe_break(&l->up);
        if (!l->is_gone && told)
            pipe_end(&l->down);
        else
            pipe_break(&l->down);
    }
}

void links_of_host_end(struct town *t, unsigned host)
{
    for (struct link *l = t->links; l != NULL; l = l->next)
        if (l->host == host && !l->is_gone)
            link_leave(l);
}

void links_check_watches(struct server *s)
{
    const struct watches *all = member_watches_raw(s->member);
    uint64_t theirs = 0;

    for (struct link *l = s->town->links; l != NULL; l = l->next)
        if (l->server == s && l->life == s->box.life && l->server_knows)
            theirs += watches_count_of(all, l->conn);
    if (watches_count(all) != theirs)
        world_fail(&s->town->w, "server %u has %u watches, its connections %u", s->n,
                   (unsigned)watches_count(all), (unsigned)theirs);
}

void links_free(struct town *t)
{
    while (t->links != NULL) {
        struct link *l = t->links;
        t->links = l->next;
        pipe_break(&l->up);
        pipe_break(&l->down);
        buf_free(&l->in);
        mem_free(l);
    }
}

/* ---- a client core's shell ---- */

uint64_t shell_now_ms(const struct shell *h) { return world_host_ms(&h->town->w, h->host); }

static void begin(struct shell *h)
{
    if (h->before != NULL)
        h->before(h->ctx);
}

static void shell_opened(void *ctx, struct link *l)
{
    struct shell *h = ctx;

    if (h->link != l)
        return;
    begin(h);
    client_opened(h->client, shell_now_ms(h));
    shell_turn(h);
}

static void shell_received(void *ctx, struct link *l, const uint8_t *data, size_t len)
{
    struct shell *h = ctx;

    if (h->link != l)
        return;
    begin(h);
    client_received(h->client, shell_now_ms(h), data, len);
    shell_turn(h);
}

static void shell_closed(void *ctx, struct link *l)
{
    struct shell *h = ctx;

    if (h->link != l)
        return;
    h->link = NULL;
    begin(h);
    client_closed(h->client, shell_now_ms(h));
    shell_turn(h);
}

static void shell_timer(void *ctx, uint64_t life, uint64_t due_us)
{
    struct shell *h = ctx;
    struct world *w = &h->town->w;

    if (h->client == NULL || life != h->life || due_us != h->timer_us)
        return;
    if (world_is_frozen(w, h->host)) {
        h->timer_us = w->hosts[h->host].frozen_until_us + world_below(w, 20000);
        world_at(w, h->timer_us, shell_timer, h, life, h->timer_us);
        return;
    }
    h->timer_us = WORLD_NEVER;
    begin(h);
    client_time(h->client, shell_now_ms(h));
    shell_turn(h);
}

static bool carry_out(struct shell *h)
{
    unsigned server;

    switch (client_wants(h->client, shell_now_ms(h), &server)) {
    case CLIENT_WANT_CONNECTION:
        CHECK(h->link == NULL);
        h->link = link_dial(h->town, h->host, server);
        h->link->ctx = h;
        h->link->opened = shell_opened;
        h->link->received = shell_received;
        h->link->closed = shell_closed;
        return true;
    case CLIENT_WANT_CLOSE:
        if (h->link != NULL)
            link_leave(h->link);
        h->link = NULL;
        return true;
    case CLIENT_WANT_NOTHING: break;
    }
    struct buf *out = client_output(h->client);
    if (h->link != NULL && h->link->is_open && out->len > 0) {
        link_send(h->link, out->data, out->len);
        buf_clear(out);
    }
    return false;
}

void shell_turn(struct shell *h)
{
    struct world *w = &h->town->w;

    if (h->is_turning)
        return;
    h->is_turning = true;
    begin(h);
    do {
        if (h->after != NULL)
            h->after(h->ctx);
    } while (carry_out(h));
    h->is_turning = false;
    if (h->client == NULL)
        return;
    uint64_t due_us = world_host_due(w, h->host, client_deadline(h->client));
    if (due_us < h->timer_us) {
        h->timer_us = due_us;
        world_at(w, due_us, shell_timer, h, h->life, due_us);
    }
}

void shell_init(struct shell *h, struct town *t, unsigned host, struct client *c)
{
    uint64_t life = h->life + 1;

    *h = (struct shell){
        .town = t, .host = host, .client = c, .life = life, .timer_us = WORLD_NEVER};
}

void shell_stop(struct shell *h)
{
    if (h->link != NULL)
        link_leave(h->link);
    h->link = NULL;
    client_free(h->client);
    h->client = NULL;
    h->life++;
}
