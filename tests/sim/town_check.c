/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for all servers, looked at after each event of one. */
#include "base/mem.h"
#include "base/reached.h"
#include "town.h"

struct town_check {
    uint64_t *digests; /* of the tree, by applied index; 0: not seen */
    size_t cap;
};

void town_check_new(struct town *t)
{
    t->check = mem_new(struct town_check);
    t->watch = raft_watch_new(&t->w, TOWN_SERVERS_MAX);
}

void town_check_free(struct town *t)
{
    mem_free(t->check->digests);
    mem_free(t->check);
    raft_watch_free(t->watch);
}

/* A leader whose tree is wrong gives it to one without whom nothing commits, so that nobody
 * could compare it before. From then on the wrong one may be what the majority has: in the end
 * all must be equal, whichever it is. */
static bool is_tainted(struct town *t)
{
    struct server *leader = server_leader(t);
    struct member_facts f;

    if (t->is_tainted || leader == NULL || !leader->is_spoiled)
        return t->is_tainted;
    member_facts(leader->member, &f);
    t->is_tainted = f.snapshots_unseen_total > 0;
    if (t->is_tainted) {
        REACHED(sim_tree_tainted);
        world_note(&t->w, "server %u gives a tree to others that is spoiled", leader->n);
    }
    return t->is_tainted;
}

/* A spoiled one that has begun anew from its disk, before it wrote a snapshot: it may have
 * applied this entry before the others, and be looked at no more until the next. */
static void look_at_spoiled(struct town *t, uint64_t applied, uint64_t digest)
{
    for (unsigned i = 0; i < t->servers_n; i++) {
        struct server *s = &t->servers[i];
        if (!s->is_spoiled || s->member == NULL ||
            raft_applied(member_raft(s->member)) != applied ||
            tree_digest(member_tree(s->member)) != digest)
            continue;
        REACHED(sim_tree_well);
        world_note(&t->w, "server %u: its tree is what the others have again", s->n);
        s->is_spoiled = false;
    }
}

/* Replicas that have applied the same entries are equal. */
static void look_at_tree(struct server *s, uint64_t applied)
{
    struct town_check *c = s->town->check;
    size_t old = c->cap;
    uint64_t digest = tree_digest(member_tree(s->member));

    mem_grow(c->digests, c->cap, applied + 1);
    for (size_t i = old; i < c->cap; i++)
        c->digests[i] = 0;
    if (c->digests[applied] != 0)
        look_at_spoiled(s->town, applied, c->digests[applied]);
    if (s->is_spoiled || is_tainted(s->town))
        return; /* the digest in the log must find it: see servers_not_live() */
    if (c->digests[applied] == 0) {
        c->digests[applied] = digest;
        look_at_spoiled(s->town, applied, digest);
    } else if (c->digests[applied] != digest)
        world_fail(&s->town->w, "server %u has another tree at index %u than others had", s->n,
                   (unsigned)applied);
}

void town_check_server(struct server *s)
{
    const struct raft *r = member_raft(s->member);
    uint64_t applied = raft_applied(r);

    raft_watch_look(s->town->watch, s->n, r);
    town_visitor_check(s);
    if (applied == s->checked_index)
        return;
    s->checked_index = applied;
    look_at_tree(s, applied);
    town_client_sessions(s->town, s);
}

void town_check_end(struct town *t)
{
    const struct server *first = NULL;

    for (unsigned i = 0; i < t->servers_n; i++) {
        const struct server *s = &t->servers[i];
        if (s->member == NULL)
            continue;
        links_check_watches(&t->servers[i]);
        if (first == NULL)
            first = s;
        if (tree_digest_anew(member_tree(s->member)) != tree_digest(member_tree(s->member)))
            world_fail(&t->w, "at the end server %u's tree is not what its digest says", s->n);
        if (raft_applied(member_raft(s->member)) == raft_applied(member_raft(first->member)) &&
            tree_digest(member_tree(s->member)) != tree_digest(member_tree(first->member)))
            world_fail(&t->w, "at the end the trees of servers %u and %u differ", first->n,
                       s->n);
    }
}
