/* SPDX-License-Identifier: Apache-2.0 */
/* Access lists with identities: who may, who may not, and what each is told. */
#include "mutant_env.h"
#include "unit/tree_world.h"

#include <stdio.h>

static int setup(void **state)
{
    *state = world_new();
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void become(struct world *w, const char *scheme, const char *id)
{
    id_none(w);
    id_more(w, "ip", "10.1.2.3");
    if (scheme != NULL)
        id_more(w, scheme, id);
}

static void each_permission_where_zookeeper_asks_for_it(void **state)
{
    static const struct {
        int32_t perms;
        int get, children, acl, set, set_acl, create, remove; /* the last two: below it */
    } rows[] = {
        {0, -102, -102, -102, -102, -102, -102, -102},
        {WIRE_PERM_READ, 0, 0, 0, -102, -102, -102, -102},
        {WIRE_PERM_WRITE, -102, -102, -102, 0, -102, -102, -102},
        {WIRE_PERM_CREATE, -102, -102, -102, -102, -102, 0, -102},
        {WIRE_PERM_DELETE, -102, -102, -102, -102, -102, -102, 0},
        {WIRE_PERM_ADMIN, -102, -102, 0, -102, 0, -102, -102},
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[16], child[16], other[16];
        snprintf(path, sizeof path, "/n%zu", i);
        snprintf(child, sizeof child, "/n%zu/c", i);
        snprintf(other, sizeof other, "/n%zu/o", i);
        become(w, "super", "");
        acl_set(w, rows[i].perms, "digest", "joe:hash");
        assert_int_equal(create(w, path, "", 0), 0);
        assert_int_equal(create(w, child, "", 0), 0);
        become(w, "digest", "joe:other"); /* he is nobody here */
        assert_int_equal(get_data(w, path, 0), ERR_NO_AUTH);
        become(w, "digest", "joe:hash");
        assert_int_equal(get_data(w, path, 0), rows[i].get);
        assert_int_equal(exists(w, path, 0), rows[i].get);
        assert_int_equal(get_children(w, path, 0), rows[i].children);
        struct wire_path_request q = {text_of(path)};
        buf_clear(&w->body);
        wire_path_request_encode(&q, &w->body);
        assert_int_equal(read_body(w, 0, WIRE_OP_GET_ACL), rows[i].acl);
        buf_clear(&w->body);
        wire_path_request_encode(&q, &w->body);
        assert_int_equal(read_body(w, 0, WIRE_OP_GET_ALL_CHILDREN_NUMBER), rows[i].get);
        assert_int_equal(set_data(w, path, "x", -1), rows[i].set);
        assert_int_equal(create(w, other, "", 0), rows[i].create);
        assert_int_equal(remove_node(w, child, -1), rows[i].remove);
        assert_int_equal(set_acl(w, path, -1), rows[i].set_acl);
        w->rules = TREE_RULE_SKIP_ACL;
        become(w, NULL, NULL);
        assert_int_equal(get_data(w, path, 0), 0);
        w->rules = 0;
    }
}

static void networks(void **state)
{
    static const struct {
        const char *listed, *own;
        bool fits;
    } rows[] = {
        {"10.1.2.3", "10.1.2.3", true},
        {"10.1.2.3", "10.1.2.4", false},
        {"10.1.2.0/24", "10.1.2.255", true},
        {"10.1.2.0/24", "10.1.3.0", false},
        {"10.1.2.9/24", "10.1.2.7", true},
        {"0.0.0.0/0", "255.1.1.1", true},
        {"10.1.2.3/32", "10.1.2.3", true},
        {"10.1.2.2/31", "10.1.2.3", true},
        {"10.1.2.2/31", "10.1.2.1", false},
        {"128.0.0.0/1", "127.255.255.255", false},
        {"10.1.2.3", "::1", false},
        {"10.1.2.3", "", false},
        {"10.1.2.0/24", "10.1.2.0/24", false},
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[16];
        snprintf(path, sizeof path, "/n%zu", i);
        acl_set(w, WIRE_PERM_READ, "ip", rows[i].listed);
        assert_int_equal(create(w, path, "", 0), 0);
        id_none(w);
        id_more(w, "ip", rows[i].own);
        if (get_data(w, path, 0) != (rows[i].fits ? 0 : ERR_NO_AUTH))
            fail_msg("%s for %s", rows[i].listed, rows[i].own);
        id_none(w);
        id_more(w, "digest", rows[i].own); /* the same text, but of another kind */
        assert_int_equal(get_data(w, path, 0), ERR_NO_AUTH);
    }
}

static struct wire_acl_response get_acl(struct world *w, const char *path)
{
    struct wire_path_request q = {text_of(path)};
    struct wire_acl_response r;

    buf_clear(&w->body);
    wire_path_request_encode(&q, &w->body);
    assert_int_equal(read_body(w, 0, WIRE_OP_GET_ACL), 0);
    struct wire_in in = answer(w);
    assert_int_equal(wire_acl_response_decode(&r, &in), 0);
    assert_ptr_equal(in.at, in.end);
    return r;
}

static void assert_acl(struct world *w, const char *path, const char *expected)
{
    struct wire_acl_response r = get_acl(w, path);
    struct wire_acl a;
    struct buf text = {0};

    while (wire_acls_next(&r.acl, &a))
        buf_printf(&text, "%.*s:%.*s:%d ", (int)a.scheme.len, (const char *)a.scheme.data,
                   (int)a.id.len, (const char *)a.id.data, (int)a.perms);
    assert_string_equal(buf_text(&text), expected);
    buf_free(&text);
}

static void auth_stands_for_what_was_proven(void **state)
{
    struct world *w = *state;

    become(w, NULL, NULL);
    acl_set(w, 31, "auth", "");
    assert_int_equal(create(w, "/a", "", 0), ERR_INVALID_ACL); /* an address proves nothing */
    become(w, "digest", "joe:hash");
    id_more(w, "super", "");
    id_more(w, "digest", "ann:hash");
    acl_more(w, 1, "world", "anyone");
    acl_more(w, 3, "auth", "whatever");
    assert_int_equal(create(w, "/a", "", 0), 0);
    assert_acl(w, "/a",
               "digest:joe:hash:31 digest:ann:hash:31 world:anyone:1 digest:joe:hash:3 "
               "digest:ann:hash:3 ");
    reload(w);
    assert_acl(w, "/a",
               "digest:joe:hash:31 digest:ann:hash:31 world:anyone:1 digest:joe:hash:3 "
               "digest:ann:hash:3 ");
    w->rules = TREE_RULE_NO_DIGEST;
    acl_set(w, 31, "auth", "");
    assert_int_equal(create(w, "/b", "", 0), ERR_INVALID_ACL);
    acl_set(w, 31, "digest", "joe:hash");
    assert_int_equal(create(w, "/b", "", 0), ERR_INVALID_ACL);
}

static void hashes_are_shown_to_who_may_change_them(void **state)
{
    struct world *w = *state;

    become(w, "digest", "joe:hash");
    acl_set(w, 31, "digest", "joe:hash");
    acl_more(w, 1, "world", "anyone");
    acl_more(w, 1, "digest", "ann:h");
    acl_more(w, 1, "ip", "10.0.0.0/8");
    assert_int_equal(create(w, "/a", "", 0), 0);
    assert_acl(w, "/a", "digest:joe:hash:31 world:anyone:1 digest:ann:h:1 ip:10.0.0.0/8:1 ");
    become(w, NULL, NULL);
    assert_acl(w, "/a", "digest:joe:x:31 world:anyone:1 digest:ann:x:1 ip:10.0.0.0/8:1 ");
    id_more(w, "super", "");
    assert_acl(w, "/a", "digest:joe:hash:31 world:anyone:1 digest:ann:h:1 ip:10.0.0.0/8:1 ");
}

static void who_may_not_read_is_not_told(void **state)
{
    struct world *w = *state;

    become(w, "digest", "joe:hash");
    acl_set(w, 31, "digest", "joe:hash");
    assert_int_equal(create(w, "/a", "", 0), 0);
    assert_int_equal(get_data(w, "/a", 5), 0);
    assert_int_equal(set_data(w, "/a", "1", -1), 0);
    assert_events(w, "5 data /a\n");
    assert_int_equal(get_data(w, "/a", 5), 0);
    /* The sink asks as whom it is looked at now: what was set is used up all the same. */
    struct buf joe = w->ids;
    int32_t joe_n = w->ids_n;
    w->ids = (struct buf){0};
    w->ids_n = 0;
    id_more(w, "super", "");
    acl_set(w, 31, "digest", "ann:hash");
    assert_int_equal(set_acl(w, "/a", -1), 0);
    buf_free(&w->ids);
    w->ids = joe;
    w->ids_n = joe_n;
    w->rules = TREE_RULE_SKIP_ACL; /* so that the write itself goes through */
    assert_int_equal(set_data(w, "/a", "2", -1), 0);
    w->rules = 0;
    assert_events(w, "");
    assert_int_equal(watches_count(w->watches), 0);
    /* A deleted one by the list that it had; the parent's children by the parent's list. */
    watches_add(w->watches, 5, WATCH_DATA, "/a", 2);
    watches_add(w->watches, 5, WATCH_CHILD, "/", 1);
    assert_int_equal(remove_node(w, "/a", -1), 0);
    assert_events(w, "5 children /\n");
    /* A new one by the list that it gets. */
    watches_add(w->watches, 5, WATCH_DATA, "/b", 2);
    acl_set(w, 31, "digest", "ann:hash");
    assert_int_equal(create(w, "/b", "", 0), 0);
    assert_events(w, "");
    watches_add(w->watches, 5, WATCH_RECURSIVE, "/", 1);
    acl_set(w, 31, "digest", "joe:hash");
    assert_int_equal(create(w, "/c", "", 0), 0);
    assert_events(w, "5 created /c\n");
}

static void each_part_of_a_multi_is_judged_by_what_the_ones_before_it_made(void **state)
{
    static const struct wire_multi_header end = {-1, true, -1};
    struct world *w = *state;
    const struct wire_multi_header create = {WIRE_OP_CREATE, false, -1};
    const struct wire_multi_header set = {WIRE_OP_SET_DATA, false, -1};

    become(w, "digest", "joe:hash");
    acl_set(w, WIRE_PERM_READ, "digest", "joe:hash");
    const struct wire_create_request c = {text_of("/m"), text_of(""), acl_of(w), 0};
    const struct wire_set_data_request d = {text_of("/m"), text_of("x"), -1};
    buf_clear(&w->body);
    wire_multi_header_encode(&create, &w->body);
    wire_create_request_encode(&c, &w->body);
    wire_multi_header_encode(&set, &w->body);
    wire_set_data_request_encode(&d, &w->body);
    wire_multi_header_encode(&end, &w->body);
    assert_int_equal(apply(w, WIRE_OP_MULTI), 0);
    struct wire_in in = answer(w);
    struct wire_multi_header h;
    struct wire_error_response e;
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_int_equal(wire_error_response_decode(&e, &in), 0);
    assert_int_equal(e.err, 0);
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_int_equal(h.err, ERR_NO_AUTH);
    assert_int_equal(exists(w, "/m", 0), ERR_NO_NODE);
}

static void put_read(struct world *w, int32_t op, const char *path)
{
    const struct wire_multi_header h = {op, op == -1, -1};
    const struct wire_path_watch_request q = {text_of(path), true};

    wire_multi_header_encode(&h, &w->body);
    if (op != -1)
        wire_path_watch_request_encode(&q, &w->body);
}

static void several_reads_have_each_their_result(void **state)
{
    struct world *w = *state;
    struct wire_multi_header h;
    struct wire_data_response d;
    struct wire_children_response c;
    struct wire_error_response e;

    acl_set(w, WIRE_PERM_ALL, "world", "anyone");
    assert_int_equal(create(w, "/a", "data", 0), 0);
    assert_int_equal(create(w, "/a/b", "", 0), 0);
    acl_set(w, WIRE_PERM_ALL, "ip", "10.9.9.9");
    assert_int_equal(create(w, "/closed", "", 0), 0);
    buf_clear(&w->body);
    put_read(w, WIRE_OP_GET_DATA, "/a");
    put_read(w, WIRE_OP_GET_DATA, "/closed");
    put_read(w, WIRE_OP_GET_CHILDREN, "/a");
    put_read(w, WIRE_OP_GET_CHILDREN, "/none");
    put_read(w, -1, "");
    assert_int_equal(read_body(w, 5, WIRE_OP_MULTI_READ), 0);
    struct wire_in in = answer(w);
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_int_equal(h.op, WIRE_OP_GET_DATA);
    assert_int_equal(wire_data_response_decode(&d, &in), 0);
    assert_int_equal(d.data.len, 4);
    assert_int_equal(d.stat.children, 1);
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_int_equal(h.op, WIRE_OP_ERROR);
    assert_int_equal(h.err, ERR_NO_AUTH);
    assert_int_equal(wire_error_response_decode(&e, &in), 0);
    assert_int_equal(e.err, ERR_NO_AUTH);
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_int_equal(h.op, WIRE_OP_GET_CHILDREN);
    assert_int_equal(wire_children_response_decode(&c, &in), 0);
    assert_int_equal(c.children.count, 1);
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_int_equal(wire_error_response_decode(&e, &in), 0);
    assert_int_equal(e.err, ERR_NO_NODE);
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_true(h.done);
    assert_ptr_equal(in.at, in.end);
    assert_int_equal(watches_count(w->watches), 0); /* whatever the flags say */
    buf_clear(&w->body);
    put_read(w, WIRE_OP_GET_DATA, "/a");
    put_read(w, WIRE_OP_EXISTS, "/a");
    put_read(w, -1, "");
    assert_int_equal(read_body(w, 5, WIRE_OP_MULTI_READ), ERR_MALFORMED);
    buf_clear(&w->body);
    put_read(w, -1, "");
    assert_int_equal(read_body(w, 5, WIRE_OP_MULTI_READ), 0);
}

static void a_small_request_for_gigabytes_is_refused(void **state)
{
    struct world *w = *state;
    char *big = malloc(900001);

    memset(big, 'x', 900000);
    big[900000] = 0;
    assert_int_equal(create(w, "/a", big, 0), 0);
    buf_clear(&w->body);
    for (int i = 0; i < 1000; i++)
        put_read(w, WIRE_OP_GET_DATA, "/a");
    put_read(w, -1, "");
    assert_int_equal(read_body(w, 5, WIRE_OP_MULTI_READ), ERR_MALFORMED);
    free(big);
}

static void who_am_i_shows_names_and_no_hashes(void **state)
{
    struct world *w = *state;
    struct wire_who_am_i_response r;
    struct wire_id id;
    struct buf text = {0};

    become(w, "digest", "joe:hash");
    id_more(w, "super", "");
    buf_clear(&w->body);
    assert_int_equal(read_body(w, 5, WIRE_OP_WHO_AM_I), 0);
    struct wire_in in = answer(w);
    assert_int_equal(wire_who_am_i_response_decode(&r, &in), 0);
    while (wire_ids_next(&r.ids, &id))
        buf_printf(&text, "%.*s=%.*s ", (int)id.scheme.len, (const char *)id.scheme.data,
                   (int)id.id.len, (const char *)id.id.data);
    assert_string_equal(buf_text(&text), "ip=10.1.2.3 digest=joe super= ");
    buf_free(&text);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_permission_where_zookeeper_asks_for_it),
        T(networks),
        T(auth_stands_for_what_was_proven),
        T(hashes_are_shown_to_who_may_change_them),
        T(who_may_not_read_is_not_told),
        T(each_part_of_a_multi_is_judged_by_what_the_ones_before_it_made),
        T(several_reads_have_each_their_result),
        T(a_small_request_for_gigabytes_is_refused),
        T(who_am_i_shows_names_and_no_hashes),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
