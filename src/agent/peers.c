/* SPDX-License-Identifier: Apache-2.0 */
/* peers.c -- when the tree cannot be reached: asking the other agents, and answering them. */
#include <string.h>

#include "agent/internal.h"
#include "base/check.h"

#define ASK_MIN_MS 50

static bool is_reached_by_message(const struct agent *a, const char *name)
{
    for (unsigned i = 0; i < a->known.n; i++)
        if (i != a->known.me && strcmp(a->known.name[i], name) == 0)
            return true;
    return false;
}

static void send(struct agent *a, const char *to, const struct buf *message)
{
    struct queued *q = agent_push(a, AGENT_PEER_SEND);

    buf_add(&q->data, message->data, message->len);
    q->act.data = q->data.data;
    q->act.len = q->data.len;
    (void)memcpy(q->machine, to, strlen(to) + 1);
    q->act.machine = q->machine;
    for (unsigned i = 0; i < a->view.machines_n; i++)
        if (strcmp(a->view.machines[i].id.name, to) == 0)
            memcpy(q->machine_address, a->view.machines[i].id.address,
                   sizeof q->machine_address);
    q->act.machine_address = q->machine_address;
}

static void send_all(struct agent *a, const struct buf *message)
{
    for (unsigned i = 0; i < a->known.n && message->len > 0; i++)
        if (i != a->known.me)
            send(a, a->known.name[i], message);
}

void peers_let_go(struct agent *a, struct slot *s)
{
    bool is_over = s->core.state != ADDRESS_HOLDING && s->core.state != ADDRESS_DROPPING;
    char address[1][SITE_ADDRESS_MAX];
    struct buf message = {0};

    if (!s->was_asked || !is_over)
        return;
    s->was_asked = false;
    memcpy(address[0], s->site.address, sizeof address[0]);
    failsafe_return(&a->failsafe, (const char(*)[SITE_ADDRESS_MAX])address, 1, &message);
    send_all(a, &message);
    buf_free(&message);
}

/* The held addresses; true if all others have promised for all of them for a while yet. */
static bool gather(struct agent *a, char (*held)[SITE_ADDRESS_MAX], unsigned *n)
{
    uint32_t lease_ms = agent_lease_ms(a);
    uint32_t margin_ms = address_margin_ms(lease_ms, a->options.guard_ms);
    bool is_kept = true;

    *n = 0;
    for (unsigned i = 0; i < a->slots_n && *n < SITE_ADDRESSES_MAX; i++) {
        struct slot *s = a->slots[i];
        if (s->core.state != ADDRESS_HOLDING || s->core.claim_session == 0 ||
            s->core.claim_session != client_session(a->client))
            continue;
        memcpy(held[(*n)++], s->site.address, sizeof held[0]);
        if (failsafe_kept_until(&a->failsafe, s->site.address, margin_ms) <
            a->now_ms + lease_ms / 2)
            is_kept = false;
    }
    return is_kept;
}

void peers_step(struct agent *a)
{
    char held[SITE_ADDRESSES_MAX][SITE_ADDRESS_MAX];
    uint32_t lease_ms = agent_lease_ms(a);
    uint64_t every_ms = lease_ms / 16;
    struct buf question = {0};
    unsigned n;

    if (agent_reaches_tree(a) || a->is_leaving || a->known.n < 2 || a->options.is_foreign)
        return;
    bool is_kept = gather(a, held, &n);
    if (n == 0)
        return;
    if (is_kept)
        every_ms = lease_ms / 4;
    if (every_ms < ASK_MIN_MS)
        every_ms = ASK_MIN_MS;
    if (a->now_ms >= a->ask_next_ms) {
        failsafe_ask(&a->failsafe, a->now_ms, lease_ms, &a->known,
                     (const char(*)[SITE_ADDRESS_MAX])held, n, &question);
        send_all(a, &question);
        for (unsigned i = 0; i < a->slots_n; i++)
            if (a->slots[i]->core.state == ADDRESS_HOLDING)
                a->slots[i]->was_asked = true;
        a->ask_next_ms = a->now_ms + every_ms;
        a->counters.failsafe_rounds_total++;
        buf_free(&question);
    }
    /* An answer that completes a round changes what the holder may do: the caller steps the
     * addresses after every message. */
    agent_due(a, a->ask_next_ms);
}

static bool can_promise(void *ctx, const char *address)
{
    const struct slot *s = holder_find(ctx, address);

    return s == NULL || address_can_promise(&s->core);
}

void peers_message(struct agent *a, const char *from, const uint8_t *data, size_t len)
{
    struct buf answer = {0};

    if (!is_reached_by_message(a, from) || len > AGENT_PEER_BYTES_MAX) {
        a->counters.peer_malformed_total++;
        return;
    }
    failsafe_message(&a->failsafe, a->now_ms, from, data, len, &a->known, agent_reaches_tree(a),
                     can_promise, a, &answer);
    if (answer.len > 0)
        send(a, from, &answer);
    buf_free(&answer);
}
