/* SPDX-License-Identifier: Apache-2.0 */
/* lease.h -- the gate in front of each virtual address, which the kernel closes by itself.
 *
 * Two nftables tables, `inet muster` and `arp muster`, hold two sets each: the addresses
 * that are managed, and of them those that are leased to this machine now, each with a
 * timeout. What comes for, or goes out from, a managed address that is not leased is
 * dropped, and no ARP question about it is answered:
 *
 *   inet prerouting  to an address of this machine (before conntrack and DNAT see it)
 *   inet input       to it, come what may in between
 *   inet output      from it; what local processes still try to send
 *   arp output       answers and questions in its name
 *
 * So a process that is killed, stopped or hung loses the address at the millisecond (one
 * tick of the kernel early at most: 4 ms at 250 Hz) without doing anything. Packets forwarded
 * between others, to a holder elsewhere, pass. ARP that comes in passes too: the kernel must
 * learn where the address went.
 *
 * Conditions. The kernel knows only "from now on for n ms". Between our look at the clock and
 * the kernel's, this process may be stopped; each call therefore looks again afterwards, and
 * shortens or closes what turned out too long. A process that is stopped twice, both times
 * within these few microseconds, may hold on too long by the length of the first stop. A paused
 * virtual machine pauses the kernel's timers too.
 *
 * Not covered: ARP that this process sends itself through a packet socket (arp.h looks at the
 * clock before); established connections that another program's DNAT rule sends on to a
 * container, once the address is gone from the machine.
 *
 * Calls are synchronous: the kernel answers while it is asked. Only libmnl is used: renewing is
 * one message of 300 bytes, and nothing else on the machine is read. One program in a network
 * namespace may use it.
 */
#ifndef MUSTER_HOST_LEASE_H
#define MUSTER_HOST_LEASE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Below one tick of a slow kernel (100 Hz) a timeout is rounded to 0, which means for ever:
 * what has less left is refused. */
#define LEASE_LEFT_MIN_MS 20
#define LEASE_LEFT_MAX_MS 3600000
#define LEASE_LATE_MS 5 /* what the kernel may count later than we did */
#define LEASE_ADDRESSES_MAX 256

struct lease;

/* Errors: ERR_PERMISSION; ERR_UNSAFE: it was too late for it, and the gate is closed;
 * ERR_NOT_FOUND; ERR_SYSTEM: lease_why() gives the kernel's words. */
int lease_open(struct lease **out);
void lease_close(struct lease *l); /* the tables stay; NULL is fine */
const char *lease_why(const struct lease *l);

/* Makes both tables anew, in one step: all gates closed. What an earlier life managed stays
 * managed, and so do the n addresses given here. ERR_TOO_BIG: over LEASE_ADDRESSES_MAX. */
int lease_setup(struct lease *l, const struct in_addr *managed, size_t n);
/* Removes both tables: for the end, when no address is left. */
int lease_cleanup(struct lease *l);
/* Are the rules there as lease_setup() made them? Others can remove them ("nft flush
 * ruleset"), and then nothing is enforced. ERR_NOT_FOUND: no; set up and grant again.
 * ERR_BUSY: others change tables just now, ask again. */
int lease_verify(struct lease *l);

/* A gate comes to be, closed; goes, and packets pass. Doing it twice is fine. */
int lease_manage(struct lease *l, struct in_addr address);
int lease_unmanage(struct lease *l, struct in_addr address);
/* Which ones are managed: up to max are written to v. ERR_NOT_FOUND: there are no tables. */
int lease_managed(struct lease *l, struct in_addr *v, size_t max, size_t *n);

/* Opens the gate until until_ms (clock_now_ms()), whatever it was before. ERR_UNSAFE when
 * less than LEASE_LEFT_MIN_MS are left: the gate is as it was. */
int lease_grant(struct lease *l, struct in_addr address, uint64_t until_ms);
/* The same for a gate that is open; without a gap for packets. ERR_NOT_FOUND when it has
 * closed (or the tables are gone): it stays closed. */
int lease_renew(struct lease *l, struct in_addr address, uint64_t until_ms);
/* Closes the gate; fine when it is closed. */
int lease_revoke(struct lease *l, struct in_addr address);
int lease_is_granted(struct lease *l, struct in_addr address, bool *granted);

/* The addresses in one message of the kernel's list of a set, as mnl_cb_run() hands it out. */
struct nlmsghdr;
struct lease_found {
    struct in_addr *v;
    size_t n, max;
};
int lease_read_elements(const struct nlmsghdr *h, void *ctx); /* ctx: struct lease_found */

#endif
