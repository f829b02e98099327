/* SPDX-License-Identifier: Apache-2.0 */
/* One client's connection: frames in, replies and watch events out, in order.
 *
 * The queue holds what is not yet answered. Reads are served when they have become the
 * first; writes go to the stream at once, past reads and other writes, but never past a
 * question (else a read behind the question would see a later write of its own session).
 * So a write that is applied is always the first in its queue. */
#include "server/member_internal.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "wire/wire.h"

static void mark_dirty(struct member *m, struct conn *c)
{
    if (!c->dirty) {
        c->dirty = true;
        TAILQ_INSERT_TAIL(&m->dirty, c, in_dirty);
    }
}

/* The connection ends when this batch's bytes are out; nothing more is read or written. */
static void doom(struct member *m, struct conn *c)
{
    if (c->state == CONN_OPEN) { /* it is nobody's connection any more */
        hash_remove(&m->conns_by_session, &c->by_session);
        c->state = CONN_CONNECTING;
    }
    c->doomed = true;
    mark_dirty(m, c);
}

struct conn *conn_find(const struct member *m, uint64_t id)
{
    if (m->heard != NULL && m->heard->id == id)
        return m->heard;
    struct hash_link *l = hash_first(&m->conns, hash_u64(id));

    for (; l != NULL; l = hash_next(l)) {
        struct conn *c = HASH_ENTRY(l, struct conn, by_id);
        if (c->id == id)
            return c;
    }
    return NULL;
}

struct conn *conn_of_session(struct member *m, int64_t session)
{
    struct hash_link *l = hash_first(&m->conns_by_session, hash_u64((uint64_t)session));

    for (; l != NULL; l = hash_next(l)) {
        struct conn *c = HASH_ENTRY(l, struct conn, by_session);
        if (c->session == session)
            return c;
    }
    return NULL;
}

/* ---- identities ---- */

struct wire_list ids_list(const struct ids *ids)
{
    return ids != NULL ? (struct wire_list){ids->bytes, ids->len, ids->count}
                       : (struct wire_list){0};
}

static void ids_unref(struct ids *ids)
{
    if (ids != NULL && --ids->refs == 0)
        mem_free(ids);
}

static struct ids *ids_ref(struct ids *ids)
{
    if (ids != NULL)
        ids->refs++;
    return ids;
}

static bool ids_has(const struct ids *ids, const struct buf *one)
{
    struct wire_list rest = ids_list(ids);
    struct wire_id id;

    if (ids == NULL)
        return false;
    for (const uint8_t *at = rest.data; wire_ids_next(&rest, &id); at = rest.data)
        if ((size_t)(rest.data - at) == one->len && memcmp(at, one->data, one->len) == 0)
            return true;
    return false;
}

/* False: the connection has proven too much already. */
static bool ids_add(struct conn *c, const char *scheme, const void *id, size_t len)
{
    const struct wire_id one = {wire_bytes(scheme, strlen(scheme)), wire_bytes(id, len)};
    struct wire_list old = ids_list(c->ids);
    struct buf b = {0};
    bool fits = len <= MEMBER_IDS_BYTES_MAX;

    if (fits)
        wire_id_encode(&one, &b);
    fits = fits && old.len + b.len <= MEMBER_IDS_BYTES_MAX;
    fits = fits && (old.count < MEMBER_IDS_MAX || ids_has(c->ids, &b));
    if (fits && !ids_has(c->ids, &b)) {
        struct ids *now = mem_alloc(sizeof *now + old.len + b.len);
        *now = (struct ids){1, old.count + 1, (uint32_t)(old.len + b.len)};
        if (old.len > 0)
            memcpy(now->bytes, old.data, old.len);
        memcpy(now->bytes + old.len, b.data, b.len);
        ids_unref(c->ids);
        c->ids = now;
    }
    buf_free(&b);
    return fits;
}

/* Many connections come from one address: what they have proven by it is the same list. */
static void ids_share(struct member *m, struct conn *c)
{
    struct ids *last = m->ids_last;

    if (c->ids == NULL || last == NULL || last->len != c->ids->len ||
        memcmp(last->bytes, c->ids->bytes, last->len) != 0) {
        ids_unref(last);
        m->ids_last = ids_ref(c->ids);
        return;
    }
    ids_unref(c->ids);
    c->ids = ids_ref(last);
}

void conn_ids_drop(struct member *m)
{
    ids_unref(m->ids_last);
    m->ids_last = NULL;
}

static struct request *request_new(struct member *m, enum request_kind kind, int32_t xid,
                                   int32_t op, const uint8_t *body, size_t len)
{
    struct request *r = mem_alloc(sizeof *r + len);

    m->requests_bytes += sizeof *r + len;
    if (limits_is_large(m, len))
        m->large_bytes += len;
    r->kind = kind;
    r->xid = xid;
    r->op = op;
    r->len = (uint32_t)len;
    if (len > 0)
        memcpy(r->body, body, len);
    return r;
}

void request_free(struct member *m, struct request *r)
{
    m->requests_bytes -= sizeof *r + r->len;
    if (limits_is_large(m, r->len))
        m->large_bytes -= r->len;
    ids_unref(r->ids);
    mem_free(r);
}

static void push(struct member *m, struct conn *c, struct request *r)
{
    r->conn = c;
    r->conn_id = c->id;
    r->session = c->session;
    r->came_ms = m->now_ms;
    r->ids = c->ids;
    if (r->ids != NULL)
        r->ids->refs++;
    TAILQ_INSERT_TAIL(&c->requests, r, in_conn);
    if (c->unsent == NULL)
        c->unsent = r;
    c->requests_n++;
    c->counted_n += r->xid > 0;
    c->requests_bytes += r->len;
    if (++m->facts.outstanding == m->options.outstanding_max + 1ull)
        limit_hit(m, MEMBER_LIMIT_OUTSTANDING, m->options.outstanding_max,
                  m->facts.outstanding);
}

static bool is_served_here(const struct request *r)
{
    return r->kind == REQ_READ || r->kind == REQ_LOCAL;
}

static void pop(struct member *m, struct conn *c, struct request *r)
{
    CHECK(TAILQ_FIRST(&c->requests) == r);
    if (c->unsent == r)
        c->unsent = TAILQ_NEXT(r, in_conn);
    else if (is_served_here(r))
        c->passed--;
    TAILQ_REMOVE(&c->requests, r, in_conn);
    c->requests_n--;
    c->counted_n -= r->xid > 0;
    c->requests_bytes -= r->len;
    m->facts.outstanding--;
}

/* ---- frames out ---- */

/* Room for what a turn has for a connection is taken from those that have been sent, and goes
 * back there: so nothing is allocated again and again, and who is idle holds none. */
static struct buf *out_of(struct member *m, struct conn *c)
{
    if (c->out.data == NULL && m->spares_n > 0)
        c->out = m->spares[--m->spares_n];
    return &c->out;
}

static void out_sent(struct member *m, struct conn *c)
{
    if (!MUTANT(member_spare_kept))
        buf_clear(&c->out);
    if (m->spares_n < MEMBER_SPARES_MAX && c->out.room <= MEMBER_SPARE_BYTES_MAX) {
        m->spares[m->spares_n++] = c->out;
        c->out = (struct buf){0};
    } else {
        buf_free(&c->out);
    }
}

#define REPLY_HEADER 20 /* with the frame's length */

/* A reply is written where it is sent from: first room for its header, then, by the caller, the
 * body, then the header. */
static size_t reply_begin(struct member *m, struct conn *c)
{
    struct buf *out = out_of(m, c);
    size_t at = out->len;

    (void)buf_reserve(out, REPLY_HEADER);
    buf_added(out, REPLY_HEADER);
    return at;
}

static void reply_end(struct member *m, struct conn *c, size_t at, int32_t xid, int64_t zxid,
                      int err)
{
    const struct wire_reply_header h = {.xid = xid, .zxid = zxid, .err = err};
    struct buf *out = &c->out;
    size_t end = err == 0 ? out->len : at + REPLY_HEADER;

    out->len = at;
    (void)wire_frame_begin(out);
    wire_reply_header_encode(&h, out);
    out->len = end;
    wire_frame_end(out, at + 4);
    mark_dirty(m, c);
    m->facts.replies_total++;
    stats_sent(m, c, xid == WIRE_XID_PING ? SENT_PING : SENT_REPLY, end - at - 4);
}

static void reply(struct member *m, struct conn *c, int32_t xid, int64_t zxid, int err,
                  const struct buf *body)
{
    size_t at = reply_begin(m, c);

    if (err == 0 && body != NULL)
        buf_add(&c->out, body->data, body->len);
    reply_end(m, c, at, xid, zxid, err);
}

static struct buf *late_of(struct conn *c)
{
    if (c->late == NULL)
        c->late = mem_new(struct buf);
    return c->late;
}

void conn_watch_event(void *member, uint64_t watcher, enum watch_event event, const char *path,
                      size_t path_len, const struct wire_list *acl)
{
    struct member *m = member;
    struct conn *c = conn_find(m, watcher);

    if (c == NULL || c->doomed)
        return;
    if (acl != NULL && (m->options.rules & TREE_RULE_SKIP_ACL) == 0 &&
        !tree_acl_lets(*acl, ids_list(c->ids), WIRE_PERM_READ))
        return;
    const struct wire_reply_header h = {.xid = WIRE_XID_NOTIFICATION, .zxid = -1};
    const struct wire_watcher_event e = {(int32_t)event, WIRE_STATE_CONNECTED,
                                         wire_bytes(path, path_len)};
    struct buf *out = MUTANT(member_event_after_reply) ? late_of(c) : out_of(m, c);
    size_t at = wire_frame_begin(out);
    wire_reply_header_encode(&h, out);
    wire_watcher_event_encode(&e, out);
    wire_frame_end(out, at);
    mark_dirty(m, c);
    stats_sent(m, c, SENT_EVENT, out->len - at);
}

/* sessionId and timeout of 0 say that there is no such session (any more). */
static void connect_reply(struct member *m, struct conn *c, int64_t session, int32_t timeout_ms,
                          const uint8_t *password)
{
    static const uint8_t none[TREE_PASSWORD_LEN];
    const struct wire_connect_response a = {
        .timeout_ms = timeout_ms,
        .session_id = session,
        .password = wire_bytes(password != NULL ? password : none, TREE_PASSWORD_LEN),
        .read_only = c->has_read_only_byte ? m->read_only : WIRE_ABSENT,
    };
    struct buf *out = out_of(m, c);
    size_t at = wire_frame_begin(out);

    wire_connect_response_encode(&a, out);
    wire_frame_end(out, at);
    mark_dirty(m, c);
    stats_sent(m, c, SENT_CONNECT, out->len - at);
}

static void serve_read(struct member *m, struct conn *c, const struct ids *ids, int32_t xid,
                       int32_t op, const uint8_t *body, size_t len, uint64_t came_ms)
{
    const struct tree_caller caller = {c->id, c->session, m->options.rules, ids_list(ids)};

    if ((op == WIRE_OP_SET_WATCHES || op == WIRE_OP_SET_WATCHES2) &&
        !MUTANT(member_event_in_reply)) {
        /* What they tell of comes before their reply, which has no body. */
        buf_clear(&m->reply);
        int err = tree_read(m->tree, m->watches, &caller, op, body, len, &m->reply);
        reply(m, c, xid, tree_zxid(m->tree), err, &m->reply);
    } else {
        size_t at = reply_begin(m, c);
        int err = tree_read(m->tree, m->watches, &caller, op, body, len, &c->out);
        reply_end(m, c, at, xid, tree_zxid(m->tree), err);
    }
    stats_answered(m, c, op, xid, tree_zxid(m->tree), came_ms, false);
    if (watches_count(m->watches) > m->options.watches_max)
        limits_watches(m, c);
}

static void serve_local(struct member *m, struct conn *c, const struct request *r)
{
    /* An unknown operation carries zxid -1, an answer to auth 0: as ZooKeeper does. */
    bool is_auth =
        r->op == WIRE_OP_AUTH || r->op == WIRE_OP_SASL || r->err == ERR_AUTH_REQUIRED;
    int64_t zxid = is_auth ? 0 : r->err == ERR_UNIMPLEMENTED ? -1 : tree_zxid(m->tree);
    const struct wire_sasl_response no_token = {{NULL, -1}};

    buf_clear(&m->reply);
    if (r->op == WIRE_OP_SASL)
        wire_sasl_response_encode(&no_token, &m->reply);
    reply(m, c, r->xid, zxid, r->err, &m->reply);
    if (r->close_after)
        doom(m, c);
}

/* What writes pass has to be served in one go when the write before it is done. */
static bool may_pass(const struct conn *c, const struct request *r)
{
    return c->passed < MEMBER_PASSED_MAX && c->out.len < MEMBER_REPLY_BYTES_MAX &&
           r->op != WIRE_OP_MULTI_READ;
}

void conn_advance(struct member *m, struct conn *c)
{
    struct request *r;

    while (!c->doomed && (r = TAILQ_FIRST(&c->requests)) != NULL && r->list != &m->held) {
        if (r->kind == REQ_QUESTION && r->list == NULL)
            session_ask(m, r);
        if (r->kind == REQ_RECONFIG && r->seq == 0)
            stream_add(m, r);
        if (!is_served_here(r))
            break;
        /* A few small requests may ask for gigabytes: the rest next turn. But not what a write
         * has passed: that one may be applied at once, and these must not see it. */
        if (c->out.len >= MEMBER_REPLY_BYTES_MAX && c->passed == 0)
            break;
        if (r->kind == REQ_READ)
            serve_read(m, c, r->ids, r->xid, r->op, r->body, r->len, r->came_ms);
        else
            serve_local(m, c, r);
        pop(m, c, r);
        request_free(m, r);
    }
    while (!c->doomed && (r = c->unsent) != NULL && r->kind != REQ_CONNECT &&
           r->kind != REQ_QUESTION && r->kind != REQ_RECONFIG && r->list != &m->held) {
        if (is_served_here(r) && !may_pass(c, r))
            break;
        c->passed += is_served_here(r);
        if (r->kind == REQ_WRITE)
            stream_add(m, r);
        c->unsent = TAILQ_NEXT(r, in_conn);
    }
}

static void open_session(struct member *m, struct conn *c, const struct request *r,
                         int64_t session)
{
    struct request *next;

    c->state = CONN_OPEN;
    c->session = session;
    c->timeout_ms = r->timeout_ms;
    hash_insert(&m->conns_by_session, &c->by_session, hash_u64((uint64_t)session));
    connect_reply(m, c, session, r->timeout_ms, r->password);
    TAILQ_FOREACH (next, &c->requests, in_conn)
        next->session = session;
}

void conn_open_local(struct member *m, struct conn *c, int64_t session, int32_t timeout_ms,
                     const uint8_t *password)
{
    connect_reply(m, c, session, timeout_ms, password);
    if (session == 0) {
        doom(m, c);
        return;
    }
    c->state = CONN_OPEN;
    c->session = session;
    hash_insert(&m->conns_by_session, &c->by_session, hash_u64((uint64_t)session));
}

static void connect_done(struct member *m, struct request *r, const struct tree_result *result)
{
    struct conn *c = r->conn;

    pop(m, c, r);
    if (result->err == ERR_AHEAD) {
        doom(m, c); /* without an answer: there may be a server that has seen as much */
    } else if (result->err == 0) {
        open_session(m, c, r, r->op == TREE_OP_CREATE_SESSION ? result->session : r->session);
        stats_answered(m, c, TREE_OP_CREATE_SESSION, 0, tree_zxid(m->tree), r->came_ms, true);
    } else {
        connect_reply(m, c, 0, 0, NULL);
        doom(m, c);
    }
}

void conn_write_done(struct member *m, struct request *r, int64_t zxid,
                     const struct tree_result *result)
{
    struct conn *c = r->conn;

    if (c != NULL && !c->doomed) {
        if (r->kind == REQ_CONNECT) {
            connect_done(m, r, result);
        } else {
            pop(m, c, r);
            /* A client whose session lives elsewhere now learns it by the end of the
             * connection, not by an error that it would take for the answer. */
            if (result->err != ERR_SESSION_MOVED) {
                reply(m, c, r->xid, zxid, result->err, result->reply);
                stats_answered(m, c, r->op, r->xid, zxid, r->came_ms, true);
            }
            if (r->op == WIRE_OP_CLOSE_SESSION || result->err == ERR_SESSION_MOVED ||
                result->err == ERR_SESSION_EXPIRED)
                doom(m, c);
        }
        request_free(m, r);
        conn_advance(m, c);
        return;
    }
    if (c != NULL) { /* doomed: it is freed later, without this request */
        TAILQ_REMOVE(&c->requests, r, in_conn);
        if (c->unsent == r)
            c->unsent = NULL;
        c->requests_n--;
        c->counted_n -= r->xid > 0;
        c->requests_bytes -= r->len;
        m->facts.outstanding--;
    }
    request_free(m, r);
}

void conn_question_done(struct member *m, struct request *r)
{
    struct conn *c = r->conn;
    struct wire_path_request path = {.path = {NULL, 0}};
    struct wire_in in = wire_in(r->body, r->len);

    if (c->doomed) { /* its session is closed, or elsewhere, by what was applied since */
        pop(m, c, r);
        request_free(m, r);
        return;
    }
    buf_clear(&m->reply);
    if (r->op == WIRE_OP_SYNC && wire_path_request_decode(&path, &in) == 0) {
        const struct wire_path_response echo = {path.path};
        wire_path_response_encode(&echo, &m->reply);
    }
    pop(m, c, r);
    reply(m, c, r->xid, tree_zxid(m->tree), 0, &m->reply);
    stats_answered(m, c, r->op, r->xid, tree_zxid(m->tree), r->came_ms, false);
    request_free(m, r);
    conn_advance(m, c);
}

/* ---- frames in ---- */

static int32_t negotiate(const struct member *m, int32_t asked_ms)
{
    if (asked_ms < m->options.session_min_ms)
        return m->options.session_min_ms;
    return asked_ms > m->options.session_max_ms ? m->options.session_max_ms : asked_ms;
}

static void connect_frame(struct member *m, struct conn *c, const uint8_t *data, size_t len)
{
    struct wire_connect_request q;
    struct wire_in in = wire_in(data, len);

    if (wire_connect_request_decode(&q, &in) != 0) {
        m->facts.malformed_total++;
        doom(m, c);
        return;
    }
    if (m->requests_bytes >= m->options.all_requests_max) {
        m->facts.refused_total++;
        limit_hit(m, MEMBER_LIMIT_ALL_REQUESTS, m->options.all_requests_max, m->requests_bytes);
        doom(m, c);
        return;
    }
    m->stats.connects++;
    m->stats.reconnects += q.session_id != 0;
    c->has_read_only_byte = q.read_only != WIRE_ABSENT;
    /* Who has seen more than we have must ask another server. With a session he may wait for
     * us: when his attach is applied here, so is all that was committed before it, on
     * whatever server. If he has seen more even so, it was of a cluster that has lost it, and
     * the attach is refused (tree.h). */
    bool is_behind = q.last_zxid_seen > tree_zxid(m->tree);
    if (is_behind)
        REACHED(member_behind);
    if (m->read_only && (q.read_only == 1 || MUTANT(member_read_only_for_all)) && !is_behind) {
        readonly_connect(m, c, &q, negotiate(m, q.timeout_ms));
        return;
    }
    if (q.session_id == 0 && disk_refuses(m, 0, TREE_OP_CREATE_SESSION, NULL, 0)) {
        limit_hit(m, MEMBER_LIMIT_ROOM, 0, 0);
        doom(m, c);
        return;
    }
    if (!m->serving || (q.session_id == 0 && is_behind)) {
        m->stats.closed_not_serving += !m->serving;
        doom(m, c);
        return;
    }
    struct tree_session known;
    if (MUTANT(member_attach_elsewhere) && tree_session_get(m->tree, q.session_id, &known) &&
        known.origin.server != m->incarnation)
        q.session_id = INT64_MAX; /* nobody's */
    if (q.session_id == 0 && !limits_one_more_session(m)) {
        doom(m, c);
        return;
    }
    uint8_t seen[8];
    be64_put(seen, (uint64_t)q.last_zxid_seen);
    c->state = CONN_CONNECTING;
    struct request *r =
        q.session_id == 0
            ? request_new(m, REQ_CONNECT, 0, TREE_OP_CREATE_SESSION, NULL, 0)
            : request_new(m, REQ_CONNECT, 0, TREE_OP_ATTACH_SESSION, seen, sizeof seen);
    push(m, c, r);
    r->session = q.session_id;
    r->timeout_ms = negotiate(m, q.timeout_ms);
    if (q.session_id == 0)
        m->io.random(m->io.ctx, r->password, sizeof r->password);
    else if (q.password.len == TREE_PASSWORD_LEN)
        memcpy(r->password, q.password.data, TREE_PASSWORD_LEN);
    stream_add(m, r);
}

/* user:password becomes the id user:hash. The superuser is super, and that too. */
static int digest_auth(struct member *m, struct conn *c, struct wire_bytes auth)
{
    const char *user = (const char *)auth.data, *super = m->options.super_digest;
    size_t len = auth.len > 0 ? (size_t)auth.len : 0;
    const char *colon = len > 0 ? memchr(user, ':', len) : NULL;
    struct buf id = {0};

    if ((m->options.rules & TREE_RULE_NO_DIGEST) != 0)
        return ERR_AUTH_FAILED;
    if (len > 0)
        buf_add(&id, user, colon != NULL ? (size_t)(colon - user) : len);
    buf_add_u8(&id, ':');
    m->io.digest(m->io.ctx, user, len, &id);
    bool is_super =
        super != NULL && strlen(super) == id.len && memcmp(super, id.data, id.len) == 0;
    bool fits =
        (!is_super || ids_add(c, "super", "", 0)) && ids_add(c, "digest", id.data, id.len);
    buf_free(&id);
    return fits ? 0 : ERR_AUTH_FAILED;
}

/* What a client has proven counts for what it asks from now on, so it is looked at when it
 * comes; the answer takes its turn. */
static int auth_result(struct member *m, struct conn *c, const uint8_t *body, size_t len)
{
    struct wire_auth_request q;
    struct wire_in in = wire_in(body, len);

    if (wire_auth_request_decode(&q, &in) != 0)
        return ERR_MALFORMED;
    if (q.scheme.len == 6 && memcmp(q.scheme.data, "digest", 6) == 0)
        return digest_auth(m, c, q.auth);
    if (q.scheme.len == 2 && memcmp(q.scheme.data, "ip", 2) == 0)
        return 0; /* it is known from where it is connected */
    return ERR_AUTH_FAILED;
}

static struct request *local_request(struct member *m, int32_t xid, int32_t op, int err)
{
    struct request *r = request_new(m, REQ_LOCAL, xid, op, NULL, 0);

    r->err = err;
    r->close_after = err == ERR_UNIMPLEMENTED || err == ERR_AUTH_FAILED ||
                     err == ERR_AUTH_REQUIRED || op == WIRE_OP_CLOSE_SESSION;
    return r;
}

static struct request *request_of(struct member *m, struct conn *c,
                                  const struct wire_request_header *h, const uint8_t *body,
                                  size_t len)
{
    struct wire_path_request path;
    struct wire_in in = wire_in(body, len);
    int err = ERR_UNIMPLEMENTED;

    if (!limits_know(m, c, h->op))
        return local_request(m, h->xid, h->op, ERR_AUTH_REQUIRED);
    if (c->local != NULL) {
        int done = readonly_answer(m, c, h->op);
        if (done <= 0)
            return local_request(m, h->op == WIRE_OP_PING ? (int32_t)WIRE_XID_PING : h->xid,
                                 h->op, done);
    }
    if (h->op == WIRE_OP_PING)
        return request_new(m, REQ_QUESTION, WIRE_XID_PING, h->op, NULL, 0);
    if (h->op == WIRE_OP_SYNC && wire_path_request_decode(&path, &in) == 0)
        return request_new(m, REQ_QUESTION, h->xid, h->op, body, len);
    if (tree_op_is_write(h->op) && disk_refuses(m, c->session, h->op, body, len)) {
        m->disk.facts.refused_total++;
        return local_request(m, h->xid, h->op, ERR_NO_ROOM);
    }
    if (h->op == WIRE_OP_CLOSE_SESSION || tree_op_is_write(h->op))
        return request_new(m, REQ_WRITE, h->xid, h->op, body, len);
    if (h->op == WIRE_OP_RECONFIG)
        return request_new(m, REQ_RECONFIG, h->xid, h->op, body, len);
    if (tree_op_is_read(h->op))
        return request_new(m, REQ_READ, h->xid, h->op, body, len);
    switch (h->op) {
    case WIRE_OP_AUTH:
        err = auth_result(m, c, body, len);
        m->stats.auth_failed += err != 0;
        break;
    case WIRE_OP_SYNC: err = ERR_MALFORMED; break;
    case WIRE_OP_SASL: err = 0; break; /* there is none: an empty token says so */
    default: break;
    }
    return local_request(m, h->xid, h->op, err);
}

void member_client_opened(struct member *m, uint64_t conn, const char *address)
{
    struct conn *c = mem_new(struct conn);

    CHECK(conn != 0 && conn_find(m, conn) == NULL);
    c->id = conn;
    c->opened_wall_ms = m->wall_ms;
    c->heard_ms = m->now_ms;
    stats_conn_clear(&c->stats);
    (void)ids_add(c, "ip", address, strlen(address));
    ids_share(m, c);
    TAILQ_INIT(&c->requests);
    hash_insert(&m->conns, &c->by_id, hash_u64(conn));
    m->facts.connections++;
}

void member_client_frame(struct member *m, uint64_t conn, const uint8_t *data, size_t len)
{
    struct conn *c = conn_find(m, conn);
    struct wire_request_header h;
    struct wire_in in = wire_in(data, len);

    m->heard = c;
    if (c == NULL || c->doomed)
        return;
    m->facts.requests_total++;
    m->stats.received++;
    m->stats.received_bytes += len + 4;
    c->stats.received++;
    c->heard_ms = m->now_ms;
    if (c->state == CONN_NEW) {
        connect_frame(m, c, data, len);
        return;
    }
    if (len > m->options.frame_max || limits_too_large(m, len)) {
        if (len > m->options.frame_max)
            limit_hit(m, MEMBER_LIMIT_FRAME, m->options.frame_max, len);
        else
            limit_hit(m, MEMBER_LIMIT_LARGE, m->options.large_bytes_max, m->large_bytes + len);
        doom(m, c);
        return;
    }
    if (wire_request_header_decode(&h, &in) != 0) {
        m->facts.malformed_total++;
        doom(m, c);
        return;
    }
    if (c->local != NULL) {
        c->local->until_ms = m->now_ms + (uint64_t)c->local->timeout_ms;
    } else if (!c->touched && c->state == CONN_OPEN) {
        c->touched = true;
        TAILQ_INSERT_TAIL(&m->touched, c, in_touched);
    }
    size_t body_len = (size_t)(in.end - in.at);
    /* A client that has lost its connection waits only a third of its timeout for the answer to
     * what it proves, and ZooKeeper answers that past its throttle, too. Not past what was
     * asked before: that is in front of it. */
    bool is_proof = h.op == WIRE_OP_AUTH || h.op == WIRE_OP_SASL;
    bool must_hold = limits_must_hold(m) && !(is_proof && TAILQ_EMPTY(&c->requests));
    if (TAILQ_EMPTY(&c->requests) && c->out.len < MEMBER_REPLY_BYTES_MAX && !must_hold &&
        m->options.enforce_auth == NULL && tree_op_is_read(h.op)) {
        serve_read(m, c, c->ids, h.xid, h.op, in.at, body_len,
                   m->now_ms); /* the common case: no copy */
        return;
    }
    struct request *r = request_of(m, c, &h, in.at, body_len);
    push(m, c, r);
    if (must_hold)
        limits_hold(m, r);
    conn_advance(m, c);
}

bool member_client_is_busy(const struct member *m, uint64_t conn)
{
    const struct conn *c = conn_find(m, conn);

    return c != NULL &&
           (c->requests_n >= MEMBER_REQUESTS_MAX ||
            c->requests_bytes >= MEMBER_REQUEST_BYTES_MAX ||
            c->out.len >= MEMBER_REPLY_BYTES_MAX ||
            (c->counted_n > 0 && m->facts.outstanding > m->options.outstanding_max) ||
            (c->requests_n > 0 && m->requests_bytes >= m->options.all_requests_max));
}

/* ---- the end ---- */

void conn_free(struct member *m, struct conn *c)
{
    struct request *r, *next;

    TAILQ_FOREACH_SAFE(r, &c->requests, in_conn, next)
    {
        m->facts.outstanding--;
        r->conn = NULL;
        if (!limits_forget(m, r) && r->list != NULL)
            session_forget(m, r);
        if (r == m->reconfig) { /* what it began goes on */
            m->reconfig = NULL;
            request_free(m, r);
        } else if (r->seq == 0) {
            request_free(m, r); /* no server has heard of it */
        }
    }
    if (c->state == CONN_OPEN)
        hash_remove(&m->conns_by_session, &c->by_session);
    if (c->local != NULL)
        readonly_gone(m, c);
    if (c->dirty)
        TAILQ_REMOVE(&m->dirty, c, in_dirty);
    if (c->touched)
        TAILQ_REMOVE(&m->touched, c, in_touched);
    limits_gone(m, c->id);
    if (m->heard == c)
        m->heard = NULL;
    hash_remove(&m->conns, &c->by_id);
    m->facts.connections--;
    ids_unref(c->ids);
    buf_free(&c->out);
    if (c->late != NULL)
        buf_free(c->late);
    mem_free(c->late);
    mem_free(c);
}

void conn_close(struct member *m, struct conn *c)
{
    if (!c->doomed)
        doom(m, c);
}

void member_client_closed(struct member *m, uint64_t conn)
{
    struct conn *c = conn_find(m, conn);

    if (c != NULL)
        conn_free(m, c);
}

static void hand_over(struct member *m, struct conn *c)
{
    if (c->late != NULL) {
        buf_add(out_of(m, c), c->late->data, c->late->len);
        buf_clear(c->late);
    }
    if (c->out.len > 0)
        m->io.send_client(m->io.ctx, c->id, c->out.data, c->out.len);
    if (c->out.data != NULL)
        out_sent(m, c);
    if (c->doomed) {
        m->io.close_client(m->io.ctx, c->id);
        conn_free(m, c);
    } else {
        conn_advance(m, c); /* whose replies go out next turn */
    }
}

void conn_flush(struct member *m)
{
    struct conn *last = TAILQ_LAST(&m->dirty, conn_list);

    for (struct conn *c = NULL; c != last;) {
        c = TAILQ_FIRST(&m->dirty);
        TAILQ_REMOVE(&m->dirty, c, in_dirty);
        c->dirty = false;
        hand_over(m, c);
    }
}

void conn_close_all(struct member *m)
{
    struct hash_walk w;

    for (struct hash_link *l = hash_walk_first(&m->conns, &w); l != NULL;
         l = hash_walk_next(&m->conns, &w))
        doom(m, HASH_ENTRY(l, struct conn, by_id));
    conn_flush(m);
}
