/* SPDX-License-Identifier: Apache-2.0 */
/* status.h -- facts -> the verdict and the JSON of /status. A core.
 *
 * The first line is the verdict, made by status_verdict() from everything that is not good:
 *   OK                                      exit 0
 *   OK, but one more loss stops writing     exit 0
 *   DEGRADED: why; why                      exit 3
 *   DOWN: why; why                          exit 4: something of the site is not served
 */
#ifndef MUSTER_STATUS_H
#define MUSTER_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define STATUS_MEMBERS_MAX 15

/* What the server of this machine knows about the ensemble; filled by the shell. */
struct status_member {
    const char *name, *address;
    bool is_voter;
    bool is_reachable; /* heard within the election timeout; this server itself: true */
    uint64_t age_ms;   /* since it was last heard; UINT64_MAX: never */
};
/* Its disk, and that of the others as the leader tells it. room: how much there is, by
 * member_disk.h's names; NULL: not measured yet. */
struct status_disk {
    const char *room, *ensemble_room;
    bool is_low, is_full; /* this disk */
    bool refuses;         /* those of a quorum are full: new data is refused */
    bool is_slow, is_behind;
    uint64_t free_bytes, reserve_bytes, of_reserve_bytes;
    uint64_t last_ms, most_ms, running_ms; /* saves; running_ms: the present one, 0: none */
    uint64_t average_us;
};
struct status_server {
    struct status_disk disk;
    const char *role;   /* "leader", "follower", "candidate", "learner" */
    const char *leader; /* its name; NULL: none known */
    uint64_t term, commit_index;
    const char *ails; /* it does not vote though it should, and the like; NULL: nothing */
    bool has_quorum;  /* a write would be answered now, as far as this server knows */
    struct status_member members[STATUS_MEMBERS_MAX];
    unsigned members_n;
};

/* What this machine's client knows about a foreign ensemble; filled by the shell. */
struct status_ensemble {
    const char *server; /* "10.0.0.1:2181": of the connection, or of the next attempt */
    const char *chroot; /* "" */
    const char *why;    /* what was measured at the servers that do not answer; "" */
    bool is_connected;
    uint64_t connected_ms; /* for how long; only when is_connected */
    int64_t session, zxid;
    uint32_t timeout_ms;      /* of the session */
    uint64_t trusted_ms_left; /* how long it is believed without another answer */
};

/* Everything that a verdict is made of; filled by the agent. Text is borrowed. */
struct status_machine {
    const char *name, *address;
    const char *state; /* "alive", "gone", "joined" (never seen alive), "unknown" */
    const char *role;  /* of its server: "leader", "follower", "learner"; "": not known */
    uint64_t age_ms;   /* since it was last known alive; UINT64_MAX: never */
    const char *why;   /* "": nothing is wrong */
};
struct status_address {
    const char *address;
    const char *holder; /* NULL: nobody */
    const char *state;  /* "held", "unheld", "moving", "unknown" */
    const char *why;
    bool is_here;
    uint64_t lease_ms_left; /* only when is_here */
};
struct status_instance {
    const char *service, *name, *machine;
    const char *state; /* "healthy", "failing", "checking", "gone" (its machine is) */
    const char *why;
    int64_t since_s; /* -1: not known */
};
struct status_pool {
    const char *service, *why;
    unsigned listen, on, slots;
    bool is_kept;
};
struct status_view {
    const char *site, *machine; /* site NULL: none is applied */
    const char *site_why;       /* what was applied last was refused; "": it was not */
    const char *balance_why;    /* what HAProxy refused; "" */
    bool reaches_tree;
    bool is_cut_short;     /* there is more in the tree than agents look at */
    uint64_t as_of_ms_ago; /* of all that stands in the tree; UINT64_MAX: never read */
    uint32_t lease_ms;
    const struct status_server *server;     /* NULL: none on this machine */
    const struct status_ensemble *ensemble; /* NULL: it is not on a foreign one */
    const struct status_machine *machines;
    const struct status_address *addresses;
    const struct status_instance *instances; /* by service */
    const struct status_pool *pools;
    unsigned machines_n, addresses_n, instances_n, pools_n;
    uint64_t site_refused_total, pools_refused_total, conflicts_total;
};

enum { STATUS_OK = 0, STATUS_DEGRADED = 3, STATUS_DOWN = 4 }; /* exit codes */

/* Appends the verdict, one line without its end; returns the exit code. */
int status_verdict(const struct status_view *v, struct buf *out);
/* Appends the JSON:
 * {"verdict","exit","site","machine","as_of_ms_ago","lease_ms",
 *  "quorum":{"has_quorum","role","leader","term","commit_index","voters","reachable",
 *            "members":[{"name","address","voter","reachable","age_ms"}]} or null,
 *  "disk":{"room","ensemble_room","refuses","slow","behind","free_bytes","reserve_bytes",
 *          "of_reserve_bytes","sync_last_ms","sync_average_ms","sync_most_ms",
 *          "sync_running_ms"} or null,
 *  "ensemble":{"connected","server","chroot","connected_ms","session","zxid","timeout_ms",
 *              "trusted_ms_left","why"} or null,
 *  "machines":[{"name","address","state","role","age_ms","why"}],
 *  "addresses":[{"address","holder","state","why","lease_ms_left"}],
 *  "services":[{"name","pool","instances":[{"name","machine","state","why","since_s"}]}],
 *  "balance":[{"service","listen","on","slots","kept","why"}],
 *  "refused":{"sites","pools","address_conflicts"}}
 * An age that is not known is null. */
int status_json(const struct status_view *v, struct buf *out);

#endif
