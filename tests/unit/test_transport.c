/* SPDX-License-Identifier: Apache-2.0 */
/* The port between machines, over loopback: who is let in, who is answered, who is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/err.h"
#include "server/transport.h"

#include "mutant_env.h"
#include "port.h"

#define NODES 4
#define LIMIT_MS 8000 /* for what must happen; it takes some milliseconds */

struct node {
    struct identity self;
    struct transport *transport;
    struct buf heard; /* all messages, one after the other */
    uint64_t from;
    struct door *door;
    struct raft_member joiner;
    unsigned joins;
    int join_answer;
    struct epoch newer;
    uint64_t lost; /* who is gone, and what had been heard by then */
    size_t heard_when_lost;
};

struct net {
    uv_loop_t loop;
    uint16_t port;
    struct node nodes[NODES + 1]; /* node n listens on 127.0.0.n */
};

static void received(void *ctx, uint64_t from, enum transport_channel channel,
                     const uint8_t *data, size_t len)
{
    struct node *n = ctx;

    assert_int_equal(channel, CHANNEL_AGENT);
    n->from = from;
    buf_add(&n->heard, data, len);
}

static void join(void *ctx, uint64_t ticket, const struct raft_member *joiner)
{
    struct node *n = ctx;
    const struct raft_members one = {.n = 1, .v = {*joiner}};

    n->joins++;
    n->joiner = *joiner;
    transport_join_answer(n->transport, ticket, n->join_answer, &one);
}

static struct raft_members peers_of(const struct net *net, unsigned n, ...)
{
    struct raft_members m = {.n = n};
    va_list ids;

    va_start(ids, n);
    for (unsigned i = 0; i < n; i++) {
        m.v[i].id = va_arg(ids, unsigned);
        snprintf(m.v[i].name, RAFT_NAME_MAX, "n%u", (unsigned)m.v[i].id);
        snprintf(m.v[i].address, RAFT_ADDRESS_MAX, "127.0.0.%u:%u", (unsigned)m.v[i].id,
                 net->port);
    }
    va_end(ids);
    return m;
}

static void open_net(struct net *net)
{
    memset(net, 0, sizeof *net);
    assert_int_equal(uv_loop_init(&net->loop), 0);
    net->port = port_free();
}

static void outdated(void *ctx, const struct epoch *newer)
{
    ((struct node *)ctx)->newer = *newer;
}

static void lost(void *ctx, uint64_t from)
{
    struct node *n = ctx;

    n->lost = from;
    n->heard_when_lost = n->heard.len;
}

static struct node *start(struct net *net, unsigned i, uint64_t id)
{
    struct node *n = &net->nodes[i];
    struct buf why = {0};

    n->self.id = id;
    memset(n->self.secret, 7, SECRET_LEN);
    memset(n->self.cluster, 8, CLUSTER_LEN);
    snprintf(n->self.address, sizeof n->self.address, "127.0.0.%u", i);
    n->door = door_new();
    const struct transport_options o = {&n->self, n->self.address, net->port, n,      received,
                                        join,     outdated,        lost,      n->door};
    assert_int_equal(transport_start(&n->transport, &net->loop, &o, &why), 0);
    return n;
}

static void close_net(struct net *net)
{
    for (unsigned i = 0; i <= NODES; i++) {
        if (net->nodes[i].transport != NULL)
            transport_stop(net->nodes[i].transport);
        buf_free(&net->nodes[i].heard);
    }
    uv_run(&net->loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; i <= NODES; i++)
        door_free(net->nodes[i].door);
    assert_int_equal(uv_loop_close(&net->loop), 0);
}

static void wake(uv_timer_t *t) { (void)t; }
static void gone(uv_handle_t *h) { *(bool *)h->data = true; }

/* Turns the loop until it is so; false: it did not become so in time. */
static bool wait_ms(struct net *net, bool (*is_so)(struct net *), uint64_t limit_ms)
{
    uv_timer_t tick;
    bool is_gone = false, so;
    uint64_t end = uv_hrtime() / 1000000 + limit_ms;

    uv_timer_init(&net->loop, &tick);
    tick.data = &is_gone;
    uv_timer_start(&tick, wake, 5, 5);
    while (!(so = is_so(net)) && uv_hrtime() / 1000000 < end) {
        for (unsigned i = 0; i <= NODES; i++)
            if (net->nodes[i].transport != NULL)
                transport_flush(net->nodes[i].transport);
        uv_run(&net->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&tick, gone);
    while (!is_gone)
        uv_run(&net->loop, UV_RUN_ONCE);
    return so;
}

static bool never(struct net *net)
{
    (void)net;
    return false;
}
static bool has_1_2(struct net *n) { return transport_is_connected(n->nodes[1].transport, 2); }
static bool has_3_2(struct net *n) { return transport_is_connected(n->nodes[3].transport, 2); }
static bool has_2_3(struct net *n) { return transport_is_connected(n->nodes[2].transport, 3); }
static bool heard_3(struct net *n) { return n->nodes[3].heard.len >= 5; }
static bool heard_all(struct net *n) { return n->nodes[2].heard.len >= 3000 * 1000; }
static uint64_t refused(const struct node *n)
{
    struct transport_facts f;

    transport_facts(n->transport, &f);
    return f.refused_total;
}
static bool outdated_1(struct net *n) { return n->nodes[1].newer.number == 7; }
static bool outdated_2(struct net *n) { return n->nodes[2].newer.number == 7; }
static bool both_refused(struct net *n)
{
    return refused(&n->nodes[1]) > 0 && refused(&n->nodes[2]) > 0;
}
static bool refused_2(struct net *n) { return refused(&n->nodes[2]) > 0; }
static bool refused_1(struct net *n) { return refused(&n->nodes[1]) > 0; }

static void what_is_sent_arrives_in_order(void **state)
{
    struct net net;
    uint8_t block[1000];
    (void)state;
    open_net(&net);
    struct node *a = start(&net, 1, 1), *b = start(&net, 2, 2);
    const struct raft_members both = peers_of(&net, 2, 1, 2);
    transport_set_peers(a->transport, &both);
    transport_set_peers(b->transport, &both);
    assert_true(wait_ms(&net, has_1_2, LIMIT_MS));
    for (unsigned i = 0; i < 3000; i++) { /* more than the kernel's buffers hold */
        memset(block, (int)(i % 251), sizeof block);
        transport_send(a->transport, 2, CHANNEL_AGENT, block, sizeof block);
        if (i % 100 == 0)
            transport_flush(a->transport);
    }
    assert_true(wait_ms(&net, heard_all, LIMIT_MS));
    assert_int_equal(b->from, 1);
    for (size_t i = 0; i < b->heard.len; i++)
        assert_int_equal(b->heard.data[i], i / 1000 % 251);
    close_net(&net);
}

#define LARGE_MAX 400000u
#define LARGE_SUM (24u << 20) /* more than the kernel's buffers hold, less than the queue */

static size_t size_of(unsigned i) { return 1 + i * 79193u % LARGE_MAX; }

static bool heard_large(struct net *n) { return n->nodes[2].heard.len >= LARGE_SUM; }

/* Large ones go at once, behind what was collected before them, and what the kernel does not
 * take waits. */
static void large_and_small_ones_keep_their_order(void **state)
{
    static uint8_t block[LARGE_MAX];
    struct net net;
    size_t sum = 0, at = 0;
    (void)state;
    open_net(&net);
    struct node *a = start(&net, 1, 1), *b = start(&net, 2, 2);
    const struct raft_members both = peers_of(&net, 2, 1, 2);
    transport_set_peers(a->transport, &both);
    transport_set_peers(b->transport, &both);
    assert_true(wait_ms(&net, has_1_2, LIMIT_MS));
    for (unsigned i = 0; sum < LARGE_SUM; i++) {
        memset(block, (int)(i % 251), size_of(i));
        transport_send(a->transport, 2, CHANNEL_AGENT, block, size_of(i));
        transport_send(a->transport, 2, CHANNEL_AGENT, block, 1);
        sum += size_of(i) + 1;
    }
    assert_true(wait_ms(&net, heard_large, LIMIT_MS));
    for (unsigned i = 0; at < LARGE_SUM; i++)
        for (size_t n = size_of(i) + 1; n > 0 && at < LARGE_SUM; n--, at++)
            if (b->heard.data[at] != i % 251)
                fail_msg("byte %zu is not of message %u", at, i);
    close_net(&net);
}

static void a_wrong_secret_another_cluster_and_ones_own_id_are_refused(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct net net;
        open_net(&net);
        struct node *a = start(&net, 1, 1);
        const struct raft_members b = peers_of(&net, 1, 2);
        transport_set_peers(a->transport, &b); /* nobody is there yet */
        start(&net, 2, 2);
        if (kind == 0)
            a->self.secret[31] ^= 1;
        else if (kind == 1)
            a->self.cluster[0] ^= 1;
        else
            a->self.id = 2; /* a copy of the other's data directory */
        /* With another secret it is the opener that sees it first. */
        assert_true(wait_ms(&net, kind == 0 ? refused_1 : refused_2, LIMIT_MS));
        assert_false(transport_is_connected(a->transport, 2));
        close_net(&net);
    }
}

/* Whoever dials whom, the one of the older epoch hears of the newer, and nothing else. */
static void an_older_epoch_hears_of_the_newer_one_and_is_refused(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct net net;
        open_net(&net);
        struct node *a = start(&net, 1, 1), *b = start(&net, 2, 2);
        struct node *newer = kind % 2 == 0 ? a : b, *older = kind % 2 == 0 ? b : a;
        const struct raft_members one = peers_of(&net, 1, kind < 2 ? 2 : 1);
        newer->self.epoch = (struct epoch){.number = 7, .tag = 5, .last = 3, .runs_n = 1};
        newer->self.epoch.runs[0].index = newer->self.epoch.runs[0].term = 3;
        older->self.epoch = (struct epoch){.number = 6, .tag = 9};
        transport_set_peers(kind < 2 ? a->transport : b->transport, &one);
        assert_true(wait_ms(&net, older == a ? outdated_1 : outdated_2, LIMIT_MS));
        assert_int_equal(older->newer.tag, 5);
        assert_int_equal(older->newer.last, 3);
        assert_int_equal(newer->newer.number, 0);
        assert_false(transport_is_connected(a->transport, 2));
        assert_false(transport_is_connected(b->transport, 1));
        close_net(&net);
    }
}

static void two_that_were_recovered_apart_refuse_each_other(void **state)
{
    struct net net;
    (void)state;
    open_net(&net);
    struct node *a = start(&net, 1, 1), *b = start(&net, 2, 2);
    const struct raft_members both = peers_of(&net, 2, 1, 2);
    a->self.epoch = (struct epoch){.number = 1, .tag = 5};
    b->self.epoch = (struct epoch){.number = 1, .tag = 6};
    transport_set_peers(a->transport, &both);
    transport_set_peers(b->transport, &both);
    assert_true(wait_ms(&net, both_refused, LIMIT_MS));
    assert_false(transport_is_connected(a->transport, 2));
    assert_int_equal(a->newer.number + b->newer.number, 0);
    close_net(&net);
}

static int dial(const struct net *net, unsigned to)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(0x7f000000 + to),
                            .sin_port = htons(net->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void silent_strangers_do_not_lock_out_a_peer(void **state)
{
    struct net net;
    int fds[TRANSPORT_STRANGERS_MAX + 20];
    (void)state;
    open_net(&net);
    struct node *a = start(&net, 1, 1);
    start(&net, 2, 2);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        fds[i] = dial(&net, 2);
    assert_true(wait_ms(&net, refused_2, LIMIT_MS));
    const struct raft_members b = peers_of(&net, 1, 2);
    transport_set_peers(a->transport, &b);
    assert_true(wait_ms(&net, has_1_2, 1000)); /* not only when their time is over */
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
    close_net(&net);
}

/* Server 2 was off while all others were replaced: it knows only 1, which is no more. */
static void who_has_the_secret_is_answered_though_unknown(void **state)
{
    struct net net;
    (void)state;
    open_net(&net);
    struct node *b = start(&net, 2, 2), *c = start(&net, 3, 3);
    const struct raft_members old = peers_of(&net, 1, 1), now = peers_of(&net, 2, 2, 3);
    transport_set_peers(b->transport, &old);
    transport_set_peers(c->transport, &now);
    assert_true(wait_ms(&net, has_3_2, LIMIT_MS));
    assert_true(wait_ms(&net, has_2_3, LIMIT_MS));
    transport_set_peers(b->transport, &old); /* it is still not told */
    transport_send(b->transport, 3, CHANNEL_AGENT, (const uint8_t *)"hello", 5);
    assert_true(wait_ms(&net, heard_3, LIMIT_MS));
    assert_int_equal(c->from, 2);
    transport_set_peers(b->transport, &now); /* now it is; the connection stays */
    assert_true(transport_is_connected(b->transport, 3));
    close_net(&net);
}

/* Messages of 'T' and of 'L', each of one byte again and again, come whole and in any order. */
static void check_whole(const struct buf *heard, size_t t_n, size_t l_n)
{
    size_t at = 0, t = 0, l = 0;

    while (at < heard->len) {
        uint8_t who = heard->data[at];
        size_t len = who == 'T' ? 200 : 1000, end = at + len;
        assert_true(who == 'T' || who == 'L');
        assert_true(end <= heard->len);
        for (; at < end; at++)
            assert_int_equal(heard->data[at], who);
        *(who == 'T' ? &t : &l) += 1;
    }
    assert_int_equal(t, t_n);
    assert_int_equal(l, l_n);
}

static size_t expected;
static bool heard_expected(struct net *n) { return n->nodes[2].heard.len >= expected; }

/* Through the door until the kernel takes no more, the last one in part; meanwhile the loop
 * sends as well. */
static void what_goes_through_the_door_is_not_mixed_with_others(void **state)
{
    struct net net;
    uint8_t t_block[200], l_block[1000];
    size_t t_n = 0, l_n = 0;
    bool has_rest = false;
    (void)state;
    memset(t_block, 'T', sizeof t_block);
    memset(l_block, 'L', sizeof l_block);
    open_net(&net);
    struct node *a = start(&net, 1, 1), *b = start(&net, 2, 2);
    const struct raft_members both = peers_of(&net, 2, 1, 2);
    assert_false(transport_lend(a->transport, 2)); /* there is no connection */
    transport_set_peers(a->transport, &both);
    transport_set_peers(b->transport, &both);
    assert_true(wait_ms(&net, has_1_2, LIMIT_MS));
    assert_false(transport_put(a->door, CHANNEL_AGENT, t_block, sizeof t_block, &has_rest));
    assert_true(transport_lend(a->transport, 2));
    for (unsigned round = 0; round < 3; round++) {
        transport_send(a->transport, 2, CHANNEL_AGENT, l_block, sizeof l_block);
        l_n++;
        while (transport_put(a->door, CHANNEL_AGENT, t_block, sizeof t_block, &has_rest)) {
            t_n++;
            if (has_rest)
                break;
        }
        transport_send(a->transport, 2, CHANNEL_AGENT, l_block, sizeof l_block);
        l_n++;
        if (has_rest) { /* as long as it waits */
            assert_false(
                transport_put(a->door, CHANNEL_AGENT, t_block, sizeof t_block, &has_rest));
            assert_false(transport_lend(a->transport, 2));
        }
        expected = t_n * sizeof t_block + l_n * sizeof l_block;
        assert_true(wait_ms(&net, heard_expected, LIMIT_MS));
        assert_true(transport_lend(a->transport, 2));
    }
    assert_true(t_n > 0);
    check_whole(&b->heard, t_n, l_n);
    transport_stop(a->transport);
    a->transport = NULL;
    assert_false(transport_put(a->door, CHANNEL_AGENT, t_block, sizeof t_block, &has_rest));
    close_net(&net);
}

static bool lost_1(struct net *n) { return n->nodes[2].lost == 1; }

/* Its process ends: told at once, and after what it had said. */
static void who_ends_is_gone(void **state)
{
    struct net net;
    (void)state;
    open_net(&net);
    struct node *a = start(&net, 1, 1), *b = start(&net, 2, 2);
    const struct raft_members both = peers_of(&net, 2, 1, 2);
    transport_set_peers(a->transport, &both);
    transport_set_peers(b->transport, &both);
    assert_true(wait_ms(&net, has_1_2, LIMIT_MS));
    transport_send(a->transport, 2, CHANNEL_AGENT, (const uint8_t *)"bye", 3);
    transport_flush(a->transport);
    assert_false(transport_is_gone(b->transport, 1));
    transport_stop(a->transport);
    a->transport = NULL;
    assert_true(wait_ms(&net, lost_1, LIMIT_MS));
    assert_true(transport_is_gone(b->transport, 1));
    assert_int_equal(b->heard_when_lost, 3);
    close_net(&net);
}

/* Two with one id: the later connection counts, nothing crashes, and it is said. */
static void one_id_twice(void **state)
{
    struct net net;
    (void)state;
    open_net(&net);
    struct node *a = start(&net, 1, 1), *b = start(&net, 2, 2), *twin = start(&net, 4, 1);
    const struct raft_members all = peers_of(&net, 2, 1, 2);
    transport_set_peers(b->transport, &all);
    transport_set_peers(a->transport, &all);
    assert_true(wait_ms(&net, has_1_2, LIMIT_MS));
    transport_set_peers(twin->transport, &all);
    (void)wait_ms(&net, never, 600);
    transport_send(b->transport, 1, CHANNEL_AGENT, (const uint8_t *)"x", 1);
    close_net(&net);
}

static void bytes_that_are_no_handshake_end_the_connection(void **state)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\0\0\0\0",
                                        "\0\0\0\5abcde", "\377\377\377\377"};
    struct net net;
    (void)state;
    open_net(&net);
    start(&net, 2, 2);
    for (size_t i = 0; i < 4; i++) {
        int fd = dial(&net, 2);
        uint64_t before = refused(&net.nodes[2]);
        assert_true(send(fd, texts[i], i == 1 ? 4 : i == 2 ? 9 : strlen(texts[i]), 0) > 0);
        for (int j = 0; j < 400 && refused(&net.nodes[2]) == before; j++)
            (void)wait_ms(&net, never, 5);
        assert_int_equal(refused(&net.nodes[2]), before + 1);
        close(fd);
    }
    close_net(&net);
}

/* ---- join: the joiner blocks, so it has a thread ---- */

struct joining {
    struct identity id;
    struct token token;
    char address[32];
    int err;
    bool done;
    uv_thread_t thread;
};

static void join_thread(void *ctx)
{
    struct joining *j = ctx;
    struct buf why = {0};

    j->err = transport_join(&j->id, j->address, &j->token, 4000, &why);
    buf_free(&why);
    __atomic_store_n(&j->done, true, __ATOMIC_RELEASE);
}

static int try_join(struct net *net, struct joining *j, const char *name, const char *address)
{
    snprintf(j->id.name, sizeof j->id.name, "%s", name);
    snprintf(j->id.address, sizeof j->id.address, "%s", address);
    snprintf(j->address, sizeof j->address, "127.0.0.2:%u", net->port);
    j->done = false;
    assert_int_equal(uv_thread_create(&j->thread, join_thread, j), 0);
    while (!__atomic_load_n(&j->done, __ATOMIC_ACQUIRE))
        (void)wait_ms(net, never, 5);
    uv_thread_join(&j->thread);
    return j->err;
}

static void who_may_join(void **state)
{
    struct net net;
    struct joining j = {0};
    (void)state;
    open_net(&net);
    struct node *b = start(&net, 2, 2);
    token_make(&j.token, b->self.secret, (uint64_t)time(NULL));
    assert_int_equal(try_join(&net, &j, "new", "10.0.0.5"), 0);
    assert_memory_equal(j.id.secret, b->self.secret, SECRET_LEN);
    assert_string_equal(b->joiner.address, "10.0.0.5:2182");
    assert_false(b->joiner.voter);
    b->join_answer = ERR_EXISTS;
    assert_int_equal(try_join(&net, &j, "new", "10.0.0.5"), ERR_EXISTS);
    b->join_answer = 0;

    /* What would break everybody's files does not come in. */
    b->joins = 0;
    assert_int_equal(try_join(&net, &j, "new", "10.0.0.5\n1 1 x"), ERR_MALFORMED);
    assert_int_equal(try_join(&net, &j, "new", "somewhere"), ERR_MALFORMED);
    assert_int_equal(try_join(&net, &j, "a b", "10.0.0.5"), ERR_MALFORMED);
    j.token.expires_s--; /* the key is of another time */
    assert_int_equal(try_join(&net, &j, "new", "10.0.0.5"), ERR_REFUSED);
    token_make(&j.token, b->self.secret, (uint64_t)time(NULL) - TOKEN_LIFE_S - 5);
    assert_int_equal(try_join(&net, &j, "new", "10.0.0.5"), ERR_TIMED_OUT);
    assert_int_equal(b->joins, 0);
    close_net(&net);
}

int main(void)
{
    mutant_from_env();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_arrives_in_order),
        cmocka_unit_test(large_and_small_ones_keep_their_order),
        cmocka_unit_test(what_goes_through_the_door_is_not_mixed_with_others),
        cmocka_unit_test(an_older_epoch_hears_of_the_newer_one_and_is_refused),
        cmocka_unit_test(two_that_were_recovered_apart_refuse_each_other),
        cmocka_unit_test(a_wrong_secret_another_cluster_and_ones_own_id_are_refused),
        cmocka_unit_test(silent_strangers_do_not_lock_out_a_peer),
        cmocka_unit_test(who_has_the_secret_is_answered_though_unknown),
        cmocka_unit_test(who_ends_is_gone),
        cmocka_unit_test(one_id_twice),
        cmocka_unit_test(bytes_that_are_no_handshake_end_the_connection),
        cmocka_unit_test(who_may_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
