/* SPDX-License-Identifier: Apache-2.0 */
/* What the clients asked and were answered, written down; looked at as a whole at the end by
 * a checker that knows nothing of servers (tests/lib/history.h). */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "lib/history.h"
#include "town.h"

enum { NUMBER_LEN = 10 }; /* of a sequential name */

struct town_history {
    struct history *history;
    uint64_t last_ns;
};

/* No two moments are one: what is asked in answer to something comes after it. */
static uint64_t stamp(struct town *t)
{
    uint64_t now_ns = t->w.now_us * 1000;

    t->history->last_ns = now_ns > t->history->last_ns ? now_ns : t->history->last_ns + 1;
    return t->history->last_ns;
}

size_t town_history_begin(struct town *t, enum history_f f, const char *key, uint64_t process,
                          int64_t value)
{
    size_t number;

    if (t->history == NULL) {
        t->history = mem_new(struct town_history);
        t->history->history = history_new();
    }
    struct history *h = t->history->history;
    struct history_op *op = history_begin(h, f, history_key(h, key), &number);
    op->process = process;
    op->id = number;
    op->value = value;
    op->start_ns = stamp(t);
    return number + 1;
}

void town_history_plain(struct town *t, size_t record)
{
    if (record > 0)
        history_at(t->history->history, record - 1)->f = HISTORY_READ;
}

int64_t town_history_number(const char *name)
{
    size_t len = strlen(name);
    int64_t n = 0;

    for (const char *p = len > NUMBER_LEN ? name + len - NUMBER_LEN : name; *p != 0; p++)
        n = 10 * n + (*p - '0');
    return n;
}

static void take_list(struct history_op *op, const struct client_reply *r)
{
    size_t n = r->len > 0 ? (size_t)r->len / 4 : 0;
    int64_t *items = mem_new_array(int64_t, n + 1);

    for (size_t i = 0; i < n; i++)
        items[i] = be32_get(r->data + 4 * i);
    history_list(op, items, n);
    mem_free(items);
}

static void take_children(struct history_op *op, const struct client_reply *r)
{
    int64_t *items = mem_new_array(int64_t, r->children_n + 1);

    for (size_t i = 0; i < r->children_n; i++)
        items[i] = town_history_number(r->children[i]);
    history_list(op, items, r->children_n);
    mem_free(items);
}

void town_history_end(struct town *t, size_t record, int64_t session, bool is_list,
                      const struct client_reply *r)
{
    struct history_op *op = history_at(t->history->history, record - 1);
    bool is_read = op->f == HISTORY_READ || op->f == HISTORY_SYNC_READ;

    op->end_ns = stamp(t);
    op->session = session;
    op->type = r->err == 0                     ? HISTORY_OK
               : r->err == ERR_CONNECTION_LOST ? HISTORY_INFO
                                               : HISTORY_FAIL;
    op->err = op->type == HISTORY_FAIL && r->err != ERR_SESSION_EXPIRED ? r->err : 0;
    if (r->err != 0)
        return;
    op->zxid = r->zxid;
    if (op->f == HISTORY_SEQ_CREATE)
        op->value = town_history_number(r->path);
    if (is_read || op->f == HISTORY_WRITE || op->f == HISTORY_APPEND) {
        op->version = r->stat.version;
        op->mzxid = r->stat.mzxid;
    }
    if (op->f == HISTORY_CHILDREN || op->f == HISTORY_SYNC_CHILDREN)
        take_children(op, r);
    else if (is_read && is_list)
        take_list(op, r);
    else if (is_read)
        op->value = r->len == 8 ? (int64_t)be64_get(r->data) : 0;
}

void town_history_check(struct town *t)
{
    struct history_report r = {0};

    if (t->history == NULL)
        return;
    if (!history_check(t->history->history, &r)) {
        *strchr(buf_text(&r.text), '\n') = 0;
        world_fail(&t->w, "history: %s", buf_text(&r.text));
    }
    world_note(&t->w,
               "history: %u operations (%u of unknown end), %u sessions, %u registers "
               "(%u not decided), %u lists, %u parents",
               (unsigned)r.operations, (unsigned)r.unknown, (unsigned)r.sessions,
               (unsigned)r.registers, (unsigned)r.undecided, (unsigned)r.lists,
               (unsigned)r.parents);
    history_report_free(&r);
}

void town_history_free(struct town *t)
{
    if (t->history == NULL)
        return;
    history_free(t->history->history);
    mem_free(t->history);
}
