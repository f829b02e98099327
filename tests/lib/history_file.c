/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a history's file. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "history_internal.h"

static bool take_number(const json_t *o, const char *name, int64_t low, int64_t *out)
{
    const json_t *v = json_object_get(o, name);

    if (v == NULL || json_is_null(v))
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < low)
        return false;
    *out = json_integer_value(v);
    return true;
}

static bool take_version(const json_t *o, const char *name, int32_t *out)
{
    int64_t v = *out;

    if (!take_number(o, name, HISTORY_UNKNOWN, &v) || v > INT32_MAX)
        return false;
    *out = (int32_t)v;
    return true;
}

static bool take_session(const json_t *o, int64_t *out)
{
    const json_t *v = json_object_get(o, "session");
    char *end;

    if (!json_is_string(v))
        return take_number(o, "session", INT64_MIN, out);
    *out = (int64_t)strtoull(json_string_value(v), &end, 0);
    return *end == 0 && json_string_length(v) > 0;
}

static bool take_value(const json_t *o, struct history_op *op)
{
    const json_t *v = json_object_get(o, "value");

    if (!json_is_array(v))
        return take_number(o, "value", 0, &op->value);
    size_t n = json_array_size(v);
    int64_t *items = mem_new_array(int64_t, n + 1);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(v, i);
        ok &= json_is_integer(e) && json_integer_value(e) >= 0;
        items[i] = json_integer_value(e);
    }
    if (ok)
        history_list(op, items, n);
    mem_free(items);
    return ok;
}

static bool take_f(const json_t *o, enum history_f *out)
{
    const char *name = json_string_value(json_object_get(o, "f"));

    for (enum history_f f = 0; f < HISTORY_FS; f++)
        if (name != NULL && strcmp(name, history_f_name(f)) == 0) {
            *out = f;
            return true;
        }
    return false;
}

static bool take_type(const json_t *o, enum history_type *out)
{
    static const char *const names[] = {"invoke", "ok", "fail", "info"};
    const char *name = json_string_value(json_object_get(o, "type"));

    for (unsigned i = 0; i < 4; i++)
        if (name != NULL && strcmp(name, names[i]) == 0) {
            *out = (enum history_type)i;
            return true;
        }
    return false;
}

static int err_of(const json_t *o)
{
    static const struct {
        const char *name;
        int err;
    } rows[] = {{"NO_NODE", ERR_NO_NODE},
                {"NODE_EXISTS", ERR_NODE_EXISTS},
                {"BAD_VERSION", ERR_BAD_VERSION}};
    const char *name = json_string_value(json_object_get(o, "err"));

    for (unsigned i = 0; i < 3; i++)
        if (name != NULL && strcmp(name, rows[i].name) == 0)
            return rows[i].err;
    return 0;
}

/* What an acknowledged operation has to say at least. */
static bool is_whole(const struct history_op *op)
{
    bool has_value = op->value != HISTORY_UNKNOWN || op->has_list;

    if (op->f == HISTORY_INIT)
        return op->type == HISTORY_OK && has_value;
    if (op->f == HISTORY_CAS && op->expect == HISTORY_UNKNOWN)
        return false;
    if (op->f == HISTORY_WRITE || op->f == HISTORY_CAS || op->f == HISTORY_CREATE ||
        op->f == HISTORY_APPEND || op->f == HISTORY_SEQ_DELETE)
        return op->value != HISTORY_UNKNOWN;
    if (op->f == HISTORY_CHILDREN || op->f == HISTORY_SYNC_CHILDREN)
        return op->type != HISTORY_OK || op->has_list;
    return op->type != HISTORY_OK || op->f == HISTORY_DELETE || has_value;
}

static bool take_op(struct history *h, const json_t *o)
{
    const char *key = json_string_value(json_object_get(o, "key"));
    int64_t process = 0, id = 0, start = 0, end = 0;
    enum history_type type;
    enum history_f f;
    size_t number;

    if (key == NULL || !take_f(o, &f) || !take_type(o, &type))
        return false;
    struct history_op *op = history_begin(h, f, history_key(h, key), &number);
    op->type = type;
    op->err = type == HISTORY_FAIL ? err_of(o) : 0;
    bool ok = take_value(o, op) && take_session(o, &op->session) &&
              take_version(o, "version", &op->version) &&
              take_version(o, "expect", &op->expect) &&
              take_number(o, "zxid", HISTORY_UNKNOWN, &op->zxid) &&
              take_number(o, "mzxid", HISTORY_UNKNOWN, &op->mzxid) &&
              take_number(o, "process", 0, &process) && take_number(o, "id", 0, &id) &&
              take_number(o, "start", 0, &start) && take_number(o, "end", 0, &end);
    bool has_times = f == HISTORY_INIT || json_object_get(o, "start") != NULL;
    if (type == HISTORY_OK || type == HISTORY_FAIL)
        has_times &= f == HISTORY_INIT || json_object_get(o, "end") != NULL;
    op->process = (uint64_t)process;
    op->id = (uint64_t)id;
    op->start_ns = (uint64_t)start;
    op->end_ns = (uint64_t)end;
    return ok && has_times && is_whole(op);
}

int history_read(struct history *h, const char *text, size_t len, size_t *line)
{
    const char *p = text, *end = text + len;

    for (*line = 1; p < end; ++*line) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (stop == NULL)
            return 0; /* its writer was killed */
        if (stop > p && *p != '#') {
            json_t *o = json_loadb(p, (size_t)(stop - p), JSON_REJECT_DUPLICATES, NULL);
            bool ok = json_is_object(o) && take_op(h, o);
            json_decref(o);
            if (!ok)
                return ERR_SYNTAX;
        }
        p = stop + 1;
    }
    return 0;
}
