/* SPDX-License-Identifier: Apache-2.0 */
#include "server/member_found.h"

#include "base/err.h"
#include "base/hash.h"

#define FORM 1
#define CONFIG_KEY 0x6d7573746572207a
#define IS_QUESTION 1
#define HAS_DATA 2

uint64_t found_config(const struct raft_members *m)
{
    struct buf b = {0};

    raft_members_encode(m, &b);
    uint64_t h = hash_bytes(CONFIG_KEY, b.data, b.len);
    buf_free(&b);
    return h;
}

void found_message_encode(const struct found_message *m, struct buf *out)
{
    const struct raft_members one = {.n = 1, .v = {m->from}};

    buf_add_u8(out, FORM);
    buf_add_u8(out,
               (uint8_t)((m->is_question ? IS_QUESTION : 0) | (m->has_data ? HAS_DATA : 0)));
    buf_add_be64(out, m->config);
    raft_members_encode(&one, out);
}

int found_message_decode(struct found_message *m, const uint8_t *data, size_t len)
{
    struct raft_members one;

    if (len < 10 || data[0] != FORM || data[1] > (IS_QUESTION | HAS_DATA) ||
        raft_members_decode(&one, data + 10, len - 10) != 0 || one.n != 1)
        return ERR_MALFORMED;
    m->is_question = data[1] & IS_QUESTION;
    m->has_data = data[1] & HAS_DATA;
    m->config = be64_get(data + 2);
    m->from = one.v[0];
    return 0;
}

void founding_begin(struct founding *f, uint64_t self, const struct raft_members *config,
                    uint64_t now_ms)
{
    *f = (struct founding){.self = self, .config = *config, .begun_ms = now_ms};
}

void founding_heard(struct founding *f, const struct found_message *m, uint64_t now_ms)
{
    if (m->has_data)
        f->has_data = true;
    f->differs = 0;
    if (!m->has_data && m->config != found_config(&f->config)) {
        f->differs = m->from.id;
        return;
    }
    for (unsigned i = 0; i < f->config.n; i++)
        if (f->config.v[i].id == m->from.id)
            f->empty_ms[i] = m->has_data ? 0 : now_ms;
}

enum found_verdict founding_verdict(const struct founding *f, uint64_t now_ms)
{
    unsigned voters = 0, empty = 0;
    bool is_voter = false;

    if (f->has_data)
        return now_ms - f->begun_ms >= FOUND_LATE_MS ? FOUND_LATE : FOUND_WAIT;
    for (unsigned i = 0; i < f->config.n; i++) {
        const struct raft_member *m = &f->config.v[i];
        bool is_self = m->id == f->self;
        if (!m->voter)
            continue;
        voters++;
        is_voter = is_voter || is_self;
        empty += is_self || (f->empty_ms[i] != 0 && now_ms - f->empty_ms[i] < FOUND_FRESH_MS);
    }
    /* An observer waits for who votes. */
    if (!is_voter || empty <= voters / 2)
        return FOUND_WAIT;
    return empty == voters || now_ms - f->begun_ms >= FOUND_SHORT_MS ? FOUND_BEGIN : FOUND_WAIT;
}
