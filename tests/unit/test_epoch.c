/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs: what is shown, who gives way, where two logs part, what a new one begins with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "server/aside.h"
#include "server/secret.h"
#include "server/server.h"

static void what_is_shown_is_read_back(void **state)
{
    struct epoch e = {.number = 3, .tag = 99}, back;
    struct buf b = {0};
    (void)state;

    for (uint64_t i = 1; i < 400; i++)
        epoch_note(&e, i, i / 25 + 1);
    assert_int_equal(e.runs_n, EPOCH_RUNS_MAX);
    assert_int_equal(e.last, 399);
    epoch_encode(&e, &b);
    assert_true(b.len <= EPOCH_BYTES_MAX);
    assert_int_equal(epoch_decode(&back, b.data, b.len), 0);
    assert_int_equal(back.tag, 99);
    assert_int_equal(back.runs_n, e.runs_n);
    assert_int_equal(back.runs[7].index, 375);
    assert_int_equal(back.runs[7].term, 16);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(epoch_decode(&back, b.data, len), ERR_MALFORMED);
    buf_free(&b);
}

static void the_older_one_gives_way_and_rivals_do_not(void **state)
{
    const struct epoch first = {0}, a = {.number = 1, .tag = 7}, b = {.number = 1, .tag = 8},
                       next = {.number = 2, .tag = 1};
    (void)state;

    assert_int_equal(epoch_order(&first, &first), EPOCH_SAME);
    assert_int_equal(epoch_order(&first, &a), EPOCH_NEWER);
    assert_int_equal(epoch_order(&a, &first), EPOCH_OLDER);
    assert_int_equal(epoch_order(&a, &b), EPOCH_RIVAL);
    assert_int_equal(epoch_order(&a, &next), EPOCH_NEWER);
    assert_int_equal(epoch_order(&next, &b), EPOCH_OLDER);
}

/* ---- where two logs part ---- */

static uint64_t term_in(void *ctx, uint64_t index)
{
    const uint64_t *terms = ctx;

    return index < 100 ? terms[index] : 0;
}

/* Fills terms from..to. */
static void run(uint64_t *terms, uint64_t from, uint64_t to, uint64_t term)
{
    for (uint64_t i = from; i <= to; i++)
        terms[i] = term;
}

static void logs_part_where_terms_differ(void **state)
{
    uint64_t ours[100] = {0}, theirs[100] = {0};
    struct epoch e = {.number = 1};
    (void)state;

    run(theirs, 10, 20, 2); /* the survivor's: a leader that fell wrote 18 to 20 alone */
    run(theirs, 21, 25, 3);
    for (uint64_t i = 10; i <= 25; i++)
        epoch_note(&e, i, theirs[i]);
    run(ours, 5, 20, 2);
    assert_int_equal(epoch_common(&e, 5, 20, term_in, ours), 20);
    run(ours, 18, 40, 4);
    assert_int_equal(epoch_common(&e, 5, 40, term_in, ours), 17);
    run(ours, 18, 20, 2);
    run(ours, 21, 40, 3);
    assert_int_equal(epoch_common(&e, 5, 40, term_in, ours), 25);
    run(ours, 5, 40, 9);
    assert_int_equal(epoch_common(&e, 5, 40, term_in, ours), 0);
    assert_int_equal(epoch_common(&e, 41, 40, term_in, ours), 0);
}

/* ---- what it begins with ---- */

static void zxids_begin_far_above(void **state)
{
    (void)state;
    for (uint64_t last = 1; last < UINT64_C(1) << 55; last = 3 * last + 1) {
        uint64_t z = epoch_zxid(last);
        assert_true(z > last + EPOCH_ZXID_JUMP && z <= last + 2 * EPOCH_ZXID_JUMP);
        assert_int_equal(z % EPOCH_ZXID_JUMP, 0);
    }
    assert_int_equal(epoch_zxid(EPOCH_ZXID_MAX), 0);
    assert_int_equal(epoch_zxid(UINT64_MAX / 8), 0);
}

static void one_votes_and_the_others_learn(void **state)
{
    const struct raft_members was = {.n = 4,
                                     .v = {{.id = 1, .voter = true, .birth = 5},
                                           {.id = 2, .voter = true},
                                           {.id = 3, .auto_promote = true},
                                           {.id = 4}}};
    struct raft_members m;
    (void)state;

    assert_int_equal(epoch_members(&was, 9, &m), ERR_NOT_FOUND);
    assert_int_equal(epoch_members(&was, 2, &m), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(m.v[i].voter, m.v[i].id == 2);
    assert_true(m.v[0].auto_promote && !m.v[1].auto_promote && m.v[2].auto_promote &&
                !m.v[3].auto_promote);
    assert_int_equal(m.v[0].birth, 5);
}

static void apply(struct tree *t, int64_t zxid, int32_t op, int64_t session, const void *body,
                  size_t len)
{
    struct tree_txn txn = {
        .op = op, .session = session, .timeout_ms = 1000, .body = body, .len = len};
    struct tree_result r = {0};

    txn.origin = (struct tree_origin){1, 1};
    tree_apply(t, zxid, &txn, NULL, &r);
    assert_int_equal(r.err, 0);
}

static void all_sessions_end(void **state)
{
    struct tree *t = tree_new(1);
    struct tree_facts f;
    struct buf body = {0}, acls = {0};
    const struct wire_acl open_acl = {31, wire_bytes("world", 5), wire_bytes("anyone", 6)};
    (void)state;

    apply(t, 1, TREE_OP_CREATE_SESSION, 0, NULL, 0);
    apply(t, 2, TREE_OP_CREATE_SESSION, 0, NULL, 0);
    wire_acl_encode(&open_acl, &acls);
    const struct wire_create_request c = {.path = wire_bytes("/e", 2),
                                          .data = wire_bytes("x", 1),
                                          .acl = {acls.data, acls.len, 1},
                                          .flags = WIRE_EPHEMERAL};
    wire_create_request_encode(&c, &body);
    apply(t, 3, WIRE_OP_CREATE, tree_session_id(1), body.data, body.len);
    tree_facts(t, &f);
    assert_int_equal(f.ephemerals, 1);
    assert_int_equal(epoch_end_sessions(t, EPOCH_ZXID_JUMP), EPOCH_ZXID_JUMP + 2);
    tree_facts(t, &f);
    assert_int_equal(f.sessions + f.ephemerals, 0);
    assert_true(tree_zxid(t) < (int64_t)EPOCH_ZXID_JUMP + 2);
    tree_free(t);
    buf_free(&body);
    buf_free(&acls);
}

/* ---- on the disk ---- */

static void make_machine(const char *dir, struct identity *id)
{
    struct buf why = {0};

    *id = (struct identity){.id = 1, .name = "a", .address = "127.0.0.1"};
    secret_random(id->cluster, CLUSTER_LEN);
    secret_random(id->secret, SECRET_LEN);
    id->peers = (struct raft_members){
        .n = 2,
        .v = {{.id = 1, .voter = true, .name = "a", .address = "127.0.0.1:2182"},
              {.id = 2, .voter = true, .name = "b", .address = "127.0.0.2:2182"}}};
    assert_int_equal(server_create(dir, id, &why), 0);
    buf_free(&why);
    assert_int_equal(identity_load(id, dir, &why), 0);
}

static bool exists(const char *dir, const char *name)
{
    struct buf path = {0};
    struct stat st;

    buf_printf(&path, "%s/%s", dir, name);
    bool found = stat(buf_text(&path), &st) == 0;
    buf_free(&path);
    return found;
}

static void a_machine_joins_a_newer_epoch_with_an_empty_store(void **state)
{
    char dir[] = "/tmp/test_epoch.XXXXXX";
    struct epoch newer = {.number = 1, .tag = 5}, read;
    struct identity id, loaded;
    struct store_ends ends;
    struct buf why = {0}, path = {0};
    uint64_t common = 9, again = 9;
    (void)state;

    assert_non_null(mkdtemp(dir));
    make_machine(dir, &id);
    epoch_note(&newer, 1, 1); /* as every cluster begins */
    epoch_note(&newer, 2, 4);
    assert_int_equal(aside_for_epoch(dir, &id, &newer, &ends, &common, &why), 0);
    assert_int_equal(common, 1);
    assert_int_equal(ends.last, 1);
    assert_int_equal(identity_load(&loaded, dir, &why), 0);
    assert_int_equal(loaded.epoch.number, 1);
    assert_int_equal(loaded.epoch.runs_n, 2);
    assert_true(loaded.birth != 0 && loaded.birth == id.birth);
    assert_false(loaded.has_begun);
    assert_string_equal(loaded.store, "store.2");
    assert_true(exists(dir, "store/aside") && exists(dir, "store/vote"));
    assert_false(exists(dir, "store.2"));
    buf_printf(&path, "%s/store", dir);
    assert_int_equal(aside_read(buf_text(&path), &read, &again), 0);
    assert_int_equal(again, 1);
    assert_int_equal(read.tag, 5);
    buf_clear(&path);
    buf_printf(&path, "rm -r %s", dir);
    assert_int_equal(system(buf_text(&path)), 0);
    buf_free(&path);
    buf_free(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shown_is_read_back),
        cmocka_unit_test(the_older_one_gives_way_and_rivals_do_not),
        cmocka_unit_test(logs_part_where_terms_differ),
        cmocka_unit_test(zxids_begin_far_above),
        cmocka_unit_test(one_votes_and_the_others_learn),
        cmocka_unit_test(all_sessions_end),
        cmocka_unit_test(a_machine_joins_a_newer_epoch_with_an_empty_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
