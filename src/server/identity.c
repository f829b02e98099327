/* SPDX-License-Identifier: Apache-2.0 */
#include "server/identity.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/hash.h"
#include "host/files.h"

#define FILE_MAX_BYTES 65536

static void hex(const uint8_t *data, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++)
        sprintf(out + 2 * i, "%02x", data[i]);
}

static int unhex(const char *text, uint8_t *out, size_t len)
{
    if (strlen(text) != 2 * len || strspn(text, "0123456789abcdef") != 2 * len)
        return ERR_SYNTAX;
    for (size_t i = 0; i < len; i++) {
        char two[3] = {text[2 * i], text[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return 0;
}

bool identity_name_is_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

    return *name != 0 && *name != '-' && strlen(name) < RAFT_NAME_MAX &&
           name[strspn(name, allowed)] == 0;
}

bool identity_address_is_valid(const char *address)
{
    struct in_addr a;

    return inet_pton(AF_INET, address, &a) == 1;
}

bool identity_host_is_valid(const char *host)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-._:";

    return *host != 0 && strlen(host) < RAFT_ADDRESS_MAX && host[strspn(host, allowed)] == 0;
}

/* The value of `key=` in text that consists of such lines; copied, "" if there is none. */
static void value_of(const char *text, const char *key, char *out, size_t size)
{
    size_t key_len = strlen(key);

    out[0] = 0;
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, key_len) == 0 && line[key_len] == '=') {
            size_t len = strcspn(line + key_len + 1, "\n");
            snprintf(out, size, "%.*s", (int)len, line + key_len + 1);
            return;
        }
    }
}

static int read_file(const char *dir, const char *name, struct buf *out, struct buf *why)
{
    struct buf path = {0};

    buf_printf(&path, "%s/%s", dir, name);
    int err = file_read(buf_text(&path), FILE_MAX_BYTES, out);
    if (err != 0 && why != NULL)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    buf_free(&path);
    return err;
}

static int write_file(const char *dir, const char *name, const struct buf *data,
                      struct buf *why)
{
    struct buf path = {0};

    buf_printf(&path, "%s/%s", dir, name);
    int err = file_write(buf_text(&path), data->data, data->len, 0600);
    if (err != 0 && why != NULL)
        buf_printf(why, "%s: %s", buf_text(&path), err_text(err));
    buf_free(&path);
    return err;
}

/* A digit that has changed would make it another machine. Files from before there was a
 * checksum have none. */
static bool is_damaged(const char *text)
{
    char crc[16], right[16];
    const char *line = strstr(text, "\ncrc=");

    if (line == NULL)
        return false;
    value_of(text, "crc", crc, sizeof crc);
    snprintf(right, sizeof right, "%08" PRIx32, crc32c(0, text, (size_t)(line + 1 - text)));
    return strcmp(crc, right) != 0;
}

static bool store_is_valid(const char *name)
{
    size_t len = strlen(STORE_NAME_FIRST);

    return name[0] == 0 ||
           (strncmp(name, STORE_NAME_FIRST, len) == 0 &&
            (name[len] == 0 || (name[len] == '.' && name[len + 1] != 0 &&
                                name[len + 1 + strspn(name + len + 1, "0123456789")] == 0)));
}

static int parse_epoch(struct epoch *e, const char *text)
{
    uint8_t bytes[EPOCH_BYTES_MAX];
    size_t len = strlen(text) / 2;

    *e = (struct epoch){0};
    if (text[0] == 0)
        return 0;
    if (len > sizeof bytes || unhex(text, bytes, len) != 0 || epoch_decode(e, bytes, len) != 0)
        return ERR_SYNTAX;
    return 0;
}

int identity_machine_parse(struct identity *id, const char *text)
{
    char number[32], birth[32], begun[8], cluster[64], epoch[2 * EPOCH_BYTES_MAX + 2];
    char *end, *birth_end;

    value_of(text, "id", number, sizeof number);
    value_of(text, "birth", birth, sizeof birth); /* none: 0 */
    value_of(text, "cluster", cluster, sizeof cluster);
    value_of(text, "name", id->name, sizeof id->name);
    value_of(text, "address", id->address, sizeof id->address);
    value_of(text, "store", id->store, sizeof id->store); /* none: the first one's */
    value_of(text, "epoch", epoch, sizeof epoch);         /* none: the first one */
    id->id = strtoull(number, &end, 10);
    id->birth = strtoull(birth, &birth_end, 10);
    value_of(text, "begun", begun, sizeof begun);
    id->has_begun = strcmp(begun, "1") == 0;
    if (id->id == 0 || *end != 0 || *birth_end != 0 ||
        unhex(cluster, id->cluster, CLUSTER_LEN) != 0 || !identity_name_is_valid(id->name) ||
        !identity_host_is_valid(id->address) || !store_is_valid(id->store))
        return ERR_SYNTAX;
    return parse_epoch(&id->epoch, epoch);
}

int identity_peers_parse(struct raft_members *peers, const char *text)
{
    uint64_t id;
    unsigned voter;
    char name[RAFT_NAME_MAX], address[RAFT_ADDRESS_MAX];

    *peers = (struct raft_members){0};
    for (const char *line = text; line != NULL && *line != 0; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (*line == 0)
            break;
        if (peers->n == RAFT_MEMBERS_MAX ||
            sscanf(line, "%" SCNu64 " %u %63s %127s", &id, &voter, name, address) != 4)
            return ERR_SYNTAX;
        struct raft_member *m = &peers->v[peers->n++];
        m->id = id;
        m->voter = voter != 0;
        snprintf(m->name, sizeof m->name, "%s", name);
        snprintf(m->address, sizeof m->address, "%s", address);
    }
    return 0;
}

int identity_secret_parse(struct identity *id, const char *text)
{
    char line[2 * SECRET_LEN + 2];

    snprintf(line, sizeof line, "%.*s", (int)strcspn(text, "\n"), text);
    int err = unhex(line, id->secret, SECRET_LEN);
    explicit_bzero(line, sizeof line);
    return err;
}

int identity_load(struct identity *id, const char *dir, struct buf *why)
{
    struct buf machine = {0}, secret = {0}, peers = {0};

    *id = (struct identity){0};
    int err = read_file(dir, "machine", &machine, why);
    if (err == 0 && is_damaged(buf_text(&machine))) {
        buf_printf(why, "%s/machine: its checksum is wrong: a byte of it has changed", dir);
        err = ERR_CORRUPT;
    }
    if (err == 0 && (err = identity_machine_parse(id, buf_text(&machine))) != 0)
        buf_printf(why,
                   "%s/machine: it must have valid lines id=, cluster=, name=, address=", dir);
    if (err == 0)
        err = read_file(dir, "secret", &secret, why);
    if (err == 0 && (err = identity_secret_parse(id, buf_text(&secret))) != 0)
        buf_printf(why, "%s/secret: it must be %d hexadecimal digits", dir, 2 * SECRET_LEN);
    if (err == 0 && read_file(dir, "peers", &peers, NULL) == 0 &&
        (err = identity_peers_parse(&id->peers, buf_text(&peers))) != 0)
        buf_printf(why, "%s/peers: a line must be: id voter(0|1) name address:port", dir);
    buf_free(&machine);
    buf_wipe(&secret);
    buf_free(&peers);
    return err;
}

int identity_save_peers(const char *dir, const struct raft_members *peers)
{
    struct buf text = {0};

    for (unsigned i = 0; i < peers->n; i++)
        buf_printf(&text, "%" PRIu64 " %u %s %s\n", peers->v[i].id, peers->v[i].voter,
                   peers->v[i].name, peers->v[i].address);
    int err = write_file(dir, "peers", &text, NULL);
    buf_free(&text);
    return err;
}

int identity_prepare(const struct identity *id, const char *dir, struct buf *why)
{
    struct identity old;
    struct buf text = {0}, ignored = {0};
    char digits[2 * SECRET_LEN + 1];

    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        buf_printf(why, "%s: cannot be made: %s", dir, strerror(errno));
        return file_error(errno);
    }
    int err = identity_load(&old, dir, &ignored);
    buf_free(&ignored);
    if (err != ERR_NOT_FOUND) {
        buf_printf(why, "%s holds the machine %s already", dir,
                   err == 0 ? old.name : "(unreadable)");
        return ERR_EXISTS;
    }
    err = identity_save_peers(dir, &id->peers);
    if (err != 0)
        buf_printf(why, "%s/peers: cannot be written: %s", dir, err_text(err));
    hex(id->secret, SECRET_LEN, digits);
    buf_printf(&text, "%s\n", digits);
    if (err == 0)
        err = write_file(dir, "secret", &text, why);
    explicit_bzero(digits, sizeof digits);
    buf_wipe(&text);
    return err;
}

int identity_save(const struct identity *id, const char *dir, struct buf *why)
{
    struct buf text = {0};
    char digits[2 * SECRET_LEN + 1];

    hex(id->cluster, CLUSTER_LEN, digits);
    buf_printf(&text, "format=1\nid=%" PRIu64 "\ncluster=%.*s\nname=%s\naddress=%s\n", id->id,
               2 * CLUSTER_LEN, digits, id->name, id->address);
    if (id->birth != 0)
        buf_printf(&text, "birth=%" PRIu64 "\n", id->birth);
    if (id->has_begun)
        buf_add_str(&text, "begun=1\n");
    if (id->store[0] != 0)
        buf_printf(&text, "store=%s\n", id->store);
    if (id->epoch.number != 0) {
        char hexed[2 * EPOCH_BYTES_MAX + 1];
        struct buf bytes = {0};
        epoch_encode(&id->epoch, &bytes);
        hex(bytes.data, bytes.len, hexed);
        buf_printf(&text, "epoch=%s\n", hexed);
        buf_free(&bytes);
    }
    buf_printf(&text, "crc=%08" PRIx32 "\n", crc32c(0, text.data, text.len));
    int err = write_file(dir, "machine", &text, why);
    buf_free(&text);
    return err;
}

int identity_finish(const struct identity *id, const char *dir, struct buf *why)
{
    return identity_save(id, dir, why);
}

void identity_store_path(const struct identity *id, const char *dir, struct buf *out)
{
    buf_printf(out, "%s/%s", dir, id->store[0] != 0 ? id->store : STORE_NAME_FIRST);
}

void identity_next_store(struct identity *id, const char *dir)
{
    struct buf path = {0};
    struct stat st;

    for (unsigned i = 2;; i++) {
        buf_clear(&path);
        snprintf(id->store, sizeof id->store, STORE_NAME_FIRST ".%u", i);
        identity_store_path(id, dir, &path);
        if (lstat(buf_text(&path), &st) != 0)
            break;
    }
    buf_free(&path);
}

int identity_create(const struct identity *id, const char *dir, struct buf *why)
{
    int err = identity_prepare(id, dir, why);

    return err == 0 ? identity_finish(id, dir, why) : err;
}
