/* SPDX-License-Identifier: Apache-2.0 */
/* read.c -- reading YAML nodes by tables of keys; what is wrong is reported with its line. */
#include "site/read.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define KEYS_MAX 64 /* keys of one mapping with fixed keys; more are not even looked at */

/* ---- errors ---- */

void read_error(struct site_errors *e, size_t line, const char *format, ...)
{
    struct site_error one = {.line = (unsigned)line};
    unsigned at = e->n;
    va_list args;

    e->total++;
    if (e->n == SITE_ERRORS_MAX)
        return;
    va_start(args, format);
    (void)vsnprintf(one.text, sizeof one.text, format, args);
    va_end(args);
    while (at > 0 && e->v[at - 1].line > one.line)
        at--;
    memmove(&e->v[at + 1], &e->v[at], (e->n - at) * sizeof e->v[0]);
    e->v[at] = one;
    e->n++;
}

size_t read_line(const yaml_node_t *n) { return n->start_mark.line + 1; }

struct read_shown read_show(const char *data, size_t len)
{
    struct read_shown s = {.text = ""};
    size_t n = len < READ_SHOWN_MAX ? len : READ_SHOWN_MAX;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)data[i];
        s.text[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    if (n < len)
        memcpy(s.text + n, "...", 4);
    return s;
}

struct read_shown read_shown_node(const yaml_node_t *n)
{
    if (n->type == YAML_SCALAR_NODE)
        return read_show((const char *)n->data.scalar.value, n->data.scalar.length);
    if (n->type == YAML_SEQUENCE_NODE)
        return (struct read_shown){.text = "a list"};
    return (struct read_shown){.text = "a mapping"};
}

/* How many single-letter edits (swaps of neighbours included) lead from a to b; above
 * `most` any larger number. Both are short: the caller sees to it. */
static unsigned edit_distance(const char *a, size_t an, const char *b, size_t bn)
{
    unsigned rows[3][SITE_NAME_MAX + 1];
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];

    for (size_t j = 0; j <= bn; j++)
        last[j] = (unsigned)j;
    for (size_t i = 1; i <= an; i++) {
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= bn; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        unsigned *spare = before;
        before = last, last = now, now = spare;
    }
    return last[bn];
}

void read_guess(struct read_guess_best *g, const char *said, size_t len, const char *name)
{
    size_t n = strlen(name);

    if (len >= SITE_NAME_MAX || n >= SITE_NAME_MAX)
        return;
    unsigned d = edit_distance(said, len, name, n), most = n <= 3 ? 1 : n <= 6 ? 2 : 3;
    if (d <= most && (g->name == NULL || d < g->distance))
        *g = (struct read_guess_best){name, d};
}

/* ---- the kinds of YAML nodes ---- */

bool read_is_nothing(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0 &&
           n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

bool read_want_scalar(struct read *p, const yaml_node_t *n, const char *what)
{
    if (n->type == YAML_SCALAR_NODE && !read_is_nothing(n) &&
        memchr(n->data.scalar.value, 0, n->data.scalar.length) == NULL)
        return true;
    read_error(p->errors, read_line(n), "expected %s, found %s", what,
               read_is_nothing(n)            ? "nothing"
               : n->type == YAML_SCALAR_NODE ? "a NUL character"
                                             : read_shown_node(n).text);
    return false;
}

bool read_want_mapping(struct read *p, const yaml_node_t *n, const char *what)
{
    if (n->type == YAML_MAPPING_NODE || read_is_nothing(n))
        return true;
    read_error(p->errors, read_line(n), "expected %s, found \"%s\"", what,
               read_shown_node(n).text);
    return false;
}

size_t read_pairs(const yaml_node_t *n)
{
    if (n->type != YAML_MAPPING_NODE)
        return 0;
    return (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
}

yaml_node_t *read_key(struct read *p, const yaml_node_t *n, size_t i)
{
    return yaml_document_get_node(&p->doc, n->data.mapping.pairs.start[i].key);
}

yaml_node_t *read_value(struct read *p, const yaml_node_t *n, size_t i)
{
    return yaml_document_get_node(&p->doc, n->data.mapping.pairs.start[i].value);
}

bool read_is(const yaml_node_t *n, const char *text)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.length == strlen(text) &&
           memcmp(n->data.scalar.value, text, n->data.scalar.length) == 0;
}

static void unknown_key(struct read *p, const yaml_node_t *key, const struct read_key_row *keys,
                        size_t n, const char *where)
{
    struct read_guess_best g = {0};

    for (size_t k = 0; k < n && key->type == YAML_SCALAR_NODE; k++)
        read_guess(&g, (const char *)key->data.scalar.value, key->data.scalar.length,
                   keys[k].name);
    if (g.name != NULL)
        read_error(p->errors, read_line(key), "unknown key \"%s\"; did you mean \"%s\"?",
                   read_shown_node(key).text, g.name);
    else
        read_error(p->errors, read_line(key), "unknown key \"%s\" in %s",
                   read_shown_node(key).text, where);
}

void read_keys(struct read *p, yaml_node_t *node, const struct read_key_row *keys, size_t n,
               const char *where, void *into)
{
    size_t lines[KEYS_MAX] = {0}, pairs = read_pairs(node);

    CHECK(n <= KEYS_MAX);
    if (!read_want_mapping(p, node, where))
        return;
    if (pairs > KEYS_MAX) {
        read_error(p->errors, read_line(node), "%s has more than %d keys", where, KEYS_MAX);
        return;
    }
    for (size_t i = 0; i < pairs; i++) {
        yaml_node_t *key = read_key(p, node, i), *value = read_value(p, node, i);
        size_t k = 0;
        while (k < n && !read_is(key, keys[k].name))
            k++;
        if (k == n) {
            unknown_key(p, key, keys, n, where);
        } else if (lines[k] > 0) {
            read_error(p->errors, read_line(key), "\"%s\" is here twice; first on line %zu",
                       keys[k].name, lines[k]);
        } else {
            lines[k] = read_line(key);
            keys[k].read(p, value, into);
        }
    }
    for (size_t k = 0; k < n; k++)
        if (keys[k].is_required && lines[k] == 0)
            read_error(p->errors, read_line(node), "%s needs \"%s\"", where, keys[k].name);
}

/* ---- values ---- */

bool read_name(struct read *p, const yaml_node_t *n, const char *what, char out[SITE_NAME_MAX])
{
    if (!read_want_scalar(p, n, what))
        return false;
    const char *text = (const char *)n->data.scalar.value;
    size_t len = n->data.scalar.length;
    if (!site_is_name(text, len)) {
        read_error(
            p->errors, read_line(n),
            "\"%s\" is not a name: letters, digits, \".\", \"_\" and \"-\", beginning with "
            "a letter or digit, at most %d",
            read_show(text, len).text, SITE_NAME_MAX - 1);
        return false;
    }
    memcpy(out, text, len);
    out[len] = 0;
    return true;
}

bool read_number(struct read *p, const yaml_node_t *n, const char *what, uint32_t least,
                 uint32_t most, uint32_t *out)
{
    uint64_t v = 0;

    if (!read_want_scalar(p, n, what))
        return false;
    const char *text = (const char *)n->data.scalar.value;
    size_t len = n->data.scalar.length, i = 0;
    for (; i < len && i < 10 && text[i] >= '0' && text[i] <= '9'; i++)
        v = v * 10 + (uint64_t)(text[i] - '0');
    if (i < len || (text[0] == '0' && len > 1) || v < least || v > most) {
        read_error(p->errors, read_line(n), "%s must be a number from %u to %u, not \"%s\"",
                   what, least, most, read_show(text, len).text);
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

void read_duration(struct read *p, const yaml_node_t *n, const char *what, uint32_t least,
                   uint32_t most, uint32_t *out)
{
    uint32_t ms;

    if (!read_want_scalar(p, n, what))
        return;
    const char *text = (const char *)n->data.scalar.value;
    size_t len = n->data.scalar.length;
    if (!site_duration(text, len, &ms))
        read_error(p->errors, read_line(n),
                   "%s must be a duration like 500ms, 2s, 1m or 1h, not \"%s\"", what,
                   read_show(text, len).text);
    else if (ms < least || ms > most)
        read_error(p->errors, read_line(n), "%s must be from %ums to %ums, not \"%s\"", what,
                   least, most, read_show(text, len).text);
    else
        *out = ms;
}

bool read_text(struct read *p, const yaml_node_t *n, const char *what, char out[SITE_PATH_MAX])
{
    if (!read_want_scalar(p, n, what))
        return false;
    const char *text = (const char *)n->data.scalar.value;
    size_t len = n->data.scalar.length;
    bool is_good = text[0] == '/' && len < SITE_PATH_MAX;
    for (size_t i = 0; i < len; i++)
        is_good = is_good && (unsigned char)text[i] > ' ' && text[i] != 0x7f;
    if (!is_good) {
        read_error(p->errors, read_line(n),
                   "%s must begin with \"/\", without blanks, at most %d bytes, not \"%s\"",
                   what, SITE_PATH_MAX - 1, read_show(text, len).text);
        return false;
    }
    memcpy(out, text, len);
    out[len] = 0;
    return true;
}
