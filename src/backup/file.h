/* SPDX-License-Identifier: Apache-2.0 */
/* file.h -- the bytes of one file of a backup. Pure.
 *
 *   head      magic, version, the cluster, the place that it begins behind; checksum
 *   records   type and index, term, length, checksum; payload
 *               BACKUP_SNAPSHOT  at most one, the first: members (length, bytes), tree
 *               RAFT_ENTRY_*     the entries behind it, in order, without a gap
 *               BACKUP_END       the last: how many entries, the tree's digest at the end
 *
 * Integers are big-endian. Each checksum (CRC-32C) covers the one before, what the record says
 * and its payload: so every byte of the file is covered, and none can be moved. A file without
 * its END was cut off. A full one has a snapshot; one without goes on where another ended.
 */
#ifndef MUSTER_BACKUP_FILE_H
#define MUSTER_BACKUP_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "raft/raft.h"

#define BACKUP_CLUSTER_LEN 16
#define BACKUP_SNAPSHOT 32
#define BACKUP_END 33

/* ---- writing: bytes are appended to out, which the caller may empty in between ---- */
struct backup_writer {
    uint32_t crc;
    uint64_t index, term; /* of the last record */
    uint64_t entries;
};
void backup_begin(struct backup_writer *w, const uint8_t cluster[BACKUP_CLUSTER_LEN],
                  uint64_t index, uint64_t term, struct buf *out);
/* Right behind the beginning, at its index and term. */
void backup_add_snapshot(struct backup_writer *w, const struct raft_members *members,
                         const uint8_t *tree, size_t len, struct buf *out);
void backup_add_entry(struct backup_writer *w, const struct raft_entry *e, struct buf *out);
void backup_end(struct backup_writer *w, uint64_t digest, struct buf *out);

/* ---- reading ---- */
struct backup_record {
    unsigned type; /* enum raft_entry_type, BACKUP_SNAPSHOT or BACKUP_END */
    uint64_t index, term;
    const uint8_t *data; /* borrowed: an entry's payload, a snapshot's tree */
    size_t len;
    uint64_t digest, entries; /* BACKUP_END */
};

struct backup_reader {
    const uint8_t *data;
    size_t len, at; /* at: of the record that is read now, or was found damaged */
    uint8_t cluster[BACKUP_CLUSTER_LEN];
    uint64_t base_index, base_term; /* it begins behind this entry */
    uint32_t crc;
    uint64_t index, term, entries;
    bool has_snapshot, has_end;
    const char *why; /* of ERR_CORRUPT */
};
/* Both: 0 or ERR_CORRUPT with r->why and r->at. Borrow data. */
int backup_read_begin(struct backup_reader *r, const uint8_t *data, size_t len);
/* The members of a snapshot become *members (may be NULL). After BACKUP_END nothing is left,
 * and it is not called again. */
int backup_read(struct backup_reader *r, struct backup_record *out,
                struct raft_members *members);

#endif
