/* SPDX-License-Identifier: Apache-2.0 */
/* reconfig.c -- who the servers are, as far as the tree is concerned: /zookeeper/config, and
 * the one change that may be under way. The checks are ZooKeeper's, in its order, but for the
 * last two: whether the new servers are there is only known when it has been tried, so who may
 * not is told that first. */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "tree/ensemble.h"
#include "tree/state.h"

static const char config_path[] = "/zookeeper/config";

int64_t tree_reconfig(const struct tree *t, const char **text, size_t *len)
{
    *text = (const char *)t->reconfig_text.data;
    *len = t->reconfig_text.len;
    return t->reconfig;
}

void tree_config_encode(int64_t answers, int err, const char *text, size_t len, struct buf *out)
{
    buf_add_be64(out, (uint64_t)answers);
    buf_add_be32(out, (uint32_t)err);
    if (len > 0)
        buf_add(out, text, len);
}

int64_t tree_config_answers(const struct tree_txn *txn)
{
    return txn->op == TREE_OP_SET_CONFIG && txn->len >= 8 ? (int64_t)be64_get(txn->body) : 0;
}

/* The hexadecimal number of the line "version="; -1: there is none. */
static int64_t version_of(const uint8_t *data, size_t len)
{
    static const char key[] = "version=";
    uint64_t v = 0;
    size_t at = len;

    while (at > 0 && data[at - 1] != '\n')
        at--;
    if (len - at < sizeof key || memcmp(data + at, key, sizeof key - 1) != 0)
        return -1;
    for (at += sizeof key - 1; at < len; at++) {
        uint8_t c = data[at];
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return (int64_t)v;
}

static struct reconfig_texts texts_of(const struct wire_reconfig_request *r)
{
    return (struct reconfig_texts){
        .joining = (const char *)r->joining.data,
        .joining_len = r->joining.len > 0 ? (size_t)r->joining.len : 0,
        .leaving = (const char *)r->leaving.data,
        .leaving_len = r->leaving.len > 0 ? (size_t)r->leaving.len : 0,
        .members = r->members.len >= 0 ? (const char *)r->members.data : NULL,
        .members_len = r->members.len > 0 ? (size_t)r->members.len : 0,
    };
}

int tree_reconfig_begin(const struct step *s, const uint8_t *body, size_t len)
{
    struct tree *t = s->t;
    struct wire_in in = wire_in(body, len);
    struct wire_reconfig_request r;
    struct ensemble now, to;
    const uint8_t *data;
    size_t data_len;
    uint32_t id = nodes_find(&t->nodes, config_path, strlen(config_path));

    CHECK(id != NODE_NONE && tree_get(t, config_path, &data, &data_len));
    if (wire_reconfig_request_decode(&r, &in) != 0)
        return ERR_MALFORMED;
    if (data_len == 0)
        return ERR_UNIMPLEMENTED; /* a server alone has no ensemble to change */
    if (t->reconfig != 0)
        return ERR_RECONFIG_IN_PROGRESS;
    if (r.version != -1 && r.version != version_of(data, data_len))
        return ERR_BAD_VERSION;
    struct reconfig_texts texts = texts_of(&r);
    int err = ensemble_parse(&now, (const char *)data, data_len);
    if (err == 0)
        err =
            ensemble_change(&now, &texts, (s->rules & TREE_RULE_STANDALONE) != 0 ? 2 : 1, &to);
    if (err == 0 && !tree_may(t, id, s->ids, s->rules, WIRE_PERM_WRITE))
        err = ERR_NO_AUTH;
    if (err != 0)
        return err;
    t->reconfig = s->zxid;
    buf_clear(&t->reconfig_text);
    ensemble_print(&to, &t->reconfig_text);
    return 0;
}

int tree_set_config(const struct step *s, const uint8_t *body, size_t len)
{
    struct tree *t = s->t;
    struct buf content = {0};

    if (len < 12)
        return ERR_MALFORMED;
    int64_t answers = (int64_t)be64_get(body);
    int err = (int)be32_get(body + 8);
    if (answers != 0 && answers != t->reconfig)
        return 0; /* an earlier leader has said it already */
    if (answers != 0)
        t->reconfig = 0;
    if (err != 0)
        return err;
    buf_add(&content, body + 12, len - 12);
    if (content.len > 0)
        buf_printf(&content, "\nversion=%" PRIx64, (uint64_t)s->zxid);
    uint32_t id = tree_write_config(s, &content);
    const struct wire_data_response answer = {wire_bytes(content.data, content.len),
                                              tree_stat(t, id)};
    wire_data_response_encode(&answer, &t->answer);
    buf_free(&content);
    return 0;
}
