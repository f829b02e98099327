/* SPDX-License-Identifier: Apache-2.0 */
#include "host/arp_frame.h"

#include <net/if_arp.h>
#include <string.h>

bool arp_frame_read(const struct arp_frame *f, const uint8_t own_mac[6], struct arp_claim *out)
{
    const struct arphdr *h = &f->arp.ea_hdr;
    struct in_addr sender, target;

    if (h->ar_hrd != htons(ARPHRD_ETHER) || h->ar_pro != htons(ETHERTYPE_IP) ||
        h->ar_hln != 6 || h->ar_pln != 4 || memcmp(f->arp.arp_sha, own_mac, 6) == 0)
        return false;
    memcpy(&sender, f->arp.arp_spa, 4);
    memcpy(&target, f->arp.arp_tpa, 4);
    out->is_probe = sender.s_addr == 0 && h->ar_op == htons(ARPOP_REQUEST);
    out->address = out->is_probe ? target : sender;
    memcpy(out->mac, f->arp.arp_sha, 6);
    return out->address.s_addr != 0;
}
