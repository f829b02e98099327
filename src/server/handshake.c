/* SPDX-License-Identifier: Apache-2.0 */
#include "server/handshake.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static const char magic[8] = "MUSTER2";

#define HELLO_MIN (sizeof magic + 1 + CLUSTER_LEN + 8 + 8 + 8 + NONCE_LEN)

void hello_encode(const struct hello *h, struct buf *out)
{
    buf_add(out, magic, sizeof magic);
    buf_add_u8(out, (uint8_t)h->kind);
    buf_add(out, h->cluster, CLUSTER_LEN);
    buf_add_be64(out, h->from);
    buf_add_be64(out, h->to);
    buf_add_be64(out, h->expires_s);
    buf_add(out, h->nonce, NONCE_LEN);
    epoch_encode(&h->epoch, out);
}

int hello_decode(struct hello *h, const uint8_t *data, size_t len)
{
    if (len < HELLO_MIN || memcmp(data, magic, sizeof magic) != 0 ||
        (data[8] != HANDSHAKE_PEER && data[8] != HANDSHAKE_JOIN))
        return ERR_MALFORMED;
    h->kind = (enum handshake_kind)data[8];
    memcpy(h->cluster, data + 9, CLUSTER_LEN);
    data += 9 + CLUSTER_LEN;
    h->from = be64_get(data);
    h->to = be64_get(data + 8);
    h->expires_s = be64_get(data + 16);
    memcpy(h->nonce, data + 24, NONCE_LEN);
    return epoch_decode(&h->epoch, data + 24 + NONCE_LEN, len - HELLO_MIN);
}

void challenge_encode(const struct handshake *h, struct buf *out)
{
    uint8_t proof[PROOF_LEN];

    handshake_prove(h, "acceptor", proof);
    buf_add(out, h->nonce, NONCE_LEN);
    buf_add(out, proof, PROOF_LEN);
    epoch_encode(&h->epoch, out);
}

int challenge_decode(struct handshake *h, const uint8_t *data, size_t len,
                     uint8_t proof[PROOF_LEN])
{
    if (len < NONCE_LEN + PROOF_LEN)
        return ERR_MALFORMED;
    memcpy(h->nonce, data, NONCE_LEN);
    memcpy(proof, data + NONCE_LEN, PROOF_LEN);
    return epoch_decode(&h->epoch, data + NONCE_LEN + PROOF_LEN, len - NONCE_LEN - PROOF_LEN);
}

static void bind_all(const struct handshake *h, struct buf *out)
{
    hello_encode(&h->hello, out);
    buf_add(out, h->nonce, NONCE_LEN);
    epoch_encode(&h->epoch, out);
}

void handshake_prove(const struct handshake *h, const char *side, uint8_t proof[PROOF_LEN])
{
    struct buf all = {0};

    bind_all(h, &all);
    secret_proof(h->key, h->key_len, side, all.data, all.len, proof);
    buf_free(&all);
}

bool handshake_check(const struct handshake *h, const char *side,
                     const uint8_t proof[PROOF_LEN])
{
    uint8_t right[PROOF_LEN];

    handshake_prove(h, side, right);
    return secret_equal(right, proof, PROOF_LEN);
}

void welcome_encode(const struct handshake *h, int err, const struct identity *self,
                    const struct raft_members *members, struct buf *out)
{
    struct buf plain = {0};
    uint8_t key[PROOF_LEN];

    buf_add_be32(out, (uint32_t)err);
    if (err != 0)
        return;
    buf_add(&plain, self->secret, SECRET_LEN);
    buf_add(&plain, self->cluster, CLUSTER_LEN);
    raft_members_encode(members, &plain);
    handshake_prove(h, "muster join seal", key);
    secret_seal(key, plain.data, plain.len, buf_reserve(out, plain.len + SEALED_EXTRA));
    buf_added(out, plain.len + SEALED_EXTRA);
    memset(plain.data, 0, plain.len);
    buf_free(&plain);
}

int welcome_decode(const struct handshake *h, struct identity *out, const uint8_t *data,
                   size_t len)
{
    uint8_t key[PROOF_LEN];

    if (len < 4)
        return ERR_REFUSED;
    int err = (int)be32_get(data);
    if (err != 0)
        return err < 0 ? err : ERR_REFUSED;
    data += 4;
    len -= 4;
    if (len < SECRET_LEN + CLUSTER_LEN + SEALED_EXTRA)
        return ERR_REFUSED;
    uint8_t *plain = mem_alloc(len);
    handshake_prove(h, "muster join seal", key);
    err = secret_open(key, data, len, plain);
    if (err == 0) {
        memcpy(out->secret, plain, SECRET_LEN);
        memcpy(out->cluster, plain + SECRET_LEN, CLUSTER_LEN);
        err = raft_members_decode(&out->peers, plain + SECRET_LEN + CLUSTER_LEN,
                                  len - SEALED_EXTRA - SECRET_LEN - CLUSTER_LEN);
    }
    memset(plain, 0, len);
    mem_free(plain);
    return err;
}
