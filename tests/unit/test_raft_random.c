/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters under random faults: loss, doubling, reordering, cuts (one way too), crashes that
 * lose what was not saved, slow disks, membership changes, snapshots; safety is checked at
 * each step (test_raft_world.h), progress after the faults have ended.
 *
 *   test_raft_random [seeds [first]]      with one seed: says what happened
 *   test_raft_random mutants              each planted fault of raft is found; takes a
 *                                         minute, and -DMUSTER_MUTANTS
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mutant_env.h"
#include "test_raft_world.h"

#define SEEDS 1000
#define STEPS 2500

static uint64_t first_seed = 1, seeds = SEEDS;

static struct world_server *any(struct world *w) { return &w->v[rng_below(&w->rng, w->n)]; }

static bool chance(struct world *w, unsigned per_10000)
{
    return rng_below(&w->rng, 10000) < per_10000;
}

static bool is_frozen(const struct world *w, const struct world_server *s)
{
    return s->frozen_until_ms > w->now_ms;
}

static bool is_leading(const struct world *w, const struct world_server *s)
{
    return s->is_up && !is_frozen(w, s) && raft_role(s->raft) == RAFT_LEADER;
}

static void client(struct world *w, struct world_server *s)
{
    uint64_t payload = rng_next(&w->rng), index;
    int err;

    if (!is_leading(w, s))
        return;
    unsigned n = (unsigned)rng_below(&w->rng, 8);
    for (unsigned i = 0; i < n; i++)
        (void)raft_propose(s->raft, &payload, 1 + (size_t)rng_below(&w->rng, 8), &index);
    if (chance(w, 3000))
        world_read(w, s, payload, &err);
    raft_flush(s->raft, s->now_ms);
    world_pump(w, s);
}

static void membership(struct world *w)
{
    struct world_server *s = any(w), *of = any(w);

    if (!is_leading(w, s))
        return;
    struct raft_member m = {.id = of->id, .auto_promote = chance(w, 5000)};
    switch (rng_below(&w->rng, 4)) {
    case 0: (void)raft_add_learner(s->raft, s->now_ms, &m); break;
    case 1: (void)raft_promote(s->raft, s->now_ms, of->id); break;
    case 2:
        /* Not below two voters, so that the run goes on. */
        if (raft_members(s->raft)->n > 2)
            (void)raft_remove(s->raft, s->now_ms, of->id);
        break;
    default: (void)raft_transfer(s->raft, s->now_ms, of->id);
    }
    world_pump(w, s);
}

static void store_snapshot(struct world *w)
{
    struct world_server *s = any(w);

    if (s->is_up && !s->has_save)
        world_store_snapshot(s, rng_below(&w->rng, 20));
}

/* [R] figure 8 wants leaders that reach few others and die soon. */
static void hunt_leader(struct world *w)
{
    struct world_server *s = any(w);

    if (!is_leading(w, s))
        return;
    if (chance(w, 5000)) {
        world_crash(w, s);
        return;
    }
    for (uint64_t i = 1; i <= w->n; i++)
        if (chance(w, 6000))
            w->cut[i][s->id] = w->cut[s->id][i] = true;
}

static void faults(struct world *w, unsigned hunts)
{
    struct world_server *s = any(w);

    if (chance(w, 100))
        store_snapshot(w);
    /* The moment at which a vote can be forgotten. */
    if (s->is_up && s->has_save && s->save.hard && chance(w, 1000)) {
        world_crash(w, s);
        world_start(w, s);
        s->frozen_until_ms = 0;
    }
    if (hunts > 0) {
        for (unsigned i = 0; i < 4; i++)
            if (chance(w, hunts))
                hunt_leader(w);
        if (chance(w, 300))
            memset(w->cut, 0, sizeof w->cut);
        if (chance(w, 500) && !s->is_up)
            world_start(w, s);
        return;
    }

    if (chance(w, 40) && s->is_up)
        s->frozen_until_ms = w->now_ms + rng_below(&w->rng, 1500);
    if (chance(w, 60))
        world_crash(w, s);
    if (chance(w, 150) && !s->is_up)
        world_start(w, s);
    if (chance(w, 40)) {
        uint64_t a = 1 + rng_below(&w->rng, w->n), b = 1 + rng_below(&w->rng, w->n);
        w->cut[a][b] = true;
        if (chance(w, 5000))
            w->cut[b][a] = true;
    }
    if (chance(w, 20))
        for (uint64_t i = 1; i <= w->n; i++)
            w->cut[i][s->id] = w->cut[s->id][i] = true;
    if (chance(w, 120))
        memset(w->cut, 0, sizeof w->cut);
}

static void run_due(struct world *w)
{
    for (struct world_packet **at = &w->packets; *at != NULL;) {
        if ((*at)->due_ms > w->now_ms || is_frozen(w, world_server(w, (*at)->to))) {
            at = &(*at)->next;
            continue;
        }
        struct world_packet *p = world_unlink(w, at);
        struct world_server *s = world_server(w, p->to);
        world_deliver(w, p);
        /* Some events come in batches, as they do from an event loop. */
        if (!chance(w, 3000))
            world_pump(w, s);
        if (w->failure[0] != 0)
            return;
        at = &w->packets; /* the list may have changed */
    }
    for (unsigned i = 0; i < w->n; i++) {
        struct world_server *s = &w->v[i];
        if (!s->is_up || is_frozen(w, s))
            continue;
        if (s->has_save && s->save_due_ms <= w->now_ms)
            world_save_finish(w, s);
        if (raft_deadline(s->raft) <= s->now_ms)
            raft_tick(s->raft, s->now_ms);
        world_pump(w, s);
    }
}

static void advance(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    for (unsigned i = 0; i < w->n; i++) {
        struct world_server *s = &w->v[i];
        if (is_frozen(w, s))
            continue;
        s->now_ms = w->now_ms;
        /* It thinks that no time has passed, and a client may be quicker than the clock. */
        if (s->frozen_until_ms > 0) {
            s->frozen_until_ms = 0;
            client(w, s);
        }
    }
    run_due(w);
}

static struct world_server *the_leader(struct world *w)
{
    struct world_server *leader = NULL;

    for (unsigned i = 0; i < w->n; i++)
        if (w->v[i].is_up && raft_is_ready(w->v[i].raft) &&
            (leader == NULL || raft_term(leader->raft) < raft_term(w->v[i].raft)))
            leader = &w->v[i];
    return leader;
}

/* All members of the leader's configuration have applied up to index. */
static bool all_have(struct world *w, const struct world_server *leader, uint64_t index)
{
    const struct raft_members *m = raft_members(leader->raft);

    for (unsigned i = 0; i < m->n; i++)
        if (raft_applied(world_server(w, m->v[i].id)->raft) < index)
            return false;
    return true;
}

/* Quiet: all is up and connected. Some seconds later there is a leader, what is proposed
 * commits, and every member has it. */
static void check_progress(struct world *w)
{
    uint64_t index = 0, end = w->now_ms + 15000;
    struct world_server *leader = NULL;

    memset(w->cut, 0, sizeof w->cut);
    w->lose_percent = w->double_percent = 0;
    w->delay_ms = w->save_ms = 5;
    for (unsigned i = 0; i < w->n; i++)
        if (!w->v[i].is_up)
            world_start(w, &w->v[i]);
    for (unsigned i = 0; i < w->n; i++)
        w->v[i].frozen_until_ms = 0;
    while (w->now_ms < end && w->failure[0] == 0) {
        advance(w, 1 + rng_below(&w->rng, 5));
        struct world_server *now = the_leader(w);
        if (now == NULL)
            continue;
        if (now != leader && raft_propose(now->raft, "x", 1, &index) == 0) {
            leader = now;
            raft_flush(leader->raft, leader->now_ms);
        }
        if (leader == now && all_have(w, leader, index))
            return;
    }
    world_fail(w,
               leader == NULL ? "no leader after the faults" : "no progress after the faults");
}

static void run_seed(uint64_t seed, char *failure, bool is_loud)
{
    struct rng pick = {seed};
    unsigned founders = 1 + (unsigned)rng_below(&pick, 5);
    struct world *w = world_new(seed, founders + (unsigned)rng_below(&pick, 3), founders);

    /* Much or little of each kind of trouble: a run with all of it rarely gets far. */
    static const unsigned lose[] = {0, 0, 2, 20}, delay[] = {0, 5, 20, 200},
                          save[] = {0, 5, 30, 400};
    w->lose_percent = lose[rng_below(&pick, 4)];
    w->double_percent = lose[rng_below(&pick, 4)];
    w->delay_ms = delay[rng_below(&pick, 4)];
    w->save_ms = save[rng_below(&pick, 4)];
    w->state_bytes = rng_below(&pick, 20) == 0 ? 600000 : rng_below(&pick, 100);
    static const unsigned hunt[] = {0, 0, 200, 1000};
    static const unsigned change[] = {0, 30, 100, 1500};
    unsigned changes = change[rng_below(&pick, 4)];
    unsigned hunts = hunt[rng_below(&pick, 4)];
    bool has_faults = rng_below(&pick, 10) != 0;
    w->options.batch_max = rng_below(&pick, 2) != 0 ? 0 : 1 + (uint32_t)rng_below(&pick, 3);
    for (unsigned i = 0; i < w->n; i++)
        world_start(w, &w->v[i]);
    for (unsigned step = 0; step < STEPS && w->failure[0] == 0; step++) {
        advance(w, rng_below(&w->rng, 20));
        if (chance(w, 2500))
            client(w, any(w));
        if (chance(w, changes))
            membership(w);
        if (has_faults)
            faults(w, hunts);
    }
    if (w->failure[0] == 0)
        check_progress(w);
    memcpy(failure, w->failure, sizeof w->failure);
    if (is_loud)
        printf("seed %llu: %u servers, %llu elections, %llu committed, %llu messages, "
               "%llu restarts, %llu truncations, %llu snapshots installed: %s\n",
               (unsigned long long)seed, w->n, (unsigned long long)w->elections,
               (unsigned long long)w->committed, (unsigned long long)w->messages,
               (unsigned long long)w->restarts, (unsigned long long)w->truncations,
               (unsigned long long)w->snapshots_installed, failure[0] != 0 ? failure : "good");
    world_free(w);
}

static void random_clusters_are_safe(void **state)
{
    char failure[256];

    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        run_seed(seed, failure, seeds == 1);
        if (failure[0] != 0)
            fail_msg("seed %llu: %s", (unsigned long long)seed, failure);
    }
}

#ifdef MUSTER_MUTANTS

/* The seed that finds the fault, 0: none. In a process of its own, since a fault may also
 * be found by a failing CHECK. */
static uint64_t find_mutant(enum mutant m, uint64_t most)
{
    int pipes[2];

    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char failure[256];
        mutant_active = m;
        (void)!freopen("/dev/null", "w", stderr);
        for (uint64_t seed = 1; seed <= most; seed++) {
            (void)!write(pipes[1], &seed, sizeof seed);
            run_seed(seed, failure, false);
            if (failure[0] != 0)
                _exit(1);
        }
        _exit(0);
    }
    close(pipes[1]);
    uint64_t seed = 0, one;
    while (read(pipes[0], &one, sizeof one) == sizeof one)
        seed = one;
    close(pipes[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : seed;
}

static void each_planted_fault_is_found(void **state)
{
    unsigned missed = 0;

    (void)state;
    for (enum mutant m = 1; m < MUTANTS_END; m++) {
        if (strncmp(mutant_name(m), "raft_", 5) != 0)
            continue;
        uint64_t seed = find_mutant(m, 10000);
        print_message("%s: seed %llu\n", mutant_name(m), (unsigned long long)seed);
        missed += seed == 0;
    }
    assert_int_equal(missed, 0);
}

#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_clusters_are_safe),
    };

    WORLD_USED(world_settle);
#ifdef MUSTER_MUTANTS
    const struct CMUnitTest mutants[] = {
        cmocka_unit_test(each_planted_fault_is_found),
    };
    mutant_from_env();
    if (argc > 1 && strcmp(argv[1], "mutants") == 0)
        return cmocka_run_group_tests(mutants, NULL, NULL);
#endif
    if (argc > 1)
        seeds = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
