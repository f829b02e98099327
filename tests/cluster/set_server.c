/* SPDX-License-Identifier: Apache-2.0 */
/* A server whose settings are arguments, alone or one of several, for tests of settings:
 *
 *   set_server DIR ID ADDRESS[,ADDRESS...] PORT [KEY=VALUE...]
 *
 * ADDRESS: of each server, IPv4, in order of their ids; ID: which of them this is, from 1.
 * KEY: a row of server/settings.h. The servers know each other by a secret of zeros. It runs
 * until it is killed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "host/clock.h"
#include "server/server.h"

static void end(const char *why)
{
    fprintf(stderr, "set_server: %s\n", why);
    exit(1);
}

static void failed(void *ctx, int err)
{
    (void)ctx;
    end(err_text(err));
}

static void set(struct settings *s, const char *pair)
{
    size_t len = strcspn(pair, "=");
    const char *value = pair + len + 1;

    if (pair[len] == 0)
        end(pair);
#define N(field, key, initial, least, most, help)          \
    if (strlen(key) == len && memcmp(key, pair, len) == 0) \
        s->field = (int32_t)strtol(value, NULL, 10);       \
    else
#define B(field, key, initial, help)                       \
    if (strlen(key) == len && memcmp(key, pair, len) == 0) \
        s->field = strcmp(value, "true") == 0;             \
    else
#define T(field, key, initial, help)                       \
    if (strlen(key) == len && memcmp(key, pair, len) == 0) \
        snprintf(s->field, sizeof s->field, "%s", value);  \
    else
    SETTINGS(N, B, T)
    end(pair);
}

int main(int argc, char **argv)
{
    static struct identity self;
    static struct server *server;
    struct server_options o = {.settings = settings_default(), .version = "test"};
    struct buf why = {0};
    char address[RAFT_MEMBERS_MAX][16] = {{0}};

    if (argc < 5)
        end("set_server DIR ID ADDRESS[,ADDRESS...] PORT [KEY=VALUE...]");
    log_init(stderr, argv[2], LOG_NOTICE, clock_wall_ms);
    for (const char *at = argv[3]; *at != 0 && self.peers.n < RAFT_MEMBERS_MAX;) {
        struct raft_member *m = &self.peers.v[self.peers.n];
        size_t len = strcspn(at, ",");
        snprintf(address[self.peers.n], 16, "%.*s", (int)len, at);
        m->id = ++self.peers.n;
        m->voter = true;
        snprintf(m->name, sizeof m->name, "s%u", self.peers.n);
        snprintf(m->address, sizeof m->address, "%.*s:%u", (int)len, at, SERVER_PEER_PORT);
        at += len + (at[len] == ',');
    }
    self.id = strtoull(argv[2], NULL, 10);
    if (self.id < 1 || self.id > self.peers.n)
        end("the ID is none of the addresses'");
    snprintf(self.name, sizeof self.name, "s%u", (unsigned)self.id);
    snprintf(self.address, sizeof self.address, "%s", address[self.id - 1]);
    for (int i = 5; i < argc; i++)
        set(&o.settings, argv[i]);
    int err = server_create(argv[1], &self, &why);
    if (err != 0 && err != ERR_EXISTS)
        end(buf_text(&why));
    buf_clear(&why);
    o.dir = argv[1];
    o.self = &self;
    o.client_address = self.address;
    o.client_port = (uint16_t)strtoul(argv[4], NULL, 10);
    o.peer_address = self.peers.n > 1 ? self.address : NULL;
    o.failed = failed;
    if (server_start(&server, uv_default_loop(), &o, &why) != 0)
        end(buf_text(&why));
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
