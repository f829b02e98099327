/* SPDX-License-Identifier: Apache-2.0 */
/* member_disk.h -- what a member makes of full and slow disks.
 *
 * Full: each server knows by measure how much room it has, and tells the leader. What counts
 * is how it looks on a quorum: with a minority of full disks all goes on, and the leader is one
 * with room. When a quorum has none left, the ensemble refuses by ERR_NO_ROOM what would only
 * take more, and accepts what frees room or keeps the site alive (tree_need()). The servers
 * have a reserve to write that down with (store/reserve.c).
 *
 * Slow: a save, or a piece of a snapshot, that takes longer than MEMBER_SLOW_MS. The leader
 * hands over to a voter without such a save, and the server that did so lets others come first
 * for a while.
 *
 * Both: who waits for the disk while a quorum goes on has nothing to tell his clients; they
 * are sent to other servers. Where all servers wait, they stay.
 */
#ifndef MUSTER_MEMBER_DISK_H
#define MUSTER_MEMBER_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"
#include "tree/tree.h"

#define MEMBER_SLOW_MS 1500       /* a save that takes longer: five election timeouts */
#define MEMBER_SLOW_HOLD_MS 10000 /* so long after such a save the disk counts as slow yet */
#define MEMBER_LAG_MS 2000        /* so far behind the quorum without a step: clients go */
/* So long others come first after a hand-over; doubled each time, up to the second. */
#define MEMBER_BACK_OFF_MS 30000
#define MEMBER_BACK_OFF_MAX_MS 480000
#define MEMBER_OFFER_MS 2000    /* an offer of the leadership that was not taken */
#define MEMBER_TELL_MS 1000     /* how often servers tell how their disks are */
#define MEMBER_TOLD_MS 5000     /* what was told counts for so long */
#define MEMBER_RELIEVE_MS 30000 /* between two snapshots that are made to get room */

/* How much room there is (free bytes and reserve together, in reserves), the best first, and
 * what each refuses:
 * sym, name in status and metrics, the first need (tree.h) that is refused, and whether new
 * sessions are. */
/* clang-format off */
#define ROOM_TABLE(R)                                                                           \
    R(OK, "ok", TREE_NEEDS_N, false)                                                            \
    R(LOW, "low", TREE_NEEDS_N, false)         /* less than ROOM_LOW_RESERVES */                \
    R(FULL, "full", TREE_NEED_ROOM, false)     /* less than ROOM_FULL_RESERVES */               \
    R(SPENT, "spent", TREE_NEED_LITTLE, false) /* less than half of one */                      \
    R(BARE, "bare", TREE_NEED_CLAIM, true)     /* less than a quarter, or a save waits for room */
/* clang-format on */
#define R(sym, name, refused, sessions) ROOM_##sym,
enum room { ROOM_TABLE(R) ROOMS_N };
#undef R
#define ROOM_LOW_RESERVES 5
#define ROOM_FULL_RESERVES 2

const char *room_name(enum room r);
bool room_refuses(enum room r, enum tree_need need);
bool room_refuses_sessions(enum room r);

/* As measured by the shell. */
struct member_room {
    uint64_t free_bytes;                  /* beside the reserve */
    uint64_t reserve_bytes, wanted_bytes; /* of the reserve, now and when it is whole */
    bool is_waiting;                      /* a save waits for room */
};
/* was: how it was before; between the bounds it stays so. */
enum room room_of(const struct member_room *r, enum room was);

struct member_disk_facts {
    struct member_room room; /* the last that was measured; all 0: not yet */
    enum room own, ensemble; /* ensemble: of a quorum, as the leader knows it */
    uint64_t ensemble_free_bytes;
    bool is_slow, is_lagging;
    uint64_t saving_ms;        /* for how long the present save has been at the disk; 0 */
    uint64_t slow_total;       /* saves above MEMBER_SLOW_MS */
    uint64_t hand_overs_total; /* leadership offered because of this disk */
    uint64_t lagging_total;    /* times that clients were sent away */
    uint64_t refused_total;    /* requests answered with ERR_NO_ROOM, by this server */
    uint64_t behind_ms;        /* others come first for so long yet */
};

/* What a member keeps about it. */
struct member_disk {
    struct member_disk_facts facts;
    uint64_t saving_since_ms; /* 0: no save is at the disk */
    uint64_t slow_until_ms;
    bool is_slow_counted; /* the present save */
    struct disk_fact {
        uint64_t id, told_ms, free_bytes;
        enum room room;
        bool is_slow;
    } others[RAFT_MEMBERS_MAX]; /* told to us as leader; id RAFT_NOBODY: free */
    uint64_t tell_ms;           /* when the next telling is due */
    uint64_t told_term;         /* a new leader is told at once */
    enum room told_room;
    bool told_slow;
    uint64_t ensemble_until_ms; /* of a follower: what the leader told counts until then */
    uint64_t offer_ms;          /* when leadership may be offered again */
    uint64_t back_off_ms, behind_until_ms;
    uint64_t lag_saved,
        lag_since_ms;  /* the log on disk stands there since then; 0: not behind */
    uint64_t lag_goal; /* lagging: until all up to here is applied */
    uint64_t relieve_ms, relieve_wait_ms;
    bool has_relieved;
};

#endif
