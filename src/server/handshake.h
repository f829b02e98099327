/* SPDX-License-Identifier: Apache-2.0 */
/* handshake.h -- the first frames of a connection between machines: layout and proofs.
 *
 *   opener    HELLO      magic, kind, cluster (zeros: join), from, to (0: join), expiry (join),
 *                        nonce, the opener's epoch
 *   acceptor  CHALLENGE  nonce, proof, the acceptor's epoch
 *   opener    PROOF      proof; join: name, address
 *   acceptor  WELCOME    peer: nothing; join: error, or the sealed secret, cluster and members
 *
 * Each proof is an HMAC over both nonces, both ids, both epochs and the direction, under the
 * cluster's secret or, for a join, under the token's key. Peers of different epochs part here:
 * when both have proved themselves, the one with the older epoch knows that it is over.
 */
#ifndef MUSTER_HANDSHAKE_H
#define MUSTER_HANDSHAKE_H

#include "server/identity.h"
#include "server/secret.h"

#define NONCE_LEN 32

enum handshake_kind { HANDSHAKE_PEER = 1, HANDSHAKE_JOIN = 2 };

struct hello {
    enum handshake_kind kind;
    uint8_t cluster[CLUSTER_LEN];
    uint64_t from, to;
    uint64_t expires_s; /* join */
    uint8_t nonce[NONCE_LEN];
    struct epoch epoch; /* the opener's; join: the first one, which says nothing */
};

/* Both sides' view of one connection's beginning. */
struct handshake {
    struct hello hello;
    uint8_t nonce[NONCE_LEN]; /* the acceptor's */
    struct epoch epoch;       /* likewise */
    uint8_t key[SECRET_LEN];
    size_t key_len;
};

void hello_encode(const struct hello *h, struct buf *out);
int hello_decode(struct hello *h, const uint8_t *data, size_t len);

/* Sets nonce and epoch, from the acceptor's nonce, epoch and proof; the proof is not checked.
 */
void challenge_encode(const struct handshake *h, struct buf *out);
int challenge_decode(struct handshake *h, const uint8_t *data, size_t len,
                     uint8_t proof[PROOF_LEN]);

/* The opener's or the acceptor's proof of this handshake. */
void handshake_prove(const struct handshake *h, const char *side, uint8_t proof[PROOF_LEN]);
bool handshake_check(const struct handshake *h, const char *side,
                     const uint8_t proof[PROOF_LEN]);

/* WELCOME to a joiner. */
void welcome_encode(const struct handshake *h, int err, const struct identity *self,
                    const struct raft_members *members, struct buf *out);
/* Fills cluster, secret and peers. Returns the error that was sent, or ERR_REFUSED. */
int welcome_decode(const struct handshake *h, struct identity *out, const uint8_t *data,
                   size_t len);

#endif
