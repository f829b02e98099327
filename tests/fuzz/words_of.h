/* SPDX-License-Identifier: Apache-2.0 */
/* words_of.h -- what the four-letter words and pages are made of, from a member alone. */
#ifndef MUSTER_FUZZ_WORDS_OF_H
#define MUSTER_FUZZ_WORDS_OF_H

#include "server/words.h"
#include "tree/watch.h"

static inline uint64_t words_of_dir_bytes(void *ctx) { return ctx == NULL; }

static inline uint64_t words_of_files(void *ctx, bool at_most)
{
    (void)ctx;
    return at_most ? 1024 : 7;
}

static inline void words_of_reset(void *ctx, bool connections)
{
    if (connections)
        member_conns_reset(ctx);
    else
        member_stats_reset(ctx);
}

static inline struct words
words_of(struct member *m, const struct settings *settings, struct server_facts *f,
         int64_t *mask, void (*connections)(void *ctx, connection_visit *visit, void *visitor))
{
    const struct tree *t = member_tree(m);

    *f = (struct server_facts){.version = "0",
                               .mode = "standalone",
                               .data_dir = "/d",
                               .stats = member_stats(m),
                               .servers = member_members(m),
                               .id = 1,
                               .leader = 1,
                               .zxid = tree_zxid(t),
                               .now_ms = 100000,
                               .wall_ms = 1700000000000,
                               .is_serving = member_is_serving(m),
                               .is_read_only = member_is_read_only(m)};
    member_facts(m, &f->member);
    watches_facts(member_watches_raw(m), &f->watches);
    tree_facts(t, &f->tree);
    return (struct words){.facts = f,
                          .settings = settings,
                          .member = m,
                          .trace_mask = mask,
                          .ctx = m,
                          .connections = connections,
                          .dir_bytes = words_of_dir_bytes,
                          .files = words_of_files,
                          .reset = words_of_reset};
}

#endif
