/* SPDX-License-Identifier: Apache-2.0 */
/* signs.c -- a foreign ensemble: when the sessions of others surely are over (decision 005).
 *
 * There a session may end while its machine still believes in it, by the answer to its last
 * sign of life. But each sign is a write that everybody hears of, in the order of all writes.
 * Whoever sees a claim gone has heard every sign of the session before; so it waits until the
 * last one is too old to be believed, by its own clock, from when it heard it. Mostly that is
 * long past by then. What was missed without a connection counts as heard at its end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/text.h"
#include "base/mutant.h"
#include "tree/watch.h"

#define LIFE "/life"

void agent_life_path(struct buf *out, const char *machine)
{
    buf_printf(out, "%s/%s" LIFE, MACHINE_ROOT, machine);
    buf_text(out);
}

/* The machine whose sign of life has this path. */
static bool name_in(const char *path, char name[SITE_NAME_MAX])
{
    size_t root = sizeof MACHINE_ROOT - 1;

    if (strncmp(path, MACHINE_ROOT "/", root + 1) != 0)
        return false;
    size_t len = strcspn(path + root + 1, "/");
    if (strcmp(path + root + 1 + len, LIFE) != 0 || !site_is_name(path + root + 1, len))
        return false;
    memcpy(name, path + root + 1, len);
    name[len] = 0;
    return true;
}

static struct sign *find(struct agent *a, const char *name)
{
    for (unsigned i = 0; i < a->signs_n; i++)
        if (strcmp(a->signs[i].name, name) == 0)
            return &a->signs[i];
    if (a->signs_n == SIGNS_MAX)
        return NULL;
    struct sign *s = &a->signs[a->signs_n++];
    *s = (struct sign){.heard_ms = a->now_ms};
    text_copy(s->name, sizeof s->name, name);
    return s;
}

/* What stands in the znode, as far as it has been read. */
static void learn_trust(struct agent *a, struct sign *s)
{
    struct mirror_node n;
    struct buf path = {0};
    char text[16];

    agent_life_path(&path, s->name);
    if (mirror_get(a->mirror, buf_text(&path), &n) && n.len > 0 &&
        (size_t)n.len < sizeof text) {
        memcpy(text, n.data, (size_t)n.len);
        text[n.len] = 0;
        unsigned long ms = strtoul(text, NULL, 10);
        if (ms > SITE_LEASE_MAX_MS)
            ms = SITE_LEASE_MAX_MS;
        if (ms > s->trust_ms)
            s->trust_ms = (uint32_t)ms;
    }
    buf_free(&path);
}

static void wait_until(struct agent *a, uint64_t over_ms)
{
    if (over_ms > a->over_ms && !MUTANT(address_sign_ignored))
        a->over_ms = over_ms;
}

static uint32_t believed_ms(const struct sign *s)
{
    return s != NULL && s->trust_ms > 0 ? s->trust_ms : SITE_LEASE_MAX_MS / 2;
}

void signs_event(struct agent *a, int type, const char *path)
{
    char name[SITE_NAME_MAX];

    if (!a->options.is_foreign || !name_in(path, name) || strcmp(name, a->self.name) == 0)
        return;
    struct sign *s = find(a, name);
    if (s != NULL)
        learn_trust(a, s);
    if (type == WATCH_DELETED)
        wait_until(a, (s != NULL ? s->heard_ms : a->now_ms) + believed_ms(s));
    else if (s != NULL)
        s->heard_ms = a->now_ms;
}

void signs_connected(struct agent *a)
{
    uint32_t longest_ms = client_trust_ms(a->client);

    if (!a->options.is_foreign)
        return;
    for (unsigned i = 0; i < a->view.machines_n; i++) {
        if (i == a->view.me)
            continue;
        struct sign *s = find(a, a->view.machines[i].id.name);
        if (s == NULL)
            continue;
        s->heard_ms = a->now_ms;
        learn_trust(a, s);
        if (s->trust_ms > longest_ms)
            longest_ms = s->trust_ms;
    }
    wait_until(a, a->now_ms + longest_ms);
}
