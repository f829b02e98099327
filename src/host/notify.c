/* SPDX-License-Identifier: Apache-2.0 */
#include "host/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

int notify_send(const char *text)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = name != NULL ? strlen(name) : 0;

    if (len == 0)
        return ERR_NOT_FOUND;
    if ((name[0] != '/' && name[0] != '@') || len >= sizeof to.sun_path)
        return ERR_BAD_ARGUMENTS;
    memcpy(to.sun_path, name, len);
    if (name[0] == '@') /* not a file, but a name of the kernel's */
        to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ERR_SYSTEM;
    ssize_t n = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
    return n >= 0 ? 0 : ERR_SYSTEM;
}

static uint64_t number_of(const char *variable)
{
    const char *text = getenv(variable);

    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

uint64_t notify_watchdog_ms(void)
{
    uint64_t pid = number_of("WATCHDOG_PID");

    if (pid != 0 && pid != (uint64_t)getpid())
        return 0; /* it is expected of somebody else */
    return number_of("WATCHDOG_USEC") / 1000;
}
