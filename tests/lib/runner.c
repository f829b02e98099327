/* SPDX-License-Identifier: Apache-2.0 */
#include "runner.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mutant.h"
#include "base/reached.h"

enum { HANG_S = 60, MUTANT_SEEDS = 1000, FAILURE_MAX = 400, FAILED_MAX = 20 };

static struct world *guarded;

/* SIGPROF ends the process after so much processor time: on a busy machine, a minute of the
 * clock may pass in a seed that is only slow. 0: not any more. */
static void end_after(unsigned seconds)
{
    const struct itimerval t = {.it_value.tv_sec = seconds};

    CHECK(setitimer(ITIMER_PROF, &t, NULL) == 0);
}

void runner_guard(struct world *w) { guarded = w; }

/* In place of base/check.c's. */
_Noreturn void check_failed(const char *file, int line, const char *what)
{
    if (guarded != NULL)
        world_fail(guarded, "CHECK at %s:%d: %s", file, line, what);
    fprintf(stderr, "check failed at %s:%d: %s\n", file, line, what);
    abort();
}

static int usage(void)
{
    fputs("usage: sim [--world NAME] [--mutant NAME] [--seed N | --seeds N | --seeds FROM-TO | "
          "--mutants [--search]] [--reached FILE]\n"
          "  --seed N        one seed, every event printed\n"
          "  --seeds N       seeds 1 to N in each world, and those kept in tests/sim/seeds\n"
          "  --world NAME    only there: site, raft, disk or epoch\n"
          "  --mutants       each planted fault must be found (a build with them), where\n"
          "                  tests/sim/found says, or else by searching; --search: all anew\n"
          "  --mutant NAME   with that fault\n"
          "  --reached FILE  where to write how many seeds came to each named state\n",
          stderr);
    return 2;
}

/* ---- states that they come to ---- */

#ifdef MUSTER_REACHED

static unsigned reached_seeds[REACHED_END];

static void reached_begin(void) { memset(reached_now, 0, REACHED_END); }

static void reached_count(void)
{
    for (unsigned i = 0; i < REACHED_END; i++)
        reached_seeds[i] += reached_now[i];
}

/* Lines: name, seeds, "rare" or "often", what it is. */
static int reached_write(const char *name)
{
    FILE *f = fopen(name, "w");

    if (f == NULL) {
        fprintf(stderr, "%s cannot be written\n", name);
        return 2;
    }
    for (unsigned i = 0; i < REACHED_END; i++)
        fprintf(f, "%s %u %s %s\n", reached_name(i), reached_seeds[i],
                reached_is_rare(i) ? "rare" : "often", reached_text(i));
    return fclose(f) == 0 ? 0 : 2;
}

#else

static void reached_begin(void) {}
static void reached_count(void) {}
static int reached_write(const char *name)
{
    (void)name;
    fprintf(stderr, "this build counts no states: ./dev sim --coverage\n");
    return 2;
}

#endif

/* ---- many seeds ---- */

static unsigned one(const struct runner_world *world, uint64_t seed, bool verbose)
{
    char failure[FAILURE_MAX];

    end_after(verbose ? 0 : HANG_S);
    reached_begin();
    bool ok = world->run(seed, verbose, failure, sizeof failure);
    reached_count();
    end_after(0);
    if (!ok)
        printf("%s seed %" PRIu64 ": %s\n", world->name, seed, failure);
    fflush(stdout);
    return ok ? 0 : 1;
}

/* Lines "site 1234 # what it found"; others are comments. */
static unsigned kept(const struct runner_world *world, unsigned *count)
{
    char line[300], name[20];
    unsigned failed = 0;
    uint64_t seed;
    FILE *f = fopen("tests/sim/seeds", "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%19s %" SCNu64, name, &seed) != 2 || strcmp(name, world->name) != 0)
            continue;
        failed += one(world, seed, false);
        ++*count;
    }
    if (f != NULL)
        (void)fclose(f);
    return failed;
}

static unsigned many(const struct runner_world *world, uint64_t from, uint64_t to)
{
    unsigned failed = 0, count = 0;
    struct timespec a, b;

    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    if (from == 1)
        failed = kept(world, &count);
    for (uint64_t seed = from; seed <= to && failed < FAILED_MAX; seed++, count++)
        failed += one(world, seed, false);
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    printf("%s: %u seeds, %u failed, %.1f s, %.0f seeds a minute\n", world->name, count, failed,
           s, s > 0 ? count * 60 / s : 0);
    fflush(stdout);
    return failed;
}

/* ---- planted faults ---- */

#ifdef MUSTER_MUTANTS

struct shared {
    uint64_t seed;
    bool found;
    char failure[FAILURE_MAX];
};

static void look_for(const struct runner_world *world, uint64_t from, uint64_t to,
                     struct shared *sh)
{
    for (uint64_t seed = from; seed <= to && !sh->found; seed++) {
        sh->seed = seed;
        end_after(HANG_S);
        sh->found = !world->run(seed, false, sh->failure, sizeof sh->failure);
        end_after(0);
    }
}

static bool is_for(const struct runner_world *world, const char *mutant)
{
    size_t n = (size_t)(strchr(mutant, '_') - mutant) + 1;

    for (const char *p = world->mutants; *p != 0;
         p += strcspn(p, " ") + (strchr(p, ' ') != NULL))
        if (strncmp(p, mutant, n) == 0)
            return true;
    return world->mutants[0] == 0;
}

/* In a process of its own: it may well crash. */
static bool find(const struct runner_world *world, enum mutant m, uint64_t from, uint64_t to,
                 struct shared *sh)
{
    memset(sh, 0, sizeof *sh);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        mutant_active = m;
        look_for(world, from, to, sh);
        _exit(0);
    }
    int status = 0;
    (void)waitpid(pid, &status, 0);
    if (!sh->found && WIFSIGNALED(status)) {
        sh->found = true;
        snprintf(sh->failure, sizeof sh->failure, "%s",
                 WTERMSIG(status) == SIGPROF ? "it hangs" : "it crashes");
    }
    if (sh->found)
        printf("%-30s %s seed %-4" PRIu64 " %s\n", mutant_name(m), world->name, sh->seed,
               sh->failure);
    return sh->found;
}

/* Where it was found last. Lines "name world seed", or "name program": by a test of that one
 * thing, for which mutants.sh looks. */
static bool last_found(const char *mutant, char where[32], uint64_t *seed)
{
    char line[300], name[64];
    bool is_there = false;
    FILE *f = fopen("tests/sim/found", "r");

    while (f != NULL && !is_there && fgets(line, sizeof line, f) != NULL) {
        *seed = 0;
        is_there = sscanf(line, "%63s %31s %" SCNu64, name, where, seed) >= 2 &&
                   strcmp(name, mutant) == 0;
    }
    if (f != NULL)
        (void)fclose(f);
    return is_there;
}

static bool search(const struct runner_world *worlds, const char *only, enum mutant m,
                   struct shared *sh)
{
    bool found = false;

    /* The narrower world first: it is faster, and harsher in what it knows. */
    for (int i = 0; worlds[i].name != NULL; i++)
        if (worlds[i].mutants[0] != 0 && is_for(&worlds[i], mutant_name(m)) &&
            (only == NULL || strcmp(only, worlds[i].name) == 0))
            found = find(&worlds[i], m, 1, MUTANT_SEEDS, sh);
    if (!found && (only == NULL || strcmp(only, worlds[0].name) == 0))
        found = find(&worlds[0], m, 1, MUTANT_SEEDS, sh);
    return found;
}

static bool find_again(const struct runner_world *worlds, enum mutant m, bool *is_elsewhere,
                       struct shared *sh)
{
    char where[32];
    uint64_t seed;

    *is_elsewhere = false;
    if (!last_found(mutant_name(m), where, &seed))
        return false;
    for (int i = 0; worlds[i].name != NULL; i++)
        if (strcmp(where, worlds[i].name) == 0)
            return find(&worlds[i], m, seed, seed, sh);
    *is_elsewhere = true;
    return false;
}

static int mutants(const struct runner_world *worlds, const char *only, bool anew)
{
    unsigned missed = 0;
    struct shared *sh =
        mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(sh != MAP_FAILED);
    for (int m = 1; m < (int)MUTANTS_END; m++) {
        bool is_elsewhere = false;
        bool found =
            !anew && only == NULL && find_again(worlds, (enum mutant)m, &is_elsewhere, sh);
        if (!found && !is_elsewhere)
            found = search(worlds, only, (enum mutant)m, sh);
        if (!found)
            printf("%-30s NOT FOUND in %d seeds: %s\n", mutant_name((enum mutant)m),
                   is_elsewhere ? 0 : MUTANT_SEEDS, mutant_text((enum mutant)m));
        fflush(stdout);
        missed += !found;
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
static int mutants(const struct runner_world *worlds, const char *only, bool anew)
{
    (void)worlds, (void)only, (void)anew;
    return no_mutants();
}
static int set_mutant(const char *name)
{
    (void)name;
    return no_mutants();
}

#endif

struct what {
    uint64_t from, to;
    bool is_single, all_mutants, anew;
    const char *world, *reached;
};

static bool read_number(struct what *what, const char *option, const char *value)
{
    char *end;

    what->from = what->to = strtoull(value, &end, 10);
    if (end == value)
        return false;
    if (strcmp(option, "--seed") == 0) {
        what->is_single = true;
        return *end == 0;
    }
    if (*end == '-')
        what->to = strtoull(end + 1, &end, 10);
    else
        what->from = 1;
    return strcmp(option, "--seeds") == 0 && *end == 0;
}

static bool read_options(struct what *what, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mutants") == 0) {
            what->all_mutants = true;
            continue;
        }
        if (strcmp(argv[i], "--search") == 0) {
            what->anew = true;
            continue;
        }
        if (i + 1 == argc)
            return false;
        const char *option = argv[i++], *value = argv[i];
        if (strcmp(option, "--world") == 0)
            what->world = value;
        else if (strcmp(option, "--reached") == 0)
            what->reached = value;
        else if (strcmp(option, "--mutant") == 0 ? set_mutant(value) != 0
                                                 : !read_number(what, option, value))
            return false;
    }
    return true;
}

int runner_main(int argc, char **argv, const struct runner_world *worlds)
{
    struct what what = {.from = 1, .to = 1000};
    unsigned failed = 0;

    if (!read_options(&what, argc, argv))
        return usage();
    if (what.all_mutants)
        return mutants(worlds, what.world, what.anew);
    for (int i = 0; worlds[i].name != NULL; i++) {
        if (what.world != NULL ? strcmp(what.world, worlds[i].name) != 0
                               : what.is_single && i > 0)
            continue;
        failed += what.is_single ? one(&worlds[i], what.from, true)
                                 : many(&worlds[i], what.from, what.to);
    }
    int code = what.reached != NULL ? reached_write(what.reached) : 0;
    return failed > 0 ? 1 : code;
}
