/* SPDX-License-Identifier: Apache-2.0 */
/* member_found.h -- whether a server without data may begin an ensemble. A core.
 *
 * All servers of a zoo.cfg begin with the same first snapshot, which names them all as voters;
 * from there on everything is Raft's. But a server whose disk was lost looks the same as one
 * that is new, and as a voter it would have forgotten its votes and what it acknowledged: with
 * it an entry that was promised could be voted away. So a server without data asks the others
 * first. Somebody has data: it is late, and begins with nothing and another birth
 * (raft_options.birth). All are as empty as itself and mean the same servers: they begin. A
 * majority, itself included, is: they begin when the others have had FOUND_SHORT_MS to be
 * heard.
 *
 * What that cannot see: a majority of disks lost (or never there) while those with data are
 * out of reach. Then an empty ensemble begins.
 */
#ifndef MUSTER_MEMBER_FOUND_H
#define MUSTER_MEMBER_FOUND_H

#include "raft/raft.h"

#define FOUND_ASK_MS 200
#define FOUND_FRESH_MS 1000 /* an answer counts so long */
#define FOUND_SHORT_MS 5000 /* not all are heard: one that has data may only be slow */
#define FOUND_LATE_MS                                                       \
    1000 /* late comers wait so long: nothing of their earlier life is left \
          */

struct founding {
    uint64_t self;
    struct raft_members config; /* of whom it is to consist */
    uint64_t begun_ms;
    uint64_t empty_ms[RAFT_MEMBERS_MAX]; /* when it last said that it is as empty; 0: never */
    bool has_data;                       /* somebody */
    uint64_t differs;                    /* the id of who means other servers; 0: nobody */
};

enum found_verdict { FOUND_WAIT, FOUND_BEGIN, FOUND_LATE };

struct found_message {
    bool is_question; /* wants an answer */
    bool has_data;
    uint64_t config; /* stands for the servers that are meant */
    struct raft_member from;
};

uint64_t found_config(const struct raft_members *m); /* equal for equal ones */
void found_message_encode(const struct found_message *m, struct buf *out);
int found_message_decode(struct found_message *m, const uint8_t *data, size_t len);

void founding_begin(struct founding *f, uint64_t self, const struct raft_members *config,
                    uint64_t now_ms);
void founding_heard(struct founding *f, const struct found_message *m, uint64_t now_ms);
enum found_verdict founding_verdict(const struct founding *f, uint64_t now_ms);

#endif
