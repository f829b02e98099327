/* SPDX-License-Identifier: Apache-2.0 */
/* chaos.c -- one C client of a site that is being broken, and what it saw: a history.
 *
 *   client_chaos PROCESS SEED ADDRESS...
 *
 * Commands on stdin as clients.py of tests/chaos takes them (begin PATH FILE, rest, verify,
 * end), a line of JSON for each. It works on the registers and the sequence that the others
 * work on too. The form of the history: tests/lib/history.h.
 *
 * And watches, over reconnects, which this client sets again by itself: it keeps one on each
 * register, through the asynchronous calls, whose answers and events one thread gives out in
 * the order in which they came. An answer that shows a newer version than the watch was set
 * at, without the event before it, is wrong; so is an event without a change, and a change
 * that is never told. Such a line begins with "# wrong".
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADED
#include <zookeeper/zookeeper.h>

enum {
    REGISTERS = 4,
    SESSION_MS = 6000,
    ROOT_ROOM = 128,
    PATH_ROOM = 256,
    DATA_ROOM = 64,
    HOSTS_ROOM = 512,
    CHILDREN_MAX = 8,
    ITEMS = 100000000,
    PAUSE_US = 60000,
    TOLD_LIMIT_S = 10,
    ANSWER_LIMIT_S = 60
};

/* A watch on one register. All but is_wanted belongs to the client's completion thread. */
struct watch {
    unsigned number;
    int32_t version; /* when it was set */
    bool is_set, is_asked, is_fired;
    int32_t fired_after; /* the version at which the last one was set; -1: none before */
    int64_t session;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    zhandle_t *zh;
    char hosts[HOSTS_ROOM], path[ROOT_ROOM];
    FILE *out;
    uint64_t process, id, value, chance;
    bool is_busy, is_wanted;
    struct watch watches[REGISTERS];
    int own[CHILDREN_MAX];
    unsigned own_n;
    unsigned wrong_n, unknown_n;
} me = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t draw(uint64_t below)
{
    me.chance ^= me.chance << 13;
    me.chance ^= me.chance >> 7;
    me.chance ^= me.chance << 17;
    return me.chance % below;
}

static int64_t session_now(void) { return zoo_client_id(me.zh)->client_id; }

/* ---- the history ---- */

struct op {
    const char *f;
    char key[PATH_ROOM];
    int64_t value, expect, version, mzxid; /* -1: none */
    char list[4096];
    uint64_t start_ns;
    int64_t session;
};

static struct op begin_op(const char *f, const char *key)
{
    struct op op = {.f = f, .value = -1, .expect = -1, .version = -1, .mzxid = -1};

    snprintf(op.key, sizeof op.key, "%s", key);
    op.session = session_now();
    op.start_ns = now_ns();
    return op;
}

static void with_stat(struct op *op, const struct Stat *stat)
{
    op->version = stat->version;
    op->mzxid = stat->mzxid;
}

static const char *name_of(int rc)
{
    switch (rc) {
    case ZNONODE: return "NO_NODE";
    case ZNODEEXISTS: return "NODE_EXISTS";
    case ZBADVERSION: return "BAD_VERSION";
    case ZSYSTEMERROR: return "NO_ROOM"; /* full disks: refused, and so never there */
    default: return NULL;
    }
}

static void end_op(const struct op *op, int rc)
{
    uint64_t end_ns = now_ns();
    const char *err = name_of(rc);
    int64_t session = rc == ZOK || err != NULL ? session_now() : op->session;

    pthread_mutex_lock(&me.lock);
    fprintf(me.out,
            "{\"type\":\"%s\",\"process\":%" PRIu64 ",\"id\":%" PRIu64
            ",\"session\":\"0x%" PRIx64 "\",\"f\":\"%s\",\"key\":\"%s\"",
            rc == ZOK     ? "ok"
            : err != NULL ? "fail"
                          : "info",
            me.process, ++me.id, (uint64_t)session, op->f, op->key);
    if (op->list[0] != 0)
        fprintf(me.out, ",\"value\":%s", op->list);
    else if (op->value >= 0)
        fprintf(me.out, ",\"value\":%" PRId64, op->value);
    if (op->expect >= 0)
        fprintf(me.out, ",\"expect\":%" PRId64, op->expect);
    if (op->version >= 0)
        fprintf(me.out, ",\"version\":%" PRId64, op->version);
    if (op->mzxid >= 0)
        fprintf(me.out, ",\"mzxid\":%" PRId64, op->mzxid);
    if (err != NULL)
        fprintf(me.out, ",\"err\":\"%s\"", err);
    fprintf(me.out, ",\"start\":%" PRIu64 ",\"end\":%" PRIu64 "}\n", op->start_ns, end_ns);
    me.unknown_n += rc != ZOK && err == NULL;
    pthread_mutex_unlock(&me.lock);
}

/* ---- watches: these run in the completion thread, under the lock ---- */

static void is_wrong(const struct watch *w, const char *what, int32_t version)
{
    if (me.out == NULL)
        return;
    fprintf(me.out,
            "# wrong watch of process %" PRIu64 " on r%u, session 0x%" PRIx64
            ", set at version %d: %s (version %d)\n",
            me.process, w->number, (uint64_t)w->session, w->version, what, version);
    me.wrong_n++;
}

/* Under the lock. */
static void register_path(unsigned number, char *into)
{
    snprintf(into, PATH_ROOM, "%s/r%u", me.path, number);
}

static void event(zhandle_t *zh, int type, int state, const char *path, void *ctx)
{
    struct watch *w = ctx;
    char own[PATH_ROOM];

    (void)zh, (void)state;
    if (type == ZOO_SESSION_EVENT)
        return;
    pthread_mutex_lock(&me.lock);
    register_path(w->number, own);
    if (strcmp(path, own) != 0) { /* of the round before, which is being removed */
        pthread_mutex_unlock(&me.lock);
        return;
    }
    if (w->is_set && w->is_fired)
        is_wrong(w, "told twice", -1);
    w->is_fired = true;
    pthread_cond_broadcast(&me.changed);
    pthread_mutex_unlock(&me.lock);
}

static void watch_answered(int rc, const char *value, int len, const struct Stat *stat,
                           const void *data)
{
    struct watch *w = &me.watches[(uintptr_t)data];

    (void)value, (void)len;
    pthread_mutex_lock(&me.lock);
    w->is_asked = false;
    if (rc == ZOK) {
        if (w->fired_after >= 0 && w->session == session_now() &&
            stat->version <= w->fired_after)
            is_wrong(w, "it fired and nothing had changed", stat->version);
        w->version = stat->version;
        w->session = session_now();
        w->is_set = true;
    }
    pthread_cond_broadcast(&me.changed);
    pthread_mutex_unlock(&me.lock);
}

/* A read without a watch: it may not be newer than the watch has told of. */
static void read_answered(int rc, const char *value, int len, const struct Stat *stat,
                          const void *data)
{
    struct watch *w = &me.watches[(uintptr_t)data];

    (void)value, (void)len;
    pthread_mutex_lock(&me.lock);
    w->is_asked = false;
    if (rc == ZOK && w->is_set && !w->is_fired && w->session == session_now() &&
        stat->version != w->version)
        is_wrong(w, "a newer version is read before it was told", stat->version);
    pthread_cond_broadcast(&me.changed);
    pthread_mutex_unlock(&me.lock);
}

static void watch_step(void)
{
    unsigned number = (unsigned)draw(REGISTERS);
    struct watch *w = &me.watches[number];
    char path[PATH_ROOM];

    pthread_mutex_lock(&me.lock);
    if (w->is_asked) {
        pthread_mutex_unlock(&me.lock);
        return;
    }
    register_path(number, path);
    /* A session's end takes its watches along. */
    bool is_new = !w->is_set || w->is_fired || w->session != session_now();
    if (is_new) {
        w->fired_after =
            w->is_set && w->is_fired && w->session == session_now() ? w->version : -1;
        w->is_set = w->is_fired = false;
    }
    w->is_asked = true;
    pthread_mutex_unlock(&me.lock);
    int rc = is_new ? zoo_awget(me.zh, path, event, w, watch_answered,
                                (const void *)(uintptr_t)number)
                    : zoo_aget(me.zh, path, 0, read_answered, (const void *)(uintptr_t)number);
    if (rc != ZOK) {
        pthread_mutex_lock(&me.lock);
        w->is_asked = false;
        pthread_mutex_unlock(&me.lock);
    }
}

/* ---- requests ---- */

static void sync_done(int rc, const char *value, const void *data)
{
    (void)value;
    pthread_mutex_lock(&me.lock);
    *(int *)(uintptr_t)data = rc;
    pthread_cond_broadcast(&me.changed);
    pthread_mutex_unlock(&me.lock);
}

static int sync_path(const char *path)
{
    static int result; /* one thread asks, and waits for each answer */
    enum { WAITING = 1 };

    result = WAITING;
    int rc = zoo_async(me.zh, path, sync_done, &result);
    if (rc != ZOK)
        return rc;
    pthread_mutex_lock(&me.lock);
    while (result == WAITING) /* the client answers always, with a lost connection at least */
        pthread_cond_wait(&me.changed, &me.lock);
    rc = result;
    pthread_mutex_unlock(&me.lock);
    return rc;
}

static int read_register(const char *f, const char *key, struct op *op)
{
    char data[DATA_ROOM];
    int len = sizeof data - 1;
    struct Stat stat;

    *op = begin_op(f, key);
    int rc = strcmp(f, "sync_read") == 0 ? sync_path(key) : ZOK;
    if (rc == ZOK)
        rc = zoo_get(me.zh, key, 0, data, &len, &stat);
    if (rc == ZOK) {
        data[len > 0 ? len : 0] = 0;
        op->value = strtoll(data, NULL, 10);
        with_stat(op, &stat);
    }
    end_op(op, rc);
    return rc;
}

static void set_register(const char *f, const char *key, int64_t expect)
{
    char data[DATA_ROOM];
    struct Stat stat;
    struct op op = begin_op(f, key);

    op.value = (int64_t)(me.process * ITEMS + ++me.value);
    op.expect = expect;
    snprintf(data, sizeof data, "%" PRId64, op.value);
    int rc = zoo_set2(me.zh, key, data, (int)strlen(data), (int)expect, &stat);
    if (rc == ZOK)
        with_stat(&op, &stat);
    end_op(&op, rc);
}

static void register_step(void)
{
    char key[PATH_ROOM];
    struct op op;

    snprintf(key, sizeof key, "%s/r%u", me.path, (unsigned)draw(REGISTERS));
    unsigned what = (unsigned)draw(10);
    if (read_register(what < 3 ? "read" : "sync_read", key, &op) != ZOK || what < 5)
        return;
    if (what < 9)
        set_register("cas", key, op.version);
    else
        set_register("write", key, -1);
}

static int read_children(const char *key, struct op *op)
{
    struct String_vector names;

    *op = begin_op("sync_children", key);
    int rc = sync_path(key);
    if (rc == ZOK)
        rc = zoo_get_children(me.zh, key, 0, &names);
    if (rc == ZOK) {
        size_t used = 0;
        for (int32_t i = 0; i < names.count; i++) {
            const char *name = names.data[i];
            size_t len = strlen(name);
            if (len < 10 || used + 16 > sizeof op->list)
                continue;
            used += (size_t)snprintf(op->list + used, sizeof op->list - used, "%c%d",
                                     used == 0 ? '[' : ',', atoi(name + len - 10));
        }
        snprintf(op->list + used, sizeof op->list - used, used == 0 ? "[]" : "]");
        deallocate_String_vector(&names);
    }
    end_op(op, rc);
    return rc;
}

static void delete_child(const char *key)
{
    char path[PATH_ROOM + 16];
    struct op op = begin_op("seq_delete", key);

    op.value = me.own[0];
    memmove(me.own, me.own + 1, --me.own_n * sizeof *me.own);
    snprintf(path, sizeof path, "%s/n-%010d", key, (int)op.value);
    end_op(&op, zoo_delete(me.zh, path, -1));
}

static void create_child(const char *key)
{
    char path[PATH_ROOM + 16], made[PATH_ROOM + 32];
    struct Stat stat;
    struct op op = begin_op("seq_create", key);

    snprintf(path, sizeof path, "%s/n-", key);
    int rc = zoo_create2(me.zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, made,
                         sizeof made, &stat);
    if (rc == ZOK) {
        op.value = atoi(made + strlen(made) - 10);
        op.mzxid = stat.czxid;
        me.own[me.own_n++] = (int)op.value;
    }
    end_op(&op, rc);
}

static void sequence_step(void)
{
    char key[PATH_ROOM];
    struct op op;
    unsigned what = (unsigned)draw(10);

    snprintf(key, sizeof key, "%s/q", me.path);
    if (what < 3)
        (void)read_children(key, &op);
    else if (me.own_n == CHILDREN_MAX || (me.own_n > 0 && what < 5))
        delete_child(key);
    else
        create_child(key);
}

/* ---- life ---- */

/* A session that has expired is over for this library, too: a new one is needed. */
static bool reconnect(void)
{
    int state = me.zh != NULL ? zoo_state(me.zh) : ZOO_EXPIRED_SESSION_STATE;

    if (state == ZOO_EXPIRED_SESSION_STATE) {
        if (me.zh != NULL)
            zookeeper_close(me.zh);
        pthread_mutex_lock(&me.lock);
        for (unsigned i = 0; i < REGISTERS; i++)
            me.watches[i].is_set = me.watches[i].is_asked = false;
        pthread_mutex_unlock(&me.lock);
        me.zh = zookeeper_init(me.hosts, NULL, SESSION_MS, NULL, NULL, 0);
        if (me.zh == NULL) {
            perror("client_chaos: zookeeper_init");
            exit(1);
        }
    }
    return state == ZOO_CONNECTED_STATE;
}

static void *work(void *ctx)
{
    (void)ctx;
    for (;;) {
        pthread_mutex_lock(&me.lock);
        me.is_busy = false;
        pthread_cond_broadcast(&me.changed);
        while (!me.is_wanted)
            pthread_cond_wait(&me.changed, &me.lock);
        me.is_busy = true;
        pthread_mutex_unlock(&me.lock);
        if (reconnect()) {
            unsigned what = (unsigned)draw(10);
            if (what < 5)
                register_step();
            else if (what < 8)
                sequence_step();
            else
                watch_step();
        }
        usleep((useconds_t)draw(PAUSE_US));
    }
    return NULL;
}

static void answer(const char *problem)
{
    printf("{\"problem\":\"%s\"}\n", problem);
    fflush(stdout);
}

static void begin(const char *path, const char *file)
{
    pthread_mutex_lock(&me.lock);
    snprintf(me.path, sizeof me.path, "%s", path);
    me.out = fopen(file, "a");
    for (unsigned i = 0; i < REGISTERS; i++)
        me.watches[i] = (struct watch){.number = i};
    me.own_n = 0;
    me.is_wanted = me.out != NULL;
    pthread_cond_broadcast(&me.changed);
    pthread_mutex_unlock(&me.lock);
    answer(me.out != NULL ? "" : "the history cannot be opened");
}

static bool wait_until(bool (*is_so)(void), unsigned limit_s)
{
    for (unsigned i = 0; i < limit_s * 100; i++) {
        pthread_mutex_lock(&me.lock);
        bool is = is_so();
        pthread_mutex_unlock(&me.lock);
        if (is)
            return true;
        usleep(10000);
    }
    return false;
}

static bool is_at_rest(void)
{
    if (me.is_busy)
        return false;
    for (unsigned i = 0; i < REGISTERS; i++)
        if (me.watches[i].is_asked)
            return false;
    return true;
}

static void rest(void)
{
    pthread_mutex_lock(&me.lock);
    me.is_wanted = false;
    pthread_mutex_unlock(&me.lock);
    answer(wait_until(is_at_rest, ANSWER_LIMIT_S) ? "" : "it does not come to rest");
}

/* All is quiet: what has changed must have been told, or is told now. */
static bool is_told(void)
{
    for (unsigned i = 0; i < REGISTERS; i++) {
        struct watch *w = &me.watches[i];
        if (w->is_set && !w->is_fired && w->fired_after != w->version)
            return false;
    }
    return true;
}

static void verify(void)
{
    char key[PATH_ROOM];
    struct op op;

    for (unsigned i = 0; i < ANSWER_LIMIT_S * 100 && !reconnect(); i++)
        usleep(10000);
    /* fired_after now says up to which version a watch needs to have told nothing. */
    for (unsigned i = 0; i < REGISTERS; i++) {
        snprintf(key, sizeof key, "%s/r%u", me.path, i);
        int rc = ZCONNECTIONLOSS;
        for (unsigned n = 0; n < ANSWER_LIMIT_S && rc != ZOK && rc != ZNONODE; n++) {
            (void)reconnect();
            rc = read_register("sync_read", key, &op);
            if (rc != ZOK)
                sleep(1);
        }
        pthread_mutex_lock(&me.lock);
        struct watch *w = &me.watches[i];
        if (rc != ZOK || w->session != session_now())
            w->is_set = false;
        w->fired_after = (int32_t)op.version;
        pthread_mutex_unlock(&me.lock);
    }
    bool is_right = wait_until(is_told, TOLD_LIMIT_S);
    pthread_mutex_lock(&me.lock);
    for (unsigned i = 0; !is_right && i < REGISTERS; i++) {
        struct watch *w = &me.watches[i];
        if (w->is_set && !w->is_fired && w->fired_after != w->version)
            is_wrong(w, "never told", w->fired_after);
    }
    pthread_mutex_unlock(&me.lock);
    snprintf(key, sizeof key, "%s/q", me.path);
    (void)read_children(key, &op);
    answer("");
}

static void end(void)
{
    pthread_mutex_lock(&me.lock);
    fclose(me.out);
    me.out = NULL;
    printf("{\"problem\":\"\",\"errors\":{\"of the C client\":%u}}\n", me.unknown_n);
    me.unknown_n = 0;
    pthread_mutex_unlock(&me.lock);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[2 * PATH_ROOM + 16], path[ROOT_ROOM], file[PATH_ROOM];
    pthread_t thread;

    if (argc < 4) {
        fprintf(stderr, "usage: client_chaos PROCESS SEED ADDRESS...\n");
        return 2;
    }
    me.process = strtoull(argv[1], NULL, 10);
    me.chance = (strtoull(argv[2], NULL, 10) + me.process) * 0x9e3779b97f4a7c15u | 1;
    size_t used = 0;
    for (int i = 3; i < argc && used < sizeof me.hosts; i++)
        used += (size_t)snprintf(me.hosts + used, sizeof me.hosts - used, "%s%s:2181",
                                 i > 3 ? "," : "", argv[i]);
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    (void)reconnect();
    if (pthread_create(&thread, NULL, work, NULL) != 0)
        return 1;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "begin %127s %255s", path, file) == 2)
            begin(path, file);
        else if (strcmp(line, "rest\n") == 0)
            rest();
        else if (strcmp(line, "verify\n") == 0)
            verify();
        else if (strcmp(line, "end\n") == 0)
            end();
    }
    _exit(0);
}
