/* SPDX-License-Identifier: Apache-2.0 */
/* town_mirror.h -- what a client has been told of some znodes, by answers and by watches, and
 * whether that fits together.
 *
 * Promises that it holds an ensemble to: an event is there before anything that shows the
 * change, over reconnects and expired sessions, too; none is lost; none is invented; what a
 * persistent watch tells, change by change, leads to exactly what is read next.
 * Knows neither servers nor the client core. */
#ifndef MUSTER_TESTS_TOWN_MIRROR_H
#define MUSTER_TESTS_TOWN_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

enum { MIRROR_PATHS = 8 };

struct mirror_stat {
    bool exists;
    int32_t version, cversion;
    int64_t mzxid, pzxid;
};

struct mirror_shot { /* a one-shot watch */
    bool is_armed;
    struct mirror_stat at; /* what was there when it was set */
};

struct mirror_path {
    struct mirror_shot data, child;
    bool is_spare; /* both have seen one deletion: it may be told twice, after a reconnect */
    bool is_persistent, is_recursive;
    bool is_valid; /* now: as it must be, by what has been told on this connection */
    struct mirror_stat now;
    int64_t seen_mzxid;           /* the highest */
    int64_t old_mzxid, old_pzxid; /* an event said that it is not this any more; 0: none did */
};

struct mirror {
    const char *const *names; /* MIRROR_PATHS of them */
    struct mirror_path paths[MIRROR_PATHS];
};

void mirror_disconnected(struct mirror *m);
/* The rest returns NULL, or what is wrong. */
const char *mirror_event(struct mirror *m, int type, const char *path);
const char *mirror_read(struct mirror *m, unsigned i, const struct mirror_stat *s);
/* The same reply, if it has set a watch. After mirror_read(). */
void mirror_arm(struct mirror *m, unsigned i, const struct mirror_stat *s, bool is_child);
void mirror_watch(struct mirror *m, unsigned i, bool is_recursive);

#endif
