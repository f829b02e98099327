/* SPDX-License-Identifier: Apache-2.0 */
/* test_raft_lone.h -- one raft server, whose peers are the test: it forges their messages and
 * reads what they are sent. Server 1; the others are 2, 3, ... as given.
 */
#ifndef MUSTER_TEST_RAFT_LONE_H
#define MUSTER_TEST_RAFT_LONE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "raft/msg.h"
#include "raft/raft.h"

struct lone {
    struct raft *r;
    uint64_t now_ms;
    uint64_t to; /* of the message last taken */
    struct raft_msg m;
    struct buf bytes;
    struct raft_save save;
};

static struct raft_members lone_members(unsigned n)
{
    struct raft_members m = {.n = n};

    for (unsigned i = 0; i < n; i++) {
        m.v[i].id = i + 1;
        m.v[i].voter = true;
        m.v[i].name[0] = (char)('a' + i);
    }
    return m;
}

/* A server in a configuration of n voters (0: it knows of none), not started. */
static struct lone lone_make(unsigned n)
{
    struct raft_options o = {.id = 1, .seed = 7};
    struct lone s = {.r = raft_new(&o), .now_ms = 10000};
    struct raft_members m = lone_members(n);

    if (n > 0)
        raft_load_snapshot(s.r, 0, 0, &m);
    return s;
}

static void lone_load(struct lone *s, uint64_t index, uint64_t term)
{
    struct raft_entry *e = raft_entry_new(index, term, RAFT_ENTRY_DATA, "x", 1);

    assert_int_equal(raft_load_entry(s->r, e), 0);
    raft_entry_unref(e);
}

static void lone_free(struct lone *s)
{
    raft_free(s->r);
    buf_free(&s->bytes);
}

static int lone_give(struct lone *s, uint64_t from, struct raft_msg m)
{
    struct raft_log none = {0};
    struct buf b = {0};

    m.from = from;
    raft_msg_encode(&m, &none, &b);
    int err = raft_step(s->r, s->now_ms, from, b.data, b.len);
    buf_free(&b);
    return err;
}

/* An append with entries prev + 1 .. of the terms given, ended by 0. */
static int lone_append(struct lone *s, uint64_t from, struct raft_msg m, const uint64_t *terms)
{
    struct raft_log log = {0};
    struct buf b = {0};

    raft_log_reset(&log, m.index, m.index_term);
    for (; *terms != 0; terms++, m.count++)
        raft_log_append_take(&log,
                             raft_entry_new(log.last + 1, *terms, RAFT_ENTRY_DATA, "yy", 2));
    m.type = RAFT_MSG_APPEND;
    m.from = from;
    raft_msg_encode(&m, &log, &b);
    int err = raft_step(s->r, s->now_ms, from, b.data, b.len);
    buf_free(&b);
    raft_log_free(&log);
    return err;
}

#define TERMS(...) ((const uint64_t[]){__VA_ARGS__, 0})
#define NO_ENTRIES ((const uint64_t[]){0})

static bool lone_take(struct lone *s)
{
    if (!raft_message_take(s->r, &s->to, &s->bytes))
        return false;
    assert_int_equal(raft_msg_decode(&s->m, s->bytes.data, s->bytes.len), 0);
    return true;
}

/* Takes messages out until one of this type; fails when there is none. */
static void lone_expect(struct lone *s, enum raft_msg_type type, uint64_t to)
{
    while (lone_take(s))
        if (s->m.type == type && s->to == to)
            return;
    fail_msg("no %s to %llu", raft_msg_name(type), (unsigned long long)to);
}

static unsigned lone_silence(struct lone *s)
{
    unsigned n = 0;

    while (lone_take(s))
        n++;
    return n;
}

static void lone_save(struct lone *s)
{
    while (raft_save_take(s->r, &s->save))
        raft_saved(s->r, s->now_ms);
}

static void lone_pass(struct lone *s, uint64_t ms)
{
    s->now_ms += ms;
    raft_tick(s->r, s->now_ms);
}

static void lone_patience_ends(struct lone *s)
{
    if (s->now_ms < raft_deadline(s->r))
        s->now_ms = raft_deadline(s->r);
    raft_tick(s->r, s->now_ms);
}

/* Elected by server 2 in the next term; its empty entry is saved, but not yet committed. */
static void lone_lead(struct lone *s)
{
    lone_patience_ends(s);
    if (raft_role(s->r) == RAFT_PRE_CANDIDATE)
        assert_int_equal(lone_give(s, 2,
                                   (struct raft_msg){.type = RAFT_MSG_PREVOTE_ANSWER,
                                                     .term = raft_term(s->r) + 1,
                                                     .yes = 1}),
                         0);
    lone_save(s);
    if (raft_role(s->r) == RAFT_CANDIDATE)
        assert_int_equal(lone_give(s, 2,
                                   (struct raft_msg){.type = RAFT_MSG_VOTE_ANSWER,
                                                     .term = raft_term(s->r),
                                                     .yes = 1}),
                         0);
    assert_int_equal(raft_role(s->r), RAFT_LEADER);
    lone_save(s);
}

/* A follower's yes: it has all up to match, on disk. */
static int lone_ack(struct lone *s, uint64_t from, uint64_t match, uint64_t round)
{
    return lone_give(s, from,
                     (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                       .term = raft_term(s->r),
                                       .yes = 1,
                                       .match = match,
                                       .hint = match,
                                       .round = round});
}

/* Leading, and ready: 2 has the empty entry. */
static void lone_lead_ready(struct lone *s)
{
    lone_lead(s);
    assert_int_equal(lone_ack(s, 2, raft_last_index(s->r), 1), 0);
    assert_true(raft_is_ready(s->r));
    (void)lone_silence(s);
}

static uint64_t lone_propose(struct lone *s)
{
    uint64_t index = 0;

    assert_int_equal(raft_propose(s->r, "data", 4, &index), 0);
    return index;
}

/* 2 and we have everything on disk. */
static void lone_agree(struct lone *s)
{
    lone_save(s);
    (void)lone_silence(s);
    assert_int_equal(lone_ack(s, 2, raft_last_index(s->r), 0), 0);
    assert_int_equal(raft_committed(s->r), raft_last_index(s->r));
    (void)lone_silence(s);
}

#define LONE_TEST(name) cmocka_unit_test(name)

/* A program need not use all of this. */
static inline void lone_used(void)
{
    (void)lone_load, (void)lone_append, (void)lone_expect, (void)lone_silence;
    (void)lone_pass, (void)lone_lead_ready, (void)lone_propose, (void)lone_free;
    (void)lone_make, (void)lone_agree;
}

#endif
