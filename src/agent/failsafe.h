/* SPDX-License-Identifier: Apache-2.0 */
/* failsafe.h -- keeping exclusive things when the tree cannot be reached. A core.
 *
 * The holder asks every other known machine directly. Each that says yes promises that it
 * neither has the address nor will take it for one lease from when it heard the question;
 * so, when all have said yes, the holder may keep it for one lease from when it *asked*. One
 * missing or negative answer: it lets go at the end of its own lease. The promise binds the
 * one who gave it also when it reaches the tree again before.
 *
 * A yes is given only by a machine that does not reach the tree either, and that knows the
 * same machines: one of which the other has not heard could not be asked.
 *
 * When the holder has let go it returns the promises, so that nobody waits for nothing.
 *
 * Only with servers of our own: on a foreign ensemble nobody is asked (peers.c). A machine that
 * joined it while all known machines are cut off would be asked by nobody. (With the built-in
 * ensemble joining needs a quorum of the very machines that all say that they reach none.)
 */
#ifndef MUSTER_FAILSAFE_H
#define MUSTER_FAILSAFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "site/site.h"

#define FAILSAFE_MACHINES_MAX 32
#define FAILSAFE_ROUNDS 4 /* of questions that may still be answered */
#define FAILSAFE_NEVER UINT64_MAX

struct failsafe_machines {
    unsigned n, me; /* all known, alive or not, in order of name; this one among them */
    char name[FAILSAFE_MACHINES_MAX][SITE_NAME_MAX];
};

struct failsafe_round {
    uint64_t seq, asked_ms;
    uint32_t lease_ms; /* that was promised for */
    unsigned addresses;
    char address[SITE_ADDRESSES_MAX][SITE_ADDRESS_MAX];
    uint64_t yes[FAILSAFE_MACHINES_MAX]; /* bit i: of address i */
    struct failsafe_machines machines;   /* as known when asking */
};

struct failsafe_promise {
    char address[SITE_ADDRESS_MAX];
    char to[SITE_NAME_MAX];
    uint64_t incarnation, seq; /* of the question */
    uint64_t until_ms;
};

struct failsafe {
    uint64_t incarnation; /* of this agent: answers to an earlier one are not for us */
    uint64_t seq;
    struct failsafe_round rounds[FAILSAFE_ROUNDS];
    struct failsafe_promise promises[SITE_ADDRESSES_MAX];
    unsigned promises_n;
    uint64_t malformed_total, rounds_total;
};
void failsafe_init(struct failsafe *f, uint64_t incarnation);

/* A new round for these addresses; the bytes are to be sent to every other machine. Nothing
 * is appended when there is no other machine, or more than can be asked. */
void failsafe_ask(struct failsafe *f, uint64_t now_ms, uint32_t lease_ms,
                  const struct failsafe_machines *machines,
                  const char (*addresses)[SITE_ADDRESS_MAX], unsigned n, struct buf *out);
/* These addresses have been let go: whoever promised for them is free. */
void failsafe_return(struct failsafe *f, const char (*addresses)[SITE_ADDRESS_MAX], unsigned n,
                     struct buf *out);

/* A message has come. A question is answered with `answer` (appended; to be sent back);
 * can_promise() says whether this machine can promise for one address. Any bytes are safe. */
void failsafe_message(struct failsafe *f, uint64_t now_ms, const char *from,
                      const uint8_t *data, size_t len, const struct failsafe_machines *machines,
                      bool reaches_tree, bool (*can_promise)(void *ctx, const char *address),
                      void *ctx, struct buf *answer);

/* All others have promised until then, margin (see address_margin_ms) taken off; 0: no. */
uint64_t failsafe_kept_until(const struct failsafe *f, const char *address, uint32_t margin_ms);
/* This machine has promised not to take it until then; 0: no. */
uint64_t failsafe_promised_until(const struct failsafe *f, const char *address);

#endif
