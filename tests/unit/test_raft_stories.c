/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the stories of tests/stories/ *.txt: one phenomenon a file, a command a line.
 *
 *   test_raft_stories [directory or file]
 *
 * After each command messages are delivered and disks save until all is at rest, except
 * for what the story holds back. Time passes only when the story says so. Safety is checked
 * throughout (test_raft_world.h).
 *
 *   servers a b c          the founders and voters; or: founders a b c, then fresh d
 *   fresh d                a server with an empty disk that is in no configuration
 *   log a 1 1 4            before its start: entries of these terms on its disk
 *   state a 5 [b]          before its start: the term, and whom it voted for
 *   batch 1                entries of one append and of one save at most
 *   state-bytes 600000     the size of a snapshot
 *   start [a ...]          all, or these
 *   tick a                 the clock of a goes on to its next deadline, which is due
 *   beat a [n]             the same n times, but all clocks go on
 *   wait 300 [a ...]       clocks go on, nothing is due (all, or these)
 *   elect a                the others lose patience, a campaigns until it leads
 *   propose a TEXT [n]
 *   read a 7               read number 7
 *   transfer a b, add a d, promote a d, remove a d
 *   compact a 0            a snapshot in the store of a; so many entries before it are kept
 *   hold a, save a, release a     the disk of a: nothing lands; one batch lands; as usual
 *   net hold, net go, net drop    messages wait; are delivered; are lost
 *   cut a, cut a b, cut a > b, heal
 *   crash a                what was not saved is lost
 *   refused busy COMMAND   that command must fail with ERR_BUSY (any of err.h, lower case)
 *   expect a role leader|follower|candidate|asking
 *   expect a term|last|commit|applied|saved|first N
 *   expect a leader b|none
 *   expect a log 1 1 4     the terms of its entries in memory
 *   expect a members a b d?       d is a learner
 *   expect read 7 INDEX|dropped|waiting
 *   expect same a b ...    their state machines
 */
#include <ctype.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "test_raft_world.h"

#define WORDS_MAX 64
#define STORIES_MAX 64

struct story {
    const char *file;
    unsigned line;
    struct world *w;
    char *word[WORDS_MAX + 1];
    unsigned n;
};

static const char *place = "tests/stories";

__attribute__((format(printf, 2, 3))) static void wrong(const struct story *s,
                                                        const char *format, ...)
{
    char what[300];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    fail_msg("%s:%u: %s", s->file, s->line, what);
}

static bool is(const struct story *s, unsigned i, const char *word)
{
    return i < s->n && strcmp(s->word[i], word) == 0;
}

static uint64_t number(const struct story *s, unsigned i)
{
    char *end = NULL;

    if (i >= s->n)
        wrong(s, "a number is missing");
    uint64_t v = strtoull(s->word[i], &end, 10);
    if (*end != 0)
        wrong(s, "'%s' is no number", s->word[i]);
    return v;
}

static uint64_t id(const struct story *s, unsigned i)
{
    if (i >= s->n || s->word[i][0] < 'a' || s->word[i][0] > 'h')
        wrong(s, "a server is missing");
    return (uint64_t)(s->word[i][0] - 'a') + 1;
}

static struct world_server *server(const struct story *s, unsigned i)
{
    uint64_t v = id(s, i);

    if (s->w == NULL || v > s->w->n)
        wrong(s, "there is no server '%s'", s->word[i]);
    return world_server(s->w, v);
}

static struct world_server *up(const struct story *s, unsigned i)
{
    struct world_server *v = server(s, i);

    if (!v->is_up)
        wrong(s, "'%s' is not up", s->word[i]);
    return v;
}

/* ---- before the start ---- */

static int do_servers(struct story *s)
{
    s->w = world_new(1, s->n - 1, s->n - 1);
    return 0;
}

static int do_fresh(struct story *s)
{
    for (unsigned i = 1; i < s->n; i++) {
        CHECK(s->w->n < WORLD_SERVERS);
        struct world_server *v = &s->w->v[s->w->n++];
        v->id = s->w->n;
        v->now_ms = s->w->now_ms;
        if (id(s, i) != v->id)
            wrong(s, "servers come in the order of the alphabet");
    }
    return 0;
}

static int do_log(struct story *s)
{
    struct world_disk *d = &server(s, 1)->disk;

    for (unsigned i = 2; i < s->n; i++) {
        uint64_t term = number(s, i);
        struct raft_entry *e = raft_entry_new(i - 1, term, RAFT_ENTRY_DATA, "e", 1);
        world_check_entry(s->w, i > 2 ? number(s, i - 1) : 0, e);
        disk_append(s->w, d, e);
        raft_entry_unref(e);
        if (d->term < term)
            d->term = term;
    }
    return 0;
}

static int do_state(struct story *s)
{
    struct world_disk *d = &server(s, 1)->disk;

    d->term = number(s, 2);
    d->vote = s->n > 3 ? id(s, 3) : RAFT_NOBODY;
    return 0;
}

static int do_batch(struct story *s)
{
    s->w->options.batch_max = (uint32_t)number(s, 1);
    return 0;
}

static int do_state_bytes(struct story *s)
{
    s->w->state_bytes = number(s, 1);
    return 0;
}

static int do_start(struct story *s)
{
    for (unsigned i = 0; i < s->w->n; i++) {
        bool named = s->n == 1;
        for (unsigned k = 1; k < s->n; k++)
            named |= id(s, k) == i + 1;
        if (named && !s->w->v[i].is_up)
            world_start(s->w, &s->w->v[i]);
    }
    return 0;
}

/* ---- time ---- */

static void tick(struct world *w, struct world_server *v)
{
    if (raft_deadline(v->raft) != RAFT_NEVER && v->now_ms < raft_deadline(v->raft))
        v->now_ms = raft_deadline(v->raft);
    raft_tick(v->raft, v->now_ms);
    world_look(w, v);
    world_settle(w);
}

static int do_tick(struct story *s)
{
    tick(s->w, up(s, 1));
    return 0;
}

static int do_beat(struct story *s)
{
    struct world_server *v = up(s, 1);

    for (uint64_t n = s->n > 2 ? number(s, 2) : 1; n > 0; n--) {
        uint64_t before = v->now_ms;
        tick(s->w, v);
        for (unsigned i = 0; i < s->w->n; i++)
            if (&s->w->v[i] != v)
                s->w->v[i].now_ms += v->now_ms - before;
    }
    return 0;
}

static int do_wait(struct story *s)
{
    uint64_t ms = number(s, 1);

    for (unsigned i = 0; i < s->w->n; i++) {
        bool named = s->n == 2;
        for (unsigned k = 2; k < s->n; k++)
            named |= id(s, k) == i + 1;
        if (named)
            s->w->v[i].now_ms += ms;
    }
    return 0;
}

static int do_elect(struct story *s)
{
    struct world_server *v = up(s, 1);

    for (unsigned tries = 0; tries < 10 && raft_role(v->raft) != RAFT_LEADER; tries++) {
        for (unsigned i = 0; i < s->w->n; i++)
            s->w->v[i].now_ms += s->w->options.election_min_ms;
        tick(s->w, v);
    }
    if (raft_role(v->raft) != RAFT_LEADER)
        wrong(s, "'%s' cannot be elected", s->word[1]);
    return 0;
}

/* ---- what servers are asked ---- */

static int do_propose(struct story *s)
{
    struct world_server *v = up(s, 1);
    uint64_t index;

    for (uint64_t n = s->n > 3 ? number(s, 3) : 1; n > 0; n--) {
        int err = raft_propose(v->raft, s->word[2], strlen(s->word[2]), &index);
        if (err != 0)
            return err;
    }
    raft_flush(v->raft, v->now_ms);
    return 0;
}

static int do_read(struct story *s)
{
    int err;

    world_read(s->w, up(s, 1), number(s, 2), &err);
    return err;
}

static int do_transfer(struct story *s)
{
    return raft_transfer(up(s, 1)->raft, up(s, 1)->now_ms, id(s, 2));
}

static int do_add(struct story *s)
{
    struct raft_member m = {.id = id(s, 2), .auto_promote = is(s, 3, "auto")};

    m.name[0] = s->word[2][0];
    return raft_add_learner(up(s, 1)->raft, up(s, 1)->now_ms, &m);
}

static int do_promote(struct story *s)
{
    return raft_promote(up(s, 1)->raft, up(s, 1)->now_ms, id(s, 2));
}

static int do_remove(struct story *s)
{
    return raft_remove(up(s, 1)->raft, up(s, 1)->now_ms, id(s, 2));
}

static int do_compact(struct story *s)
{
    struct world_server *v = up(s, 1);

    world_store_snapshot(v, number(s, 2));
    return 0;
}

/* ---- disks, network, crashes ---- */

static int do_hold(struct story *s)
{
    for (unsigned i = 1; i < s->n; i++)
        server(s, i)->holds_disk = true;
    return 0;
}

static int do_save(struct story *s)
{
    struct world_server *v = up(s, 1);

    if (!v->has_save)
        wrong(s, "'%s' has nothing to save", s->word[1]);
    world_save_finish(s->w, v);
    return 0;
}

static int do_release(struct story *s)
{
    for (unsigned i = 1; i < s->n; i++)
        server(s, i)->holds_disk = false;
    return 0;
}

static int do_net(struct story *s)
{
    s->w->holds_net = is(s, 1, "hold");
    while (is(s, 1, "drop") && s->w->packets != NULL)
        mem_free(world_unlink(s->w, &s->w->packets));
    return 0;
}

static int do_cut(struct story *s)
{
    uint64_t a = id(s, 1);

    if (s->n == 2) {
        for (uint64_t i = 1; i <= s->w->n; i++)
            s->w->cut[a][i] = s->w->cut[i][a] = true;
    } else if (is(s, 2, ">")) {
        s->w->cut[a][id(s, 3)] = true;
    } else {
        s->w->cut[a][id(s, 2)] = s->w->cut[id(s, 2)][a] = true;
    }
    return 0;
}

static int do_heal(struct story *s)
{
    memset(s->w->cut, 0, sizeof s->w->cut);
    return 0;
}

static int do_crash(struct story *s)
{
    struct world_server *v = up(s, 1);

    v->has_save = false;
    world_crash(s->w, v);
    return 0;
}

/* ---- expectations ---- */

static void expect_read(struct story *s)
{
    const struct world_read *read = &s->w->reads[number(s, 2) % WORLD_READS];

    if (is(s, 3, "waiting") || is(s, 3, "dropped")) {
        if (read->state != (is(s, 3, "waiting") ? 1u : 3u))
            wrong(s, "the read is in state %u", read->state);
    } else if (read->state != 2 || read->index != number(s, 3)) {
        wrong(s, "the read is in state %u, index %llu", read->state,
              (unsigned long long)read->index);
    }
}

static void expect_same(struct story *s)
{
    for (unsigned i = 3; i < s->n; i++)
        if (up(s, i)->sum != up(s, 2)->sum)
            wrong(s, "'%s' and '%s' differ", s->word[2], s->word[i]);
}

/* Compares words 3 .. with what there is, both as one text. */
static void compare(const struct story *s, struct buf *is_so)
{
    struct buf wanted = {0};

    for (unsigned i = 3; i < s->n; i++)
        buf_printf(&wanted, "%s%s", i > 3 ? " " : "", s->word[i]);
    if (strcmp(buf_text(&wanted), buf_text(is_so)) != 0)
        wrong(s, "expected '%s', found '%s'", buf_text(&wanted), buf_text(is_so));
    buf_free(&wanted);
}

static void tell_members(const struct raft *r, struct buf *out)
{
    const struct raft_members *m = raft_members(r);

    for (unsigned i = 0; i < m->n; i++)
        buf_printf(out, "%s%c%s", i > 0 ? " " : "", (char)('a' + (char)m->v[i].id - 1),
                   m->v[i].voter ? "" : "?");
}

static int do_expect(struct story *s)
{
    static const char *const roles[] = {"follower", "asking", "candidate", "leader"};
    struct buf found = {0};

    if (is(s, 1, "read")) {
        expect_read(s);
        return 0;
    }
    if (is(s, 1, "same")) {
        expect_same(s);
        return 0;
    }
    const struct raft *r = up(s, 1)->raft;
    if (is(s, 2, "role"))
        buf_add_str(&found, roles[raft_role(r)]);
    else if (is(s, 2, "term"))
        buf_printf(&found, "%llu", (unsigned long long)raft_term(r));
    else if (is(s, 2, "last"))
        buf_printf(&found, "%llu", (unsigned long long)raft_last_index(r));
    else if (is(s, 2, "first"))
        buf_printf(&found, "%llu", (unsigned long long)raft_first_index(r));
    else if (is(s, 2, "commit"))
        buf_printf(&found, "%llu", (unsigned long long)raft_committed(r));
    else if (is(s, 2, "applied"))
        buf_printf(&found, "%llu", (unsigned long long)raft_applied(r));
    else if (is(s, 2, "saved"))
        buf_printf(&found, "%llu", (unsigned long long)raft_saved_index(r));
    else if (is(s, 2, "leader") && raft_leader(r) == RAFT_NOBODY)
        buf_add_str(&found, "none");
    else if (is(s, 2, "leader"))
        buf_printf(&found, "%c", (char)('a' + (char)raft_leader(r) - 1));
    else if (is(s, 2, "members"))
        tell_members(r, &found);
    else if (is(s, 2, "log"))
        for (uint64_t i = raft_first_index(r); i <= raft_last_index(r); i++)
            buf_printf(&found, "%s%llu", i > raft_first_index(r) ? " " : "",
                       (unsigned long long)raft_entry_term(r, i));
    else
        wrong(s, "nothing is known about '%s'", s->n > 2 ? s->word[2] : "");
    compare(s, &found);
    buf_free(&found);
    return 0;
}

/* ---- the runner ---- */

static const struct {
    const char *name;
    unsigned words; /* at least, with the name */
    int (*run)(struct story *s);
} commands[] = {
    {"servers", 2, do_servers}, {"fresh", 2, do_fresh},
    {"log", 2, do_log},         {"state", 3, do_state},
    {"batch", 2, do_batch},     {"state-bytes", 2, do_state_bytes},
    {"start", 1, do_start},     {"tick", 2, do_tick},
    {"beat", 2, do_beat},       {"wait", 2, do_wait},
    {"elect", 2, do_elect},     {"propose", 3, do_propose},
    {"read", 3, do_read},       {"transfer", 3, do_transfer},
    {"add", 3, do_add},         {"promote", 3, do_promote},
    {"remove", 3, do_remove},   {"compact", 3, do_compact},
    {"hold", 2, do_hold},       {"save", 2, do_save},
    {"release", 2, do_release}, {"net", 2, do_net},
    {"cut", 2, do_cut},         {"heal", 1, do_heal},
    {"crash", 2, do_crash},     {"expect", 3, do_expect},
};

static int run_command(struct story *s)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!is(s, 0, commands[i].name))
            continue;
        if (s->n < commands[i].words || (s->w == NULL && i > 0))
            wrong(s, "'%s' is not complete", s->word[0]);
        return commands[i].run(s);
    }
    wrong(s, "'%s' is no command", s->word[0]);
    return 0;
}

static void run_line(struct story *s, char *text)
{
    char name[64] = "";
    size_t comment = strcspn(text, "#\n");

    text[comment] = 0;
    s->n = 0;
    for (char *word = strtok(text, " \t"); word != NULL; word = strtok(NULL, " \t")) {
        if (s->n == WORDS_MAX)
            wrong(s, "more than %d words", WORDS_MAX);
        s->word[s->n++] = word;
    }
    if (s->n == 0)
        return;
    if (is(s, 0, "refused") && s->n > 2) {
        (void)snprintf(name, sizeof name, "ERR_%s", s->word[1]);
        for (char *c = name; *c != 0; c++)
            *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        s->n -= 2;
        memmove(s->word, s->word + 2, s->n * sizeof *s->word);
    }
    int err = run_command(s);
    if (name[0] != 0 && (err == 0 || strcmp(err_name(err), name) != 0))
        wrong(s, "expected %s, found %s", name, err == 0 ? "success" : err_name(err));
    if (name[0] == 0 && err != 0)
        wrong(s, "%s", err_name(err));
    world_settle(s->w);
    if (s->w->failure[0] != 0)
        wrong(s, "%s", s->w->failure);
}

static void run_file(void **state)
{
    struct story s = {.file = *state};
    char line[512];
    FILE *f = fopen(s.file, "r");

    if (f == NULL)
        fail_msg("%s cannot be read", s.file);
    while (fgets(line, sizeof line, f) != NULL) {
        s.line++;
        run_line(&s, line);
    }
    (void)fclose(f);
    if (s.w == NULL)
        fail_msg("%s tells nothing", s.file);
    else
        world_free(s.w);
}

static int is_story(const struct dirent *d)
{
    size_t len = strlen(d->d_name);

    return len > 4 && strcmp(d->d_name + len - 4, ".txt") == 0;
}

/* One test a file, so that each is named. */
static unsigned find_stories(struct CMUnitTest *tests)
{
    struct dirent **names;
    int found = scandir(place, &names, is_story, alphasort);
    unsigned n = 0;

    if (found < 0) {
        tests[0] = (struct CMUnitTest){
            .name = place, .test_func = run_file, .initial_state = mem_dup_str(place)};
        return 1;
    }
    for (int i = 0; i < found; i++) {
        struct buf path = {0};
        buf_printf(&path, "%s/%s", place, names[i]->d_name);
        if (n < STORIES_MAX) {
            char *file = mem_dup_str(buf_text(&path));
            tests[n++] = (struct CMUnitTest){
                .name = strrchr(file, '/') + 1, .test_func = run_file, .initial_state = file};
        }
        buf_free(&path);
        free(names[i]);
    }
    free(names);
    return n;
}

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[STORIES_MAX];
    const char *root = getenv("MESON_SOURCE_ROOT");
    struct buf path = {0};

    if (root != NULL)
        buf_printf(&path, "%s/%s", root, place);
    if (argc > 1)
        place = argv[1];
    else if (root != NULL)
        place = buf_text(&path);
    unsigned n = find_stories(tests);
    int failed = n == 0 ? 1 : _cmocka_run_group_tests("stories", tests, n, NULL, NULL);
    for (unsigned i = 0; i < n; i++)
        mem_free(tests[i].initial_state);
    buf_free(&path);
    return failed;
}
