/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_file.c -- a snapshot on the disk: whole, checked, or not there. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "store/format.h"

enum { SNAPSHOT_MAGIC = 0x6d75536e }; /* "muSn" */
enum { HEADER_BYTES = SNAPSHOT_HEADER_BYTES, TRAILER_BYTES = SNAPSHOT_TRAILER_BYTES };

void snapshot_head_encode(uint64_t index, uint64_t term, uint64_t size,
                          const struct raft_members *members, struct buf *out)
{
    CHECK(out->len == 0);
    buf_add_be32(out, SNAPSHOT_MAGIC);
    buf_add_be32(out, FORMAT_VERSION);
    buf_add_be64(out, index);
    buf_add_be64(out, term);
    buf_add_be64(out, size);
    buf_add_be32(out, 0); /* the length of the members, below */
    buf_add_be32(out, 0);
    raft_members_encode(members, out);
    buf_put_be32(out, 32, (uint32_t)(out->len - HEADER_BYTES));
}

bool snapshot_head_is(const uint8_t head[SNAPSHOT_HEADER_BYTES], uint64_t index, uint64_t size,
                      uint64_t *data_at)
{
    *data_at = HEADER_BYTES + (uint64_t)be32_get(head + 32);
    return be32_get(head) == SNAPSHOT_MAGIC && be32_get(head + 4) == FORMAT_VERSION &&
           be64_get(head + 8) == index && be64_get(head + 24) == size;
}

int snapshot_file_write(struct disk *d, const struct raft_blob *b, uint64_t *bytes)
{
    struct buf head = {0};
    uint8_t trailer[TRAILER_BYTES];
    int file = -1;

    snapshot_head_encode(b->index, b->term, b->len, &b->members, &head);
    be32_put(trailer, crc32c(crc32c(0, head.data, head.len), b->data, b->len));
    *bytes = head.len + b->len + TRAILER_BYTES;

    int err = d->ops->open(d, SNAPSHOT_RECEIVED, 1, &file);
    if (err == 0)
        err = d->ops->truncate(d, file, 0); /* a failed one's rest */
    if (err == 0)
        err = d->ops->allocate(d, file, *bytes);
    if (err == 0)
        err = d->ops->write(d, file, 0, head.data, head.len);
    if (err == 0 && b->len > 0)
        err = d->ops->write(d, file, head.len, b->data, b->len);
    if (err == 0)
        err = d->ops->write(d, file, head.len + b->len, trailer, sizeof trailer);
    if (err == 0 && !MUTANT(store_snapshot_not_synced))
        err = d->ops->sync(d, file);
    if (file >= 0)
        d->ops->close(d, file);
    if (err != 0)
        (void)d->ops->remove(d, SNAPSHOT_RECEIVED); /* gives the room back; open does it too */
    buf_free(&head);
    return err;
}

int snapshot_file_commit(struct disk *d, const char *from, uint64_t index)
{
    char name[FORMAT_NAME_MAX];

    name_make(name, SNAPSHOT_PREFIX, index);
    int err = d->ops->rename(d, from, name);
    if (err == 0 && !MUTANT(store_dir_not_synced))
        err = d->ops->sync_dir(d);
    return err;
}

/* Whole, but not ours to read: not damage. */
static bool is_foreign(const struct buf *b)
{
    const uint8_t *p = b->data;

    return b->len >= HEADER_BYTES + TRAILER_BYTES && be32_get(p) == SNAPSHOT_MAGIC &&
           be32_get(p + 4) != FORMAT_VERSION &&
           be32_get(p + b->len - TRAILER_BYTES) == crc32c(0, p, b->len - TRAILER_BYTES);
}

static const char *snapshot_decode(struct snapshot_file *s, uint64_t index)
{
    const uint8_t *p = s->buf.data;
    size_t n = s->buf.len;

    if (n < HEADER_BYTES + TRAILER_BYTES)
        return "is too short";
    if (be32_get(p) != SNAPSHOT_MAGIC)
        return "does not begin like a snapshot";
    if (be32_get(p + n - TRAILER_BYTES) != crc32c(0, p, n - TRAILER_BYTES))
        return "has a wrong checksum";
    uint64_t len = be64_get(p + 24);
    uint32_t members_len = be32_get(p + 32);
    size_t room = n - HEADER_BYTES - TRAILER_BYTES;
    if (members_len > room || len != room - members_len)
        return "has lengths that do not add up";
    if (be64_get(p + 8) != index)
        return "is of another index than its name says";
    if (raft_members_decode(&s->members, p + HEADER_BYTES, members_len) != 0)
        return "has a list of members that is not valid";
    s->index = index;
    s->term = be64_get(p + 16);
    s->bytes = n;
    s->data = p + HEADER_BYTES + members_len;
    s->len = (size_t)len;
    return NULL;
}

int snapshot_file_read(struct disk *d, uint64_t index, struct snapshot_file *s,
                       const char **why)
{
    char name[FORMAT_NAME_MAX];
    int file = -1;
    uint64_t bytes = 0;
    size_t got = 0;

    *s = (struct snapshot_file){0};
    *why = NULL;
    name_make(name, SNAPSHOT_PREFIX, index);
    int err = d->ops->open(d, name, 0, &file);
    if (err != 0)
        return err;
    err = d->ops->size(d, file, &bytes);
    if (err == 0) {
        err = d->ops->read(d, file, 0, buf_reserve(&s->buf, (size_t)bytes + 1), (size_t)bytes,
                           &got);
        buf_added(&s->buf, err == 0 ? got : 0);
    }
    d->ops->close(d, file);
    if (err != 0)
        return err;
    if (is_foreign(&s->buf))
        return ERR_OTHER_VERSION;
    *why = snapshot_decode(s, index);
    return *why == NULL ? 0 : ERR_CORRUPT;
}
