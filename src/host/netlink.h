/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.h -- IPv4 addresses and devices of this network namespace (rtnetlink).
 *
 * Addresses of ours carry IFA_PROTO 77 (kernel 5.18; see /usr/include/linux/if_addr.h) and a
 * lifetime, so that the kernel removes one that nobody renews, and so that a later life of
 * the program knows what an earlier one left. The lifetime has whole seconds; what ends a
 * lease at its millisecond is lease.h.
 *
 * Calls are synchronous: the kernel answers while it is asked. They wait for whoever holds
 * the kernel's rtnl lock, which others' bulk changes can hold for some milliseconds.
 * Not thread-safe; the socket belongs to the namespace it was opened in.
 */
#ifndef MUSTER_HOST_NETLINK_H
#define MUSTER_HOST_NETLINK_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_OURS 77            /* IFA_PROTO of what we add; the kernel uses 0 to 3 */
#define NETLINK_FOREVER UINT32_MAX /* valid_s of an address without a lifetime */
#define NETLINK_ADDRESSES_MAX 4096 /* that are looked at */

struct netlink;

struct netlink_address {
    struct in_addr address;
    unsigned device; /* interface index */
    uint8_t prefix;
    uint8_t proto; /* IFA_PROTO; 0 when the kernel does not tell */
    uint32_t valid_s;
};

struct netlink_device {
    unsigned index;
    char name[IF_NAMESIZE];
    uint8_t mac[6]; /* zero when it has none of six bytes */
    bool is_loopback;
    bool is_up;      /* set up by the administrator */
    bool is_running; /* and there is a carrier */
};

/* Errors: ERR_PERMISSION, ERR_NOT_FOUND, ERR_EXISTS, ERR_BAD_ARGUMENTS, ERR_TIMED_OUT,
 * ERR_SYSTEM; netlink_why() gives the kernel's own words for the last one. */
int netlink_open(struct netlink **out);
void netlink_close(struct netlink *n); /* NULL is fine */
const char *netlink_why(const struct netlink *n);

/* Adds the address, or sets the remaining life of one that is there: lifetime_ms rounded up
 * to seconds, valid and preferred alike. Makes no route for the prefix. */
int netlink_address_put(struct netlink *n, unsigned device, struct in_addr address,
                        uint8_t prefix, uint64_t lifetime_ms);
/* ERR_NOT_FOUND when it is not there. */
int netlink_address_remove(struct netlink *n, unsigned device, struct in_addr address,
                           uint8_t prefix);
/* All of them; the caller frees *out with mem_free. */
int netlink_addresses(struct netlink *n, struct netlink_address **out, size_t *count);

int netlink_device_get(struct netlink *n, unsigned index, struct netlink_device *out);
/* The device on whose subnet the address lies: the longest prefix wins, and of two alike the
 * one that holds `own` (0.0.0.0: no matter). Host routes and loopback do not count.
 * ERR_NOT_FOUND when there is none. */
int netlink_device_for(struct netlink *n, struct in_addr address, struct in_addr own,
                       unsigned *device);

#endif
