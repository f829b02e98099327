/* SPDX-License-Identifier: Apache-2.0 */
#include "server/limits.h"

#include "base/log.h"

struct row {
    const char *name, *text;
};

static const struct row rows[MEMBER_LIMITS_N] = {
#define L(sym, name, text) {name, text},
    MEMBER_LIMITS(L)
#undef L
};

const char *limits_name(enum member_limit limit) { return rows[limit].name; }

void limits_tell(struct limits_told *told, const struct member *m, uint64_t now_ms)
{
    struct member_facts f;

    member_facts(m, &f);
    for (unsigned i = 0; i < MEMBER_LIMITS_N; i++) {
        if (f.limited[i] == told->times[i] || now_ms < told->again_ms[i])
            continue;
        uint64_t times = f.limited[i] - told->times[i];
        if (f.limit_value[i] == 0)
            log_event(LOG_WARNING, "limit", LOG_S("limit", rows[i].name),
                      LOG_S("effect", rows[i].text), LOG_U("times", times));
        else
            log_event(LOG_WARNING, "limit", LOG_S("limit", rows[i].name),
                      LOG_U("value", f.limit_value[i]), LOG_U("measured", f.limit_measured[i]),
                      LOG_S("effect", rows[i].text), LOG_U("times", times));
        told->times[i] = f.limited[i];
        told->again_ms[i] = now_ms + LIMITS_AGAIN_MS;
    }
}
