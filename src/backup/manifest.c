/* SPDX-License-Identifier: Apache-2.0 */
#include "backup/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

#define FIRST_LINE "muster backup 1"
#define LINE_MAX_BYTES 300

void manifest_free(struct manifest *m)
{
    mem_free(m->v);
    *m = (struct manifest){0};
}

void manifest_add(struct manifest *m, const struct manifest_file *f)
{
    mem_grow(m->v, m->cap, m->n + 1);
    m->v[m->n++] = *f;
}

size_t manifest_keep(const struct manifest *m, unsigned fulls)
{
    if (fulls == 0)
        return m->n;
    for (size_t i = m->n; i > 0; i--)
        if (m->v[i - 1].is_full && --fulls == 0)
            return i - 1;
    return 0;
}

void manifest_drop(struct manifest *m, size_t n)
{
    memmove(m->v, m->v + n, (m->n - n) * sizeof *m->v);
    m->n -= n;
}

void manifest_name(const struct manifest_file *f, char out[MANIFEST_NAME_MAX])
{
    snprintf(out, MANIFEST_NAME_MAX, "%s-%016" PRIx64 "-%016" PRIx64,
             f->is_full ? "full" : "more", f->from, f->to);
}

void manifest_print(const struct manifest *m, struct buf *out)
{
    size_t begin = out->len;

    buf_add_str(out, FIRST_LINE "\ncluster ");
    for (size_t i = 0; i < sizeof m->cluster; i++)
        buf_printf(out, "%02x", m->cluster[i]);
    buf_printf(out, "\nsite %s\n", m->site[0] != 0 ? m->site : "-");
    for (size_t i = 0; i < m->n; i++) {
        const struct manifest_file *f = &m->v[i];
        buf_printf(out,
                   "file %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                   " %08" PRIx32 " %016" PRIx64 " %" PRIu64 "\n",
                   f->is_full ? "full" : "more", f->from, f->to, f->to_term, f->entries,
                   f->bytes, f->crc, f->digest, f->time_ms);
    }
    uint32_t crc = crc32c(0, out->data + begin, out->len - begin);
    buf_printf(out, "sum %08" PRIx32 "\n", crc);
}

static bool parse_file(struct manifest *m, const char *line)
{
    struct manifest_file f = {0};
    char kind[8];
    int end = 0;

    if (sscanf(line,
               "file %4s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNx32
               " %" SCNx64 " %" SCNu64 "%n",
               kind, &f.from, &f.to, &f.to_term, &f.entries, &f.bytes, &f.crc, &f.digest,
               &f.time_ms, &end) != 9 ||
        line[end] != 0)
        return false;
    f.is_full = strcmp(kind, "full") == 0;
    if ((!f.is_full && strcmp(kind, "more") != 0) || f.to < f.from ||
        f.to - f.from != f.entries ||
        (!f.is_full && (m->n == 0 || m->v[m->n - 1].to != f.from)))
        return false;
    manifest_add(m, &f);
    return true;
}

static bool parse_cluster(struct manifest *m, const char *text)
{
    if (strlen(text) != 2 * sizeof m->cluster)
        return false;
    for (size_t i = 0; i < sizeof m->cluster; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        m->cluster[i] = (uint8_t)byte;
    }
    return true;
}

static bool parse_line(struct manifest *m, unsigned number, const char *line)
{
    if (number == 1)
        return strcmp(line, FIRST_LINE) == 0;
    if (number == 2)
        return strncmp(line, "cluster ", 8) == 0 && parse_cluster(m, line + 8);
    if (number == 3) {
        if (strncmp(line, "site ", 5) != 0 || strlen(line + 5) >= MANIFEST_SITE_MAX)
            return false;
        snprintf(m->site, sizeof m->site, "%s", strcmp(line + 5, "-") == 0 ? "" : line + 5);
        return true;
    }
    return parse_file(m, line);
}

int manifest_parse(struct manifest *m, const uint8_t *data, size_t len, struct buf *why)
{
    char line[LINE_MAX_BYTES], sum[24];
    unsigned number = 0;

    *m = (struct manifest){0};
    for (size_t at = 0; at < len;) {
        const uint8_t *end = memchr(data + at, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - data) - at : len - at;
        number++;
        if (end == NULL || n >= sizeof line || memchr(data + at, 0, n) != NULL)
            break;
        memcpy(line, data + at, n);
        line[n] = 0;
        snprintf(sum, sizeof sum, "sum %08" PRIx32, crc32c(0, data, at));
        if (number > 3 && at + n + 1 == len && strcmp(line, sum) == 0)
            return 0;
        if (!parse_line(m, number, line))
            break;
        at += n + 1;
    }
    buf_printf(why, "line %u is not right, or the last line with the right sum is missing",
               number);
    manifest_free(m);
    return ERR_CORRUPT;
}
