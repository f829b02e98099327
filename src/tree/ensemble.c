/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/ensemble.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"

static void say(struct buf *why, const char *text)
{
    if (why != NULL)
        buf_add_str(why, text);
}

bool server_line_port(const char *text, size_t len, uint16_t *port)
{
    unsigned n = 0;

    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = 10 * n + (unsigned)(text[i] - '0');
    }
    if (n == 0 || n > 65535)
        return false;
    *port = (uint16_t)n;
    return true;
}

bool server_line_id(const char *text, size_t len, int64_t *id)
{
    bool is_negative = len > 0 && text[0] == '-';
    uint64_t n = 0, most = is_negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
    size_t at = len > 0 && (text[0] == '-' || text[0] == '+');

    if (at == len)
        return false;
    for (; at < len; at++) {
        uint64_t digit = (uint64_t)(unsigned char)text[at] - '0';
        if (digit > 9 || n > (most - digit) / 10)
            return false;
        n = 10 * n + digit;
    }
    *id = is_negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '.' || c == '-' || c == '_' || c == ':';
}

static bool copy_host(const char *text, size_t len, char out[LINE_HOST_MAX])
{
    if (len == 0 || len >= LINE_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_host_char(text[i]))
            return false;
    memcpy(out, text, len);
    out[len] = 0;
    return true;
}

/* The next part up to ':' or the end; an IPv6 address stands in brackets. */
static bool next_part(const char **at, const char *end, const char **part, size_t *len)
{
    const char *p = *at;

    if (p >= end)
        return false;
    if (*p == '[') {
        const char *close = memchr(p, ']', (size_t)(end - p));
        if (close == NULL || (close + 1 < end && close[1] != ':'))
            return false;
        *part = p + 1;
        *len = (size_t)(close - p - 1);
        p = close + 1;
    } else {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        *part = p;
        p = colon != NULL ? colon : end;
        *len = (size_t)(p - *part);
    }
    *at = p < end ? p + 1 : p;
    return true;
}

static bool is_word(const char *text, size_t len, const char *word)
{
    size_t i = 0;

    for (; i < len && word[i] != 0; i++)
        if ((text[i] | 0x20) != word[i])
            return false;
    return i == len && word[i] == 0;
}

static bool is_number(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return len > 0;
}

/* Java reads any int and then refuses the port by an exception of another kind. */
static int take_port(const char *text, size_t len, uint16_t *port, struct buf *why)
{
    if (server_line_port(text, len, port))
        return 0;
    say(why, "a port is a number from 1 to 65535");
    return is_number(text, len) ? ERR_MALFORMED : ERR_BAD_ARGUMENTS;
}

static int take_client(struct server_line *out, const char *text, size_t len, struct buf *why)
{
    const char *at = text, *end = text + len, *part, *second;
    size_t n, m;

    if (!next_part(&at, end, &part, &n)) {
        say(why, "behind ';' stands [ADDRESS:]PORT for clients");
        return ERR_BAD_ARGUMENTS;
    }
    if (!next_part(&at, end, &second, &m)) {
        memcpy(out->client_host, "0.0.0.0", sizeof "0.0.0.0");
        return take_port(part, n, &out->client_port, why);
    }
    if (at < end || !copy_host(part, n, out->client_host)) {
        say(why, "behind ';' stands [ADDRESS:]PORT for clients");
        return ERR_BAD_ARGUMENTS;
    }
    return take_port(second, m, &out->client_port, why);
}

static int take_servers(struct server_line *out, const char *text, size_t len, struct buf *why)
{
    const char *at = text, *end = text + len, *host, *quorum, *election, *role;
    size_t n, m, k, r;

    if (memchr(text, '|', len) != NULL) {
        say(why, "several addresses of one server (multiAddress) are not supported: give one");
        return ERR_BAD_ARGUMENTS;
    }
    if (!next_part(&at, end, &host, &n) || !next_part(&at, end, &quorum, &m) ||
        !next_part(&at, end, &election, &k)) {
        say(why, "it must be HOST:PORT:PORT[:participant|:observer][;[ADDRESS:]CLIENTPORT]");
        return ERR_BAD_ARGUMENTS;
    }
    if (!copy_host(host, n, out->host)) {
        say(why, "the host is not a name or address of at most 111 characters");
        return ERR_BAD_ARGUMENTS;
    }
    int err = take_port(quorum, m, &out->quorum_port, why);
    if (err == 0)
        err = take_port(election, k, &out->election_port, why);
    if (err != 0)
        return err;
    if (out->quorum_port == out->election_port) {
        say(why, "the two ports must be different");
        return ERR_BAD_ARGUMENTS;
    }
    if (next_part(&at, end, &role, &r)) {
        out->is_observer = is_word(role, r, "observer");
        if (at < end || (!out->is_observer && !is_word(role, r, "participant"))) {
            say(why, "the role must be participant or observer");
            return ERR_BAD_ARGUMENTS;
        }
    }
    return 0;
}

static void trim(const char **text, size_t *len)
{
    while (*len > 0 && (**text == ' ' || **text == '\t'))
        (*text)++, (*len)--;
    while (*len > 0 && ((*text)[*len - 1] == ' ' || (*text)[*len - 1] == '\t'))
        (*len)--;
}

int server_line_parse(struct server_line *out, const char *text, size_t len, struct buf *why)
{
    int64_t id = out->id;

    *out = (struct server_line){.id = id};
    trim(&text, &len);
    const char *semicolon = len > 0 ? memchr(text, ';', len) : NULL;
    const char *servers = text;
    size_t servers_len = semicolon != NULL ? (size_t)(semicolon - text) : len;
    trim(&servers, &servers_len);
    int err = take_servers(out, servers, servers_len, why);
    if (err == 0 && semicolon != NULL) {
        const char *client = semicolon + 1;
        size_t client_len = (size_t)(text + len - client);
        trim(&client, &client_len);
        err = take_client(out, client, client_len, why);
    }
    return err;
}

static void print_host(const char *host, struct buf *out)
{
    buf_printf(out, strchr(host, ':') != NULL ? "[%s]" : "%s", host);
}

void server_line_print(const struct server_line *line, struct buf *out)
{
    buf_printf(out, "server.%" PRId64 "=", line->id);
    print_host(line->host, out);
    buf_printf(out, ":%u:%u:%s", line->quorum_port, line->election_port,
               line->is_observer ? "observer" : "participant");
    if (line->client_port == 0)
        return;
    buf_add_str(out, ";");
    print_host(line->client_host, out);
    buf_printf(out, ":%u", line->client_port);
}

/* ---- all servers ---- */

const struct server_line *ensemble_find(const struct ensemble *e, int64_t id)
{
    for (unsigned i = 0; i < e->n; i++)
        if (e->v[i].id == id)
            return &e->v[i];
    return NULL;
}

void ensemble_print(const struct ensemble *e, struct buf *out)
{
    for (unsigned i = 0; i < e->n; i++) {
        if (i > 0)
            buf_add_u8(out, '\n');
        server_line_print(&e->v[i], out);
    }
}

static void take_out(struct ensemble *e, int64_t id)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < e->n; i++)
        if (e->v[i].id != id)
            e->v[kept++] = e->v[i];
    e->n = kept;
}

static int put_in(struct ensemble *e, const struct server_line *line)
{
    unsigned at;

    take_out(e, line->id);
    if (line->id == 0 || e->n == ENSEMBLE_MAX)
        return ERR_BAD_ARGUMENTS;
    for (unsigned i = 0; i < e->n; i++)
        if (strcmp(e->v[i].host, line->host) == 0 && e->v[i].quorum_port == line->quorum_port)
            return ERR_BAD_ARGUMENTS; /* two servers cannot be there */
    /* As unsigned numbers, so that the order is raft's. */
    for (at = e->n; at > 0 && (uint64_t)e->v[at - 1].id > (uint64_t)line->id; at--)
        e->v[at] = e->v[at - 1];
    e->v[at] = *line;
    e->n++;
    return 0;
}

/* The next piece up to one of the separators; false at the end. */
static bool next_piece(const char **at, size_t *left, const char *separators,
                       const char **piece, size_t *len)
{
    size_t n = 0;

    if (*at == NULL || *left == 0)
        return false;
    while (n < *left && ((*at)[n] == 0 || strchr(separators, (*at)[n]) == NULL))
        n++;
    *piece = *at;
    *len = n;
    if (n < *left)
        n++;
    *at += n;
    *left -= n;
    trim(piece, len);
    return true;
}

/* "server.N=..." */
static int parse_whole_line(struct server_line *line, const char *text, size_t len)
{
    const char *equals = memchr(text, '=', len);

    if (equals == NULL)
        return ERR_BAD_ARGUMENTS;
    const char *key = text;
    size_t key_len = (size_t)(equals - text);
    trim(&key, &key_len);
    for (size_t i = key_len; i > 0; i--)
        if (key[i - 1] == '.') {
            key += i;
            key_len -= i;
            break;
        }
    if (!server_line_id(key, key_len, &line->id))
        return ERR_MALFORMED; /* as Java's exception is answered */
    return server_line_parse(line, equals + 1, (size_t)(text + len - equals - 1), NULL);
}

int ensemble_parse(struct ensemble *e, const char *text, size_t len)
{
    const char *piece;
    size_t n;
    int err = 0;

    e->n = 0;
    while (err == 0 && next_piece(&text, &len, ",\n\r", &piece, &n)) {
        struct server_line line;
        if (n == 0 || *piece == '#' || *piece == '!' ||
            (n >= 8 && memcmp(piece, "version=", 8) == 0))
            continue;
        if (n < 7 || memcmp(piece, "server.", 7) != 0)
            return ERR_BAD_ARGUMENTS;
        err = parse_whole_line(&line, piece, n);
        if (err == 0 && ensemble_find(e, line.id) != NULL)
            err = ERR_BAD_ARGUMENTS;
        if (err == 0)
            err = put_in(e, &line);
    }
    return err;
}

static int change_some(const struct reconfig_texts *t, struct ensemble *to)
{
    const char *at = t->leaving, *piece;
    size_t left = t->leaving_len, n;
    int err = 0;

    while (next_piece(&at, &left, ",", &piece, &n)) {
        int64_t id;
        if (!server_line_id(piece, n, &id))
            return ERR_MALFORMED;
        take_out(to, id);
    }
    at = t->joining;
    left = t->joining_len;
    while (err == 0 && next_piece(&at, &left, ",", &piece, &n)) {
        struct server_line line;
        err = parse_whole_line(&line, piece, n);
        if (err == 0 && line.client_port == 0)
            err = ERR_BAD_ARGUMENTS; /* all three ports are wanted */
        if (err == 0)
            err = put_in(to, &line);
    }
    return err;
}

int ensemble_change(const struct ensemble *now, const struct reconfig_texts *t,
                    unsigned participants_min, struct ensemble *to)
{
    unsigned participants = 0;
    int err;

    *to = *now;
    if (t->members != NULL)
        err = ensemble_parse(to, t->members, t->members_len);
    else
        err = change_some(t, to);
    for (unsigned i = 0; i < to->n; i++)
        participants += !to->v[i].is_observer;
    return err == 0 && participants < participants_min ? (int)ERR_BAD_ARGUMENTS : err;
}
