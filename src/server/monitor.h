/* SPDX-License-Identifier: Apache-2.0 */
/* monitor.h -- the numbers that monitors read: mntr's keys, the same as JSON, and Prometheus
 * text with ZooKeeper's names beside our own.
 *
 * One table says which of ZooKeeper's there are; what we do not have, or have only with
 * another meaning, is not in it (docs/monitoring.md).
 */
#ifndef MUSTER_MONITOR_H
#define MUSTER_MONITOR_H

#include <jansson.h>

#include "server/words.h"

void monitor_mntr(const struct words *w, struct buf *out);
void monitor_json(const struct words *w, json_t *to);
void monitor_prometheus(const struct words *w, struct buf *out);
/* As Java prints what ZooKeeper has rounded to four places. */
void monitor_real(double v, struct buf *out);

#endif
