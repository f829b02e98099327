/* SPDX-License-Identifier: Apache-2.0 */
/* town.h -- a whole site in one process: what its parts share.
 *
 *   town.c          the seed's world, its faults, the end
 *   town_server.c   servers: the production member core, the real store on a simulated disk
 *   town_link.c     connections of clients to servers
 *   town_client.c   clients: the production client core, what they do, what they check
 *   town_operator.c who changes the servers by reconfig
 *   town_walker.c   two clients with watches, containers, transactions (town_mirror.h)
 *   town_visitor.c  a client that reads at servers without a quorum
 *   town_history.c  what the clients asked and were answered, looked at at the end
 *   town_check.c    what holds for all servers at each step
 *   town_agent.c    machines' agents, and the kernel that holds their addresses
 *   town_faults.c   faults that are more than one line, and when they strike
 */
#ifndef MUSTER_TESTS_TOWN_H
#define MUSTER_TESTS_TOWN_H

#include "box.h"
#include "client/client.h"
#include "history.h"
#include "lib/faults.h"
#include "raft_watch.h"
#include "server/member.h"
#include "world.h"

enum { TOWN_SERVERS_MAX = 6, TOWN_CLIENTS_MAX = 6, TOWN_WALKERS_MAX = 2 };

/* What a world has or has not, by its seed alone: world_option(). */
enum town_option {
    OPTION_READ_ONLY,
    OPTION_STUCK,
    OPTION_ROT,
    OPTION_SPOIL,
    OPTION_OLD_DISK,
    OPTION_THROTTLE,
    OPTION_WALKERS,
    OPTION_ENDS_TOLD,
    OPTION_RESERVE,
    OPTION_PIECE,
    OPTION_LOG_BYTES,
    OPTION_SNAPSHOT_PIECE,
    OPTION_LOAD_PIECE,
    OPTION_DIGEST_EVERY,
    OPTION_DIGEST_MS,
    OPTION_STORE_LOST,
    OPTION_SPOILED,
};

struct town;

struct server {
    struct town *town;
    unsigned n, host; /* id: n + 1 */
    struct box box;
    struct member *member;     /* NULL: down */
    bool exists;               /* has data */
    uint64_t birth;            /* raft_options.birth */
    uint64_t aside_birth;      /* of the disk before */
    bool has_begun;            /* its store has been written to */
    struct raft_members known; /* what it would have written down beside the store */
    int load_err;
    uint64_t absent_until_us; /* it is not started before */
    bool is_wiped;            /* its directory was, and it does not know yet */
    bool is_lost;             /* its disk was, and it does not vote again yet */
    bool is_spoiled;          /* its tree differs from the others' */
    bool is_looked_at;        /* by somebody, because of that */
    uint64_t timer_us;
    uint64_t conns; /* numbers given to connections in this life */
    struct pipe peers[TOWN_SERVERS_MAX];
    uint64_t checked_index; /* town_check.c: looked at up to here */
    struct moments moments; /* town_faults.c: seen */
};

/* A connection of a client, both ends. Never freed before the world ends: events point to it.
 */
struct link {
    struct link *next;
    struct town *town;
    struct server *server;
    uint64_t life, conn; /* of the server's process; 0: not accepted */
    unsigned host;       /* the client's */
    struct pipe up, down;
    struct buf in;         /* at the server: bytes that are no whole frame yet */
    bool is_open, is_gone; /* the client's side: open; it wants nothing more of it */
    bool is_dead;          /* broken: nothing passes any more */
    bool server_knows;
    void *ctx;
    void (*opened)(void *ctx, struct link *l);
    void (*received)(void *ctx, struct link *l, const uint8_t *data, size_t len);
    void (*closed)(void *ctx, struct link *l);
};

/* A client core with its connection: the shell of client_uv.c. */
struct shell {
    struct town *town;
    unsigned host;
    struct client *client;
    struct link *link;
    uint64_t timer_us, life;
    void (*before)(void *ctx); /* something has happened; or NULL */
    void (*after)(void *ctx);  /* before what the core wants is carried out; or NULL */
    void *ctx;
    bool is_turning;
};

struct town_client;
struct town_visitor;
struct town_agent;
struct town_history;
struct walker;

struct town {
    struct world w;
    struct server servers[TOWN_SERVERS_MAX];
    unsigned servers_n;
    struct raft_watch *watch;
    struct link *links;
    struct town_client *clients[TOWN_CLIENTS_MAX];
    unsigned clients_n;
    struct town_visitor *visitor; /* NULL: there is no read-only mode in this world */
    uint32_t read_only_after_ms, throttle_max;
    struct town_agent *agents[TOWN_SERVERS_MAX];
    unsigned agents_n, addresses_n;
    uint32_t lease_ms, probe_us, remove_us; /* at most */
    bool has_balance;
    struct town_check *check;
    struct errand *errands; /* the operator's, done or not */
    /* A disk that is lost while others lose their vote may be what is one too many, though
     * each alone is not: in a world there is one of the two. */
    bool loses_disks, loses_members;
    bool is_tainted; /* a spoiled leader had to give its tree to others: see town_check.c */
    struct town_shared *shared; /* town_client.c: what all clients know together */
    unsigned weights[32];
    uint32_t faults_us, restart_us, save_min_us, save_max_us;
    struct pace pace;
    unsigned again_permille; /* a server dies again while it starts */
    uint64_t length_us;      /* of the time with faults */
    unsigned strike_moments, strike_kinds, strike_permille; /* town_faults.c */
    uint64_t strike_from_us;                                /* none before */
    struct town_history *history;
    struct walker *walkers[TOWN_WALKERS_MAX];
    unsigned walkers_n;
    uint64_t snapshot_every, keep, reserve_bytes; /* reserve_bytes 0: drawn */
    uint64_t connections_total;
    bool is_blind[WORLD_HOSTS_MAX]; /* its clients reach no server, also not its own */
    bool quiet;
};

/* ---- servers ---- */
void server_add(struct town *t, const char *name);
void server_found(struct server *s, const struct raft_members *members);
void server_start(struct server *s);
void server_crash(struct server *s, bool power_loss);
void server_restart_later(struct server *s, uint64_t in_us);
void server_turn(struct server *s); /* after anything that the member was told */
/* Its disk is another one, empty. Only where that loses nothing; else nothing happens. */
void server_lose_disk(struct server *s);
/* Something in its tree becomes another, unseen. Where it may be too much, nothing happens. */
void server_spoil(struct server *s);
/* The disk of its life before is put back. */
void server_put_back(struct server *s);
/* Bits of its disk change while it is down. Where it may be too much, nothing happens. */
void server_rot(struct server *s);
struct server *server_leader(struct town *t); /* of the highest term; or NULL */
void server_free(struct server *s);
uint64_t server_now_ms(const struct server *s);
/* Its directory is empty, while it runs. Likewise. */
void server_wipe(struct server *s);
/* Some connections between machines break. */
void server_break_peers(struct town *t, unsigned permille);

/* ---- links ---- */
struct link *link_dial(struct town *t, unsigned host, unsigned server);
void link_send(struct link *l, const uint8_t *data, size_t len);
void link_reply(struct link *l, const uint8_t *data, size_t len); /* data NULL: the end */
void link_leave(struct link *l);                                  /* the client closes */
void link_break(struct link *l, bool told); /* a reset; not told: nobody hears of it */
struct link *link_of(struct server *s, uint64_t conn);
void links_of_server_end(struct server *s, bool told);
void links_of_host_end(struct town *t, unsigned host);
void links_check_watches(struct server *s); /* those of connections, and no others */
void links_free(struct town *t);

/* ---- shells of client cores ---- */
void shell_init(struct shell *h, struct town *t, unsigned host, struct client *c);
void shell_turn(struct shell *h);
void shell_stop(struct shell *h); /* the process ends: its connection closes */
uint64_t shell_now_ms(const struct shell *h);

/* ---- clients ---- */
void town_client_add(struct town *t);
void town_client_kill(struct town *t, unsigned n);
/* Somebody tries to take over a session without knowing its password. */
void town_client_intrude(struct town *t);
void town_client_end(struct town *t); /* the last checks */
const char *town_client_not_live(struct town *t);
void town_client_quiet(struct town *t);
void town_client_free(struct town *t);
/* Each living session that surely lives, by its client: told by town_check. */
void town_client_sessions(struct town *t, struct server *s);

/* Somebody has read this: a version of /x has one value. */
void town_client_saw_x(struct town *t, int32_t version, uint64_t value);

/* ---- the visitor ---- */
void town_visitor_add(struct town *t);
void town_visitor_check(struct server *s);
void town_visitor_free(struct town *t);

/* ---- agents ---- */
void town_agent_add(struct town *t, struct server *s); /* on its machine; not started */
void town_agent_start(struct town *t, unsigned n);
void town_agent_stop(struct town *t, unsigned n, bool power_loss);
/* The site file, for /muster/site. */
void town_agent_site(struct town *t, struct buf *out);
void town_agent_quiet(struct town *t);   /* some instance fails for good */
void town_agent_foreign(struct town *t); /* some machine that is not ours takes an address */
void town_agent_wakes(void *town, uint64_t host, uint64_t unused); /* its kernel goes on */
const char *town_agent_not_live(struct town *t);
void town_agent_free(struct town *t);

/* ---- operator ---- */
#define TOWN_SUPER "super:x"              /* user and password */
#define TOWN_SUPER_DIGEST "super:super-x" /* as fake_digest.h has it */
void town_operator_reconfig(struct town *t);
const char *town_operator_not_live(struct town *t);
void town_operator_free(struct town *t);

/* ---- faults ---- */
void town_faults_draw(struct town *t);
void town_faults_shape(struct town *t);
void town_faults_flap(struct town *t);
void town_faults_stand(struct town *t);    /* a machine's clock, or all of it, stands */
void town_faults_break(struct server *s);  /* it will die at some change of its disk */
void town_faults_absent(struct server *s); /* off for long */
void town_faults_power_off_all(struct town *t);
void town_faults_blind(struct town *t, unsigned n); /* that server's machine: site.c */
void town_faults_look(struct server *s);            /* after each of its events */
void town_faults_holds(struct server *s);           /* its machine has got an address */
/* ---- walkers ---- */
void town_walkers_add(struct town *t);
void town_walkers_quiet(struct town *t);
const char *town_walkers_not_live(struct town *t);
const char *town_walkers_not_lapsed(struct town *t);
void town_walkers_end(struct town *t); /* the last looks */
void town_walkers_free(struct town *t);

/* ---- the history ---- */
/* Number of a record that is begun. It ends with a reply, or nobody knows. */
size_t town_history_begin(struct town *t, enum history_f f, const char *key, uint64_t process,
                          int64_t value);
void town_history_end(struct town *t, size_t record, int64_t session, bool is_list,
                      const struct client_reply *r);
void town_history_plain(struct town *t, size_t record); /* a read whose sync has failed */
int64_t town_history_number(const char *name);          /* of a sequential znode */
void town_history_check(struct town *t);
void town_history_free(struct town *t);

/* ---- checks ---- */
void town_check_new(struct town *t);
void town_check_free(struct town *t);
void town_check_server(struct server *s); /* after each of its events */
void town_check_end(struct town *t);

#endif
