/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/recover_inspect.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cli/backup_replay.h"
#include "cli/print.h"
#include "server/aside.h"
#include "server/secret.h"
#include "store/store.h"

#define TIME_TEXT 32
#define DATA_SHOWN 60 /* bytes of a znode's data, in a line */

struct inspecting {
    struct cmd_env *env;
    json_t *all;
    uint64_t common, shown, snapshot;
};

/* ---- one operation ---- */

static void print_part(const struct wire_bytes *b, size_t most)
{
    char text[DATA_SHOWN + 1];
    size_t n = b->len > 0 ? (size_t)b->len : 0;

    snprintf(text, sizeof text, "%.*s", (int)(n < most ? n : most),
             n > 0 ? (const char *)b->data : "");
    print_text(stdout, text);
    if (n > most)
        fputs(" ...", stdout);
}

/* Path and data of a request; false: it has none that can be read. */
static bool parts(int32_t op, struct wire_in *in, struct wire_bytes *path,
                  struct wire_bytes *data)
{
    struct wire_create_request c;
    struct wire_create_ttl_request ttl;
    struct wire_set_data_request s;
    struct wire_path_version_request d;
    struct wire_set_acl_request a;
    int err = ERR_MALFORMED;

    *data = (struct wire_bytes){NULL, -1};
    if (op == WIRE_OP_CREATE || op == WIRE_OP_CREATE2 || op == WIRE_OP_CREATE_CONTAINER) {
        err = wire_create_request_decode(&c, in);
        *path = c.path, *data = c.data;
    } else if (op == WIRE_OP_CREATE_TTL) {
        err = wire_create_ttl_request_decode(&ttl, in);
        *path = ttl.path, *data = ttl.data;
    } else if (op == WIRE_OP_SET_DATA) {
        err = wire_set_data_request_decode(&s, in);
        *path = s.path, *data = s.data;
    } else if (op == WIRE_OP_DELETE || op == WIRE_OP_CHECK) {
        err = wire_path_version_request_decode(&d, in);
        *path = d.path;
    } else if (op == WIRE_OP_SET_ACL) {
        err = wire_set_acl_request_decode(&a, in);
        *path = a.path;
    }
    return err == 0;
}

static const char *name_of(int32_t op)
{
    switch (op) {
    case TREE_OP_CREATE_SESSION: return "createSession";
    case TREE_OP_CLOSE_SESSION: return "closeSession";
    case TREE_OP_ATTACH_SESSION: return "attachSession";
    case TREE_OP_LAPSE: return "lapse";
    case TREE_OP_SET_CONFIG: return "setConfig";
    default: return wire_op_name(op);
    }
}

static void show(struct inspecting *s, const struct raft_entry *e, const struct tree_txn *t,
                 int32_t op, bool has_parts, const struct wire_bytes *path,
                 const struct wire_bytes *data)
{
    char time[TIME_TEXT];

    s->shown++;
    replay_print_time(time, sizeof time, t->time_ms);
    if (s->env->json) {
        json_array_append_new(
            s->all,
            json_pack("{s:I, s:I, s:I, s:s, s:o, s:o}", "zxid", (json_int_t)e->index, "time_ms",
                      (json_int_t)t->time_ms, "session", (json_int_t)t->session, "op",
                      name_of(op), "path",
                      has_parts ? print_data(path->data, (size_t)path->len, true) : json_null(),
                      "data",
                      print_data(has_parts ? data->data : NULL,
                                 has_parts && data->len > 0 ? (size_t)data->len : 0,
                                 has_parts && data->len >= 0)));
        return;
    }
    printf("0x%" PRIx64 "  %s  session 0x%" PRIx64 "  %s", e->index, time, (uint64_t)t->session,
           name_of(op));
    if (has_parts) {
        putchar(' ');
        print_part(path, DATA_SHOWN);
        if (data->len >= 0) {
            fputs("  = ", stdout);
            print_part(data, DATA_SHOWN);
        }
    }
    putchar('\n');
}

static void show_multi(struct inspecting *s, const struct raft_entry *e,
                       const struct tree_txn *t)
{
    struct wire_in in = wire_in(t->body, t->len);
    struct wire_multi_header h;
    struct wire_bytes path, data;

    while (wire_multi_header_decode(&h, &in) == 0 && !h.done) {
        bool has_parts = parts(h.op, &in, &path, &data);
        show(s, e, t, h.op, has_parts, &path, &data);
        if (!has_parts)
            return;
    }
}

static void load_entry(void *ctx, struct raft_entry *e)
{
    struct inspecting *s = ctx;
    struct tree_txn t;
    struct wire_bytes path, data;

    if (e->index <= s->common || e->type != RAFT_ENTRY_DATA ||
        tree_txn_decode(&t, e->payload, e->len) != 0)
        return;
    if (t.op == WIRE_OP_MULTI) {
        show_multi(s, e, &t);
        return;
    }
    struct wire_in in = wire_in(t.body, t.len);
    bool has_parts = parts(t.op, &in, &path, &data);
    show(s, e, &t, t.op, has_parts, &path, &data);
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    (void)term, (void)members, (void)data, (void)len;
    ((struct inspecting *)ctx)->snapshot = index;
}

/* ---- one store ---- */

static void inspect_store(struct inspecting *s, const char *path)
{
    const struct store_load load = {.ctx = s, .snapshot = load_snapshot, .entry = load_entry};
    struct store_options options = {0};
    struct epoch newer;
    struct store *store;
    struct disk *disk;
    struct buf why = {0};

    if (aside_read(path, &newer, &s->common) != 0)
        return;
    if (!s->env->json)
        printf("%s: set aside for epoch %" PRIu64
               "; the same as the recovered one up to zxid 0x%" PRIx64 "%s\n",
               path, newer.number, s->common,
               s->common == 0 ? " (not known: all that its log has is shown)" : "");
    s->shown = s->snapshot = 0;
    secret_random(&options.salt, sizeof options.salt);
    int err = disk_posix_new(&disk, path);
    if (err == 0) {
        err = store_open(&store, disk, &options, &load, &why);
        if (err == 0)
            store_close(store);
        disk_posix_free(disk);
    }
    if (err != 0)
        fprintf(stderr, "%s: it cannot be read: %s\n", path,
                why.len > 0 ? buf_text(&why) : err_text(err));
    else if (!s->env->json && s->snapshot > s->common && s->common > 0)
        printf("what lies between that and zxid 0x%" PRIx64
               " is in its snapshot, not in its log any more\n",
               s->snapshot);
    if (err == 0 && !s->env->json)
        printf("%" PRIu64 " change%s that only it has\n", s->shown, s->shown == 1 ? "" : "s");
    buf_free(&why);
}

int recover_inspect(struct cmd_env *env, const char *dir, const struct identity *self)
{
    struct inspecting s = {.env = env, .all = json_array()};
    const char *live = self->store[0] != 0 ? self->store : STORE_NAME_FIRST;
    struct buf path = {0};
    unsigned found = 0;
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        struct epoch newer;
        uint64_t common;
        buf_clear(&path);
        buf_printf(&path, "%s/%s", dir, name);
        if (strncmp(name, STORE_NAME_FIRST, strlen(STORE_NAME_FIRST)) == 0 &&
            strcmp(name, live) != 0 && aside_read(buf_text(&path), &newer, &common) == 0) {
            found++;
            inspect_store(&s, buf_text(&path));
        }
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    buf_free(&path);
    if (env->json)
        print_json(json_pack("{s:i, s:O}", "stores", (int)found, "only_here", s.all));
    json_decref(s.all);
    if (found > 0)
        return 0;
    return cmd_fail(EXIT_NOT_FOUND, dir, "no store was set aside here",
                    "this machine has not come back from before a recovery", NULL);
}
