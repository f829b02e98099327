/* SPDX-License-Identifier: Apache-2.0 */
/* arp_frame.h -- an ARP frame as it came from the network: who claims which address. */
#ifndef MUSTER_ARP_FRAME_H
#define MUSTER_ARP_FRAME_H

#include <net/ethernet.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* RFC 826 over Ethernet, as on the wire. */
struct arp_frame {
    struct ether_header ethernet;
    struct ether_arp arp;
};
_Static_assert(sizeof(struct arp_frame) == 42, "no padding");

struct arp_claim {
    struct in_addr address;
    uint8_t mac[6];
    bool is_probe; /* it only asks whether the address is free */
};

/* RFC 5227, 2.1.1: an answer, a claim, or another's probe. False: it is none of these, or our
 * own. */
bool arp_frame_read(const struct arp_frame *f, const uint8_t own_mac[6], struct arp_claim *out);

#endif
