/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c -- what applying one site over another would change, for a person to read. */
#include "site/site.h"

#include <string.h>

const char *site_check_type_name(enum site_check_type t)
{
    switch (t) {
    case SITE_CHECK_TCP: return "tcp";
    case SITE_CHECK_HTTP: return "http";
    case SITE_CHECK_EXEC: return "exec";
    }
    return "?";
}

static const struct site_balance *balance_find(const struct site *s, const char *service)
{
    for (unsigned i = 0; s != NULL && i < s->balance_n; i++)
        if (strcmp(s->balance[i].service, service) == 0)
            return &s->balance[i];
    return NULL;
}

/* In the largest unit that says it exactly. */
static void print_ms(struct buf *out, uint32_t ms)
{
    if (ms % 60000 == 0 && ms > 0)
        buf_printf(out, "%um", ms / 60000);
    else if (ms % 1000 == 0)
        buf_printf(out, "%us", ms / 1000);
    else
        buf_printf(out, "%ums", ms);
}

static void print_check(struct buf *out, const struct site_check *c)
{
    buf_printf(out, "%s%s%s every ", site_check_type_name(c->type),
               c->type == SITE_CHECK_TCP ? "" : " ", c->type == SITE_CHECK_TCP ? "" : c->path);
    print_ms(out, c->interval_ms);
    buf_add_str(out, ", timeout ");
    print_ms(out, c->timeout_ms);
    buf_printf(out, ", rise %u, fall %u", c->rise, c->fall);
}

static void print_machines(struct buf *out, const struct site_service *s)
{
    if (s->machines_n == 0)
        buf_add_str(out, "all machines");
    for (uint32_t i = 0; i < s->machines_n; i++)
        buf_printf(out, "%s%s", i > 0 ? ", " : "", s->machines[i]);
}

static bool checks_equal(const struct site_check *a, const struct site_check *b)
{
    return a->type == b->type && (a->type == SITE_CHECK_TCP || strcmp(a->path, b->path) == 0) &&
           a->interval_ms == b->interval_ms && a->timeout_ms == b->timeout_ms &&
           a->rise == b->rise && a->fall == b->fall;
}

static bool machines_equal(const struct site_service *a, const struct site_service *b)
{
    if (a->machines_n != b->machines_n)
        return false;
    for (uint32_t i = 0; i < a->machines_n; i++)
        if (strcmp(a->machines[i], b->machines[i]) != 0)
            return false;
    return true;
}

static unsigned plan_addresses(const struct site *old, const struct site *new, struct buf *out)
{
    unsigned n = 0;

    for (unsigned i = 0; old != NULL && i < old->addresses_n; i++) {
        if (site_address_find(new, old->addresses[i].address) == NULL) {
            buf_printf(out, "- address %s\n", old->addresses[i].address);
            n++;
        }
    }
    for (unsigned i = 0; i < new->addresses_n; i++) {
        const struct site_address *a = &new->addresses[i];
        const struct site_address *was = site_address_find(old, a->address);
        if (was == NULL) {
            buf_printf(out, "+ address %s", a->address);
            if (a->prefix != 32)
                buf_printf(out, "/%u", a->prefix);
            buf_printf(out, "%s%s\n", a->dev[0] != 0 ? " on " : "", a->dev);
            n++;
        } else if (was->prefix != a->prefix || strcmp(was->dev, a->dev) != 0) {
            buf_printf(out, "~ address %s: /%u on %s -> /%u on %s\n", a->address, was->prefix,
                       was->dev[0] != 0 ? was->dev : "its network", a->prefix,
                       a->dev[0] != 0 ? a->dev : "its network");
            n++;
        }
    }
    return n;
}

static unsigned plan_new_service(const struct site_service *s, struct buf *out)
{
    buf_printf(out, "+ service %s: port %u", s->name, s->port);
    if (s->instances > 1)
        buf_printf(out, " to %u", s->port + s->instances - 1);
    buf_add_str(out, " on ");
    print_machines(out, s);
    buf_add_str(out, "; check ");
    print_check(out, &s->check);
    buf_add_str(out, "\n");
    return 1;
}

static unsigned plan_service(const struct site_service *a, const struct site_service *b,
                             struct buf *out)
{
    unsigned n = 0;

    if (a->port != b->port) {
        buf_printf(out, "~ service %s: port %u -> %u\n", b->name, a->port, b->port);
        n++;
    }
    if (a->instances != b->instances) {
        buf_printf(out, "~ service %s: instances %u -> %u\n", b->name, a->instances,
                   b->instances);
        n++;
    }
    if (!machines_equal(a, b)) {
        buf_printf(out, "~ service %s: on ", b->name);
        print_machines(out, a);
        buf_add_str(out, " -> ");
        print_machines(out, b);
        buf_add_str(out, "\n");
        n++;
    }
    if (!checks_equal(&a->check, &b->check)) {
        buf_printf(out, "~ service %s: check ", b->name);
        print_check(out, &a->check);
        buf_add_str(out, " -> ");
        print_check(out, &b->check);
        buf_add_str(out, "\n");
        n++;
    }
    return n;
}

static unsigned plan_services(const struct site *old, const struct site *new, struct buf *out)
{
    unsigned n = 0;

    for (unsigned i = 0; old != NULL && i < old->services_n; i++) {
        if (site_service_find(new, old->services[i].name) == NULL) {
            buf_printf(out, "- service %s\n", old->services[i].name);
            n++;
        }
    }
    for (unsigned i = 0; i < new->services_n; i++) {
        const struct site_service *was = site_service_find(old, new->services[i].name);
        n += was == NULL ? plan_new_service(&new->services[i], out)
                         : plan_service(was, &new->services[i], out);
    }
    return n;
}

static unsigned plan_balance(const struct site *old, const struct site *new, struct buf *out)
{
    unsigned n = 0;

    for (unsigned i = 0; old != NULL && i < old->balance_n; i++) {
        if (balance_find(new, old->balance[i].service) == NULL) {
            buf_printf(out, "- balance %s\n", old->balance[i].service);
            n++;
        }
    }
    for (unsigned i = 0; i < new->balance_n; i++) {
        const struct site_balance *b = &new->balance[i];
        const struct site_balance *was = balance_find(old, b->service);
        if (was == NULL) {
            buf_printf(out, "+ balance %s: listen %u\n", b->service, b->listen);
            n++;
        } else if (was->listen != b->listen) {
            buf_printf(out, "~ balance %s: listen %u -> %u\n", b->service, was->listen,
                       b->listen);
            n++;
        }
    }
    return n;
}

unsigned site_plan(const struct site *old, const struct site *new, struct buf *out)
{
    unsigned n = 0;

    if (old == NULL) {
        buf_printf(out, "+ site %s: lease ", new->name);
        print_ms(out, new->lease_ms);
        buf_add_str(out, "\n");
        n++;
    } else {
        if (strcmp(old->name, new->name) != 0) {
            buf_printf(out, "~ site: %s -> %s\n", old->name, new->name);
            n++;
        }
        if (old->lease_ms != new->lease_ms) {
            buf_add_str(out, "~ lease: ");
            print_ms(out, old->lease_ms);
            buf_add_str(out, " -> ");
            print_ms(out, new->lease_ms);
            buf_add_str(out, "\n");
            n++;
        }
    }
    n += plan_addresses(old, new, out);
    n += plan_services(old, new, out);
    n += plan_balance(old, new, out);
    return n;
}
