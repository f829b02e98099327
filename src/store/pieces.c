/* SPDX-License-Identifier: Apache-2.0 */
/* pieces.c -- snapshots written and read piece by piece: our own, and what a leader sends.
 *
 * A file has its room, and its header, from the beginning, since the length is known; it gets
 * its checksum with the last piece and its name when all of it is synced. It is synced now and
 * then on the way: one sync of all would keep the log waiting for as long as that takes.
 */
#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "store/state.h"

#define SYNC_BYTES (8u << 20) /* of a snapshot, between syncs */

static void drop(struct store *s, struct pieces *p, const char *name)
{
    if (p->file < 0)
        return;
    s->disk->ops->close(s->disk, p->file);
    (void)s->disk->ops->remove(s->disk, name); /* gives the room back; open does it too */
    *p = (struct pieces){.file = -1};
}

void pieces_init(struct store *s) { s->own.file = s->received.file = -1; }

void pieces_free(struct store *s)
{
    if (s->own.file >= 0)
        s->disk->ops->close(s->disk, s->own.file);
    if (s->received.file >= 0)
        s->disk->ops->close(s->disk, s->received.file);
}

bool pieces_drop_received(struct store *s)
{
    if (s->received.file < 0 || s->received.is_whole || MUTANT(store_half_kept))
        return false;
    REACHED(store_pieces_dropped);
    drop(s, &s->received, SNAPSHOT_RECEIVED);
    return true;
}

void pieces_drop_own(struct store *s, uint64_t index)
{
    if (s->own.file >= 0 && s->own.index < index)
        drop(s, &s->own, SNAPSHOT_NEW);
}

static int begin(struct store *s, struct pieces *p, const char *name, const struct raft_job *j)
{
    struct disk *d = s->disk;
    struct buf head = {0};
    int file = -1;

    drop(s, p, name);
    snapshot_head_encode(j->index, j->term, j->size, j->members, &head);
    int err = d->ops->open(d, name, 1, &file);
    if (err == 0) {
        *p = (struct pieces){.file = file,
                             .index = j->index,
                             .head_len = head.len,
                             .bytes = head.len + j->size + SNAPSHOT_TRAILER_BYTES,
                             .crc = crc32c(0, head.data, head.len)};
        err = d->ops->truncate(d, file, 0); /* a failed one's rest */
    }
    if (err == 0)
        err = d->ops->allocate(d, file, p->bytes);
    if (err == 0)
        err = d->ops->write(d, file, 0, head.data, head.len);
    buf_free(&head);
    return err;
}

static int add(struct store *s, struct pieces *p, const struct raft_job *j)
{
    struct disk *d = s->disk;
    int err = 0;

    if (j->len > 0)
        err = d->ops->write(d, p->file, p->head_len + p->next, j->data, j->len);
    p->crc = crc32c(p->crc, j->data, j->len);
    p->next += j->len;
    p->unsynced += j->len;
    if (p->next == j->size) {
        uint8_t trailer[SNAPSHOT_TRAILER_BYTES];
        be32_put(trailer, p->crc);
        if (err == 0)
            err = d->ops->write(d, p->file, p->head_len + p->next, trailer, sizeof trailer);
        p->unsynced = SYNC_BYTES;
        p->is_whole = true;
    }
    if (err == 0 && p->unsynced >= SYNC_BYTES && !MUTANT(store_snapshot_not_synced)) {
        err = d->ops->sync(d, p->file);
        p->unsynced = 0;
    }
    return err;
}

static int write_piece(struct store *s, struct pieces *p, const char *name,
                       const struct raft_job *j)
{
    int err = 0;

    CHECK(j->len <= j->size - j->at);
    if (j->at == 0) {
        if (p->file >= 0)
            REACHED(store_pieces_anew);
        err = begin(s, p, name, j);
        while (err == ERR_DISK_FULL && reserve_relieve(s, false))
            err = begin(s, p, name, j);
    } else if (p->file < 0 || p->index != j->index || p->next != j->at) {
        err = ERR_NOT_FOUND; /* another has taken its place, or it has failed */
    }
    if (err == 0)
        err = add(s, p, j);
    if (err != 0)
        drop(s, p, name);
    return err;
}

static int keep_piece(struct store *s, const struct raft_job *j, uint64_t keep)
{
    struct pieces *p = &s->own;

    if (j->index < newest_snapshot(s)) { /* one from the leader came while this was made */
        drop(s, p, SNAPSHOT_NEW);
        return 0;
    }
    int err = write_piece(s, p, SNAPSHOT_NEW, j);
    if (err != 0 || !p->is_whole)
        return err == 0 ? 0 : store_fail(s, err, "writing a snapshot");
    s->disk->ops->close(s->disk, p->file);
    uint64_t bytes = p->bytes;
    *p = (struct pieces){.file = -1};
    err = snapshot_file_commit(s->disk, SNAPSHOT_NEW, j->index);
    return err == 0 ? store_snapshot_kept(s, j->index, bytes, keep)
                    : store_fail(s, err, "naming a snapshot");
}

bool pieces_has_received(const struct store *s, uint64_t index)
{
    return s->received.file >= 0 && s->received.is_whole && s->received.index == index;
}

int pieces_commit_received(struct store *s, uint64_t *bytes)
{
    uint64_t index = s->received.index;

    *bytes = s->received.bytes;
    s->disk->ops->close(s->disk, s->received.file);
    s->received = (struct pieces){.file = -1};
    return snapshot_file_commit(s->disk, SNAPSHOT_RECEIVED, index);
}

static int read_piece(struct store *s, const struct raft_job *j)
{
    struct disk *d = s->disk;
    uint8_t head[SNAPSHOT_HEADER_BYTES];
    char name[FORMAT_NAME_MAX];
    uint64_t data_at;
    size_t got = 0;
    int file = -1;

    name_make(name, SNAPSHOT_PREFIX, j->index);
    int err = d->ops->open(d, name, 0, &file);
    if (err != 0)
        return err;
    err = d->ops->read(d, file, 0, head, sizeof head, &got);
    if (err == 0 && (got < sizeof head || !snapshot_head_is(head, j->index, j->size, &data_at)))
        err = ERR_CORRUPT;
    if (err == 0)
        err = d->ops->read(d, file, data_at + j->at, j->data, j->len, &got);
    if (err == 0 && got < j->len)
        err = ERR_CORRUPT;
    d->ops->close(d, file);
    return err;
}

void store_pin(struct store *s, uint64_t index) { s->pinned = index; }

int store_job(struct store *s, const struct raft_job *j, uint64_t keep)
{
    if (s->broken != 0)
        return s->broken;
    switch (j->kind) {
    case RAFT_JOB_KEEP: return keep_piece(s, j, keep);
    case RAFT_JOB_RECEIVE: return write_piece(s, &s->received, SNAPSHOT_RECEIVED, j);
    case RAFT_JOB_READ: return read_piece(s, j);
    }
    return ERR_IO;
}

int store_snapshot(struct store *s, const struct raft_blob *b, uint64_t keep)
{
    const struct raft_job j = {.kind = RAFT_JOB_KEEP,
                               .index = b->index,
                               .term = b->term,
                               .members = &b->members,
                               .size = b->len,
                               .len = b->len,
                               .data = b->data};

    return b->index <= newest_snapshot(s) && s->broken == 0 ? 0 : store_job(s, &j, keep);
}
