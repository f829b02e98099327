/* SPDX-License-Identifier: Apache-2.0 */
/* import of a data directory of Apache ZooKeeper; a running ensemble: copy.c. export. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/cmd.h"
#include "cli/confined.h"
#include "cli/copy.h"
#include "cli/machine.h"
#include "cli/print.h"
#include "cli/run.h"
#include "cli/zkdir.h"
#include "server/secret.h"
#include "server/server.h"
#include "store/store.h"

#define ALONE_NAME "server" /* as muster server makes it */
#define ALONE_ADDRESS "127.0.0.1"

/* ---- what was found ---- */

static const char *digest_text(enum zkdata_digest digest)
{
    switch (digest) {
    case ZKDATA_DIGEST_RIGHT: return "the sum over the tree is the one that ZooKeeper wrote";
    case ZKDATA_DIGEST_WRONG: return "WRONG";
    case ZKDATA_NO_DIGEST: break;
    }
    return "ZooKeeper wrote no sum over the tree to compare with";
}

/* Each line of a text that holds names which others chose. */
static void print_lines(FILE *to, const char *head, const struct buf *text)
{
    struct buf line = {0};
    size_t at = 0;

    while (at < text->len) {
        const uint8_t *end = memchr(text->data + at, '\n', text->len - at);
        size_t n = end != NULL ? (size_t)(end - text->data) - at : text->len - at;
        buf_clear(&line);
        buf_add(&line, text->data + at, n);
        fputs(head, to);
        print_text(to, buf_text(&line));
        putc('\n', to);
        at += n + 1;
    }
    buf_free(&line);
}

static json_t *lines_json(const struct buf *text)
{
    json_t *all = json_array();

    for (size_t at = 0; at < text->len;) {
        const uint8_t *end = memchr(text->data + at, '\n', text->len - at);
        size_t n = end != NULL ? (size_t)(end - text->data) - at : text->len - at;
        json_array_append_new(all, print_data(text->data + at, n, true));
        at += n + 1;
    }
    return all;
}

static void print_found(const struct cmd_env *env, struct zkdir *z)
{
    const struct zkdata_facts *f = &z->facts;

    if (env->json) {
        print_json(json_pack(
            "{s:s#, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:o, s:o}",
            "snapshot", (const char *)z->snapshot.data, (int)z->snapshot.len, "logs",
            (json_int_t)z->logs, "entries", (json_int_t)z->entries, "replayed",
            (json_int_t)z->applied, "zxid", (json_int_t)f->zxid, "znodes",
            (json_int_t)f->znodes, "data_bytes", (json_int_t)f->data_bytes, "containers",
            (json_int_t)f->containers, "ttl_znodes", (json_int_t)f->ttls, "sessions_left_out",
            (json_int_t)f->sessions, "ephemerals_left_out", (json_int_t)f->ephemerals, "digest",
            f->digest == ZKDATA_NO_DIGEST      ? "none"
            : f->digest == ZKDATA_DIGEST_RIGHT ? "right"
                                               : "wrong",
            "foreign_access_lists", (json_int_t)f->foreign, "foreign_paths",
            lines_json(&z->foreign), "odd", lines_json(&z->odd)));
        return;
    }
    printf("snapshot    %s\n", buf_text(&z->snapshot));
    printf("logs        %" PRIu64 " with %" PRIu64 " entries, of which %" PRIu64
           " came after the snapshot\n",
           z->logs, z->entries, z->applied);
    printf("zxid        0x%" PRIx64 "\n", (uint64_t)f->zxid);
    printf("znodes      %" PRIu64 ", %" PRIu64 " bytes of data; of them %" PRIu64
           " containers, %" PRIu64 " with a TTL\n",
           f->znodes, f->data_bytes, f->containers, f->ttls);
    printf("left out    %" PRIu64 " sessions and their %" PRIu64 " ephemerals\n", f->sessions,
           f->ephemerals);
    printf("check       %s\n", digest_text(f->digest));
    print_lines(stdout, "odd         ", &z->odd);
    print_lines(stdout, "  access list of ", &z->foreign);
}

/* ---- import of a directory ---- */

static int read_failed(int err, const struct buf *why)
{
    struct buf fact = *why;
    const char *likely = NULL, *next = NULL;

    if (err == ERR_CORRUPT) {
        likely = "a damaged disk, or a copy that was cut off";
        next = "take the data directory of another server of the ensemble";
    } else if (err == ERR_UNSAFE) {
        likely = "a log was deleted or not copied, or the newest snapshot is damaged";
        next = "take the data directory of another server; with --gaps what is there is taken";
    } else if (strstr(buf_text(&fact), "compressed") != NULL) {
        likely = "the ensemble runs with snapshot.compression.method";
        next = "gunzip -k a .gz beside itself, or copy the running ensemble: muster import "
               "--from HOST:PORT";
    } else if (err == ERR_NOT_FOUND) {
        likely = "it is not ZooKeeper's dataDir; and the logs may be in a dataLogDir";
        next =
            "look for dataDir and dataLogDir in zoo.cfg; then muster import DIR --log-dir DIR";
    }
    return cmd_fail(err == ERR_NOT_FOUND ? EXIT_NOT_FOUND
                    : err == ERR_UNSAFE  ? EXIT_UNSAFE
                                         : EXIT_FAILED,
                    "nothing was imported", buf_text(&fact), likely, next);
}

static int new_identity(struct cmd_env *env, struct identity *id, struct machine_options *o)
{
    o->name = cmd_option(env, "name");
    o->address = cmd_option(env, "address");
    if (o->name == NULL && o->address == NULL) {
        o->name = ALONE_NAME;
        o->address = ALONE_ADDRESS;
    }
    return machine_alone(o, id, "import DIR");
}

static int target_is_free(const char *dir)
{
    struct identity id;
    struct buf why = {0};
    int err = identity_load(&id, dir, &why);

    buf_free(&why);
    if (err == ERR_NOT_FOUND)
        return 0;
    return cmd_fail(EXIT_UNSAFE, dir, "it holds a machine already; nothing was changed", NULL,
                    "name another directory, or move this one away first");
}

static int make_machine(struct zkdir *z, const char *dir, const struct identity *id)
{
    const struct machine_options o = {.dir = dir};
    int code = confined_to_owner(&o, true); /* what ZooKeeper has was read before */

    if (code != 0)
        return code;
    struct tree *t = tree_new(1);
    struct buf why = {0};
    int err = zkdata_to_tree(z->data, t, &why);

    if (err == ERR_TOO_BIG) {
        code = cmd_fail(EXIT_UNSAFE, "nothing was imported",
                        "the zxid is above what muster's log can go on from",
                        "an epoch above 16,776,960, or a damaged file name",
                        "copy the running ensemble: muster import --from HOST:PORT");
    } else if (err != 0) {
        code = cmd_fail(EXIT_UNSAFE, "nothing was imported",
                        "some znodes cannot be taken as they are",
                        "their paths have characters that no client may use any more",
                        "give these znodes other names in ZooKeeper, then import again");
        print_lines(stderr, "  ", &why);
    }
    if (err != 0) {
        tree_free(t);
        buf_free(&why);
        return code;
    }
    /* What was read is in the tree now. */
    zkdata_free(z->data);
    z->data = NULL;
    err = server_create_take(dir, id, t, &why);
    if (err != 0)
        code = cmd_fail(err == ERR_EXISTS ? EXIT_UNSAFE : EXIT_FAILED, "no machine was made",
                        buf_text(&why), NULL, "the same command again, when that is mended");
    buf_free(&why);
    return code;
}

static int import_dir(struct cmd_env *env, const char *dir)
{
    const char *data = cmd_option(env, "data");
    bool is_dry = cmd_option(env, "dry-run") != NULL;
    struct machine_options o = {.dir = data};
    struct identity id = {0};
    struct zkdir z;
    struct buf why = {0};
    int code;

    if (!is_dry && data == NULL)
        return cmd_fail(EXIT_USAGE, "import", "--data DIR is needed: where the new machine is",
                        NULL, "muster import --help; or look first: --dry-run");
    if (!is_dry &&
        ((code = new_identity(env, &id, &o)) != 0 || (code = target_is_free(data)) != 0))
        return code;
    int err =
        zkdir_read(&z, dir, cmd_option(env, "log-dir"), cmd_option(env, "gaps") != NULL, &why);
    if (err != 0) {
        code = read_failed(err, &why);
    } else {
        print_found(env, &z);
        code = is_dry ? 0 : make_machine(&z, data, &id);
    }
    if (code == 0 && !is_dry)
        fprintf(stderr,
                "All sessions of the old ensemble have ended: its clients will be told that "
                "theirs has\nexpired, connect anew and make their ephemerals again.\n"
                "A machine with this tree, %s, is in %s. Start it:\n  muster %s --data %s\n",
                id.name, data, strcmp(id.address, ALONE_ADDRESS) == 0 ? "server" : "up", data);
    else if (code == 0)
        fputs(
            "Nothing was changed. Without --dry-run, and with --data DIR, a machine with this "
            "tree is made.\n",
            stderr);
    zkdir_free(&z);
    buf_free(&why);
    return code;
}

int cmd_import(struct cmd_env *env, int argc, char **argv)
{
    const char *from = cmd_option(env, "from");

    if ((from != NULL) == (argc > 1))
        return cmd_fail(EXIT_USAGE, "import",
                        "a data directory of ZooKeeper is needed, or --from HOST:PORT", NULL,
                        "muster import --help");
    return from != NULL ? copy_tree(env, from) : import_dir(env, argv[1]);
}

/* ---- export ---- */

struct exporting {
    struct tree *tree;
    uint64_t last; /* index of the last entry */
    int err;
};

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    struct exporting *e = ctx;

    (void)term, (void)members;
    tree_free(e->tree);
    e->tree = tree_load(1, data, len);
    e->last = index;
    if (e->tree == NULL)
        e->err = ERR_CORRUPT;
}

static void load_entry(void *ctx, struct raft_entry *entry)
{
    struct exporting *e = ctx;
    struct tree_txn txn;
    struct tree_result result = {0};

    e->last = entry->index;
    if (e->tree == NULL || entry->type != RAFT_ENTRY_DATA ||
        tree_txn_decode(&txn, entry->payload, entry->len) != 0)
        return; /* as a server passes over it */
    tree_apply(e->tree, (int64_t)entry->index, &txn, NULL, &result);
}

static int load_machine(const char *dir, const struct identity *id, struct exporting *e,
                        struct buf *why)
{
    const struct store_load load = {.ctx = e, .snapshot = load_snapshot, .entry = load_entry};
    struct store_options options = {0};
    struct store *store;
    struct disk *disk;
    struct buf path = {0};

    secret_random(&options.salt, sizeof options.salt);
    identity_store_path(id, dir, &path);
    int err = disk_posix_new(&disk, buf_text(&path));
    if (err != 0) {
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    } else {
        err = store_open(&store, disk, &options, &load, why);
        if (err == 0)
            store_close(store);
        disk_posix_free(disk);
    }
    if (err == 0 && (e->err != 0 || e->tree == NULL)) {
        buf_printf(why, "%s: there is no tree in it", buf_text(&path));
        err = ERR_CORRUPT;
    }
    buf_free(&path);
    return err;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

/* Under another name first: ZooKeeper must never find half of it. */
static int write_snapshot(const char *out, int64_t zxid, const struct buf *bytes,
                          struct buf *path)
{
    struct buf temporary = {0};

    (void)mkdir(out, 0755);
    buf_printf(path, "%s/version-2", out);
    (void)mkdir(buf_text(path), 0755); /* if that fails, the next step says why */
    buf_printf(&temporary, "%s/muster.new", buf_text(path));
    int dir = open(buf_text(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    buf_printf(path, "/snapshot.%" PRIx64, (uint64_t)zxid);
    int fd = open(buf_text(&temporary), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int err = fd < 0 ? errno : write_all(fd, bytes->data, bytes->len);
    if (fd >= 0 && close(fd) != 0 && err == 0)
        err = errno;
    if (err == 0 && rename(buf_text(&temporary), buf_text(path)) != 0)
        err = errno;
    if (err == 0 && (dir < 0 || fsync(dir) != 0))
        err = errno;
    if (err != 0)
        (void)unlink(buf_text(&temporary));
    if (dir >= 0)
        close(dir);
    buf_free(&temporary);
    return err;
}

static bool has_zookeeper(const char *out)
{
    struct buf path = {0};
    struct stat st;

    buf_printf(&path, "%s/version-2", out);
    bool is_there = stat(buf_text(&path), &st) == 0;
    buf_free(&path);
    return is_there;
}

static void print_written(const struct cmd_env *env, const char *path, size_t bytes,
                          const struct zkdata_written *w)
{
    if (env->json) {
        print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "snapshot", path,
                             "bytes", (json_int_t)bytes, "zxid", (json_int_t)w->zxid, "znodes",
                             (json_int_t)w->znodes, "containers", (json_int_t)w->containers,
                             "ttl_znodes", (json_int_t)w->ttls, "sessions_left_out",
                             (json_int_t)w->sessions, "ephemerals_left_out",
                             (json_int_t)w->ephemerals));
        return;
    }
    printf("snapshot    %s, %zu bytes\n", path, bytes);
    printf("zxid        0x%" PRIx64 "\n", (uint64_t)w->zxid);
    printf(
        "znodes      %" PRIu64 ", of them %" PRIu64 " containers, %" PRIu64 " with a TTL%s\n",
        w->znodes, w->containers, w->ttls,
        w->ttls > 0 ? " (ZooKeeper needs -Dzookeeper.extendedTypesEnabled=true for them)" : "");
    printf("left out    %" PRIu64 " sessions and their %" PRIu64 " ephemerals\n", w->sessions,
           w->ephemerals);
}

static int export_machine(struct cmd_env *env, const char *dir, const struct identity *id,
                          const char *out)
{
    struct exporting e = {0};
    struct buf why = {0}, bytes = {0}, path = {0};
    struct zkdata_written written;
    int code = 0;
    int err = load_machine(dir, id, &e, &why);

    if (err != 0) {
        code =
            cmd_fail(err == ERR_BUSY ? EXIT_UNSAFE : EXIT_FAILED, "nothing was exported",
                     buf_text(&why), err == ERR_BUSY ? "muster runs on this directory" : NULL,
                     err == ERR_BUSY ? "stop it, then the same command again" : NULL);
    } else {
        zkdata_write(e.tree, (int64_t)e.last, &bytes, &written);
        err = write_snapshot(out, written.zxid, &bytes, &path);
        if (err != 0)
            code = cmd_fail(EXIT_FAILED, buf_text(&path), strerror(err), NULL, NULL);
        else
            print_written(env, buf_text(&path), bytes.len, &written);
    }
    tree_free(e.tree);
    buf_free(&why);
    buf_free(&bytes);
    buf_free(&path);
    return code;
}

int cmd_export(struct cmd_env *env, int argc, char **argv)
{
    const char *dir = cmd_option(env, "data");
    struct identity id;
    struct buf why = {0};

    (void)argc;
    dir = dir != NULL ? dir : CMD_DIR_DEFAULT;
    int err = identity_load(&id, dir, &why);
    if (err != 0) {
        err = cmd_fail(err == ERR_NOT_FOUND ? EXIT_NOT_FOUND : EXIT_FAILED,
                       "nothing was exported", buf_text(&why), "it is not a machine's data",
                       "name the data directory of a stopped machine: --data DIR");
        buf_free(&why);
        return err;
    }
    buf_free(&why);
    if (has_zookeeper(argv[1]))
        return cmd_fail(EXIT_UNSAFE, argv[1], "it has a version-2 already; nothing was changed",
                        "ZooKeeper would mix it with what it finds there",
                        "name a directory that is new");
    if ((err = run_lock_directory(dir)) != 0)
        return err;
    if (id.peers.n > 1)
        fprintf(stderr,
                "%s is one of %u machines. What it had not yet heard when it was stopped is "
                "missing: compare\nthe zxid below with what the others show (echo srvr | nc "
                "HOST 2181).\n",
                id.name, id.peers.n);
    return export_machine(env, dir, &id, argv[1]);
}
