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
#include "cli/run.h"
#include "host/files.h"
#include "server/secret.h"
#include "server/zoocfg.h"

#define MYID_MAX 1024 /* bytes of the file myid */

struct zoo_run {
    struct run run;
    struct zoo_config config;
    const char *file;
    char dir[PATH_MAX]; /* muster's files */
    char client_ip[64], http_ip[64];
    uint16_t client_port;
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

static int set_directory(struct zoo_run *z)
{
    const char *base =
        z->config.data_log_dir[0] != 0 ? z->config.data_log_dir : z->config.data_dir;
    int err = snprintf(z->dir, sizeof z->dir, "%s/muster", base) >= (int)sizeof z->dir;

    if (err != 0)
        return no_config(z->file, "dataDir is too long");
    if ((err = check_directories(z)) != 0 || (err = make_directory(base)) != 0 ||
        (err = make_directory(z->dir)) != 0)
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

static int start(struct zoo_run *z)
{
    const struct settings *set = &z->config.settings;
    int err = client_port(z);

    if (err == 0 && !zoo_config_is_alone(&z->config))
        return no_config(z->file, "ensembles (several server lines) are not built yet");
    if (err == 0 && set->admin_enabled)
        err = look_up(set->admin_address, "admin.serverAddress", z->http_ip);
    if (err != 0 || (err = set_directory(z)) != 0 || (err = begin_alone(z)) != 0)
        return err;
    const struct server_options s = {
        .dir = z->dir,
        .settings = *set,
        .self = &z->run.self,
        .client_address = z->client_ip,
        .client_port = z->client_port,
        .http_address = set->admin_enabled ? z->http_ip : NULL,
        .http_port = (uint16_t)set->admin_port,
        .http_may_fail = true,
        .version = MUSTER_VERSION,
        .ctx = z,
        .failed = run_disk_failed,
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

int run_zoo_config(const char *file, bool check_only)
{
    struct zoo_run *z = mem_new(struct zoo_run);

    z->run = (struct run){.loop = uv_default_loop(), .more = z, .after_start = after_start};
    z->file = file;
    int err = read_config(file, &z->config);
    if (err == 0 && !zoo_config_is_alone(&z->config))
        err = read_myid(z);
    if (err == 0)
        err = check_only ? check(z) : start(z);
    zoo_config_free(&z->config);
    mem_free(z);
    return err;
}
