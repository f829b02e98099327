/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/confined.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "host/confine.h"
#include "host/files.h"

#define LOW_PORTS 1024 /* below it, a port needs CAP_NET_BIND_SERVICE */
#define STATUS_BYTES_MAX 65536

#define BIT(cap) (UINT64_C(1) << (cap))

static int refused(const char *dir, const struct confine_user *u, int err, struct buf *why)
{
    const char *likely = NULL;
    struct buf next = {0};

    if (err == ERR_UNSAFE) {
        likely = "muster ran as another user here before, or something was copied by root";
        buf_printf(&next, "chown -R %s %s", u->name, dir);
    } else if (err == ERR_PERMISSION) {
        buf_printf(&next, "start it as that user, or as root");
    } else {
        buf_printf(&next, "muster server --help, muster up --help: --user");
    }
    int code = cmd_fail(err == ERR_UNSAFE ? EXIT_UNSAFE : EXIT_FAILED, dir, buf_text(why),
                        likely, buf_text(&next));
    buf_free(&next);
    buf_free(why);
    return code;
}

int confined_to_owner(const struct machine_options *o, bool makes)
{
    struct confine_user u;
    struct buf why = {0};
    struct stat s;
    int err = 0;

    if (!makes && stat(o->dir, &s) != 0)
        return 0; /* the next step says what is wrong */
    err = confine_user(o->user, o->dir, &u, &why);
    if (err == 0)
        err = confine_directory(&u, o->dir, &why);
    if (err == 0)
        err = confine_become(&u, &why);
    return err == 0 ? 0 : refused(o->dir, &u, err, &why);
}

/* Programs that an agent starts get one of its capabilities: HAProxy opens port 80. */
static uint64_t kept_by(enum confined_part part, unsigned least_port)
{
    if (part == CONFINED_AGENT)
        return BIT(CAP_NET_ADMIN) | BIT(CAP_NET_RAW) | BIT(CAP_NET_BIND_SERVICE);
    return least_port < LOW_PORTS ? BIT(CAP_NET_BIND_SERVICE) : 0;
}

int confined(const struct machine_options *o, const char *dir, enum confined_part part,
             unsigned least_port)
{
    uint64_t passed = part == CONFINED_AGENT ? BIT(CAP_NET_BIND_SERVICE) : 0;
    struct confine_user u;
    struct buf why = {0};
    int err = confine_user(o->user, dir, &u, &why);

    umask(077); /* also for HAProxy, which has its own mind about the mode of its files */
    if (err == 0)
        err = confine_directory(&u, dir, &why);
    if (err == 0)
        err = confine_privileges(&u, kept_by(part, least_port), passed, &why);
    if (err != 0)
        return refused(dir, &u, err, &why);
    if (!o->no_seccomp && confine_calls(part == CONFINED_AGENT, &why) != 0) {
        err =
            cmd_fail(EXIT_FAILED,
                     "the calls of the kernel that are never made cannot be "
                     "forbidden",
                     buf_text(&why), "this kernel has no seccomp", "--no-seccomp does without");
        buf_free(&why);
    }
    return err;
}

/* From the kernel, not from what was asked of it. */
static void status_of(const char *status, const char *key, char *out, size_t size)
{
    const char *at = strstr(status, key);

    at = at != NULL ? at + strlen(key) : "";
    at += strspn(at, " \t");
    snprintf(out, size, "%.*s", (int)strcspn(at, "\t\n"), at);
}

void confined_log(void)
{
    char capabilities[24], seccomp[8];
    struct buf status = {0};

    if (file_read("/proc/self/status", STATUS_BYTES_MAX, &status) == 0) {
        status_of(buf_text(&status), "\nCapEff:", capabilities, sizeof capabilities);
        status_of(buf_text(&status), "\nSeccomp:", seccomp, sizeof seccomp);
        log_event(LOG_NOTICE, "confined", LOG_U("user", geteuid()),
                  LOG_S("capabilities", capabilities),
                  LOG_S("seccomp", strcmp(seccomp, "2") == 0 ? "on" : "off"));
    }
    if (geteuid() == 0)
        log_event(LOG_WARNING, "runs_as_root", LOG_S("why", "the data directory is root's"),
                  LOG_S("effect", "whoever takes this process over can write root's files"),
                  LOG_S("next", "stop it, give the directory to a user (chown -R), start it "
                                "again"));
    buf_free(&status);
}
