/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: the table, its parsing, help, exit codes, and status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>

#include "cli/cmd.h"

#define OUTPUT_MAX 65536

struct result {
    int code;
    char out[OUTPUT_MAX], err[OUTPUT_MAX];
};

static void take_back(FILE *stream, int saved, FILE *file, char *text)
{
    fflush(stream);
    dup2(saved, fileno(stream));
    close(saved);
    rewind(file);
    size_t n = fread(text, 1, OUTPUT_MAX - 1, file);
    text[n] = 0;
    fclose(file);
}

/* Runs muster with these words; NULL ends them. */
static struct result *muster(const char *first, ...)
{
    static struct result r;
    char *argv[20] = {strdup("muster")};
    int argc = 1;
    va_list words;
    FILE *out = tmpfile(), *err = tmpfile();

    va_start(words, first);
    for (const char *w = first; w != NULL; w = va_arg(words, const char *))
        argv[argc++] = strdup(w);
    va_end(words);
    fflush(stdout);
    fflush(stderr);
    int saved_out = dup(1), saved_err = dup(2);
    dup2(fileno(out), 1);
    dup2(fileno(err), 2);
    r.code = cli_main(argc, argv);
    take_back(stdout, saved_out, out, r.out);
    take_back(stderr, saved_err, err, r.err);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return &r;
}

static void expect_in(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void every_command_has_help(void **state)
{
    (void)state;
    for (unsigned i = 0; i < cmd_table_len; i++) {
        char usage[100];
        struct result *r = muster(cmd_table[i].name, "--help", NULL);
        assert_int_equal(r->code, EXIT_OK);
        snprintf(usage, sizeof usage, "Usage: muster %s", cmd_table[i].name);
        expect_in(r->out, usage);
        expect_in(r->out, "Examples:\n  muster ");
        expect_in(r->out, "--server");
        assert_string_equal(r->err, "");
        for (const struct cmd_option *o = cmd_table[i].options; o != NULL && o->name; o++)
            expect_in(r->out, o->name);
    }
}

static void the_table_is_in_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < cmd_table_len; i++) {
        const struct cmd *c = &cmd_table[i];
        unsigned options = 0;
        if (i > 0)
            assert_true(strcmp(cmd_table[i - 1].name, c->name) < 0);
        assert_ptr_equal(cmd_find(c->name), c);
        assert_true(c->args_min <= c->args_max);
        assert_true(c->help[strlen(c->help) - 1] != '.');
        for (const struct cmd_option *o = c->options; o != NULL && o->name; o++)
            options++;
        assert_true(options <= CMD_OPTIONS_MAX);
    }
}

static void alone_it_shows_the_first_hour(void **state)
{
    (void)state;
    struct result *r = muster(NULL, NULL);
    assert_int_equal(r->code, EXIT_USAGE);
    assert_string_equal(r->out, "");
    expect_in(r->err, "init");
    expect_in(r->err, "status");
    assert_null(strstr(r->err, "completion"));
}

static void help_names_every_exit_code(void **state)
{
    (void)state;
    struct result *r = muster("--help", NULL);
    assert_int_equal(r->code, EXIT_OK);
#define X(sym, number, text) expect_in(r->out, text);
    CMD_EXITS(X)
#undef X
    for (unsigned i = 0; i < cmd_table_len; i++)
        expect_in(r->out, cmd_table[i].help);
    r = muster("--version", NULL);
    expect_in(r->out, "muster " MUSTER_VERSION);
}

static void wrong_usage_is_said(void **state)
{
    static const struct {
        const char *words[4];
        const char *says;
    } rows[] = {
        {{"statsu"}, "did you mean \"status\"?"},
        {{"stautus"}, "did you mean \"status\"?"},
        {{"comp"}, "did you mean \"completion\"?"},
        {{"xyzzy"}, "there is no command \"xyzzy\""},
        {{"ls", "--jsno"}, "did you mean \"--json\"?"},
        {{"delete", "/a", "--recursve"}, "did you mean \"--recursive\"?"},
        {{"ls", "-x"}, "ls has no option \"-x\""},
        {{"init", "--nmae", "a"}, "did you mean \"--name\"?"},
        {{"get"}, "get needs more arguments"},
        {{"get", "/a", "/b"}, "get has too many arguments"},
        {{"get", "a"}, "a path begins with \"/\""},
        {{"get", "/a/"}, "a path does not end with \"/\""},
        {{"get", "/a//b"}, "a part of it is empty"},
        {{"set", "/a", "x", "--if-version"}, "--if-version needs a value"},
        {{"set", "/a", "x", "--if-version=x"}, "a number is wanted"},
        {{"ls", "--json=1"}, "--json takes no value"},
        {{"ls", "--timeout", "0"}, "seconds are wanted"},
        {{"ls", "--timeout", "1x"}, "seconds are wanted"},
        {{"lock", "a"}, "needs a command line behind \"--\""},
        {{"lock", "a", "--"}, "needs a command line behind \"--\""},
        {{"elect", "a"}, "either --who, or a command line"},
        {{"elect", "a", "--"}, "needs a command line behind \"--\""},
        {{"elect", "a/b", "--who"}, "a name has no \"/\""},
        {{"queue", "tkae", "a"}, "did you mean \"take\"?"},
        {{"queue", "put"}, "queue needs more arguments"},
        {{"queue", "put", "a", "--wait=1"}, "this goes with another verb"},
        {{"queue", "take", "a", "--lines"}, "this goes with another verb"},
        {{"queue", "take", "a", "data"}, "this goes with another verb"},
        {{"queue", "put", "a", "-p"}, "--priority needs a value"},
        {{"queue", "put", "a", "--priority=1000"}, "a number from 0 to 999"},
        {{"queue", "take", "..", "--wait=0"}, "\".\" or \"..\""},
        {{"barrier", "a"}, "one of --count, --hold, --release and --pass"},
        {{"barrier", "a", "--hold", "--pass"}, "one of --count, --hold, --release and --pass"},
        {{"barrier", "a", "--count", "0"}, "a number from 1 to 1000"},
        {{"lock", "a", "--wait=x", "--"}, "needs a command line behind \"--\""},
        {{"watch", "/a", "--"}, "needs a command line behind \"--\""},
        {{"--dry-run", "apply"}, "options of a command stand behind its name"},
        {{"completion", "fish"}, "only bash is known"},
        {{"ls", "--server", "127.0.0.1:x"}, "\"x\" is no port"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const *w = rows[i].words;
        struct result *r = muster(w[0], w[1], w[2], w[3], NULL);
        expect_in(r->err, rows[i].says);
        expect_in(r->err, "next:");
        assert_string_equal(r->out, "");
        if (r->code != EXIT_USAGE)
            fail_msg("%s: exit code %d", rows[i].says, r->code);
    }
}

static void what_is_dangerous_is_refused(void **state)
{
    (void)state;
    assert_int_equal(muster("delete", "/", "-r", "--yes", NULL)->code, EXIT_UNSAFE);
    assert_int_equal(muster("delete", "/zookeeper/quota", NULL)->code, EXIT_UNSAFE);
}

static void without_a_server_it_says_what_it_measured(void **state)
{
    (void)state;
    struct result *r = muster("ls", "/", "--server", "127.0.0.1:1", "--timeout", "0.3", NULL);
    assert_int_equal(r->code, EXIT_DOWN);
    expect_in(r->err, "127.0.0.1:1: connection refused");
    expect_in(r->err, "likely:");
    expect_in(r->err, "next:");
}

static void near_names_are_found(void **state)
{
    static const char *const names[] = {"get", "set", "status", "delete"};

    (void)state;
    assert_string_equal(cmd_nearest("gte", names, 4), "get");
    assert_string_equal(cmd_nearest("del", names, 4), "delete");
    assert_string_equal(cmd_nearest("statuss", names, 4), "status");
    assert_null(cmd_nearest("zzzzzz", names, 4));
    assert_null(cmd_nearest("", names, 4));
    assert_null(cmd_nearest("a-word-that-is-much-longer-than-any-name", names, 4));
}

static void completion_knows_every_command(void **state)
{
    (void)state;
    struct result *r = muster("completion", "bash", NULL);
    assert_int_equal(r->code, EXIT_OK);
    for (unsigned i = 0; i < cmd_table_len; i++) {
        char row[64];
        snprintf(row, sizeof row, "        %s) words=", cmd_table[i].name);
        expect_in(r->out, row);
    }
    FILE *bash = popen("bash -n", "w");
    fputs(r->out, bash);
    assert_int_equal(pclose(bash), 0);
}

/* Read from the top of the source tree. */
static void the_manual_knows_every_command(void **state)
{
    static char manual[OUTPUT_MAX];
    FILE *f = fopen("docs/man/muster.1", "r");

    (void)state;
    assert_non_null(f);
    manual[fread(manual, 1, sizeof manual - 1, f)] = 0;
    fclose(f);
    for (unsigned i = 0; i < cmd_table_len; i++) {
        char row[64];
        snprintf(row, sizeof row, ".It Ic %s", cmd_table[i].name);
        expect_in(manual, row);
        for (const struct cmd_option *o = cmd_table[i].options; o != NULL && o->name; o++) {
            snprintf(row, sizeof row, "Fl -%s", o->name);
            expect_in(manual, row);
        }
    }
#define X(sym, number, text) expect_in(manual, "\n.It " #number "\n");
    CMD_EXITS(X)
#undef X
}

/* ---- status ---- */

struct page {
    int fd;
    const char *answer;
    pthread_t thread;
    char address[32];
};

static void *serve(void *arg)
{
    struct page *p = arg;
    char request[1000];
    int fd = accept(p->fd, NULL, NULL);

    (void)!read(fd, request, sizeof request);
    (void)!write(fd, p->answer, strlen(p->answer));
    close(fd);
    return NULL;
}

static void page_open(struct page *p, const char *answer)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;

    p->answer = answer;
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(p->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(p->fd, 1), 0);
    assert_int_equal(getsockname(p->fd, (struct sockaddr *)&a, &len), 0);
    snprintf(p->address, sizeof p->address, "127.0.0.1:%u", ntohs(a.sin_port));
    assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
}

static void page_close(struct page *p)
{
    pthread_join(p->thread, NULL);
    close(p->fd);
}

static const char whole[] =
    "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
    "{\"verdict\": \"DEGRADED: machine b is gone\", \"exit\": 3, \"machine\": \"a\", "
    "\"site\": \"shop\", \"as_of_ms_ago\": 1500, \"quorum\": {\"has_quorum\": true, "
    "\"leader\": \"a\", \"role\": \"leader\", \"members\": [{\"name\": \"a\", \"address\": "
    "\"10.0.0.11:2182\", \"voter\": true, \"reachable\": true, \"age_ms\": 0}]}, \"machines\": "
    "[{\"name\": \"a\", \"address\": \"10.0.0.11\", \"state\": \"here\", \"role\": \"leader\", "
    "\"age_ms\": 0, \"why\": \"\"}, {\"name\": \"b\", \"address\": \"10.0.0.12\", \"state\": "
    "\"gone\", \"role\": null, \"age_ms\": 123000, \"why\": \"no ping since\\u001b[31m\"}], "
    "\"addresses\": [{\"address\": \"10.0.0.100\", \"holder\": \"a\", \"state\": \"held\", "
    "\"why\": \"\", \"lease_ms_left\": 1700}], \"services\": [{\"name\": \"web\", "
    "\"instances\": [{\"name\": \"web-1\", \"machine\": \"b\", \"state\": \"failing\", "
    "\"why\": "
    "\"HTTP 500\", \"since_s\": 7}]}], \"balance\": 5}";

static void status_shows_the_verdict_first(void **state)
{
    struct page p;

    (void)state;
    page_open(&p, whole);
    struct result *r = muster("status", "--http", p.address, NULL);
    page_close(&p);
    assert_int_equal(r->code, EXIT_DEGRADED);
    assert_int_equal(strncmp(r->out, "DEGRADED: machine b is gone\n", 28), 0);
    expect_in(r->out, "seen by a, 1.5 s ago; site shop");
    expect_in(r->out, "2 min");
    expect_in(r->out, "no ping since\\x1b[31m");
    expect_in(r->out, "10.0.0.100  a       held   1.7 s");
    expect_in(r->out, "web-1     b        failing  7.0 s  HTTP 500");
}

static void status_json_is_the_answer(void **state)
{
    struct page p;

    (void)state;
    page_open(&p, whole);
    struct result *r = muster("--json", "status", "--http", p.address, NULL);
    page_close(&p);
    assert_int_equal(r->code, EXIT_DEGRADED);
    expect_in(r->out, "{\"verdict\":\"DEGRADED: machine b is gone\"");
}

static void status_without_an_answer_says_what_was(void **state)
{
    char dir[] = "/tmp/test_cli.XXXXXX", path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/status.json", dir);
    struct result *r = muster("status", "--http", "127.0.0.1:1", "--data", dir, NULL);
    assert_int_equal(r->code, EXIT_DOWN);
    expect_in(r->out, "DOWN: muster does not answer on this machine\n");
    expect_in(r->out, "Connection refused");
    assert_null(strstr(r->out, "Last known"));

    FILE *f = fopen(path, "w");
    fputs(strstr(whole, "{"), f);
    fclose(f);
    r = muster("status", "--http", "127.0.0.1:1", "--data", dir, NULL);
    assert_int_equal(r->code, EXIT_DOWN);
    expect_in(r->out, "Last known, ");
    expect_in(r->out, "DEGRADED: machine b is gone");
    expect_in(r->out, "10.0.0.100");
    f = fopen(path, "w");
    fputs("{\"verdict\": ", f);
    fclose(f);
    r = muster("status", "--http", "127.0.0.1:1", "--data", dir, NULL);
    assert_int_equal(r->code, EXIT_DOWN);
    unlink(path);
    rmdir(dir);
}

static void status_survives_nonsense(void **state)
{
    static const char *const answers[] = {
        "",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nnot json",
        "HTTP/1.0 200 OK\r\n\r\n[1]",
        "HTTP/1.0 500 Oh\r\n\r\n{\"verdict\": 7}",
        "HTTP/1.0 2\r\n\r\n{}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct page p;
        page_open(&p, answers[i]);
        struct result *r = muster("status", "--http", p.address, "--data", "/nowhere", NULL);
        page_close(&p);
        assert_int_equal(r->code, EXIT_DOWN);
        expect_in(r->out, "DOWN: ");
        expect_in(r->out, "asked: ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_has_help),
        cmocka_unit_test(the_table_is_in_order),
        cmocka_unit_test(alone_it_shows_the_first_hour),
        cmocka_unit_test(help_names_every_exit_code),
        cmocka_unit_test(wrong_usage_is_said),
        cmocka_unit_test(what_is_dangerous_is_refused),
        cmocka_unit_test(without_a_server_it_says_what_it_measured),
        cmocka_unit_test(near_names_are_found),
        cmocka_unit_test(completion_knows_every_command),
        cmocka_unit_test(the_manual_knows_every_command),
        cmocka_unit_test(status_shows_the_verdict_first),
        cmocka_unit_test(status_json_is_the_answer),
        cmocka_unit_test(status_without_an_answer_says_what_was),
        cmocka_unit_test(status_survives_nonsense),
    };
    unsetenv("MUSTER_SERVER");
    unsetenv("MUSTER_HTTP");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
