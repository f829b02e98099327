/* SPDX-License-Identifier: Apache-2.0 */
#include "host/netlink_read.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#include "base/mem.h"

static int take_address_attribute(const struct nlattr *a, void *ctx)
{
    struct netlink_address *out = ctx;

    switch (mnl_attr_get_type(a)) {
    case IFA_LOCAL:
        if (mnl_attr_validate(a, MNL_TYPE_U32) == 0)
            out->address.s_addr = mnl_attr_get_u32(a);
        break;
    case IFA_PROTO:
        if (mnl_attr_validate(a, MNL_TYPE_U8) == 0)
            out->proto = mnl_attr_get_u8(a);
        break;
    case IFA_CACHEINFO:
        if (mnl_attr_get_payload_len(a) >= sizeof(struct ifa_cacheinfo)) {
            struct ifa_cacheinfo life;
            memcpy(&life, mnl_attr_get_payload(a), sizeof life);
            out->valid_s = life.ifa_valid;
        }
        break;
    default: break;
    }
    return MNL_CB_OK;
}

int netlink_read_address(const struct nlmsghdr *h, void *ctx)
{
    struct netlink_address_list *list = ctx;
    const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);

    if (h->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(h) < sizeof *m ||
        m->ifa_family != AF_INET || list->n == NETLINK_ADDRESSES_MAX)
        return MNL_CB_OK;
    struct netlink_address a = {
        .device = m->ifa_index, .prefix = m->ifa_prefixlen, .valid_s = NETLINK_FOREVER};
    mnl_attr_parse(h, sizeof *m, take_address_attribute, &a);
    if (a.address.s_addr == 0 || a.prefix > 32)
        return MNL_CB_OK;
    mem_grow(list->v, list->cap, list->n + 1);
    list->v[list->n++] = a;
    return MNL_CB_OK;
}

static int take_device_attribute(const struct nlattr *a, void *ctx)
{
    struct netlink_device *out = ctx;
    uint16_t len = mnl_attr_get_payload_len(a);

    if (mnl_attr_get_type(a) == IFLA_IFNAME && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0 &&
        len <= sizeof out->name)
        memcpy(out->name, mnl_attr_get_str(a), len);
    if (mnl_attr_get_type(a) == IFLA_ADDRESS && len == sizeof out->mac)
        memcpy(out->mac, mnl_attr_get_payload(a), sizeof out->mac);
    return MNL_CB_OK;
}

int netlink_read_device(const struct nlmsghdr *h, void *ctx)
{
    struct netlink_device *out = ctx;
    const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);

    if (h->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(h) < sizeof *m)
        return MNL_CB_OK;
    out->index = (unsigned)m->ifi_index;
    out->is_loopback = (m->ifi_flags & IFF_LOOPBACK) != 0;
    out->is_up = (m->ifi_flags & IFF_UP) != 0;
    out->is_running = out->is_up && (m->ifi_flags & IFF_RUNNING) != 0;
    mnl_attr_parse(h, sizeof *m, take_device_attribute, out);
    return MNL_CB_OK;
}
