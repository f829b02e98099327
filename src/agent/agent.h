/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h -- what one machine does for the site: all controllers, tied together. A core.
 *
 * It looks at its copy of the tree (client/mirror.h), at the facts of this machine and at
 * the time, and says what should be done now. What touches the machine is done by a shell
 * (the host, or the simulation), which carries out the actions in their order and reports
 * what came of them. What touches the tree goes through the client that is handed in.
 *
 * The shell's loop, for each batch of things that happened:
 *
 *   agent_time(a, now, wall)            first: what time it is
 *   client_received(...), agent_result(...), ...   then: what happened, in any number
 *   agent_flush(a)                      then: decide
 *   while (agent_action_take(a, &act))  and carry out
 *       ...
 *   send client_output(); wait until the earlier of agent_deadline() and client_deadline()
 *
 * The client's on_event and on_watch call agent_client_event() and agent_client_watch();
 * its other callbacks come here by themselves. agent_flush() must not be called from inside
 * of them. `now` is CLOCK_BOOTTIME in ms (or what stands for it): it counts while the
 * machine sleeps, and it is the same clock in client_*() and in every until_ms.
 *
 * What the shell must keep for promise 3 (one holder of an address):
 * - After ADD or RENEW with until_ms the address is gone at until_ms by itself, also when
 *   this process is dead or stopped (the kernel's lifetime, the nftables lease). An ADD or
 *   RENEW whose until_ms is past is not carried out (ADD_FAILED, or EXPIRED).
 * - REMOVED is reported only when the kernel no longer has the address and answers no ARP
 *   question for it. REMOVE of an address that is not there is REMOVED too.
 * - At its start the shell removes what an earlier process left, before the first flush.
 */
#ifndef MUSTER_AGENT_H
#define MUSTER_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/service.h"
#include "agent/status.h"
#include "base/buf.h"
#include "client/client.h"
#include "site/site.h"

#define AGENT_NEVER UINT64_MAX
#define AGENT_REASON_MAX 200      /* bytes of a reason that is kept; longer ones are cut */
#define AGENT_MACHINES_MAX 1024   /* that are looked at; more of them are left out, and said */
#define AGENT_PEER_BYTES_MAX 8192 /* of one message between agents; longer ones are ignored */

struct agent_options {
    const char *machine; /* its name, unique in the site; site_is_name() */
    const char *address; /* its own IPv4 address: where its instances are reached */
    const char *id;      /* from its data directory: stays when name or address change */
    const char *version; /* of this program, for status */
    uint64_t seed;       /* drawn anew at each start, by the shell */
    uint32_t guard_ms;   /* how long before the lease ends an address is gone; 0: the default,
                            lease / 10, at least 50 */
    const char *balance_socket; /* HAProxy's admin socket: a path, written into its file */
    /* The tree is on a foreign ensemble: the client has is_foreign, and its life_path is that
     * of agent_life_path(). Nobody is asked directly then (failsafe.h). */
    bool is_foreign;
};

/* Where the machine of that name gives its signs of life: every one is an event for all. */
void agent_life_path(struct buf *out, const char *machine);

struct agent;
/* The client is the caller's and must outlive the agent; between agent_free() and
 * client_free() it must not be given events. Text in options is copied. */
struct agent *agent_new(const struct agent_options *options, struct client *client);
void agent_free(struct agent *a);

/* ---- events in ---- */
/* now_ms > 0 and never going back; wall_ms is for people to read only. */
void agent_time(struct agent *a, uint64_t now_ms, int64_t wall_ms);
void agent_client_event(struct agent *a, enum client_event ev);
void agent_client_watch(struct agent *a, int type, const char *path);

enum agent_result_type {
    AGENT_PROBED,         /* address, op; .text: "" free, else who answers: the MAC */
    AGENT_PROBE_FAILED,   /* address, op; .text: why the question could not be asked */
    AGENT_ADDED,          /* address, op */
    AGENT_ADD_FAILED,     /* address, op; .text: why. Nothing of it is left */
    AGENT_REMOVED,        /* address, op */
    AGENT_EXPIRED,        /* address; it went by itself at its until_ms, or was taken away */
    AGENT_CHECKED,        /* op; .check */
    AGENT_BALANCE_DONE,   /* op: written, and HAProxy runs with it */
    AGENT_BALANCE_FAILED, /* op; .text: why. The earlier state goes on */
    AGENT_BALANCE_LOST,   /* HAProxy is gone: it will be set again, with reload */
    AGENT_PEER,           /* .text: from which machine (as the transport knows it); .data */
};

/* Borrowed for the call. */
struct agent_result {
    enum agent_result_type type;
    uint64_t op;         /* of the action that this answers */
    const char *address; /* "10.0.0.100", as in the action */
    const char *text;    /* NULL: "" */
    struct service_result check;
    const uint8_t *data;
    size_t len;
};
void agent_result(struct agent *a, const struct agent_result *r);

/* What only the shell can measure; shown in status. Call it when it changes, seldom. */
void agent_facts(struct agent *a, uint32_t load_x100, uint64_t uptime_s);

/* The machines that are members of the ensemble, by name, as this machine's server knows
 * them; none where there is no server. Before agent_flush(), whenever they may have changed:
 * whom the failsafe asks must be known to the moment. */
void agent_members(struct agent *a, const char *const *names, size_t n);

/* Decides on all that came since the last call. */
void agent_flush(struct agent *a);
/* When agent_time() and agent_flush() are due again, though nothing has happened. */
uint64_t agent_deadline(const struct agent *a);

/* Let go of everything in good order: addresses removed, claims and registrations deleted.
 * agent_is_done() when nothing is left, or after one lease; then client_close(). */
void agent_leave(struct agent *a);
bool agent_is_done(const struct agent *a);

/* ---- actions out ---- */
enum agent_action_type {
    AGENT_ADDRESS_PROBE,    /* does a foreign machine answer for it? (ARP, RFC 5227 2.1.1;
                               at most PROBE_LIMIT_MS of agent/address.h) -> PROBED, PROBE_FAILED
                             */
    AGENT_ADDRESS_ADD,      /* until until_ms -> ADDED, ADD_FAILED */
    AGENT_ADDRESS_RENEW,    /* it stays until the later until_ms; no answer but EXPIRED */
    AGENT_ADDRESS_REMOVE,   /* -> REMOVED. May come again while it is under way */
    AGENT_ADDRESS_ANNOUNCE, /* gratuitous ARP, both forms; no answer */
    AGENT_CHECK_RUN,        /* spec -> CHECKED, within spec->timeout_ms */
    AGENT_CHECK_STOP,       /* op of a RUN whose result is no longer wanted */
    AGENT_BALANCE_SET,      /* see below -> BALANCE_DONE, BALANCE_FAILED */
    AGENT_BALANCE_STOP,     /* nothing is to be balanced: HAProxy may end */
    AGENT_PEER_SEND,        /* data to the agent of `machine`; may be lost */
    AGENT_NOTE,             /* for the log: one change of state: ev, thing, why */
};

/* Borrowed until the next agent_*() call on the same agent. Fields that a type does not use
 * are zero or NULL. */
struct agent_action {
    enum agent_action_type type;
    uint64_t op;         /* to be given back in the result; never used twice */
    const char *address; /* IPv4, dotted */
    const char *dev;     /* the interface; NULL: the one that has this machine's address */
    unsigned prefix;     /* 1..32 */
    uint64_t until_ms;
    const struct service_check *check; /* CHECK_RUN */
    /* BALANCE_SET. config: the whole file, always to be written (checked with haproxy -c
     * first). reload: HAProxy must be started or reloaded with it. Without reload the
     * runtime commands (NUL-ended lines, for the admin socket, in order) make the running
     * one equal to the file; if one fails, report BALANCE_FAILED, a reload follows. */
    const char *config;
    const char *const *commands;
    size_t commands_n;
    bool reload;
    const char *machine, *machine_address; /* PEER_SEND: to whom */
    const uint8_t *data;
    size_t len;
    const char *ev, *thing, *why; /* NOTE */
};
bool agent_action_take(struct agent *a, struct agent_action *out);

/* ---- facts ---- */
/* The JSON of /status and what it says in short. `server` may be NULL (an agent without a
 * server of its own). Works always: without quorum from the last known view. Returns the
 * exit code: 0 OK, 3 degraded, 4 down. */
int agent_status(const struct agent *a, const struct status_server *server, struct buf *json);
int agent_status_foreign(const struct agent *a, const struct status_ensemble *ensemble,
                         struct buf *json);

/* Does this machine, as far as it knows, answer for the address now? For tests and metrics. */
bool agent_has_address(const struct agent *a, const char *address);
struct agent_counters {
    uint64_t addresses_taken_total, addresses_lost_total, addresses_handed_over_total;
    uint64_t probe_conflicts_total, failsafe_rounds_total, failsafe_kept_total;
    uint64_t checks_total, checks_failed_total, balance_sets_total, balance_reloads_total;
    uint64_t balance_refused_total; /* empty answers of the registry that were refused */
    uint64_t site_refused_total, peer_malformed_total;
    uint64_t addresses_held, instances_healthy;
};
void agent_counters(const struct agent *a, struct agent_counters *out);

#endif
