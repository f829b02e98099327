/* SPDX-License-Identifier: Apache-2.0 */
#include "host/addresses.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/arp.h"
#include "host/clock.h"
#include "host/lease.h"
#include "host/netlink.h"

enum { DEVICES_MAX = 16, TEXT_MAX = INET_ADDRSTRLEN };

struct entry { /* an address that was ever asked for */
    char text[TEXT_MAX];
    struct in_addr address;
    bool is_held;
    unsigned device;
    uint8_t prefix;
    uint64_t until_ms;
    uint64_t dead_ms; /* since when its interface reaches nobody; 0: it does */
    /* a question under way */
    struct addresses *owner;
    struct arp *probing;
    uint64_t probe_op;
};

struct addresses {
    uv_loop_t *loop;
    struct in_addr own;
    struct addresses_options options;
    struct netlink *netlink; /* NULL: none can be had */
    struct lease *lease;     /* NULL: none can be had */
    struct arp *devices[DEVICES_MAX];
    unsigned devices_n;
    struct entry *entries[ADDRESSES_MAX];
    unsigned entries_n;
    uv_timer_t timer; /* the first end of a lease, or to verify */
    struct addresses_counters counters;
    bool is_closing;
};

/* ---- what there is ---- */

static struct entry *find(const struct addresses *a, const char *text)
{
    for (unsigned i = 0; i < a->entries_n; i++)
        if (strcmp(a->entries[i]->text, text) == 0)
            return a->entries[i];
    return NULL;
}

static struct entry *find_or_make(struct addresses *a, const char *text)
{
    struct in_addr address;
    struct entry *e = find(a, text);

    if (e != NULL)
        return e;
    if (a->entries_n == ADDRESSES_MAX || inet_pton(AF_INET, text, &address) != 1)
        return NULL;
    e = mem_new(struct entry);
    snprintf(e->text, sizeof e->text, "%s", text);
    e->address = address;
    e->owner = a;
    a->entries[a->entries_n++] = e;
    return e;
}

static int find_device(struct addresses *a, const struct entry *e, const char *name,
                       unsigned *device, struct buf *why)
{
    struct netlink_address *v;
    size_t n;

    *device = 0;
    if (name != NULL && *name != 0) {
        *device = if_nametoindex(name);
        if (*device == 0)
            buf_printf(why, "there is no interface %s", name);
        return *device != 0 ? 0 : ERR_NOT_FOUND;
    }
    int err = a->netlink == NULL ? ERR_PERMISSION : netlink_addresses(a->netlink, &v, &n);
    if (err == 0) {
        for (size_t i = 0; i < n && a->own.s_addr != 0; i++)
            if (v[i].address.s_addr == a->own.s_addr)
                *device = v[i].device;
        mem_free(v);
        if (*device == 0)
            err = netlink_device_for(a->netlink, e->address, a->own, device);
    }
    if (err != 0)
        buf_printf(why, "no interface has this machine's address or is on the subnet of %s: %s",
                   e->text, err_text(err));
    return err;
}

static void on_conflict(void *ctx, struct in_addr address, const uint8_t mac[6])
{
    struct addresses *a = ctx;
    char who[18];

    for (unsigned i = 0; i < a->entries_n; i++) {
        struct entry *e = a->entries[i];
        if (e->address.s_addr != address.s_addr || !e->is_held)
            continue;
        snprintf(who, sizeof who, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                 mac[3], mac[4], mac[5]);
        a->counters.conflicts_total++;
        log_event(LOG_WARNING, "address_claimed_by_other", LOG_S("address", e->text),
                  LOG_S("mac", who));
        addresses_announce(a, e->text);
        return;
    }
}

static void close_device(struct addresses *a, struct arp *arp)
{
    for (unsigned i = 0; i < a->devices_n; i++)
        if (a->devices[i] == arp)
            a->devices[i--] = a->devices[--a->devices_n];
    for (unsigned i = 0; i < a->entries_n; i++)
        if (a->entries[i]->probing == arp)
            a->entries[i]->probing = NULL;
    arp_close(arp);
}

static int open_device(struct addresses *a, unsigned device, struct arp **out)
{
    for (unsigned i = 0; i < a->devices_n; i++) {
        if (arp_device(a->devices[i]) == device) {
            *out = a->devices[i];
            return 0;
        }
    }
    if (a->devices_n == DEVICES_MAX) /* interfaces that came and went */
        close_device(a, a->devices[0]);
    int err = arp_open(out, a->loop, device, on_conflict, a);
    if (err == 0)
        a->devices[a->devices_n++] = *out;
    return err;
}

/* ---- the timer ---- */

static void arm(struct addresses *a);

static void let_go(struct addresses *a, struct entry *e)
{
    e->is_held = false;
    for (unsigned i = 0; i < a->devices_n; i++)
        arp_unwatch(a->devices[i], e->address);
}

/* All that the kernel has of it and that is ours, on whatever device. */
static int take_from_kernel(struct addresses *a, struct in_addr address)
{
    struct netlink_address *v;
    size_t n;
    int err = netlink_addresses(a->netlink, &v, &n);

    if (err != 0)
        return err;
    for (size_t i = 0; i < n; i++) {
        if (v[i].address.s_addr != address.s_addr || v[i].proto != NETLINK_OURS)
            continue;
        int one = netlink_address_remove(a->netlink, v[i].device, address, v[i].prefix);
        if (one != 0 && one != ERR_NOT_FOUND)
            err = one;
    }
    mem_free(v);
    return err;
}

static void expire(struct addresses *a, struct entry *e, const char *why)
{
    char text[TEXT_MAX];

    memcpy(text, e->text, sizeof text);
    lease_revoke(a->lease, e->address);
    take_from_kernel(a, e->address);
    let_go(a, e);
    a->options.expired(a->options.ctx, text, why);
}

/* The tables are made anew, with all gates closed; then what is held opens again, for what
 * is left of it. */
static int make_gates(struct addresses *a)
{
    struct in_addr managed[ADDRESSES_MAX];

    for (unsigned i = 0; i < a->entries_n; i++)
        managed[i] = a->entries[i]->address;
    int err = lease_setup(a->lease, managed, a->entries_n);
    if (err != 0)
        return err;
    for (unsigned i = 0; i < a->entries_n; i++) {
        struct entry *e = a->entries[i];
        if (e->is_held && lease_grant(a->lease, e->address, e->until_ms) != 0)
            expire(a, e, "its gate could not be opened again");
    }
    return 0;
}

static int verify(struct addresses *a)
{
    int err = lease_verify(a->lease);

    if (err != ERR_NOT_FOUND)
        return 0;
    a->counters.gates_lost_total++;
    log_event(LOG_ERROR, "lease_tables_lost", LOG_S("why", "another program removed them"));
    err = make_gates(a);
    if (err != 0)
        log_event(LOG_ERROR, "lease_tables_failed", LOG_S("why", lease_why(a->lease)));
    return err;
}

/* Up, and with a carrier; also when that cannot be found out. */
static bool is_wire_alive(struct addresses *a, unsigned device)
{
    struct netlink_device d;
    int err = netlink_device_get(a->netlink, device, &d);

    return err == 0 ? d.is_up && d.is_running : err != ERR_NOT_FOUND;
}

/* However well this machine reaches the others: nobody gets to the address here, and while it
 * is held another machine may not take it. */
static bool is_cut_off(struct addresses *a, struct entry *e, uint64_t now_ms)
{
    if (is_wire_alive(a, e->device))
        e->dead_ms = 0;
    else if (e->dead_ms == 0)
        e->dead_ms = now_ms;
    return e->dead_ms != 0 && now_ms - e->dead_ms >= ADDRESSES_DEAD_MS;
}

static void on_time(uv_timer_t *timer)
{
    struct addresses *a = timer->data;
    uint64_t now_ms = clock_now_ms();

    for (unsigned i = 0; i < a->entries_n && !a->is_closing; i++) {
        struct entry *e = a->entries[i];
        if (e->is_held && now_ms >= e->until_ms)
            expire(a, e, "its lease is over");
        else if (e->is_held && is_cut_off(a, e, now_ms))
            expire(a, e, "its interface is down, or has no carrier");
    }
    if (a->is_closing)
        return;
    verify(a);
    arm(a);
}

static void arm(struct addresses *a)
{
    uint64_t now_ms = clock_now_ms(), at_ms = UINT64_MAX;

    for (unsigned i = 0; i < a->entries_n; i++)
        if (a->entries[i]->is_held && a->entries[i]->until_ms < at_ms)
            at_ms = a->entries[i]->until_ms;
    if (at_ms == UINT64_MAX) {
        uv_timer_stop(&a->timer);
        return;
    }
    if (at_ms > now_ms + ADDRESSES_VERIFY_MS)
        at_ms = now_ms + ADDRESSES_VERIFY_MS;
    uv_update_time(a->loop);
    uv_timer_start(&a->timer, on_time, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

/* ---- probing ---- */

static void on_probed(void *ctx, int err, const uint8_t *mac)
{
    struct entry *e = ctx;
    struct addresses *a = e->owner;
    struct arp *arp = e->probing;
    char who[18] = "";

    e->probing = NULL;
    if (mac != NULL)
        snprintf(who, sizeof who, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                 mac[3], mac[4], mac[5]);
    if (err == ERR_NOT_FOUND)
        close_device(a, arp); /* it is gone or down: the next question opens it anew */
    a->options.probed(a->options.ctx, e->probe_op, e->text, err == 0 ? who : NULL,
                      err == ERR_NOT_FOUND ? "the interface is down or gone" : err_text(err));
}

void addresses_probe(struct addresses *a, uint64_t op, const char *address, const char *device)
{
    struct buf why = {0};
    unsigned index;
    struct arp *arp = NULL;
    struct entry *e = find_or_make(a, address);
    int err = e == NULL ? ERR_BAD_ARGUMENTS : find_device(a, e, device, &index, &why);

    if (err == 0 && a->netlink != NULL && !is_wire_alive(a, index)) {
        err = ERR_NOT_FOUND; /* silence would say nothing there */
        buf_add_str(&why, "the interface is down, or has no carrier");
    }
    if (err == 0)
        err = open_device(a, index, &arp);
    if (err == 0 && e->probing != NULL)
        arp_probe_stop(e->probing, e->address);
    if (err == 0)
        err = arp_probe(arp, e->address, on_probed, e);
    if (err == 0) {
        e->probing = arp;
        e->probe_op = op;
    } else {
        if (why.len == 0)
            buf_add_str(&why, err == ERR_PERMISSION ? "asking by ARP needs the rights of root"
                                                    : err_text(err));
        a->options.probed(a->options.ctx, op, address, NULL, buf_text(&why));
    }
    buf_free(&why);
}

/* ---- holding ---- */

static int say(struct buf *why, int err, const char *what, const char *detail)
{
    buf_printf(why, "%s: %s", what,
               err == ERR_PERMISSION ? "it needs the rights of root" : detail);
    return err;
}

/* An address that somebody else gave to this machine is not ours to limit or remove. */
static int refuse_foreign(struct addresses *a, const struct entry *e, struct buf *why)
{
    struct netlink_address *v;
    size_t n;
    int err = netlink_addresses(a->netlink, &v, &n);

    if (err != 0)
        return say(why, err, "the addresses cannot be read", netlink_why(a->netlink));
    for (size_t i = 0; i < n && err == 0; i++)
        if (v[i].address.s_addr == e->address.s_addr && v[i].proto != NETLINK_OURS)
            err = ERR_EXISTS;
    mem_free(v);
    if (err != 0)
        buf_printf(why, "this machine has %s already, not from muster: remove it (ip addr del)",
                   e->text);
    return err;
}

static int hold(struct addresses *a, struct entry *e, uint64_t until_ms, struct buf *why)
{
    uint64_t now_ms = clock_now_ms();

    verify(a);
    int err = lease_manage(a->lease, e->address);
    if (err != 0)
        return say(why, err, "nftables", lease_why(a->lease));
    if (until_ms < now_ms + LEASE_LEFT_MIN_MS) {
        buf_add_str(why, "its lease is over already");
        return ERR_UNSAFE;
    }
    err = netlink_address_put(a->netlink, e->device, e->address, e->prefix, until_ms - now_ms);
    if (err != 0)
        return say(why, err, "the address cannot be added", netlink_why(a->netlink));
    err = lease_grant(a->lease, e->address, until_ms);
    if (err != 0)
        return say(why, err, "nftables",
                   err == ERR_SYSTEM ? lease_why(a->lease) : err_text(err));
    return 0;
}

int addresses_add(struct addresses *a, const char *address, const char *device, unsigned prefix,
                  uint64_t until_ms, struct buf *why)
{
    struct entry *e = find_or_make(a, address);
    struct arp *arp;

    if (e == NULL || prefix == 0 || prefix > 32) {
        buf_add_str(why, "not an address, or too many");
        return ERR_BAD_ARGUMENTS;
    }
    if (a->lease == NULL || a->netlink == NULL) {
        buf_add_str(why, "this machine can hold no address: nftables is not there, or it needs "
                         "the rights of root");
        return ERR_PERMISSION;
    }
    int err = find_device(a, e, device, &e->device, why);
    if (err == 0)
        err = refuse_foreign(a, e, why);
    if (err != 0)
        return err;
    e->prefix = (uint8_t)prefix;
    e->until_ms = until_ms;
    e->dead_ms = 0;
    err = hold(a, e, until_ms, why);
    if (err != 0) {
        lease_revoke(a->lease, e->address);
        take_from_kernel(a, e->address);
        let_go(a, e);
        return err;
    }
    e->is_held = true;
    if (open_device(a, e->device, &arp) == 0)
        arp_watch(arp, e->address);
    arm(a);
    return 0;
}

void addresses_renew(struct addresses *a, const char *address, uint64_t until_ms)
{
    struct entry *e = find(a, address);

    if (e == NULL || !e->is_held) {
        a->options.expired(a->options.ctx, address, "it is not held");
        return;
    }
    int err = lease_renew(a->lease, e->address, until_ms);
    if (err == ERR_NOT_FOUND && clock_now_ms() < e->until_ms) {
        /* It cannot be over yet: the tables went. verify() opens what is left. */
        verify(a);
        err = e->is_held ? lease_renew(a->lease, e->address, until_ms) : 0;
    }
    if (!e->is_held)
        return; /* it was told */
    if (err == 0) {
        uint64_t now_ms = clock_now_ms();
        e->until_ms = until_ms;
        err = until_ms <= now_ms ? ERR_UNSAFE
                                 : netlink_address_put(a->netlink, e->device, e->address,
                                                       e->prefix, until_ms - now_ms);
    }
    if (err != 0)
        expire(a, e,
               err == ERR_NOT_FOUND ? "its lease is over, or its interface is gone"
                                    : err_text(err));
    arm(a);
}

int addresses_remove(struct addresses *a, const char *address, struct buf *why)
{
    struct entry *e = find_or_make(a, address);

    if (e == NULL || a->lease == NULL || a->netlink == NULL)
        return 0; /* then it was never added */
    int err = lease_revoke(a->lease, e->address);
    if (err == ERR_NOT_FOUND) { /* the tables are gone: with no address there is no need */
        verify(a);
        err = 0;
    }
    if (err != 0)
        return say(why, err, "nftables", lease_why(a->lease));
    err = take_from_kernel(a, e->address);
    if (err != 0)
        return say(why, err, "the address cannot be removed", netlink_why(a->netlink));
    let_go(a, e);
    arm(a);
    return 0;
}

void addresses_announce(struct addresses *a, const char *address)
{
    struct entry *e = find(a, address);
    struct arp *arp;

    if (e == NULL || !e->is_held || open_device(a, e->device, &arp) != 0)
        return;
    int err = arp_announce(arp, e->address, e->until_ms);
    if (err == 0)
        a->counters.announcements_total++;
    else if (err == ERR_NOT_FOUND)
        close_device(a, arp);
}

/* ---- start and end ---- */

/* What an earlier life left: marked as ours, or managed by it and with a lifetime (a kernel
 * before 5.18 keeps no mark). */
static void remove_leftovers(struct addresses *a)
{
    struct in_addr managed[ADDRESSES_MAX];
    struct netlink_address *v;
    char text[TEXT_MAX];
    size_t managed_n = 0, n;

    if (a->lease == NULL || lease_managed(a->lease, managed, ADDRESSES_MAX, &managed_n) != 0)
        managed_n = 0;
    if (netlink_addresses(a->netlink, &v, &n) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        bool is_left = v[i].proto == NETLINK_OURS;
        for (size_t m = 0; m < managed_n && v[i].valid_s != NETLINK_FOREVER; m++)
            is_left = is_left || managed[m].s_addr == v[i].address.s_addr;
        if (!is_left ||
            netlink_address_remove(a->netlink, v[i].device, v[i].address, v[i].prefix) != 0)
            continue;
        a->counters.leftovers_total++;
        inet_ntop(AF_INET, &v[i].address, text, sizeof text);
        log_event(LOG_NOTICE, "address_leftover_removed", LOG_S("address", text));
    }
    mem_free(v);
}

struct addresses *addresses_new(uv_loop_t *loop, const struct addresses_options *o,
                                struct buf *why)
{
    struct addresses *a = mem_new(struct addresses);

    a->loop = loop;
    a->options = *o;
    a->options.own = NULL; /* the caller's, not kept */
    if (o->own == NULL || inet_pton(AF_INET, o->own, &a->own) != 1)
        a->own.s_addr = 0;
    uv_timer_init(loop, &a->timer);
    a->timer.data = a;
    if (netlink_open(&a->netlink) != 0)
        a->netlink = NULL;
    int err = lease_open(&a->lease);
    if (err != 0) {
        a->lease = NULL;
        say(why, err, "no address can be held here: nftables", err_text(err));
    } else {
        err = lease_setup(a->lease, NULL, 0);
        if (err != 0) {
            say(why, err, "no address can be held here: nftables", lease_why(a->lease));
            lease_close(a->lease);
            a->lease = NULL;
        }
    }
    if (a->netlink != NULL)
        remove_leftovers(a);
    return a;
}

static void on_closed(uv_handle_t *handle) { mem_free(handle->data); }

void addresses_close(struct addresses *a)
{
    a->is_closing = true;
    while (a->devices_n > 0)
        close_device(a, a->devices[a->devices_n - 1]);
    bool is_clean = true;
    for (unsigned i = 0; i < a->entries_n; i++) {
        struct entry *e = a->entries[i];
        if (e->is_held) {
            lease_revoke(a->lease, e->address);
            is_clean = take_from_kernel(a, e->address) == 0 && is_clean;
        }
        mem_free(e);
    }
    /* A gate goes only when nothing is left behind it. */
    if (a->lease != NULL && is_clean)
        lease_cleanup(a->lease);
    lease_close(a->lease);
    netlink_close(a->netlink);
    uv_close((uv_handle_t *)&a->timer, on_closed);
}

bool addresses_has(const struct addresses *a, const char *address)
{
    const struct entry *e = find(a, address);

    return e != NULL && e->is_held && clock_now_ms() < e->until_ms;
}

struct addresses_counters addresses_counters(const struct addresses *a) { return a->counters; }
