/* SPDX-License-Identifier: Apache-2.0 */
/* words_server.c -- one server on loopback, with any setting: for tests.
 *
 *   tool_words_server DIR CLIENT_PORT HTTP_PORT [KEY=VALUE...]      keys: server/settings.h
 *
 * Until it is terminated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "server/server.h"

static void failed(void *ctx, int err)
{
    (void)ctx;
    fprintf(stderr, "words_server: the disk: %d\n", err);
    exit(1);
}

static void set(struct settings *s, char *text)
{
    char *value = strchr(text, '=');

    if (value != NULL)
        *value++ = 0;
#define N(field, key, v, least, most, help)          \
    if (value != NULL && strcmp(text, key) == 0) {   \
        s->field = (int32_t)strtol(value, NULL, 10); \
        return;                                      \
    }
#define B(field, key, v, help)                     \
    if (value != NULL && strcmp(text, key) == 0) { \
        s->field = strcmp(value, "true") == 0;     \
        return;                                    \
    }
#define T(field, key, v, help)                            \
    if (value != NULL && strcmp(text, key) == 0) {        \
        snprintf(s->field, sizeof s->field, "%s", value); \
        return;                                           \
    }
    SETTINGS(N, B, T)
#undef N
#undef B
#undef T
    fprintf(stderr, "words_server: no setting %s\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    struct identity self = {.id = 1, .name = "server", .address = "127.0.0.1"};
    struct buf why = {0};
    struct server *server;

    if (argc < 4) {
        fputs("usage: tool_words_server DIR CLIENT_PORT HTTP_PORT [KEY=VALUE...]\n", stderr);
        return 2;
    }
    self.peers = (struct raft_members){
        .n = 1, .v = {{.id = 1, .voter = true, .name = "server", .address = "127.0.0.1:2182"}}};
    struct server_options options = {
        .dir = argv[1],
        .settings = settings_default(),
        .self = &self,
        .client_address = "127.0.0.1",
        .client_port = (uint16_t)atoi(argv[2]),
        .http_address = "127.0.0.1",
        .http_port = (uint16_t)atoi(argv[3]),
        .version = "test",
        .failed = failed,
    };
    for (int i = 4; i < argc; i++)
        set(&options.settings, argv[i]);
    if (server_create(options.dir, &self, &why) != 0 ||
        server_start(&server, uv_default_loop(), &options, &why) != 0) {
        fprintf(stderr, "words_server: %s\n", buf_text(&why));
        return 1;
    }
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
