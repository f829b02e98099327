/* SPDX-License-Identifier: Apache-2.0 */
#include "server/settings.h"

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
