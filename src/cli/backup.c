/* SPDX-License-Identifier: Apache-2.0 */
/* backup: a copy of the tree's history, taken while everything runs.
 *
 * The bytes are the store's own files, read beside the server that writes them (store/scan.h);
 * the server says only how far the log is committed and applied, and the digest of its tree
 * there. So whoever can read the data directory can make a backup, and nobody else: there is no
 * request by which a server would give its secrets away.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "cli/backup_dir.h"
#include "cli/backup_replay.h"
#include "cli/backup_verify.h"
#include "cli/cmd.h"
#include "cli/print.h"
#include "cli/replica.h"
#include "cli/stopped.h"
#include "host/clock.h"
#include "server/member_epoch.h"
#include "store/scan.h"

#define PROGRESS_MS 2000
#define TRIES 5 /* the files that are read may go meanwhile: then newer ones are there */
#define LOOK_EVERY 1024

struct making {
    struct cmd_env *env;
    const char *data;
    struct identity self;
    struct replica replica;
    struct backup_dir dir;
    struct disk *disk;
    struct backup_file file;
    struct backup_writer writer;
    struct manifest_file facts;
    const char *reason; /* of a full one */
    unsigned keep;      /* 0: all */
    uint64_t said_ms;
    struct buf why;
};

/* ---- what is copied ---- */

static int take_entry(void *ctx, const struct raft_entry *e)
{
    struct making *m = ctx;
    uint64_t now_ms = clock_now_ms();

    backup_add_entry(&m->writer, e, &m->file.out);
    if (m->writer.entries % LOOK_EVERY == 0 && stopped_is_asked())
        return ERR_TIMED_OUT;
    if (m->said_ms == 0)
        m->said_ms = now_ms;
    if (now_ms >= m->said_ms + PROGRESS_MS) {
        m->said_ms = now_ms;
        fprintf(stderr, "%" PRIu64 " of %" PRIu64 " entries ...\n", m->writer.entries,
                m->replica.applied - m->facts.from);
    }
    return backup_file_flush(&m->file, false, &m->why);
}

static int copy_from(struct making *m, struct store_place from, bool is_strict)
{
    const struct store_scan scan = {m, take_entry};
    const struct store_place to = {m->replica.applied, m->replica.applied_term};
    int err = store_scan(m->disk, from, is_strict, to, &scan, &m->why);
    if (err == 0)
        backup_end(&m->writer, m->replica.digest, &m->file.out);
    return err;
}

static int new_file(struct making *m, bool is_full, uint64_t from, uint64_t term)
{
    int err;

    backup_file_drop(&m->file);
    buf_clear(&m->why);
    m->facts = (struct manifest_file){.is_full = is_full,
                                      .from = from,
                                      .to = m->replica.applied,
                                      .to_term = m->replica.applied_term,
                                      .entries = m->replica.applied - from,
                                      .digest = m->replica.digest,
                                      .time_ms = m->replica.time_ms};
    if ((err = backup_file_new(&m->dir, &m->file, &m->why)) == 0)
        backup_begin(&m->writer, m->self.cluster, from, term, &m->file.out);
    return err;
}

static int copy_more(struct making *m, const struct manifest_file *last)
{
    int err = new_file(m, false, last->to, last->to_term);

    return err == 0 ? copy_from(m, (struct store_place){last->to, last->to_term}, true) : err;
}

static int copy_full(struct making *m)
{
    struct store_snapshot s;
    int err = ERR_NOT_FOUND;

    /* A snapshot that is newer than the log's beginning is there at any moment; between our two
     * looks the server may have gone on to the next. */
    for (unsigned i = 0; i < TRIES && err == ERR_NOT_FOUND; i++) {
        buf_clear(&m->why);
        err = store_snapshot_newest(m->disk, m->replica.applied, &s, &m->why);
        if (err != 0)
            continue;
        err = new_file(m, true, s.place.index, s.place.term);
        if (err == 0)
            backup_add_snapshot(&m->writer, &s.members, s.data, s.len, &m->file.out);
        const struct store_place place = s.place;
        store_snapshot_free(&s);
        if (err == 0)
            err = copy_from(m, place, false);
    }
    return err;
}

/* ---- what is said ---- */

static int failed(struct making *m, int err)
{
    const char *fact = m->why.len > 0 ? buf_text(&m->why) : err_text(err);

    if (stopped_is_asked() || err == ERR_TIMED_OUT) {
        fputs("Interrupted: what the backup had before is as it was.\n", stderr);
        return EXIT_INTERRUPTED;
    }
    if (err == ERR_BUSY)
        return cmd_fail(EXIT_UNSAFE, "no backup was made", fact, NULL,
                        "wait for it, or name another directory");
    if (err == ERR_CORRUPT)
        return cmd_fail(EXIT_DAMAGED, "no backup was made", fact,
                        "a damaged disk, or files that somebody has changed",
                        "if it is this machine's store: take the backup on another machine; if "
                        "it is the backup: begin a new one in a new directory");
    if (err == ERR_UNSAFE)
        return cmd_fail(EXIT_UNSAFE, "no backup was made", fact, NULL,
                        "name another directory for the backup");
    return cmd_fail(EXIT_FAILED, "no backup was made", fact,
                    err == ERR_DISK_FULL ? "the disk of the backup is full"
                    : err == ERR_PERMISSION
                        ? "a backup is made as root, or as muster's own user"
                        : NULL,
                    "what the backup had before is as it was: the same command, when that is "
                    "mended");
}

static void print_made(const struct making *m, const struct manifest_file *f)
{
    char name[MANIFEST_NAME_MAX];

    manifest_name(f, name);
    if (m->env->json) {
        print_json(json_pack(
            "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s}", "made", f->is_full ? "full" : "more",
            "reason", m->reason != NULL ? m->reason : "", "file", name, "from",
            (json_int_t)f->from, "to", (json_int_t)f->to, "entries", (json_int_t)f->entries,
            "bytes", (json_int_t)f->bytes, "machine", m->self.name));
        return;
    }
    if (f->is_full)
        printf("full   %s: the tree at zxid 0x%" PRIx64 " and %" PRIu64 " entries to 0x%" PRIx64
               ", %" PRIu64 " bytes\n       a full one because %s\n",
               name, f->from, f->entries, f->to, f->bytes, m->reason);
    else
        printf("more   %s: %" PRIu64 " entries, zxid 0x%" PRIx64 " to 0x%" PRIx64 ", %" PRIu64
               " bytes\n",
               name, f->entries, f->from + 1, f->to, f->bytes);
}

static int nothing_new(const struct making *m, const struct manifest_file *last)
{
    if (m->env->json)
        print_json(json_pack("{s:s, s:I, s:s}", "made", "nothing", "to", (json_int_t)last->to,
                             "machine", m->self.name));
    else
        printf("nothing new since zxid 0x%" PRIx64 "\n", last->to);
    return 0;
}

/* ---- one backup ---- */

static int behind(const struct making *m, const struct manifest_file *last)
{
    struct buf fact = {0};

    buf_printf(&fact, "it has applied up to zxid 0x%" PRIx64 ", and the backup has 0x%" PRIx64,
               m->replica.applied, last->to);
    int code = cmd_fail(EXIT_UNSAFE, "this server is behind what the backup has",
                        buf_text(&fact), "it is catching up, or lost its quorum",
                        "muster status; or take the backup on another machine");
    buf_free(&fact);
    return code;
}

static int copy(struct making *m, const struct manifest_file *last)
{
    int err = ERR_NOT_FOUND;

    if (m->reason == NULL) {
        err = copy_more(m, last);
        bool is_jump = m->replica.applied - last->to >= EPOCH_ZXID_JUMP;
        if (err == ERR_NOT_FOUND && !is_jump)
            m->reason = "this machine's log does not reach back to the last one";
        else if (err == ERR_UNSAFE || is_jump)
            m->reason = "the site has begun a new epoch since the last one (muster recover)";
    }
    return m->reason != NULL ? copy_full(m) : err;
}

static int make_it(struct making *m)
{
    const struct manifest *have = &m->dir.manifest;
    const struct manifest_file *last = have->n > 0 ? &have->v[have->n - 1] : NULL;
    size_t drop = 0;

    if (last != NULL && m->replica.applied < last->to)
        return behind(m, last);
    if (cmd_option(m->env, "full") != NULL)
        m->reason = "--full was given";
    else if (last == NULL)
        m->reason = "there was none yet";
    else if (m->replica.applied == last->to && m->replica.applied_term == last->to_term)
        return nothing_new(m, last);
    int err = copy(m, last);
    if (err == 0 && stopped_is_asked())
        err = ERR_TIMED_OUT;
    if (err == 0 && m->replica.site[0] != 0)
        snprintf(m->dir.manifest.site, sizeof m->dir.manifest.site, "%s", m->replica.site);
    if (err == 0 && m->keep > 0)
        drop = manifest_keep(have, m->keep - m->facts.is_full);
    if (err == 0)
        err = backup_file_finish(&m->file, &m->facts, drop, &m->why);
    if (err != 0)
        return failed(m, err);
    print_made(m, &m->dir.manifest.v[m->dir.manifest.n - 1]);
    if (drop > 0)
        fprintf(stderr, "%zu older file%s removed (--keep %u)\n", drop, drop > 1 ? "s" : "",
                m->keep);
    return 0;
}

/* ---- who is asked, and where it goes ---- */

static int find_machine(struct making *m)
{
    const char *address = replica_address(m->env);
    int err = identity_load(&m->self, m->data, &m->why);

    if (err != 0)
        return cmd_fail(err == ERR_NOT_FOUND    ? EXIT_NOT_FOUND
                        : err == ERR_PERMISSION ? EXIT_UNSAFE
                                                : EXIT_FAILED,
                        "no backup was made", buf_text(&m->why),
                        "a backup is made on a machine of the site, by who may read its data",
                        "name the data directory of the muster that runs here: --data DIR");
    err = replica_ask(address, m->env->timeout_ms, &m->replica, &m->why);
    if (err != 0) {
        struct buf fact = {0};
        buf_printf(&fact, "http://%s/replica: %s", address, buf_text(&m->why));
        int code =
            cmd_fail(EXIT_DOWN, "no backup was made", buf_text(&fact),
                     "muster does not run here, or has another HTTP port (with a zoo.cfg: "
                     "admin.serverPort, and admin.enableServer must be set)",
                     "start it, or: muster backup --http HOST:PORT ...; a stopped "
                     "machine's data can be copied as it is");
        buf_free(&fact);
        return code;
    }
    if (memcmp(m->replica.cluster, m->self.cluster, CLUSTER_LEN) != 0 ||
        m->replica.id != m->self.id || m->replica.epoch != m->self.epoch.number) {
        buf_printf(&m->why, "%s is %s, and the server at %s is %s", m->data, m->self.name,
                   address, m->replica.machine);
        return cmd_fail(EXIT_UNSAFE, "no backup was made", buf_text(&m->why),
                        "two musters run on this machine",
                        "name what belongs together: --data DIR --http HOST:PORT");
    }
    return 0;
}

static int open_all(struct making *m, const char *to)
{
    struct buf path = {0};
    int err = backup_dir_open(&m->dir, to, true, &m->why);

    if (err == 0 && m->dir.has_manifest &&
        memcmp(m->dir.manifest.cluster, m->self.cluster, CLUSTER_LEN) != 0) {
        buf_printf(&m->why, "%s has backups of another site%s%s", to,
                   m->dir.manifest.site[0] != 0 ? ", " : "", m->dir.manifest.site);
        err = ERR_UNSAFE;
    }
    memcpy(m->dir.manifest.cluster, m->self.cluster, CLUSTER_LEN);
    identity_store_path(&m->self, m->data, &path);
    if (err == 0 && (err = disk_posix_reading(&m->disk, buf_text(&path))) != 0)
        buf_printf(&m->why, "%s: %s", buf_text(&path), err_text(err));
    buf_free(&path);
    return err;
}

static int make_backup(struct cmd_env *env, const char *to)
{
    const char *data = cmd_option(env, "data"), *keep = cmd_option(env, "keep");
    struct making m = {.env = env, .data = data != NULL ? data : CMD_DIR_DEFAULT};
    long n = 0;

    m.dir.fd = m.file.fd = -1;
    if (keep != NULL && !cmd_number(keep, 1, 100000, &n))
        return cmd_fail(EXIT_USAGE, "backup", "--keep wants a number of full ones, 1 or more",
                        NULL, "muster backup --help");
    m.keep = (unsigned)n;
    stopped_watch();
    int code = find_machine(&m);
    if (code == 0) {
        int err = open_all(&m, to);
        code = err == 0 ? make_it(&m) : failed(&m, err);
    }
    backup_file_drop(&m.file);
    backup_dir_close(&m.dir);
    disk_posix_free(m.disk);
    buf_free(&m.why);
    return code;
}

int cmd_backup(struct cmd_env *env, int argc, char **argv)
{
    bool verify = cmd_option(env, "verify") != NULL, list = cmd_option(env, "list") != NULL;

    (void)argc;
    if (verify || list) {
        if (verify == list || cmd_option(env, "full") != NULL ||
            cmd_option(env, "keep") != NULL)
            return cmd_fail(EXIT_USAGE, "backup",
                            "--verify and --list stand alone: they make no backup", NULL,
                            "muster backup --help");
        return verify ? backup_verify(env, argv[1]) : backup_list(env, argv[1]);
    }
    return make_backup(env, argv[1]);
}
