/* SPDX-License-Identifier: Apache-2.0 */
/* client_uv_names.h -- "HOST[:PORT],HOST[:PORT].../CHROOT", as ZooKeeper's clients write it,
 * looked up.
 */
#ifndef MUSTER_CLIENT_UV_NAMES_H
#define MUSTER_CLIENT_UV_NAMES_H

#include "base/buf.h"
#include "client/client.h"

#define CLIENT_NAMES_PORT 2181
#define CLIENT_NAMES_TEXT 80
#define CLIENT_NAMES_CHROOT_MAX 512

struct client_names {
    char addresses[CLIENT_SERVERS_MAX][CLIENT_NAMES_TEXT]; /* for client_uv_options */
    unsigned n;
    char chroot[CLIENT_NAMES_CHROOT_MAX]; /* "": none */
};
/* The order stays; a name with several addresses gives as many servers. ERR_BAD_ARGUMENTS: it
 * is no such text; ERR_NOT_FOUND: a name without an address. why: what is wrong. */
int client_names_read(struct client_names *out, const char *text, struct buf *why);

#endif
