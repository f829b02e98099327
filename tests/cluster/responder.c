/* SPDX-License-Identifier: Apache-2.0 */
/* responder.c -- says which machine it runs on, to whoever asks, on any of its addresses.
 *
 *   tool_responder NAME PORT
 *
 * UDP: the question comes back with the name behind it, from the address that was asked.
 * TCP: the name, then it waits for the other side to close. It depends on nothing of
 * muster's, so that what the prober sees is the address and not a service behind it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUESTION_MAX = 64, EVENTS_MAX = 64 };

static int listen_on(int type, uint16_t port)
{
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (type == SOCK_DGRAM && setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) != 0) ||
        bind(fd, (struct sockaddr *)&any, sizeof any) != 0 ||
        (type == SOCK_STREAM && listen(fd, 1024) != 0)) {
        perror("responder: cannot listen");
        exit(1);
    }
    return fd;
}

static void answer_udp(int fd, const char *name)
{
    char bytes[QUESTION_MAX + 32];
    union {
        char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
        struct cmsghdr align;
    } control;
    struct sockaddr_in from;
    struct iovec part = {bytes, QUESTION_MAX};
    struct msghdr msg = {.msg_name = &from,
                         .msg_namelen = sizeof from,
                         .msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &msg, 0);

    if (n < 0)
        return;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c == NULL || c->cmsg_type != IP_PKTINFO)
        return;
    struct in_pktinfo info;
    memcpy(&info, CMSG_DATA(c), sizeof info);
    /* Answer from the address that was asked; when it has left meanwhile, not at all. */
    info.ipi_spec_dst = info.ipi_addr;
    info.ipi_ifindex = 0;
    memcpy(CMSG_DATA(c), &info, sizeof info);
    size_t len = strlen(name);
    memcpy(bytes + n, name, len);
    part.iov_len = (size_t)n + len;
    (void)sendmsg(fd, &msg, 0);
}

static void accept_all(int epoll, int listener, const char *name)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
        if (send(fd, name, strlen(name), MSG_NOSIGNAL) < 0 ||
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
            close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || strlen(argv[1]) > 31) {
        fprintf(stderr, "usage: tool_responder NAME PORT\n");
        return 2;
    }
    uint16_t port = (uint16_t)atoi(argv[2]);
    int udp = listen_on(SOCK_DGRAM, port), tcp = listen_on(SOCK_STREAM, port);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = udp};

    epoll_ctl(epoll, EPOLL_CTL_ADD, udp, &ev);
    ev.data.fd = tcp;
    epoll_ctl(epoll, EPOLL_CTL_ADD, tcp, &ev);
    for (;;) {
        struct epoll_event got[EVENTS_MAX];
        int n = epoll_wait(epoll, got, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            char rest[64];
            if (got[i].data.fd == udp)
                answer_udp(udp, argv[1]);
            else if (got[i].data.fd == tcp)
                accept_all(epoll, tcp, argv[1]);
            else if (recv(got[i].data.fd, rest, sizeof rest, 0) <= 0 && errno != EAGAIN)
                close(got[i].data.fd);
        }
    }
}
