/* SPDX-License-Identifier: Apache-2.0 */
/* A member takes any bytes from clients and from (authenticated) peers. The input is a list of
 * events: a byte for what, a byte for the length, the bytes. */
#include <stddef.h>

#include "lone_member.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct lone l;

    lone_start(&l, 1);
    lone_connect(&l, 1, 0, NULL, 4000); /* a session to write with */
    lone_open(&l, 2);
    while (len >= 2) {
        size_t n = data[1] < len - 2 ? data[1] : len - 2;
        const uint8_t *bytes = data + 2;
        switch (data[0] % 4) {
        case 0: lone_frame(&l, 1, bytes, n); break;
        case 1: lone_frame(&l, 2, bytes, n); break;
        case 2: (void)member_peer(l.member, 2 + data[0] / 4 % 3, bytes, n); break;
        case 3: lone_run(&l, n); break;
        }
        data += 2 + n;
        len -= 2 + n;
    }
    lone_run(&l, 100);
    lone_stop(&l);
    return 0;
}
