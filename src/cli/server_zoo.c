/* SPDX-License-Identifier: Apache-2.0 */
/* server FILE: one server as ZooKeeper's own configuration file says. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cmd.h"
#include "cli/confined.h"
#include "cli/run.h"
#include "host/clock.h"
#include "host/files.h"
#include "server/founding.h"
#include "server/member_ensemble.h"
#include "server/member_repair.h"
#include "server/secret.h"
#include "server/zoocfg.h"

#define MYID_MAX 1024      /* bytes of the file myid */
#define SECRET_FILE_MIN 16 /* bytes */

struct zoo_run {
    struct run run;
    const struct machine_options *options;
    struct zoo_config config;
    const char *file;
    char dir[PATH_MAX]; /* muster's files */
    char client_ip[64], http_ip[64];
    char peer_ip[64];
    uint16_t client_port, peer_port;
    int64_t myid;
};

/* ---- reading ---- */

static int no_config(const char *file, const char *fact)
{
    return cmd_fail(EXIT_CONFIG, file, fact, NULL, "muster server FILE --check");
}

static int read_text(const char *path, size_t most, struct buf *out)
{
    struct buf fact = {0};
    int err = file_read(path, most, out), code = 0;

    if (err != 0) {
        buf_printf(&fact, "cannot be read: %s", err_text(err));
        code = no_config(path, buf_text(&fact));
    }
    buf_free(&fact);
    return code;
}

/* Beside the file, as ZooKeeper takes it: from where the process runs. */
static int read_dynamic(struct zoo_config *c)
{
    struct buf text = {0};
    int err = read_text(c->dynamic_file, ZOO_FILE_MAX, &text);

    if (err == 0)
        zoo_config_parse_dynamic(c, c->dynamic_file, text.data, text.len);
    buf_free(&text);
    return err;
}

static int read_config(const char *file, struct zoo_config *c)
{
    struct buf text = {0};
    int err = read_text(file, ZOO_FILE_MAX, &text);

    if (err != 0)
        return err;
    zoo_config_parse(c, file, text.data, text.len);
    buf_free(&text);
    if (c->dynamic_file[0] != 0 && (err = read_dynamic(c)) != 0)
        return err;
    zoo_config_finish(c, file);
    if (c->problems_n == 0)
        return 0;
    fprintf(stderr, "%s", buf_text(&c->problems));
    fprintf(stderr,
            "muster: %s: nothing was started because of the %u line%s above\n"
            "  next:   muster server %s --check\n",
            file, c->problems_n, c->problems_n > 1 ? "s" : "", file);
    return EXIT_CONFIG;
}

static int read_myid(struct zoo_run *z)
{
    struct buf path = {0}, text = {0}, why = {0};
    int err;

    buf_printf(&path, "%s/myid", z->config.data_dir);
    err = file_read(buf_text(&path), MYID_MAX, &text);
    if (err != 0)
        buf_printf(&why,
                   "cannot be read (%s); it holds this server's number, the N of its "
                   "server.N line",
                   err_text(err));
    else if (!zoo_myid_parse(text.data, text.len, &z->myid, &why))
        err = ERR_SYNTAX;
    else if (zoo_config_server(&z->config, z->myid) == NULL) {
        buf_printf(&why, "says %" PRId64 ", but %s has no line server.%" PRId64, z->myid,
                   z->file, z->myid);
        err = ERR_SYNTAX;
    }
    if (err != 0)
        err = no_config(buf_text(&path), buf_text(&why));
    buf_free(&path);
    buf_free(&text);
    buf_free(&why);
    return err;
}

/* IPv4; the address of a name is looked up once, when the port is opened. */
static int look_up(const char *host, const char *key, char ip[64])
{
    const struct addrinfo want = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    struct buf fact = {0};
    int err = getaddrinfo(host, NULL, &want, &found);

    if (err == 0) {
        const struct sockaddr_in *a = (const void *)found->ai_addr;
        inet_ntop(AF_INET, &a->sin_addr, ip, 64);
        freeaddrinfo(found);
        return 0;
    }
    buf_printf(&fact, "%s has no IPv4 address: %s", host, gai_strerror(err));
    err = cmd_fail(EXIT_CONFIG, key, buf_text(&fact), "the name is not known here (yet)", NULL);
    buf_free(&fact);
    return err;
}

/* Where clients connect: the server's own line says it, or clientPort. */
static int client_port(struct zoo_run *z)
{
    const struct zoo_config *c = &z->config;
    const struct server_line *own = zoo_config_server(c, z->myid);
    const char *host = c->client_address;

    z->client_port = (uint16_t)c->client_port;
    if (own != NULL && own->client_port != 0) {
        if (c->client_port != 0 && c->client_port != own->client_port)
            return no_config(z->file, "clientPort differs from the one in this server's line");
        z->client_port = own->client_port;
        host = own->client_host;
    }
    if (z->client_port == 0)
        return no_config(z->file, "clientPort is not set, nor has this server's line a client "
                                  "port");
    return look_up(host, "clientPortAddress", z->client_ip);
}

/* ---- the data directory ---- */

static bool holds_zookeeper_data(const char *dir)
{
    struct buf path = {0};
    bool found = false;

    buf_printf(&path, "%s/version-2", dir);
    DIR *d = opendir(buf_text(&path));
    for (struct dirent *e; d != NULL && !found && (e = readdir(d)) != NULL;)
        found = strncmp(e->d_name, "snapshot.", 9) == 0 || strncmp(e->d_name, "log.", 4) == 0;
    if (d != NULL)
        closedir(d);
    buf_free(&path);
    return found;
}

static bool exists(const char *dir, const char *name)
{
    struct buf path = {0};
    struct stat s;

    buf_printf(&path, "%s/%s", dir, name);
    bool found = stat(buf_text(&path), &s) == 0;
    buf_free(&path);
    return found;
}

/* Never begins empty beside data that somebody would miss. */
static int check_directories(struct zoo_run *z)
{
    const char *data = z->config.data_dir, *log = z->config.data_log_dir, *where = data;
    struct buf fact = {0}, next = {0};
    int err = 0;

    if (exists(z->dir, "machine"))
        return 0;
    if (log[0] != 0 && exists(data, "muster/machine")) {
        buf_printf(&fact, "muster's data is in %s/muster, but dataLogDir is set now", data);
        buf_printf(&next, "mv %s/muster %s", data, z->dir);
        err = cmd_fail(EXIT_UNSAFE, z->file, buf_text(&fact), "dataLogDir was added later",
                       buf_text(&next));
    } else if (holds_zookeeper_data(data) || (log[0] != 0 && holds_zookeeper_data(log))) {
        if (!holds_zookeeper_data(data))
            where = log;
        buf_printf(&fact, "%s/version-2 holds a ZooKeeper's data, and muster has none yet",
                   where);
        buf_printf(&next, "muster import %s --data %s", where, z->dir);
        err = cmd_fail(EXIT_UNSAFE, z->file, buf_text(&fact),
                       "an empty tree in its place would be worse than no server",
                       buf_text(&next));
    }
    buf_free(&fact);
    buf_free(&next);
    return err;
}

static int make_directory(const char *dir)
{
    struct buf fact = {0};
    int err = 0;

    if (mkdir(dir, 0750) != 0 && errno != EEXIST) {
        buf_printf(&fact, "cannot be made: %s", strerror(errno));
        err = cmd_fail(EXIT_CONFIG, dir, buf_text(&fact), NULL, NULL);
    }
    buf_free(&fact);
    return err;
}

/* Where the data is, or will be, says as whom; the secret has been read. */
static int confine(struct zoo_run *z, const char *base)
{
    unsigned least = z->client_port;

    if (z->peer_port > 0 && z->peer_port < least)
        least = z->peer_port;
    if (z->config.settings.admin_enabled && (unsigned)z->config.settings.admin_port < least)
        least = (unsigned)z->config.settings.admin_port;
    return confined(z->options, exists(z->dir, "") ? z->dir : base, CONFINED_SERVER, least);
}

static int set_directory(struct zoo_run *z)
{
    const char *base =
        z->config.data_log_dir[0] != 0 ? z->config.data_log_dir : z->config.data_dir;
    int err = snprintf(z->dir, sizeof z->dir, "%s/muster", base) >= (int)sizeof z->dir;

    if (err != 0)
        return no_config(z->file, "dataDir is too long");
    if ((err = check_directories(z)) != 0 || (err = confine(z, base)) != 0 ||
        (err = make_directory(base)) != 0 || (err = make_directory(z->dir)) != 0)
        return err;
    return run_lock_directory(z->dir);
}

/* ---- alone ---- */

static int begin_alone(struct zoo_run *z)
{
    struct identity *self = &z->run.self;
    struct buf why = {0};
    int err = identity_load(self, z->dir, &why);

    if (err == ERR_NOT_FOUND) {
        buf_clear(&why);
        *self = (struct identity){.id = 1, .name = "server", .address = "127.0.0.1"};
        secret_random(self->cluster, CLUSTER_LEN);
        secret_random(self->secret, SECRET_LEN);
        self->peers.n = 1;
        self->peers.v[0] = (struct raft_member){
            .id = 1, .voter = true, .name = "server", .address = "127.0.0.1:2182"};
        err = server_create(z->dir, self, &why);
    } else if (err == 0 && self->peers.n > 1) {
        buf_printf(&why, "it is a server of an ensemble of %u, but %s has no server lines",
                   self->peers.n, z->file);
        err = ERR_UNSAFE;
    }
    if (err != 0)
        err = cmd_fail(err == ERR_UNSAFE ? EXIT_UNSAFE : EXIT_FAILED, z->dir, buf_text(&why),
                       NULL, NULL);
    buf_free(&why);
    return err;
}

/* ---- an ensemble ---- */

/* Apache ZooKeeper's servers show each other nothing; ours show that they know a secret. If
 * there is no file for it, it is one that everybody knows. */
static int set_secret(struct zoo_run *z)
{
    static const uint8_t key[] = "muster zoo.cfg ensemble";
    const char *path = z->config.secret_file;
    struct identity *self = &z->run.self;
    uint8_t proof[PROOF_LEN];
    struct buf text = {0};
    int err = path[0] != 0 ? read_text(path, ZOO_FILE_MAX, &text) : 0;

    if (err == 0 && path[0] != 0 && text.len < SECRET_FILE_MIN)
        err = no_config(path, "a secret needs at least 16 bytes (openssl rand -hex 32 > FILE)");
    secret_proof(key, sizeof key, "cluster", "", 0, proof);
    memcpy(self->cluster, proof, CLUSTER_LEN);
    secret_proof(key, sizeof key, "secret", text.data, text.len, proof);
    memcpy(self->secret, proof, SECRET_LEN);
    explicit_bzero(proof, sizeof proof);
    buf_wipe(&text);
    return err;
}

/* What this server is by the file alone. */
static void set_identity(struct zoo_run *z)
{
    struct identity *self = &z->run.self;
    const struct zoo_config *c = &z->config;

    self->id = (uint64_t)z->myid;
    self->peers.n = c->servers_n;
    for (unsigned i = 0; i < c->servers_n; i++) {
        self->peers.v[i] = member_of_line(&c->servers[i]);
        if (c->servers[i].id == z->myid) {
            snprintf(self->name, sizeof self->name, "%s", self->peers.v[i].name);
            snprintf(self->address, sizeof self->address, "%s", c->servers[i].host);
        }
    }
}

/* The first start: with the others, or behind them. */
static int found(struct zoo_run *z, struct buf *why)
{
    struct identity *self = &z->run.self;
    const struct founding_options o = {self, z->peer_ip, z->peer_port};
    enum found_verdict verdict = FOUND_LATE;
    uint64_t random;
    int err = 0;

    if (!zoo_config_server(&z->config, z->myid)->is_observer)
        err = founding_run(z->run.loop, &o, &verdict, &self->epoch, why);
    if (err != 0)
        return err;
    log_event(LOG_NOTICE, verdict == FOUND_BEGIN ? "ensemble_begins" : "ensemble_follows",
              LOG_S("dir", z->dir));
    if (verdict == FOUND_BEGIN)
        return server_create(z->dir, self, why);
    secret_random(&random, sizeof random);
    self->birth = repair_birth(0, random);
    return server_create_joined(z->dir, self, why);
}

/* The ensemble's own configuration counts, once there is one. */
static void compare_servers(struct zoo_run *z, const struct raft_members *now)
{
    const struct zoo_config *c = &z->config;
    bool is_same = now->n == c->servers_n;

    for (unsigned i = 0; is_same && i < now->n; i++) {
        struct raft_member m = member_of_line(&c->servers[i]);
        is_same = m.id == now->v[i].id && strcmp(m.address, now->v[i].address) == 0;
    }
    if (!is_same)
        buf_printf(&z->config.warnings,
                   "%s: the ensemble has other servers now than this file; its own count "
                   "(/zookeeper/config; changed with reconfig)\n",
                   z->file);
}

static int take_known(struct zoo_run *z, const struct identity *known, struct buf *why)
{
    struct identity *self = &z->run.self;

    if (known->id != self->id || strcmp(known->name, self->name) != 0) {
        buf_printf(why, "it is of %s, but %s/myid says %" PRId64, known->name,
                   z->config.data_dir, z->myid);
        return ERR_UNSAFE;
    }
    self->birth = known->birth;
    self->has_begun = known->has_begun;
    self->epoch = known->epoch;
    memcpy(self->store, known->store, sizeof self->store);
    compare_servers(z, &known->peers);
    self->peers = known->peers;
    return 0;
}

static int begin_ensemble(struct zoo_run *z)
{
    const struct server_line *own = zoo_config_server(&z->config, z->myid);
    struct identity known;
    struct buf why = {0};
    int err = 0;

    snprintf(z->peer_ip, sizeof z->peer_ip, "0.0.0.0");
    if (!z->config.listen_on_all && (err = look_up(own->host, "server.N", z->peer_ip)) != 0)
        return err;
    set_identity(z);
    if (own->is_observer != (strcmp(z->config.peer_type, "observer") == 0) &&
        (own->is_observer || z->config.peer_type[0] == 'o'))
        buf_printf(&z->config.warnings,
                   "%s: peerType and the line server.%" PRId64 " differ; the line counts\n",
                   z->file, z->myid);
    log_init(stderr, z->run.self.name, LOG_NOTICE, clock_wall_ms);
    if (z->config.secret_file[0] == 0)
        log_event(LOG_WARNING, "no_secret",
                  LOG_S("why", "muster.secretFile is not set: whoever reaches this server's "
                               "quorum port can become one of its servers, as with ZooKeeper"));
    err = identity_load(&known, z->dir, &why);
    if (err == ERR_NOT_FOUND) {
        buf_clear(&why);
        err = found(z, &why);
    } else if (err == 0) {
        err = take_known(z, &known, &why);
    }
    if (err != 0)
        err = cmd_fail(err == ERR_UNSAFE ? EXIT_UNSAFE : EXIT_FAILED, z->dir, buf_text(&why),
                       NULL, NULL);
    buf_free(&why);
    return err;
}

/* ---- start ---- */

static void say_lines(const struct buf *lines)
{
    const char *at = (const char *)lines->data, *end = at + lines->len;

    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        char text[700];
        size_t len = stop != NULL ? (size_t)(stop - at) : (size_t)(end - at);
        snprintf(text, sizeof text, "%.*s", (int)(len < 690 ? len : 690), at);
        log_event(LOG_WARNING, "config_warning", LOG_S("text", text));
        at += len + 1;
    }
}

static int after_start(struct run *r)
{
    struct zoo_run *z = r->more;

    say_lines(&z->config.warnings);
    if (z->config.ignored.len > 0)
        log_event(LOG_NOTICE, "config_without_effect",
                  LOG_S("keys", buf_text(&z->config.ignored)), LOG_S("file", z->file));
    return 0;
}

static void condemned(void *ctx, const char *why)
{
    run_begin_again(&((struct zoo_run *)ctx)->run, why);
}

static int start(struct zoo_run *z)
{
    const struct settings *set = &z->config.settings;
    int err = client_port(z);

    if (err == 0 && set->admin_enabled)
        err = look_up(set->admin_address, "admin.serverAddress", z->http_ip);
    bool is_alone = zoo_config_is_alone(&z->config);
    if (err == 0 && !is_alone) {
        z->peer_port = zoo_config_server(&z->config, z->myid)->quorum_port;
        err = set_secret(z); /* while we are who may read it */
    }
    if (err != 0 || (err = set_directory(z)) != 0)
        return err;
    if ((err = is_alone ? begin_alone(z) : begin_ensemble(z)) != 0)
        return err;
    const struct server_options s = {
        .dir = z->dir,
        .settings = *set,
        .self = &z->run.self,
        .client_address = z->client_ip,
        .client_port = z->client_port,
        .peer_address = is_alone ? NULL : z->peer_ip,
        .peer_port = z->peer_port,
        .http_address = set->admin_enabled ? z->http_ip : NULL,
        .http_port = (uint16_t)set->admin_port,
        .http_may_fail = true,
        .version = MUSTER_VERSION,
        .ctx = z,
        .failed = run_disk_failed,
        .condemned = condemned,
    };
    return run_until_stopped(&z->run, &s);
}

static int check(struct zoo_run *z)
{
    struct buf out = {0};

    zoo_config_print(&z->config, z->file, &out);
    fputs(buf_text(&out), stdout);
    fputs(buf_text(&z->config.warnings), stderr);
    if (z->config.ignored.len > 0)
        fprintf(stderr, "%s: without effect here: %s\n", z->file, buf_text(&z->config.ignored));
    buf_free(&out);
    return EXIT_OK;
}

int run_zoo_config(const struct machine_options *o)
{
    const char *file = o->rest[0];
    struct zoo_run *z = mem_new(struct zoo_run);

    z->run = (struct run){.loop = uv_default_loop(), .more = z, .after_start = after_start};
    z->file = file;
    z->options = o;
    int err = read_config(file, &z->config);
    if (err == 0 && !zoo_config_is_alone(&z->config))
        err = read_myid(z);
    if (err == 0)
        err = o->check ? check(z) : start(z);
    zoo_config_free(&z->config);
    mem_free(z);
    return err;
}
