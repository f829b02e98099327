/* SPDX-License-Identifier: Apache-2.0 */
/* ensemble.h -- a server of an ensemble as ZooKeeper writes it, in zoo.cfg, in a reconfig
 * and in /zookeeper/config:
 *
 *   server.N=HOST:QUORUM_PORT:ELECTION_PORT[:participant|:observer][;[CLIENT_HOST:]CLIENT_PORT]
 *
 * muster's servers speak to each other on the quorum port; the election port is only
 * kept, because it stands in the text.
 */
#ifndef MUSTER_ENSEMBLE_H
#define MUSTER_ENSEMBLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define ENSEMBLE_MAX 15   /* servers */
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

struct ensemble {
    unsigned n;
    struct server_line v[ENSEMBLE_MAX]; /* by id */
};
const struct server_line *ensemble_find(const struct ensemble *e, int64_t id);
void ensemble_print(const struct ensemble *e, struct buf *out); /* lines, '\n' between them */
/* Lines as in /zookeeper/config or a reconfig's newMembers (also separated by commas); what
 * begins with "version" is skipped. Errors as server_line_parse, or ERR_BAD_ARGUMENTS. */
int ensemble_parse(struct ensemble *e, const char *text, size_t len);
/* What a reconfig request makes of `now`; texts may be NULL. ZooKeeper's errors. */
struct reconfig_texts {
    const char *joining, *leaving, *members;
    size_t joining_len, leaving_len, members_len;
};
int ensemble_change(const struct ensemble *now, const struct reconfig_texts *t,
                    unsigned participants_min, struct ensemble *to);

/* "server.N", or only "N": a long, as Java reads it. False: it is none. */
bool server_line_id(const char *text, size_t len, int64_t *id);

/* A port, 1..65535, that is all of the text. */
bool server_line_port(const char *text, size_t len, uint16_t *port);

#endif
