/* SPDX-License-Identifier: Apache-2.0 */
/* err.h -- every error of the program, one row each.
 *
 * A function that can fail returns int: 0, or one of these (all negative).
 * Numbers down to -199 are what a ZooKeeper client sees (KeeperException.Code);
 * below that they stay inside the process.
 *
 * The third column says what the caller may do about it:
 *   RETRY   nothing happened, or it is safe to do again
 *   UNSURE  it may have happened: read back before doing it again
 *   REPORT  doing it again gives the same answer
 */
#ifndef MUSTER_ERR_H
#define MUSTER_ERR_H

/* clang-format off */
#define ERR_TABLE(E)                                                                        \
    E(ERR_NO_ROOM, -1, RETRY, "the servers' disks are full: new data is refused")           \
    E(ERR_RUNTIME_INCONSISTENCY, -2, REPORT, "an earlier operation of the transaction failed") \
    E(ERR_CONNECTION_LOST, -4, UNSURE, "the connection was lost")                           \
    E(ERR_MALFORMED, -5, REPORT, "the bytes are not a valid record")                        \
    E(ERR_UNIMPLEMENTED, -6, REPORT, "the operation is not known here")                     \
    E(ERR_TIMED_OUT, -7, UNSURE, "no answer came in time")                                  \
    E(ERR_BAD_ARGUMENTS, -8, REPORT, "an argument is not valid")                            \
    E(ERR_NEW_CONFIG_NO_QUORUM, -13, RETRY, "the new servers are not reached, or too far behind") \
    E(ERR_RECONFIG_IN_PROGRESS, -14, RETRY, "another change of the servers is under way")   \
    E(ERR_NO_NODE, -101, REPORT, "there is no such znode")                                  \
    E(ERR_NO_AUTH, -102, REPORT, "the access list does not allow it")                       \
    E(ERR_BAD_VERSION, -103, REPORT, "the znode has another version")                       \
    E(ERR_NO_CHILDREN_FOR_EPHEMERALS, -108, REPORT, "an ephemeral znode has no children")   \
    E(ERR_NODE_EXISTS, -110, REPORT, "the znode exists already")                            \
    E(ERR_NOT_EMPTY, -111, REPORT, "the znode has children")                                \
    E(ERR_SESSION_EXPIRED, -112, REPORT, "the session has expired")                         \
    E(ERR_INVALID_ACL, -114, REPORT, "the access list is not valid")                        \
    E(ERR_AUTH_FAILED, -115, REPORT, "the credentials were refused")                        \
    E(ERR_SESSION_MOVED, -118, RETRY, "the session has moved to another server")            \
    E(ERR_NOT_READ_ONLY, -119, RETRY, "the server is read-only now")                        \
    E(ERR_NO_WATCHER, -121, REPORT, "there is no such watch")                               \
    E(ERR_RECONFIG_DISABLED, -123, REPORT, "reconfigEnabled is not set")                    \
    E(ERR_AUTH_REQUIRED, -124, REPORT, "the server wants proof of who asks")         \
    E(ERR_QUOTA_EXCEEDED, -125, REPORT, "a quota's hard limit would be passed")              \
    E(ERR_THROTTLED, -127, RETRY, "too many requests, ask again later")                     \
    E(ERR_TOO_BIG, -201, REPORT, "it is over the size limit")                               \
    E(ERR_BUSY, -202, RETRY, "too much is in flight, ask again later")                      \
    E(ERR_NOT_LEADER, -203, RETRY, "this server does not lead")                             \
    E(ERR_IO, -204, REPORT, "the disk reported an error")                                   \
    E(ERR_DISK_FULL, -205, RETRY, "the disk is full")                                       \
    E(ERR_CORRUPT, -206, REPORT, "a file is damaged: its checksum is wrong")                \
    E(ERR_EXISTS, -207, REPORT, "it exists already")                                        \
    E(ERR_NOT_FOUND, -208, REPORT, "it was not found")                                      \
    E(ERR_REFUSED, -209, REPORT, "it was refused")                                          \
    E(ERR_UNSAFE, -210, REPORT, "it would not be safe now")                                 \
    E(ERR_SYNTAX, -211, REPORT, "it cannot be understood")                                  \
    E(ERR_PERMISSION, -212, REPORT, "permission was denied")                                \
    E(ERR_SYSTEM, -213, REPORT, "the operating system reported an error")                   \
    E(ERR_OTHER_VERSION, -214, REPORT, "it was written by another version of muster")       \
    E(ERR_AHEAD, -230, RETRY, "the client has seen more than there is here")
/* clang-format on */

#define E(sym, num, advice, text) sym = num,
enum err { ERR_TABLE(E) };
#undef E

enum err_advice { ERR_RETRY, ERR_UNSURE, ERR_REPORT };

const char *err_name(int err);
const char *err_text(int err);
enum err_advice err_advice(int err);

#endif
