/* SPDX-License-Identifier: Apache-2.0 */
/* Membership and snapshots, rule by rule: [D] 4.1, 4.2.1, 4.2.2; [R] 7. */
#include "mutant_env.h"
#include "shelf.h"
#include "test_raft_lone.h"

static const struct raft_member joiner = {
    .id = 9, .name = "i", .address = "10.0.0.9:2182", .auto_promote = true};

static bool is_member(const struct lone *s, uint64_t id, bool voter)
{
    const struct raft_members *m = raft_members(s->r);

    for (unsigned i = 0; i < m->n; i++)
        if (m->v[i].id == id)
            return m->v[i].voter == voter;
    return false;
}

/* 2 and we have everything on disk. */
static void agree(struct lone *s)
{
    lone_save(s);
    (void)lone_silence(s);
    assert_int_equal(lone_ack(s, 2, raft_last_index(s->r), 0), 0);
    assert_int_equal(raft_committed(s->r), raft_last_index(s->r));
    (void)lone_silence(s);
}

static void members_survive_their_coding(void **state)
{
    struct raft_members m = lone_members(RAFT_MEMBERS_MAX), back;
    struct buf b = {0};

    (void)state;
    m.v[3].voter = false;
    m.v[3].auto_promote = true;
    m.v[4].id = m.v[5].id - 1;
    memset(m.v[6].name, 'x', RAFT_NAME_MAX - 1);
    memset(m.v[6].address, 'y', RAFT_ADDRESS_MAX - 1);
    memset(m.v[7].more, 'z', RAFT_MORE_MAX - 1);
    m.v[7].birth = RAFT_NUMBER_MAX;
    m.v[8].birth = 1;
    raft_members_encode(&m, &b);
    assert_int_equal(raft_members_decode(&back, b.data, b.len), 0);
    assert_memory_equal(&m.v, &back.v, sizeof m.v);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(raft_members_decode(&back, b.data, len), ERR_MALFORMED);
    buf_add_u8(&b, 0);
    assert_int_equal(raft_members_decode(&back, b.data, b.len), ERR_MALFORMED);
    b.data[1]++;
    assert_int_equal(raft_members_decode(&back, b.data, b.len), ERR_MALFORMED);
    buf_free(&b);
}

/* [D] 4.2.1 */
static void a_server_is_added_as_a_learner(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), ERR_NOT_LEADER);
    lone_lead_ready(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), 0);
    assert_true(is_member(&s, 9, false)); /* [D] 4.1: from when it is in the log */
    lone_expect(&s, RAFT_MSG_APPEND, 9);
    agree(&s); /* 1 and 2 are still a majority of the three voters */
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), ERR_EXISTS);
    assert_int_equal(raft_promote(s.r, s.now_ms, 9), ERR_BUSY); /* it has nothing yet */
    assert_int_equal(raft_promote(s.r, s.now_ms, 5), ERR_NOT_FOUND);
    assert_int_equal(raft_promote(s.r, s.now_ms, 2), ERR_EXISTS);
    lone_free(&s);
}

static int lone_ack_born(struct lone *s, uint64_t from, uint64_t match, uint64_t birth)
{
    return lone_give(s, from,
                     (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER,
                                       .term = raft_term(s->r),
                                       .yes = 1,
                                       .match = match,
                                       .hint = match,
                                       .hint_term = match > 0 ? raft_term(s->r) : 0,
                                       .birth = birth});
}

/* A voter that has lost its disk: what it acknowledges counts for nothing; it becomes a
 * learner, and a voter again when it has caught up. */
static void a_voter_of_another_birth_is_renewed(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    uint64_t index = lone_propose(&s), committed = raft_committed(s.r);
    lone_save(&s);
    (void)lone_silence(&s);
    assert_int_equal(lone_ack_born(&s, 3, index, 77), 0);
    assert_int_equal(raft_committed(s.r), committed); /* not 1 and 3 */
    assert_true(is_member(&s, 3, false));
    assert_int_equal(raft_member_find(raft_members(s.r), 3)->birth, 77);
    assert_true(raft_member_find(raft_members(s.r), 3)->auto_promote);
    assert_int_equal(lone_ack_born(&s, 3, 0, 77), 0);
    lone_save(&s);
    assert_int_equal(lone_ack_born(&s, 3, raft_last_index(s.r), 77), 0);
    assert_int_equal(raft_committed(s.r), committed); /* a learner's neither */
    assert_true(is_member(&s, 3, false));
    (void)lone_silence(&s);
    uint64_t renewed = raft_last_index(s.r);
    assert_int_equal(lone_ack(&s, 2, renewed, 0), 0);
    assert_int_equal(raft_committed(s.r), renewed); /* 1 and 2 */
    assert_true(is_member(&s, 3, true));            /* it has all of it */
    /* And in that life no more. */
    agree(&s);
    assert_int_equal(lone_ack_born(&s, 3, raft_last_index(s.r), 77), 0);
    assert_true(is_member(&s, 3, true));
    /* The disk of its first life, which had no birth, is another one, too. */
    committed = raft_committed(s.r);
    index = lone_propose(&s);
    lone_save(&s);
    assert_int_equal(lone_ack_born(&s, 3, index, 0), 0);
    assert_int_equal(raft_committed(s.r), committed);
    assert_true(is_member(&s, 3, false));
    lone_free(&s);
}

/* What another birth has forgotten, it must not promise again. */
static void a_server_of_another_birth_neither_votes_nor_campaigns(void **state)
{
    static const struct raft_msg asks = {
        .type = RAFT_MSG_VOTE, .term = 5, .index = 9, .index_term = 4};
    (void)state;
    for (uint64_t configured = 0; configured < 2; configured++) {
        struct raft_options o = {.id = 1, .seed = 7, .birth = 77};
        struct lone s = {.r = raft_new(&o), .now_ms = 10000};
        struct raft_members m = lone_members(3);
        m.v[0].birth = configured * 77;
        raft_load_snapshot(s.r, 0, 0, &m);
        raft_start(s.r, s.now_ms);
        assert_int_equal(raft_is_stranger(s.r), configured == 0);
        assert_int_equal(lone_give(&s, 2, asks), 0);
        lone_save(&s);
        if (configured == 0) {
            (void)lone_silence(&s);
            assert_int_equal(raft_term(s.r), 0);
            lone_patience_ends(&s);
            assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
            (void)lone_silence(&s);
        } else {
            lone_expect(&s, RAFT_MSG_VOTE_ANSWER, 2);
            assert_true(s.m.yes);
        }
        lone_free(&s);
    }
}

static void a_member_is_renewed_without_getting_a_vote(void **state)
{
    struct lone s = lone_make(3);
    struct raft_member m;

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    m = *raft_member_find(raft_members(s.r), 3);
    strcpy(m.address, "elsewhere:2888");
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), 0);
    assert_true(is_member(&s, 3, true));
    assert_string_equal(raft_member_find(raft_members(s.r), 3)->address, "elsewhere:2888");
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_BUSY);
    agree(&s);
    m.birth = 5; /* its promises would be gone */
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_BAD_ARGUMENTS);
    m.birth = 0;
    m.voter = false;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), 0);
    assert_true(is_member(&s, 3, false));
    agree(&s);
    m.voter = true;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_BAD_ARGUMENTS);
    m = *raft_member_find(raft_members(s.r), 1);
    m.voter = false;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_UNSAFE); /* ourselves */
    m.id = 8;
    assert_int_equal(raft_renew(s.r, s.now_ms, &m), ERR_NOT_FOUND);
    lone_free(&s);
}

/* [D] 4.1 */
static void one_change_at_a_time(void **state)
{
    struct lone s = lone_make(3);
    struct raft_member other = {.id = 8};

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), 0);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &other), ERR_BUSY);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), ERR_BUSY);
    agree(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &other), 0);
    lone_free(&s);
}

/* Ongaro, raft-dev, July 2015: bug in single-server membership changes. */
static void no_change_before_the_first_commit_of_the_term(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead(&s);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &joiner), ERR_BUSY);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), ERR_BUSY);
    agree(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), 0);
    lone_free(&s);
}

/* [D] 4.2.1: one that has what was there a short while ago becomes a voter by itself. */
static void a_learner_that_has_caught_up_is_promoted(void **state)
{
    (void)state;
    for (int asked = 0; asked < 2; asked++) {
        struct lone s = lone_make(3);
        struct raft_member m = joiner;
        m.auto_promote = asked;
        raft_start(s.r, s.now_ms);
        lone_lead_ready(&s);
        assert_int_equal(raft_add_learner(s.r, s.now_ms, &m), 0);
        agree(&s);
        /* It took longer than an election timeout: another round is needed. */
        for (int i = 0; i < 6; i++) {
            lone_pass(&s, 60);
            assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
        }
        assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
        lone_pass(&s, 60);
        assert_true(is_member(&s, 9, false));
        assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
        assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
        lone_pass(&s, 60);
        assert_true(is_member(&s, 9, asked));
        if (!asked) {
            /* Away again: a voter that does not answer would be a burden. */
            for (int i = 0; i < 5; i++) {
                lone_pass(&s, 60);
                assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
            }
            assert_int_equal(raft_promote(s.r, s.now_ms, 9), ERR_BUSY);
            assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
            lone_pass(&s, 60);
            assert_int_equal(lone_ack(&s, 9, raft_last_index(s.r), 0), 0);
            assert_int_equal(raft_promote(s.r, s.now_ms, 9), 0);
        }
        assert_true(is_member(&s, 9, true));
        lone_free(&s);
    }
}

/* [D] 4.1: with the entry goes the configuration. */
static void a_configuration_is_rolled_back_with_its_entry(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), 0);
    assert_false(is_member(&s, 3, true));
    lone_save(&s);
    lone_pass(&s, 400); /* steps down */
    assert_int_equal(
        lone_append(&s, 3, (struct raft_msg){.term = 2, .index = 1, .index_term = 1}, TERMS(2)),
        0);
    assert_true(is_member(&s, 3, true));
    lone_free(&s);
}

/* [D] 4.2.2 */
static void a_removed_leader_leads_until_its_removal_is_committed(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(lone_ack(&s, 3, 1, 0), 0);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), 0);
    lone_save(&s);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    assert_int_equal(lone_ack(&s, 2, 2, 0), 0);
    assert_int_equal(raft_committed(s.r), 1); /* it does not count itself any more */
    assert_int_equal(lone_ack(&s, 3, 2, 0), 0);
    assert_int_equal(raft_committed(s.r), 2);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    lone_expect(&s, RAFT_MSG_TIMEOUT_NOW, 2);
    for (int i = 0; i < 5; i++)
        lone_pass(&s, 1000);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    assert_int_equal(raft_term(s.r), 1);
    lone_free(&s);
}

/* Without 2 it would take 3, of which nobody knows how it is, to commit anything. */
static void no_voter_goes_whom_those_that_answer_need(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s); /* with 2 */
    assert_int_equal(raft_remove(s.r, s.now_ms, 2), ERR_BUSY);
    struct raft_member learner = raft_members(s.r)->v[1];
    learner.voter = false;
    assert_int_equal(raft_renew(s.r, s.now_ms, &learner), ERR_BUSY);
    assert_int_equal(lone_ack(&s, 3, 1, 0), 0);
    assert_int_equal(raft_remove(s.r, s.now_ms, 2), 0);
    lone_free(&s);
}

/* [D] 4.2.2: it may be the only one that can be elected. */
static void a_removed_voter_campaigns_until_its_removal_is_committed(void **state)
{
    struct lone s = lone_make(2);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), 0);
    lone_save(&s);
    lone_pass(&s, 400);
    assert_int_equal(raft_role(s.r), RAFT_FOLLOWER);
    lone_patience_ends(&s);
    assert_int_equal(raft_role(s.r), RAFT_PRE_CANDIDATE);
    lone_expect(&s, RAFT_MSG_PREVOTE, 2);
    lone_free(&s);
}

static void the_last_voter_stays(void **state)
{
    struct lone s = lone_make(1);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_patience_ends(&s);
    lone_save(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), ERR_UNSAFE);
    assert_int_equal(raft_remove(s.r, s.now_ms, 2), ERR_NOT_FOUND);
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &(struct raft_member){.id = 0}),
                     ERR_BAD_ARGUMENTS);
    for (uint64_t id = 2; id <= RAFT_MEMBERS_MAX; id++) {
        assert_int_equal(raft_add_learner(s.r, s.now_ms, &(struct raft_member){.id = id}), 0);
        lone_save(&s);
    }
    assert_int_equal(raft_add_learner(s.r, s.now_ms, &(struct raft_member){.id = 99}),
                     ERR_TOO_BIG);
    assert_int_equal(raft_remove(s.r, s.now_ms, 1), ERR_UNSAFE); /* learners do not vote */
    lone_free(&s);
}

static void a_server_that_was_removed_does_not_depose(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    assert_int_equal(raft_remove(s.r, s.now_ms, 3), 0);
    agree(&s);
    assert_int_equal(
        lone_give(&s, 3, (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER, .term = 50}), 0);
    assert_int_equal(
        lone_give(&s, 3, (struct raft_msg){.type = RAFT_MSG_VOTE, .term = 50, .index = 9}), 0);
    assert_int_equal(raft_role(s.r), RAFT_LEADER);
    lone_free(&s);
}

/* ---- snapshots ---- */

#define SIZE (2 * RAFT_SNAPSHOT_CHUNK + 100)

static struct raft_msg chunk_answer(const struct lone *s, uint64_t have)
{
    return (struct raft_msg){.type = RAFT_MSG_CHUNK_ANSWER,
                             .term = raft_term(s->r),
                             .index = s->m.index,
                             .offset = s->m.offset,
                             .have = have};
}

/* A leader whose log begins behind 1000 and that has found 3 to have nothing. */
static struct lone sender(void)
{
    struct lone s = lone_make(3);

    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    for (int i = 0; i < 1000; i++)
        (void)lone_propose(&s);
    agree(&s);
    while (raft_apply_take(s.r) != NULL)
        ;
    raft_compact(s.r, 1000, 10);
    assert_int_equal(raft_first_index(s.r), 991);
    assert_false(raft_snapshot_wanted(s.r));
    assert_int_equal(
        lone_give(&s, 3,
                  (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER, .term = 1, .yes = 1}),
        0);
    (void)lone_silence(&s);
    lone_pass(&s, 60);
    while (lone_take(&s) && s.to != 3)
        ;
    assert_int_equal(
        lone_give(
            &s, 3,
            (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER, .term = 1, .index = s.m.index}),
        0);
    (void)lone_silence(&s);
    assert_true(raft_snapshot_wanted(s.r));
    return s;
}

static void give_snapshot(struct lone *s)
{
    uint8_t *data = mem_alloc(SIZE);

    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * 7 >> 4);
    raft_snapshot_give(s->r, s->now_ms,
                       raft_blob_new_take(raft_applied(s->r), raft_applied_term(s->r),
                                          raft_members_applied(s->r), data, SIZE));
}

static void a_snapshot_goes_in_pieces_one_at_a_time(void **state)
{
    struct lone s = sender();

    (void)state;
    give_snapshot(&s);
    assert_false(raft_snapshot_wanted(s.r));
    lone_expect(&s, RAFT_MSG_CHUNK, 3);
    assert_int_equal(s.m.index, 1001);
    assert_int_equal(s.m.size, SIZE);
    assert_int_equal(s.m.offset, 0);
    assert_int_equal(s.m.len, RAFT_SNAPSHOT_CHUNK);
    assert_int_equal(lone_silence(&s), 0);
    s.m.index = 1001, s.m.offset = 0;
    struct raft_msg answer = chunk_answer(&s, RAFT_SNAPSHOT_CHUNK);
    assert_int_equal(lone_give(&s, 3, answer), 0);
    assert_int_equal(lone_give(&s, 3, answer), 0); /* doubled: one stream all the same */
    lone_expect(&s, RAFT_MSG_CHUNK, 3);
    assert_int_equal(s.m.offset, RAFT_SNAPSHOT_CHUNK);
    assert_int_equal(s.m.members_len, 0);
    struct raft_msg last = s.m;
    assert_int_equal(lone_silence(&s), 0);
    s.m = last;
    /* It has begun anew: so do we. */
    assert_int_equal(lone_give(&s, 3, chunk_answer(&s, 0)), 0);
    for (uint64_t have = 0; have < SIZE;) {
        lone_expect(&s, RAFT_MSG_CHUNK, 3);
        assert_int_equal(s.m.offset, have);
        have += s.m.len;
        assert_int_equal(lone_give(&s, 3, chunk_answer(&s, have)), 0);
    }
    lone_expect(&s, RAFT_MSG_APPEND, 3);
    assert_int_equal(s.m.index, 1001);
    lone_free(&s);
}

static void a_lost_piece_is_sent_again(void **state)
{
    struct lone s = sender();
    unsigned again = 0;

    (void)state;
    give_snapshot(&s);
    lone_expect(&s, RAFT_MSG_CHUNK, 3);
    for (int i = 0; i < 7; i++) {
        lone_pass(&s, 60);
        assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
        assert_int_equal(lone_ack(&s, 3, 0, 0), 0);
        while (lone_take(&s))
            again += s.m.type == RAFT_MSG_CHUNK && s.m.offset == 0;
    }
    assert_int_equal(again, 1);
    lone_free(&s);
}

/* Nobody serialises the state for who is away, nor keeps it for them. */
static void a_snapshot_is_not_kept_for_who_is_away(void **state)
{
    struct lone s = sender();

    (void)state;
    give_snapshot(&s);
    (void)lone_silence(&s);
    for (int i = 0; i < 8; i++) {
        lone_pass(&s, 60);
        assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
        (void)lone_silence(&s);
    }
    assert_false(raft_snapshot_wanted(s.r));
    struct raft_peer_facts facts;
    assert_true(raft_peer_facts(s.r, 3, &facts));
    assert_false(facts.snapshotting);
    assert_false(raft_peer_facts(s.r, 4, &facts));
    /* While it was sent the log was kept for what comes after it; no longer. */
    lone_free(&s);
}

static void the_log_behind_a_snapshot_under_way_is_kept(void **state)
{
    struct lone s = sender();

    (void)state;
    give_snapshot(&s); /* up to 1001 */
    for (int i = 0; i < 100; i++)
        (void)lone_propose(&s);
    agree(&s);
    while (raft_apply_take(s.r) != NULL)
        ;
    raft_compact(s.r, 1101, 0);
    assert_int_equal(raft_first_index(s.r), 1002);
    lone_free(&s);
}

static struct raft_msg chunk(uint64_t offset, uint64_t size)
{
    return (struct raft_msg){.type = RAFT_MSG_CHUNK,
                             .term = 4,
                             .index = 50,
                             .index_term = 3,
                             .size = size,
                             .offset = offset};
}

static struct shelf shelf; /* what the server has written of it */

static void write_chunk(struct lone *s)
{
    struct raft_job job;

    while (raft_job_take(s->r, &job))
        raft_job_done(s->r, s->now_ms, shelf_job(&shelf, &job));
}

static int give_chunk(struct lone *s, struct raft_msg m, size_t len)
{
    static uint8_t bytes[RAFT_SNAPSHOT_CHUNK];
    struct raft_members members = lone_members(3);
    struct buf b = {0};

    memset(bytes, (int)(m.offset / RAFT_SNAPSHOT_CHUNK + 1), sizeof bytes);
    raft_members_encode(&members, &b);
    m.data = bytes;
    m.len = len;
    m.members = b.data;
    m.members_len = m.offset == 0 ? b.len : 0;
    int err = lone_give(s, 2, m);
    buf_free(&b);
    write_chunk(s);
    return err;
}

/* [R] figure 13 */
static void a_received_snapshot_replaces_the_log(void **state)
{
    struct lone s = lone_make(0);

    (void)state;
    raft_load_state(s.r, 1, RAFT_NOBODY);
    lone_load(&s, 1, 1);
    lone_load(&s, 2, 1);
    raft_start(s.r, s.now_ms);
    assert_int_equal(give_chunk(&s, chunk(0, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    lone_expect(&s, RAFT_MSG_CHUNK_ANSWER, 2);
    assert_int_equal(s.m.have, RAFT_SNAPSHOT_CHUNK);
    /* Twice, or too far ahead: answered with what is there. */
    assert_int_equal(give_chunk(&s, chunk(0, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    assert_int_equal(give_chunk(&s, chunk(SIZE - 100, SIZE), 100), 0);
    lone_expect(&s, RAFT_MSG_CHUNK_ANSWER, 2);
    lone_expect(&s, RAFT_MSG_CHUNK_ANSWER, 2);
    assert_int_equal(s.m.have, RAFT_SNAPSHOT_CHUNK);
    assert_int_equal(give_chunk(&s, chunk(RAFT_SNAPSHOT_CHUNK, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    assert_int_equal(raft_last_index(s.r), 2);
    lone_save(&s);
    assert_int_equal(give_chunk(&s, chunk(SIZE - 100, SIZE), 100), 0);
    assert_int_equal(raft_last_index(s.r), 50);
    assert_int_equal(raft_committed(s.r), 50);
    assert_int_equal(raft_members(s.r)->n, 3);

    assert_null(raft_install_take(s.r)); /* not before it is saved */
    assert_null(raft_apply_take(s.r));
    assert_true(raft_save_take(s.r, &s.save));
    assert_non_null(s.save.snapshot);
    assert_int_equal(s.save.snapshot->index, 50);
    assert_null(raft_install_take(s.r));
    raft_saved(s.r, s.now_ms);
    struct raft_blob *b = raft_install_take(s.r);
    assert_non_null(b);
    assert_int_equal(b->len, SIZE);
    assert_null(b->data);
    assert_int_equal(shelf.received.index, 50);
    assert_int_equal(shelf.received.bytes.len, SIZE);
    assert_int_equal(shelf.received.bytes.data[0], 1);
    assert_int_equal(shelf.received.bytes.data[SIZE - 1], 3);
    raft_blob_unref(b);
    shelf_free(&shelf);
    assert_int_equal(raft_applied(s.r), 50);
    assert_int_equal(raft_applied_term(s.r), 3);
    lone_expect(&s, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(s.m.match, 50);
    lone_free(&s);
}

/* The store drops what was cut before it is shown the snapshot: it would keep entries above
 * it when the one at its index has its term. */
static void what_was_cut_is_dropped_before_a_snapshot(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 1, RAFT_NOBODY);
    for (uint64_t i = 1; i <= 60; i++)
        lone_load(&s, i, i < 50 ? 1 : 3);
    raft_start(s.r, s.now_ms);
    struct raft_msg m = {.term = 4, .index = 10, .index_term = 1};
    assert_int_equal(lone_append(&s, 2, m, TERMS(2)), 0);
    assert_int_equal(give_chunk(&s, chunk(0, 100), 100), 0);
    assert_true(raft_save_take(s.r, &s.save));
    assert_true(s.save.truncate);
    assert_null(s.save.snapshot);
    assert_int_equal(s.save.first_index, 11);
    assert_int_equal(s.save.n, 0);
    raft_saved(s.r, s.now_ms);
    assert_true(raft_save_take(s.r, &s.save));
    assert_false(s.save.truncate);
    assert_non_null(s.save.snapshot);
    raft_saved(s.r, s.now_ms);
    assert_int_equal(raft_saved_index(s.r), 50);
    lone_free(&s);
}

/* [R] figure 13, 6: with the entry in the log, the snapshot says no more than that it is
 * committed. */
static void a_snapshot_of_what_is_there_is_not_taken(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_load_state(s.r, 3, RAFT_NOBODY);
    for (uint64_t i = 1; i <= 60; i++)
        lone_load(&s, i, 3);
    raft_start(s.r, s.now_ms);
    assert_int_equal(give_chunk(&s, chunk(0, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    lone_expect(&s, RAFT_MSG_CHUNK_ANSWER, 2);
    assert_int_equal(s.m.have, SIZE);
    assert_int_equal(raft_committed(s.r), 50);
    assert_int_equal(raft_last_index(s.r), 60);
    lone_free(&s);
}

static void a_snapshot_that_is_too_big_is_refused(void **state)
{
    struct lone s = lone_make(3);

    (void)state;
    raft_start(s.r, s.now_ms);
    assert_int_equal(give_chunk(&s, chunk(0, RAFT_SNAPSHOT_MAX + 1ull), 100), ERR_MALFORMED);
    assert_int_equal(give_chunk(&s, chunk(0, 10), 100), ERR_MALFORMED);
    assert_int_equal(give_chunk(&s, chunk(0, 10), 0), ERR_MALFORMED);
    assert_int_equal(raft_term(s.r), 0);
    lone_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LONE_TEST(members_survive_their_coding),
        LONE_TEST(a_server_is_added_as_a_learner),
        LONE_TEST(one_change_at_a_time),
        LONE_TEST(a_voter_of_another_birth_is_renewed),
        LONE_TEST(a_server_of_another_birth_neither_votes_nor_campaigns),
        LONE_TEST(a_member_is_renewed_without_getting_a_vote),
        LONE_TEST(no_change_before_the_first_commit_of_the_term),
        LONE_TEST(a_learner_that_has_caught_up_is_promoted),
        LONE_TEST(a_configuration_is_rolled_back_with_its_entry),
        LONE_TEST(a_removed_leader_leads_until_its_removal_is_committed),
        LONE_TEST(no_voter_goes_whom_those_that_answer_need),
        LONE_TEST(a_removed_voter_campaigns_until_its_removal_is_committed),
        LONE_TEST(the_last_voter_stays),
        LONE_TEST(a_server_that_was_removed_does_not_depose),
        LONE_TEST(a_snapshot_goes_in_pieces_one_at_a_time),
        LONE_TEST(a_lost_piece_is_sent_again),
        LONE_TEST(a_snapshot_is_not_kept_for_who_is_away),
        LONE_TEST(the_log_behind_a_snapshot_under_way_is_kept),
        LONE_TEST(a_received_snapshot_replaces_the_log),
        LONE_TEST(what_was_cut_is_dropped_before_a_snapshot),
        LONE_TEST(a_snapshot_of_what_is_there_is_not_taken),
        LONE_TEST(a_snapshot_that_is_too_big_is_refused),
    };

    lone_used();
    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
