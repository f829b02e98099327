/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's files, tokens, and the proofs at the beginning of a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "host/files.h"
#include "server/handshake.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/muster-test-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"machine", "secret", "peers"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static struct identity sample(void)
{
    struct identity id = {.id = 7, .name = "web-1", .address = "10.0.0.1"};

    memset(id.secret, 0xab, SECRET_LEN);
    memset(id.cluster, 0xcd, CLUSTER_LEN);
    id.peers.n = 2;
    id.peers.v[0] = (struct raft_member){
        .id = 7, .voter = true, .name = "web-1", .address = "10.0.0.1:2182"};
    id.peers.v[1] = (struct raft_member){.id = 9, .name = "web-2", .address = "10.0.0.2:2182"};
    return id;
}

static void an_identity_is_read_as_it_was_written(void **state)
{
    struct identity id = sample(), back;
    struct buf why = {0};
    struct stat st;
    char path[128];
    (void)state;
    assert_int_equal(identity_load(&back, dir, &why), ERR_NOT_FOUND);
    assert_int_equal(identity_create(&id, dir, &why), 0);
    assert_int_equal(identity_load(&back, dir, &why), 0);
    assert_int_equal(back.id, 7);
    assert_string_equal(back.name, "web-1");
    assert_string_equal(back.address, "10.0.0.1");
    assert_memory_equal(back.secret, id.secret, SECRET_LEN);
    assert_memory_equal(back.cluster, id.cluster, CLUSTER_LEN);
    assert_int_equal(back.peers.n, 2);
    assert_true(back.peers.v[0].voter);
    assert_false(back.peers.v[1].voter);
    assert_string_equal(back.peers.v[1].address, "10.0.0.2:2182");
    snprintf(path, sizeof path, "%s/secret", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* A second init must not overwrite a machine. */
    id.id = 8;
    assert_int_equal(identity_create(&id, dir, &why), ERR_EXISTS);
    assert_int_equal(identity_load(&back, dir, &why), 0);
    assert_int_equal(back.id, 7);
    buf_free(&why);
}

static void damaged_files_are_refused_with_their_name(void **state)
{
    static const struct {
        const char *file, *text;
    } bad[] = {
        {"machine", "id=0\ncluster=00\nname=a\naddress=10.0.0.1\n"},
        {"machine", ""},
        {"machine",
         "id=7\nname=../x\ncluster=cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\naddress=10.0.0.1\n"},
        {"secret", "abc\n"},
        {"secret", "zz"},
        {"peers", "7 1 web-1\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct identity id = sample(), back;
        struct buf why = {0};
        char path[128];
        (void)remove_dir(state), mkdir(dir, 0700);
        assert_int_equal(identity_create(&id, dir, &why), 0);
        buf_clear(&why);
        snprintf(path, sizeof path, "%s/%s", dir, bad[i].file);
        assert_int_equal(file_write(path, bad[i].text, strlen(bad[i].text), 0600), 0);
        assert_int_equal(identity_load(&back, dir, &why), ERR_SYNTAX);
        assert_non_null(strstr(buf_text(&why), bad[i].file));
        buf_free(&why);
    }
}

static void a_token_is_good_for_its_cluster_id_and_time_only(void **state)
{
    struct identity id = sample();
    struct token t, back;
    char text[TOKEN_TEXT_MAX];
    uint8_t key[TOKEN_KEY_LEN];
    (void)state;
    token_make(&t, id.secret, 1000);
    assert_int_equal(t.expires_s, 1000 + TOKEN_LIFE_S);
    token_print(&t, text);
    assert_int_equal(token_parse(&back, text), 0);
    assert_memory_equal(&t, &back, sizeof t);
    token_key(id.secret, t.id, t.expires_s, key);
    assert_memory_equal(key, t.key, TOKEN_KEY_LEN);
    token_key(id.secret, t.id, t.expires_s + 1, key);
    assert_memory_not_equal(key, t.key, TOKEN_KEY_LEN);
    token_key(id.secret, t.id + 1, t.expires_s, key);
    assert_memory_not_equal(key, t.key, TOKEN_KEY_LEN);
    id.secret[0] ^= 1;
    token_key(id.secret, t.id, t.expires_s, key);
    assert_memory_not_equal(key, t.key, TOKEN_KEY_LEN);
    static const char *const broken[] = {
        "",      ".",      "1",      "1.2",
        "1.2.",  "1.2.zz", "x.2.00", "1.2.00000000000000000000000000000000ff",
        "0.2.00"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_int_equal(token_parse(&back, broken[i]), ERR_SYNTAX);
}

static void a_proof_holds_for_one_connection_one_side_and_one_key(void **state)
{
    struct handshake h = {.hello = {.kind = HANDSHAKE_PEER, .from = 1, .to = 2},
                          .key_len = SECRET_LEN};
    uint8_t proof[PROOF_LEN];
    (void)state;
    secret_random(h.hello.nonce, NONCE_LEN);
    secret_random(h.nonce, NONCE_LEN);
    secret_random(h.key, SECRET_LEN);
    handshake_prove(&h, "opener", proof);
    assert_true(handshake_check(&h, "opener", proof));
    assert_false(handshake_check(&h, "acceptor", proof)); /* it cannot be sent back */
    h.nonce[3] ^= 1; /* nor used again on another connection */
    assert_false(handshake_check(&h, "opener", proof));
    h.nonce[3] ^= 1;
    h.hello.from = 3; /* nor for somebody else */
    assert_false(handshake_check(&h, "opener", proof));
    h.hello.from = 1;
    h.key[0] ^= 1;
    assert_false(handshake_check(&h, "opener", proof));
}

static void a_welcome_can_be_read_with_the_token_only(void **state)
{
    struct identity self = sample(), got = {0};
    struct handshake h = {.hello = {.kind = HANDSHAKE_JOIN, .from = 5},
                          .key_len = TOKEN_KEY_LEN};
    struct buf out = {0};
    (void)state;
    secret_random(h.key, TOKEN_KEY_LEN);
    welcome_encode(&h, 0, &self, &self.peers, &out);
    assert_int_equal(welcome_decode(&h, &got, out.data, out.len), 0);
    assert_memory_equal(got.secret, self.secret, SECRET_LEN);
    assert_memory_equal(got.cluster, self.cluster, CLUSTER_LEN);
    assert_int_equal(got.peers.n, 2);
    for (size_t i = 4; i < out.len; i += 7) { /* any changed byte is seen */
        out.data[i] ^= 0x10;
        assert_int_equal(welcome_decode(&h, &got, out.data, out.len), ERR_REFUSED);
        out.data[i] ^= 0x10;
    }
    for (size_t cut = 0; cut < out.len; cut++)
        assert_int_not_equal(welcome_decode(&h, &got, out.data, cut), 0);
    h.key[0] ^= 1;
    assert_int_equal(welcome_decode(&h, &got, out.data, out.len), ERR_REFUSED);
    buf_clear(&out);
    welcome_encode(&h, ERR_EXISTS, NULL, NULL, &out);
    assert_int_equal(welcome_decode(&h, &got, out.data, out.len), ERR_EXISTS);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_identity_is_read_as_it_was_written, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(damaged_files_are_refused_with_their_name, make_dir,
                                        remove_dir),
        cmocka_unit_test(a_token_is_good_for_its_cluster_id_and_time_only),
        cmocka_unit_test(a_proof_holds_for_one_connection_one_side_and_one_key),
        cmocka_unit_test(a_welcome_can_be_read_with_the_token_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
