/* SPDX-License-Identifier: Apache-2.0 */
/* The tree against a plain model of it, over random operations from many seeds: arrays,
 * searched from the front, copied whole before a multi. Each step compares errors and
 * answers; at intervals everything, the digest with one computed anew from a snapshot, and
 * with that of a second replica that applies the same entries without watches, and with
 * another hash key.
 */
#include <stdio.h>

#include "unit/tree_world.h"

#define SEEDS 60
#define STEPS 400
#define NODES 400
#define SESSIONS 4

struct mnode {
    char path[64];
    char data[8];          /* "-": null */
    struct wire_stat stat; /* cversion: the creates, until it is shown */
    unsigned order;        /* of the creation */
};

struct model {
    struct mnode nodes[NODES];
    size_t n;
    unsigned order;
};

struct mop {
    int32_t op, flags, version;
    char path[64], data[8];
};

struct run {
    struct world *w;
    struct tree *twin;
    struct model m;
    struct rng rng;
    int64_t sessions[SESSIONS];
    size_t me; /* whose operation it is */
    unsigned good, bad;
};

static struct mnode *mfind(struct model *m, const char *path)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->nodes[i].path, path) == 0)
            return &m->nodes[i];
    return NULL;
}

static struct mnode *mparent(struct model *m, const char *path)
{
    char parent[64];

    strcpy(parent, path);
    *strrchr(parent, '/') = 0;
    return mfind(m, parent[0] == 0 ? "/" : parent);
}

static int32_t mchildren(struct model *m, const struct mnode *v)
{
    int32_t count = 0;

    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->nodes[i].path, "/") != 0 && mparent(m, m->nodes[i].path) == v)
            count++;
    return count;
}

static struct wire_stat mstat(struct model *m, const struct mnode *v)
{
    struct wire_stat s = v->stat;

    s.children = mchildren(m, v);
    s.cversion = 2 * s.cversion - s.children;
    s.data_len = v->data[0] == '-' ? 0 : (int32_t)strlen(v->data);
    return s;
}

static void mbuilt_in(struct model *m, const char *path, int32_t aversion)
{
    struct mnode *v = &m->nodes[m->n++];

    strcpy(v->path, path);
    v->stat.aversion = aversion;
}

static int mcreate(struct run *r, const struct mop *o, char *made)
{
    struct model *m = &r->m;
    struct mnode *parent = mparent(m, o->path);

    if (o->flags > 4)
        return o->flags < 7 ? ERR_UNIMPLEMENTED : ERR_BAD_ARGUMENTS;
    if (parent == NULL)
        return ERR_NO_NODE;
    if (o->flags == WIRE_SEQUENTIAL || o->flags == WIRE_EPHEMERAL_SEQUENTIAL)
        sprintf(made, "%s%010d", o->path, parent->stat.cversion);
    else
        strcpy(made, o->path);
    if (strlen(made) > 1 && made[strlen(made) - 1] == '/')
        return ERR_BAD_ARGUMENTS;
    if (mfind(m, made) != NULL)
        return ERR_NODE_EXISTS;
    if (parent->stat.ephemeral_owner != 0)
        return ERR_NO_CHILDREN_FOR_EPHEMERALS;
    parent->stat.cversion++;
    parent->stat.pzxid = r->w->zxid;
    assert_true(m->n < NODES);
    struct mnode *v = &m->nodes[m->n++];
    *v = (struct mnode){.order = ++m->order};
    strcpy(v->path, made);
    strcpy(v->data, o->data);
    v->stat.czxid = v->stat.mzxid = v->stat.pzxid = r->w->zxid;
    v->stat.ctime = v->stat.mtime = r->w->time_ms;
    if (o->flags == WIRE_EPHEMERAL || o->flags == WIRE_EPHEMERAL_SEQUENTIAL)
        v->stat.ephemeral_owner = r->sessions[r->me];
    return 0;
}

static void mremove(struct run *r, struct mnode *v)
{
    mparent(&r->m, v->path)->stat.pzxid = r->w->zxid;
    *v = r->m.nodes[--r->m.n];
}

static int mdelete(struct run *r, const struct mop *o)
{
    struct model *m = &r->m;
    struct mnode *v = mfind(m, o->path);

    if (strcmp(o->path, "/") == 0 || strncmp(o->path, "/zookeeper", 10) == 0)
        return ERR_BAD_ARGUMENTS;
    if (v == NULL)
        return ERR_NO_NODE;
    if (o->version != -1 && o->version != v->stat.version)
        return ERR_BAD_VERSION;
    if (mchildren(m, v) > 0)
        return ERR_NOT_EMPTY;
    mremove(r, v);
    return 0;
}

static int mset(struct run *r, const struct mop *o)
{
    struct mnode *v = mfind(&r->m, o->path);
    bool is_check = o->op == WIRE_OP_CHECK;

    if (strlen(o->path) > 1 && o->path[strlen(o->path) - 1] == '/')
        return ERR_BAD_ARGUMENTS;
    if (v == NULL)
        return ERR_NO_NODE;
    if (o->version != -1 && o->version != v->stat.version)
        return ERR_BAD_VERSION;
    if (is_check)
        return 0;
    strcpy(v->data, o->data);
    v->stat.version++;
    v->stat.mzxid = r->w->zxid;
    v->stat.mtime = r->w->time_ms;
    return 0;
}

static int mdo(struct run *r, const struct mop *o, char *made)
{
    if (o->op == WIRE_OP_CREATE)
        return mcreate(r, o, made);
    strcpy(made, o->path);
    return o->op == WIRE_OP_DELETE ? mdelete(r, o) : mset(r, o);
}

static void mclose(struct run *r, int64_t id)
{
    for (;;) {
        struct mnode *first = NULL;
        for (size_t i = 0; i < r->m.n; i++)
            if (r->m.nodes[i].stat.ephemeral_owner == id &&
                (first == NULL || r->m.nodes[i].order < first->order))
                first = &r->m.nodes[i];
        if (first == NULL)
            return;
        mremove(r, first);
    }
}

/* ---- the same on the tree ---- */

static struct mop any_op(struct run *r)
{
    static const int32_t ops[] = {WIRE_OP_CREATE, WIRE_OP_CREATE, WIRE_OP_CREATE,
                                  WIRE_OP_DELETE, WIRE_OP_DELETE, WIRE_OP_SET_DATA,
                                  WIRE_OP_CHECK};
    static const char *const data[] = {"-", "", "x", "yyyyyyy"};
    struct mop o = {.op = ops[rng_below(&r->rng, sizeof ops / sizeof *ops)]};
    uint64_t depth = 1 + rng_below(&r->rng, 3), flags = rng_below(&r->rng, 16);

    o.flags = flags < 4 ? (int32_t)flags : flags == 15 ? 4 + (int32_t)(r->rng.state % 4) : 0;
    o.version = rng_below(&r->rng, 3) > 0 ? -1 : (int32_t)rng_below(&r->rng, 3);
    for (uint64_t i = 0; i < depth; i++) {
        char part[3] = {'/', (char)('a' + rng_below(&r->rng, 3)), 0};
        strcat(o.path, part);
    }
    if (rng_below(&r->rng, 20) == 0)
        strcpy(o.path, rng_below(&r->rng, 2) == 0 ? "/" : "/zookeeper");
    strcpy(o.data, data[rng_below(&r->rng, 4)]);
    return o;
}

static void put_op(struct run *r, const struct mop *o)
{
    struct buf *b = &r->w->body;
    struct wire_bytes path = text_of(o->path), data = text_of(o->data);

    if (o->data[0] == '-')
        data = (struct wire_bytes){NULL, -1};
    if (o->op == WIRE_OP_CREATE) {
        struct wire_create_request q = {path, data, acl_of(r->w), o->flags};
        wire_create_request_encode(&q, b);
    } else if (o->op == WIRE_OP_SET_DATA) {
        struct wire_set_data_request q = {path, data, o->version};
        wire_set_data_request_encode(&q, b);
    } else {
        struct wire_path_version_request q = {path, o->version};
        wire_path_version_request_encode(&q, b);
    }
}

static int apply_both(struct run *r, struct tree_txn *txn, int64_t *session)
{
    struct tree_result twin = {0};
    int64_t id = 0;
    int err = apply_txn(r->w, txn, &id);

    tree_apply(r->twin, r->w->zxid, txn, NULL, &twin);
    assert_int_equal(twin.err, err);
    assert_true(twin.session == id);
    assert_true(tree_digest(r->twin) == tree_digest(r->w->tree));
    if (session != NULL)
        *session = id;
    return err;
}

static int apply_op(struct run *r, int32_t op)
{
    struct tree_txn txn = {.op = op,
                           .session = r->sessions[r->me],
                           .time_ms = r->w->time_ms,
                           .origin = {1, r->me},
                           .body = r->w->body.data,
                           .len = r->w->body.len};

    return apply_both(r, &txn, NULL);
}

static void assert_same_stat(struct run *r, const struct wire_stat *s, const char *path)
{
    struct mnode *v = mfind(&r->m, path);

    assert_non_null(v);
    struct wire_stat e = mstat(&r->m, v);
#define FIELD(type, name)                                                     \
    if (s->name != e.name)                                                    \
        fail_msg("%s: " #name " is %lld, not %lld", path, (long long)s->name, \
                 (long long)e.name);
    WIRE_STAT(FIELD)
#undef FIELD
}

static void one(struct run *r)
{
    struct mop o = any_op(r);
    char made[64];

    if (o.op == WIRE_OP_CHECK)
        o.op = WIRE_OP_SET_DATA;
    buf_clear(&r->w->body);
    put_op(r, &o);
    uint64_t before = tree_digest(r->w->tree);
    int err = apply_op(r, o.op), expected;
    struct wire_in in = answer(r->w);
    expected = mdo(r, &o, made);
    if (err != expected)
        fail_msg("%s %s flags %d: %d, not %d", wire_op_name(o.op), o.path, o.flags, err,
                 expected);
    if (err != 0) {
        assert_true(tree_digest(r->w->tree) == before);
        r->bad++;
        return;
    }
    r->good++;
    if (o.op == WIRE_OP_CREATE) {
        struct wire_path_response a;
        assert_int_equal(wire_path_response_decode(&a, &in), 0);
        assert_int_equal(a.path.len, strlen(made));
        assert_memory_equal(a.path.data, made, strlen(made));
    } else if (o.op == WIRE_OP_SET_DATA) {
        struct wire_stat_response a;
        assert_int_equal(wire_stat_response_decode(&a, &in), 0);
        assert_same_stat(r, &a.stat, o.path);
    }
}

/* What was read from one result: its error; checks that it is in its place. */
static void take_result(struct run *r, struct wire_in *in, int expected, bool failed,
                        int32_t op)
{
    struct wire_multi_header h;
    struct wire_error_response e;
    struct wire_path_response p;
    struct wire_create2_response c;
    struct wire_stat_response s;

    (void)r;
    assert_int_equal(wire_multi_header_decode(&h, in), 0);
    assert_false(h.done);
    assert_int_equal(h.err, expected);
    if (failed) {
        assert_int_equal(h.op, -1);
        assert_int_equal(wire_error_response_decode(&e, in), 0);
        assert_int_equal(e.err, expected);
        return;
    }
    if (op == WIRE_OP_CREATE && h.op == WIRE_OP_CREATE2)
        assert_int_equal(wire_create2_response_decode(&c, in), 0); /* a container */
    else
        assert_int_equal(h.op, op);
    if (h.op == WIRE_OP_CREATE)
        assert_int_equal(wire_path_response_decode(&p, in), 0);
    if (h.op == WIRE_OP_SET_DATA)
        assert_int_equal(wire_stat_response_decode(&s, in), 0);
}

static void several(struct run *r)
{
    static struct model before;
    struct wire_multi_header h = {0, false, -1};
    struct mop ops[6];
    int errs[6] = {0}, failed = 0;
    char made[64];
    uint64_t n = rng_below(&r->rng, 6);

    before = r->m;
    buf_clear(&r->w->body);
    for (uint64_t i = 0; i < n; i++) {
        ops[i] = any_op(r);
        if (ops[i].flags > 4)
            ops[i].flags = 9;
        h.op = ops[i].op;
        wire_multi_header_encode(&h, &r->w->body);
        put_op(r, &ops[i]);
    }
    h = (struct wire_multi_header){-1, true, -1};
    wire_multi_header_encode(&h, &r->w->body);
    uint64_t digest = tree_digest(r->w->tree);
    assert_int_equal(apply_op(r, WIRE_OP_MULTI), 0);
    for (uint64_t i = 0; i < n; i++) {
        errs[i] = failed != 0 ? ERR_RUNTIME_INCONSISTENCY : mdo(r, &ops[i], made);
        if (failed == 0 && errs[i] != 0)
            failed = errs[i];
    }
    if (failed != 0) {
        r->m = before;
        assert_true(tree_digest(r->w->tree) == digest);
        r->bad++;
    } else {
        r->good++;
    }
    struct wire_in in = answer(r->w);
    for (uint64_t i = 0; i < n; i++)
        take_result(r, &in, errs[i], failed != 0, ops[i].op);
    assert_int_equal(wire_multi_header_decode(&h, &in), 0);
    assert_true(h.done && in.at == in.end);
}

static void open_session(struct run *r, size_t at)
{
    struct tree_txn txn = {.op = TREE_OP_CREATE_SESSION, .origin = {1, at}};

    assert_int_equal(apply_both(r, &txn, &r->sessions[at]), 0);
}

static void end_session(struct run *r)
{
    struct tree_txn txn = {.op = TREE_OP_CLOSE_SESSION, .session = r->sessions[r->me]};

    if (rng_below(&r->rng, 2) == 0)
        txn.origin = (struct tree_origin){1, r->me};
    assert_int_equal(apply_both(r, &txn, NULL), 0);
    mclose(r, r->sessions[r->me]);
    assert_int_equal(apply_both(r, &txn, NULL), ERR_SESSION_EXPIRED);
    open_session(r, r->me);
}

static void compare_all(struct run *r)
{
    struct wire_data_response a;
    struct tree_facts facts;

    tree_facts(r->w->tree, &facts);
    assert_int_equal(facts.znodes, r->m.n);
    for (size_t i = 0; i < r->m.n; i++) {
        struct mnode *v = &r->m.nodes[i];
        assert_int_equal(get_data(r->w, v->path, 0), 0);
        struct wire_in in = answer(r->w);
        assert_int_equal(wire_data_response_decode(&a, &in), 0);
        assert_int_equal(a.data.len, v->data[0] == '-' ? -1 : (int)strlen(v->data));
        if (a.data.len > 0)
            assert_memory_equal(a.data.data, v->data, strlen(v->data));
        assert_same_stat(r, &a.stat, v->path);
        struct wire_children2_response c;
        struct wire_bytes name;
        assert_int_equal(get_children(r->w, v->path, 0), 0);
        in = answer(r->w);
        assert_int_equal(wire_children2_response_decode(&c, &in), 0);
        assert_int_equal(c.children.count, mchildren(&r->m, v));
        while (wire_texts_next(&c.children, &name)) {
            char path[64];
            sprintf(path, "%s/%.*s", v->path[1] == 0 ? "" : v->path, name.len,
                    (const char *)name.data);
            assert_non_null(mfind(&r->m, path));
        }
    }
    reload(r->w);
}

static void as_the_model(void **state)
{
    unsigned good = 0, bad = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct run *r = calloc(1, sizeof *r);
        r->rng.state = seed;
        r->w = world_new();
        r->twin = tree_new(seed);
        r->w->zxid = 0;
        tree_free(r->w->tree);
        r->w->tree = tree_new(1);
        if (seed % 2 == 0) /* so that the paths with watchers are taken, too */
            assert_int_equal(add_watch(r->w, "/", WIRE_WATCH_RECURSIVE, 1), 0);
        mbuilt_in(&r->m, "/", 0);
        mbuilt_in(&r->m, "/zookeeper", 0);
        mbuilt_in(&r->m, "/zookeeper/quota", 0);
        mbuilt_in(&r->m, "/zookeeper/config", -1);
        for (size_t i = 0; i < SESSIONS; i++)
            open_session(r, i);
        for (unsigned step = 0; step < STEPS; step++) {
            r->me = rng_below(&r->rng, SESSIONS);
            r->w->time_ms += (int64_t)rng_below(&r->rng, 10);
            uint64_t what = rng_below(&r->rng, 30);
            if (what == 0)
                end_session(r);
            else if (what < 10)
                several(r);
            else
                one(r);
            if (step % 50 == 49)
                compare_all(r);
        }
        good += r->good, bad += r->bad;
        tree_free(r->twin);
        world_free(r->w);
        free(r);
    }
    assert_true(good > SEEDS * STEPS / 10 && bad > SEEDS * STEPS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
