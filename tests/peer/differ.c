/* SPDX-License-Identifier: Apache-2.0 */
/* differ.c -- muster beside a real ZooKeeper: the same requests to both, every answer compared.
 *
 *   tool_differ ZOOKEEPER MUSTER [OPTION...]      each ADDRESS:PORT
 *     --seed N        which requests (1)
 *     --requests N    how many (100000)
 *     --round N       requests with one seed; then all is deleted, and the next seed goes on
 *     --without A,B   leaves groups of requests out (differ_draw.h)
 *     --only FILE     only these: a line "WINDOW REQUEST" or "WINDOW -" each
 *     --list          what was sent, as --only wants it, when something differed
 *     --verbose       every request with its answer
 *     --counts        how often each operation ended how
 *
 * Several sessions, of which one at a time sends a window of requests, all at once, and then
 * waits for their answers: so both servers see one order. Events for the others wait in
 * their connections until it is their turn, and must then stand before the same answer.
 *
 * Exit code: 0 the same, 1 different, 2 usage, 3 a server is not there.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "differ_draw.h"
#include "differ_link.h"
#include "differ_match.h"
#include "differ_rules.h"
#include "wire/wire.h"

#define SESSION_MS 60000
#define KEEPER DRAW_SLOTS /* the session that reads and deletes everything */
#define ERRORS_N 130
#define OPS_N 110

struct slot {
    struct link link[SIDES];
    bool is_open, has_session;
    bool unordered; /* a session was closed since it was last heard */
    int64_t id[SIDES];
    uint8_t password[SIDES][16];
};

struct text_list {
    struct buf *texts;
    uint32_t n, cap; /* cap: so many are initialised */
};

struct differ {
    const char *address[SIDES];
    uint64_t seed, requests, round;
    unsigned groups;
    bool verbose, counts, list;
    uint64_t *only; /* window << 8 | request + 1, sorted; NULL: all */
    uint32_t only_n, only_cap;

    struct match *match;
    struct slot slots[DRAW_SLOTS + 1];
    struct draw_window window, keeper; /* the keeper's requests */
    uint64_t index;                    /* of the window in its round */
    uint64_t sent, differences;
    struct text_list events[SIDES];
    struct buf text[SIDES], frames[SIDES];
    uint64_t *counted; /* [OPS_N][ERRORS_N] */
    uint64_t explained[RULES_N];
    struct buf children; /* of the sweep: paths found */
};

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- what is told ---- */

static void request_text(const struct draw_window *w, const struct draw_request *q,
                         struct buf *out)
{
    const uint8_t *body = w->bytes.data + q->at;

    buf_printf(out, "%s(%" PRId32 ") xid %" PRId32 " body ", wire_op_name(q->op), q->op,
               q->xid);
    for (uint32_t i = 0; i < q->len && i < 300; i++)
        if (body[i] > ' ' && body[i] < 0x7f && body[i] != '\\')
            buf_add_u8(out, body[i]);
        else
            buf_printf(out, body[i] == 0 && i + 1 < q->len && body[i + 1] == 0 ? "." : "\\%02x",
                       body[i]);
    if (q->len > 300)
        buf_printf(out, "... %u bytes", q->len);
}

#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static void
differs(struct differ *d, const struct draw_window *w, int at, const char *format, ...)
{
    struct buf b = {0};
    va_list args;

    d->differences++;
    printf("DIFFERENT seed %" PRIu64 " window %" PRIu64 " request %d session %u%s: ", d->seed,
           d->index, at, w->slot, w->is_sweep ? " (sweep)" : "");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    if (at >= 0 && (unsigned)at < w->n) {
        request_text(w, &w->requests[at], &b);
        printf("  request    %s\n", buf_text(&b));
        for (int s = 0; s < SIDES; s++)
            printf("  %-10s %s\n", side_names[s], buf_text(&d->text[s]));
    }
    fflush(stdout);
    buf_free(&b);
}

static void tell(struct differ *d, const struct draw_window *w, unsigned at)
{
    struct buf b = {0};

    request_text(w, &w->requests[at], &b);
    printf("%" PRIu64 ".%u #%u %s\n    %s\n", d->index, at, w->slot, buf_text(&b),
           buf_text(&d->text[MUSTER]));
    buf_free(&b);
}

static void count(struct differ *d, int32_t op, int32_t err)
{
    if (op >= 0 && op < OPS_N && err <= 0 && err > -ERRORS_N)
        d->counted[op * ERRORS_N - err]++;
}

static void show_counts(const struct differ *d)
{
    static const char *const rules[] = {
#define NAME(name, text) #name,
        DIFFER_RULES(NAME, NAME)
#undef NAME
    };

    for (int i = 0; i < RULES_N; i++)
        if (d->explained[i] > 0)
            printf("explained by %-26s %" PRIu64 "\n", rules[i], d->explained[i]);
    for (int op = 0; op < OPS_N; op++) {
        bool any = false;
        for (int e = 0; e < ERRORS_N; e++) {
            uint64_t n = d->counted[op * ERRORS_N + e];
            if (n == 0)
                continue;
            if (!any)
                printf("%-22s", wire_op_name(op));
            any = true;
            printf(" %d: %" PRIu64, -e, n);
        }
        if (any)
            printf("\n");
    }
}

/* ---- connecting ---- */

/* Waits for the other end, so that nothing of this connection is left there. */
static void forget(struct slot *s)
{
    for (int i = 0; i < SIDES; i++)
        link_shut(&s->link[i]);
    for (int i = 0; i < SIDES; i++) {
        (void)link_rest(&s->link[i], LINK_WAIT_MS);
        link_close(&s->link[i]);
    }
    s->is_open = false;
}

/* Says hello on new connections to both; false: they answered differently. */
static bool hello(struct differ *d, struct draw_window *w, struct link to[SIDES],
                  const struct slot *s, bool wrong_password,
                  struct wire_connect_response got[SIDES])
{
    static const uint8_t zeros[16];
    enum link_read how[SIDES];
    size_t lens[SIDES] = {0};

    for (int i = 0; i < SIDES; i++) {
        struct wire_connect_request r = {
            .last_zxid_seen = match_zxid(d->match, (enum side)i, 0),
            .timeout_ms = SESSION_MS,
            .session_id = s->has_session ? s->id[i] : 0,
            .password =
                wire_bytes(s->has_session && !wrong_password ? s->password[i] : zeros, 16),
            .read_only = w->old_client ? WIRE_ABSENT : 0,
        };
        struct buf b = {0};
        size_t at = wire_frame_begin(&b);
        wire_connect_request_encode(&r, &b);
        wire_frame_end(&b, at);
        link_open(&to[i], d->address[i]);
        (void)link_send(&to[i], b.data, b.len);
        buf_free(&b);
    }
    for (int i = 0; i < SIDES; i++) {
        const uint8_t *data = NULL;
        how[i] = link_frame(&to[i], LINK_WAIT_MS, &data, &lens[i]);
        got[i] = (struct wire_connect_response){0};
        if (how[i] == LINK_FRAME) {
            struct wire_in in = wire_in(data, lens[i]);
            (void)wire_connect_response_decode(&got[i], &in);
        }
    }
    if (s->has_session)
        match_may_shift(d->match);
    if (how[0] == how[1] && lens[0] == lens[1] && got[0].timeout_ms == got[1].timeout_ms &&
        (got[0].session_id == 0) == (got[1].session_id == 0) &&
        got[0].password.len == got[1].password.len &&
        got[0].protocol_version == got[1].protocol_version &&
        got[0].read_only == got[1].read_only)
        return true;
    differs(d, w, -1,
            "answers to connecting (%s session): ZooKeeper %d, %zu bytes, timeout %d, session "
            "%d; muster %d, %zu bytes, timeout %d, session %d",
            s->has_session ? "its old" : "a new", (int)how[0], lens[0], got[0].timeout_ms,
            got[0].session_id != 0, (int)how[1], lens[1], got[1].timeout_ms,
            got[1].session_id != 0);
    return false;
}

static void expect_end(struct differ *d, const struct draw_window *w, struct link links[SIDES],
                       const char *when)
{
    enum link_read a = link_rest(&links[ZOOKEEPER], LINK_WAIT_MS);
    enum link_read b = link_rest(&links[MUSTER], LINK_WAIT_MS);

    if (a != b)
        differs(d, w, -1, "%s: ZooKeeper %s the connection, muster %s it", when,
                a == LINK_CLOSED ? "closes" : "keeps", b == LINK_CLOSED ? "closes" : "keeps");
    else if (a != LINK_CLOSED)
        differs(d, w, -1, "%s: neither closes the connection", when);
}

static void join(struct differ *d, struct draw_window *w, struct slot *s)
{
    struct wire_connect_response got[SIDES];

    if (!hello(d, w, s->link, s, false, got))
        return;
    s->is_open = true;
    if (got[0].session_id == 0) { /* both say that it has ended */
        forget(s);
        s->has_session = false;
        return;
    }
    for (int i = 0; i < SIDES; i++) {
        if (s->has_session && s->id[i] != got[i].session_id)
            differs(d, w, -1, "%s gives another session", side_names[i]);
        s->id[i] = got[i].session_id;
        memcpy(s->password[i], got[i].password.data, 16);
    }
    if (!s->has_session)
        match_session(d->match, s->id);
    s->has_session = true;
    if (d->verbose)
        printf("%" PRIu64 " #%u connects\n", d->index, w->slot);
}

static void knock_with_wrong_password(struct differ *d, struct draw_window *w, struct slot *s)
{
    struct link links[SIDES] = {{.fd = -1}, {.fd = -1}};
    struct wire_connect_response got[SIDES];

    if (hello(d, w, links, s, true, got)) {
        if (got[0].session_id != 0)
            differs(d, w, -1, "a wrong password is taken");
        expect_end(d, w, links, "after a wrong password");
    }
    for (int i = 0; i < SIDES; i++) {
        link_close(&links[i]);
        buf_free(&links[i].in);
    }
}

/* The old connection ends; what it was told until then is not looked at, since how much of
 * it is written out before the end is chance. */
static void take_over(struct differ *d, struct draw_window *w, struct slot *s)
{
    struct link old[SIDES] = {s->link[0], s->link[1]};

    s->link[0] = s->link[1] = (struct link){.fd = -1};
    s->is_open = false;
    join(d, w, s);
    expect_end(d, w, old, "after its session has connected again");
    for (int i = 0; i < SIDES; i++) {
        link_close(&old[i]);
        buf_free(&old[i].in);
    }
}

/* ---- asking, and comparing the answers ---- */

static struct buf *list_add(struct text_list *l)
{
    uint32_t before = l->cap;

    mem_grow(l->texts, l->cap, l->n + 1);
    for (uint32_t i = before; i < l->cap; i++)
        l->texts[i] = (struct buf){0};
    buf_clear(&l->texts[l->n]);
    return &l->texts[l->n++];
}

static int by_text(const void *a, const void *b)
{
    const struct buf *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n > 0 ? memcmp(x->data, y->data, n) : 0;

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static bool lists_equal(const struct text_list *a, const struct text_list *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (by_text(&a->texts[i], &b->texts[i]) != 0)
            return false;
    return true;
}

/* A session's ephemerals go in no fixed order when it is closed. */
static bool events_equal(struct differ *d, struct slot *s)
{
    struct text_list *a = &d->events[ZOOKEEPER], *b = &d->events[MUSTER];

    if (lists_equal(a, b))
        return true;
    if (!s->unordered)
        return false;
    for (int i = 0; i < SIDES; i++)
        if (d->events[i].n > 1)
            qsort(d->events[i].texts, d->events[i].n, sizeof(struct buf), by_text);
    return lists_equal(a, b);
}

struct answer {
    enum link_read how;
    struct wire_reply_header header;
    const uint8_t *body;
    size_t len;
};

/* The reply that comes next, and the events before it. */
static void read_answer(struct differ *d, struct slot *s, enum side side, struct answer *a)
{
    const uint8_t *data;
    size_t len;

    d->events[side].n = 0;
    *a = (struct answer){.how = LINK_FRAME};
    for (;;) {
        a->how = link_frame(&s->link[side], LINK_WAIT_MS, &data, &len);
        if (a->how != LINK_FRAME)
            return;
        struct wire_in in = wire_in(data, len);
        (void)wire_reply_header_decode(&a->header, &in);
        a->body = in.at;
        a->len = (size_t)(in.end - in.at);
        if (a->header.xid != WIRE_XID_NOTIFICATION)
            return;
        struct buf *t = list_add(&d->events[side]);
        if (a->header.zxid != -1 || a->header.err != 0)
            buf_add_str(t, "ODD HEADER ");
        match_event(a->body, a->len, t);
    }
}

static void answer_text(struct differ *d, const struct draw_request *q, enum side side,
                        const struct answer *a)
{
    struct buf *t = &d->text[side];

    buf_clear(t);
    for (uint32_t i = 0; i < d->events[side].n; i++) {
        buf_add(t, d->events[side].texts[i].data, d->events[side].texts[i].len);
        buf_add_str(t, "\n    ");
    }
    if (a->how != LINK_FRAME) {
        buf_add_str(t, a->how == LINK_CLOSED ? "closed" : "silent");
        return;
    }
    if (a->header.xid != q->xid)
        buf_printf(t, "xid %" PRId32 " ", a->header.xid);
    match_reply(d->match, side, q, a->header.err, a->body, a->len, t);
}

/* Into d->children: length and path, one after the other. */
static void children_put(struct differ *d, const void *parent, size_t parent_len,
                         struct wire_bytes name)
{
    bool is_root = parent_len == 1;

    buf_add_be32(&d->children, (uint32_t)(parent_len + (is_root ? 0 : 1) + (size_t)name.len));
    buf_add(&d->children, parent, parent_len);
    if (!is_root)
        buf_add_u8(&d->children, '/');
    buf_add(&d->children, name.data, (size_t)name.len);
}

static void found_children(struct differ *d, const struct draw_request *q,
                           const struct answer *a)
{
    struct wire_children_response r;
    struct wire_in in = wire_in(a->body, a->len);
    struct wire_bytes name;

    if (q->op != WIRE_OP_GET_CHILDREN2 || a->header.err != 0 ||
        wire_children_response_decode(&r, &in) != 0)
        return;
    while (wire_texts_next(&r.children, &name))
        children_put(d, d->keeper.bytes.data + q->at + 4,
                     be32_get(d->keeper.bytes.data + q->at), name);
}

static void put_request(struct differ *d, const struct draw_window *w,
                        const struct draw_request *q, enum side side)
{
    struct buf *b = &d->frames[side];
    const struct wire_request_header h = {q->xid, q->op};
    size_t at = wire_frame_begin(b);

    wire_request_header_encode(&h, b);
    if (q->zxid_back >= 0 && q->len >= 8) {
        buf_add_be64(b, (uint64_t)match_zxid(d->match, side, q->zxid_back));
        buf_add(b, w->bytes.data + q->at + 8, q->len - 8);
    } else {
        buf_add(b, w->bytes.data + q->at, q->len);
    }
    wire_frame_end(b, at);
}

/* A watch that only ZooKeeper has: neither has one there any more. What they say to it
 * differs. */
static void unwatch(struct differ *d, struct slot *s, const uint8_t *path, size_t len)
{
    struct draw_window w = {.n = 1, .bytes = {0}};

    w.requests[0] = (struct draw_request){
        .op = WIRE_OP_REMOVE_WATCHES, .xid = 1, .zxid_back = -1, .len = (uint32_t)len + 8};
    wire_text_encode(path, len, &w.bytes);
    buf_add_be32(&w.bytes, WIRE_WATCHER_DATA);
    for (int i = 0; i < SIDES; i++) {
        struct answer a;
        buf_clear(&d->frames[i]);
        put_request(d, &w, &w.requests[0], (enum side)i);
        (void)link_send(&s->link[i], d->frames[i].data, d->frames[i].len);
        read_answer(d, s, (enum side)i, &a);
        CHECK(d->events[i].n == 0);
    }
    buf_free(&w.bytes);
}

/* Whether the two answers differ as a row of differ_rules.h says. */
static bool is_explained(struct differ *d, const struct draw_window *w,
                         const struct draw_request *q, const struct answer a[SIDES])
{
    int32_t zk = a[ZOOKEEPER].header.err, mu = a[MUSTER].header.err;

    if (a[ZOOKEEPER].how != LINK_FRAME || a[MUSTER].how != LINK_FRAME)
        return false;
    if (q->op == WIRE_OP_EXISTS && zk == 0 && mu == ERR_NO_AUTH) {
        const uint8_t *body = w->bytes.data + q->at;
        d->explained[RULE_exists_unreadable]++;
        if (q->alone)
            unwatch(d, &d->slots[w->slot], body + 4, be32_get(body));
        return true;
    }
    if (q->op == WIRE_OP_MULTI_READ && zk == ERR_MALFORMED && mu == zk && a[MUSTER].len == 0 &&
        a[ZOOKEEPER].len == 9) { /* the end of a multi */
        d->explained[RULE_multi_read_body]++;
        return true;
    }
    return false;
}

/* One request's answers; false: the connection has ended. */
static bool compare(struct differ *d, const struct draw_window *w, unsigned at)
{
    struct slot *s = &d->slots[w->slot];
    const struct draw_request *q = &w->requests[at];
    struct answer a[SIDES];

    for (int i = 0; i < SIDES; i++)
        read_answer(d, s, (enum side)i, &a[i]);
    const int64_t zxids[SIDES] = {a[0].header.zxid, a[1].header.zxid};
    bool in_step =
        a[0].how != LINK_FRAME || a[1].how != LINK_FRAME || match_headers(d->match, zxids);
    if (q->op == WIRE_OP_CLOSE_SESSION)
        s->unordered = true;
    bool events = events_equal(d, s);
    for (int i = 0; i < SIDES; i++)
        answer_text(d, q, (enum side)i, &a[i]);
    if (d->verbose)
        tell(d, w, at);
    bool same = by_text(&d->text[0], &d->text[1]) == 0;
    if (!same && events && is_explained(d, w, q, a)) {
        same = true;
        match_times_clear(d->match);
    }
    if (!events || !same)
        differs(d, w, (int)at, "%s", events ? "answers" : "events");
    else if (!in_step)
        differs(d, w, (int)at, "zxids out of step: ZooKeeper %" PRId64 ", muster %" PRId64,
                zxids[0], zxids[1]);
    else if (!match_times(d->match))
        differs(d, w, (int)at, "times");
    match_times_clear(d->match);
    count(d, q->op, a[0].how == LINK_FRAME ? a[0].header.err : 0);
    s->unordered = false;
    if (a[0].how == LINK_FRAME && w->is_sweep)
        found_children(d, q, &a[0]);
    return a[0].how == LINK_FRAME && a[1].how == LINK_FRAME;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* request -1: the window itself */
static bool is_wanted(const struct differ *d, int request)
{
    uint64_t key = d->index << 8 | (uint64_t)(request + 1);

    return d->only == NULL || bsearch(&key, d->only, d->only_n, sizeof key, by_number) != NULL;
}

/* Sends w's requests from `from` up to the next one that stands alone, and compares the
 * answers; returns where to go on. Sets *over when the connection has ended. */
static unsigned ask(struct differ *d, const struct draw_window *w, unsigned from, bool *over)
{
    struct slot *s = &d->slots[w->slot];
    unsigned to = from;

    buf_clear(&d->frames[0]);
    buf_clear(&d->frames[1]);
    for (; to < w->n; to++) {
        if (to > from && (w->requests[to].alone || w->requests[to - 1].alone))
            break;
        if (w->is_sweep || is_wanted(d, (int)to))
            for (int i = 0; i < SIDES; i++)
                put_request(d, w, &w->requests[to], (enum side)i);
    }
    for (int i = 0; i < SIDES; i++)
        (void)link_send(&s->link[i], d->frames[i].data, d->frames[i].len);
    for (unsigned at = from; at < to && !*over && d->differences == 0; at++)
        if (w->is_sweep || is_wanted(d, (int)at)) {
            d->sent++;
            if (!compare(d, w, at))
                *over = true;
            if (w->requests[at].ends && !*over) {
                expect_end(d, w, s->link, "after this request's answer");
                *over = true;
            }
        }
    return to;
}

static void session_closed(struct differ *d, struct slot *s)
{
    s->has_session = false;
    for (unsigned i = 0; i <= DRAW_SLOTS; i++)
        d->slots[i].unordered = true;
}

static void run_requests(struct differ *d)
{
    struct draw_window *w = &d->window;
    struct slot *s = &d->slots[w->slot];
    bool over = false;

    if (s->is_open && w->begin == DRAW_TAKE_OVER)
        take_over(d, w, s);
    if (!s->is_open && s->has_session && w->begin == DRAW_BAD_PASSWORD)
        knock_with_wrong_password(d, w, s);
    if (!s->is_open)
        join(d, w, s);
    if (!s->is_open)
        return;
    for (unsigned at = 0; at < w->n && !over && d->differences == 0;)
        at = ask(d, w, at, &over);
    if (over && w->end == DRAW_CLOSE)
        session_closed(d, s);
    if (over || w->end == DRAW_LEAVE)
        forget(s);
}

/* ---- the sweep ---- */

static struct draw_request *keeper_add(struct differ *d, int32_t op, const char *path,
                                       size_t len)
{
    struct draw_window *w = &d->keeper;
    struct draw_request *q = &w->requests[w->n++];

    *q = (struct draw_request){
        .op = op, .xid = (int32_t)w->n, .at = (uint32_t)w->bytes.len, .zxid_back = -1};
    buf_add_be32(&w->bytes, (uint32_t)len);
    if (len > 0)
        buf_add(&w->bytes, path, len);
    if (op == WIRE_OP_DELETE)
        buf_add_be32(&w->bytes, (uint32_t)-1);
    else if (op != WIRE_OP_GET_ACL)
        buf_add_u8(&w->bytes, 0);
    q->len = (uint32_t)(w->bytes.len - q->at);
    return q;
}

static void keeper_ask(struct differ *d)
{
    bool over = false;

    for (unsigned at = 0; at < d->keeper.n && !over && d->differences == 0;)
        at = ask(d, &d->keeper, at, &over);
    d->keeper.n = 0;
    buf_clear(&d->keeper.bytes);
}

static void keeper_join(struct differ *d)
{
    struct draw_window *w = &d->keeper;
    static const char scheme[] = "digest", secret[] = "super:test";

    join(d, w, &d->slots[KEEPER]);
    struct draw_request *q = &w->requests[w->n++];
    *q = (struct draw_request){.op = WIRE_OP_AUTH, .xid = WIRE_XID_AUTH, .zxid_back = -1};
    buf_add_be32(&w->bytes, 0);
    wire_text_encode(scheme, strlen(scheme), &w->bytes);
    wire_text_encode(secret, strlen(secret), &w->bytes);
    q->len = (uint32_t)w->bytes.len;
    keeper_ask(d);
}

static bool is_built_in(const char *path, size_t len)
{
    static const char *const names[] = {"/", "/zookeeper", "/zookeeper/quota",
                                        "/zookeeper/config"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == len && memcmp(names[i], path, len) == 0)
            return true;
    return false;
}

/* Reads the whole tree, level by level; then deletes it, the last level first. */
static void sweep(struct differ *d, bool deletes)
{
    struct slot *s = &d->slots[KEEPER];
    size_t *starts = NULL;
    uint32_t n = 0, cap = 0;

    d->keeper.slot = KEEPER;
    d->keeper.is_sweep = true;
    if (!s->is_open)
        keeper_join(d);
    buf_clear(&d->children);
    children_put(d, "/", 1, wire_bytes("", 0));
    for (size_t at = 0; at < d->children.len && d->differences == 0;) {
        size_t end = d->children.len; /* what is found meanwhile is the next level's */
        while (at < end) {
            size_t len = be32_get(d->children.data + at);
            mem_grow(starts, cap, n + 1);
            starts[n++] = at;
            keeper_add(d, WIRE_OP_GET_DATA, (const char *)d->children.data + at + 4, len);
            keeper_add(d, WIRE_OP_GET_ACL, (const char *)d->children.data + at + 4, len);
            keeper_add(d, WIRE_OP_GET_CHILDREN2, (const char *)d->children.data + at + 4, len);
            at += 4 + len;
            if (d->keeper.n + 3 > DRAW_REQUESTS_MAX)
                keeper_ask(d);
        }
        keeper_ask(d);
    }
    for (uint32_t i = n; deletes && i > 0 && d->differences == 0; i--) {
        const char *path = (const char *)d->children.data + starts[i - 1] + 4;
        size_t len = be32_get(d->children.data + starts[i - 1]);
        if (!is_built_in(path, len))
            keeper_add(d, WIRE_OP_DELETE, path, len);
        if (d->keeper.n == DRAW_REQUESTS_MAX)
            keeper_ask(d);
    }
    keeper_ask(d);
    mem_free(starts);
}

/* ---- rounds ---- */

/* All sessions are closed, all is deleted. */
static void round_end(struct differ *d)
{
    struct draw_window *w = &d->window;

    for (unsigned i = 0; i < DRAW_SLOTS && d->differences == 0; i++) {
        struct slot *s = &d->slots[i];
        bool over = false;
        *w = (struct draw_window){.slot = i, .bytes = w->bytes, .n = 1, .is_sweep = true};
        w->requests[0] = (struct draw_request){
            .op = WIRE_OP_CLOSE_SESSION, .xid = 1, .zxid_back = -1, .ends = true};
        buf_clear(&w->bytes);
        if (!s->has_session)
            continue;
        if (!s->is_open)
            join(d, w, s);
        if (s->is_open)
            (void)ask(d, w, 0, &over);
        session_closed(d, s);
        forget(s);
    }
    if (d->differences == 0)
        sweep(d, true);
}

static void round_run(struct differ *d, uint64_t until)
{
    uint64_t end = d->sent + d->round < until ? d->sent + d->round : until;

    for (d->index = 0; d->sent < end && d->differences == 0; d->index++) {
        if (d->only != NULL && d->index > d->only[d->only_n - 1] >> 8)
            return;
        if (!is_wanted(d, -1))
            continue;
        draw_window(&d->window, d->seed, d->index, d->groups);
        if (d->list) {
            printf("SENT %" PRIu64 " -\n", d->index);
            for (unsigned i = 0; i < d->window.n; i++)
                if (is_wanted(d, (int)i))
                    printf("SENT %" PRIu64 " %u\n", d->index, i);
        }
        if (d->window.is_sweep)
            sweep(d, d->window.deletes);
        else
            run_requests(d);
    }
}

static void run(struct differ *d)
{
    double begun = now_s(), told = begun;
    uint64_t first = d->seed;

    while (d->sent < d->requests && d->differences == 0) {
        round_run(d, d->requests);
        if (d->differences > 0 || d->only != NULL)
            break;
        round_end(d);
        if (now_s() - told > 10) {
            told = now_s();
            fprintf(stderr, "%" PRIu64 " requests, %.0f/s, seed %" PRIu64 "\n", d->sent,
                    (double)d->sent / (told - begun), d->seed);
        }
        if (d->differences == 0)
            d->seed++;
    }
    if (d->counts)
        show_counts(d);
    printf(
        "%" PRIu64 " requests from seed %" PRIu64 ", %" PRIu64 " differences, %.0f s, %.0f/s\n",
        d->sent, first, d->differences, now_s() - begun, (double)d->sent / (now_s() - begun));
}

/* ---- the command line ---- */

static void read_only_list(struct differ *d, const char *name)
{
    FILE *f = fopen(name, "r");
    char line[64];

    if (f == NULL) {
        perror(name);
        exit(2);
    }
    while (fgets(line, sizeof line, f) != NULL) {
        char *rest;
        uint64_t window = strtoull(line, &rest, 10);
        uint64_t request = strchr(rest, '-') != NULL ? 0 : strtoull(rest, NULL, 10) + 1;
        mem_grow(d->only, d->only_cap, d->only_n + 1);
        d->only[d->only_n++] = window << 8 | request;
    }
    fclose(f);
    if (d->only_n == 0) {
        fprintf(stderr, "differ: %s is empty\n", name);
        exit(2);
    }
    qsort(d->only, d->only_n, sizeof *d->only, by_number);
}

static void leave_out(struct differ *d, char *names)
{
    static const char *const groups[] = {
#define G(name, text) #name,
        DRAW_GROUPS(G)
#undef G
    };

    for (char *n = strtok(names, ","); n != NULL; n = strtok(NULL, ",")) {
        unsigned i = 0;
        while (i < DRAW_GROUPS_N && strcmp(n, groups[i]) != 0)
            i++;
        if (i == DRAW_GROUPS_N) {
            fprintf(stderr, "differ: no group %s\n", n);
            exit(2);
        }
        d->groups &= ~(1u << i);
    }
}

static void usage(void)
{
    fprintf(stderr,
            "usage: tool_differ ZOOKEEPER MUSTER [--seed N] [--requests N] [--round N]\n"
            "       [--without GROUP,...] [--only FILE] [--list] [--verbose] [--counts]\n");
    exit(2);
}

static void read_arguments(struct differ *d, int argc, char **argv)
{
    if (argc < 3)
        usage();
    d->address[ZOOKEEPER] = argv[1];
    d->address[MUSTER] = argv[2];
    for (int i = 3; i < argc; i++) {
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0)
            d->verbose = true;
        else if (strcmp(argv[i], "--counts") == 0)
            d->counts = true;
        else if (strcmp(argv[i], "--list") == 0)
            d->list = true;
        else if (value == NULL)
            usage();
        else if (i++, strcmp(argv[i - 1], "--seed") == 0)
            d->seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--requests") == 0)
            d->requests = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--round") == 0)
            d->round = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--without") == 0)
            leave_out(d, value);
        else if (strcmp(argv[i - 1], "--only") == 0)
            read_only_list(d, value);
        else
            usage();
    }
}

int main(int argc, char **argv)
{
    struct differ d = {
        .seed = 1, .requests = 100000, .round = 50000, .groups = (1u << DRAW_GROUPS_N) - 1};

    read_arguments(&d, argc, argv);
    d.match = match_new();
    d.counted = mem_new_array(uint64_t, OPS_N * ERRORS_N);
    for (unsigned i = 0; i <= DRAW_SLOTS; i++)
        d.slots[i].link[0].fd = d.slots[i].link[1].fd = -1;
    run(&d);
    match_free(d.match);
    return d.differences > 0;
}
