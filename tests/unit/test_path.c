/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "wire/path.h"

#define P(text) text, sizeof text - 1

static const struct {
    const char *path;
    size_t len;
    bool ok;
} rows[] = {
    {P("/"), true},
    {P("/a"), true},
    {P("/a/b/c"), true},
    {P("/zookeeper"), true},
    {P("/.a"), true},
    {P("/..b"), true},
    {P("/a.."), true},
    {P("/..."), true},
    {P("/a b~"), true},
    {P("/\xc2\xa0"), true},       /* U+00A0 */
    {P("/\xc3\xa4"), true},       /* U+00E4 */
    {P("/\xed\x9f\xbf"), true},   /* U+D7FF */
    {P("/\xef\xa4\x80"), true},   /* U+F900 */
    {P("/\xef\xbf\xaf"), true},   /* U+FFEF */
    {P("/\xe2\x82\xac/x"), true}, /* U+20AC */
    {P(""), false},
    {P("a"), false},
    {P("a/b"), false},
    {P("/a/"), false},
    {P("//"), false},
    {P("//a"), false},
    {P("/a//b"), false},
    {P("/."), false},
    {P("/.."), false},
    {P("/./a"), false},
    {P("/a/."), false},
    {P("/a/../b"), false},
    {P("/a/.."), false},
    {P("/a\0b"), false},
    {P("/\x01"), false},
    {P("/a\x1f"), false},
    {P("/\x7f"), false},
    {P("/\xc2\x80"), false},         /* U+0080 */
    {P("/\xc2\x9f"), false},         /* U+009F */
    {P("/\xed\xa0\x80"), false},     /* U+D800 */
    {P("/\xee\x80\x80"), false},     /* U+E000 */
    {P("/\xef\xa3\xbf"), false},     /* U+F8FF */
    {P("/\xef\xbf\xb0"), false},     /* U+FFF0 */
    {P("/\xef\xbf\xbd"), false},     /* U+FFFD */
    {P("/\xef\xbf\xbf"), false},     /* U+FFFF */
    {P("/\xf0\x9f\x98\x80"), false}, /* beyond the basic plane */
    {P("/\x80"), false},             /* a continuation alone */
    {P("/\xc0\x80"), false},         /* U+0000, too long */
    {P("/\xc1\xbf"), false},         /* too long */
    {P("/\xe0\x82\xa0"), false},     /* too long */
    {P("/\xc3"), false},             /* cut short */
    {P("/\xe2\x82"), false},         /* cut short */
    {P("/\xe2\x82/a"), false},
    {P("/\xc3/a"), false},
    {P("/\xff"), false},
    {P("/\xfe\x80"), false},
};

static void validation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if ((path_validate(rows[i].path, rows[i].len) == 0) != rows[i].ok)
            fail_msg("row %zu: %s", i, rows[i].path);
    assert_int_equal(path_validate("a", 1), ERR_BAD_ARGUMENTS);
}

static void parents(void **state)
{
    (void)state;
    assert_int_equal(path_parent_len(P("/")), 1);
    assert_int_equal(path_parent_len(P("/a")), 1);
    assert_int_equal(path_parent_len(P("/a/b")), 2);
    assert_int_equal(path_parent_len(P("/a/")), 2);
    assert_int_equal(path_parent_len(P("/a//b")), 3);
    assert_int_equal(path_name_at(P("/a/bc")), 3);
    assert_int_equal(path_name_at(P("abc")), 0);
}

static void within(void **state)
{
    (void)state;
    assert_true(path_is_within(P("/a"), P("/")));
    assert_true(path_is_within(P("/a"), P("/a")));
    assert_true(path_is_within(P("/a/b"), P("/a")));
    assert_false(path_is_within(P("/ab"), P("/a")));
    assert_false(path_is_within(P("/"), P("/a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validation),
        cmocka_unit_test(parents),
        cmocka_unit_test(within),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
