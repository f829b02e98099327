/* SPDX-License-Identifier: Apache-2.0 */
/* pending.h -- questions of a client that have no answer yet, in their order. */
#ifndef MUSTER_PENDING_H
#define MUSTER_PENDING_H

#include "client/client.h"

struct request {
    struct request *next;
    int32_t xid, op;
    uint64_t at_ms;   /* handed to the shell; still waiting: submitted */
    struct buf body;  /* only while waiting */
    bool is_question; /* whether our session lives */
    unsigned watch;   /* bits of watched_kind that success sets; path: on what */
    char *path;       /* as the server knows it */
    client_done *done;
    void *ctx;
};

struct pending {
    struct request *first, **last;
};
void pending_init(struct pending *p);
void pending_free(struct pending *p); /* without a callback */

void pending_add(struct pending *p, struct request *r);
/* Takes out the one that *at, within the list, points to. */
struct request *pending_take(struct pending *p, struct request **at);
/* Takes out all: what callbacks add meanwhile is not among them. To be ended or added again;
 * pending_add() does not work on what is returned. */
struct pending pending_take_all(struct pending *p);

/* Calls back, and frees. */
void pending_request_end(struct request *r, int err);
void pending_end(struct pending all, int err);
void pending_request_free(struct request *r);

#endif
