/* SPDX-License-Identifier: Apache-2.0 */
/* log.c -- reading a transaction log, and replaying it.
 *
 *   magic "ZKLG", version 2, dbid i64; then entries, and zeros up to what was reserved:
 *   Adler-32 of the bytes i64, their length i32, the bytes, 'B'
 *   the bytes: session i64, cxid i32, zxid i64, time i64, type i32; the transaction by type;
 *   3.6 and later, but not for failed requests: digest's version i32, digest i64
 */
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "zkdata/state.h"
#include "zkdata/sum.h"

#define MAGIC 0x5a4b4c47 /* ZKLG */
#define VERSION 2
#define HEADER_LEN 16
#define FRAME_LEN 12
#define DIGEST_LEN 12
#define DIGEST_VERSION 2
#define PARTS_MAX (1 << 20) /* of one multi */
#define OP_RECONFIG 16
#define OP_DELETE_CONTAINER 20

struct header {
    int64_t session;
    int64_t zxid, time_ms;
    int32_t type;
};

/* ---- what the transactions do ---- */

static struct zk_node *parent_of(const struct zkdata *d, struct wire_bytes path)
{
    size_t len = (size_t)path.len;

    if (len == 0)
        return NULL;
    while (path.data[len - 1] != '/')
        len--;
    return zk_find(d, (const char *)path.data, len - 1);
}

static struct zk_node *find(const struct zkdata *d, struct wire_bytes path)
{
    return zk_find(d, (const char *)path.data, (size_t)path.len);
}

struct creation {
    struct wire_bytes path, data;
    struct wire_list acl;
    int32_t parent_creates; /* the new value of the parent's counter; -1: one more */
    int64_t owner;
};

static void create(struct zkdata *d, const struct header *h, const struct creation *c)
{
    struct zk_node *parent = parent_of(d, c->path), *v = find(d, c->path);
    struct zk_stat stat = {.czxid = h->zxid,
                           .mzxid = h->zxid,
                           .pzxid = h->zxid,
                           .ctime = h->time_ms,
                           .mtime = h->time_ms,
                           .owner = c->owner};

    if (parent == NULL)
        return;
    uint32_t acl = zk_acl_take(d, c->acl);
    int32_t creates = c->parent_creates;
    if (creates == -1)
        creates = (int32_t)((uint32_t)parent->stat.creates + 1);
    if (creates > parent->stat.creates) {
        parent->stat.creates = creates;
        parent->stat.pzxid = h->zxid;
    }
    if (v == NULL)
        zk_add(d, (const char *)c->path.data, (size_t)c->path.len, c->data, acl, &stat);
    else if (v->acl == ACL_UNKNOWN)
        v->acl = acl;
}

static void delete (struct zkdata *d, int64_t zxid, struct wire_bytes path)
{
    struct zk_node *parent = parent_of(d, path), *v = find(d, path);

    /* A later change of the parent may be in the snapshot already. */
    if (parent != NULL && zxid > parent->stat.pzxid)
        parent->stat.pzxid = zxid;
    if (v != NULL && path.len > 0)
        zk_remove(d, v);
}

static void set_data(struct zkdata *d, const struct header *h,
                     const struct wire_set_data_request *r)
{
    struct zk_node *v = find(d, r->path);

    if (v == NULL)
        return;
    zk_set_data(v, r->data);
    v->stat.mzxid = h->zxid;
    v->stat.mtime = h->time_ms;
    v->stat.version = r->version;
}

static void set_acl(struct zkdata *d, const struct wire_set_acl_request *r)
{
    struct zk_node *v = find(d, r->path);

    if (v == NULL)
        return;
    v->acl = zk_acl_take(d, r->acl);
    v->stat.aversion = r->version;
}

static void close_session(struct zkdata *d, const struct header *h, struct wire_list paths)
{
    struct zk_session *x = zk_session(d, h->session);
    struct wire_bytes path;

    while (wire_texts_next(&paths, &path))
        if (zk_path_take(&path))
            delete (d, h->zxid, path);
    /* Older logs name none, and a fuzzy snapshot may hold others. */
    while (x->first != NULL)
        delete (d, h->zxid, zk_path(x->first));
    x->is_open = false;
}

/* ---- reading them ---- */

/* What is left behind a transaction: nothing, or its digest. */
static bool is_end(const struct wire_in *in)
{
    size_t left = (size_t)(in->end - in->at);

    return in->err == 0 && (left == 0 || left == DIGEST_LEN);
}

static void read_create(struct zkdata *d, const struct header *h, struct wire_in *in)
{
    struct creation c = {.path = wire_get_bytes(in)};

    c.data = wire_get_bytes(in);
    c.acl = zk_get_acls(in);
    if (h->type == WIRE_OP_CREATE || h->type == WIRE_OP_CREATE2) {
        const uint8_t *ephemeral = wire_get_raw(in, 1);
        c.owner = ephemeral != NULL && *ephemeral != 0 ? h->session : 0;
    }
    /* Before 3.4 there was no counter, and nothing else came behind. */
    c.parent_creates = -1;
    if (in->at != in->end || h->type != WIRE_OP_CREATE)
        c.parent_creates = wire_get_i32(in);
    if (h->type == WIRE_OP_CREATE_CONTAINER)
        c.owner = OWNER_CONTAINER;
    if (h->type == WIRE_OP_CREATE_TTL)
        c.owner =
            (int64_t)(UINT64_C(0xff) << OWNER_EXTENDED_SHIFT | (uint64_t)wire_get_i64(in));
    if (!zk_path_take(&c.path) || c.path.len == 0)
        in->err = ERR_MALFORMED;
    if (in->err == 0)
        create(d, h, &c);
}

/* The list of 3.6 and later; or nothing; either with a digest behind it. */
static void read_close(struct zkdata *d, const struct header *h, struct wire_in *in)
{
    struct wire_children_response r = {0};
    struct wire_in list = *in;

    if (wire_children_response_decode(&r, &list) == 0 && is_end(&list))
        *in = list;
    else if (is_end(in))
        r.children = (struct wire_list){0};
    else
        in->err = ERR_MALFORMED;
    if (in->err == 0)
        close_session(d, h, r.children);
}

static void read_txn(struct zkdata *d, const struct header *h, struct wire_in *in);

/* One that has a failed part changes nothing. */
static void read_multi(struct zkdata *d, const struct header *h, struct wire_in *in)
{
    int32_t n = wire_get_i32(in);
    struct wire_in parts = *in;
    bool has_failed = false;

    if (n < 0 || n > PARTS_MAX)
        in->err = ERR_MALFORMED;
    for (int32_t i = 0; i < n && in->err == 0; i++) {
        has_failed |= wire_get_i32(in) == WIRE_OP_ERROR;
        (void)wire_get_bytes(in);
    }
    for (int32_t i = 0; i < n && in->err == 0 && !has_failed; i++) {
        struct header part = *h;
        part.type = wire_get_i32(&parts);
        struct wire_bytes b = wire_get_bytes(&parts);
        struct wire_in body = wire_in(b.data, b.len > 0 ? (size_t)b.len : 0);
        if (part.type == WIRE_OP_MULTI || part.type == WIRE_OP_CLOSE_SESSION)
            body.err = ERR_MALFORMED;
        read_txn(d, &part, &body);
        if (body.err != 0 || body.at != body.end)
            in->err = ERR_MALFORMED;
    }
}

static void read_txn(struct zkdata *d, const struct header *h, struct wire_in *in)
{
    struct wire_set_data_request set;
    struct wire_set_acl_request acl;
    struct wire_path_version_request version;

    if (in->err != 0)
        return;
    switch (h->type) {
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL: read_create(d, h, in); break;
    case WIRE_OP_DELETE:
    case OP_DELETE_CONTAINER: {
        struct wire_bytes path = wire_get_bytes(in);
        if (!zk_path_take(&path))
            in->err = ERR_MALFORMED;
        if (in->err == 0)
            delete (d, h->zxid, path);
        break;
    }
    case WIRE_OP_SET_DATA:
    case OP_RECONFIG:
        if (wire_set_data_request_decode(&set, in) == 0 && !zk_path_take(&set.path))
            in->err = ERR_MALFORMED;
        if (in->err == 0)
            set_data(d, h, &set);
        break;
    case WIRE_OP_SET_ACL:
        if (wire_set_acl_request_decode(&acl, in) == 0 && !zk_path_take(&acl.path))
            in->err = ERR_MALFORMED;
        if (in->err == 0)
            set_acl(d, &acl);
        break;
    case WIRE_OP_CREATE_SESSION:
        (void)wire_get_i32(in);
        if (in->err == 0)
            zk_session(d, h->session)->is_open = true;
        break;
    case WIRE_OP_CLOSE_SESSION: read_close(d, h, in); break;
    case WIRE_OP_CHECK: (void)wire_path_version_request_decode(&version, in); break;
    case WIRE_OP_MULTI: read_multi(d, h, in); break;
    case WIRE_OP_ERROR: (void)wire_get_i32(in); break;
    default: in->err = ERR_UNIMPLEMENTED; break;
    }
}

static void take_digest(struct zkdata *d, const struct header *h, struct wire_in *in)
{
    if (h->type == WIRE_OP_ERROR) /* has none; the tree is the same */
        return;
    d->has_digest = false;
    if (in->at == in->end)
        return;
    d->has_digest = wire_get_i32(in) == DIGEST_VERSION;
    d->digest = wire_get_i64(in);
}

/* ---- entries ---- */

struct log_reader {
    struct zkdata *d;
    const uint8_t *start;
    struct wire_in in;
    bool gaps_allowed;
    struct zkdata_log *out;
    struct buf *why;
};

/* Each change has the next number; an epoch begins at 1 (its 0 is not logged). */
static bool follows(int64_t last, int64_t zxid)
{
    return zxid == last + 1 || (zxid >> 32 > last >> 32 && (zxid & UINT32_MAX) == 1);
}

static int apply(struct log_reader *r, const struct header *h, struct wire_in *in)
{
    struct zkdata *d = r->d;

    if (h->zxid <= d->zxid)
        return 0;
    if (!follows(d->zxid, h->zxid)) {
        d->gaps++;
        if (!r->gaps_allowed) {
            buf_printf(r->why,
                       "the entries between 0x%" PRIx64 " and 0x%" PRIx64 " are missing",
                       (uint64_t)d->zxid, (uint64_t)h->zxid);
            return ERR_UNSAFE;
        }
    }
    d->zxid = h->zxid;
    read_txn(d, h, in);
    if (is_end(in))
        take_digest(d, h, in);
    else if (in->err == 0)
        in->err = ERR_MALFORMED;
    if (in->err == 0) {
        r->out->applied++;
        return 0;
    }
    buf_printf(r->why,
               in->err == ERR_UNIMPLEMENTED
                   ? "the transaction 0x%" PRIx64 " is of a type that is not known, %d"
                   : "the transaction 0x%" PRIx64 " (of type %d) is not valid",
               (uint64_t)h->zxid, (int)h->type);
    return ERR_CORRUPT;
}

static struct header read_header(struct wire_in *in)
{
    struct header h;

    h.session = wire_get_i64(in);
    (void)wire_get_i32(in);
    h.zxid = wire_get_i64(in);
    h.time_ms = wire_get_i64(in);
    h.type = wire_get_i32(in);
    return h;
}

/* 1: an entry was read. 0: there is none any more. */
static int read_entry(struct log_reader *r)
{
    const uint8_t *at = r->in.at;
    size_t left = (size_t)(r->in.end - at);
    int64_t sum = wire_get_i64(&r->in);
    int32_t len = wire_get_i32(&r->in);

    if (r->in.err != 0 || len == 0) {
        r->out->torn_bytes = r->in.err != 0 || sum != 0 ? left : 0;
        return 0;
    }
    if (len < 0) {
        buf_printf(r->why, "the length of the entry at byte %zu is negative",
                   (size_t)(at - r->start));
        return ERR_CORRUPT;
    }
    const uint8_t *bytes = wire_get_raw(&r->in, (size_t)len);
    const uint8_t *mark = wire_get_raw(&r->in, 1);
    if (mark == NULL || *mark != 'B') { /* it was being written when the server died */
        r->out->torn_bytes = left;
        return 0;
    }
    if (sum != (int64_t)adler32(ADLER32_START, bytes, (size_t)len) &&
        !MUTANT(zkdata_sum_ignored)) {
        buf_printf(r->why,
                   "the checksum of the entry at byte %zu is wrong: the file is damaged",
                   (size_t)(at - r->start));
        return ERR_CORRUPT;
    }
    struct wire_in in = wire_in(bytes, (size_t)len);
    struct header h = read_header(&in);
    if (in.err != 0) {
        buf_printf(r->why, "the entry at byte %zu is not valid", (size_t)(at - r->start));
        return ERR_CORRUPT;
    }
    if (r->out->entries++ == 0)
        r->out->first = h.zxid;
    if (h.zxid > r->out->last)
        r->out->last = h.zxid;
    int err = apply(r, &h, &in);
    return err == 0 ? 1 : err;
}

int zkdata_replay(struct zkdata *d, const uint8_t *data, size_t len, bool gaps_allowed,
                  struct zkdata_log *out, struct buf *why)
{
    struct log_reader r = {.d = d,
                           .start = data,
                           .in = wire_in(data, len),
                           .gaps_allowed = gaps_allowed,
                           .out = out,
                           .why = why};
    int err;

    *out = (struct zkdata_log){0};
    if (len < HEADER_LEN) { /* the server died as it began the file */
        out->torn_bytes = len;
        return 0;
    }
    if (wire_get_i32(&r.in) != MAGIC || wire_get_i32(&r.in) != VERSION) {
        buf_printf(why, "it does not begin like a log of ZooKeeper (ZKLG, version 2)");
        return ERR_CORRUPT;
    }
    (void)wire_get_i64(&r.in);
    do
        err = read_entry(&r);
    while (err == 1);
    return err;
}
