/* SPDX-License-Identifier: Apache-2.0 */
#include "host/check.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "host/clock.h"
#include "host/process.h"

enum { REQUEST_BYTES = 512, HEAD_LINE_MAX = 1024 };

struct check {
    struct checks *owner;
    struct check *next;
    uint64_t op;
    enum site_check_type type;
    uint32_t timeout_ms;
    uint64_t started_ms;
    bool is_told;    /* the result is given, or nobody wants it */
    bool is_closing; /* its handles are */
    bool is_waiting; /* for its turn to run a program */
    unsigned handles;
    uv_timer_t timer;

    /* tcp, http */
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    char request[REQUEST_BYTES];
    size_t seen; /* bytes of the answer */
    char line[HEAD_LINE_MAX];
    size_t line_len;
    bool is_line_done, is_interim; /* the line is complete; it is of a 1xx answer */

    /* exec */
    struct process *process;
    char path[SITE_PATH_MAX];
    char variables[3][SITE_NAME_MAX + 32];
};

struct checks {
    uv_loop_t *loop;
    struct check *all;
    unsigned n, programs;
    bool is_closing;
    check_done *done;
    void *ctx;
    char scratch[4096]; /* what a server sends is read here and looked at once */
};

static void start_waiting(struct checks *c);

static void on_handle_closed(uv_handle_t *handle)
{
    struct check *k = handle->data;
    struct checks *c = k->owner;

    if (--k->handles > 0)
        return;
    struct check **at = &c->all;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    c->n--;
    mem_free(k);
    if (c->is_closing && c->n == 0)
        mem_free(c);
}

static void close_check(struct check *k)
{
    k->is_told = true;
    if (k->is_closing)
        return;
    k->is_closing = true;
    if (k->process != NULL) {
        process_stop(k->process);
        k->process = NULL;
        k->owner->programs--;
    }
    uv_close((uv_handle_t *)&k->timer, on_handle_closed);
    if (k->type != SITE_CHECK_EXEC)
        uv_close((uv_handle_t *)&k->tcp, on_handle_closed);
}

static void tell(struct check *k, enum service_outcome outcome, int number, const char *text)
{
    const struct service_result r = {.outcome = outcome,
                                     .number = number,
                                     .took_ms = (uint32_t)(clock_now_ms() - k->started_ms),
                                     .text = text};

    if (k->is_told)
        return;
    k->is_told = true;
    k->owner->done(k->owner->ctx, k->op, &r);
}

static void finish(struct check *k, enum service_outcome outcome, int number, const char *text)
{
    tell(k, outcome, number, text);
    close_check(k);
}

static void on_time(uv_timer_t *timer)
{
    struct check *k = timer->data;

    if (k->is_waiting)
        finish(k, SERVICE_ERROR, 0, "too many programs run at once");
    else
        finish(k, SERVICE_NO_ANSWER, 0, NULL);
}

/* ---- tcp and http ---- */

static void fail_uv(struct check *k, int err)
{
    if (err == UV_ECONNREFUSED)
        finish(k, SERVICE_REFUSED, 0, NULL);
    else
        finish(k, SERVICE_ERROR, 0, uv_strerror(err));
}

/* "HTTP/1.1 200 OK" -> 200; 0: it is not a status line. RFC 9112, 4. */
static int status_of(const char *line, size_t len)
{
    if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[7] < '0' || line[7] > '9' ||
        line[8] != ' ' || (len > 12 && line[12] != ' ' && line[12] != '\r'))
        return 0;
    int status = 0;
    for (unsigned i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return 0;
        status = status * 10 + (line[i] - '0');
    }
    return status >= 100 && status <= 599 ? status : 0;
}

static void tell_status(struct check *k, int status)
{
    if (status == 0)
        finish(k, SERVICE_ERROR, 0, "the answer is not HTTP/1");
    else
        tell(k, status >= 200 && status <= 399 ? SERVICE_OK : SERVICE_STATUS, status, NULL);
}

/* Takes one line of the head without its end. An interim answer (1xx) is passed over up to
 * the empty line that ends it. */
static void take_line(struct check *k)
{
    size_t len =
        k->line_len > 0 && k->line[k->line_len - 1] == '\r' ? k->line_len - 1 : k->line_len;

    if (k->is_interim) {
        k->is_interim = len > 0;
        return;
    }
    int status = status_of(k->line, len);
    k->is_interim = status >= 100 && status < 200;
    if (!k->is_interim)
        tell_status(k, status);
}

static void take_head(struct check *k, const char *data, size_t n)
{
    for (size_t i = 0; i < n && !k->is_told; i++) {
        if (data[i] == '\n') {
            take_line(k);
            k->line_len = 0;
        } else if (k->line_len < sizeof k->line) {
            k->line[k->line_len++] = data[i]; /* what is cut off a long line is not missed */
        }
    }
    if (!k->is_told && k->seen > CHECK_HEAD_BYTES_MAX)
        finish(k, SERVICE_ERROR, 0, "the answer's head is too long");
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct checks *c = ((struct check *)handle->data)->owner;

    (void)suggested;
    *room = uv_buf_init(c->scratch, sizeof c->scratch);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct check *k = stream->data;

    if (n > 0) {
        k->seen += (size_t)n;
        if (!k->is_told)
            take_head(k, room->base, (size_t)n);
        if (k->is_told && k->seen > CHECK_REST_BYTES_MAX)
            close_check(k);
    } else if (n == UV_EOF) {
        finish(k, SERVICE_ERROR, 0, "the connection was closed without an answer");
    } else if (n < 0) {
        fail_uv(k, (int)n);
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct check *k = write->data;

    /* A server may answer and close before it has read all: then the answer counts. */
    if (status < 0 && status != UV_ECANCELED && status != UV_EPIPE && status != UV_ECONNRESET)
        fail_uv(k, status);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct check *k = connect->data;

    if (k->is_closing)
        return;
    if (status < 0) {
        fail_uv(k, status);
        return;
    }
    if (k->type == SITE_CHECK_TCP) {
        finish(k, SERVICE_OK, 0, NULL);
        return;
    }
    uv_buf_t data = uv_buf_init(k->request, (unsigned)strlen(k->request));
    k->write.data = k;
    int err = uv_write(&k->write, (uv_stream_t *)&k->tcp, &data, 1, on_written);
    if (err == 0)
        err = uv_read_start((uv_stream_t *)&k->tcp, give_room, on_read);
    if (err != 0)
        fail_uv(k, err);
}

/* Only what one line of a request may hold. */
static bool is_path(const char *path)
{
    if (*path != '/')
        return false;
    for (; *path != 0; path++)
        if ((unsigned char)*path <= ' ' || *path == 0x7f)
            return false;
    return true;
}

static int start_tcp(struct check *k, const struct service_check *spec)
{
    struct sockaddr_in to;

    uv_tcp_init(k->owner->loop, &k->tcp);
    k->tcp.data = k;
    k->handles++;
    if (uv_ip4_addr(spec->address, spec->port, &to) != 0)
        return UV_EINVAL;
    if (k->type == SITE_CHECK_HTTP) {
        if (!is_path(spec->path))
            return UV_EINVAL;
        int n = snprintf(k->request, sizeof k->request,
                         "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: muster-check\r\n"
                         "Accept: */*\r\nConnection: close\r\n\r\n",
                         spec->path, spec->address, (unsigned)spec->port);
        if (n < 0 || (size_t)n >= sizeof k->request)
            return UV_ENAMETOOLONG;
    }
    k->connect.data = k;
    return uv_tcp_connect(&k->connect, &k->tcp, (const struct sockaddr *)&to, on_connected);
}

/* ---- exec ---- */

static void on_process_done(void *ctx, const struct process_result *r)
{
    struct check *k = ctx;
    struct checks *c = k->owner;

    k->process = NULL;
    c->programs--;
    if (r->err != 0)
        finish(k, SERVICE_ERROR, 0, uv_strerror(r->err));
    else if (r->timed_out)
        finish(k, SERVICE_NO_ANSWER, 0, r->line);
    else if (r->signal != 0)
        finish(k, SERVICE_SIGNAL, r->signal, r->line);
    else
        finish(k, r->exit_code == 0 ? SERVICE_OK : SERVICE_EXIT, r->exit_code, r->line);
    start_waiting(c);
}

static void start_program(struct check *k)
{
    const char *const argv[] = {k->path, NULL};
    const char *const variables[] = {k->variables[0], k->variables[1], k->variables[2], NULL};
    uint64_t late_ms = clock_now_ms() - k->started_ms;
    const struct process_spec spec = {
        .argv = argv,
        .variables = variables,
        .timeout_ms = late_ms < k->timeout_ms ? k->timeout_ms - (uint32_t)late_ms : 1};

    /* The process has its own limit, so that what it wrote until then is told. */
    k->is_waiting = false;
    uv_timer_stop(&k->timer);
    k->owner->programs++;
    k->process = process_run(k->owner->loop, &spec, on_process_done, k);
}

static void start_waiting(struct checks *c)
{
    while (c->programs < CHECKS_PROGRAMS_MAX) {
        struct check *oldest = NULL; /* new ones are put in front */
        for (struct check *k = c->all; k != NULL; k = k->next)
            if (k->is_waiting && !k->is_closing)
                oldest = k;
        if (oldest == NULL)
            return;
        start_program(oldest);
    }
}

static void start_exec(struct check *k, const struct service_check *spec)
{
    snprintf(k->path, sizeof k->path, "%s", spec->path);
    snprintf(k->variables[0], sizeof k->variables[0], "MUSTER_SERVICE=%s", spec->service);
    snprintf(k->variables[1], sizeof k->variables[1], "MUSTER_ADDRESS=%s", spec->address);
    snprintf(k->variables[2], sizeof k->variables[2], "MUSTER_PORT=%u", (unsigned)spec->port);
    k->is_waiting = true;
    start_waiting(k->owner);
}

/* ---- all ---- */

struct checks *checks_new(uv_loop_t *loop, check_done *done, void *ctx)
{
    struct checks *c = mem_new(struct checks);

    c->loop = loop;
    c->done = done;
    c->ctx = ctx;
    return c;
}

void checks_close(struct checks *c)
{
    c->is_closing = true;
    for (struct check *k = c->all; k != NULL; k = k->next)
        close_check(k);
    if (c->n == 0)
        mem_free(c);
}

static void on_failed_start(uv_timer_t *timer)
{
    struct check *k = timer->data;

    finish(k, SERVICE_ERROR, 0, k->line);
}

int checks_run(struct checks *c, uint64_t op, const struct service_check *spec)
{
    if (c->n == CHECKS_MAX)
        return ERR_BUSY;
    struct check *k = mem_new(struct check);
    k->owner = c;
    k->op = op;
    k->type = spec->type;
    k->timeout_ms = spec->timeout_ms;
    k->started_ms = clock_now_ms();
    /* The loop's time is that of its last turn: by it the limit would come too soon. */
    uv_update_time(c->loop);
    k->next = c->all;
    c->all = k;
    c->n++;
    k->handles = 1;
    uv_timer_init(c->loop, &k->timer);
    k->timer.data = k;
    uv_timer_start(&k->timer, on_time, spec->timeout_ms, 0);
    if (spec->type == SITE_CHECK_EXEC) {
        start_exec(k, spec);
        return 0;
    }
    int err = start_tcp(k, spec);
    if (err != 0) { /* told from the loop, as every result */
        snprintf(k->line, sizeof k->line, "%s", uv_strerror(err));
        uv_timer_start(&k->timer, on_failed_start, 0, 0);
    }
    return 0;
}

void checks_stop(struct checks *c, uint64_t op)
{
    for (struct check *k = c->all; k != NULL; k = k->next) {
        if (k->op == op && !k->is_closing) {
            close_check(k);
            start_waiting(c);
            return;
        }
    }
}
