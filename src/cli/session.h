/* SPDX-License-Identifier: Apache-2.0 */
/* session.h -- what the commands that ask the tree share. */
#ifndef MUSTER_CLI_SESSION_H
#define MUSTER_CLI_SESSION_H

#include "cli/cmd.h"
#include "client/client_uv_sync.h"

#define SESSION_TIMEOUT_MS 10000

/* Connects as env says; session_ms: the session's timeout. 0, or the exit code when it has been
 * said why not. */
int session_open(const struct cmd_env *env, uint32_t session_ms, client_on_event *on_event,
                 client_on_watch *on_watch, void *ctx, struct client_sync **out);

/* Says why an operation on a path failed, with the likely cause and the next command, and
 * gives the exit code. verb: "read", "set"; is_write: it may have happened. */
int session_failed(const struct client_sync *s, const char *verb, const char *path, int err,
                   bool is_write);

/* "/a" -> 0; what cannot be a path -> EXIT_USAGE, and it has been said. */
int session_check_path(const char *path);

/* DATA of the command line: "-" is all of stdin. 0, or an exit code. */
int session_data(const char *word, struct buf *out);

/* The path of a child; free with mem_free(). */
char *session_child(const char *parent, const char *name);

#endif
