/* SPDX-License-Identifier: Apache-2.0 */
/* multi: all operations or none, each seeing the ones before it. */
#include "unit/tree_world.h"

static int setup(void **state)
{
    struct world *w = world_new();

    assert_int_equal(create(w, "/t", "", 0), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void begin(struct world *w) { buf_clear(&w->body); }

static void header(struct world *w, int32_t op)
{
    struct wire_multi_header h = {op, false, -1};

    wire_multi_header_encode(&h, &w->body);
}

static void add_create(struct world *w, int32_t op, const char *path, int32_t flags)
{
    struct wire_create_request r = {text_of(path), text_of("data"), acl_of(w), flags};

    header(w, op);
    wire_create_request_encode(&r, &w->body);
    if (op == WIRE_OP_CREATE_TTL)
        buf_add_be64(&w->body, 1000);
}

static void add_path_version(struct world *w, int32_t op, const char *path, int32_t version)
{
    struct wire_path_version_request r = {text_of(path), version};

    header(w, op);
    wire_path_version_request_encode(&r, &w->body);
}

static void add_set(struct world *w, const char *path, const char *data, int32_t version)
{
    struct wire_set_data_request r = {text_of(path), text_of(data), version};

    header(w, WIRE_OP_SET_DATA);
    wire_set_data_request_encode(&r, &w->body);
}

static int end(struct world *w)
{
    struct wire_multi_header h = {-1, true, -1};

    wire_multi_header_encode(&h, &w->body);
    return apply(w, WIRE_OP_MULTI);
}

/* The results, as "op:err ..."; the end marker must be there. */
static void assert_results(struct world *w, const char *expected)
{
    struct wire_in in = answer(w);
    struct buf text = {0};
    struct wire_multi_header h;
    struct wire_path_response p;
    struct wire_create2_response c;
    struct wire_stat_response s;
    struct wire_error_response e;

    for (;;) {
        assert_int_equal(wire_multi_header_decode(&h, &in), 0);
        if (h.done)
            break;
        buf_printf(&text, "%d:%d", h.op, h.err);
        if (h.op == WIRE_OP_CREATE) {
            assert_int_equal(wire_path_response_decode(&p, &in), 0);
            buf_printf(&text, "=%.*s", p.path.len, (const char *)p.path.data);
        } else if (h.op == WIRE_OP_CREATE2) {
            assert_int_equal(wire_create2_response_decode(&c, &in), 0);
            buf_printf(&text, "=%.*s", c.path.len, (const char *)c.path.data);
            assert_int_equal(c.stat.czxid, w->zxid);
        } else if (h.op == WIRE_OP_SET_DATA) {
            assert_int_equal(wire_stat_response_decode(&s, &in), 0);
            buf_printf(&text, "=v%d", s.stat.version);
            assert_int_equal(s.stat.mzxid, w->zxid);
        } else if (h.op == WIRE_OP_ERROR) {
            assert_int_equal(wire_error_response_decode(&e, &in), 0);
            assert_int_equal(e.err, h.err);
        }
        buf_add_str(&text, " ");
    }
    assert_int_equal(h.op, -1);
    assert_int_equal(h.err, -1);
    assert_ptr_equal(in.at, in.end);
    assert_string_equal(buf_text(&text), expected);
    buf_free(&text);
}

static void all_kinds_succeed(void **state)
{
    struct world *w = *state;

    begin(w);
    add_create(w, WIRE_OP_CREATE, "/t/a", 0);
    add_set(w, "/t/a", "x", 0);
    add_path_version(w, WIRE_OP_CHECK, "/t/a", 1);
    add_create(w, WIRE_OP_CREATE, "/t/s-", WIRE_EPHEMERAL_SEQUENTIAL);
    add_create(w, WIRE_OP_CREATE, "/t/s-", WIRE_SEQUENTIAL);
    add_path_version(w, WIRE_OP_DELETE, "/t/a", 1);
    add_create(w, WIRE_OP_CREATE, "/t/a", WIRE_CONTAINER);
    add_create(w, WIRE_OP_CREATE2, "/t/b", 0);
    add_create(w, WIRE_OP_CREATE_CONTAINER, "/t/c", WIRE_CONTAINER);
    assert_int_equal(end(w), 0);
    assert_results(w, "1:0=/t/a 5:0=v1 13:0 1:0=/t/s-0000000001 1:0=/t/s-0000000002 2:0 "
                      "15:0=/t/a 15:0=/t/b 15:0=/t/c ");
    assert_int_equal(exists(w, "/t", 0), 0);
    assert_int_equal(w->stat.pzxid, w->zxid);
    assert_int_equal(w->stat.children, 5);
    assert_int_equal(w->stat.cversion, 7);
    reload(w);
}

/* Outside of a multi the operation does; createContainer makes one whatever the mode. */
static void the_mode_says_what_is_made(void **state)
{
    struct world *w = *state;

    begin(w);
    add_create(w, WIRE_OP_CREATE_CONTAINER, "/t/p", WIRE_PERSISTENT);
    add_create(w, WIRE_OP_CREATE_CONTAINER, "/t/e", WIRE_EPHEMERAL);
    add_create(w, WIRE_OP_CREATE_TTL, "/t/c", WIRE_CONTAINER);
    add_create(w, WIRE_OP_CREATE_TTL, "/t/s", WIRE_SEQUENTIAL);
    assert_int_equal(end(w), 0);
    assert_results(w, "1:0=/t/p 1:0=/t/e 15:0=/t/c 1:0=/t/s0000000003 ");
    assert_int_equal(exists(w, "/t/e", 0), 0);
    assert_int_not_equal(w->stat.ephemeral_owner, 0);
    reload(w);
}

static void empty_is_fine(void **state)
{
    struct world *w = *state;

    begin(w);
    assert_int_equal(end(w), 0);
    assert_int_equal(w->reply.len, 9);
    assert_memory_equal(w->reply.data, "\377\377\377\377\1\377\377\377\377", 9);
}

static void failure_has_the_bytes_of_the_protocol(void **state)
{
    static const uint8_t expected[] = {
        0xff, 0xff, 0xff, 0xff, 0,    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xff, 0xff, 0xff, 0xff, 0,    0xff, 0xff, 0xff, 0x99, 0xff, 0xff,
        0xff, 0x99, 0xff, 0xff, 0xff, 0xff, 0,    0xff, 0xff, 0xff, 0xfe, 0xff,
        0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 1,    0xff, 0xff, 0xff, 0xff,
    };
    struct world *w = *state;

    begin(w);
    add_create(w, WIRE_OP_CREATE, "/t/a", 0);
    add_set(w, "/t/a", "x", 7);
    add_path_version(w, WIRE_OP_DELETE, "/t/a", -1);
    assert_int_equal(end(w), 0);
    assert_int_equal(w->reply.len, sizeof expected);
    assert_memory_equal(w->reply.data, expected, sizeof expected);
}

static void failure_leaves_no_trace(void **state)
{
    struct world *w = *state;

    assert_int_equal(create(w, "/t/old", "old data", WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/t/dir", "", 0), 0);
    assert_int_equal(create(w, "/t/dir/e", "1", WIRE_EPHEMERAL), 0);
    assert_int_equal(create(w, "/t/dir/f", "2", WIRE_EPHEMERAL), 0);
    assert_int_equal(add_watch(w, "/", WIRE_WATCH_RECURSIVE, 5), 0);
    uint64_t digest = tree_digest(w->tree);
    struct tree_facts before, after;
    tree_facts(w->tree, &before);
    for (int bad = 0; bad < 3; bad++) {
        begin(w);
        add_set(w, "/t/old", "a", -1);
        add_set(w, "/t/old", "a much longer text than before", -1);
        add_path_version(w, WIRE_OP_DELETE, "/t/old", -1);
        add_create(w, WIRE_OP_CREATE, "/t/old", 0);
        add_create(w, WIRE_OP_CREATE, "/t/old/below", WIRE_EPHEMERAL_SEQUENTIAL);
        add_path_version(w, WIRE_OP_DELETE, "/t/dir/e", -1);
        add_path_version(w, WIRE_OP_DELETE, "/t/dir/f", -1);
        add_path_version(w, WIRE_OP_DELETE, "/t/dir", -1);
        add_create(w, WIRE_OP_CREATE, "/t/dir", WIRE_CONTAINER);
        if (bad == 0)
            add_create(w, WIRE_OP_CREATE, "/no/x", 0);
        else if (bad == 1)
            add_path_version(w, WIRE_OP_DELETE, "/t/old", -1);
        else
            add_path_version(w, WIRE_OP_CHECK, "/t", 3);
        assert_int_equal(end(w), 0);
        assert_true(tree_digest(w->tree) == digest);
        assert_events(w, "");
        tree_facts(w->tree, &after);
        assert_memory_equal(&before, &after, sizeof before);
        reload(w); /* computes the digest anew */
        assert_true(tree_digest(w->tree) == digest);
    }
    assert_int_equal(get_data(w, "/t/old", 0), 0);
    assert_int_equal(w->stat.data_len, 8);
    assert_int_equal(create(w, "/t/s", "", WIRE_SEQUENTIAL), 0);
    assert_string_equal(w->path, "/t/s0000000002"); /* the counter was given back */
    assert_events(w, "5 created /t/s0000000002\n");
    assert_int_equal(close_session(w, w->session, w->origin), 0);
    assert_events(w, "5 deleted /t/old\n5 deleted /t/dir/e\n5 deleted /t/dir/f\n");
}

static void errors_stand_in_their_place(void **state)
{
    static const struct {
        int32_t op, flags;
        const char *path, *results;
    } rows[] = {
        {WIRE_OP_CREATE, 0, "/t", "-1:0 -1:-110 -1:-2 "},
        {WIRE_OP_CREATE, 9, "/t/x", "-1:0 -1:-8 -1:-2 "},
        {WIRE_OP_CREATE, 0, "/t/one/x", "-1:0 -1:-108 -1:-2 "},
        {WIRE_OP_CREATE_TTL, WIRE_TTL, "/t/x", "-1:0 -1:-6 -1:-2 "},
        {WIRE_OP_CREATE_TTL, 9, "/t/x", "-1:0 -1:-8 -1:-2 "},
        {WIRE_OP_DELETE, 3, "/t/one", "-1:0 -1:-103 -1:-2 "},
        {WIRE_OP_DELETE, 0, "/zookeeper", "-1:0 -1:-8 -1:-2 "},
        {WIRE_OP_CHECK, 1, "/t/one", "-1:0 -1:-103 -1:-2 "},
        {WIRE_OP_CHECK, 0, "/no", "-1:0 -1:-101 -1:-2 "},
        {WIRE_OP_CHECK, 0, "/t/", "-1:0 -1:-8 -1:-2 "},
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin(w);
        add_create(w, WIRE_OP_CREATE, "/t/one", WIRE_EPHEMERAL);
        if (rows[i].op == WIRE_OP_DELETE || rows[i].op == WIRE_OP_CHECK)
            add_path_version(w, rows[i].op, rows[i].path, rows[i].flags);
        else
            add_create(w, rows[i].op, rows[i].path, rows[i].flags);
        add_set(w, "/t", "x", -1);
        assert_int_equal(end(w), 0);
        assert_results(w, rows[i].results);
        assert_int_equal(exists(w, "/t/one", 0), ERR_NO_NODE);
    }
}

static void what_cannot_be_decoded_is_refused_whole(void **state)
{
    struct world *w = *state;
    uint64_t digest = tree_digest(w->tree);

    /* An operation that has no place in a multi. */
    static const int32_t ops[] = {WIRE_OP_GET_DATA, WIRE_OP_SET_ACL, WIRE_OP_MULTI, 0, -1, 99};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        begin(w);
        add_create(w, WIRE_OP_CREATE, "/t/a", 0);
        add_path_version(w, ops[i], "/t", -1);
        assert_int_equal(end(w), ERR_MALFORMED);
    }
    /* A TTL mode where no TTL can be. */
    begin(w);
    add_create(w, WIRE_OP_CREATE, "/t/one", 0);
    add_create(w, WIRE_OP_CREATE, "/t/a", WIRE_TTL);
    assert_int_equal(end(w), ERR_MALFORMED);
    assert_true(tree_digest(w->tree) == digest);
    /* But only if it comes to it. */
    begin(w);
    add_set(w, "/no", "", -1);
    add_create(w, WIRE_OP_CREATE, "/t/a", WIRE_TTL);
    assert_int_equal(end(w), 0);
    assert_results(w, "-1:-101 -1:-2 ");
    /* Cut short, anywhere. */
    begin(w);
    add_create(w, WIRE_OP_CREATE, "/t/a", 0);
    add_set(w, "/t/a", "x", 0);
    add_path_version(w, WIRE_OP_DELETE, "/t/a", 1);
    assert_int_equal(end(w), 0);
    digest = tree_digest(w->tree);
    for (size_t len = w->body.len; len-- > 0;) {
        struct tree_txn txn = {.op = WIRE_OP_MULTI,
                               .session = w->session,
                               .origin = w->origin,
                               .body = w->body.data,
                               .len = len};
        assert_int_equal(apply_txn(w, &txn, NULL), ERR_MALFORMED);
        assert_true(tree_digest(w->tree) == digest);
    }
}

static void events_come_for_each_operation_in_order(void **state)
{
    struct world *w = *state;

    assert_int_equal(get_children(w, "/t", 1), 0);
    assert_int_equal(add_watch(w, "/t", WIRE_WATCH_PERSISTENT, 2), 0);
    assert_int_equal(add_watch(w, "/t", WIRE_WATCH_RECURSIVE, 3), 0);
    begin(w);
    add_create(w, WIRE_OP_CREATE, "/t/a", 0);
    add_set(w, "/t/a", "x", 0);
    add_set(w, "/t", "x", 0);
    add_path_version(w, WIRE_OP_DELETE, "/t/a", 1);
    assert_int_equal(end(w), 0);
    assert_events(w, "3 created /t/a\n"
                     "1 children /t\n"
                     "2 children /t\n"
                     "3 data /t/a\n"
                     "3 data /t\n"
                     "2 data /t\n"
                     "3 deleted /t/a\n"
                     "2 children /t\n");
}

static void ephemerals_of_one_multi_go_in_the_order_of_its_operations(void **state)
{
    struct world *w = *state;

    begin(w);
    add_create(w, WIRE_OP_CREATE, "/t/z", WIRE_EPHEMERAL);
    add_create(w, WIRE_OP_CREATE, "/t/a", WIRE_EPHEMERAL);
    add_create(w, WIRE_OP_CREATE, "/t/m", WIRE_EPHEMERAL);
    assert_int_equal(end(w), 0);
    assert_int_equal(create(w, "/t/b", "", WIRE_EPHEMERAL), 0);
    reload(w);
    assert_int_equal(add_watch(w, "/t", WIRE_WATCH_RECURSIVE, 3), 0);
    assert_int_equal(close_session(w, w->session, w->origin), 0);
    assert_events(w, "3 deleted /t/z\n3 deleted /t/a\n3 deleted /t/m\n3 deleted /t/b\n");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(all_kinds_succeed),
        T(the_mode_says_what_is_made),
        T(empty_is_fine),
        T(failure_has_the_bytes_of_the_protocol),
        T(failure_leaves_no_trace),
        T(errors_stand_in_their_place),
        T(what_cannot_be_decoded_is_refused_whole),
        T(events_come_for_each_operation_in_order),
        T(ephemerals_of_one_multi_go_in_the_order_of_its_operations),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
