/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h -- /muster/machines/<machine> and its /alive: what each machine says. A core.
 *
 * The first is persistent: who it is. The second is the agent's ephemeral: that it lives,
 * and everything about its health, with reasons, so that every machine's status can show the
 * whole site. JSON; what another machine wrote is checked like any other input.
 */
#ifndef MUSTER_MACHINE_H
#define MUSTER_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "site/site.h"

#define MACHINE_ROOT "/muster/machines"
#define MACHINE_BYTES_MAX (256u << 10) /* of one alive znode; more is not looked at */
#define MACHINE_REASON_MAX 160         /* with the NUL */
#define MACHINE_INSTANCES_MAX 256
#define MACHINE_WRITE_EVERY_MS 1000   /* a change of state waits so long after the last */
#define MACHINE_REASON_EVERY_MS 10000 /* a change of measured values only */

struct machine_identity {
    char name[SITE_NAME_MAX];
    char address[SITE_ADDRESS_MAX];
    char id[SITE_NAME_MAX];
    int64_t joined_wall_ms;
};
void machine_identity_encode(struct buf *out, const struct machine_identity *m);
/* The name is the znode's. False: not what we write. */
bool machine_identity_decode(const uint8_t *data, size_t len, const char *name,
                             struct machine_identity *out);

struct machine_address {
    char address[SITE_ADDRESS_MAX];
    char state[16]; /* address_state_name() */
    char why[MACHINE_REASON_MAX];
    bool is_avoided; /* not here for now */
};
struct machine_instance {
    char service[SITE_NAME_MAX];
    uint16_t port;
    char state[16]; /* service_state_name() */
    char why[MACHINE_REASON_MAX];
    int64_t since_wall_ms;
};
struct machine_pool {
    char service[SITE_NAME_MAX];
    uint32_t on, slots;
    bool is_kept; /* not what the registry says: the reason is in why */
    char why[MACHINE_REASON_MAX];
};
/* Owned by whoever has it: machine_health_free(). */
struct machine_health {
    char version[32];
    int64_t started_wall_ms;
    uint32_t load_x100;
    bool is_fit; /* for virtual addresses */
    char unfit_why[MACHINE_REASON_MAX];
    char balance_failed[MACHINE_REASON_MAX];
    struct machine_address addresses[SITE_ADDRESSES_MAX];
    unsigned addresses_n;
    struct machine_instance *instances;
    unsigned instances_n;
    struct machine_pool pools[SITE_BALANCE_MAX];
    unsigned pools_n;
};
void machine_health_encode(struct buf *out, const struct machine_health *h);
/* Allocates *out; false (and nothing allocated): not what we write. */
bool machine_health_decode(const uint8_t *data, size_t len, struct machine_health **out);
void machine_health_free(struct machine_health *h);

#endif
