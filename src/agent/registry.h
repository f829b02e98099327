/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h -- /services/<service>/<machine>-<port>: who takes traffic. A core.
 *
 * The data is Curator's service-discovery JSON (ServiceInstance), so that its clients find
 * our services and we see theirs. Ephemeral and only while healthy: being there is the fact.
 */
#ifndef MUSTER_REGISTRY_H
#define MUSTER_REGISTRY_H

#include "agent/balance.h"
#include "base/buf.h"

#define REGISTRY_ROOT "/services"
#define REGISTRY_BYTES_MAX 4096 /* of one instance's data; more is not looked at */

/* "/services/web/a-3000" */
void registry_path(struct buf *out, const char *service, const char *machine, uint16_t port);
void registry_encode(struct buf *out, const char *service, const char *machine,
                     const char *address, uint16_t port, int64_t wall_ms);
/* Any bytes; false: not an instance with an IPv4 address and a port. `name` is the znode's. */
bool registry_decode(const uint8_t *data, size_t len, const char *name,
                     struct balance_member *out);

#endif
