/* SPDX-License-Identifier: Apache-2.0 */
/* netlink_read.h -- what the kernel tells of addresses and devices: one message each, as
 * mnl_cb_run() hands them out. What is of another type or too short is passed over. */
#ifndef MUSTER_NETLINK_READ_H
#define MUSTER_NETLINK_READ_H

#include <libmnl/libmnl.h>

#include "host/netlink.h"

struct netlink_address_list {
    struct netlink_address *v;
    size_t n, cap;
};

int netlink_read_address(const struct nlmsghdr *h, void *ctx); /* ctx: the list */
int netlink_read_device(const struct nlmsghdr *h, void *ctx);  /* ctx: struct netlink_device */

#endif
