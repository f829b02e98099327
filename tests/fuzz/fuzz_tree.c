/* SPDX-License-Identifier: Apache-2.0 */
/* The tree under arbitrary bytes. The first byte picks:
 *   0  the rest is a snapshot (its checksum is made right), which must be refused or work
 *   1  the rest is one entry of the log after the other: length (2 bytes), entry
 *   2  requests of one session: length (2 bytes), operation (1 byte), record
 * At the end of 1 and 2 the tree must be the same after a snapshot. */
#include "base/buf.h"
#include "base/check.h"
#include "base/hash.h"
#include "tree/snapshot.h"
#include "wire/wire.h"

/* What the leader would find due, as it would have it deleted. */
static void lapse(struct tree *t, struct watches *w, int64_t *zxid)
{
    struct buf path = {0}, body = {0};
    uint32_t at = 0;

    while (tree_lapse_next(t, &at, *zxid * 1000, 5000, &path)) {
        tree_lapse_body(5000, &path, &body);
        const struct tree_txn txn = {
            .op = TREE_OP_LAPSE, .time_ms = *zxid * 1000, .body = body.data, .len = body.len};
        struct tree_result r = {0};
        tree_apply(t, ++*zxid, &txn, w, &r);
        CHECK(r.err == 0);
    }
    buf_free(&path);
    buf_free(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void sink(void *ctx, uint64_t watcher, enum watch_event event, const char *path,
                 size_t len, const struct wire_list *acl)
{
    uint64_t *sum = ctx;

    if (acl != NULL)
        *sum += tree_acl_lets(*acl, (struct wire_list){0}, 1);

    *sum += watcher + (uint64_t)event + hash_bytes(1, path, len);
}

static void check_same(struct tree *t)
{
    struct buf b = {0};

    tree_save(t, &b);
    struct tree *back = tree_load(3, b.data, b.len);
    CHECK(back != NULL);
    CHECK(tree_digest(back) == tree_digest(t));
    tree_free(back);
    buf_free(&b);
}

static void snapshot(const uint8_t *data, size_t len)
{
    struct buf b = {0};

    if (len > 0)
        buf_add(&b, data, len);
    if (b.len >= 20)
        be64_put(b.data + 12, b.len + 4);
    buf_add_be32(&b, crc32c(0, b.data, b.len));
    struct tree_loader *l = tree_loader_new(1, b.len);
    struct tree *t;

    tree_loader_blind(l); /* hardly any input would have the right digest */
    (void)tree_loader_add(l, b.data, b.len);
    (void)tree_loader_end(l, &t);
    if (t != NULL)
        check_same(t);
    tree_free(t);
    buf_free(&b);
}

static void apply(struct tree *t, struct watches *w, int64_t zxid, const struct tree_txn *txn)
{
    struct buf reply = {0};
    struct tree_result r = {.reply = &reply};

    tree_apply(t, zxid, txn, w, &r);
    CHECK(r.err == 0 || reply.len == 0);
    buf_free(&reply);
}

#define RULES (TREE_RULE_EXTENDED_TYPES | TREE_RULE_ENFORCE_QUOTA)

static void request(struct tree *t, struct watches *w, int64_t zxid, int64_t session,
                    const uint8_t *data, size_t len)
{
    /* digest u:h, to whom entries of the scheme auth are given too */
    static const uint8_t id[] = "\0\0\0\6digest\0\0\0\3u:h";
    const struct wire_list ids = {id, sizeof id - 1, 1};
    struct buf reply = {0};
    int32_t op = data[0];

    if (tree_op_is_write(op)) {
        struct tree_txn txn = {.op = op,
                               .session = session,
                               .time_ms = zxid * 1000,
                               .origin = {1, 1},
                               .rules = RULES,
                               .ids = ids,
                               .body = data + 1,
                               .len = len - 1};
        apply(t, w, zxid, &txn);
        return;
    }
    const struct tree_caller caller = {
        .watcher = 1 + (uint64_t)op % 3, .session = session, .rules = RULES, .ids = ids};
    int err = tree_read(t, w, &caller, op, data + 1, len - 1, &reply);
    CHECK(err == 0 || reply.len == 0);
    CHECK(tree_op_is_read(op) || err != 0);
    buf_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct tree_txn opening = {.op = TREE_OP_CREATE_SESSION, .origin = {1, 1}};
    uint64_t sum = 0;
    int64_t zxid = 1;

    if (len == 0 || data[0] > 2)
        return 0;
    if (data[0] == 0) {
        snapshot(data + 1, len - 1);
        return 0;
    }
    struct tree *t = tree_new(1);
    struct watches *w = watches_new(2, sink, &sum);
    apply(t, w, zxid, &opening);
    for (size_t at = 1; at + 2 < len;) {
        size_t n = (size_t)data[at] << 8 | data[at + 1];
        at += 2;
        if (n == 0 || n > len - at)
            n = len - at;
        struct tree_txn txn;
        if (data[0] == 2)
            request(t, w, ++zxid, 0x0100000000000001, data + at, n);
        else if (tree_txn_decode(&txn, data + at, n) == 0)
            apply(t, w, ++zxid, &txn);
        at += n;
        if (zxid % 4 == 0)
            lapse(t, w, &zxid);
    }
    check_same(t);
    watches_forget(w, 1);
    watches_free(w);
    tree_free(t);
    return 0;
}
