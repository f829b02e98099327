/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/clock.h"

struct guard_shared {
    _Atomic uint64_t kill_at_ms;
    atomic_bool has_killed;
};

static void sleep_until(uint64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL); /* the clock of clock_now_ms() */
}

static _Noreturn void stand_guard(struct guard_shared *shared, pid_t target, pid_t parent)
{
    sigset_t all;

    /* Not in our group: what stops us is not to stop the guard. Our files are not its. */
    setpgid(0, 0);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_NAME, "muster-guard");
    close_range(0, ~0U, 0);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(0);
    for (;;) {
        uint64_t at = atomic_load(&shared->kill_at_ms);
        if (clock_now_ms() >= at)
            break;
        sleep_until(at);
    }
    atomic_store(&shared->has_killed, true);
    kill(target, SIGKILL);
    _exit(0);
}

bool guard_start(struct guard *g, const struct child *c, uint64_t kill_at_ms)
{
    pid_t parent = getpid();

    g->pid = 0;
    g->shared = mmap(NULL, sizeof *g->shared, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g->shared == MAP_FAILED)
        return false;
    atomic_init(&g->shared->kill_at_ms, kill_at_ms);
    atomic_init(&g->shared->has_killed, false);
    pid_t pid = fork();
    if (pid == 0)
        stand_guard(g->shared, c->own_group ? -c->pid : c->pid, parent);
    if (pid < 0) {
        int err = errno;
        munmap(g->shared, sizeof *g->shared);
        errno = err;
        return false;
    }
    g->pid = pid;
    return true;
}

void guard_move(struct guard *g, uint64_t kill_at_ms)
{
    atomic_store(&g->shared->kill_at_ms, kill_at_ms);
}

bool guard_end(struct guard *g)
{
    kill(g->pid, SIGKILL);
    while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    bool has_killed = atomic_load(&g->shared->has_killed);
    munmap(g->shared, sizeof *g->shared);
    *g = (struct guard){0};
    return has_killed;
}
