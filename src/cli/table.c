/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands; cmd.h says what is made from it. Sorted by name. */
#include <stddef.h>

#include "cli/cmd.h"

/* clang-format off */
#define END {NULL, 0, NULL, NULL}
#define DATA {"data", 0, "DIR", "where this machine keeps its data; default " CMD_DIR_DEFAULT}
#define MACHINE                                                                              \
    DATA,                                                                                    \
    {"name", 0, "NAME", "this machine's name; default: the host's"},                         \
    {"address", 0, "IP", "this machine's own IPv4 address"}

static const struct cmd_option apply_options[] = {
    {"dry-run", 'n', NULL, "show the plan, change nothing"}, END};
static const struct cmd_option create_options[] = {
    {"ephemeral", 'e', NULL, "it is there as long as this command runs: until Ctrl-C"},
    {"sequential", 's', NULL, "a number is added to its name"},
    {"parents", 'p', NULL, "make the znodes above it, too, and do not mind if it exists"}, END};
static const struct cmd_option delete_options[] = {
    {"recursive", 'r', NULL, "with everything below it"},
    {"yes", 'y', NULL, "do not ask"},
    {"if-version", 0, "N", "only if it has this version"}, END};
static const struct cmd_option lock_options[] = {
    {"wait", 0, "SEC", "give up when it is not ours by then; 0: at once"},
    {"session", 0, "SEC", "how long the lock outlives a lost connection; default 10"}, END};
static const struct cmd_option machine_options[] = {MACHINE, END};
static const struct cmd_option token_options[] = {DATA, END};
static const struct cmd_option server_options[] = {
    DATA,
    {"listen", 0, "IP:PORT", "for clients; default 127.0.0.1:2181"},
    {"http", 0, "IP:PORT", "for metrics and status; default: the port below"}, END};
static const struct cmd_option set_options[] = {
    {"if-version", 0, "N", "only if it has this version"}, END};
static const struct cmd_option status_options[] = {
    {"http", 0, "HOST:PORT", "whom to ask; environment: MUSTER_HTTP; default " CMD_HTTP_DEFAULT},
    DATA,
    {"watch", 'w', NULL, "show it again and again, until Ctrl-C"}, END};
static const struct cmd_option up_options[] = {
    MACHINE,
    {"ensemble", 0, "HOST:PORT,...", "no server here: on these, of Apache ZooKeeper; /CHROOT may "
                                     "stand behind the last. Needs --address"},
    {"no-balancer", 0, NULL, "leave HAProxy alone"}, END};
static const struct cmd_option watch_options[] = {
    {"recursive", 'r', NULL, "and everything below it"}, END};

const struct cmd cmd_table[] = {
    {"apply", "FILE", "Make the site what the file says",
        1, 1, CMD_FIRST_HOUR, apply_options,
        "  muster apply --dry-run site.yml     what would change\n"
        "  muster apply site.yml               change it\n",
        cmd_apply},
    {"completion", "SHELL", "Print the completion for a shell: bash",
        1, 1, 0, NULL,
        "  muster completion bash > /usr/share/bash-completion/completions/muster\n"
        "  . <(muster completion bash)\n",
        cmd_completion},
    {"create", "PATH [DATA]", "Create a znode",
        1, 2, 0, create_options,
        "  muster create /shop \"hello\"\n"
        "  muster create -p /shop/config/mail - < mail.json   data from a file\n"
        "  muster create -s /shop/job-                        prints /shop/job-0000000000\n"
        "  muster create -e /shop/here                        there until Ctrl-C\n",
        cmd_create},
    {"delete", "PATH", "Delete a znode",
        1, 1, 0, delete_options,
        "  muster delete /shop/job-0000000000\n"
        "  muster delete -r --yes /shop          with everything below it\n",
        cmd_delete},
    {"get", "PATH", "Print the data of a znode",
        1, 1, 0, NULL,
        "  muster get /muster/site\n"
        "  muster get --json /shop               with its stat\n",
        cmd_get},
    {"init", "", "Make a cluster of one machine, and print how others join",
        0, 0, CMD_FIRST_HOUR | CMD_RAW, machine_options,
        "  muster init --name a --address 10.0.0.11\n"
        "  muster up\n",
        cmd_init},
    {"join", "ADDRESS TOKEN", "Make this machine part of a cluster",
        2, 2, CMD_FIRST_HOUR | CMD_RAW, machine_options,
        "  muster join 10.0.0.11 TOKEN --name b --address 10.0.0.12\n"
        "  muster up\n",
        cmd_join},
    {"lock", "NAME -- COMMAND...", "Run a command while holding a lock of the site",
        1, 1, CMD_TAIL, lock_options,
        "  muster lock deploy -- cap production deploy\n"
        "  muster lock --wait 0 nightly -- /usr/local/bin/nightly   only if it is free\n"
        "  muster lock report -- sh -c 'echo $MUSTER_LOCK_TOKEN'    grows with each holder\n",
        cmd_lock},
    {"ls", "[PATH]", "List the children of a znode",
        0, 1, 0, NULL,
        "  muster ls /\n"
        "  muster ls /services/web\n",
        cmd_ls},
    {"server", "", "Run one ZooKeeper-protocol server alone, in the foreground",
        0, 0, CMD_RAW, server_options,
        "  muster server --data /tmp/try\n"
        "  muster server --data /tmp/try --listen 127.0.0.1:12181\n",
        cmd_server},
    {"set", "PATH DATA", "Set the data of a znode",
        2, 2, 0, set_options,
        "  muster set /shop \"hello\"\n"
        "  muster set /shop - < shop.json        data from a file\n"
        "  muster set --if-version 3 /shop x     only if nobody else has set it\n",
        cmd_set},
    {"stat", "PATH", "Show what is known about a znode",
        1, 1, 0, NULL,
        "  muster stat /muster/site\n",
        cmd_stat},
    {"status", "", "Say how the site is, the verdict first",
        0, 0, CMD_FIRST_HOUR, status_options,
        "  muster status\n"
        "  muster status --watch\n"
        "  muster status --json | jq .verdict\n",
        cmd_status},
    {"token", "", "Print the command with which another machine joins",
        0, 0, CMD_FIRST_HOUR | CMD_RAW, token_options,
        "  muster token\n",
        cmd_token},
    {"up", "", "Run this machine's part, server and agent, in the foreground",
        0, 0, CMD_FIRST_HOUR | CMD_RAW, up_options,
        "  muster up\n"
        "  muster up --data /srv/muster\n"
        "  muster up --ensemble zk1:2181,zk2:2181,zk3:2181/muster --address 10.0.0.12\n",
        cmd_up},
    {"watch", "PATH", "Print a line for each change of a znode, until Ctrl-C",
        1, 1, 0, watch_options,
        "  muster watch /muster/site\n"
        "  muster watch -r /services\n",
        cmd_watch},
};
/* clang-format on */
const unsigned cmd_table_len = sizeof cmd_table / sizeof cmd_table[0];
