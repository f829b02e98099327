/* SPDX-License-Identifier: Apache-2.0 */
#include "server/settings.h"

#include <string.h>

#include "base/err.h"
#include "server/secret.h"
#include "tree/tree.h"

struct settings settings_default(void)
{
#define N(field, key, value, least, most, help) .field = (value),
#define B(field, key, value, help) .field = (value),
#define T(field, key, value, help) .field = value,
    return (struct settings){SETTINGS(N, B, T)};
#undef N
#undef B
#undef T
}

uint8_t settings_rules(const struct settings *s)
{
    return (uint8_t)((s->skip_acl ? TREE_RULE_SKIP_ACL : 0) |
                     (s->enforce_quota ? TREE_RULE_ENFORCE_QUOTA : 0) |
                     (s->extended_types ? TREE_RULE_EXTENDED_TYPES : 0) |
                     (s->digest_enabled ? 0 : TREE_RULE_NO_DIGEST) |
                     (s->reconfig_enabled ? TREE_RULE_RECONFIG : 0) |
                     (s->standalone_enabled ? TREE_RULE_STANDALONE : 0));
}

static bool is_scheme(const char *name, size_t len)
{
    static const char *const known[] = {"ip", "digest", "x509"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i]) == len && memcmp(known[i], name, len) == 0)
            return true;
    return false;
}

static int check_schemes(const char *schemes, struct buf *why)
{
    unsigned n = 0;

    for (const char *at = schemes; *at != 0; n++) {
        at += strspn(at, ", ");
        size_t len = strcspn(at, ", ");
        if (len > 0 && !is_scheme(at, len)) {
            buf_printf(why,
                       "enforce.auth.schemes: there is no scheme %.*s here; ip, digest and "
                       "x509 are known",
                       (int)len, at);
            return ERR_BAD_ARGUMENTS;
        }
        at += len;
        at += strspn(at, ", ");
    }
    if (n > 0)
        return 0;
    buf_add_str(why, "enforce.auth.enabled is set: enforce.auth.schemes must name at least one "
                     "scheme, as in enforce.auth.schemes=digest");
    return ERR_BAD_ARGUMENTS;
}

static int check_digest(const char *name, struct buf *why)
{
    struct buf hash = {0};
    int err = secret_digest(name, "", 0, &hash);

    buf_free(&hash);
    if (err == 0)
        return 0;
#define NAME(name, hash) " " name
    buf_printf(why,
               "DigestAuthenticationProvider.digestAlg: there is no hash %s here; known "
               "are" DIGESTS(NAME),
               name);
#undef NAME
    return ERR_BAD_ARGUMENTS;
}

int settings_check(const struct settings *s, struct buf *why)
{
    if (s->session_min_ms > s->session_max_ms) {
        buf_printf(why, "minSessionTimeout (%d) is above maxSessionTimeout (%d)",
                   s->session_min_ms, s->session_max_ms);
        return ERR_BAD_ARGUMENTS;
    }
    int err = check_digest(s->digest_algorithm, why);
    if (err == 0 && s->enforce_auth)
        err = check_schemes(s->enforce_auth_schemes, why);
    return err;
}

uint32_t settings_read_only_after_ms(const struct settings *s)
{
    if (!s->read_only_mode)
        return 0;
    return s->tick_ms > READ_ONLY_AFTER_MS ? (uint32_t)s->tick_ms : READ_ONLY_AFTER_MS;
}
