/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands read that others wrote. The first byte picks:
 *   0  what answers at the HTTP port: the answer, and in it a status, shown
 *   1  status.json, as it lies on the disk, shown
 *   2  names of znodes that stand in line (locks, elections), each ended by a NUL
 * Checked of what is shown: nothing that a terminal would obey. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "cli/http_get.h"
#include "cli/print.h"
#include "cli/status_show.h"
#include "cli/turn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { NAMES_MAX = 64 };

static void show(const uint8_t *data, size_t len, size_t flags)
{
    char *shown = NULL;
    size_t n = 0;
    json_t *status = json_loadb((const char *)data, len, flags, NULL);
    const char *verdict = json_string_value(json_object_get(status, "verdict"));
    FILE *to = open_memstream(&shown, &n);

    CHECK(to != NULL);
    if (verdict != NULL)
        print_text(to, verdict);
    if (json_is_object(status))
        status_show(to, status);
    CHECK(fclose(to) == 0);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)shown[i];
        CHECK(c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f));
    }
    free(shown);
    json_decref(status);
}

static void http(const uint8_t *data, size_t len)
{
    struct buf in = {0}, body = {0};
    int code = 0;

    buf_add(&in, data, len);
    if (http_answer_parse(&in, &code, &body) == 0) {
        CHECK(code >= 0 && code <= 999 && body.len < len);
        show(body.data != NULL ? body.data : (const uint8_t *)"", body.len,
             JSON_REJECT_DUPLICATES);
    }
    buf_free(&in);
    buf_free(&body);
}

static void names(const uint8_t *data, size_t len)
{
    char *all = mem_dup_strn((const char *)data, len), *v[NAMES_MAX];
    size_t n = 0;

    for (size_t at = 0; at < len && n < NAMES_MAX; at += strlen(all + at) + 1)
        v[n++] = all + at;
    const char *first = turn_first(v, n);
    CHECK(first == NULL || turn_sequence(first) != NULL);
    for (size_t i = 0; i < n && first != NULL; i++) {
        if (turn_sequence(v[i]) == NULL)
            continue;
        const char *before = turn_before(v, n, turn_sequence(v[i]));
        CHECK(before == NULL || strcmp(turn_sequence(before), turn_sequence(v[i])) < 0);
    }
    mem_free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    switch (data[0] % 3) {
    case 0: http(data + 1, len - 1); break;
    case 1: show(data + 1, len - 1, 0); break;
    default: names(data + 1, len - 1);
    }
    return 0;
}
