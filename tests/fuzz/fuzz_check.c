/* SPDX-License-Identifier: Apache-2.0 */
/* Health checks of services that answer what they like: check.c whole, on a libuv without a
 * kernel (fake_uv.h). The input is a tape: checks that begin and are stopped, connects that
 * succeed or not, answers in pieces, ends, time.
 *
 * Checked: each check has one result or none, a status is one of HTTP's, and all handles are
 * closed in the end. */
#include "base/check.h"
#include "fake_uv.h"
#include "host/check.h"
#include "tape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { STEPS_MAX = 200, RUNS_MAX = 32 };

struct world {
    struct tape tape;
    struct checks *checks;
    unsigned runs, told[RUNS_MAX];
};

static void done(void *ctx, uint64_t op, const struct service_result *r)
{
    struct world *w = ctx;

    CHECK(op < w->runs && ++w->told[op] == 1);
    if (r->outcome == SERVICE_OK && r->number != 0)
        CHECK(r->number >= 200 && r->number <= 399);
    if (r->outcome == SERVICE_STATUS)
        CHECK((r->number >= 400 && r->number <= 599) || (r->number >= 100 && r->number < 200));
}

static void begin(struct world *w)
{
    struct tape *t = &w->tape;
    static const char *const ways[] = {"/up", "/", "/a?b=c", "/bad path", "bad", ""};
    const struct service_check spec = {
        .type = tape_below(t, 3) == 0 ? SITE_CHECK_TCP : SITE_CHECK_HTTP,
        .service = "web",
        .address = tape_below(t, 8) == 0 ? "no address" : "10.0.0.1",
        .port = 80,
        .path = ways[tape_below(t, 6)],
        .timeout_ms = 1000,
    };

    if (w->runs < RUNS_MAX && checks_run(w->checks, w->runs, &spec) == 0)
        w->runs++;
}

static struct fake_handle *pick(struct world *w)
{
    unsigned want = tape_below(&w->tape, 16);

    for (size_t i = 0; i < FAKE_HANDLES_MAX; i++)
        if (fake.v[i].h != NULL && fake.v[i].is_stream && want-- == 0)
            return &fake.v[i];
    return NULL;
}

static void answer(struct world *w, struct fake_handle *f)
{
    static const char *const heads[] = {"HTTP/1.1 200 OK\r\n",
                                        "HTTP/1.0 503 \r\n",
                                        "HTTP/1.1 100 Continue\r\n\r\n",
                                        "HTTP/1.1 404\n",
                                        "HTTP/1.1 99999\r\n",
                                        "HTTP/2 200\r\n",
                                        "HTTP/1.1 103 Hints\r\nlink: x\r\n",
                                        "\r\n\r\n"};
    struct tape *t = &w->tape;
    struct buf b = {0};
    unsigned what = tape_byte(t);

    if (what < 200)
        buf_add_str(&b, heads[what % 8]);
    struct wire_bytes raw = tape_raw(t, tape_below(t, 32));
    if (raw.len > 0)
        buf_add(&b, raw.data, (size_t)raw.len);
    for (size_t n = what > 240 ? (size_t)1 << (what - 240) : 0; n > 0; n--)
        buf_add_u8(&b, (uint8_t)what);
    fake_bytes(f, b.data, b.len, what % 4 == 0 ? 1 + tape_byte(t) : 0);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct world *w = mem_new(struct world);
    struct tape *t = &w->tape;

    fake_reset();
    *t = (struct tape){.at = data, .end = data + len};
    w->checks = checks_new(NULL, done, w);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(t); i++) {
        unsigned what = tape_byte(t);
        struct fake_handle *f = what < 60 ? NULL : pick(w);
        if (what < 50)
            begin(w);
        else if (what < 60)
            checks_stop(w->checks, tape_below(t, RUNS_MAX));
        else if (what < 110 && f != NULL)
            fake_connected(f, what % 5 == 0 ? UV_ECONNREFUSED : 0);
        else if (what < 190 && f != NULL)
            answer(w, f);
        else if (what < 200 && f != NULL)
            fake_end(f, what % 2 == 0 ? UV_EOF : UV_ECONNRESET);
        else if (what < 210)
            fake_written(NULL, what == 209 ? UV_EPIPE : 0);
        else if (what < 230)
            fake_closes();
        else
            fake_time((uint64_t)1 << (what - 230) / 2);
    }
    checks_close(w->checks);
    fake_closes();
    CHECK(fake_handles() == 0 && fake.writes_n == 0);
    tape_free(t);
    mem_free(w);
    return 0;
}
