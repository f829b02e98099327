/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h -- struct agent, for the files of src/agent only.
 *
 *   agent.c    life, events, actions, the order of a flush
 *   view.c     what the tree says: site, machines, instances; kept while it is not reached
 *   holder.c   the addresses: facts for address.c, requests, what it decides
 *   peers.c    the failsafe: questions to the other agents, and answers
 *   signs.c    a foreign ensemble: when the sessions of others surely are over
 *   writer.c   what this machine writes: its identity, its health, its instances
 *   report.c   the facts for status
 */
#ifndef MUSTER_AGENT_INTERNAL_H
#define MUSTER_AGENT_INTERNAL_H

#include "agent/address.h"
#include "agent/agent.h"
#include "agent/balance.h"
#include "agent/failsafe.h"
#include "agent/machine.h"
#include "agent/service.h"
#include "agent/spread.h"
#include "agent/znodes.h"
#include "client/mirror.h"

#define SITE_PATH "/muster/site"
#define ADDRESS_ROOT "/muster/addresses"
#define AGENT_SLOTS_MAX (2 * SITE_ADDRESSES_MAX) /* with those that are being given up */

/* A machine as the tree shows it. */
struct seen_machine {
    struct machine_identity id;
    bool is_alive;
    int64_t session;               /* of its agent; 0: not alive */
    struct machine_health *health; /* the last that could be read; NULL: none */
    int64_t health_mzxid;
    uint64_t alive_ms; /* when it was last known alive; 0: never */
};

struct seen_instance {
    char service[SITE_NAME_MAX];
    struct balance_member m;
    int64_t session;
};

struct view {
    bool is_known;     /* it was whole at least once */
    bool is_fresh;     /* whole at least once since the last connection */
    bool must_read;    /* the mirror has changed */
    struct site *site; /* the last good one; NULL: none */
    int64_t site_mzxid;
    char site_why[AGENT_REASON_MAX];
    uint64_t site_refused_total;
    struct seen_machine *machines; /* by name; this machine is always among them */
    unsigned machines_n;
    unsigned me;
    bool is_cut_short;  /* mirror_is_full() */
    bool machines_full; /* AGENT_MACHINES_MAX: there are more, which are not looked at */
    struct seen_instance *instances; /* by service, then name */
    unsigned instances_n, instances_cap;
};

/* What was heard of a machine on a foreign ensemble; see signs.c. */
struct sign {
    char name[SITE_NAME_MAX];
    uint64_t heard_ms;
    uint32_t trust_ms; /* that it believes its signs for; the longest seen */
};
#define SIGNS_MAX 256

/* One virtual address, of the site or still being given up. */
struct slot {
    struct address core;
    struct site_address site;
    bool is_wanted; /* it stands in the site like this */
    bool was_asked; /* others may have promised */
};

struct slot_event {
    char address[SITE_ADDRESS_MAX];
    char text[ADDRESS_REASON_MAX];
    struct address_event ev;
};

/* A question to the tree about a claim. */
struct claim_request {
    struct agent *agent;
    struct claim_request *next;
    char address[SITE_ADDRESS_MAX];
    enum address_event_type type;
    uint64_t op;
    int64_t session;
    int sync_err;
};

/* An action in the queue, with what its pointers point to. */
struct queued {
    struct agent_action act;
    struct queued *next;
    struct service_check check;
    char address[SITE_ADDRESS_MAX], dev[SITE_DEV_MAX];
    char machine[SITE_NAME_MAX], machine_address[SITE_ADDRESS_MAX];
    char service[SITE_NAME_MAX], path[SITE_PATH_MAX];
    char ev[32], thing[BALANCE_NAME_MAX], why[AGENT_REASON_MAX];
    struct buf data;
};

struct agent {
    struct agent_options options; /* the text is ours */
    struct machine_identity self;
    struct client *client;
    struct mirror *mirror;
    uint64_t now_ms, start_ms;
    int64_t wall_ms, start_wall_ms;
    uint32_t timeout_asked_ms; /* of the client; 0: its own */
    bool timeout_is_pending;   /* no server has answered to that yet */
    bool is_leaving;
    uint64_t leave_until_ms;
    uint64_t given_ms; /* when an address was last given back; 0: never */
    uint64_t op_last, generations;

    struct view view;
    struct slot *slots[AGENT_SLOTS_MAX];
    unsigned slots_n;
    struct slot_event *events;
    unsigned events_n, events_cap;
    struct claim_request *requests;
    struct spread spread;
    struct failsafe failsafe;
    struct failsafe_machines known;   /* from the last whole view, and members */
    struct failsafe_machines members; /* of the ensemble, as our server knows them */
    uint64_t ask_next_ms;
    struct sign signs[SIGNS_MAX];
    unsigned signs_n;
    uint64_t over_ms; /* foreign: every session that has ended is believed by nobody then */
    struct services services;
    struct balance balance;
    bool balance_stale; /* pools must be offered anew */
    struct znodes *znodes;
    struct buf health, health_states; /* as written last: whole, and without measured values */
    uint64_t health_ms;
    uint32_t load_x100;

    struct queued *first, **last, *taken;
    struct agent_counters counters;
    uint64_t due_ms;
};

/* agent.c */
struct queued *agent_push(struct agent *a, enum agent_action_type type);
void agent_note(struct agent *a, const char *ev, const char *thing, const char *why);
void agent_due(struct agent *a, uint64_t at_ms);
uint32_t agent_lease_ms(const struct agent *a);
bool agent_reaches_tree(const struct agent *a);
bool agent_is_fit(const struct agent *a, char why[MACHINE_REASON_MAX]);
uint64_t agent_op(struct agent *a);

/* view.c: true if the site has changed */
bool view_read(struct agent *a);
void view_members(struct agent *a, const char *const *names, size_t n);
void view_free(struct view *v);

/* holder.c */
void holder_set_site(struct agent *a);
void holder_event(struct agent *a, const char *address, const struct address_event *ev);
void holder_step(struct agent *a);
bool holder_is_idle(const struct agent *a);
void holder_free(struct agent *a);
const struct slot *holder_find(const struct agent *a, const char *address);

/* peers.c */
void peers_step(struct agent *a);
void peers_let_go(struct agent *a, struct slot *s); /* returns promises, if it is gone */
void peers_message(struct agent *a, const char *from, const uint8_t *data, size_t len);

/* signs.c */
void signs_event(struct agent *a, int type, const char *path);
void signs_connected(struct agent *a); /* the view is whole, and may have missed something */

/* writer.c */
void writer_step(struct agent *a);

#endif
