/* SPDX-License-Identifier: Apache-2.0 */
#include "host/lease.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_arp.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/time.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "host/clock.h"

enum {
    ANSWER_LIMIT_S = 2,
    ANSWER_BYTES = 16384,
    BATCH_BYTES = 32768,
    ELEMENT_BYTES = 64, /* more than one set element with its timeout takes */
    LATE_TRIES = 3,
    DUMP_TRIES = 3,
    TYPE_IPV4_ADDR = 7, /* nft's number for the type, so that it prints well */
    PRIORITY = -310,    /* before conntrack (-200) and what is before it (raw, -300) */
};

#define TABLE "muster"
#define MANAGED "managed"
#define LEASED "leased"

static const uint8_t families[] = {NFPROTO_INET, NFPROTO_ARP};
enum { FAMILIES = sizeof families / sizeof families[0] };

/* Each chain has one rule: the four bytes at `offset` of the network header are managed, not
 * leased, (and, where `local`, an address of this machine): drop. */
static const struct gate {
    const char *chain;
    uint8_t family;
    uint32_t hook;
    uint32_t offset;
    bool local;
} gates[] = {
    {"prerouting", NFPROTO_INET, NF_INET_PRE_ROUTING, 16, true}, /* IPv4 destination */
    {"input", NFPROTO_INET, NF_INET_LOCAL_IN, 16, false},
    {"output", NFPROTO_INET, NF_INET_LOCAL_OUT, 12, false}, /* IPv4 source */
    {"output", NFPROTO_ARP, NF_ARP_OUT, 14, false},         /* ARP sender */
};
enum { GATES = sizeof gates / sizeof gates[0] };

struct lease {
    struct mnl_socket *socket;
    uint32_t seq;
    int number;     /* errno of the last failure */
    unsigned rules; /* how many lease_setup() made */

    /* The batch being built; last: its last message, whose length still grows. */
    struct nlmsghdr *last;
    size_t len;
    _Alignas(struct nlmsghdr) char batch[BATCH_BYTES];
};

static int error_of(struct lease *l, int number)
{
    l->number = number;
    switch (number) {
    case 0: return 0;
    case EPERM:
    case EACCES: return ERR_PERMISSION;
    case ENOENT: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    default: return ERR_SYSTEM;
    }
}

int lease_open(struct lease **out)
{
    const struct timeval limit = {.tv_sec = ANSWER_LIMIT_S};
    struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);

    if (s == NULL)
        return ERR_SYSTEM;
    if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ||
        setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) {
        mnl_socket_close(s);
        return ERR_SYSTEM;
    }
    *out = mem_new(struct lease);
    (*out)->socket = s;
    return 0;
}

void lease_close(struct lease *l)
{
    if (l == NULL)
        return;
    mnl_socket_close(l->socket);
    mem_free(l);
}

const char *lease_why(const struct lease *l) { return strerror(l->number); }

/* ---- messages ---- */

static size_t aligned(size_t len)
{
    return (len + MNL_ALIGNTO - 1) / MNL_ALIGNTO * MNL_ALIGNTO;
}

static struct nlmsghdr *put_message(struct lease *l, uint16_t type, uint8_t family,
                                    uint16_t flags, uint16_t resource)
{
    if (l->last != NULL)
        l->len += aligned(l->last->nlmsg_len);
    CHECK(l->len + 1024 < sizeof l->batch);
    struct nlmsghdr *h = mnl_nlmsg_put_header(l->batch + l->len);
    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    h->nlmsg_seq = ++l->seq;
    struct nfgenmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
    m->nfgen_family = family;
    m->version = NFNETLINK_V0;
    m->res_id = htons(resource);
    l->last = h;
    return h;
}

static struct nlmsghdr *put(struct lease *l, uint16_t type, uint8_t family, uint16_t flags)
{
    return put_message(l, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), family, flags, 0);
}

static void put_u32(struct nlmsghdr *h, uint16_t type, uint32_t value)
{
    mnl_attr_put_u32(h, type, htonl(value));
}

static void batch_begin(struct lease *l)
{
    l->last = NULL;
    l->len = 0;
    put_message(l, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, 0, NFNL_SUBSYS_NFTABLES);
}

/* Reads one datagram of answers. Returns how many verdicts were in it, -1 when there is
 * nothing now; *number is the first error that any of them tells. */
static int read_verdicts(struct lease *l, int flags, int *number)
{
    _Alignas(struct nlmsghdr) char answer[ANSWER_BYTES];
    int count = 0;
    ssize_t got = recv(mnl_socket_get_fd(l->socket), answer, sizeof answer, flags);

    if (got < 0)
        return -1;
    int left = (int)got;
    for (struct nlmsghdr *h = (void *)answer; mnl_nlmsg_ok(h, left);
         h = mnl_nlmsg_next(h, &left)) {
        const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
        if (h->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(h) < sizeof *e)
            continue;
        count++;
        if (*number == 0)
            *number = -e->error;
    }
    return count;
}

/* All of it or nothing. The kernel works while it is sent to, and its answers wait for us
 * when that returns: for each message that failed, and, as asked for, for the last one. */
static int batch_commit(struct lease *l)
{
    int number = 0, answers = 0;

    l->last->nlmsg_flags |= NLM_F_ACK;
    put_message(l, NFNL_MSG_BATCH_END, AF_UNSPEC, 0, NFNL_SUBSYS_NFTABLES);
    l->len += aligned(l->last->nlmsg_len);

    /* Whatever an earlier, broken exchange left is not an answer to this. */
    int old = 0;
    while (read_verdicts(l, MSG_DONTWAIT, &old) >= 0) {
    }
    if (mnl_socket_sendto(l->socket, l->batch, l->len) < 0)
        return error_of(l, errno);
    for (;;) {
        int n = read_verdicts(l, answers == 0 ? 0 : MSG_DONTWAIT, &number);
        if (n < 0)
            break;
        answers += n;
    }
    return answers == 0 ? error_of(l, ETIMEDOUT) : error_of(l, number);
}

/* One question outside of a batch; `each` sees the answers. */
static int ask(struct lease *l, mnl_cb_t each, void *ctx)
{
    _Alignas(struct nlmsghdr) char answer[ANSWER_BYTES];
    struct nlmsghdr *question = l->last;

    if (mnl_socket_sendto(l->socket, question, question->nlmsg_len) < 0)
        return error_of(l, errno);
    for (;;) {
        ssize_t len = mnl_socket_recvfrom(l->socket, answer, sizeof answer);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return error_of(l, errno);
        int more = mnl_cb_run(answer, (size_t)len, question->nlmsg_seq,
                              mnl_socket_get_portid(l->socket), each, ctx);
        if (more < 0 && (errno == EPROTO || errno == ESRCH))
            continue;
        if (more <= MNL_CB_STOP)
            return more == MNL_CB_STOP ? 0 : error_of(l, errno);
    }
}

static struct nlmsghdr *question(struct lease *l, uint16_t type, uint8_t family, uint16_t flags)
{
    l->last = NULL;
    l->len = 0;
    return put(l, type, family, flags);
}

/* ---- elements ---- */

static void put_key(struct nlmsghdr *h, struct in_addr address)
{
    struct nlattr *key = mnl_attr_nest_start(h, NFTA_SET_ELEM_KEY);

    mnl_attr_put_u32(h, NFTA_DATA_VALUE, address.s_addr);
    mnl_attr_nest_end(h, key);
}

/* type: NFT_MSG_NEWSETELEM (timeout_ms 0: none), _DELSETELEM or _GETSETELEM */
static void fill_elements(struct nlmsghdr *h, const char *set, const struct in_addr *v,
                          size_t n, uint64_t timeout_ms)
{
    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, TABLE);
    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
    struct nlattr *list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
    for (size_t i = 0; i < n; i++) {
        struct nlattr *element = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
        put_key(h, v[i]);
        if (timeout_ms > 0)
            mnl_attr_put_u64(h, NFTA_SET_ELEM_TIMEOUT, htobe64(timeout_ms));
        mnl_attr_nest_end(h, element);
    }
    mnl_attr_nest_end(h, list);
}

static void put_element(struct lease *l, uint16_t type, uint8_t family, const char *set,
                        struct in_addr address, uint64_t timeout_ms)
{
    uint16_t flags = type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0;

    fill_elements(put(l, type, family, flags), set, &address, 1, timeout_ms);
}

/* "Add, then delete" is how to delete without minding whether it is there: nothing of a
 * batch is seen before all of it. */
static void put_removal(struct lease *l, uint8_t family, const char *set,
                        struct in_addr address, uint64_t timeout_ms)
{
    put_element(l, NFT_MSG_NEWSETELEM, family, set, address, timeout_ms);
    put_element(l, NFT_MSG_DELSETELEM, family, set, address, 0);
}

static int take_key(const struct nlattr *a, void *ctx)
{
    struct lease_found *f = ctx;

    if (mnl_attr_get_type(a) == NFTA_DATA_VALUE && f->n < f->max &&
        mnl_attr_get_payload_len(a) == sizeof(struct in_addr))
        f->v[f->n++].s_addr = mnl_attr_get_u32(a);
    return MNL_CB_OK;
}

static int take_element_part(const struct nlattr *a, void *ctx)
{
    if (mnl_attr_get_type(a) != NFTA_SET_ELEM_KEY)
        return MNL_CB_OK;
    return mnl_attr_parse_nested(a, take_key, ctx);
}

static int take_element(const struct nlattr *element, void *ctx)
{
    return mnl_attr_parse_nested(element, take_element_part, ctx);
}

static int take_elements(const struct nlattr *a, void *ctx)
{
    if (mnl_attr_get_type(a) != NFTA_SET_ELEM_LIST_ELEMENTS)
        return MNL_CB_OK;
    return mnl_attr_parse_nested(a, take_element, ctx);
}

int lease_read_elements(const struct nlmsghdr *h, void *ctx)
{
    return mnl_attr_parse(h, sizeof(struct nfgenmsg), take_elements, ctx);
}

int lease_managed(struct lease *l, struct in_addr *v, size_t max, size_t *n)
{
    struct lease_found found = {v, 0, max};
    int err = ERR_SYSTEM;

    /* A list that others' changes interrupt is asked for again. */
    for (unsigned tries = 0; tries < DUMP_TRIES; tries++) {
        struct nlmsghdr *h = question(l, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP);
        mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, TABLE);
        mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, MANAGED);
        found.n = 0;
        err = ask(l, lease_read_elements, &found);
        if (err == 0 || l->number != EINTR)
            break;
    }
    *n = found.n;
    return err;
}

int lease_is_granted(struct lease *l, struct in_addr address, bool *granted)
{
    struct in_addr v[1];
    struct lease_found found = {v, 0, 1};

    *granted = false;
    for (unsigned i = 0; i < FAMILIES; i++) {
        struct nlmsghdr *h = question(l, NFT_MSG_GETSETELEM, families[i], NLM_F_ACK);
        fill_elements(h, LEASED, &address, 1, 0);
        found.n = 0;
        int err = ask(l, lease_read_elements, &found);
        if (err != 0 && err != ERR_NOT_FOUND)
            return err;
        *granted = *granted || found.n == 1;
    }
    return 0;
}

/* ---- the tables ---- */

static struct nlattr *begin_expression(struct nlmsghdr *h, const char *name,
                                       struct nlattr **element)
{
    *element = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
    mnl_attr_put_strz(h, NFTA_EXPR_NAME, name);
    return mnl_attr_nest_start(h, NFTA_EXPR_DATA);
}

static void end_expression(struct nlmsghdr *h, struct nlattr *data, struct nlattr *element)
{
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, element);
}

static void put_compare(struct nlmsghdr *h, const void *value, size_t len)
{
    struct nlattr *element, *data = begin_expression(h, "cmp", &element);

    put_u32(h, NFTA_CMP_SREG, NFT_REG_1);
    put_u32(h, NFTA_CMP_OP, NFT_CMP_EQ);
    struct nlattr *v = mnl_attr_nest_start(h, NFTA_CMP_DATA);
    mnl_attr_put(h, NFTA_DATA_VALUE, len, value);
    mnl_attr_nest_end(h, v);
    end_expression(h, data, element);
}

static void put_is_ipv4(struct nlmsghdr *h)
{
    const uint8_t ipv4 = NFPROTO_IPV4;
    struct nlattr *element, *data = begin_expression(h, "meta", &element);

    put_u32(h, NFTA_META_DREG, NFT_REG_1);
    put_u32(h, NFTA_META_KEY, NFT_META_NFPROTO);
    end_expression(h, data, element);
    put_compare(h, &ipv4, sizeof ipv4);
}

static void put_is_local(struct nlmsghdr *h)
{
    const uint32_t local = RTN_LOCAL; /* in the byte order of the machine */
    struct nlattr *element, *data = begin_expression(h, "fib", &element);

    put_u32(h, NFTA_FIB_DREG, NFT_REG_1);
    put_u32(h, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    put_u32(h, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
    end_expression(h, data, element);
    put_compare(h, &local, sizeof local);
}

static void put_lookup(struct nlmsghdr *h, uint32_t offset, const char *set, uint32_t flags)
{
    struct nlattr *element, *data = begin_expression(h, "payload", &element);

    put_u32(h, NFTA_PAYLOAD_DREG, NFT_REG_1);
    put_u32(h, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
    put_u32(h, NFTA_PAYLOAD_OFFSET, offset);
    put_u32(h, NFTA_PAYLOAD_LEN, sizeof(struct in_addr));
    end_expression(h, data, element);

    data = begin_expression(h, "lookup", &element);
    mnl_attr_put_strz(h, NFTA_LOOKUP_SET, set);
    put_u32(h, NFTA_LOOKUP_SREG, NFT_REG_1);
    put_u32(h, NFTA_LOOKUP_FLAGS, flags);
    end_expression(h, data, element);
}

static void put_counter_and_drop(struct nlmsghdr *h)
{
    struct nlattr *element, *data = begin_expression(h, "counter", &element);
    end_expression(h, data, element);

    data = begin_expression(h, "immediate", &element);
    put_u32(h, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    struct nlattr *value = mnl_attr_nest_start(h, NFTA_IMMEDIATE_DATA);
    struct nlattr *verdict = mnl_attr_nest_start(h, NFTA_DATA_VERDICT);
    put_u32(h, NFTA_VERDICT_CODE, NF_DROP);
    mnl_attr_nest_end(h, verdict);
    mnl_attr_nest_end(h, value);
    end_expression(h, data, element);
}

static void put_gate(struct lease *l, const struct gate *g)
{
    struct nlmsghdr *h = put(l, NFT_MSG_NEWCHAIN, g->family, NLM_F_CREATE);

    mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, TABLE);
    mnl_attr_put_strz(h, NFTA_CHAIN_NAME, g->chain);
    mnl_attr_put_strz(h, NFTA_CHAIN_TYPE, "filter");
    put_u32(h, NFTA_CHAIN_POLICY, NF_ACCEPT);
    struct nlattr *hook = mnl_attr_nest_start(h, NFTA_CHAIN_HOOK);
    put_u32(h, NFTA_HOOK_HOOKNUM, g->hook);
    put_u32(h, NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
    mnl_attr_nest_end(h, hook);

    h = put(l, NFT_MSG_NEWRULE, g->family, NLM_F_CREATE | NLM_F_APPEND);
    mnl_attr_put_strz(h, NFTA_RULE_TABLE, TABLE);
    mnl_attr_put_strz(h, NFTA_RULE_CHAIN, g->chain);
    struct nlattr *expressions = mnl_attr_nest_start(h, NFTA_RULE_EXPRESSIONS);
    if (g->family == NFPROTO_INET)
        put_is_ipv4(h);
    put_lookup(h, g->offset, MANAGED, 0);
    put_lookup(h, g->offset, LEASED, NFT_LOOKUP_F_INV);
    if (g->local)
        put_is_local(h);
    put_counter_and_drop(h);
    mnl_attr_nest_end(h, expressions);
}

static void put_set(struct lease *l, uint8_t family, const char *name, uint32_t flags)
{
    struct nlmsghdr *h = put(l, NFT_MSG_NEWSET, family, NLM_F_CREATE);

    mnl_attr_put_strz(h, NFTA_SET_TABLE, TABLE);
    mnl_attr_put_strz(h, NFTA_SET_NAME, name);
    put_u32(h, NFTA_SET_FLAGS, flags);
    put_u32(h, NFTA_SET_KEY_TYPE, TYPE_IPV4_ADDR);
    put_u32(h, NFTA_SET_KEY_LEN, sizeof(struct in_addr));
    put_u32(h, NFTA_SET_ID, l->seq); /* unique in the batch */
}

static void put_table(struct lease *l, uint16_t type, uint8_t family)
{
    struct nlmsghdr *h = put(l, type, family, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);

    mnl_attr_put_strz(h, NFTA_TABLE_NAME, TABLE);
}

static int build(struct lease *l, const struct in_addr *managed, size_t n, bool with_local)
{
    batch_begin(l);
    for (unsigned i = 0; i < FAMILIES; i++) {
        put_table(l, NFT_MSG_NEWTABLE, families[i]);
        put_table(l, NFT_MSG_DELTABLE, families[i]);
        put_table(l, NFT_MSG_NEWTABLE, families[i]);
        put_set(l, families[i], MANAGED, 0);
        put_set(l, families[i], LEASED, NFT_SET_TIMEOUT);
        if (n > 0)
            fill_elements(put(l, NFT_MSG_NEWSETELEM, families[i], NLM_F_CREATE), MANAGED,
                          managed, n, 0);
    }
    l->rules = 0;
    for (unsigned i = 0; i < GATES; i++) {
        if (gates[i].local && !with_local)
            continue;
        put_gate(l, &gates[i]);
        l->rules++;
    }
    return batch_commit(l);
}

int lease_setup(struct lease *l, const struct in_addr *managed, size_t n)
{
    struct in_addr all[LEASE_ADDRESSES_MAX];
    size_t count;
    int err = lease_managed(l, all, LEASE_ADDRESSES_MAX, &count);

    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        while (at < count && all[at].s_addr != managed[i].s_addr)
            at++;
        if (at == LEASE_ADDRESSES_MAX)
            return ERR_TOO_BIG;
        all[at] = managed[i];
        if (at == count)
            count++;
    }
    _Static_assert(BATCH_BYTES > 2 * LEASE_ADDRESSES_MAX * ELEMENT_BYTES / 2 + 8192,
                   "two families' elements (32 bytes each without timeout), tables and rules");
    err = build(l, all, count, true);
    /* A kernel without the fib expression: the other gates do, DNAT apart. */
    return err == 0 ? 0 : build(l, all, count, false);
}

int lease_cleanup(struct lease *l)
{
    batch_begin(l);
    for (unsigned i = 0; i < FAMILIES; i++) {
        put_table(l, NFT_MSG_NEWTABLE, families[i]);
        put_table(l, NFT_MSG_DELTABLE, families[i]);
    }
    return batch_commit(l);
}

static int count_rule(const struct nlmsghdr *h, void *ctx)
{
    (void)h;
    ++*(unsigned *)ctx;
    return MNL_CB_OK;
}

int lease_verify(struct lease *l)
{
    unsigned rules = 0;

    for (unsigned i = 0; i < FAMILIES; i++) {
        struct nlmsghdr *h = question(l, NFT_MSG_GETRULE, families[i], NLM_F_DUMP);
        mnl_attr_put_strz(h, NFTA_RULE_TABLE, TABLE);
        int err = ask(l, count_rule, &rules);
        if (err != 0)
            return l->number == EINTR ? ERR_BUSY : err;
    }
    return rules > 0 && rules == l->rules ? 0 : ERR_NOT_FOUND;
}

int lease_manage(struct lease *l, struct in_addr address)
{
    batch_begin(l);
    for (unsigned i = 0; i < FAMILIES; i++)
        put_element(l, NFT_MSG_NEWSETELEM, families[i], MANAGED, address, 0);
    return batch_commit(l);
}

int lease_unmanage(struct lease *l, struct in_addr address)
{
    batch_begin(l);
    for (unsigned i = 0; i < FAMILIES; i++) {
        put_removal(l, families[i], LEASED, address, LEASE_LEFT_MIN_MS);
        put_removal(l, families[i], MANAGED, address, 0);
    }
    return batch_commit(l);
}

/* ---- leases ---- */

int lease_revoke(struct lease *l, struct in_addr address)
{
    batch_begin(l);
    for (unsigned i = 0; i < FAMILIES; i++)
        put_removal(l, families[i], LEASED, address, LEASE_LEFT_MIN_MS);
    return batch_commit(l);
}

static int set_timeout(struct lease *l, struct in_addr address, uint64_t left_ms, bool anew)
{
    batch_begin(l);
    for (unsigned i = 0; i < FAMILIES; i++) {
        /* Deleting what is not there, or is over, fails, and with it the batch. */
        if (anew)
            put_removal(l, families[i], LEASED, address, left_ms);
        else
            put_element(l, NFT_MSG_DELSETELEM, families[i], LEASED, address, 0);
        put_element(l, NFT_MSG_NEWSETELEM, families[i], LEASED, address, left_ms);
    }
    return batch_commit(l);
}

static int open_until(struct lease *l, struct in_addr address, uint64_t until_ms, bool anew)
{
    bool is_too_long = false;
    int err = 0;

    for (unsigned tries = 0; tries < LATE_TRIES; tries++) {
        uint64_t before_ms = clock_now_ms();
        if (until_ms < before_ms + LEASE_LEFT_MIN_MS) {
            err = ERR_UNSAFE;
            break;
        }
        uint64_t left_ms = until_ms - before_ms;
        left_ms = left_ms < LEASE_LEFT_MAX_MS ? left_ms : LEASE_LEFT_MAX_MS;
        err = set_timeout(l, address, left_ms, anew);
        if (err != 0)
            break;
        /* The kernel's count began somewhere between the two looks at the clock. */
        is_too_long = clock_now_ms() - before_ms > LEASE_LATE_MS;
        if (!is_too_long)
            return 0;
        err = ERR_UNSAFE;
    }
    if (is_too_long) {
        int revoked = lease_revoke(l, address);
        err = revoked != 0 ? revoked : ERR_UNSAFE;
    }
    return err;
}

int lease_grant(struct lease *l, struct in_addr address, uint64_t until_ms)
{
    return open_until(l, address, until_ms, true);
}

int lease_renew(struct lease *l, struct in_addr address, uint64_t until_ms)
{
    return open_until(l, address, until_ms, false);
}
