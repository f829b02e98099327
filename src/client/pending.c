/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pending.h"

#include "base/mem.h"

void pending_init(struct pending *p)
{
    p->first = NULL;
    p->last = &p->first;
}

void pending_free(struct pending *p)
{
    while (p->first != NULL) {
        struct request *r = p->first;
        p->first = r->next;
        pending_request_free(r);
    }
    pending_init(p);
}

void pending_add(struct pending *p, struct request *r)
{
    r->next = NULL;
    *p->last = r;
    p->last = &r->next;
}

struct request *pending_take(struct pending *p, struct request **at)
{
    struct request *r = *at;

    *at = r->next;
    if (p->last == &r->next)
        p->last = at;
    r->next = NULL;
    return r;
}

struct pending pending_take_all(struct pending *p)
{
    struct pending all = {p->first, NULL};

    pending_init(p);
    return all;
}

void pending_request_free(struct request *r)
{
    buf_free(&r->body);
    mem_free(r->path);
    mem_free(r);
}

void pending_request_end(struct request *r, int err)
{
    struct client_reply reply = {.err = err};

    if (r->done != NULL)
        r->done(r->ctx, &reply);
    pending_request_free(r);
}

void pending_end(struct pending all, int err)
{
    while (all.first != NULL) {
        struct request *r = all.first;
        all.first = r->next;
        pending_request_end(r, err);
    }
}
