/* SPDX-License-Identifier: Apache-2.0 */
/* An agent with a tree that somebody else writes into. Whoever may write below /muster and
 * /services can put there what he likes: machines, what they say of themselves, claims,
 * instances, sites. The agent and its client are real, on a real server of one; its shell is
 * played here, with results as odd as the rest: what a probe, a check, HAProxy and other
 * agents say. The input is a tape.
 *
 * Checked: what the agent writes into the tree, its status and its metrics' facts can be read;
 * no address is kept for longer than the longest lease; what stands in an instance gets into
 * HAProxy's file only where it is an address. */
#include <jansson.h>
#include <stdio.h>

#include "agent/agent.h"
#include "base/check.h"
#include "lib/lone_member.h"
#include "tape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define VIP "10.0.0.100"

enum { STEPS_MAX = 200, OPS = 8, HOSTILE = 15 };

struct world {
    struct tape tape;
    struct lone l;
    struct agent *agent;
    struct client *client;
    uint64_t conn, conns;
    int32_t xid;
    struct {
        enum agent_action_type type;
        uint64_t op;
    } ops[OPS]; /* not answered yet */
    unsigned ops_n;
};

/* ---- what others write ---- */

static const char *const paths[] = {
    "/muster",
    "/muster/site",
    "/muster/machines",
    "/muster/machines/b",
    "/muster/machines/b/alive",
    "/muster/machines/c",
    "/muster/machines/c/alive",
    "/muster/machines/c/life",
    "/muster/machines/a",
    "/muster/machines/a/alive",
    "/muster/machines/b.x",
    "/muster/machines/-",
    "/muster/addresses",
    ("/muster/addresses/" VIP),
    "/muster/addresses/10.0.0.101",
    "/muster/addresses/x",
    "/services",
    "/services/web",
    "/services/web/b-3000",
    "/services/web/c-3000",
    "/services/web/a-3000",
    "/services/web/c-3000-and-more",
    "/services/db",
    "/services/db/b-5432",
    "/services/\xc3\xa9",
};

static const char *const texts[] = {
    ("site: shop\nlease: 2s\naddresses: [" VIP
     "]\nservices:\n  web: { port: 3000, check: { http: "
     "/up, interval: 500ms } }\nbalance:\n  web: { listen: 80 }\n"),
    ("site: shop\nlease: 500ms\naddresses:\n  - { address: " VIP
     ", prefer: b }\n  - 10.0.0.101\n"
     "services:\n  web: { port: 3000, instances: 3, check: { tcp: true } }\n  db: { port: 5432 "
     "}\nbalance:\n  web: { listen: 80 }\n  db: { listen: 5432 }\n"),
    ("site: x\n"),
    ("{\"name\":\"b\",\"address\":\"10.0.0.2\",\"id\":\"b\",\"joined\":1700000000000}"),
    ("{\"name\":\"c\",\"address\":\"10.0.0.3\",\"id\":\"\xc3\xa9\xc3\xa9\",\"joined\":-1}"),
    ("{\"version\":\"0.1\",\"started\":1,\"load_x100\":20,\"fit\":true,\"unfit_why\":\"\","
     "\"balance_failed\":\"\",\"addresses\":[{\"address\":\"" VIP
     "\",\"state\":\"held\",\"why\":"
     "\"\",\"avoided\":false}],\"instances\":[{\"service\":\"web\",\"port\":3000,\"state\":"
     "\"healthy\",\"why\":\"\",\"since\":1}],\"pools\":[{\"service\":\"web\",\"on\":2,"
     "\"slots\":"
     "6,"
     "\"kept\":false,\"why\":\"\"}]}"),
    ("{\"version\":1,\"load_x100\":-1e9,\"fit\":0,\"addresses\":{},\"instances\":[1,[],{}],"
     "\"pools\":[{\"on\":99999999999,\"why\":\"\xe2\x82\xac\"}]}"),
    ("{\"name\":\"web\",\"id\":\"b-3000\",\"address\":\"10.0.0.2\",\"port\":3000,\"sslPort\":"
     "null,"
     "\"payload\":null,\"registrationTimeUTC\":1,\"serviceType\":\"DYNAMIC\",\"uriSpec\":"
     "null}"),
    ("{\"address\":\"10.0.0.3\",\"port\":65535}"),
    ("{\"address\":\"10.0.0.3 check\\nserver evil\",\"port\":1}"),
    ("b"),
    ("a"),
    ("2000"),
    (""),
};

#define N(list) (sizeof(list) / sizeof(list)[0])

/* A text as it stands, with some bytes changed, one byte many times in it, or anything. */
static void add_data(struct tape *t, struct buf *out)
{
    unsigned what = tape_byte(t);
    const char *text = texts[tape_below(t, N(texts))];

    buf_add_str(out, text);
    if (what < 128 || out->len == 0)
        return;
    size_t at = (size_t)tape_byte(t) * (1 + out->len / 256) % out->len;
    if (what < 200) {
        struct wire_bytes some = tape_raw(t, what % 8);
        for (size_t i = 0; i < (size_t)some.len && at + i < out->len; i++)
            out->data[at + i] = some.data[i];
    } else if (what < 230) {
        struct buf tail = {0};
        buf_add(&tail, out->data + at, out->len - at);
        out->len = at;
        uint8_t b = tape_byte(t);
        for (size_t n = (size_t)1 << (what - 200) / 2; n > 0; n--)
            buf_add_u8(out, b);
        buf_add(out, tail.data, tail.len);
        buf_free(&tail);
    } else if (what < 240) {
        out->len = at;
    } else {
        struct wire_bytes some = tape_raw(t, tape_byte(t));
        buf_clear(out);
        if (some.len > 0)
            buf_add(out, some.data, (size_t)some.len);
    }
}

static void others_write(struct world *w)
{
    struct tape *t = &w->tape;
    const char *path = paths[tape_below(t, N(paths))];
    unsigned what = tape_byte(t);
    struct buf data = {0}, body = {0}, acl = {0};
    const struct wire_acl all = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    add_data(t, &data);
    if (what < 30) {
        const struct wire_path_version_request r = {wire_bytes(path, strlen(path)), -1};
        wire_path_version_request_encode(&r, &body);
        lone_request(&w->l, HOSTILE, ++w->xid, WIRE_OP_DELETE, &body);
    } else {
        wire_acl_encode(&all, &acl);
        const struct wire_create_request c = {.path = wire_bytes(path, strlen(path)),
                                              .data = wire_bytes(data.data, data.len),
                                              .acl = {acl.data, acl.len, 1},
                                              .flags = what % 2};
        wire_create_request_encode(&c, &body);
        lone_request(&w->l, HOSTILE, ++w->xid, WIRE_OP_CREATE, &body);
        const struct wire_set_data_request s = {.path = c.path, .data = c.data, .version = -1};
        buf_clear(&body);
        wire_set_data_request_encode(&s, &body);
        lone_request(&w->l, HOSTILE, ++w->xid, WIRE_OP_SET_DATA, &body);
    }
    buf_clear(&w->l.out[HOSTILE]);
    buf_free(&data);
    buf_free(&body);
    buf_free(&acl);
}

/* ---- the shell ---- */

static void on_event(void *ctx, enum client_event ev)
{
    struct world *w = ctx;

    if (w->agent != NULL)
        agent_client_event(w->agent, ev);
}

static void on_watch(void *ctx, int type, const char *path)
{
    agent_client_watch(((struct world *)ctx)->agent, type, path);
}

static void check_commands(const struct agent_action *act)
{
    for (size_t i = 0; i < act->commands_n; i++)
        CHECK(strchr(act->commands[i], '\n') == NULL); /* each is one line */
}

static void carry_out(struct world *w, const struct agent_action *act)
{
    switch (act->type) {
    case AGENT_ADDRESS_ADD:
    case AGENT_ADDRESS_RENEW: CHECK(act->until_ms <= w->l.now_ms + SITE_LEASE_MAX_MS); break;
    case AGENT_BALANCE_SET:
        CHECK(strstr(act->config, "evil") == NULL); /* nothing of an address but an address */
        check_commands(act);
        break;
    case AGENT_ADDRESS_PROBE:
    case AGENT_ADDRESS_REMOVE:
    case AGENT_ADDRESS_ANNOUNCE:
    case AGENT_CHECK_RUN:
    case AGENT_CHECK_STOP:
    case AGENT_BALANCE_STOP:
    case AGENT_PEER_SEND:
    case AGENT_NOTE: break;
    }
    if (w->ops_n == OPS)
        memmove(w->ops, w->ops + 1, --w->ops_n * sizeof w->ops[0]);
    w->ops[w->ops_n].type = act->type;
    w->ops[w->ops_n++].op = act->op;
}

static void answer(struct world *w)
{
    struct tape *t = &w->tape;
    struct agent_result r = {.address = VIP};
    char text[64] = "";
    unsigned what = tape_byte(t);

    struct wire_bytes raw = tape_raw(t, what % 48);
    for (int32_t i = 0; i < raw.len; i++)
        text[i] = (char)(raw.data[i] != 0 ? raw.data[i] : ' ');
    r.text = text;
    if (what < 60) { /* another agent */
        static const char *const names[] = {"b", "c", "a", "nobody"};
        r.type = AGENT_PEER;
        r.text = names[what % 4];
        r.data = raw.data;
        r.len = (size_t)raw.len;
    } else if (w->ops_n > 0) {
        unsigned i = tape_below(t, w->ops_n);
        bool is_bad = what % 5 == 0;
        r.op = w->ops[i].op;
        r.check.outcome = (enum service_outcome)(what % (SERVICE_SIGNAL + 1));
        r.check.number = tape_byte(t);
        r.check.text = text;
        switch (w->ops[i].type) {
        case AGENT_ADDRESS_PROBE: r.type = is_bad ? AGENT_PROBE_FAILED : AGENT_PROBED; break;
        case AGENT_ADDRESS_ADD: r.type = is_bad ? AGENT_ADD_FAILED : AGENT_ADDED; break;
        case AGENT_ADDRESS_RENEW: r.type = is_bad ? AGENT_EXPIRED : AGENT_ADDED; break;
        case AGENT_ADDRESS_REMOVE: r.type = AGENT_REMOVED; break;
        case AGENT_CHECK_RUN: r.type = AGENT_CHECKED; break;
        case AGENT_BALANCE_SET:
            r.type = is_bad ? AGENT_BALANCE_FAILED : AGENT_BALANCE_DONE;
            break;
        case AGENT_ADDRESS_ANNOUNCE:
        case AGENT_CHECK_STOP:
        case AGENT_BALANCE_STOP:
        case AGENT_PEER_SEND:
        case AGENT_NOTE: r.type = AGENT_BALANCE_LOST; break;
        }
        if (r.type == AGENT_PROBED && what % 2 == 0)
            text[0] = 0; /* it is free */
        w->ops[i] = w->ops[--w->ops_n];
    }
    agent_result(w->agent, &r);
}

static void move_bytes(struct world *w)
{
    struct buf *out = client_output(w->client);
    unsigned server;

    switch (client_wants(w->client, w->l.now_ms, &server)) {
    case CLIENT_WANT_CONNECTION:
        if (w->conns + 1 >= HOSTILE)
            break; /* the lone member has no more of them */
        w->conn = ++w->conns;
        lone_open(&w->l, w->conn);
        client_opened(w->client, w->l.now_ms);
        break;
    case CLIENT_WANT_CLOSE:
        if (w->conn != 0 && !w->l.closed[w->conn])
            member_client_closed(w->l.member, w->conn);
        w->conn = 0;
        break;
    case CLIENT_WANT_NOTHING: break;
    }
    while (w->conn != 0 && out->len >= 4 && out->len >= 4 + be32_get(out->data)) {
        uint32_t len = be32_get(out->data);
        lone_frame(&w->l, w->conn, out->data + 4, len);
        buf_consume(out, 4 + len);
    }
    if (w->conn != 0 && w->l.out[w->conn].len > 0) {
        struct buf got = w->l.out[w->conn];
        w->l.out[w->conn] = (struct buf){0};
        client_received(w->client, w->l.now_ms, got.data, got.len);
        buf_free(&got);
    }
    if (w->conn != 0 && w->l.closed[w->conn]) {
        w->conn = 0;
        client_closed(w->client, w->l.now_ms);
    }
}

static void turn(struct world *w)
{
    struct agent_action act;

    agent_time(w->agent, w->l.now_ms, 1700000000000 + (int64_t)w->l.now_ms);
    client_time(w->client, w->l.now_ms);
    for (unsigned i = 0; i < 4; i++)
        move_bytes(w);
    agent_flush(w->agent);
    while (agent_action_take(w->agent, &act))
        carry_out(w, &act);
    for (unsigned i = 0; i < 4; i++)
        move_bytes(w);
}

static void pass(struct world *w, uint64_t ms)
{
    for (uint64_t end_ms = w->l.now_ms + ms; w->l.now_ms < end_ms;) {
        lone_run(&w->l, ms > 64 ? ms / 16 : ms > 8 ? 8 : 1);
        turn(w);
    }
}

static void check_status(const struct world *w)
{
    struct buf out = {0};

    int code = agent_status(w->agent, NULL, &out);
    CHECK(code == 0 || code == 3 || code == 4);
    json_t *j = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    CHECK(json_is_object(j));
    json_decref(j);
    buf_free(&out);
}

static void start(struct world *w)
{
    unsigned how = tape_byte(&w->tape);
    const struct client_options c = {.timeout_ms = 2000,
                                     .seed = 7,
                                     .servers = 1,
                                     .on_event = on_event,
                                     .on_watch = on_watch,
                                     .ctx = w,
                                     .is_foreign = (how & 1) != 0,
                                     .life_path =
                                         (how & 1) != 0 ? "/muster/machines/a/life" : NULL};
    const struct agent_options o = {.machine = "a",
                                    .address = "10.0.0.1",
                                    .id = "a",
                                    .version = "0",
                                    .seed = 70,
                                    .balance_socket = "/run/x.sock",
                                    .is_foreign = (how & 1) != 0};
    static const char *const members[] = {"a", "b", "c"};

    lone_start(&w->l, 5);
    lone_connect(&w->l, HOSTILE, 0, NULL, 60000);
    w->client = client_new(&c);
    w->agent = agent_new(&o, w->client);
    agent_members(w->agent, members, (how & 2) != 0 ? 3 : 1);
    pass(w, 400);
    if ((how & 4) != 0) { /* it has a site */
        for (unsigned i = 0; i < 2; i++) {
            struct buf body = {0};
            const struct wire_set_data_request s = {.path = wire_bytes("/muster/site", 12),
                                                    .data =
                                                        wire_bytes(texts[i], strlen(texts[i])),
                                                    .version = -1};
            wire_set_data_request_encode(&s, &body);
            lone_request(&w->l, HOSTILE, ++w->xid, WIRE_OP_SET_DATA, &body);
            buf_free(&body);
            pass(w, 200);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world *w = mem_new(struct world);

    w->tape = (struct tape){.at = data, .end = data + len};
    start(w);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(&w->tape); i++) {
        unsigned what = tape_byte(&w->tape);
        if (what < 120)
            others_write(w);
        else if (what < 180)
            answer(w);
        else if (what == 180 && w->conn != 0) { /* the connection breaks */
            member_client_closed(w->l.member, w->conn);
            w->l.closed[w->conn] = true;
        } else if (what == 181)
            agent_leave(w->agent);
        else
            pass(w, (uint64_t)1 << (what - 180) / 7);
        if (what % 8 == 0)
            check_status(w);
    }
    pass(w, 100);
    check_status(w);
    agent_free(w->agent);
    client_free(w->client);
    lone_stop(&w->l);
    tape_free(&w->tape);
    mem_free(w);
    return 0;
}
