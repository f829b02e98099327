/* SPDX-License-Identifier: Apache-2.0 */
/* member_line.h -- a server of an ensemble as ZooKeeper writes it, in zoo.cfg, in a reconfig
 * and in /zookeeper/config:
 *
 *   server.N=HOST:QUORUM_PORT:ELECTION_PORT[:participant|:observer][;[CLIENT_HOST:]CLIENT_PORT]
 *
 * A core. muster's servers speak to each other on the quorum port; the election port is only
 * kept, because it stands in the text.
 */
#ifndef MUSTER_MEMBER_LINE_H
#define MUSTER_MEMBER_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "raft/raft.h"

#define LINE_HOST_MAX 112 /* with the NUL */

struct server_line {
    int64_t id; /* N */
    char host[LINE_HOST_MAX];
    uint16_t quorum_port, election_port;
    bool is_observer;
    char client_host[LINE_HOST_MAX]; /* "" when there is no client part */
    uint16_t client_port;            /* 0: there is no client part */
};

/* What stands behind "server.N=". ERR_BAD_ARGUMENTS, with what is wrong in why (may be NULL).
 * ERR_MALFORMED: a number that Java's parser would choke on (ZooKeeper then answers that). */
int server_line_parse(struct server_line *out, const char *text, size_t len, struct buf *why);
void server_line_print(const struct server_line *line, struct buf *out); /* server.N=... */

/* "server.N", or only "N": a long, as Java reads it. False: it is none. */
bool server_line_id(const char *text, size_t len, int64_t *id);

/* A port, 1..65535, that is all of the text. */
bool server_line_port(const char *text, size_t len, uint16_t *port);

#endif
