/* SPDX-License-Identifier: Apache-2.0 */
/* What a server sends, against the client's core. The first byte says whether the handshake
 * is ours or the input's; then pieces: a byte that says what we do before, and a length. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "client/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct client *c;
    uint64_t now_ms;
    uint64_t alive_until;
    unsigned asked, ended, expired;
};

static void on_event(void *ctx, enum client_event ev)
{
    struct fuzz *f = ctx;

    if (ev == CLIENT_EV_EXPIRED || ev == CLIENT_EV_CLOSED)
        f->expired++;
}

static void on_watch(void *ctx, int type, const char *path)
{
    (void)ctx;
    CHECK(type >= 1 && type <= 4);
    CHECK(path[0] == '/');
}

static void on_done(void *ctx, const struct client_reply *r)
{
    struct fuzz *f = ctx;

    f->ended++;
    for (size_t i = 0; i < r->children_n; i++)
        CHECK(strlen(r->children[i]) > 0);
    CHECK(r->path == NULL || r->path[0] == '/');
    for (int32_t i = 0; i < r->len; i++)
        f->now_ms += r->data[i] & 1; /* reads every byte */
}

static void ask(struct fuzz *f, uint8_t what)
{
    if (what < 6)
        f->asked++;
    switch (what) {
    case 0: client_get(f->c, f->now_ms, "/a", true, on_done, f); break;
    case 1: client_children(f->c, f->now_ms, "/a", true, on_done, f); break;
    case 2: client_create(f->c, f->now_ms, "/a", "x", 1, 0, on_done, f); break;
    case 3: client_exists(f->c, f->now_ms, "/a", true, on_done, f); break;
    case 4: client_add_watch(f->c, f->now_ms, "/a", true, on_done, f); break;
    case 5: client_sync(f->c, f->now_ms, "/a", on_done, f); break;
    case 6: client_set_timeout(f->c, f->now_ms, 3000); break;
    case 7: client_set_timeout(f->c, f->now_ms, 6000); break;
    case 8: client_close(f->c, f->now_ms); break;
    case 9: client_closed(f->c, f->now_ms); break;
    default: f->now_ms += what;
    }
}

static void turn(struct fuzz *f, bool with_handshake)
{
    static const uint8_t hello[] = "\0\0\0\x25\0\0\0\0\0\0\x10\0\1\0\0\0\0\0\0\7"
                                   "\0\0\0\x10"
                                   "0123456789abcdef";
    unsigned server;

    client_time(f->c, f->now_ms);
    for (;;) {
        switch (client_wants(f->c, f->now_ms, &server)) {
        case CLIENT_WANT_NOTHING: return;
        case CLIENT_WANT_CLOSE: break;
        case CLIENT_WANT_CONNECTION:
            CHECK(server < 3);
            client_opened(f->c, f->now_ms);
            if (with_handshake) /* 41 bytes: the text's own NUL is the flag */
                client_received(f->c, f->now_ms, hello, sizeof hello);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.now_ms = 1};
    struct client_options options = {.timeout_ms = 6000,
                                     .seed = 1,
                                     .servers = 3,
                                     .on_event = on_event,
                                     .on_watch = on_watch,
                                     .ctx = &f};
    bool with_handshake = size > 0 && (data[0] & 1);

    f.c = client_new(&options);
    turn(&f, with_handshake);
    for (size_t i = 1; i + 1 < size;) {
        size_t n = data[i + 1] < size - i - 2 ? data[i + 1] : size - i - 2;
        ask(&f, data[i]);
        client_received(f.c, f.now_ms, data + i + 2, n);
        turn(&f, with_handshake);
        i += 2 + n;
    }
    client_close(f.c, f.now_ms);
    f.now_ms += 100000;
    client_time(f.c, f.now_ms);
    CHECK(client_state(f.c) == CLIENT_CLOSED);
    CHECK(f.ended == f.asked);
    CHECK(client_alive_until(f.c) == 0);
    client_free(f.c);
    return 0;
}
