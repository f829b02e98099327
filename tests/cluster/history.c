/* SPDX-License-Identifier: Apache-2.0 */
/* history: reads what clients have written down (tests/lib/history.h) and says whether it can
 * be so.
 *
 *   history FILE...    all of one history; exit code 0 right, 1 wrong, 2 cannot be read
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "lib/history.h"

static bool read_file(struct history *h, const char *name)
{
    FILE *f = fopen(name, "r");
    struct buf text = {0};
    size_t line = 0, n;

    if (f == NULL) {
        fprintf(stderr, "history: %s cannot be opened\n", name);
        return false;
    }
    while ((n = fread(buf_reserve(&text, 1 << 16), 1, 1 << 16, f)) > 0)
        buf_added(&text, n);
    bool ok = ferror(f) == 0;
    (void)fclose(f);
    if (!ok)
        fprintf(stderr, "history: %s cannot be read\n", name);
    if (ok && history_read(h, (const char *)text.data, text.len, &line) != 0) {
        fprintf(stderr, "history: %s, line %zu is no operation (tests/lib/history.h)\n", name,
                line);
        ok = false;
    }
    buf_free(&text);
    return ok;
}

int main(int argc, char **argv)
{
    struct history *h = history_new();
    struct history_report r = {0};
    int code = argc < 2 ? 2 : 0;

    if (argc < 2)
        fputs("usage: history FILE... (the format: tests/lib/history.h)\n", stderr);
    for (int i = 1; i < argc && code == 0; i++)
        code = read_file(h, argv[i]) ? 0 : 2;
    if (code == 0) {
        code = history_check(h, &r) ? 0 : 1;
        fputs(buf_text(&r.text), stdout);
        printf("%zu operations (%zu of unknown end), %zu sessions, %zu registers (%zu not "
               "decided), %zu lists, %zu parents: %s",
               r.operations, r.unknown, r.sessions, r.registers, r.undecided, r.lists,
               r.parents, r.wrong == 0 ? "right\n" : "");
        if (r.wrong > 0)
            printf("%zu things are wrong\n", r.wrong);
    }
    history_report_free(&r);
    history_free(h);
    return code;
}
