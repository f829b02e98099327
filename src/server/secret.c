/* SPDX-License-Identifier: Apache-2.0 */
#include "server/secret.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"

static const uint8_t zero_iv[12]; /* each key seals one message only */

/* The kernel's, and not libcrypto's from it: that takes 1 MB of every server. */
void secret_random(void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = getrandom((uint8_t *)data + at, len - at, 0);
        CHECK(n > 0 || errno == EINTR);
        at += n > 0 ? (size_t)n : 0;
    }
}

void secret_proof(const uint8_t *key, size_t key_len, const char *label, const void *data,
                  size_t len, uint8_t proof[PROOF_LEN])
{
    struct buf all = {0};
    unsigned out_len = PROOF_LEN;

    buf_add(&all, label, strlen(label) + 1);
    buf_add(&all, data, len);
    CHECK(HMAC(EVP_sha256(), key, (int)key_len, all.data, all.len, proof, &out_len) != NULL);
    buf_wipe(&all); /* it may hold another secret */
}

bool secret_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

int secret_digest(const char *algorithm, const void *data, size_t len, struct buf *out)
{
    const EVP_MD *md = EVP_get_digestbyname(algorithm);
    uint8_t hash[EVP_MAX_MD_SIZE], text[4 * ((EVP_MAX_MD_SIZE + 2) / 3) + 1];
    unsigned hash_len = 0;

    if (md == NULL)
        return ERR_NOT_FOUND;
    CHECK(EVP_Digest(data, len, hash, &hash_len, md, NULL) == 1);
    int text_len = EVP_EncodeBlock(text, hash, (int)hash_len);
    CHECK(text_len > 0);
    buf_add(out, text, (size_t)text_len);
    return 0;
}

void token_key(const uint8_t secret[SECRET_LEN], uint64_t id, uint64_t expires_s,
               uint8_t key[TOKEN_KEY_LEN])
{
    uint8_t what[16], proof[PROOF_LEN];

    be64_put(what, id);
    be64_put(what + 8, expires_s);
    secret_proof(secret, SECRET_LEN, "muster join token", what, sizeof what, proof);
    memcpy(key, proof, TOKEN_KEY_LEN);
}

void token_make(struct token *t, const uint8_t secret[SECRET_LEN], uint64_t now_s)
{
    do {
        secret_random(&t->id, sizeof t->id);
        t->id &= 0xffffffff; /* short enough to be read out; two alike are refused at join */
    } while (t->id < 1000);
    t->expires_s = now_s + TOKEN_LIFE_S;
    token_key(secret, t->id, t->expires_s, t->key);
}

void token_print(const struct token *t, char text[TOKEN_TEXT_MAX])
{
    int n = snprintf(text, TOKEN_TEXT_MAX, "%" PRIx64 ".%" PRIx64 ".", t->id, t->expires_s);

    for (int i = 0; i < TOKEN_KEY_LEN; i++)
        n += snprintf(text + n, (size_t)(TOKEN_TEXT_MAX - n), "%02x", t->key[i]);
}

int token_parse(struct token *t, const char *text)
{
    char *end;

    *t = (struct token){0};
    t->id = strtoull(text, &end, 16);
    if (end == text || *end != '.' || t->id == 0)
        return ERR_SYNTAX;
    text = end + 1;
    t->expires_s = strtoull(text, &end, 16);
    if (end == text || *end != '.')
        return ERR_SYNTAX;
    text = end + 1;
    if (strlen(text) != 2 * TOKEN_KEY_LEN ||
        strspn(text, "0123456789abcdef") != 2 * TOKEN_KEY_LEN)
        return ERR_SYNTAX;
    for (int i = 0; i < TOKEN_KEY_LEN; i++) {
        char two[3] = {text[2 * i], text[2 * i + 1], 0};
        t->key[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return 0;
}

void secret_seal(const uint8_t key[PROOF_LEN], const uint8_t *data, size_t len, uint8_t *out)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n, rest;

    CHECK(c != NULL && len < INT_MAX);
    CHECK(EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, zero_iv) == 1);
    CHECK(EVP_EncryptUpdate(c, out, &n, data, (int)len) == 1);
    CHECK(EVP_EncryptFinal_ex(c, out + n, &rest) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, SEALED_EXTRA, out + len) == 1);
    EVP_CIPHER_CTX_free(c);
}

int secret_open(const uint8_t key[PROOF_LEN], const uint8_t *sealed, size_t len, uint8_t *out)
{
    uint8_t tag[SEALED_EXTRA];
    int n, rest;

    if (len < SEALED_EXTRA || len > INT_MAX)
        return ERR_REFUSED;
    len -= SEALED_EXTRA;
    memcpy(tag, sealed + len, SEALED_EXTRA);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    CHECK(c != NULL);
    CHECK(EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, zero_iv) == 1);
    CHECK(EVP_DecryptUpdate(c, out, &n, sealed, (int)len) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, SEALED_EXTRA, tag) == 1);
    bool right = EVP_DecryptFinal_ex(c, out + n, &rest) == 1;
    EVP_CIPHER_CTX_free(c);
    return right ? 0 : ERR_REFUSED;
}
