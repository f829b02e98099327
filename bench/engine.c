/* SPDX-License-Identifier: Apache-2.0 */
/* What a replicated log can do on this machine, and what ours does.
 *
 *   engine bare|muster DIR PORT IN-FLIGHT SIZE SECONDS
 *
 * Three processes on loopback, proposals made inside the leader's process, IN-FLIGHT of them
 * not yet committed at any time, entries of SIZE bytes, committed once a majority has synced
 * them. PORT and the two above it must be free; DIR is empty.
 *
 *   bare    the limit: a log with group commit and nothing else. The leader's other thread
 *           appends and syncs while its first one sends; the two followers append, sync and
 *           say how far they are. The files are written full of zeros before, so that a sync
 *           has nothing to change but data; one checksum for each batch. No elections, no
 *           checks, no proof of who is who.
 *   muster  our raft, store, writer and transport, as the server has them: below, `struct
 *           member` is a small one, without tree, sessions and clients.
 *
 * Prints one line: entries a second, latency's p50 and p99 in us, the leader's CPU us for
 * each entry, entries in a save, us that a save takes (bare: 0).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/clock.h"
#include "raft/raft.h"
#include "server/transport.h"
#include "server/writer.h"

#define SERVERS 3
#define WARM_MS 500
#define IN_FLIGHT_MAX 65536u
#define SIZE_MAX_BYTES 4096u
#define LATENCY_MAX_US 1000000u /* and more */

static const char *dir;
static uint16_t port;
static unsigned in_flight, size;
static uint64_t seconds;

static void die(const char *what)
{
    fprintf(stderr, "engine: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static uint64_t cpu_us(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- what is measured, in the leader's process ---- */

static struct {
    uint64_t began_us[IN_FLIGHT_MAX]; /* of each entry in flight, by its number */
    uint32_t latency[LATENCY_MAX_US]; /* how many took so many us */
    uint64_t start_us, from_us, until_us, cpu_us, count;
    bool is_measuring;
} m;

static void measure_begin(void)
{
    m.start_us = now_us();
    m.from_us = m.start_us + WARM_MS * 1000u;
    m.until_us = m.from_us + seconds * 1000000u;
}

static void began(uint64_t number, uint64_t at_us)
{
    m.began_us[number % IN_FLIGHT_MAX] = at_us;
}

static void committed(uint64_t number, uint64_t at_us)
{
    uint64_t us = at_us - m.began_us[number % IN_FLIGHT_MAX];

    if (!m.is_measuring)
        return;
    m.count++;
    m.latency[us < LATENCY_MAX_US ? us : LATENCY_MAX_US - 1]++;
}

static uint64_t latency_at(unsigned per_cent)
{
    uint64_t left = m.count * per_cent / 100;
    unsigned us = 0;

    while (us < LATENCY_MAX_US - 1 && m.latency[us] <= left)
        left -= m.latency[us++];
    return us;
}

/* True: it is over, and said. */
static bool measure(uint64_t at_us, double save_entries, double save_us)
{
    if (!m.is_measuring && at_us >= m.from_us) {
        m.is_measuring = true;
        m.from_us = at_us;
        m.cpu_us = cpu_us();
    }
    if (at_us < m.until_us)
        return false;
    double count = (double)(m.count > 0 ? m.count : 1);
    printf("%.0f %llu %llu %.3f %.1f %.0f\n",
           (double)m.count / ((double)(at_us - m.from_us) / 1e6),
           (unsigned long long)latency_at(50), (unsigned long long)latency_at(99),
           (double)(cpu_us() - m.cpu_us) / count, save_entries, save_us);
    return true;
}

/* ---- the bare log ---- */

#define FILE_BYTES (64u << 20) /* then again from its beginning */
#define RING_BYTES (16u << 20)

static struct {
    uint8_t *ring; /* byte i of the log stands at i % RING_BYTES */
    int file, wake;
    pthread_mutex_t lock;
    pthread_cond_t more;
    uint64_t appended, synced; /* bytes; under the lock */
    uint64_t saves;
} bare;

static int bare_file(unsigned id)
{
    static uint8_t zeros[1 << 20];
    char path[300];

    snprintf(path, sizeof path, "%s/bare%u", dir, id);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    for (unsigned i = 0; i < FILE_BYTES; i += sizeof zeros)
        if (pwrite(fd, zeros, sizeof zeros, (off_t)i) != (ssize_t)sizeof zeros)
            die("writing");
    if (fsync(fd) != 0)
        die("fsync");
    return fd;
}

static void bare_write(int fd, uint64_t at, const uint8_t *data, size_t n)
{
    while (n > 0) {
        uint64_t place = at % FILE_BYTES;
        size_t now = n < FILE_BYTES - place ? n : FILE_BYTES - place;
        if (pwrite(fd, data, now, (off_t)place) != (ssize_t)now)
            die("writing the log");
        at += now, data += now, n -= now;
    }
}

static void *bare_saver(void *none)
{
    uint64_t done = 0, one = 1;

    (void)none;
    for (;;) {
        pthread_mutex_lock(&bare.lock);
        bare.synced = done;
        while (bare.appended == done)
            pthread_cond_wait(&bare.more, &bare.lock);
        uint64_t until = bare.appended;
        bare.saves++;
        pthread_mutex_unlock(&bare.lock);
        uint64_t at = done;
        uint32_t crc = 0;
        while (at < until) {
            size_t n = (size_t)(until - at), place = (size_t)(at % RING_BYTES);
            n = n < RING_BYTES - place ? n : RING_BYTES - place;
            crc = crc32c(crc, bare.ring + place, n);
            bare_write(bare.file, at, bare.ring + place, n);
            at += n;
        }
        if (fdatasync(bare.file) != 0)
            die("fdatasync");
        done = until;
        pthread_mutex_lock(&bare.lock);
        bare.synced = done;
        pthread_mutex_unlock(&bare.lock);
        if (write(bare.wake, &one, sizeof one) != sizeof one)
            die("eventfd");
    }
    return NULL;
}

static void bare_follower(unsigned id)
{
    static uint8_t in[1 << 20];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int file = bare_file(id), one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t at = 0;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        usleep(1000);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (;;) {
        ssize_t n = recv(fd, in, sizeof in, 0);
        if (n <= 0)
            exit(0);
        (void)crc32c(0, in, (size_t)n);
        bare_write(file, at, in, (size_t)n);
        if (fdatasync(file) != 0)
            die("fdatasync");
        at += (uint64_t)n;
        if (send(fd, &at, sizeof at, MSG_NOSIGNAL) != sizeof at)
            exit(0);
    }
}

static void bare_append(uint64_t *appended, uint64_t now)
{
    uint8_t entry[8 + SIZE_MAX_BYTES] = {0};
    unsigned bytes = 8 + size;
    uint64_t number = *appended / bytes;

    memset(entry + 8, 'x', size);
    memcpy(entry, &number, sizeof number);
    size_t place = (size_t)(*appended % RING_BYTES);
    size_t first = bytes < RING_BYTES - place ? bytes : RING_BYTES - place;
    memcpy(bare.ring + place, entry, first);
    memcpy(bare.ring, entry + first, bytes - first);
    *appended += bytes;
    began(number, now);
}

static void bare_send(int fd, uint64_t *sent, uint64_t appended)
{
    while (*sent < appended) {
        size_t place = (size_t)(*sent % RING_BYTES), n = (size_t)(appended - *sent);
        n = n < RING_BYTES - place ? n : RING_BYTES - place;
        ssize_t done = send(fd, bare.ring + place, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done <= 0)
            die("send");
        *sent += (uint64_t)done;
    }
}

static uint64_t median(const uint64_t v[SERVERS])
{
    uint64_t most = v[0] > v[1] ? v[0] : v[1], least = v[0] > v[1] ? v[1] : v[0];

    return v[2] > most ? most : v[2] < least ? least : v[2];
}

static void bare_leader(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd p[SERVERS];
    uint64_t sent[SERVERS] = {0}, has[SERVERS] = {0}, appended = 0, done = 0, count;
    unsigned bytes = 8 + size;
    pthread_t thread;

    bare.ring = mem_alloc(RING_BYTES);
    bare.file = bare_file(0);
    bare.wake = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&bare.lock, NULL);
    pthread_cond_init(&bare.more, NULL);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 8) != 0)
        die("listen");
    p[0] = (struct pollfd){bare.wake, POLLIN, 0};
    for (unsigned i = 1; i < SERVERS; i++) {
        p[i] = (struct pollfd){accept(listener, NULL, NULL), POLLIN, 0};
        setsockopt(p[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (pthread_create(&thread, NULL, bare_saver, NULL) != 0)
        die("thread");
    measure_begin();
    for (;;) {
        uint64_t now = now_us(), before = appended;
        for (uint64_t all = median(has); done < all / bytes; done++)
            committed(done, now);
        if (measure(now, 0, 0))
            return;
        /* What is not yet everywhere stays in the ring. */
        while (appended / bytes - done < in_flight && appended + bytes - sent[1] < RING_BYTES &&
               appended + bytes - sent[2] < RING_BYTES &&
               appended + bytes - has[0] < RING_BYTES)
            bare_append(&appended, now);
        if (appended > before) {
            pthread_mutex_lock(&bare.lock);
            bare.appended = appended;
            pthread_cond_signal(&bare.more);
            pthread_mutex_unlock(&bare.lock);
        }
        for (unsigned i = 1; i < SERVERS; i++) {
            bare_send(p[i].fd, &sent[i], appended);
            p[i].events = (short)(POLLIN | (sent[i] < appended ? POLLOUT : 0));
        }
        if (poll(p, SERVERS, 1000) < 0)
            die("poll");
        if ((p[0].revents & POLLIN) != 0 && read(bare.wake, &count, sizeof count) > 0) {
            pthread_mutex_lock(&bare.lock);
            has[0] = bare.synced;
            pthread_mutex_unlock(&bare.lock);
        }
        for (unsigned i = 1; i < SERVERS; i++)
            if ((p[i].revents & (POLLIN | POLLHUP)) != 0) {
                uint64_t acks[64];
                ssize_t n = recv(p[i].fd, acks, sizeof acks, MSG_DONTWAIT);
                if (n <= 0 || n % 8 != 0)
                    die("a follower is gone");
                has[i] = acks[n / 8 - 1];
            }
    }
}

/* ---- ours ---- */

#define SNAPSHOT_EVERY 50000u /* as the server: entries leave the memory then */
#define KEEP 10000u

struct member {
    struct raft *raft;
    struct transport *transport;
    struct writer *writer;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_timer_t timer;
    uint64_t first, done; /* the first index of ours; up to here applied */
    bool is_leader, is_warm;
    struct raft_members all;
    struct raft_job snapshot; /* of an empty tree; size 0: none is due */
    struct buf message;
};

static struct member member;

bool member_save_take(struct member *me, struct raft_save *out)
{
    return raft_save_take(me->raft, out);
}

void member_saved(struct member *me) { raft_saved(me->raft, clock_now_ms()); }

bool member_save_is_awaited(const struct member *me) { return raft_save_is_awaited(me->raft); }

void member_told(struct member *me) { raft_told(me->raft); }

bool member_job_take(struct member *me, struct raft_job *out)
{
    if (me->snapshot.size == 0)
        return false;
    *out = me->snapshot;
    return true;
}

static void failed(void *ctx, int err)
{
    (void)ctx;
    fprintf(stderr, "engine: the disk: %s\n", err_text(err));
    exit(1);
}

void member_job_done(struct member *me, int err)
{
    if (err != 0)
        failed(me, err);
    raft_compact(me->raft, me->snapshot.index, KEEP);
    me->snapshot.size = 0;
}

uint64_t member_sent_snapshot(const struct member *me)
{
    (void)me;
    return 0;
}

void member_room(struct member *me, const struct member_room *room) { (void)me, (void)room; }

static void woken(void *ctx) { (void)ctx; }

static bool lend(void *ctx, uint64_t to)
{
    return transport_lend(((struct member *)ctx)->transport, to);
}

static void received(void *ctx, uint64_t from, enum transport_channel channel,
                     const uint8_t *data, size_t len)
{
    struct member *me = ctx;

    (void)channel;
    int err = raft_step(me->raft, clock_now_ms(), from, data, len);
    if (err != 0) {
        fprintf(stderr, "engine: a message of %llu: %s\n", (unsigned long long)from,
                err_text(err));
        exit(1);
    }
}

static void propose(struct member *me, uint64_t now)
{
    uint8_t entry[SIZE_MAX_BYTES];
    uint64_t index;

    memset(entry, 'x', size);
    if (me->first == 0) {
        if (!transport_is_connected(me->transport, 2) ||
            !transport_is_connected(me->transport, 3))
            return;
        me->first = raft_last_index(me->raft) + 1;
        measure_begin();
    }
    while (raft_last_index(me->raft) - me->done < in_flight) {
        if (raft_propose(me->raft, entry, size, &index) != 0)
            break;
        began(index, now);
    }
}

/* As the server, of a tree of nothing. One that is under way yet is not waited for. */
static void snapshot_due(struct member *me, const struct raft_entry *e)
{
    static uint8_t tree[1];

    if (me->snapshot.size != 0)
        return;
    me->snapshot = (struct raft_job){.kind = RAFT_JOB_KEEP,
                                     .index = e->index,
                                     .term = e->term,
                                     .members = &me->all,
                                     .size = sizeof tree,
                                     .len = sizeof tree,
                                     .data = tree};
}

static void timer_due(uv_timer_t *timer) { (void)timer; }

static void turn(uv_prepare_t *prepare)
{
    struct member *me = prepare->data;
    const struct raft_entry *e;
    uint64_t now = now_us(), now_ms = clock_now_ms(), to;

    writer_look(me->writer);
    if (now_ms >= raft_deadline(me->raft))
        raft_tick(me->raft, now_ms);
    for (unsigned again = 2; again > 0; again--) {
        while ((e = raft_apply_take(me->raft)) != NULL) {
            me->done = e->index;
            if (me->first != 0 && e->index >= me->first)
                committed(e->index, now);
            if (e->index % SNAPSHOT_EVERY == 0)
                snapshot_due(me, e);
        }
        if (me->is_leader && raft_is_ready(me->raft))
            propose(me, now);
        raft_flush(me->raft, now_ms);
    }
    while (raft_message_take(me->raft, &to, &me->message))
        transport_send(me->transport, to, CHANNEL_MEMBER, me->message.data, me->message.len);
    transport_flush(me->transport);
    writer_work(me->writer);
    if (me->first != 0) {
        struct writer_facts f;
        bool was_warm = me->is_warm;
        writer_facts(me->writer, &f);
        if (measure(now, summary_average(&f.save_entries), 1000 * summary_average(&f.save_ms)))
            uv_stop(&me->loop);
        me->is_warm = m.is_measuring;
        if (me->is_warm && !was_warm)
            writer_facts_reset(me->writer);
    }
    uint64_t at_ms = raft_deadline(me->raft);
    uv_timer_start(&me->timer, timer_due, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

static void muster_server(unsigned id)
{
    struct member *me = &member;
    struct raft_members all = {.n = SERVERS};
    struct identity self = {.id = id, .address = "127.0.0.1"};
    /* The first one is elected and stays. */
    struct raft_options options = {
        .id = id, .seed = id, .heartbeat_ms = 60, .election_min_ms = id == 1 ? 300 : 10000};
    struct store_options store_options = {.reserve_bytes = 0, .salt = 1};
    struct transport_options t = {.self = &self,
                                  .listen_address = "127.0.0.1",
                                  .port = (uint16_t)(port + id - 1),
                                  .ctx = me,
                                  .received = received,
                                  .door = door_new()};
    struct buf why = {0};
    struct disk *disk;
    struct store *store;
    char path[300];

    for (unsigned i = 0; i < SERVERS; i++) {
        all.v[i] = (struct raft_member){.id = i + 1, .voter = true};
        snprintf(all.v[i].name, sizeof all.v[i].name, "s%u", i + 1);
        snprintf(all.v[i].address, sizeof all.v[i].address, "127.0.0.1:%u", port + i);
    }
    snprintf(path, sizeof path, "%s/store%u", dir, id);
    if (disk_posix_new(&disk, path) != 0 ||
        store_open(&store, disk, &store_options, &(struct store_load){0}, &why) != 0)
        die(path);
    me->is_leader = id == 1;
    me->all = all;
    me->raft = raft_new(&options);
    raft_load_snapshot(me->raft, 0, 0, &all);
    raft_start(me->raft, clock_now_ms());
    CHECK(uv_loop_init(&me->loop) == 0);
    if (transport_start(&me->transport, &me->loop, &t, &why) != 0) {
        fprintf(stderr, "engine: %s\n", buf_text(&why));
        exit(1);
    }
    transport_set_peers(me->transport, &all);
    me->writer = writer_new(&(struct writer_options){.loop = &me->loop,
                                                     .store = store,
                                                     .member = me,
                                                     .ctx = me,
                                                     .woken = woken,
                                                     .failed = failed,
                                                     .lend = lend,
                                                     .door = t.door});
    CHECK(uv_prepare_init(&me->loop, &me->prepare) == 0 &&
          uv_timer_init(&me->loop, &me->timer) == 0);
    me->prepare.data = me;
    uv_prepare_start(&me->prepare, turn);
    uv_run(&me->loop, UV_RUN_DEFAULT);
}

/* ---- */

static unsigned long number(const char *text, unsigned long least, unsigned long most)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    if (*end != 0 || end == text || v < least || v > most) {
        fprintf(stderr, "engine: %s: a number from %lu to %lu\n", text, least, most);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    pid_t others[SERVERS];

    if (argc != 7 || (strcmp(argv[1], "bare") != 0 && strcmp(argv[1], "muster") != 0)) {
        fprintf(stderr, "usage: engine bare|muster DIR PORT IN-FLIGHT SIZE SECONDS\n");
        return 2;
    }
    bool is_bare = strcmp(argv[1], "bare") == 0;
    dir = argv[2];
    port = (uint16_t)number(argv[3], 1, UINT16_MAX - SERVERS);
    in_flight = (unsigned)number(argv[4], 1, IN_FLIGHT_MAX / 2);
    size = (unsigned)number(argv[5], 1, SIZE_MAX_BYTES);
    seconds = number(argv[6], 1, 3600);
    for (unsigned i = 1; i < SERVERS; i++) {
        others[i] = fork();
        if (others[i] < 0)
            die("fork");
        if (others[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (is_bare)
                bare_follower(i);
            else
                muster_server(i + 1);
            return 1;
        }
    }
    if (is_bare)
        bare_leader();
    else
        muster_server(1);
    for (unsigned i = 1; i < SERVERS; i++) {
        kill(others[i], SIGKILL);
        waitpid(others[i], NULL, 0);
    }
    fflush(stdout);
    _exit(0); /* the disk's threads may be at work */
}
