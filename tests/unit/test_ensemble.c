/* SPDX-License-Identifier: Apache-2.0 */
/* Server lines, and what a reconfig makes of them: the errors are those that ZooKeeper 3.8.0
 * gave when asked the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "server/member_ensemble.h"

#define ONE "server.1=127.0.0.1:21881:21891:participant;127.0.0.1:21811"
#define TWO "server.2=127.0.0.1:21882:21892:participant;127.0.0.1:21812"
#define THREE "server.3=127.0.0.1:21883:21893:participant;127.0.0.1:21813"
#define BASE ONE "\n" TWO "\n" THREE
#define VERSION "\nversion=100000000"

static struct ensemble lines(const char *text)
{
    struct ensemble e;

    assert_int_equal(ensemble_parse(&e, text, strlen(text)), 0);
    return e;
}

static int change(const char *joining, const char *leaving, const char *members, unsigned least,
                  struct ensemble *to)
{
    struct ensemble now = lines(BASE VERSION);
    const struct reconfig_texts t = {
        .joining = joining,
        .joining_len = joining != NULL ? strlen(joining) : 0,
        .leaving = leaving,
        .leaving_len = leaving != NULL ? strlen(leaving) : 0,
        .members = members,
        .members_len = members != NULL ? strlen(members) : 0,
    };

    return ensemble_change(&now, &t, least, to);
}

static void expect(const char *joining, const char *leaving, const char *members,
                   const char *text)
{
    struct ensemble to;
    struct buf out = {0};

    assert_int_equal(change(joining, leaving, members, 2, &to), 0);
    ensemble_print(&to, &out);
    assert_string_equal(buf_text(&out), text);
    buf_free(&out);
}

static void expect_err(const char *joining, const char *leaving, const char *members, int err)
{
    struct ensemble to;
    int got = change(joining, leaving, members, 2, &to);

    if (got != err)
        fail_msg("%s / %s / %s: %d, not %d", joining != NULL ? joining : "-",
                 leaving != NULL ? leaving : "-", members != NULL ? members : "-", got, err);
}

static void lines_are_printed_as_zookeeper_does(void **state)
{
    struct ensemble e = lines("server.3=c:1:2;3\n# x\n\nserver.-7=b:51:52:observer;[::1]:53,"
                              " server.1 = [fe80::1]:1:2 \nversion=ff");
    struct buf out = {0};
    (void)state;
    ensemble_print(&e, &out);
    assert_string_equal(buf_text(&out), "server.1=[fe80::1]:1:2:participant\n"
                                        "server.3=c:1:2:participant;0.0.0.0:3\n"
                                        "server.-7=b:51:52:observer;[::1]:53");
    buf_free(&out);
}

static void good_changes(void **state)
{
    (void)state;
    expect(NULL, NULL, NULL, BASE);
    expect(NULL, "99", NULL, BASE);
    expect(NULL, "2", NULL, ONE "\n" THREE);
    expect(NULL, " 2 , 99", NULL, ONE "\n" THREE);
    expect("server.100=0.0.0.0:31234:32345:observer;0.0.0.0:33456", NULL, NULL,
           BASE "\nserver.100=0.0.0.0:31234:32345:observer;0.0.0.0:33456");
    expect("server.5=127.0.0.1:21885:21895;21815", "1", NULL,
           TWO "\n" THREE "\nserver.5=127.0.0.1:21885:21895:participant;0.0.0.0:21815");
    expect("server.3=127.0.0.1:21883:21893:observer;127.0.0.1:21813", NULL, NULL,
           ONE "\n" TWO "\nserver.3=127.0.0.1:21883:21893:observer;127.0.0.1:21813");
    expect(NULL, NULL, ONE "," TWO, ONE "\n" TWO);
    expect(NULL, NULL, TWO "\n" ONE "\n", ONE "\n" TWO);
    expect("ignored beside newMembers", "x", ONE "\nversion=33\n" TWO, ONE "\n" TWO);
}

static void wrong_changes(void **state)
{
    (void)state;
    expect_err("some thing", NULL, NULL, ERR_BAD_ARGUMENTS);
    expect_err(NULL, "xyz", NULL, ERR_MALFORMED);
    expect_err(NULL, "2,3", NULL, ERR_BAD_ARGUMENTS); /* one voter is too few */
    expect_err("server.5=127.0.0.1:1:2", NULL, NULL, ERR_BAD_ARGUMENTS);
    expect_err("server.5=127.0.0.1:1", NULL, NULL, ERR_BAD_ARGUMENTS);
    expect_err("server.5=127.0.0.1:1:2:king;3", NULL, NULL, ERR_BAD_ARGUMENTS);
    expect_err("server.5=127.0.0.1:1:1:observer;3", NULL, NULL, ERR_BAD_ARGUMENTS);
    expect_err("server.5=127.0.0.1:70000:21891:observer;21811", NULL, NULL, ERR_MALFORMED);
    expect_err("server.x=127.0.0.1:1:2:observer;3", NULL, NULL, ERR_MALFORMED);
    expect_err(NULL, NULL, ONE, ERR_BAD_ARGUMENTS);
    expect_err(NULL, NULL, ONE "," TWO ",foo=1", ERR_BAD_ARGUMENTS);
    expect_err(NULL, NULL, ONE "," TWO "," TWO, ERR_BAD_ARGUMENTS);
    /* Ours alone: */
    expect_err("server.0=127.0.0.1:41:42:observer;43", NULL, NULL, ERR_BAD_ARGUMENTS);
    expect_err("server.9=127.0.0.1:21881:42:observer;43", NULL, NULL, ERR_BAD_ARGUMENTS);
    struct ensemble to;
    assert_int_equal(change(NULL, "2,3", NULL, 1, &to), 0);
    assert_int_equal(to.n, 1);
    assert_int_equal(change(NULL, "1,2,3", NULL, 1, &to), ERR_BAD_ARGUMENTS);
}

static void ids_are_longs(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t id;
    } cases[] = {{"9223372036854775807", true, INT64_MAX},
                 {"-9223372036854775808", true, INT64_MIN},
                 {"9223372036854775808", false, 0},
                 {"-9223372036854775809", false, 0},
                 {"+5", true, 5},
                 {"", false, 0},
                 {"-", false, 0},
                 {"1 ", false, 0},
                 {"0x1", false, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t id = 0;
        assert_int_equal(server_line_id(cases[i].text, strlen(cases[i].text), &id),
                         cases[i].ok);
        assert_true(id == cases[i].id);
    }
}

/* Raft's members say the same as the lines that they were made of. */
static void members_and_lines_are_one(void **state)
{
    struct ensemble e = lines(BASE "\nserver.9=long-name.example.org:1:2:observer;[::1]:3\n"
                                   "server.10=[fe80::1]:1:2:participant");
    struct raft_members all = {.n = e.n};
    struct buf a = {0}, b = {0}, bytes = {0};
    (void)state;
    for (unsigned i = 0; i < e.n; i++)
        all.v[i] = member_of_line(&e.v[i]);
    raft_members_encode(&all, &bytes);
    assert_int_equal(raft_members_decode(&all, bytes.data, bytes.len), 0);
    ensemble_print(&e, &a);
    members_text(&all, &b);
    assert_string_equal(buf_text(&a), buf_text(&b));
    /* A learner that is to vote is a participant; one machine of init is nothing. */
    all.v[0].voter = false;
    all.v[0].auto_promote = true;
    buf_clear(&b);
    members_text(&all, &b);
    assert_string_equal(buf_text(&a), buf_text(&b));
    buf_free(&a);
    buf_free(&b);
    buf_free(&bytes);
}

/* ZooKeeper's parsers want two ports, and a client address to go to. */
static void a_machine_of_a_native_cluster_has_a_line(void **state)
{
    struct raft_members all = {
        .n = 1,
        .v = {{.id = UINT64_MAX - 1, .voter = true, .name = "a", .address = "10.0.0.1:2182"}}};
    struct buf out = {0};
    (void)state;
    members_text(&all, &out);
    assert_int_equal(out.len, 0);
    all.n = 2;
    all.v[1] = all.v[0];
    all.v[0].id = 1;
    members_text(&all, &out);
    assert_string_equal(buf_text(&out),
                        "server.1=10.0.0.1:2182:2183:participant;10.0.0.1:2181\n"
                        "server.-2=10.0.0.1:2182:2183:participant;10.0.0.1:2181");
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_printed_as_zookeeper_does),
        cmocka_unit_test(good_changes),
        cmocka_unit_test(wrong_changes),
        cmocka_unit_test(ids_are_longs),
        cmocka_unit_test(members_and_lines_are_one),
        cmocka_unit_test(a_machine_of_a_native_cluster_has_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
