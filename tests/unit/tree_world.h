/* SPDX-License-Identifier: Apache-2.0 */
/* tree_world.h -- for the tests of src/tree: a tree, its watches, one client's session, and
 * short ways to ask for things. Events are gathered as text: "<watcher> <event> <path>\n".
 */
#ifndef TREE_WORLD_H
#define TREE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/rng.h"
#include "tree/tree.h"
#include "wire/wire.h"

#define BASE 0x0100000000000000

struct world {
    struct tree *tree;
    struct watches *watches;
    int64_t zxid, time_ms, session;
    struct tree_origin origin;
    struct buf body, reply, events, acl;
    int32_t acl_n;
    struct buf ids; /* of whoever acts and watches */
    int32_t ids_n;
    uint8_t rules;
    uint32_t bytes_max;
    bool was_full;         /* the last entry was refused because of it */
    struct wire_stat stat; /* of the last answer that had one */
    char path[256];        /* of the last create */
};

static inline struct wire_list ids_of(const struct world *w)
{
    return (struct wire_list){w->ids.data, w->ids.len, w->ids_n};
}

static inline void world_sink(void *ctx, uint64_t watcher, enum watch_event event,
                              const char *path, size_t len, const struct wire_list *acl)
{
    static const char *const names[] = {"?", "created", "deleted", "data", "children"};
    struct world *w = ctx;

    if (acl != NULL && !tree_acl_lets(*acl, ids_of(w), WIRE_PERM_READ))
        return;
    buf_printf(&w->events, "%d %s %.*s\n", (int)watcher, names[event], (int)len, path);
}

static inline struct wire_bytes text_of(const char *s) { return wire_bytes(s, strlen(s)); }

/* From now on it is somebody who is this, too. */
static inline void id_more(struct world *w, const char *scheme, const char *id)
{
    const struct wire_id x = {text_of(scheme), text_of(id)};

    wire_id_encode(&x, &w->ids);
    w->ids_n++;
}

static inline void id_none(struct world *w)
{
    buf_clear(&w->ids);
    w->ids_n = 0;
}

static inline void acl_set(struct world *w, int32_t perms, const char *scheme, const char *id)
{
    struct wire_acl a = {perms, text_of(scheme), text_of(id)};

    buf_clear(&w->acl);
    wire_acl_encode(&a, &w->acl);
    w->acl_n = 1;
}

static inline void acl_more(struct world *w, int32_t perms, const char *scheme, const char *id)
{
    struct wire_acl a = {perms, text_of(scheme), text_of(id)};

    wire_acl_encode(&a, &w->acl);
    w->acl_n++;
}

static inline struct wire_list acl_of(const struct world *w)
{
    return (struct wire_list){w->acl.data, w->acl_n > 0 ? w->acl.len : 0, w->acl_n};
}

static inline int apply_txn(struct world *w, struct tree_txn *txn, int64_t *session)
{
    struct tree_result r = {.reply = &w->reply};
    struct buf form = {0};
    struct tree_txn back;

    /* Always through the form in which it stands in the log. */
    tree_txn_encode(txn, &form);
    assert_int_equal(tree_txn_decode(&back, form.data, form.len), 0);
    buf_clear(&w->reply);
    tree_apply(w->tree, ++w->zxid, &back, w->watches, &r);
    w->was_full = r.is_full;
    if (r.err != 0)
        assert_int_equal(w->reply.len, 0);
    if (session != NULL)
        *session = r.session;
    buf_free(&form);
    return r.err;
}

static inline int apply(struct world *w, int32_t op)
{
    struct tree_txn txn = {.op = op,
                           .session = w->session,
                           .time_ms = w->time_ms,
                           .origin = w->origin,
                           .rules = w->rules,
                           .bytes_max = w->bytes_max,
                           .ids = ids_of(w),
                           .body = w->body.data,
                           .len = w->body.len};

    return apply_txn(w, &txn, NULL);
}

static inline int64_t session_new(struct world *w, uint64_t conn)
{
    struct tree_txn txn = {.op = TREE_OP_CREATE_SESSION,
                           .time_ms = w->time_ms,
                           .origin = {1, conn},
                           .timeout_ms = 4000,
                           .password = "0123456789abcde"};
    int64_t id = 0;

    assert_int_equal(apply_txn(w, &txn, &id), 0);
    return id;
}

static inline struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof *w);

    w->tree = tree_new(42);
    w->watches = watches_new(43, world_sink, w);
    w->time_ms = 1000000;
    w->origin = (struct tree_origin){1, 7};
    acl_set(w, WIRE_PERM_ALL, "world", "anyone");
    w->session = session_new(w, 7);
    return w;
}

static inline void world_free(struct world *w)
{
    tree_free(w->tree);
    watches_free(w->watches);
    buf_free(&w->body);
    buf_free(&w->reply);
    buf_free(&w->events);
    buf_free(&w->acl);
    buf_free(&w->ids);
    free(w);
}

static inline struct wire_in answer(const struct world *w)
{
    return wire_in(w->reply.data, w->reply.len);
}

/* What events there were since the last time. */
static inline void assert_events(struct world *w, const char *expected)
{
    assert_string_equal(buf_text(&w->events), expected);
    buf_clear(&w->events);
}

static inline void keep_path(struct world *w, struct wire_bytes path)
{
    assert_true((size_t)path.len < sizeof w->path);
    memcpy(w->path, path.data, (size_t)path.len);
    w->path[path.len] = 0;
}

/* data NULL: null */
static inline int create_bytes(struct world *w, int32_t op, struct wire_bytes path,
                               const char *data, int32_t flags)
{
    struct wire_bytes d = {NULL, -1};
    struct wire_create_request r = {path, data != NULL ? text_of(data) : d, acl_of(w), flags};

    buf_clear(&w->body);
    wire_create_request_encode(&r, &w->body);
    if (op == WIRE_OP_CREATE_TTL)
        buf_add_be64(&w->body, (uint64_t)-1);
    int err = apply(w, op);
    struct wire_in in = answer(w);
    if (err == 0 && op == WIRE_OP_CREATE) {
        struct wire_path_response a;
        assert_int_equal(wire_path_response_decode(&a, &in), 0);
        keep_path(w, a.path);
    } else if (err == 0) {
        struct wire_create2_response a;
        assert_int_equal(wire_create2_response_decode(&a, &in), 0);
        keep_path(w, a.path);
        w->stat = a.stat;
    }
    if (err == 0)
        assert_ptr_equal(in.at, in.end);
    return err;
}

static inline int create(struct world *w, const char *path, const char *data, int32_t flags)
{
    return create_bytes(w, WIRE_OP_CREATE2, text_of(path), data, flags);
}

static inline int delete_bytes(struct world *w, struct wire_bytes path, int32_t version)
{
    struct wire_path_version_request r = {path, version};

    buf_clear(&w->body);
    wire_path_version_request_encode(&r, &w->body);
    return apply(w, WIRE_OP_DELETE);
}

static inline int remove_node(struct world *w, const char *path, int32_t version)
{
    return delete_bytes(w, text_of(path), version);
}

static inline void keep_stat(struct world *w)
{
    struct wire_stat_response a;
    struct wire_in in = answer(w);

    assert_int_equal(wire_stat_response_decode(&a, &in), 0);
    assert_ptr_equal(in.at, in.end);
    w->stat = a.stat;
}

static inline int set_data(struct world *w, const char *path, const char *data, int32_t version)
{
    struct wire_bytes d = {NULL, -1};
    struct wire_set_data_request r = {text_of(path), data != NULL ? text_of(data) : d, version};

    buf_clear(&w->body);
    wire_set_data_request_encode(&r, &w->body);
    int err = apply(w, WIRE_OP_SET_DATA);
    if (err == 0)
        keep_stat(w);
    return err;
}

static inline int set_acl(struct world *w, const char *path, int32_t version)
{
    struct wire_set_acl_request r = {text_of(path), acl_of(w), version};

    buf_clear(&w->body);
    wire_set_acl_request_encode(&r, &w->body);
    int err = apply(w, WIRE_OP_SET_ACL);
    if (err == 0)
        keep_stat(w);
    return err;
}

static inline int read_body(struct world *w, uint64_t watcher, int32_t op)
{
    buf_clear(&w->reply);
    const struct tree_caller caller = {watcher, w->session, w->rules, ids_of(w)};
    int err = tree_read(w->tree, w->watches, &caller, op, w->body.data, w->body.len, &w->reply);
    if (err != 0)
        assert_int_equal(w->reply.len, 0);
    return err;
}

/* exists, getData, getChildren, getChildren2; watcher 0: no watch. Keeps the Stat. */
static inline int read_path(struct world *w, int32_t op, struct wire_bytes path,
                            uint64_t watcher)
{
    struct wire_path_watch_request r = {path, watcher != 0};

    buf_clear(&w->body);
    wire_path_watch_request_encode(&r, &w->body);
    int err = read_body(w, watcher, op);
    if (err == 0 && op != WIRE_OP_GET_CHILDREN) {
        struct wire_in in =
            wire_in(w->reply.data + w->reply.len - 68, 68); /* the Stat stands last */
        assert_int_equal(wire_stat_decode(&w->stat, &in), 0);
    }
    return err;
}

static inline int exists(struct world *w, const char *path, uint64_t watcher)
{
    return read_path(w, WIRE_OP_EXISTS, text_of(path), watcher);
}

static inline int get_data(struct world *w, const char *path, uint64_t watcher)
{
    return read_path(w, WIRE_OP_GET_DATA, text_of(path), watcher);
}

static inline int get_children(struct world *w, const char *path, uint64_t watcher)
{
    return read_path(w, WIRE_OP_GET_CHILDREN2, text_of(path), watcher);
}

static inline int add_watch(struct world *w, const char *path, int32_t mode, uint64_t watcher)
{
    struct wire_add_watch_request r = {text_of(path), mode};

    buf_clear(&w->body);
    wire_add_watch_request_encode(&r, &w->body);
    return read_body(w, watcher, WIRE_OP_ADD_WATCH);
}

static inline int close_session(struct world *w, int64_t id, struct tree_origin origin)
{
    struct tree_txn txn = {.op = TREE_OP_CLOSE_SESSION, .session = id, .origin = origin};

    return apply_txn(w, &txn, NULL);
}

/* Saves and loads the tree, and goes on with the loaded one, which must be the same. */
static inline void reload(struct world *w)
{
    struct buf b = {0};

    tree_save(w->tree, &b);
    struct tree *t = tree_load(99, b.data, b.len);
    assert_non_null(t);
    assert_true(tree_digest(t) == tree_digest(w->tree));
    assert_true(tree_zxid(t) == tree_zxid(w->tree));
    assert_int_equal(tree_bytes(t), tree_bytes(w->tree));
    assert_true(b.len <= tree_bytes(t));
    tree_free(w->tree);
    w->tree = t;
    buf_free(&b);
}

#endif
