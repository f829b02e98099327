/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, and the watches that they leave: what is set when, and what changes fire. */
#include "unit/tree_world.h"

static int setup(void **state)
{
    struct world *w = world_new();

    assert_int_equal(create(w, "/a", "1", 0), 0);
    assert_int_equal(create(w, "/a/b", "22", 0), 0);
    assert_int_equal(create(w, "/a/e", "", WIRE_EPHEMERAL), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void errors(void **state)
{
    static const int32_t ops[] = {WIRE_OP_EXISTS, WIRE_OP_GET_DATA, WIRE_OP_GET_CHILDREN,
                                  WIRE_OP_GET_CHILDREN2};
    static const char *const bad[] = {"zz", "/a/", "//", "/no", "/a//b", "a"};
    struct world *w = *state;

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
            assert_int_equal(read_path(w, ops[i], text_of(bad[k]), 0), ERR_NO_NODE);
        assert_int_equal(read_path(w, ops[i], text_of(""), 0), 0);
        assert_int_equal(read_path(w, ops[i], text_of("/"), 0), 0);
        assert_int_equal(read_path(w, ops[i], wire_bytes("/\0", 2), 5),
                         ops[i] == WIRE_OP_EXISTS ? ERR_BAD_ARGUMENTS : ERR_NO_NODE);
        assert_true(tree_op_is_read(ops[i]) && !tree_op_is_write(ops[i]));
        buf_clear(&w->body);
        buf_add(&w->body, "\377\377\377\377\1", 5);
        assert_int_equal(read_body(w, 0, ops[i]), ERR_MALFORMED);
    }
    assert_int_equal(watches_count(w->watches), 0);
    static const int32_t others[] = {WIRE_OP_GET_ACL,        WIRE_OP_GET_ALL_CHILDREN_NUMBER,
                                     WIRE_OP_GET_EPHEMERALS, WIRE_OP_ADD_WATCH,
                                     WIRE_OP_REMOVE_WATCHES, WIRE_OP_CHECK_WATCHES,
                                     WIRE_OP_SET_WATCHES,    WIRE_OP_SET_WATCHES2};
    buf_clear(&w->body);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_true(tree_op_is_read(others[i]) && !tree_op_is_write(others[i]));
        assert_int_equal(read_body(w, 0, others[i]), ERR_MALFORMED);
    }
    assert_int_equal(read_body(w, 0, WIRE_OP_SYNC), ERR_UNIMPLEMENTED);
}

static void children_are_listed(void **state)
{
    struct world *w = *state;
    struct wire_children2_response r;
    struct wire_children_response plain;
    struct wire_bytes name;
    unsigned seen = 0;

    assert_int_equal(get_children(w, "/a", 0), 0);
    struct wire_in in = answer(w);
    assert_int_equal(wire_children2_response_decode(&r, &in), 0);
    assert_int_equal(r.children.count, 2);
    while (wire_texts_next(&r.children, &name)) {
        assert_int_equal(name.len, 1);
        seen |= name.data[0] == 'b' ? 1 : name.data[0] == 'e' ? 2 : 4;
    }
    assert_int_equal(seen, 3);
    assert_int_equal(r.stat.children, 2);
    assert_int_equal(read_path(w, WIRE_OP_GET_CHILDREN, text_of("/a/b"), 0), 0);
    in = answer(w);
    assert_int_equal(wire_children_response_decode(&plain, &in), 0);
    assert_int_equal(plain.children.count, 0); /* empty, not null */
    assert_int_equal(w->reply.len, 4);
}

static int32_t below(struct world *w, const char *path)
{
    struct wire_path_request q = {text_of(path)};
    struct wire_count_response r;

    buf_clear(&w->body);
    wire_path_request_encode(&q, &w->body);
    if (read_body(w, 0, WIRE_OP_GET_ALL_CHILDREN_NUMBER) != 0)
        return -1;
    struct wire_in in = answer(w);
    assert_int_equal(wire_count_response_decode(&r, &in), 0);
    return r.count;
}

static void descendants_are_counted(void **state)
{
    struct world *w = *state;

    assert_int_equal(below(w, "/"), 3 + 3); /* the built-in ones, too */
    assert_int_equal(below(w, "/a"), 2);
    assert_int_equal(create(w, "/a/b/c", "", 0), 0);
    assert_int_equal(create(w, "/a/b/c/d", "", 0), 0);
    assert_int_equal(create(w, "/ab", "", 0), 0);
    assert_int_equal(below(w, "/a"), 4);
    assert_int_equal(below(w, "/a/b"), 2);
    assert_int_equal(below(w, "/a/b/c/d"), 0);
    assert_int_equal(below(w, "/no"), -1);
    assert_int_equal(below(w, "/zookeeper"), 2);
}

static void ephemerals_are_listed(void **state)
{
    static const struct {
        const char *prefix;
        int32_t count;
    } rows[] = {{NULL, 3},  {"", 3},    {"  ", 3},   {"/", 3}, {"/a", 3},
                {"/a/", 1}, {"/ab", 2}, {"/abc", 1}, {"/x", 0}};
    struct world *w = *state;

    assert_int_equal(create(w, "/ab", "", WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/abc", "", WIRE_EPHEMERAL), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_get_ephemerals_request q = {{NULL, -1}};
        struct wire_children_response r;
        if (rows[i].prefix != NULL)
            q.prefix = text_of(rows[i].prefix);
        buf_clear(&w->body);
        wire_get_ephemerals_request_encode(&q, &w->body);
        assert_int_equal(read_body(w, 0, WIRE_OP_GET_EPHEMERALS), 0);
        struct wire_in in = answer(w);
        assert_int_equal(wire_children_response_decode(&r, &in), 0);
        assert_int_equal(r.children.count, rows[i].count);
    }
}

static void a_watch_is_set_only_on_success_but_for_exists(void **state)
{
    struct world *w = *state;

    assert_int_equal(get_data(w, "/no", 1), ERR_NO_NODE);
    assert_int_equal(get_children(w, "/no", 1), ERR_NO_NODE);
    assert_int_equal(watches_count(w->watches), 0);
    assert_int_equal(exists(w, "/no", 1), ERR_NO_NODE);
    assert_int_equal(exists(w, "/no", 1), ERR_NO_NODE); /* held once */
    assert_int_equal(watches_count(w->watches), 1);
    assert_int_equal(create(w, "/no", "", 0), 0);
    assert_events(w, "1 created /no\n");
    assert_int_equal(watches_count(w->watches), 0);
    assert_int_equal(get_data(w, "/a", 0), 0);
    assert_int_equal(watches_count(w->watches), 0);
}

/* Everything that watches: 1 data of /a/b, 2 child of /a/b, 3 both, 4 child of /a,
 * 5 data of /a, 6 persistent on /a/b, 7 persistent on /a, 8 recursive on /, 9 recursive on
 * /a/b and /a, 10 exists and recursive on /a/b. */
static void watch_everything(struct world *w)
{
    assert_int_equal(get_data(w, "/a/b", 1), 0);
    assert_int_equal(get_children(w, "/a/b", 2), 0);
    assert_int_equal(get_data(w, "/a/b", 3), 0);
    assert_int_equal(get_children(w, "/a/b", 3), 0);
    assert_int_equal(get_children(w, "/a", 4), 0);
    assert_int_equal(exists(w, "/a", 5), 0);
    assert_int_equal(add_watch(w, "/a/b", WIRE_WATCH_PERSISTENT, 6), 0);
    assert_int_equal(add_watch(w, "/a", WIRE_WATCH_PERSISTENT, 7), 0);
    assert_int_equal(add_watch(w, "/", WIRE_WATCH_RECURSIVE, 8), 0);
    assert_int_equal(add_watch(w, "/a/b", WIRE_WATCH_RECURSIVE, 9), 0);
    assert_int_equal(add_watch(w, "/a", WIRE_WATCH_RECURSIVE, 9), 0);
    assert_int_equal(exists(w, "/a/b", 10), 0);
    assert_int_equal(add_watch(w, "/a/b", WIRE_WATCH_RECURSIVE, 10), 0);
}

/* The events since the last time, sorted; between watchers there is no order. */
static void assert_events_sorted(struct world *w, const char *expected)
{
    struct buf out = {0};
    const char *text = buf_text(&w->events);

    for (int id = 1; id < 12; id++)
        for (const char *line = text; *line != 0;) {
            size_t len = strcspn(line, "\n") + 1;
            if (atoi(line) == id)
                buf_add(&out, line, len);
            line += len;
        }
    assert_string_equal(buf_text(&out), expected);
    buf_clear(&w->events);
    buf_free(&out);
}

static void what_a_deletion_fires(void **state)
{
    struct world *w = *state;

    watch_everything(w);
    assert_int_equal(remove_node(w, "/a/b", -1), 0);
    assert_events_sorted(w, "1 deleted /a/b\n"
                            "2 deleted /a/b\n"
                            "3 deleted /a/b\n" /* once, for both of its watches */
                            "4 children /a\n"
                            "6 deleted /a/b\n"
                            "7 children /a\n"
                            "8 deleted /a/b\n"
                            "9 deleted /a/b\n"
                            "10 deleted /a/b\n");
    /* What serves once is used up; persistent ones live on without the znode. */
    assert_int_equal(create(w, "/a/b", "", 0), 0);
    assert_events_sorted(w, "6 created /a/b\n"
                            "7 children /a\n"
                            "8 created /a/b\n"
                            "9 created /a/b\n"
                            "10 created /a/b\n");
}

static void what_a_change_of_data_fires(void **state)
{
    struct world *w = *state;

    watch_everything(w);
    assert_int_equal(set_data(w, "/a/b", "22", -1), 0); /* the same as it was */
    assert_events_sorted(w, "1 data /a/b\n"
                            "3 data /a/b\n"
                            "6 data /a/b\n"
                            "8 data /a/b\n"
                            "9 data /a/b\n"
                            "10 data /a/b\n");
    assert_int_equal(set_data(w, "/a/b", "22", 99), ERR_BAD_VERSION);
    assert_int_equal(set_acl(w, "/a/b", -1), 0);
    assert_events(w, "");
    assert_int_equal(set_data(w, "/a/b", "22", -1), 0);
    assert_events_sorted(w, "6 data /a/b\n8 data /a/b\n9 data /a/b\n10 data /a/b\n");
    assert_int_equal(remove_node(w, "/a/b", -1), 0); /* the child watches are still there */
    assert_events_sorted(w, "2 deleted /a/b\n"
                            "3 deleted /a/b\n"
                            "4 children /a\n"
                            "6 deleted /a/b\n"
                            "7 children /a\n"
                            "8 deleted /a/b\n"
                            "9 deleted /a/b\n"
                            "10 deleted /a/b\n");
}

static void what_a_creation_fires(void **state)
{
    struct world *w = *state;

    watch_everything(w);
    assert_int_equal(exists(w, "/a/b/c", 11), ERR_NO_NODE);
    assert_int_equal(create(w, "/a/b/c", "", 0), 0);
    assert_events_sorted(w, "2 children /a/b\n"
                            "3 children /a/b\n"
                            "6 children /a/b\n"
                            "8 created /a/b/c\n"
                            "9 created /a/b/c\n"
                            "10 created /a/b/c\n"
                            "11 created /a/b/c\n");
    assert_int_equal(create(w, "/top", "", 0), 0); /* below the root */
    assert_events_sorted(w, "8 created /top\n");
}

static int watch_type(struct world *w, int32_t op, const char *path, int32_t type)
{
    struct wire_watch_type_request r = {text_of(path), type};

    buf_clear(&w->body);
    wire_watch_type_request_encode(&r, &w->body);
    return read_body(w, 1, op);
}

static void watches_are_checked_and_removed_by_kind(void **state)
{
    struct world *w = *state;

    for (int32_t type = 1; type <= 5; type++) {
        if (type == WIRE_WATCHER_ANY)
            continue;
        assert_int_equal(get_children(w, "/a", 1), 0);
        assert_int_equal(get_data(w, "/a", 1), 0);
        assert_int_equal(add_watch(w, "/a", WIRE_WATCH_PERSISTENT, 1), 0);
        assert_int_equal(add_watch(w, "/a", WIRE_WATCH_RECURSIVE, 1), 0);
        assert_int_equal(get_data(w, "/a", 2), 0);
        assert_int_equal(watches_count(w->watches), 5);
        assert_int_equal(watch_type(w, WIRE_OP_CHECK_WATCHES, "/a", type), 0);
        assert_int_equal(watch_type(w, WIRE_OP_CHECK_WATCHES, "/a/b", type), ERR_NO_WATCHER);
        assert_int_equal(watch_type(w, WIRE_OP_REMOVE_WATCHES, "/a", type), 0);
        assert_int_equal(watches_count(w->watches), 4);
        assert_int_equal(watch_type(w, WIRE_OP_CHECK_WATCHES, "/a", type), ERR_NO_WATCHER);
        assert_int_equal(watch_type(w, WIRE_OP_REMOVE_WATCHES, "/a", type), ERR_NO_WATCHER);
    }
    assert_int_equal(watch_type(w, WIRE_OP_CHECK_WATCHES, "/a", WIRE_WATCHER_ANY), 0);
    assert_int_equal(watch_type(w, WIRE_OP_REMOVE_WATCHES, "/a", WIRE_WATCHER_ANY), 0);
    assert_int_equal(watches_count(w->watches), 1); /* the other connection's */
    assert_int_equal(watch_type(w, WIRE_OP_CHECK_WATCHES, "/a", WIRE_WATCHER_ANY),
                     ERR_NO_WATCHER);
    assert_int_equal(watch_type(w, WIRE_OP_CHECK_WATCHES, "/a", 0), ERR_MALFORMED);
    assert_int_equal(watch_type(w, WIRE_OP_REMOVE_WATCHES, "/a", 6), ERR_MALFORMED);
    assert_int_equal(add_watch(w, "/a", 2, 1), ERR_MALFORMED);
    assert_int_equal(add_watch(w, "/a", -1, 1), ERR_MALFORMED);
    assert_int_equal(add_watch(w, "no path at all", 1, 1), 0);
    assert_int_equal(w->reply.len, 4);
    assert_events(w, "");
}

static void add_list(struct buf *elements, struct wire_list *list, const char *const *paths)
{
    for (; *paths != NULL; paths++) {
        wire_text_encode(*paths, strlen(*paths), elements);
        list->count++;
    }
    list->data = elements->data;
    list->len = elements->len;
}

static void set_watches_catches_up(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/old", "", 0), 0);
    assert_int_equal(create(w, "/set", "", 0), 0);
    assert_int_equal(create(w, "/parent", "", 0), 0);
    int64_t seen = w->zxid;
    assert_int_equal(set_data(w, "/set", "x", -1), 0);
    assert_int_equal(create(w, "/parent/c", "", 0), 0);
    assert_int_equal(set_acl(w, "/old", -1), 0);

    static const char *const data[] = {"/old", "/set", "/gone", "/parent", NULL};
    static const char *const exist[] = {"/old", "/gone", NULL};
    static const char *const child[] = {"/old", "/set", "/parent", "/gone", NULL};
    static const char *const persistent[] = {"/gone", "/set", NULL};
    static const char *const recursive[] = {"/gone", "/", NULL};
    const char *const *lists[] = {data, exist, child, persistent, recursive};
    struct buf b[5] = {0};
    struct wire_set_watches2_request q = {.relative_zxid = seen};
    struct wire_list *to[] = {&q.data, &q.exist, &q.child, &q.persistent, &q.recursive};
    for (size_t i = 0; i < 5; i++)
        add_list(&b[i], to[i], lists[i]);
    buf_clear(&w->body);
    wire_set_watches2_request_encode(&q, &w->body);
    assert_int_equal(read_body(w, 1, WIRE_OP_SET_WATCHES2), 0);
    assert_int_equal(w->reply.len, 0);
    assert_events(w, "1 data /set\n"
                     "1 deleted /gone\n"
                     "1 created /old\n"
                     "1 children /parent\n"
                     "1 deleted /gone\n");
    assert_true(watches_has(w->watches, 1, WATCH_DATA, "/old", 4));
    assert_true(watches_has(w->watches, 1, WATCH_DATA, "/parent", 7));
    assert_true(watches_has(w->watches, 1, WATCH_DATA, "/gone", 5)); /* exists */
    assert_true(watches_has(w->watches, 1, WATCH_CHILD, "/old", 4));
    assert_true(watches_has(w->watches, 1, WATCH_CHILD, "/set", 4));
    assert_true(watches_has(w->watches, 1, WATCH_PERSISTENT, "/gone", 5));
    assert_true(watches_has(w->watches, 1, WATCH_PERSISTENT, "/set", 4));
    assert_true(watches_has(w->watches, 1, WATCH_RECURSIVE, "/gone", 5));
    assert_true(watches_has(w->watches, 1, WATCH_RECURSIVE, "/", 1));
    assert_int_equal(watches_count(w->watches), 9);

    /* The older form has the first three lists only. */
    struct wire_set_watches_request old = {seen, q.data, q.exist, q.child};
    buf_clear(&w->body);
    wire_set_watches_request_encode(&old, &w->body);
    assert_int_equal(read_body(w, 2, WIRE_OP_SET_WATCHES), 0);
    assert_events(w, "2 data /set\n"
                     "2 deleted /gone\n"
                     "2 created /old\n"
                     "2 children /parent\n"
                     "2 deleted /gone\n");
    assert_int_equal(watches_count(w->watches), 9 + 5);
    watches_forget(w->watches, 1);
    assert_int_equal(watches_count(w->watches), 5);
    for (size_t i = 0; i < 5; i++)
        buf_free(&b[i]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(errors),
        T(children_are_listed),
        T(descendants_are_counted),
        T(ephemerals_are_listed),
        T(a_watch_is_set_only_on_success_but_for_exists),
        T(what_a_deletion_fires),
        T(what_a_change_of_data_fires),
        T(what_a_creation_fires),
        T(watches_are_checked_and_removed_by_kind),
        T(set_watches_catches_up),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
