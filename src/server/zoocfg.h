/* SPDX-License-Identifier: Apache-2.0 */
/* zoocfg.h -- ZooKeeper's own configuration file (zoo.cfg): text in, settings out.
 *
 * No file is opened here and nothing is resolved: the caller reads. The keys are the rows of
 * settings.h, those of ZOO_KEYS below, and three lists of what muster does with the rest: what
 * is accepted without effect, what is refused because leaving it out would be dangerous, and
 * what nobody knows, which is reported and accepted, as ZooKeeper accepts it.
 */
#ifndef MUSTER_ZOOCFG_H
#define MUSTER_ZOOCFG_H

#include "base/buf.h"
#include "server/settings.h"
#include "tree/ensemble.h"

#define ZOO_FILE_MAX (1u << 20) /* bytes of a configuration file */
#define ZOO_EXIT_CONFIG 78      /* EX_CONFIG of sysexits.h */

/* clang-format off */
#define ZOO_KEYS(N, B, T)                                                                       \
    T(data_dir, "dataDir", "", "where myid is, and muster's files: in muster/ below it")        \
    T(data_log_dir, "dataLogDir", "", "if given, muster's files are in muster/ below this")     \
    N(client_port, "clientPort", 0, 0, 65535, "where clients connect")                          \
    T(client_address, "clientPortAddress", "0.0.0.0", "and on which address")                   \
    T(peer_type, "peerType", "participant", "participant or observer; the server's line decides") \
    T(dynamic_file, "dynamicConfigFile", "", "the file that holds the server lines")             \
    B(listen_on_all, "quorumListenOnAllIPs", false, "other servers may connect to any address")  \
    T(secret_file, "muster.secretFile", "", "a file whose bytes all servers share: who has not got them is no server")
/* clang-format on */

struct zoo_config {
    struct settings settings;
#define N(field, key, value, least, most, help) int32_t field;
#define B(field, key, value, help) bool field;
#define T(field, key, value, help) char field[SETTING_TEXT_MAX];
    ZOO_KEYS(N, B, T)
#undef N
#undef B
#undef T
    struct server_line servers[ENSEMBLE_MAX]; /* by id */
    unsigned servers_n;
    unsigned problems_n;
    struct buf problems; /* lines; any: the file must not be used */
    struct buf warnings; /* lines */
    struct buf ignored;  /* names, separated by ", ": accepted without effect */
    unsigned origin[96]; /* by row: the line that sets it; 0: a default */
};

/* Reads the text; `file` is the name for messages. Frees nothing of *c before: it is set. */
void zoo_config_parse(struct zoo_config *c, const char *file, const uint8_t *data, size_t len);
/* The text of dynamicConfigFile: server lines only. */
void zoo_config_parse_dynamic(struct zoo_config *c, const char *file, const uint8_t *data,
                              size_t len);
/* When all has been read: what must go together, and the defaults that follow from others. */
void zoo_config_finish(struct zoo_config *c, const char *file);
void zoo_config_free(struct zoo_config *c);

/* Alone: no server lines, or one that standaloneEnabled lets be none. */
bool zoo_config_is_alone(const struct zoo_config *c);
unsigned zoo_config_participants(const struct zoo_config *c);
const struct server_line *zoo_config_server(const struct zoo_config *c, int64_t id);

/* The content of the file myid; false, and why: it is no id. */
bool zoo_myid_parse(const uint8_t *data, size_t len, int64_t *id, struct buf *why);

/* All that is set, a line each: KEY=VALUE and where it is from. */
void zoo_config_print(const struct zoo_config *c, const char *file, struct buf *out);

/* Every key there is, for documentation and tests: by number; false at the end. */
enum zoo_key_kind { ZOO_EFFECT, ZOO_IGNORED, ZOO_REFUSED };
struct zoo_key {
    const char *key; /* ends in ".*": all keys that begin so */
    enum zoo_key_kind kind;
    const char *help; /* what it does; why it has no effect; what to do instead */
};
bool zoo_key_at(unsigned i, struct zoo_key *out);

#endif
