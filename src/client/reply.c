/* SPDX-License-Identifier: Apache-2.0 */
#include "client/reply.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "wire/wire.h"

static struct client_stat stat_of(const struct wire_stat *s)
{
    return (struct client_stat){
        .czxid = s->czxid,
        .mzxid = s->mzxid,
        .ctime = s->ctime,
        .mtime = s->mtime,
        .version = s->version,
        .cversion = s->cversion,
        .aversion = s->aversion,
        .ephemeral_owner = s->ephemeral_owner,
        .data_len = s->data_len,
        .children = s->children,
        .pzxid = s->pzxid,
    };
}

void reply_room_free(struct reply_room *room)
{
    buf_free(&room->text);
    mem_free(room->names);
    *room = (struct reply_room){0};
}

const char *reply_path(const void *data, int32_t len, struct reply_room *room)
{
    if (len < 1 || *(const char *)data != '/' || memchr(data, 0, (size_t)len) != NULL)
        return NULL;
    buf_clear(&room->text);
    buf_add(&room->text, data, (size_t)len);
    return buf_text(&room->text);
}

/* The names must not move while they are collected, so the room is made first: each takes
 * 4 bytes of length in the list and one NUL here. */
static int decode_names(struct wire_list children, struct reply_room *room,
                        struct client_reply *out)
{
    size_t n = children.count > 0 ? (size_t)children.count : 0;
    struct wire_bytes name;

    buf_clear(&room->text);
    buf_reserve(&room->text, children.len + 1);
    mem_grow(room->names, room->names_cap, n);
    for (size_t i = 0; wire_texts_next(&children, &name); i++) {
        if (name.len < 1 || memchr(name.data, 0, (size_t)name.len) != NULL ||
            memchr(name.data, '/', (size_t)name.len) != NULL)
            return ERR_MALFORMED;
        room->names[i] = (const char *)room->text.data + room->text.len;
        buf_add(&room->text, name.data, (size_t)name.len);
        buf_add_u8(&room->text, 0);
    }
    out->children = room->names;
    out->children_n = n;
    return 0;
}

static int decode_path(struct wire_bytes path, struct reply_room *room,
                       struct client_reply *out)
{
    out->path = reply_path(path.data, path.len, room);
    return out->path != NULL ? 0 : ERR_MALFORMED;
}

static int decode_create(struct wire_in *in, struct reply_room *room, struct client_reply *out)
{
    struct wire_create2_response r;

    if (wire_create2_response_decode(&r, in) != 0)
        return ERR_MALFORMED;
    out->stat = stat_of(&r.stat);
    return decode_path(r.path, room, out);
}

static int decode_data(struct wire_in *in, struct client_reply *out)
{
    struct wire_data_response r;

    if (wire_data_response_decode(&r, in) != 0)
        return ERR_MALFORMED;
    out->data = r.data.data;
    out->len = r.data.len;
    out->stat = stat_of(&r.stat);
    return 0;
}

static int decode_stat(struct wire_in *in, struct client_reply *out)
{
    struct wire_stat_response r;

    if (wire_stat_response_decode(&r, in) != 0)
        return ERR_MALFORMED;
    out->stat = stat_of(&r.stat);
    return 0;
}

static int decode_children(struct wire_in *in, struct reply_room *room,
                           struct client_reply *out)
{
    struct wire_children2_response r;

    if (wire_children2_response_decode(&r, in) != 0)
        return ERR_MALFORMED;
    out->stat = stat_of(&r.stat);
    return decode_names(r.children, room, out);
}

int reply_decode(int32_t op, const uint8_t *body, size_t len, struct reply_room *room,
                 struct client_reply *out)
{
    struct wire_in in = wire_in(body, len);

    out->body = body;
    out->body_len = len;
    switch (op) {
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL: return decode_create(&in, room, out);
    case WIRE_OP_GET_DATA: return decode_data(&in, out);
    case WIRE_OP_EXISTS:
    case WIRE_OP_SET_DATA: return decode_stat(&in, out);
    case WIRE_OP_GET_CHILDREN2: return decode_children(&in, room, out);
    default: return 0;
    }
}
