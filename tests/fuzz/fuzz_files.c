/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a machine, and lists of servers. The first byte picks:
 *   0  the file machine   1  secret   2  peers
 *   3  members, as messages and snapshots carry them
 *   4  what servers without data ask each other
 *   5  a join's welcome, sealed with the right key by whom it pleases */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "server/handshake.h"
#include "server/member_found.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_members(const struct raft_members *m)
{
    CHECK(m->n <= RAFT_MEMBERS_MAX);
    for (unsigned i = 0; i < m->n; i++) {
        CHECK(memchr(m->v[i].name, 0, RAFT_NAME_MAX) != NULL);
        CHECK(memchr(m->v[i].address, 0, RAFT_ADDRESS_MAX) != NULL);
    }
}

static void files(unsigned which, const char *text)
{
    struct identity id = {0};
    int err;

    if (which == 0) {
        err = identity_machine_parse(&id, text);
        CHECK(err != 0 || (id.id != 0 && identity_name_is_valid(id.name)));
    } else if (which == 1) {
        err = identity_secret_parse(&id, text);
    } else {
        err = identity_peers_parse(&id.peers, text);
        check_members(&id.peers);
    }
    CHECK(err == 0 || err == ERR_SYNTAX);
}

static void members(const uint8_t *data, size_t len)
{
    struct raft_members m, again;
    struct buf b = {0};

    if (raft_members_decode(&m, data, len) != 0)
        return;
    check_members(&m);
    raft_members_encode(&m, &b);
    CHECK(raft_members_decode(&again, b.data, b.len) == 0 && again.n == m.n);
    buf_free(&b);
}

static void found(const uint8_t *data, size_t len)
{
    const struct raft_members config = {.n = 2, .v = {{.id = 1, .voter = true}, {.id = 2}}};
    struct found_message m;
    struct founding f;

    founding_begin(&f, 1, &config, 1000);
    if (found_message_decode(&m, data, len) != 0)
        return;
    founding_heard(&f, &m, 1000);
    (void)founding_verdict(&f, 7000);
}

static void welcome(const uint8_t *data, size_t len)
{
    struct handshake h = {.hello = {.kind = HANDSHAKE_JOIN}, .key_len = TOKEN_KEY_LEN};
    struct identity id = {0};
    struct buf out = {0};
    uint8_t key[PROOF_LEN];

    buf_add_be32(&out, 0);
    handshake_prove(&h, "muster join seal", key);
    secret_seal(key, data, len, buf_reserve(&out, len + SEALED_EXTRA));
    buf_added(&out, len + SEALED_EXTRA);
    if (welcome_decode(&h, &id, out.data, out.len) == 0)
        check_members(&id.peers);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    unsigned which = data[0] % 6;
    data++, len--;
    if (which < 3) {
        char *text = mem_dup_strn((const char *)data, len);
        files(which, text);
        mem_free(text);
    } else if (which == 3) {
        members(data, len);
    } else if (which == 4) {
        found(data, len);
    } else {
        welcome(data, len);
    }
    return 0;
}
