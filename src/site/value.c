/* SPDX-License-Identifier: Apache-2.0 */
/* value.c -- the small values of a site file: names, durations, addresses. */
#include "site/site.h"

#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool site_is_name(const char *name, size_t len)
{
    if (len == 0 || len >= SITE_NAME_MAX || (!is_letter(name[0]) && !is_digit(name[0])))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_letter(name[i]) && !is_digit(name[i]) && strchr("._-", name[i]) == NULL)
            return false;
    /* strchr finds the NUL as well, which is no part of a name. */
    return memchr(name, 0, len) == NULL;
}

bool site_duration(const char *text, size_t len, uint32_t *ms)
{
    static const struct {
        const char *unit;
        uint32_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint64_t number = 0;
    size_t i = 0;

    for (; i < len && is_digit(text[i]); i++) {
        number = number * 10 + (uint64_t)(text[i] - '0');
        if (number > UINT32_MAX)
            return false;
    }
    if (i == 0)
        return false;
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        if (len - i != strlen(units[u].unit) || memcmp(text + i, units[u].unit, len - i) != 0)
            continue;
        number *= units[u].ms;
        if (number > UINT32_MAX)
            return false;
        *ms = (uint32_t)number;
        return true;
    }
    return false;
}

/* Decimal without a leading zero: "010" is 8 to some programs and 10 to others. */
static bool small_number(const char *text, size_t len, size_t *at, uint32_t most, uint32_t *out)
{
    size_t from = *at;
    uint32_t n = 0;

    for (; *at < len && is_digit(text[*at]) && *at - from < 3; (*at)++)
        n = n * 10 + (uint32_t)(text[*at] - '0');
    *out = n;
    return *at > from && n <= most && (text[from] != '0' || *at - from == 1);
}

bool site_ipv4(const char *text, size_t len, uint32_t *number, uint8_t *prefix)
{
    uint32_t part, sum = 0;
    size_t at = 0;

    for (int i = 0; i < 4; i++) {
        if (i > 0 && (at >= len || text[at++] != '.'))
            return false;
        if (!small_number(text, len, &at, 255, &part))
            return false;
        sum = sum << 8 | part;
    }
    part = 32;
    if (at < len) {
        if (text[at++] != '/' || !small_number(text, len, &at, 32, &part) || part == 0)
            return false;
    }
    *number = sum;
    *prefix = (uint8_t)part;
    return at == len;
}
