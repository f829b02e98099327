/* SPDX-License-Identifier: Apache-2.0 */
#include "server/zoocfg.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* ---- the rows ---- */

enum row_type { ROW_NUMBER, ROW_FLAG, ROW_TEXT };

struct row {
    const char *key;
    enum row_type type;
    size_t at; /* in struct zoo_config */
    int32_t least, most;
    const char *help;
};

#define S(field) (offsetof(struct zoo_config, settings) + offsetof(struct settings, field))
#define Z(field) offsetof(struct zoo_config, field)
static const struct row rows[] = {
#define N(field, key, value, least, most, help) {key, ROW_NUMBER, Z(field), least, most, help},
#define B(field, key, value, help) {key, ROW_FLAG, Z(field), 0, 0, help},
#define T(field, key, value, help) {key, ROW_TEXT, Z(field), 0, 0, help},
    ZOO_KEYS(N, B, T)
#undef N
#undef B
#undef T
#define N(field, key, value, least, most, help) {key, ROW_NUMBER, S(field), least, most, help},
#define B(field, key, value, help) {key, ROW_FLAG, S(field), 0, 0, help},
#define T(field, key, value, help) {key, ROW_TEXT, S(field), 0, 0, help},
        SETTINGS(N, B, T)
#undef N
#undef B
#undef T
};
#define ROWS (sizeof rows / sizeof rows[0])
_Static_assert(ROWS <= sizeof((struct zoo_config *)0)->origin / sizeof(unsigned),
               "zoo_config.origin has room for every row");

/* What ZooKeeper knows and muster does not do. A key that is a row above never gets here.
 *   I(key, why)         accepted: what it is for does not exist here, or is done otherwise
 *   R(key, fine, what)  refused, unless its value is `fine` (then it asks for nothing) */
/* clang-format off */
#define ZOO_OTHERS(I, R)                                                                        \
    I("admin.idleTimeout", "idle connections are ended after a time of their own")              \
    I("audit.impl.class", "there is no audit log yet")                                          \
    I("autopurge.purgeInterval", "old snapshots go by themselves")                              \
    I("closeSessionTxn.enabled", "the log holds requests")                                       \
    I("commitProcessor.*", "one loop does the work")                                             \
    I("connectToLearnerMasterLimit", "an election takes less than a second")                     \
    I("cnxTimeout", "elections have no connections of their own")                               \
    I("digest.enabled", "replicas always compare their trees, in their own way")                       \
    I("electionAlg", "elections are Raft's")                                                    \
    I("electionPortBindRetry", "there is no election port")                                     \
    I("emulate353TTLNodes", "there are no znodes of 3.5.3 here")                                \
    I("fastleader.*", "elections are Raft's")                                                   \
    I("flushDelay", "saves are gathered while one is at the disk")                              \
    I("fsync.warningthresholdms", "slow saves are logged, and leadership is handed over")        \
    I("jmx.*", "there is no JVM")                                                               \
    I("jute.maxbuffer.extrasize", "answers and the log have limits of their own")               \
    I("jvm.*", "there is no JVM")                                                               \
    I("leader.*", "replication is Raft's")                                                      \
    I("leaderServes", "a leader serves clients")                                                \
    I("learner.*", "replication is Raft's")                                                     \
    I("localSessions*", "every session is the whole ensemble's")                                \
    I("maxBatchSize", "saves are gathered while one is at the disk")                            \
    I("maxGetChildrenResponseCacheSize", "answers are not kept")                                \
    I("maxResponseCacheSize", "answers are not kept")                                           \
    I("metricsProvider.*", "metrics are on the HTTP port: /metrics")                            \
    I("multiAddress.*", "a server has one address")                                             \
    I("netty.*", "connections are libuv's")                                                     \
    I("nio.*", "connections are libuv's")                                                       \
    I("observer.*", "replication is Raft's")                                                    \
    I("observerMasterPort", "observers follow the leader")                                      \
    I("preAllocSize", "the log reserves room by itself")                                        \
    I("quorum.cnxn.threads.size", "one loop does the work")                                     \
    I("quorumCnxnTimeoutMs", "elections have no connections of their own")                      \
    I("request.timeout", "this is a client's setting")                                          \
    I("requestThrottleDropStale", "see requestThrottleLimit")                                   \
    I("requestThrottleStallTime", "see requestThrottleLimit")                                   \
    I("requestThrottler.*", "see requestThrottleLimit")                                         \
    I("request_throttle*", "see requestThrottleLimit")                                          \
    I("serializeLastProcessedZxid.enabled", "snapshots are of another form")                    \
    I("server.jvm.*", "there is no JVM")                                                        \
    I("serverCnxnFactory", "connections are libuv's")                                           \
    I("shutdownTimeout", "a stop takes half a second at most")                                  \
    I("snapshot.compression.method", "snapshots are not compressed")                            \
    I("snapshot.trust.empty", "an empty store is never taken for a lost one")                   \
    I("snapSizeLimitInKb", "a snapshot follows 64 MiB of log at the latest")                     \
    I("syncEnabled", "an observer always keeps its log and snapshots")                          \
    I("tcpKeepAlive", "keep-alive is always on")                                                \
    I("throttled_*", "see throttledOpWaitTime")                                                 \
    I("txnLogSizeLimitInKb", "the log's files have a size of their own")                        \
    I("watchManagerName", "there is one kind of watches")                                       \
    I("watcherClean*", "watches go with their connection")                                      \
    I("zookeeper_*", "set for the start script")                                                \
    R("admin.forceHttps", "false", "there is no TLS on the HTTP port: leave it out")             \
    R("admin.portUnification", "false", "there is no TLS on the HTTP port: leave it out")        \
    R("audit.enable", "false", "there is no audit log yet: leave it out")                       \
    R("authProvider.*", "", "other ways to prove who one is (SASL, x509, plugins) do not exist yet: leave it out and use digest") \
    R("client.portUnification", "false", "there is no TLS for clients yet: leave it out")       \
    R("forceSync", "yes", "every acknowledged write is on the disk: leave it out")              \
    R("group.*", "", "the quorum is a majority of the participants: leave out group.* and weight.*") \
    R("kerberos.*", "", "there is no SASL yet: leave it out")                                   \
    R("letAnySaslUserDoX", "", "there is no SASL yet: leave it out")                            \
    R("oraclePath", "", "the quorum is a majority of the participants: leave it out")            \
    R("portUnification", "false", "there is no TLS between servers yet: leave it out")          \
    R("quorum.auth.enableSasl", "false", "there is no SASL between servers: leave it out and set muster.secretFile") \
    R("quorum.auth.learnerRequireSasl", "false", "there is no SASL between servers: leave it out and set muster.secretFile") \
    R("quorum.auth.serverRequireSasl", "false", "there is no SASL between servers: leave it out and set muster.secretFile") \
    I("quorum.auth.*", "only for SASL between servers")                                         \
    R("requireClientAuthScheme", "", "there is no SASL yet: leave it out")                      \
    R("secureClientPort", "", "there is no TLS for clients yet: put a proxy that ends TLS before clientPort, and leave it out") \
    R("secureClientPortAddress", "", "there is no TLS for clients yet: leave it out")           \
    R("sessionRequireClientSASLAuth", "false", "there is no SASL yet: leave it out")            \
    R("ssl.*", "", "there is no TLS yet: leave it out")                                         \
    R("sslQuorum", "false", "there is no TLS between servers yet: leave it out, and keep the servers on a network of their own") \
    R("sslQuorumReloadCertFiles", "false", "there is no TLS between servers yet: leave it out")  \
    R("superUser*", "", "there is no SASL or x509 yet: use DigestAuthenticationProvider.superDigest") \
    R("weight.*", "", "the quorum is a majority of the participants: leave out group.* and weight.*") \
    R("X509AuthenticationProvider.*", "", "there is no TLS for clients yet: leave it out")
/* clang-format on */

static const struct {
    struct zoo_key key;
    const char *fine;
} others[] = {
#define I(key, why) {{key, ZOO_IGNORED, why}, NULL},
#define R(key, fine, what) {{key, ZOO_REFUSED, what}, fine},
    ZOO_OTHERS(I, R)
#undef I
#undef R
};
#define OTHERS (sizeof others / sizeof others[0])

bool zoo_key_at(unsigned i, struct zoo_key *out)
{
    if (i < ROWS)
        *out = (struct zoo_key){rows[i].key, ZOO_EFFECT, rows[i].help};
    else if (i == ROWS)
        *out = (struct zoo_key){"server.N", ZOO_EFFECT, "a server of the ensemble"};
    else if (i - ROWS - 1 < OTHERS)
        *out = others[i - ROWS - 1].key;
    else
        return false;
    return true;
}

/* ---- what is wrong ---- */

struct reader {
    struct zoo_config *c;
    const char *file;
    unsigned line; /* of what is read now */
    bool is_dynamic;
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
problem(struct reader *r, const char *format, ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->c->problems_n++;
    if (r->line > 0)
        buf_printf(&r->c->problems, "%s:%u: %s\n", r->file, r->line, text);
    else
        buf_printf(&r->c->problems, "%s: %s\n", r->file, text);
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
warn(struct reader *r, const char *format, ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (r->line > 0)
        buf_printf(&r->c->warnings, "%s:%u: %s\n", r->file, r->line, text);
    else
        buf_printf(&r->c->warnings, "%s: %s\n", r->file, text);
}

/* ---- near names ---- */

static unsigned distance(const char *a, const char *b)
{
    unsigned row[64], len = (unsigned)strlen(b);

    if (len >= sizeof row / sizeof row[0] || strlen(a) >= sizeof row / sizeof row[0])
        return 99;
    for (unsigned k = 0; k <= len; k++)
        row[k] = k;
    for (unsigned i = 0; a[i] != 0; i++) {
        unsigned corner = row[0];
        row[0] = i + 1;
        for (unsigned k = 0; k < len; k++) {
            unsigned change = corner + ((a[i] | 0x20) != (b[k] | 0x20));
            unsigned less = row[k] < row[k + 1] ? row[k] + 1 : row[k + 1] + 1;
            corner = row[k + 1];
            row[k + 1] = change < less ? change : less;
        }
    }
    return row[len];
}

static const char *nearest(const char *typed)
{
    struct zoo_key k;
    const char *best = NULL;
    unsigned least = strlen(typed) < 4 ? 2 : 4;

    for (unsigned i = 0; zoo_key_at(i, &k); i++) {
        unsigned d = distance(typed, k.key);
        if (d < least) {
            least = d;
            best = k.key;
        }
    }
    return best;
}

/* ---- values ---- */

static bool is_text(const char *a, const char *b) /* whatever the case */
{
    for (; *a != 0 && *b != 0; a++, b++)
        if ((*a | 0x20) != (*b | 0x20))
            return false;
    return *a == *b;
}

static void set_number(struct reader *r, const struct row *row, const char *value)
{
    char *end;
    long long n = strtoll(value, &end, 10);

    if (*value == 0 || *end != 0 || n < row->least || n > row->most) {
        problem(r, "%s: %.100s is not a whole number from %" PRId32 " to %" PRId32 " (%s)",
                row->key, *value != 0 ? value : "nothing", row->least, row->most, row->help);
        return;
    }
    *(int32_t *)(void *)((char *)r->c + row->at) = (int32_t)n;
}

static void set_flag(struct reader *r, const struct row *row, const char *value)
{
    bool yes = is_text(value, "true") || is_text(value, "yes");

    if (!yes && !is_text(value, "false") && !is_text(value, "no")) {
        problem(r, "%s: %.100s is neither true nor false (%s)", row->key,
                *value != 0 ? value : "nothing", row->help);
        return;
    }
    *(bool *)((char *)r->c + row->at) = yes;
}

static void set_text(struct reader *r, const struct row *row, const char *value)
{
    if (strlen(value) >= SETTING_TEXT_MAX) {
        problem(r, "%s: the value has %zu characters, at most %d are allowed", row->key,
                strlen(value), SETTING_TEXT_MAX - 1);
        return;
    }
    memcpy((char *)r->c + row->at, value, strlen(value) + 1);
}

static void set_row(struct reader *r, unsigned i, const char *value)
{
    const struct row *row = &rows[i];

    if (r->c->origin[i] != 0)
        warn(r, "%s: given before, in line %u; this one counts", row->key, r->c->origin[i]);
    r->c->origin[i] = r->line;
    /* So ZooKeeper's own examples say "the default". */
    if ((strcmp(row->key, "minSessionTimeout") == 0 ||
         strcmp(row->key, "maxSessionTimeout") == 0) &&
        strcmp(value, "-1") == 0) {
        r->c->origin[i] = 0;
        return;
    }
    switch (row->type) {
    case ROW_NUMBER: set_number(r, row, value); break;
    case ROW_FLAG: set_flag(r, row, value); break;
    case ROW_TEXT: set_text(r, row, value); break;
    }
}

/* ---- server lines ---- */

static void add_server(struct reader *r, const char *key, const char *value)
{
    struct zoo_config *c = r->c;
    struct server_line s = {0};
    struct buf why = {0};
    unsigned at = c->servers_n;

    if (!server_line_id(key + 7, strlen(key + 7), &s.id) || s.id < 1) {
        problem(r, "%s: behind \"server.\" stands the server's number, from 1 on", key);
        return;
    }
    if (server_line_parse(&s, value, strlen(value), &why) != 0) {
        problem(r, "%s: %.200s: %s", key, value, buf_text(&why));
        buf_free(&why);
        return;
    }
    buf_free(&why);
    if (zoo_config_server(c, s.id) != NULL) {
        problem(r, "%s: this server has a line already", key);
        return;
    }
    if (c->servers_n == ENSEMBLE_MAX) {
        problem(r, "%s: an ensemble has at most %d servers", key, ENSEMBLE_MAX);
        return;
    }
    for (unsigned i = 0; i < c->servers_n; i++)
        if (strcmp(c->servers[i].host, s.host) == 0 &&
            c->servers[i].quorum_port == s.quorum_port) {
            problem(r, "%s: server %" PRId64 " has the same host and port", key,
                    c->servers[i].id);
            return;
        }
    for (; at > 0 && c->servers[at - 1].id > s.id; at--)
        c->servers[at] = c->servers[at - 1];
    c->servers[at] = s;
    c->servers_n++;
}

/* ---- one key ---- */

static bool matches(const char *pattern, const char *key)
{
    size_t len = strlen(pattern);

    if (pattern[len - 1] == '*')
        return strncmp(pattern, key, len - 1) == 0;
    return strcmp(pattern, key) == 0;
}

static bool take_other(struct reader *r, const char *key, const char *value)
{
    for (unsigned i = 0; i < OTHERS; i++) {
        if (!matches(others[i].key.key, key))
            continue;
        if (others[i].key.kind == ZOO_IGNORED)
            buf_printf(&r->c->ignored, "%s%s", r->c->ignored.len > 0 ? ", " : "", key);
        else if (!is_text(value, others[i].fine) &&
                 !(is_text(others[i].fine, "yes") && is_text(value, "true")))
            problem(r, "%s: not supported: %s", key, others[i].key.help);
        return true;
    }
    return false;
}

static void take_pair(struct reader *r, const char *key, const char *value)
{
    const char *name = strncmp(key, "zookeeper.", 10) == 0 ? key + 10 : key;

    if (strncmp(name, "server.", 7) == 0 && name == key && strncmp(name + 7, "jvm.", 4) != 0) {
        add_server(r, key, value);
        return;
    }
    if (r->is_dynamic) {
        if (strcmp(key, "version") != 0 && !take_other(r, key, value))
            problem(r, "%.100s: a dynamic configuration file holds server lines only", key);
        return;
    }
    for (unsigned i = 0; i < ROWS; i++)
        if (strcmp(rows[i].key, name) == 0) {
            set_row(r, i, value);
            return;
        }
    if (take_other(r, name, value))
        return;
    const char *near = nearest(name);
    if (near != NULL)
        warn(r, "%.100s: unknown key, without effect; is %s meant?", key, near);
    else
        warn(r, "%.100s: unknown key, without effect", key);
}

/* ---- Java's properties ---- */

struct text {
    const uint8_t *at, *end;
    unsigned line;
};

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\f'; }

static bool is_line_end(uint8_t c) { return c == '\n' || c == '\r'; }

static void next_line(struct text *t)
{
    while (t->at < t->end && !is_line_end(*t->at))
        t->at++;
    if (t->at < t->end && *t->at == '\r' && t->at + 1 < t->end && t->at[1] == '\n')
        t->at++;
    if (t->at < t->end)
        t->at++;
    t->line++;
}

static void skip_blanks(struct text *t)
{
    while (t->at < t->end && is_blank(*t->at))
        t->at++;
}

static void add_utf8(struct buf *out, unsigned c)
{
    if (c < 0x80) {
        buf_add_u8(out, (uint8_t)c);
    } else if (c < 0x800) {
        buf_add_u8(out, (uint8_t)(0xc0 | c >> 6));
        buf_add_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        buf_add_u8(out, (uint8_t)(0xe0 | c >> 12));
        buf_add_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        buf_add_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

static bool take_unicode(struct text *t, struct buf *out)
{
    unsigned c = 0;

    if (t->end - t->at < 4)
        return false;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t d = t->at[i];
        unsigned v = d >= '0' && d <= '9'   ? d - (unsigned)'0'
                     : d >= 'a' && d <= 'f' ? d - 'a' + 10u
                     : d >= 'A' && d <= 'F' ? d - 'A' + 10u
                                            : 16;
        if (v == 16)
            return false;
        c = 16 * c + v;
    }
    t->at += 4;
    add_utf8(out, c);
    return c != 0;
}

/* Behind a backslash. False: it is no valid escape. */
static bool take_escape(struct text *t, struct buf *out)
{
    if (t->at == t->end)
        return true;
    if (is_line_end(*t->at)) { /* the line goes on in the next one */
        next_line(t);
        skip_blanks(t);
        return true;
    }
    uint8_t c = *t->at++;
    if (c == 'u')
        return take_unicode(t, out);
    buf_add_u8(out, c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 'f' ? '\f' : c);
    return true;
}

/* Up to the end of the line; of a key also up to '=', ':' or a blank. */
static bool take_word(struct text *t, bool is_key, struct buf *out)
{
    bool ok = true;

    while (t->at < t->end && !is_line_end(*t->at)) {
        uint8_t c = *t->at;
        if (is_key && (c == '=' || c == ':' || is_blank(c)))
            break;
        t->at++;
        if (c == '\\')
            ok = take_escape(t, out) && ok;
        else if (c == 0)
            ok = false;
        else
            buf_add_u8(out, c);
    }
    return ok;
}

static void take_line(struct reader *r, struct text *t)
{
    struct buf key = {0}, value = {0};

    r->line = t->line;
    bool ok = take_word(t, true, &key);
    skip_blanks(t);
    if (t->at < t->end && (*t->at == '=' || *t->at == ':')) {
        t->at++;
        skip_blanks(t);
    }
    ok = take_word(t, false, &value) && ok;
    while (value.len > 0 && (value.data[value.len - 1] <= ' '))
        value.len--; /* so ZooKeeper does */
    if (!ok)
        problem(r, "%.100s: a NUL or a broken \\u escape (four hexadecimal digits follow)",
                buf_text(&key));
    else
        take_pair(r, buf_text(&key), buf_text(&value));
    buf_free(&key);
    buf_free(&value);
}

static void parse(struct reader *r, const uint8_t *data, size_t len)
{
    struct text t = {data, data + len, 1};

    while (t.at < t.end) {
        skip_blanks(&t);
        if (t.at < t.end && *t.at != '#' && *t.at != '!' && !is_line_end(*t.at))
            take_line(r, &t);
        next_line(&t);
    }
}

/* ---- the whole ---- */

static unsigned *origin_of(struct zoo_config *c, const char *key)
{
    for (unsigned i = 0; i < ROWS; i++)
        if (strcmp(rows[i].key, key) == 0)
            return &c->origin[i];
    UNREACHABLE("a key that is a row");
}

void zoo_config_parse(struct zoo_config *c, const char *file, const uint8_t *data, size_t len)
{
    struct reader r = {.c = c, .file = file};

#define N(field, key, value, least, most, help) .field = (value),
#define B(field, key, value, help) .field = (value),
#define T(field, key, value, help) .field = value,
    *c = (struct zoo_config){ZOO_KEYS(N, B, T)};
#undef N
#undef B
#undef T
    c->settings = settings_default();
    /* What zoo.cfg leaves out is as ZooKeeper has it, where that is seen from outside. */
    c->settings.tick_ms = 3000;
    c->settings.clients_from_one_max = 60;
    c->settings.admin_port = 8080;
    memcpy(c->settings.admin_address, "0.0.0.0", sizeof "0.0.0.0");
    memcpy(c->settings.words, "srvr", sizeof "srvr");
    parse(&r, data, len);
}

void zoo_config_parse_dynamic(struct zoo_config *c, const char *file, const uint8_t *data,
                              size_t len)
{
    struct reader r = {.c = c, .file = file, .is_dynamic = true};

    if (c->servers_n > 0) {
        problem(&r, "there are server lines beside dynamicConfigFile: move them into it");
        return;
    }
    parse(&r, data, len);
}

static void finish_sessions(struct reader *r)
{
    struct zoo_config *c = r->c;
    struct settings *s = &c->settings;

    if (*origin_of(c, "minSessionTimeout") == 0)
        s->session_min_ms = 2 * s->tick_ms;
    if (*origin_of(c, "maxSessionTimeout") == 0)
        s->session_max_ms = 20 * s->tick_ms;
    if (s->session_min_ms > s->session_max_ms)
        problem(r,
                "minSessionTimeout is %" PRId32 " ms, more than maxSessionTimeout, %" PRId32
                " ms (2 and 20 ticks where not given)",
                s->session_min_ms, s->session_max_ms);
}

static void finish_servers(struct reader *r)
{
    struct zoo_config *c = r->c;
    unsigned voters = zoo_config_participants(c);

    if (c->servers_n > 0 && voters == 0)
        problem(r, "all servers are observers: at least one must be a participant");
    else if (voters == 1 && c->servers_n > 1 && c->settings.standalone_enabled)
        problem(r, "observers beside a single participant: set standaloneEnabled=false, or "
                   "make more of them participants");
    else if (voters > 1 && voters % 2 == 0)
        warn(r, "%u participants bear the loss of %u, as %u would", voters, (voters - 1) / 2,
             voters - 1);
    if (!is_text(c->peer_type, "observer") && !is_text(c->peer_type, "participant"))
        problem(r, "peerType: %.100s is neither participant nor observer", c->peer_type);
    if (c->client_port == 0 && c->servers_n == 0)
        problem(r, "clientPort is not set: clients need a port, as clientPort=2181");
}

void zoo_config_finish(struct zoo_config *c, const char *file)
{
    struct reader r = {.c = c, .file = file};

    if (c->data_dir[0] == 0)
        problem(&r, "dataDir is not set: it says where the data and myid are");
    finish_sessions(&r);
    finish_servers(&r);
}

void zoo_config_free(struct zoo_config *c)
{
    buf_free(&c->problems);
    buf_free(&c->warnings);
    buf_free(&c->ignored);
}

unsigned zoo_config_participants(const struct zoo_config *c)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->servers_n; i++)
        n += !c->servers[i].is_observer;
    return n;
}

bool zoo_config_is_alone(const struct zoo_config *c)
{
    return c->servers_n == 0 || (c->servers_n == 1 && c->settings.standalone_enabled);
}

const struct server_line *zoo_config_server(const struct zoo_config *c, int64_t id)
{
    for (unsigned i = 0; i < c->servers_n; i++)
        if (c->servers[i].id == id)
            return &c->servers[i];
    return NULL;
}

bool zoo_myid_parse(const uint8_t *data, size_t len, int64_t *id, struct buf *why)
{
    size_t end = 0;

    while (end < len && data[end] != '\n')
        end++;
    while (end > 0 && data[end - 1] <= ' ')
        end--;
    while (end > 0 && *data <= ' ')
        data++, end--;
    if (server_line_id((const char *)data, end, id) && *id >= 1)
        return true;
    buf_add_str(why, "its first line must be the server's number, 1 to 255, as in server.N");
    return false;
}

void zoo_config_print(const struct zoo_config *c, const char *file, struct buf *out)
{
    struct buf line = {0};

    for (unsigned i = 0; i < ROWS; i++) {
        const char *at = (const char *)c + rows[i].at;
        buf_clear(&line);
        buf_printf(&line, "%s=", rows[i].key);
        switch (rows[i].type) {
        case ROW_NUMBER:
            buf_printf(&line, "%" PRId32, *(const int32_t *)(const void *)at);
            break;
        case ROW_FLAG: buf_add_str(&line, *(const bool *)at ? "true" : "false"); break;
        case ROW_TEXT:
            /* What opens everything is not printed into terminals and tickets. */
            buf_add_str(&line,
                        strstr(rows[i].key, "superDigest") != NULL && *at != 0 ? "***" : at);
            break;
        }
        buf_printf(out, "%-52s # ", buf_text(&line));
        if (c->origin[i] != 0)
            buf_printf(out, "%s:%u\n", file, c->origin[i]);
        else
            buf_add_str(out, "default\n");
    }
    for (unsigned i = 0; i < c->servers_n; i++) {
        server_line_print(&c->servers[i], out);
        buf_add_str(out, "\n");
    }
    buf_free(&line);
}
