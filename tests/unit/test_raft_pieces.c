/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots that are sent and received in pieces, rule by rule: [R] 7. */
#include "mutant_env.h"
#include "shelf.h"
#include "test_raft_lone.h"

#define SIZE (2 * RAFT_SNAPSHOT_CHUNK + 100)

static struct raft_msg chunk_answer(const struct lone *s, uint64_t have)
{
    return (struct raft_msg){.type = RAFT_MSG_CHUNK_ANSWER,
                             .term = raft_term(s->r),
                             .index = s->m.index,
                             .offset = s->m.offset,
                             .have = have};
}

/* 3 says that it has nothing. */
static void needs_a_snapshot(struct lone *s)
{
    assert_int_equal(
        lone_give(s, 3, (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER, .term = 1, .yes = 1}),
        0);
    (void)lone_silence(s);
    lone_pass(s, 60);
    while (lone_take(s) && s->to != 3)
        ;
    assert_int_equal(
        lone_give(
            s, 3,
            (struct raft_msg){.type = RAFT_MSG_APPEND_ANSWER, .term = 1, .index = s->m.index}),
        0);
    (void)lone_silence(s);
    assert_true(raft_snapshot_wanted(s->r));
}

/* A leader whose log begins behind 1000 and that has found 3 to have nothing. */
static struct lone sender(void)
{
    struct lone s = lone_make(3);

    raft_start(s.r, s.now_ms);
    lone_lead_ready(&s);
    for (int i = 0; i < 1000; i++)
        (void)lone_propose(&s);
    lone_agree(&s);
    while (raft_apply_take(s.r) != NULL)
        ;
    raft_compact(s.r, 1000, 10);
    assert_int_equal(raft_first_index(s.r), 991);
    assert_false(raft_snapshot_wanted(s.r));
    needs_a_snapshot(&s);
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
    lone_agree(&s);
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

static int hand_chunk(struct lone *s, struct raft_msg m, size_t len)
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
    return err;
}

static int give_chunk(struct lone *s, struct raft_msg m, size_t len)
{
    int err = hand_chunk(s, m, len);

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

/* A follower that knows of three and has nothing. */
static struct lone receiver(void)
{
    struct lone s = lone_make(3);

    raft_start(s.r, s.now_ms);
    return s;
}

static void a_piece_is_answered_when_it_is_on_disk(void **state)
{
    struct lone s = receiver();
    struct raft_job job;

    (void)state;
    assert_int_equal(hand_chunk(&s, chunk(0, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    assert_int_equal(lone_silence(&s), 0);
    assert_true(raft_job_take(s.r, &job));
    /* Again, and the next one: the disk has not got the first yet. */
    assert_int_equal(hand_chunk(&s, chunk(0, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    assert_int_equal(hand_chunk(&s, chunk(RAFT_SNAPSHOT_CHUNK, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    assert_int_equal(lone_silence(&s), 0);
    assert_int_equal(shelf_job(&shelf, &job), 0);
    raft_job_done(s.r, s.now_ms, 0);
    lone_expect(&s, RAFT_MSG_CHUNK_ANSWER, 2);
    assert_int_equal(s.m.have, RAFT_SNAPSHOT_CHUNK);
    assert_int_equal(lone_silence(&s), 0);
    shelf_free(&shelf);
    lone_free(&s);
}

/* The store has thrown away what there was of it: so have we. */
static void a_piece_that_the_disk_does_not_take_does_not_count(void **state)
{
    struct lone s = receiver();
    struct raft_job job;

    (void)state;
    assert_int_equal(give_chunk(&s, chunk(0, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    (void)lone_silence(&s);
    assert_int_equal(hand_chunk(&s, chunk(RAFT_SNAPSHOT_CHUNK, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    assert_true(raft_job_take(s.r, &job));
    raft_job_done(s.r, s.now_ms, ERR_SYSTEM);
    assert_int_equal(lone_silence(&s), 0);
    assert_int_equal(give_chunk(&s, chunk(RAFT_SNAPSHOT_CHUNK, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
    lone_expect(&s, RAFT_MSG_CHUNK_ANSWER, 2);
    assert_int_equal(s.m.have, 0);
    shelf_free(&shelf);
    lone_free(&s);
}

/* Another entry, another history of the same entry, another length; and what an earlier leader
 * began: its bytes need not be those of the next one's. */
static void pieces_of_two_snapshots_are_not_put_together(void **state)
{
    const struct raft_msg of = chunk(RAFT_SNAPSHOT_CHUNK, SIZE);
    struct raft_msg others[] = {of, of, of, of};
    struct raft_job job;

    (void)state;
    others[0].index = 51;
    others[1].index_term = 2;
    others[2].size = SIZE + 1;
    others[3].term = 5;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct lone s = receiver();
        assert_int_equal(give_chunk(&s, chunk(0, SIZE), RAFT_SNAPSHOT_CHUNK), 0);
        (void)lone_silence(&s);
        assert_int_equal(hand_chunk(&s, others[i], RAFT_SNAPSHOT_CHUNK), 0);
        assert_false(raft_job_take(s.r, &job));
        lone_expect(&s, RAFT_MSG_CHUNK_ANSWER, 2);
        assert_int_equal(s.m.index, others[i].index);
        assert_int_equal(s.m.have, 0);
        shelf_free(&shelf);
        lone_free(&s);
    }
}

static void give_snapshot_on_disk(struct lone *s)
{
    raft_snapshot_give(s->r, s->now_ms,
                       raft_blob_new_take(raft_applied(s->r), raft_applied_term(s->r),
                                          raft_members_applied(s->r), NULL, SIZE));
}

/* Who was sent the older one has been away, and the disk was slow. */
static void a_piece_of_an_older_snapshot_is_not_sent_for_a_newer_one(void **state)
{
    struct lone s = sender();
    struct raft_job job;

    (void)state;
    give_snapshot_on_disk(&s);
    raft_flush(s.r, s.now_ms);
    assert_true(raft_job_take(s.r, &job));
    assert_int_equal(job.index, 1001);
    for (int i = 0; i < 8; i++) {
        lone_pass(&s, 60);
        assert_int_equal(lone_ack(&s, 2, raft_last_index(s.r), 0), 0);
        (void)lone_silence(&s);
    }
    assert_int_equal(raft_snapshot_sent(s.r), 0); /* given up */
    for (int i = 0; i < 1000; i++)
        (void)lone_propose(&s);
    lone_agree(&s);
    while (raft_apply_take(s.r) != NULL)
        ;
    raft_compact(s.r, 2000, 10);
    needs_a_snapshot(&s);
    give_snapshot_on_disk(&s);
    raft_flush(s.r, s.now_ms);
    (void)lone_silence(&s);
    raft_job_done(s.r, s.now_ms, 0); /* that of the older one */
    raft_flush(s.r, s.now_ms);
    while (lone_take(&s))
        assert_int_not_equal(s.m.type, RAFT_MSG_CHUNK);
    assert_true(raft_job_take(s.r, &job));
    assert_int_equal(job.index, 2001);
    raft_job_done(s.r, s.now_ms, 0);
    raft_flush(s.r, s.now_ms);
    lone_expect(&s, RAFT_MSG_CHUNK, 3);
    assert_int_equal(s.m.index, 2001);
    lone_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LONE_TEST(a_snapshot_goes_in_pieces_one_at_a_time),
        LONE_TEST(a_lost_piece_is_sent_again),
        LONE_TEST(a_snapshot_is_not_kept_for_who_is_away),
        LONE_TEST(the_log_behind_a_snapshot_under_way_is_kept),
        LONE_TEST(a_received_snapshot_replaces_the_log),
        LONE_TEST(what_was_cut_is_dropped_before_a_snapshot),
        LONE_TEST(a_snapshot_of_what_is_there_is_not_taken),
        LONE_TEST(a_snapshot_that_is_too_big_is_refused),
        LONE_TEST(a_piece_is_answered_when_it_is_on_disk),
        LONE_TEST(a_piece_that_the_disk_does_not_take_does_not_count),
        LONE_TEST(pieces_of_two_snapshots_are_not_put_together),
        LONE_TEST(a_piece_of_an_older_snapshot_is_not_sent_for_a_newer_one),
    };

    lone_used();
    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
