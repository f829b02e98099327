/* SPDX-License-Identifier: Apache-2.0 */
/* recover: the quorum is lost for good, and this machine's copy is what goes on. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/cmd.h"
#include "cli/confined.h"
#include "cli/print.h"
#include "cli/recover_inspect.h"
#include "cli/replica.h"
#include "cli/run.h"
#include "cli/stopped.h"
#include "host/clock.h"
#include "host/files.h"
#include "server/aside.h"
#include "server/secret.h"
#include "server/server.h"
#include "store/store.h"

#define ASK_MS 2000
#define STATUS_BYTES_MAX (4u << 20)
#define AGE_TEXT 32

/* One of the other machines, as far as it can be asked. */
struct other {
    const struct raft_member *member;
    uint64_t away_ms; /* since it was last heard here; UINT64_MAX: not known */
    bool answers;
    bool is_running;  /* its port is open, though it does not say what it has */
    struct replica r; /* if it answers */
    char why[120];    /* if not */
};

struct recovering {
    struct cmd_env *env;
    const char *dir;
    struct identity self;
    bool is_running; /* muster, here */
    struct replica here;
    /* What the disk has; after load(). */
    struct survivor copy;
    struct raft_members members;
    uint64_t committed; /* up to here, for sure */
    struct other others[RAFT_MEMBERS_MAX];
    unsigned others_n, voters, answering; /* answering: voters, ourselves included */
    struct buf why;
};

/* ---- this machine's copy ---- */

static int load(struct recovering *r)
{
    const struct store_load load = {&r->copy,       survivor_state, survivor_snapshot,
                                    survivor_entry, NULL,           NULL};
    struct store_options options = {0};
    struct store *store;
    struct disk *disk;
    struct buf path = {0};

    secret_random(&options.salt, sizeof options.salt);
    identity_store_path(&r->self, r->dir, &path);
    int err = disk_posix_new(&disk, buf_text(&path));
    if (err != 0) {
        buf_printf(&r->why, "%s: %s", buf_text(&path), err_text(err));
    } else {
        err = store_open(&store, disk, &options, &load, &r->why);
        if (err == 0)
            store_close(store);
        disk_posix_free(disk);
    }
    if (err == 0 && (r->copy.err != 0 || r->copy.tree == NULL)) {
        buf_printf(&r->why, "%s: there is no tree in it", buf_text(&path));
        err = ERR_CORRUPT;
    }
    buf_free(&path);
    return err;
}

/* ---- the others ---- */

/* How long ago muster heard of it, by what muster had written down: it does that every few
 * seconds while it runs. And how far it knew the log to be committed. */
static uint64_t away_by_file(struct recovering *r, const char *name)
{
    struct buf path = {0}, text = {0};
    struct stat st;
    uint64_t away_ms = UINT64_MAX;
    size_t i;
    json_t *m;

    buf_printf(&path, "%s/status.json", r->dir);
    if (stat(buf_text(&path), &st) == 0 &&
        file_read(buf_text(&path), STATUS_BYTES_MAX, &text) == 0) {
        json_t *all = json_loadb((const char *)text.data, text.len, 0, NULL);
        uint64_t now_ms = clock_wall_ms(), then_ms = (uint64_t)st.st_mtime * 1000;
        const json_t *quorum = json_object_get(all, "quorum");
        const json_t *commit = json_object_get(quorum, "commit_index");
        if (json_is_integer(commit) && (uint64_t)json_integer_value(commit) > r->committed &&
            (uint64_t)json_integer_value(commit) <= r->copy.log.last)
            r->committed = (uint64_t)json_integer_value(commit);
        json_array_foreach(json_object_get(quorum, "members"), i, m)
        {
            const char *is = json_string_value(json_object_get(m, "name"));
            const json_t *age = json_object_get(m, "age_ms");
            if (is != NULL && strcmp(is, name) == 0 && json_is_integer(age))
                away_ms = (uint64_t)json_integer_value(age) +
                          (now_ms > then_ms ? now_ms - then_ms : 0);
        }
        json_decref(all);
    }
    buf_free(&path);
    buf_free(&text);
    return away_ms;
}

static void ask_one(struct recovering *r, struct other *o)
{
    char address[RAFT_ADDRESS_MAX + 8];
    struct buf why = {0};

    snprintf(address, sizeof address, "%.*s:%u", (int)strcspn(o->member->address, ":"),
             o->member->address, SERVER_HTTP_PORT);
    fprintf(stderr, "asking %s, %s ...\n", o->member->name, address);
    int err = replica_ask(address, r->env->timeout_ms < ASK_MS ? r->env->timeout_ms : ASK_MS,
                          &o->r, &why);
    o->answers = err == 0 && o->r.id == o->member->id &&
                 memcmp(o->r.cluster, r->self.cluster, CLUSTER_LEN) == 0;
    if (err == 0 && !o->answers)
        snprintf(o->why, sizeof o->why, "a machine of another site answers there");
    else if (err != 0)
        snprintf(o->why, sizeof o->why, "%.100s", buf_text(&why));
    if (!o->answers)
        o->is_running = replica_port_is_open(o->member->address, ASK_MS);
    buf_free(&why);
}

static void ask_others(struct recovering *r)
{
    for (unsigned i = 0; i < r->members.n && !stopped_is_asked(); i++) {
        const struct raft_member *m = &r->members.v[i];
        r->voters += m->voter;
        if (m->id == r->self.id) {
            r->answering += m->voter;
            continue;
        }
        struct other *o = &r->others[r->others_n++];
        *o = (struct other){.member = m, .away_ms = UINT64_MAX};
        if (r->is_running)
            for (unsigned k = 0; k < r->here.members.n; k++)
                if (r->here.members.v[k].id == m->id)
                    o->away_ms = r->here.silence_ms[k];
        if (o->away_ms == UINT64_MAX)
            o->away_ms = away_by_file(r, m->name);
        ask_one(r, o);
        r->answering += m->voter && (o->answers || o->is_running);
    }
}

/* The log with the later last term has what the other one has that is committed; with the same
 * term, the longer one ([R] 5.4.1). */
static bool is_newer(const struct replica *a, uint64_t last, uint64_t last_term)
{
    return a->last_term > last_term || (a->last_term == last_term && a->last > last);
}

/* ---- what is said ---- */

static uint64_t own_last(const struct recovering *r)
{
    return r->is_running ? r->here.last : r->copy.log.last;
}

static uint64_t own_last_term(const struct recovering *r)
{
    return r->is_running            ? r->here.last_term
           : r->copy.log.runs_n > 0 ? r->copy.log.runs[r->copy.log.runs_n - 1].term
                                    : 0;
}

static void print_other(const struct recovering *r, const struct other *o)
{
    char age[AGE_TEXT] = "";

    if (o->away_ms != UINT64_MAX)
        print_age(age, sizeof age, o->away_ms);
    printf("  %-12s %-22s ", o->member->name, o->member->address);
    if (!o->answers && o->is_running)
        printf("muster runs there, but does not say what it has: %s\n", o->why);
    else if (!o->answers)
        printf("missing%s%s: %s\n", age[0] != 0 ? ", last heard here before " : "", age,
               o->why);
    else
        printf("answers: its log ends at zxid 0x%" PRIx64 ", term %" PRIu64 "%s%s\n", o->r.last,
               o->r.last_term, o->r.is_serving ? "; IT SERVES" : "",
               is_newer(&o->r, own_last(r), own_last_term(r)) ? "; NEWER than here" : "");
}

static void print_found(const struct recovering *r)
{
    char age[AGE_TEXT];
    uint64_t now_ms = clock_wall_ms();

    printf("machine     %s, server %" PRIu64 ", in %s\n", r->self.name, r->self.id, r->dir);
    printf("quorum      %u of %u voters are wanted, %u %s\n", r->voters / 2 + 1, r->voters,
           r->answering, r->answering == 1 ? "is there" : "are there");
    puts("others");
    for (unsigned i = 0; i < r->others_n; i++)
        print_other(r, &r->others[i]);
    printf("this copy   its log ends at zxid 0x%" PRIx64 ", term %" PRIu64 "\n", own_last(r),
           own_last_term(r));
    if (r->copy.time_ms > 0) {
        print_age(age, sizeof age,
                  now_ms > (uint64_t)r->copy.time_ms ? now_ms - (uint64_t)r->copy.time_ms : 0);
        printf("            its last change was %s ago\n", age);
    }
    printf("committed   up to zxid 0x%" PRIx64
           " for sure; what follows on this disk may have been\n"
           "            acknowledged, so all of it is kept\n",
           r->committed);
    puts(
        "may be lost what the others have committed without this machine: it was not told, so\n"
        "            it cannot say how much. Their disks have it: when they come back, it is\n"
        "            set aside there, to be looked at");
}

static json_t *other_json(const struct recovering *r, const struct other *o)
{
    bool newer = o->answers && is_newer(&o->r, own_last(r), own_last_term(r));

    return json_pack(
        "{s:s, s:s, s:b, s:b, s:b, s:o, s:I, s:I, s:b, s:b, s:s}", "name", o->member->name,
        "address", o->member->address, "voter", (int)o->member->voter, "answers",
        (int)o->answers, "runs", (int)(o->answers || o->is_running), "last_heard_ms_ago",
        o->away_ms != UINT64_MAX ? json_integer((json_int_t)o->away_ms) : json_null(), "last",
        (json_int_t)o->r.last, "last_term", (json_int_t)o->r.last_term, "serves",
        (int)(o->answers && o->r.is_serving), "newer", (int)newer, "why", o->why);
}

static void print_found_json(const struct recovering *r)
{
    json_t *others = json_array();

    for (unsigned i = 0; i < r->others_n; i++)
        json_array_append_new(others, other_json(r, &r->others[i]));
    print_json(json_pack("{s:s, s:i, s:i, s:b, s:I, s:I, s:I, s:I, s:o}", "machine",
                         r->self.name, "voters", (int)r->voters, "voters_there",
                         (int)r->answering, "running", (int)r->is_running, "last",
                         (json_int_t)own_last(r), "last_term", (json_int_t)own_last_term(r),
                         "committed", (json_int_t)r->committed, "last_change_ms",
                         (json_int_t)r->copy.time_ms, "others", others));
}

/* ---- may it be done? ---- */

static int judge(const struct recovering *r)
{
    static const char nothing[] = "nothing was changed";
    const struct raft_member *own = raft_member_find(&r->members, r->self.id);
    char fact[RAFT_NAME_MAX + 80];

    for (unsigned i = 0; i < r->others_n; i++) {
        const struct other *o = &r->others[i];
        if (!o->answers)
            continue;
        if (o->r.epoch > r->self.epoch.number) {
            snprintf(fact, sizeof fact, "%s is in a newer epoch already", o->member->name);
            return cmd_fail(EXIT_UNSAFE, nothing, fact, "it was recovered before",
                            "start muster here: it sets its data aside and joins by itself");
        }
        if (o->r.is_serving) {
            snprintf(fact, sizeof fact, "%s serves, with a quorum", o->member->name);
            return cmd_fail(EXIT_UNSAFE, nothing, fact,
                            "this machine is only cut off, or stopped",
                            "start muster here: it catches up by itself");
        }
    }
    if (r->answering > r->voters / 2) {
        snprintf(fact, sizeof fact, "%u of %u voters are there: that is a quorum", r->answering,
                 r->voters);
        return cmd_fail(EXIT_UNSAFE, nothing, fact, "they have not found each other yet",
                        "start muster on all of them, and look: muster status");
    }
    if (own == NULL)
        return cmd_fail(EXIT_UNSAFE, nothing, "this machine is no member of its site any more",
                        "it was removed", "recover another one");
    for (unsigned i = 0; i < r->others_n; i++)
        if (r->others[i].answers && is_newer(&r->others[i].r, own_last(r), own_last_term(r)) &&
            cmd_option(r->env, "older") == NULL) {
            snprintf(fact, sizeof fact, "%s has a newer copy", r->others[i].member->name);
            return cmd_fail(
                EXIT_UNSAFE, nothing, fact, NULL,
                "muster recover on that one instead; or here, and lose what only it "
                "has: --older");
        }
    return 0;
}

static int ask_consent(const struct recovering *r)
{
    const char *yes = cmd_option(r->env, "yes");
    char line[RAFT_NAME_MAX + 2] = "";

    if (yes == NULL) {
        if (!isatty(STDIN_FILENO))
            return cmd_fail(EXIT_UNSAFE, "nothing was changed",
                            "nobody is there to be asked (stdin is no terminal)", NULL,
                            "muster recover --yes NAME, with this machine's name");
        fprintf(stderr,
                "\nOnly go on if the missing machines are lost for good. A majority of them, "
                "still running out\nof this machine's sight, would go on serving on its own.\n"
                "Type the name of this machine to go on: ");
        if (fgets(line, sizeof line, stdin) == NULL || stopped_is_asked()) {
            fputs("\nNothing was changed.\n", stderr);
            return stopped_is_asked() ? EXIT_INTERRUPTED : EXIT_UNSAFE;
        }
        line[strcspn(line, "\n")] = 0;
        yes = line;
    }
    if (strcmp(yes, r->self.name) == 0)
        return 0;
    return cmd_fail(EXIT_UNSAFE, "nothing was changed", "that is not this machine's name", NULL,
                    "look which machine you are on: hostname");
}

/* ---- it is done ---- */

static void drop_new_store(const struct recovering *r, const struct identity *next)
{
    struct buf path = {0}, names = {0};
    struct disk *disk;

    identity_store_path(next, r->dir, &path);
    if (access(buf_text(&path), F_OK) == 0 && disk_posix_new(&disk, buf_text(&path)) == 0) {
        if (disk->ops->list(disk, &names) == 0)
            for (size_t at = 0; at < names.len; at += strlen((const char *)names.data + at) + 1)
                (void)disk->ops->remove(disk, (const char *)names.data + at);
        disk_posix_free(disk);
        (void)rmdir(buf_text(&path));
    }
    buf_free(&path);
    buf_free(&names);
}

static int begin_epoch(struct recovering *r)
{
    struct identity next = r->self;
    struct tree *t = r->copy.tree;
    uint64_t index, tag;

    secret_random(&tag, sizeof tag);
    int err = survivor_begin(&r->copy, &r->self.epoch, tag, r->self.id, &next.epoch,
                             &next.peers, &index);
    if (err == ERR_TOO_BIG)
        buf_printf(&r->why, "there are no zxids far enough above 0x%" PRIx64, r->copy.log.last);
    if (err != 0)
        return err;
    identity_next_store(&next, r->dir);
    err = aside_note(r->dir, &r->self, &next.epoch, r->copy.log.last, &r->why);
    if (err == 0 && stopped_is_asked())
        err = ERR_TIMED_OUT;
    if (err != 0)
        return err;
    r->copy.tree = NULL;
    err = server_recover_take(r->dir, &next, t, index, r->copy.term + 1, &r->why);
    if (err != 0) {
        drop_new_store(r, &next);
        return err;
    }
    if (r->env->json)
        print_json(json_pack("{s:I, s:I, s:s}", "epoch", (json_int_t)next.epoch.number,
                             "next_zxid", (json_int_t)index + 1, "store", next.store));
    else
        printf("epoch %" PRIu64 " begins on %s, at zxid 0x%" PRIx64
               "; the old store is in %s/%s\n",
               next.epoch.number, next.name, index + 1, r->dir,
               r->self.store[0] != 0 ? r->self.store : STORE_NAME_FIRST);
    fprintf(
        stderr,
        "Now start muster here, as before. All sessions have ended: clients are told so and "
        "connect anew.\nThe other machines, when they come back: start muster on them. They "
        "set their data aside and\njoin by themselves; then muster recover --inspect on each "
        "shows what only it had.\n");
    return 0;
}

static int failed(struct recovering *r, int err)
{
    if (err == ERR_TIMED_OUT) {
        fputs("Interrupted: nothing was changed.\n", stderr);
        return EXIT_INTERRUPTED;
    }
    return cmd_fail(err == ERR_CORRUPT ? EXIT_DAMAGED : EXIT_FAILED, "nothing was changed",
                    r->why.len > 0 ? buf_text(&r->why) : err_text(err),
                    err == ERR_CORRUPT ? "a damaged disk" : NULL,
                    err == ERR_CORRUPT ? "recover another machine; or restore a backup: muster "
                                         "restore"
                                       : "mend that, then the same command again");
}

static int recover(struct recovering *r)
{
    struct buf ignored = {0};
    int code, err;

    r->is_running = replica_ask(replica_address(r->env), ASK_MS, &r->here, &ignored) == 0 &&
                    r->here.id == r->self.id &&
                    memcmp(r->here.cluster, r->self.cluster, CLUSTER_LEN) == 0;
    buf_free(&ignored);
    if (r->is_running)
        r->committed = r->here.committed;
    r->members = r->is_running ? r->here.members : r->self.peers;
    if (!r->is_running) {
        if ((code = run_lock_directory(r->dir)) != 0)
            return code;
        if ((err = load(r)) != 0)
            return failed(r, err);
        r->members = r->copy.members;
        r->committed = r->copy.snapshot;
    }
    ask_others(r);
    if (stopped_is_asked())
        return failed(r, ERR_TIMED_OUT);
    if (r->env->json && cmd_option(r->env, "yes") == NULL) {
        print_found_json(r);
        return judge(r);
    }
    if (!r->env->json)
        print_found(r);
    if ((code = judge(r)) != 0)
        return code;
    if (r->is_running)
        return cmd_fail(EXIT_UNSAFE, "nothing was changed", "muster runs on this machine", NULL,
                        "stop it, then the same command again: systemctl stop muster");
    if ((code = ask_consent(r)) != 0)
        return code;
    err = begin_epoch(r);
    return err == 0 ? 0 : failed(r, err);
}

int cmd_recover(struct cmd_env *env, int argc, char **argv)
{
    const char *data = cmd_option(env, "data");
    struct recovering *r = &(struct recovering){.env = env};
    int code;

    (void)argc, (void)argv;
    r->dir = data != NULL ? data : CMD_DIR_DEFAULT;
    const struct machine_options o = {.dir = r->dir};
    if ((code = confined_to_owner(&o, false)) != 0) /* what it writes, the server must read */
        return code;
    int err = identity_load(&r->self, r->dir, &r->why);
    if (err != 0) {
        code = cmd_fail(err == ERR_NOT_FOUND ? EXIT_NOT_FOUND : EXIT_FAILED,
                        "nothing was changed", buf_text(&r->why), "it is not a machine's data",
                        "name this machine's data directory: --data DIR");
    } else if (cmd_option(env, "inspect") != NULL) {
        code = recover_inspect(env, r->dir, &r->self);
    } else {
        stopped_watch();
        code = recover(r);
    }
    tree_free(r->copy.tree);
    buf_free(&r->why);
    return code;
}
