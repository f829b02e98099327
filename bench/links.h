/* SPDX-License-Identifier: Apache-2.0 */
/* links.h -- many sessions on servers that speak the ZooKeeper protocol, in one epoll loop.
 *
 * Sessions are spread over the servers in turn. A request is appended to its link's `out` and
 * goes out when the frames that came are done with, or by link_send(). Whatever goes wrong ends
 * the program: this is a load generator, and a figure with a fault in it is worse than none.
 */
#ifndef MUSTER_BENCH_LINKS_H
#define MUSTER_BENCH_LINKS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frames.h"

#define LINKS_SERVERS_MAX 16u
#define LINKS_MAX 100000u
#define LINKS_ROOM (4u << 20) /* a frame that is larger is refused */

enum link_state { LINK_CLOSED, LINK_ASKED, LINK_LIVE };

struct link {
    int fd;
    enum link_state state;
    unsigned number, server;
    bool is_full;            /* the kernel takes no more; epoll tells when it does */
    int32_t asked, answered; /* xids */
    uint64_t opened_ns, spoke_ns;
    struct buf out, rest; /* not yet sent; the beginning of a frame */
};

struct links {
    int epoll;
    unsigned n, live;
    struct link *all;
    struct sockaddr_in servers[LINKS_SERVERS_MAX];
    char names[LINKS_SERVERS_MAX][48];
    unsigned servers_n;
    int timeout_ms; /* of the sessions */
    uint8_t *room;
    uint64_t swept_ns;
    /* Each frame but the answers to connects and pings. */
    void (*take)(void *ctx, struct link *l, const uint8_t *frame, size_t len, uint64_t now_ns);
    void (*opened)(void *ctx, struct link *l, uint64_t now_ns); /* may be NULL */
    void *ctx;
};

_Noreturn void load_die(const struct links *ls, const struct link *l, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void links_init(struct links *ls, const char *servers, unsigned n, int timeout_ms);
void links_free(struct links *ls);
void links_open_all(struct links *ls);              /* returns when all have a session */
void links_open(struct links *ls, struct link *l);  /* returns at once */
void links_close(struct links *ls, struct link *l); /* its connection; not the session */
/* Waits for frames and hands them on; now and then pings for those who have been silent. */
void links_turn(struct links *ls);
void links_send(struct links *ls, struct link *l);

/* A request: the frame's bytes with the next xid. */
int32_t link_ask(struct link *l, const struct buf *frame);
/* The reply's header; ends the program unless it is that of the next xid and err is `err`. */
struct wire_reply_header link_reply(const struct links *ls, struct link *l, struct wire_in *in,
                                    int32_t err);
bool link_is_event(const uint8_t *frame, size_t len);
/* Ends the program unless it is this event. */
void link_event(const struct links *ls, const struct link *l, const uint8_t *frame, size_t len,
                int32_t type, struct wire_bytes path);

#endif
