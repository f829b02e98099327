/* SPDX-License-Identifier: Apache-2.0 */
/* sum.h -- the two checksums of Apache ZooKeeper's files: Adler-32 (RFC 1950, section 9)
 * over records, CRC-32 (RFC 1952, section 8) in the digest of a tree.
 */
#ifndef MUSTER_ZKDATA_SUM_H
#define MUSTER_ZKDATA_SUM_H

#include <stddef.h>
#include <stdint.h>

#define ADLER32_START 1u
uint32_t adler32(uint32_t start, const void *data, size_t len);    /* chainable */
uint32_t crc32_ieee(uint32_t start, const void *data, size_t len); /* start 0; chainable */

#endif
