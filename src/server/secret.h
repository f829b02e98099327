/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h -- what proves that somebody belongs to the cluster (nettle,
 * which GnuTLS, for libmicrohttpd, brings anyway: another library took 1.4 MB of every server).
 *
 * A join token is "ID.EXPIRY.MAC": the id that the new machine will have, until when it is
 * good (seconds since 1970), and a code over both under the cluster's secret. Any machine
 * can make one, and any can check one, without keeping anything; it is good once because
 * an id joins once.
 */
#ifndef MUSTER_SECRET_H
#define MUSTER_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/identity.h"

#define PROOF_LEN 32
#define TOKEN_KEY_LEN 16
#define TOKEN_TEXT_MAX 80
#define TOKEN_LIFE_S 3600
#define SEALED_EXTRA 16 /* bytes that secret_seal adds */

struct token {
    uint64_t id;
    uint64_t expires_s;
    uint8_t key[TOKEN_KEY_LEN];
};

void secret_random(void *data, size_t len); /* ends the process if there is no randomness */

/* HMAC-SHA256 over label and data. */
void secret_proof(const uint8_t *key, size_t key_len, const char *label, const void *data,
                  size_t len, uint8_t proof[PROOF_LEN]);
bool secret_equal(const void *a, const void *b, size_t len); /* in constant time */

/* The hashes of passwords: those of ZooKeeper, which asks Java for them, under Java's names. */
/* clang-format off */
#define DIGESTS(R)                                                                             \
    R("MD2", md2)                                                                              \
    R("MD5", md5)                                                                              \
    R("SHA", sha1)                                                                             \
    R("SHA-1", sha1)                                                                           \
    R("SHA-224", sha224)                                                                       \
    R("SHA-256", sha256)                                                                       \
    R("SHA-384", sha384)                                                                       \
    R("SHA-512", sha512)                                                                       \
    R("SHA-512/224", sha512_224)                                                               \
    R("SHA-512/256", sha512_256)                                                               \
    R("SHA3-224", sha3_224)                                                                    \
    R("SHA3-256", sha3_256)                                                                    \
    R("SHA3-384", sha3_384)                                                                    \
    R("SHA3-512", sha3_512)
/* clang-format on */

/* Appends the base64 of a hash. Capitals, - and / of the name do not matter: SHA1 is SHA-1.
 * ERR_NOT_FOUND: there is no such one. */
int secret_digest(const char *algorithm, const void *data, size_t len, struct buf *out);

void token_make(struct token *t, const uint8_t secret[SECRET_LEN], uint64_t now_s);
void token_print(const struct token *t, char text[TOKEN_TEXT_MAX]);
int token_parse(struct token *t, const char *text); /* ERR_SYNTAX */
/* The key that belongs to id and expiry: of a token that we are shown. */
void token_key(const uint8_t secret[SECRET_LEN], uint64_t id, uint64_t expires_s,
               uint8_t key[TOKEN_KEY_LEN]);

/* AES-256-GCM under a key that is used once. out has room for len + SEALED_EXTRA. */
void secret_seal(const uint8_t key[PROOF_LEN], const uint8_t *data, size_t len, uint8_t *out);
/* ERR_REFUSED: not sealed with this key, or changed. out has room for len - SEALED_EXTRA. */
int secret_open(const uint8_t key[PROOF_LEN], const uint8_t *sealed, size_t len, uint8_t *out);

#endif
