/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h -- the commands of muster, one row each.
 *
 * The table is the only place where a command is known. Dispatch, usage, the options and the
 * number of arguments, --help with its examples, "did you mean", and the completion of the
 * shell all come from it; a test runs every row with --help.
 *
 * Results go to stdout, all else to stderr. An error has four parts: see cmd_fail().
 */
#ifndef MUSTER_CMD_H
#define MUSTER_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifndef MUSTER_VERSION
#define MUSTER_VERSION "0.1.0"
#endif

#define CMD_DIR_DEFAULT "/var/lib/muster"
#define CMD_HTTP_DEFAULT "127.0.0.1:2180"
#define CMD_SERVER_DEFAULT "127.0.0.1:2181"
#define CMD_OPTIONS_MAX 16 /* of one command */

/* clang-format off */
#define CMD_EXITS(X)                                                             \
    X(EXIT_OK, 0, "done; status: everything is well")                            \
    X(EXIT_FAILED, 1, "it failed; the message says why")                         \
    X(EXIT_USAGE, 2, "the command line is wrong; nothing was done")              \
    X(EXIT_DEGRADED, 3, "status: degraded")                                      \
    X(EXIT_DOWN, 4, "status: down; or no server answers")                        \
    X(EXIT_NOT_FOUND, 5, "what was named does not exist")                        \
    X(EXIT_UNSAFE, 6, "refused, because it would not be safe")                   \
    X(EXIT_TIMED_OUT, 7, "no answer in time; it may still have happened")        \
    X(EXIT_DIFFERENT, 8, "import --from: the trees differ")                      \
    X(EXIT_DAMAGED, 9, "backup, restore, recover: a file of it, or of the store, is damaged")     \
    X(EXIT_LOST, 13, "lock, elect, queue, barrier: it was lost, the command was stopped") \
    X(EXIT_EMPTY, 14, "queue: there was nothing to take")                        \
    X(EXIT_CONFIG, 78, "server: the configuration file cannot be used")          \
    X(EXIT_NO_COMMAND, 127, "the command behind \"--\" cannot be run")           \
    X(EXIT_INTERRUPTED, 130, "Ctrl-C")
/* clang-format on */
#define X(sym, number, text) sym = number,
enum cmd_exit { CMD_EXITS(X) };
#undef X

struct cmd_option {
    const char *name; /* without the dashes; NULL ends a list */
    char letter;      /* its short form; 0: none */
    const char *arg;  /* "DIR"; NULL: it is a switch */
    const char *help; /* one line, no full stop */
};

enum cmd_flags {
    CMD_FIRST_HOUR = 1 << 0, /* shown by a bare `muster` */
    CMD_RAW = 1 << 1,        /* run() gets its options in argv and parses them itself */
    CMD_TAIL = 1 << 2,       /* what follows "--" is a command line of its own */
    CMD_TAIL_MAYBE = 1 << 3, /* as CMD_TAIL, and it may be missing: env->tail is NULL */
};

struct cmd_env {
    const struct cmd *cmd;
    const char *servers;   /* --server, MUSTER_SERVER, or the default */
    const char *auth_file; /* --auth-file, MUSTER_AUTH_FILE; NULL: none */
    uint32_t timeout_ms;   /* --timeout: of one question */
    bool json;
    const char *values[CMD_OPTIONS_MAX]; /* of the command's options, in the table's order */
    char **tail;                         /* what follows "--", NULL at its end */
};

struct cmd {
    const char *name;
    const char *args; /* as shown in usage; "" when none */
    const char *help; /* one line, no full stop */
    int args_min, args_max;
    unsigned flags;
    const struct cmd_option *options;
    const char *examples; /* whole lines */
    /* argv[0] is the command's name, then its arguments (and options: CMD_RAW). */
    int (*run)(struct cmd_env *env, int argc, char **argv);
};

extern const struct cmd cmd_table[];
extern const unsigned cmd_table_len;

/* The whole program; returns its exit code. */
int cli_main(int argc, char **argv);

const struct cmd *cmd_find(const char *name);
/* The name among these that was probably meant; NULL: none is near. */
const char *cmd_nearest(const char *typed, const char *const *names, unsigned n);

/* The value of an option of this command; NULL: not given. A switch that is given: "". */
const char *cmd_option(const struct cmd_env *env, const char *name);

/* "muster: WHAT: FACT", then what is likely the cause and the next command. likely and next
 * may be NULL. Returns code. */
int cmd_fail(int code, const char *what, const char *fact, const char *likely,
             const char *next);

/* A whole number that is all of the text and within the limits. */
bool cmd_number(const char *text, long least, long most, long *out);

/* ---- the commands, by file ---- */
int cmd_ls(struct cmd_env *env, int argc, char **argv); /* tree_read.c */
int cmd_get(struct cmd_env *env, int argc, char **argv);
int cmd_stat(struct cmd_env *env, int argc, char **argv);
int cmd_watch(struct cmd_env *env, int argc, char **argv);  /* tree_watch.c */
int cmd_create(struct cmd_env *env, int argc, char **argv); /* tree_write.c */
int cmd_set(struct cmd_env *env, int argc, char **argv);
int cmd_delete(struct cmd_env *env, int argc, char **argv);
int cmd_lock(struct cmd_env *env, int argc, char **argv); /* lock.c */
int cmd_elect(struct cmd_env *env, int argc, char **argv);
int cmd_queue(struct cmd_env *env, int argc, char **argv);      /* queue.c */
int cmd_barrier(struct cmd_env *env, int argc, char **argv);    /* barrier.c */
int cmd_status(struct cmd_env *env, int argc, char **argv);     /* status.c */
int cmd_apply(struct cmd_env *env, int argc, char **argv);      /* apply.c */
int cmd_completion(struct cmd_env *env, int argc, char **argv); /* completion.c */
int cmd_init(struct cmd_env *env, int argc, char **argv);       /* machine.c */
int cmd_join(struct cmd_env *env, int argc, char **argv);
int cmd_token(struct cmd_env *env, int argc, char **argv);
int cmd_import(struct cmd_env *env, int argc, char **argv); /* import.c, copy.c */
int cmd_export(struct cmd_env *env, int argc, char **argv);
int cmd_backup(struct cmd_env *env, int argc, char **argv);  /* backup.c */
int cmd_restore(struct cmd_env *env, int argc, char **argv); /* restore.c */
int cmd_recover(struct cmd_env *env, int argc, char **argv); /* recover.c */
int cmd_up(struct cmd_env *env, int argc, char **argv);      /* run.c */
int cmd_server(struct cmd_env *env, int argc, char **argv);

#endif
