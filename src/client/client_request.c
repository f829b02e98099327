/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "client/chroot.h"
#include "client/client_internal.h"
#include "wire/wire.h"

const char *client_full_path(struct client *c, const char *path)
{
    return chroot_full(c->chroot, path, &c->full);
}

void client_encode_create(struct client *c, const char *full, const void *data, size_t len,
                          int flags, struct buf *out)
{
    struct wire_acl everyone = {WIRE_PERM_ALL, wire_bytes("world", 5), wire_bytes("anyone", 6)};
    struct wire_acl creator = {WIRE_PERM_ALL, wire_bytes("auth", 4), wire_bytes("", 0)};
    struct buf acl = {0};
    int32_t acl_n = 1;

    if (c->auth != NULL) { /* others read only */
        everyone.perms = WIRE_PERM_READ;
        wire_acl_encode(&creator, &acl);
        acl_n++;
    }
    wire_acl_encode(&everyone, &acl);
    struct wire_create_request body = {
        .path = wire_bytes(full, strlen(full)),
        .data = wire_bytes(data, len),
        .acl = {acl.data, acl.len, acl_n},
        .flags = flags,
    };
    wire_create_request_encode(&body, out);
    buf_free(&acl);
}

static struct request *request(struct client *c, uint64_t now_ms, int32_t op, client_done *done,
                               void *ctx)
{
    struct request *r = mem_new(struct request);

    client_observe(c, now_ms);
    r->op = op;
    r->done = done;
    r->ctx = ctx;
    return r;
}

/* Lengths go over the wire as int32; what does not fit is refused before it is written. */
static bool refuse_big(struct request *r, size_t len)
{
    if (len <= CLIENT_REQUEST_MAX)
        return false;
    pending_request_end(r, ERR_TOO_BIG);
    return true;
}

void client_create(struct client *c, uint64_t now_ms, const char *path, const void *data,
                   size_t len, int flags, client_done *done, void *ctx)
{
    int32_t op = flags == WIRE_CONTAINER ? WIRE_OP_CREATE_CONTAINER : WIRE_OP_CREATE2;
    struct request *r = request(c, now_ms, op, done, ctx);

    if (refuse_big(r, len) || refuse_big(r, strlen(path)))
        return;
    client_encode_create(c, client_full_path(c, path), data, len, flags, &r->body);
    client_submit(c, r);
}

void client_delete(struct client *c, uint64_t now_ms, const char *path, int32_t version,
                   client_done *done, void *ctx)
{
    struct request *r = request(c, now_ms, WIRE_OP_DELETE, done, ctx);

    if (refuse_big(r, strlen(path)))
        return;
    const char *full = client_full_path(c, path);
    struct wire_path_version_request body = {wire_bytes(full, strlen(full)), version};
    wire_path_version_request_encode(&body, &r->body);
    client_submit(c, r);
}

void client_set(struct client *c, uint64_t now_ms, const char *path, const void *data,
                size_t len, int32_t version, client_done *done, void *ctx)
{
    struct request *r = request(c, now_ms, WIRE_OP_SET_DATA, done, ctx);

    if (refuse_big(r, len) || refuse_big(r, strlen(path)))
        return;
    const char *full = client_full_path(c, path);
    struct wire_set_data_request body = {wire_bytes(full, strlen(full)), wire_bytes(data, len),
                                         version};
    wire_set_data_request_encode(&body, &r->body);
    client_submit(c, r);
}

static void submit_read(struct client *c, uint64_t now_ms, int32_t op, const char *path,
                        unsigned watch, client_done *done, void *ctx)
{
    struct request *r = request(c, now_ms, op, done, ctx);

    if (refuse_big(r, strlen(path)))
        return;
    const char *full = client_full_path(c, path);
    struct wire_path_watch_request body = {wire_bytes(full, strlen(full)), watch != 0};
    wire_path_watch_request_encode(&body, &r->body);
    r->watch = watch;
    r->path = watch != 0 ? mem_dup_str(full) : NULL;
    client_submit(c, r);
}

void client_get(struct client *c, uint64_t now_ms, const char *path, bool watch,
                client_done *done, void *ctx)
{
    submit_read(c, now_ms, WIRE_OP_GET_DATA, path, watch ? WATCHED_DATA : 0, done, ctx);
}

void client_exists(struct client *c, uint64_t now_ms, const char *path, bool watch,
                   client_done *done, void *ctx)
{
    submit_read(c, now_ms, WIRE_OP_EXISTS, path, watch ? WATCHED_DATA : 0, done, ctx);
}

void client_children(struct client *c, uint64_t now_ms, const char *path, bool watch,
                     client_done *done, void *ctx)
{
    submit_read(c, now_ms, WIRE_OP_GET_CHILDREN2, path, watch ? WATCHED_CHILD : 0, done, ctx);
}

void client_sync(struct client *c, uint64_t now_ms, const char *path, client_done *done,
                 void *ctx)
{
    struct request *r = request(c, now_ms, WIRE_OP_SYNC, done, ctx);

    if (refuse_big(r, strlen(path)))
        return;
    const char *full = client_full_path(c, path);
    r->is_question = !c->options.is_foreign;
    struct wire_path_request body = {wire_bytes(full, strlen(full))};
    wire_path_request_encode(&body, &r->body);
    client_submit(c, r);
}

void client_add_watch(struct client *c, uint64_t now_ms, const char *path, bool recursive,
                      client_done *done, void *ctx)
{
    struct request *r = request(c, now_ms, WIRE_OP_ADD_WATCH, done, ctx);

    if (refuse_big(r, strlen(path)))
        return;
    const char *full = client_full_path(c, path);
    struct wire_add_watch_request body = {
        wire_bytes(full, strlen(full)),
        recursive ? WIRE_WATCH_RECURSIVE : WIRE_WATCH_PERSISTENT,
    };
    wire_add_watch_request_encode(&body, &r->body);
    r->watch = recursive ? WATCHED_RECURSIVE : WATCHED_PERSISTENT;
    r->path = mem_dup_str(full);
    client_submit(c, r);
}

void client_request(struct client *c, uint64_t now_ms, int32_t op, const void *body, size_t len,
                    client_done *done, void *ctx)
{
    struct request *r = request(c, now_ms, op, done, ctx);

    if (refuse_big(r, len))
        return;
    buf_add(&r->body, body, len);
    client_submit(c, r);
}
