/* SPDX-License-Identifier: Apache-2.0 */
/* A backup's bytes from anywhere. The first byte picks: 0 the rest is a manifest; 1 it is a
 * file of a backup; 2 likewise, its checksums made right where records seem to be; 3 an epoch,
 * as a peer shows it. What is let in must survive being written and read again. */
#include <string.h>

#include "backup/file.h"
#include "backup/manifest.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "server/member_epoch.h"

enum { HEAD = 44, HEAD_CRC = 40, RECORD = 28, RECORD_CRC = 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_manifest(const uint8_t *data, size_t len)
{
    struct manifest m, again;
    struct buf why = {0}, b = {0};

    /* Its sum is put right: behind what there is, unless that has one. */
    for (int sealed = 0; sealed < 2; sealed++) {
        buf_clear(&b);
        buf_add(&b, data, len);
        if (sealed)
            buf_printf(&b, "sum %08x\n", crc32c(0, data, len));
        if (manifest_parse(&m, b.data, b.len, &why) == 0) {
            buf_clear(&b);
            manifest_print(&m, &b);
            CHECK(manifest_parse(&again, b.data, b.len, &why) == 0);
            CHECK(again.n == m.n && strcmp(again.site, m.site) == 0);
            CHECK(manifest_keep(&m, 1) <= m.n);
            manifest_free(&again);
        }
        manifest_free(&m);
    }
    buf_free(&why);
    buf_free(&b);
}

static void make_right(uint8_t *data, size_t len)
{
    if (len < HEAD)
        return;
    uint32_t crc = crc32c(0, data, HEAD_CRC);
    be32_put(data + HEAD_CRC, crc);
    for (size_t at = HEAD; at + RECORD <= len;) {
        uint64_t n = be64_get(data + at + 16);
        uint8_t before[4];
        if (n > len - at - RECORD) {
            n = (len - at - RECORD) / 2;
            be64_put(data + at + 16, n);
        }
        be32_put(before, crc);
        crc = crc32c(crc32c(0, before, 4), data + at, RECORD_CRC);
        if (n > 0)
            crc = crc32c(crc, data + at + RECORD, (size_t)n);
        be32_put(data + at + RECORD_CRC, crc);
        at += RECORD + (size_t)n;
    }
}

static void try_file(const uint8_t *data, size_t len)
{
    struct backup_reader r;
    struct backup_record e = {0};
    struct raft_members m;
    int err = backup_read_begin(&r, data, len);

    while (err == 0 && e.type != BACKUP_END) {
        uint64_t index = r.index;
        err = backup_read(&r, &e, &m);
        CHECK(err != 0 || e.type >= BACKUP_SNAPSHOT || e.index == index + 1);
        CHECK(err == 0 || r.why != NULL);
        CHECK(r.at <= len);
    }
    CHECK(err != 0 || r.at == len);
}

static void try_epoch(const uint8_t *data, size_t len)
{
    struct epoch e, again;
    struct buf b = {0};

    if (epoch_decode(&e, data, len) == 0) {
        epoch_encode(&e, &b);
        CHECK(b.len == len && memcmp(b.data, data, len) == 0);
        CHECK(epoch_decode(&again, b.data, b.len) == 0);
        CHECK(epoch_order(&e, &again) == EPOCH_SAME);
    }
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    switch (data[0] % 4) {
    case 0: try_manifest(data + 1, len - 1); break;
    case 1: try_file(data + 1, len - 1); break;
    case 2: {
        uint8_t *copy = mem_dup(data + 1, len - 1);
        make_right(copy, len - 1);
        try_file(copy, len - 1);
        mem_free(copy);
        break;
    }
    default: try_epoch(data + 1, len - 1); break;
    }
    return 0;
}
