/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/replica.h"

#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/http_get.h"

const char *replica_address(const struct cmd_env *env)
{
    const char *a = cmd_option(env, "http");

    if (a == NULL)
        a = getenv("MUSTER_HTTP");
    return a != NULL && *a != 0 ? a : CMD_HTTP_DEFAULT;
}

static bool take_text(const json_t *from, const char *key, char *out, size_t size)
{
    const char *v = json_string_value(json_object_get(from, key));

    if (v == NULL || strlen(v) >= size)
        return false;
    memcpy(out, v, strlen(v) + 1);
    return true;
}

static bool take_number(const json_t *from, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(from, key);

    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static bool take_hex(const json_t *from, const char *key, uint8_t *out, size_t len)
{
    const char *v = json_string_value(json_object_get(from, key));

    if (v == NULL || strlen(v) != 2 * len || strspn(v, "0123456789abcdef") != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char two[3] = {v[2 * i], v[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return true;
}

static bool take_member(const json_t *v, struct replica *out)
{
    struct raft_member *m = &out->members.v[out->members.n];

    if (!take_number(v, "id", &m->id) || !take_text(v, "name", m->name, sizeof m->name) ||
        !take_text(v, "address", m->address, sizeof m->address))
        return false;
    m->voter = json_is_true(json_object_get(v, "voter"));
    if (!take_number(v, "silence_ms", &out->silence_ms[out->members.n]))
        out->silence_ms[out->members.n] = UINT64_MAX;
    out->members.n++;
    return true;
}

static bool take(const json_t *v, struct replica *out)
{
    const json_t *members = json_object_get(v, "members");
    uint8_t digest[8];

    if (!take_hex(v, "cluster", out->cluster, CLUSTER_LEN) ||
        !take_text(v, "site", out->site, sizeof out->site) ||
        !take_text(v, "machine", out->machine, sizeof out->machine) ||
        !take_text(v, "leader", out->leader, sizeof out->leader) ||
        !take_number(v, "id", &out->id) || !take_number(v, "epoch", &out->epoch) ||
        !take_number(v, "committed", &out->committed) ||
        !take_number(v, "applied", &out->applied) ||
        !take_number(v, "applied_term", &out->applied_term) ||
        !take_number(v, "last", &out->last) || !take_number(v, "last_term", &out->last_term) ||
        !take_number(v, "time_ms", &out->time_ms) || !take_hex(v, "digest", digest, 8) ||
        !json_is_array(members) || json_array_size(members) > RAFT_MEMBERS_MAX)
        return false;
    out->digest = be64_get(digest);
    out->is_serving = json_is_true(json_object_get(v, "serving"));
    for (size_t i = 0; i < json_array_size(members); i++)
        if (!take_member(json_array_get(members, i), out))
            return false;
    return true;
}

int replica_ask(const char *address, uint32_t timeout_ms, struct replica *out, struct buf *why)
{
    struct buf body = {0};
    int code = 0;
    int err = http_get(address, "/replica", timeout_ms, &code, &body, why);

    *out = (struct replica){0};
    if (err == 0) {
        json_t *v = json_loadb((const char *)body.data, body.len, JSON_REJECT_DUPLICATES, NULL);
        if (code != 200 || !json_is_object(v) || !take(v, out)) {
            buf_printf(why, "it answered with HTTP %d, but not with what its copy is", code);
            err = ERR_MALFORMED;
        }
        json_decref(v);
    }
    buf_free(&body);
    return err;
}

static bool connects(const struct addrinfo *to, uint32_t timeout_ms)
{
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = 0;
    socklen_t size = sizeof error;
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    if (fd < 0)
        return false;
    bool is_open = connect(fd, to->ai_addr, to->ai_addrlen) == 0 ||
                   (poll(&p, 1, (int)timeout_ms) == 1 &&
                    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0);
    close(fd);
    return is_open;
}

bool replica_port_is_open(const char *address, uint32_t timeout_ms)
{
    const struct addrinfo want = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(address, ':');
    struct addrinfo *found;
    char host[RAFT_ADDRESS_MAX];

    if (colon == NULL || (size_t)(colon - address) >= sizeof host)
        return false;
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    if (getaddrinfo(host, colon + 1, &want, &found) != 0)
        return false;
    bool is_open = connects(found, timeout_ms);
    freeaddrinfo(found);
    return is_open;
}
