/* SPDX-License-Identifier: Apache-2.0 */
/* The operator: now and then somebody connects to any server, proves to be super and asks for
 * other servers. What he is told must be so; what he is not told may be either way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "server/member_ensemble.h"
#include "town.h"
#include "wire/wire.h"

enum { TIMEOUT_MS = 1000, XID = 1 };

struct errand {
    struct errand *next;
    struct town *town;
    char joining[200], leaving[16]; /* "": none */
    struct buf in;
    bool is_open; /* has a session */
};

static void send_record(struct link *l, int32_t xid, int32_t op, const struct buf *body)
{
    const struct wire_request_header h = {xid, op};
    struct buf b = {0};
    size_t at = wire_frame_begin(&b);

    wire_request_header_encode(&h, &b);
    buf_add(&b, body->data, body->len);
    wire_frame_end(&b, at);
    link_send(l, b.data, b.len);
    buf_free(&b);
}

static void opened(void *ctx, struct link *l)
{
    static const uint8_t none[TREE_PASSWORD_LEN];
    const struct wire_connect_request q = {.timeout_ms = TIMEOUT_MS,
                                           .password = wire_bytes(none, sizeof none)};
    struct buf b = {0};
    size_t at = wire_frame_begin(&b);

    (void)ctx;
    wire_connect_request_encode(&q, &b);
    wire_frame_end(&b, at);
    link_send(l, b.data, b.len);
    buf_free(&b);
}

static struct wire_bytes text_or_null(const char *text)
{
    return text[0] != 0 ? wire_bytes(text, strlen(text)) : (struct wire_bytes){NULL, -1};
}

static void ask(struct errand *o, struct link *l)
{
    const struct wire_auth_request auth = {0, wire_bytes("digest", 6),
                                           wire_bytes(TOWN_SUPER, strlen(TOWN_SUPER))};
    const struct wire_reconfig_request q = {.joining = text_or_null(o->joining),
                                            .leaving = text_or_null(o->leaving),
                                            .members = {NULL, -1},
                                            .version = -1};
    struct buf b = {0};

    wire_auth_request_encode(&auth, &b);
    send_record(l, WIRE_XID_AUTH, WIRE_OP_AUTH, &b);
    buf_clear(&b);
    wire_reconfig_request_encode(&q, &b);
    send_record(l, XID, WIRE_OP_RECONFIG, &b);
    buf_free(&b);
}

static void look_at(struct errand *o, struct wire_in *in)
{
    struct wire_data_response r;
    struct buf text = {0};

    if (wire_data_response_decode(&r, in) != 0)
        world_fail(&o->town->w, "operator: the answer is no record");
    buf_add(&text, r.data.data, (size_t)r.data.len);
    if (o->joining[0] != 0 && strstr(buf_text(&text), o->joining) == NULL)
        world_fail(&o->town->w, "operator: %s is not in the answer: %s", o->joining,
                   buf_text(&text));
    char key[32];
    snprintf(key, sizeof key, "server.%s=", o->leaving);
    if (o->leaving[0] != 0 && strstr(buf_text(&text), key) != NULL)
        world_fail(&o->town->w, "operator: %s is still in the answer", key);
    if (r.stat.version != -1 || r.stat.data_len != r.data.len)
        world_fail(&o->town->w, "operator: the answer's Stat is wrong");
    world_note(&o->town->w, "operator: done, %s", buf_text(&text));
    buf_free(&text);
}

static void answered(struct errand *o, struct link *l, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);
    struct wire_reply_header h;

    if (!o->is_open) {
        struct wire_connect_response r;
        if (wire_connect_response_decode(&r, &in) != 0 || r.session_id == 0) {
            link_leave(l);
            return;
        }
        o->is_open = true;
        ask(o, l);
        return;
    }
    if (wire_reply_header_decode(&h, &in) != 0)
        world_fail(&o->town->w, "operator: the answer has no header");
    if (h.xid != XID)
        return;
    if (h.err == 0)
        look_at(o, &in);
    else if (h.err != ERR_NEW_CONFIG_NO_QUORUM && h.err != ERR_RECONFIG_IN_PROGRESS &&
             h.err != ERR_BAD_ARGUMENTS && h.err != ERR_UNIMPLEMENTED)
        world_fail(&o->town->w, "operator: error %d", h.err);
    else
        world_note(&o->town->w, "operator: %s", err_text(h.err));
    link_leave(l);
}

static void received(void *ctx, struct link *l, const uint8_t *data, size_t len)
{
    struct errand *o = ctx;

    buf_add(&o->in, data, len);
    while (!l->is_gone && o->in.len >= 4 && o->in.len >= 4 + (size_t)be32_get(o->in.data)) {
        size_t n = be32_get(o->in.data);
        answered(o, l, o->in.data + 4, n);
        buf_consume(&o->in, 4 + n);
    }
}

static void closed(void *ctx, struct link *l) { (void)ctx, (void)l; }

static void add_server(struct town *t, struct errand *o)
{
    char name[8];

    snprintf(name, sizeof name, "s%u", t->servers_n);
    server_add(t, name);
    struct server *s = &t->servers[t->servers_n - 1];
    s->birth = 1 + (rng_next(&t->w.rng) >> 3);
    server_start(s);
    snprintf(o->joining, sizeof o->joining, "server.%u=10.0.0.%u:2182:2183:%s;10.0.0.%u:2181",
             t->servers_n, t->servers_n, world_chance(&t->w, 300) ? "observer" : "participant",
             t->servers_n);
}

void town_operator_reconfig(struct town *t)
{
    struct world *w = &t->w;

    if (t->loses_disks)
        return;
    t->loses_members = true;
    struct errand *o = mem_new(struct errand);
    unsigned n = 1 + (unsigned)world_below(w, t->servers_n);

    o->town = t;
    o->next = t->errands;
    t->errands = o;
    if (t->servers_n < TOWN_SERVERS_MAX && world_chance(w, 400))
        add_server(t, o);
    else if (world_chance(w, 600)) /* whatever it is now */
        snprintf(o->joining, sizeof o->joining,
                 "server.%u=10.0.0.%u:2182:2183:%s;10.0.0.%u:2181", n, n,
                 world_chance(w, 300) ? "observer" : "participant", n);
    if (o->joining[0] == 0 || world_chance(w, 300))
        snprintf(o->leaving, sizeof o->leaving, "%u",
                 1 + (unsigned)world_below(w, t->servers_n));
    if (o->joining[0] != 0 && atoi(o->joining + strlen("server.")) == atoi(o->leaving))
        o->leaving[0] = 0; /* both at once: it would stay */
    world_note(w, "operator: +%s -%s", o->joining, o->leaving);
    struct link *l = link_dial(t, t->clients_n > 0 ? w->hosts_n - 1 : 0,
                               (unsigned)world_below(w, t->servers_n));
    l->ctx = o;
    l->opened = opened;
    l->received = received;
    l->closed = closed;
}

const char *town_operator_not_live(struct town *t)
{
    const struct server *leader = server_leader(t);
    const struct raft_members *m = raft_members(member_raft(leader->member));
    struct buf text = {0};
    const uint8_t *data;
    const char *unused;
    size_t len;
    const char *wrong = NULL;

    members_text(m, &text);
    if (tree_reconfig(member_tree(leader->member), &unused, &len) != 0)
        wrong = "a reconfig is still under way";
    else if (!tree_get(member_tree(leader->member), "/zookeeper/config", &data, &len) ||
             (text.len == 0 ? len != 0
                            : len <= text.len || memcmp(data, text.data, text.len) != 0 ||
                                  memcmp(data + text.len, "\nversion=", 9) != 0))
        wrong = "/zookeeper/config does not say who the servers are";
    buf_free(&text);
    return wrong;
}

void town_operator_free(struct town *t)
{
    while (t->errands != NULL) {
        struct errand *o = t->errands;
        t->errands = o->next;
        buf_free(&o->in);
        mem_free(o);
    }
}
