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
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/copy_internal.h"
#include "cli/print.h"
#include "host/clock.h"
#include "tree/watch.h"
#include "wire/path.h"
#include "wire/wire.h"

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

void copy_progress(struct copy *c)
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

struct item *copy_look_at(struct copy *c, const char *path, bool is_deep)
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

void copy_seen_clear(struct seen *s)
{
    buf_free(&s->data);
    buf_free(&s->acl);
    *s = (struct seen){0};
}

static void go_on_deleting(struct copy *c, struct item *it);

/* It is done with, this time. */
static void finish(struct copy *c, struct item *it)
{
    copy_seen_clear(&it->src);
    copy_seen_clear(&it->dst);
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

void copy_start(struct copy *c, struct item *it)
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
        copy_look_at(c, parent, true);
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
        struct item *below = copy_look_at(c, buf_text(&path), false);
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
            copy_look_at(c, buf_text(&path), true);
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

void copy_on_watch(void *ctx, int type, const char *path)
{
    struct copy *c = ctx;
    size_t root = strlen(c->from.root);

    c->happened++;
    if (root > 0 && !is_within(path, c->from.root))
        return;
    const char *below = strcmp(path, "/") == 0 ? "" : path + root;
    if (!is_left_alone(c, below))
        copy_look_at(c, below, type != WATCH_DATA_CHANGED);
}

void copy_on_event(void *ctx, enum client_event ev)
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
