/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.h -- which files a backup has: a text of lines, the last one its checksum. Pure.
 *
 *   muster backup 1
 *   cluster HEX
 *   site NAME
 *   file KIND FROM TO TERM ENTRIES BYTES CRC DIGEST TIME
 *   ...
 *   sum CRC
 *
 * KIND is full (its first state is FROM's) or more (it goes on behind FROM); FROM, TO: indices
 * in the log, which are zxids; TERM: TO's; CRC: of the whole file (CRC-32C); DIGEST: of the
 * tree at TO; TIME: when TO was found committed, ms since 1970. A file's name is KIND-FROM-TO.
 */
#ifndef MUSTER_BACKUP_MANIFEST_H
#define MUSTER_BACKUP_MANIFEST_H

#include "backup/file.h"

#define MANIFEST_SITE_MAX 64           /* with the NUL */
#define MANIFEST_BYTES_MAX (64u << 20) /* some 400,000 files */
#define MANIFEST_NAME_MAX 48           /* of a file, with the NUL */

struct manifest_file {
    bool is_full;
    uint64_t from, to, to_term, entries, bytes, digest, time_ms;
    uint32_t crc;
};

struct manifest {
    uint8_t cluster[BACKUP_CLUSTER_LEN];
    char site[MANIFEST_SITE_MAX]; /* "": not known */
    struct manifest_file *v;      /* each "more" goes on where the one before ends */
    size_t n, cap;
};

void manifest_free(struct manifest *m);
void manifest_add(struct manifest *m, const struct manifest_file *f);
/* Drops all but the last `fulls` fulls and what follows them; how many files that are, from the
 * front. */
size_t manifest_keep(const struct manifest *m, unsigned fulls);
void manifest_drop(struct manifest *m, size_t n); /* the first n */
void manifest_print(const struct manifest *m, struct buf *out);
/* ERR_CORRUPT, and why says which line. */
int manifest_parse(struct manifest *m, const uint8_t *data, size_t len, struct buf *why);
void manifest_name(const struct manifest_file *f, char out[MANIFEST_NAME_MAX]);

#endif
