/* SPDX-License-Identifier: Apache-2.0 */
/* battery.c -- what a ZooKeeper client expects, asked through Debian's C client.
 *
 *   client_battery all HOSTS     every test; a line each: "ok NAME" or "FAILED NAME: why"
 *   client_battery move HOSTS    holds a session; on a line from stdin it must still be the
 *                                same session, on another server
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADED
#include <zookeeper/zookeeper.h>

enum { LIMIT_MS = 20000, PATH_ROOM = 256, SEEN_MAX = 64 };

/* What the watcher of one session has seen. The C client calls it in a thread of its own. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int state;
    bool is_synced, is_answered;
    int answer; /* of zoo_add_auth */
    unsigned events_n;
    struct {
        int type;
        char path[PATH_ROOM];
    } events[SEEN_MAX];
};

static const char *hosts;
static char why[1024];
static char root[64]; /* "/battery-c/t-0000000000" */

#define REQUIRE(cond, ...)                          \
    do {                                            \
        if (!(cond)) {                              \
            snprintf(why, sizeof why, __VA_ARGS__); \
            return false;                           \
        }                                           \
    } while (0)
#define OK(call)                                                                \
    do {                                                                        \
        int rc_ = (call);                                                       \
        REQUIRE(rc_ == ZOK, "line %d: %s is %s", __LINE__, #call, zerror(rc_)); \
    } while (0)
#define IS(call, code)                                                             \
    do {                                                                           \
        int rc_ = (call);                                                          \
        REQUIRE(rc_ == (code), "line %d: %s is %s", __LINE__, #call, zerror(rc_)); \
    } while (0)

static void watcher(zhandle_t *zh, int type, int state, const char *path, void *ctx)
{
    struct seen *s = ctx;

    (void)zh;
    pthread_mutex_lock(&s->lock);
    if (type == ZOO_SESSION_EVENT) {
        s->state = state;
    } else if (s->events_n < SEEN_MAX) {
        s->events[s->events_n].type = type;
        snprintf(s->events[s->events_n].path, PATH_ROOM, "%s", path);
        s->events_n++;
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static struct timespec deadline(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += LIMIT_MS / 1000;
    return t;
}

/* Waits for a session's state, or for so many events (state 0). */
static bool await(struct seen *s, int state, unsigned events)
{
    struct timespec until = deadline();
    bool in_time = true;

    pthread_mutex_lock(&s->lock);
    while (in_time && (state != 0 ? s->state != state : s->events_n < events))
        in_time = pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0;
    pthread_mutex_unlock(&s->lock);
    return in_time;
}

static zhandle_t *open_session(struct seen *s, int timeout_ms)
{
    *s = (struct seen){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    zhandle_t *zh = zookeeper_init(hosts, watcher, timeout_ms, NULL, s, 0);
    if (zh == NULL)
        return NULL;
    if (!await(s, ZOO_CONNECTED_STATE, 0)) {
        zookeeper_close(zh);
        return NULL;
    }
    return zh;
}

static const char *at(const char *name)
{
    static _Thread_local char path[8][PATH_ROOM];
    static _Thread_local unsigned turn;

    turn = (turn + 1) % 8;
    snprintf(path[turn], PATH_ROOM, "%s%.150s", root, name);
    return path[turn];
}

static int make(zhandle_t *zh, const char *path, const char *data, int flags, char *name)
{
    char room[PATH_ROOM];

    return zoo_create(zh, path, data, (int)strlen(data), &ZOO_OPEN_ACL_UNSAFE, flags,
                      name != NULL ? name : room, PATH_ROOM);
}

static void synced(int rc, const char *value, const void *ctx)
{
    (void)rc, (void)value;
    struct seen *s = (struct seen *)(uintptr_t)ctx;
    pthread_mutex_lock(&s->lock);
    s->is_synced = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* What others wrote through other servers is seen after a sync, and only then surely. */
static bool catch_up(zhandle_t *zh, struct seen *s)
{
    struct timespec until = deadline();
    bool in_time = true;

    s->is_synced = false;
    OK(zoo_async(zh, "/", synced, s));
    pthread_mutex_lock(&s->lock);
    while (in_time && !s->is_synced)
        in_time = pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0;
    pthread_mutex_unlock(&s->lock);
    REQUIRE(in_time, "no answer to sync");
    return true;
}

/* ---- the tests: each has a session and an empty place, `root` ---- */

static bool znodes(zhandle_t *zh, struct seen *s)
{
    char data[64];
    int len = sizeof data;
    struct Stat stat;

    (void)s;
    OK(make(zh, at("/x"), "one", 0, NULL));
    IS(make(zh, at("/x"), "one", 0, NULL), ZNODEEXISTS);
    IS(make(zh, at("/no/such"), "", 0, NULL), ZNONODE);
    OK(zoo_get(zh, at("/x"), 0, data, &len, &stat));
    REQUIRE(len == 3 && memcmp(data, "one", 3) == 0 && stat.version == 0, "the data differ");
    IS(zoo_set(zh, at("/x"), "two", 3, 4), ZBADVERSION);
    OK(zoo_set2(zh, at("/x"), "two", 3, 0, &stat));
    REQUIRE(stat.version == 1, "version %d after one set", stat.version);
    OK(zoo_set(zh, at("/x"), NULL, -1, -1));
    len = sizeof data;
    OK(zoo_get(zh, at("/x"), 0, data, &len, &stat));
    REQUIRE(len == -1, "null data came back with length %d", len);
    OK(zoo_delete(zh, at("/x"), -1));
    IS(zoo_exists(zh, at("/x"), 0, &stat), ZNONODE);
    return true;
}

static bool children(zhandle_t *zh, struct seen *s)
{
    struct String_vector names;
    struct Stat stat;

    (void)s;
    OK(make(zh, at("/a"), "", 0, NULL));
    OK(make(zh, at("/b"), "", 0, NULL));
    OK(zoo_get_children2(zh, root, 0, &names, &stat));
    int n = names.count;
    deallocate_String_vector(&names);
    REQUIRE(n == 2 && stat.numChildren == 2, "%d children, %d in the stat", n,
            stat.numChildren);
    IS(zoo_delete(zh, root, -1), ZNOTEMPTY);
    return true;
}

static bool sequence(zhandle_t *zh, struct seen *s)
{
    char name[PATH_ROOM];

    (void)s;
    for (int i = 0; i < 3; i++) {
        char expected[PATH_ROOM];
        OK(make(zh, at("/n-"), "", ZOO_SEQUENCE, name));
        snprintf(expected, sizeof expected, "%s/n-%010d", root, i);
        REQUIRE(strcmp(name, expected) == 0, "%s, expected %s", name, expected);
    }
    return true;
}

static bool ephemeral(zhandle_t *zh, struct seen *s)
{
    struct seen theirs;
    struct Stat stat;

    zhandle_t *other = open_session(&theirs, 6000);
    REQUIRE(other != NULL, "no second session");
    if (!catch_up(other, &theirs))
        return false;
    OK(make(other, at("/e"), "", ZOO_EPHEMERAL, NULL));
    if (!catch_up(zh, s))
        return false;
    OK(zoo_exists(zh, at("/e"), 0, &stat));
    REQUIRE(stat.ephemeralOwner == zoo_client_id(other)->client_id, "another owner");
    IS(make(zh, at("/e/x"), "", 0, NULL), ZNOCHILDRENFOREPHEMERALS);
    OK(zookeeper_close(other));
    if (!catch_up(zh, s))
        return false;
    IS(zoo_exists(zh, at("/e"), 0, &stat), ZNONODE);
    return true;
}

static bool watches(zhandle_t *zh, struct seen *s)
{
    struct String_vector names;
    struct Stat stat;
    char data[8];
    int len = sizeof data;

    IS(zoo_exists(zh, at("/x"), 1, &stat), ZNONODE);
    OK(make(zh, at("/x"), "", 0, NULL));
    REQUIRE(await(s, 0, 1) && s->events[0].type == ZOO_CREATED_EVENT, "not told: created");
    OK(zoo_get(zh, at("/x"), 1, data, &len, &stat));
    OK(zoo_get_children(zh, root, 1, &names));
    deallocate_String_vector(&names);
    OK(zoo_set(zh, at("/x"), "1", 1, -1));
    REQUIRE(await(s, 0, 2) && s->events[1].type == ZOO_CHANGED_EVENT, "not told: changed");
    OK(zoo_set(zh, at("/x"), "2", 1, -1));
    OK(zoo_delete(zh, at("/x"), -1));
    REQUIRE(await(s, 0, 3) && s->events[2].type == ZOO_CHILD_EVENT, "not told: a child");
    REQUIRE(strcmp(s->events[2].path, root) == 0, "for %s", s->events[2].path);
    OK(zoo_exists(zh, root, 0, &stat));
    REQUIRE(s->events_n == 3, "%u events, expected 3", s->events_n);
    return true;
}

static bool transaction(zhandle_t *zh, struct seen *s)
{
    zoo_op_t ops[3];
    zoo_op_result_t results[3];
    char name[PATH_ROOM];
    struct Stat stat;

    (void)s;
    zoo_create_op_init(&ops[0], at("/x"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, name, PATH_ROOM);
    zoo_set_op_init(&ops[1], at("/x"), "1", 1, 0, &stat);
    zoo_check_op_init(&ops[2], at("/x"), 1);
    OK(zoo_multi(zh, 3, ops, results));
    REQUIRE(results[2].err == ZOK && stat.version == 1, "version %d", stat.version);
    zoo_delete_op_init(&ops[0], at("/x"), -1);
    zoo_check_op_init(&ops[1], at("/nothing"), 0);
    zoo_delete_op_init(&ops[2], at("/x"), -1);
    IS(zoo_multi(zh, 3, ops, results), ZNONODE);
    REQUIRE(results[0].err == ZOK && results[1].err == ZNONODE &&
                results[2].err == ZRUNTIMEINCONSISTENCY,
            "results %d %d %d", results[0].err, results[1].err, results[2].err);
    OK(zoo_exists(zh, at("/x"), 0, &stat));
    return true;
}

static bool timeout_is_negotiated(zhandle_t *zh, struct seen *s)
{
    struct seen mine;

    (void)s;
    REQUIRE(zoo_recv_timeout(zh) == 6000, "asked for 6000 ms, got %d", zoo_recv_timeout(zh));
    zhandle_t *other = open_session(&mine, 10000000);
    REQUIRE(other != NULL, "no session with a long timeout");
    int got = zoo_recv_timeout(other);
    zookeeper_close(other);
    REQUIRE(got >= 6000 && got <= 60000, "asked for 10000 s, got %d ms", got);
    return true;
}

/* ---- who may ---- */

static void answered(int rc, const void *ctx)
{
    struct seen *s = (struct seen *)(uintptr_t)ctx;

    pthread_mutex_lock(&s->lock);
    s->answer = rc;
    s->is_answered = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static int add_auth(zhandle_t *zh, struct seen *s, const char *scheme, const char *who)
{
    struct timespec until = deadline();
    bool in_time = true;

    s->is_answered = false;
    int rc = zoo_add_auth(zh, scheme, who, (int)strlen(who), answered, s);
    if (rc != ZOK)
        return rc;
    pthread_mutex_lock(&s->lock);
    while (in_time && !s->is_answered)
        in_time = pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0;
    rc = in_time ? s->answer : ZOPERATIONTIMEOUT;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static bool access_lists(zhandle_t *zh, struct seen *s)
{
    struct seen theirs;
    struct ACL_vector acl;
    struct Stat stat;
    char name[PATH_ROOM], data[8];
    int len = sizeof data;

    IS(zoo_create(zh, at("/x"), "1", 1, &ZOO_CREATOR_ALL_ACL, 0, name, PATH_ROOM), ZINVALIDACL);
    OK(add_auth(zh, s, "digest", "me:secret"));
    OK(zoo_create(zh, at("/x"), "1", 1, &ZOO_CREATOR_ALL_ACL, 0, name, PATH_ROOM));
    OK(zoo_get_acl(zh, at("/x"), &acl, &stat));
    bool is_mine = acl.count == 1 && acl.data[0].perms == ZOO_PERM_ALL &&
                   strcmp(acl.data[0].id.scheme, "digest") == 0 &&
                   strcmp(acl.data[0].id.id, "me:016djjlksVQS5RgX3M7biBGyYwY=") == 0;
    deallocate_ACL_vector(&acl);
    REQUIRE(is_mine, "the list is another one");
    zhandle_t *other = open_session(&theirs, 6000);
    REQUIRE(other != NULL, "no second session");
    if (!catch_up(other, &theirs))
        return false;
    IS(zoo_get(other, at("/x"), 0, data, &len, &stat), ZNOAUTH);
    IS(zoo_set(other, at("/x"), "2", 1, -1), ZNOAUTH);
    IS(zoo_set_acl(other, at("/x"), -1, &ZOO_OPEN_ACL_UNSAFE), ZNOAUTH);
    OK(add_auth(other, &theirs, "digest", "me:secret"));
    OK(zoo_get(other, at("/x"), 0, data, &len, &stat));
    IS(zoo_set_acl(other, at("/x"), 5, &ZOO_OPEN_ACL_UNSAFE), ZBADVERSION);
    OK(zoo_set_acl(other, at("/x"), 0, &ZOO_READ_ACL_UNSAFE));
    OK(zookeeper_close(other));
    if (!catch_up(zh, s))
        return false;
    IS(zoo_set(zh, at("/x"), "2", 1, -1), ZNOAUTH);
    OK(zoo_exists(zh, at("/x"), 0, &stat));
    REQUIRE(stat.aversion == 1 && stat.version == 0, "aversion %d", stat.aversion);
    return true;
}

static bool unknown_scheme(zhandle_t *zh, struct seen *s)
{
    IS(add_auth(zh, s, "nobody", "me"), ZAUTHFAILED);
    REQUIRE(await(s, ZOO_AUTH_FAILED_STATE, 0), "state %d", s->state);
    return true;
}

/* ---- what 3.5 and later brought ---- */

static bool create2_and_modes(zhandle_t *zh, struct seen *s)
{
    const struct ACL_vector *acl = &ZOO_OPEN_ACL_UNSAFE;
    char name[PATH_ROOM];
    struct Stat stat;

    (void)s;
    OK(zoo_create2(zh, at("/x"), "abc", 3, acl, ZOO_PERSISTENT, name, PATH_ROOM, &stat));
    REQUIRE(stat.dataLength == 3 && stat.version == 0 && stat.czxid == stat.pzxid,
            "the stat differs");
    OK(zoo_create2(zh, at("/e-"), "", 0, acl, ZOO_EPHEMERAL_SEQUENTIAL, name, PATH_ROOM,
                   &stat));
    REQUIRE(stat.ephemeralOwner == zoo_client_id(zh)->client_id, "another owner");
    REQUIRE(strcmp(name, at("/e-0000000001")) == 0, "%s", name);
    IS(zoo_create(zh, at("/y"), "", 0, acl, 77, name, PATH_ROOM), ZBADARGUMENTS);
    return true;
}

static bool goes_away(zhandle_t *zh, struct seen *s, const char *path)
{
    struct Stat stat;

    s->events_n = 0;
    int rc = zoo_exists(zh, path, 1, &stat);
    REQUIRE(rc == ZNONODE || (rc == ZOK && await(s, 0, 1)), "%s is still there (%s)", path,
            zerror(rc));
    REQUIRE(rc == ZNONODE || s->events[0].type == ZOO_DELETED_EVENT, "event %d",
            s->events[0].type);
    return true;
}

static bool container(zhandle_t *zh, struct seen *s)
{
    struct Stat stat;

    OK(make(zh, at("/c"), "", ZOO_CONTAINER, NULL));
    OK(make(zh, at("/c/x"), "", ZOO_PERSISTENT, NULL));
    OK(zoo_exists(zh, at("/c"), 0, &stat));
    REQUIRE(stat.ephemeralOwner == 0, "its owner is %llx",
            (unsigned long long)stat.ephemeralOwner);
    OK(zoo_delete(zh, at("/c/x"), -1));
    return goes_away(zh, s, at("/c"));
}

static bool ttl(zhandle_t *zh, struct seen *s)
{
    const struct ACL_vector *acl = &ZOO_OPEN_ACL_UNSAFE;
    char name[PATH_ROOM];
    struct Stat stat;

    OK(zoo_create2_ttl(zh, at("/t"), "", 0, acl, ZOO_PERSISTENT_WITH_TTL, 300, name, PATH_ROOM,
                       &stat));
    REQUIRE(stat.ephemeralOwner == 0, "its owner is not 0");
    OK(zoo_create_ttl(zh, at("/s-"), "", 0, acl, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 3600000,
                      name, PATH_ROOM));
    REQUIRE(strcmp(name, at("/s-0000000001")) == 0, "%s", name);
    IS(zoo_create_ttl(zh, at("/u"), "", 0, acl, ZOO_PERSISTENT_WITH_TTL, -1, name, PATH_ROOM),
       ZBADARGUMENTS);
    if (!goes_away(zh, s, at("/t")))
        return false;
    OK(zoo_exists(zh, at("/s-0000000001"), 0, &stat));
    return true;
}

static bool watches_are_removed(zhandle_t *zh, struct seen *s)
{
    struct String_vector names;
    struct Stat stat;
    char data[8];
    int len = sizeof data;

    OK(make(zh, at("/x"), "", 0, NULL));
    IS(zoo_remove_all_watches(zh, at("/x"), ZWATCHTYPE_ANY, 0), ZNOWATCHER);
    OK(zoo_wget(zh, at("/x"), watcher, s, data, &len, &stat));
    OK(zoo_wget_children(zh, at("/x"), watcher, s, &names));
    deallocate_String_vector(&names);
    OK(zoo_remove_watches(zh, at("/x"), ZWATCHTYPE_DATA, watcher, s, 0));
    IS(zoo_remove_watches(zh, at("/x"), ZWATCHTYPE_DATA, watcher, s, 0), ZNOWATCHER);
    s->events_n = 0;
    OK(zoo_set(zh, at("/x"), "1", 1, -1));
    OK(make(zh, at("/x/y"), "", 0, NULL));
    REQUIRE(await(s, 0, 1), "not told: a child");
    /* That a watch is gone may be an event too; none may say that the data changed. */
    for (unsigned i = 0; i < s->events_n; i++)
        REQUIRE(s->events[i].type != ZOO_CHANGED_EVENT, "the removed watch fired");
    return true;
}

static bool configuration(zhandle_t *zh, struct seen *s)
{
    char config[4096], data[64];
    int len = sizeof config - 1, data_len = sizeof data;
    struct Stat stat;
    bool is_alone = strchr(hosts, ',') == NULL;

    (void)s;
    OK(zoo_getconfig(zh, 0, config, &len, &stat));
    config[len > 0 ? len : 0] = '\0';
    REQUIRE(is_alone ||
                (strstr(config, "server.1=") != NULL && strstr(config, "\nversion=") != NULL),
            "the configuration is %.200s", config);
    int rc = zoo_reconfig(zh, "server.9=10.0.0.9:2888:3888;2181", NULL, NULL, -1, data,
                          &data_len, &stat);
    REQUIRE(rc == (is_alone ? ZUNIMPLEMENTED : ZNOAUTH), "reconfig is %s", zerror(rc));
    return true;
}

/* ---- sessions ---- */

static bool session_is_taken_up_again(zhandle_t *zh, struct seen *s)
{
    struct seen mine;
    clientid_t id = *zoo_client_id(zh), wrong = id;
    struct Stat stat;

    OK(make(zh, at("/e"), "", ZOO_EPHEMERAL, NULL));
    wrong.passwd[3] = (char)~wrong.passwd[3];
    mine =
        (struct seen){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    zhandle_t *thief = zookeeper_init(hosts, watcher, 6000, &wrong, &mine, 0);
    REQUIRE(thief != NULL, "no handle");
    bool is_refused = await(&mine, ZOO_EXPIRED_SESSION_STATE, 0);
    zookeeper_close(thief);
    REQUIRE(is_refused, "a wrong password: state %d", mine.state);
    /* The same session from a second handle; the first loses its connection to it. */
    mine.state = 0;
    zhandle_t *again = zookeeper_init(hosts, watcher, 6000, &id, &mine, 0);
    REQUIRE(again != NULL, "no handle");
    REQUIRE(await(&mine, ZOO_CONNECTED_STATE, 0), "state %d", mine.state);
    REQUIRE(zoo_client_id(again)->client_id == id.client_id, "another session");
    int rc = zoo_exists(again, at("/e"), 0, &stat);
    for (int i = 0; rc == ZCONNECTIONLOSS && i < LIMIT_MS / 50; i++) {
        usleep(50000); /* ok: the two take it from each other for a while, bounded */
        rc = zoo_exists(again, at("/e"), 0, &stat);
    }
    OK(rc);
    REQUIRE(stat.ephemeralOwner == id.client_id, "another owner");
    zookeeper_close(again);
    (void)s;
    return true;
}

/* ---- the lock recipe, as ZooKeeper's documentation describes it ---- */

static bool lock_take(zhandle_t *zh, struct seen *s, char *mine)
{
    struct Stat stat;

    OK(make(zh, at("/lock-"), "", ZOO_SEQUENCE | ZOO_EPHEMERAL, mine));
    for (;;) {
        struct String_vector names;
        char before[PATH_ROOM] = "";
        OK(zoo_get_children(zh, root, 0, &names));
        for (int i = 0; i < names.count; i++)
            if (strcmp(names.data[i], strrchr(mine, '/') + 1) < 0 &&
                strcmp(names.data[i], before) > 0)
                snprintf(before, sizeof before, "%s", names.data[i]);
        deallocate_String_vector(&names);
        if (before[0] == '\0')
            return true;
        char path[PATH_ROOM + 8];
        snprintf(path, sizeof path, "/%s", before);
        s->events_n = 0;
        int rc = zoo_exists(zh, at(path), 1, &stat);
        REQUIRE(rc == ZNONODE || (rc == ZOK && await(s, 0, 1)), "waiting for %s: %s", before,
                zerror(rc));
    }
}

static int inside, worst, total;

static void *lock_worker(void *failed)
{
    struct seen s;
    char mine[PATH_ROOM];
    zhandle_t *zh = open_session(&s, 6000);

    for (int i = 0; zh != NULL && i < 5; i++) {
        if (!lock_take(zh, &s, mine)) {
            *(bool *)failed = true;
            break;
        }
        int now = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        if (now > worst)
            worst = now;
        total++;
        __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        zoo_delete(zh, mine, -1);
    }
    if (zh != NULL)
        zookeeper_close(zh);
    return NULL;
}

static bool lock_recipe(zhandle_t *zh, struct seen *s)
{
    pthread_t threads[4];
    bool failed = false;

    (void)zh, (void)s;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, lock_worker, &failed);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    if (failed)
        return false;
    REQUIRE(worst == 1 && total == 20, "%d at once, %d of 20 turns", worst, total);
    return true;
}

/* ---- many in flight ---- */

struct flood {
    struct seen *s;
    unsigned answered, wrong;
};

static void flooded(int rc, const char *value, const void *ctx)
{
    struct flood *f = (struct flood *)(uintptr_t)ctx;
    char expected[32];

    pthread_mutex_lock(&f->s->lock);
    snprintf(expected, sizeof expected, "/n-%010u", f->answered);
    if (rc != ZOK || strcmp(value + strlen(root), expected) != 0)
        f->wrong++;
    f->answered++;
    pthread_cond_broadcast(&f->s->changed);
    pthread_mutex_unlock(&f->s->lock);
}

static bool answers_come_in_order(zhandle_t *zh, struct seen *s)
{
    struct flood f = {.s = s};
    struct timespec until = deadline();
    bool in_time = true;

    for (int i = 0; i < 500; i++)
        OK(zoo_acreate(zh, at("/n-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, flooded, &f));
    pthread_mutex_lock(&s->lock);
    while (in_time && f.answered < 500)
        in_time = pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0;
    pthread_mutex_unlock(&s->lock);
    REQUIRE(f.answered == 500 && f.wrong == 0, "%u answers, %u out of order", f.answered,
            f.wrong);
    return true;
}

/* ---- the frame ---- */

static const struct {
    const char *name;
    bool (*run)(zhandle_t *zh, struct seen *s);
} tests[] = {
    {"znodes", znodes},
    {"children", children},
    {"sequence", sequence},
    {"ephemeral", ephemeral},
    {"watches", watches},
    {"transaction", transaction},
    {"timeout is negotiated", timeout_is_negotiated},
    {"lock recipe", lock_recipe},
    {"answers come in order", answers_come_in_order},
    {"access lists", access_lists},
    {"unknown scheme", unknown_scheme},
    {"create2 and the modes", create2_and_modes},
    {"container", container},
    {"ttl", ttl},
    {"watches are removed", watches_are_removed},
    {"configuration", configuration},
    {"session is taken up again", session_is_taken_up_again},
};

static bool run_test(unsigned i)
{
    struct seen s;
    zhandle_t *zh = open_session(&s, 6000);
    char name[PATH_ROOM];

    REQUIRE(zh != NULL, "no connection to %s", hosts);
    int rc = make(zh, "/battery-c", "", 0, NULL);
    REQUIRE(rc == ZOK || rc == ZNODEEXISTS, "cannot begin: %s", zerror(rc));
    OK(make(zh, "/battery-c/t-", "", ZOO_SEQUENCE, name));
    snprintf(root, sizeof root, "%.63s", name);
    bool passed = tests[i].run(zh, &s);
    zookeeper_close(zh);
    return passed;
}

static int run_all(void)
{
    int failed = 0;

    for (unsigned i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (run_test(i)) {
            printf("ok %s\n", tests[i].name);
        } else {
            printf("FAILED %s: %s\n", tests[i].name, why);
            failed++;
        }
        fflush(stdout);
    }
    return failed > 0;
}

static const char *server_of(zhandle_t *zh)
{
    static char text[INET_ADDRSTRLEN];
    struct sockaddr_in a;
    socklen_t len = sizeof a;

    if (zookeeper_get_connected_host(zh, (struct sockaddr *)&a, &len) == NULL)
        return "nowhere";
    return inet_ntop(AF_INET, &a.sin_addr, text, sizeof text);
}

static bool move(zhandle_t *zh, struct seen *s)
{
    struct Stat stat;
    int64_t session = zoo_client_id(zh)->client_id;
    char name[PATH_ROOM], line[16], first[INET_ADDRSTRLEN];

    OK(make(zh, "/battery-c-move-", "", ZOO_EPHEMERAL | ZOO_SEQUENCE, name));
    snprintf(first, sizeof first, "%s", server_of(zh));
    printf("on %s\n", first);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    /* Its server is dead by now. Whatever it asks until the session has moved is lost. */
    int rc = ZCONNECTIONLOSS;
    for (int i = 0; rc != ZOK && i < LIMIT_MS / 50; i++) {
        rc = zoo_exists(zh, name, 0, &stat);
        if (rc == ZSESSIONEXPIRED || rc == ZINVALIDSTATE || rc == ZNONODE)
            break;
        if (rc != ZOK)
            usleep(50000); /* ok: between two attempts, bounded */
    }
    REQUIRE(rc == ZOK, "after the move: %s", zerror(rc));
    REQUIRE(stat.ephemeralOwner == session && zoo_client_id(zh)->client_id == session,
            "another session");
    /* The client's other thread tells the watcher, which may be after the answer is here. */
    REQUIRE(await(s, ZOO_CONNECTED_STATE, 0), "state %d", s->state);
    REQUIRE(strcmp(first, server_of(zh)) != 0, "still on %s", first);
    printf("moved to %s\n", server_of(zh));
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    hosts = argv[2];
    zoo_set_debug_level(0);
    zoo_deterministic_conn_order(0);
    if (strcmp(argv[1], "all") == 0)
        return run_all();
    struct seen s;
    zhandle_t *zh = open_session(&s, 8000);
    if (zh == NULL || !move(zh, &s)) {
        printf("FAILED %s\n", zh == NULL ? "no connection" : why);
        return 1;
    }
    zookeeper_close(zh);
    return 0;
}
