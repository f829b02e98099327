/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands; cmd.h says what is made from it. Sorted by name. */
#include <stddef.h>

#include "cli/cmd.h"

/* clang-format off */
#define END {NULL, 0, NULL, NULL}
#define DATA {"data", 0, "DIR", "where this machine keeps its data; default " CMD_DIR_DEFAULT}
#define USER                                                                                 \
    {"user", 0, "USER", "as whom, if started as root; default: who owns the data directory, or " \
                        "(for a new one) muster if there is such a user, or root"}
#define NO_SECCOMP                                                                           \
    {"no-seccomp", 0, NULL, "do not forbid the calls of the kernel that are never made"}
#define MACHINE                                                                              \
    DATA,                                                                                    \
    {"name", 0, "NAME", "this machine's name; default: the host's"},                         \
    {"address", 0, "IP", "this machine's own IPv4 address"}

static const struct cmd_option apply_options[] = {
    {"dry-run", 'n', NULL, "show the plan, change nothing"}, END};
static const struct cmd_option backup_options[] = {
    DATA,
    {"http", 0, "HOST:PORT", "this machine's server; environment: MUSTER_HTTP; default "
                             CMD_HTTP_DEFAULT},
    {"full", 0, NULL, "the whole tree again, not only what is new"},
    {"keep", 0, "N", "then remove what is older than the last N full ones"},
    {"list", 0, NULL, "show what the backup has"},
    {"verify", 0, NULL, "prove it: replay all of it, and restore it aside"}, END};
static const struct cmd_option barrier_options[] = {
    {"count", 'n', "N", "wait until N have come; with a command also until all have left"},
    {"hold", 0, NULL, "close it, and come back at once"},
    {"release", 0, NULL, "open it"},
    {"pass", 0, NULL, "wait until it is open"},
    {"wait", 0, "SEC", "give up when it is not so by then"},
    {"session", 0, "SEC", "how long our place outlives a lost connection; default 10"}, END};
static const struct cmd_option create_options[] = {
    {"ephemeral", 'e', NULL, "it is there as long as this command runs: until Ctrl-C"},
    {"sequential", 's', NULL, "a number is added to its name"},
    {"parents", 'p', NULL, "make the znodes above it, too, and do not mind if it exists"}, END};
static const struct cmd_option delete_options[] = {
    {"recursive", 'r', NULL, "with everything below it"},
    {"yes", 'y', NULL, "do not ask"},
    {"if-version", 0, "N", "only if it has this version"}, END};
static const struct cmd_option import_options[] = {
    {"data", 0, "DIR", "where the new machine keeps its data"},
    {"name", 0, "NAME", "the new machine's name; default: the host's"},
    {"address", 0, "IP", "its own IPv4 address; without name and address: for muster server"},
    {"log-dir", 0, "DIR", "ZooKeeper's dataLogDir, if it has one"},
    {"dry-run", 'n', NULL, "say what is there, change nothing"},
    {"gaps", 0, NULL, "take what is there, though entries of the log are missing"},
    {"from", 0, "HOST:PORT[/PATH]", "copy a running ensemble instead, to --server"},
    {"to", 0, "PATH", "with --from: where the copy goes; default /"},
    {"compare", 0, NULL, "with --from: change nothing, say what differs"},
    {"follow", 'f', NULL, "with --from: go on copying what changes, until Ctrl-C"},
    {"keep", 0, NULL, "with --from: delete nothing that only the copy has"}, END};
static const struct cmd_option export_options[] = {
    {"data", 0, "DIR", "the data of a stopped machine; default " CMD_DIR_DEFAULT}, END};
static const struct cmd_option elect_options[] = {
    {"keep", 'k', NULL, "stand again when the leadership was lost; default: end with 13"},
    {"who", 0, NULL, "print who leads now, and do not stand"},
    {"wait", 0, "SEC", "give up when we do not lead by then; 0: at once"},
    {"session", 0, "SEC", "how long the leadership outlives a lost connection; default 10"},
    END};
static const struct cmd_option lock_options[] = {
    {"wait", 0, "SEC", "give up when it is not ours by then; 0: at once"},
    {"session", 0, "SEC", "how long the lock outlives a lost connection; default 10"}, END};
static const struct cmd_option machine_options[] = {MACHINE, USER, END};
static const struct cmd_option queue_options[] = {
    {"priority", 'p', "N", "put: 0 to 999, the lowest is taken first; default 100"},
    {"lines", 'l', NULL, "put: each line of stdin is an item"},
    {"wait", 0, "SEC", "take: give up when there is nothing by then; 0: at once"},
    {"session", 0, "SEC", "take: how long an item outlives a lost connection; default 10"}, END};
static const struct cmd_option token_options[] = {DATA, END};
static const struct cmd_option recover_options[] = {
    DATA,
    {"http", 0, "HOST:PORT", "this machine's server, while it runs; environment: MUSTER_HTTP; "
                             "default " CMD_HTTP_DEFAULT},
    {"yes", 0, "NAME", "this machine's name: do it, and do not ask"},
    {"older", 0, NULL, "also if another machine that answers has a newer copy"},
    {"inspect", 0, NULL, "show what only the stores have that were set aside here"}, END};
static const struct cmd_option restore_options[] = {
    {"data", 0, "DIR", "where the new machine keeps its data"},
    {"at", 0, "TIME|ZXID", "the tree as it was then; default: the end of the backup"},
    {"name", 0, "NAME", "the new machine's name; default: the host's"},
    {"address", 0, "IP", "its own IPv4 address; without name and address: for muster server"},
    {"above", 0, "ZXID", "clients have seen zxids up to this, above the backup's"},
    {"dry-run", 'n', NULL, "replay, say what is there, write nothing"}, END};
static const struct cmd_option server_options[] = {
    DATA,
    {"listen", 0, "IP:PORT", "for clients; default 127.0.0.1:2181"},
    {"http", 0, "IP:PORT", "for metrics and status; default: the port below"},
    {"check", 0, NULL, "with FILE: say what would be set, and from where; start nothing"},
    USER, NO_SECCOMP, END};
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
    {"no-balancer", 0, NULL, "leave HAProxy alone"},
    USER, NO_SECCOMP, END};
static const struct cmd_option watch_options[] = {
    {"recursive", 'r', NULL, "and everything below it"},
    {"once", '1', NULL, "end after the first change, with the command's exit code"}, END};

const struct cmd cmd_table[] = {
    {"apply", "FILE", "Make the site what the file says",
        1, 1, CMD_FIRST_HOUR, apply_options,
        "  muster apply --dry-run site.yml     what would change\n"
        "  muster apply site.yml               change it\n",
        cmd_apply},
    {"backup", "DIR", "Make a backup of the tree while everything runs, or prove one",
        1, 1, 0, backup_options,
        "  muster backup /backup/shop                 full at first, then what is new\n"
        "  muster backup --full --keep 4 /backup/shop     once a week; the last four are kept\n"
        "  muster backup --list /backup/shop\n"
        "  muster backup --verify /backup/shop        exit code 9: a file is damaged\n"
        "\n"
        "It runs on a machine of the site, as root or as muster's own user: whoever can read its\n"
        "data. No other server is asked, and none is slowed down. DIR holds all that the tree\n"
        "holds, access lists and passwords' hashes too: keep it as private as the data.\n",
        cmd_backup},
    {"barrier", "NAME [-- COMMAND...]", "Wait until so many have come, or until it is open",
        1, 1, CMD_TAIL_MAYBE, barrier_options,
        "  muster barrier start --count 3                         on three machines\n"
        "  muster barrier migrate --count 3 -- ./migrate.sh       all begin, and end, together\n"
        "  muster barrier --count 3 --wait 60 start || exit       not without the others\n"
        "  muster barrier maintenance --hold                      closed, until --release\n"
        "  muster barrier maintenance --pass && ./work            waits while it is closed\n"
        "\n"
        "With --count the place at it is ours as long as we live; who dies has not come. The\n"
        "command is stopped, exit code 13, before the others can take us for gone. The N are\n"
        "those who wait: who comes later waits for the next N.\n"
        "The znodes are kazoo's: DoubleBarrier(\"/barriers/NAME\", N), Barrier(\"/gates/NAME\").\n",
        cmd_barrier},
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
    {"elect", "NAME [-- COMMAND...]", "Run a command while this machine leads",
        1, 1, CMD_TAIL_MAYBE, elect_options,
        "  muster elect scheduler -- bin/scheduler           on each machine: one of them runs it\n"
        "  muster elect --keep scheduler -- bin/scheduler    stands again when it was lost\n"
        "  muster elect --who scheduler                      a, process 4711: bin/scheduler\n"
        "  muster elect job -- sh -c 'echo $MUSTER_FENCING_TOKEN'\n"
        "\n"
        "Who came first leads. When the command ends by itself, so does elect, with its exit\n"
        "code, and the next one leads. When no server confirms the leadership in time, the\n"
        "command is stopped before anybody else can lead: SIGTERM when a third of the session\n"
        "is left, SIGKILL shortly before its end; then elect ends with 13 (let systemd start it\n"
        "again), or, with --keep, stands again. It waits as long as it takes, also for servers.\n"
        "MUSTER_FENCING_TOKEN grows from each leader to the next: what the command writes to\n"
        "should refuse a lower one than it has seen. MUSTER_ELECTION is NAME.\n"
        "kazoo's Election(\"/elections/NAME\", ...) stands in the same line.\n",
        cmd_elect},
    {"export", "OUT", "Write a stopped machine's tree as a snapshot of Apache ZooKeeper",
        1, 1, 0, export_options,
        "  muster export --data /var/lib/muster /tmp/zk    makes /tmp/zk/version-2/snapshot.N\n",
        cmd_export},
    {"get", "PATH", "Print the data of a znode",
        1, 1, 0, NULL,
        "  muster get /muster/site\n"
        "  muster get --json /shop               with its stat\n",
        cmd_get},
    {"import", "[DIR]", "Move over from Apache ZooKeeper: its data, or a running ensemble",
        0, 1, 0, import_options,
        "  muster import --dry-run /var/lib/zookeeper             what is there\n"
        "  muster import /var/lib/zookeeper --data /var/lib/muster --name a --address 10.0.0.11\n"
        "  muster import --from zk1:2181 --server 10.0.0.11       copy a running ensemble\n"
        "  muster import --from zk1:2181/app --to /app --follow   and what changes, until Ctrl-C\n"
        "  muster import --from zk1:2181 --compare                exit code 8: they differ\n",
        cmd_import},
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
        "  muster lock report -- sh -c 'echo $MUSTER_FENCING_TOKEN'    grows with each holder\n"
        "\n"
        "The command is stopped, exit code 13, before anybody else can get the lock.\n"
        "kazoo's Lock(\"/locks/NAME\") stands in the same line.\n",
        cmd_lock},
    {"ls", "[PATH]", "List the children of a znode",
        0, 1, 0, NULL,
        "  muster ls /\n"
        "  muster ls /services/web\n",
        cmd_ls},
    {"queue", "put|take|ls|len NAME ...", "Put items into a queue, and take them",
        2, 3, CMD_TAIL_MAYBE, queue_options,
        "  muster queue put mail \"to: ada\"                   prints the item's path\n"
        "  muster queue put --priority 0 mail - < urgent     before all others\n"
        "  ls *.jpg | muster queue put --lines thumbnails    each line is an item\n"
        "  muster queue take mail                            prints an item; waits for one\n"
        "  muster queue take --wait 0 mail                   exit code 14 when there is none\n"
        "  while muster queue take mail -- ./send; do :; done\n"
        "  muster queue ls mail; muster queue len mail\n"
        "\n"
        "Each item goes to one taker. Alone, take removes the item, then prints it: with exit\n"
        "code 0 nobody else has had it or will; if we die in between, it is lost. With 7 (the\n"
        "servers were lost while it was removed) it is printed, and somebody else may get it too.\n"
        "With a command the item is its stdin, and is removed when the command ends with 0. Else,\n"
        "or when we die, it comes back to its place: it may be worked on twice, but is not lost.\n"
        "The command is stopped, exit code 13, before anybody else can get its item.\n"
        "put: exit code 7 means that the item may be there; put again, it may be there twice.\n"
        "The znodes are kazoo's: LockingQueue(\"/queues/NAME\").\n",
        cmd_queue},
    {"recover", "", "Go on from this machine alone when the quorum is lost for good",
        0, 0, 0, recover_options,
        "  muster recover                     who is missing, how new this copy is; asks\n"
        "  muster recover --yes b             in a script, on the machine b\n"
        "  muster recover --inspect           what only a machine that was away had\n"
        "\n"
        "Only when the others are lost for good: what they acknowledged and this machine has not\n"
        "is lost. Everything on this disk is kept. It begins a new epoch, in which this machine\n"
        "alone votes; the others, when they come back, set their data aside and join anew by\n"
        "themselves. All sessions end. muster must be stopped here, and be started afterwards.\n",
        cmd_recover},
    {"restore", "DIR", "Make a machine from a point of a backup",
        1, 1, 0, restore_options,
        "  muster restore --dry-run /backup/shop      what is there\n"
        "  muster restore /backup/shop --data /var/lib/muster --name a --address 10.0.0.11\n"
        "  muster restore /backup/shop --at \"2026-11-20 15:04\" --data /tmp/then\n"
        "  muster restore /backup/shop --at 0x1a2b --data /tmp/then\n"
        "\n"
        "The new machine is a cluster of its own: nothing of the old one can join it or speak\n"
        "with it, and the old one may go on meanwhile. Sessions and ephemerals are left out.\n"
        "Its zxids begin far above all that clients can have seen.\n",
        cmd_restore},
    {"server", "[FILE]", "Run one ZooKeeper-protocol server, alone or as FILE (a zoo.cfg) says",
        0, 1, CMD_RAW, server_options,
        "  muster server --data /tmp/try\n"
        "  muster server --data /tmp/try --listen 127.0.0.1:12181\n"
        "  muster server /etc/zookeeper/conf/zoo.cfg          in ZooKeeper's place\n"
        "  muster server zoo.cfg --check                      what would be set\n",
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
    {"watch", "PATH [-- COMMAND...]", "Print a line, or run a command, for each change of a znode",
        1, 1, CMD_TAIL_MAYBE, watch_options,
        "  muster watch /muster/site\n"
        "  muster watch -r /services\n"
        "  muster watch --once /shop/go && ./go              the first change, then the end\n"
        "  muster watch /shop/config -- sh -c 'cat > config; systemctl reload shop'\n"
        "  muster watch -r /services -- sh -c 'echo $MUSTER_EVENT $MUSTER_PATH $MUSTER_ZXID'\n"
        "\n"
        "MUSTER_EVENT is created, deleted, changed or children; or missed: the connection was\n"
        "lost for a while, look at all of it. The command's stdin is what the znode holds when\n"
        "it starts, and MUSTER_ZXID the transaction that wrote that; neither when it is gone.\n"
        "One command runs at a time. What changes meanwhile waits, once for each path: many\n"
        "changes of one path may become one. It goes on after commands that fail, until Ctrl-C.\n",
        cmd_watch},
};
/* clang-format on */
const unsigned cmd_table_len = sizeof cmd_table / sizeof cmd_table[0];
