/* SPDX-License-Identifier: Apache-2.0 */
/* history.h -- what clients asked and were answered, and whether that can be so.
 *
 * Knows nothing of the servers: an independent witness, for the simulation and for real
 * clients. The rules that are checked stand above history_check().
 *
 * A history as a file: one JSON object a line, one line an operation that has ended. Empty
 * lines and lines that begin with # are left out.
 *
 *   {"type":"ok", "process":2, "id":17, "session":"0x1000a", "f":"cas", "key":"/h/r1",
 *    "value":9, "expect":4, "version":5, "mzxid":881, "zxid":881, "start":1200, "end":1950}
 *
 * type     "ok": done, and acknowledged. "fail": surely not done (refused, or never sent).
 *          "info": nobody knows (connection lost, timeout). "invoke": it is being asked; a
 *          later line with the same process and id says how it ended; without one, as "info".
 *          Whoever may be killed in the middle writes (and flushes) "invoke" lines.
 * process  who asks: a number. id: grows with each operation of a process, in the order in
 *          which it asks (not in which it is answered). Several may be in flight.
 * session  the ZooKeeper session that asks: a number, or a string of one ("0x..."); optional,
 *          without it the process is the session. One session asks in the order of ids.
 * f        "write"      set without a version: value
 *          "cas"        set with a version: value, expect
 *          "create"     with value; its version is 0
 *          "delete"     expect, or none
 *          "read"       plain; ok: value
 *          "sync_read"  sync, then read; start is that of the sync
 *          "append"     to a list: value is the item, which no other append has (by a set
 *                       with the version that was read; a refused one is "fail")
 *          "seq_create" of a sequential child of key; ok: value is the number it got
 *          "seq_delete" of the child with number value
 *          "children"   plain; ok: value is an array of the numbers of sequential children
 *          "sync_children"
 *          A key is a register, or a list (append; its reads have an array as value), or a
 *          parent of sequential children; nothing else writes to it than what is recorded.
 *          It is not there when the history begins, unless the first line about it is
 *          "init", type "ok": value (or array) and version as they were then.
 * value    a number from 0 to 2^63-1; of reads of lists and children, an array of them. What
 *          is written to a register is best written there once only.
 * expect   the version that was asked for
 * version  ok: that which the write made, or the read saw (Stat). Optional, but then less
 *          can be proven.
 * mzxid    ok: likewise (Stat); of a write, its own zxid. Optional.
 * zxid     ok: that of the reply's header. Optional.
 * err      fail: why: "NO_NODE", "NODE_EXISTS", "BAD_VERSION" say something of the znode and
 *          are checked as what was read is; anything else, or none, says nothing.
 * start, end  nanoseconds of one monotonic clock that all processes share (CLOCK_MONOTONIC of
 *          one machine): before it was sent, after its answer was there.
 *
 * build/tool_history FILE... reads such files (of one history: one for each process, say) and
 * prints what is wrong: exit code 0 right, 1 wrong, 2 cannot be read.
 */
#ifndef MUSTER_TESTS_HISTORY_H
#define MUSTER_TESTS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define HISTORY_UNKNOWN (-1) /* value, version, expect, zxid, mzxid: not told */

enum history_type { HISTORY_INVOKE, HISTORY_OK, HISTORY_FAIL, HISTORY_INFO };

/* clang-format off */
#define HISTORY_TABLE(F)                                                                    \
    F(HISTORY_INIT, "init")                                                                 \
    F(HISTORY_WRITE, "write")                                                               \
    F(HISTORY_CAS, "cas")                                                                   \
    F(HISTORY_CREATE, "create")                                                             \
    F(HISTORY_DELETE, "delete")                                                             \
    F(HISTORY_READ, "read")                                                                 \
    F(HISTORY_SYNC_READ, "sync_read")                                                       \
    F(HISTORY_APPEND, "append")                                                             \
    F(HISTORY_SEQ_CREATE, "seq_create")                                                     \
    F(HISTORY_SEQ_DELETE, "seq_delete")                                                     \
    F(HISTORY_CHILDREN, "children")                                                         \
    F(HISTORY_SYNC_CHILDREN, "sync_children")
/* clang-format on */
#define F(sym, name) sym,
enum history_f { HISTORY_TABLE(F) HISTORY_FS };
#undef F

struct history_op {
    enum history_type type;
    enum history_f f;
    uint64_t process, id;
    int64_t session; /* 0: the process is its own */
    uint32_t key;    /* history_key() */
    int64_t value;
    int64_t *list; /* an array as value: the history's own copy */
    size_t list_n;
    bool has_list;
    int32_t version, expect;
    int64_t zxid, mzxid;
    int err; /* 0, or ERR_NO_NODE, ERR_NODE_EXISTS, ERR_BAD_VERSION */
    uint64_t start_ns, end_ns;
};

struct history;
struct history *history_new(void);
void history_free(struct history *h);
uint32_t history_key(struct history *h, const char *name); /* the same number for the same */

/* Begins an operation: the caller sets the fields that he knows. The pointer is good until the
 * next call; the number stays. */
struct history_op *history_begin(struct history *h, enum history_f f, uint32_t key,
                                 size_t *number);
struct history_op *history_at(struct history *h, size_t number);
size_t history_count(const struct history *h);
void history_list(struct history_op *op, const int64_t *items, size_t n); /* copied */

/* Reads a file's lines into it. 0, or an error of err.h; then *line is where. */
int history_read(struct history *h, const char *text, size_t len, size_t *line);

struct history_report {
    size_t wrong;    /* rules that were broken; some are given up after the first */
    struct buf text; /* a line each */
    size_t registers, lists, parents, operations, unknown, sessions;
    size_t undecided; /* registers for which the search was given up */
};

/* Looks at it all, and adds to a report (zero-initialised first):
 *
 * real time   what ended before another began comes before it, in all keys, by zxid: each
 *             write after the writes, and each sync_read at or after what was done by then
 * zxids       no two writes have one; a read whose reply carries zxid Z shows the last write
 *             up to Z; one version, or one mzxid, of a znode has one value
 * sessions    zxids of replies do not go back; reads see what the session wrote before, and
 *             never something older than it has read; writes take effect as asked, in order
 * registers   writes, cas, create, delete, sync_read and refusals that say why are
 *             linearizable, key by key: an order is looked for (Wing and Gong's search with
 *             Lowe's memory of what was tried), with what is unknown taking effect once,
 *             any time after it was asked, or never, but not after a later operation of its
 *             session
 * lists       all reads are prefixes of one order; no item twice, none that nobody appended,
 *             none that was refused; what was acknowledged is in each later sync_read, in the
 *             order of real time and of each session
 * parents     sequence numbers are given once, and grow in real time and in a session; what
 *             was acknowledged is there until its deletion is asked for, and not after it is
 *             acknowledged
 *
 * Returns whether nothing is wrong. */
bool history_check(struct history *h, struct history_report *r);
void history_report_free(struct history_report *r);

#endif
