/* SPDX-License-Identifier: Apache-2.0 */
/* What the replicated tree costs: operations a second on one core, and memory.
 *
 *   bench_tree [ZNODES]      default 1000000, with 100 bytes each, 1000 in a directory
 *
 * Memory is what the process has resident after all creations, less what it had before. The
 * longest insert is in CPU time: how long the server stands still when a table has grown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "tree/tree.h"
#include "wire/wire.h"

#define DATA_LEN 100
#define IN_DIRECTORY 1000

static struct tree *tree;
static struct buf acl_bytes, body, reply;
static int64_t zxid, session;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double resident_mb(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    CHECK(f != NULL && fscanf(f, "%lu %lu", &size, &resident) == 2);
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double report(const char *what, unsigned n, double start)
{
    double s = now() - start;

    printf("%-44s %9.0f/s  %6.2f us\n", what, n / s, 1e6 * s / n);
    return s;
}

static void sink(void *ctx, uint64_t watcher, enum watch_event event, const char *path,
                 size_t len, const struct wire_list *acl)
{
    (void)watcher, (void)event, (void)path, (void)len, (void)acl;
    ++*(uint64_t *)ctx;
}

static void apply(int32_t op, struct watches *w)
{
    struct tree_txn txn = {.op = op,
                           .session = session,
                           .time_ms = 1700000000000,
                           .origin = {1, 1},
                           .body = body.data,
                           .len = body.len};
    struct tree_result r = {.reply = &reply};

    buf_clear(&reply);
    tree_apply(tree, ++zxid, &txn, w, &r);
    CHECK(r.err == 0);
    if (op == TREE_OP_CREATE_SESSION)
        session = r.session;
}

static const char *path_of(unsigned i)
{
    static char path[64];

    if (i % IN_DIRECTORY == 0)
        snprintf(path, sizeof path, "/d%06u", i / IN_DIRECTORY);
    else
        snprintf(path, sizeof path, "/d%06u/node-%03u", i / IN_DIRECTORY, i % IN_DIRECTORY);
    return path;
}

static struct wire_bytes text(const char *s) { return wire_bytes(s, strlen(s)); }

static void put_create(const char *path, int32_t flags)
{
    static const uint8_t data[DATA_LEN] = "data";
    struct wire_create_request r = {
        text(path), wire_bytes(data, DATA_LEN), {acl_bytes.data, acl_bytes.len, 1}, flags};

    buf_clear(&body);
    wire_create_request_encode(&r, &body);
}

static void put_set(const char *path)
{
    static const uint8_t data[DATA_LEN] = "other data";
    struct wire_set_data_request r = {text(path), wire_bytes(data, DATA_LEN), -1};

    buf_clear(&body);
    wire_set_data_request_encode(&r, &body);
}

static void reads(unsigned n, unsigned znodes)
{
    const struct tree_caller caller = {.watcher = 1, .session = session};
    double start = now();

    for (unsigned i = 0; i < n; i++) {
        struct wire_path_watch_request r = {text(path_of(i * 2654435761u % znodes)), false};
        buf_clear(&body);
        wire_path_watch_request_encode(&r, &body);
        buf_clear(&reply);
        CHECK(tree_read(tree, NULL, &caller, WIRE_OP_GET_DATA, body.data, body.len, &reply) ==
              0);
    }
    report("getData, random", n, start);
}

static void sets(const char *what, unsigned n, unsigned znodes, struct watches *w)
{
    double start = now();

    for (unsigned i = 0; i < n; i++) {
        put_set(path_of(i * 2654435761u % znodes));
        apply(WIRE_OP_SET_DATA, w);
    }
    report(what, n, start);
}

static void watching(unsigned n, unsigned znodes)
{
    uint64_t events = 0;
    struct watches *w = watches_new(2, sink, &events);
    double before = resident_mb(), start = now();

    for (unsigned i = 0; i < n; i++) {
        const char *path = path_of(i % znodes);
        watches_add(w, i % 10, WATCH_DATA, path, strlen(path));
    }
    report("watch set, each on its own path", n, start);
    printf("%-44s %6.1f bytes\n", "memory of such a watch", (resident_mb() - before) * 1e6 / n);
    sets("setData beside 10 watchers", 200000, znodes, w);
    for (uint64_t x = 100; x < 1100; x++)
        watches_add(w, x, WATCH_PERSISTENT, "/d000000", 8);
    start = now();
    put_set("/d000000");
    for (unsigned i = 0; i < 2000; i++)
        apply(WIRE_OP_SET_DATA, w);
    report("setData told to 1000 watchers", 2000, start);
    watches_free(w);
}

/* The longest of n inserts each, into tables of their own. */
static void longest(unsigned n)
{
    struct tree *kept = tree;
    uint64_t events = 0;
    struct watches *w = watches_new(2, sink, &events);
    double most[3] = {0};
    int64_t session_kept = session;

    tree = tree_new(3);
    buf_clear(&body);
    apply(TREE_OP_CREATE_SESSION, NULL);
    for (unsigned i = 0; i < n; i++) {
        const char *path = path_of(i);
        put_create(path, WIRE_PERSISTENT);
        double start = cpu_ms(), end;
        apply(WIRE_OP_CREATE, NULL);
        end = cpu_ms();
        most[0] = end - start > most[0] ? end - start : most[0];
        start = end;
        watches_add(w, i, WATCH_DATA, path, strlen(path));
        end = cpu_ms();
        most[1] = end - start > most[1] ? end - start : most[1];
        buf_clear(&body);
        int64_t was = session;
        start = cpu_ms();
        apply(TREE_OP_CREATE_SESSION, NULL);
        end = cpu_ms();
        most[2] = end - start > most[2] ? end - start : most[2];
        session = was;
    }
    printf("%-44s %6.2f, %.2f, %.2f ms\n", "longest of a million: create, watch, session",
           most[0], most[1], most[2]);
    watches_free(w);
    tree_free(tree);
    tree = kept;
    session = session_kept;
}

static void snapshots(void)
{
    struct buf b = {0};
    double start = now();

    tree_save(tree, &b);
    printf("%-44s %6.0f ms, %.0f MB\n", "snapshot saved", 1e3 * (now() - start),
           (double)b.len / 1e6);
    start = now();
    struct tree *back = tree_load(9, b.data, b.len);
    CHECK(back != NULL && tree_digest(back) == tree_digest(tree));
    printf("%-44s %6.0f ms\n", "snapshot loaded", 1e3 * (now() - start));
    tree_free(back);
    buf_free(&b);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;
    struct wire_acl open = {WIRE_PERM_ALL, wire_bytes("world", 5), wire_bytes("anyone", 6)};

    CHECK(n >= IN_DIRECTORY);
    wire_acl_encode(&open, &acl_bytes);
    tree = tree_new(1);
    apply(TREE_OP_CREATE_SESSION, NULL);
    double before = resident_mb(), start = now();
    for (unsigned i = 0; i < n; i++) {
        put_create(path_of(i), WIRE_PERSISTENT);
        apply(WIRE_OP_CREATE, NULL);
    }
    report("create, 100 bytes", n, start);
    double used = resident_mb() - before;
    printf("%-44s %6.1f bytes, %.0f MB in all\n", "memory of a znode of 100 bytes",
           used * 1e6 / n, used);
    reads(1000000, n);
    sets("setData, random, nobody watching", 500000, n, NULL);
    watching(n < 200000 ? n : 200000, n);
    longest(n);
    snapshots();
    start = now();
    for (unsigned i = 0; i < 200000; i++) {
        put_create("/d000000/e-", WIRE_EPHEMERAL_SEQUENTIAL);
        apply(WIRE_OP_CREATE, NULL);
    }
    report("create, ephemeral and sequential", 200000, start);
    start = now();
    buf_clear(&body);
    apply(TREE_OP_CLOSE_SESSION, NULL);
    report("closing their session, each", 200000, start);
    tree_free(tree);
    buf_free(&acl_bytes), buf_free(&body), buf_free(&reply);
    return 0;
}
