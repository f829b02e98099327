/* SPDX-License-Identifier: Apache-2.0 */
#include "client/mirror.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "wire/path.h"

struct node {
    size_t parent_len, len; /* of the path: "/a" of "/a/b" is 2 and 4 */
    uint64_t listed;        /* the number of the last list that it stood in */
    bool is_gone;           /* only while remove_missing() works */
    uint8_t *data;
    int32_t data_len; /* -1: null */
    struct client_stat stat;
    char path[];
};

/* A path that has to be read, or is being read. Both wants may be set while it is in
 * flight: then what is coming may be too old, and it is read once more. */
struct task {
    struct hash_link link;
    struct task *next; /* in the queue */
    struct mirror *m;
    bool want_data, want_children, is_queued;
    unsigned in_flight;
    uint64_t asked_ms;
    char path[];
};

struct root {
    struct mirror *m;
    char *path;
    bool is_watched; /* a server has confirmed it: the client sets it again from then on */
};

struct mirror {
    struct client *c;
    void (*on_change)(void *ctx);
    void *ctx;
    struct root roots[MIRROR_ROOTS_MAX];
    unsigned roots_n;
    uint64_t hash_key;
    uint64_t lists; /* counts them */

    struct node **nodes; /* sorted by parent, then by name: children stand together */
    size_t n, cap, bytes;

    struct hash_table tasks;
    struct task *queue, **queue_last;
    unsigned in_flight, watching; /* reads, addWatches */
    bool connected, lost_track, pumping;
    bool full, has_shrunk; /* something is left out; and something else has gone since */

    bool was_complete, changed;
    uint64_t as_of_ms;    /* kept when it stops being complete */
    uint64_t complete_ms; /* what it was complete at */
};

/* ---- nodes ---- */

static int compare_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return d != 0 ? d : (a_len > b_len) - (a_len < b_len);
}

/* A name under a parent; the root itself is the name "" under "/". */
struct key {
    const char *parent, *name;
    size_t parent_len, name_len;
};

static struct key key_of(const char *path, size_t len)
{
    size_t at = path_name_at(path, len);

    return (struct key){path, path + at, path_parent_len(path, len), len - at};
}

static size_t lower_bound(const struct mirror *m, struct key k)
{
    size_t low = 0, high = m->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        struct key at = key_of(m->nodes[mid]->path, m->nodes[mid]->len);
        int d = compare_text(at.parent, at.parent_len, k.parent, k.parent_len);
        if (d == 0)
            d = compare_text(at.name, at.name_len, k.name, k.name_len);
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* True and where it is, or false and where it would be. */
static bool find(const struct mirror *m, const char *path, size_t len, size_t *at)
{
    *at = lower_bound(m, key_of(path, len));
    return *at < m->n && m->nodes[*at]->len == len &&
           memcmp(m->nodes[*at]->path, path, len) == 0;
}

static size_t weight(const struct node *n)
{
    return sizeof *n + n->len + (n->data_len > 0 ? (size_t)n->data_len : 0);
}

static void node_free(struct node *n)
{
    mem_free(n->data);
    mem_free(n);
}

static void remove_gone(struct mirror *m)
{
    size_t kept = 0;

    for (size_t i = 0; i < m->n; i++) {
        struct node *n = m->nodes[i];
        if (n->is_gone) {
            m->bytes -= weight(n);
            node_free(n);
            m->changed = m->has_shrunk = true;
        } else {
            m->nodes[kept++] = n;
        }
    }
    m->n = kept;
}

/* With everything below it: where a node is gone, so are its descendants. */
static void remove_tree(struct mirror *m, const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < m->n; i++) {
        struct node *n = m->nodes[i];
        n->is_gone = path_is_within(n->path, n->len, path, len);
    }
    remove_gone(m);
}

static struct node *insert(struct mirror *m, const char *path, size_t at)
{
    size_t len = strlen(path);
    struct node *n = mem_alloc(sizeof *n + len + 1);

    n->len = len;
    n->parent_len = path_parent_len(path, len);
    n->data_len = -1;
    memcpy(n->path, path, len + 1);
    mem_grow(m->nodes, m->cap, m->n + 1);
    memmove(m->nodes + at + 1, m->nodes + at, (m->n - at) * sizeof m->nodes[0]);
    m->nodes[at] = n;
    m->n++;
    m->bytes += weight(n);
    return n;
}

static bool same_data(const struct node *n, const struct client_reply *r)
{
    return n->data_len == r->len &&
           (r->len <= 0 || memcmp(n->data, r->data, (size_t)r->len) == 0);
}

static bool is_below(const char *path, const struct root *root)
{
    return path_is_within(path, strlen(path), root->path, strlen(root->path));
}

/* For one more of so many bytes. The first root is not crowded out by the others: they have
 * three quarters of the room. */
static bool has_room(const struct mirror *m, const char *path, size_t bytes)
{
    size_t part = is_below(path, &m->roots[0]) ? 4 : 3;

    return m->n < MIRROR_NODES_MAX / 4 * part &&
           m->bytes + bytes <= MIRROR_BYTES_MAX / 4 * part;
}

static void store(struct mirror *m, const char *path, const struct client_reply *r)
{
    size_t at, data_len = r->len > 0 ? (size_t)r->len : 0;
    bool is_new = !find(m, path, strlen(path), &at);

    if (is_new && !has_room(m, path, sizeof(struct node) + strlen(path) + data_len)) {
        m->full = true;
        return;
    }
    struct node *n = is_new ? insert(m, path, at) : m->nodes[at];
    if (is_new || n->stat.mzxid != r->stat.mzxid || n->stat.czxid != r->stat.czxid ||
        n->stat.ephemeral_owner != r->stat.ephemeral_owner || !same_data(n, r)) {
        m->bytes -= weight(n);
        mem_free(n->data);
        n->data = data_len > 0 ? mem_dup(r->data, data_len) : NULL;
        n->data_len = r->len;
        m->bytes += weight(n);
        m->changed = true;
    }
    n->stat = r->stat;
    if (m->bytes > MIRROR_BYTES_MAX) {
        remove_tree(m, path);
        m->full = true;
    }
}

/* ---- what has to be read ---- */

static struct task *task_find(const struct mirror *m, const char *path, uint64_t hash)
{
    for (struct hash_link *l = hash_first(&m->tasks, hash); l != NULL; l = hash_next(l)) {
        struct task *t = HASH_ENTRY(l, struct task, link);
        if (strcmp(t->path, path) == 0)
            return t;
    }
    return NULL;
}

static void enqueue(struct mirror *m, struct task *t)
{
    t->is_queued = true;
    t->next = NULL;
    *m->queue_last = t;
    m->queue_last = &t->next;
}

static struct task *dequeue(struct mirror *m)
{
    struct task *t = m->queue;

    m->queue = t->next;
    if (m->queue == NULL)
        m->queue_last = &m->queue;
    t->is_queued = false;
    return t;
}

/* False: there are too many already. */
static bool mark(struct mirror *m, const char *path, bool data, bool children)
{
    uint64_t hash = hash_bytes(m->hash_key, path, strlen(path));
    struct task *t = task_find(m, path, hash);

    if (t == NULL && m->tasks.count >= MIRROR_NODES_MAX)
        return false;
    if (t == NULL) {
        t = mem_alloc(sizeof *t + strlen(path) + 1);
        memcpy(t->path, path, strlen(path) + 1);
        t->m = m;
        hash_insert(&m->tasks, &t->link, hash);
    }
    t->want_data |= data;
    t->want_children |= children;
    if (!t->is_queued && t->in_flight == 0)
        enqueue(m, t);
    return true;
}

static void task_done(struct mirror *m, struct task *t)
{
    CHECK(t->in_flight > 0 && m->in_flight > 0);
    t->in_flight--;
    m->in_flight--;
    if (t->in_flight > 0)
        return;
    if (t->want_data || t->want_children) {
        enqueue(m, t);
        return;
    }
    hash_remove(&m->tasks, &t->link);
    mem_free(t);
}

/* What the last good moment was, seen from now: an answered question confirms that every
 * event before it has come. */
static uint64_t whole_at(const struct mirror *m)
{
    uint64_t until = client_alive_until(m->c), trust_ms = client_trust_ms(m->c);

    if (until > trust_ms && until - trust_ms > m->complete_ms)
        return until - trust_ms;
    return m->complete_ms;
}

static bool is_complete(const struct mirror *m)
{
    for (unsigned i = 0; i < m->roots_n; i++)
        if (!m->roots[i].is_watched)
            return false;
    return m->connected && m->tasks.count == 0 && m->watching == 0 && !m->lost_track;
}

/* After anything that happened. asked_ms: when the question was sent that was answered. */
static void settle(struct mirror *m, uint64_t asked_ms)
{
    bool complete = is_complete(m);

    if (complete && !m->was_complete) {
        m->complete_ms = asked_ms;
        m->changed = true;
    }
    if (!complete && m->was_complete)
        m->as_of_ms = whole_at(m);
    m->was_complete = complete;
    if (m->changed) {
        m->changed = false;
        m->on_change(m->ctx);
    }
}

static void pump(struct mirror *m);

/* The connection is gone; what the client tells next says so. */
static bool is_over(const struct client_reply *r)
{
    return r->err == ERR_CONNECTION_LOST || r->err == ERR_SESSION_EXPIRED;
}

static void got_data(void *ctx, const struct client_reply *r)
{
    struct task *t = ctx;
    struct mirror *m = t->m;
    uint64_t asked_ms = t->asked_ms;

    if (is_over(r))
        m->connected = false;
    else if (r->err == 0)
        store(m, t->path, r);
    else if (err_advice(r->err) == ERR_RETRY)
        t->want_data = true;
    else
        remove_tree(m, t->path);
    task_done(m, t);
    pump(m);
    settle(m, asked_ms);
}

/* The path of path's child that is `n` or above it; 0: n is not below path. */
static size_t child_above(const struct node *n, const char *path, size_t len)
{
    size_t at = len == 1 ? 1 : len + 1;

    if (n->len <= at || !path_is_within(n->path, n->len, path, len))
        return 0;
    while (at < n->len && n->path[at] != '/')
        at++;
    return at;
}

static void child_path(struct buf *out, const char *path, const char *name)
{
    buf_clear(out);
    buf_add_str(out, strcmp(path, "/") == 0 ? "" : path);
    buf_add_u8(out, '/');
    buf_add_str(out, name);
    buf_text(out);
}

/* Its children stand together, and so do all that are deeper. */
static bool has_below(const struct mirror *m, const char *path, size_t len)
{
    struct buf deeper = {0};

    size_t at = lower_bound(m, (struct key){path, "", len, 0});
    bool found = at < m->n && path_is_within(m->nodes[at]->path, m->nodes[at]->len, path, len);
    buf_printf(&deeper, "%s/", path);
    at = lower_bound(m, (struct key){(const char *)deeper.data, "", deeper.len, 0});
    found |= at < m->n && path_is_within(m->nodes[at]->path, m->nodes[at]->len, path, len);
    buf_free(&deeper);
    return found || len == 1;
}

/* Forgets the children that we have and the server has not any more, all in one pass. */
static void remove_missing(struct mirror *m, const char *path, const struct client_reply *r)
{
    size_t at, len = strlen(path);
    struct buf child = {0};

    if (!has_below(m, path, len))
        return;
    m->lists++;
    for (size_t i = 0; i < r->children_n; i++) {
        child_path(&child, path, r->children[i]);
        if (find(m, (const char *)child.data, child.len, &at))
            m->nodes[at]->listed = m->lists;
    }
    buf_free(&child);
    for (size_t i = 0; i < m->n; i++) {
        struct node *n = m->nodes[i];
        size_t above = child_above(n, path, len);
        n->is_gone =
            above > 0 && (!find(m, n->path, above, &at) || m->nodes[at]->listed != m->lists);
    }
    remove_gone(m);
}

static void mark_children(struct mirror *m, const char *path, const struct client_reply *r)
{
    struct buf child = {0};

    for (size_t i = 0; i < r->children_n; i++) {
        child_path(&child, path, r->children[i]);
        m->full |= !mark(m, (const char *)child.data, true, true); /* more than it holds */
    }
    buf_free(&child);
}

static void got_children(void *ctx, const struct client_reply *r)
{
    struct task *t = ctx;
    struct mirror *m = t->m;
    uint64_t asked_ms = t->asked_ms;

    if (is_over(r)) {
        m->connected = false;
    } else if (r->err == 0) {
        remove_missing(m, t->path, r);
        mark_children(m, t->path, r);
    } else if (err_advice(r->err) == ERR_RETRY) {
        t->want_children = true;
    } else {
        remove_tree(m, t->path);
    }
    task_done(m, t);
    pump(m);
    settle(m, asked_ms);
}

static void resync(struct mirror *m)
{
    m->lost_track = m->full = m->has_shrunk = false;
    for (unsigned i = 0; i < m->roots_n; i++)
        (void)mark(m, m->roots[i].path, true, true); /* the first ones */
}

/* What was left out fits now, whatever it is: else everything would be read again and again
 * for nothing. */
static bool has_room_again(const struct mirror *m)
{
    return m->full && m->has_shrunk && m->n < MIRROR_NODES_MAX / 2 &&
           m->bytes < MIRROR_BYTES_MAX / 2;
}

static void pump(struct mirror *m)
{
    if (m->pumping)
        return;
    m->pumping = true;
    if (m->connected && m->tasks.count == 0 && (m->lost_track || has_room_again(m)))
        resync(m);
    while (m->connected && m->queue != NULL && m->in_flight < MIRROR_READS_MAX) {
        struct task *t = dequeue(m);
        bool data = t->want_data, children = t->want_children;
        t->want_data = t->want_children = false;
        t->in_flight = (unsigned)data + (unsigned)children;
        m->in_flight += t->in_flight;
        t->asked_ms = client_now(m->c);
        if (data)
            client_get(m->c, t->asked_ms, t->path, false, got_data, t);
        if (children)
            client_children(m->c, client_now(m->c), t->path, false, got_children, t);
    }
    m->pumping = false;
}

/* ---- what the client tells ---- */

static void watch_root(struct root *root);

static void got_watch(void *ctx, const struct client_reply *r)
{
    struct root *root = ctx;
    struct mirror *m = root->m;

    CHECK(m->watching > 0);
    m->watching--;
    if (is_over(r))
        m->connected = false;
    else if (r->err == 0)
        root->is_watched = true;
    else if (err_advice(r->err) == ERR_RETRY && m->connected)
        watch_root(root);
    /* What was read before the watch was set may have changed unseen. */
    if (r->err == 0)
        m->lost_track |= !mark(m, root->path, true, true);
    pump(m);
    settle(m, client_now(m->c));
}

static void watch_root(struct root *root)
{
    struct mirror *m = root->m;

    m->watching++;
    client_add_watch(m->c, client_now(m->c), root->path, true, got_watch, root);
}

static void forget_tasks(struct mirror *m)
{
    struct hash_walk walk;

    for (struct hash_link *l = hash_walk_first(&m->tasks, &walk); l != NULL;
         l = hash_walk_next(&m->tasks, &walk)) {
        struct task *t = HASH_ENTRY(l, struct task, link);
        if (t->in_flight == 0) {
            hash_remove(&m->tasks, l);
            mem_free(t);
        } else {
            t->is_queued = t->want_data = t->want_children = false;
        }
    }
    m->queue = NULL;
    m->queue_last = &m->queue;
}

/* Where a watch is still to be set, its answer starts the reading. */
static void start(struct mirror *m)
{
    m->lost_track = m->full = m->has_shrunk = false;
    for (unsigned i = 0; i < m->roots_n; i++) {
        if (m->roots[i].is_watched)
            (void)mark(m, m->roots[i].path, true, true); /* the first ones */
        else
            watch_root(&m->roots[i]);
    }
    pump(m);
}

void mirror_client_event(struct mirror *m, uint64_t now_ms, enum client_event ev)
{
    m->connected = ev == CLIENT_EV_CONNECTED;
    forget_tasks(m);
    if (m->connected)
        start(m);
    settle(m, now_ms);
}

static bool is_ours(const struct mirror *m, const char *path)
{
    for (unsigned i = 0; i < m->roots_n; i++)
        if (is_below(path, &m->roots[i]))
            return true;
    return false;
}

/* Every change of a child has an event of its own, so the node's list of children need not
 * be read again. */
void mirror_client_watch(struct mirror *m, uint64_t now_ms, int type, const char *path)
{
    (void)type;
    if (!m->connected || !is_ours(m, path))
        return;
    m->lost_track |= !mark(m, path, true, false);
    pump(m);
    settle(m, now_ms);
}

/* ---- life ---- */

struct mirror *mirror_new(struct client *c, const char *const *roots,
                          void (*on_change)(void *ctx), void *ctx)
{
    struct mirror *m = mem_new(struct mirror);

    m->c = c;
    m->hash_key = hash_u64((uintptr_t)m); /* its order is never seen */
    m->on_change = on_change;
    m->ctx = ctx;
    m->queue_last = &m->queue;
    for (; roots[m->roots_n] != NULL; m->roots_n++) {
        CHECK(m->roots_n < MIRROR_ROOTS_MAX);
        m->roots[m->roots_n] = (struct root){m, mem_dup_str(roots[m->roots_n]), false};
    }
    return m;
}

void mirror_free(struct mirror *m)
{
    struct hash_walk walk;

    if (m == NULL)
        return;
    for (struct hash_link *l = hash_walk_first(&m->tasks, &walk); l != NULL;
         l = hash_walk_next(&m->tasks, &walk))
        mem_free(HASH_ENTRY(l, struct task, link));
    hash_free(&m->tasks);
    for (size_t i = 0; i < m->n; i++)
        node_free(m->nodes[i]);
    for (unsigned i = 0; i < m->roots_n; i++)
        mem_free(m->roots[i].path);
    mem_free(m->nodes);
    mem_free(m);
}

/* ---- facts ---- */

static void show(const struct node *n, struct mirror_node *out)
{
    *out = (struct mirror_node){n->path, n->data, n->data_len, n->stat};
}

bool mirror_get(const struct mirror *m, const char *path, struct mirror_node *out)
{
    size_t at;

    if (*path != '/' || !find(m, path, strlen(path), &at))
        return false;
    show(m->nodes[at], out);
    return true;
}

bool mirror_child_next(const struct mirror *m, const char *path, const char *after,
                       struct mirror_node *out)
{
    size_t at = lower_bound(m, (struct key){path, after, strlen(path), strlen(after)});

    for (; at < m->n; at++) {
        const struct node *n = m->nodes[at];
        const char *name = n->path + path_name_at(n->path, n->len);
        if (compare_text(n->path, n->parent_len, path, strlen(path)) != 0)
            return false;
        if (strcmp(name, after) > 0) {
            show(n, out);
            return true;
        }
    }
    return false;
}

bool mirror_is_complete(const struct mirror *m) { return is_complete(m); }

uint64_t mirror_as_of(const struct mirror *m)
{
    return m->was_complete ? whole_at(m) : m->as_of_ms;
}

bool mirror_is_full(const struct mirror *m) { return m->full; }
