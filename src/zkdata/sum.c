/* SPDX-License-Identifier: Apache-2.0 */
#include "zkdata/sum.h"

#define ADLER_MODULUS 65521u
#define ADLER_RUN 5552u /* so many bytes of 255 cannot overflow 32 bits */

uint32_t adler32(uint32_t start, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t a = start & 0xffff, b = start >> 16;

    while (len > 0) {
        size_t run = len < ADLER_RUN ? len : ADLER_RUN;
        len -= run;
        while (run-- > 0) {
            a += *p++;
            b += a;
        }
        a %= ADLER_MODULUS;
        b %= ADLER_MODULUS;
    }
    return b << 16 | a;
}

/* Half a byte at a time: 16 words, which need no initialising. */
uint32_t crc32_ieee(uint32_t start, const void *data, size_t len)
{
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                       0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                       0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *p = data;
    uint32_t crc = ~start;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}
