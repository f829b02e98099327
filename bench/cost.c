/* SPDX-License-Identifier: Apache-2.0 */
/* What a request costs, in instructions: the work that tests/cost/cost.py counts.
 *
 *   cost ROW [WASTE]   runs it once, and wastes so many instructions (a multiple of 2) on each
 *                      operation: to see that they are seen
 *   cost               lists the rows: name and operations counted
 *
 * One server or three in one process, whole but for what the kernel does: the clients' port
 * over a libuv without sockets, the cores, the stores on disks in memory. Between the servers a
 * message is one copy. All input is fixed and the clock moves by turns, so that each run
 * executes the same instructions; measured() holds what is counted, when all that grows has
 * grown. Every reply is looked at: none may be missing or be an error.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "lib/fake_digest.h"
#include "lib/sim_disk.h"
#include "server/clients.h"
#include "store/store.h"
#include "wire/wire.h"

#define SERVERS_MAX 3
#define CONNS_MAX 1001
#define WINDOW_MAX 64
#define WALL_MS 1700000000000
#define DATA_BYTES 100
#define TURNS_MAX 64 /* until a round is answered */

enum what { GET, EXISTS, SET, CREATE, PING, EVENT, WATCH, CONNECT };

/* Round by round each of `conns` sends `window` requests. rounds: counted; as many as warm_up
 * go before. EVENT, WATCH: all but the last connection watch one znode, which the last one
 * sets. */
static const struct row {
    const char *name;
    enum what what;
    unsigned servers, conns, window, warm_up, rounds;
} rows[] = {
    {"get-1x1", GET, 1, 1, 1, 100, 1000},        {"get-12x16", GET, 1, 12, 16, 20, 60},
    {"exists-12x16", EXISTS, 1, 12, 16, 20, 60}, {"ping-12x1", PING, 3, 12, 1, 100, 300},
    {"set-1x1", SET, 3, 1, 1, 100, 300},         {"set-12x16", SET, 3, 12, 16, 20, 40},
    {"create-12x16", CREATE, 3, 12, 16, 20, 40}, {"event-1", EVENT, 1, 2, 1, 100, 500},
    {"event-1000", EVENT, 1, 1001, 1, 3, 5},     {"watch-1000", WATCH, 1, 1001, 1, 3, 5},
    {"connect-12", CONNECT, 3, 12, 1, 10, 40},
};

struct server {
    unsigned n; /* from 0 */
    struct member *member;
    struct clients *clients;
    struct sim_disk *disk;
    struct store *store;
    struct buf in; /* from the others: u32 from, u32 len, bytes */
    uv_stream_t *listener;
    uv_connection_cb on_connection;
};

/* A connection, as the server's libuv and its client see it. */
struct socket {
    uv_stream_t *stream; /* NULL: closed */
    uv_alloc_cb alloc;
    uv_read_cb read;
    bool is_reading;
    unsigned server;
    struct buf out; /* what the client sends in each round */
    uint64_t replies, events;
};

static struct {
    const struct row *row;
    struct server servers[SERVERS_MAX];
    struct socket sockets[CONNS_MAX];
    unsigned accepting; /* the socket that is accepted next */
    struct {
        uv_handle_t *h;
        uv_close_cb closed;
    } closing[2 * CONNS_MAX];
    unsigned closing_n;
    struct server *listens; /* whose port is being opened */
    uint64_t now_ms, random, created;
    uint64_t replies, events; /* of all */
    unsigned long waste;      /* instructions an operation */
} w;

/* ---- libuv, as far as clients.c knows it ---- */

static struct socket *socket_of(const void *stream)
{
    return ((const uv_handle_t *)stream)->u.reserved[0];
}

int uv_tcp_init(uv_loop_t *loop, uv_tcp_t *tcp)
{
    (void)loop, (void)tcp;
    return 0;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    (void)loop, (void)timer;
    return 0;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb due, uint64_t ms, uint64_t repeat_ms)
{
    (void)timer, (void)due, (void)ms, (void)repeat_ms;
    return 0;
}

int uv_timer_stop(uv_timer_t *timer)
{
    (void)timer;
    return 0;
}

uint64_t uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return w.now_ms;
}

int uv_tcp_bind(uv_tcp_t *tcp, const struct sockaddr *to, unsigned flags)
{
    (void)tcp, (void)to, (void)flags;
    return 0;
}

int uv_listen(uv_stream_t *s, int backlog, uv_connection_cb on_connection)
{
    (void)backlog;
    w.listens->listener = s;
    w.listens->on_connection = on_connection;
    return 0;
}

int uv_accept(uv_stream_t *listener, uv_stream_t *s)
{
    struct socket *k = &w.sockets[w.accepting];

    (void)listener;
    ((uv_handle_t *)s)->u.reserved[0] = k;
    k->stream = s;
    return 0;
}

int uv_read_start(uv_stream_t *s, uv_alloc_cb alloc, uv_read_cb read)
{
    struct socket *k = socket_of(s);

    k->alloc = alloc;
    k->read = read;
    k->is_reading = true;
    return 0;
}

int uv_read_stop(uv_stream_t *s)
{
    socket_of(s)->is_reading = false;
    return 0;
}

/* The client reads it: whole frames, each a reply or an event, none an error. */
static void received(struct socket *k, const uint8_t *at, size_t len)
{
    const uint8_t *end = at + len;

    while (at < end) {
        uint32_t size = be32_get(at);
        CHECK(size <= (size_t)(end - at) - 4);
        bool is_event = size > 16 && be32_get(at + 4) == (uint32_t)WIRE_XID_NOTIFICATION;
        bool is_greeting = w.row->what == CONNECT && k->replies == 0;
        CHECK(is_event || is_greeting || k->replies == 0 || be32_get(at + 16) == 0);
        k->replies += !is_event;
        k->events += is_event;
        w.replies += !is_event;
        w.events += is_event;
        at += 4 + size;
    }
}

int uv_try_write(uv_stream_t *s, const uv_buf_t bufs[], unsigned n)
{
    int sum = 0;

    for (unsigned i = 0; i < n; i++) {
        received(socket_of(s), (const uint8_t *)bufs[i].base, bufs[i].len);
        sum += (int)bufs[i].len;
    }
    return sum;
}

int uv_write(uv_write_t *req, uv_stream_t *s, const uv_buf_t bufs[], unsigned n,
             uv_write_cb done)
{
    (void)req, (void)s, (void)bufs, (void)n, (void)done;
    UNREACHABLE("everything is taken at once");
}

void uv_close(uv_handle_t *h, uv_close_cb closed)
{
    if (h->u.reserved[0] != NULL)
        socket_of(h)->stream = NULL;
    CHECK(w.closing_n < sizeof w.closing / sizeof w.closing[0]);
    w.closing[w.closing_n].h = h;
    w.closing[w.closing_n++].closed = closed;
}

int uv_tcp_getpeername(const uv_tcp_t *tcp, struct sockaddr *out, int *len)
{
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons(4000),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    (void)tcp;
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

/* ---- the cores' shell ---- */

static void woken(void *ctx)
{
    const struct server *s = ctx;

    member_time(s->member, w.now_ms, WALL_MS + (int64_t)w.now_ms);
}

static void send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    const struct server *s = ctx;
    struct buf *in = &w.servers[to - 1].in;

    buf_add_be32(in, s->n + 1);
    buf_add_be32(in, (uint32_t)len);
    buf_add(in, data, len);
}

static void send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    clients_send(((struct server *)ctx)->clients, conn, data, len);
}

static void close_client(void *ctx, uint64_t conn)
{
    clients_close(((struct server *)ctx)->clients, conn);
}

static void random_bytes(void *ctx, void *data, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] =
            (uint8_t)((w.random = w.random * 6364136223846793005 + 1442695040888963407) >> 56);
}

static enum word_result word(void *ctx, uint64_t conn, const uint8_t *data, size_t len,
                             struct buf *answer)
{
    (void)ctx, (void)conn, (void)data, (void)len, (void)answer;
    return WORD_NONE;
}

static void load_state(void *ctx, uint64_t term, uint64_t vote)
{
    member_load_state(((struct server *)ctx)->member, term, vote);
}

static void load_snapshot(void *ctx, uint64_t index, uint64_t term,
                          const struct raft_members *members, const uint8_t *data, size_t len)
{
    CHECK(member_load_snapshot(((struct server *)ctx)->member, index, term, members, data,
                               len) == 0);
}

/* ---- life ---- */

static void start(struct server *s, const struct raft_members *all)
{
    static const struct settings settings = {
        .clients_max = 0, .frame_max = 1048575, .no_session_ms = 10000};
    const struct member_io io = {s,          send_peer, send_client, close_client, random_bytes,
                                 fake_digest};
    const struct member_options options = {
        .raft = {.id = s->n + 1, .seed = s->n + 1},
        .snapshot_every = 1000000, /* a snapshot is no part of a request */
        .digest_ms = 1000000,
        .outstanding_max = 1000000,
    };
    const struct store_options stored = {.salt = 1};
    const struct store_load load = {s, load_state, load_snapshot, NULL, NULL, NULL};
    const struct clients_options port = {.listen_address = "127.0.0.1",
                                         .port = 2181,
                                         .ctx = s,
                                         .woken = woken,
                                         .word = word,
                                         .settings = &settings};
    struct raft_save vote = {.hard = true, .term = 1};
    struct tree *tree = tree_new(1);
    struct buf bytes = {0};

    tree_save(tree, &bytes);
    struct raft_blob *b =
        raft_blob_new_take(1, 1, all, mem_dup(bytes.data, bytes.len), bytes.len);
    s->disk = sim_disk_new(s->n + 1);
    CHECK(store_open(&s->store, sim_disk_disk(s->disk), &stored, &(struct store_load){0},
                     NULL) == 0);
    CHECK(store_save(s->store, &vote) == 0 && store_snapshot(s->store, b, 0) == 0);
    store_close(s->store);
    raft_blob_unref(b);
    buf_free(&bytes);
    tree_free(tree);

    s->member = member_new(&options, &io);
    CHECK(store_open(&s->store, sim_disk_disk(s->disk), &stored, &load, NULL) == 0);
    struct clients_options own = port;
    own.member = s->member;
    w.listens = s;
    CHECK(clients_start(&s->clients, NULL, &own, NULL) == 0);
    member_start(s->member, w.now_ms, WALL_MS + (int64_t)w.now_ms);
}

static void from_peers(struct server *s)
{
    struct buf in = s->in;
    const uint8_t *at = in.data, *end = at + in.len;

    s->in = (struct buf){0};
    while (at < end) {
        uint32_t len = be32_get(at + 4);
        woken(s);
        CHECK(member_peer(s->member, be32_get(at), at + 8, len) == 0);
        at += 8 + len;
    }
    if (s->in.data == NULL) { /* its room serves again */
        buf_clear(&in);
        s->in = in;
    } else {
        buf_free(&in);
    }
}

/* What server.c does once its sockets have been read. */
static void turn(struct server *s)
{
    struct raft_save save;

    from_peers(s);
    woken(s);
    member_flush(s->member);
    if (clients_resume(s->clients))
        member_flush(s->member);
    while (member_save_take(s->member, &save)) {
        CHECK(store_save(s->store, &save) == 0);
        member_saved(s->member);
        member_flush(s->member);
    }
    for (unsigned i = 0; i < w.closing_n; i++) /* what they call may close more */
        if (w.closing[i].closed != NULL)
            w.closing[i].closed(w.closing[i].h);
    w.closing_n = 0;
}

static void turns(uint64_t replies, uint64_t events)
{
    for (unsigned i = 0; w.replies < replies || w.events < events; i++) {
        CHECK(i < TURNS_MAX);
        for (unsigned n = 0; n < w.row->servers; n++)
            turn(&w.servers[n]);
    }
}

static void read_from(struct socket *k, const uint8_t *data, size_t len)
{
    uv_buf_t b = {0};

    CHECK(k->stream != NULL && k->is_reading);
    k->alloc((uv_handle_t *)k->stream, 65536, &b);
    CHECK(len <= b.len);
    memcpy(b.base, data, len);
    k->read(k->stream, (ssize_t)len, &b);
}

/* ---- the clients ---- */

static void request(struct buf *out, int32_t xid, int32_t op, const struct buf *body)
{
    const struct wire_request_header h = {xid, op};
    size_t at = wire_frame_begin(out);

    wire_request_header_encode(&h, out);
    if (body != NULL)
        buf_add(out, body->data, body->len);
    wire_frame_end(out, at);
}

static void put_create(struct buf *out, const char *path, size_t data_len)
{
    static const char data[DATA_BYTES];
    struct buf acl = {0}, body = {0};
    const struct wire_acl one = {WIRE_PERM_ALL, wire_bytes("world", 5),
                                 wire_bytes("anyone", 6)};

    wire_acl_encode(&one, &acl);
    const struct wire_create_request q = {wire_bytes(path, strlen(path)),
                                          wire_bytes(data, data_len),
                                          {acl.data, acl.len, 1},
                                          WIRE_PERSISTENT};
    wire_create_request_encode(&q, &body);
    request(out, 1, WIRE_OP_CREATE, &body);
    buf_free(&acl);
    buf_free(&body);
}

static void put_set(struct buf *out, const char *path)
{
    static const char data[DATA_BYTES];
    const struct wire_set_data_request q = {wire_bytes(path, strlen(path)),
                                            wire_bytes(data, sizeof data), -1};
    struct buf body = {0};

    wire_set_data_request_encode(&q, &body);
    request(out, 1, WIRE_OP_SET_DATA, &body);
    buf_free(&body);
}

static void put_read(struct buf *out, int32_t op, const char *path, bool watch)
{
    const struct wire_path_watch_request q = {wire_bytes(path, strlen(path)), watch};
    struct buf body = {0};

    wire_path_watch_request_encode(&q, &body);
    request(out, 1, op, &body);
    buf_free(&body);
}

static void put_connect(struct buf *out)
{
    static const uint8_t none[TREE_PASSWORD_LEN];
    const struct wire_connect_request q = {.timeout_ms = 30000,
                                           .password = wire_bytes(none, sizeof none)};
    size_t at = wire_frame_begin(out);

    wire_connect_request_encode(&q, out);
    wire_frame_end(out, at);
}

static void put_add_watch(struct buf *out, const char *path)
{
    const struct wire_add_watch_request q = {wire_bytes(path, strlen(path)),
                                             WIRE_WATCH_PERSISTENT};
    struct buf body = {0};

    wire_add_watch_request_encode(&q, &body);
    request(out, 1, WIRE_OP_ADD_WATCH, &body);
    buf_free(&body);
}

static void open_socket(unsigned n)
{
    struct socket *k = &w.sockets[n];
    struct server *s = &w.servers[k->server];

    k->replies = k->events = 0;
    w.accepting = n;
    s->on_connection(s->listener, 0);
    CHECK(k->stream != NULL);
}

/* One after the other, each in turns of its own. */
static void ask(unsigned n, struct buf *out)
{
    read_from(&w.sockets[n], out->data, out->len);
    turns(w.replies + 1, 0);
    buf_clear(out);
}

/* The name of the znode that a request creates: the number is its last eight places. */
static void number(uint8_t *digits, uint64_t v)
{
    for (unsigned i = 8; i-- > 0; v /= 10)
        digits[i] = (uint8_t)('0' + v % 10);
}

#define CREATED "/made/by/the/client-00000000"

static void fill(unsigned n)
{
    struct buf *out = &w.sockets[n].out;
    char path[32];

    snprintf(path, sizeof path, "/service/node-%u", n % 8);
    for (unsigned i = 0; i < w.row->window; i++)
        switch (w.row->what) {
        case GET: put_read(out, WIRE_OP_GET_DATA, path, false); break;
        case EXISTS: put_read(out, WIRE_OP_EXISTS, path, false); break;
        case SET: put_set(out, path); break;
        case CREATE: put_create(out, CREATED, DATA_BYTES); break;
        case PING: request(out, WIRE_XID_PING, WIRE_OP_PING, NULL); break;
        case EVENT: /* the watchers say nothing more */
        case WATCH:
            if (n + 1 == w.row->conns)
                put_set(out, "/service/node-0");
            else if (w.row->what == WATCH)
                put_read(out, WIRE_OP_GET_DATA, "/service/node-0", true);
            break;
        case CONNECT: put_connect(out); break;
        }
}

static void prepare(void)
{
    static const char *const paths[] = {"/service",        "/service/node-0", "/service/node-1",
                                        "/service/node-2", "/service/node-3", "/service/node-4",
                                        "/service/node-5", "/service/node-6", "/service/node-7",
                                        "/made",           "/made/by",        "/made/by/the"};
    struct buf out = {0};

    for (unsigned n = 0; n < w.row->conns; n++) {
        w.sockets[n].server = n % w.row->servers;
        fill(n);
        if (w.row->what == CONNECT)
            continue;
        open_socket(n);
        put_connect(&out);
        ask(n, &out);
        for (unsigned i = 0; n == 0 && i < sizeof paths / sizeof paths[0]; i++) {
            put_create(&out, paths[i], i > 0 && i < 9 ? DATA_BYTES : 0);
            ask(n, &out);
        }
        if (w.row->what == EVENT && n + 1 < w.row->conns) {
            put_add_watch(&out, "/service/node-0");
            ask(n, &out);
        }
    }
    buf_free(&out);
}

static void one_round(void)
{
    unsigned conns = w.row->conns, last = conns - 1;
    bool is_told = w.row->what == EVENT || w.row->what == WATCH;

    w.now_ms++;
    for (unsigned n = 0; n < conns; n++) {
        struct socket *k = &w.sockets[n];
        if (is_told && (n == last || w.row->what == EVENT))
            continue;
        if (w.row->what == CONNECT)
            open_socket(n);
        size_t size = k->out.len / w.row->window;
        for (unsigned i = 0; w.row->what == CREATE && i < w.row->window; i++)
            number(k->out.data + i * size + 12 + 4 + sizeof CREATED - 1 - 8, w.created++);
        read_from(k, k->out.data, k->out.len);
    }
    if (!is_told)
        turns(w.replies + (uint64_t)conns * w.row->window, 0);
    if (w.row->what == WATCH)
        turns(w.replies + last, 0);
    if (is_told) {
        read_from(&w.sockets[last], w.sockets[last].out.data, w.sockets[last].out.len);
        turns(w.replies + 1, w.events + last);
    }
    if (w.row->what == CONNECT) {
        struct buf out = {0};
        request(&out, 1, WIRE_OP_CLOSE_SESSION, NULL);
        for (unsigned n = 0; n < conns; n++)
            read_from(&w.sockets[n], out.data, out.len);
        turns(w.replies + conns, 0);
        buf_free(&out);
    }
}

static uint64_t operations(const struct row *r)
{
    unsigned each = r->what == EVENT || r->what == WATCH ? r->conns - 1 : r->conns * r->window;

    return (uint64_t)each * r->rounds;
}

/* A planted fault: two instructions a time. */
__attribute__((noinline)) static void waste(unsigned long instructions)
{
    for (unsigned long i = instructions / 2; i > 0; i--)
        __asm__ volatile("");
}

/* By its name cost.py knows what to count. */
__attribute__((noinline)) void measured(void);
__attribute__((noinline)) void measured(void)
{
    for (unsigned i = 0; i < w.row->rounds; i++)
        one_round();
    if (w.waste > 0)
        waste(w.waste * operations(w.row));
}

int main(int argc, char **argv)
{
    struct raft_members all = {0};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (argc == 1)
            printf("%s %llu\n", rows[i].name, (unsigned long long)operations(&rows[i]));
        else if (strcmp(argv[1], rows[i].name) == 0)
            w.row = &rows[i];
    }
    if (argc == 1)
        return 0;
    if (w.row == NULL) {
        fprintf(stderr, "cost: no row %s; without arguments all are listed\n", argv[1]);
        return 2;
    }
    w.waste = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    log_init(stderr, "", LOG_CRIT, NULL);
    w.now_ms = w.random = 1000;
    all.n = w.row->servers;
    for (unsigned i = 0; i < all.n; i++) {
        all.v[i] = (struct raft_member){.id = i + 1, .voter = true};
        snprintf(all.v[i].name, sizeof all.v[i].name, "%c", 'a' + (char)i);
        snprintf(all.v[i].address, sizeof all.v[i].address, "10.0.0.%u:2182", i + 1);
        w.servers[i].n = i;
    }
    for (unsigned i = 0; i < all.n; i++)
        start(&w.servers[i], &all);
    for (unsigned i = 0, serving = 0; serving < all.n; i++) {
        CHECK(i < 10000);
        w.now_ms++;
        serving = 0;
        for (unsigned n = 0; n < all.n; n++) {
            turn(&w.servers[n]);
            serving += member_is_serving(w.servers[n].member);
        }
    }
    prepare();
    for (unsigned i = 0; i < w.row->warm_up; i++)
        one_round();
    uint64_t before = w.replies + w.events;
    measured();
    printf("%s: %llu operations, %llu replies and events\n", w.row->name,
           (unsigned long long)operations(w.row),
           (unsigned long long)(w.replies + w.events - before));
    return 0; /* the process ends: nothing is given back */
}
