/* SPDX-License-Identifier: Apache-2.0 */
/* addresses.h -- the virtual addresses that this machine has: netlink, the lease's gate and
 * ARP put together in the order that is safe.
 *
 *   add     the gate is made, closed -> the address, with a lifetime -> the gate opens until
 *           until_ms. The kernel never has an address whose gate is not watched.
 *   renew   the gate until the later until_ms, if it is still open -> the lifetime
 *   remove  the gate closes -> the address goes -> it is told
 *
 * An address that was held stays managed (its gate closed) as long as this process lives, so
 * that connections that still stand do not answer in its name; addresses_close() ends that.
 *
 * What the kernel or others take away is noticed: a gate that is over, tables that somebody
 * flushed (they are made again within ADDRESSES_VERIFY_MS), an address that was deleted (it
 * comes back with the next renewal), an interface that is down or without a carrier (an address
 * there is let go, and not taken). A foreign machine that claims an address that is held
 * here gets an announcement against it, at most once a second (RFC 5227, 2.4 (b)).
 */
#ifndef MUSTER_HOST_ADDRESSES_H
#define MUSTER_HOST_ADDRESSES_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"

#define ADDRESSES_MAX 256
#define ADDRESSES_VERIFY_MS 500
#define ADDRESSES_DEAD_MS 1000 /* an interface without a carrier is given so long */

struct addresses;

struct addresses_options {
    const char *own; /* this machine's address, dotted: an address without a device goes where
                        this is, or else to the device on its subnet */
    /* who: "" free, else the MAC that answers; NULL: it could not be asked, why says so */
    void (*probed)(void *ctx, uint64_t op, const char *address, const char *who,
                   const char *why);
    /* What was held is gone, without an addresses_remove() */
    void (*expired)(void *ctx, const char *address, const char *why);
    void *ctx;
};

struct addresses_counters {
    uint64_t announcements_total, conflicts_total, gates_lost_total, leftovers_total;
};

/* Makes the gates (what an earlier life managed is closed), and removes the addresses that
 * an earlier life left. Without the rights for it, or without nftables, it works, but adds
 * nothing: *why then has a text. */
struct addresses *addresses_new(uv_loop_t *loop, const struct addresses_options *o,
                                struct buf *why);
/* Removes all that is still held, then the gates. Frees in later turns of the loop; no
 * callbacks any more. */
void addresses_close(struct addresses *a);

/* `device`: its name, or NULL. Answered once, from the loop. A second one of the same address
 * ends the first, without an answer. */
void addresses_probe(struct addresses *a, uint64_t op, const char *address, const char *device);
/* 0, or an error with its text in *why; then nothing of it is left. */
int addresses_add(struct addresses *a, const char *address, const char *device, unsigned prefix,
                  uint64_t until_ms, struct buf *why);
/* An earlier until_ms than the present one shortens. What is not held, or is over, is told
 * by expired(), from within. */
void addresses_renew(struct addresses *a, const char *address, uint64_t until_ms);
/* 0: the kernel has it no more. Fine for what is not there. */
int addresses_remove(struct addresses *a, const char *address, struct buf *why);
/* Only what is held is announced. */
void addresses_announce(struct addresses *a, const char *address);

bool addresses_has(const struct addresses *a, const char *address);
struct addresses_counters addresses_counters(const struct addresses *a);

#endif
