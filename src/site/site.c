/* SPDX-License-Identifier: Apache-2.0 */
/* site.c -- parse and validate. libyaml composes the document; the tables of keys below say
 * what may stand where. Every reader reports what is wrong and goes on, so that one look
 * shows all errors. Aliases cannot make it loop: the depth is that of the tables.
 */
#include "site/site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "site/read.h"

/* What muster listens on itself (the protocol, the machines, HTTP). */
enum { PORT_OWN_FIRST = 2180, PORT_OWN_LAST = 2182 };

/* ---- a check ---- */

struct check_into {
    struct site_check *check;
    size_t kind_line; /* where tcp, http or exec stands; 0: none yet */
    bool has_timeout;
};

static void check_kind(struct read *p, yaml_node_t *n, struct check_into *c,
                       enum site_check_type type)
{
    if (c->kind_line > 0)
        read_error(p->errors, read_line(n),
                   "a check is one of http, tcp and exec; the first is on line %zu",
                   c->kind_line);
    else
        c->check->type = type;
    c->kind_line = read_line(n);
}

static void check_http(struct read *p, yaml_node_t *n, void *into)
{
    struct check_into *c = into;

    check_kind(p, n, c, SITE_CHECK_HTTP);
    (void)read_text(p, n, "http: the path of the check", c->check->path);
}

static void check_exec(struct read *p, yaml_node_t *n, void *into)
{
    struct check_into *c = into;

    check_kind(p, n, c, SITE_CHECK_EXEC);
    (void)read_text(p, n, "exec: the program of the check", c->check->path);
}

static void check_tcp(struct read *p, yaml_node_t *n, void *into)
{
    check_kind(p, n, into, SITE_CHECK_TCP);
    if (!read_is(n, "true") && !read_is(n, "yes"))
        read_error(p->errors, read_line(n), "tcp must be true, not \"%s\"",
                   read_shown_node(n).text);
}

static void check_interval(struct read *p, yaml_node_t *n, void *into)
{
    struct check_into *c = into;

    read_duration(p, n, "interval", 100, 3600000, &c->check->interval_ms);
}

static void check_timeout(struct read *p, yaml_node_t *n, void *into)
{
    struct check_into *c = into;

    read_duration(p, n, "timeout", 10, 3600000, &c->check->timeout_ms);
    c->has_timeout = true;
}

static void check_rise(struct read *p, yaml_node_t *n, void *into)
{
    struct check_into *c = into;

    (void)read_number(p, n, "rise", 1, 100, &c->check->rise);
}

static void check_fall(struct read *p, yaml_node_t *n, void *into)
{
    struct check_into *c = into;

    (void)read_number(p, n, "fall", 1, 100, &c->check->fall);
}

static const struct read_key_row check_keys[] = {
    {"http", check_http, false},       {"tcp", check_tcp, false},
    {"exec", check_exec, false},       {"interval", check_interval, false},
    {"timeout", check_timeout, false}, {"rise", check_rise, false},
    {"fall", check_fall, false},
};

static void service_check(struct read *p, yaml_node_t *n, void *into)
{
    struct site_service *s = into;
    struct check_into c = {.check = &s->check};

    read_keys(p, n, check_keys, READ_COUNT(check_keys), "a check", &c);
    if (s->check.timeout_ms > s->check.interval_ms) {
        if (c.has_timeout)
            read_error(p->errors, read_line(n), "timeout (%ums) is longer than interval (%ums)",
                       s->check.timeout_ms, s->check.interval_ms);
        s->check.timeout_ms = s->check.interval_ms;
    }
}

/* ---- a service ---- */

static void service_port(struct read *p, yaml_node_t *n, void *into)
{
    struct site_service *s = into;
    uint32_t port;

    if (read_number(p, n, "port", 1, 65535, &port))
        s->port = (uint16_t)port;
}

static void service_instances(struct read *p, yaml_node_t *n, void *into)
{
    struct site_service *s = into;

    (void)read_number(p, n, "instances", 1, SITE_INSTANCES_MAX, &s->instances);
}

static int compare_names(const void *a, const void *b) { return strcmp(a, b); }

static void service_machines(struct read *p, yaml_node_t *n, void *into)
{
    struct site_service *s = into;

    if (n->type != YAML_SEQUENCE_NODE) {
        read_error(p->errors, read_line(n),
                   "machines must be a list like [a, b]; leave it out for all machines");
        return;
    }
    size_t items = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
    if (items == 0 || items > SITE_MACHINES_MAX) {
        read_error(p->errors, read_line(n), "machines must name from 1 to %d machines, not %zu",
                   SITE_MACHINES_MAX, items);
        return;
    }
    s->machines = mem_alloc(items * sizeof s->machines[0]);
    for (size_t i = 0; i < items; i++) {
        yaml_node_t *item = yaml_document_get_node(&p->doc, n->data.sequence.items.start[i]);
        char *name = s->machines[s->machines_n];
        if (!read_name(p, item, "the name of a machine", name))
            continue;
        bool is_twice = false;
        for (uint32_t k = 0; k < s->machines_n; k++)
            is_twice = is_twice || strcmp(s->machines[k], name) == 0;
        if (is_twice)
            read_error(p->errors, read_line(item), "machine \"%s\" is here twice", name);
        else
            s->machines_n++;
    }
    qsort(s->machines, s->machines_n, sizeof s->machines[0], compare_names);
}

static const struct read_key_row service_keys[] = {
    {"port", service_port, true},
    {"instances", service_instances, false},
    {"machines", service_machines, false},
    {"check", service_check, false},
};

/* Looks whether the key of pair i stands in the mapping before; reports it. */
static bool key_is_twice(struct read *p, const yaml_node_t *n, size_t i)
{
    const yaml_node_t *key = read_key(p, n, i);

    for (size_t k = 0; k < i; k++) {
        const yaml_node_t *other = read_key(p, n, k);
        if (other->type == YAML_SCALAR_NODE &&
            other->data.scalar.length == key->data.scalar.length &&
            memcmp(other->data.scalar.value, key->data.scalar.value, key->data.scalar.length) ==
                0) {
            read_error(p->errors, read_line(key), "\"%s\" is here twice; first on line %zu",
                       read_shown_node(key).text, read_line(other));
            return true;
        }
    }
    return false;
}

static void read_services(struct read *p, yaml_node_t *n, void *into)
{
    struct site *site = into;
    size_t pairs = read_pairs(n);

    if (!read_want_mapping(p, n, "services as \"name: ...\""))
        return;
    if (pairs > SITE_SERVICES_MAX) {
        read_error(p->errors, read_line(n), "%zu services; the limit is %d", pairs,
                   SITE_SERVICES_MAX);
        return;
    }
    site->services = mem_new_array(struct site_service, pairs + 1);
    for (size_t i = 0; i < pairs; i++) {
        yaml_node_t *key = read_key(p, n, i);
        struct site_service *s = &site->services[site->services_n];
        *s = (struct site_service){
            .instances = 1,
            .check = {.interval_ms = 1000, .timeout_ms = 500, .rise = 2, .fall = 2},
            .line = (unsigned)read_line(key),
        };
        if (!read_name(p, key, "the name of a service", s->name) || key_is_twice(p, n, i))
            continue;
        site->services_n++;
        char where[SITE_NAME_MAX + 16];
        (void)snprintf(where, sizeof where, "service \"%s\"", s->name);
        read_keys(p, read_value(p, n, i), service_keys, READ_COUNT(service_keys), where, s);
    }
}

/* ---- balance ---- */

static void balance_listen(struct read *p, yaml_node_t *n, void *into)
{
    struct site_balance *b = into;
    uint32_t port;

    if (!read_number(p, n, "listen", 1, 65535, &port))
        return;
    b->listen = (uint16_t)port;
    for (unsigned i = 0; i < p->site->balance_n; i++) {
        const struct site_balance *other = &p->site->balance[i];
        if (other != b && other->listen == port)
            read_error(p->errors, read_line(n), "port %u is already listened on for \"%s\"",
                       port, other->service);
    }
    if (port >= PORT_OWN_FIRST && port <= PORT_OWN_LAST)
        read_error(p->errors, read_line(n), "port %u is muster's own (%d to %d)", port,
                   PORT_OWN_FIRST, PORT_OWN_LAST);
}

static const struct read_key_row balance_keys[] = {{"listen", balance_listen, true}};

static void read_balance(struct read *p, yaml_node_t *n, void *into)
{
    struct site *site = into;
    size_t pairs = read_pairs(n);

    if (!read_want_mapping(p, n, "balance as \"service: { listen: 80 }\""))
        return;
    if (pairs > SITE_BALANCE_MAX) {
        read_error(p->errors, read_line(n), "%zu balanced services; the limit is %d", pairs,
                   SITE_BALANCE_MAX);
        return;
    }
    site->balance = mem_new_array(struct site_balance, pairs + 1);
    for (size_t i = 0; i < pairs; i++) {
        yaml_node_t *key = read_key(p, n, i);
        struct site_balance *b = &site->balance[site->balance_n];
        *b = (struct site_balance){.listen = 0};
        if (!read_name(p, key, "the name of a service", b->service) || key_is_twice(p, n, i))
            continue;
        site->balance_n++;
        char where[SITE_NAME_MAX + 24];
        (void)snprintf(where, sizeof where, "balance of \"%s\"", b->service);
        read_keys(p, read_value(p, n, i), balance_keys, READ_COUNT(balance_keys), where, b);
    }
}

/* ---- addresses ---- */

static bool address_is_usable(uint32_t a, uint8_t prefix)
{
    uint32_t host = prefix < 31 ? UINT32_MAX >> prefix : 0;

    if (a >> 24 == 0 || a >> 24 == 127 || a >> 28 >= 14)
        return false;
    return host == 0 || ((a & host) != 0 && (a & host) != host);
}

static void address_address(struct read *p, yaml_node_t *n, void *into)
{
    struct site_address *a = into;
    uint32_t number;

    if (!read_want_scalar(p, n, "an address like 10.0.0.100"))
        return;
    const char *text = (const char *)n->data.scalar.value;
    size_t len = n->data.scalar.length;
    if (!site_ipv4(text, len, &number, &a->prefix)) {
        read_error(p->errors, read_line(n),
                   "\"%s\" is not an IPv4 address like 10.0.0.100 or 10.0.0.100/24",
                   read_show(text, len).text);
        return;
    }
    if (!address_is_usable(number, a->prefix)) {
        read_error(p->errors, read_line(n),
                   "%s cannot be a virtual address: it is a network, broadcast, loopback or "
                   "multicast address",
                   read_show(text, len).text);
        return;
    }
    (void)snprintf(a->address, sizeof a->address, "%u.%u.%u.%u", number >> 24,
                   number >> 16 & 255, number >> 8 & 255, number & 255);
    for (unsigned i = 0; i < p->site->addresses_n; i++)
        if (strcmp(p->site->addresses[i].address, a->address) == 0)
            read_error(p->errors, read_line(n), "address %s is here twice", a->address);
}

static void address_dev(struct read *p, yaml_node_t *n, void *into)
{
    struct site_address *a = into;

    if (!read_want_scalar(p, n, "the name of an interface"))
        return;
    const char *text = (const char *)n->data.scalar.value;
    size_t len = n->data.scalar.length;
    bool is_good = len < SITE_DEV_MAX;
    for (size_t i = 0; i < len; i++)
        is_good = is_good && (unsigned char)text[i] > ' ' && (unsigned char)text[i] < 0x7f &&
                  text[i] != '/';
    if (!is_good) {
        read_error(p->errors, read_line(n), "\"%s\" is not the name of an interface",
                   read_show(text, len).text);
        return;
    }
    memcpy(a->dev, text, len);
    a->dev[len] = 0;
}

static const struct read_key_row address_keys[] = {
    {"address", address_address, true},
    {"dev", address_dev, false},
};

static void read_addresses(struct read *p, yaml_node_t *n, void *into)
{
    struct site *site = into;

    if (read_is_nothing(n))
        return;
    if (n->type != YAML_SEQUENCE_NODE) {
        read_error(p->errors, read_line(n),
                   "addresses must be a list: a line \"- 10.0.0.100\" each");
        return;
    }
    size_t items = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
    if (items > SITE_ADDRESSES_MAX) {
        read_error(p->errors, read_line(n), "%zu addresses; the limit is %d", items,
                   SITE_ADDRESSES_MAX);
        return;
    }
    site->addresses = mem_new_array(struct site_address, items + 1);
    for (size_t i = 0; i < items; i++) {
        yaml_node_t *item = yaml_document_get_node(&p->doc, n->data.sequence.items.start[i]);
        struct site_address a = {.prefix = 32};
        if (item->type == YAML_MAPPING_NODE)
            read_keys(p, item, address_keys, READ_COUNT(address_keys), "an address", &a);
        else
            address_address(p, item, &a);
        site->addresses[site->addresses_n++] = a;
    }
}

/* ---- the whole ---- */

static void read_site(struct read *p, yaml_node_t *n, void *into)
{
    struct site *site = into;

    (void)read_name(p, n, "the name of the site", site->name);
}

static void read_lease(struct read *p, yaml_node_t *n, void *into)
{
    struct site *site = into;

    read_duration(p, n, "lease", SITE_LEASE_MIN_MS, SITE_LEASE_MAX_MS, &site->lease_ms);
}

static const struct read_key_row site_keys[] = {
    {"site", read_site, true},
    {"lease", read_lease, false},
    {"addresses", read_addresses, false},
    {"services", read_services, false},
    {"balance", read_balance, false},
};

static uint32_t last_port(const struct site_service *s) { return s->port + s->instances - 1; }

static bool share_a_machine(const struct site_service *a, const struct site_service *b)
{
    if (a->machines_n == 0 || b->machines_n == 0)
        return true;
    for (uint32_t i = 0; i < a->machines_n; i++)
        if (site_service_is_on(b, a->machines[i]))
            return true;
    return false;
}

static void check_service_ports(struct read *p, unsigned i)
{
    const struct site *site = p->site;
    const struct site_service *s = &site->services[i];

    if (s->port == 0)
        return; /* said already */
    if (last_port(s) > 65535)
        read_error(p->errors, s->line,
                   "service \"%s\": port %u and %u instances go above 65535", s->name, s->port,
                   s->instances);
    if (s->port <= PORT_OWN_LAST && last_port(s) >= PORT_OWN_FIRST)
        read_error(p->errors, s->line, "service \"%s\": ports %d to %d are muster's own",
                   s->name, PORT_OWN_FIRST, PORT_OWN_LAST);
    for (unsigned k = 0; k < i; k++) {
        const struct site_service *o = &site->services[k];
        if (o->port > 0 && s->port <= last_port(o) && o->port <= last_port(s) &&
            share_a_machine(s, o))
            read_error(p->errors, s->line,
                       "services \"%s\" and \"%s\" share a port: %u to %u and %u to %u",
                       o->name, s->name, o->port, last_port(o), s->port, last_port(s));
    }
    for (unsigned k = 0; k < site->balance_n; k++) {
        const struct site_balance *b = &site->balance[k];
        if (b->listen >= s->port && b->listen <= last_port(s))
            read_error(
                p->errors, s->line,
                "service \"%s\" uses port %u, on which \"%s\" is balanced on every machine",
                s->name, b->listen, b->service);
    }
}

/* `root` may have lost its balance section; lines come from the document. */
static void check_balance(struct read *p, yaml_node_t *root)
{
    const struct site *site = p->site;
    yaml_node_t *section = NULL;

    for (size_t i = 0; i < read_pairs(root) && section == NULL; i++)
        if (read_is(read_key(p, root, i), "balance"))
            section = read_value(p, root, i);
    for (unsigned b = 0; b < site->balance_n; b++) {
        const char *name = site->balance[b].service;
        struct read_guess_best g = {0};
        size_t line = 0;
        bool is_known = false;
        for (unsigned s = 0; s < site->services_n; s++) {
            is_known = is_known || strcmp(site->services[s].name, name) == 0;
            read_guess(&g, name, strlen(name), site->services[s].name);
        }
        for (size_t i = 0; section != NULL && i < read_pairs(section); i++)
            if (line == 0 && read_is(read_key(p, section, i), name))
                line = read_line(read_key(p, section, i));
        if (!is_known && g.name != NULL)
            read_error(p->errors, line,
                       "balance of \"%s\", which is no service; did you mean \"%s\"?", name,
                       g.name);
        else if (!is_known)
            read_error(p->errors, line, "balance of \"%s\", which is no service", name);
    }
}

static int compare_addresses(const void *a, const void *b)
{
    const struct site_address *x = a, *y = b;
    uint32_t nx = 0, ny = 0;
    uint8_t prefix;

    (void)site_ipv4(x->address, strlen(x->address), &nx, &prefix);
    (void)site_ipv4(y->address, strlen(y->address), &ny, &prefix);
    return nx < ny ? -1 : nx > ny;
}

static int compare_services(const void *a, const void *b)
{
    return strcmp(((const struct site_service *)a)->name,
                  ((const struct site_service *)b)->name);
}

static int compare_balance(const void *a, const void *b)
{
    return strcmp(((const struct site_balance *)a)->service,
                  ((const struct site_balance *)b)->service);
}

static void sort_lists(struct site *s)
{
    if (s->addresses_n > 0)
        qsort(s->addresses, s->addresses_n, sizeof s->addresses[0], compare_addresses);
    if (s->services_n > 0)
        qsort(s->services, s->services_n, sizeof s->services[0], compare_services);
    if (s->balance_n > 0)
        qsort(s->balance, s->balance_n, sizeof s->balance[0], compare_balance);
}

static void yaml_failed(const yaml_parser_t *y, struct site_errors *e)
{
    const char *problem = y->problem != NULL ? y->problem : "it is not YAML";
    size_t line = y->problem_mark.line + 1;

    if (y->error == YAML_READER_ERROR)
        read_error(e, 0, "not valid UTF-8 text, at byte %zu", y->problem_offset);
    else if (y->context != NULL)
        read_error(e, line, "%s, %s", problem, y->context);
    else
        read_error(e, line, "%s", problem);
}

/* libyaml's time grows with the square of the depth: 100 KB of "{" would keep it busy for
 * minutes. Events come one by one, so this stops at the first that is too deep. */
static bool is_too_deep(const uint8_t *data, size_t len, struct site_errors *errors)
{
    yaml_parser_t yaml;
    yaml_event_t event;
    unsigned depth = 0;
    bool is_over = false;

    CHECK(yaml_parser_initialize(&yaml));
    yaml_parser_set_input_string(&yaml, data, len);
    while (!is_over && depth <= SITE_DEPTH_MAX && yaml_parser_parse(&yaml, &event)) {
        if (event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT)
            depth++;
        else if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
            depth--;
        is_over = event.type == YAML_STREAM_END_EVENT;
        if (depth > SITE_DEPTH_MAX)
            read_error(errors, event.start_mark.line + 1, "nested deeper than %d levels",
                       SITE_DEPTH_MAX);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&yaml);
    return depth > SITE_DEPTH_MAX;
}

static void parse_document(struct read *p)
{
    yaml_node_t *root = yaml_document_get_root_node(&p->doc);

    if (root == NULL || read_is_nothing(root)) {
        read_error(p->errors, 0, "the file is empty; the least is: site, addresses, services");
        return;
    }
    read_keys(p, root, site_keys, READ_COUNT(site_keys), "the site file", p->site);
    for (unsigned i = 0; i < p->site->services_n; i++)
        check_service_ports(p, i);
    check_balance(p, root);
    sort_lists(p->site);
}

struct site *site_parse(const uint8_t *data, size_t len, struct site_errors *errors)
{
    struct read p = {.errors = errors};
    yaml_parser_t yaml;
    yaml_document_t more;

    *errors = (struct site_errors){.n = 0};
    if (len > SITE_BYTES_MAX) {
        read_error(errors, 0, "%zu bytes; the limit of a site file is %u", len, SITE_BYTES_MAX);
        return NULL;
    }
    if (data == NULL) /* an empty file or znode; libyaml ends the process for a NULL */
        data = (const uint8_t *)"";
    if (is_too_deep(data, len, errors))
        return NULL;
    CHECK(yaml_parser_initialize(&yaml)); /* it can only lack memory */
    yaml_parser_set_input_string(&yaml, data, len);
    if (!yaml_parser_load(&yaml, &p.doc)) {
        yaml_failed(&yaml, errors);
        yaml_parser_delete(&yaml);
        return NULL;
    }
    p.site = mem_new(struct site);
    p.site->lease_ms = SITE_LEASE_DEFAULT_MS;
    parse_document(&p);
    yaml_document_delete(&p.doc);
    if (!yaml_parser_load(&yaml, &more)) {
        yaml_failed(&yaml, errors);
    } else {
        yaml_node_t *root = yaml_document_get_root_node(&more);
        if (root != NULL)
            read_error(errors, read_line(root), "a second document; a site file has one");
        yaml_document_delete(&more);
    }
    yaml_parser_delete(&yaml);
    if (errors->n > 0) {
        site_free(p.site);
        return NULL;
    }
    return p.site;
}

void site_free(struct site *s)
{
    if (s == NULL)
        return;
    for (unsigned i = 0; i < s->services_n; i++)
        mem_free(s->services[i].machines);
    mem_free(s->addresses);
    mem_free(s->services);
    mem_free(s->balance);
    mem_free(s);
}

void site_errors_print(const struct site_errors *errors, const char *file, struct buf *out)
{
    for (unsigned i = 0; i < errors->n; i++) {
        if (errors->v[i].line > 0)
            buf_printf(out, "%s:%u: %s\n", file, errors->v[i].line, errors->v[i].text);
        else
            buf_printf(out, "%s: %s\n", file, errors->v[i].text);
    }
    if (errors->total > errors->n)
        buf_printf(out, "%s: and %u more errors\n", file, errors->total - errors->n);
}

const struct site_service *site_service_find(const struct site *s, const char *name)
{
    for (unsigned i = 0; s != NULL && i < s->services_n; i++)
        if (strcmp(s->services[i].name, name) == 0)
            return &s->services[i];
    return NULL;
}

const struct site_address *site_address_find(const struct site *s, const char *address)
{
    for (unsigned i = 0; s != NULL && i < s->addresses_n; i++)
        if (strcmp(s->addresses[i].address, address) == 0)
            return &s->addresses[i];
    return NULL;
}

bool site_service_is_on(const struct site_service *service, const char *machine)
{
    for (uint32_t i = 0; i < service->machines_n; i++)
        if (strcmp(service->machines[i], machine) == 0)
            return true;
    return service->machines_n == 0;
}
