/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/backup_verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cli/machine.h"
#include "cli/print.h"
#include "cli/restoring.h"
#include "cli/stopped.h"

#define TIME_TEXT 32

static const struct backup_point whole = {UINT64_MAX, INT64_MAX};

static int cannot_open(int err, struct buf *why)
{
    int code = err == ERR_NOT_FOUND ? EXIT_NOT_FOUND
               : err == ERR_CORRUPT ? EXIT_DAMAGED
                                    : EXIT_FAILED;

    cmd_fail(code, "the backup cannot be read", buf_text(why),
             err == ERR_NOT_FOUND ? "it is not a directory that muster backup has made"
             : err == ERR_CORRUPT ? "the file was damaged or changed"
                                  : NULL,
             err == ERR_CORRUPT ? "begin a new backup in a new directory; keep this one: its "
                                  "files can be read one by one"
                                : "muster backup --help");
    buf_free(why);
    return code;
}

static json_t *file_json(const struct manifest_file *f)
{
    char name[MANIFEST_NAME_MAX];

    manifest_name(f, name);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "file", name, "kind",
                     f->is_full ? "full" : "more", "from", (json_int_t)f->from, "to",
                     (json_int_t)f->to, "entries", (json_int_t)f->entries, "bytes",
                     (json_int_t)f->bytes, "time_ms", (json_int_t)f->time_ms);
}

/* ---- list ---- */

static void print_list(const struct manifest *m)
{
    char time[TIME_TEXT];

    printf("site %s, %zu file%s\n", m->site[0] != 0 ? m->site : "(without a site file)", m->n,
           m->n == 1 ? "" : "s");
    if (m->n > 0)
        printf("%-5s %-19s %16s %16s %12s %14s\n", "", "taken", "from zxid", "to zxid",
               "entries", "bytes");
    for (size_t i = 0; i < m->n; i++) {
        const struct manifest_file *f = &m->v[i];
        replay_print_time(time, sizeof time, (int64_t)f->time_ms);
        printf("%-5s %-19s %#16" PRIx64 " %#16" PRIx64 " %12" PRIu64 " %14" PRIu64 "\n",
               f->is_full ? "full" : "more", time, f->from, f->to, f->entries, f->bytes);
    }
}

int backup_list(struct cmd_env *env, const char *dir)
{
    struct backup_dir d;
    struct buf why = {0};
    int err = backup_dir_open(&d, dir, false, &why);

    if (err != 0) {
        backup_dir_close(&d);
        return cannot_open(err, &why);
    }
    if (env->json) {
        json_t *all = json_array();
        for (size_t i = 0; i < d.manifest.n; i++)
            json_array_append_new(all, file_json(&d.manifest.v[i]));
        print_json(json_pack("{s:s, s:o}", "site", d.manifest.site, "files", all));
    } else {
        print_list(&d.manifest);
    }
    backup_dir_close(&d);
    return 0;
}

/* ---- verify ---- */

/* What can be restored without a gap. */
struct range {
    uint64_t from, to;
    int64_t from_ms, to_ms; /* of the first and the last change in it */
};

struct verifying {
    struct cmd_env *env;
    struct backup_dir dir;
    struct replay replay;
    json_t *damage, *ranges;
    struct range now;
    bool has_range;
    unsigned bad;
    uint64_t entries;
};

static void range_ends(struct verifying *v)
{
    char from[TIME_TEXT], to[TIME_TEXT];

    if (!v->has_range)
        return;
    v->has_range = false;
    replay_print_time(from, sizeof from, v->now.from_ms);
    replay_print_time(to, sizeof to, v->now.to_ms);
    json_array_append_new(
        v->ranges, json_pack("{s:I, s:I, s:I, s:I}", "from", (json_int_t)v->now.from, "to",
                             (json_int_t)v->now.to, "from_ms", (json_int_t)v->now.from_ms,
                             "to_ms", (json_int_t)v->now.to_ms));
    if (!v->env->json)
        printf("can be restored: each zxid from 0x%" PRIx64 " to 0x%" PRIx64 " (%s to %s)\n",
               v->now.from, v->now.to, from, to);
}

static void range_goes_on(struct verifying *v, const struct manifest_file *f, int64_t first_ms)
{
    if (v->has_range && f->from > v->now.to)
        range_ends(v);
    if (!v->has_range)
        v->now = (struct range){.from = f->from, .from_ms = first_ms};
    v->has_range = true;
    v->now.to = f->to;
    v->now.to_ms = v->replay.time_ms;
}

static int verify_files(struct verifying *v)
{
    const struct manifest *m = &v->dir.manifest;
    bool is_broken = false; /* up to the next full one */
    struct buf why = {0};

    for (size_t i = 0; i < m->n; i++) {
        const struct manifest_file *f = &m->v[i];
        struct backup_reader in;
        if (f->is_full) {
            replay_free(&v->replay);
            is_broken = false;
        }
        if (!v->env->json)
            fprintf(stderr, "%zu of %zu files ...\n", i + 1, m->n);
        if (is_broken)
            continue;
        buf_clear(&why);
        (void)in;
        int err = replay_file(&v->replay, &v->dir, i, &whole, &why);
        if (err == ERR_TIMED_OUT) {
            buf_free(&why);
            return err;
        }
        if (err != 0) {
            v->bad++;
            is_broken = true;
            json_array_append_new(v->damage, json_string(buf_text(&why)));
            if (!v->env->json)
                printf("DAMAGED  %s\n", buf_text(&why));
            range_ends(v);
            replay_free(&v->replay);
            continue;
        }
        v->entries += f->entries;
        range_goes_on(v, f, (int64_t)f->time_ms);
    }
    range_ends(v);
    buf_free(&why);
    return 0;
}

/* The end of it becomes a machine in a temporary directory, and is read back. */
static int restore_aside(struct verifying *v, struct restored *r, struct buf *why)
{
    const char *base = getenv("TMPDIR");
    struct machine_options o = {.name = "aside", .address = "127.0.0.1"};
    struct identity self = {0};
    struct buf path = {0}, dir = {0};

    buf_printf(&path, "%s/muster-verify.XXXXXX", base != NULL && *base != 0 ? base : "/tmp");
    if (mkdtemp((char *)(uintptr_t)buf_text(&path)) == NULL) {
        buf_printf(why, "%s cannot be made", buf_text(&path));
        buf_free(&path);
        return ERR_IO;
    }
    buf_printf(&dir, "%s", buf_text(&path));
    int err = machine_alone(&o, &self, "backup") == 0 ? 0 : ERR_BAD_ARGUMENTS;
    if (err == 0)
        err = restore_into(buf_text(&dir), &self, &v->replay, 0, r, why);
    if (err == 0)
        err = restore_check(buf_text(&dir), r, why);
    restore_remove(buf_text(&dir));
    buf_free(&path);
    buf_free(&dir);
    return err;
}

static int verdict(struct verifying *v)
{
    struct restored r = {0};
    struct buf why = {0};
    bool is_restored = false;
    int err = 0;

    if (v->bad == 0 && v->replay.tree != NULL && !stopped_is_asked()) {
        err = restore_aside(v, &r, &why);
        is_restored = err == 0;
    }
    if (v->env->json)
        print_json(json_pack("{s:b, s:I, s:I, s:O, s:O, s:b}", "good", v->bad == 0 && err == 0,
                             "files", (json_int_t)v->dir.manifest.n, "entries",
                             (json_int_t)v->entries, "ranges", v->ranges, "damage", v->damage,
                             "restored_aside", (int)is_restored));
    else if (is_restored)
        printf("restored aside: %" PRIu64 " znodes, the same as replayed; %" PRIu64
               " sessions would end\n"
               "good: %zu files, %" PRIu64 " entries, every checksum and digest is right\n",
               r.znodes, r.sessions, v->dir.manifest.n, v->entries);
    if (err != 0)
        err = cmd_fail(EXIT_FAILED, "the backup is whole, but could not be restored aside",
                       buf_text(&why), "no room in the temporary directory",
                       "TMPDIR=DIR muster backup --verify ...");
    buf_free(&why);
    return err;
}

int backup_verify(struct cmd_env *env, const char *dir)
{
    struct verifying v = {.env = env, .damage = json_array(), .ranges = json_array()};
    struct buf why = {0};
    int err = backup_dir_open(&v.dir, dir, false, &why), code;

    stopped_watch();
    if (err != 0) {
        code = cannot_open(err, &why);
    } else if (v.dir.manifest.n == 0) {
        code = cmd_fail(EXIT_NOT_FOUND, dir, "the manifest names no file", NULL, NULL);
    } else if (verify_files(&v) != 0) {
        fputs("Interrupted.\n", stderr);
        code = EXIT_INTERRUPTED;
    } else {
        code = verdict(&v);
        if (code == 0 && v.bad > 0)
            code = cmd_fail(EXIT_DAMAGED, dir, "it is damaged; where, stands above",
                            "a damaged disk, or a copy that was cut off",
                            "muster backup --full DIR, at once; what stands above can still be "
                            "restored with --at");
    }
    replay_free(&v.replay);
    backup_dir_close(&v.dir);
    json_decref(v.damage);
    json_decref(v.ranges);
    buf_free(&why);
    return code;
}
