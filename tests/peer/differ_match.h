/* SPDX-License-Identifier: Apache-2.0 */
/* differ_match.h -- one text for equal answers of two servers.
 *
 * An answer is written out as a text, with everything in it that may differ made the same:
 *   zxids     ZooKeeper's. muster's are its log's numbers: they begin elsewhere, and an entry
 *             that ZooKeeper has not (a session that is connected again) shifts all later
 *             ones. Between such places they must go in step.
 *   sessions  numbers in the order in which the differ opened them
 *   times     left out; checked to be near each other, and to follow the zxids
 *   children and other lists without an order: sorted
 * What is left must be equal, byte for byte.
 */
#ifndef MUSTER_DIFFER_MATCH_H
#define MUSTER_DIFFER_MATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "differ_draw.h"
#include "wire/wire.h"

enum side { ZOOKEEPER, MUSTER, SIDES };
extern const char *const side_names[SIDES];

struct match;
struct match *match_new(void);
void match_free(struct match *m);

/* Both opened a session. */
void match_session(struct match *m, const int64_t ids[SIDES]);
/* muster may have taken one more zxid than ZooKeeper just now. */
void match_may_shift(struct match *m);
/* The zxids of the headers of two answers to the same request; false: out of step. */
bool match_headers(struct match *m, const int64_t zxids[SIDES]);
/* What `side` counts as the zxid that was the last one so many before the present one. */
int64_t match_zxid(const struct match *m, enum side side, int32_t back);

/* Appends the text of a reply without its header. */
void match_reply(struct match *m, enum side side, const struct draw_request *q, int32_t err,
                 const uint8_t *body, size_t len, struct buf *out);
void match_event(const uint8_t *body, size_t len, struct buf *out);
/* The times in what was written since they were cleared are near each other. */
bool match_times(const struct match *m);
void match_times_clear(struct match *m);

#endif
