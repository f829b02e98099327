/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations: their coding, their history in the log, and their changes ([D] 4).
 *
 * One server is added or removed at a time, so that any two majorities of neighbouring
 * configurations overlap ([D] 4.1). A configuration counts from when it is in the log,
 * committed or not, and no longer when it is truncated away.
 */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/reached.h"
#include "raft/internal.h"

#define CODING 1 /* version of the encoding */
#define FLAG_VOTER 1
#define FLAG_AUTO_PROMOTE 2
#define FLAG_MORE 4 /* birth and more follow */

static size_t text_len(const char *text, size_t room)
{
    const char *end = memchr(text, 0, room);

    CHECK(end != NULL);
    return (size_t)(end - text);
}

void raft_members_encode(const struct raft_members *m, struct buf *out)
{
    CHECK(m->n <= RAFT_MEMBERS_MAX);
    buf_add_u8(out, CODING);
    buf_add_u8(out, (uint8_t)m->n);
    for (unsigned i = 0; i < m->n; i++) {
        const struct raft_member *v = &m->v[i];
        size_t name = text_len(v->name, sizeof v->name);
        size_t address = text_len(v->address, sizeof v->address);
        size_t more = text_len(v->more, sizeof v->more);
        bool has_more = more > 0 || v->birth != 0;
        buf_add_be64(out, v->id);
        buf_add_u8(out, (uint8_t)((v->voter ? FLAG_VOTER : 0) |
                                  (v->auto_promote ? FLAG_AUTO_PROMOTE : 0) |
                                  (has_more ? FLAG_MORE : 0)));
        buf_add_u8(out, (uint8_t)name);
        buf_add(out, v->name, name);
        buf_add_u8(out, (uint8_t)address);
        buf_add(out, v->address, address);
        if (!has_more)
            continue;
        buf_add_be64(out, v->birth);
        buf_add_u8(out, (uint8_t)more);
        buf_add(out, v->more, more);
    }
}

struct cursor {
    const uint8_t *at;
    size_t left;
};

/* A length, then so many bytes without a NUL, into to[room], which is zeroed. */
static bool read_text(struct cursor *c, char *to, size_t room)
{
    if (c->left < 1 || c->at[0] >= room || c->at[0] > c->left - 1)
        return false;
    size_t len = c->at[0];
    if (memchr(c->at + 1, 0, len) != NULL)
        return false;
    memcpy(to, c->at + 1, len);
    c->at += 1 + len;
    c->left -= 1 + len;
    return true;
}

static bool read_member(struct cursor *c, struct raft_member *v)
{
    if (c->left < 9 || c->at[8] > (FLAG_VOTER | FLAG_AUTO_PROMOTE | FLAG_MORE))
        return false;
    uint8_t flags = c->at[8];
    v->id = be64_get(c->at);
    v->voter = flags & FLAG_VOTER;
    v->auto_promote = flags & FLAG_AUTO_PROMOTE;
    c->at += 9;
    c->left -= 9;
    if (!read_text(c, v->name, RAFT_NAME_MAX) || !read_text(c, v->address, RAFT_ADDRESS_MAX))
        return false;
    if ((flags & FLAG_MORE) == 0)
        return true;
    if (c->left < 8)
        return false;
    v->birth = be64_get(c->at);
    c->at += 8;
    c->left -= 8;
    return read_text(c, v->more, RAFT_MORE_MAX);
}

int raft_members_decode(struct raft_members *m, const uint8_t *data, size_t len)
{
    struct cursor c = {data, len};
    uint64_t before = 0;

    memset(m, 0, sizeof *m);
    if (len < 2 || data[0] != CODING || data[1] > RAFT_MEMBERS_MAX)
        return ERR_MALFORMED;
    c.at += 2;
    c.left -= 2;
    for (; m->n < data[1]; m->n++) {
        if (!read_member(&c, &m->v[m->n]) || m->v[m->n].id <= before)
            return ERR_MALFORMED;
        before = m->v[m->n].id;
    }
    return c.left == 0 ? 0 : ERR_MALFORMED;
}

const struct raft_member *raft_member_find(const struct raft_members *m, uint64_t id)
{
    for (unsigned i = 0; i < m->n; i++)
        if (m->v[i].id == id)
            return &m->v[i];
    return NULL;
}

static bool is_voter_of(const struct raft_members *all, uint64_t id)
{
    const struct raft_member *m = raft_member_find(all, id);

    return m != NULL && m->voter;
}

bool raft_is_voter(const struct raft *r, uint64_t id) { return is_voter_of(&r->members, id); }

/* We have lost what we had promised, and no leader has made it good yet. */
bool raft_is_stranger(const struct raft *r)
{
    const struct raft_member *m = raft_member_find(&r->members, r->opt.id);

    return r->opt.birth != 0 && (m == NULL || m->birth != r->opt.birth) &&
           !MUTANT(raft_stranger_votes);
}

struct peer *raft_peer_find(struct raft *r, uint64_t id)
{
    for (unsigned i = 0; i < r->members.n; i++)
        if (r->peers[i].id == id)
            return &r->peers[i];
    return NULL;
}

void raft_config_position(const struct raft *r, uint64_t *index, uint64_t *term)
{
    bool is_in_log = raft_log_has(&r->log, r->members_index);

    *index = is_in_log ? r->members_index : r->log.base;
    *term = raft_log_term(&r->log, *index);
}

/* ---- history ---- */

/* What we know of members that stay is kept; both lists are sorted by id. */
static void use(struct raft *r, const struct raft_members *m, uint64_t index)
{
    struct peer peers[RAFT_MEMBERS_MAX];

    memset(peers, 0, sizeof peers);
    for (unsigned i = 0; i < m->n; i++) {
        const struct peer *old = raft_peer_find(r, m->v[i].id);
        const struct raft_member *was = raft_member_find(&r->members, m->v[i].id);
        if (old != NULL && was->birth == m->v[i].birth) {
            peers[i] = *old;
        } else {
            peers[i].id = m->v[i].id;
            raft_peer_reset(r, &peers[i]);
        }
    }
    bool was_voter = raft_is_voter(r, r->opt.id);
    memcpy(r->peers, peers, sizeof peers);
    r->members = *m;
    r->members_index = index;
    if (r->is_started && !was_voter && raft_is_voter(r, r->opt.id) && r->role == RAFT_FOLLOWER)
        raft_patience_draw(r);
}

static void decode_entry(struct raft_members *m, const struct raft_entry *e)
{
    int err = raft_members_decode(m, e->payload, e->len);

    CHECK(err == 0); /* proven before it came into the log */
}

void raft_config_appended(struct raft *r, const struct raft_entry *e)
{
    struct raft_members m;

    decode_entry(&m, e);
    mem_grow(r->config_at, r->config_room, r->config_n + 1);
    r->config_at[r->config_n++] = e->index;
    use(r, &m, e->index);
}

/* [D] 4.1: a server falls back to the configuration before. */
void raft_config_truncated(struct raft *r, uint64_t from)
{
    size_t n = r->config_n;

    if (MUTANT(raft_config_kept))
        return;
    while (r->config_n > 0 && r->config_at[r->config_n - 1] >= from)
        r->config_n--;
    if (r->config_n == n)
        return;
    REACHED(raft_change_undone);
    if (r->config_n == 0) {
        struct raft_members base = r->members_base;
        use(r, &base, r->log.base);
    } else {
        struct raft_members m;
        uint64_t index = r->config_at[r->config_n - 1];
        decode_entry(&m, raft_log_at(&r->log, index));
        use(r, &m, index);
    }
}

/* [D] 4.2.2: a voter campaigns; and so does who is not in the latest configuration while
 * that may not be committed yet. It may still be needed: when 1 of {1, 2} removes itself and
 * dies before 2 has the entry, only 1 can be elected, since its log is longer, and 2, which
 * still goes by {1, 2}, cannot win without it. Afterwards it stays quiet for good. */
bool raft_may_campaign(const struct raft *r)
{
    struct raft_members m;

    if (raft_is_stranger(r))
        return false;
    if (raft_is_voter(r, r->opt.id))
        return true;
    if (r->members_index <= r->commit)
        return false;
    /* After a start the commit index is low: the configuration that is committed may be any
     * from there on. */
    for (size_t n = r->config_n; n > 0; n--) {
        decode_entry(&m, raft_log_at(&r->log, r->config_at[n - 1]));
        if (is_voter_of(&m, r->opt.id)) {
            REACHED(raft_removed_may_lead);
            return true;
        }
        if (r->config_at[n - 1] <= r->commit)
            return false;
    }
    return is_voter_of(&r->members_base, r->opt.id);
}

/* Before entries up to `upto` leave the log. */
void raft_config_compacted(struct raft *r, uint64_t upto)
{
    size_t gone = 0;

    while (gone < r->config_n && r->config_at[gone] <= upto)
        gone++;
    if (gone == 0)
        return;
    decode_entry(&r->members_base, raft_log_at(&r->log, r->config_at[gone - 1]));
    r->config_n -= gone;
    memmove(r->config_at, r->config_at + gone, r->config_n * sizeof *r->config_at);
}

void raft_config_reset(struct raft *r, const struct raft_members *base)
{
    r->config_n = 0;
    r->members_base = *base;
    use(r, base, r->log.base);
}

/* ---- changes ---- */

/* One at a time ([D] 4.1), and none before this leader has committed an entry of its term:
 * without that, two leaders can each add to a configuration that the other one has never
 * seen, and their majorities need not overlap (Ongaro on raft-dev, July 2015). */
bool raft_may_change(const struct raft *r)
{
    return MUTANT(raft_two_changes) || (raft_is_ready(r) && r->members_index <= r->commit);
}

static int check_change(struct raft *r, uint64_t now_ms)
{
    r->now_ms = now_ms > r->now_ms ? now_ms : r->now_ms;
    if (r->role != RAFT_LEADER)
        return ERR_NOT_LEADER;
    if (!raft_may_change(r) || r->transfer_to != RAFT_NOBODY)
        return ERR_BUSY;
    return 0;
}

/* With one voter less, those that answer now must still be a majority of the rest. Else the
 * change itself may be what nobody can commit: {0, 1, 2} without 0, while 1 is away with a
 * disk that it has lost, leaves 2 alone (site 3). */
static bool is_alive(const struct raft *r, const struct raft_members *to)
{
    unsigned voters = 0, heard = 0;

    for (unsigned i = 0; i < to->n; i++) {
        if (!to->v[i].voter)
            continue;
        voters++;
        for (unsigned k = 0; k < r->members.n; k++)
            if (r->peers[k].id == to->v[i].id)
                heard += to->v[i].id == r->opt.id || raft_peer_is_heard(r, &r->peers[k]);
    }
    return heard > voters / 2 || MUTANT(raft_remove_blindly);
}

bool raft_can_spare(const struct raft *r, uint64_t id)
{
    struct raft_members to = r->members;

    for (unsigned i = 0; i < to.n; i++)
        if (to.v[i].id == id)
            to.v[i].voter = false;
    return is_alive(r, &to);
}

static void change(struct raft *r, const struct raft_members *to)
{
    struct buf bytes = {0};

    raft_members_encode(to, &bytes);
    raft_append(r, RAFT_ENTRY_CONFIG, bytes.data, bytes.len);
    buf_free(&bytes);
    raft_send_all(r);
}

int raft_add_learner(struct raft *r, uint64_t now_ms, const struct raft_member *m)
{
    int err = check_change(r, now_ms);

    if (err != 0)
        return err;
    if (m->id == RAFT_NOBODY || memchr(m->name, 0, sizeof m->name) == NULL ||
        memchr(m->address, 0, sizeof m->address) == NULL ||
        memchr(m->more, 0, sizeof m->more) == NULL)
        return ERR_BAD_ARGUMENTS;
    if (raft_member_find(&r->members, m->id) != NULL)
        return ERR_EXISTS;
    if (r->members.n == RAFT_MEMBERS_MAX)
        return ERR_TOO_BIG;

    struct raft_members to = r->members;
    unsigned at = to.n;
    for (; at > 0 && to.v[at - 1].id > m->id; at--)
        to.v[at] = to.v[at - 1];
    to.v[at] = *m;
    to.v[at].voter = false; /* [D] 4.2.1: first it must catch up */
    to.n++;
    change(r, &to);
    return 0;
}

/* A voter that does not answer would weigh on every commit from its first moment. */
static bool may_vote(const struct raft *r, const struct peer *p)
{
    return p->is_caught_up && raft_peer_is_heard(r, p);
}

static void promote(struct raft *r, uint64_t id)
{
    struct raft_members to = r->members;

    for (unsigned i = 0; i < to.n; i++) {
        if (to.v[i].id == id) {
            to.v[i].voter = true;
            to.v[i].auto_promote = false;
        }
    }
    change(r, &to);
}

int raft_promote(struct raft *r, uint64_t now_ms, uint64_t id)
{
    int err = check_change(r, now_ms);

    if (err != 0)
        return err;
    const struct raft_member *m = raft_member_find(&r->members, id);
    if (m == NULL)
        return ERR_NOT_FOUND;
    if (m->voter)
        return ERR_EXISTS;
    if (!may_vote(r, raft_peer_find(r, id)))
        return ERR_BUSY;
    promote(r, id);
    return 0;
}

int raft_renew(struct raft *r, uint64_t now_ms, const struct raft_member *m)
{
    int err = check_change(r, now_ms);

    if (err != 0)
        return err;
    const struct raft_member *was = raft_member_find(&r->members, m->id);
    if (was == NULL)
        return ERR_NOT_FOUND;
    if (memchr(m->name, 0, sizeof m->name) == NULL ||
        memchr(m->address, 0, sizeof m->address) == NULL ||
        memchr(m->more, 0, sizeof m->more) == NULL || (m->voter && !was->voter))
        return ERR_BAD_ARGUMENTS;
    /* Another birth of a voter means that its old promises are gone: it must not vote. */
    if (m->voter && m->birth != was->birth)
        return ERR_BAD_ARGUMENTS;
    unsigned voters = 0;
    for (unsigned i = 0; i < r->members.n; i++)
        voters += r->members.v[i].voter;
    if (was->voter && !m->voter && (voters == 1 || m->id == r->opt.id))
        return ERR_UNSAFE;

    struct raft_members to = r->members;
    for (unsigned i = 0; i < to.n; i++)
        if (to.v[i].id == m->id)
            to.v[i] = *m;
    if (was->voter && !m->voter && !is_alive(r, &to))
        return ERR_BUSY;
    change(r, &to);
    return 0;
}

bool raft_is_another_birth(const struct raft *r, const struct peer *p)
{
    const struct raft_member *m = raft_member_find(&r->members, p->id);

    return p->has_told && m != NULL && m->birth != p->birth;
}

/* One that has lost its disk: from now on a learner that has nothing. If it voted it shall do
 * so again, when it has everything. */
static bool renew_one(struct raft *r)
{
    struct raft_members to = r->members;
    unsigned voters = 0;

    for (unsigned i = 0; i < to.n; i++)
        voters += to.v[i].voter;
    for (unsigned i = 0; i < to.n; i++) {
        struct raft_member *m = &to.v[i];
        if (!raft_is_another_birth(r, &r->peers[i]) || (m->voter && voters == 1))
            continue;
        m->auto_promote = m->voter || m->auto_promote;
        m->voter = false;
        m->birth = r->peers[i].birth;
        REACHED(raft_renewed);
        change(r, &to);
        return true;
    }
    return false;
}

void raft_promote_ready(struct raft *r)
{
    if (!raft_is_ready(r) || r->members_index > r->commit || r->transfer_to != RAFT_NOBODY)
        return;
    if (renew_one(r))
        return;
    for (unsigned i = 0; i < r->members.n; i++) {
        const struct raft_member *m = &r->members.v[i];
        if (!m->voter && m->auto_promote && may_vote(r, &r->peers[i])) {
            promote(r, m->id);
            return;
        }
    }
}

int raft_remove(struct raft *r, uint64_t now_ms, uint64_t id)
{
    int err = check_change(r, now_ms);

    if (err != 0)
        return err;
    const struct raft_member *m = raft_member_find(&r->members, id);
    if (m == NULL)
        return ERR_NOT_FOUND;
    unsigned voters = 0;
    for (unsigned i = 0; i < r->members.n; i++)
        voters += r->members.v[i].voter;
    if (m->voter && voters == 1)
        return ERR_UNSAFE;

    struct raft_members to = {0};
    for (unsigned i = 0; i < r->members.n; i++)
        if (r->members.v[i].id != id)
            to.v[to.n++] = r->members.v[i];
    if (m->voter && !is_alive(r, &to))
        return ERR_BUSY;
    change(r, &to);
    return 0;
}
