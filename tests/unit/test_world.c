/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulations stand on: clocks that stand, machines that sleep, shapes of networks, a
 * disk that dies at a write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "box.h"
#include "faults.h"
#include "world.h"

enum { HOSTS = 5 };

static struct world w;
static unsigned hosts[HOSTS];

static int begin(void **state)
{
    (void)state;
    world_init(&w, 7, false);
    for (unsigned i = 0; i < HOSTS; i++)
        hosts[i] = world_add_host(&w, "h", 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_free(&w);
    return 0;
}

static void pass_ms(uint64_t ms) { world_run_until(&w, w.now_us + 1000 * ms); }

static void a_paused_machine_does_not_know_it(void **state)
{
    (void)state;
    uint64_t began = world_host_ms(&w, 0);
    uint64_t due = world_host_due(&w, 0, began + 500);

    world_pause(&w, 0, 2000000);
    pass_ms(1000);
    assert_true(world_is_frozen(&w, 0) && world_is_asleep(&w, 0));
    assert_int_equal(world_host_ms(&w, 0), began);
    pass_ms(1000);
    assert_false(world_is_frozen(&w, 0));
    assert_int_equal(world_host_ms(&w, 0), began);
    assert_true(world_host_due(&w, 0, began + 500) >= due + 2000000);
    pass_ms(500);
    assert_int_equal(world_host_ms(&w, 0), began + 500);
    assert_true(world_clock_stood(&w, 0, 501000));
    assert_false(world_clock_stood(&w, 0, 500000));
    assert_false(world_clock_stood(&w, 1, 1000000000));
}

static void a_clock_stands_while_its_machine_runs(void **state)
{
    (void)state;
    uint64_t began = world_host_ms(&w, 1);

    world_stop_clock(&w, 1, 700000);
    pass_ms(300);
    assert_false(world_is_frozen(&w, 1));
    world_set_drift(&w, 1, 10000); /* from when it goes on */
    pass_ms(400);
    assert_int_equal(world_host_ms(&w, 1), began);
    pass_ms(1000);
    assert_int_equal(world_host_ms(&w, 1), began + 1010);
}

static void sleep_is_missing_in_timers_only(void **state)
{
    (void)state;
    uint64_t began = world_host_ms(&w, 2);

    world_suspend(&w, 2, 3000000);
    pass_ms(3000);
    assert_int_equal(world_host_ms(&w, 2), began + 3000);
    assert_int_equal(w.hosts[2].slept_ms, 3000);
    assert_false(world_clock_stood(&w, 2, 1000000));
    assert_true(world_timers_stood(&w, 2, 1000000));
}

static unsigned ways(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < HOSTS; i++)
        for (unsigned k = 0; k < HOSTS; k++)
            n += i != k && world_reaches(&w, i, k);
    return n;
}

static void shapes_are_what_they_are_called(void **state)
{
    static const unsigned expected[SHAPES] = {[SHAPE_RING] = 2 * HOSTS,
                                              [SHAPE_CIRCLE] = HOSTS,
                                              [SHAPE_LINK] = HOSTS * (HOSTS - 1) - 2,
                                              [SHAPE_DEAF] = (HOSTS - 1) * (HOSTS - 1),
                                              [SHAPE_MUTE] = (HOSTS - 1) * (HOSTS - 1)};

    (void)state;
    for (unsigned n = 0; n < 50; n++)
        for (unsigned shape = 0; shape < SHAPES; shape++) {
            memset(w.blocked, 0, sizeof w.blocked);
            shape_cut(&w, hosts, HOSTS, (enum shape)shape);
            if (shape != SHAPE_BRIDGE) {
                assert_int_equal(ways(), expected[shape]);
                continue;
            }
            unsigned bridges = 0; /* both halves see it: it sees everybody */
            for (unsigned i = 0; i < HOSTS; i++) {
                unsigned seen = 0;
                for (unsigned k = 0; k < HOSTS; k++)
                    seen += i != k && world_reaches(&w, i, k) && world_reaches(&w, k, i);
                bridges += seen == HOSTS - 1;
            }
            assert_true(bridges >= 1);
        }
}

static void a_flapping_link_is_whole_in_the_end(void **state)
{
    unsigned changes = 0;
    bool was = false;

    (void)state;
    flap_begin(&w, 0, 1, w.now_us + 2000000);
    for (unsigned i = 0; i < 1000; i++) {
        pass_ms(5);
        changes += w.blocked[0][1] != was;
        was = w.blocked[0][1];
    }
    assert_true(changes > 4);
    assert_false(w.blocked[0][1]);
    assert_false(w.blocked[1][0]);
}

/* ---- a disk that dies at some write ---- */

struct core {
    struct box box;
    bool has_more, has_died;
    unsigned saved;
};

static bool save_take(void *ctx, struct raft_save *out)
{
    struct core *c = ctx;

    if (!c->has_more)
        return false;
    c->has_more = false;
    *out = (struct raft_save){.hard = true, .term = c->saved + 1};
    return true;
}

static void saved(void *ctx) { ((struct core *)ctx)->saved++; }
static bool job_take(void *ctx, struct raft_job *out)
{
    (void)ctx, (void)out;
    return false;
}
static void turn(void *ctx) { (void)ctx; }
static void died(void *ctx) { ((struct core *)ctx)->has_died = true; }

static void a_disk_dies_at_a_write_and_no_save_is_told(void **state)
{
    const struct store_load load = {.ctx = NULL};
    struct core c = {.saved = 0};
    const struct box_core core = {.ctx = &c,
                                  .save_take = save_take,
                                  .saved = saved,
                                  .job_take = job_take,
                                  .turn = turn,
                                  .died = died};

    (void)state;
    box_init(&c.box, &w, 0, &core);
    box_start(&c.box, &load);
    c.has_more = true;
    box_work(&c.box);
    pass_ms(100);
    assert_int_equal(c.saved, 1);
    box_break_at(&c.box, 0, true);
    c.has_more = true;
    box_work(&c.box);
    pass_ms(100);
    assert_int_equal(c.saved, 1);
    assert_true(c.has_died && c.box.dies_of_power);
    box_crash(&c.box, true);
    box_free(&c.box);
}

/* The kernel ends what it was asked for; the process hears of it when it goes on. */
static void a_frozen_process_hears_late(void **state)
{
    const struct store_load load = {.ctx = NULL};
    struct core c = {.saved = 0};
    const struct box_core core = {.ctx = &c,
                                  .save_take = save_take,
                                  .saved = saved,
                                  .job_take = job_take,
                                  .turn = turn,
                                  .died = died};
    unsigned early = 0;

    (void)state;
    box_init(&c.box, &w, 0, &core);
    box_start(&c.box, &load);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t syncs = sim_disk_syncs(c.box.disk);
        c.has_more = true;
        box_work(&c.box);
        world_freeze(&w, 0, 1000000);
        pass_ms(500);
        early += sim_disk_syncs(c.box.disk) > syncs;
        assert_int_equal(c.saved, i);
        pass_ms(600);
        assert_int_equal(c.saved, i + 1);
    }
    assert_in_range(early, 1, 19);
    box_free(&c.box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_paused_machine_does_not_know_it, begin, end),
        cmocka_unit_test_setup_teardown(a_clock_stands_while_its_machine_runs, begin, end),
        cmocka_unit_test_setup_teardown(sleep_is_missing_in_timers_only, begin, end),
        cmocka_unit_test_setup_teardown(shapes_are_what_they_are_called, begin, end),
        cmocka_unit_test_setup_teardown(a_flapping_link_is_whole_in_the_end, begin, end),
        cmocka_unit_test_setup_teardown(a_disk_dies_at_a_write_and_no_save_is_told, begin, end),
        cmocka_unit_test_setup_teardown(a_frozen_process_hears_late, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
