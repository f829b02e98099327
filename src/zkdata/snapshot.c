/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c -- reading a snapshot file.
 *
 *   magic "ZKSN", version 2, dbid i64
 *   sessions: count i32; each id i64, timeout i32
 *   access lists: count i32; each index i64, vector of ACLs
 *   znodes: path, data, index of the access list i64, StatPersisted; the last path is "/"
 *   seal: Adler-32 of everything before, i64; "/"
 *   3.6 and later: zxid i64, digest's version i32, digest i64; seal
 *   3.9: zxid of the last entry i64; seal
 */
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "zkdata/state.h"
#include "zkdata/sum.h"

#define MAGIC 0x5a4b534e /* ZKSN */
#define VERSION 2
#define DIGEST_PART_LEN 20
#define ZXID_PART_LEN 8
#define SEAL_LEN 13

struct acl_index {
    int64_t index;
    uint32_t id;
};

struct reader {
    struct zkdata *d;
    const uint8_t *start, *summed; /* the checksum stands at `summed` */
    struct wire_in in;
    uint32_t sum;
    struct acl_index *indexes;
    size_t indexes_n, indexes_cap;
    struct buf *why;
};

static int refuse(struct reader *r, const char *reason)
{
    if (r->in.err != ERR_CORRUPT)
        buf_printf(r->why, "%s, at byte %zu", reason, (size_t)(r->in.at - r->start));
    r->in.err = ERR_CORRUPT;
    return ERR_CORRUPT;
}

/* Whatever ran out of bytes since. */
static int check(struct reader *r, const char *what)
{
    return r->in.err == 0 ? 0 : refuse(r, what);
}

static void sum_up(struct reader *r)
{
    r->sum = adler32(r->sum, r->summed, (size_t)(r->in.at - r->summed));
    r->summed = r->in.at;
}

static int read_seal(struct reader *r)
{
    sum_up(r);
    int64_t sum = wire_get_i64(&r->in);
    struct wire_bytes mark = wire_get_bytes(&r->in);

    if (check(r, "it ends in front of a checksum") != 0)
        return ERR_CORRUPT;
    if (sum != (int64_t)r->sum)
        return refuse(r, "the checksum in front is wrong: the file is damaged");
    if (mark.len != 1 || mark.data[0] != '/')
        return refuse(r, "there is no \"/\" behind a checksum");
    sum_up(r);
    return 0;
}

static int read_head(struct reader *r)
{
    int32_t magic = wire_get_i32(&r->in), version = wire_get_i32(&r->in);

    (void)wire_get_i64(&r->in);
    if (check(r, "it is too short") != 0)
        return ERR_CORRUPT;
    if (magic != MAGIC)
        return refuse(r, "it does not begin like a snapshot of ZooKeeper (ZKSN)");
    return version == VERSION ? 0 : refuse(r, "its version is not 2");
}

static int read_sessions(struct reader *r)
{
    int32_t n = wire_get_i32(&r->in);

    if (n < 0)
        return refuse(r, "the number of sessions is negative");
    for (int32_t i = 0; i < n && r->in.err == 0; i++) {
        int64_t id = wire_get_i64(&r->in);
        (void)wire_get_i32(&r->in);
        if (r->in.err == 0)
            zk_session(r->d, id)->is_open = true;
    }
    return check(r, "it ends among the sessions");
}

static int compare_indexes(const void *a, const void *b)
{
    int64_t x = ((const struct acl_index *)a)->index, y = ((const struct acl_index *)b)->index;

    return (x > y) - (x < y);
}

static int read_acls(struct reader *r)
{
    int32_t n = wire_get_i32(&r->in);

    if (n < 0)
        return refuse(r, "the number of access lists is negative");
    for (int32_t i = 0; i < n && r->in.err == 0; i++) {
        int64_t index = wire_get_i64(&r->in);
        struct wire_list list = zk_get_acls(&r->in);
        if (r->in.err != 0)
            break;
        mem_grow(r->indexes, r->indexes_cap, r->indexes_n + 1);
        r->indexes[r->indexes_n++] = (struct acl_index){index, zk_acl_take(r->d, list)};
    }
    if (r->indexes_n > 1)
        qsort(r->indexes, r->indexes_n, sizeof *r->indexes, compare_indexes);
    return check(r, "it ends among the access lists");
}

static uint32_t find_acl(const struct reader *r, int64_t index)
{
    struct acl_index key = {.index = index};

    if (index == -1)
        return ACL_OPEN;
    if (r->indexes_n == 0)
        return ACL_UNKNOWN;
    const struct acl_index *found =
        bsearch(&key, r->indexes, r->indexes_n, sizeof key, compare_indexes);
    return found != NULL ? found->id : ACL_UNKNOWN;
}

static struct zk_stat read_stat(struct wire_in *in)
{
    struct zk_stat s;

    s.czxid = wire_get_i64(in);
    s.mzxid = wire_get_i64(in);
    s.ctime = wire_get_i64(in);
    s.mtime = wire_get_i64(in);
    s.version = wire_get_i32(in);
    s.creates = wire_get_i32(in);
    s.aversion = wire_get_i32(in);
    s.owner = wire_get_i64(in);
    s.pzxid = wire_get_i64(in);
    return s;
}

static size_t parent_len(struct wire_bytes path)
{
    size_t len = (size_t)path.len;

    while (path.data[len - 1] != '/')
        len--;
    return len - 1;
}

/* False at the end of the znodes, or on an error. */
static bool read_node(struct reader *r)
{
    struct wire_bytes path = wire_get_bytes(&r->in);

    if (check(r, "it ends among the znodes") != 0)
        return false;
    if (path.len == 1 && path.data[0] == '/')
        return false;
    struct wire_bytes data = wire_get_bytes(&r->in);
    int64_t index = wire_get_i64(&r->in);
    struct zk_stat stat = read_stat(&r->in);
    if (check(r, "it ends within a znode") != 0)
        return false;
    if (!zk_path_take(&path)) {
        refuse(r, "a path is not valid");
        return false;
    }
    const char *text = (const char *)path.data;
    size_t len = (size_t)path.len;
    if (zk_find(r->d, text, len) != NULL) {
        refuse(r, "a path is there twice");
        return false;
    }
    if (len > 0 && zk_find(r->d, text, parent_len(path)) == NULL) {
        refuse(r, "a znode stands before its parent");
        return false;
    }
    zk_add(r->d, text, len, data, find_acl(r, index), &stat);
    return true;
}

/* The parts that came with later versions. What is left tells which are there. */
static int read_rest(struct reader *r)
{
    size_t left = (size_t)(r->in.end - r->in.at);

    if (left >= DIGEST_PART_LEN + SEAL_LEN) {
        int64_t zxid = wire_get_i64(&r->in);
        int32_t version = wire_get_i32(&r->in);
        int64_t digest = wire_get_i64(&r->in);
        if (read_seal(r) != 0)
            return ERR_CORRUPT;
        /* Of another zxid: the snapshot is fuzzy, and this is no digest of it. */
        r->d->has_digest = version == 2 && zxid == r->d->zxid && zxid != 0;
        r->d->digest = digest;
        left = (size_t)(r->in.end - r->in.at);
    }
    if (left == ZXID_PART_LEN + SEAL_LEN) {
        (void)wire_get_i64(&r->in);
        if (read_seal(r) != 0)
            return ERR_CORRUPT;
        left = 0;
    }
    return left == 0 ? 0 : refuse(r, "there are bytes behind its end");
}

int zkdata_read_snapshot(struct zkdata *d, int64_t zxid, const uint8_t *data, size_t len,
                         struct buf *why)
{
    struct reader r = {.d = d,
                       .start = data,
                       .summed = data,
                       .in = wire_in(data, len),
                       .sum = ADLER32_START,
                       .why = why};

    d->zxid = zxid;
    int err = read_head(&r);
    if (err == 0)
        err = read_sessions(&r);
    if (err == 0)
        err = read_acls(&r);
    if (err == 0) {
        while (read_node(&r))
            ;
        err = r.in.err;
    }
    if (err == 0)
        err = read_seal(&r);
    if (err == 0)
        err = read_rest(&r);
    if (err == 0 && zk_find(d, "", 0) == NULL)
        err = refuse(&r, "it has no root");
    mem_free(r.indexes);
    return err;
}
