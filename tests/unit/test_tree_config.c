/* SPDX-License-Identifier: Apache-2.0 */
/* /zookeeper/config and reconfig, as the tree has them: two entries, whose first makes all
 * checks, in ZooKeeper's order, and whose second is the answer. */
#include <stdio.h>

#include "tree_world.h"

#include "tree/ensemble.h"

#define CONFIG "/zookeeper/config"
#define THREE                                                          \
    "server.1=a:1:2:participant;a:3\nserver.2=b:1:2:participant;b:3\n" \
    "server.3=c:1:2:participant;c:3"

static int set_config(struct world *w, int64_t answers, int err, const char *text)
{
    buf_clear(&w->body);
    tree_config_encode(answers, err, text, strlen(text), &w->body);
    return apply(w, TREE_OP_SET_CONFIG);
}

static int reconfig(struct world *w, const char *joining, const char *leaving, int64_t version)
{
    const struct wire_bytes null = {NULL, -1};
    const struct wire_reconfig_request r = {.joining = joining ? text_of(joining) : null,
                                            .leaving = leaving ? text_of(leaving) : null,
                                            .members = null,
                                            .version = version};

    buf_clear(&w->body);
    wire_reconfig_request_encode(&r, &w->body);
    return apply(w, WIRE_OP_RECONFIG);
}

static int64_t pending(struct world *w, const char *expected)
{
    const char *text;
    size_t len;
    int64_t zxid = tree_reconfig(w->tree, &text, &len);

    if (expected != NULL) {
        assert_int_equal(len, strlen(expected));
        assert_memory_equal(text, expected, len);
    }
    return zxid;
}

static void expect_config(struct world *w, const char *expected)
{
    const uint8_t *data;
    size_t len;

    assert_true(tree_get(w->tree, CONFIG, &data, &len));
    assert_int_equal(len, strlen(expected));
    if (len > 0)
        assert_memory_equal(data, expected, len);
}

static struct world *world_of_three(void)
{
    struct world *w = world_new();

    w->rules = TREE_RULE_RECONFIG | TREE_RULE_STANDALONE;
    assert_int_equal(set_config(w, 0, 0, THREE), 0);
    return w;
}

static void the_znode_says_who_and_since_when(void **state)
{
    struct world *w = world_new();
    struct wire_data_response r;
    char text[300];
    (void)state;
    expect_config(w, "");
    const struct wire_path_watch_request q = {text_of(CONFIG), true};
    const struct tree_caller caller = {.watcher = 7, .session = w->session};
    buf_clear(&w->body);
    wire_path_watch_request_encode(&q, &w->body);
    buf_clear(&w->reply);
    assert_int_equal(tree_read(w->tree, w->watches, &caller, WIRE_OP_GET_DATA, w->body.data,
                               w->body.len, &w->reply),
                     0);
    w->time_ms = 12345;
    buf_clear(&w->events);
    assert_int_equal(set_config(w, 0, 0, THREE), 0);
    snprintf(text, sizeof text, THREE "\nversion=%llx", (unsigned long long)w->zxid);
    expect_config(w, text);
    assert_string_equal(buf_text(&w->events), "7 data " CONFIG "\n");
    struct wire_in in = wire_in(w->reply.data, w->reply.len);
    assert_int_equal(wire_data_response_decode(&r, &in), 0);
    assert_int_equal(r.stat.mzxid, w->zxid);
    assert_int_equal(r.stat.mtime, 12345);
    assert_int_equal(r.stat.version, -1);
    assert_int_equal(r.stat.aversion, -1);
    assert_int_equal(r.stat.czxid + r.stat.ctime + r.stat.pzxid, 0);
    assert_int_equal(r.stat.data_len, strlen(text));
    /* A server that is alone (again) has none. */
    assert_int_equal(set_config(w, 0, 0, ""), 0);
    expect_config(w, "");
    world_free(w);
}

static void the_checks_are_in_their_order(void **state)
{
    struct world *w = world_new();
    (void)state;
    assert_int_equal(reconfig(w, "rubbish", NULL, -1), ERR_RECONFIG_DISABLED);
    w->rules = TREE_RULE_RECONFIG | TREE_RULE_STANDALONE;
    buf_clear(&w->body);
    buf_add_u8(&w->body, 1);
    assert_int_equal(apply(w, WIRE_OP_RECONFIG), ERR_MALFORMED);
    assert_int_equal(reconfig(w, "rubbish", NULL, -1), ERR_UNIMPLEMENTED); /* alone */
    assert_int_equal(set_config(w, 0, 0, THREE), 0);
    int64_t version = w->zxid;
    assert_int_equal(reconfig(w, "rubbish", NULL, version + 1), ERR_BAD_VERSION);
    assert_int_equal(reconfig(w, "rubbish", NULL, version), ERR_BAD_ARGUMENTS);
    assert_int_equal(reconfig(w, NULL, "1,2", version), ERR_BAD_ARGUMENTS);
    assert_int_equal(reconfig(w, NULL, "1", version), ERR_NO_AUTH);
    w->rules &= (uint8_t)~TREE_RULE_STANDALONE;
    assert_int_equal(reconfig(w, NULL, "1,2", version), ERR_NO_AUTH);
    assert_int_equal(pending(w, NULL), 0);
    id_more(w, "super", "");
    assert_int_equal(reconfig(w, NULL, "1", version), 0);
    assert_int_equal(w->reply.len, 0); /* the answer comes with the second entry */
    assert_int_equal(pending(w, "server.2=b:1:2:participant;b:3\n"
                                "server.3=c:1:2:participant;c:3"),
                     w->zxid);
    assert_int_equal(reconfig(w, "rubbish", NULL, version + 1), ERR_RECONFIG_IN_PROGRESS);
    world_free(w);
}

static void the_second_entry_ends_it_once(void **state)
{
    struct world *w = world_of_three();
    char text[300];
    (void)state;
    id_more(w, "super", "");
    assert_int_equal(reconfig(w, NULL, "3", -1), 0);
    int64_t first = w->zxid;
    /* What the leader had to say before it knew of the wish does not end it. */
    assert_int_equal(set_config(w, 0, 0, THREE), 0);
    assert_int_equal(pending(w, NULL), first);
    assert_int_equal(set_config(w, first, 0, "server.1=a:1:2:participant;a:3"), 0);
    assert_int_equal(pending(w, NULL), 0);
    snprintf(text, sizeof text, "server.1=a:1:2:participant;a:3\nversion=%llx",
             (unsigned long long)w->zxid);
    expect_config(w, text);
    /* A later leader says it again: nothing happens, to nobody. */
    assert_int_equal(set_config(w, first, 0, "server.9=x:1:2:participant;a:3"), 0);
    assert_int_equal(w->reply.len, 0);
    expect_config(w, text);
    assert_int_equal(set_config(w, first, ERR_NEW_CONFIG_NO_QUORUM, ""), 0);
    expect_config(w, text);
    world_free(w);
}

static void a_failure_changes_nothing(void **state)
{
    struct world *w = world_of_three();
    char text[300];
    (void)state;
    snprintf(text, sizeof text, THREE "\nversion=%llx", (unsigned long long)w->zxid);
    id_more(w, "super", "");
    assert_int_equal(reconfig(w, NULL, "3", -1), 0);
    assert_int_equal(set_config(w, w->zxid, ERR_NEW_CONFIG_NO_QUORUM, ""),
                     ERR_NEW_CONFIG_NO_QUORUM);
    assert_int_equal(pending(w, NULL), 0);
    expect_config(w, text);
    assert_int_equal(reconfig(w, NULL, "3", -1), 0); /* another one may begin */
    world_free(w);
}

/* A server that is started again, or gets a snapshot, must know of it: it may lead next. */
static void a_wish_is_in_the_snapshot(void **state)
{
    struct world *w = world_of_three();
    struct buf a = {0}, b = {0};
    const char *text;
    size_t len;
    (void)state;
    id_more(w, "super", "");
    assert_int_equal(reconfig(w, NULL, "2,99", -1), 0);
    tree_save(w->tree, &a);
    struct tree *t = tree_load(5, a.data, a.len);
    assert_non_null(t);
    assert_int_equal(tree_reconfig(t, &text, &len), w->zxid);
    assert_int_equal(len, strlen("server.1=a:1:2:participant;a:3\n"
                                 "server.3=c:1:2:participant;c:3"));
    assert_true(tree_digest(t) == tree_digest(w->tree));
    tree_save(t, &b);
    assert_int_equal(a.len, b.len);
    tree_free(t);
    buf_free(&a);
    buf_free(&b);
    world_free(w);
}

static void rubbish_in_the_log_is_refused(void **state)
{
    struct world *w = world_of_three();
    (void)state;
    buf_clear(&w->body);
    buf_add_be64(&w->body, 0);
    assert_int_equal(apply(w, TREE_OP_SET_CONFIG), ERR_MALFORMED);
    /* A text that is no list of servers: it can be read, but not changed. */
    assert_int_equal(set_config(w, 0, 0, "nonsense"), 0);
    id_more(w, "super", "");
    assert_int_equal(reconfig(w, NULL, "1", -1), ERR_BAD_ARGUMENTS);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_znode_says_who_and_since_when),
        cmocka_unit_test(the_checks_are_in_their_order),
        cmocka_unit_test(the_second_entry_ends_it_once),
        cmocka_unit_test(a_failure_changes_nothing),
        cmocka_unit_test(a_wish_is_in_the_snapshot),
        cmocka_unit_test(rubbish_in_the_log_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
