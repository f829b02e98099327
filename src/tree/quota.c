/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/quota.h"

#include <string.h>

#include "base/err.h"
#include "base/mutant.h"
#include "wire/path.h"

#define QUOTAS "/zookeeper/quota"
#define LIMITS "/zookeeper_limits"
#define STATS "/zookeeper_stats"

/* What stands in the data of both znodes; -1: not said, or no limit. */
struct track {
    int64_t count, bytes, count_hard, bytes_hard;
};

static bool is_key(const char *at, size_t len, const char *key)
{
    return strlen(key) == len && memcmp(at, key, len) == 0;
}

static int64_t number_of(const char *at, const char *end)
{
    bool is_negative = at < end && *at == '-';
    int64_t v = 0;

    at += is_negative;
    if (at == end)
        return -1;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9' || v > (INT64_MAX - 9) / 10)
            return -1;
        v = v * 10 + (*at - '0');
    }
    return is_negative ? -v : v;
}

/* key=value, separated by commas and semicolons; old readers are kept from the hard limits by
 * a '=' too many, so what follows a second one is not looked at. */
static struct track track_of(const char *at, size_t len)
{
    struct track t = {-1, -1, -1, -1};
    const char *end = at + len;

    while (at < end) {
        const char *stop = at, *value;
        while (stop < end && *stop != ',' && *stop != ';')
            stop++;
        value = memchr(at, '=', (size_t)(stop - at));
        if (value != NULL) {
            size_t key_len = (size_t)(value++ - at);
            const char *value_end = memchr(value, '=', (size_t)(stop - value));
            int64_t n = number_of(value, value_end != NULL ? value_end : stop);
            if (is_key(at, key_len, "count"))
                t.count = n;
            else if (is_key(at, key_len, "bytes"))
                t.bytes = n;
            else if (is_key(at, key_len, "countHardLimit"))
                t.count_hard = n;
            else if (is_key(at, key_len, "byteHardLimit"))
                t.bytes_hard = n;
        }
        at = stop + 1;
    }
    return t;
}

static size_t print_number(char *to, int64_t v)
{
    char digits[20];
    uint64_t u = v < 0 ? 0u - (uint64_t)v : (uint64_t)v;
    size_t n = 0, at = 0;

    do
        digits[n++] = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (v < 0)
        to[at++] = '-';
    while (n > 0)
        to[at++] = digits[--n];
    return at;
}

static size_t print_text(char *to, const char *text)
{
    memcpy(to, text, strlen(text));
    return strlen(text);
}

#define TRACK_TEXT_MAX 160

static size_t track_print(const struct track *t, char to[TRACK_TEXT_MAX])
{
    size_t n = print_text(to, "count=");

    n += print_number(to + n, t->count);
    n += print_text(to + n, ",bytes=");
    n += print_number(to + n, t->bytes);
    if (t->bytes_hard == -1 && t->count_hard == -1)
        return n;
    n += print_text(to + n, "=");
    if (t->bytes_hard != -1) {
        n += print_text(to + n, ";byteHardLimit=");
        n += print_number(to + n, t->bytes_hard);
    }
    if (t->count_hard != -1) {
        n += print_text(to + n, ";countHardLimit=");
        n += print_number(to + n, t->count_hard);
    }
    return n;
}

/* The znode that holds the limits (or the stats) of a quota on exactly this path. */
static uint32_t find(const struct step *s, const char *path, size_t len, const char *which)
{
    struct buf *b = &s->t->quota_path;

    buf_clear(b);
    buf_add_str(b, QUOTAS);
    buf_add(b, path, len);
    buf_add_str(b, which);
    return nodes_find(&s->t->nodes, (const char *)b->data, b->len);
}

/* The deepest path at or above this one that has a quota; 0: none has. The root has none. */
static size_t quota_of(const struct step *s, const char *path, size_t len)
{
    if (nodes_family_get(&s->t->nodes, s->t->quotas).children == 0)
        return 0;
    for (; len > 1; len = path_parent_len(path, len))
        if (find(s, path, len, LIMITS) != NODE_NONE)
            return len;
    return 0;
}

static struct track track_at(const struct step *s, uint32_t id)
{
    const struct node *v = nodes_at(&s->t->nodes, id);

    return track_of((const char *)nodes_data(&s->t->nodes, id),
                    v->data_len > 0 ? (size_t)v->data_len : 0);
}

/* Clients may write any numbers: what does not fit stays as it is. */
static int64_t sum(int64_t a, int64_t b)
{
    int64_t out;

    return __builtin_add_overflow(a, b, &out) ? a : out;
}

int quota_check(const struct step *s, const char *path, size_t len, int64_t nodes,
                int64_t bytes)
{
    if ((s->rules & TREE_RULE_ENFORCE_QUOTA) == 0 || MUTANT(tree_quota_ignored))
        return 0;
    size_t quota_len = quota_of(s, path, len);
    if (quota_len == 0)
        return 0;
    struct track limit = track_at(s, find(s, path, quota_len, LIMITS));
    uint32_t stats = find(s, path, quota_len, STATS);
    if (stats == NODE_NONE)
        return 0;
    struct track used = track_at(s, stats);
    if (nodes != 0 && limit.count_hard > -1 && sum(used.count, nodes) > limit.count_hard)
        return ERR_QUOTA_EXCEEDED;
    if (bytes != 0 && limit.bytes_hard > -1 && sum(used.bytes, bytes) > limit.bytes_hard)
        return ERR_QUOTA_EXCEEDED;
    return 0;
}

static void set_used(const struct step *s, uint32_t stats, const struct track *used)
{
    char text[TRACK_TEXT_MAX];

    /* find() has left the path of this very znode. */
    tree_set_quietly(s, stats, (const char *)s->t->quota_path.data, s->t->quota_path.len, text,
                     track_print(used, text));
}

void quota_changed(const struct step *s, const char *path, size_t len, int64_t nodes,
                   int64_t bytes)
{
    size_t quota_len = quota_of(s, path, len);
    uint32_t stats = quota_len > 0 ? find(s, path, quota_len, STATS) : NODE_NONE;

    if (stats == NODE_NONE)
        return;
    struct track used = track_at(s, stats);
    used.count = sum(used.count, nodes);
    used.bytes = sum(used.bytes, bytes);
    set_used(s, stats, &used);
}

void quota_created(const struct step *s, const char *path, size_t len)
{
    const size_t head = strlen(QUOTAS), tail = strlen(STATS);
    const struct nodes *nodes = &s->t->nodes;
    struct track used = {0, 0, -1, -1};

    if (len <= head + tail || memcmp(path, QUOTAS "/", head + 1) != 0 ||
        memcmp(path + len - tail, STATS, tail) != 0)
        return;
    uint32_t top = nodes_find(nodes, path + head, len - head - tail);
    for (uint32_t c = top; c != NODE_NONE; c = nodes_below_next(nodes, top, c)) {
        const struct node *v = nodes_at(nodes, c);
        used.count++;
        used.bytes += v->data_len > 0 ? v->data_len : 0;
    }
    uint32_t stats = find(s, path + head, len - head - tail, STATS);
    set_used(s, stats, &used);
}
