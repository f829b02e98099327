/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/address.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mutant.h"
#include "base/reached.h"

/* After ADDED and after every reconnection; then every ADDRESS_ANNOUNCE_EVERY_MS. One
 * gratuitous ARP is lost too easily: neighbours then send into the void for minutes. */
static const uint32_t announce_at_ms[] = {0, 100, 500, 1000, 2000, 5000};
#define ANNOUNCE_FIRST (sizeof announce_at_ms / sizeof announce_at_ms[0])

const char *address_state_name(enum address_state s)
{
    switch (s) {
    case ADDRESS_IDLE: return "idle";
    case ADDRESS_CLAIMING: return "claiming";
    case ADDRESS_PROBING: return "probing";
    case ADDRESS_HOLDING: return "holding";
    case ADDRESS_DROPPING: return "dropping";
    case ADDRESS_RELEASING: return "releasing";
    }
    return "?";
}

uint32_t address_margin_ms(uint32_t lease_ms, uint32_t guard_ms)
{
    if (guard_ms == 0)
        guard_ms = lease_ms / 10;
    if (guard_ms < ADDRESS_GUARD_MIN_MS)
        guard_ms = ADDRESS_GUARD_MIN_MS;
    return guard_ms + ADDRESS_DRIFT(lease_ms);
}

static struct address_action *act(struct address_actions *out, enum address_action_type type)
{
    CHECK(out->n < ADDRESS_ACTIONS_MAX);
    struct address_action *action = &out->v[out->n++];
    *action = (struct address_action){.type = type};
    return action;
}

/* An action that will be answered: the answer must carry this number, or it is about
 * something that we have since given up. */
static void ask(struct address *a, struct address_actions *out, enum address_action_type type)
{
    a->op = ++a->op_last;
    act(out, type)->op = a->op;
}

static void ask_tree(struct address *a, const struct address_facts *f,
                     struct address_actions *out, enum address_action_type type)
{
    CHECK(!a->has_request);
    ask(a, out, type);
    a->has_request = true;
    a->claim_session = f->session;
}

static void enter(struct address *a, const struct address_facts *f, enum address_state state)
{
    a->state = state;
    a->since_ms = f->now_ms;
}

static void go_idle(struct address *a, const struct address_facts *f)
{
    enter(a, f, ADDRESS_IDLE);
    a->retry_ms = f->now_ms + ADDRESS_RETRY_MS;
    a->must_release = false;
}

static void say(struct address *a, const char *why, const char *more)
{
    (void)snprintf(a->why, sizeof a->why, "%s%s", why, more != NULL ? more : "");
}

/* Not here for a while: the other machines may do better. */
static void hold_off(struct address *a, const struct address_facts *f)
{
    a->hold_off_ms = a->hold_off_ms == 0 ? ADDRESS_HOLD_OFF_MS : 2 * a->hold_off_ms;
    if (a->hold_off_ms > ADDRESS_HOLD_OFF_MAX_MS)
        a->hold_off_ms = ADDRESS_HOLD_OFF_MAX_MS;
    a->avoid_until_ms = f->now_ms + a->hold_off_ms;
}

/* The end of what the session gives us, or 0. */
static uint64_t session_end(const struct address *a, const struct address_facts *f)
{
    uint32_t margin = address_margin_ms(f->lease_ms, f->guard_ms);

    if (a->claim_session != f->session && !MUTANT(address_stale_grant))
        return 0;
    return a->alive_ms > margin ? a->alive_ms - margin : 0;
}

static uint64_t lease_end(const struct address *a, const struct address_facts *f)
{
    uint64_t end = session_end(a, f);

    if (a->claim_session == f->session && f->kept_until_ms > end)
        end = f->kept_until_ms;
    if (f->cap_ms > 0 && end > f->now_ms + f->cap_ms)
        end = f->now_ms + f->cap_ms;
    return end;
}

/* The claim is ours, as far as the tree says; nothing is on this machine yet. */
static void probe(struct address *a, const struct address_facts *f, struct address_actions *out)
{
    enter(a, f, ADDRESS_PROBING);
    ask(a, out, ADDRESS_ACT_PROBE);
}

static void release(struct address *a, const struct address_facts *f,
                    struct address_actions *out)
{
    enter(a, f, ADDRESS_RELEASING);
    a->retry_ms = f->now_ms;
    if (f->is_connected && a->claim_session == f->session && !a->is_unsure && !a->has_request)
        ask_tree(a, f, out, ADDRESS_ACT_DELETE);
}

static void drop(struct address *a, const struct address_facts *f, struct address_actions *out,
                 bool must_release)
{
    /* A confirming read may be under way: its answer is of no use any more, but who owns the
     * claim must be found out anew. */
    a->is_unsure = a->is_unsure || a->has_request || !must_release;
    a->has_request = false;
    a->must_release = must_release;
    enter(a, f, ADDRESS_DROPPING);
    if (MUTANT(address_release_before_removed) && must_release && f->is_connected) {
        act(out, ADDRESS_ACT_REMOVE)->op = ++a->op_last;
        a->is_unsure = false;
        release(a, f, out);
        return;
    }
    ask(a, out, ADDRESS_ACT_REMOVE);
    a->retry_ms = f->now_ms + ADDRESS_REMOVE_AGAIN_MS;
}

static void hold(struct address *a, const struct address_facts *f, struct address_actions *out)
{
    enter(a, f, ADDRESS_HOLDING);
    a->until_ms = lease_end(a, f);
    a->is_added = false;
    ask(a, out, ADDRESS_ACT_ADD);
    out->v[out->n - 1].until_ms = a->until_ms;
}

/* ---- one function a state ---- */

/* The tree says that the claim is ours: go on, or give it back. */
static void won(struct address *a, const struct address_facts *f, struct address_actions *out)
{
    a->is_unsure = false;
    if (a->clear_session != f->session) {
        a->clear_session = f->session;
        a->clear_ms = f->over_ms;
    }
    if (f->wish == ADDRESS_AWAY || f->now_ms < a->avoid_until_ms) {
        release(a, f, out);
    } else if (f->now_ms < a->clear_ms) {
        say(a, "who had it before may still answer for a moment", NULL);
        a->is_unsure = true;
        go_idle(a, f);
        a->retry_ms = a->clear_ms;
    } else {
        probe(a, f, out);
    }
}

static void idle(struct address *a, const struct address_facts *f, struct address_actions *out)
{
    bool is_promised = f->now_ms < f->promised_until_ms && !MUTANT(address_promise_ignored);
    bool may_be_ours = a->is_unsure || (f->session != 0 && f->seen_owner == f->session);

    if (MUTANT(address_stale_grant) && a->is_unsure && f->is_connected && !is_promised) {
        won(a, f, out);
        return;
    }
    if (a->is_unsure && a->claim_session != f->session && f->session != 0)
        may_be_ours = a->is_unsure = false; /* it went with its session */
    if (!f->is_connected || f->session == 0 || f->now_ms < a->retry_ms || is_promised)
        return;
    if (may_be_ours) {
        enter(a, f, ADDRESS_CLAIMING);
        ask_tree(a, f, out, ADDRESS_ACT_READ);
    } else if (f->wish == ADDRESS_TAKE && f->seen_owner == 0 &&
               f->now_ms >= a->avoid_until_ms) {
        enter(a, f, ADDRESS_CLAIMING);
        a->clear_session = 0;
        ask_tree(a, f, out, ADDRESS_ACT_CREATE);
    }
}

static void claiming(struct address *a, const struct address_facts *f,
                     const struct address_event *ev, struct address_actions *out)
{
    bool is_ours = ev->type == ADDRESS_EV_CREATED ||
                   (ev->type == ADDRESS_EV_READ && ev->owner == a->claim_session);

    if ((ev->type != ADDRESS_EV_CREATED && ev->type != ADDRESS_EV_READ) || ev->op != a->op)
        return;
    a->has_request = false;
    if (ev->session != f->session && !MUTANT(address_stale_grant)) {
        REACHED(address_grant_stale);
        a->is_unsure = false; /* whatever it was, it was an earlier session's */
        go_idle(a, f);
    } else if (ev->err == 0 && is_ours) {
        won(a, f, out);
    } else if (ev->err == 0 || ev->err == ERR_NO_NODE || ev->err == ERR_NODE_EXISTS) {
        /* Another has it, or nobody; a read that found nobody may be followed at once. */
        a->is_unsure = false;
        go_idle(a, f);
    } else {
        a->is_unsure = true;
        go_idle(a, f);
    }
}

static void probing(struct address *a, const struct address_facts *f,
                    const struct address_event *ev, struct address_actions *out)
{
    bool is_mine = ev->op == a->op;

    if (a->claim_session != f->session && !MUTANT(address_stale_grant)) {
        go_idle(a, f);
    } else if (is_mine && ev->type == ADDRESS_EV_PROBED && ev->text[0] != 0 &&
               !MUTANT(address_probe_ignored)) {
        REACHED(address_probe_met);
        say(a, "another machine answers for it: ", ev->text);
        hold_off(a, f);
        release(a, f, out);
    } else if (is_mine && ev->type == ADDRESS_EV_PROBE_FAILED) {
        say(a, "could not ask whether it is in use: ", ev->text);
        hold_off(a, f);
        release(a, f, out);
    } else if (f->now_ms >= a->since_ms + ADDRESS_PROBE_LIMIT_MS) {
        say(a, "the question whether it is in use was not answered in time", NULL);
        hold_off(a, f);
        release(a, f, out);
    } else if (f->wish == ADDRESS_AWAY) {
        release(a, f, out);
    } else if (is_mine && ev->type == ADDRESS_EV_PROBED && f->now_ms < session_end(a, f)) {
        hold(a, f, out);
    } else if (is_mine && ev->type == ADDRESS_EV_PROBED) {
        /* The lease ran out meanwhile: what the tree says must be read again. */
        a->is_unsure = true;
        go_idle(a, f);
    }
}

static void announce(struct address *a, const struct address_facts *f,
                     struct address_actions *out)
{
    if (!a->is_added || f->now_ms < a->announce_next_ms)
        return;
    act(out, ADDRESS_ACT_ANNOUNCE);
    while (a->announced < ANNOUNCE_FIRST &&
           a->announce_from_ms + announce_at_ms[a->announced] <= f->now_ms)
        a->announced++;
    a->announce_next_ms = a->announced < ANNOUNCE_FIRST
                              ? a->announce_from_ms + announce_at_ms[a->announced]
                              : f->now_ms + ADDRESS_ANNOUNCE_EVERY_MS;
}

static void announce_anew(struct address *a, const struct address_facts *f)
{
    a->announced = 0;
    a->announce_from_ms = a->announce_next_ms = f->now_ms;
}

/* What the host and the tree have said while we hold it. False: it is over. */
static bool holding_event(struct address *a, const struct address_facts *f,
                          const struct address_event *ev, struct address_actions *out)
{
    if (ev->type == ADDRESS_EV_EXPIRED) {
        REACHED(address_kernel_took);
        say(a, "the kernel took it away", NULL);
        drop(a, f, out, false);
        return false;
    }
    if (ev->op != a->op)
        return true;
    if (ev->type == ADDRESS_EV_ADD_FAILED) {
        say(a, "could not be added: ", ev->text);
        hold_off(a, f);
        drop(a, f, out, true);
        return false;
    }
    if (ev->type == ADDRESS_EV_ADDED && !a->is_added) {
        a->is_added = true;
        a->why[0] = 0;
        a->hold_off_ms = 0;
        announce_anew(a, f);
    } else if (ev->type == ADDRESS_EV_READ) {
        a->has_request = false;
        bool is_known = ev->err == 0 || ev->err == ERR_NO_NODE;
        if (is_known && ev->session == f->session && ev->owner != f->session) {
            REACHED(address_claim_deleted);
            say(a, "its claim was deleted by somebody", NULL);
            drop(a, f, out, false);
            return false;
        }
        a->retry_ms = f->now_ms + ADDRESS_RETRY_MS;
    }
    return true;
}

static void renew(struct address *a, const struct address_facts *f, struct address_actions *out)
{
    uint64_t end = lease_end(a, f);

    if (end <= a->until_ms || end <= f->now_ms)
        return;
    a->until_ms = end;
    act(out, ADDRESS_ACT_RENEW)->until_ms = end;
}

static void holding(struct address *a, const struct address_facts *f,
                    const struct address_event *ev, struct address_actions *out)
{
    if (!holding_event(a, f, ev, out))
        return;
    if (MUTANT(address_frozen_renew) && f->now_ms >= a->until_ms) {
        a->until_ms = f->now_ms + f->lease_ms;
        act(out, ADDRESS_ACT_RENEW)->until_ms = a->until_ms;
    }
    if (a->claim_session != f->session && !MUTANT(address_stale_grant)) {
        REACHED(address_session_over);
        say(a, "the session ended", NULL);
        drop(a, f, out, false);
    } else if (f->now_ms >= a->until_ms) {
        /* The kernel has taken it away by now, whatever has been heard meanwhile. */
        REACHED(address_lease_over);
        say(a, "the lease ended: the tree was not reached in time", NULL);
        drop(a, f, out, false);
    } else if (f->wish == ADDRESS_AWAY) {
        drop(a, f, out, true);
    } else if (!a->is_added && f->now_ms >= a->since_ms + ADDRESS_ADD_LIMIT_MS) {
        say(a, "adding it was not done in time", NULL);
        hold_off(a, f);
        drop(a, f, out, true);
    } else {
        renew(a, f, out);
        if (f->is_connected && !a->was_connected)
            announce_anew(a, f);
        announce(a, f, out);
        /* The copy may merely be older than our claim: ask before giving it up. */
        if (f->is_connected && !a->has_request && a->is_added && f->now_ms >= a->retry_ms &&
            f->seen_owner != ADDRESS_OWNER_UNKNOWN && f->seen_owner != f->session)
            ask_tree(a, f, out, ADDRESS_ACT_READ);
    }
}

static void dropping(struct address *a, const struct address_facts *f,
                     const struct address_event *ev, struct address_actions *out)
{
    if (ev->type == ADDRESS_EV_REMOVED && ev->op == a->op) {
        if (a->must_release && a->claim_session == f->session)
            release(a, f, out);
        else
            go_idle(a, f);
    } else if (f->now_ms >= a->retry_ms) {
        act(out, ADDRESS_ACT_REMOVE)->op = a->op;
        a->retry_ms = f->now_ms + ADDRESS_REMOVE_AGAIN_MS;
    }
}

static void releasing(struct address *a, const struct address_facts *f,
                      const struct address_event *ev, struct address_actions *out)
{
    bool is_answer = a->has_request && ev->op == a->op &&
                     (ev->type == ADDRESS_EV_DELETED || ev->type == ADDRESS_EV_READ);

    if (is_answer) {
        a->has_request = false;
        a->retry_ms = f->now_ms + ADDRESS_RETRY_MS;
        bool is_gone =
            ev->err == ERR_NO_NODE || (ev->err == 0 && ev->type == ADDRESS_EV_DELETED);
        if (is_gone || (ev->err == 0 && ev->owner != a->claim_session)) {
            a->is_unsure = false;
            go_idle(a, f);
            return;
        }
        /* Deleting twice could delete another's claim: read first who has it. */
        a->is_unsure = ev->err != 0;
        if (!a->is_unsure)
            a->retry_ms = f->now_ms;
    }
    if (a->claim_session != f->session) {
        a->has_request = false;
        a->is_unsure = false;
        go_idle(a, f);
    } else if (f->is_connected && !a->has_request && f->now_ms >= a->retry_ms) {
        ask_tree(a, f, out, a->is_unsure ? ADDRESS_ACT_READ : ADDRESS_ACT_DELETE);
    }
}

void address_init(struct address *a, uint64_t op_first)
{
    *a = (struct address){.op_last = op_first};
}

void address_step(struct address *a, const struct address_facts *f,
                  const struct address_event *ev, struct address_actions *out)
{
    static const struct address_event none = {.text = ""};
    struct address_event e = ev != NULL ? *ev : none;

    if (e.text == NULL)
        e.text = "";
    out->n = 0;
    if (MUTANT(address_lease_from_answer) && f->alive_until_ms > a->alive_seen_ms)
        a->alive_ms = f->now_ms + f->lease_ms;
    else if (!MUTANT(address_lease_from_answer))
        a->alive_ms = f->alive_until_ms;
    a->alive_seen_ms = f->alive_until_ms;

    switch (a->state) {
    case ADDRESS_IDLE: idle(a, f, out); break;
    case ADDRESS_CLAIMING: claiming(a, f, &e, out); break;
    case ADDRESS_PROBING: probing(a, f, &e, out); break;
    case ADDRESS_HOLDING: holding(a, f, &e, out); break;
    case ADDRESS_DROPPING: dropping(a, f, &e, out); break;
    case ADDRESS_RELEASING: releasing(a, f, &e, out); break;
    }
    a->was_connected = f->is_connected;
    CHECK(a->state != ADDRESS_HOLDING || f->now_ms < a->until_ms);
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t idle_deadline(const struct address *a, const struct address_facts *f)
{
    uint64_t due = ADDRESS_NEVER;

    if (!f->is_connected || f->session == 0)
        return due;
    if (a->retry_ms > f->now_ms)
        due = earlier(due, a->retry_ms);
    if (f->promised_until_ms > f->now_ms)
        due = earlier(due, f->promised_until_ms);
    if (a->avoid_until_ms > f->now_ms)
        due = earlier(due, a->avoid_until_ms);
    return due;
}

static uint64_t holding_deadline(const struct address *a, const struct address_facts *f)
{
    uint64_t due = a->until_ms;

    due = earlier(due, a->is_added ? a->announce_next_ms : a->since_ms + ADDRESS_ADD_LIMIT_MS);
    if (f->is_connected && !a->has_request && a->retry_ms > f->now_ms)
        due = earlier(due, a->retry_ms);
    return due;
}

uint64_t address_deadline(const struct address *a, const struct address_facts *f)
{
    switch (a->state) {
    case ADDRESS_IDLE: return idle_deadline(a, f);
    case ADDRESS_CLAIMING: return ADDRESS_NEVER; /* a request always ends */
    case ADDRESS_PROBING: return a->since_ms + ADDRESS_PROBE_LIMIT_MS;
    case ADDRESS_HOLDING: return holding_deadline(a, f);
    case ADDRESS_DROPPING: return a->retry_ms;
    case ADDRESS_RELEASING:
        return f->is_connected && !a->has_request ? a->retry_ms : ADDRESS_NEVER;
    }
    UNREACHABLE("a state without a deadline");
}

bool address_can_promise(const struct address *a) { return a->state == ADDRESS_IDLE; }
