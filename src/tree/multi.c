/* SPDX-License-Identifier: Apache-2.0 */
/* multi.c -- several operations as one: all of them or none.
 *
 * The operations are carried out one after the other on the tree itself, and taken back if
 * one fails; so each sees what the ones before it did.
 */
#include "base/err.h"
#include "base/mutant.h"
#include "tree/state.h"

/* One operation of a multi, decoded. */
struct part {
    int32_t op;     /* by its mode, where it creates */
    int32_t flags;  /* create-like ones */
    int64_t ttl_ms; /* createTTL */
    struct create create;
    struct wire_set_data_request set;
    struct wire_path_version_request path_version; /* delete, check */
};

/* Inside a multi it is the mode that decides what is made (outside it is the operation). */
static int32_t op_of_mode(int32_t op, int32_t flags)
{
    switch (flags) {
    case WIRE_CONTAINER: return WIRE_OP_CREATE_CONTAINER;
    case WIRE_TTL:
    case WIRE_TTL_SEQUENTIAL: return op;
    default: return op == WIRE_OP_CREATE2 ? op : WIRE_OP_CREATE;
    }
}

static int part_decode_create(struct part *p, struct wire_in *in)
{
    struct wire_create_ttl_request r;

    if (p->op == WIRE_OP_CREATE_TTL) {
        if (wire_create_ttl_request_decode(&r, in) != 0)
            return ERR_MALFORMED;
    } else {
        struct wire_create_request plain;
        if (wire_create_request_decode(&plain, in) != 0)
            return ERR_MALFORMED;
        r = (struct wire_create_ttl_request){
            .path = plain.path, .data = plain.data, .acl = plain.acl, .flags = plain.flags};
    }
    p->flags = r.flags;
    p->ttl_ms = r.ttl_ms;
    p->create = (struct create){.path = r.path, .data = r.data, .acl = r.acl};
    p->op = op_of_mode(p->op, r.flags);
    return 0;
}

/* The next operation; *done at the end marker. */
static int part_decode(struct part *p, struct wire_in *in, bool *done)
{
    struct wire_multi_header h;

    *p = (struct part){0};
    if (wire_multi_header_decode(&h, in) != 0)
        return ERR_MALFORMED;
    *done = h.done;
    if (h.done)
        return 0;
    p->op = h.op;
    switch (h.op) {
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL: return part_decode_create(p, in);
    case WIRE_OP_SET_DATA: return wire_set_data_request_decode(&p->set, in);
    case WIRE_OP_DELETE:
    case WIRE_OP_CHECK: return wire_path_version_request_decode(&p->path_version, in);
    default: return ERR_MALFORMED;
    }
}

static void put_header(struct buf *out, int32_t op, bool done, int32_t err)
{
    struct wire_multi_header h = {op, done, err};

    wire_multi_header_encode(&h, out);
}

static int part_create(const struct step *s, struct part *p)
{
    struct tree *t = s->t;
    uint32_t id;
    int err = tree_create_mode(p->op, p->flags, p->ttl_ms, s->rules, &p->create);

    /* ZooKeeper takes such a one for a createTTL, and then fails to find the TTL. */
    if ((p->flags == WIRE_TTL || p->flags == WIRE_TTL_SEQUENTIAL) &&
        p->op != WIRE_OP_CREATE_TTL)
        err = ERR_MALFORMED;
    if (err == 0)
        err = tree_create(s, &p->create, &id);
    if (err != 0)
        return err;
    struct wire_bytes path = wire_bytes(t->path.data, t->path.len);
    if (p->op == WIRE_OP_CREATE) {
        struct wire_path_response r = {path};
        put_header(&t->answer, WIRE_OP_CREATE, false, 0);
        wire_path_response_encode(&r, &t->answer);
    } else {
        struct wire_create2_response r = {path, tree_stat(t, id)};
        put_header(&t->answer, WIRE_OP_CREATE2, false, 0);
        wire_create2_response_encode(&r, &t->answer);
    }
    return 0;
}

static int part_set_data(const struct step *s, struct part *p)
{
    uint32_t id;
    int err = tree_set_data(s, &p->set, &id);

    if (err != 0)
        return err;
    struct wire_stat_response r = {tree_stat(s->t, id)};
    put_header(&s->t->answer, WIRE_OP_SET_DATA, false, 0);
    wire_stat_response_encode(&r, &s->t->answer);
    return 0;
}

/* Does one operation and appends its result. */
static int part_do(const struct step *s, struct part *p)
{
    int err;

    if (p->op == WIRE_OP_SET_DATA)
        return part_set_data(s, p);
    if (p->op != WIRE_OP_DELETE && p->op != WIRE_OP_CHECK)
        return part_create(s, p);
    if (p->op == WIRE_OP_DELETE)
        err = tree_delete(s, p->path_version.path, p->path_version.version);
    else
        err = tree_check(s, p->path_version.path, p->path_version.version);
    if (err == 0)
        put_header(&s->t->answer, p->op, false, 0);
    return err;
}

/* All results of a multi of n operations, of which number `failed` did: 0 for the ones
 * before it, its error, and for the ones after it that they were not tried. */
static void put_failure(struct buf *out, uint32_t n, uint32_t failed, int err)
{
    for (uint32_t i = 0; i < n; i++) {
        int32_t e = i < failed ? 0 : i == failed ? err : ERR_RUNTIME_INCONSISTENCY;
        struct wire_error_response r = {e};
        put_header(out, WIRE_OP_ERROR, false, e);
        wire_error_response_encode(&r, out);
    }
}

/* How many operations there are; ERR_MALFORMED unless all of them can be decoded. */
static int count_parts(const uint8_t *body, size_t len, uint32_t *n)
{
    struct wire_in in = wire_in(body, len);
    struct part p;
    bool done;

    for (*n = 0;; (*n)++) {
        int err = part_decode(&p, &in, &done);
        if (err != 0 || done)
            return err;
    }
}

int tree_multi(const struct step *s, const uint8_t *body, size_t len)
{
    struct tree *t = s->t;
    uint32_t n;

    if (count_parts(body, len, &n) != 0)
        return ERR_MALFORMED;
    struct wire_in in = wire_in(body, len);
    struct step step = *s;
    size_t changes = t->changes.len;
    uint64_t digest = t->digest;
    tree_multi_begin(t);
    for (step.part = 0; step.part < n; step.part++) {
        struct part p;
        bool done;
        int err = part_decode(&p, &in, &done);
        if (err == 0)
            err = part_do(&step, &p);
        if (err != 0) {
            tree_multi_abort(t, digest);
            if (!MUTANT(tree_multi_told))
                tree_changes_cut(t, changes);
            t->answer.len = 0;
            if (err == ERR_MALFORMED)
                return err;
            put_failure(&t->answer, n, step.part, err);
            put_header(&t->answer, -1, true, -1);
            return 0;
        }
    }
    tree_multi_commit(t);
    put_header(&t->answer, -1, true, -1);
    return 0;
}
