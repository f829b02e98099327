/* SPDX-License-Identifier: Apache-2.0 */
/* The four-letter words, the admin commands and the metrics, as texts: from a real member
 * with a few sessions, and connections and counters that are made up. That a real ZooKeeper
 * writes the same is tests/peer/words.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <regex.h>

#include "lib/lone_member.h"
#include "server/admin.h"
#include "server/monitor.h"
#include "wire/wire.h"

struct scene {
    struct lone lone;
    struct settings settings;
    struct server_facts facts;
    struct raft_members servers;
    struct words words;
    int64_t mask;
    unsigned connections; /* made-up ones */
    bool with_session;
    unsigned resets, connection_resets;
    struct buf out;
};

static void connections(void *ctx, connection_visit *visit, void *visitor)
{
    struct scene *s = ctx;
    struct connection_facts f = {.address = "10.0.0.9:4000", .interest = 1};

    f.member.stats = (struct conn_stats){.received = 7,
                                         .sent = 6,
                                         .last_op = 8,
                                         .last_cxid = 5,
                                         .last_zxid = 0x10,
                                         .last_reply_ms = 1879321,
                                         .last_latency = 3,
                                         .latency = {4, 10, 1, 6}};
    f.member.queued = 1;
    f.member.heard_ms = 5000;
    f.member.opened_wall_ms = 1795263575280;
    if (s->with_session) {
        f.member.session = 0x100001bd5320000;
        f.member.timeout_ms = 10000;
    }
    for (unsigned i = 0; i < s->connections; i++)
        visit(visitor, &f);
}

static uint64_t dir_bytes(void *ctx)
{
    (void)ctx;
    return 4096;
}

static uint64_t files(void *ctx, bool at_most)
{
    (void)ctx;
    return at_most ? 1024 : 17;
}

static void reset(void *ctx, bool of_connections)
{
    struct scene *s = ctx;

    s->connection_resets += of_connections;
    s->resets += !of_connections;
}

static void open_scene(struct scene *s)
{
    memset(s, 0, sizeof *s);
    lone_start(&s->lone, 1);
    s->settings = settings_default();
    strcpy(s->settings.words, "*");
    s->mask = TRACE_MASK_DEFAULT;
    s->servers = (struct raft_members){
        .n = 1, .v = {{.id = 1, .voter = true, .name = "a", .address = "10.0.0.1:2182"}}};
    s->facts = (struct server_facts){.stats = member_stats(s->lone.member),
                                     .version = "1.2",
                                     .mode = "standalone",
                                     .data_dir = "/data",
                                     .servers = &s->servers,
                                     .id = 1,
                                     .leader = 1,
                                     .client_port = 2181,
                                     .peer_port = 2182,
                                     .zxid = 0x2a,
                                     .now_ms = 4000,
                                     .wall_ms = 1700000000000,
                                     .members = 1,
                                     .voters = 1,
                                     .uptime_ms = 777,
                                     .is_serving = true,
                                     .is_leader = true};
    s->words = (struct words){.facts = &s->facts,
                              .settings = &s->settings,
                              .member = s->lone.member,
                              .trace_mask = &s->mask,
                              .ctx = s,
                              .connections = connections,
                              .dir_bytes = dir_bytes,
                              .files = files,
                              .reset = reset};
}

static void close_scene(struct scene *s)
{
    lone_stop(&s->lone);
    buf_free(&s->out);
}

/* Three servers, and this one leads. */
static void lead_three(struct scene *s)
{
    s->servers = (struct raft_members){
        .n = 3,
        .v = {{.id = 1, .voter = true, .name = "a", .address = "10.0.0.1:2182"},
              {.id = 2, .voter = true, .name = "b", .address = "10.0.0.2:2182"},
              {.id = 3, .voter = false, .name = "c", .address = "10.0.0.3:2182"}}};
    s->facts.mode = "leader";
    s->facts.members = 3;
    s->facts.voters = 2;
    s->facts.learners = 2;
    s->facts.synced_voters = 1;
    s->facts.synced_observers = 1;
}

static const char *ask(struct scene *s, const char *word)
{
    buf_clear(&s->out);
    assert_int_equal(word_len(&s->settings, (const uint8_t *)word), strlen(word));
    word_answer(&s->words, (const uint8_t *)word, &s->out);
    return buf_text(&s->out);
}

static json_t *command(struct scene *s, const char *name, const char *argument)
{
    json_error_t error;

    buf_clear(&s->out);
    admin_command(&s->words, name, argument, &s->out);
    json_t *v = json_loads(buf_text(&s->out), 0, &error);
    assert_non_null(v);
    assert_non_null(json_object_get(v, "command"));
    assert_non_null(json_object_get(v, "error"));
    return v;
}

static const char *text_at(const json_t *v, const char *key)
{
    const char *text = json_string_value(json_object_get(v, key));

    return text != NULL ? text : "";
}

static bool fits(const char *pattern, const char *text)
{
    regex_t r;

    assert_int_equal(regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool is_fit = regexec(&r, text, 0, NULL, 0) == 0;
    regfree(&r);
    return is_fit;
}

/* Each line fits, and there are some. */
static void assert_lines(const char *text, const char *pattern)
{
    char line[400];
    unsigned n = 0;

    for (const char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, n++) {
        snprintf(line, sizeof line, "%.*s", (int)(end - at), at);
        if (!fits(pattern, line))
            fail_msg("%s", line);
    }
    assert_true(n > 0);
}

static void watch(struct scene *s, uint64_t conn, int32_t op, const char *path)
{
    const struct wire_path_watch_request q = {wire_bytes(path, strlen(path)), 1};
    struct buf body = {0};

    wire_path_watch_request_encode(&q, &body);
    lone_request(&s->lone, conn, 9, op, &body);
    buf_free(&body);
}

static void create_ephemeral(struct scene *s, uint64_t conn, const char *path)
{
    const struct wire_acl one = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};
    struct buf acl = {0}, body = {0};

    wire_acl_encode(&one, &acl);
    const struct wire_create_request q = {
        wire_bytes(path, strlen(path)), wire_bytes("", 0), {acl.data, acl.len, 1}, 1};
    wire_create_request_encode(&q, &body);
    lone_request(&s->lone, conn, 5, WIRE_OP_CREATE, &body);
    buf_free(&acl);
    buf_free(&body);
}

static int64_t session_of(struct scene *s, uint64_t conn)
{
    struct member_conn_facts f;

    assert_true(member_conn_facts(s->lone.member, conn, &f));
    return f.session;
}

/* ---- words ---- */

static void texts_that_tools_read(void **state)
{
    static const char version[] = "Zookeeper version: 3.8.0-muster-1.2, built on 01/01/2026 "
                                  "00:00 UTC\n";
    static const char rest[] = "Latency min/avg/max: 1/2.5/4\nReceived: 4\nSent: 3\n"
                               "Connections: 5\nOutstanding: 6\nZxid: 0x2a\nMode: standalone\n"
                               "Node count: 9\n";
    struct scene s;
    struct member_stats stats = {.received = 4, .sent = 3, .latency = {2, 5, 1, 4}};
    char whole[1024];
    (void)state;
    open_scene(&s);
    s.facts.stats = &stats;
    s.facts.member.connections = 5;
    s.facts.member.outstanding = 6;
    s.facts.tree.znodes = 9;
    assert_string_equal(ask(&s, "ruok"), "imok");
    assert_string_equal(ask(&s, "isro"), "rw");
    snprintf(whole, sizeof whole, "%s%s", version, rest);
    assert_string_equal(ask(&s, "srvr"), whole);
    s.connections = 2;
    snprintf(whole, sizeof whole,
             "%sClients:\n /10.0.0.9:4000[1](queued=1,recved=7,sent=6)\n"
             " /10.0.0.9:4000[1](queued=1,recved=7,sent=6)\n\n%s",
             version, rest);
    assert_string_equal(ask(&s, "stat"), whole);
    lead_three(&s);
    stats.proposals = (struct sizes){true, 88, 48, 90};
    assert_non_null(strstr(ask(&s, "srvr"), "Mode: leader\nNode count: 9\n"
                                            "Proposal sizes last/min/max: 88/48/90\n"));
    stats.proposals.any = false;
    assert_non_null(strstr(ask(&s, "srvr"), "Proposal sizes last/min/max: -1/-1/-1\n"));
    s.facts.is_read_only = true;
    assert_non_null(strstr(ask(&s, "srvr"), "UTC\nREAD-ONLY mode; serving only read-only "
                                            "clients\nLatency"));
    assert_string_equal(ask(&s, "isro"), "ro");
    assert_string_equal(ask(&s, "dirs"), "datadir_size: 4096\nlogdir_size: 4096\n");
    assert_string_equal(ask(&s, "hash"), "");
    assert_non_null(strstr(ask(&s, "envi"), "Environment:\nzookeeper.version=3.8.0-"));
    close_scene(&s);
}

static void connection_lines(void **state)
{
    struct scene s;
    (void)state;
    open_scene(&s);
    s.connections = 1;
    assert_string_equal(ask(&s, "cons"), " /10.0.0.9:4000[1](queued=1,recved=7,sent=6)\n\n");
    s.with_session = true;
    assert_string_equal(
        ask(&s, "cons"),
        " /10.0.0.9:4000[1](queued=1,recved=7,sent=6,sid=0x100001bd5320000,lop=GETC,"
        "est=1795263575280,to=10000,lcxid=0x5,lzxid=0x10,lresp=1879321,llat=3,minlat=1,"
        "avglat=2,maxlat=6)\n\n");
    s.connections = 0;
    assert_string_equal(ask(&s, "cons"), "\n");
    close_scene(&s);
}

/* A real member's connection: before any answer, after some, after a reset. */
static void what_a_connection_counts(void **state)
{
    struct scene s;
    struct member_conn_facts f;
    (void)state;
    open_scene(&s);
    lone_open(&s.lone, 1);
    assert_true(member_conn_facts(s.lone.member, 1, &f));
    assert_int_equal(f.session, 0);
    assert_int_equal(f.stats.received, 0);
    lone_connect(&s.lone, 2, 0, NULL, 30000);
    assert_true(member_conn_facts(s.lone.member, 2, &f));
    assert_string_equal(words_operation(&f.stats), "SESS");
    assert_int_equal(f.stats.last_cxid, 0);
    assert_int_equal(f.timeout_ms, 30000);
    watch(&s, 2, WIRE_OP_EXISTS, "/x");
    lone_request(&s.lone, 2, WIRE_XID_PING, WIRE_OP_PING, NULL);
    assert_true(member_conn_facts(s.lone.member, 2, &f));
    assert_string_equal(words_operation(&f.stats), "PING");
    assert_int_equal(f.stats.last_cxid, 9); /* a ping's is not one */
    assert_int_equal(f.stats.received, 3);
    assert_int_equal(f.stats.sent, 3);
    assert_int_equal(f.stats.latency.count, 3);
    assert_int_equal(f.stats.last_zxid, tree_zxid(member_tree(s.lone.member)));
    const struct member_stats *m = member_stats(s.lone.member);
    assert_int_equal(m->update.all.count, 1);
    assert_int_equal(m->read.all.count, 2);
    assert_int_equal(m->replies.least, 16);
    assert_int_equal(m->reply_bytes, 16); /* a ping's are not counted */
    create_ephemeral(&s, 2, "/x");        /* and an event for the watch */
    assert_true(member_conn_facts(s.lone.member, 2, &f));
    assert_int_equal(f.stats.sent, 5);
    assert_int_equal(m->event_bytes, 16 + 4 + 4 + 4 + 2);
    member_conns_reset(s.lone.member);
    assert_true(member_conn_facts(s.lone.member, 2, &f));
    assert_string_equal(words_operation(&f.stats), "NA");
    assert_int_equal(f.stats.last_cxid, -1);
    assert_int_equal(f.stats.last_zxid, -1);
    assert_int_equal(f.stats.latency.count, 0);
    assert_int_equal(m->latency.count, 4); /* the server's go on */
    member_stats_reset(s.lone.member);
    assert_int_equal(m->latency.count, 0);
    assert_int_equal(m->received, 0);
    close_scene(&s);
}

static void latency_is_from_the_frame_to_the_answer(void **state)
{
    struct scene s;
    struct member_conn_facts f;
    const struct wire_request_header h = {1, WIRE_OP_SYNC};
    const struct wire_path_request q = {wire_bytes("/", 1)};
    struct buf b = {0};
    (void)state;
    open_scene(&s);
    lone_connect(&s.lone, 1, 0, NULL, 30000);
    member_stats_reset(s.lone.member);
    member_conns_reset(s.lone.member);
    wire_request_header_encode(&h, &b);
    wire_path_request_encode(&q, &b);
    member_client_frame(s.lone.member, 1, b.data, b.len); /* without a turn: it waits */
    assert_true(member_conn_facts(s.lone.member, 1, &f));
    assert_int_equal(f.queued, 1);
    s.lone.now_ms += 25;
    lone_run(&s.lone, 0);
    assert_true(member_conn_facts(s.lone.member, 1, &f));
    assert_int_equal(f.queued, 0);
    assert_int_equal(f.stats.last_latency, 25);
    assert_int_equal(member_stats(s.lone.member)->latency.most, 25);
    assert_int_equal(distribution_at(&member_stats(s.lone.member)->read, 500), 25);
    buf_free(&b);
    close_scene(&s);
}

static void resets(void **state)
{
    struct scene s;
    (void)state;
    open_scene(&s);
    assert_string_equal(ask(&s, "crst"), "Connection stats reset.\n");
    assert_int_equal(s.connection_resets, 1);
    assert_int_equal(s.resets, 0);
    assert_string_equal(ask(&s, "srst"), "Server stats reset.\n");
    assert_int_equal(s.resets, 1);
    close_scene(&s);
}

static void watches(void **state)
{
    struct scene s;
    char expected[200];
    (void)state;
    open_scene(&s);
    assert_string_equal(ask(&s, "wchc"), "\n");
    assert_string_equal(ask(&s, "wchs"), "0 connections watching 0 paths\nTotal watches:0\n");
    lone_connect(&s.lone, 1, 0, NULL, 30000);
    watch(&s, 1, WIRE_OP_EXISTS, "/a");
    watch(&s, 1, WIRE_OP_GET_CHILDREN, "/"); /* not in the table of data watches */
    watches_facts(member_watches_raw(s.lone.member), &s.facts.watches);
    long long id = session_of(&s, 1);
    snprintf(expected, sizeof expected, "0x%llx\n\t/a\n\n", id);
    assert_string_equal(ask(&s, "wchc"), expected);
    snprintf(expected, sizeof expected, "/a\n\t0x%llx\n\n", id);
    assert_string_equal(ask(&s, "wchp"), expected);
    assert_string_equal(ask(&s, "wchs"), "1 connections watching 1 paths\nTotal watches:1\n");
    assert_non_null(strstr(ask(&s, "mntr"), "\nzk_watch_count\t2\n"));
    lone_connect(&s.lone, 2, 0, NULL, 30000);
    watch(&s, 2, WIRE_OP_EXISTS, "/a");
    watch(&s, 2, WIRE_OP_EXISTS, "/b");
    watches_facts(member_watches_raw(s.lone.member), &s.facts.watches);
    assert_string_equal(ask(&s, "wchs"), "2 connections watching 2 paths\nTotal watches:3\n");
    assert_lines(ask(&s, "wchc"), "^(0x[0-9a-f]+|\t/[ab]|)$");
    assert_lines(ask(&s, "wchp"), "^(/[ab]|\t0x[0-9a-f]+|)$");
    close_scene(&s);
}

/* setWatches takes any text for a path, none too: of a watch on it nothing was known to be
 * before. Found by fuzz_words (undefined behaviour, and a line that was missing). */
static void a_watch_on_no_path(void **state)
{
    static const uint8_t one_empty[4] = {0};
    struct scene s;
    struct buf b = {0};
    char expected[60];
    (void)state;
    open_scene(&s);
    lone_connect(&s.lone, 1, 0, NULL, 30000);
    const struct wire_set_watches2_request q = {.persistent = {one_empty, sizeof one_empty, 1}};
    wire_set_watches2_request_encode(&q, &b);
    lone_request(&s.lone, 1, -8, WIRE_OP_SET_WATCHES2, &b);
    buf_free(&b);
    snprintf(expected, sizeof expected, "\n\t0x%llx\n\n", (long long)session_of(&s, 1));
    assert_string_equal(ask(&s, "wchp"), expected);
    close_scene(&s);
}

static void dump(void **state)
{
    struct scene s;
    char expected[600];
    (void)state;
    setenv("TZ", "UTC", 1);
    open_scene(&s);
    lone_connect(&s.lone, 1, 0, NULL, 30000);
    create_ephemeral(&s, 1, "/e");
    create_ephemeral(&s, 1, "/f");
    s.connections = 1;
    s.facts.tree.sessions = 1;
    long long id = session_of(&s, 1);
    s.facts.now_ms = s.lone.now_ms;
    /* It was heard now, at 3,000 ms; ends within 30 s of that; the end of that tick is 34. */
    snprintf(expected, sizeof expected,
             "SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at Tue Nov 14 22:13:51 UTC "
             "2023:\n\t0x%llx\nephemeral nodes dump:\nSessions with Ephemerals (1):\n0x%llx:\n"
             "\t/e\n\t/f\nConnections dump:\nConnections Sets (1)/(1):\n1 expire at Tue Nov 14 "
             "22:13:33 UTC 2023:\n\tip: /10.0.0.9:4000 sessionId: 0x0\n",
             id, id);
    assert_string_equal(ask(&s, "dump"), expected);
    s.facts.is_leader = false;
    snprintf(expected, sizeof expected,
             "SessionTracker dump:\nGlobal Sessions(1):\n0x%llx\t30000ms\n", id);
    assert_memory_equal(ask(&s, "dump"), expected, strlen(expected));
    close_scene(&s);
}

static void configuration(void **state)
{
    static const char alone[] =
        "clientPort=2181\nsecureClientPort=-1\ndataDir=/data\ndataDirSize=4096\n"
        "dataLogDir=/data\ndataLogSize=4096\ntickTime=2000\nmaxClientCnxns=0\n"
        "minSessionTimeout=500\nmaxSessionTimeout=60000\nclientPortListenBacklog=-1\n"
        "serverId=1\n";
    struct scene s;
    (void)state;
    open_scene(&s);
    assert_string_equal(ask(&s, "conf"), alone);
    lead_three(&s);
    assert_memory_equal(ask(&s, "conf"), alone, sizeof alone - 1);
    assert_string_equal(ask(&s, "conf") + sizeof alone - 1,
                        "initLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=2182\n"
                        "quorumPort=2182\npeerType=0\nmembership: \n"
                        "server.1=10.0.0.1:2182:2182:participant\n"
                        "server.2=10.0.0.2:2182:2182:participant\n"
                        "server.3=10.0.0.3:2182:2182:observer\nversion=0");
    s.facts.id = 3;
    assert_non_null(strstr(ask(&s, "conf"), "\npeerType=1\n"));
    close_scene(&s);
}

static void trace_mask(void **state)
{
    static const uint8_t set[12] = {'s', 't', 'm', 'k', 0, 0, 0, 0, 0, 0, 1, 2};
    struct scene s;
    (void)state;
    open_scene(&s);
    assert_string_equal(ask(&s, "gtmk"), "306");
    assert_int_equal(word_len(&s.settings, set), 12);
    buf_clear(&s.out);
    word_answer(&s.words, set, &s.out);
    assert_string_equal(buf_text(&s.out), "258");
    assert_string_equal(ask(&s, "gtmk"), "258");
    strcpy(s.settings.words, "srvr"); /* refused at once, without waiting for the mask */
    assert_int_equal(word_len(&s.settings, set), 4);
    close_scene(&s);
}

static const char all_words[][5] = {"ruok", "srvr", "stat", "mntr", "conf", "cons",
                                    "crst", "srst", "dump", "envi", "wchs", "wchc",
                                    "wchp", "dirs", "isro", "hash", "gtmk"};
#define WORDS (sizeof all_words / sizeof all_words[0])

static bool is_refused(struct scene *s, const char *word)
{
    char expected[200];

    snprintf(expected, sizeof expected,
             "%s is not executed because it is not in the whitelist.\n", word);
    return strcmp(ask(s, word), expected) == 0;
}

static void the_whitelist(void **state)
{
    static const struct {
        const char *list;
        bool read_only_mode;
        const char *lets; /* beside srvr */
    } rows[] = {
        {"srvr", false, ""},
        {"", false, ""},
        {"", true, "isro"},
        {"ruok, stat ,mntr", false, "ruok stat mntr"},
        {"ruokstat,mntrx,co", false, ""},
        {"*x,**", false, ""},
        {"srvr,*", false,
         "ruok stat mntr conf cons crst srst dump envi wchs wchc wchp dirs "
         "isro hash gtmk"},
    };
    struct scene s;
    (void)state;
    open_scene(&s);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        strcpy(s.settings.words, rows[i].list);
        s.settings.read_only_mode = rows[i].read_only_mode;
        for (size_t k = 0; k < WORDS; k++) {
            bool lets =
                strcmp(all_words[k], "srvr") == 0 || strstr(rows[i].lets, all_words[k]) != NULL;
            assert_int_equal(is_refused(&s, all_words[k]), !lets);
        }
    }
    close_scene(&s);
}

static void without_a_quorum(void **state)
{
    struct scene s;
    (void)state;
    open_scene(&s);
    s.facts.is_serving = false;
    for (size_t k = 0; k < WORDS; k++) {
        const char *w = all_words[k], *said = ask(&s, w);
        if (strcmp(w, "ruok") == 0)
            assert_string_equal(said, "imok");
        else if (strcmp(w, "isro") == 0)
            assert_string_equal(said, "null");
        else if (strcmp(w, "gtmk") == 0)
            assert_string_equal(said, "306");
        else if (strcmp(w, "envi") == 0)
            assert_non_null(strstr(said, "Environment:"));
        else if (strcmp(w, "hash") == 0)
            assert_string_equal(said, WORD_NOT_SERVING);
        else
            assert_string_equal(said, WORD_NOT_SERVING "\n");
    }
    assert_int_equal(s.resets + s.connection_resets, 0);
    close_scene(&s);
}

static void what_is_no_word(void **state)
{
    static const char none[][5] = {"ruoK", "RUOK", "\r\nru", "GET ", "srv\n", "kill", "reqs"};
    static const uint8_t length[4] = {0, 0, 0, 45};
    struct scene s;
    (void)state;
    open_scene(&s);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_int_equal(word_len(&s.settings, (const uint8_t *)none[i]), 0);
    assert_int_equal(word_len(&s.settings, length), 0);
    close_scene(&s);
}

static void a_long_answer_is_cut_and_says_so(void **state)
{
    static const char *const words[] = {"cons", "stat", "dump"};
    struct scene s;
    (void)state;
    open_scene(&s);
    s.connections = 100000;
    s.with_session = true;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const char *said = ask(&s, words[i]);
        assert_non_null(strstr(said, "\n... and more: WORD_BYTES_MAX (4194304 bytes)\n"));
        assert_true(s.out.len <= WORD_BYTES_MAX + 1000);
    }
    json_t *v = command(&s, "connections", NULL);
    assert_string_equal(text_at(v, "cut_by"), "WORD_BYTES_MAX");
    assert_true(json_array_size(json_object_get(v, "connections")) > 1000);
    json_decref(v);
    s.connections = 10;
    assert_null(strstr(ask(&s, "cons"), "and more"));
    close_scene(&s);
}

/* ---- metrics ---- */

static void mntr_as_tools_read_it(void **state)
{
    static const char *const keys[] = {
        "version",        "server_state",     "avg_latency",      "max_latency",
        "min_latency",    "packets_received", "packets_sent",     "num_alive_connections",
        "znode_count",    "watch_count",      "ephemerals_count", "approximate_data_size",
        "uptime",         "global_sessions",  "cnt_fsynctime",    "outstanding_requests",
        "p99_readlatency"};
    static const char *const of_leaders[] = {"learners",         "synced_followers",
                                             "synced_observers", "pending_syncs",
                                             "leader_uptime",    "max_proposal_size"};
    struct scene s;
    char key[64];
    (void)state;
    open_scene(&s);
    const char *said = ask(&s, "mntr");
    assert_lines(said,
                 "^zk_[a-z0-9_]+\t(-?[0-9]+|[0-9]+\\.[0-9]{1,4}|standalone|3\\.8\\.0-.*)$");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        snprintf(key, sizeof key, "zk_%s\t", keys[i]);
        assert_non_null(strstr(said, key));
    }
    assert_null(strstr(said, "zk_quorum_size"));
    assert_null(strstr(said, "zk_peer_state"));
    lead_three(&s);
    said = ask(&s, "mntr");
    assert_non_null(strstr(said, "\nzk_quorum_size\t2\n"));
    assert_non_null(strstr(said, "\nzk_peer_state\tleading - broadcast\n"));
    assert_non_null(strstr(said, "\nzk_synced_followers\t1\n"));
    for (size_t i = 0; i < sizeof of_leaders / sizeof of_leaders[0]; i++) {
        snprintf(key, sizeof key, "zk_%s\t", of_leaders[i]);
        assert_non_null(strstr(said, key));
    }
    s.facts.mode = "follower";
    s.facts.is_leader = false;
    said = ask(&s, "mntr");
    assert_non_null(strstr(said, "\nzk_peer_state\tfollowing - broadcast\n"));
    assert_null(strstr(said, "zk_learners"));
    close_scene(&s);
}

static void averages_are_printed_as_java_prints_them(void **state)
{
    static const struct {
        double v;
        const char *text;
    } rows[] = {{0, "0.0"},
                {1.5, "1.5"},
                {2.645, "2.645"},
                {4.857142857, "4.8571"},
                {2.0 / 3, "0.6667"},
                {3, "3.0"},
                {100, "100.0"},
                {0.00004, "0.0"},
                {1234567.25, "1234567.25"}};
    struct buf b = {0};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buf_clear(&b);
        monitor_real(rows[i].v, &b);
        assert_string_equal(buf_text(&b), rows[i].text);
    }
    buf_free(&b);
}

/* Every name once, with its type before its values. */
static void prometheus_text(void **state)
{
    struct scene s;
    char name[100], type[120];
    (void)state;
    open_scene(&s);
    lead_three(&s);
    monitor_prometheus(&s.words, &s.out);
    const char *said = buf_text(&s.out);
    assert_lines(
        said,
        "^(# (HELP|TYPE) [a-z_0-9]+ .+|[a-z_0-9]+(\\{(quantile|limit)=\"[A-Za-z0-9_.]+\"\\})? "
        "-?[0-9]+(\\.[0-9]+)?)$");
    unsigned types = 0;
    for (const char *at = said; (at = strstr(at, "# TYPE ")) != NULL; at++, types++) {
        assert_int_equal(sscanf(at, "# TYPE %90s", name), 1);
        snprintf(type, sizeof type, "# TYPE %s ", name);
        assert_null(strstr(at + 1, type));
    }
    assert_true(types > 80);
    assert_non_null(strstr(said, "# TYPE znode_count gauge\nznode_count "));
    assert_non_null(strstr(said, "# TYPE commit_count counter\ncommit_count "));
    assert_non_null(strstr(said, "# TYPE fsynctime summary\nfsynctime_count "));
    assert_non_null(strstr(said, "\nreadlatency{quantile=\"0.99\"} "));
    assert_non_null(strstr(said, "\nmuster_tree_bytes "));
    assert_non_null(strstr(said, "\nmuster_tree_bytes_max 1006632960\n"));
    assert_non_null(
        strstr(said, "\nmuster_limit_hits_total{limit=\"muster.treeBytesMax\"} 0\n"));
    assert_non_null(strstr(said, "\nmuster_server_term "));
    close_scene(&s);
}

static void the_same_numbers_in_mntr_and_in_json(void **state)
{
    struct scene s;
    char line[200];
    const char *key;
    json_t *value;
    unsigned n = 0;
    (void)state;
    open_scene(&s);
    lone_connect(&s.lone, 1, 0, NULL, 30000);
    json_t *v = command(&s, "mntr", NULL);
    const char *said = ask(&s, "mntr");
    json_object_foreach(v, key, value)
    {
        if (json_is_integer(value))
            snprintf(line, sizeof line, "zk_%s\t%lld\n", key,
                     (long long)json_integer_value(value));
        else
            snprintf(line, sizeof line, "zk_%s\t", key);
        if (strcmp(key, "command") != 0 && strcmp(key, "error") != 0)
            assert_non_null(strstr(said, line));
        n++;
    }
    unsigned lines = 0;
    for (const char *at = said; *at != 0; at++)
        lines += *at == '\n';
    assert_int_equal(n, lines + 2);
    json_decref(v);
    close_scene(&s);
}

/* ---- admin ---- */

static void each_command_by_each_name(void **state)
{
    static const char *const names[][2] = {{"configuration", "conf"},
                                           {"configuration", "config"},
                                           {"connections", "cons"},
                                           {"connection_stat_reset", "crst"},
                                           {"dirs", "dirs"},
                                           {"dump", "dump"},
                                           {"environment", "env"},
                                           {"environment", "envi"},
                                           {"get_trace_mask", "gtmk"},
                                           {"hash", "hash"},
                                           {"initial_configuration", "icfg"},
                                           {"is_read_only", "isro"},
                                           {"last_snapshot", "lsnp"},
                                           {"monitor", "mntr"},
                                           {"observers", "obsr"},
                                           {"observer_connection_stat_reset", "orst"},
                                           {"ruok", "ruok"},
                                           {"server_stats", "srvr"},
                                           {"stats", "stat"},
                                           {"stat_reset", "srst"},
                                           {"system_properties", "sysp"},
                                           {"voting_view", "voting_view"},
                                           {"watch_summary", "wchs"},
                                           {"watches", "wchc"},
                                           {"watches_by_path", "wchp"},
                                           {"zabstate", "zabstate"}};
    struct scene s;
    (void)state;
    open_scene(&s);
    s.connections = 1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (int k = 0; k < 2; k++) {
            json_t *v = command(&s, names[i][k], NULL);
            assert_string_equal(text_at(v, "command"), names[i][0]);
            assert_true(json_is_null(json_object_get(v, "error")));
            json_decref(v);
        }
    buf_clear(&s.out);
    admin_list("/commands", &s.out);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char link[120];
        snprintf(link, sizeof link, "<a href=\"/commands/%s\">%s</a>\n<br/>\n", names[i][0],
                 names[i][0]);
        assert_non_null(strstr(buf_text(&s.out), link));
    }
    close_scene(&s);
}

static void commands_that_fail_say_so(void **state)
{
    static const struct {
        const char *name, *argument, *error;
    } rows[] = {
        {"foo", NULL, "Unknown command: foo"},
        {"", NULL, "Unknown command: "},
        {"a\"b\\\n", NULL, "Unknown command: a\"b\\\n"},
        {"leader", NULL, "server is not initialized"},
        {"set_trace_mask", NULL, "setTraceMask requires long traceMask argument"},
        {"stmk", "x", "setTraceMask requires long traceMask argument, got x"},
        {"stmk", "", "setTraceMask requires long traceMask argument, got "},
        {"stmk", "99999999999999999999",
         "setTraceMask requires long traceMask argument, got 99999999999999999999"},
    };
    struct scene s;
    (void)state;
    open_scene(&s);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *v = command(&s, rows[i].name, rows[i].argument);
        assert_string_equal(text_at(v, "error"), rows[i].error);
        json_decref(v);
    }
    assert_int_equal(s.mask, TRACE_MASK_DEFAULT);
    json_t *v = command(&s, "a\xff", NULL); /* not UTF-8: still an answer */
    json_decref(v);
    v = command(&s, "stmk", "258");
    assert_int_equal(json_integer_value(json_object_get(v, "tracemask")), 258);
    assert_int_equal(s.mask, 258);
    json_decref(v);
    s.facts.is_serving = false;
    v = command(&s, "stat_reset", NULL);
    assert_string_equal(text_at(v, "error"), WORD_NOT_SERVING);
    assert_int_equal(s.resets, 0);
    json_decref(v);
    v = command(&s, "environment", NULL);
    assert_true(json_is_null(json_object_get(v, "error")));
    json_decref(v);
    close_scene(&s);
}

static void commands_about_sessions_and_watches(void **state)
{
    struct scene s;
    char id[32];
    (void)state;
    open_scene(&s);
    lone_connect(&s.lone, 1, 0, NULL, 30000);
    create_ephemeral(&s, 1, "/e\xc3\xa4");
    watch(&s, 1, WIRE_OP_EXISTS, "/a");
    snprintf(id, sizeof id, "%lld", (long long)session_of(&s, 1));
    json_t *v = command(&s, "watches", NULL);
    json_t *list = json_object_get(json_object_get(v, "session_id_to_watched_paths"), id);
    assert_string_equal(json_string_value(json_array_get(list, 0)), "/a");
    json_decref(v);
    v = command(&s, "wchp", NULL);
    list = json_object_get(json_object_get(v, "path_to_session_ids"), "/a");
    assert_int_equal(json_integer_value(json_array_get(list, 0)), session_of(&s, 1));
    json_decref(v);
    v = command(&s, "dump", NULL);
    list = json_object_get(json_object_get(v, "session_id_to_ephemeral_paths"), id);
    assert_string_equal(json_string_value(json_array_get(list, 0)), "/e\xc3\xa4");
    list = json_object_get(v, "expiry_time_to_session_ids");
    list = json_object_get(list, "34000");
    assert_int_equal(json_integer_value(json_array_get(list, 0)), session_of(&s, 1));
    json_decref(v);
    close_scene(&s);
}

static void commands_about_the_ensemble(void **state)
{
    struct scene s;
    (void)state;
    open_scene(&s);
    lead_three(&s);
    s.facts.leader = 2;
    s.facts.is_leader = false;
    json_t *v = command(&s, "leader", NULL);
    assert_string_equal(text_at(v, "leader_ip"), "10.0.0.2");
    assert_int_equal(json_integer_value(json_object_get(v, "leader_id")), 2);
    assert_true(json_is_false(json_object_get(v, "is_leader")));
    json_decref(v);
    v = command(&s, "voting_view", NULL);
    json_t *all = json_object_get(v, "current_config");
    assert_int_equal(json_object_size(all), 2);
    assert_string_equal(text_at(json_object_get(all, "2"), "learner_type"), "participant");
    json_decref(v);
    v = command(&s, "zabstate", NULL);
    assert_string_equal(text_at(v, "zabstate"), "broadcast");
    assert_string_equal(text_at(v, "last_zxid"), "0x2a");
    json_decref(v);
    v = command(&s, "sysp", NULL); /* what stands for a password is not shown */
    assert_null(strstr(buf_text(&s.out), "superDigest"));
    json_decref(v);
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_tools_read),
        cmocka_unit_test(connection_lines),
        cmocka_unit_test(what_a_connection_counts),
        cmocka_unit_test(latency_is_from_the_frame_to_the_answer),
        cmocka_unit_test(resets),
        cmocka_unit_test(watches),
        cmocka_unit_test(a_watch_on_no_path),
        cmocka_unit_test(dump),
        cmocka_unit_test(configuration),
        cmocka_unit_test(trace_mask),
        cmocka_unit_test(the_whitelist),
        cmocka_unit_test(without_a_quorum),
        cmocka_unit_test(what_is_no_word),
        cmocka_unit_test(a_long_answer_is_cut_and_says_so),
        cmocka_unit_test(mntr_as_tools_read_it),
        cmocka_unit_test(averages_are_printed_as_java_prints_them),
        cmocka_unit_test(prometheus_text),
        cmocka_unit_test(the_same_numbers_in_mntr_and_in_json),
        cmocka_unit_test(each_command_by_each_name),
        cmocka_unit_test(commands_that_fail_say_so),
        cmocka_unit_test(commands_about_sessions_and_watches),
        cmocka_unit_test(commands_about_the_ensemble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
