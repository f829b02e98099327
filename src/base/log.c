/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

static struct {
    FILE *to;
    char machine[64];
    enum log_level most;
    uint64_t (*now_ms)(void);
} sink;

static const char *const level_names[] = {"crit", "error", "warning", "notice", "debug"};

void log_init(FILE *to, const char *machine, enum log_level most, uint64_t (*now_ms)(void))
{
    sink.to = to;
    sink.most = most;
    sink.now_ms = now_ms;
    snprintf(sink.machine, sizeof sink.machine, "%s", machine);
}

/* Plain words stay bare; anything else is quoted, so that hostile text cannot end the
 * line or start a pair of its own. */
static void put_text(const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_-+.,:/@%#";

    if (*s != 0 && s[strspn(s, plain)] == 0) {
        fputs(s, sink.to);
        return;
    }
    fputc('"', sink.to);
    for (; *s != 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            fprintf(sink.to, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(sink.to, "\\x%02x", c);
        else
            fputc(c, sink.to);
    }
    fputc('"', sink.to);
}

void log_pairs(enum log_level level, const char *ev, const struct log_pair *pairs)
{
    if (sink.to == NULL || level > sink.most)
        return;
    uint64_t now_ms = sink.now_ms();
    fprintf(sink.to, "at=%" PRIu64 ".%03u level=%s machine=", now_ms / 1000,
            (unsigned)(now_ms % 1000), level_names[level]);
    put_text(sink.machine);
    fprintf(sink.to, " ev=%s", ev);
    for (; pairs->key != NULL; pairs++) {
        fprintf(sink.to, " %s=", pairs->key);
        if (pairs->text != NULL)
            put_text(pairs->text);
        else
            fprintf(sink.to, "%" PRIu64, pairs->number);
    }
    fputc('\n', sink.to);
    fflush(sink.to);
}
