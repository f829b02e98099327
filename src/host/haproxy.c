/* SPDX-License-Identifier: Apache-2.0 */
#include "host/haproxy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "host/clock.h"
#include "host/files.h"
#include "host/process.h"
#include "host/unix_ask.h"

/* PATH_ROOM: the socket's name limits that of the directory, and so all others. */
enum {
    POLL_MS = 50,
    CONFIG_BYTES_MAX = 4 << 20,
    COMMAND_LINE_MAX = 4096,
    PID_BYTES_MAX = 32,
    PATH_ROOM = sizeof(((struct sockaddr_un *)NULL)->sun_path),
    SOCKET_SUFFIX = 16, /* HAProxy binds to a temporary name: the socket's and some digits */
};

struct job {
    struct job *next;
    char *config; /* NULL: end it */
    char **commands;
    size_t commands_n, command; /* the one that is asked */
    bool reload;
    haproxy_done *done;
    void *ctx;
};

/* A file on its way to the disk, in libuv's pool: a disk that is stuck must not stop the loop,
 * and with it the heartbeats and leases of this machine. */
struct writing {
    uv_work_t work;
    struct haproxy *h;                       /* NULL: closed meanwhile */
    char path[PATH_ROOM], remove[PATH_ROOM]; /* remove: a file that goes first; or "" */
    char *text;
    int err;
    void (*then)(struct haproxy *h, int err);
};

struct haproxy {
    uv_loop_t *loop;
    char program[256], file[PATH_ROOM], candidate[PATH_ROOM], output[PATH_ROOM];
    char pid_file[PATH_ROOM], master_socket[PATH_ROOM], socket[PATH_ROOM];
    void (*on_lost)(void *ctx);
    void *ctx;

    uv_process_t *child; /* the master, when it is our child: to be reaped */
    int pid;             /* of the master that runs; 0: none does */
    int pidfd;           /* readable when it has ended */
    uv_poll_t *ended;    /* on pidfd */

    struct job *jobs; /* the first is under way */
    unsigned jobs_n;
    struct writing *writing;
    struct process *check;
    struct unix_ask *question;
    uv_timer_t timer;
    uint64_t limit_ms;        /* until when a start or reload may take */
    unsigned reloads;         /* of the master, before this reload */
    struct buf earlier;       /* the file before this job */
    bool has_earlier, is_new; /* is_new: this job started the process */
    char failure[HAPROXY_REASON_MAX];
    bool is_lost; /* it has ended during a job */
    bool is_closing;
};

static void next_job(struct haproxy *h);

/* ---- files ---- */

static void write_in_pool(uv_work_t *work)
{
    struct writing *w = work->data;

    if (w->remove[0] != 0)
        unlink(w->remove);
    w->err = file_write(w->path, w->text, strlen(w->text), 0600);
}

static void written(uv_work_t *work, int status)
{
    struct writing *w = work->data;
    struct haproxy *h = w->h;

    (void)status; /* it is never cancelled */
    if (h != NULL) {
        h->writing = NULL;
        w->then(h, w->err);
    }
    mem_free(w->text);
    mem_free(w);
}

static void write_file(struct haproxy *h, const char *path, const char *remove,
                       void (*then)(struct haproxy *h, int err))
{
    struct writing *w = mem_new(struct writing);

    w->h = h;
    w->work.data = w;
    w->then = then;
    w->text = mem_dup_str(h->jobs->config);
    snprintf(w->path, sizeof w->path, "%s", path);
    snprintf(w->remove, sizeof w->remove, "%s", remove);
    h->writing = w;
    CHECK(uv_queue_work(h->loop, &w->work, write_in_pool, written) == 0);
}

/* ---- text from HAProxy ---- */

bool haproxy_is_confirmed(const char *answer)
{
    static const char *const good[] = {
        "New server registered.",     "Server deleted.",
        "no need to change the addr", /* set server ... addr: what was changed, and what not */
        "IP changed from ",           "nothing changed",
    };

    answer += strspn(answer, " \t\r\n");
    if (*answer == 0)
        return true;
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++)
        if (strncmp(answer, good[i], strlen(good[i])) == 0)
            return true;
    return false;
}

bool haproxy_parse_processes(const char *text, struct haproxy_processes *out)
{
    bool has_master = false, has_worker = false, is_old = false;

    *out = (struct haproxy_processes){0};
    while (*text != 0) {
        int pid;
        char type[16];
        unsigned reloads, failed;
        int found = sscanf(text, "%9d %15s %9u [failed: %9u]", &pid, type, &reloads, &failed);
        if (strncmp(text, "# old workers", 13) == 0)
            is_old = true;
        if (found == 4 && strcmp(type, "master") == 0) {
            has_master = pid > 0;
            out->master = pid;
            out->reloads = reloads;
            out->failed = failed;
        } else if (found >= 3 && strcmp(type, "worker") == 0 && !is_old && !has_worker) {
            has_worker = true;
            out->worker = pid;
            out->worker_reloads = reloads;
        }
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return has_master && has_worker;
}

void haproxy_alert(const char *text, char *out, size_t size)
{
    const char *line = strstr(text, "[ALERT]");

    if (line == NULL)
        line = text + strspn(text, " \t\r\n");
    else if (strstr(line, ") : ") != NULL)
        line = strstr(line, ") : ") + 4;
    if (strncmp(line, "config : ", 9) == 0)
        line += 9;
    snprintf(out, size, "%.*s", (int)strcspn(line, "\r\n"), line);
}

/* ---- the process ---- */

static bool is_option(const char *args, size_t len, const char *option, const char *value)
{
    const char *end = args + len;
    bool is_next = false;

    for (const char *arg = args; arg < end; arg += strlen(arg) + 1) {
        if (is_next && strcmp(arg, value) == 0)
            return true;
        is_next = strcmp(arg, option) == 0;
    }
    return false;
}

/* The same program (also an older one that an upgrade has replaced), with our file. */
static bool is_ours(const struct haproxy *h, int pid)
{
    char path[64], program[PATH_MAX], exe[PATH_MAX];
    struct buf args = {0};

    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t n = readlink(path, exe, sizeof exe - 1);
    if (n <= 0 || realpath(h->program, program) == NULL)
        return false;
    exe[n] = 0;
    size_t len = strlen(program);
    if (strncmp(exe, program, len) != 0 ||
        (exe[len] != 0 && strcmp(exe + len, " (deleted)") != 0))
        return false;
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    bool is_it = file_read(path, COMMAND_LINE_MAX, &args) == 0 && args.len > 0 &&
                 args.data[args.len - 1] == 0 &&
                 is_option((const char *)args.data, args.len, "-f", h->file) &&
                 is_option((const char *)args.data, args.len, "-S", h->master_socket);
    buf_free(&args);
    return is_it;
}

static void on_poll_closed(uv_handle_t *handle)
{
    close((int)(intptr_t)handle->data);
    mem_free(handle);
}

static void forget(struct haproxy *h)
{
    if (h->pid == 0)
        return;
    h->ended->data = (void *)(intptr_t)h->pidfd;
    uv_close((uv_handle_t *)h->ended, on_poll_closed);
    h->ended = NULL;
    h->pid = 0;
}

static void on_ended(uv_poll_t *poll, int status, int events)
{
    struct haproxy *h = poll->data;

    (void)status, (void)events;
    forget(h);
    h->is_lost = h->jobs != NULL; /* then finish() tells, unless the job starts another */
    if (!h->is_lost)
        h->on_lost(h->ctx);
}

/* True when it runs and is ours. The check comes after the pidfd is there, so that the
 * number cannot have gone to another process in between. */
static bool adopt(struct haproxy *h, int pid)
{
    if (pid <= 0 || pid == h->pid)
        return pid > 0;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return false;
    if (!is_ours(h, pid)) {
        close(fd);
        return false;
    }
    forget(h);
    h->pid = pid;
    h->pidfd = fd;
    h->ended = mem_new(uv_poll_t);
    uv_poll_init(h->loop, h->ended, fd);
    h->ended->data = h;
    uv_poll_start(h->ended, UV_READABLE, on_ended);
    return true;
}

static void signal_it(struct haproxy *h, int number)
{
    if (h->pid != 0)
        syscall(SYS_pidfd_send_signal, h->pidfd, number, NULL, 0);
}

/* Who listens on the master socket: for a pid file that was lost. */
static int listener_of(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct ucred who = {0};
    socklen_t len = sizeof who;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    memcpy(to.sun_path, path, strnlen(path, sizeof to.sun_path - 1));
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
        who.pid = 0;
    close(fd);
    return who.pid;
}

static bool find(struct haproxy *h)
{
    struct buf text = {0};
    int pid = 0;

    if (h->pid != 0)
        return true;
    if (file_read(h->pid_file, PID_BYTES_MAX, &text) == 0)
        pid = atoi(buf_text(&text));
    buf_free(&text);
    return adopt(h, pid) || adopt(h, listener_of(h->master_socket));
}

static void on_child_closed(uv_handle_t *handle) { mem_free(handle); }

static void on_child_exit(uv_process_t *child, int64_t exit_code, int signal)
{
    struct haproxy *h = child->data;

    (void)exit_code, (void)signal; /* reaped; on_ended() and haproxy.out tell the rest */
    if (h->child == child)
        h->child = NULL;
    uv_close((uv_handle_t *)child, on_child_closed);
}

/* 0 or a uv error. The output is a file: a pipe that nobody reads would stop HAProxy. */
static int start(struct haproxy *h)
{
    char *args[] = {h->program, "-W",        "-S", h->master_socket, "-f", h->file,
                    "-p",       h->pid_file, NULL};
    int fd = open(h->output, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = fd},
                                     {.flags = UV_INHERIT_FD, .data.fd = fd}};
    const uv_process_options_t options = {.exit_cb = on_child_exit,
                                          .file = h->program,
                                          .args = args,
                                          .cwd = "/",
                                          .flags = UV_PROCESS_DETACHED,
                                          .stdio_count = 3,
                                          .stdio = stdio};
    if (fd < 0)
        return uv_translate_sys_error(errno);
    uv_process_t *child = mem_new(uv_process_t);
    int err = uv_spawn(h->loop, child, &options);
    close(fd);
    if (err != 0) {
        uv_close((uv_handle_t *)child, on_child_closed);
        return err;
    }
    child->data = h;
    h->child = child;
    /* It is our child, just made: its command line may not be there yet. */
    int pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (pidfd < 0)
        return uv_translate_sys_error(errno);
    h->pid = child->pid;
    h->pidfd = pidfd;
    h->ended = mem_new(uv_poll_t);
    uv_poll_init(h->loop, h->ended, pidfd);
    h->ended->data = h;
    uv_poll_start(h->ended, UV_READABLE, on_ended);
    return 0;
}

static void limit_output(struct haproxy *h)
{
    struct stat s;

    if (stat(h->output, &s) == 0 && s.st_size > HAPROXY_OUTPUT_MAX &&
        truncate(h->output, 0) != 0)
        unlink(h->output);
}

/* ---- jobs ---- */

static void free_job(struct job *j)
{
    for (size_t i = 0; i < j->commands_n; i++)
        mem_free(j->commands[i]);
    mem_free(j->commands);
    mem_free(j->config);
    mem_free(j);
}

static void finish(struct haproxy *h, int err, const char *why)
{
    struct job *j = h->jobs;

    h->jobs = j->next;
    h->jobs_n--;
    /* done() may put a job; where none waits, that starts itself, and must not run twice. */
    bool is_more = h->jobs != NULL;
    snprintf(h->failure, sizeof h->failure, "%s", err != 0 ? why : "");
    buf_clear(&h->earlier);
    h->has_earlier = h->is_new = false;
    bool is_lost = h->is_lost && h->pid == 0 && j->config != NULL;
    h->is_lost = false;
    if (j->done != NULL)
        j->done(j->ctx, err, h->failure);
    free_job(j);
    if (is_lost && !h->is_closing)
        h->on_lost(h->ctx);
    if (!h->is_closing && is_more)
        next_job(h);
}

static void finish_with_output(struct haproxy *h, const char *what)
{
    char why[HAPROXY_REASON_MAX], alert[HAPROXY_REASON_MAX - 64] = "";
    struct buf text = {0};

    /* The last words: a reload's come after those of the start. */
    if (file_read(h->output, HAPROXY_OUTPUT_MAX * 2, &text) == 0) {
        const char *all = buf_text(&text), *last = all;
        for (const char *at = all; (at = strstr(at, "Reloading HAProxy")) != NULL; at++)
            last = at;
        if (strstr(last, "[ALERT]") != NULL)
            haproxy_alert(last, alert, sizeof alert);
    }
    buf_free(&text);
    snprintf(why, sizeof why, "%s%s%s", what, *alert != 0 ? ": " : "", alert);
    finish(h, ERR_REFUSED, why);
}

/* On the loop: HAProxy has just failed with the new file, and the next job must find the old.
 */
static void put_back_file(struct haproxy *h)
{
    if (h->has_earlier)
        file_write(h->file, h->earlier.data, h->earlier.len, 0600);
}

static void ask_processes(struct haproxy *h);

static void on_poll_time(uv_timer_t *timer)
{
    struct haproxy *h = timer->data;

    if (h->jobs->config == NULL) { /* it was told to end */
        if (h->pid == 0) {
            finish(h, 0, "");
        } else if (clock_now_ms() < h->limit_ms) {
            uv_timer_start(timer, on_poll_time, POLL_MS, 0);
        } else {
            signal_it(h, SIGKILL);
            finish(h, ERR_TIMED_OUT, "HAProxy did not end and was killed");
        }
    } else if (h->pid == 0) {
        put_back_file(h);
        finish_with_output(h, "HAProxy ended at once");
    } else if (clock_now_ms() >= h->limit_ms) {
        put_back_file(h);
        finish_with_output(h, "HAProxy did not come up in time");
    } else {
        ask_processes(h);
    }
}

static void on_processes(void *ctx, int err, char *answer)
{
    struct haproxy *h = ctx;
    struct haproxy_processes p;

    h->question = NULL;
    if (err != 0 || !haproxy_parse_processes(answer, &p) || p.master != h->pid ||
        (!h->is_new && p.reloads <= h->reloads)) {
        uv_timer_start(&h->timer, on_poll_time, POLL_MS, 0);
    } else if (p.failed > 0 || p.worker_reloads > 0) {
        put_back_file(h);
        finish_with_output(h, "HAProxy did not take the new configuration");
    } else {
        finish(h, 0, "");
    }
}

static void ask_processes(struct haproxy *h)
{
    h->question = unix_ask(h->loop, h->master_socket, "show proc", HAPROXY_ANSWER_LIMIT_MS,
                           on_processes, h);
}

static void on_count_before_reload(void *ctx, int err, char *answer)
{
    struct haproxy *h = ctx;
    struct haproxy_processes p;

    h->question = NULL;
    if (h->pid == 0 || err != 0 || !haproxy_parse_processes(answer, &p)) {
        /* Busy with an earlier reload, or not there: look again, within the limit. */
        if (h->pid == 0 || clock_now_ms() >= h->limit_ms) {
            put_back_file(h);
            finish_with_output(h, "HAProxy's master does not answer");
            return;
        }
        h->question = unix_ask(h->loop, h->master_socket, "show proc", HAPROXY_ANSWER_LIMIT_MS,
                               on_count_before_reload, h);
        return;
    }
    h->reloads = p.reloads;
    signal_it(h, SIGUSR2);
    uv_timer_start(&h->timer, on_poll_time, POLL_MS, 0);
}

static void ask_command(struct haproxy *h);

static void on_command(void *ctx, int err, char *answer)
{
    struct haproxy *h = ctx;
    struct job *j = h->jobs;
    char why[HAPROXY_REASON_MAX];

    h->question = NULL;
    if (err != 0 || !haproxy_is_confirmed(answer)) {
        const char *words = answer + strspn(answer, " \t\r\n");
        size_t len = strcspn(words, "\r\n");
        snprintf(why, sizeof why, "HAProxy answered \"%.*s\" to \"%.120s\"",
                 len < 120 && err == 0 ? (int)len : 120, err != 0 ? err_text(err) : words,
                 j->commands[j->command]);
        finish(h, ERR_REFUSED, why);
        return;
    }
    j->command++;
    ask_command(h);
}

static void ask_command(struct haproxy *h)
{
    struct job *j = h->jobs;

    if (j->command == j->commands_n)
        finish(h, 0, "");
    else
        h->question = unix_ask(h->loop, h->socket, j->commands[j->command],
                               HAPROXY_ANSWER_LIMIT_MS, on_command, h);
}

/* The new file has its name. */
static void make_it_so(struct haproxy *h)
{
    h->limit_ms = clock_now_ms() + HAPROXY_START_LIMIT_MS;
    limit_output(h);
    if (!find(h)) {
        int err = start(h);
        if (err != 0) {
            put_back_file(h);
            finish(h, ERR_SYSTEM, uv_strerror(err));
            return;
        }
        h->is_new = true;
        uv_timer_start(&h->timer, on_poll_time, POLL_MS, 0);
    } else if (h->jobs->reload) {
        h->question = unix_ask(h->loop, h->master_socket, "show proc", HAPROXY_ANSWER_LIMIT_MS,
                               on_count_before_reload, h);
    } else {
        ask_command(h);
    }
}

static void on_file_written(struct haproxy *h, int err)
{
    if (err != 0)
        finish(h, err, err_text(err));
    else
        make_it_so(h);
}

static void on_checked(void *ctx, const struct process_result *r)
{
    struct haproxy *h = ctx;
    char alert[HAPROXY_REASON_MAX - 64], why[HAPROXY_REASON_MAX];

    h->check = NULL;
    if (r->err != 0 || r->timed_out || r->exit_code != 0 || r->signal != 0) {
        haproxy_alert(r->errors, alert, sizeof alert);
        snprintf(why, sizeof why, "HAProxy refuses the configuration: %s",
                 r->err != 0    ? uv_strerror(r->err)
                 : r->timed_out ? "no verdict in time"
                                : alert);
        unlink(h->candidate);
        finish(h, ERR_REFUSED, why);
        return;
    }
    h->has_earlier = file_read(h->file, CONFIG_BYTES_MAX, &h->earlier) == 0;
    write_file(h, h->file, h->candidate, on_file_written);
}

static void on_candidate_written(struct haproxy *h, int err)
{
    const char *const argv[] = {h->program, "-c", "-f", h->candidate, NULL};
    const struct process_spec spec = {.argv = argv, .timeout_ms = HAPROXY_CHECK_LIMIT_MS};

    if (err != 0)
        finish(h, err, err_text(err));
    else
        h->check = process_run(h->loop, &spec, on_checked, h);
}

static void next_job(struct haproxy *h)
{
    if (h->jobs->config == NULL) {
        h->limit_ms = clock_now_ms() + HAPROXY_START_LIMIT_MS;
        find(h);
        signal_it(h, SIGTERM);
        uv_timer_start(&h->timer, on_poll_time, 0, 0);
        return;
    }
    write_file(h, h->candidate, "", on_candidate_written);
}

static void on_first_time(uv_timer_t *timer) { next_job(timer->data); }

static void put_job(struct haproxy *h, struct job *j)
{
    struct job **at = &h->jobs;

    while (*at != NULL)
        at = &(*at)->next;
    *at = j;
    /* From the loop, so that a failure is not told from within the call. */
    if (h->jobs_n++ == 0)
        uv_timer_start(&h->timer, on_first_time, 0, 0);
}

int haproxy_set(struct haproxy *h, const char *config, const char *const *commands,
                size_t commands_n, bool reload, haproxy_done *done, void *ctx)
{
    if (h->jobs_n == HAPROXY_QUEUE_MAX)
        return ERR_BUSY;
    struct job *j = mem_new(struct job);
    j->config = mem_dup_str(config);
    j->commands = mem_new_array(char *, commands_n + 1);
    for (; j->commands_n < commands_n; j->commands_n++)
        j->commands[j->commands_n] = mem_dup_str(commands[j->commands_n]);
    j->reload = reload;
    j->done = done;
    j->ctx = ctx;
    put_job(h, j);
    return 0;
}

int haproxy_stop(struct haproxy *h, haproxy_done *done, void *ctx)
{
    if (h->jobs_n == HAPROXY_QUEUE_MAX)
        return ERR_BUSY;
    struct job *j = mem_new(struct job);
    j->done = done;
    j->ctx = ctx;
    put_job(h, j);
    return 0;
}

/* ---- the start and the end ---- */

static bool put_text(char *out, size_t room, const char *a, const char *b)
{
    return (size_t)snprintf(out, room, "%s%s", a, b) < room;
}

int haproxy_open(struct haproxy **out, uv_loop_t *loop, const struct haproxy_options *o)
{
    if (access(o->program, X_OK) != 0)
        return ERR_NOT_FOUND;
    struct haproxy *h = mem_new(struct haproxy);
    bool fits = put_text(h->program, sizeof h->program, o->program, "") &&
                put_text(h->socket, sizeof h->socket - SOCKET_SUFFIX, o->socket, "") &&
                put_text(h->master_socket, sizeof h->master_socket - SOCKET_SUFFIX, o->dir,
                         "/haproxy.master") &&
                put_text(h->file, sizeof h->file, o->dir, "/haproxy.cfg") &&
                put_text(h->candidate, sizeof h->candidate, o->dir, "/haproxy.check") &&
                put_text(h->output, sizeof h->output, o->dir, "/haproxy.out") &&
                put_text(h->pid_file, sizeof h->pid_file, o->dir, "/haproxy.pid");
    if (!fits) {
        mem_free(h);
        return ERR_TOO_BIG;
    }
    h->loop = loop;
    h->on_lost = o->on_lost;
    h->ctx = o->ctx;
    uv_timer_init(loop, &h->timer);
    h->timer.data = h;
    find(h);
    *out = h;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct haproxy *h = handle->data;

    buf_free(&h->earlier);
    mem_free(h);
}

void haproxy_close(struct haproxy *h)
{
    h->is_closing = true;
    if (h->writing != NULL)
        h->writing->h = NULL;
    if (h->check != NULL)
        process_stop(h->check);
    if (h->question != NULL)
        unix_ask_stop(h->question);
    forget(h);
    if (h->child != NULL)
        uv_close((uv_handle_t *)h->child, on_child_closed);
    while (h->jobs != NULL) {
        struct job *j = h->jobs;
        h->jobs = j->next;
        free_job(j);
    }
    uv_close((uv_handle_t *)&h->timer, on_timer_closed);
}

bool haproxy_is_running(const struct haproxy *h) { return h->pid != 0; }

const char *haproxy_failure(const struct haproxy *h) { return h->failure; }
