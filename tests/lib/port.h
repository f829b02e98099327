/* SPDX-License-Identifier: Apache-2.0 */
/* port.h -- a loopback port for a server that a test starts, perhaps more than once.
 *
 * Not one of the kernel's choice: those come from the range of outgoing connections, and
 * while our server is not listening, the next connection of any other test may take it.
 * tests/lib/ports.py does the same. */
#ifndef MUSTER_TEST_PORT_H
#define MUSTER_TEST_PORT_H

#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORT_MIN = 10000, PORT_MAX = 32767 }; /* below ip_local_port_range */

/* Free on 127.0.0.1 just now; in practice on all of 127/8. */
static inline uint16_t port_free(void)
{
    for (int tries = 0; tries < 1000; tries++) {
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        uint16_t drawn = 0;
        if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn)
            break;
        uint16_t port = (uint16_t)(PORT_MIN + drawn % (PORT_MAX - PORT_MIN + 1));
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        a.sin_port = htons(port);
        int err = bind(fd, (struct sockaddr *)&a, sizeof a);
        close(fd);
        if (err == 0)
            return port;
    }
    abort();
}

#endif
