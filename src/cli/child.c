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

static _Noreturn void become(char **argv, bool own_group, pid_t parent)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (own_group)
        setpgid(0, 0);
    /* If the parent died before this was set, nobody will tell us. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(EXIT_NO_COMMAND);
    execvp(argv[0], argv);
    fprintf(stderr, "muster: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(EXIT_NO_COMMAND);
}

bool child_start(struct child *c, char **argv)
{
    pid_t parent = getpid();

    *c = (struct child){.own_group = !isatty(STDIN_FILENO)};
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return false;
    if (pid == 0)
        become(argv, c->own_group, parent);
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

bool child_reap(struct child *c)
{
    if (c->pid != 0 && !c->is_over && waitpid(c->pid, &c->status, WNOHANG) == c->pid)
        c->is_over = true;
    return c->is_over;
}

int child_exit_code(const struct child *c)
{
    return WIFSIGNALED(c->status) ? 128 + WTERMSIG(c->status) : WEXITSTATUS(c->status);
}
