/* SPDX-License-Identifier: Apache-2.0 */
/* Where znodes live, against an array of them: names and data of all lengths, changes, znodes
 * that are taken out and put back or freed, over random operations from many seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "mutant_env.h"
#include "tree/node.h"

#define SEEDS 12
#define NODES 6000
#define STEPS 40000
#define NAME_MAX_LEN 300
#define DATA_MAX_LEN 3000

struct mnode {
    uint32_t id, parent; /* parent: its place in the model */
    uint32_t children;
    char *name;
    int32_t data_len;
    uint8_t data_mark;
    struct node_changes changes;
};

struct model {
    struct nodes nodes;
    struct mnode v[NODES];
    uint32_t n;
    struct rng rng;
};

static void path_of(const struct model *m, uint32_t i, struct buf *out)
{
    if (i == 0)
        return;
    path_of(m, m->v[i].parent, out);
    buf_add_u8(out, '/');
    buf_add_str(out, m->v[i].name);
}

static int32_t some_length(struct rng *r)
{
    switch (rng_below(r, 4)) {
    case 0: return (int32_t)rng_below(r, 3) - 1;
    case 1: return 100;
    case 2: return (int32_t)rng_below(r, 200);
    default: return (int32_t)rng_below(r, DATA_MAX_LEN);
    }
}

static const void *some_data(uint8_t mark)
{
    static uint8_t data[DATA_MAX_LEN];

    memset(data, mark, sizeof data);
    return data;
}

/* As from a snapshot, alone; again it is refused, and then not there twice. */
static uint32_t load(struct model *m, struct mnode *v, uint32_t parent, const struct buf *path)
{
    const struct node like = {.parent = parent,
                              .czxid = (int64_t)rng_next(&m->rng),
                              .ctime = (int64_t)rng_next(&m->rng),
                              .data_len = v->data_len};

    v->changes = (struct node_changes){like.czxid, like.ctime, 0, 0};
    if (rng_below(&m->rng, 2) == 0)
        v->changes.version = 1 + (int32_t)rng_below(&m->rng, 3);
    uint32_t id = nodes_load(&m->nodes, &like, &v->changes, (const char *)path->data, path->len,
                             some_data(v->data_mark));
    assert_int_equal(nodes_find(&m->nodes, (const char *)path->data, path->len), NODE_NONE);
    assert_true(nodes_link(&m->nodes, &id, 1));
    assert_false(nodes_link(&m->nodes, &id, 1));
    assert_int_equal(nodes_at(&m->nodes, id)->is_changed, v->changes.version > 0);
    return id;
}

static void add(struct model *m)
{
    uint32_t parent = (uint32_t)rng_below(&m->rng, m->n < 20 ? m->n : 20);
    struct mnode *v = &m->v[m->n];
    char name[NAME_MAX_LEN + 16];
    size_t more = rng_below(&m->rng, 3) == 0 ? rng_below(&m->rng, NAME_MAX_LEN) : 0;
    struct buf path = {0};

    snprintf(name, sizeof name, "%0*u", (int)more, m->nodes.slots_n * 7 + m->nodes.count);
    *v = (struct mnode){.parent = parent,
                        .name = mem_dup_str(name),
                        .data_len = some_length(&m->rng),
                        .data_mark = (uint8_t)rng_next(&m->rng)};
    path_of(m, m->n, &path);
    if (nodes_find(&m->nodes, (const char *)path.data, path.len) != NODE_NONE) {
        mem_free(v->name);
    } else if (rng_below(&m->rng, 4) == 0) {
        v->id = load(m, v, m->v[parent].id, &path);
        m->v[parent].children++;
        m->n++;
    } else {
        v->id = nodes_add(&m->nodes, m->v[parent].id, (const char *)path.data, path.len,
                          some_data(v->data_mark), v->data_len);
        m->v[parent].children++;
        m->n++;
        struct node *node = nodes_at(&m->nodes, v->id);
        node->czxid = v->changes.mzxid = (int64_t)rng_next(&m->rng);
        node->ctime = v->changes.mtime = (int64_t)rng_next(&m->rng);
    }
    buf_free(&path);
}

static void change(struct model *m, uint32_t i)
{
    struct mnode *v = &m->v[i];
    bool changes_too = rng_below(&m->rng, 2) == 0;

    v->data_mark = (uint8_t)rng_next(&m->rng);
    if (rng_below(&m->rng, 2) == 0) /* else: in place */
        v->data_len = some_length(&m->rng);
    if (changes_too)
        v->changes =
            (struct node_changes){(int64_t)rng_next(&m->rng), (int64_t)rng_next(&m->rng),
                                  (int32_t)rng_next(&m->rng), v->changes.aversion + 1};
    nodes_set(&m->nodes, v->id, some_data(v->data_mark), v->data_len,
              changes_too ? &v->changes : NULL);
    if (rng_below(&m->rng, 4) == 0) {
        v->changes.aversion++;
        nodes_set_changes(&m->nodes, v->id, &v->changes);
    }
    if (rng_below(&m->rng, 4) == 0)
        nodes_load_changes(&m->nodes, v->id, &v->changes);
}

static void take_out(struct model *m, uint32_t i)
{
    struct mnode *v = &m->v[i], *last = &m->v[m->n - 1];
    struct buf path = {0};

    if (v->children > 0 || last->children > 0)
        return;
    nodes_unlink(&m->nodes, v->id);
    path_of(m, i, &path);
    assert_int_equal(nodes_find(&m->nodes, (const char *)path.data, path.len), NODE_NONE);
    if (rng_below(&m->rng, 4) == 0) {
        nodes_relink(&m->nodes, v->id, (const char *)path.data, path.len);
    } else {
        nodes_drop(&m->nodes, v->id);
        assert_false(nodes_is_used(&m->nodes, v->id));
        m->v[v->parent].children--;
        mem_free(v->name);
        *v = *last;
        m->n--;
    }
    buf_free(&path);
}

static void check_node(struct model *m, uint32_t i, struct buf *path)
{
    const struct mnode *v = &m->v[i];
    const struct node *node = nodes_at(&m->nodes, v->id);
    struct node_changes c = nodes_changes(&m->nodes, v->id);
    struct buf shown = {0};
    size_t len;

    buf_clear(path);
    path_of(m, i, path);
    assert_int_equal(nodes_find(&m->nodes, (const char *)path->data, path->len), v->id);
    nodes_path(&m->nodes, v->id, &shown);
    if (i > 0) {
        assert_int_equal(shown.len, path->len);
        assert_memory_equal(shown.data, path->data, path->len);
        const char *name = nodes_name(&m->nodes, v->id, &len);
        assert_int_equal(len, strlen(v->name));
        assert_memory_equal(name, v->name, len);
        assert_int_equal(node->parent, m->v[v->parent].id);
    }
    assert_int_equal(node->data_len, v->data_len);
    if (v->data_len > 0)
        assert_memory_equal(nodes_data(&m->nodes, v->id), some_data(v->data_mark),
                            (size_t)v->data_len);
    assert_memory_equal(&c, &v->changes, sizeof c);
    uint32_t children = 0;
    for (uint32_t at = nodes_family_get(&m->nodes, v->id).first; at != NODE_NONE;
         at = nodes_at(&m->nodes, at)->next)
        children++;
    assert_int_equal(children, v->children);
    buf_free(&shown);
}

static void check_all(struct model *m)
{
    struct buf path = {0};
    uint64_t data = 0, paths = 1, names = 0;
    uint32_t walked = 0;

    for (uint32_t i = 0; i < m->n; i++) {
        check_node(m, i, &path);
        data += m->v[i].data_len > 0 ? (uint64_t)m->v[i].data_len : 0;
        paths += path.len;
        names += i > 0 ? strlen(m->v[i].name) : 0;
    }
    for (uint32_t id = NODE_ROOT; id != NODE_NONE;
         id = nodes_below_next(&m->nodes, NODE_ROOT, id))
        walked++;
    assert_int_equal(walked, m->n);
    assert_int_equal(m->nodes.count, m->n);
    assert_int_equal(m->nodes.data_bytes, data);
    assert_int_equal(m->nodes.path_bytes, paths);
    assert_int_equal(m->nodes.name_bytes, names);
    buf_free(&path);
}

static void run(uint64_t seed)
{
    struct model *m = mem_new(struct model);

    m->rng = (struct rng){seed};
    nodes_init(&m->nodes, seed);
    m->v[0] = (struct mnode){.id = NODE_ROOT, .data_len = -1};
    m->n = 1;
    if (seed % 3 == 0)
        nodes_reserve(&m->nodes, 1000);
    for (unsigned step = 0; step < STEPS; step++) {
        bool shrinks = step / (STEPS / 4) % 2 == 1;
        uint64_t what = rng_below(&m->rng, 10);
        if (what < 2)
            change(m, (uint32_t)rng_below(&m->rng, m->n));
        else if (m->n > 1 && (m->n == NODES || what < (shrinks ? 9u : 4u)))
            take_out(m, 1 + (uint32_t)rng_below(&m->rng, m->n - 1));
        else
            add(m);
        nodes_tidy(&m->nodes);
        if (step % (STEPS / 8) == 0)
            check_all(m);
    }
    check_all(m);
    for (uint32_t i = 1; i < m->n; i++)
        mem_free(m->v[i].name);
    nodes_free(&m->nodes);
    mem_free(m);
}

static void as_an_array(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed);
}

/* A large tree of which little is left gives its memory back, while others come and go. */
static void what_is_left_is_moved_together(void **state)
{
    enum { MANY = 60000, KEPT = 50 };
    static uint32_t ids[MANY];
    static const char data[100] = "data";
    struct nodes n;
    char path[16];
    (void)state;

    nodes_init(&n, 3);
    for (uint32_t i = 0; i < MANY; i++) {
        int len = snprintf(path, sizeof path, "/n%05u", i);
        ids[i] = nodes_add(&n, NODE_ROOT, path, (size_t)len, data, sizeof data);
        nodes_set_changes(&n, ids[i], &(struct node_changes){.version = (int32_t)i});
    }
    uint64_t most = n.slab.held_bytes;
    for (uint32_t i = 0; i < MANY; i++) {
        if (i % KEPT == 0)
            continue;
        nodes_unlink(&n, ids[i]);
        nodes_drop(&n, ids[i]);
        nodes_tidy(&n);
    }
    for (uint32_t i = 0; i < MANY; i += 8)
        nodes_tidy(&n);
    assert_true(n.slab.held_bytes < most / 4);
    for (uint32_t i = 0; i < MANY; i += KEPT) {
        int len = snprintf(path, sizeof path, "/n%05u", i);
        assert_int_equal(nodes_find(&n, path, (size_t)len), ids[i]);
        assert_memory_equal(nodes_data(&n, ids[i]), data, sizeof data);
        assert_int_equal(nodes_changes(&n, ids[i]).version, i);
    }
    nodes_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_an_array),
        cmocka_unit_test(what_is_left_is_moved_together),
    };

    mutant_from_env();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
