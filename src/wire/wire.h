/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h -- the records of the ZooKeeper protocol: one table, everything else follows.
 *
 * To add a record, add its fields below and one row to WIRE_RECORDS. That gives
 *   struct wire_NAME
 *   int wire_NAME_decode(struct wire_NAME *, struct wire_in *)
 *   void wire_NAME_encode(const struct wire_NAME *, struct buf *)   appends; cannot fail
 * and, in the tests, its round trip and its truncations.
 *
 * Lifetime: decoding copies nothing. A `text`, `bytes` or list field points into the buffer
 * that was decoded and lives as long as that buffer does.
 *
 * Errors are sticky: after the first one (always ERR_MALFORMED) every further call does
 * nothing, so look at the result once, at the end. A struct whose decode failed is all
 * zeros. Bytes after a record are not looked at.
 */
#ifndef MUSTER_WIRE_H
#define MUSTER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Operations: name, number, text, and the short name that `cons` shows. */
/* clang-format off */
#define WIRE_OPS(O)                                                 \
    O(NOTIFICATION, 0, "notification", "NOTI")                      \
    O(CREATE, 1, "create", "CREA")                                  \
    O(DELETE, 2, "delete", "DELE")                                  \
    O(EXISTS, 3, "exists", "EXIS")                                  \
    O(GET_DATA, 4, "getData", "GETD")                               \
    O(SET_DATA, 5, "setData", "SETD")                               \
    O(GET_ACL, 6, "getACL", "GETA")                                 \
    O(SET_ACL, 7, "setACL", "SETA")                                 \
    O(GET_CHILDREN, 8, "getChildren", "GETC")                       \
    O(SYNC, 9, "sync", "SYNC")                                      \
    O(PING, 11, "ping", "PING")                                     \
    O(GET_CHILDREN2, 12, "getChildren2", "GETC")                    \
    O(CHECK, 13, "check", "CHEC")                                   \
    O(MULTI, 14, "multi", "MULT")                                   \
    O(CREATE2, 15, "create2", "CREA")                               \
    O(RECONFIG, 16, "reconfig", "RECO")                             \
    O(CHECK_WATCHES, 17, "checkWatches", "CHKW")                    \
    O(REMOVE_WATCHES, 18, "removeWatches", "REMW")                  \
    O(CREATE_CONTAINER, 19, "createContainer", "CREA")              \
    O(DELETE_CONTAINER, 20, "deleteContainer", "DELE")              \
    O(CREATE_TTL, 21, "createTTL", "CREA")                          \
    O(MULTI_READ, 22, "multiRead", "MLTR")                          \
    O(AUTH, 100, "auth", "AUTH")                                    \
    O(SET_WATCHES, 101, "setWatches", "SETW")                       \
    O(SASL, 102, "sasl", "SASL")                                    \
    O(GET_EPHEMERALS, 103, "getEphemerals", "GETE")                 \
    O(GET_ALL_CHILDREN_NUMBER, 104, "getAllChildrenNumber", "GETACN") \
    O(SET_WATCHES2, 105, "setWatches2", "STW2")                     \
    O(ADD_WATCH, 106, "addWatch", "ADDW")                           \
    O(WHO_AM_I, 107, "whoAmI", "HOMI")                              \
    O(CREATE_SESSION, -10, "createSession", "SESS")                 \
    O(CLOSE_SESSION, -11, "closeSession", "CLOS")                   \
    O(ERROR, -1, "error", "ERRO")
/* clang-format on */

#define O(sym, number, text, brief) WIRE_OP_##sym = number,
enum wire_op { WIRE_OPS(O) };
#undef O
const char *wire_op_name(int32_t op);  /* "unknown" for other numbers */
const char *wire_op_brief(int32_t op); /* "NA" for other numbers */

/* Numbers in the place of an xid. */
enum {
    WIRE_XID_NOTIFICATION = -1,
    WIRE_XID_PING = -2, /* also of every reply to a ping */
    WIRE_XID_AUTH = -4,
    WIRE_XID_SET_WATCHES = -8,
};

/* create_request.flags */
enum wire_create_mode {
    WIRE_PERSISTENT = 0,
    WIRE_EPHEMERAL = 1,
    WIRE_SEQUENTIAL = 2,
    WIRE_EPHEMERAL_SEQUENTIAL = 3,
    WIRE_CONTAINER = 4,
    WIRE_TTL = 5,
    WIRE_TTL_SEQUENTIAL = 6,
};

/* add_watch_request.mode */
enum { WIRE_WATCH_PERSISTENT = 0, WIRE_WATCH_RECURSIVE = 1 };

/* watch_type_request.type */
enum wire_watcher_type {
    WIRE_WATCHER_CHILDREN = 1,
    WIRE_WATCHER_DATA = 2,
    WIRE_WATCHER_ANY = 3,
    WIRE_WATCHER_PERSISTENT = 4,
    WIRE_WATCHER_RECURSIVE = 5,
};

/* watcher_event.state: what a server sends, always. Types: enum watch_event of tree/watch.h */
#define WIRE_STATE_CONNECTED 3

/* acl.perms */
enum {
    WIRE_PERM_READ = 1,
    WIRE_PERM_WRITE = 2,
    WIRE_PERM_CREATE = 4,
    WIRE_PERM_DELETE = 8,
    WIRE_PERM_ADMIN = 16,
    WIRE_PERM_ALL = 31,
};

/* A byte string that belongs to someone else. len -1 is "null" on the wire. */
struct wire_bytes {
    const uint8_t *data;
    int32_t len;
};

/* A vector: `count` elements (-1: null), already validated, encoded one after the other. */
struct wire_list {
    const uint8_t *data;
    size_t len;
    int32_t count;
};

/* How each type looks in C.
 *   text          a string that must be there (a null one is malformed)
 *   text_or_null  a string, or null
 *   bytes         data, or null
 *   flag_or_end   a boolean that may be missing at the end of the record: WIRE_ABSENT
 *   texts, acls, ids   vectors of strings (each may be null), of struct wire_acl and wire_id */
#define WIRE_ABSENT (-1)
#define WIRE_C_i32 int32_t
#define WIRE_C_i64 int64_t
#define WIRE_C_flag bool
#define WIRE_C_flag_or_end int8_t
#define WIRE_C_text struct wire_bytes
#define WIRE_C_text_or_null struct wire_bytes
#define WIRE_C_bytes struct wire_bytes
#define WIRE_C_texts struct wire_list
#define WIRE_C_acls struct wire_list
#define WIRE_C_ids struct wire_list
#define WIRE_C_stat struct wire_stat

/* clang-format off */
#define WIRE_STAT(F)            \
    F(i64, czxid)               \
    F(i64, mzxid)               \
    F(i64, ctime)               \
    F(i64, mtime)               \
    F(i32, version)             \
    F(i32, cversion)            \
    F(i32, aversion)            \
    F(i64, ephemeral_owner)     \
    F(i32, data_len)            \
    F(i32, children)            \
    F(i64, pzxid)

#define WIRE_ACL(F)             \
    F(i32, perms)               \
    F(text_or_null, scheme)     \
    F(text_or_null, id)

/* Who somebody has proven to be: digest, user:hash; ip, address. Also an entry of the answer
 * to whoAmI, where the second is the user's name. */
#define WIRE_ID(F)              \
    F(text_or_null, scheme)     \
    F(text_or_null, id)

/* The first frame each way; no header before it. */
#define WIRE_CONNECT_REQUEST(F) \
    F(i32, protocol_version)    \
    F(i64, last_zxid_seen)      \
    F(i32, timeout_ms)          \
    F(i64, session_id)          \
    F(bytes, password)          \
    F(flag_or_end, read_only) /* clients before 3.4 stop before this */

/* read_only is sent exactly if the request had it. */
#define WIRE_CONNECT_RESPONSE(F) \
    F(i32, protocol_version)    \
    F(i32, timeout_ms)          \
    F(i64, session_id)          \
    F(bytes, password)          \
    F(flag_or_end, read_only)

#define WIRE_REQUEST_HEADER(F)  \
    F(i32, xid)                 \
    F(i32, op)

#define WIRE_REPLY_HEADER(F)    \
    F(i32, xid)                 \
    F(i64, zxid)                \
    F(i32, err)

/* create, create2, createContainer */
#define WIRE_CREATE_REQUEST(F)  \
    F(text, path)               \
    F(bytes, data)              \
    F(acls, acl)                \
    F(i32, flags)

#define WIRE_CREATE_TTL_REQUEST(F) \
    WIRE_CREATE_REQUEST(F)      \
    F(i64, ttl_ms)

/* delete, check */
#define WIRE_PATH_VERSION_REQUEST(F) \
    F(text, path)               \
    F(i32, version)

/* exists, getData, getChildren, getChildren2 */
#define WIRE_PATH_WATCH_REQUEST(F) \
    F(text, path)               \
    F(flag, watch)

/* getACL, sync, getAllChildrenNumber */
#define WIRE_PATH_REQUEST(F)    \
    F(text, path)

#define WIRE_GET_EPHEMERALS_REQUEST(F) \
    F(text_or_null, prefix)

#define WIRE_SET_DATA_REQUEST(F) \
    F(text, path)               \
    F(bytes, data)              \
    F(i32, version)

#define WIRE_SET_ACL_REQUEST(F) \
    F(text, path)               \
    F(acls, acl)                \
    F(i32, version) /* the one of the ACL */

#define WIRE_MULTI_HEADER(F)    \
    F(i32, op)                  \
    F(flag, done)               \
    F(i32, err)

#define WIRE_AUTH_REQUEST(F)    \
    F(i32, type)                \
    F(text_or_null, scheme)     \
    F(bytes, auth)

#define WIRE_SET_WATCHES_REQUEST(F) \
    F(i64, relative_zxid)       \
    F(texts, data)              \
    F(texts, exist)             \
    F(texts, child)

#define WIRE_SET_WATCHES2_REQUEST(F) \
    WIRE_SET_WATCHES_REQUEST(F) \
    F(texts, persistent)        \
    F(texts, recursive)

#define WIRE_ADD_WATCH_REQUEST(F) \
    F(text, path)               \
    F(i32, mode)

/* checkWatches, removeWatches */
#define WIRE_WATCH_TYPE_REQUEST(F) \
    F(text, path)               \
    F(i32, type)

#define WIRE_SASL_REQUEST(F)    \
    F(bytes, token)

#define WIRE_SASL_RESPONSE(F)   \
    F(bytes, token)

#define WIRE_RECONFIG_REQUEST(F) \
    F(text_or_null, joining)    \
    F(text_or_null, leaving)    \
    F(text_or_null, members)    \
    F(i64, version) /* of the configuration that is meant; -1: any */

#define WIRE_WHO_AM_I_RESPONSE(F) \
    F(ids, ids)

/* create, sync */
#define WIRE_PATH_RESPONSE(F)   \
    F(text, path)

/* create2, createContainer, createTTL */
#define WIRE_CREATE2_RESPONSE(F) \
    F(text, path)               \
    F(stat, stat)

/* exists, setData, setACL */
#define WIRE_STAT_RESPONSE(F)   \
    F(stat, stat)

#define WIRE_DATA_RESPONSE(F)   \
    F(bytes, data)              \
    F(stat, stat)

#define WIRE_ACL_RESPONSE(F)    \
    F(acls, acl)                \
    F(stat, stat)

/* getChildren, getEphemerals */
#define WIRE_CHILDREN_RESPONSE(F) \
    F(texts, children)

#define WIRE_CHILDREN2_RESPONSE(F) \
    F(texts, children)          \
    F(stat, stat)

#define WIRE_COUNT_RESPONSE(F)  \
    F(i32, count)

/* A failed part of a multi; also the body of the reply to addWatch (err 0). */
#define WIRE_ERROR_RESPONSE(F)  \
    F(i32, err)

#define WIRE_WATCHER_EVENT(F)   \
    F(i32, type)                \
    F(i32, state)               \
    F(text, path)

/* New rows at the end: the fuzz corpora pick a record by its place. */
#define WIRE_RECORDS(R)                                 \
    R(stat, WIRE_STAT)                                  \
    R(acl, WIRE_ACL)                                    \
    R(connect_request, WIRE_CONNECT_REQUEST)            \
    R(connect_response, WIRE_CONNECT_RESPONSE)          \
    R(request_header, WIRE_REQUEST_HEADER)              \
    R(reply_header, WIRE_REPLY_HEADER)                  \
    R(create_request, WIRE_CREATE_REQUEST)              \
    R(create_ttl_request, WIRE_CREATE_TTL_REQUEST)      \
    R(path_version_request, WIRE_PATH_VERSION_REQUEST)  \
    R(path_watch_request, WIRE_PATH_WATCH_REQUEST)      \
    R(path_request, WIRE_PATH_REQUEST)                  \
    R(get_ephemerals_request, WIRE_GET_EPHEMERALS_REQUEST) \
    R(set_data_request, WIRE_SET_DATA_REQUEST)          \
    R(set_acl_request, WIRE_SET_ACL_REQUEST)            \
    R(multi_header, WIRE_MULTI_HEADER)                  \
    R(auth_request, WIRE_AUTH_REQUEST)                  \
    R(set_watches_request, WIRE_SET_WATCHES_REQUEST)    \
    R(set_watches2_request, WIRE_SET_WATCHES2_REQUEST)  \
    R(add_watch_request, WIRE_ADD_WATCH_REQUEST)        \
    R(watch_type_request, WIRE_WATCH_TYPE_REQUEST)      \
    R(sasl_request, WIRE_SASL_REQUEST)                  \
    R(path_response, WIRE_PATH_RESPONSE)                \
    R(create2_response, WIRE_CREATE2_RESPONSE)          \
    R(stat_response, WIRE_STAT_RESPONSE)                \
    R(data_response, WIRE_DATA_RESPONSE)                \
    R(acl_response, WIRE_ACL_RESPONSE)                  \
    R(children_response, WIRE_CHILDREN_RESPONSE)        \
    R(children2_response, WIRE_CHILDREN2_RESPONSE)      \
    R(count_response, WIRE_COUNT_RESPONSE)              \
    R(error_response, WIRE_ERROR_RESPONSE)              \
    R(watcher_event, WIRE_WATCHER_EVENT)                \
    R(id, WIRE_ID)                                      \
    R(sasl_response, WIRE_SASL_RESPONSE)                \
    R(reconfig_request, WIRE_RECONFIG_REQUEST)          \
    R(who_am_i_response, WIRE_WHO_AM_I_RESPONSE)
/* clang-format on */

/* Reads [at, end). */
struct wire_in {
    const uint8_t *at, *end;
    int err; /* 0, or ERR_MALFORMED */
};

static inline struct wire_in wire_in(const uint8_t *data, size_t len)
{
    return (struct wire_in){data, len > 0 ? data + len : data, 0};
}

#define FIELD(type, name) WIRE_C_##type name;
#define RECORD(rec, FIELDS)                                            \
    struct wire_##rec {                                                \
        FIELDS(FIELD)                                                  \
    };                                                                 \
    int wire_##rec##_decode(struct wire_##rec *r, struct wire_in *in); \
    void wire_##rec##_encode(const struct wire_##rec *r, struct buf *out);
WIRE_RECORDS(RECORD)
#undef RECORD
#undef FIELD

/* For formats that are laid out by hand (the log's entries, snapshots): the next number or
 * byte string, 0 or empty once anything has gone wrong. */
int32_t wire_get_i32(struct wire_in *in);
int64_t wire_get_i64(struct wire_in *in);
struct wire_bytes wire_get_bytes(struct wire_in *in);
const uint8_t *wire_get_raw(struct wire_in *in, size_t n); /* NULL: they are not there */

/* The next element, taken off the front of the list; false at the end. */
bool wire_texts_next(struct wire_list *rest, struct wire_bytes *out);
bool wire_acls_next(struct wire_list *rest, struct wire_acl *out);
bool wire_ids_next(struct wire_list *rest, struct wire_id *out);
/* A list of so many bytes, which are all its elements; ERR_MALFORMED unless they are. */
int wire_ids_decode(struct wire_list *out, const uint8_t *data, size_t len);

/* Appends one element of a texts list that is being built (data, len and count of the
 * list are then the buffer's and the caller's); for ACLs use wire_acl_encode(). */
void wire_text_encode(const void *data, size_t len, struct buf *out);

static inline struct wire_bytes wire_bytes(const void *data, size_t len)
{
    return (struct wire_bytes){data, (int32_t)len};
}

/* A frame is its length in 4 bytes, then so many bytes:
 *   size_t at = wire_frame_begin(out); ...append...; wire_frame_end(out, at); */
size_t wire_frame_begin(struct buf *out);
void wire_frame_end(struct buf *out, size_t at);

#endif
