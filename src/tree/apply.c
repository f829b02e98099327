/* SPDX-License-Identifier: Apache-2.0 */
/* apply.c -- one entry of the log: its form, its session, its operation, its answer. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "tree/state.h"

/* ---- the form of an entry ----
 * op i32, cxid i32, session i64, time i64, origin 2 x u64, seq u64, bytes of ids u32, rules
 * u8; with HAS_BYTES_MAX among these also bytes_max u32; for the operations that make or attach
 * a session also timeout i32, password; then the ids' elements, and the body to the end. */

static bool has_password(int32_t op)
{
    return op == TREE_OP_CREATE_SESSION || op == TREE_OP_ATTACH_SESSION;
}

#define HEAD_LEN 53            /* up to and with rules */
#define HAS_BYTES_MAX (1 << 7) /* beside the rules; logs of before are read as they are */

/* Written and read for each write on each server: in one piece. */
void tree_txn_encode(const struct tree_txn *t, struct buf *out)
{
    _Static_assert((TREE_RULES_ALL & HAS_BYTES_MAX) == 0, "the bit is free");
    uint8_t head[HEAD_LEN + 4 + 4 + TREE_PASSWORD_LEN], *at = head + HEAD_LEN;

    be32_put(head, (uint32_t)t->op);
    be32_put(head + 4, (uint32_t)t->cxid);
    be64_put(head + 8, (uint64_t)t->session);
    be64_put(head + 16, (uint64_t)t->time_ms);
    be64_put(head + 24, t->origin.server);
    be64_put(head + 32, t->origin.conn);
    be64_put(head + 40, t->seq);
    be32_put(head + 48, (uint32_t)t->ids.len);
    head[52] = t->rules;
    if (t->bytes_max != 0) {
        head[52] |= HAS_BYTES_MAX;
        be32_put(at, t->bytes_max);
        at += 4;
    }
    if (has_password(t->op)) {
        be32_put(at, (uint32_t)t->timeout_ms);
        memcpy(at + 4, t->password, sizeof t->password);
        at += 4 + sizeof t->password;
    }
    size_t head_len = (size_t)(at - head);
    uint8_t *to = buf_reserve(out, head_len + t->ids.len + t->len);
    memcpy(to, head, head_len);
    if (t->ids.len > 0)
        memcpy(to + head_len, t->ids.data, t->ids.len);
    if (t->len > 0)
        memcpy(to + head_len + t->ids.len, t->body, t->len);
    buf_added(out, head_len + t->ids.len + t->len);
}

int tree_txn_decode(struct tree_txn *t, const uint8_t *data, size_t len)
{
    *t = (struct tree_txn){0};
    if (len < HEAD_LEN || (data[52] & ~(TREE_RULES_ALL | HAS_BYTES_MAX)) != 0)
        return ERR_MALFORMED;
    struct tree_txn r = {
        .op = (int32_t)be32_get(data),
        .cxid = (int32_t)be32_get(data + 4),
        .session = (int64_t)be64_get(data + 8),
        .time_ms = (int64_t)be64_get(data + 16),
        .origin = {be64_get(data + 24), be64_get(data + 32)},
        .seq = be64_get(data + 40),
        .rules = data[52] & TREE_RULES_ALL,
    };
    uint32_t ids_len = be32_get(data + 48);
    const uint8_t *at = data + HEAD_LEN, *end = data + len;
    if ((data[52] & HAS_BYTES_MAX) != 0) {
        if (end - at < 4)
            return ERR_MALFORMED;
        r.bytes_max = be32_get(at);
        at += 4;
    }
    if (has_password(r.op)) {
        if ((size_t)(end - at) < 4 + sizeof r.password)
            return ERR_MALFORMED;
        r.timeout_ms = (int32_t)be32_get(at);
        memcpy(r.password, at + 4, sizeof r.password);
        at += 4 + sizeof r.password;
    }
    if ((size_t)(end - at) < ids_len || wire_ids_decode(&r.ids, at, ids_len) != 0)
        return ERR_MALFORMED;
    r.body = at + ids_len;
    r.len = (size_t)(end - r.body);
    *t = r;
    return 0;
}

/* ---- what comes, ahead ---- */

#define AHEAD_ZNODES 20000u

bool tree_ahead_pays(const struct tree *t) { return t->nodes.count >= AHEAD_ZNODES; }

/* The path that its body begins with. */
static bool txn_path(const uint8_t *data, size_t len, const char **path, size_t *path_len)
{
    if (len < HEAD_LEN || !tree_op_is_write((int32_t)be32_get(data)) ||
        be32_get(data) == WIRE_OP_MULTI)
        return false;
    size_t at = HEAD_LEN + ((data[52] & HAS_BYTES_MAX) != 0 ? 4u : 0u);
    uint32_t ids_len = be32_get(data + 48);
    if (len < at + 4 || ids_len > len - at - 4)
        return false;
    at += ids_len;
    *path_len = be32_get(data + at);
    *path = (const char *)data + at + 4;
    return *path_len <= len - at - 4;
}

/* Of this one the bucket, of one before it the znode that it names, of one before that its
 * body. */
void tree_ahead(struct tree_ahead *a, const struct tree *t, const uint8_t *data, size_t len)
{
    const char *path;
    size_t path_len, now = a->shown++ % TREE_AHEAD;
    size_t next = (now + TREE_AHEAD - TREE_AHEAD / 3) % TREE_AHEAD,
           last = (now + TREE_AHEAD - 2 * TREE_AHEAD / 3) % TREE_AHEAD;

    a->of[now].is_one = txn_path(data, len, &path, &path_len);
    if (a->of[now].is_one)
        a->of[now].hash = nodes_ask(&t->nodes, path, path_len);
    if (a->of[next].is_one) {
        a->of[next].id = nodes_ask_znode(&t->nodes, a->of[next].hash);
        a->of[next].is_one = a->of[next].id != NODE_NONE;
    }
    if (a->of[last].is_one)
        nodes_ask_body(&t->nodes, a->of[last].id);
    a->of[last].is_one = false;
}

bool tree_op_is_write(int32_t op)
{
    switch (op) {
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL:
    case WIRE_OP_DELETE:
    case WIRE_OP_SET_DATA:
    case WIRE_OP_SET_ACL:
    case WIRE_OP_MULTI: return true;
    default: return false;
    }
}

/* ---- sessions ---- */

static int create_session(const struct step *s, const struct tree_txn *txn, int64_t *id)
{
    struct tree *t = s->t;

    CHECK(s->zxid > 0 && s->zxid < SESSION_ID_BASE);
    struct session *x = sessions_add(&t->sessions, tree_session_id(s->zxid));
    x->timeout_ms = txn->timeout_ms;
    x->origin = txn->origin;
    memcpy(x->password, txn->password, sizeof x->password);
    t->digest += tree_digest_session(x);
    *id = x->id;
    return 0;
}

static bool password_is(const struct session *x, const uint8_t *shown)
{
    unsigned differs = 0;

    for (size_t i = 0; i < sizeof x->password; i++)
        differs |= (unsigned)(x->password[i] ^ shown[i]);
    return differs == 0 || MUTANT(tree_attach_any_password);
}

static int attach_session(const struct step *s, const struct tree_txn *txn)
{
    struct session *x = s->session;

    if (x == NULL || !password_is(x, txn->password))
        return ERR_SESSION_EXPIRED;
    /* The last zxid that the client has seen: what was not before this entry is lost. */
    if (txn->len == 8 && (int64_t)be64_get(txn->body) >= s->zxid) {
        REACHED(tree_attach_ahead);
        return ERR_AHEAD;
    }
    if (x->origin.server != txn->origin.server)
        REACHED(tree_attached_elsewhere);
    tree_saving_session(s->t, x);
    s->t->digest -= tree_digest_session(x);
    x->timeout_ms = txn->timeout_ms;
    x->origin = txn->origin;
    s->t->digest += tree_digest_session(x);
    return 0;
}

/* What the session says to a write from this origin. */
static int check_session(const struct step *s, const struct tree_txn *txn)
{
    const struct session *x = s->session;

    if (x == NULL)
        return ERR_SESSION_EXPIRED;
    if ((x->origin.server != txn->origin.server || x->origin.conn != txn->origin.conn) &&
        !MUTANT(tree_moved_ignored)) {
        REACHED(tree_moved_refused);
        return ERR_SESSION_MOVED;
    }
    return 0;
}

static int close_session(const struct step *s, const struct tree_txn *txn)
{
    struct tree *t = s->t;
    bool is_expiry = txn->origin.server == 0 && txn->origin.conn == 0;
    int err = is_expiry && s->session != NULL ? 0 : check_session(s, txn);

    if (err != 0)
        return err;
    if (is_expiry)
        REACHED(tree_expired);
    while (s->session->first != 0) {
        if (is_expiry)
            REACHED(tree_expired_ephemerals);
        if (MUTANT(tree_ephemeral_kept) && s->session->count == 1)
            return 0;
        tree_remove_znode(s, ephemerals_at(&t->ephemerals, s->session->first)->node);
    }
    tree_saving_session(t, s->session);
    t->digest -= tree_digest_session(s->session);
    sessions_remove(&t->sessions, s->session);
    return 0;
}

/* ---- one operation, its answer appended to t->answer ---- */

static int do_create(const struct step *s, const struct tree_txn *txn)
{
    struct tree *t = s->t;
    struct wire_in in = wire_in(txn->body, txn->len);
    struct wire_create_ttl_request r = {0};

    if (txn->op == WIRE_OP_CREATE_TTL) {
        (void)wire_create_ttl_request_decode(&r, &in);
    } else {
        struct wire_create_request plain;
        (void)wire_create_request_decode(&plain, &in);
        r.path = plain.path;
        r.data = plain.data;
        r.acl = plain.acl;
        r.flags = plain.flags;
    }
    struct create c = {.path = r.path, .data = r.data, .acl = r.acl};
    uint32_t id;
    int err = in.err;
    if (err == 0)
        err = tree_create_mode(txn->op, r.flags, r.ttl_ms, s->rules, &c);
    if (err == 0)
        err = check_session(s, txn);
    if (err == 0)
        err = tree_create(s, &c, &id);
    if (err != 0)
        return err;
    struct wire_bytes path = wire_bytes(t->path.data, t->path.len);
    if (txn->op == WIRE_OP_CREATE) {
        struct wire_path_response out = {path};
        wire_path_response_encode(&out, &t->answer);
    } else {
        struct wire_create2_response out = {path, tree_stat(t, id)};
        wire_create2_response_encode(&out, &t->answer);
    }
    return 0;
}

static int do_delete(const struct step *s, const struct tree_txn *txn)
{
    struct wire_in in = wire_in(txn->body, txn->len);
    struct wire_path_version_request r;
    int err = check_session(s, txn);

    if (err == 0)
        err = wire_path_version_request_decode(&r, &in);
    return err == 0 ? tree_delete(s, r.path, r.version) : err;
}

static void answer_stat(struct tree *t, uint32_t id)
{
    struct wire_stat_response r = {tree_stat(t, id)};

    wire_stat_response_encode(&r, &t->answer);
}

static int do_set_data(const struct step *s, const struct tree_txn *txn)
{
    struct wire_in in = wire_in(txn->body, txn->len);
    struct wire_set_data_request r;
    uint32_t id;
    int err = check_session(s, txn);

    if (err == 0)
        err = wire_set_data_request_decode(&r, &in);
    if (err == 0)
        err = tree_set_data(s, &r, &id);
    if (err == 0)
        answer_stat(s->t, id);
    return err;
}

static int do_set_acl(const struct step *s, const struct tree_txn *txn)
{
    struct wire_in in = wire_in(txn->body, txn->len);
    struct wire_set_acl_request r;
    uint32_t id;
    int err = check_session(s, txn);

    if (err == 0)
        err = wire_set_acl_request_decode(&r, &in);
    if (err == 0)
        err = tree_set_acl(s, &r, &id);
    if (err == 0)
        answer_stat(s->t, id);
    return err;
}

static int do_reconfig(const struct step *s, const struct tree_txn *txn)
{
    struct wire_in in = wire_in(txn->body, txn->len);
    struct wire_reconfig_request r;
    int err = wire_reconfig_request_decode(&r, &in);

    if (err == 0 && (txn->rules & TREE_RULE_RECONFIG) == 0)
        err = ERR_RECONFIG_DISABLED;
    if (err == 0)
        err = check_session(s, txn);
    return err == 0 ? tree_reconfig_begin(s, txn->body, txn->len) : err;
}

static int do_op(const struct step *s, const struct tree_txn *txn, int64_t *session)
{
    if ((txn->rules & TREE_RULE_NO_ROOM) != 0) {
        int err = check_session(s, txn);
        return err == 0 ? ERR_NO_ROOM : err;
    }
    switch (txn->op) {
    case TREE_OP_CREATE_SESSION: return create_session(s, txn, session);
    case TREE_OP_ATTACH_SESSION: return attach_session(s, txn);
    case TREE_OP_CLOSE_SESSION: return close_session(s, txn);
    case TREE_OP_LAPSE: return tree_lapse(s, txn->body, txn->len);
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL: return do_create(s, txn);
    case WIRE_OP_DELETE: return do_delete(s, txn);
    case WIRE_OP_SET_DATA: return do_set_data(s, txn);
    case WIRE_OP_SET_ACL: return do_set_acl(s, txn);
    case TREE_OP_SET_CONFIG: return tree_set_config(s, txn->body, txn->len);
    case WIRE_OP_RECONFIG: return do_reconfig(s, txn);
    case WIRE_OP_MULTI: {
        int err = check_session(s, txn);
        return err == 0 ? tree_multi(s, txn->body, txn->len) : err;
    }
    default: return ERR_UNIMPLEMENTED;
    }
}

#define CHANGE_HEADER 9 /* see struct tree */

void tree_changes_cut(struct tree *t, size_t len)
{
    for (size_t at = len; at < t->changes.len;) {
        const uint8_t *p = t->changes.data + at;
        if (be32_get(p + 5) != 0)
            acls_give(&t->acls, be32_get(p + 5));
        at += CHANGE_HEADER + be32_get(p + 1);
    }
    t->changes.len = len;
}

static void show_changes(struct tree *t, struct watches *watches)
{
    const uint8_t *p = t->changes.data, *end = p + t->changes.len;

    while (p < end) {
        size_t len = be32_get(p + 1);
        const char *path = (const char *)p + CHANGE_HEADER;
        uint32_t id = be32_get(p + 5);
        struct wire_list list = {0};
        if (id != 0) {
            const struct acl *acl = acls_at(&t->acls, id);
            list = (struct wire_list){acl->bytes, acl->len, acl->count};
        }
        bool is_open = id == 0 || MUTANT(watch_acl_ignored);
        watches_trigger(watches, (enum watch_event)p[0], path, len, is_open ? NULL : &list);
        p += CHANGE_HEADER + len;
    }
}

void tree_apply(struct tree *t, int64_t zxid, const struct tree_txn *txn,
                struct watches *watches, struct tree_result *out)
{
    struct step s = {.t = t,
                     .zxid = zxid,
                     .time_ms = txn->time_ms,
                     .rules = txn->rules,
                     .ids = txn->ids,
                     .bytes_max = txn->bytes_max};

    CHECK(zxid > t->zxid);
    t->zxid = zxid;
    t->is_full = false;
    if (s.bytes_max == 0 || s.bytes_max > TREE_BYTES_MAX)
        s.bytes_max = TREE_BYTES_MAX;
    s.session = sessions_find(&t->sessions, txn->session);
    t->want_changes = watches != NULL && watches_count(watches) > 0;
    buf_clear(&t->answer);
    out->session = 0;
    out->err = do_op(&s, txn, &out->session);
    out->is_full = t->is_full;
    if (t->changes.len > 0)
        show_changes(t, watches);
    tree_changes_cut(t, 0);
    if (out->err == 0 && out->reply != NULL && t->answer.len > 0)
        buf_add(out->reply, t->answer.data, t->answer.len);
    tree_scratch_trim(t);
    nodes_tidy(&t->nodes);
}
