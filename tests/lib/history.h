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
