/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/print.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

json_t *print_data(const uint8_t *data, size_t len, bool has_data)
{
    if (!has_data)
        return json_null();
    json_t *text = json_stringn(len > 0 ? (const char *)data : "", len);
    if (text != NULL)
        return text;
    char *hex = mem_alloc(2 * len + 1);
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", data[i]);
    json_t *value = json_pack("{s:s}", "hex", hex);
    mem_free(hex);
    return value;
}

json_t *print_stat(const struct client_stat *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:I, s:i, s:i, s:I}", "czxid",
                     (json_int_t)s->czxid, "mzxid", (json_int_t)s->mzxid, "ctime",
                     (json_int_t)s->ctime, "mtime", (json_int_t)s->mtime, "version", s->version,
                     "cversion", s->cversion, "aversion", s->aversion, "ephemeralOwner",
                     (json_int_t)s->ephemeral_owner, "dataLength", s->data_len, "numChildren",
                     s->children, "pzxid", (json_int_t)s->pzxid);
}

void print_json(json_t *value)
{
    if (value != NULL)
        json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    putchar('\n');
    json_decref(value);
}

void print_text(FILE *to, const char *text)
{
    for (; *text != 0; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            fprintf(to, "\\x%02x", c);
        else
            fputc(c, to);
    }
}

bool print_in_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return (no == NULL || *no == 0) && isatty(STDOUT_FILENO) && term != NULL &&
           strcmp(term, "dumb") != 0;
}

void print_age(char *out, size_t size, uint64_t ms)
{
    if (ms < 10000)
        snprintf(out, size, "%" PRIu64 ".%" PRIu64 " s", ms / 1000, ms % 1000 / 100);
    else if (ms < 120000)
        snprintf(out, size, "%" PRIu64 " s", ms / 1000);
    else if (ms < 2 * 3600000)
        snprintf(out, size, "%" PRIu64 " min", ms / 60000);
    else if (ms < 48 * UINT64_C(3600000))
        snprintf(out, size, "%" PRIu64 " h", ms / 3600000);
    else
        snprintf(out, size, "%" PRIu64 " d", ms / (24 * UINT64_C(3600000)));
}
