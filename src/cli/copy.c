/* SPDX-License-Identifier: Apache-2.0 */
/* copy.c -- import --from.
 *
 * Level-triggered, path by path: look at the znode on both sides, make the copy equal, go on
 * with the children of either. A change that the source announces while --follow is on is one
 * more path to look at, whatever it was. So nothing depends on the order of events, and what is
 * cut off by a lost connection is simply looked at again.
 *
 * RUNNING_MAX paths are under way at once; what waits is a stack, so that a wide tree is not
 * held in memory as a whole. A path is there once: what happens to it while it is under way
 * makes it run `again`.
 */
#include "cli/copy.h"
#include "cli/auth.h"

#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "cli/print.h"
#include "cli/session.h"
#include "host/clock.h"
#include "server/secret.h"
#include "tree/watch.h"
#include "wire/path.h"
#include "wire/wire.h"

#define RUNNING_MAX 256
#define SAID_MAX 20 /* lines about one kind of trouble */
#define PROGRESS_MS 2000
#define TURN_MS 1000

enum what {
    SRC_DATA,
    DST_DATA,
    SRC_ACL,
    DST_ACL,
    SRC_NAMES,
    DST_NAMES,
    OP_DATA,
    OP_ACL,
    WHATS
};

struct item;
struct ask {
    struct item *item;
    enum what what;
};

/* One side's znode. */
struct seen {
    bool is_there;
    struct client_stat stat;
    struct buf data;
    int32_t data_len;
    struct buf acl; /* the vector's elements */
    int32_t acl_count;
    bool acl_is_gone; /* it was deleted between the two answers */
};

enum step { LOOKING, CHANGING, DELETING, EMPTYING, LISTING };

struct item {
    struct copy *copy;
    struct hash_link link;
    struct item *next;  /* in the stack */
    struct item *above; /* waits until this one is gone */
    unsigned below;     /* how many of them this one waits for */
    enum step step;
    bool is_running, is_deep, again, again_deep;
    bool is_lost;  /* a connection went while it was asked */
    bool was_full; /* not empty, though its children are gone */
    unsigned waits;
    int op_err;
    struct seen src, dst;
    struct ask asks[WHATS];
    struct buf names; /* of children on either side, NUL-ended */
    size_t path_len;
    char path[]; /* below both roots; "" is the root itself */
};

struct side {
    struct client_sync *sync;
    const char *root; /* "" or "/app" */
    bool was_up;
};

struct counts {
    uint64_t looked, created, set, acls, deleted, different, ephemerals, refused, kept, masked;
};

struct copy {
    struct cmd_env *env;
    struct side from, to;
    bool compare, keep, follow, is_following, stop;
    uint64_t key;
    struct hash_table items;
    struct item *stack;
    unsigned running;
    bool walk_again; /* the source was away: what changed meanwhile was not announced */
    struct counts n;
    uint64_t said_ms, away_since_ms;
    uint64_t happened; /* answers and events so far */
    struct buf path;   /* scratch */
};

/* ---- paths ---- */

static const char *full(struct copy *c, const struct side *s, const char *path)
{
    buf_clear(&c->path);
    buf_add_str(&c->path, s->root);
    buf_add_str(&c->path, path);
    if (c->path.len == 0)
        buf_add_u8(&c->path, '/');
    return buf_text(&c->path);
}

static bool is_within(const char *path, const char *ancestor)
{
    return path_is_within(path, strlen(path), ancestor, strlen(ancestor));
}

/* Each ensemble's own. */
static bool is_left_alone(struct copy *c, const char *path)
{
    return is_within(full(c, &c->from, path), "/zookeeper") ||
           is_within(full(c, &c->to, path), "/zookeeper") ||
           is_within(full(c, &c->to, path), "/muster");
}

/* ---- saying ---- */

static void say(struct copy *c, const char *word, const char *path)
{
    if (!c->compare && !c->is_following)
        return;
    if (c->env->json) {
        print_json(json_pack("{s:s, s:o}", "is", word, "path",
                             print_data((const uint8_t *)path, strlen(path), true)));
    } else {
        printf("%-8s ", word);
        print_text(stdout, path);
        putchar('\n');
    }
    fflush(stdout);
}

static void refuse(struct copy *c, const struct item *it, const char *why)
{
    if (c->n.refused++ >= SAID_MAX)
        return;
    fputs("muster: cannot copy ", stderr);
    print_text(stderr, full(c, &c->from, it->path));
    fprintf(stderr, ": %s\n", why);
}

static void progress(struct copy *c)
{
    uint64_t now_ms = clock_now_ms();

    if (c->is_following || now_ms < c->said_ms + PROGRESS_MS)
        return;
    c->said_ms = now_ms;
    fprintf(stderr, "%" PRIu64 " znodes looked at, %" PRIu64 " changed ...\n", c->n.looked,
            c->n.created + c->n.set + c->n.acls + c->n.deleted);
}

/* ---- items ---- */

static struct item *find_item(const struct copy *c, const char *path, size_t len)
{
    struct hash_link *l = hash_first(&c->items, hash_bytes(c->key, path, len));

    for (; l != NULL; l = hash_next(l)) {
        struct item *it = HASH_ENTRY(l, struct item, link);
        if (it->path_len == len && memcmp(it->path, path, len) == 0)
            return it;
    }
    return NULL;
}

static void push(struct copy *c, struct item *it)
{
    it->next = c->stack;
    c->stack = it;
}

static struct item *look_at(struct copy *c, const char *path, bool is_deep)
{
    size_t len = strlen(path);
    struct item *it = find_item(c, path, len);

    if (it != NULL) {
        if (it->is_running) {
            it->again = true;
            it->again_deep |= is_deep;
        } else {
            it->is_deep |= is_deep;
        }
        return it;
    }
    it = mem_alloc(sizeof *it + len + 1);
    it->copy = c;
    memcpy(it->path, path, len);
    it->path_len = len;
    it->is_deep = is_deep;
    hash_insert(&c->items, &it->link, hash_bytes(c->key, path, len));
    push(c, it);
    return it;
}

static void seen_clear(struct seen *s)
{
    buf_free(&s->data);
    buf_free(&s->acl);
    *s = (struct seen){0};
}

static void go_on_deleting(struct copy *c, struct item *it);

/* It is done with, this time. */
static void finish(struct copy *c, struct item *it)
{
    seen_clear(&it->src);
    seen_clear(&it->dst);
    buf_free(&it->names);
    c->running--;
    it->is_running = false;
    it->step = LOOKING;
    it->was_full = false;
    if (it->again || it->is_lost) {
        it->is_deep = it->is_lost ? it->is_deep || it->again_deep : it->again_deep;
        it->again = it->again_deep = it->is_lost = false;
        push(c, it);
        return;
    }
    struct item *above = it->above;
    hash_remove(&c->items, &it->link);
    mem_free(it);
    if (above != NULL && --above->below == 0)
        go_on_deleting(c, above);
}

/* ---- asking ---- */

static void answered(void *ctx, const struct client_reply *r);

static void ask(struct item *it, enum what what, struct side *s, int32_t op,
                const struct buf *body)
{
    it->asks[what] = (struct ask){it, what};
    it->waits++;
    client_request(client_sync_client(s->sync), clock_now_ms(), op, body->data, body->len,
                   answered, &it->asks[what]);
}

/* What is asked between these is one step, which ends when all of it is answered (some of it
 * may be at once). */
static void begin(struct item *it, enum step step)
{
    it->step = step;
    it->op_err = 0;
    it->waits = 1;
}
static void settle(struct copy *c, struct item *it);

static struct wire_bytes text_of(const char *s) { return wire_bytes(s, strlen(s)); }

static void ask_path(struct copy *c, struct item *it, enum what what, struct side *s,
                     int32_t op)
{
    struct buf body = {0};
    const char *path = full(c, s, it->path);

    if (op == WIRE_OP_GET_ACL) {
        struct wire_path_request r = {text_of(path)};
        wire_path_request_encode(&r, &body);
    } else if (op == WIRE_OP_DELETE) {
        struct wire_path_version_request r = {text_of(path), -1};
        wire_path_version_request_encode(&r, &body);
    } else {
        struct wire_path_watch_request r = {text_of(path), false};
        wire_path_watch_request_encode(&r, &body);
    }
    ask(it, what, s, op, &body);
    buf_free(&body);
}

static void start(struct copy *c, struct item *it)
{
    it->is_running = true;
    c->running++;
    c->n.looked++;
    begin(it, LOOKING);
    ask_path(c, it, SRC_DATA, &c->from, WIRE_OP_GET_DATA);
    ask_path(c, it, DST_DATA, &c->to, WIRE_OP_GET_DATA);
    ask_path(c, it, SRC_ACL, &c->from, WIRE_OP_GET_ACL);
    ask_path(c, it, DST_ACL, &c->to, WIRE_OP_GET_ACL);
    settle(c, it);
}

/* ---- comparing and changing ---- */

static struct wire_list acl_of(const struct seen *s)
{
    return (struct wire_list){s->acl.data, s->acl.len, s->acl_count};
}

/* Without admin rights a server shows "user:x" in place of what it has. */
static bool is_masked(const struct seen *s)
{
    struct wire_list rest = acl_of(s);
    struct wire_acl a;

    while (wire_acls_next(&rest, &a))
        if (a.scheme.len == 6 && memcmp(a.scheme.data, "digest", 6) == 0 && a.id.len >= 2 &&
            memcmp(a.id.data + a.id.len - 2, ":x", 2) == 0)
            return true;
    return false;
}

static struct wire_bytes data_of(const struct seen *s)
{
    return (struct wire_bytes){s->data.data, s->data_len};
}

static bool same_data(const struct item *it)
{
    return it->src.data_len == it->dst.data_len &&
           (it->src.data_len <= 0 ||
            memcmp(it->src.data.data, it->dst.data.data, (size_t)it->src.data_len) == 0);
}

static bool same_acl(const struct item *it)
{
    return it->src.acl_count == it->dst.acl_count && it->src.acl.len == it->dst.acl.len &&
           (it->src.acl.len == 0 ||
            memcmp(it->src.acl.data, it->dst.acl.data, it->src.acl.len) == 0);
}

static void create(struct copy *c, struct item *it)
{
    struct wire_create_request r = {text_of(full(c, &c->to, it->path)), data_of(&it->src),
                                    acl_of(&it->src), WIRE_PERSISTENT};
    struct buf body = {0};

    wire_create_request_encode(&r, &body);
    ask(it, OP_DATA, &c->to, WIRE_OP_CREATE, &body);
    buf_free(&body);
}

static void set_data(struct copy *c, struct item *it)
{
    struct wire_set_data_request r = {text_of(full(c, &c->to, it->path)), data_of(&it->src),
                                      -1};
    struct buf body = {0};

    wire_set_data_request_encode(&r, &body);
    ask(it, OP_DATA, &c->to, WIRE_OP_SET_DATA, &body);
    buf_free(&body);
}

static void set_acl(struct copy *c, struct item *it)
{
    struct wire_set_acl_request r = {text_of(full(c, &c->to, it->path)), acl_of(&it->src), -1};
    struct buf body = {0};

    wire_set_acl_request_encode(&r, &body);
    ask(it, OP_ACL, &c->to, WIRE_OP_SET_ACL, &body);
    buf_free(&body);
}

static void list(struct copy *c, struct item *it)
{
    begin(it, LISTING);
    if (it->is_deep && it->src.is_there && it->src.stat.children > 0)
        ask_path(c, it, SRC_NAMES, &c->from, WIRE_OP_GET_CHILDREN2);
    if (it->is_deep && it->dst.is_there && it->dst.stat.children > 0)
        ask_path(c, it, DST_NAMES, &c->to, WIRE_OP_GET_CHILDREN2);
    settle(c, it);
}

/* The source has none, or an ephemeral. */
static void remove_copy(struct copy *c, struct item *it)
{
    if (!it->dst.is_there || it->dst.stat.ephemeral_owner != 0 || it->path_len == 0) {
        finish(c, it);
        return;
    }
    if (c->keep) {
        c->n.kept++;
        finish(c, it);
        return;
    }
    if (c->compare) {
        c->n.different++;
        say(c, "extra", full(c, &c->to, it->path));
        finish(c, it);
        return;
    }
    begin(it, DELETING);
    ask_path(c, it, OP_DATA, &c->to, WIRE_OP_DELETE);
    settle(c, it);
}

static void go_on_deleting(struct copy *c, struct item *it)
{
    c->running++;
    it->was_full = true;
    begin(it, DELETING);
    ask_path(c, it, OP_DATA, &c->to, WIRE_OP_DELETE);
    settle(c, it);
}

static void make_equal(struct copy *c, struct item *it)
{
    bool is_new = !it->dst.is_there, masked = is_masked(&it->src);
    bool data = is_new || !same_data(it), acl = !is_new && !masked && !same_acl(it);

    if (masked && c->n.masked++ == 0)
        fputs("muster: some access lists are shown without their secrets, because this session "
              "may not change them;\n  such znodes are not made anew and their lists are not "
              "compared\n",
              stderr);
    if (!is_new && it->dst.stat.ephemeral_owner != 0) {
        refuse(c, it, "the copy has an ephemeral of some session in its place");
        finish(c, it);
        return;
    }
    if (is_new && masked) {
        refuse(c, it, "its access list cannot be read as a whole");
        finish(c, it);
        return;
    }
    if (c->compare) {
        c->n.different += (uint64_t)data + acl;
        if (data)
            say(c, is_new ? "missing" : "data", full(c, &c->from, it->path));
        if (acl)
            say(c, "acl", full(c, &c->from, it->path));
        list(c, it);
        return;
    }
    begin(it, CHANGING);
    if (is_new)
        create(c, it);
    else if (data)
        set_data(c, it);
    if (acl)
        set_acl(c, it);
    settle(c, it);
}

static void looked(struct copy *c, struct item *it)
{
    bool is_ephemeral = it->src.is_there && it->src.stat.ephemeral_owner != 0;

    c->n.ephemerals += is_ephemeral;
    if (it->src.is_there && it->src.acl_is_gone) {
        it->again = it->again_deep = true;
        finish(c, it);
    } else if (it->op_err != 0) {
        refuse(c, it, err_text(it->op_err));
        finish(c, it);
    } else if (it->src.is_there && !is_ephemeral) {
        make_equal(c, it);
    } else {
        remove_copy(c, it);
    }
}

static void changed(struct copy *c, struct item *it)
{
    char *parent;

    switch (it->op_err) {
    case 0: list(c, it); return;
    case ERR_NO_NODE: /* its parent is not there yet, or it has gone meanwhile */
        if (it->path_len == 0) {
            refuse(c, it, "the znode above the copy has been deleted");
            break;
        }
        parent = mem_dup_strn(it->path, it->path_len);
        *strrchr(parent, '/') = 0;
        look_at(c, parent, true);
        mem_free(parent);
        break;
    case ERR_NODE_EXISTS: it->again = it->again_deep = true; break;
    default: refuse(c, it, err_text(it->op_err)); break;
    }
    finish(c, it);
}

/* Its children first. */
static void empty(struct copy *c, struct item *it)
{
    if (it->op_err != 0) {
        refuse(c, it, err_text(it->op_err));
        finish(c, it);
        return;
    }
    it->below = 1;
    for (size_t at = 0; at < it->names.len;) {
        const char *name = (const char *)it->names.data + at;
        struct buf path = {0};
        buf_printf(&path, "%s/%s", it->path, name);
        at += strlen(name) + 1;
        struct item *below = look_at(c, buf_text(&path), false);
        if (below->above == NULL) {
            below->above = it;
            it->below++;
        }
        buf_free(&path);
    }
    buf_free(&it->names);
    c->running--; /* while it waits, others may run: those it waits for among them */
    if (--it->below == 0)
        go_on_deleting(c, it);
}

static void deleted(struct copy *c, struct item *it)
{
    if (it->op_err == ERR_NOT_EMPTY && !it->was_full) {
        begin(it, EMPTYING);
        ask_path(c, it, DST_NAMES, &c->to, WIRE_OP_GET_CHILDREN2);
        settle(c, it);
        return;
    }
    if (it->op_err == ERR_NOT_EMPTY)
        refuse(c, it, "the copy has ephemerals or other things below it that stay");
    else if (it->op_err != 0 && it->op_err != ERR_NO_NODE)
        refuse(c, it, err_text(it->op_err));
    finish(c, it);
}

static void listed(struct copy *c, struct item *it)
{
    if (it->op_err != 0)
        refuse(c, it, err_text(it->op_err));
    for (size_t at = 0; at < it->names.len;) {
        const char *name = (const char *)it->names.data + at;
        struct buf path = {0};
        buf_printf(&path, "%s/%s", it->path, name);
        at += strlen(name) + 1;
        if (!is_left_alone(c, buf_text(&path)))
            look_at(c, buf_text(&path), true);
        buf_free(&path);
    }
    finish(c, it);
}

/* ---- answers ---- */

static void take_names(struct item *it, const struct client_reply *r)
{
    for (size_t i = 0; i < r->children_n; i++)
        buf_add(&it->names, r->children[i], strlen(r->children[i]) + 1);
}

static void take_acl(struct seen *s, const struct client_reply *r)
{
    struct wire_in in = wire_in(r->body, r->body_len);
    struct wire_acl_response a;

    if (wire_acl_response_decode(&a, &in) != 0)
        return; /* is_there stays false if the data was refused too */
    if (a.acl.len > 0)
        buf_add(&s->acl, a.acl.data, a.acl.len);
    s->acl_count = a.acl.count;
}

static void take_data(struct seen *s, const struct client_reply *r)
{
    s->is_there = true;
    s->stat = r->stat;
    s->data_len = r->len;
    if (r->len > 0)
        buf_add(&s->data, r->data, (size_t)r->len);
}

static void count_change(struct copy *c, struct item *it, enum what what)
{
    const char *path = full(c, &c->to, it->path);

    if (it->step == DELETING) {
        c->n.deleted++;
        say(c, "deleted", path);
    } else if (it->step == CHANGING && what == OP_ACL) {
        c->n.acls++;
        say(c, "acl", path);
    } else if (it->step == CHANGING && !it->dst.is_there) {
        c->n.created++;
        say(c, "created", path);
    } else if (it->step == CHANGING) {
        c->n.set++;
        say(c, "set", path);
    }
}

static void take_answer(struct copy *c, struct item *it, enum what what,
                        const struct client_reply *r)
{
    bool is_read = what < OP_DATA;

    if (r->err == ERR_CONNECTION_LOST || r->err == ERR_SESSION_EXPIRED) {
        it->is_lost = true;
        return;
    }
    if (is_read && r->err == ERR_NO_NODE) {
        it->src.acl_is_gone |= what == SRC_ACL;
        return;
    }
    if (r->err != 0) {
        it->op_err = r->err;
        return;
    }
    switch (what) {
    case SRC_DATA: take_data(&it->src, r); break;
    case DST_DATA: take_data(&it->dst, r); break;
    case SRC_ACL: take_acl(&it->src, r); break;
    case DST_ACL: take_acl(&it->dst, r); break;
    case SRC_NAMES:
    case DST_NAMES: take_names(it, r); break;
    case OP_DATA:
    case OP_ACL: count_change(c, it, what); break;
    case WHATS: UNREACHABLE("no answer");
    }
}

static void settle(struct copy *c, struct item *it)
{
    if (--it->waits > 0)
        return;
    if (it->is_lost) {
        finish(c, it);
        return;
    }
    switch (it->step) {
    case LOOKING: looked(c, it); break;
    case CHANGING: changed(c, it); break;
    case DELETING: deleted(c, it); break;
    case EMPTYING: empty(c, it); break;
    case LISTING: listed(c, it); break;
    }
}

static void answered(void *ctx, const struct client_reply *r)
{
    struct ask *a = ctx;
    struct copy *c = a->item->copy;

    c->happened++;
    if (c->stop)
        return;
    take_answer(c, a->item, a->what, r);
    settle(c, a->item);
}

/* ---- the source's events ---- */

static void on_watch(void *ctx, int type, const char *path)
{
    struct copy *c = ctx;
    size_t root = strlen(c->from.root);

    c->happened++;
    if (root > 0 && !is_within(path, c->from.root))
        return;
    const char *below = strcmp(path, "/") == 0 ? "" : path + root;
    if (!is_left_alone(c, below))
        look_at(c, below, type != WATCH_DATA_CHANGED);
}

static void on_event(void *ctx, enum client_event ev)
{
    struct copy *c = ctx;

    c->happened++;
    if (!c->follow || c->stop)
        return;
    if (ev == CLIENT_EV_DISCONNECTED)
        fputs("muster: the connection to the source is lost\n", stderr);
    else if (ev == CLIENT_EV_CONNECTED && c->from.was_up)
        c->walk_again = true;
    if (ev == CLIENT_EV_CONNECTED)
        c->from.was_up = true;
}

/* ---- two sessions, one wait ---- */

static bool is_up(const struct side *s)
{
    return client_state(client_sync_client(s->sync)) == CLIENT_CONNECTED;
}

static void pump(struct copy *c)
{
    if (!is_up(&c->from) || !is_up(&c->to)) {
        if (c->away_since_ms == 0)
            c->away_since_ms = clock_now_ms();
        return;
    }
    c->away_since_ms = 0;
    if (c->walk_again) {
        c->walk_again = false;
        fputs("muster: connected to the source again; all of it is looked at once more\n",
              stderr);
        look_at(c, "", true);
    }
    while (c->stack != NULL && c->running < RUNNING_MAX) {
        struct item *it = c->stack;
        c->stack = it->next;
        start(c, it);
    }
}

static void on_other(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events; /* the source's loop runs next */
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    ((struct copy *)signal->data)->stop = true;
}

/* The source's loop has its own file to wait on, which the other loop waits on, too. */
static void turn(struct copy *c)
{
    uv_loop_t *other = client_sync_loop(c->from.sync);
    uint64_t before = c->happened;

    pump(c);
    client_sync_kick(c->from.sync);
    client_sync_kick(c->to.sync);
    uv_run(other, UV_RUN_NOWAIT);
    progress(c);
    if (c->happened != before) /* there may be more to ask, or nothing to wait for */
        return;
    int wait_ms = uv_backend_timeout(other);
    if (wait_ms < 0 || wait_ms > TURN_MS)
        wait_ms = TURN_MS;
    if (wait_ms == 0)
        wait_ms = 1;
    client_sync_turn(c->to.sync, clock_now_ms() + (uint64_t)wait_ms);
}

static bool is_walking(const struct copy *c) { return c->items.count > 0 || c->walk_again; }

/* 0, or an exit code. */
static int walk(struct copy *c)
{
    look_at(c, "", true);
    while (is_walking(c) && !c->stop) {
        turn(c);
        if (!c->follow && c->away_since_ms != 0 &&
            clock_now_ms() > c->away_since_ms + c->env->timeout_ms)
            return cmd_fail(EXIT_TIMED_OUT, "the copy is not whole",
                            is_up(&c->from) ? "the servers of --server do not answer"
                                            : "the source does not answer",
                            NULL, "the same command again: it goes on where the trees differ");
    }
    return c->stop ? EXIT_INTERRUPTED : 0;
}

/* ---- the command ---- */

static void print_counts(const struct copy *c)
{
    const struct counts *n = &c->n;

    if (c->env->json) {
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "looked_at",
                             (json_int_t)n->looked, "created", (json_int_t)n->created, "set",
                             (json_int_t)n->set, "access_lists", (json_int_t)n->acls, "deleted",
                             (json_int_t)n->deleted, "ephemerals_left_out",
                             (json_int_t)n->ephemerals, "kept", (json_int_t)n->kept, "refused",
                             (json_int_t)n->refused, "different", (json_int_t)n->different));
        return;
    }
    if (!c->compare)
        printf("copied      %" PRIu64 " created, %" PRIu64 " set, %" PRIu64
               " access lists, %" PRIu64 " deleted\n",
               n->created, n->set, n->acls, n->deleted);
    printf("left out    %" PRIu64 " ephemerals%s\n", n->ephemerals,
           c->keep ? "; what only the copy has" : "");
    if (n->refused > 0)
        printf("refused     %" PRIu64 " znodes could not be copied or compared\n", n->refused);
}

/* Says what still differs: what changed meanwhile, or could not be copied. */
static int compare_all(struct copy *c)
{
    struct counts before = c->n;

    bool was_compare = c->compare;
    c->n = (struct counts){0};
    c->compare = true;
    int code = walk(c);
    c->compare = was_compare;
    uint64_t different = c->n.different, refused = c->n.refused, looked = c->n.looked;
    if (code != 0)
        return code;
    if (!c->env->json)
        printf("compared    %" PRIu64 " znodes, %" PRIu64 " differences\n", looked, different);
    if (!was_compare)
        c->n = before;
    c->n.different = different;
    if (refused > before.refused)
        c->n.refused = refused;
    return different > 0 ? EXIT_DIFFERENT : c->n.refused > 0 ? EXIT_FAILED : 0;
}

static int follow(struct copy *c)
{
    c->is_following = true;
    fprintf(stderr,
            "The copy is in step (%" PRIu64 " znodes looked at). Following; Ctrl-C "
            "ends it.\n",
            c->n.looked);
    while (!c->stop && !ferror(stdout))
        turn(c);
    return EXIT_INTERRUPTED;
}

static int run(struct copy *c)
{
    uv_loop_t *loop = client_sync_loop(c->to.sync);
    uv_poll_t other;
    uv_signal_t interrupt, term;
    int code;

    CHECK(uv_poll_init(loop, &other, uv_backend_fd(client_sync_loop(c->from.sync))) == 0);
    uv_poll_start(&other, UV_READABLE, on_other);
    CHECK(uv_signal_init(loop, &interrupt) == 0 && uv_signal_init(loop, &term) == 0);
    interrupt.data = term.data = c;
    uv_signal_start(&interrupt, on_signal, SIGINT);
    uv_signal_start(&term, on_signal, SIGTERM);
    if (c->compare) {
        code = compare_all(c);
    } else {
        code = walk(c);
        if (code == 0 && c->follow)
            code = follow(c);
        else if (code == 0)
            code = compare_all(c);
    }
    if (code != EXIT_TIMED_OUT)
        print_counts(c);
    c->stop = true;
    uv_close((uv_handle_t *)&other, NULL);
    uv_close((uv_handle_t *)&interrupt, NULL);
    uv_close((uv_handle_t *)&term, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    return code;
}

static int open_source(struct copy *c, const char *servers)
{
    struct auth auth;
    int code = auth_read(c->env, &auth); /* the same for both sides */

    if (code != 0)
        return code;
    const struct client_sync_options options = {
        .servers = servers,
        .auth_scheme = auth.scheme,
        .auth = auth.auth,
        .session_ms = SESSION_TIMEOUT_MS,
        .limit_ms = c->env->timeout_ms,
        .now_ms = clock_now_ms,
        .on_event = on_event,
        .on_watch = on_watch,
        .ctx = c,
    };
    struct buf why = {0};
    int err = client_sync_open(&c->from.sync, &options, &why);

    if (err == ERR_AUTH_FAILED)
        code = cmd_fail(EXIT_FAILED, "--from", "the source refused the credentials", NULL,
                        "look at --auth-file: a line digest:NAME:PASSWORD");
    else if (err != 0)
        code = cmd_fail(err == ERR_BAD_ARGUMENTS ? EXIT_USAGE : EXIT_DOWN, "--from",
                        buf_text(&why), "no ZooKeeper runs there, or it has no quorum",
                        "name the servers of the ensemble: --from HOST:PORT,HOST:PORT");
    buf_free(&why);
    return code;
}

static int check_source(struct copy *c)
{
    struct client_sync_reply r = {0};
    const char *root = *c->from.root != 0 ? c->from.root : "/";
    int err = client_sync_exists(c->from.sync, root, &r);

    if (err == 0 && c->follow)
        err = client_sync_add_watch(c->from.sync, root, true);
    client_sync_reply_free(&r);
    if (err == ERR_UNIMPLEMENTED)
        return cmd_fail(EXIT_FAILED, "--follow",
                        "the source has no watches that last (they came with ZooKeeper 3.6)",
                        NULL,
                        "without --follow: copy again and again, the last time when its "
                        "clients are stopped");
    return err == 0 ? 0 : session_failed(c->from.sync, "read", root, err, false);
}

/* The znodes above the copy. */
static int make_parents(struct copy *c)
{
    char *path = mem_dup_str(c->to.root);
    int err = 0;

    for (char *p = path; *path != 0 && err == 0 && (p = strchr(p + 1, '/')) != NULL; *p = '/') {
        *p = 0;
        err = client_sync_create(c->to.sync, path, NULL, 0, WIRE_PERSISTENT, NULL);
        if (err == ERR_NODE_EXISTS)
            err = 0;
    }
    int code = err == 0 ? 0 : session_failed(c->to.sync, "create", path, err, true);
    mem_free(path);
    return code;
}

static void free_items(struct copy *c)
{
    struct hash_walk w;

    for (struct hash_link *l = hash_walk_first(&c->items, &w); l != NULL;
         l = hash_walk_next(&c->items, &w)) {
        struct item *it = HASH_ENTRY(l, struct item, link);
        hash_remove(&c->items, l);
        seen_clear(&it->src);
        seen_clear(&it->dst);
        buf_free(&it->names);
        mem_free(it);
    }
    hash_free(&c->items);
}

/* "HOST:PORT/app" -> the servers, and "/app" or "". */
static int split(char *servers, const char **root)
{
    char *slash = strchr(servers, '/');

    *root = "";
    if (slash == NULL || slash[1] == 0) {
        if (slash != NULL)
            *slash = 0;
        return 0;
    }
    *root = mem_dup_str(slash);
    *slash = 0;
    return session_check_path(*root);
}

int copy_tree(struct cmd_env *env, const char *from)
{
    const char *to = cmd_option(env, "to");
    struct copy c = {.env = env,
                     .compare = cmd_option(env, "compare") != NULL ||
                                cmd_option(env, "dry-run") != NULL,
                     .keep = cmd_option(env, "keep") != NULL,
                     .follow = cmd_option(env, "follow") != NULL,
                     .said_ms = clock_now_ms()};
    char *servers = mem_dup_str(from);
    int code = split(servers, &c.from.root);

    c.to.root = to == NULL || strcmp(to, "/") == 0 ? "" : to;
    if (code == 0 && *c.to.root != 0)
        code = session_check_path(c.to.root);
    if (code == 0 && strchr(env->servers, '/') != NULL)
        code = cmd_fail(EXIT_USAGE, "--server", "a path behind the servers is not for import",
                        NULL, "say where the copy goes with --to PATH");
    if (code == 0 && c.compare && c.follow)
        code = cmd_fail(EXIT_USAGE, "import", "--follow changes the copy, --compare does not",
                        NULL, "muster import --help");
    secret_random(&c.key, sizeof c.key);
    if (code == 0)
        code = open_source(&c, servers);
    if (code == 0)
        code = session_open(env, SESSION_TIMEOUT_MS, NULL, NULL, NULL, &c.to.sync);
    if (code == 0)
        code = check_source(&c);
    if (code == 0 && !c.compare)
        code = make_parents(&c);
    if (code == 0)
        code = run(&c);
    c.stop = true;
    client_sync_close(c.to.sync);
    client_sync_close(c.from.sync);
    free_items(&c);
    buf_free(&c.path);
    if (*c.from.root != 0)
        mem_free((void *)(uintptr_t)c.from.root);
    mem_free(servers);
    return code;
}
