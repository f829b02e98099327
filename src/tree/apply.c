/* SPDX-License-Identifier: Apache-2.0 */
/* apply.c -- one entry of the log: its form, its session, its operation, its answer. */
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mutant.h"
#include "tree/state.h"

/* ---- the form of an entry ----
 * op i32, cxid i32, session i64, time i64, origin 2 x u64, seq u64, rules u8, ids (length
 * be32, elements); for the operations that make or attach a session also timeout i32,
 * password; then the body to the end. */

static bool has_password(int32_t op)
{
    return op == TREE_OP_CREATE_SESSION || op == TREE_OP_ATTACH_SESSION;
}

void tree_txn_encode(const struct tree_txn *t, struct buf *out)
{
    buf_add_be32(out, (uint32_t)t->op);
    buf_add_be32(out, (uint32_t)t->cxid);
    buf_add_be64(out, (uint64_t)t->session);
    buf_add_be64(out, (uint64_t)t->time_ms);
    buf_add_be64(out, t->origin.server);
    buf_add_be64(out, t->origin.conn);
    buf_add_be64(out, t->seq);
    buf_add_u8(out, t->rules);
    buf_add_be32(out, (uint32_t)t->ids.len);
    if (t->ids.len > 0)
        buf_add(out, t->ids.data, t->ids.len);
    if (has_password(t->op)) {
        buf_add_be32(out, (uint32_t)t->timeout_ms);
        buf_add(out, t->password, sizeof t->password);
    }
    if (t->len > 0)
        buf_add(out, t->body, t->len);
}

int tree_txn_decode(struct tree_txn *t, const uint8_t *data, size_t len)
{
    struct wire_in in = wire_in(data, len);

    *t = (struct tree_txn){0};
    t->op = wire_get_i32(&in);
    t->cxid = wire_get_i32(&in);
    t->session = wire_get_i64(&in);
    t->time_ms = wire_get_i64(&in);
    t->origin.server = (uint64_t)wire_get_i64(&in);
    t->origin.conn = (uint64_t)wire_get_i64(&in);
    t->seq = (uint64_t)wire_get_i64(&in);
    const uint8_t *rules = wire_get_raw(&in, 1);
    struct wire_bytes ids = wire_get_bytes(&in);
    if (rules != NULL && (*rules & ~TREE_RULES_ALL) == 0)
        t->rules = *rules;
    else
        in.err = ERR_MALFORMED;
    if (in.err == 0)
        in.err = wire_ids_decode(&t->ids, ids.data, ids.len > 0 ? (size_t)ids.len : 0);
    if (has_password(t->op)) {
        t->timeout_ms = wire_get_i32(&in);
        const uint8_t *password = wire_get_raw(&in, sizeof t->password);
        if (password != NULL)
            memcpy(t->password, password, sizeof t->password);
    }
    if (in.err != 0) {
        *t = (struct tree_txn){0};
        return in.err;
    }
    t->body = in.at;
    t->len = (size_t)(in.end - in.at);
    return 0;
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
    if (txn->len == 8 && (int64_t)be64_get(txn->body) >= s->zxid)
        return ERR_AHEAD;
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
        !MUTANT(tree_moved_ignored))
        return ERR_SESSION_MOVED;
    return 0;
}

static int close_session(const struct step *s, const struct tree_txn *txn)
{
    struct tree *t = s->t;
    bool is_expiry = txn->origin.server == 0 && txn->origin.conn == 0;
    int err = is_expiry && s->session != NULL ? 0 : check_session(s, txn);

    if (err != 0)
        return err;
    while (s->session->first != 0) {
        if (MUTANT(tree_ephemeral_kept) && s->session->count == 1)
            return 0;
        tree_remove_ephemeral(s, ephemerals_at(&t->ephemerals, s->session->first)->node);
    }
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
        err = tree_create_mode(txn->op, r.flags, &c);
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

static int do_op(const struct step *s, const struct tree_txn *txn, int64_t *session)
{
    switch (txn->op) {
    case TREE_OP_CREATE_SESSION: return create_session(s, txn, session);
    case TREE_OP_ATTACH_SESSION: return attach_session(s, txn);
    case TREE_OP_CLOSE_SESSION: return close_session(s, txn);
    case WIRE_OP_CREATE:
    case WIRE_OP_CREATE2:
    case WIRE_OP_CREATE_CONTAINER:
    case WIRE_OP_CREATE_TTL: return do_create(s, txn);
    case WIRE_OP_DELETE: return do_delete(s, txn);
    case WIRE_OP_SET_DATA: return do_set_data(s, txn);
    case WIRE_OP_SET_ACL: return do_set_acl(s, txn);
    case WIRE_OP_MULTI: {
        int err = check_session(s, txn);
        return err == 0 ? tree_multi(s, txn->body, txn->len) : err;
    }
    default: return ERR_UNIMPLEMENTED;
    }
}

#define CHANGE_HEADER 13 /* see struct tree */

static void show_changes(struct tree *t, struct watches *watches)
{
    const uint8_t *p = t->changes.data, *end = p + t->changes.len;

    while (p < end) {
        size_t len = be32_get(p + 1);
        const char *path = (const char *)p + CHANGE_HEADER;
        struct wire_list acl = {(const uint8_t *)path + len, be32_get(p + 9),
                                (int32_t)be32_get(p + 5)};
        bool is_open = acl.count == 0 || MUTANT(watch_acl_ignored);
        watches_trigger(watches, (enum watch_event)p[0], path, len, is_open ? NULL : &acl);
        p += CHANGE_HEADER + len + acl.len;
    }
}

void tree_apply(struct tree *t, int64_t zxid, const struct tree_txn *txn,
                struct watches *watches, struct tree_result *out)
{
    struct step s = {
        .t = t, .zxid = zxid, .time_ms = txn->time_ms, .rules = txn->rules, .ids = txn->ids};

    CHECK(zxid > t->zxid);
    t->zxid = zxid;
    s.session = sessions_find(&t->sessions, txn->session);
    t->want_changes = watches != NULL && watches_count(watches) > 0;
    buf_clear(&t->changes);
    buf_clear(&t->answer);
    out->session = 0;
    out->err = do_op(&s, txn, &out->session);
    if (t->changes.len > 0)
        show_changes(t, watches);
    if (out->err == 0 && out->reply != NULL && t->answer.len > 0)
        buf_add(out->reply, t->answer.data, t->answer.len);
    tree_scratch_trim(t);
}
