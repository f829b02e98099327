/* SPDX-License-Identifier: Apache-2.0 */
/* Four-letter words and admin pages, of a server whose clients have done odd things. The
 * input is a tape: requests, then a word's four bytes and what follows, or a page's name and
 * its argument (libmicrohttpd reads the HTTP around it).
 *
 * Checked: a page is JSON, an answer is below its limit. */
#include <jansson.h>

#include "base/check.h"
#include "lib/lone_member.h"
#include "server/admin.h"
#include "server/monitor.h"
#include "tape.h"
#include "words_of.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { STEPS_MAX = 60, CONNS = 3, ANSWER_MAX = WORD_BYTES_MAX + 65536 };

static struct lone *looked_at;

static void connections(void *ctx, connection_visit *visit, void *visitor)
{
    for (uint64_t conn = 1; conn < LONE_CONNS; conn++) {
        struct connection_facts f = {.address = "10.0.0.9:1"};
        if (!looked_at->closed[conn] && member_conn_facts(ctx, conn, &f.member))
            visit(visitor, &f);
    }
}

static char *text_of(struct tape *t, size_t max)
{
    struct wire_bytes raw = tape_raw(t, tape_below(t, (unsigned)max));

    return mem_dup_strn((const char *)raw.data, (size_t)raw.len);
}

static void word(const struct words *w, struct tape *t, struct buf *out)
{
    static const char *const known[] = {
        "conf", "cons", "crst", "dump", "envi", "gtmk", "hash",        "icfg", "isro",
        "lsnp", "mntr", "orst", "obsr", "ruok", "srvr", "srst",        "stat", "stmk",
        "sysp", "wchc", "wchp", "wchs", "dirs", "lead", "telnet close"};
    uint8_t bytes[64] = {0};
    unsigned pick = tape_byte(t);

    memcpy(bytes, known[pick % (sizeof known / sizeof known[0])], 4);
    struct wire_bytes raw = tape_raw(t, tape_below(t, 16));
    if (raw.len > 0)
        memcpy(bytes + (pick > 230 ? 0 : 4), raw.data, (size_t)raw.len);
    size_t wanted = word_len(w->settings, bytes);
    CHECK(wanted <= sizeof bytes);
    if (wanted > 0)
        word_answer(w, bytes, out);
}

static void page(const struct words *w, struct tape *t, struct buf *out)
{
    static const char *const known[] = {"configuration", "connections",    "dump",
                                        "environment",   "watches",        "monitor",
                                        "hash",          "set_trace_mask", "watches_by_path",
                                        "stats",         "voting_view",    "leader",
                                        "observers",     "watch_summary",  "dirs",
                                        "server_stats",  "zabstate",       "system_properties"};
    unsigned pick = tape_byte(t);
    char *name = text_of(t, 20), *argument = text_of(t, 24);

    admin_command(w, pick < 200 ? known[pick % (sizeof known / sizeof known[0])] : name,
                  tape_below(t, 2) == 0 ? argument : NULL, out);
    json_t *j = json_loadb((const char *)out->data, out->len, JSON_ALLOW_NUL, NULL);
    CHECK(json_is_object(j));
    json_decref(j);
    mem_free(name);
    mem_free(argument);
}

static void look(struct lone *l, const struct settings *settings, struct tape *t)
{
    struct server_facts f;
    int64_t mask = TRACE_MASK_DEFAULT;
    struct words w = words_of(l->member, settings, &f, &mask, connections);
    struct buf out = {0};
    unsigned what = tape_below(t, 8);

    looked_at = l;
    if (what < 4)
        word(&w, t, &out);
    else if (what < 7)
        page(&w, t, &out);
    else
        monitor_prometheus(&w, &out);
    CHECK(out.len < ANSWER_MAX);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct lone *l = mem_new(struct lone);
    struct tape *t = mem_new(struct tape);
    struct settings settings = settings_default();
    int32_t xid = 0;

    *t = (struct tape){.at = data, .end = data + len};
    if (tape_below(t, 4) != 0)
        strcpy(settings.words, "*");
    lone_start(l, 1);
    for (uint64_t conn = 1; conn <= CONNS; conn++)
        lone_connect(l, conn, 0, NULL, 4000);
    for (unsigned i = 0; i < STEPS_MAX && !tape_is_over(t); i++) {
        unsigned what = tape_byte(t);
        uint64_t conn = 1 + what % CONNS;
        struct buf b = {0};
        if (what < 150 && !l->closed[conn]) {
            tape_request(t, ++xid, &b);
            lone_frame(l, conn, b.data, b.len);
            buf_free(&b);
        } else {
            look(l, &settings, t);
        }
    }
    lone_stop(l);
    tape_free(t);
    mem_free(t);
    mem_free(l);
    return 0;
}
