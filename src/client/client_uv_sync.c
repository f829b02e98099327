/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client_uv_sync.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/client_uv_names.h"

struct client_sync {
    struct client_sync_options options;
    uv_loop_t loop;
    uv_timer_t alarm; /* ends a turn of the loop in time */
    struct client_uv *shell;
    struct client_names names;
    struct call *abandoned;
};

/* One question. When its time is over nobody waits for it any more, but its answer may
 * still come: so it stays until the end. */
struct call {
    struct call *next;
    struct client_sync_reply *reply; /* NULL: only the error matters */
    int err;
    bool is_done, is_abandoned;
};

/* ---- replies ---- */

static void drop_children(struct client_sync_reply *r)
{
    for (size_t i = 0; i < r->children_n; i++)
        mem_free(r->children[i]);
    mem_free(r->children);
    r->children = NULL;
    r->children_n = 0;
}

void client_sync_reply_free(struct client_sync_reply *r)
{
    drop_children(r);
    buf_free(&r->path);
    buf_free(&r->data);
    *r = (struct client_sync_reply){0};
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void copy_reply(struct client_sync_reply *to, const struct client_reply *from)
{
    drop_children(to);
    buf_clear(&to->path);
    buf_clear(&to->data);
    to->zxid = from->zxid;
    to->stat = from->stat;
    to->has_data = from->data != NULL || from->len >= 0;
    if (from->path != NULL)
        buf_add_str(&to->path, from->path);
    buf_text(&to->path);
    if (from->data != NULL && from->len > 0)
        buf_add(&to->data, from->data, (size_t)from->len);
    buf_text(&to->data);
    to->children_n = from->children_n;
    to->children = mem_new_array(char *, from->children_n);
    for (size_t i = 0; i < from->children_n; i++)
        to->children[i] = mem_dup_str(from->children[i]);
    if (to->children_n > 1)
        qsort(to->children, to->children_n, sizeof to->children[0], compare_names);
}

static void on_done(void *ctx, const struct client_reply *r)
{
    struct call *call = ctx;

    if (call->is_abandoned)
        return;
    call->is_done = true;
    call->err = r->err;
    if (r->err == 0 && call->reply != NULL)
        copy_reply(call->reply, r);
}

/* ---- waiting ---- */

static void on_alarm(uv_timer_t *timer) { (void)timer; }

bool client_sync_turn(struct client_sync *s, uint64_t until_ms)
{
    uint64_t now = s->options.now_ms();

    if (now >= until_ms)
        return false;
    uv_update_time(&s->loop);
    uv_timer_start(&s->alarm, on_alarm, until_ms - now, 0);
    uv_run(&s->loop, UV_RUN_ONCE);
    uv_timer_stop(&s->alarm);
    return s->options.now_ms() < until_ms;
}

static int wait_for(struct client_sync *s, struct call *call, uint64_t until_ms)
{
    client_uv_kick(s->shell);
    while (!call->is_done && client_sync_turn(s, until_ms))
        ;
    if (!call->is_done) {
        call->is_abandoned = true;
        call->next = s->abandoned;
        s->abandoned = call;
        return ERR_TIMED_OUT;
    }
    int err = call->err;
    mem_free(call);
    return err;
}

enum op { OP_CREATE, OP_DELETE, OP_SET, OP_GET, OP_EXISTS, OP_CHILDREN, OP_WATCH };

struct question {
    enum op op;
    const char *path;
    const void *data;
    size_t len;
    int32_t number; /* flags, version, or recursive */
};

static void submit(struct client_sync *s, const struct question *q, struct call *call)
{
    struct client *c = client_uv_client(s->shell);
    uint64_t now = s->options.now_ms();

    switch (q->op) {
    case OP_CREATE:
        client_create(c, now, q->path, q->data, q->len, q->number, on_done, call);
        break;
    case OP_DELETE: client_delete(c, now, q->path, q->number, on_done, call); break;
    case OP_SET: client_set(c, now, q->path, q->data, q->len, q->number, on_done, call); break;
    case OP_GET: client_get(c, now, q->path, false, on_done, call); break;
    case OP_EXISTS: client_exists(c, now, q->path, false, on_done, call); break;
    case OP_CHILDREN: client_children(c, now, q->path, false, on_done, call); break;
    case OP_WATCH: client_add_watch(c, now, q->path, q->number != 0, on_done, call); break;
    }
}

static int ask(struct client_sync *s, const struct question *q, struct client_sync_reply *r)
{
    uint64_t until = s->options.now_ms() + s->options.limit_ms;
    bool may_repeat = q->op >= OP_GET;
    int err;

    do {
        struct call *call = mem_new(struct call);
        call->reply = r;
        submit(s, q, call);
        err = wait_for(s, call, until);
    } while (err == ERR_CONNECTION_LOST && may_repeat && s->options.now_ms() < until);
    return err;
}

int client_sync_create(struct client_sync *s, const char *path, const void *data, size_t len,
                       int flags, struct client_sync_reply *r)
{
    return ask(s, &(struct question){OP_CREATE, path, data, len, flags}, r);
}

int client_sync_delete(struct client_sync *s, const char *path, int32_t version)
{
    return ask(s, &(struct question){.op = OP_DELETE, .path = path, .number = version}, NULL);
}

int client_sync_set(struct client_sync *s, const char *path, const void *data, size_t len,
                    int32_t version, struct client_sync_reply *r)
{
    return ask(s, &(struct question){OP_SET, path, data, len, version}, r);
}

int client_sync_get(struct client_sync *s, const char *path, struct client_sync_reply *r)
{
    return ask(s, &(struct question){.op = OP_GET, .path = path}, r);
}

int client_sync_exists(struct client_sync *s, const char *path, struct client_sync_reply *r)
{
    return ask(s, &(struct question){.op = OP_EXISTS, .path = path}, r);
}

int client_sync_children(struct client_sync *s, const char *path, struct client_sync_reply *r)
{
    return ask(s, &(struct question){.op = OP_CHILDREN, .path = path}, r);
}

int client_sync_add_watch(struct client_sync *s, const char *path, bool recursive)
{
    return ask(s, &(struct question){.op = OP_WATCH, .path = path, .number = recursive}, NULL);
}

/* ---- opening and closing ---- */

void client_sync_why(const struct client_sync *s, struct buf *why)
{
    for (unsigned i = 0; i < s->names.n; i++) {
        const char *text = client_uv_why(s->shell, i);
        if (*text != 0)
            buf_printf(why, "%s%s: %s", why->len > 0 ? "; " : "", s->names.addresses[i], text);
    }
    buf_text(why);
}

static int start(struct client_sync *s)
{
    const char *addresses[CLIENT_SERVERS_MAX];
    unsigned bad;
    uint64_t seed;

    /* Only spreads retries and the choice of servers; any value will do. */
    if (uv_random(NULL, NULL, &seed, sizeof seed, 0, NULL) != 0)
        seed = s->options.now_ms();
    for (unsigned i = 0; i < s->names.n; i++)
        addresses[i] = s->names.addresses[i];
    struct client_uv_options options = {
        .loop = &s->loop,
        .client = {.timeout_ms = s->options.session_ms,
                   .seed = seed,
                   .servers = s->names.n,
                   .chroot = s->names.chroot[0] != 0 ? s->names.chroot : NULL,
                   .auth_scheme = s->options.auth_scheme,
                   .auth = s->options.auth,
                   .on_event = s->options.on_event,
                   .on_watch = s->options.on_watch,
                   .ctx = s->options.ctx},
        .addresses = addresses,
        .now_ms = s->options.now_ms,
    };
    return client_uv_new(&s->shell, &options, &bad);
}

static void end_loop(struct client_sync *s)
{
    client_uv_free(s->shell);
    uv_close((uv_handle_t *)&s->alarm, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&s->loop) == 0);
    while (s->abandoned != NULL) {
        struct call *call = s->abandoned;
        s->abandoned = call->next;
        mem_free(call);
    }
    mem_free(s);
}

int client_sync_open(struct client_sync **out, const struct client_sync_options *options,
                     struct buf *why)
{
    struct client_sync *s = mem_new(struct client_sync);

    s->options = *options;
    if (uv_loop_init(&s->loop) != 0) {
        mem_free(s);
        return ERR_SYSTEM;
    }
    uv_timer_init(&s->loop, &s->alarm);
    int err = client_names_read(&s->names, s->options.servers, why);
    if (err == 0)
        err = start(s);
    if (err == 0) {
        uint64_t until = s->options.now_ms() + s->options.limit_ms;
        struct client *c = client_uv_client(s->shell);
        while (err == 0 && client_state(c) != CLIENT_CONNECTED) {
            if (client_is_refused(c))
                err = ERR_AUTH_FAILED;
            else if (!client_sync_turn(s, until))
                err = ERR_TIMED_OUT;
        }
        if (err != 0)
            client_sync_why(s, why);
    }
    buf_text(why);
    if (err != 0) {
        end_loop(s);
        return err;
    }
    *out = s;
    return 0;
}

void client_sync_close(struct client_sync *s)
{
    if (s == NULL)
        return;
    struct client *c = client_uv_client(s->shell);
    uint64_t now = s->options.now_ms();

    if (client_state(c) == CLIENT_CONNECTED) {
        client_close(c, now);
        client_uv_kick(s->shell);
        while (client_state(c) != CLIENT_CLOSED &&
               client_sync_turn(s, now + CLIENT_SYNC_CLOSE_MS))
            ;
    }
    end_loop(s);
}

struct client *client_sync_client(struct client_sync *s) { return client_uv_client(s->shell); }
uv_loop_t *client_sync_loop(struct client_sync *s) { return &s->loop; }
void client_sync_kick(struct client_sync *s) { client_uv_kick(s->shell); }
