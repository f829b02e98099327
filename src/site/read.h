/* SPDX-License-Identifier: Apache-2.0 */
/* read.h -- reading YAML nodes by tables of keys, inside src/site only.
 *
 * What is wrong is reported with its line and the reading goes on.
 */
#ifndef MUSTER_SITE_READ_H
#define MUSTER_SITE_READ_H

#include <yaml.h>

#include "site/site.h"

#define READ_SHOWN_MAX 40 /* bytes of the user's text in an error */

struct read {
    yaml_document_t doc;
    struct site_errors *errors;
    struct site *site;
};

/* One key that a mapping may have. */
struct read_key_row {
    const char *name;
    void (*read)(struct read *p, yaml_node_t *value, void *into);
    bool is_required;
};
#define READ_COUNT(keys) (sizeof(keys) / sizeof((keys)[0]))

/* Reads a mapping whose keys are fixed. `where` names it in errors. */
void read_keys(struct read *p, yaml_node_t *node, const struct read_key_row *keys, size_t n,
               const char *where, void *into);

__attribute__((format(printf, 3, 4))) void read_error(struct site_errors *e, size_t line,
                                                      const char *format, ...);
size_t read_line(const yaml_node_t *n);

/* What the user wrote, cut and without control characters. */
struct read_shown {
    char text[READ_SHOWN_MAX + 4];
};
struct read_shown read_show(const char *data, size_t len);
struct read_shown read_shown_node(const yaml_node_t *n);

/* The nearest of the names tried, if it is near enough to have been meant. */
struct read_guess_best {
    const char *name; /* NULL: none */
    unsigned distance;
};
void read_guess(struct read_guess_best *g, const char *said, size_t len, const char *name);

bool read_is_nothing(const yaml_node_t *n); /* "key:" with nothing behind it */
bool read_is(const yaml_node_t *n, const char *text);
bool read_want_scalar(struct read *p, const yaml_node_t *n, const char *what);
bool read_want_mapping(struct read *p, const yaml_node_t *n, const char *what);
size_t read_pairs(const yaml_node_t *n); /* 0 when it is no mapping */
yaml_node_t *read_key(struct read *p, const yaml_node_t *n, size_t i);
yaml_node_t *read_value(struct read *p, const yaml_node_t *n, size_t i);

/* Values; false: reported, and *out is as it was. */
bool read_name(struct read *p, const yaml_node_t *n, const char *what, char out[SITE_NAME_MAX]);
bool read_number(struct read *p, const yaml_node_t *n, const char *what, uint32_t least,
                 uint32_t most, uint32_t *out);
void read_duration(struct read *p, const yaml_node_t *n, const char *what, uint32_t least,
                   uint32_t most, uint32_t *out);
bool read_text(struct read *p, const yaml_node_t *n, const char *what, char out[SITE_PATH_MAX]);

#endif
