/* SPDX-License-Identifier: Apache-2.0 */
/* words.h -- the four-letter words, in the formats of ZooKeeper 3.8 that tools parse.
 *
 * Text from facts: no socket, no clock. The same facts are what the admin pages (admin.h)
 * and the metrics (monitor.h) are made of.
 */
#ifndef MUSTER_WORDS_H
#define MUSTER_WORDS_H

#include "server/clients.h"
#include "server/member_stats.h"
#include "server/settings.h"
#include "server/transport.h"
#include "server/writer.h"
#include "store/store.h"

/* Of an answer with a line per connection, session, path or watch: above it the rest is left
 * out, and the last line says so. It is made in one go on the loop, which has other things
 * to do: a leader must be heard every 60 ms. */
#define WORD_BYTES_MAX (4u << 20)

#define WORD_NOT_SERVING "This ZooKeeper instance is not currently serving requests"
#define TRACE_MASK_DEFAULT 306

struct server_facts {
    struct member_facts member;
    const struct member_stats *stats;
    struct tree_facts tree;
    struct watches_facts watches;
    struct clients_facts clients;
    struct store_facts store;
    struct writer_facts writer;
    struct transport_facts transport;
    const char *version;                /* of muster */
    const char *mode;                   /* standalone, leader, follower, observer */
    const char *data_dir;               /* of the log and the snapshots */
    const char *initial_config;         /* the zoo.cfg we were started with; NULL: none */
    const struct raft_members *servers; /* the ensemble */
    uint64_t id, leader;                /* of this server; RAFT_NOBODY: there is none */
    uint16_t client_port, peer_port;
    int64_t zxid;
    uint64_t now_ms, wall_ms; /* of now: monotonic, and since 1970 */
    uint64_t term, committed, applied, members, voters, uptime_ms;
    /* While we lead: the others that are heard, and of them those that keep up. */
    uint64_t learners, synced_voters, synced_joining, synced_observers;
    struct summary load_ms, load_snapshot_ms, load_entries; /* of the start */
    uint64_t snapshot_wall_ms; /* of the newest snapshot; 0: not known */
    bool is_serving;           /* part of a quorum */
    bool is_read_only;         /* not so, and serving who may only read */
    bool is_leader, disk_is_full;
    uint64_t new_lives, mismatches, set_aside; /* see newlife.h */
    bool is_stranger;                          /* its store was lost: it does not vote yet */
    uint64_t digest; /* the last that was agreed on, its low 48 bits */
};

/* There is a tree that is shown to somebody, be it only to who may not write. */
static inline bool facts_answers(const struct server_facts *f)
{
    return f->is_serving || f->is_read_only;
}

/* One client's connection. */
struct connection_facts {
    const char *address; /* "10.0.0.1:40204" */
    unsigned interest;   /* see clients_each() */
    struct member_conn_facts member;
};
typedef void connection_visit(void *visitor, const struct connection_facts *f);

/* Where an answer comes from. */
struct words {
    const struct server_facts *facts;
    const struct settings *settings;
    const struct member *member; /* its sessions, watches and ephemerals */
    int64_t *trace_mask;         /* what stmk sets has no effect but that gtmk shows it */
    void *ctx;
    void (*connections)(void *ctx, connection_visit *visit, void *visitor);
    uint64_t (*dir_bytes)(void *ctx);           /* what the files in data_dir need */
    uint64_t (*files)(void *ctx, bool at_most); /* open ones; how many may be */
    void (*reset)(void *ctx,
                  bool connections); /* the counters: of connections, or of all else */
};

/* How many bytes a word is with what it is told; 0: these four are no word. */
size_t word_len(const struct settings *settings, const uint8_t name[4]);
/* data: so many. */
void word_answer(const struct words *w, const uint8_t *data, struct buf *out);

/* ---- for admin.h ---- */
#define VERSION_MAX 128
const char *words_version(const struct server_facts *f, char text[VERSION_MAX]);
const char *words_operation(const struct conn_stats *s); /* lop: GETD, ..., NA */

/* Sessions, or connections, by when they end. */
struct ending {
    uint64_t at_ms; /* monotonic: the end of the tick */
    int64_t session;
    char address[CLIENT_ADDRESS_MAX]; /* of connections */
};
struct endings {
    struct ending *v;
    size_t n, room;
    size_t ticks; /* that anything ends in */
};
void words_endings(const struct words *w, bool of_connections, struct endings *out);
void words_endings_free(struct endings *e);

/* What goes into an answer of WORD_BYTES_MAX. */
struct word_room {
    size_t used;
    bool is_full;
};
bool word_room_take(struct word_room *r, size_t bytes);

/* What the environment words say: name by name, until NULL. */
struct word_pair {
    const char *name, *value;
};
struct words_environment {
    char text[1024];
    size_t len;
    struct word_pair pairs[10];
};
void words_environment(const struct words *w, struct words_environment *out);

#endif
