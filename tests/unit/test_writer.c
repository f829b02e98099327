/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's thread: what it tells the leader, and when, and whom it wakes. The disk waits in
 * each sync until the test lets it go on; the member is a small one of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "server/transport.h"
#include "server/writer.h"

#include "mutant_env.h"
#include "sim_disk.h"

#define LIMIT_MS 8000 /* for what must happen; it takes some milliseconds */

struct member {
    struct raft_entry *entry;
    struct buf answer;
    bool has_save, is_awaited;
    unsigned told, saved;
};

static struct {
    uv_loop_t loop;
    struct sim_disk *disk;
    struct store *store;
    struct member member;
    struct door *door;
    struct writer *writer;
    int ends[2]; /* the door's socket, and the leader's */
    bool may_lend;
    int failed;
    struct disk_ops ops;
    int (*sync)(struct disk *d, int file);
    bool is_gated;
    int sync_err;
    uv_sem_t syncing, go_on;
} t;

bool member_save_take(struct member *m, struct raft_save *out)
{
    if (!m->has_save)
        return false;
    m->has_save = false;
    *out = (struct raft_save){.first_index = m->entry->index,
                              .entries = &m->entry,
                              .n = 1,
                              .answer = m->answer.len > 0 ? &m->answer : NULL,
                              .answer_to = 1};
    return true;
}

bool member_save_is_awaited(const struct member *m) { return m->is_awaited; }
void member_told(struct member *m) { m->told++; }
void member_saved(struct member *m) { m->saved++; }

bool member_job_take(struct member *m, struct raft_job *out)
{
    (void)m, (void)out;
    return false;
}

void member_job_done(struct member *m, int err) { (void)m, (void)err; }

uint64_t member_sent_snapshot(const struct member *m)
{
    (void)m;
    return 0;
}

void member_room(struct member *m, const struct member_room *room) { (void)m, (void)room; }

static void woken(void *ctx) { (void)ctx; }

static void failed(void *ctx, int err)
{
    (void)ctx;
    t.failed = err;
}

static bool lend(void *ctx, uint64_t to)
{
    (void)ctx;
    assert_int_equal(to, 1);
    if (t.may_lend)
        door_open(t.door, t.ends[0]);
    return t.may_lend;
}

static int gated_sync(struct disk *d, int file)
{
    if (t.is_gated) {
        uv_sem_post(&t.syncing);
        uv_sem_wait(&t.go_on);
    }
    return t.sync_err != 0 ? t.sync_err : t.sync(d, file);
}

/* The next save: one entry, and an answer unless is_mute. */
static void give(bool is_mute)
{
    struct member *m = &t.member;
    uint64_t index = m->entry != NULL ? m->entry->index + 1 : 1;

    raft_entry_unref(m->entry);
    m->entry = raft_entry_new(index, 1, RAFT_ENTRY_DATA, "entry", 5);
    buf_clear(&m->answer);
    if (!is_mute)
        buf_printf(&m->answer, "saved %u", (unsigned)index);
    m->has_save = true;
}

/* A turn of the loop's, when it is woken; false: it is not, in time. */
static bool turn_when_woken(void)
{
    struct pollfd p = {.fd = uv_backend_fd(&t.loop), .events = POLLIN};

    if (poll(&p, 1, LIMIT_MS) != 1)
        return false;
    uv_run(&t.loop, UV_RUN_NOWAIT);
    writer_look(t.writer);
    return true;
}

static void start(void)
{
    const struct store_options options = {.segment_bytes = 16384, .salt = 1};
    const struct store_load nothing = {.ctx = NULL};
    const struct raft_save first = {.hard = true, .term = 1};
    struct buf why = {0};

    memset(&t, 0, sizeof t);
    t.may_lend = true;
    assert_int_equal(uv_loop_init(&t.loop), 0);
    assert_int_equal(uv_sem_init(&t.syncing, 0), 0);
    assert_int_equal(uv_sem_init(&t.go_on, 0), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, t.ends), 0);
    t.disk = sim_disk_new(1);
    struct disk *d = sim_disk_disk(t.disk);
    t.ops = *d->ops;
    t.sync = t.ops.sync;
    t.ops.sync = gated_sync;
    d->ops = &t.ops;
    assert_int_equal(store_open(&t.store, d, &options, &nothing, &why), 0);
    assert_int_equal(store_save(t.store, &first), 0);
    t.door = door_new();
    t.writer = writer_new(&(struct writer_options){.loop = &t.loop,
                                                   .store = t.store,
                                                   .member = &t.member,
                                                   .woken = woken,
                                                   .failed = failed,
                                                   .lend = lend,
                                                   .door = t.door});
    uv_run(&t.loop, UV_RUN_NOWAIT); /* from now on its file tells when it is woken */
    give(true);                     /* the first one also makes a segment */
    t.member.is_awaited = true;
    do { /* the room may be measured first */
        writer_work(t.writer);
        assert_true(turn_when_woken());
    } while (t.member.saved == 0);
    t.member.is_awaited = false;
    t.member.saved = 0;
    t.is_gated = true;
}

static void end(void)
{
    t.is_gated = false;
    while (!writer_is_idle(t.writer))
        assert_true(turn_when_woken());
    writer_stop(t.writer);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    store_close(t.store);
    sim_disk_free(t.disk);
    door_free(t.door);
    raft_entry_unref(t.member.entry);
    buf_free(&t.member.answer);
    close(t.ends[0]);
    close(t.ends[1]);
    uv_sem_destroy(&t.syncing);
    uv_sem_destroy(&t.go_on);
}

/* It has come to the sync, which may now end. */
static void sync_begins(void) { uv_sem_wait(&t.syncing); }

static void sync_ends(void) { uv_sem_post(&t.go_on); }

static bool has_heard_nothing(void)
{
    uint8_t byte;

    return recv(t.ends[1], &byte, 1, 0) < 0 && errno == EAGAIN;
}

static void hear(const char *text)
{
    struct pollfd p = {.fd = t.ends[1], .events = POLLIN};
    uint8_t frame[100];
    size_t len = strlen(text);

    assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
    assert_int_equal(recv(t.ends[1], frame, sizeof frame, 0), 5 + len);
    assert_int_equal(be32_get(frame), len + 1);
    assert_int_equal(frame[4], CHANNEL_MEMBER);
    assert_memory_equal(frame + 5, text, len);
}

static void the_leader_is_told_after_the_sync_and_before_the_loop(void **state)
{
    (void)state;
    start();
    give(false);
    writer_work(t.writer);
    sync_begins();
    assert_true(has_heard_nothing());
    writer_look(t.writer);
    assert_int_equal(t.member.saved, 0);
    sync_ends();
    hear("saved 2");
    assert_int_equal(t.member.told + t.member.saved, 0); /* the loop has not turned */
    while (!writer_is_idle(t.writer)) /* any turn finds it, perhaps the next */
        writer_look(t.writer);
    assert_int_equal(t.member.told, 1);
    assert_int_equal(t.member.saved, 1);
    end();
}

static void who_begins_to_wait_is_woken(void **state)
{
    (void)state;
    start();
    for (unsigned is_late = 0; is_late < 2; is_late++) {
        give(false);
        t.member.is_awaited = false;
        writer_work(t.writer);
        sync_begins();
        if (is_late) { /* about when it ends */
            sync_ends();
            hear("saved 3");
        }
        t.member.is_awaited = true;
        writer_work(t.writer);
        if (!is_late)
            sync_ends();
        do
            assert_true(turn_when_woken());
        while (t.member.saved == is_late);
        assert_int_equal(t.member.saved, is_late + 1);
        if (!is_late)
            hear("saved 2");
    }
    end();
}

static void what_does_not_fit_through_the_door_is_left_to_the_loop(void **state)
{
    (void)state;
    start();
    t.may_lend = false;
    give(false);
    writer_work(t.writer);
    sync_begins();
    sync_ends();
    assert_true(turn_when_woken());
    assert_int_equal(t.member.saved, 1);
    assert_int_equal(t.member.told, 0);
    assert_true(has_heard_nothing());
    /* Shut while the save runs: the connection has ended. */
    t.may_lend = true;
    give(false);
    writer_work(t.writer);
    sync_begins();
    door_shut(t.door);
    sync_ends();
    while (t.member.saved == 1)
        assert_true(turn_when_woken());
    assert_int_equal(t.member.told, 0);
    assert_true(has_heard_nothing());
    end();
}

static void a_sync_that_fails_is_told_to_nobody(void **state)
{
    (void)state;
    start();
    t.sync_err = ERR_IO;
    give(false);
    writer_work(t.writer);
    sync_begins();
    sync_ends();
    assert_true(turn_when_woken());
    assert_int_equal(t.failed, ERR_IO);
    assert_int_equal(t.member.told + t.member.saved, 0);
    assert_true(has_heard_nothing());
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_leader_is_told_after_the_sync_and_before_the_loop),
        cmocka_unit_test(who_begins_to_wait_is_woken),
        cmocka_unit_test(what_does_not_fit_through_the_door_is_left_to_the_loop),
        cmocka_unit_test(a_sync_that_fails_is_told_to_nobody),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
