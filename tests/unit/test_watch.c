/* SPDX-License-Identifier: Apache-2.0 */
/* Watches by themselves: against a plain list of them, and many at once. What each change
 * fires on a tree is in test_tree_read.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "mutant_env.h"
#include "tree/watch.h"
#include "wire/path.h"

#define WATCHERS 6
#define KINDS 4

static const char *const paths[] = {"/", "/a", "/a/b", "/a/b/c", "/a/bb", "/x", ""};
#define PATHS (sizeof paths / sizeof *paths)

struct model {
    bool set[WATCHERS][PATHS][KINDS];
    unsigned told[WATCHERS]; /* in the present change */
    enum watch_event event;
    const char *path;
    unsigned events;
};

static void model_sink(void *ctx, uint64_t watcher, enum watch_event event, const char *path,
                       size_t len, const struct wire_list *acl)
{
    struct model *m = ctx;

    (void)acl;
    assert_true(watcher < WATCHERS);
    assert_int_equal(event, m->event);
    assert_int_equal(len, strlen(m->path));
    assert_memory_equal(path, m->path, len);
    m->told[watcher]++;
    m->events++;
}

static bool kind_is_for(int kind, enum watch_event event)
{
    switch ((enum watch_kind)kind) {
    case WATCH_DATA: return event != WATCH_CHILDREN_CHANGED;
    case WATCH_CHILD: return event == WATCH_CHILDREN_CHANGED || event == WATCH_DELETED;
    case WATCH_PERSISTENT: return true;
    case WATCH_RECURSIVE: return event != WATCH_CHILDREN_CHANGED;
    }
    return false;
}

static void model_trigger(struct model *m, struct watches *w, enum watch_event event, size_t at)
{
    memset(m->told, 0, sizeof m->told);
    m->event = event;
    m->path = paths[at];
    watches_trigger(w, event, paths[at], strlen(paths[at]), NULL);
    for (int x = 0; x < WATCHERS; x++) {
        unsigned expected = 0;
        for (size_t p = 0; p < PATHS; p++)
            for (int k = 0; k < KINDS; k++) {
                bool here = p == at, below = k == WATCH_RECURSIVE && paths[at][0] == '/' &&
                                             paths[p][0] == '/' &&
                                             path_is_within(paths[at], strlen(paths[at]),
                                                            paths[p], strlen(paths[p]));
                if (!m->set[x][p][k] || !(here || below) || !kind_is_for(k, event))
                    continue;
                expected = 1;
                if (k == WATCH_DATA || k == WATCH_CHILD)
                    m->set[x][p][k] = false;
            }
        assert_int_equal(m->told[x], expected);
    }
}

static void model_compare(const struct model *m, const struct watches *w)
{
    uint64_t count = 0;

    for (int x = 0; x < WATCHERS; x++)
        for (size_t p = 0; p < PATHS; p++)
            for (int k = 0; k < KINDS; k++) {
                assert_int_equal(
                    watches_has(w, (uint64_t)x, (enum watch_kind)k, paths[p], strlen(paths[p])),
                    m->set[x][p][k]);
                count += m->set[x][p][k];
            }
    assert_int_equal(watches_count(w), count);
}

/* What a monitor is shown: the table of data watches, by watcher or by path. */
struct shown {
    const struct model *model;
    bool by_path;
    bool seen[WATCHERS][PATHS];
    uint64_t last; /* watcher or path, and which of them are over */
    bool over[WATCHERS + PATHS];
    uint64_t count;
};

static bool in_data(const struct model *m, uint64_t x, size_t p)
{
    return m->set[x][p][WATCH_DATA] || m->set[x][p][WATCH_PERSISTENT] ||
           m->set[x][p][WATCH_RECURSIVE];
}

static bool see(void *ctx, uint64_t watcher, const char *path, size_t path_len)
{
    struct shown *s = ctx;
    size_t p = 0;

    while (strlen(paths[p]) != path_len || memcmp(paths[p], path, path_len) != 0)
        p++;
    assert_true(in_data(s->model, watcher, p) && !s->seen[watcher][p]);
    s->seen[watcher][p] = true;
    uint64_t group = s->by_path ? p : watcher;
    if (s->count > 0 && group != s->last)
        s->over[s->last] = true;
    assert_false(s->over[group]);
    s->last = group;
    s->count++;
    return true;
}

static bool stop_at_once(void *ctx, uint64_t watcher, const char *path, size_t path_len)
{
    (void)watcher, (void)path, (void)path_len;
    ++*(unsigned *)ctx;
    return false;
}

static void model_compare_shown(const struct model *m, const struct watches *w)
{
    struct watches_facts f;
    uint64_t data = 0, child = 0, watchers = 0, watched = 0, got_watchers, got_paths;
    bool has[WATCHERS + PATHS] = {false};

    for (uint64_t x = 0; x < WATCHERS; x++)
        for (size_t p = 0; p < PATHS; p++) {
            bool is_in = in_data(m, x, p);
            data += is_in;
            child += m->set[x][p][WATCH_CHILD] || m->set[x][p][WATCH_PERSISTENT] ||
                     m->set[x][p][WATCH_RECURSIVE];
            watchers += is_in && !has[x];
            has[x] = has[x] || is_in;
            watched += is_in && !has[WATCHERS + p];
            has[WATCHERS + p] = has[WATCHERS + p] || is_in;
        }
    watches_facts(w, &f);
    assert_int_equal(f.data, data);
    assert_int_equal(f.child, child);
    watches_data_size(w, &got_watchers, &got_paths);
    assert_int_equal(got_watchers, watchers);
    assert_int_equal(got_paths, watched);
    for (int by_path = 0; by_path < 2; by_path++) {
        struct shown s = {.model = m, .by_path = by_path != 0};
        unsigned stopped = 0;
        (by_path ? watches_by_path : watches_by_watcher)(w, see, &s);
        assert_int_equal(s.count, data);
        (by_path ? watches_by_path : watches_by_watcher)(w, stop_at_once, &stopped);
        assert_int_equal(stopped, data > 0);
    }
}

static void as_a_plain_list_of_watches(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct model m = {0};
        struct watches *w = watches_new(seed, model_sink, &m);
        struct rng rng = {seed};
        for (int step = 0; step < 300; step++) {
            uint64_t x = rng_below(&rng, WATCHERS);
            size_t p = rng_below(&rng, PATHS);
            int k = (int)rng_below(&rng, KINDS);
            switch (rng_below(&rng, 10)) {
            case 0: model_trigger(&m, w, WATCH_CREATED, p); break;
            case 1: model_trigger(&m, w, WATCH_DELETED, p); break;
            case 2: model_trigger(&m, w, WATCH_DATA_CHANGED, p); break;
            case 3: model_trigger(&m, w, WATCH_CHILDREN_CHANGED, p); break;
            case 4:
                assert_int_equal(
                    watches_remove(w, x, (enum watch_kind)k, paths[p], strlen(paths[p])),
                    m.set[x][p][k]);
                m.set[x][p][k] = false;
                break;
            case 5:
                if (rng_below(&rng, 4) == 0) {
                    watches_forget(w, x);
                    memset(m.set[x], 0, sizeof m.set[x]);
                }
                break;
            default:
                watches_add(w, x, (enum watch_kind)k, paths[p], strlen(paths[p]));
                m.set[x][p][k] = true;
            }
            model_compare(&m, w);
            model_compare_shown(&m, w);
        }
        assert_true(m.events > 0);
        watches_free(w);
    }
}

static void count_sink(void *ctx, uint64_t watcher, enum watch_event event, const char *path,
                       size_t len, const struct wire_list *acl)
{
    (void)watcher, (void)event, (void)path, (void)len, (void)acl;
    ++*(unsigned *)ctx;
}

static void many_watchers_of_one_path(void **state)
{
    unsigned told = 0;
    struct watches *w = watches_new(1, count_sink, &told);

    (void)state;
    for (uint64_t x = 0; x < 1000; x++) {
        watches_add(w, x, WATCH_DATA, "/p", 2);
        watches_add(w, x, WATCH_CHILD, "/p", 2);
        watches_add(w, x, WATCH_DATA, "/p", 2);
    }
    assert_int_equal(watches_count(w), 2000);
    watches_trigger(w, WATCH_CREATED, "/p/q", 4, NULL);
    assert_int_equal(told, 0);
    watches_trigger(w, WATCH_DELETED, "/p", 2, NULL);
    assert_int_equal(told, 1000);
    assert_int_equal(watches_count(w), 0);
    watches_trigger(w, WATCH_DELETED, "/p", 2, NULL);
    assert_int_equal(told, 1000);
    watches_free(w);
}

static void many_watches_of_one_watcher(void **state)
{
    unsigned told = 0;
    struct watches *w = watches_new(1, count_sink, &told);
    char path[] = "/000000";

    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        for (unsigned k = 6, v = i; k > 0; k--, v /= 10)
            path[k] = (char)('0' + v % 10);
        watches_add(w, i % 2, WATCH_DATA, path, 7);
    }
    watches_add(w, 7, WATCH_DATA, "/000001", 7);
    watches_forget(w, 1);
    assert_int_equal(watches_count(w), 50001);
    watches_trigger(w, WATCH_DATA_CHANGED, "/000001", 7, NULL);
    watches_trigger(w, WATCH_DATA_CHANGED, "/000002", 7, NULL);
    watches_forget(w, 99);
    assert_int_equal(told, 2);
    watches_forget(w, 0);
    assert_int_equal(watches_count(w), 0);
    watches_free(w);
}

static void how_many_were_told(void **state)
{
    unsigned told = 0;
    struct watches *w = watches_new(1, count_sink, &told);
    struct watches_facts f;

    (void)state;
    for (uint64_t x = 0; x < 3; x++)
        watches_add(w, x, x == 2 ? WATCH_PERSISTENT : WATCH_DATA, "/a", 2);
    watches_trigger(w, WATCH_DATA_CHANGED, "/a", 2, NULL);
    watches_trigger(w, WATCH_DATA_CHANGED, "/a", 2, NULL);
    watches_trigger(w, WATCH_DATA_CHANGED, "/b", 2, NULL);
    watches_trigger(w, WATCH_DELETED, "/a", 2, NULL);
    watches_facts(w, &f);
    assert_int_equal(f.told[WATCH_DATA_CHANGED - 1].count, 2);
    assert_int_equal(f.told[WATCH_DATA_CHANGED - 1].sum, 4);
    assert_int_equal(f.told[WATCH_DATA_CHANGED - 1].most, 3);
    assert_int_equal(f.told[WATCH_DELETED - 1].sum, 1);
    watches_facts_reset(w);
    watches_facts(w, &f);
    assert_int_equal(f.told[WATCH_DATA_CHANGED - 1].count, 0);
    assert_int_equal(f.data, 1);
    watches_free(w);
}

static void emit_goes_to_one_watcher_and_uses_nothing_up(void **state)
{
    unsigned told = 0;
    struct watches *w = watches_new(1, count_sink, &told);

    (void)state;
    watches_add(w, 1, WATCH_DATA, "/a", 2);
    watches_emit(w, 1, WATCH_DELETED, "/a", 2);
    assert_int_equal(told, 1);
    assert_int_equal(watches_count(w), 1);
    watches_free(w);
    watches_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_plain_list_of_watches),
        cmocka_unit_test(many_watchers_of_one_path),
        cmocka_unit_test(many_watches_of_one_watcher),
        cmocka_unit_test(how_many_were_told),
        cmocka_unit_test(emit_goes_to_one_watcher_and_uses_nothing_up),
    };
    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
