/* SPDX-License-Identifier: Apache-2.0 */
#include "backup/file.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mutant.h"

enum { MAGIC = 0x6d75426b, VERSION = 1 }; /* "muBk" */
enum {
    CLUSTER_AT = 8,
    BASE_AT = CLUSTER_AT + BACKUP_CLUSTER_LEN,
    HEAD_CRC_AT = BASE_AT + 16,
    HEAD_BYTES = HEAD_CRC_AT + 4,
    RECORD_CRC_AT = 24,
    RECORD_BYTES = 28,
};
#define INDEX_MASK (UINT64_MAX >> 8)

/* ---- writing ---- */

void backup_begin(struct backup_writer *w, const uint8_t cluster[BACKUP_CLUSTER_LEN],
                  uint64_t index, uint64_t term, struct buf *out)
{
    uint8_t h[HEAD_BYTES];

    be32_put(h, MAGIC);
    be32_put(h + 4, VERSION);
    memcpy(h + CLUSTER_AT, cluster, BACKUP_CLUSTER_LEN);
    be64_put(h + BASE_AT, index);
    be64_put(h + BASE_AT + 8, term);
    *w = (struct backup_writer){.crc = crc32c(0, h, HEAD_CRC_AT), .index = index, .term = term};
    be32_put(h + HEAD_CRC_AT, w->crc);
    buf_add(out, h, sizeof h);
}

static void add(struct backup_writer *w, unsigned type, uint64_t index, uint64_t term,
                const uint8_t *data, size_t len, struct buf *out)
{
    uint8_t h[RECORD_BYTES];

    CHECK(index <= INDEX_MASK);
    be64_put(h, (uint64_t)type << 56 | index);
    be64_put(h + 8, term);
    be64_put(h + 16, len);
    uint8_t before[4];
    be32_put(before, w->crc);
    w->crc = crc32c(crc32c(0, before, sizeof before), h, RECORD_CRC_AT);
    if (len > 0)
        w->crc = crc32c(w->crc, data, len);
    be32_put(h + RECORD_CRC_AT, w->crc);
    buf_add(out, h, sizeof h);
    if (len > 0)
        buf_add(out, data, len);
    w->index = index;
    w->term = term;
}

void backup_add_snapshot(struct backup_writer *w, const struct raft_members *members,
                         const uint8_t *tree, size_t len, struct buf *out)
{
    struct buf all = {0};

    buf_add_be32(&all, 0);
    raft_members_encode(members, &all);
    buf_put_be32(&all, 0, (uint32_t)(all.len - 4));
    buf_add(&all, tree, len);
    add(w, BACKUP_SNAPSHOT, w->index, w->term, all.data, all.len, out);
    buf_free(&all);
}

void backup_add_entry(struct backup_writer *w, const struct raft_entry *e, struct buf *out)
{
    CHECK(e->index == w->index + 1);
    w->entries++;
    add(w, (unsigned)e->type, e->index, e->term, e->payload, e->len, out);
}

void backup_end(struct backup_writer *w, uint64_t digest, struct buf *out)
{
    uint8_t p[16];

    be64_put(p, w->entries);
    be64_put(p + 8, digest);
    add(w, BACKUP_END, w->index, w->term, p, sizeof p, out);
}

/* ---- reading ---- */

static int damaged(struct backup_reader *r, const char *why)
{
    r->why = why;
    return ERR_CORRUPT;
}

int backup_read_begin(struct backup_reader *r, const uint8_t *data, size_t len)
{
    *r = (struct backup_reader){.data = data, .len = len};
    if (len < HEAD_BYTES)
        return damaged(r, "is too short to be a file of a backup");
    if (be32_get(data) != MAGIC)
        return damaged(r, "does not begin like a file of a backup");
    r->crc = be32_get(data + HEAD_CRC_AT);
    if (r->crc != crc32c(0, data, HEAD_CRC_AT))
        return damaged(r, "has a head with a wrong checksum");
    if (be32_get(data + 4) != VERSION)
        return damaged(r, "was written by another version of muster");
    memcpy(r->cluster, data + CLUSTER_AT, BACKUP_CLUSTER_LEN);
    r->index = r->base_index = be64_get(data + BASE_AT);
    r->term = r->base_term = be64_get(data + BASE_AT + 8);
    r->at = HEAD_BYTES;
    return 0;
}

static int read_snapshot(struct backup_reader *r, struct backup_record *o,
                         struct raft_members *members)
{
    struct raft_members unused;

    if (r->has_snapshot || r->entries > 0 || o->index != r->index || o->term != r->term)
        return damaged(r, "has a snapshot in a wrong place");
    if (o->len < 4 || be32_get(o->data) > o->len - 4)
        return damaged(r, "has a snapshot with a length that is not right");
    size_t n = be32_get(o->data);
    if (raft_members_decode(members != NULL ? members : &unused, o->data + 4, n) != 0)
        return damaged(r, "has a list of members that is not valid");
    o->data += 4 + n;
    o->len -= 4 + n;
    r->has_snapshot = true;
    return 0;
}

static int read_end(struct backup_reader *r, struct backup_record *o, size_t next)
{
    if (o->len != 16 || o->index != r->index || o->term != r->term ||
        be64_get(o->data) != r->entries)
        return damaged(r, "has an end that does not fit what is before it");
    o->entries = be64_get(o->data);
    o->digest = be64_get(o->data + 8);
    r->has_end = true;
    if (next != r->len) {
        r->at = next;
        return damaged(r, "goes on behind its end");
    }
    return 0;
}

int backup_read(struct backup_reader *r, struct backup_record *out,
                struct raft_members *members)
{
    const uint8_t *p = r->data + r->at;
    size_t left = r->len - r->at;
    uint8_t before[4];
    int err;

    CHECK(!r->has_end);
    if (left < RECORD_BYTES)
        return damaged(r, "was cut off: it has no end");
    uint64_t len = be64_get(p + 16);
    if (len > left - RECORD_BYTES)
        return damaged(r, "has a length that is not right, or was cut off");
    be32_put(before, r->crc);
    uint32_t crc = crc32c(crc32c(0, before, sizeof before), p, RECORD_CRC_AT);
    if (len > 0)
        crc = crc32c(crc, p + RECORD_BYTES, (size_t)len);
    if (crc != be32_get(p + RECORD_CRC_AT) && !MUTANT(backup_checksum_ignored))
        return damaged(r, "has a record with a wrong checksum");
    *out = (struct backup_record){.type = p[0],
                                  .index = be64_get(p) & INDEX_MASK,
                                  .term = be64_get(p + 8),
                                  .data = p + RECORD_BYTES,
                                  .len = (size_t)len};
    size_t next = r->at + RECORD_BYTES + (size_t)len;
    if (out->type == BACKUP_SNAPSHOT) {
        err = read_snapshot(r, out, members);
    } else if (out->type == BACKUP_END) {
        err = read_end(r, out, next);
    } else if (out->type > RAFT_ENTRY_CONFIG || out->len > RAFT_ENTRY_MAX ||
               out->index != r->index + 1 || out->term < r->term) {
        err = damaged(r, "has an entry out of its order");
    } else {
        r->entries++;
        err = 0;
    }
    if (err != 0)
        return err;
    r->index = out->index;
    r->term = out->term;
    r->crc = crc;
    r->at = next;
    return 0;
}
