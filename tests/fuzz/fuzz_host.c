/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine and its network tell. The first byte picks:
 *   0  ARP frames, one after the other (anybody on the network sends them)
 *   1  the kernel's addresses   2  its devices   3  its nftables sets   (netlink messages)
 *   4  HAProxy: an answer to a runtime command, "show proc", what it says when it refuses */
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "host/arp_frame.h"
#include "host/haproxy.h"
#include "host/lease.h"
#include "host/netlink_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void arp(const uint8_t *data, size_t len)
{
    static const uint8_t own[6] = {2, 0, 0, 0, 0, 1};
    struct arp_frame f;
    struct arp_claim c;

    for (; len >= sizeof f; data += sizeof f, len -= sizeof f) {
        memcpy(&f, data, sizeof f);
        if (!arp_frame_read(&f, own, &c))
            continue;
        CHECK(c.address.s_addr != 0);
        CHECK(memcmp(c.mac, own, sizeof own) != 0);
    }
}

/* What stands in a message: the type (1 byte), its length (2), the rest. The kernel does not
 * lie about how long a message is, and libmnl believes it. */
static void netlink(unsigned which, const uint8_t *data, size_t len)
{
    static const uint16_t types[] = {RTM_NEWADDR, RTM_NEWLINK, NFNL_SUBSYS_NFTABLES << 8 | 12,
                                     NLMSG_DONE, NLMSG_ERROR};
    struct netlink_address_list list = {0};
    struct netlink_device device = {0};
    struct in_addr v[4];
    struct lease_found found = {v, 0, 4};
    mnl_cb_t each[] = {netlink_read_address, netlink_read_device, lease_read_elements};
    void *ctx[] = {&list, &device, &found};

    while (len >= 3) {
        size_t n = (size_t)data[1] << 8 | data[2];
        n = n < len - 3 ? n : len - 3;
        struct nlmsghdr *h = mem_alloc(MNL_ALIGN(sizeof *h + n)); /* messages are padded */
        h->nlmsg_len = (uint32_t)(sizeof *h + n);
        h->nlmsg_type = types[data[0] % 5];
        memcpy(h + 1, data + 3, n);
        if (mnl_cb_run(h, h->nlmsg_len, 0, 0, each[which], ctx[which]) <= MNL_CB_STOP)
            len = 3 + n;
        mem_free(h);
        data += 3 + n;
        len -= 3 + n;
    }
    for (size_t i = 0; i < list.n; i++)
        CHECK(list.v[i].address.s_addr != 0 && list.v[i].prefix <= 32);
    CHECK(memchr(device.name, 0, sizeof device.name) != NULL);
    CHECK(found.n <= 4 && list.n <= NETLINK_ADDRESSES_MAX);
    mem_free(list.v);
}

static void haproxy(const uint8_t *data, size_t len)
{
    char *text = mem_dup_strn((const char *)data, len), alert[HAPROXY_REASON_MAX];
    struct haproxy_processes p;

    (void)haproxy_is_confirmed(text);
    if (haproxy_parse_processes(text, &p))
        CHECK(p.master > 0);
    haproxy_alert(text, alert, sizeof alert);
    CHECK(strchr(alert, '\n') == NULL);
    mem_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    switch (data[0] % 5) {
    case 0: arp(data + 1, len - 1); break;
    case 4: haproxy(data + 1, len - 1); break;
    default: netlink(data[0] % 5 - 1, data + 1, len - 1);
    }
    return 0;
}
