/* SPDX-License-Identifier: Apache-2.0 */
#include "server/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/check.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "server/handshake.h"

#define RECONNECT_MS 100 /* the first wait; doubled up to: */
#define RECONNECT_MAX_MS 500
#define CONNECT_MS 1000      /* an attempt, and then until the welcome */
#define USER_TIMEOUT_MS 1500 /* unacknowledged bytes end a connection */
#define ALIVE_MS                                                                \
    200 /* an empty message on each connection, so that silence means something \
         */
#define READ_CHUNK 65536
#define TRANSPORT_LARGE 8192 /* bytes of a message that is sent at once */
#define GUEST_MS 10000       /* a server that is not a peer is forgotten after this silence */
#define SAY_AGAIN_MS 1000    /* what may happen a thousand times a second is logged once */

/* What has been shown so far. */
enum link_stage {
    LINK_WAITS_HELLO,     /* accepted */
    LINK_WAITS_PROOF,     /* accepted, challenged */
    LINK_WAITS_JOIN,      /* accepted, proved; the ensemble decides */
    LINK_RECEIVES,        /* accepted, a peer */
    LINK_LOOKS_UP,        /* opened: the address of a name */
    LINK_WAITS_CHALLENGE, /* opened */
    LINK_WAITS_WELCOME,   /* opened, proved */
    LINK_SENDS,           /* opened, a peer */
    LINK_CLOSING,
};

struct link {
    TAILQ_ENTRY(link) in_all;
    struct transport *transport;
    struct peer *peer; /* of an opened one */
    uv_tcp_t tcp;
    uv_timer_t timer; /* limits the handshake */
    uv_connect_t connect;
    uv_getaddrinfo_t lookup; /* counted in handles while it is under way */
    unsigned handles;        /* not yet closed */
    enum link_stage stage;
    struct handshake shake;
    uint64_t from;   /* accepted: who it is, once proved */
    uint64_t ticket; /* LINK_WAITS_JOIN */
    const char *why; /* it is refused, when an error's text says too little */
    struct buf in;
    struct buf out;      /* collected until the loop has handled its events */
    bool is_cut;         /* it begins within a message */
    size_t queued_bytes; /* given to the kernel's queue or libuv's */
};

struct peer {
    struct raft_member member;
    uint64_t heard_ms; /* uv_now() of its last frame; 0: never */
    bool is_gone;      /* its connection has ended since then */
    struct link *link; /* NULL: waits to connect again */
    uint64_t next_ms, wait_ms;
    bool wanted;
    bool guest; /* not of our configuration, but it has proved itself */
};

struct transport {
    struct transport_options options;
    uv_loop_t *loop;
    uv_tcp_t listener;
    uv_timer_t timer; /* connects again */
    unsigned handles;
    bool stopping;
    TAILQ_HEAD(, link) links;
    unsigned strangers;
    uint64_t tickets;
    uint64_t alive_ms;        /* when the next empty messages are due */
    uint64_t refused, say_ms; /* since it was said; when it may be said again */
    struct link *lent;        /* whose socket the door is, or was last; or NULL */
    struct peer peers[RAFT_MEMBERS_MAX + TRANSPORT_GUESTS_MAX];
    unsigned peers_n;
    struct transport_facts facts;
};

struct write {
    uv_write_t req;
    struct link *link;
    struct buf bytes;
};

static void free_if_done(struct transport *t)
{
    if (t->stopping && t->handles == 0 && TAILQ_EMPTY(&t->links))
        mem_free(t);
}

static struct peer *peer_of(struct transport *t, uint64_t id)
{
    for (unsigned i = 0; i < t->peers_n; i++)
        if (t->peers[i].member.id == id)
            return &t->peers[i];
    return NULL;
}

/* ---- links ---- */

static bool is_stranger(const struct link *l)
{
    return l->stage == LINK_WAITS_HELLO || l->stage == LINK_WAITS_PROOF ||
           l->stage == LINK_WAITS_JOIN;
}

static void link_release(struct link *l)
{
    struct transport *t = l->transport;

    if (--l->handles > 0)
        return;
    TAILQ_REMOVE(&t->links, l, in_all);
    buf_free(&l->in);
    buf_free(&l->out);
    mem_free(l);
    free_if_done(t);
}

static void link_handle_closed(uv_handle_t *h) { link_release(h->data); }

/* Another thread may put something through the socket: see door.h. */
static bool is_lent(const struct link *l) { return l->transport->lent == l; }

static void link_enter(struct link *l)
{
    if (is_lent(l))
        door_enter(l->transport->options.door);
}

static void link_leave(struct link *l, bool is_clear)
{
    if (is_lent(l))
        door_leave(l->transport->options.door, is_clear);
}

/* The rest of the other thread's message goes before what was collected here. */
static void take_rest(struct link *l)
{
    struct buf rest = {0};

    if (!is_lent(l) || !door_rest_take(l->transport->options.door, &rest))
        return;
    if (MUTANT(transport_rest_behind)) {
        buf_add(&l->out, rest.data, rest.len);
        buf_free(&rest);
        return;
    }
    buf_add(&rest, l->out.data, l->out.len);
    buf_free(&l->out);
    l->out = rest;
    l->is_cut = true;
}

static void link_close(struct link *l)
{
    if (l->stage == LINK_CLOSING)
        return;
    if (is_lent(l)) {
        door_shut(l->transport->options.door);
        l->transport->lent = NULL;
    }
    if (is_stranger(l) && l->peer == NULL)
        l->transport->strangers--;
    if (l->stage == LINK_SENDS && !l->transport->stopping)
        log_event(LOG_WARNING, "peer_disconnected", LOG_S("peer", l->peer->member.name),
                  LOG_S("address", l->peer->member.address));
    if (l->stage == LINK_LOOKS_UP) /* its callback comes all the same */
        (void)uv_cancel((uv_req_t *)&l->lookup);
    l->stage = LINK_CLOSING;
    if (l->peer != NULL) {
        struct peer *p = l->peer;
        p->link = NULL;
        p->next_ms = uv_now(l->transport->loop) + p->wait_ms;
        p->wait_ms = 2 * p->wait_ms > RECONNECT_MAX_MS ? RECONNECT_MAX_MS : 2 * p->wait_ms;
        l->peer = NULL;
    }
    uv_close((uv_handle_t *)&l->tcp, link_handle_closed);
    uv_close((uv_handle_t *)&l->timer, link_handle_closed);
}

static void link_address(const struct link *l, char text[INET_ADDRSTRLEN])
{
    struct sockaddr_in a;
    int len = sizeof a;

    snprintf(text, INET_ADDRSTRLEN, "?");
    if (uv_tcp_getpeername(&l->tcp, (struct sockaddr *)&a, &len) == 0)
        inet_ntop(AF_INET, &a.sin_addr, text, INET_ADDRSTRLEN);
}

/* Somebody who tries again at once must not fill the log. */
static void say_refused(struct transport *t, const char *address, const char *why)
{
    t->facts.refused_total++;
    t->refused++;
    if (uv_now(t->loop) < t->say_ms)
        return;
    t->say_ms = uv_now(t->loop) + SAY_AGAIN_MS;
    log_event(LOG_WARNING, "peer_refused", LOG_S("address", address), LOG_S("why", why),
              LOG_U("times", t->refused));
    t->refused = 0;
}

static void refuse(struct link *l, const char *why)
{
    char text[INET_ADDRSTRLEN];

    link_address(l, text);
    say_refused(l->transport, text, why);
    link_close(l);
}

static void link_timeout(uv_timer_t *timer) { link_close(timer->data); }

static struct link *link_new(struct transport *t, enum link_stage stage)
{
    struct link *l = mem_new(struct link);

    l->transport = t;
    l->stage = stage;
    CHECK(uv_tcp_init(t->loop, &l->tcp) == 0 && uv_timer_init(t->loop, &l->timer) == 0);
    l->tcp.data = l->timer.data = l;
    l->handles = 2;
    TAILQ_INSERT_TAIL(&t->links, l, in_all);
    return l;
}

/* A silent machine must not hold a connection for the kernel's many minutes. */
static void link_options(struct link *l)
{
    int fd, ms = USER_TIMEOUT_MS;

    uv_tcp_nodelay(&l->tcp, 1);
    uv_tcp_keepalive(&l->tcp, 1, 5);
    if (uv_fileno((uv_handle_t *)&l->tcp, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

static void written(uv_write_t *req, int status)
{
    struct write *w = req->data;

    w->link->queued_bytes -= w->bytes.len;
    if (status != 0 && status != UV_ECANCELED)
        link_close(w->link);
    buf_free(&w->bytes);
    mem_free(w);
}

/* What the kernel has not taken waits in libuv's queue. */
static int link_queue(struct link *l)
{
    struct write *w = mem_new(struct write);

    w->link = l;
    w->req.data = w;
    w->bytes = l->out;
    l->out = (struct buf){0};
    uv_buf_t b = uv_buf_init((char *)w->bytes.data, (unsigned)w->bytes.len);
    l->queued_bytes += w->bytes.len;
    int err = uv_write(&w->req, (uv_stream_t *)&l->tcp, &b, 1, written);
    if (err != 0) {
        l->queued_bytes -= w->bytes.len;
        buf_free(&w->bytes);
        mem_free(w);
    }
    return err;
}

static int link_put(struct link *l)
{
    take_rest(l);
    if (l->out.len == 0)
        return 0;
    uv_buf_t b = uv_buf_init((char *)l->out.data, (unsigned)l->out.len);
    l->transport->facts.bytes_out_total += l->out.len;
    int n = l->queued_bytes == 0 ? uv_try_write((uv_stream_t *)&l->tcp, &b, 1) : 0;
    if (n < 0 && n != UV_EAGAIN)
        return n;
    if (n > 0)
        buf_consume(&l->out, (size_t)n);
    l->is_cut = false; /* what is left is in the queue */
    return l->out.len > 0 ? link_queue(l) : 0;
}

/* All that was collected for this link, in one system call where possible. */
static void link_write(struct link *l)
{
    if (l->stage == LINK_CLOSING || (l->out.len == 0 && !is_lent(l)))
        return;
    link_enter(l);
    int err = link_put(l);
    link_leave(l, err == 0 && l->queued_bytes == 0);
    if (err != 0)
        link_close(l);
}

static void frame_add(struct link *l, const void *data, size_t len)
{
    buf_add_be32(&l->out, (uint32_t)len);
    buf_add(&l->out, data, len);
}

/* "IP" or "IP:PORT" and nothing else. */
static int parse_address(const char *text, uint16_t default_port, struct sockaddr_in *out)
{
    char ip[INET_ADDRSTRLEN];
    size_t len = strcspn(text, ":");
    unsigned port = default_port;

    if (len >= sizeof ip || text[strspn(text, "0123456789.:")] != 0 ||
        (text[len] == ':' && (strlen(text + len + 1) > 5 || strchr(text + len + 1, '.') ||
                              sscanf(text + len + 1, "%u", &port) != 1 || port > 65535)))
        return ERR_SYNTAX;
    memcpy(ip, text, len);
    ip[len] = 0;
    return uv_ip4_addr(ip, (int)port, out) == 0 ? 0 : ERR_SYNTAX;
}

/* Both sides are proved, and of one epoch: else the link ends, and the older one knows. */
static int compare_epochs(struct link *l, const struct epoch *theirs)
{
    struct transport *t = l->transport;

    switch (epoch_order(&t->options.self->epoch, theirs)) {
    case EPOCH_SAME: return 0;
    case EPOCH_OLDER:
        l->why = "it is of an epoch from before muster recover: it stops, sets its data aside "
                 "and joins anew when it hears of this one";
        break;
    case EPOCH_NEWER:
        l->why = "it is of a newer epoch: the quorum was given up for lost, and muster recover "
                 "was run there";
        if (t->options.outdated != NULL)
            t->options.outdated(t->options.ctx, theirs);
        break;
    case EPOCH_RIVAL:
        l->why = "muster recover was run on both, apart: keep one of the two, and let the "
                 "other's machine join it with a new data directory";
        break;
    }
    return ERR_REFUSED;
}

/* ---- the acceptor's side ---- */

static int welcome_hello(struct link *l, const uint8_t *data, size_t len)
{
    struct transport *t = l->transport;
    const struct identity *self = t->options.self;
    struct handshake *h = &l->shake;
    struct buf answer = {0};

    if (hello_decode(&h->hello, data, len) != 0)
        return ERR_MALFORMED;
    if (h->hello.kind == HANDSHAKE_PEER) {
        if (memcmp(h->hello.cluster, self->cluster, CLUSTER_LEN) != 0)
            l->why = "it is of another cluster: is its list of peers old?";
        else if (h->hello.from == self->id)
            l->why = "it has this server's own id: was a data directory copied?";
        else if (h->hello.to != self->id)
            l->why = "it looks for another server at this address: muster status, there";
        if (l->why != NULL)
            return ERR_REFUSED;
        memcpy(h->key, self->secret, SECRET_LEN);
        h->key_len = SECRET_LEN;
    } else {
        token_key(self->secret, h->hello.from, h->hello.expires_s, h->key);
        h->key_len = TOKEN_KEY_LEN;
    }
    secret_random(h->nonce, NONCE_LEN);
    h->epoch = self->epoch;
    challenge_encode(h, &answer);
    frame_add(l, answer.data, answer.len);
    buf_free(&answer);
    l->stage = LINK_WAITS_PROOF;
    return 0;
}

static int take_joiner(struct link *l, const uint8_t *data, size_t len)
{
    struct raft_members one;

    if (l->shake.hello.expires_s < (uint64_t)time(NULL))
        return ERR_TIMED_OUT;
    /* Name and address go into everybody's files. */
    struct sockaddr_in a;
    if (raft_members_decode(&one, data, len) != 0 || one.n != 1 ||
        one.v[0].id != l->shake.hello.from || !identity_name_is_valid(one.v[0].name) ||
        parse_address(one.v[0].address, 0, &a) != 0)
        return ERR_MALFORMED;
    one.v[0].voter = false; /* first it catches up */
    one.v[0].auto_promote = true;
    l->stage = LINK_WAITS_JOIN;
    l->ticket = ++l->transport->tickets;
    l->transport->options.join(l->transport->options.ctx, l->ticket, &one.v[0]);
    return 0;
}

static void join_refuse(struct link *l, int err)
{
    struct buf out = {0};

    welcome_encode(&l->shake, err, NULL, NULL, &out);
    frame_add(l, out.data, out.len);
    buf_free(&out);
    link_write(l);
}

/* Its earlier connection is dead, or somebody else uses its id. */
static void take_over(struct link *l)
{
    struct transport *t = l->transport;
    struct link *old;
    char now[INET_ADDRSTRLEN], before[INET_ADDRSTRLEN];

    link_address(l, now);
    TAILQ_FOREACH (old, &t->links, in_all) {
        if (old == l || old->stage != LINK_RECEIVES || old->from != l->from)
            continue;
        link_address(old, before);
        if (strcmp(now, before) != 0)
            log_event(LOG_ERROR, "peer_twice", LOG_U("id", l->from), LOG_S("address", now),
                      LOG_S("before", before),
                      LOG_S("why", "two machines have one id: was a data directory copied?"));
        link_close(old);
    }
}

static void peer_connect(struct transport *t, struct peer *p);

static bool has_room_for_guest(const struct transport *t)
{
    unsigned guests = 0;

    for (unsigned i = 0; i < t->peers_n; i++)
        guests += t->peers[i].guest;
    return guests < TRANSPORT_GUESTS_MAX;
}

/* Who is not in our configuration is answered where its connection comes from. */
static void add_guest(struct link *l)
{
    struct transport *t = l->transport;
    char ip[INET_ADDRSTRLEN];

    if (!has_room_for_guest(t))
        return;
    link_address(l, ip);
    struct peer *p = &t->peers[t->peers_n++];
    *p = (struct peer){.guest = true, .wait_ms = RECONNECT_MS, .heard_ms = uv_now(t->loop)};
    p->member.id = l->from;
    snprintf(p->member.address, sizeof p->member.address, "%s:%u", ip, t->options.port);
    snprintf(p->member.name, sizeof p->member.name, "id-%" PRIu64, l->from);
    log_event(LOG_NOTICE, "peer_unknown", LOG_U("id", l->from), LOG_S("address", ip),
              LOG_S("why", "it has the secret, but is not among the peers known here"));
    peer_connect(t, p);
}

static int welcome_proof(struct link *l, const uint8_t *data, size_t len)
{
    struct transport *t = l->transport;

    if (len < PROOF_LEN || !handshake_check(&l->shake, "opener", data)) {
        l->why = l->shake.hello.kind == HANDSHAKE_JOIN
                     ? "its token is not of this cluster, or was changed"
                     : "it does not know the cluster's secret";
        return ERR_REFUSED;
    }
    if (l->shake.hello.kind == HANDSHAKE_JOIN) {
        int err = take_joiner(l, data + PROOF_LEN, len - PROOF_LEN);
        if (err != 0)
            join_refuse(l, err);
        return err;
    }
    int order = compare_epochs(l, &l->shake.hello.epoch);
    if (order != 0)
        return order;
    l->from = l->shake.hello.from;
    l->stage = LINK_RECEIVES;
    t->strangers--;
    uv_timer_stop(&l->timer);
    frame_add(l, "", 0);
    take_over(l);
    return 0;
}

void transport_join_answer(struct transport *t, uint64_t ticket, int err,
                           const struct raft_members *members)
{
    struct link *l;
    struct buf out = {0};

    TAILQ_FOREACH (l, &t->links, in_all)
        if (l->stage == LINK_WAITS_JOIN && l->ticket == ticket)
            break;
    if (l == NULL)
        return; /* it did not wait */
    welcome_encode(&l->shake, err, t->options.self, members, &out);
    frame_add(l, out.data, out.len);
    buf_free(&out);
    link_write(l);
}

/* ---- the opener's side ---- */

static int answer_challenge(struct link *l, const uint8_t *data, size_t len)
{
    uint8_t proof[PROOF_LEN];

    if (challenge_decode(&l->shake, data, len, proof) != 0)
        return ERR_MALFORMED;
    if (!handshake_check(&l->shake, "acceptor", proof)) {
        l->why = "it does not know the cluster's secret";
        return ERR_REFUSED;
    }
    /* Who is of an older epoch gets our proof all the same: by it, it believes ours. */
    int order = compare_epochs(l, &l->shake.epoch);
    if (order != 0 && epoch_order(&l->shake.hello.epoch, &l->shake.epoch) != EPOCH_OLDER)
        return order;
    l->why = NULL;
    handshake_prove(&l->shake, "opener", proof);
    frame_add(l, proof, sizeof proof);
    l->stage = LINK_WAITS_WELCOME;
    return 0;
}

static int take_welcome(struct link *l, size_t len)
{
    if (len != 0)
        return ERR_MALFORMED;
    uv_timer_stop(&l->timer);
    l->stage = LINK_SENDS;
    l->peer->wait_ms = RECONNECT_MS;
    log_event(LOG_NOTICE, "peer_connected", LOG_S("peer", l->peer->member.name));
    return 0;
}

static int take_message(struct link *l, const uint8_t *data, size_t len)
{
    struct transport *t = l->transport;
    struct peer *p = peer_of(t, l->from);

    if (p != NULL) {
        p->heard_ms = uv_now(t->loop);
        p->is_gone = false;
    } else {
        add_guest(l);
    }
    if (len == 0)
        return 0; /* it says that it is there */
    if (data[0] >= CHANNELS)
        return ERR_MALFORMED;
    t->facts.frames_in_total++;
    t->options.received(t->options.ctx, l->from, (enum transport_channel)data[0], data + 1,
                        len - 1);
    return 0;
}

static int take_frame(struct link *l, const uint8_t *data, size_t len)
{
    switch (l->stage) {
    case LINK_WAITS_HELLO: return welcome_hello(l, data, len);
    case LINK_WAITS_PROOF: return welcome_proof(l, data, len);
    case LINK_RECEIVES: return take_message(l, data, len);
    case LINK_LOOKS_UP: return ERR_MALFORMED; /* there is no connection yet */
    case LINK_WAITS_CHALLENGE: return answer_challenge(l, data, len);
    case LINK_WAITS_WELCOME: return take_welcome(l, len);
    case LINK_WAITS_JOIN:
    case LINK_SENDS: return ERR_MALFORMED; /* nothing is to be said on it */
    case LINK_CLOSING: return 0;
    }
    UNREACHABLE("a link stage");
}

static void take_bytes(struct link *l)
{
    uint32_t max = l->stage == LINK_RECEIVES ? TRANSPORT_FRAME_MAX : TRANSPORT_STRANGER_MAX;

    while (l->stage != LINK_CLOSING && l->in.len >= 4) {
        uint32_t len = be32_get(l->in.data);
        if (len > max) {
            l->transport->facts.malformed_total++;
            refuse(l, "a frame over its limit");
            return;
        }
        if (l->in.len < 4 + (size_t)len)
            return;
        int err = take_frame(l, l->in.data + 4, len);
        if (err != 0) {
            if (err == ERR_MALFORMED)
                l->transport->facts.malformed_total++;
            refuse(l, l->why != NULL ? l->why : err_text(err));
            return;
        }
        buf_consume(&l->in, 4 + (size_t)len);
        max = l->stage == LINK_RECEIVES ? TRANSPORT_FRAME_MAX : TRANSPORT_STRANGER_MAX;
    }
}

static void link_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct link *l = h->data;

    (void)suggested;
    *out = uv_buf_init((char *)buf_reserve(&l->in, READ_CHUNK), READ_CHUNK);
}

static void peer_gone(struct transport *t, uint64_t id)
{
    struct peer *p = peer_of(t, id);

    if (p != NULL)
        p->is_gone = true;
    if (t->options.gone != NULL)
        t->options.gone(t->options.ctx, id);
}

static void link_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct link *l = s->data;

    struct transport *t = l->transport;
    /* Of the connections of one peer, the latest alone is LINK_RECEIVES: see take_over(). A
     * timeout of ours says nothing new, and is not told. */
    bool is_gone = l->stage == LINK_RECEIVES && (n == UV_EOF || n == UV_ECONNRESET);

    (void)b;
    if (n < 0) {
        link_close(l);
        if (is_gone && !t->stopping)
            peer_gone(t, l->from);
    } else {
        l->transport->facts.bytes_in_total += (uint64_t)n;
        buf_added(&l->in, (size_t)n);
        take_bytes(l);
    }
}

/* And not the newcomer: a peer proves itself at once, so those who do not cannot lock it out.
 */
static void drop_oldest_stranger(struct transport *t)
{
    struct link *l;

    TAILQ_FOREACH (l, &t->links, in_all)
        if (l->stage == LINK_WAITS_HELLO || l->stage == LINK_WAITS_PROOF)
            break;
    if (l != NULL)
        refuse(l, "TRANSPORT_STRANGERS_MAX connections have not proved themselves");
}

static void accepted(uv_stream_t *listener, int status)
{
    struct transport *t = listener->data;

    if (status != 0) {
        say_refused(t, "?", uv_strerror(status));
        return;
    }
    if (t->strangers >= TRANSPORT_STRANGERS_MAX)
        drop_oldest_stranger(t);
    struct link *l = link_new(t, LINK_WAITS_HELLO);
    t->strangers++;
    if (uv_accept(listener, (uv_stream_t *)&l->tcp) != 0) {
        link_close(l);
        return;
    }
    link_options(l);
    uv_timer_start(&l->timer, link_timeout, TRANSPORT_PROOF_MS, 0);
    if (uv_read_start((uv_stream_t *)&l->tcp, link_alloc, link_read) != 0)
        link_close(l);
}

/* ---- peers ---- */

static void connected(uv_connect_t *req, int status)
{
    struct link *l = req->data;
    struct buf hello = {0};

    if (l->stage == LINK_CLOSING)
        return;
    if (status != 0 || uv_read_start((uv_stream_t *)&l->tcp, link_alloc, link_read) != 0) {
        link_close(l);
        return;
    }
    link_options(l);
    hello_encode(&l->shake.hello, &hello);
    frame_add(l, hello.data, hello.len);
    buf_free(&hello);
}

static void link_connect(struct link *l, const struct sockaddr_in *to)
{
    struct transport *t = l->transport;
    struct sockaddr_in own;

    l->stage = LINK_WAITS_CHALLENGE;
    l->connect.data = l;
    /* From where we listen: by that address, and no other of this machine, we are known. */
    if (uv_ip4_addr(t->options.listen_address, 0, &own) == 0)
        (void)uv_tcp_bind(&l->tcp, (const struct sockaddr *)&own, 0);
    if (uv_tcp_connect(&l->connect, &l->tcp, (const struct sockaddr *)to, connected) != 0)
        link_close(l);
}

static void looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct link *l = req->data;
    struct sockaddr_in to;

    if (l->stage != LINK_CLOSING && (status != 0 || found == NULL)) {
        say_refused(l->transport, l->peer->member.address, uv_strerror(status));
        link_close(l);
    } else if (l->stage != LINK_CLOSING) {
        memcpy(&to, found->ai_addr, sizeof to);
        link_connect(l, &to);
    }
    uv_freeaddrinfo(found);
    link_release(l);
}

/* "NAME:PORT": looked up for each attempt, since addresses move. */
static int look_up(struct link *l, const char *address)
{
    const struct addrinfo want = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(address, ':');
    char host[RAFT_ADDRESS_MAX];

    if (colon == NULL || colon == address)
        return ERR_SYNTAX;
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    l->lookup.data = l;
    if (uv_getaddrinfo(l->transport->loop, &l->lookup, looked_up, host, colon + 1, &want) != 0)
        return ERR_SYSTEM;
    l->stage = LINK_LOOKS_UP;
    l->handles++;
    return 0;
}

static void peer_connect(struct transport *t, struct peer *p)
{
    const struct identity *self = t->options.self;
    struct sockaddr_in a;
    struct link *l = link_new(t, LINK_WAITS_CHALLENGE);

    l->peer = p;
    p->link = l;
    l->shake.hello.kind = HANDSHAKE_PEER;
    l->shake.hello.from = self->id;
    l->shake.hello.to = p->member.id;
    l->shake.hello.epoch = self->epoch;
    memcpy(l->shake.hello.cluster, self->cluster, CLUSTER_LEN);
    secret_random(l->shake.hello.nonce, NONCE_LEN);
    memcpy(l->shake.key, self->secret, SECRET_LEN);
    l->shake.key_len = SECRET_LEN;
    uv_timer_start(&l->timer, link_timeout, CONNECT_MS, 0);
    if (parse_address(p->member.address, t->options.port, &a) == 0)
        link_connect(l, &a);
    else if (look_up(l, p->member.address) != 0)
        link_close(l);
}

/* The last one takes its place. */
static void peer_remove(struct transport *t, unsigned i)
{
    struct peer *p = &t->peers[i];

    if (p->link != NULL)
        link_close(p->link);
    *p = t->peers[--t->peers_n];
    if (i < t->peers_n && p->link != NULL)
        p->link->peer = p;
}

static void tick(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    uint64_t now_ms = uv_now(t->loop);
    bool is_due = now_ms >= t->alive_ms;

    if (is_due)
        t->alive_ms = now_ms + ALIVE_MS;
    for (unsigned i = 0; i < t->peers_n; i++) {
        struct peer *p = &t->peers[i];
        if (p->guest && now_ms > p->heard_ms + GUEST_MS)
            peer_remove(t, i--);
        else if (p->link == NULL && now_ms >= p->next_ms)
            peer_connect(t, p);
        else if (p->link != NULL && p->link->stage == LINK_SENDS && is_due)
            frame_add(p->link, "", 0);
    }
}

void transport_set_peers(struct transport *t, const struct raft_members *peers)
{
    /* Links point at their peers' places: end those that go or move, keep the rest. */
    for (unsigned i = 0; i < t->peers_n; i++)
        t->peers[i].wanted = t->peers[i].guest;
    for (unsigned i = 0; i < peers->n; i++) {
        struct peer *p = peer_of(t, peers->v[i].id);
        if (p == NULL)
            continue;
        p->wanted = strcmp(p->member.address, peers->v[i].address) == 0;
        p->guest = false;
        p->member = peers->v[i];
    }
    for (unsigned i = 0; i < t->peers_n;) {
        if (t->peers[i].wanted)
            i++;
        else
            peer_remove(t, i);
    }
    for (unsigned i = 0; i < peers->n; i++) {
        if (peers->v[i].id == t->options.self->id || peer_of(t, peers->v[i].id) != NULL)
            continue;
        struct peer *p = &t->peers[t->peers_n++];
        *p = (struct peer){.member = peers->v[i], .wait_ms = RECONNECT_MS};
        peer_connect(t, p);
    }
}

void transport_guest(struct transport *t, const struct raft_member *m)
{
    struct peer *p = peer_of(t, m->id);

    if (m->id == t->options.self->id ||
        (p != NULL && (!p->guest || strcmp(p->member.address, m->address) == 0)))
        return;
    if (p != NULL)
        peer_remove(t, (unsigned)(p - t->peers));
    if (!has_room_for_guest(t))
        return;
    p = &t->peers[t->peers_n++];
    *p = (struct peer){.guest = true, .wait_ms = RECONNECT_MS, .heard_ms = uv_now(t->loop)};
    p->member = *m;
    peer_connect(t, p);
}

/* A large message goes as it is, behind what was collected: what the kernel takes at once need
 * not be copied. Returns how many bytes of the message went. */
static size_t send_now(struct link *l, const uint8_t *data, size_t len)
{
    if (l->queued_bytes > 0)
        return 0;
    link_enter(l);
    take_rest(l);
    uv_buf_t b[] = {uv_buf_init((char *)l->out.data, (unsigned)l->out.len),
                    uv_buf_init((char *)data, (unsigned)len)};
    int n = uv_try_write((uv_stream_t *)&l->tcp, b, 2);
    /* What is wrong with it shows when the rest is written. */
    size_t sent = n > 0 ? (size_t)n : 0, first = sent < l->out.len ? sent : l->out.len;
    l->is_cut = (l->is_cut || sent > 0) && sent < l->out.len + len;
    link_leave(l, !l->is_cut);
    l->transport->facts.bytes_out_total += sent;
    buf_consume(&l->out, first);
    return sent - first;
}

void transport_send(struct transport *t, uint64_t to, enum transport_channel channel,
                    const uint8_t *data, size_t len)
{
    struct peer *p = peer_of(t, to);
    size_t done = 0;

    if (p == NULL || p->link == NULL || p->link->stage != LINK_SENDS ||
        p->link->queued_bytes + p->link->out.len + len > TRANSPORT_QUEUE_MAX) {
        t->facts.dropped_total++;
        return;
    }
    buf_add_be32(&p->link->out, (uint32_t)(len + 1));
    buf_add_u8(&p->link->out, (uint8_t)channel);
    if (len >= TRANSPORT_LARGE)
        done = send_now(p->link, data, len);
    if (done > 0 && MUTANT(transport_rest_lost))
        done = len;
    buf_add(&p->link->out, data + done, len - done);
    t->facts.frames_out_total++;
}

bool transport_lend(struct transport *t, uint64_t to)
{
    struct door *d = t->options.door;
    struct peer *p = peer_of(t, to);
    struct link *l = p != NULL ? p->link : NULL;
    int fd;

    if (t->lent != NULL) {
        door_enter(d);
        take_rest(t->lent);
        door_leave(d, false);
    }
    if (d == NULL || l == NULL || l->stage != LINK_SENDS || l->is_cut || l->queued_bytes > 0 ||
        uv_fileno((uv_handle_t *)&l->tcp, &fd) != 0)
        return false;
    t->lent = l;
    door_open(d, fd);
    return true;
}

bool transport_put(struct door *d, enum transport_channel channel, const uint8_t *data,
                   size_t len, bool *has_rest)
{
    uint8_t frame[5 + TRANSPORT_PUT_MAX];

    *has_rest = false;
    if (len > TRANSPORT_PUT_MAX)
        return false;
    be32_put(frame, (uint32_t)(len + 1));
    frame[4] = (uint8_t)channel;
    memcpy(frame + 5, data, len);
    return door_put(d, frame, 5 + len, has_rest);
}

void transport_flush(struct transport *t)
{
    struct link *l;

    TAILQ_FOREACH (l, &t->links, in_all)
        link_write(l);
}

bool transport_is_connected(const struct transport *t, uint64_t to)
{
    for (unsigned i = 0; i < t->peers_n; i++)
        if (t->peers[i].member.id == to)
            return t->peers[i].link != NULL && t->peers[i].link->stage == LINK_SENDS;
    return false;
}

uint64_t transport_silence_ms(const struct transport *t, uint64_t id)
{
    for (unsigned i = 0; i < t->peers_n; i++)
        if (t->peers[i].member.id == id && t->peers[i].heard_ms != 0)
            return uv_now(t->loop) - t->peers[i].heard_ms;
    return UINT64_MAX;
}

bool transport_is_gone(const struct transport *t, uint64_t id)
{
    for (unsigned i = 0; i < t->peers_n; i++)
        if (t->peers[i].member.id == id)
            return t->peers[i].is_gone;
    return false;
}

void transport_facts(const struct transport *t, struct transport_facts *out)
{
    struct door_facts put = {0};

    *out = t->facts;
    if (t->options.door != NULL)
        door_facts(t->options.door, &put);
    out->frames_out_total += put.messages_total;
    out->bytes_out_total += put.bytes_total;
}

/* ---- life ---- */

int transport_start(struct transport **out, uv_loop_t *loop,
                    const struct transport_options *options, struct buf *why)
{
    struct transport *t = mem_new(struct transport);
    struct sockaddr_in a;

    t->options = *options;
    t->loop = loop;
    TAILQ_INIT(&t->links);
    CHECK(uv_tcp_init(loop, &t->listener) == 0 && uv_timer_init(loop, &t->timer) == 0);
    t->listener.data = t->timer.data = t;
    t->handles = 2;
    int err = uv_ip4_addr(options->listen_address, options->port, &a);
    if (err == 0)
        err = uv_tcp_bind(&t->listener, (const struct sockaddr *)&a, 0);
    if (err == 0)
        err = uv_listen((uv_stream_t *)&t->listener, 128, accepted);
    if (err != 0) {
        buf_printf(why, "cannot listen on %s:%u: %s", options->listen_address, options->port,
                   uv_strerror(err));
        transport_stop(t);
        return ERR_SYSTEM;
    }
    uv_timer_start(&t->timer, tick, RECONNECT_MS / 2, RECONNECT_MS / 2);
    *out = t;
    return 0;
}

static void handle_closed(uv_handle_t *h)
{
    struct transport *t = h->data;

    t->handles--;
    free_if_done(t);
}

void transport_stop(struct transport *t)
{
    struct link *l;

    t->stopping = true;
    TAILQ_FOREACH (l, &t->links, in_all)
        link_close(l);
    uv_close((uv_handle_t *)&t->listener, handle_closed);
    uv_close((uv_handle_t *)&t->timer, handle_closed);
}
