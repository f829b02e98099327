/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h -- who this machine is: the files `machine`, `secret` and `peers` in the data
 * directory. Written by init and join; the store lies beside them in `store/`.
 *
 * The secret is the cluster's: whoever shows it is a member. Mode 0600.
 */
#ifndef MUSTER_IDENTITY_H
#define MUSTER_IDENTITY_H

#include "base/buf.h"
#include "raft/raft.h"
#include "server/member_epoch.h"

#define SECRET_LEN 32
#define CLUSTER_LEN 16
#define STORE_NAME_MAX 24        /* with the NUL */
#define STORE_NAME_FIRST "store" /* of a machine's first store; the next one is "store.2" */

struct identity {
    uint64_t id; /* of this machine's server, for ever */
    uint8_t cluster[CLUSTER_LEN];
    uint8_t secret[SECRET_LEN];
    char name[RAFT_NAME_MAX];
    char address[RAFT_ADDRESS_MAX]; /* without a port */
    uint64_t birth;                 /* raft_options.birth */
    bool has_begun; /* its store has been written to: an empty one is a lost one */
    struct epoch epoch;
    /* The directory in the data directory that has its log and snapshots; "": the first one's.
     * Another life (another birth, another epoch) has another, so that one write of the file
     * `machine` is the change from one to the other, and the old one stays where it is. */
    char store[STORE_NAME_MAX];
    uint64_t new_lives, mismatches; /* in memory: births, wrong trees since the process began */
    struct raft_members peers; /* the last known; how a machine that starts finds the others */
};

/* ERR_NOT_FOUND: the directory holds no machine. Else why says which file and what. */
int identity_load(struct identity *id, const char *dir, struct buf *why);
/* A machine is made in two steps, so that one which could not be made whole (a full disk, a
 * crash) is none, and the same command may be given again: only with the second does the
 * directory hold a machine. ERR_EXISTS: it does already; nothing is written. Makes the
 * directory (0700). */
int identity_prepare(const struct identity *id, const char *dir, struct buf *why);
int identity_finish(const struct identity *id, const char *dir, struct buf *why);
/* What is in the file machine: written again, in one piece. */
int identity_save(const struct identity *id, const char *dir, struct buf *why);
/* prepare and finish. */
int identity_create(const struct identity *id, const char *dir, struct buf *why);
int identity_save_peers(const char *dir, const struct raft_members *peers);
/* Appends the path of the store: DIR/store, or what identity.store says. */
void identity_store_path(const struct identity *id, const char *dir, struct buf *out);
/* Sets id->store to a name that nothing in dir has yet. */
void identity_next_store(struct identity *id, const char *dir);

/* The texts of the three files. 0 or ERR_SYNTAX. */
int identity_machine_parse(struct identity *id, const char *text);
int identity_secret_parse(struct identity *id, const char *text);
int identity_peers_parse(struct raft_members *peers, const char *text);

/* A name that may stand in paths, HAProxy's configuration and metrics. */
bool identity_name_is_valid(const char *name);
bool identity_address_is_valid(const char *address); /* IPv4, dotted */
bool identity_host_is_valid(const char *host);       /* that, or what may be a host's name */

#endif
