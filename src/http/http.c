/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"

#define IDLE_S 15
#define MEMORY_BYTES (32u << 10) /* of one connection: its request must fit */

struct http {
    struct MHD_Daemon *daemon;
    const struct http_page *pages;
    void *ctx;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles;
};

static enum MHD_Result respond(struct MHD_Connection *c, unsigned status, const char *type,
                               const struct buf *body)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_COPY);

    if (r == NULL)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

struct http_query {
    struct MHD_Connection *connection;
};

const char *http_argument(const struct http_query *q, const char *name)
{
    const char *value = NULL;
    size_t len = 0;

    if (MHD_lookup_connection_value_n(q->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name),
                                      &value, &len) != MHD_YES)
        return NULL;
    return value != NULL ? value : "";
}

static bool is_for(const struct http_page *p, const char *url)
{
    return p->make_below != NULL ? strncmp(url, p->path, strlen(p->path)) == 0
                                 : strcmp(url, p->path) == 0;
}

static enum MHD_Result handle(void *ctx, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **request)
{
    static int seen;
    struct http *h = ctx;
    struct buf body = {0};
    unsigned status = MHD_HTTP_NOT_FOUND;
    const char *type = "text/plain; charset=utf-8";

    (void)version, (void)data;
    if (*request == NULL) { /* headers only so far */
        *request = &seen;
        return MHD_YES;
    }
    if (*size > 0) { /* no page takes a body */
        *size = 0;
        return MHD_YES;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        buf_add_str(&body, "only GET is answered here\n");
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
    } else {
        const struct http_page *p = h->pages;
        while (p->path != NULL && !is_for(p, url))
            p++;
        if (p->path != NULL) {
            const struct http_query q = {c};
            status = p->make_below != NULL
                         ? p->make_below(h->ctx, url + strlen(p->path), &q, &body)
                         : p->make(h->ctx, &body);
            type = p->type;
        } else {
            buf_add_str(&body, "no such page; there are:\n");
            for (p = h->pages; p->path != NULL; p++)
                if (p->make_below == NULL)
                    buf_printf(&body, "  %s\n", p->path);
        }
    }
    enum MHD_Result result = respond(c, status, type, &body);
    buf_free(&body);
    return result;
}

static void run(struct http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;

    (void)MHD_run(h->daemon);
    if (MHD_get_timeout(h->daemon, &ms) != MHD_YES || ms > 1000)
        ms = 1000;
    uv_timer_set_repeat(&h->timer, ms < 10 ? 10 : ms);
}

static void ready(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    run(poll->data);
}

static void due(uv_timer_t *timer) { run(timer->data); }

static void no_log(void *ctx, const char *format, va_list args)
{
    (void)ctx, (void)format, (void)args;
}

int http_start(struct http **out, uv_loop_t *loop, const char *address, uint16_t port,
               const struct http_page *pages, void *ctx, struct buf *why)
{
    struct http *h = mem_new(struct http);
    struct sockaddr_in a;

    h->pages = pages;
    h->ctx = ctx;
    if (uv_ip4_addr(address, port, &a) == 0)
        h->daemon = MHD_start_daemon(
            MHD_USE_EPOLL | MHD_USE_ERROR_LOG, port, NULL, NULL, handle, h,
            MHD_OPTION_EXTERNAL_LOGGER, no_log, NULL, MHD_OPTION_SOCK_ADDR, &a,
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
            MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_FROM_ONE_MAX,
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
            (size_t)MEMORY_BYTES, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    if (h->daemon == NULL) {
        buf_printf(why, "cannot listen on %s:%u (HTTP): %s", address, port, strerror(errno));
        mem_free(h);
        return ERR_SYSTEM;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    CHECK(info != NULL && uv_poll_init(loop, &h->poll, info->epoll_fd) == 0);
    CHECK(uv_timer_init(loop, &h->timer) == 0);
    h->poll.data = h->timer.data = h;
    h->handles = 2;
    CHECK(uv_poll_start(&h->poll, UV_READABLE, ready) == 0);
    uv_timer_start(&h->timer, due, 1000, 1000);
    *out = h;
    return 0;
}

static void closed(uv_handle_t *handle)
{
    struct http *h = handle->data;

    if (--h->handles == 0)
        mem_free(h);
}

void http_stop(struct http *h)
{
    uv_poll_stop(&h->poll);
    MHD_stop_daemon(h->daemon);
    uv_close((uv_handle_t *)&h->poll, closed);
    uv_close((uv_handle_t *)&h->timer, closed);
}
