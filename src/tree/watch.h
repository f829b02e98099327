/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h -- who is told when a path changes. Belongs to one server; not replicated.
 *
 * A watcher is a connection, known by a number. One (path, watcher, kind) is held once.
 * Kinds live side by side (ZooKeeper 3.9). One change gives a watcher one event for each
 * event type and path, however many of its watches match.
 */
#ifndef MUSTER_WATCH_H
#define MUSTER_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/summary.h"
#include "wire/wire.h"

enum watch_kind {
    WATCH_DATA,       /* getData, exists; once */
    WATCH_CHILD,      /* getChildren; once */
    WATCH_PERSISTENT, /* addWatch mode 0 */
    WATCH_RECURSIVE,  /* addWatch mode 1: the path and all below, never CHILDREN_CHANGED */
};

/* The numbers that stand in a WatcherEvent. */
enum watch_event {
    WATCH_CREATED = 1,
    WATCH_DELETED = 2,
    WATCH_DATA_CHANGED = 3,
    WATCH_CHILDREN_CHANGED = 4,
};

struct watches;
/* The sink is called once for each watcher and event, in order. It must not call back.
 * acl: the access list of the znode that the event is about, when not everybody may read it
 * (borrowed); NULL: everybody may. Who may not is not told, but has used up his watch. */
typedef void watch_sink(void *ctx, uint64_t watcher, enum watch_event event, const char *path,
                        size_t path_len, const struct wire_list *acl);
struct watches *watches_new(uint64_t hash_key, watch_sink *sink, void *ctx);
void watches_free(struct watches *w);

void watches_add(struct watches *w, uint64_t watcher, enum watch_kind kind, const char *path,
                 size_t path_len);
bool watches_has(const struct watches *w, uint64_t watcher, enum watch_kind kind,
                 const char *path, size_t path_len);
bool watches_remove(struct watches *w, uint64_t watcher, enum watch_kind kind, const char *path,
                    size_t path_len);                     /* false: there was none */
void watches_forget(struct watches *w, uint64_t watcher); /* its connection is gone */
/* Likewise, of at most so many paths: a million take long. False: some are left. */
bool watches_forget_some(struct watches *w, uint64_t watcher, size_t most);
uint64_t watches_count(const struct watches *w); /* of (path, watcher, kind) */
uint64_t watches_count_of(const struct watches *w, uint64_t watcher);

/* ---- for monitors ---- */
/* As ZooKeeper counts: it has a table of data watches and one of child watches, in which a
 * (path, watcher) stands once; persistent and recursive ones stand in both. */
struct watches_facts {
    uint64_t data, child; /* in each table */
    /* Of each change that told somebody: how many; by event, minus 1. */
    struct summary told[4];
};
void watches_facts(const struct watches *w, struct watches_facts *out);
void watches_facts_reset(struct watches *w); /* told */
/* How many watchers and paths the table of data watches has; walks it. */
void watches_data_size(const struct watches *w, uint64_t *watchers, uint64_t *paths);
/* Shows the table of data watches, the same watcher (or the same path) together, until visit
 * returns false. */
typedef bool watches_visit(void *ctx, uint64_t watcher, const char *path, size_t path_len);
void watches_by_watcher(const struct watches *w, watches_visit *visit, void *ctx);
void watches_by_path(const struct watches *w, watches_visit *visit, void *ctx);

/* One change of one path. CREATED and DELETED of a node: the caller gives the parent's
 * CHILDREN_CHANGED as a call of its own, after it. */
void watches_trigger(struct watches *w, enum watch_event event, const char *path,
                     size_t path_len, const struct wire_list *acl);
/* To one watcher directly: the catch-up of setWatches. */
void watches_emit(struct watches *w, uint64_t watcher, enum watch_event event, const char *path,
                  size_t path_len);

#endif
