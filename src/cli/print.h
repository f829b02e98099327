/* SPDX-License-Identifier: Apache-2.0 */
/* print.h -- how results look. */
#ifndef MUSTER_CLI_PRINT_H
#define MUSTER_CLI_PRINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/client.h"

/* The data of a znode as JSON: a string where it is UTF-8 text, else {"hex": "..."}. */
json_t *print_data(const uint8_t *data, size_t len, bool has_data);
json_t *print_stat(const struct client_stat *s);
/* One line on stdout; takes over the reference. */
void print_json(json_t *value);
/* Text that somebody else chose, for a terminal: control characters are escaped. */
void print_text(FILE *to, const char *text);
/* Colour is for terminals, and only when nobody minds (no-color.org). */
bool print_in_colour(void);
/* "1.2 s", "3 min", "2 h", "5 d" */
void print_age(char *out, size_t size, uint64_t ms);

#endif
