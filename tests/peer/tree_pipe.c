/* SPDX-License-Identifier: Apache-2.0 */
/* One tree with one session, asked over a pipe (zookeeper.py is at the other end).
 * In:  length of the record, operation, record.
 * Out: error, zxid, length of the events, each {type, length, path}, length of the answer,
 *      answer. All numbers are 4 bytes big endian, the zxid 8. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "tree/tree.h"
#include "wire/wire.h"

static void sink(void *ctx, uint64_t watcher, enum watch_event event, const char *path,
                 size_t len, const struct wire_list *acl)
{
    if (acl != NULL && !tree_acl_lets(*acl, (struct wire_list){0}, 1))
        return;
    struct buf *events = ctx;

    (void)watcher;
    buf_add_be32(events, (uint32_t)event);
    buf_add_be32(events, (uint32_t)len);
    buf_add(events, path, len);
}

static int ask(struct tree *t, struct watches *w, int64_t *zxid, int32_t op, int64_t *session,
               const struct buf *body, struct buf *reply)
{
    struct tree_txn txn = {.op = op,
                           .session = *session,
                           .time_ms = 1,
                           .origin = {1, 2},
                           .body = body->data,
                           .len = body->len};
    struct tree_result r = {.reply = reply};

    if (!tree_op_is_write(op) && op != TREE_OP_CREATE_SESSION)
        return tree_read(t, w, &(struct tree_caller){.watcher = 1, .session = *session}, op,
                         body->data, body->len, reply);
    tree_apply(t, ++*zxid, &txn, w, &r);
    if (op == TREE_OP_CREATE_SESSION)
        *session = r.session;
    return r.err;
}

int main(void)
{
    struct buf body = {0}, reply = {0}, events = {0}, out = {0};
    struct tree *t = tree_new(1);
    struct watches *w = watches_new(2, sink, &events);
    int64_t zxid = 0, session = 0;
    uint8_t head[8];

    (void)ask(t, w, &zxid, TREE_OP_CREATE_SESSION, &session, &body, &reply);
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t len = be32_get(head);
        buf_clear(&body), buf_clear(&reply), buf_clear(&events), buf_clear(&out);
        if (fread(buf_reserve(&body, len + 1), 1, len, stdin) != len)
            break;
        buf_added(&body, len);
        int err = ask(t, w, &zxid, (int32_t)be32_get(head + 4), &session, &body, &reply);
        buf_add_be32(&out, (uint32_t)err);
        buf_add_be64(&out, (uint64_t)zxid);
        buf_add_be32(&out, (uint32_t)events.len);
        if (events.len > 0)
            buf_add(&out, events.data, events.len);
        buf_add_be32(&out, (uint32_t)reply.len);
        if (reply.len > 0)
            buf_add(&out, reply.data, reply.len);
        if (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0)
            break;
    }
    tree_free(t);
    watches_free(w);
    buf_free(&body), buf_free(&reply), buf_free(&events), buf_free(&out);
    return 0;
}
