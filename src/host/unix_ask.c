/* SPDX-License-Identifier: Apache-2.0 */
#include "host/unix_ask.h"

#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct unix_ask {
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_write_t write;
    uv_shutdown_t shutdown;
    char *line;
    struct buf answer;
    unsigned handles;
    unix_ask_done *done; /* NULL: it is over */
    void *ctx;
};

static void on_closed(uv_handle_t *handle)
{
    struct unix_ask *q = handle->data;

    if (--q->handles > 0)
        return;
    buf_free(&q->answer);
    mem_free(q->line);
    mem_free(q);
}

static void close_all(struct unix_ask *q)
{
    q->done = NULL;
    uv_close((uv_handle_t *)&q->pipe, on_closed);
    uv_close((uv_handle_t *)&q->timer, on_closed);
}

static void finish(struct unix_ask *q, int err)
{
    unix_ask_done *done = q->done;
    char nothing[1] = "";

    if (done == NULL)
        return;
    close_all(q);
    buf_text(&q->answer);
    done(q->ctx, err, q->answer.data != NULL ? (char *)q->answer.data : nothing);
}

static void on_time(uv_timer_t *timer) { finish(timer->data, ERR_TIMED_OUT); }

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct unix_ask *q = handle->data;

    (void)suggested;
    *room = uv_buf_init((char *)buf_reserve(&q->answer, 2048), 2048);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct unix_ask *q = stream->data;

    (void)room;
    if (n > 0)
        buf_added(&q->answer, (size_t)n);
    if (q->answer.len > UNIX_ASK_ANSWER_MAX)
        finish(q, ERR_TOO_BIG);
    else if (n == UV_EOF)
        finish(q, 0);
    else if (n < 0)
        finish(q, ERR_CONNECTION_LOST);
}

static void on_written(uv_write_t *write, int status)
{
    if (status < 0 && status != UV_ECANCELED)
        finish(write->data, ERR_CONNECTION_LOST);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct unix_ask *q = connect->data;

    if (q->done == NULL)
        return;
    if (status < 0) {
        finish(q, status == UV_ECONNREFUSED || status == UV_ENOENT ? ERR_REFUSED : ERR_SYSTEM);
        return;
    }
    uv_buf_t data = uv_buf_init(q->line, (unsigned)strlen(q->line));
    /* HAProxy's master ends a connection only when its other end is done. */
    q->write.data = q;
    if (uv_write(&q->write, (uv_stream_t *)&q->pipe, &data, 1, on_written) != 0 ||
        uv_shutdown(&q->shutdown, (uv_stream_t *)&q->pipe, NULL) != 0 ||
        uv_read_start((uv_stream_t *)&q->pipe, give_room, on_read) != 0)
        finish(q, ERR_SYSTEM);
}

struct unix_ask *unix_ask(uv_loop_t *loop, const char *path, const char *line,
                          uint32_t timeout_ms, unix_ask_done *done, void *ctx)
{
    struct unix_ask *q = mem_new(struct unix_ask);
    size_t len = strlen(line);

    q->line = mem_alloc(len + 2);
    memcpy(q->line, line, len);
    q->line[len] = '\n';
    q->done = done;
    q->ctx = ctx;
    q->handles = 2;
    uv_pipe_init(loop, &q->pipe, 0);
    uv_timer_init(loop, &q->timer);
    q->pipe.data = q->timer.data = q->connect.data = q;
    uv_timer_start(&q->timer, on_time, timeout_ms, 0);
    uv_pipe_connect(&q->connect, &q->pipe, path, on_connected);
    return q;
}

void unix_ask_stop(struct unix_ask *q) { close_all(q); }
