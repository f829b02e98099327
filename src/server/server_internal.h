/* SPDX-License-Identifier: Apache-2.0 */
/* server_internal.h -- what the three parts of a server share. Not for others.
 *
 *   server.c        life, the turn
 *   server_join.c   machines that join, and the file that says who is a member
 *   server_show.c   what it shows: four-letter words, pages, metrics
 */
#ifndef MUSTER_SERVER_INTERNAL_H
#define MUSTER_SERVER_INTERNAL_H

#include "base/summary.h"
#include "http/http.h"
#include "server/clients.h"
#include "server/limits.h"
#include "server/newlife.h"
#include "server/server.h"
#include "server/writer.h"
#include "store/store.h"

#define JOINS_MAX 16 /* asked and not yet answered */
#define JOIN_AGAIN_MS 200
#define JOIN_LIMIT_MS 4500 /* less than a joiner waits */
#define STOP_MS 500        /* for handing leadership over */

struct join {
    uint64_t ticket; /* 0: free */
    uint64_t until_ms, again_ms;
    struct raft_member joiner;
};

struct server {
    struct server_options options;
    uv_loop_t *loop;
    struct disk *disk;
    struct store *store;
    struct member *member;
    struct clients *clients;
    struct transport *transport;
    struct http *http;
    struct writer *writer;
    struct door *door; /* to the leader, for the writer's thread */
    uv_prepare_t turn;
    uv_timer_t timer;
    unsigned handles;
    uint64_t started_ms, stop_until_ms;
    struct join joins[JOINS_MAX];
    struct raft_members members, saving_members;
    uv_work_t saving; /* the file peers */
    bool is_saving, save_again;
    int save_err;
    enum raft_role role_seen;
    bool serving_seen, read_only_seen, stopping, closed, condemned;
    struct member_disk_facts disk_seen;
    bool is_outdated; /* a newer epoch was met: nothing is sent, served or voted any more */
    struct epoch newer;
    struct limits_told told;
    int load_err;
    struct set_aside aside;
    struct summary load_ms, load_snapshot_ms, load_entries;
    uint64_t entries_loaded, snapshot_wall_ms;
    uint64_t load_began_ms, load_left; /* of the snapshot, while the store is opened */
    int64_t trace_mask;
    struct http_page pages[12];
    char admin_below[SETTING_TEXT_MAX + 1]; /* admin_url and a '/' */
    char store_dir[512];
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

/* ---- server_join.c ---- */
void server_join_asked(void *ctx, uint64_t ticket, const struct raft_member *joiner);
void server_joins_go_on(struct server *s); /* each turn */
void server_save_peers(struct server *s);  /* if save_again: in the pool, one at a time */

/* ---- server_show.c ---- */
enum word_result server_word(void *ctx, uint64_t conn, const uint8_t *data, size_t len,
                             struct buf *answer); /* clients_options.word */
void server_pages(struct server *s);              /* fills s->pages */
/* When the newest snapshot was written, by its file; 0: there is none. */
uint64_t server_newest_snapshot_ms(const char *dir);

#endif
