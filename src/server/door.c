/* SPDX-License-Identifier: Apache-2.0 */
#include "server/door.h"

#include <pthread.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

struct door {
    pthread_mutex_t lock;
    int fd; /* -1: it is shut */
    struct buf rest;
    struct door_facts facts;
};

static void lock(struct door *d) { CHECK(pthread_mutex_lock(&d->lock) == 0); }

static void unlock(struct door *d) { CHECK(pthread_mutex_unlock(&d->lock) == 0); }

struct door *door_new(void)
{
    struct door *d = mem_new(struct door);

    CHECK(pthread_mutex_init(&d->lock, NULL) == 0);
    d->fd = -1;
    return d;
}

void door_free(struct door *d)
{
    if (d == NULL)
        return;
    CHECK(pthread_mutex_destroy(&d->lock) == 0);
    buf_free(&d->rest);
    mem_free(d);
}

void door_open(struct door *d, int fd)
{
    lock(d);
    CHECK(d->rest.len == 0);
    d->fd = fd;
    unlock(d);
}

void door_shut(struct door *d)
{
    lock(d);
    d->fd = -1;
    buf_clear(&d->rest);
    unlock(d);
}

void door_enter(struct door *d) { lock(d); }

void door_leave(struct door *d, bool is_clear)
{
    if (!is_clear)
        d->fd = -1;
    unlock(d);
}

bool door_rest_take(struct door *d, struct buf *out)
{
    if (d->rest.len == 0)
        return false;
    buf_add(out, d->rest.data, d->rest.len);
    buf_clear(&d->rest);
    return true;
}

bool door_put(struct door *d, const void *data, size_t len, bool *has_rest)
{
    ssize_t n = -1;

    *has_rest = false;
    lock(d);
    if (d->fd >= 0)
        n = write(d->fd, data, len);
    if (n > 0) {
        d->facts.messages_total++;
        d->facts.bytes_total += (uint64_t)n;
    }
    if (n > 0 && (size_t)n < len) {
        d->fd = -1;
        buf_add(&d->rest, (const uint8_t *)data + n, len - (size_t)n);
        *has_rest = true;
    }
    unlock(d);
    return n > 0;
}

void door_facts(struct door *d, struct door_facts *out)
{
    lock(d);
    *out = d->facts;
    unlock(d);
}
