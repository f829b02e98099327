/* SPDX-License-Identifier: Apache-2.0 */
/* read.c -- what is answered from one replica: reads, and the watches they leave. */
#include <string.h>

#include "base/err.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "tree/state.h"

/* One request, as the functions below see it. */
struct reading {
    struct tree *t;
    struct watches *watches; /* may be NULL */
    const struct tree_caller *caller;
    int32_t op;
    struct wire_in in;
    struct buf *reply;
};

static const char *text(struct wire_bytes b) { return (const char *)b.data; }

static uint32_t find(const struct reading *r, struct wire_bytes path)
{
    return nodes_find(&r->t->nodes, text(path), (size_t)path.len);
}

static bool may(const struct reading *r, uint32_t id, int32_t perms)
{
    return tree_may(r->t, id, r->caller->ids, r->caller->rules, perms);
}

static void watch(const struct reading *r, enum watch_kind kind, struct wire_bytes path)
{
    if (r->watches != NULL)
        watches_add(r->watches, r->caller->watcher, kind, text(path), (size_t)path.len);
}

static int exists(struct reading *r)
{
    struct wire_path_watch_request q;
    int err = wire_path_watch_request_decode(&q, &r->in);

    if (err != 0)
        return err;
    if (q.path.len > 0 && memchr(q.path.data, 0, (size_t)q.path.len) != NULL)
        return ERR_BAD_ARGUMENTS;
    uint32_t id = find(r, q.path);
    if (id != NODE_NONE && !may(r, id, WIRE_PERM_READ))
        return ERR_NO_AUTH;
    if (q.watch)
        watch(r, WATCH_DATA, q.path);
    if (id == NODE_NONE)
        return ERR_NO_NODE;
    struct wire_stat_response a = {tree_stat(r->t, id)};
    wire_stat_response_encode(&a, r->reply);
    return 0;
}

/* Decodes a path and a watch flag, finds the znode, and sets the watch if it is there. */
static int find_and_watch(struct reading *r, enum watch_kind kind, uint32_t *id)
{
    struct wire_path_watch_request q;
    int err = wire_path_watch_request_decode(&q, &r->in);

    if (err != 0)
        return err;
    *id = find(r, q.path);
    if (*id == NODE_NONE)
        return ERR_NO_NODE;
    if (!may(r, *id, WIRE_PERM_READ))
        return ERR_NO_AUTH;
    if (q.watch)
        watch(r, kind, q.path);
    return 0;
}

static int get_data(struct reading *r)
{
    uint32_t id;
    int err = find_and_watch(r, WATCH_DATA, &id);

    if (err != 0)
        return err;
    const struct node *v = nodes_at(&r->t->nodes, id);
    struct wire_data_response a = {{nodes_data(&r->t->nodes, id), v->data_len},
                                   tree_stat(r->t, id)};
    wire_data_response_encode(&a, r->reply);
    return 0;
}

/* Serves getChildren too, whose answer is the same without the Stat. */
static int get_children(struct reading *r)
{
    struct buf *names = &r->t->answer;
    const struct nodes *nodes = &r->t->nodes;
    uint32_t id;
    int err = find_and_watch(r, WATCH_CHILD, &id);

    if (err != 0)
        return err;
    struct family f = nodes_family_get(nodes, id);
    buf_clear(names);
    for (uint32_t c = f.first; c != NODE_NONE; c = nodes_at(nodes, c)->next) {
        size_t len;
        const char *name = nodes_name(nodes, c, &len);
        wire_text_encode(name, len, names);
    }
    struct wire_children2_response a = {{names->data, names->len, (int32_t)f.children},
                                        tree_stat(r->t, id)};
    if (r->op == WIRE_OP_GET_CHILDREN) {
        struct wire_children_response plain = {a.children};
        wire_children_response_encode(&plain, r->reply);
    } else {
        wire_children2_response_encode(&a, r->reply);
    }
    return 0;
}

static int get_acl(struct reading *r)
{
    struct wire_path_request q;
    int err = wire_path_request_decode(&q, &r->in);

    if (err != 0)
        return err;
    uint32_t id = find(r, q.path);
    if (id == NODE_NONE)
        return ERR_NO_NODE;
    if (!may(r, id, WIRE_PERM_READ | WIRE_PERM_ADMIN))
        return ERR_NO_AUTH;
    const struct acl *acl = acls_at(&r->t->acls, nodes_at(&r->t->nodes, id)->acl);
    struct wire_acl_response a = {{acl->bytes, acl->len, acl->count}, tree_stat(r->t, id)};
    if (!may(r, id, WIRE_PERM_ADMIN)) {
        buf_clear(&r->t->answer);
        acl_mask(a.acl, &r->t->answer);
        a.acl.data = r->t->answer.data;
        a.acl.len = r->t->answer.len;
    }
    wire_acl_response_encode(&a, r->reply);
    return 0;
}

static int get_all_children_number(struct reading *r)
{
    const struct nodes *nodes = &r->t->nodes;
    struct wire_path_request q;
    struct wire_count_response a = {0};
    int err = wire_path_request_decode(&q, &r->in);

    if (err != 0)
        return err;
    uint32_t id = find(r, q.path);
    if (id == NODE_NONE)
        return ERR_NO_NODE;
    if (!may(r, id, WIRE_PERM_READ))
        return ERR_NO_AUTH;
    if (id == NODE_ROOT)
        a.count = (int32_t)(nodes->count - 1);
    else
        for (uint32_t c = nodes_below_next(nodes, id, id); c != NODE_NONE;
             c = nodes_below_next(nodes, id, c))
            a.count++;
    wire_count_response_encode(&a, r->reply);
    return 0;
}

static bool is_blank(struct wire_bytes b)
{
    for (int32_t i = 0; i < b.len; i++)
        if (b.data[i] > ' ')
            return false;
    return true;
}

static int get_ephemerals(struct reading *r)
{
    struct tree *t = r->t;
    struct wire_get_ephemerals_request q;
    int err = wire_get_ephemerals_request_decode(&q, &r->in);

    if (err != 0)
        return err;
    size_t prefix_len = is_blank(q.prefix) ? 0 : (size_t)q.prefix.len;
    const struct session *x = sessions_find(&t->sessions, r->caller->session);
    int32_t count = 0;
    buf_clear(&t->answer);
    for (uint32_t e = x != NULL ? x->first : 0; e != 0; e = t->ephemerals.rows[e].next) {
        nodes_path(&t->nodes, t->ephemerals.rows[e].node, &t->path);
        if (t->path.len < prefix_len ||
            (prefix_len > 0 && memcmp(t->path.data, q.prefix.data, prefix_len) != 0))
            continue;
        wire_text_encode(t->path.data, t->path.len, &t->answer);
        count++;
    }
    struct wire_children_response a = {{t->answer.data, t->answer.len, count}};
    wire_children_response_encode(&a, r->reply);
    return 0;
}

static int add_watch(struct reading *r)
{
    struct wire_add_watch_request q;
    int err = wire_add_watch_request_decode(&q, &r->in);

    if (err == 0 && q.mode != WIRE_WATCH_PERSISTENT && q.mode != WIRE_WATCH_RECURSIVE)
        err = ERR_MALFORMED;
    if (err != 0)
        return err;
    watch(r, q.mode == WIRE_WATCH_RECURSIVE ? WATCH_RECURSIVE : WATCH_PERSISTENT, q.path);
    struct wire_error_response a = {0};
    wire_error_response_encode(&a, r->reply);
    return 0;
}

/* ZooKeeper 3.9's meaning: children and data are the kinds that serve once. */
static bool type_has(int32_t type, enum watch_kind kind)
{
    switch (type) {
    case WIRE_WATCHER_CHILDREN: return kind == WATCH_CHILD;
    case WIRE_WATCHER_DATA: return kind == WATCH_DATA;
    case WIRE_WATCHER_PERSISTENT: return kind == WATCH_PERSISTENT;
    case WIRE_WATCHER_RECURSIVE: return kind == WATCH_RECURSIVE;
    default: return type == WIRE_WATCHER_ANY;
    }
}

/* checkWatches and removeWatches */
static int find_watches(struct reading *r)
{
    static const enum watch_kind kinds[] = {WATCH_DATA, WATCH_CHILD, WATCH_PERSISTENT,
                                            WATCH_RECURSIVE};
    struct wire_watch_type_request q;
    int err = wire_watch_type_request_decode(&q, &r->in);
    bool any = false;

    if (err == 0 && (q.type < WIRE_WATCHER_CHILDREN || q.type > WIRE_WATCHER_RECURSIVE))
        err = ERR_MALFORMED;
    if (err != 0)
        return err;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && r->watches != NULL; i++) {
        if (!type_has(q.type, kinds[i]))
            continue;
        if (r->op == WIRE_OP_REMOVE_WATCHES)
            any |= watches_remove(r->watches, r->caller->watcher, kinds[i], text(q.path),
                                  (size_t)q.path.len);
        else
            any |= watches_has(r->watches, r->caller->watcher, kinds[i], text(q.path),
                               (size_t)q.path.len);
    }
    return any ? 0 : ERR_NO_WATCHER;
}

/* To a user his password is not shown, nor what has become of it: user:hash is only user. */
static int who_am_i(struct reading *r)
{
    struct buf *users = &r->t->answer;
    struct wire_list rest = r->caller->ids;
    struct wire_id id;

    buf_clear(users);
    while (wire_ids_next(&rest, &id)) {
        const uint8_t *colon =
            id.scheme.len == 6 && memcmp(id.scheme.data, "digest", 6) == 0 && id.id.len > 0
                ? memchr(id.id.data, ':', (size_t)id.id.len)
                : NULL;
        if (colon != NULL)
            id.id.len = (int32_t)(colon - id.id.data);
        wire_id_encode(&id, users);
    }
    const struct wire_who_am_i_response a = {{users->data, users->len, r->caller->ids.count}};
    wire_who_am_i_response_encode(&a, r->reply);
    return 0;
}

/* What a list of setWatches is about. */
enum again { AGAIN_DATA, AGAIN_EXIST, AGAIN_CHILD, AGAIN_PERSISTENT, AGAIN_RECURSIVE };

/* Tells what was missed since `zxid`, or sets the watch again. */
static void watch_again(const struct reading *r, enum again list, struct wire_bytes path,
                        int64_t zxid)
{
    uint32_t id = find(r, path);
    enum watch_kind kind = WATCH_DATA;
    int missed = 0;

    switch (list) {
    case AGAIN_DATA:
        if (id == NODE_NONE)
            missed = WATCH_DELETED;
        else if (nodes_changes(&r->t->nodes, id).mzxid > zxid)
            missed = WATCH_DATA_CHANGED;
        break;
    case AGAIN_EXIST:
        if (id != NODE_NONE)
            missed = WATCH_CREATED;
        break;
    case AGAIN_CHILD:
        kind = WATCH_CHILD;
        if (id == NODE_NONE)
            missed = WATCH_DELETED;
        else if (nodes_family_get(&r->t->nodes, id).pzxid > zxid)
            missed = WATCH_CHILDREN_CHANGED;
        break;
    case AGAIN_PERSISTENT: kind = WATCH_PERSISTENT; break;
    case AGAIN_RECURSIVE: kind = WATCH_RECURSIVE; break;
    }
    if (missed != 0)
        REACHED(tree_watch_missed);
    else if (list == AGAIN_PERSISTENT || list == AGAIN_RECURSIVE)
        REACHED(tree_watch_persistent_again);
    else
        REACHED(tree_watch_again);
    if (missed == 0 || MUTANT(watch_missed_untold))
        watch(r, kind, path);
    else if (r->watches != NULL)
        watches_emit(r->watches, r->caller->watcher, (enum watch_event)missed, text(path),
                     (size_t)path.len);
}

static int set_watches(struct reading *r)
{
    struct wire_set_watches2_request q = {0};

    if (r->op == WIRE_OP_SET_WATCHES2) {
        (void)wire_set_watches2_request_decode(&q, &r->in);
    } else {
        struct wire_set_watches_request old;
        (void)wire_set_watches_request_decode(&old, &r->in);
        q.relative_zxid = old.relative_zxid;
        q.data = old.data;
        q.exist = old.exist;
        q.child = old.child;
    }
    if (r->in.err != 0)
        return r->in.err;
    struct wire_list lists[] = {
        [AGAIN_DATA] = q.data,           [AGAIN_EXIST] = q.exist,
        [AGAIN_CHILD] = q.child,         [AGAIN_PERSISTENT] = q.persistent,
        [AGAIN_RECURSIVE] = q.recursive,
    };
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct wire_bytes path;
        while (wire_texts_next(&lists[i], &path))
            if (path.len >= 0)
                watch_again(r, (enum again)i, path, q.relative_zxid);
    }
    return 0;
}

bool tree_op_is_read(int32_t op)
{
    switch (op) {
    case WIRE_OP_EXISTS:
    case WIRE_OP_GET_DATA:
    case WIRE_OP_GET_CHILDREN:
    case WIRE_OP_GET_CHILDREN2:
    case WIRE_OP_GET_ACL:
    case WIRE_OP_GET_ALL_CHILDREN_NUMBER:
    case WIRE_OP_GET_EPHEMERALS:
    case WIRE_OP_MULTI_READ:
    case WIRE_OP_WHO_AM_I:
    case WIRE_OP_ADD_WATCH:
    case WIRE_OP_CHECK_WATCHES:
    case WIRE_OP_REMOVE_WATCHES:
    case WIRE_OP_SET_WATCHES:
    case WIRE_OP_SET_WATCHES2: return true;
    default: return false;
    }
}

static void put_header(struct buf *out, int32_t op, bool done, int32_t err)
{
    const struct wire_multi_header h = {op, done, err};

    wire_multi_header_encode(&h, out);
}

/* One read of several; it leaves no watch, whatever its flag says. */
static void read_part(struct reading *r, int32_t op)
{
    struct reading part = *r;
    size_t at = r->reply->len;

    part.op = op;
    part.watches = NULL;
    put_header(r->reply, op, false, 0);
    int err = op == WIRE_OP_GET_DATA ? get_data(&part) : get_children(&part);
    r->in = part.in;
    if (err == 0)
        return;
    const struct wire_error_response e = {err};
    r->reply->len = at;
    put_header(r->reply, WIRE_OP_ERROR, false, err);
    wire_error_response_encode(&e, r->reply);
}

/* Each part has its own result. Nothing is answered unless all can be decoded. */
static int multi_read(struct reading *r)
{
    struct wire_in in = r->in;
    struct wire_multi_header h;
    struct wire_path_watch_request q;
    size_t start = r->reply->len;

    do {
        if (wire_multi_header_decode(&h, &in) != 0)
            return ERR_MALFORMED;
        if (h.done)
            break;
        if ((h.op != WIRE_OP_GET_DATA && h.op != WIRE_OP_GET_CHILDREN) ||
            wire_path_watch_request_decode(&q, &in) != 0)
            return ERR_MALFORMED;
    } while (true);
    while (wire_multi_header_decode(&h, &r->in) == 0 && !h.done) {
        read_part(r, h.op);
        if (r->reply->len - start > TREE_MULTI_READ_BYTES_MAX) {
            r->reply->len = start;
            return ERR_MALFORMED;
        }
    }
    put_header(r->reply, -1, true, -1);
    return 0;
}

static int serve(struct reading *r)
{
    switch (r->op) {
    case WIRE_OP_EXISTS: return exists(r);
    case WIRE_OP_GET_DATA: return get_data(r);
    case WIRE_OP_GET_CHILDREN:
    case WIRE_OP_GET_CHILDREN2: return get_children(r);
    case WIRE_OP_GET_ACL: return get_acl(r);
    case WIRE_OP_GET_ALL_CHILDREN_NUMBER: return get_all_children_number(r);
    case WIRE_OP_GET_EPHEMERALS: return get_ephemerals(r);
    case WIRE_OP_MULTI_READ: return multi_read(r);
    case WIRE_OP_WHO_AM_I: return who_am_i(r);
    case WIRE_OP_ADD_WATCH: return add_watch(r);
    case WIRE_OP_CHECK_WATCHES:
    case WIRE_OP_REMOVE_WATCHES: return find_watches(r);
    case WIRE_OP_SET_WATCHES:
    case WIRE_OP_SET_WATCHES2: return set_watches(r);
    default: return ERR_UNIMPLEMENTED;
    }
}

int tree_read(struct tree *t, struct watches *watches, const struct tree_caller *caller,
              int32_t op, const uint8_t *body, size_t len, struct buf *reply)
{
    struct reading r = {t, watches, caller, op, wire_in(body, len), reply};
    int err = serve(&r);

    tree_scratch_trim(t);
    return err;
}
