/* SPDX-License-Identifier: Apache-2.0 */
#include "raft/msg.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"

enum tail { TAIL_NONE, TAIL_ENTRIES, TAIL_CHUNK };

#define FIELDS_MAX 9
#define AT(field) offsetof(struct raft_msg, field)

/* A row's fields end at the first 0: no field of ours stands at offset 0. */
static const struct row {
    const char *name;
    enum tail tail;
    size_t field[FIELDS_MAX];
} rows[RAFT_MSGS_END] = {
    [RAFT_MSG_PREVOTE] = {"prevote",
                          TAIL_NONE,
                          {AT(term), AT(index), AT(index_term), AT(hint), AT(hint_term),
                           AT(birth)}},
    [RAFT_MSG_PREVOTE_ANSWER] = {"prevote_answer", TAIL_NONE, {AT(term), AT(yes), AT(birth)}},
    [RAFT_MSG_VOTE] = {"vote",
                       TAIL_NONE,
                       {AT(term), AT(index), AT(index_term), AT(forced), AT(hint),
                        AT(hint_term), AT(birth)}},
    [RAFT_MSG_VOTE_ANSWER] = {"vote_answer", TAIL_NONE, {AT(term), AT(yes), AT(birth)}},
    [RAFT_MSG_APPEND] = {"append",
                         TAIL_ENTRIES,
                         {AT(term), AT(index), AT(index_term), AT(commit), AT(round)}},
    [RAFT_MSG_APPEND_ANSWER] = {"append_answer",
                                TAIL_NONE,
                                {AT(term), AT(yes), AT(index), AT(match), AT(hint),
                                 AT(hint_term), AT(round), AT(birth)}},
    [RAFT_MSG_CHUNK] = {"chunk",
                        TAIL_CHUNK,
                        {AT(term), AT(index), AT(index_term), AT(size), AT(offset)}},
    [RAFT_MSG_CHUNK_ANSWER] = {"chunk_answer",
                               TAIL_NONE,
                               {AT(term), AT(index), AT(offset), AT(have)}},
    [RAFT_MSG_TIMEOUT_NOW] = {"timeout_now", TAIL_NONE, {AT(term)}},
};

const char *raft_msg_name(enum raft_msg_type type)
{
    CHECK(type > RAFT_MSG_NONE && type < RAFT_MSGS_END);
    return rows[type].name;
}

static uint64_t field_get(const struct raft_msg *m, size_t at)
{
    uint64_t v;

    memcpy(&v, (const uint8_t *)m + at, sizeof v);
    return v;
}

static void field_set(struct raft_msg *m, size_t at, uint64_t v)
{
    memcpy((uint8_t *)m + at, &v, sizeof v);
}

static void encode_entries(const struct raft_msg *m, const struct raft_log *log,
                           struct buf *out)
{
    size_t bytes = 4;

    for (uint64_t i = 1; i <= m->count; i++)
        bytes += RAFT_MSG_ENTRY_HEAD + raft_log_at(log, m->index + i)->len;
    uint8_t *to = buf_reserve(out, bytes);
    be32_put(to, (uint32_t)m->count);
    to += 4;
    for (uint64_t i = 1; i <= m->count; i++) {
        const struct raft_entry *e = raft_log_at(log, m->index + i);
        be64_put(to, e->term);
        to[8] = (uint8_t)e->type;
        be32_put(to + 9, e->len);
        to += RAFT_MSG_ENTRY_HEAD;
        if (e->len > 0)
            memcpy(to, e->payload, e->len);
        to += e->len;
    }
    buf_added(out, bytes);
}

void raft_msg_encode(const struct raft_msg *m, const struct raft_log *log, struct buf *out)
{
    CHECK(m->type > RAFT_MSG_NONE && m->type < RAFT_MSGS_END);
    const struct row *row = &rows[m->type];

    buf_add_u8(out, RAFT_MSG_VERSION);
    buf_add_u8(out, (uint8_t)m->type);
    buf_add_be64(out, m->from);
    for (unsigned i = 0; i < FIELDS_MAX && row->field[i] != 0; i++)
        buf_add_be64(out, field_get(m, row->field[i]));
    if (row->tail == TAIL_ENTRIES) {
        encode_entries(m, log, out);
    } else if (row->tail == TAIL_CHUNK) {
        buf_add_be32(out, (uint32_t)m->members_len);
        buf_add(out, m->members, m->members_len);
        buf_add(out, m->data, m->len);
    }
    CHECK(out->len <= RAFT_MESSAGE_MAX);
}

void raft_msg_entry_next(struct raft_msg_entries *e)
{
    e->index++;
    e->term = be64_get(e->at);
    e->type = (enum raft_entry_type)e->at[8];
    e->len = be32_get(e->at + 9);
    e->payload = e->at + RAFT_MSG_ENTRY_HEAD;
    e->at = e->payload + e->len;
}

/* Reads nothing beyond len, believes no count: an entry's length is compared with what is
 * left, and so many entries are read as there are. */
static int decode_entries(struct raft_msg *m, const uint8_t *data, size_t len)
{
    uint64_t term = m->index_term;

    if (len < 4)
        return ERR_MALFORMED;
    m->count = be32_get(data);
    m->data = data + 4;
    m->len = len - 4;
    if (m->count > RAFT_MESSAGE_ENTRIES_MAX)
        return ERR_MALFORMED;

    struct raft_msg_entries e = {.at = m->data, .index = m->index};
    size_t left = m->len;
    for (uint64_t i = 0; i < m->count; i++) {
        if (left < RAFT_MSG_ENTRY_HEAD)
            return ERR_MALFORMED;
        if (e.at[8] > RAFT_ENTRY_CONFIG || be32_get(e.at + 9) > RAFT_ENTRY_MAX ||
            be32_get(e.at + 9) > left - RAFT_MSG_ENTRY_HEAD)
            return ERR_MALFORMED;
        raft_msg_entry_next(&e);
        left -= RAFT_MSG_ENTRY_HEAD + e.len;
        /* Terms rise along a log, and no entry is of a term later than its leader's. */
        if (e.term < term || e.term == 0 || e.term > m->term)
            return ERR_MALFORMED;
        term = e.term;
        struct raft_members members;
        if (e.type == RAFT_ENTRY_CONFIG && raft_members_decode(&members, e.payload, e.len) != 0)
            return ERR_MALFORMED;
        if (e.type == RAFT_ENTRY_EMPTY && e.len > 0)
            return ERR_MALFORMED;
    }
    return left == 0 ? 0 : ERR_MALFORMED;
}

static int decode_chunk(struct raft_msg *m, const uint8_t *data, size_t len)
{
    struct raft_members members;

    if (len < 4 || be32_get(data) > len - 4)
        return ERR_MALFORMED;
    m->members_len = be32_get(data);
    m->members = data + 4;
    m->data = m->members + m->members_len;
    m->len = len - 4 - m->members_len;
    if (m->index == 0 || m->index_term == 0 || m->index_term > m->term)
        return ERR_MALFORMED;
    if (m->size > RAFT_SNAPSHOT_MAX || m->len > RAFT_SNAPSHOT_CHUNK || m->offset > m->size ||
        m->len > m->size - m->offset)
        return ERR_MALFORMED;
    /* An empty piece in the middle would never end. */
    if (m->len == 0 && m->offset < m->size)
        return ERR_MALFORMED;
    if (m->offset == 0)
        return raft_members_decode(&members, m->members, m->members_len);
    return m->members_len == 0 ? 0 : ERR_MALFORMED;
}

int raft_msg_decode(struct raft_msg *m, const uint8_t *data, size_t len)
{
    *m = (struct raft_msg){0};
    if (len < 10 || len > RAFT_MESSAGE_MAX)
        return ERR_MALFORMED;
    if (data[0] != RAFT_MSG_VERSION || data[1] <= RAFT_MSG_NONE || data[1] >= RAFT_MSGS_END)
        return ERR_MALFORMED;
    m->type = (enum raft_msg_type)data[1];
    m->from = be64_get(data + 2);
    data += 10;
    len -= 10;

    const struct row *row = &rows[m->type];
    for (unsigned i = 0; i < FIELDS_MAX && row->field[i] != 0; i++) {
        if (len < 8 || be64_get(data) > RAFT_NUMBER_MAX)
            return ERR_MALFORMED;
        field_set(m, row->field[i], be64_get(data));
        data += 8;
        len -= 8;
    }
    if (m->term == 0 || m->yes > 1 || m->forced > 1)
        return ERR_MALFORMED;
    if (m->index_term > m->term || (m->index == 0 && m->index_term != 0))
        return ERR_MALFORMED;
    switch (row->tail) {
    case TAIL_ENTRIES: return decode_entries(m, data, len);
    case TAIL_CHUNK: return decode_chunk(m, data, len);
    case TAIL_NONE: break;
    }
    return len == 0 ? 0 : ERR_MALFORMED;
}
