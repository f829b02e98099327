/* SPDX-License-Identifier: Apache-2.0 */
#include "raft_watch.h"

#include "base/check.h"
#include "base/mem.h"

enum { TERMS_MAX = 100000 };

struct pair { /* an entry's term, and its predecessor's */
    uint64_t term, before;
};

struct place {                        /* of the log, over all servers */
    uint64_t committed, committed_in; /* its term; in which term that was seen. 0: not yet */
    struct pair *pairs;
    size_t pairs_n, pairs_cap;
};

struct seen {
    uint64_t *terms; /* by index */
    size_t cap;
    uint64_t last, commit, leading; /* leading: the term, 0 when it does not */
};

struct raft_watch {
    struct world *w;
    struct place *places;
    size_t places_cap;
    uint64_t committed;
    unsigned leaders_n;
    uint64_t *leaders; /* by term */
    size_t leaders_cap;
    struct seen *seen;
    unsigned servers;
};

struct raft_watch *raft_watch_new(struct world *w, unsigned servers)
{
    struct raft_watch *rw = mem_new(struct raft_watch);

    rw->w = w;
    rw->servers = servers;
    rw->seen = mem_new_array(struct seen, servers);
    return rw;
}

void raft_watch_free(struct raft_watch *rw)
{
    for (size_t i = 0; i < rw->places_cap; i++)
        mem_free(rw->places[i].pairs);
    for (unsigned i = 0; i < rw->servers; i++)
        mem_free(rw->seen[i].terms);
    mem_free(rw->places);
    mem_free(rw->leaders);
    mem_free(rw->seen);
    mem_free(rw);
}

uint64_t raft_watch_committed(const struct raft_watch *rw) { return rw->committed; }
unsigned raft_watch_leaders(const struct raft_watch *rw) { return rw->leaders_n; }

static struct place *place(struct raft_watch *rw, uint64_t index)
{
    size_t old = rw->places_cap;

    mem_grow(rw->places, rw->places_cap, index + 1);
    for (size_t i = old; i < rw->places_cap; i++)
        rw->places[i] = (struct place){0};
    return &rw->places[index];
}

static void match_logs(struct raft_watch *rw, unsigned server, uint64_t index, uint64_t term,
                       uint64_t before)
{
    struct place *p = place(rw, index);

    for (size_t i = 0; i < p->pairs_n; i++)
        if (p->pairs[i].term == term) {
            if (p->pairs[i].before == 0)
                p->pairs[i].before = before;
            if (before != 0 && p->pairs[i].before != before)
                world_fail(rw->w,
                           "log matching: in server %u entry %u of term %u follows one of term "
                           "%u, elsewhere of term %u",
                           server, (unsigned)index, (unsigned)term, (unsigned)before,
                           (unsigned)p->pairs[i].before);
            return;
        }
    mem_grow(p->pairs, p->pairs_cap, p->pairs_n + 1);
    p->pairs[p->pairs_n++] = (struct pair){term, before};
}

/* The entries that are new since the last look; from the end back, since a log changes only
 * there. */
static void look_at_log(struct raft_watch *rw, unsigned server, const struct raft *r)
{
    struct seen *s = &rw->seen[server];
    uint64_t last = raft_last_index(r), first = raft_first_index(r), i = last;
    size_t old = s->cap;
    bool leads = raft_role(r) == RAFT_LEADER && s->leading == raft_term(r);

    mem_grow(s->terms, s->cap, last + 1);
    for (size_t k = old; k < s->cap; k++)
        s->terms[k] = 0;
    if (leads && last < s->last)
        world_fail(rw->w, "leader append-only: server %u leads and has dropped entries",
                   server);
    for (uint64_t k = last + 1; k <= s->last && k < s->cap; k++)
        s->terms[k] = 0;
    for (; i >= first && i > 0; i--) {
        uint64_t term = raft_entry_term(r, i);
        if (term == s->terms[i] || term == 0)
            break;
        if (leads && i <= s->last)
            world_fail(rw->w, "leader append-only: server %u leads and has changed entry %u",
                       server, (unsigned)i);
        match_logs(rw, server, i, term, i > first ? raft_entry_term(r, i - 1) : 0);
        s->terms[i] = term;
    }
    s->last = last;
}

static void look_at_commits(struct raft_watch *rw, unsigned server, const struct raft *r)
{
    struct seen *s = &rw->seen[server];
    uint64_t commit = raft_committed(r);

    if (commit < s->commit)
        world_fail(rw->w, "server %u: its commit index went back from %u to %u", server,
                   (unsigned)s->commit, (unsigned)commit);
    for (uint64_t i = s->commit + 1; i <= commit; i++) {
        uint64_t term = raft_entry_term(r, i);
        if (term == 0)
            continue;
        struct place *p = place(rw, i);
        if (p->committed == 0) {
            p->committed = term;
            p->committed_in = raft_term(r);
        } else if (p->committed != term) {
            world_fail(rw->w,
                       "state machine safety: server %u commits entry %u of term %u, it was "
                       "committed with term %u",
                       server, (unsigned)i, (unsigned)term, (unsigned)p->committed);
        }
    }
    s->commit = commit;
    if (commit > rw->committed)
        rw->committed = commit;
}

static void look_at_new_leader(struct raft_watch *rw, unsigned server, const struct raft *r)
{
    uint64_t term = raft_term(r), last = raft_last_index(r);
    size_t old = rw->leaders_cap;

    CHECK(term < TERMS_MAX);
    mem_grow(rw->leaders, rw->leaders_cap, term + 1);
    for (size_t i = old; i < rw->leaders_cap; i++)
        rw->leaders[i] = 0;
    if (rw->leaders[term] != 0 && rw->leaders[term] != server + 1)
        world_fail(rw->w, "election safety: servers %u and %u both lead term %u",
                   (unsigned)rw->leaders[term] - 1, server, (unsigned)term);
    rw->leaders[term] = server + 1;
    rw->leaders_n++;
    world_note(rw->w, "server %u leads term %u, log up to %u", server, (unsigned)term,
               (unsigned)last);
    for (uint64_t i = raft_first_index(r); i <= rw->committed && i > 0; i++) {
        const struct place *p = place(rw, i);
        if (p->committed == 0 || p->committed_in >= term)
            continue;
        uint64_t has = i <= last ? raft_entry_term(r, i) : 0;
        if (has != p->committed)
            world_fail(rw->w,
                       "leader completeness: server %u leads term %u without entry %u, "
                       "committed in term %u",
                       server, (unsigned)term, (unsigned)i, (unsigned)p->committed_in);
    }
}

void raft_watch_look(struct raft_watch *rw, unsigned server, const struct raft *r)
{
    struct seen *s = &rw->seen[server];

    look_at_log(rw, server, r);
    if (raft_role(r) == RAFT_LEADER && s->leading != raft_term(r))
        look_at_new_leader(rw, server, r);
    s->leading = raft_role(r) == RAFT_LEADER ? raft_term(r) : 0;
    look_at_commits(rw, server, r);
}

void raft_watch_restarted(struct raft_watch *rw, unsigned server)
{
    struct seen *s = &rw->seen[server];

    s->commit = s->leading = s->last = 0;
    for (size_t i = 0; i < s->cap; i++)
        s->terms[i] = 0;
}
