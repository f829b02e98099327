/* SPDX-License-Identifier: Apache-2.0 */
/* load.c -- a load of one kind for servers that speak the ZooKeeper protocol. Every reply is
 * checked; a wrong one ends the run with exit code 1 and says what was wrong.
 *
 *   load HOST:PORT[,HOST:PORT...] OP [KEY=VALUE...]
 *
 *   OP        create, eseq (ephemeral sequential), set, get, exists, multi (of 10 sets),
 *             mix90, mix50 (so many percent gets, the rest sets);
 *             create+delete, eseq+delete: a second line tells of deleting what was made;
 *             watch (all sessions watch one znode, and again after each event), pwatch
 *             (persistent watches), connect (sessions opened and closed), lock (handed over)
 *   sessions= connections, spread over the servers (1; watch, pwatch: 1000; lock: 10)
 *   window=   requests in flight on each (1)
 *   seconds=  measured (3), after warm= seconds that are not (0.5)
 *   requests= ends it after so many; then there is no warm-up unless warm= is given, and the
 *             time has no end
 *   size=     bytes of a value (100)
 *   name=     all znodes are made below /NAME, which must not exist (load-PID), and removed;
 *             keep=1 lets stand what was made
 *   pids=     the servers', with commas: their costs are measured, too
 *   disk=     a directory: what is written to its device is measured, too
 *
 * It prints one line of JSON: rate (requests, events or hand-overs a second), latencies in us,
 * load_cpu_s (its own), servers_cpu_s, and servers_switches (voluntary ones), all of the
 * measured time; disk_bytes_each (meter.h) if the device of disk= can be told.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define SESSION_TIMEOUT_MS 30000
#define NAME_MAX_LEN 40u
#define WINDOW_MAX 65536u

/* What a kind of load is like: how it is run, and its sessions if not said. */
static const struct kind {
    const char *name;
    void (*run)(struct load *l);
    unsigned sessions, more; /* more: sessions beside these */
    bool is_bare;            /* makes its connections itself, and no znodes */
} kinds[] = {
    {"watch", watch_run, 1000, 1, false},
    {"pwatch", watch_run, 1000, 1, false},
    {"lock", lock_run, 10, 0, false},
    {"connect", connect_run, 1, 0, true},
};
static const struct kind stream = {"", stream_run, 1, 0, false};

static const struct kind *kind_of(const char *op)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, op) == 0)
            return &kinds[i];
    }
    return stream_knows(op) ? &stream : NULL;
}

/* ---- for the kinds ---- */

static void take_well(void *ctx, struct link *k, const uint8_t *frame, size_t len,
                      uint64_t now_ns)
{
    struct load *l = ctx;
    struct wire_in in = wire_in(frame, len);

    (void)now_ns;
    if (link_is_event(frame, len))
        return; /* the watched znode is removed */
    link_reply(&l->links, k, &in, 0);
    l->in_flight--;
}

void load_ask(struct load *l, struct link *k, const struct buf *frame)
{
    link_ask(k, frame);
    l->in_flight++;
}

void load_settle(struct load *l)
{
    l->links.take = take_well;
    l->links.ctx = l;
    for (unsigned i = 0; i < l->links.n; i++) {
        if (l->links.all[i].state == LINK_LIVE)
            links_send(&l->links, &l->links.all[i]);
    }
    while (l->in_flight > 0)
        links_turn(&l->links);
}

static void take_closed(void *ctx, struct link *k, const uint8_t *frame, size_t len,
                        uint64_t now_ns)
{
    struct load *l = ctx;

    take_well(ctx, k, frame, len, now_ns);
    if (!link_is_event(frame, len))
        links_close(&l->links, k);
}

void load_close_all(struct load *l)
{
    struct buf frame = {0};

    frame_close(&frame);
    l->links.take = take_closed;
    for (unsigned i = 0; i < l->links.n; i++) {
        if (l->links.all[i].state != LINK_LIVE)
            continue;
        load_ask(l, &l->links.all[i], &frame);
        links_send(&l->links, &l->links.all[i]);
    }
    while (l->in_flight > 0)
        links_turn(&l->links);
    buf_free(&frame);
}

void load_meter(struct load *l, uint64_t requests_most)
{
    meter_begin(&l->meter, l->warm_s, l->seconds, requests_most, &l->servers);
}

void load_run(struct load *l)
{
    while (!meter_is_over(&l->meter) || l->in_flight > 0) {
        links_turn(&l->links);
        meter_look(&l->meter, meter_now_ns());
    }
}

void load_print(const struct load *l, const char *op)
{
    printf(
        "{\"op\": \"%s\", \"sessions\": %u, \"window\": %u, \"size\": %zu, \"servers\": %u, ",
        op, l->sessions, l->window, l->size, l->links.servers_n);
    meter_print(&l->meter, stdout);
    printf("}\n");
    fflush(stdout);
}

/* ---- options ---- */

_Noreturn static void refuse(const char *word, const char *why)
{
    fprintf(
        stderr,
        "load: %s: %s\n"
        "usage: load HOST:PORT[,HOST:PORT...] OP [sessions=N] [window=N] [seconds=S] [warm=S]\n"
        "            [requests=N] [size=BYTES] [name=NAME] [keep=1] [pids=PID,...] [disk=DIR]\n"
        "OP: create eseq create+delete eseq+delete set get exists multi mix90 mix50 watch\n"
        "    pwatch connect lock\n",
        word, why);
    exit(2);
}

static double number(const char *word, const char *value, double least, double most)
{
    char *end;
    double v = strtod(value, &end);

    if (*value == 0 || *end != 0 || !(v >= least && v <= most))
        refuse(word, "not a number, or out of bounds");
    return v;
}

static void read_pids(struct load *l, const char *word, char *pids)
{
    for (char *p; (p = strsep(&pids, ",")) != NULL;) {
        if (l->servers.n == METER_SERVERS_MAX)
            refuse(word, "too many");
        l->servers.pids[l->servers.n++] = (pid_t)number(word, p, 1, 1 << 30);
    }
}

static void read_word(struct load *l, const char *word)
{
    char *copy = mem_dup_str(word), *value = strchr(copy, '=');

    if (value == NULL)
        refuse(word, "no such option");
    *value++ = 0;
    if (strcmp(copy, "sessions") == 0)
        l->sessions = (unsigned)number(word, value, 1, LINKS_MAX);
    else if (strcmp(copy, "window") == 0)
        l->window = (unsigned)number(word, value, 1, WINDOW_MAX);
    else if (strcmp(copy, "seconds") == 0)
        l->seconds = number(word, value, 0.001, 86400);
    else if (strcmp(copy, "warm") == 0)
        l->warm_s = number(word, value, 0, 86400);
    else if (strcmp(copy, "requests") == 0)
        l->requests = (uint64_t)number(word, value, 1, 1e12);
    else if (strcmp(copy, "size") == 0)
        l->size = (size_t)number(word, value, 0, LOAD_SIZE_MAX);
    else if (strcmp(copy, "keep") == 0)
        l->keeps = number(word, value, 0, 1) > 0;
    else if (strcmp(copy, "pids") == 0)
        read_pids(l, word, value);
    else if (strcmp(copy, "disk") == 0 && *value != 0)
        l->servers.dir = mem_dup_str(value); /* as long as the program */
    else if (strcmp(copy, "name") == 0 && *value != 0 && strlen(value) <= NAME_MAX_LEN)
        l->name = mem_dup_str(value); /* as long as the program */
    else
        refuse(word, "no such option, or no such value");
    mem_free(copy);
}

static void read_options(struct load *l, int argc, char **argv)
{
    static char name[32];

    if (argc < 3)
        refuse("too few words", "servers and OP must be given");
    snprintf(name, sizeof name, "load-%d", (int)getpid());
    *l = (struct load){
        .op = argv[2], .name = name, .window = 1, .size = 100, .warm_s = -1, .seconds = -1};
    if (kind_of(l->op) == NULL)
        refuse(l->op, "no such OP");
    l->sessions = kind_of(l->op)->sessions;
    for (int i = 3; i < argc; i++)
        read_word(l, argv[i]);
    if (l->warm_s < 0)
        l->warm_s = l->requests > 0 ? 0 : 0.5;
    if (l->seconds < 0)
        l->seconds = l->requests > 0 ? 86400 : 3;
}

/* ---- the run ---- */

static void top(struct load *l, bool is_there)
{
    char path[LOAD_PATH_ROOM];
    struct buf frame = {0};

    snprintf(path, sizeof path, "/%.64s", l->name);
    if (is_there)
        frame_create(&frame, path, "", 0, WIRE_PERSISTENT);
    else
        frame_delete(&frame, path);
    load_ask(l, &l->links.all[0], &frame);
    load_settle(l);
    buf_free(&frame);
}

int main(int argc, char **argv)
{
    struct load l;

    read_options(&l, argc, argv);
    const struct kind *k = kind_of(l.op);
    l.data = mem_alloc(LOAD_SIZE_MAX);
    for (size_t i = 8; i < LOAD_SIZE_MAX; i++) /* in front: the number of the write */
        l.data[i] = (uint8_t)(i * 7 + i / 251);
    links_init(&l.links, argv[1], l.sessions + k->more, SESSION_TIMEOUT_MS);
    if (!k->is_bare) {
        links_open_all(&l.links);
        top(&l, true);
    }
    k->run(&l);
    if (!k->is_bare && !l.keeps)
        top(&l, false);
    load_close_all(&l);
    links_free(&l.links);
    mem_free(l.data);
    return 0;
}
