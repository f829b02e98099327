/* SPDX-License-Identifier: Apache-2.0 */
/* Is there an order of one register's operations that explains all answers?
 *
 * Wing and Gong's search: take any operation that nothing unfinished precedes, if its answer
 * fits the register as it is then; else back. With Lowe's memory: the same operations taken,
 * with the same register after them, are not tried twice. [G. Lowe, Testing for
 * linearizability, 2017, section 3.] What is unknown has no end, and need not be taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "history_internal.h"

enum { STEPS_MAX = 4000000 };

struct reg {
    bool is_there;
    int32_t version;
    int64_t value;
};

/* In the order of time: each operation's begin, and its end if it has one. */
struct event {
    uint64_t at_ns;
    uint32_t op; /* of this key: 0, 1, ... */
    bool is_end;
    uint32_t prev, next; /* among what is not taken yet */
};

struct taken {
    uint32_t op;
    struct reg before;
    uint32_t session_before; /* struct search.session_at */
};

struct seen {
    uint64_t a, b; /* both 0: free */
};

struct search {
    const struct history_op **ops; /* that matter */
    uint32_t n;
    uint32_t *begin, *end;    /* their events; end 0: none, then begin is a place in loose */
    uint32_t *loose, loose_n; /* of unknown end */
    uint32_t *session, *must; /* number of its session; what it asked before: UINT32_MAX none */
    uint32_t *session_at;     /* by session: the last of its operations that was taken, + 1 */
    bool *is_taken;
    struct event *events; /* [0] is the list's head */
    struct taken *stack;
    uint32_t depth, left; /* left: not taken, though they must be */
    struct reg now;
    uint64_t a, b; /* what is taken, as a hash */
    struct seen *memory;
    size_t memory_n, memory_cap;
    uint32_t best, best_op; /* the deepest that it came, and what did not fit there */
    struct reg best_reg;
};

/* Says it something about the register? */
static bool matters(const struct history_op *op)
{
    if (op->f == HISTORY_INIT || op->f == HISTORY_READ)
        return false;
    if (op->type == HISTORY_OK)
        return true;
    if (op->type == HISTORY_FAIL)
        return op->err == ERR_NO_NODE || op->err == ERR_NODE_EXISTS ||
               op->err == ERR_BAD_VERSION;
    return op->f != HISTORY_SYNC_READ;
}

static bool version_fits(int32_t told, int32_t is)
{
    return told == HISTORY_UNKNOWN || told == is;
}

static bool refused(const struct history_op *op, const struct reg *r)
{
    switch (op->err) {
    case ERR_NO_NODE: return !r->is_there;
    case ERR_NODE_EXISTS: return r->is_there;
    default: return r->is_there && op->expect != r->version;
    }
}

/* True: it fits, and *r is the register after it. */
static bool take(const struct history_op *op, struct reg *r)
{
    if (op->type == HISTORY_FAIL)
        return refused(op, r);
    switch (op->f) {
    case HISTORY_CREATE:
        if (r->is_there || !version_fits(op->version, 0))
            return false;
        *r = (struct reg){true, 0, op->value};
        return true;
    case HISTORY_DELETE:
        if (!r->is_there || !version_fits(op->expect, r->version))
            return false;
        *r = (struct reg){0};
        return true;
    case HISTORY_WRITE:
    case HISTORY_CAS:
        if (!r->is_there || !version_fits(op->expect, r->version) ||
            !version_fits(op->version, r->version + 1))
            return false;
        r->version++;
        r->value = op->value;
        return true;
    case HISTORY_SYNC_READ:
        return r->is_there && version_fits(op->version, r->version) && r->value == op->value;
    case HISTORY_INIT:
    case HISTORY_READ:
    case HISTORY_APPEND:
    case HISTORY_SEQ_CREATE:
    case HISTORY_SEQ_DELETE:
    case HISTORY_CHILDREN:
    case HISTORY_SYNC_CHILDREN:
    case HISTORY_FS: break;
    }
    return false;
}

/* ---- the memory ---- */

static void memory_put(struct search *s, uint64_t a, uint64_t b)
{
    size_t i = a & (s->memory_cap - 1);

    while (s->memory[i].a != 0 || s->memory[i].b != 0)
        i = (i + 1) & (s->memory_cap - 1);
    s->memory[i] = (struct seen){a, b};
}

/* True: it was not there yet. */
static bool memory_add(struct search *s, const struct reg *r)
{
    uint64_t reg = hash_u64(hash_u64((uint64_t)r->value) + (uint64_t)(uint32_t)r->version * 2 +
                            r->is_there);
    uint64_t a = s->a ^ reg, b = s->b ^ hash_u64(reg);

    for (size_t i = a & (s->memory_cap - 1); s->memory[i].a != 0 || s->memory[i].b != 0;
         i = (i + 1) & (s->memory_cap - 1))
        if (s->memory[i].a == a && s->memory[i].b == b)
            return false;
    if (++s->memory_n * 2 > s->memory_cap) {
        struct seen *old = s->memory;
        size_t cap = s->memory_cap;
        s->memory_cap = 2 * cap;
        s->memory = mem_new_array(struct seen, s->memory_cap);
        for (size_t i = 0; i < cap; i++)
            if (old[i].a != 0 || old[i].b != 0)
                memory_put(s, old[i].a, old[i].b);
        mem_free(old);
    }
    memory_put(s, a, b);
    return true;
}

/* ---- the list of what is not taken ---- */

static void unlink_event(struct search *s, uint32_t e)
{
    s->events[s->events[e].prev].next = s->events[e].next;
    if (s->events[e].next != 0)
        s->events[s->events[e].next].prev = s->events[e].prev;
}

static void relink_event(struct search *s, uint32_t e)
{
    s->events[s->events[e].prev].next = e;
    if (s->events[e].next != 0)
        s->events[s->events[e].next].prev = e;
}

static void flip(struct search *s, uint32_t op)
{
    s->a ^= hash_u64(op + 1);
    s->b ^= hash_u64(~(uint64_t)op);
    s->is_taken[op] = !s->is_taken[op];
    s->left += s->end[op] == 0 ? 0 : s->is_taken[op] ? UINT32_MAX : 1;
}

static void push(struct search *s, uint32_t op, const struct reg *after)
{
    uint32_t *at = &s->session_at[s->session[op]];

    s->stack[s->depth++] = (struct taken){op, s->now, *at};
    *at = op + 1;
    s->now = *after;
    if (s->end[op] != 0) {
        unlink_event(s, s->begin[op]);
        unlink_event(s, s->end[op]);
    }
}

static uint32_t pop(struct search *s)
{
    struct taken t = s->stack[--s->depth];

    if (s->end[t.op] != 0) {
        relink_event(s, s->end[t.op]);
        relink_event(s, s->begin[t.op]);
    }
    s->session_at[s->session[t.op]] = t.session_before;
    s->now = t.before;
    flip(s, t.op);
    return t.op;
}

/* A session's operations take effect as it asked them; one of unknown end before those that
 * came after it, or never. */
static bool is_its_turn(const struct search *s, uint32_t op)
{
    if (s->must[op] != UINT32_MAX && !s->is_taken[s->must[op]])
        return false;
    return s->session_at[s->session[op]] <= op;
}

static bool try(struct search *s, uint32_t op)
{
    struct reg after = s->now;

    if (s->is_taken[op] || !is_its_turn(s, op) || !take(s->ops[op], &after))
        return false;
    flip(s, op);
    if (!memory_add(s, &after)) {
        flip(s, op);
        return false;
    }
    push(s, op, &after);
    return true;
}

static uint32_t first_end(const struct search *s)
{
    uint32_t e = s->events[0].next;

    while (!s->events[e].is_end)
        e = s->events[e].next;
    return e;
}

/* 1: there is an order; 0: none; -1: given up. At each step first what is known, up to the
 * first end: that one must be taken by then; then what is not known. */
static int search(struct search *s)
{
    uint32_t e = s->events[0].next, loose = 0, op;

    for (uint32_t steps = 0; s->left > 0; steps++) {
        const struct event *v = &s->events[e];
        bool is_deeper = false;
        if (steps > STEPS_MAX)
            return -1;
        if (!v->is_end) {
            e = v->next;
            is_deeper = try(s, v->op);
        } else if (loose < s->loose_n && s->ops[s->loose[loose]]->start_ns <= v->at_ns) {
            is_deeper = try(s, s->loose[loose++]);
        } else {
            if (s->depth >= s->best) {
                s->best = s->depth;
                s->best_op = v->op;
                s->best_reg = s->now;
            }
            if (s->depth == 0)
                return 0;
            op = pop(s);
            e = s->end[op] != 0 ? s->events[s->begin[op]].next : first_end(s);
            loose = s->end[op] != 0 ? 0 : s->begin[op] + 1;
        }
        if (is_deeper) {
            e = s->events[0].next;
            loose = 0;
        }
    }
    return 1;
}

/* ---- values ---- */

struct asked {
    int64_t value;
    uint64_t start_ns; /* the first that asked for it */
};

static int by_value(const void *a, const void *b)
{
    const struct asked *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->start_ns < y->start_ns ? -1 : x->start_ns > y->start_ns;
}

/* What is read was asked for before. The search says so too, but may have to try all. */
static bool values_are_known(struct history *h, const struct history_set *set,
                             struct history_report *r)
{
    struct asked *v = mem_new_array(struct asked, set->n + 1);
    size_t n = 0;
    bool ok = true;

    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        if (op->f == HISTORY_INIT || (history_is_write(op->f) && op->type != HISTORY_FAIL))
            v[n++] = (struct asked){op->value, op->start_ns};
    }
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        bool is_read = op->f == HISTORY_READ || op->f == HISTORY_SYNC_READ;
        if (!is_read || op->type != HISTORY_OK)
            continue;
        size_t low = 0, high = n;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (v[middle].value < op->value)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < n && v[low].value == op->value && v[low].start_ns <= op->end_ns)
            continue;
        history_wrong(r, "a read shows what nobody asked for by then: %s",
                      history_show(h, op).text);
        ok = false;
    }
    mem_free(v);
    return ok;
}

/* ---- set up ---- */

static int by_time(const void *a, const void *b)
{
    const struct event *x = a, *y = b;

    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    if (x->is_end != y->is_end) /* at the same moment they are side by side */
        return x->is_end ? 1 : -1;
    return x->op < y->op ? -1 : 1;
}

static void number_sessions(struct search *s)
{
    uint32_t sessions = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        s->session[i] = UINT32_MAX;
        s->must[i] = UINT32_MAX;
        for (uint32_t k = i; k-- > 0;) {
            if (history_session(s->ops[k]) != history_session(s->ops[i]) ||
                s->ops[k]->process != s->ops[i]->process)
                continue;
            s->session[i] = s->session[k];
            s->must[i] = s->end[k] != 0 ? k : s->must[k];
            break;
        }
        if (s->session[i] == UINT32_MAX)
            s->session[i] = sessions++;
    }
}

static void list_events(struct search *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        uint64_t end = history_end(s->ops[i]);
        if (end == UINT64_MAX) {
            s->begin[i] = s->loose_n;
            s->loose[s->loose_n++] = i;
            continue;
        }
        s->events[++n] = (struct event){.at_ns = s->ops[i]->start_ns, .op = i};
        s->events[++n] = (struct event){.at_ns = end, .op = i, .is_end = true};
        s->left++;
    }
    qsort(s->events + 1, n, sizeof *s->events, by_time);
    for (uint32_t i = 1; i <= n; i++) {
        s->events[i].prev = i - 1;
        s->events[i].next = i < n ? i + 1 : 0;
        *(s->events[i].is_end ? &s->end[s->events[i].op] : &s->begin[s->events[i].op]) = i;
    }
    s->events[0].next = n > 0 ? 1 : 0;
}

static void tell(const struct history *h, const struct search *s, struct history_report *r)
{
    char reg[64] = "not there";

    if (s->best_reg.is_there)
        snprintf(reg, sizeof reg, "version %d, value %lld", s->best_reg.version,
                 (long long)s->best_reg.value);
    history_wrong(r,
                  "register %s is not linearizable: no order of its %u operations explains "
                  "more than %u of them; then it is %s, and this does not fit: %s",
                  h->names[s->ops[0]->key].name, s->n, s->best, reg,
                  history_show(h, s->ops[s->best_op]).text);
}

void history_check_register(struct history *h, const struct history_set *set,
                            struct history_report *r)
{
    r->registers++;
    if (!values_are_known(h, set, r))
        return;
    size_t n = set->n + 1;
    struct search s = {
        .ops = mem_new_array(const struct history_op *, n),
        .begin = mem_new_array(uint32_t, n),
        .end = mem_new_array(uint32_t, n),
        .loose = mem_new_array(uint32_t, n),
        .session = mem_new_array(uint32_t, n),
        .must = mem_new_array(uint32_t, n),
        .session_at = mem_new_array(uint32_t, n),
        .is_taken = mem_new_array(bool, n),
        .events = mem_new_array(struct event, 2 * n),
        .stack = mem_new_array(struct taken, n),
        .memory_cap = 64,
        .memory = mem_new_array(struct seen, 64),
    };

    for (size_t i = 0; i < set->n; i++) {
        const struct history_op *op = &h->ops[set->v[i]];
        if (op->f == HISTORY_INIT)
            s.now = (struct reg){true, op->version, op->value};
        else if (matters(op))
            s.ops[s.n++] = op;
    }
    list_events(&s);
    number_sessions(&s);
    int found = search(&s);
    r->undecided += found < 0;
    if (found == 0)
        tell(h, &s, r);
    mem_free(s.ops);
    mem_free(s.begin);
    mem_free(s.end);
    mem_free(s.loose);
    mem_free(s.session);
    mem_free(s.must);
    mem_free(s.session_at);
    mem_free(s.is_taken);
    mem_free(s.events);
    mem_free(s.stack);
    mem_free(s.memory);
}
