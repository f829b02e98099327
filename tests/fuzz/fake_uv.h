/* SPDX-License-Identifier: Apache-2.0 */
/* fake_uv.h -- libuv without a kernel: TCP and timers under the hand of a fuzz target.
 *
 * Defines the functions of libuv that our shells call on streams and timers; a program's own
 * definitions come before those of the library. So a shell runs whole, handles and callbacks
 * included, on bytes, errors, full pipes and a time that the target chooses, and a run can be
 * repeated. Rules kept, as libuv keeps them: no callback comes from inside the call that asks
 * for it; a closed handle's writes and connects end with UV_ECANCELED, then comes its close
 * callback, both in a later turn; nothing is read after read_stop() or close().
 *
 * For targets only; each includes it once.
 */
#ifndef MUSTER_FUZZ_FAKE_UV_H
#define MUSTER_FUZZ_FAKE_UV_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"

#define FAKE_HANDLES_MAX 512
#define FAKE_WRITES_MAX 1024
#define FAKE_OF_ONE 4 /* handles that a shell may make for one that connects */

struct fake_handle {
    uv_handle_t *h; /* NULL: free */
    uv_close_cb closed;
    bool is_closing;
    /* a stream */
    bool is_stream, is_reading, is_open, is_accepted;
    uv_alloc_cb alloc;
    uv_read_cb read;
    uv_connect_t *connect; /* under way */
    uv_connect_cb connected;
    size_t room;    /* bytes that it takes before it is full */
    size_t taken;   /* all that was written to it */
    struct buf out; /* the same, if fake.keeps */
    /* a timer */
    bool is_timer, is_running;
    uv_timer_cb due;
    uint64_t due_ms, repeat_ms;
};

struct fake_write {
    uv_write_t *req;
    uv_write_cb done;
    struct fake_handle *on;
};

static struct {
    uint64_t now_ms;
    struct fake_handle v[FAKE_HANDLES_MAX];
    struct fake_write writes[FAKE_WRITES_MAX];
    size_t writes_n;
    uv_stream_t *listener;
    uv_connection_cb on_connection;
    uint32_t peer_address; /* of who connects next */
    bool accept_fails, keeps;
    uint64_t sum; /* of what was written */
    uv_getaddrinfo_t *lookup;
    uv_getaddrinfo_cb looked_up;
} fake;

static struct fake_handle *fake_of(const void *h)
{
    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++)
        if (fake.v[i].h == h)
            return &fake.v[i];
    UNREACHABLE("a handle that was not made");
}

static struct fake_handle *fake_new(void *h)
{
    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++) {
        CHECK(fake.v[i].h != h); /* made twice, or freed without being closed */
        if (fake.v[i].h == NULL) {
            fake.v[i] = (struct fake_handle){.h = h, .room = SIZE_MAX};
            return &fake.v[i];
        }
    }
    UNREACHABLE("FAKE_HANDLES_MAX");
}

/* ---- what the shell calls ---- */

int uv_tcp_init(uv_loop_t *loop, uv_tcp_t *tcp)
{
    (void)loop;
    memset(tcp, 0, sizeof *tcp);
    fake_new(tcp)->is_stream = true;
    return 0;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    (void)loop;
    memset(timer, 0, sizeof *timer);
    fake_new(timer)->is_timer = true;
    return 0;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb due, uint64_t ms, uint64_t repeat_ms)
{
    struct fake_handle *f = fake_of(timer);

    CHECK(f->is_timer);
    if (f->is_closing)
        return UV_EINVAL;
    f->is_running = true;
    f->due = due;
    f->due_ms = fake.now_ms + ms;
    f->repeat_ms = repeat_ms;
    return 0;
}

int uv_timer_stop(uv_timer_t *timer)
{
    fake_of(timer)->is_running = false;
    return 0;
}

void uv_close(uv_handle_t *h, uv_close_cb closed)
{
    struct fake_handle *f = fake_of(h);

    CHECK(!f->is_closing); /* libuv asserts that, too */
    f->is_closing = true;
    f->closed = closed;
    f->is_reading = f->is_running = false;
    if (fake.listener == (uv_stream_t *)h)
        fake.listener = NULL;
}

uint64_t uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return fake.now_ms;
}

void uv_update_time(uv_loop_t *loop) { (void)loop; }

int uv_tcp_bind(uv_tcp_t *tcp, const struct sockaddr *to, unsigned flags)
{
    (void)fake_of(tcp), (void)to, (void)flags;
    return 0;
}

int uv_listen(uv_stream_t *s, int backlog, uv_connection_cb on_connection)
{
    (void)backlog;
    fake.listener = s;
    fake.on_connection = on_connection;
    return 0;
}

int uv_accept(uv_stream_t *listener, uv_stream_t *s)
{
    CHECK(listener == fake.listener);
    if (fake.accept_fails)
        return UV_EMFILE;
    fake_of(s)->is_open = fake_of(s)->is_accepted = true;
    return 0;
}

int uv_tcp_connect(uv_connect_t *req, uv_tcp_t *tcp, const struct sockaddr *to,
                   uv_connect_cb connected)
{
    struct fake_handle *f = fake_of(tcp);

    (void)to;
    CHECK(!f->is_closing && f->connect == NULL);
    req->handle = (uv_stream_t *)tcp;
    f->connect = req;
    f->connected = connected;
    return 0;
}

int uv_read_start(uv_stream_t *s, uv_alloc_cb alloc, uv_read_cb read)
{
    struct fake_handle *f = fake_of(s);

    if (f->is_closing)
        return UV_EINVAL;
    f->is_reading = true;
    f->alloc = alloc;
    f->read = read;
    return 0;
}

int uv_read_stop(uv_stream_t *s)
{
    fake_of(s)->is_reading = false;
    return 0;
}

static bool fake_has_writes(const struct fake_handle *f)
{
    for (size_t i = 0; i < fake.writes_n; i++)
        if (fake.writes[i].on == f)
            return true;
    return false;
}

/* The bytes are read, so that a freed buffer is found. is_queued: what is too much waits here.
 */
static size_t fake_take(struct fake_handle *f, const uv_buf_t *b, bool is_queued)
{
    size_t n = b->len < f->room ? b->len : f->room;

    fake.sum ^= hash_bytes(0, b->base, b->len);
    if (f->room != SIZE_MAX)
        f->room -= n;
    f->taken += n;
    if (fake.keeps)
        buf_add(&f->out, b->base, is_queued ? b->len : n);
    return n;
}

int uv_try_write(uv_stream_t *s, const uv_buf_t bufs[], unsigned n)
{
    struct fake_handle *f = fake_of(s);

    size_t taken = 0;

    CHECK(n >= 1 && !f->is_closing);
    if (!f->is_open || fake_has_writes(f) || f->room == 0)
        return f->is_open || f->connect != NULL ? UV_EAGAIN : UV_EBADF;
    for (unsigned i = 0; i < n; i++) {
        size_t now = fake_take(f, &bufs[i], false);
        taken += now;
        if (now < bufs[i].len)
            break;
    }
    return (int)taken;
}

int uv_write(uv_write_t *req, uv_stream_t *s, const uv_buf_t bufs[], unsigned n,
             uv_write_cb done)
{
    struct fake_handle *f = fake_of(s);

    CHECK(n == 1 && !f->is_closing);
    if ((!f->is_open && f->connect == NULL) || fake.writes_n == FAKE_WRITES_MAX)
        return UV_EBADF;
    (void)fake_take(f, &bufs[0], true);
    req->handle = s;
    fake.writes[fake.writes_n++] = (struct fake_write){req, done, f};
    return 0;
}

int uv_tcp_getpeername(const uv_tcp_t *tcp, struct sockaddr *out, int *len)
{
    const struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(4000), .sin_addr.s_addr = fake.peer_address};

    (void)fake_of(tcp);
    CHECK((size_t)*len >= sizeof a);
    memcpy(out, &a, sizeof a);
    return 0;
}

int uv_tcp_nodelay(uv_tcp_t *tcp, int enable)
{
    (void)tcp, (void)enable;
    return 0;
}

int uv_tcp_keepalive(uv_tcp_t *tcp, int enable, unsigned delay)
{
    (void)tcp, (void)enable, (void)delay;
    return 0;
}

/* A socket that can be shut down, again and again. */
int uv_fileno(const uv_handle_t *h, uv_os_fd_t *fd)
{
    static int pair[2] = {-1, -1};

    (void)fake_of(h);
    if (pair[0] < 0)
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    *fd = pair[0];
    return 0;
}

int uv_is_active(const uv_handle_t *h)
{
    const struct fake_handle *f = fake_of(h);

    return f->is_timer ? f->is_running : f->is_reading;
}

int uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *req, uv_getaddrinfo_cb done,
                   const char *node, const char *service, const struct addrinfo *hints)
{
    (void)loop, (void)node, (void)service, (void)hints;
    if (fake.lookup != NULL)
        return UV_ENOMEM;
    fake.lookup = req;
    fake.looked_up = done;
    return 0;
}

int uv_cancel(uv_req_t *req)
{
    (void)req;
    return UV_EBUSY; /* it is under way: its callback comes */
}

/* ---- what the target does ---- */

static inline void fake_reset(void)
{
    memset(&fake, 0, sizeof fake);
    fake.now_ms = 1000;
}

static inline size_t fake_handles(void)
{
    size_t n = 0;

    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++)
        n += fake.v[i].h != NULL;
    return n;
}

/* Somebody connects; the place of his stream, or FAKE_HANDLES_MAX. */
static inline size_t fake_connect_in(uint32_t address, int status)
{
    if (fake.listener == NULL || fake_handles() > FAKE_HANDLES_MAX - FAKE_OF_ONE)
        return FAKE_HANDLES_MAX;
    fake.peer_address = address;
    fake.on_connection(fake.listener, status);
    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++)
        if (fake.v[i].is_accepted) {
            fake.v[i].is_accepted = false;
            return i;
        }
    return FAKE_HANDLES_MAX;
}

/* A connect that is under way ends. */
static inline void fake_connected(struct fake_handle *f, int status)
{
    uv_connect_t *req = f->connect;

    if (req == NULL)
        return;
    f->connect = NULL;
    f->is_open = status == 0;
    f->connected(req, status);
}

/* Bytes come in, in pieces of at most `piece`; what is not read is gone. */
static inline void fake_bytes(struct fake_handle *f, const uint8_t *data, size_t n,
                              size_t piece)
{
    const uv_handle_t *whose = f->h;

    while (n > 0 && f->h == whose && f->is_reading) {
        uv_buf_t b = {0};
        f->alloc(f->h, 65536, &b);
        CHECK(b.base != NULL && b.len > 0);
        size_t some = n < b.len ? n : b.len;
        if (piece > 0 && some > piece)
            some = piece;
        memcpy(b.base, data, some);
        f->read((uv_stream_t *)f->h, (ssize_t)some, &b);
        data += some;
        n -= some;
    }
}

/* The stream ends, or breaks: UV_EOF, UV_ECONNRESET. */
static inline void fake_end(struct fake_handle *f, int err)
{
    uv_buf_t b = {0};

    if (!f->is_reading)
        return;
    f->alloc(f->h, 65536, &b);
    f->read((uv_stream_t *)f->h, err, &b);
}

/* What was queued on f (NULL: on all) is taken, or fails. */
static inline void fake_written(const struct fake_handle *f, int status)
{
    for (size_t i = 0; i < fake.writes_n;) {
        struct fake_write w = fake.writes[i];
        if (f != NULL && w.on != f) {
            i++;
            continue;
        }
        memmove(&fake.writes[i], &fake.writes[i + 1],
                (--fake.writes_n - i) * sizeof fake.writes[0]);
        w.done(w.req, w.on->is_closing ? UV_ECANCELED : status);
    }
}

/* The close callbacks, after what they cancel. */
static inline void fake_closes(void)
{
    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++) {
        struct fake_handle *f = &fake.v[i];
        if (f->h == NULL || !f->is_closing)
            continue;
        if (f->is_stream)
            fake_written(f, UV_ECANCELED);
        if (f->is_stream)
            fake_connected(f, UV_ECANCELED);
        uv_handle_t *h = f->h;
        uv_close_cb closed = f->closed;
        buf_free(&f->out);
        *f = (struct fake_handle){0};
        if (closed != NULL)
            closed(h);
    }
}

static inline void fake_lookup_ends(int status)
{
    uv_getaddrinfo_t *req = fake.lookup;

    fake.lookup = NULL;
    if (req != NULL)
        fake.looked_up(req, status, NULL);
}

/* Time goes by; each timer that is due runs once. */
static inline void fake_time(uint64_t ms)
{
    fake.now_ms += ms;
    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++) {
        struct fake_handle *f = &fake.v[i];
        if (f->h == NULL || !f->is_timer || !f->is_running || f->due_ms > fake.now_ms)
            continue;
        f->is_running = f->repeat_ms > 0;
        f->due_ms = fake.now_ms + f->repeat_ms;
        f->due((uv_timer_t *)f->h);
    }
}

#endif
