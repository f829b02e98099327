/* SPDX-License-Identifier: Apache-2.0 */
/* battery_st.c -- what a ZooKeeper client expects, asked through Debian's single-threaded C
 * client: no thread of its own, its caller waits for its socket and calls it.
 *
 *   client_battery_st all HOSTS    every test; a line each: "ok NAME" or "FAILED NAME: why"
 *   client_battery_st move HOSTS   holds a session; on a line from stdin it must still be the
 *                                  same session, on another server
 *
 * Debian's two development packages exclude each other and have the same headers: those of
 * libzookeeper-mt-dev are used, without THREADED.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <zookeeper/zookeeper.h>

enum { LIMIT_MS = 20000, PATH_ROOM = 256, SEEN_MAX = 64, SESSIONS_MAX = 4, NAMES_MAX = 16 };

/* One session, and what its watcher has seen. */
struct session {
    zhandle_t *zh;
    int state;
    unsigned events_n;
    struct {
        int type;
        char path[PATH_ROOM];
    } events[SEEN_MAX];
};

/* What one request has brought. */
struct answer {
    bool is_there;
    int rc;
    int len; /* of the data; -1: null */
    char data[4096];
    char names[NAMES_MAX][64];
    int names_n;
    char acl_id[PATH_ROOM];
    struct Stat stat;
};

static const char *hosts;
static char why[1024];
static char root[64];
static struct session sessions[SESSIONS_MAX];

#define REQUIRE(cond, ...)                          \
    do {                                            \
        if (!(cond)) {                              \
            snprintf(why, sizeof why, __VA_ARGS__); \
            return false;                           \
        }                                           \
    } while (0)
#define IS(call, code)                                                             \
    do {                                                                           \
        int rc_ = (call);                                                          \
        REQUIRE(rc_ == (code), "line %d: %s is %s", __LINE__, #call, zerror(rc_)); \
    } while (0)
#define OK(call) IS(call, ZOK)

/* ---- the loop ---- */

static long long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for all sessions' sockets once, and gives each what it has to do. */
static void turn(void)
{
    struct pollfd fds[SESSIONS_MAX];
    unsigned whose[SESSIONS_MAX];
    nfds_t n = 0;
    int wait_ms = 100;

    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        struct timeval tv;
        int fd = -1, interest = 0;
        if (sessions[i].zh == NULL)
            continue;
        int rc = zookeeper_interest(sessions[i].zh, &fd, &interest, &tv);
        int its_ms = (int)(tv.tv_sec * 1000 + tv.tv_usec / 1000);
        if (its_ms < wait_ms)
            wait_ms = its_ms;
        if (rc != ZOK || fd < 0)
            continue;
        fds[n].fd = fd;
        fds[n].events = (short)((interest & ZOOKEEPER_READ ? POLLIN : 0) |
                                (interest & ZOOKEEPER_WRITE ? POLLOUT : 0));
        whose[n++] = i;
    }
    poll(fds, n, wait_ms);
    for (nfds_t k = 0; k < n; k++) {
        short r = fds[k].revents;
        int events = (r & (POLLIN | POLLHUP | POLLERR) ? ZOOKEEPER_READ : 0) |
                     (r & (POLLOUT | POLLHUP | POLLERR) ? ZOOKEEPER_WRITE : 0);
        if (sessions[whose[k]].zh != NULL)
            zookeeper_process(sessions[whose[k]].zh, events);
    }
}

static int reached(struct answer *a, int sent)
{
    long long end = now_ms() + LIMIT_MS;

    if (sent != ZOK)
        return sent;
    while (!a->is_there && now_ms() < end)
        turn();
    return a->is_there ? a->rc : ZOPERATIONTIMEOUT;
}

static bool await(const struct session *s, int state, unsigned events)
{
    long long end = now_ms() + LIMIT_MS;

    while ((state != 0 ? s->state != state : s->events_n < events) && now_ms() < end)
        turn();
    return state != 0 ? s->state == state : s->events_n >= events;
}

static void watcher(zhandle_t *zh, int type, int state, const char *path, void *ctx)
{
    struct session *s = ctx;

    (void)zh;
    if (type == ZOO_SESSION_EVENT) {
        s->state = state;
    } else if (s->events_n < SEEN_MAX) {
        s->events[s->events_n].type = type;
        snprintf(s->events[s->events_n].path, PATH_ROOM, "%s", path);
        s->events_n++;
    }
}

static struct session *open_session(const clientid_t *id)
{
    struct session *s = sessions;

    while (s->zh != NULL)
        s++; /* no test has more than SESSIONS_MAX */
    *s = (struct session){0};
    s->zh = zookeeper_init(hosts, watcher, 6000, id, s, 0);
    if (s->zh == NULL || !await(s, ZOO_CONNECTED_STATE, 0)) {
        if (s->zh != NULL)
            zookeeper_close(s->zh);
        s->zh = NULL;
        return NULL;
    }
    return s;
}

static int close_session(struct session *s)
{
    zhandle_t *zh = s->zh;

    s->zh = NULL;
    return zookeeper_close(zh);
}

/* ---- requests, each to its answer ---- */

static void done(int rc, const void *ctx)
{
    struct answer *a = (struct answer *)(uintptr_t)ctx;

    a->rc = rc;
    a->is_there = true;
}

static void done_stat(int rc, const struct Stat *stat, const void *ctx)
{
    struct answer *a = (struct answer *)(uintptr_t)ctx;

    if (stat != NULL)
        a->stat = *stat;
    done(rc, ctx);
}

static void done_string(int rc, const char *value, const void *ctx)
{
    struct answer *a = (struct answer *)(uintptr_t)ctx;

    snprintf(a->data, sizeof a->data, "%s", value != NULL ? value : "");
    done(rc, ctx);
}

static void done_string_stat(int rc, const char *value, const struct Stat *stat,
                             const void *ctx)
{
    done_stat(rc, stat, ctx);
    done_string(rc, value, ctx);
}

static void done_data(int rc, const char *value, int len, const struct Stat *stat,
                      const void *ctx)
{
    struct answer *a = (struct answer *)(uintptr_t)ctx;

    a->len = len;
    if (len > 0 && len < (int)sizeof a->data)
        memcpy(a->data, value, (size_t)len);
    a->data[len > 0 && len < (int)sizeof a->data ? len : 0] = '\0';
    done_stat(rc, stat, ctx);
}

static void done_names(int rc, const struct String_vector *names, const struct Stat *stat,
                       const void *ctx)
{
    struct answer *a = (struct answer *)(uintptr_t)ctx;

    for (int i = 0; names != NULL && i < names->count && a->names_n < NAMES_MAX; i++)
        snprintf(a->names[a->names_n++], sizeof a->names[0], "%s", names->data[i]);
    done_stat(rc, stat, ctx);
}

static void done_acl(int rc, struct ACL_vector *acl, struct Stat *stat, const void *ctx)
{
    struct answer *a = (struct answer *)(uintptr_t)ctx;

    if (acl != NULL && acl->count == 1)
        snprintf(a->acl_id, sizeof a->acl_id, "%s:%s", acl->data[0].id.scheme,
                 acl->data[0].id.id);
    done_stat(rc, stat, ctx);
}

static const char *at(const char *name)
{
    static char path[8][PATH_ROOM];
    static unsigned next;

    next = (next + 1) % 8;
    snprintf(path[next], PATH_ROOM, "%s%.150s", root, name);
    return path[next];
}

static int make(struct session *s, const char *path, int mode, struct answer *a)
{
    static struct answer unused;
    struct answer *to = a != NULL ? a : &unused;

    *to = (struct answer){0};
    return reached(
        to, zoo_acreate(s->zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, mode, done_string, to));
}

static int set(struct session *s, const char *path, const char *data, int version,
               struct answer *a)
{
    *a = (struct answer){0};
    return reached(a, zoo_aset(s->zh, path, data, data != NULL ? (int)strlen(data) : -1,
                               version, done_stat, a));
}

static int get(struct session *s, const char *path, int watch, struct answer *a)
{
    *a = (struct answer){0};
    return reached(a, zoo_aget(s->zh, path, watch, done_data, a));
}

static int exists(struct session *s, const char *path, int watch, struct answer *a)
{
    *a = (struct answer){0};
    return reached(a, zoo_aexists(s->zh, path, watch, done_stat, a));
}

static int names_of(struct session *s, const char *path, int watch, struct answer *a)
{
    *a = (struct answer){0};
    return reached(a, zoo_aget_children2(s->zh, path, watch, done_names, a));
}

static int erase(struct session *s, const char *path, int version)
{
    struct answer a = {0};

    return reached(&a, zoo_adelete(s->zh, path, version, done, &a));
}

static int add_auth(struct session *s, const char *scheme, const char *who)
{
    struct answer a = {0};

    return reached(&a, zoo_add_auth(s->zh, scheme, who, (int)strlen(who), done, &a));
}

static int multi(struct session *s, int n, const zoo_op_t *ops, zoo_op_result_t *results)
{
    struct answer a = {0};

    return reached(&a, zoo_amulti(s->zh, n, ops, results, done, &a));
}

/* What others wrote through other servers is seen after a sync, and only then surely. */
static int catch_up(struct session *s)
{
    struct answer a = {0};

    return reached(&a, zoo_async(s->zh, "/", done_string, &a));
}

/* ---- the tests ---- */

static bool znodes(struct session *s)
{
    struct answer a;

    OK(make(s, at("/x"), 0, NULL));
    IS(make(s, at("/x"), 0, NULL), ZNODEEXISTS);
    IS(make(s, at("/no/such"), 0, NULL), ZNONODE);
    OK(set(s, at("/x"), "one", 0, &a));
    REQUIRE(a.stat.version == 1 && a.stat.dataLength == 3, "version %d", a.stat.version);
    IS(set(s, at("/x"), "two", 4, &a), ZBADVERSION);
    OK(get(s, at("/x"), 0, &a));
    REQUIRE(strcmp(a.data, "one") == 0, "the data are %.32s", a.data);
    OK(set(s, at("/x"), NULL, -1, &a));
    OK(get(s, at("/x"), 0, &a));
    REQUIRE(a.len == -1, "null data came back with length %d", a.len);
    OK(make(s, at("/x/y"), 0, NULL));
    OK(names_of(s, at("/x"), 0, &a));
    REQUIRE(a.names_n == 1 && strcmp(a.names[0], "y") == 0 && a.stat.numChildren == 1,
            "%d children", a.names_n);
    IS(erase(s, at("/x"), -1), ZNOTEMPTY);
    OK(erase(s, at("/x/y"), 0));
    OK(erase(s, at("/x"), 2));
    IS(exists(s, at("/x"), 0, &a), ZNONODE);
    return true;
}

static bool modes(struct session *s)
{
    const struct ACL_vector *acl = &ZOO_OPEN_ACL_UNSAFE;
    struct answer a = {0};

    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "/n-%010d", i);
        OK(make(s, at("/n-"), ZOO_PERSISTENT_SEQUENTIAL, &a));
        REQUIRE(strcmp(a.data, at(name)) == 0, "%.200s", a.data);
    }
    a = (struct answer){0};
    OK(reached(
        &a, zoo_acreate2(s->zh, at("/e"), "abc", 3, acl, ZOO_EPHEMERAL, done_string_stat, &a)));
    REQUIRE(a.stat.ephemeralOwner == zoo_client_id(s->zh)->client_id && a.stat.dataLength == 3,
            "another owner");
    IS(make(s, at("/e/x"), 0, NULL), ZNOCHILDRENFOREPHEMERALS);
    return true;
}

static bool ephemeral_goes_with_its_session(struct session *s)
{
    struct answer a;

    struct session *other = open_session(NULL);
    REQUIRE(other != NULL, "no second session");
    OK(catch_up(other));
    OK(make(other, at("/e"), ZOO_EPHEMERAL, NULL));
    OK(catch_up(s));
    OK(exists(s, at("/e"), 1, &a));
    OK(close_session(other));
    REQUIRE(await(s, 0, 1) && s->events[0].type == ZOO_DELETED_EVENT, "not told: deleted");
    IS(exists(s, at("/e"), 0, &a), ZNONODE);
    return true;
}

static bool container_and_ttl(struct session *s)
{
    struct answer a = {0};

    OK(make(s, at("/c"), ZOO_CONTAINER, NULL));
    OK(make(s, at("/c/x"), 0, NULL));
    OK(exists(s, at("/c"), 1, &a));
    REQUIRE(a.stat.ephemeralOwner == 0, "its owner is not 0");
    OK(erase(s, at("/c/x"), -1));
    REQUIRE(await(s, 0, 1) && s->events[0].type == ZOO_DELETED_EVENT, "the container stays");
    s->events_n = 0;
    a = (struct answer){0};
    OK(reached(&a, zoo_acreate2_ttl(s->zh, at("/t"), "", 0, &ZOO_OPEN_ACL_UNSAFE,
                                    ZOO_PERSISTENT_WITH_TTL, 200, done_string_stat, &a)));
    int rc = exists(s, at("/t"), 1, &a);
    REQUIRE(rc == ZNONODE || (rc == ZOK && await(s, 0, 1)), "the TTL node stays: %s",
            zerror(rc));
    return true;
}

static bool watches(struct session *s)
{
    struct answer a;

    IS(exists(s, at("/x"), 1, &a), ZNONODE);
    OK(make(s, at("/x"), 0, NULL));
    REQUIRE(s->events_n == 1 && s->events[0].type == ZOO_CREATED_EVENT,
            "%u events before the answer, expected the creation", s->events_n);
    OK(get(s, at("/x"), 1, &a));
    OK(names_of(s, root, 1, &a));
    OK(set(s, at("/x"), "1", -1, &a));
    REQUIRE(s->events_n == 2 && s->events[1].type == ZOO_CHANGED_EVENT, "not told: changed");
    OK(set(s, at("/x"), "2", -1, &a));
    OK(erase(s, at("/x"), -1));
    REQUIRE(s->events_n == 3 && s->events[2].type == ZOO_CHILD_EVENT &&
                strcmp(s->events[2].path, root) == 0,
            "not told: a child");
    return true;
}

static bool watches_are_removed(struct session *s)
{
    struct answer a;

    OK(make(s, at("/x"), 0, NULL));
    OK(get(s, at("/x"), 1, &a));
    OK(names_of(s, at("/x"), 1, &a));
    a = (struct answer){0};
    /* The header says "void_completion_t *"; what it calls is the function itself. */
    OK(reached(&a, zoo_aremove_watches(s->zh, at("/x"), ZWATCHTYPE_CHILD, watcher, s, 0,
                                       (void_completion_t *)(void *)done, &a)));
    s->events_n = 0;
    OK(make(s, at("/x/y"), 0, NULL));
    OK(set(s, at("/x"), "1", -1, &a));
    for (unsigned i = 0; i < s->events_n; i++)
        REQUIRE(s->events[i].type != ZOO_CHILD_EVENT, "the removed watch fired");
    REQUIRE(s->events_n >= 1, "not told: changed");
    return true;
}

static bool transaction(struct session *s)
{
    zoo_op_t ops[3];
    zoo_op_result_t results[3];
    char name[PATH_ROOM];
    struct Stat stat;
    struct answer a;

    zoo_create_op_init(&ops[0], at("/x"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, name, PATH_ROOM);
    zoo_set_op_init(&ops[1], at("/x"), "1", 1, 0, &stat);
    zoo_check_op_init(&ops[2], at("/x"), 1);
    OK(multi(s, 3, ops, results));
    REQUIRE(results[2].err == ZOK && stat.version == 1, "version %d", stat.version);
    zoo_delete_op_init(&ops[0], at("/x"), -1);
    zoo_check_op_init(&ops[1], at("/nothing"), 0);
    zoo_delete_op_init(&ops[2], at("/x"), -1);
    IS(multi(s, 3, ops, results), ZNONODE);
    REQUIRE(results[0].err == ZOK && results[1].err == ZNONODE &&
                results[2].err == ZRUNTIMEINCONSISTENCY,
            "results %d %d %d", results[0].err, results[1].err, results[2].err);
    OK(exists(s, at("/x"), 0, &a));
    return true;
}

static bool access_lists(struct session *s)
{
    struct answer a = {0};

    IS(reached(&a,
               zoo_acreate(s->zh, at("/x"), "1", 1, &ZOO_CREATOR_ALL_ACL, 0, done_string, &a)),
       ZINVALIDACL);
    OK(add_auth(s, "digest", "me:secret"));
    a = (struct answer){0};
    OK(reached(&a,
               zoo_acreate(s->zh, at("/x"), "1", 1, &ZOO_CREATOR_ALL_ACL, 0, done_string, &a)));
    a = (struct answer){0};
    OK(reached(&a, zoo_aget_acl(s->zh, at("/x"), done_acl, &a)));
    REQUIRE(strcmp(a.acl_id, "digest:me:016djjlksVQS5RgX3M7biBGyYwY=") == 0, "%s", a.acl_id);
    struct session *other = open_session(NULL);
    REQUIRE(other != NULL, "no second session");
    OK(catch_up(other));
    IS(get(other, at("/x"), 0, &a), ZNOAUTH);
    OK(add_auth(other, "digest", "me:secret"));
    OK(get(other, at("/x"), 0, &a));
    struct ACL_vector open = ZOO_OPEN_ACL_UNSAFE;
    a = (struct answer){0};
    OK(reached(&a, zoo_aset_acl(other->zh, at("/x"), 0, &open, done, &a)));
    OK(close_session(other));
    OK(catch_up(s));
    OK(exists(s, at("/x"), 0, &a));
    REQUIRE(a.stat.aversion == 1, "aversion %d", a.stat.aversion);
    return true;
}

struct flood {
    unsigned answered, wrong;
};

static void flooded(int rc, const char *value, const void *ctx)
{
    struct flood *f = (struct flood *)(uintptr_t)ctx;
    char expected[32];

    snprintf(expected, sizeof expected, "/n-%010u", f->answered);
    if (rc != ZOK || strcmp(value + strlen(root), expected) != 0)
        f->wrong++;
    f->answered++;
}

static bool answers_come_in_order(struct session *s)
{
    struct flood f = {0};
    long long end = now_ms() + LIMIT_MS;

    for (int i = 0; i < 500; i++)
        OK(zoo_acreate(s->zh, at("/n-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, flooded,
                       &f));
    while (f.answered < 500 && now_ms() < end)
        turn();
    REQUIRE(f.answered == 500 && f.wrong == 0, "%u answers, %u wrong", f.answered, f.wrong);
    return true;
}

/* The socket dies under the client; the session, its znodes, watches and identities stay. */
static bool goes_on_over_a_broken_connection(struct session *s)
{
    struct answer a;
    struct timeval tv;
    int fd = -1, interest;
    long long end = now_ms() + LIMIT_MS;

    OK(add_auth(s, "digest", "me:secret"));
    a = (struct answer){0};
    OK(reached(&a, zoo_acreate(s->zh, at("/mine"), "1", 1, &ZOO_CREATOR_ALL_ACL, ZOO_EPHEMERAL,
                               done_string, &a)));
    OK(make(s, at("/x"), 0, NULL));
    OK(get(s, at("/x"), 1, &a));
    int64_t id = zoo_client_id(s->zh)->client_id;
    OK(zookeeper_interest(s->zh, &fd, &interest, &tv));
    shutdown(fd, SHUT_RDWR);
    while (zoo_state(s->zh) == ZOO_CONNECTED_STATE && now_ms() < end)
        turn();
    REQUIRE(zoo_state(s->zh) != ZOO_CONNECTED_STATE, "it does not notice the broken socket");
    while (zoo_state(s->zh) != ZOO_CONNECTED_STATE && now_ms() < end)
        turn();
    REQUIRE(zoo_state(s->zh) == ZOO_CONNECTED_STATE, "state %d", zoo_state(s->zh));
    REQUIRE(zoo_client_id(s->zh)->client_id == id, "another session");
    OK(get(s, at("/mine"), 0, &a));
    REQUIRE(a.stat.ephemeralOwner == id, "another owner");
    s->events_n = 0;
    OK(set(s, at("/x"), "1", -1, &a));
    REQUIRE(await(s, 0, 1) && s->events[0].type == ZOO_CHANGED_EVENT, "not told: changed");
    return true;
}

/* ---- the frame ---- */

static const struct {
    const char *name;
    bool (*run)(struct session *s);
} tests[] = {
    {"znodes", znodes},
    {"modes", modes},
    {"ephemeral goes with its session", ephemeral_goes_with_its_session},
    {"container and ttl", container_and_ttl},
    {"watches", watches},
    {"watches are removed", watches_are_removed},
    {"transaction", transaction},
    {"access lists", access_lists},
    {"answers come in order", answers_come_in_order},
    {"goes on over a broken connection", goes_on_over_a_broken_connection},
};

static bool run_test(unsigned i)
{
    struct answer a;

    struct session *s = open_session(NULL);
    REQUIRE(s != NULL, "no connection to %s", hosts);
    int rc = make(s, "/battery-st", 0, NULL);
    REQUIRE(rc == ZOK || rc == ZNODEEXISTS, "cannot begin: %s", zerror(rc));
    OK(make(s, "/battery-st/t-", ZOO_SEQUENCE, &a));
    snprintf(root, sizeof root, "%.63s", a.data);
    bool passed = tests[i].run(s);
    for (unsigned k = 0; k < SESSIONS_MAX; k++)
        if (sessions[k].zh != NULL)
            close_session(&sessions[k]);
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

static bool has_line(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&in, 1, 0) > 0;
}

static bool move(void)
{
    struct answer a, name;
    char first[INET_ADDRSTRLEN];

    struct session *s = open_session(NULL);
    REQUIRE(s != NULL, "no connection to %s", hosts);
    int64_t session = zoo_client_id(s->zh)->client_id;
    OK(make(s, "/battery-st-move-", ZOO_EPHEMERAL | ZOO_SEQUENCE, &name));
    snprintf(first, sizeof first, "%s", server_of(s->zh));
    printf("on %s\n", first);
    fflush(stdout);
    while (!has_line())
        turn();
    /* Its server is dead by now. Whatever it asks until the session has moved is lost. */
    long long end = now_ms() + LIMIT_MS;
    int rc = ZCONNECTIONLOSS;
    while (rc != ZOK && now_ms() < end && !is_unrecoverable(s->zh)) {
        rc = zoo_state(s->zh) == ZOO_CONNECTED_STATE ? exists(s, name.data, 0, &a)
                                                     : ZCONNECTIONLOSS;
        if (rc == ZNONODE)
            break;
        if (rc != ZOK)
            turn();
    }
    REQUIRE(rc == ZOK, "after the move: %s", zerror(rc));
    REQUIRE(a.stat.ephemeralOwner == session && zoo_client_id(s->zh)->client_id == session,
            "another session");
    REQUIRE(strcmp(first, server_of(s->zh)) != 0, "still on %s", first);
    printf("moved to %s\n", server_of(s->zh));
    close_session(s);
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
    if (!move()) {
        printf("FAILED %s\n", why);
        return 1;
    }
    return 0;
}
