/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/failsafe.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mutant.h"
#include "base/reached.h"

/* A message: version, type, incarnation and seq of the question; then
 *   QUESTION  lease in ms, hash of the known machines, n, n addresses
 *   ANSWER    bits of the addresses, in the order of the question
 *   RETURN    n, n addresses; of every question up to seq
 * Numbers are big-endian; an address is its IPv4 number. */
enum { VERSION = 1, QUESTION = 1, ANSWER = 2, RETURN = 3 };

struct reader {
    const uint8_t *data;
    size_t len;
    bool is_bad;
};

static uint64_t get(struct reader *r, size_t bytes)
{
    uint64_t v = 0;

    if (r->len < bytes) {
        r->is_bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | r->data[i];
    r->data += bytes;
    r->len -= bytes;
    return v;
}

static void get_address(struct reader *r, char out[SITE_ADDRESS_MAX])
{
    uint32_t a = (uint32_t)get(r, 4);
    size_t at = 0;

    for (int shift = 24; shift >= 0; shift -= 8) {
        unsigned part = a >> shift & 255;
        if (part >= 100)
            out[at++] = (char)('0' + part / 100);
        if (part >= 10)
            out[at++] = (char)('0' + part / 10 % 10);
        out[at++] = (char)('0' + part % 10);
        out[at++] = shift > 0 ? '.' : 0;
    }
}

static void put_address(struct buf *out, const char *text)
{
    uint32_t number = 0;
    uint8_t prefix;

    CHECK(site_ipv4(text, strlen(text), &number, &prefix));
    buf_add_be32(out, number);
}

static void put_head(struct buf *out, uint8_t type, uint64_t incarnation, uint64_t seq)
{
    buf_add_u8(out, VERSION);
    buf_add_u8(out, type);
    buf_add_be64(out, incarnation);
    buf_add_be64(out, seq);
}

static uint64_t machines_hash(const struct failsafe_machines *m)
{
    uint64_t h = m->n;

    for (unsigned i = 0; i < m->n; i++)
        h = hash_bytes(h, m->name[i], strlen(m->name[i]));
    return h;
}

void failsafe_init(struct failsafe *f, uint64_t incarnation)
{
    *f = (struct failsafe){.incarnation = incarnation};
}

void failsafe_ask(struct failsafe *f, uint64_t now_ms, uint32_t lease_ms,
                  const struct failsafe_machines *machines,
                  const char (*addresses)[SITE_ADDRESS_MAX], unsigned n, struct buf *out)
{
    struct failsafe_round *round = &f->rounds[++f->seq % FAILSAFE_ROUNDS];

    *round = (struct failsafe_round){.seq = f->seq, .asked_ms = now_ms, .lease_ms = lease_ms};
    if (machines->n < 2 || n == 0 || n > SITE_ADDRESSES_MAX)
        return;
    round->machines = *machines;
    round->addresses = n;
    memcpy(round->address, addresses, n * sizeof addresses[0]);
    f->rounds_total++;
    put_head(out, QUESTION, f->incarnation, f->seq);
    buf_add_be32(out, lease_ms);
    buf_add_be64(out, machines_hash(machines));
    buf_add_u8(out, (uint8_t)n);
    for (unsigned i = 0; i < n; i++)
        put_address(out, addresses[i]);
}

void failsafe_return(struct failsafe *f, const char (*addresses)[SITE_ADDRESS_MAX], unsigned n,
                     struct buf *out)
{
    CHECK(n <= SITE_ADDRESSES_MAX);
    /* What was promised for them is used up: a late answer must not bring it back. */
    for (unsigned r = 0; r < FAILSAFE_ROUNDS; r++)
        for (unsigned i = 0; i < f->rounds[r].addresses; i++)
            for (unsigned k = 0; k < n; k++)
                if (strcmp(f->rounds[r].address[i], addresses[k]) == 0)
                    f->rounds[r].address[i][0] = 0;
    put_head(out, RETURN, f->incarnation, f->seq);
    buf_add_u8(out, (uint8_t)n);
    for (unsigned i = 0; i < n; i++)
        put_address(out, addresses[i]);
}

static struct failsafe_promise *promise_find(const struct failsafe *f, const char *address)
{
    for (unsigned i = 0; i < f->promises_n; i++)
        if (strcmp(f->promises[i].address, address) == 0)
            return (struct failsafe_promise *)(uintptr_t)&f->promises[i];
    return NULL;
}

/* Makes room by forgetting what is over. */
static struct failsafe_promise *promise_new(struct failsafe *f, uint64_t now_ms)
{
    for (unsigned i = 0; i < f->promises_n;) {
        if (f->promises[i].until_ms <= now_ms)
            f->promises[i] = f->promises[--f->promises_n];
        else
            i++;
    }
    if (f->promises_n == SITE_ADDRESSES_MAX)
        return NULL;
    return &f->promises[f->promises_n++];
}

static bool promise(struct failsafe *f, uint64_t now_ms, const char *from, uint32_t lease_ms,
                    const struct failsafe_promise *asked)
{
    struct failsafe_promise *p = promise_find(f, asked->address);

    if (p != NULL && p->until_ms > now_ms && strcmp(p->to, from) != 0) {
        REACHED(failsafe_promised_other);
        return false; /* promised to another, who may have it */
    }
    /* A question that was overtaken by a later one is no reason to shorten or renumber. */
    if (p != NULL && p->incarnation == asked->incarnation && p->seq > asked->seq)
        return p->until_ms > now_ms;
    if (p == NULL)
        p = promise_new(f, now_ms);
    if (p == NULL)
        return false;
    *p = *asked;
    memcpy(p->to, from, strlen(from) + 1);
    p->until_ms = now_ms + lease_ms + lease_ms / 50;
    return true;
}

static void question(struct failsafe *f, uint64_t now_ms, const char *from, struct reader *r,
                     const struct failsafe_promise *head,
                     const struct failsafe_machines *machines, bool reaches_tree,
                     bool (*can_promise)(void *ctx, const char *address), void *ctx,
                     struct buf *answer)
{
    uint32_t lease_ms = (uint32_t)get(r, 4);
    uint64_t hash = get(r, 8), yes = 0;
    unsigned n = (unsigned)get(r, 1);

    if (r->is_bad || n > SITE_ADDRESSES_MAX || r->len != 4 * (size_t)n ||
        lease_ms < SITE_LEASE_MIN_MS || lease_ms > SITE_LEASE_MAX_MS) {
        f->malformed_total++;
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        struct failsafe_promise asked = *head;
        get_address(r, asked.address);
        if (!reaches_tree && hash == machines_hash(machines) &&
            can_promise(ctx, asked.address) && promise(f, now_ms, from, lease_ms, &asked))
            yes |= UINT64_C(1) << i;
    }
    put_head(answer, ANSWER, head->incarnation, head->seq);
    buf_add_be64(answer, yes);
}

static void answered(struct failsafe *f, const char *from, struct reader *r,
                     const struct failsafe_promise *head)
{
    struct failsafe_round *round = &f->rounds[head->seq % FAILSAFE_ROUNDS];
    uint64_t yes = get(r, 8);

    if (r->is_bad || r->len != 0) {
        f->malformed_total++;
        return;
    }
    if (head->incarnation != f->incarnation || round->seq != head->seq)
        return; /* too late */
    for (unsigned m = 0; m < round->machines.n; m++)
        if (m != round->machines.me && strcmp(round->machines.name[m], from) == 0)
            round->yes[m] = yes;
}

static void returned(struct failsafe *f, const char *from, struct reader *r,
                     const struct failsafe_promise *head)
{
    unsigned n = (unsigned)get(r, 1);

    if (r->is_bad || r->len != 4 * (size_t)n) {
        f->malformed_total++;
        return;
    }
    while (n-- > 0) {
        char address[SITE_ADDRESS_MAX];
        get_address(r, address);
        struct failsafe_promise *p = promise_find(f, address);
        /* A return that comes late must not end the promise of a later question. */
        if (p != NULL && strcmp(p->to, from) == 0 && p->incarnation == head->incarnation &&
            p->seq <= head->seq)
            p->until_ms = 0;
    }
}

void failsafe_message(struct failsafe *f, uint64_t now_ms, const char *from,
                      const uint8_t *data, size_t len, const struct failsafe_machines *machines,
                      bool reaches_tree, bool (*can_promise)(void *ctx, const char *address),
                      void *ctx, struct buf *answer)
{
    struct reader r = {.data = data, .len = len};
    uint64_t version = get(&r, 1), type = get(&r, 1);
    struct failsafe_promise head = {.incarnation = get(&r, 8)};

    head.seq = get(&r, 8);
    if (r.is_bad || version != VERSION || strlen(from) >= SITE_NAME_MAX)
        f->malformed_total++;
    else if (type == QUESTION)
        question(f, now_ms, from, &r, &head, machines, reaches_tree, can_promise, ctx, answer);
    else if (type == ANSWER)
        answered(f, from, &r, &head);
    else if (type == RETURN)
        returned(f, from, &r, &head);
    else
        f->malformed_total++;
}

static bool all_promised(const struct failsafe_round *r, unsigned i)
{
    unsigned yes = 0;

    for (unsigned m = 0; m < r->machines.n; m++)
        yes += m == r->machines.me || (r->yes[m] >> i & 1) != 0;
    if (MUTANT(address_ask_majority))
        return 2 * yes > r->machines.n;
    return yes == r->machines.n;
}

uint64_t failsafe_kept_until(const struct failsafe *f, const char *address, uint32_t margin_ms)
{
    uint64_t until = 0;

    for (unsigned r = 0; r < FAILSAFE_ROUNDS; r++) {
        const struct failsafe_round *round = &f->rounds[r];
        for (unsigned i = 0; i < round->addresses; i++) {
            uint64_t end = round->asked_ms + round->lease_ms - margin_ms;
            if (strcmp(round->address[i], address) == 0 && all_promised(round, i) &&
                end > until) {
                REACHED(failsafe_kept);
                until = end;
            }
        }
    }
    return until;
}

uint64_t failsafe_promised_until(const struct failsafe *f, const char *address)
{
    const struct failsafe_promise *p = promise_find(f, address);

    return p != NULL ? p->until_ms : 0;
}
