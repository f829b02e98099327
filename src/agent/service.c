/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/service.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/mutant.h"

const char *service_state_name(enum service_state s)
{
    switch (s) {
    case SERVICE_UNKNOWN: return "checking";
    case SERVICE_HEALTHY: return "healthy";
    case SERVICE_FAILING: return "failing";
    }
    return "?";
}

/* What a program or a library wrote: one line of printable text. */
static void clean(char *text)
{
    for (; *text != 0; text++) {
        if (*text == '\n' || *text == '\r') {
            *text = 0;
            return;
        }
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
    }
}

void service_reason(const struct site_check *check, const struct service_result *r, char *out,
                    size_t size)
{
    const char *text = r->text != NULL ? r->text : "";
    const char *colon = text[0] != 0 ? ": " : "";

    switch (r->outcome) {
    case SERVICE_OK:
        if (check->type == SITE_CHECK_HTTP)
            (void)snprintf(out, size, "HTTP %d in %u ms", r->number, r->took_ms);
        else if (check->type == SITE_CHECK_TCP)
            (void)snprintf(out, size, "connected in %u ms", r->took_ms);
        else
            (void)snprintf(out, size, "exit 0 in %u ms", r->took_ms);
        break;
    case SERVICE_REFUSED: (void)snprintf(out, size, "connection refused"); break;
    case SERVICE_NO_ANSWER:
        (void)snprintf(out, size, "no answer within %u ms", check->timeout_ms);
        break;
    case SERVICE_STATUS:
        (void)snprintf(out, size, "HTTP %d in %u ms", r->number, r->took_ms);
        break;
    case SERVICE_EXIT: (void)snprintf(out, size, "exit %d%s%s", r->number, colon, text); break;
    case SERVICE_SIGNAL:
        (void)snprintf(out, size, "ended by signal %d%s%s", r->number, colon, text);
        break;
    case SERVICE_ERROR:
        (void)snprintf(out, size, "%s", text[0] != 0 ? text : "the check could not be made");
        break;
    }
    clean(out);
}

void services_init(struct services *s, uint64_t seed)
{
    *s = (struct services){.rng = {.state = seed}};
}

void services_free(struct services *s)
{
    mem_free(s->v);
    *s = (struct services){.n = 0};
}

static struct service_instance *find(struct services *s, const char *service, uint16_t port)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->v[i].port == port && strcmp(s->v[i].service, service) == 0)
            return &s->v[i];
    return NULL;
}

static bool checks_same_thing(const struct site_check *a, const struct site_check *b)
{
    return a->type == b->type && strcmp(a->path, b->path) == 0;
}

void services_set_site(struct services *s, const struct site *site, const char *machine,
                       uint64_t now_ms, void (*stopped)(void *ctx, uint64_t op), void *ctx)
{
    struct service_instance *v = NULL;
    unsigned n = 0, cap = 0;

    for (unsigned i = 0; i < site->services_n; i++) {
        const struct site_service *service = &site->services[i];
        if (!site_service_is_on(service, machine))
            continue;
        for (uint32_t k = 0; k < service->instances && n < SERVICE_INSTANCES_MAX; k++) {
            mem_grow(v, cap, n + 1);
            uint16_t port = (uint16_t)(service->port + k);
            struct service_instance *was = find(s, service->name, port);
            bool is_kept = was != NULL && checks_same_thing(&was->check, &service->check);
            v[n] = (struct service_instance){.port = port, .next_ms = now_ms};
            if (is_kept) {
                v[n] = *was;
                was->late_ms = 0; /* the check goes on, under the new entry */
                if (v[n].next_ms > now_ms + service->check.interval_ms)
                    v[n].next_ms = now_ms + service->check.interval_ms;
            }
            memcpy(v[n].service, service->name, sizeof v[n].service);
            v[n].check = service->check;
            n++;
        }
    }
    for (unsigned i = 0; i < s->n; i++)
        if (s->v[i].late_ms != 0)
            stopped(ctx, s->v[i].op);
    mem_free(s->v);
    s->v = v;
    s->n = n;
    s->cap = cap;
}

/* Up to a tenth of the interval: instances must not be checked in step for ever. */
static void plan_next(struct services *s, struct service_instance *i, uint64_t now_ms)
{
    i->next_ms =
        now_ms + i->check.interval_ms - rng_below(&s->rng, i->check.interval_ms / 10 + 1);
}

static void count(struct services *s, struct service_instance *i,
                  const struct service_result *r, int64_t wall_ms)
{
    bool is_good = r->outcome == SERVICE_OK;
    enum service_state then = is_good ? SERVICE_HEALTHY : SERVICE_FAILING;

    i->late_ms = 0;
    s->checks_total++;
    s->failed_total += !is_good;
    service_reason(&i->check, r, i->reason, sizeof i->reason);
    if (then == i->state) {
        i->in_a_row = 0;
        return;
    }
    i->in_a_row++;
    uint32_t needed = is_good ? i->check.rise : i->check.fall;
    if (MUTANT(service_no_fall) && !is_good)
        return;
    if (i->state == SERVICE_UNKNOWN || i->in_a_row >= needed) {
        i->state = then;
        i->in_a_row = 0;
        i->since_wall_ms = wall_ms;
    }
}

struct service_instance *services_due(struct services *s, uint64_t now_ms, int64_t wall_ms,
                                      uint64_t op)
{
    static const struct service_result late = {.outcome = SERVICE_NO_ANSWER};

    for (unsigned k = 0; k < s->n; k++) {
        struct service_instance *i = &s->v[k];
        if (i->late_ms != 0 && now_ms >= i->late_ms)
            count(s, i, &late, wall_ms);
        if (i->late_ms != 0 || now_ms < i->next_ms)
            continue;
        i->op = op;
        i->late_ms = now_ms + i->check.timeout_ms + SERVICE_LATE_MS;
        plan_next(s, i, now_ms);
        return i;
    }
    return NULL;
}

bool services_result(struct services *s, uint64_t op, const struct service_result *r,
                     int64_t wall_ms)
{
    for (unsigned k = 0; k < s->n; k++) {
        if (s->v[k].late_ms != 0 && s->v[k].op == op) {
            count(s, &s->v[k], r, wall_ms);
            return true;
        }
    }
    return false;
}

uint64_t services_deadline(const struct services *s)
{
    uint64_t due = SERVICE_NEVER;

    for (unsigned k = 0; k < s->n; k++) {
        uint64_t at = s->v[k].late_ms != 0 ? s->v[k].late_ms : s->v[k].next_ms;
        if (at < due)
            due = at;
    }
    return due;
}

unsigned services_count_healthy(const struct services *s)
{
    unsigned n = 0;

    for (unsigned k = 0; k < s->n; k++)
        n += s->v[k].state == SERVICE_HEALTHY;
    return n;
}
