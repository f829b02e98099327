/* SPDX-License-Identifier: Apache-2.0 */
#include "differ_draw.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/rng.h"
#include "wire/wire.h"

struct draw {
    struct rng r;
    struct draw_window *w;
    unsigned groups;
    bool ttl_mode; /* a create that is no createTTL was given such a mode */
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static unsigned below(struct draw *d, size_t n) { return (unsigned)rng_below(&d->r, n); }
static bool percent(struct draw *d, unsigned n) { return below(d, 100) < n; }
static bool mille(struct draw *d, unsigned n) { return below(d, 1000) < n; }
static bool has(const struct draw *d, enum draw_group g) { return (d->groups >> g & 1) != 0; }

static struct buf *out(struct draw *d) { return &d->w->bytes; }
static void i32(struct draw *d, int32_t v) { buf_add_be32(out(d), (uint32_t)v); }
static void i64(struct draw *d, int64_t v) { buf_add_be64(out(d), (uint64_t)v); }
static void flag(struct draw *d, bool v) { buf_add_u8(out(d), v); }

static void bytes(struct draw *d, const void *data, size_t len)
{
    i32(d, (int32_t)len);
    if (len > 0)
        buf_add(out(d), data, len);
}

static void text(struct draw *d, const char *s)
{
    if (s == NULL)
        i32(d, -1);
    else
        bytes(d, s, strlen(s));
}

/* ---- paths ---- */

struct path {
    char text[64];
    size_t len;
};

/* With a NUL inside some, so with their lengths. */
struct odd {
    const char *text;
    size_t len;
};
#define ODD(s)          \
    {                   \
        s, sizeof s - 1 \
    }
static const struct odd ODD_PATHS[] = {
    ODD(""),
    ODD("/"),
    ODD("//"),
    ODD("x"),
    ODD("a/b"),
    ODD("x/y"),
    ODD("/."),
    ODD("/.."),
    ODD("/.a"),
    ODD("/a.."),
    ODD("/a/"),
    ODD("/a//b"),
    ODD("//a"),
    ODD("/a/./b"),
    ODD("/a/../b"),
    ODD("/a/."),
    ODD("/b/.."),
    ODD("/\x01"),
    ODD("/\x1f"),
    ODD("/ "),
    ODD("/\x7e"),
    ODD("/\x7f"),
    ODD("/a\0b"),
    ODD("/\0"),
    ODD("\0"),
    ODD("/\xc2\x80"),
    ODD("/\xc2\x9f"),
    ODD("/\xc2\xa0"),
    ODD("/\xc3\xa4"),
    ODD("/\xed\x9f\xbf"),
    ODD("/\xee\x80\x80"),
    ODD("/\xef\xa3\xbf"),
    ODD("/\xef\xa4\x80"),
    ODD("/\xef\xbf\xaf"),
    ODD("/\xef\xbf\xb0"),
    ODD("/\xe2\x82\xac/a"),
    ODD("/zookeeper"),
    ODD("/zookeeper/"),
    ODD("/zookeeper/quota"),
    ODD("/zookeeper/config"),
    ODD("/zookeeper/x"),
    ODD("/zookeeper/x/y"),
    ODD("/zookeeper/config/x"),
    ODD("zookeeper"),
};

/* Malformed UTF-8 and what lies beyond the BMP: writes refuse it. Java changes it when it
 * reads it, so only where no answer shows it (rule utf8_repaired). */
static const struct odd BROKEN_PATHS[] = {
    ODD("/\xff"),
    ODD("/\xc0\x80"),
    ODD("/a/\xe2\x82"),
    ODD("/\xed\xa0\x80"),
    ODD("/\xf0\x9f\x98\x80"),
    ODD("/a\x80"),
    ODD("/\xf8\x88\x80\x80\x80"),
};

enum { FOR_READS, FOR_WRITES };

static void odd_path(struct draw *d, struct path *p, int what)
{
    const struct odd *o = &ODD_PATHS[below(d, COUNT(ODD_PATHS))];

    if (what == FOR_WRITES && percent(d, 20))
        o = &BROKEN_PATHS[below(d, COUNT(BROKEN_PATHS))];
    memcpy(p->text, o->text, o->len);
    p->len = o->len;
}

static void plain_path(struct draw *d, struct path *p)
{
    static const uint8_t depths[] = {1, 1, 2, 2, 2, 3};
    unsigned depth = depths[below(d, COUNT(depths))];

    p->len = 0;
    for (unsigned i = 0; i < depth; i++) {
        p->text[p->len++] = '/';
        p->text[p->len++] = (char)('a' + below(d, 3));
    }
}

static void path_draw(struct draw *d, struct path *p, int what)
{
    if (percent(d, 3)) {
        odd_path(d, p, what);
        return;
    }
    plain_path(d, p);
    if (percent(d, 4)) /* what a sequential create may have made */
        p->len += (size_t)snprintf(p->text + p->len, sizeof p->text - p->len, "%s%010u",
                                   percent(d, 30) ? "/" : "", below(d, 12));
}

static void put_path(struct draw *d, const struct path *p) { bytes(d, p->text, p->len); }

static void path(struct draw *d, int what)
{
    struct path p;

    path_draw(d, &p, what);
    put_path(d, &p);
}

/* A watch on a path that already has one of another mode changes that one's mode in 3.8,
 * and types 1 and 2 mean all modes there (rule watch_modes). So each path has one mode of
 * watch for each session. */
enum watching { WATCH_ONCE, WATCH_ONCE_TOO, WATCH_ALWAYS, WATCH_BELOW };

static enum watching watching(const struct draw *d, const struct path *p)
{
    return (enum watching)(hash_bytes(d->w->slot, p->text, p->len) >> 7 & 3);
}

static bool may_watch_once(const struct draw *d, const struct path *p)
{
    return watching(d, p) == WATCH_ONCE || watching(d, p) == WATCH_ONCE_TOO;
}

/* ---- values ---- */

static void version(struct draw *d)
{
    static const int32_t versions[] = {-1, -1, -1, -1, 0, 0, 1, 2, -2};

    if (mille(d, 5))
        i32(d, percent(d, 50) ? INT32_MAX : INT32_MIN);
    else
        i32(d, versions[below(d, COUNT(versions))]);
}

static void data(struct draw *d)
{
    unsigned x = below(d, 1000);
    size_t len = x < 400   ? 1
                 : x < 960 ? below(d, 60)
                 : x < 998 ? below(d, 3000)
                           : below(d, 100000);

    if (x < 100) {
        i32(d, -1);
    } else if (x < 200) {
        i32(d, 0);
    } else {
        i32(d, (int32_t)len);
        memset(buf_reserve(out(d), len), (int)('A' + below(d, 26)), len);
        buf_added(out(d), len);
    }
}

struct id {
    const char *scheme, *id;
};

/* Of which some are not valid. */
static const struct id ODD_IDS[] = {
    {"ip", "1.2.3.4"},  {"ip", "1.2.3.4/8"}, {"ip", "1.2.3.4/33"},
    {"ip", "1.2.3.4/"}, {"ip", "/8"},        {"ip", "1.2.3.4/8/9"},
    {"ip", "1.2.3"},    {"ip", "300.1.1.1"}, {"ip", "::1"},
    {"ip", ""},         {"digest", "a:b"},   {"digest", "a:"},
    {"digest", "a:b:"}, {"digest", "a:b:c"}, {"digest", ":b"},
    {"digest", "::"},   {"digest", ""},      {"world", "anyone"},
    {"world", "all"},   {"world", ""},       {"auth", ""},
    {"auth", "x"},      {"sasl", "a"},       {"x509", "CN=a"},
    {"super", "a"},     {"super", ""},       {"none", "a"},
    {"", "a"},          {NULL, "a"},
};

/* Those that a session may have. */
static const struct id IDS[] = {
    {"digest", "u1:fpT/y03U+EjItKZOSLGvjnJlyng="},
    {"digest", "u2:o9NxcCGDPOlcV7JVhmKHOf5ctVE="},
    {"digest", "nopassword:0Ybo2sSKJNARW1aNCrLJ6Lguats="},
    {"digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU="},
    {"ip", "127.0.0.1"},
    {"ip", "127.0.0.1/8"},
    {"ip", "127.9.9.9/8"},
    {"ip", "10.0.0.1/0"},
    {"ip", "127.0.0.2"},
    {"ip", "10.0.0.0/8"},
    {"auth", ""},
    {"auth", "u1:p1"},
    {"world", "anyone"},
};

static void acl_entry(struct draw *d, int32_t perms, const char *scheme, const char *id)
{
    i32(d, perms);
    text(d, scheme);
    text(d, id);
}

static void acl(struct draw *d)
{
    static const int32_t some_perms[] = {1, 3, 5, 9, 17, 13, 31, 31, 0, 99};
    unsigned x = below(d, 100);

    if (x < 75 || (x < 78 && !has(d, DRAW_acl))) {
        i32(d, 1);
        acl_entry(d, WIRE_PERM_ALL, "world", "anyone");
    } else if (x < 78) {
        i32(d, 1);
        acl_entry(d, some_perms[below(d, 8)], "world", "anyone");
    } else if (x < 80) {
        i32(d, percent(d, 50) ? 0 : -1); /* rule negative_counts */
    } else if (x < 82) {
        i32(d, 3);
        acl_entry(d, WIRE_PERM_ALL, "world", "anyone");
        acl_entry(d, WIRE_PERM_ALL, "world", "anyone");
        acl_entry(d, WIRE_PERM_ALL, "digest", "a:b");
    } else if (x < 86 || !has(d, DRAW_acl)) {
        /* An id that is null, and a scheme that is in an entry that has the same permissions
         * as another, is an internal error in Java (rule acl_null). */
        const struct id *odd = &ODD_IDS[below(d, COUNT(ODD_IDS))];
        while (!has(d, DRAW_acl) && odd->scheme != NULL && strcmp(odd->scheme, "auth") == 0)
            odd = &ODD_IDS[below(d, COUNT(ODD_IDS))];
        i32(d, 2);
        acl_entry(d, WIRE_PERM_ALL, "world", "anyone");
        acl_entry(d, odd->scheme == NULL ? 1 : some_perms[below(d, COUNT(some_perms))],
                  odd->scheme, odd->id);
    } else {
        unsigned n = 1 + below(d, 3);
        i32(d, (int32_t)n);
        for (unsigned i = 0; i < n; i++) {
            const struct id *id = &IDS[below(d, COUNT(IDS))];
            acl_entry(d, some_perms[below(d, COUNT(some_perms))], id->scheme, id->id);
        }
    }
}

/* ---- one request ---- */

static struct draw_request *begin(struct draw *d, int32_t op)
{
    static const int32_t odd_xids[] = {0, -2, -4, -8, INT32_MIN, INT32_MAX, 7};
    struct draw_window *w = d->w;

    CHECK(w->n < DRAW_REQUESTS_MAX);
    struct draw_request *q = &w->requests[w->n++];
    *q = (struct draw_request){.op = op, .at = (uint32_t)w->bytes.len, .zxid_back = -1};
    q->xid = op == WIRE_OP_PING                                        ? WIRE_XID_PING
             : op == WIRE_OP_AUTH                                      ? WIRE_XID_AUTH
             : op == WIRE_OP_SET_WATCHES || op == WIRE_OP_SET_WATCHES2 ? WIRE_XID_SET_WATCHES
                                                                       : (int32_t)w->n;
    if (mille(d, 3))
        q->xid = odd_xids[below(d, COUNT(odd_xids))];
    q->alone = op == WIRE_OP_SET_ACL; /* rule set_acl_pending */
    return q;
}

static void end(struct draw *d, struct draw_request *q)
{
    q->len = (uint32_t)(d->w->bytes.len - q->at);
}

static int32_t create_flags(struct draw *d, int32_t op)
{
    static const int32_t plain[] = {0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 7, -1};
    static const int32_t container[] = {4, 4, 4, 0, 2, 9}; /* rule container_ephemeral */

    if (op == WIRE_OP_CREATE_CONTAINER)
        return container[below(d, COUNT(container))];
    if (percent(d, 2) && has(d, DRAW_ttl)) {
        d->ttl_mode = true;
        return WIRE_TTL + (int32_t)below(d, 2);
    }
    return plain[below(d, COUNT(plain))];
}

static void create_body(struct draw *d, int32_t op)
{
    path(d, FOR_WRITES);
    data(d);
    acl(d);
    i32(d, create_flags(d, op));
}

/* Flags without a time to live and a ttl of -1 would end the real server for good (rule
 * create_ttl_kills). */
static void create_ttl_body(struct draw *d)
{
    static const int64_t ttls[] = {0,  1,         100000,       0xffffffffff, 0x10000000000,
                                   -1, INT64_MAX, 0xfffffffffe, -2,           INT64_MIN};
    static const int32_t flags[] = {5, 5, 5, 6, 6, 6, 0, 1, 4, 7, -1};
    int32_t f = flags[below(d, COUNT(flags))];
    int64_t ttl = percent(d, 70) ? 10000000 : ttls[below(d, COUNT(ttls))];

    if (f != WIRE_TTL && f != WIRE_TTL_SEQUENTIAL && ttl < 0)
        ttl = 5;
    path(d, FOR_WRITES);
    data(d);
    acl(d);
    i32(d, f);
    i64(d, ttl);
}

static void write_body(struct draw *d, int32_t op)
{
    switch (op) {
    case WIRE_OP_CREATE_TTL: create_ttl_body(d); break;
    case WIRE_OP_DELETE:
    case WIRE_OP_CHECK:
        path(d, FOR_WRITES);
        version(d);
        break;
    case WIRE_OP_SET_DATA:
        path(d, FOR_WRITES);
        data(d);
        version(d);
        break;
    case WIRE_OP_SET_ACL:
        path(d, FOR_WRITES);
        acl(d);
        version(d);
        break;
    default: create_body(d, op); break;
    }
}

static int32_t create_op(struct draw *d)
{
    static const int32_t ops[] = {WIRE_OP_CREATE,  WIRE_OP_CREATE,  WIRE_OP_CREATE,
                                  WIRE_OP_CREATE2, WIRE_OP_CREATE2, WIRE_OP_CREATE_CONTAINER};

    if (has(d, DRAW_ttl) && percent(d, 10))
        return WIRE_OP_CREATE_TTL;
    return ops[below(d, COUNT(ops))];
}

static void multi_header(struct draw *d, int32_t op, bool done, int32_t err)
{
    i32(d, op);
    flag(d, done);
    i32(d, err);
}

static void multi(struct draw *d)
{
    struct draw_request *q = begin(d, WIRE_OP_MULTI);
    unsigned n = below(d, 5);

    d->ttl_mode = false;
    for (unsigned i = 0; i < n; i++) {
        static const int32_t odd[] = {
            WIRE_OP_SET_ACL, WIRE_OP_GET_DATA, WIRE_OP_GET_CHILDREN, 99, 0, -1,
            WIRE_OP_MULTI,   WIRE_OP_EXISTS};
        unsigned x = below(d, 100);
        int32_t op = x < 40   ? create_op(d)
                     : x < 60 ? WIRE_OP_DELETE
                     : x < 82 ? WIRE_OP_SET_DATA
                     : x < 98 ? WIRE_OP_CHECK
                              : odd[below(d, COUNT(odd))];
        multi_header(d, op, false, percent(d, 3) ? 5 : -1);
        if (x < 98)
            write_body(d, op);
        else
            path(d, FOR_READS), flag(d, false);
        q->parts[q->parts_n++] = op;
    }
    q->alone = d->ttl_mode; /* rule multi_half_done */
    if (!mille(d, 4))
        multi_header(d, percent(d, 3) ? 7 : -1, true, percent(d, 3) ? 0 : -1);
    end(d, q);
}

static void multi_read(struct draw *d)
{
    struct draw_request *q = begin(d, WIRE_OP_MULTI_READ);
    unsigned n = below(d, 5);

    for (unsigned i = 0; i < n; i++) {
        static const int32_t odd[] = {WIRE_OP_EXISTS, WIRE_OP_CREATE,        99,
                                      WIRE_OP_CHECK,  WIRE_OP_GET_CHILDREN2, WIRE_OP_GET_ACL};
        int32_t op = mille(d, 985) ? (percent(d, 50) ? WIRE_OP_GET_DATA : WIRE_OP_GET_CHILDREN)
                                   : odd[below(d, COUNT(odd))];
        multi_header(d, op, false, -1);
        path(d, FOR_READS);
        flag(d, false);
        q->parts[q->parts_n++] = op;
    }
    if (!mille(d, 4))
        multi_header(d, -1, true, -1);
    end(d, q);
}

static void paths_for(struct draw *d, bool (*fits)(enum watching))
{
    struct path some[4];
    unsigned n = 0;

    for (unsigned i = below(d, 5); i > 0; i--) {
        plain_path(d, &some[n]);
        if (percent(d, 2)) { /* where "" would come back as it was sent */
            memcpy(some[n].text, "/", 1);
            some[n].len = percent(d, 50);
        }
        n += fits(watching(d, &some[n]));
    }
    i32(d, (int32_t)n); /* rule set_watches_null: never -1 */
    for (unsigned i = 0; i < n; i++)
        put_path(d, &some[i]);
}

static bool fits_once(enum watching x) { return x == WATCH_ONCE || x == WATCH_ONCE_TOO; }
static bool fits_always(enum watching x) { return x == WATCH_ALWAYS; }
static bool fits_below(enum watching x) { return x == WATCH_BELOW; }

static void set_watches(struct draw *d)
{
    bool two = percent(d, 50);
    struct draw_request *q = begin(d, two ? WIRE_OP_SET_WATCHES2 : WIRE_OP_SET_WATCHES);

    q->zxid_back = (int32_t)below(d, 60);
    i64(d, 0);
    for (int i = 0; i < 3; i++)
        paths_for(d, fits_once);
    if (two) {
        paths_for(d, fits_always);
        paths_for(d, fits_below);
    }
    end(d, q);
}

static void watched_read(struct draw *d)
{
    static const int32_t ops[] = {WIRE_OP_EXISTS, WIRE_OP_GET_DATA, WIRE_OP_GET_CHILDREN,
                                  WIRE_OP_GET_CHILDREN2};
    struct draw_request *q = begin(d, ops[below(d, COUNT(ops))]);
    struct path p;

    path_draw(d, &p, FOR_READS);
    bool watch = percent(d, 40) && may_watch_once(d, &p);
    /* Rule exists_unreadable: a watch that only ZooKeeper has set is removed at once. */
    q->alone = q->op == WIRE_OP_EXISTS && watch && has(d, DRAW_acl);
    put_path(d, &p);
    if (watch && percent(d, 10))
        buf_add_u8(out(d), 0x80);
    else
        flag(d, watch);
    end(d, q);
}

static void add_watch(struct draw *d)
{
    static const int32_t odd[] = {2, -1, INT32_MAX};
    struct draw_request *q = begin(d, WIRE_OP_ADD_WATCH);
    struct path p;

    do
        plain_path(d, &p);
    while (may_watch_once(d, &p));
    put_path(d, &p);
    i32(d, percent(d, 4)                     ? odd[below(d, COUNT(odd))]
           : watching(d, &p) == WATCH_ALWAYS ? WIRE_WATCH_PERSISTENT
                                             : WIRE_WATCH_RECURSIVE);
    end(d, q);
}

/* checkWatches also sees other connections' watches in 3.8 (rule check_watches_of_others):
 * it is asked about paths that this session alone watches. */
static void own_path(struct draw *d, struct path *p)
{
    p->len = (size_t)snprintf(p->text, sizeof p->text, "/w%u", d->w->slot);
}

static void own_watch(struct draw *d)
{
    struct path p;
    struct draw_request *q;

    own_path(d, &p);
    if (percent(d, 50)) {
        q = begin(d, percent(d, 50) ? WIRE_OP_EXISTS : WIRE_OP_GET_CHILDREN);
        put_path(d, &p);
        flag(d, true);
        end(d, q);
    }
    if (percent(d, 30)) {
        q = begin(d, WIRE_OP_CREATE);
        put_path(d, &p);
        i32(d, -1);
        i32(d, 1);
        acl_entry(d, WIRE_PERM_ALL, "world", "anyone");
        i32(d, 0);
        end(d, q);
    }
    q = begin(d, percent(d, 70) ? WIRE_OP_CHECK_WATCHES : WIRE_OP_REMOVE_WATCHES);
    put_path(d, &p);
    i32(d, 1 + (int32_t)below(d, 3));
    end(d, q);
}

static void remove_watches(struct draw *d)
{
    static const int32_t odd[] = {0, -1, 6, INT32_MIN}; /* rule watch_modes: not 4 and 5 */
    struct draw_request *q =
        begin(d, percent(d, 3) ? WIRE_OP_CHECK_WATCHES : WIRE_OP_REMOVE_WATCHES);
    struct path p;

    plain_path(d, &p);
    put_path(d, &p);
    i32(d, percent(d, 10) || q->op == WIRE_OP_CHECK_WATCHES ? odd[below(d, COUNT(odd))]
           : may_watch_once(d, &p)                          ? 1 + (int32_t)below(d, 3)
                                                            : WIRE_WATCHER_ANY);
    end(d, q);
}

static void path_only(struct draw *d)
{
    static const int32_t ops[] = {WIRE_OP_GET_ACL, WIRE_OP_GET_ACL, WIRE_OP_SYNC,
                                  WIRE_OP_GET_ALL_CHILDREN_NUMBER};
    struct draw_request *q = begin(d, ops[below(d, COUNT(ops))]);
    struct path p;

    do
        path_draw(d, &p, FOR_READS);
    while (p.len == 0 && q->op == WIRE_OP_GET_ALL_CHILDREN_NUMBER); /* rule count_of_empty */
    put_path(d, &p);
    end(d, q);
}

static void get_ephemerals(struct draw *d)
{
    static const char *const prefixes[] = {NULL, "", "/", "/a", "/a/b", "  ", "/b", "x", "\t"};
    struct draw_request *q = begin(d, WIRE_OP_GET_EPHEMERALS);

    text(d, prefixes[below(d, COUNT(prefixes))]);
    end(d, q);
}

/* ---- quotas ----
 * On /q and below it only; each request waits for the one before it (rule quota_pending).
 * What the znodes hold can be read as a quota, always (rule quota_garbage). */

static void quota_limits(struct draw *d)
{
    static const char *const texts[] = {
        "count=3,bytes=20",
        "count=-1,bytes=-1",
        "count=2,bytes=10=;byteHardLimit=30;countHardLimit=4",
        "count=-1,bytes=-1=;byteHardLimit=25;countHardLimit=-1",
        "count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=3",
        "count=1,bytes=1=;byteHardLimit=1;countHardLimit=1",
        "count=9,bytes=9=;byteHardLimit=0;countHardLimit=0",
        "count=9,bytes=9=;countHardLimit=6",
        "count=9,bytes=9=;byteHardLimit=16",
        "bytes=5;countHardLimit=5",
    };

    text(d, texts[below(d, COUNT(texts))]);
}

/* What a client writes there is what is counted on from then (rule quota_stats_text). */
static void quota_stats(struct draw *d)
{
    static const char *const texts[] = {"count=-1,bytes=-1", "count=2,bytes=7",
                                        "count=0,bytes=0", "count=100,bytes=-5"};

    text(d, texts[below(d, COUNT(texts))]);
}

enum quota_node { OF_TREE, OF_QUOTA, LIMITS, STATS };

static enum quota_node quota_path(struct draw *d, bool of_quota)
{
    static const char *const below_q[] = {"", "", "", "", "/a", "/a", "/b", "/a/b", "/a/c"};
    static const char *const names[] = {"", "", "/zookeeper_limits", "/zookeeper_stats"};
    static const enum quota_node kinds[] = {OF_QUOTA, LIMITS, LIMITS, STATS};
    enum quota_node kind = of_quota ? kinds[below(d, COUNT(kinds))] : OF_TREE;
    char path_text[64];

    snprintf(path_text, sizeof path_text, "%s/q%s%s", of_quota ? "/zookeeper/quota" : "",
             below_q[below(d, COUNT(below_q))], names[kind]);
    text(d, path_text);
    return kind;
}

static void quota_data(struct draw *d, enum quota_node kind)
{
    unsigned len = below(d, 16);

    if (kind == LIMITS) {
        quota_limits(d);
    } else if (kind == STATS) {
        quota_stats(d);
    } else if (percent(d, 10)) {
        i32(d, -1);
    } else {
        bytes(d, "0123456789abcdef", len);
    }
}

static void quota_write(struct draw *d, int32_t op, bool of_quota)
{
    static const int32_t flags[] = {0, 0, 0, 0, 1, 2};
    enum quota_node kind = quota_path(d, of_quota);

    if (op != WIRE_OP_DELETE && op != WIRE_OP_CHECK)
        quota_data(d, kind);
    if (op == WIRE_OP_CREATE || op == WIRE_OP_CREATE2) {
        i32(d, 1);
        acl_entry(d, WIRE_PERM_ALL, "world", "anyone");
        i32(d, of_quota ? 0 : flags[below(d, COUNT(flags))]);
    } else {
        i32(d, percent(d, 90) ? -1 : (int32_t)below(d, 2));
    }
}

static int32_t quota_op(struct draw *d)
{
    static const int32_t ops[] = {WIRE_OP_CREATE,   WIRE_OP_CREATE,   WIRE_OP_CREATE2,
                                  WIRE_OP_SET_DATA, WIRE_OP_SET_DATA, WIRE_OP_DELETE};

    return ops[below(d, COUNT(ops))];
}

static void quota(struct draw *d)
{
    unsigned x = below(d, 100);
    struct draw_request *q;

    if (x < 70) {
        bool of_quota = percent(d, 40);
        int32_t op = quota_op(d);
        if (of_quota && op == WIRE_OP_CREATE2)
            op = WIRE_OP_CREATE; /* rule quota_stats_stat */
        q = begin(d, op);
        quota_write(d, op, of_quota);
    } else if (x < 80) {
        q = begin(d, WIRE_OP_MULTI);
        for (unsigned i = below(d, 2); i > 0; i--) { /* rule quota_pending: not several */
            int32_t op = quota_op(d);
            multi_header(d, op, false, -1);
            quota_write(d, op, percent(d, 20));
            q->parts[q->parts_n++] = op;
        }
        multi_header(d, -1, true, -1);
    } else {
        q = begin(d, WIRE_OP_GET_DATA);
        (void)quota_path(d, true);
        flag(d, false);
    }
    q->alone = true;
    end(d, q);
}

/* Most of a quota's nodes, so that what follows meets it. */
static void quota_setup(struct draw *d)
{
    static const char *const paths[] = {
        "/q",
        "/zookeeper/quota/q",
        "/zookeeper/quota/q/zookeeper_limits",
        "/zookeeper/quota/q/zookeeper_stats",
        "/q/a",
        "/zookeeper/quota/q/a",
        "/zookeeper/quota/q/a/zookeeper_limits",
        "/zookeeper/quota/q/a/zookeeper_stats",
    };
    unsigned n = below(d, 2) ? 4 : COUNT(paths);

    for (unsigned i = 0; i < n; i++) {
        struct draw_request *q = begin(d, WIRE_OP_CREATE);
        text(d, paths[i]);
        quota_data(d, i % 4 == 2 ? LIMITS : i % 4 == 3 ? STATS : OF_TREE);
        i32(d, 1);
        acl_entry(d, WIRE_PERM_ALL, "world", "anyone");
        i32(d, 0);
        q->alone = true;
        end(d, q);
    }
}

static void bodiless(struct draw *d, int32_t op) { end(d, begin(d, op)); }

static void reconfig(struct draw *d)
{
    static const char *const words[] = {NULL, "", "server.2=127.0.0.1:1:2;3", "2", "x", "1,2"};
    struct draw_request *q = begin(d, WIRE_OP_RECONFIG);

    for (int i = 0; i < 3; i++)
        text(d, words[below(d, COUNT(words))]);
    i64(d, (int64_t)below(d, 3) - 1);
    end(d, q);
}

static void plain_write(struct draw *d)
{
    unsigned x = below(d, 100);
    int32_t op = x < 46   ? create_op(d)
                 : x < 70 ? WIRE_OP_DELETE
                 : x < 93 ? WIRE_OP_SET_DATA
                          : WIRE_OP_SET_ACL;
    struct draw_request *q = begin(d, op);

    write_body(d, op);
    end(d, q);
}

static void any(struct draw *d)
{
    unsigned x = below(d, 1000);

    if (x < 5 && has(d, DRAW_quota))
        quota(d);
    else if (x < 420)
        plain_write(d);
    else if (x < 560)
        multi(d);
    else if (x < 800)
        watched_read(d);
    else if (x < 860)
        path_only(d);
    else if (x < 880)
        get_ephemerals(d);
    else if (x < 910)
        set_watches(d);
    else if (x < 930)
        add_watch(d);
    else if (x < 945)
        remove_watches(d);
    else if (x < 955)
        own_watch(d);
    else if (x < 970)
        bodiless(d, WIRE_OP_PING);
    else if (x < 978 && has(d, DRAW_whoami))
        bodiless(d, WIRE_OP_WHO_AM_I);
    else if (x < 996 && has(d, DRAW_multiread))
        multi_read(d);
    else if (has(d, DRAW_reconfig))
        reconfig(d);
    else
        watched_read(d);
}

/* ---- records that are broken ---- */

/* Where an operation begins with a path. */
static bool begins_with_text(int32_t op)
{
    switch (op) {
    case WIRE_OP_MULTI:
    case WIRE_OP_MULTI_READ:
    case WIRE_OP_SET_WATCHES:
    case WIRE_OP_SET_WATCHES2:
    case WIRE_OP_PING:
    case WIRE_OP_WHO_AM_I: return false;
    default: return true;
    }
}

/* Without a path these are not -5 there, as all others (rules sync_null, set_null). */
static bool takes_no_null(int32_t op)
{
    switch (op) {
    case WIRE_OP_SYNC:
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL:
    case WIRE_OP_SET_DATA:
    case WIRE_OP_SET_ACL: return true;
    default: return false;
    }
}

/* The last request drawn: cut short, with a wrong length, or with bytes behind it. */
static void damage(struct draw *d)
{
    static const int32_t lengths[] = {-1, -1, -2, INT32_MIN, INT32_MAX, 2000000, 1048577};
    struct draw_request *q = &d->w->requests[d->w->n - 1];
    struct buf *b = out(d);
    unsigned x = below(d, 100);

    if (q->len == 0 || x < 25 || q->op == WIRE_OP_RECONFIG) { /* rule reconfig_malformed */
        size_t more = 1 + below(d, 8);
        for (size_t i = 0; i < more; i++)
            buf_add_u8(b, (uint8_t)rng_next(&d->r));
        q->len += (uint32_t)more;
    } else if (x < 65 || !begins_with_text(q->op)) {
        q->len -= 1 + below(d, q->len);
        b->len = q->at + q->len;
        if (q->len < 8)
            q->zxid_back = -1;
    } else {
        bool no_null = takes_no_null(q->op);
        buf_put_be32(b, q->at,
                     (uint32_t)lengths[no_null ? 2 + below(d, 5) : below(d, COUNT(lengths))]);
    }
}

static void random_body(struct draw *d)
{
    static const int32_t ops[] = {
        WIRE_OP_CREATE,       WIRE_OP_CREATE2,        WIRE_OP_DELETE,
        WIRE_OP_EXISTS,       WIRE_OP_GET_DATA,       WIRE_OP_SET_DATA,
        WIRE_OP_GET_ACL,      WIRE_OP_SET_ACL,        WIRE_OP_SYNC,
        WIRE_OP_GET_CHILDREN, WIRE_OP_GET_CHILDREN2,  WIRE_OP_MULTI,
        WIRE_OP_ADD_WATCH,    WIRE_OP_REMOVE_WATCHES, WIRE_OP_GET_ALL_CHILDREN_NUMBER};
    struct draw_request *q = begin(d, ops[below(d, COUNT(ops))]);

    for (unsigned i = below(d, 40); i > 0; i--)
        buf_add_u8(out(d), (uint8_t)(0x80 + below(d, 127)));
    end(d, q);
}

/* ---- identities ---- */

static void auth(struct draw *d)
{
    static const struct id good[] = {
        {"digest", "u1:p1"},      {"digest", "u1:p1"},       {"digest", "u2:p2"},
        {"digest", "nopassword"}, {"digest", "a:b:c"},       {"digest", ":x"},
        {"ip", "anything"},       {"digest", "super:wrong"}, {"digest", ""},
    };
    static const struct id bad[] = {{"none", "x"},    {"", ""},      {"world", "anyone"},
                                    {"auth", ""},     {"sasl", "x"}, {"x509", "x"},
                                    {"super", "test"}};
    static const struct id super = {"digest", "super:test"};
    const struct id *i = &good[below(d, COUNT(good))];
    struct draw_request *q = begin(d, WIRE_OP_AUTH);

    q->alone = true; /* rule auth_overtakes */
    if (mille(d, 30)) {
        i = &bad[below(d, COUNT(bad))];
        q->ends = true;
    } else if (mille(d, 60)) {
        i = &super;
    }
    i32(d, percent(d, 90) ? 0 : 1);
    text(d, i->scheme);
    text(d, i->id);
    end(d, q);
}

/* Neither knows it: an empty answer says so. */
static void sasl(struct draw *d)
{
    struct draw_request *q = begin(d, WIRE_OP_SASL);

    q->alone = true;
    bytes(d, "token", below(d, 6));
    end(d, q);
}

/* ---- windows ---- */

/* The root's list refuses something for a while, and then is open again. */
static void closed_root(struct draw *d)
{
    for (int open = 0; open < 2; open++) {
        struct draw_request *q = begin(d, WIRE_OP_SET_ACL);
        text(d, "/");
        i32(d, 1);
        acl_entry(d, open ? WIRE_PERM_ALL : WIRE_PERM_ADMIN | (int32_t)below(d, 32), "world",
                  "anyone");
        i32(d, -1);
        end(d, q);
        for (unsigned i = open ? 0 : 1 + below(d, 6); i > 0; i--)
            any(d);
    }
}

static void unknown_op(struct draw *d)
{
    /* Not a lone check, createSession, deleteContainer (rules check_alone, op_create_session,
     * delete_container) and sasl. */
    static const int32_t ops[] = {0, 10, 23, 99, 108, -2, -1, -12, 1000, INT32_MAX, INT32_MIN};
    struct draw_request *q = begin(d, ops[below(d, COUNT(ops))]);

    q->ends = q->alone = true; /* rule unknown_overtakes */
    if (percent(d, 50))
        path(d, FOR_READS);
    end(d, q);
}

static void draw_requests(struct draw *d)
{
    unsigned n = 1 + below(d, percent(d, 80) ? 100 : 5);

    if (percent(d, 15) && has(d, DRAW_acl))
        auth(d);
    if (d->w->n > 0 && d->w->requests[0].ends)
        return;
    if (percent(d, 2))
        sasl(d);
    if (percent(d, 4) && has(d, DRAW_quota)) {
        quota_setup(d);
        for (unsigned i = below(d, 40); i > 0; i--)
            quota(d);
    }
    while (d->w->n < n && (d->w->n == 0 || !d->w->requests[d->w->n - 1].ends)) {
        if (mille(d, 8)) {
            random_body(d);
        } else if (mille(d, 3)) {
            closed_root(d);
        } else {
            any(d);
            if (mille(d, 25))
                damage(d);
        }
    }
}

void draw_window(struct draw_window *w, uint64_t seed, uint64_t index, unsigned groups)
{
    struct draw d = {{hash_u64(seed) ^ hash_u64(index + 0x9e3779b97f4a7c15)}, w, groups, false};

    w->n = 0;
    w->is_sweep = w->deletes = false;
    w->begin = DRAW_GO_ON;
    w->end = DRAW_STAY;
    buf_clear(&w->bytes);
    w->slot = below(&d, DRAW_SLOTS);
    w->old_client = percent(&d, 5);
    if (index % 24 == 23) {
        w->is_sweep = true;
        w->deletes = percent(&d, 60);
        return;
    }
    if (percent(&d, 3))
        w->begin = DRAW_TAKE_OVER;
    else if (percent(&d, 6))
        w->begin = DRAW_BAD_PASSWORD;
    draw_requests(&d);
    bool ended = w->n > 0 && w->requests[w->n - 1].ends;
    unsigned x = below(&d, 100);
    if (ended) {
        w->end = DRAW_LEAVE;
    } else if (x < 4) {
        w->end = DRAW_CLOSE;
        struct draw_request *q = begin(&d, WIRE_OP_CLOSE_SESSION);
        q->ends = true;
        end(&d, q);
    } else if (x < 7) {
        w->end = DRAW_LEAVE;
    } else if (x < 9) {
        w->end = DRAW_LEAVE;
        unknown_op(&d);
    }
}
