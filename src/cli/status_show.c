/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/status_show.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "cli/print.h"

#define COLUMNS_MAX 6
#define CELL_MAX 160

/* A table whose columns are as wide as what is in them. */
struct grid {
    unsigned columns;
    bool follows; /* a line that belongs to it: no empty line between */
    size_t rows, cap;
    char (*cells)[CELL_MAX]; /* row by row */
};

static char *cell(struct grid *g, size_t row, unsigned column)
{
    return g->cells[row * g->columns + column];
}

static void grid_row(struct grid *g, const char *const *texts)
{
    mem_grow(g->cells, g->cap, (g->rows + 1) * g->columns);
    g->rows++;
    for (unsigned i = 0; i < g->columns; i++)
        snprintf(cell(g, g->rows - 1, i), CELL_MAX, "%s", texts[i] != NULL ? texts[i] : "-");
}

static void grid_print(struct grid *g, FILE *to)
{
    size_t width[COLUMNS_MAX] = {0};

    for (size_t r = 0; r < g->rows; r++)
        for (unsigned i = 0; i < g->columns; i++)
            if (strlen(cell(g, r, i)) > width[i])
                width[i] = strlen(cell(g, r, i));
    if (g->rows > 1 && !g->follows)
        fputc('\n', to);
    /* The first row is the heads: without any other there is nothing to say. */
    for (size_t r = 0; g->rows > 1 && r < g->rows; r++) {
        size_t pad = 0;
        for (unsigned i = 0; i < g->columns; i++) {
            const char *text = cell(g, r, i);
            if (*text == 0)
                continue;
            fprintf(to, "%*s", (int)pad, "");
            print_text(to, text);
            pad = width[i] - strlen(text) + 2;
            for (unsigned k = i + 1; k < g->columns && *cell(g, r, k) == 0; k++)
                pad += width[k] + 2;
        }
        fputc('\n', to);
    }
    mem_free(g->cells);
}

static const char *text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* NULL when it is not known. */
static const char *age(char out[32], const json_t *o, const char *key, uint64_t unit_ms)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return NULL;
    print_age(out, 32, (uint64_t)json_integer_value(v) * unit_ms);
    return out;
}

static void show_servers(FILE *to, const json_t *quorum)
{
    const json_t *members = json_object_get(quorum, "members");
    struct grid g = {.columns = 5, .follows = true};
    const json_t *m;
    size_t i;

    grid_row(&g, (const char *[]){"server", "address", "vote", "reached", "heard"});
    json_array_foreach((json_t *)members, i, m)
    {
        char heard[32];
        const char *old = age(heard, m, "age_ms", 1);
        bool reached = json_is_true(json_object_get(m, "reachable"));
        grid_row(&g, (const char *[]){text(m, "name"), text(m, "address"),
                                      json_is_true(json_object_get(m, "voter")) ? "yes" : "no",
                                      reached ? "yes" : "no", old != NULL ? old : "never"});
    }
    const char *leader = text(quorum, "leader"), *role = text(quorum, "role");
    if (json_is_object(quorum)) {
        fprintf(to, "\nquorum: %s; leader: ",
                json_is_true(json_object_get(quorum, "has_quorum")) ? "yes" : "NO");
        print_text(to, leader != NULL ? leader : "none");
        fputs("; here: ", to);
        print_text(to, role != NULL ? role : "-");
        fputc('\n', to);
    }
    grid_print(&g, to);
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void show_disk(FILE *to, const json_t *disk)
{
    const double mib = 1024 * 1024;
    const char *room = text(disk, "room");

    if (room == NULL)
        return;
    fputs("\ndisk: ", to);
    print_text(to, room);
    fprintf(
        to,
        ", %.0f MiB free, %.0f of %.0f MiB in reserve; syncs: last %.0f ms, average %.1f ms, "
        "longest %.0f ms",
        number(disk, "free_bytes") / mib, number(disk, "reserve_bytes") / mib,
        number(disk, "of_reserve_bytes") / mib, number(disk, "sync_last_ms"),
        number(disk, "sync_average_ms"), number(disk, "sync_most_ms"));
    if (number(disk, "sync_running_ms") > 0)
        fprintf(to, ", present one %.0f ms", number(disk, "sync_running_ms"));
    fputs("\n", to);
}

static void show_ensemble(FILE *to, const json_t *e)
{
    char since[32], left[32];
    const char *server = text(e, "server"), *chroot = text(e, "chroot"),
               *session = text(e, "session");

    if (!json_is_object(e))
        return;
    fputs("\nensemble: ", to);
    print_text(to, server != NULL ? server : "-");
    print_text(to, chroot != NULL ? chroot : "");
    if (json_is_true(json_object_get(e, "connected"))) {
        const char *for_ms = age(since, e, "connected_ms", 1);
        fprintf(to, ", connected for %s", for_ms != NULL ? for_ms : "?");
    } else {
        fputs(", NOT connected", to);
    }
    const char *trusted = age(left, e, "trusted_ms_left", 1);
    fputs("; session ", to);
    print_text(to, session != NULL ? session : "-");
    fprintf(to, ", good for %s; zxid 0x%llx\n", trusted != NULL ? trusted : "0 ms",
            (unsigned long long)json_integer_value(json_object_get(e, "zxid")));
}

static void show_machines(FILE *to, const json_t *machines)
{
    struct grid g = {.columns = 6};
    const json_t *m;
    size_t i;

    grid_row(&g, (const char *[]){"machine", "address", "state", "role", "seen", "why"});
    json_array_foreach((json_t *)machines, i, m)
    {
        char seen[32];
        const char *why = text(m, "why");
        grid_row(&g, (const char *[]){text(m, "name"), text(m, "address"), text(m, "state"),
                                      text(m, "role"), age(seen, m, "age_ms", 1),
                                      why != NULL ? why : ""});
    }
    grid_print(&g, to);
}

static void show_addresses(FILE *to, const json_t *addresses)
{
    struct grid g = {.columns = 5};
    const json_t *a;
    size_t i;

    grid_row(&g, (const char *[]){"address", "holder", "state", "lease", "why"});
    json_array_foreach((json_t *)addresses, i, a)
    {
        char left[32];
        const char *why = text(a, "why");
        grid_row(&g,
                 (const char *[]){text(a, "address"), text(a, "holder"), text(a, "state"),
                                  age(left, a, "lease_ms_left", 1), why != NULL ? why : ""});
    }
    grid_print(&g, to);
}

static void show_services(FILE *to, const json_t *services)
{
    struct grid g = {.columns = 6};
    const json_t *s, *instance;
    size_t i, k;

    grid_row(&g, (const char *[]){"service", "instance", "machine", "state", "since", "why"});
    json_array_foreach((json_t *)services, i, s)
    {
        json_array_foreach(json_object_get(s, "instances"), k, instance)
        {
            char since[32];
            const char *why = text(instance, "why");
            grid_row(&g, (const char *[]){text(s, "name"), text(instance, "name"),
                                          text(instance, "machine"), text(instance, "state"),
                                          age(since, instance, "since_s", 1000),
                                          why != NULL ? why : ""});
        }
    }
    grid_print(&g, to);
}

static void show_pools(FILE *to, const json_t *pools)
{
    struct grid g = {.columns = 5};
    const json_t *p;
    size_t i;

    grid_row(&g, (const char *[]){"balance", "port", "taking traffic", "", "why"});
    json_array_foreach((json_t *)pools, i, p)
    {
        char port[16], on[48];
        const char *why = text(p, "why");
        snprintf(port, sizeof port, "%d",
                 (int)json_integer_value(json_object_get(p, "listen")));
        snprintf(on, sizeof on, "%d of %d", (int)json_integer_value(json_object_get(p, "on")),
                 (int)json_integer_value(json_object_get(p, "slots")));
        grid_row(&g, (const char *[]){text(p, "service"), port, on,
                                      json_is_true(json_object_get(p, "kept")) ? "kept" : "",
                                      why != NULL ? why : ""});
    }
    grid_print(&g, to);
}

void status_show(FILE *to, const json_t *status)
{
    char old[32];
    const char *machine = text(status, "machine"), *site = text(status, "site");

    if (machine != NULL) {
        fputs("seen by ", to);
        print_text(to, machine);
        if (age(old, status, "as_of_ms_ago", 1) != NULL)
            fprintf(to, ", %s ago", old);
        if (site != NULL && *site != 0) {
            fputs("; site ", to);
            print_text(to, site);
        }
        fputc('\n', to);
    }
    show_servers(to, json_object_get(status, "quorum"));
    show_disk(to, json_object_get(status, "disk"));
    show_ensemble(to, json_object_get(status, "ensemble"));
    show_machines(to, json_object_get(status, "machines"));
    show_addresses(to, json_object_get(status, "addresses"));
    show_services(to, json_object_get(status, "services"));
    show_pools(to, json_object_get(status, "balance"));
}
