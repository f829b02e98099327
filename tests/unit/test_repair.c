/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a server whose store cannot be believed: the rule, and the directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/err.h"
#include "host/files.h"
#include "server/member_repair.h"
#include "server/newlife.h"

enum { PATH_ROOM = 256 };

static struct raft_members voters(unsigned n)
{
    struct raft_members m = {.n = n};

    for (unsigned i = 0; i < n; i++)
        m.v[i] = (struct raft_member){.id = i + 1, .voter = true};
    return m;
}

static void the_rule(void **state)
{
    static const struct {
        int err;
        bool was_new, has_begun;
        unsigned voters;
        enum repair_verdict verdict;
    } rows[] = {
        {0, false, true, 3, REPAIR_NOT_NEEDED},
        {0, true, false, 3, REPAIR_NOT_NEEDED}, /* a new machine */
        {0, true, true, 3, REPAIR_NEW_LIFE},    /* its store is gone */
        {0, true, true, 1, REPAIR_IMPOSSIBLE},
        {ERR_CORRUPT, false, true, 3, REPAIR_NEW_LIFE},
        {ERR_CORRUPT, false, true, 2, REPAIR_NEW_LIFE},
        {ERR_CORRUPT, false, true, 1, REPAIR_IMPOSSIBLE},
        {ERR_CORRUPT, false, true, 0, REPAIR_IMPOSSIBLE}, /* nobody is known */
        {ERR_IO, false, true, 3, REPAIR_NOT_NEEDED},      /* the disk, not what is on it */
        {ERR_OTHER_VERSION, false, true, 3, REPAIR_NOT_NEEDED},
        {ERR_DISK_FULL, false, true, 3, REPAIR_NOT_NEEDED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct raft_members m = voters(rows[i].voters);
        const struct repair_question q = {.err = rows[i].err,
                                          .was_new = rows[i].was_new,
                                          .has_begun = rows[i].has_begun,
                                          .self = 1,
                                          .known = &m};
        assert_int_equal(repair_decide(&q), rows[i].verdict);
    }
}

static void a_person_is_told_whether_the_others_suffice(void **state)
{
    (void)state;
    for (unsigned n = 2; n <= 5; n++) {
        struct raft_members m = voters(n);
        const struct repair_question q = {.err = ERR_CORRUPT, .self = 1, .known = &m};
        struct buf text = {0};
        repair_say(&q, &text);
        assert_int_equal(strstr(buf_text(&text), "muster recover") != NULL, n == 2);
        buf_free(&text);
    }
    assert_int_not_equal(repair_birth(7, 7), 7);
    assert_int_not_equal(repair_birth(0, 0), 0);
    assert_true(repair_birth(1, UINT64_MAX) <= RAFT_NUMBER_MAX);
}

static void path_of(char out[PATH_ROOM], const char *dir, const char *name)
{
    CHECK(snprintf(out, PATH_ROOM, "%s/%s", dir, name) < PATH_ROOM);
}

static bool is_there(const char *dir, const char *name)
{
    char path[PATH_ROOM];
    struct stat st;

    path_of(path, dir, name);
    return stat(path, &st) == 0;
}

static void a_store_is_set_aside_and_the_last_two_are_kept(void **state)
{
    char dir[] = "/tmp/muster-test-XXXXXX", path[PATH_ROOM], command[200];
    struct identity self = {.id = 3, .name = "c", .address = "10.0.0.3", .has_begun = true};
    struct identity loaded;
    struct buf why = {0};

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(identity_create(&self, dir, &why), 0);
    for (unsigned n = 1; n <= 4; n++) {
        struct buf aside = {0};
        char name[32], reason[32];
        uint64_t before = self.birth;
        path_of(path, dir, "store");
        assert_int_equal(mkdir(path, 0700), 0);
        path_of(path, dir, "store/log.1");
        assert_int_equal(file_write(path, "x", 1, 0600), 0);
        snprintf(name, sizeof name, "store.aside.%u", n);
        snprintf(reason, sizeof reason, "damage %u", n);
        assert_int_equal(new_life_begin(dir, &self, reason, &aside, &why), 0);
        assert_string_equal(buf_text(&aside), name);
        assert_true(self.birth != before && !self.has_begun);
        assert_int_equal(identity_load(&loaded, dir, &why), 0);
        assert_true(loaded.birth == self.birth && !loaded.has_begun);
        assert_false(is_there(dir, "store"));
        char inside[64];
        snprintf(inside, sizeof inside, "%s/log.1", name);
        assert_true(is_there(dir, inside));
        struct set_aside found;
        set_aside_find(dir, &found);
        assert_string_equal(found.name, name);
        assert_string_equal(found.why, reason);
        assert_int_equal(found.kept, n < NEW_LIFE_KEPT ? n : NEW_LIFE_KEPT);
        buf_free(&aside);
    }
    assert_false(is_there(dir, "store.aside.2"));
    buf_free(&why);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* Each bit of the file that says who this machine is. */
static void a_damaged_identity_is_no_identity(void **state)
{
    char dir[] = "/tmp/muster-test-XXXXXX", path[PATH_ROOM], command[200];
    struct identity self = {.id = 3, .name = "c", .address = "10.0.0.3", .birth = 12345};
    struct buf why = {0}, text = {0};

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(identity_create(&self, dir, &why), 0);
    path_of(path, dir, "machine");
    assert_int_equal(file_read(path, 4096, &text), 0);
    const char *crc = strstr(buf_text(&text), "\ncrc=");
    assert_non_null(crc);
    size_t protected_len = (size_t)(crc - (const char *)text.data);
    for (size_t bit = 0; bit < 8 * protected_len; bit++) {
        struct identity loaded;
        text.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(file_replace(path, text.data, text.len, 0600), 0);
        assert_int_not_equal(identity_load(&loaded, dir, &why), 0);
        text.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_free(&why);
    buf_free(&text);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rule),
        cmocka_unit_test(a_person_is_told_whether_the_others_suffice),
        cmocka_unit_test(a_store_is_set_aside_and_the_last_two_are_kept),
        cmocka_unit_test(a_damaged_identity_is_no_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
