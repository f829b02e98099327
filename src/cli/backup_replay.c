/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/backup_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/hash.h"
#include "cli/stopped.h"

#define LOOK_EVERY 4096 /* entries, for Ctrl-C */

void replay_free(struct replay *r)
{
    tree_free(r->tree);
    *r = (struct replay){0};
}

static int bad(struct buf *why, const char *name, uint64_t at, const char *what)
{
    buf_printf(why, "%s at byte %" PRIu64 " %s", name, at, what);
    return ERR_CORRUPT;
}

static int apply_entry(struct replay *r, const struct backup_record *e,
                       const struct backup_point *upto)
{
    struct tree_txn txn;
    struct tree_result result = {0};
    bool is_txn = e->type == RAFT_ENTRY_DATA && tree_txn_decode(&txn, e->data, e->len) == 0;

    if (e->index > upto->index || (is_txn && txn.time_ms > upto->time_ms)) {
        r->is_at_point = true;
        return 0;
    }
    if (e->type == RAFT_ENTRY_CONFIG && raft_members_decode(&r->members, e->data, e->len) != 0)
        return ERR_CORRUPT;
    if (is_txn) { /* else it is passed over, as a server does */
        tree_apply(r->tree, (int64_t)e->index, &txn, NULL, &result);
        r->time_ms = txn.time_ms;
    }
    r->index = e->index;
    r->term = e->term;
    r->entries++;
    return 0;
}

static const char *begin(struct replay *r, const struct backup_reader *in,
                         const struct backup_dir *d, const struct manifest_file *f)
{
    if (memcmp(in->cluster, d->manifest.cluster, BACKUP_CLUSTER_LEN) != 0)
        return "is of another site than the manifest says";
    if (in->base_index != f->from)
        return "begins elsewhere than the manifest says";
    if (!f->is_full && (in->base_index != r->index || in->base_term != r->term))
        return "does not go on where the file before it ends";
    return NULL;
}

static int replay_bytes(struct replay *r, struct backup_reader *in, const char *name,
                        const struct manifest_file *f, const struct backup_point *upto,
                        struct buf *why)
{
    struct backup_record e;
    struct raft_members members;
    int err = 0;

    while (err == 0 && !r->is_at_point) {
        uint64_t at = in->at;
        if (in->entries % LOOK_EVERY == 0 && stopped_is_asked())
            return ERR_TIMED_OUT;
        if (backup_read(in, &e, &members) != 0)
            return bad(why, name, in->at, in->why);
        if (e.type == BACKUP_SNAPSHOT) {
            tree_free(r->tree);
            r->tree = tree_load(1, e.data, e.len);
            r->members = members;
            r->index = e.index;
            r->term = e.term;
            if (r->tree == NULL)
                return bad(why, name, at, "has a snapshot that is no tree");
        } else if (r->tree == NULL) {
            return bad(why, name, at, "has no snapshot to begin with");
        } else if (e.type == BACKUP_END) {
            if (e.digest != f->digest || e.index != f->to || e.term != f->to_term)
                return bad(why, name, at, "ends otherwise than the manifest says");
            if (tree_digest(r->tree) != e.digest)
                return bad(why, name, at,
                           "leads to another tree than the server had: the digests differ");
            return 0;
        } else if (apply_entry(r, &e, upto) != 0) {
            return bad(why, name, at, "has a list of members that is not valid");
        }
    }
    return err;
}

int replay_file(struct replay *r, const struct backup_dir *d, size_t i,
                const struct backup_point *upto, struct buf *why)
{
    const struct manifest_file *f = &d->manifest.v[i];
    struct backup_reader in;
    struct buf bytes = {0};
    char name[MANIFEST_NAME_MAX];

    manifest_name(f, name);
    int err = backup_dir_read(d, f, &bytes, why);
    if (err == 0 && backup_read_begin(&in, bytes.data, bytes.len) != 0)
        err = bad(why, name, in.at, in.why);
    const char *wrong = err == 0 ? begin(r, &in, d, f) : NULL;
    if (wrong != NULL)
        err = bad(why, name, 0, wrong);
    if (err == 0)
        err = replay_bytes(r, &in, name, f, upto, why);
    /* Last, since the records' own checksums say where. */
    if (err == 0 && crc32c(0, bytes.data, bytes.len) != f->crc)
        err = bad(why, name, 0, "has another checksum than the manifest says");
    buf_free(&bytes);
    return err;
}

/* ---- points ---- */

/* Whether all that a full one begins with is not later than this. */
static int begins_by(const struct backup_dir *d, size_t i, int64_t time_ms, bool *out,
                     struct buf *why)
{
    const struct manifest_file *f = &d->manifest.v[i];
    struct backup_reader in;
    struct backup_record e = {0};
    struct tree_txn txn;
    struct buf bytes = {0};
    char name[MANIFEST_NAME_MAX];

    *out = (int64_t)f->time_ms <= time_ms;
    if (*out)
        return 0;
    manifest_name(f, name);
    int err = backup_dir_read(d, f, &bytes, why);
    if (err == 0 && backup_read_begin(&in, bytes.data, bytes.len) != 0)
        err = bad(why, name, in.at, in.why);
    while (err == 0 && e.type != BACKUP_END) {
        if (backup_read(&in, &e, NULL) != 0) {
            err = bad(why, name, in.at, in.why);
        } else if (e.type == RAFT_ENTRY_DATA && tree_txn_decode(&txn, e.data, e.len) == 0) {
            *out = txn.time_ms <= time_ms;
            break;
        }
    }
    buf_free(&bytes);
    return err;
}

int replay_find(const struct backup_dir *d, const struct backup_point *p, size_t *full,
                struct buf *why)
{
    const struct manifest *m = &d->manifest;

    if (m->n == 0) {
        buf_printf(why, "%s: the manifest names no file", d->path);
        return ERR_NOT_FOUND;
    }
    uint64_t last = m->v[m->n - 1].to;
    if (p->index != UINT64_MAX && p->index > last) {
        buf_printf(why, "the backup ends at zxid 0x%" PRIx64 ", before 0x%" PRIx64, last,
                   p->index);
        return ERR_NOT_FOUND;
    }
    for (size_t i = m->n; i > 0; i--) {
        if (!m->v[i - 1].is_full)
            continue;
        bool is_by = m->v[i - 1].from <= p->index;
        int err = 0;
        if (is_by && p->time_ms != INT64_MAX)
            err = begins_by(d, i - 1, p->time_ms, &is_by, why);
        if (err != 0)
            return err;
        if (is_by) {
            *full = i - 1;
            return 0;
        }
    }
    if (p->time_ms != INT64_MAX)
        buf_printf(why, "the backup begins later");
    else
        buf_printf(why, "the backup begins at zxid 0x%" PRIx64 ", behind 0x%" PRIx64,
                   m->v[0].from, p->index);
    return ERR_NOT_FOUND;
}

bool replay_parse_point(const char *text, struct backup_point *out)
{
    struct tm t = {.tm_isdst = -1};
    char zone = 0;
    int end = 0;

    *out = (struct backup_point){.index = UINT64_MAX, .time_ms = INT64_MAX};
    if (strchr(text, ':') == NULL) {
        char *stop;
        errno = 0;
        out->index = strtoull(text, &stop, 0);
        return errno == 0 && stop != text && *stop == 0 && *text != '-' &&
               out->index < RAFT_NUMBER_MAX;
    }
    if (sscanf(text, "%4d-%2d-%2d%*1[T ]%2d:%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday,
               &t.tm_hour, &t.tm_min, &end) != 5)
        return false;
    text += end;
    end = 0;
    if (sscanf(text, ":%2d%n", &t.tm_sec, &end) == 1)
        text += end;
    if (*text == 'Z')
        zone = *text++;
    if (*text != 0 || t.tm_mon < 1 || t.tm_mon > 12 || t.tm_mday < 1 || t.tm_mday > 31 ||
        t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 60)
        return false;
    t.tm_year -= 1900;
    t.tm_mon--;
    time_t seconds = zone == 'Z' ? timegm(&t) : mktime(&t);
    out->time_ms = (int64_t)seconds * 1000 + 999; /* all of that second */
    return seconds > 0;
}

void replay_print_time(char *out, size_t size, int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;

    if (ms <= 0 || localtime_r(&seconds, &t) == NULL || strftime(out, size, "%F %T", &t) == 0)
        snprintf(out, size, "-");
}
