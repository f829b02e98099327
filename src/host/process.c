/* SPDX-License-Identifier: Apache-2.0 */
#include "host/process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "host/clock.h"

extern char **environ;

struct stream {
    uv_pipe_t pipe;
    size_t len;
    bool is_ended;
    char text[PROCESS_OUTPUT_MAX + 1];
};

struct process {
    uv_process_t process;
    uv_timer_t timer;
    struct stream out, errors;
    char scratch[1024]; /* where output goes that is not kept */
    unsigned handles;
    bool has_ended, is_over; /* the program; all of it, handles are closing */
    uint64_t started_ms;
    struct process_result result;
    process_done *done; /* NULL: nobody wants to know */
    void *ctx;
};

static void on_closed(uv_handle_t *handle)
{
    struct process *p = handle->data;

    if (--p->handles == 0)
        mem_free(p);
}

static void close_all(struct process *p)
{
    p->is_over = true;
    uv_close((uv_handle_t *)&p->process, on_closed);
    uv_close((uv_handle_t *)&p->timer, on_closed);
    uv_close((uv_handle_t *)&p->out.pipe, on_closed);
    uv_close((uv_handle_t *)&p->errors.pipe, on_closed);
}

/* Cuts out the first line that has text; false: there is none. */
static bool first_line(char *text, const char **line)
{
    char *start = text + strspn(text, " \t\r\n");

    start[strcspn(start, "\r\n")] = 0;
    *line = start;
    return *start != 0;
}

static void finish(struct process *p)
{
    process_done *done = p->done;
    char errors[PROCESS_OUTPUT_MAX + 1];

    p->done = NULL;
    close_all(p);
    if (done == NULL)
        return;
    memcpy(errors, p->errors.text, sizeof errors);
    p->result.errors = errors;
    p->result.took_ms = (uint32_t)(clock_now_ms() - p->started_ms);
    if (!first_line(p->errors.text, &p->result.line))
        first_line(p->out.text, &p->result.line);
    done(p->ctx, &p->result);
}

static void on_time(uv_timer_t *timer)
{
    struct process *p = timer->data;

    if (p->has_ended || p->result.err != 0) {
        finish(p);
        return;
    }
    /* Its group cannot be another's yet: it is not reaped before on_exit(). */
    p->result.timed_out = true;
    kill(-p->process.pid, SIGKILL);
    kill(p->process.pid, SIGKILL);
}

static void on_exit(uv_process_t *process, int64_t exit_code, int signal)
{
    struct process *p = process->data;

    p->has_ended = true;
    p->result.exit_code = (int)exit_code;
    p->result.signal = signal;
    if (p->is_over)
        return;
    if (p->out.is_ended && p->errors.is_ended)
        finish(p);
    else /* a child that it left behind may hold the pipes open for ever */
        uv_timer_start(&p->timer, on_time, PROCESS_LAST_WORDS_MS, 0);
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct process *p = handle->data;
    struct stream *s = handle == (uv_handle_t *)&p->out.pipe ? &p->out : &p->errors;
    size_t left = PROCESS_OUTPUT_MAX - s->len;

    (void)suggested;
    *room = left > 0 ? uv_buf_init(s->text + s->len, (unsigned)left)
                     : uv_buf_init(p->scratch, sizeof p->scratch);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct process *p = stream->data;
    struct stream *s = stream == (uv_stream_t *)&p->out.pipe ? &p->out : &p->errors;

    if (n > 0 && room->base != p->scratch)
        s->len += (size_t)n;
    if (n >= 0)
        return;
    s->is_ended = true;
    uv_read_stop(stream);
    if (p->has_ended && p->out.is_ended && p->errors.is_ended && !p->is_over)
        finish(p);
}

static char **with_variables(const char *const *variables)
{
    size_t n = 0, more = 0;

    while (environ[n] != NULL)
        n++;
    while (variables != NULL && variables[more] != NULL)
        more++;
    CHECK(more <= PROCESS_VARIABLES_MAX);
    char **v = mem_new_array(char *, n + more + 1);
    /* Ours first: of two with one name, programs see the first. */
    for (size_t i = 0; i < more; i++)
        v[i] = (char *)(uintptr_t)variables[i];
    memcpy(v + more, environ, n * sizeof *v);
    return v;
}

struct process *process_run(uv_loop_t *loop, const struct process_spec *spec,
                            process_done *done, void *ctx)
{
    struct process *p = mem_new(struct process);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&p->out.pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&p->errors.pipe},
    };
    char **environment = with_variables(spec->variables);
    const uv_process_options_t options = {
        .exit_cb = on_exit,
        .file = spec->argv[0],
        .args = (char **)(uintptr_t)spec->argv,
        .env = environment,
        .flags = UV_PROCESS_DETACHED,
        .stdio_count = 3,
        .stdio = stdio,
    };

    p->done = done;
    p->ctx = ctx;
    p->handles = 4;
    p->started_ms = clock_now_ms();
    uv_timer_init(loop, &p->timer);
    uv_pipe_init(loop, &p->out.pipe, 0);
    uv_pipe_init(loop, &p->errors.pipe, 0);
    p->timer.data = p->out.pipe.data = p->errors.pipe.data = p->process.data = p;
    p->result.err = uv_spawn(loop, &p->process, &options);
    p->process.data = p;
    mem_free(environment);
    if (p->result.err != 0) {
        uv_timer_start(&p->timer, on_time, 0, 0);
        return p;
    }
    uv_read_start((uv_stream_t *)&p->out.pipe, give_room, on_read);
    uv_read_start((uv_stream_t *)&p->errors.pipe, give_room, on_read);
    uv_timer_start(&p->timer, on_time, spec->timeout_ms, 0);
    return p;
}

void process_stop(struct process *p)
{
    p->done = NULL;
    if (p->has_ended || p->result.err != 0) {
        if (!p->is_over)
            close_all(p);
        return;
    }
    /* Stays until on_exit(), so that it is reaped. */
    uv_timer_start(&p->timer, on_time, 0, 0);
}
