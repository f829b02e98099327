/* SPDX-License-Identifier: Apache-2.0 */
#include "server/member_ensemble.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define CLIENT_PORT 2181
#define MORE_NUMBERS 13 /* of a port, ';', ':', a port, and the NUL */

_Static_assert(ENSEMBLE_MAX == RAFT_MEMBERS_MAX, "every server can be a member");
_Static_assert(LINE_HOST_MAX + 6 <= RAFT_ADDRESS_MAX, "HOST:PORT fits");
_Static_assert(LINE_HOST_MAX + MORE_NUMBERS <= RAFT_MORE_MAX, "PORT;HOST:PORT fits");

struct raft_member member_of_line(const struct server_line *line)
{
    struct raft_member m = {.id = (uint64_t)line->id, .voter = !line->is_observer};

    snprintf(m.name, sizeof m.name, "server-%" PRIu64, (uint64_t)line->id);
    snprintf(m.address, sizeof m.address, "%s:%u", line->host, line->quorum_port);
    if (line->client_port != 0)
        snprintf(m.more, sizeof m.more, "%u;%s:%u", line->election_port, line->client_host,
                 line->client_port);
    else
        snprintf(m.more, sizeof m.more, "%u", line->election_port);
    return m;
}

/* "HOST:PORT"; the host may have colons of its own. */
static uint16_t split(const char *text, char host[LINE_HOST_MAX])
{
    const char *colon = strrchr(text, ':');
    uint16_t port = 0;

    host[0] = 0;
    if (colon != NULL && (size_t)(colon - text) < LINE_HOST_MAX) {
        memcpy(host, text, (size_t)(colon - text));
        host[colon - text] = 0;
        (void)server_line_port(colon + 1, strlen(colon + 1), &port);
    }
    return port;
}

struct server_line line_of_member(const struct raft_member *m)
{
    struct server_line line = {.id = (int64_t)m->id,
                               .is_observer = !m->voter && !m->auto_promote};
    size_t election = strcspn(m->more, ";");

    line.quorum_port = split(m->address, line.host);
    if (m->more[0] == 0) {
        line.election_port = (uint16_t)(line.quorum_port + 1);
        memcpy(line.client_host, line.host, sizeof line.host);
        line.client_port = CLIENT_PORT;
        return line;
    }
    (void)server_line_port(m->more, election, &line.election_port);
    if (m->more[election] == ';')
        line.client_port = split(m->more + election + 1, line.client_host);
    return line;
}

void members_text(const struct raft_members *all, struct buf *out)
{
    if (all->n == 1 && all->v[0].more[0] == 0)
        return;
    for (unsigned i = 0; i < all->n; i++) {
        struct server_line line = line_of_member(&all->v[i]);
        if (i > 0)
            buf_add_u8(out, '\n');
        server_line_print(&line, out);
    }
}
