/* SPDX-License-Identifier: Apache-2.0 */
#include "host/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/time.h>

#include "base/err.h"
#include "base/mem.h"
#include "host/netlink_read.h"

enum { ANSWER_LIMIT_S = 2, ANSWER_BYTES = 32768, REQUEST_BYTES = 512, DUMP_TRIES = 3 };

/* Where a message is built or read: aligned for its header. */
#define MESSAGE(name, size) _Alignas(struct nlmsghdr) char name[size]

struct netlink {
    struct mnl_socket *socket;
    uint32_t seq;
    int number; /* errno of the last failure */
};

static int error_of(struct netlink *n, int number)
{
    n->number = number;
    switch (number) {
    case EPERM:
    case EACCES: return ERR_PERMISSION;
    case ENODEV:
    case ENXIO:
    case EADDRNOTAVAIL: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    case EINVAL: return ERR_BAD_ARGUMENTS;
    case EAGAIN:
    case ETIMEDOUT: return ERR_TIMED_OUT;
    default: return ERR_SYSTEM;
    }
}

int netlink_open(struct netlink **out)
{
    struct netlink n = {0};
    const struct timeval limit = {.tv_sec = ANSWER_LIMIT_S};

    n.socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (n.socket == NULL)
        return error_of(&n, errno);
    if (mnl_socket_bind(n.socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
        setsockopt(mnl_socket_get_fd(n.socket), SOL_SOCKET, SO_RCVTIMEO, &limit,
                   sizeof limit) != 0) {
        int err = error_of(&n, errno);
        mnl_socket_close(n.socket);
        return err;
    }
    *out = mem_dup(&n, sizeof n);
    return 0;
}

void netlink_close(struct netlink *n)
{
    if (n == NULL)
        return;
    mnl_socket_close(n->socket);
    mem_free(n);
}

const char *netlink_why(const struct netlink *n) { return strerror(n->number); }

/* Sends one request and hands each answer to `each` until the end of it. An answer that was
 * left over from a request that timed out has another number and is passed over. */
static int ask(struct netlink *n, struct nlmsghdr *request, mnl_cb_t each, void *ctx)
{
    MESSAGE(answer, ANSWER_BYTES);

    request->nlmsg_seq = ++n->seq;
    if (mnl_socket_sendto(n->socket, request, request->nlmsg_len) < 0)
        return error_of(n, errno);
    for (;;) {
        ssize_t len = mnl_socket_recvfrom(n->socket, answer, sizeof answer);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return error_of(n, errno);
        int more = mnl_cb_run(answer, (size_t)len, n->seq, mnl_socket_get_portid(n->socket),
                              each, ctx);
        if (more < 0 && (errno == EPROTO || errno == ESRCH))
            continue;
        if (more < 0)
            return error_of(n, errno);
        if (more == MNL_CB_STOP)
            return 0;
    }
}

static struct nlmsghdr *address_request(char *buffer, int type, int flags, unsigned device,
                                        struct in_addr address, uint8_t prefix)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);

    h->nlmsg_type = (uint16_t)type;
    h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
    m->ifa_family = AF_INET;
    m->ifa_prefixlen = prefix;
    m->ifa_scope = RT_SCOPE_UNIVERSE;
    m->ifa_index = device;
    mnl_attr_put_u32(h, IFA_LOCAL, address.s_addr);
    mnl_attr_put_u32(h, IFA_ADDRESS, address.s_addr);
    return h;
}

int netlink_address_put(struct netlink *n, unsigned device, struct in_addr address,
                        uint8_t prefix, uint64_t lifetime_ms)
{
    MESSAGE(buffer, REQUEST_BYTES);
    uint64_t seconds = (lifetime_ms + 999) / 1000;

    if (seconds == 0 || seconds >= NETLINK_FOREVER || prefix > 32)
        return ERR_BAD_ARGUMENTS;
    struct nlmsghdr *h = address_request(buffer, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE,
                                         device, address, prefix);
    const struct ifa_cacheinfo life = {.ifa_prefered = (uint32_t)seconds,
                                       .ifa_valid = (uint32_t)seconds};
    mnl_attr_put(h, IFA_CACHEINFO, sizeof life, &life);
    mnl_attr_put_u32(h, IFA_FLAGS, IFA_F_NOPREFIXROUTE);
    mnl_attr_put_u8(h, IFA_PROTO, NETLINK_OURS);
    return ask(n, h, NULL, NULL);
}

int netlink_address_remove(struct netlink *n, unsigned device, struct in_addr address,
                           uint8_t prefix)
{
    MESSAGE(buffer, REQUEST_BYTES);

    return ask(n, address_request(buffer, RTM_DELADDR, 0, device, address, prefix), NULL, NULL);
}

int netlink_addresses(struct netlink *n, struct netlink_address **out, size_t *count)
{
    struct netlink_address_list list = {0};
    int err = ERR_SYSTEM;

    /* A list that changes while the kernel writes it is interrupted: then once more. */
    for (unsigned tries = 0; tries < DUMP_TRIES && err != 0; tries++) {
        MESSAGE(buffer, REQUEST_BYTES);
        struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
        h->nlmsg_type = RTM_GETADDR;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
        m->ifa_family = AF_INET;
        list.n = 0;
        err = ask(n, h, netlink_read_address, &list);
        if (err != 0 && n->number != EINTR)
            break;
    }
    if (err != 0) {
        mem_free(list.v);
        return err;
    }
    *out = list.v;
    *count = list.n;
    return 0;
}

int netlink_device_get(struct netlink *n, unsigned index, struct netlink_device *out)
{
    MESSAGE(buffer, REQUEST_BYTES);
    struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);

    h->nlmsg_type = RTM_GETLINK;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
    m->ifi_family = AF_UNSPEC;
    m->ifi_index = (int)index;
    *out = (struct netlink_device){0};
    int err = ask(n, h, netlink_read_device, out);
    return err != 0 ? err : out->index == index ? 0 : ERR_NOT_FOUND;
}

static bool same_subnet(struct in_addr a, struct in_addr b, uint8_t prefix)
{
    uint32_t mask = prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);

    return ((ntohl(a.s_addr) ^ ntohl(b.s_addr)) & mask) == 0;
}

int netlink_device_for(struct netlink *n, struct in_addr address, struct in_addr own,
                       unsigned *device)
{
    struct netlink_address *v;
    size_t count, best = SIZE_MAX;
    int err = netlink_addresses(n, &v, &count);

    if (err != 0)
        return err;
    for (size_t i = 0; i < count; i++) {
        struct netlink_device d;
        if (v[i].prefix == 32 || v[i].prefix == 0 ||
            !same_subnet(v[i].address, address, v[i].prefix))
            continue;
        if (best != SIZE_MAX &&
            (v[i].prefix < v[best].prefix ||
             (v[i].prefix == v[best].prefix && v[i].address.s_addr != own.s_addr)))
            continue;
        if (netlink_device_get(n, v[i].device, &d) == 0 && !d.is_loopback)
            best = i;
    }
    if (best != SIZE_MAX)
        *device = v[best].device;
    mem_free(v);
    return best == SIZE_MAX ? ERR_NOT_FOUND : 0;
}
