/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client_uv_names.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/mem.h"
#include "client/chroot.h"

/* "name:port" with the port's default -> "1.2.3.4:port", as often as the name has addresses. */
static int resolve(struct client_names *out, const char *host, const char *port,
                   struct buf *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *all;

    int err = getaddrinfo(host, port, &hints, &all);
    if (err != 0) {
        buf_printf(why, "%s: %s", host, gai_strerror(err));
        return ERR_NOT_FOUND;
    }
    for (struct addrinfo *a = all; a != NULL && out->n < CLIENT_SERVERS_MAX; a = a->ai_next) {
        char number[64], service[16];
        if (getnameinfo(a->ai_addr, a->ai_addrlen, number, sizeof number, service,
                        sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
            continue;
        snprintf(out->addresses[out->n++], CLIENT_NAMES_TEXT,
                 a->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", number, service);
    }
    freeaddrinfo(all);
    return 0;
}

static int resolve_one(struct client_names *out, char *item, struct buf *why)
{
    char port[8], *host = item, *colon = strrchr(item, ':');

    snprintf(port, sizeof port, "%d", CLIENT_NAMES_PORT);
    if (*item == '[') {
        char *end = strchr(item, ']');
        if (end == NULL || (end[1] != 0 && end[1] != ':')) {
            buf_printf(why, "\"%s\" is no address", item);
            return ERR_BAD_ARGUMENTS;
        }
        colon = end[1] == ':' ? end + 1 : NULL;
        *end = 0;
        host = item + 1;
    }
    if (colon != NULL) {
        char *rest;
        unsigned long n = strtoul(colon + 1, &rest, 10);
        if (colon[1] < '0' || colon[1] > '9' || *rest != 0 || n == 0 || n > 65535) {
            buf_printf(why, "\"%s\" is no port", colon + 1);
            return ERR_BAD_ARGUMENTS;
        }
        snprintf(port, sizeof port, "%lu", n);
        *colon = 0;
    }
    if (*host == 0) {
        buf_add_str(why, "a server without a name");
        return ERR_BAD_ARGUMENTS;
    }
    return resolve(out, host, port, why);
}

/* Cuts it off the list; "/" alone is none. */
static int take_chroot(struct client_names *out, char *list, struct buf *why)
{
    char *slash = strchr(list, '/');

    if (slash == NULL)
        return 0;
    if (slash[1] != 0 &&
        (!chroot_is_valid(slash) || strlen(slash) >= CLIENT_NAMES_CHROOT_MAX)) {
        buf_printf(why, "\"%s\" is no path", slash);
        return ERR_BAD_ARGUMENTS;
    }
    if (slash[1] != 0)
        snprintf(out->chroot, sizeof out->chroot, "%s", slash);
    *slash = 0;
    return 0;
}

int client_names_read(struct client_names *out, const char *text, struct buf *why)
{
    char *list = mem_dup_str(text), *next = list;

    *out = (struct client_names){.n = 0};
    int err = take_chroot(out, list, why);
    while (err == 0 && next != NULL && out->n < CLIENT_SERVERS_MAX) {
        char *item = next;
        next = strchr(item, ',');
        if (next != NULL)
            *next++ = 0;
        err = resolve_one(out, item, why);
    }
    mem_free(list);
    if (err == 0 && out->n == 0) {
        buf_printf(why, "\"%s\" names no server", text);
        err = ERR_NOT_FOUND;
    }
    return err;
}
