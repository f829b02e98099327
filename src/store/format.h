/* SPDX-License-Identifier: Apache-2.0 */
/* format.h -- the bytes of the store's files. Internal to src/store.
 *
 *   vote               term and vote: four slots of 4096 bytes, 0 and 1 or 2 and 3 written
 *                      together, the pairs in turn. Also how far the log was synced then.
 *   log.<seq>          a segment: header, records, at least END_ZEROS zeros; then whatever
 *                      an earlier life of the file has left there
 *   spare.<seq>        a segment that nothing needs any more: the next ones are made of them;
 *                      removed at open
 *   log.new            one being made; likewise
 *   snapshot.<index>   header, members, bytes, checksum
 *   snapshot.new       one being written; removed at open
 *   snapshot.got       one that a leader sends, likewise
 *   reserve            room that is given up when there is no other (reserve.c); no content
 *
 * <seq> and <index> are 16 hexadecimal digits; integers are big-endian; checksums CRC-32C.
 *
 * The log is only ever appended to: that entries are dropped is a record too (RECORD_CUT,
 * RECORD_RESTART). So whatever a crash leaves is a beginning of what was written, and a
 * state that the log was in.
 *
 * A record's checksum covers, beside itself, the checksum of the record before (`chain`)
 * and the segment's salt, and the first one's chain is the checksum of the segment's header:
 * what an earlier life of the same place left behind, or a client put into a payload, is never
 * taken for a record. `batch_at` says where the write began that the record is part of: all in
 * front of that had been synced. So a bad place with a good record of a *later* batch behind
 * it is damage, one without is a torn write.
 *
 * A segment gets its name when its header is on the disk, and a spare is written to when its
 * old name is surely gone: so no file of the log is ever half of one life and half of another
 * (decision 012), and a reader that finds the name still there has read one life (scan.c).
 */
#ifndef MUSTER_STORE_FORMAT_H
#define MUSTER_STORE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "raft/raft.h"
#include "store/disk.h"

#define FORMAT_VERSION 1
#define FORMAT_NAME_MAX 32 /* with the NUL */
#define VOTE_SLOT_BYTES 4096u
#define VOTE_SLOTS 4u
#define SEGMENT_HEADER_BYTES 48u
#define RECORD_HEADER_BYTES 40u
#define SEGMENT_BYTES_MAX (1u << 30)  /* offsets in a segment are 32 bits */
#define SEGMENT_PAGE_BYTES 4096u      /* writes go on with zeros up to the end of one */
#define END_ZEROS RECORD_HEADER_BYTES /* behind the last record, or the file ends */

enum record_type {
    RECORD_ENTRY = 0,    /* + enum raft_entry_type */
    RECORD_CUT = 16,     /* entries from index on are dropped */
    RECORD_RESTART = 17, /* all entries are dropped; the next one is index */
};

struct vote_slot {
    uint32_t version;
    uint64_t counter, term, vote;
    uint64_t seq, end; /* the log was synced up to here; 0, 0: no log */
};
void vote_slot_encode(const struct vote_slot *v, uint8_t out[VOTE_SLOT_BYTES]);
/* True for other versions, too; then only the version says something. */
bool vote_slot_decode(struct vote_slot *v, const uint8_t in[VOTE_SLOT_BYTES]);

struct segment_header {
    uint32_t version;
    uint64_t seq, salt;
    uint64_t next;  /* the index that the log goes on with */
    uint32_t chain; /* checksum of the last record of the segment before */
    uint32_t crc;   /* of this header: the chain's beginning */
};
void segment_header_encode(struct segment_header *h, uint8_t out[SEGMENT_HEADER_BYTES]);
bool segment_header_decode(struct segment_header *h, const uint8_t in[SEGMENT_HEADER_BYTES]);

struct record {
    unsigned type;
    uint64_t index, term;
    uint32_t len, batch_at, chain, crc;
    const uint8_t *payload;
};
/* Bytes on the disk: records are padded to a multiple of 8. */
uint64_t record_bytes(uint32_t len);
/* Appends r; r->crc is set. */
void record_encode(struct record *r, const struct segment_header *h, struct buf *out);
/* False: no record that carries the right checksum begins here. `left`: bytes up to the end
 * of the file; more(ctx, n) gives that many of them, or NULL. */
bool record_decode(struct record *r, const struct segment_header *h, uint64_t left,
                   const uint8_t *(*more)(void *ctx, size_t n), void *ctx);
/* Where in these bytes of a segment, in steps of 8, a record may begin; n: nowhere. */
size_t record_search(const uint8_t *bytes, size_t n);
/* Appends the zeros that follow what ends at `end`, in a file of `room` bytes. */
void segment_pad(uint64_t end, uint64_t room, struct buf *out);

void name_make(char out[FORMAT_NAME_MAX], const char *prefix, uint64_t number);
bool name_parse(const char *name, const char *prefix, uint64_t *number);

/* ---- snapshots (snapshot_file.c) ---- */
struct snapshot_file {
    uint64_t index, term, bytes; /* bytes: of the file */
    uint64_t data_at;            /* where its bytes begin there */
    struct raft_members members;
    const uint8_t *data; /* into buf */
    size_t len;
    struct buf buf;
};
#define SNAPSHOT_HEADER_BYTES 40u /* in front of the members */
#define SNAPSHOT_TRAILER_BYTES 4u
/* Appends the header and the members. */
void snapshot_head_encode(uint64_t index, uint64_t term, uint64_t size,
                          const struct raft_members *members, struct buf *out);
/* Whether this is the header of a snapshot of that index and size; where its bytes begin. */
bool snapshot_head_is(const uint8_t head[SNAPSHOT_HEADER_BYTES], uint64_t index, uint64_t size,
                      uint64_t *data_at);
/* Writes and syncs SNAPSHOT_RECEIVED; *bytes is its size. */
int snapshot_file_write(struct disk *d, const struct raft_blob *b, uint64_t *bytes);
/* Gives a file its name, which is sure when this returns 0. */
int snapshot_file_commit(struct disk *d, const char *from, uint64_t index);
struct store_load;
/* All but the bytes: whether it is whole. ERR_CORRUPT with the reason in why;
 * ERR_OTHER_VERSION; else ERR_IO and the like. load, if not NULL: to its begin and piece go the
 * bytes that this may be about, before that is known. */
int snapshot_file_check(struct disk *d, uint64_t index, struct snapshot_file *s,
                        const char **why, const struct store_load *load);
/* Of one that was checked: all of its bytes in order, at most so many at once. */
int snapshot_file_pieces(struct disk *d, const struct snapshot_file *s, size_t most,
                         void (*piece)(void *ctx, const uint8_t *data, size_t len), void *ctx);
/* Both, with all the bytes in memory: free s->buf. */
int snapshot_file_read(struct disk *d, uint64_t index, struct snapshot_file *s,
                       const char **why);

#define SNAPSHOT_NEW "snapshot.new"
#define SNAPSHOT_RECEIVED "snapshot.got"
#define SNAPSHOT_PREFIX "snapshot."
#define SEGMENT_PREFIX "log."
#define SEGMENT_NEW "log.new"
#define SPARE_PREFIX "spare."
#define VOTE_NAME "vote"
#define RESERVE_NAME "reserve"

#endif
