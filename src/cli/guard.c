/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/clock.h"

struct guard_shared {
    _Atomic uint64_t kill_at_ms;
    atomic_bool has_killed;
};

static void on_death(int number) { (void)number; } /* it has ended the waiting; that is all */

/* Until then, or until a signal comes. */
static void wait_until(int timer, uint64_t ms, const sigset_t *mask)
{
    struct pollfd p = {.fd = timer, .events = POLLIN};
    struct itimerspec t = {
        .it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000}};

    timerfd_settime(timer, TFD_TIMER_ABSTIME, &t, NULL);
    ppoll(&p, 1, NULL, mask);
}

static _Noreturn void stand_guard(struct guard_shared *shared, const struct child *c,
                                  pid_t parent)
{
    sigset_t all, but_death;
    struct sigaction on = {.sa_handler = on_death};

    /* Not in our group: what stops us is not to stop the guard. In the child's, if it has one:
     * then its number cannot become another group's, even when all others of it are gone. */
    if (!c->own_group || setpgid(0, c->pid) != 0)
        setpgid(0, 0);
    sigfillset(&all);
    but_death = all;
    sigdelset(&but_death, SIGUSR1);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigaction(SIGUSR1, &on, NULL);
    prctl(PR_SET_NAME, "muster-guard");
    close_range(0, ~0U, 0); /* our files are not its */
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    int timer = timerfd_create(CLOCK_BOOTTIME, 0); /* the clock of clock_now_ms() */
    for (;;) {
        uint64_t at = atomic_load(&shared->kill_at_ms);
        if (clock_now_ms() >= at || getppid() != parent)
            break;
        wait_until(timer, at, &but_death);
    }
    atomic_store(&shared->has_killed, true);
    if (c->own_group)
        kill(-c->pid, SIGKILL);
    else if (getppid() == parent) /* else the kernel has, and its number may be another's */
        kill(c->pid, SIGKILL);
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
        stand_guard(g->shared, c, parent);
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
