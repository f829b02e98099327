/* SPDX-License-Identifier: Apache-2.0 */
#include "server/secret.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <nettle/base64.h>
#include <nettle/gcm.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/nettle-meta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"

static const uint8_t zero_iv[GCM_IV_SIZE]; /* each key seals one message only */

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
    struct hmac_sha256_ctx c;

    hmac_sha256_set_key(&c, key_len, key);
    hmac_sha256_update(&c, strlen(label) + 1, (const uint8_t *)label);
    hmac_sha256_update(&c, len, data);
    hmac_sha256_digest(&c, PROOF_LEN, proof);
    explicit_bzero(&c, sizeof c);
}

bool secret_equal(const void *a, const void *b, size_t len)
{
    return memeql_sec(a, b, len) != 0;
}

static bool names_are_alike(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += strspn(a, "-/");
        b += strspn(b, "-/");
        if (toupper((unsigned char)*a) != toupper((unsigned char)*b))
            return false;
        if (*a == 0)
            return true;
    }
}

static const struct nettle_hash *hash_find(const char *name)
{
#define ROW(name, hash) {name, &nettle_##hash},
    static const struct {
        const char *name;
        const struct nettle_hash *hash;
    } rows[] = {DIGESTS(ROW)};
#undef ROW

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (names_are_alike(rows[i].name, name))
            return rows[i].hash;
    return NULL;
}

int secret_digest(const char *algorithm, const void *data, size_t len, struct buf *out)
{
    const struct nettle_hash *hash = hash_find(algorithm);

    if (hash == NULL)
        return ERR_NOT_FOUND;
    void *c = mem_alloc(hash->context_size);
    uint8_t *digest = mem_alloc(hash->digest_size);
    size_t text_len = BASE64_ENCODE_RAW_LENGTH(hash->digest_size);
    hash->init(c);
    hash->update(c, len, data);
    hash->digest(c, hash->digest_size, digest);
    base64_encode_raw((char *)buf_reserve(out, text_len), hash->digest_size, digest);
    buf_added(out, text_len);
    explicit_bzero(c, hash->context_size); /* it was given a password */
    mem_free(digest);
    mem_free(c);
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
    struct gcm_aes256_ctx c;

    gcm_aes256_set_key(&c, key);
    gcm_aes256_set_iv(&c, sizeof zero_iv, zero_iv);
    gcm_aes256_encrypt(&c, len, out, data);
    gcm_aes256_digest(&c, SEALED_EXTRA, out + len);
    explicit_bzero(&c, sizeof c);
}

int secret_open(const uint8_t key[PROOF_LEN], const uint8_t *sealed, size_t len, uint8_t *out)
{
    struct gcm_aes256_ctx c;
    uint8_t tag[SEALED_EXTRA];

    if (len < SEALED_EXTRA)
        return ERR_REFUSED;
    len -= SEALED_EXTRA;
    gcm_aes256_set_key(&c, key);
    gcm_aes256_set_iv(&c, sizeof zero_iv, zero_iv);
    gcm_aes256_decrypt(&c, len, out, sealed);
    gcm_aes256_digest(&c, SEALED_EXTRA, tag);
    explicit_bzero(&c, sizeof c);
    return secret_equal(tag, sealed + len, SEALED_EXTRA) ? 0 : ERR_REFUSED;
}
