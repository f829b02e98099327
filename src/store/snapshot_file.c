/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_file.c -- a snapshot on the disk: whole, checked, or not there. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "store/format.h"
#include "store/store.h"

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

/* ---- reading ---- */

#define WINDOW_BYTES (1u << 20) /* the header and the members fit into it */

static bool head_is_ours(const uint8_t *p)
{
    return be32_get(p) == SNAPSHOT_MAGIC && be32_get(p + 4) == FORMAT_VERSION;
}

static const char *head_decode(struct snapshot_file *s, uint64_t index, const uint8_t *p,
                               size_t have)
{
    uint64_t len = be64_get(p + 24);
    uint32_t members_len = be32_get(p + 32);
    uint64_t room = s->bytes - HEADER_BYTES - TRAILER_BYTES;

    if (members_len > room || len != room - members_len || members_len > have - HEADER_BYTES)
        return "has lengths that do not add up";
    if (be64_get(p + 8) != index)
        return "is of another index than its name says";
    if (raft_members_decode(&s->members, p + HEADER_BYTES, members_len) != 0)
        return "has a list of members that is not valid";
    s->index = index;
    s->term = be64_get(p + 16);
    s->data_at = HEADER_BYTES + members_len;
    s->len = (size_t)len;
    return NULL;
}

/* Of what stands at `at`, the part that belongs to the bytes. */
static void hand_on(const struct snapshot_file *s, uint64_t at, const uint8_t *p, size_t len,
                    const struct store_load *load)
{
    uint64_t from = at > s->data_at ? at : s->data_at, to = at + len;

    if (to > s->data_at + s->len)
        to = s->data_at + s->len;
    if (from < to)
        load->piece(load->ctx, p + (from - at), (size_t)(to - from));
}

/* All of the file goes through the window once; the header is kept. */
static int check_file(struct disk *d, int file, uint64_t index, struct snapshot_file *s,
                      const char **why, const struct store_load *load)
{
    bool is_handed_on = false;
    struct buf window = {0}, head = {0};
    uint8_t trailer[TRAILER_BYTES];
    uint64_t end = 0, at = 0;
    uint32_t crc = 0;
    size_t got = 0;
    int err = d->ops->size(d, file, &s->bytes);

    if (err == 0 && s->bytes < HEADER_BYTES + TRAILER_BYTES)
        *why = "is too short";
    else if (err == 0)
        end = s->bytes - TRAILER_BYTES;
    for (; err == 0 && at < end; at += got) {
        size_t len = end - at < WINDOW_BYTES ? (size_t)(end - at) : WINDOW_BYTES;
        err = d->ops->read(d, file, at, buf_reserve(&window, len), len, &got);
        if (err == 0 && got < len)
            err = ERR_IO; /* it was longer a moment ago */
        crc = err == 0 ? crc32c(crc, window.data, got) : 0;
        if (at == 0 && err == 0) {
            buf_add(&head, window.data, got);
            is_handed_on = load != NULL && load->piece != NULL && head_is_ours(head.data) &&
                           head_decode(s, index, head.data, head.len) == NULL;
            if (is_handed_on)
                load->begin(load->ctx, index, s->len);
        }
        if (err == 0 && is_handed_on)
            hand_on(s, at, window.data, got, load);
    }
    if (err == 0 && end > 0)
        err = d->ops->read(d, file, end, trailer, sizeof trailer, &got);
    bool is_whole = err == 0 && end > 0 && got == sizeof trailer && be32_get(trailer) == crc;
    if (err == 0 && *why == NULL) {
        if (be32_get(head.data) != SNAPSHOT_MAGIC)
            *why = "does not begin like a snapshot";
        else if (!is_whole && !MUTANT(store_snapshot_believed))
            *why = "has a wrong checksum";
        else if (be32_get(head.data + 4) != FORMAT_VERSION)
            err = ERR_OTHER_VERSION; /* not ours to read: not damage */
        else
            *why = head_decode(s, index, head.data, head.len);
    }
    buf_free(&window);
    buf_free(&head);
    return err == 0 && *why != NULL ? ERR_CORRUPT : err;
}

int snapshot_file_check(struct disk *d, uint64_t index, struct snapshot_file *s,
                        const char **why, const struct store_load *load)
{
    char name[FORMAT_NAME_MAX];
    int file = -1;

    *s = (struct snapshot_file){0};
    *why = NULL;
    name_make(name, SNAPSHOT_PREFIX, index);
    int err = d->ops->open(d, name, 0, &file);
    if (err != 0)
        return err;
    err = check_file(d, file, index, s, why, load);
    d->ops->close(d, file);
    return err;
}

int snapshot_file_pieces(struct disk *d, const struct snapshot_file *s, size_t most,
                         void (*piece)(void *ctx, const uint8_t *data, size_t len), void *ctx)
{
    struct buf window = {0};
    char name[FORMAT_NAME_MAX];
    int file = -1;
    size_t got = 0;

    name_make(name, SNAPSHOT_PREFIX, s->index);
    int err = d->ops->open(d, name, 0, &file);
    for (size_t at = 0; err == 0 && at < s->len; at += got) {
        size_t len = s->len - at < most ? s->len - at : most;
        err = d->ops->read(d, file, s->data_at + at, buf_reserve(&window, len), len, &got);
        if (err == 0 && got < len)
            err = ERR_IO;
        if (err == 0)
            piece(ctx, window.data, len);
    }
    if (file >= 0)
        d->ops->close(d, file);
    buf_free(&window);
    return err;
}

static void add_piece(void *ctx, const uint8_t *data, size_t len) { buf_add(ctx, data, len); }

int snapshot_file_read(struct disk *d, uint64_t index, struct snapshot_file *s,
                       const char **why)
{
    int err = snapshot_file_check(d, index, s, why, NULL);

    if (err == 0)
        err = snapshot_file_pieces(d, s, s->len > 0 ? s->len : 1, add_piece, &s->buf);
    s->data = s->buf.data;
    return err;
}
