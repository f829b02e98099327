/* SPDX-License-Identifier: Apache-2.0 */
/* zoo.cfg: every key, Java's properties, what is refused and with which line; and that the
 * documentation knows every key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/zoocfg.h"

#define GOOD "dataDir=/d\nclientPort=2181\n"

static struct zoo_config read_text(const char *text)
{
    struct zoo_config c;

    zoo_config_parse(&c, "zoo.cfg", (const uint8_t *)text, strlen(text));
    zoo_config_finish(&c, "zoo.cfg");
    return c;
}

static struct zoo_config read_good(const char *more)
{
    char text[4096];

    snprintf(text, sizeof text, GOOD "%s", more);
    struct zoo_config c = read_text(text);
    if (c.problems_n > 0)
        fail_msg("%s: %s", more, buf_text(&c.problems));
    return c;
}

static void expect_in(struct buf *b, const char *part)
{
    if (strstr(buf_text(b), part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, buf_text(b));
}

static void defaults_are_zookeepers(void **state)
{
    (void)state;
    struct zoo_config c = read_good("");
    assert_string_equal(c.data_dir, "/d");
    assert_int_equal(c.client_port, 2181);
    assert_string_equal(c.client_address, "0.0.0.0");
    assert_int_equal(c.settings.tick_ms, 3000);
    assert_int_equal(c.settings.session_min_ms, 6000);
    assert_int_equal(c.settings.session_max_ms, 60000);
    assert_int_equal(c.settings.clients_from_one_max, 60);
    assert_string_equal(c.settings.words, "srvr");
    assert_int_equal(c.settings.admin_port, 8080);
    assert_string_equal(c.settings.admin_address, "0.0.0.0");
    assert_true(zoo_config_is_alone(&c));
    assert_int_equal(c.warnings.len + c.ignored.len, 0);
    zoo_config_free(&c);
}

static void properties_are_javas(void **state)
{
    (void)state;
    struct zoo_config c = read_text("# a comment\\\r\n"
                                    "  ! another\n"
                                    "\n"
                                    "dataDir : /with\\ blank \t\r\n"
                                    "client\\\n"
                                    "   Port 2181\n"
                                    "\ttickTime\t=\t2000\r"
                                    "4lw.commands.whitelist=ruok,\\\n"
                                    "    srvr\n"
                                    "zookeeper.snapCount=77\n"
                                    "admin.commandURL=/\\u0061\\=b\\:c\n"
                                    "peerType=observer");
    assert_int_equal(c.problems_n, 0);
    assert_string_equal(c.data_dir, "/with blank");
    assert_int_equal(c.client_port, 2181);
    assert_int_equal(c.settings.tick_ms, 2000);
    assert_string_equal(c.settings.words, "ruok,srvr");
    assert_int_equal(c.settings.snapshot_every, 77);
    assert_string_equal(c.settings.admin_url, "/a=b:c");
    assert_string_equal(c.peer_type, "observer");
    zoo_config_free(&c);
}

static void session_limits_follow_the_tick(void **state)
{
    (void)state;
    struct zoo_config c = read_good("tickTime=500\n");
    assert_int_equal(c.settings.session_min_ms, 1000);
    assert_int_equal(c.settings.session_max_ms, 10000);
    zoo_config_free(&c);
    c = read_good("tickTime=500\nminSessionTimeout=-1\nmaxSessionTimeout=7000\n");
    assert_int_equal(c.settings.session_min_ms, 1000);
    assert_int_equal(c.settings.session_max_ms, 7000);
    zoo_config_free(&c);
    c = read_text(GOOD "minSessionTimeout=70000\n");
    expect_in(&c.problems, "minSessionTimeout is 70000 ms, more than maxSessionTimeout");
    zoo_config_free(&c);
}

/* Each row: a value that is taken, and one that is refused with line, key, value and range. */
static void every_key_is_taken_and_checked(void **state)
{
    char text[1024], part[300];

    (void)state;
#define N(field, name, value, least, most, help)                                               \
    snprintf(text, sizeof text, "dataDir=/d\n%s=%d\n", name, (int)(least));                    \
    {                                                                                          \
        struct zoo_config c = {0};                                                             \
        zoo_config_parse(&c, "f", (const uint8_t *)text, strlen(text));                        \
        assert_int_equal(c.problems_n, 0);                                                     \
        assert_int_equal(c.AT(field), least);                                                  \
        zoo_config_free(&c);                                                                   \
        snprintf(text, sizeof text, "dataDir=/d\n\n%s=%lld\n", name, (long long)(most) + 1);   \
        zoo_config_parse(&c, "f", (const uint8_t *)text, strlen(text));                        \
        snprintf(part, sizeof part, "f:3: %s: %lld is not a whole number from %d to %d", name, \
                 (long long)(most) + 1, (int)(least), (int)(most));                            \
        expect_in(&c.problems, part);                                                          \
        zoo_config_free(&c);                                                                   \
    }
#define B(field, name, value, help)                                                    \
    {                                                                                  \
        static const char *const words[] = {"true", "FALSE", "yes", "No"};             \
        struct zoo_config c = {0};                                                     \
        for (int i = 0; i < 4; i++) {                                                  \
            snprintf(text, sizeof text, "%s=%s\n", name, words[i]);                    \
            zoo_config_parse(&c, "f", (const uint8_t *)text, strlen(text));            \
            assert_int_equal(c.problems_n, 0);                                         \
            assert_int_equal(c.AT(field), i % 2 == 0);                                 \
            zoo_config_free(&c);                                                       \
        }                                                                              \
        snprintf(text, sizeof text, "%s=maybe\n", name);                               \
        zoo_config_parse(&c, "f", (const uint8_t *)text, strlen(text));                \
        snprintf(part, sizeof part, "f:1: %s: maybe is neither true nor false", name); \
        expect_in(&c.problems, part);                                                  \
        zoo_config_free(&c);                                                           \
    }
#define T(field, name, value, help)                                                      \
    {                                                                                    \
        struct zoo_config c = {0};                                                       \
        snprintf(text, sizeof text, "%s=some text\n", name);                             \
        zoo_config_parse(&c, "f", (const uint8_t *)text, strlen(text));                  \
        assert_int_equal(c.problems_n, 0);                                               \
        assert_string_equal(c.AT(field), "some text");                                   \
        zoo_config_free(&c);                                                             \
        snprintf(text, sizeof text, "%s=%300d\n", name, 1);                              \
        zoo_config_parse(&c, "f", (const uint8_t *)text, strlen(text));                  \
        assert_int_equal(c.problems_n, 0); /* blanks in front do not count */            \
        zoo_config_free(&c);                                                             \
        snprintf(text, sizeof text, "%s=%0300d\n", name, 1);                             \
        zoo_config_parse(&c, "f", (const uint8_t *)text, strlen(text));                  \
        expect_in(&c.problems, "the value has 300 characters, at most 255 are allowed"); \
        zoo_config_free(&c);                                                             \
    }
#define AT(f) settings.f
    SETTINGS(N, B, T)
#undef AT
#define AT(f) f
    ZOO_KEYS(N, B, T)
#undef AT
#undef N
#undef B
#undef T
}

static void numbers_are_whole(void **state)
{
    static const char *const bad[] = {"",   "2s", "1.5", "0x10", "-5", "99999999999999999999",
                                      "two"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[200];
        snprintf(text, sizeof text, "dataDir=/d\nclientPort=1\ntickTime=%s\n", bad[i]);
        struct zoo_config c = read_text(text);
        expect_in(&c.problems, "zoo.cfg:3: tickTime: ");
        zoo_config_free(&c);
    }
}

static void what_has_no_effect_is_named_once(void **state)
{
    (void)state;
    struct zoo_config c = read_good("preAllocSize=65536\nforceSync=yes\nelectionAlg=3\n"
                                    "metricsProvider.httpPort=7000\nsslQuorum=false\n"
                                    "zookeeper.nio.numSelectorThreads=2\n");
    assert_string_equal(buf_text(&c.ignored), "preAllocSize, electionAlg, "
                                              "metricsProvider.httpPort, "
                                              "nio.numSelectorThreads");
    assert_int_equal(c.warnings.len, 0);
    zoo_config_free(&c);
}

static void what_would_be_dangerous_is_refused(void **state)
{
    static const char *const lines[] = {"secureClientPort=2281",
                                        "ssl.keyStore.location=/k",
                                        "sslQuorum=true",
                                        "authProvider.1=org.x",
                                        "forceSync=no",
                                        "group.1=1:2",
                                        "weight.1=2",
                                        "quorum.auth.enableSasl=true",
                                        "audit.enable=true"};
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[300], part[100];
        snprintf(text, sizeof text, GOOD "\n%s\n", lines[i]);
        struct zoo_config c = read_text(text);
        snprintf(part, sizeof part,
                 "zoo.cfg:4: %.*s: not supported: ", (int)strcspn(lines[i], "="), lines[i]);
        expect_in(&c.problems, part);
        assert_int_equal(c.problems_n, 1);
        zoo_config_free(&c);
    }
}

static void what_nobody_knows_is_reported_with_its_line(void **state)
{
    (void)state;
    struct zoo_config c = read_good("tickTme=1\nfrobnicate=2\nmaxclientcnxns=3\n");
    expect_in(&c.warnings, "zoo.cfg:3: tickTme: unknown key, without effect; is tickTime "
                           "meant?\n");
    expect_in(&c.warnings, "zoo.cfg:4: frobnicate: unknown key, without effect\n");
    expect_in(&c.warnings, "zoo.cfg:5: maxclientcnxns: unknown key, without effect; is "
                           "maxClientCnxns meant?\n");
    zoo_config_free(&c);
}

static void a_key_given_twice_counts_last(void **state)
{
    (void)state;
    struct zoo_config c = read_good("tickTime=100\ntickTime=200\n");
    assert_int_equal(c.settings.tick_ms, 200);
    expect_in(&c.warnings, "zoo.cfg:4: tickTime: given before, in line 3; this one counts\n");
    zoo_config_free(&c);
}

static void broken_escapes_are_refused(void **state)
{
    static const char text[] = GOOD "peerType=a\\u00g1\nadmin.commandURL=a\0b\n";
    struct zoo_config c;
    (void)state;
    zoo_config_parse(&c, "f", (const uint8_t *)text, sizeof text - 1);
    expect_in(&c.problems, "f:3: peerType: a NUL or a broken \\u escape");
    expect_in(&c.problems, "f:4: admin.commandURL: a NUL or a broken \\u escape");
    zoo_config_free(&c);
}

static void servers_are_read(void **state)
{
    (void)state;
    struct zoo_config c = read_good("server.3=c.example:2888:3888:observer\n"
                                    "server.1=10.0.0.1:2888:3888\n"
                                    "server.2=[::1]:2888:3888:PARTICIPANT;127.0.0.1:2182\n"
                                    "server.10=10.0.0.9:2888:3888;2183\n");
    assert_int_equal(c.servers_n, 4);
    assert_int_equal(c.servers[0].id, 1);
    assert_int_equal(c.servers[3].id, 10);
    assert_int_equal(zoo_config_participants(&c), 3);
    assert_true(zoo_config_server(&c, 3)->is_observer);
    assert_string_equal(zoo_config_server(&c, 2)->host, "::1");
    assert_int_equal(zoo_config_server(&c, 2)->client_port, 2182);
    assert_string_equal(zoo_config_server(&c, 10)->client_host, "0.0.0.0");
    assert_int_equal(zoo_config_server(&c, 1)->client_port, 0);
    assert_false(zoo_config_is_alone(&c));
    zoo_config_free(&c);
    /* As in ZooKeeper: a single server line is no ensemble, unless one is wanted. */
    c = read_good("server.1=a:2888:3888\n");
    assert_true(zoo_config_is_alone(&c));
    zoo_config_free(&c);
    c = read_good("server.1=a:2888:3888\nstandaloneEnabled=false\n");
    assert_false(zoo_config_is_alone(&c));
    zoo_config_free(&c);
}

static void wrong_servers_are_refused(void **state)
{
    static const struct {
        const char *line, *why;
    } bad[] = {
        {"server.1=a:2888", "it must be HOST:PORT:PORT"},
        {"server.1=a:2888:2888", "the two ports must be different"},
        {"server.1=a:2888:70000", "a port is a number from 1 to 65535"},
        {"server.1=a:x:3888", "a port is a number from 1 to 65535"},
        {"server.1=a:2888:3888:king", "the role must be participant or observer"},
        {"server.1=a b:2888:3888", "the host is not a name or address"},
        {"server.1=a:2888:3888;", "behind ';' stands"},
        {"server.1=a:1:2|b:1:2", "several addresses of one server"},
        {"server.x=a:2888:3888", "behind \"server.\" stands the server's number"},
        {"server.0=a:2888:3888", "behind \"server.\" stands the server's number"},
        {"server.2=q:2888:3888", "this server has a line already"},
        {"server.1=z:2888:3888", "server 2 has the same host and port"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[300];
        snprintf(text, sizeof text, GOOD "server.2=z:2888:3888\n%s\n", bad[i].line);
        struct zoo_config c = read_text(text);
        expect_in(&c.problems, "zoo.cfg:4: ");
        expect_in(&c.problems, bad[i].why);
        zoo_config_free(&c);
    }
    struct zoo_config c = read_text(GOOD "server.1=a:1:2:observer\nserver.2=b:1:2:observer\n");
    expect_in(&c.problems, "all servers are observers");
    zoo_config_free(&c);
    c = read_text(GOOD "server.1=a:1:2\nserver.2=b:1:2:observer\n");
    expect_in(&c.problems, "observers beside a single participant");
    zoo_config_free(&c);
    c = read_text("clientPort=1\n");
    expect_in(&c.problems, "zoo.cfg: dataDir is not set");
    zoo_config_free(&c);
    c = read_text("dataDir=/d\n");
    expect_in(&c.problems, "zoo.cfg: clientPort is not set");
    zoo_config_free(&c);
}

static void a_dynamic_file_holds_servers_only(void **state)
{
    static const char good[] = "server.1=a:1:2;3\nversion=100000000\nserver.2=b:1:2;3\n";
    static const char bad[] = "server.1=a:1:2;3\ntickTime=3\n";
    (void)state;
    struct zoo_config c = read_good("dynamicConfigFile=/d/x\n");
    zoo_config_parse_dynamic(&c, "dyn", (const uint8_t *)good, strlen(good));
    assert_int_equal(c.problems_n, 0);
    assert_int_equal(c.servers_n, 2);
    zoo_config_parse_dynamic(&c, "dyn", (const uint8_t *)good, strlen(good));
    expect_in(&c.problems, "dyn: there are server lines beside dynamicConfigFile");
    zoo_config_free(&c);
    c = read_good("dynamicConfigFile=/d/x\n");
    zoo_config_parse_dynamic(&c, "dyn", (const uint8_t *)bad, strlen(bad));
    expect_in(&c.problems, "dyn:2: tickTime: a dynamic configuration file holds server lines "
                           "only");
    zoo_config_free(&c);
}

static void myid_is_a_number(void **state)
{
    static const struct {
        const char *text;
        int64_t id;
    } cases[] = {{"1", 1},   {"255\n", 255}, {" 7 \r\nmore\n", 7}, {"", 0},
                 {"0\n", 0}, {"-1", 0},      {"one", 0},           {"1 2", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf why = {0};
        int64_t id = 0;
        bool ok =
            zoo_myid_parse((const uint8_t *)cases[i].text, strlen(cases[i].text), &id, &why);
        assert_int_equal(ok, cases[i].id != 0);
        if (ok)
            assert_int_equal(id, cases[i].id);
        else
            expect_in(&why, "1 to 255");
        buf_free(&why);
    }
}

static void printing_says_where_from_and_no_secret(void **state)
{
    struct buf out = {0};
    (void)state;
    struct zoo_config c = read_good("DigestAuthenticationProvider.superDigest=super:xyz\n"
                                    "server.1=a:1:2\nserver.2=b:1:2;3\n");
    zoo_config_print(&c, "zoo.cfg", &out);
    expect_in(&out, "clientPort=2181");
    expect_in(&out, "# zoo.cfg:2\n");
    expect_in(&out, "tickTime=3000");
    expect_in(&out, "# default\n");
    expect_in(&out, "server.2=b:1:2:participant;0.0.0.0:3\n");
    assert_null(strstr(buf_text(&out), "xyz"));
    buf_free(&out);
    zoo_config_free(&c);
}

/* docs/zoo-cfg.md has a line for each key; this keeps it so. */
static void the_documentation_knows_every_key(void **state)
{
    struct buf text = {0};
    struct zoo_key k;
    char line[200];
    FILE *f = fopen("docs/zoo-cfg.md", "r");
    (void)state;
    assert_non_null(f);
    size_t n = fread(buf_reserve(&text, 200000), 1, 200000, f);
    buf_added(&text, n);
    fclose(f);
    for (unsigned i = 0; zoo_key_at(i, &k); i++) {
        snprintf(line, sizeof line, "| `%s` |", k.key);
        expect_in(&text, line);
        if (k.kind != ZOO_EFFECT || strchr(k.help, '|') == NULL)
            expect_in(&text, k.help);
    }
    buf_free(&text);
}

/* Writes the tables of docs/zoo-cfg.md: test_zoocfg --table. */
static int print_table(void)
{
    static const char *const heads[] = {"Key | What it does", "Key | Why it has no effect",
                                        "Key | What to do"};
    struct zoo_key k;

    for (int kind = ZOO_EFFECT; kind <= ZOO_REFUSED; kind++) {
        printf("| %s |\n|---|---|\n", heads[kind]);
        for (unsigned i = 0; zoo_key_at(i, &k); i++)
            if ((int)k.kind == kind)
                printf("| `%s` | %s |\n", k.key, k.help);
        puts("");
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_zookeepers),
        cmocka_unit_test(properties_are_javas),
        cmocka_unit_test(session_limits_follow_the_tick),
        cmocka_unit_test(every_key_is_taken_and_checked),
        cmocka_unit_test(numbers_are_whole),
        cmocka_unit_test(what_has_no_effect_is_named_once),
        cmocka_unit_test(what_would_be_dangerous_is_refused),
        cmocka_unit_test(what_nobody_knows_is_reported_with_its_line),
        cmocka_unit_test(a_key_given_twice_counts_last),
        cmocka_unit_test(broken_escapes_are_refused),
        cmocka_unit_test(servers_are_read),
        cmocka_unit_test(wrong_servers_are_refused),
        cmocka_unit_test(a_dynamic_file_holds_servers_only),
        cmocka_unit_test(myid_is_a_number),
        cmocka_unit_test(printing_says_where_from_and_no_secret),
        cmocka_unit_test(the_documentation_knows_every_key),
    };
    if (argc > 1 && strcmp(argv[1], "--table") == 0)
        return print_table();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
