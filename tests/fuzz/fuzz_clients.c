/* SPDX-License-Identifier: Apache-2.0 */
/* The clients' port, whole: connections, framing, four-letter words, pauses and closes of
 * clients.c over the server's core, on a libuv without a kernel (fake_uv.h). The input is a
 * tape: who connects, sends what in which pieces (records, words, anything), takes nothing
 * any more, breaks off; time, and turns of the loop.
 *
 * Checked: beside what all targets check, that every handle is closed at the end, and that
 * what stops leaves nothing behind. */
#include "base/check.h"
#include "base/log.h"
#include "fake_uv.h"
#include "lib/fake_digest.h"
#include "lib/shelf.h"
#include "server/clients.h"
#include "tape.h"
#include "words_of.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { CONNS = 24, STEPS_MAX = 500, WALL_MS = 1700000000 };

struct world {
    struct tape tape;
    struct member *member;
    struct shelf shelf;
    struct clients *clients;
    struct settings settings;
    uint64_t now_ms, random;
    int64_t mask, session;
    size_t conns[CONNS]; /* places of their streams */
    uint8_t password[TREE_PASSWORD_LEN];
};

/* ---- the core's shell ---- */

static void send_peer(void *ctx, uint64_t to, const uint8_t *data, size_t len)
{
    (void)ctx, (void)to, (void)data, (void)len;
}

static void send_client(void *ctx, uint64_t conn, const uint8_t *data, size_t len)
{
    struct world *w = ctx;
    struct wire_in in = wire_in(data + 4, len - 4);
    struct wire_connect_response r;

    /* A greeting has a session and its password; a reply that looks like one does no harm. */
    if (len == 41 && wire_connect_response_decode(&r, &in) == 0 &&
        r.password.len == TREE_PASSWORD_LEN) {
        w->session = r.session_id;
        memcpy(w->password, r.password.data, TREE_PASSWORD_LEN);
    }
    clients_send(w->clients, conn, data, len);
}

static void close_client(void *ctx, uint64_t conn)
{
    clients_close(((struct world *)ctx)->clients, conn);
}

static void random_bytes(void *ctx, void *data, size_t len)
{
    struct world *w = ctx;

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)(w->random = w->random * 25214903917 + 11);
}

static void woken(void *ctx)
{
    struct world *w = ctx;

    member_time(w->member, fake.now_ms, (int64_t)WALL_MS * 1000 + (int64_t)fake.now_ms);
}

struct walk {
    struct member *member;
    connection_visit *visit;
    void *visitor;
};

static struct clients *listed;

static void one_connection(void *ctx, uint64_t conn, const char *address, unsigned interest)
{
    const struct walk *k = ctx;
    struct connection_facts f = {.address = address, .interest = interest};

    if (member_conn_facts(k->member, conn, &f.member))
        k->visit(k->visitor, &f);
}

static void connections(void *ctx, connection_visit *visit, void *visitor)
{
    struct walk k = {ctx, visit, visitor};

    clients_each(listed, one_connection, &k);
}

static enum word_result word(void *ctx, uint64_t conn, const uint8_t *data, size_t len,
                             struct buf *answer)
{
    struct world *w = ctx;
    struct server_facts f;
    size_t wanted = word_len(&w->settings, data);

    if (wanted == 0 || len < wanted)
        return wanted == 0 ? WORD_NONE : WORD_MORE;
    member_client_word(w->member, conn, wanted);
    struct words all = words_of(w->member, &w->settings, &f, &w->mask, connections);
    word_answer(&all, data, answer);
    member_client_word_done(w->member);
    return WORD_DONE;
}

static void turn(struct world *w)
{
    struct raft_save save;
    struct raft_job job;

    do {
        woken(w);
        member_flush(w->member);
        while (member_save_take(w->member, &save)) {
            member_saved(w->member);
            member_flush(w->member);
        }
        while (member_job_take(w->member, &job)) {
            member_job_done(w->member, shelf_job(&w->shelf, &job));
            member_flush(w->member);
        }
        (void)clients_resume(w->clients);
        fake_closes();
    } while (clients_wait(w->clients));
}

static void run(struct world *w, uint64_t ms)
{
    uint64_t end_ms = fake.now_ms + ms;

    turn(w);
    while (fake.now_ms < end_ms) {
        uint64_t due_ms = member_deadline(w->member);
        due_ms = due_ms <= fake.now_ms ? fake.now_ms + 1 : due_ms;
        fake_time((due_ms < end_ms ? due_ms : end_ms) - fake.now_ms);
        turn(w);
    }
}

static void start(struct world *w)
{
    const struct member_io io = {w,          send_peer, send_client, close_client, random_bytes,
                                 fake_digest};
    unsigned how = tape_byte(&w->tape);

    log_init(stderr, "", LOG_CRIT, NULL); /* what is logged is no finding */
    w->settings = settings_default();
    if ((how & 1) != 0)
        w->settings.clients_max = 6;
    if ((how & 2) != 0)
        w->settings.clients_from_one_max = 3;
    if ((how & 4) != 0)
        strcpy(w->settings.words, "*");
    if ((how & 8) != 0)
        w->settings.frame_max = 1024;
    const struct member_options options = {
        .raft = {.id = 1, .seed = 1},
        .snapshot_every = 100,
        .frame_max = (uint32_t)w->settings.frame_max,
        .rules = tape_byte(&w->tape) & 63,
        .outstanding_max = (how & 16) != 0 ? 2 : 0,
        .throttle_max = (how & 32) != 0 ? 2 : 0,
    };
    struct raft_members all = {.n = 1, .v = {{.id = 1, .voter = true, .name = "a"}}};
    struct tree *t = tree_new(1);
    struct buf snapshot = {0};
    tree_save(t, &snapshot);
    strcpy(all.v[0].address, "10.0.0.1:2182");
    w->member = member_new(&options, &io);
    member_load_state(w->member, 1, 1);
    CHECK(member_load_snapshot(w->member, 1, 1, &all, snapshot.data, snapshot.len) == 0);
    buf_free(&snapshot);
    tree_free(t);
    member_start(w->member, fake.now_ms, (int64_t)WALL_MS * 1000);
    const struct clients_options c = {.listen_address = "127.0.0.1",
                                      .port = 2181,
                                      .member = w->member,
                                      .ctx = w,
                                      .woken = woken,
                                      .word = word,
                                      .settings = &w->settings};
    CHECK(clients_start(&w->clients, NULL, &c, NULL) == 0);
    listed = w->clients;
    run(w, 1000);
    CHECK(member_is_serving(w->member));
}

/* ---- the clients ---- */

static struct fake_handle *pick(struct world *w)
{
    size_t place = w->conns[tape_below(&w->tape, CONNS)];

    if (place >= FAKE_HANDLES_MAX || fake.v[place].h == NULL || !fake.v[place].is_open)
        return NULL;
    return &fake.v[place];
}

static void add_frame(struct world *w, struct buf *out)
{
    struct buf body = {0};
    struct tape *t = &w->tape;
    unsigned what = tape_byte(t);

    if (what < 40) {
        const struct wire_connect_request q = {
            .timeout_ms = (int32_t)tape_number(t),
            .session_id = what < 30 ? 0 : w->session,
            .password = wire_bytes(w->password, TREE_PASSWORD_LEN),
            .read_only = (int8_t)((int)tape_below(t, 3) - 1),
        };
        wire_connect_request_encode(&q, &body);
    } else if (what < 230) {
        tape_request(t, (int32_t)what, &body);
    } else {
        struct wire_bytes raw = tape_raw(t, tape_byte(t));
        if (raw.len > 0)
            buf_add(&body, raw.data, (size_t)raw.len);
    }
    buf_add_be32(out, what == 255 ? (uint32_t)tape_number(t) : (uint32_t)body.len);
    if (body.len > 0)
        buf_add(out, body.data, body.len);
    buf_free(&body);
}

static void talk(struct world *w, struct fake_handle *f)
{
    static const char *const words[] = {"ruok", "stat", "mntr", "cons", "dump", "wchc",
                                        "wchp", "envi", "stmk", "crst", "srst", "conf",
                                        "isro", "gtmk", "hash", "dirs", "RUOK", "icfg"};
    struct tape *t = &w->tape;
    struct buf out = {0};
    unsigned what = tape_byte(t), n = 1 + tape_below(t, 4);

    if (what < 60) {
        buf_add_str(&out, words[what % (sizeof words / sizeof words[0])]);
        struct wire_bytes more = tape_raw(t, tape_below(t, 12));
        if (more.len > 0)
            buf_add(&out, more.data, (size_t)more.len);
    } else if (what < 100) {
        struct wire_bytes raw = tape_raw(t, tape_byte(t));
        if (raw.len > 0)
            buf_add(&out, raw.data, (size_t)raw.len);
    } else {
        while (n-- > 0)
            add_frame(w, &out);
    }
    fake_bytes(f, out.data, out.len, what % 3 == 0 ? 1 + tape_byte(t) : 0);
    buf_free(&out);
}

static void step(struct world *w)
{
    struct tape *t = &w->tape;
    unsigned what = tape_byte(t);
    struct fake_handle *f = what < 20 ? NULL : pick(w);

    if (what < 20) {
        fake.accept_fails = what == 19;
        w->conns[tape_below(t, CONNS)] =
            fake_connect_in(htonl(0x0a000001 + what % 2), what == 18 ? UV_EMFILE : 0);
        fake.accept_fails = false;
    } else if (what < 170 && f != NULL) {
        talk(w, f);
    } else if (what < 180 && f != NULL) {
        fake_end(f, what % 2 == 0 ? UV_EOF : UV_ECONNRESET);
    } else if (what < 190 && f != NULL) {
        f->room = tape_byte(t); /* it takes no more than that */
    } else if (what < 200 && f != NULL) {
        f->room = SIZE_MAX;
        fake_written(f, what == 199 ? UV_EPIPE : 0);
    } else if (what < 240) {
        turn(w);
    } else {
        run(w, (uint64_t)1 << (what - 240));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world *w = mem_new(struct world);

    fake_reset();
    w->tape = (struct tape){.at = data, .end = data + len};
    w->random = 1;
    for (size_t i = 0; i < CONNS; i++)
        w->conns[i] = FAKE_HANDLES_MAX;
    start(w);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(&w->tape); i++)
        step(w);
    turn(w);
    clients_stop(w->clients);
    fake_closes();
    CHECK(fake_handles() == 0 && fake.writes_n == 0);
    member_free(w->member);
    shelf_free(&w->shelf);
    tape_free(&w->tape);
    mem_free(w);
    return 0;
}
