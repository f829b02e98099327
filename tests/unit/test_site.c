/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "site/site.h"

static const char least[] = "site: shop\n"
                            "addresses:\n"
                            "  - 10.0.0.100\n"
                            "services:\n"
                            "  web:\n"
                            "    port: 3000\n"
                            "    check: { http: /up }\n"
                            "balance:\n"
                            "  web: { listen: 80 }\n";

static const char whole[] =
    "site: shop\n"
    "lease: 1500ms\n"
    "addresses:\n"
    "  - { address: 10.0.0.101/24, dev: eth1 }\n"
    "  - 10.0.0.100\n"
    "services:\n"
    "  web:\n"
    "    port: 3000\n"
    "    instances: 2\n"
    "    machines: [b, a]\n"
    "    check: { http: /up, interval: 2s, timeout: 1s, rise: 3, fall: 1 }\n"
    "  mail:\n"
    "    port: 25\n"
    "    check: { exec: /usr/bin/true }\n"
    "  cache: { port: 6379, check: { tcp: true, interval: 200ms } }\n"
    "balance:\n"
    "  web: { listen: 80 }\n";

static struct site *parse(const char *text, struct site_errors *e)
{
    return site_parse((const uint8_t *)text, strlen(text), e);
}

static struct site *good(const char *text)
{
    struct site_errors e;
    struct site *s = parse(text, &e);

    if (s == NULL)
        fail_msg("line %u: %s", e.v[0].line, e.v[0].text);
    return s;
}

static void the_least_file_has_defaults(void **state)
{
    (void)state;
    struct site *s = good(least);

    assert_string_equal(s->name, "shop");
    assert_int_equal(s->lease_ms, 2000);
    assert_int_equal(s->addresses_n, 1);
    assert_string_equal(s->addresses[0].address, "10.0.0.100");
    assert_int_equal(s->addresses[0].prefix, 32);
    assert_int_equal(s->services[0].instances, 1);
    assert_int_equal(s->services[0].check.type, SITE_CHECK_HTTP);
    assert_int_equal(s->services[0].check.interval_ms, 1000);
    assert_int_equal(s->services[0].check.timeout_ms, 500);
    assert_int_equal(s->services[0].check.rise, 2);
    assert_true(site_service_is_on(&s->services[0], "anything"));
    assert_int_equal(s->balance[0].listen, 80);
    site_free(s);
}

static void everything_is_read_and_sorted(void **state)
{
    (void)state;
    struct site *s = good(whole);

    assert_int_equal(s->lease_ms, 1500);
    assert_string_equal(s->addresses[0].address, "10.0.0.100");
    assert_string_equal(s->addresses[1].dev, "eth1");
    assert_int_equal(s->addresses[1].prefix, 24);
    assert_string_equal(s->services[0].name, "cache");
    assert_int_equal(s->services[0].check.timeout_ms, 200); /* not longer than the interval */
    assert_string_equal(s->services[1].name, "mail");
    assert_string_equal(s->services[1].check.path, "/usr/bin/true");
    const struct site_service *web = site_service_find(s, "web");
    assert_int_equal(web->check.rise, 3);
    assert_true(site_service_is_on(web, "a"));
    assert_false(site_service_is_on(web, "c"));
    site_free(s);
}

/* The text, the line and a piece of what is said there. */
static const struct {
    const char *text;
    unsigned line;
    const char *said;
} bad[] = {
    {"", 0, "empty"},
    {"# nothing\n", 0, "empty"},
    {"site: a\nleese: 2s\n", 2, "did you mean \"lease\"?"},
    {"site: a\nadresses: []\n", 2, "did you mean \"addresses\"?"},
    {"site: a\nxyzzy: 1\n", 2, "unknown key \"xyzzy\" in the site file"},
    {"site: a\nservices:\n  web: { prot: 1 }\n", 3, "did you mean \"port\"?"},
    {"site: a\nservices:\n  web: { port: 1, check: { htpp: /x } }\n", 3, "\"http\"?"},
    {"lease: 1s\n", 1, "needs \"site\""},
    {"site: a\nsite: b\n", 2, "here twice; first on line 1"},
    {"site: [a]\n", 1, "found a list"},
    {"site:\n", 1, "found nothing"},
    {"site: \"a b\"\n", 1, "is not a name"},
    {"site: -a\n", 1, "is not a name"},
    {"- a\n", 1, "expected the site file"},
    {"site: a\nlease: 2\n", 2, "a duration like"},
    {"site: a\nlease: 100ms\n", 2, "from 500ms to 60000ms"},
    {"site: a\nlease: 99999999999s\n", 2, "a duration like"},
    {"site: a\naddresses: 10.0.0.1\n", 2, "must be a list"},
    {"site: a\naddresses: [10.0.0.256]\n", 2, "not an IPv4 address"},
    {"site: a\naddresses: [10.0.0.010]\n", 2, "not an IPv4 address"},
    {"site: a\naddresses: [10.0.0.1/33]\n", 2, "not an IPv4 address"},
    {"site: a\naddresses: [\"10.0.0.1 \"]\n", 2, "not an IPv4 address"},
    {"site: a\naddresses: [127.0.0.1]\n", 2, "cannot be a virtual address"},
    {"site: a\naddresses: [224.0.0.1]\n", 2, "cannot be a virtual address"},
    {"site: a\naddresses: [10.0.0.0/24]\n", 2, "cannot be a virtual address"},
    {"site: a\naddresses: [10.0.0.255/24]\n", 2, "cannot be a virtual address"},
    {"site: a\naddresses:\n- 10.0.0.1\n- 10.0.0.1/24\n", 4, "here twice"},
    {"site: a\naddresses: [{dev: eth0}]\n", 2, "needs \"address\""},
    {"site: a\naddresses: [{address: 10.0.0.1, dev: 0123456789abcdef}]\n", 2, "an interface"},
    {"site: a\nservices:\n  web: {}\n", 3, "needs \"port\""},
    {"site: a\nservices:\n  web:\n", 3, "needs \"port\""},
    {"site: a\nservices:\n  web: 5\n", 3, "found \"5\""},
    {"site: a\nservices:\n  web: { port: 0 }\n", 3, "from 1 to 65535"},
    {"site: a\nservices:\n  web: { port: 0x50 }\n", 3, "from 1 to 65535"},
    {"site: a\nservices:\n  web: { port: 65535, instances: 2 }\n", 3, "above 65535"},
    {"site: a\nservices:\n  web: { port: 2179, instances: 2 }\n", 3, "muster's own"},
    {"site: a\nservices:\n  web: { port: 1, instances: 33 }\n", 3, "from 1 to 32"},
    {"site: a\nservices:\n  x: { port: 5, instances: 3 }\n  y: { port: 7 }\n", 4,
     "share a port"},
    {"site: a\nservices:\n  x: { port: 5 }\n  x: { port: 7 }\n", 4, "here twice"},
    {"site: a\nservices:\n  x: { port: 5, machines: [] }\n", 3, "from 1 to 32 machines"},
    {"site: a\nservices:\n  x: { port: 5, machines: [a, a] }\n", 3, "\"a\" is here twice"},
    {"site: a\nservices:\n  x: { port: 5, machines: a }\n", 3, "must be a list"},
    {"site: a\nservices:\n  x: { port: 5, check: { http: up } }\n", 3, "must begin with \"/\""},
    {"site: a\nservices:\n  x: { port: 5, check: { http: \"/a b\" } }\n", 3, "without blanks"},
    {"site: a\nservices:\n  x: { port: 5, check: { tcp: false } }\n", 3, "must be true"},
    {"site: a\nservices:\n  x: { port: 5, check: { tcp: true, http: / } }\n", 3, "one of http"},
    {"site: a\nservices:\n  x: { port: 5, check: { timeout: 2s } }\n", 3,
     "longer than interval"},
    {"site: a\nservices:\n  x: { port: 5, check: { rise: 0 } }\n", 3, "from 1 to 100"},
    {"site: a\nbalance:\n  web: { listen: 80 }\n", 3, "which is no service"},
    {"site: a\nservices:\n  web: { port: 5 }\nbalance:\n  wbe: { listen: 80 }\n", 5,
     "did you mean \"web\"?"},
    {"site: a\nservices:\n  x: { port: 5 }\n  y: { port: 6 }\nbalance:\n  x: { listen: 80 }\n"
     "  y: { listen: 80 }\n",
     7, "already listened on for \"x\""},
    {"site: a\nservices:\n  x: { port: 80 }\nbalance:\n  x: { listen: 80 }\n", 3, "balanced"},
    {"site: a\nservices:\n  x: { port: 5 }\nbalance:\n  x: { listen: 2181 }\n", 5,
     "muster's own"},
    {"site: a\n---\nsite: b\n", 3, "second document"},
    {"site: [a\n", 2, ""},
    {"site: a\n\tlease: 2s\n", 2, ""},
    {"site: *nobody\n", 1, "alias"},
    {"site: \xff\xfe\n", 0, "UTF-8"},
    {"site: \"a\\0b\"\n", 1, "NUL"},
};

static void each_mistake_is_named_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct site_errors e;
        bool is_found = false;
        assert_null(parse(bad[i].text, &e));
        for (unsigned k = 0; k < e.n; k++)
            is_found = is_found ||
                       (e.v[k].line == bad[i].line && strstr(e.v[k].text, bad[i].said) != NULL);
        if (!is_found)
            fail_msg("%s\nsaid: %u: %s", bad[i].text, e.v[0].line, e.v[0].text);
    }
}

static void several_mistakes_are_told_at_once_in_order(void **state)
{
    (void)state;
    struct site_errors e;
    struct buf out = {0};

    assert_null(parse("leese: 2s\nservices:\n  web: { port: x }\n  app: { prt: 1 }\n", &e));
    assert_int_equal(e.n, 5); /* leese, no site, port x, prt, app needs port */
    for (unsigned i = 1; i < e.n; i++)
        assert_true(e.v[i - 1].line <= e.v[i].line);
    site_errors_print(&e, "site.yml", &out);
    assert_non_null(strstr(buf_text(&out), "site.yml:3: port must be a number from 1 to 65535, "
                                           "not \"x\"\n"));
    buf_free(&out);
}

static void more_mistakes_than_are_kept_are_counted(void **state)
{
    (void)state;
    struct site_errors e;
    struct buf text = {0}, out = {0};

    buf_add_str(&text, "site: a\naddresses:\n");
    for (int i = 0; i < 30; i++)
        buf_add_str(&text, "  - x\n");
    assert_null(parse(buf_text(&text), &e));
    assert_int_equal(e.n, SITE_ERRORS_MAX);
    assert_int_equal(e.total, 30);
    site_errors_print(&e, "f", &out);
    assert_non_null(strstr(buf_text(&out), "f: and 10 more errors"));
    buf_free(&text);
    buf_free(&out);
}

static void limits_refuse_by_name(void **state)
{
    (void)state;
    struct site_errors e;
    struct buf text = {0};

    buf_add_str(&text, "site: a\naddresses:\n");
    for (unsigned i = 0; i <= SITE_ADDRESSES_MAX; i++)
        buf_printf(&text, "  - 10.0.1.%u\n", i + 1);
    assert_null(parse(buf_text(&text), &e));
    assert_string_equal(e.v[0].text, "65 addresses; the limit is 64");
    buf_clear(&text);
    buf_add_str(&text, "site: a\nservices:\n");
    for (unsigned i = 0; i <= SITE_SERVICES_MAX; i++)
        buf_printf(&text, "  s%u: { port: %u }\n", i, 3000 + i);
    assert_null(parse(buf_text(&text), &e));
    assert_non_null(strstr(e.v[0].text, "65 services; the limit is 64"));
    buf_clear(&text);
    while (text.len <= SITE_BYTES_MAX)
        buf_add_str(&text, "# long\n");
    assert_null(parse(buf_text(&text), &e));
    assert_non_null(strstr(e.v[0].text, "the limit of a site file"));
    buf_free(&text);
}

static void control_characters_do_not_reach_the_terminal(void **state)
{
    (void)state;
    struct site_errors e;

    assert_null(parse("site: \"\\e[31m\"\n", &e));
    assert_null(strchr(e.v[0].text, 0x1b));
}

static void expect_plan(const char *old, const char *new, const char *lines)
{
    struct site *a = old != NULL ? good(old) : NULL, *b = good(new);
    struct buf out = {0};
    unsigned n = site_plan(a, b, &out), counted = 0;

    for (size_t i = 0; i < out.len; i++)
        counted += out.data[i] == '\n';
    assert_int_equal(n, counted);
    assert_string_equal(buf_text(&out), lines);
    buf_free(&out);
    site_free(a);
    site_free(b);
}

static void the_plan_says_what_changes(void **state)
{
    (void)state;
    expect_plan(least, least, "");
    expect_plan(NULL, least,
                "+ site shop: lease 2s\n"
                "+ address 10.0.0.100\n"
                "+ service web: port 3000 on all machines; check http /up every 1s, timeout "
                "500ms, rise 2, fall 2\n"
                "+ balance web: listen 80\n");
    expect_plan(least, whole,
                "~ lease: 2s -> 1500ms\n"
                "+ address 10.0.0.101/24 on eth1\n"
                "+ service cache: port 6379 on all machines; check tcp every 200ms, timeout "
                "200ms, rise 2, fall 2\n"
                "+ service mail: port 25 on all machines; check exec /usr/bin/true every 1s, "
                "timeout 500ms, rise 2, fall 2\n"
                "~ service web: instances 1 -> 2\n"
                "~ service web: on all machines -> a, b\n"
                "~ service web: check http /up every 1s, timeout 500ms, rise 2, fall 2 -> http "
                "/up every 2s, timeout 1s, rise 3, fall 1\n");
    expect_plan(least, "site: shop2\nservices:\n  web: { port: 3001, check: { http: /up } }\n",
                "~ site: shop -> shop2\n"
                "- address 10.0.0.100\n"
                "~ service web: port 3000 -> 3001\n"
                "- balance web\n");
}

/* Bytes of a good file, changed at random: refused or read, never more. */
static void no_bytes_are_too_bad(void **state)
{
    (void)state;
    static const char salt[] = "{}[]:,-&*!|>'\"%@`#\n\t \\0x";
    struct rng r = {7};

    for (int round = 0; round < 20000; round++) {
        char text[sizeof whole];
        struct site_errors e;
        memcpy(text, whole, sizeof whole);
        for (uint64_t n = 1 + rng_below(&r, 6); n > 0; n--)
            text[rng_below(&r, sizeof whole - 1)] = rng_below(&r, 3) == 0
                                                        ? (char)rng_below(&r, 256)
                                                        : salt[rng_below(&r, sizeof salt - 1)];
        struct site *s = site_parse((const uint8_t *)text, sizeof whole - 1, &e);
        assert_true((s == NULL) == (e.n > 0));
        site_free(s);
    }
}

/* An empty znode has no bytes at all. Found by fuzz_agent: whoever could write /muster/site
 * ended every machine's process. */
static void nothing_is_an_empty_file(void **state)
{
    (void)state;
    struct site_errors e;

    assert_null(site_parse(NULL, 0, &e));
    assert_int_equal(e.n, 1);
    assert_non_null(strstr(e.v[0].text, "the file is empty"));
}

static void aliases_cannot_make_it_grow_or_loop(void **state)
{
    (void)state;
    struct site_errors e;

    assert_null(parse("&a site: &b [*b, *b]\nservices: &c\n  web: *c\n", &e));
    assert_null(parse("site: a\nservices: &c { web: &d { port: 5, check: *d } }\n", &e));
    site_free(good("site: a\nservices:\n  x: { port: 5, check: &c { http: /up } }\n"
                   "  y: { port: 6, check: *c }\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_file_has_defaults),
        cmocka_unit_test(everything_is_read_and_sorted),
        cmocka_unit_test(each_mistake_is_named_with_its_line),
        cmocka_unit_test(several_mistakes_are_told_at_once_in_order),
        cmocka_unit_test(more_mistakes_than_are_kept_are_counted),
        cmocka_unit_test(limits_refuse_by_name),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(the_plan_says_what_changes),
        cmocka_unit_test(no_bytes_are_too_bad),
        cmocka_unit_test(nothing_is_an_empty_file),
        cmocka_unit_test(aliases_cannot_make_it_grow_or_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
