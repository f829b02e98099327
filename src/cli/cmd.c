/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

#define NAME_COLUMN 12
#define SUGGEST_MAX 32 /* longer words are no typing errors */
#define TIMEOUT_DEFAULT_S 10
#define TIMEOUT_MAX_S 3600

/* clang-format off */
static const struct cmd_option global_options[] = {
    {"server", 0, "HOST[:PORT],...", "the servers to ask, with /CHROOT behind the last if there "
                                     "is one; environment: MUSTER_SERVER; default "
                                     CMD_SERVER_DEFAULT},
    {"auth-file", 0, "FILE", "credentials, a line digest:NAME:PASSWORD; environment: "
                             "MUSTER_AUTH_FILE"},
    {"timeout", 0, "SEC", "how long an answer is waited for; default 10"},
    {"json", 0, NULL, "print results as JSON"},
    {"help", 'h', NULL, "what the command does, with examples"},
    {"version", 0, NULL, "the version of this program"},
    {NULL, 0, NULL, NULL},
};
/* clang-format on */
enum global {
    GLOBAL_SERVER,
    GLOBAL_AUTH_FILE,
    GLOBAL_TIMEOUT,
    GLOBAL_JSON,
    GLOBAL_HELP,
    GLOBAL_VERSION
};

static const struct cmd_option no_options[] = {{NULL, 0, NULL, NULL}};

/* ---- help ---- */

static void print_options(FILE *to, const struct cmd_option *options)
{
    for (; options->name != NULL; options++) {
        char left[64];
        snprintf(left, sizeof left, "%c%c%s --%s%s%s", options->letter != 0 ? '-' : ' ',
                 options->letter != 0 ? options->letter : ' ', options->letter != 0 ? "," : " ",
                 options->name, options->arg != NULL ? " " : "",
                 options->arg != NULL ? options->arg : "");
        fprintf(to, "  %-32s %s\n", left, options->help);
    }
}

static const struct cmd_option *options_of(const struct cmd *cmd)
{
    return cmd->options != NULL ? cmd->options : no_options;
}

static void print_help(const struct cmd *cmd)
{
    printf("%s\n\nUsage: muster %s%s%s%s\n\n", cmd->help, cmd->name,
           options_of(cmd)->name != NULL ? " [OPTION...]" : "", cmd->args[0] != 0 ? " " : "",
           cmd->args);
    printf("Examples:\n%s\n", cmd->examples);
    if (options_of(cmd)->name != NULL) {
        puts("Options:");
        print_options(stdout, options_of(cmd));
        puts("");
    }
    puts("With every command:");
    print_options(stdout, global_options);
}

static void print_commands(FILE *to, unsigned flag)
{
    for (unsigned i = 0; i < cmd_table_len; i++) {
        const struct cmd *c = &cmd_table[i];
        if (flag == 0 || (c->flags & flag) != 0)
            fprintf(to, "  %-*s %-24s %s\n", NAME_COLUMN, c->name, c->args, c->help);
    }
}

static void print_all(void)
{
    puts("muster keeps a site of a few machines going when one of them dies.\n\n"
         "Examples:\n"
         "  muster init --name a --address 10.0.0.11 && muster up\n"
         "  muster apply site.yml\n"
         "  muster status\n\n"
         "Usage: muster COMMAND [OPTION...] [ARGUMENT...]\n\nCommands:");
    print_commands(stdout, 0);
    puts("\nWith every command:");
    print_options(stdout, global_options);
    puts("\nExit codes:");
#define X(sym, number, text) printf("  %3d  %s\n", number, text);
    CMD_EXITS(X)
#undef X
    puts("\nmuster COMMAND --help shows more of each, with examples first.");
}

static void print_first_hour(FILE *to)
{
    fputs("muster keeps a site of a few machines going when one of them dies.\n\n"
          "In the first hour:\n",
          to);
    print_commands(to, CMD_FIRST_HOUR);
    fputs("\nAll commands: muster --help. One of them, with examples: muster COMMAND --help\n",
          to);
}

/* ---- errors ---- */

int cmd_fail(int code, const char *what, const char *fact, const char *likely, const char *next)
{
    fprintf(stderr, "muster: %s: %s\n", what, fact);
    if (likely != NULL)
        fprintf(stderr, "  likely: %s\n", likely);
    if (next != NULL)
        fprintf(stderr, "  next:   %s\n", next);
    return code;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

/* How many typing errors: a letter too many, missing, wrong, or two swapped. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[3][SUGGEST_MAX + 1];
    size_t n = strlen(a), m = strlen(b);

    if (n > SUGGEST_MAX || m > SUGGEST_MAX)
        return SUGGEST_MAX;
    for (unsigned j = 0; j <= m; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= m; j++) {
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
    }
    return row[n % 3][m];
}

const char *cmd_nearest(const char *typed, const char *const *names, unsigned n)
{
    const char *best = NULL;
    unsigned least = strlen(typed) < 4 ? 2 : 3; /* as many errors are too many */

    for (unsigned i = 0; i < n; i++) {
        unsigned d = distance(typed, names[i]);
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    for (unsigned i = 0; best == NULL && strlen(typed) >= 2 && i < n; i++)
        if (strncmp(typed, names[i], strlen(typed)) == 0) /* NOLINT: no name is NULL */
            best = names[i];
    return best;
}

static int unknown_command(const char *typed)
{
    const char **names = mem_new_array(const char *, cmd_table_len);

    for (unsigned i = 0; i < cmd_table_len; i++)
        names[i] = cmd_table[i].name;
    const char *near = cmd_nearest(typed, names, cmd_table_len);
    mem_free(names);
    fprintf(stderr, "muster: there is no command \"%s\"", typed);
    if (near != NULL)
        fprintf(stderr, "; did you mean \"%s\"?", near);
    fputs("\n  next:   muster --help\n", stderr);
    return EXIT_USAGE;
}

static int unknown_option(const struct cmd *cmd, const char *typed)
{
    const char *names[CMD_OPTIONS_MAX + 8], *near;
    unsigned n = 0;

    for (const struct cmd_option *o = global_options; o->name != NULL; o++)
        names[n++] = o->name;
    for (const struct cmd_option *o = options_of(cmd); o->name != NULL; o++)
        names[n++] = o->name;
    near = strncmp(typed, "--", 2) == 0 ? cmd_nearest(typed + 2, names, n) : NULL;
    fprintf(stderr, "muster: %s has no option \"%s\"", cmd->name, typed);
    if (near != NULL)
        fprintf(stderr, "; did you mean \"--%s\"?", near);
    fprintf(stderr, "\n  next:   muster %s --help\n", cmd->name);
    return EXIT_USAGE;
}

static int wrong_usage(const struct cmd *cmd, const char *fact)
{
    fprintf(stderr, "muster: %s %s\n  usage:  muster %s%s%s\n  next:   muster %s --help\n",
            cmd->name, fact, cmd->name, cmd->args[0] != 0 ? " " : "", cmd->args, cmd->name);
    return EXIT_USAGE;
}

/* ---- parsing ---- */

struct parse {
    struct cmd_env *env;
    const char *global[GLOBAL_VERSION + 1];
    char **out; /* what run() gets */
    int out_n;
    char **at; /* the next word */
};

bool cmd_number(const char *text, long least, long most, long *out)
{
    char *end;

    errno = 0;
    *out = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && *out >= least && *out <= most;
}

/* The row of options that `word` ("--name", "--name=value") is; -1: none. */
static int find_long(const struct cmd_option *options, const char *word)
{
    size_t len = strcspn(word + 2, "=");

    for (int i = 0; options[i].name != NULL; i++)
        if (strlen(options[i].name) == len && memcmp(options[i].name, word + 2, len) == 0)
            return i;
    return -1;
}

static int find_short(const struct cmd_option *options, char letter)
{
    for (int i = 0; options[i].name != NULL; i++)
        if (options[i].letter == letter)
            return i;
    return -1;
}

/* Takes the value of an option that stands in this word or in the next one. */
static int take_value(struct parse *p, const struct cmd_option *o, const char *inside,
                      const char **value)
{
    char text[64];

    if (o->arg == NULL && inside == NULL) {
        *value = "";
        return 0;
    }
    if (o->arg == NULL || (inside == NULL && *p->at == NULL)) {
        snprintf(text, sizeof text, "--%s %s", o->name,
                 o->arg == NULL ? "takes no value" : "needs a value");
        return p->env->cmd != NULL
                   ? wrong_usage(p->env->cmd, text)
                   : cmd_fail(EXIT_USAGE, "wrong usage", text, NULL, "muster --help");
    }
    *value = inside != NULL ? inside : *p->at++;
    return 0;
}

static int take_long(struct parse *p, char *word)
{
    const struct cmd *cmd = p->env->cmd;
    const char *inside = strchr(word, '=');
    char **start = p->at - 1;
    int i, err;

    inside = inside != NULL ? inside + 1 : NULL;
    if (cmd != NULL && (i = find_long(options_of(cmd), word)) >= 0) {
        err = take_value(p, &options_of(cmd)[i], inside, &p->env->values[i]);
        for (; err == 0 && (cmd->flags & CMD_RAW) != 0 && start < p->at; start++)
            p->out[p->out_n++] = *start;
        return err;
    }
    if ((i = find_long(global_options, word)) >= 0)
        return take_value(p, &global_options[i], inside, &p->global[i]);
    if (cmd != NULL)
        return unknown_option(cmd, word);
    return cmd_fail(EXIT_USAGE, "wrong usage", "options of a command stand behind its name",
                    NULL, "muster --help");
}

/* "-r", "-es" */
static int take_short(struct parse *p, char *word)
{
    const struct cmd *cmd = p->env->cmd;

    for (const char *c = word + 1; *c != 0; c++) {
        int i = cmd != NULL ? find_short(options_of(cmd), *c) : -1;
        int err = 0;
        if (i >= 0)
            err = take_value(p, &options_of(cmd)[i], NULL, &p->env->values[i]);
        else if (*c == 'h')
            p->global[GLOBAL_HELP] = "";
        else
            return cmd != NULL ? unknown_option(cmd, word)
                               : cmd_fail(EXIT_USAGE, "wrong usage", "unknown option", NULL,
                                          "muster --help");
        if (err != 0)
            return err;
    }
    return 0;
}

static int take_words(struct parse *p)
{
    int err = 0;

    while (err == 0 && *p->at != NULL) {
        char *word = *p->at++;
        if (strcmp(word, "--") == 0) {
            if (p->env->cmd != NULL && (p->env->cmd->flags & (CMD_TAIL | CMD_TAIL_MAYBE)) != 0)
                p->env->tail = p->at;
            else
                while (*p->at != NULL)
                    p->out[p->out_n++] = *p->at++;
            break;
        }
        if (strncmp(word, "--", 2) == 0) {
            err = take_long(p, word);
        } else if (word[0] == '-' && word[1] != 0) {
            err = take_short(p, word);
        } else if (p->env->cmd == NULL) {
            p->env->cmd = cmd_find(word);
            p->out[p->out_n++] = word;
            if (p->env->cmd == NULL)
                return unknown_command(word);
        } else {
            p->out[p->out_n++] = word;
        }
    }
    return err;
}

static int take_globals(struct parse *p)
{
    const char *servers = p->global[GLOBAL_SERVER], *seconds = p->global[GLOBAL_TIMEOUT];
    double s = TIMEOUT_DEFAULT_S;
    char *end;

    if (servers == NULL)
        servers = getenv("MUSTER_SERVER");
    p->env->servers = servers != NULL && *servers != 0 ? servers : CMD_SERVER_DEFAULT;
    p->env->auth_file = p->global[GLOBAL_AUTH_FILE];
    if (p->env->auth_file == NULL)
        p->env->auth_file = getenv("MUSTER_AUTH_FILE");
    if (p->env->auth_file != NULL && *p->env->auth_file == 0)
        p->env->auth_file = NULL;
    if (seconds != NULL) {
        s = strtod(seconds, &end);
        if (end == seconds || *end != 0 || !(s >= 0.05 && s <= TIMEOUT_MAX_S))
            return cmd_fail(EXIT_USAGE, "--timeout", "seconds are wanted, 0.05 to 3600", NULL,
                            "muster --help");
    }
    p->env->timeout_ms = (uint32_t)(s * 1000);
    p->env->json = p->global[GLOBAL_JSON] != NULL;
    return 0;
}

static int dispatch(struct parse *p)
{
    struct cmd_env *env = p->env;
    int err = take_words(p);
    const struct cmd *cmd = env->cmd;

    /* Help is what is wanted most when the rest is wrong. */
    if (p->global[GLOBAL_HELP] != NULL && (err == 0 || cmd != NULL)) {
        if (cmd != NULL)
            print_help(cmd);
        else
            print_all();
        return EXIT_OK;
    }
    if (err != 0)
        return err;
    if (p->global[GLOBAL_VERSION] != NULL) {
        puts("muster " MUSTER_VERSION);
        return EXIT_OK;
    }
    if (cmd == NULL) {
        print_first_hour(stderr);
        return EXIT_USAGE;
    }
    if ((err = take_globals(p)) != 0)
        return err;
    int args = p->out_n - 1;
    if ((cmd->flags & CMD_RAW) == 0 && args < cmd->args_min)
        return wrong_usage(cmd, "needs more arguments");
    if ((cmd->flags & CMD_RAW) == 0 && args > cmd->args_max)
        return wrong_usage(cmd, "has too many arguments");
    if (env->tail != NULL ? env->tail[0] == NULL : (cmd->flags & CMD_TAIL) != 0)
        return wrong_usage(cmd, "needs a command line behind \"--\"");
    return cmd->run(env, p->out_n, p->out);
}

const struct cmd *cmd_find(const char *name)
{
    for (unsigned i = 0; i < cmd_table_len; i++)
        if (strcmp(cmd_table[i].name, name) == 0)
            return &cmd_table[i];
    return NULL;
}

const char *cmd_option(const struct cmd_env *env, const char *name)
{
    const struct cmd_option *o = options_of(env->cmd);

    for (unsigned i = 0; o[i].name != NULL; i++)
        if (strcmp(o[i].name, name) == 0)
            return env->values[i];
    UNREACHABLE("an option that is not in the table");
}

int cli_main(int argc, char **argv)
{
    struct cmd_env env = {0};
    struct parse p = {.env = &env, .at = argv + (argc > 0)};

    p.out = mem_new_array(char *, (size_t)argc + 1);
    int code = dispatch(&p);
    mem_free(p.out);
    if (fflush(stdout) != 0 && code == EXIT_OK)
        code = cmd_fail(EXIT_FAILED, "cannot print the result", strerror(errno), NULL, NULL);
    return code;
}
