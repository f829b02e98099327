/* SPDX-License-Identifier: Apache-2.0 */
/* A client and its mirror with a server that answers what it likes: well-formed answers with
 * odd contents, to the questions that were asked or to none, events that never were, and
 * connections that break. The input is a tape. (fuzz_client is the same on raw bytes.)
 *
 * Checked: every request has one end; the mirror's paths lie below its roots, its children
 * are in order, and it stays below its limits. */
#include <string.h>

#include "base/check.h"
#include "client/client.h"
#include "client/mirror.h"
#include "tape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { STEPS_MAX = 300, ASKED_MAX = 64 };

struct asked {
    int32_t xid, op;
};

struct world {
    struct tape tape;
    struct client *client;
    struct mirror *mirror;
    uint64_t now_ms;
    bool is_open, is_greeted;
    struct asked asked[ASKED_MAX]; /* requests that were sent */
    unsigned asked_n;
    unsigned requests, ends;
};

static void on_event(void *ctx, enum client_event ev)
{
    struct world *w = ctx;

    if (w->mirror != NULL)
        mirror_client_event(w->mirror, w->now_ms, ev);
}

static void on_watch(void *ctx, int type, const char *path)
{
    struct world *w = ctx;

    CHECK(path[0] == '/');
    if (w->mirror != NULL)
        mirror_client_watch(w->mirror, w->now_ms, type, path);
}

static void on_done(void *ctx, const struct client_reply *r)
{
    struct world *w = ctx;

    CHECK(r->path == NULL || r->path[0] == '/');
    w->ends++;
}

static void look(const struct world *w, const char *path, unsigned depth)
{
    struct mirror_node n;
    char after[512] = "";

    while (mirror_child_next(w->mirror, path, after, &n)) {
        const char *name = strrchr(n.path, '/') + 1;
        CHECK(strncmp(n.path, "/a", 2) == 0 || strncmp(n.path, "/b", 2) == 0);
        CHECK(strcmp(name, after) > 0);
        if (strlen(name) >= sizeof after)
            return;
        strcpy(after, name);
        if (depth < 5) {
            char *copy = mem_dup_str(n.path);
            look(w, copy, depth + 1);
            mem_free(copy);
        }
    }
}

static void changed(void *ctx) { (void)ctx; }

/* ---- the server ---- */

static void receive(struct world *w, const struct buf *content)
{
    struct buf frame = {0};
    struct tape *t = &w->tape;

    buf_add_be32(&frame,
                 tape_byte(t) == 255 ? (uint32_t)tape_number(t) : (uint32_t)content->len);
    if (content->len > 0)
        buf_add(&frame, content->data, content->len);
    if (tape_byte(t) > 240 && frame.len > 0)
        frame.data[tape_byte(t) % frame.len] = tape_byte(t);
    client_received(w->client, w->now_ms, frame.data, frame.len);
    buf_free(&frame);
}

static void greet(struct world *w)
{
    struct tape *t = &w->tape;
    static const uint8_t password[16] = "password";
    struct wire_connect_response r = {.timeout_ms = 6000,
                                      .session_id = 7,
                                      .password = wire_bytes(password, sizeof password),
                                      .read_only = (int8_t)((int)tape_below(t, 3) - 1)};
    struct buf b = {0};

    if (tape_below(t, 8) == 0) {
        r.timeout_ms = (int32_t)tape_number(t);
        r.session_id = tape_number(t);
        r.password = tape_data(t);
    }
    wire_connect_response_encode(&r, &b);
    receive(w, &b);
    w->is_greeted = true;
    buf_free(&b);
}

static void answer_body(struct tape *t, int32_t op, struct buf *out)
{
    switch (op) {
    case WIRE_OP_GET_DATA: tape_data_response(t, out); break;
    case WIRE_OP_GET_CHILDREN2: tape_children2_response(t, out); break;
    case WIRE_OP_EXISTS:
    case WIRE_OP_SET_DATA: tape_stat_response(t, out); break;
    case WIRE_OP_CREATE:
    case WIRE_OP_SYNC: tape_path_response(t, out); break;
    case WIRE_OP_ADD_WATCH: tape_error_response(t, out); break;
    default: break;
    }
}

static void reply(struct world *w)
{
    struct tape *t = &w->tape;
    struct asked a = {(int32_t)tape_number(t), WIRE_OP_GET_DATA};
    struct buf b = {0};
    unsigned what = tape_byte(t);

    if (w->asked_n > 0 && what < 230) { /* what it waits for */
        a = w->asked[0];
        memmove(w->asked, w->asked + 1, --w->asked_n * sizeof a);
    }
    const struct wire_reply_header h = {a.xid, tape_number(t),
                                        what % 8 == 0   ? (int32_t)tape_number(t)
                                        : what % 8 == 1 ? -101
                                                        : 0};
    wire_reply_header_encode(&h, &b);
    if (h.err == 0)
        answer_body(t, what % 16 == 2 ? tape_ops[tape_below(t, TAPE_OPS_N)] : a.op, &b);
    receive(w, &b);
    buf_free(&b);
}

static void event(struct world *w)
{
    struct tape *t = &w->tape;
    const struct wire_reply_header h = {WIRE_XID_NOTIFICATION, tape_number(t), 0};
    const struct wire_watcher_event e = {1 + (int32_t)tape_below(t, 4), WIRE_STATE_CONNECTED,
                                         tape_text_there(t)};
    struct buf b = {0};

    wire_reply_header_encode(&h, &b);
    if (tape_below(t, 16) == 0)
        tape_watcher_event(t, &b);
    else
        wire_watcher_event_encode(&e, &b);
    receive(w, &b);
    buf_free(&b);
}

/* ---- the shell ---- */

static void lost(struct world *w)
{
    w->is_open = w->is_greeted = false;
    w->asked_n = 0;
}

/* What the client has sent: the first frame of a connection is not a request. */
static void take_output(struct world *w)
{
    struct buf *out = client_output(w->client);

    while (w->is_open && out->len >= 4 && out->len >= 4 + be32_get(out->data)) {
        uint32_t len = be32_get(out->data);
        struct wire_in in = wire_in(out->data + 4, len);
        struct wire_request_header h;
        if (w->is_greeted && wire_request_header_decode(&h, &in) == 0 && w->asked_n < ASKED_MAX)
            w->asked[w->asked_n++] = (struct asked){h.xid, h.op};
        buf_consume(out, 4 + len);
        if (!w->is_greeted)
            break;
    }
}

static void turn(struct world *w)
{
    unsigned server;

    client_time(w->client, w->now_ms);
    for (unsigned i = 0; i < 8; i++) {
        switch (client_wants(w->client, w->now_ms, &server)) {
        case CLIENT_WANT_NOTHING: take_output(w); return;
        case CLIENT_WANT_CLOSE: lost(w); break;
        case CLIENT_WANT_CONNECTION:
            CHECK(server < 2);
            lost(w);
            w->is_open = true;
            client_opened(w->client, w->now_ms);
            take_output(w);
            greet(w);
        }
    }
}

static void ask(struct world *w, unsigned what)
{
    struct client *c = w->client;

    if (client_state(c) == CLIENT_CLOSED)
        return;
    w->requests++;
    switch (what % 6) {
    case 0: client_get(c, w->now_ms, "/a", true, on_done, w); break;
    case 1: client_children(c, w->now_ms, "/a/b", true, on_done, w); break;
    case 2: client_create(c, w->now_ms, "/b/s-", "x", 1, 3, on_done, w); break;
    case 3: client_exists(c, w->now_ms, "/a", true, on_done, w); break;
    case 4: client_add_watch(c, w->now_ms, "/c", true, on_done, w); break;
    default: client_sync(c, w->now_ms, "/a", on_done, w); break;
    }
}

static void start(struct world *w)
{
    static const char *const roots[] = {"/a", "/b", NULL};
    unsigned how = tape_byte(&w->tape);
    const struct client_options options = {
        .timeout_ms = 6000,
        .seed = 1,
        .servers = 2,
        .on_event = on_event,
        .on_watch = on_watch,
        .ctx = w,
        .chroot = (how & 1) != 0 ? "/zookeeper" : NULL,
        .makes_chroot = (how & 2) != 0,
        .auth_scheme = (how & 4) != 0 ? "digest" : NULL,
        .auth = (how & 4) != 0 ? "u:p" : NULL,
        .is_foreign = (how & 8) != 0,
        .life_path = (how & 8) != 0 ? "/a/life" : NULL,
    };

    w->client = client_new(&options);
    w->mirror = mirror_new(w->client, roots, changed, w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world *w = mem_new(struct world);

    w->tape = (struct tape){.at = data, .end = data + len};
    w->now_ms = 1;
    start(w);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(&w->tape); i++) {
        unsigned what = tape_byte(&w->tape);
        turn(w);
        if (what < 150 && w->is_open)
            reply(w);
        else if (what < 190 && w->is_open)
            event(w);
        else if (what < 230)
            ask(w, what);
        else if (what == 230 && w->is_open) {
            lost(w);
            client_closed(w->client, w->now_ms);
        } else
            w->now_ms += (uint64_t)1 << (what - 190) / 5;
        if (what % 16 == 0) {
            look(w, "/a", 0);
            (void)mirror_is_complete(w->mirror);
        }
    }
    look(w, "/", 0);
    client_close(w->client, w->now_ms);
    w->now_ms += 100000;
    client_time(w->client, w->now_ms);
    CHECK(client_state(w->client) == CLIENT_CLOSED);
    CHECK(w->ends == w->requests);
    mirror_free(w->mirror);
    client_free(w->client);
    tape_free(&w->tape);
    mem_free(w);
    return 0;
}
