/* SPDX-License-Identifier: Apache-2.0 */
/* Histories that can be, and the known ways in which they cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "lib/history.h"

/* One line: p, id, type, f, key /k, what else, start, end. */
#define L(p, id, type, f, more, start, end)                               \
    "{\"process\":" #p ",\"id\":" #id ",\"type\":\"" type "\",\"f\":\"" f \
    "\",\"key\":\"/k\"," more ",\"start\":" #start ",\"end\":" #end "}\n"
#define V(v) "\"value\":" #v
#define VV(v, version) "\"value\":" #v ",\"version\":" #version
#define CAS(v, expect, version) "\"value\":" #v ",\"expect\":" #expect ",\"version\":" #version
#define Z(v, version, mzxid, zxid) \
    "\"value\":" #v ",\"version\":" #version ",\"mzxid\":" #mzxid ",\"zxid\":" #zxid
#define INIT "{\"type\":\"ok\",\"f\":\"init\",\"key\":\"/k\",\"value\":0,\"version\":0}\n"
#define LIST_INIT "{\"type\":\"ok\",\"f\":\"init\",\"key\":\"/k\",\"value\":[],\"version\":0}\n"

static size_t check(const char *text, struct history_report *r)
{
    struct history *h = history_new();
    size_t line;

    *r = (struct history_report){0};
    assert_int_equal(history_read(h, text, strlen(text), &line), 0);
    bool ok = history_check(h, r);
    assert_int_equal(ok, r->wrong == 0);
    history_free(h);
    return r->wrong;
}

static void right(const char *text)
{
    struct history_report r;

    if (check(text, &r) > 0)
        fail_msg("%s", buf_text(&r.text));
    assert_int_equal(r.undecided, 0);
    history_report_free(&r);
}

static void wrong(const char *text, const char *why)
{
    struct history_report r;

    if (check(text, &r) == 0)
        fail_msg("nothing was found, not: %s", why);
    if (strstr(buf_text(&r.text), why) == NULL)
        fail_msg("another thing was found: %s", buf_text(&r.text));
    history_report_free(&r);
}

#define NOT_LINEAR "is not linearizable"

/* ---- registers ---- */

static void test_one_after_the_other(void **state)
{
    (void)state;
    right("");
    right(INIT L(1, 1, "ok", "write", VV(5, 1), 10, 20)
              L(2, 1, "ok", "sync_read", VV(5, 1), 30, 40)
                  L(2, 2, "ok", "cas", CAS(6, 1, 2), 50, 60)
                      L(1, 2, "ok", "sync_read", VV(6, 2), 70, 80));
}

static void test_side_by_side(void **state)
{
    (void)state;
    /* Both orders of the writes can be; the read decides. */
    right(INIT L(1, 1, "ok", "write", V(5), 10, 50) L(2, 1, "ok", "write", V(6), 10, 50)
              L(3, 1, "ok", "sync_read", V(5), 60, 70));
    right(INIT L(1, 1, "ok", "write", V(5), 10, 50) L(2, 1, "ok", "write", V(6), 10, 50)
              L(3, 1, "ok", "sync_read", V(6), 60, 70));
    /* ... for everybody. */
    wrong(INIT L(1, 1, "ok", "write", V(5), 10, 50) L(2, 1, "ok", "write", V(6), 10, 50)
              L(3, 1, "ok", "sync_read", V(6), 60, 70) L(4, 1, "ok", "sync_read", V(5), 80, 90),
          NOT_LINEAR);
    /* A read beside a write may see it or not, but not first it and then not. */
    right(INIT L(1, 1, "ok", "write", V(5), 10, 90) L(2, 1, "ok", "sync_read", V(0), 20, 30)
              L(3, 1, "ok", "sync_read", V(5), 40, 50));
    wrong(INIT L(1, 1, "ok", "write", V(5), 10, 90) L(2, 1, "ok", "sync_read", V(5), 20, 30)
              L(3, 1, "ok", "sync_read", V(0), 40, 50),
          NOT_LINEAR);
}

static void test_stale_read(void **state)
{
    (void)state;
    wrong(INIT L(1, 1, "ok", "write", VV(5, 1), 10, 20)
              L(2, 1, "ok", "sync_read", VV(0, 0), 30, 40),
          NOT_LINEAR);
    /* A plain read may be stale, of another session. */
    right(INIT L(1, 1, "ok", "write", VV(5, 1), 10, 20)
              L(2, 1, "ok", "read", VV(0, 0), 30, 40));
}

static void test_lost_update(void **state)
{
    (void)state;
    /* Two compare-and-set with the same version, both acknowledged. */
    wrong(INIT L(1, 1, "ok", "cas", CAS(5, 0, 1), 10, 40)
              L(2, 1, "ok", "cas", CAS(6, 0, 1), 20, 50),
          NOT_LINEAR);
    right(INIT L(1, 1, "ok", "cas", CAS(5, 0, 1), 10, 40)
              L(2, 1, "fail", "cas", CAS(6, 0, -1) ",\"err\":\"BAD_VERSION\"", 20, 50));
    /* Refused though nothing was in its way. */
    wrong(INIT L(2, 1, "fail", "cas", CAS(6, 0, -1) ",\"err\":\"BAD_VERSION\"", 20, 50),
          NOT_LINEAR);
}

static void test_acknowledged_then_lost(void **state)
{
    (void)state;
    wrong(INIT L(1, 1, "ok", "write", V(5), 10, 20) L(1, 2, "ok", "write", V(6), 30, 40)
              L(2, 1, "ok", "sync_read", V(5), 50, 60),
          NOT_LINEAR);
    /* Written by nobody: the refused one was carried out. */
    wrong(INIT L(1, 1, "fail", "write", V(5), 10, 20) L(2, 1, "ok", "sync_read", V(5), 50, 60),
          "nobody asked for");
}

static void test_unknown(void **state)
{
    (void)state;
    /* It may happen at once, late, or never; */
    right(INIT L(1, 1, "info", "write", V(5), 10, 20) L(2, 1, "ok", "sync_read", V(0), 50, 60)
              L(2, 2, "ok", "sync_read", V(5), 70, 80));
    right(INIT L(1, 1, "info", "write", V(5), 10, 20) L(2, 1, "ok", "sync_read", V(0), 50, 60));
    /* but only once, */
    wrong(INIT L(1, 1, "info", "write", V(5), 10, 20) L(2, 1, "ok", "sync_read", V(5), 50, 60)
              L(2, 2, "ok", "write", V(6), 70, 80) L(2, 3, "ok", "sync_read", V(5), 90, 95),
          NOT_LINEAR);
    /* and not after a later one of its session. */
    wrong(INIT L(1, 1, "info", "write", V(5), 10, 20) L(1, 2, "ok", "write", V(6), 30, 40)
              L(2, 1, "ok", "sync_read", V(5), 50, 60),
          NOT_LINEAR);
    /* Applied twice: the version says so. */
    wrong(INIT L(1, 1, "ok", "write", VV(5, 2), 10, 20), NOT_LINEAR);
    /* An "invoke" line without an end is the same as "info". */
    right(INIT "{\"process\":1,\"id\":1,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"/k\","
               "\"value\":5,\"start\":10}\n" L(2, 1, "ok", "sync_read", V(5), 50, 60));
    right(INIT "{\"process\":1,\"id\":1,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"/k\","
               "\"value\":5,\"start\":10}\n" L(1, 1, "ok", "write", VV(5, 1), 10, 20)
                   L(2, 1, "ok", "sync_read", VV(5, 1), 50, 60));
    wrong(INIT L(1, 1, "ok", "write", V(5), 10, 20) L(1, 1, "ok", "write", V(5), 10, 20),
          "is there twice");
}

static void test_session_order(void **state)
{
    (void)state;
    /* Both in flight at once, of one session: they take effect as asked. */
    wrong(INIT L(1, 1, "ok", "write", V(5), 10, 50) L(1, 2, "ok", "write", V(6), 11, 51)
              L(2, 1, "ok", "sync_read", V(5), 60, 70),
          NOT_LINEAR);
}

static void test_create_and_delete(void **state)
{
    (void)state;
    right(L(1, 1, "ok", "create", V(5), 10, 20) L(1, 2, "ok", "write", VV(6, 1), 30, 40)
              L(1, 3, "ok", "delete", "\"expect\":1", 50, 60)
                  L(2, 1, "fail", "sync_read", "\"err\":\"NO_NODE\"", 70, 80)
                      L(2, 2, "ok", "create", VV(7, 0), 90, 95));
    wrong(L(1, 1, "ok", "create", V(5), 10, 20) L(2, 1, "ok", "create", V(6), 30, 40),
          NOT_LINEAR);
    wrong(L(1, 1, "ok", "create", V(5), 10, 20)
              L(2, 1, "fail", "sync_read", "\"err\":\"NO_NODE\"", 30, 40),
          NOT_LINEAR);
}

/* ---- by zxid and version ---- */

static void test_zxids(void **state)
{
    (void)state;
    right(INIT L(1, 1, "ok", "write", Z(5, 1, 101, 101), 10, 20)
              L(2, 1, "ok", "read", Z(0, 0, 90, 100), 30, 40)
                  L(2, 2, "ok", "sync_read", Z(5, 1, 101, 104), 50, 60));
    wrong(INIT L(1, 1, "ok", "write", Z(5, 1, 101, 101), 10, 20)
              L(2, 1, "ok", "write", Z(6, 2, 100, 100), 30, 40),
          "a write comes before what had ended");
    wrong(INIT L(1, 1, "ok", "write", Z(5, 1, 101, 101), 10, 20)
              L(2, 1, "ok", "write", Z(6, 2, 101, 101), 10, 20),
          "two writes have one zxid");
    wrong(INIT L(1, 1, "ok", "write", Z(5, 1, 101, 101), 10, 20)
              L(2, 1, "ok", "read", Z(0, 0, 90, 101), 30, 40),
          "misses a write");
    wrong(INIT L(1, 1, "ok", "write", Z(5, 1, 101, 101), 10, 20)
              L(2, 1, "ok", "read", Z(7, 1, 101, 101), 30, 40),
          "something else than what was written");
    wrong(INIT L(2, 1, "ok", "read", Z(7, 1, 101, 101), 30, 40), "what nobody wrote");
    wrong(INIT L(1, 1, "ok", "write", Z(5, 1, 101, 101), 10, 20)
              L(2, 1, "ok", "sync_read", Z(0, 0, 90, 100), 30, 40),
          "a read after sync is stale");
}

static void test_versions(void **state)
{
    (void)state;
    wrong(INIT L(1, 1, "info", "write", V(5), 10, 20) L(1, 2, "info", "write", V(6), 10, 20)
              L(2, 1, "ok", "read", VV(5, 1), 30, 40) L(3, 1, "ok", "read", VV(6, 1), 30, 40),
          "one version has two values");
}

static void test_sessions(void **state)
{
    (void)state;
    /* Reads of one session go back. */
    wrong(INIT L(1, 1, "ok", "write", VV(5, 1), 10, 20) L(2, 1, "ok", "read", VV(5, 1), 30, 40)
              L(2, 2, "ok", "read", VV(0, 0), 50, 60),
          "older version");
    /* It does not see its own write. */
    wrong(INIT L(1, 1, "ok", "write", VV(5, 1), 10, 20) L(1, 2, "ok", "read", VV(0, 0), 30, 40),
          "older version");
    /* Another session may. */
    right(INIT L(1, 1, "ok", "write", VV(5, 1), 10, 20)
              L(1, 2, "ok", "read", VV(0, 0) ",\"session\":\"0x77\"", 30, 40));
    wrong(INIT L(1, 1, "ok", "read", Z(0, 0, 90, 100), 10, 20)
              L(1, 2, "ok", "read", Z(0, 0, 90, 99), 30, 40),
          "the zxid goes back");
}

/* ---- lists ---- */

#define A(p, id, type, v, start, end) L(p, id, type, "append", V(v), start, end)
#define R(p, id, v, start, end) L(p, id, "ok", "sync_read", "\"value\":" v, start, end)
#define PR(p, id, v, start, end) L(p, id, "ok", "read", "\"value\":" v, start, end)

static void test_lists(void **state)
{
    (void)state;
    right(LIST_INIT A(1, 1, "ok", 1, 10, 20) A(2, 1, "ok", 2, 30, 40) R(3, 1, "[1,2]", 50, 60)
              PR(4, 1, "[1]", 50, 60) PR(5, 1, "[]", 50, 60));
    right(LIST_INIT A(1, 1, "info", 1, 10, 20) A(2, 1, "ok", 2, 15, 40) R(3, 1, "[2]", 50, 60)
              R(3, 2, "[2,1]", 70, 80));
    wrong(LIST_INIT A(1, 1, "ok", 1, 10, 20) A(2, 1, "ok", 2, 10, 20) PR(3, 1, "[1,2]", 50, 60)
              PR(4, 1, "[2]", 50, 60),
          "differ at item 0");
    wrong(LIST_INIT A(1, 1, "ok", 1, 10, 20) R(3, 1, "[1,1]", 50, 60), "is at 0 and at 1");
    wrong(LIST_INIT R(3, 1, "[7]", 50, 60), "appended by nobody");
    wrong(LIST_INIT A(1, 1, "fail", 1, 10, 20) R(3, 1, "[1]", 50, 60), "was refused");
    wrong(LIST_INIT A(1, 1, "ok", 1, 10, 20) R(3, 1, "[]", 50, 60), "misses what was there");
    wrong(LIST_INIT A(1, 1, "ok", 1, 10, 20) A(2, 1, "ok", 2, 10, 20) R(3, 1, "[1,2]", 50, 60)
              R(4, 1, "[1]", 70, 80),
          "misses what was there");
    wrong(LIST_INIT A(1, 1, "ok", 1, 10, 20) A(2, 1, "ok", 2, 30, 40) R(3, 1, "[2,1]", 50, 60),
          "not in the order of real time");
    /* A plain read of the session that appended. */
    wrong(LIST_INIT A(1, 1, "ok", 1, 10, 20) PR(1, 2, "[]", 50, 60), "misses what was there");
}

/* ---- parents ---- */

#define S(p, id, type, v, start, end) L(p, id, type, "seq_create", V(v), start, end)
#define D(p, id, type, v, start, end) L(p, id, type, "seq_delete", V(v), start, end)
#define C(p, id, v, start, end) L(p, id, "ok", "sync_children", "\"value\":" v, start, end)

static void test_parents(void **state)
{
    (void)state;
    right(S(1, 1, "ok", 0, 10, 20) S(2, 1, "ok", 1, 30, 40) D(1, 2, "ok", 0, 41, 45)
              S(1, 3, "ok", 2, 46, 47) C(3, 1, "[2,1]", 50, 60));
    wrong(S(1, 1, "ok", 0, 10, 20) S(2, 1, "ok", 0, 30, 40), "given twice");
    wrong(S(1, 1, "ok", 1, 10, 20) S(2, 1, "ok", 0, 30, 40), "not in the order of real time");
    wrong(S(1, 1, "ok", 1, 10, 20) S(1, 2, "ok", 0, 12, 22), "not in its order");
    wrong(S(1, 1, "ok", 0, 10, 20) C(3, 1, "[]", 50, 60), "is not there");
    right(S(1, 1, "ok", 0, 10, 20) D(2, 1, "info", 0, 30, 40) C(3, 1, "[]", 50, 60));
    wrong(S(1, 1, "ok", 0, 10, 20) D(2, 1, "ok", 0, 30, 40) C(3, 1, "[0]", 50, 60),
          "a deleted child is there");
    wrong(C(3, 1, "[4]", 50, 60), "created by nobody");
    right(L(1, 1, "info", "seq_create", "\"x\":0", 10, 20) C(3, 1, "[4]", 50, 60));
}

/* ---- many ---- */

/* A register that is right, with clients that overlap, lose answers and are refused; half of
 * them say no versions, and then few answers may be lost: an order is hard to find. With one
 * answer changed, it is not right. */
static void random_history(uint64_t seed, struct history *h, int break_at)
{
    struct rng rng = {seed};
    uint32_t key = history_key(h, "/k");
    uint64_t now = 1, session[6] = {1, 2, 3, 4, 5, 6}, busy_until[6] = {0}, ids = 0;
    int32_t version = 0;
    int64_t value = 0;
    size_t number;

    struct history_op *op = history_begin(h, HISTORY_INIT, key, &number);
    op->type = HISTORY_OK;
    op->value = op->version = 0;
    for (int i = 0; i < 300; i++) {
        unsigned c = (unsigned)rng_below(&rng, 6);
        bool is_lost = rng_below(&rng, seed % 2 ? 10 : 80) == 0,
             is_done = rng_below(&rng, 2) == 0;
        now += 1 + rng_below(&rng, 5);
        if (busy_until[c] > now)
            now = busy_until[c];
        static const enum history_f fs[] = {HISTORY_WRITE, HISTORY_CAS, HISTORY_SYNC_READ};
        op = history_begin(h, fs[rng_below(&rng, 3)], key, &number);
        op->process = c;
        op->id = ++ids;
        op->session = (int64_t)session[c];
        op->start_ns = now - rng_below(&rng, now - busy_until[c] + 1);
        op->end_ns = now + rng_below(&rng, 20);
        busy_until[c] = op->end_ns + 1;
        op->type = is_lost ? HISTORY_INFO : HISTORY_OK;
        op->value = op->f == HISTORY_SYNC_READ ? value : i + 1;
        op->version = op->f == HISTORY_SYNC_READ && rng_below(&rng, 2) ? version : -1;
        if (op->f == HISTORY_CAS) {
            op->expect = version - (rng_below(&rng, 4) == 0);
            if (op->expect != version && !is_lost) {
                op->type = HISTORY_FAIL;
                op->err = ERR_BAD_VERSION;
            }
        }
        if (op->f == HISTORY_SYNC_READ && i >= break_at && break_at >= 0 && !is_lost) {
            op->value = 1000; /* nobody wrote that */
            break_at = -1;
        }
        if (is_lost)
            session[c] += 6;
        bool is_refused = op->f == HISTORY_CAS && op->expect != version;
        if (op->f != HISTORY_SYNC_READ && !is_refused && (!is_lost || is_done)) {
            value = op->value;
            version++;
            if (!is_lost && seed % 2)
                op->version = version;
        }
    }
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        for (int broken = 0; broken < 2; broken++) {
            struct history *h = history_new();
            struct history_report r = {0};
            random_history(seed, h, broken ? 150 : -1);
            bool ok = history_check(h, &r);
            if (ok == (broken != 0) || r.undecided > 0)
                fail_msg("seed %llu, broken %d, %zu undecided: %s", (unsigned long long)seed,
                         broken, r.undecided, buf_text(&r.text));
            history_report_free(&r);
            history_free(h);
        }
    }
}

/* ---- few, against the plainest way of all: each order is tried ---- */

enum { FEW = 6 };

static bool every_order(struct history_op *const *ops, unsigned n, unsigned taken,
                        int32_t version, int64_t value)
{
    bool is_over = true;

    for (unsigned i = 0; i < n; i++)
        is_over &= (taken >> i & 1) != 0 || ops[i]->type == HISTORY_INFO;
    if (is_over)
        return true;
    for (unsigned i = 0; i < n; i++) {
        const struct history_op *op = ops[i];
        bool may = (taken >> i & 1) == 0;
        for (unsigned k = 0; k < n && may; k++) {
            bool is_taken = (taken >> k & 1) != 0, is_sure = ops[k]->type != HISTORY_INFO;
            bool is_same = ops[k]->process == op->process;
            may &= is_taken || !is_sure || ops[k]->end_ns >= op->start_ns;
            may &= !is_same || (k < i ? is_taken || !is_sure : k == i || !is_taken);
        }
        bool is_write = op->f != HISTORY_SYNC_READ;
        bool fits =
            op->f == HISTORY_CAS ? op->expect == version : is_write || op->value == value;
        if (op->type == HISTORY_FAIL)
            fits = op->expect != version;
        bool does = is_write && op->type != HISTORY_FAIL;
        fits &= !is_write || op->version < 0 || op->version == version + 1;
        if (may && fits &&
            every_order(ops, n, taken | 1u << i, version + does, does ? op->value : value))
            return true;
    }
    return false;
}

static void test_every_order(void **state)
{
    unsigned rights = 0, wrongs = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        static const enum history_f fs[] = {HISTORY_WRITE, HISTORY_CAS, HISTORY_SYNC_READ};
        struct rng rng = {seed};
        struct history *h = history_new();
        struct history_report r = {0};
        struct history_op *ops[FEW];
        size_t number;
        history_begin(h, HISTORY_INIT, history_key(h, "/k"), &number)->type = HISTORY_OK;
        history_at(h, number)->value = history_at(h, number)->version = 0;
        for (unsigned i = 0; i < FEW; i++) { /* in the order of start */
            struct history_op *op = history_begin(h, fs[rng_below(&rng, 3)], 0, &number);
            op->process = rng_below(&rng, 4);
            op->id = op->start_ns = 1 + i;
            op->end_ns = op->start_ns + rng_below(&rng, FEW);
            op->type = rng_below(&rng, 4) == 0                           ? HISTORY_INFO
                       : op->f == HISTORY_CAS && rng_below(&rng, 3) == 0 ? HISTORY_FAIL
                                                                         : HISTORY_OK;
            op->err = op->type == HISTORY_FAIL ? ERR_BAD_VERSION : 0;
            op->value = (int64_t)rng_below(&rng, 3);
            if (op->f == HISTORY_CAS)
                op->expect = (int32_t)rng_below(&rng, 4);
            else if (op->f == HISTORY_WRITE && op->type == HISTORY_OK && rng_below(&rng, 2))
                op->version = 1 + (int32_t)rng_below(&rng, 3);
        }
        for (unsigned i = 0; i < FEW; i++)
            ops[i] = history_at(h, 1 + i);
        bool expected = every_order(ops, FEW, 0, 0, 0);
        (void)history_check(h, &r);
        bool is_linear = strstr(buf_text(&r.text), NOT_LINEAR) == NULL &&
                         strstr(buf_text(&r.text), "nobody asked for") == NULL;
        if (is_linear != expected || r.undecided > 0)
            fail_msg("seed %llu: expected %d: %s", (unsigned long long)seed, expected,
                     buf_text(&r.text));
        rights += expected;
        wrongs += !expected;
        history_report_free(&r);
        history_free(h);
    }
    assert_true(rights > 1000 && wrongs > 1000);
}

/* ---- the file ---- */

static void test_file(void **state)
{
    static const char *const bad[] = {
        "x\n",
        "{}\n",
        "{\"type\":\"ok\",\"f\":\"write\",\"key\":\"/k\",\"start\":1,\"end\":2}\n",
        "{\"type\":\"ok\",\"f\":\"what\",\"key\":\"/k\",\"value\":1,\"start\":1,\"end\":2}\n",
        "{\"type\":\"ok\",\"f\":\"write\",\"key\":\"/k\",\"value\":-3,\"start\":1,\"end\":2}\n",
        "{\"type\":\"ok\",\"f\":\"write\",\"key\":\"/k\",\"value\":3,\"start\":1}\n",
        "{\"type\":\"ok\",\"f\":\"read\",\"key\":\"/k\",\"value\":[1,\"a\"],\"start\":1,"
        "\"end\":2}\n",
        "{\"type\":\"ok\",\"f\":\"write\",\"key\":\"/k\",\"value\":3,\"version\":4294967296,"
        "\"start\":1,\"end\":2}\n",
    };
    size_t line;

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct history *h = history_new();
        if (history_read(h, bad[i], strlen(bad[i]), &line) != ERR_SYNTAX || line != 1)
            fail_msg("taken: %s", bad[i]);
        history_free(h);
    }
    right("# a comment\n\n" INIT "{\"type\":\"ok\", half a li");
    struct history *h = history_new();
    const char *text = INIT "\n\nx\n";
    assert_int_equal(history_read(h, text, strlen(text), &line), ERR_SYNTAX);
    assert_int_equal(line, 4);
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_stale_read),
        cmocka_unit_test(test_lost_update),
        cmocka_unit_test(test_acknowledged_then_lost),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_session_order),
        cmocka_unit_test(test_create_and_delete),
        cmocka_unit_test(test_zxids),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_parents),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_every_order),
        cmocka_unit_test(test_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
