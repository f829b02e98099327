/* SPDX-License-Identifier: Apache-2.0 */
/* arp.h -- saying and asking who has an IPv4 address, on one device.
 *
 * RFC 5227: probes (2.1.1), announcements (2.3), conflicts (2.4). The times are shorter than
 * the RFC's, which are for machines that come up with an address for good; here a site waits.
 *
 * The kernel's ARP gate (lease.h) does not see what a packet socket sends: the caller
 * announces only what it holds, and says until when, so that a process that was stopped
 * does not announce afterwards.
 */
#ifndef MUSTER_HOST_ARP_H
#define MUSTER_HOST_ARP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define ARP_PROBES 3
#define ARP_PROBE_GAP_MS 40 /* after each: free when nobody has answered after the last */
#define ARP_PROBES_AT_ONCE_MAX 256
#define ARP_WATCHED_MAX 256

struct arp;

/* A foreign machine claims an address that is watched, at most once a second each. */
typedef void arp_on_conflict(void *ctx, struct in_addr address, const uint8_t mac[6]);
/* err 0: mac NULL: nobody answered; else whose it is. err: the question was not asked. */
typedef void arp_done(void *ctx, int err, const uint8_t *mac);

/* ERR_PERMISSION, ERR_NOT_FOUND (no such device, or it has no Ethernet address), ERR_SYSTEM.
 * Later failures (the device is gone or down) make the calls below fail: open again. */
int arp_open(struct arp **out, uv_loop_t *loop, unsigned device, arp_on_conflict *on_conflict,
             void *ctx);
/* Probes under way end without a callback. Frees in a later turn of the loop. */
void arp_close(struct arp *a);
unsigned arp_device(const struct arp *a);

/* Gratuitous ARP in both forms, request and reply: some listen to one only. Not sent, and
 * ERR_UNSAFE, when until_ms (clock_now_ms()) has come. ERR_NOT_FOUND: the device is down or
 * gone. */
int arp_announce(struct arp *a, struct in_addr address, uint64_t until_ms);

/* ERR_BUSY: too many at once. The callback comes from the loop, never from within. */
int arp_probe(struct arp *a, struct in_addr address, arp_done *done, void *ctx);
void arp_probe_stop(struct arp *a, struct in_addr address); /* no callback then */

/* Reports claims by others of an address that we hold. ERR_BUSY: too many. */
int arp_watch(struct arp *a, struct in_addr address);
void arp_unwatch(struct arp *a, struct in_addr address);

#endif
