/* SPDX-License-Identifier: Apache-2.0 */
/* address.h -- decides when this machine may hold one virtual address. A core.
 *
 * A claim is an ephemeral znode, so the tree can hold one, and it lives as long as the
 * session that made it. The machine answers for the address only while it owns the claim
 * and the session surely lives; the kernel takes the address away at until_ms by itself.
 *
 *   IDLE -> CLAIMING -> PROBING -> HOLDING -> DROPPING -> RELEASING -> IDLE
 *            create or   ARP: does  address    removing    claim
 *            read        one answer? is here   it          deleted
 *
 * Promise: from ADD until the kernel has removed the address no other machine is told to
 * ADD it -- provided that a removal at until_ms and ADDRESS_DRIFT of a lease fit into the
 * guard, that a session lives at least its timeout from when an answered question was sent
 * (or that over_ms says until when it may be believed), and that what one session sends is
 * done in order.
 *
 * The caller gives the facts whole at every step; what came is in the event. Actions are
 * carried out in order. Level-triggered: a step without an event is always allowed.
 */
#ifndef MUSTER_ADDRESS_H
#define MUSTER_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "site/site.h"

#define ADDRESS_NEVER UINT64_MAX
#define ADDRESS_ACTIONS_MAX 4                     /* of one step */
#define ADDRESS_REASON_MAX 160                    /* with the NUL */
#define ADDRESS_DRIFT(lease_ms) ((lease_ms) / 50) /* two clocks, 1 % each */
#define ADDRESS_GUARD_MIN_MS 50
#define ADDRESS_PROBE_LIMIT_MS                                    \
    1500 /* the host must have answered; else the claim goes back \
          */
#define ADDRESS_ADD_LIMIT_MS 1500
#define ADDRESS_REMOVE_AGAIN_MS 200
#define ADDRESS_RETRY_MS 50      /* between tries to claim */
#define ADDRESS_HOLD_OFF_MS 1000 /* after a conflict or a failure; doubles */
#define ADDRESS_HOLD_OFF_MAX_MS 30000
#define ADDRESS_ANNOUNCE_EVERY_MS 10000

enum address_state {
    ADDRESS_IDLE,
    ADDRESS_CLAIMING,
    ADDRESS_PROBING,
    ADDRESS_HOLDING,
    ADDRESS_DROPPING,
    ADDRESS_RELEASING,
};
const char *address_state_name(enum address_state s); /* "idle", "claiming", ... */

/* What the spreading of addresses wants of this machine. */
enum address_wish {
    ADDRESS_AWAY, /* give it back if it is here */
    ADDRESS_STAY, /* keep it if it is here, do not claim it */
    ADDRESS_TAKE, /* claim it when nobody has it */
};

#define ADDRESS_OWNER_UNKNOWN (-1) /* the tree has not been read since the last connection */

struct address_facts {
    uint64_t now_ms;
    uint32_t lease_ms, guard_ms;
    int64_t session;         /* 0: none */
    uint64_t alive_until_ms; /* client_alive_until(); 0: it does not live */
    bool is_connected;
    enum address_wish wish;
    int64_t seen_owner;         /* session of the claim as last seen; 0: nobody; or UNKNOWN */
    uint64_t promised_until_ms; /* another was promised that we do not take it; 0: no */
    uint64_t over_ms;       /* who had it before may believe so until then; 0: nobody does */
    uint64_t kept_until_ms; /* all others promised (failsafe.h); 0: no. Guard included */
    uint32_t
        cap_ms; /* hold no longer than so far from now (a shorter lease is coming); 0: no */
};

enum address_event_type {
    ADDRESS_EV_NONE,
    /* Ends of our own requests to the tree; .op, .session: of the request; .err */
    ADDRESS_EV_CREATED,
    ADDRESS_EV_READ, /* .owner: 0 when there is no claim (err 0 or ERR_NO_NODE) */
    ADDRESS_EV_DELETED,
    /* From the host; .op */
    ADDRESS_EV_PROBED, /* .text: "" free, else who answers */
    ADDRESS_EV_PROBE_FAILED,
    ADDRESS_EV_ADDED,
    ADDRESS_EV_ADD_FAILED,
    ADDRESS_EV_REMOVED,
    ADDRESS_EV_EXPIRED, /* no op */
};

struct address_event {
    enum address_event_type type;
    uint64_t op;
    int64_t session;
    int err;
    int64_t owner;
    const char *text;
};

enum address_action_type {
    ADDRESS_ACT_CREATE, /* the claim, ephemeral */
    ADDRESS_ACT_READ,   /* sync, then read: who owns the claim now? */
    ADDRESS_ACT_DELETE, /* the claim */
    ADDRESS_ACT_PROBE,
    ADDRESS_ACT_ADD, /* until_ms */
    ADDRESS_ACT_RENEW,
    ADDRESS_ACT_REMOVE,
    ADDRESS_ACT_ANNOUNCE,
};

struct address_action {
    enum address_action_type type;
    uint64_t op;
    uint64_t until_ms;
};
struct address_actions {
    struct address_action v[ADDRESS_ACTIONS_MAX];
    unsigned n;
};

/* Owned by the caller. Read freely; only address_step() writes. */
struct address {
    enum address_state state;
    char why[ADDRESS_REASON_MAX]; /* what is not good, with the measured value; "": nothing */
    uint64_t since_ms;            /* when `state` began */
    int64_t claim_session;        /* CLAIMING (a request sent) .. RELEASING: whose claim */
    uint64_t op, op_last;         /* of the request that is under way; the last one given */
    bool has_request;             /* to the tree */
    bool is_unsure;               /* the claim may be ours: read before anything else */
    /* The claim of that session, once it is known to be ours: not here before clear_ms. */
    int64_t clear_session;
    uint64_t clear_ms;
    bool is_added;           /* HOLDING: the host has said ADDED */
    bool must_release;       /* DROPPING: then delete the claim */
    uint64_t until_ms;       /* HOLDING: when the kernel takes it away */
    uint64_t retry_ms;       /* IDLE, DROPPING, RELEASING: not before */
    uint64_t avoid_until_ms; /* not here: a conflict, or it could not be added */
    uint32_t hold_off_ms;    /* the last; 0: none since it was held */
    bool was_connected;
    unsigned announced; /* how many of the first announcements are done */
    uint64_t announce_from_ms, announce_next_ms;
    uint64_t alive_seen_ms, alive_ms; /* the session's end as last given, as believed */
};

void address_init(struct address *a, uint64_t op_first);
/* Takes the facts and one event (NULL: none). *out is overwritten. */
void address_step(struct address *a, const struct address_facts *f,
                  const struct address_event *ev, struct address_actions *out);
/* When a step is due though nothing happened; ADDRESS_NEVER. */
uint64_t address_deadline(const struct address *a, const struct address_facts *f);

/* May this machine promise another that it does not and will not take it? */
bool address_can_promise(const struct address *a);
/* guard + drift: how long before a lease's end an address must be gone. */
uint32_t address_margin_ms(uint32_t lease_ms, uint32_t guard_ms);

#endif
