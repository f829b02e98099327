/* SPDX-License-Identifier: Apache-2.0 */
#include "server/newlife.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "host/files.h"
#include "server/member_repair.h"
#include "server/secret.h"

#define PREFIX "store.aside."
#define WHY_MAX 4096 /* bytes of the file why */

/* 0: it is none. */
static uint64_t number_of(const char *name)
{
    char *end;

    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
        return 0;
    const char *digits = name + strlen(PREFIX);
    uint64_t n = strtoull(digits, &end, 10);
    return *digits >= '1' && *digits <= '9' && *end == 0 ? n : 0;
}

/* How many there are, and the highest number. */
static unsigned count(const char *dir, uint64_t *highest)
{
    unsigned n = 0;
    DIR *d = opendir(dir);

    *highest = 0;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        uint64_t number = number_of(e->d_name);
        n += number > 0;
        *highest = number > *highest ? number : *highest;
    }
    if (d != NULL)
        closedir(d);
    return n;
}

/* A directory of files. What cannot be removed stays: it is only in the way. */
static void remove_store(const char *dir, const char *name)
{
    struct buf path = {0};
    struct dirent *e;

    buf_printf(&path, "%s/%s", dir, name);
    DIR *d = opendir(buf_text(&path));
    while (d != NULL && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
    (void)rmdir(buf_text(&path));
    buf_free(&path);
}

static void remove_older(const char *dir, uint64_t newest)
{
    char doomed[256] = "";
    DIR *d = opendir(dir);

    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        uint64_t number = number_of(e->d_name);
        if (number > 0 && number + NEW_LIFE_KEPT <= newest) {
            snprintf(doomed, sizeof doomed, "%s", e->d_name);
            remove_store(dir, doomed);
        }
    }
    if (d != NULL)
        closedir(d);
}

static int sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return file_error(errno);
    int err = fsync(fd) == 0 ? 0 : file_error(errno);
    close(fd);
    return err;
}

static int set_aside(const char *dir, const struct identity *self, const char *reason,
                     struct buf *aside)
{
    struct buf from = {0}, to = {0}, note = {0};
    uint64_t highest;

    (void)count(dir, &highest);
    identity_store_path(self, dir, &from);
    buf_add_str(&from, "/why");
    buf_printf(&note, "%s\n", reason);
    /* For people: when the disk is full, it is missed. */
    (void)file_write(buf_text(&from), note.data, note.len, 0600);
    buf_clear(&from);
    identity_store_path(self, dir, &from);
    buf_add_str(&from, "/reserve"); /* room that nobody would give up any more */
    (void)unlink(buf_text(&from));
    buf_clear(&from);
    identity_store_path(self, dir, &from);
    buf_printf(aside, PREFIX "%" PRIu64, highest + 1);
    buf_printf(&to, "%s/%s", dir, buf_text(aside));
    int err = rename(buf_text(&from), buf_text(&to)) == 0 ? 0 : file_error(errno);
    if (err == 0)
        err = sync_dir(dir);
    if (err == 0)
        remove_older(dir, highest + 1);
    buf_free(&from);
    buf_free(&to);
    buf_free(&note);
    return err;
}

int new_life_begin(const char *dir, struct identity *self, const char *reason,
                   struct buf *aside, struct buf *why)
{
    struct identity next = *self;
    uint64_t random;

    secret_random(&random, sizeof random);
    next.birth = repair_birth(self->birth, random);
    next.has_begun = false;
    next.new_lives++;
    int err = identity_save(&next, dir, why);
    if (err == 0 && reason != NULL && (err = set_aside(dir, &next, reason, aside)) != 0)
        buf_printf(why, "%s: the store cannot be set aside: %s", dir, err_text(err));
    if (err == 0)
        *self = next;
    return err;
}

void set_aside_find(const char *dir, struct set_aside *out)
{
    struct buf path = {0}, text = {0};
    uint64_t highest;

    *out = (struct set_aside){.kept = count(dir, &highest)};
    if (out->kept == 0)
        return;
    snprintf(out->name, sizeof out->name, PREFIX "%" PRIu64, highest);
    buf_printf(&path, "%s/%s/why", dir, out->name);
    if (file_read(buf_text(&path), WHY_MAX, &text) == 0)
        snprintf(out->why, sizeof out->why, "%.*s", (int)strcspn(buf_text(&text), "\n"),
                 buf_text(&text));
    buf_free(&path);
    buf_free(&text);
}
