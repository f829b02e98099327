/* SPDX-License-Identifier: Apache-2.0 */
/* recipe.h -- what the recipes for scripts share: a session, signals, --wait, and a command
 * that runs only as long as what it was started for is ours.
 *
 * Ours is what hangs on the session: an ephemeral znode. So the command is stopped in good
 * time before the session can have ended (client_alive_until), whether or not we hear of it:
 * first asked, with SIGTERM, then killed; by guard.h, when this process is stopped meanwhile.
 * What that cannot cover (the whole machine is paused, a write is still under way)
 * MUSTER_FENCING_TOKEN does: it grows from holder to holder, so that what the command writes to
 * can refuse an older one. */
#ifndef MUSTER_RECIPE_H
#define MUSTER_RECIPE_H

#include "cli/child.h"
#include "cli/session.h"

#define RECIPE_SIGNALS 7
#define RECIPE_HOLDER_MAX 200
#define RECIPE_ID_LEN 32

struct recipe {
    struct cmd_env *env;
    struct client_sync *s;
    const char *what;          /* what can be lost, for messages: "lock" */
    uint64_t wait_until_ms;    /* --wait; UINT64_MAX: for ever */
    client_on_watch *on_watch; /* told of watches before `fired` is set; may be NULL */
    void *ctx;
    char id[RECIPE_ID_LEN + 1]; /* hex digits that nobody else has */
    /* Set by what happens, cleared by who has acted on it. */
    bool expired;    /* the session has ended, and what hung on it is gone */
    bool fired;      /* a watch; or there is a connection again, and one may have been missed */
    int interrupted; /* a signal that ends the waiting; 0: none */
    int told_to_end; /* a signal that ends us, also when the command got it */
    bool said;       /* that the servers do not answer */
    uv_signal_t signals[RECIPE_SIGNALS];
    struct child child;
    bool asked_to_end, killed;
};

/* Reads --wait and --session, connects, listens to signals. 0, or the exit code when it has
 * been said why not: then there is nothing to close. The recipe must not move. */
int recipe_open(struct recipe *r, struct cmd_env *env, const char *what);
void recipe_close(struct recipe *r);

/* "/locks" and "deploy" -> "/locks/deploy"; NULL when it cannot be a name (it has been said).
 * Free with mem_free(). */
char *recipe_path(const struct cmd_env *env, const char *parent, const char *name);
/* Makes it and what is above it, where it is missing. */
int recipe_make_dir(struct client_sync *s, const char *path);
/* Deletes it if it is there, until it is known that it is not. */
int recipe_delete(struct recipe *r, const char *path);
/* Who we are, for the data of a znode: "a, process 17: sleep" */
void recipe_describe(const struct recipe *r, char out[RECIPE_HOLDER_MAX]);

/* Sets a watch on that path. 0: it fires when the znode changes; ERR_NO_NODE: it is not there,
 * and it fires when it comes. */
int recipe_watch(struct recipe *r, const char *path);
/* Until a watch fires, the session expires, or a signal comes. ERR_TIMED_OUT: --wait is
 * over. */
int recipe_wait(struct recipe *r);
bool recipe_is_late(const struct recipe *r); /* --wait is over */
/* After an error: whether the servers only did not answer, and it is worth asking again. */
bool recipe_again(struct recipe *r, int err);

/* MUSTER_`word` and MUSTER_`word`_`rest` for the command. */
void recipe_setenv(const char *word, const char *rest, const char *value);
void recipe_setenv_token(int64_t token); /* MUSTER_FENCING_TOKEN */
/* A file of these bytes for the command's stdin; -1: errno. */
int recipe_stdin(const void *data, size_t len);
/* Runs env->tail until its end, or as long as the session surely lives. Its exit code;
 * EXIT_LOST and asked_to_end: it was stopped, or not even started. */
int recipe_run(struct recipe *r, int stdin_fd);

#endif
