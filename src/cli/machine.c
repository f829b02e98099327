/* SPDX-License-Identifier: Apache-2.0 */
/* init, join, token: a machine becomes part of a cluster. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/cmd.h"
#include "cli/confined.h"
#include "cli/machine.h"
#include "server/server.h"

#define JOIN_WAIT_MS 6000

int machine_options(int argc, char **argv, struct machine_options *out)
{
    static const struct option names[] = {{"data", required_argument, NULL, 'd'},
                                          {"name", required_argument, NULL, 'n'},
                                          {"address", required_argument, NULL, 'a'},
                                          {"listen", required_argument, NULL, 'l'},
                                          {"http", required_argument, NULL, 'h'},
                                          {"no-balancer", no_argument, NULL, 'b'},
                                          {"check", no_argument, NULL, 'c'},
                                          {"ensemble", required_argument, NULL, 'e'},
                                          {"user", required_argument, NULL, 'u'},
                                          {"no-seccomp", no_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    int c;

    *out = (struct machine_options){0};
    optind = 0;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'd': out->dir = optarg; break;
        case 'n': out->name = optarg; break;
        case 'a': out->address = optarg; break;
        case 'l': out->listen = optarg; break;
        case 'h': out->http = optarg; break;
        case 'b': out->no_balancer = true; break;
        case 'c': out->check = true; break;
        case 'e': out->ensemble = optarg; break;
        case 'u': out->user = optarg; break;
        case 's': out->no_seccomp = true; break;
        default: fprintf(stderr, "Try: muster %s --help\n", argv[0]); return EXIT_USAGE;
        }
    }
    out->has_dir = out->dir != NULL;
    if (!out->has_dir)
        out->dir = "/var/lib/muster";
    out->rest = argv + optind;
    out->rest_n = argc - optind;
    return 0;
}

int machine_identity(const struct machine_options *o, struct identity *id, const char *command)
{
    char host[RAFT_NAME_MAX] = "";

    if (o->name == NULL && gethostname(host, sizeof host - 1) == 0)
        host[strcspn(host, ".")] = 0;
    const char *name = o->name != NULL ? o->name : host;
    if (!identity_name_is_valid(name)) {
        fprintf(stderr,
                "muster: '%s' cannot be a machine's name: small letters, digits and '-', at "
                "most %d.\nGive another: muster %s --name NAME ...\n",
                name, RAFT_NAME_MAX - 1, command);
        return EXIT_USAGE;
    }
    snprintf(id->name, sizeof id->name, "%s", name);
    if (o->address == NULL || !identity_address_is_valid(o->address)) {
        fprintf(stderr,
                "muster: --address IP is needed: this machine's own IPv4 address, at which the "
                "others reach it%s%s.\nWhich it has: ip -4 addr\n",
                o->address != NULL ? "; this is none: " : "",
                o->address != NULL ? o->address : "");
        return EXIT_USAGE;
    }
    snprintf(id->address, sizeof id->address, "%s", o->address);
    return 0;
}

int machine_alone(const struct machine_options *o, struct identity *id, const char *command)
{
    int err = machine_identity(o, id, command);

    if (err != 0)
        return err;
    id->id = 1;
    secret_random(id->cluster, CLUSTER_LEN);
    secret_random(id->secret, SECRET_LEN);
    id->peers.n = 1;
    id->peers.v[0] = (struct raft_member){.id = 1, .voter = true};
    snprintf(id->peers.v[0].name, RAFT_NAME_MAX, "%s", id->name);
    snprintf(id->peers.v[0].address, RAFT_ADDRESS_MAX, "%.40s:%u", id->address,
             SERVER_PEER_PORT);
    return 0;
}

static void print_join(const struct identity *id)
{
    struct token t;
    char text[TOKEN_TEXT_MAX];

    token_make(&t, id->secret, (uint64_t)time(NULL));
    token_print(&t, text);
    printf("muster join %s %s --data DIR --name NAME --address IP\n", id->address, text);
}

int cmd_init(struct cmd_env *env, int argc, char **argv)
{
    struct machine_options o;
    struct identity id = {0};
    struct buf why = {0};
    int err = machine_options(argc, argv, &o);

    (void)env;
    if (err != 0 || (err = machine_alone(&o, &id, "init")) != 0 ||
        (err = confined_to_owner(&o, true)) != 0)
        return err;
    err = server_create(o.dir, &id, &why);
    if (err != 0) {
        fprintf(stderr, "muster: no cluster was made: %s.\n%s", buf_text(&why),
                err == ERR_EXISTS ? "Start it: muster up --data DIR. To begin anew, move the "
                                    "directory away first.\n"
                                  : "Name a directory that can be made and written: muster "
                                    "init --data DIR ...\n");
        buf_free(&why);
        return err == ERR_EXISTS ? EXIT_UNSAFE : EXIT_FAILED;
    }
    fprintf(stderr,
            "A cluster of one machine, %s, is in %s. Start it:\n  muster up --data %s\n"
            "Then, on each further machine (this token is good once, for an hour; more: "
            "muster token --data %s):\n",
            id.name, o.dir, o.dir, o.dir);
    print_join(&id);
    buf_free(&why);
    return 0;
}

int cmd_token(struct cmd_env *env, int argc, char **argv)
{
    struct machine_options o;
    struct identity id;
    struct buf why = {0};
    int err = machine_options(argc, argv, &o);

    (void)env;
    if (err != 0)
        return err;
    if (identity_load(&id, o.dir, &why) != 0) {
        fprintf(stderr,
                "muster: no token without the cluster's secret: %s.\nName the data directory "
                "of a machine of the cluster: muster token --data DIR\n",
                buf_text(&why));
        buf_free(&why);
        return EXIT_FAILED;
    }
    print_join(&id);
    buf_free(&why);
    return 0;
}

static const char *join_advice(int err)
{
    if (err == ERR_EXISTS)
        return "Another machine has this name or address, or the token was used already. A "
               "new one: muster token --data DIR, on a machine of the cluster.";
    if (err == ERR_REFUSED)
        return "The token is not of this cluster. A new one: muster token --data DIR, there.";
    if (err == ERR_TIMED_OUT)
        return "The token is over an hour old, or the cluster has no quorum now. There: muster "
               "status; a new token: muster token --data DIR.";
    if (err == ERR_CONNECTION_LOST)
        return "Does muster run there (muster status), and does a firewall let port 2182 "
               "through?";
    return "On a machine of the cluster: muster status";
}

int cmd_join(struct cmd_env *env, int argc, char **argv)
{
    struct machine_options o;
    struct identity id = {0};
    struct token token;
    struct buf why = {0};
    int err = machine_options(argc, argv, &o);

    (void)env;
    if (err != 0)
        return err;
    if (o.rest_n != 2) {
        fputs("muster: join needs the address of a machine of the cluster, and a token.\n"
              "There, muster token prints the whole command.\n",
              stderr);
        return EXIT_USAGE;
    }
    err = token_parse(&token, o.rest[1]);
    explicit_bzero(o.rest[1], strlen(o.rest[1])); /* ps shows it else, as long as we ask */
    if (err != 0) {
        fputs("muster: this is not a whole token. There, muster token prints the command "
              "again.\n",
              stderr);
        return EXIT_USAGE;
    }
    bool is_there = access(o.dir, F_OK) == 0;
    if ((err = machine_identity(&o, &id, "join ADDRESS TOKEN")) != 0 ||
        (err = confined_to_owner(&o, true)) != 0)
        return err;
    struct identity old;
    err = identity_load(&old, o.dir, &why);
    if (err == 0) {
        fprintf(
            stderr,
            "muster: %s holds the machine %s already; nothing was changed.\nStart it: muster "
            "up --data %s\n",
            o.dir, old.name, o.dir);
        buf_free(&why);
        return EXIT_UNSAFE;
    }
    if (err != ERR_NOT_FOUND) { /* before the cluster takes in what cannot be made */
        fprintf(stderr,
                "muster: %s holds something that cannot be read as a machine: %s.\nNothing was "
                "changed. Move the directory away, or name another: --data DIR\n",
                o.dir, buf_text(&why));
        buf_free(&why);
        return EXIT_FAILED;
    }
    buf_clear(&why);
    fprintf(stderr, "Asking %s ...\n", o.rest[0]);
    err = transport_join(&id, o.rest[0], &token, JOIN_WAIT_MS, &why);
    if (err != 0) {
        fprintf(stderr, "muster: not joined: %s.\n%s\n", buf_text(&why), join_advice(err));
        buf_free(&why);
        if (!is_there)
            (void)rmdir(o.dir); /* it is empty: nothing was joined, nothing stays */
        return err == ERR_SYNTAX ? EXIT_USAGE : EXIT_FAILED;
    }
    if (server_create_joined(o.dir, &id, &why) != 0) {
        fprintf(stderr,
                "muster: the cluster has taken this machine in, but its files could not be "
                "written: %s.\nMake room and give the same command again.\n",
                buf_text(&why));
        buf_free(&why);
        return EXIT_FAILED;
    }
    fprintf(stderr,
            "%s is a machine of the cluster of %u now. Start it:\n  muster up --data %s\n",
            id.name, id.peers.n, o.dir);
    buf_free(&why);
    return 0;
}
