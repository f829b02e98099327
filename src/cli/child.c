/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cmd.h"

static _Noreturn void become(char **argv, bool own_group, pid_t parent, int stdin_fd)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (own_group)
        setpgid(0, 0);
    /* If the parent died before this was set, nobody will tell us. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(EXIT_NO_COMMAND);
    if (stdin_fd >= 0 && dup2(stdin_fd, STDIN_FILENO) < 0) {
        fprintf(stderr, "muster: no stdin for %s: %s\n", argv[0], strerror(errno));
        _exit(EXIT_NO_COMMAND);
    }
    execvp(argv[0], argv);
    fprintf(stderr, "muster: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(EXIT_NO_COMMAND);
}

bool child_start(struct child *c, char **argv, int stdin_fd)
{
    pid_t parent = getpid();

    *c = (struct child){.own_group = !isatty(STDIN_FILENO)};
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return false;
    if (pid == 0)
        become(argv, c->own_group, parent, stdin_fd);
    if (c->own_group)
        setpgid(pid, pid); /* both do it: neither knows who is first */
    c->pid = pid;
    return true;
}

void child_signal(const struct child *c, int number)
{
    if (c->pid != 0 && !c->is_over)
        kill(c->own_group ? -c->pid : c->pid, number);
}

void child_stop(struct child *c, bool is_last)
{
    c->was_stopped = true;
    child_signal(c, is_last ? SIGKILL : SIGTERM);
}

bool child_has_ended(const struct child *c)
{
    siginfo_t info = {0};

    if (c->pid == 0 || c->is_over)
        return c->is_over;
    return waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == c->pid;
}

bool child_reap(struct child *c)
{
    if (c->pid == 0 || c->is_over || !child_has_ended(c))
        return c->is_over;
    if (c->was_stopped && c->own_group)
        kill(-c->pid, SIGKILL);
    if (waitpid(c->pid, &c->status, WNOHANG) == c->pid)
        c->is_over = true;
    return c->is_over;
}

int child_exit_code(const struct child *c)
{
    return WIFSIGNALED(c->status) ? 128 + WTERMSIG(c->status) : WEXITSTATUS(c->status);
}
