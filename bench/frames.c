/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include <string.h>

static struct wire_bytes text(const char *s) { return wire_bytes(s, strlen(s)); }

static size_t begin(struct buf *out, enum wire_op op)
{
    const struct wire_request_header h = {0, op};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    return at;
}

void frame_create(struct buf *out, const char *path, const void *data, size_t len,
                  enum wire_create_mode mode)
{
    const struct wire_acl all = {WIRE_PERM_ALL, text("world"), text("anyone")};
    struct buf acl = {0};

    wire_acl_encode(&all, &acl);
    const struct wire_create_request q = {
        text(path), wire_bytes(data, len), {acl.data, acl.len, 1}, (int32_t)mode};
    size_t at = begin(out, WIRE_OP_CREATE);
    wire_create_request_encode(&q, out);
    wire_frame_end(out, at);
    buf_free(&acl);
}

void frame_delete(struct buf *out, const char *path)
{
    const struct wire_path_version_request q = {text(path), -1};
    size_t at = begin(out, WIRE_OP_DELETE);

    wire_path_version_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_set(struct buf *out, const char *path, const void *data, size_t len)
{
    const struct wire_set_data_request q = {text(path), wire_bytes(data, len), -1};
    size_t at = begin(out, WIRE_OP_SET_DATA);

    wire_set_data_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_path(struct buf *out, enum wire_op op, const char *path)
{
    const struct wire_path_request q = {text(path)};
    size_t at = begin(out, op);

    wire_path_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_read(struct buf *out, enum wire_op op, const char *path, bool watch)
{
    const struct wire_path_watch_request q = {text(path), watch};
    size_t at = begin(out, op);

    wire_path_watch_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_add_watch(struct buf *out, const char *path, int32_t mode)
{
    const struct wire_add_watch_request q = {text(path), mode};
    size_t at = begin(out, WIRE_OP_ADD_WATCH);

    wire_add_watch_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_multi_sets(struct buf *out, const char *const *paths, size_t n, const void *data,
                      size_t len)
{
    const struct wire_multi_header one = {WIRE_OP_SET_DATA, false, -1}, last = {-1, true, -1};
    size_t at = begin(out, WIRE_OP_MULTI);

    for (size_t i = 0; i < n; i++) {
        const struct wire_set_data_request q = {text(paths[i]), wire_bytes(data, len), -1};
        wire_multi_header_encode(&one, out);
        wire_set_data_request_encode(&q, out);
    }
    wire_multi_header_encode(&last, out);
    wire_frame_end(out, at);
}

void frame_close(struct buf *out)
{
    size_t at = begin(out, WIRE_OP_CLOSE_SESSION);

    wire_frame_end(out, at);
}

void frame_ping(struct buf *out)
{
    const struct wire_request_header h = {WIRE_XID_PING, WIRE_OP_PING};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    wire_frame_end(out, at);
}

void frame_connect(struct buf *out, int32_t timeout_ms)
{
    static const uint8_t none[16];
    const struct wire_connect_request q = {.timeout_ms = timeout_ms,
                                           .password = wire_bytes(none, sizeof none)};
    size_t at = wire_frame_begin(out);

    wire_connect_request_encode(&q, out);
    wire_frame_end(out, at);
}

void frame_number(struct buf *out, size_t at, int32_t xid)
{
    buf_put_be32(out, at + 4, (uint32_t)xid); /* behind the length */
}
