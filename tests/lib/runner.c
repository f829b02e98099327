/* SPDX-License-Identifier: Apache-2.0 */
#include "runner.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mutant.h"

enum { HANG_S = 60, MUTANT_SEEDS = 1000, FAILURE_MAX = 400 };

static struct world *guarded;

void runner_guard(struct world *w) { guarded = w; }

/* In place of base/check.c's. */
_Noreturn void check_failed(const char *file, int line, const char *what)
{
    if (guarded != NULL)
        world_fail(guarded, "CHECK at %s:%d: %s", file, line, what);
    fprintf(stderr, "check failed at %s:%d: %s\n", file, line, what);
    abort();
}

static int usage(const char *name)
{
    fprintf(
        stderr,
        "usage: sim_%s [--seed N | --seeds N | --seeds FROM-TO | --mutants] [--mutant NAME]\n"
        "  --seed N        one seed, every event printed\n"
        "  --seeds N       seeds 1 to N, and those kept in tests/sim/seeds\n"
        "  --mutants       each planted fault must be found (a build with them)\n"
        "  --mutant NAME   with that fault\n",
        name);
    return 2;
}

/* ---- many seeds ---- */

static int one(runner_run *run, uint64_t seed, bool verbose)
{
    char failure[FAILURE_MAX];

    alarm(verbose ? 0 : HANG_S);
    bool ok = run(seed, verbose, failure, sizeof failure);
    alarm(0);
    if (!ok)
        printf("seed %" PRIu64 ": %s\n", seed, failure);
    fflush(stdout);
    return ok ? 0 : 1;
}

static unsigned kept(const char *name, runner_run *run, unsigned *count)
{
    char path[100], line[300];
    unsigned failed = 0;

    snprintf(path, sizeof path, "tests/sim/seeds_%s", name);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *end;
        uint64_t seed = strtoull(line, &end, 10);
        if (end == line)
            continue;
        failed += (unsigned)one(run, seed, false);
        ++*count;
    }
    if (f != NULL)
        (void)fclose(f);
    return failed;
}

static int many(const char *name, runner_run *run, uint64_t from, uint64_t to)
{
    unsigned failed = 0, count = 0;
    struct timespec a, b;

    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    if (from == 1)
        failed = kept(name, run, &count);
    for (uint64_t seed = from; seed <= to && failed < 20; seed++, count++)
        failed += (unsigned)one(run, seed, false);
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    printf("%s: %u seeds, %u failed, %.1f s, %.0f seeds a minute\n", name, count, failed, s,
           s > 0 ? count * 60 / s : 0);
    return failed > 0 ? 1 : 0;
}

/* ---- planted faults ---- */

#ifdef MUSTER_MUTANTS

struct shared {
    uint64_t seed;
    bool found;
    char failure[FAILURE_MAX];
};

static void look_for(runner_run *run, struct shared *sh)
{
    for (uint64_t seed = 1; seed <= MUTANT_SEEDS && !sh->found; seed++) {
        sh->seed = seed;
        alarm(HANG_S);
        sh->found = !run(seed, false, sh->failure, sizeof sh->failure);
        alarm(0);
    }
}

/* Each in a process of its own: it may well crash. Rows of another simulation: the name says
 * whose they are (see docs/simulation.md). */
static int mutants(const char *name, runner_run *run)
{
    unsigned missed = 0;
    struct shared *sh =
        mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(sh != MAP_FAILED);
    for (int m = 1; m < (int)MUTANTS_END; m++) {
        const char *what = mutant_name((enum mutant)m);
        if (strcmp(name, "raft") == 0 && strncmp(what, "raft_", 5) != 0 &&
            strncmp(what, "store_", 6) != 0)
            continue;
        memset(sh, 0, sizeof *sh);
        fflush(stdout);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            mutant_active = (enum mutant)m;
            look_for(run, sh);
            _exit(0);
        }
        int status = 0;
        (void)waitpid(pid, &status, 0);
        if (!sh->found && WIFSIGNALED(status)) {
            sh->found = true;
            snprintf(sh->failure, sizeof sh->failure, "%s",
                     WTERMSIG(status) == SIGALRM ? "it hangs" : "it crashes");
        }
        if (sh->found)
            printf("%-32s seed %-5" PRIu64 " %s\n", what, sh->seed, sh->failure);
        else
            printf("%-32s NOT FOUND in %d seeds: %s\n", what, MUTANT_SEEDS,
                   mutant_text((enum mutant)m));
        fflush(stdout);
        missed += !sh->found;
    }
    printf("%u not found\n", missed);
    return missed > 0 ? 1 : 0;
}

static int set_mutant(const char *name)
{
    for (int m = 1; m < (int)MUTANTS_END; m++)
        if (strcmp(mutant_name((enum mutant)m), name) == 0) {
            mutant_active = (enum mutant)m;
            return 0;
        }
    fprintf(stderr, "there is no planted fault %s\n", name);
    return 2;
}

#else

static int no_mutants(void)
{
    fprintf(stderr, "this build has no planted faults: build with -DMUSTER_MUTANTS\n");
    return 2;
}
static int mutants(const char *name, runner_run *run)
{
    (void)name, (void)run;
    return no_mutants();
}
static int set_mutant(const char *name)
{
    (void)name;
    return no_mutants();
}

#endif

int runner_main(int argc, char **argv, const char *name, runner_run *run)
{
    uint64_t from = 1, to = 1000;
    bool single = false, all_mutants = false;

    for (int i = 1; i < argc; i++) {
        char *end;
        if (strcmp(argv[i], "--mutants") == 0) {
            all_mutants = true;
            continue;
        }
        if (i + 1 == argc)
            return usage(name);
        const char *value = argv[++i];
        if (strcmp(argv[i - 1], "--mutant") == 0) {
            if (set_mutant(value) != 0)
                return 2;
            continue;
        }
        from = strtoull(value, &end, 10);
        if (strcmp(argv[i - 1], "--seed") == 0 && end != value && *end == 0) {
            single = true;
        } else if (strcmp(argv[i - 1], "--seeds") == 0 && end != value) {
            to = from;
            if (*end == '-')
                to = strtoull(end + 1, &end, 10);
            else
                from = 1;
            if (*end != 0)
                return usage(name);
        } else {
            return usage(name);
        }
    }
    if (all_mutants)
        return mutants(name, run);
    return single ? one(run, from, true) : many(name, run, from, to);
}
