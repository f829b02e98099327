/* SPDX-License-Identifier: Apache-2.0 */
/* Files of Apache ZooKeeper under arbitrary bytes. The first byte picks:
 *   even  the rest is a log, replayed on an empty tree; its checksums are made right
 *   odd   the rest is a snapshot; its checksums are made right where they seem to be
 * What is let in must survive being saved and loaded, and being written for ZooKeeper and
 * read back. */
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "zkdata/sum.h"
#include "zkdata/zkdata.h"

#define LOG_HEADER 16
#define FRAME 12
#define SEAL 13

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_same(struct tree *t, int64_t zxid)
{
    struct buf b = {0}, why = {0};
    struct zkdata_written written;
    struct zkdata_facts facts;
    struct zkdata *d = zkdata_new(3);
    struct tree *other = tree_new(4);

    tree_save(t, &b);
    struct tree *back = tree_load(3, b.data, b.len);
    CHECK(back != NULL);
    CHECK(tree_digest(back) == tree_digest(t));
    tree_free(back);
    buf_clear(&b);
    zkdata_write(t, zxid, &b, &written);
    CHECK(written.zxid == zxid);
    CHECK(zkdata_read_snapshot(d, zxid, b.data, b.len, &why) == 0);
    CHECK(zkdata_finish(d, &facts, NULL, &why) == 0);
    CHECK(facts.digest != ZKDATA_DIGEST_WRONG && facts.znodes == written.znodes);
    CHECK(zkdata_to_tree(d, other, &why) == 0);
    CHECK(tree_digest(other) == tree_digest(t));
    tree_free(other);
    zkdata_free(d);
    buf_free(&b);
    buf_free(&why);
}

static void finish(struct zkdata *d)
{
    struct zkdata_facts facts;
    struct buf why = {0}, foreign = {0};
    struct tree *t = tree_new(2);

    if (zkdata_finish(d, &facts, &foreign, &why) == 0 && zkdata_to_tree(d, t, &why) == 0)
        check_same(t, tree_zxid(t));
    tree_free(t);
    buf_free(&why);
    buf_free(&foreign);
}

static void make_log_right(uint8_t *data, size_t len)
{
    size_t at = LOG_HEADER;

    while (at + FRAME <= len) {
        size_t n = be32_get(data + at + 8);
        if (n == 0 || n > len - at - FRAME)
            break;
        be64_put(data + at, adler32(ADLER32_START, data + at + FRAME, n));
        at += FRAME + n + 1;
    }
}

/* A seal is a sum, and "/" as a text: the last one, and one before it. */
static void make_snapshot_right(uint8_t *data, size_t len)
{
    for (size_t at = 8; at + 5 <= len; at++)
        if (memcmp(data + at, "\0\0\0\1/", 5) == 0)
            be64_put(data + at - 8, adler32(ADLER32_START, data, at - 8));
}

static void log_file(uint8_t *data, size_t len)
{
    struct zkdata *d = zkdata_new(1);
    struct tree *empty = tree_new(1);
    struct zkdata_written written;
    struct zkdata_log facts;
    struct buf b = {0}, why = {0};

    make_log_right(data, len);
    zkdata_write(empty, 0, &b, &written);
    CHECK(zkdata_read_snapshot(d, 0, b.data, b.len, &why) == 0);
    if (zkdata_replay(d, data, len, true, &facts, &why) == 0)
        finish(d);
    zkdata_free(d);
    tree_free(empty);
    buf_free(&b);
    buf_free(&why);
}

static void snapshot_file(uint8_t *data, size_t len)
{
    struct zkdata *d = zkdata_new(1);
    struct buf why = {0};

    make_snapshot_right(data, len);
    if (zkdata_read_snapshot(d, 1, data, len, &why) == 0)
        finish(d);
    zkdata_free(d);
    buf_free(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    uint8_t *copy = mem_dup(data + 1, len - 1);
    if (data[0] % 2 == 0)
        log_file(copy, len - 1);
    else
        snapshot_file(copy, len - 1);
    mem_free(copy);
    return 0;
}
