/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "host/clock.h"
#include "server/server_internal.h"

/* ---- joining ---- */

static struct raft_member *find_member(struct raft_members *in, const struct raft_member *like)
{
    for (unsigned i = 0; i < in->n; i++)
        if (in->v[i].id == like->id || strcmp(in->v[i].name, like->name) == 0 ||
            strcmp(in->v[i].address, like->address) == 0)
            return &in->v[i];
    return NULL;
}

/* The joiner's standing: 0 it is a member now, ERR_NOT_FOUND not yet, ERR_EXISTS its token,
 * name or address is somebody else's. */
static int join_standing(struct server *s, const struct raft_member *joiner)
{
    struct raft_members now = *member_members(s->member);
    const struct raft_member *m = find_member(&now, joiner);

    if (m == NULL)
        return now.n < RAFT_MEMBERS_MAX ? ERR_NOT_FOUND : ERR_TOO_BIG;
    return m->id == joiner->id && strcmp(m->name, joiner->name) == 0 &&
                   strcmp(m->address, joiner->address) == 0
               ? 0
               : ERR_EXISTS;
}

void server_joins_go_on(struct server *s)
{
    uint64_t now_ms = clock_now_ms();

    if (s->transport == NULL)
        return; /* another epoch is there: who asked has lost the connection */
    for (unsigned i = 0; i < JOINS_MAX; i++) {
        struct join *j = &s->joins[i];
        if (j->ticket == 0)
            continue;
        int err = join_standing(s, &j->joiner);
        if (err == ERR_NOT_FOUND && now_ms < j->until_ms) {
            if (now_ms >= j->again_ms) {
                (void)member_add(s->member, &j->joiner); /* its result is the standing */
                j->again_ms = now_ms + JOIN_AGAIN_MS;
            }
            continue;
        }
        transport_join_answer(s->transport, j->ticket,
                              err == ERR_NOT_FOUND ? (int)ERR_TIMED_OUT : err,
                              member_members(s->member));
        log_event(err == 0 ? LOG_NOTICE : LOG_WARNING, err == 0 ? "joined" : "join_refused",
                  LOG_S("name", j->joiner.name), LOG_S("address", j->joiner.address),
                  LOG_S("why", err_text(err)));
        j->ticket = 0;
    }
}

void server_join_asked(void *ctx, uint64_t ticket, const struct raft_member *joiner)
{
    struct server *s = ctx;

    for (unsigned i = 0; i < JOINS_MAX; i++)
        if (s->joins[i].ticket == 0) {
            s->joins[i] = (struct join){.ticket = ticket,
                                        .until_ms = clock_now_ms() + JOIN_LIMIT_MS,
                                        .joiner = *joiner};
            return;
        }
    transport_join_answer(s->transport, ticket, ERR_BUSY, NULL);
}

/* ---- the file peers ---- */

/* On the pool's thread: it waits for the disk. */
static void save_peers(uv_work_t *work)
{
    struct server *s = work->data;

    s->save_err = identity_save_peers(s->options.dir, &s->saving_members);
}

static void peers_saved(uv_work_t *work, int status)
{
    struct server *s = work->data;

    (void)status;
    s->is_saving = false;
    if (s->save_err !=
        0) /* the log has them, too; this is for a store that holds nothing yet */
        log_event(LOG_WARNING, "peers_not_saved", LOG_S("dir", s->options.dir),
                  LOG_S("why", err_text(s->save_err)));
}

void server_save_peers(struct server *s)
{
    if (!s->save_again || s->is_saving)
        return;
    s->save_again = false;
    s->is_saving = true;
    s->saving_members = s->members;
    s->saving.data = s;
    CHECK(uv_queue_work(s->loop, &s->saving, save_peers, peers_saved) == 0);
}
