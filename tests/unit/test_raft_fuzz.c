/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as an enemy would send them: real ones with bits, numbers and lengths changed,
 * into servers that are busy with each other. Nobody may die of it, and what cannot be read
 * changes nothing. (That peers who lie about terms break the cluster's promises is no news:
 * Raft believes its members, and the transport knows who they are.)
 *
 *   test_raft_fuzz [seeds [first]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft/msg.h"
#include "test_raft_world.h"

static uint64_t first_seed = 1, seeds = 600;
static uint64_t given, taken, commits, installs;

static uint64_t odd_number(struct world *w)
{
    static const uint64_t odd[] = {0,
                                   1,
                                   2,
                                   255,
                                   RAFT_NUMBER_MAX - 1,
                                   RAFT_NUMBER_MAX,
                                   RAFT_NUMBER_MAX + 1,
                                   UINT64_MAX,
                                   UINT32_MAX,
                                   RAFT_SNAPSHOT_MAX,
                                   RAFT_SNAPSHOT_MAX + 1ull};

    if (rng_below(&w->rng, 2) == 0)
        return rng_below(&w->rng, 100);
    return odd[rng_below(&w->rng, sizeof odd / sizeof *odd)];
}

static void spoil(struct world *w, struct buf *b)
{
    size_t at = rng_below(&w->rng, b->len);

    switch (rng_below(&w->rng, 7)) {
    case 0: b->data[at] ^= (uint8_t)(1u << rng_below(&w->rng, 8)); break;
    case 1: b->data[at] = (uint8_t)rng_next(&w->rng); break;
    case 2: /* a number of the head */
        at = 10 + 8 * rng_below(&w->rng, 7);
        if (at + 8 <= b->len)
            be64_put(b->data + at, odd_number(w));
        break;
    case 3: /* a number anywhere */
        if (at + 8 <= b->len)
            be64_put(b->data + at, odd_number(w));
        break;
    case 4: /* a length */
        if (at + 4 <= b->len)
            be32_put(b->data + at, (uint32_t)odd_number(w));
        break;
    case 5: b->len = at + 1; break;
    default: (void)buf_reserve(b, at), buf_add(b, b->data, at); break;
    }
}

static void give(struct world *w, struct world_server *s, const struct world_packet *p)
{
    struct buf b = {0};

    buf_add(&b, p->data, p->len);
    for (uint64_t n = rng_below(&w->rng, 4); n > 0; n--)
        spoil(w, &b);
    /* Mostly as if from whom it says; the first bytes decide. */
    uint64_t from = b.len >= 10 && rng_below(&w->rng, 10) != 0 ? be64_get(b.data + 2) : p->from;
    uint64_t term = raft_term(s->raft), last = raft_last_index(s->raft);
    enum raft_role role = raft_role(s->raft);
    given++;
    if (raft_step(s->raft, s->now_ms, from, b.data, b.len) == 0) {
        taken++;
    } else {
        assert_true(raft_term(s->raft) == term);
        assert_true(raft_last_index(s->raft) == last);
        assert_true(raft_role(s->raft) == role);
    }
    buf_free(&b);
}

static void act(struct world *w, struct world_server *s)
{
    uint64_t index;

    s->now_ms = w->now_ms;
    if (s->has_save && rng_below(&w->rng, 3) != 0)
        world_save_finish(w, s);
    if (raft_deadline(s->raft) <= s->now_ms)
        raft_tick(s->raft, s->now_ms);
    if (rng_below(&w->rng, 4) == 0 && raft_propose(s->raft, "abcdefgh", 8, &index) == 0)
        raft_flush(s->raft, s->now_ms);
    if (rng_below(&w->rng, 40) == 0) {
        struct raft_member m = {.id = 1 + rng_below(&w->rng, w->n), .auto_promote = true};
        (void)raft_add_learner(s->raft, s->now_ms, &m);
    }
    if (rng_below(&w->rng, 60) == 0)
        (void)raft_remove(s->raft, s->now_ms, 1 + rng_below(&w->rng, w->n));
    if (rng_below(&w->rng, 60) == 0)
        (void)raft_transfer(s->raft, s->now_ms, 1 + rng_below(&w->rng, w->n));
    if (rng_below(&w->rng, 30) == 0)
        raft_compact(s->raft, raft_applied(s->raft), rng_below(&w->rng, 10));
    (void)raft_read(s->raft, s->now_ms, 1);
    world_pump(w, s);
}

static void run_seed(uint64_t seed)
{
    struct world *w = world_new(seed, 4, 3);

    w->is_hostile = true;
    w->options.batch_max = (uint32_t)rng_below(&w->rng, 4);
    w->state_bytes = rng_below(&w->rng, 400000);
    for (unsigned i = 0; i < w->n; i++)
        world_start(w, &w->v[i]);
    bool is_over = false; /* the last term: nothing can happen any more */
    for (unsigned step = 0; step < 600 && !is_over; step++) {
        w->now_ms += rng_below(&w->rng, 30);
        for (unsigned i = 0; i < w->n; i++)
            act(w, &w->v[i]);
        for (size_t n = w->packets_n; n > 0; n--) {
            struct world_packet *p = world_unlink(w, &w->packets);
            struct world_server *s = world_server(w, p->to);
            if (rng_below(&w->rng, 8) == 0)
                give(w, s, p);
            is_over |= raft_term(s->raft) >= RAFT_NUMBER_MAX;
            if (rng_below(&w->rng, 20) != 0)
                (void)raft_step(s->raft, s->now_ms, p->from, p->data, p->len);
            world_pump(w, s);
            mem_free(p);
        }
    }
    for (unsigned i = 0; i < w->n; i++) {
        commits += raft_committed(w->v[i].raft) > 0;
        installs += w->v[i].disk.snapshot_index > 0;
    }
    world_free(w);
}

static void spoilt_messages_kill_nobody(void **state)
{
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++)
        run_seed(seed);
    print_message("%llu messages, %llu of them taken\n", (unsigned long long)given,
                  (unsigned long long)taken);
    /* It must not have been over before it began. */
    assert_true(taken > given / 20 && given > 10 * seeds && commits > seeds);
    assert_true(installs > seeds / 20);
}

static void noise_is_refused(void **state)
{
    struct raft_options o = {.id = 1};
    struct raft *r = raft_new(&o);
    struct rng rng = {1};
    uint8_t bytes[200];

    (void)state;
    raft_start(r, 0);
    assert_int_equal(raft_step(r, 0, 2, NULL, 0), ERR_MALFORMED);
    for (unsigned i = 0; i < 200000; i++) {
        size_t len = rng_below(&rng, sizeof bytes);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (uint8_t)rng_next(&rng);
        if (len > 1) {
            bytes[0] = RAFT_MSG_VERSION;
            bytes[1] = (uint8_t)(i % RAFT_MSGS_END);
        }
        assert_int_equal(raft_step(r, i, 2, bytes, len), ERR_MALFORMED);
    }
    raft_free(r);
}

/* Whom the transport knows is who has sent it: nobody speaks for another, or for us. */
static void the_sender_must_be_who_it_says(void **state)
{
    struct raft_options o = {.id = 1};
    struct raft *r = raft_new(&o);
    struct raft_log none = {0};
    struct raft_msg m = {.type = RAFT_MSG_VOTE, .from = 2, .term = 1};
    struct buf b = {0};

    (void)state;
    raft_start(r, 0);
    raft_msg_encode(&m, &none, &b);
    assert_int_equal(raft_step(r, 0, 3, b.data, b.len), ERR_MALFORMED);
    assert_int_equal(raft_step(r, 0, 2, b.data, b.len - 1), ERR_MALFORMED);
    assert_int_equal(raft_step(r, 0, 2, b.data, b.len), 0);
    buf_clear(&b);
    m.from = 1;
    raft_msg_encode(&m, &none, &b);
    assert_int_equal(raft_step(r, 0, 1, b.data, b.len), ERR_MALFORMED);
    buf_free(&b);
    raft_free(r);
}

/* Both directions come from one table: compare with bytes written down by hand. */
static void the_bytes_are_as_documented(void **state)
{
    static const uint8_t expected[] = {3, 5,                           /* version, append */
                                       0, 0, 0, 0, 0,   0,   0,  3,    /* from */
                                       0, 0, 0, 0, 0,   0,   0,  7,    /* term */
                                       0, 0, 0, 0, 0,   0,   0,  4,    /* index */
                                       0, 0, 0, 0, 0,   0,   0,  6,    /* index_term */
                                       0, 0, 0, 0, 0,   0,   0,  2,    /* commit */
                                       0, 0, 0, 0, 0,   0,   1,  0,    /* round */
                                       0, 0, 0, 1,                     /* one entry */
                                       0, 0, 0, 0, 0,   0,   0,  7, 1, /* its term; data */
                                       0, 0, 0, 3, 'a', 'b', 'c'};
    struct raft_log log = {0};
    struct raft_msg m = {.type = RAFT_MSG_APPEND,
                         .from = 3,
                         .term = 7,
                         .index = 4,
                         .index_term = 6,
                         .commit = 2,
                         .round = 256,
                         .count = 1};
    struct buf b = {0};

    (void)state;
    raft_log_reset(&log, 4, 6);
    raft_log_append_take(&log, raft_entry_new(5, 7, RAFT_ENTRY_DATA, "abc", 3));
    raft_msg_encode(&m, &log, &b);
    assert_int_equal(b.len, sizeof expected);
    assert_memory_equal(b.data, expected, sizeof expected);
    buf_free(&b);
    raft_log_free(&log);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_as_documented),
        cmocka_unit_test(the_sender_must_be_who_it_says),
        cmocka_unit_test(noise_is_refused),
        cmocka_unit_test(spoilt_messages_kill_nobody),
    };

    WORLD_USED(world_settle);
    WORLD_USED(world_crash);
    WORLD_USED(world_deliver);
    WORLD_USED(world_read);
    WORLD_USED(world_store_snapshot);
    if (argc > 1)
        seeds = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
