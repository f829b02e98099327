/* SPDX-License-Identifier: Apache-2.0 */
/* The servers' port, whole: connections, framing and handshake of transport.c on a libuv
 * without a kernel (fake_uv.h), and behind it the server's core. The input is a tape: who
 * connects or is connected to, what he says at each stage (the right thing, the right thing
 * changed, anything), what breaks; time, and peers that come and go.
 *
 * Checked: beside what all targets check, that nothing is received from who has not shown the
 * secret, no join asked for without its token's key, and that all handles are closed in the
 * end. */
#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "fake_uv.h"
#include "lib/lone_member.h"
#include "server/handshake.h"
#include "server/transport.h"
#include "tape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { LINKS = 16, STEPS_MAX = 300, TICKETS = 8 };

struct side {
    size_t place;
    bool has_hello, has_proof; /* it has said the right thing, unchanged */
    struct handshake shake;    /* of an accepted one */
};

struct world {
    struct tape tape;
    struct identity self;
    struct transport *transport;
    struct lone lone;
    struct side sides[LINKS];
    const struct side *talks; /* who is being heard */
    uint64_t tickets[TICKETS];
    unsigned tickets_n;
};

static void received(void *ctx, uint64_t from, enum transport_channel channel,
                     const uint8_t *data, size_t len)
{
    struct world *w = ctx;

    CHECK(w->talks != NULL && w->talks->has_hello && w->talks->has_proof);
    CHECK(from == w->talks->shake.hello.from);
    if (channel == CHANNEL_MEMBER)
        (void)member_peer(w->lone.member, from, data, len);
}

static void join(void *ctx, uint64_t ticket, const struct raft_member *joiner)
{
    struct world *w = ctx;

    CHECK(w->talks != NULL && w->talks->has_hello && w->talks->has_proof);
    CHECK(identity_name_is_valid(joiner->name));
    if (w->tickets_n < TICKETS)
        w->tickets[w->tickets_n++] = ticket;
}

/* ---- what the others say ---- */

static void spoil(struct tape *t, struct buf *b)
{
    unsigned how = tape_byte(t);

    if (b->len == 0)
        return;
    size_t at = tape_byte(t) % b->len;
    if (how % 4 == 0)
        b->len = at;
    else if (how % 4 == 1)
        b->data[at] = tape_byte(t);
    else if (how % 4 == 2)
        b->data[at] ^= (uint8_t)(1 << tape_below(t, 8));
    else
        buf_add_u8(b, tape_byte(t));
}

/* True if it was left as it is. */
static bool perhaps_spoil(struct tape *t, struct buf *b)
{
    if (tape_byte(t) < 200)
        return true;
    struct buf before = {0};
    buf_add(&before, b->data, b->len);
    spoil(t, b);
    bool same = before.len == b->len && memcmp(before.data, b->data, b->len) == 0;
    buf_free(&before);
    return same;
}

static void say(struct world *w, struct side *s, const struct buf *content, size_t piece)
{
    struct buf frame = {0};

    buf_add_be32(&frame, (uint32_t)content->len);
    buf_add(&frame, content->data, content->len);
    w->talks = s;
    fake_bytes(&fake.v[s->place], frame.data, frame.len, piece);
    w->talks = NULL;
    buf_free(&frame);
}

static void say_hello(struct world *w, struct side *s)
{
    struct tape *t = &w->tape;
    struct hello hello, *h = &hello;
    struct buf b = {0};
    bool is_join = tape_below(t, 3) == 0;

    *h = (struct hello){.kind = is_join ? HANDSHAKE_JOIN : HANDSHAKE_PEER,
                        .from = 2 + tape_below(t, 20),
                        .to = is_join ? 0 : w->self.id,
                        .expires_s = is_join ? UINT64_MAX / 2 : 0};
    if (!is_join)
        memcpy(h->cluster, w->self.cluster, CLUSTER_LEN);
    h->nonce[0] = tape_byte(t);
    hello_encode(h, &b);
    bool is_right = perhaps_spoil(t, &b);
    if (!is_right && hello_decode(h, b.data, b.len) == 0)
        is_right = true; /* another hello, but one */
    if (!s->has_hello) { /* a second one is a message, or nothing */
        s->shake.hello = hello;
        s->has_hello = is_right;
    }
    say(w, s, &b, 0);
    buf_free(&b);
}

static void say_proof(struct world *w, struct side *s)
{
    struct tape *t = &w->tape;
    struct fake_handle *f = &fake.v[s->place];
    struct handshake *h = &s->shake;
    struct buf b = {0};

    if (f->out.len < 4 + NONCE_LEN + PROOF_LEN)
        return;
    memcpy(h->nonce, f->out.data + 4, NONCE_LEN);
    if (h->hello.kind == HANDSHAKE_PEER) {
        memcpy(h->key, w->self.secret, SECRET_LEN);
        h->key_len = SECRET_LEN;
    } else {
        token_key(w->self.secret, h->hello.from, h->hello.expires_s, h->key);
        h->key_len = TOKEN_KEY_LEN;
    }
    handshake_prove(h, "opener", buf_reserve(&b, PROOF_LEN));
    buf_added(&b, PROOF_LEN);
    bool is_right = perhaps_spoil(t, &b) || b.len > PROOF_LEN;
    if (h->hello.kind == HANDSHAKE_JOIN) {
        struct raft_members one = {.n = 1, .v = {{.id = h->hello.from, .name = "new"}}};
        strcpy(one.v[0].address, "10.0.0.7:2182");
        raft_members_encode(&one, &b);
        (void)perhaps_spoil(t, &b); /* mostly the beginning: that is the proof, then */
        uint8_t proof[PROOF_LEN];
        handshake_prove(h, "opener", proof);
        is_right = b.len >= PROOF_LEN && memcmp(proof, b.data, PROOF_LEN) == 0;
    }
    s->has_proof = s->has_proof || is_right;
    say(w, s, &b, tape_below(t, 40));
    buf_free(&b);
}

/* The other side of a connection that was opened from here. */
static void say_challenge(struct world *w, struct side *s)
{
    struct tape *t = &w->tape;
    struct fake_handle *f = &fake.v[s->place];
    struct handshake h = {.key_len = SECRET_LEN};
    struct buf b = {0};

    if (f->out.len < 5 || be32_get(f->out.data) > f->out.len - 4 ||
        hello_decode(&h.hello, f->out.data + 4, be32_get(f->out.data)) != 0)
        return;
    memcpy(h.key, w->self.secret, SECRET_LEN);
    h.nonce[0] = tape_byte(t);
    buf_add(&b, h.nonce, NONCE_LEN);
    handshake_prove(&h, "acceptor", buf_reserve(&b, PROOF_LEN));
    buf_added(&b, PROOF_LEN);
    (void)perhaps_spoil(t, &b);
    say(w, s, &b, 0);
    buf_free(&b);
}

static void say_anything(struct world *w, struct side *s)
{
    struct tape *t = &w->tape;
    struct wire_bytes raw = tape_raw(t, tape_byte(t));
    struct buf b = {0};

    if (raw.len > 0)
        buf_add(&b, raw.data, (size_t)raw.len);
    if (tape_below(t, 8) != 0) {
        say(w, s, &b, tape_below(t, 20));
    } else {
        w->talks = s;
        fake_bytes(&fake.v[s->place], b.data, b.len, 0);
        w->talks = NULL;
    }
    buf_free(&b);
}

/* ---- steps ---- */

static bool is_there(const struct side *s)
{
    return s->place < FAKE_HANDLES_MAX && fake.v[s->place].h != NULL &&
           fake.v[s->place].is_stream && (void *)fake.v[s->place].h != (void *)fake.listener;
}

/* The place may have been another's before. */
static void sits(struct world *w, struct side *s, size_t place)
{
    for (unsigned i = 0; i < LINKS; i++)
        if (w->sides[i].place == place)
            w->sides[i].place = FAKE_HANDLES_MAX;
    *s = (struct side){.place = place};
}

static void come_in(struct world *w, struct side *s)
{
    sits(w, s, fake_connect_in(htonl(0x0a000002 + tape_below(&w->tape, 3)), 0));
}

/* A connection that was opened from here is answered, or not. */
static void go_out(struct world *w, struct side *s)
{
    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++)
        if (fake.v[i].connect != NULL) {
            sits(w, s, i);
            fake_connected(&fake.v[i], tape_below(&w->tape, 6) == 0 ? UV_ECONNREFUSED : 0);
            return;
        }
}

static void set_peers(struct world *w)
{
    struct raft_members all = {.n = 1 + tape_below(&w->tape, 5)};

    for (unsigned i = 0; i < all.n; i++) {
        all.v[i].id = i + 1;
        all.v[i].name[0] = (char)('a' + i);
        strcpy(all.v[i].address, tape_below(&w->tape, 4) == 0 ? "host:2182" : "10.0.0.2:2182");
    }
    transport_set_peers(w->transport, &all);
}

static void answer_join(struct world *w)
{
    struct raft_members all = {.n = 1, .v = {{.id = 1, .voter = true, .name = "a"}}};

    if (w->tickets_n > 0)
        transport_join_answer(w->transport, w->tickets[--w->tickets_n],
                              tape_below(&w->tape, 2) == 0 ? 0 : ERR_BUSY, &all);
}

static void guest(struct world *w)
{
    struct raft_member m = {.id = tape_below(&w->tape, 30), .name = "guest"};

    strcpy(m.address, tape_below(&w->tape, 2) == 0 ? "10.0.0.9" : "other.host:1");
    transport_guest(w->transport, &m);
}

static void step(struct world *w)
{
    struct tape *t = &w->tape;
    unsigned what = tape_byte(t);
    struct side *s = &w->sides[tape_below(t, LINKS)];

    if (what < 16) {
        come_in(w, s);
    } else if (what < 30) {
        go_out(w, s);
    } else if (what < 160 && is_there(s)) {
        if (what < 60)
            say_hello(w, s);
        else if (what < 90)
            say_proof(w, s);
        else if (what < 110)
            say_challenge(w, s);
        else
            say_anything(w, s);
    } else if (what < 170 && is_there(s)) {
        fake_end(&fake.v[s->place], what % 2 == 0 ? UV_EOF : UV_ECONNRESET);
    } else if (what < 180 && is_there(s)) {
        fake.v[s->place].room = what == 179 ? SIZE_MAX : tape_byte(t);
    } else if (what < 190) {
        fake_written(NULL, what == 189 ? UV_EPIPE : 0);
    } else if (what < 195) {
        set_peers(w);
    } else if (what < 200) {
        guest(w);
    } else if (what < 205) {
        answer_join(w);
    } else if (what < 215) {
        const uint8_t bytes[64] = {1};
        transport_send(w->transport, 2 + tape_below(t, 4), CHANNEL_AGENT, bytes, sizeof bytes);
    } else if (what < 220) {
        fake_lookup_ends(UV_EAI_NONAME);
    } else if (what < 240) {
        fake_time(1);
    } else {
        fake_time((uint64_t)1 << (what - 240));
        lone_run(&w->lone, 10);
    }
    transport_flush(w->transport);
    fake_closes();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world *w = mem_new(struct world);

    log_init(stderr, "", LOG_CRIT, NULL);
    fake_reset();
    fake.keeps = true;
    w->tape = (struct tape){.at = data, .end = data + len};
    w->self = (struct identity){.id = 1, .cluster = "cluster", .secret = "secret", .name = "a"};
    strcpy(w->self.address, "10.0.0.1");
    for (unsigned i = 0; i < LINKS; i++)
        w->sides[i].place = FAKE_HANDLES_MAX;
    lone_start(&w->lone, 1);
    const struct transport_options o = {.self = &w->self,
                                        .listen_address = "10.0.0.1",
                                        .port = 2182,
                                        .ctx = w,
                                        .received = received,
                                        .join = join};
    CHECK(transport_start(&w->transport, NULL, &o, NULL) == 0);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(&w->tape); i++)
        step(w);
    transport_stop(w->transport);
    for (unsigned i = 0; i < 3; i++) {
        fake_lookup_ends(UV_ECANCELED);
        fake_closes();
    }
    CHECK(fake_handles() == 0 && fake.writes_n == 0);
    lone_stop(&w->lone);
    tape_free(&w->tape);
    mem_free(w);
    return 0;
}
