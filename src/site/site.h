/* SPDX-License-Identifier: Apache-2.0 */
/* site.h -- the site file: what should be. Parse, validate, compare. A core.
 *
 * YAML 1.1 by libyaml; docs/site-file.md is its manual. A file is either whole and valid or
 * refused with every error that could be found, each with its line and, where it can be
 * guessed, what was meant. Any bytes are safe.
 */
#ifndef MUSTER_SITE_H
#define MUSTER_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define SITE_BYTES_MAX (256u << 10)
#define SITE_NAME_MAX 64    /* with the NUL: of the site, a service, a machine */
#define SITE_DEV_MAX 16     /* with the NUL: IFNAMSIZ */
#define SITE_PATH_MAX 256   /* with the NUL: of a check */
#define SITE_ADDRESS_MAX 16 /* with the NUL: "255.255.255.255" */
#define SITE_ADDRESSES_MAX 64
#define SITE_SERVICES_MAX 64
#define SITE_INSTANCES_MAX 32 /* of one service on one machine */
#define SITE_MACHINES_MAX 32  /* named by one service */
#define SITE_BALANCE_MAX SITE_SERVICES_MAX
#define SITE_DEPTH_MAX 16  /* of lists and mappings in each other; a site needs 4 */
#define SITE_ERRORS_MAX 20 /* more are counted, not kept */

#define SITE_LEASE_DEFAULT_MS 2000
#define SITE_LEASE_MIN_MS 500
#define SITE_LEASE_MAX_MS 60000

struct site_address {
    char address[SITE_ADDRESS_MAX]; /* IPv4, dotted, in its one canonical form */
    uint8_t prefix;                 /* 1..32; default 32 */
    char dev[SITE_DEV_MAX];         /* "": the interface with the machine's own address */
};

enum site_check_type { SITE_CHECK_TCP, SITE_CHECK_HTTP, SITE_CHECK_EXEC };
struct site_check {
    enum site_check_type type; /* default TCP */
    char path[SITE_PATH_MAX];  /* HTTP: "/up"; EXEC: an absolute path of a program */
    uint32_t interval_ms;      /* 100 ms..1 h; default 1 s */
    uint32_t timeout_ms;       /* 10 ms..interval; default 500 ms, or the interval if less */
    uint32_t rise, fall;       /* 1..100; default 2 and 2 */
};

struct site_service {
    char name[SITE_NAME_MAX];
    uint16_t port;      /* of the first instance; the others follow */
    uint32_t instances; /* on each of its machines; default 1 */
    struct site_check check;
    char (*machines)[SITE_NAME_MAX]; /* sorted; none: on all machines */
    uint32_t machines_n;
    unsigned line;
};

struct site_balance {
    char service[SITE_NAME_MAX];
    uint16_t listen; /* on every machine, on all its addresses */
};

/* All lists are sorted: addresses by their number, the others by name. */
struct site {
    char name[SITE_NAME_MAX];
    uint32_t lease_ms;
    struct site_address *addresses;
    unsigned addresses_n;
    struct site_service *services;
    unsigned services_n;
    struct site_balance *balance;
    unsigned balance_n;
};

struct site_error {
    unsigned line; /* from 1; 0: the file as a whole */
    char text[200];
};
struct site_errors {
    struct site_error v[SITE_ERRORS_MAX]; /* in order of line */
    unsigned n, total;
};

/* NULL: refused, and errors->n > 0. The caller frees with site_free(). */
struct site *site_parse(const uint8_t *data, size_t len, struct site_errors *errors);
void site_free(struct site *s);
/* "site.yml:7: unknown key \"prot\"; did you mean \"port\"?\n" for each. */
void site_errors_print(const struct site_errors *errors, const char *file, struct buf *out);

/* What applying `new` over `old` (NULL: nothing yet) would change, a line each:
 * "+ service web on port 3000", "- address 10.0.0.9", "~ service web: instances 1 -> 2".
 * Returns how many lines; 0: nothing changes. */
unsigned site_plan(const struct site *old, const struct site *new, struct buf *out);

/* Look-ups; NULL: there is none. */
const struct site_service *site_service_find(const struct site *s, const char *name);
const struct site_address *site_address_find(const struct site *s, const char *address);
bool site_service_is_on(const struct site_service *service, const char *machine);

const char *site_check_type_name(enum site_check_type t); /* "tcp", "http", "exec" */

/* a-z A-Z 0-9 . _ -, beginning with a letter or digit, shorter than SITE_NAME_MAX. */
bool site_is_name(const char *name, size_t len);
/* "2s", "500ms", "1m", "1h"; a bare number has no unit and is refused. */
bool site_duration(const char *text, size_t len, uint32_t *ms);
/* Dotted IPv4, optionally /prefix (32 if absent). */
bool site_ipv4(const char *text, size_t len, uint32_t *number, uint8_t *prefix);

#endif
